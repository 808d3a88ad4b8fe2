"""Rows put together and copied, whatever kind of table they are in."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.frozen import FrozenEstimator

from skdistill._typing import InputLike


def concatenate_rows(first: InputLike, second: InputLike) -> InputLike:
    """Put the rows of two inputs of one kind below each other.

    Parameters
    ----------
    first : array-like of shape (n_first, ...)
        Array, sparse matrix, pandas or polars data frame, or list.
    second : array-like of shape (n_second, ...)
        More rows, with the columns of `first`. Categories that `first` does not have
        become missing; a column of whole numbers takes fractions if `second` has them.

    Returns
    -------
    array-like of shape (n_first + n_second, ...)
        All rows, of the kind of `first`.

    Raises
    ------
    ValueError
        If `second` has texts that are no numbers in a column of numbers, all of which
        would become levels.
    """
    if sp.issparse(first) or sp.issparse(second):
        return sp.vstack([first, second], format="csr")
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(first, pandas.DataFrame):
        return _concatenate_pandas(pandas, first, second)
    if polars is not None and isinstance(first, polars.DataFrame):
        return _concatenate_polars(polars, first, second)
    if isinstance(first, list):
        return [*first, *second]
    first, second = np.asarray(first), np.asarray(second)
    if first.dtype.kind in "biuf" and second.dtype.kind in "OUS":
        try:
            second = second.astype(np.result_type(first, np.float32))
        except (TypeError, ValueError) as error:
            raise _no_numbers("X", error) from error
    joined: Any = np.concatenate([first, second])
    return joined


def unshared(X: InputLike, estimator: Any) -> InputLike:
    """Return rows for an estimator: a copy, if it is told to work in place.

    Steps with ``copy=False`` leave their results in X, which others learn from, too.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Rows.
    estimator : estimator
        Gets them.

    Returns
    -------
    array-like of shape (n_samples, ...)
        The rows, of the same kind.
    """
    return X.copy() if hasattr(X, "copy") and _works_in_place(estimator) else X


def _works_in_place(estimator: Any) -> bool:
    """Whether an estimator, or one within, has its parameter copy or copy_X off."""
    if not hasattr(estimator, "get_params"):
        return False
    params = estimator.get_params(deep=True)
    if any(
        value is False and name.split("__")[-1].lower() in ("copy", "copy_x")
        for name, value in params.items()
    ):
        return True
    # It shows no parameters of what it holds.
    frozen = [value for value in params.values() if isinstance(value, FrozenEstimator)]
    if isinstance(estimator, FrozenEstimator):
        frozen.append(estimator)
    return any(_works_in_place(one.estimator) for one in frozen)


def _no_numbers(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name} holds numbers, but not in the rows added to it: {error}")


def _concatenate_pandas(pandas: Any, first: Any, second: InputLike) -> Any:
    """Put data frames below each other; categorical columns stay categorical."""
    if not isinstance(second, pandas.DataFrame):
        second = pandas.DataFrame(second, columns=first.columns)
    second = second.copy()
    is_number = pandas.api.types.is_numeric_dtype
    for i, dtype in enumerate(first.dtypes):
        values = second.iloc[:, i]
        if isinstance(dtype, pandas.CategoricalDtype):
            values = values.astype(object)
            known = values.where(values.isin(dtype.categories))
            second.isetitem(i, pandas.Categorical(known, dtype=dtype))
        elif is_number(dtype) and not is_number(values.dtype):
            try:
                second.isetitem(i, pandas.to_numeric(values))
            except (TypeError, ValueError) as error:
                raise _no_numbers(f"Column {values.name!r} of X", error) from error
    return pandas.concat([first, second], ignore_index=True)


def _concatenate_polars(polars: Any, first: Any, second: InputLike) -> Any:
    """Put data frames below each other; columns keep their types, or are wider."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(second, pandas.DataFrame):
        second = polars.from_pandas(second)
    elif not isinstance(second, polars.DataFrame):
        if isinstance(second, np.ndarray) and second.dtype.kind == "O":
            second = second.tolist()  # Else all columns would be of objects.
        second = polars.DataFrame(second, schema=first.columns, orient="row")
    for column in first.get_columns():
        added, dtype = second[column.name], column.dtype
        if _is_number(dtype) and not _is_number(added.dtype):
            try:
                added = added.cast(dtype)
            except polars.exceptions.PolarsError as error:
                name = f"Column {column.name!r} of X"
                raise _no_numbers(name, error) from error
        elif isinstance(dtype, (polars.Categorical, polars.Enum)):
            added = added.cast(dtype, strict=False)
        second = second.with_columns(added)
    return polars.concat([first, second], how="vertical_relaxed")


def _is_number(dtype: Any) -> bool:
    return bool(dtype.is_numeric()) or str(dtype) == "Boolean"
