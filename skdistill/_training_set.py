"""The rows that a stack is trained on, handed out in shuffled batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from skdistill._batch import Batch, CrossEntropyBatch, Run, Terms, classes_first
from skdistill._streaming import moved_ahead

if TYPE_CHECKING:
    import torch

#: Validation rows that are scored at a time.
VALIDATION_ROWS = 4096

#: Numbers that are gathered for steps ahead: one gather for many steps costs less than
#: one for each, and so many stay in the cache until they are used.
GATHERED_NUMBERS = 2**19


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
    device : str or None, default=None
        Where batches are needed, if that is not where the rows are.
    first_row : LongTensor of shape (G, 1) or None, default=None
        Where the rows of each member begin in `x`, if it holds several tables of
        n_samples rows; targets and weights have the members' own rows only.
    """

    x: torch.Tensor
    terms: Sequence[Term]
    weight: torch.Tensor | None
    train_rows: torch.Tensor
    validation_rows: torch.Tensor | None = None
    device: str | None = None
    first_row: torch.Tensor | None = None

    def epoch(
        self, batch_size: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[Batch, float]]:
        """Yield the batches of a pass over the training rows, with their shares."""
        runs = self.runs(batch_size, generators)
        batches = (batch for run, _ in runs for batch in run.batches())
        for batch in self._moved(batches):
            yield batch, self._share(batch.x.shape[1])

    def runs(
        self, batch_size: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[Run, float]]:
        """Yield the same in runs, each with the share of one of its batches."""
        weight = self._mean_one(self.train_rows)
        rows = shuffled(self.train_rows, batch_size, generators)
        together = self._steps_together(batch_size)
        for size, start, stop in cut_into_batches(rows.shape[1], batch_size, together):
            # The weights of a batch sum to 1 on average: its sum is its mean loss.
            run = self._run(weight, rows[:, start:stop], size, size)
            yield run, self._share(size)

    def _share(self, n_rows: int) -> float:
        return n_rows / self.train_rows.shape[1]

    def validation(self) -> Iterator[Batch]:
        """Yield the validation rows in batches that stay small beside the inputs."""
        assert self.validation_rows is not None
        weight = self._mean_one(self.validation_rows)
        n_rows = self.validation_rows.shape[1]
        yield from self._moved(
            batch
            for rows in self.validation_rows.split(VALIDATION_ROWS, dim=1)
            for batch in self._run(weight, rows, rows.shape[1], n_rows).batches()
        )

    def _steps_together(self, batch_size: int) -> int:
        """Return of how many steps the rows are gathered at a time."""
        if self.device is not None:
            return 1
        n_tables = max(len(values) for values in (self.train_rows, *self._targets()))
        width = self.x.shape[2] + sum(values.shape[2] for values in self._targets())
        return max(1, GATHERED_NUMBERS // (n_tables * batch_size * width))

    def _targets(self) -> list[torch.Tensor]:
        return [term.targets for term in self.terms]

    def _moved(self, batches: Iterator[CrossEntropyBatch]) -> Iterator[Batch]:
        return batches if self.device is None else moved_ahead(batches, self.device)

    def _mean_one(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Return weights of mean 1 over some rows; None where all are equal.

        So a batch's mean of weighted losses estimates the weighted mean without bias.
        """
        if self.weight is None:
            return None
        return self.weight / take(self.weight, rows).mean(dim=1, keepdim=True)

    def _run(
        self, weight: torch.Tensor | None, rows: torch.Tensor, size: int, n_rows: int
    ) -> Run:
        """Return batches of a size; weights are divided by `n_rows`."""
        gather = partial(self._gathered, weight, n_rows)
        return Run(rows.view(len(rows), -1, size), gather)

    def _gathered(
        self, weight: torch.Tensor | None, n_rows: int, rows: torch.Tensor
    ) -> tuple[torch.Tensor, Terms]:
        """Return what `Run` asks for."""
        _, n_steps, size = rows.shape
        rows = rows.reshape(len(rows), -1)
        share: float | torch.Tensor = -1.0 / n_rows
        if weight is not None:
            share = take(weight, rows).unsqueeze(-1) * share
        terms: Terms = [
            (_cut(take(term.targets, rows) * share, size), term.temperature)
            for term in self.terms
        ]
        if self.first_row is not None:
            rows = rows + self.first_row
        inputs = take(self.x, rows)
        return inputs.view(len(inputs), n_steps, size, inputs.shape[2]), terms

    def narrowed(self, members: torch.Tensor) -> TrainingSet:
        """Return the targets, weights and rows of some of the members."""

        def of_members(values: torch.Tensor) -> torch.Tensor:
            return values if len(values) == 1 else values[members.to(values.device)]

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
            first_row=None if self.first_row is None else of_members(self.first_row),
        )


def _member_temperatures(
    temperature: float | torch.Tensor, rows: torch.Tensor
) -> float | torch.Tensor:
    import torch

    return temperature[rows] if isinstance(temperature, torch.Tensor) else temperature


def _cut(factors: torch.Tensor, size: int) -> torch.Tensor:
    """Cut (G, n_rows, n_classes) into batches of a size, class by class if few."""
    parts = factors.view(len(factors), -1, size, factors.shape[2])
    return classes_first(parts)


def shuffled(
    rows: torch.Tensor, batch_size: int, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """Return the rows of an epoch in the order of its steps, shape (1 or G, n_rows).

    When all rows fit into one batch their order does not matter and is left alone.
    """
    import torch

    n_rows = rows.shape[1]
    if n_rows <= batch_size:
        return rows
    orders = [torch.randperm(n_rows, generator=g, device="cpu") for g in generators]
    order = torch.stack(orders).to(rows.device)
    n_orders = max(len(rows), len(order))
    return rows.expand(n_orders, -1).gather(1, order.expand(n_orders, -1))


def cut_into_batches(
    n_rows: int, batch_size: int, together: int = 1
) -> Iterator[tuple[int, int, int]]:
    """Yield runs of batches of one size: it, and where the run begins and ends.

    Batches differ by at most one row, as a tiny last one would be a noisy step; the
    larger ones come first.

    Parameters
    ----------
    n_rows : int
        Rows of an epoch.
    batch_size : int
        Largest number of rows of a batch.
    together : int, default=1
        Largest number of batches of a run.
    """
    n_batches = -(-n_rows // batch_size)
    size, n_larger = divmod(n_rows, n_batches)
    stop = 0
    for rows, count in ((size + 1, n_larger), (size, n_batches - n_larger)):
        for first in range(0, count, together):
            start, stop = stop, stop + rows * min(together, count - first)
            yield rows, start, stop


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
