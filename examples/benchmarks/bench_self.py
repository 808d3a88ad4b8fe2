"""What do a student that teaches itself, and the loss correction, gain on real tables?

Two questions, each on the same rows with the labels as they are and with a share of
them drawn anew, in training and in test rows alike:

- ``teacher="self"``, beside the same student on labels;
- soft labels at temperature 2, by a strong and by a weak teacher, beside the same with
  ``loss_correction=True``; student temperature 2, mixing weight 1.

Log-loss and accuracy on test rows; gains in log-loss are paired, and their standard
error is over the test rows of all seeds. Tables are digits or, where ``SKDISTILL_DATA``
(or ``--data``) names a folder with a ``load.py``, three real ones.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import _bench
import numpy as np
from bench_recipe import loaders, sample
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skdistill import DistillationClassifier
from skdistill.students import LinearStudent, MLPStudent

NAMES = ("spambase", "dry_bean", "letter")
NOISE = (0.0, 0.3)
TEMPERATURE = 2.0


def noisy(rows: tuple[Any, ...], share: float, seed: int) -> tuple[Any, ...]:
    """Draw a share of all labels anew, evenly."""
    X, y, X_test, y_test = rows
    rng = np.random.default_rng([seed, 1])
    n_classes = int(y.max()) + 1

    def drawn(labels: Any) -> Any:
        anew = rng.random(len(labels)) < share
        return np.where(anew, rng.integers(0, n_classes, len(labels)), labels)

    return X, drawn(y), X_test, drawn(y_test)


def scores(model: Any, rows: tuple[Any, ...]) -> Any:
    """Fit a model; return the log-loss of each test row, and whether it is a hit."""
    X, y, X_test, y_test = rows
    with warnings.catch_warnings():
        # A class may have a single row, a weak teacher is warned of.
        warnings.simplefilter("ignore")
        model.fit(X, y)
    column = {label: k for k, label in enumerate(model.classes_)}
    proba = model.predict_proba(X_test)
    picked = [
        p[column[c]] if c in column else 0.0 for p, c in zip(proba, y_test, strict=True)
    ]
    loss = -np.log(np.clip(picked, np.finfo(float).eps, 1.0))
    return np.array([loss, model.classes_[proba.argmax(axis=1)] == y_test])


def means(found: Any) -> str:
    """Return mean log-loss and accuracy over all seeds."""
    loss, hit = np.hstack(found).mean(axis=1)
    return f"{loss:.4f} / {hit:.3f}"


def gain(first: Any, second: Any) -> str:
    """Return how much lower the second losses are, with the standard error."""
    difference = np.hstack(first)[0] - np.hstack(second)[0]
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    mean = difference.mean()
    verdict = "gain" if mean > 2 * error else "loss" if mean < -2 * error else "tie"
    return f"{mean:+.4f} ± {error:.4f} {verdict}"


def students(seed: int) -> dict[str, Any]:
    return {
        "linear": make_pipeline(StandardScaler(), LinearStudent()),
        "tree": DecisionTreeClassifier(
            max_depth=6, min_samples_leaf=5, random_state=seed
        ),
        "network": MLPStudent((32,), random_state=seed),
    }


def teachers(seed: int) -> dict[str, Any]:
    return {
        "strong": RandomForestClassifier(100, min_samples_leaf=3, random_state=seed),
        "weak": RandomForestClassifier(100, max_depth=3, random_state=seed),
    }


def self_distilled(
    data: dict[tuple[str, float], list[Any]], names: Sequence[str]
) -> list[list[Any]]:
    """Return a row of the first table for each table, noise and student."""
    lines = []
    for (table, noise), seeds in data.items():
        for name in names:
            pairs, chosen = [], []
            for seed, rows in enumerate(seeds):
                student = students(seed)[name]
                alone = DistillationClassifier(student=student, mixing_weight=0)
                taught = DistillationClassifier("self", student)
                pairs.append((scores(alone, rows), scores(taught, rows)))
                chosen.append(taught.n_generations_)
            alone_scores, taught_scores = zip(*pairs, strict=True)
            lines.append(
                [
                    table,
                    f"{noise:.0%}",
                    name,
                    ", ".join(map(str, chosen)),
                    means(alone_scores),
                    means(taught_scores),
                    gain(alone_scores, taught_scores),
                ]
            )
    return lines


def corrected(
    data: dict[tuple[str, float], list[Any]], names: Sequence[str]
) -> list[list[Any]]:
    """Return a row of the second table for each table, noise, student and teacher."""
    settings = {
        "temperature": TEMPERATURE,
        "student_temperature": "same",
        "mixing_weight": 1.0,
    }
    lines = []
    for (table, noise), seeds in data.items():
        for name in names:
            for quality in ("strong", "weak"):
                found: dict[str, list[Any]] = {
                    "labels": [],
                    "soft": [],
                    "corrected": [],
                }
                for seed, rows in enumerate(seeds):
                    student = students(seed)[name]
                    soft = DistillationClassifier(
                        teachers(seed)[quality], student, **settings
                    )
                    models = {
                        "labels": DistillationClassifier(
                            student=student, mixing_weight=0
                        ),
                        "soft": soft,
                        "corrected": clone(soft).set_params(loss_correction=True),
                    }
                    for key, model in models.items():
                        found[key].append(scores(model, rows))
                columns = [means(v) for v in found.values()]
                difference = gain(found["soft"], found["corrected"])
                lines.append(
                    [table, f"{noise:.0%}", name, quality, *columns, difference]
                )
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = _bench.parser(__doc__)
    parser.add_argument("--data", default=os.environ.get("SKDISTILL_DATA"))
    parser.add_argument("--tables", nargs="+", default=NAMES, help="which real tables")
    args = parser.parse_args(argv)
    _bench.print_machine(args)
    n = _bench.pick(args, 1000, 500, 150)
    n_seeds = _bench.pick(args, 2, 1, 1)
    names = _bench.pick(
        args, ("linear", "tree", "network"), ("linear", "tree"), ("tree",)
    )
    found = loaders(None if args.tiny else args.data)
    tables = [name for name in args.tables if name in found] or ["digits"]
    data = {}
    for table in tables:
        loaded = found[table]()
        for noise in NOISE[:: -1 if args.tiny else 1][: 1 if args.tiny else 2]:
            seeds = range(n_seeds)
            data[table, noise] = [noisy(sample(loaded, n, s), noise, s) for s in seeds]
    print(f"{n:,} training rows, {n_seeds} seeds")
    print('\nteacher="self": log-loss / accuracy on test rows\n')
    headers = ["table", "noise", "student", "generation", "labels", "self", "gain"]
    _bench.print_table(headers, self_distilled(data, names), left=3)
    print("loss_correction: log-loss / accuracy on test rows\n")
    headers = ["table", "noise", "student", "teacher", "labels", "soft", "corrected"]
    names = ["linear"] if "network" not in names else ["linear", "network"]
    _bench.print_table([*headers, "gain"], corrected(data, names), left=4)


if __name__ == "__main__":
    main()
