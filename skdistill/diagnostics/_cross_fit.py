"""Out-of-fold probabilities of several estimators, on the same rows and folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import _num_samples

from skdistill._distillation import DistillationClassifier
from skdistill._folds import Folds, make_folds
from skdistill._labelled_rows import TrainingRows
from skdistill._soft_labels import own_row_proba
from skdistill._typing import Estimator, FloatArray, InputLike, IntArray


@dataclass(frozen=True)
class CrossFit:
    """Rows of positive weight and how estimators are cross-fitted on them.

    Attributes
    ----------
    rows : TrainingRows
        Inputs, labels and weights.
    kept : ndarray of shape (n_samples,)
        Which of the rows that the user passed they are.
    n_passed : int
        Number of rows that the user passed.
    folds : list of (ndarray, ndarray)
        Training and test rows of each fold.
    memory, n_jobs, random_state : object
        As in DistillationClassifier.
    """

    rows: TrainingRows
    kept: IntArray
    n_passed: int
    folds: Folds
    memory: Any
    n_jobs: int | None
    random_state: Any

    @property
    def weight(self) -> FloatArray:
        """Weights of the rows, 1 where none were passed."""
        if self.rows.weight is None:
            return np.ones(len(self.rows.y))
        return self.rows.weight

    @property
    def lengthening(self) -> float:
        r"""Factor of intervals of differences of estimators fitted in the folds.

        .. math:: \sqrt{1 + n_2 / n_1}

        with :math:`n_1` training and :math:`n_2` test rows of a fold. An interval of
        independent rows takes what is scored as fixed, but the estimators vary with
        their training rows. Much of that is common to both estimators and cancels, so
        that this is less than :attr:`score_lengthening`.
        """
        return float(np.sqrt(1 + self._test_train_ratio))

    @property
    def score_lengthening(self) -> float:
        r"""Factor of intervals of scores of estimators that were fitted in the folds.

        .. math:: \sqrt{1 + K n_2 / n_1}

        for K folds: the correction of Nadeau and Bengio for splits that share training
        rows, relative to the variance of a mean over independent rows.
        """
        return float(np.sqrt(1 + len(self.folds) * self._test_train_ratio))

    @property
    def _test_train_ratio(self) -> float:
        n_test = np.mean([len(test) for _, test in self.folds])
        n_train = np.mean([len(train) for train, _ in self.folds])
        return float(n_test / n_train)

    def proba(self, estimator: Estimator) -> FloatArray:
        """Return the probabilities of each row by an estimator that has not seen it.

        A frozen estimator scores the rows as it is.
        """
        owner = DistillationClassifier(
            estimator,
            cv=self.folds,
            memory=self.memory,
            n_jobs=self.n_jobs,
            random_state=self.random_state,
        )
        return own_row_proba(*owner._open_stage(self.rows, {}))


def is_given(teacher: Any) -> bool:
    """Whether a teacher of a report is its probabilities, and nothing to fit."""
    return not hasattr(teacher, "fit") and hasattr(teacher, "__array__")


def check_rows(X: InputLike, y: Any, sample_weight: Any) -> TrainingRows:
    """Check inputs, labels and weights."""
    return DistillationClassifier()._check_rows(X, y, sample_weight)


def present_rows(passed: TrainingRows) -> tuple[TrainingRows, IntArray]:
    """Return the rows with a positive weight, and which they are."""
    kept = np.flatnonzero(passed.present())
    return passed if len(kept) == len(passed.y) else passed.take(kept), kept


def open_cross_fit(
    X: InputLike,
    y: Any,
    sample_weight: Any,
    *,
    cv: Any,
    memory: Any,
    n_jobs: int | None,
    random_state: Any,
) -> CrossFit:
    """Check the data and draw the folds, once for all estimators."""
    if isinstance(cv, str):
        raise ValueError(
            f"cv={cv!r} must be None, a number of folds, a splitter or an iterable: a "
            "teacher can only be judged on rows that it has not seen."
        )
    passed = check_rows(X, y, sample_weight)
    # An iterable numbers the rows passed, so it is read before some are left out.
    folds = make_folds(cv, passed.labelled({}, {}))
    rows, kept = present_rows(passed)
    return CrossFit(rows, kept, _num_samples(X), folds, memory, n_jobs, random_state)
