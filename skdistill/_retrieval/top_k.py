"""Scoring many labels in blocks: the best k of each row, without all logits at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import DTypeLike

from skdistill._hidden_units import Hidden, activate_in_place, pooled
from skdistill._retrieval.centroids import LabelVectors, unit_rows
from skdistill._sparse_rows import keep_largest
from skdistill._typing import FloatArray, IntArray

#: Logits that are made at a time.
BLOCK_LOGITS = 2**20
#: Labels, at most, of a block of them.
BLOCK_LABELS = 2**12
#: Rows, at most, that are scored at a time.
BLOCK_ROWS = 512
#: Hidden units that are sums.
LINEAR = Hidden()
#: Values of which the maximum is taken first, to find the largest.
STRIP = 32


def row_chunks(n_rows: int, n_labels: int) -> Iterator[slice]:
    """Cut rows into chunks with a bounded number of logits in a block of labels.

    Parameters
    ----------
    n_rows, n_labels : int
        Of how many.

    Yields
    ------
    slice
        Some of the rows.
    """
    size = BLOCK_LOGITS // max(1, min(n_labels, BLOCK_LABELS))
    size = min(max(1, size), BLOCK_ROWS)
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


class Query(NamedTuple):
    """Rows, in the form in which labels are scored against them.

    Attributes
    ----------
    hidden : ndarray of shape (n_rows, dim)
        Hidden units.
    unit : csr_matrix of shape (n_rows, n_features) or None
        The rows at length 1, for the sparse part; None where there is none.
    """

    hidden: FloatArray
    unit: sp.csr_matrix | None

    def rows(self, rows: slice) -> Query:
        """Return some of the rows."""
        return Query(self.hidden[rows], None if self.unit is None else self.unit[rows])


@dataclass(frozen=True)
class Tables:
    """What a student has learned.

    Attributes
    ----------
    features : ndarray of shape (n_features, dim)
        Embeddings of the features.
    labels : ndarray of shape (n_labels, dim)
        Embeddings of the labels.
    bias : ndarray of shape (n_labels,)
        Biases of the labels.
    residual : LabelVectors or None
        The sparse linear part of the logits, for rows of length 1.
    hidden : Hidden
        What becomes of the embeddings of a row's features.
    """

    features: FloatArray
    labels: FloatArray
    bias: FloatArray
    residual: LabelVectors | None = None
    hidden: Hidden = LINEAR

    def query(self, X: Any, dtype: DTypeLike) -> Query:
        """Return rows ready to be scored, in the type asked for."""
        unit = None
        if self.residual is not None:
            unit = unit_rows(sp.csr_matrix(X)).astype(np.float32)
        hidden = self._products(pooled(X, self.hidden.pooling), dtype)
        activate_in_place(hidden, self.hidden.activation)
        return Query(hidden, unit)

    def _products(self, X: Any, dtype: DTypeLike) -> FloatArray:
        """Return the products of rows with the embeddings of the features."""
        if not sp.issparse(X):
            features = self.features.astype(dtype, copy=False)
            products: FloatArray = np.asarray(X, dtype=dtype) @ features
            return products
        # Only the features that are there, and some dimensions at a time: a wider type
        # must not copy the whole table.
        present, columns = np.unique(X.indices, return_inverse=True)
        part = sp.csr_matrix(
            (X.data.astype(dtype, copy=False), columns, X.indptr),
            shape=(X.shape[0], len(present)),
        )
        dim = self.features.shape[1]
        products = np.empty((X.shape[0], dim), dtype=dtype)
        size = max(1, BLOCK_LOGITS // max(1, len(present)))
        for start in range(0, dim, size):
            some = slice(start, start + size)
            products[:, some] = part @ self.features[present, some].astype(dtype)
        return products

    def blocks(self) -> Iterator[slice]:
        """Cut the labels into blocks, always the same ones."""
        for start in range(0, len(self.bias), BLOCK_LABELS):
            yield slice(start, min(start + BLOCK_LABELS, len(self.bias)))

    def logits(self, query: Query, block: slice) -> FloatArray:
        """Return the logits of a block of labels, in the type of the query."""
        dtype = query.hidden.dtype
        embeddings = self.labels[block].astype(dtype, copy=False)
        logits: FloatArray = query.hidden @ embeddings.T
        logits += self.bias[block].astype(dtype, copy=False)
        if self.residual is not None and query.unit is not None:
            logits += self.residual.scores(query.unit, block)
        return logits

    def logits_of(self, query: Query, labels: IntArray) -> FloatArray:
        """Return the logits of some labels of each row, (n_rows, k)."""
        logits = np.empty(labels.shape, dtype=query.hidden.dtype)
        size = max(1, BLOCK_LOGITS // max(1, labels.shape[1] * self.labels.shape[1]))
        for start in range(0, len(labels), size):
            rows = slice(start, start + size)
            embeddings = self.labels[labels[rows]].astype(logits.dtype, copy=False)
            np.einsum("rkd,rd->rk", embeddings, query.hidden[rows], out=logits[rows])
        logits += self.bias[labels].astype(logits.dtype, copy=False)
        if self.residual is not None and query.unit is not None:
            logits += self.residual.scores_of(query.unit, labels)
        return logits


def exact_search(
    tables: Tables, query: Query, k: int
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Find the k labels of the largest logits, block by block.

    Parameters
    ----------
    tables : Tables
        The student.
    query : Query
        Rows.
    k : int
        How many labels, at most their number.

    Returns
    -------
    labels : ndarray of shape (n_rows, k)
        The labels, best first; of equal ones, the lower number first.
    logits : ndarray of shape (n_rows, k)
        Their logits.
    log_total : ndarray of shape (n_rows,)
        Logarithm of the sum of ``exp(logit)`` over all labels.
    """
    n_rows, dtype = len(query.hidden), query.hidden.dtype
    labels = np.empty((n_rows, 0), dtype=np.int64)
    best = np.empty((n_rows, 0), dtype=dtype)
    log_total = np.full(n_rows, -np.inf, dtype=dtype)
    for block in tables.blocks():
        logits = tables.logits(query, block)
        found, values = _first_largest(logits, min(k, logits.shape[1]))
        labels = np.hstack([labels, found + block.start])
        best = np.hstack([best, values])
        if labels.shape[1] > k:
            # The better ones first, of equal ones those of the lower number.
            kept = np.lexsort((labels, -best), axis=1)[:, :k]
            best = np.take_along_axis(best, kept, axis=1)
            labels = np.take_along_axis(labels, kept, axis=1)
        log_total = np.logaddexp(log_total, log_sum(logits))
    order = np.lexsort((labels, -best), axis=1)
    return (
        np.take_along_axis(labels, order, axis=1),
        np.take_along_axis(best, order, axis=1),
        log_total,
    )


def _first_largest(values: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """Return what `largest` does, of values that tie for the last place the first."""
    found, best = largest(values, k)
    as_large = values >= best.min(axis=1, keepdims=True)
    if np.count_nonzero(as_large) > best.size:
        tied = np.flatnonzero(as_large.sum(axis=1) > k)
        first = np.argsort(-values[tied], axis=1, kind="stable")[:, :k]
        found[tied] = first
        best[tied] = np.take_along_axis(values[tied], first, axis=1)
    return found, best


def largest(values: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """Return the k largest values of each row, and where they are, in any order.

    They are in the k strips of the largest maxima, where there are many: to find those
    takes one pass.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_values)
        Without NaN.
    k : int
        How many, at most n_values.

    Returns
    -------
    places : ndarray of shape (n_rows, k)
        Columns.
    values : ndarray of shape (n_rows, k)
        What stands there.
    """
    n_rows, n_values = values.shape
    if k == n_values:
        return np.broadcast_to(np.arange(k), values.shape), values.copy()
    n_strips = n_values // STRIP
    if n_strips <= 2 * k:
        found = np.argpartition(values, -k, axis=1)[:, -k:]
        return found, np.take_along_axis(values, found, axis=1)
    head = values[:, : n_strips * STRIP].reshape(n_rows, n_strips, STRIP)
    strips = np.argpartition(head.max(axis=2), -k, axis=1)[:, -k:]
    places = (strips[:, :, None] * STRIP + np.arange(STRIP)).reshape(n_rows, -1)
    tail = np.arange(n_strips * STRIP, n_values)
    places = np.hstack([places, np.broadcast_to(tail, (n_rows, len(tail)))])
    candidates = np.take_along_axis(values, places, axis=1)
    best = np.argpartition(candidates, -k, axis=1)[:, -k:]
    return (
        np.take_along_axis(places, best, axis=1),
        np.take_along_axis(candidates, best, axis=1),
    )


def log_sum(logits: FloatArray) -> FloatArray:
    """Return log sum exp of each row; the logits are used up.

    Parameters
    ----------
    logits : ndarray of shape (n_rows, n_some)
        Logits, changed in place.

    Returns
    -------
    ndarray of shape (n_rows,)
        The logarithms.
    """
    largest = logits.max(axis=1)
    logits -= largest[:, None]
    np.exp(logits, out=logits)
    total: FloatArray = largest + np.log(logits.sum(axis=1))
    return total


def log_totals(tables: Tables, query: Query) -> FloatArray:
    """Return log sum exp of all logits of each row.

    Parameters
    ----------
    tables : Tables
        The student.
    query : Query
        Rows.

    Returns
    -------
    ndarray of shape (n_rows,)
        The logarithms.
    """
    n_rows, dtype = len(query.hidden), query.hidden.dtype
    total = np.full(n_rows, -np.inf, dtype=dtype)
    for block in tables.blocks():
        total = np.logaddexp(total, log_sum(tables.logits(query, block)))
    return total


def best_residuals(tables: Tables, query: Query, k: int) -> IntArray:
    """Return the labels of the largest sparse parts of each row, filled up with -1.

    Parameters
    ----------
    tables : Tables
        The student.
    query : Query
        Rows.
    k : int
        How many labels.

    Returns
    -------
    ndarray of shape (n_rows, k)
        The labels, in the order of their numbers.
    """
    best = np.full((len(query.hidden), k), -1, dtype=np.int64)
    if tables.residual is None or query.unit is None:
        return best
    scores = sp.csr_matrix(query.unit @ tables.residual.matrix.T)
    scores.sort_indices()
    scores = keep_largest(scores, k)
    for i, (start, stop) in enumerate(pairwise(scores.indptr)):
        best[i, : stop - start] = scores.indices[start:stop]
    return best
