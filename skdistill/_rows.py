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
        More rows, with the columns of `first`. A data frame's are converted to the
        types of `first`; categories that `first` does not have become missing.

    Returns
    -------
    array-like of shape (n_first + n_second, ...)
        All rows, of the kind of `first`.
    """
    if sp.issparse(first) or sp.issparse(second):
        return sp.vstack([first, second], format="csr")
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(first, pandas.DataFrame):
        second = pandas.DataFrame(second)[first.columns].astype(first.dtypes)
        return pandas.concat([first, second], ignore_index=True)
    if polars is not None and isinstance(first, polars.DataFrame):
        return polars.concat([first, second.select(first.columns).cast(first.schema)])
    if isinstance(first, list):
        return [*first, *second]
    joined: Any = np.concatenate([np.asarray(first), np.asarray(second)])
    return joined
