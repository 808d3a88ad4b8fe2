"""The benchmarks run: each at its smallest size, nothing timed is asserted."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("bench_*.py"))

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs a checkout")


@pytest.fixture
def benchmark(request, monkeypatch):
    """Import a benchmark as Python does when it runs the file."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module(request.param)
    for name in ("_bench", *NAMES):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("benchmark", NAMES, indirect=True)
def test_runs_at_its_smallest_size(benchmark, capsys):
    """Each benchmark names the machine and prints a table, or says why not."""
    benchmark.main(["--tiny"])
    printed = capsys.readouterr().out
    assert printed.startswith("CPU ")
    assert "| :--" in printed or "no GPU" in printed or "needs /proc" in printed


@pytest.mark.parametrize("benchmark", ["bench_gap"], indirect=True)
def test_gap_goes_on_from_its_results(benchmark, capsys, tmp_path, monkeypatch):
    """The quick size, all students: a second run computes nothing, prints the same."""
    command = ["--quick", "--cells", "--results", str(tmp_path / "lines.jsonl")]
    benchmark.main(command)
    printed = capsys.readouterr().out
    assert "6 cells" in printed
    for student in ("linear", "MLP 32", "tree"):
        assert f"| {student} " in printed
    monkeypatch.setattr(benchmark, "run_cell", None)
    benchmark.main(command)
    assert capsys.readouterr().out.split("size")[1] == printed.split("size")[1]


@pytest.mark.parametrize("benchmark", ["_gap_report"], indirect=True)
@pytest.mark.parametrize(
    ("gains", "error"),
    [([0.1, 0.3, 0.2], 0.1 / 3**0.5), ([0.1, 0.1, 0.1], 0.03 / 3**0.5), ([0.1], 0.03)],
)
def test_gap_over_seeds_has_the_larger_standard_error(benchmark, gains, error):
    """That of the seeds or that of the test rows, here .03 a seed."""
    cell = {"table": "a", "n_rows": 9, "noise": 0.0, "teacher": "t", "student": "s"}
    lines = [
        {**cell, "seed": seed, "chosen": {}, "methods": {"defaults": method}}
        for seed, gain in enumerate(gains)
        for method in [{"gain": gain, "gain_error": 0.03, "ahead": 0, "ahead_error": 0}]
    ]
    (line,) = benchmark.over_seeds(lines)
    found = line["methods"]["defaults"]
    assert found["gain"] == pytest.approx(sum(gains) / len(gains))
    assert found["gain_error"] == pytest.approx(error)
    assert line["n_seeds"] == len(gains)


@pytest.mark.parametrize("benchmark", ["bench_gpu"], indirect=True)
def test_gpu_benchmark_runs_on_the_cpu(benchmark, capsys):
    benchmark.main(["--tiny", "--device", "cpu"])
    assert "students/s" in capsys.readouterr().out


@pytest.mark.parametrize("benchmark", ["_bench"], indirect=True)
def test_busy_machine_is_idle_again(benchmark):
    """The process that keeps the cores busy runs within the block, and no longer."""
    with benchmark.busy_machine(True) as other:
        assert other.poll() is None
    assert other.poll() is not None


@pytest.mark.parametrize("benchmark", ["bench_fit"], indirect=True)
def test_data_from_a_file(benchmark, capsys, tmp_path):
    import numpy as np

    rng = np.random.default_rng(0)
    path = tmp_path / "table.npz"
    np.savez(path, X=rng.normal(size=(200, 3)), y=np.repeat(["a", "b"], 100))
    benchmark.main(["--tiny", "--data", str(path)])
    assert "200 x 3 rows" in capsys.readouterr().out


@pytest.mark.parametrize("benchmark", ["bench_fit"], indirect=True)
def test_types_are_compared_by_width_and_batch(benchmark, capsys):
    benchmark.main(["--tiny", "--types"])
    *_, head, _, row = capsys.readouterr().out.strip().splitlines()
    assert head.count("batches of") == len(benchmark.BATCH_SIZES)
    assert all(float(cell) > 0 for cell in row.strip("|").split("|"))


FAKE_OMIKUJI = """
class Model:
    default_hyper_param = staticmethod(dict)

    @classmethod
    def train_on_data(cls, path, hyper_param, n_threads):
        model, lines = cls(), open(path).read().splitlines()
        labels = [line.split(" ")[0] for line in lines[1:]]
        model.ranked = sorted(range(30), key=lambda j: -"".join(labels).count(str(j)))
        return model

    def init_prediction_thread_pool(self, n_threads):
        pass

    def predict(self, pairs, top_k):
        return [(j, 1.0 / (2 + rank)) for rank, j in enumerate(self.ranked[:top_k])]

    def save(self, folder):
        open(folder + "/model", "w").write("x" * 1000)
"""


@pytest.mark.parametrize("benchmark", ["bench_retrieval"], indirect=True)
def test_retrieval_from_files_beside_another_library(
    benchmark, capsys, tmp_path, monkeypatch
):
    from skdistill.datasets import dump_extreme_text, make_retrieval

    X, Y, _ = make_retrieval(160, 40, 30, random_state=0)
    for name, rows in {"train": slice(120), "test": slice(120, None)}.items():
        dump_extreme_text(X[rows], Y[rows], tmp_path / f"{name}.txt")
    (tmp_path / "omikuji.py").write_text(FAKE_OMIKUJI)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = ["--tiny", "--peer-python", sys.executable]
    command += ["--train", f"{tmp_path}/train.txt", "--test", f"{tmp_path}/test.txt"]
    command += ["--results", str(tmp_path / "kept")]
    benchmark.main(command)
    printed = capsys.readouterr().out
    assert "train: 120 rows, 40 features, 30 labels" in printed
    assert "pecos" in printed
    assert "not installed" in printed
    assert "| omikuji" in printed
    assert "0.001" in printed  # MB of the saved model
    # All numbers were kept: the second run computes nothing and prints the same.
    monkeypatch.setattr(benchmark, "DistillationRetriever", None)
    benchmark.main(command)
    again = capsys.readouterr().out
    assert again.split("size")[1] == printed.split("size")[1]


def test_every_benchmark_is_described():
    text = (FOLDER / "README.md").read_text("utf-8")
    assert all(f"`{name}.py`" in text for name in NAMES)
