"""Checks of what a user passes: errors name the parameter, the value, the remedy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    _num_samples,
    check_consistent_length,
    column_or_1d,
)

from skdistill._arguments import naming
from skdistill._typing import Estimator, FloatArray, InputLike, IntArray

#: Largest deviation of a row's sum from 1 that counts as rounding.
ROW_SUM_TOLERANCE = 1e-3

_Method = TypeVar("_Method", bound=Callable[..., Any])


def keep_fitted_on_failure(fit: _Method) -> _Method:
    """Decorate a fit method so that an exception leaves an earlier fit untouched.

    Parameters
    ----------
    fit : callable
        Method whose first argument is the estimator.

    Returns
    -------
    callable
        The decorated method.
    """

    @functools.wraps(fit)
    def wrapper(estimator: Estimator, *args: Any, **kwargs: Any) -> Any:
        before = dict(estimator.__dict__)
        try:
            return fit(estimator, *args, **kwargs)
        except BaseException:
            estimator.__dict__.clear()
            estimator.__dict__.update(before)
            raise

    return wrapper  # type: ignore[return-value]


def check_proba_rows(
    proba: Any, *, name: str, n_samples: int, n_classes: int
) -> FloatArray:
    """Check class probabilities and return them as float64 rows that sum to 1.

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_classes)
        Probabilities, in [0, 1]; rows sum to 1 within 1e-3.
    name : str
        What the error messages call them.
    n_samples, n_classes : int
        The required shape.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        Rows divided by their sums, so that float32 rounding does not stay.

    Raises
    ------
    ValueError
        If the shape is wrong, or a row has NaN, infinite or negative values, or does
        not sum to 1. The message names the first bad row.
    """
    if np.iscomplexobj(proba) or np.ma.is_masked(proba):
        raise ValueError(f"{name} must be real numbers, none masked, got {proba!r}.")
    try:
        proba = np.asarray(proba, dtype=np.float64)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be a numeric array of shape (n_samples, n_classes) = "
            f"({n_samples}, {n_classes}), got {type(proba).__name__}: {error}"
        ) from error
    if proba.shape != (n_samples, n_classes):
        hint = ""
        if proba.ndim == 1 and n_classes == 2:
            hint = " For two classes pass both columns: np.column_stack([1 - p, p])."
        raise ValueError(
            f"{name} must have shape (n_samples, n_classes) = ({n_samples}, "
            f"{n_classes}), got {proba.shape}.{hint}"
        )
    _raise_at_first(~np.isfinite(proba).all(axis=1), name, proba, "is not finite")
    _raise_at_first((proba < 0).any(axis=1), name, proba, "has a negative value")
    totals = proba.sum(axis=1, keepdims=True)
    wrong = np.abs(totals[:, 0] - 1) > ROW_SUM_TOLERANCE
    _raise_at_first(wrong, name, proba, f"does not sum to 1 within {ROW_SUM_TOLERANCE}")
    return proba / totals


def _raise_at_first(bad: NDArray[np.bool_], name: str, rows: Any, what: str) -> None:
    """Raise for the first row flagged in `bad`, showing it."""
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"{name}: row {first} {what} ({int(bad.sum())} such rows); it is "
            f"{np.array2string(rows[first], precision=4, threshold=6)}. Each row must "
            "hold non-negative class probabilities that sum to 1."
        )


def check_soft_labels(
    soft_labels: Any, *, n_samples: int, classes: NDArray[Any], name: str
) -> FloatArray:
    """Check soft labels given by the user against the classes seen in ``y``.

    Parameters
    ----------
    soft_labels : array-like or DataFrame of shape (n_samples, n_classes)
        Class probabilities, columns in the order of `classes`. A data frame whose
        column names are the classes may have them in any order.
    n_samples : int
        Number of rows of X.
    classes : ndarray of shape (n_classes,)
        The classes, sorted.
    name : str
        Parameter name for the error messages.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        The checked probabilities, float64.

    Raises
    ------
    ValueError
        If the shape, the values or the column names do not fit.
    """
    order = _columns_of_classes(soft_labels, classes, name)
    if order is not None:
        soft_labels = _safe_indexing(soft_labels, order, axis=1)
    return check_proba_rows(
        soft_labels, name=name, n_samples=n_samples, n_classes=len(classes)
    )


def _columns_of_classes(
    soft_labels: Any, classes: NDArray[Any], name: str
) -> list[int] | None:
    """Return which column of a frame is each class; None where they have no names.

    Positions, as a frame takes the names True and False for rows to keep.
    """
    # Of a table of Arrow `columns` are the values.
    names = getattr(soft_labels, "column_names", None)
    columns = getattr(soft_labels, "columns", None) if names is None else names
    if columns is None or _is_default_index(columns):
        return None
    position = {str(label): i for i, label in enumerate(columns)}
    # Labels themselves, too: 1 names the class 1.0, and True.
    position |= {label: i for i, label in enumerate(columns)}
    order = [position.get(c, position.get(str(c), -1)) for c in classes.tolist()]
    if sorted(order) != list(range(len(columns))):
        raise ValueError(
            f"{name} has the columns {list(columns)}, but the classes in y are "
            f"{classes.tolist()}. Name the columns after the classes, or pass an "
            "array with the columns in the order of the sorted classes."
        )
    return order


def _is_default_index(columns: Any) -> bool:
    """Whether a frame's columns are the 0, 1, 2, ... that carry no names."""
    return list(columns) == list(range(len(columns)))


def check_mixing_weight(
    mixing_weight: Any, classes: NDArray[Any]
) -> float | FloatArray:
    """Check the weight of soft labels: a number, or one for each class.

    Parameters
    ----------
    mixing_weight : float or array-like of shape (n_classes,)
        In [0, 1].
    classes : ndarray of shape (n_classes,)
        The classes, sorted.

    Returns
    -------
    float or ndarray of shape (n_classes,)
        The weight, or the weights.

    Raises
    ------
    ValueError
        If there is not one for each class, or one is outside [0, 1].
    """
    try:
        weights = np.asarray(mixing_weight, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"mixing_weight must hold numbers, got {mixing_weight!r}."
        ) from error
    if weights.ndim == 0:
        return float(weights)
    if weights.shape != classes.shape:
        raise ValueError(
            "mixing_weight must be a number or hold one for each class, in the order "
            f"of the sorted classes, shape {classes.shape}; got shape {weights.shape}."
        )
    outside = ~((weights >= 0) & (weights <= 1))
    if outside.any():
        first = int(np.argmax(outside))
        raise ValueError(
            f"mixing_weight must be in [0, 1] for each class, got {weights[first]} for "
            f"class {classes.tolist()[first]!r}."
        )
    return weights


def check_not_empty(X: InputLike, *, name: str = "X") -> None:
    """Raise unless X has a row and, where it has columns, one of them.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Inputs of any kind.
    name : str, default="X"
        What the message calls them.

    Raises
    ------
    ValueError
        If there is no row or no column.
    """
    shape = getattr(X, "shape", (_num_samples(X),))
    for size, what in zip(shape, ("sample", "feature"), strict=False):
        if size == 0:
            raise ValueError(
                f"{name} has 0 {what}(s) (shape={tuple(shape)}) while a minimum of 1 "
                "is required."
            )


def check_labels(y: Any, X: InputLike) -> NDArray[Any]:
    """Check class labels and return them as a one-dimensional array.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Class labels of any type; no soft labels.
    X : array-like of shape (n_samples, ...)
        The inputs, for the number of rows.

    Returns
    -------
    ndarray of shape (n_samples,)
        The labels.

    Raises
    ------
    ValueError
        If `y` is missing, not one-dimensional, continuous, holds NaN, or does not have
        one label for each row of X.
    """
    check_not_empty(X)
    if y is None:
        raise ValueError(
            "This classifier requires y to be passed, but the target y is None."
        )
    ndim = getattr(y, "ndim", None)
    if ndim == 2 and y.shape[1] > 1:
        raise ValueError(
            f"y must hold one class label a row, shape (n_samples,), got {y.shape}. "
            "Class probabilities go into the argument soft_labels."
        )
    labels = column_or_1d(y, warn=True)
    if labels.dtype.kind == "O" or labels.dtype.kind == "f":
        check_array(
            labels, ensure_2d=False, dtype=None, input_name="y", ensure_min_samples=0
        )
    check_consistent_length(X, labels)
    check_classification_targets(labels)
    return labels


def encode_labels(y: NDArray[Any]) -> tuple[NDArray[Any], IntArray]:
    """Return the sorted classes of `y` and each label's position among them.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Class labels.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        Sorted distinct labels.
    codes : ndarray of shape (n_samples,)
        ``classes[codes]`` is `y`.

    Raises
    ------
    ValueError
        If there is only one class.
    """
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            "The classifier needs at least 2 classes, but y contains only one class: "
            f"{classes.tolist()[0]!r}."
        )
    return classes, codes


def fold_positions(
    folds: Iterable[Any], rows: IntArray
) -> list[tuple[IntArray, IntArray]]:
    """Return folds as positions of rows, in whatever form a splitter has them.

    Parameters
    ----------
    folds : iterable of (array-like, array-like)
        Training and test rows of each: positions of any integer type, or masks.
    rows : ndarray of shape (n_samples,)
        What the positions of the rows are in the result.

    Returns
    -------
    list of (ndarray, ndarray)
        Positions.

    Raises
    ------
    ValueError
        If a fold is no pair, or has other rows.
    """
    pairs = []
    with naming("cv"):
        found = list(folds)
    for fold in found:
        try:
            train, test = fold
        except (TypeError, ValueError) as error:
            raise ValueError(
                "cv must give pairs of training and test rows, got a fold that is "
                f"{fold!r}."
            ) from error
        pairs.append((_positions(train, rows), _positions(test, rows)))
    return pairs


def _positions(part: Any, rows: IntArray) -> IntArray:
    part = np.asarray(part)
    if not part.size:
        # An empty list would be one of floats.
        return rows[:0]
    try:
        positions: IntArray = rows[part]
    except IndexError as error:
        raise ValueError(
            "cv must give positions of rows of X, or masks over them; X has "
            f"{len(rows)} rows: {error}."
        ) from error
    return positions


def check_mean_weights(sample_weight: Any, rows: NDArray[Any]) -> FloatArray:
    """Check weights of a mean over rows.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,), scalar or None
        Non-negative weights; None means 1 for each row.
    rows : ndarray of shape (n_samples, ...)
        The rows, for their number.

    Returns
    -------
    ndarray of shape (n_samples,)
        Weights, float64.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or all are zero.
    """
    with naming("sample_weight"):
        weights: FloatArray = _check_sample_weight(
            sample_weight, rows, dtype=np.float64, ensure_non_negative=True
        )
    if not np.isfinite(weights).all():
        raise ValueError(f"sample_weight={sample_weight!r} must be finite.")
    return weights


def check_weights(sample_weight: Any, X: InputLike, codes: IntArray) -> FloatArray:
    """Check sample weights and that two classes keep rows with a positive one.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,), scalar or None
        Non-negative weights; None means 1 for each row.
    X : array-like of shape (n_samples, ...)
        The inputs, for the number of rows.
    codes : ndarray of shape (n_samples,)
        Class positions.

    Returns
    -------
    ndarray of shape (n_samples,)
        Weights, float64.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, all are zero, or those above zero belong
        to one class.
    """
    # Only the number of rows matters; X may be text, which scikit-learn's check,
    # reading the dtype of X, does not take.
    rows = np.empty((_num_samples(X), 1))
    with naming("sample_weight"):
        weights: FloatArray = _check_sample_weight(
            sample_weight,
            rows,
            dtype=np.float64,
            ensure_non_negative=True,
            allow_all_zero_weights=True,
        )
    if not weights.any():
        raise ValueError(
            "sample_weight must hold a weight above zero, but all are zero."
        )
    if len(np.unique(codes[weights > 0])) < 2:
        raise ValueError(
            "After removing the rows whose sample_weight is zero only one class is "
            "left; the classifier needs rows of at least 2 classes."
        )
    return weights
