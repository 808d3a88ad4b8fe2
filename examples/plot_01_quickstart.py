"""
When does a student learn more from a teacher than from the labels?
===================================================================

A forest of 500 trees is the teacher, a small neural network the student, and the data
are the scanned digits that come with scikit-learn. Labels are taken twice: as they are,
and with 30 % of them flipped to another class.

Three models are compared: the teacher, the student on the labels, and the same student
distilled from the teacher by the defaults of ``DistillationClassifier``. These try
several ways to use the teacher on folds of the training rows, labels alone among them,
and take what is surest to help.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from skdistill import DistillationClassifier
from skdistill.metrics import brier_score, expected_calibration_error
from skdistill.students import MLPStudent

CONDITIONS = {"clean": 0.0, "30 % noise": 0.3}
TEACHER, STUDENT, DISTILLED = "teacher", "student on labels", "distilled student"

# %%
# Data
# ----
# A flipped label is any of the other nine. Test labels are kept in both forms.


def load_data(noise, random_state):
    """Return training rows, and test rows with clean and with noisy labels."""
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(random_state)
    flip = rng.random(len(y)) < noise
    noisy = np.where(flip, (y + rng.integers(1, 10, len(y))) % 10, y)
    X_train, X_test, _, y_test, noisy_train, noisy_test = train_test_split(
        X, y, noisy, test_size=0.3, stratify=y, random_state=random_state
    )
    return X_train, noisy_train, X_test, y_test, noisy_test


# %%
# Models
# ------
# Ways to use the teacher are judged by the log-loss on held-out *training* labels: no
# test row, and no clean label, helps to choose. No forest has seen the labels that
# students of its soft labels are judged by.


def fit_models(X, y, random_state):
    """Fit the three models; also return the classifier around the distilled student."""
    forest = RandomForestClassifier(n_estimators=500, random_state=random_state)
    # Pixels need no embedding: without it the network is smaller.
    student = MLPStudent(
        hidden_layer_sizes=(64,), numeric_embedding=None, random_state=random_state
    )
    distilled = DistillationClassifier(
        forest, student, n_jobs=2, random_state=random_state
    ).fit(X, y)
    models = {
        TEACHER: forest.fit(X, y),
        STUDENT: student.fit(X, y),
        DISTILLED: distilled.student_,
    }
    return models, distilled


# %%
# Measurements
# ------------
# Accuracy is measured on clean test labels: that is what is wanted. Log-loss, Brier
# score and calibration error (ECE) judge probabilities, and the probabilities that a
# model can learn are those of labels with the same noise as the training labels: on
# such test labels they are measured.


def quality(model, X, y, noisy):
    """Return the scores of a model on the test rows."""
    proba = model.predict_proba(X)
    return {
        "accuracy": accuracy_score(y, model.classes_[proba.argmax(axis=1)]),
        "log-loss": log_loss(noisy, proba),
        "Brier": brier_score(noisy, proba),
        "ECE": expected_calibration_error(noisy, proba),
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
    """Return one row per model and condition, and the classifier of each condition."""
    rows, classifiers = [], {}
    for labels, noise in CONDITIONS.items():
        X, y, X_test, y_test, noisy_test = load_data(noise, random_state)
        models, classifiers[labels] = fit_models(X, y, random_state)
        for name, model in models.items():
            row = {"training labels": labels, "model": name}
            row |= quality(model, X_test, y_test, noisy_test)
            rows.append(row | cost(model, X_test))
    return rows, classifiers


# %%
# The table, and what it says
# ---------------------------

FORMATS = {
    **dict.fromkeys(["accuracy", "log-loss", "Brier", "ECE"], ".3f"),
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
Accuracy is on clean test labels; log-loss, Brier score and ECE are on test labels with
the same noise as the training labels, whose probabilities the models estimate."""


def verdict(labels, rows, classifier):
    """Say in words what the rows of one condition show."""
    row = {r["model"]: r for r in rows if r["training labels"] == labels}
    lines = [f"Training labels: {labels}.", *choice(classifier.candidates_)]
    for name, sign in {"accuracy": 1, "log-loss": -1, "Brier": -1}.items():
        before, after = row[STUDENT][name], row[DISTILLED][name]
        gain = sign * (after - before)
        word = "no change" if gain == 0 else "better" if gain > 0 else "worse"
        lines.append(f"  {name}: {before:.3f} -> {after:.3f} by distillation, {word}")
    return "\n".join(lines)


def choice(table):
    """Say which way to use the teacher was chosen, and what it gained on the folds."""
    best = table["chosen"].argmax()
    lines = []
    if best == 0:
        lines.append("  Chosen: labels alone; distillation would not help here.")
        best = 1 + table["gain"][1:].argmax()
    word = "Best of the others" if lines else "Chosen"
    rows = ", with synthetic rows" if table["augmented"][best] else ""
    loss, gain, error = (
        table[name][best] for name in ("log_loss", "gain", "gain_standard_error")
    )
    return [
        *lines,
        f"  {word}: {table['source'][best]}, mixing weight "
        f"{table['mixing_weight'][best]:g}{rows};",
        f"    the teacher has {table['teacher_share'][best]:.0%} of these soft labels.",
        f"    Log-loss on held-out labels {loss:.3f}, labels alone "
        f"{loss + gain:.3f}: {-gain:+.3f} ± {error:.3f}.",
    ]


# %%
# The figure
# ----------

COLOURS = {TEACHER: "#9aa5b1", STUDENT: "#e0a458", DISTILLED: "#1f6f8b"}


def plot(rows):
    """Draw test error, log-loss and cost."""
    with plt.rc_context({"font.size": 11, "axes.titlesize": 12}):
        fig, axes = plt.subplots(1, 3, figsize=(12.5, 4.3), layout="constrained")
        bars(axes[0], rows, lambda row: 100 * (1 - row["accuracy"]), "{:.1f}")
        axes[0].set_title("Test error, %  (lower is better)")
        bars(axes[1], rows, lambda row: row["log-loss"], "{:.2f}")
        axes[1].set_title("Test log-loss  (lower is better)")
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
        "To fit forests and networks on folds takes about a minute.\n",
        flush=True,
    )
    rows, classifiers = run(args.random_state)
    print(as_table(rows), end="\n\n")
    for labels, classifier in classifiers.items():
        print(verdict(labels, rows, classifier))
    print(NOTE)
    figure = plot(rows)
    if "sphinx_gallery" in sys.modules:
        plt.show()
    else:
        figure.savefig(args.figure, dpi=150)
        print(f"\nFigure: {args.figure}")


if __name__ == "__main__":
    main()
