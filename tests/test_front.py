"""Periodic embeddings and input factors: gradients, stacks, prediction."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skdistill import _front
from skdistill._batch import CrossEntropyBatch
from skdistill._front import SCALE_STEP, Front, draw_waves, periodic_embedding
from skdistill._stack import MLPStack
from skdistill.students import MLPStudent

N_IN, N_ROWS, N_CLASSES, WIDTH = 4, 7, 3, 5
COLUMNS = np.array([0, 2])


def make_stack(n_members=3, hidden=(WIDTH,), seeds=None, dtype=torch.float64):
    waves = draw_waves(len(COLUMNS), np.random.RandomState(0))
    front = Front(N_IN, COLUMNS, *waves)
    seeds = range(n_members) if seeds is None else seeds
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    stack = MLPStack(
        (N_IN, *hidden, N_CLASSES),
        "tanh",
        generators,
        device="cpu",
        dtype=dtype,
        front=front,
    )
    # Factors other than 1, as they are after some steps.
    start = stack._n_front - front.n_out
    with torch.no_grad():
        noise = torch.Generator().manual_seed(9)
        stack._flat[:, start : stack._n_front] = torch.randn(
            front.n_out, generator=noise, dtype=torch.float64
        ).to(dtype)
    return stack


def make_batch(n_members, shared, n_rows=N_ROWS):
    rng = np.random.default_rng(0)
    n = 1 if shared else n_members
    targets = rng.dirichlet(np.ones(N_CLASSES), size=(n, n_rows))
    x = torch.from_numpy(rng.normal(size=(n, n_rows, N_IN)))
    factors = -rng.uniform(0, 2, size=(n, n_rows, 1)) * targets
    return CrossEntropyBatch(x, [(torch.from_numpy(factors), 1.0)])


def logits_of(stack, flat, x):
    """The network by its formulas, a member and a column at a time."""
    front, logits = stack.front, []
    _, n_frequencies, n_outputs = front.shape
    for g, parameters in enumerate(flat):
        rows = x[g if len(x) > 1 else 0]
        parts, start = [rows], 0
        for j, column in enumerate(COLUMNS):
            size = n_frequencies * n_outputs
            coefs = parameters[start : start + size].view(n_frequencies, n_outputs)
            start += size
            frequencies = torch.from_numpy(front.frequencies[j])
            phases = torch.from_numpy(front.phases[j])
            parts.append(torch.cos(rows[:, [column]] * frequencies + phases) @ coefs)
        inputs = torch.cat(parts, dim=1)
        factors = 1 + SCALE_STEP * parameters[start : start + inputs.shape[1]]
        start += inputs.shape[1]
        hidden = inputs * factors
        sizes = list(pairwise(stack.layer_sizes))
        for i, (n_in, n_out) in enumerate(sizes):
            weight = parameters[start : start + n_in * n_out]
            # The last layer lies class by class.
            last = i == len(sizes) - 1
            weight = weight.view(n_out, n_in).T if last else weight.view(n_in, n_out)
            start += n_in * n_out
            hidden = hidden @ weight + parameters[start : start + n_out]
            start += n_out
            hidden = hidden if last else torch.tanh(hidden)
        assert start == len(parameters)
        logits.append(hidden)
    return torch.stack(logits)


@pytest.mark.parametrize("hidden", [(), (WIDTH,), (WIDTH, 4)])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("columns", [[0, 2], [2], [3, 1], range(N_IN)])
@pytest.mark.parametrize("small", [0, 2**17])
def test_the_gradient_is_that_of_autograd(hidden, shared, columns, small, monkeypatch):
    monkeypatch.setitem(globals(), "COLUMNS", np.array(columns))
    monkeypatch.setattr(_front, "SMALL_PRODUCT", small)
    stack = make_stack(hidden=hidden)
    batch = make_batch(3, shared)
    loss = stack.gradient(batch, None)
    flat = stack.parameters()[0].clone().requires_grad_()
    log_proba = torch.log_softmax(logits_of(stack, flat, batch.x), dim=-1)
    expected = (batch.terms[0][0] * log_proba).sum((1, 2))
    expected.sum().backward()
    assert_allclose(loss, expected.detach(), atol=1e-12)
    assert_allclose(stack.parameters()[0].grad, flat.grad, rtol=0, atol=1e-12)


def test_shards_add_up_to_the_gradient(monkeypatch):
    batch = make_batch(3, True, 40)
    whole = make_stack()
    whole.gradient(batch, None)
    monkeypatch.setattr("skdistill._stack.SHARD_FLOPS", 0.0)
    sharded = make_stack()
    assert sharded.n_shards(40) == 2
    sharded.gradient(batch, None)
    assert_allclose(
        sharded.parameters()[0].grad, whole.parameters()[0].grad, atol=1e-12
    )


def test_a_member_of_a_stack_is_the_stack_of_that_member():
    stack = make_stack()
    batch = make_batch(3, True)
    stack.gradient(batch, None)
    for member in range(3):
        alone = make_stack(seeds=[member])
        alone.gradient(batch, None)
        ours = stack.parameters()[0].grad[member]
        assert_allclose(ours, alone.parameters()[0].grad[0], atol=1e-12)
        for a, b in zip(stack.kept(member)[0], alone.kept(0)[0], strict=True):
            assert_allclose(a, b, atol=1e-15)


def test_a_few_rows_at_a_time_give_the_same_logits(monkeypatch):
    stack = make_stack()
    x = make_batch(3, False, 23).x
    whole = stack.logits(x)
    monkeypatch.setattr(_front, "MAX_COSINES", 100)
    assert stack.front.max_rows(3) == 2
    assert_allclose(stack.logits(x), whole, atol=1e-12)


def test_numpy_predicts_what_torch_trained():
    stack = make_stack(1)
    x = make_batch(1, True).x
    (embedding, *coefs), intercepts = stack.current(0)
    rows, front = x[0].numpy(), stack.front
    embedded = periodic_embedding(
        rows[:, COLUMNS], front.frequencies, front.phases, embedding
    )
    hidden = np.hstack([rows, embedded])
    hidden = np.tanh(hidden @ coefs[0] + intercepts[0])
    logits = hidden @ coefs[1] + intercepts[1]
    assert_allclose(logits, stack.logits(x)[0], atol=1e-12)


@pytest.mark.parametrize("max_cosines", [1, 100, 2**20])
def test_the_embedding_is_the_formula(max_cosines, monkeypatch):
    monkeypatch.setattr(_front, "MAX_COSINES", max_cosines)
    rng = np.random.default_rng(0)
    frequencies, phases = draw_waves(3, np.random.RandomState(0))
    coefs = rng.normal(size=(*frequencies.shape, 2))
    values = rng.normal(size=(5, 3))
    expected = np.zeros((5, 6))
    for i in range(5):
        for j in range(3):
            for f in range(frequencies.shape[1]):
                wave = np.cos(frequencies[j, f] * values[i, j] + phases[j, f])
                expected[i, 2 * j : 2 * j + 2] += wave * coefs[j, f]
    found = periodic_embedding(values, frequencies, phases, coefs)
    assert_allclose(found, expected, atol=1e-12)


def test_waves_are_the_same_numbers_in_float32():
    frequencies, phases = draw_waves(200, np.random.RandomState(0))
    for values in (frequencies, phases):
        assert values.dtype == np.float64
        assert (values.astype(np.float32) == values).all()
    scale = 2 * np.pi * _front.FREQUENCY_SCALE
    assert_allclose(frequencies.std(), scale, rtol=0.1)
    assert np.abs(phases).max() <= np.pi + 1e-6
    assert_allclose(np.abs(phases).mean(), np.pi / 2, rtol=0.1)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_without_hidden_layers_the_embedding_bends_the_model(dtype):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(2000, 1))
    y = (np.abs(X[:, 0]) > 0.5).astype(int)
    options = {"max_iter": 60, "dtype": dtype, "random_state": 0}
    linear = MLPStudent((), numeric_embedding=None, **options).fit(X, y)
    periodic = MLPStudent((), **options).fit(X, y)
    assert linear.score(X, y) < 0.6
    assert periodic.score(X, y) > 0.95


def test_two_values_have_no_wave():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    X[:, 1] = X[:, 1] > 0
    X[:, 2] = 3.0
    student = MLPStudent((4,), max_iter=2, random_state=0).fit(X, X[:, 0] > 0)
    assert student.frequencies_.shape[0] == 2
    assert student.coefs_[0].shape[0] == 4 + 2 * 3
    binary = MLPStudent((4,), max_iter=2, random_state=0).fit(X > 0, X[:, 0] > 0)
    assert binary.embedding_coefs_ is None
    assert binary.coefs_[0].shape[0] == 4


def test_cosines_in_float32_are_nearly_those_in_float64():
    rng = np.random.default_rng(0)
    waves = draw_waves(3, np.random.RandomState(0))
    coefs = rng.uniform(-0.5, 0.5, size=(3, waves[0].shape[1], 2))
    values = rng.uniform(-5, 5, size=(50, 3))
    exact = periodic_embedding(values, *waves, coefs)
    found = periodic_embedding(values, *waves, coefs, np.float32)
    assert found.dtype == np.float64
    assert 0 < np.abs(found - exact).max() < 1e-6
    # A row has the same embedding whatever stands beside it.
    rows = [periodic_embedding(v[None], *waves, coefs, np.float32) for v in values]
    alone = np.vstack(rows)
    assert_allclose(found, alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cosines_of_a_batch_are_those_of_torch(dtype):
    stack = make_stack(1, dtype=dtype)
    x = torch.linspace(-5, 5, 40).reshape(1, 10, N_IN).to(dtype)
    _, cosines = stack.front.forward(stack._flat[:, : stack._n_front], x)
    columns = x[0].T[COLUMNS][:, None].double()
    frequencies, phases = (
        torch.from_numpy(waves)[:, :, None]
        for waves in (stack.front.frequencies, stack.front.phases)
    )
    expected = torch.cos(columns * frequencies + phases)
    atol = 1e-6 if dtype == torch.float32 else 1e-12
    assert_allclose(cosines[0], expected, rtol=0, atol=atol)
