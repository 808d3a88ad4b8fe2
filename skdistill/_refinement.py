r"""Refining the sparse part of a retrieval student: a convex fit on hard negatives.

Centroids say what a label's rows have in common and not what tells them from the rows
of other labels. With the embeddings as they are, the vectors w are moved a little, so
as to minimise over the rows i, their labels and the wrong labels of the largest logits

.. math::
    \sum_i \mathrm{CE}\bigl(t_i, \mathrm{softmax}_j(o_{ij} + x_i^\top w_j)\bigr)
    + \frac{\lambda}{2} \lVert w - w^0 \rVert^2
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from skdistill._centroids import LabelVectors
from skdistill._top_k import Tables, largest, row_chunks
from skdistill._typing import FloatArray, IntArray

#: Wrong labels of a row that it is compared with.
N_HARD = 20
#: Pairs of a row and a label, at most; of more rows than that some are drawn.
MAX_PAIRS = 2**23
#: Chunks that are worked on at a time.
N_THREADS = 2
#: Pairs that are looked at at a time.
CHUNK_PAIRS = 2**16
#: lambda, how much the vectors are held back: the best on held-out rows of two sets of
#: titles, of .35, .6 and 1.
DECAY = 0.5
#: Steps of the minimisation; it is as good as done after so many.
N_STEPS = 8


@dataclass(frozen=True)
class Pairs:
    """Rows with the labels that they are compared with; those of a row are together.

    Attributes
    ----------
    products : csr_matrix of shape (n_pairs, n_entries)
        What each entry of the vectors is multiplied with in the logit of a pair.
    offset : ndarray of shape (n_pairs,)
        o, the part of the logits that stays.
    target : ndarray of shape (n_pairs,)
        t; those of a row sum to its weight.
    starts : ndarray of shape (n_rows,)
        First pair of each row.
    """

    products: sp.csr_matrix
    offset: FloatArray
    target: FloatArray
    starts: IntArray


def pair_loss(pairs: Pairs, values: FloatArray) -> tuple[float, FloatArray]:
    """Return the cross-entropy of all rows and its slope in the vectors' entries.

    Parameters
    ----------
    pairs : Pairs
        Rows and labels.
    values : ndarray of shape (n_entries,)
        Entries of the vectors w.

    Returns
    -------
    loss : float
        Sum over the rows.
    slope : ndarray of shape (n_entries,)
        Its derivatives.
    """
    lengths = np.diff(np.append(pairs.starts, len(pairs.target)))
    logits = pairs.offset + pairs.products @ values
    logits -= np.repeat(np.maximum.reduceat(logits, pairs.starts), lengths)
    chance = np.exp(logits)
    total = np.add.reduceat(chance, pairs.starts)
    weight = np.add.reduceat(pairs.target, pairs.starts)
    loss = (weight * np.log(total)).sum(dtype=float)
    loss -= (pairs.target * logits).sum(dtype=float)
    chance *= np.repeat(weight / total, lengths)
    chance -= pairs.target
    return float(loss), pairs.products.T @ chance


def refine(
    tables: Tables,
    X: sp.csr_matrix,
    targets: sp.csr_matrix,
    own: sp.csr_matrix,
    rng: np.random.Generator,
) -> LabelVectors:
    """Return better vectors for the sparse part.

    Parameters
    ----------
    tables : Tables
        The student; `residual` has the vectors to begin with, w of 0.
    X : csr_matrix of shape (n_samples, n_features)
        Training rows.
    targets : csr_matrix of shape (n_samples, n_labels)
        What is learned of them.
    own : csr_matrix of shape (n_samples, n_labels)
        Sparse part of the logits of each row's labels had the row not been there.
    rng : Generator
        Chooses rows, where there are more than are needed.

    Returns
    -------
    LabelVectors
        With the pattern of those before.
    """
    assert tables.residual is not None
    before = tables.residual.matrix
    per_row = N_HARD + np.diff(targets.indptr)
    rows = np.flatnonzero(per_row > N_HARD)
    if not len(rows) or not before.nnz:
        return tables.residual
    n_rows = max(1, int(MAX_PAIRS / per_row[rows].mean()))
    if n_rows < len(rows):
        rows = np.sort(rng.choice(rows, n_rows, replace=False))
    if len(rows) < X.shape[0]:
        X, targets, own = X[rows], targets[rows], own[rows]
    # The chunks have threads of their own, and sums the same order everywhere.
    with threadpool_limits(1, user_api="blas"):
        pairs = make_pairs(tables, X, targets, own)
        parts = _moved(pairs, before.data), before.indices, before.indptr
    return LabelVectors(sp.csr_matrix(parts, shape=before.shape))


def _moved(pairs: Pairs, before: FloatArray) -> FloatArray:
    """Return the entries of least penalised loss."""
    start = before.astype(np.float64)

    def penalised(values: FloatArray) -> tuple[float, FloatArray]:
        loss, slope = pair_loss(pairs, values.astype(np.float32))
        moved = values - start
        return loss + 0.5 * DECAY * float((moved**2).sum()), slope + DECAY * moved

    options = {"maxiter": N_STEPS, "maxcor": 5}
    found = minimize(penalised, start, jac=True, method="L-BFGS-B", options=options)
    moved: FloatArray = found.x.astype(np.float32)
    return moved


def make_pairs(
    tables: Tables, X: sp.csr_matrix, targets: sp.csr_matrix, own: sp.csr_matrix
) -> Pairs:
    """Return rows with their labels and the wrong labels of the largest logits.

    Parameters
    ----------
    tables : Tables
        The student.
    X : csr_matrix of shape (n_samples, n_features)
        Training rows.
    targets : csr_matrix of shape (n_samples, n_labels)
        What is learned of them; each row has some.
    own : csr_matrix of shape (n_samples, n_labels)
        As in `refine`.

    Returns
    -------
    Pairs
        The pairs of all rows.
    """
    n_rows, n_labels = targets.shape
    with ThreadPoolExecutor(N_THREADS) as pool:
        chunks = list(row_chunks(n_rows, n_labels))
        found = pool.map(lambda c: hardest(tables, X[c], targets[c]), chunks)
        rows, labels, target = _listed(targets, np.vstack(list(found)))
        ends = pairwise(range(0, len(rows) + CHUNK_PAIRS, CHUNK_PAIRS))
        places = [slice(start, stop) for start, stop in ends]
        parts = pool.map(lambda p: _logits(tables, X, rows[p], labels[p]), places)
        products, offset = _joined(parts)
    known, left_out = _looked_up(own, rows, labels)
    assert tables.residual is not None
    with_row = products @ tables.residual.matrix.data
    offset[known] += left_out - with_row[known]
    return Pairs(products, offset, target, np.searchsorted(rows, np.arange(n_rows)))


def _listed(
    targets: sp.csr_matrix, hard: IntArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return rows, labels and targets of all pairs, row by row."""
    n_rows = targets.shape[0]
    every = np.arange(n_rows, dtype=np.int32)
    rows = np.append(
        np.repeat(every, np.diff(targets.indptr)), np.repeat(every, hard.shape[1])
    )
    labels = np.append(targets.indices.astype(np.int32), hard.ravel())
    target = np.append(targets.data, np.zeros(hard.size, np.float32))
    order = np.argsort(rows, kind="stable")
    order = order[labels[order] >= 0]
    return rows[order], labels[order], target[order]


def _joined(
    parts: Iterable[tuple[sp.csr_matrix, FloatArray]],
) -> tuple[sp.csr_matrix, FloatArray]:
    """Stack matrices and join arrays; `scipy.sparse.vstack` would hold all twice."""
    data, indices, counts, offset = [], [], [], []
    n_entries = 0
    for matrix, part in parts:
        data.append(matrix.data)
        indices.append(matrix.indices)
        counts.append(np.diff(matrix.indptr))
        offset.append(part)
        n_entries = matrix.shape[1]
    ends = np.append(0, np.cumsum(np.concatenate(counts)))
    joined = np.concatenate(data)
    data.clear()
    entries = joined, np.concatenate(indices), ends
    indices.clear()
    shape = (len(ends) - 1, n_entries)
    return sp.csr_matrix(entries, shape=shape), np.concatenate(offset)


def hardest(tables: Tables, X: sp.csr_matrix, targets: sp.csr_matrix) -> IntArray:
    """Return the wrong labels of the largest logits of each row.

    Parameters
    ----------
    tables : Tables
        The student.
    X : csr_matrix of shape (n_rows, n_features)
        Rows.
    targets : csr_matrix of shape (n_rows, n_labels)
        Its entries are the rows' own labels.

    Returns
    -------
    ndarray of shape (n_rows, n_hard)
        Labels in any order, filled up with -1.
    """
    query = tables.query(X, np.float32)
    own = np.repeat(np.arange(X.shape[0]), np.diff(targets.indptr))
    labels = np.empty((X.shape[0], 0), dtype=np.int64)
    best = np.empty((X.shape[0], 0), dtype=np.float32)
    for block in tables.blocks():
        logits = tables.logits(query, block)
        inside = (targets.indices >= block.start) & (targets.indices < block.stop)
        logits[own[inside], targets.indices[inside] - block.start] = -np.inf
        found, values = largest(logits, min(N_HARD, logits.shape[1]))
        labels = np.hstack([labels, found + block.start])
        best = np.hstack([best, values])
    kept, best = largest(best, min(N_HARD, best.shape[1]))
    found = np.take_along_axis(labels, kept, axis=1)
    return np.where(best > -np.inf, found, -1).astype(np.int32)


def _logits(
    tables: Tables, X: sp.csr_matrix, rows: IntArray, labels: IntArray
) -> tuple[sp.csr_matrix, FloatArray]:
    """Return the logits of some pairs, as products of the entries and the rest."""
    assert tables.residual is not None
    matrix = tables.residual.matrix
    first = rows[0]
    query = tables.query(X[first : rows[-1] + 1], np.float32)
    assert query.unit is not None
    hidden = query.hidden[rows - first]
    offset = np.einsum("pd,pd->p", hidden, tables.labels[labels].astype(np.float32))
    offset += tables.bias[labels].astype(np.float32)
    unit = query.unit
    unit.eliminate_zeros()
    unit = unit[rows - first]
    # Numbers of the entries from 1 on: a product with 0 would not be an entry.
    numbers = sp.csr_matrix(
        (np.arange(1.0, matrix.nnz + 1), matrix.indices, matrix.indptr),
        shape=matrix.shape,
    )[labels]
    common = _ones(unit).multiply(numbers).tocsr()
    values = unit.multiply(_ones(numbers)).tocsr()
    index = np.int32 if matrix.nnz < np.iinfo(np.int32).max else np.int64
    parts = values.data.astype(np.float32), common.data.astype(index) - 1
    shape = (len(rows), matrix.nnz)
    return sp.csr_matrix((*parts, common.indptr), shape=shape), offset


def _ones(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return a matrix of the same pattern."""
    parts = np.ones(matrix.nnz, np.float32), matrix.indices, matrix.indptr
    return sp.csr_matrix(parts, shape=matrix.shape)


def _looked_up(
    matrix: sp.csr_matrix, rows: IntArray, columns: IntArray
) -> tuple[IntArray, FloatArray]:
    """Return which places have an entry, and the entries there."""
    n = matrix.shape[1]
    keys = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) * n
    keys += matrix.indices
    order = np.argsort(keys)
    asked = rows.astype(np.int64) * n + columns
    place = np.searchsorted(keys, asked, sorter=order)
    place = order[np.minimum(place, len(order) - 1)] if len(order) else place[:0]
    found = np.flatnonzero(keys[place] == asked) if len(order) else place
    return found, matrix.data[place[found]]
