"""Steps of two threads are the steps of one."""

import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from test_streaming import training_set

from skdistill import _shared_steps, _stack, _training
from skdistill._batch import Run
from skdistill._parts import halves, whole
from skdistill._shared_steps import Meeting, SharedSteps
from skdistill._stack import MLPStack
from skdistill._steps import Steps
from skdistill._training import Settings, train

SETTINGS = Settings(
    max_iter=4,
    batch_size=12,
    learning_rate=0.02,
    weight_decay=0.01,
    tol=1e-4,
    n_iter_no_change=99,
)
N_MEMBERS = 4


@pytest.fixture(autouse=True)
def _every_step_is_cut(monkeypatch):
    monkeypatch.setattr(_stack, "SHARD_FLOPS", 0)


def generators(n_members=N_MEMBERS):
    return [torch.Generator().manual_seed(g) for g in range(n_members)]


def new_stack(n_members=N_MEMBERS, **options):
    options = {"device": "cpu", "dtype": torch.float32} | options
    sizes = (4, 37, 16, 3)
    return MLPStack(sizes, "tanh", generators(n_members), **options)


def data_of(n_members, *, validated=False):
    data = training_set(n_members, validated, True)
    terms = [
        replace(t, targets=t.targets.float(), temperature=_float(t.temperature))
        for t in data.terms
    ]
    return replace(data, x=data.x.float(), terms=terms, weight=data.weight.float())


def _float(temperature):
    return temperature.float() if torch.is_tensor(temperature) else temperature


def trained(kind, settings, monkeypatch, n_members=N_MEMBERS, **options):
    """Return the bytes of what a stack learns, and of its losses."""
    monkeypatch.setattr(_training, "_steps_on", lambda *args: kind)
    stack = new_stack(n_members, **options)
    data = data_of(n_members, validated=settings.n_iter_no_change < 99)
    history = train(stack, data, settings, generators(n_members))
    return stack._kept.numpy().tobytes(), np.array(history.loss[:2]).tobytes()


@pytest.mark.parametrize("n_members", [1, 4])
@pytest.mark.parametrize("averaging", [False, True])
@pytest.mark.parametrize("product_dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("rates", [0.02, [0.02, 0.01, 0.02, 0.005]])
@pytest.mark.parametrize("n_pauses", [0, 40])
def test_two_threads_train_to_the_bytes_of_one(
    n_members, averaging, product_dtype, rates, n_pauses, monkeypatch
):
    monkeypatch.setattr(_shared_steps, "N_PAUSES", n_pauses)
    if n_members == 1 and not isinstance(rates, float):
        rates = rates[:1]
    settings = replace(SETTINGS, averaging=averaging, learning_rate=rates)
    options = {"n_members": n_members, "product_dtype": product_dtype}
    shared = trained(SharedSteps, settings, monkeypatch, **options)
    assert shared == trained(Steps, settings, monkeypatch, **options)


def test_members_leave_stacks_that_two_threads_train(monkeypatch):
    rates = [0.2, 0.01, 0.02, 0.005]
    settings = replace(
        SETTINGS, max_iter=40, n_iter_no_change=3, averaging=True, learning_rate=rates
    )
    narrowed = []
    monkeypatch.setattr(
        SharedSteps, "narrowed", _told(narrowed, SharedSteps.narrowed), raising=True
    )
    shared = trained(SharedSteps, settings, monkeypatch)
    assert narrowed
    assert shared == trained(Steps, settings, monkeypatch)


def _told(calls, method):
    def told(self):
        calls.append(self)
        method(self)

    return told


def test_steps_are_shared_by_two_threads(monkeypatch):
    threads = set()
    shard_gradient = MLPStack.shard_gradient

    def noted(self, shard, batch):
        threads.add((shard, threading.get_ident()))
        return shard_gradient(self, shard, batch)

    monkeypatch.setattr(MLPStack, "shard_gradient", noted)
    train(new_stack(), data_of(N_MEMBERS), SETTINGS, generators())
    assert sorted(shard for shard, _ in threads) == [0, 1]
    assert len({thread for _, thread in threads}) == 2


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("step", [0, 5])
def test_an_error_in_one_thread_ends_both(failing, error, step, monkeypatch):
    n_threads = threading.active_count()
    shard_gradient = MLPStack.shard_gradient
    taken = []

    def fail(self, shard, batch):
        if shard == failing:
            taken.append(shard)
            if len(taken) > step:
                raise error("too much")
        return shard_gradient(self, shard, batch)

    monkeypatch.setattr(MLPStack, "shard_gradient", fail)
    with pytest.raises(error, match="too much"):
        train(new_stack(), data_of(N_MEMBERS), SETTINGS, generators())
    assert len(taken) == step + 1
    assert threading.active_count() == n_threads


def test_an_error_before_the_first_step_ends_both_threads(monkeypatch):
    n_threads = threading.active_count()

    def fail(self):
        raise KeyboardInterrupt("before the first step")

    monkeypatch.setattr(SharedSteps, "_counting", fail)
    with pytest.raises(KeyboardInterrupt, match="before the first step"):
        train(new_stack(), data_of(N_MEMBERS), SETTINGS, generators())
    assert threading.active_count() == n_threads


def test_threads_meet_at_the_same_point():
    meeting, reached = Meeting(), [0, 0]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def go(side):
        for _ in range(300):
            reached[side] += 1
            meeting.sides[side].meet()
            seen.append(reached[0] - reached[1])
            meeting.sides[side].meet()

    seen = []
    other = threading.Thread(target=go, args=(1,))
    try:
        other.start()
        go(0)
    finally:
        other.join()
        sys.setswitchinterval(interval)
    assert seen == [0] * 600


def test_whoever_has_waited_in_vain_gives_the_processor_up(monkeypatch):
    monkeypatch.setattr(_shared_steps, "N_PAUSES", 3)
    first, second = Meeting().sides
    pauses = []
    first._pause = lambda: pauses.append(1)
    second._others.put(True)
    first.meet()
    assert pauses == []
    late = threading.Timer(0.05, second._others.put, (True,))
    late.start()
    first.meet()
    assert pauses == [1] * 3
    late.join()
    late = threading.Timer(0.05, second._others.put, (True,))
    late.start()
    first.meet()
    late.join()
    assert pauses == [1] * 3


# -- runs of steps, and parts of the parameters ------------------------------------


@pytest.mark.parametrize("size", [4, 7])
def test_shards_of_a_run_are_the_shards_of_its_batches(size):
    data = data_of(2)
    ((run, share),) = replace(data, train_rows=data.train_rows[:, : 3 * size]).runs(
        size, generators(2)
    )
    assert share == 1 / 3
    assert run.batch_size == size
    first, second = run.shards()
    assert isinstance(first, Run)
    batches = zip(run.batches(), first.batches(), second.batches(), strict=True)
    for whole_batch, *parts in batches:
        for part, shard in zip(parts, whole_batch.shards(), strict=True):
            assert torch.equal(part.x, shard.x)
            for (one, t_one), (other, t_other) in zip(
                part.terms, shard.terms, strict=True
            ):
                assert torch.equal(one, other)
                assert t_one is t_other or t_one == t_other


@pytest.mark.parametrize("by_member", [False, True])
@pytest.mark.parametrize("shape", [(1, 5), (1, 300), (3, 129), (2, 1000)])
def test_halves_make_up_the_whole(shape, by_member):
    values = torch.arange(float(np.prod(shape))).view(shape)
    first, second = (part(values) for part in halves(by_member=by_member))
    assert first.shape[1] % 64 == 0
    assert abs(second.shape[1] - first.shape[1]) <= 2 * 64
    joined = torch.cat([first, second], 1)
    assert_array_equal(joined.view(shape), values)
    # Views: what is done to them is done to the whole.
    first.zero_()
    second.zero_()
    assert not whole(values).any()
