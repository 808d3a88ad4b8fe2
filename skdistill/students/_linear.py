"""LinearStudent: multinomial logistic regression on soft labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, hstack, issparse
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval
from sklearn.utils.extmath import safe_sparse_dot

from skdistill._typing import FloatArray, InputLike
from skdistill.students._base import BaseStudent, Iterations
from skdistill.students._class_weight import CLASS_WEIGHT_CONSTRAINT, weigh_terms
from skdistill.students._columns import check_table
from skdistill.students._problem import Problem, Task
from skdistill.students._tables import TableEncoder

#: Rows predicted at a time, so that float32 inputs are never all copied to float64.
CHUNK_ROWS = 4096


class LinearStudent(BaseStudent):
    r"""Multinomial logistic regression that can learn from soft labels.

    Minimises, over coefficients W and intercepts b with logits
    :math:`z_i = W x_i + b`,

    .. math::

        C \sum_i w_i \, \Big[ -\sum_k p_{ik} \log \mathrm{softmax}(z_i)_k \Big]
        + \tfrac12 \lVert W \rVert_F^2,

    where :math:`p_i` are the soft labels (one-hot labels without them). With W fixed
    the first sum is n times the distilled risk, Eq. (4) of [1]_, for the softmax
    cross-entropy, Eq. (2). The problem is convex and solved to tolerance. Two classes
    share one row of coefficients, the log-odds of ``classes_[1]``. On labels the result
    is that of :class:`sklearn.linear_model.LogisticRegression` with the same `C`.

    Tables may be raw: numbers stay as they are, a missing one becomes the mean of its
    column and an indicator tells, and the levels of a category are zeros and ones.

    Parameters
    ----------
    C : float, default=1.0
        Inverse strength of the L2 penalty, in (0, inf]; ``np.inf`` means no penalty.
    fit_intercept : bool, default=True
        Whether to fit intercepts. They are not penalised.
    tol : float, default=1e-4
        The solver stops when the largest gradient component of the objective divided
        by C and by the sum of the weights is below this.
    max_iter : int, default=1000
        Largest number of solver iterations.
    class_weight : dict, "balanced" or None, default=None
        Weights :math:`v_k` of the classes: factors of :math:`p_{ik}` in the objective,
        so of a label's row the factor of its weight, also where columns are learnt
        (`encoder_`). "balanced" is inversely proportional to the weights of the
        labels' rows. Probabilities are then those
        of a population with its classes so weighted. Pairs that are ranked do not
        depend on it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels.
    encoder_ : object
        Turns a raw table into the numbers that have coefficients:
        ``encoder_.transform(X)``, ``encoder_.get_feature_names_out(names)``.
    coef_ : ndarray of shape (1, n_inputs) or (n_classes, n_inputs)
        Coefficients; of a table of numbers, none of them missing, one a feature.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts.
    n_iter_ : int
        Solver iterations.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had any.

    See Also
    --------
    MLPStudent : A small neural network.
    EstimatorStudent : Any other scikit-learn estimator.

    References
    ----------
    .. [1] Menon, Rawat, Reddi, Kim, Kumar, "A statistical perspective on
           distillation", ICML 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.students import LinearStudent
    >>> X = np.array([[-1.0], [0.0], [1.0]])
    >>> P = np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])
    >>> student = LinearStudent(C=np.inf).fit(X, [0, 0, 1], soft_labels=P)
    >>> student.predict_proba(X).round(2)
    array([[0.9, 0.1],
           [0.5, 0.5],
           [0.1, 0.9]])
    """

    _parameter_constraints: dict[str, Any] = {
        "C": [Interval(Real, 0, np.inf, closed="right")],
        "fit_intercept": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "class_weight": CLASS_WEIGHT_CONSTRAINT,
    }

    def __init__(
        self,
        *,
        C: float = 1.0,
        fit_intercept: bool = True,
        tol: float = 1e-4,
        max_iter: int = 1000,
        class_weight: Any = None,
    ) -> None:
        self.C = C
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    def _check_X(self, X: InputLike, *, reset: bool) -> InputLike:
        has_levels = not reset and len(self.encoder_.categorical_) > 0
        return check_table(
            self, X, reset=reset, accept_sparse=True, has_levels=has_levels
        )

    def _fit_tasks(
        self, tasks: Sequence[Task], n_threads: int = 1
    ) -> list[BaseStudent]:
        """Solve one task after the other, each from the last one's solution."""
        students: list[BaseStudent] = []
        last = None
        for task in tasks:
            student = self._unwatched(task.params)
            if last is not None and last[0] is task.problem.X:
                student._start = last[1]
            student._fit_problem(task.problem)
            student.__dict__.pop("_start", None)
            last = task.problem.X, (student.coef_, student.intercept_)
            students.append(student)
        return students

    def _solve(self, problem: Problem) -> None:
        weight, class_weights = problem.sample_weight, self._class_weights(problem)
        self.encoder_ = TableEncoder(scaled=False)
        self.encoder_.fit(problem.X, problem.row_weights(class_weights))
        inputs, units = self._encoded(problem.X), None
        if inputs is not problem.X:
            n_numeric = len(self.encoder_.numeric_)
            centred = self.fit_intercept and problem.pairs is None
            inputs, units = _in_units(inputs, n_numeric, weight, centred)
        encoded = replace(problem, X=inputs)
        objective: _Objective
        if problem.pairs is None:
            terms, scale = weigh_terms(problem.terms, class_weights, weight)
            encoded = replace(encoded, terms=terms)
            # The scale counts beside the penalty.
            objective = _CrossEntropy(
                encoded, scale * weight, self.C, self.fit_intercept, units
            )
        else:
            # A positive and a negative: their weights are a factor of all pairs.
            objective = _Pairs(encoded, self.C, units)
        # scipy reports the end of an iteration that the next one has to be told of, so
        # one more subtask than iterations is never opened, and none fewer.
        context = self._start_callbacks(problem, max_subtasks=self.max_iter)
        result = self._minimise(objective, problem, context)
        self.coef_, self.intercept_ = objective.unpack(result.x)
        self.n_iter_ = int(result.nit)
        self._end_callbacks(context, problem)

    def _ends_in_one_minimum(self) -> bool:
        return True

    def _takes_pairs(self) -> bool:
        return True

    def _encoded(self, X: InputLike) -> InputLike:
        """Return the numbers that the coefficients are multiplied with."""
        if self.encoder_.keeps(X):
            return X
        if len(self.encoder_.categorical_):
            return self.encoder_.transform_sparse(X)
        return self.encoder_.transform(X)

    def _minimise(self, objective: _Objective, problem: Problem, context: Any) -> Any:
        """Run L-BFGS with scikit-learn's settings for logistic regression."""
        present = {"x": objective.pack(getattr(self, "_start", None))}

        def attributes() -> dict[str, Any]:
            coef, intercept = objective.unpack(present["x"])
            return {"coef_": coef, "intercept_": intercept}

        iterations = Iterations(context, self, problem, attributes, "iteration")

        def after_iteration(x: FloatArray) -> None:
            present["x"] = x
            iterations.begin()
            if iterations.end():
                raise StopIteration

        result = minimize(
            objective,
            present["x"],
            method="L-BFGS-B",
            jac=True,
            callback=after_iteration if hasattr(self, "_skl_callbacks") else None,
            options={
                "maxiter": self.max_iter,
                "maxls": 50,
                "gtol": self.tol,
                "ftol": 64 * np.finfo(float).eps,
            },
        )
        if result.status in (1, 2):  # at max_iter, or no step reduces the loss
            warnings.warn(
                f"LinearStudent did not reach tol={self.tol} within max_iter="
                f"{self.max_iter} iterations ({result.message}). Raise max_iter or "
                "tol, scale the features, or pass them as float64.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return result

    def _logits(self, X: InputLike) -> FloatArray:
        scores = np.empty((X.shape[0], len(self.coef_)))
        X = self._encoded(X)
        for start in range(0, len(scores), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            scores[rows] = safe_sparse_dot(X[rows], self.coef_.T, dense_output=True)
        scores += self.intercept_
        if len(self.classes_) == 2:
            return np.column_stack([np.zeros(len(scores)), scores[:, 0]])
        logits: FloatArray = scores
        return logits


@dataclass(frozen=True)
class _Units:
    """Units in which the solver sees the columns: ``(X - centre) / scale``."""

    centre: FloatArray
    scale: FloatArray


def _in_units(
    X: InputLike, n_numeric: int, weight: FloatArray, centred: bool
) -> tuple[InputLike, _Units]:
    """Bring the numbers of a raw table to a size that suits the solver.

    They may be years beside zeros and ones. The solution stays that of the table as it
    is: coefficients and penalty are in its own units.
    """
    centre, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
    numbers = X[:, :n_numeric]
    numbers = numbers.toarray() if issparse(X) else numbers
    if n_numeric and weight.sum() > 0:
        mean = np.average(numbers, axis=0, weights=weight)
        # Powers of two keep all digits, and let no square overflow.
        deviations = numbers - mean
        _, exponents = np.frexp(np.abs(deviations).max(axis=0))
        squares = np.ldexp(deviations, -exponents) ** 2
        deviation = np.sqrt(np.average(squares, axis=0, weights=weight))
        centre[:n_numeric] = mean if centred else 0.0
        scale[:n_numeric] = np.maximum(1.0, np.ldexp(deviation, exponents))
    numbers = (numbers - centre[:n_numeric]) / scale[:n_numeric]
    units = _Units(centre, scale)
    if issparse(X):
        parts = [csr_matrix(numbers), X[:, n_numeric:]]
        return hstack(parts, format="csr"), units
    return np.hstack([numbers, X[:, n_numeric:]]), units


class _Objective:
    """Penalised objective of a linear model and its gradient.

    Divided by C and by the sum of the weights, so that `tol` means the same for every
    size of data, as in scikit-learn. A subclass defines ``_loss(scores)``: the mean
    loss and its slope in the scores, both of shape (n_outputs, n_samples).
    """

    def __init__(
        self,
        problem: Problem,
        weight: FloatArray,
        C: float,
        fit_intercept: bool,
        units: _Units | None = None,
    ) -> None:
        self.X = problem.X
        self.fit_intercept = fit_intercept
        self.units = units
        self.penalty = 1.0 / (C * weight.sum())
        n_classes = len(problem.classes)
        self.n_outputs = 1 if n_classes == 2 else n_classes
        self.n_columns = self.X.shape[1] + int(fit_intercept)
        self.n_parameters = self.n_outputs * self.n_columns

    def pack(self, start: tuple[FloatArray, FloatArray] | None) -> FloatArray:
        """Return solver parameters: those of a known solution, or zeros."""
        if start is None:
            return np.zeros(self.n_parameters)
        coef, intercept = start
        if self.units is not None:
            intercept = intercept + coef @ self.units.centre
            coef = coef * self.units.scale
        parts = [coef, intercept[:, None]] if self.fit_intercept else [coef]
        packed: FloatArray = np.concatenate(parts, axis=1).ravel()
        return packed

    def unpack(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the coefficients and intercepts of solver parameters (copies)."""
        coef, intercept = self._split(x)
        if self.units is not None:
            coef /= self.units.scale
            intercept -= coef @ self.units.centre
        return coef, intercept

    def _split(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        table = x.reshape(self.n_outputs, self.n_columns).copy()
        if self.fit_intercept:
            return table[:, :-1].copy(), table[:, -1].copy()
        return table, np.zeros(self.n_outputs)

    def __call__(self, x: FloatArray) -> tuple[float, FloatArray]:
        """Return value and gradient."""
        coef, intercept = self._split(x)
        value, slope = self._loss(self._scores(coef) + intercept[:, None])
        gradient = np.empty((self.n_outputs, self.n_columns))
        gradient[:, : coef.shape[1]] = self._back(slope)
        # The penalty is on coefficients in the units of the table.
        scale = 1.0 if self.units is None else self.units.scale
        coef /= scale
        value += 0.5 * self.penalty * float((coef**2).sum())
        gradient[:, : coef.shape[1]] += self.penalty * coef / scale
        if self.fit_intercept:
            gradient[:, -1] = slope.sum(axis=1)
        return value, gradient.ravel()

    # Products are in the type of X: a float32 table is never copied to float64.

    def _scores(self, coef: FloatArray) -> FloatArray:
        """Return scores without intercepts, shape (n_outputs, n_samples)."""
        coef = coef.astype(self.X.dtype, copy=False)
        if issparse(self.X):
            return np.ascontiguousarray((self.X @ coef.T).T)
        return coef @ self.X.T

    def _back(self, slope: FloatArray) -> FloatArray:
        """Return the slopes' part of the gradient, shape (n_outputs, n_features)."""
        slope = slope.astype(self.X.dtype, copy=False)
        if issparse(self.X):
            gradient: FloatArray = (self.X.T @ slope.T).T
            return gradient
        return slope @ self.X

    def _loss(self, scores: FloatArray) -> tuple[float, FloatArray]:
        raise TypeError(f"{type(self).__name__} must define _loss.")


class _CrossEntropy(_Objective):
    """The weighted mean of the soft cross-entropies of a problem."""

    def __init__(
        self,
        problem: Problem,
        weight: FloatArray,
        C: float,
        fit_intercept: bool,
        units: _Units | None = None,
    ) -> None:
        super().__init__(problem, weight, C, fit_intercept, units)
        # Cross-entropy is linear in its targets: weighted once, not in every step.
        # Classes come first: reductions over them then run along the rows.
        share = weight / weight.sum()
        self.terms = [
            (np.ascontiguousarray((targets * share[:, None]).T), temperature)
            for targets, temperature in problem.terms
        ]
        self.masses = [targets.sum(axis=0) for targets, _ in self.terms]

    def _loss(self, scores: FloatArray) -> tuple[float, FloatArray]:
        """Sum the weighted losses of all terms; also their slopes in the scores."""
        one_term = _binary_term if self.n_outputs == 1 else _multinomial_term
        value, slope = 0.0, None
        for (targets, temperature), mass in zip(self.terms, self.masses, strict=True):
            term, term_slope = one_term(targets, mass, scores / temperature)
            term_slope /= temperature
            value += term
            slope = term_slope if slope is None else slope + term_slope
        assert slope is not None
        return value, slope


class _Pairs(_Objective):
    """The risk of a problem over pairs of rows.

    No intercept: a constant added to all scores changes no pair.
    """

    def __init__(self, problem: Problem, C: float, units: _Units | None = None) -> None:
        weight = problem.sample_weight
        super().__init__(problem, weight, C, fit_intercept=False, units=units)
        assert problem.pairs is not None
        self.risk = problem.pairs
        self.positive, self.negative = problem.pair_masses()

    def _loss(self, scores: FloatArray) -> tuple[float, FloatArray]:
        """Return the risk and its slope in the scores."""
        value, slope = self.risk.value_and_slope(
            scores[0].astype(np.float64, copy=False), self.positive, self.negative
        )
        return value, slope[None]


def _binary_term(
    targets: FloatArray, mass: FloatArray, scores: FloatArray
) -> tuple[float, FloatArray]:
    """Cross-entropy of two classes in their log-odds, and its derivative."""
    odds = scores[0]
    value = mass @ np.logaddexp(0.0, odds) - targets[1] @ odds
    return float(value), (mass * expit(odds) - targets[1])[None]


def _multinomial_term(
    targets: FloatArray, mass: FloatArray, scores: FloatArray
) -> tuple[float, FloatArray]:
    """Cross-entropy in the logits, and its gradient; overwrites `scores`."""
    scores -= scores.max(axis=0)
    value = -np.vdot(targets, scores)
    slope = np.exp(scores, out=scores)
    total = slope.sum(axis=0)
    value += mass @ np.log(total)
    slope *= mass / total
    slope -= targets
    return float(value), slope
