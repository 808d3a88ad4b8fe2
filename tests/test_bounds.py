import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import softmax

from skdistill.datasets import distort_proba, make_class_overlap, make_gaussians
from skdistill.diagnostics import (
    RiskBound,
    linear_log_covering_number,
    linear_loss_bound,
    loss_vectors,
    risk_bound,
)


def test_finite_class_by_hand():
    proba = [[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.9, 0.1]]
    losses = [0.08, 0.32, 0.98, 1.62]  # Brier losses of class 0, 0, 0 and 1
    got = risk_bound(
        [0, 0, 0, 1], proba, loss="brier", loss_bound=2.0, n_hypotheses=5, level=0.9
    )
    log_term = math.log(2 * 5 / 0.1)
    assert_allclose(got.objective, np.mean(losses))
    variance = np.var(losses, ddof=1)
    assert_allclose(got.variance_term, math.sqrt(2 * variance * log_term / 4))
    assert_allclose(got.range_term, 7 * 2.0 * log_term / (3 * 3))
    assert got.bias_term == 0
    assert_allclose(
        got.bound, got.objective + got.variance_term + got.range_term, rtol=1e-15
    )


def test_covered_class_by_hand():
    _, y, p = make_gaussians(50, random_state=0)
    losses = loss_vectors(p, "brier")
    values = losses[np.arange(50), y]
    got = risk_bound(
        y, p, loss="brier", loss_bound=2.0, log_covering_number=3.0, level=0.95
    )
    log_term = math.log(10 / 0.05) + 3.0
    variance = np.var(values, ddof=1)
    assert_allclose(got.variance_term, math.sqrt(18 * variance * log_term / 50))
    assert_allclose(got.range_term, 15 * 2.0 * log_term / 49)


def test_bias_term_bounds_what_a_teacher_is_wrong_about():
    """|(p - p*)^T l| <= sqrt(K) B / 2 |p - p*|, for losses in [0, B]."""
    rng = np.random.default_rng(0)
    for n_classes in (2, 5):
        p, teacher = rng.dirichlet(np.ones(n_classes), size=(2, 300))
        losses = rng.uniform(0, 3, size=(300, n_classes))
        losses[0] = np.where(teacher[0] > p[0], 3.0, 0.0)
        gap = np.abs(((teacher - p) * losses).sum(axis=1))
        distance = np.linalg.norm(teacher - p, axis=1)
        assert (gap <= math.sqrt(n_classes) * 3 / 2 * distance + 1e-12).all()
        got = risk_bound(
            teacher, p, loss="brier", loss_bound=3.0, teacher_error=distance.mean()
        )
        expected = math.sqrt(n_classes) * 3 / 2 * distance.mean()
        assert_allclose(got.bias_term, expected)


def test_true_probabilities_give_the_smaller_bound():
    """Proposition 2: by Lemma 1 its variance term is the smaller one."""
    _, y, p = make_class_overlap(4000, random_state=0)
    student = distort_proba(p, 2.0)
    options = {"loss": "brier", "loss_bound": 2.0, "n_hypotheses": 100}
    of_labels = risk_bound(y, student, **options)
    of_bayes = risk_bound(p, student, **options)
    assert of_bayes.variance_term < 0.5 * of_labels.variance_term
    assert of_bayes.range_term == of_labels.range_term
    true_risk = (p * loss_vectors(student, "brier")).sum(axis=1).mean()
    assert true_risk < of_bayes.bound < of_labels.bound


def test_bounds_hold_for_the_best_of_many_students():
    """The smallest of 200 bounds is one for the risk of the student it belongs to."""
    rng = np.random.default_rng(0)
    _, y_all, p_all = make_gaussians(300 * 60, random_state=0)
    exponents = np.geomspace(0.2, 5, 20)
    students = [distort_proba(p_all, e) for e in exponents]
    risks = [(p_all * loss_vectors(q, "brier")).sum(axis=1).mean() for q in students]
    broken = 0
    for rows in rng.permutation(len(p_all)).reshape(300, 60):
        bounds = [
            risk_bound(
                y_all[rows],
                q[rows],
                loss="brier",
                loss_bound=2.0,
                n_hypotheses=20,
                level=0.8,
            ).bound
            for q in students
        ]
        broken += bool(np.any(np.array(bounds) < risks))
    assert broken <= 0.2 * 300


def test_linear_class_is_covered_by_its_net():
    """Each h moves by less than 1/n when the coefficients move by eta."""
    rng = np.random.default_rng(0)
    n, d, k, beta, rho = 50, 4, 3, 2.0, 1.5
    bound = linear_loss_bound(beta, rho, k)
    eta = bound / (math.sqrt(2) * rho * n)
    for _ in range(50):
        W, step = rng.normal(size=(2, k, d))
        W *= beta / np.linalg.norm(W)
        step *= eta / np.linalg.norm(step)
        X = rng.normal(size=(200, d))
        X *= rho / np.linalg.norm(X, axis=1, keepdims=True)
        before, after = (loss_vectors(softmax(X @ V.T, axis=1)) for V in (W, W + step))
        assert before.max() <= bound
        target = rng.dirichlet(np.ones(k), size=200)
        moved = np.abs((target * (before - after)).sum(axis=1)) / bound
        assert moved.max() <= 1 / n
    log_number = linear_log_covering_number(n, d, k, coef_norm=beta, input_norm=rho)
    assert_allclose(log_number, k * d * math.log(1 + 2 * beta / eta))


def test_weights_are_importance_weights_as_they_are():
    _, y, p = make_gaussians(40, random_state=0)
    weight = np.linspace(0.2, 1.8, 40)
    values = weight * loss_vectors(p, "brier")[np.arange(40), y]
    got = risk_bound(y, p, loss="brier", loss_bound=3.6, sample_weight=weight)
    assert_allclose(got.objective, values.mean())
    log_term = math.log(2 / 0.05)
    expected = math.sqrt(2 * values.var(ddof=1) * log_term / 40)
    assert_allclose(got.variance_term, expected)


def test_parts_are_shown():
    parts = RiskBound(1.0, 2.0, 3.0, 4.0, level=0.9)
    assert parts.bound == 10.0


P = [[0.5, 0.5], [0.2, 0.8]]
LINEAR = {"coef_norm": 1.0, "input_norm": 1.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: risk_bound([0, 1], P, loss_bound=0.0), "loss_bound=0.0 must be"),
        (lambda: risk_bound([0, 1], P, loss_bound=0.1), "between 0 and loss_bound"),
        (
            lambda: risk_bound(P, P, loss_bound=1, loss=lambda q: -q),
            "reach from -0.68",
        ),
        (lambda: risk_bound([0, 1], P, loss_bound=2, n_hypotheses=0), "n_hypotheses=0"),
        (
            lambda: risk_bound(P, P, loss_bound=2, log_covering_number=-1),
            "log_covering_number=-1",
        ),
        (
            lambda: risk_bound(
                P, P, loss_bound=2, log_covering_number=1, n_hypotheses=2
            ),
            "pass one",
        ),
        (lambda: risk_bound(P, P, loss_bound=2, teacher_error=2), "teacher_error=2"),
        (lambda: risk_bound(P, P, loss_bound=2, log_covering_number=1), "16 rows"),
        (lambda: risk_bound(P[:1], P[:1], loss_bound=2), "2 rows at least"),
        (lambda: risk_bound(P, P, loss_bound=2, level=0), "level=0"),
        (lambda: risk_bound(P, P, loss_bound=2, sample_weight=[1]), "sample_weight"),
        (lambda: risk_bound(P, P, loss_bound=2, sample_weight=[1, -1]), "non-negative"),
        (lambda: linear_loss_bound(0.0, 1.0, 2), "coef_norm=0.0"),
        (lambda: linear_loss_bound(1.0, np.inf, 2), "input_norm=inf"),
        (lambda: linear_loss_bound(1.0, 1.0, 1), "n_classes=1"),
        (lambda: linear_log_covering_number(0, 2, 2, **LINEAR), "n_samples=0"),
        (lambda: linear_log_covering_number(5, 0, 2, **LINEAR), "n_features=0"),
    ],
)
def test_errors_name_the_parameter(call, message):
    with pytest.raises(ValueError, match=message):
        call()
