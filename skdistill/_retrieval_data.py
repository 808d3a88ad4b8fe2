"""Sparse multilabel data whose probabilities are known."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.special import expit
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from skdistill._typing import FloatArray

#: Rows over which the frequencies of the labels are set; halvings that this takes.
N_CALIBRATION_ROWS = 500
N_HALVINGS = 30
#: Entries of a block of probabilities.
BLOCK = 4_000_000


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 2, None, closed="left")],
        "n_labels": [Interval(Integral, 2, None, closed="left")],
        "labels_per_row": [Interval(Real, 0, None, closed="neither")],
        "words_per_row": [Interval(Integral, 1, None, closed="left")],
        "n_factors": [Interval(Integral, 1, None, closed="left")],
        "strength": [Interval(Real, 0, None, closed="left")],
        "skew": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_retrieval(
    n_samples: int = 2000,
    n_features: int = 2000,
    n_labels: int = 1000,
    *,
    labels_per_row: float = 5.0,
    words_per_row: int = 30,
    n_factors: int = 40,
    strength: float = 3.0,
    skew: float = 1.0,
    random_state: Any = None,
) -> tuple[sp.csr_matrix, sp.csr_matrix, FloatArray]:
    r"""Make documents with several of many labels, and the probability of each.

    .. math::
        P(y_j = 1 \mid x) = \sigma\bigl(\beta\, u_j^\top z(x) + b_j\bigr), \qquad
        z(x) = \frac{E^\top x}{\lVert E^\top x \rVert} \sqrt{d}

    for a document x of unit length, standard normal vectors :math:`u_j` (scaled to the
    length 1) of labels and :math:`E` of words, in d factors. The labels of a document
    are independent given x. Words are drawn by rank, :math:`\propto 1 / \text{rank}`,
    half of them from the words of one subject, so that documents come in groups.
    Intercepts :math:`b_j` are such that label j has a mean probability
    :math:`\propto (j + 1)^{-s}`, of the given sum: the first labels are frequent, most
    are rare.

    Parameters
    ----------
    n_samples : int, default=2000
        Number of documents.
    n_features : int, default=2000
        Number of words, at least 2.
    n_labels : int, default=1000
        Number of labels, at least 2.
    labels_per_row : float, default=5.0
        Mean number of labels of a document, positive and below half of `n_labels`.
    words_per_row : int, default=30
        Number of words that are drawn for a document. Repeated words are counted.
    n_factors : int, default=40
        d. A student with fewer dimensions cannot have the probabilities.
    strength : float, default=3.0
        :math:`\beta`, not negative: how much the words say of the labels.
    skew : float, default=1.0
        s, not negative.
    random_state : int, RandomState instance or None, default=None
        Seed of the data.

    Returns
    -------
    X : csr_matrix of shape (n_samples, n_features)
        Documents, of unit length, float32.
    Y : csr_matrix of shape (n_samples, n_labels)
        1 for each label of a document, int32. Some documents have none.
    bayes_proba : ndarray of shape (n_samples, n_labels)
        :math:`P(y_j = 1 \mid x)`, float32: dense, so 40 MB for 1,000 documents and
        10,000 labels.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> from skdistill.datasets import make_retrieval
    >>> X, Y, bayes_proba = make_retrieval(500, 300, 100, random_state=0)
    >>> X.shape, Y.shape, bayes_proba.shape
    ((500, 300), (500, 100), (500, 100))
    >>> float(Y.sum() / 500), float(bayes_proba.sum() / 500)  # doctest: +ELLIPSIS
    (5..., 5...)
    """
    if not labels_per_row < n_labels / 2:
        raise ValueError(
            f"labels_per_row={labels_per_row!r} must be below half of "
            f"n_labels={n_labels!r}."
        )
    rng = check_random_state(random_state)
    X = _documents(n_samples, n_features, words_per_row, rng)
    z = X @ rng.standard_normal((n_features, n_factors)).astype(np.float32)
    z *= np.sqrt(n_factors) / np.linalg.norm(z, axis=1, keepdims=True)
    u = rng.standard_normal((n_factors, n_labels)).astype(np.float32)
    u *= np.float32(strength) / np.linalg.norm(u, axis=0)
    intercepts = _intercepts(z, u, _frequencies(n_labels, labels_per_row, skew))
    proba = np.empty((n_samples, n_labels), dtype=np.float32)
    parts = []
    step = max(1, BLOCK // n_labels)
    for start in range(0, n_samples, step):
        block = expit(z[start : start + step] @ u + intercepts)
        proba[start : start + step] = block
        drawn = rng.random_sample(block.shape) < block
        parts.append(sp.csr_matrix(drawn, dtype=np.int32))
    return X, sp.vstack(parts).tocsr(), proba


def _documents(n_rows: int, n_words: int, n_drawn: int, rng: Any) -> sp.csr_matrix:
    """Draw documents of unit length, half of each from the words of one subject."""
    upto = np.cumsum(1.0 / np.arange(1, n_words + 1))
    upto /= upto[-1]
    words = np.searchsorted(upto, rng.random_sample((n_rows, n_drawn)))
    # A subject orders the words anew: its own common words come first.
    n_subjects = max(2, n_words // 50)
    orders = np.array([rng.permutation(n_words) for _ in range(n_subjects)])
    subject = rng.randint(n_subjects, size=n_rows)
    half = n_drawn // 2
    words[:, :half] = orders[subject[:, None], words[:, :half]]
    indptr = np.arange(0, n_rows * n_drawn + 1, n_drawn)
    ones = np.ones(n_rows * n_drawn, dtype=np.float32)
    X = sp.csr_matrix((ones, words.ravel(), indptr), shape=(n_rows, n_words))
    X.sum_duplicates()
    length = np.sqrt(X.multiply(X).sum(axis=1)).A1.astype(np.float32)
    X.data /= np.repeat(length, np.diff(X.indptr))
    return X


def _frequencies(n_labels: int, labels_per_row: float, skew: float) -> FloatArray:
    """Return mean probabilities of the labels: a power of the rank, at most 1 / 2."""
    shares = np.arange(1, n_labels + 1) ** -float(skew)
    # What is cut from the most frequent labels is given to the others.
    low, high = 0.0, n_labels * labels_per_row / shares.min()
    for _ in range(200):
        factor = (low + high) / 2
        too_many = np.minimum(factor * shares, 0.5).sum() > labels_per_row
        low, high = (low, factor) if too_many else (factor, high)
    return np.minimum(low * shares, 0.5)


def _intercepts(z: FloatArray, u: FloatArray, frequencies: FloatArray) -> FloatArray:
    """Return intercepts with which the labels have their frequencies, by halving."""
    scores = z[:N_CALIBRATION_ROWS] @ u
    widest = np.abs(scores).max(axis=0) + 1.0
    centre = np.log(frequencies / (1.0 - frequencies))
    low, high = centre - widest, centre + widest
    for _ in range(N_HALVINGS):
        middle = (low + high) / 2
        below = expit(scores + middle.astype(np.float32)).mean(axis=0) < frequencies
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return ((low + high) / 2).astype(np.float32)
