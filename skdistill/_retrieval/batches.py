"""Batches of sparse rows with many labels: what a step of retrieval training needs.

All that is random in a step follows from the seed and the step's number, so that
training can go on from any step as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import scipy.sparse as sp

from skdistill._hidden_units import pooled
from skdistill._retrieval.centroids import Offsets, Residual
from skdistill._typing import FloatArray, IntArray

if TYPE_CHECKING:
    import torch


class InputBlock(Protocol):
    """Inputs of some rows, to be multiplied with a table of feature embeddings."""

    def product(self, table: torch.Tensor) -> torch.Tensor:
        """Return ``x @ table``, shape (B, dim)."""

    def transposed(
        self, slope: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return ``x.T @ slope``: features (None: all) and their rows."""


class SparseBlock:
    """Sparse rows: sums of the embeddings of the features present.

    Parameters
    ----------
    X : csr_matrix of shape (B, n_features)
        The rows.
    device : str
        Torch device.
    dtype : torch.dtype
        Type of the values.
    """

    def __init__(self, X: sp.csr_matrix, device: str, dtype: torch.dtype) -> None:
        self._X = X
        self._device = device
        self._dtype = dtype

    def product(self, table: torch.Tensor) -> torch.Tensor:
        """Return the weighted sums of the embeddings of each row's features."""
        X = self._X
        return self._sums(table, X.indices, X.indptr, X.data)

    def transposed(self, slope: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features present and the sums of the slopes of their rows."""
        import torch

        X = self._X
        order = np.argsort(X.indices, kind="stable")
        features, starts = np.unique(X.indices[order], return_index=True)
        rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))[order]
        ends = np.append(starts, len(order))
        sums = self._sums(slope, rows, ends, X.data[order])
        return torch.from_numpy(features.astype(np.int64)).to(self._device), sums

    def _sums(
        self, table: torch.Tensor, rows: IntArray, ends: IntArray, weights: FloatArray
    ) -> torch.Tensor:
        """Return weighted sums of the table's rows between one end and the next."""
        import torch

        return torch.nn.functional.embedding_bag(
            torch.from_numpy(rows.astype(np.int64)).to(self._device),
            table,
            torch.from_numpy(ends.astype(np.int64)).to(self._device),
            mode="sum",
            per_sample_weights=torch.from_numpy(weights).to(self._device, self._dtype),
            include_last_offset=True,
        )


class DenseBlock:
    """Dense rows: a matrix product.

    Parameters
    ----------
    X : ndarray of shape (B, n_features)
        The rows.
    device : str
        Torch device.
    dtype : torch.dtype
        Type of the values.
    """

    def __init__(self, X: FloatArray, device: str, dtype: torch.dtype) -> None:
        import torch

        self._x = torch.from_numpy(np.require(X, requirements="W")).to(device, dtype)

    def product(self, table: torch.Tensor) -> torch.Tensor:
        """Return ``x @ table``."""
        return self._x @ table

    def transposed(self, slope: torch.Tensor) -> tuple[None, torch.Tensor]:
        """Return ``x.T @ slope`` for all features."""
        return None, self._x.T @ slope


def input_block(X: Any, device: str, dtype: torch.dtype) -> InputBlock:
    """Return rows of inputs in the form that suits them.

    Parameters
    ----------
    X : csr_matrix or ndarray of shape (B, n_features)
        The rows.
    device : str
        Torch device.
    dtype : torch.dtype
        Type of the values.

    Returns
    -------
    InputBlock
        The rows, to be multiplied with a table.
    """
    return (SparseBlock if sp.issparse(X) else DenseBlock)(X, device, dtype)


class Draw(Protocol):
    """Draws the labels that a batch is scored against."""

    def draw(
        self, own_ids: IntArray, rng: np.random.Generator
    ) -> tuple[IntArray, FloatArray]:
        """Return sorted labels, `own_ids` among them, and log inclusion chances."""


@dataclass(frozen=True)
class Targets:
    """What is learned of each row, as sparse matrices (n_samples, n_labels).

    Attributes
    ----------
    raised : csr_matrix
        How much each label is raised; its entries are the row's own labels.
    log_weight : csr_matrix or None
        Logarithm of the weight of a label as a negative, where it is not 1.
    anchors : csr_matrix or None
        Anchors, where they are not what is raised.
    """

    raised: sp.csr_matrix
    log_weight: sp.csr_matrix | None = None
    anchors: sp.csr_matrix | None = None

    def rows(self, rows: Any) -> Targets:
        """Return some of the rows."""
        return self._each(lambda matrix: matrix[rows])

    def columns(self, columns: Any) -> Targets:
        """Return some of the labels."""
        return self._each(lambda matrix: matrix[:, columns])

    def among(self, candidates: IntArray) -> Targets:
        """Return the rows with the candidates as columns; each entry is one of them."""

        def renumbered(matrix: sp.csr_matrix) -> sp.csr_matrix:
            columns = np.searchsorted(candidates, matrix.indices)
            shape = (matrix.shape[0], len(candidates))
            return sp.csr_matrix((matrix.data, columns, matrix.indptr), shape=shape)

        return self._each(renumbered)

    def matrices(self) -> list[sp.csr_matrix]:
        """Return those that there are: a row's own labels are their entries."""
        parts = (self.raised, self.log_weight, self.anchors)
        return [part for part in parts if part is not None]

    def places(self) -> tuple[IntArray, IntArray]:
        """Return rows and columns of the rows' own labels; some come twice."""
        parts = self.matrices()
        rows = [np.repeat(np.arange(p.shape[0]), np.diff(p.indptr)) for p in parts]
        return np.concatenate(rows), np.concatenate([p.indices for p in parts])

    def _each(self, change: Any) -> Targets:
        parts = (self.raised, self.log_weight, self.anchors)
        return Targets(*(None if p is None else change(p) for p in parts))


@dataclass
class RetrievalBatch:
    """Rows of a step with the labels that they are scored against.

    Attributes
    ----------
    inputs : InputBlock
        The rows.
    targets : Targets
        With a column for each candidate.
    candidates : LongTensor of shape (C,) or None
        Labels that the rows are scored against; None: all.
    log_importance : tensor of shape (1, C) or None
        Logarithm of the weights that make up for the labels not drawn.
    offsets : Offsets or None
        What is added to the logits: their sparse part.
    rng : Generator
        Source of what is random in the rest of the step.
    x : tensor
        A value on the device that training happens on.
    weights_in_logits : bool
        Whether the logarithms of the weights are added to the logits: to a softmax
        that is the same where a row's own labels weigh 1, and faster.
    """

    inputs: InputBlock
    targets: Targets
    candidates: torch.Tensor | None
    log_importance: torch.Tensor | None
    offsets: Offsets | None
    rng: np.random.Generator
    x: torch.Tensor = field(repr=False)
    weights_in_logits: bool = False

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.targets.raised.shape[0])

    def part(self, rows: slice, labels: slice) -> Targets:
        """Return the targets of a block."""
        part = self.targets.rows(rows)
        if labels.stop - labels.start < part.raised.shape[1]:
            part = part.columns(labels)
        return part

    def added_to_logits(self, labels: slice) -> torch.Tensor | None:
        """Return what all but a row's own labels get added, if that is how to do it."""
        if self.log_importance is None or not self.weights_in_logits:
            return None
        return self.log_importance[0, labels]

    def dense(
        self, part: Targets, labels: slice
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Return targets, log-weights and anchors of a block, dense."""
        import torch

        raised, log_weight, anchors = (
            None if m is None else torch.from_numpy(m.toarray()).to(self.x)
            for m in (part.raised, part.log_weight, part.anchors)
        )
        assert raised is not None
        if self.log_importance is not None and not self.weights_in_logits:
            importance = self.log_importance[:, labels]
            own = torch.zeros(raised.shape, dtype=torch.bool, device="cpu")
            own[part.places()] = True
            importance = importance.masked_fill(own.to(self.x.device), 0.0)
            log_weight = importance if log_weight is None else log_weight + importance
        return raised, log_weight, anchors

    def shards(self) -> None:
        """Return None: the stack divides the work itself."""

    def loss_and_slope(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Refuse: a stack of embeddings never holds all logits of a batch."""
        raise TypeError("A batch of retrieval is scored by its stack, in chunks.")


@dataclass
class RetrievalSet:
    """Rows to learn retrieval from; an "epoch" of it is a fixed number of steps.

    The training loop reports, and can be gone on with, after each of its epochs. With
    a million rows a pass takes hours, so here they are stretches of a pass.

    Attributes
    ----------
    X : csr_matrix or ndarray of shape (n_samples, n_features)
        Inputs.
    targets : Targets
        What is learned.
    proposal : Draw or None
        Draws the candidates of a batch; None: all labels.
    residual : Residual or None
        The sparse part of the logits.
    x : tensor
        A value on the device that training happens on, of its type.
    batch_size : int
        Rows of a step.
    seed : int
        All that is random follows from it and the number of the step.
    n_steps : int
        Steps of a stretch.
    total_steps : int
        Steps in all.
    position : int
        Steps taken.
    pooling : {"sum", "mean"}
        How the embeddings of the features of a row become one.
    """

    X: Any
    targets: Targets
    proposal: Draw | None
    residual: Residual | None
    x: torch.Tensor
    batch_size: int
    seed: int
    n_steps: int
    total_steps: int
    position: int = 0
    pooling: str = "sum"
    validation_rows: None = None
    _order: tuple[int, IntArray] | None = None

    @property
    def train_rows(self) -> torch.Tensor:
        """All rows, as the loop counts them."""
        import torch

        return torch.empty(1, self.X.shape[0], 0, device="cpu")

    @property
    def steps_per_pass(self) -> int:
        """Batches of one pass over the rows; they differ by at most one row."""
        return int(-(-self.X.shape[0] // self.batch_size))

    def epoch(
        self, batch_size: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[RetrievalBatch, float]]:
        """Yield the batches of the next stretch, each with its share of the loss."""
        last = min(self.position + self.n_steps, self.total_steps)
        first = self.position
        for step in range(first, last):
            yield self._batch(step), 1.0 / (last - first)
            self.position = step + 1

    def validation(self) -> Iterator[RetrievalBatch]:
        """Return nothing: there are no validation rows."""
        return iter(())

    def narrowed(self, members: torch.Tensor) -> RetrievalSet:
        """Return itself: there is one member."""
        return self

    def _rows(self, step: int) -> IntArray:
        """Return the rows of a step, sorted."""
        n_pass, i = divmod(step, self.steps_per_pass)
        if self._order is None or self._order[0] != n_pass:
            order = np.random.default_rng([self.seed, n_pass]).permutation(
                self.X.shape[0]
            )
            self._order = n_pass, order
        n, k = self.X.shape[0], self.steps_per_pass
        rows: IntArray = np.sort(self._order[1][i * n // k : (i + 1) * n // k])
        return rows

    def _batch(self, step: int) -> RetrievalBatch:
        """Gather the rows of a step and draw its candidates."""
        import torch

        rows = self._rows(step)
        rng = np.random.default_rng([self.seed, 1, step])
        targets = self.targets.rows(rows)
        X = self.X[rows]
        ids = candidates = log_importance = offsets = None
        if self.proposal is not None:
            own = np.unique(np.concatenate([m.indices for m in targets.matrices()]))
            ids, log_inclusion = self.proposal.draw(own, rng)
            targets = targets.among(ids)
            candidates = torch.from_numpy(ids.astype(np.int64)).to(self.x.device)
            log_importance = torch.from_numpy(-log_inclusion[None]).to(self.x)
        if self.residual is not None:
            offsets = self.residual.offsets(X, rows, ids)
        inputs = pooled(X, self.pooling)
        return RetrievalBatch(
            inputs=input_block(inputs, str(self.x.device), self.x.dtype),
            targets=targets,
            candidates=candidates,
            log_importance=log_importance,
            offsets=offsets,
            rng=rng,
            x=self.x,
            # Of the losses of margins all weights are said, a row's own as well.
            weights_in_logits=ids is not None and targets.log_weight is None,
        )
