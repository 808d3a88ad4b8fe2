"""Which parts of MLPStudent's recipe pay, and how does it compare on labels alone?

No teacher here: a student that is weak on labels makes distillation look good. Tables
are those of scikit-learn and, where ``SKDISTILL_DATA`` (or ``--data``) names a folder
with a ``load.py``, real ones. Each method is fitted to the same rows and scored on the
same test rows by log-loss and accuracy. Peers get one-hot categories, imputed values
with indicators and standard scaling, MLPClassifier also a choice of ``alpha`` and of
early stopping on a fifth of the training rows; HistGradientBoosting takes the tables as
they are, but for levels beyond the 254 that it can take.

Differences are paired. The standard error of a table is the larger one of that over the
seeds and that over the test rows. ``--results FILE`` keeps what is computed and goes on
from there; ``--part 1/2`` computes half of it, ``--part 0/1`` prints what is there.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from typing import Any
from unittest.mock import patch

import _bench
import numpy as np
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, ShuffleSplit, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from skdistill import _front, _training
from skdistill.students import MLPStudent, _tables

HIDDEN = (64, 64)
MAX_TEST = 5000
RECIPE, PLAIN, PEER, BOOSTING = "recipe", "plain", "MLPClassifier", "boosting"
REAL = (
    "adult",
    "bank_marketing",
    "covertype_part",
    "dry_bean",
    "letter",
    "nycflights13",
    "spambase",
    "fashion_mnist",
)


# -- data ---------------------------------------------------------------------------


def bundled(load: Callable[..., Any]) -> Callable[[], Any]:
    def loader() -> Any:
        X, y = load(return_X_y=True)
        X, X_test, y, y_test = train_test_split(
            X, y, test_size=0.3, stratify=y, random_state=0
        )
        return X, y, X_test, y_test

    return loader


def loaders(folder: str | None) -> dict[str, Callable[[], Any]]:
    """Return the tables that there are, by name."""
    found = {
        "digits": bundled(load_digits),
        "breast_cancer": bundled(load_breast_cancer),
    }
    if folder is None:
        return found
    return found | {name: getattr(_bench.real_data(folder), name) for name in REAL}


def rows_of(X: Any, rows: Any) -> Any:
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def sample(table: Any, n: int, seed: int) -> tuple[Any, ...]:
    """Draw training and test rows; test rows of classes not drawn are left out."""
    X, y, X_test, y_test = table
    rng = np.random.default_rng(seed)
    train = rng.permutation(len(y))[:n]
    classes, y = np.unique(y[train], return_inverse=True)
    known = np.flatnonzero(np.isin(y_test, classes))
    test = rng.permutation(known)[:MAX_TEST]
    return (
        rows_of(X, train),
        y,
        rows_of(X_test, test),
        np.searchsorted(classes, y_test[test]),
    )


# -- the recipe's parts -------------------------------------------------------------


def standard_scale(values: Any, weight: Any) -> tuple[float, float]:
    """Mean and standard deviation, in the place of `robust_scale`."""
    if values.min() == values.max():
        return float(values[0]), np.inf
    return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))


def quartile_scale(values: Any, weight: Any) -> tuple[float, float]:
    """Median and interquartile range, half of the range where that is 0 (RealMLP)."""
    low, centre, high = np.quantile(values.astype(np.float64), (0.25, 0.5, 0.75))
    scale = high - low or (float(values.max()) - float(values.min())) / 2
    return float(centre), float(scale) or np.inf


@contextmanager
def scaled_by(scale: Callable[..., Any], clip: float) -> Iterator[None]:
    with (
        patch.object(_tables, "robust_scale", scale),
        patch.object(_tables, "CLIP", clip),
    ):
        yield


@contextmanager
def without_factors() -> Iterator[None]:
    with patch.object(_front, "SCALE_STEP", 0.0):
        yield


@contextmanager
def cosine_steps(n_steps: int) -> Iterator[None]:
    """Let the step size fall to zero over a number of steps."""

    class Cosine(_training.AdamW):
        n_taken = 0

        def step(self) -> None:
            ((size, decay),) = self.rates
            if self.n_taken == 0:
                self.first_size = size
            falling = (1 + np.cos(np.pi * self.n_taken / n_steps)) / 2
            self.rates = [(self.first_size * falling, decay)]
            self.n_taken += 1
            super().step()

    with patch.object(_training, "AdamW", Cosine):
        yield


@contextmanager
def as_it_is() -> Iterator[None]:
    yield


PLAIN_STEPS = {"averaging": False, "learning_rate_init": 0.002, "weight_decay": 1e-4}
NO_EMBEDDING = {"numeric_embedding": None}
ONE_PART = {"n_folds": 1}
N_COSINE = 50


def students(n_rows: int) -> dict[str, tuple[Any, Any]]:
    """Return the variants: where they run, and their parameters."""

    def standard() -> Any:
        return scaled_by(standard_scale, np.inf)

    def falling() -> Any:
        n_batches = -(-int(0.9 * n_rows) // 128)
        return cosine_steps(N_COSINE * n_batches)

    def quartiles() -> Any:
        return scaled_by(quartile_scale, 3.0)

    cosine = {"averaging": False, "max_iter": N_COSINE, "n_iter_no_change": N_COSINE}
    plain = {**PLAIN_STEPS, **NO_EMBEDDING, **ONE_PART}
    return {
        PLAIN: (standard, plain),
        "plain + scale, clip": (as_it_is, plain),
        "plain + embedding, factors": (standard, {**PLAIN_STEPS, **ONE_PART}),
        "plain + averaging": (standard, {**NO_EMBEDDING, **ONE_PART}),
        "plain + folds": (standard, {**PLAIN_STEPS, **NO_EMBEDDING}),
        RECIPE: (as_it_is, {}),
        "recipe - scale, clip": (standard, {}),
        "recipe - embedding, factors": (as_it_is, NO_EMBEDDING),
        "recipe - factors": (without_factors, {}),
        "recipe - averaging": (as_it_is, PLAIN_STEPS),
        "recipe - folds": (as_it_is, ONE_PART),
        "recipe, quartiles, clip at 3": (quartiles, {}),
        "recipe - folds, cosine for averaging": (falling, {**cosine, **ONE_PART}),
    }


# -- the peers ----------------------------------------------------------------------


def numbers() -> Any:
    """Return the preprocessing of the peers that take numbers only."""
    scale = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    categories = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing"),
        OneHotEncoder(max_categories=64, handle_unknown="infrequent_if_exist"),
    )
    return make_column_transformer(
        (categories, make_column_selector(dtype_include=["category", object])),
        (scale, make_column_selector(dtype_include="number")),
        sparse_threshold=0.0,
    )


def tuned_mlp(X: Any, seed: int) -> Any:
    """Return scikit-learn's network with its penalty and stopping chosen."""
    first = numbers() if hasattr(X, "iloc") else StandardScaler()
    network = MLPClassifier(HIDDEN, max_iter=100, random_state=seed)
    grid = {
        "mlpclassifier__alpha": [1e-4, 1e-2, 1.0],
        "mlpclassifier__early_stopping": [False, True],
    }
    return GridSearchCV(
        make_pipeline(first, network),
        grid,
        scoring="neg_log_loss",
        cv=ShuffleSplit(1, test_size=0.2, random_state=seed),
        error_score=-10.0,
    )


def boosting(X: Any, seed: int) -> Any:
    """Return boosting; the rarest levels together where it cannot take them all."""
    model = HistGradientBoostingClassifier(random_state=seed)
    if not hasattr(X, "iloc") or X.select_dtypes("category").nunique().max() < 255:
        return model
    levels = OrdinalEncoder(
        max_categories=254,
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
    )
    names = list(X.select_dtypes("category"))
    model.set_params(categorical_features=np.arange(len(names)))
    encoded = make_column_transformer((levels, names), remainder="passthrough")
    return make_pipeline(encoded, model)


# -- one table, one seed ------------------------------------------------------------


def measure(model: Any, rows: tuple[Any, ...]) -> dict[str, Any]:
    """Fit a model and return its row-wise log-loss, its accuracy and its time."""
    X, y, X_test, y_test = rows
    start = process_time()
    with warnings.catch_warnings():
        # Some penalties do not converge, and a class may have a single row.
        warnings.simplefilter("ignore")
        model.fit(X, y)
    seconds = process_time() - start
    proba = model.predict_proba(X_test)
    floor = np.finfo(np.float32).eps
    losses = -np.log(np.clip(proba[np.arange(len(y_test)), y_test], floor, 1.0))
    accuracy = float((proba.argmax(axis=1) == y_test).mean())
    return {"losses": losses, "accuracy": accuracy, "seconds": seconds}


def run(table: Any, n: int, seed: int, ablate: bool) -> dict[str, Any]:
    """Return what all methods reach on one sample."""
    rows = sample(table, n, seed)
    found = {}
    for name, (context, params) in students(n).items():
        if ablate or name in (PLAIN, RECIPE):
            with context():
                found[name] = measure(
                    MLPStudent(HIDDEN, random_state=seed, **params), rows
                )
    found[PEER] = measure(tuned_mlp(rows[0], seed), rows)
    found[BOOSTING] = measure(boosting(rows[0], seed), rows)
    reference = found[RECIPE]["losses"]
    return {
        name: {
            "log_loss": float(result["losses"].mean()),
            "accuracy": result["accuracy"],
            "seconds": result["seconds"],
            "difference": float((reference - result["losses"]).mean()),
            "row_error": float(
                (reference - result["losses"]).std() / len(reference) ** 0.5
            ),
        }
        for name, result in found.items()
    }


def cells(args: Any, names: Sequence[str]) -> list[tuple[str, int, int, bool]]:
    """Return table, rows, seed and whether all variants are run."""
    if args.tiny:
        return [("breast_cancer", 100, 0, False)]
    if args.quick:
        return [(name, 1000, 0, True) for name in ("digits", "breast_cancer")]
    found = []
    # Seed by seed: a run that is stopped has whole tables.
    for seed in range(args.seeds):
        for n in (1000, 5000):
            found += [(name, n, seed, True) for name in REAL[:-1]]
        found += [(name, 1000, seed, True) for name in names if name not in REAL]
        found += [("fashion_mnist", 2000, seed, False)]
        large = ("adult", "covertype_part", "letter")
        found += [(name, 20_000, seed, False) for name in large]
    return [cell for cell in found if cell[0] in names]


def load_results(path: str | None) -> dict[tuple[str, int, int], dict[str, Any]]:
    if path is None or not Path(path).is_file():
        return {}
    lines = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
    return {(d["table"], d["n"], d["seed"]): d["methods"] for d in lines}


def compute(args: Any) -> dict[tuple[str, int, int], dict[str, Any]]:
    """Run what is missing from the results, and return all."""
    tables = loaders(args.data)
    results = load_results(args.results)
    part, parts = (int(number) for number in args.part.split("/"))
    loaded: dict[str, Any] = {}
    for i, (name, n, seed, ablate) in enumerate(cells(args, list(tables))):
        key = (name, n, seed)
        if key in results or i % parts != part - 1:
            continue
        if name not in loaded:
            loaded[name] = tables[name]()
        results[key] = run(loaded[name], n, seed, ablate)
        if args.results is not None:
            entry = {"table": name, "n": n, "seed": seed, "methods": results[key]}
            with Path(args.results).open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
    return results


# -- tables -------------------------------------------------------------------------


def paired(samples: list[dict[str, Any]], method: str) -> tuple[float, float]:
    """Return the mean of recipe minus method in log-loss, and its standard error."""
    differences = np.array([s[method]["difference"] for s in samples])
    over_rows = np.sqrt(sum(s[method]["row_error"] ** 2 for s in samples)) / len(
        samples
    )
    over_seeds = 0.0
    if len(samples) > 1:
        over_seeds = differences.std(ddof=1) / len(samples) ** 0.5
    return float(differences.mean()), float(max(over_rows, over_seeds))


def print_tables(results: dict[tuple[str, int, int], dict[str, Any]]) -> None:
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for (name, n, _), methods in sorted(results.items()):
        groups.setdefault((name, n), []).append(methods)
    print("Log-loss and accuracy on labels\n")
    columns = (PLAIN, RECIPE, PEER, BOOSTING)
    lines = []
    for (name, n), samples in groups.items():
        scores = [
            f"{np.mean([s[m]['log_loss'] for s in samples]):.4f} / "
            f"{np.mean([s[m]['accuracy'] for s in samples]):.3f}"
            for m in columns
        ]
        mean, error = paired(samples, PEER)
        verdict = "tie"
        if abs(mean) > 2 * error:
            verdict = "better" if mean < 0 else "worse"
        lines.append(
            [name, n, len(samples), *scores, f"{mean:+.4f} ± {error:.4f}", verdict]
        )
    headers = ["table", "rows", "seeds", *columns, f"recipe - {PEER}", ""]
    _bench.print_table(headers, lines)
    print_parts(groups)


def print_parts(groups: dict[tuple[str, int], list[dict[str, Any]]]) -> None:
    """Print what each variant does to log-loss and time, over all tables."""
    print("Parts: log-loss and time relative to the recipe, geometric means; tables\n")
    names = list(dict.fromkeys(m for g in groups.values() for s in g for m in s))
    lines = []
    for name in names:
        having = {k: [s for s in g if name in s] for k, g in groups.items()}
        having = {k: samples for k, samples in having.items() if samples}
        every = [s for samples in having.values() for s in samples]
        loss = [np.log(s[name]["log_loss"] / s[RECIPE]["log_loss"]) for s in every]
        seconds = [np.log(s[name]["seconds"] / s[RECIPE]["seconds"]) for s in every]
        accuracy = [s[name]["accuracy"] - s[RECIPE]["accuracy"] for s in every]
        pairs = [paired(samples, name) for samples in having.values()]
        better = sum(mean > 2 * error for mean, error in pairs if name != RECIPE)
        worse = sum(mean < -2 * error for mean, error in pairs if name != RECIPE)
        lines.append(
            [
                name,
                f"{100 * np.expm1(np.mean(loss)):+.1f} %",
                f"{100 * np.mean(accuracy):+.2f}",
                f"{np.exp(np.mean(seconds)):.2f}",
                better,
                worse,
                len(pairs),
            ]
        )
    headers = ["method", "log-loss", "accuracy", "time", "better", "worse", "of"]
    _bench.print_table(headers, lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = _bench.parser(__doc__)
    parser.add_argument("--data", default=os.environ.get("SKDISTILL_DATA"))
    parser.add_argument("--results", help="file of results; goes on from there")
    parser.add_argument("--part", default="1/1", help="i/k: the i-th of k parts")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args(argv)
    _bench.print_machine(args)
    print_tables(compute(args))


if __name__ == "__main__":
    main()
