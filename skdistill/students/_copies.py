"""Weighted copies of rows, as which a classifier learns soft labels, kept together."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import check_cv

from skdistill._typing import Estimator, IntArray
from skdistill._validation import fold_positions
from skdistill.students._problem import Problem


def params_named(estimator: Estimator, name: str) -> dict[str, Any]:
    """Return the parameters of a name, of an estimator and of those within.

    Parameters
    ----------
    estimator : estimator
        The estimator.
    name : str
        The name, without those of estimators within.

    Returns
    -------
    dict
        Values by full names.
    """
    params = estimator.get_params(deep=True)
    return {key: value for key, value in params.items() if key.split("__")[-1] == name}


def keep_copies_together(
    estimator: Estimator, problem: Problem, rows: IntArray
) -> None:
    """Let no split within the estimator put copies of one row on both sides.

    What is held out would have been learnt, with another class.

    Parameters
    ----------
    estimator : estimator
        Its parameters `cv` and `early_stopping` are changed in place, and those that a
        distiller changes itself.
    problem : Problem
        The rows.
    rows : ndarray of shape (n_copies,)
        The row that each copy is of.

    Raises
    ------
    ValueError
        If the estimator holds out rows and cannot be told which.
    """
    if hasattr(estimator, "_learn_from_copies"):
        estimator._learn_from_copies()
    _stop_without_held_out_copies(estimator)
    cv = estimator.get_params(deep=False).get("cv", "none")
    if isinstance(cv, str):
        return
    splitter = check_cv(cv, problem.codes, classifier=True)
    found = splitter.split(problem.X, problem.codes)
    folds = [
        tuple(np.flatnonzero(np.isin(rows, part)) for part in fold)
        for fold in fold_positions(found, np.arange(len(problem.codes)))
    ]
    estimator.set_params(cv=folds)


def _stop_without_held_out_copies(estimator: Estimator) -> None:
    """Turn early stopping off where it is "auto", and refuse it where it is asked."""
    stopping = params_named(estimator, "early_stopping")
    for name, value in stopping.items():
        if value == "auto":
            estimator.set_params(**{name: False})
        elif value is not False:
            raise holds_out_copies(estimator, name, value, False)
    for name, value in params_named(estimator, "n_iter_no_change").items():
        # Of gradient boosting it is also what turns early stopping on.
        switch = name.replace("n_iter_no_change", "early_stopping")
        if value is not None and switch not in stopping:
            raise holds_out_copies(estimator, name, value, None)


def holds_out_copies(
    estimator: Estimator, name: str, value: Any, allowed: Any
) -> ValueError:
    """Return the error of a parameter that would part copies of a row.

    Parameters
    ----------
    estimator : estimator
        Learns from copies.
    name : str
        The parameter.
    value : object
        What it is.
    allowed : object
        What it may be.

    Returns
    -------
    ValueError
        To be raised.
    """
    return ValueError(
        f"student: {name}={value!r} of {type(estimator).__name__} would hold out "
        "copies of rows that it learns from, as soft labels enter a classifier as "
        f"weighted copies of rows. Set {name}={allowed!r}."
    )
