"""Risks of probabilities under labels and soft labels, and their variances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array

from skdistill._intervals import (
    ConfidenceInterval,
    check_level,
    mean_interval,
    normalised_weight,
    positive_mean_interval,
    skewed_mean_interval,
)
from skdistill._typing import FloatArray
from skdistill._validation import check_mean_weights
from skdistill.metrics import (
    _check_proba,
    _check_same_shape,
    _targets,
)

#: A name, or a function from probabilities to losses, one for each row and class.
Loss: TypeAlias = str | Callable[[FloatArray], ArrayLike]


def loss_vectors(proba: ArrayLike, loss: Loss = "log_loss") -> FloatArray:
    r"""Loss that each class would cost each row.

    .. math::
        \ell(q) = \bigl(\ell(1, q), \ldots, \ell(K, q)\bigr)

    the loss vector of [Menon2021]_, for probabilities :math:`q`.

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_classes)
        q. Rows sum to 1.
    loss : {"log_loss", "brier", "zero_one"} or callable, default="log_loss"
        :math:`-\log q_k`, where probabilities below the machine epsilon are raised to
        it; :math:`\sum_j (q_j - e_{kj})^2`; 1 where k is not the most probable class,
        and 0 where it is. A function gets `proba` and returns the losses.

    Returns
    -------
    losses : ndarray of shape (n_samples, n_classes)
        Loss of each row if its label were that of the column, float64.

    Raises
    ------
    ValueError
        If rows are not probabilities, the loss is unknown, or a function returns
        losses that are not finite or of another shape.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.diagnostics import loss_vectors
    >>> loss_vectors([[0.9, 0.1]], "brier").round(2)
    array([[0.02, 1.62]])
    """
    matrix = _check_proba(proba, "proba")
    eps = np.finfo(matrix.dtype).eps
    matrix = matrix.astype(np.float64)
    if callable(loss):
        losses: Any = check_array(
            loss(matrix), dtype=np.float64, input_name="what loss returns"
        )
        _check_same_shape(losses, "what loss returns", matrix, "proba")
        return losses
    loss = loss if isinstance(loss, str) else repr(loss)
    if loss == "log_loss":
        return -np.log(np.maximum(matrix, eps))
    if loss == "brier":
        return 1.0 - 2.0 * matrix + np.square(matrix).sum(axis=1, keepdims=True)
    if loss == "zero_one":
        return 1.0 - np.eye(matrix.shape[1])[matrix.argmax(axis=1)]
    raise ValueError(
        f"loss={loss!r} must be 'log_loss', 'brier', 'zero_one' or a function of the "
        "probabilities."
    )


@dataclass(frozen=True)
class LossRows:
    """Targets and losses of the rows with a positive weight.

    Attributes
    ----------
    targets : ndarray of shape (n_samples, n_classes)
        One-hot labels or soft labels.
    losses : ndarray of shape (n_samples, n_classes)
        Loss of each class.
    weight : ndarray of shape (n_samples,)
        Positive weights.
    """

    targets: FloatArray
    losses: FloatArray
    weight: FloatArray

    @property
    def values(self) -> FloatArray:
        """Loss of each row: the expectation under its target.

        Returns
        -------
        ndarray of shape (n_samples,)
            Losses.
        """
        return (self.targets * self.losses).sum(axis=1)


def loss_rows(
    target: ArrayLike,
    proba: ArrayLike,
    *,
    loss: Loss,
    labels: ArrayLike | None,
    sample_weight: ArrayLike | None,
    name: str = "y_true",
) -> LossRows:
    """Check what a risk is made of.

    Parameters
    ----------
    target : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels or soft labels.
    proba : array-like of shape (n_samples, n_classes)
        Probabilities that are judged.
    loss : str or callable
        As in :func:`loss_vectors`.
    labels : array-like of shape (n_classes,) or None
        The label of each column.
    sample_weight : array-like of shape (n_samples,) or None
        Weights.
    name : str, default="y_true"
        What error messages call `target`.

    Returns
    -------
    LossRows
        Rows of weight 0 are left out.
    """
    losses = loss_vectors(proba, loss)
    targets = _targets(target, losses, labels, name).astype(np.float64)
    weight = check_mean_weights(sample_weight, losses)
    kept = weight > 0
    return LossRows(targets[kept], losses[kept], weight[kept])


def empirical_risk(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    loss: Loss = "log_loss",
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
) -> ConfidenceInterval:
    r"""Risk on labels.

    .. math::
        \hat R = \frac{1}{\sum_i w_i} \sum_i w_i\, e_{y_i}^\top \ell(q_i)

    Eq. (3) of [Menon2021]_, for a fixed :math:`q`, one that was not fitted on these
    labels.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels.
    proba : array-like of shape (n_samples, n_classes)
        q. Rows sum to 1.
    loss : {"log_loss", "brier", "zero_one"} or callable, default="log_loss"
        As in :func:`loss_vectors`.
    labels : array-like of shape (n_classes,), default=None
        The label of each column of `proba`. None means the sorted values of `y`.
    sample_weight : array-like of shape (n_samples,), default=None
        w. Importance weights: a row of weight 2 counts twice and is still one draw.
    level : float, default=0.95
        Confidence level.

    Returns
    -------
    risk : ConfidenceInterval
        With the standard error of the mean of independent rows.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, or a parameter is out of its
        range.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.diagnostics import empirical_risk
    >>> proba = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]]
    >>> print(empirical_risk([0, 1, 1], proba, loss="brier"))
    0.540 [-1.095, 2.175]
    """
    if np.ndim(y) == 2 and np.shape(y)[1] > 1:
        raise ValueError(
            f"y must hold one label a row, got shape {np.shape(y)}. For soft labels "
            "use distilled_risk."
        )
    rows = loss_rows(
        y, proba, loss=loss, labels=labels, sample_weight=sample_weight, name="y"
    )
    return mean_interval(rows.values, rows.weight, check_level(level))


def distilled_risk(
    teacher_proba: ArrayLike,
    proba: ArrayLike,
    *,
    loss: Loss = "log_loss",
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
) -> ConfidenceInterval:
    r"""Risk under the probabilities of a teacher.

    .. math::
        \tilde R = \frac{1}{\sum_i w_i} \sum_i w_i\, p^t(x_i)^\top \ell(q_i)

    Eq. (4) of [Menon2021]_. Its expectation differs from the risk by what the teacher
    is wrong about, see :func:`distilled_risk_error`.

    Parameters
    ----------
    teacher_proba : array-like of shape (n_samples, n_classes)
        :math:`p^t`. Rows sum to 1.
    proba : array-like of shape (n_samples, n_classes)
        q. Rows sum to 1.
    loss : {"log_loss", "brier", "zero_one"} or callable, default="log_loss"
        As in :func:`loss_vectors`.
    sample_weight : array-like of shape (n_samples,), default=None
        w. Importance weights.
    level : float, default=0.95
        Confidence level.

    Returns
    -------
    risk : ConfidenceInterval
        Interval for the expectation of this mean, with teacher and q fixed.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, or a parameter is out of its
        range.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.diagnostics import distilled_risk
    >>> print(distilled_risk([[0.9, 0.1], [0.5, 0.5]], [[0.8, 0.2], [0.5, 0.5]]))
    0.527 [-1.578, 2.633]
    """
    return _soft_risk("teacher_proba", teacher_proba, proba, loss, sample_weight, level)


def bayes_distilled_risk(
    bayes_proba: ArrayLike,
    proba: ArrayLike,
    *,
    loss: Loss = "log_loss",
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
) -> ConfidenceInterval:
    r"""Risk under the true class probabilities.

    .. math::
        \hat R_* = \frac{1}{\sum_i w_i} \sum_i w_i\, p^*(x_i)^\top \ell(q_i)

    Eq. (6) of [Menon2021]_. It has the expectation of the empirical risk and no larger
    variance, see :func:`objective_variance`.

    Parameters
    ----------
    bayes_proba : array-like of shape (n_samples, n_classes)
        :math:`p^*`, as the functions of :mod:`skdistill.datasets` return it.
    proba : array-like of shape (n_samples, n_classes)
        q. Rows sum to 1.
    loss : {"log_loss", "brier", "zero_one"} or callable, default="log_loss"
        As in :func:`loss_vectors`.
    sample_weight : array-like of shape (n_samples,), default=None
        w. Importance weights.
    level : float, default=0.95
        Confidence level.

    Returns
    -------
    risk : ConfidenceInterval
        Interval for the risk of q.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, or a parameter is out of its
        range.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.datasets import make_gaussians
    >>> from skdistill.diagnostics import bayes_distilled_risk
    >>> _, _, bayes_proba = make_gaussians(2000, random_state=0)
    >>> print(bayes_distilled_risk(bayes_proba, bayes_proba))
    0.453 [0.444, 0.462]
    """
    return _soft_risk("bayes_proba", bayes_proba, proba, loss, sample_weight, level)


def _soft_risk(
    name: str,
    soft_labels: ArrayLike,
    proba: ArrayLike,
    loss: Loss,
    sample_weight: ArrayLike | None,
    level: float,
) -> ConfidenceInterval:
    targets = _check_proba(soft_labels, name)
    rows = loss_rows(
        targets, proba, loss=loss, labels=None, sample_weight=sample_weight
    )
    return mean_interval(rows.values, rows.weight, check_level(level))


@dataclass(frozen=True)
class ObjectiveVariance:
    """Variance of an objective with labels and of the same with soft labels.

    Attributes
    ----------
    one_hot : ConfidenceInterval
        Variance of the mean loss over labels.
    soft : ConfidenceInterval
        Variance of the mean loss over soft labels.
    gap : ConfidenceInterval
        The first less the second.
    n_samples : int
        Number of rows of the objective.

    See Also
    --------
    objective_variance : Makes one.

    Examples
    --------
    >>> from skdistill.diagnostics import objective_variance
    >>> result = objective_variance([[0.9, 0.1], [0.5, 0.5]], [[0.8, 0.2], [0.5, 0.5]])
    >>> round(float(result.gap), 3)
    0.043
    """

    one_hot: ConfidenceInterval
    soft: ConfidenceInterval
    gap: ConfidenceInterval
    n_samples: int


def objective_variance(
    soft_labels: ArrayLike,
    proba: ArrayLike,
    *,
    y: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    n_samples: int | None = None,
    loss: Loss = "log_loss",
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
) -> ObjectiveVariance:
    r"""Variance of the objective with labels and with soft labels.

    For a fixed :math:`q` and true class probabilities as soft labels,

    .. math::
        \mathrm V[\hat R] - \mathrm V[\hat R_*] =
        \frac1N \mathrm E_x \bigl[\mathrm V_{y \mid x}\, \ell(y, q(x))\bigr] \ge 0,

    the gap of Lemma 1 of [Menon2021]_, by the law of total variance. It is zero where
    labels are certain, or all classes cost the same.

    Parameters
    ----------
    soft_labels : array-like of shape (n_samples, n_classes)
        Without `y` the true class probabilities, and all three variances are those
        that follow from them. With `y` the probabilities of a teacher.
    proba : array-like of shape (n_samples, n_classes)
        q, fitted on other rows. Rows sum to 1.
    y : array-like of shape (n_samples,), default=None
        Labels, from which then the variance with labels is estimated. The gap may be
        negative: a teacher's probabilities can vary more than labels do.
    labels : array-like of shape (n_classes,), default=None
        The label of each column. None means the sorted values of `y`.
    n_samples : int, default=None
        N, number of rows of the objective. None means that of the rows passed whose
        weight is above 0.
    loss : {"log_loss", "brier", "zero_one"} or callable, default="log_loss"
        As in :func:`loss_vectors`.
    sample_weight : array-like of shape (n_samples,), default=None
        Importance weights, of the objective as well.
    level : float, default=0.95
        Confidence level.

    Returns
    -------
    variances : ObjectiveVariance
        Variances with labels and soft labels and their difference, which adds up.
        They are unbiased (weighted: up to terms of order 1 / n). Their intervals are
        longer than Student's, by a factor that falls to 1 as rows come: losses have
        long tails, and variances longer ones.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, or a parameter is out of its
        range.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.datasets import make_gaussians
    >>> from skdistill.diagnostics import objective_variance
    >>> _, _, bayes_proba = make_gaussians(2000, random_state=0)
    >>> result = objective_variance(bayes_proba, bayes_proba, n_samples=100)
    >>> print(result.one_hot.estimate > result.soft.estimate)
    True
    """
    options: dict[str, Any] = {"loss": loss, "sample_weight": sample_weight}
    soft = loss_rows(
        _check_proba(soft_labels, "soft_labels"), proba, labels=None, **options
    )
    size = check_size(n_samples, soft)
    squares = squared_deviations(soft.values, soft.weight) / size
    if y is None:
        within = conditional_variance(soft)
        within *= np.square(normalised_weight(soft.weight)) / size
        one_hot, gap, gap_interval = squares + within, within, positive_mean_interval
    else:
        hard = loss_rows(y, proba, labels=labels, name="y", **options)
        one_hot = squared_deviations(hard.values, hard.weight) / size
        gap, gap_interval = one_hot - squares, skewed_mean_interval
    equal, level = np.ones(len(squares)), check_level(level)
    return ObjectiveVariance(
        positive_mean_interval(one_hot, equal, level),
        positive_mean_interval(squares, equal, level),
        gap_interval(gap, equal, level),
        size,
    )


def check_size(n_samples: int | None, rows: LossRows) -> int:
    """Return the number of rows of an objective.

    Parameters
    ----------
    n_samples : int or None
        What the user passed; None is the number of rows.
    rows : LossRows
        The rows.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        If there are fewer than two rows, or `n_samples` is no such number.
    """
    if len(rows.weight) < 2:
        raise ValueError("A variance needs two rows with a positive weight at least.")
    if n_samples is None:
        return len(rows.weight)
    if not isinstance(n_samples, (int, np.integer)) or n_samples < 1:
        raise ValueError(f"n_samples={n_samples!r} must be an integer of at least 1.")
    return int(n_samples)


def squared_deviations(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Return what the variance of a weighted mean is the mean of, times n.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        One number a row.
    weight : ndarray of shape (n_samples,)
        Positive weights.

    Returns
    -------
    ndarray of shape (n_samples,)
        Their mean is the unbiased sample variance where the weights are equal.
    """
    n, omega = len(values), normalised_weight(weight)
    mean = omega @ values / n
    return np.square(omega * (values - mean)) * (n / (n - 1))


def conditional_variance(rows: LossRows) -> FloatArray:
    """Return the variance of each row's loss over labels drawn from its target.

    Parameters
    ----------
    rows : LossRows
        Soft labels and losses.

    Returns
    -------
    ndarray of shape (n_samples,)
        Variances, computed from deviations, so never negative.
    """
    deviation = rows.losses - rows.values[:, None]
    return (rows.targets * np.square(deviation)).sum(axis=1)
