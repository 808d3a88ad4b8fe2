import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from reference import statistics as reference

from skdistill.datasets import distort_proba, make_class_overlap, make_gaussians
from skdistill.diagnostics import (
    break_even_sample_size,
    loss_vectors,
    mixing_diagnostics,
    optimal_mixing_weight,
)

few = settings(max_examples=60, deadline=None)
moments = st.tuples(
    st.floats(-1, 1),  # bias
    st.floats(0.01, 2),  # variance with labels
    st.floats(0.01, 2),  # variance with soft labels
    st.floats(-0.95, 0.95),  # correlation
    st.integers(1, 10_000),
)


@few
@given(moments)
def test_mixing_weight_is_the_minimum_on_a_grid(m):
    bias, v1, vt, correlation, n = m
    c = correlation * np.sqrt(v1 * vt)
    weight = optimal_mixing_weight(bias, v1, vt, c, n)

    def error(w):
        return reference.mixed_objective_error(w, bias, v1, vt, c, n)

    grid = weight + np.linspace(-2, 2, 401)
    assert error(weight) <= error(grid).min() * (1 + 1e-9)
    assert abs(grid[error(grid).argmin()] - weight) < 0.011


@few
@given(moments)
def test_break_even_is_where_the_two_errors_cross(m):
    bias, v1, vt, _, _ = m
    assume(abs(bias) > 1e-3)
    assume(v1 > vt * 1.01)
    size = break_even_sample_size(bias, v1, vt)
    for n, soft_wins in ((0.99 * size, True), (1.01 * size, False)):
        soft = reference.mixed_objective_error(1.0, bias, v1, vt, 0.0, n)
        hard = reference.mixed_objective_error(0.0, bias, v1, vt, 0.0, n)
        assert (soft < hard) == soft_wins


def test_limits():
    # No bias and soft labels that do not vary: all weight on them, at any size.
    assert optimal_mixing_weight(0.0, 1.0, 0.0, 0.0, 10**6) == 1.0
    assert break_even_sample_size(0.0, 1.0, 0.5) == np.inf
    assert break_even_sample_size(0.0, 0.5, 0.5) == 0.0
    assert break_even_sample_size(0.2, 0.5, 0.6) == 0.0
    # A biased teacher is left behind as rows come.
    weights = [
        optimal_mixing_weight(0.1, 1.0, 0.2, 0.1, n) for n in (1, 10, 100, 10**6)
    ]
    assert np.all(np.diff(weights) < 0)
    assert weights[-1] < 1e-3
    # Infinitely many rows: without bias they are like any number of them.
    assert optimal_mixing_weight(0.1, 1.0, 0.2, 0.1, np.inf) == 0.0
    assert optimal_mixing_weight(0.0, 1.0, 0.5, 0.1, np.inf) == 0.9 / 1.3
    # A teacher that always gives the loss of the label.
    assert np.isnan(optimal_mixing_weight(0.0, 1.0, 1.0, 1.0, 10))


def test_the_example_of_the_derivation():
    """w* at N = 10, 50, 200, 1000, and N* = 150, by hand."""
    b, v1, vt, c = 0.1, 2.0, 0.5, 0.4
    expected = [1.6 / (n * 0.01 + 1.7) for n in (10, 50, 200, 1000)]
    got = [optimal_mixing_weight(b, v1, vt, c, n) for n in (10, 50, 200, 1000)]
    assert_allclose(got, expected)
    assert_allclose(break_even_sample_size(b, v1, vt), 150)


@pytest.fixture(scope="module")
def problem():
    _, y, p = make_class_overlap(60_000, n_classes=3, random_state=0)
    return y, p, distort_proba(p, 0.5), distort_proba(p, 1.3)


@pytest.mark.parametrize("loss", ["log_loss", "brier"])
def test_estimates_equal_the_formulas_of_the_moments(loss, problem):
    y, _, teacher, student = (values[:500] for values in problem)
    losses = loss_vectors(student, loss)
    a = losses[np.arange(500), y]
    t = (teacher * losses).sum(axis=1)
    cov = np.cov(a, t)
    got = mixing_diagnostics(y, teacher, student, n_samples=40, loss=loss)
    d = t - a
    bias = np.sqrt(max(d.mean() ** 2 - d.var(ddof=1) / 500, 0))
    assert_allclose(got.bias.estimate, d.mean())
    assert_allclose(
        got.mixing_weight.estimate,
        optimal_mixing_weight(bias, cov[0, 0], cov[1, 1], cov[0, 1], 40),
    )
    assert_allclose(
        got.break_even.estimate, break_even_sample_size(bias, cov[0, 0], cov[1, 1])
    )


def test_true_probabilities_give_what_labels_estimate(problem):
    y, p, teacher, student = problem
    exact = mixing_diagnostics(p, teacher, student, n_samples=100)
    estimated = mixing_diagnostics(y, teacher, student, n_samples=100)
    for name in ("bias", "mixing_weight", "break_even"):
        of_truth, of_labels = getattr(exact, name), getattr(estimated, name)
        assert of_truth.estimate in of_labels
        assert of_truth.high - of_truth.low < of_labels.high - of_labels.low
    # The moments with true probabilities are those over all labels of each row.
    mean, square_of_mean, mean_of_square = reference.objective_moments(
        p[:300], student[:300], "log_loss"
    )
    few_rows = mixing_diagnostics(p[:300], teacher[:300], student[:300])
    t = (teacher[:300] * loss_vectors(student[:300])).sum(axis=1)
    inner = (p[:300] * loss_vectors(student[:300])).sum(axis=1)
    v1 = (square_of_mean - mean**2) * 300 / 299 + mean_of_square - square_of_mean
    c = np.cov(inner, t)[0, 1]
    bias = t - inner
    squared = max(bias.mean() ** 2 - bias.var(ddof=1) / 300, 0)
    assert_allclose(
        few_rows.mixing_weight.estimate,
        optimal_mixing_weight(np.sqrt(squared), v1, t.var(ddof=1), c, 300),
    )


def test_the_mixed_objective_is_closest_to_the_risk_at_the_mixing_weight():
    """Simulated objectives of 25 rows: their squared error over mixing weights."""
    _, y, p = make_gaussians(25 * 6000, random_state=0)
    teacher, student = distort_proba(p, 0.3), distort_proba(p, 1.5)
    losses = loss_vectors(student)
    a, t = losses[np.arange(len(y)), y], (teacher * losses).sum(axis=1)
    risk = (p * losses).sum(axis=1).mean()
    hard, soft = (v.reshape(6000, 25).mean(axis=1) for v in (a, t))
    got = mixing_diagnostics(p, teacher, student, n_samples=25)
    grid = np.linspace(0, 1.5, 31)
    error = [np.mean(((1 - w) * hard + w * soft - risk) ** 2) for w in grid]
    assert abs(grid[np.argmin(error)] - got.mixing_weight.estimate) < 0.11
    assert (got.break_even.estimate > 25) == (error[20] < error[0])


def test_an_interpolating_teacher_has_no_mixing_weight():
    y = np.array([0, 1, 1, 0, 1])
    proba = np.linspace(0.2, 0.7, 5)[:, None] * [1, -1] + [0, 1]
    got = mixing_diagnostics(y, np.eye(2)[y], proba)
    assert got.bias.estimate == 0
    assert np.isnan(got.mixing_weight.estimate)
    assert (got.mixing_weight.low, got.mixing_weight.high) == (-np.inf, np.inf)
    assert got.break_even.estimate == 0


@pytest.mark.parametrize("loss", ["log_loss", "brier"])
@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize("known", [False, True], ids=["labels", "true"])
def test_where_all_losses_are_equal_labels_and_teacher_say_the_same(
    known, n_classes, loss
):
    """Sums of a row's probabilities times one number differ by rounding."""
    rng = np.random.default_rng(0)
    teacher, true = rng.dirichlet(np.ones(n_classes), (2, 40))
    student = np.full((40, n_classes), 1 / n_classes)
    y = true if known else np.arange(40) % n_classes
    got = mixing_diagnostics(y, teacher, student, loss=loss)
    for interval in (got.bias, got.break_even):
        assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)
    assert np.isnan(got.mixing_weight.estimate)
    assert (got.mixing_weight.low, got.mixing_weight.high) == (-np.inf, np.inf)
    # A row that tells labels and teacher apart decides alone.
    student[0] = np.linspace(1, 2, n_classes) / np.linspace(1, 2, n_classes).sum()
    got = mixing_diagnostics(y, teacher, student, loss=loss)
    assert got.bias.estimate != 0
    assert np.isfinite(got.mixing_weight.estimate)


def test_weights_scale_rows_and_zero_removes_them(problem):
    y, _, teacher, student = (values[:200] for values in problem)
    weight = np.random.default_rng(0).uniform(0.5, 2, 200)
    weight[::7] = 0.0
    kept = weight > 0
    assert mixing_diagnostics(
        y, teacher, student, sample_weight=weight
    ) == mixing_diagnostics(
        y[kept], teacher[kept], student[kept], sample_weight=weight[kept]
    )
    equal = mixing_diagnostics(y, teacher, student, sample_weight=np.full(200, 3.0))
    plain = mixing_diagnostics(y, teacher, student)
    assert_allclose(equal.mixing_weight.high, plain.mixing_weight.high)
    assert_allclose(equal.break_even.low, plain.break_even.low)


P = [[0.5, 0.5], [0.2, 0.8]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimal_mixing_weight(0.1, -1.0, 1.0, 0.0, 5), "variance_labels=-1.0"),
        (lambda: optimal_mixing_weight(0.1, 1.0, np.nan, 0.0, 5), "variance_soft=nan"),
        (lambda: optimal_mixing_weight(0.1, 1.0, 1.0, 2.0, 5), "covariance=2.0"),
        (lambda: optimal_mixing_weight(0.1, 1.0, 1.0, np.nan, 5), "covariance=nan"),
        (lambda: optimal_mixing_weight(np.nan, 1.0, 1.0, 0.0, 5), "bias=nan"),
        (lambda: optimal_mixing_weight(0.1, 1.0, 1.0, 0.0, 0), "n_samples=0"),
        (lambda: break_even_sample_size(np.nan, 2.0, 1.0), "bias=nan"),
        (lambda: break_even_sample_size(0.1, np.inf, 1.0), "variance_labels=inf"),
        (lambda: break_even_sample_size(0.1, 1.0, -1.0), "variance_soft=-1.0"),
        (lambda: mixing_diagnostics([0, 1], P, P, level=0), "level=0"),
        (lambda: mixing_diagnostics([0, 1], [[0.5, 0.4]] * 2, P), "teacher_proba"),
        (lambda: mixing_diagnostics([0, 1], P, P, n_samples=-1), "n_samples=-1"),
    ],
)
def test_errors_name_the_parameter(call, message):
    with pytest.raises(ValueError, match=message):
        call()
