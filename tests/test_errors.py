"""Bad input: errors name the parameter and the remedy, before anything is trained."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from stubs import BrokenTeacher, LabelTeacher, LoggedTeacher, n_fits
from torch import nn

from skdistill import (
    DistillationClassifier,
    DistillationClassifierCV,
    SoftLabelTransformer,
)
from skdistill.students import (
    EstimatorStudent,
    LinearStudent,
    MLPStudent,
    ModuleStudent,
)
from skdistill.teachers import EnsembleTeacher, TableTeacher


@pytest.fixture
def distilled(fit_log):
    return DistillationClassifier(
        LoggedTeacher(fit_log), LinearStudent(), cv=3, mixing_weight=0.5
    )


@pytest.fixture
def refused(distilled, three_classes, fit_log):
    """Check that a fit fails before the teacher is fitted."""

    def check(error, message, *, X=None, y=None, params=None, **fit_params):
        distilled.set_params(**(params or {}))
        X = three_classes[0] if X is None else X
        y = three_classes[1] if y is None else y
        with pytest.raises(error, match=message):
            distilled.fit(X, y, **fit_params)
        assert n_fits(fit_log) == 0
        assert not hasattr(distilled, "classes_")

    return check


# -- parameters --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("temperature", 0, r"a float in the range \(0.0, inf\).*'auto'"),
        ("temperature", -1, r"a float in the range \(0.0, inf\)"),
        ("temperature", np.nan, r"a float in the range \(0.0, inf\)"),
        ("temperature", np.inf, r"a float in the range \(0.0, inf\)"),
        ("temperature", "hot", r"a str among \{'auto'\}"),
        ("mixing_weight", -0.1, r"a float in the range \[0.0, 1.0\]"),
        ("mixing_weight", 1.1, r"a float in the range \[0.0, 1.0\]"),
        ("mixing_weight", np.nan, r"a float in the range \[0.0, 1.0\]"),
        ("mixing_weight", "half", r"a float in the range \[0.0, 1.0\]"),
        ("student_temperature", 0, r"a float in the range \(0.0, inf\) or .*'same'"),
        ("student_temperature", "auto", r"a str among \{'same'\}"),
        ("student_temperature", np.nan, r"a float in the range \(0.0, inf\)"),
        ("cv", "out-of-sample", r"'in-sample'"),
        ("memory", 3, r"cache"),
        ("keep_teacher", "no", r"bool"),
        ("n_jobs", 1.5, r"an instance of 'int' or None"),
        ("random_state", "seed", r"an int in the range.*RandomState"),
    ],
)
def test_parameters_are_refused_with_what_is_allowed(name, value, allowed, refused):
    message = rf"(?s)'{name}' parameter of DistillationClassifier .*{allowed}.* Got "
    message += re.escape(repr(value))
    refused(ValueError, message, params={name: value})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"student__C": -1}, r"'C' parameter of LinearStudent .* Got -1"),
        (
            {"student": MLPStudent(max_iter=0)},
            r"'max_iter' parameter of MLPStudent .* Got 0",
        ),
        (
            {"student": MLPStudent((8, 0))},
            r"hidden_layer_sizes must hold integers of at least 1, got \(8, 0\)",
        ),
        (
            {"student": EstimatorStudent(DecisionTreeClassifier(), min_proba=1)},
            r"'min_proba' parameter of EstimatorStudent .* Got 1",
        ),
    ],
)
def test_parameters_of_the_student_are_refused(params, message, refused):
    refused(ValueError, message, params=params)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (LabelTeacher(), r"predict_proba or decision_function, got LabelTeacher"),
        (KNeighborsRegressor(), r"classifier, got the regressor KNeighborsRegressor"),
        (
            make_pipeline(StandardScaler(), DecisionTreeRegressor()),
            r"classifier, got the regressor Pipeline",
        ),
        (StandardScaler(), r"decision_function, got StandardScaler"),
        (GaussianNB, r"must be an instance, got the class GaussianNB"),
        ("Self", r"^teacher must be a classifier .*, got 'Self' .*'self'"),
        (3, r"^teacher must be a classifier .*, got int"),
    ],
)
def test_teachers_that_cannot_be(teacher, message, three_classes):
    for estimator in (
        DistillationClassifier(teacher, LinearStudent(), mixing_weight=0.5),
        SoftLabelTransformer(teacher),
    ):
        with pytest.raises(TypeError, match=message):
            estimator.fit(*three_classes)


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (KNeighborsClassifier(), r"KNeighborsClassifier does not take sample_weight"),
        (RidgeClassifier(), r"RidgeClassifier has no predict_proba"),
        (LinearSVC(), r"LinearSVC has no predict_proba.* CalibratedClassifierCV"),
        (
            make_pipeline(StandardScaler(), KNeighborsClassifier()),
            r"KNeighborsClassifier does not take sample_weight",
        ),
        (
            make_pipeline(StandardScaler(), StandardScaler()),
            r"must be a classifier, a regressor, .* got StandardScaler",
        ),
        (
            make_pipeline(StandardScaler(), "passthrough"),
            r"must be a classifier, a regressor, .* got str",
        ),
        (FrozenEstimator(Ridge()), r"^A student is trained, .* Ridge, by itself"),
        (
            make_pipeline(StandardScaler(), FrozenEstimator(GaussianNB())),
            r"^A student is trained, .* GaussianNB, by itself",
        ),
        (StandardScaler(), r"^student must be None, .* got StandardScaler"),
        ("mlp", r"^student must be None, .* got str"),
        (object(), r"^student must be None, .* got object"),
        (LinearStudent, r"^student must be an instance, got the class LinearStudent"),
    ],
)
def test_students_that_cannot_be(student, message, refused):
    refused(TypeError, message, params={"student": student})


def test_a_tree_has_no_student_temperature(refused):
    tree = DecisionTreeClassifier()
    message = (
        r"^student_temperature='same' needs .* DecisionTreeClassifier has no logits"
    )
    refused(
        ValueError,
        message,
        params={"student": tree, "student_temperature": "same", "temperature": 2.0},
    )
    refused(
        ValueError,
        r"^student_temperature=3.0 needs a student trained on cross-entropy",
        params={"student": tree, "student_temperature": 3.0},
    )
    refused(
        ValueError,
        r"^student_temperature='same' needs",
        params={"temperature": "auto", "student_temperature": "same"},
    )


def test_a_student_temperature_that_changes_nothing_is_taken(distilled, three_classes):
    tree = DecisionTreeClassifier(random_state=0)
    distilled.set_params(student=tree, student_temperature="same").fit(*three_classes)
    distilled.set_params(student_temperature=3.0, mixing_weight=0.0).fit(*three_classes)
    assert distilled.mixing_weight_ == 0.0


def test_a_pipeline_of_our_students_takes_a_student_temperature(
    distilled, three_classes, soft_labels
):
    X, y = three_classes
    distilled.set_params(student_temperature="same", temperature=3.0)
    scaled = StandardScaler().fit_transform(X)
    expected = clone(distilled).fit(scaled, y, soft_labels=soft_labels)
    distilled.set_params(student=make_pipeline(StandardScaler(), LinearStudent()))
    distilled.fit(X, y, soft_labels=soft_labels)
    np.testing.assert_allclose(
        distilled.predict_proba(X), expected.predict_proba(scaled), atol=1e-9
    )


def test_auto_temperature_needs_rows_that_the_teacher_has_not_seen(refused):
    refused(
        ValueError,
        r"^temperature='auto' fits .* cv='in-sample' has none: .* Use another cv, or a",
        params={"temperature": "auto", "cv": "in-sample"},
    )


@pytest.mark.parametrize("student", [MLPStudent(), ModuleStudent(nn.Linear(4, 3))])
def test_the_device_must_be_there(student, refused):
    refused(
        ValueError,
        r"^device='banana' is not a torch device; use 'auto' or one of \[.*'cpu'\]",
        params={"student": student.set_params(device="banana")},
    )
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    refused(
        ValueError,
        r"^device='cuda' is not available here; use 'auto' or one of \[.*'cpu'\]",
        params={"student": student.set_params(device="cuda")},
    )


@pytest.mark.parametrize("bare", [True, False])
def test_a_module_must_return_one_logit_a_class(bare, three_classes, soft_labels):
    student = nn.Linear(4, 7) if bare else ModuleStudent(nn.Linear(4, 7), device="cpu")
    distilled = DistillationClassifier(
        GaussianNB(), student, random_state=0, mixing_weight=0.5
    )
    with pytest.raises(
        ValueError, match=r"^module must return logits .* = \(2, 3\) .* got \(2, 7\)"
    ):
        distilled.fit(*three_classes, soft_labels=soft_labels)


def test_a_module_of_the_wrong_shape_is_refused_before_the_teacher_is_fitted(refused):
    refused(
        ValueError,
        r"^module must return logits .* = \(2, 3\) .* got \(2, 7\)",
        params={"student": ModuleStudent(nn.Linear(4, 7), device="cpu")},
    )


# -- what the teacher returns ------------------------------------------------------


@pytest.mark.parametrize("how", ["cross-fitted", "in-sample", "frozen"])
@pytest.mark.parametrize(
    ("defect", "message"),
    [
        ("nan", r"row 2 is not finite \(\d+ such rows\); it is \[nan 0.5 0.5\]"),
        ("inf", r"row 2 is not finite"),
        ("negative", r"row 2 has a negative value .* it is \[-0.25 +0.75 +0.5 +\]"),
        ("sum", r"row 2 does not sum to 1 within 0.001 .* it is \[0.5 0.5 0.5\]"),
        ("columns", r"must have shape .* = \(\d+, 3\), got \(\d+, 4\)"),
        ("rows", r"must have shape .* = \(\d+, 3\), got \(\d+, 3\)"),
        ("one-dimensional", r"must have shape .* = \(\d+, 3\), got \(\d+,\)"),
    ],
)
def test_the_output_of_the_teacher_is_checked(how, defect, message, three_classes):
    teacher = BrokenTeacher(defect)
    if how == "frozen":
        teacher = FrozenEstimator(teacher.fit(*three_classes))
    distilled = DistillationClassifier(
        teacher,
        LinearStudent(),
        cv="in-sample" if how == "in-sample" else None,
        mixing_weight=0.5,
    )
    with pytest.raises(ValueError, match=r"^the output of teacher BrokenTeacher") as e:
        distilled.fit(*three_classes)
    assert re.search(message, str(e.value))


def test_rounding_is_no_error(three_classes):
    """A teacher of float32 or a table of three digits."""
    X, y = three_classes
    proba = np.full((len(y), 3), 0.333)
    distilled = DistillationClassifier(student=LinearStudent(), mixing_weight=1.0)
    distilled.fit(X, y, soft_labels=proba)
    np.testing.assert_allclose(distilled.predict_proba(X), 1 / 3, atol=1e-6)


def test_a_teacher_of_more_classes_is_refused(two_classes):
    X, y = two_classes
    teacher = FrozenEstimator(GaussianNB().fit(X, np.arange(len(y)) % 3))
    with pytest.raises(
        ValueError, match=r"^teacher GaussianNB knows the classes \[2\], which are not"
    ):
        DistillationClassifier(teacher, LinearStudent(), mixing_weight=0.5).fit(X, y)


def test_scores_that_are_not_finite_are_refused(two_classes):
    X, y = two_classes

    class Infinite(LinearSVC):
        def decision_function(self, X):
            scores = super().decision_function(X)
            scores[3] = np.inf
            return scores

    with pytest.raises(
        ValueError, match="decision_function of teacher Infinite: row 3"
    ):
        DistillationClassifier(Infinite(), LinearStudent(), mixing_weight=0.5).fit(X, y)


def test_a_frozen_teacher_must_be_fitted(three_classes):
    distilled = DistillationClassifier(
        FrozenEstimator(GaussianNB()), LinearStudent(), mixing_weight=0.5
    )
    with pytest.raises(ValueError, match="GaussianNB"):
        distilled.fit(*three_classes)


class RepeatedTeacher(ClassifierMixin, BaseEstimator):
    """Has a class twice."""

    def fit(self, X, y):
        self.classes_ = np.array([0, 1, 1, 2])
        return self

    def predict_proba(self, X):
        return np.full((len(X), 4), 0.25)


def test_a_class_twice_in_a_teacher_is_refused(three_classes):
    message = r"^teacher RepeatedTeacher has a class twice.*\[0, 1, 1, 2\]"
    with pytest.raises(ValueError, match=message):
        SoftLabelTransformer(RepeatedTeacher()).fit_transform(*three_classes)


def test_scores_of_pairs_of_classes_are_refused(three_classes):
    X, y = three_classes
    pairs = SVC(decision_function_shape="ovo")
    with pytest.raises(ValueError, match=r"SVC does not rank the classes .*'ovr'"):
        SoftLabelTransformer(pairs, cv=3).fit_transform(X, y)
    classes = SVC(decision_function_shape="ovr")
    proba = SoftLabelTransformer(classes, cv=3).fit_transform(X, y)
    predicted = cross_val_predict(classes, X, y, cv=3)
    assert (proba.argmax(axis=1) == predicted).mean() > 0.95


# -- soft labels in hand -----------------------------------------------------------

THIRDS = np.full((120, 3), 1 / 3)


def broken(value):
    proba = THIRDS.copy()
    proba[2:] = value
    return proba


@pytest.mark.parametrize("unlabeled", [False, True])
@pytest.mark.parametrize(
    ("proba", "message"),
    [
        (THIRDS[:100], r"must have shape .* = \(120, 3\), got \(100, 3\)"),
        (THIRDS[:, :2], r"must have shape .* = \(120, 3\), got \(120, 2\)"),
        (THIRDS[:, 0], r"must have shape .* = \(120, 3\), got \(120,\)"),
        (THIRDS.tolist()[0], r"must have shape .* = \(120, 3\), got \(3,\)"),
        (np.full((120, 3), "a"), r"must be a numeric array"),
        (broken(np.nan), r": row 2 is not finite"),
        (broken([-0.5, 1, 0.5]), r": row 2 has a negative value"),
        (broken([0.5, 1, 0.5]), r": row 2 does not sum to 1"),
        (broken(0), r": row 2 does not sum to 1"),
        (
            pd.DataFrame(THIRDS, columns=["ant", "bee", "cow"]),
            r"has the columns \['ant', 'bee', 'cow'\], but the classes in y are \['ant",
        ),
        (
            pd.DataFrame(THIRDS[:, :2], columns=["ant", "bee"]),
            r"has the columns \['ant', 'bee'\], but the classes in y are \['ant",
        ),
    ],
)
def test_soft_labels_are_checked(proba, message, unlabeled, refused, three_classes):
    X, y = three_classes
    y = np.array(["ant", "bee", "cat"])[y]
    if unlabeled:
        name = "soft_labels_unlabeled"
        given = {"X_unlabeled": X, name: proba}
    else:
        name = "soft_labels"
        given = {name: proba}
    refused(ValueError, f"^{name}:? ?{message}", y=y, **given)


def test_one_column_of_two_is_explained(two_classes):
    X, y = two_classes
    with pytest.raises(
        ValueError, match=r"pass both columns: np.column_stack\(\[1 - p"
    ):
        DistillationClassifier(student=LinearStudent(), mixing_weight=0.5).fit(
            X, y, soft_labels=np.full(len(y), 0.5)
        )


def test_columns_of_a_frame_are_taken_by_name(three_classes, soft_labels):
    X, y = three_classes
    names = np.array(["ant", "bee", "cat"])
    distilled = DistillationClassifier(student=LinearStudent(), mixing_weight=1.0)
    expected = clone(distilled).fit(X, names[y], soft_labels=soft_labels)
    named = pd.DataFrame(soft_labels, columns=names)[["cat", "ant", "bee"]]
    unnamed = pd.DataFrame(soft_labels)
    for given in (named, unnamed):
        distilled.fit(X, names[y], soft_labels=given)
        assert_array_equal(distilled.predict_proba(X), expected.predict_proba(X))
    arrow = pytest.importorskip("pyarrow")
    distilled.fit(X, names[y], soft_labels=arrow.Table.from_pandas(named))
    assert_array_equal(distilled.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize(
    ("classes", "columns"),
    [([False, True], [True, False]), ([False, True], [1, 0]), ([0.0, 1.0], [1, 0])],
)
def test_columns_are_named_after_classes_of_any_type(classes, columns, two_classes):
    X, y = two_classes
    y = np.array(classes)[y]
    chance = np.linspace(0.0, 1.0, len(y))
    soft = np.column_stack([1.0 - chance, chance])
    distilled = DistillationClassifier(student=LinearStudent(), mixing_weight=1.0)
    expected = clone(distilled).fit(X, y, soft_labels=soft).predict_proba(X)
    distilled.fit(X, y, soft_labels=pd.DataFrame(soft[:, ::-1], columns=columns))
    assert_array_equal(distilled.predict_proba(X), expected)


def test_soft_labels_are_no_y(refused, soft_labels):
    refused(
        ValueError,
        r"^y must hold one class label a row.* go into the argument soft_labels",
        y=soft_labels,
    )


def test_soft_labels_of_no_rows(refused, three_classes):
    refused(
        ValueError,
        r"^soft_labels_unlabeled was passed without X_unlabeled",
        soft_labels_unlabeled=THIRDS,
    )


def test_unlabelled_rows_must_have_the_columns_of_the_others(refused, three_classes):
    X, _ = three_classes
    message = r"^X_unlabeled does not fit X: .*3 features.* expecting 4"
    refused(ValueError, message, X_unlabeled=X[:, :3])
    table = pd.DataFrame(X, columns=list("abcd"))
    message = r"(?s)^X_unlabeled does not fit X: The feature names .*- e"
    refused(ValueError, message, X=table, X_unlabeled=table.rename(columns={"d": "e"}))


def test_an_empty_pool_is_named(refused, three_classes):
    X, _ = three_classes
    refused(ValueError, r"^X_unlabeled has 0 sample\(s\)", X_unlabeled=X[:0])


def test_a_pool_that_a_regressor_cannot_weigh_is_named(three_classes):
    X, y = three_classes
    student = EstimatorStudent(KNeighborsRegressor())
    distilled = DistillationClassifier(GaussianNB(), student, mixing_weight=0.5, cv=3)
    message = "KNeighborsRegressor does not take sample_weight.*X_unlabeled"
    with pytest.raises(ValueError, match=message):
        distilled.fit(X, y, X_unlabeled=X[1:])


@pytest.mark.parametrize(
    "proba",
    [THIRDS + 0j, np.ma.array(THIRDS, mask=np.eye(120, 3) > 0)],
    ids=["complex", "masked"],
)
@pytest.mark.parametrize("unlabeled", [False, True])
def test_soft_labels_are_real_and_all_there(proba, unlabeled, refused, three_classes):
    X, _ = three_classes
    name = "soft_labels_unlabeled" if unlabeled else "soft_labels"
    given = {name: proba} | ({"X_unlabeled": X} if unlabeled else {})
    refused(ValueError, f"^{name} must be real numbers, none masked", **given)


def test_soft_labels_may_be_a_masked_array_without_a_mask(three_classes):
    student = LinearStudent().fit(*three_classes, soft_labels=np.ma.array(THIRDS))
    assert_array_equal(student.classes_, [0, 1, 2])


# -- data --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(120), r"sample_weight must hold a weight above zero"),
        (np.r_[-1, np.ones(119)], r"(?i)negative values in data passed to `sample_wei"),
        (np.r_[np.nan, np.ones(119)], r"(?i)sample_weight contains NaN"),
        (np.ones(100), r"(?i)sample_weight.shape == \(100,\), expected \(120,\)"),
        (["heavy"] * 120, r"^sample_weight: could not convert string to float"),
        ([], r"^sample_weight: Found array with 0 sample"),
        (np.ones((120, 2)), r"^sample_weight: Sample weights must be 1D"),
    ],
)
def test_weights_are_checked(weight, message, refused):
    refused(ValueError, message, sample_weight=weight)


def test_weights_must_leave_two_classes(refused, three_classes):
    _, y = three_classes
    refused(ValueError, r"sample_weight is zero only one class", sample_weight=y == 1)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (
            np.empty((0, 4)),
            [],
            r"0 sample\(s\) \(shape=\(0, 4\)\) while a minimum of 1",
        ),
        (
            np.empty((6, 0)),
            [0, 1] * 3,
            r"0 feature\(s\) \(shape=\(6, 0\)\) while a min",
        ),
        (
            np.ones((6, 2)),
            [1] * 6,
            r"at least 2 classes, but y contains only one class",
        ),
        (np.ones((6, 2)), [0, 1] * 2, r"inconsistent numbers of samples: \[6, 4\]"),
        (np.ones((6, 2)), [0.5, 1.5, 2.5, 0, 1, 2], r"Unknown label type: continuous"),
        (np.ones((6, 2)), [0, 1, np.nan] * 2, r"Input y contains NaN"),
        ([], [], r"^X has 0 sample"),
        ({"a": 1}, [0], r"^X: "),
    ],
)
def test_data_are_checked(X, y, message, refused):
    refused(ValueError, message, X=X, y=y)


@pytest.mark.parametrize("X", [5, object(), 1.5])
def test_what_has_no_rows_is_named(X, three_classes, refused):
    _, y = three_classes
    refused(TypeError, r"^X: ", X=X)
    refused(TypeError, r"^X_unlabeled: Expected sequence", X_unlabeled=X)
    refused(ValueError, r"^X_unlabeled does not fit X: ", X_unlabeled={"a": 1})
    with pytest.raises(TypeError, match=r"^X: "):
        EstimatorStudent(GaussianNB()).fit(X, y)


@pytest.mark.parametrize("folds", [[0.5, 1.5], {"a": 1}, [([0], [1], [2])]])
def test_folds_that_are_no_pairs_are_named(folds, refused):
    refused(
        ValueError,
        r"^cv must give pairs of training and test rows",
        params={"cv": folds},
    )


@pytest.mark.parametrize("folds", [[0.5, 1.5], {"a": 1}, [([0], [1], [2])]])
def test_folds_of_a_search_that_are_no_pairs_are_named(folds, three_classes):
    search = DistillationClassifierCV(GaussianNB(), LinearStudent(), cv=folds)
    with pytest.raises((TypeError, ValueError), match=r"^cv: .* unpack"):
        search.fit(*three_classes)


@pytest.mark.parametrize("weights", [{"a": 1}, ["x", 1.0]])
def test_weights_of_teachers_that_are_no_numbers_are_named(weights, three_classes):
    with pytest.raises((TypeError, ValueError), match=r"^weights: "):
        EnsembleTeacher([GaussianNB(), GaussianNB()], weights=weights).fit(
            *three_classes
        )


def test_the_estimator_of_a_table_teacher_is_named(three_classes):
    with pytest.raises(TypeError, match=r"^estimator: teacher must be a classifier"):
        TableTeacher(5).fit(*three_classes)


def test_missing_values_are_refused_where_the_student_takes_none(refused):
    X = np.ones((120, 4))
    X[5, 2] = np.nan
    refused(ValueError, "Input X contains NaN", X=X)


STUDENTS = [
    LinearStudent(),
    MLPStudent((4,), max_iter=5, random_state=0),
    DecisionTreeClassifier(),
    DecisionTreeRegressor(),
    ModuleStudent(nn.Linear(3, 2), max_iter=5, device="cpu", random_state=0),
]


@pytest.mark.parametrize("student", STUDENTS, ids=lambda s: type(s).__name__)
def test_constant_inputs_give_the_class_frequencies(student):
    X, y = np.ones((40, 3)), np.arange(40) % 4 == 0
    distilled = DistillationClassifier(
        LogisticRegression(), student, cv=2, mixing_weight=0.5
    ).fit(X, y)
    proba = distilled.predict_proba(X)
    assert np.isfinite(proba).all()
    assert_array_equal(proba, np.tile(proba[0], (40, 1)))
    if not isinstance(student, (MLPStudent, ModuleStudent)):
        np.testing.assert_allclose(proba[:, 1], 0.25, atol=0.01)


# -- after a failure ---------------------------------------------------------------


DIVERGING = MLPStudent(learning_rate_init=1e30, max_iter=50, random_state=0)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ({"teacher": BrokenTeacher("nan")}, "row 2 is not finite"),
        ({"student": DIVERGING}, "the training diverged"),
        ({"mixing_weight": 2.0}, "'mixing_weight' parameter"),
        ({"cv": 50}, "n_splits=50 cannot be greater"),
    ],
    ids=["teacher", "student", "parameter", "cv"],
)
@pytest.mark.parametrize("student", STUDENTS[:3], ids=lambda s: type(s).__name__)
def test_a_failed_fit_leaves_an_earlier_one_usable(
    failure, message, student, three_classes
):
    X, y = three_classes
    table = pd.DataFrame(X, columns=list("abcd"))
    distilled = DistillationClassifier(
        GaussianNB(), student, keep_teacher=True, cv=3, mixing_weight=0.5
    ).fit(table, y)
    before = distilled.predict_proba(table)
    state = dict(distilled.__dict__)
    distilled.set_params(**failure)
    with pytest.raises(ValueError, match=message):
        distilled.fit(table[["a", "b", "c"]].iloc[::-1], np.array(["x", "y", "z"])[y])
    assert distilled.n_features_in_ == 4
    assert list(distilled.feature_names_in_) == list("abcd")
    assert_array_equal(distilled.classes_, [0, 1, 2])
    assert distilled.teacher_ is state["teacher_"]
    assert_array_equal(distilled.predict_proba(table), before)


@pytest.mark.parametrize("student", STUDENTS[:2], ids=lambda s: type(s).__name__)
def test_a_failed_fit_leaves_an_earlier_student_usable(student, three_classes):
    X, y = three_classes
    fitted = clone(student).fit(X, y)
    before = fitted.predict_proba(X)
    with pytest.raises(ValueError, match="infinity"):
        fitted.fit(np.full((6, 2), np.inf), [0, 1] * 3)
    with pytest.raises(ValueError, match="soft_labels must have shape"):
        fitted.fit(X[:, :2], y, soft_labels=THIRDS[:, :2])
    assert fitted.n_features_in_ == 4
    assert_array_equal(fitted.predict_proba(X), before)


def test_predicting_before_fitting():
    for method in ("predict", "predict_proba", "decision_function"):
        with pytest.raises(ValueError, match="not fitted yet"):
            getattr(DistillationClassifier(mixing_weight=0.5), method)(np.ones((2, 2)))
