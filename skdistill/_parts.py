"""Parts of the parameters of a stack, and of whatever has a number for each of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch

#: Something to do, with what it takes.
Operation: TypeAlias = Callable[[], Any]
#: Returns a part of a tensor (G, n_parameters), as a view.
Part: TypeAlias = Callable[["torch.Tensor"], "torch.Tensor"]


def whole(values: torch.Tensor) -> torch.Tensor:
    """Return all of a tensor."""
    return values


def halves(*, by_member: bool) -> tuple[Part, Part]:
    """Return two parts that make up the whole.

    Parameters
    ----------
    by_member : bool
        Whether each member is cut in two, or all of them as one.

    Returns
    -------
    first, second : callable
        The first half ends where vectors of any width do: what is done to each number
        does not depend on whether it is done to a half.
    """
    first, second = (partial(_half, side, by_member) for side in range(2))
    return first, second


def _half(side: int, by_member: bool, values: torch.Tensor) -> torch.Tensor:
    rows = values if by_member else values.view(1, -1)
    middle = rows.shape[1] // 128 * 64
    return rows[:, middle:] if side else rows[:, :middle]
