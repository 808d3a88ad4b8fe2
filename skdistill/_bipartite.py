"""The distilled bipartite risk: how badly pairs of rows are in the wrong order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log1p
from sklearn.utils import column_or_1d

from skdistill._arguments import is_scalar_number, is_word
from skdistill._pair_sums import (
    PairSums,
    exponential_sums,
    logistic_sums,
    squared_sums,
    zero_one_sums,
)
from skdistill._typing import FloatArray

#: Losses of a margin that can be trained on: their sums, and their value at zero.
SURROGATES: dict[str, tuple[PairSums, float]] = {
    "logistic": (logistic_sums, float(np.log(2.0))),
    "squared": (squared_sums, 1.0),
    "exponential": (exponential_sums, 1.0),
}
MARGIN_LOSSES = {**SURROGATES, "zero-one": (zero_one_sums, 0.5)}

NO_PAIRS = (
    "No pair of rows has a positive weight: the targets must make at least one row "
    "positive to some degree and another one negative. Targets that are all 1, or "
    "all 0, leave nothing to rank."
)


@dataclass(frozen=True)
class PairRisk:
    """A risk over pairs: which loss of the margin, and what it emphasises.

    Attributes
    ----------
    surrogate : str
        Loss of the margin between a positive and a negative.
    push : float
        Power of the mean loss of each negative, at least 1.
    top_share : float or None
        Share of the negatives above a positive at which its loss begins to level off.
    """

    surrogate: str = "logistic"
    push: float = 1.0
    top_share: float | None = None

    def value_and_slope(
        self,
        scores: FloatArray,
        positive: FloatArray,
        negative: FloatArray,
        *,
        with_self: bool = True,
    ) -> tuple[float, FloatArray]:
        """Return the risk and its slope in the scores.

        Parameters
        ----------
        scores : ndarray of shape (n_samples,)
            Scores s.
        positive, negative : ndarray of shape (n_samples,)
            How much each row counts as a positive, u, and as a negative, v.
        with_self : bool, default=True
            Whether a row is paired with itself as well. This adds a constant to the
            risk and rescales it, so that a row of weight 2 is the same as two rows.

        Returns
        -------
        value : float
            The risk.
        slope : ndarray of shape (n_samples,)
            Its derivative.

        Raises
        ------
        ValueError
            If no pair has a positive weight.
        """
        sums, at_zero = MARGIN_LOSSES[self.surrogate]
        # With the signs turned, negatives are above positives: one case is enough.
        sign = -1.0 if self.push != 1.0 else 1.0
        outer_mass, inner_mass = (
            (positive, negative) if sign > 0 else (negative, positive)
        )
        if not (outer_mass.any() and inner_mass.any()):
            raise ValueError(NO_PAIRS)
        outer, inner = np.flatnonzero(outer_mass), np.flatnonzero(inner_mass)
        a = outer_mass[outer] / outer_mass.sum()
        b = inner_mass / inner_mass.sum()
        above, below = sign * scores[outer], sign * scores[inner]
        means, rises = sums(above, below, b[inner])
        own = np.zeros(len(outer)) if with_self else b[outer]
        total = a @ self.emphasised(1.0 - own)[0]
        if total <= 0:
            raise ValueError(NO_PAIRS)
        slope = np.zeros(len(scores))
        # A loss that is too large for a float is infinite, and its slope is not finite.
        with np.errstate(over="ignore", invalid="ignore"):
            # Rounding must not make a mean of non-negative losses negative.
            others = np.maximum(means - own * at_zero, 0.0)
            values, factors = self.emphasised(others)
            factors = a * factors / total
            slope[outer] = factors * rises
            slope[inner] -= b[inner] * sums(-below, -above, factors)[1]
            return float(a @ values / total), sign * slope

    def emphasised(self, mean: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return g of each row's mean loss, and its derivative.

        Parameters
        ----------
        mean : ndarray
            Mean loss of each negative over the positives (`push`), or of each positive
            over the negatives.

        Returns
        -------
        value, slope : ndarray
            ``z ** push``, or ``log(1 + z / top_share) / log(1 + 1 / top_share)``; 1 at
            a mean of 1.
        """
        if self.push != 1.0:
            return mean**self.push, self.push * mean ** (self.push - 1.0)
        if self.top_share is not None:
            scale = 1.0 / log1p(1.0 / self.top_share)
            return scale * log1p(mean / self.top_share), scale / (self.top_share + mean)
        return mean, np.ones_like(mean)


def bipartite_risk(
    soft_labels: ArrayLike,
    scores: ArrayLike,
    *,
    y: ArrayLike | None = None,
    mixing_weight: float = 1.0,
    surrogate: str = "logistic",
    push: float = 1.0,
    top_share: float | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Mean loss of all ordered pairs, weighted by how likely they are to be a pair.

    With the chance :math:`t_i = (1 - a) y_i + a p_i` that row i is positive, it counts
    as :math:`u_i = w_i t_i` positives and :math:`v_i = w_i (1 - t_i)` negatives, and

    .. math::
        \tilde R = \frac{\sum_{i \ne j} u_i v_j \, \phi(s_i - s_j)}
        {\sum_{i \ne j} u_i v_j}.

    The distilled bipartite risk of section 5.1 of [Menon2021]_: the teacher enters
    twice, and every ordered pair counts. With :math:`p = y` it is the empirical risk,
    Eq. (10), over positives and negatives. Adding a constant to all scores changes
    nothing.

    `push` and `top_share` ask for the top of the list. With :math:`q > 1` the
    p-norm push of [Rudin2009]_ counts a negative that is above many positives for more
    than its share; with :math:`\tau` a positive is worth most near the top, and one
    below many negatives is nearly given up, as by :math:`g(z) = \log(1 + z)` in
    appendix B.2 of [Menon2021]_:

    .. math::
        \frac{\sum_j v_j \bigl(\sum_{i \ne j} u_i \phi(s_i - s_j)\bigr)^q}
        {\sum_j v_j \bigl(\sum_{i \ne j} u_i\bigr)^q}, \qquad
        \frac{\sum_i u_i \log\bigl(1 + \frac{1}{\tau V}
        \sum_{j \ne i} v_j \phi(s_i - s_j)\bigr)}
        {\sum_i u_i \log\bigl(1 + \frac{1}{\tau V} \sum_{j \ne i} v_j\bigr)},
        \quad V = \sum_j v_j.

    Time and memory are near-linear in the number of rows: the squared loss needs
    three moments, the exponential loss factorises, 0-1 losses are counted in sorted
    scores, and logistic losses are summed on a grid, to within 3e-11.

    Parameters
    ----------
    soft_labels : array-like of shape (n_samples,)
        Probability p of the positive class, in [0, 1]; labels of 0 and 1 as well.
    scores : array-like of shape (n_samples,)
        Scores s; positives should have the larger ones.
    y : array-like of shape (n_samples,), default=None
        Labels, 0 or 1. Needed where `mixing_weight` is below 1.
    mixing_weight : float, default=1.0
        Weight a of the soft labels, in [0, 1].
    surrogate : {"logistic", "squared", "exponential", "zero-one"}, default="logistic"
        Loss of a margin z: :math:`\log(1 + e^{-z})`, :math:`(1 - z)^2`,
        :math:`e^{-z}`, or 1 for a negative margin and 1/2 for none. The last one makes
        the risk 1 minus the area under the ROC curve.
    push : float, default=1.0
        Power q, at least 1.
    top_share : float or None, default=None
        :math:`\tau`, in (0, 1]; not together with `push`.
    sample_weight : array-like of shape (n_samples,), default=None
        w. A pair is weighted with the product of its rows' weights.

    Returns
    -------
    float
        The risk.

    Raises
    ------
    ValueError
        If lengths differ, a value is out of its range, or no pair of rows has a
        positive weight: with all rows surely positive, or all surely negative.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.
    .. [Rudin2009] Rudin, "The p-norm push: a simple convex ranking algorithm that
       concentrates at the top of the list", JMLR 10:2233-2271, 2009.

    Examples
    --------
    >>> from sklearn.metrics import roc_auc_score
    >>> from skdistill.losses import bipartite_risk
    >>> y, scores = [0, 1, 0, 1], [0.1, 0.4, 0.35, 0.3]
    >>> bipartite_risk(y, scores, surrogate="zero-one")
    0.25
    >>> float(1 - roc_auc_score(y, scores))
    0.25
    >>> round(bipartite_risk([0.1, 0.8, 0.4, 0.7], scores, surrogate="zero-one"), 3)
    0.227
    """
    value, _ = _checked_value_and_slope(
        soft_labels,
        scores,
        y,
        mixing_weight,
        _check_risk(surrogate, push, top_share, MARGIN_LOSSES),
        sample_weight,
    )
    return value


def bipartite_slope(
    soft_labels: ArrayLike,
    scores: ArrayLike,
    *,
    y: ArrayLike | None = None,
    mixing_weight: float = 1.0,
    surrogate: str = "logistic",
    push: float = 1.0,
    top_share: float | None = None,
    sample_weight: ArrayLike | None = None,
) -> FloatArray:
    r"""Return the gradient of the bipartite risk in the scores.

    For the plain risk

    .. math::
        \frac{\partial \tilde R}{\partial s_i} = \frac{
        u_i \sum_j v_j \phi'(s_i - s_j) - v_i \sum_j u_j \phi'(s_j - s_i)}
        {\sum_{j \ne k} u_j v_k}.

    It sums to 0, as a constant added to all scores changes nothing.

    Parameters
    ----------
    soft_labels : array-like of shape (n_samples,)
        Probability p of the positive class, in [0, 1].
    scores : array-like of shape (n_samples,)
        Scores s.
    y : array-like of shape (n_samples,), default=None
        Labels, 0 or 1. Needed where `mixing_weight` is below 1.
    mixing_weight : float, default=1.0
        Weight a of the soft labels, in [0, 1].
    surrogate : {"logistic", "squared", "exponential"}, default="logistic"
        Loss of a margin.
    push : float, default=1.0
        As in :func:`bipartite_risk`.
    top_share : float or None, default=None
        As in :func:`bipartite_risk`.
    sample_weight : array-like of shape (n_samples,), default=None
        w.

    Returns
    -------
    ndarray of shape (n_samples,)
        The gradient.

    Raises
    ------
    ValueError
        As in :func:`bipartite_risk`.

    Examples
    --------
    >>> from skdistill.losses import bipartite_slope
    >>> bipartite_slope([1, 0, 0], [0.0, 0.0, 0.0], surrogate="squared").round(3)
    array([-2.,  1.,  1.])
    """
    _, slope = _checked_value_and_slope(
        soft_labels,
        scores,
        y,
        mixing_weight,
        _check_risk(surrogate, push, top_share, SURROGATES),
        sample_weight,
    )
    return slope


def _checked_value_and_slope(
    soft_labels: ArrayLike,
    scores: ArrayLike,
    y: ArrayLike | None,
    mixing_weight: float,
    risk: PairRisk,
    sample_weight: ArrayLike | None,
) -> tuple[float, FloatArray]:
    scores = _column(scores, "scores")
    targets = _in_unit_interval(soft_labels, "soft_labels")
    _check_length(targets, "soft_labels", scores)
    _check_number("mixing_weight", mixing_weight, lambda a: 0 <= a <= 1, "in [0, 1]")
    if mixing_weight < 1:
        if y is None:
            raise ValueError("y=None is only allowed with mixing_weight=1.")
        labels = _in_unit_interval(y, "y")
        _check_length(labels, "y", scores)
        targets = (1 - mixing_weight) * labels + mixing_weight * targets
    weight: FloatArray = np.ones(len(scores))
    if sample_weight is not None:
        weight = _column(sample_weight, "sample_weight")
        _check_length(weight, "sample_weight", scores)
        if (weight < 0).any():
            raise ValueError("sample_weight must be non-negative.")
    return risk.value_and_slope(
        scores, weight * targets, weight * (1.0 - targets), with_self=False
    )


def _check_risk(
    surrogate: str,
    push: float,
    top_share: float | None,
    known: dict[str, tuple[PairSums, float]],
) -> PairRisk:
    """Check what decides the loss of a pair."""
    if not is_word(surrogate, known):
        raise ValueError(f"surrogate={surrogate!r} must be one of {sorted(known)}.")
    _check_number("push", push, lambda q: 1 <= q < np.inf, "at least 1 and finite")
    if top_share is not None:
        _check_number("top_share", top_share, lambda s: 0 < s <= 1, "in (0, 1]")
    check_emphasis(push, top_share)
    return PairRisk(surrogate, float(push), top_share)


def check_emphasis(push: float, top_share: float | None) -> None:
    """Raise if two emphases are asked for at once.

    Parameters
    ----------
    push : float
        Power of the mean loss of each negative.
    top_share : float or None
        Share of negatives at which the loss of a positive levels off.

    Raises
    ------
    ValueError
        If both are set.
    """
    if push != 1 and top_share is not None:
        raise ValueError(
            f"push={push!r} and top_share={top_share!r} cannot be combined: the first "
            "weighs negatives, the second positives. Leave push=1 or top_share=None."
        )


def _check_number(
    name: str, value: Any, allowed: Callable[[float], bool], what: str
) -> None:
    if not is_scalar_number(value) or not allowed(value):
        raise ValueError(f"{name}={value!r} must be a number {what}.")


def _column(values: ArrayLike, name: str) -> FloatArray:
    """Return finite numbers, one a row."""
    try:
        column = column_or_1d(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold one number a row: {error}") from error
    if not np.isfinite(column).all():
        raise ValueError(f"{name} must be finite.")
    return column


def _check_length(column: FloatArray, name: str, scores: FloatArray) -> None:
    if len(column) != len(scores):
        raise ValueError(
            f"{name} has {len(column)} rows, but scores has {len(scores)}."
        )


def _in_unit_interval(values: ArrayLike, name: str) -> FloatArray:
    column = _column(values, name)
    if ((column < 0) | (column > 1)).any():
        raise ValueError(
            f"{name} must be between 0 and 1, got values from {column.min()} to "
            f"{column.max()}."
        )
    return column
