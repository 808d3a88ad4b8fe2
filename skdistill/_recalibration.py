"""Probabilities from logits that were trained with weighted negatives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, logit

from skdistill._arguments import is_word, naming
from skdistill._backend import Array, namespace
from skdistill._loss_arguments import as_logits
from skdistill._typing import FloatArray

#: The equations are solved when the last step was shorter, or after so many.
TOLERANCE = 1e-13
MAX_STEPS = 200


def recalibrate_negative_aware(
    logits: Array, *, anchor: str | None = "candidate", total: Array = 1.0
) -> FloatArray:
    r"""Probabilities from the logits of a student of :func:`negative_aware_loss`.

    .. math::
        q_y = \frac{c\, e^{f_y}}{1 + c\, e^{f_y}}, \qquad \sum_y q_y = n

    for ``anchor=None``: the inverse of :math:`e^{f_y} \propto p_y / (1 - p_y)`, with c
    such that a row has the sum n. With ``anchor="candidate"`` the minimiser is another:
    q solves the equations of the stationary point,

    .. math::
        \frac{q_y}{(1 - q_y)(1 + q_y v_y)} = s\, v_y, \qquad
        v_y = c\, e^{f_y}, \qquad \sum_y (1 - q_y) v_y = 1

    with c and s such that they hold and the row has the sum n. Both keep the order of
    the logits, and give the teacher's probabilities back where the student has learned
    them.

    Parameters
    ----------
    logits : array of shape (n_samples, n_labels)
        f, of all labels; tensors are taken to NumPy.
    anchor : {"candidate", None}, default="candidate"
        The anchor of the loss. None also stands for "observed", in which the observed
        label's weight is a correction to few rows.
    total : float or array of shape (n_samples,), default=1.0
        n, positive and below the number of labels: how many labels a row has.

    Returns
    -------
    proba : ndarray of shape (n_samples, n_labels)
        q, float64.

    Raises
    ------
    ValueError
        If `anchor` is unknown or `total` is not between 0 and the number of labels.

    Notes
    -----
    Weights must have been 1 - p, for all labels, without mining; weights
    :math:`1 - \sigma(c s)` have no inverse without the teacher.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642, Eq. (14).

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.losses import recalibrate_negative_aware
    >>> p = np.array([[0.7, 0.2, 0.1]])
    >>> recalibrate_negative_aware(np.log(p / (1 - p)) + 3.0, anchor=None).round(6)
    array([[0.7, 0.2, 0.1]])
    """
    if namespace(logits) is not np:
        logits = logits.detach().cpu().numpy()
    logits = np.asarray(as_logits(logits), dtype=np.float64)
    with naming("total"):
        total = np.broadcast_to(np.asarray(total, dtype=np.float64), len(logits))
    if not np.all((total > 0) & (total < logits.shape[1])):
        raise ValueError(
            f"total={total!r} must be above 0 and below {logits.shape[1]}, the number "
            "of labels."
        )
    if anchor is not None and not is_word(anchor, ("candidate",)):
        raise ValueError(f"anchor={anchor!r} must be 'candidate' or None.")
    centred = logits - logits.max(axis=1, keepdims=True)
    if anchor is None:
        return _solve_total(centred, total)
    return _solve_candidate(centred, total)


def _solve_total(logits: FloatArray, total: FloatArray) -> FloatArray:
    """Return expit(f + log c) with rows of the given sum."""

    def value_and_slope(shift: FloatArray) -> tuple[FloatArray, FloatArray]:
        proba = expit(logits + shift[:, None])
        return proba.sum(axis=1) - total, (proba * (1.0 - proba)).sum(axis=1)

    low = logit(total / logits.shape[1])
    shift = _increasing_root(value_and_slope, low, low - logits.min(axis=1))
    return expit(logits + shift[:, None])


def _solve_candidate(logits: FloatArray, total: FloatArray) -> FloatArray:
    """Solve for c and s in turn: few rounds, as s hardly changes after the first."""
    proba = _solve_total(logits, total)
    scale = np.full(len(logits), np.inf)
    for _ in range(MAX_STEPS):
        last, scale = scale, -np.log(((1.0 - proba) * np.exp(logits)).sum(axis=1))
        if np.abs(scale - last).max() < TOLERANCE:
            break
        odds = np.exp(logits + scale[:, None])
        proba = _solve_share(odds, total)
    return proba


def _solve_share(odds: FloatArray, total: FloatArray) -> FloatArray:
    """Return the proba of `_candidate_proba` with the s that gives rows their sum."""

    def value_and_slope(log_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        proba = _candidate_proba(odds, np.exp(log_s)[:, None])
        slope = proba * (1.0 - proba) * (1.0 + proba * odds)
        slope /= 1.0 + proba * proba * odds
        return proba.sum(axis=1) - total, slope.sum(axis=1)

    ends = np.full(len(odds), 60.0)
    log_s = _increasing_root(value_and_slope, -ends, ends)
    return _candidate_proba(odds, np.exp(log_s)[:, None])


def _candidate_proba(odds: FloatArray, s: FloatArray) -> FloatArray:
    """Solve q = s v (1 - q)(1 + q v): the root in [0, 1] of a quadratic equation."""
    linear = 1.0 - s * odds * (odds - 1.0)
    square = s * odds * odds
    root = np.sqrt(linear * linear + 4.0 * square * s * odds)
    # Of two forms of the root the one without cancellation.
    small = 2.0 * s * odds / (np.abs(linear) + root)
    large = (np.abs(linear) + root) / (2.0 * np.maximum(square, np.finfo(float).tiny))
    return np.where(linear >= 0, small, large)


def _increasing_root(
    value_and_slope: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    low: FloatArray,
    high: FloatArray,
) -> FloatArray:
    """Return where increasing functions, one a row, are 0: Newton within a bracket."""
    x = (low + high) / 2
    for _ in range(MAX_STEPS):
        value, slope = value_and_slope(x)
        low, high = np.where(value < 0, x, low), np.where(value > 0, x, high)
        step = x - value / np.maximum(slope, np.finfo(float).tiny)
        inside = (step > low) & (step < high)
        last, x = x, np.where(inside, step, (low + high) / 2)
        if np.abs(x - last).max() < TOLERANCE:
            break
    return x
