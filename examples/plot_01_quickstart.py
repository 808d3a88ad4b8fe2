"""
When does a student learn more from a teacher than from the labels?
===================================================================

A forest of 500 trees is the teacher, a small neural network the student, and the data
are the scanned digits that come with scikit-learn. Training labels are taken twice: as
they are, and with 30 % of them flipped to another class. Test labels are always clean.

Three models are compared: the teacher, the student on the labels, and the same student
distilled from the teacher. How much the distilled one listens to the teacher
(``mixing_weight``) is chosen by cross-validation on the training rows, labels alone
included.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from threadpoolctl import threadpool_limits

from skdistill import DistillationClassifier
from skdistill.metrics import (
    brier_score,
    expected_calibration_error,
    mean_kl_divergence,
)
from skdistill.students import MLPStudent

CONDITIONS = {"clean": 0.0, "30 % noise": 0.3}
MIXING_WEIGHTS = [0.0, 0.5, 1.0]
TEACHER, STUDENT, DISTILLED = "teacher", "student on labels", "distilled student"

# %%
# Data
# ----
# A flipped label is any of the other nine, so the probabilities that the training
# labels were drawn with are known: 0.7 for the true class and 0.3 / 9 for the others.


def load_data(noise, random_state):
    """Return training and test rows, and the true probabilities of the test rows."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=random_state
    )
    rng = np.random.default_rng(random_state)
    flip = rng.random(len(y_train)) < noise
    other = (y_train + rng.integers(1, 10, len(y_train))) % 10
    true_proba = np.full((len(y_test), 10), noise / 9)
    true_proba[np.arange(len(y_test)), y_test] = 1 - noise
    return X_train, np.where(flip, other, y_train), X_test, y_test, true_proba


# %%
# Models
# ------
# The search scores each mixing weight by the log-loss on held-out *training* labels:
# no test row, and no clean label, helps to choose. ``memory`` keeps the teacher's soft
# labels, so that the forest is cross-fitted once per fold and not once per candidate.


def fit_models(X, y, random_state):
    """Fit the three models; also return the search behind the distilled student."""
    forest = RandomForestClassifier(n_estimators=500, random_state=random_state)
    student = MLPStudent(hidden_layer_sizes=(64,), random_state=random_state)
    with tempfile.TemporaryDirectory() as cache:
        search = GridSearchCV(
            DistillationClassifier(
                teacher=forest,
                student=student,
                temperature="auto",
                memory=cache,
                n_jobs=2,
            ),
            {"mixing_weight": MIXING_WEIGHTS},
            scoring="neg_log_loss",
            cv=3,
        ).fit(X, y)
    models = {
        TEACHER: forest.fit(X, y),
        STUDENT: student.fit(X, y),
        DISTILLED: search.best_estimator_.student_,
    }
    return models, search


# %%
# Measurements
# ------------
# Accuracy, log-loss, Brier score and calibration error (ECE) are measured on clean test
# labels. KL is the distance of a model's probabilities from the true ones, those that
# the *training* labels were drawn with. With noise the two differ: the best model gives
# the true class 0.7. Its KL is 0, but by log-loss, Brier score and ECE on clean labels
# it looks under-confident.


def quality(model, X, y, true_proba):
    """Return the scores of a model on the test rows."""
    proba = model.predict_proba(X)
    return {
        "accuracy": accuracy_score(y, model.classes_[proba.argmax(axis=1)]),
        "log-loss": log_loss(y, proba),
        "Brier": brier_score(y, proba),
        "ECE": expected_calibration_error(y, proba),
        "KL": mean_kl_divergence(true_proba, proba),
    }


def cost(model, X, n_single=100, n_batch=25):
    """Return the size of a model and, on one thread, the medians of its times a row."""
    rows = [X[[i % len(X)]] for i in range(n_single)]
    with threadpool_limits(1):
        model.predict_proba(X)
        single = np.median([seconds(model, row) for row in rows])
        batch = np.median([seconds(model, X) for _ in range(n_batch)]) / len(X)
    return {
        "kB": len(pickle.dumps(model)) / 1000,
        "µs/row, one": 1e6 * single,
        "µs/row, batch": 1e6 * batch,
    }


def seconds(model, X):
    """Return how long one call takes."""
    start = perf_counter()
    model.predict_proba(X)
    return perf_counter() - start


def run(random_state=0):
    """Return one row per model and condition, and the search of each condition."""
    rows, searches = [], {}
    for labels, noise in CONDITIONS.items():
        X, y, X_test, y_test, true_proba = load_data(noise, random_state)
        models, searches[labels] = fit_models(X, y, random_state)
        for name, model in models.items():
            row = {"training labels": labels, "model": name}
            row |= quality(model, X_test, y_test, true_proba)
            rows.append(row | cost(model, X_test))
    return rows, searches


# %%
# The table, and what it says
# ---------------------------

FORMATS = {
    **dict.fromkeys(["accuracy", "log-loss", "Brier", "ECE", "KL"], ".3f"),
    **dict.fromkeys(["kB", "µs/row, one"], ",.0f"),
    "µs/row, batch": ".1f",
}


def as_table(rows):
    """Return the rows as a Markdown table."""
    names = list(rows[0])
    right = [name in FORMATS for name in names]
    cells = [names]
    cells += [
        [format(row[name], FORMATS.get(name, "")) for name in names] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        [pad(*cell) for cell in zip(line, widths, right, strict=True)] for line in cells
    ]
    lines.insert(
        1, ["-" * (w - r) + ":" * r for w, r in zip(widths, right, strict=True)]
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def pad(text, width, right):
    """Return the text in its column."""
    return text.rjust(width) if right else text.ljust(width)


NOTE = """\
Log-loss, Brier and ECE are on clean test labels; KL is from the probabilities that the
training labels were drawn with. With noise the best model gives the true class 0.7,
which only KL does not count as under-confidence."""


def verdict(labels, rows, search):
    """Say in words what the rows of one condition show."""
    row = {r["model"]: r for r in rows if r["training labels"] == labels}
    chosen = search.best_params_["mixing_weight"]
    scores = ", ".join(
        f"{-score:.3f} at {weight:g}"
        for weight, score in zip(
            MIXING_WEIGHTS, search.cv_results_["mean_test_score"], strict=True
        )
    )
    lines = [
        f"Training labels: {labels}. Log-loss in cross-validation by mixing weight:",
        f"  {scores}. Chosen: {chosen:g}.",
    ]
    if chosen == 0:
        lines.append("  Labels alone do best: distillation would not help here.")
    for name, sign in {"accuracy": 1, "log-loss": -1, "KL": -1}.items():
        before, after = row[STUDENT][name], row[DISTILLED][name]
        gain = sign * (after - before)
        word = "no change" if gain == 0 else "better" if gain > 0 else "worse"
        lines.append(f"  {name}: {before:.3f} -> {after:.3f} by distillation, {word}")
    return "\n".join(lines)


# %%
# The figure
# ----------

COLOURS = {TEACHER: "#9aa5b1", STUDENT: "#e0a458", DISTILLED: "#1f6f8b"}


def plot(rows):
    """Draw test error, distance from the true probabilities, and cost."""
    with plt.rc_context({"font.size": 11, "axes.titlesize": 12}):
        fig, axes = plt.subplots(1, 3, figsize=(12.5, 4.3), layout="constrained")
        bars(axes[0], rows, lambda row: 100 * (1 - row["accuracy"]), "{:.1f}")
        axes[0].set_title("Test error, %  (lower is better)")
        bars(axes[1], rows, lambda row: row["KL"], "{:.2f}")
        axes[1].set_title("KL from true probabilities  (lower is better)")
        costs(axes[2], rows)
        handles, names = axes[0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
        for ax in axes:
            ax.spines[["top", "right"]].set_visible(False)
    return fig


def bars(ax, rows, value, fmt):
    """Draw one group of bars per condition."""
    for shift, (name, colour) in enumerate(COLOURS.items(), start=-1):
        heights = [value(row) for row in rows if row["model"] == name]
        at = np.arange(len(heights)) + 0.28 * shift
        drawn = ax.bar(at, heights, width=0.26, color=colour, label=name)
        ax.bar_label(drawn, fmt=fmt, padding=2, fontsize=10)
    ax.set_xticks(
        range(len(CONDITIONS)), ["clean labels", "30 % of the labels flipped"]
    )
    ax.tick_params(axis="x", length=0)
    ax.margins(y=0.12)


def costs(ax, rows):
    """Draw size against the time of one row."""
    for row in rows[-3:]:
        if row["model"] == STUDENT:
            continue  # it costs what the distilled one does
        x, y = row["kB"], row["µs/row, one"]
        ax.scatter(x, y, s=120, color=COLOURS[row["model"]], zorder=3)
        text = f"{row['model']}\n{x:,.0f} kB, {y:,.0f} µs"
        teacher = row["model"] == TEACHER
        ax.annotate(
            text,
            (x, y),
            xytext=(0, -12) if teacher else (0, 12),
            textcoords="offset points",
            ha="right" if teacher else "left",
            va="top" if teacher else "bottom",
        )
    ax.set(xscale="log", yscale="log", xlabel="pickle, kB", ylabel="single row, µs")
    ax.set_title("Cost")
    ax.margins(0.15)
    ax.grid(alpha=0.3, which="major")


# %%


def main():
    """Run the comparison, print the table and draw the figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--random-state", type=int, default=0)
    parser.add_argument("--figure", type=Path, default=Path("quickstart.png"))
    args = parser.parse_args()
    print(
        "Digits: 1257 training rows, 540 test rows. Teacher: a forest of 500 trees.\n"
        "Student: a network with 64 hidden units, on the labels and distilled.\n"
        "Test labels are clean. Cross-fitting the forests takes about a minute.\n",
        flush=True,
    )
    rows, searches = run(args.random_state)
    print(as_table(rows), end="\n\n")
    for labels, search in searches.items():
        print(verdict(labels, rows, search))
    print(NOTE)
    figure = plot(rows)
    if "sphinx_gallery" in sys.modules:
        plt.show()
    else:
        figure.savefig(args.figure, dpi=150)
        print(f"\nFigure: {args.figure}")


if __name__ == "__main__":
    main()
