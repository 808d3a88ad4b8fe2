"""EstimatorStudent: any scikit-learn estimator as a student."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, get_tags, indexable
from sklearn.utils._metadata_requests import _routing_enabled
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from skdistill._arguments import naming
from skdistill._rows import unshared
from skdistill._typing import Estimator, FloatArray, InputLike, IntArray
from skdistill._validation import check_not_empty
from skdistill.students._base import BaseStudent
from skdistill.students._class_weight import class_weights, weigh_terms
from skdistill.students._columns import student_error
from skdistill.students._copies import keep_copies_together, params_named
from skdistill.students._problem import Problem

#: Targets whose sums differ from 1 by no more have the sum 1, but for rounding.
SUM_TOLERANCE = 1e-9


class EstimatorStudent(BaseStudent):
    r"""Any scikit-learn classifier, regressor or pipeline as a student.

    A classifier is fitted to every row once per class, with the class's probability as
    its weight. Any loss averaged over the rows is linear in these weights,

    .. math::

        \sum_i w_i \sum_k p_{ik} \, \ell(k, f(x_i)),

    so the fit minimises the distilled risk, Eq. (4) of [1]_, for the classifier's own
    loss, exactly but for probabilities below `min_proba`. A regressor is fitted to the
    probabilities themselves; its predictions are clipped at 0 and normalised. Of a
    pipeline the last step is the student; the steps before it are fitted once, to X and
    y, and see each row once.

    A classifier's ``class_weight="balanced"`` is of the labels, not of the weighted
    rows. Where another estimator has it within, and for "balanced_subsample", soft
    labels are refused; dicts of weights are taken everywhere.

    Parameters
    ----------
    estimator : estimator
        A classifier with `predict_proba` whose `fit` takes `sample_weight`, a
        regressor, or a Pipeline ending in one of these or in a student of this package.
        It is cloned.
    min_proba : float, default=1e-6
        Probabilities below this are left out, in [0, 1). Only classifiers use it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels.
    estimator_ : estimator
        The fitted estimator.
    n_features_in_ : int
        Number of features seen in `fit`, if X has any.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had any.

    References
    ----------
    .. [1] Menon, Rawat, Reddi, Kim, Kumar, "A statistical perspective on
           distillation", ICML 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skdistill.students import EstimatorStudent
    >>> X = np.array([[0.0], [0.0], [1.0]])
    >>> P = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
    >>> tree = EstimatorStudent(DecisionTreeClassifier())
    >>> tree.fit(X, [0, 0, 1], soft_labels=P).predict_proba([[0.0], [1.0]]).round(2)
    array([[0.8, 0.2],
           [0.2, 0.8]])
    """

    _parameter_constraints: dict[str, Any] = {
        "estimator": [HasMethods(["fit"])],
        "min_proba": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(self, estimator: Estimator, *, min_proba: float = 1e-6) -> None:
        self.estimator = estimator
        self.min_proba = min_proba

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags

    def _takes_student_temperature(self) -> bool:
        last = _last_step(self.estimator)
        return isinstance(last, BaseStudent) and last._takes_student_temperature()

    def _weighs_classes(self) -> bool:
        within = params_named(_last_step(self.estimator), "class_weight")
        return any(value is not None for value in within.values())

    def _own_class_weight(self) -> Any:
        last = _last_step(self.estimator)
        value = last.get_params(deep=False).get("class_weight")
        # Another name is refused where there are soft labels.
        return value if value == "balanced" or isinstance(value, dict) else None

    def _without_class_weight(self) -> BaseStudent:
        student = copy(self)
        if self._own_class_weight() is not None:
            student.estimator = clone(self.estimator)
            _last_step(student.estimator).set_params(class_weight=None)
        return student

    def _ends_in_one_minimum(self) -> bool:
        last = _last_step(self.estimator)
        if isinstance(last, BaseStudent):
            return last._ends_in_one_minimum()
        # LinearStudent's objective. A subclass, LogisticRegressionCV, chooses by folds.
        return type(last) is LogisticRegression

    def _before_fit(self) -> None:
        _check_estimator(_last_step(self.estimator))

    def _check_X(self, X: InputLike, *, reset: bool) -> InputLike:
        # The estimator checks and converts X itself, as it needs it.
        with naming("X"):
            check_not_empty(X)
            validate_data(self, X, reset=reset, skip_check_array=True)
            (X,) = indexable(X)
        return X

    def _takes_pairs(self) -> bool:
        last = _last_step(self.estimator)
        return isinstance(last, BaseStudent) and last._takes_pairs()

    def _solve(self, problem: Problem) -> None:
        context = self._start_callbacks(problem, max_subtasks=0)
        try:
            self.estimator_ = self._fitted(problem)
        except (TypeError, ValueError) as error:
            told = student_error(type(self.estimator).__name__, problem.X, error)
            if told is None:
                raise
            raise told from error
        self._end_callbacks(context, problem)

    def _fitted(self, problem: Problem) -> Estimator:
        """Return a fitted clone of the estimator."""
        estimator = clone(self.estimator)
        X = unshared(problem.X, estimator)
        # Asked once: single rows are predicted in little more time than it takes.
        self._in_place = X is not problem.X
        problem = replace(problem, X=X)
        if isinstance(estimator, Pipeline):
            return _fit_pipeline(estimator, problem, self.min_proba)
        if isinstance(estimator, BaseStudent):
            return estimator._fit_problem(problem)
        if is_regressor(estimator):
            return _fit_regressor(estimator, *_as_distributions(problem))
        return _fit_classifier(estimator, problem, self.min_proba)

    def predict_proba(self, X: InputLike) -> FloatArray:
        """Return class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, columns in the order of ``classes_``; rows sum to 1.
        """
        check_is_fitted(self)
        if self._in_place:
            X = unshared(X, self.estimator_)
        if is_regressor(self.estimator_):
            return _regressed_proba(self.estimator_.predict(X), len(self.classes_))
        given = self.estimator_.predict_proba(X)
        proba = np.zeros((len(given), len(self.classes_)))
        # A class without a row above min_proba is unknown to the estimator.
        proba[:, np.searchsorted(self.classes_, self.estimator_.classes_)] = given
        return proba

    def predict_log_proba(self, X: InputLike) -> FloatArray:
        """Return log-probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Natural logarithms; -inf where a probability is 0.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _checked_logits(self, X: InputLike) -> FloatArray:
        check_is_fitted(self)
        if isinstance(_last_step(self.estimator_), BaseStudent):
            # Its own logits: probabilities of 0 and 1 would hide the order of rows.
            if self._in_place:
                X = unshared(X, self.estimator_)
            scores: FloatArray = self.estimator_.decision_function(X)
            if scores.ndim == 2:
                return scores
            return np.column_stack([np.zeros(len(scores)), scores])
        # Finite logits, so that trees' zeros can be ranked and calibrated.
        proba = self.predict_proba(X)
        return np.log(np.clip(proba, np.finfo(proba.dtype).tiny, None))


def is_predictor(estimator: Any) -> bool:
    """Whether something is a scikit-learn classifier or regressor.

    Parameters
    ----------
    estimator : object
        Anything; what has no tags, as text and numbers, is neither.

    Returns
    -------
    bool
        True for both.
    """
    if not hasattr(estimator, "__sklearn_tags__"):
        return False
    return is_classifier(estimator) or is_regressor(estimator)


def _last_step(estimator: Estimator) -> Estimator:
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def _check_estimator(estimator: Estimator) -> None:
    """Raise unless the estimator can learn from soft labels."""
    name = type(estimator).__name__
    if isinstance(estimator, BaseStudent):
        return
    if not is_predictor(estimator):
        raise TypeError(
            "A student must be a classifier, a regressor, a Pipeline ending in one, or "
            f"a student of skdistill.students; got {name}."
        )
    if isinstance(estimator, FrozenEstimator):
        raise TypeError(
            "A student is trained, which a FrozenEstimator is not. Pass the estimator "
            f"within, {type(estimator.estimator).__name__}, by itself."
        )
    if is_regressor(estimator):
        return
    if not has_fit_parameter(estimator, "sample_weight"):
        raise TypeError(
            f"A classifier learns soft labels as weighted rows, but the fit of {name} "
            "does not take sample_weight. Use a classifier that does, or a regressor."
        )
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"{name} has no predict_proba, so as a student it would have no "
            "probabilities. Wrap it in CalibratedClassifierCV, or use another student."
        )


def _as_distributions(problem: Problem) -> tuple[Problem, FloatArray]:
    """Return the targets as rows that sum to 1, what they summed to in the weights."""
    weight = problem.sample_weight
    ((targets, _),), scale = weigh_terms(problem.terms, problem.class_weight, weight)
    # The scale counts beside penalties.
    weight = weight * scale
    total = targets.sum(axis=1)
    if np.abs(total - 1.0).max() <= SUM_TOLERANCE:
        return replace(problem, sample_weight=weight), targets
    rows = np.flatnonzero(total > 0)
    present = replace(
        problem,
        X=_safe_indexing(problem.X, rows),
        y=problem.y[rows],
        codes=problem.codes[rows],
        sample_weight=(weight * total)[rows],
    )
    return present, targets[rows] / total[rows, None]


def _fit_classifier(
    estimator: Estimator, problem: Problem, min_proba: float
) -> Estimator:
    """Fit to each row once per class, weighted by the class's probability."""
    present, targets = _as_distributions(problem)
    largest = targets.max(axis=1, keepdims=True)
    rows, columns = np.nonzero((targets > min_proba) | (targets == largest))
    weight = present.sample_weight[rows] * targets[rows, columns]
    if problem.class_weight is not None or not _are_labels(columns, problem):
        weight = weight * _counted_weights(estimator, problem)[columns]
    X = present.X
    if not np.array_equal(rows, np.arange(len(targets))):
        X = _safe_indexing(X, rows)
        keep_copies_together(estimator, present, rows)
    return estimator.fit(X, problem.classes[columns], sample_weight=weight)


def _are_labels(columns: IntArray, problem: Problem) -> bool:
    """Whether classes are those of the rows, each with a label of its own."""
    all_labelled = len(problem.labels()[0]) == len(problem.codes)
    return all_labelled and np.array_equal(columns, problem.codes)


def _counted_weights(estimator: Estimator, problem: Problem) -> FloatArray:
    """Return the factors of the classes that class_weight="balanced" asks for.

    The estimator would count copies, of which each class has as many.

    Parameters
    ----------
    estimator : estimator
        Its parameter `class_weight`, if it is "balanced", is set to None.
    problem : Problem
        Has the labels, which are counted.

    Returns
    -------
    ndarray of shape (n_classes,)
        Ones, if there is nothing to balance or a dict that the estimator heeds itself.

    Raises
    ------
    ValueError
        If classes are counted deeper within, or otherwise.
    """
    factors: FloatArray = np.ones(len(problem.classes))
    for name, value in params_named(estimator, "class_weight").items():
        if not isinstance(value, str):
            continue
        if (name, value) != ("class_weight", "balanced"):
            raise ValueError(
                f"student: {name}={value!r} of {type(estimator).__name__} would count "
                "copies of rows, as soft labels enter a classifier as weighted copies. "
                f"Set {name} to a dict of weights, or use class_weight='balanced' of "
                "the student itself or of DistillationClassifier."
            )
        weights = class_weights(value, problem.classes, *problem.labels())
        assert weights is not None
        factors = weights
        estimator.set_params(class_weight=None)
    return factors


def _fit_regressor(
    estimator: Estimator, problem: Problem, targets: FloatArray
) -> Estimator:
    """Fit to the probabilities; for two classes to those of the second."""
    kwargs = {}
    weight = problem.sample_weight
    if has_fit_parameter(estimator, "sample_weight"):
        # Equal weights count, too, beside a penalty.
        if (weight != 1.0).any():
            kwargs["sample_weight"] = weight
    elif weight.min() != weight.max():
        raise ValueError(
            f"The fit of {type(estimator).__name__} does not take sample_weight, "
            "but the rows do not weigh the same: sample_weight, class_weight or a "
            "mixing weight for each class was passed, or X_unlabeled, whose rows "
            "have the mixing weight as theirs."
        )
    if targets.shape[1] == 2:
        return estimator.fit(problem.X, targets[:, 1], **kwargs)
    if not get_tags(estimator).target_tags.multi_output:
        if kwargs and _routing_enabled():
            estimator.set_fit_request(sample_weight=True)
        estimator = MultiOutputRegressor(estimator)
    return estimator.fit(problem.X, targets, **kwargs)


def _regressed_proba(prediction: FloatArray, n_classes: int) -> FloatArray:
    """Turn a regressor's predictions into probabilities."""
    prediction = np.asarray(prediction, dtype=np.float64)
    if n_classes == 2:
        positive = np.clip(prediction.reshape(-1), 0.0, 1.0)
        return np.column_stack([1.0 - positive, positive])
    positive = np.clip(prediction, 0.0, None)
    total = positive.sum(axis=1, keepdims=True)
    uniform = np.full_like(positive, 1.0 / n_classes)
    return np.where(total > 0, positive / np.where(total > 0, total, 1.0), uniform)


def _fit_pipeline(pipeline: Pipeline, problem: Problem, min_proba: float) -> Pipeline:
    """Fit the steps to X and y, and the last one to the soft labels."""
    *head, (name, last) = pipeline.steps
    X = problem.X
    if head:
        # The pipeline caches all steps but its last, and fits copies if it does.
        pipeline.steps = [*head, (name, "passthrough")]
        X = pipeline.fit_transform(X, problem.y)
        *head, _ = pipeline.steps
    if not isinstance(last, BaseStudent):
        last = EstimatorStudent(last, min_proba=min_proba)
    last._fit_problem(replace(problem, X=X))
    pipeline.steps = [*head, (name, last)]
    return pipeline
