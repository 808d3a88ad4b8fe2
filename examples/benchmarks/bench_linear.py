"""How long does LinearStudent take to the solution of LogisticRegression?

On labels both solve the same convex problem with L-BFGS. They get the same `C` and the
same `tol`, and the value of the objective that each reaches is computed alike, to eight
digits: times are comparable only where these agree. The tables are a dense one, with
two classes and with seven, and a sparse one that looks like text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import _bench
import numpy as np
import scipy.sparse as sp
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from skdistill.students import LinearStudent

C = 1.0
TOL = 1e-4
MAX_ITER = 1000


def text_like(n_samples: int, n_words: int, n_classes: int) -> tuple[Any, Any]:
    """Return weighted word counts, about 60 words a row, and topics as classes."""
    rng = np.random.default_rng(0)
    y = rng.integers(n_classes, size=n_samples)
    frequency = 1.0 / np.arange(1, n_words + 1)
    topics = frequency * rng.lognormal(0.0, 1.0, (n_classes, n_words))
    topics /= topics.sum(axis=1, keepdims=True)
    # Frequent words come twice or more: 90 drawn are some 60 different ones.
    words = np.concatenate([rng.choice(n_words, 90, p=topics[label]) for label in y])
    rows = np.repeat(np.arange(n_samples), 90)
    X = sp.csr_array(
        (np.ones(len(words)), (rows, words)), shape=(n_samples, n_words), dtype=float
    )
    X.sum_duplicates()
    X.data = 1.0 + np.log(X.data)
    norm = np.sqrt(X.multiply(X).sum(axis=1))
    return sp.csr_array(sp.diags_array(1.0 / norm) @ X), y


def objective(model: Any, X: Any, y: Any) -> float:
    """Return the penalised mean log-loss of a linear model."""
    scores = X @ model.coef_.T + model.intercept_
    if scores.shape[1] == 1:
        scores = np.column_stack([np.zeros(len(y)), scores])
    loss = -log_softmax(scores, axis=1)[np.arange(len(y)), y].sum()
    return float(loss + 0.5 / C * (model.coef_**2).sum()) / len(y)


def compare(name: str, X: Any, y: Any, repeats: int) -> list[list[Any]]:
    """Return the table's rows for one data set."""
    settings: dict[str, Any] = {"C": C, "tol": TOL, "max_iter": MAX_ITER}
    methods = {
        "LogisticRegression": partial(LogisticRegression(**settings).fit, X, y),
        "LinearStudent": partial(LinearStudent(**settings).fit, X, y),
    }
    timings = _bench.interleave(methods, repeats)
    reference = timings["LogisticRegression"].median
    return [
        [
            name,
            method,
            timing.median,
            timing.median / reference,
            int(np.max(timing.result.n_iter_)),
            f"{objective(timing.result, X, y):.8f}",
        ]
        for method, timing in timings.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    args = _bench.parser(__doc__).parse_args(argv)
    _bench.print_machine(args)
    repeats = _bench.pick(args, 5, 3, 1)
    n_dense = _bench.pick(args, 50_000, 10_000, 300)
    n_sparse, n_words = _bench.pick(args, (20_000, 50_000), (4_000, 10_000), (100, 500))
    n_features = _bench.pick(args, 100, 100, 20)
    rows = []
    for n_classes in (2, 7):
        X, y = _bench.classification(n_dense, n_features, n_classes)
        X = X.astype(np.float64)
        name = f"dense {n_dense:,} x {n_features}, {n_classes} classes"
        rows += compare(name, X, y, repeats)
    X, y = text_like(n_sparse, n_words, 20)
    name = (
        f"sparse {n_sparse:,} x {n_words:,}, 20 classes, {X.nnz / n_sparse:.0f} a row"
    )
    rows += compare(name, X, y, repeats)
    headers = ("data", "method", "s", "x LogisticRegression", "iterations", "objective")
    _bench.print_table(headers, rows, left=2)


if __name__ == "__main__":
    main()
