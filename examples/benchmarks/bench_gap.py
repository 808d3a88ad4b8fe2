"""How much of a teacher's lead does a student get, and does distillation ever harm?

A cell is a table, a number of training rows, a share of flipped labels, a teacher, a
student and a seed. In each, the same student is trained on the labels alone, by the
defaults of DistillationClassifier, with everything on (synthetic rows),
and by fixed recipes. The teachers' probabilities are computed once a cell and shared,
so fit times are those of the students; the teacher's own row has the time of one fit.

Accuracy is on clean test labels; log-loss, Brier score and ECE are on labels with the
same noise as the training labels, the distribution that teachers and students estimate.
Test rows that equal a training row are left out.

- gap closed: (labels - distilled) / (labels - teacher) in log-loss, where the teacher
  leads by two standard errors
- wins, ties, losses: against the same student on labels, by the mean of the paired
  differences of the test rows' log-losses, at two standard errors

Results are kept in a file, line by line: a run that was stopped goes on where it was,
and `--part 1/4` does a quarter of the cells. `--report` prints what is in the file.
scikit-learn's bundled tables are always there; the folder in the environment variable
SKDISTILL_DATA, or `--data`, with a `load.py`, adds real ones.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import _bench
import joblib
import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skdistill import DistillationClassifier
from skdistill.augmentation import munge
from skdistill.metrics import brier_score, expected_calibration_error
from skdistill.students import LinearStudent, MLPStudent

BUNDLED = ("digits", "breast_cancer")
REAL = (
    "adult",
    "letter",
    "covertype_part",
    "dry_bean",
    "bank_marketing",
    "nycflights13",
    "spambase",
    "fashion_mnist",
    "clinc150",
)
TEACHERS = ("forest", "boosting", "stack")
STUDENTS = ("linear", "MLP 32", "MLP 128", "tree")
FAMILIES = {"linear": "linear", "MLP 32": "MLP", "MLP 128": "MLP", "tree": "tree"}
N_TEST = 4000
EPS = float(np.finfo(float).eps)

LABELS, DEFAULTS, EVERYTHING = "labels", "defaults", "everything"
FIXED: dict[str, dict[str, Any]] = {
    "out-of-fold, .5": {"mixing_weight": 0.5},
    "out-of-fold, 1": {"mixing_weight": 1.0},
    "tempered, .5": {"mixing_weight": 0.5, "temperature": "auto"},
    "in-sample, .5": {"mixing_weight": 0.5, "cv": "in-sample"},
}


@dataclass(frozen=True)
class Cell:
    """One comparison, for all students."""

    table: str
    n_rows: int
    noise: float
    teacher: str
    seed: int


# -- tables -------------------------------------------------------------------------


@cache
def _loaders(folder: str) -> Any:
    path = Path(folder) / "load.py"
    spec = importlib.util.spec_from_file_location("skdistill_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _whole(name: str, folder: str | None) -> tuple[Any, Any, Any, Any]:
    """Return all training and test rows of a table."""
    if name in BUNDLED:
        load = {"digits": load_digits, "breast_cancer": load_breast_cancer}[name]
        X, y = load(return_X_y=True)
        X, X_test, y, y_test = train_test_split(
            X, y, test_size=0.4, stratify=y, random_state=0
        )
        return X, y, X_test, y_test
    assert folder is not None
    return getattr(_loaders(folder), name)()


@dataclass(frozen=True)
class Data:
    """Training rows, and test rows with clean and with noisy labels."""

    X: Any
    y: Any
    X_test: Any
    clean: Any
    noisy: Any


def load(cell: Cell, folder: str | None) -> Data | None:
    """Draw the rows of a cell; None where the table has too few."""
    X, y, X_test, y_test = _whole(cell.table, folder)
    if len(y) < cell.n_rows:
        return None
    rng = np.random.default_rng(cell.seed)
    train = np.sort(rng.choice(len(y), cell.n_rows, replace=False))
    test = np.sort(rng.choice(len(y_test), min(N_TEST, len(y_test)), replace=False))
    X, y, X_test, y_test = _take(X, train), y[train], _take(X_test, test), y_test[test]
    classes, y = np.unique(y, return_inverse=True)
    seen = set(_hashes(X))
    fresh = np.array([h not in seen for h in _hashes(X_test)])
    rows = np.flatnonzero(fresh & np.isin(y_test, classes))
    X_test, clean = _take(X_test, rows), np.searchsorted(classes, y_test[rows])
    if X.ndim == 1:
        vectorizer = TfidfVectorizer(min_df=2, sublinear_tf=True)
        X, X_test = vectorizer.fit_transform(X), vectorizer.transform(X_test)
    elif not hasattr(X, "iloc"):
        X, X_test = X.astype(float), X_test.astype(float)
    flip = partial(_flip, rng=rng, noise=cell.noise, n_classes=len(classes))
    return Data(X, flip(y), X_test, clean, flip(clean))


def _take(X: Any, rows: Any) -> Any:
    return X.iloc[rows].reset_index(drop=True) if hasattr(X, "iloc") else X[rows]


def _hashes(X: Any) -> list[bytes]:
    if hasattr(X, "iloc"):
        from pandas.util import hash_pandas_object

        return [bytes(str(n), "ascii") for n in hash_pandas_object(X, index=False)]
    if X.ndim == 1:
        return [text.encode() for text in X]
    return [hashlib.blake2b(np.ascontiguousarray(row).tobytes()).digest() for row in X]


def _flip(y: Any, *, rng: Any, noise: float, n_classes: int) -> Any:
    """Flip a share of labels, each to any of the other classes."""
    flipped = rng.random(len(y)) < noise
    other = (y + rng.integers(1, n_classes, len(y))) % n_classes
    return np.where(flipped, other, y)


# -- teachers and students ----------------------------------------------------------

#: Probabilities of teachers that were fitted: by estimator, training rows, and rows.
_KNOWN: dict[Any, Any] = {}


class Remembered(ClassifierMixin, BaseEstimator):
    """A teacher that is fitted to the same rows once, and scores the same rows once."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: Any, y: Any) -> Remembered:
        self.classes_ = np.unique(y)
        self._key = joblib.hash((repr(self.estimator), X, y))
        if self._key not in _KNOWN:
            start = perf_counter()
            fitted = clone(self.estimator).fit(X, y)
            _KNOWN[self._key] = fitted, perf_counter() - start
        return self

    def predict_proba(self, X: Any) -> Any:
        key = self._key, joblib.hash(X)
        if key not in _KNOWN:
            _KNOWN[key] = _KNOWN[self._key][0].predict_proba(X)
        return _KNOWN[key].copy()

    @property
    def seconds(self) -> float:
        return float(_KNOWN[self._key][1])


def encoder(X: Any) -> list[Any]:
    """Return steps that make a frame a numeric array with missing values."""
    if not hasattr(X, "iloc"):
        return []
    ordinal = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=-1,
        encoded_missing_value=-1,
    )
    columns = make_column_selector(dtype_exclude="number")
    return [make_column_transformer((ordinal, columns), remainder="passthrough")]


def make_teacher(cell: Cell, X: Any, n_trees: int) -> Any:
    forest = RandomForestClassifier(n_trees, random_state=cell.seed)
    boosting = HistGradientBoostingClassifier(random_state=cell.seed)
    if sp.issparse(X) and cell.teacher != "forest":
        return None
    if cell.teacher == "forest":
        return Remembered(make_pipeline(*encoder(X), forest))
    if cell.teacher == "boosting":
        return Remembered(make_pipeline(*encoder(X), boosting))
    bayes = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    if hasattr(X, "iloc") and X.isna().any().any():
        return None
    members = [("forest", forest), ("boosting", boosting), ("linear", bayes)]
    return Remembered(make_pipeline(*encoder(X), StackingClassifier(members, cv=3)))


def make_student(name: str, cell: Cell, X: Any) -> Any:
    if name == "linear":
        as_it_is = sp.issparse(X) or hasattr(X, "iloc")
        return (
            LinearStudent()
            if as_it_is
            else make_pipeline(StandardScaler(), LinearStudent())
        )
    if name == "tree":
        tree = DecisionTreeClassifier(max_depth=8, random_state=cell.seed)
        return make_pipeline(*encoder(X), tree) if hasattr(X, "iloc") else tree
    if sp.issparse(X):
        return None
    width = int(name.split()[1])
    return MLPStudent((width, width), random_state=cell.seed)


# -- one cell -----------------------------------------------------------------------


def methods(teacher: Any, student: Any, cell: Cell, everything: bool) -> dict[str, Any]:
    """Return the classifiers to compare; labels alone first."""
    make = partial(DistillationClassifier, teacher, student, random_state=cell.seed)
    result = {LABELS: make(mixing_weight=0.0), DEFAULTS: make()}
    if everything:
        result[EVERYTHING] = make(augmentation=partial(munge, n_rows=3 * cell.n_rows))
    for name, settings in FIXED.items():
        result[name] = make(**settings)
    return result


def row_loss(y: Any, proba: Any) -> Any:
    return -np.log(np.clip(proba[np.arange(len(y)), y], EPS, 1.0))


def scores(data: Data, proba: Any, seconds: float) -> dict[str, float]:
    return {
        "accuracy": float((proba.argmax(axis=1) == data.clean).mean()),
        "log_loss": float(row_loss(data.noisy, proba).mean()),
        "brier": float(brier_score(data.noisy, proba)),
        "ece": float(expected_calibration_error(data.noisy, proba)),
        "seconds": seconds,
    }


def paired(before: Any, after: Any) -> tuple[float, float]:
    """Return the mean of what was gained, and its standard error."""
    gain = before - after
    return float(gain.mean()), float(gain.std(ddof=1) / len(gain) ** 0.5)


def run_cell(
    cell: Cell, data: Data, name: str, n_trees: int, everything: bool
) -> dict[str, Any] | None:
    """Fit all methods of a cell for one student; return its line of the file."""
    teacher = make_teacher(cell, data.X, n_trees)
    student = make_student(name, cell, data.X)
    if teacher is None or student is None:
        return None
    fitted = teacher.fit(data.X, data.y)
    proba = fitted.predict_proba(data.X_test)
    result = {"teacher": scores(data, proba, fitted.seconds)}
    losses = {"teacher": row_loss(data.noisy, proba)}
    chosen = {}
    for method, classifier in methods(teacher, student, cell, everything).items():
        start = perf_counter()
        classifier.fit(data.X, data.y)
        seconds = perf_counter() - start
        proba = classifier.predict_proba(data.X_test)
        result[method] = scores(data, proba, seconds)
        losses[method] = row_loss(data.noisy, proba)
        if hasattr(classifier, "candidates_"):
            chosen[method] = _chosen(classifier)
    for method, loss in losses.items():
        gain, error = paired(losses[LABELS], loss)
        ahead, ahead_error = paired(losses["teacher"], loss)
        result[method] |= {"gain": gain, "gain_error": error}
        result[method] |= {"ahead": ahead, "ahead_error": ahead_error}
    return {**asdict(cell), "student": name, "methods": result, "chosen": chosen}


def _chosen(classifier: Any) -> dict[str, Any]:
    table = classifier.candidates_
    best = int(np.flatnonzero(table["chosen"])[0])
    return {
        "source": str(table["source"][best]),
        "augmented": bool(table["augmented"][best]),
        "mixing_weight": float(classifier.mixing_weight_),
        "temperature": float(classifier.temperature_),
        "gain": float(table["gain"][best]),
        "gain_error": float(table["gain_standard_error"][best]),
    }


# -- the file -----------------------------------------------------------------------


def read(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def key(line: dict[str, Any]) -> tuple[Any, ...]:
    names = ("table", "n_rows", "noise", "teacher", "seed", "student")
    return tuple(line[name] for name in names)


def run(args: argparse.Namespace, cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """Yield the lines of all cells; those that are in the file are not run again."""
    known = {key(line): line for line in read(args.results)}
    start = perf_counter()
    for cell in cells:
        wanted = {
            name: key({**asdict(cell), "student": name}) for name in args.students
        }
        data = None
        for name, identity in wanted.items():
            if identity in known:
                yield known[identity]
                continue
            if perf_counter() - start > 60 * args.minutes:
                continue
            data = data or load(cell, args.data)
            line = None
            if data is not None:
                line = run_cell(cell, data, name, args.trees, args.everything)
            if line is not None:
                if args.results is not None:
                    with args.results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                yield line
        _KNOWN.clear()


# -- the report ---------------------------------------------------------------------


def verdict(method: dict[str, float], gain: str = "gain") -> str:
    bound = 2 * method[f"{gain}_error"]
    if method[gain] > bound and bound > 0:
        return "win"
    return "loss" if method[gain] < -bound else "tie"


def leads(line: dict[str, Any]) -> bool:
    """Whether the teacher leads the student on labels by two standard errors."""
    return verdict(line["methods"]["teacher"]) == "win"


def closed(line: dict[str, Any], method: str) -> float:
    """Return the share of the teacher's lead that a student has got."""
    found: float = line["methods"][method]["gain"] / line["methods"]["teacher"]["gain"]
    return found


def print_summary(lines: list[dict[str, Any]]) -> None:
    """Count wins and losses against labels, by family of students and method."""
    rows = []
    for family, method in product(
        ("linear", "MLP", "tree"), [DEFAULTS, EVERYTHING, *FIXED]
    ):
        of_family = [
            line
            for line in lines
            if FAMILIES[line["student"]] == family and method in line["methods"]
        ]
        if of_family:
            rows.append([family, method, *_summary(of_family, method)])
    headers = (
        "students",
        "method",
        "cells",
        "wins",
        "ties",
        "losses",
        "noisy cells",
        "wins",
        "teacher leads",
        "wins",
        "gap closed",
        "worst gain",
        "beats teacher",
    )
    _bench.print_table(headers, rows, left=2)
    print(
        "gap closed: median where the teacher leads; worst gain: in log-loss on labels "
        "alone\n"
    )


def _summary(lines: list[dict[str, Any]], method: str) -> list[Any]:
    verdicts = [verdict(line["methods"][method]) for line in lines]
    noisy = [v for line, v in zip(lines, verdicts, strict=True) if line["noise"] > 0]
    led = [(line, v) for line, v in zip(lines, verdicts, strict=True) if leads(line)]
    shares = [closed(line, method) for line, _ in led]
    counts = [verdicts.count(word) for word in ("win", "tie", "loss")]
    ahead = [verdict(line["methods"][method], "ahead") == "win" for line in lines]
    return [
        len(lines),
        *counts,
        len(noisy),
        noisy.count("win"),
        len(led),
        sum(v == "win" for _, v in led),
        f"{np.median(shares):.0%}" if shares else None,
        f"{min(line['methods'][method]['gain'] for line in lines):+.3f}",
        sum(ahead),
    ]


def print_methods(lines: list[dict[str, Any]]) -> None:
    """Print mean scores by student, noise and method."""
    rows = []
    for student, noise in product(STUDENTS, sorted({line["noise"] for line in lines})):
        some = [x for x in lines if x["student"] == student and x["noise"] == noise]
        for method in ("teacher", LABELS, DEFAULTS, EVERYTHING, *FIXED):
            found = [x["methods"][method] for x in some if method in x["methods"]]
            if found and len(found) == len(some):
                means = {k: float(np.mean([f[k] for f in found])) for k in found[0]}
                cells = [
                    f"{means[k]:.4f}" for k in ("accuracy", "log_loss", "brier", "ece")
                ]
                rows.append([student, f"{noise:.0%}", method, *cells, means["seconds"]])
    headers = (
        "student",
        "noise",
        "method",
        "accuracy, clean",
        "log-loss, same noise",
        "Brier",
        "ECE",
        "fit s",
    )
    _bench.print_table(headers, rows, left=3)
    print("means over the cells\n")


def print_choices(lines: list[dict[str, Any]]) -> None:
    """Print what the defaults chose, and what came of it."""
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        chosen = line["chosen"][DEFAULTS]
        what = f"{chosen['source']}, {chosen['mixing_weight']:g}"
        if chosen["source"] == LABELS:
            what = LABELS
        groups[FAMILIES[line["student"]], line["noise"] > 0, what].append(line)
    rows = []
    for (family, noisy, what), some in sorted(groups.items()):
        verdicts = [verdict(line["methods"][DEFAULTS]) for line in some]
        rows.append(
            [
                family,
                "30 %" if noisy else "0 %",
                what,
                len(some),
                f"{np.median([x['chosen'][DEFAULTS]['gain'] for x in some]):+.4f}",
                f"{np.median([x['methods'][DEFAULTS]['gain'] for x in some]):+.4f}",
                *(verdicts.count(word) for word in ("win", "tie", "loss")),
            ]
        )
    headers = (
        "students",
        "noise",
        "chosen by the defaults",
        "cells",
        "gain on folds",
        "gain on test rows",
        "wins",
        "ties",
        "losses",
    )
    _bench.print_table(headers, rows, left=3)
    print("gains: medians, in log-loss on labels alone\n")


def print_cells(lines: list[dict[str, Any]]) -> None:
    """Print each cell: teacher, labels, defaults, and what was chosen."""
    rows = []
    for line in sorted(lines, key=key):
        found, chosen = line["methods"], line["chosen"][DEFAULTS]
        rows.append(
            [
                line["table"],
                line["n_rows"],
                f"{line['noise']:.0%}",
                line["teacher"],
                line["seed"],
                line["student"],
                *(f"{found[m]['log_loss']:.4f}" for m in ("teacher", LABELS, DEFAULTS)),
                *(f"{found[m]['accuracy']:.3f}" for m in ("teacher", LABELS, DEFAULTS)),
                f"{chosen['source']}, {chosen['mixing_weight']:g}",
                verdict(found[DEFAULTS]),
            ]
        )
    models = ("teacher", "labels", "defaults")
    headers = (
        "table",
        "rows",
        "noise",
        "teacher",
        "seed",
        "student",
        *(f"log-loss {m}" for m in models),
        *(f"accuracy {m}" for m in models),
        "chosen",
        "against labels",
    )
    _bench.print_table(headers, rows, left=6)


# -- the run ------------------------------------------------------------------------


def all_cells(args: argparse.Namespace) -> list[Cell]:
    values = (args.rows, args.seeds, args.noise, args.teachers, args.tables)
    cells = [Cell(t, n, z, k, s) for n, s, z, k, t in product(*values)]
    part, parts = (int(number) for number in args.part.split("/"))
    return cells[part - 1 :: parts]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _bench.parser(__doc__)
    parser.add_argument("--data", default=os.environ.get("SKDISTILL_DATA"))
    parser.add_argument("--results", type=Path, help="file of lines to go on with")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--cells", action="store_true", help="print each cell, too")
    parser.add_argument(
        "--minutes", type=float, default=np.inf, help="start nothing after these"
    )
    parser.add_argument("--part", default="1/1", help="which part of the cells")
    parser.add_argument("--tables", nargs="+")
    parser.add_argument("--rows", nargs="+", type=int)
    parser.add_argument("--noise", nargs="+", type=float)
    parser.add_argument("--teachers", nargs="+", choices=TEACHERS)
    parser.add_argument("--students", nargs="+", choices=STUDENTS)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--trees", type=int)
    parser.add_argument("--no-everything", dest="everything", action="store_false")
    args = parser.parse_args(argv)
    small = args.quick or args.tiny
    real = REAL if args.data and not small else ()
    sizes: dict[str, tuple[Any, Any, Any]] = {
        "tables": ((*BUNDLED, *real), BUNDLED[1:], BUNDLED[1:]),
        "rows": ((1000, 5000, 20000), (300,), (120,)),
        "noise": ((0.0, 0.3), (0.0, 0.3), (0.3,)),
        "teachers": (TEACHERS, TEACHERS[:1], TEACHERS[:1]),
        "students": (STUDENTS, ("linear", "MLP 32", "tree"), ("linear", "tree")),
        "seeds": (range(5), (0,), (0,)),
        "trees": (500, 50, 5),
    }
    for name, (full, quick, tiny) in sizes.items():
        if getattr(args, name) is None:
            setattr(args, name, _bench.pick(args, full, quick, tiny))
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    _bench.print_machine(args)
    with warnings.catch_warnings():
        # Of teachers that cannot help and of classes with few rows: they are counted.
        warnings.simplefilter("ignore")
        lines = read(args.results) if args.report else list(run(args, all_cells(args)))
    print(f"{len(lines)} cells\n")
    if not lines:
        return
    print_summary(lines)
    print_methods(lines)
    print_choices(lines)
    if args.cells:
        print_cells(lines)


if __name__ == "__main__":
    main()
