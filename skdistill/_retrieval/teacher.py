"""Soft labels for retrieval: the best labels of each row, by teachers, cross-fitted."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import KFold, check_cv
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from skdistill._retrieval.targets import check_sparse_soft_labels
from skdistill._rows import unshared
from skdistill._scoring import is_frozen
from skdistill._sparse_rows import keep_largest
from skdistill._typing import Estimator, FloatArray, InputLike, IntArray
from skdistill._validation import fold_positions

#: Folds of ``cv=None``.
DEFAULT_FOLDS = 3
#: Rows that a teacher with dense probabilities scores at a time.
SCORED_ROWS = 1024


@dataclass(frozen=True)
class Labelled:
    """The rows that teachers are fitted on and score.

    Attributes
    ----------
    X : array-like of shape (n_samples, n_features)
        Inputs as the user passed them.
    y : csr_matrix or ndarray
        What a teacher is fitted to: an indicator, or one label a row.
    classes : ndarray of shape (n_labels,)
        Names of the labels.
    """

    X: InputLike
    y: Any
    classes: NDArray[Any]


def teacher_soft_labels(
    teachers: Sequence[Estimator], rows: Labelled, cv: Any, top_k: int, seed: int
) -> sp.csr_matrix:
    """Return the mean of the teachers' soft labels, their largest of each row.

    Parameters
    ----------
    teachers : sequence of estimator
        Frozen ones are used as they are; others are cloned and cross-fitted.
    rows : Labelled
        The rows.
    cv : int, splitter, "in-sample" or None
        None stands for 3 folds.
    top_k : int
        Soft labels kept of each row.
    seed : int
        For the folds of an integer or None, and teachers without a random state.

    Returns
    -------
    csr_matrix of shape (n_samples, n_labels)
        Soft labels.
    """
    total = None
    for teacher in teachers:
        scored = _soft_labels(teacher, rows, cv, top_k, seed)
        total = scored if total is None else total + scored
    assert total is not None
    total = sp.csr_matrix(total)
    total.data /= len(teachers)
    return keep_largest(total, top_k)


def _soft_labels(
    teacher: Estimator, rows: Labelled, cv: Any, top_k: int, seed: int
) -> sp.csr_matrix:
    """Return one teacher's soft labels of all rows."""
    if not hasattr(teacher, "fit") or not hasattr(teacher, "get_params"):
        raise TypeError(
            "teacher must be an estimator with predict_topk or predict_proba, or a "
            f"list of such, got {teacher!r}."
        )
    if is_frozen(teacher):
        return score(teacher, rows.X, rows.classes, top_k)
    # An indicator has no names: what is fitted to it here calls labels by column.
    classes = np.arange(rows.y.shape[1]) if rows.y.ndim == 2 else rows.classes
    if isinstance(cv, str):
        return score(_fit(teacher, rows, None), rows.X, classes, top_k)
    parts, order = [], []
    for train, test in _folds(cv, rows, seed):
        fitted = _fit(teacher, rows, train)
        held_out = _safe_indexing(rows.X, test)
        parts.append(score(fitted, held_out, classes, top_k))
        order.append(test)
    back = np.argsort(np.concatenate(order), kind="stable")
    return sp.csr_matrix(sp.vstack(parts, format="csr")[back])


def _folds(cv: Any, rows: Labelled, seed: int) -> list[tuple[IntArray, IntArray]]:
    """Split the rows so that each is scored once."""
    n_samples = _num_samples(rows.X)
    # Sets of labels are no classes to stratify by.
    y = [rows.y] if rows.y.ndim == 1 else []
    splitter = cv
    try:
        if cv is None or isinstance(cv, (int, np.integer)):
            n_folds = min(DEFAULT_FOLDS if cv is None else int(cv), n_samples)
            splitter = KFold(n_folds, shuffle=True, random_state=seed % 2**32)
        found = check_cv(splitter).split(np.empty((n_samples, 1)), *y)
        folds = fold_positions(found, np.arange(n_samples))
    except (TypeError, ValueError) as error:
        kind = "one label each" if y else "sets of labels"
        raise ValueError(
            f"cv={cv!r} cannot split {n_samples} rows with {kind}: {error}"
        ) from error
    if not folds:
        raise ValueError(f"cv must have at least one fold, {cv!r} has none.")
    scored = np.bincount(np.concatenate([t for _, t in folds]), minlength=n_samples)
    if len(scored) != n_samples or not (scored == 1).all():
        raise ValueError(
            "cv must put each row into exactly one test fold, so that each gets its "
            f"soft labels once; {cv!r} does not."
        )
    return folds


def _fit(teacher: Estimator, rows: Labelled, train: IntArray | None) -> Estimator:
    """Fit a clone on some of the rows."""
    X, y = rows.X, rows.y
    if train is not None:
        X, y = _safe_indexing(X, train), y[train]
    return clone(teacher).fit(unshared(X, teacher), y)


def score(
    teacher: Estimator, X: InputLike, classes: NDArray[Any], top_k: int
) -> sp.csr_matrix:
    """Return a fitted teacher's chances of the best labels of each row.

    Parameters
    ----------
    teacher : estimator
        With ``predict_topk(X, k)``, which returns labels and chances, else with
        ``predict_proba``.
    X : array-like of shape (n_samples, n_features)
        The rows.
    classes : ndarray of shape (n_labels,)
        Names of the labels; the teacher's own may be fewer, and in another order.
    top_k : int
        How many of each row.

    Returns
    -------
    csr_matrix of shape (n_samples, n_labels)
        Chances.

    Raises
    ------
    TypeError
        If it has neither method.
    ValueError
        If what it returns cannot be read; the message names the teacher.
    """
    name = type(teacher).__name__
    if hasattr(teacher, "predict_topk"):
        n_known = len(getattr(teacher, "classes_", classes))
        labels, scores = teacher.predict_topk(unshared(X, teacher), min(top_k, n_known))
        return _from_top_k(np.asarray(labels), np.asarray(scores), classes, name)
    if not hasattr(teacher, "predict_proba"):
        raise TypeError(
            f"The teacher {name} has neither predict_topk nor predict_proba. Pass its "
            "chances as soft_labels."
        )
    parts = []
    for start in range(0, _num_samples(X), SCORED_ROWS):
        chunk = _safe_indexing(X, slice(start, start + SCORED_ROWS))
        known = getattr(teacher, "classes_", None)
        proba = teacher.predict_proba(unshared(chunk, teacher))
        proba = _one_matrix(proba, known, name)
        proba = _in_columns(proba, known, classes, name)
        shape = (_num_samples(chunk), len(classes))
        parts.append(check_sparse_soft_labels(proba, shape, top_k))
    return sp.csr_matrix(sp.vstack(parts, format="csr"))


def _one_matrix(proba: Any, known: Any, name: str) -> Any:
    """Return one matrix of chances; forests return an array for each label."""
    if not isinstance(proba, list):
        return proba if sp.issparse(proba) else np.asarray(proba)
    arrays = [np.asarray(p) for p in proba]
    if isinstance(known, list) and len(known) == len(arrays):
        pairs = zip(arrays, known, strict=True)
        return np.column_stack([_chance(p, np.asarray(c), name) for p, c in pairs])
    widths = {p.shape[1] for p in arrays}
    if len(widths) > 1:
        raise ValueError(
            f"The teacher {name} returned {sorted(widths)} columns for its labels, and "
            "has no list classes_ that says which classes they are."
        )
    return np.column_stack([p[:, -1] for p in arrays])


def _chance(proba: FloatArray, classes: NDArray[Any], name: str) -> FloatArray:
    """Return the column of class 1; a label that no row had has the class 0 only."""
    columns = np.flatnonzero(classes == 1)
    if len(columns):
        return proba[:, columns[0]]
    if len(classes) > 1:
        raise ValueError(
            f"The teacher {name} knows the classes {classes.tolist()} of a label; it "
            "must have been fitted to an indicator of zeros and ones."
        )
    return np.zeros(len(proba))


def _in_columns(
    proba: Any, known: Any, classes: NDArray[Any], name: str
) -> sp.csr_matrix:
    """Return the columns of a teacher in the order of the classes."""
    matrix = sp.csr_matrix(proba)
    if known is None or isinstance(known, list) or len(known) != matrix.shape[1]:
        known = classes
    if matrix.shape[1] != len(known):
        raise ValueError(
            f"The teacher {name} returned chances of {matrix.shape[1]} labels, but "
            f"there are {len(classes)}."
        )
    entries = matrix.tocoo()
    columns = _positions(np.asarray(known), classes, name)[entries.col]
    shape = (matrix.shape[0], len(classes))
    return sp.csr_matrix((entries.data, (entries.row, columns)), shape=shape)


def _positions(known: NDArray[Any], classes: NDArray[Any], name: str) -> IntArray:
    """Return where a teacher's labels stand among the classes."""
    if np.array_equal(known, classes):
        return np.arange(len(classes))
    position = {label: i for i, label in enumerate(classes.tolist())}
    unknown = [label for label in known.tolist() if label not in position]
    if unknown:
        raise ValueError(
            f"The teacher {name} knows {len(unknown)} labels that y does not have, "
            f"{unknown[0]!r} first."
        )
    absent = len(classes) - len(known)
    if absent:
        warnings.warn(
            f"The teacher {name} does not know {absent} of the labels; it gives them "
            "no chance.",
            UserWarning,
            stacklevel=2,
        )
    return np.array([position[label] for label in known.tolist()], dtype=np.int64)


def _columns(labels: NDArray[Any], classes: NDArray[Any], name: str) -> IntArray:
    """Return where labels stand among the classes."""
    if np.array_equal(classes, np.arange(len(classes))):
        columns = labels.astype(np.int64)
        if not columns.size or (columns.min() >= 0 and columns.max() < len(classes)):
            return columns
    position = {label: i for i, label in enumerate(classes.tolist())}
    try:
        return np.array([position[label] for label in labels.tolist()], dtype=np.int64)
    except KeyError as error:
        raise ValueError(
            f"The teacher {name} returned the label {error.args[0]!r}, which y does "
            "not have."
        ) from None


def _from_top_k(
    labels: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any], name: str
) -> sp.csr_matrix:
    """Return the best labels of each row, with their chances, as a matrix."""
    if labels.shape != scores.shape or labels.ndim != 2:
        raise ValueError(
            f"predict_topk of the teacher {name} must return labels and chances of "
            f"shape (n_samples, k), got {labels.shape} and {scores.shape}."
        )
    if labels.size and (scores.min() < 0 or not np.isfinite(scores).all()):
        raise ValueError(
            f"predict_topk of the teacher {name} must return chances, finite and not "
            f"negative, got {scores.min()}."
        )
    columns = _columns(labels.ravel(), classes, name)
    rows = np.repeat(np.arange(labels.shape[0]), labels.shape[1])
    shape = (labels.shape[0], len(classes))
    matrix = sp.csr_matrix((scores.ravel(), (rows, columns)), shape=shape)
    return check_sparse_soft_labels(matrix, shape, labels.shape[1])
