"""Scoring many labels in blocks: the best k of each row, without all logits at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import DTypeLike, NDArray

from skdistill._typing import FloatArray, IntArray

#: Logits of a block: 16 MiB in float32.
BLOCK_LOGITS = 2**22
#: Rows that are scored at a time.
BLOCK_ROWS = 512


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
    """

    features: FloatArray
    labels: FloatArray
    bias: FloatArray

    def hidden(self, X: Any, dtype: DTypeLike) -> FloatArray:
        """Return ``X @ features``, taken in the type asked for."""
        if not sp.issparse(X):
            return np.asarray(X, dtype=dtype) @ self.features.astype(dtype, copy=False)
        # Only the features that are there: a wider type must not copy the whole table.
        present, columns = np.unique(X.indices, return_inverse=True)
        part = sp.csr_matrix(
            (X.data.astype(dtype, copy=False), columns, X.indptr),
            shape=(X.shape[0], len(present)),
        )
        hidden: FloatArray = part @ self.features[present].astype(dtype, copy=False)
        return hidden

    def blocks(self, n_rows: int) -> Iterator[slice]:
        """Cut the labels into blocks of a bounded number of logits."""
        size = max(1, BLOCK_LOGITS // max(1, n_rows))
        for start in range(0, len(self.bias), size):
            yield slice(start, min(start + size, len(self.bias)))

    def logits(self, hidden: FloatArray, block: slice) -> FloatArray:
        """Return the logits of a block of labels, in the type of `hidden`."""
        embeddings = self.labels[block].astype(hidden.dtype, copy=False)
        logits: FloatArray = hidden @ embeddings.T
        logits += self.bias[block].astype(hidden.dtype, copy=False)
        return logits


class Search(Protocol):
    """Finds the labels of the largest logits."""

    def __call__(
        self, hidden: FloatArray, k: int
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return labels (B, k), logits (B, k), and log-totals (B,)."""


def exact_search(
    tables: Tables, hidden: FloatArray, k: int
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Find the k labels of the largest logits, block by block.

    Parameters
    ----------
    tables : Tables
        The student.
    hidden : ndarray of shape (n_rows, dim)
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
    n_rows = len(hidden)
    labels = np.empty((n_rows, 0), dtype=np.int64)
    best = np.empty((n_rows, 0), dtype=hidden.dtype)
    log_total = np.full(n_rows, -np.inf, dtype=hidden.dtype)
    for block in tables.blocks(n_rows):
        logits = tables.logits(hidden, block)
        found, values = _largest(logits, min(k, logits.shape[1]))
        labels = np.hstack([labels, found + block.start])
        best = np.hstack([best, values])
        if labels.shape[1] > k:
            kept, best = _largest(best, k)
            labels = np.take_along_axis(labels, kept, axis=1)
        log_total = np.logaddexp(log_total, _log_sum(logits))
    order = np.lexsort((labels, -best), axis=1)
    return (
        np.take_along_axis(labels, order, axis=1),
        np.take_along_axis(best, order, axis=1),
        log_total,
    )


def _largest(values: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """Return the k largest values of each row, and where they are, in any order."""
    if k == values.shape[1]:
        return np.broadcast_to(np.arange(k), values.shape), values
    found = np.argpartition(values, -k, axis=1)[:, -k:]
    return found, np.take_along_axis(values, found, axis=1)


def _log_sum(logits: FloatArray) -> FloatArray:
    """Return log sum exp of each row; the logits are used up."""
    largest = logits.max(axis=1)
    logits -= largest[:, None]
    np.exp(logits, out=logits)
    total: FloatArray = largest + np.log(logits.sum(axis=1))
    return total


def log_totals(tables: Tables, hidden: FloatArray) -> FloatArray:
    """Return log sum exp of all logits of each row.

    Parameters
    ----------
    tables : Tables
        The student.
    hidden : ndarray of shape (n_rows, dim)
        Rows.

    Returns
    -------
    ndarray of shape (n_rows,)
        The logarithms.
    """
    total = np.full(len(hidden), -np.inf, dtype=hidden.dtype)
    for block in tables.blocks(len(hidden)):
        total = np.logaddexp(total, _log_sum(tables.logits(hidden, block)))
    return total


class ApproximateSearch:
    """Labels of large logits from a graph of near neighbours (HNSW).

    The largest inner product with ``(embedding, bias)`` of a row ``(hidden, 1)``;
    through faiss, or else usearch.

    Parameters
    ----------
    tables : Tables
        The student.
    breadth : int, default=128
        Labels that a search looks at, about; more find more of the best.
    """

    def __init__(self, tables: Tables, breadth: int = 128) -> None:
        self.tables = tables
        self.breadth = breadth
        vectors = np.column_stack([tables.labels, tables.bias]).astype(np.float32)
        self._find = _build_index(vectors, breadth)

    def __call__(
        self, hidden: FloatArray, k: int
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return labels and logits found, and log-totals over the labels looked at."""
        n_found = min(max(k, self.breadth), len(self.tables.bias))
        ones = np.ones((len(hidden), 1))
        found = self._find(np.hstack([hidden, ones]).astype(np.float32), n_found)
        embeddings = self.tables.labels[found].astype(hidden.dtype, copy=False)
        logits = np.einsum("rkd,rd->rk", embeddings, hidden)
        logits += self.tables.bias[found].astype(hidden.dtype, copy=False)
        order = np.lexsort((found, -logits), axis=1)[:, :k]
        best = np.take_along_axis(logits, order, axis=1)
        return np.take_along_axis(found, order, axis=1), best, _log_sum(logits)

    def recall(self, hidden: FloatArray, k: int) -> float:
        """Return the share of the exact best k labels that are found.

        Parameters
        ----------
        hidden : ndarray of shape (n_rows, dim)
            Rows.
        k : int
            How many labels.

        Returns
        -------
        float
            The mean over the rows.
        """
        exact, _, _ = exact_search(self.tables, hidden, k)
        found, _, _ = self(hidden, k)
        rows = zip(exact, found, strict=True)
        return float(np.mean([np.isin(a, b).mean() for a, b in rows]))


def _build_index(vectors: NDArray[np.float32], breadth: int) -> Any:
    """Return a function from queries and a number to the neighbours found."""
    try:
        import faiss
    except ImportError:
        return _build_usearch(vectors, breadth)
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 2 * breadth
    index.hnsw.efSearch = breadth
    index.add(vectors)
    return lambda queries, k: _filled(index.search(queries, k)[1], len(vectors))


def _build_usearch(vectors: NDArray[np.float32], breadth: int) -> Any:
    """Return the same through usearch."""
    try:
        from usearch.index import Index
    except ImportError as error:
        raise ImportError(
            "search='hnsw' needs faiss or usearch: pip install skdistill[search], or "
            "use search='exact'."
        ) from error
    index = Index(
        ndim=vectors.shape[1],
        metric="ip",
        dtype="f32",
        expansion_add=2 * breadth,
        expansion_search=breadth,
    )
    index.add(np.arange(len(vectors)), vectors)

    def find(queries: NDArray[np.float32], k: int) -> IntArray:
        keys = np.full((len(queries), k), -1, dtype=np.int64)
        for row, query in zip(keys, queries, strict=True):
            matches = index.search(query, k).keys
            row[: len(matches)] = matches
        return _filled(keys, len(vectors))

    return find


def _filled(found: IntArray, n_labels: int) -> IntArray:
    """Replace what a search did not find by labels that the row does not have yet."""
    for row in found[(found < 0).any(axis=1)]:
        absent = row < 0
        others = np.setdiff1d(np.arange(n_labels), row[~absent])
        row[absent] = others[: absent.sum()]
    return found
