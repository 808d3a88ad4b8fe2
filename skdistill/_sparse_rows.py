"""Rows of sparse matrices: other values in a pattern, the largest of each row."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from skdistill._typing import FloatArray


def with_values(matrix: sp.csr_matrix, values: FloatArray) -> sp.csr_matrix:
    """Return a matrix with the pattern of another.

    Parameters
    ----------
    matrix : csr_matrix
        Has the pattern.
    values : ndarray of shape (nnz,)
        The values.

    Returns
    -------
    csr_matrix
        float32.
    """
    parts = (values.astype(np.float32), matrix.indices, matrix.indptr)
    return sp.csr_matrix(parts, shape=matrix.shape)


def keep_largest(
    matrix: sp.csr_matrix, top_k: int, *, by_magnitude: bool = False
) -> sp.csr_matrix:
    """Keep the largest values of each row.

    Parameters
    ----------
    matrix : csr_matrix
        Sorted columns.
    top_k : int
        How many of each row.
    by_magnitude : bool, default=False
        Whether the largest are those farthest from zero, of either sign.

    Returns
    -------
    csr_matrix
        The rest; of equal values the first columns.
    """
    lengths = np.diff(matrix.indptr)
    if not len(lengths) or lengths.max() <= top_k:
        return matrix
    rows = np.repeat(np.arange(matrix.shape[0]), lengths)
    size = np.abs(matrix.data) if by_magnitude else matrix.data
    order = np.lexsort((matrix.indices, -size, rows))
    rank = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], lengths)
    kept = np.sort(order[rank < top_k])
    ends = np.append(0, np.cumsum(np.minimum(lengths, top_k)))
    parts = (matrix.data[kept], matrix.indices[kept], ends)
    return sp.csr_matrix(parts, shape=matrix.shape)
