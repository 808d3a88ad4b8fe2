"""What the benchmarks share: sizes, timing, data, tables and the machine's name."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

PACKAGES = ("skdistill", "scikit-learn", "numpy", "scipy", "torch", "skorch")

#: Keeps all cores busy with products until its parent is gone.
SPIN = """
import os, sys, numpy as np
parent, a = int(sys.argv[1]), np.random.default_rng(0).random((1500, 1500))
while os.getppid() == parent:
    a @ a
"""


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows the sizes which all benchmarks have."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = result.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="smaller: about a minute")
    size.add_argument(
        "--tiny", action="store_true", help="smallest: shows that it runs, no more"
    )
    return result


def pick(args: argparse.Namespace, full: Any, quick: Any, tiny: Any) -> Any:
    """Return what belongs to the size asked for."""
    if args.tiny:
        return tiny
    return quick if args.quick else full


@cache
def real_data(folder: str) -> Any:
    """Return the module `load.py` of a folder of real data, whose functions load it."""
    path = Path(folder) / "load.py"
    spec = importlib.util.spec_from_file_location("skdistill_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def optional(name: str) -> Any:
    """Import a competitor; None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def not_installed(name: str) -> str:
    """Say how a competitor is installed."""
    return f"not installed (pip install {name})"


# -- the machine --------------------------------------------------------------------


def print_machine(args: argparse.Namespace) -> None:
    """Print CPU, cores, memory, versions and the size of the run."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    print(f"CPU      {_cpu_name()}, {n_cores()} cores, {memory:.0f} GiB memory")
    print(f"system   {platform.system()} {platform.machine()}, load {load:.1f}")
    names = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            names.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            names.append(f"{package} {not_installed(package)}")
    print("versions " + ", ".join(names))
    print(f"size     {pick(args, 'full', 'quick', 'tiny')}\n")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or "unknown"


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def busy_machine(wanted: bool) -> Iterator[subprocess.Popen[bytes] | None]:
    """Keep all cores busy with another process while the block runs."""
    if not wanted:
        yield None
        return
    command = [sys.executable, "-c", SPIN, str(os.getpid())]
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(n_cores())
    )
    other = subprocess.Popen(command, env={**os.environ, **threads})
    try:
        yield other
    finally:
        other.terminate()
        other.wait()


# -- timing -------------------------------------------------------------------------


@dataclass(frozen=True)
class Timing:
    """The times of one method, in seconds, and what its last call returned."""

    times: list[float]
    result: Any

    @property
    def median(self) -> float:
        return statistics.median(self.times)


def interleave(
    methods: dict[str, Callable[[], Any]], repeats: int, *, pause: float = 0.0
) -> dict[str, Timing]:
    """Time methods in turn, A B A B, so that a change of load meets all alike.

    A pause lets the threads of the method before come to rest: they go on spinning for
    a while after its last product.
    """
    times: dict[str, list[float]] = {name: [] for name in methods}
    results = {}
    for _ in range(repeats):
        for name, method in methods.items():
            sleep(pause)
            start = perf_counter()
            results[name] = method()
            times[name].append(perf_counter() - start)
    return {name: Timing(times[name], results[name]) for name in methods}


def timed(method: Callable[[], Any]) -> Timing:
    """Call a method once."""
    return interleave({"": method}, 1)[""]


@contextmanager
def no_convergence_warnings() -> Iterator[None]:
    """Say nothing of fits that are stopped after a fixed number of epochs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def product_rate(device: str = "cpu", size: int = 2048, repeats: int = 5) -> float:
    """Return the float32 operations a second of torch's matrix product, at its best."""
    import torch

    a = torch.rand(size, size, device=device)

    def product() -> None:
        torch.mm(a, a)
        if device != "cpu":
            torch.cuda.synchronize()

    product()
    return 2.0 * size**3 / min(interleave({"": product}, repeats)[""].times)


def mlp_flops(layer_sizes: Sequence[int], batch_size: int) -> float:
    """Return the operations in the matrix products of a step, forward and backward."""
    shapes = list(pairwise(layer_sizes))
    products = 3 * sum(a * b for a, b in shapes) - shapes[0][0] * shapes[0][1]
    return 2.0 * batch_size * products


def growth(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the exponent b of y = a x^b, by least squares on the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


# -- data ---------------------------------------------------------------------------


def classification(
    n_samples: int, n_features: int, n_classes: int, *, flip_y: float = 0.1
) -> tuple[Any, Any]:
    """Return a synthetic table of unit scale, float32, with wrong labels among it."""
    from sklearn.datasets import make_classification
    from sklearn.preprocessing import scale

    n_informative = max(2, n_features // 2)
    X, y = make_classification(
        n_samples,
        n_features,
        n_informative=n_informative,
        n_redundant=n_features // 4 if n_informative < n_features else 0,
        n_classes=n_classes,
        n_clusters_per_class=2,
        flip_y=flip_y,
        random_state=0,
    )
    return scale(X).astype(np.float32), y


# -- tables -------------------------------------------------------------------------


def print_table(
    headers: Sequence[str], rows: Sequence[Sequence[Any]], *, left: int = 1
) -> None:
    """Print an aligned Markdown table; the first columns are aligned to the left."""
    cells = [list(headers), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    dashes = ["-" * (width - 1) for width in widths]
    rule = [":" + d if i < left else d + ":" for i, d in enumerate(dashes)]
    for row in [cells[0], rule, *cells[1:]]:
        padded = [
            cell.ljust(widths[i]) if i < left else cell.rjust(widths[i])
            for i, cell in enumerate(row)
        ]
        print("| " + " | ".join(padded) + " |")
    print(flush=True)


def _text(cell: Any) -> str:
    """Write a number with three digits or more, and anything else as it is."""
    if cell is None:
        return ""
    if not isinstance(cell, float | np.floating):
        return f"{cell:,}" if isinstance(cell, int | np.integer) else str(cell)
    if not np.isfinite(cell):
        return "-"
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
