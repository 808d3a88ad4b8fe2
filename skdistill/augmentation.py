"""New inputs for a teacher to label: mixtures of each row and one near it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import _num_samples

from skdistill._columns import Column, read_columns, write_columns
from skdistill._neighbors import nearest_rows
from skdistill._typing import FloatArray, InputLike, IntArray

__all__ = ["interpolate_neighbors", "munge", "swap_neighbors"]

#: New rows for each row, where `n_rows` is None.
ROWS_PER_ROW = 3

#: New rows at most, where `n_rows` is None; never fewer than one a row.
MAX_ROWS = 40_000

#: New values of a numeric column, from those of the rows and of their neighbours.
_Mix: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]

_CONSTRAINTS: dict[str, Any] = {
    "X": "no_validation",
    "n_rows": [Interval(Integral, 1, None, closed="left"), None],
    "pool_size": [Interval(Integral, 2, None, closed="left")],
    "random_state": ["random_state"],
}
_SWAP_PROBA = [Interval(Real, 0, 1, closed="both")]
_N_NEIGHBORS = [Interval(Integral, 1, None, closed="left")]


@validate_params(
    {
        **_CONSTRAINTS,
        "swap_proba": _SWAP_PROBA,
        "local_variance": [Interval(Real, 0, None, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def munge(
    X: InputLike,
    n_rows: int | None = None,
    *,
    swap_proba: float = 0.5,
    local_variance: float = 1.0,
    pool_size: int = 4096,
    random_state: Any = None,
) -> InputLike:
    r"""Make new rows by MUNGE of [1]_.

    For a row :math:`e` and its nearest neighbour :math:`e'`, each column is left as it
    is with probability :math:`1 - p`; otherwise it becomes

    .. math::

        e_a \leftarrow \mathcal N\big(e'_a, \; (|e_a - e'_a| / s)^2\big)

    if it is numeric, and :math:`e'_a` if it is not. p is `swap_proba` and s is
    `local_variance`.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Array, sparse matrix, list of rows, or data frame. Columns of a data frame that
        are not numbers are categories; so are columns of an object array that do not
        convert to numbers or hold a text, also one of digits.
    n_rows : int or None, default=None
        Number of new rows. None is three a row, at most 40,000, and at least one a row.
        Each row is used equally often.
    swap_proba : float, default=0.5
        Probability p that a column changes, in [0, 1].
    local_variance : float, default=1.0
        The larger s is, in (0, inf), the closer numbers stay to the neighbour's.
    pool_size : int, default=4096
        With more rows than this, neighbours are searched among a random choice of so
        many; with fewer they are exact.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    array-like of shape (n_rows, n_features)
        New rows, of the kind of X. Categories are those of the two rows; numbers stay
        within the range of their column, and whole if all of the column are. A cell is
        missing only if it is so in one of the two rows.

    Raises
    ------
    ValueError
        If X has no columns, or fewer than two rows.

    See Also
    --------
    swap_neighbors : Takes values as they are, from one of several neighbours.
    interpolate_neighbors : Moves all numbers towards a neighbour.

    References
    ----------
    .. [1] Buciluă, Caruana, Niculescu-Mizil, "Model compression", KDD 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.augmentation import munge
    >>> X = np.array([[0.0, 1.0], [0.5, 2.0], [9.0, 8.0]])
    >>> new = munge(X, 6, random_state=0)
    >>> new.shape, bool(new.max() <= 9.0)
    ((6, 2), True)
    """
    rng = check_random_state(random_state)

    def _mix(own: FloatArray, other: FloatArray) -> FloatArray:
        spread = np.nan_to_num(np.abs(own - other)) / local_variance
        new: FloatArray = other + spread * rng.normal(size=own.shape)
        return new

    return _augment(X, n_rows, 1, pool_size, rng, swap_proba, _mix)


@validate_params(
    {**_CONSTRAINTS, "swap_proba": _SWAP_PROBA, "n_neighbors": _N_NEIGHBORS},
    prefer_skip_nested_validation=True,
)
def swap_neighbors(
    X: InputLike,
    n_rows: int | None = None,
    *,
    swap_proba: float = 0.5,
    n_neighbors: int = 5,
    pool_size: int = 4096,
    random_state: Any = None,
) -> InputLike:
    """Make new rows by taking values from a near row as they are.

    For a row and one of its nearest neighbours, drawn at random, each column is taken
    from the neighbour with probability `swap_proba`: columns are permuted within
    neighbourhoods. No value is new, whatever its type; only their combinations are.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        As in :func:`munge`.
    n_rows : int or None, default=None
        As in :func:`munge`.
    swap_proba : float, default=0.5
        Probability that a column is the neighbour's, in [0, 1].
    n_neighbors : int, default=5
        Neighbours to draw from.
    pool_size : int, default=4096
        As in :func:`munge`.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    array-like of shape (n_rows, n_features)
        New rows, of the kind of X.

    Raises
    ------
    ValueError
        If X has no columns, or fewer than two rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.augmentation import swap_neighbors
    >>> X = np.array([[0, 1], [2, 3], [9, 8]])
    >>> new = swap_neighbors(X, 6, n_neighbors=1, random_state=0)
    >>> bool(np.isin(new[:, 0], X[:, 0]).all())
    True
    """
    rng = check_random_state(random_state)
    return _augment(X, n_rows, n_neighbors, pool_size, rng, swap_proba, None)


@validate_params(
    {**_CONSTRAINTS, "n_neighbors": _N_NEIGHBORS},
    prefer_skip_nested_validation=True,
)
def interpolate_neighbors(
    X: InputLike,
    n_rows: int | None = None,
    *,
    n_neighbors: int = 5,
    pool_size: int = 4096,
    random_state: Any = None,
) -> InputLike:
    r"""Make new rows between a row and a near one, as SMOTE does [1]_.

    For a row :math:`e` and one of its nearest neighbours :math:`e'`, drawn at random,

    .. math:: e + u \, (e' - e), \qquad u \sim \mathcal U(0, 1);

    other columns than numbers are taken from the neighbour with probability
    :math:`1/2`. Unlike SMOTE it does not look at classes: the teacher will say.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        As in :func:`munge`.
    n_rows : int or None, default=None
        As in :func:`munge`.
    n_neighbors : int, default=5
        Neighbours to draw from.
    pool_size : int, default=4096
        As in :func:`munge`.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    array-like of shape (n_rows, n_features)
        New rows, of the kind of X.

    Raises
    ------
    ValueError
        If X has no columns, or fewer than two rows.

    References
    ----------
    .. [1] Chawla, Bowyer, Hall, Kegelmeyer, "SMOTE: Synthetic minority over-sampling
           technique", JAIR 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.augmentation import interpolate_neighbors
    >>> X = np.array([[0.0, 1.0], [0.5, 2.0], [9.0, 8.0]])
    >>> interpolate_neighbors(X, 6, n_neighbors=1, random_state=0).shape
    (6, 2)
    """
    rng = check_random_state(random_state)
    share: list[FloatArray] = []

    def _mix(own: FloatArray, other: FloatArray) -> FloatArray:
        if not share:  # one for all columns of a row
            share.append(rng.uniform(size=len(own)))
        return _between(own, other, share[0])

    return _augment(X, n_rows, n_neighbors, pool_size, rng, None, _mix)


def _between(own: FloatArray, other: FloatArray, share: FloatArray) -> FloatArray:
    """Return numbers that are a share of the way from some to others."""
    known = np.where(np.isnan(own), other, own)
    new: FloatArray = known + share * (other - known)
    return new


@dataclass(frozen=True)
class _Pairs:
    """Which rows are mixed: row `own[i]` with its neighbour `other[i]`."""

    own: IntArray
    other: IntArray


def _augment(
    X: InputLike,
    n_rows: int | None,
    n_neighbors: int,
    pool_size: int,
    rng: np.random.RandomState,
    swap_proba: float | None,
    mix: _Mix | None,
) -> InputLike:
    """Mix rows with neighbours; `swap_proba` None changes every number.

    `mix` None copies cells as they are.
    """
    n_samples = _check_table(X)
    if n_rows is None:
        n_rows = max(n_samples, min(ROWS_PER_ROW * n_samples, MAX_ROWS))
    if sp.issparse(X):
        pairs = _pairs(X.tocsr(), [], n_rows, n_neighbors, pool_size, rng)
        return _mix_sparse(X.tocsr(), pairs, rng, swap_proba, mix)
    columns = read_columns(X)
    numbers = _scaled([c.numbers for c in columns if c.numbers is not None])
    codes = [c.codes for c in columns if c.codes is not None]
    if numbers.shape[1] == 0:
        numbers = np.zeros((n_samples, 1), dtype=np.float32)
    pairs = _pairs(numbers, codes, n_rows, n_neighbors, pool_size, rng)
    new = [_mix_column(column, pairs, rng, swap_proba, mix) for column in columns]
    return write_columns(X, new)


def _check_table(X: InputLike) -> int:
    """Return the number of rows of something with columns."""
    shape = getattr(X, "shape", None) or np.shape(X)
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(
            "X must have rows and columns to make new rows from, got "
            f"{type(X).__name__} of shape {tuple(shape)}. Use augmentation=None, or "
            "pass rows of your own as X_unlabeled."
        )
    n_samples = _num_samples(X)
    if n_samples < 2:
        raise ValueError(f"X must have 2 rows at least, got {n_samples}.")
    return int(n_samples)


def _mix_column(
    column: Column,
    pairs: _Pairs,
    rng: np.random.RandomState,
    swap_proba: float | None,
    mix: _Mix | None,
) -> FloatArray | IntArray:
    """Return the numbers of new rows or, of another column, the rows to copy from."""
    n_rows = len(pairs.own)
    if mix is None or column.numbers is None:
        swap = _swapped(n_rows, swap_proba, rng)
        copied: IntArray = np.where(swap, pairs.other, pairs.own)
        return copied
    own, other = column.numbers[pairs.own], column.numbers[pairs.other]
    new = mix(own, other)
    if swap_proba is not None:
        new = np.where(_swapped(n_rows, swap_proba, rng), new, own)
    if column.whole:
        new = np.round(new)
    return np.clip(new, column.low, column.high)


def _swapped(
    n_cells: int, swap_proba: float | None, rng: np.random.RandomState
) -> NDArray[np.bool_]:
    """Draw which cells change; half of them where no chance was asked for."""
    swapped: NDArray[np.bool_] = rng.uniform(size=n_cells) < (
        0.5 if swap_proba is None else swap_proba
    )
    return swapped


def _mix_sparse(
    X: Any,
    pairs: _Pairs,
    rng: np.random.RandomState,
    swap_proba: float | None,
    mix: _Mix | None,
) -> Any:
    """Mix sparse rows: a column that is zero in both rows stays zero."""
    own, other = _keyed(X[pairs.own]), _keyed(X[pairs.other])
    # The cells that are in either row, in one order for both.
    cells = np.union1d(own[0], other[0])
    first, second = (_at(cells, *values) for values in (own, other))
    rows, columns = np.divmod(cells, X.shape[1])
    one, two = first.astype(np.float64), second.astype(np.float64)
    if mix is None or X.dtype.kind == "b":  # booleans are categories
        new = np.where(_swapped(len(cells), swap_proba, rng), second, first)
    elif swap_proba is None:
        share = rng.uniform(size=len(pairs.own))[rows]
        new = _valid(_between(one, two, share), X, columns)
    else:
        swap = _swapped(len(cells), swap_proba, rng)
        new = np.where(swap, _valid(mix(one, two), X, columns), first)
    kind = sp.csr_matrix if isinstance(X, sp.spmatrix) else sp.csr_array
    # Sparse arrays keep the type of indices: many estimators take no 64 bits.
    places = tuple(part.astype(X.indices.dtype) for part in (rows, columns))
    made = kind((new, places), shape=(len(pairs.own), X.shape[1]))
    made.eliminate_zeros()
    return made


def _valid(new: FloatArray, X: Any, columns: IntArray) -> NDArray[Any]:
    """Return new cells in the range of their columns, whole if those are, in X's type.

    Cast as they are, to integers, they would all go towards zero.
    """
    known = X.astype(np.float64)
    broken = (known.data != np.round(known.data)) & ~np.isnan(known.data)
    whole = np.ones(X.shape[1], dtype=bool)
    whole[known.indices[broken]] = False
    new = np.where(whole[columns], np.round(new), new)
    low, high = (f(axis=0).toarray().ravel() for f in (known.nanmin, known.nanmax))
    return np.clip(new, low[columns], high[columns]).astype(X.dtype)


def _keyed(X: Any) -> tuple[IntArray, NDArray[Any]]:
    """Return one number for the place of each stored cell, in order, and its value."""
    X.sum_duplicates()
    rows = np.repeat(np.arange(X.shape[0], dtype=np.int64), np.diff(X.indptr))
    return rows * X.shape[1] + X.indices, X.data


def _at(cells: IntArray, known: IntArray, values: NDArray[Any]) -> NDArray[Any]:
    """Return values at cells, of which some are known, and zero at the others."""
    found = np.zeros(len(cells), dtype=values.dtype)
    found[np.searchsorted(cells, known)] = values
    return found


# -- neighbours ---------------------------------------------------------------------


def _scaled(columns: list[FloatArray]) -> NDArray[np.float32]:
    """Return columns of unit variance, missing as the mean, for distances.

    A column with missing values gets one more, which says where they are.
    """
    scaled = []
    for column in columns:
        missing = np.isnan(column)
        known = column[~missing]
        mean, spread = (known.mean(), known.std()) if len(known) else (0.0, 0.0)
        scaled.append(np.where(missing, 0.0, column - mean) / (spread or 1.0))
        if missing.any():
            scaled.append(missing.astype(float))
    if not scaled:
        return np.empty((0, 0), dtype=np.float32)
    return np.column_stack(scaled).astype(np.float32)


def _pairs(
    numbers: Any,
    codes: list[IntArray],
    n_rows: int,
    n_neighbors: int,
    pool_size: int,
    rng: np.random.RandomState,
) -> _Pairs:
    """Draw each row equally often, each time with one of its neighbours."""
    n_samples = numbers.shape[0]
    pool = np.arange(n_samples)
    if n_samples > pool_size:
        pool = np.sort(rng.choice(n_samples, pool_size, replace=False))
    near = nearest_rows(numbers, codes, pool, min(n_neighbors, len(pool) - 1))
    rounds = -(-n_rows // n_samples)
    own = np.concatenate([rng.permutation(n_samples) for _ in range(rounds)])[:n_rows]
    other = near[own, rng.randint(near.shape[1], size=n_rows)]
    return _Pairs(own, other)
