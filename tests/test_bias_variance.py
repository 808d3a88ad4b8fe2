import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference import statistics as reference

from skdistill.datasets import distort_proba, make_class_overlap, make_gaussians
from skdistill.diagnostics import (
    brier_difference,
    distilled_risk_error,
    loss_vectors,
    teacher_bias_variance,
)
from skdistill.metrics import brier_score


@pytest.fixture(scope="module")
def fits():
    """Independent noisy teachers, the truth, labels and weights."""
    rng = np.random.default_rng(0)
    _, y, p = make_class_overlap(400, random_state=0)
    noise = rng.dirichlet(np.ones(3), size=(6, 400))
    weight = rng.uniform(0.5, 2.0, 400)
    return 0.8 * p + 0.2 * noise, p, y, weight


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("truth", ["probabilities", "labels"])
def test_parts_equal_the_reference(weighted, truth, fits):
    teachers, p, y, weight = fits
    weight = weight if weighted else None
    target = p if truth == "probabilities" else y
    rows = p if truth == "probabilities" else reference.one_hot(y, 3)
    got = teacher_bias_variance(teachers, target, sample_weight=weight)
    expected = reference.bias_variance(teachers, rows, weight)
    assert_allclose([got.squared_error, got.squared_bias, got.variance], expected)
    assert_allclose(got.squared_error, got.squared_bias + got.variance)


def test_parts_are_unbiased(fits):
    """A teacher of known bias and variance, from many pairs of fits."""
    rng = np.random.default_rng(1)
    p = np.array([[0.7, 0.3]])
    parts = []
    for _ in range(4000):
        first = rng.uniform(0.4, 0.6, size=(2, 1))
        pair = np.stack([first, 1 - first], axis=-1)
        got = teacher_bias_variance(pair, p)
        parts.append((got.squared_bias, got.variance))
    # p_1 is uniform on [0.4, 0.6]: bias 0.2 and variance 0.2 ** 2 / 12, in two columns.
    assert_allclose(np.mean(parts, axis=0), [2 * 0.04, 2 * 0.04 / 12], rtol=0.05)


def test_labels_add_their_noise_and_nothing_else(fits):
    """Brier = squared distance to p* + E[1 - |p*|^2], in expectation over labels."""
    teachers, p, y, _ = fits
    exact, of_labels = (teacher_bias_variance(teachers, t) for t in (p, y))
    assert of_labels.variance == exact.variance
    noise = (1 - (p**2).sum(axis=1)).mean()
    assert_allclose(of_labels.squared_error - exact.squared_error, noise, atol=0.05)
    scores = [brier_score(y, q, labels=[0, 1, 2]) for q in teachers]
    assert_allclose(of_labels.squared_error, np.mean(scores))


def test_brier_difference_is_the_difference_of_scores_and_of_distances():
    _, y, p = make_class_overlap(30_000, random_state=0)
    first, second = distort_proba(p, 0.6), distort_proba(p, 2.0)
    got = brier_difference(y, first, second)
    assert_allclose(got.estimate, brier_score(y, first) - brier_score(y, second))
    distance = [((q - p) ** 2).sum(axis=1).mean() for q in (first, second)]
    assert abs(distance[0] - distance[1] - got.estimate) < 4 * got.standard_error
    exact = brier_difference(p, first, second)
    assert_allclose(exact.estimate, distance[0] - distance[1])
    turned = brier_difference(y, second, first)
    assert_allclose([turned.low, turned.high], [-got.high, -got.low])
    same = brier_difference(y, first, first)
    assert (same.low, same.estimate, same.high) == (0, 0, 0)


def test_error_of_the_distilled_risk_is_that_of_simulated_objectives():
    _, _, p = make_gaussians(20 * 5000, random_state=0)
    teacher, student = distort_proba(p, 0.4), distort_proba(p, 1.5)
    got = distilled_risk_error(teacher, p, student, n_samples=20, loss="brier")
    losses = loss_vectors(student, "brier")
    soft = (teacher * losses).sum(axis=1).reshape(5000, 20).mean(axis=1)
    risk = (p * losses).sum() / len(p)
    assert_allclose(got.mean_squared_error, ((soft - risk) ** 2).mean(), rtol=0.1)
    assert got.mean_squared_error <= got.bound


def test_error_of_the_distilled_risk_by_hand():
    teacher = np.array([[1.0, 0.0], [0.5, 0.5]])
    truth = np.array([[0.5, 0.5], [0.5, 0.5]])
    proba = np.array([[0.0, 1.0], [0.0, 1.0]])
    got = distilled_risk_error(teacher, truth, proba, n_samples=4, loss="zero_one")
    # Losses (1, 0): under the teacher 1 and 1/2, under the truth 1/2 and 1/2.
    assert_allclose(got.variance, 0.125 / 4)
    assert_allclose(got.squared_bias, 0.25**2)
    # c = |(1/2, -1/2)|, distances sqrt(1/2) and 0.
    assert_allclose(got.bound, 0.125 / 4 + (np.sqrt(0.5) * np.sqrt(0.5) / 2) ** 2)


def test_the_bayes_teacher_has_no_bias():
    _, _, p = make_class_overlap(100, random_state=0)
    got = distilled_risk_error(p, p, distort_proba(p, 2.0))
    assert got.squared_bias == 0
    assert got.bound == got.variance


@pytest.mark.parametrize("loss", ["log_loss", "brier", "zero_one"])
def test_the_bound_of_proposition_3_holds(loss, fits):
    teachers, p, _, weight = fits
    for q in teachers:
        got = distilled_risk_error(q, p, p[::-1], loss=loss, sample_weight=weight)
        assert got.mean_squared_error <= got.bound


P = [[0.5, 0.5], [0.2, 0.8]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: teacher_bias_variance([P], P), "two fits at least"),
        (lambda: teacher_bias_variance(P, P), "two fits at least"),
        (lambda: teacher_bias_variance([P, [[0.5, 0.4]] * 2], P), r"proba\[1\] must"),
        (lambda: teacher_bias_variance([P, P], [0, 1, 1]), "y_true has 3 rows"),
        (lambda: brier_difference([0, 1], P, P, level=2), "level=2"),
        (lambda: distilled_risk_error(P, P[:1], P), "bayes_proba"),
        (lambda: distilled_risk_error(P, P, P, n_samples=0), "n_samples=0"),
    ],
)
def test_errors_name_the_parameter(call, message):
    with pytest.raises(ValueError, match=message):
        call()
