r"""Data whose true class probabilities are known, and label noise.

What a teacher should know are the true class probabilities :math:`p^*(x) = P(y \mid x)`
(the Bayes probabilities). The functions ``make_...`` return them with the rows, so that
what is estimated without them can be compared with the truth. `problem` and the other
parameters fix the distribution, `random_state` the rows that are drawn from it: call a
function twice for training and test rows.
"""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, softmax
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from skdistill._extreme_text import dump_extreme_text, load_extreme_text
from skdistill._label_noise import (
    check_bayes_proba,
    draw,
    draw_labels,
    make_label_noise,
    noisy_labels,
)
from skdistill._retrieval_data import make_retrieval
from skdistill._typing import FloatArray, IntArray

__all__ = [
    "distort_proba",
    "draw_labels",
    "dump_extreme_text",
    "load_extreme_text",
    "make_checkerboard",
    "make_class_overlap",
    "make_gaussians",
    "make_label_noise",
    "make_retrieval",
    "noisy_labels",
]

_POSITIVE_INT = [Interval(Integral, 1, None, closed="left")]
_FINITE = [Interval(Real, None, None, closed="neither")]
_POSITIVE = [Interval(Real, 0, None, closed="neither")]
_NON_NEGATIVE = [Interval(Real, 0, None, closed="left")]


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "n_features": _POSITIVE_INT,
        "mean": [*_FINITE, "array-like"],
        "class_sep": [*_NON_NEGATIVE, None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_gaussians(
    n_samples: int | ArrayLike = 100,
    *,
    n_features: int = 10,
    mean: float | ArrayLike = 0.25,
    class_sep: float | None = None,
    random_state: Any = None,
) -> tuple[FloatArray, IntArray, FloatArray]:
    r"""Make two Gaussian classes, for which logistic regression is the right model.

    .. math::
        x \mid y \sim \mathcal{N}(\pm\mu, I), \qquad
        p^*_1(x) = \frac{1}{1 + e^{-2 \mu^\top x - \log(\pi_1 / \pi_0)}}

    with mean :math:`+\mu` for class 1 and :math:`-\mu` for class 0, and class
    frequencies :math:`\pi`. With the defaults it is the problem of section 4.1 of
    [Menon2021]_: accuracy of the Bayes probabilities :math:`\Phi(\lVert\mu\rVert) =
    0.785`.

    Parameters
    ----------
    n_samples : int or array-like of shape (2,), default=100
        Number of rows, whose labels are drawn with equal probability; or the number of
        rows of class 0 and of class 1, each at least 1, which are then in random
        order, and :math:`\pi` their share.
    n_features : int, default=10
        Number of features.
    mean : float or array-like of shape (n_features,), default=0.25
        :math:`\mu`; a number stands for each of its entries.
    class_sep : float, default=None
        Norm of :math:`\mu`, to which `mean`, then only its direction, is scaled. None
        leaves `mean` as it is.
    random_state : int, RandomState instance or None, default=None
        Seed of the rows.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        Rows.
    y : ndarray of shape (n_samples,)
        Labels, 0 and 1.
    bayes_proba : ndarray of shape (n_samples, 2)
        :math:`p^*`.

    Raises
    ------
    ValueError
        If a parameter is out of its range, `mean` has not one entry per feature, or is
        zero where `class_sep` is to scale it.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.datasets import make_gaussians
    >>> X, y, bayes_proba = make_gaussians([50, 50], random_state=0)
    >>> X.shape, y.sum(), bayes_proba.shape
    ((100, 10), np.int64(50), (100, 2))
    """
    rng = check_random_state(random_state)
    centre = _check_mean(mean, n_features, class_sep)
    y, prior = _gaussian_labels(n_samples, rng)
    X = rng.normal(size=(len(y), n_features)) + np.outer(2 * y - 1, centre)
    log_odds = 2.0 * (X @ centre) + np.log(prior[1] / prior[0])
    return X, y, np.column_stack([expit(-log_odds), expit(log_odds)])


def _check_mean(
    mean: float | ArrayLike, n_features: int, class_sep: float | None
) -> FloatArray:
    """Return the mean of class 1."""
    centre = np.asarray(mean, dtype=np.float64)
    if centre.ndim == 0:
        centre = np.full(n_features, float(centre))
    if centre.shape != (n_features,) or not np.isfinite(centre).all():
        raise ValueError(
            f"mean must be a number or {n_features} (n_features) finite numbers, got "
            f"{mean!r}."
        )
    if class_sep is None:
        return centre
    norm = np.linalg.norm(centre)
    if norm == 0:
        raise ValueError("class_sep scales mean, which must not be zero then.")
    return centre * (class_sep / norm)


def _gaussian_labels(
    n_samples: int | ArrayLike, rng: Any
) -> tuple[IntArray, FloatArray]:
    """Return labels in random order and the class frequencies."""
    if np.ndim(n_samples) == 0:
        return rng.randint(2, size=n_samples), np.array([0.5, 0.5])
    counts = np.asarray(n_samples)
    if counts.shape != (2,) or counts.dtype.kind not in "iu" or (counts < 1).any():
        raise ValueError(
            "n_samples must be an integer, or two integers of at least 1, the rows of "
            f"each class; got {n_samples!r}."
        )
    return rng.permutation(np.repeat([0, 1], counts)), counts / counts.sum()


@validate_params(
    {
        "n_samples": _POSITIVE_INT,
        "n_squares": _POSITIVE_INT,
        "sharpness": _POSITIVE,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_checkerboard(
    n_samples: int = 100,
    *,
    n_squares: int = 3,
    sharpness: float = 40.0,
    random_state: Any = None,
) -> tuple[FloatArray, IntArray, FloatArray]:
    r"""Make a checkerboard with soft edges, for trees.

    .. math::
        p^*_1(x) = \min\Bigl(1, \sum_{i + j \text{ even}} \frac{1}{1 + e^{-a s_{ij}(x)}}
        \Bigr), \qquad s_{ij}(x) = \frac{1}{2B} - \lVert x - \mu_{ij} \rVert_\infty

    for :math:`x` uniform on the unit square, with :math:`B` squares a side, their
    centres :math:`\mu_{ij}` and the sharpness :math:`a` of their edges. The problem of
    section 4.3 and appendix C.1 of [Menon2021]_; its index ranges do not give a
    checkerboard as they are printed, so the sum is over the squares of the colour of
    the corner.

    Parameters
    ----------
    n_samples : int, default=100
        Number of rows.
    n_squares : int, default=3
        B.
    sharpness : float, default=40.0
        a, above 0. The larger, the less noise at the edges.
    random_state : int, RandomState instance or None, default=None
        Seed of the rows.

    Returns
    -------
    X : ndarray of shape (n_samples, 2)
        Rows.
    y : ndarray of shape (n_samples,)
        Labels, 0 and 1.
    bayes_proba : ndarray of shape (n_samples, 2)
        :math:`p^*`.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.datasets import make_checkerboard
    >>> X, y, bayes_proba = make_checkerboard(1000, random_state=0)
    >>> round(bayes_proba.max(axis=1).mean(), 2)
    np.float64(0.84)
    """
    rng = check_random_state(random_state)
    X = rng.uniform(size=(n_samples, 2))
    centres = (np.arange(n_squares) + 0.5) / n_squares
    distance = np.abs(X[:, :, None] - centres)
    positive = np.zeros(n_samples)
    for i in range(n_squares):
        for j in range(i % 2, n_squares, 2):
            furthest = np.maximum(distance[:, 0, i], distance[:, 1, j])
            positive += expit(sharpness * (0.5 / n_squares - furthest))
    positive = np.minimum(positive, 1.0)
    bayes_proba = np.column_stack([1.0 - positive, positive])
    return X, draw(bayes_proba, rng), bayes_proba


@validate_params(
    {
        "n_samples": _POSITIVE_INT,
        "n_classes": [Interval(Integral, 2, None, closed="left")],
        "n_features": _POSITIVE_INT,
        "n_clusters_per_class": _POSITIVE_INT,
        "class_sep": _NON_NEGATIVE,
        "weights": ["array-like", None],
        "problem": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_class_overlap(
    n_samples: int = 100,
    *,
    n_classes: int = 3,
    n_features: int = 2,
    n_clusters_per_class: int = 1,
    class_sep: float = 1.0,
    weights: ArrayLike | None = None,
    problem: int = 0,
    random_state: Any = None,
) -> tuple[FloatArray, IntArray, FloatArray]:
    r"""Make overlapping classes, each a mixture of Gaussians.

    .. math::
        x \mid y \sim \frac{1}{M} \sum_{m=1}^M \mathcal{N}(\mu_{ym}, I), \qquad
        p^*_y(x) \propto \pi_y \sum_{m=1}^M e^{-\lVert x - \mu_{ym} \rVert^2 / 2}

    with class frequencies :math:`\pi` and :math:`M` centres a class, drawn once from
    :math:`\mathcal{N}(0, s^2 I)`. With one centre a class, a linear student can give
    the Bayes probabilities; with several it cannot.

    Parameters
    ----------
    n_samples : int, default=100
        Number of rows.
    n_classes : int, default=3
        Number of classes, at least 2.
    n_features : int, default=2
        Number of features.
    n_clusters_per_class : int, default=1
        M.
    class_sep : float, default=1.0
        s. The smaller, the more the classes overlap; with 0 there is nothing to learn.
    weights : array-like of shape (n_classes,), default=None
        :math:`\pi`, scaled to sum 1. None means equal.
    problem : int, default=0
        Seed of the centres: which of these problems it is.
    random_state : int, RandomState instance or None, default=None
        Seed of the rows.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        Rows.
    y : ndarray of shape (n_samples,)
        Labels ``0, ..., n_classes - 1``; a small sample may lack some.
    bayes_proba : ndarray of shape (n_samples, n_classes)
        :math:`p^*`.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or `weights` are not `n_classes` finite
        numbers that are non-negative and not all zero.

    Examples
    --------
    >>> from skdistill.datasets import make_class_overlap
    >>> X, y, bayes_proba = make_class_overlap(500, n_classes=5, random_state=0)
    >>> bayes_proba.shape
    (500, 5)
    """
    rng = check_random_state(random_state)
    prior = _check_class_weights(weights, n_classes)
    shape = (n_classes, n_clusters_per_class, n_features)
    centres = class_sep * check_random_state(problem).normal(size=shape)
    y = rng.choice(n_classes, size=n_samples, p=prior)
    cluster = rng.randint(n_clusters_per_class, size=n_samples)
    X = centres[y, cluster] + rng.normal(size=(n_samples, n_features))
    return X, y, _mixture_posterior(X, centres, prior)


def _check_class_weights(weights: ArrayLike | None, n_classes: int) -> FloatArray:
    if weights is None:
        return np.full(n_classes, 1.0 / n_classes)
    prior = np.asarray(weights, dtype=np.float64)
    finite = prior.shape == (n_classes,) and np.isfinite(prior).all()
    if not finite or not (prior >= 0).all() or not prior.any():
        raise ValueError(
            f"weights must be {n_classes} (n_classes) finite non-negative numbers, not "
            f"all zero; got {weights!r}."
        )
    return prior / prior.sum()


def _mixture_posterior(
    X: FloatArray, centres: FloatArray, prior: FloatArray
) -> FloatArray:
    """Return the class probabilities of rows under equal mixtures of unit Gaussians."""
    n_classes, n_clusters, n_features = centres.shape
    flat = centres.reshape(-1, n_features)
    # The norm of the row is the same for all centres and cancels.
    exponent = X @ flat.T - 0.5 * (flat * flat).sum(axis=1)
    with np.errstate(divide="ignore"):  # a class of frequency 0
        exponent += np.repeat(np.log(prior), n_clusters)
    of_cluster = softmax(exponent, axis=1)
    return of_cluster.reshape(len(X), n_classes, n_clusters).sum(axis=2)


@validate_params(
    {"proba": ["array-like"], "exponent": _POSITIVE},
    prefer_skip_nested_validation=True,
)
def distort_proba(proba: ArrayLike, exponent: float) -> FloatArray:
    r"""Make probabilities wrong without a change of the most probable class.

    .. math::
        \Psi_a(p) = u + s^{a - 1} (p - u), \qquad u = \tfrac1K (1, \ldots, 1), \qquad
        s = 1 - K \min_k p_k

    with :math:`K` classes and exponent :math:`a`: :math:`s` says how far :math:`p` is
    on the way from the uniform distribution to the edge of the simplex, and becomes
    :math:`s^a`. Above 1 the probabilities become less confident, below 1 more, and the
    order of the classes stays. With two classes it is the family of Figure 3 of
    [Menon2021]_,

    .. math::
        \Psi_a(p_1) = \tfrac12 + \tfrac12 \,\mathrm{sgn}(2 p_1 - 1)\, |2 p_1 - 1|^a,

    which is printed there without the absolute value. A teacher with distorted Bayes
    probabilities is as accurate as the best one, and teaches worse.

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_classes)
        p. Rows sum to 1.
    exponent : float
        a, above 0; 1 changes nothing.

    Returns
    -------
    proba : ndarray of shape (n_samples, n_classes)
        :math:`\Psi_a(p)`.

    Raises
    ------
    ValueError
        If rows are not probabilities, or `exponent` is not above 0.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.datasets import distort_proba
    >>> distort_proba([[0.1, 0.9], [0.5, 0.5]], 2.0).round(2)
    array([[0.18, 0.82],
           [0.5 , 0.5 ]])
    """
    proba = check_bayes_proba(proba, "proba")
    n_classes = proba.shape[1]
    way = np.clip(1.0 - n_classes * proba.min(axis=1, keepdims=True), 0.0, 1.0)
    edge = (proba - 1.0 / n_classes) / np.where(way > 0, way, 1.0)
    # On the edge a probability is 0: rounding must not take it below.
    return np.maximum(1.0 / n_classes + way**exponent * edge, 0.0)
