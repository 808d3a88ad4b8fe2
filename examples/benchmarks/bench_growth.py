"""How does the time grow with rows, classes and the size of the grid?

MLPStudent for a fixed number of epochs against the rows, then against the classes, and
the students' part of DistillationClassifierCV (soft labels are given, so there is no
teacher) against the number of candidates. The exponent b of a fitted time ~ size^b is
printed below: 1 is proportional, and less than 1 means that a part does not grow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import _bench
import numpy as np

from skdistill import DistillationClassifierCV
from skdistill.students import MLPStudent

N_FEATURES = 20


def new_student(epochs: int, *, width: int = 64, batch_size: int = 256) -> MLPStudent:
    return MLPStudent(
        (width,),
        batch_size=batch_size,
        max_iter=epochs,
        early_stopping=False,
        n_iter_no_change=epochs,
        device="cpu",
        random_state=0,
    )


def random_rows(n_rows: int, n_classes: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, N_FEATURES), dtype=np.float32)
    return X, rng.permutation(np.arange(n_rows) % n_classes)


def fit_rows(n_rows: int) -> Any:
    return partial(new_student(1).fit, *random_rows(n_rows, 5))


def fit_classes(n_classes: int, n_rows: int) -> Any:
    return partial(new_student(2).fit, *random_rows(n_rows, n_classes))


def fit_grid(n_candidates: int, n_rows: int) -> Any:
    X, y = random_rows(n_rows, 5)
    soft_labels = np.random.default_rng(1).dirichlet(np.ones(5), n_rows)
    search = DistillationClassifierCV(
        student=new_student(2, width=16),
        temperatures=np.geomspace(0.5, 4.0, n_candidates),
        mixing_weights=(0.5,),
        cv=3,
        refit=False,
    )
    return partial(search.fit, X, y, soft_labels=soft_labels)


def measure(
    axis: str, sizes: Sequence[int], task: Callable[[int], Any], repeats: int
) -> tuple[list[list[Any]], float]:
    """Return the table's rows of one axis, and the fitted exponent."""
    methods = {str(size): task(size) for size in sizes}
    timings = _bench.interleave(methods, repeats)
    seconds = [timings[str(size)].median for size in sizes]
    rows = [
        [axis, size, spent, spent / size * 1e6]
        for size, spent in zip(sizes, seconds, strict=True)
    ]
    return rows, _bench.growth(sizes, seconds)


def main(argv: Sequence[str] | None = None) -> None:
    args = _bench.parser(__doc__).parse_args(argv)
    _bench.print_machine(args)
    repeats = _bench.pick(args, 3, 3, 1)
    n_rows = _bench.pick(args, 10_000, 4_000, 200)
    axes = {
        "rows": (
            _bench.pick(
                args,
                (10_000, 30_000, 100_000, 300_000, 1_000_000),
                (10_000, 30_000, 100_000),
                (200, 400),
            ),
            fit_rows,
        ),
        "classes": (
            _bench.pick(args, (2, 10, 50, 200, 1000), (2, 20, 200), (2, 4)),
            partial(fit_classes, n_rows=n_rows),
        ),
        "candidates": (
            _bench.pick(args, (1, 4, 16, 64), (1, 4, 16), (1, 2)),
            partial(fit_grid, n_rows=n_rows),
        ),
    }
    fit_rows(500)()  # loads what is loaded lazily
    rows: list[list[Any]] = []
    exponents = []
    for axis, (sizes, task) in axes.items():
        of_axis, exponent = measure(axis, sizes, task, repeats)
        rows += of_axis
        exponents.append(f"{axis} {exponent:.2f}")
    _bench.print_table(("axis", "size", "s", "µs each"), rows)
    print("exponents: " + ", ".join(exponents))


if __name__ == "__main__":
    main()
