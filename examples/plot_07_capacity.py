"""
Can a more accurate teacher teach worse? (Figure 1)
===================================================

The larger the teacher, the more accurate it is; but from some size on it is ever more
over-confident, and its log-loss on new rows rises again. If probabilities are what is
taught, the best student is that of the teacher with the best log-loss, not that of the
most accurate one. The paper shows it with ResNets of depth 8 to 56 on CIFAR-100; here
the teachers are networks of one hidden layer, 16 to 512 units wide, trained until they
make no error on their 700 rows, and the images are digits under noise. The student has
16 hidden units and sees 400 other rows, labelled by the teacher.

The figure's caption says that log-loss *and* calibration error single out the best
teacher. The calibration errors plotted there are lowest for the smallest teacher; only
the log-loss does. It is also the better score: a calibration error says nothing about
how much a teacher knows.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from _paper import (
    OTHER,
    OURS,
    PAPER,
    Criterion,
    Curve,
    Experiment,
    draw,
    noisy_digits,
    plain_network,
    report,
    tidy,
)
from sklearn.metrics import log_loss

WIDTHS = [16, 32, 64, 128, 256, 512]
PAPER_DEPTHS = [8, 14, 20, 32, 44, 56]
PAPER_TEACHER = [0.627, 0.661, 0.679, 0.693, 0.702, 0.712]
PAPER_LOG_LOSS = [1.393, 1.349, 1.391, 1.507, 1.529, 1.532]
PAPER_STUDENT = [0.619, 0.634, 0.626, 0.620, 0.606, 0.600]
PAPER_STUDENT_LOG_LOSS = [1.402, 1.299, 1.336, 1.407, 1.467, 1.516]

# %%
# One trial
# ---------


def trial(rng):
    """Return the scores of teacher and student for each width of the teacher."""
    (X_teacher, y_teacher), (X, y), (X_test, y_test) = noisy_digits(rng)
    seed = rng.randint(2**31 - 1)
    student = plain_network(16, seed, max_iter=60)
    rows = []
    for width in WIDTHS:
        teacher = plain_network(width, seed, max_iter=40).fit(X_teacher, y_teacher)
        student.fit(X, y, soft_labels=teacher.predict_proba(X))
        rows.append(
            {
                f"{name} {score}": value
                for name, model in (("teacher", teacher), ("student", student))
                for score, value in scores(model, X_test, y_test).items()
            }
        )
    return rows


def scores(model, X, y):
    """Return accuracy and log-loss on new rows."""
    return {
        "accuracy": model.score(X, y),
        "log-loss": log_loss(y, model.predict_proba(X)),
    }


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
# First the premise, of the teachers alone; then the claim about the students.


def mean(results, name):
    """Return the means over the trials."""
    return results[name].mean(axis=0)


def best_log_loss(results):
    """Return the position of the teacher with the best log-loss."""
    return int(mean(results, "teacher log-loss").argmin())


CRITERIA = [
    Criterion(
        "premise: the widest teacher is more accurate than that of best log-loss, by",
        lambda r: (
            mean(r, "teacher accuracy")[-1]
            - mean(r, "teacher accuracy")[best_log_loss(r)]
        ),
        lambda gain: gain > 0,
        ".4f",
    ),
    Criterion(
        "premise: the teacher's log-loss turns, its best width is below the widest",
        lambda r: WIDTHS[best_log_loss(r)],
        lambda width: width < WIDTHS[-1],
        "d",
    ),
    Criterion(
        "steps from the best log-loss to the teacher of the best student, at most 1",
        lambda r: mean(r, "student accuracy").argmax() - best_log_loss(r),
        lambda steps: abs(steps) <= 1,
        "+d",
    ),
    Criterion(
        "student of the best log-loss, over that of the best accuracy: accuracy, by",
        lambda r: (
            mean(r, "student accuracy")[best_log_loss(r)]
            - mean(r, "student accuracy")[mean(r, "teacher accuracy").argmax()]
        ),
        lambda gain: gain > 0,
        "+.4f",
    ),
    Criterion(
        "and log-loss, by",
        lambda r: (
            mean(r, "student log-loss")[mean(r, "teacher accuracy").argmax()]
            - mean(r, "student log-loss")[best_log_loss(r)]
        ),
        lambda gain: gain > 0,
        "+.4f",
    ),
]

# %%
# The figure
# ----------


def plot(results):
    """Draw the teachers above, their students and the paper's curves below."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.4), layout="constrained")
    for ax, score in zip(axes[0], ("accuracy", "log-loss"), strict=True):
        draw(ax, WIDTHS, results[f"teacher {score}"], color=OTHER, marker="s")
        tidy(ax, ylabel=f"test {score} of the teacher")
    accuracy = results["student accuracy"]
    gain = accuracy - accuracy.mean(axis=1, keepdims=True)
    draw(axes[1, 0], WIDTHS, 100 * gain, color=OURS, marker="o")
    axes[1, 0].axhline(0, color="black", linewidth=0.8)
    label = "accuracy of the student less its mean\nover the widths, percentage points"
    tidy(axes[1, 0], ylabel=label)
    for ax in (axes[0, 0], axes[0, 1], axes[1, 0]):
        ax.set(xscale="log", xlabel="width of the teacher")
        ax.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
        ax.minorticks_off()
    style = {"color": PAPER, "fillstyle": "none"}
    paper = axes[1, 1]
    paper.plot(PAPER_DEPTHS, PAPER_TEACHER, "s:", label="teacher", **style)
    paper.plot(PAPER_DEPTHS, PAPER_STUDENT, "o-", label="student, ResNet-8", **style)
    tidy(paper, xlabel="depth of the teacher", ylabel="the paper: CIFAR-100 accuracy")
    paper.set_xticks(PAPER_DEPTHS)
    return figure


# %%
# Result
# ------
# From the second width on the teachers become more accurate and their log-loss worse,
# and the students become worse, by little: a student averages over what its teacher is
# too sure of. It is no law. While this page was made, rounds of boosting were tried in
# the place of widths. From 40 to 160 rounds their accuracy rose and their log-loss
# turned as well, but a logistic student did not become worse, and this one only hardly.

NOTES = """\
The paper's six depths stand beside our six widths, from the smallest to the largest.
Data and models are others, so the values cannot be compared, only where the optima are.
Our student falls by less than the paper's: our teachers' log-loss rises by less, too,
and our student sees rows that its teacher has not fitted."""

SETTINGS = [f"{w} / {d}" for w, d in zip(WIDTHS, PAPER_DEPTHS, strict=True)]

EXPERIMENT = Experiment(
    section="More accurate teachers that teach worse, Figure 1",
    run=run,
    curves=[
        Curve(name, name, SETTINGS, paper, comparable=False)
        for name, paper in [
            ("teacher accuracy", PAPER_TEACHER),
            ("student accuracy", PAPER_STUDENT),
            ("teacher log-loss", PAPER_LOG_LOSS),
            ("student log-loss", PAPER_STUDENT_LOG_LOSS),
        ]
    ],
    criteria=CRITERIA,
    plot=plot,
    n_trials=20,
    n_trials_full=100,
    notes=NOTES,
)

if __name__ == "__main__":
    report(EXPERIMENT)
