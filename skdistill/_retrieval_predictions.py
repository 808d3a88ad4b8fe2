"""Soft labels from the rankings of other libraries, as sparse matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.special import expit

from skdistill._arguments import is_word, naming

#: How far above 1 a probability may be by rounding.
_TOLERANCE = 1e-4


def ranked_soft_labels(
    predictions: Any,
    *,
    n_labels: int | None = None,
    scores: str = "proba",
    top_k: int | None = None,
) -> sp.csr_matrix:
    r"""Turn the best labels of each row, with their scores, into sparse soft labels.

    .. math:: p_{ij} = s_{ij} \quad\text{or}\quad \sigma(s_{ij})

    for the labels j that row i was given, and 0 for all others. They are probabilities
    of each label on its own, as the libraries for many labels give them: rows need not
    sum to 1.

    Parameters
    ----------
    predictions : list of lists of (int, float), CSR, or (labels, scores)
        What a library returned for all rows: lists of labels with their scores, as of
        ``predict_proba`` of napkinXC or, one row after the other, of ``predict`` of
        omikuji; CSR of shape (n_samples, n_labels) as of PECOS; or two arrays of shape
        (n_samples, k), as of ``predict_topk``, with label -1 for none.
    n_labels : int, default=None
        Number of labels. None is that of the columns of CSR.
    scores : {"proba", "logit"}, default="proba"
        What the scores are. Logits go through the logistic function.
    top_k : int, default=None
        Keeps so many labels of a row, those with the highest scores. None keeps all.

    Returns
    -------
    soft_labels : csr_matrix of shape (n_samples, n_labels)
        p, float32.

    Raises
    ------
    ValueError
        If scores are not finite, or are no probabilities and not said to be logits; if
        labels are outside ``0, ..., n_labels - 1`` or twice in a row; if `n_labels` is
        missing, or is not the number of columns of CSR; or if `scores` or `top_k` is
        not allowed.

    Examples
    --------
    >>> from skdistill.teachers import ranked_soft_labels
    >>> ranked_soft_labels([[(2, 0.9), (0, 0.2)], []], n_labels=3).toarray()
    array([[0.2, 0. , 0.9],
           [0. , 0. , 0. ]], dtype=float32)
    """
    if not is_word(scores, ("proba", "logit")):
        raise ValueError(f"scores={scores!r} must be 'proba' or 'logit'.")
    if top_k is not None and (not isinstance(top_k, (int, np.integer)) or top_k < 1):
        raise ValueError(f"top_k={top_k!r} must be an integer of at least 1, or None.")
    matrix = _as_csr(predictions, n_labels)
    if not np.isfinite(matrix.data).all():
        raise ValueError("predictions hold scores that are not finite.")
    if top_k is not None:
        matrix = _highest(matrix, top_k)
    if scores == "logit":
        matrix.data = expit(matrix.data)
    elif len(matrix.data) and not (
        matrix.data.min() >= 0 and matrix.data.max() <= 1 + _TOLERANCE
    ):
        raise ValueError(
            f"predictions hold scores from {matrix.data.min():.4g} to "
            f"{matrix.data.max():.4g}, which are no probabilities; "
            "scores='logit' takes any number."
        )
    matrix.data = np.minimum(matrix.data, 1.0).astype(np.float32)
    matrix.sort_indices()
    return matrix


def average_soft_labels(
    soft_labels: Sequence[Any], *, weights: ArrayLike | None = None
) -> sp.csr_matrix:
    r"""Average the sparse soft labels of several teachers.

    .. math:: \frac{\sum_m v_m\, p_m}{\sum_m v_m}

    A label that a teacher does not name has probability 0 there.

    Parameters
    ----------
    soft_labels : sequence of sparse matrices of shape (n_samples, n_labels)
        :math:`p_m`.
    weights : array-like of shape (n_teachers,), default=None
        :math:`v_m`, not negative. None means the same for all.

    Returns
    -------
    soft_labels : csr_matrix of shape (n_samples, n_labels)
        The mean, float32.

    Raises
    ------
    ValueError
        If there are none, shapes differ, or weights are negative, infinite, all 0 or
        too many.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from skdistill.teachers import average_soft_labels
    >>> one, other = sp.csr_matrix([[0.8, 0.0]]), sp.csr_matrix([[0.4, 0.2]])
    >>> average_soft_labels([one, other]).toarray().round(2)
    array([[0.6, 0.1]], dtype=float32)
    """
    with naming("soft_labels"):
        matrices = list(soft_labels)
    if not matrices or any(np.ndim(matrix) != 2 for matrix in matrices):
        raise ValueError(
            "soft_labels must hold one matrix or more, of shape (n_samples, n_labels)."
        )
    shapes = {matrix.shape for matrix in matrices}
    if len(shapes) > 1:
        raise ValueError(f"soft_labels have different shapes: {sorted(shapes)}.")
    share = np.ones(len(matrices))
    if weights is not None:
        with naming("weights"):
            share = np.asarray(weights, dtype=float)
    if share.shape != (len(matrices),) or not (
        share.min() >= 0 and 0 < share.sum() < np.inf
    ):
        raise ValueError(
            f"weights={weights!r} must be {len(matrices)} finite numbers, not "
            "negative and not all 0."
        )
    total = sp.csr_matrix(matrices[0].shape, dtype=np.float64)
    for matrix, weight in zip(matrices, share / share.sum(), strict=True):
        total = total + sp.csr_matrix(matrix) * weight
    return sp.csr_matrix(total, dtype=np.float32)


def _as_csr(predictions: Any, n_labels: int | None) -> sp.csr_matrix:
    """Return predictions of any form as CSR, float64."""
    if sp.issparse(predictions):
        matrix = sp.csr_matrix(predictions, dtype=np.float64, copy=True)
        matrix.sum_duplicates()
        if n_labels not in (None, matrix.shape[1]):
            raise ValueError(
                f"n_labels={n_labels!r}, but the predictions have {matrix.shape[1]} "
                "columns."
            )
        return matrix
    if n_labels is None:
        raise ValueError("n_labels=None is only allowed where predictions are CSR.")
    if not isinstance(n_labels, (int, np.integer)) or n_labels < 1:
        raise ValueError(f"n_labels={n_labels!r} must be an integer of at least 1.")
    if isinstance(predictions, tuple):
        labels, values = (np.asarray(part) for part in predictions)
        numbers = labels.dtype.kind in "iu" or not labels.size
        if labels.shape != values.shape or not numbers:
            raise ValueError(
                "predictions must hold integers, the labels, and as many scores; got "
                f"shape {labels.shape} of dtype {labels.dtype} and shape "
                f"{values.shape}."
            )
        given = labels >= 0
        counts = given.sum(axis=1)
        columns, data = labels[given], values[given].astype(np.float64)
    else:
        with naming("predictions"):
            counts = np.array([len(row) for row in predictions], dtype=np.int64)
            pairs = [pair for row in predictions for pair in row]
            columns = np.array([label for label, _ in pairs], dtype=np.int64)
            data = np.array([score for _, score in pairs], dtype=np.float64)
    wrong = (columns < 0) | (columns >= n_labels)
    if wrong.any():
        raise ValueError(
            f"predictions name label {columns[wrong][0]}, but n_labels={n_labels}."
        )
    indptr = np.concatenate([[0], np.cumsum(counts)])
    matrix = sp.csr_matrix((data, columns, indptr), shape=(len(counts), n_labels))
    matrix.sum_duplicates()
    if matrix.nnz != len(data):
        raise ValueError("predictions name a label of a row twice.")
    return matrix


def _highest(matrix: sp.csr_matrix, top_k: int) -> sp.csr_matrix:
    """Return the entries with the highest values of each row."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    kept = order[np.arange(len(rows)) - matrix.indptr[rows] < top_k]
    parts = (matrix.data[kept], (rows[kept], matrix.indices[kept]))
    return sp.csr_matrix(parts, shape=matrix.shape)
