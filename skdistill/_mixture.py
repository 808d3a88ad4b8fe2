"""The convex weights of several teachers that fit labels best."""

from __future__ import annotations

import numpy as np

from skdistill._typing import FloatArray


def fit_mixture_weights(
    proba: FloatArray,
    sample_weight: FloatArray,
    *,
    tol: float = 1e-9,
    max_iter: int = 10_000,
) -> FloatArray:
    r"""Find the convex mixture of teachers with the lowest log-loss.

    .. math::

        \hat v = \arg\min_{v \ge 0,\, \sum_m v_m = 1}
            - \sum_i w_i \log \sum_m v_m \, p_{im}

    where :math:`p_{im}` is the probability that teacher m gives to the label of row i.
    The sum is convex in v; it is minimised by expectation-maximisation [1]_,

    .. math::

        v_m \leftarrow \frac{1}{\sum_i w_i}
            \sum_i w_i \frac{v_m p_{im}}{\sum_{m'} v_{m'} p_{im'}},

    which never raises it and stays in the simplex.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_teachers)
        Probabilities of the labels.
    sample_weight : ndarray of shape (n_samples,)
        Non-negative weights w of the rows.
    tol : float, default=1e-9
        Largest change of a weight at which to stop.
    max_iter : int, default=10000
        Largest number of steps.

    Returns
    -------
    ndarray of shape (n_teachers,)
        Weights that sum to 1. Rows to whose label no teacher gives a probability say
        nothing; if there are no others the weights are equal.

    References
    ----------
    .. [1] Dempster, Laird, Rubin, "Maximum likelihood from incomplete data via the EM
           algorithm", JRSS B 1977.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill._mixture import fit_mixture_weights
    >>> proba = np.array([[0.9, 0.5], [0.9, 0.5], [0.1, 0.5]])
    >>> fit_mixture_weights(proba, np.ones(3)).round(3)
    array([0.417, 0.583])
    """
    n_teachers = proba.shape[1]
    weights = np.full(n_teachers, 1.0 / n_teachers)
    told = (sample_weight > 0) & (proba.max(axis=1) > 0)
    if not told.any():
        return weights
    proba, share = proba[told], sample_weight[told] / sample_weight[told].sum()
    for _ in range(max_iter):
        joint = proba * weights
        new = share @ (joint / joint.sum(axis=1, keepdims=True))
        change = np.abs(new - weights).max()
        weights = new
        if change < tol:
            break
    result: FloatArray = weights / weights.sum()
    return result
