r"""Refining the sparse part of a retrieval student: a convex fit on hard negatives.

Centroids say what a label's rows have in common and not what tells them from the rows
of other labels. With the embeddings as they are, the vectors w are moved a little, so
as to minimise over the rows i, their labels j and the wrong labels k of the largest
logits

.. math::
    \sum_i \frac{1}{|y_i|} \sum_{j \in y_i}
    \log\Bigl(1 + \sum_k e^{f_{ik} - f_{ij}}\Bigr)
    + \frac{\lambda}{2} \sum_j \sqrt{n_j} \lVert w_j - w^0_j \rVert^2,
    \qquad f_{ij} = o_{ij} + x_i^\top w_j

in which the labels of a row do not compete with each other; label j has :math:`n_j`
rows. Soft labels have no part in it: the centroids are those of labels, too.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from skdistill._centroids import LabelVectors
from skdistill._limited_memory import minimise
from skdistill._top_k import Query, Tables, largest, row_chunks
from skdistill._typing import FloatArray, IntArray

#: Wrong labels of a row that it is compared with. With half as many and half a million
#: rows, others rise to the first places; with more the gain is small.
N_HARD = 30
#: Pairs of a row and a label, at most; of more rows than that some are drawn.
MAX_PAIRS = 2**24
#: Chunks that are worked on at a time.
N_THREADS = 2
#: Features of pairs that are looked at at a time.
CHUNK_FEATURES = 2**18
#: Rows whose loss is taken at a time.
BLOCK_ROWS = 2**14
#: lambda, how much the vectors are held back: the best on held-out rows of half a
#: million titles, of .05, .07 and .1; on 15,500 titles the three are equal.
DECAY = 0.07
#: Steps of the minimisation; it is as good as done after so many.
N_STEPS = 6
#: Added to sums of exponentials, which may all be below what float32 has.
TINY = np.float32(1e-30)


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
        1 / abs(y) for the labels of a row, zero for wrong ones.
    starts : ndarray of shape (n_rows,)
        First pair of each row.
    """

    products: sp.csr_matrix
    offset: FloatArray
    target: FloatArray
    starts: IntArray

    def rows(self, start: int, n_rows: int) -> Pairs:
        """Return the pairs of some rows, in the same memory.

        Parameters
        ----------
        start : int
            The first row.
        n_rows : int
            How many, or to the end.

        Returns
        -------
        Pairs
            Theirs.
        """
        stop = min(start + n_rows, len(self.starts))
        ends = np.append(self.starts, len(self.target))
        pairs, ends = slice(ends[start], ends[stop]), ends[start:stop]
        indptr = self.products.indptr[pairs.start : pairs.stop + 1]
        entries = slice(indptr[0], indptr[-1])
        parts = self.products.data[entries], self.products.indices[entries]
        shape = (len(indptr) - 1, self.products.shape[1])
        products = sp.csr_matrix((*parts, indptr - indptr[0]), shape=shape)
        return Pairs(products, self.offset[pairs], self.target[pairs], ends - ends[0])


def pair_loss(pairs: Pairs, values: FloatArray) -> tuple[float, FloatArray]:
    """Return the loss of all rows and its slope in the vectors' entries.

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
    loss, slope = 0.0, np.zeros_like(values)
    for start in range(0, len(pairs.starts), BLOCK_ROWS):
        of_rows, slope_of_rows = _loss(pairs.rows(start, BLOCK_ROWS), values)
        loss += of_rows
        slope += slope_of_rows
    return loss, slope


def _loss(pairs: Pairs, values: FloatArray) -> tuple[float, FloatArray]:
    """Return the loss of some rows and its slope."""
    lengths = np.diff(np.append(pairs.starts, len(pairs.target)))
    logits = pairs.products @ values
    logits += pairs.offset
    logits -= np.repeat(np.maximum.reduceat(logits, pairs.starts), lengths)
    right = np.flatnonzero(pairs.target)
    row = np.searchsorted(pairs.starts, right, side="right") - 1
    weight, logit = pairs.target[right], logits[right]
    chance = np.exp(logits, out=logits)
    own = chance[right]
    chance[right] = 0.0
    total = np.add.reduceat(chance, pairs.starts)[row] + own + TINY
    loss = (weight * (np.log(total) - logit)).sum(dtype=float)
    pull = weight / total
    per_row = np.bincount(row, weights=pull, minlength=len(pairs.starts))
    chance *= np.repeat(per_row.astype(chance.dtype), lengths)
    chance[right] = pull * own - weight
    return float(loss), pairs.products.T @ chance


def refine(
    tables: Tables,
    X: sp.csr_matrix,
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
    own : csr_matrix of shape (n_samples, n_labels)
        Has an entry for each label of a row: the sparse part of its logit had the row
        not been there.
    rng : Generator
        Chooses rows, where there are more than are needed.

    Returns
    -------
    LabelVectors
        With the pattern of those before.
    """
    assert tables.residual is not None
    before = tables.residual.matrix
    n_labels = np.diff(own.indptr)
    rows = np.flatnonzero(n_labels)
    if not len(rows) or not before.nnz:
        return tables.residual
    decay = DECAY * np.sqrt(np.bincount(own.indices, minlength=own.shape[1]))
    decay = np.repeat(decay.astype(np.float32), np.diff(before.indptr))
    n_rows = max(1, int(MAX_PAIRS / (N_HARD + n_labels[rows].mean())))
    if n_rows < len(rows):
        rows = np.sort(rng.choice(rows, n_rows, replace=False))
    if len(rows) < X.shape[0]:
        X, own = X[rows], own[rows]
    # The chunks have threads of their own, and sums the same order everywhere.
    with threadpool_limits(1, user_api="blas"):
        pairs = make_pairs(tables, X, own)
        tables.residual.forget()
        parts = _moved(pairs, before.data, decay), before.indices, before.indptr
    return LabelVectors(sp.csr_matrix(parts, shape=before.shape))


def _moved(pairs: Pairs, before: FloatArray, decay: FloatArray) -> FloatArray:
    """Return the entries of least penalised loss."""

    def penalised(values: FloatArray) -> tuple[float, FloatArray]:
        loss, slope = pair_loss(pairs, values)
        moved = values - before
        slope += decay * moved
        moved *= moved
        return loss + 0.5 * float(decay @ moved), slope

    return minimise(penalised, before, N_STEPS)


def make_pairs(tables: Tables, X: sp.csr_matrix, own: sp.csr_matrix) -> Pairs:
    """Return rows with their labels and the wrong labels of the largest logits.

    Parameters
    ----------
    tables : Tables
        The student.
    X : csr_matrix of shape (n_samples, n_features)
        Training rows.
    own : csr_matrix of shape (n_samples, n_labels)
        As in `refine`; each row has labels.

    Returns
    -------
    Pairs
        The pairs of all rows.
    """
    n_rows, n_labels = own.shape
    with ThreadPoolExecutor(N_THREADS) as pool:
        chunks = list(row_chunks(n_rows, n_labels))
        found = pool.map(lambda c: hardest(tables, X[c], own[c]), chunks)
        rows, labels, target = _listed(own, np.vstack(list(found)))
        products, offset = _logits(tables, X, rows, labels, pool)
    known, left_out = _looked_up(own, rows, labels)
    assert tables.residual is not None
    with_row = products @ tables.residual.matrix.data
    offset[known] += left_out - with_row[known]
    return Pairs(products, offset, target, np.searchsorted(rows, np.arange(n_rows)))


def _listed(
    own: sp.csr_matrix, hard: IntArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return rows, labels and targets of all pairs, row by row."""
    n_rows, n_labels = own.shape[0], np.diff(own.indptr)
    every = np.arange(n_rows, dtype=np.int32)
    rows = np.append(np.repeat(every, n_labels), np.repeat(every, hard.shape[1]))
    labels = np.append(own.indices.astype(np.int32), hard.ravel())
    weight = np.repeat(1.0 / np.maximum(n_labels, 1), n_labels).astype(np.float32)
    target = np.append(weight, np.zeros(hard.size, np.float32))
    order = np.argsort(rows, kind="stable")
    order = order[labels[order] >= 0]
    return rows[order], labels[order], target[order]


def hardest(tables: Tables, X: sp.csr_matrix, own: sp.csr_matrix) -> IntArray:
    """Return the wrong labels of the largest logits of each row.

    Parameters
    ----------
    tables : Tables
        The student.
    X : csr_matrix of shape (n_rows, n_features)
        Rows.
    own : csr_matrix of shape (n_rows, n_labels)
        Its entries are the rows' labels.

    Returns
    -------
    ndarray of shape (n_rows, n_hard)
        Labels in any order, filled up with -1.
    """
    query = tables.query(X, np.float32)
    rows = np.repeat(np.arange(X.shape[0]), np.diff(own.indptr))
    labels = np.empty((X.shape[0], 0), dtype=np.int64)
    best = np.empty((X.shape[0], 0), dtype=np.float32)
    for block in tables.blocks():
        logits = tables.logits(query, block)
        inside = (own.indices >= block.start) & (own.indices < block.stop)
        logits[rows[inside], own.indices[inside] - block.start] = -np.inf
        found, values = largest(logits, min(N_HARD, logits.shape[1]))
        labels = np.hstack([labels, found + block.start])
        best = np.hstack([best, values])
    kept, best = largest(best, min(N_HARD, best.shape[1]))
    found = np.take_along_axis(labels, kept, axis=1)
    return np.where(best > -np.inf, found, -1).astype(np.int32)


def _logits(
    tables: Tables,
    X: sp.csr_matrix,
    rows: IntArray,
    labels: IntArray,
    pool: ThreadPoolExecutor,
) -> tuple[sp.csr_matrix, FloatArray]:
    """Return the logits of pairs, as products of the entries and the rest."""
    assert tables.residual is not None
    matrix = tables.residual.matrix
    index = np.int32 if matrix.nnz < np.iinfo(np.int32).max else np.int64
    # Numbers of the entries from 1 on: 0 is where there is none.
    parts = np.arange(1, matrix.nnz + 1, dtype=index), matrix.indices, matrix.indptr
    numbers = sp.csr_matrix(parts, shape=matrix.shape)
    n_features = np.diff(X.indptr)
    ends = np.append(0, np.cumsum(n_features[rows]))
    n_chunks = 1 + int(ends[-1]) // CHUNK_FEATURES
    bounds = [i * len(rows) // n_chunks for i in range(n_chunks + 1)]
    places = [slice(start, stop) for start, stop in pairwise(bounds)]

    def scored(place: slice) -> tuple[FloatArray, FloatArray, IntArray, IntArray]:
        first = rows[place.start]
        query = tables.query(X[first : rows[place.stop - 1] + 1], np.float32)
        chosen = rows[place] - first
        offset = _without_sparse_part(tables, query, chosen, labels[place])
        return offset, *_products(numbers, query, chosen, labels[place])

    # What is never written takes no memory.
    data, indices = np.empty(ends[-1], np.float32), np.empty(ends[-1], index)
    offset, counts = np.empty(len(rows), np.float32), np.empty(len(rows), np.int32)
    stop = 0
    for place, (rest, *entries, lengths) in zip(
        places, pool.map(scored, places), strict=True
    ):
        start, stop = stop, stop + len(entries[0])
        data[start:stop], indices[start:stop] = entries
        offset[place], counts[place] = rest, lengths
    ends = np.append(0, np.cumsum(counts))
    shape = (len(rows), matrix.nnz)
    return sp.csr_matrix((data[:stop], indices[:stop], ends), shape=shape), offset


def _without_sparse_part(
    tables: Tables, query: Query, rows: IntArray, labels: IntArray
) -> FloatArray:
    """Return the logits of pairs without their sparse part."""
    offset: FloatArray = np.einsum(
        "pd,pd->p", query.hidden[rows], tables.labels[labels].astype(np.float32)
    )
    offset += tables.bias[labels].astype(np.float32)
    return offset


def _products(
    numbers: sp.csr_matrix, query: Query, rows: IntArray, labels: IntArray
) -> tuple[FloatArray, IntArray, IntArray]:
    """Return values, entries and their number for each pair."""
    assert query.unit is not None
    unit = query.unit[rows]
    of_pair = np.repeat(labels, np.diff(unit.indptr))
    number = np.asarray(numbers[of_pair, unit.indices]).ravel()
    common = (number > 0) & (unit.data != 0)
    ends = np.append(0, np.cumsum(common))[unit.indptr]
    return unit.data[common], number[common] - 1, np.diff(ends)


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
