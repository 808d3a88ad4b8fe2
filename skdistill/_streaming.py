"""Batches on their way from host memory to a device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from skdistill._batch import CrossEntropyBatch
from skdistill._device import side_stream

if TYPE_CHECKING:
    import torch


def moved_ahead(
    batches: Iterator[CrossEntropyBatch], device: str
) -> Iterator[CrossEntropyBatch]:
    """Move batches to a device, each before the one ahead of it is worked on.

    For rows that do not fit on the device. On CUDA the copies come from pinned memory
    and run in a stream of their own, beside the steps.

    Parameters
    ----------
    batches : iterator of CrossEntropyBatch
        Batches in host memory.
    device : str
        Torch device.

    Yields
    ------
    CrossEntropyBatch
        The same, on the device.
    """
    copies = _CudaCopies(device) if device.startswith("cuda") else _Copies(device)
    waiting: tuple[CrossEntropyBatch, Any] | None = None
    for batch in batches:
        following = copies.start(batch)
        if waiting is not None:
            yield copies.finish(*waiting)
        waiting = following
    if waiting is not None:
        yield copies.finish(*waiting)


class _Copies:
    """Copies that are done when they have been asked for."""

    def __init__(self, device: str) -> None:
        self.device = device

    def start(self, batch: CrossEntropyBatch) -> tuple[CrossEntropyBatch, Any]:
        """Return a batch on the device, and what to wait for before it is used."""
        return _each(batch, lambda values: values.to(self.device)), None

    def finish(self, batch: CrossEntropyBatch, event: Any) -> CrossEntropyBatch:
        """Return a batch that may be used."""
        return batch


class _CudaCopies(_Copies):
    """Copies from pinned memory, in a stream of their own."""

    def __init__(self, device: str) -> None:
        import torch

        super().__init__(device)
        present = torch.cuda.current_stream(device)
        self.stream = side_stream(present.device, "copies")

    def start(self, batch: CrossEntropyBatch) -> tuple[CrossEntropyBatch, Any]:
        """Return a batch on its way, and the event of its arrival."""
        import torch

        with torch.cuda.stream(self.stream):
            moving = _each(
                batch,
                lambda values: values.pin_memory().to(self.device, non_blocking=True),
            )
        return moving, self.stream.record_event()

    def finish(self, batch: CrossEntropyBatch, event: Any) -> CrossEntropyBatch:
        """Let the present stream wait for a batch; its memory is in use until then."""
        import torch

        present = torch.cuda.current_stream(self.device)
        present.wait_event(event)

        def used(values: torch.Tensor) -> torch.Tensor:
            values.record_stream(present)
            return values

        return _each(batch, used)


def _each(batch: CrossEntropyBatch, function: Any) -> CrossEntropyBatch:
    """Apply a function to the inputs and the factors of a batch."""
    terms = [
        (_keep_layout(function, factors), temperature)
        for factors, temperature in batch.terms
    ]
    return CrossEntropyBatch(function(batch.x), terms)


def _keep_layout(function: Any, factors: torch.Tensor) -> torch.Tensor:
    """Apply a function to factors as they lie in memory, class by class or not."""
    if factors.is_contiguous():
        return function(factors)
    return function(factors.transpose(1, 2)).transpose(1, 2)
