"""From labels and soft labels to what a retrieval student learns, all sparse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.special import expit, logit

from skdistill._retrieval.batches import Targets
from skdistill._retrieval_objectives import (
    MARGIN_LOSSES,
    DecoupledObjective,
    RetrievalObjective,
    SoftmaxObjective,
)
from skdistill._sparse_rows import keep_largest, with_values
from skdistill._typing import FloatArray
from skdistill.losses import negative_log_weight

#: Objectives by name: softmax over all labels, softmax with the teacher's weights on
#: the negatives, and one margin loss for each label.
OBJECTIVES = ("softmax", "double", *MARGIN_LOSSES)


@dataclass(frozen=True)
class Mixture:
    """How labels and soft labels are mixed; the estimator's parameters of that name.

    Attributes
    ----------
    objective : str
        One of `OBJECTIVES`.
    mixing_weight : float
        Weight of the soft labels.
    temperature : float
        Of the soft labels.
    anchor : {"candidate", "observed"}
        Of the negative-aware objective.
    negative_weights : {"complement", "sigmoid"}
        Likewise.
    negative_scale : float
        c of the sigmoid.
    """

    objective: str
    mixing_weight: float
    temperature: float
    anchor: str
    negative_weights: str
    negative_scale: float

    def loss(self) -> RetrievalObjective:
        """Return what is minimised over the targets."""
        if self.objective in MARGIN_LOSSES:
            return DecoupledObjective(self.objective)
        return SoftmaxObjective()

    def targets(
        self,
        indicator: sp.csr_matrix,
        soft_labels: sp.csr_matrix | None,
        *,
        sampled: bool,
    ) -> Targets:
        """Return the targets of labels and, where there are any, soft labels.

        Parameters
        ----------
        indicator : csr_matrix of shape (n_samples, n_labels)
            Labels.
        soft_labels : csr_matrix of shape (n_samples, n_labels) or None
            Non-negative; None: labels only.
        sampled : bool
            Whether batches are scored against some of the labels.

        Returns
        -------
        Targets
            For the objective's loss.
        """
        if self.objective in MARGIN_LOSSES:
            raised = self._margin_targets(indicator, soft_labels)
            if not sampled:
                return Targets(raised)
            # With importance weights the default weights, 1 - t, have to be said.
            return Targets(raised, with_values(raised, _log_rest(raised.data)))
        labels = normalised(indicator)
        if soft_labels is None:
            return Targets(labels)
        proba = tempered(soft_labels, self.temperature)
        raised = mixed(labels, proba, self.mixing_weight)
        if self.objective == "softmax":
            return Targets(raised)
        anchors = None
        if self.anchor == "observed":
            anchors = sp.diags(np.asarray(raised.sum(axis=1)).ravel()) @ labels
            anchors = _float32(anchors)
            # A row without labels is anchored at its soft labels.
            alone = np.diff(labels.indptr) == 0
            anchors = _float32(anchors + sp.diags(alone.astype(np.float32)) @ raised)
        return Targets(raised, self._log_weight(soft_labels, proba), anchors)

    def _log_weight(
        self, soft_labels: sp.csr_matrix, proba: sp.csr_matrix
    ) -> sp.csr_matrix:
        """Return log a where the teacher has seen a chance; elsewhere it is zero."""
        if self.negative_weights == "complement":
            # float64: the least weight is below the precision of float32.
            chance = np.minimum(proba.data.astype(np.float64), 1.0)
            values = negative_log_weight(chance)
            return with_values(proba, values)
        chance = np.clip(soft_labels.data.astype(np.float64), 1e-30, 1.0 - 1e-7)
        values = negative_log_weight(
            logit(chance), kind="sigmoid", scale=self.negative_scale
        )
        return with_values(proba, values)

    def _margin_targets(
        self, indicator: sp.csr_matrix, soft_labels: sp.csr_matrix | None
    ) -> sp.csr_matrix:
        """Return chances of each label: losses of margins take them one by one."""
        if soft_labels is None:
            return _float32(indicator)
        chance = np.clip(soft_labels.data, 0.0, 1.0)
        if self.temperature != 1.0:
            # By logits: powers of both chances may be too small for a float.
            chance = expit(logit(chance.astype(np.float64)) / self.temperature)
        marginal = with_values(soft_labels, chance)
        return mixed(_float32(indicator), marginal, self.mixing_weight)


def _log_rest(chance: FloatArray) -> FloatArray:
    """Return log(1 - t), minus infinity for one."""
    with np.errstate(divide="ignore"):
        rest: FloatArray = np.log1p(-np.minimum(chance, 1.0))
    return rest


def mixed(
    labels: sp.csr_matrix, proba: sp.csr_matrix, mixing_weight: float
) -> sp.csr_matrix:
    """Return ``(1 - a) labels + a proba``; a row that lacks one takes the other.

    Parameters
    ----------
    labels, proba : csr_matrix of shape (n_samples, n_labels)
        Targets of either kind.
    mixing_weight : float
        a, in [0, 1].

    Returns
    -------
    csr_matrix of shape (n_samples, n_labels)
        The mixture, float32.
    """
    weight = np.full(labels.shape[0], mixing_weight)
    weight[np.diff(labels.indptr) == 0] = 1.0
    weight[np.diff(proba.indptr) == 0] = 0.0
    return _float32(sp.diags(1.0 - weight) @ labels + sp.diags(weight) @ proba)


def normalised(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Divide each row by its sum; rows of zeros stay.

    Parameters
    ----------
    matrix : csr_matrix
        Non-negative values.

    Returns
    -------
    csr_matrix
        Rows that sum to 1, or to 0; float32.
    """
    total = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    total[total == 0] = 1.0
    return with_values(matrix, matrix.data / np.repeat(total, np.diff(matrix.indptr)))


def tempered(soft_labels: sp.csr_matrix, temperature: float) -> sp.csr_matrix:
    """Return ``p ** (1 / T)``, rows summing to 1.

    Parameters
    ----------
    soft_labels : csr_matrix of shape (n_samples, n_labels)
        Non-negative values p.
    temperature : float
        T, positive.

    Returns
    -------
    csr_matrix of shape (n_samples, n_labels)
        Rows that sum to 1, or to 0 where there was nothing.
    """
    if temperature == 1.0:
        return normalised(soft_labels)
    lengths = np.diff(soft_labels.indptr)
    largest = np.asarray(soft_labels.max(axis=1).todense(), dtype=np.float64).ravel()
    largest[largest == 0] = 1.0
    ratio = soft_labels.data / np.repeat(largest, lengths)
    return normalised(with_values(soft_labels, ratio ** (1.0 / temperature)))


def _float32(matrix: Any) -> sp.csr_matrix:
    return sp.csr_matrix(matrix, dtype=np.float32)


def check_sparse_soft_labels(
    soft_labels: Any, shape: tuple[int, int], top_k: int
) -> sp.csr_matrix:
    """Check soft labels of many labels and keep the largest of each row.

    Parameters
    ----------
    soft_labels : sparse matrix or array of shape (n_samples, n_labels)
        Non-negative; a row's sum is free. Mass on labels that the row does not have is
        the point of them.
    shape : (int, int)
        The required shape.
    top_k : int
        How many are kept of each row.

    Returns
    -------
    csr_matrix of shape (n_samples, n_labels)
        Positive values, sorted columns, float32.

    Raises
    ------
    ValueError
        If the shape is wrong, or a value is negative or not finite; the message names
        the first such row.
    """
    try:
        matrix = sp.csr_matrix(soft_labels, copy=True)
        matrix.data = matrix.data.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "soft_labels must be a numeric sparse matrix or array of shape "
            f"{shape}, got {type(soft_labels).__name__}: {error}"
        ) from error
    if matrix.shape != shape:
        raise ValueError(
            f"soft_labels must have shape (n_samples, n_labels) = {shape}, got "
            f"{matrix.shape}."
        )
    matrix.sum_duplicates()
    bad = ~np.isfinite(matrix.data) | (matrix.data < 0)
    if bad.any():
        first = int(np.argmax(bad))
        row = int(np.searchsorted(matrix.indptr, first, side="right")) - 1
        raise ValueError(
            f"soft_labels: row {row} holds {matrix.data[first]} for label "
            f"{matrix.indices[first]}; values must be finite and not negative."
        )
    matrix.eliminate_zeros()
    return keep_largest(matrix, top_k)
