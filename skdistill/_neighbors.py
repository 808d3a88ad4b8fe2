"""The nearest rows of a table of numbers and categories."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from skdistill._typing import FloatArray, IntArray

#: Distances are taken from this many rows at a time.
CHUNK_ROWS = 256


def nearest_rows(
    numbers: Any, codes: list[IntArray], pool: IntArray, n_neighbors: int
) -> IntArray:
    r"""Return, for each row, the nearest ones of a pool other than itself.

    The squared distance is :math:`\lVert u - u' \rVert^2`, of the numbers, plus 1 for
    each column of codes that differs.

    Parameters
    ----------
    numbers : {ndarray, sparse matrix} of shape (n_samples, n_numbers)
        Columns of one scale. Missing values of a sparse matrix count as zero.
    codes : list of ndarray of shape (n_samples,)
        Categories.
    pool : ndarray of shape (n_pool,)
        Rows that can be neighbours.
    n_neighbors : int
        Neighbours of each row.

    Returns
    -------
    ndarray of shape (n_samples, n_neighbors)
        Positions among all rows.
    """
    n_samples = numbers.shape[0]
    numbers = _for_products(numbers)
    candidates = numbers[pool]
    norms = _squared_norms(candidates)
    near = np.empty((n_samples, n_neighbors), dtype=np.intp)
    for start in range(0, n_samples, CHUNK_ROWS):
        rows = np.arange(start, min(start + CHUNK_ROWS, n_samples))
        products = numbers[rows] @ candidates.T
        if sp.issparse(products):
            products = products.toarray()
        # The row's own norm does not change which is nearest.
        distance = norms - 2.0 * products
        for column in codes:
            distance += column[rows][:, None] != column[pool]
        distance[rows[:, None] == pool] = np.inf
        if n_neighbors == 1:
            nearest = distance.argmin(axis=1)[:, None]
        else:
            nearest = np.argpartition(distance, n_neighbors - 1, axis=1)
        near[rows] = pool[nearest[:, :n_neighbors]]
    return near


def _for_products(numbers: Any) -> Any:
    """Return numbers whose products neither wrap, as small integers do, nor are NaN."""
    if numbers.dtype.kind != "f":
        return numbers.astype(np.float64)
    if sp.issparse(numbers) and np.isnan(numbers.data).any():
        numbers = numbers.copy()
        numbers.data[np.isnan(numbers.data)] = 0.0
    return numbers


def _squared_norms(rows: Any) -> FloatArray:
    if sp.issparse(rows):
        norms: FloatArray = np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
        return norms
    squared: FloatArray = np.einsum("ij,ij->i", rows, rows)
    return squared
