"""Which labels a batch is compared with, and how likely each was to be among them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from skdistill._typing import FloatArray

IntArray = NDArray[np.integer]

PROPOSALS = ("uniform", "frequency", "mixed", "in-batch")


class Proposal(Protocol):
    """Draws the candidate labels of a batch.

    For a row that does not support a candidate, ``exp(-log_inclusion)`` is its
    importance weight: the weighted sum over the candidates is an unbiased estimate of
    the sum over all labels. A row's own labels are always candidates; theirs is 1.
    """

    def draw(
        self, own: IntArray, rng: np.random.Generator
    ) -> tuple[IntArray, FloatArray]:
        """Return candidate labels, sorted, and the logarithms of their inclusion.

        Parameters
        ----------
        own : ndarray of int
            The labels that rows of the batch support, in any order, repeated or not.
        rng : numpy.random.Generator
            The source of randomness.
        """


class DrawnNegatives:
    r"""The labels of the batch, and others by independent draws.

    A label of the batch is a candidate for sure, another one with the probability

    .. math:: \pi_j = 1 - (1 - q_j)^m

    of being in m draws of probabilities q. Time and memory of a draw grow with m and
    with the logarithm of the number of labels only.

    Parameters
    ----------
    n_labels : int
        Number of labels.
    n_draws : int
        m, at least 0. Repeated draws count once, so there are at most so many.
    weight : ndarray of shape (n_labels,) or None, default=None
        Proportional to q, positive. None means the same for all.
    """

    def __init__(
        self, n_labels: int, n_draws: int, weight: FloatArray | None = None
    ) -> None:
        self.n_labels = n_labels
        self.n_draws = n_draws
        self._upto: FloatArray | None = None
        if weight is not None:
            self._upto = np.cumsum(weight, dtype=np.float64)
            self._upto /= self._upto[-1]

    def draw(
        self, own: IntArray, rng: np.random.Generator
    ) -> tuple[IntArray, FloatArray]:
        """Return candidate labels, sorted, and the logarithms of their inclusion."""
        own = np.unique(own)
        if self._upto is None:
            drawn = rng.integers(self.n_labels, size=self.n_draws)
        else:
            # In order, each search begins where the one before has ended.
            chances = np.sort(rng.random(self.n_draws))
            drawn = np.searchsorted(self._upto, chances, side="right")
        candidates = np.union1d(own, drawn)
        log_inclusion = self._log_drawn(candidates)
        log_inclusion[np.searchsorted(candidates, own)] = 0.0
        return candidates, log_inclusion

    def _log_drawn(self, labels: IntArray) -> FloatArray:
        """Return the logarithms of the probabilities of being drawn."""
        if self.n_draws == 0:
            return np.full(len(labels), -np.inf)
        if self._upto is None:
            q = np.full(len(labels), 1.0 / self.n_labels)
        else:
            q = self._upto[labels] - np.where(labels > 0, self._upto[labels - 1], 0.0)
        # Of a label that cannot be drawn, or is always, they are infinite, and rightly.
        with np.errstate(divide="ignore"):
            return np.log(-np.expm1(self.n_draws * np.log1p(-q)))


class InBatchNegatives:
    r"""The labels of the other rows of the batch and no others.

    In a random batch of B out of N rows, label j is one of another row's labels with
    the probability

    .. math:: \pi_j = 1 - \binom{N - 1 - n_j}{B - 1} \Big/ \binom{N - 1}{B - 1}

    where :math:`n_j` rows support it, and the row in question does not.

    Parameters
    ----------
    label_counts : ndarray of shape (n_labels,)
        :math:`n_j`.
    n_rows, batch_size : int
        N and B. With ``B = 1`` there are no negatives: all candidates are labels of the
        row, of weight 1.
    """

    def __init__(self, label_counts: IntArray, n_rows: int, batch_size: int) -> None:
        counts = np.asarray(label_counts, dtype=np.float64)
        n, b = n_rows - 1.0, min(batch_size, n_rows) - 1.0
        # (n - c choose b) / (n choose b), 0 where no batch can avoid the label.
        avoidable = n - counts >= b
        rest = np.where(avoidable, n - counts, b)
        log_missed = gammaln(rest + 1) - gammaln(rest - b + 1)
        log_missed -= gammaln(n + 1) - gammaln(n - b + 1)
        missed = np.where(avoidable, np.exp(np.minimum(log_missed, 0.0)), 0.0)
        if b == 0:
            missed[:] = 0.0
        with np.errstate(divide="ignore"):
            self._log_inclusion = np.log1p(-missed)

    def draw(
        self, own: IntArray, rng: np.random.Generator
    ) -> tuple[IntArray, FloatArray]:
        """Return the labels of the batch and the logarithms of their inclusion."""
        candidates = np.unique(own)
        return candidates, self._log_inclusion[candidates]


def make_proposal(
    kind: str,
    label_counts: IntArray,
    *,
    n_rows: int,
    batch_size: int,
    n_negatives: int,
    power: float = 0.75,
) -> Proposal:
    r"""Return the proposal of a name.

    Parameters
    ----------
    kind : {"uniform", "frequency", "mixed", "in-batch"}
        Draw all labels alike; by :math:`(n_j + 1)^r`, so that labels without a row are
        drawn as well; by half of each; or not at all: only labels of the batch.
    label_counts : ndarray of shape (n_labels,)
        In how many rows each label is supported, :math:`n_j`.
    n_rows, batch_size : int
        Of the training set.
    n_negatives : int
        Number of draws. Not used by "in-batch".
    power : float, default=0.75
        r, at least 0.

    Returns
    -------
    proposal : DrawnNegatives or InBatchNegatives
        What draws the candidates.

    Raises
    ------
    ValueError
        If `kind` is unknown, or `n_negatives` or `power` is negative.
    """
    if kind not in PROPOSALS:
        raise ValueError(f"proposal={kind!r} must be one of {list(PROPOSALS)}.")
    if n_negatives < 0 or power < 0:
        raise ValueError(
            f"n_negatives={n_negatives!r} and power={power!r} must be at least 0."
        )
    if kind == "in-batch":
        return InBatchNegatives(label_counts, n_rows, batch_size)
    n_labels = len(label_counts)
    if kind == "uniform":
        return DrawnNegatives(n_labels, n_negatives)
    weight = (np.asarray(label_counts, dtype=np.float64) + 1.0) ** power
    weight /= weight.sum()
    if kind == "mixed":
        weight = 0.5 * weight + 0.5 / n_labels
    return DrawnNegatives(n_labels, n_negatives, weight)
