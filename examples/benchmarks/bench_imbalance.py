"""Do mixing weights by class, and class weights, do what they are for?

Tables whose classes are of unlike size: digits, thinned so that each class has two
thirds of the rows of the one before, and, where ``SKDISTILL_DATA`` (or ``--data``)
names a folder with a ``load.py``, real ones. The teacher is a forest. A *coarse* one
takes its two most frequent classes for one, and splits its probability evenly: it is
right on the other classes and on the sum of these. All methods learn from the same
rows; differences are paired, and their standard error is the larger one of that over
seeds and that over test rows. "Best number" is that of 0 (labels), 0.25, 0.5 and 1
whose log-loss on the test rows is lowest: a number that nobody knows beforehand.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import _bench
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdistill import DistillationClassifier
from skdistill.students import LinearStudent, MLPStudent

REAL = ("covertype_part", "dry_bean")
MAX_TEST = 5000
METHODS: dict[str, dict[str, Any]] = {
    "labels": {"mixing_weight": 0.0},
    "0.25": {"mixing_weight": 0.25},
    "0.5": {"mixing_weight": 0.5},
    "1": {"mixing_weight": 1.0},
    "auto": {"mixing_weight": "auto", "temperature": 1.0},
    "per-class": {"mixing_weight": "per-class"},
    "labels, balanced": {"mixing_weight": 0.0, "class_weight": "balanced"},
    "auto, balanced": {
        "mixing_weight": "auto",
        "temperature": 1.0,
        "class_weight": "balanced",
    },
}
NUMBERS = ("labels", "0.25", "0.5", "1")
MIXED = ("0.25", "0.5", "1", "auto", "per-class")
WEIGHED = ("labels", "auto", "labels, balanced", "auto, balanced")


class CoarseTeacher(ClassifierMixin, BaseEstimator):
    """A teacher that cannot tell its two most frequent classes apart."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: Any, y: Any) -> CoarseTeacher:
        self.estimator_ = clone(self.estimator).fit(X, y)
        self.classes_, counts = np.unique(y, return_counts=True)
        self.merged_ = np.argsort(-counts, kind="stable")[:2]
        return self

    def predict_proba(self, X: Any) -> Any:
        proba = self.estimator_.predict_proba(X)
        proba[:, self.merged_] = proba[:, self.merged_].mean(axis=1, keepdims=True)
        return proba


# -- data ---------------------------------------------------------------------------


def thinned_digits() -> Any:
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    keep = rng.random(len(y)) < (2 / 3) ** y
    order = rng.permutation(np.flatnonzero(keep))
    cut = len(order) // 2
    train, test = order[:cut], order[cut:]
    return X[train], y[train], X[test], y[test]


def tables(folder: str | None) -> dict[str, Callable[[], Any]]:
    """Return the tables that there are, by name."""
    found = {"digits, thinned": thinned_digits}
    if folder is None:
        return found
    return found | {name: getattr(_bench.real_data(folder), name) for name in REAL}


def sample(table: Any, n: int, seed: int, noise: float) -> tuple[Any, ...]:
    """Draw training and test rows, of classes with five training rows or more.

    A share of the labels of both is replaced by labels drawn evenly from the classes.
    """
    X, y, X_test, y_test = table
    rng = np.random.default_rng(seed)
    train = rng.permutation(len(y))[:n]
    classes, counts = np.unique(y[train], return_counts=True)
    classes = classes[counts >= 5]
    train = train[np.isin(y[train], classes)]
    test = rng.permutation(np.flatnonzero(np.isin(y_test, classes)))[:MAX_TEST]
    codes = [np.searchsorted(classes, y[train]), np.searchsorted(classes, y_test[test])]
    for some in codes:
        wrong = rng.random(len(some)) < noise
        some[wrong] = rng.integers(len(classes), size=int(wrong.sum()))
    return X[train], codes[0], X_test[test], codes[1]


# -- one comparison -----------------------------------------------------------------


def students(seed: int, max_iter: int) -> dict[str, Any]:
    return {
        "linear": make_pipeline(StandardScaler(), LinearStudent()),
        "MLP 32": MLPStudent((32, 32), max_iter=max_iter, random_state=seed),
    }


def probabilities(
    data: Any, teacher: Any, student: Any, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the test rows' probabilities by each method, and its classifier."""
    X, y, X_test, _ = data
    proba, fitted = {}, {}
    with tempfile.TemporaryDirectory() as memory:
        for name, settings in METHODS.items():
            classifier = DistillationClassifier(
                teacher, student, memory=memory, random_state=seed, **settings
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                warnings.filterwarnings("ignore", "The teacher", UserWarning)
                fitted[name] = classifier.fit(X, y)
            proba[name] = classifier.predict_proba(X_test)
    return proba, fitted


def log_losses(codes: Any, proba: Any) -> Any:
    return -np.log(np.clip(proba[np.arange(len(codes)), codes], 1e-12, 1))


def gain_and_error(first: list[Any], second: list[Any]) -> str:
    """Return the mean difference of the rows' losses, over seeds, and its error."""
    gaps = [a - b for a, b in zip(first, second, strict=True)]
    means = np.array([gap.mean() for gap in gaps])
    rows = np.mean([gap.std() / len(gap) ** 0.5 for gap in gaps])
    seeds = means.std(ddof=1) / len(means) ** 0.5 if len(means) > 1 else 0.0
    return f"{means.mean():+.4f} ± {max(rows, seeds):.4f}"


def weighted_scores(codes: Any, proba: Any, weight: Any) -> list[float]:
    """Return log-loss, by rows, by classes and with the weights undone; recall."""
    losses = log_losses(codes, proba)
    undone = proba / weight
    undone /= undone.sum(axis=1, keepdims=True)
    known = np.unique(codes)
    hit = proba.argmax(axis=1) == codes
    return [
        float(losses.mean()),
        float(np.mean([losses[codes == c].mean() for c in known])),
        float(log_losses(codes, undone).mean()),
        float(np.mean([hit[codes == c].mean() for c in known])),
        float(hit.mean()),
    ]


def main(arguments: list[str] | None = None) -> None:
    options = _bench.parser(__doc__)
    options.add_argument("--data", default=os.environ.get("SKDISTILL_DATA"))
    options.add_argument("--tables", nargs="+", help="only these")
    options.add_argument("--noise", type=float, default=0.0, help="share of labels")
    options.add_argument("--students", nargs="+", help="only these: linear, MLP 32")
    args = options.parse_args(arguments)
    n_seeds, n_rows = _bench.pick(args, 4, 2, 1), _bench.pick(args, 1000, 500, 250)
    n_trees, max_iter = _bench.pick(args, (50, 200), (50, 60), (5, 3))
    found = tables(None if args.tiny else args.data)
    found = {name: found[name] for name in args.tables or found}
    _bench.print_machine(args)
    mixed: list[list[Any]] = []
    weighed: list[list[Any]] = []
    for table, load in found.items():
        whole = load()
        for kind in ("forest", "coarse forest"):
            for name in args.students or students(0, max_iter):
                losses: dict[str, list[Any]] = {method: [] for method in METHODS}
                scores: dict[str, list[Any]] = {method: [] for method in WEIGHED}
                for seed in range(n_seeds):
                    data = sample(whole, n_rows, seed, args.noise)
                    teacher = new_teacher(kind, n_trees, seed)
                    student = students(seed, max_iter)[name]
                    proba, fitted = probabilities(data, teacher, student, seed)
                    for method in METHODS:
                        losses[method].append(log_losses(data[3], proba[method]))
                    for method in WEIGHED:
                        weight = fitted[method].class_weight_
                        scores[method].append(
                            weighted_scores(data[3], proba[method], weight)
                        )
                mixed.append([table, kind, name, *summary(losses)])
                if kind == "forest":
                    for method in WEIGHED:
                        values = np.mean(scores[method], axis=0).tolist()
                        weighed.append([table, name, method, *values])
    report(f"{n_rows} rows, {n_seeds} seeds, {args.noise:.0%} noise", mixed, weighed)


def new_teacher(kind: str, n_trees: int, seed: int) -> Any:
    forest = RandomForestClassifier(n_trees, min_samples_leaf=2, random_state=seed)
    return CoarseTeacher(forest) if kind == "coarse forest" else forest


def summary(losses: dict[str, list[Any]]) -> list[Any]:
    """Return the mean log-loss on labels, and what other targets gain on it."""
    labels = losses["labels"]
    gains = [gain_and_error(labels, losses[method]) for method in MIXED]
    best = min(NUMBERS, key=lambda m: float(np.mean(np.concatenate(losses[m]))))
    gains.append(gain_and_error(losses[best], losses["per-class"]))
    return [float(np.mean([loss.mean() for loss in labels])), *gains]


def report(size: str, mixed: list[list[Any]], weighed: list[list[Any]]) -> None:
    """Print the tables of mixing weights and of class weights."""
    print(f"\nGain in log-loss on labels alone, {size}\n")
    _bench.print_table(
        ["table", "teacher", "student", "labels", *MIXED, "per-class over best number"],
        mixed,
        left=3,
    )
    print(f"\nClass weights, {size}, forest\n")
    _bench.print_table(
        [
            "table",
            "student",
            "method",
            "log-loss",
            "mean of classes",
            "undone",
            "balanced accuracy",
            "accuracy",
        ],
        weighed,
        left=3,
    )


if __name__ == "__main__":
    main()
