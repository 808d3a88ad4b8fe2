from itertools import pairwise, product

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skdistill import _batch, _hidden_units, _stack
from skdistill._batch import (
    CrossEntropyBatch,
    classes_first,
    cross_entropy_and_slope,
)
from skdistill._hidden_units import ACTIVATIONS
from skdistill._stack import MLPStack, ModuleStack

N_MEMBERS, N_ROWS, N_FEATURES, N_CLASSES = 3, 10, 4, 3
HIDDEN = [(), (5,), (5, 4)]
TORCH_ACTIVATIONS = {
    "identity": lambda z: z,
    "logistic": torch.sigmoid,
    "relu": torch.relu,
    "tanh": torch.tanh,
}


def make_stack(hidden=(5,), activation="tanh", n_members=N_MEMBERS, **options):
    options = {"device": "cpu", "dtype": torch.float64} | options
    generators = [torch.Generator().manual_seed(g) for g in range(n_members)]
    return MLPStack((N_FEATURES, *hidden, N_CLASSES), activation, generators, **options)


def make_batch(n_members=N_MEMBERS, shared=False, weighted=True, n_rows=N_ROWS):
    """Two terms, one at temperature 1 and one at a temperature for each member."""
    rng = np.random.default_rng(0)
    n = 1 if shared else n_members
    targets = rng.dirichlet(np.ones(N_CLASSES), size=(2, n, n_rows))
    # The sum of a row's targets is its weight in the term: not all the same.
    targets *= rng.uniform(0, 2, (2, n, n_rows, 1))
    temperatures = rng.uniform(0.5, 3, (n_members, 1, 1))
    weight = rng.uniform(0, 2, (n, n_rows)) if weighted else np.full((1, 1), 0.1)
    factors = torch.from_numpy(-weight[..., None] * targets)
    return CrossEntropyBatch(
        torch.from_numpy(rng.normal(size=(n, n_rows, N_FEATURES))),
        [(factors[0], 1.0), (factors[1], torch.from_numpy(temperatures))],
    )


def logits_of(stack, flat, x):
    """The network in torch's own operations, of parameters (G, n_parameters)."""
    layers = stack._views(flat)
    hidden = x.expand(len(flat), -1, -1)
    for weight, bias in layers[:-1]:
        hidden = TORCH_ACTIVATIONS[stack.activation](hidden @ weight + bias)
    weight, bias = layers[-1]
    return hidden @ weight + bias


def objective(batch, logits):
    total = 0.0
    for factors, temperature in batch.terms:
        log_proba = torch.log_softmax(logits / temperature, dim=-1)
        total = total + (factors * log_proba).sum()
    return total


def autograd_gradient(stack, batch):
    flat = stack.parameters()[0].clone().requires_grad_()
    objective(batch, logits_of(stack, flat, batch.x)).backward()
    return flat.grad


@pytest.fixture(params=[True, False], ids=["few classes", "many classes"])
def layout(request, monkeypatch):
    """Logits class by class in memory, and row by row."""
    if not request.param:
        monkeypatch.setattr(_batch, "FEW_CLASSES", 0)


# -- the backward pass -------------------------------------------------------------


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_is_that_of_autograd(activation, hidden, shared, weighted):
    stack = make_stack(hidden, activation)
    batch = make_batch(shared=shared, weighted=weighted)
    loss = stack.gradient(batch, None)
    assert loss.shape == (N_MEMBERS,)
    gradient = stack.parameters()[0].grad
    assert_allclose(gradient, autograd_gradient(stack, batch), rtol=0, atol=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_gradient_of_one_term_is_that_of_autograd(temperature):
    stack = make_stack()
    batch = make_batch()
    batch = batch._replace(terms=[(batch.terms[0][0], temperature)])
    stack.gradient(batch, None)
    gradient = stack.parameters()[0].grad
    assert_allclose(gradient, autograd_gradient(stack, batch), rtol=0, atol=1e-10)


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_by_products_in_bfloat16_the_gradient_is_nearly_that_of_autograd(activation):
    stack = make_stack((16, 16), activation, product_dtype=torch.bfloat16)
    batch = make_batch(n_rows=200)
    stack.gradient(batch, None)
    expected = autograd_gradient(stack, batch)
    pairs = zip(
        stack._views(stack.parameters()[0].grad), stack._views(expected), strict=True
    )
    for found, exact in pairs:
        # Of weights and of biases.
        for a, b in zip(found, exact, strict=True):
            assert 0 < (a - b).norm() < 0.05 * b.norm()


def test_a_second_gradient_replaces_the_first():
    stack = make_stack()
    stack.gradient(make_batch(weighted=False), None)
    stack.gradient(make_batch(), None)
    fresh = make_stack()
    fresh.gradient(make_batch(), None)
    assert torch.equal(stack.parameters()[0].grad, fresh.parameters()[0].grad)


def numpy_objective(flat, batch, sizes):
    """Loops over members and rows, written from the formula."""
    total = 0.0
    for g, parameters in enumerate(flat):
        layers, start = [], 0
        for n_in, n_out in sizes:
            weight = parameters[start : start + n_in * n_out]
            # The last layer lies class by class.
            last = (n_in, n_out) == sizes[-1]
            weight = (
                weight.reshape(n_out, n_in).T if last else weight.reshape(n_in, n_out)
            )
            start += n_in * n_out
            layers.append((weight, parameters[start : start + n_out]))
            start += n_out
        for i in range(batch.x.shape[1]):
            hidden = batch.x[g, i].numpy()
            for weight, bias in layers[:-1]:
                hidden = np.tanh(hidden @ weight + bias)
            z = hidden @ layers[-1][0] + layers[-1][1]
            for factors, temperature in batch.terms:
                s = 1.0 if isinstance(temperature, float) else temperature[g].item()
                log_proba = z / s - np.log(np.exp(z / s).sum())
                total += (factors[g, i].numpy() * log_proba).sum()
    return total


def test_the_gradient_is_the_slope_of_the_objective():
    stack = make_stack((3,), n_members=2)
    batch = make_batch(2)
    loss = stack.gradient(batch, None)
    flat = stack.parameters()[0].numpy().copy()
    sizes = [(N_FEATURES, 3), (3, N_CLASSES)]
    value = numpy_objective(flat, batch, sizes)
    assert_allclose(loss.sum(), value, rtol=1e-12)
    slopes = np.zeros_like(flat)
    step = 1e-5
    for index in product(*map(range, flat.shape)):
        up, down = flat.copy(), flat.copy()
        up[index] += step
        down[index] -= step
        ends = [numpy_objective(x, batch, sizes) for x in (up, down)]
        slopes[index] = (ends[0] - ends[1]) / (2 * step)
    assert_allclose(stack.parameters()[0].grad, slopes, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("layout")
def test_a_module_has_the_gradient_of_the_same_stack():
    stack = make_stack((5,), n_members=1)
    (coefs, intercepts) = stack.current(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(N_FEATURES, 5), torch.nn.Tanh(), torch.nn.Linear(5, N_CLASSES)
    ).double()
    with torch.no_grad():
        for i, layer in enumerate((module[0], module[2])):
            layer.weight.copy_(torch.from_numpy(coefs[i].T))
            layer.bias.copy_(torch.from_numpy(intercepts[i]))
    modules = ModuleStack([module])
    batch = make_batch(1)
    for _ in range(2):
        loss = modules.gradient(batch, None)
    assert_allclose(loss, stack.gradient(batch, None), rtol=1e-12)
    ours = [
        part[0] if part.shape[1] == 1 else part[0].T
        for layer in stack._layers
        for part in layer.gradients[0]
    ]
    for own, parameter in zip(ours, modules.parameters(), strict=True):
        assert_allclose(parameter.grad.reshape(-1), own.reshape(-1), rtol=0, atol=1e-12)


def test_a_filler_of_zeros_is_no_term():
    """Members with fewer terms than others are filled up with targets of zero."""
    batch = make_batch()
    zeros = torch.zeros_like(batch.terms[0][0])
    logits = torch.randn(
        N_MEMBERS,
        N_ROWS,
        N_CLASSES,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(0),
    )
    filled = batch._replace(terms=[*batch.terms, (zeros, 1.0)])
    for a, b in zip(
        cross_entropy_and_slope(filled, logits),
        cross_entropy_and_slope(batch, logits),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_loss_and_slope_leaves_the_logits_and_the_batch_alone():
    batch = make_batch()
    logits = make_stack().logits(batch.x)
    tensors = [logits, *[factors for factors, _ in batch.terms]]
    before = [tensor.clone() for tensor in tensors]
    cross_entropy_and_slope(batch, logits)
    for tensor, old in zip(tensors, before, strict=True):
        assert torch.equal(tensor, old)


@pytest.mark.parametrize("scale", [1e3, 1e100])
def test_large_logits_give_finite_losses(scale):
    batch = make_batch()
    logits = scale * make_stack().logits(batch.x)
    loss, slope = cross_entropy_and_slope(batch, logits)
    assert loss.isfinite().all()
    assert slope.isfinite().all()


# -- members -----------------------------------------------------------------------


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_each_member_is_a_network_of_its_own(activation, hidden):
    stack = make_stack(hidden, activation)
    batch = make_batch()
    logits = stack.logits(batch.x)
    for g in range(N_MEMBERS):
        coefs, intercepts = stack.current(g)
        sizes = (N_FEATURES, *hidden, N_CLASSES)
        assert [c.shape for c in coefs] == list(pairwise(sizes))
        out = batch.x[g].numpy()
        for coef, intercept in zip(coefs[:-1], intercepts[:-1], strict=True):
            out = out @ coef + intercept
            _hidden_units.activate_in_place(out, activation)
        assert_allclose(logits[g], out @ coefs[-1] + intercepts[-1], atol=1e-12)


def test_a_generator_draws_the_same_member_whatever_stands_beside_it():
    stack = make_stack()
    for g in range(N_MEMBERS):
        generator = torch.Generator().manual_seed(g)
        sizes = (N_FEATURES, 5, N_CLASSES)
        alone = MLPStack(sizes, "tanh", [generator], device="cpu", dtype=torch.float64)
        for ours, own in zip(stack.kept(g), alone.kept(0), strict=True):
            for a, b in zip(ours, own, strict=True):
                assert_array_equal(a, b)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_initial_parameters_stay_within_their_bounds(activation):
    generators = [torch.Generator().manual_seed(0)]
    stack = MLPStack(
        (40, 60, 50), activation, generators, device="cpu", dtype=torch.float64
    )
    (coefs, intercepts) = stack.current(0)
    for coef, intercept in zip(coefs, intercepts, strict=True):
        bound = 1 / np.sqrt(len(coef))
        assert 0.98 * bound < np.abs(coef).max() <= bound
        assert abs(coef.mean()) < 0.05 * bound
        assert 0.5 * bound < np.abs(intercept).max() <= bound


def test_only_the_flagged_members_are_kept():
    stack = make_stack()
    before = [stack.kept(g) for g in range(N_MEMBERS)]
    stack.parameters()[0].add_(1.0)
    stack.keep(np.array([False, True, False]))
    for g in range(N_MEMBERS):
        shift = 1.0 if g == 1 else 0.0
        for ours, old in zip(stack.kept(g), before[g], strict=True):
            for a, b in zip(ours, old, strict=True):
                assert_allclose(a, b + shift, atol=1e-12)


def test_a_narrowed_stack_goes_on_with_its_members():
    stack = make_stack(n_members=5)
    batch = make_batch(5)
    logits = stack.logits(batch.x)
    stack.narrow(torch.tensor([1, 3, 4]))
    assert_array_equal(stack.training_members, [1, 3, 4])
    stack.narrow(torch.tensor([0, 2]))
    assert_array_equal(stack.training_members, [1, 4])
    assert stack.n_members == 5
    assert_allclose(stack.logits(batch.x[[1, 4]]), logits[[1, 4]], atol=1e-14)
    before = [stack.kept(g) for g in range(5)]
    stack.parameters()[0].add_(1.0)
    # Members that have left are flagged in vain.
    stack.keep(np.array([True, False, True, False, True]))
    for g in range(5):
        shift = 1.0 if g == 4 else 0.0
        for ours, old in zip(stack.kept(g), before[g], strict=True):
            for a, b in zip(ours, old, strict=True):
                assert_allclose(a, b + shift, atol=1e-12)


def test_what_is_kept_is_a_copy():
    stack = make_stack()
    (coefs, intercepts), (now, _) = stack.kept(0), stack.current(0)
    before = [array.copy() for array in (*coefs, *intercepts)]
    stack.parameters()[0].add_(1.0)
    stack.keep(np.ones(N_MEMBERS, dtype=bool))
    for array, old in zip((*coefs, *intercepts), before, strict=True):
        assert_array_equal(array, old)
    assert_array_equal(now[0], before[0])


# -- shards ------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [4, 9, 10])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_shards_add_up_to_the_gradient(hidden, weighted, n_rows, monkeypatch):
    stack = make_stack(hidden)
    batch = make_batch(weighted=weighted, n_rows=n_rows)
    loss = stack.gradient(batch, None)
    gradient = stack.parameters()[0].grad.clone()
    monkeypatch.setattr(_stack, "SHARD_FLOPS", 0)
    assert stack.n_shards(n_rows) == 2
    assert_allclose(stack.gradient(batch, None), loss, rtol=1e-12)
    assert_allclose(stack.parameters()[0].grad, gradient, rtol=0, atol=1e-12)


def test_small_batches_are_not_cut(monkeypatch):
    stack = make_stack()
    assert stack.n_shards(1000) == 1
    monkeypatch.setattr(_stack, "SHARD_FLOPS", 0)
    assert [stack.n_shards(n) for n in (1, 3, 4, 1000)] == [1, 1, 2, 2]


@pytest.mark.parametrize("n_classes", [3, 5])
def test_classes_are_put_first_in_memory_where_they_are_few(n_classes, monkeypatch):
    monkeypatch.setattr(_batch, "FEW_CLASSES", 5)
    values = torch.rand(2, 4, n_classes)
    found = classes_first(values)
    assert torch.equal(found, values)
    assert found.transpose(1, 2).is_contiguous() == (n_classes < 5)


# -- types -------------------------------------------------------------------------


@pytest.mark.usefixtures("layout")
def test_products_of_another_type_give_nearly_the_same_gradient():
    """Parameters, losses and slopes stay in the stack's own type."""
    batch = make_batch()
    options = {"dtype": torch.float64, "product_dtype": torch.float32}
    exact, rounded = make_stack((5, 4)), make_stack((5, 4), **options)
    loss = exact.gradient(batch, None)
    assert_allclose(rounded.gradient(batch, None), loss, rtol=1e-5)
    ours, theirs = (stack.parameters()[0].grad for stack in (rounded, exact))
    assert ours.dtype == torch.float64
    assert rounded.logits(batch.x).dtype == torch.float64
    assert_allclose(ours, theirs, atol=1e-5)
