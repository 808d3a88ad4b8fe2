"""How much memory does a fit need beside its input?

Each fit runs in a process of its own. Its extra memory is the largest resident size
that the system saw, less the size just before the fit, when the input was in place and
a small fit had loaded what is loaded lazily. A memory-mapped input's pages count as
resident too once they have been read, though the system may drop them at will; for
these the extra is that of private memory, sampled. The extra is fitted as a constant
and so many bytes a row; a row of the input takes 80 bytes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _bench
import numpy as np

N_FEATURES = 20
N_CLASSES = 3
STUDENTS = ("MLPStudent", "LinearStudent")
SOURCES = ("array", "memory map")
CHUNK_ROWS = 100_000


def new_student(name: str) -> Any:
    from skdistill.students import LinearStudent, MLPStudent

    if name == "LinearStudent":
        return LinearStudent(max_iter=3)
    return MLPStudent(batch_size=1024, max_iter=1, device="cpu", random_state=0)


# -- in the child -------------------------------------------------------------------


def fill(X: Any) -> None:
    """Write random numbers into a table, a few rows at a time."""
    rng = np.random.default_rng(0)
    for start in range(0, len(X), CHUNK_ROWS):
        rows = X[start : start + CHUNK_ROWS]
        rows[:] = rng.random(rows.shape, dtype=np.float32)


@contextmanager
def new_input(source: str, n_rows: int) -> Iterator[Any]:
    shape = (n_rows, N_FEATURES)
    if source == "array":
        X = np.empty(shape, dtype=np.float32)
        fill(X)
        yield X
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        fill(np.lib.format.open_memmap(path, "w+", np.float32, shape))
        yield np.load(path, mmap_mode="r")


def private_bytes() -> int:
    """Return the resident memory that belongs to this process alone (Linux)."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * resource.getpagesize()


class PrivatePeak:
    """Samples this process's private memory while a block runs."""

    def __enter__(self) -> PrivatePeak:
        self.before = self.peak = private_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._done.wait(0.002):
            self.peak = max(self.peak, private_bytes())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def largest_resident() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(student: str, source: str, n_rows: int) -> dict[str, float]:
    """Fit once in this process; return the extra memory in bytes."""
    y = np.arange(n_rows) % N_CLASSES
    small = np.zeros((300, N_FEATURES), dtype=np.float32)
    with _bench.no_convergence_warnings():
        new_student(student).fit(small, np.arange(300) % N_CLASSES)
        with new_input(source, n_rows) as X:
            resident = largest_resident()
            with PrivatePeak() as private:
                new_student(student).fit(X, y)
            return {
                "resident": largest_resident() - resident,
                "private": private.peak - private.before,
            }


# -- in the parent ------------------------------------------------------------------


def measure_apart(student: str, source: str, n_rows: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", student, source, str(n_rows)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(answer.stdout)
    return result


def rows_of(student: str, source: str, sizes: Sequence[int]) -> list[list[Any]]:
    """Return the table's rows of one student and one kind of input."""
    key = "resident" if source == "array" else "private"
    extra = [measure_apart(student, source, n)[key] for n in sizes]
    fit = "-"
    if len(sizes) > 1:
        slope, constant = np.polyfit(sizes, extra, 1)
        fit = f"{constant / 2**20:,.0f} MiB + {slope:,.0f} B/row"
    return [
        [
            student,
            source,
            n,
            4 * N_FEATURES * n / 2**20,
            used / 2**20,
            used / (4 * N_FEATURES * n),
            fit if i == 0 else None,
        ]
        for i, (n, used) in enumerate(zip(sizes, extra, strict=True))
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = _bench.parser(__doc__)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child is not None:
        student, source, n_rows = args.child
        print(json.dumps(measure(student, source, int(n_rows))))
        return
    _bench.print_machine(args)
    if not Path("/proc/self/statm").is_file():
        print("needs /proc (Linux)")
        return
    sizes = _bench.pick(
        args, (100_000, 1_000_000, 4_000_000), (100_000, 1_000_000), (20_000,)
    )
    rows = []
    for student in _bench.pick(args, STUDENTS, STUDENTS, STUDENTS[1:]):
        for source in _bench.pick(args, SOURCES, SOURCES, SOURCES[:1]):
            rows += rows_of(student, source, sizes)
    headers = (
        "student",
        "input",
        "rows",
        "input MiB",
        "extra MiB",
        "x input",
        "constant + slope",
    )
    _bench.print_table(headers, rows, left=2)


if __name__ == "__main__":
    main()
