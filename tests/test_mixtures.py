"""Mixtures of a teacher with students like the one that is to learn from them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize_scalar
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier
from stubs import LoggedTeacher, n_fits

from skdistill import DistillationClassifier, _chosen_student
from skdistill._choice import (
    ON_LABELS,
    Candidate,
    Material,
    Recipe,
    burden_of_proof,
    choose,
    make_candidates,
)
from skdistill._labelled_rows import LabelledRows
from skdistill._mixed_material import mixed_material
from skdistill._own_students import N_SEEDS, own_students
from skdistill.losses import temper_proba
from skdistill.students import EstimatorStudent, LinearStudent, MLPStudent


def problem(X, y, **settings):
    rows = LabelledRows(X, y, y, np.unique(y), {}, {}, np.arange(len(y)))
    return Recipe(rows, np.ones(len(y)), 1.0, **settings)


@pytest.fixture
def folds(three_classes):
    return list(StratifiedKFold(4).split(*three_classes))


# -- students on the labels ---------------------------------------------------------


@pytest.mark.parametrize("judged", [[0, 1, 2, 3], [2]])
def test_students_say_what_the_reference_says(three_classes, folds, judged):
    X, y = three_classes
    student = EstimatorStudent(DecisionTreeClassifier(max_depth=3, random_state=0))
    own = own_students(student, problem(X, y), folds, judged, None, None)
    new = X[:7] + 0.1

    def said(rows, of):
        tree = DecisionTreeClassifier(max_depth=3, random_state=0)
        return tree.fit(X[rows], y[rows]).predict_proba(of)

    for k in judged:
        train, _ = folds[k]
        expected, of_new = np.full((len(y), 3), np.nan), []
        for other_train, other_test in (folds[j] for j in range(4) if j != k):
            rows = np.array([i for i in train if i in set(other_train)])
            expected[other_test] = said(rows, X[other_test])
            of_new.append(said(rows, new))
        assert_allclose(own.out_of_fold(k), expected[train])
        assert_allclose(own.of_new_rows(new, k), np.mean(of_new, axis=0))
    expected = np.empty((len(y), 3))
    for train, test in folds:
        expected[test] = said(train, X[test])
    assert_allclose(own.out_of_fold(None), expected)


def test_networks_trained_together_are_those_trained_alone(
    three_classes, folds, monkeypatch
):
    X, y = three_classes
    student = MLPStudent((8,), random_state=3, dtype="float64")
    found = []
    for most in (2**25, 1):
        monkeypatch.setattr("skdistill._own_students.NUMBERS_TOGETHER", most)
        own = own_students(student, problem(X, y), folds, [0, 1], 4, None)
        found.append(own.out_of_fold(1))
    assert_allclose(*found, atol=1e-9)


def test_each_network_has_a_seed_of_its_own(three_classes, folds):
    student = MLPStudent((8,), random_state=3)
    own = own_students(student, problem(*three_classes), folds, [0], 2, None)
    seeds = {one.random_state for some in own.without.values() for one in some}
    assert len(own.without) == 7
    assert len(seeds) == 7 * N_SEEDS
    assert student.random_state == 3


def test_networks_of_several_seeds_are_averaged(three_classes, folds):
    X, y = three_classes
    student = MLPStudent((8,), random_state=3, dtype="float64")
    own = own_students(student, problem(X, y), folds, [0], 2, None)
    train, test = folds[1]
    both = np.intersect1d(folds[0][0], train)
    expected = [
        clone(one).set_params(max_iter=2, early_stopping=False).fit(X[both], y[both])
        for one in own.without[frozenset([0, 1])]
    ]
    mean = np.mean([one.predict_proba(X[test]) for one in expected], axis=0)
    found = own.out_of_fold(0)[np.searchsorted(folds[0][0], test)]
    assert_allclose(found, mean, atol=1e-9)


def test_of_many_rows_one_network_is_enough(three_classes, folds):
    student = MLPStudent((8,), random_state=3, n_folds=1, max_iter=2)
    own = own_students(student, problem(*three_classes), folds, [0], None, None)
    assert [len(some) for some in own.without.values()] == [1] * 7


def test_students_say_probabilities_of_the_labels_where_classes_have_weights(
    three_classes, folds
):
    X, y = three_classes
    weights = np.array([5.0, 1.0, 1.0])
    student = LinearStudent()
    plain, weighted = (
        own_students(student, problem(X, y, **settings), folds, [0], None, None)
        for settings in ({}, {"class_weight": weights})
    )
    assert_allclose(weighted.out_of_fold(0), plain.out_of_fold(0))


# -- the mixture --------------------------------------------------------------------


def mixed(X, y, folds, judged, teacher, added=()):
    recipe = problem(X, y)
    own = own_students(LinearStudent(), recipe, folds, range(4), None, None)
    rows = np.arange(len(y)) if judged is None else folds[judged][0]
    material = Material(rows, {"out-of-fold": teacher[rows]}, synthetic=added)
    return own, *mixed_material(recipe, material, "out-of-fold", own, judged)


def test_the_mixture_has_the_lowest_log_loss(three_classes, folds, soft_labels):
    X, y = three_classes
    new, of_new = X[:5] + 0.2, soft_labels[:5]
    own, material, share = mixed(X, y, folds, 1, soft_labels, ((new, of_new),))
    rows = folds[1][0]
    student = own.out_of_fold(1)

    def at(parameter, teacher):
        return temper_proba(teacher, np.exp(parameter))

    best = minimize_scalar(lambda t: log_loss(y[rows], at(t, soft_labels[rows])))
    teacher = at(best.x, soft_labels[rows])
    found = minimize_scalar(
        lambda v: log_loss(y[rows], v * teacher + (1 - v) * student),
        bounds=(0, 1),
        method="bounded",
    )
    assert 0.02 < share < 0.98
    assert_allclose(share, found.x, atol=1e-4)
    expected = share * teacher + (1 - share) * student
    assert_allclose(material.proba["mixture"], expected, atol=1e-4)
    ((X_new, proba),) = material.synthetic
    assert X_new is new
    expected = share * at(best.x, of_new) + (1 - share) * own.of_new_rows(new, 1)
    assert_allclose(proba, expected, atol=1e-4)


@pytest.mark.parametrize("how", ["right", "inverted"])
def test_the_share_is_what_the_teacher_deserves(three_classes, folds, how):
    X, y = three_classes
    right = 0.9 * np.eye(3)[y] + 0.1 / 3
    inverted = (1 - right) / 2
    teacher = {"right": right, "inverted": inverted}[how]
    *_, share = mixed(X, y, folds, None, teacher)
    assert share > 0.95 if how == "right" else share < 0.05


def test_no_label_reaches_the_students_that_are_judged_by_it(three_classes, folds):
    """Other labels in a fold leave all that is learned outside it as it was."""
    X, y = three_classes
    teacher = np.random.default_rng(0).dirichlet(np.ones(3), len(y))
    test = folds[2][1]
    other = y.copy()
    other[test] = (y[test] + 1) % 3
    found = [mixed(X, labels, folds, 2, teacher)[1] for labels in (y, other)]
    assert_array_equal(found[0].proba["mixture"], found[1].proba["mixture"])
    changed = [mixed(X, labels, folds, 1, teacher)[1] for labels in (y, other)]
    assert abs(changed[0].proba["mixture"] - changed[1].proba["mixture"]).max() > 0.01


# -- the choice ---------------------------------------------------------------------


def test_candidates_with_mixtures():
    found = make_candidates(["out-of-fold", "mixture"], None, augmented=["mixture"])
    assert found[5:] == [
        Candidate("mixture", 0.5, "auto"),
        Candidate("mixture", 1.0, "auto"),
        Candidate("mixture", 1.0, "auto", True),
    ]
    assert_array_equal(burden_of_proof(found), [2] * 7 + [0.5])
    assert_array_equal(burden_of_proof(found, settled=True), [1] * 7 + [0.5])
    given = make_candidates(["mixture"], 3.0, augmented=["mixture"])
    assert {c.temperature for c in given[1:]} == {3.0}


@pytest.mark.parametrize(
    ("gain", "best"),
    [
        ([0, 1.0, 0.7], 2),
        ([0, 1.0, 0.6], 2),
        ([0, 1.0, 0.4], 0),
        ([0, 2.5, 1.5], 1),
        ([0, 2.5, 2.6], 2),
    ],
)
def test_a_mixture_need_not_prove_what_is_expected_of_it(gain, best):
    burden = burden_of_proof(
        [ON_LABELS, Candidate("out-of-fold", 1.0), Candidate("mixture", 1.0, 1.0, True)]
    )
    assert choose(np.array(gain), np.array([0.0, 1.0, 1.0]), burden) == best


def test_labels_alone_need_no_proof_against_themselves():
    assert choose(np.zeros(2), np.array([0.0, 1.0]), np.array([-1.0, 2.0])) == 0


# -- the classifier -----------------------------------------------------------------

NETWORK = MLPStudent((16,), max_iter=30, random_state=0)


@pytest.fixture(scope="module")
def noisy_digits():
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    flipped = rng.random(len(y)) < 0.3
    y = np.where(flipped, (y + rng.integers(1, 10, len(y))) % 10, y)
    return X[:500], y[:500], X[500:], y[500:]


def test_networks_gain_by_a_mixture_where_labels_are_noisy(noisy_digits):
    X, y, X_test, y_test = noisy_digits
    forest = RandomForestClassifier(30, random_state=0)
    distilled = DistillationClassifier(forest, NETWORK, random_state=0).fit(X, y)
    table = distilled.candidates_
    assert table["source"][table["chosen"]] == "mixture"
    assert 0 < table["teacher_share"][-1] < 1
    alone = NETWORK.fit(X, y)
    losses = [
        -np.log(model.predict_proba(X_test)[np.arange(len(y_test)), y_test])
        for model in (alone, distilled)
    ]
    gain = losses[0] - losses[1]
    assert gain.mean() > 2 * gain.std() / len(gain) ** 0.5


@pytest.mark.filterwarnings("ignore:The teacher:UserWarning")
def test_what_is_chosen_can_be_trained_again(noisy_digits):
    X, y, X_test, _ = noisy_digits
    settings = {"teacher": GaussianNB(), "student": NETWORK, "random_state": 0}
    first, again = (DistillationClassifier(**settings).fit(X, y) for _ in range(2))
    assert_array_equal(first.predict_proba(X_test), again.predict_proba(X_test))


def sources(classifier):
    table = classifier.candidates_
    return set(zip(table["source"], table["augmented"], strict=True))


@pytest.mark.filterwarnings("ignore:The teacher is worse:UserWarning")
def test_synthetic_rows_are_for_mixtures_of_few_rows(three_classes, monkeypatch):
    X, y = three_classes
    settings = {"teacher": GaussianNB(), "cv": 3, "random_state": 0}
    network = MLPStudent((4,), max_iter=3, random_state=0)

    def tried(student=network, **others):
        model = DistillationClassifier(student=student, **settings, **others)
        return sources(model.fit(X, y))

    plain = {("labels", False), ("out-of-fold", False), ("in-sample", False)}
    assert tried(LinearStudent()) == plain
    mixtures = {("mixture", False), ("mixture", True)}
    assert tried() == plain | mixtures
    assert tried(augmentation=None) == plain | {("mixture", False)}
    monkeypatch.setattr(_chosen_student, "AUGMENTED_ROWS", len(y) - 1)
    assert tried() == plain | {("mixture", False)}


@pytest.mark.filterwarnings("ignore:The teacher is worse:UserWarning")
@pytest.mark.parametrize(
    "settings",
    [{"mixing_weight": "per-class"}, {"mixing_weight": 0.5}, {"cv": "in-sample"}],
)
def test_no_synthetic_rows_are_made_that_nothing_uses(
    three_classes, settings, monkeypatch
):
    monkeypatch.setattr(_chosen_student, "munge", None)
    network = MLPStudent((4,), max_iter=3, random_state=0)
    model = DistillationClassifier(GaussianNB(), network, random_state=0, **settings)
    assert model.fit(*three_classes).score(*three_classes) > 0


@pytest.mark.filterwarnings("ignore:The teacher is worse:UserWarning")
def test_passed_soft_labels_are_mixed_without_a_teacher(
    three_classes, soft_labels, fit_log
):
    X, y = three_classes
    network = MLPStudent((4,), max_iter=3, random_state=0)
    teacher = LoggedTeacher(fit_log)
    model = DistillationClassifier(teacher, network, random_state=0)
    model.fit(X, y, soft_labels=soft_labels)
    assert n_fits(fit_log) == 0
    assert sources(model) == {
        ("labels", False),
        ("given", False),
        ("mixture", False),
    }


@pytest.mark.filterwarnings("ignore:The teacher is worse:UserWarning")
def test_a_frozen_teacher_is_mixed_and_not_fitted(three_classes, fit_log):
    X, y = three_classes
    teacher = FrozenEstimator(LoggedTeacher(fit_log).fit(X, y))
    network = MLPStudent((4,), max_iter=3, random_state=0)
    model = DistillationClassifier(teacher, network, random_state=0).fit(X, y)
    assert n_fits(fit_log) == 1
    assert ("mixture", True) in sources(model)


class Nonsense(GaussianNB):
    def predict_proba(self, X):
        return np.random.default_rng(0).dirichlet(np.ones(10), len(X))


def test_a_teacher_that_knows_nothing_is_named(noisy_digits):
    """Mixed with flat probabilities those of the students are smoothed: no merit."""
    X, y, *_ = noisy_digits
    model = DistillationClassifier(Nonsense(), NETWORK, random_state=0)
    with pytest.warns(UserWarning, match="worse than the student") as caught:
        model.fit(X, y)
    (warning,) = caught
    table = model.candidates_
    assert table["source"][table["chosen"]] == "mixture"
    assert "what others like it, on the labels alone, say" in str(warning.message)
