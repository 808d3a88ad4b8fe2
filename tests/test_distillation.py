import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, StackingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from stubs import (
    LoggedTeacher,
    ReversedTeacher,
    ScoreTeacher,
    SeenTeacher,
    SubsetTeacher,
    n_fits,
)

from skdistill import DistillationClassifier
from skdistill.losses import distillation_loss, soft_cross_entropy, temper_proba
from skdistill.metrics import teacher_agreement_score
from skdistill.students import EstimatorStudent, LinearStudent, MLPStudent

EXACT = LinearStudent(C=np.inf, tol=1e-10, max_iter=5000)
TREE = DecisionTreeClassifier(min_samples_leaf=5, random_state=0)
SMALL_MLP = MLPStudent((16,), max_iter=80, learning_rate_init=0.02, random_state=0)
STUDENTS = {
    "LinearStudent": LinearStudent(C=10),
    "MLPStudent": SMALL_MLP,
    "tree": DecisionTreeClassifier(min_samples_leaf=5, random_state=0),
    "regression tree": DecisionTreeRegressor(min_samples_leaf=5, random_state=0),
    "ridge": Ridge(),
    "pipeline": make_pipeline(StandardScaler(), LinearStudent(C=10)),
}


@pytest.fixture(params=STUDENTS)
def student(request):
    return clone(STUDENTS[request.param])


def linear_teacher(X, n_classes=3, seed=0):
    """Probabilities that a linear student can reproduce."""
    rng = np.random.default_rng(seed)
    return softmax(X @ rng.normal(size=(X.shape[1], n_classes)), axis=1)


# -- the objective -----------------------------------------------------------------


def test_with_mixing_weight_one_wrong_labels_do_not_matter(student, three_classes):
    X, y = three_classes
    teacher = FrozenEstimator(LogisticRegression().fit(X, y))
    shuffled = np.random.default_rng(0).permutation(y)

    def agreement(mixing_weight):
        distilled = DistillationClassifier(
            teacher, student, mixing_weight=mixing_weight
        ).fit(X, shuffled)
        return teacher_agreement_score(
            teacher.predict_proba(X), distilled.predict_proba(X)
        )

    assert agreement(1.0) > 0.85
    assert agreement(0.0) < 0.75


@pytest.mark.parametrize("name", ["LinearStudent", "MLPStudent", "tree", "pipeline"])
@pytest.mark.parametrize("weighted", [False, True])
def test_with_mixing_weight_zero_the_student_is_alone(name, weighted, data, fit_log):
    X, y = data
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y)) if weighted else None
    student = STUDENTS[name]
    distilled = DistillationClassifier(
        LoggedTeacher(fit_log), student, mixing_weight=0.0, keep_teacher=True
    ).fit(X, y, sample_weight=weight, X_unlabeled=X[:5])
    assert n_fits(fit_log) == 0
    assert not hasattr(distilled, "teacher_")
    alone = EstimatorStudent(student) if name == "pipeline" else clone(student)
    alone.fit(X, y, sample_weight=weight)
    assert_array_equal(distilled.predict_proba(X), alone.predict_proba(X))


def test_the_default_student_is_an_mlp_with_the_same_seed(two_classes):
    X, y = two_classes
    distilled = DistillationClassifier(mixing_weight=0.0, random_state=3).fit(X, y)
    alone = MLPStudent(random_state=3).fit(X, y)
    assert_array_equal(distilled.predict_proba(X), alone.predict_proba(X))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_same_temperature_on_both_sides_reproduces_the_teacher(
    temperature, frozen, data
):
    """At temperature 1: the temperature of the training is undone."""
    X, y = data
    teacher = LogisticRegression(C=10).fit(X, y)
    target = teacher.predict_proba(X)
    distilled = DistillationClassifier(
        FrozenEstimator(teacher),
        EXACT,
        temperature=temperature,
        student_temperature="same",
        mixing_weight=1.0,
    ).fit(X, y, soft_labels=None if frozen else target)
    assert_allclose(distilled.predict_proba(X), target, atol=1e-3)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 5.0])
def test_the_paper_s_form_reproduces_the_tempered_teacher(temperature, data):
    X, y = data
    proba = linear_teacher(X, len(np.unique(y)))
    distilled = DistillationClassifier(
        student=EXACT, temperature=temperature, mixing_weight=1.0
    ).fit(X, y, soft_labels=proba)
    tempered = temper_proba(proba, temperature)
    assert np.abs(tempered - proba).max() > 0.05
    assert_allclose(distilled.predict_proba(X), tempered, atol=1e-3)


def gradient(loss, parameters, step=1e-5):
    """Central differences."""
    slopes = np.empty_like(parameters)
    for i in range(parameters.size):
        moved = np.zeros_like(parameters)
        moved.flat[i] = step
        slopes.flat[i] = (loss(parameters + moved) - loss(parameters - moved)) / (
            2 * step
        )
    return slopes


def table_of(student):
    return np.column_stack([student.coef_, student.intercept_])


def logits_of(table, X):
    scores = X @ table[:, :-1].T + table[:, -1]
    if scores.shape[1] == 1:
        scores = np.column_stack([np.zeros(len(X)), scores])
    return scores


def random_problem(seed, n_classes, n_samples=40):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 3))
    proba = rng.dirichlet(np.ones(n_classes), size=n_samples)
    y = np.r_[np.arange(n_classes), rng.integers(n_classes, size=n_samples)]
    return X, y[:n_samples], proba, rng.uniform(0.5, 2, size=n_samples)


unit = st.floats(0.05, 1.0)
temperatures = st.floats(0.4, 5.0)


@settings(max_examples=20)
@given(st.integers(0, 999), st.sampled_from([2, 3]), unit, temperatures, temperatures)
def test_the_fit_is_a_stationary_point_of_the_objective(
    seed, n_classes, mixing_weight, temperature, student_temperature
):
    X, y, proba, weight = random_problem(seed, n_classes)
    settings = {
        "mixing_weight": mixing_weight,
        "temperature": temperature,
        "student_temperature": student_temperature,
    }
    distilled = DistillationClassifier(student=EXACT, **settings).fit(
        X, y, sample_weight=weight, soft_labels=proba
    )

    def loss(table):
        logits = logits_of(table, X)
        return distillation_loss(y, proba, logits, sample_weight=weight, **settings)

    assert_allclose(gradient(loss, table_of(distilled.student_)), 0, atol=2e-5)


@settings(max_examples=10)
@given(st.integers(0, 999), unit, temperatures, temperatures)
def test_unlabelled_rows_enter_the_soft_term_only(
    seed, mixing_weight, temperature, student_temperature
):
    X, y, proba, weight = random_problem(seed, 3)
    pool, _, pool_proba, _ = random_problem(seed + 1, 3, n_samples=25)
    settings = {
        "mixing_weight": mixing_weight,
        "temperature": temperature,
        "student_temperature": student_temperature,
    }
    distilled = DistillationClassifier(student=EXACT, **settings).fit(
        X,
        y,
        sample_weight=weight,
        soft_labels=proba,
        X_unlabeled=pool,
        soft_labels_unlabeled=pool_proba,
    )

    def loss(table):
        labelled = distillation_loss(
            y, proba, logits_of(table, X), reduction="none", **settings
        )
        unlabelled = soft_cross_entropy(
            temper_proba(pool_proba, temperature),
            logits_of(table, pool),
            temperature=student_temperature,
            reduction="none",
        )
        factor = mixing_weight * student_temperature**2
        total = weight @ labelled + factor * unlabelled.sum()
        return total / (weight.sum() + mixing_weight * len(pool))

    assert_allclose(gradient(loss, table_of(distilled.student_)), 0, atol=2e-5)


def test_same_means_the_number_of_the_teacher_s_temperature(three_classes, soft_labels):
    X, y = three_classes
    proba = [
        DistillationClassifier(
            student=EXACT,
            temperature=3.0,
            student_temperature=student_temperature,
            mixing_weight=0.5,
        )
        .fit(X, y, soft_labels=soft_labels)
        .predict_proba(X)
        for student_temperature in ("same", 3.0, 1.0)
    ]
    assert_array_equal(proba[0], proba[1])
    assert np.abs(proba[0] - proba[2]).max() > 1e-3


@pytest.mark.parametrize("mixing_weight", [0.3, 1.0])
def test_one_hot_soft_labels_are_labels(student, mixing_weight, data):
    X, y = data
    one_hot = np.eye(len(np.unique(y)))[y]
    soft = DistillationClassifier(
        student=student, mixing_weight=mixing_weight, temperature=2.0
    ).fit(X, y, soft_labels=one_hot)
    hard = DistillationClassifier(student=student, mixing_weight=0.0).fit(X, y)
    assert_allclose(soft.predict_proba(X), hard.predict_proba(X), atol=1e-12)


def test_mixed_labels_and_soft_labels_are_one_target(student, three_classes):
    """At student temperature 1, for students of any loss."""
    X, y = three_classes
    proba = linear_teacher(X)
    mixed = DistillationClassifier(student=student, mixing_weight=0.3).fit(
        X, y, soft_labels=proba
    )
    target = 0.7 * np.eye(3)[y] + 0.3 * proba
    alone = DistillationClassifier(student=student, mixing_weight=1.0).fit(
        X, y, soft_labels=target
    )
    assert_allclose(mixed.predict_proba(X), alone.predict_proba(X), atol=1e-12)


def test_auto_temperature_recovers_a_distortion(three_classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 3))
    truth = softmax(2 * X, axis=1)
    y = (rng.uniform(size=(4000, 1)) > truth.cumsum(axis=1)).sum(axis=1).clip(max=2)
    distilled = DistillationClassifier(
        student=LinearStudent(), temperature="auto", mixing_weight=1.0
    ).fit(X, y, soft_labels=temper_proba(truth, 0.5))
    assert_allclose(distilled.temperature_, 2.0, rtol=0.05)
    assert_allclose(distilled.predict_proba(X), truth, atol=0.02)


def test_auto_temperature_is_fitted_to_out_of_fold_probabilities(
    three_classes, fit_log
):
    X, y = three_classes
    teacher = LoggedTeacher(fit_log, var_smoothing=1e-9)
    distilled = DistillationClassifier(
        teacher, LinearStudent(), temperature="auto", cv=4, mixing_weight=0.5
    ).fit(X, y)
    assert n_fits(fit_log) == 4
    out_of_fold = cross_val_predict(GaussianNB(), X, y, cv=4, method="predict_proba")
    given_labels = DistillationClassifier(
        student=LinearStudent(), temperature="auto", mixing_weight=0.5
    ).fit(X, y, soft_labels=out_of_fold)
    assert distilled.temperature_ == given_labels.temperature_ != 1.0


# -- weights -----------------------------------------------------------------------

FULL_BATCH = MLPStudent(
    (8,),
    batch_size=None,
    max_iter=60,
    learning_rate_init=0.02,
    early_stopping=False,
    dtype="float64",
    random_state=0,
)
TIGHT = LinearStudent(tol=1e-10)


@pytest.mark.parametrize("labels_in_hand", [False, True])
@pytest.mark.parametrize("student_temperature", [1.0, 2.0])
def test_rows_of_weight_zero_are_as_if_absent(
    labels_in_hand, student_temperature, three_classes, soft_labels
):
    X, y = three_classes
    weight = np.random.default_rng(0).integers(0, 2, len(y)) * 1.5
    kept = weight > 0
    distilled = DistillationClassifier(
        GaussianNB(),
        TIGHT,
        cv="in-sample",
        student_temperature=student_temperature,
        mixing_weight=0.5,
    )
    given_all, given_kept = {}, {}
    if labels_in_hand:
        given_all["soft_labels"] = soft_labels
        given_kept["soft_labels"] = soft_labels[kept]
    weighted = clone(distilled).fit(X, y, sample_weight=weight, **given_all)
    absent = clone(distilled).fit(
        X[kept], y[kept], sample_weight=weight[kept], **given_kept
    )
    everything = clone(distilled).fit(X, y, **given_all)
    assert_allclose(weighted.predict_proba(X), absent.predict_proba(X), atol=1e-9)
    assert np.abs(everything.predict_proba(X) - absent.predict_proba(X)).max() > 1e-3


@pytest.mark.parametrize("student", [TIGHT, FULL_BATCH], ids=["linear", "mlp"])
def test_integer_weights_are_repeated_rows(student, three_classes, soft_labels):
    X, y = three_classes
    counts = np.random.default_rng(0).integers(0, 4, len(y))
    again = np.repeat(np.arange(len(y)), counts)
    for given_labels in (None, soft_labels):
        distilled = DistillationClassifier(
            GaussianNB(), student, cv="in-sample", mixing_weight=0.5
        )
        weighted = clone(distilled).fit(
            X, y, sample_weight=counts, soft_labels=given_labels
        )
        repeated = clone(distilled).fit(
            X[again],
            y[again],
            soft_labels=None if given_labels is None else given_labels[again],
        )
        assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-6)


# -- unlabelled rows ---------------------------------------------------------------


@pytest.mark.parametrize("mixing_weight", [0.4, 1.0])
def test_unlabelled_rows_are_appended_rows(mixing_weight, three_classes, soft_labels):
    X, y = three_classes
    X, pool, y = X[:80], X[80:], y[:80]
    soft, pool_soft = soft_labels[:80], soft_labels[80:]
    distilled = DistillationClassifier(student=TIGHT, mixing_weight=mixing_weight).fit(
        X, y, soft_labels=soft, X_unlabeled=pool, soft_labels_unlabeled=pool_soft
    )
    targets = (1 - mixing_weight) * np.eye(3)[y] + mixing_weight * soft
    alone = clone(TIGHT).fit(
        np.vstack([X, pool]),
        np.r_[y, np.zeros(len(pool), dtype=int)],
        sample_weight=np.r_[np.ones(80), np.full(len(pool), mixing_weight)],
        soft_labels=np.vstack([targets, pool_soft]),
    )
    assert_allclose(distilled.predict_proba(X), alone.predict_proba(X), atol=1e-9)


def test_unlabelled_rows_are_labelled_by_the_teacher_of_all_rows(three_classes):
    X, y = three_classes
    X, pool, y = X[:80], X[80:], y[:80]
    distilled = DistillationClassifier(
        GaussianNB(), LinearStudent(), temperature=2.0, cv=3, mixing_weight=0.5
    )
    by_teacher = clone(distilled).fit(X, y, X_unlabeled=pool)
    by_hand = clone(distilled).fit(
        X,
        y,
        X_unlabeled=pool,
        soft_labels_unlabeled=GaussianNB().fit(X, y).predict_proba(pool),
    )
    assert_array_equal(by_teacher.predict_proba(X), by_hand.predict_proba(X))
    without = clone(distilled).fit(X, y)
    assert np.abs(by_teacher.predict_proba(X) - without.predict_proba(X)).max() > 1e-4


def test_soft_labels_in_hand_still_need_the_teacher_for_unlabelled_rows(
    three_classes, soft_labels, fit_log
):
    X, y = three_classes
    distilled = DistillationClassifier(
        LoggedTeacher(fit_log), LinearStudent(), mixing_weight=0.5
    )
    distilled.fit(X[:80], y[:80], soft_labels=soft_labels[:80])
    assert n_fits(fit_log) == 0
    distilled.fit(X[:80], y[:80], soft_labels=soft_labels[:80], X_unlabeled=X[80:])
    assert n_fits(fit_log) == 1


def test_a_sparse_pool_is_a_dense_pool(three_classes, soft_labels):
    X, y = three_classes
    proba = []
    for convert in (np.asarray, sp.csr_array, sp.csr_matrix):
        distilled = DistillationClassifier(
            LogisticRegression(), LinearStudent(tol=1e-8), cv=3, mixing_weight=0.5
        ).fit(convert(X[:80]), y[:80], X_unlabeled=convert(X[80:]))
        proba.append(distilled.predict_proba(convert(X)))
    assert_allclose(proba[1], proba[0], atol=1e-5)
    assert_allclose(proba[2], proba[0], atol=1e-5)


def frame_student():
    return make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), ["size", "count"]),
            (OneHotEncoder(handle_unknown="ignore"), ["colour"]),
        ),
        LinearStudent(),
    )


def frame_teacher():
    return HistGradientBoostingClassifier(max_iter=10, random_state=0)


def test_a_pool_of_categories(frame):
    table, y = frame
    distilled = DistillationClassifier(
        frame_teacher(), frame_student(), cv=3, mixing_weight=0.5
    )
    pool_soft = np.tile([0.2, 0.8], (30, 1))
    with_pool = clone(distilled).fit(
        table[:50], y[:50], X_unlabeled=table[50:], soft_labels_unlabeled=pool_soft
    )
    without = clone(distilled).fit(table[:50], y[:50])
    difference = with_pool.predict_proba(table) - without.predict_proba(table)
    assert difference[:, 1].mean() > 0.01


def test_a_pool_may_list_its_categories_in_another_order(frame):
    """The student must get categories all the same, and not text."""
    table, y = frame
    pool = table[50:]
    other = pool.astype(
        {"colour": pd.CategoricalDtype(["blue", "pink", "red", "green"])}
    )
    distilled = DistillationClassifier(
        student=HistGradientBoostingClassifier(max_iter=10, min_samples_leaf=3),
        mixing_weight=0.5,
    )
    proba = [
        clone(distilled)
        .fit(
            table[:50],
            y[:50],
            soft_labels=np.where(y[:50, None] == ["no", "yes"], 0.9, 0.1),
            X_unlabeled=unlabeled,
            soft_labels_unlabeled=np.tile([0.2, 0.8], (30, 1)),
        )
        .predict_proba(table)
        for unlabeled in (pool, other)
    ]
    assert_array_equal(proba[0], proba[1])


def test_a_pool_of_texts(texts):
    X, y = texts
    teacher = make_pipeline(TfidfVectorizer(), LogisticRegression())
    student = make_pipeline(TfidfVectorizer(), LinearStudent())
    distilled = DistillationClassifier(teacher, student, cv=3, mixing_weight=0.5)
    pool = ["road zebra", "wheel zebra", "cat dog"]
    by_teacher = clone(distilled).fit(X, y, X_unlabeled=pool)
    by_hand = clone(distilled).fit(
        X,
        y,
        X_unlabeled=pool,
        soft_labels_unlabeled=teacher.fit(X, y).predict_proba(pool),
    )
    assert_array_equal(by_teacher.predict_proba(X), by_hand.predict_proba(X))
    # A word of the pool alone is known to a student that was fitted on the pool.
    road, zebra = by_teacher.predict_proba(["fur", "fur zebra"])[:, 0]
    assert zebra - road > 1e-3


# -- teachers ----------------------------------------------------------------------


def fitted_proba(teacher, X, y, **settings):
    settings = {"cv": 3, "mixing_weight": 1.0} | settings
    distilled = DistillationClassifier(teacher, LinearStudent(), **settings)
    return distilled.fit(X, y).predict_proba(X)


@pytest.mark.parametrize("cv", [3, "in-sample"])
def test_the_order_of_the_teacher_s_classes_does_not_matter(cv, data):
    X, y = data
    assert_allclose(
        fitted_proba(ReversedTeacher(), X, y, cv=cv),
        fitted_proba(GaussianNB(), X, y, cv=cv),
        rtol=1e-9,
    )


def test_a_frozen_teacher_with_reversed_classes(three_classes):
    X, y = three_classes
    teacher = FrozenEstimator(ReversedTeacher().fit(X, y))
    expected = FrozenEstimator(GaussianNB().fit(X, y))
    assert_allclose(
        fitted_proba(teacher, X, y), fitted_proba(expected, X, y), rtol=1e-9
    )


@pytest.mark.parametrize("frozen", [False, True])
def test_classes_unknown_to_the_teacher_get_probability_zero(frozen, three_classes):
    X, y = three_classes
    teacher = SubsetTeacher()
    if frozen:
        teacher = FrozenEstimator(teacher.fit(X, y))
    distilled = DistillationClassifier(
        teacher, LinearStudent(C=100), mixing_weight=1.0, cv=3
    )
    with pytest.warns(UserWarning, match=r"was not fitted on the classes \[2\]"):
        distilled.fit(X, y)
    assert distilled.predict_proba(X)[:, 2].max() < 0.02
    assert distilled.predict_proba(X)[:, :2].max(axis=0).min() > 0.5


NAMES = {
    "strings": np.array(["ant", "bee", "cat"]),
    "objects": np.array(["ant", "bee", "cat"], dtype=object),
    "negative": np.array([-7, 0, 30]),
    "unsigned": np.array([1, 2, 9], dtype=np.uint8),
    "floats": np.array([0.0, 1.0, 5.0]),
    "numpy strings": np.array(["a", "bb", "ccc"], dtype="<U3"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("teacher", [GaussianNB(), ReversedTeacher()])
def test_labels_of_any_type(names, teacher, three_classes):
    X, y = three_classes
    distilled = DistillationClassifier(
        teacher, LinearStudent(), cv=3, mixing_weight=0.5
    )
    expected = clone(distilled).fit(X, y)
    for labels in (names[y], names[y].tolist(), pd.Series(names[y])):
        distilled.fit(X, labels)
        assert_array_equal(distilled.classes_, names)
        assert_array_equal(distilled.predict(X), names[expected.predict(X)])
        assert_array_equal(distilled.predict_proba(X), expected.predict_proba(X))
        assert_array_equal(distilled.student_.predict(X), distilled.predict(X))


def test_booleans_are_labels(two_classes):
    X, y = two_classes
    distilled = DistillationClassifier(
        GaussianNB(), LinearStudent(), cv=3, mixing_weight=0.5
    )
    expected = clone(distilled).fit(X, y)
    distilled.fit(X, y.astype(bool))
    assert distilled.predict(X).dtype == bool
    assert_array_equal(distilled.predict_proba(X), expected.predict_proba(X))
    assert_array_equal(distilled.predict(X), expected.predict(X).astype(bool))


def test_probabilities_of_all_forms_agree(data):
    X, y = data
    distilled = DistillationClassifier(
        GaussianNB(), LinearStudent(), cv=3, mixing_weight=0.5
    ).fit(X, y)
    proba = distilled.predict_proba(X)
    assert_allclose(proba.sum(axis=1), 1)
    assert_allclose(np.exp(distilled.predict_log_proba(X)), proba)
    logits = distilled.decision_function(X)
    if proba.shape[1] == 2:
        assert_allclose(expit(logits), proba[:, 1])
    else:
        assert_allclose(softmax(logits, axis=1), proba)


def scores_to_proba(scores):
    if scores.ndim == 1:
        return np.column_stack([expit(-scores), expit(scores)])
    return softmax(scores, axis=1)


@pytest.mark.parametrize("teacher", [ScoreTeacher(), LinearSVC()])
def test_scores_become_probabilities(teacher, data):
    X, y = data
    fitted = clone(teacher).fit(X, y)
    scores = fitted.decision_function(X)
    target = scores_to_proba(scores[:, 0] if scores.shape[1:] == (1,) else scores)
    expected = DistillationClassifier(student=LinearStudent(), mixing_weight=1.0).fit(
        X, y, soft_labels=target
    )
    for candidate, cv in ((teacher, "in-sample"), (FrozenEstimator(fitted), None)):
        assert_allclose(
            fitted_proba(candidate, X, y, cv=cv), expected.predict_proba(X), atol=1e-10
        )


def test_a_one_column_decision_function_is_cross_fitted(two_classes):
    X, y = two_classes
    assert_allclose(
        fitted_proba(ScoreTeacher(), X, y),
        fitted_proba(LogisticRegression(), X, y),
        atol=1e-10,
    )


def test_the_default_teacher_is_gradient_boosting(three_classes):
    X, y = three_classes
    settings = {
        "student": LinearStudent(),
        "mixing_weight": 0.5,
        "cv": 2,
        "keep_teacher": True,
    }
    default = DistillationClassifier(random_state=0, **settings).fit(X, y)
    named = DistillationClassifier(
        HistGradientBoostingClassifier(random_state=0), **settings
    ).fit(X, y)
    assert isinstance(default.teacher_.estimator_, HistGradientBoostingClassifier)
    assert_allclose(default.predict_proba(X), named.predict_proba(X), atol=1e-10)


def test_parameters_are_not_touched_by_fit(three_classes):
    X, y = three_classes
    teacher, student = GaussianNB(), LinearStudent()
    DistillationClassifier(
        teacher, student, cv=3, keep_teacher=True, mixing_weight=0.5
    ).fit(X, y)
    assert not hasattr(teacher, "classes_")
    assert not hasattr(student, "classes_")


def test_a_fitted_teacher_that_is_not_frozen_is_fitted_again(three_classes, fit_log):
    X, y = three_classes
    teacher = LoggedTeacher(fit_log).fit(X, np.roll(y, 1))
    before = teacher.theta_.copy()
    DistillationClassifier(teacher, LinearStudent(), cv=3, mixing_weight=0.5).fit(X, y)
    assert n_fits(fit_log) == 1 + 3
    assert_array_equal(teacher.theta_, before)


def test_keep_teacher_keeps_the_teacher_of_all_rows(three_classes):
    X, y = three_classes
    distilled = DistillationClassifier(
        GaussianNB(), LinearStudent(), cv=3, mixing_weight=0.5
    )
    assert not hasattr(clone(distilled).fit(X, y), "teacher_")
    distilled.set_params(keep_teacher=True).fit(X, y)
    assert_array_equal(
        distilled.teacher_.predict_proba(X), GaussianNB().fit(X, y).predict_proba(X)
    )


@pytest.mark.parametrize(
    "change", [{"keep_teacher": False}, {"mixing_weight": 0.0}, {}]
)
def test_a_second_fit_drops_a_stale_teacher(change, three_classes, soft_labels):
    X, y = three_classes
    distilled = DistillationClassifier(
        GaussianNB(), LinearStudent(), cv=3, keep_teacher=True, mixing_weight=0.5
    ).fit(X, y)
    assert hasattr(distilled, "teacher_")
    given_labels = None if change else soft_labels
    distilled.set_params(**change).fit(X, y, soft_labels=given_labels)
    assert not hasattr(distilled, "teacher_")


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_stack_with_its_default_final_estimator_is_a_teacher(
    in_pipeline, three_classes
):
    """What it offers it only knows once it is fitted."""
    X, y = three_classes
    teacher = StackingClassifier([("a", GaussianNB()), ("b", TREE)], cv=2)
    if in_pipeline:
        teacher = make_pipeline(StandardScaler(), teacher)
    proba = np.empty((len(y), 3))
    for train, test in StratifiedKFold(3).split(X, y):
        proba[test] = clone(teacher).fit(X[train], y[train]).predict_proba(X[test])
    distilled = DistillationClassifier(
        teacher, LinearStudent(), cv=3, mixing_weight=0.5
    ).fit(X, y)
    by_hand = clone(distilled).fit(X, y, soft_labels=proba)
    assert_allclose(distilled.predict_proba(X), by_hand.predict_proba(X), rtol=1e-9)


class DuckTeacher:
    """Behaves like a classifier without being one; its classes are a list."""

    def __init__(self):
        self.inner = GaussianNB()

    def get_params(self, deep=False):
        return {}

    def fit(self, X, y):
        self.inner.fit(X, y)
        self.classes_ = self.inner.classes_.tolist()
        return self

    def predict_proba(self, X):
        return self.inner.predict_proba(X).tolist()


def test_whatever_behaves_like_a_classifier_is_a_teacher(three_classes):
    X, y = three_classes
    y = np.array(["ant", "bee", "cat"])[y]
    duck, real = (
        DistillationClassifier(teacher, LinearStudent(), cv=3, mixing_weight=0.5).fit(
            X, y
        )
        for teacher in (DuckTeacher(), GaussianNB())
    )
    assert_array_equal(duck.predict_proba(X), real.predict_proba(X))


# -- what the teacher sees ---------------------------------------------------------


@pytest.fixture
def seen():
    SeenTeacher.seen.clear()
    yield SeenTeacher.seen
    SeenTeacher.seen.clear()


def test_frames_reach_the_teacher_as_they_are(frame, seen):
    table, y = frame
    DistillationClassifier(SeenTeacher(), frame_student(), cv=4, mixing_weight=0.5).fit(
        table, y, X_unlabeled=table[:10]
    )
    assert [method for method, _ in seen].count("fit") == 4 + 1
    for _, X in seen:
        assert type(X) is pd.DataFrame
        pd.testing.assert_series_equal(X.dtypes, table.dtypes)
        assert list(X["colour"].cat.categories) == ["red", "green", "blue"]
        pd.testing.assert_frame_equal(X, table.loc[X.index])
    scored = pd.concat([X for method, X in seen[:-2] if method == "predict_proba"])
    pd.testing.assert_frame_equal(scored.sort_index(), table)
    assert scored.isna().to_numpy().any()


@pytest.mark.parametrize("frozen", [False, True])
def test_texts_reach_the_teacher_as_they_are(frozen, texts, seen):
    X, y = texts
    teacher = SeenTeacher()
    if frozen:
        teacher = FrozenEstimator(teacher.fit(X, y))
    student = make_pipeline(TfidfVectorizer(), LinearStudent())
    DistillationClassifier(teacher, student, cv=4, mixing_weight=0.5).fit(X, y)
    assert len(seen) == (2 if frozen else 8)
    for _, rows in seen:
        assert type(rows) is list
        assert set(rows) <= set(X)
    tests = [text for method, rows in seen if method[0] == "p" for text in rows]
    assert sorted(tests) == sorted(X)


def test_a_teacher_of_missing_values_and_categories(frame):
    table, y = frame
    distilled = DistillationClassifier(
        frame_teacher(), frame_student(), cv=3, mixing_weight=1.0
    ).fit(table, y)
    expected = DistillationClassifier(student=frame_student(), mixing_weight=1.0).fit(
        table,
        y,
        soft_labels=cross_val_predict(
            frame_teacher(), table, y, cv=3, method="predict_proba"
        ),
    )
    assert_array_equal(distilled.predict_proba(table), expected.predict_proba(table))
    assert_array_equal(distilled.feature_names_in_, list(table.columns))


def test_texts_are_distilled(texts):
    X, y = texts
    distilled = DistillationClassifier(
        make_pipeline(TfidfVectorizer(), LogisticRegression()),
        make_pipeline(TfidfVectorizer(), LinearStudent()),
        cv=3,
        mixing_weight=0.5,
    ).fit(X, y)
    assert distilled.score(X, y) > 0.8
    assert not hasattr(distilled, "n_features_in_")
