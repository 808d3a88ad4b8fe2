"""What moves the parameters of a stack, and their average over the steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import is_
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from skdistill._parts import Operation, Part, halves, whole

if TYPE_CHECKING:
    import torch


class Optimizer(Protocol):
    """Moves parameters along the gradients that the stack has set."""

    def step(self) -> None:
        """Move the parameters that have a gradient."""

    def narrow(self, parameters: list[torch.Tensor], rows: torch.Tensor) -> None:
        """Go on with some members, whose parameters are `parameters`."""


class AdamW:
    """AdamW (Loshchilov and Hutter 2019), one call of torch's fused kernel a step.

    `torch.optim.AdamW` does the same; what it does around the kernel takes longer than
    the kernel itself on small networks.

    Parameters
    ----------
    parameters : list of tensor
        What is trained.
    learning_rate : float or sequence of float
        Step size, of all members or of each.
    weight_decay : float or sequence of float
        Decoupled weight decay, of all members or of each.
    """

    def __init__(
        self,
        parameters: list[torch.Tensor],
        learning_rate: float | Sequence[float],
        weight_decay: float | Sequence[float],
    ) -> None:
        import torch

        self.parameters = parameters
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]
        self.steps = [
            torch.zeros((), dtype=torch.float32, device=p.device) for p in parameters
        ]
        rates = learning_rate, weight_decay
        # One entry for all members, or one for each: then a parameter has a row of each
        # member, and its gradient stays where it is.
        self.rates = list(
            zip(*np.broadcast_arrays(*map(np.atleast_1d, rates)), strict=True)
        )
        self._arranged_for: list[torch.Tensor | None] = []
        self._operations: list[Operation] = []

    def step(self) -> None:
        """Move the parameters that have a gradient."""
        gradients = [p.grad for p in self.parameters]
        before = self._arranged_for
        if len(before) != len(gradients) or not all(map(is_, before, gradients)):
            self._arranged_for = gradients
            self._operations = [*self.counting(), *self.moving()]
        for operation in self._operations:
            operation()

    def counting(self) -> list[Operation]:
        """Return what is to be done before each step."""
        counted = zip(self.parameters, self.steps, strict=True)
        return [partial(n.add_, 1) for p, n in counted if p.grad is not None]

    def moving(self, part: Part = whole) -> list[Operation]:
        """Return what moves the parameters along their present gradients, or a part."""
        import torch

        every = zip(self.parameters, self.first, self.second, self.steps, strict=True)
        groups: dict[tuple[float, float], list[Any]] = {}
        for parameter, first, second, count in every:
            if parameter.grad is None:
                continue
            tensors = map(part, (parameter, parameter.grad, first, second))
            each = [tensors] if len(self.rates) == 1 else zip(*tensors, strict=True)
            for rates, row in zip(self.rates, each, strict=True):
                groups.setdefault(rates, []).append((*row, count))
        operations: list[Operation] = []
        for (learning_rate, weight_decay), group in groups.items():
            *states, counts = map(list, zip(*group, strict=True))
            step = partial(
                torch._fused_adamw_,
                *states,
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
            operations.append(step)
        return operations

    def halves(self) -> tuple[Part, Part]:
        """Return two parts of the parameters, each of which can be moved by itself."""
        return halves(by_member=len(self.rates) > 1)

    def narrow(self, parameters: list[torch.Tensor], rows: torch.Tensor) -> None:
        """Go on with some members, whose parameters are `parameters`."""
        self.parameters = parameters
        self.first = [moment[rows] for moment in self.first]
        self.second = [moment[rows] for moment in self.second]
        if len(self.rates) > 1:
            self.rates = [self.rates[i] for i in rows.tolist()]
        self._arranged_for = []


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
        self.count()
        self._update(self.means, self.parameters)

    def count(self) -> None:
        """Be told of a step."""
        self.n_steps += 1

    def updating(self, part: Part) -> Operation:
        """Return what takes a part of the parameters into account, after `count`."""
        means, parameters = (list(map(part, x)) for x in (self.means, self.parameters))
        return partial(self._update, means, parameters)

    def _update(
        self, means: list[torch.Tensor], parameters: list[torch.Tensor]
    ) -> None:
        import torch

        with torch.no_grad():
            torch._foreach_lerp_(means, parameters, averaging_share(self.n_steps))

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


def averaging_share(n_steps: int) -> float:
    r"""Return the share of the newest parameters in their average.

    :math:`3 / (t + 2)`: polynomial-decay averaging, Section 4 of [1]_ with
    :math:`\eta = 2`. About the last third of the steps counts, however many they are.

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
    return 3 / (n_steps + 2)
