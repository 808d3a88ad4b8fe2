"""How do time and memory of a retrieval student's training grow with the labels?

Sparse rows with random labels, embeddings of 64 dimensions, each training in a process
of its own. The time of a step, and that of the processors for it, is the median over
steps after the first ones. The memory is the largest resident size that the system
saw, less the size just before the fit, when the data was in place and another fit had
loaded what is loaded lazily; beside it stands what `memory_report` says before the
training. The allocator of Linux keeps blocks below 32 MiB that were given back, to use
them again. "in use" is measured without that, in a process of its own in which it
gives them to the system; "resident" as it is by default.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import _bench
import numpy as np
import scipy.sparse as sp

N_FEATURES = 20_000
WORDS, LABELS = 20, 5
DIM = 64
WAYS = {
    "all labels": {"n_negatives": None},
    "1,024 drawn": {"n_negatives": 1024},
    "drawn, bfloat16": {"n_negatives": 1024, "dtype": "bfloat16"},
    "drawn, sparse part": {"n_negatives": 1024, "residual": 200},
    "drawn, hardest kept": {"n_negatives": 1024, "n_hard_negatives": 100},
}
#: Numbers of labels. To score all of a million takes many seconds, a step or a row.
SIZES = {
    "all labels": (1_000, 10_000, 100_000),
    "1,024 drawn": (10_000, 100_000, 1_000_000),
    "drawn, bfloat16": (100_000, 1_000_000),
    "drawn, sparse part": (10_000, 100_000),
    "drawn, hardest kept": (10_000, 100_000),
}
#: Makes the allocator give back at once what is freed.
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


class StepTimes:
    """Notes the time of each step and the processors' time for it, as a callback."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def setup(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_begin(self, estimator: Any, context: Any, **data: Any) -> None:
        self._start = perf_counter(), process_time()

    def on_fit_task_end(self, estimator: Any, context: Any, **data: Any) -> None:
        if context.parent is not None:
            start, used = self._start
            self.times.append((perf_counter() - start, process_time() - used))

    def teardown(self, estimator: Any, context: Any) -> None:
        pass


# -- in the child -------------------------------------------------------------------


def random_rows(n_rows: int, n_columns: int, n_each: int, seed: int) -> sp.csr_matrix:
    """Return sparse rows of ones at random places."""
    rng = np.random.default_rng(seed)
    columns = rng.integers(n_columns, size=n_rows * n_each)
    ends = np.arange(0, n_rows * n_each + 1, n_each)
    ones = np.ones(len(columns), dtype=np.float32)
    matrix = sp.csr_matrix((ones, columns, ends), shape=(n_rows, n_columns))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def status(field: str) -> int:
    """Return a field of the process's status, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def forget_peak() -> int:
    """Give freed memory back and reset the largest resident size; return it."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def measure(way: str, n_labels: int, n_rows: int) -> dict[str, float]:
    """Train once in this process; return time and memory."""
    from skdistill import DistillationRetriever

    params = {"residual": 0, "max_iter": 1, "device": "cpu", "random_state": 0}
    params = {"dim": DIM, "report_every": 1, **params, **WAYS[way]}
    # Threads and their buffers are there from the first steps of this size on.
    small = random_rows(512, N_FEATURES, WORDS, 0), random_rows(512, 4000, LABELS, 1)
    DistillationRetriever(**params).fit(*small).predict_topk(small[0])
    retriever = DistillationRetriever(**params)
    X = random_rows(n_rows, N_FEATURES, WORDS, 2)
    Y = random_rows(n_rows, n_labels, LABELS, 3)
    predicted = retriever.memory_report(X, Y).total
    clock = StepTimes()
    retriever.set_callbacks(clock)
    before = forget_peak()
    retriever.fit(X, Y)
    times = clock.times[len(clock.times) // 4 :]
    return {
        "step": median(wall for wall, _ in times),
        "cpu": median(cpu for _, cpu in times),
        "predicted": predicted,
        "measured": status("VmHWM") - before,
        "model": sum(
            array.nbytes
            for array in (
                retriever.feature_embeddings_,
                retriever.label_embeddings_,
                retriever.label_bias_,
            )
        ),
    }


# -- in the parent ------------------------------------------------------------------


def measure_apart(
    way: str, n_labels: int, n_rows: int, settings: dict[str, str]
) -> dict[str, float]:
    """Train in a process with some settings of the environment."""
    command = [sys.executable, __file__, "--child", way, str(n_labels), str(n_rows)]
    answer = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **settings},
    )
    result: dict[str, float] = json.loads(answer.stdout)
    return result


def rows_of(way: str, sizes: Sequence[int], n_rows: int) -> list[list[Any]]:
    """Return the table's rows of one way."""
    rows = []
    for n_labels in sizes:
        found = measure_apart(way, n_labels, n_rows, {})
        in_use = measure_apart(way, n_labels, n_rows, GIVES_BACK)["measured"]
        rows.append(
            [
                way,
                n_labels,
                1e3 * found["step"],
                1e3 * found["cpu"],
                found["model"] / 2**20,
                found["measured"] / 2**20,
                in_use / 2**20,
                found["predicted"] / 2**20,
                found["predicted"] / in_use,
            ]
        )
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = _bench.parser(__doc__)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child is not None:
        way, n_labels, n_rows = args.child
        print(json.dumps(measure(way, int(n_labels), int(n_rows))))
        return
    _bench.print_machine(args)
    if not Path("/proc/self/clear_refs").is_file():
        print("needs /proc (Linux)")
        return
    n_rows = _bench.pick(args, 8192, 4096, 512)
    rows = []
    for way in _bench.pick(args, WAYS, WAYS, list(WAYS)[1:2]):
        some = [size for size in SIZES[way] if size <= 100_000]
        sizes = _bench.pick(args, SIZES[way], some, (2_000,))
        rows += rows_of(way, sizes, n_rows // 8 if way == "all labels" else n_rows)
    headers = (
        "labels scored",
        "labels",
        "ms/step",
        "CPU ms",
        "model MiB",
        "resident MiB",
        "in use",
        "predicted",
        "ratio",
    )
    _bench.print_table(headers, rows)


if __name__ == "__main__":
    main()
