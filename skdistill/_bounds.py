"""Bounds of the risk by an objective, with every constant spelled out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from skdistill._arguments import is_scalar_number
from skdistill._intervals import check_level
from skdistill._risks import Loss, loss_rows
from skdistill._typing import FloatArray

#: Smallest sample that Theorem 6 of Maurer and Pontil holds for.
_MIN_ROWS = 16


@dataclass(frozen=True)
class RiskBound:
    """An upper bound of a risk, and the parts that it is the sum of.

    Attributes
    ----------
    objective : float
        Mean loss over the rows.
    variance_term : float
        What the spread of the losses adds.
    range_term : float
        What the largest possible loss adds.
    bias_term : float
        What the error of the teacher adds.
    level : float
        Probability with which the bound holds.

    See Also
    --------
    risk_bound : Makes one.

    Examples
    --------
    >>> from skdistill.diagnostics import RiskBound
    >>> round(RiskBound(0.5, 0.1, 0.02, 0.0, level=0.95).bound, 2)
    0.62
    """

    objective: float
    variance_term: float
    range_term: float
    bias_term: float
    level: float

    @property
    def bound(self) -> float:
        """The sum of the parts: the risk is below it.

        Returns
        -------
        float
            The bound.
        """
        return self.objective + self.variance_term + self.range_term + self.bias_term


def risk_bound(
    target: ArrayLike,
    proba: ArrayLike,
    *,
    loss_bound: float,
    n_hypotheses: int = 1,
    log_covering_number: float | None = None,
    teacher_error: float = 0.0,
    loss: Loss = "log_loss",
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
) -> RiskBound:
    r"""Bound the risk by the objective with labels, true probabilities or soft labels.

    With losses in :math:`[0, B]` and :math:`\delta = 1 - \text{level}`, for all
    students of a finite class :math:`\mathcal F` at once, Corollary 5 of [Maurer2009]_
    gives

    .. math::
        R \le \bar h + \sqrt{\frac{2 V \ln(2 |\mathcal F| / \delta)}{n}} + \frac{7 B
        \ln(2 |\mathcal F| / \delta)}{3 (n - 1)} + \tfrac12 \sqrt K B\, \epsilon

    and, for a class with the covering number :math:`\mathcal N` of its losses, scaled
    to [0, 1], at scale :math:`1/n` on :math:`2n` points, Theorem 6 gives for
    :math:`n \ge 16`

    .. math::
        R \le \bar h + \sqrt{\frac{18 V \ln(10 \mathcal N / \delta)}{n}} + \frac{15 B
        \ln(10 \mathcal N / \delta)}{n - 1} + \tfrac12 \sqrt K B\, \epsilon

    where :math:`\bar h` and :math:`V` are mean and sample variance of the rows' losses
    :math:`h_i = r_i^\top \ell(q_i)` under their targets :math:`r_i`. With labels,
    :math:`r_i = e_{y_i}`, or the true probabilities, :math:`r_i = p^*(x_i)`, the last
    term is zero, and this is Proposition 2 of [Menon2021]_; by Lemma 1 the variance
    with the true probabilities is the smaller one. With a teacher's probabilities it is
    Proposition 4, and :math:`\epsilon \ge \mathrm E \lVert p^t - p^* \rVert_2`.

    Parameters
    ----------
    target : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels, true class probabilities, or a teacher's probabilities. The teacher
        must not have seen these rows.
    proba : array-like of shape (n_samples, n_classes)
        q, of a student of the class. It may have been trained on these rows.
    loss_bound : float
        B, which no loss of a student of the class exceeds at any input; with sample
        weights, no weight times a loss.
    n_hypotheses : int, default=1
        :math:`|\mathcal F|`, students among which this one was chosen; 1 for a student
        fixed beforehand.
    log_covering_number : float, default=None
        :math:`\ln \mathcal N`, for a class that is not finite, such as
        :func:`linear_log_covering_number`. It takes the place of `n_hypotheses`.
    teacher_error : float, default=0.0
        :math:`\epsilon`, for a teacher's probabilities. It has to come from elsewhere:
        labels do not tell it.
    loss : {"log_loss", "brier", "zero_one"} or callable, default="log_loss"
        As in :func:`loss_vectors`.
    labels : array-like of shape (n_classes,), default=None
        The label of each column. None means the sorted values of `target`.
    sample_weight : array-like of shape (n_samples,), default=None
        Importance weights of expectation 1. They are used as they are, not scaled to
        mean 1, and the risk is the expectation of weight times loss.
    level : float, default=0.95
        Probability of the sample with which the bound holds, for all students of the
        class at once.

    Returns
    -------
    bound : RiskBound
        The bound and its parts.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, a loss exceeds `loss_bound`, there
        are too few rows, or a parameter is out of its range.

    References
    ----------
    .. [Maurer2009] Maurer and Pontil, "Empirical Bernstein bounds and sample variance
       penalization", COLT 2009.
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.datasets import make_gaussians
    >>> from skdistill.diagnostics import risk_bound
    >>> _, y, bayes_proba = make_gaussians(2000, random_state=0)
    >>> options = {"loss": "brier", "loss_bound": 2.0, "n_hypotheses": 10}
    >>> of_labels = risk_bound(y, bayes_proba, **options)
    >>> of_bayes = risk_bound(bayes_proba, bayes_proba, **options)
    >>> of_bayes.variance_term < of_labels.variance_term
    True
    """
    level = check_level(level)
    _check_bound_options(loss_bound, n_hypotheses, log_covering_number, teacher_error)
    rows = loss_rows(target, proba, loss=loss, labels=labels, sample_weight=None)
    values = rows.values
    if sample_weight is not None:
        values = values * _importance(sample_weight, values)
    _check_values(values, loss_bound, covered=log_covering_number is not None)
    n, variance = len(values), float(values.var(ddof=1))
    if log_covering_number is None:
        log_term = np.log(2 * n_hypotheses / (1 - level))
        factors = 2.0, 7.0 / 3.0
    else:
        log_term = np.log(10 / (1 - level)) + log_covering_number
        factors = 18.0, 15.0
    return RiskBound(
        float(values.mean()),
        float(np.sqrt(factors[0] * variance * log_term / n)),
        float(factors[1] * loss_bound * log_term / (n - 1)),
        float(0.5 * np.sqrt(rows.targets.shape[1]) * loss_bound * teacher_error),
        level,
    )


def _check_bound_options(
    loss_bound: float,
    n_hypotheses: int,
    log_covering_number: float | None,
    teacher_error: float,
) -> None:
    if not is_scalar_number(loss_bound) or not 0 < loss_bound < np.inf:
        raise ValueError(f"loss_bound={loss_bound!r} must be positive and finite.")
    if not isinstance(n_hypotheses, (int, np.integer)) or n_hypotheses < 1:
        raise ValueError(f"n_hypotheses={n_hypotheses!r} must be an integer above 0.")
    if log_covering_number is not None:
        number = is_scalar_number(log_covering_number)
        if not number or not 0 <= log_covering_number < np.inf:
            raise ValueError(
                f"log_covering_number={log_covering_number!r} must be non-negative and "
                "finite."
            )
        if n_hypotheses != 1:
            raise ValueError(
                "n_hypotheses and log_covering_number each describe the class of "
                f"students: pass one; got {n_hypotheses!r} and {log_covering_number!r}."
            )
    number = is_scalar_number(teacher_error)
    if not number or not 0 <= teacher_error <= np.sqrt(2):
        raise ValueError(
            f"teacher_error={teacher_error!r} must be in [0, sqrt(2)], the distances "
            "between probabilities."
        )


def _importance(sample_weight: ArrayLike, values: FloatArray) -> FloatArray:
    weight: FloatArray = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != np.shape(values) or not (weight >= 0).all():
        raise ValueError(
            f"sample_weight must be {np.shape(values)[0]} non-negative numbers, got "
            f"shape {weight.shape}."
        )
    return weight


def _check_values(values: FloatArray, loss_bound: float, *, covered: bool) -> None:
    n, largest = np.shape(values)[0], float(np.max(values))
    least = _MIN_ROWS if covered else 2
    if n < least:
        raise ValueError(f"The bound needs {least} rows at least, got {n}.")
    if largest > loss_bound or np.min(values) < 0:
        raise ValueError(
            f"The losses must be between 0 and loss_bound={loss_bound!r}, but they "
            f"reach from {float(np.min(values)):.6g} to {largest:.6g}."
        )


def linear_loss_bound(coef_norm: float, input_norm: float, n_classes: int) -> float:
    r"""Largest log-loss of a linear student.

    .. math::
        B = \ln K + \sqrt2\, \beta \rho

    for logits :math:`W x` with :math:`\lVert W \rVert_F \le \beta` and :math:`\lVert x
    \rVert_2 \le \rho`: the log-loss is :math:`\ln K` at zero logits and
    :math:`\sqrt2`-Lipschitz in them.

    Parameters
    ----------
    coef_norm : float
        :math:`\beta`, of coefficients and intercepts together.
    input_norm : float
        :math:`\rho`, with a constant feature 1 for the intercepts.
    n_classes : int
        K.

    Returns
    -------
    bound : float
        B.

    Raises
    ------
    ValueError
        If a norm is not positive, or there are fewer than two classes.

    Examples
    --------
    >>> from skdistill.diagnostics import linear_loss_bound
    >>> round(linear_loss_bound(1.0, 2.0, 3), 2)
    3.93
    """
    _check_linear(coef_norm, input_norm, n_classes)
    return float(np.log(n_classes) + np.sqrt(2) * coef_norm * input_norm)


def linear_log_covering_number(
    n_samples: int,
    n_features: int,
    n_classes: int,
    *,
    coef_norm: float,
    input_norm: float,
) -> float:
    r"""Logarithm of a covering number of the log-losses of linear students.

    .. math::
        \ln \mathcal N_\infty(1/n, \mathcal H, 2n) \le K d \,\ln\Bigl(1 +
        \frac{2 \sqrt2\, \beta \rho\, n}{B}\Bigr)

    for the class :math:`\mathcal H` of :math:`h(x) = r(x)^\top \ell(W x) / B` with any
    targets :math:`r`, where :math:`\lVert W \rVert_F \le \beta`, :math:`\lVert x
    \rVert_2 \le \rho` and :math:`B` is :func:`linear_loss_bound`. It comes from an
    :math:`\eta`-net of the ball of matrices, which needs :math:`(1 + 2 \beta /
    \eta)^{K d}` points at most; the log-loss is :math:`\sqrt2`-Lipschitz in the logits,
    so :math:`\eta = B / (\sqrt2\, \rho\, n)` makes each :math:`h` differ from the
    nearest in the net by :math:`1/n` at most, at every input.

    Parameters
    ----------
    n_samples : int
        n.
    n_features : int
        d, with the constant feature for the intercepts, if there are any.
    n_classes : int
        K.
    coef_norm : float
        :math:`\beta`. It must be fixed before the data is seen.
    input_norm : float
        :math:`\rho`.

    Returns
    -------
    log_number : float
        For `log_covering_number` of :func:`risk_bound`.

    Raises
    ------
    ValueError
        If a size or a norm is not positive, or there are fewer than two classes.

    Examples
    --------
    >>> from skdistill.diagnostics import linear_log_covering_number
    >>> round(linear_log_covering_number(
    ...     1000, 11, 2, coef_norm=1.0, input_norm=2.0), 1)
    162.4
    """
    for name, value in (("n_samples", n_samples), ("n_features", n_features)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name}={value!r} must be an integer above 0.")
    loss_bound = linear_loss_bound(coef_norm, input_norm, n_classes)
    points = 1 + 2 * np.sqrt(2) * coef_norm * input_norm * n_samples / loss_bound
    return float(n_classes * n_features * np.log(points))


def _check_linear(coef_norm: float, input_norm: float, n_classes: int) -> None:
    for name, value in (("coef_norm", coef_norm), ("input_norm", input_norm)):
        if not is_scalar_number(value) or not 0 < value < np.inf:
            raise ValueError(f"{name}={value!r} must be positive and finite.")
    if not isinstance(n_classes, (int, np.integer)) or n_classes < 2:
        raise ValueError(f"n_classes={n_classes!r} must be an integer of at least 2.")
