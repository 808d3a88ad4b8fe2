import os
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_classification
from torch import nn

from skdistill import DistillationRanker, DistillationRetriever, _device, _stack
from skdistill._device import (
    fast_products,
    fits_on,
    has_bfloat16_products,
    resolve_device,
    seeded_torch_rng,
    side_stream,
    torch_threads,
)
from skdistill.students import MLPStudent, ModuleStudent

TESTS = Path(__file__).parent
needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device"
)


@pytest.fixture
def no_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("no_accelerator")
def test_auto_is_the_cpu_where_there_is_nothing_else():
    assert resolve_device("auto") == "cpu"
    assert resolve_device("cpu") == "cpu"


def test_auto_prefers_cuda_to_mps(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("mps") == "mps"
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(ValueError, match="'cuda:2' is not available"):
        resolve_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "mps"


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_an_absent_device_is_an_error_in_training_and_the_cpu_in_prediction(device):
    with pytest.raises(ValueError, match=f"device='{device}' is not available here"):
        resolve_device(device)
    assert resolve_device(device, must_exist=False) == "cpu"


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("must_exist", [True, False])
def test_no_device_at_all_is_an_error(must_exist):
    with pytest.raises(ValueError, match="'gpu' is not a torch device"):
        resolve_device("gpu", must_exist=must_exist)


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize(
    "student",
    [MLPStudent(device="cuda"), ModuleStudent(nn.Linear(2, 2), device="cuda")],
)
def test_fitting_on_an_absent_device_is_an_error(student):
    with pytest.raises(ValueError, match="device='cuda' is not available here"):
        student.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1])


@pytest.mark.usefixtures("two_threads")
def test_the_thread_count_goes_back():
    with torch_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_nested_blocks_go_back_one_at_a_time():
    with torch_threads(1):
        with torch_threads(3):
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_the_thread_count_goes_back_after_an_error():
    with pytest.raises(KeyboardInterrupt), torch_threads(1):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_overlapping_blocks_of_two_threads_leave_the_count_as_it_was():
    inside, leave = threading.Event(), threading.Event()
    seen = []

    def first():
        with torch_threads(1):
            inside.set()
            leave.wait(10)
        seen.append(torch.get_num_threads())

    def second():
        with torch_threads(1):
            leave.set()
            worker.join(10)
        seen.append(torch.get_num_threads())

    worker = threading.Thread(target=first)
    worker.start()
    assert inside.wait(10)
    other = threading.Thread(target=second)
    other.start()
    other.join(10)
    fresh = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    fresh.start()
    fresh.join(10)
    assert seen == [2, 2, 2]
    assert torch.get_num_threads() == 2


def precisions():
    backends = torch.backends
    return backends.cuda.matmul.fp32_precision, backends.mkldnn.matmul.fp32_precision


@pytest.fixture
def untouched():
    assert precisions() == ("none", "none")
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.mkldnn.matmul.fp32_precision = "none"


@pytest.mark.usefixtures("untouched")
def test_products_are_fast_in_blocks_on_cuda_only():
    with fast_products("cpu"), fast_products("mps"):
        assert precisions() == ("none", "none")
    with fast_products("cuda"):
        with fast_products("cuda"):
            assert torch.backends.cuda.matmul.allow_tf32
        assert precisions()[0] == "tf32"
        assert torch.get_float32_matmul_precision() == "high"
    assert precisions() == ("none", "none")
    assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(KeyboardInterrupt), fast_products("cuda"):
        raise KeyboardInterrupt
    assert precisions() == ("none", "none")


@pytest.mark.usefixtures("untouched")
def test_the_precision_of_products_goes_back_after_the_last_block():
    first, second = fast_products("cuda"), fast_products("cuda")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert precisions()[0] == "tf32"
    second.__exit__(None, None, None)
    assert precisions() == ("none", "none")


def set_by_older_name(value):
    torch.set_float32_matmul_precision({"ieee": "highest", "tf32": "medium"}[value])


def set_by_newer_name(value):
    torch.backends.cuda.matmul.fp32_precision = value


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("value", ["ieee", "tf32"])
@pytest.mark.parametrize("setter", [set_by_older_name, set_by_newer_name])
def test_a_precision_that_the_user_has_set_is_left_alone(setter, value):
    setter(value)
    before = precisions()
    assert before[0] == value
    with fast_products("cuda"):
        assert precisions() == before
    assert precisions() == before


@pytest.mark.usefixtures("untouched")
def test_that_torch_would_have_another_name_is_no_news(monkeypatch):
    set_precision = torch.set_float32_matmul_precision

    def warn(precision):
        warnings.warn("Please use the new API settings to control TF32", stacklevel=1)
        set_precision(precision)

    monkeypatch.setattr(torch, "set_float32_matmul_precision", warn)
    with fast_products("cuda"):
        assert precisions()[0] == "tf32"
    monkeypatch.undo()


def test_a_seeded_block_is_reproducible_and_leaves_no_trace():
    before = torch.get_rng_state()
    with seeded_torch_rng(3, "cpu"):
        first = torch.rand(4)
    with seeded_torch_rng(3, "cpu"):
        second = torch.rand(4)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        assert torch.equal(torch.rand(4), first)


def test_a_seeded_block_leaves_other_devices_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    with seeded_torch_rng(3, "cpu"):
        pass
    assert not seeded


def test_a_seeded_block_puts_the_generator_of_an_apple_gpu_back(monkeypatch):
    states = ["the user's"]
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states[-1])
    monkeypatch.setattr(torch.mps, "manual_seed", states.append)
    monkeypatch.setattr(torch.mps, "set_rng_state", states.append)
    with pytest.raises(KeyboardInterrupt), seeded_torch_rng(3, "mps"):
        raise KeyboardInterrupt
    assert states == ["the user's", 3, "the user's"]


def perceptron(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, 8), nn.Tanh(), nn.Linear(8, n_classes))


SETTINGS = {
    "dtype": "float64",
    "max_iter": 20,
    "early_stopping": False,
    "random_state": 0,
}
STUDENTS = [
    MLPStudent((16,), activation="tanh", **SETTINGS),
    ModuleStudent(perceptron, **SETTINGS),
]


def with_dropout(n_features, n_classes):
    return nn.Sequential(nn.Dropout(0.3), *perceptron(n_features, n_classes))


def data():
    return make_classification(
        300, n_features=8, n_informative=5, n_classes=3, flip_y=0.1, random_state=0
    )


@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("batch_size", [None, 50])
def test_torch_s_default_device_is_not_asked(student, batch_size):
    X, y = data()
    student = clone(student).set_params(batch_size=batch_size, max_iter=2)
    expected = clone(student).fit(X, y).predict_proba(X)
    with torch.device("meta"):
        found = clone(student).fit(X, y).predict_proba(X)
    assert_array_equal(found, expected)


@pytest.mark.parametrize("batch_size", [None, 50])
def test_rankings_do_not_ask_for_torch_s_default_device(batch_size):
    X, y = data()
    student = MLPStudent(batch_size=batch_size, **{**SETTINGS, "max_iter": 2})
    ranker = DistillationRanker(student=student, mixing_weight=0.0)
    expected = clone(ranker).fit(X, y > 0).decision_function(X)
    with torch.device("meta"):
        found = ranker.fit(X, y > 0).decision_function(X)
    assert_array_equal(found, expected)


@pytest.mark.parametrize("student", STUDENTS)
def test_students_are_trained_in_inference_mode_too(student, monkeypatch):
    monkeypatch.setattr(_stack, "SHARD_FLOPS", 0)
    X, y = data()
    student = clone(student).set_params(max_iter=2)
    expected = clone(student).fit(X, y).predict_proba(X)
    with torch.inference_mode():
        found = student.fit(X, y).predict_proba(X)
    assert_array_equal(found, expected)
    assert_array_equal(student.predict_proba(X), expected)


@pytest.mark.parametrize("student", [*STUDENTS, DistillationRetriever(dim=4)])
def test_students_are_trained_in_their_own_type_under_autocast(student):
    X, y = data()
    student = clone(student).set_params(max_iter=2, random_state=0)
    expected = clone(student).fit(X, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        student.fit(X, y)
    assert_array_equal(student.predict_proba(X), expected.predict_proba(X))


def fitted_on(student, device):
    X, y = data()
    params = {**student.get_params(), "device": device}
    return type(student)(**params).fit(X, y)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("student", STUDENTS)
def test_cuda_and_cpu_agree(student):
    X, _ = data()
    on_cuda, on_cpu = fitted_on(student, "cuda"), fitted_on(student, "cpu")
    assert_allclose(on_cuda.predict_proba(X), on_cpu.predict_proba(X), atol=1e-4)


def run_alone(code, folder, **environment):
    """Run code in a process of its own, which finds the tests."""
    path = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment}
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=120)


@pytest.mark.gpu
@needs_cuda
def test_the_first_way_back_in_a_process_warns_of_nothing(tmp_path):
    """Not that there is no context of CUDA yet in the thread that it has."""
    code = (
        "import warnings\n"
        "from test_device import STUDENTS, fitted_on\n"
        "warnings.simplefilter('error')\n"
        "fitted_on(STUDENTS[1], 'cuda')\n"
    )
    run_alone(code, tmp_path)


def test_ways_back_begin_where_no_gradients_are_taken():
    parameter = nn.Parameter(torch.ones(2))
    with torch.no_grad():
        _stack._begin_ways_back(parameter)
    assert parameter.grad is None


@pytest.mark.gpu
@needs_cuda
def test_random_layers_on_cuda_are_reproducible_and_leave_no_trace():
    X, _ = data()
    before = torch.cuda.get_rng_state()
    student = ModuleStudent(with_dropout, **SETTINGS)
    first, second = (fitted_on(student, "cuda").predict_proba(X) for _ in range(2))
    assert_allclose(first, second, atol=1e-8)
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("student", STUDENTS)
def test_a_student_trained_on_cuda_predicts_where_there_is_none(student, tmp_path):
    X, _ = data()
    on_cuda = fitted_on(student, "cuda")
    expected = on_cuda.predict_proba(X)
    (tmp_path / "student.pkl").write_bytes(pickle.dumps(on_cuda))
    np.save(tmp_path / "X.npy", X)
    code = (
        "import pickle, numpy as np, torch\n"
        "assert not torch.cuda.is_available()\n"
        "student = pickle.load(open('student.pkl', 'rb'))\n"
        "np.save('proba.npy', student.predict_proba(np.load('X.npy')))\n"
    )
    run_alone(code, tmp_path, CUDA_VISIBLE_DEVICES="")
    assert_allclose(np.load(tmp_path / "proba.npy"), expected, atol=1e-6)


@pytest.mark.parametrize("answer", [True, False])
def test_bfloat16_is_what_torch_says_of_the_processor(answer, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: answer)
    assert has_bfloat16_products() is answer
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert has_bfloat16_products() is False


def test_half_of_the_free_memory_of_a_gpu_is_for_data(monkeypatch):
    asked = []

    def mem_get_info(device):
        asked.append(device)
        return 1000, 5000

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    assert fits_on("cuda:1", 500)
    assert not fits_on("cuda:1", 501)
    assert asked == ["cuda:1"] * 2


def test_memory_that_torch_keeps_of_earlier_work_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    assert fits_on("cuda", 700)
    assert not fits_on("cuda", 701)


def test_a_purpose_has_one_stream(monkeypatch):
    side_stream.cache_clear()
    made = iter(range(9))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: (device, next(made)))
    first, second = torch.device("cuda:0"), torch.device("cuda:1")
    asked = [(first, "one"), (first, "other"), (second, "one"), (first, "one")]
    try:
        streams = [side_stream(*each) for each in asked]
    finally:
        side_stream.cache_clear()
    assert streams == [(first, 0), (first, 1), (second, 2), (first, 0)]


def test_what_is_in_host_memory_fits():
    assert fits_on("cpu", 10**18)
    assert fits_on("mps", 10**18)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("student", STUDENTS)
def test_streamed_and_resident_data_agree_on_cuda(student, monkeypatch):
    X, _ = data()
    resident = fitted_on(student, "cuda")
    monkeypatch.setattr(_device, "RESIDENT_SHARE", 0.0)
    streamed = fitted_on(student, "cuda")
    assert_allclose(streamed.predict_proba(X), resident.predict_proba(X), atol=1e-8)
