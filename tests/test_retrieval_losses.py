"""Losses over many labels: equations, slopes, and the traps of double distillation."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from reference import retrieval as reference
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, softmax

from skdistill._retrieval_objectives import (
    DecoupledObjective,
    SoftmaxObjective,
    loss_and_slope,
)
from skdistill.losses import (
    decoupled_loss,
    hardest_negatives,
    mining_probabilities,
    negative_aware_loss,
    negative_log_weight,
    pick_all_labels,
    recalibrate_negative_aware,
    sampled_softmax_loss,
    soft_cross_entropy,
)

N_ROWS, N_LABELS = 5, 7
few = settings(max_examples=40, deadline=None)
OBJECTIVES = [
    SoftmaxObjective(),
    *(DecoupledObjective(margin) for margin in ("logistic", "hinge", "squared")),
]


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(N_ROWS, N_LABELS), scale=3)
    soft_labels = rng.dirichlet(np.full(N_LABELS, 0.3), N_ROWS)
    soft_labels[0, :3] = 0.0
    return logits, soft_labels / soft_labels.sum(axis=1, keepdims=True)


def weights():
    """Weights of negatives: none, the teacher's, importance, mined, one row for all."""
    rng = np.random.default_rng(1)
    shape = (N_ROWS, N_LABELS)
    mined = np.where(rng.random(shape) < 0.3, -np.inf, 0.5)
    return {
        "none": None,
        "below 1": np.log(rng.uniform(1e-6, 1, shape)),
        "above 1": np.log(rng.uniform(1, 1e4, shape)),
        "exactly 1": np.zeros(shape),
        "mixed": rng.normal(size=shape, scale=3),
        "some none": mined,
        "one row": rng.normal(size=(1, N_LABELS)),
    }


def as_torch(array):
    return None if array is None else torch.tensor(array)


# -- the equations -----------------------------------------------------------------


@pytest.mark.parametrize("log_weight", weights().values(), ids=weights())
@pytest.mark.parametrize("anchored", [False, True])
def test_softmax_objective_equals_the_reference(problem, log_weight, anchored):
    logits, targets = problem
    anchors = np.roll(targets, 1, axis=1) if anchored else None
    losses, _ = loss_and_slope(SoftmaxObjective(), logits, targets, log_weight, anchors)
    weight = np.exp(np.zeros_like(logits) if log_weight is None else log_weight)
    weight = np.broadcast_to(weight, logits.shape)
    expected = [
        reference.softmax_row(
            targets[i], logits[i], weight[i], anchors[i] if anchored else None
        )
        for i in range(N_ROWS)
    ]
    assert_allclose(losses, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("log_weight", weights().values(), ids=weights())
@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_slope_equals_autograd(problem, objective, log_weight, anchored):
    logits, targets = problem
    anchors = np.roll(targets, 1, axis=1) if anchored else None
    arguments = [as_torch(array) for array in (targets, log_weight, anchors)]
    traced = torch.tensor(logits, requires_grad=True)
    sums = objective.start(N_ROWS, traced)
    objective.absorb(sums, traced, *arguments)
    losses = objective.finish(sums)
    losses.sum().backward()
    by_hand, slope = loss_and_slope(objective, torch.tensor(logits), *arguments)
    in_numpy = loss_and_slope(objective, logits, targets, log_weight, anchors)
    assert_allclose(by_hand, losses.detach(), rtol=1e-12)
    assert_allclose(slope, traced.grad, rtol=1e-9, atol=1e-12)
    assert_allclose(in_numpy[0], by_hand, rtol=1e-12)
    assert_allclose(in_numpy[1], slope, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("log_weight", weights().values(), ids=weights())
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_labels_in_chunks_give_the_same_as_at_once(problem, objective, log_weight):
    logits, targets = problem
    losses, slope = loss_and_slope(objective, logits, targets, log_weight)
    chunks = [slice(0, 2), slice(2, 3), slice(3, None)]
    parts = [
        (
            logits[:, chunk],
            targets[:, chunk],
            None if log_weight is None else log_weight[:, chunk],
        )
        for chunk in chunks
    ]
    sums = objective.start(N_ROWS, logits)
    for part in parts:
        objective.absorb(sums, *part)
    assert_allclose(objective.finish(sums), losses, rtol=1e-12)
    slopes = [objective.slope(sums, *part) for part in parts]
    assert_allclose(np.hstack(slopes), slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("size", [30.0, 300.0])
@pytest.mark.parametrize("log_weight", [-27.6, 0.0, 9.0])
def test_extreme_logits_stay_finite_in_single_precision(size, log_weight):
    logits = torch.tensor([[size, -size, 0.0], [-size, size, size]])
    targets = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    weight = torch.full((2, 3), log_weight)
    losses, slope = loss_and_slope(SoftmaxObjective(), logits, targets, weight)
    double = [array.double() for array in (logits, targets, weight)]
    exact, exact_slope = loss_and_slope(SoftmaxObjective(), *double)
    assert_allclose(losses, exact, rtol=1e-5, atol=1e-5)
    assert_allclose(slope, exact_slope, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("margin", ["logistic", "hinge", "squared"])
def test_decoupled_loss_equals_the_equations(problem, margin):
    logits, soft_labels = problem
    losses = decoupled_loss(soft_labels, logits, margin=margin, reduction="none")
    expected = [
        reference.decoupled_row(p, f, margin)
        for p, f in zip(soft_labels, logits, strict=True)
    ]
    assert_allclose(losses, expected, rtol=1e-12)
    labels = np.arange(N_ROWS) % N_LABELS
    one_hot = np.eye(N_LABELS)[labels]
    losses = decoupled_loss(one_hot, logits, margin=margin, reduction="none")
    expected = [
        reference.one_hot_decoupled_row(y, f, margin)
        for y, f in zip(labels, logits, strict=True)
    ]
    assert_allclose(losses, expected, rtol=1e-12)


def test_decoupled_minimisers_in_closed_form():
    p = np.array([[0.9, 0.5, 0.2]])
    for margin, minimiser in {
        "logistic": logit(p),
        "squared": 2 * p - 1,
    }.items():
        _, slope = loss_and_slope(DecoupledObjective(margin), minimiser, p)
        assert_allclose(slope, 0.0, atol=1e-14)


def test_decoupled_logistic_is_binary_cross_entropy(problem):
    logits, soft_labels = problem
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(logits), torch.tensor(soft_labels), reduction="none"
    ).sum(-1)
    assert_allclose(decoupled_loss(soft_labels, logits), expected.mean(), rtol=1e-12)


def test_pick_all_labels_is_one_example_for_each_label(problem):
    logits, _ = problem
    labels = np.zeros((N_ROWS, N_LABELS))
    labels[0, [1, 4]] = labels[1, [0]] = labels[2, [2, 3, 6]] = 1.0
    log_q = log_softmax(logits, axis=1)
    for normalize in (True, False):
        targets = pick_all_labels(labels, normalize=normalize)
        losses = soft_cross_entropy(targets, logits, reduction="none")
        examples = [-log_q[i][labels[i] > 0] for i in range(N_ROWS)]
        total = np.array([row.sum() for row in examples])
        count = np.maximum([len(row) for row in examples], 1)
        assert_allclose(losses, total / count if normalize else total, rtol=1e-12)


def test_mixing_weight_mixes_the_targets(problem):
    logits, soft_labels = problem
    labels = np.eye(N_LABELS)[[1, 2, 3, 4, 5]]
    losses = [
        negative_aware_loss(
            soft_labels, logits, labels=labels, mixing_weight=m, reduction="none"
        )
        for m in (0.0, 0.25, 1.0)
    ]
    assert_allclose(losses[1], 0.75 * losses[0] + 0.25 * losses[2], rtol=1e-12)
    weight = 1.0 - soft_labels
    expected = [
        reference.softmax_row(labels[i], logits[i], weight[i]) for i in range(N_ROWS)
    ]
    assert_allclose(losses[0], expected, rtol=1e-9)


def test_observed_anchor_is_the_equation_as_printed(problem):
    logits, soft_labels = problem
    codes = np.array([1, 2, 3, 4, 5])
    losses = negative_aware_loss(
        soft_labels,
        logits,
        labels=np.eye(N_LABELS)[codes],
        anchor="observed",
        reduction="none",
    )
    expected = [
        reference.printed_row(p, f, y)
        for p, f, y in zip(soft_labels, logits, codes, strict=True)
    ]
    assert_allclose(losses, expected, rtol=1e-9)


def test_row_with_several_observed_labels_is_an_example_for_each(problem):
    logits, soft_labels = problem
    labels = np.zeros((1, N_LABELS))
    labels[0, [2, 5]] = 1.0
    loss = negative_aware_loss(
        soft_labels[:1], logits[:1], labels=labels, anchor="observed"
    )
    each = [reference.printed_row(soft_labels[0], logits[0], y) for y in (2, 5)]
    assert_allclose(loss, np.mean(each), rtol=1e-9)


@pytest.mark.parametrize("mixing_weight", [0.3, 1.0])
@pytest.mark.parametrize("form", [np.asarray, torch.as_tensor])
def test_a_row_without_labels_is_anchored_at_the_candidate(
    form, mixing_weight, problem
):
    """Else nothing would hold its logits: all the larger, the lower the loss."""
    logits, soft_labels = map(form, problem)
    labels = np.eye(N_LABELS)[[1, 2, 3, 4, 5]]
    labels[[0, 3]] = 0.0
    settings = {
        "labels": form(labels),
        "mixing_weight": mixing_weight,
        "reduction": "none",
    }
    observed, candidate = (
        negative_aware_loss(soft_labels, logits, anchor=anchor, **settings)
        for anchor in ("observed", "candidate")
    )
    alone = labels.sum(axis=1) == 0
    assert_allclose(observed[alone], candidate[alone], rtol=1e-12)
    assert (np.abs(np.asarray(observed - candidate))[~alone] > 1e-4).all()
    shifted = negative_aware_loss(
        soft_labels, logits + 5.0, anchor="observed", **settings
    )
    assert_allclose(shifted, observed, rtol=1e-9)


# -- the four traps ----------------------------------------------------------------


@few
@given(
    arrays(np.float64, (1, 6), elements=st.floats(-8, 8)),
    arrays(np.float64, (1, 6), elements=st.floats(1e-3, 1)),
)
def test_candidate_anchor_is_never_negative(logits, raw):
    soft_labels = raw / raw.sum()
    assert negative_aware_loss(soft_labels, logits) >= -1e-12


def test_printed_anchor_can_be_negative():
    # The observed label is the rare one: the infimum is 0.99 log 0.01 = -4.56.
    soft_labels, labels = np.array([[0.99, 0.01]]), np.array([[0.0, 1.0]])

    def loss(gap, anchor):
        logits = np.array([[gap, 0.0]])
        return negative_aware_loss(soft_labels, logits, labels=labels, anchor=anchor)

    lowest = minimize(lambda x: loss(x[0], "observed"), [1.0], tol=1e-12)
    assert_allclose(lowest.fun, -4.50, atol=0.005)
    gaps = np.linspace(-30, 30, 601)
    assert min(loss(gap, "candidate") for gap in gaps) >= 0.0


def test_stationary_point_is_the_odds_and_keeps_the_order():
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.full(6, 0.5), 4)
    logits = logit(p)
    # Weights 1 - p everywhere, no anchor: the anchors are on a label of its own.
    no_anchor = np.hstack([np.zeros((4, 6)), np.ones((4, 1))])
    wide = np.hstack([logits, np.full((4, 1), -1e9)])
    targets = np.hstack([p, np.zeros((4, 1))])
    log_weight = np.hstack([np.log1p(-p), np.zeros((4, 1))])
    _, slope = loss_and_slope(SoftmaxObjective(), wide, targets, log_weight, no_anchor)
    assert_allclose(slope[:, :6], 0.0, atol=1e-12)
    assert_array_equal(np.argsort(logits), np.argsort(p))
    # Sharper than the teacher, so no probabilities without the inversion.
    assert (softmax(logits, axis=1).max(axis=1) > p.max(axis=1)).all()
    assert_allclose(recalibrate_negative_aware(logits + 2.0, anchor=None), p, rtol=1e-9)


@pytest.mark.parametrize("total", [1.0, 3.0])
def test_recalibration_inverts_the_candidate_minimiser(total):
    rng = np.random.default_rng(4)
    p = rng.dirichlet(np.ones(8)) * total
    p = np.clip(p, 1e-4, 0.9)

    def objective(f):
        losses, slope = loss_and_slope(
            SoftmaxObjective(), f[None], p[None], np.log1p(-p)[None]
        )
        return losses[0], slope[0]

    fitted = minimize(
        objective, np.log(p), jac=True, method="BFGS", options={"gtol": 1e-10}
    )
    proba = recalibrate_negative_aware(fitted.x[None], total=p.sum())
    assert_allclose(proba[0], p, atol=1e-7)
    assert_array_equal(np.argsort(fitted.x), np.argsort(p))
    assert np.abs(softmax(fitted.x) * p.sum() - p).max() > 0.01


@pytest.mark.parametrize("anchor", ["candidate", None])
def test_recalibration_gives_rows_their_sum_for_any_logits(anchor):
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(20, 50), scale=4)
    total = rng.uniform(0.5, 5, 20)
    proba = recalibrate_negative_aware(logits, anchor=anchor, total=total)
    assert_allclose(proba.sum(axis=1), total, rtol=1e-6)
    assert ((proba >= 0) & (proba <= 1)).all()
    assert_array_equal(np.argsort(-logits)[:, 0], proba.argmax(axis=1))


def test_plausible_negatives_get_less_attention_not_more():
    logits = np.zeros((1, 3))
    targets = np.array([[1.0, 0.0, 0.0]])
    soft_labels = np.array([[0.5, 0.45, 0.05]])
    log_weight = negative_log_weight(soft_labels)
    _, slope = loss_and_slope(SoftmaxObjective(), logits, targets, log_weight)
    # Both are pushed down; the one that the teacher believes in is pushed less.
    assert 0 < slope[0, 1] < slope[0, 2]
    sigmoid = negative_log_weight(logit(soft_labels), kind="sigmoid")
    assert_allclose(sigmoid, log_weight, rtol=1e-12)
    sharper = negative_log_weight(logit(soft_labels), kind="sigmoid", scale=2.0)
    assert_allclose(np.exp(sharper), 1 - expit(2 * logit(soft_labels)), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sure_labels_keep_the_smallest_weight(dtype):
    for array in (np.ones(2, dtype), torch.ones(2, dtype=torch.float32)):
        assert_allclose(negative_log_weight(array), np.log(1e-12), rtol=1e-6)
    sure = np.full(2, 1e6, dtype)
    assert_allclose(negative_log_weight(sure, kind="sigmoid"), np.log(1e-12))


@pytest.mark.parametrize("anchor", ["candidate", "observed"])
def test_one_hot_teacher_gives_the_cross_entropy(problem, anchor):
    logits, _ = problem
    one_hot = np.eye(N_LABELS)[[0, 2, 4, 6, 1]]
    loss = negative_aware_loss(one_hot, logits, labels=one_hot, anchor=anchor)
    assert_allclose(loss, soft_cross_entropy(one_hot, logits), rtol=1e-10)


def test_constant_weights_give_distillation_up_to_a_constant():
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(8, 4))
    uniform = np.full((8, 4), 0.25)
    log_weight = np.log1p(-uniform)
    # Without an anchor: z is the log-total less the constant -log(1 - p).
    anchors = np.hstack([np.zeros((8, 4)), np.ones((8, 1))])
    losses, _ = loss_and_slope(
        SoftmaxObjective(),
        np.hstack([logits, np.full((8, 1), -1e9)]),
        np.hstack([uniform, np.zeros((8, 1))]),
        np.hstack([log_weight, np.zeros((8, 1))]),
        anchors,
    )
    plain = soft_cross_entropy(uniform, logits, reduction="none")
    assert_allclose(losses - plain, np.log(0.75), rtol=1e-12)


# -- samples and mining ------------------------------------------------------------


def test_sampled_softmax_counts_the_labels_left_out():
    logits = np.zeros((1, 3))
    loss = sampled_softmax_loss([[1.0, 0, 0]], logits, np.log([[1.0, 0.1, 0.1]]))
    assert_allclose(loss, np.log(21.0), rtol=1e-14)
    losses = sampled_softmax_loss(
        [[1.0, 0, 0]],
        logits,
        np.log([[1.0, 0.1, 0.1]]),
        log_weight=np.log([[1, 0.5, 1]]),
    )
    assert_allclose(losses, np.log(16.0), rtol=1e-14)


def test_full_sample_is_the_loss_over_all_labels(problem):
    logits, soft_labels = problem
    surely = np.zeros((1, N_LABELS))
    assert_allclose(
        sampled_softmax_loss(soft_labels, logits, surely),
        soft_cross_entropy(soft_labels, logits),
        rtol=1e-12,
    )
    assert_allclose(
        sampled_softmax_loss(
            soft_labels, logits, surely, log_weight=negative_log_weight(soft_labels)
        ),
        negative_aware_loss(soft_labels, logits),
        rtol=1e-12,
    )


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_hardest_negatives_are_kept(problem, library):
    logits, _ = problem
    is_own = np.zeros(logits.shape, dtype=bool)
    is_own[np.arange(N_ROWS), logits.argmax(axis=1)] = True
    mask = np.asarray(hardest_negatives(library(logits), library(is_own), 2))
    order = np.argsort(-logits, axis=1)
    for i in range(N_ROWS):
        assert_array_equal(np.flatnonzero(mask[i] == 0), np.sort(order[i, :3]))
    assert np.isneginf(mask[mask != 0]).all()
    everything = np.asarray(hardest_negatives(library(logits), library(is_own), 50))
    assert_array_equal(everything, 0.0)


@pytest.mark.parametrize(("n", "drawn", "kept"), [(5, 3, 1), (6, 4, 2), (4, 4, 2)])
def test_mining_is_an_ordered_weighted_loss_in_expectation(n, drawn, kept):
    theta = mining_probabilities(n, drawn, kept)
    rng = np.random.default_rng(n)
    f = rng.normal(size=n + 1)
    negatives = np.arange(1, n + 1)
    samples = list(combinations(negatives, drawn))
    expected = np.mean(
        [reference.mined_row(0, f, sample, kept, "logistic") for sample in samples]
    )
    labels = np.eye(n + 1)[:1]
    weight = np.zeros(n + 1)
    weight[1 + np.argsort(-f[1:])] = theta
    loss = decoupled_loss(labels, f[None], negative_weight=weight[None])
    assert_allclose(loss, expected, rtol=1e-12)
    assert_allclose(theta.sum(), kept, rtol=1e-12)
    assert (np.diff(theta) <= 1e-15).all()
    # What the mask of a sample leaves is what mining keeps.
    sample = np.array([0, *samples[-1]])
    is_own = (sample == 0)[None]
    mask = np.exp(hardest_negatives(f[sample][None], is_own, kept))
    mask[is_own] = 0.0
    mined = decoupled_loss(is_own.astype(float), f[sample][None], negative_weight=mask)
    expected = reference.mined_row(0, f, samples[-1], kept, "logistic")
    assert_allclose(mined, expected, rtol=1e-12)


# -- arguments ---------------------------------------------------------------------


def test_tensors_give_tensors_and_gradients(problem):
    logits, soft_labels = problem
    traced = torch.tensor(logits, requires_grad=True)
    loss = negative_aware_loss(torch.tensor(soft_labels), traced)
    loss.backward()
    _, slope = loss_and_slope(
        SoftmaxObjective(), logits, soft_labels, negative_log_weight(soft_labels)
    )
    assert_allclose(traced.grad * N_ROWS, slope, rtol=1e-9, atol=1e-13)


def test_sample_weights_average_the_rows(problem):
    logits, soft_labels = problem
    weight = np.array([0.0, 1.0, 2.0, 0.5, 0.0])
    for loss in (negative_aware_loss, decoupled_loss):
        rows = loss(soft_labels, logits, reduction="none")
        expected = (weight * rows).sum() / weight.sum()
        assert_allclose(loss(soft_labels, logits, sample_weight=weight), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, f: negative_aware_loss(p, f, anchor="both"), "anchor='both' must"),
        (lambda p, f: negative_aware_loss(p, f, anchor="observed"), "labels=None is"),
        (lambda p, f: negative_aware_loss(p, f, mixing_weight=0.5), "labels=None is"),
        (lambda p, f: negative_aware_loss(p, f, mixing_weight=2.0), "mixing_weight=2"),
        (lambda p, f: negative_aware_loss(p * 3, f), "between 0 and 1"),
        (lambda p, f: negative_aware_loss(p[1:], f), "soft_labels has shape"),
        (lambda p, f: negative_aware_loss(p, f[None]), "logits must have shape"),
        (lambda p, f: decoupled_loss(p * 3, f), "between 0 and 1"),
        (lambda p, f: decoupled_loss(p, f, margin="cubic"), "margin='cubic' must"),
        (lambda p, f: decoupled_loss(p, f, reduction="sum"), "reduction='sum' must"),
        (lambda p, f: sampled_softmax_loss(p, f, f[0]), "log_inclusion has shape"),
        (lambda p, f: negative_log_weight(p, kind="odd"), "kind='odd' must"),
        (lambda p, f: negative_log_weight(p, kind="sigmoid", scale=0), "scale=0 must"),
        (lambda p, f: hardest_negatives(f, f > 0, 0), "n_kept=0 must"),
        (lambda p, f: mining_probabilities(3, 4, 1), "n_drawn=4"),
        (lambda p, f: pick_all_labels(f), "labels must be non-negative"),
        (lambda p, f: pick_all_labels(p[0]), "labels must have shape"),
        (lambda p, f: recalibrate_negative_aware(f, total=0.0), "total="),
        (lambda p, f: recalibrate_negative_aware(f, anchor="odd"), "anchor='odd' must"),
    ],
)
def test_errors_name_the_argument(problem, call, message):
    logits, soft_labels = problem
    with pytest.raises(ValueError, match=message):
        call(soft_labels, logits)


def test_losses_do_not_import_torch():
    code = (
        "import sys, numpy as np; from skdistill.losses import *;"
        "eye = np.eye(3);"
        "negative_aware_loss(eye, eye); decoupled_loss(eye, eye);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
