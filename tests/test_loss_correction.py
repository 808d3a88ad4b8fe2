"""The loss correction: its formula, its order, and students that learn by it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from reference import losses as reference
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skdistill import DistillationClassifier
from skdistill.datasets import distort_proba, make_gaussians
from skdistill.losses import corrected_soft_labels, soft_cross_entropy, temper_proba
from skdistill.metrics import mean_kl_divergence
from skdistill.students import LinearStudent, MLPStudent

SETTINGS = {"temperature": 2.0, "student_temperature": "same", "mixing_weight": 1.0}


def random_rows(n=60, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(n_classes, 0.7), n)
    return rng.integers(0, n_classes, n), proba, rng.normal(size=(n, n_classes))


# -- the formula -----------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_corrected_loss_is_that_of_the_reference(temperature):
    y, proba, logits = random_rows()
    corrected = corrected_soft_labels(y, proba, temperature)
    ours = soft_cross_entropy(
        corrected, logits, temperature=temperature, reduction="none"
    )
    theirs = [
        reference.corrected_loss(*row, temperature)
        for row in zip(y, proba, logits, strict=True)
    ]
    assert_allclose(ours, theirs, rtol=1e-10)


def test_at_temperature_one_the_labels_are_left():
    y, proba, _ = random_rows()
    proba = 0.9 * proba + 0.025  # none below min_proba
    assert_allclose(corrected_soft_labels(y, proba, 1.0), np.eye(4)[y], atol=1e-14)


def test_two_equal_classes_in_closed_form():
    # w = (1/2, 1/2) and c = 1 / T, whatever the label.
    corrected = corrected_soft_labels([0, 1], np.full((2, 2), 0.5), 4.0)
    assert_allclose(corrected, [[0.625, 0.375], [0.375, 0.625]])


def test_improbable_labels_are_held_back():
    proba = np.array([[1.0, 0.0, 0.0], [0.999, 0.001, 0.0]])
    corrected = corrected_soft_labels([1, 1], proba, 2.0)
    assert_allclose(corrected[0], proba[0])  # as w is 0 there
    w = temper_proba(proba, 2.0)[1]
    c = w[1] / (2.0 * 0.01)
    assert c > 1
    assert_allclose(corrected[1], (1 - c) * w + c * np.array([0, 1, 0]))
    assert corrected[1, 0] < 0


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    n_classes=st.integers(2, 5),
    temperature=st.floats(0.2, 20),
)
def test_rows_sum_to_one_and_move_to_the_label(seed, n_classes, temperature):
    y, proba, _ = random_rows(8, n_classes, seed)
    corrected = corrected_soft_labels(y, proba, temperature)
    assert_allclose(corrected.sum(axis=1), 1, atol=1e-9)
    tempered = temper_proba(proba, temperature)
    rows = np.arange(len(y))
    assert (corrected[rows, y] >= tempered[rows, y] - 1e-12).all()


def test_tensors_and_stacks_are_the_arrays():
    y, proba, _ = random_rows()
    expected = corrected_soft_labels(y, proba, 2.0)
    tensor = corrected_soft_labels(torch.tensor(y), torch.tensor(proba), 2.0)
    assert_allclose(tensor.numpy(), expected, rtol=1e-12)
    both = corrected_soft_labels(np.stack([y, y]), np.stack([proba, proba]), 2.0)
    assert_allclose(both, np.stack([expected, expected]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"temperature": 0.0}, ValueError, "temperature=0.0 must be positive"),
        ({"min_proba": 0.0}, ValueError, "min_proba=0.0 must be between"),
        ({"y": [0.5, 1.0]}, TypeError, "y must hold integer class codes"),
        ({"y": [0, 2]}, ValueError, "y must be between 0 and 1"),
        ({"y": [0]}, ValueError, r"y has shape \(1,\), but proba \(2, 2\)"),
        ({"proba": [[-1.0, 2.0], [0.5, 0.5]]}, ValueError, "proba must be non-neg"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {"y": [0, 1], "proba": [[0.4, 0.6], [0.5, 0.5]], "temperature": 2.0}
    with pytest.raises(error, match=message):
        corrected_soft_labels(**(arguments | change))


# -- its order -------------------------------------------------------------------------


def bias(bayes, teacher, temperature, *, correct):
    """Expected soft labels over the labels, less those of the true probabilities."""
    n, n_classes = bayes.shape
    soft = temper_proba(teacher, temperature)
    if correct:
        soft = sum(
            bayes[:, [k]]
            * corrected_soft_labels(np.full(n, k), teacher, temperature, min_proba=1e-9)
            for k in range(n_classes)
        )
    return np.abs(soft - temper_proba(bayes, temperature)).max()


@pytest.mark.parametrize("temperature", [0.5, 2.0, 5.0])
def test_the_bias_is_of_second_order_in_the_teacher_s_error(temperature):
    rng = np.random.default_rng(0)
    logits, error = rng.normal(size=(2, 50, 4))
    bayes = softmax(logits, axis=1)
    teachers = [softmax(logits + step * error, axis=1) for step in (1e-2, 5e-3)]
    for correct, ratio in ((False, 2), (True, 4)):
        first, half = (bias(bayes, t, temperature, correct=correct) for t in teachers)
        assert first / half == pytest.approx(ratio, rel=0.05)


def test_the_mean_over_drawn_labels_is_that_of_the_true_probabilities():
    temperature, n = 2.0, 20_000
    bayes = np.array([0.6, 0.3, 0.1])
    y = np.random.default_rng(0).choice(3, size=n, p=bayes)
    wanted = temper_proba(bayes[None], temperature)[0]

    def distance(teacher):
        """Largest distance of the mean from the truth, in standard errors."""
        rows = np.broadcast_to(teacher, (n, 3))
        drawn = corrected_soft_labels(y, rows, temperature)
        error = drawn.std(axis=0, ddof=1) / np.sqrt(n)
        return np.abs((drawn.mean(axis=0) - wanted) / error).max(), error.max()

    unbiased, error = distance(bayes)
    assert unbiased < 4
    near = np.array([0.57, 0.32, 0.11])
    assert distance(near)[0] < 4
    # Without correction the same teacher is wrong by more than that.
    assert np.abs(temper_proba(near[None], temperature)[0] - wanted).max() > 4 * error


# -- students --------------------------------------------------------------------------


def test_a_linear_student_minimises_the_reference_s_loss():
    X, y, bayes = make_gaussians(80, random_state=0)
    teacher = distort_proba(bayes, 0.5)
    student = LinearStudent(C=5.0, tol=1e-9)
    fitted = DistillationClassifier(
        student=student, loss_correction=True, **SETTINGS
    ).fit(X, y, soft_labels=teacher)

    def objective(x):
        odds = X @ x[:-1] + x[-1]
        rows = [
            4.0 * reference.corrected_loss(code, p, (0.0, z), 2.0)
            for code, p, z in zip(y, teacher, odds, strict=True)
        ]
        return sum(rows) + x[:-1] @ x[:-1] / (2 * 5.0)

    found = minimize(objective, np.zeros(X.shape[1] + 1), tol=1e-10).x
    assert_allclose(fitted.student_.coef_[0], found[:-1], atol=1e-4)
    assert_allclose(fitted.student_.intercept_, found[-1:], atol=1e-4)


def test_a_distorted_teacher_costs_less_with_correction():
    differences = []
    for seed in range(6):
        X, y, bayes = make_gaussians(600, random_state=seed)
        teacher = distort_proba(bayes, 4.0)
        found = {}
        for correct in (False, True):
            model = DistillationClassifier(
                student=LinearStudent(), loss_correction=correct, **SETTINGS
            ).fit(X, y, soft_labels=teacher)
            found[correct] = mean_kl_divergence(bayes, model.predict_proba(X))
        differences.append(found[False] - found[True])
    error = np.std(differences, ddof=1) / np.sqrt(len(differences))
    assert np.mean(differences) > 3 * error


@pytest.mark.filterwarnings("ignore:The teacher is worse than the student")
@pytest.mark.parametrize(
    "student",
    [
        LinearStudent(),
        make_pipeline(StandardScaler(), LinearStudent()),
        MLPStudent((8,), max_iter=20, random_state=0),
    ],
    ids=["linear", "pipeline", "network"],
)
@pytest.mark.parametrize("student_temperature", ["same", 1.0])
@pytest.mark.parametrize("mixing_weight", [0.5, "auto"])
def test_students_that_learn_corrected_labels(
    student, student_temperature, mixing_weight, three_classes
):
    X, y = three_classes
    weight = np.ones(len(y))
    weight[::5] = 0
    model = DistillationClassifier(
        GaussianNB(),
        student,
        temperature=2.0,
        student_temperature=student_temperature,
        mixing_weight=mixing_weight,
        loss_correction=True,
        cv=3,
    ).fit(X, y, sample_weight=weight)
    rows = weight > 0
    assert model.score(X[rows], y[rows]) > 0.45
    if mixing_weight == "auto":
        assert "in-sample" not in model.candidates_["source"]


@pytest.mark.filterwarnings("ignore:The soft labels are the labels")
def test_the_choice_trains_what_a_number_trains(three_classes):
    X, y = three_classes
    rng = np.random.default_rng(0)
    P = 0.5 * np.eye(3)[y] + 0.5 * rng.dirichlet(np.ones(3), len(y))
    U = X[:30] + 0.1
    auto = DistillationClassifier(
        student=LinearStudent(C=0.01, tol=1e-9),
        temperature=0.5,
        loss_correction=True,
    ).fit(X, y, soft_labels=P, X_unlabeled=U, soft_labels_unlabeled=P[:30])
    assert auto.mixing_weight_ > 0
    number = clone(auto).set_params(mixing_weight=auto.mixing_weight_)
    number.fit(X, y, soft_labels=P, X_unlabeled=U, soft_labels_unlabeled=P[:30])
    assert_allclose(number.predict_proba(X), auto.predict_proba(X), atol=1e-6)


def test_weights_of_zero_are_as_if_absent(three_classes):
    X, y = three_classes
    P = np.random.default_rng(0).dirichlet(np.ones(3), len(y))
    weight = np.random.default_rng(1).integers(0, 2, len(y)).astype(float)
    rows = np.flatnonzero(weight)
    model = DistillationClassifier(
        student=LinearStudent(tol=1e-8), loss_correction=True, **SETTINGS
    )
    with_zeros = model.fit(X, y, sample_weight=weight, soft_labels=P).predict_proba(X)
    without = model.fit(X[rows], y[rows], soft_labels=P[rows]).predict_proba(X)
    assert_allclose(with_zeros, without, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"temperature": None},
            "needs a number other than 1 for temperature, got None",
        ),
        ({"temperature": "auto"}, "got 'auto'"),
        ({"temperature": 1.0}, "got 1.0"),
        ({"cv": "in-sample"}, "with cv='in-sample' it has seen them"),
        ({"class_weight": "balanced"}, "takes no class_weight"),
        ({"mixing_weight": [0.5, 1.0, 0.5]}, "takes one mixing_weight"),
        ({"student": LinearStudent(class_weight="balanced")}, "takes no class_weight"),
        (
            {"student": make_pipeline(LinearStudent(class_weight="balanced"))},
            "takes no class_weight",
        ),
        (
            {"student": DecisionTreeClassifier(class_weight="balanced")},
            "takes no class_weight",
        ),
        ({"student": DecisionTreeClassifier()}, "DecisionTreeClassifier takes neither"),
        ({"student": Ridge()}, "Ridge takes neither"),
    ],
)
def test_where_it_is_refused(change, message, three_classes):
    arguments = {"student": LinearStudent(), "student_temperature": 1.0}
    model = DistillationClassifier(
        GaussianNB(),
        **({"temperature": 2.0, "loss_correction": True} | arguments | change),
    )
    with pytest.raises(ValueError, match=message):
        model.fit(*three_classes)
