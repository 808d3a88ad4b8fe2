"""What does a GPU train: students a second, rows a second, share of its matrix rate?

First a grid of students of one size is trained as one call, for 1 to 256 students; then
one student on tables of many rows, for a growing number of epochs, so that the time of
an epoch is free of everything that is done once. "% of rate" is the share of the
operations a second that a large matrix product of float32 reaches there, in TF32 as in
training. Without a GPU this says so and ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import _bench
import numpy as np
import torch

from skdistill._device import fast_products
from skdistill._front import N_OUTPUTS
from skdistill.students import MLPStudent
from skdistill.students._problem import Problem

N_FEATURES = 20
N_CLASSES = 5
HIDDEN = (64, 64)
#: With the embeddings of the features; the operations of these are not counted.
LAYER_SIZES = (N_FEATURES * (1 + N_OUTPUTS), *HIDDEN, N_CLASSES)


def new_student(device: str, epochs: int, batch_size: int) -> MLPStudent:
    return MLPStudent(
        HIDDEN,
        batch_size=batch_size,
        max_iter=epochs,
        early_stopping=False,
        n_iter_no_change=epochs,
        device=device,
        random_state=0,
    )


def new_problem(n_rows: int) -> Problem:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, N_FEATURES), dtype=np.float32)
    y = np.arange(n_rows) % N_CLASSES
    return Problem(X, y, y, np.arange(N_CLASSES), np.ones(n_rows), ())


def soft_targets(problem: Problem, n_students: int) -> list[Any]:
    """Return an objective a student: mixtures of labels and equal probabilities."""
    labels = np.eye(N_CLASSES)[problem.codes]
    shares = np.linspace(0.0, 0.5, n_students)
    return [(((1 - a) * labels + a / N_CLASSES, 1.0),) for a in shares]


def share_of_rate(n_students: int, n_rows: int, seconds: float, rate: float) -> str:
    flops = n_students * _bench.mlp_flops(LAYER_SIZES, n_rows)
    return f"{100 * flops / seconds / rate:.2g}"


def grids(
    device: str, counts: Sequence[int], n_rows: int, epochs: int, rate: float
) -> list[list[Any]]:
    """Return the table of students a second."""
    problem = new_problem(n_rows)
    student = new_student(device, epochs, 256)
    student._fit_many(problem, soft_targets(problem, 1))  # loads what is loaded lazily
    rows = []
    for n_students in counts:
        objectives = soft_targets(problem, n_students)
        method = partial(student._fit_many, problem, objectives)
        spent = _bench.interleave({"": method}, 3)[""].median
        share = share_of_rate(n_students, n_rows * epochs, spent, rate)
        rows.append([n_students, spent, n_students / spent, share])
    return rows


def epochs(
    device: str, sizes: Sequence[int], batch_sizes: Sequence[int], rate: float
) -> list[list[Any]]:
    """Return the table of seconds an epoch: five epochs less one, over four."""
    rows = []
    for n_rows in sizes:
        problem = new_problem(n_rows)
        for batch_size in batch_sizes:
            fits = {
                n: partial(new_student(device, n, batch_size).fit, problem.X, problem.y)
                for n in (1, 5)
            }
            timings = _bench.interleave({str(n): fit for n, fit in fits.items()}, 3)
            spent = max(timings["5"].median - timings["1"].median, 0.0) / 4
            share = share_of_rate(1, n_rows, spent, rate) if spent else None
            once = timings["1"].median - spent
            rows.append([n_rows, batch_size, spent, once, share])
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = _bench.parser(__doc__)
    parser.add_argument("--device", help="a torch device instead of the GPU")
    args = parser.parse_args(argv)
    device = args.device or "cuda"
    _bench.print_machine(args)
    if device == "cuda" and not torch.cuda.is_available():
        print("no GPU")
        return
    if device == "cuda":
        print(f"GPU      {torch.cuda.get_device_name()}\n")
    with fast_products(torch.device(device).type):
        rate = _bench.product_rate(device, size=_bench.pick(args, 8192, 8192, 256))
    counts = _bench.pick(args, (1, 4, 16, 64, 256), (1, 16, 64), (1, 2))
    sizes = _bench.pick(args, (10**6, 10**7), (10**6,), (1000,))
    n_rows = _bench.pick(args, 10_000, 5_000, 500)
    n_epochs = _bench.pick(args, 10, 5, 1)
    print(f"matrix product: {rate / 1e12:.3g} TFLOP/s")
    print(f"grid: {n_rows:,} rows, {n_epochs} epochs of batches of 256\n")
    headers: Sequence[str] = ("students", "s", "students/s", "% of rate")
    _bench.print_table(headers, grids(device, counts, n_rows, n_epochs, rate))
    headers = ("rows", "batch size", "s an epoch", "s once", "% of rate")
    batch_sizes = _bench.pick(args, (1024, 8192, 65536), (8192,), (128,))
    _bench.print_table(headers, epochs(device, sizes, batch_sizes, rate))


if __name__ == "__main__":
    main()
