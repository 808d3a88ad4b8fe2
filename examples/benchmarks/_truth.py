"""Problems whose truth is known, and students and teachers for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from skdistill.datasets import (
    distort_proba,
    make_checkerboard,
    make_class_overlap,
    make_gaussians,
)


@dataclass(frozen=True)
class Problem:
    """Rows with known probabilities, a fixed student and fixed teachers."""

    y: Any
    bayes: Any
    student: Any
    teachers: Any
    weight: Any

    def part(self, start: int, stop: int) -> Problem:
        rows = slice(start, stop)
        return Problem(
            self.y[rows],
            self.bayes[rows],
            self.student[rows],
            [t[rows] for t in self.teachers],
            None if self.weight is None else self.weight[rows],
        )


def binary(n_rows: int, seed: int) -> Problem:
    _, y, p = make_gaussians(n_rows, random_state=seed)
    teachers = [distort_proba(p, a) for a in (0.6, 1.5, 1.0, 3.0)]
    return Problem(y, p, distort_proba(p, 1.3), teachers, None)


def multiclass(n_rows: int, seed: int) -> Problem:
    _, y, p = make_class_overlap(
        n_rows, n_classes=5, class_sep=1.5, problem=1, random_state=seed
    )
    teachers = [distort_proba(p, a) for a in (0.6, 1.5)]
    teachers += [0.9 * p + 0.02, 0.7 * p + 0.3 * p[:, [1, 2, 3, 4, 0]]]
    return Problem(y, p, 0.8 * distort_proba(p, 1.3) + 0.04, teachers, None)


def weighted(n_rows: int, seed: int) -> Problem:
    """Weights that go with the probabilities, as those of a survey or a class."""
    plain = multiclass(n_rows, seed)
    weight = np.where(plain.bayes[:, 0] > 0.3, 2.0, 0.5)
    return Problem(plain.y, plain.bayes, plain.student, plain.teachers, weight)


PROBLEMS = {"2 classes": binary, "5 classes": multiclass, "weighted": weighted}


def linear_problem(n_rows: int, seed: int, rho: float) -> tuple[Any, Any, Any]:
    """Return Gaussian rows within a ball; the labels' probabilities stay theirs."""
    X, y, p = make_gaussians(n_rows, n_features=3, class_sep=1.0, random_state=seed)
    norm = np.linalg.norm(X, axis=1, keepdims=True)
    return X * np.minimum(1.0, rho / norm), y, p


def ball_student(X: Any, target: Any, beta: float) -> Any:
    """Train a linear student, scaled into the ball of coefficients."""
    soft = np.eye(2)[target] if np.ndim(target) == 1 else target
    w = newton(X[None], soft[None, :, 1], penalty=1e-3)[0]
    W = np.array([-w / 2, w / 2])
    return W * min(1.0, beta / np.linalg.norm(W))


def newton(X: Any, target: Any, *, penalty: float, steps: int = 8) -> Any:
    """Fit many logistic regressions at once: X is (n_fits, n_rows, n_features)."""
    w = np.zeros(X.shape[::2])
    ridge = penalty * np.eye(X.shape[2])
    for _ in range(steps):
        q = expit((X @ w[..., None])[..., 0])
        slope = ((q - target)[:, None] @ X)[:, 0] + w @ ridge
        curvature = (X * (q * (1 - q))[..., None]).transpose(0, 2, 1) @ X + ridge
        w = w - np.linalg.solve(curvature, slope[..., None])[..., 0]
    return w


def random_teachers(rng: Any) -> dict[str, Any]:
    """Return teachers of many kinds and strengths."""
    teachers = {
        "logistic": LogisticRegression(C=10.0 ** rng.uniform(-3, 2), max_iter=500),
        "bayes": GaussianNB(),
        "discriminant": LinearDiscriminantAnalysis(),
        "tree": DecisionTreeClassifier(max_depth=int(rng.integers(2, 5))),
        "deep tree": DecisionTreeClassifier(max_depth=int(rng.integers(6, 15))),
        "near": KNeighborsClassifier(int(rng.integers(1, 6))),
        "far": KNeighborsClassifier(int(rng.integers(15, 40))),
        "forest": RandomForestClassifier(
            20, min_samples_leaf=int(rng.integers(1, 20)), n_jobs=1
        ),
    }
    for name in ("tree", "deep tree", "forest"):
        teachers[name].set_params(random_state=0)
    return teachers


def random_problem(rng: Any) -> Callable[..., tuple[Any, Any, Any]]:
    kind = rng.integers(3)
    if kind == 0:
        return partial(make_gaussians, class_sep=rng.uniform(0.5, 1.5))
    if kind == 1:
        return partial(make_checkerboard, sharpness=rng.uniform(15, 40))
    return partial(
        make_class_overlap,
        n_classes=int(rng.integers(2, 6)),
        n_features=int(rng.integers(2, 7)),
        n_clusters_per_class=int(rng.integers(1, 4)),
        class_sep=rng.uniform(0.7, 1.5),
        problem=int(rng.integers(10**6)),
    )
