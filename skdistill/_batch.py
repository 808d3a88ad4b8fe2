"""Batches of a step, and the soft cross-entropies that are minimised over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch

#: Below this many classes logits lie in memory class by class: products with, and
#: reductions over, so few columns are several times faster that way.
FEW_CLASSES = 32


def lie_by_class(n_classes: int) -> bool:
    """Return whether logits of so many classes lie in memory class by class."""
    return n_classes < FEW_CLASSES


#: Coefficients of the log-probabilities, and the student temperature, of each term.
Terms: TypeAlias = "list[tuple[torch.Tensor, float | torch.Tensor]]"


class Values(NamedTuple):
    """Numbers of some rows, seen both ways.

    Of few rows, a tensor takes as long to be turned as to be worked on.

    Attributes
    ----------
    rows : tensor of shape (G, n_rows, width)
        Row by row.
    turned : tensor of shape (G, width, n_rows)
        The same memory.
    """

    rows: torch.Tensor
    turned: torch.Tensor

    @classmethod
    def of(cls, rows: torch.Tensor) -> Values:
        """Return both views of what is there row by row."""
        return cls(rows, rows.transpose(1, 2))


class Batch(Protocol):
    """The rows of a step, with what is minimised over them."""

    @property
    def x(self) -> torch.Tensor:
        """Inputs, shape (1 or G, batch_size, n_features)."""

    def shards(self) -> tuple[Batch, Batch] | None:
        """Return two halves whose objectives add up, None where rows belong together.

        Without a copy.
        """

    def loss_and_slope(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss (G,) and its slope in the logits.

        Logits and slope have shape (G, batch_size, n_classes), in any memory layout.
        """


class CrossEntropyBatch(NamedTuple):
    """Rows and the weighted sum of their soft cross-entropies.

    Attributes
    ----------
    x : tensor of shape (1 or G, batch_size, n_features)
        Inputs.
    terms : list of (tensor (1 or G, batch_size, n_classes), float or tensor (G, 1, 1))
        For each soft cross-entropy the coefficients of the log-probabilities, minus the
        targets times the weights of the rows, and the student temperature.
    """

    x: torch.Tensor
    terms: Terms

    def shards(self) -> tuple[CrossEntropyBatch, CrossEntropyBatch]:
        """Return two halves of the rows."""
        n_rows = self.x.shape[1]
        sizes = [n_rows // 2, n_rows - n_rows // 2]
        halves = zip(
            self.x.split(sizes, 1),
            *(factors.split(sizes, 1) for factors, _ in self.terms),
            strict=True,
        )
        temperatures = [temperature for _, temperature in self.terms]
        first, second = (
            CrossEntropyBatch(x, list(zip(factors, temperatures, strict=True)))
            for x, *factors in halves
        )
        return first, second

    def loss_and_slope(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of each member and its slope in the logits."""
        return cross_entropy_and_slope(self, logits)


class Run(NamedTuple):
    """Batches of one size, of steps that follow each other.

    Attributes
    ----------
    rows : LongTensor of shape (1 or G, n_steps, batch_size)
        The rows of each step.
    gather : callable
        Takes such rows; returns their inputs (1 or G, n_steps, batch_size, n_features)
        and terms, as those of `CrossEntropyBatch`, (1 or G, n_steps, batch_size,
        n_classes).
    """

    rows: torch.Tensor
    gather: Callable[[torch.Tensor], tuple[torch.Tensor, Terms]]

    @property
    def batch_size(self) -> int:
        """Rows of a step."""
        return self.rows.shape[2]

    def batches(self) -> Iterator[CrossEntropyBatch]:
        """Gather the rows of all steps, and yield the batch of each."""
        inputs, terms = self.gather(self.rows)
        temperatures = [temperature for _, temperature in terms]
        factors = [factors.unbind(1) for factors, _ in terms]
        for x, *parts in zip(inputs.unbind(1), *factors, strict=True):
            yield CrossEntropyBatch(x, list(zip(parts, temperatures, strict=True)))

    def shards(self) -> tuple[Run, Run]:
        """Return the two halves of the rows of each step, as those of a batch are."""
        middle = self.batch_size // 2
        first, second = self.rows[:, :, :middle], self.rows[:, :, middle:]
        return Run(first, self.gather), Run(second, self.gather)


def classes_first(values: torch.Tensor) -> torch.Tensor:
    """Lay an array (..., rows, classes) out class by class, where classes are few.

    Parameters
    ----------
    values : tensor of shape (..., n_rows, n_classes)
        Logits, targets and the like.

    Returns
    -------
    tensor of shape (..., n_rows, n_classes)
        The same, copied where its memory is not laid out so yet.
    """
    if lie_by_class(values.shape[-1]):
        return values.mT.contiguous().mT
    return values


def cross_entropy_and_slope(
    batch: CrossEntropyBatch, logits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the objective and its slope in the logits.

    Parameters
    ----------
    batch : CrossEntropyBatch
        Coefficients c of the log-probabilities, and student temperatures S.
    logits : tensor of shape (G, batch_size, n_classes)
        Logits z of the batch.

    Returns
    -------
    loss : tensor of shape (G,)
        Sum over terms, rows and classes of ``c log softmax(z / S)``.
    slope : tensor of shape (G, batch_size, n_classes)
        ``(c - sum(c) softmax(z / S)) / S``, summed over the terms.
    """
    slope = Values.of(classes_first(logits.new_empty(logits.shape)))
    return write_slope(batch, Values.of(logits), slope), slope.rows


def write_slope(
    batch: CrossEntropyBatch, logits: Values, slope: Values
) -> torch.Tensor:
    """Write what `cross_entropy_and_slope` returns, but for the loss, which it returns.

    Parameters
    ----------
    batch : CrossEntropyBatch
        As there.
    logits : Values
        Of shape (G, batch_size, n_classes).
    slope : Values
        Memory of that shape, laid out as `classes_first` does: torch's derivative of a
        log-softmax would take another layout for this one.

    Returns
    -------
    tensor of shape (G,)
        The loss.
    """
    import torch

    by_class = lie_by_class(logits.rows.shape[2])
    dim, z, out = (
        (1, logits.turned, slope.turned) if by_class else (2, logits.rows, slope.rows)
    )
    loss = None
    for factors, temperature in batch.terms:
        factors = factors.transpose(1, 2) if by_class else factors
        if len(factors) != len(z):
            factors = factors.expand_as(z)
        at_one = isinstance(temperature, float) and temperature == 1.0
        log_proba = (z if at_one else z / temperature).log_softmax(dim)
        # The derivative of a log-softmax, in one pass.
        term_slope = torch._log_softmax_backward_data(
            factors, log_proba, dim, z.dtype, out=out if loss is None else None
        )
        if not at_one:
            term_slope /= temperature
        term = log_proba.mul_(factors).sum((1, 2))
        if loss is None:
            loss = term
        else:
            loss += term
            out += term_slope
    assert loss is not None
    return loss
