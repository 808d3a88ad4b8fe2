"""How much to listen to a teacher at a reference student, and up to which size."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from skdistill._arguments import is_scalar_number
from skdistill._intervals import (
    ConfidenceInterval,
    check_level,
    mean_interval,
    normalised_weight,
    t_interval,
)
from skdistill._risks import (
    Loss,
    LossRows,
    check_size,
    conditional_variance,
    loss_rows,
)
from skdistill._typing import FloatArray
from skdistill.metrics import _check_proba


def optimal_mixing_weight(
    bias: float,
    variance_labels: float,
    variance_soft: float,
    covariance: float,
    n_samples: float,
) -> float:
    r"""Mixing weight at which the mixed objective is closest to the risk.

    .. math::
        w^* = \frac{V_1 - C}{N b^2 + V_1 + V_t - 2 C}

    minimises the mean squared error of the objective with targets :math:`(1 - w)\,
    e_y + w\, p^t` for a fixed student,

    .. math::
        w^2 b^2 + \tfrac1N \bigl[(1 - w)^2 V_1 + w^2 V_t + 2 w (1 - w) C\bigr].

    Parameters
    ----------
    bias : float
        b, expected loss under the teacher less expected loss under the labels.
    variance_labels : float
        :math:`V_1`, variance of the loss of a row under its label.
    variance_soft : float
        :math:`V_t`, variance of the loss of a row under the teacher.
    covariance : float
        C, their covariance.
    n_samples : float
        N.

    Returns
    -------
    weight : float
        :math:`w^*`. It falls to 0 as N grows, unless the teacher has no bias; above 1
        where teacher and labels err alike. NaN if teacher and labels always give the
        same loss, so that it does not matter.

    Raises
    ------
    ValueError
        If a number is not finite, a variance is negative, the covariance is larger than
        the variances allow, or `n_samples` is not positive.

    Examples
    --------
    >>> from skdistill.diagnostics import optimal_mixing_weight
    >>> [round(optimal_mixing_weight(0.1, 2.0, 0.5, 0.4, n), 2) for n in (1, 100, 999)]
    [0.94, 0.59, 0.14]
    """
    _check_moments(bias, variance_labels, variance_soft)
    if not is_scalar_number(covariance) or not np.isfinite(covariance):
        raise ValueError(f"covariance={covariance!r} must be finite.")
    if covariance**2 > variance_labels * variance_soft * (1 + 1e-9):
        raise ValueError(
            f"covariance={covariance!r} is larger than its variances allow, "
            f"{variance_labels!r} and {variance_soft!r}."
        )
    if not is_scalar_number(n_samples) or not n_samples > 0:
        raise ValueError(f"n_samples={n_samples!r} must be positive.")
    spread = variance_labels + variance_soft - 2 * covariance
    # Without bias the number of rows does not matter, and may be infinite.
    divisor = spread + (n_samples * bias**2 if bias else 0.0)
    return float((variance_labels - covariance) / divisor) if divisor > 0 else np.nan


def break_even_sample_size(
    bias: float, variance_labels: float, variance_soft: float
) -> float:
    r"""Sample size up to which soft labels alone beat labels alone.

    .. math::
        N^* = \frac{V_1 - V_t}{b^2}

    For fewer than :math:`N^*` rows the objective with the teacher's probabilities is
    closer to the risk of a fixed student, in mean squared error, than the one with
    labels: :math:`b^2 + V_t / N < V_1 / N`.

    Parameters
    ----------
    bias : float
        b, expected loss under the teacher less expected loss under the labels.
    variance_labels : float
        :math:`V_1`, variance of the loss of a row under its label.
    variance_soft : float
        :math:`V_t`, variance of the loss of a row under the teacher.

    Returns
    -------
    size : float
        :math:`N^*`: 0 if the teacher's losses vary as much as those of labels or more,
        infinite if they vary less and there is no bias.

    Raises
    ------
    ValueError
        If a number is not finite, or a variance is negative.

    Examples
    --------
    >>> from skdistill.diagnostics import break_even_sample_size
    >>> round(break_even_sample_size(0.1, 2.0, 0.5))
    150
    """
    _check_moments(bias, variance_labels, variance_soft)
    return _ratio(max(variance_labels - variance_soft, 0.0), bias**2)


def _check_moments(bias: float, variance_labels: float, variance_soft: float) -> None:
    if not is_scalar_number(bias) or not np.isfinite(bias):
        raise ValueError(f"bias={bias!r} must be finite.")
    for name, value in (
        ("variance_labels", variance_labels),
        ("variance_soft", variance_soft),
    ):
        if not is_scalar_number(value) or not 0 <= value < np.inf:
            raise ValueError(f"{name}={value!r} must be finite and not negative.")


def _ratio(numerator: float, denominator: float) -> float:
    """Divide non-negative numbers; 0 by anything is 0."""
    if numerator == 0:
        return 0.0
    return float(numerator / denominator) if denominator > 0 else np.inf


@dataclass(frozen=True)
class MixingDiagnostics:
    """How far labels and teacher can be trusted at a reference student.

    Attributes
    ----------
    bias : ConfidenceInterval
        b, expected loss under the teacher less expected loss under the labels.
    mixing_weight : ConfidenceInterval
        :math:`w^*` for `n_samples` rows.
    break_even : ConfidenceInterval
        :math:`N^*`, the number of rows up to which soft labels alone beat labels alone.
    n_samples : int
        Number of rows that `mixing_weight` is for.

    See Also
    --------
    mixing_diagnostics : Makes one.

    Examples
    --------
    >>> from skdistill.diagnostics import mixing_diagnostics
    >>> proba = [[0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.4, 0.6]]
    >>> mixing_diagnostics([0, 1, 1, 1], proba, proba).n_samples
    4
    """

    bias: ConfidenceInterval
    mixing_weight: ConfidenceInterval
    break_even: ConfidenceInterval
    n_samples: int


def mixing_diagnostics(
    y_true: ArrayLike,
    teacher_proba: ArrayLike,
    proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    n_samples: int | None = None,
    loss: Loss = "log_loss",
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
) -> MixingDiagnostics:
    r"""Estimate bias, best mixing weight and break-even size of a teacher.

    With the loss :math:`a = e_y^\top \ell(q)` of a row under its label, its loss
    :math:`t = p^t(x)^\top \ell(q)` under the teacher, and :math:`d = t - a`,

    .. math::
        b = \mathrm E[d], \qquad w^* = \frac{-\mathrm{Cov}(a, d)}{\mathrm V[d] + N b^2},
        \qquad N^* = \frac{\mathrm V[a] - \mathrm V[t]}{b^2},

    which are :func:`optimal_mixing_weight` and :func:`break_even_sample_size`. They
    hold at the student :math:`q` that is passed, and need neither the true
    probabilities nor a student that was distilled.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels; or the true class probabilities, with which the moments are those over
        labels drawn from them.
    teacher_proba : array-like of shape (n_samples, n_classes)
        :math:`p^t`, by a teacher that has not seen these labels.
    proba : array-like of shape (n_samples, n_classes)
        q, by a student that has not seen these labels, as a rule trained on labels.
    labels : array-like of shape (n_classes,), default=None
        The label of each column. None means the sorted values of `y_true`.
    n_samples : int, default=None
        N, number of rows that the student is to be trained on. None means that of the
        rows passed whose weight is above 0.
    loss : {"log_loss", "brier", "zero_one"} or callable, default="log_loss"
        As in :func:`loss_vectors`.
    sample_weight : array-like of shape (n_samples,), default=None
        Importance weights, of the objective as well.
    level : float, default=0.95
        Confidence level.

    Returns
    -------
    diagnostics : MixingDiagnostics
        Estimates and intervals. In the estimates of :math:`w^*` and :math:`N^*` the
        square of the bias is reduced by its sampling error and not below 0. Their
        intervals are made of one for the bias and one for the variances, each at a
        level of :math:`(1 + \text{level}) / 2`, so they are conservative. Where all
        losses of each row are equal, as of a student of equal probabilities, labels and
        teacher say the same: the bias and :math:`N^*` are 0, and :math:`w^*`, which
        does not matter, is NaN.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, fewer than two have a positive
        weight, or a parameter is out of its range.

    Examples
    --------
    >>> from skdistill.datasets import distort_proba, make_gaussians
    >>> from skdistill.diagnostics import mixing_diagnostics
    >>> _, y, bayes_proba = make_gaussians(2000, random_state=0)
    >>> teacher_proba = distort_proba(bayes_proba, 0.5)
    >>> result = mixing_diagnostics(y, teacher_proba, bayes_proba, n_samples=50)
    >>> 0 < result.mixing_weight.estimate < 1
    True
    """
    level = check_level(level)
    hard = loss_rows(
        y_true, proba, loss=loss, labels=labels, sample_weight=sample_weight
    )
    soft = loss_rows(
        _check_proba(teacher_proba, "teacher_proba"),
        proba,
        loss=loss,
        labels=None,
        sample_weight=sample_weight,
    )
    size = check_size(n_samples, hard)
    hard_excess, soft_excess = _excess(hard), _excess(soft)
    gap = soft_excess.values - hard_excess.values
    moments = _moments(hard, gap, conditional_variance(hard_excess))
    return MixingDiagnostics(
        mean_interval(gap, hard.weight, level),
        _weight_interval(moments, size, level),
        _break_even_interval(moments, level),
        size,
    )


@dataclass(frozen=True)
class _Moments:
    """What w* and N* are made of; each row's share of a second moment, mean 1.

    Attributes
    ----------
    bias, bias_error : float
        b and its standard error.
    labels, soft : ndarray of shape (n_samples,)
        Shares of V[a] and of V[t].
    slope : ndarray of shape (n_samples,)
        Shares of -Cov(a, d).
    spread : ndarray of shape (n_samples,)
        Shares of V[d].
    """

    bias: float
    bias_error: float
    labels: FloatArray
    soft: FloatArray
    slope: FloatArray
    spread: FloatArray

    @property
    def squared_bias(self) -> float:
        return max(self.bias**2 - self.bias_error**2, 0.0)


def _excess(rows: LossRows) -> LossRows:
    """Return each row's losses less the lowest of them.

    Labels and teacher differ by these alone, and not at all where all are equal, which
    the sums of a row's probabilities times its losses would tell but for rounding.
    """
    return replace(rows, losses=rows.losses - rows.losses.min(axis=1, keepdims=True))


def _moments(hard: LossRows, d: FloatArray, variance: FloatArray) -> _Moments:
    n, omega = len(hard.weight), normalised_weight(hard.weight)
    a = hard.values
    t = a + d
    a0, t0, d0 = (omega * (v - omega @ v / n) for v in (a, t, d))
    # Of true probabilities, the variance of the labels round them belongs to it; it is
    # 0 for labels, and the same in V[a], in -Cov(a, d) and in V[d].
    within = omega**2 * variance
    correction = n / (n - 1)
    spread = correction * d0**2 + within
    return _Moments(
        float(omega @ d / n),
        float(np.sqrt((d0**2).sum() / (n * (n - 1)))),
        correction * a0**2 + within,
        correction * t0**2,
        -correction * a0 * d0 + within,
        spread,
    )


def _weight_interval(m: _Moments, size: int, level: float) -> ConfidenceInterval:
    """Put together the intervals of Cov / V[d] and of b^2 / V[d]."""
    n, each = len(m.spread), (1 + level) / 2
    spread = float(m.spread.mean())
    if spread == 0 and m.bias == 0:
        return ConfidenceInterval(np.nan, np.nan, -np.inf, np.inf, level)
    estimate = float(m.slope.mean()) / (spread + size * m.squared_bias)
    if spread == 0:  # a constant bias: nothing to divide by, and nothing is uncertain
        return ConfidenceInterval(estimate, np.nan, estimate, estimate, level)
    slope = float(m.slope.mean()) / spread
    residual = (m.slope - slope * m.spread) / spread
    slopes = t_interval(slope, residual.std(ddof=1) / np.sqrt(n), n - 1, each)
    effect = abs(m.bias) / np.sqrt(spread)
    error = np.sqrt(m.bias_error**2 / spread + effect**2 * _relative(m.spread) / 4)
    effects = t_interval(effect, error, n - 1, each)
    shrink = [1 / (1 + size * max(e, 0.0) ** 2) for e in (effects.high, effects.low)]
    corners = [s * factor for s in (slopes.low, slopes.high) for factor in shrink]
    return ConfidenceInterval(estimate, np.nan, min(corners), max(corners), level)


def _relative(shares: FloatArray) -> float:
    """Squared relative standard error of a mean of shares."""
    return float((shares.std(ddof=1) / shares.mean()) ** 2 / len(shares))


def _break_even_interval(m: _Moments, level: float) -> ConfidenceInterval:
    """Put together the intervals of V[a] - V[t] and of b."""
    n, each = len(m.spread), (1 + level) / 2
    lead = mean_interval(m.labels - m.soft, np.ones(n), each)
    bias = t_interval(abs(m.bias), m.bias_error, n - 1, each)
    return ConfidenceInterval(
        _ratio(max(lead.estimate, 0.0), m.squared_bias),
        np.nan,
        _ratio(max(lead.low, 0.0), bias.high**2),
        _ratio(max(lead.high, 0.0), max(bias.low, 0.0) ** 2),
        level,
    )
