"""Refining the sparse part: the pairs, the loss, what it gains."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax

from skdistill._retrieval import refinement, top_k
from skdistill._retrieval.centroids import LabelVectors, fit_residual
from skdistill._retrieval.top_k import Tables

N, D, L, DIM = 30, 14, 25, 3


@pytest.fixture
def problem():
    """Tables, rows, and the sparse part of their labels without the row."""
    rng = np.random.default_rng(0)
    X = sp.random(N, D, 0.4, "csr", dtype=np.float32, random_state=1)
    Y = sp.csr_matrix((rng.random((N, L)) < 0.1).astype(np.float32))
    Y = Y + sp.csr_matrix((np.ones(N), (np.arange(N), rng.integers(L, size=N))))
    Y = sp.csr_matrix((Y != 0).astype(np.float32), shape=(N, L))
    Y.sort_indices()
    residual = fit_residual(X, Y, 6, 4.0)

    def table(*shape):
        return rng.normal(size=shape).astype(np.float32)

    vectors = LabelVectors(residual.labels.matrix)
    tables = Tables(table(D, DIM), table(L, DIM), table(L), vectors)
    return tables, X, residual.own


def has_label(own):
    """Return which labels each row has; the entry of one without other rows is 0."""
    dense = np.zeros(own.shape, dtype=bool)
    dense[np.repeat(np.arange(own.shape[0]), np.diff(own.indptr)), own.indices] = True
    return dense


def dense_logits(tables, X, own):
    """Return all logits, with a row's own labels as if it had not been there."""
    logits = X @ tables.features @ tables.labels.T + tables.bias
    unit = X.toarray() / np.linalg.norm(X.toarray(), axis=1, keepdims=True)
    sparse = unit @ tables.residual.matrix.toarray().T
    places = np.repeat(np.arange(N), np.diff(own.indptr)), own.indices
    sparse[places] = own.data
    return logits + sparse


def test_pairs_are_the_labels_and_the_hardest_others(problem, monkeypatch):
    tables, X, own = problem
    monkeypatch.setattr(refinement, "N_HARD", 4)
    monkeypatch.setattr(top_k, "BLOCK_ROWS", 7)
    monkeypatch.setattr(top_k, "BLOCK_LABELS", 9)
    (pairs,) = refinement.make_pairs(tables, X, own)
    logits = dense_logits(tables, X, own)
    found = pairs.offset + pairs.products @ tables.residual.matrix.data
    ends = np.append(pairs.starts, len(found))
    for i, row in enumerate(has_label(own)):
        others = np.sort(logits[i][~row])[-4:]
        expected = np.sort(np.append(others, logits[i][row]))
        pair = slice(ends[i], ends[i + 1])
        assert_allclose(np.sort(found[pair]), expected, rtol=1e-4, atol=1e-4)
        assert_allclose(pairs.target[pair].sum(), 1.0, rtol=1e-6)
        assert (pairs.target[pair] > 0).sum() == row.sum()


def test_with_few_labels_all_others_are_compared(problem):
    tables, X, own = problem
    few = 8
    short = Tables(
        tables.features,
        tables.labels[:few],
        tables.bias[:few],
        LabelVectors(tables.residual.matrix[:few]),
    )
    (pairs,) = refinement.make_pairs(short, X, own[:, :few])
    assert len(pairs.target) == N * few


def test_loss_and_slope_are_those_of_the_formula(problem):
    tables, X, own = problem
    blocks = refinement.make_pairs(tables, X, own)
    (pairs,) = blocks
    values = tables.residual.matrix.data.astype(float)
    loss, slope = refinement.pair_loss(blocks, values)
    logits = pairs.offset + pairs.products @ values
    expected = 0.0
    ends = np.append(pairs.starts, len(logits))
    for start, stop in pairwise(ends):
        target, row = pairs.target[start:stop], logits[start:stop]
        for weight, logit in zip(target[target > 0], row[target > 0], strict=True):
            beside = np.append(row[target == 0], logit)
            expected -= weight * log_softmax(beside)[-1]
    assert_allclose(loss, expected, rtol=1e-5)
    direction = np.random.default_rng(0).normal(size=len(values))
    ahead, behind = (
        refinement.pair_loss(blocks, values + step * direction)[0]
        for step in (1e-3, -1e-3)
    )
    assert_allclose(slope @ direction, (ahead - behind) / 2e-3, rtol=1e-3)


def test_refining_lowers_the_loss_and_keeps_the_pattern(problem):
    tables, X, own = problem
    before = tables.residual.matrix
    after = refinement.refine(tables, X, own, np.random.default_rng(0)).matrix
    assert_array_equal(after.indices, before.indices)
    assert_array_equal(after.indptr, before.indptr)
    pairs = refinement.make_pairs(tables, X, own)
    losses = [refinement.pair_loss(pairs, m.data)[0] for m in (before, after)]
    n_rows = np.sqrt(has_label(own).sum(axis=0))
    moved = np.asarray((after - before).power(2).sum(axis=1)).ravel()
    penalty = 0.5 * refinement.DECAY * n_rows @ moved
    assert losses[1] + penalty < 0.95 * losses[0]


def test_of_many_rows_some_are_drawn(problem, monkeypatch):
    tables, X, own = problem
    monkeypatch.setattr(refinement, "MAX_PAIRS", 60)
    seen = []
    make = refinement.make_pairs

    def noted(*args):
        seen.append(args[1].shape[0])
        return make(*args)

    monkeypatch.setattr(refinement, "make_pairs", noted)
    refinement.refine(tables, X, own, np.random.default_rng(0))
    assert 0 < seen[0] <= 10


def test_rows_without_labels_do_not_count(problem):
    tables, X, own = problem
    rng = np.random.default_rng(0)
    expected = refinement.refine(tables, X[5:], own[5:], rng)
    kept = slice(own.indptr[5], None)
    ends = np.append(np.zeros(5, int), own.indptr[5:] - own.indptr[5])
    emptied = sp.csr_matrix((own.data[kept], own.indices[kept], ends), shape=own.shape)
    found = refinement.refine(tables, X, emptied, rng)
    assert_allclose(found.matrix.data, expected.matrix.data, rtol=1e-5)
    nothing = sp.csr_matrix(own.shape, dtype=np.float32)
    assert refinement.refine(tables, X, nothing, rng) is tables.residual


def test_the_loss_is_the_same_in_blocks_of_rows(problem, monkeypatch):
    tables, X, own = problem
    values = tables.residual.matrix.data
    whole = refinement.pair_loss(refinement.make_pairs(tables, X, own), values)
    monkeypatch.setattr(refinement, "BLOCK_ROWS", 7)
    blocks = refinement.make_pairs(tables, X, own)
    assert [len(block.starts) for block in blocks] == [7, 7, 7, 7, 2]
    in_blocks = refinement.pair_loss(blocks, values)
    assert_allclose(in_blocks[0], whole[0], rtol=1e-6)
    assert_allclose(in_blocks[1], whole[1], rtol=1e-4, atol=1e-6)
