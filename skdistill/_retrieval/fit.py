"""Training one retrieval student: tables, batches, memory, checkpoints, the loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import scipy.sparse as sp

from skdistill._device import resolve_device
from skdistill._hidden_units import Hidden, pooling_scale
from skdistill._retrieval.batches import RetrievalSet
from skdistill._retrieval.centroids import LabelVectors, fit_residual
from skdistill._retrieval.checkpoint import Checkpoint, State
from skdistill._retrieval.embedding_stack import (
    EmbeddingStack,
    RowAdagrad,
    StepSettings,
)
from skdistill._retrieval.memory import (
    OFFSET_ARRAYS,
    STEP_ARRAYS,
    WEIGHT_ARRAYS,
    MemoryReport,
    Sizes,
    SparsePart,
    data_bytes,
    predict_memory,
)
from skdistill._retrieval.negatives import make_proposal
from skdistill._retrieval.proba import CALIBRATION_ROWS
from skdistill._retrieval.refinement import refine
from skdistill._retrieval.sparse_part_size import sparse_part_size
from skdistill._retrieval.targets import Mixture
from skdistill._retrieval.top_k import Tables
from skdistill._retrieval_objectives import SoftmaxObjective
from skdistill._typing import IntArray

if TYPE_CHECKING:
    import torch

#: ``n_negatives="auto"``: up to so many labels all are scored.
FULL_LABELS = 4096
#: Beyond, so many are drawn for each batch.
DEFAULT_NEGATIVES = 1024
#: ``max_iter="auto"``: so many steps, in no fewer and no more passes over the rows.
AUTO_STEPS, MIN_PASSES, MAX_PASSES = 6000, 2, 10
#: Length of the vectors of the sparse part: what is added to the logit of a label whose
#: rows have the direction of the row.
RESIDUAL_SCALE = 25.0
#: By how much the sparse part counts more in prediction than in training. What the
#: embeddings have learned from a row they are surer of on that row than on others; on
#: held-out rows 1.2 to 1.5 were best.
RESIDUAL_SHARE = 1.2


@dataclass(frozen=True)
class Recipe:
    """How a student is trained; the estimator's parameters of that name.

    Attributes
    ----------
    mixture : Mixture
        What is learned.
    dim, batch_size : int
        Width, rows of a step.
    max_iter : int or "auto"
        Passes over the rows.
    learning_rate, dropout : float
        Step size at the start; share of hidden units left out.
    n_negatives : int, "auto" or None
        Labels drawn for each batch; None: all labels are scored.
    proposal : str
        How they are drawn.
    n_hard_negatives : int or None
        How many of them are kept for each row.
    residual : int
        Features kept of each label's centroid.
    hidden : Hidden
        Pooling and activation.
    report_every : int or None
        Steps between reports; None: a pass over the rows.
    device, dtype : str
        Where and in what type.
    """

    mixture: Mixture
    dim: int
    batch_size: int
    max_iter: int | str
    learning_rate: float
    dropout: float
    n_negatives: int | str | None
    proposal: str
    n_hard_negatives: int | None
    residual: int
    hidden: Hidden
    report_every: int | None
    device: str
    dtype: str

    def n_drawn(self, n_labels: int) -> int | None:
        """Return how many negatives are drawn, None where all labels are scored."""
        if self.n_negatives == "auto":
            return None if n_labels <= FULL_LABELS else DEFAULT_NEGATIVES
        assert not isinstance(self.n_negatives, str)
        return self.n_negatives

    def n_scored(self, n_labels: int) -> int:
        """Return about how many labels a batch is scored against."""
        drawn = self.n_drawn(n_labels)
        return n_labels if drawn is None else min(n_labels, 2 * drawn)

    def n_passes(self, steps_per_pass: int) -> int:
        """Return the passes over the rows."""
        if self.max_iter != "auto":
            return int(self.max_iter)
        wanted = -(-AUTO_STEPS // steps_per_pass)
        return min(max(wanted, MIN_PASSES), MAX_PASSES)

    def has_sparse_part(self, X: Any) -> bool:
        """Return whether logits have a sparse part: it is for softmax objectives."""
        softmax = isinstance(self.mixture.loss(), SoftmaxObjective)
        return bool(self.residual) and softmax and sp.issparse(X)

    @property
    def item(self) -> str:
        """Type of all but the table of labels."""
        return "float64" if self.dtype == "float64" else "float32"


@dataclass(frozen=True)
class Rows:
    """The rows to learn from.

    Attributes
    ----------
    X : csr_matrix or ndarray of shape (n_samples, n_features)
        Inputs.
    indicator : csr_matrix of shape (n_samples, n_labels)
        Labels.
    soft_labels : csr_matrix of shape (n_samples, n_labels) or None
        Soft labels.
    """

    X: Any
    indicator: sp.csr_matrix
    soft_labels: sp.csr_matrix | None

    def without_targets(self) -> IntArray:
        """Return rows with neither labels nor soft labels."""
        counts = np.diff(self.indicator.indptr)
        if self.soft_labels is not None:
            counts = counts + np.diff(self.soft_labels.indptr)
        return np.flatnonzero(counts == 0)


class StretchHook(Protocol):
    """Told about every stretch of steps; may end the training."""

    def begin(self) -> None:
        """Be told that a stretch begins."""

    def end(self) -> bool:
        """Be told that a stretch has ended; return True to stop."""


def memory_of(recipe: Recipe, rows: Rows, soft_entries: int) -> MemoryReport:
    """Return the memory that a training takes.

    Parameters
    ----------
    recipe : Recipe
        How to train.
    rows : Rows
        On what.
    soft_entries : int
        Soft labels of a row, where they are not known yet.

    Returns
    -------
    MemoryReport
        The parts.
    """
    n_samples, n_features = rows.X.shape
    n_labels = rows.indicator.shape[1]
    batch = min(recipe.batch_size, n_samples)
    n_entries = rows.indicator.nnz + n_samples * soft_entries
    per_row = n_entries / max(1, n_samples)
    drawn = recipe.n_drawn(n_labels)
    n_candidates = n_labels
    if drawn is not None:
        own = _distinct(batch, rows.indicator, rows.soft_labels)
        if rows.soft_labels is None:
            own = min(n_labels, own + soft_entries * batch)
        # Some are drawn twice, or are labels of the batch already.
        others = -np.expm1(drawn * np.log1p(-1.0 / max(2, n_labels)))
        n_candidates = int(own + (n_labels - own) * others)
    n_present = n_features
    if sp.issparse(rows.X):
        n_present = min(n_features, int(_distinct(batch, rows.X)))
    item = np.dtype(recipe.item).itemsize
    n_matrices = 1 + (recipe.mixture.objective == "double" and soft_entries > 0)
    targets = int(n_matrices * n_samples * (per_row * 8 + 4))
    sparse_part = SparsePart()
    if recipe.has_sparse_part(rows.X):
        sparse_part = sparse_part_size(rows.X, rows.indicator, recipe.residual)
    return predict_memory(
        Sizes(
            n_features=n_features,
            n_labels=n_labels,
            dim=recipe.dim,
            n_candidates=n_candidates,
            n_expected=recipe.n_scored(n_labels),
            n_calibration=min(CALIBRATION_ROWS, n_samples),
            batch_size=batch,
            n_present=n_present,
            item=item,
            label_item=2 if recipe.dtype == "bfloat16" else item,
            data=data_bytes(rows.X, rows.indicator, rows.soft_labels) + targets,
            step_arrays=_step_arrays(recipe, rows.X, soft_entries),
            sparse_part=sparse_part,
        )
    )


def _step_arrays(recipe: Recipe, X: Any, soft_entries: int) -> int:
    """Return how many arrays of a block of logits a step has at the same time."""
    weighted = recipe.mixture.objective == "double" and soft_entries > 0
    hard = recipe.n_hard_negatives is not None
    margins = not isinstance(recipe.mixture.loss(), SoftmaxObjective)
    return (
        STEP_ARRAYS
        + OFFSET_ARRAYS * recipe.has_sparse_part(X)
        + WEIGHT_ARRAYS * (weighted or hard or margins)
    )


def _distinct(n_rows: int, *matrices: sp.csr_matrix | None) -> float:
    """Return how many distinct columns so many random rows have, on average."""
    parts = [matrix for matrix in matrices if matrix is not None]
    n_samples, n_columns = parts[0].shape
    counts = sum(np.bincount(part.indices, minlength=n_columns) for part in parts)
    share = np.minimum(counts / n_samples, 1 - 1e-9)
    return float(-np.expm1(n_rows * np.log1p(-share)).sum())


class Training:
    """A training that can be gone on with.

    Parameters
    ----------
    recipe : Recipe
        How to train.
    rows : Rows
        On what.
    seed : int
        All that is random follows from it.
    """

    def __init__(self, recipe: Recipe, rows: Rows, seed: int) -> None:
        self.recipe = recipe
        self.device = resolve_device(recipe.device)
        self.losses: list[float] = []
        self.data = self._data(rows, seed)
        self.stack = self._stack(rows, seed)
        self.vectors: LabelVectors | None = None
        self.optimizer = RowAdagrad(
            self.stack, recipe.learning_rate, self.data.total_steps
        )

    def _data(self, rows: Rows, seed: int) -> RetrievalSet:
        import torch

        recipe = self.recipe
        n_samples, n_labels = rows.indicator.shape
        drawn = recipe.n_drawn(n_labels)
        targets = recipe.mixture.targets(
            rows.indicator, rows.soft_labels, sampled=drawn is not None
        )
        proposal = None
        if drawn is not None:
            proposal = make_proposal(
                recipe.proposal,
                np.bincount(targets.raised.indices, minlength=n_labels),
                n_rows=n_samples,
                batch_size=recipe.batch_size,
                n_negatives=drawn,
            )
        x = torch.zeros((), dtype=getattr(torch, recipe.item), device=self.device)
        residual = None
        if recipe.has_sparse_part(rows.X):
            residual = fit_residual(
                rows.X, rows.indicator, recipe.residual, RESIDUAL_SCALE
            )
        data = RetrievalSet(
            rows.X, targets, proposal, residual, x, recipe.batch_size, seed, 1, 1
        )
        data.pooling = recipe.hidden.pooling
        data.n_steps = recipe.report_every or data.steps_per_pass
        data.total_steps = recipe.n_passes(data.steps_per_pass) * data.steps_per_pass
        return data

    def _stack(self, rows: Rows, seed: int) -> EmbeddingStack:
        import torch

        recipe = self.recipe
        n_features, n_labels = rows.X.shape[1], rows.indicator.shape[1]
        dtype = getattr(torch, recipe.item)
        drawn = np.random.default_rng([seed, 2]).standard_normal(
            (n_features, recipe.dim), dtype=np.float32
        )
        # As large, and steps as large, as sums would have them: a mean is smaller.
        scale = pooling_scale(rows.X, recipe.hidden.pooling)
        drawn *= np.float32(scale / np.sqrt(recipe.dim))
        settings = StepSettings(
            recipe.mixture.loss(),
            recipe.dropout,
            recipe.n_hard_negatives,
            recipe.n_scored(n_labels),
            recipe.hidden.activation,
            scale,
        )
        label_dtype = torch.bfloat16 if recipe.dtype == "bfloat16" else dtype
        return EmbeddingStack(
            torch.from_numpy(drawn).to(self.device, dtype),
            torch.zeros(n_labels, recipe.dim, dtype=label_dtype, device=self.device),
            torch.zeros(n_labels, 1, dtype=dtype, device=self.device),
            settings,
        )

    @property
    def objective(self) -> str:
        """What is minimised: without soft labels "double" is the softmax."""
        objective = self.recipe.mixture.objective
        weights = self.data.targets.log_weight
        weighs = weights is not None and weights.nnz > 0
        return "softmax" if objective == "double" and not weighs else objective

    @property
    def n_stretches(self) -> int:
        """Stretches of steps that are left."""
        left = self.data.total_steps - self.data.position
        return -(-left // self.data.n_steps)

    def run(self, hook: StretchHook | None, checkpoint: Checkpoint | None) -> None:
        """Train to the end, reporting and saving after each stretch.

        Parameters
        ----------
        hook : StretchHook or None
            Told about every stretch.
        checkpoint : Checkpoint or None
            Where the state is kept.

        Raises
        ------
        ValueError
            If the loss stops being finite.
        """
        import torch

        from skdistill._training import Settings, train

        if self.n_stretches:
            settings = Settings(
                max_iter=self.n_stretches,
                batch_size=self.recipe.batch_size,
                learning_rate=self.recipe.learning_rate,
                weight_decay=0.0,
                tol=0.0,
                n_iter_no_change=self.n_stretches + 1,
            )
            follower = _Follower(self, hook, checkpoint)
            generators = [torch.Generator()]
            train(self.stack, self.data, settings, generators, follower, self.optimizer)
        self.stack.release()
        self._refine()

    def _refine(self) -> None:
        """Refine the sparse part, of which then only that is left."""
        data, residual = self.data, self.data.residual
        if residual is None:
            return
        for matrix in (residual.labels.matrix, residual.own):
            matrix.data *= np.float32(RESIDUAL_SHARE)
        data.residual = None
        self.vectors = LabelVectors(residual.labels.matrix)
        rng = np.random.default_rng([data.seed, 4])
        self.vectors = refine(self.tables(), data.X, residual.own, rng)

    def tables(self) -> Tables:
        """Return what has been learned so far, as NumPy arrays.

        On a CPU they share the memory of what is trained.
        """
        stack, vectors = self.stack, self.vectors
        if self.data.residual is not None:
            vectors = LabelVectors(RESIDUAL_SHARE * self.data.residual.labels.matrix)
        labels = stack.labels
        if labels.element_size() == 2:
            labels = labels.float()
        return Tables(
            stack.features.cpu().numpy(),
            labels.cpu().numpy(),
            stack.bias[:, 0].cpu().numpy(),
            vectors,
            self.recipe.hidden,
        )

    def state(self) -> State:
        """Return all that is needed to go on from here."""
        state: State = {
            "position": np.array(self.data.position),
            "seed": np.array(self.data.seed),
            "losses": np.array(self.losses, dtype=np.float64),
        }
        names = ("features", "labels", "bias")
        for name, table, sums in zip(
            names, self.stack.parameters(), self.optimizer.sums, strict=True
        ):
            state[name] = _as_bits(table)
            state[f"{name}_sums"] = _as_bits(sums)
        return state

    def restore(self, state: State) -> None:
        """Go on from a state."""
        import torch

        self.data.position = int(state["position"])
        self.optimizer.taken = self.data.position
        self.losses = state["losses"].tolist()
        names = ("features", "labels", "bias")
        for name, table, sums in zip(
            names, self.stack.parameters(), self.optimizer.sums, strict=True
        ):
            stored = torch.from_numpy(state[name])
            if table.dtype == torch.bfloat16:
                stored = stored.view(torch.bfloat16)
            table.copy_(stored)
            sums.copy_(torch.from_numpy(state[f"{name}_sums"]))


def _as_bits(tensor: torch.Tensor) -> Any:
    """Return a tensor as an array, bfloat16 as integers of its bits."""
    import torch

    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.int16)
    return tensor.cpu().numpy()


class _Follower:
    """Saves the state after each stretch, then tells the hook."""

    def __init__(
        self,
        training: Training,
        hook: StretchHook | None,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.training = training
        self.hook = hook
        self.checkpoint = checkpoint

    def begin(self) -> None:
        """Pass it on."""
        if self.hook is not None:
            self.hook.begin()

    def end(self) -> bool:
        """Note the loss, save, and pass it on."""
        self.training.losses.append(self.training.stack.mean_loss())
        if self.checkpoint is not None:
            self.checkpoint.save(self.training.state())
        return self.hook is not None and self.hook.end()
