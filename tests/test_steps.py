"""Steps that are captured and replayed are the steps."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.naive_bayes import GaussianNB
from test_device import run_alone
from test_streaming import training_set
from torch import nn

from skdistill import DistillationClassifierCV, _front, _steps, _training
from skdistill._optimizers import AdamW
from skdistill._shared_steps import SharedSteps
from skdistill._stack import MLPStack, ModuleStack
from skdistill._steps import CapturedSteps, Steps
from skdistill._training import Settings, train
from skdistill.students import MLPStudent

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device"
)
SETTINGS = Settings(
    max_iter=6,
    batch_size=12,
    learning_rate=0.02,
    weight_decay=0.0,
    tol=1e-4,
    n_iter_no_change=2,
)


# -- on a CPU: which steps are captured, and on what they are replayed ---------------


class Recording:
    """What a capture returns; a replay does what was captured, as a GPU would."""

    def __init__(self, function, result):
        self.function, self.result = function, result
        self.n_replays = 0

    def replay(self):
        self.n_replays += 1
        self.result.copy_(self.function())


@pytest.fixture
def recordings(monkeypatch):
    """The captures that were made; they happen on the CPU."""
    made = []

    def capture(function, present):
        recording = Recording(function, torch.zeros(4, dtype=torch.float64))
        made.append(recording)
        return recording, recording.result

    monkeypatch.setattr(_steps, "capture", capture)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    return made


def trained(data, kind, monkeypatch, settings=SETTINGS):
    """Return the parameters of a stack trained by plain or captured steps."""
    generators = [torch.Generator().manual_seed(g) for g in range(4)]
    stack = MLPStack((4, 5, 3), "tanh", generators, device="cpu", dtype=torch.float64)
    kinds = []

    def steps_on(device, stack, data, optimizer):
        kinds.append(kind)
        return kind

    monkeypatch.setattr(_training, "_steps_on", steps_on)
    history = train(stack, data, settings, generators)
    assert kinds == [kind]
    return stack._kept.numpy().tobytes(), history.n_iter.tolist()


@pytest.mark.parametrize("batch_size", [12, 20, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_replayed_steps_train_to_the_same_bytes(
    weighted, batch_size, recordings, monkeypatch
):
    data = training_set(4, False, weighted)
    # No member stops, and none leaves: a recording knows how many there are.
    settings = replace(SETTINGS, batch_size=batch_size, n_iter_no_change=99)
    captured = trained(data, CapturedSteps, monkeypatch, settings)
    # Forty rows: batches of 10, of 20 and of all.
    assert len(recordings) == 1
    n_steps = 6 * {12: 4, 20: 2, 100: 1}[batch_size]
    assert recordings[0].n_replays == n_steps - 1
    assert captured == trained(data, Steps, monkeypatch, settings)


def test_each_shape_of_batch_has_a_graph(recordings, monkeypatch):
    data = training_set(4, False, True)
    data = replace(data, train_rows=data.train_rows[:, :38])
    settings = replace(SETTINGS, n_iter_no_change=99)
    captured = trained(data, CapturedSteps, monkeypatch, settings)
    # Two batches of 9 rows, two of 10; the first of each is a plain step.
    assert [recording.n_replays for recording in recordings] == [11, 11]
    assert captured == trained(data, Steps, monkeypatch, settings)


def test_stacks_that_become_smaller_are_captured_anew(monkeypatch):
    graphs = []

    class Graph:
        def __init__(self, batch, step):
            self.step = step
            graphs.append(self)

        def run(self, batch):
            assert graphs[-1] is self, "a graph of parameters that are gone"
            return self.step(batch)

    monkeypatch.setattr(_steps, "_Graph", Graph)
    data = training_set(4, True, False)
    settings = replace(SETTINGS, max_iter=60, batch_size=20)
    captured = trained(data, CapturedSteps, monkeypatch, settings)
    assert len(set(captured[1])) > 2
    assert len(graphs) > 1
    assert captured == trained(data, Steps, monkeypatch, settings)


def test_where_a_capture_fails_steps_are_plain(monkeypatch):
    asked = []

    def capture(function, present):
        asked.append(function)
        raise torch.AcceleratorError("operation not permitted when capturing")

    monkeypatch.setattr(_steps, "capture", capture)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    data = training_set(4, True, True)
    with pytest.warns(RuntimeWarning, match="without: operation not permitted"):
        captured = trained(data, CapturedSteps, monkeypatch)
    assert len(asked) == 1
    assert captured == trained(data, Steps, monkeypatch)


def test_other_errors_are_not_hidden(monkeypatch):
    def capture(function, present):
        raise KeyError("a mistake")

    monkeypatch.setattr(_steps, "capture", capture)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    with pytest.raises(KeyError, match="a mistake"):
        trained(training_set(4, True, True), CapturedSteps, monkeypatch)


def test_which_steps_are_captured_and_which_shared():
    data = training_set(1, False, False)
    generators = [torch.Generator().manual_seed(0)]
    stack = MLPStack((4, 3), "tanh", generators, device="cpu", dtype=torch.float64)
    modules = ModuleStack([nn.Linear(4, 3)])
    adamw = AdamW(stack.parameters(), 0.1, 0.0)

    def choose(device, stack, data, optimizer=adamw):
        return _training._steps_on(device, stack, data, optimizer)

    assert choose("cuda", stack, data) is CapturedSteps
    assert choose("cpu", stack, data) is SharedSteps
    assert choose("cpu", stack, data, object()) is Steps
    assert choose("cpu", stack, object()) is Steps
    assert choose("cpu", modules, data) is Steps
    assert choose("mps", stack, data) is Steps
    assert choose("cuda", modules, data) is Steps
    assert choose("cuda", stack, replace(data, device="cuda")) is Steps


@pytest.mark.parametrize("n_shared", [1, 3])
@pytest.mark.parametrize("small", [0, 2**17])
def test_products_at_once_are_those_member_by_member(n_shared, small, monkeypatch):
    monkeypatch.setattr(_front, "SMALL_PRODUCT", small)
    rng = np.random.default_rng(0)
    left = torch.from_numpy(rng.normal(size=(3, 4, 5, 6)))
    right = torch.from_numpy(rng.normal(size=(n_shared, 4, 6, 2)))
    for swapped in (left, left.transpose(2, 3).contiguous().transpose(2, 3)):
        expected = _front._products(swapped, right)
        found = _front._products_at_once(swapped, right)
        assert_allclose(found, expected, atol=1e-12)


# -- on a GPU ------------------------------------------------------------------------


STUDENT = MLPStudent(
    (16,), dtype="float64", batch_size=50, max_iter=30, random_state=0, device="cuda"
)


def data():
    return make_classification(
        330, n_features=8, n_informative=5, n_classes=3, flip_y=0.1, random_state=0
    )


@pytest.mark.gpu
@needs_cuda
def test_a_graph_does_what_the_function_did():
    values = torch.arange(3.0, device="cuda")
    values.mul_(2)  # sets up what a capture may not
    graph, result = _steps.capture(
        lambda: values.mul_(2).sum(), torch.cuda.current_stream("cuda")
    )
    assert values.tolist() == [0.0, 2.0, 4.0]
    for expected in (12.0, 24.0):
        graph.replay()
        assert result.item() == expected


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("batch_size", [50, 64, None])
@pytest.mark.parametrize("numeric_embedding", [None, "periodic"])
def test_captured_and_plain_steps_agree_on_cuda(
    early_stopping, batch_size, numeric_embedding, monkeypatch
):
    X, y = data()
    student = clone(STUDENT).set_params(
        early_stopping=early_stopping,
        batch_size=batch_size,
        numeric_embedding=numeric_embedding,
    )
    captured = clone(student).fit(X, y)
    monkeypatch.setattr(_training, "CapturedSteps", Steps)
    plain = clone(student).fit(X, y)
    assert captured.n_iter_ == plain.n_iter_
    assert_allclose(captured.predict_proba(X), plain.predict_proba(X), atol=1e-8)


def make_search(device):
    """A search whose members differ in all that they may differ in."""
    return DistillationClassifierCV(
        GaussianNB(),
        clone(STUDENT).set_params(device=device, n_iter_no_change=3),
        temperatures=(1.0, 3.0),
        # Of weight 0 all temperatures are the same: the best would be one of several.
        mixing_weights=(0.5, 1.0),
        student_temperature="same",
        student_grid={"learning_rate_init": [0.003, 0.01], "random_state": [0, 1]},
        cv=3,
        teacher_cv=3,
    )


@pytest.mark.gpu
@needs_cuda
def test_a_search_on_cuda_is_that_on_the_cpu():
    """Folds as one stack, members of several rates, and members that leave."""
    X, y = data()
    on_cuda, on_cpu = (make_search(device).fit(X, y) for device in ("cuda", "cpu"))
    assert_allclose(on_cuda.scores_, on_cpu.scores_, atol=1e-4)
    assert on_cuda.best_params_ == on_cpu.best_params_


@pytest.mark.gpu
@needs_cuda
def test_fits_in_threads_on_cuda_agree():
    """Captures wait for each other, and do not mind what other threads do."""
    X, y = data()
    expected = clone(STUDENT).fit(X, y).predict_proba(X)
    found = {}

    def fit(i):
        found[i] = clone(STUDENT).fit(X, y).predict_proba(X)

    threads = [threading.Thread(target=fit, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2]
    for proba in found.values():
        assert_allclose(proba, expected, atol=1e-8)


@pytest.mark.gpu
@needs_cuda
def test_float32_on_cuda_is_near_that_on_the_cpu():
    """Products in TF32 round more."""
    X, y = data()
    before = torch.get_float32_matmul_precision()
    on_cuda, on_cpu = (
        clone(STUDENT)
        .set_params(dtype="float32", device=device, max_iter=10)
        .fit(X, y)
        .predict_proba(X)
        for device in ("cuda", "cpu")
    )
    assert np.abs(on_cuda - on_cpu).mean() < 0.02
    assert torch.get_float32_matmul_precision() == before


#: The first gradient is plain; the next one is captured, where nothing may be read.
FAILED_CAPTURE = """
import warnings
from numpy.testing import assert_allclose
from sklearn.base import clone
from skdistill._stack import MLPStack
from test_steps import STUDENT, data

def reading(self, batch, pool):
    float(batch.x.sum())
    return gradient(self, batch, pool)

X, y = data()
expected = clone(STUDENT).fit(X, y).predict_proba(X)
gradient, MLPStack.gradient = MLPStack.gradient, reading
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    plain = clone(STUDENT).fit(X, y).predict_proba(X)
assert any("could not be captured" in str(warning.message) for warning in seen)
assert_allclose(plain, expected, atol=1e-8)
MLPStack.gradient = gradient
assert_allclose(clone(STUDENT).fit(X, y).predict_proba(X), expected, atol=1e-8)
"""


@pytest.mark.gpu
@needs_cuda
def test_after_a_capture_that_fails_on_cuda_all_goes_on(tmp_path):
    run_alone(FAILED_CAPTURE, tmp_path)


@pytest.mark.gpu
@needs_cuda
def test_many_captures_keep_no_more_memory_than_few():
    X, y = data()

    def kept_after(n_fits):
        for _ in range(n_fits):
            clone(STUDENT).set_params(early_stopping=False, max_iter=1).fit(X, y)
        return torch.cuda.memory_allocated()

    few = kept_after(3)
    # Less than cuBLAS takes for one stream more, on an H100.
    assert kept_after(40) - few < 2**25
