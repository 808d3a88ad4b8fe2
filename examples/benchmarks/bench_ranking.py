"""Does a student rank better for being trained on pairs, or on soft labels?

One student is trained in four ways: on labels row by row (log-loss), on labels in
pairs, on a teacher's soft labels row by row (DistillationClassifier), and in pairs
(DistillationRanker); the last one with options for the top of the list as well.
Distilled students get the same out-of-fold soft labels and the default mixing weight of
1/2. Each seed draws its training rows anew; differences are paired by seed, with 95 %
intervals of Student's t. A synthetic problem with 2 % positives has known Bayes
probabilities; its AUC is the expected one, under these.

The folder in the environment variable SKDISTILL_DATA, or `--data`, with a `load.py`,
adds real tables. `--scaling` measures time an epoch and peak memory against the number
of rows instead.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from time import process_time
from typing import Any

import _bench
import numpy as np
from bench_memory import largest_resident
from scipy import stats
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skdistill import DistillationClassifier, DistillationRanker, SoftLabelTransformer
from skdistill.datasets import make_class_overlap
from skdistill.losses import bipartite_risk
from skdistill.students import LinearStudent, MLPStudent

SYNTHETIC = "synthetic, 2 % positive"
#: Real tables, and the number of training rows drawn from each.
REAL = {"bank_marketing": 5000, "adult": 5000, "open_bandit": 20000}
STUDENTS = ("linear", "MLP")
LABELS, PAIRS = "labels, log-loss", "labels, pairs"
CLASSIFIER, RANKER = "DistillationClassifier", "DistillationRanker"
PUSH, TOP = "DistillationRanker, push=4", "DistillationRanker, top_share=0.02"
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    LABELS: (DistillationClassifier, {"mixing_weight": 0.0}),
    PAIRS: (DistillationRanker, {"mixing_weight": 0.0}),
    CLASSIFIER: (DistillationClassifier, {}),
    RANKER: (DistillationRanker, {}),
    PUSH: (DistillationRanker, {"push": 4.0}),
    TOP: (DistillationRanker, {"top_share": 0.02}),
}
DIFFERENCES = (
    (PAIRS, LABELS),
    (CLASSIFIER, LABELS),
    (RANKER, LABELS),
    (RANKER, PAIRS),
    (RANKER, CLASSIFIER),
    (PUSH, RANKER),
    (TOP, RANKER),
)
#: A plain network: what is compared is how it is trained, not what it is made of.
PLAIN = {
    "numeric_embedding": None,
    "averaging": False,
    "learning_rate_init": 0.002,
    "weight_decay": 1e-4,
}
METRICS = ("AUC", "average precision", "precision at 1 %")


# -- data ---------------------------------------------------------------------------


def synthetic(seed: int, n_train: int, n_test: int) -> tuple[Any, ...]:
    """Return training rows, labels, test rows, labels and Bayes probabilities."""
    X, y, proba = make_class_overlap(
        n_train + n_test,
        n_classes=2,
        n_features=8,
        n_clusters_per_class=4,
        class_sep=0.6,
        weights=[0.98, 0.02],
        random_state=seed,
    )
    parts = slice(n_train), slice(n_train, None)
    return X[parts[0]], y[parts[0]], X[parts[1]], y[parts[1]], proba[parts[1], 1]


def real(name: str, seed: int, n_train: int, folder: str) -> tuple[Any, ...]:
    """Return a stratified part of the training rows, and all test rows."""
    X, y, X_test, y_test = getattr(_bench.real_data(folder), name)()
    split = StratifiedShuffleSplit(1, train_size=n_train, random_state=seed)
    ((rows, _),) = split.split(np.empty(len(y)), y)
    return X.iloc[rows], y[rows], X_test, y_test, None


# -- models -------------------------------------------------------------------------


def new_student(name: str, X: Any, seed: int) -> Any:
    """Return a student that takes the table."""
    student = LinearStudent()
    if name == "MLP":
        student = MLPStudent((32,), random_state=seed, **PLAIN)
    if not hasattr(X, "columns"):
        return make_pipeline(StandardScaler(), student)
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    categories = OneHotEncoder(min_frequency=10, handle_unknown="infrequent_if_exist")
    categories.set_params(sparse_output=False)
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_exclude="number")),
    )
    return make_pipeline(columns, student)


def new_teacher(seed: int) -> Any:
    return HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=100,
        max_leaf_nodes=15,
        categorical_features="from_dtype",
        random_state=seed,
    )


def measure(y: Any, scores: Any, proba: Any) -> dict[str, float]:
    """Return the metrics of scores; ties at the cut count by their share."""
    n_top = max(1, len(y) // 100)
    cut = np.sort(scores)[-n_top]
    above, tied = scores > cut, scores == cut
    hits = y[above].sum() + (n_top - above.sum()) * y[tied].mean()
    auc = roc_auc_score(y, scores)
    if proba is not None:
        auc = 1.0 - bipartite_risk(proba, scores, surrogate="zero-one")
    return {
        "AUC": auc,
        "average precision": average_precision_score(y, scores),
        "precision at 1 %": hits / n_top,
    }


def run_seed(
    load: Callable[[int], tuple[Any, ...]], seed: int, students: Sequence[str]
) -> dict[tuple[str, str], dict[str, float]]:
    """Return the metrics of each student and method, and of the teacher."""
    X, y, X_test, y_test, proba = load(seed)
    soft = SoftLabelTransformer(new_teacher(seed)).fit_transform(X, y)
    soft = np.asarray(soft)
    if soft.shape[1] == 1:
        soft = np.column_stack([1 - soft, soft])
    teacher = new_teacher(seed).fit(X, y)
    results = {
        ("", "teacher"): measure(y_test, teacher.predict_proba(X_test)[:, 1], proba)
    }
    if proba is not None:
        results["", "Bayes probabilities"] = measure(y_test, proba, proba)
    for student in students:
        for name, (estimator, settings) in METHODS.items():
            model = estimator(student=new_student(student, X, seed), **settings)
            given = {} if settings.get("mixing_weight") == 0 else {"soft_labels": soft}
            scores = model.fit(X, y, **given).decision_function(X_test)
            results[student, name] = measure(y_test, scores, proba)
    return results


# -- tables -------------------------------------------------------------------------


def interval(values: Any) -> str:
    """Return mean and half width of a 95 % interval, in thousandths."""
    values = 1000 * np.asarray(values)
    if len(values) < 2:
        return f"{values.mean():+.1f}"
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{values.mean():+.1f} ± {half:.1f}"


def mean_rows(data: str, seeds: list[dict[Any, Any]]) -> list[list[Any]]:
    return [
        [data, student, method]
        + [
            f"{np.mean([seed[student, method][m] for seed in seeds]):.3f}"
            for m in METRICS
        ]
        for student, method in seeds[0]
    ]


def gains(seeds: list[dict[Any, Any]], student: str, pair: Any, metric: str) -> Any:
    """Return what the first of two methods gains on the second, seed by seed."""
    first, second = pair
    return [s[student, first][metric] - s[student, second][metric] for s in seeds]


def difference_rows(
    data: str, seeds: list[dict[Any, Any]], students: Sequence[str]
) -> list[list[Any]]:
    return [
        [
            data,
            student,
            *pair,
            *(interval(gains(seeds, student, pair, m)) for m in METRICS),
        ]
        for student in students
        for pair in DIFFERENCES
    ]


def verdicts(
    cells: dict[str, list[dict[Any, Any]]], students: Sequence[str]
) -> list[list[Any]]:
    """Count where the interval of a difference leaves out zero."""
    rows = []
    for pair in DIFFERENCES:
        row: list[Any] = [*pair]
        for metric in METRICS:
            signs = [
                sign(gains(seeds, student, pair, metric))
                for seeds in cells.values()
                for student in students
            ]
            row.append(f"{signs.count(1)} / {signs.count(0)} / {signs.count(-1)}")
        rows.append(row)
    return rows


def sign(values: Sequence[float]) -> int:
    """Return 1 or -1 where a 95 % interval of the mean leaves out zero, else 0."""
    if len(values) < 2 or np.ptp(values) == 0:
        return 0
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return int(np.sign(np.mean(values))) if abs(np.mean(values)) > half else 0


def compare(args: argparse.Namespace) -> None:
    n_seeds = _bench.pick(args, 10, 3, 1)
    n_train, n_test = _bench.pick(args, (5000, 20000), (3000, 10000), (1000, 1000))
    students = _bench.pick(args, STUDENTS, STUDENTS, STUDENTS[:1])
    loaders: dict[str, Any] = {SYNTHETIC: lambda seed: synthetic(seed, n_train, n_test)}
    if args.data and not args.tiny:
        for name, rows in REAL.items():
            rows = rows // 2 if args.quick else rows
            loaders[name] = lambda seed, name=name, rows=rows: real(
                name, seed, rows, args.data
            )
    cells = {
        data: [run_seed(load, seed, students) for seed in range(n_seeds)]
        for data, load in loaders.items()
    }
    print(f"Means of {n_seeds} seeds on test rows\n")
    means = [row for data, seeds in cells.items() for row in mean_rows(data, seeds)]
    _bench.print_table(("data", "student", "method", *METRICS), means, left=3)
    print("Differences in thousandths, paired by seed\n")
    differences = [
        row
        for data, seeds in cells.items()
        for row in difference_rows(data, seeds, students)
    ]
    headers = ("data", "student", "method", "less", *METRICS)
    _bench.print_table(headers, differences, left=4)
    print("In how many of the cells above is it better / undecided / worse?\n")
    headers = ("method", "than", *METRICS)
    _bench.print_table(headers, verdicts(cells, students), left=2)


# -- growth with the number of rows ---------------------------------------------------


def measure_growth(kind: str, n_rows: int, n_features: int) -> dict[str, float]:
    """Fit for a few epochs in this process; return time an epoch and extra memory."""
    rng = np.random.default_rng(0)
    X = rng.random((n_rows, n_features), dtype=np.float32)
    odds = 4.0 * X[:, 0] + X[:, 1] - 5.0
    proba = 1.0 / (1.0 + np.exp(-odds))
    y = (rng.random(n_rows) < proba).astype(int)
    soft = np.column_stack([1 - proba, proba])

    def fit(n_epochs: int) -> float:
        student: Any = MLPStudent(
            (32,),
            max_iter=n_epochs,
            batch_size=None if kind.startswith("all pairs") else 512,
            early_stopping=False,
            tol=0.0,
            random_state=0,
            **PLAIN,
        )
        surrogate = kind.split(", ")[-1]
        ranker = DistillationRanker(student=student, surrogate=surrogate)
        # One thread: processor time is what a quiet machine would take.
        before = process_time()
        ranker.fit(X, y, soft_labels=soft)
        return process_time() - before

    small = DistillationRanker(student=MLPStudent(max_iter=1, random_state=0))
    small.fit(X[:500], y[:500], soft_labels=soft[:500])
    resident = largest_resident()
    # Times differ by the epochs alone: scaling, threshold and start are in both.
    once, more = fit(1), fit(1 + 3)
    return {"epoch": (more - once) / 3, "extra": largest_resident() - resident}


def growth(args: argparse.Namespace) -> None:
    sizes = _bench.pick(
        args,
        (10_000, 100_000, 300_000, 1_000_000),
        (10_000, 30_000, 100_000),
        (2_000, 4_000),
    )
    kinds = (
        "pair batches, logistic",
        "all pairs, logistic",
        "all pairs, squared",
        "all pairs, exponential",
    )
    rows = []
    for kind in _bench.pick(args, kinds, kinds, kinds[:2]):
        found = [measure_growth_apart(kind, n) for n in sizes]
        times = [entry["epoch"] for entry in found]
        # From 100,000 rows on what does not grow with them is small.
        used = [i for i, n in enumerate(sizes) if n >= 100_000]
        used = used if len(used) > 1 else list(range(len(sizes)))
        exponent = _bench.growth([sizes[i] for i in used], [times[i] for i in used])
        for i, n in enumerate(sizes):
            extra = found[i]["extra"]
            rows.append(
                [
                    kind,
                    n,
                    1000 * times[i],
                    extra / 2**20,
                    extra / n,
                    f"{exponent:.2f}" if i == 0 else None,
                ]
            )
    headers = (
        "batches",
        "rows",
        "CPU ms an epoch",
        "extra MiB",
        "B a row",
        "exponent",
    )
    _bench.print_table(headers, rows)


def measure_growth_apart(kind: str, n_rows: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", kind, str(n_rows)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(answer.stdout)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    parser = _bench.parser(__doc__)
    parser.add_argument("--data", default=os.environ.get("SKDISTILL_DATA"))
    parser.add_argument("--scaling", action="store_true", help="time and memory")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child is not None:
        kind, n_rows = args.child
        print(json.dumps(measure_growth(kind, int(n_rows), 20)))
        return
    _bench.print_machine(args)
    with _bench.no_convergence_warnings(), warnings.catch_warnings():
        # A category of the test rows may be new to a small training part.
        warnings.filterwarnings("ignore", "Found unknown categories")
        if args.scaling:
            growth(args)
        else:
            compare(args)


if __name__ == "__main__":
    main()
