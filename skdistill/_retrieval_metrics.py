"""Scores of ranked labels: how many of the best few are right, also of the rare ones.

What is right, y, is an indicator matrix, CSR or dense. What was ranked is one of:

- scores of all labels, a float array of shape (n_samples, n_labels);
- scores of some labels, CSR; labels that are not stored come last and do not count;
- labels in their order, an integer array of shape (n_samples, at least k) that holds
  columns of y, with -1 for none.

Nothing of the size (n_samples, n_labels) is made that was not passed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from skdistill._arguments import is_scalar_number, is_word, naming
from skdistill._label_ranking import IntArray, check_top, rank_labels
from skdistill._typing import FloatArray
from skdistill._validation import check_mean_weights

#: A and B of Jain et al. (2016) by the data for which they were fitted.
PROPENSITY_PRESETS = {
    "default": (0.55, 1.5),
    "amazon": (0.6, 2.6),
    "wikipedia": (0.5, 0.4),
}


def precision_at_k(
    y_true: Any, y_score: Any, *, k: int = 5, sample_weight: ArrayLike | None = None
) -> float:
    r"""Share of the k labels ranked first that are right.

    .. math:: \frac{1}{\sum_i w_i} \sum_i w_i \frac{1}{k} \sum_{l=1}^k y_{i r_{il}}

    Parameters
    ----------
    y_true : array or CSR of shape (n_samples, n_labels)
        y: what is not 0 is right.
    y_score : array or CSR of shape (n_samples, n_labels), or array of int
        Scores, or labels in their order; see :func:`rank_labels`.
    k : int, default=5
        How many labels count, at least 1.
    sample_weight : array-like of shape (n_samples,), default=None
        w.

    Returns
    -------
    score : float
        Between 0 and 1; higher is better. 1 takes k labels a row.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If shapes do not match, `k` is below 1, a ranking repeats a label or a weight
        is negative.

    Examples
    --------
    >>> from skdistill.metrics import precision_at_k
    >>> precision_at_k([[1, 0, 1], [0, 1, 0]], [[0.9, 0.5, 0.1], [0.1, 0.2, 0.7]], k=2)
    0.5
    """
    _, hits, _ = _hits(y_true, y_score, k)
    return _mean(hits.mean(axis=1), sample_weight)


def recall_at_k(
    y_true: Any, y_score: Any, *, k: int = 5, sample_weight: ArrayLike | None = None
) -> float:
    r"""Share of a row's labels that are among the k ranked first.

    .. math::
        \frac{1}{\sum_i w_i} \sum_i w_i
        \frac{\sum_{l=1}^k y_{i r_{il}}}{\sum_j y_{ij}}

    A row without labels counts as 0.

    Parameters
    ----------
    y_true : array or CSR of shape (n_samples, n_labels)
        y: what is not 0 is right.
    y_score : array or CSR of shape (n_samples, n_labels), or array of int
        Scores, or labels in their order; see :func:`rank_labels`.
    k : int, default=5
        How many labels count, at least 1.
    sample_weight : array-like of shape (n_samples,), default=None
        w.

    Returns
    -------
    score : float
        Between 0 and 1; higher is better.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If shapes do not match, `k` is below 1, a ranking repeats a label or a weight
        is negative.

    Examples
    --------
    >>> from skdistill.metrics import recall_at_k
    >>> recall_at_k([[1, 0, 1], [0, 1, 0]], [[0.9, 0.5, 0.1], [0.1, 0.2, 0.7]], k=2)
    0.75
    """
    _, hits, y = _hits(y_true, y_score, k)
    n_right = np.maximum(np.diff(y.indptr), 1)
    return _mean(hits.sum(axis=1) / n_right, sample_weight)


def ndcg_at_k(
    y_true: Any, y_score: Any, *, k: int = 5, sample_weight: ArrayLike | None = None
) -> float:
    r"""Right labels among the k ranked first, discounted by their ranks.

    .. math::
        \frac{1}{\sum_i w_i} \sum_i w_i
        \frac{\sum_{l=1}^k y_{i r_{il}} / \log_2(l + 1)}
        {\sum_{l=1}^{\min(k, n_i)} 1 / \log_2(l + 1)}, \qquad n_i = \sum_j y_{ij}

    A row without labels counts as 0.

    Parameters
    ----------
    y_true : array or CSR of shape (n_samples, n_labels)
        y: what is not 0 is right.
    y_score : array or CSR of shape (n_samples, n_labels), or array of int
        Scores, or labels in their order; see :func:`rank_labels`.
    k : int, default=5
        How many labels count, at least 1.
    sample_weight : array-like of shape (n_samples,), default=None
        w.

    Returns
    -------
    score : float
        Between 0 and 1; higher is better.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If shapes do not match, `k` is below 1, a ranking repeats a label or a weight
        is negative.

    References
    ----------
    .. [Jarvelin2002] Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR
       techniques", ACM Transactions on Information Systems 20(4):422-446, 2002.

    Examples
    --------
    >>> from skdistill.metrics import ndcg_at_k
    >>> round(ndcg_at_k([[1, 0, 1]], [[0.9, 0.5, 0.1]], k=2), 4)
    0.6131
    """
    _, hits, y = _hits(y_true, y_score, k)
    discount = _discount(k)
    return _mean((hits * discount).sum(axis=1) / _ideal(y, discount), sample_weight)


def inverse_propensities(
    y_train: Any,
    *,
    preset: str = "default",
    A: float | None = None,
    B: float | None = None,
) -> FloatArray:
    r"""How much a rare label counts: the inverse of the propensity to be observed.

    .. math:: \frac{1}{p_l} = 1 + (\log N - 1) (B + 1)^A (N_l + B)^{-A}

    for a label of :math:`N_l` of N training rows, section 4 of [Jain2016]_.

    Parameters
    ----------
    y_train : array or CSR of shape (n_samples, n_labels)
        Labels of the training rows; what is not 0 counts.
    preset : {"default", "amazon", "wikipedia"}, default="default"
        A and B as they are customary: 0.6 and 2.6 for Amazon-670K and Amazon-3M; 0.5
        and 0.4 for WikiLSHTC-325K and Wikipedia-500K; 0.55 and 1.5 for all else, of
        which AmazonCat-13K.
    A, B : float, default=None
        Take the place of those of the preset; positive.

    Returns
    -------
    weight : ndarray of shape (n_labels,)
        Above 1, and higher for rarer labels, with at least 3 rows.

    Raises
    ------
    ValueError
        If `preset` is unknown, `A` or `B` is not positive, or there are fewer than 3
        rows, for which the formula has no meaning.

    References
    ----------
    .. [Jain2016] Jain, Prabhu and Varma, "Extreme multi-label loss functions for
       recommendation, tagging, ranking and other missing label applications", KDD 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.metrics import inverse_propensities
    >>> y_train = np.array([[1, 0], [1, 0], [1, 1], [1, 0]])
    >>> inverse_propensities(y_train).round(2)
    array([1.25, 1.39])
    """
    if not is_word(preset, PROPENSITY_PRESETS):
        raise ValueError(
            f"preset={preset!r} must be one of {sorted(PROPENSITY_PRESETS)}."
        )
    defaults = PROPENSITY_PRESETS[preset]
    a, b = defaults[0] if A is None else A, defaults[1] if B is None else B
    for name, value in (("A", a), ("B", b)):
        if not is_scalar_number(value) or not 0 < value < np.inf:
            raise ValueError(f"{name}={value!r} must be positive and finite.")
    y = indicator(y_train, "y_train")
    if y.shape[0] < 3:
        raise ValueError(f"y_train has {y.shape[0]} rows; at least 3 are needed.")
    counts = np.bincount(y.indices, minlength=y.shape[1])
    return 1.0 + (np.log(y.shape[0]) - 1.0) * (b + 1.0) ** a * (counts + b) ** -a


def psp_at_k(
    y_true: Any,
    y_score: Any,
    inverse_propensity: ArrayLike,
    *,
    k: int = 5,
    normalize: bool = True,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Propensity-scored precision: rare labels that are right count for more.

    .. math::
        \frac{\sum_i w_i \sum_{l=1}^k y_{i r_{il}} / p_{r_{il}}}
        {\sum_i w_i \max_{r'} \sum_{l=1}^k y_{i r'_l} / p_{r'_l}}

    after [Jain2016]_, over the highest value that any ranking has, as it is reported;
    not normalised, the denominator is :math:`k \sum_i w_i`: an estimate of the
    precision, had all right labels been observed.

    Parameters
    ----------
    y_true : array or CSR of shape (n_samples, n_labels)
        y: what is not 0 is right.
    y_score : array or CSR of shape (n_samples, n_labels), or array of int
        Scores, or labels in their order; see :func:`rank_labels`.
    inverse_propensity : array-like of shape (n_labels,)
        1 / p, of the training rows; see :func:`inverse_propensities`.
    k : int, default=5
        How many labels count, at least 1.
    normalize : bool, default=True
        Whether to divide by the highest value.
    sample_weight : array-like of shape (n_samples,), default=None
        w.

    Returns
    -------
    score : float
        At least 0, normalised at most 1; higher is better. NaN where no row has a
        label.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If shapes do not match, `k` is below 1, a ranking repeats a label, a weight is
        negative or `inverse_propensity` is not positive and finite.

    References
    ----------
    .. [Jain2016] Jain, Prabhu and Varma, "Extreme multi-label loss functions for
       recommendation, tagging, ranking and other missing label applications", KDD 2016.

    Examples
    --------
    >>> from skdistill.metrics import psp_at_k
    >>> y_true, y_score = [[1, 0, 1]], [[0.9, 0.5, 0.1]]
    >>> psp_at_k(y_true, y_score, [1.0, 2.0, 3.0], k=1)
    0.3333333333333333
    """
    discount = np.ones(check_top(k))
    return _propensity_scored(
        y_true, y_score, inverse_propensity, k, discount, normalize, sample_weight
    )


def psndcg_at_k(
    y_true: Any,
    y_score: Any,
    inverse_propensity: ArrayLike,
    *,
    k: int = 5,
    normalize: bool = True,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Propensity-scored gain, discounted by rank: rare labels count for more.

    .. math::
        \frac{\sum_i w_i g_i(r_i)}{\sum_i w_i \max_{r'} g_i(r')}, \qquad
        g_i(r) = \frac{\sum_{l=1}^k y_{i r_l} / (p_{r_l} \log_2(l + 1))}
        {\sum_{l=1}^{\min(k, n_i)} 1 / \log_2(l + 1)}

    after [Jain2016]_, for :math:`n_i` labels in row i, over the highest value that any
    ranking has; not normalised, the denominator is :math:`\sum_i w_i`.

    Parameters
    ----------
    y_true : array or CSR of shape (n_samples, n_labels)
        y: what is not 0 is right.
    y_score : array or CSR of shape (n_samples, n_labels), or array of int
        Scores, or labels in their order; see :func:`rank_labels`.
    inverse_propensity : array-like of shape (n_labels,)
        1 / p, of the training rows; see :func:`inverse_propensities`.
    k : int, default=5
        How many labels count, at least 1.
    normalize : bool, default=True
        Whether to divide by the highest value.
    sample_weight : array-like of shape (n_samples,), default=None
        w.

    Returns
    -------
    score : float
        At least 0, normalised at most 1; higher is better. NaN where no row has a
        label.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If shapes do not match, `k` is below 1, a ranking repeats a label, a weight is
        negative or `inverse_propensity` is not positive and finite.

    References
    ----------
    .. [Jain2016] Jain, Prabhu and Varma, "Extreme multi-label loss functions for
       recommendation, tagging, ranking and other missing label applications", KDD 2016.

    Examples
    --------
    >>> from skdistill.metrics import psndcg_at_k
    >>> y_true, y_score = [[1, 0, 1]], [[0.9, 0.5, 0.1]]
    >>> round(psndcg_at_k(y_true, y_score, [1.0, 2.0, 3.0], k=2), 4)
    0.2754
    """
    discount = _discount(k)
    return _propensity_scored(
        y_true,
        y_score,
        inverse_propensity,
        k,
        discount,
        normalize,
        sample_weight,
        by_row=True,
    )


def coverage_at_k(y_true: Any, y_score: Any, *, k: int = 5) -> float:
    r"""Share of the labels that are rightly ranked among the first k at least once.

    .. math::
        \frac{\bigl|\bigcup_i \{ r_{il}: l \le k, y_{i r_{il}} = 1 \}\bigr|}
        {\bigl|\{ j: \sum_i y_{ij} > 0 \}\bigr|}

    Parameters
    ----------
    y_true : array or CSR of shape (n_samples, n_labels)
        y: what is not 0 is right.
    y_score : array or CSR of shape (n_samples, n_labels), or array of int
        Scores, or labels in their order; see :func:`rank_labels`.
    k : int, default=5
        How many labels count, at least 1.

    Returns
    -------
    score : float
        Between 0 and 1; higher is better. NaN where no row has a label.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If shapes do not match, `k` is below 1 or a ranking repeats a label.

    Examples
    --------
    >>> from skdistill.metrics import coverage_at_k
    >>> coverage_at_k([[1, 0, 1], [0, 1, 0]], [[0.9, 0.5, 0.1], [0.1, 0.2, 0.7]], k=1)
    0.3333333333333333
    """
    labels, hits, y = _hits(y_true, y_score, k)
    found = np.unique(labels[hits > 0])
    present = np.unique(y.indices)
    return len(found) / len(present) if len(present) else float("nan")


# -- parts ---------------------------------------------------------------------------


def indicator(y: Any, name: str) -> sp.csr_array:
    """Return CSR without stored zeros or repeated entries, its columns sorted."""
    array = y if sp.issparse(y) else np.asarray(y)
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be a numeric indicator of shape (n_samples, n_labels); got "
            f"{array.ndim} dimensions of dtype {array.dtype}."
        )
    csr = sp.csr_array(array, copy=True)
    csr.sum_duplicates()
    csr.eliminate_zeros()
    if np.isnan(csr.data).any():
        raise ValueError(f"{name} must not hold NaN.")
    return csr


def _hits(
    y_true: Any, y_score: Any, k: int
) -> tuple[IntArray, FloatArray, sp.csr_array]:
    """Return the ranked labels, which of them are right, (n_samples, k), and y."""
    y = indicator(y_true, "y_true")
    labels = rank_labels(y_score, k)
    if labels.shape[0] != y.shape[0]:
        raise ValueError(
            f"y_true has {y.shape[0]} rows, but y_score has {labels.shape[0]}."
        )
    is_ranking = not sp.issparse(y_score) and np.asarray(y_score).dtype.kind in "iu"
    if not is_ranking and np.shape(y_score)[1] > y.shape[1]:
        raise ValueError(
            f"y_score has {np.shape(y_score)[1]} labels, but y_true has {y.shape[1]}."
        )
    if labels.size and labels.max() >= y.shape[1]:
        raise ValueError(
            f"y_score ranks label {labels.max()}, but y_true has {y.shape[1]}."
        )
    n_labels = np.int64(y.shape[1])
    rows = np.repeat(np.arange(y.shape[0], dtype=np.int64), np.diff(y.indptr))
    right = rows * n_labels + y.indices
    asked = np.arange(y.shape[0], dtype=np.int64)[:, None] * n_labels + labels
    place = np.minimum(np.searchsorted(right, asked), max(len(right) - 1, 0))
    hits = (labels >= 0) & (right[place] == asked if len(right) else False)
    return labels, hits.astype(np.float64), y


def _discount(k: int) -> FloatArray:
    """Return 1 / log2(l + 1) for the ranks l = 1, ..., k."""
    return 1.0 / np.log2(np.arange(2, check_top(k) + 2))


def _ideal(y: sp.csr_array, discount: FloatArray) -> FloatArray:
    """Return the sum of the discounts of as many ranks as a row has labels."""
    upto = np.concatenate([[1.0], np.cumsum(discount)])
    return upto[np.minimum(np.diff(y.indptr), len(discount))]


def _propensity_scored(
    y_true: Any,
    y_score: Any,
    inverse_propensity: ArrayLike,
    k: int,
    discount: FloatArray,
    normalize: bool,
    sample_weight: ArrayLike | None,
    *,
    by_row: bool = False,
) -> float:
    """Return the weighted sum of gains over that of the highest possible."""
    labels, hits, y = _hits(y_true, y_score, k)
    with naming("inverse_propensity"):
        value = np.asarray(inverse_propensity, dtype=np.float64)
    if value.shape != (y.shape[1],) or not np.all((value > 0) & (value < np.inf)):
        raise ValueError(
            f"inverse_propensity must have shape ({y.shape[1]},) and be positive and "
            f"finite; got shape {value.shape}, from {value.min(initial=np.inf)} to "
            f"{value.max(initial=-np.inf)}."
        )
    weight = check_mean_weights(sample_weight, hits)
    gain = (hits * value[labels] * discount).sum(axis=1)
    best = _gathered(y, value, k) @ discount
    if by_row:
        ideal = _ideal(y, discount)
        gain, best = gain / ideal, best / ideal
    if not normalize:
        return float((weight * gain).sum() / weight.sum() / (1 if by_row else k))
    total = float((weight * best).sum())
    return float((weight * gain).sum()) / total if total else float("nan")


def _gathered(y: sp.csr_array, value: FloatArray, k: int) -> FloatArray:
    """Return the k highest values of each row's labels, 0 where there are fewer."""
    valued = sp.csr_array((value[y.indices], y.indices, y.indptr), shape=y.shape)
    labels = rank_labels(valued, k)
    return np.where(labels >= 0, value[labels], 0.0)


def _mean(values: FloatArray, sample_weight: ArrayLike | None) -> float:
    """Average over the rows."""
    weight = check_mean_weights(sample_weight, values)
    return float(np.average(values, weights=weight))
