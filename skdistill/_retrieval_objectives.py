"""Losses of a row over many labels and their slopes, also where labels come in chunks.

The logits f of a batch are rows of candidate labels: all labels, the labels drawn for
the batch, or one chunk of them after the other. A chunk is absorbed into a few numbers
a row; when all are, the losses and the slope of each chunk can be had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from skdistill._backend import (
    Array,
    logsumexp,
    namespace,
    nonzero,
    sigmoid,
    softplus,
    sum_by_row,
)

#: A difference of 1 - w that is lost in the dtype; its logarithm is finite in float32.
_SMALLEST_GAP = 1e-30


class RetrievalObjective(Protocol):
    """What is minimised over the rows of a batch; chunks of labels come in any order.

    In each method `logits` are those of a chunk, (B, c); `targets` say how much each
    label is raised, (B, c); `log_weight` is the logarithm of the weight of each label
    as a negative, (B, c) or (1, c), None for the objective's default.
    """

    def start(self, n_rows: int, dtype_of: Array) -> RowSums:
        """Return the sums of rows that have seen no label."""

    def absorb(
        self,
        sums: RowSums,
        logits: Array,
        targets: Array,
        log_weight: Array | None = None,
        anchors: Array | None = None,
    ) -> None:
        """Add a chunk to the sums."""

    def finish(self, sums: RowSums) -> Array:
        """Return the loss of each row, (B,)."""

    def slope(
        self,
        sums: RowSums,
        logits: Array,
        targets: Array,
        log_weight: Array | None = None,
        anchors: Array | None = None,
    ) -> Array:
        """Return the slope of each row's loss in its logits, (B, c)."""


@dataclass
class RowSums:
    """What is known of the rows from the chunks absorbed so far.

    Attributes
    ----------
    raised : array of shape (B,)
        Sum of what does not need all labels: ``-t f``, or losses of margins.
    log_total : array of shape (B,)
        Logarithm of the sum of ``w exp(f)``.
    mass : array of shape (B,)
        Sum of the anchors; after `finish` of ``s exp(log_total - z)``.
    own : list of (rows, logits, log-weights, anchors)
        The anchors whose weight as a negative is not 1.
    """

    raised: Array
    log_total: Array
    mass: Array
    own: list[tuple[Array, Array, Array, Array]] = field(default_factory=list)


def _empty_sums(n_rows: int, dtype_of: Array) -> RowSums:
    """Return zeros in the library, dtype and device of the logits."""
    xp = namespace(dtype_of)
    place = {} if xp is np else {"device": dtype_of.device}
    zeros = xp.zeros(n_rows, dtype=dtype_of.dtype, **place)
    return RowSums(zeros, zeros - np.inf, zeros)


@dataclass(frozen=True)
class SoftmaxObjective:
    r"""Softmax over weighted negatives, anchored at one label after the other.

    .. math::
        \sum_y s_y \log\Bigl(e^{f_y} + \sum_{j \ne y} w_j e^{f_j}\Bigr)
        - \sum_y t_y f_y

    Targets t, anchors s of the same sum (by default the targets), weights w. All
    softmax losses over many labels are this one: see `_retrieval_losses`.
    """

    def start(self, n_rows: int, dtype_of: Array) -> RowSums:
        """Return the sums of rows that have seen no label."""
        return _empty_sums(n_rows, dtype_of)

    def absorb(
        self,
        sums: RowSums,
        logits: Array,
        targets: Array,
        log_weight: Array | None = None,
        anchors: Array | None = None,
    ) -> None:
        """Add a chunk to the sums."""
        xp = namespace(logits)
        anchors = targets if anchors is None else anchors
        weighted = logits if log_weight is None else logits + log_weight
        sums.log_total = xp.logaddexp(sums.log_total, logsumexp(weighted))
        sums.raised = sums.raised - (targets * logits).sum(-1)
        sums.mass = sums.mass + anchors.sum(-1)
        if log_weight is not None:
            log_weight = xp.broadcast_to(log_weight, logits.shape)
            index = nonzero((anchors != 0) & (log_weight != 0))
            own = (logits[index], log_weight[index], anchors[index])
            sums.own.append((index[0], *own))

    def finish(self, sums: RowSums) -> Array:
        """Return the loss of each row, (B,)."""
        xp = namespace(sums.raised)
        # A row without a target may have met no label, and then has no total.
        log_total = xp.where(sums.mass == 0, 0.0, sums.log_total)
        losses = sums.raised + sums.mass * log_total
        for rows, own_logits, log_weight, anchors in sums.own:
            excess = _excess(own_logits - sums.log_total[rows], log_weight)
            losses = losses + sum_by_row(rows, anchors * excess, len(losses))
            rest = sum_by_row(rows, anchors * xp.expm1(-excess), len(losses))
            sums.mass = sums.mass + rest
        return losses

    def slope(
        self,
        sums: RowSums,
        logits: Array,
        targets: Array,
        log_weight: Array | None = None,
        anchors: Array | None = None,
    ) -> Array:
        """Return the slope of each row's loss in its logits, (B, c)."""
        xp = namespace(logits)
        above = logits - sums.log_total[:, None]
        if log_weight is None:
            slope = xp.exp(above, out=above)
        else:
            slope = xp.exp(above + log_weight)
        slope *= sums.mass[:, None]
        slope -= targets
        if log_weight is not None:
            anchors = targets if anchors is None else anchors
            log_weight = xp.broadcast_to(log_weight, logits.shape)
            index = nonzero((anchors != 0) & (log_weight != 0))
            share, log_weight = above[index], log_weight[index]
            share = share - _excess(share, log_weight)
            gap = xp.exp(share) - xp.exp(share + log_weight)
            slope[index] += anchors[index] * gap
        return slope


def _excess(above: Array, log_weight: Array) -> Array:
    """Return log(1 + (1 - w) exp(above)): z_y less the log-total, at f_y above it.

    Below a weight of 1 it is a sum of positive terms. Above, w exp(above) is at most 1,
    and what is left of 1 is at least exp(above).
    """
    xp = namespace(above)
    low = xp.clip(log_weight, None, -_SMALLEST_GAP)
    high = xp.clip(log_weight, 0.0, None)
    share = xp.exp(xp.clip(above + log_weight, None, 0.0))
    added = softplus(above + xp.log(-xp.expm1(low)))
    return added + xp.log1p(share * xp.expm1(-high))


# -- losses of margins --------------------------------------------------------------


def _hinge(margin: Array) -> Array:
    return namespace(margin).clip(1.0 - margin, 0.0, None)


def _hinge_slope(margin: Array) -> Array:
    return -namespace(margin).where(margin < 1.0, 1.0, 0.0 * margin)


#: Losses of a margin z and their derivatives.
MARGIN_LOSSES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "hinge": (_hinge, _hinge_slope),
    "logistic": (lambda z: softplus(-z), lambda z: -sigmoid(-z)),
    "squared": (lambda z: (1.0 - z) ** 2, lambda z: -2.0 * (1.0 - z)),
}


@dataclass(frozen=True)
class DecoupledObjective:
    r"""Losses of margins, each label on its own.

    .. math:: \sum_y \bigl[ t_y \varphi(f_y) + w_y \varphi(-f_y) \bigr]

    Targets t between 0 and 1; weights w, by default 1 - t.

    Attributes
    ----------
    margin : {"hinge", "logistic", "squared"}
        The loss of the margin.
    """

    margin: str = "logistic"

    def start(self, n_rows: int, dtype_of: Array) -> RowSums:
        """Return the sums of rows that have seen no label."""
        return _empty_sums(n_rows, dtype_of)

    def absorb(
        self,
        sums: RowSums,
        logits: Array,
        targets: Array,
        log_weight: Array | None = None,
        anchors: Array | None = None,
    ) -> None:
        """Add a chunk to the sums; there are no anchors here."""
        loss, _ = MARGIN_LOSSES[self.margin]
        weight = self._weight(targets, log_weight)
        sums.raised = sums.raised + (targets * loss(logits)).sum(-1)
        sums.raised = sums.raised + (weight * loss(-logits)).sum(-1)

    def finish(self, sums: RowSums) -> Array:
        """Return the loss of each row, (B,)."""
        return sums.raised

    def slope(
        self,
        sums: RowSums,
        logits: Array,
        targets: Array,
        log_weight: Array | None = None,
        anchors: Array | None = None,
    ) -> Array:
        """Return the slope of each row's loss in its logits, (B, c)."""
        _, slope = MARGIN_LOSSES[self.margin]
        weight = self._weight(targets, log_weight)
        return targets * slope(logits) - weight * slope(-logits)

    @staticmethod
    def _weight(targets: Array, log_weight: Array | None) -> Array:
        """Return the weights of the labels as negatives."""
        if log_weight is None:
            return 1.0 - targets
        return namespace(targets).exp(log_weight)


def loss_and_slope(
    objective: RetrievalObjective,
    logits: Array,
    targets: Array,
    log_weight: Array | None = None,
    anchors: Array | None = None,
) -> tuple[Array, Array]:
    """Return the losses of rows, all of whose labels are here, and their slope.

    Parameters
    ----------
    objective : SoftmaxObjective or DecoupledObjective
        What is minimised.
    logits, targets : array or tensor of shape (B, C)
        Logits f and targets t.
    log_weight : array or tensor of shape (B, C) or (1, C), default=None
        Logarithm of the weights of the labels as negatives.
    anchors : array or tensor of shape (B, C), default=None
        Anchors s; None means the targets.

    Returns
    -------
    losses : array or tensor of shape (B,)
        Loss of each row.
    slope : array or tensor of shape (B, C)
        Derivative of each row's loss in its logits.
    """
    sums = objective.start(len(logits), logits)
    objective.absorb(sums, logits, targets, log_weight, anchors)
    losses = objective.finish(sums)
    return losses, objective.slope(sums, logits, targets, log_weight, anchors)
