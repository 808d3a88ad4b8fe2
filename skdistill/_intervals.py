"""Confidence intervals, each for one kind of quantity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from scipy.stats import t as student_t
from sklearn.utils import check_array

from skdistill._arguments import is_scalar_number, naming
from skdistill._typing import FloatArray


@dataclass(frozen=True)
class ConfidenceInterval:
    """An estimate, and an interval that holds the truth with a stated probability.

    It can be used as a number, which is the estimate, and prints as
    ``estimate [low, high]``.

    Attributes
    ----------
    estimate : float
        The estimate.
    standard_error : float
        Its standard error; NaN where the interval is not made of one.
    low, high : float
        The ends of the interval, which may be infinite.
    level : float
        Probability of holding the truth, in (0, 1).

    Examples
    --------
    >>> from skdistill.diagnostics import ConfidenceInterval
    >>> interval = ConfidenceInterval(0.5, 0.1, 0.3, 0.7, level=0.95)
    >>> print(interval, float(interval), 0.4 in interval)
    0.500 [0.300, 0.700] 0.5 True
    """

    estimate: float
    standard_error: float
    low: float
    high: float
    level: float

    def __float__(self) -> float:
        return self.estimate

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        parts = (self.estimate, self.low, self.high)
        return "{} [{}, {}]".format(*map(format_number, parts))


def format_number(value: float) -> str:
    """Write a number for a table: three places, or digits where it is large.

    Parameters
    ----------
    value : float
        Any number.

    Returns
    -------
    str
        "-" for NaN, "inf" for infinity.
    """
    if np.isnan(value):
        return "-"
    if np.isinf(value):
        return "inf" if value > 0 else "-inf"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def check_level(level: float) -> float:
    """Return a confidence level that is one.

    Parameters
    ----------
    level : float
        What the user passed.

    Returns
    -------
    float
        The level.

    Raises
    ------
    ValueError
        If it is not in (0, 1).
    """
    if not is_scalar_number(level) or not 0 < level < 1:
        raise ValueError(
            f"level={level!r} must be in (0, 1): the probability with which an "
            "interval holds the truth."
        )
    return float(level)


def t_interval(
    estimate: float, standard_error: float, df: float, level: float
) -> ConfidenceInterval:
    """Put Student's interval round an estimate.

    Parameters
    ----------
    estimate, standard_error : float
        The estimate and its standard error.
    df : float
        Degrees of freedom; below 1 the interval is all numbers.
    level : float
        Confidence level.

    Returns
    -------
    ConfidenceInterval
        ``estimate +- t * standard_error``.
    """
    if df < 1:
        return ConfidenceInterval(estimate, np.nan, -np.inf, np.inf, level)
    estimate, standard_error = float(estimate), float(standard_error)
    half = float(student_t.ppf((1 + level) / 2, df)) * standard_error
    return ConfidenceInterval(
        estimate, standard_error, estimate - half, estimate + half, level
    )


def normalised_weight(sample_weight: FloatArray) -> FloatArray:
    """Scale weights to mean 1.

    Parameters
    ----------
    sample_weight : ndarray of shape (n_samples,)
        Positive weights.

    Returns
    -------
    ndarray of shape (n_samples,)
        ``n w_i / sum w``.
    """
    return sample_weight * (len(sample_weight) / sample_weight.sum())


def mean_interval(
    values: FloatArray, sample_weight: FloatArray, level: float
) -> ConfidenceInterval:
    r"""Estimate a mean over rows, with Student's interval.

    .. math::
        \bar v = \tfrac1n \sum_i \omega_i v_i, \qquad
        \mathrm{se}^2 = \frac{1}{n (n - 1)} \sum_i \omega_i^2 (v_i - \bar v)^2

    with weights :math:`\omega` of mean 1. They are importance weights: a row of weight
    2 counts twice and is still one draw.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        One number a row.
    sample_weight : ndarray of shape (n_samples,)
        Positive weights.
    level : float
        Confidence level.

    Returns
    -------
    ConfidenceInterval
        With n - 1 degrees of freedom.
    """
    n = len(values)
    omega = normalised_weight(sample_weight)
    mean = float(omega @ values / n)
    if n < 2:
        return t_interval(mean, np.nan, 0, level)
    squares = float(np.square(omega * (values - mean)).sum())
    return t_interval(mean, np.sqrt(squares / (n * (n - 1))), n - 1, level)


def proportion_interval(
    values: FloatArray, sample_weight: FloatArray, level: float
) -> ConfidenceInterval:
    r"""Estimate a share of rows, with Wilson's interval.

    .. math::
        \frac{\bar v + \frac{z^2}{2n} \pm z \sqrt{\frac{\bar v (1 - \bar v)}{n}
        + \frac{z^2}{4 n^2}}}{1 + \frac{z^2}{n}}

    which, unlike the interval of a mean, holds for shares near 0 and 1; with weights
    :math:`n = (\sum_i w_i)^2 / \sum_i w_i^2`.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        Numbers in [0, 1], as a rule 0 and 1.
    sample_weight : ndarray of shape (n_samples,)
        Positive weights.
    level : float
        Confidence level.

    Returns
    -------
    ConfidenceInterval
        Within [0, 1].
    """
    omega = normalised_weight(sample_weight)
    share = float(omega @ values / len(values))
    n = len(values) ** 2 / float(omega @ omega)
    z = float(norm.ppf((1 + level) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    root = np.sqrt(max(share * (1 - share), 0.0) / n + z**2 / (4 * n**2))
    half = z * root / (1 + z**2 / n)
    error = float(np.sqrt(max(share * (1 - share), 0.0) / n))
    # At a share of 0 or 1 one end is this share, but for rounding.
    low, high = min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share)
    return ConfidenceInterval(share, error, float(low), float(high), level)


def lengthen(interval: ConfidenceInterval, factor: float) -> ConfidenceInterval:
    """Multiply standard error and length of an interval.

    Parameters
    ----------
    interval : ConfidenceInterval
        An interval.
    factor : float
        By what.

    Returns
    -------
    ConfidenceInterval
        Round the same estimate.
    """
    centre = interval.estimate
    return replace(
        interval,
        standard_error=interval.standard_error * factor,
        low=centre + factor * (interval.low - centre),
        high=centre + factor * (interval.high - centre),
    )


def skewed_mean_interval(
    values: FloatArray, sample_weight: FloatArray, level: float
) -> ConfidenceInterval:
    r"""Estimate the mean of skewed numbers, such as differences of squares.

    Student's interval of the mean, longer by the factor

    .. math::
        1 + \sqrt{(\kappa - 1) / n}

    with the kurtosis :math:`\kappa`. It is one and twice the relative standard error of
    the standard error: squares of losses have long tails, and the error of their mean
    is underestimated just where the mean is.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        One number a row.
    sample_weight : ndarray of shape (n_samples,)
        Positive weights.
    level : float
        Confidence level.

    Returns
    -------
    ConfidenceInterval
        The standard error is the plain one.
    """
    plain = mean_interval(values, sample_weight, level)
    half = (plain.high - plain.estimate) * _lengthening(values, sample_weight)
    return replace(plain, low=plain.estimate - half, high=plain.estimate + half)


def _lengthening(values: FloatArray, sample_weight: FloatArray) -> float:
    omega = normalised_weight(sample_weight)
    squares = np.square(omega * (values - omega @ values / len(values)))
    mean = squares.mean()
    kurtosis = np.square(squares).mean() / mean**2 if mean > 0 else 1.0
    return float(1 + np.sqrt((kurtosis - 1) / len(values)))


def positive_mean_interval(
    values: FloatArray, sample_weight: FloatArray, level: float
) -> ConfidenceInterval:
    r"""Estimate the mean of non-negative, skewed numbers, such as squares.

    The interval :math:`\bar v \pm h` of :func:`skewed_mean_interval`, for the logarithm
    of the mean, :math:`\bar v\, e^{\pm h / \bar v}`: it stays above 0, and is longer
    above the estimate than below it, as the distribution of a variance is.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        Non-negative numbers.
    sample_weight : ndarray of shape (n_samples,)
        Positive weights.
    level : float
        Confidence level.

    Returns
    -------
    ConfidenceInterval
        Of positive numbers, or 0 alone if all the numbers are 0.
    """
    plain = skewed_mean_interval(values, sample_weight, level)
    if len(values) < 2 or plain.estimate <= 0:
        return replace(plain, low=max(plain.low, 0.0))
    exponent = (plain.high - plain.estimate) / plain.estimate
    # A huge interval of very few rows is not to overflow.
    factor = float(np.exp(min(exponent, 700.0)))
    return replace(plain, low=plain.estimate / factor, high=plain.estimate * factor)


def corrected_resampled_interval(
    differences: ArrayLike,
    test_train_ratio: float,
    *,
    df: float | None = None,
    level: float = 0.95,
) -> ConfidenceInterval:
    r"""Interval for a mean difference over the splits of a cross-validation.

    .. math::
        \bar d \pm t_{J - 1} \sqrt{\Bigl(\frac1J + \frac{n_2}{n_1}\Bigr) s^2},
        \qquad s^2 = \frac{1}{J - 1} \sum_{j=1}^J (d_j - \bar d)^2

    for :math:`J` splits with :math:`n_1` training and :math:`n_2` test rows. The second
    term of the bracket is the correction of [Nadeau2003]_: training sets overlap, so
    the differences of the splits go together, and the plain variance of their mean,
    :math:`s^2 / J`, is too small.

    Parameters
    ----------
    differences : array-like of shape (n_splits,)
        d, of two methods on the same splits; at least two.
    test_train_ratio : float
        :math:`n_2 / n_1`, above 0: for K folds, ``1 / (K - 1)``.
    df : float, default=None
        Degrees of freedom, at least 1. None means J - 1.
    level : float, default=0.95
        Confidence level.

    Returns
    -------
    interval : ConfidenceInterval
        Of the expected difference for training sets of :math:`n_1` rows.

    Raises
    ------
    ValueError
        If there are fewer than two differences, or one is not finite, or the ratio or
        the level is out of its range.

    Notes
    -----
    The correction assumes that two splits correlate by :math:`n_2 / (n_1 + n_2)`; it
    is an approximation, and no estimate of the variance can be unbiased for every
    distribution. How often such intervals hold the truth is measured in
    ``examples/benchmarks/bench_coverage.py``.

    References
    ----------
    .. [Nadeau2003] Nadeau and Bengio, "Inference for the generalization error",
       Machine Learning 52:239-281, 2003.

    Examples
    --------
    >>> from skdistill.diagnostics import corrected_resampled_interval
    >>> print(corrected_resampled_interval([0.1, 0.2, 0.3], 0.5))
    0.200 [-0.193, 0.593]
    """
    with naming("differences"):
        values: Any = check_array(
            differences, ensure_2d=False, dtype=np.float64, input_name="differences"
        )
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            "differences must be one number for each of two splits at least, got shape "
            f"{values.shape}."
        )
    if not is_scalar_number(test_train_ratio) or not 0 < test_train_ratio < np.inf:
        raise ValueError(
            f"test_train_ratio={test_train_ratio!r} must be a number above 0."
        )
    n_splits = len(values)
    error = values.std(ddof=1) * np.sqrt(1 / n_splits + test_train_ratio)
    df = n_splits - 1 if df is None else df
    if not is_scalar_number(df) or not df >= 1:
        raise ValueError(f"df={df!r} must be a number of at least 1.")
    return t_interval(values.mean(), error, df, check_level(level))
