"""The tables of `bench_gap.py`: wins and losses, means, choices and single cells."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import product
from typing import Any

import _bench
import numpy as np
from _gap_cells import FAMILIES, STUDENTS

#: What tells a cell from the others.
CELL = ("table", "n_rows", "noise", "teacher", "student")
LABELS, DEFAULTS, EVERYTHING, POOL = "labels", "defaults", "everything", "pool"


def key(line: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells a line of one seed from the others."""
    return *(line[name] for name in CELL[:-1]), line["seed"], line["student"]


def recipes(lines: list[dict[str, Any]]) -> list[str]:
    """Return all methods that there are but teacher and labels, as they came."""
    found = dict.fromkeys(name for line in lines for name in line["methods"])
    return [name for name in found if name not in ("teacher", LABELS)]


def over_seeds(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one line for each cell: the means over its seeds.

    The standard error of a mean gain is that of the test rows or that of the seeds,
    whichever is larger: seeds differ in training rows and luck, and share test rows.
    """
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        groups[tuple(line[name] for name in CELL)].append(line)
    return [_mean_line(some) for some in groups.values()]


def _mean_line(lines: list[dict[str, Any]]) -> dict[str, Any]:
    names = set.intersection(*(set(line["methods"]) for line in lines))
    methods = {}
    for name in lines[0]["methods"]:
        if name not in names:
            continue
        of_seeds = [line["methods"][name] for line in lines]
        means = {k: float(np.mean([m[k] for m in of_seeds])) for k in of_seeds[0]}
        for gain in ("gain", "ahead"):
            errors = [m[f"{gain}_error"] for m in of_seeds]
            of_rows = float(np.sqrt(np.sum(np.square(errors)))) / len(errors)
            spread = _error_of_seeds([m[gain] for m in of_seeds])
            means[f"{gain}_error"] = max(of_rows, spread)
            means[f"{gain}_row_error"] = of_rows
        methods[name] = means
    chosen = [line["chosen"] for line in lines]
    cell = {name: lines[0][name] for name in CELL}
    return {**cell, "n_seeds": len(lines), "methods": methods, "chosen": chosen}


def _error_of_seeds(gains: list[float]) -> float:
    if len(gains) == 1:
        return 0.0
    return float(np.std(gains, ddof=1)) / len(gains) ** 0.5


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
    for family, method in product(("linear", "MLP", "tree"), recipes(lines)):
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


def print_means(lines: list[dict[str, Any]]) -> None:
    """Print what the defaults gain in each cell, over its seeds."""
    rows = []
    for line in sorted(lines, key=lambda line: [line[name] for name in CELL]):
        found, gain = line["methods"], line["methods"][DEFAULTS]
        chosen = Counter(_name_of(some[DEFAULTS]) for some in line["chosen"])
        rows.append(
            [
                line["table"],
                line["n_rows"],
                f"{line['noise']:.0%}",
                line["teacher"],
                line["student"],
                line["n_seeds"],
                *(f"{found[m]['log_loss']:.4f}" for m in ("teacher", LABELS, DEFAULTS)),
                f"{gain['gain']:+.4f}",
                f"{gain['gain_error']:.4f}",
                f"{gain['gain_row_error']:.4f}",
                verdict(gain),
                "; ".join(f"{n} {what}" for what, n in chosen.most_common()),
            ]
        )
    headers = (
        "table",
        "rows",
        "noise",
        "teacher",
        "student",
        "seeds",
        *(f"log-loss {m}" for m in ("teacher", LABELS, DEFAULTS)),
        "gain",
        "s.e.",
        "of rows",
        "against labels",
        "chosen",
    )
    _bench.print_table(headers, rows, left=5)


def _name_of(chosen: dict[str, Any]) -> str:
    if chosen["source"] == LABELS:
        return LABELS
    return f"{chosen['source']}, {chosen['mixing_weight']:g}"


def print_methods(lines: list[dict[str, Any]]) -> None:
    """Print mean scores by student, noise and method."""
    rows = []
    for student, noise in product(STUDENTS, sorted({line["noise"] for line in lines})):
        some = [x for x in lines if x["student"] == student and x["noise"] == noise]
        for method in ("teacher", LABELS, *recipes(some)):
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
        what = _name_of(line["chosen"][DEFAULTS])
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
