"""What estimators share that train one student on the soft labels of a teacher."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import _num_samples, validate_data

from skdistill._arguments import naming
from skdistill._calibration import fit_temperature
from skdistill._labelled_rows import TrainingRows
from skdistill._rows import concatenate_rows
from skdistill._soft_labels import (
    TeacherStageMixin,
    fitted_teacher,
    new_row_proba,
    own_row_proba,
)
from skdistill._typing import FloatArray, InputLike
from skdistill._validation import (
    check_mixing_weight,
    check_not_empty,
    check_soft_labels,
)
from skdistill.losses import temper_proba
from skdistill.students._base import BaseStudent


@dataclass(frozen=True)
class Given:
    """What was passed to fit beside the labels; None where it was not."""

    soft_labels: FloatArray | None
    X_unlabeled: InputLike
    soft_labels_unlabeled: FloatArray | None
    synthetic: InputLike = None

    @property
    def added(self) -> list[InputLike]:  # numpydoc ignore=RT01
        """All rows without labels."""
        return [X for X in (self.X_unlabeled, self.synthetic) if X is not None]


class OneStudentMixin(TeacherStageMixin):
    """The way from rows and a teacher to one fitted student.

    A subclass defines ``_fit_student(student, rows, soft, given, pool)``, which trains
    the student on labels and soft labels.
    """

    mixing_weight: Any
    keep_teacher: bool
    # Of CallbackSupportMixin.
    _init_callback_context: Any

    def _fit_one(
        self,
        student: BaseStudent,
        rows: TrainingRows,
        given: Given,
        params: dict[str, Any],
    ) -> None:
        """Make soft labels, train the student on them, and store it."""
        student._check_task(rows.X, len(rows.classes))
        context = self._init_callback_context(max_subtasks=2)
        context.call_on_fit_task_begin(estimator=self, X=rows.X, y=rows.y)
        self.mixing_weight_ = check_mixing_weight(self.mixing_weight, rows.classes)
        self.classes_ = rows.classes
        soft, pool = self._soft_labels(rows, given, params, context)
        self.student_ = self._trained(student, rows, soft, given, pool, context)
        context.call_on_fit_task_end(
            estimator=self, X=rows.X, y=rows.y, reconstruction_attributes={}
        )

    def _mixes(self) -> bool:
        """Whether soft labels may have any weight."""
        weight = self.mixing_weight
        return isinstance(weight, str) or bool(np.any(np.asarray(weight) != 0))

    def _check_given(
        self,
        rows: TrainingRows,
        soft_labels: Any,
        X_unlabeled: InputLike,
        soft_labels_unlabeled: Any,
    ) -> Given:
        """Check what was passed beside the labels, before anything is trained."""
        if not isinstance(self.mixing_weight, str):
            check_mixing_weight(self.mixing_weight, rows.classes)
        if soft_labels is None and self._mixes():
            self._check_auto_temperature()
            self._resolved_teacher()
        if soft_labels is not None:
            soft_labels = check_soft_labels(
                soft_labels,
                n_samples=len(rows.y),
                classes=rows.classes,
                name="soft_labels",
            )
        if X_unlabeled is None and soft_labels_unlabeled is not None:
            raise ValueError("soft_labels_unlabeled was passed without X_unlabeled.")
        if X_unlabeled is not None:
            self._check_added(X_unlabeled, name="X_unlabeled")
        if soft_labels_unlabeled is not None:
            soft_labels_unlabeled = check_soft_labels(
                soft_labels_unlabeled,
                n_samples=_num_samples(X_unlabeled),
                classes=rows.classes,
                name="soft_labels_unlabeled",
            )
        if X_unlabeled is not None:
            self._warn_of_slices(X_unlabeled, rows)
        return Given(soft_labels, X_unlabeled, soft_labels_unlabeled)

    def _check_added(self, X_new: InputLike, *, name: str) -> None:
        """Check that rows without labels are like those of X."""
        with naming(name):
            check_not_empty(X_new, name=name)
        try:
            validate_data(self, X_new, reset=False, skip_check_array=True)
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{name} does not fit X: {error}") from error

    def _warn_of_slices(self, X_unlabeled: InputLike, rows: TrainingRows) -> None:
        """Warn of a pool that scikit-learn takes for one entry a row of X.

        Its searches slice what has as many rows as X, and then it has as many again.
        """
        if _num_samples(X_unlabeled) == len(rows.y):
            warnings.warn(
                f"X_unlabeled has as many rows as X, {len(rows.y)}. That is as it "
                "should be if you passed them to fit yourself; but a scikit-learn "
                "search takes such a pool to belong to the rows of X, and slices it "
                "fold by fold. Leave out one row of the pool there.",
                UserWarning,
                stacklevel=2,
            )

    def _soft_labels(
        self, rows: TrainingRows, given: Given, params: dict[str, Any], context: Any
    ) -> tuple[FloatArray | None, FloatArray | None]:
        """Return tempered soft labels of the rows and of the unlabelled rows."""
        task = context.subcontext(task_name="soft labels")
        task.call_on_fit_task_begin(estimator=self, X=rows.X, y=rows.y)
        own, pool = None, None
        known = self.temperature not in (None, "auto")
        self.temperature_ = float(self.temperature) if known else 1.0
        if self._mixes():
            own, pool = self._proba(rows, given, params)
            if self.temperature == "auto":
                self.temperature_ = fit_temperature(
                    rows.codes, own, sample_weight=rows.weight
                )
            own = self._tempered(rows, own)
            pool = None if pool is None else temper_proba(pool, self.temperature_)
        task.call_on_fit_task_end(estimator=self, X=rows.X, y=rows.y)
        return own, pool

    def _tempered(self, rows: TrainingRows, proba: FloatArray) -> FloatArray:
        """Return the soft labels of labelled rows at their temperature."""
        return temper_proba(proba, self.temperature_)

    def _proba(
        self, rows: TrainingRows, given: Given, params: dict[str, Any]
    ) -> tuple[FloatArray, FloatArray | None]:
        """Return the probabilities given or, where there are none, the teacher's."""
        own, known = given.soft_labels, given.soft_labels_unlabeled
        pool = [] if known is None else [known]
        unscored = given.added[len(pool) :]
        if own is None or unscored:
            stage, labelled = self._open_stage(rows, params)
            if own is None:
                # Rows of weight zero are not scored; the student leaves them out, too.
                own = np.eye(len(rows.classes))[rows.codes]
                own[rows.present()] = own_row_proba(stage, labelled)
            if unscored:
                X_new = functools.reduce(concatenate_rows, unscored)
                pool.append(new_row_proba(stage, labelled, X_new))
            if self.keep_teacher:
                self.teacher_ = fitted_teacher(stage, labelled)
        return own, np.concatenate(pool) if pool else None

    def _trained(
        self,
        student: BaseStudent,
        rows: TrainingRows,
        soft: FloatArray | None,
        given: Given,
        pool: FloatArray | None,
        context: Any,
    ) -> BaseStudent:
        """Return the student, fitted."""
        task = context.subcontext(task_name="train student")
        with task.propagate_callback_context(student):
            task.call_on_fit_task_begin(estimator=self, X=rows.X, y=rows.y)
            self._fit_student(student, rows, soft, given, pool)
            task.call_on_fit_task_end(estimator=self, X=rows.X, y=rows.y)
        return student

    def _fit_student(
        self,
        student: BaseStudent,
        rows: TrainingRows,
        soft: FloatArray | None,
        given: Given,
        pool: FloatArray | None,
    ) -> None:
        raise TypeError(f"{type(self).__name__} must define _fit_student.")

    def _with_pool(
        self,
        rows: TrainingRows,
        soft: FloatArray,
        given: Given,
        pool: FloatArray | None,
    ) -> tuple[TrainingRows, FloatArray, FloatArray]:
        """Return rows, soft labels and mixing weights, the unlabelled rows appended.

        A row without a label has no hard term; what is left of its loss is the soft
        term times the mixing weight, so that is its weight; times the mean weight of
        the labelled rows, if it is a synthetic row, as it is made of them. Its most
        probable class stands in for a label where rows are stratified.
        """
        weights = self.mixing_weight_
        mixing = np.broadcast_to(weights, (len(rows.y), *np.shape(weights)))
        if pool is None:
            return rows, soft, mixing
        codes = pool.argmax(axis=1)
        weight = np.ones(len(rows.y)) if rows.weight is None else rows.weight
        added_weight = pool_weight(pool, weights)
        if given.synthetic is not None:
            n_synthetic = _num_samples(given.synthetic)
            added_weight[-n_synthetic:] *= weight[rows.present()].mean()
        together = TrainingRows(
            functools.reduce(concatenate_rows, given.added, rows.X),
            np.concatenate([rows.y, rows.classes[codes]]),
            np.concatenate([rows.codes, codes]),
            rows.classes,
            np.concatenate([weight, added_weight]),
        )
        return (
            together,
            np.concatenate([soft, pool]),
            np.concatenate([mixing, np.ones((len(pool), *np.shape(weights)))]),
        )


def pool_weight(proba: FloatArray, mixing_weight: Any) -> FloatArray:
    r"""Return the weights of rows without labels.

    .. math:: \sum_c a_c \, p_{jc}

    is how much the teacher is listened to where it says what it says of a row. A
    factor of its class alone would push down, rather than leave open, the classes in
    which it is not.

    Parameters
    ----------
    proba : ndarray of shape (n_rows, n_classes)
        Their soft labels p.
    mixing_weight : float or array-like of shape (n_classes,)
        The mixing weights a.

    Returns
    -------
    ndarray of shape (n_rows,)
        `mixing_weight`, where it is one number.
    """
    if np.ndim(mixing_weight) == 0:
        return np.full(len(proba), float(mixing_weight))
    weights: FloatArray = proba @ np.asarray(mixing_weight)
    return weights
