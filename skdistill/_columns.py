"""Columns of any table: read as numbers or categories, written back in their types."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from skdistill._typing import FloatArray, InputLike, IntArray


@dataclass(frozen=True)
class Column:
    """One column: numbers, or codes of something else.

    Attributes
    ----------
    numbers : ndarray of shape (n_samples,) or None
        Values as float64, NaN where they are missing.
    codes : ndarray of shape (n_samples,) or None
        Equal for equal values, where they are not numbers.
    """

    numbers: FloatArray | None
    codes: IntArray | None

    @property
    def whole(self) -> bool:
        """Whether all numbers are whole."""
        assert self.numbers is not None
        known = self.numbers[~np.isnan(self.numbers)]
        return bool((known == np.round(known)).all())

    @property
    def low(self) -> float:
        """Smallest number; minus infinity if all are missing."""
        assert self.numbers is not None
        return float(np.fmin.reduce(self.numbers, initial=np.inf, where=True))

    @property
    def high(self) -> float:
        """Largest number; infinity if all are missing."""
        assert self.numbers is not None
        return float(np.fmax.reduce(self.numbers, initial=-np.inf))


def read_columns(X: InputLike) -> list[Column]:
    """Read the columns of a table.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Dense array, list of rows, pandas or polars data frame.

    Returns
    -------
    list of Column
        Numbers, where a column holds numbers; truth values are categories.
    """
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(X, pandas.DataFrame):
        return [_read_pandas(pandas, X.iloc[:, j]) for j in range(X.shape[1])]
    if polars is not None and isinstance(X, polars.DataFrame):
        return [_read_polars(X.to_series(j)) for j in range(X.shape[1])]
    array = _as_array(X)
    return [_read_array(array[:, j]) for j in range(array.shape[1])]


def _as_array(X: InputLike) -> Any:
    """Return a table as an array; numbers of a list stay so if there are texts too."""
    array = np.asarray(X)
    if array.dtype.kind in "US" and not isinstance(X, np.ndarray):
        return np.asarray(X, dtype=object)
    return array


def _read_pandas(pandas: Any, series: Any) -> Column:
    types = pandas.api.types
    if types.is_numeric_dtype(series.dtype) and not types.is_bool_dtype(series.dtype):
        numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
        return Column(numbers, None)
    try:
        return Column(None, pandas.factorize(series)[0])
    except (NotImplementedError, TypeError):  # such as lists, which have no hash
        return Column(None, _codes_of_texts(series))


def _read_polars(series: Any) -> Column:
    if series.dtype.is_numeric():
        return Column(series.cast(float).to_numpy(), None)
    if str(series.dtype) == "Object":  # without an order
        return Column(None, _codes_of_texts(series))
    return Column(None, series.rank("dense").fill_null(0).to_numpy().astype(np.intp))


def _read_array(values: Any) -> Column:
    if values.dtype.kind in "iuf":
        return Column(values.astype(np.float64), None)
    if values.dtype.kind == "O":
        # A text of digits would convert, but is a level, as it is for the students.
        with_text = any(isinstance(value, (str, bytes)) for value in values)
        with suppress(TypeError, ValueError):
            if not with_text:
                return Column(values.astype(np.float64), None)
    return Column(None, _codes_of_texts(values))


def _codes_of_texts(values: Any) -> IntArray:
    """Return codes that are equal where values are written alike."""
    codes: IntArray = np.unique([str(value) for value in values], return_inverse=True)[
        1
    ]
    return codes


def write_columns(X: InputLike, new: Sequence[FloatArray | IntArray]) -> InputLike:
    """Make a table of new rows, of the kind and the types of another.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The table whose columns were read.
    new : sequence of ndarray of shape (n_rows,)
        For each column new numbers (floats) or the rows of X that its cells are
        copied from (integers).

    Returns
    -------
    array-like of shape (n_rows, n_features)
        The new rows.
    """
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(X, pandas.DataFrame):
        series = [_write_pandas(pandas, X.iloc[:, j], v) for j, v in enumerate(new)]
        frame = pandas.concat(series, axis=1)
        frame.columns = X.columns
        return frame
    if polars is not None and isinstance(X, polars.DataFrame):
        return polars.DataFrame(
            [_write_polars(polars, X.to_series(j), v) for j, v in enumerate(new)]
        )
    array = _as_array(X)
    rows = np.empty((len(new[0]), array.shape[1]), dtype=array.dtype)
    for j, values in enumerate(new):
        copied = values.dtype.kind == "i"
        rows[:, j] = array[values, j] if copied else values
    return rows


def _write_pandas(pandas: Any, series: Any, values: FloatArray | IntArray) -> Any:
    if values.dtype.kind == "i":
        return series.iloc[values].reset_index(drop=True)
    return pandas.Series(values).astype(series.dtype)


def _write_polars(polars: Any, series: Any, values: FloatArray | IntArray) -> Any:
    if values.dtype.kind == "i":
        return series.gather(values)
    made = polars.Series(series.name, values, nan_to_null=series.null_count() > 0)
    return made.cast(series.dtype)
