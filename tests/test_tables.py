"""Raw tables: what is read of them, what students make of them."""

import datetime
import pickle
from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils import get_tags
from torch import nn

from skdistill import DistillationClassifier, DistillationClassifierCV
from skdistill.students import (
    EstimatorStudent,
    LinearStudent,
    MLPStudent,
    ModuleStudent,
)
from skdistill.students import _tables as tables
from skdistill.students._columns import check_table, levels_of
from skdistill.students._problem import Problem, objective_terms
from skdistill.students._tables import (
    TableEncoder,
    robust_scale,
    smooth_clip,
    weighted_quantiles,
)
from skdistill.teachers import TableTeacher

MLP = MLPStudent((8,), max_iter=15, random_state=0)
FULL_BATCH = MLPStudent(
    (6,),
    batch_size=None,
    max_iter=30,
    early_stopping=False,
    dtype="float64",
    random_state=0,
)
STUDENTS = [LinearStudent(), MLP]


def names(student):
    return type(student).__name__


def people(n_samples=240, seed=0):
    """A frame of all kinds of columns, and labels that depend on several of them."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n_samples)
    city = rng.choice(["Aachen", "Bergen", "Cork", "Dole"], n_samples)
    income = np.exp(rng.normal(10, 1, n_samples))
    score = 0.05 * (age - 50) + 1.5 * (city == "Cork") + np.log(income) - 10
    y = np.where(score + rng.logistic(size=n_samples) > 0, "yes", "no")
    frame = pd.DataFrame(
        {
            "age": pd.array(age, dtype="Int64"),
            "income": income,
            "member": rng.random(n_samples) > 0.5,
            "city": pd.Categorical(
                city, categories=["Cork", "Dole", "Aachen", "Bergen"]
            ),
            "job": pd.array(rng.choice(["cook", "vet"], n_samples), dtype="str"),
            "note": [["a", 1, 2.0][i] for i in rng.integers(0, 3, n_samples)],
            "size": np.array(rng.choice([1, 2.5], n_samples), dtype=object),
            "fixed": 7.0,
        }
    )
    frame.loc[::7, "income"] = np.nan
    frame.loc[::11, "age"] = pd.NA
    frame.loc[::5, "city"] = np.nan
    frame.loc[::6, "note"] = None
    frame.loc[::9, "size"] = None
    return frame, y


def encode(X, weight=None, scaled=True):
    weight = np.ones(len(X)) if weight is None else weight
    X = check_table(clone(MLP), X, reset=True)
    return TableEncoder(scaled=scaled).fit(X, weight), X


# -- what is read ------------------------------------------------------------------


def test_kinds_of_columns():
    frame, _ = people()
    encoder, table = encode(frame)
    assert table is frame
    assert [frame.columns[i] for i in encoder.numeric_] == [
        "age",
        "income",
        "member",
        "size",
        "fixed",
    ]
    assert [frame.columns[i] for i in encoder.categorical_] == ["city", "job", "note"]
    assert [frame.columns[encoder.numeric_[k]] for k in encoder.missing_] == [
        "age",
        "income",
        "size",
    ]
    # 1 and 2.0 are numbers among texts: levels, written as whole numbers.
    assert encoder.levels_ == [
        ["Aachen", "Bergen", "Cork", "Dole"],
        ["cook", "vet"],
        ["1", "2", "a"],
    ]
    assert encoder.missing_level_ == [True, False, True]
    assert encoder.buckets_ == [0, 0, 0]
    assert encoder.n_out_ == 5 + 3 + (4 + 1) + 2 + (3 + 1)
    assert encoder.scale_[-1] == np.inf


def test_the_numbers_of_a_table_by_hand():
    frame = pd.DataFrame({"x": [1.0, 3.0, np.nan, 5.0], "c": ["b", None, "a", "b"]})
    encoder, table = encode(frame, scaled=False)
    expected = [
        # x, missing, a, b, missing level
        [1, 0, 0, 1, 0],
        [3, 0, 0, 0, 1],
        [3, 1, 1, 0, 0],
        [5, 0, 0, 1, 0],
    ]
    assert_array_equal(encoder.transform(table), expected)
    assert_array_equal(encoder.transform_sparse(table).toarray(), expected)
    new = pd.DataFrame({"x": [np.nan], "c": ["unknown"]})
    assert_array_equal(encoder.transform(new), [[3, 1, 0, 0, 0]])


def test_the_columns_of_the_result_have_names(monkeypatch):
    monkeypatch.setattr(tables, "MAX_LEVELS", 2)
    monkeypatch.setattr(tables, "N_BUCKETS", 2)
    frame = pd.DataFrame(
        {"c": ["b", None, "a"], "x": [1.0, 3.0, np.nan], "d": [*"rst"]}
    )
    encoder, table = encode(frame)
    names = encoder.get_feature_names_out(frame.columns)
    assert names.tolist() == [
        "x",
        "x_missing",
        "c_a",
        "c_b",
        "c_missing",
        "d_r",
        "d_s",
        "d_bucket0",
        "d_bucket1",
    ]
    assert encoder.transform(table).shape == (3, len(names))
    assert encoder.get_feature_names_out()[0] == "x1"


def test_a_missing_number_is_the_centre_also_where_none_was_missing():
    frame = pd.DataFrame({"x": [1.0, 3.0, 5.0], "c": ["a", "b", None]})
    gap = pd.DataFrame({"x": [np.nan], "c": [None]})
    for scaled, centre in ((True, 0.0), (False, 3.0)):
        encoder, _ = encode(frame, scaled=scaled)
        assert_allclose(encoder.transform(gap), [[centre, 0, 0, 1]], atol=1e-12)
    X = np.array([[1.0], [2.0], [6.0]])
    student = LinearStudent().fit(X, [0, 1, 1])
    assert_allclose(student.predict_proba([[np.nan]]), student.predict_proba([[3.0]]))


@pytest.mark.parametrize("student", STUDENTS, ids=names)
@pytest.mark.parametrize("beside", [0.0, "a"])
def test_a_column_without_a_number_counts_for_nothing(student, beside):
    """As a constant one; whatever is met there later."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=100), "c": beside, "void": np.nan})
    fitted = clone(student).fit(frame, frame["x"] > 0)
    assert fitted.encoder_.n_out_ == 3
    expected = fitted.predict_proba(frame)
    for value in (0.0, 1.0, -100.0, 1e300):
        found = fitted.predict_proba(frame.assign(void=value))
        assert_array_equal(found, expected)
    constant = clone(student).fit(frame.assign(void=0.0), frame["x"] > 0)
    assert_allclose(constant.predict_proba(frame), expected, atol=1e-3)


def as_objects(frame):
    return frame.astype(object).to_numpy()


def as_lists(frame):
    return as_objects(frame).tolist()


def as_texts(frame):
    text = {name: frame[name].astype("str") for name in ("city", "job")}
    return frame.assign(**text)


@pytest.mark.parametrize("kind", [as_objects, as_lists, as_texts])
def test_the_same_rows_in_another_container_are_the_same_numbers(kind):
    frame, _ = people(60)
    encoder, table = encode(frame)
    other, converted = encode(kind(frame))
    assert other.levels_ == encoder.levels_
    assert_allclose(other.transform(converted), encoder.transform(table))


def test_a_polars_frame_is_the_same_numbers():
    polars = pytest.importorskip("polars")
    frame, y = people(120)
    frame = frame.drop(columns=["note", "size"])
    other = polars.DataFrame(
        {
            name: [None if pd.isna(v) else v for v in frame[name].tolist()]
            for name in frame
        }
    ).with_columns(polars.col("city").cast(polars.Categorical))
    encoder, table = encode(frame)
    also, converted = encode(other)
    assert_allclose(also.transform(converted), encoder.transform(table))
    for student in STUDENTS:
        first, second = clone(student).fit(frame, y), clone(student).fit(other, y)
        assert_allclose(
            first.predict_proba(frame), second.predict_proba(other), atol=1e-9
        )
        assert list(second.feature_names_in_) == list(frame.columns)


def test_whole_numbers_are_one_level_whatever_their_type():
    first = pd.DataFrame({"c": pd.Categorical([1, 2, 1])})
    encoder, _ = encode(first)
    assert encoder.levels_ == [["1", "2"]]
    floats = pd.DataFrame({"c": pd.Categorical([2.0, np.nan, 1.0])})
    assert_array_equal(encoder.transform(floats), [[0, 1], [0, 0], [1, 0]])


def objects(values):
    return pd.Series(list(values), dtype=object)


LEVELS = {
    "integers": [1, 2, 0],
    "floats": [1.0, 2.5, 0.0],
    "texts": ["1", "2", "0"],
    "booleans": [True, False, True],
}


def as_a_frame(values, kind):
    return pd.DataFrame({"c": pd.array(values, dtype=kind)})


NUMBERS = {
    "float64": lambda values: as_a_frame(np.array(values, dtype=float), "float64"),
    "Float64": lambda values: as_a_frame(np.array(values, dtype=float), "Float64"),
    "object": lambda values: as_a_frame(np.array(values, dtype=float), object),
    "array": lambda values: np.array(values, dtype=float)[:, None],
    "float32": lambda values: np.array(values, dtype=np.float32)[:, None],
    "list": lambda values: [[float(value)] for value in values],
    "as they are": lambda values: pd.DataFrame({"c": values}),
}


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("kind", LEVELS)
def test_levels_may_be_given_as_numbers(kind, numbers):
    """A table of numbers is read as levels where levels were learnt."""
    levels = LEVELS[kind]
    encoder, table = encode(pd.DataFrame({"c": pd.Categorical(levels)}))
    expected = encoder.transform(table)
    assert_array_equal(expected.sum(axis=1), 1)
    given = NUMBERS[numbers](levels)
    given = check_table(clone(MLP), given, reset=True)
    assert_array_equal(encoder.transform(given), expected)
    assert_array_equal(encoder.transform_sparse(given).toarray(), expected)


def test_booleans_and_their_numbers_are_one_level():
    numbers = pd.DataFrame({"c": pd.Categorical([0, 1, 2])})
    encoder, _ = encode(numbers)
    booleans = pd.DataFrame({"c": [False, True]})
    assert_array_equal(encoder.transform(booleans), [[1, 0, 0], [0, 1, 0]])
    # Each is a level of its own where both occur.
    both = pd.DataFrame({"c": ["True", "1", "a"]})
    encoder, table = encode(both)
    assert_array_equal(encoder.transform(table).sum(axis=0), 1)


@pytest.mark.parametrize("student", STUDENTS, ids=names)
@pytest.mark.parametrize("first", [0, 2**60])
def test_a_student_of_levels_takes_their_numbers(student, first):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(first + rng.integers(0, 4, (200, 2)), columns=["c", "d"])
    y = frame["c"] > first + 1
    fitted = clone(student).fit(frame.astype("category"), y)
    expected = fitted.predict_proba(frame.astype("category"))
    others = [frame, frame.astype(object), frame.astype("Int64")]
    if first == 0:
        others.append(frame.astype(float))
    for other in others:
        assert_array_equal(fitted.predict_proba(other), expected)
    assert_array_equal(fitted.predict(frame), y)
    for rows in (frame.to_numpy(), frame.to_numpy().tolist()):
        with pytest.warns(UserWarning, match="valid feature names"):
            assert_array_equal(fitted.predict_proba(rows), expected)


TEACHERS = [
    TableTeacher(HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=1)),
    TableTeacher(LogisticRegression()),
]


def fitted_to_neighbouring_ids(model):
    """Two levels whose numbers are one in float64; and what is predicted of them."""
    ids = 2**53 + np.arange(60) % 2
    frame = pd.DataFrame({"id": pd.Categorical(ids), "a": np.arange(60) // 6 / 10})
    fitted = clone(model).fit(frame, ids % 2)
    assert fitted.score(frame, ids % 2) == 1
    return fitted, frame.astype({"id": "int64"}), fitted.predict_proba(frame)


@pytest.mark.parametrize("model", STUDENTS + TEACHERS, ids=str)
def test_ids_are_not_rounded_on_their_way_to_a_level(model):
    fitted, frame, expected = fitted_to_neighbouring_ids(model)
    for other in (frame, frame.astype({"id": object}), frame.astype({"id": "Int64"})):
        assert_array_equal(fitted.predict_proba(other), expected)
    rows = [[int(code), float(a)] for code, a in frame.itertuples(index=False)]
    for other in (rows, np.array(rows, dtype=object)):
        with pytest.warns(UserWarning, match="valid feature names"):
            assert_array_equal(fitted.predict_proba(other), expected)


@pytest.mark.parametrize("model", STUDENTS + TEACHERS, ids=str)
def test_a_float_that_stands_for_several_ids_is_none_of_them(model):
    """It is a level that was not met, which is better than a wrong one."""
    fitted, frame, _ = fitted_to_neighbouring_ids(model)
    rounded = fitted.predict_proba(frame.astype({"id": float}))
    unknown = fitted.predict_proba(frame.assign(id=7))
    assert_array_equal(rounded, unknown)


def test_floats_know_integers_of_their_precision_only():
    whole = np.array([2**24 - 1, 2**24], dtype=np.float32)
    assert levels_of(whole).texts == ["16777215", "16777216.0"]
    assert levels_of(whole.astype(np.float64)).texts == ["16777215", "16777216"]
    assert levels_of(pd.Categorical(whole)).texts == ["16777215", "16777216.0", None]
    huge = np.array([2.0**53 - 1, 2.0**53, -(2.0**53), np.nan])
    assert levels_of(huge).texts == [
        "9007199254740991",
        "9007199254740992.0",
        "-9007199254740992.0",
        None,
    ]


@pytest.mark.parametrize("model", STUDENTS + TEACHERS, ids=str)
def test_booleans_that_were_levels_may_come_as_booleans_or_numbers(model):
    flags = np.arange(60) % 2 == 1
    frame = pd.DataFrame({"c": pd.Categorical(flags), "a": np.arange(60) // 6 / 10})
    fitted = clone(model).fit(frame, flags)
    expected = fitted.predict_proba(frame)
    assert fitted.score(frame, flags) == 1
    for column in (flags, pd.array(flags), flags.astype(object), flags.astype(int)):
        assert_array_equal(fitted.predict_proba(frame.assign(c=column)), expected)
    alone = clone(model).fit(frame[["c"]].to_numpy(dtype=str), flags)
    expected = alone.predict_proba(frame[["c"]].to_numpy(dtype=str))
    for rows in (flags[:, None], [[flag] for flag in flags.tolist()]):
        assert_array_equal(alone.predict_proba(rows), expected)


@pytest.mark.parametrize("student", STUDENTS, ids=names)
def test_a_row_of_numbers_and_a_missing_level(student):
    """Such a row has no text that would tell that it is of a raw table."""
    frame = pd.DataFrame({"c": ["x", "y", None, "x"] * 20, "a": np.arange(80.0)})
    y = [0, 1, 0, 1] * 20
    fitted = clone(student).fit(frame, y)
    expected = fitted.predict_proba(frame[2:3])
    assert_array_equal(
        fitted.predict_proba(pd.DataFrame([{"c": np.nan, "a": 2.0}])), expected
    )
    with pytest.warns(UserWarning, match="valid feature names"):
        assert_array_equal(fitted.predict_proba([[float("nan"), 2.0]]), expected)
    distilled = DistillationClassifier(student=student, mixing_weight=0.0).fit(frame, y)
    assert_array_equal(
        distilled.predict_proba(pd.DataFrame([{"c": np.nan, "a": 2.0}])),
        distilled.predict_proba(frame[2:3]),
    )


def test_a_sparse_matrix_after_a_raw_table():
    frame = pd.DataFrame({"c": pd.Categorical([0, 1, 2, 0]), "a": [0.0, 1.0, 0, 3]})
    frame.loc[1, "a"] = np.nan
    fitted = LinearStudent().fit(frame, [0, 1, 1, 0])
    rows = np.array([[0, 2.0], [2, 0]])
    with pytest.warns(UserWarning, match="valid feature names"):
        found = fitted.predict_proba(sp.csr_matrix(rows))
    with pytest.warns(UserWarning, match="valid feature names"):
        assert_array_equal(found, fitted.predict_proba(rows))


def test_categories_that_do_not_occur_have_no_column():
    column = pd.Categorical(["a", "b"], categories=["z", "b", "a"])
    encoder, _ = encode(pd.DataFrame({"c": column}))
    assert encoder.levels_ == [["a", "b"]]


def test_a_few_rows_read_as_many():
    frame, _ = people()
    encoder, _ = encode(frame)
    together = encoder.transform(frame)
    for i in range(20):
        assert_array_equal(encoder.transform(frame.iloc[[i]])[0], together[i])


def test_rows_are_read_in_chunks(monkeypatch):
    frame, _ = people()
    encoder, _ = encode(frame)
    whole = encoder.transform(frame)
    plain = frame[["income", "fixed"]].to_numpy()
    other, _ = encode(plain)
    expected = other.transform(plain)
    monkeypatch.setattr(tables, "CHUNK_NUMBERS", 14)
    assert_array_equal(encoder.transform(frame), whole)
    assert_array_equal(other.transform(plain), expected)


def test_an_identifier_stays_small():
    rng = np.random.default_rng(0)
    ids = np.array([f"id{i}" for i in range(3000)])
    column = np.concatenate([ids, rng.choice(ids[:10], 500)])
    frame = pd.DataFrame({"id": column})
    encoder, _ = encode(frame)
    assert encoder.n_out_ == tables.MAX_LEVELS + tables.N_BUCKETS
    assert set(ids[:10]) <= set(encoder.levels_[0])
    numbers = encoder.transform(frame)
    assert_array_equal(numbers.sum(axis=1), 1)
    # Levels met later are like rare ones, and always in the same bucket.
    new = pd.DataFrame({"id": ["new", "newer", "new"]})
    found = encoder.transform(new)
    assert_array_equal(found[:, tables.MAX_LEVELS :].sum(axis=1), 1)
    assert_array_equal(found[0], found[2])
    assert len(pickle.dumps(encoder)) < 3000


# -- weights -----------------------------------------------------------------------


def assert_same_encoders(first, second):
    assert first.levels_ == second.levels_
    assert first.missing_level_ == second.missing_level_
    assert_array_equal(first.missing_, second.missing_)
    assert_allclose(first.centre_, second.centre_, rtol=1e-12)
    assert_allclose(first.scale_, second.scale_, rtol=1e-12)


@pytest.mark.parametrize("scaled", [True, False])
def test_a_weight_is_a_number_of_rows(scaled, monkeypatch):
    monkeypatch.setattr(tables, "MAX_LEVELS", 2)
    frame, _ = people(80)
    counts = np.random.default_rng(0).integers(1, 5, len(frame))
    weighted, _ = encode(frame, counts.astype(float), scaled)
    repeated, _ = encode(frame.iloc[np.repeat(np.arange(80), counts)], None, scaled)
    plain, _ = encode(frame, None, scaled)
    assert_same_encoders(weighted, repeated)
    assert not np.allclose(weighted.centre_, plain.centre_, rtol=1e-3)


@pytest.mark.parametrize("student", [LinearStudent(tol=1e-8), FULL_BATCH], ids=names)
def test_weights_of_students_are_numbers_of_rows(student):
    frame, y = people(80)
    counts = np.random.default_rng(0).integers(0, 4, len(frame))
    rows = np.repeat(np.arange(80), counts)
    weighted = clone(student).fit(frame, y, sample_weight=counts)
    repeated = clone(student).fit(frame.iloc[rows], y[rows])
    assert_allclose(
        weighted.predict_proba(frame), repeated.predict_proba(frame), atol=1e-6
    )


@pytest.mark.parametrize("student", STUDENTS, ids=names)
def test_rows_of_weight_zero_leave_no_trace(student):
    frame, y = people(80)
    present = np.arange(80) % 2 == 0
    spoilt = frame.copy()
    spoilt["city"] = spoilt["city"].astype(object)
    spoilt.loc[~present, ["city", "income"]] = ["elsewhere", 1e12]
    weighted = clone(student).fit(spoilt, y, sample_weight=present.astype(float))
    absent = clone(student).fit(spoilt[present], y[present])
    assert weighted.encoder_.levels_ == absent.encoder_.levels_
    assert_array_equal(weighted.predict_proba(frame), absent.predict_proba(frame))


# -- formulas ----------------------------------------------------------------------


def reference_scale(values, tail):
    """Slow and without weights: the middle of the sorted values, clipped."""
    ordered = sorted(values)
    n = len(ordered)

    def quantile(q):
        at = q * n
        upper = ordered[min(int(np.floor(at)), n - 1)]
        if abs(at - round(at)) < 1e-9:
            lower = ordered[max(round(at) - 1, 0)]
            return (lower + ordered[min(round(at), n - 1)]) / 2
        return upper

    low, high = quantile(tail), quantile(1 - tail)
    if low < high:
        values = [min(max(v, low), high) for v in values]
    mean = sum(values) / n
    return mean, (sum((v - mean) ** 2 for v in values) / n) ** 0.5


@given(
    st.lists(st.integers(-50, 50), min_size=2, max_size=60).filter(
        lambda v: len(set(v)) > 1
    )
)
@settings(max_examples=60, deadline=None)
def test_the_scale_is_that_of_the_reference(values):
    array = np.array(values, dtype=float)
    assert_allclose(robust_scale(array, None), reference_scale(values, 0.05), rtol=1e-9)
    weight = np.full(len(values), 2.0)
    assert_allclose(robust_scale(array, weight), robust_scale(array, None), rtol=1e-9)


def test_outliers_have_no_say_in_the_scale():
    values = np.random.default_rng(0).normal(3, 2, 2000)
    centre, scale = robust_scale(values, None)
    spoilt = values.copy()
    spoilt[:60] = 1e9
    assert abs(centre - 3) < 0.2
    assert 1.5 < scale < 2
    assert_allclose(robust_scale(spoilt, None), (centre, scale), rtol=0.1)


def test_a_rare_value_has_a_scale_and_a_constant_has_none():
    values = np.zeros(1000)
    assert robust_scale(values, None) == (0.0, np.inf)
    values[:10] = 5.0
    assert_allclose(robust_scale(values, None), (values.mean(), values.std()))


@given(st.integers(-1000, 900), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_scale_of_columns_of_any_size(exponent, weighted):
    """In units of a power of two the same digits, however large or small."""
    rng = np.random.default_rng(0)
    values = rng.normal(2.0, 1.0, 60)
    values[:2] = 2.0**100
    weight = rng.integers(1, 4, 60).astype(float) if weighted else None
    found = robust_scale(np.ldexp(values, exponent), weight)
    assert_array_equal(found, np.ldexp(robust_scale(values, weight), exponent))


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e160, 1e300])
def test_columns_of_any_size_are_learnt(size):
    x = np.random.default_rng(0).integers(-3, 4, 200)
    frame = pd.DataFrame({"x": x, "c": "a"})
    other = frame.assign(x=x * size)
    first, second = (clone(MLP).fit(table, x > 0) for table in (frame, other))
    assert_allclose(first.predict_proba(frame), second.predict_proba(other), atol=1e-3)
    if size > 1:  # small ones are penalised away
        assert LinearStudent().fit(other, x > 0).score(other, x > 0) == 1.0


def test_quantiles_are_those_of_numpy():
    values = np.random.default_rng(0).normal(size=37)
    found = weighted_quantiles(values, np.ones(37), (0.05, 0.5, 0.9))
    expected = np.quantile(values, (0.05, 0.5, 0.9), method="averaged_inverted_cdf")
    assert_allclose(found, expected)


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]),
    st.sampled_from([1, 4, 512]),
)
@settings(max_examples=60, deadline=None)
def test_quantiles_do_not_depend_on_where_they_are_looked_for(values, level, n_guessed):
    array = np.array(values, dtype=np.float32)
    with mock.patch.object(tables, "N_GUESSED_FROM", n_guessed):
        (found,) = weighted_quantiles(array, None, (level,))
    assert found == np.quantile(values, level, method="averaged_inverted_cdf")


def test_quantiles_are_exact_in_long_columns():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=4999).astype(np.float32)
    spikes = np.zeros(5000)
    spikes[::10] = 1.0  # those the place is guessed from
    for values in (normal, np.sort(normal), spikes, np.tile(normal, 20)):
        found = weighted_quantiles(values, None, (0.05, 0.95))
        wide = values.astype(np.float64)
        expected = np.quantile(wide, (0.05, 0.95), method="averaged_inverted_cdf")
        assert_array_equal(found, expected)


def test_the_smooth_clip():
    z = np.array([-1e300, -5.0, -0.01, 0.0, 0.01, 5.0, 1e300])
    expected = [-5, -5 / 2**0.5, -0.01, 0, 0.01, 5 / 2**0.5, 5]
    assert_allclose(smooth_clip(z.copy()), expected, rtol=1e-5)
    grid = np.linspace(-100, 100, 999)
    clipped = smooth_clip(grid.copy())
    assert (np.diff(clipped) > 0).all()
    assert_allclose(clipped, grid / np.sqrt(1 + (grid / 5) ** 2))


def test_heavy_tails_do_not_spoil_a_network():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    y = (X[:, 0] > 0).astype(int)
    X[::20, 0] = np.where(X[::20, 0] > 0, 1e15, -1e15)
    student = MLPStudent((8,), max_iter=30, random_state=0).fit(X, y)
    assert student.score(X, y) > 0.95


# -- what is refused -----------------------------------------------------------------


@pytest.mark.parametrize("student", STUDENTS, ids=names)
def test_frames_that_are_not_as_in_fit(student):
    frame, y = people(80)
    fitted = clone(student).fit(frame, y)
    with pytest.raises(ValueError, match="must be in the same order"):
        fitted.predict(frame[frame.columns[::-1]])
    with pytest.raises(ValueError, match="missing:\n- city"):
        fitted.predict(frame.drop(columns="city"))
    with pytest.raises(ValueError, match="unseen at fit time:\n- more"):
        fitted.predict(frame.assign(more=1))
    with (
        pytest.warns(UserWarning, match="valid feature names"),
        pytest.raises(ValueError, match="X has 3 features"),
    ):
        fitted.predict(as_objects(frame)[:, :3])
    with pytest.warns(UserWarning, match="valid feature names"):
        assert_array_equal(
            fitted.predict_proba(as_objects(frame)), fitted.predict_proba(frame)
        )


@pytest.mark.parametrize("student", STUDENTS, ids=names)
@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.date_range("2020", periods=6), "'c' of X holds dates"),
        (pd.date_range("2020", periods=6, tz="UTC"), "'c' of X holds dates"),
        (pd.timedelta_range("1h", periods=6), "'c' of X holds dates"),
        (pd.period_range("2020", periods=6, freq="M"), "'c' of X holds dates"),
        (objects(pd.date_range("2020", periods=6).date), "'c' of X holds dates"),
        (objects([datetime.timedelta(i) for i in range(6)]), "'c' of X holds dates"),
        (objects([None, *map(np.datetime64, range(5), "D" * 5)]), "holds dates"),
        ([1.0, np.inf, 2, 3, 4, 5], "infinity"),
        (objects([10**400, 1, 2, 3, 4, 5]), "'c' of X, which holds numbers"),
        (np.arange(6) + 1j, "'c' of X, which holds numbers: Complex data not supp"),
        (np.array([*(np.arange(5) + 1j), None]), "Complex data not supported"),
    ],
)
def test_columns_that_are_no_numbers_and_no_levels(student, column, message):
    frame = pd.DataFrame({"c": column, "d": list("ababab")})
    with pytest.raises(ValueError, match=message):
        clone(student).fit(frame, [0, 1] * 3)


@pytest.mark.parametrize("student", STUDENTS, ids=names)
@pytest.mark.parametrize("name", ["age", "city"])
def test_dates_are_refused_in_prediction_as_in_training(student, name):
    frame, y = people(80)
    fitted = clone(student).fit(frame, y)
    frame[name] = pd.date_range("2020", periods=80)
    with pytest.raises(ValueError, match=f"Column '{name}' of X holds dates"):
        fitted.predict(frame)


def test_a_missing_date_among_texts_is_a_missing_level():
    frame = pd.DataFrame({"c": objects(["a", pd.NaT, "b", "a"])})
    encoder, table = encode(frame)
    assert encoder.levels_ == [["a", "b"]]
    expected, missing = encode(pd.DataFrame({"c": objects(["a", None, "b", "a"])}))
    assert_array_equal(encoder.transform(table), expected.transform(missing))


def test_decimals_of_arrow_are_numbers():
    arrow = pytest.importorskip("pyarrow")
    values = arrow.array([1, None, 3, 7], type=arrow.decimal128(5, 2))
    decimals = pd.DataFrame({"c": pd.arrays.ArrowExtensionArray(values)})
    encoder, table = encode(decimals)
    expected, floats = encode(pd.DataFrame({"c": [1.0, np.nan, 3, 7]}))
    assert_array_equal(encoder.transform(table), expected.transform(floats))


@pytest.mark.parametrize("student", STUDENTS, ids=names)
def test_texts_in_a_column_of_numbers_are_scikit_learn_s_error(student):
    frame = pd.DataFrame({"x": [1.0, 2, 3, 4], "c": list("abab")})
    fitted = clone(student).fit(frame, [0, 1, 0, 1])
    frame["x"] = ["1", "two", "3", "4"]
    with pytest.raises(ValueError, match="could not convert string to float"):
        fitted.predict(frame)


@pytest.mark.parametrize("student", STUDENTS, ids=names)
def test_empty_frames(student):
    frame, y = people(80)
    with pytest.raises(ValueError, match="0 sample"):
        clone(student).fit(frame.iloc[:0], y[:0])
    with pytest.raises(ValueError, match="0 sample"):
        clone(student).fit(frame, y).predict(frame.iloc[:0])


def test_tags_tell_what_is_taken():
    for student, sparse in zip(STUDENTS, (True, False), strict=True):
        tags = get_tags(student).input_tags
        assert (tags.allow_nan, tags.categorical, tags.string) == (True, True, True)
        assert tags.sparse == sparse
    forgiving = DistillationClassifier(
        HistGradientBoostingClassifier(), MLP, mixing_weight=0.5
    )
    assert get_tags(forgiving).input_tags.allow_nan
    assert not get_tags(
        DistillationClassifier(LogisticRegression(), MLP, mixing_weight=0.5)
    ).input_tags.allow_nan


def test_what_the_teacher_cannot_label_is_not_for_the_student_either():
    X = np.random.default_rng(0).normal(size=(60, 2))
    distilled = DistillationClassifier(
        LogisticRegression(), LinearStudent(), mixing_weight=0.5
    )
    distilled.fit(X, X[:, 0] > 0)
    with pytest.raises(ValueError, match="takes no missing values"):
        distilled.predict([[np.nan, 0.0]])


# -- students ------------------------------------------------------------------------


@pytest.mark.parametrize("student", STUDENTS, ids=names)
def test_a_raw_table_is_learned(student):
    frame, y = people(600)
    fitted = clone(student).fit(frame[:400], y[:400])
    majority = max(np.mean(y[400:] == "yes"), np.mean(y[400:] == "no"))
    assert fitted.score(frame[400:], y[400:]) > majority + 0.1
    assert fitted.n_features_in_ == 8
    assert list(fitted.feature_names_in_) == list(frame.columns)


def test_an_array_of_numbers_is_not_copied_to_objects():
    X = np.random.default_rng(0).normal(size=(50, 3))
    assert check_table(clone(MLP), X, reset=True) is X
    frame = pd.DataFrame(X, columns=list("abc"))
    assert check_table(clone(MLP), frame, reset=True).dtype == np.float64
    student = LinearStudent().fit(X, X[:, 0] > 0)
    assert student.encoder_.keeps(X)
    assert student._encoded(X) is X


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_linear_student_is_logistic_regression_on_the_encoded_table(fit_intercept):
    """Numbers as they are, whatever their size: the solver's units do not show."""
    frame, y = people(300)
    frame = frame[["age", "income", "city", "job"]]
    frame = frame.assign(
        age=frame["age"].fillna(40).astype(float), income=frame["income"].fillna(1e4)
    )
    frame["income"] = frame["income"] / 1e4
    frame["city"] = frame["city"].astype(object).fillna("none")
    ours = LinearStudent(tol=1e-9, fit_intercept=fit_intercept).fit(frame, y)
    encoder = make_column_transformer(
        (OneHotEncoder(), ["city", "job"]), remainder="passthrough"
    )
    theirs = make_pipeline(
        encoder,
        LogisticRegression(tol=1e-9, max_iter=5000, fit_intercept=fit_intercept),
    ).fit(frame, y)
    assert_allclose(ours.predict_proba(frame), theirs.predict_proba(frame), atol=1e-5)
    assert ours.n_iter_ < theirs[-1].n_iter_[0]


def test_large_numbers_beside_levels_converge():
    frame, y = people(400)
    frame["income"] *= 1e6
    student = LinearStudent().fit(frame, y)  # a warning would be an error
    assert student.n_iter_ < 200


def test_soft_labels_and_many_students_on_frames():
    frame, y = default_teacher_s_frame(120)
    P = np.random.default_rng(0).dirichlet([1, 1], len(y))
    for student in STUDENTS:
        one = clone(student).fit(frame, y, soft_labels=P)
        search = DistillationClassifierCV(
            HistGradientBoostingClassifier(max_iter=10, random_state=0),
            student,
            temperatures=[1.0],
            mixing_weights=[0.0, 0.5, 1.0],
            cv=2,
            teacher_cv=2,
        ).fit(frame, y)
        assert one.predict_proba(frame).shape == (120, 2)
        assert search.predict_proba(frame).shape == (120, 2)
        assert set(search.predict(frame)) <= {"yes", "no"}


@pytest.mark.parametrize(
    "student",
    [LinearStudent(tol=1e-9), clone(MLP).set_params(dtype="float64")],
    ids=names,
)
def test_students_of_a_stack_are_those_fitted_alone(student):
    frame, y = people(120)
    classes, codes = np.unique(y, return_inverse=True)
    P = np.random.default_rng(0).dirichlet([1, 1], len(y))
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y))
    terms = [objective_terms(codes, P, mixing, 1.0) for mixing in (0.0, 0.5, 1.0)]
    problem = Problem(frame, y, codes, classes, weight, ())
    stacked = clone(student)._fit_many(problem, terms)
    for one, objective in zip(stacked, terms, strict=True):
        alone = clone(student)._fit_problem(replace(problem, terms=objective))
        assert_allclose(one.predict_proba(frame), alone.predict_proba(frame), atol=1e-5)
        assert one.encoder_.levels_ == alone.encoder_.levels_


@pytest.mark.parametrize("student", STUDENTS, ids=names)
def test_pickles_are_small_and_need_no_torch(student):
    frame, y = people(120)
    fitted = clone(student).fit(frame, y)
    saved = pickle.dumps(fitted)
    assert len(saved) < 15_000
    assert b"torch" not in saved
    assert b"pandas" not in saved
    loaded = pickle.loads(saved)
    assert_array_equal(loaded.predict_proba(frame), fitted.predict_proba(frame))


def test_a_failed_fit_keeps_the_encoder():
    frame, y = people(80)
    for student in STUDENTS:
        fitted = clone(student).fit(frame, y)
        before = fitted.predict_proba(frame)
        with pytest.raises(ValueError, match="dates"):
            fitted.fit(pd.DataFrame({"c": pd.date_range("2020", periods=80)}), y)
        assert_array_equal(fitted.predict_proba(frame), before)


# -- the whole way -------------------------------------------------------------------


def default_teacher_s_frame(n_samples=240):
    """What HistGradientBoosting takes from its types: numbers and categories."""
    frame, y = people(n_samples)
    return frame[["age", "income", "member", "city", "fixed"]], y


def test_the_default_teacher_takes_the_same_frames():
    frame, y = default_teacher_s_frame()
    distilled = DistillationClassifier(
        student=MLP, random_state=0, keep_teacher=True, mixing_weight=0.5
    )
    distilled.fit(frame[:200], y[:200])
    assert distilled.teacher_.estimator_.is_categorical_.tolist() == [
        False,
        False,
        False,
        True,
        False,
    ]
    unknown = frame[200:].copy()
    unknown["city"] = "elsewhere"
    for rows in (frame[200:], unknown):
        assert_allclose(distilled.predict_proba(rows).sum(axis=1), 1)


def test_a_pool_of_frames():
    frame, y = default_teacher_s_frame()
    pool = frame[200:].copy()
    pool["city"] = "elsewhere"
    for student in STUDENTS:
        distilled = DistillationClassifier(
            student=student, random_state=0, mixing_weight=0.5
        )
        distilled.fit(frame[:200], y[:200], X_unlabeled=pool)
        assert "elsewhere" not in distilled.student_.encoder_.levels_[0]
        assert distilled.predict(frame).shape == (240,)


class Watching:
    """Predicts on the rows that it is shown, in the middle of the training."""

    def __init__(self, X):
        self.X, self.proba = X, []

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name in ("epoch", "iteration"):
            self.proba.append(fitted_estimator.predict_proba(self.X))

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize("student", STUDENTS, ids=names)
def test_callbacks_see_students_that_take_the_frame(student):
    frame, y = people(120)
    watching = Watching(frame)
    if isinstance(student, MLPStudent):
        student = clone(student).set_params(early_stopping=False)
    fitted = clone(student).set_callbacks(watching).fit(frame, y)
    assert len(watching.proba) == fitted.n_iter_
    assert_allclose(watching.proba[-1], fitted.predict_proba(frame), atol=1e-12)


def test_other_students_take_what_their_estimator_takes():
    frame, y = default_teacher_s_frame()
    boosted = EstimatorStudent(
        HistGradientBoostingClassifier(max_iter=5, random_state=0)
    )
    inner = EstimatorStudent(MLP)
    piped = EstimatorStudent(
        make_pipeline(
            make_column_transformer(
                (OneHotEncoder(), ["city"]), ("passthrough", ["member", "fixed"])
            ),
            MLP,
        )
    )
    P = np.random.default_rng(0).dirichlet([1, 1], len(y))
    for student in (boosted, inner, piped):
        assert student.fit(frame, y, soft_labels=P).predict_proba(frame).shape == (
            240,
            2,
        )


def test_a_module_takes_frames_of_numbers():
    frame, y = people()
    numbers = frame[["member", "fixed"]].assign(income=frame["income"].fillna(0) / 1e5)

    def network(n_features, n_classes):
        return nn.Linear(n_features, n_classes)

    student = ModuleStudent(network, max_iter=3, random_state=0).fit(numbers, y)
    assert student.predict_proba(numbers).shape == (240, 2)
    with pytest.raises(ValueError, match="could not convert"):
        clone(student).fit(frame[["member", "job"]], y)


def test_sparse_numbers_of_a_linear_student_stay_sparse():
    X = sp.random_array((60, 5), density=0.3, rng=0, format="csr")
    y = np.arange(60) % 2
    student = LinearStudent(C=2.0).fit(X, y)
    dense = LinearStudent(C=2.0).fit(X.toarray(), y)
    assert_allclose(student.coef_, dense.coef_, atol=1e-4)
    assert student._encoded(X) is X
