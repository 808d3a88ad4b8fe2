"""How much faster does a student answer than its teacher?

Median and 99th percentile of the time of a single row's probabilities, and rows a
second for batches from one row to many: a forest as the teacher, MLPStudent beside
scikit-learn's MLPClassifier of the same size, LinearStudent beside LogisticRegression.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import _bench
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from skdistill.students import LinearStudent, MLPStudent

HIDDEN = (64, 64)


def fitted_models(X: Any, y: Any, n_trees: int) -> dict[str, Any]:
    budget: dict[str, Any] = {"max_iter": 5, "device": "cpu", "random_state": 0}
    models = {
        f"forest, {n_trees} trees": RandomForestClassifier(n_trees, random_state=0),
        "MLPClassifier": MLPClassifier(HIDDEN, max_iter=5, random_state=0),
        "MLPStudent": MLPStudent(HIDDEN, numeric_embedding=None, **budget),
        "MLPStudent, as it comes": MLPStudent(HIDDEN, **budget),
        "LogisticRegression": LogisticRegression(),
        "LinearStudent": LinearStudent(),
    }
    with _bench.no_convergence_warnings():
        return {name: model.fit(X, y) for name, model in models.items()}


def batch_times(
    models: dict[str, Any], X: Any, n_rows: int, repeats: int
) -> dict[str, list[float]]:
    """Return the times of each model on batches of so many rows, taken in turn."""
    batch = np.resize(X, (n_rows, X.shape[1]))
    methods = {
        name: partial(model.predict_proba, batch) for name, model in models.items()
    }
    _bench.interleave(methods, 1)
    timings = _bench.interleave(methods, repeats)
    return {name: timing.times for name, timing in timings.items()}


def main(argv: Sequence[str] | None = None) -> None:
    args = _bench.parser(__doc__).parse_args(argv)
    _bench.print_machine(args)
    n_train = _bench.pick(args, 5_000, 2_000, 200)
    n_trees = _bench.pick(args, 200, 200, 5)
    n_single = _bench.pick(args, 1_000, 200, 5)
    sizes = _bench.pick(args, (1, 32, 1_000, 100_000), (1, 32, 1_000, 20_000), (1, 32))
    X, y = _bench.classification(n_train, 20, 5)
    X = X.astype(np.float64)
    models = fitted_models(X, y, n_trees)
    print(f"{X.shape[1]} features, 5 classes, networks of {HIDDEN} hidden units\n")

    times = {n: batch_times(models, X, n, n_single if n == 1 else 5) for n in sizes}
    single = times[1]
    student = np.median(single["MLPStudent"])
    rows = []
    for name in models:
        median, last = np.percentile(single[name], (50, 99))
        rates = [n / float(np.median(times[n][name])) for n in sizes]
        rows.append([name, median * 1e6, last * 1e6, median / student, *rates])
    headers = ["model", "1 row, p50 µs", "p99 µs", "x MLPStudent"]
    headers += [f"rows/s at {n:,}" for n in sizes]
    _bench.print_table(headers, rows)


if __name__ == "__main__":
    main()
