"""How much of a teacher's lead does a student get, and does distillation ever harm?

A cell is a table, a number of training rows, a share of flipped labels, a teacher and a
student. In each, with several seeds, the same student is trained on the labels alone,
by the defaults of DistillationClassifier, with everything on (synthetic rows), by each
of the recipes that the defaults choose from, and with other rows of the table that have
no labels ("pool": as much as the student can learn of this teacher). `--recipes` takes
some of these. The teachers' probabilities are computed once and shared, so fit times
are those of the students; the teacher's own row has the time of one fit.

Accuracy is on clean test labels; log-loss, Brier score and ECE are on labels with the
same noise as the training labels, the distribution that teachers and students estimate.
Test rows that equal a training row are left out.

- gap closed: (labels - distilled) / (labels - teacher) in log-loss, where the teacher
  leads by two standard errors
- wins, ties, losses: against the same student on labels, by the mean of the paired
  differences of the test rows' log-losses, at two standard errors; first for each seed,
  then for the means over the seeds of a cell

Results are kept in a file, line by line, with what each candidate gained on held-out
rows: a run that was stopped goes on where it was, and `--part 1/4` does a quarter of
the cells. `--report` prints what is in the file. scikit-learn's bundled tables are
always there; the folder in the environment variable SKDISTILL_DATA, or `--data`, with a
`load.py`, adds real ones.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import _bench
import numpy as np
from _gap_cells import (
    BUNDLED,
    REAL,
    STUDENTS,
    TEACHERS,
    Cell,
    Data,
    forget,
    load,
    make_student,
    make_teacher,
)
from _gap_report import (
    DEFAULTS,
    EVERYTHING,
    LABELS,
    POOL,
    key,
    over_seeds,
    print_cells,
    print_choices,
    print_means,
    print_methods,
    print_summary,
)

from skdistill import DistillationClassifier
from skdistill.augmentation import munge
from skdistill.metrics import brier_score, expected_calibration_error

EPS = float(np.finfo(float).eps)

#: The candidates of the defaults, by what has to be set to get them.
FIXED: dict[str, dict[str, Any]] = {
    "out-of-fold, .5": {"mixing_weight": 0.5},
    "out-of-fold, 1": {"mixing_weight": 1.0},
    "tempered, .5": {"mixing_weight": 0.5, "temperature": "auto"},
    "tempered, 1": {"mixing_weight": 1.0, "temperature": "auto"},
    "in-sample, .5": {"mixing_weight": 0.5, "cv": "in-sample"},
    "in-sample, 1": {"mixing_weight": 1.0, "cv": "in-sample"},
}
RECIPES = (DEFAULTS, EVERYTHING, *FIXED, POOL)


# -- one cell -----------------------------------------------------------------------


def methods(teacher: Any, student: Any, cell: Cell) -> dict[str, Any]:
    """Return the classifiers to compare; labels alone first."""
    make = partial(DistillationClassifier, teacher, student, random_state=cell.seed)
    synthetic = partial(munge, n_rows=3 * cell.n_rows)
    return {
        LABELS: make(mixing_weight=0.0),
        DEFAULTS: make(),
        EVERYTHING: make(augmentation=synthetic),
        **{name: make(**settings) for name, settings in FIXED.items()},
        POOL: make(mixing_weight=1.0),
    }


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
    cell: Cell, data: Data, name: str, n_trees: int, recipes: Sequence[str]
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
    for method, classifier in methods(teacher, student, cell).items():
        added = {"X_unlabeled": data.pool} if method == POOL else {}
        if method not in (LABELS, *recipes) or (added and data.pool is None):
            continue
        start = perf_counter()
        classifier.fit(data.X, data.y, **added)
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
    """Return what was chosen, and what was seen of each candidate."""
    table = {name: values.tolist() for name, values in classifier.candidates_.items()}
    best = table["chosen"].index(True)
    return {
        "source": table["source"][best],
        "augmented": table["augmented"][best],
        "mixing_weight": float(classifier.mixing_weight_),
        "temperature": float(classifier.temperature_),
        "gain": table["gain"][best],
        "gain_error": table["gain_standard_error"][best],
        "candidates": table,
    }


# -- the file -----------------------------------------------------------------------


def read(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


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
                line = run_cell(cell, data, name, args.trees, args.recipes)
            if line is not None:
                if args.results is not None:
                    with args.results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                yield line
        forget()


# -- the run ------------------------------------------------------------------------


def all_cells(args: argparse.Namespace) -> list[Cell]:
    """Return the cells, small ones first, in an order that favours no table."""
    cells = []
    for n, s in product(args.rows, args.seeds):
        some = list(product(args.noise, args.teachers, args.tables))
        order = np.random.default_rng(s).permutation(len(some))
        cells += [
            Cell(t, n, z, k, s) for z, k, t in (some[position] for position in order)
        ]
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
    parser.add_argument("--recipes", nargs="+", choices=RECIPES)
    args = parser.parse_args(argv)
    small = args.quick or args.tiny
    real = REAL if args.data and not small else ()
    sizes: dict[str, tuple[Any, Any, Any]] = {
        "tables": ((*BUNDLED, *real), BUNDLED[1:], BUNDLED[1:]),
        "rows": ((1000, 5000, 20000), (300,), (120,)),
        "noise": ((0.0, 0.3), (0.0, 0.3), (0.3,)),
        "teachers": (TEACHERS, TEACHERS[:1], TEACHERS[:1]),
        "students": (STUDENTS, ("linear", "MLP 32", "tree"), ("linear", "tree")),
        "seeds": (range(5), (0,), (0, 1)),
        "trees": (500, 50, 5),
        "recipes": (RECIPES, (DEFAULTS, *FIXED), RECIPES),
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
    means = over_seeds(lines)
    if len(means) < len(lines):
        print(f"Means over the seeds of {len(means)} cells\n")
        print_summary(means)
    print_methods(lines)
    by_default = [line for line in lines if DEFAULTS in line["methods"]]
    if by_default:
        print_choices(by_default)
        if len(means) < len(lines):
            print_means(over_seeds(by_default))
        if args.cells:
            print_cells(by_default)


if __name__ == "__main__":
    main()
