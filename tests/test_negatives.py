"""Proposals: the importance-corrected sum over candidates is unbiased."""

from itertools import combinations, product

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skdistill._retrieval.negatives import PROPOSALS, DrawnNegatives, make_proposal
from skdistill._retrieval_objectives import (
    DecoupledObjective,
    SoftmaxObjective,
    loss_and_slope,
)

COUNTS = np.array([5, 3, 0, 1])
NOTHING = np.array([], dtype=int)
DRAWN = ["uniform", "frequency", "mixed"]


class Replay:
    """A generator that gives the numbers it was handed."""

    def __init__(self, numbers):
        self.numbers = np.asarray(numbers)

    def integers(self, n, size):
        assert size == len(self.numbers)
        return self.numbers

    def random(self, size):
        assert size == len(self.numbers)
        return self.numbers


def make(kind, n_negatives=3, counts=COUNTS, n_rows=6, batch_size=2):
    return make_proposal(
        kind, counts, n_rows=n_rows, batch_size=batch_size, n_negatives=n_negatives
    )


def every_draw(kind, n_negatives):
    """Yield each sequence of draws as a generator, with its probability."""
    if kind == "uniform":
        q, numbers = np.full(4, 0.25), np.arange(4)
    else:
        q = (COUNTS + 1.0) ** 0.75
        q /= q.sum()
        q = q if kind == "frequency" else 0.5 * q + 0.125
        numbers = np.cumsum(q) - q / 2
    for sequence in product(range(4), repeat=n_negatives):
        yield Replay(numbers[list(sequence)]), q[list(sequence)].prod()


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("n_negatives", [1, 3])
def test_sums_over_candidates_are_unbiased_over_all_draws(kind, n_negatives):
    values = np.array([0.7, 2.0, 11.0, 0.1])
    own = np.array([1, 1])
    proposal = make(kind, n_negatives)
    mean = 0.0
    for rng, probability in every_draw(kind, n_negatives):
        candidates, log_inclusion = proposal.draw(own, rng)
        assert 1 in candidates
        mean += probability * (values[candidates] / np.exp(log_inclusion)).sum()
    assert_allclose(mean, values.sum(), rtol=1e-12)


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("margin", ["logistic", "hinge", "squared"])
def test_decoupled_loss_and_slope_are_unbiased_over_all_draws(kind, margin):
    logits, targets = np.array([[0.3, -1.0, 2.0, 0.5]]), np.array([[0.0, 0.8, 0, 0]])
    objective = DecoupledObjective(margin)
    proposal = make(kind)
    mean_loss, mean_slope = 0.0, np.zeros(4)
    for rng, probability in every_draw(kind, 3):
        candidates, log_inclusion = proposal.draw(np.array([1]), rng)
        log_weight = np.log1p(-targets[:, candidates]) - log_inclusion
        loss, slope = loss_and_slope(
            objective, logits[:, candidates], targets[:, candidates], log_weight
        )
        mean_loss += probability * loss[0]
        mean_slope[candidates] += probability * slope[0]
    loss, slope = loss_and_slope(objective, logits, targets)
    assert_allclose(mean_loss, loss[0], rtol=1e-12)
    assert_allclose(mean_slope, slope[0], rtol=1e-12, atol=1e-14)


def test_in_batch_sums_are_unbiased_over_all_batches():
    # Row 0 has label 0; each of the other rows has some of the labels 1, 2 and 3.
    rows = [[0], [1], [1, 2], [3], [1, 3], [2]]
    counts = np.bincount(np.concatenate(rows), minlength=4)
    values = np.array([0.7, 2.0, 11.0, 0.1])
    for batch_size in (2, 3, 5, 6):
        proposal = make("in-batch", 0, counts, len(rows), batch_size)
        sums = []
        for others in combinations(range(1, 6), batch_size - 1):
            own = np.concatenate([rows[i] for i in (0, *others)])
            candidates, log_inclusion = proposal.draw(own, np.random.default_rng(0))
            weight = np.where(candidates == 0, 1.0, np.exp(-log_inclusion))
            sums.append((weight * values[candidates]).sum())
        assert_allclose(np.mean(sums), values.sum(), rtol=1e-12)


@pytest.mark.parametrize("kind", DRAWN)
def test_sampled_softmax_approaches_the_softmax(kind):
    # The sum is unbiased, its logarithm and the slope are so in the limit: the bias, as
    # far as it exceeds its standard error, falls with the number of draws.
    rng = np.random.default_rng(0)
    n_labels = 300
    logits = rng.normal(size=(1, n_labels))
    targets = np.zeros((1, n_labels))
    targets[0, 7] = 1.0
    counts = rng.geometric(0.1, n_labels)
    exact, exact_slope = loss_and_slope(SoftmaxObjective(), logits, targets)
    errors = {}
    for n_negatives in (10, 100):
        proposal = make(kind, n_negatives, counts, 1000, 1)
        losses, slopes = [], []
        for _ in range(400):
            candidates, log_inclusion = proposal.draw(np.array([7]), rng)
            part = logits[:, candidates], targets[:, candidates]
            loss, slope = loss_and_slope(
                SoftmaxObjective(), *part, -log_inclusion[None]
            )
            losses.append(loss[0])
            slopes.append(slope[0, np.searchsorted(candidates, 7)])
        error = np.std(losses) / np.sqrt(len(losses))
        errors[n_negatives] = abs(np.mean(losses) - exact[0])
        assert errors[n_negatives] < 2.0 / n_negatives + 4 * error
        assert_allclose(np.mean(slopes), exact_slope[0, 7], atol=0.2 / n_negatives)
    assert errors[100] < errors[10]


@pytest.mark.parametrize("kind", PROPOSALS)
def test_candidates_are_sorted_hold_the_own_labels_and_no_more_than_drawn(kind):
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, 1000)
    own = np.array([900, 3, 3, 500])
    candidates, log_inclusion = make(kind, 50, counts, 4000, 4).draw(own, rng)
    assert_array_equal(candidates, np.unique(candidates))
    assert set(own) <= set(candidates)
    assert len(candidates) <= 3 + (0 if kind == "in-batch" else 50)
    assert candidates.min() >= 0
    assert candidates.max() < 1000
    assert (log_inclusion <= 0).all()
    assert np.isfinite(log_inclusion).all() or kind == "in-batch"


def test_frequent_labels_are_drawn_more_often_and_all_can_be():
    rng = np.random.default_rng(0)
    counts = np.array([0, 10, 100, 1000])
    seen = {
        kind: np.bincount(
            np.concatenate(
                [make(kind, 2, counts).draw(NOTHING, rng)[0] for _ in range(4000)]
            ).astype(int),
            minlength=4,
        )
        for kind in DRAWN
    }
    assert seen["uniform"].min() > 0.9 * seen["uniform"].max()
    assert (np.diff(seen["frequency"]) > 0).all()
    assert seen["frequency"][0] > 0
    assert seen["frequency"][0] < seen["mixed"][0] < seen["uniform"][0]


@pytest.mark.parametrize("weight", [None, np.eye(10)[4]])
def test_no_draws_leaves_the_labels_of_the_batch(weight):
    proposal = DrawnNegatives(10, 0, weight)
    candidates, log_inclusion = proposal.draw(
        np.array([4, 2]), np.random.default_rng(0)
    )
    assert_array_equal(candidates, [2, 4])
    assert_array_equal(log_inclusion, 0.0)


@pytest.mark.parametrize("n_rows", [1, 6])
def test_a_batch_of_one_row_has_its_own_labels_of_weight_one(n_rows):
    proposal = make("in-batch", n_rows=n_rows, batch_size=1)
    candidates, log_inclusion = proposal.draw(
        np.array([3, 0]), np.random.default_rng(0)
    )
    assert_array_equal(candidates, [0, 3])
    assert_array_equal(log_inclusion, 0.0)


@pytest.mark.parametrize("array", [np.zeros, torch.zeros])
def test_a_row_that_has_met_no_label_has_no_loss(array):
    empty = array((2, 0))
    objective = SoftmaxObjective()
    losses = objective.finish(objective.start(2, empty))
    assert losses.dtype == empty.dtype
    assert_array_equal(losses, 0.0)
    losses, slope = loss_and_slope(objective, array((2, 3)), array((2, 3)))
    assert_array_equal(losses, 0.0)
    assert_array_equal(slope, 0.0)


def test_unknown_proposals_are_named():
    with pytest.raises(ValueError, match="proposal='odd' must be one of"):
        make("odd")
    with pytest.raises(ValueError, match="n_negatives=-1"):
        make("uniform", -1)
