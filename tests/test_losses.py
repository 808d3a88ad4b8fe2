import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from reference import losses as reference
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from skdistill.losses import (
    brier_loss,
    distillation_loss,
    soft_cross_entropy,
    temper_proba,
)

ROOT = Path(__file__).parents[1]
LOSSES = [soft_cross_entropy, brier_loss]
temperatures = st.floats(0.2, 20.0)
few = settings(max_examples=40, deadline=None)


@st.composite
def probabilities(draw, n_rows=3, zeros=False):
    n_classes = draw(st.integers(2, 5))
    low = 0.0 if zeros else 1e-3
    raw = draw(arrays(np.float64, (n_rows, n_classes), elements=st.floats(low, 1.0)))
    raw[raw < 1e-3] = 0.0
    assume((raw.sum(axis=1) > 0).all())
    return raw / raw.sum(axis=1, keepdims=True)


@st.composite
def problems(draw, n_rows=3):
    proba = draw(probabilities(n_rows, zeros=True))
    logits = draw(arrays(np.float64, proba.shape, elements=st.floats(-8, 8)))
    return proba, logits


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(4), size=6)
    proba[0] = [0.5, 0.0, 0.5, 0.0]
    logits = rng.normal(size=(6, 4), scale=2)
    return rng.integers(4, size=6), proba, logits, rng.uniform(0.5, 2, size=6)


# -- temper_proba ------------------------------------------------------------------


@few
@given(probabilities(zeros=True), temperatures)
def test_temper_equals_the_reference_and_stays_on_the_simplex(proba, temperature):
    tempered = temper_proba(proba, temperature)
    assert_allclose(tempered, reference.temper_proba(proba, temperature), atol=1e-13)
    assert_allclose(tempered.sum(axis=1), 1.0, rtol=1e-14)
    assert (tempered >= 0).all()
    assert_array_equal(tempered[proba == 0], 0.0)


@few
@given(probabilities(zeros=True), temperatures)
def test_temper_keeps_the_order_of_the_classes(proba, temperature):
    order = np.argsort(proba, axis=1)
    tempered = np.take_along_axis(temper_proba(proba, temperature), order, axis=1)
    assert (np.diff(tempered, axis=1) >= -1e-15).all()


@few
@given(probabilities(zeros=True), temperatures, temperatures)
def test_tempering_twice_multiplies_the_temperatures(proba, first, second):
    # Underflow to 0 in between cannot be undone.
    assume((temper_proba(proba, first)[proba > 0] > 1e-250).all())
    twice = temper_proba(temper_proba(proba, first), second)
    assert_allclose(twice, temper_proba(proba, first * second), atol=1e-11)


def test_temper_is_the_softmax_of_divided_logits(problem):
    _, _, logits, _ = problem
    assert_allclose(
        temper_proba(softmax(logits, axis=1), 3.0), softmax(logits / 3.0, axis=1)
    )


def test_temper_at_one_only_renormalises():
    proba = np.array([[0.1, 0.7, 0.2], [0.0, 3.0, 1.0]])
    tempered = temper_proba(proba, 1)
    assert_array_equal(tempered, proba / proba.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-40, 1e-5])
def test_temper_near_zero_is_the_arg_max(temperature, backend, dtype):
    proba = np.array([[0.6, 0.4, 0.0], [0.4, 0.4, 0.2], [1, 0, 0]], dtype=dtype)
    tempered = np.asarray(temper_proba(backend(proba), temperature))
    assert tempered.dtype == dtype
    assert_array_equal(tempered, [[1, 0, 0], [0.5, 0.5, 0], [1, 0, 0]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("temperature", [1e12, 1e40, 1.7e308])
def test_temper_at_infinity_is_uniform_over_the_support(temperature, backend, dtype):
    proba = np.array([[0.9, 0.1, 0.0], [0.4, 0.4, 0.2], [1, 0, 0]], dtype=dtype)
    expected = [[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3], [1, 0, 0]]
    tempered = temper_proba(backend(proba), temperature)
    assert_allclose(np.asarray(tempered), expected, rtol=1e-6)


def test_temper_takes_tiny_probabilities():
    tempered = temper_proba([[1.0, 5e-324, 1e-300]], 2.0)
    assert_allclose(tempered, [[1.0, np.sqrt(5e-324), 1e-150]])


def test_temper_has_a_finite_gradient_at_zeros():
    proba = torch.tensor([[0.7, 0.3, 0.0]], dtype=torch.float64, requires_grad=True)
    temper_proba(proba, 2.0)[0, 0].backward()
    assert torch.isfinite(proba.grad).all()


@pytest.mark.parametrize("backend", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("bad", [[-0.1, 1.1], [np.nan, 1.0], [0.0, 0.0], [np.inf, 1]])
def test_temper_rejects_what_is_not_a_distribution(bad, backend):
    with pytest.raises(ValueError, match="proba must be non-negative and finite"):
        temper_proba(backend(np.array([[0.5, 0.5], bad])), 2.0)


# -- soft_cross_entropy, brier_loss ------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_equal_the_reference(loss, temperature, weighted, problem):
    _, proba, logits, weight = problem
    weight = weight if weighted else None
    value = loss(proba, logits, sample_weight=weight, temperature=temperature)
    slow = getattr(reference, loss.__name__)(proba, logits, weight, temperature)
    assert_allclose(value, slow, rtol=1e-12)


def test_cross_entropy_closed_forms():
    assert_allclose(soft_cross_entropy([[0.3, 0.7]], [[0.0, 0.0]]), np.log(2))
    # One-hot: the logistic loss log(1 + exp(-margin)).
    assert_allclose(soft_cross_entropy([[0, 1]], [[0.0, 2.0]]), np.log1p(np.exp(-2)))


def test_brier_closed_form():
    assert_allclose(brier_loss([[0, 1]], np.log([[0.25, 0.75]])), 2 * 0.25**2)


@few
@given(problems(), st.floats(-50, 50))
def test_losses_ignore_a_constant_shift_of_the_logits(problem, shift):
    proba, logits = problem
    for loss in LOSSES:
        assert_allclose(
            loss(proba, logits + shift), loss(proba, logits), rtol=1e-9, atol=1e-9
        )


@few
@given(problems())
def test_cross_entropy_is_lowest_at_the_soft_labels_with_their_entropy(problem):
    proba, logits = problem
    with np.errstate(divide="ignore"):
        at_soft_labels = soft_cross_entropy(proba, np.log(proba), reduction="none")
    entropy = [-sum(p * np.log(p) for p in row if p > 0) for row in proba]
    assert_allclose(at_soft_labels, entropy, atol=1e-12)
    elsewhere = soft_cross_entropy(proba, logits, reduction="none")
    assert (elsewhere >= at_soft_labels - 1e-12).all()


@few
@given(problems())
def test_brier_loss_is_between_zero_and_two(problem):
    proba, logits = problem
    rows = brier_loss(proba, logits, reduction="none")
    assert (rows >= 0).all()
    assert (rows <= 2 + 1e-12).all()
    with np.errstate(divide="ignore"):
        assert_allclose(brier_loss(proba, np.log(proba)), 0, atol=1e-30)


@few
@given(problems(), st.randoms(use_true_random=False))
def test_permuting_the_classes_changes_nothing(problem, random):
    proba, logits = problem
    order = list(range(proba.shape[1]))
    random.shuffle(order)
    for loss in LOSSES:
        assert_allclose(
            loss(proba[:, order], logits[:, order]), loss(proba, logits), rtol=1e-12
        )
    assert_allclose(temper_proba(proba[:, order], 3), temper_proba(proba, 3)[:, order])


@few
@given(problems(n_rows=4), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_integer_weights_are_repeated_rows(problem, counts):
    assume(sum(counts) > 0)
    proba, logits = problem
    y = np.arange(4) % proba.shape[1]
    again = np.repeat(np.arange(4), counts)
    for loss in LOSSES:
        weighted = loss(proba, logits, sample_weight=counts)
        assert_allclose(weighted, loss(proba[again], logits[again]), rtol=1e-12)
    weighted = distillation_loss(y, proba, logits, sample_weight=counts)
    repeated = distillation_loss(y[again], proba[again], logits[again])
    assert_allclose(weighted, repeated, rtol=1e-12)


@pytest.mark.parametrize("backend", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("size", [1e3, 1e300, np.inf])
def test_zero_times_log_zero_is_zero(size, backend):
    soft_labels = backend(np.array([[1.0, 0.0], [0.0, 1.0]]))
    logits = backend(np.array([[0.0, -size], [-size, 0.0]]))
    assert float(soft_cross_entropy(soft_labels, logits)) == 0.0
    wrong = backend(np.array([[-size, 0.0], [0.0, -size]]))
    assert float(soft_cross_entropy(soft_labels, wrong)) >= min(size, 1e308)


def test_gradient_is_finite_where_a_class_is_ruled_out():
    logits = torch.tensor([[0.0, -torch.inf, 1.0]], requires_grad=True)
    soft_cross_entropy([[0.5, 0.0, 0.5]], logits).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("backend", [np.asarray, torch.from_numpy])
def test_rows_of_weight_zero_are_as_if_absent(backend):
    soft_labels = backend(np.array([[1.0, 0.0], [0.0, 1.0]]))
    logits = backend(np.array([[0.0, 0.0], [0.0, -np.inf]]))
    weight = backend(np.array([1.0, 0.0]))
    value = soft_cross_entropy(soft_labels, logits, sample_weight=weight)
    assert_allclose(float(value), np.log(2))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradient_of_cross_entropy(temperature, problem):
    # d/dz sum_i w_i CE_i / sum_i w_i = w (softmax(z / S) sum_k p_k - p) / (S sum w)
    _, proba, logits, weight = problem
    proba = proba * np.linspace(0.5, 1.5, 6)[:, None]  # the sum of p stays in
    tensor = torch.tensor(logits, requires_grad=True)
    soft_cross_entropy(
        proba, tensor, sample_weight=weight, temperature=temperature
    ).backward()
    q = softmax(logits / temperature, axis=1)
    expected = weight[:, None] * (q * proba.sum(axis=1, keepdims=True) - proba)
    assert_allclose(
        tensor.grad, expected / (temperature * weight.sum()), rtol=1e-12, atol=1e-15
    )


def test_divergence_is_summed_over_the_classes(problem):
    # Against PyTorch's "batchmean"; its default also divides by the classes.
    _, proba, logits, _ = problem
    divergence = torch.nn.functional.kl_div(
        torch.log_softmax(torch.tensor(logits), 1),
        torch.tensor(proba),
        reduction="batchmean",
    )
    with np.errstate(divide="ignore"):
        entropy = soft_cross_entropy(proba, np.log(proba))
    assert_allclose(soft_cross_entropy(proba, logits) - entropy, divergence, rtol=1e-12)


# -- distillation_loss -------------------------------------------------------------


@pytest.mark.parametrize("mixing_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("temperature", "student_temperature", "used"),
    [(1.0, 1.0, 1.0), (4.0, 1.0, 1.0), (4.0, "same", 4.0), (2.0, 3.0, 3.0)],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_objective_equals_the_reference(
    mixing_weight, temperature, student_temperature, used, weighted, problem
):
    y, proba, logits, weight = problem
    weight = weight if weighted else None
    value = distillation_loss(
        y,
        proba,
        logits,
        temperature=temperature,
        mixing_weight=mixing_weight,
        student_temperature=student_temperature,
        sample_weight=weight,
    )
    slow = reference.distillation_loss(
        y, proba, logits, temperature, mixing_weight, used, weight
    )
    assert_allclose(value, slow, rtol=1e-12)


def test_objective_at_its_corners(problem):
    y, proba, logits, _ = problem
    hard = distillation_loss(y, None, logits, mixing_weight=0)
    assert_allclose(hard, -log_softmax(logits, axis=1)[np.arange(6), y].mean())
    soft = distillation_loss(None, proba, logits, mixing_weight=1)
    assert_allclose(soft, soft_cross_entropy(proba, logits))
    one_hot = np.eye(4)[y]
    for mixing_weight in (0.0, 0.4, 1.0):
        value = distillation_loss(y, one_hot, logits, mixing_weight=mixing_weight)
        assert_allclose(value, hard)


def test_unused_infinite_term_does_not_spoil_the_loss():
    logits = np.array([[0.0, -np.inf]])
    assert distillation_loss([0], [[0.0, 1.0]], logits, mixing_weight=0) == 0
    assert distillation_loss([1], [[1.0, 0.0]], logits, mixing_weight=1) == 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("shuffled", [False, True])
def test_student_meets_the_teacher_at_temperature_one(temperature, shuffled):
    """With a = 1 and S = T the student's own probabilities become the teacher's."""
    proba = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    y = np.array([1, 0]) if shuffled else proba.argmax(axis=1)

    def objective(flat):
        tensor = torch.tensor(flat.reshape(2, 3), requires_grad=True)
        loss = distillation_loss(
            y,
            proba,
            tensor,
            temperature=temperature,
            mixing_weight=1.0,
            student_temperature="same",
        )
        loss.backward()
        return loss.item(), tensor.grad.numpy().ravel()

    found = minimize(objective, np.zeros(6), jac=True, options={"gtol": 1e-9})
    assert_allclose(softmax(found.x.reshape(2, 3), axis=1), proba, atol=1e-6)


def test_student_at_its_own_temperature_one_meets_the_tempered_teacher(problem):
    _, proba, _, _ = problem
    proba = proba[1:]
    logits = torch.tensor(np.log(temper_proba(proba, 3.0)), requires_grad=True)
    distillation_loss(
        None, proba, logits, temperature=3.0, mixing_weight=1.0
    ).backward()
    assert_allclose(logits.grad, 0, atol=1e-15)


@pytest.mark.parametrize("temperature", [1e3, 1e4])
def test_squared_temperature_keeps_the_gradient_from_vanishing(temperature, problem):
    """For large S = T the gradient is the distance of the centred logits over K."""
    _, _, logits, _ = problem
    teacher_logits = logits[::-1].copy()
    tensor = torch.tensor(logits, requires_grad=True)
    distillation_loss(
        None,
        softmax(teacher_logits, axis=1),
        tensor,
        temperature=temperature,
        mixing_weight=1.0,
        student_temperature="same",
    ).backward()
    n_rows, n_classes = logits.shape
    difference = logits - teacher_logits
    difference -= difference.mean(axis=1, keepdims=True)
    limit = difference / n_classes / n_rows
    assert_allclose(tensor.grad, limit, atol=10 / temperature)
    assert np.abs(limit).max() > 0.05


# -- stacks ------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_stack_equals_its_slices(shared, reduction, backend, problem):
    y, proba, _, weight = problem
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(3, 6, 4))
    grid = {
        "temperature": np.array([1.0, 2.0, 5.0]),
        "mixing_weight": np.array([0.0, 0.5, 1.0]),
        "student_temperature": np.array([1.0, 2.0, 0.5]),
    }
    each = [{name: float(grid[name][g]) for name in grid} for g in range(3)]
    if not shared:
        y, proba, weight = y[None], np.stack([proba] * 3), np.stack([weight] * 3)
    # The values of the grid stay NumPy: they are few and checked on the way.
    stacked = distillation_loss(
        backend(y),
        backend(proba),
        backend(logits),
        sample_weight=backend(weight),
        reduction=reduction,
        **grid,
    )
    assert stacked.shape == ((3,) if reduction == "mean" else (3, 6))
    for g in range(3):
        single = distillation_loss(
            y if shared else y[0],
            proba if shared else proba[g],
            logits[g],
            sample_weight=weight if shared else weight[g],
            reduction=reduction,
            **each[g],
        )
        assert_allclose(stacked[g], single, rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_plain_losses_stack_too(loss, problem):
    _, proba, _, weight = problem
    logits = np.random.default_rng(1).normal(size=(2, 3, 6, 4))
    stacked = loss(proba, logits, sample_weight=weight, temperature=np.full(3, 2.0))
    assert stacked.shape == (2, 3)
    single = loss(proba, logits[1, 2], sample_weight=weight, temperature=2.0)
    assert_allclose(stacked[1, 2], single, rtol=1e-12)


# -- NumPy and torch ---------------------------------------------------------------


@pytest.mark.parametrize("convert_all", [False, True])
def test_numpy_and_torch_agree(convert_all, problem):
    y, proba, logits, weight = problem
    options = {"temperature": 2.5, "mixing_weight": 0.4, "student_temperature": 1.5}

    def convert(array):
        return torch.from_numpy(array) if convert_all else array

    tensor = torch.from_numpy(logits)
    for reduction in ("mean", "none"):
        common = {"reduction": reduction}
        mixed = distillation_loss(
            convert(y),
            convert(proba),
            tensor,
            sample_weight=convert(weight),
            **options,
            **common,
        )
        expected = distillation_loss(
            y, proba, logits, sample_weight=weight, **options, **common
        )
        assert isinstance(mixed, torch.Tensor)
        assert_allclose(mixed, expected, rtol=1e-12)
        for loss in LOSSES:
            assert_allclose(
                loss(convert(proba), tensor, sample_weight=convert(weight), **common),
                loss(proba, logits, sample_weight=weight, **common),
                rtol=1e-12,
            )
    tempered = temper_proba(torch.from_numpy(proba), 2.5)
    assert_allclose(tempered, temper_proba(proba, 2.5), rtol=1e-12)


@pytest.mark.parametrize("backend", [np.asarray, torch.from_numpy])
def test_the_dtype_of_the_logits_is_kept(backend, problem):
    y, proba, logits, weight = problem
    loss = distillation_loss(
        y, proba, backend(logits.astype("float32")), sample_weight=weight
    )
    assert "float32" in str(loss.dtype)
    tempered = temper_proba(backend(proba.astype("float32")), 2.0)
    assert "float32" in str(tempered.dtype)


def test_read_only_arrays_are_accepted(problem):
    y, proba, logits, weight = problem
    for array in (y, proba, weight):
        array.setflags(write=False)
    loss = distillation_loss(y, proba, torch.tensor(logits), sample_weight=weight)
    assert torch.isfinite(loss)


def test_gradient_of_a_stack_is_that_of_its_slices(problem):
    _, proba, logits, weight = problem
    stack = torch.tensor(np.stack([logits, logits[::-1]]), requires_grad=True)
    soft_cross_entropy(proba, stack, sample_weight=weight).sum().backward()
    single = torch.tensor(logits, requires_grad=True)
    soft_cross_entropy(proba, single, sample_weight=weight).backward()
    assert_allclose(stack.grad[0], single.grad, rtol=1e-12)


@pytest.mark.parametrize("module", ["losses", "metrics", "_calibration"])
def test_importing_the_mathematics_leaves_torch_alone(module):
    code = f"import sys, skdistill.{module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)


# -- errors ------------------------------------------------------------------------

P, Z = np.full((3, 2), 0.5), np.zeros((3, 2))


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, np.array([1.0, 0.0])])
def test_temperatures_must_be_positive_and_finite(value):
    message = re.escape(repr(value)[:5])
    with pytest.raises(ValueError, match=r"^temperature=.* must be positive"):
        temper_proba(P, value)
    for loss in LOSSES:
        with pytest.raises(ValueError, match=rf"^temperature={message}.* must be"):
            loss(P, Z, temperature=value)
    with pytest.raises(ValueError, match=r"^student_temperature=.* must be positive"):
        distillation_loss([0, 0, 0], P, Z, student_temperature=value)


@pytest.mark.parametrize("value", ["warm", None, True, [1.0], 1j, np.True_])
def test_temperatures_must_be_numbers(value):
    with pytest.raises(TypeError, match=r"^temperature=.* must be a real number"):
        temper_proba(P, value)


def test_student_temperature_may_only_be_same():
    with pytest.raises(
        ValueError, match=r"^student_temperature='other' must be 'same'"
    ):
        distillation_loss([0, 0, 0], P, Z, student_temperature="other")


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, np.array([0.5, 2.0])])
def test_mixing_weight_must_be_in_the_unit_interval(value):
    with pytest.raises(ValueError, match=r"^mixing_weight=.* must be between 0 and 1"):
        distillation_loss([0, 0, 0], P, Z, mixing_weight=value)


def test_mixing_weight_must_be_a_number():
    with pytest.raises(TypeError, match=r"^mixing_weight='half' must be a real number"):
        distillation_loss([0, 0, 0], P, Z, mixing_weight="half")


@pytest.mark.parametrize("backend", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (1, 2), (3, 1), (2,), (4, 3, 2)])
def test_soft_labels_must_have_the_shape_of_the_logits(shape, backend):
    with pytest.raises(ValueError, match=r"^soft_labels has shape .* expected \(3, 2"):
        soft_cross_entropy(np.ones(shape), backend(Z))


@pytest.mark.parametrize("shape", [(2,), (1,), (3, 1), (3, 2)])
def test_labels_and_weights_must_have_one_value_per_row(shape):
    with pytest.raises(ValueError, match=r"^sample_weight has shape"):
        soft_cross_entropy(P, Z, sample_weight=np.ones(shape))
    with pytest.raises(ValueError, match=r"^y has shape"):
        distillation_loss(np.zeros(shape, dtype=int), P, Z)


@pytest.mark.parametrize("shape", [(2,), (0, 2), (2, 0)])
def test_logits_must_be_rows_of_classes(shape):
    with pytest.raises(ValueError, match=r"^logits must have shape .* got \("):
        soft_cross_entropy(np.ones(shape), np.ones(shape))


@pytest.mark.parametrize("reduction", ["sum", None])
def test_reduction_must_be_known(reduction):
    for loss in LOSSES:
        with pytest.raises(ValueError, match=r"^reduction=.* must be 'mean' or 'none'"):
            loss(P, Z, reduction=reduction)


@pytest.mark.parametrize("y", [[0.0, 1.0, 0.0], ["a", "b", "a"], [True, False, True]])
def test_labels_must_be_integers(y):
    with pytest.raises(TypeError, match=r"^y must hold integer class codes; got dtype"):
        distillation_loss(y, P, Z)


@pytest.mark.parametrize("y", [[0, 1, 2], [-1, 0, 1]])
def test_labels_must_be_within_the_classes(y):
    with pytest.raises(ValueError, match=r"^y must be between 0 and 1"):
        distillation_loss(y, P, Z)


@pytest.mark.parametrize("weight", [[-1, 1, 1], [np.nan, 1, 1], [np.inf, 1, 1]])
def test_weights_must_be_non_negative_and_finite(weight):
    with pytest.raises(ValueError, match=r"^sample_weight must be non-negative"):
        soft_cross_entropy(P, Z, sample_weight=weight)


def test_weights_must_not_all_be_zero():
    with pytest.raises(ValueError, match=r"^sample_weight must have a positive sum"):
        soft_cross_entropy(P, Z, sample_weight=np.zeros(3))


def test_arguments_must_be_numeric():
    with pytest.raises(TypeError, match=r"^logits must hold real numbers; got dtype"):
        soft_cross_entropy(P, Z.astype(str))
    with pytest.raises(TypeError, match=r"^soft_labels must hold real numbers"):
        soft_cross_entropy(P.astype(object), Z)


def test_the_target_that_is_used_must_be_given():
    with pytest.raises(ValueError, match=r"^y=None is only allowed with mixing_weight"):
        distillation_loss(None, P, Z)
    with pytest.raises(ValueError, match=r"^soft_labels=None is only allowed with"):
        distillation_loss([0, 0, 0], None, Z)


def test_soft_labels_of_the_objective_must_be_normalisable():
    with pytest.raises(ValueError, match=r"^soft_labels must be non-negative"):
        distillation_loss([0, 0, 0], np.zeros((3, 2)), Z)
