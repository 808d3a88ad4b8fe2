"""Calibration and refinement: what a Brier score is made of, class by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.isotonic import IsotonicRegression

from skdistill._intervals import ConfidenceInterval, check_level, mean_interval
from skdistill._typing import FloatArray
from skdistill._validation import check_mean_weights
from skdistill.metrics import _check_proba, _targets


@dataclass(frozen=True)
class BrierDecomposition:
    """A Brier score and its parts.

    Attributes
    ----------
    brier : float
        The score: calibration and refinement add up to it.
    calibration : float
        What recalibration of each class would gain, at least 0.
    refinement : float
        What would be left of the score: uncertainty less resolution.
    uncertainty : float
        Score of the class frequencies.

    See Also
    --------
    brier_decomposition : Makes one.

    Examples
    --------
    >>> from skdistill.diagnostics import BrierDecomposition
    >>> round(BrierDecomposition(0.3, 0.1, 0.2, 0.5).resolution, 2)
    0.3
    """

    brier: float
    calibration: float
    refinement: float
    uncertainty: float

    @property
    def resolution(self) -> float:
        """What recalibrated probabilities gain over the class frequencies.

        Returns
        -------
        float
            At least 0.
        """
        return self.uncertainty - self.refinement


def brier_decomposition(
    y_true: ArrayLike,
    proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> BrierDecomposition:
    r"""Split a Brier score into calibration and refinement.

    .. math::
        B(q) = \underbrace{B(q) - B(\hat q)}_{\text{calibration}} +
        \underbrace{B(\hat q)}_{\text{refinement}}, \qquad B(\hat q) =
        \underbrace{B(\pi)}_{\text{uncertainty}} -
        \underbrace{\bigl(B(\pi) - B(\hat q)\bigr)}_{\text{resolution}}

    where :math:`\hat q` has each class recalibrated by isotonic regression of its
    indicator on its probability, and :math:`\pi` are the class frequencies: the
    decomposition of [Dimitriadis2021]_, for each class against the rest, summed. It
    needs no bins, is exact, and its parts are not negative.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels, or soft labels whose rows sum to 1.
    proba : array-like of shape (n_samples, n_classes)
        q. Rows sum to 1.
    labels : array-like of shape (n_classes,), default=None
        The label of each column. None means the sorted values of `y_true`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights.

    Returns
    -------
    parts : BrierDecomposition
        Computed on these rows. On few rows the calibration part is too large: isotonic
        regression finds something to repair even in true probabilities.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, or a parameter is out of its
        range.

    References
    ----------
    .. [Dimitriadis2021] Dimitriadis, Gneiting and Jordan, "Stable reliability diagrams
       for probabilistic classifiers", PNAS 118(8), 2021.

    Examples
    --------
    >>> from skdistill.diagnostics import brier_decomposition
    >>> parts = brier_decomposition([0, 1, 1, 1], [[0.6, 0.4], [0.6, 0.4]] * 2)
    >>> round(parts.brier, 3), round(parts.calibration, 3), round(parts.refinement, 3)
    (0.62, 0.245, 0.375)
    """
    targets, proba, weight = _checked(y_true, proba, labels, sample_weight)
    columns = _recalibrated(targets, proba, weight)
    frequency = weight @ targets / weight.sum()
    brier, refinement, uncertainty = (
        float(np.average(np.square(targets - p).sum(axis=1), weights=weight))
        for p in (proba, columns, frequency)
    )
    return BrierDecomposition(brier, brier - refinement, refinement, uncertainty)


def _checked(
    y_true: ArrayLike,
    proba: ArrayLike,
    labels: ArrayLike | None,
    sample_weight: ArrayLike | None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return targets, probabilities and weights of the rows with a positive weight."""
    matrix = _check_proba(proba, "proba").astype(np.float64)
    targets = _targets(y_true, matrix, labels).astype(np.float64)
    weight = check_mean_weights(sample_weight, matrix)
    kept = weight > 0
    return targets[kept], matrix[kept], weight[kept]


def _recalibrated(
    targets: FloatArray, proba: FloatArray, weight: FloatArray
) -> FloatArray:
    """Return each class's frequency as an isotonic function of its probability."""
    isotonic = IsotonicRegression(out_of_bounds="clip")
    return np.column_stack(
        [
            isotonic.fit(proba[:, k], targets[:, k], sample_weight=weight).predict(
                proba[:, k]
            )
            for k in range(proba.shape[1])
        ]
    )


@dataclass(frozen=True)
class ClassReliability:
    """How far the probability of each class can be trusted.

    Attributes
    ----------
    frequency : ndarray of shape (n_classes,)
        Share of the rows that have the class.
    bias : list of ConfidenceInterval
        Mean probability of the class less its frequency.
    brier : ndarray of shape (n_classes,)
        Mean square of probability less indicator; the sum is the Brier score.
    calibration : ndarray of shape (n_classes,)
        Part of it that recalibration would gain.
    recall : ndarray of shape (n_classes,)
        Share of the rows of the class in which it is the most probable one; NaN for a
        class without rows.

    See Also
    --------
    class_reliability : Makes one.

    Examples
    --------
    >>> from skdistill.diagnostics import class_reliability
    >>> result = class_reliability([0, 1, 1], [[0.8, 0.2], [0.4, 0.6], [0.6, 0.4]])
    >>> result.recall
    array([1. , 0.5])
    """

    frequency: FloatArray
    bias: list[ConfidenceInterval]
    brier: FloatArray
    calibration: FloatArray
    recall: FloatArray


def class_reliability(
    y_true: ArrayLike,
    proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
) -> ClassReliability:
    r"""Say for each class how reliable its probability is.

    .. math::
        B_k = \frac{\sum_i w_i (q_{ik} - e_{ik})^2}{\sum_i w_i}, \qquad
        b_k = \frac{\sum_i w_i (q_{ik} - e_{ik})}{\sum_i w_i}

    Distillation can cost rare classes what it gains on others; this is where that
    shows in the teacher.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels, or soft labels whose rows sum to 1.
    proba : array-like of shape (n_samples, n_classes)
        q. Rows sum to 1.
    labels : array-like of shape (n_classes,), default=None
        The label of each column. None means the sorted values of `y_true`.
    sample_weight : array-like of shape (n_samples,), default=None
        Importance weights.
    level : float, default=0.95
        Confidence level of the biases, of each by itself.

    Returns
    -------
    reliability : ClassReliability
        In the order of the columns.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, or a parameter is out of its
        range.

    Examples
    --------
    >>> from skdistill.diagnostics import class_reliability
    >>> result = class_reliability([0, 1, 1], [[0.8, 0.2], [0.4, 0.6], [0.6, 0.4]])
    >>> print(result.brier.round(2), result.bias[0])
    [0.19 0.19] 0.267 [-0.768, 1.301]
    """
    targets, proba, weight = _checked(y_true, proba, labels, sample_weight)
    level = check_level(level)
    columns = _recalibrated(targets, proba, weight)
    share = weight / weight.sum()
    brier, refined = (share @ np.square(targets - p) for p in (proba, columns))
    frequency = share @ targets
    top = np.eye(proba.shape[1])[proba.argmax(axis=1)]
    with np.errstate(invalid="ignore"):
        recall = share @ (targets * top) / frequency
    difference = (proba - targets).T
    bias = [mean_interval(d, weight, level) for d in difference]
    return ClassReliability(frequency, bias, brier, brier - refined, recall)
