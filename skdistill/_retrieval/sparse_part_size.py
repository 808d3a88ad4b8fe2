"""How large the sparse part of a retrieval student will be, from some of the data."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from skdistill._retrieval.centroids import largest_sums, unit_rows
from skdistill._retrieval.memory import SparsePart
from skdistill._retrieval.refinement import MAX_PAIRS, N_HARD
from skdistill._sparse_rows import keep_largest
from skdistill._typing import IntArray

#: Labels whose vectors are made, and rows whose pairs are, to see how large they are.
N_LABELS, N_ROWS = 500, 50


def sparse_part_size(
    X: sp.csr_matrix, indicator: sp.csr_matrix, n_kept: int
) -> SparsePart:
    """Return how large the sparse part and the pairs that refine it are.

    The entries of the vectors are counted for some labels, and the features of pairs
    for some rows and the labels whose centroids are near.

    Parameters
    ----------
    X : csr_matrix of shape (n_samples, n_features)
        Inputs.
    indicator : csr_matrix of shape (n_samples, n_labels)
        Labels.
    n_kept : int
        Entries kept of each vector.

    Returns
    -------
    SparsePart
        The sizes; those of vectors and pairs are estimates.
    """
    rng = np.random.default_rng(0)
    by_label = sp.csr_matrix(indicator.T)
    n_words = np.minimum(by_label @ np.diff(X.indptr), min(n_kept, X.shape[1]))
    labels = np.flatnonzero(n_words)
    if len(labels) > N_LABELS:
        labels = rng.choice(labels, N_LABELS, replace=False)
    unit = unit_rows(X)
    counted = largest_sums(unit, by_label[labels], n_kept).nnz
    share = counted / max(1, n_words[labels].sum())
    rows = np.flatnonzero(np.diff(indicator.indptr))
    per_row = N_HARD + indicator.nnz / max(1, len(rows))
    per_row = min(per_row, indicator.shape[1])
    n_rows = min(len(rows), int(MAX_PAIRS / per_row))
    n_pairs = int(n_rows * per_row)
    if len(rows) > N_ROWS:
        rows = rng.choice(rows, N_ROWS, replace=False)
    common = _common_features(unit, by_label, rows, n_kept, max(1, round(per_row)))
    return SparsePart(
        n_entries=int(share * n_words.sum()),
        n_own=indicator.nnz,
        n_rows=n_rows,
        n_pairs=n_pairs,
        pair_entries=int(n_pairs * common),
    )


def _common_features(
    unit: sp.csr_matrix,
    by_label: sp.csr_matrix,
    rows: IntArray,
    n_kept: int,
    n_near: int,
) -> float:
    """Return how many features rows have in common with so many labels near them."""
    near = sp.csr_matrix((unit[rows] @ unit.T) @ by_label.T)
    # As if the rows of a label were at right angles.
    near.data /= np.sqrt(np.diff(by_label.indptr))[near.indices]
    near.sort_indices()
    near = keep_largest(near, n_near)
    labels, columns = np.unique(near.indices, return_inverse=True)
    vectors = largest_sums(unit, by_label[labels], n_kept)
    ones = [
        sp.csr_matrix((np.ones(m.nnz), m.indices, m.indptr), shape=m.shape)
        for m in (unit[rows], vectors)
    ]
    common = (ones[0] @ ones[1].T).toarray()
    of_row = np.repeat(np.arange(len(rows)), np.diff(near.indptr))
    return float(common[of_row, columns].sum()) / max(1, len(rows) * n_near)
