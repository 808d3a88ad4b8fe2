"""Rows below rows: a pool keeps the types that the student can learn from."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.naive_bayes import GaussianNB

from skdistill import DistillationClassifier
from skdistill._rows import concatenate_rows
from skdistill.students import EstimatorStudent


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps the inputs it is fitted to, and knows nothing."""

    def fit(self, X, y, sample_weight=None):
        self.X_, self.classes_ = X, np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


def seen_by_student(X, pool):
    """The rows that a student is fitted to; the pool's soft labels are of one class."""
    y = np.arange(len(X)) % 2
    distilled = DistillationClassifier(
        None, EstimatorStudent(Recorder()), mixing_weight=1.0
    ).fit(
        X,
        y,
        soft_labels=np.eye(2)[y],
        X_unlabeled=pool,
        soft_labels_unlabeled=np.tile([1.0, 0.0], (len(pool), 1)),
    )
    return distilled.student_.estimator_.X_


def test_fractions_of_a_pool_are_kept_beside_whole_numbers():
    first = pd.DataFrame({"a": [1, 2, 3, 4]})
    seen = seen_by_student(first, pd.DataFrame({"a": [0.25, 1.5, np.nan]}))
    assert_array_equal(seen["a"], [1, 2, 3, 4, 0.25, 1.5, np.nan])
    # In its own folds the teacher gets whole numbers, and the pool as it is.
    teacher = DistillationClassifier(
        GaussianNB(), GaussianNB(), cv=2, mixing_weight=0.5
    )
    teacher.fit(first, [0, 1, 0, 1], X_unlabeled=pd.DataFrame({"a": [0.25, 1.5]}))


@pytest.mark.parametrize("dtype", [None, "category"])
def test_categories_that_the_rows_lack_become_missing(dtype):
    kind = pd.CategoricalDtype(["a", "b"])
    first = pd.DataFrame({"c": pd.Series(list("abab"), dtype=kind)})
    pool = pd.DataFrame({"c": pd.Series(["b", "z", "a"], dtype=dtype or object)})
    joined = seen_by_student(first, pool)
    expected = pd.Series(["a", "b", "a", "b", "b", None, "a"], dtype=kind)
    assert_frame_equal(joined.reset_index(drop=True), expected.to_frame("c"))
    assert list(pool["c"]) == ["b", "z", "a"]


def test_an_array_is_a_pool_beside_a_frame():
    table = pd.DataFrame(np.eye(3), columns=list("abc"))
    joined = concatenate_rows(table, np.full((2, 3), 0.5))
    expected = np.vstack([np.eye(3), np.full((2, 3), 0.5)])
    assert_frame_equal(joined, pd.DataFrame(expected, columns=list("abc")))


def test_an_array_is_a_pool_beside_a_polars_frame():
    polars = pytest.importorskip("polars")
    table = polars.DataFrame(np.eye(3), schema=list("abc"))
    for pool in (np.full((2, 3), 0.5), [[0.5] * 3] * 2):
        joined = concatenate_rows(table, pool)
        assert joined.schema == table.schema
        assert_array_equal(joined, np.vstack([np.eye(3), np.full((2, 3), 0.5)]))


def test_columns_of_booleans_stay_booleans():
    first = pd.DataFrame({"a": [True, False], "b": [1, 2]})
    joined = concatenate_rows(first, pd.DataFrame({"a": [False], "b": [3]}))
    assert_frame_equal(
        joined, pd.DataFrame({"a": [True, False, False], "b": [1, 2, 3]})
    )


FRAMES = pytest.mark.parametrize("kind", ["array", "pandas", "polars"])


def numbers_and_texts(kind):
    """Rows of numbers, and rows of the same kind that are texts."""
    numbers = np.array([[1.0, 2.0], [3.0, 5.0]])
    texts = np.array([["4", "0.5"]])
    if kind == "array":
        return numbers, texts
    frame = pd if kind == "pandas" else pytest.importorskip("polars")
    return tuple(
        frame.DataFrame(dict(zip("ab", table.T, strict=True)))
        for table in (numbers, texts)
    )


@FRAMES
def test_texts_of_numbers_do_not_make_levels_of_a_column(kind):
    numbers, texts = numbers_and_texts(kind)
    joined = concatenate_rows(numbers, texts)
    assert type(joined) is type(numbers)
    assert_array_equal(joined, [[1.0, 2.0], [3.0, 5.0], [4.0, 0.5]])
    assert np.asarray(joined).dtype == np.float64


@FRAMES
def test_texts_in_a_column_of_numbers_are_refused(kind):
    numbers, texts = numbers_and_texts(kind)
    if kind == "array":
        texts[0, 0] = "red"
    elif kind == "pandas":
        texts["a"] = "red"
    else:
        texts = texts.with_columns(a=pytest.importorskip("polars").lit("red"))
    name = "X" if kind == "array" else "Column 'a' of X"
    with pytest.raises(ValueError, match=f"^{name} holds numbers, but not in the rows"):
        concatenate_rows(numbers, texts)


def test_other_tables_are_pools_beside_a_polars_frame():
    polars = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    colors = polars.Series(["red", "blue"], dtype=polars.Categorical)
    table = polars.DataFrame({"a": [1.0, 2.0], "b": colors})
    rows = [[3.0, "red"], [None, "blue"]]
    pools = [
        rows,
        np.array(rows, dtype=object),
        pd.DataFrame(rows, columns=["a", "b"]),
        polars.DataFrame(rows, schema=["a", "b"], orient="row").with_columns(
            polars.col("b").cast(polars.Enum(["blue", "red"]))
        ),
    ]
    for pool in pools:
        joined = concatenate_rows(table, pool)
        assert joined.schema == table.schema
        assert joined["a"].to_list() == [1.0, 2.0, 3.0, None]
        assert joined["b"].cast(str).to_list() == ["red", "blue", "red", "blue"]
