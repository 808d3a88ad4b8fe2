"""The retrieval student: embeddings of features and labels, and their optimiser.

``hidden = activation(x @ features)``, ``logits = hidden @ labels.T + bias``. A step
touches only the rows of the tables that its batch needs, and never holds more logits
than a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skdistill._hidden_units import activate, through_activation
from skdistill._retrieval.batches import RetrievalBatch
from skdistill._retrieval_objectives import RetrievalObjective
from skdistill.losses import hardest_negatives

if TYPE_CHECKING:
    import torch

    from skdistill._batch import Batch

#: Logits of a block: 16 MiB in float32.
BLOCK_LOGITS = 2**22
#: A step of at least this many floating-point operations is divided between two
#: threads by rows. It depends on sizes alone, as the order of a sum does.
SHARD_FLOPS = 8e7
N_SHARDS = 2
#: Rows of a table that the optimiser works on at a time.
UPDATE_VALUES = 2**20


@dataclass(frozen=True)
class StepSettings:
    """How a step is taken.

    Attributes
    ----------
    objective : RetrievalObjective
        What is minimised.
    dropout : float
        Share of the hidden units left out of each row.
    n_hard_negatives : int or None
        Negatives kept for each row, those that score highest; None: all.
    n_candidates : int
        About how many labels a batch is scored against, for the division of work.
    activation : {"identity", "logistic", "relu", "tanh"}, default="identity"
        Of the hidden units.
    feature_scale : float, default=1.0
        How many times larger than others the steps of the features' embeddings are.
    """

    objective: RetrievalObjective
    dropout: float
    n_hard_negatives: int | None
    n_candidates: int
    activation: str = "identity"
    feature_scale: float = 1.0


@dataclass
class RowGradient:
    """Gradient of some rows of a table.

    Attributes
    ----------
    rows : LongTensor or None
        Which rows, without duplicates; None: all.
    values : tensor of shape (n_rows, dim)
        Their gradient.
    """

    rows: torch.Tensor | None
    values: torch.Tensor


class EmbeddingStack:
    """One student: three tables, their gradients by hand.

    Parameters
    ----------
    features : tensor of shape (n_features, dim)
        Embeddings of the features.
    labels : tensor of shape (n_labels, dim)
        Embeddings of the labels, in float32, float64 or bfloat16.
    bias : tensor of shape (n_labels, 1)
        Biases of the labels.
    settings : StepSettings
        How a step is taken.
    """

    n_members = 1

    #: Its batches are no CrossEntropyBatch: there is nothing to capture.
    repeats_itself = False

    def __init__(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        bias: torch.Tensor,
        settings: StepSettings,
    ) -> None:
        self.features = features
        self.labels = labels
        self.bias = bias
        self.settings = settings
        self.training_members: NDArray[np.int_] = np.arange(1)
        self.gradients: list[RowGradient] = []
        self.rng = np.random.default_rng(0)
        self._buffers: dict[int, torch.Tensor] = {}
        self._losses: list[torch.Tensor] = []

    def parameters(self) -> list[torch.Tensor]:
        """Return the three tables."""
        return [self.features, self.labels, self.bias]

    def n_shards(self, batch_size: int) -> int:
        """Return into how many shards of rows a batch is cut."""
        if self.features.device.type != "cpu":
            return 1
        return n_shards(batch_size, self.settings.n_candidates, self.features.shape[1])

    def gradient(self, batch: Batch, pool: Executor | None) -> torch.Tensor:
        """Set the gradients of the rows touched; return the batch's mean loss (1,)."""
        import torch

        assert isinstance(batch, RetrievalBatch)
        self.gradients = []
        self.rng = batch.rng
        step = _Step(self, batch)
        n_shards = self.n_shards(batch.n_rows)
        ends = [i * batch.n_rows // n_shards for i in range(n_shards + 1)]
        shards = [slice(start, stop) for start, stop in pairwise(ends)]
        if n_shards == 1 or pool is None:
            losses = [step.back_propagate(i, rows) for i, rows in enumerate(shards)]
        else:
            second = pool.submit(_without_graph, step.back_propagate, 1, shards[1])
            losses = [step.back_propagate(0, shards[0]), second.result()]
        self.gradients = step.gradients()
        loss = torch.cat(losses).mean()
        self._losses.append(loss)
        return loss[None]

    def mean_loss(self) -> float:
        """Return the mean loss of the steps since it was last asked for."""
        import torch

        mean = float(torch.stack(self._losses).mean())
        self._losses = []
        return mean

    def buffer(self, shard: int, n_labels: int) -> torch.Tensor:
        """Return memory for the gradient of the label embeddings.

        Kept from step to step: to ask for large memory anew costs more than to fill it.
        """
        kept = self._buffers.get(shard)
        if kept is None or len(kept) < n_labels:
            kept = self.features.new_empty(n_labels, self.features.shape[1])
            self._buffers[shard] = kept
        return kept[:n_labels]

    def release(self) -> None:
        """Give back the memory that only steps need."""
        self.gradients = []
        self._buffers = {}

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Refuse: it never holds all logits of a batch."""
        raise TypeError("Embeddings score labels in blocks, see top_k.")

    def training(self, mode: bool) -> None:
        """Do nothing: dropout belongs to a step."""

    def keep(self, members: NDArray[np.bool_]) -> None:
        """Do nothing: the present parameters are those kept."""

    def narrow(self, rows: torch.Tensor) -> None:
        """Do nothing: there is one member."""


def n_shards(batch_size: int, n_candidates: int, dim: int) -> int:
    """Return into how many shards of rows a batch is cut on a CPU.

    Parameters
    ----------
    batch_size, n_candidates, dim : int
        Sizes of a step.

    Returns
    -------
    int
        1 or `N_SHARDS`.
    """
    flops = 6.0 * batch_size * n_candidates * dim
    return N_SHARDS if flops >= SHARD_FLOPS and batch_size >= 2 * N_SHARDS else 1


def _without_graph(function: Any, *args: Any) -> Any:
    """Call a function in another thread, where gradients are on until switched off."""
    import torch

    with torch.no_grad():
        return function(*args)


class _Step:
    """The way there and back for one batch, a shard of rows at a time."""

    def __init__(self, stack: EmbeddingStack, batch: RetrievalBatch) -> None:
        self.stack = stack
        self.batch = batch
        self.activation = stack.settings.activation
        self.hidden = activate(batch.inputs.product(stack.features), self.activation)
        self.activated = self.hidden
        self.kept = self._draw_kept_units()
        if self.kept is not None:
            self.hidden = self.hidden * self.kept
        self.labels, self.bias = stack.labels, stack.bias[:, 0]
        if batch.candidates is not None:
            # Several times faster than an index: rows are far apart in the memory.
            self.labels = self.labels.index_select(0, batch.candidates)
            self.labels = self.labels.to(self.hidden.dtype)
            self.bias = self.bias.index_select(0, batch.candidates)
        n_shards, n_labels = stack.n_shards(batch.n_rows), len(self.labels)
        self.to_labels = [stack.buffer(i, n_labels) for i in range(n_shards)]
        self.to_bias = [self.hidden.new_empty(n_labels) for _ in range(n_shards)]
        self.to_hidden = [self.hidden] * n_shards

    def _draw_kept_units(self) -> torch.Tensor | None:
        """Return what each hidden unit is multiplied with: dropout."""
        import torch

        dropout = self.stack.settings.dropout
        if not dropout:
            return None
        drawn = self.batch.rng.random(tuple(self.hidden.shape), dtype=np.float32)
        kept = torch.from_numpy(drawn >= dropout).to(self.hidden.device)
        return kept.to(self.hidden.dtype).div_(1.0 - dropout)

    def _blocks(self, n_rows: int) -> Iterator[slice]:
        """Cut the labels into blocks of a bounded number of logits."""
        n_labels = len(self.labels)
        # A power of two: batches that differ by a row have the same blocks.
        size = max(1, BLOCK_LOGITS >> (n_rows - 1).bit_length())
        for start in range(0, n_labels, size):
            yield slice(start, min(start + size, n_labels))

    def back_propagate(self, shard: int, rows: slice) -> torch.Tensor:
        """Set one shard's slopes; return its losses."""
        import torch

        objective = self.stack.settings.objective
        hidden = self.hidden[rows]
        blocks = list(self._blocks(self.batch.n_rows))
        sums = objective.start(len(hidden), hidden)
        scored: tuple[Any, ...] = ()
        for block in blocks:
            # The last block's memory goes before that of the next is needed.
            del scored
            scored = self._score(hidden, rows, block)
            objective.absorb(sums, *scored)
        losses = objective.finish(sums)
        to_hidden = torch.zeros_like(hidden)
        for block in blocks:
            if len(blocks) > 1:
                # Scored again: kept, they would be as many as rows times labels.
                del scored
                scored = self._score(hidden, rows, block)
            slope = objective.slope(sums, *scored).div_(self.batch.n_rows)
            torch.mm(slope.T, hidden, out=self.to_labels[shard][block])
            torch.sum(slope, dim=0, out=self.to_bias[shard][block])
            to_hidden.addmm_(slope, self._embeddings(block))
            del slope
        self.to_hidden[shard] = to_hidden
        return losses

    def _embeddings(self, block: slice) -> torch.Tensor:
        return self.labels[block].to(self.hidden.dtype)

    def _score(
        self, hidden: torch.Tensor, rows: slice, block: slice
    ) -> tuple[Any, Any, Any, Any]:
        """Return the logits of a block, with its targets, log-weights and anchors."""
        import torch

        part = self.batch.part(rows, block)
        bias = self.bias[block]
        added = self.batch.added_to_logits(block)
        if added is not None:
            bias = bias + added
        logits = torch.addmm(bias, hidden, self._embeddings(block).T)
        if self.batch.offsets is not None:
            offsets = self.batch.offsets.dense(rows, block)
            logits += torch.from_numpy(offsets).to(logits)
        if added is not None:
            places = part.places()
            logits[places] -= added[places[1]]
        raised, log_weight, anchors = self.batch.dense(part, block)
        n_hard = self.stack.settings.n_hard_negatives
        if n_hard is not None:
            weighted = logits if log_weight is None else logits + log_weight
            mask = hardest_negatives(weighted, raised > 0, n_hard)
            log_weight = mask if log_weight is None else log_weight + mask
        return logits, raised, log_weight, anchors

    def gradients(self) -> list[RowGradient]:
        """Return the gradients of features, labels and biases."""
        import torch

        for buffers in (self.to_labels, self.to_bias):
            for more in buffers[1:]:
                buffers[0].add_(more)
        to_hidden = torch.cat(self.to_hidden)
        if self.kept is not None:
            to_hidden *= self.kept
        to_hidden = through_activation(to_hidden, self.activated, self.activation)
        candidates = self.batch.candidates
        return [
            RowGradient(*self.batch.inputs.transposed(to_hidden)),
            RowGradient(candidates, self.to_labels[0]),
            RowGradient(candidates, self.to_bias[0][:, None]),
        ]


class RowAdagrad:
    """Adagrad with one accumulated square a row (Duchi et al. 2011), linearly decaying.

    A row g of the gradient moves its row of the table by
    ``-rate * g / sqrt(sum of mean(g ** 2))``. Only rows with a gradient are read or
    written. A bfloat16 table is rounded up or down at random, with the chances that
    make the expected value exact: rounding to the nearest would lose small steps.

    Parameters
    ----------
    stack : EmbeddingStack
        What is trained.
    learning_rate : float
        Step size at the start.
    total_steps : int
        Steps after which the step size would be zero.
    """

    def __init__(
        self, stack: EmbeddingStack, learning_rate: float, total_steps: int
    ) -> None:
        import torch

        self.stack = stack
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.taken = 0
        self.sums = [
            torch.zeros(len(table), dtype=stack.features.dtype, device=table.device)
            for table in stack.parameters()
        ]

    def step(self) -> None:
        """Move the rows that have a gradient, which is used up."""
        import torch

        rate = self.learning_rate * (1.0 - self.taken / self.total_steps)
        self.taken += 1
        scales = (self.stack.settings.feature_scale, 1.0, 1.0)
        entries = zip(
            self.stack.parameters(),
            self.sums,
            self.stack.gradients,
            scales,
            strict=True,
        )
        with torch.no_grad():
            for table, sums, gradient, scale in entries:
                self._move(table, sums, gradient, rate * scale)

    def _move(
        self,
        table: torch.Tensor,
        sums: torch.Tensor,
        gradient: RowGradient,
        rate: float,
    ) -> None:
        """Move the rows of one table, some at a time."""
        import torch

        n_rows, dim = gradient.values.shape
        size = max(1, UPDATE_VALUES // dim)
        for start in range(0, n_rows, size):
            part = slice(start, start + size)
            values = gradient.values[part]
            total = torch.linalg.vector_norm(values, dim=1).square() / dim
            if gradient.rows is None:
                total = sums[part].add_(total)
            else:
                rows = gradient.rows[part]
                total += sums.index_select(0, rows)
                sums.index_copy_(0, rows, total)
            factor = total.clamp(min=1e-30).rsqrt_().mul_(-rate)[:, None]
            if gradient.rows is None:
                self._add(table[part], values, factor)
            elif table.dtype == torch.bfloat16:
                moved = table.index_select(0, rows)
                self._add(moved, values, factor)
                table.index_copy_(0, rows, moved)
            else:
                table.index_add_(0, rows, values.mul_(factor))

    def _add(
        self, table: torch.Tensor, values: torch.Tensor, factor: torch.Tensor
    ) -> None:
        """Add values times factors; to bfloat16, rounded at random."""
        import torch

        if table.dtype == torch.bfloat16:
            moved = table.float().addcmul_(values.float(), factor.float())
            table.copy_(round_at_random(moved, self.stack.rng))
        else:
            table.addcmul_(values, factor)

    def narrow(self, parameters: list[torch.Tensor], rows: torch.Tensor) -> None:
        """Do nothing: there is one member."""


def round_at_random(values: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Round float32 to bfloat16, up or down with chances that keep the mean.

    Parameters
    ----------
    values : tensor of float32
        Finite values.
    rng : Generator
        Source of chance.

    Returns
    -------
    tensor of bfloat16
        One of the two neighbours of each value.
    """
    import torch

    # bfloat16 is the upper half of float32: a number below 2 ** 16, drawn at random and
    # added to the lower half, carries into the upper with the chance that is needed.
    noise = rng.integers(0, 2**16, size=tuple(values.shape), dtype=np.int32)
    bits = values.contiguous().view(torch.int32)
    bits = bits + torch.from_numpy(noise).to(values.device)
    return bits.bitwise_and_(-(2**16)).view(torch.float32).to(torch.bfloat16)
