"""The columns of raw tables: what each is, and its numbers or levels."""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Container
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array
from sklearn.utils._missing import is_pandas_na, is_scalar_nan
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    validate_data,
)

from skdistill._typing import FloatArray, InputLike, IntArray
from skdistill._validation import check_not_empty

#: What errors say of texts where numbers are expected. Estimators that do not convert
#: categories of pandas calculate with them.
SIGNS_OF_LEVELS = (
    "could not convert",
    "invalid literal for int",
    "not supported between instances of",
    "unsupported operand type",
)


def check_table(
    estimator: Any,
    X: InputLike,
    *,
    reset: bool,
    accept_sparse: bool = False,
    has_levels: bool = False,
) -> Any:
    """Check an input that may be a raw table; plain numbers become a float array.

    Parameters
    ----------
    estimator : estimator
        Remembers the features, or knows them.
    X : {array-like, data frame, sparse matrix} of shape (n_samples, n_features)
        What the user passed.
    reset : bool
        Whether to remember the features; otherwise they are compared.
    accept_sparse : bool, default=False
        Whether sparse matrices, of finite numbers, are taken.
    has_levels : bool, default=False
        Whether numbers may be levels: as floats large integers would lose digits.

    Returns
    -------
    {ndarray, csr matrix, data frame} of shape (n_samples, n_features)
        A float array, with NaN where values are missing. Where columns are no numbers,
        or may be levels, the data frame itself, or an array of objects or integers.

    Raises
    ------
    ValueError
        As scikit-learn's own checks, and for dates.
    """
    table = None if sp.issparse(X) else _as_table(X, has_levels)
    if table is None:
        checked = validate_data(
            estimator,
            X,
            reset=reset,
            accept_sparse="csr" if accept_sparse else False,
            dtype=[np.float64, np.float32],
            order="C",
            ensure_all_finite=True if sp.issparse(X) else "allow-nan",
        )
        if not estimator._takes_missing and has_missing(checked):
            raise ValueError(
                "Input X contains NaN, and the teacher of this student takes no "
                "missing values. Impute them in a Pipeline, or use a teacher that does."
            )
        return checked
    check_not_empty(table)
    _check_feature_names(estimator, X, reset=reset)
    _check_n_features(estimator, table, reset=reset)
    return table


def has_missing(X: InputLike) -> bool:
    """Return whether numbers are missing.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
        Plain numbers.

    Returns
    -------
    bool
        A sum is NaN if a number is, and needs no memory.
    """
    if sp.issparse(X):
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isnan(X.sum()))


def _as_table(X: InputLike, has_levels: bool = False) -> InputLike | None:
    """Return X as a frame or an array of objects; None where it is plain numbers."""
    if _is_frame(X):
        for name, dtype in zip(X.columns, X.dtypes, strict=True):
            if _is_temporal_type(dtype):
                raise _dates(f"Column {name!r} of X")
        plain = all(_is_number_type(dtype) for dtype in X.dtypes)
        return None if plain and not has_levels else X
    try:
        array = np.asarray(X)
    except ValueError:  # rows of different lengths: for scikit-learn to tell
        return None
    if has_levels and array.ndim == 2 and array.dtype.kind in "iu":
        return array
    # Integers of a list become floats, too, beside a fraction.
    digits_at_stake = has_levels and isinstance(X, (list, tuple))
    if array.ndim != 2 or not (array.dtype.kind in "OUSMm" or digits_at_stake):
        return None
    if array.dtype.kind in "Mm":
        raise _dates("X")
    objects = np.asarray(X, dtype=object)
    types = set(map(type, objects.ravel()))
    plain = not has_levels and all(issubclass(t, _NUMBERS) for t in types)
    return None if plain else objects


_NUMBERS = (numbers.Number, np.bool_)
_DATES = datetime.date, datetime.time, np.datetime64
_TIMES = (*_DATES, datetime.timedelta, np.timedelta64)


def _is_frame(X: InputLike) -> bool:
    return hasattr(X, "columns") and hasattr(X, "dtypes")


def columns_of(X: InputLike) -> list[Any]:
    """Return the columns of a raw table.

    Parameters
    ----------
    X : {data frame, ndarray} of shape (n_samples, n_features)
        What `check_table` returned.

    Returns
    -------
    list of {Series, ndarray} of shape (n_samples,)
        The columns, not copied.
    """
    if isinstance(X, np.ndarray):
        return list(X.T)
    if hasattr(X, "get_columns"):  # polars
        columns: list[Any] = X.get_columns()
        return columns
    return [column for _, column in X.items()]


def _is_number_type(dtype: Any) -> bool:
    """Whether columns of a type are numbers or booleans, whatever their values."""
    kind = getattr(dtype, "kind", None)
    if kind is None:  # polars
        return bool(dtype.is_numeric() or str(dtype) == "Boolean")
    return kind in "biufc"


def _is_temporal_type(dtype: Any) -> bool:
    """Whether columns of a type are dates or durations, whatever their values."""
    temporal = getattr(dtype, "is_temporal", None)  # polars
    if temporal is not None:
        return bool(temporal())
    return dtype.kind in "Mm" or (dtype.kind == "O" and _is_time(dtype.type))


def _is_time(kind: type) -> bool:
    # pandas has a type of its own for months and the like.
    return issubclass(kind, _TIMES) or kind.__name__ == "Period"


def is_numeric(column: Any, i: int) -> bool:
    """Return whether a column holds numbers or booleans, and only missing ones beside.

    Parameters
    ----------
    column : {Series, ndarray} of shape (n_samples,)
        A column of a raw table.
    i : int
        Its position, for the message.

    Returns
    -------
    bool
        False where it holds levels.

    Raises
    ------
    ValueError
        If it holds dates or durations.
    """
    dtype = column.dtype
    if _is_number_type(dtype):
        return True
    if isinstance(dtype, np.dtype):
        types = {t for t in map(type, np.asarray(column)) if not _is_missing_type(t)}
    else:  # category, string, decimal of Arrow
        types = {getattr(dtype, "type", object)}
    if any(map(_is_time, types)):
        raise _dates(f"Column {getattr(column, 'name', i)!r} of X")
    return all(issubclass(t, _NUMBERS) for t in types)


def _is_missing_type(kind: type) -> bool:
    return kind is type(None) or kind.__name__ in ("NAType", "NaTType")


def _dates(name: str) -> ValueError:
    return ValueError(
        f"{name} holds dates or durations. Turn them into numbers first, such as the "
        "days since a date, the month or the hour."
    )


def _is_missing(value: Any) -> bool:
    if is_scalar_nan(value) or is_pandas_na(value):
        return True
    return _is_missing_type(type(value))


def numbers_of(column: Any, i: int) -> FloatArray:
    """Return a column as float64, NaN where a value is missing.

    Parameters
    ----------
    column : {Series, ndarray} of shape (n_samples,)
        A column of numbers or booleans.
    i : int
        Its position, for the message.

    Returns
    -------
    ndarray of shape (n_samples,)
        The numbers.

    Raises
    ------
    TypeError, ValueError
        If a value is no number, or infinite; the message names the column.
    """
    try:
        return _floats(column)
    except (OverflowError, TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"Column {getattr(column, 'name', i)!r} of X, which holds numbers: {error}"
        ) from error


def _floats(column: Any) -> FloatArray:
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        found: FloatArray = np.asarray(column, dtype=np.float64)
        if np.isinf(found).any():
            raise ValueError(
                "Input X contains infinity or a value too large for dtype('float64')."
            )
        return found
    if getattr(dtype, "kind", None) in ("O", "c"):
        # As objects: scikit-learn's check refuses complex numbers.
        values = [np.nan if _is_missing(v) else v for v in np.asarray(column)]
        column = np.array(values, dtype=object)
    floats: FloatArray = check_array(
        column, ensure_2d=False, dtype=np.float64, ensure_all_finite="allow-nan"
    )
    return floats


#: What a boolean is called in an array of numbers, and the other way round.
SAME_LEVEL = {"True": "1", "False": "0", "1": "True", "0": "False"}


def known_as(text: str, known: Container[str]) -> str:
    """Return the name by which a level is known, if it is.

    Parameters
    ----------
    text : str
        The level.
    known : container of str
        Names of levels.

    Returns
    -------
    str
        That of the same boolean, or number, where that alone is known.
    """
    same = SAME_LEVEL.get(text, text)
    return same if text not in known and same in known else text


def _text(value: Any, exact_below: float = 2.0**53) -> str | None:
    """Return the level that a value is; None if it is missing.

    A whole number is the same level whatever its type, so that integers among missing
    values, which pandas holds as floats, are those without. Not so a float that stands
    for several integers, as it cannot tell which it was.
    """
    if type(value) is str:
        return value
    if _is_missing(value):
        return None
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if number.is_integer() and abs(number) < exact_below:
            return str(int(number))
    return str(value)


def _exact_below(dtype: Any) -> float:
    """Return below what magnitude a type tells any two integers apart."""
    floats = isinstance(dtype, np.dtype) and dtype.kind == "f"
    return 2.0 ** (1 + (np.finfo(dtype).nmant if floats else 52))


class Levels(NamedTuple):
    """A column as codes.

    Attributes
    ----------
    codes : ndarray of shape (n_samples,)
        Positions in `texts`; the last one may be written as -1.
    texts : list of str or None
        Levels; None is missing.
    """

    codes: IntArray
    texts: list[str | None]


def levels_of(column: Any) -> Levels:
    """Return the levels of a column and where they are.

    Parameters
    ----------
    column : {Series, ndarray} of shape (n_samples,)
        A category, string or object column.

    Returns
    -------
    Levels
        Its levels as text; those of a category may be more than occur.
    """
    values = getattr(column, "array", column)
    dtype = getattr(values, "categories", values).dtype
    name = partial(_text, exact_below=_exact_below(dtype))
    if hasattr(values, "categories"):  # pandas; -1 is the code of missing values
        codes, categories = values.codes.astype(np.intp), values.categories
        if len(codes) >= len(categories):
            return Levels(codes, [*map(name, categories.tolist()), None])
        texts = [None if code < 0 else name(categories[code]) for code in codes]
        return Levels(np.arange(len(codes)), texts)
    found: dict[str | None, int] = {}
    everything = map(name, np.asarray(values, dtype=object))
    codes = [found.setdefault(text, len(found)) for text in everything]
    return Levels(np.array(codes, dtype=np.intp), list(found))


def refused_levels(X: InputLike, error: Exception) -> list[Any]:
    """Return the columns of levels that an estimator could not turn into numbers.

    Parameters
    ----------
    X : {array-like, data frame, sparse matrix}
        What the estimator was fitted to.
    error : Exception
        What it raised.

    Returns
    -------
    list
        Their names, or positions where they have none; empty where there are none, or
        the error is of something else.

    Raises
    ------
    ValueError
        If a column holds dates or durations.
    """
    told = any(sign in str(error) for sign in SIGNS_OF_LEVELS)
    table = _as_table(X) if told and not sp.issparse(X) else None
    columns = [] if table is None else columns_of(table)
    return [
        getattr(column, "name", i)
        for i, column in enumerate(columns)
        if not is_numeric(column, i)
    ]


def student_error(name: str, X: InputLike, error: Exception) -> ValueError | None:
    """Return what to raise in the place of what a student raised.

    Parameters
    ----------
    name : str
        Of the student.
    X : {array-like, data frame, sparse matrix}
        What it was given.
    error : Exception
        What it raised.

    Returns
    -------
    ValueError or None
        Names the columns of texts or categories, and says what to do; None if the error
        is of something else.
    """
    columns = refused_levels(X, error)
    if not columns:
        return None
    return ValueError(
        f"The student {name} takes numbers, but the columns {columns} of X hold texts "
        f"or categories ({error}). Put an encoder before it in a Pipeline, or use an "
        "MLPStudent or a LinearStudent, which take them."
    )


def is_plain(X: InputLike) -> bool:
    """Return whether an input is numbers already.

    Parameters
    ----------
    X : {ndarray, sparse matrix, data frame}
        What `check_table` returned.

    Returns
    -------
    bool
        True for sparse matrices and float arrays.
    """
    return sp.issparse(X) or (isinstance(X, np.ndarray) and X.dtype.kind == "f")
