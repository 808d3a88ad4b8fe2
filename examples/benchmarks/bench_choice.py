"""Does what a candidate gains on held-out rows tell what it gains on fresh ones?

The defaults of DistillationClassifier choose by rows of a few folds how to train the
student. Here every candidate of the choice is trained on all rows, and scored on test
rows: in each cell (a table, label noise, a seed) the gain on the folds in standard
errors, and the gain on the test rows in theirs.

Three tables:

- each candidate, if it were a fixed recipe
- what would be chosen if mixtures with synthetic rows needed other gains than they do
- what would be chosen if all others needed other gains than they do

Cells, tables and noise are those of `bench_gap.py`. With `--results` lines are kept in
a file, and a run that was broken off goes on. The folder in the environment variable
SKDISTILL_DATA, or `--data`, with a `load.py`, adds real tables.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import _bench
import numpy as np
from _gap_cells import BUNDLED, STUDENTS, Cell, forget, load, make_student, make_teacher
from bench_gap import paired, read, row_loss
from sklearn.base import clone

from skdistill import DistillationClassifier
from skdistill._choice import EXPECTED, SURE, choose

TABLES = (
    *("dry_bean", "bank_marketing", "spambase", "letter"),
    *("covertype_part", "digits", "adult", "nycflights13"),
)
BURDENS = (2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0)


class EveryCandidate(DistillationClassifier):
    """Trains all candidates on all rows, as if each had been chosen."""

    def _train_chosen(
        self, outcome: Any, student: Any, rows: Any, recipe: Any, supply: Any
    ) -> None:
        self.students_ = [clone(student) for _ in outcome.candidates]
        for position, one in enumerate(self.students_):
            self._train_as(outcome, position, one, rows, recipe, supply)


def run_cell(cell: Cell, name: str, args: argparse.Namespace) -> dict[str, Any] | None:
    """Return what each candidate gains on folds and on test rows."""
    data = load(cell, args.data)
    if data is None:
        return None
    teacher = make_teacher(cell, data.X, args.trees)
    student = make_student(name, cell, data.X)
    if teacher is None or student is None:
        return None
    model = EveryCandidate(teacher, student, random_state=cell.seed)
    model.fit(data.X, data.y)
    losses = [
        row_loss(data.noisy, s.predict_proba(data.X_test)) for s in model.students_
    ]
    table = {key: values.tolist() for key, values in model.candidates_.items()}
    gained = [paired(losses[0], loss) for loss in losses]
    return {
        **asdict(cell),
        "student": name,
        "candidates": table,
        "log_loss": [float(loss.mean()) for loss in losses],
        "test_gain": [gain for gain, _ in gained],
        "test_error": [error for _, error in gained],
    }


def identity(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line[k] for k in ("student", *Cell.__dataclass_fields__))


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the lines of all cells; those that are in the file are not run again."""
    known = {identity(line): line for line in read(args.results)}
    grid = product(args.seeds, args.students, args.rows, args.tables, args.noise)
    for seed, name, n_rows, table, noise in grid:
        cell = Cell(table, n_rows, noise, "forest", seed)
        line = known.get(identity({**asdict(cell), "student": name}))
        if line is None:
            line = run_cell(cell, name, args)
            forget()
            if line is not None and args.results is not None:
                with args.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
        if line is not None:
            yield line


# -- the tables ---------------------------------------------------------------------


def names(line: dict[str, Any]) -> list[str]:
    """Return what the candidates of a line are called."""
    table = line["candidates"]
    parts = zip(
        *(table[k] for k in ("source", "mixing_weight", "temperature", "augmented")),
        strict=True,
    )
    return [
        source
        if source == "labels"
        else f"{source}, {weight:g}"
        + (", tempered" if temperature == "auto" else "")
        + (", synthetic rows" if augmented else "")
        for source, weight, temperature, augmented in parts
    ]


def sureness(line: dict[str, Any], position: int) -> float:
    """Return a gain on test rows in its standard errors."""
    return float(line["test_gain"][position] / max(line["test_error"][position], 1e-12))


def counts(lines: Sequence[dict[str, Any]], chosen: Sequence[int]) -> list[Any]:
    """Return wins, noisy wins, losses, and the mean share of the log-loss gained."""
    sure = [sureness(*pair) for pair in zip(lines, chosen, strict=True)]
    noisy = [line["noise"] > 0 for line in lines]
    shares = [
        line["test_gain"][k] / line["log_loss"][0]
        for line, k in zip(lines, chosen, strict=True)
    ]
    won = np.array(sure) > 2
    return [
        int(won.sum()),
        f"{int((won & noisy).sum())} of {sum(noisy)}",
        int((np.array(sure) < -2).sum()),
        f"{100 * float(np.mean(shares)):.1f} %",
    ]


def print_fixed(lines: Sequence[dict[str, Any]]) -> None:
    """Print what each candidate would do as a fixed recipe."""
    rows = []
    for name in dict.fromkeys(name for line in lines for name in names(line)):
        some = [line for line in lines if name in names(line)]
        positions = [names(line).index(name) for line in some]
        if name != "labels":
            rows.append([name, len(some), *counts(some, positions)])
    header = ["candidate", "cells", "wins", "noisy wins", "losses", "lower log-loss"]
    _bench.print_table(header, rows)
    print()


def expected(line: dict[str, Any]) -> Any:
    """Return which candidates are mixtures with synthetic rows."""
    table = line["candidates"]
    return (np.array(table["source"]) == "mixture") & np.array(table["augmented"])


def pick(line: dict[str, Any], burden: tuple[float, float]) -> int:
    """Return what is chosen if mixtures with synthetic rows, and others, need these."""
    table = line["candidates"]
    burdens = np.where(expected(line), *burden)
    gain, error = (np.array(table[k]) for k in ("gain", "gain_standard_error"))
    return choose(gain, error, burdens)


def print_burdens(lines: Sequence[dict[str, Any]]) -> None:
    """Print what comes of several burdens of proof."""
    tried = {"all others": [(EXPECTED, burden) for burden in BURDENS]}
    if any(expected(line).any() for line in lines):
        eased = [(burden, SURE) for burden in BURDENS]
        tried = {"mixtures with synthetic rows": eased, **tried}
    for who, burdens in tried.items():
        rows = []
        for needed, burden in zip(BURDENS, burdens, strict=True):
            chosen = [pick(line, burden) for line in lines]
            rows.append([needed, len(lines), *counts(lines, chosen), chosen.count(0)])
        print(f"If {who} needed a gain of so many standard errors:\n")
        header = ["standard errors", "cells", "wins", "noisy wins", "losses"]
        _bench.print_table([*header, "lower log-loss", "labels chosen"], rows)
        print()


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _bench.parser(__doc__)
    parser.add_argument("--data", default=os.environ.get("SKDISTILL_DATA"))
    parser.add_argument("--results", type=Path, help="file of lines to go on with")
    parser.add_argument("--tables", nargs="+")
    parser.add_argument("--rows", nargs="+", type=int)
    parser.add_argument("--noise", nargs="+", type=float)
    parser.add_argument("--students", nargs="+", choices=STUDENTS)
    parser.add_argument("--seeds", nargs="+", type=int)
    args = parser.parse_args(argv)
    real = TABLES if args.data else BUNDLED
    sizes: dict[str, tuple[Any, Any, Any]] = {
        "tables": (real, BUNDLED, BUNDLED[1:]),
        "rows": ((1000,), (300,), (120,)),
        "noise": ((0.3, 0.0), (0.3, 0.0), (0.3,)),
        "students": (("MLP 32",), ("MLP 32",), ("MLP 32",)),
        "seeds": (range(20, 24), (20,), (20,)),
    }
    for name, (full, quick, tiny) in sizes.items():
        if getattr(args, name) is None:
            setattr(args, name, _bench.pick(args, full, quick, tiny))
    args.trees = _bench.pick(args, 100, 30, 5)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    _bench.print_machine(args)
    with warnings.catch_warnings():
        # Of teachers that cannot help.
        warnings.simplefilter("ignore")
        lines = list(run(args))
    print_fixed(lines)
    print_burdens(lines)


if __name__ == "__main__":
    main()
