"""The sparse linear part of a retrieval student: centroids of the labels' rows.

Rare words name rare labels: what a few shared dimensions cannot hold of such pairs, a
sparse vector for each label does, and there is nothing to train in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp

from skdistill._sparse_rows import keep_largest
from skdistill._typing import FloatArray, IntArray

#: Values that are looked at at a time to score some labels of each row.
CHUNK_VALUES = 2**20
#: Entries of the product of labels and inputs that are made at a time, about.
CHUNK_ENTRIES = 2**18
#: Pairs of a row and a label of it that are looked at at a time.
CHUNK_PAIRS = 2**13
#: Features in the vectors of more labels than this share are kept dense: to add up rows
#: of a table is then faster than to visit the labels one by one.
DENSE_SHARE = 0.05
#: Bytes that the dense part may have.
DENSE_BYTES = 2**26


def _lengths(X: sp.csr_matrix) -> FloatArray:
    """Return the length of each row."""
    counts = np.diff(X.indptr)
    squares = np.zeros(X.shape[0])
    present = counts > 0
    if X.nnz:
        data = X.data.astype(np.float64)
        squares[present] = np.add.reduceat(data**2, X.indptr[:-1][present])
    lengths: FloatArray = np.sqrt(squares)
    return lengths


def unit_rows(X: sp.csr_matrix) -> sp.csr_matrix:
    """Divide rows by their lengths; empty ones stay.

    Parameters
    ----------
    X : csr_matrix of shape (n_rows, n_features)
        Rows.

    Returns
    -------
    csr_matrix of shape (n_rows, n_features)
        Rows of length 1 or 0.
    """
    lengths = _lengths(X)
    lengths[lengths == 0] = 1.0
    data = (X.data / np.repeat(lengths, np.diff(X.indptr))).astype(X.dtype)
    return sp.csr_matrix((data, X.indices, X.indptr), shape=X.shape)


class LabelVectors:
    """A sparse vector for each label, ready to be multiplied with rows of length 1.

    Parameters
    ----------
    matrix : csr_matrix of shape (n_labels, n_features)
        The vectors.
    dense_share : float or None, default=None
        Features in the vectors of more labels than this share are kept dense. None
        stands for `DENSE_SHARE`.
    """

    def __init__(self, matrix: sp.csr_matrix, dense_share: float | None = None) -> None:
        self.matrix = matrix
        self._share = DENSE_SHARE if dense_share is None else dense_share
        self._blocks: dict[tuple[int, int], _ByFeature] = {}

    def scores(self, unit: sp.csr_matrix, block: slice) -> FloatArray:
        """Return the products of rows with the vectors of a block of labels, dense.

        Parameters
        ----------
        unit : csr_matrix of shape (n_rows, n_features)
            The rows.
        block : slice
            Which labels. Each block is put in order when it is first asked for.

        Returns
        -------
        ndarray of shape (n_rows, n_labels of the block)
            In the type of the rows.
        """
        key = block.start, block.stop
        if key not in self._blocks:
            n_dense = DENSE_BYTES // (self.matrix.dtype.itemsize * self.matrix.shape[0])
            self._blocks[key] = _ByFeature.of(self.matrix[block], self._share, n_dense)
        return self._blocks[key].scores(unit)

    def forget(self) -> None:
        """Give back the memory of the blocks; they are put in order again if asked."""
        self._blocks.clear()

    def scores_of(self, unit: sp.csr_matrix, labels: IntArray) -> FloatArray:
        """Return the products of rows with the vectors of some labels of each.

        Parameters
        ----------
        unit : csr_matrix of shape (n_rows, n_features)
            The rows.
        labels : ndarray of shape (n_rows, k)
            Labels of each row.

        Returns
        -------
        ndarray of shape (n_rows, k)
            float64.
        """
        n_rows, k = labels.shape
        scores = np.empty((n_rows, k))
        longest = int(np.diff(self.matrix.indptr).max())
        size = max(1, CHUNK_VALUES // (unit.shape[1] + k * longest))
        for start in range(0, n_rows, size):
            rows = slice(start, start + size)
            dense, chosen = unit[rows].toarray(), self.matrix[labels[rows].ravel()]
            pair = np.repeat(np.arange(len(dense) * k), np.diff(chosen.indptr))
            products = chosen.data * dense[pair // k, chosen.indices]
            sums = np.bincount(pair, weights=products, minlength=len(dense) * k)
            scores[rows] = sums.reshape(-1, k)
        return scores

    def some(self, labels: IntArray) -> LabelVectors:
        """Return the vectors of labels that are needed for a moment."""
        chosen = LabelVectors(self.matrix[labels], 1.0)
        whole = 0, len(labels)
        chosen._blocks[whole] = _ByFeature.of(chosen.matrix, 1.0, 0)
        return chosen


@dataclass(frozen=True)
class _ByFeature:
    """Vectors of labels, by feature.

    Attributes
    ----------
    place : ndarray of shape (n_features,)
        Row of a feature in the dense part, or -1.
    dense : ndarray of shape (n_dense, n_labels)
        Entries of the features that many labels have.
    rest : csr_matrix of shape (n_features, n_labels)
        Those of the others.
    """

    place: IntArray
    dense: FloatArray
    rest: sp.csr_matrix

    @classmethod
    def of(cls, matrix: sp.csr_matrix, share: float, n_dense: int) -> _ByFeature:
        """Put vectors in order; up to so many frequent features are kept dense."""
        n_labels, n_features = matrix.shape
        rest = sp.csr_matrix(matrix.T)
        counts = np.diff(rest.indptr)
        common = np.flatnonzero(counts > share * n_labels)
        common = common[np.argsort(-counts[common], kind="stable")[:n_dense]]
        common.sort()
        place = np.full(n_features, -1, dtype=np.int32)
        place[common] = np.arange(len(common))
        dense = rest[common].toarray()
        if len(common):
            kept = np.repeat(place < 0, counts)
            ends = np.append(0, np.cumsum(np.where(place < 0, counts, 0)))
            parts = (rest.data[kept], rest.indices[kept], ends)
            rest = sp.csr_matrix(parts, shape=rest.shape)
        return cls(place, dense, rest)

    def scores(self, unit: sp.csr_matrix) -> FloatArray:
        """Return the products with rows, dense."""
        scores: FloatArray = (unit @ self.rest).toarray()
        if len(self.dense):
            places = self.place[unit.indices]
            common = places >= 0
            ends = np.append(0, np.cumsum(common))[unit.indptr]
            parts = (unit.data[common], places[common], ends)
            scores += (
                sp.csr_matrix(parts, (unit.shape[0], len(self.dense))) @ self.dense
            )
        return scores


@dataclass(frozen=True)
class Residual:
    """The sparse part of the logits.

    Attributes
    ----------
    labels : LabelVectors
        A sparse vector for each label.
    own : csr_matrix of shape (n_samples, n_labels)
        What comes out for the labels of the training rows, had the row not been there
        when the vectors were made; the student would else learn to rely on them.
    """

    labels: LabelVectors
    own: sp.csr_matrix

    def offsets(
        self, X: sp.csr_matrix, rows: IntArray, candidates: IntArray | None
    ) -> Offsets:
        """Return the sparse part of the logits of training rows.

        Parameters
        ----------
        X : csr_matrix of shape (n_rows, n_features)
            The inputs of the rows.
        rows : ndarray of shape (n_rows,)
            Their numbers.
        candidates : ndarray of shape (n_candidates,) or None
            Sorted labels; None: all. Labels of the rows may be missing, where soft
            labels alone are learned.

        Returns
        -------
        Offsets
            With a column for each candidate.
        """
        labels, own = self.labels, self.own[rows]
        if candidates is not None:
            labels = labels.some(candidates)
            columns = np.searchsorted(candidates, own.indices)
            last = len(candidates) - 1
            drawn = candidates[np.minimum(columns, last)] == own.indices
            ends = np.append(0, np.cumsum(drawn))[own.indptr]
            parts = own.data[drawn], columns[drawn], ends
            own = sp.csr_matrix(parts, shape=(len(rows), len(candidates)))
        return Offsets(unit_rows(X).astype(np.float32), labels, own)


@dataclass(frozen=True)
class Offsets:
    """The sparse part of the logits of a batch, made dense in parts.

    Attributes
    ----------
    unit : csr_matrix of shape (n_rows, n_features)
        The rows at length 1.
    labels : LabelVectors
        The vectors of the candidates.
    own : csr_matrix of shape (n_rows, n_candidates)
        What is in the place of the products.
    """

    unit: sp.csr_matrix
    labels: LabelVectors
    own: sp.csr_matrix

    def dense(self, rows: slice, block: slice) -> FloatArray:
        """Return the part of some rows and a block of candidates.

        Parameters
        ----------
        rows : slice
            Which rows.
        block : slice
            Which candidates.

        Returns
        -------
        ndarray of shape (n_rows, n_candidates)
            float32.
        """
        offsets = self.labels.scores(self.unit[rows], block)
        own = self.own[rows]
        if block.stop - block.start < own.shape[1]:
            own = own[:, block]
        places = np.repeat(np.arange(own.shape[0]), np.diff(own.indptr)), own.indices
        offsets[places] = own.data
        return offsets


def fit_residual(
    X: sp.csr_matrix, indicator: sp.csr_matrix, n_kept: int, scale: float
) -> Residual:
    """Return centroids of the labels' rows as the sparse part of the logits.

    The vector of label j is ``c_j = sum_i y_ij x_i / |x_i|``, of that the entries of
    the largest magnitude, divided by their length and multiplied with the scale. What
    it gives a row of its own is ``(x c_j - x x') / |c_j - x'|``, x' the row's part of
    ``c_j``.

    Parameters
    ----------
    X : csr_matrix of shape (n_samples, n_features)
        Inputs.
    indicator : csr_matrix of shape (n_samples, n_labels)
        Labels.
    n_kept : int
        Entries kept of each vector.
    scale : float
        Length of the vectors.

    Returns
    -------
    Residual
        The vectors; zero for labels that no row has.
    """
    unit = unit_rows(X)
    sums = largest_sums(unit, sp.csr_matrix(indicator.T), n_kept)
    lengths = _lengths(sums)
    inner, square = _own_products(unit, sums, indicator)
    without = lengths[indicator.indices] ** 2 - 2 * inner + square
    # A label of this one row says nothing of it; rounding leaves less than this.
    alone = without < 1e-6
    own = (inner - square) / np.sqrt(np.where(alone, 1.0, without))
    own[alone] = 0.0
    parts = (scale * own).astype(np.float32), indicator.indices, indicator.indptr
    vectors = unit_rows(sums)
    vectors.data *= np.float32(scale)
    return Residual(LabelVectors(vectors), sp.csr_matrix(parts, shape=indicator.shape))


def largest_sums(
    unit: sp.csr_matrix, by_label: sp.csr_matrix, n_kept: int
) -> sp.csr_matrix:
    """Return the sums of each label's rows, of each the entries farthest from 0.

    Parameters
    ----------
    unit : csr_matrix of shape (n_samples, n_features)
        Rows.
    by_label : csr_matrix of shape (n_labels, n_samples)
        The rows of each label.
    n_kept : int
        Entries kept of each sum.

    Returns
    -------
    csr_matrix of shape (n_labels, n_features)
        float32.
    """
    entries = np.cumsum(by_label @ np.diff(unit.indptr).astype(np.float64))
    chunk = (entries // CHUNK_ENTRIES).astype(np.int64)
    bounds = np.flatnonzero(np.diff(chunk)) + 1
    parts = []
    for start, stop in pairwise([0, *bounds.tolist(), by_label.shape[0]]):
        sums = sp.csr_matrix(by_label[start:stop] @ unit)
        sums.sort_indices()
        # A feature that speaks against a row says as much as one that speaks for it.
        parts.append(keep_largest(sums, n_kept, by_magnitude=True))
    return sp.csr_matrix(sp.vstack(parts, format="csr"), dtype=np.float32)


def _own_products(
    unit: sp.csr_matrix, sums: sp.csr_matrix, indicator: sp.csr_matrix
) -> tuple[FloatArray, FloatArray]:
    """Return for each pair of a row and its label the products that are left out.

    The row with the label's sum, and the row with its own part of that sum.
    """
    rows = np.repeat(np.arange(indicator.shape[0]), np.diff(indicator.indptr))
    inner, square = np.zeros(len(rows)), np.zeros(len(rows))
    kept = sums.copy()
    kept.data = np.ones_like(kept.data)
    squares = unit.multiply(unit).tocsr()
    for start in range(0, len(rows), CHUNK_PAIRS):
        pairs = slice(start, start + CHUNK_PAIRS)
        labels = indicator.indices[pairs]
        inner[pairs] = _row_products(unit[rows[pairs]], sums[labels])
        square[pairs] = _row_products(squares[rows[pairs]], kept[labels])
    return inner, square


def _row_products(first: sp.csr_matrix, second: sp.csr_matrix) -> FloatArray:
    """Return the inner product of each row with the same row of the other."""
    products: FloatArray = np.asarray(first.multiply(second).sum(axis=1)).ravel()
    return products
