"""Bias and variance of a teacher's probabilities, and what they do to the objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skdistill._intervals import ConfidenceInterval, check_level, mean_interval
from skdistill._risks import Loss, check_size, loss_rows, squared_deviations
from skdistill._typing import FloatArray
from skdistill._validation import check_mean_weights
from skdistill.metrics import _check_proba, _check_same_shape, _targets


@dataclass(frozen=True)
class BiasVariance:
    """Squared distance of a teacher from the truth, split into bias and variance.

    Attributes
    ----------
    squared_error : float
        The sum of the two others.
    squared_bias : float
        Squared distance of the mean teacher; with labels in the place of the true
        probabilities it includes the noise of the labels.
    variance : float
        Mean squared distance of a teacher from the mean teacher.

    See Also
    --------
    teacher_bias_variance : Makes one.

    Examples
    --------
    >>> from skdistill.diagnostics import BiasVariance
    >>> BiasVariance(0.3, 0.2, 0.1).variance
    0.1
    """

    squared_error: float
    squared_bias: float
    variance: float


def teacher_bias_variance(
    teacher_proba: ArrayLike,
    y_true: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> BiasVariance:
    r"""Split the squared error of several fits of a teacher into bias and variance.

    .. math::
        \mathrm E \lVert p^t - p^* \rVert^2 = \lVert \mathrm E\, p^t - p^* \rVert^2
        + \mathrm E \lVert p^t - \mathrm E\, p^t \rVert^2

    with expectations over fits of the teacher to samples drawn anew, averaged over the
    rows: the terms of Eq. (8) of [Menon2021]_. From :math:`R` fits, with mean
    :math:`\bar p`,

    .. math::
        \widehat{\mathrm{var}} = \frac{1}{R - 1} \sum_r \lVert p^{(r)} - \bar p
        \rVert^2, \qquad \widehat{\mathrm{bias}^2} = \lVert \bar p - p^* \rVert^2 -
        \tfrac1R \widehat{\mathrm{var}}

    are unbiased, and add up to the mean squared error of the fits.

    Parameters
    ----------
    teacher_proba : array-like of shape (n_fits, n_samples, n_classes)
        :math:`p^{(r)}`, of the same rows, at least two fits. The fits must be
        independent: on separate samples, none of which holds these rows. Fits of
        overlapping samples, as in a cross-validation, give too small a variance.
    y_true : array-like of shape (n_samples,) or (n_samples, n_classes)
        True class probabilities, or labels. With labels the squared bias includes the
        noise of the labels, :math:`\mathrm E[1 - \lVert p^* \rVert^2]`, which is the
        same for all teachers: differences between teachers are right.
    labels : array-like of shape (n_classes,), default=None
        The label of each column. None means the sorted values of `y_true`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    parts : BiasVariance
        Unbiased estimates; that of a small squared bias may be below 0.

    Raises
    ------
    ValueError
        If there are fewer than two fits, shapes differ, or rows are not probabilities.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.diagnostics import teacher_bias_variance
    >>> fits = [[[0.8, 0.2]], [[0.6, 0.4]]]
    >>> parts = teacher_bias_variance(fits, [[0.5, 0.5]])
    >>> round(parts.squared_bias, 3), round(parts.variance, 3)
    (0.06, 0.04)
    """
    fits = _check_fits(teacher_proba)
    targets = _targets(y_true, fits[0], labels)
    weight = check_mean_weights(sample_weight, targets)
    kept = weight > 0
    mean = fits.mean(axis=0)
    variance = np.square(fits - mean).sum(axis=(0, 2)) / (len(fits) - 1)
    squared_error = np.square(fits - targets).sum(axis=(0, 2)) / len(fits)
    parts = [
        float(np.average(values[kept], weights=weight[kept]))
        for values in (squared_error, variance)
    ]
    return BiasVariance(parts[0], parts[0] - parts[1], parts[1])


def _check_fits(teacher_proba: ArrayLike) -> FloatArray:
    shape = np.shape(teacher_proba)
    if len(shape) != 3 or shape[0] < 2:
        raise ValueError(
            "teacher_proba must have shape (n_fits, n_samples, n_classes) with two "
            f"fits at least, got {shape}."
        )
    many: Any = teacher_proba
    return np.array(
        [_check_proba(one, f"teacher_proba[{r}]") for r, one in enumerate(many)],
        dtype=np.float64,
    )


def brier_difference(
    y_true: ArrayLike,
    first_proba: ArrayLike,
    second_proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
) -> ConfidenceInterval:
    r"""Difference of two Brier scores, with a paired interval.

    .. math::
        \mathrm E \lVert p - e_y \rVert^2 - \mathrm E \lVert p' - e_y \rVert^2 =
        \mathrm E \lVert p - p^* \rVert^2 - \mathrm E \lVert p' - p^* \rVert^2

    on rows that neither :math:`p` nor :math:`p'` was fitted on: the noise of the
    labels, :math:`\mathrm E[1 - \lVert p^* \rVert^2]`, is in both scores and cancels.
    So the difference says, without knowledge of :math:`p^*`, which of two teachers is
    closer to it. The calibration error does not: it is no proper score.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels, or the true class probabilities.
    first_proba, second_proba : array-like of shape (n_samples, n_classes)
        p and p'. Rows sum to 1.
    labels : array-like of shape (n_classes,), default=None
        The label of each column. None means the sorted values of `y_true`.
    sample_weight : array-like of shape (n_samples,), default=None
        Importance weights.
    level : float, default=0.95
        Confidence level.

    Returns
    -------
    difference : ConfidenceInterval
        Below 0 if the first is better. The interval takes the probabilities as fixed.
        Teachers that were fitted in the folds of a cross-validation vary as well, for
        which :func:`teacher_report` makes it longer.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, or a parameter is out of its
        range.

    Examples
    --------
    >>> from skdistill.datasets import distort_proba, make_gaussians
    >>> from skdistill.diagnostics import brier_difference
    >>> _, y, bayes_proba = make_gaussians(2000, random_state=0)
    >>> distorted = distort_proba(bayes_proba, 0.2)
    >>> print(brier_difference(y, bayes_proba, distorted).high < 0)
    True
    """
    first, second = (
        loss_rows(
            y_true,
            _check_proba(proba, name),
            loss="brier",
            labels=labels,
            sample_weight=sample_weight,
        )
        for name, proba in (
            ("first_proba", first_proba),
            ("second_proba", second_proba),
        )
    )
    return mean_interval(first.values - second.values, first.weight, check_level(level))


@dataclass(frozen=True)
class DistilledRiskError:
    """Mean squared error of the distilled risk, and the bound of Proposition 3.

    Attributes
    ----------
    variance : float
        Variance of the distilled risk.
    squared_bias : float
        Square of its expectation less the risk.
    bound : float
        What Proposition 3 gives for the sum of the two.
    n_samples : int
        Number of rows of the objective.

    See Also
    --------
    distilled_risk_error : Makes one.

    Examples
    --------
    >>> from skdistill.diagnostics import DistilledRiskError
    >>> DistilledRiskError(0.01, 0.02, 0.05, 100).mean_squared_error
    0.03
    """

    variance: float
    squared_bias: float
    bound: float
    n_samples: int

    @property
    def mean_squared_error(self) -> float:
        """Expected square of the distilled risk less the risk.

        Returns
        -------
        float
            Variance and squared bias together.
        """
        return self.variance + self.squared_bias


def distilled_risk_error(
    teacher_proba: ArrayLike,
    bayes_proba: ArrayLike,
    proba: ArrayLike,
    *,
    n_samples: int | None = None,
    loss: Loss = "log_loss",
    sample_weight: ArrayLike | None = None,
) -> DistilledRiskError:
    r"""Say how far the distilled risk is from the risk, with known probabilities.

    .. math::
        \mathrm E \bigl(\tilde R - R\bigr)^2 = \tfrac1N \mathrm V[p^{t\top} \ell]
        + \bigl(\mathrm E[(p^t - p^*)^\top \ell]\bigr)^2
        \le \tfrac1N \mathrm V[p^{t\top} \ell]
        + \bigl(c\, \mathrm E \lVert p^t - p^* \rVert_2\bigr)^2

    for a fixed :math:`q` and a teacher fitted on other rows: Eq. (7) of [Menon2021]_
    with its constant, the largest :math:`c = \lVert \ell - \bar\ell \rVert_2` of the
    rows. The mean :math:`\bar\ell` of a row's losses may be taken off, as
    :math:`p^t` and :math:`p^*` have the same sum.

    Parameters
    ----------
    teacher_proba : array-like of shape (n_samples, n_classes)
        :math:`p^t`. Rows sum to 1.
    bayes_proba : array-like of shape (n_samples, n_classes)
        :math:`p^*`, as the functions of :mod:`skdistill.datasets` return it.
    proba : array-like of shape (n_samples, n_classes)
        q. Rows sum to 1.
    n_samples : int, default=None
        N. None means the number of rows passed whose weight is above 0.
    loss : {"log_loss", "brier", "zero_one"} or callable, default="log_loss"
        As in :func:`loss_vectors`.
    sample_weight : array-like of shape (n_samples,), default=None
        Importance weights, of the objective as well.

    Returns
    -------
    error : DistilledRiskError
        Variance, squared bias and bound, for the distribution of which the rows are a
        sample. The variance is the unbiased one.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, fewer than two have a positive
        weight, or a parameter is out of its range.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642. The left side of its Eq. (15),
       printed without the square, is meant as here.

    Examples
    --------
    >>> from skdistill.datasets import distort_proba, make_gaussians
    >>> from skdistill.diagnostics import distilled_risk_error
    >>> _, _, bayes_proba = make_gaussians(2000, random_state=0)
    >>> teacher_proba = distort_proba(bayes_proba, 0.5)
    >>> error = distilled_risk_error(teacher_proba, bayes_proba, bayes_proba)
    >>> 0 < error.mean_squared_error <= error.bound
    True
    """
    options: dict[str, Any] = {"loss": loss, "labels": None}
    teacher_proba = _check_proba(teacher_proba, "teacher_proba")
    bayes_proba = _check_proba(bayes_proba, "bayes_proba")
    _check_same_shape(teacher_proba, "teacher_proba", bayes_proba, "bayes_proba")
    soft = loss_rows(teacher_proba, proba, sample_weight=sample_weight, **options)
    true = loss_rows(bayes_proba, proba, sample_weight=sample_weight, **options)
    size = check_size(n_samples, soft)
    variance = float(squared_deviations(soft.values, soft.weight).mean()) / size
    bias = float(np.average(soft.values - true.values, weights=soft.weight))
    centred = soft.losses - soft.losses.mean(axis=1, keepdims=True)
    distance = np.linalg.norm(soft.targets - true.targets, axis=1)
    constant = float(np.linalg.norm(centred, axis=1).max())
    reach = constant * float(np.average(distance, weights=soft.weight))
    return DistilledRiskError(variance, bias**2, variance + reach**2, size)
