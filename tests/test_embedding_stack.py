"""Steps of retrieval training: their gradients, what they touch, how they round."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax

from skdistill._retrieval import embedding_stack
from skdistill._retrieval.batches import RetrievalSet
from skdistill._retrieval.centroids import fit_residual
from skdistill._retrieval.embedding_stack import (
    EmbeddingStack,
    RowAdagrad,
    RowGradient,
    StepSettings,
    round_at_random,
)
from skdistill._retrieval.negatives import make_proposal
from skdistill._retrieval.targets import Mixture
from skdistill._retrieval_objectives import DecoupledObjective, SoftmaxObjective
from skdistill.losses import sampled_softmax_loss

N, D, L, DIM = 12, 9, 17, 4


def mixture(objective="softmax", **others):
    defaults = {
        "mixing_weight": 0.6,
        "temperature": 1.5,
        "anchor": "candidate",
        "negative_weights": "complement",
        "negative_scale": 2.0,
    }
    return Mixture(objective, **(defaults | others))


def data(
    kind="softmax", n_negatives=None, residual=False, dense=False, soft=True, **others
):
    rng = np.random.default_rng(0)
    X = sp.random(N, D, 0.4, "csr", random_state=1)
    X.data -= 0.3
    Y = sp.csr_matrix((rng.random((N, L)) < 0.15).astype(np.float32))
    P = sp.random(N, L, 0.3, "csr", random_state=2) if soft else None
    targets = mixture(kind, **others).targets(Y, P, sampled=n_negatives is not None)
    proposal = None
    if n_negatives is not None:
        counts = np.bincount(targets.raised.indices, minlength=L)
        proposal = make_proposal(
            "uniform", counts, n_rows=N, batch_size=N, n_negatives=n_negatives
        )
    part = fit_residual(X, Y, 5, 3.0) if residual else None
    x = torch.zeros((), dtype=torch.float64)
    inputs = X.toarray() if dense else X
    return RetrievalSet(inputs, targets, proposal, part, x, N, 0, 1, 4)


def stack(
    objective, *, dropout=0.0, dtype=torch.float64, n_hard=None, activation="identity"
):
    rng = np.random.default_rng(8)

    def table(*shape):
        return torch.from_numpy(rng.normal(size=shape))

    settings = StepSettings(objective, dropout, n_hard, L, activation)
    return EmbeddingStack(table(D, DIM), table(L, DIM).to(dtype), table(L, 1), settings)


def first_batch(rows):
    ((batch, _),) = list(rows.epoch(N, []))
    return batch


def loss_at(student, batch, tables):
    moved = EmbeddingStack(*tables, student.settings)
    batch.rng = np.random.default_rng(5)
    return float(moved.gradient(batch, None).mean())


OBJECTIVES = [
    ("softmax", {}),
    ("double", {}),
    ("double", {"anchor": "observed"}),
    ("double", {"negative_weights": "sigmoid"}),
    ("logistic", {}),
    ("squared", {}),
]


@pytest.mark.parametrize("n_negatives", [None, 3], ids=["all", "drawn"])
@pytest.mark.parametrize(("kind", "others"), OBJECTIVES)
@pytest.mark.parametrize("form", ["sparse", "dense", "residual"])
def test_gradients_are_those_of_finite_differences(kind, others, n_negatives, form):
    rows = data(kind, n_negatives, form == "residual", dense=form == "dense", **others)
    batch = first_batch(rows)
    student = stack(mixture(kind).loss(), dropout=0.3)
    tables = [table.clone() for table in student.parameters()]
    batch.rng = np.random.default_rng(5)
    student.gradient(batch, None)
    rng = np.random.default_rng(3)
    for i, gradient in enumerate(student.gradients):
        full = torch.zeros_like(tables[i])
        chosen = slice(None) if gradient.rows is None else gradient.rows
        full[chosen] = gradient.values
        direction = torch.from_numpy(rng.normal(size=tuple(full.shape)))
        ends = []
        for step in (-1e-5, 1e-5):
            moved = [
                t + step * direction if j == i else t for j, t in enumerate(tables)
            ]
            ends.append(loss_at(student, batch, moved))
        slope = (ends[1] - ends[0]) / 2e-5
        assert_allclose(float((full * direction).sum()), slope, rtol=1e-5, atol=1e-8)


AUTOGRAD = {
    "identity": lambda z: z,
    "logistic": torch.sigmoid,
    "relu": torch.relu,
    "tanh": torch.tanh,
}


@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize("activation", AUTOGRAD)
@pytest.mark.parametrize("dense", [False, True])
def test_gradients_through_hidden_units_are_those_of_autograd(
    pooling, activation, dense
):
    rows = data(soft=False, dense=dense)
    rows.pooling = pooling
    filled = np.ones((N, 1))
    filled[2] = 0.0  # a row without features
    rows.X = rows.X * filled if dense else sp.csr_matrix(rows.X.multiply(filled))
    x = torch.tensor(rows.X if dense else rows.X.toarray())
    if pooling == "mean":
        x = x / (x != 0).sum(dim=1, keepdim=True).clamp(min=1)
    batch = first_batch(rows)
    student = stack(SoftmaxObjective(), dropout=0.4, activation=activation)
    tables = [t.clone().requires_grad_() for t in student.parameters()]
    batch.rng = np.random.default_rng(5)
    loss = student.gradient(batch, None)
    kept = np.random.default_rng(5).random((N, DIM), dtype=np.float32) >= 0.4
    hidden = AUTOGRAD[activation](x @ tables[0]) * torch.from_numpy(kept) / 0.6
    logits = hidden @ tables[1].T + tables[2].T
    t = torch.tensor(rows.targets.raised.toarray(), dtype=torch.float64)
    expected = -(t * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
    expected.backward()
    assert_allclose(float(loss), float(expected.detach()), rtol=1e-12)
    for table, gradient in zip(tables, student.gradients, strict=True):
        full = torch.zeros_like(table)
        full[slice(None) if gradient.rows is None else gradient.rows] = gradient.values
        assert_allclose(full.detach(), table.grad, rtol=0, atol=1e-13)


def test_the_loss_is_that_of_the_formula():
    rows = data(soft=False)
    batch = first_batch(rows)
    student = stack(SoftmaxObjective())
    loss = float(student.gradient(batch, None))
    features, labels, bias = (t.numpy() for t in student.parameters())
    logits = rows.X @ features @ labels.T + bias[:, 0]
    t = rows.targets.raised.toarray()
    assert_allclose(loss, -(t * log_softmax(logits, axis=1)).sum(axis=1).mean())


def test_the_loss_of_drawn_labels_is_that_of_the_formula():
    batch = first_batch(few_rows("softmax", 6))
    student = stack(SoftmaxObjective())
    loss = float(student.gradient(batch, None))
    features, labels, bias = (t.numpy() for t in student.parameters())
    chosen = batch.candidates.numpy()
    logits = (data().X[:3] @ features @ labels.T + bias[:, 0])[:, chosen]
    t = batch.targets.raised.toarray()
    log_inclusion = np.where(t > 0, 0.0, -batch.log_importance.numpy())
    assert (log_inclusion < 0).any()
    assert_allclose(loss, sampled_softmax_loss(t, logits, log_inclusion))


@pytest.mark.parametrize(("kind", "others"), OBJECTIVES)
@pytest.mark.parametrize("n_negatives", [None, 3], ids=["all", "drawn"])
def test_blocks_of_labels_give_what_one_block_gives(
    kind, others, n_negatives, monkeypatch
):
    results = []
    for block in (10**6, 5 * N):
        monkeypatch.setattr(embedding_stack, "BLOCK_LOGITS", block)
        student = stack(mixture(kind).loss())
        batch = first_batch(data(kind, n_negatives, residual=True, **others))
        losses = student.gradient(batch, None)
        results.append([losses, *(g.values for g in student.gradients)])
    for one, other in zip(*results, strict=True):
        assert_allclose(one, other, rtol=0, atol=1e-12)


def test_shards_of_rows_give_what_one_shard_gives(monkeypatch):
    results = []
    for flops in (1e99, 0.0):
        monkeypatch.setattr(embedding_stack, "SHARD_FLOPS", flops)
        student = stack(SoftmaxObjective(), dropout=0.5)
        losses = student.gradient(first_batch(data("double", 3)), None)
        results.append([losses, *(g.values for g in student.gradients)])
    for one, other in zip(*results, strict=True):
        assert_allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_step_touches_the_rows_of_its_batch_only(dtype):
    rows = data("softmax", 2, soft=False)
    rows.batch_size = 3
    batch = first_batch(rows)
    student = stack(SoftmaxObjective(), dtype=dtype)
    before = [table.clone() for table in student.parameters()]
    optimizer = RowAdagrad(student, 0.1, 10)
    student.gradient(batch, None)
    optimizer.step()
    candidates = set(batch.candidates.tolist())
    assert 0 < len(candidates) < L
    present = set(np.unique(rows.X[rows._rows(0)].indices).tolist())
    assert len(present) < D
    touched = [present, candidates, candidates]
    for old, new, sums, allowed in zip(
        before, student.parameters(), optimizer.sums, touched, strict=True
    ):
        moved = set(torch.nonzero((old != new).any(dim=1))[:, 0].tolist())
        assert moved
        assert moved <= allowed
        assert set(torch.nonzero(sums)[:, 0].tolist()) <= allowed


def test_row_adagrad_is_the_formula():
    student = stack(SoftmaxObjective())
    optimizer = RowAdagrad(student, 0.5, 4)
    rng = np.random.default_rng(0)
    expected = student.labels.numpy().copy()
    sums = np.zeros(L)
    for step in range(3):
        chosen = np.array([1, 5, 11])
        g = rng.normal(size=(3, DIM))
        none = torch.zeros(0, dtype=torch.long)
        student.gradients = [
            RowGradient(none, torch.zeros(0, DIM, dtype=torch.float64)),
            RowGradient(torch.from_numpy(chosen), torch.from_numpy(g.copy())),
            RowGradient(none, torch.zeros(0, 1, dtype=torch.float64)),
        ]
        optimizer.step()
        sums[chosen] += (g**2).mean(axis=1)
        expected[chosen] -= 0.5 * (1 - step / 4) * g / np.sqrt(sums[chosen])[:, None]
    assert_allclose(student.labels.numpy(), expected)


def test_rounding_at_random_keeps_the_mean_and_takes_a_neighbour():
    rng = np.random.default_rng(0)
    value = 1.0 + 2.0**-9
    rounded = round_at_random(torch.full((40000,), value), rng).float().numpy()
    assert set(np.unique(rounded)) == {1.0, 1.0 + 2.0**-7}
    # A quarter of the way: the mean has a standard error of 1.7e-5.
    assert abs(rounded.mean() - value) < 1e-4
    exact = torch.tensor([0.0, -1.5, 3.0])
    assert_array_equal(round_at_random(exact, rng).float().numpy(), exact.numpy())


def few_rows(kind, n_negatives):
    """Three rows only, so that most labels are nobody's."""
    rows = data(kind, n_negatives, soft=False)
    rows.X, rows.targets = rows.X[:3], rows.targets.rows(slice(3))
    return rows


def test_importance_weights_make_sampled_losses_agree_on_average():
    student = stack(DecoupledObjective("logistic"))
    full = float(student.gradient(first_batch(few_rows("logistic", None)), None).mean())
    rows = few_rows("logistic", 4)
    rows.total_steps = rows.n_steps = 2000
    losses = [float(student.gradient(b, None).mean()) for b, _ in rows.epoch(N, [])]
    error = np.std(losses) / np.sqrt(len(losses))
    assert abs(np.mean(losses) - full) < 5 * error
    assert 0 < error < 0.02 * full


def test_hard_negatives_are_those_that_score_highest():
    student = stack(DecoupledObjective("logistic"), n_hard=2)
    batch = first_batch(few_rows("logistic", 8))
    student.gradient(batch, None)
    all_of_them = stack(DecoupledObjective("logistic"))
    all_of_them.gradient(batch, None)
    few = (student.gradients[2].values != 0).sum()
    many = (all_of_them.gradients[2].values != 0).sum()
    assert 0 < few < many


def test_rows_come_once_a_pass_whatever_the_start():
    rows = data()
    rows.batch_size, rows.n_steps, rows.total_steps = 5, 4, 9
    order = [rows._rows(step) for step in range(6)]
    assert_array_equal(np.sort(np.concatenate(order[:3])), np.arange(N))
    later = data()
    later.batch_size = 5
    assert_array_equal(later._rows(4), order[4])


def test_stack_and_set_refuse_what_they_do_not_do():
    student, batch = stack(SoftmaxObjective()), first_batch(data())
    for refused in (
        lambda: student.logits(batch.x),
        lambda: batch.loss_and_slope(batch.x),
    ):
        with pytest.raises(TypeError):
            refused()
