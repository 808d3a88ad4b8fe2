"""The rows that users pass to fit, as they are and as a teacher gets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_method_params

from skdistill._typing import FloatArray, InputLike, IntArray


@dataclass(frozen=True)
class LabelledRows:
    """The rows that a teacher is fitted on.

    Attributes
    ----------
    X : array-like of shape (n_samples, ...)
        Inputs as the user passed them.
    y : ndarray of shape (n_samples,)
        Labels.
    codes : ndarray of shape (n_samples,)
        Positions of the labels among the classes.
    classes : ndarray of shape (n_classes,)
        Sorted classes.
    fit_params, split_params : dict
        Arguments of the teacher's `fit` and of the splitter's `split`, aligned with
        the rows where they have as many.
    position : ndarray of shape (n_passed,)
        For each row that the user passed its position among these, -1 where its weight
        is zero.
    """

    X: InputLike
    y: NDArray[Any]
    codes: IntArray
    classes: NDArray[Any]
    fit_params: dict[str, Any]
    split_params: dict[str, Any]
    position: IntArray


@dataclass(frozen=True)
class TrainingRows:
    """What a user passed to fit, checked.

    Attributes
    ----------
    X : array-like of shape (n_samples, ...)
        Inputs as they were passed.
    y : ndarray of shape (n_samples,)
        Labels.
    codes : ndarray of shape (n_samples,)
        Positions of the labels among the classes.
    classes : ndarray of shape (n_classes,)
        Sorted classes.
    weight : ndarray of shape (n_samples,) or None
        Sample weights; None where none were passed.
    """

    X: InputLike
    y: NDArray[Any]
    codes: IntArray
    classes: NDArray[Any]
    weight: FloatArray | None

    def present(self) -> NDArray[np.bool_]:
        """Return which rows have a positive weight; the others are as if absent."""
        if self.weight is None:
            return np.ones(len(self.y), dtype=bool)
        return self.weight > 0

    def take(self, rows: IntArray) -> TrainingRows:
        """Return some of the rows."""
        return TrainingRows(
            _safe_indexing(self.X, rows),
            self.y[rows],
            self.codes[rows],
            self.classes,
            None if self.weight is None else self.weight[rows],
        )

    def labelled(
        self, fit_params: dict[str, Any], split_params: dict[str, Any]
    ) -> LabelledRows:
        """Return the present rows, as the teacher gets them."""
        rows = np.flatnonzero(self.present())
        position = np.full(len(self.y), -1)
        position[rows] = np.arange(len(rows))
        if len(rows) == len(self.y):
            return LabelledRows(
                self.X,
                self.y,
                self.codes,
                self.classes,
                fit_params,
                split_params,
                position,
            )
        return LabelledRows(
            _safe_indexing(self.X, rows),
            self.y[rows],
            self.codes[rows],
            self.classes,
            _check_method_params(self.X, params=fit_params, indices=rows),
            _check_method_params(self.X, params=split_params, indices=rows),
            position,
        )
