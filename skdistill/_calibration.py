"""The temperature that calibrates a teacher, fitted to labels."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.validation import _check_sample_weight

__all__ = ["fit_temperature"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

# Log-probabilities that differ by less are taken for equal.
_FLAT = 1e-9


def fit_temperature(
    y_codes: ArrayLike,
    proba: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    bounds: tuple[float, float] = (0.05, 20.0),
) -> float:
    r"""Find the temperature at which tempered probabilities fit the labels best.

    .. math::
        \hat T = \arg\min_T \sum_i w_i \Bigl(
        -\log \frac{p_{i y_i}^{1/T}}{\sum_k p_{ik}^{1/T}} \Bigr)

    The single scalar of temperature scaling, Eq. (9) of [Guo2017]_, for
    probabilities in the place of logits. The sum is convex in :math:`1/T`, so the
    minimum is found by a bounded search over :math:`\log T`.

    Parameters
    ----------
    y_codes : array-like of shape (n_samples,)
        Labels as class codes in ``0, ..., n_classes - 1``.
    proba : array-like of shape (n_samples, n_classes)
        Probabilities for rows that the teacher was not fitted on.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. Rows of weight 0 are as if absent.
    bounds : tuple of two floats, default=(0.05, 20.0)
        Smallest and largest temperature.

    Returns
    -------
    temperature : float
        ``temper_proba(proba, temperature)`` is the calibrated teacher. A value of
        `bounds` if the loss is lowest there, as when the most probable class is
        right in each row. 1.0 (or the bound next to it) if the temperature makes no
        difference, as when each row is constant over its non-zero entries.

    Raises
    ------
    TypeError
        If `y_codes` does not hold integers.
    ValueError
        If `y_codes` is outside the classes, `proba` is not a matrix of non-negative
        values, lengths differ, `sample_weight` is negative, or `bounds` is not an
        increasing pair of positive numbers.

    Notes
    -----
    Tempering leaves exact zeros at zero. A row whose true class has probability 0,
    as trees and nearest neighbours give it, has infinite loss at any temperature;
    such rows are left out, since they say nothing about `temperature`. A floor such
    as 1e-12 would let these rows decide instead: it answers to the few rows that no
    temperature can repair by flattening all the others.

    For the other rows this is what ``CalibratedClassifierCV(method="temperature")``
    of scikit-learn fits to the output of ``predict_proba``, and the temperature is
    ``1 / beta_`` of its calibrator, which adds 1e-12 to the probabilities and so
    differs on data with zeros.

    References
    ----------
    .. [Guo2017] Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural
       networks", ICML 2017, PMLR 70:1321-1330.

    Examples
    --------
    >>> from skdistill._calibration import fit_temperature
    >>> proba = [[0.99, 0.01]] * 4
    >>> temperature = fit_temperature([0, 0, 0, 1], proba)
    >>> round(temperature, 3)
    4.183
    >>> round(0.99 ** (1 / temperature) / (
    ...     0.99 ** (1 / temperature) + 0.01 ** (1 / temperature)), 3)
    0.75
    """
    low, high = _check_bounds(bounds)
    codes, matrix, weight = _check_arguments(y_codes, proba, sample_weight)
    rows = np.flatnonzero((weight > 0) & (matrix[np.arange(len(codes)), codes] > 0))
    codes, log_proba, weight = codes[rows], _safe_log(matrix[rows]), weight[rows]
    if _is_flat(log_proba):
        return min(max(1.0, low), high)
    return _minimise(codes, log_proba, weight / weight.sum(), low, high)


def _minimise(
    codes: IntArray, log_proba: FloatArray, weight: FloatArray, low: float, high: float
) -> float:
    """Search log T; the bounds win ties, as the loss can be flat up to one of them."""
    picked = np.arange(len(codes)), codes

    def loss(log_temperature: float) -> float:
        tempered = log_softmax(log_proba / np.exp(log_temperature), axis=1)
        return -float(weight @ tempered[picked])

    found = minimize_scalar(
        loss,
        bounds=(np.log(low), np.log(high)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    losses = {low: loss(np.log(low)), high: loss(np.log(high))}
    best_bound = min(losses, key=losses.__getitem__)
    if losses[best_bound] <= found.fun:
        return best_bound
    return float(np.exp(found.x))


def _safe_log(proba: FloatArray) -> FloatArray:
    """Log-probabilities relative to the largest of the row, -inf for zeros."""
    is_zero = proba == 0
    log_proba = np.log(np.where(is_zero, 1.0, proba))
    log_proba[is_zero] = -np.inf
    return log_proba - log_proba.max(axis=1, keepdims=True)


def _is_flat(log_proba: FloatArray) -> bool:
    """Whether all rows are constant over their non-zero entries."""
    return bool(np.all((log_proba > -_FLAT) | np.isneginf(log_proba)))


def _check_bounds(bounds: tuple[float, float]) -> tuple[float, float]:
    """Check that the bounds are an increasing pair of positive numbers."""
    try:
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not 0 < low < high < np.inf:
        raise ValueError(
            f"bounds={bounds!r} must be two finite numbers with 0 < low < high."
        )
    return low, high


def _check_arguments(
    y_codes: ArrayLike, proba: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Check codes, probabilities and weights, and that they fit together."""
    matrix: Any = check_array(proba, dtype=np.float64, input_name="proba")
    if (matrix < 0).any() or not (matrix > 0).any(axis=1).all():
        raise ValueError(
            "proba must be non-negative, with a positive entry in each row."
        )
    codes = column_or_1d(y_codes)
    if codes.dtype.kind not in "iu":
        raise TypeError(
            f"y_codes must hold integer class codes; got dtype {codes.dtype}."
        )
    if len(codes) != len(matrix):
        raise ValueError(f"y_codes has {len(codes)} rows, but proba has {len(matrix)}.")
    if codes.min() < 0 or codes.max() >= matrix.shape[1]:
        raise ValueError(
            f"y_codes must be between 0 and {matrix.shape[1] - 1}, the columns of "
            f"proba; got values from {codes.min()} to {codes.max()}."
        )
    weight = _check_sample_weight(
        sample_weight, matrix, dtype=np.float64, ensure_non_negative=True
    )
    return codes.astype(np.intp), matrix, weight
