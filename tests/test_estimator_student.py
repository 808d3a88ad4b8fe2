import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import make_classification
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    SGDClassifier,
)
from sklearn.model_selection import StratifiedKFold
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils._param_validation import InvalidParameterError

from skdistill import DistillationClassifier, DistillationClassifierCV
from skdistill.students import EstimatorStudent, LinearStudent, MLPStudent
from skdistill.teachers import TableTeacher


def data(n_classes=3, n_samples=150):
    return make_classification(
        n_samples,
        n_features=6,
        n_informative=4,
        n_classes=n_classes,
        flip_y=0.1,
        random_state=0,
    )


def soft(n_samples, n_classes=3):
    return np.random.default_rng(2).dirichlet(np.ones(n_classes), size=n_samples)


def weights(n_samples):
    return np.random.default_rng(1).uniform(0.2, 3.0, size=n_samples)


class Counter(TransformerMixin, BaseEstimator):
    """Doubles X; remembers, for all its clones, what it was fitted to."""

    fits = []

    def fit(self, X, y):
        self.fits.append((X, y))
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return 2 * X


@pytest.fixture
def fits():
    Counter.fits.clear()
    yield Counter.fits
    Counter.fits.clear()


class Recorder(DecisionTreeClassifier):
    """A tree that remembers the rows it was fitted to."""

    def fit(self, X, y, sample_weight=None):
        self.rows_ = (X, y, sample_weight)
        return super().fit(X, y, sample_weight=sample_weight)


# -- classifiers -------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_leaf_of_a_tree_is_the_mean_of_its_soft_labels(n_classes, weighted):
    X, y = data(n_classes)
    P = soft(len(y), n_classes)
    weight = weights(len(y)) if weighted else np.ones(len(y))
    student = EstimatorStudent(
        DecisionTreeClassifier(max_leaf_nodes=6, random_state=0), min_proba=0.0
    ).fit(X, y, sample_weight=weight, soft_labels=P)
    leaves = student.estimator_.apply(X)
    assert len(np.unique(leaves)) == 6
    proba = student.predict_proba(X)
    for leaf in np.unique(leaves):
        rows = leaves == leaf
        expected = np.average(P[rows], axis=0, weights=weight[rows])
        assert_allclose(proba[rows], np.tile(expected, (rows.sum(), 1)), rtol=1e-9)


def test_a_learner_of_log_loss_minimises_the_distilled_risk():
    X, y = data()
    P, weight = soft(len(y)), weights(len(y))
    student = EstimatorStudent(LogisticRegression(tol=1e-9, max_iter=5000))
    student.fit(X, y, sample_weight=weight, soft_labels=P)
    linear = LinearStudent(tol=1e-9).fit(X, y, sample_weight=weight, soft_labels=P)
    assert_allclose(student.predict_proba(X), linear.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (LogisticRegression(), True),
        (make_pipeline(StandardScaler(), LogisticRegression()), True),
        (make_pipeline(StandardScaler(), LinearStudent()), True),
        (LogisticRegressionCV(), False),
        (make_pipeline(StandardScaler(), LogisticRegressionCV()), False),
        (DecisionTreeClassifier(), False),
    ],
)
def test_training_that_ends_in_one_minimum(estimator, expected):
    assert EstimatorStudent(estimator)._ends_in_one_minimum() is expected


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(10, random_state=0),
        LogisticRegression(),
        DecisionTreeClassifier(random_state=0),
        GaussianNB(),
    ],
)
def test_one_hot_soft_labels_are_labels(estimator):
    X, y = data()
    names = np.array(["c", "a", "b"])[y]
    P = (names[:, None] == np.array(["a", "b", "c"])).astype(float)
    expected = clone(estimator).fit(X, names, sample_weight=np.ones(len(y)))
    for given in (P, None):
        student = EstimatorStudent(estimator).fit(X, names, soft_labels=given)
        assert_array_equal(student.predict_proba(X), expected.predict_proba(X))
        assert_array_equal(student.predict(X), expected.predict(X))


def test_each_row_is_fitted_once_a_class_weighted_by_its_probability():
    X = np.array([[0.0], [1.0], [2.0]])
    P = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    student = EstimatorStudent(Recorder()).fit(
        X, ["a", "b", "c"], sample_weight=[1.0, 2.0, 10.0], soft_labels=P
    )
    rows, labels, weight = student.estimator_.rows_
    got = sorted(zip(rows[:, 0], labels, weight, strict=True))
    assert got == [
        (0.0, "a", 0.5),
        (0.0, "b", 0.5),
        (1.0, "a", 2.0),
        (2.0, "a", 2.0),
        (2.0, "b", 3.0),
        (2.0, "c", 5.0),
    ]


@pytest.mark.parametrize(("min_proba", "n_rows"), [(0.0, 6), (0.05, 5), (0.25, 3)])
def test_probabilities_below_min_proba_are_left_out(min_proba, n_rows):
    X = np.array([[0.0], [1.0], [2.0]])
    P = np.array([[0.99, 0.01], [0.8, 0.2], [0.1, 0.9]])
    student = EstimatorStudent(Recorder(), min_proba=min_proba)
    student.fit(X, [0, 0, 1], soft_labels=P)
    rows, _, weight = student.estimator_.rows_
    assert len(rows) == n_rows
    assert_allclose(weight.sum(), P[min_proba < P].sum())


def test_a_class_that_no_soft_label_has_keeps_its_column():
    X, y = data()
    P = soft(len(y), 2)[:, [0, 1, 1]]
    P[:, 1] = 0.0
    P[:, 2] = 1.0 - P[:, 0]
    student = EstimatorStudent(DecisionTreeClassifier(max_depth=2)).fit(
        X, y, soft_labels=P
    )
    assert_array_equal(student.classes_, [0, 1, 2])
    assert_array_equal(student.estimator_.classes_, [0, 2])
    proba = student.predict_proba(X)
    assert_array_equal(proba[:, 1], 0.0)
    assert_array_equal(proba[:, [0, 2]], student.estimator_.predict_proba(X))
    assert np.isneginf(student.predict_log_proba(X)[:, 1]).all()
    assert np.isfinite(student.decision_function(X)).all()


def test_rows_of_weight_zero_are_as_if_absent():
    X, y = data()
    P = soft(len(y))
    present = np.arange(len(y)) % 3 > 0
    for estimator in (
        RandomForestClassifier(10, random_state=0),
        Ridge(),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ):
        student = EstimatorStudent(estimator)
        weighted = clone(student).fit(
            X, y, sample_weight=present.astype(float), soft_labels=P
        )
        absent = clone(student).fit(X[present], y[present], soft_labels=P[present])
        assert_array_equal(weighted.predict_proba(X), absent.predict_proba(X))


def noisy_labels():
    """Labels, and soft labels that lean towards them by a little only."""
    X, y = make_classification(
        200, n_features=4, n_informative=4, n_redundant=0, flip_y=0, random_state=1
    )
    return X, y, np.where(np.eye(2)[y] == 1, 0.6, 0.4)


@pytest.mark.parametrize("masks", [False, True])
def test_copies_of_a_row_stay_on_one_side_of_a_split(masks):
    """Held out apart, each copy would be known as a row of the other class."""
    X, y, P = noisy_labels()
    forest = RandomForestClassifier(15, random_state=0)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    if masks:
        tests = [np.isin(np.arange(len(y)), test) for _, test in folds.split(X, y)]
        folds = [(~test, test) for test in tests]
    student = EstimatorStudent(CalibratedClassifierCV(forest, cv=folds))
    student.fit(X, y, soft_labels=P)
    assert student.score(X, y) > 0.9
    rows = np.repeat(np.arange(len(y)), 2)
    assert len(student.estimator_.cv) == 3
    for train, test in student.estimator_.cv:
        assert len(train) + len(test) == len(rows)
        assert not np.isin(rows[train], rows[test]).any()


def test_no_copy_is_held_out_to_stop_early():
    X, y, P = noisy_labels()
    boosting = HistGradientBoostingClassifier(max_iter=3)
    assert boosting.early_stopping == "auto"
    student = EstimatorStudent(boosting).fit(X, y, soft_labels=P)
    assert student.estimator_.get_params()["early_stopping"] is False
    for estimator, name in [
        (boosting, "early_stopping"),
        (make_pipeline(boosting), "early_stopping"),
        (BaggingClassifier(boosting), "estimator__early_stopping"),
    ]:
        stopping = clone(estimator)
        last = stopping[-1] if isinstance(stopping, Pipeline) else stopping
        last.set_params(**{name: True})
        with pytest.raises(ValueError, match=f"^student: {name}=True .* {name}=False"):
            EstimatorStudent(stopping).fit(X, y, soft_labels=P)


class Witness(GaussianNB):
    """Remembers, for all its clones, rows scored out-of-fold that a fit had seen."""

    seen = []

    def fit(self, X, y, sample_weight=None):
        self.rows_ = X[:, 0]
        return super().fit(X, y, sample_weight)

    def predict_proba(self, X):
        # The rows of a fit are scored as well, for in-sample soft labels.
        if not np.array_equal(X[:, 0], self.rows_):
            self.seen.append(np.isin(X[:, 0], self.rows_).sum())
        return super().predict_proba(X)


@pytest.mark.parametrize(("cv", "n_scored"), [(3, 9), (None, 25)])
def test_no_teacher_within_scores_a_copy_of_a_row_that_it_has_seen(cv, n_scored):
    """Of rows without some classes, folds of the copies do not match those of rows."""
    X, y = data()
    P = np.where(soft(len(y)) < 0.2, 0.0, soft(len(y)))
    P /= P.sum(axis=1, keepdims=True)
    Witness.seen.clear()
    search = DistillationClassifierCV(
        Witness(), LinearStudent(), temperatures=[1.0], mixing_weights=[1.0], cv=cv
    )
    student = EstimatorStudent(search).fit(X, y, soft_labels=P)
    assert student.estimator_.teacher_cv == "shared"
    assert len(Witness.seen) == n_scored
    assert not any(Witness.seen)
    # Labels are no copies, and a frozen teacher is fitted to none.
    assert clone(student).fit(X, y).estimator_.teacher_cv == "auto"
    frozen = FrozenEstimator(GaussianNB().fit(X, y))
    search = DistillationClassifierCV(frozen, LinearStudent(), teacher_cv=3)
    assert EstimatorStudent(search).fit(X, y, soft_labels=P).estimator_.teacher_cv == 3


@pytest.mark.parametrize("teacher_cv", [None, 3, StratifiedKFold(3)])
def test_folds_within_the_training_rows_of_a_search_are_refused(teacher_cv):
    X, y = data()
    search = DistillationClassifierCV(
        GaussianNB(), LinearStudent(), teacher_cv=teacher_cv
    )
    with pytest.raises(ValueError, match=r"^student: teacher_cv=.*='shared'\.$"):
        EstimatorStudent(search).fit(X, y, soft_labels=soft(len(y)))


def test_the_default_student_of_a_distiller_holds_out_no_copy():
    X, y, P = noisy_labels()
    distiller = DistillationClassifier(
        GaussianNB(), mixing_weight=0.5, cv=2, random_state=0
    )
    by_default = EstimatorStudent(distiller).fit(X, y, soft_labels=P)
    own = MLPStudent(early_stopping=False, random_state=0)
    spelt_out = EstimatorStudent(clone(distiller).set_params(student=own))
    spelt_out.fit(X, y, soft_labels=P)
    assert by_default.estimator_.student.early_stopping is False
    assert_array_equal(by_default.predict_proba(X), spelt_out.predict_proba(X))


@pytest.mark.parametrize("teacher", [None, TableTeacher(random_state=0)])
def test_the_default_teacher_of_a_distiller_holds_out_no_copy(teacher):
    X, y, P = noisy_labels()
    distiller = DistillationClassifier(
        teacher, LinearStudent(), cv=2, mixing_weight=1.0, random_state=0
    )
    by_default = EstimatorStudent(distiller).fit(X, y, soft_labels=P)
    boosting = by_default.estimator_.teacher.estimator
    assert boosting.early_stopping is False
    assert boosting.random_state == 0
    assert distiller.teacher is teacher
    if teacher is not None:
        assert teacher.estimator is None
    frozen = FrozenEstimator(TableTeacher().fit(X, y))
    EstimatorStudent(clone(distiller).set_params(teacher=frozen)).fit(
        X, y, soft_labels=P
    )
    assert frozen.estimator.estimator is None


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (GradientBoostingClassifier(n_estimators=3), "n_iter_no_change"),
        (
            make_pipeline(GradientBoostingClassifier(n_estimators=3)),
            "n_iter_no_change",
        ),
        (
            BaggingClassifier(GradientBoostingClassifier(n_estimators=3), 2),
            "estimator__n_iter_no_change",
        ),
    ],
    ids=["boosting", "pipeline", "bagging"],
)
def test_no_copy_is_held_out_where_a_number_turns_early_stopping_on(estimator, name):
    X, y, P = noisy_labels()
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    EstimatorStudent(estimator).fit(X, y, soft_labels=P)
    last.set_params(**{name: 2})
    EstimatorStudent(estimator).fit(X, y)
    with pytest.raises(ValueError, match=f"^student: {name}=2 of .* {name}=None"):
        EstimatorStudent(estimator).fit(X, y, soft_labels=P)


@pytest.mark.parametrize(
    "estimator",
    [
        SGDClassifier(loss="log_loss", n_iter_no_change=3, random_state=0),
        MLPClassifier((3,), max_iter=300, n_iter_no_change=3, tol=0.1, random_state=0),
        HistGradientBoostingClassifier(max_iter=3, n_iter_no_change=2),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_a_number_of_epochs_without_a_hold_out_is_left_alone(estimator):
    X, y, P = noisy_labels()
    student = EstimatorStudent(estimator).fit(X, y, soft_labels=P)
    assert student.estimator_.n_iter_no_change == estimator.n_iter_no_change


def test_without_copies_a_split_is_left_as_it_is():
    X, y, _ = noisy_labels()
    boosting = HistGradientBoostingClassifier(max_iter=3)
    for early_stopping in ("auto", True):
        boosting.set_params(early_stopping=early_stopping)
        student = EstimatorStudent(boosting).fit(X, y, soft_labels=np.eye(2)[y])
        assert student.estimator_.early_stopping == early_stopping
    calibrated = CalibratedClassifierCV(GaussianNB(), cv=3)
    student = EstimatorStudent(calibrated).fit(X, y, soft_labels=np.eye(2)[y])
    assert student.estimator_.cv == 3
    assert_array_equal(student.predict_proba(X), calibrated.fit(X, y).predict_proba(X))


def test_min_proba_leaves_each_row_its_likeliest_class():
    """As many copies as rows need not be one of each; none below it keeps one."""
    X = np.array([[0.0], [1.0], [2.0]])
    P = np.array([[0.39, 0.31, 0.30], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    tree = EstimatorStudent(DecisionTreeClassifier(random_state=0), min_proba=0.4)
    proba = tree.fit(X, [0, 1, 2], soft_labels=P).predict_proba(X)
    assert_allclose(proba, [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1]])
    P[0], P[2] = [0.1, 0.2, 0.7], [0.4, 0.35, 0.25]
    shifted = clone(tree).set_params(min_proba=0.45).fit(X, [0, 1, 2], soft_labels=P)
    assert shifted.estimator_.tree_.n_node_samples[0] == 4
    expected = [[0, 0, 1], [0.5, 0.5, 0], [1, 0, 0]]
    assert_allclose(shifted.predict_proba(X), expected)


# -- regressors --------------------------------------------------------------------


def ridge_prediction(X, targets, weight, penalty):
    """Weighted ridge regression in closed form; the intercept is not penalised."""
    mean = np.average(X, axis=0, weights=weight)
    centred, target_mean = X - mean, np.average(targets, axis=0, weights=weight)
    gram = centred.T @ (weight[:, None] * centred) + penalty * np.eye(X.shape[1])
    coef = np.linalg.solve(
        gram, centred.T @ (weight[:, None] * (targets - target_mean))
    )
    return centred @ coef + target_mean


@pytest.mark.parametrize("weighted", [False, True, "equally"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_regressor_is_fitted_to_the_probabilities(n_classes, weighted):
    X, y = data(n_classes)
    P = soft(len(y), n_classes)
    P[: len(y) // 2] = np.eye(n_classes)[y[: len(y) // 2]]
    weight = weights(len(y)) if weighted is True else np.full(len(y), 1.0)
    if weighted == "equally":
        weight *= 3.0
    student = EstimatorStudent(Ridge(alpha=0.7)).fit(
        X, y, sample_weight=weight, soft_labels=P
    )
    far = 5 * X
    assert not np.array_equal(X, far)
    for rows in (X, far):
        raw = student.estimator_.predict(rows)
        raw = np.column_stack([1 - raw, raw]) if n_classes == 2 else raw
        clipped = np.clip(raw, 0, None)
        expected = clipped / clipped.sum(axis=1, keepdims=True)
        assert_allclose(student.predict_proba(rows), expected, atol=1e-12)
    assert (student.predict_proba(far) == 0).any()
    raw = student.estimator_.predict(X)
    closed_form = ridge_prediction(X, P, weight, 0.7)
    assert_allclose(
        raw, closed_form[:, 1] if n_classes == 2 else closed_form, atol=1e-9
    )


def test_a_regressor_of_one_output_is_fitted_once_a_class():
    X, y = data()
    P, weight = soft(len(y)), weights(len(y))
    regressor = GradientBoostingRegressor(n_estimators=3, random_state=0)
    student = EstimatorStudent(regressor).fit(X, y, sample_weight=weight, soft_labels=P)
    assert isinstance(student.estimator_, MultiOutputRegressor)
    raw = np.column_stack(
        [clone(regressor).fit(X, p, sample_weight=weight).predict(X) for p in P.T]
    )
    assert raw.min() > 0
    expected = raw / raw.sum(axis=1, keepdims=True)
    assert_allclose(student.predict_proba(X), expected, rtol=1e-12)


def test_a_regressor_that_gives_only_negative_values_is_undecided():
    X, y = data()

    class Negative(Ridge):
        def predict(self, X):
            return -np.abs(super().predict(X))

    proba = EstimatorStudent(Negative()).fit(X, y).predict_proba(X)
    assert_array_equal(proba, np.full((len(y), 3), 1 / 3))


def test_weights_that_a_regressor_cannot_take_are_an_error():
    X, y = data()
    student = EstimatorStudent(KNeighborsRegressor())
    with pytest.raises(ValueError, match="KNeighborsRegressor does not take"):
        student.fit(X, y, sample_weight=weights(len(y)))
    unweighted = clone(student).fit(X, y).predict_proba(X)
    constant = clone(student).fit(X, y, sample_weight=np.full(len(y), 2.0))
    assert_array_equal(constant.predict_proba(X), unweighted)


# -- pipelines ---------------------------------------------------------------------

LAST_STEPS = [
    LinearStudent(),
    MLPStudent((4,), max_iter=3, random_state=0),
    DecisionTreeClassifier(max_depth=3, random_state=0),
    Ridge(),
    EstimatorStudent(Ridge()),
]


@pytest.mark.parametrize("last", LAST_STEPS, ids=lambda last: type(last).__name__)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_head_of_a_pipeline_is_fitted_once_to_the_rows_themselves(
    last, weighted, fits
):
    X, y = data()
    P = soft(len(y))
    weight = weights(len(y)) if weighted else None
    student = EstimatorStudent(make_pipeline(Counter(), last))
    student.fit(X, y, sample_weight=weight, soft_labels=P)
    ((seen_X, seen_y),) = fits
    assert_array_equal(seen_X, X)
    assert_array_equal(seen_y, y)
    alone = last if isinstance(last, LinearStudent | MLPStudent) else None
    alone = clone(alone) if alone is not None else EstimatorStudent(last)
    alone.fit(2 * X, y, sample_weight=weight, soft_labels=P)
    assert_allclose(student.predict_proba(X), alone.predict_proba(2 * X), rtol=1e-12)
    assert len(fits) == 1


@pytest.mark.parametrize("last", LAST_STEPS, ids=lambda last: type(last).__name__)
def test_fitting_a_pipeline_leaves_the_one_passed_unfitted(last):
    X, y = data()
    pipeline = make_pipeline(StandardScaler(), last)
    student = EstimatorStudent(pipeline).fit(X, y)
    assert pipeline[0] is not student.estimator_[0]
    assert not hasattr(pipeline[0], "mean_")
    assert not hasattr(pipeline[-1], "classes_")
    assert_array_equal(clone(student).fit(X, y).predict(X), student.predict(X))


def test_a_student_in_a_pipeline_may_have_a_student_temperature():
    X, y = data()
    P = soft(len(y))
    student = EstimatorStudent(make_pipeline(StandardScaler(), LinearStudent()))
    student._fit_distillation(X, y, None, P, 0.5, 3.0)
    scaled = StandardScaler().fit_transform(X)
    alone = LinearStudent()._fit_distillation(scaled, y, None, P, 0.5, 3.0)
    assert_allclose(student.predict_proba(X), alone.predict_proba(scaled), rtol=1e-9)
    plain = LinearStudent().fit(scaled, y, soft_labels=P)
    assert (
        np.abs(plain.predict_proba(scaled) - alone.predict_proba(scaled)).max() > 0.01
    )


def test_the_cache_of_a_pipeline_is_used(tmp_path, fits):
    X, y = data()
    pipeline = make_pipeline(
        StandardScaler(), Counter(), GaussianNB(), memory=str(tmp_path)
    )
    proba = [
        EstimatorStudent(pipeline).fit(X, y, soft_labels=soft(len(y))).predict_proba(X)
        for _ in range(3)
    ]
    assert len(fits) == 1
    assert_array_equal(proba[0], proba[2])


# -- kinds of inputs ---------------------------------------------------------------


@pytest.mark.parametrize("last", [LinearStudent(), DecisionTreeClassifier(), Ridge()])
def test_data_frames_go_through_a_pipeline(last):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"size": rng.normal(size=60), "colour": rng.choice(["red", "blue"], size=60)}
    )
    y = np.where(frame["colour"] == "red", "stop", "go")
    P = np.where((y == "stop")[:, None], [0.1, 0.9], [0.7, 0.3])
    columns = make_column_transformer(
        (OneHotEncoder(), ["colour"]), (StandardScaler(), ["size"])
    )
    student = EstimatorStudent(make_pipeline(columns, last)).fit(
        frame, y, soft_labels=pd.DataFrame(P, columns=["go", "stop"])
    )
    assert_array_equal(student.feature_names_in_, ["size", "colour"])
    assert_array_equal(student.predict(frame), y)
    assert_allclose(student.predict_proba(frame), P, atol=0.1)
    with pytest.raises(ValueError, match="columns are missing"):
        student.predict(frame.rename(columns={"size": "weight"}))


@pytest.mark.parametrize(
    "estimator",
    [DecisionTreeClassifier(random_state=0), Ridge(solver="lsqr"), LinearStudent()],
)
def test_sparse_inputs_give_the_same_student(estimator):
    X, y = data()
    X = np.where(np.abs(X) > 1, X, 0)
    P = soft(len(y))
    student = EstimatorStudent(estimator)
    dense = clone(student).fit(X, y, soft_labels=P).predict_proba(X)
    sparse = clone(student).fit(sp.csr_array(X), y, soft_labels=P)
    assert_allclose(sparse.predict_proba(sp.csr_array(X)), dense, atol=1e-3)


@pytest.mark.parametrize("last", [LinearStudent(), DecisionTreeClassifier(), Ridge()])
def test_lists_of_text_go_through_a_pipeline(last):
    texts = ["good film", "bad film", "good actor", "bad actor"] * 5
    y = [1, 0, 1, 0] * 5
    P = np.array([[0.1, 0.9], [0.8, 0.2]] * 10)
    student = EstimatorStudent(make_pipeline(CountVectorizer(), last))
    student.fit(texts, y, sample_weight=np.ones(20), soft_labels=P)
    assert_array_equal(student.predict(["a good book", "a bad book"]), [1, 0])


def test_missing_values_are_left_to_the_estimator():
    X, y = data()
    X[::5, 0] = np.nan
    student = EstimatorStudent(DecisionTreeClassifier(max_depth=3)).fit(
        X, y, soft_labels=soft(len(y))
    )
    assert np.isfinite(student.predict_proba(X)).all()
    with pytest.raises(ValueError, match="NaN"):
        EstimatorStudent(LogisticRegression()).fit(X, y)


# -- what cannot be a student --------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (KNeighborsClassifier(), "KNeighborsClassifier does not take sample_weight"),
        (LinearSVC(), "LinearSVC has no predict_proba"),
        (KMeans(), "must be a classifier, a regressor, a Pipeline .* got KMeans"),
    ],
)
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_an_estimator_that_cannot_be_a_student_is_an_error(
    estimator, message, in_pipeline
):
    X, y = data()
    if in_pipeline:
        estimator = make_pipeline(StandardScaler(), estimator)
    with pytest.raises(TypeError, match=message):
        EstimatorStudent(estimator).fit(X, y)


@pytest.mark.parametrize(
    "estimator",
    [
        DecisionTreeClassifier(),
        DecisionTreeRegressor(),
        make_pipeline(StandardScaler(), DecisionTreeClassifier()),
    ],
)
def test_an_estimator_that_takes_no_texts_says_what_to_do(estimator):
    frame = pd.DataFrame({"size": [1.0, 2, 3, 4], "city": list("abab")})
    message = rf"The student {type(estimator).__name__} takes numbers, .*\['city'\]"
    with pytest.raises(ValueError, match=rf"{message}.* an encoder .*LinearStudent"):
        EstimatorStudent(estimator).fit(frame, [0, 1, 0, 1])
    # Sentences are no table, and the error is the estimator's own.
    texts = np.array(["a b", "c", "d", "e"], dtype=object)
    with pytest.raises(ValueError, match=r"^could not convert|^Expected 2D array"):
        EstimatorStudent(estimator).fit(texts, [0, 1, 0, 1])


@pytest.mark.parametrize("min_proba", [-0.1, 1.0])
def test_min_proba_is_in_the_unit_interval(min_proba):
    X, y = data()
    with pytest.raises(ValueError, match="The 'min_proba' parameter"):
        EstimatorStudent(DecisionTreeRegressor(), min_proba=min_proba).fit(X, y)


@pytest.mark.parametrize("distilled", [True, False])
def test_parameters_of_the_estimator_are_validated(distilled, three_classes):
    """By scikit-learn, as if the estimator were fitted alone."""
    X, y = three_classes
    model = EstimatorStudent(DecisionTreeClassifier(max_depth=-3))
    if distilled:
        model = DistillationClassifier(GaussianNB(), model)
    with pytest.raises(InvalidParameterError, match="'max_depth' parameter"):
        model.fit(X, y)
