"""Steps of training: plain ones, and on a GPU ones that are captured and replayed."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from skdistill._batch import Batch, CrossEntropyBatch
from skdistill._device import side_stream
from skdistill._optimizers import Average, Optimizer
from skdistill._stack import Stack
from skdistill._training_set import TrainingData

if TYPE_CHECKING:
    import torch

#: CUDA allows one capture at a time in a process.
_capturing = threading.Lock()


class Steps:
    """Gradient steps of a stack.

    Parameters
    ----------
    stack : Stack
        Its parameters are moved.
    optimizer : Optimizer
        Moves them.
    pool : Executor or None, default=None
        A second thread for the shards of a step.
    average : Average or None, default=None
        Told about each step.
    """

    def __init__(
        self,
        stack: Stack,
        optimizer: Optimizer,
        pool: Executor | None = None,
        average: Average | None = None,
    ) -> None:
        self.stack = stack
        self.optimizer = optimizer
        self.pool = pool
        self.average = average
        self.narrowed()

    def epoch(
        self,
        data: TrainingData,
        batch_size: int,
        generators: Sequence[torch.Generator],
    ) -> torch.Tensor:
        """Take one pass over the training rows; return the members' mean losses."""
        # One number a member, added up on the device and read once, by the caller.
        loss = self._no_loss()
        for batch, share in data.epoch(batch_size, generators):
            self._add(loss, batch, share)
        return loss

    def _no_loss(self) -> torch.Tensor:
        parameter = self.stack.parameters()[0]
        return parameter.new_zeros(len(self.stack.training_members))

    def _add(self, loss: torch.Tensor, batch: Batch, share: float) -> None:
        """Take a step and add its share of an epoch's loss."""
        loss.add_(self.take(batch), alpha=share)
        if self.average is not None:
            self.average.update()

    def take(self, batch: Batch) -> torch.Tensor:
        """Take a step; return the members' losses, to be used before the next."""
        loss = self.stack.gradient(batch, self.pool)
        self.optimizer.step()
        return loss

    def narrowed(self) -> None:
        """Be told that the stack's parameters are new tensors, at first too."""


class CapturedSteps(Steps):
    """Steps on a GPU, where starting operations takes longer than most of them.

    The first step of each shape of batch is a plain one, which also lets libraries set
    up what they need. The second is captured as a CUDA graph, and from then on the
    whole step is one start. Batches of a pass differ by at most one row, so there are
    at most two graphs. Where a capture fails, steps are plain.
    """

    _can_capture = True

    def take(self, batch: Batch) -> torch.Tensor:
        """Take a step; return the members' losses, to be used before the next."""
        if not self._can_capture or not isinstance(batch, CrossEntropyBatch):
            return super().take(batch)
        shape = tuple(batch.x.shape)
        if shape not in self._graphs:
            self._graphs[shape] = None
            return super().take(batch)
        graph = self._graphs[shape] or self._captured(batch)
        if graph is None:
            return super().take(batch)
        self._graphs[shape] = graph
        return graph.run(batch)

    def _captured(self, batch: CrossEntropyBatch) -> _Graph | None:
        """Return the graph of a step; None, with a warning, where there can be none."""
        # torch's errors of CUDA are RuntimeErrors.
        try:
            return _Graph(batch, super().take)
        except RuntimeError as error:
            warnings.warn(
                "A training step could not be captured as a CUDA graph, so training "
                f"goes on more slowly without: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
            self._can_capture = False
            self._graphs.clear()
            return None

    def narrowed(self) -> None:
        """Forget the graphs: they move tensors that are no longer trained."""
        self._graphs: dict[Any, _Graph | None] = {}


class _Graph:
    """A captured step, on a batch whose tensors stay where they are."""

    def __init__(
        self,
        batch: CrossEntropyBatch,
        step: Callable[[CrossEntropyBatch], torch.Tensor],
    ) -> None:
        import torch

        # `clone` keeps the layout in memory, class by class or not.
        terms = [(factors.clone(), temperature) for factors, temperature in batch.terms]
        self._batch = CrossEntropyBatch(batch.x.clone(), terms)
        self._graph, self._loss = capture(
            lambda: step(self._batch), torch.cuda.current_stream(batch.x.device)
        )

    def run(self, batch: CrossEntropyBatch) -> torch.Tensor:
        """Take the step on a batch of the same shape."""
        self._batch.x.copy_(batch.x)
        for (own, _), (factors, _) in zip(self._batch.terms, batch.terms, strict=True):
            own.copy_(factors)
        self._graph.replay()
        return self._loss


def capture(function: Callable[[], torch.Tensor], present: Any) -> tuple[Any, Any]:
    """Capture what a function does on a GPU, without doing it.

    Parameters
    ----------
    function : callable
        Works on tensors that stay where they are, and returns one.
    present : torch.cuda.Stream
        The stream that works on these tensors.

    Returns
    -------
    graph : torch.cuda.CUDAGraph
        ``graph.replay()`` does what the function did.
    result : tensor
        Where each replay writes what the function returned.

    Raises
    ------
    RuntimeError
        If it does something that cannot be captured.
    """
    import torch

    graph = torch.cuda.CUDAGraph()
    # The present stream is the present one again, even after a capture that fails.
    with _capturing, torch.cuda.stream(present):
        aside = side_stream(present.device, "captures")
        # Other threads may go on with what a capture does not allow.
        with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            result = function()
    return graph, result
