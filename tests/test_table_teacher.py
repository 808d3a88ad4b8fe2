"""TableTeacher, the default teacher: raw tables in, probabilities out."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import CategoricalNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from sklearn.utils import get_tags

from skdistill import DistillationClassifier, SoftLabelTransformer
from skdistill._table_teacher import LevelCodes
from skdistill.students import LinearStudent
from skdistill.teachers import EnsembleTeacher, TableTeacher

BOOSTING = HistGradientBoostingClassifier(max_iter=10, random_state=0)


def raw_table(n=240, seed=0):
    """Every kind of column, with what is missing; labels follow a text and a number."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "number": rng.normal(size=n),
            "whole": rng.integers(0, 9, n),
            "flag": rng.random(n) > 0.5,
            "text": rng.choice(["red", "green", "blue"], n),
            "category": pd.Categorical(rng.choice(["p", "q"], n)),
            "mixed": rng.choice(np.array([1, "one", None], dtype=object), n),
            "user": [f"u{i}" for i in rng.integers(0, 400, n)],
            "nothing": [None] * n,
        }
    )
    y = np.where(frame["number"] + 2 * (frame["text"] == "red") > 0.6, "yes", "no")
    frame.loc[::7, "number"] = np.nan
    frame.loc[::5, "category"] = np.nan
    return frame, y


def test_numbers_are_fitted_as_boosting_fits_them():
    X, y = make_classification(200, n_classes=3, n_informative=6, random_state=0)
    X[::9, 2] = np.nan
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    ours = TableTeacher(BOOSTING).fit(X, y, sample_weight=weight)
    theirs = clone(BOOSTING).fit(X, y, sample_weight=weight)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-14)


def test_categories_are_fitted_as_boosting_fits_them():
    frame, y = raw_table()
    frame = frame[["number", "category", "whole"]]
    ours = TableTeacher(BOOSTING).fit(frame, y)
    theirs = clone(BOOSTING).fit(frame, y)
    assert_allclose(ours.predict_proba(frame), theirs.predict_proba(frame), atol=1e-12)


@pytest.mark.parametrize(
    "params",
    [
        {"categorical_features": ["whole", "category"]},
        {"categorical_features": np.array([False, True, True])},
        {"monotonic_cst": {"number": -1, "whole": 1}},
        {"categorical_features": ["category"], "monotonic_cst": {"number": 1}},
    ],
)
def test_boosting_may_name_columns(params):
    frame, y = raw_table()
    frame = frame[["number", "whole", "category"]]
    boosting = clone(BOOSTING).set_params(**params)
    ours = TableTeacher(boosting).fit(frame, y)
    theirs = clone(boosting).fit(frame, y)
    assert_allclose(ours.predict_proba(frame), theirs.predict_proba(frame), atol=1e-12)
    assert boosting.get_params()["monotonic_cst"] is params.get("monotonic_cst")


def test_levels_stay_categories_beside_those_listed():
    frame, y = raw_table()
    columns = ["number", "whole", "text"]
    boosting = clone(BOOSTING).set_params(categorical_features=["whole"])
    teacher = TableTeacher(boosting).fit(frame[columns], y)
    assert_array_equal(teacher.estimator_.is_categorical_, [False, True, True])
    boosting.set_params(categorical_features=[1])
    objects = frame[columns].astype(object).to_numpy().tolist()
    of_list = TableTeacher(boosting).fit(objects, y)
    assert_array_equal(of_list.estimator_.is_categorical_, [False, True, True])


@pytest.mark.parametrize(
    ("params", "match"),
    [
        (
            {"categorical_features": ["town"]},
            "'town' which is not a valid",
        ),
        ({"monotonic_cst": {"town": 1}}, r"unexpected feature names: \['town'\]"),
        ({"categorical_features": "town"}, "The 'categorical_features' parameter"),
    ],
)
def test_boosting_cannot_name_what_is_not_there(params, match):
    frame, y = raw_table()
    boosting = clone(BOOSTING).set_params(**params)
    with pytest.raises(ValueError, match=match):
        TableTeacher(boosting).fit(frame, y)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"categorical_features": ["text"]}, "array of integers or as a boolean mask"),
        ({"monotonic_cst": {"number": 1}}, "Pass monotonic_cst as an integer array"),
    ],
)
def test_columns_without_names_are_given_by_position(params, match):
    frame, y = raw_table()
    boosting = clone(BOOSTING).set_params(**params)
    with pytest.raises(ValueError, match=match):
        TableTeacher(boosting).fit(frame.astype(object).to_numpy(), y)


@pytest.mark.parametrize(
    "estimator",
    [
        BOOSTING,
        RandomForestClassifier(20, random_state=0),
        LogisticRegression(),
        KNeighborsClassifier(),
        LinearSVC(),
    ],
    ids=lambda e: type(e).__name__,
)
def test_any_classifier_takes_a_raw_table(estimator):
    frame, y = raw_table(400)
    teacher = TableTeacher(estimator).fit(frame[:300], y[:300])
    rows = frame[300:].assign(text="unseen")
    assert teacher.score(frame[300:], y[300:]) > 0.75
    assert_allclose(teacher.predict_proba(rows).sum(axis=1), 1)


def test_arrays_of_objects_are_the_frame():
    frame, y = raw_table()
    of_frame = TableTeacher(BOOSTING).fit(frame, y).predict_proba(frame)
    objects = frame.astype(object).to_numpy()
    assert_array_equal(
        TableTeacher(BOOSTING).fit(objects, y).predict_proba(objects), of_frame
    )
    rows = objects.tolist()
    assert_array_equal(
        TableTeacher(BOOSTING).fit(rows, y).predict_proba(rows), of_frame
    )


def test_polars_frames_are_the_pandas_ones():
    polars = pytest.importorskip("polars")
    frame, y = raw_table()
    frame = frame[["number", "flag", "text", "user"]]
    other = polars.DataFrame(
        {name: column.tolist() for name, column in frame.items()}, nan_to_null=True
    )
    assert_array_equal(
        TableTeacher(BOOSTING).fit(other, y).predict_proba(other),
        TableTeacher(BOOSTING).fit(frame, y).predict_proba(frame),
    )


def test_levels_beyond_the_codes_share_the_last():
    texts = np.array([["a"], ["a"], ["b"], ["b"], ["c"], ["d"], [None]], dtype=object)
    weight = np.array([1, 1, 1, 1, 1, 3.0, 1])
    codes = LevelCodes(3).fit(texts, weight)
    new = np.array([["new"]], dtype=object)
    # d weighs 3, a and b 2: d and a have their own; b, c and new levels share one.
    assert_array_equal(codes.transform(texts).ravel(), [1, 1, 2, 2, 2, 0, np.nan])
    assert_array_equal(codes.transform(new), [[2]])
    enough = LevelCodes(4).fit(texts, weight)
    assert len(set(enough.levels_[0].values())) == 4
    assert np.isnan(enough.transform(new)).all()


def test_thousands_of_levels_teach():
    rng = np.random.default_rng(0)
    users = rng.zipf(1.3, 3000) % 2000
    frame = pd.DataFrame({"user": pd.Categorical([f"u{u}" for u in users])})
    y = (users % 2 == 1).astype(int)
    teacher = TableTeacher(BOOSTING).fit(frame[:2000], y[:2000])
    assert len(frame["user"].cat.categories) > 255
    assert teacher.score(frame[2000:], y[2000:]) > y.mean() + 0.1


def test_weights_of_zero_leave_no_trace():
    frame, y = raw_table()
    weight = np.ones(len(y))
    weight[:40] = 0
    frame.loc[:39, "text"] = "gone"
    ours = TableTeacher(BOOSTING).fit(frame, y, sample_weight=weight)
    without = TableTeacher(BOOSTING).fit(frame[40:], y[40:], sample_weight=weight[40:])
    assert_array_equal(ours.predict_proba(frame), without.predict_proba(frame))


def test_a_classifier_without_weights_is_warned_of():
    frame, y = raw_table()
    with pytest.warns(UserWarning, match="KNeighborsClassifier has no argument"):
        TableTeacher(KNeighborsClassifier()).fit(frame, y, np.ones(len(y)))


def test_what_can_be_no_classifier_here():
    frame, y = raw_table()
    with pytest.raises(TypeError, match="regressor LinearRegression"):
        TableTeacher(LinearRegression()).fit(frame, y)
    with pytest.raises(TypeError, match="must not be frozen"):
        TableTeacher(FrozenEstimator(clone(BOOSTING).fit(frame[["number"]], y))).fit(
            frame, y
        )


def test_errors_name_the_column():
    frame, y = raw_table()
    teacher = TableTeacher(BOOSTING).fit(frame, y)
    with pytest.raises(ValueError, match="Column 'number' of X, which holds numbers: "):
        teacher.predict(frame.assign(number="many"))
    dated = frame.assign(when=pd.Timestamp("2020-01-01"))
    with pytest.raises(ValueError, match="Column 'when' of X holds dates"):
        DistillationClassifier(student=LinearStudent()).fit(dated, y)


@pytest.mark.parametrize("cv", [3, "in-sample"])
@pytest.mark.parametrize("mixing_weight", [0.5, "auto"])
@pytest.mark.parametrize(
    "teacher",
    [
        RandomForestClassifier(3),
        [BOOSTING, LogisticRegression()],
        EnsembleTeacher([LogisticRegression()], weights="log-loss"),
    ],
    ids=["forest", "list", "learned weights"],
)
def test_a_teacher_that_takes_no_texts_says_what_to_do(teacher, mixing_weight, cv):
    frame, y = raw_table(60)
    distilled = DistillationClassifier(
        teacher, LinearStudent(), mixing_weight=mixing_weight, cv=cv
    )
    message = r"columns \['text', 'category', 'mixed', 'user'.*TableTeacher\("
    with pytest.raises(ValueError, match=message):
        distilled.fit(frame, y)


@pytest.mark.parametrize(
    "estimator",
    [GaussianNB(), MultinomialNB(), CategoricalNB()],
    ids=lambda estimator: type(estimator).__name__,
)
def test_errors_of_calculations_with_categories_name_the_columns_too(estimator):
    X = pd.DataFrame(
        {"size": [1, 2, 3, 4] * 5, "kind": pd.Categorical(["p", "q"] * 10)}
    )
    y = np.arange(20) // 10
    for teacher, student in [(estimator, LinearStudent()), (None, estimator)]:
        distilled = DistillationClassifier(teacher, student, mixing_weight=0.5)
        with pytest.raises(ValueError, match=r"takes numbers, but .* \['kind'\] of X"):
            distilled.fit(X, y)


def test_other_errors_of_a_teacher_stay_its_own():
    frame, y = raw_table(60)
    wrong = RandomForestClassifier(n_estimators=-1)
    with pytest.raises(ValueError, match=r"^The 'n_estimators' parameter"):
        DistillationClassifier(wrong, LinearStudent(), mixing_weight=0.5).fit(frame, y)


def test_the_default_distils_and_tells_so_by_its_tags():
    frame, y = raw_table(300)
    new = frame[240:].assign(text="unseen", user="unseen")
    distilled = DistillationClassifier(
        student=LinearStudent(), mixing_weight=0.5, keep_teacher=True, random_state=0
    ).fit(frame[:240], y[:240])
    transformer = SoftLabelTransformer(random_state=0).fit(frame[:240], y[:240])
    assert isinstance(distilled.teacher_, TableTeacher)
    assert_array_equal(
        distilled.teacher_.predict_proba(new), transformer.transform(new)
    )
    assert distilled.score(frame[240:], y[240:]) > 0.8
    for estimator in (distilled, transformer, TableTeacher()):
        tags = get_tags(estimator).input_tags
        assert (tags.allow_nan, tags.categorical, tags.string) == (True, True, True)
        assert not tags.sparse
