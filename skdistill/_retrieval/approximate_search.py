"""Labels of large logits from a graph of near neighbours, by faiss or usearch."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skdistill._retrieval.top_k import (
    Query,
    Tables,
    best_residuals,
    exact_search,
    log_sum,
)
from skdistill._typing import FloatArray, IntArray

Vectors = NDArray[np.float32]


class Neighbours(Protocol):
    """Finds the vectors of largest inner product; can be pickled."""

    def find(self, queries: Vectors, k: int) -> IntArray:
        """Return the numbers of k vectors a query, -1 where it found none.

        Parameters
        ----------
        queries : ndarray of shape (n_queries, n_values)
            What to multiply with.
        k : int
            How many.
        """


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

    Raises
    ------
    ImportError
        If there is neither faiss nor usearch.
    """

    def __init__(self, tables: Tables, breadth: int = 128) -> None:
        self.breadth = breadth
        vectors = np.column_stack([tables.labels, tables.bias]).astype(np.float32)
        self._neighbours = _neighbours_of(vectors, breadth)

    def __call__(
        self, tables: Tables, query: Query, k: int
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return labels and logits found, and log-totals over the labels looked at."""
        n_found = min(max(k, self.breadth), len(tables.bias))
        ones = np.ones((len(query.hidden), 1))
        queries = np.hstack([query.hidden, ones]).astype(np.float32)
        found = _filled(self._neighbours.find(queries, n_found))
        if tables.residual is not None:
            others = best_residuals(tables, query, min(n_found, self.breadth))
            found = np.hstack([found, others])
        logits = tables.logits_of(query, np.maximum(found, 0))
        logits[_repeated(found) | (found < 0)] = -np.inf
        order = np.lexsort((found, -logits), axis=1)[:, :k]
        best = np.take_along_axis(logits, order, axis=1)
        return np.take_along_axis(found, order, axis=1), best, log_sum(logits)

    def recall(self, tables: Tables, query: Query, k: int) -> float:
        """Return the share of the exact best k labels that are found.

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
        float
            The mean over the rows.
        """
        exact, _, _ = exact_search(tables, query, k)
        found, _, _ = self(tables, query, k)
        rows = zip(exact, found, strict=True)
        return float(np.mean([np.isin(a, b).mean() for a, b in rows]))


def _repeated(found: IntArray) -> NDArray[np.bool_]:
    """Return which entries of a row have come before in it."""
    order = np.argsort(found, axis=1, kind="stable")
    ordered = np.take_along_axis(found, order, axis=1)
    again = np.zeros(found.shape, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.empty_like(again)
    np.put_along_axis(repeated, order, again, axis=1)
    return repeated


def _filled(found: IntArray) -> IntArray:
    """Replace what a search did not find by labels that the row does not have yet."""
    for i in np.flatnonzero((found < 0).any(axis=1)):
        absent = found[i] < 0
        # There are at least so many labels, and no more than that are needed.
        others = np.setdiff1d(np.arange(found.shape[1]), found[i, ~absent])
        found[i, absent] = others[: absent.sum()]
    return found


# -- the libraries -----------------------------------------------------------------


def _neighbours_of(vectors: Vectors, breadth: int) -> Neighbours:
    """Return the graph of the library that there is."""
    for name, library in (("faiss", _Faiss), ("usearch.index", _Usearch)):
        try:
            import_module(name)
        except ImportError:
            continue
        graph: Neighbours = library(vectors, breadth)
        return graph
    raise ImportError(
        'search="hnsw" needs faiss or usearch: pip install "skdistill[search]", or use '
        'search="exact".'
    )


class _Faiss:
    """A graph of faiss, which pickles by itself."""

    def __init__(self, vectors: Vectors, breadth: int) -> None:
        import faiss

        kind = faiss.METRIC_INNER_PRODUCT
        self._index = faiss.IndexHNSWFlat(vectors.shape[1], 32, kind)
        self._index.hnsw.efConstruction = 2 * breadth
        self._index.hnsw.efSearch = breadth
        self._index.add(vectors)

    def find(self, queries: Vectors, k: int) -> IntArray:
        """Return the numbers of k vectors a query, -1 where it found none."""
        found: IntArray = self._index.search(queries, k)[1]
        return found


class _Usearch:
    """A graph of usearch, which becomes bytes where it is pickled."""

    def __init__(self, vectors: Vectors, breadth: int) -> None:
        from usearch.index import Index

        self._breadth = breadth
        self._index = Index(
            ndim=vectors.shape[1],
            metric="ip",
            dtype="f32",
            connectivity=32,
            expansion_add=2 * breadth,
            expansion_search=breadth,
        )
        self._index.add(np.arange(len(vectors)), vectors)

    def find(self, queries: Vectors, k: int) -> IntArray:
        """Return the numbers of k vectors a query, -1 where it found none."""
        # A single query is answered in another form: there are always two.
        matches = self._index.search(np.vstack([queries, queries[:1]]), k)
        found = matches.keys[:-1].astype(np.int64)
        counts = np.asarray(matches.counts)[:-1]
        found[np.arange(k) >= counts[:, None]] = -1
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"_breadth": self._breadth, "_index": bytes(self._index.save())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        from usearch.index import Index

        self._breadth = state["_breadth"]
        self._index = Index.restore(state["_index"])
        self._index.expansion_search = self._breadth
