"""What the pages that repeat the paper's experiments share: table, verdict, command.

Results are arrays with one row a trial, so that each number has a standard error and
each verdict can be asked how far it depends on the trials: the trials are resampled.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from skdistill.students import MLPStudent

Results = Mapping[str, np.ndarray]
N_RESAMPLES = 1000


@dataclass(frozen=True)
class Curve:
    """A curve of the paper and where ours is: a row of results for each setting.

    `paper` is None where the paper has no such curve. `statistic` is what is reported
    of the trials, the median or the mean. Values of other data than the paper's are not
    `comparable` one by one: their difference is not shown.
    """

    quantity: str
    key: str
    settings: Sequence[Any]
    paper: Sequence[float] | None = None
    statistic: Callable[..., np.ndarray] = np.mean
    digits: int = 3
    comparable: bool = True


@dataclass(frozen=True)
class Criterion:
    """A claim about the results: a number measured in them, and what it has to be."""

    text: str
    measure: Callable[[Results], float]
    passes: Callable[[float], bool]
    unit: str = ".3f"


@dataclass(frozen=True)
class Verdict:
    """Whether a criterion holds, and in which share of the resamples it does."""

    text: str
    value: str
    passed: bool
    support: float


@dataclass(frozen=True)
class Experiment:
    """An experiment of the paper."""

    section: str
    run: Callable[[int, int], Results]
    curves: Sequence[Curve]
    criteria: Sequence[Criterion]
    plot: Callable[[Results], Any]
    n_trials: int
    n_trials_full: int
    notes: str = ""


# -- estimates and verdicts ---------------------------------------------------------


def resamples(n_trials: int, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """Return trials drawn with replacement, one row a resample; always the same."""
    rng = np.random.default_rng(0)
    return rng.integers(n_trials, size=(n_resamples, n_trials))


def estimate(values: np.ndarray, statistic: Callable[..., np.ndarray]) -> Any:
    """Return a statistic over the trials and its bootstrap standard error."""
    drawn = values[resamples(len(values))]
    return statistic(values, axis=0), statistic(drawn, axis=1).std(axis=0, ddof=1)


def judge(criteria: Iterable[Criterion], results: Results) -> list[Verdict]:
    """Try each criterion on the results, and on resamples of their trials."""
    n_trials = len(next(iter(results.values())))
    draws = resamples(n_trials, 200)
    verdicts = []
    for criterion in criteria:
        value = criterion.measure(results)
        again = [
            criterion.passes(
                criterion.measure({name: v[rows] for name, v in results.items()})
            )
            for rows in draws
        ]
        verdicts.append(
            Verdict(
                criterion.text,
                format(value, criterion.unit),
                bool(criterion.passes(value)),
                float(np.mean(again)),
            )
        )
    return verdicts


# -- tables -------------------------------------------------------------------------


def comparison(curves: Iterable[Curve], results: Results) -> list[dict[str, str]]:
    """Return one row for each point: the paper's value, ours, and its error."""
    rows = []
    for curve in curves:
        ours, error = estimate(results[curve.key], curve.statistic)
        paper = curve.paper or [None] * len(curve.settings)
        for setting, theirs, here, se in zip(
            curve.settings, paper, ours, error, strict=True
        ):
            shown = theirs is not None and curve.comparable
            rows.append(
                {
                    "quantity": curve.quantity,
                    "setting": str(setting),
                    "paper": written(theirs, curve.digits),
                    "ours": written(here, curve.digits),
                    "std. error": written(se, curve.digits + 1),
                    "difference": written(here - theirs, curve.digits, "+")
                    if shown
                    else "",
                }
            )
    return rows


def written(value: float | None, digits: int, sign: str = "") -> str:
    """Return a number, a dash where it cannot be had, nothing where there is none."""
    if value is None:
        return ""
    return "-" if np.isnan(value) else format(value, f"{sign}.{digits}f")


def verdict_rows(verdicts: Iterable[Verdict]) -> list[dict[str, str]]:
    """Return one row for each criterion."""
    return [
        {
            "criterion": verdict.text,
            "measured": verdict.value,
            "verdict": "pass" if verdict.passed else "FAIL",
            "holds in resamples": f"{100 * verdict.support:.0f} %",
        }
        for verdict in verdicts
    ]


def as_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows as a Markdown table."""
    names = list(rows[0])
    cells = [names, *([row[name] for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


# -- data ---------------------------------------------------------------------------

PIXEL_NOISE = 0.4


def noisy_digits(
    rng: np.random.RandomState, n_draws: int = 1
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows for a teacher, for its student, and for tests.

    scikit-learn's scans with Gaussian noise on each pixel: what digit it was cannot
    always be told, so that the true probabilities are not zeros and ones. 700, 400 and
    697 different scans. Those of the student come with `n_draws` draws of the noise,
    one after the other, those of the tests with three.
    """
    X, y = load_digits(return_X_y=True)
    parts = np.split(rng.permutation(len(y)), [700, 1100])
    parts[1] = np.tile(parts[1], n_draws)
    parts[2] = np.repeat(parts[2], 3)
    return [
        (X[rows] / 16 + PIXEL_NOISE * rng.normal(size=(len(rows), 64)), y[rows])
        for rows in parts
    ]


# -- models -------------------------------------------------------------------------


def plain_network(width: int, random_state: int, **params: Any) -> MLPStudent:
    """Return a network of one hidden layer without what keeps networks in check.

    No early stop, no averaging of the steps, no embeddings: as networks are in the
    paper. Its settings are written out, so that the package's defaults do not matter.
    """
    recipe = {
        "numeric_embedding": None,
        "learning_rate_init": 0.002,
        "weight_decay": 0.0,
        "averaging": False,
        "early_stopping": False,
        "tol": 0.0,
        "random_state": random_state,
    }
    return MLPStudent((width,), **(recipe | params))


# -- command ------------------------------------------------------------------------


def report(experiment: Experiment, argv: Sequence[str] | None = None) -> list[Verdict]:
    """Run an experiment as the command line says; print, draw, return the verdicts."""
    parser = argparse.ArgumentParser(description=experiment.section)
    parser.add_argument(
        "--full",
        action="store_true",
        help=f"{experiment.n_trials_full} trials, as in the paper or more",
    )
    parser.add_argument("--n-trials", type=int, help="another number of trials")
    parser.add_argument("--random-state", type=int, default=0)
    parser.add_argument("--figure", help="file to write the figure to")
    args = parser.parse_args(argv)
    n_trials = experiment.n_trials_full if args.full else experiment.n_trials
    n_trials = args.n_trials or n_trials
    with threadpool_limits(1):  # problems as small as these are slower on two threads
        results = experiment.run(n_trials, args.random_state)
    print(f"{experiment.section}: {n_trials} trials.\n")
    print(as_table(comparison(experiment.curves, results)), end="\n\n")
    verdicts = judge(experiment.criteria, results)
    print(as_table(verdict_rows(verdicts)))
    if experiment.notes:
        print(f"\n{experiment.notes}")
    figure = experiment.plot(results)
    if args.figure:
        figure.savefig(args.figure, dpi=150)
    if "sphinx_gallery" in sys.modules:
        plt.show()
    return verdicts


# -- figures ------------------------------------------------------------------------

OURS, OTHER, PAPER = "#0072B2", "#E69F00", "#6b7680"


def draw(
    ax: Any,
    x: Sequence[float],
    values: np.ndarray,
    statistic: Callable[..., np.ndarray] = np.mean,
    **style: Any,
) -> None:
    """Draw a curve with bars of two standard errors."""
    centre, error = estimate(values, statistic)
    ax.errorbar(x, centre, yerr=2 * error, capsize=3, markersize=5, **style)


def tidy(ax: Any, **labels: Any) -> None:
    """Set labels, leave out two sides of the frame, add a grid and a legend."""
    ax.set(**labels)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False)
