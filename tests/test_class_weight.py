"""Class weights of students and of distilled classifiers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Ridge,
    SGDClassifier,
)
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import compute_class_weight
from torch import nn

from skdistill import DistillationClassifier, DistillationClassifierCV
from skdistill._choice import Recipe
from skdistill._labelled_rows import LabelledRows
from skdistill.students import (
    EstimatorStudent,
    LinearStudent,
    MLPStudent,
    ModuleStudent,
)
from skdistill.students._class_weight import (
    class_weights,
    reweighted_proba,
    weigh_terms,
)
from skdistill.students._problem import Problem, label_terms, objective_terms

EXACT = LinearStudent(C=np.inf, tol=1e-10, max_iter=5000)
WEIGHTS = {0: 0.5, 1: 4.0, 2: 1.0}
VECTOR = np.array([0.5, 4.0, 1.0])


class Logits(nn.Linear):
    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)


def network(**params):
    return ModuleStudent(
        Logits, max_iter=8, dtype="float64", learning_rate_init=0.05, random_state=0
    ).set_params(**params)


def linear_proba(X, n_classes=3):
    """Probabilities that a linear student can reproduce."""
    return softmax(X @ np.random.default_rng(0).normal(size=(X.shape[1], n_classes)), 1)


def row_weights(n_samples):
    return np.random.default_rng(1).uniform(0.2, 3.0, size=n_samples)


# -- the weights -------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "class_weight", ["balanced", {"a": 2.0, "b": 3.0, "c": 0.1}, {}]
)
def test_weights_are_those_of_scikit_learn(class_weight, weighted):
    y = np.array(list("aaaabbccc"))
    weight = row_weights(len(y)) if weighted else None
    classes = np.unique(y)
    expected = compute_class_weight(
        class_weight, classes=classes, y=y, sample_weight=weight
    )
    assert_allclose(class_weights(class_weight, classes, y, weight), expected)


def test_balanced_weights_pass_over_a_class_without_rows():
    y = np.array([0, 0, 0, 1, 2])
    weight = np.array([1.0, 1, 1, 1, 0])
    assert_allclose(class_weights("balanced", np.arange(3), y, weight), [2 / 3, 2, 1])


@pytest.mark.parametrize(
    ("class_weight", "match"),
    [
        ({0: 0.0, 1: 1.0, 2: 1.0}, r"class_weight must be positive .* 0.0 for class"),
        ({0: 1.0, 1: np.inf, 2: 1.0}, "class_weight must be positive and finite"),
        ({0: 1.0, 1: -2.0, 2: 1.0}, "class_weight must be positive and finite"),
        ({0: 1.0, 7: 2.0}, r"The classes, \[1, 2\], are not in class_weight"),
        ("even", "The 'class_weight' parameter of .* must be"),
    ],
)
@pytest.mark.parametrize(
    "estimator",
    [
        LinearStudent(),
        network(),
        DistillationClassifier(GaussianNB(), LinearStudent()),
        DistillationClassifierCV(GaussianNB(), LinearStudent()),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_wrong_weights_are_refused(estimator, class_weight, match, three_classes):
    estimator = clone(estimator).set_params(class_weight=class_weight)
    with pytest.raises(ValueError, match=match):
        estimator.fit(*three_classes)


# -- the objective -----------------------------------------------------------------


@pytest.mark.parametrize("student_temperature", [1.0, 3.0])
def test_the_objective_is_what_is_expected_of_weighted_labels(student_temperature):
    """Loop over the labels that a soft label may stand for."""
    rng = np.random.default_rng(0)
    codes, mixing = rng.integers(3, size=20), 0.3
    soft = rng.dirichlet(np.ones(3), size=20)
    logits, weight = rng.normal(size=(20, 3)), row_weights(20)
    terms = objective_terms(codes, soft, mixing, student_temperature)
    weighted, scale = weigh_terms(terms, VECTOR, weight)
    total = -sum(
        weight @ (targets * log_softmax(logits / t, axis=1)).sum(axis=1)
        for targets, t in weighted
    )
    expected = 0.0
    for i in range(20):
        hard = log_softmax(logits[i])
        expected -= weight[i] * (1 - mixing) * VECTOR[codes[i]] * hard[codes[i]]
        tempered = log_softmax(logits[i] / student_temperature)
        for label in range(3):
            factor = VECTOR[label] ** (1 / student_temperature)
            loss = -factor * tempered[label] * student_temperature**2
            expected += weight[i] * mixing * soft[i, label] * loss
    assert_allclose(scale * total, expected)
    masses = [
        sum(weight @ t.sum(axis=1) for t, _ in some) for some in (terms, weighted)
    ]
    assert_allclose(*masses)


@pytest.mark.parametrize(
    "student",
    [
        LinearStudent(tol=1e-10, max_iter=5000),
        network(),
        network(early_stopping=True),
        EstimatorStudent(DecisionTreeClassifier(max_depth=3, random_state=0)),
        EstimatorStudent(Ridge()),
        MLPStudent((8,), max_iter=8, dtype="float64", random_state=0),
    ],
    ids=["linear", "module", "stopped early", "tree", "ridge", "MLP"],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_on_labels_they_are_weights_of_rows(student, weighted, three_classes):
    X, y = three_classes
    weight = row_weights(len(y)) if weighted else np.ones(len(y))
    # Their sum unchanged: it counts beside penalties.
    total = weight * VECTOR[y]
    values = VECTOR * weight.sum() / total.sum()
    distilled = DistillationClassifier(
        student=student, mixing_weight=0.0, class_weight=dict(enumerate(values))
    ).fit(X, y, sample_weight=weight)
    expected = clone(student).fit(X, y, sample_weight=weight * values[y])
    assert_allclose(
        distilled.predict_proba(X), expected.predict_proba(X), rtol=1e-5, atol=1e-8
    )
    assert_allclose(distilled.class_weight_, values)
    if not isinstance(student, EstimatorStudent):
        own = clone(student).set_params(class_weight=dict(enumerate(values)))
        own.fit(X, y, sample_weight=weight)
        assert_array_equal(own.predict_proba(X), distilled.predict_proba(X))


@pytest.mark.parametrize(
    "student",
    [
        LinearStudent(tol=1e-10, max_iter=5000),
        MLPStudent((8,), max_iter=8, dtype="float64", random_state=0),
    ],
    ids=["linear", "MLP"],
)
def test_they_count_in_what_is_learnt_of_the_columns_of_a_table(student, three_classes):
    """Centres, scales, and which levels are among those with an input of their own."""
    X, y = three_classes
    codes = np.random.default_rng(0).integers(0, 100, size=len(y))
    table = pd.DataFrame(X).assign(level=[f"level {code}" for code in codes])
    table.columns = table.columns.astype(str)
    by_class, by_row, plain = (
        clone(student).set_params(class_weight=own).fit(table, y, sample_weight=weight)
        for own, weight in [(WEIGHTS, None), (None, VECTOR[y]), (None, None)]
    )
    fitted = [student.encoder_ for student in (by_class, by_row, plain)]
    assert fitted[0].levels_ == fitted[1].levels_ != fitted[2].levels_
    assert_allclose(*(encoder.transform(table) for encoder in fitted[:2]), rtol=1e-12)
    assert_allclose(
        by_class.predict_proba(table), by_row.predict_proba(table), rtol=1e-5
    )


def test_a_row_without_a_label_counts_as_the_mean_one_for_the_columns(three_classes):
    X, y = three_classes
    weight, codes = row_weights(len(y)), np.where(np.arange(len(y)) < 60, y, 0)
    problem = Problem(
        X, codes, codes, np.arange(3), weight, label_terms(codes, 3), n_labelled=60
    )
    found = problem.row_weights(VECTOR)
    assert_allclose(found[:60], weight[:60] * VECTOR[y[:60]])
    mean = found[:60].sum() / weight[:60].sum()
    assert_allclose(found[60:], weight[60:] * mean)
    by_labels = replace(problem, n_labelled=None, labelled=np.arange(60))
    assert_allclose(by_labels.row_weights(VECTOR), found)
    assert_array_equal(problem.row_weights(None), weight)


@pytest.mark.parametrize(
    "student",
    [
        LinearStudent(C=0.01, tol=1e-10, max_iter=5000),
        LogisticRegression(C=0.01, tol=1e-10, max_iter=5000),
        DecisionTreeClassifier(max_depth=3, random_state=0),
        Ridge(alpha=100.0),
    ],
    ids=["linear", "logistic", "tree", "ridge"],
)
@pytest.mark.parametrize("vector", [VECTOR, np.full(3, 30.0)], ids=["unequal", "equal"])
def test_a_label_counts_as_often_as_its_weight_beside_a_penalty(
    student, vector, three_classes
):
    X, y = three_classes
    weight = row_weights(len(y))
    distilled = DistillationClassifier(
        student=student, mixing_weight=0.0, class_weight=dict(enumerate(vector))
    ).fit(X, y, sample_weight=weight)
    if isinstance(student, Ridge):
        student = EstimatorStudent(student)
    expected = clone(student).fit(X, y, sample_weight=weight * vector[y])
    assert_allclose(
        distilled.predict_proba(X), expected.predict_proba(X), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 2.0, "student_temperature": "same"}]
)
def test_soft_labels_give_the_reweighted_probabilities(settings, three_classes):
    X, y = three_classes
    proba = linear_proba(X)
    distilled = DistillationClassifier(
        student=EXACT, mixing_weight=1.0, class_weight=WEIGHTS, **settings
    ).fit(X, y, soft_labels=proba)
    found = distilled.predict_proba(X)
    assert_allclose(found, reweighted_proba(proba, VECTOR), atol=1e-3)
    assert np.abs(found - proba).max() > 0.1
    undone = found / distilled.class_weight_
    assert_allclose(undone / undone.sum(axis=1, keepdims=True), proba, atol=1e-3)


def test_a_tree_of_a_single_leaf_gives_the_weighted_shares(three_classes):
    """Rows that soft labels weigh unequally, in closed form."""
    X, y = three_classes
    proba = linear_proba(X)
    stump = DecisionTreeClassifier(max_depth=1, min_samples_leaf=len(y))
    for student in (stump, LinearRegression(), EXACT):
        distilled = DistillationClassifier(
            student=student, mixing_weight=1.0, class_weight=WEIGHTS
        ).fit(np.zeros((len(y), 1)), y, soft_labels=proba)
        share = proba.mean(axis=0) * VECTOR
        found = distilled.predict_proba([[0.0]])[0]
        assert_allclose(found, share / share.sum(), atol=1e-4)


def test_weights_of_student_and_classifier_multiply(three_classes):
    X, y = three_classes
    student = LinearStudent(class_weight={0: 1.0, 1: 2.0, 2: 5.0})
    both = DistillationClassifier(
        student=student, mixing_weight=0.5, class_weight={0: 3.0, 1: 1.0, 2: 1.0}
    )
    one = DistillationClassifier(
        student=LinearStudent(),
        mixing_weight=0.5,
        class_weight={0: 3.0, 1: 2.0, 2: 5.0},
    )
    proba = [
        c.fit(X, y, soft_labels=linear_proba(X)).predict_proba(X) for c in (both, one)
    ]
    assert_allclose(*proba, atol=1e-6)


def test_rows_without_labels_are_weighted_by_their_soft_labels(three_classes):
    X, y = three_classes
    proba = linear_proba(X)
    distilled = DistillationClassifier(
        student=EXACT, mixing_weight=1.0, class_weight="balanced"
    ).fit(
        X[:60],
        y[:60],
        soft_labels=proba[:60],
        X_unlabeled=X[60:119],
        soft_labels_unlabeled=proba[60:119],
    )
    vector = compute_class_weight("balanced", classes=np.arange(3), y=y[:60])
    expected = reweighted_proba(proba, vector)
    assert_allclose(distilled.predict_proba(X), expected, atol=1e-3)


@pytest.mark.parametrize(
    "student",
    [
        LinearStudent(),
        network(early_stopping=False),
        make_pipeline(StandardScaler(), LinearStudent()),
    ],
    ids=["linear", "network", "pipeline"],
)
@pytest.mark.parametrize(
    "settings",
    [
        {"mixing_weight": 0.5},
        {"mixing_weight": [0.5, 0.7, 1.0]},
        {"mixing_weight": 0.5, "temperature": 2.0, "student_temperature": "same"},
    ],
    ids=["mixed", "by class", "two terms"],
)
def test_a_balanced_student_counts_labels_and_no_soft_labels(
    student, settings, three_classes
):
    X, y = three_classes
    weight = np.where(np.arange(len(y)) % 7, row_weights(len(y)), 0.0)
    pool = np.tile(X[y == 2], (3, 1))
    vector = class_weights("balanced", np.arange(3), y, weight)
    proba = []
    for class_weight in ("balanced", dict(enumerate(vector))):
        student = clone(student)
        last = student[-1] if isinstance(student, Pipeline) else student
        last.set_params(class_weight=class_weight)
        distilled = DistillationClassifier(GaussianNB(), student, **settings)
        distilled.fit(X, y, sample_weight=weight, X_unlabeled=pool)
        proba.append(distilled.predict_proba(X))
    assert_allclose(*proba, rtol=1e-6)


@pytest.mark.parametrize(
    "estimator",
    [
        DecisionTreeClassifier(max_depth=2),
        RandomForestClassifier(30, max_depth=2, random_state=0),
        HistGradientBoostingClassifier(max_iter=10),
        LogisticRegression(),
        SGDClassifier(loss="log_loss", random_state=0),
        make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=2)),
    ],
    ids=lambda e: type(e).__name__,
)
def test_balanced_estimators_count_labels_and_no_copies(estimator):
    X, codes = make_classification(
        240, 6, n_informative=4, weights=[0.85], flip_y=0.1, random_state=0
    )
    y = np.array(["common", "rare"])[codes]
    estimator = clone(estimator)
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    last.set_params(class_weight="balanced")
    student = EstimatorStudent(estimator)
    proba = np.eye(2)[codes]
    plain = clone(student).fit(X, y, soft_labels=proba).predict_proba(X)
    one = {} if isinstance(estimator, Pipeline) else {"sample_weight": np.ones(len(y))}
    expected = clone(estimator).fit(X, y, **one).predict_proba(X)
    assert_allclose(plain, expected, rtol=1e-12)
    nearly = clone(student).fit(X, y, soft_labels=0.9998 * proba + 0.0001)
    means = [p[:, 1].mean() for p in (plain, nearly.predict_proba(X))]
    assert_allclose(*means, atol=0.04)
    assert codes.mean() + 0.1 < means[0]
    # As where the classifier is told to, and not its student.
    soft = 0.8 * proba + 0.1
    own = clone(student).fit(X, y, soft_labels=soft)
    last.set_params(class_weight=None)
    told = DistillationClassifier(
        student=estimator, mixing_weight=1.0, class_weight="balanced"
    ).fit(X, y, soft_labels=soft)
    means = [model.predict_proba(X)[:, 1].mean() for model in (own, told)]
    assert_allclose(*means, atol=0.02)


def test_weights_of_a_balanced_tree_are_those_of_the_labelled_rows(three_classes):
    """Without and beside the classifier's own: they multiply."""
    X, y = three_classes
    weight = np.where(np.arange(len(y)) % 7, row_weights(len(y)), 0.0)
    vector = class_weights("balanced", np.arange(3), y, weight)
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)
    for settings in (
        {"mixing_weight": 0.5},
        {"mixing_weight": 0.5, "class_weight": WEIGHTS},
        {"mixing_weight": 0.0, "class_weight": WEIGHTS},
    ):
        balanced, given = (
            DistillationClassifier(
                GaussianNB(), clone(tree).set_params(class_weight=some), **settings
            ).fit(X, y, sample_weight=weight, X_unlabeled=np.tile(X[y == 2], (3, 1)))
            for some in ("balanced", dict(enumerate(vector)))
        )
        assert_allclose(balanced.predict_proba(X), given.predict_proba(X), rtol=1e-9)


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (RandomForestClassifier(5, class_weight="balanced_subsample"), "class_weight"),
        (
            CalibratedClassifierCV(DecisionTreeClassifier(class_weight="balanced")),
            "estimator__class_weight",
        ),
        (
            make_pipeline(
                StandardScaler(),
                BaggingClassifier(DecisionTreeClassifier(class_weight="balanced")),
            ),
            "estimator__class_weight",
        ),
    ],
    ids=["subsample", "calibrated", "pipeline"],
)
def test_classes_counted_within_are_refused(estimator, name, three_classes):
    X, y = three_classes
    student = EstimatorStudent(estimator)
    student.fit(X, y)
    with pytest.raises(ValueError, match=f"^student: {name}='balanced.* to a dict"):
        student.fit(X, y, soft_labels=linear_proba(X))
    last = student.estimator[-1] if isinstance(estimator, Pipeline) else estimator
    last.set_params(**{name: WEIGHTS})
    student.fit(X, y, soft_labels=linear_proba(X))


def test_a_regressor_needs_weights_for_them(three_classes):
    X, y = three_classes
    student = KNeighborsRegressor(3)
    distilled = DistillationClassifier(
        GaussianNB(), student, mixing_weight=0.5, class_weight=WEIGHTS
    )
    with pytest.raises(ValueError, match="sample_weight, class_weight or a mixing"):
        distilled.fit(X, y)


def test_the_teacher_is_not_weighted(three_classes):
    X, y = three_classes
    params = {"teacher": GaussianNB(), "student": LinearStudent(), "mixing_weight": 0.5}
    plain, weighted = (
        DistillationClassifier(
            **params, temperature="auto", keep_teacher=True, class_weight=some
        ).fit(X, y)
        for some in (None, WEIGHTS)
    )
    assert_array_equal(
        plain.teacher_.predict_proba(X), weighted.teacher_.predict_proba(X)
    )
    assert plain.temperature_ == weighted.temperature_


# -- the choice --------------------------------------------------------------------


@pytest.mark.parametrize("student", [EXACT, network()])
def test_equal_weights_choose_and_train_as_none(student, three_classes):
    X, y = three_classes
    plain, weighted = (
        DistillationClassifier(
            LogisticRegression(), student, class_weight=some, cv=3
        ).fit(X, y)
        for some in (None, {0: 4.0, 1: 4.0, 2: 4.0})
    )
    for name in ("log_loss", "accuracy", "gain_standard_error"):
        assert_allclose(plain.candidates_[name], weighted.candidates_[name], rtol=1e-4)
    assert_allclose(plain.predict_proba(X), weighted.predict_proba(X), rtol=1e-4)


def test_candidates_are_judged_by_the_weighted_log_loss(three_classes):
    X, y = three_classes
    cv = StratifiedKFold(3)
    distilled = DistillationClassifier(
        GaussianNB(), LinearStudent(), class_weight=WEIGHTS, cv=cv
    ).fit(X, y)
    losses = np.empty(len(y))
    for train, test in cv.split(X, y):
        student = LinearStudent(class_weight=WEIGHTS).fit(X[train], y[train])
        losses[test] = -student.predict_log_proba(X[test])[
            np.arange(len(test)), y[test]
        ]
    expected = np.average(losses, weights=VECTOR[y])
    assert_allclose(distilled.candidates_["log_loss"][0], expected, rtol=1e-6)
    assert abs(losses.mean() - expected) > 0.01


@pytest.mark.parametrize(
    "student", [LinearStudent(), network(early_stopping=False, max_iter=40)]
)
def test_a_chosen_student_is_the_one_that_a_fixed_weight_trains(student):
    X = np.random.default_rng(0).normal(size=(300, 20))
    proba = linear_proba(X / 2)
    labels = np.array(
        [np.random.default_rng(i).choice(3, p=p) for i, p in enumerate(proba)]
    )
    common = {"student": student, "class_weight": "balanced", "temperature": 1.0}
    chosen = DistillationClassifier(**common).fit(X, labels, soft_labels=proba)
    assert chosen.mixing_weight_ > 0
    fixed = DistillationClassifier(**common, mixing_weight=chosen.mixing_weight_)
    fixed.fit(X, labels, soft_labels=proba)
    assert_allclose(chosen.predict_proba(X), fixed.predict_proba(X), rtol=1e-5)


def test_a_teacher_is_compared_at_reweighted_probabilities():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(3), size=4000)
    codes = (proba.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1)
    rows = LabelledRows(proba, codes, codes, np.arange(3), {}, {}, np.arange(4000))
    recipe = Recipe(rows, np.ones(4000), 1.0, VECTOR)
    every = np.arange(4000)
    weight = recipe.judged_weight(every)
    assert_array_equal(weight, VECTOR[codes])
    best = np.average(recipe.teacher_loss(every, proba), weights=weight)
    for other in (proba, reweighted_proba(proba, VECTOR**2)):
        assert best < log_loss(codes, other, sample_weight=weight)


# -- the search --------------------------------------------------------------------


@pytest.mark.parametrize("scoring", ["neg_log_loss", "accuracy"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_search_scores_by_the_weighted_log_loss(scoring, weighted, three_classes):
    X, y = three_classes
    X, y = X[::-1], y[::-1]  # folds whose shares of classes differ
    weight = row_weights(len(y)) if weighted else np.ones(len(y))
    search = DistillationClassifierCV(
        GaussianNB(),
        LinearStudent(),
        temperatures=[1.0],
        mixing_weights=[0.5],
        class_weight="balanced",
        scoring=scoring,
        cv=3,
    ).fit(X, y, sample_weight=weight)
    expected = []
    for train, test in StratifiedKFold(3).split(X, y):
        one = DistillationClassifier(
            GaussianNB(), LinearStudent(), mixing_weight=0.5, class_weight="balanced"
        ).fit(X[train], y[train], sample_weight=weight[train])
        loss = -log_loss(
            y[test],
            one.predict_proba(X[test]),
            sample_weight=weight[test] * one.class_weight_[y[test]],
        )
        accuracy = one.score(X[test], y[test], sample_weight=weight[test])
        expected.append(loss if scoring == "neg_log_loss" else accuracy)
    assert_allclose(search.scores_[0, 0], expected, rtol=1e-6)
    refit = DistillationClassifier(
        GaussianNB(), LinearStudent(), mixing_weight=0.5, class_weight="balanced"
    ).fit(X, y, sample_weight=weight)
    assert_allclose(search.predict_proba(X), refit.predict_proba(X), atol=1e-6)
    assert_allclose(search.class_weight_, refit.class_weight_)


# -- what they are for -------------------------------------------------------------


@pytest.mark.parametrize(
    ("student", "mixing_weight"),
    [
        (LinearStudent(), 0.5),
        (LinearStudent(), 1.0),
        (MLPStudent((8,), max_iter=20, random_state=0), 1.0),
    ],
)
def test_balanced_weights_find_the_rare_class(student, mixing_weight):
    rng = np.random.default_rng(0)
    y = (np.arange(1200) % 20 == 0).astype(int)
    X = rng.normal(size=(len(y), 3)) + 1.2 * y[:, None]
    recall = {}
    for class_weight in (None, "balanced"):
        distilled = DistillationClassifier(
            GaussianNB(),
            student,
            mixing_weight=mixing_weight,
            class_weight=class_weight,
        ).fit(X, y)
        found = distilled.predict(X)
        recall[class_weight] = min((found == k)[y == k].mean() for k in (0, 1))
    assert recall["balanced"] > 0.75
    assert recall["balanced"] > recall[None] + 0.15


@pytest.mark.parametrize(
    "student",
    [
        LinearStudent(),
        MLPStudent((6,), max_iter=8, random_state=0),
        make_pipeline(StandardScaler(), LinearStudent()),
        LogisticRegression(),
        DecisionTreeClassifier(max_depth=3, random_state=0),
    ],
)
@pytest.mark.parametrize("weight", ["balanced", {0: 1.0, 1: 6.0}])
def test_the_choice_is_by_the_student_s_own_weights_too(student, weight):
    """What undoes the weighting is no gain; others like it say probabilities."""
    X, y = make_classification(240, 6, n_informative=4, weights=[0.9], random_state=0)
    last = student[-1] if isinstance(student, Pipeline) else student
    teacher = GaussianNB(priors=[0.99, 0.01])
    tables, probas = [], []
    for of_student in (True, False):
        last.set_params(class_weight=weight if of_student else None)
        model = DistillationClassifier(
            teacher,
            clone(student),
            class_weight=None if of_student else weight,
            augmentation=None,
            random_state=0,
        ).fit(X, y)
        tables.append(model.candidates_)
        probas.append(model.predict_proba(X))
    last.set_params(class_weight=None)
    for name in ("log_loss", "gain", "teacher_share", "chosen"):
        assert_allclose(tables[0][name], tables[1][name], rtol=1e-6, atol=1e-9)
    assert_allclose(*probas, rtol=1e-4, atol=1e-6)
