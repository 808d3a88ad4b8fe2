"""
Can a small network rank images as well as its teacher? (Figure 11, right)
==========================================================================

T-shirts against shirts, the two classes of Fashion-MNIST that look most alike. The
paper's teacher is a convolutional network, its student the same at half the width, its
targets 0.3 times the label and 0.7 times the teacher's probability; the student ends
above its teacher.

Here the teacher is a forest of 50 trees. Where the environment variable SKDISTILL_DATA
names a folder with ``fashion_mnist.npz``, each trial draws 1,000 of its images, and the
student is a network of one layer of 8 units. Otherwise the images are scikit-learn's
scans of the digits 3 and 8, under noise that makes them hard to tell apart, 200 of them
to learn from, and the student is linear.
"""

# sphinx_gallery_thumbnail_number = 1
from __future__ import annotations

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from _paper import OTHER, OURS, PAPER, Criterion, Curve, Experiment, report, tidy
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import roc_auc_score

from skdistill import DistillationRanker
from skdistill.students import LinearStudent, MLPStudent

PAPER_AUC = {"labels": 0.905, "teacher": 0.909, "distilled": 0.912}
T_SHIRT, SHIRT = 0, 6
N_TRAIN = {"fashion": 1000, "digits": 200}
PIXEL_NOISE = 0.7


def fashion_file():
    """Return the file of the images, None where there is none."""
    folder = os.environ.get("SKDISTILL_DATA")
    path = None if folder is None else Path(folder) / "fashion_mnist.npz"
    return path if path is not None and path.is_file() else None


SAME_IMAGES = fashion_file() is not None

# %%
# Data
# ----


def load_fashion(path):
    """Return training and test images of both classes, and which are T-shirts."""
    with np.load(path) as arrays:
        parts = []
        for part in ("train", "test"):
            y = arrays[f"y_{part}"]
            rows = np.isin(y, [T_SHIRT, SHIRT])
            X = arrays[f"X_{part}"][rows].reshape(rows.sum(), -1) / np.float32(255)
            parts += [X, (y[rows] == T_SHIRT).astype(int)]
    return parts


def draw_fashion(images, rng):
    """Return training images of a trial and all test images."""
    X, y, X_test, y_test = images
    rows = rng.choice(len(y), N_TRAIN["fashion"], replace=False)
    return X[rows], y[rows], X_test, y_test


def draw_digits(rng):
    """Return noisy scans; each test scan is taken with ten draws of the noise."""
    X, y = load_digits(return_X_y=True)
    rows = rng.permutation(np.flatnonzero(np.isin(y, [3, 8])))
    train, test = rows[: N_TRAIN["digits"]], np.repeat(rows[N_TRAIN["digits"] :], 10)
    return [
        part
        for rows in (train, test)
        for part in (
            X[rows] / 16 + PIXEL_NOISE * rng.normal(size=(len(rows), 64)),
            (y[rows] == 8).astype(int),
        )
    ]


# %%
# One trial
# ---------
# The teacher is cross-fitted: the student gets probabilities of forests that have not
# seen its rows.


def trial(images, rng):
    """Return the test AUC of student on labels, teacher and distilled student."""
    X, y, X_test, y_test = (
        draw_digits(rng) if images is None else draw_fashion(images, rng)
    )
    seed = rng.randint(2**31 - 1)
    student = LinearStudent()
    if images is not None:
        # Pixels need no embedding.
        student = MLPStudent((8,), numeric_embedding=None, random_state=seed)
    distilled = DistillationRanker(
        teacher=ExtraTreesClassifier(50, min_samples_leaf=2, random_state=seed),
        student=student,
        mixing_weight=0.7,
        keep_teacher=True,
    ).fit(X, y)
    labels = DistillationRanker(student=student, mixing_weight=0.0).fit(X, y)
    teacher = distilled.teacher_.predict_proba(X_test)[:, 1]
    return (
        labels.score(X_test, y_test),
        roc_auc_score(y_test, teacher),
        distilled.score(X_test, y_test),
    )


def run(n_trials, random_state):
    """Return the AUCs of all trials, one array a model."""
    path = fashion_file()
    images = None if path is None else load_fashion(path)
    rng = np.random.RandomState(random_state)
    aucs = np.array([trial(images, rng) for _ in range(n_trials)])
    return {name: aucs[:, [i]] for i, name in enumerate(PAPER_AUC)}


# %%
# What has to hold
# ----------------


def gap(results, other):
    """Return by how much the median AUC of the distilled student is higher."""
    return float(np.median(results["distilled"]) - np.median(results[other]))


CRITERIA = [
    Criterion(
        "distilled student's median not below that of the student on labels",
        lambda r: gap(r, "labels"),
        lambda difference: difference >= 0,
        "+.4f",
    ),
]

# %%
# The figure
# ----------


def plot(results):
    """Draw the AUC of each trial, the medians, and the paper's medians."""
    figure, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    colours = {"labels": OTHER, "teacher": PAPER, "distilled": OURS}
    for i, (name, colour) in enumerate(colours.items()):
        values = results[name][:, 0]
        ax.plot(np.full(len(values), i), values, "o", color=colour, alpha=0.35)
        ax.hlines(np.median(values), i - 0.2, i + 0.2, color=colour, linewidth=3)
        if SAME_IMAGES:
            ax.plot(i + 0.3, PAPER_AUC[name], "_", color="black", markersize=14)
    if SAME_IMAGES:
        ax.plot([], [], "_", color="black", markersize=14, label="the paper's medians")
    ax.set_xticks(range(3), ["student on labels", "teacher", "distilled student"])
    tidy(ax, ylabel="test AUC; bars are medians")
    return figure


# %%
# Result
# ------
# Mixed with the teacher's probabilities the targets say more than the labels alone, and
# the student is better for them. Whether it ends above its teacher, as in the paper,
# depends on the teacher; it is shown and not asked for.

NOTES = """\
Teacher and student are not the paper's, and each trial sees other rows: what can be
compared with the paper is the order. How much is gained depends on the student: on the
digits the linear one gains .018 with C=1 (here), .005 with C=0.1."""

EXPERIMENT = Experiment(
    section="Bipartite ranking of images, Figure 11, right: "
    + ("T-shirts and shirts" if SAME_IMAGES else "noisy digits 3 and 8"),
    run=run,
    curves=[
        Curve(name, name, ["AUC"], [value], np.median, 3, comparable=False)
        for name, value in PAPER_AUC.items()
    ],
    criteria=CRITERIA,
    plot=plot,
    n_trials=12,
    n_trials_full=100,
    notes=NOTES,
)

if __name__ == "__main__":
    report(EXPERIMENT)
