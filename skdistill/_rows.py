"""Putting rows together, whatever kind of table they are in."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import scipy.sparse as sp

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
    """
    if sp.issparse(first) or sp.issparse(second):
        return sp.vstack([first, second], format="csr")
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(first, pandas.DataFrame):
        return _concatenate_frames(pandas, first, second)
    if polars is not None and isinstance(first, polars.DataFrame):
        if not hasattr(second, "columns"):
            second = polars.DataFrame(second, schema=first.columns, orient="row")
        return polars.concat([first, second], how="vertical_relaxed")
    if isinstance(first, list):
        return [*first, *second]
    joined: Any = np.concatenate([np.asarray(first), np.asarray(second)])
    return joined


def _concatenate_frames(pandas: Any, first: Any, second: InputLike) -> Any:
    """Put data frames below each other; categorical columns stay categorical."""
    if not isinstance(second, pandas.DataFrame):
        second = pandas.DataFrame(second, columns=first.columns)
    second = second.copy()
    for i, dtype in enumerate(first.dtypes):
        if isinstance(dtype, pandas.CategoricalDtype):
            values = second.iloc[:, i].astype(object)
            known = values.where(values.isin(dtype.categories))
            second.isetitem(i, pandas.Categorical(known, dtype=dtype))
    return pandas.concat([first, second], ignore_index=True)
