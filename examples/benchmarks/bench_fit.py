"""How long does a training step of a multilayer perceptron take, and how good is it?

Everything that trains a two-layer perceptron on a table, in one run: MLPStudent,
scikit-learn's MLPClassifier, skorch, a plain torch loop with a DataLoader, and a
hand-written loop that does nothing but what is needed, the practical limit. The
physical limit is the time that the machine takes for as many operations in one large
matrix product.

All see the same rows, scaled, in float32, for the same number of epochs, with Adam at a
learning rate of 0.001, no weight decay and no early stopping; MLPStudent without its
embeddings and averaging, and once more with them, as it comes. Where that differs, it
is timed with ``dtype="auto"`` too. A step's time is the time of `fit` divided by its
number of steps. ``--busy`` repeats the comparison while another process keeps all cores
busy. ``--types`` instead tells how many times as fast MLPStudent is with its products
in bfloat16, by width and size of the batches.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import _bench
import numpy as np
import torch
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import scale

from skdistill.students import MLPStudent

LEARNING_RATE = 1e-3
BY_HAND = "hand-written loop"
#: Sizes of batches that ``--types`` compares.
BATCH_SIZES = (128, 256, 512)


class Task:
    """Data, network and budget that all methods share."""

    def __init__(
        self, X: Any, y: Any, hidden: Sequence[int], batch_size: int, epochs: int
    ) -> None:
        parts = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
        self.X, self.X_test, self.y, self.y_test = parts
        self.n_classes = int(y.max()) + 1
        self.hidden = tuple(hidden)
        self.layer_sizes = (X.shape[1], *self.hidden, self.n_classes)
        self.batch_size = min(batch_size, len(self.X))
        self.epochs = epochs

    @property
    def n_steps(self) -> int:
        return self.epochs * -(-len(self.X) // self.batch_size)

    def product_seconds(self, size: int) -> float:
        """Time of a step's operations in one large product; measured now."""
        product = partial(_bench.product_rate, size=size)
        rates = [_at_threads(n, product) for n in thread_counts()]
        return _bench.mlp_flops(self.layer_sizes, self.batch_size) / max(rates)


def thread_counts() -> list[int]:
    return sorted({1, _bench.n_cores()})


def _at_threads(n_threads: int, method: Callable[[], Any]) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        return method()
    finally:
        torch.set_num_threads(before)


# -- the methods: each fits and returns a function from rows to probabilities -------


PLAIN = {"numeric_embedding": None, "averaging": False}


def fit_student(task: Task, **params: Any) -> Callable[[Any], Any]:
    student = MLPStudent(
        task.hidden,
        batch_size=task.batch_size,
        max_iter=task.epochs,
        learning_rate_init=LEARNING_RATE,
        weight_decay=0.0,
        early_stopping=False,
        n_iter_no_change=task.epochs,
        device="cpu",
        random_state=0,
        **params,
    )
    return student.fit(task.X, task.y).predict_proba


def fit_mlp_classifier(task: Task) -> Callable[[Any], Any]:
    classifier = MLPClassifier(
        task.hidden,
        batch_size=task.batch_size,
        max_iter=task.epochs,
        learning_rate_init=LEARNING_RATE,
        alpha=0.0,
        n_iter_no_change=task.epochs,
        random_state=0,
    )
    with _bench.no_convergence_warnings():
        return classifier.fit(task.X, task.y).predict_proba


def new_module(task: Task) -> torch.nn.Module:
    layers: list[torch.nn.Module] = []
    for n_in, n_out in pairwise(task.layer_sizes):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def fit_skorch(task: Task, skorch: Any) -> Callable[[Any], Any]:
    torch.manual_seed(0)
    net = skorch.NeuralNetClassifier(
        new_module(task),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
        max_epochs=task.epochs,
        batch_size=task.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    return net.fit(task.X, task.y.astype(np.int64)).predict_proba


def fit_data_loader(task: Task) -> Callable[[Any], Any]:
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    module = new_module(task)
    optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE)
    criterion = torch.nn.CrossEntropyLoss()
    rows = TensorDataset(torch.from_numpy(task.X), torch.from_numpy(task.y))
    for _ in range(task.epochs):
        for x, y in DataLoader(rows, task.batch_size, shuffle=True):
            optimizer.zero_grad()
            criterion(module(x), y).backward()
            optimizer.step()

    def predict_proba(X: Any) -> Any:
        with torch.no_grad():
            return module(torch.from_numpy(X)).softmax(1).numpy()

    return predict_proba


def fit_by_hand(task: Task, n_threads: int) -> Callable[[Any], Any]:
    return _at_threads(n_threads, lambda: HandWritten(task).fit(task).predict_proba)


class HandWritten:
    """A ReLU network in one flat tensor, its backward pass written out.

    With the fastest of torch's operators for each part: `baddbmm` on a batch of one is
    quicker than `addmm`, products with and a softmax over few classes when they come
    first in memory, and the fused step without the optimiser that wraps it.
    """

    def __init__(self, task: Task) -> None:
        generator = torch.Generator().manual_seed(0)
        n_parameters = sum((a + 1) * b for a, b in pairwise(task.layer_sizes))
        self.flat = torch.zeros(n_parameters)
        self.gradient = torch.zeros(n_parameters)
        self.layers = self._views(self.flat, task.layer_sizes)
        self.slopes = self._views(self.gradient, task.layer_sizes)
        for weight, _ in self.layers:
            bound = (6.0 / max(weight.shape[1:])) ** 0.5
            weight.uniform_(-bound, bound, generator=generator)
        self.generator = generator

    @staticmethod
    def _views(flat: Any, layer_sizes: Sequence[int]) -> list[tuple[Any, Any]]:
        views, start = [], 0
        for n_in, n_out in pairwise(layer_sizes):
            middle, stop = start + n_in * n_out, start + (n_in + 1) * n_out
            weight = flat[start:middle].view(1, n_in, n_out)
            views.append((weight, flat[middle:stop].view(1, 1, n_out)))
            start = stop
        # The last layer lies class by class.
        weight, bias = views.pop()
        views.append((weight.view(1, n_out, n_in), bias.view(1, n_out, 1)))
        return views

    def fit(self, task: Task) -> HandWritten:
        X = torch.from_numpy(task.X)
        P = torch.eye(task.n_classes)[torch.from_numpy(task.y)]
        step = self._optimizer()
        for _ in range(task.epochs):
            order = torch.randperm(len(X), generator=self.generator)
            X_shuffled, P_shuffled = X[order][None], P[order][None]
            for start in range(0, len(X), task.batch_size):
                rows = slice(start, start + task.batch_size)
                self._gradient(X_shuffled[:, rows], P_shuffled[:, rows])
                step()
        return self

    def _optimizer(self) -> Callable[[], None]:
        first, second = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        state = ([self.flat], [self.gradient], [first], [second], [], [torch.zeros(())])

        def step() -> None:
            state[-1][0] += 1
            torch._fused_adamw_(
                *state,
                lr=LEARNING_RATE,
                beta1=0.9,
                beta2=0.999,
                weight_decay=0.0,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )

        return step

    def _forward(self, x: Any) -> list[Any]:
        outputs = [x]
        for weight, bias in self.layers[:-1]:
            outputs.append(torch.baddbmm(bias, outputs[-1], weight).relu_())
        weight, bias = self.layers[-1]
        outputs.append(torch.baddbmm(bias, weight, outputs[-1].transpose(1, 2)))
        return outputs

    def _gradient(self, x: Any, p: Any) -> None:
        outputs = self._forward(x)
        slope = outputs.pop().softmax(1).sub_(p.transpose(1, 2)).div_(x.shape[1])
        to_weight, to_bias = self.slopes[-1]
        torch.bmm(slope, outputs[-1], out=to_weight)
        torch.sum(slope, 2, keepdim=True, out=to_bias)
        slope = torch.bmm(slope.transpose(1, 2), self.layers[-1][0])
        for i in range(len(self.layers) - 2, -1, -1):
            slope = torch.ops.aten.threshold_backward(slope, outputs[i + 1], 0)
            to_weight, to_bias = self.slopes[i]
            torch.bmm(outputs[i].transpose(1, 2), slope, out=to_weight)
            torch.sum(slope, 1, keepdim=True, out=to_bias)
            if i:
                slope = torch.bmm(slope, self.layers[i][0].transpose(1, 2))

    def predict_proba(self, X: Any) -> Any:
        return self._forward(torch.from_numpy(X)[None])[-1][0].softmax(0).T.numpy()


# -- the comparison -----------------------------------------------------------------


def compare(task: Task, repeats: int, product_size: int) -> list[list[Any]]:
    """Return the table's rows for one width."""
    methods: dict[str, Callable[[], Any]] = {
        "MLPStudent": partial(fit_student, task, **PLAIN),
        "MLPClassifier": partial(fit_mlp_classifier, task),
        "torch, DataLoader": partial(fit_data_loader, task),
    }
    if MLPStudent(task.hidden, dtype="auto", device="cpu")._in_bfloat16():
        name = "MLPStudent, dtype='auto'"
        methods[name] = partial(fit_student, task, dtype="auto", **PLAIN)
    methods["MLPStudent, as it comes"] = partial(fit_student, task)
    skorch = _bench.optional("skorch")
    if skorch is not None:
        methods["skorch"] = partial(fit_skorch, task, skorch)
    for n in thread_counts():
        name = f"{BY_HAND}, {n} thread{'s' if n > 1 else ''}"
        methods[name] = partial(fit_by_hand, task, n)
    timings = _without_slower_loop(_bench.interleave(methods, repeats, pause=0.2))
    student = timings["MLPStudent"].median
    width = task.hidden[0]
    rows = []
    for name, timing in timings.items():
        proba = timing.result(task.X_test).astype(np.float64)
        proba /= proba.sum(axis=1, keepdims=True)
        rows.append(
            [
                name,
                width,
                timing.median / task.n_steps * 1e6,
                timing.median / student,
                f"{accuracy_score(task.y_test, proba.argmax(1)):.3f}",
                f"{log_loss(task.y_test, proba):.3f}",
            ]
        )
    if skorch is None:
        rows.append(["skorch", width, _bench.not_installed("skorch"), *[None] * 3])
    limit = task.product_seconds(product_size)
    ratio = limit * task.n_steps / student
    rows.append(["as one large product", width, limit * 1e6, ratio, None, None])
    return rows


def compare_types(
    X: Any, y: Any, widths: Sequence[int], epochs: int, repeats: int
) -> list[list[Any]]:
    """Return how many times as fast steps in bfloat16 are, a row for each width."""
    rows = []
    for width in widths:
        row: list[Any] = [width]
        for batch_size in BATCH_SIZES:
            task = Task(X, y, (width, width), batch_size, epochs)
            methods = {
                dtype: partial(fit_student, task, dtype=dtype, **PLAIN)
                for dtype in ("float32", "bfloat16")
            }
            timings = _bench.interleave(methods, repeats)
            row.append(timings["float32"].median / timings["bfloat16"].median)
        rows.append(row)
    return rows


def _without_slower_loop(timings: dict[str, Any]) -> dict[str, Any]:
    """Keep the better thread count of the hand-written loop."""
    loops = [name for name in timings if name.startswith(BY_HAND)]
    best = min(loops, key=lambda name: timings[name].median)
    return {n: t for n, t in timings.items() if n not in loops or n == best}


def load(args: argparse.Namespace, n_samples: int) -> tuple[Any, Any]:
    if args.data is None:
        return _bench.classification(n_samples, 54, 7)
    with np.load(args.data) as arrays:
        X, y = arrays["X"][:n_samples], arrays["y"][:n_samples]
    return scale(X.astype(np.float64)).astype(np.float32), np.unique(y, True, True)[2]


def main(argv: Sequence[str] | None = None) -> None:
    parser = _bench.parser(__doc__)
    parser.add_argument("--busy", action="store_true", help="keep all cores busy")
    parser.add_argument("--types", action="store_true", help="bfloat16 against float32")
    parser.add_argument(
        "--data", help="an .npz file with X and y, instead of synthetic"
    )
    parser.add_argument("--widths", type=int, nargs="+", help="units of both layers")
    parser.add_argument("--epochs", type=int, help="passes over the rows")
    args = parser.parse_args(argv)
    _bench.print_machine(args)
    n_samples = _bench.pick(args, 50_000, 12_500, 700)
    epochs = args.epochs or _bench.pick(args, 10, 2, 1)
    repeats = _bench.pick(args, 3, 3, 1)
    product_size = _bench.pick(args, 2048, 2048, 256)
    every = (64, 128, 256, 384, 512) if args.types else (32, 64, 256, 512)
    widths = args.widths or _bench.pick(args, every, every[:3], (8,))
    X, y = load(args, n_samples)
    load_by = "all cores kept busy by another process" if args.busy else "no load added"
    print(
        f"{len(X):,} x {X.shape[1]} rows, {epochs} epochs, medians of {repeats}, "
        f"{load_by}\n"
    )
    fit_student(Task(X[:500], y[:500], (8,), 256, 1))  # loads what is loaded lazily
    headers = ["method", "width", "µs a step", "x MLPStudent", "accuracy", "log-loss"]
    rows = []
    with _bench.busy_machine(args.busy):
        if args.types:
            headers = ["width", *(f"batches of {size}" for size in BATCH_SIZES)]
            rows = compare_types(X, y, widths, epochs, repeats)
        else:
            for width in widths:
                batch_size = 512 if width >= 512 else 256
                task = Task(X, y, (width, width), batch_size, epochs)
                rows += compare(task, repeats, product_size)
    _bench.print_table(headers, rows)


if __name__ == "__main__":
    main()
