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

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from skdistill._retrieval.centroids import LabelVectors
from skdistill._retrieval.limited_memory import minimise
from skdistill._retrieval.top_k import Query, Tables, largest, row_chunks
from skdistill._typing import FloatArray, IntArray

#: Wrong labels of a row that it is compared with. With half as many and half a million
#: rows, others rise to the first places; with more the gain is small.
N_HARD = 30
#: Pairs of a row and a label, at most; of more rows than that some are drawn.
MAX_PAIRS = 15_000_000
#: Chunks of rows that are worked on at a time.
N_THREADS = 2
#: Rows whose pairs are in one block.
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


def pair_loss(blocks: list[Pairs], values: FloatArray) -> tuple[float, FloatArray]:
    """Return the loss of all rows and its slope in the vectors' entries.

    Parameters
    ----------
    blocks : list of Pairs
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
    for pairs in blocks:
        of_rows, slope_of_rows = _loss(pairs, values)
        loss += of_rows
        slope += slope_of_rows
    return loss, slope


def _loss(pairs: Pairs, values: FloatArray) -> tuple[float, FloatArray]:
    """Return the loss of the rows of a block and its slope."""
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
        blocks = make_pairs(tables, X, own)
        tables.residual.forget()
        parts = _moved(blocks, before.data, decay), before.indices, before.indptr
    return LabelVectors(sp.csr_matrix(parts, shape=before.shape))


def _moved(blocks: list[Pairs], before: FloatArray, decay: FloatArray) -> FloatArray:
    """Return the entries of least penalised loss."""

    def penalised(values: FloatArray) -> tuple[float, FloatArray]:
        loss, slope = pair_loss(blocks, values)
        # Some entries at a time: it takes no more vectors of all.
        for start in range(0, len(values), 2**16):
            part = slice(start, start + 2**16)
            moved = values[part] - before[part]
            pull = decay[part] * moved
            slope[part] += pull
            loss += 0.5 * float(pull @ moved)
        return loss, slope

    return minimise(penalised, before, N_STEPS)


def make_pairs(tables: Tables, X: sp.csr_matrix, own: sp.csr_matrix) -> list[Pairs]:
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
    list of Pairs
        Blocks of rows.
    """
    assert tables.residual is not None
    matrix = tables.residual.matrix
    index = np.int32 if matrix.nnz < np.iinfo(np.int32).max else np.int64
    # Numbers of the entries from 1 on: 0 is where there is none.
    of_entry = np.arange(1, matrix.nnz + 1, dtype=index)
    numbers = sp.csr_matrix(
        (of_entry, matrix.indices, matrix.indptr), shape=matrix.shape
    )

    blocks = []
    with ThreadPoolExecutor(N_THREADS) as pool:
        for start in range(0, X.shape[0], BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, X.shape[0])
            chunks = row_chunks(stop - start, own.shape[1])
            rows = [slice(start + c.start, start + c.stop) for c in chunks]
            parts = pool.map(lambda r: _pairs(tables, numbers, X[r], own[r]), rows)
            blocks.append(_joined(list(parts)))
    return blocks


def _pairs(
    tables: Tables, numbers: sp.csr_matrix, X: sp.csr_matrix, own: sp.csr_matrix
) -> Pairs:
    """Return the pairs of a few rows: first each row's labels, then the wrong ones."""
    assert tables.residual is not None
    query = tables.query(X, np.float32)
    hard = hardest(tables, query, own)
    n_own = np.diff(own.indptr)
    n_pairs = n_own + (hard >= 0).sum(axis=1)
    starts = np.append(0, np.cumsum(n_pairs))
    rows = np.repeat(np.arange(len(n_own)), n_pairs)
    is_own = np.arange(starts[-1]) - starts[rows] < n_own[rows]
    labels = np.empty(starts[-1], dtype=np.int64)
    labels[is_own], labels[~is_own] = own.indices, hard[hard >= 0]
    target = np.where(is_own, 1.0 / np.maximum(n_own[rows], 1), 0.0)
    products = _products(numbers, query, rows, labels)
    offset = np.einsum(
        "pd,pd->p", query.hidden[rows], tables.labels[labels].astype(np.float32)
    )
    offset += tables.bias[labels].astype(np.float32)
    with_row = products @ tables.residual.matrix.data
    offset[is_own] += own.data - with_row[is_own]
    return Pairs(products, offset, target.astype(np.float32), starts[:-1])


def _joined(parts: list[Pairs]) -> Pairs:
    """Return the pairs of some rows and then of others as one."""
    sizes = np.append(0, np.cumsum([len(part.target) for part in parts]))
    starts = [part.starts + size for part, size in zip(parts, sizes, strict=False)]
    return Pairs(
        sp.csr_matrix(sp.vstack([part.products for part in parts], format="csr")),
        np.concatenate([part.offset for part in parts]),
        np.concatenate([part.target for part in parts]),
        np.concatenate(starts),
    )


def hardest(tables: Tables, query: Query, own: sp.csr_matrix) -> IntArray:
    """Return the wrong labels of the largest logits of each row.

    Parameters
    ----------
    tables : Tables
        The student.
    query : Query
        Rows.
    own : csr_matrix of shape (n_rows, n_labels)
        Its entries are the rows' labels.

    Returns
    -------
    ndarray of shape (n_rows, n_hard)
        Labels in any order, filled up with -1.
    """
    n_rows = len(query.hidden)
    rows = np.repeat(np.arange(n_rows), np.diff(own.indptr))
    labels = np.empty((n_rows, 0), dtype=np.int64)
    best = np.empty((n_rows, 0), dtype=np.float32)
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


def _products(
    numbers: sp.csr_matrix, query: Query, rows: IntArray, labels: IntArray
) -> sp.csr_matrix:
    """Return what each entry is multiplied with in the logits of pairs."""
    assert query.unit is not None
    unit = query.unit[rows]
    of_pair = np.repeat(labels, np.diff(unit.indptr))
    number = np.asarray(numbers[of_pair, unit.indices]).ravel()
    common = (number > 0) & (unit.data != 0)
    ends = np.append(0, np.cumsum(common))[unit.indptr]
    parts = unit.data[common], number[common] - 1, ends
    return sp.csr_matrix(parts, shape=(len(rows), numbers.nnz))
