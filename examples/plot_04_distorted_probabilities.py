"""
Are two equally accurate teachers equally good? (Figure 3)
==========================================================

A teacher with the true probabilities, and others with the same probabilities distorted:
pushed to 0 and 1 (exponent below 1) or towards 1/2 (above 1), and never across 1/2. All
are equally accurate. If accuracy were what makes a teacher good, their students would
be equal.

Three notes on the figure of the paper. The distortion is printed without the absolute
value that makes it work below 1/2: :func:`skdistill.datasets.distort_proba` has it.
The axis "teacher MSE" shows the log-loss on test labels, to three digits; the squared
distance from the true probabilities is 0 at exponent 1. And the effect needs few rows:
the values are those of ten a class.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from _paper import OURS, PAPER, Criterion, Curve, Experiment, draw, report, tidy
from sklearn.metrics import accuracy_score, log_loss

from skdistill.datasets import distort_proba, make_gaussians
from skdistill.students import LinearStudent

EXPONENTS = [2.0**k for k in range(-3, 4)]
BEST = EXPONENTS.index(1.0)
PAPER_STUDENT = [0.764, 0.772, 0.782, 0.786, 0.780, 0.764, 0.738]
PAPER_SCORE = [0.652, 0.548, 0.478, 0.454, 0.475, 0.527, 0.585]
PAPER_TEACHER = [0.785] * len(EXPONENTS)

# %%
# One trial
# ---------


def trial(rng):
    """Return accuracies, log-loss and squared distance for each exponent."""
    X, y, bayes_proba = make_gaussians([10, 10], random_state=rng)
    X_test, y_test, bayes_test = make_gaussians(10_000, random_state=rng)
    student = LinearStudent(C=np.inf)
    rows = []
    for exponent in EXPONENTS:
        teacher_test = distort_proba(bayes_test, exponent)
        student.fit(X, y, soft_labels=distort_proba(bayes_proba, exponent))
        rows.append(
            {
                "student accuracy": student.score(X_test, y_test),
                "teacher accuracy": accuracy_score(y_test, teacher_test.argmax(1)),
                "teacher log-loss": log_loss(y_test, teacher_test),
                "teacher distance": np.mean((teacher_test - bayes_test)[:, 1] ** 2),
            }
        )
    return rows


def run(n_trials, random_state):
    """Return the measurements of all trials."""
    rng = np.random.RandomState(random_state)
    trials = [trial(rng) for _ in range(n_trials)]
    return {
        name: np.array([[row[name] for row in rows] for rows in trials])
        for name in trials[0][0]
    }


# %%
# What has to hold
# ----------------


def mean(results, name):
    """Return the means over the trials."""
    return results[name].mean(axis=0)


CRITERIA = [
    Criterion(
        "teachers are equally accurate: range of their means below .001",
        lambda r: np.ptp(mean(r, "teacher accuracy")),
        lambda spread: spread < 0.001,
        ".4f",
    ),
    Criterion(
        "the student is most accurate at exponent 1",
        lambda r: EXPONENTS[mean(r, "student accuracy").argmax()],
        lambda best: best == 1,
        "g",
    ),
    Criterion(
        "the teacher's log-loss is lowest at exponent 1",
        lambda r: EXPONENTS[mean(r, "teacher log-loss").argmin()],
        lambda best: best == 1,
        "g",
    ),
    Criterion(
        "the worst distortion costs the student more than .03",
        lambda r: np.ptp(mean(r, "student accuracy")),
        lambda cost: cost > 0.03,
    ),
]

# %%
# The figure
# ----------


def plot(results):
    """Draw students' accuracy and teachers' score against the exponent."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    style = {"color": OURS, "marker": "o", "label": "student"}
    draw(axes[0], EXPONENTS, results["student accuracy"], **style)
    hollow = {"color": PAPER, "fillstyle": "none", "linestyle": ":"}
    axes[0].plot(EXPONENTS, PAPER_STUDENT, marker="o", label="paper", **hollow)
    axes[0].plot(
        EXPONENTS,
        mean(results, "teacher accuracy"),
        "k--",
        linewidth=1,
        label="teacher",
    )
    style["label"] = "log-loss on test labels"
    draw(axes[1], EXPONENTS, results["teacher log-loss"], **style)
    axes[1].plot(EXPONENTS, PAPER_SCORE, marker="o", label="paper's “MSE”", **hollow)
    other = {"color": "#E69F00", "marker": "s"}
    draw(
        axes[1],
        EXPONENTS,
        results["teacher distance"],
        label="squared distance from the truth",
        **other,
    )
    axes[1].axhline(0, color="black", linewidth=0.8)
    label = "exponent of the distortion (1: none)"
    tidy(axes[0], xlabel=label, ylabel="test accuracy, mean")
    tidy(axes[1], xlabel=label, ylabel="error of the teacher, mean")
    for ax in axes:
        ax.set_xscale("log", base=2)
        ax.set_xticks(EXPONENTS, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    return figure


# %%
# Result
# ------
# The students differ by several points although the teachers are equally accurate. The
# teacher's log-loss and its squared distance from the truth both point at the best one;
# its accuracy points nowhere.

NOTES = """\
"Teacher score" is what the paper's axis calls MSE: the log-loss on test labels. The
squared distance from the true probabilities has no curve in the paper."""

EXPERIMENT = Experiment(
    section="Distorted probabilities, Figure 3",
    run=run,
    curves=[
        Curve("student accuracy", "student accuracy", EXPONENTS, PAPER_STUDENT),
        Curve("teacher accuracy", "teacher accuracy", EXPONENTS, PAPER_TEACHER),
        Curve("teacher score", "teacher log-loss", EXPONENTS, PAPER_SCORE),
        Curve("squared distance", "teacher distance", EXPONENTS, digits=4),
    ],
    criteria=CRITERIA,
    plot=plot,
    n_trials=50,
    n_trials_full=100,
    notes=NOTES,
)

if __name__ == "__main__":
    report(EXPERIMENT)
