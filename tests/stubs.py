"""Teachers that log what happens to them or misbehave, and seeded fits."""

import hashlib
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from skdistill import DistillationClassifier
from skdistill.students import MLPStudent


def n_fits(path):
    """Number of fits that were logged to a file."""
    return len(Path(path).read_text().splitlines()) if Path(path).exists() else 0


class LoggedTeacher(GaussianNB):
    """Appends a line to a file at each fit, in whatever process or thread."""

    def __init__(self, path=None, var_smoothing=1e-3):
        super().__init__(var_smoothing=var_smoothing)
        self.path = path

    def fit(self, X, y, sample_weight=None):
        with open(self.path, "a") as log:
            log.write(f"{len(y)}\n")
        return super().fit(X, y, sample_weight)


class ReversedTeacher(ClassifierMixin, BaseEstimator):
    """Gives its classes in descending order."""

    def fit(self, X, y, sample_weight=None):
        self.inner_ = GaussianNB().fit(X, y, sample_weight)
        self.classes_ = self.inner_.classes_[::-1]
        return self

    def predict_proba(self, X):
        return self.inner_.predict_proba(X)[:, ::-1]


class SubsetTeacher(ClassifierMixin, BaseEstimator):
    """Does not learn the last class."""

    def fit(self, X, y):
        known = y != y.max()
        self.inner_ = GaussianNB().fit(X[known], y[known])
        self.classes_ = self.inner_.classes_
        return self

    def predict_proba(self, X):
        return self.inner_.predict_proba(X)


class ScoreTeacher(ClassifierMixin, BaseEstimator):
    """Has no probabilities; for two classes one column of scores."""

    def fit(self, X, y):
        self.inner_ = LogisticRegression().fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def decision_function(self, X):
        scores = self.inner_.decision_function(X)
        return scores[:, None] if scores.ndim == 1 else scores


class LabelTeacher(ClassifierMixin, BaseEstimator):
    """Has neither probabilities nor scores."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


class BrokenTeacher(ClassifierMixin, BaseEstimator):
    """Returns unusable probabilities from row 2 on; a fitted one for three classes."""

    def __init__(self, defect=None):
        self.defect = defect

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        n_classes = len(self.classes_)
        proba = np.full((len(X), n_classes), 1 / n_classes)
        if self.defect == "columns":
            return np.full((len(X), n_classes + 1), 1 / (n_classes + 1))
        if self.defect == "rows":
            return proba[1:]
        if self.defect == "one-dimensional":
            return proba[:, 0]
        bad = {
            "nan": [np.nan, 0.5, 0.5],
            "inf": [np.inf, 0.5, 0.5],
            "negative": [-0.25, 0.75, 0.5],
            "sum": [0.5, 0.5, 0.5],
        }
        if self.defect in bad:
            proba[2:] = bad[self.defect]
        return proba


class SeenTeacher(ClassifierMixin, BaseEstimator):
    """Remembers, for the whole class, each X that it is given; knows the priors."""

    seen = []

    def fit(self, X, y):
        type(self).seen.append(("fit", X))
        self.classes_, counts = np.unique(y, return_counts=True)
        self.prior_ = counts / counts.sum()
        return self

    def predict_proba(self, X):
        type(self).seen.append(("predict_proba", X))
        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
        return np.tile(self.prior_, (n_rows, 1))


def seeded_fits(n_jobs=None):
    """Fit seeded classifiers and hash their probabilities."""
    rng = np.random.RandomState(0)
    X = rng.normal(size=(150, 4))
    y = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int)
    boosting = HistGradientBoostingClassifier(max_iter=5, random_state=0)
    fits = {
        "MLP": (boosting, MLPStudent((8,), max_iter=5, random_state=0)),
        "default student": (GaussianNB(), None),
        "forest": (
            RandomForestClassifier(5, random_state=0),
            DecisionTreeClassifier(max_depth=3, random_state=0),
        ),
    }
    digests = {}
    for name, (teacher, student) in fits.items():
        distilled = DistillationClassifier(
            teacher,
            student,
            cv=3,
            random_state=7,
            n_jobs=n_jobs,
            temperature="auto",
            mixing_weight=0.5,
        ).fit(X, y)
        proba = distilled.predict_proba(X)
        digests[name] = hashlib.sha256(proba.tobytes()).hexdigest()
    return digests
