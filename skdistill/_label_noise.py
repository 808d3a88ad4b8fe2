"""Labels drawn from class probabilities, and labels with noise."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skdistill._typing import FloatArray, IntArray
from skdistill._validation import check_proba_rows

_NOISE = {
    "noise": [StrOptions({"uniform", "pair", "boundary"})],
    "rate": [Interval(Real, 0, 1, closed="both")],
    "random_state": ["random_state"],
}


@validate_params(
    {"bayes_proba": ["array-like"], "random_state": ["random_state"]},
    prefer_skip_nested_validation=True,
)
def draw_labels(bayes_proba: ArrayLike, *, random_state: Any = None) -> IntArray:
    """Draw a label for each row from its class probabilities.

    Parameters
    ----------
    bayes_proba : array-like of shape (n_samples, n_classes)
        Probabilities. Rows sum to 1.
    random_state : int, RandomState instance or None, default=None
        Seed of the labels.

    Returns
    -------
    y : ndarray of shape (n_samples,)
        Labels ``0, ..., n_classes - 1``.

    Raises
    ------
    ValueError
        If rows are not probabilities.

    Examples
    --------
    >>> from skdistill.datasets import draw_labels
    >>> draw_labels([[0.0, 1.0], [1.0, 0.0]], random_state=0)
    array([1, 0])
    """
    proba = check_bayes_proba(bayes_proba, "bayes_proba")
    return draw(proba, check_random_state(random_state))


def draw(proba: FloatArray, rng: Any) -> IntArray:
    """Invert the distribution function of each row at a uniform number.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities.
    rng : RandomState
        Source of the numbers.

    Returns
    -------
    ndarray of shape (n_samples,)
        Classes, none of probability 0.
    """
    cumulated = np.cumsum(proba, axis=1)
    # Relative to the last, so that rounding can neither pass it nor reach a class of
    # probability 0 behind it.
    uniform = rng.uniform(size=(len(proba), 1)) * cumulated[:, -1:]
    return (cumulated <= uniform).sum(axis=1)


@validate_params(
    {
        "y": ["array-like"],
        "bayes_proba": ["array-like"],
        **_NOISE,
    },
    prefer_skip_nested_validation=True,
)
def make_label_noise(
    y: ArrayLike,
    bayes_proba: ArrayLike,
    *,
    noise: str = "uniform",
    rate: float = 0.2,
    random_state: Any = None,
) -> tuple[IntArray, FloatArray]:
    r"""Make labels noisy, and say what their Bayes probabilities are then.

    .. math::
        P(\tilde y = k \mid x) = \sum_j p^*_j(x)\, T_{jk}(x)

    with the probability :math:`T_{jk}(x)` that label :math:`j` turns into :math:`k`:

    ``"uniform"``
        with probability :math:`\rho` into one of the other classes, each as likely;
    ``"pair"``
        with probability :math:`\rho` into the next class, the last into the first;
    ``"boundary"``
        depending on the instance: with probability :math:`\rho\,(1 - (p^*_{(1)} -
        p^*_{(2)})^2)`, of the two largest probabilities, into the most probable of the
        other classes. Rows near a decision boundary are often mislabelled, clear ones
        seldom; the factor is that of type I of [Zhang2021]_.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels, ``0, ..., n_classes - 1``.
    bayes_proba : array-like of shape (n_samples, n_classes)
        :math:`p^*` of the labels without noise.
    noise : {"uniform", "pair", "boundary"}, default="uniform"
        Kind of noise.
    rate : float, default=0.2
        :math:`\rho`, in [0, 1]: share of the labels that change; for "boundary" the
        largest such share, on the boundary.
    random_state : int, RandomState instance or None, default=None
        Seed of the noise.

    Returns
    -------
    y : ndarray of shape (n_samples,)
        Noisy labels.
    bayes_proba : ndarray of shape (n_samples, n_classes)
        :math:`P(\tilde y = k \mid x)`.

    Raises
    ------
    ValueError
        If a parameter is out of its range, rows are not probabilities, or `y` is not
        made of their columns.

    See Also
    --------
    noisy_labels : The same noise for labels of data whose probabilities are unknown.

    References
    ----------
    .. [Zhang2021] Zhang, Zheng, Wu, Goswami and Chen, "Learning with feature-dependent
       label noise: a progressive approach", ICLR 2021.

    Examples
    --------
    >>> from skdistill.datasets import make_gaussians, make_label_noise
    >>> X, y, bayes_proba = make_gaussians(500, random_state=0)
    >>> y, bayes_proba = make_label_noise(y, bayes_proba, rate=0.3, random_state=0)
    >>> round(bayes_proba.max(), 2)
    np.float64(0.7)
    """
    proba = check_bayes_proba(bayes_proba, "bayes_proba")
    codes = _check_codes(y, proba)
    noisy = _flip(codes, proba, noise, rate, random_state)
    return noisy, _flipped_proba(proba, noise, rate)


@validate_params(
    {"y": ["array-like"], "proba": ["array-like", None], **_NOISE},
    prefer_skip_nested_validation=True,
)
def noisy_labels(
    y: ArrayLike,
    *,
    noise: str = "uniform",
    rate: float = 0.2,
    proba: ArrayLike | None = None,
    random_state: Any = None,
) -> NDArray[Any]:
    r"""Turn some of the labels of real data into wrong ones.

    The kinds of noise are those of :func:`make_label_noise`, with classes in sorted
    order. Judge what was trained with noisy labels on test labels without noise, and
    probabilities on test labels with the same noise: it belongs to what they estimate.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of any type, at least two different ones.
    noise : {"uniform", "pair", "boundary"}, default="uniform"
        Kind of noise.
    rate : float, default=0.2
        Share of the labels that change, in [0, 1]; for "boundary" the largest such
        share, on the boundary.
    proba : array-like of shape (n_samples, n_classes), default=None
        Class probabilities in the order of the sorted classes, such as the out-of-fold
        ones of a good classifier, which say where the boundary is. Needed for
        "boundary", and for that only.
    random_state : int, RandomState instance or None, default=None
        Seed of the noise.

    Returns
    -------
    y : ndarray of shape (n_samples,)
        Noisy labels; `y` is not changed.

    Raises
    ------
    ValueError
        If a parameter is out of its range, there is one class only, or `proba` is
        missing, not needed, or does not fit.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdistill.datasets import noisy_labels
    >>> y = load_iris().target
    >>> round((noisy_labels(y, rate=0.3, random_state=0) != y).mean(), 2)
    np.float64(0.29)
    """
    classes, codes = np.unique(column_or_1d(y), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y must hold two classes at least, got {classes.tolist()}.")
    if (proba is None) == (noise == "boundary"):
        raise ValueError(
            "proba goes with noise='boundary', which needs it, and with no other; got "
            f"noise={noise!r} and proba={'None' if proba is None else 'an array'}."
        )
    if proba is None:
        known = np.full((1, len(classes)), 1.0 / len(classes))
    else:
        known = check_proba_rows(
            proba, name="proba", n_samples=len(codes), n_classes=len(classes)
        )
    return classes[_flip(codes, known, noise, rate, random_state)]


def _flip(
    codes: IntArray, proba: FloatArray, noise: str, rate: float, random_state: Any
) -> IntArray:
    """Return codes of which some have turned into others."""
    rng = check_random_state(random_state)
    n_classes = proba.shape[1]
    # The flips come first: of two rates the larger one flips the same labels and more.
    uniform = rng.uniform(size=len(codes))
    if noise == "boundary":
        top, second, of_row = _boundary(proba, rate)
        return np.where(uniform < of_row, np.where(codes == top, second, top), codes)
    steps = rng.randint(1, n_classes, size=len(codes)) if noise == "uniform" else 1
    return np.where(uniform < rate, (codes + steps) % n_classes, codes)


def _flipped_proba(proba: FloatArray, noise: str, rate: float) -> FloatArray:
    """Return the class probabilities of labels of which some have turned."""
    if noise == "uniform":
        return (1 - rate) * proba + rate * (1 - proba) / (proba.shape[1] - 1)
    if noise == "pair":
        return (1 - rate) * proba + rate * np.roll(proba, 1, axis=1)
    top, second, of_row = _boundary(proba, rate)
    rows = np.arange(len(proba))
    flipped = (1 - of_row[:, None]) * proba
    flipped[rows, top] += of_row * (1 - proba[rows, top])
    flipped[rows, second] += of_row * proba[rows, top]
    return flipped


def _boundary(proba: FloatArray, rate: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the two most probable classes of each row, and its share of flips."""
    rows = np.arange(len(proba))
    top = proba.argmax(axis=1)
    others = proba.copy()
    others[rows, top] = -1.0
    second = others.argmax(axis=1)
    margin = proba[rows, top] - proba[rows, second]
    return top, second, rate * (1 - margin**2)


def _check_codes(y: ArrayLike, proba: FloatArray) -> IntArray:
    codes = column_or_1d(y)
    if len(codes) != len(proba):
        raise ValueError(f"y has {len(codes)} rows, but bayes_proba has {len(proba)}.")
    if codes.dtype.kind not in "iu" or codes.min() < 0 or codes.max() >= proba.shape[1]:
        raise ValueError(
            f"y must hold integers from 0 to {proba.shape[1] - 1}, the columns of "
            f"bayes_proba; got {np.unique(codes)!r}."
        )
    return codes


def check_bayes_proba(proba: ArrayLike, name: str) -> FloatArray:
    """Check probabilities of two classes at least.

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_classes)
        What the user passed.
    name : str
        What the error messages call it.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        Rows that sum to 1, float64.

    Raises
    ------
    ValueError
        If they are none.
    """
    matrix = np.asarray(proba)
    if matrix.ndim != 2 or matrix.shape[1] < 2:
        raise ValueError(
            f"{name} must have shape (n_samples, n_classes) with two classes at least, "
            f"got {matrix.shape}."
        )
    return check_proba_rows(
        matrix, name=name, n_samples=matrix.shape[0], n_classes=matrix.shape[1]
    )
