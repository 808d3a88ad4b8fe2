"""What the package does on a GPU, real or not, is what it does on the CPU."""

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from gpu_stand_in import Gpu, OnGpu, put_in
from numpy.testing import assert_allclose
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import make_classification
from test_retrieval import SMALL
from test_steps import make_search, needs_cuda
from torch.utils._pytree import tree_leaves

from skdistill import DistillationRanker, _device
from skdistill._device import side_stream
from skdistill._stack import MLPStack
from skdistill._steps import capture
from skdistill.datasets import make_retrieval
from skdistill.metrics import precision_at_k
from skdistill.students import MLPStudent, _mlp
from skdistill.teachers import ModuleTeacher

DEVICE = "cuda:0"


@pytest.fixture
def stand_in(request, monkeypatch):
    gpu = getattr(request, "param", Gpu)()
    put_in(gpu, monkeypatch)
    # Threads have modes of their own.
    pool = partial(_mlp.ThreadPoolExecutor, initializer=gpu.__enter__)
    monkeypatch.setattr(_mlp, "ThreadPoolExecutor", pool)
    side_stream.cache_clear()
    yield gpu
    side_stream.cache_clear()


@pytest.fixture(
    params=["stand-in", pytest.param("real", marks=[pytest.mark.gpu, needs_cuda])]
)
def gpu(request):
    """Return a context in which there is a GPU."""
    if request.param == "real":
        return nullcontext()
    return request.getfixturevalue("stand_in")


def table():
    return make_classification(
        130, n_features=8, n_informative=5, n_classes=3, flip_y=0.1, random_state=0
    )


# -- the stand-in keeps the rules -----------------------------------------------------


def test_tensors_of_two_devices_do_not_mix(stand_in):
    with stand_in:
        there = torch.arange(3.0).to(DEVICE)
        assert there.device.type == "cuda"
        assert there.sum().item() == 3.0
        with pytest.raises(RuntimeError, match="expected all tensors on one device"):
            there + torch.ones(3)
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()


def test_a_capture_does_nothing_and_a_replay_does_it(stand_in):
    with stand_in:
        values = torch.arange(3.0).to(DEVICE)
        graph, result = capture(lambda: values.mul_(2).sum(), stand_in.default_stream)
        assert values.tolist() == [0.0, 1.0, 2.0]
        for expected in (6.0, 12.0):
            graph.replay()
            assert result.item() == expected


@pytest.mark.parametrize("read", [torch.Tensor.item, torch.Tensor.cpu])
def test_a_capture_gives_nothing_to_the_host(read, stand_in):
    with stand_in:
        values = torch.ones(1).to(DEVICE)
        with pytest.raises(RuntimeError, match="not permitted while a stream captures"):
            capture(lambda: read(values), stand_in.default_stream)


def test_what_is_not_waited_for_has_not_arrived(stand_in):
    aside = side_stream(torch.device(DEVICE), "a test")
    with stand_in:
        with stand_in.use(aside):
            moving = torch.ones(2).pin_memory().to(DEVICE, non_blocking=True)
        event = aside.record_event()
        assert moving.tolist() == [-1.0, -1.0]
        stand_in.default_stream.wait_event(event)
        assert moving.tolist() == [1.0, 1.0]


# -- the package ----------------------------------------------------------------------


def new_student(device, **params):
    student = MLPStudent((8,), dtype="float64", batch_size=32, max_iter=8)
    return student.set_params(device=device, random_state=0, **params)


def assert_the_same(fit, gpu, atol=1e-6):
    """Compare what a function of the device returns on both."""
    with gpu:
        found = fit(DEVICE)
    assert_allclose(found, fit("cpu"), rtol=0, atol=atol)


STUDENTS = [
    {},
    {"batch_size": None, "activation": "tanh"},
    {"early_stopping": False, "activation": "logistic"},
    {"n_folds": 1, "numeric_embedding": None},
    {"hidden_layer_sizes": (), "n_folds": 1},
]


@pytest.mark.parametrize("params", STUDENTS, ids=str)
def test_captured_students(params, stand_in):
    X, y = table()

    def fit(device):
        return new_student(device, **params).fit(X, y).predict_proba(X)

    assert_the_same(fit, stand_in, atol=1e-10)
    assert sum(graph.n_replays for graph in stand_in.graphs) > 4


def test_students_whose_capture_fails(stand_in, monkeypatch):
    gradient = MLPStack.gradient

    def reading(self, batch, pool):
        float(batch.x.sum())
        return gradient(self, batch, pool)

    monkeypatch.setattr(MLPStack, "gradient", reading)
    X, y = table()

    def fit(device):
        return new_student(device).fit(X, y).predict_proba(X)

    with pytest.warns(RuntimeWarning, match="without: aten._local_scalar_dense: not"):
        assert_the_same(fit, stand_in, atol=1e-10)
    # One of the folds, one of all rows.
    assert [graph.n_replays for graph in stand_in.graphs] == [0, 0]


@pytest.mark.parametrize("params", STUDENTS, ids=str)
def test_streamed_students(params, stand_in, monkeypatch):
    monkeypatch.setattr(_device, "RESIDENT_SHARE", 0.0)
    X, y = table()

    def fit(device):
        return new_student(device, **params).fit(X, y).predict_proba(X)

    assert_the_same(fit, stand_in, atol=1e-10)
    assert not stand_in.graphs
    assert len(stand_in.copied) > 8
    # Memory is not given back while a step still reads it.
    assert stand_in.copied == stand_in.recorded


class WithoutFloat64(Gpu):
    """As Apple's GPUs are."""

    def do(self, function, args, kwargs):
        result = super().do(function, args, kwargs)
        on_gpu = [x for x in tree_leaves(result) if isinstance(x, OnGpu)]
        assert not any(x.dtype == torch.float64 for x in on_gpu)
        return result


@pytest.mark.parametrize("stand_in", [WithoutFloat64], indirect=True)
def test_float64_is_not_asked_of_the_gpu(stand_in):
    X, y = table()
    student = new_student(DEVICE, dtype="float32")
    ranker = DistillationRanker(student=student, mixing_weight=0.0)
    scores = X[:, :3].astype(np.float32)
    teacher = ModuleTeacher(torch.nn.Identity(), classes=[0, 1, 2], device=DEVICE)
    retriever = clone(SMALL).set_params(n_negatives=20, max_iter=1, device=DEVICE)
    with stand_in:
        student.fit(X, y)
        ranker.fit(X, y > 0)
        retriever.fit(*make_retrieval(150, 60, 30, random_state=0)[:2])
        proba = teacher.predict_proba(scores)
    assert_allclose(proba, softmax(scores, axis=1), rtol=1e-6)


def test_products_in_bfloat16(gpu):
    X, y = table()
    found = []
    for device, place in ((DEVICE, gpu), ("cpu", nullcontext())):
        student = new_student(device, early_stopping=False, dtype="bfloat16")
        with place:
            student.fit(X, y)
        found.append(student.predict_proba(X))
    assert np.abs(found[0] - found[1]).mean() < 0.03


@pytest.mark.parametrize("resident_share", [0.0, 0.5])
def test_searches(resident_share, gpu, monkeypatch):
    """Members of several rates and seeds in one stack, of which some leave."""
    monkeypatch.setattr(_device, "RESIDENT_SHARE", resident_share)
    X, y = table()

    def fit(device):
        search = make_search(device).set_params(cv=2, teacher_cv=2)
        search.student.set_params(n_iter_no_change=1, tol=0.02, n_folds=1)
        return search.fit(X, y).scores_

    assert_the_same(fit, gpu)


@pytest.mark.parametrize("batch_size", [None, 32])
@pytest.mark.parametrize("emphasis", [{}, {"top_share": 0.1}])
def test_rankings(batch_size, emphasis, gpu):
    X, y = table()

    def fit(device):
        student = new_student(device, batch_size=batch_size)
        ranker = DistillationRanker(student=student, mixing_weight=0.0, **emphasis)
        return ranker.fit(X, y > 0).decision_function(X)

    assert_the_same(fit, gpu)


def retrieval(device, **params):
    """Return the embeddings of a retriever."""
    X, Y, _ = make_retrieval(150, 60, 30, random_state=0)
    student = clone(SMALL).set_params(
        dtype="float64", max_iter=2, device=device, **params
    )
    student.fit(X, Y)
    return np.concatenate([student.feature_embeddings_, student.label_embeddings_])


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"n_negatives": 20, "dropout": 0.3, "activation": "relu"},
        {"objective": "logistic"},
    ],
    ids=str,
)
def test_retrieval(params, gpu):
    assert_the_same(partial(retrieval, **params), gpu)


def test_retrieval_with_the_hardest_negatives(stand_in):
    """At first all labels score the same, and a real GPU may choose others of them."""
    params = {"residual": 0, "n_negatives": 20, "n_hard_negatives": 5}
    assert_the_same(partial(retrieval, **params), stand_in)


def test_retrieval_in_bfloat16(gpu):
    X, Y, _ = make_retrieval(300, 60, 30, random_state=0)

    def fit(device):
        student = clone(SMALL).set_params(dtype="bfloat16", device=device)
        return precision_at_k(Y, student.fit(X, Y).decision_function(X), k=1)

    assert_the_same(fit, gpu, atol=0.05)
