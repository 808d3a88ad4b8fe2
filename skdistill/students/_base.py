"""What all students share: fitting to labels and soft labels, predicting classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted, validate_data

from skdistill._bipartite import PairRisk
from skdistill._typing import FloatArray, InputLike
from skdistill._validation import (
    check_labels,
    check_soft_labels,
    check_weights,
    encode_labels,
    keep_fitted_on_failure,
)
from skdistill.students._class_weight import class_weights
from skdistill.students._columns import student_error
from skdistill.students._problem import (
    Problem,
    Task,
    Terms,
    label_terms,
    objective_terms,
)


class Iterations:
    """Tells scikit-learn's callbacks about the iterations of a fit.

    Parameters
    ----------
    context : CallbackContext
        Context of the fit.
    estimator : estimator
        The estimator being fitted.
    problem : Problem
        What it is fitted on.
    attributes : callable
        Returns the fitted attributes as if the fit had stopped now.
    task_name : str
        Name of an iteration.
    """

    def __init__(
        self,
        context: Any,
        estimator: BaseStudent,
        problem: Problem,
        attributes: Callable[[], dict[str, Any]],
        task_name: str,
    ) -> None:
        self._context = context
        self._estimator = estimator
        self._data = {
            "X": problem.X,
            "y": problem.y,
            "metadata": {"sample_weight": problem.sample_weight},
        }
        self._attributes = attributes
        self._task_name = task_name
        self._running: Any = None

    def begin(self) -> None:
        """Announce that an iteration begins."""
        self._running = self._context.subcontext(task_name=self._task_name)
        self._running.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def end(self) -> bool:
        """Announce that it has ended; return whether a callback asks to stop."""
        return bool(
            self._running.call_on_fit_task_end(
                estimator=self._estimator,
                reconstruction_attributes=self._attributes,
                **self._data,
            )
        )


class BaseStudent(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """Base of all students; a subclass says how to fit and how to score classes.

    Subclasses implement ``_solve(problem)``, which sets the fitted attributes, and
    ``_logits(X)``, which returns an array of shape (n_samples, n_classes).
    """

    _doc_link_module = "skdistill"

    #: False where the soft labels are a teacher's that takes no missing values.
    _takes_missing = True

    #: A parameter of most students.
    class_weight: Any = None

    @keep_fitted_on_failure
    # Not skipped: what EstimatorStudent fits has parameters from the user.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: InputLike,
        y: Any,
        sample_weight: Any = None,
        *,
        soft_labels: Any = None,
    ) -> BaseStudent:
        """Fit the student to labels or to soft labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.
        y : array-like of shape (n_samples,)
            Class labels. With `soft_labels` they still name the classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative row weights. Rows of weight zero are as if absent.
        soft_labels : array-like of shape (n_samples, n_classes), default=None
            Class probabilities to learn from instead of the labels, columns in the
            order of the sorted classes; rows sum to 1 within 1e-3. A data frame may
            name its columns after the classes instead.

        Returns
        -------
        self : object
            The fitted student.

        Raises
        ------
        ValueError
            If the data, the weights or the soft labels are unusable; the message names
            the argument.
        """
        mixing_weight = 0.0 if soft_labels is None else 1.0
        return self._fit(X, y, sample_weight, soft_labels, mixing_weight, 1.0)

    @keep_fitted_on_failure
    @_fit_context(prefer_skip_nested_validation=False)
    def _fit_distillation(
        self,
        X: InputLike,
        y: Any,
        sample_weight: Any,
        soft_labels: Any,
        mixing_weight: float | FloatArray,
        student_temperature: float,
        class_weight: FloatArray | None = None,
        n_labelled: int | None = None,
    ) -> BaseStudent:
        """Fit what `fit` cannot: two terms, weighted classes, rows without labels."""
        return self._fit(
            X,
            y,
            sample_weight,
            soft_labels,
            mixing_weight,
            student_temperature,
            class_weight=class_weight,
            n_labelled=n_labelled,
        )

    @keep_fitted_on_failure
    @_fit_context(prefer_skip_nested_validation=False)
    def _fit_ranking(
        self,
        X: InputLike,
        y: Any,
        sample_weight: Any,
        soft_labels: FloatArray,
        pairs: PairRisk,
    ) -> BaseStudent:
        """Fit the order of pairs, where ``_takes_pairs``; two classes."""
        return self._fit(X, y, sample_weight, soft_labels, 1.0, 1.0, pairs)

    def _fit(
        self,
        X: InputLike,
        y: Any,
        sample_weight: Any,
        soft_labels: Any,
        mixing_weight: float | FloatArray,
        student_temperature: float,
        pairs: PairRisk | None = None,
        class_weight: FloatArray | None = None,
        n_labelled: int | None = None,
    ) -> BaseStudent:
        self._before_fit()
        X = self._check_X(X, reset=True)
        y = check_labels(y, X)
        classes, codes = encode_labels(y)
        weight = check_weights(sample_weight, X, codes)
        soft = None
        if soft_labels is not None:
            soft = check_soft_labels(
                soft_labels, n_samples=len(y), classes=classes, name="soft_labels"
            )
        mixing = np.asarray(mixing_weight, dtype=float)
        if mixing.ndim == 0:
            mixing = np.broadcast_to(mixing, codes.shape)
        present = weight > 0
        if not present.all():
            rows = np.flatnonzero(present)
            X, y, codes = _safe_indexing(X, rows), y[rows], codes[rows]
            weight, mixing = weight[rows], mixing[rows]
            soft = None if soft is None else soft[rows]
            n_labelled = None if n_labelled is None else int((rows < n_labelled).sum())
        if soft is None:
            terms = label_terms(codes, len(classes))
        else:
            terms = objective_terms(codes, soft, mixing, student_temperature)
        self.classes_ = classes
        problem = Problem(X, y, codes, classes, weight, terms, pairs)
        self._solve(replace(problem, class_weight=class_weight, n_labelled=n_labelled))
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def _fit_problem(self, problem: Problem) -> BaseStudent:
        """Fit to a problem that another student has checked, all but its X."""
        self._before_fit()
        X = self._check_X(problem.X, reset=True)
        self.classes_ = problem.classes
        self._solve(replace(problem, X=X))
        return self

    def _own_class_weight(self) -> Any:
        """Return how the student is told to weigh classes."""
        return self.class_weight

    def _without_class_weight(self) -> BaseStudent:
        """Return a copy that is not told to weigh classes."""
        student = copy(self)
        student.class_weight = None
        return student

    def _times_own_class_weights(
        self,
        weights: FloatArray | None,
        classes: NDArray[Any],
        y: NDArray[Any],
        sample_weight: FloatArray,
    ) -> FloatArray | None:
        """Return weights of classes times the student's own for these labels."""
        own = class_weights(self._own_class_weight(), classes, y, sample_weight)
        given = [factors for factors in (weights, own) if factors is not None]
        return np.prod(given, axis=0) if given else None

    def _class_weights(self, problem: Problem) -> FloatArray | None:
        """Return the factors of the classes: the problem's times the student's own."""
        return self._times_own_class_weights(
            problem.class_weight, problem.classes, *problem.labels()
        )

    def _fit_many(
        self, problem: Problem, objectives: Sequence[Terms], n_threads: int = 1
    ) -> list[BaseStudent]:
        """Return a fitted clone for each objective on the same rows."""
        tasks = [Task(replace(problem, terms=terms)) for terms in objectives]
        return self._fit_tasks(tasks, n_threads)

    def _fit_tasks(
        self, tasks: Sequence[Task], n_threads: int = 1
    ) -> list[BaseStudent]:
        """Return a fitted clone for each task.

        Here one after the other; students that can share work override this.
        """
        return [
            self._unwatched(task.params)._fit_problem(task.problem) for task in tasks
        ]

    def _with(self, params: dict[str, Any]) -> BaseStudent:
        """Return a clone with some parameters changed."""
        student: BaseStudent = clone(self)
        student._takes_missing = self._takes_missing
        return student.set_params(**clone(params, safe=False))

    def _unwatched(self, params: dict[str, Any]) -> BaseStudent:
        """Return a clone, without its callbacks, with some parameters changed.

        They are of the student that is kept; one that stops it early must not stop
        those that it is chosen by.
        """
        student = self._with(params)
        for part in (student, *student.get_params(deep=True).values()):
            if hasattr(part, "_skl_callbacks"):
                del part._skl_callbacks
        return student

    def _stops_by_folds(self, n_rows: int) -> bool:
        """Whether tasks may say which rows it holds out, and problems its epochs."""
        return False

    def _joins_folds(self) -> bool:
        """Whether tasks of several folds are best fitted by one call."""
        return False

    def _learns_from_its_like(self) -> bool:
        """Whether it gains by what other runs of its training say of its rows.

        Students whose training has little chance in it have little to tell each other.
        """
        return False

    def _weighs_classes(self) -> bool:
        """Whether the student has class weights of its own."""
        return self.class_weight is not None

    def _ends_in_one_minimum(self) -> bool:
        """Whether training finds what no other run of it would find differently."""
        return False

    def _check_task(self, X: InputLike, n_classes: int) -> None:
        """Check, before a teacher is fitted, that the student can take the data."""
        self._check_X(X, reset=True)

    def _before_fit(self) -> None:
        """Check what the declared parameter constraints cannot say."""

    def _takes_student_temperature(self) -> bool:
        """Whether the soft term may use a student temperature other than 1."""
        return True

    def _takes_pairs(self) -> bool:
        """Whether ``_solve`` minimises the problem's risk over pairs if it has one."""
        return False

    def _check_X(self, X: InputLike, *, reset: bool) -> InputLike:
        """Check inputs; here: finite numbers in a dense array."""
        try:
            return validate_data(
                self, X, reset=reset, dtype=[np.float64, np.float32], order="C"
            )
        except (TypeError, ValueError) as error:
            told = student_error(type(self).__name__, X, error)
            if told is None:
                raise
            raise told from error

    def _solve(self, problem: Problem) -> None:
        raise TypeError(f"{type(self).__name__} must define _solve.")

    def _logits(self, X: InputLike) -> FloatArray:
        raise TypeError(f"{type(self).__name__} must define _logits.")

    def _checked_logits(self, X: InputLike) -> FloatArray:
        check_is_fitted(self)
        return self._logits(self._check_X(X, reset=False))

    def decision_function(self, X: InputLike) -> FloatArray:
        """Return the logits of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Logits; for two classes the log-odds of ``classes_[1]``.
        """
        logits = self._checked_logits(X)
        if logits.shape[1] == 2:
            return logits[:, 1] - logits[:, 0]
        return logits

    def predict_proba(self, X: InputLike) -> FloatArray:
        """Return class probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, columns in the order of ``classes_``; rows sum to 1.
        """
        # As scipy.special.softmax, in place: it is most of the time of a single row.
        proba = self._checked_logits(X)
        proba -= proba.max(axis=1, keepdims=True)
        np.exp(proba, out=proba)
        proba /= proba.sum(axis=1, keepdims=True)
        return proba

    def predict_log_proba(self, X: InputLike) -> FloatArray:
        """Return log-probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Natural logarithms, columns in the order of ``classes_``.
        """
        logits = self._checked_logits(X)
        return log_softmax(logits, axis=1)

    def predict(self, X: InputLike) -> NDArray[Any]:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        logits = self._checked_logits(X)
        labels: NDArray[Any] = self.classes_[logits.argmax(axis=1)]
        return labels

    def _start_callbacks(self, problem: Problem, max_subtasks: int | None) -> Any:
        """Open the callback context of this fit."""
        context = self._init_callback_context(max_subtasks=max_subtasks)
        context.call_on_fit_task_begin(
            estimator=self,
            X=problem.X,
            y=problem.y,
            metadata={"sample_weight": problem.sample_weight},
        )
        return context

    def _end_callbacks(self, context: Any, problem: Problem) -> None:
        """Close the callback context once all fitted attributes are set."""
        context.call_on_fit_task_end(
            estimator=self,
            X=problem.X,
            y=problem.y,
            metadata={"sample_weight": problem.sample_weight},
            reconstruction_attributes={},
        )
