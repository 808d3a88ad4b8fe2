"""Sets of labels as users have them, and as one sparse indicator matrix."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils.validation import check_consistent_length

from skdistill._retrieval_scorer import frame_as_array, is_sequence_of_sets
from skdistill._typing import InputLike
from skdistill._validation import check_labels, check_not_empty, encode_labels

#: How labels were passed, which is how they are returned.
DENSE, SPARSE, NAMES, MULTICLASS = "dense", "sparse", "names", "multiclass"


@dataclass(frozen=True)
class LabelSets:
    """The labels of each row.

    Attributes
    ----------
    indicator : csr_matrix of shape (n_samples, n_labels)
        Ones where a row has a label; sorted indices, no duplicates.
    classes : ndarray of shape (n_labels,)
        Names of the labels; column numbers where y was an indicator matrix.
    kind : {"dense", "sparse", "names", "multiclass"}
        How they were passed: an indicator array, a sparse one, names, or one label a
        row.
    dtype : dtype
        Type of an indicator that was passed, else int64.
    """

    indicator: sp.csr_matrix
    classes: NDArray[Any]
    kind: str
    dtype: np.dtype[Any]


def read_labels(y: Any, X: InputLike) -> LabelSets:
    """Read labels in any of the forms that users have them in.

    Parameters
    ----------
    y : sparse matrix, array or sequence
        An indicator (n_samples, n_labels) of zeros and ones, dense or sparse; a
        sequence of sequences or sets of hashable labels; or one label a row. A sequence
        of equally long sequences of two or more zeros and ones is an indicator, as in
        scikit-learn.
    X : array-like of shape (n_samples, ...)
        The inputs, for the number of rows.

    Returns
    -------
    LabelSets
        The indicator and the names.

    Raises
    ------
    ValueError
        If there is not one entry of y for each row of X, an indicator holds something
        other than zeros and ones, there is no label at all, or one label a row
        was passed and there is only one class.
    TypeError
        If a label in a set is not hashable.
    """
    check_not_empty(X)
    if sp.issparse(y):
        check_consistent_length(X, y)
        return _from_sparse(y)
    if is_sequence_of_sets(y):
        check_consistent_length(X, y)
        if not _looks_like_indicator(y):
            return _from_names(y)
        y = np.array([list(row) for row in y])
    if hasattr(y, "__array__"):
        y = np.asarray(frame_as_array(y))
        if y.ndim == 2 and y.shape[1] > 1:
            check_consistent_length(X, y)
            return _from_dense(y)
    classes, codes = encode_labels(check_labels(y, X))
    rows = np.arange(len(codes) + 1)
    ones = np.ones(len(codes), dtype=np.float32)
    indicator = sp.csr_matrix((ones, codes, rows), shape=(len(codes), len(classes)))
    return LabelSets(indicator, classes, MULTICLASS, np.dtype(np.int64))


def _from_sparse(y: Any) -> LabelSets:
    """Read a sparse indicator; stored zeros and repeated ones do no harm."""
    dtype = y.dtype
    if y.format not in ("lil", "dok") and np.isin(y.data, (0, 1)).all():
        # Ones of one place are a label that is named twice; other values add up.
        y = y.astype(bool)
    indicator = sp.csr_matrix(y, copy=True)
    indicator.sum_duplicates()
    indicator.eliminate_zeros()
    _check_binary(indicator.data, y.shape)
    if indicator.shape[1] == 0:
        raise ValueError(f"y has no label: its shape is {y.shape}.")
    indicator.data = np.ones(indicator.nnz, dtype=np.float32)
    return LabelSets(indicator, np.arange(y.shape[1]), SPARSE, dtype)


def _from_dense(y: NDArray[Any]) -> LabelSets:
    """Read a dense indicator."""
    if y.dtype.kind not in "biuf":
        raise ValueError(
            f"y of shape {y.shape} must be an indicator of zeros and ones, got the "
            f"type {y.dtype}. Sets of names are passed as a list of lists."
        )
    _check_binary(y[y != 0], y.shape)
    return LabelSets(
        sp.csr_matrix(y, dtype=np.float32), np.arange(y.shape[1]), DENSE, y.dtype
    )


def _check_binary(values: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise unless the values that are not zero are one."""
    wrong = values[values != 1]
    if len(wrong):
        raise ValueError(
            f"y of shape {shape} must be an indicator of zeros and ones, but holds "
            f"{wrong[0]!r}. Probabilities go into the argument soft_labels."
        )


def _looks_like_indicator(y: Any) -> bool:
    """Whether a sequence of sequences is an indicator, as scikit-learn reads it."""
    rows = list(y)
    if any(isinstance(row, (set, frozenset)) for row in rows):
        return False
    n_labels = len(rows[0])
    return n_labels > 1 and all(
        len(row) == n_labels
        and all(
            isinstance(v, (int, float, np.number, np.bool_)) and v in (0, 1)
            for v in row
        )
        for row in rows
    )


def _from_names(y: Any) -> LabelSets:
    """Read sets of hashable names."""
    rows = [list(row) for row in y]
    try:
        names = set(chain.from_iterable(rows))
    except TypeError as error:
        raise TypeError(f"y: labels must be hashable: {error}") from error
    if not names:
        raise ValueError("y has no label: all sets are empty.")
    classes = _as_array(_sorted(names))
    position = {name: i for i, name in enumerate(classes.tolist())}
    codes = [[position[_plain(name)] for name in row] for row in rows]
    indicator = _indicator(codes, len(classes))
    return LabelSets(indicator, classes, NAMES, np.dtype(np.int64))


def _plain(name: Any) -> Any:
    """Return a NumPy scalar as Python's own."""
    return name.item() if isinstance(name, np.generic) else name


def _sorted(names: set[Any]) -> list[Any]:
    """Sort names; those that do not compare, by their type and what they print."""
    plain = {_plain(name) for name in names}
    try:
        return sorted(plain)
    except TypeError:
        return sorted(plain, key=lambda name: (type(name).__name__, repr(name)))


def _as_array(names: list[Any]) -> NDArray[Any]:
    """Return names as an array of strings or integers, else of objects."""
    for kind in (str, int):
        if all(type(name) is kind for name in names):
            return np.array(names)
    array = np.empty(len(names), dtype=object)
    array[:] = names
    return array


def _indicator(codes: list[list[int]], n_labels: int) -> sp.csr_matrix:
    """Return ones at some columns of each row."""
    ends = np.cumsum([0] + [len(row) for row in codes])
    columns = np.fromiter(chain.from_iterable(codes), dtype=np.int64, count=ends[-1])
    ones = np.ones(len(columns), dtype=np.float32)
    matrix = sp.csr_matrix((ones, columns, ends), shape=(len(codes), n_labels))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix
