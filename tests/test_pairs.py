import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skdistill import _pairs
from skdistill._bipartite import PairRisk
from skdistill._pairs import AllPairsBatch, PairBatch, RankingSet, systematic_sample

SURROGATES = ["logistic", "squared", "exponential"]
EMPHASES = [{}, {"push": 2.5}, {"top_share": 0.1}]


def make_set(n_rows=60, risk=None, validation=0, seed=0):
    rng = np.random.default_rng(seed)
    positive, negative = torch.from_numpy(rng.uniform(size=(2, n_rows)))
    positive[:5], negative[5:10] = 0.0, 0.0
    rows = torch.arange(n_rows)[None]
    return RankingSet(
        # The input of a row is its number, so that batches can be read.
        torch.arange(n_rows, dtype=torch.float64).view(1, -1, 1),
        positive,
        negative,
        PairRisk() if risk is None else risk,
        rows[:, validation:],
        rows[:, :validation] if validation else None,
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("emphasis", EMPHASES, ids=str)
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("kind", ["all", "drawn"])
def test_the_slope_of_a_batch_is_that_of_its_loss(kind, surrogate, emphasis):
    rng = np.random.default_rng(0)
    x = torch.zeros(1, 12, 1, dtype=torch.float64)
    risk = PairRisk(surrogate, **emphasis)
    batch = PairBatch(x, risk)
    if kind == "all":
        positive, negative = torch.from_numpy(rng.uniform(size=(2, 12)))
        batch = AllPairsBatch(x, positive, negative, risk)
    logits = torch.from_numpy(rng.normal(size=(1, 12, 2)))
    _, slope = batch.loss_and_slope(logits)
    for row, column in [(0, 0), (3, 1), (6, 0), (11, 1)]:
        ends = []
        for step in (-1e-6, 1e-6):
            moved = logits.clone()
            moved[0, row, column] += step
            ends.append(float(batch.loss_and_slope(moved)[0]))
        assert_allclose(
            float(slope[0, row, column]), (ends[1] - ends[0]) / 2e-6, atol=1e-7
        )


@pytest.mark.parametrize("emphasis", EMPHASES, ids=str)
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_drawn_rows_are_the_pairs_across(surrogate, emphasis):
    # Their risk is that of as many rows that are surely positive or surely negative.
    rng = np.random.default_rng(0)
    risk = PairRisk(surrogate, **emphasis)
    x = torch.zeros(1, 20, 1, dtype=torch.float64)
    is_positive = torch.arange(20) < 10
    expected = AllPairsBatch(x, is_positive.double(), (~is_positive).double(), risk)
    logits = torch.from_numpy(rng.normal(size=(1, 20, 2)))
    for got, want in zip(
        PairBatch(x, risk).loss_and_slope(logits),
        expected.loss_and_slope(logits),
        strict=True,
    ):
        assert_allclose(got, want, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("emphasis", EMPHASES, ids=str)
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_in_large_batches_only_sums_are_taken(surrogate, emphasis, monkeypatch):
    risk = PairRisk(surrogate, **emphasis)
    batch = PairBatch(torch.zeros(1, 300, 1, dtype=torch.float64), risk)
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 300, 2)))
    direct = batch.loss_and_slope(logits)
    monkeypatch.setattr(_pairs, "DIRECT_PAIRS", 150**2 - 1)
    monkeypatch.setattr(_pairs, "_margin_losses", None)
    for got, want in zip(batch.loss_and_slope(logits), direct, strict=True):
        assert_allclose(got, want, rtol=1e-8, atol=1e-12)


def test_rows_that_fit_into_one_batch_are_all_compared():
    data = make_set()
    ((batch, share),) = data.epoch(60, [generator()])
    assert isinstance(batch, AllPairsBatch)
    assert share == 1.0
    assert_array_equal(batch.x, data.x)


@pytest.mark.parametrize("batch_size", [1, 7, 16, 59])
def test_an_epoch_is_about_as_many_rows_as_there_are(batch_size):
    data = make_set()
    batches = list(data.epoch(batch_size, [generator()]))
    assert_allclose(sum(share for _, share in batches), 1.0)
    sizes = {batch.x.shape[1] for batch, _ in batches}
    assert len(sizes) == 1
    # Positives and negatives come in equal numbers.
    assert sizes.pop() <= max(2, batch_size + 1)
    n_drawn = sum(batch.x.shape[1] for batch, _ in batches)
    assert 60 <= n_drawn <= 60 + 2 * len(batches)


def test_the_mean_over_batches_is_the_risk_of_all_pairs():
    # Unbiased: with scores held fixed, batches of many epochs average to the risk.
    data = make_set(validation=10)
    scores = np.random.default_rng(1).normal(size=60)
    logits = torch.from_numpy(np.column_stack([np.zeros(60), scores]))[None]
    rows = data.train_rows[0]
    expected, _ = data.risk.value_and_slope(
        scores[rows], data.positive[rows].numpy(), data.negative[rows].numpy()
    )
    g = generator()
    losses, slopes = [], []
    for _ in range(400):
        for batch, _ in data.epoch(8, [g]):
            drawn = batch.x[0, :, 0].long()
            assert (drawn >= 10).all()
            loss, slope = batch.loss_and_slope(logits[:, drawn])
            losses.append(float(loss))
            slopes.append(np.bincount(drawn, slope[0, :, 1], minlength=60))
    error = np.std(losses) / np.sqrt(len(losses))
    assert abs(np.mean(losses) - expected) < 4 * error
    _, whole = data.risk.value_and_slope(
        scores[rows], data.positive[rows].numpy(), data.negative[rows].numpy()
    )
    errors = np.std(slopes, axis=0)[10:] / np.sqrt(len(slopes))
    deviation = np.abs(np.mean(slopes, axis=0)[10:] - whole) / errors
    assert np.nanmax(deviation) < 4.5
    assert np.sqrt(np.mean(deviation**2)) < 1.3


def test_systematic_samples_are_in_proportion_to_within_one():
    mass = torch.tensor([0.0, 1.0, 3.0, 0.0, 0.25, 2.5, 0.0], dtype=torch.float64)
    counts = np.zeros((300, 7))
    g = generator()
    for i in range(300):
        drawn = systematic_sample(mass, 27, g)
        assert len(drawn) == 27
        counts[i] = np.bincount(drawn, minlength=7)
    expected = 27 * mass.numpy() / mass.sum().item()
    assert (np.abs(counts - expected) < 1).all()
    # The rest is left to chance, and right on average.
    spread = counts.std(axis=0) / np.sqrt(300)
    assert (np.abs(counts.mean(axis=0) - expected) <= 4 * spread + 1e-12).all()


def test_systematic_samples_come_in_random_order():
    mass = torch.ones(1000, dtype=torch.float64)
    g = generator()
    first, second = (systematic_sample(mass, 1000, g) for _ in range(2))
    assert_array_equal(np.sort(first), np.arange(1000))
    assert not torch.equal(first, second)
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.15


def test_without_mass_there_is_nothing_to_draw():
    with pytest.raises(ValueError, match="No pair of rows has a positive weight"):
        systematic_sample(torch.zeros(3, dtype=torch.float64), 2, generator())
