"""The best few labels of each row, in their order, from scores or as they were given.

Nothing of the size (n_samples, n_labels) is made that was not passed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

IntArray = NDArray[np.integer]


def rank_labels(y_score: Any, k: int) -> IntArray:
    r"""Rank labels by their scores, best first.

    .. math:: r_{i1}, \ldots, r_{ik}: \quad s_{i r_{i1}} \ge s_{i r_{i2}} \ge \ldots

    Of equal scores the label of the lower number comes first.

    Parameters
    ----------
    y_score : array or CSR of shape (n_samples, n_labels), or array of int
        Scores s; CSR: of the labels stored, entries of one label summed. Labels in
        their order are only cut to k.
    k : int
        How many labels a row, at least 1.

    Returns
    -------
    labels : ndarray of int of shape (n_samples, k)
        Columns of `y_score`; -1 where a row has fewer labels.

    Raises
    ------
    TypeError
        If `y_score` is not numeric.
    ValueError
        If `k` is below 1, scores are NaN, or labels in their order are fewer than k,
        below -1 or twice in a row.

    Examples
    --------
    >>> from skdistill.metrics import rank_labels
    >>> rank_labels([[0.1, 0.7, 0.2]], 2)
    array([[1, 2]])
    """
    k = check_top(k)
    if sp.issparse(y_score):
        return _rank_stored(_without_duplicates(sp.csr_array(y_score)), k)
    array = np.asarray(y_score)
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise TypeError(
            "y_score must be CSR, or an array of numbers of two dimensions; got "
            f"{array.ndim} dimensions of dtype {array.dtype}."
        )
    if array.dtype.kind in "iu":
        if array.shape[1] < k:
            raise ValueError(
                f"y_score has {array.shape[1]} ranked labels a row; k={k} are needed."
            )
        return _check_ranking(array[:, :k].astype(np.int64))
    if np.isnan(array).any():
        raise ValueError("y_score must not hold NaN.")
    return _rank_dense(array, k)


def check_top(k: int) -> int:
    """Check a number of labels a row.

    Parameters
    ----------
    k : int
        The number.

    Returns
    -------
    int
        It.

    Raises
    ------
    ValueError
        If it is no integer above 0.
    """
    if not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k={k!r} must be an integer of at least 1.")
    return int(k)


def _without_duplicates(scores: sp.csr_array) -> sp.csr_array:
    """Return scores with one entry a label; those of the caller stay as they are."""
    if scores.has_canonical_format:
        return scores
    scores = scores.copy()
    scores.sum_duplicates()
    return scores


def _check_ranking(labels: IntArray) -> IntArray:
    """Raise unless each row holds different labels, and -1 for none."""
    if labels.size and labels.min() < -1:
        raise ValueError(
            f"y_score ranks label {labels.min()}; labels are columns of y_true, and -1 "
            "stands for none."
        )
    ordered = np.sort(labels, axis=1)
    again = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if again.any():
        row, column = np.argwhere(again)[0]
        raise ValueError(
            f"y_score ranks label {ordered[row, column]} twice in row {row}."
        )
    return labels


def _rank_stored(scores: sp.csr_array, k: int) -> IntArray:
    """Rank the labels that are stored."""
    # Booleans and unsigned integers have no negatives.
    data = scores.data if scores.dtype.kind == "f" else scores.data.astype(np.float64)
    if np.isnan(data).any():
        raise ValueError("y_score must not hold NaN.")
    n_rows = scores.shape[0]
    rows = np.repeat(np.arange(n_rows), np.diff(scores.indptr))
    order = np.lexsort((scores.indices, -data, rows))
    rank = np.arange(len(rows)) - scores.indptr[rows]
    labels = np.full((n_rows, k), -1, dtype=np.int64)
    kept = rank < k
    labels[rows[kept], rank[kept]] = scores.indices[order][kept]
    return labels


def _rank_dense(scores: NDArray[np.floating], k: int) -> IntArray:
    """Rank all labels; a stable sort of the best k, which a partition finds."""
    n_rows, n_labels = scores.shape
    labels = np.full((n_rows, k), -1, dtype=np.int64)
    found = min(k, n_labels)
    for start in range(0, n_rows, 1024):
        block = scores[start : start + 1024]
        # Labels that tie with the last place: of them those of the lowest number.
        last = np.partition(block, n_labels - found, axis=1)[:, n_labels - found]
        above, tied = block > last[:, None], block == last[:, None]
        room = found - above.sum(axis=1)
        kept = above | (tied & (np.cumsum(tied, axis=1) <= room[:, None]))
        columns = np.nonzero(kept)[1].reshape(len(block), found)
        best = np.take_along_axis(block, columns, axis=1)
        order = np.argsort(-best, axis=1, kind="stable")
        labels[start : start + 1024, :found] = np.take_along_axis(columns, order, 1)
    return labels
