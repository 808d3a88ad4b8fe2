"""How long does it take to choose a temperature and a mixing weight?

A grid of 5 temperatures x 5 mixing weights, scored on 5 folds, with a forest as the
teacher and a network of 64 hidden units as the student. Compared are

- DistillationClassifierCV: a teacher for each two folds, the students as stacks; and
  with teacher_cv=5, the teachers of the grid searches: within each fold the teacher is
  cross-fitted on 5 more;
- GridSearchCV over DistillationClassifier with `memory`: the teacher once a fold and
  once more for the refit, the students one after the other;
- the same without `memory`: the teacher once a candidate and fold. A few candidates are
  run; one with mixing weight 0 stands for the 5 of these, which need no teacher, and
  one with weight 0.5 for the other 20;
- by hand, with skorch: the teacher once a fold, a net trained on mixed targets a
  candidate; some candidates are run and their time is scaled.

All students are trained for the same number of epochs, on batches of 128. What is
scaled is marked with ~. The teachers' own time is a row of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from time import perf_counter
from typing import Any

import _bench
import numpy as np
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.preprocessing import StandardScaler

from skdistill import DistillationClassifier, DistillationClassifierCV
from skdistill.losses import temper_proba
from skdistill.students import MLPStudent

Candidate = tuple[float, float]

TEMPERATURES = (0.5, 0.7, 1.0, 2.0, 4.0)
MIXING_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
WIDTH = 64
BATCH_SIZE = 128
NESTED = "the same, teacher_cv=5"


class Task:
    """Data, grid, teacher and student that all searches share."""

    def __init__(
        self, n_samples: int, n_trees: int, epochs: int, *, tiny: bool = False
    ) -> None:
        self.X, self.y = _bench.classification(n_samples, 20, 4, flip_y=0.2)
        self.epochs = epochs
        self.n_folds = 3 if tiny else 5
        self.temperatures = (1.0,) if tiny else TEMPERATURES
        self.mixing_weights = (0.0, 0.5) if tiny else MIXING_WEIGHTS
        self.candidates = list(product(self.temperatures, self.mixing_weights))
        self.teacher = RandomForestClassifier(
            n_trees, min_samples_leaf=5, random_state=0
        )
        self.student = MLPStudent(
            (WIDTH,),
            batch_size=BATCH_SIZE,
            max_iter=epochs,
            early_stopping=False,
            n_iter_no_change=epochs,
            numeric_embedding=None,
            averaging=False,
            device="cpu",
            random_state=0,
        )

    def folds(self) -> Iterator[tuple[Any, Any]]:
        return StratifiedKFold(self.n_folds).split(self.X, self.y)

    def soft_labels(self, rows: Any) -> Any:
        """Return the teacher's out-of-fold probabilities of some rows."""
        X, y = self.X[rows], self.y[rows]
        return cross_val_predict(
            clone(self.teacher), X, y, cv=self.n_folds, method="predict_proba"
        )


# -- the searches: each returns the candidates' mean scores --------------------------


def by_stacks(
    task: Task, n_jobs: int | None, *, nested: bool = False
) -> dict[Candidate, float]:
    search = DistillationClassifierCV(
        task.teacher,
        task.student,
        temperatures=task.temperatures,
        mixing_weights=task.mixing_weights,
        cv=task.n_folds,
        teacher_cv=task.n_folds if nested else "auto",
        n_jobs=n_jobs,
    ).fit(task.X, task.y)
    scores = search.cv_results_["mean_test_score"]
    return dict(zip(task.candidates, scores, strict=True))


def by_grid_search(
    task: Task,
    candidates: Sequence[Candidate],
    *,
    cached: bool,
    n_jobs: int | None = None,
    refit: bool = True,
) -> dict[Candidate, float]:
    grid = [{"temperature": [t], "mixing_weight": [a]} for t, a in candidates]
    with tempfile.TemporaryDirectory() as folder:
        classifier = DistillationClassifier(
            task.teacher,
            task.student,
            cv=task.n_folds,
            memory=folder if cached else None,
        )
        search = GridSearchCV(
            classifier,
            grid,
            scoring="neg_log_loss",
            cv=task.n_folds,
            n_jobs=n_jobs,
            refit=refit,
        ).fit(task.X, task.y)
    scores = search.cv_results_["mean_test_score"]
    return dict(zip(candidates, scores, strict=True))


def without_cache(task: Task) -> float:
    """Return the seconds that a search without a cache takes, from two candidates."""
    seconds = 0.0
    for mixing_weight in (0.0, 0.5):
        alike = [c for c in task.candidates if (c[1] > 0) == (mixing_weight > 0)]
        start = perf_counter()
        by_grid_search(task, [(1.0, mixing_weight)], cached=False, refit=False)
        seconds += (perf_counter() - start) * len(alike)
    return seconds


def by_hand(
    task: Task, skorch: Any, candidates: Sequence[Candidate]
) -> tuple[float, dict[Candidate, float]]:
    """Return the seconds that a search with skorch takes, and the scores it found."""
    scores: dict[Candidate, list[float]] = {candidate: [] for candidate in candidates}
    teacher_seconds = net_seconds = 0.0
    for train, test in task.folds():
        start = perf_counter()
        soft_labels = task.soft_labels(train)
        teacher_seconds += perf_counter() - start
        start = perf_counter()
        scaler = StandardScaler().fit(task.X[train])
        X, X_test = scaler.transform(task.X[train]), scaler.transform(task.X[test])
        labels = np.eye(soft_labels.shape[1])[task.y[train]]
        for temperature, mixing in candidates:
            tempered = temper_proba(soft_labels, temperature)
            targets = (1 - mixing) * labels + mixing * tempered
            net = _net(task, skorch).fit(X, targets.astype(np.float32))
            proba = net.predict_proba(X_test).astype(np.float64)
            proba /= proba.sum(axis=1, keepdims=True)
            scores[temperature, mixing].append(-log_loss(task.y[test], proba))
        net_seconds += perf_counter() - start
    seconds = teacher_seconds + net_seconds * len(task.candidates) / len(candidates)
    return seconds, {c: float(np.mean(values)) for c, values in scores.items()}


def _net(task: Task, skorch: Any) -> Any:
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(task.X.shape[1], WIDTH),
        torch.nn.ReLU(),
        torch.nn.Linear(WIDTH, int(task.y.max()) + 1),
    )
    return skorch.NeuralNet(
        module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=task.student.learning_rate_init,
        optimizer__weight_decay=task.student.weight_decay,
        max_epochs=task.epochs,
        batch_size=BATCH_SIZE,
        iterator_train__shuffle=True,
        train_split=None,
        predict_nonlinearity="auto",
        verbose=0,
    )


def teachers_alone(task: Task) -> None:
    """Make the soft labels of all folds and of the refit."""
    for train, _ in task.folds():
        task.soft_labels(train)
    task.soft_labels(np.arange(len(task.y)))


# -- the comparison -----------------------------------------------------------------


def searches(task: Task, *, two_jobs: bool) -> dict[str, Callable[[], Any]]:
    methods: dict[str, Callable[[], Any]] = {
        "DistillationClassifierCV": lambda: by_stacks(task, None),
        NESTED: lambda: by_stacks(task, None, nested=True),
        "GridSearchCV, memory": lambda: by_grid_search(
            task, task.candidates, cached=True
        ),
        "teachers alone": lambda: teachers_alone(task),
    }
    if two_jobs:
        methods["DistillationClassifierCV, n_jobs=2"] = lambda: by_stacks(task, 2)
        methods[f"{NESTED}, n_jobs=2"] = lambda: by_stacks(task, 2, nested=True)
        methods["GridSearchCV, memory, n_jobs=2"] = lambda: by_grid_search(
            task, task.candidates, cached=True, n_jobs=2
        )
    return methods


def standard_error(task: Task, candidate: Candidate) -> float:
    """Return the standard error, over folds, of a candidate's score."""
    search = DistillationClassifierCV(
        task.teacher,
        task.student,
        temperatures=candidate[:1],
        mixing_weights=candidate[1:],
        cv=task.n_folds,
        refit=False,
    ).fit(task.X, task.y)
    return float(search.scores_.std(ddof=1)) / task.n_folds**0.5


def main(argv: Sequence[str] | None = None) -> None:
    args = _bench.parser(__doc__).parse_args(argv)
    _bench.print_machine(args)
    n_samples = _bench.pick(args, 2_000, 1_500, 150)
    n_trees = _bench.pick(args, 200, 50, 3)
    epochs = _bench.pick(args, 100, 10, 1)
    task = Task(n_samples, n_trees, epochs, tiny=args.tiny)
    repeats = _bench.pick(args, 2, 1, 1)
    print(
        f"{n_samples:,} x {task.X.shape[1]} rows, forest of {n_trees} trees, "
        f"student of {WIDTH} hidden units, {task.epochs} epochs, medians of {repeats}\n"
    )
    by_stacks(Task(150, 2, 1, tiny=True), None)  # loads what is loaded lazily
    methods = searches(task, two_jobs=not args.tiny)
    timings = _bench.interleave(methods, repeats)
    seconds: dict[str, tuple[float, Any]] = {
        name: (timing.median, timing.result) for name, timing in timings.items()
    }
    if not args.tiny and not args.quick:
        seconds["~ GridSearchCV, no memory"] = without_cache(task), None
    skorch = _bench.optional("skorch")
    if skorch is not None:
        some = [candidate for candidate in task.candidates if candidate[0] == 1.0]
        seconds["~ by hand, skorch"] = by_hand(task, skorch, some)
    report(task, seconds)
    if skorch is None:
        print(f"skorch: {_bench.not_installed('skorch')}")


def report(task: Task, seconds: dict[str, tuple[float, Any]]) -> None:
    """Print the table; winners are judged by the scores of the first search."""
    reference, scores = seconds["DistillationClassifierCV"]
    best = max(scores, key=scores.get)
    bound = scores[best] - standard_error(task, best)
    rows = []
    for name, (spent, found) in seconds.items():
        row: list[Any] = [name, spent, spent / reference, None, None, None]
        if found is not None:
            winner = max(found, key=found.get)
            inside = "yes" if scores[winner] >= bound else "no"
            which = f"T={winner[0]:g}, a={winner[1]:g}"
            row[3:] = [which, f"{found[winner]:.4f}", inside]
        rows.append(row)
    headers = (
        "search",
        "s",
        "x DistillationClassifierCV",
        "winner",
        "score",
        "within 1 SE",
    )
    _bench.print_table(headers, rows)
    print(
        "~ scaled from the candidates that were run, which are the ones it chose from"
    )


if __name__ == "__main__":
    main()
