"""The cells of `bench_gap.py`: tables, label noise, teachers and students."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, partial
from time import perf_counter
from typing import Any

import _bench
import joblib
import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skdistill.students import LinearStudent, MLPStudent

BUNDLED = ("digits", "breast_cancer")
REAL = (
    "adult",
    "letter",
    "covertype_part",
    "dry_bean",
    "bank_marketing",
    "nycflights13",
    "spambase",
    "fashion_mnist",
    "clinc150",
)
TEACHERS = ("forest", "boosting", "stack")
STUDENTS = ("linear", "MLP 32", "MLP 128", "tree")
FAMILIES = {"linear": "linear", "MLP 32": "MLP", "MLP 128": "MLP", "tree": "tree"}

#: Test rows, and rows of a table that serve as rows without labels, at most.
N_TEST, N_POOL = 4000, 10_000


@dataclass(frozen=True)
class Cell:
    """One comparison, for all students."""

    table: str
    n_rows: int
    noise: float
    teacher: str
    seed: int


# -- tables -------------------------------------------------------------------------


@cache
def _whole(name: str, folder: str | None) -> tuple[Any, Any, Any, Any]:
    """Return all training and test rows of a table."""
    if name in BUNDLED:
        load = {"digits": load_digits, "breast_cancer": load_breast_cancer}[name]
        X, y = load(return_X_y=True)
        X, X_test, y, y_test = train_test_split(
            X, y, test_size=0.4, stratify=y, random_state=0
        )
        return X, y, X_test, y_test
    assert folder is not None
    return getattr(_bench.real_data(folder), name)()


@dataclass(frozen=True)
class Data:
    """Training rows, rows without labels, test rows with clean and noisy labels."""

    X: Any
    y: Any
    pool: Any
    X_test: Any
    clean: Any
    noisy: Any


def load(cell: Cell, folder: str | None) -> Data | None:
    """Draw the rows of a cell; None where the table has too few."""
    X, y, X_test, y_test = _whole(cell.table, folder)
    if len(y) < cell.n_rows:
        return None
    rng = np.random.default_rng(cell.seed)
    train = np.sort(rng.choice(len(y), cell.n_rows, replace=False))
    pool = _take(X, np.setdiff1d(np.arange(len(y)), train)[:N_POOL])
    test = np.sort(rng.choice(len(y_test), min(N_TEST, len(y_test)), replace=False))
    X, y, X_test, y_test = _take(X, train), y[train], _take(X_test, test), y_test[test]
    classes, y = np.unique(y, return_inverse=True)
    seen = set(_hashes(X))
    fresh = np.array([h not in seen for h in _hashes(X_test)])
    rows = np.flatnonzero(fresh & np.isin(y_test, classes))
    X_test, clean = _take(X_test, rows), np.searchsorted(classes, y_test[rows])
    if X.ndim == 1:
        vectorizer = TfidfVectorizer(min_df=2, sublinear_tf=True)
        X = vectorizer.fit_transform(X)
        X_test, pool = vectorizer.transform(X_test), vectorizer.transform(pool)
    elif not hasattr(X, "iloc"):
        X, X_test, pool = (some.astype(float) for some in (X, X_test, pool))
    flip = partial(_flip, rng=rng, noise=cell.noise, n_classes=len(classes))
    return Data(X, flip(y), pool if pool.shape[0] else None, X_test, clean, flip(clean))


def _take(X: Any, rows: Any) -> Any:
    return X.iloc[rows].reset_index(drop=True) if hasattr(X, "iloc") else X[rows]


def _hashes(X: Any) -> list[bytes]:
    if hasattr(X, "iloc"):
        from pandas.util import hash_pandas_object

        return [bytes(str(n), "ascii") for n in hash_pandas_object(X, index=False)]
    if X.ndim == 1:
        return [text.encode() for text in X]
    return [hashlib.blake2b(np.ascontiguousarray(row).tobytes()).digest() for row in X]


def _fingerprint(X: Any) -> str:
    """Return what tells rows from others, however a frame holds them in memory."""
    found: str = joblib.hash(_hashes(X) if hasattr(X, "iloc") else X)
    return found


def _flip(y: Any, *, rng: Any, noise: float, n_classes: int) -> Any:
    """Flip a share of labels, each to any of the other classes."""
    flipped = rng.random(len(y)) < noise
    other = (y + rng.integers(1, n_classes, len(y))) % n_classes
    return np.where(flipped, other, y)


# -- teachers and students ----------------------------------------------------------

#: Probabilities of teachers that were fitted: by estimator, training rows, and rows.
_KNOWN: dict[Any, Any] = {}


class Remembered(ClassifierMixin, BaseEstimator):
    """A teacher that is fitted to the same rows once, and scores the same rows once."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: Any, y: Any) -> Remembered:
        self.classes_ = np.unique(y)
        self._key = joblib.hash((repr(self.estimator), _fingerprint(X), y))
        if self._key not in _KNOWN:
            start = perf_counter()
            fitted = clone(self.estimator).fit(X, y)
            _KNOWN[self._key] = fitted, perf_counter() - start
        return self

    def predict_proba(self, X: Any) -> Any:
        key = self._key, _fingerprint(X)
        if key not in _KNOWN:
            _KNOWN[key] = _KNOWN[self._key][0].predict_proba(X)
        return _KNOWN[key].copy()

    @property
    def seconds(self) -> float:
        return float(_KNOWN[self._key][1])


def forget() -> None:
    """Drop all teachers and what they said."""
    _KNOWN.clear()


def encoder(X: Any) -> list[Any]:
    """Return steps that make a frame a numeric array with missing values."""
    if not hasattr(X, "iloc"):
        return []
    ordinal = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=-1,
        encoded_missing_value=-1,
    )
    columns = make_column_selector(dtype_exclude="number")
    return [make_column_transformer((ordinal, columns), remainder="passthrough")]


def make_teacher(cell: Cell, X: Any, n_trees: int) -> Any:
    forest = RandomForestClassifier(n_trees, random_state=cell.seed)
    boosting = HistGradientBoostingClassifier(random_state=cell.seed)
    if sp.issparse(X) and cell.teacher != "forest":
        return None
    if cell.teacher == "forest":
        return Remembered(make_pipeline(*encoder(X), forest))
    if cell.teacher == "boosting":
        return Remembered(make_pipeline(*encoder(X), boosting))
    bayes = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    if hasattr(X, "iloc") and X.isna().any().any():
        return None
    members = [("forest", forest), ("boosting", boosting), ("linear", bayes)]
    return Remembered(make_pipeline(*encoder(X), StackingClassifier(members, cv=3)))


def make_student(name: str, cell: Cell, X: Any) -> Any:
    if name == "linear":
        as_it_is = sp.issparse(X) or hasattr(X, "iloc")
        return (
            LinearStudent()
            if as_it_is
            else make_pipeline(StandardScaler(), LinearStudent())
        )
    if name == "tree":
        tree = DecisionTreeClassifier(max_depth=8, random_state=cell.seed)
        return make_pipeline(*encoder(X), tree) if hasattr(X, "iloc") else tree
    if sp.issparse(X):
        return None
    width = int(name.split()[1])
    return MLPStudent((width, width), random_state=cell.seed)
