import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from reference import statistics as reference
from reference.losses import weighted_mean
from scipy import stats

from skdistill._intervals import (
    format_number,
    mean_interval,
    positive_mean_interval,
    proportion_interval,
    skewed_mean_interval,
)
from skdistill.datasets import distort_proba, draw_labels, make_class_overlap
from skdistill.diagnostics import (
    bayes_distilled_risk,
    corrected_resampled_interval,
    distilled_risk,
    empirical_risk,
    loss_vectors,
    objective_variance,
)

LOSSES = ["log_loss", "brier", "zero_one"]
few = settings(max_examples=40, deadline=None)


@st.composite
def pairs(draw, n_rows=5):
    shape = (2, n_rows, draw(st.integers(2, 4)))
    raw = draw(arrays(np.float64, shape, elements=st.floats(0, 1)))
    raw[:, :, 0] += raw.sum(axis=2) == 0
    return raw / raw.sum(axis=2, keepdims=True)


@pytest.fixture(params=[2, 4], ids=["binary", "multiclass"])
def rows(request):
    """Labels, two matrices of probabilities with zeros and ones, weights with zeros."""
    rng = np.random.default_rng(0)
    k = request.param
    p, q = rng.dirichlet(np.ones(k), size=(2, 30))
    p[0], p[1], q[1] = np.eye(k)[0], np.eye(k)[1], np.eye(k)[0]
    y = rng.integers(k, size=30)
    y[:k] = range(k)
    weight = rng.uniform(0.5, 2, size=30)
    weight[[4, 9]] = 0.0
    return y, p, q, weight


# -- risks --------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_risks_equal_the_reference(loss, weighted, rows):
    y, p, q, weight = rows
    weight = weight if weighted else None
    options = {"loss": loss, "sample_weight": weight}
    hard = reference.risk_values(reference.one_hot(y, q.shape[1]), q, loss)
    soft = reference.risk_values(p, q, loss)
    assert_allclose(loss_vectors(q, loss), [reference.loss_row(r, loss) for r in q])
    assert_allclose(
        empirical_risk(y, q, **options).estimate, weighted_mean(hard, weight)
    )
    for risk in (distilled_risk, bayes_distilled_risk):
        assert_allclose(risk(p, q, **options).estimate, weighted_mean(soft, weight))


def test_interval_of_a_risk_is_students(rows):
    y, _, q, _ = rows
    names = np.array(list("dcba"))[: q.shape[1]]
    values = [
        reference.risk_values([row], [p], "brier")[0]
        for row, p in zip(np.eye(q.shape[1])[y], q, strict=True)
    ]
    got = empirical_risk(names[y], q, loss="brier", labels=names, level=0.9)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert_allclose([got.low, got.high], expected)
    assert_allclose(got.standard_error, stats.sem(values))
    assert got.level == 0.9
    assert float(got) == got.estimate
    assert got.estimate in got
    assert got.high + 1 not in got


def test_log_loss_of_certain_probabilities_is_finite():
    certain = np.eye(2)
    assert empirical_risk([0, 1], certain).estimate == 0.0
    assert_allclose(empirical_risk([1, 0], certain).estimate, 52 * math.log(2))
    single = certain.astype(np.float32)
    assert_allclose(empirical_risk([1, 0], single).estimate, 23 * math.log(2))


def test_a_loss_of_ones_own(rows):
    y, p, q, _ = rows
    got = distilled_risk(p, q, loss=lambda proba: np.abs(1 - proba))
    assert_allclose(got.estimate, (p * (1 - q)).sum(axis=1).mean())
    with pytest.raises(ValueError, match="what loss returns has shape"):
        empirical_risk(y, q, loss=lambda proba: proba[:, :1])


def test_rows_of_weight_zero_are_as_if_absent(rows):
    y, p, q, weight = rows
    kept = weight > 0
    for function, target in ((empirical_risk, y), (distilled_risk, p)):
        assert function(target, q, sample_weight=weight) == function(
            target[kept], q[kept], sample_weight=weight[kept]
        )
    assert objective_variance(p, q, y=y, sample_weight=weight) == objective_variance(
        p[kept], q[kept], y=y[kept], sample_weight=weight[kept]
    )
    scaled = empirical_risk(y, q, sample_weight=7 * weight)
    assert_allclose(
        [scaled.low, scaled.high],
        [
            getattr(empirical_risk(y, q, sample_weight=weight), e)
            for e in ("low", "high")
        ],
    )


# -- variances: Lemma 1 -------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_variances_equal_the_reference(loss, rows):
    """From the moments of all labels that the rows could have."""
    _, p, q, _ = rows
    n, size = len(p), 7
    mean, square_of_mean, mean_of_square = reference.objective_moments(p, q, loss)
    got = objective_variance(p, q, n_samples=size, loss=loss)
    # The spread of the conditional means is estimated from n rows: divisor n - 1.
    soft = (square_of_mean - mean**2) * n / (n - 1)
    gap = mean_of_square - square_of_mean
    assert_allclose(got.soft.estimate, soft / size)
    assert_allclose(got.gap.estimate, gap / size, atol=1e-12)
    assert_allclose(got.one_hot.estimate, (soft + gap) / size)
    assert got.n_samples == size
    assert objective_variance(p, q, loss=loss).n_samples == n


def test_variances_of_a_hand_computed_example():
    """Two kinds of rows, x = 0 and x = 1, losses 0 and 1."""
    p = np.array([[0.5, 0.5], [1.0, 0.0]] * 2)
    proba = np.array([[1.0, 0.0]] * 4)
    got = objective_variance(p, proba, loss="zero_one")
    # E[l | x] is 1/2 or 0: variance 1/16, times 4/3; Var[l | x] is 1/4 or 0.
    assert_allclose(got.soft.estimate, 1 / 16 * 4 / 3 / 4)
    assert_allclose(got.gap.estimate, 1 / 8 / 4)
    assert_allclose(got.one_hot.estimate, (1 / 12 + 1 / 8) / 4)


@few
@given(pairs(), st.sampled_from(LOSSES))
def test_soft_labels_never_vary_more(pair, loss):
    """Lemma 1, and its gap, which is that of the law of total variance."""
    p, q = pair
    got = objective_variance(p, q, loss=loss)
    assert got.gap.estimate >= 0
    assert got.soft.estimate <= got.one_hot.estimate
    assert_allclose(
        got.one_hot.estimate, got.soft.estimate + got.gap.estimate, rtol=1e-12
    )


@few
@given(pairs())
def test_the_gap_is_zero_where_labels_are_certain_or_classes_cost_the_same(pair):
    p, q = pair
    certain = np.eye(p.shape[1])[p.argmax(axis=1)]
    uniform = np.full_like(q, 1 / q.shape[1])
    for soft_labels, proba in ((certain, q), (p, uniform)):
        gap = objective_variance(soft_labels, proba).gap
        assert_allclose([gap.low, gap.estimate, gap.high], 0.0, atol=1e-20)


def test_variances_are_those_of_simulated_objectives():
    """V of the mean loss over 20 rows, with labels and with true probabilities."""
    _, _, p = make_class_overlap(20 * 4000, random_state=0)
    q = distort_proba(p, 1.5)
    y = draw_labels(p, random_state=1)
    losses = loss_vectors(q, "brier")
    means = [
        values.reshape(4000, 20).mean(axis=1)
        for values in (losses[np.arange(len(y)), y], (p * losses).sum(axis=1))
    ]
    got = objective_variance(p, q, n_samples=20, loss="brier")
    assert_allclose(got.one_hot.estimate, means[0].var(ddof=1), rtol=0.1)
    assert_allclose(got.soft.estimate, means[1].var(ddof=1), rtol=0.1)
    with_labels = objective_variance(p, q, y=y, n_samples=20, loss="brier")
    assert with_labels.soft == got.soft
    assert_allclose(with_labels.one_hot.estimate, got.one_hot.estimate, rtol=0.05)
    assert got.gap.estimate in with_labels.gap
    assert got.gap.standard_error < with_labels.gap.standard_error


def test_variances_with_weights_are_those_of_the_weighted_objective():
    """Weights that go with the row: V of sum w l / n for weights of mean 1."""
    rng = np.random.default_rng(0)
    _, _, p = make_class_overlap(20 * 6000, random_state=0)
    y = draw_labels(p, random_state=1)
    weight = rng.choice([0.5, 1.5], size=len(p))
    losses = loss_vectors(p, "brier")
    for values, name in (
        (losses[np.arange(len(y)), y], "one_hot"),
        ((p * losses).sum(axis=1), "soft"),
    ):
        w, v = weight.reshape(6000, 20), values.reshape(6000, 20)
        simulated = (w * (v - values.mean())).mean(axis=1).var()
        got = objective_variance(p, p, n_samples=20, loss="brier", sample_weight=weight)
        assert_allclose(getattr(got, name).estimate, simulated, rtol=0.1)


# -- intervals ----------------------------------------------------------------------


def test_corrected_interval_of_a_hand_computed_example():
    got = corrected_resampled_interval([1.0, 2.0, 3.0, 6.0], 0.25, level=0.95)
    variance = (4 + 1 + 0 + 9) / 3 * (1 / 4 + 1 / 4)
    half = stats.t.ppf(0.975, 3) * math.sqrt(variance)
    assert_allclose([got.estimate, got.low, got.high], [3.0, 3.0 - half, 3.0 + half])


def test_share_has_the_interval_of_wilson():
    expected = stats.binomtest(7, 40).proportion_ci(0.9, method="wilson")
    values = np.r_[np.ones(7), np.zeros(33)]
    got = proportion_interval(values, np.ones(40), 0.9)
    assert_allclose([got.low, got.high], expected)
    # With weights n is the effective number of rows: here 2 weights of 20 rows each.
    weight = np.r_[np.full(20, 3.0), np.full(20, 1.0)]
    n = (60 + 20) ** 2 / (20 * 9 + 20)
    weighted = proportion_interval(np.ones(40), weight, 0.9)
    z = stats.norm.ppf(0.95)
    assert_allclose(weighted.low, 1 / (1 + z**2 / n))
    assert weighted.high == 1.0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_interval_of_a_share_holds_the_share(share):
    """Rounding left an end beside 0 or 1 in a fifth of the sizes."""
    for n in range(1, 60):
        got = proportion_interval(np.full(n, share), np.ones(n), 0.95)
        assert share in got
        assert 0 <= got.low < got.high <= 1


def test_interval_of_a_positive_mean_is_that_of_its_logarithm():
    values = np.array([1.0, 4.0, 2.0, 9.0])
    plain = mean_interval(values, np.ones(4), 0.95)
    # Deviations -3, 0, -2, 5: kurtosis (81 + 16 + 625) / 4 over (38 / 4) squared.
    longer = 1 + math.sqrt((722 / 4 / (38 / 4) ** 2 - 1) / 4)
    skewed = skewed_mean_interval(values, np.ones(4), 0.95)
    assert_allclose(skewed.high - 4, longer * (plain.high - 4))
    assert_allclose(skewed.low - 4, longer * (plain.low - 4))
    assert skewed.standard_error == plain.standard_error
    got = positive_mean_interval(values, np.ones(4), 0.95)
    factor = math.exp((skewed.high - 4.0) / 4.0)
    assert_allclose([got.low, got.estimate, got.high], [4 / factor, 4.0, 4 * factor])
    zeros = positive_mean_interval(np.zeros(4), np.ones(4), 0.95)
    assert (zeros.low, zeros.estimate, zeros.high) == (0, 0, 0)


def test_one_row_says_nothing():
    got = empirical_risk([0], [[0.5, 0.5]], labels=[0, 1])
    assert (got.low, got.high) == (-np.inf, np.inf)
    assert str(got) == "0.693 [-inf, inf]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (1234.5, "1,234"),
        (0.00123, "0.0012"),
        (np.nan, "-"),
        (np.inf, "inf"),
        (-0.5, "-0.500"),
    ],
)
def test_numbers_are_written_for_reading(value, text):
    assert format_number(value) == text


# -- errors -------------------------------------------------------------------------

P = [[0.5, 0.5], [0.2, 0.8]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: empirical_risk(P, P), "use distilled_risk"),
        (lambda: empirical_risk([0, 1], P, level=1.0), "level=1.0 must be in"),
        (lambda: empirical_risk([0, 1], P, level="high"), "level='high' must be in"),
        (lambda: empirical_risk([0, 1], P, level=None), "level=None must be in"),
        (lambda: empirical_risk([0, 1], P, loss="hinge"), "loss='hinge' must be"),
        (lambda: empirical_risk([0, 1], [[0.5, 0.6]] * 2), "proba must have"),
        (lambda: empirical_risk([0, 2], P, labels=[0, 1]), "not in labels"),
        (lambda: distilled_risk([[0.5, 0.4]] * 2, P), "teacher_proba must have"),
        (lambda: bayes_distilled_risk([[0.5, 0.4]] * 2, P), "bayes_proba must have"),
        (lambda: distilled_risk(P[:1], P), "shape"),
        (lambda: objective_variance(P, P, n_samples=0), "n_samples=0 must be"),
        (lambda: objective_variance(P, P, n_samples=1.5), "n_samples=1.5 must be"),
        (lambda: objective_variance(P, P, sample_weight=[1, 0]), "two rows"),
        (lambda: corrected_resampled_interval([1.0], 0.2), "two splits"),
        (lambda: corrected_resampled_interval([1.0, np.nan], 0.2), "differences"),
        (lambda: corrected_resampled_interval([1, 2], 0.0), "test_train_ratio=0.0"),
        (lambda: corrected_resampled_interval([1, 2], "a"), "test_train_ratio='a'"),
        (lambda: corrected_resampled_interval([1, 2], 1.0, df="a"), "df='a' must be"),
    ],
)
def test_errors_name_the_parameter(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_degrees_of_freedom_can_be_given():
    wide = corrected_resampled_interval([1.0, 2.0, 4.0], 0.2, df=1)
    assert wide.high - 7 / 3 > 2 * (
        corrected_resampled_interval([1.0, 2.0, 4.0], 0.2).high - 7 / 3
    )
    with pytest.raises(ValueError, match="df=0 must be"):
        corrected_resampled_interval([1.0, 2.0], 0.2, df=0)
