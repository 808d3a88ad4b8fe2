"""Raw tables to numbers: categories, missing values and scales, as students need them.

A table is a data frame or an array. Columns of numbers and booleans stay numbers;
category, string and object columns become one column for each frequent level.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils.stats import _weighted_percentile

from skdistill._typing import FloatArray, InputLike, IntArray
from skdistill.students._columns import (
    columns_of,
    has_missing,
    is_numeric,
    is_plain,
    known_as,
    levels_of,
    numbers_of,
)
from skdistill.students._problem import of_ordinary_size

#: Levels of a category that get a column of their own. The rarer ones of a column with
#: more share `N_BUCKETS`, so that an identifier with thousands of levels stays small.
MAX_LEVELS = 48
N_BUCKETS = 16

#: Numbers that are turned at a time, so that float64 copies stay in the cache.
CHUNK_NUMBERS = 2**16

#: Columns of an array that are looked at together: those beside each other in memory.
BLOCK_COLUMNS = 16

#: Values whose order tells about where the quantiles of a column are.
N_GUESSED_FROM = 512

#: Share of a column at either end that has no say in its scale.
TAIL = 0.05

#: Largest values that `smooth_clip` returns; it does so from `CLIPPED` on.
CLIP = 5.0
CLIPPED = 1e10


# -- formulas ------------------------------------------------------------------------


def robust_scale(
    values: FloatArray, sample_weight: FloatArray | None
) -> tuple[float, float]:
    r"""Return the centre and the scale of a column, whatever its tails.

    The mean and the standard deviation of :math:`\min(\max(x, q_{.05}), q_{.95})`; of
    the values as they are where these quantiles are equal. A constant column has an
    infinite scale, which makes it zero.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        A column; no value is missing.
    sample_weight : ndarray of shape (n_samples,) or None
        Positive row weights; a weight of two is a repeated row.

    Returns
    -------
    centre : float
        The winsorised mean.
    scale : float
        The winsorised standard deviation, in (0, inf].
    """
    least, most = float(values.min()), float(values.max())
    if least == most:
        return least, np.inf
    low, high = weighted_quantiles(values, sample_weight, (TAIL, 1 - TAIL))
    values = values.astype(np.float64)
    if low < high:
        least, most = low, high
        values = np.clip(values, low, high)
    # Squares of numbers far from 1 overflow, or vanish. Powers of two keep all digits.
    size = max(-least, most)
    exponent = 0 if 1e-100 < size < 1e100 else math.frexp(size)[1]
    if exponent:
        values = np.ldexp(values, -exponent)
    centre = np.average(values, weights=sample_weight)
    variance = np.average((values - centre) ** 2, weights=sample_weight)
    return math.ldexp(centre, exponent), math.ldexp(math.sqrt(variance), exponent)


def weighted_quantiles(
    values: FloatArray, sample_weight: FloatArray | None, levels: Sequence[float]
) -> list[float]:
    """Return quantiles of a sample in which rows count as often as they weigh.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        Numbers.
    sample_weight : ndarray of shape (n_samples,) or None
        Positive weights.
    levels : sequence of float
        Which quantiles, in [0, 1].

    Returns
    -------
    list of float
        The inverses of the weighted distribution function; where that is a range, its
        middle.
    """
    if sample_weight is None:
        return [_quantile(values, level) for level in levels]
    found = _weighted_percentile(
        values, sample_weight, 100 * np.asarray(levels), average=True
    )
    return [float(value) for value in found]


def _quantile(values: FloatArray, level: float) -> float:
    """Return a quantile of unweighted values, the middle where it is a range."""
    position = level * len(values)
    upper = min(int(position), len(values) - 1)
    lower = max(upper - 1, 0) if upper == position else upper
    low, high = _at_ranks(values, lower, upper).astype(np.float64)
    return float((low + high) / 2)


def _at_ranks(values: FloatArray, lower: int, upper: int) -> FloatArray:
    """Return the values of two ranks next to each other, exactly.

    They are looked for among the values beyond one that a few of them suggest: a tenth
    of the time of a partition of all. If they are not there, all are partitioned.
    """
    n_values = len(values)
    few = np.sort(values[:: -(-n_values // N_GUESSED_FROM)])
    near, margin = upper * len(few) // n_values, len(few) // 25
    # `compress` takes half the time of an index.
    if upper < n_values // 2:
        candidates = values.compress(values <= few[min(near + margin, len(few) - 1)])
        skipped = 0
    else:
        candidates = values.compress(values >= few[max(near - margin, 0)])
        skipped = n_values - len(candidates)
    if lower < skipped or upper - skipped >= len(candidates):
        candidates, skipped = values, 0
    at = [lower - skipped, upper - skipped]
    found: FloatArray = np.partition(candidates, at)[at]
    return found


def smooth_clip(values: FloatArray) -> FloatArray:
    r"""Squeeze numbers into (-5, 5), hardly the small ones: :math:`z/\sqrt{1+(z/5)^2}`.

    A smooth clip as in [1]_, where it is at 3.

    Parameters
    ----------
    values : ndarray
        Scaled numbers; changed in place.

    Returns
    -------
    ndarray
        The same array.

    References
    ----------
    .. [1] Holzmüller, Grinsztajn, Steinwart, "Better by default: strong pre-tuned MLPs
           and boosted trees on tabular data", NeurIPS 2024.
    """
    # Larger ones have the same result, and a square that overflows.
    values.clip(-CLIPPED, CLIPPED, out=values)
    divisor = values * values
    divisor /= CLIP**2
    divisor += 1.0
    np.sqrt(divisor, out=divisor)
    values /= divisor
    return values


# -- the encoder -----------------------------------------------------------------------


class TableEncoder:
    """Turns the rows of a table into numbers, the way it was fitted.

    The result has the numeric columns, then an indicator for each of them that had
    missing values beside others, then the levels of the categories as zeros and ones.

    - A missing number becomes the centre of its column, which is 0 after scaling. A
      column without any number counts for nothing.
    - The levels of a category that weigh most have a column of their own. If there are
      more than `MAX_LEVELS`, the others share `N_BUCKETS` columns by a hash of their
      text, and so do levels that are met later. Otherwise an unknown level is all
      zeros. Missing is a level where it was seen.

    Parameters
    ----------
    scaled : bool
        Whether numbers are centred, scaled robustly and clipped smoothly; otherwise
        they stay as they are.

    Attributes
    ----------
    numeric_ : ndarray of shape (n_numeric,)
        Positions of the columns of numbers.
    centre_, scale_ : ndarray of shape (n_numeric,)
        Of `robust_scale`; the mean and 1 where numbers stay as they are.
    varied_ : ndarray of shape (n_varied,)
        Which of the numeric columns have more than two values, if they are scaled.
    missing_ : ndarray of shape (n_indicators,)
        Which of the numeric columns have an indicator.
    categorical_ : ndarray of shape (n_categorical,)
        Positions of the others.
    levels_ : list of list of str
        Levels that have a column, for each categorical column.
    buckets_ : list of int
        Number of shared columns, for each.
    missing_level_ : list of bool
        Whether missing is a level, for each.
    n_out_ : int
        Columns of the result.
    """

    def __init__(self, *, scaled: bool) -> None:
        self.scaled = scaled

    # -- fitting

    def fit(self, X: InputLike, sample_weight: FloatArray) -> TableEncoder:
        """Learn centres, scales and levels; a weight of two is a repeated row.

        Parameters
        ----------
        X : {ndarray, csr matrix, data frame} of shape (n_samples, n_features)
            What `check_table` returned.
        sample_weight : ndarray of shape (n_samples,)
            Positive weights.

        Returns
        -------
        TableEncoder
            Itself.
        """
        sample_weight = of_ordinary_size(sample_weight)
        uniform = sample_weight.min() == sample_weight.max()
        weight = None if uniform else sample_weight
        columns = None if is_plain(X) else columns_of(X)
        numeric = np.ones(X.shape[1], dtype=bool)
        if columns is not None:
            numeric[:] = [is_numeric(column, i) for i, column in enumerate(columns)]
        self.numeric_ = np.flatnonzero(numeric)
        self.categorical_ = np.flatnonzero(~numeric)
        self._fit_numbers(X if columns is None else columns, weight)
        self._fit_levels(columns, sample_weight)
        widths = [
            len(levels) + int(missing) + buckets
            for levels, missing, buckets in zip(
                self.levels_, self.missing_level_, self.buckets_, strict=True
            )
        ]
        self.n_out_ = len(self.numeric_) + len(self.missing_) + sum(widths)
        return self

    def _fit_numbers(self, X: Any, weight: FloatArray | None) -> None:
        n_numeric = len(self.numeric_)
        self.centre_, self.scale_ = np.zeros(n_numeric), np.ones(n_numeric)
        self.missing_, self.varied_ = np.zeros((2, 0), dtype=np.intp)
        if sp.issparse(X):
            return
        if not self._must_look(X):
            self.centre_ = _mean(X, weight)
            return
        missing, varied = [], []
        for k, values in enumerate(self._numeric_columns(X)):
            present = ~np.isnan(values)
            of_present = weight
            if not present.any():
                # Nothing is learnt of it: values met later count for nothing.
                self.scale_[k] = np.inf if self.scaled else 1.0
                continue
            if not present.all():
                missing.append(k)
                values = values[present]
                of_present = None if weight is None else weight[present]
            if self.scaled:
                self.centre_[k], self.scale_[k] = robust_scale(values, of_present)
            else:
                self.centre_[k] = _mean(values, of_present)
            if self.scaled and _has_more_than_two_values(values):
                varied.append(k)
        self.missing_ = np.array(missing, dtype=np.intp)
        self.varied_ = np.array(varied, dtype=np.intp)

    def _numeric_columns(self, X: Any) -> Iterator[FloatArray]:
        """Yield the columns of numbers, each in one piece of memory."""
        if isinstance(X, list):
            yield from (numbers_of(X[i], i) for i in self.numeric_.tolist())
            return
        for start in range(0, X.shape[1], BLOCK_COLUMNS):
            yield from np.ascontiguousarray(X[:, start : start + BLOCK_COLUMNS].T)

    def _must_look(self, X: Any) -> bool:
        """Whether numbers are changed: not if they stay, and none is missing."""
        if sp.issparse(X):
            return False
        return self.scaled or isinstance(X, list) or has_missing(X)

    def _fit_levels(self, columns: list[Any] | None, weight: FloatArray) -> None:
        self.levels_: list[list[str]] = []
        self.buckets_: list[int] = []
        self.missing_level_: list[bool] = []
        for i in self.categorical_:
            assert columns is not None
            codes, texts = levels_of(columns[i])
            mass: dict[str | None, float] = {}
            totals = np.bincount(codes % len(texts), weight, minlength=len(texts))
            for text, total in zip(texts, totals, strict=True):
                if total > 0:
                    mass[text] = mass.get(text, 0.0) + total
            self.missing_level_.append(mass.pop(None, 0.0) > 0)
            heaviest = sorted(mass, key=lambda text: (-mass[text], str(text)))
            self.levels_.append(sorted(map(str, heaviest[:MAX_LEVELS])))
            self.buckets_.append(N_BUCKETS if len(mass) > MAX_LEVELS else 0)

    # -- applying

    def keeps(self, X: InputLike) -> bool:
        """Return whether a table is its own result: numbers, as they are."""
        if self.scaled or len(self.missing_) or len(self.categorical_):
            return False
        return is_plain(X) and not has_missing(X)

    def transform(self, X: InputLike, dtype: Any = np.float64) -> FloatArray:
        """Return a table as numbers.

        Parameters
        ----------
        X : {ndarray, data frame} of shape (n_samples, n_features)
            What `check_table` returned.
        dtype : dtype, default=float64
            Type of the result.

        Returns
        -------
        ndarray of shape (n_samples, n_out_)
            Numbers, none of them missing.
        """
        out = np.zeros((X.shape[0], self.n_out_), dtype=dtype)
        columns = self._write_numbers(X, out)
        if len(self.categorical_):
            out[self._ones(X if columns is None else columns)] = 1.0
        return out

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the names of the columns of the result.

        Parameters
        ----------
        input_features : sequence of str or None, default=None
            Names of the columns of the table; None stands for x0, x1 and so on.

        Returns
        -------
        ndarray of shape (n_out_,)
            Such as "age", "age_missing", "city_Bergen", "city_missing", "id_bucket3".
        """
        if input_features is None:
            n_features = len(self.numeric_) + len(self.categorical_)
            input_features = [f"x{i}" for i in range(n_features)]
        numeric = [input_features[i] for i in self.numeric_]
        names = [*numeric, *(f"{numeric[k]}_missing" for k in self.missing_)]
        for j, i in enumerate(self.categorical_):
            endings = list(self.levels_[j])
            endings += ["missing"] if self.missing_level_[j] else []
            endings += [f"bucket{k}" for k in range(self.buckets_[j])]
            names += [f"{input_features[i]}_{ending}" for ending in endings]
        return np.array(names, dtype=object)

    def transform_sparse(self, X: InputLike) -> sp.csr_matrix:
        """Return a table as a sparse matrix of numbers.

        Parameters
        ----------
        X : {ndarray, data frame} of shape (n_samples, n_features)
            What `check_table` returned.

        Returns
        -------
        csr_matrix of shape (n_samples, n_out_)
            As `transform`.
        """
        n_dense = len(self.numeric_) + len(self.missing_)
        dense = np.zeros((X.shape[0], n_dense))
        columns = self._write_numbers(X, dense)
        rows, at = self._ones(X if columns is None else columns)
        ones = sp.coo_matrix(
            (np.ones(len(rows)), (rows, at - n_dense)),
            shape=(X.shape[0], self.n_out_ - n_dense),
        )
        return sp.hstack([sp.csr_matrix(dense), ones], format="csr")

    def _write_numbers(self, X: InputLike, out: FloatArray) -> list[Any] | None:
        """Write numbers and indicators; return the columns of what is not an array."""
        if sp.issparse(X):
            X = X.toarray()
        # Levels may be numbers: a table without texts is an array of floats.
        plain = is_plain(X) and not len(self.categorical_)
        columns = None if plain else columns_of(X)
        n_numeric, n_missing = len(self.numeric_), len(self.missing_)
        step = max(1, CHUNK_NUMBERS // max(1, n_numeric))
        for start in range(0, len(out) if n_numeric else 0, step):
            rows = slice(start, start + step)
            if columns is None:
                values = X[rows].astype(np.float64)
            else:
                whole = len(out) <= step
                values = np.empty((min(rows.stop, len(out)) - start, n_numeric))
                for k, i in enumerate(self.numeric_.tolist()):
                    column = columns[i] if whole else columns[i][rows]
                    values[:, k] = numbers_of(column, i)
            absent = np.isnan(values)
            if self.scaled:
                self._scale(values)
            any_absent = absent.any()
            if any_absent:
                np.copyto(values, 0.0 if self.scaled else self.centre_, where=absent)
            out[rows, :n_numeric] = values
            if n_missing and any_absent:
                out[rows, n_numeric : n_numeric + n_missing] = absent[:, self.missing_]
        return columns

    def _scale(self, values: FloatArray) -> None:
        """Centre, scale and clip numbers in place."""
        values -= self.centre_
        values /= self.scale_
        smooth_clip(values)

    def _ones(self, columns: list[Any]) -> tuple[IntArray, IntArray]:
        """Return where the levels' columns are one."""
        start = len(self.numeric_) + len(self.missing_)
        rows: list[IntArray] = [np.zeros(0, np.intp)]
        at: list[IntArray] = [np.zeros(0, np.intp)]
        for j, i in enumerate(self.categorical_):
            codes, texts = levels_of(columns[i])
            places = self._positions(j, texts)[codes]
            known = np.flatnonzero(places >= 0)
            rows.append(known)
            at.append(places[known] + start)
            start += len(self.levels_[j]) + self.missing_level_[j] + self.buckets_[j]
        return np.concatenate(rows), np.concatenate(at)

    def _positions(self, j: int, texts: list[str | None]) -> IntArray:
        """Return the column of each level within those of a category, -1 for none."""
        known = {text: k for k, text in enumerate(self.levels_[j])}
        n_own = len(known) + int(self.missing_level_[j])
        buckets = self.buckets_[j]

        def position(text: str | None) -> int:
            if text is None:
                return len(known) if self.missing_level_[j] else -1
            text = known_as(text, known)
            if text in known:
                return known[text]
            return n_own + zlib.crc32(text.encode()) % buckets if buckets else -1

        return np.array([position(text) for text in texts], dtype=np.intp)


def _mean(values: FloatArray, weight: FloatArray | None) -> Any:
    """Return weighted means over the rows, in products of the type of the values."""
    if weight is None:
        weight = np.ones(len(values))
    share = (weight / weight.sum()).astype(values.dtype)
    return np.asarray(share @ values, dtype=np.float64)


def _has_more_than_two_values(values: FloatArray) -> bool:
    return bool(((values > values.min()) & (values < values.max())).any())
