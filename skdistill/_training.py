"""The training loop: AdamW on slices of shuffled rows, for a stack of G students.

Every student of the package that is trained by gradient steps is trained here; one
student is a stack of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from skdistill._device import fast_products, torch_threads
from skdistill._optimizers import AdamW, Average, Optimizer
from skdistill._shared_steps import SharedSteps
from skdistill._stack import MLPStack, Stack
from skdistill._steps import CapturedSteps, Steps
from skdistill._training_set import TrainingData, TrainingSet

if TYPE_CHECKING:
    import torch

#: Torch threads of one loop. One thread is never slowed down by other work on the
#: machine (two wait for each other at every product), and makes the result of a fit
#: independent of the number of cores and of ``n_jobs``.
N_THREADS = 1


@dataclass(frozen=True)
class Settings:
    """How to train the members of a stack.

    Attributes
    ----------
    max_iter : int
        Largest number of epochs.
    batch_size : int
        Rows of a step; an epoch is cut into slices of nearly equal size, none larger.
    learning_rate : float or sequence of float
        Step size of AdamW, of all members or of each.
    weight_decay : float or sequence of float
        Decoupled weight decay of AdamW, of all members or of each.
    tol : float
        Improvement of the monitored loss that counts.
    n_iter_no_change : int
        Epochs without such an improvement after which a member stops.
    averaging : bool, default=False
        Whether to score and keep an average of the parameters over the last steps.
    group_size : int, default=1
        So many members, one after the other, stop together: by the mean of their
        losses.
    n_epochs : sequence of int or None, default=None
        Epochs after which each member ends, whatever its losses.
    """

    max_iter: int
    batch_size: int
    learning_rate: float | Sequence[float]
    weight_decay: float | Sequence[float]
    tol: float
    n_iter_no_change: int
    averaging: bool = False
    group_size: int = 1
    n_epochs: Sequence[int] | None = None


@dataclass
class History:
    """What happened during training.

    Attributes
    ----------
    loss : list of ndarray of shape (G,)
        Training loss of each epoch.
    validation_loss : list of ndarray of shape (G,)
        Validation loss of each epoch; empty without validation rows.
    n_iter : ndarray of shape (G,)
        Epochs that each member was trained for.
    """

    n_iter: NDArray[np.int_]
    loss: list[NDArray[np.float64]] = field(default_factory=list)
    validation_loss: list[NDArray[np.float64]] = field(default_factory=list)


class EpochHook(Protocol):
    """Told about every epoch; may end the training."""

    def begin(self) -> None:
        """Be told that an epoch begins."""

    def end(self) -> bool:
        """Be told that an epoch has ended; return True to stop."""


def train(
    stack: Stack,
    data: TrainingData,
    settings: Settings,
    generators: Sequence[torch.Generator],
    hook: EpochHook | None = None,
    optimizer: Optimizer | None = None,
) -> History:
    """Train all members of a stack; each ends with its parameters kept in the stack.

    With validation rows a member keeps the parameters of its best epoch, otherwise
    those of its last one. A member that has stopped is no longer followed, so it ends
    exactly as it would have ended alone, or with the other members of its group.

    Parameters
    ----------
    stack : Stack
        The students; its parameters change.
    data : TrainingData
        What to train on.
    settings : Settings
        How to train.
    generators : sequence of torch.Generator
        Source of the shuffling: one for each member, or a single one when all members
        see the same batches.
    hook : EpochHook or None, default=None
        Told about every epoch.
    optimizer : Optimizer or None, default=None
        Moves the parameters of the stack; None stands for AdamW.

    Returns
    -------
    History
        Losses and numbers of epochs.

    Raises
    ------
    ValueError
        If the loss of a member stops being finite.
    """
    import torch

    n_members = stack.n_members
    watch = _Watch(n_members, settings, validated=data.validation_rows is not None)
    device = stack.parameters()[0].device
    with (
        torch_threads(N_THREADS),
        fast_products(device.type),
        # Each student says by itself what its products are taken in.
        torch.autocast(device.type, enabled=False),
        _shard_worker(stack, data, settings) as pool,
    ):
        if optimizer is None:
            optimizer = AdamW(
                stack.parameters(), settings.learning_rate, settings.weight_decay
            )
        average = Average(stack.parameters()) if settings.averaging else None
        take_steps = _steps_on(device.type, stack, data, optimizer)
        steps = take_steps(stack, optimizer, pool, average)
        for _ in range(settings.max_iter):
            if hook is not None:
                hook.begin()
            stack.training(True)
            with torch.no_grad():
                loss = _to_numpy(steps.epoch(data, settings.batch_size, generators))
            with _averaged(average):
                validation = _validate(stack, data)
                stack.keep(watch.update(stack.training_members, loss, validation))
                stop = hook.end() if hook is not None else False
            if stop or not watch.active.any():
                break
            going_on = watch.active[stack.training_members]
            if 2 * going_on.sum() <= len(going_on):
                data, generators = _narrow(
                    stack, data, generators, optimizer, average, going_on
                )
                steps.narrowed()
        with _averaged(average):
            stack.keep(watch.unfinished())
    return watch.history


def _steps_on(
    device: str, stack: Stack, data: TrainingData, optimizer: Optimizer
) -> type[Steps]:
    """Return captured steps where each step does the same on tensors that stay.

    On a CPU, steps of two threads where rows and parameters can be shared out.
    """
    plain = isinstance(data, TrainingSet) and data.device is None
    if device == "cpu" and plain and isinstance(stack, MLPStack):
        return SharedSteps if isinstance(optimizer, AdamW) else Steps
    streamed = isinstance(data, TrainingSet) and data.device is not None
    captured = device == "cuda" and stack.repeats_itself and not streamed
    return CapturedSteps if captured else Steps


def _averaged(average: Average | None) -> AbstractContextManager[None]:
    return nullcontext() if average is None else average.in_place()


def _narrow(
    stack: Stack,
    data: TrainingData,
    generators: Sequence[torch.Generator],
    optimizer: Optimizer,
    average: Average | None,
    going_on: NDArray[np.bool_],
) -> tuple[TrainingData, Sequence[torch.Generator]]:
    """Let the members that have finished leave the stack.

    Parameters, moments, targets and rows of the others move together.
    """
    import torch

    before = stack.parameters()
    rows = torch.from_numpy(np.flatnonzero(going_on)).to(before[0].device)
    stack.narrow(rows)
    if all(old is new for old, new in zip(before, stack.parameters(), strict=True)):
        return data, generators
    optimizer.narrow(stack.parameters(), rows)
    if average is not None:
        average.narrow(stack.parameters(), rows)
    if len(generators) > 1:
        generators = [generators[int(i)] for i in np.flatnonzero(going_on)]
    return data.narrowed(rows), generators


@contextmanager
def _shard_worker(
    stack: Stack, data: TrainingData, settings: Settings
) -> Iterator[Executor | None]:
    """Provide a second thread for stacks whose steps are cut into shards.

    Two Python threads of one torch thread each: unlike two torch threads they wait for
    each other twice a step and not at every product, and not by spinning for long.
    """
    import torch

    batch_size = min(settings.batch_size, data.train_rows.shape[1])
    if stack.parameters()[0].device.type != "cpu" or stack.n_shards(batch_size) == 1:
        yield None
        return
    with ThreadPoolExecutor(
        1, initializer=torch.set_num_threads, initargs=(N_THREADS,)
    ) as pool:
        yield pool


class _Watch:
    """Decides, epoch by epoch, which members go on and whose parameters are kept."""

    def __init__(self, n_members: int, settings: Settings, *, validated: bool) -> None:
        self.settings = settings
        self.validated = validated
        self.active = np.ones(n_members, dtype=bool)
        self.best = np.full(n_members, np.inf)
        self.reference = np.full(n_members, np.inf)
        self.stale = np.zeros(n_members, dtype=int)
        self.history = History(n_iter=np.zeros(n_members, dtype=int))

    def update(
        self,
        members: NDArray[np.int_],
        loss: NDArray[np.float64],
        validation: NDArray[np.float64] | None,
    ) -> NDArray[np.bool_]:
        """Take an epoch's losses; return the members whose parameters to keep now."""
        loss = self._spread(members, loss)
        if validation is not None:
            validation = self._spread(members, validation)
        monitored = self._of_group(loss if validation is None else validation)
        if not np.isfinite(monitored[self.active]).all():
            raise ValueError(
                "The training loss is no longer finite: the training diverged. Lower "
                f"learning_rate_init (now {self.settings.learning_rate}) or scale the "
                "inputs."
            )
        self._record(loss, validation)
        improved = self.active & (monitored < self.best)
        self.best = np.where(improved, monitored, self.best)
        counts = monitored < self.reference - self.settings.tol
        self.reference = np.where(counts, monitored, self.reference)
        self.stale = np.where(counts, 0, self.stale + 1)
        finished = self.active & self._at_its_end()
        self.active = self.active & ~finished
        return improved if self.validated else finished

    def _at_its_end(self) -> NDArray[np.bool_]:
        if self.settings.n_epochs is not None:
            return self.history.n_iter >= np.array(self.settings.n_epochs)
        return self.stale >= self.settings.n_iter_no_change

    def _of_group(self, loss: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each member the mean loss of those that stop together."""
        size = self.settings.group_size
        return loss.reshape(-1, size).mean(axis=1).repeat(size)

    def _spread(
        self, members: NDArray[np.int_], values: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return one value for each member; NaN for those that have left."""
        spread = np.full(len(self.active), np.nan)
        spread[members] = values
        return spread

    def _record(
        self, loss: NDArray[np.float64], validation: NDArray[np.float64] | None
    ) -> None:
        self.history.n_iter += self.active
        self.history.loss.append(loss)
        if validation is not None:
            self.history.validation_loss.append(validation)

    def unfinished(self) -> NDArray[np.bool_]:
        """Members still training at the end that keep their last parameters."""
        return self.active & (not self.validated)


def _validate(stack: Stack, data: TrainingData) -> NDArray[np.float64] | None:
    """Return each member's weighted mean loss on its validation rows, if it has any."""
    import torch

    if data.validation_rows is None:
        return None
    stack.training(False)
    with torch.no_grad():
        losses = [b.loss_and_slope(stack.logits(b.x))[0] for b in data.validation()]
        return _to_numpy(torch.stack(losses).sum(dim=0))


def _to_numpy(values: torch.Tensor) -> NDArray[np.float64]:
    return values.detach().cpu().numpy().astype(np.float64)
