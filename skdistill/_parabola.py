"""Mixing weights from the residuals of two students: labels alone, soft labels alone.

A student that is linear in its targets predicts, on targets mixed with weight w, the
same mixture of its two predictions. Its squared distance to the truth is then a
parabola in w, and held-out labels tell where that is lowest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from skdistill._typing import FloatArray


def residual_mixing_weight(
    residual_labels: FloatArray,
    residual_soft: FloatArray,
    sample_weight: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    r"""Return the lowest point of each column's parabola, and its standard error.

    With the residuals :math:`r_0` on held-out labels of the student on labels,
    :math:`r_1` of that on soft labels, :math:`d = r_0 - r_1` and row weights
    :math:`\omega`,

    .. math::
        \hat w = \frac{\sum_i \omega_i r_{0i} d_i}{\sum_i \omega_i d_i^2}, \qquad
        \widehat{\mathrm{se}}^2 = \frac{\sum_i \omega_i^2 d_i^2 (r_{0i} - \hat w d_i)^2}
        {\bigl(\sum_i \omega_i d_i^2\bigr)^2}

    minimises :math:`\sum_i \omega_i ((1 - w) r_{0i} + w r_{1i})^2`, which estimates
    the squared distance to the true probabilities up to a constant.

    Parameters
    ----------
    residual_labels, residual_soft : ndarray of shape (n_samples, n_outputs)
        Labels less predictions, of rows that neither student has seen.
    sample_weight : ndarray of shape (n_samples,)
        Row weights.

    Returns
    -------
    weight, standard_error : ndarray of shape (n_outputs,)
        The weight may be outside [0, 1]. Where the two students predict the same, it
        does not matter: NaN, with an infinite standard error.
    """
    gap = residual_labels - residual_soft
    divisor = sample_weight @ gap**2
    told = divisor > 0
    safe = np.where(told, divisor, 1.0)
    weight = (sample_weight @ (residual_labels * gap)) / safe
    rest = residual_labels - weight * gap
    error = np.sqrt(sample_weight**2 @ (gap * rest) ** 2) / safe
    return np.where(told, weight, np.nan), np.where(told, error, np.inf)


def shrunk_weights(
    weight: FloatArray, standard_error: FloatArray
) -> tuple[float, FloatArray]:
    r"""Draw weights together as far as they may differ by chance.

    A random-effects estimate: with :math:`u_c = 1 / s_c^2`, their weighted mean
    :math:`\bar w`, :math:`Q = \sum_c u_c (w_c - \bar w)^2` and

    .. math::
        \tau^2 = \max\Bigl(0, \frac{Q - (K - 1)}
        {\sum_c u_c - \sum_c u_c^2 / \sum_c u_c}\Bigr),

    the moment estimate of [1]_ of the variance between them, each becomes
    :math:`\bar w + \frac{\tau^2}{\tau^2 + s_c^2} (w_c - \bar w)`.

    Parameters
    ----------
    weight, standard_error : ndarray of shape (n_classes,)
        Estimates, NaN where there is none, and their standard errors.

    Returns
    -------
    mean : float
        :math:`\bar w`; 0 where there are no estimates.
    shrunk : ndarray of shape (n_classes,)
        All equal to the mean where nothing says that they differ.

    References
    ----------
    .. [1] DerSimonian, Laird, "Meta-analysis in clinical trials", Controlled Clinical
           Trials 1986.
    """
    known = np.isfinite(weight)
    if not known.any():
        return 0.0, np.zeros(len(weight))
    # An error of 0 is one of rounding.
    error = np.maximum(standard_error[known], 1e-6)
    values, u = weight[known], error**-2
    total = u.sum()
    mean = float(u @ values / total)
    excess = u @ (values - mean) ** 2 - (len(u) - 1)
    freedom = total - (u @ u) / total
    between = max(0.0, float(excess / freedom)) if len(u) > 1 else 0.0
    shrunk = np.full(len(weight), mean)
    shrunk[known] += between / (between + error**2) * (values - mean)
    return mean, shrunk


def class_mixing_weights(
    codes: ArrayLike,
    proba_labels: FloatArray,
    proba_soft: FloatArray,
    sample_weight: FloatArray,
) -> tuple[float, FloatArray]:
    """Return one mixing weight, and one for each class, from held-out labels.

    Parameters
    ----------
    codes : array-like of shape (n_samples,)
        Positions of the labels among the classes.
    proba_labels, proba_soft : ndarray of shape (n_samples, n_classes)
        Probabilities by a student trained on labels alone and by one trained on soft
        labels alone, neither of which has seen these labels.
    sample_weight : ndarray of shape (n_samples,)
        Row weights.

    Returns
    -------
    pooled : float
        The mean of :func:`shrunk_weights`, in [0, 1].
    by_class : ndarray of shape (n_classes,)
        :func:`residual_mixing_weight` of each class against the others, drawn together
        by :func:`shrunk_weights`, in [0, 1].
    """
    labels = np.eye(proba_labels.shape[1])[np.asarray(codes)]
    found = residual_mixing_weight(
        labels - proba_labels, labels - proba_soft, sample_weight
    )
    pooled, by_class = shrunk_weights(*found)
    return float(np.clip(pooled, 0.0, 1.0)), np.clip(by_class, 0.0, 1.0)
