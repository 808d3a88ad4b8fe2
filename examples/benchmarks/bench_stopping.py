"""How should a network find out when to stop: by one part held out, or by folds?

Log-loss on test rows of MLPStudent on labels alone, with one part held out
(``n_folds=1``) and with five folds whose mean says when, and with steps averaged over
about their last tenth and their last third. Changes are relative to one part and the
last tenth; in brackets the standard deviation over seeds of the network, which is what
folds are for.

Tables are those of scikit-learn and, where the environment variable SKDISTILL_DATA (or
``--data``) names a folder with a ``load.py``, real ones.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from time import process_time
from typing import Any
from unittest.mock import patch

import _bench
import numpy as np
from _gap_cells import Cell, Data, load
from bench_gap import row_loss

from skdistill import _optimizers
from skdistill.students import MLPStudent

#: About one in so many of the last steps counts: eta + 1 in `averaging_share`.
LAST = {"last tenth": 9, "last third": 3}
FOLDS = {"one part": 1, "folds": 5}
SEED = 401

#: Table, rows, label noise, seeds.
CELLS: list[tuple[str, int, float, int]] = [
    ("digits", 1000, 0.0, 4),
    ("digits", 1000, 0.3, 3),
    ("letter", 1000, 0.0, 3),
    ("letter", 1000, 0.3, 3),
    ("spambase", 1000, 0.0, 4),
    ("adult", 5000, 0.0, 2),
    ("adult", 5000, 0.3, 2),
    ("bank_marketing", 5000, 0.0, 2),
    ("covertype_part", 5000, 0.0, 2),
    ("covertype_part", 5000, 0.3, 2),
    ("dry_bean", 5000, 0.0, 2),
    ("letter", 5000, 0.0, 2),
]


def losses(data: Data, n_folds: int, last: int, n_seeds: int) -> tuple[Any, float]:
    """Return the test log-loss of each seed, and the mean processor time of a fit."""

    def share(n_steps: int) -> float:
        return last / (n_steps + last - 1)

    found, seconds = [], []
    with patch.object(_optimizers, "averaging_share", share):
        for seed in range(n_seeds):
            student = MLPStudent((64, 64), random_state=seed, n_folds=n_folds)
            start = process_time()
            student.fit(data.X, data.y)
            seconds.append(process_time() - start)
            proba = student.predict_proba(data.X_test)
            found.append(float(row_loss(data.noisy, proba).mean()))
    return np.array(found), float(np.mean(seconds))


def run_cell(data: Data, n_seeds: int) -> list[str]:
    """Return the row of a cell: changes, spreads and times."""
    cells, first = [], None
    for n_folds in FOLDS.values():
        for last in LAST.values():
            loss, seconds = losses(data, n_folds, last, n_seeds)
            first = (loss.mean(), seconds) if first is None else first
            change, spread = loss.mean() / first[0] - 1, loss.std(ddof=1) / first[0]
            cells.append(f"{change:+.1%} ({spread:.1%}) {seconds / first[1]:.1f} x")
    return cells


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _bench.parser(__doc__)
    parser.add_argument("--data", default=os.environ.get("SKDISTILL_DATA"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    _bench.print_machine(args)
    small = [("digits", 300, 0.0, 2)]
    tiny = [("digits", 100, 0.0, 2)]
    # The first fit of a process takes longer.
    MLPStudent((8,), max_iter=1).fit(np.eye(8), np.arange(8) % 2)
    rows = []
    for table, n_rows, noise, n_seeds in _bench.pick(args, CELLS, small, tiny):
        if table == "digits" or args.data:
            data = load(Cell(table, n_rows, noise, "none", SEED), args.data)
            assert data is not None
            rows.append([table, n_rows, f"{noise:.0%}", *run_cell(data, n_seeds)])
    names = [f"{folds}, {last}" for folds in FOLDS for last in LAST]
    print("Change of the log-loss, (its deviation over seeds), x processor time\n")
    _bench.print_table(["table", "rows", "noise", *names], rows)


if __name__ == "__main__":
    main()
