"""Folds for cross-fitting: each row scored once, by a teacher that has not seen it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from sklearn.model_selection import PredefinedSplit, StratifiedKFold, check_cv

from skdistill._labelled_rows import LabelledRows
from skdistill._typing import IntArray
from skdistill._validation import fold_positions

#: Folds of ``cv=None``.
DEFAULT_FOLDS = 5

#: Training and test rows of each fold.
Folds: TypeAlias = list[tuple[IntArray, IntArray]]


def make_folds(cv: Any, rows: LabelledRows, *, cross_fitted: bool = True) -> Folds:
    """Split the rows so that each is scored exactly once.

    Parameters
    ----------
    cv : int, splitter, iterable or None
        None stands for 5 stratified folds, fewer where the rows are fewer.
    rows : LabelledRows
        The rows.
    cross_fitted : bool, default=True
        Whether a teacher is to learn from the folds, too, and not only students.

    Returns
    -------
    list of (ndarray, ndarray)
        Training and test rows of each fold; none, where no teacher is to learn, if no
        class has two rows.

    Raises
    ------
    ValueError
        If `cv` is a number of folds and a class has a single row, which no fold could
        both learn and score, if the test folds do not partition the rows, or if a fold
        has no rows to learn from.
    """
    if cross_fitted:
        _check_rare_classes(cv, rows)
    if cv is None:
        n_folds = min(DEFAULT_FOLDS, int(np.bincount(rows.codes).max()))
        if n_folds < 2:
            if not cross_fitted:
                return []
            raise ValueError(
                f"The teacher cannot be cross-fitted on n_samples={len(rows.codes)} "
                "rows in which no class has two. Pass soft_labels, a frozen teacher or "
                "cv='in-sample'."
            )
        cv = StratifiedKFold(n_folds)
    cv = of_present_rows(cv, rows.position)
    splitter = check_cv(cv, rows.codes, classifier=True)
    found = splitter.split(rows.X, rows.codes, **rows.split_params)
    folds = fold_positions(found, np.arange(len(rows.codes)))
    _check_folds(cv, folds, len(rows.codes))
    return folds


def _check_folds(cv: Any, folds: Folds, n_rows: int) -> None:
    """Raise unless each row is scored once, by a teacher that has not seen it."""
    if not folds:
        raise ValueError(f"cv must have at least one fold, {cv!r} has none.")
    for i, (train, test) in enumerate(folds):
        check_part(train, i, "training")
        seen = np.intersect1d(train, test)
        if len(seen):
            raise ValueError(
                f"cv: fold {i} trains on {len(seen)} of the rows that it scores, row "
                f"{seen[0]} first, so its soft labels would not be out-of-fold. Use "
                "cv='in-sample' if that is what you want."
            )
    scored = np.bincount(np.concatenate([test for _, test in folds]), minlength=n_rows)
    if len(scored) != n_rows or not (scored == 1).all():
        wrong = int(np.argmax(scored[:n_rows] != 1))
        raise ValueError(
            "cv must put each row into exactly one test fold, so that each gets one "
            f"soft label; {_short(cv)} scores row {wrong} {int(scored[wrong])} times, "
            f"of {n_rows} rows."
        )


def _short(cv: Any) -> str:
    """Return what stands for folds in a message, where rows would fill pages."""
    return f"a list of {len(cv)} folds" if isinstance(cv, list) else repr(cv)


def check_part(rows: IntArray, fold: int, part: str) -> None:
    """Check that a fold has rows to learn from, or to score.

    Parameters
    ----------
    rows : ndarray of shape (n_rows,)
        Rows of the part, those of weight zero left out.
    fold : int
        Number of the fold.
    part : {"training", "test"}
        Which part of it they are.

    Raises
    ------
    ValueError
        If there are none.
    """
    if not len(rows):
        raise ValueError(
            f"cv: fold {fold} has no {part} rows; rows of weight zero do not count. "
            "Pass folds that have rows in both parts, or a number of folds."
        )


def of_present_rows(cv: Any, position: IntArray) -> Any:
    """Translate folds that number the rows passed; what splits by itself stays.

    Parameters
    ----------
    cv : int, splitter or iterable
        Folds as the user passed them.
    position : ndarray of shape (n_passed,)
        See :class:`LabelledRows`.

    Returns
    -------
    object
        Folds of the rows with positive weight, or `cv`.
    """
    if isinstance(cv, PredefinedSplit):
        return _present_folds(cv.split(), position)
    if not hasattr(cv, "split") and np.iterable(cv):
        return _present_folds(cv, position)
    return cv


def _present_folds(folds: Iterable[Any], position: IntArray) -> Folds:
    """Translate folds of the rows passed into folds of those with positive weight."""
    translated = []
    for train, test in fold_positions(folds, position):
        if (test >= 0).any():
            translated.append((train[train >= 0], test[test >= 0]))
    return translated


def _check_rare_classes(cv: Any, rows: LabelledRows) -> None:
    """Refuse, or for the default warn about, classes that a fold cannot learn."""
    counts = np.bincount(rows.codes, minlength=len(rows.classes))
    singles = rows.classes[counts == 1].tolist()
    if not singles or not (cv is None or isinstance(cv, (int, np.integer))):
        return
    if cv is None:
        warnings.warn(
            f"The classes {singles} have a single row each: its out-of-fold soft label "
            "gives them probability 0.",
            UserWarning,
            stacklevel=2,
        )
        return
    raise ValueError(
        f"cv={cv} needs at least 2 rows of each class, but the classes {singles} have "
        "a single row each. Leave them out, pass cv=None to go on with a warning, or "
        "cv='in-sample'."
    )
