"""The training loop: AdamW on slices of shuffled rows, for a stack of G students.

Every student of the package that is trained by gradient steps is trained here; one
student is a stack of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skdistill._device import torch_threads
from skdistill._stack import Batch, CrossEntropyBatch, Stack, classes_first

if TYPE_CHECKING:
    import torch

#: Torch threads of one loop. One thread is never slowed down by other work on the
#: machine (two wait for each other at every product), and makes the result of a fit
#: independent of the number of cores and of ``n_jobs``.
N_THREADS = 1

#: Validation rows that are scored at a time.
VALIDATION_ROWS = 4096


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
    """

    max_iter: int
    batch_size: int
    learning_rate: float | Sequence[float]
    weight_decay: float | Sequence[float]
    tol: float
    n_iter_no_change: int
    averaging: bool = False


@dataclass(frozen=True)
class Term:
    """One soft cross-entropy of an objective.

    Attributes
    ----------
    targets : tensor of shape (1 or G, n_samples, n_classes)
        Non-negative; a row's sum is the weight of the term for that row.
    temperature : float or tensor of shape (G, 1, 1)
        Temperature of the student's logits in this term.
    """

    targets: torch.Tensor
    temperature: float | torch.Tensor


class TrainingData(Protocol):
    """What the loop needs of the rows and of what is minimised over them."""

    @property
    def x(self) -> torch.Tensor:
        """Inputs, shape (1 or G, n_samples, n_features)."""

    @property
    def train_rows(self) -> torch.Tensor:
        """Rows to learn from, shape (1 or G, n_train)."""

    @property
    def validation_rows(self) -> torch.Tensor | None:
        """Rows that decide when to stop; None: the training loss decides."""

    def epoch(
        self, batch_size: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[Batch, float]]:
        """Yield the batches of an epoch, each with its share of the epoch's loss."""

    def validation(self) -> Iterator[Batch]:
        """Yield batches of the validation rows, whose losses add up to the mean one."""

    def narrowed(self, members: torch.Tensor) -> TrainingData:
        """Return what is left once only some of the members are trained."""


@dataclass(frozen=True)
class TrainingSet:
    """Rows with soft cross-entropies to be minimised over them.

    A leading axis of length 1 means: shared by all members.

    Attributes
    ----------
    x : tensor of shape (1, n_samples, n_features)
        Inputs.
    terms : sequence of Term
        The objective is their sum.
    weight : tensor of shape (1 or G, n_samples) or None
        Row weights; only their ratios matter. None: all equal.
    train_rows : LongTensor of shape (1 or G, n_train)
        Rows to learn from.
    validation_rows : LongTensor of shape (1 or G, n_validation) or None
        Rows that decide when to stop; None: the training loss decides.
    """

    x: torch.Tensor
    terms: Sequence[Term]
    weight: torch.Tensor | None
    train_rows: torch.Tensor
    validation_rows: torch.Tensor | None = None

    def epoch(
        self, batch_size: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[Batch, float]]:
        """Yield the batches of a pass over the training rows, with their shares."""
        weight = self._mean_one(self.train_rows)
        for rows in _batches(self.train_rows, batch_size, generators):
            # The weights of a batch sum to 1 on average: its sum is its mean loss.
            n_rows = rows.shape[1]
            yield self._batch(weight, rows, n_rows), n_rows / self.train_rows.shape[1]

    def validation(self) -> Iterator[Batch]:
        """Yield the validation rows in batches that stay small beside the inputs."""
        assert self.validation_rows is not None
        weight = self._mean_one(self.validation_rows)
        n_rows = self.validation_rows.shape[1]
        for rows in self.validation_rows.split(VALIDATION_ROWS, dim=1):
            yield self._batch(weight, rows, n_rows)

    def _mean_one(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Return weights of mean 1 over some rows; None where all are equal.

        So a batch's mean of weighted losses estimates the weighted mean without bias.
        """
        if self.weight is None:
            return None
        return self.weight / take(self.weight, rows).mean(dim=1, keepdim=True)

    def _batch(
        self, weight: torch.Tensor | None, rows: torch.Tensor, n_rows: int
    ) -> CrossEntropyBatch:
        """Gather rows of a step; weights are divided by `n_rows`."""
        share: float | torch.Tensor = -1.0 / n_rows
        if weight is not None:
            share = take(weight, rows).unsqueeze(-1) * share
        terms = [
            (classes_first(take(term.targets, rows)) * share, term.temperature)
            for term in self.terms
        ]
        return CrossEntropyBatch(take(self.x, rows), terms)

    def narrowed(self, members: torch.Tensor) -> TrainingSet:
        """Return the targets, weights and rows of some of the members."""

        def of_members(values: torch.Tensor) -> torch.Tensor:
            return values if len(values) == 1 else values[members]

        return replace(
            self,
            terms=[
                Term(
                    of_members(t.targets), _member_temperatures(t.temperature, members)
                )
                for t in self.terms
            ],
            weight=None if self.weight is None else of_members(self.weight),
            train_rows=of_members(self.train_rows),
            validation_rows=(
                None
                if self.validation_rows is None
                else of_members(self.validation_rows)
            ),
        )


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
    exactly as it would have ended alone.

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
    n_members = stack.n_members
    watch = _Watch(n_members, settings, validated=data.validation_rows is not None)
    with torch_threads(N_THREADS), _shard_worker(stack, data, settings) as pool:
        if optimizer is None:
            optimizer = AdamW(stack.parameters(), settings)
        average = Average(stack.parameters()) if settings.averaging else None
        for _ in range(settings.max_iter):
            if hook is not None:
                hook.begin()
            loss = _epoch(stack, data, settings, generators, optimizer, average, pool)
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
        with _averaged(average):
            stack.keep(watch.unfinished())
    return watch.history


class Optimizer(Protocol):
    """Moves parameters along the gradients that the stack has set."""

    def step(self) -> None:
        """Move the parameters that have a gradient."""

    def narrow(self, parameters: list[torch.Tensor], rows: torch.Tensor) -> None:
        """Go on with some members, whose parameters are `parameters`."""


#: Step size and weight decay, and the lists of tensors that have them.
_Group: TypeAlias = tuple[tuple[float, float], tuple[Any, ...]]


class AdamW:
    """AdamW (Loshchilov and Hutter 2019), one call of torch's fused kernel a step.

    `torch.optim.AdamW` does the same; what it does around the kernel takes longer than
    the kernel itself on small networks.

    Parameters
    ----------
    parameters : list of tensor
        What is trained.
    settings : Settings
        Step size and weight decay.
    """

    def __init__(self, parameters: list[torch.Tensor], settings: Settings) -> None:
        import torch

        self.parameters = parameters
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]
        self.steps = [
            torch.zeros((), dtype=torch.float32, device=p.device) for p in parameters
        ]
        rates = settings.learning_rate, settings.weight_decay
        # One entry for all members, or one for each: then a parameter has a row of each
        # member, and its gradient stays where it is.
        self.rates = list(
            zip(*np.broadcast_arrays(*map(np.atleast_1d, rates)), strict=True)
        )
        self._groups = self._by_rates()

    def step(self) -> None:
        """Move the parameters that have a gradient."""
        if self._groups:
            for count in self.steps:
                count += 1
        for rates, tensors in self._groups or self._together():
            _fused_adamw(*rates, *tensors)

    def _together(self) -> list[_Group]:
        """Return all tensors that have a gradient."""
        states = zip(self.parameters, self.first, self.second, self.steps, strict=True)
        moved = [(p, p.grad, *state) for p, *state in states if p.grad is not None]
        for *_, count in moved:
            count += 1
        return [(self.rates[0], tuple(zip(*moved, strict=True)))] if moved else []

    def _by_rates(self) -> list[_Group]:
        """Return the rows of the members with the same rates; none if all have them."""
        groups: dict[tuple[float, float], list[Any]] = {}
        if len(self.rates) == 1:
            return []
        states = zip(self.parameters, self.first, self.second, self.steps, strict=True)
        for p, first, second, count in states:
            assert p.grad is not None
            rows = zip(self.rates, p, p.grad, first, second, strict=True)
            for rates, *row in rows:
                groups.setdefault(rates, []).append((*row, count))
        return [(rates, tuple(zip(*g, strict=True))) for rates, g in groups.items()]

    def narrow(self, parameters: list[torch.Tensor], rows: torch.Tensor) -> None:
        """Go on with some members, whose parameters are `parameters`."""
        self.parameters = parameters
        self.first = [moment[rows] for moment in self.first]
        self.second = [moment[rows] for moment in self.second]
        if len(self.rates) > 1:
            self.rates = [self.rates[i] for i in rows.tolist()]
        self._groups = self._by_rates()


def _fused_adamw(learning_rate: float, weight_decay: float, *tensors: Any) -> None:
    """Take a step: parameters, gradients, both moments and counts of steps."""
    import torch

    parameters, gradients, first, second, counts = tensors
    torch._fused_adamw_(
        parameters,
        gradients,
        first,
        second,
        [],
        counts,
        lr=learning_rate,
        beta1=0.9,
        beta2=0.999,
        weight_decay=weight_decay,
        eps=1e-8,
        amsgrad=False,
        maximize=False,
    )


class Average:
    """The average of the parameters over the last steps.

    Parameters
    ----------
    parameters : list of tensor
        What is trained.
    """

    def __init__(self, parameters: list[torch.Tensor]) -> None:
        self.parameters = parameters
        self.means = [parameter.detach().clone() for parameter in parameters]
        self.n_steps = 0

    def update(self) -> None:
        """Take the parameters after a step into account."""
        import torch

        self.n_steps += 1
        share = averaging_share(self.n_steps)
        with torch.no_grad():
            torch._foreach_lerp_(self.means, self.parameters, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages in the place of the parameters."""
        present = [parameter.detach().clone() for parameter in self.parameters]
        for parameter, mean in zip(self.parameters, self.means, strict=True):
            parameter.detach().copy_(mean)
        yield
        for parameter, value in zip(self.parameters, present, strict=True):
            parameter.detach().copy_(value)

    def narrow(self, parameters: list[torch.Tensor], rows: torch.Tensor) -> None:
        """Go on with some members, whose parameters are `parameters`."""
        self.parameters = parameters
        self.means = [mean[rows] for mean in self.means]


def _averaged(average: Average | None) -> AbstractContextManager[None]:
    return nullcontext() if average is None else average.in_place()


def averaging_share(n_steps: int) -> float:
    r"""Return the share of the newest parameters in their average.

    :math:`9 / (t + 8)`: polynomial-decay averaging, Section 4 of [1]_ with
    :math:`\eta = 8`. About the last tenth of the steps counts, however many they are.

    Parameters
    ----------
    n_steps : int
        Steps t taken so far, at least 1.

    Returns
    -------
    float
        The share; 1 for the first.

    References
    ----------
    .. [1] Shamir, Zhang, "Stochastic gradient descent for non-smooth optimization:
           convergence results and optimal averaging schemes", ICML 2013.
    """
    return 9 / (n_steps + 8)


def _epoch(
    stack: Stack,
    data: TrainingData,
    settings: Settings,
    generators: Sequence[torch.Generator],
    optimizer: Optimizer,
    average: Average | None,
    pool: Executor | None,
) -> NDArray[np.float64]:
    """Take one pass over the training rows; return each member's mean loss."""
    import torch

    stack.training(True)
    # One number a member, added up on the device and read once, at the end.
    loss = torch.zeros(
        len(stack.training_members), dtype=data.x.dtype, device=data.x.device
    )
    with torch.no_grad():
        for batch, share in data.epoch(settings.batch_size, generators):
            loss.add_(stack.gradient(batch, pool), alpha=share)
            optimizer.step()
            if average is not None:
                average.update()
    return _to_numpy(loss)


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

    rows = torch.from_numpy(np.flatnonzero(going_on)).to(data.x.device)
    before = stack.parameters()
    stack.narrow(rows)
    if all(old is new for old, new in zip(before, stack.parameters(), strict=True)):
        return data, generators
    optimizer.narrow(stack.parameters(), rows)
    if average is not None:
        average.narrow(stack.parameters(), rows)
    if len(generators) > 1:
        generators = [generators[int(i)] for i in np.flatnonzero(going_on)]
    return data.narrowed(rows), generators


def _member_temperatures(
    temperature: float | torch.Tensor, rows: torch.Tensor
) -> float | torch.Tensor:
    return temperature if isinstance(temperature, float) else temperature[rows]


@contextmanager
def _shard_worker(
    stack: Stack, data: TrainingData, settings: Settings
) -> Iterator[Executor | None]:
    """Provide a second thread for stacks whose steps are cut into shards.

    Two Python threads of one torch thread each: unlike two torch threads they wait for
    each other once a step and not at every product, and not by spinning.
    """
    import torch

    batch_size = min(settings.batch_size, data.train_rows.shape[1])
    if data.x.device.type != "cpu" or stack.n_shards(batch_size) == 1:
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
        monitored = loss if validation is None else validation
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
        finished = self.active & (self.stale >= self.settings.n_iter_no_change)
        self.active = self.active & ~finished
        return improved if self.validated else finished

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


def _batches(
    rows: torch.Tensor, batch_size: int, generators: Sequence[torch.Generator]
) -> Iterator[torch.Tensor]:
    """Yield the rows of each step, shape (1 or G, at most batch_size).

    The slices differ by at most one row: a tiny last batch would be a noisy step. When
    all rows fit into one batch their order does not matter and is left alone.
    """
    import torch

    n_rows = rows.shape[1]
    n_batches = -(-n_rows // batch_size)
    if n_batches == 1:
        yield rows
        return
    orders = [torch.randperm(n_rows, generator=g) for g in generators]
    order = torch.stack(orders).to(rows.device)
    shuffled = rows.expand(len(order), -1).gather(1, order)
    for i in range(n_batches):
        yield shuffled[:, i * n_rows // n_batches : (i + 1) * n_rows // n_batches]


def take(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Select rows of each member.

    Parameters
    ----------
    values : tensor of shape (1 or G, n_samples, ...)
        Shared by all members where the first axis has length 1.
    rows : LongTensor of shape (1 or G, n_rows)
        Likewise.

    Returns
    -------
    tensor of shape (1 or G, n_rows, ...)
        ``values[g, rows[g]]``.
    """
    import torch

    if rows.shape[0] == 1:
        return values.index_select(1, rows[0])
    if values.shape[0] == 1:
        flat = values[0].index_select(0, rows.reshape(-1))
        return flat.view(*rows.shape, *values.shape[2:])
    members = torch.arange(len(rows), device=rows.device)[:, None]
    return values[members, rows]


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
