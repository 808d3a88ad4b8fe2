"""TableTeacher: a classifier of numbers on raw tables; what teachers say to texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import (
    _check_categorical_features,
    _check_monotonic_cst,
    check_is_fitted,
)

from skdistill._arguments import naming
from skdistill._rows import unshared
from skdistill._scoring import check_teacher, class_proba, is_frozen, weight_params
from skdistill._typing import Estimator, FloatArray, InputLike
from skdistill._validation import (
    check_labels,
    check_weights,
    encode_labels,
    keep_fitted_on_failure,
)
from skdistill.students._columns import (
    check_table,
    columns_of,
    is_numeric,
    is_plain,
    known_as,
    levels_of,
    numbers_of,
    refused_levels,
)
from skdistill.students._tables import TableEncoder


class TableTeacher(ClassifierMixin, BaseEstimator):
    """A classifier of numbers as a teacher of raw tables.

    It takes what the students take: pandas and polars data frames, arrays and lists, of
    numbers, booleans, categories, texts and objects, with missing values and levels
    that `fit` did not see.

    Boosted trees get a code for each level, and split the levels into sets. If a column
    has more than they can tell apart, the heaviest keep a code of their own, and the
    others, with those met later, share one. Columns of levels are categories to them
    always; their `categorical_features` adds columns of numbers, and may name columns
    of a data frame, as a `monotonic_cst` may. Any other classifier gets the numbers
    that an :class:`~skdistill.students.MLPStudent` sees: scaled columns, indicators of
    what is missing, and an input for each frequent level.

    Parameters
    ----------
    estimator : estimator or None, default=None
        A classifier, cloned by `fit`. None is
        :class:`sklearn.ensemble.HistGradientBoostingClassifier`, the default teacher.
    random_state : int, RandomState instance or None, default=None
        Seed of the default classifier. One that you pass keeps its own.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels.
    estimator_ : estimator
        The fitted classifier.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had any.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdistill.teachers import TableTeacher
    >>> X = [["Cork", 1], ["Bergen", 2], ["Cork", None], ["Bergen", 4]]
    >>> teacher = TableTeacher(LogisticRegression()).fit(X, [0, 1, 0, 1])
    >>> teacher.predict([["Cork", 2], ["Bergen", None]])
    array([0, 1])
    """

    _parameter_constraints: dict[str, Any] = {
        # What can be a teacher is said by its own check.
        "estimator": "no_validation",
        "random_state": ["random_state"],
    }

    #: What `check_table` asks of an estimator.
    _takes_missing = True

    def __init__(self, estimator: Any = None, *, random_state: Any = None) -> None:
        self.estimator = estimator
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    @keep_fitted_on_failure
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: InputLike, y: Any, sample_weight: Any = None) -> TableTeacher:
        """Learn the columns, and fit the classifier to their numbers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A table.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative row weights, of which rows of weight zero are as if absent. A
            warning says so if the classifier takes none.

        Returns
        -------
        self : object
            The fitted teacher.

        Raises
        ------
        TypeError
            If `estimator` cannot be a teacher, or is fitted already.
        ValueError
            If the data are unusable, such as a column of dates; the message names it.
        """
        estimator = self._new_estimator()
        given_table, X = X, check_table(self, X, reset=True)
        y = check_labels(y, X)
        weight = check_weights(sample_weight, X, encode_labels(y)[1])
        rows = np.flatnonzero(weight > 0)
        if len(rows) < len(weight):
            X, y, weight = _safe_indexing(X, rows), y[rows], weight[rows]
        boosted = isinstance(estimator, HistGradientBoostingClassifier)
        self._encoder: Any = (
            LevelCodes(estimator.max_bins) if boosted else TableEncoder(scaled=True)
        )
        self._encoder.fit(X, weight)
        if boosted:
            named = given_table if hasattr(given_table, "columns") else X
            estimator.set_params(**self._by_position(estimator, named))
        given = weight_params(estimator, None if sample_weight is None else weight)
        numbers = unshared(self._encoder.transform(X), estimator)
        self.estimator_ = estimator.fit(numbers, y, **given)
        self.classes_ = np.unique(self.estimator_.classes_)
        return self

    def _new_estimator(self) -> Estimator:
        if self.estimator is None:
            return HistGradientBoostingClassifier(random_state=self.random_state)
        with naming("estimator"):
            check_teacher(self.estimator)
        if is_frozen(self.estimator):
            raise TypeError(
                "estimator of TableTeacher must not be frozen: it was not fitted to "
                "the numbers that the columns become here. Fit the TableTeacher, and "
                "freeze that."
            )
        return clone(self.estimator)

    def _learn_from_copies(self) -> None:
        """Spell the classifier out, so that it can be told not to hold out rows."""
        if self.estimator is None:
            self.estimator = self._new_estimator()

    def _by_position(self, estimator: Any, X: InputLike) -> dict[str, Any]:
        """Return what boosted trees are told of columns, for an array without names."""
        estimator._validate_params()  # before any are replaced
        categorical = self._encoder.categorical_
        listed = estimator.categorical_features
        if not isinstance(listed, str):
            mask = _check_categorical_features(X, listed)
            categorical = categorical if mask is None else categorical | mask
        params = {"categorical_features": categorical}
        if isinstance(estimator.monotonic_cst, dict):
            constraints = _check_monotonic_cst(self, estimator.monotonic_cst)
            params["monotonic_cst"] = constraints
        return params

    def predict_proba(self, X: InputLike) -> FloatArray:
        """Return the classifier's probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A table with the columns of `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        has_levels = len(self._encoder.levels_) > 0
        X = check_table(self, X, reset=False, has_levels=has_levels)
        numbers = self._encoder.transform(X)
        return class_proba(self.estimator_, numbers, self.classes_)[0]

    def predict(self, X: InputLike) -> NDArray[Any]:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A table with the columns of `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        proba = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[proba.argmax(axis=1)]
        return labels


class LevelCodes:
    """Turns the levels of a table into codes, and leaves its numbers as they are.

    Parameters
    ----------
    max_codes : int
        Most codes of a column. If it has more levels, the heaviest keep a code, and the
        last one is shared by the others and by those met later.

    Attributes
    ----------
    categorical_ : ndarray of shape (n_features,)
        Which columns hold levels.
    levels_ : dict of int to dict of str to int
        For each of them its levels' codes. What is missing has none.
    void_ : ndarray of shape (n_void,)
        Columns without a single value, which trees refuse; they become constant.
    """

    def __init__(self, max_codes: int) -> None:
        self.max_codes = max_codes

    def fit(self, X: InputLike, sample_weight: FloatArray) -> LevelCodes:
        """Learn the levels; a weight of two is a repeated row.

        Parameters
        ----------
        X : {ndarray, data frame} of shape (n_samples, n_features)
            What `check_table` returned.
        sample_weight : ndarray of shape (n_samples,)
            Positive weights.

        Returns
        -------
        LevelCodes
            Itself.
        """
        self.categorical_ = np.zeros(X.shape[1], dtype=bool)
        self.levels_: dict[int, dict[str, int]] = {}
        for i, column in enumerate([] if is_plain(X) else columns_of(X)):
            if is_numeric(column, i):
                continue
            self.categorical_[i] = True
            codes, texts = levels_of(column)
            mass = np.bincount(codes % len(texts), sample_weight, minlength=len(texts))
            self.levels_[i] = self._numbered(mass.tolist(), texts)
        self.void_ = np.zeros(0, dtype=np.intp)
        self.void_ = np.flatnonzero(np.isnan(self.transform(X)).all(axis=0))
        return self

    def _numbered(self, mass: list[float], texts: list[str | None]) -> dict[str, int]:
        """Return a number for each level that occurs, from the heaviest on."""
        total: dict[str, float] = {}
        for text, weight in zip(texts, mass, strict=True):
            if text is not None and weight > 0:
                total[text] = total.get(text, 0.0) + weight
        heaviest = sorted(total, key=lambda text: (-total[text], text))
        n_own = self.max_codes - (len(heaviest) > self.max_codes)
        return {text: min(code, n_own) for code, text in enumerate(heaviest)}

    def transform(self, X: InputLike) -> FloatArray:
        """Return numbers and codes, NaN for what is missing or unknown.

        Parameters
        ----------
        X : {ndarray, data frame} of shape (n_samples, n_features)
            What `check_table` returned.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The columns in their order.
        """
        if is_plain(X) and not self.levels_ and not len(self.void_):
            return X
        numbers = np.empty(X.shape)
        for i, column in enumerate(X.T if is_plain(X) else columns_of(X)):
            known = self.levels_.get(i)
            numbers[:, i] = (
                numbers_of(column, i) if known is None else _coded(column, known)
            )
        numbers[:, self.void_] = 0.0
        return numbers


def _coded(column: Any, known: dict[str, int]) -> FloatArray:
    codes, texts = levels_of(column)
    # Fewer codes than levels: the last one is that of all others.
    others = max(known.values(), default=-1)
    shared = others if len(known) > others + 1 else np.nan
    of_text = [
        np.nan if text is None else known.get(known_as(text, known), shared)
        for text in texts
    ]
    coded: FloatArray = np.array(of_text, dtype=np.float64)[codes]
    return coded


def fit_teacher(
    teacher: Estimator, X: InputLike, y: NDArray[Any], params: dict[str, Any]
) -> Estimator:
    """Fit a teacher; say what to do if it takes no texts.

    Parameters
    ----------
    teacher : estimator
        Unfitted.
    X : array-like of shape (n_samples, ...)
        Inputs, passed as they are.
    y : ndarray of shape (n_samples,)
        Labels.
    params : dict
        Further arguments.

    Returns
    -------
    estimator
        The fitted teacher.

    Raises
    ------
    ValueError
        If the teacher cannot turn levels into numbers; the message names the columns.
    """
    try:
        return teacher.fit(unshared(X, teacher), y, **params)
    except (TypeError, ValueError) as error:
        texts = refused_levels(X, error)
        if not texts:
            raise
        name = type(teacher).__name__
        raise ValueError(
            f"The teacher {name} takes numbers, but the columns {texts} of X hold "
            f"texts or categories ({error}). Wrap it, teacher=skdistill.teachers."
            f"TableTeacher({name}(...)), put an encoder before it in a Pipeline, or "
            "leave teacher=None, which takes them."
        ) from error
