"""Layers of stacked perceptrons: the matrix products of a step, there and back.

Imported where torch is at work already. A step of a small network is as long as the
Python between its operations, so what an operation takes is made once, not each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch

#: Weights (G, in, out) and biases (G, 1, out), or their gradients.
Parameters: TypeAlias = tuple[torch.Tensor, torch.Tensor]


class Layer:
    """A layer of each member of a stack.

    Parameters
    ----------
    parameters : tuple of tensor
        What products are taken with.
    gradients : sequence of tuple of tensor
        Where the gradients of each shard of rows are written.
    """

    def __init__(self, parameters: Parameters, gradients: Sequence[Parameters]) -> None:
        self.weight, self.bias = parameters
        self.gradients = list(gradients)
        self._turned = self.weight.transpose(1, 2)
        # Products are written where they belong, but for those of another type.
        self._in_place = self.weight.dtype == gradients[0][0].dtype

    def forward(
        self, inputs: torch.Tensor, weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return outputs (G, n_rows, out), perhaps by other weights."""
        if weight is None:
            weight = self.weight
        return torch.baddbmm(self.bias, inputs, weight)

    def backward(self, shard: int, inputs: torch.Tensor, slope: torch.Tensor) -> None:
        """Write the gradients, by the slope in the outputs (G, n_rows, out)."""
        to_weight, to_bias = self.gradients[shard]
        torch.sum(slope, 1, keepdim=True, out=to_bias)
        self._write_product(inputs.transpose(1, 2), slope, to_weight)

    def to_inputs(self, slope: torch.Tensor) -> torch.Tensor:
        """Return the slope in the inputs (G, n_rows, in)."""
        return torch.bmm(slope, self._turned)

    def _write_product(
        self, left: torch.Tensor, right: torch.Tensor, out: torch.Tensor
    ) -> None:
        if self._in_place:
            torch.bmm(left, right, out=out)
        else:
            dtype = self.weight.dtype
            out.copy_(torch.bmm(left.to(dtype), right.to(dtype)))


class LayerByOutput(Layer):
    """A layer whose weights and outputs lie in memory output by output.

    Products with, and reductions over, few outputs are several times faster that way.
    """

    def __init__(self, parameters: Parameters, gradients: Sequence[Parameters]) -> None:
        super().__init__(parameters, gradients)
        self._bias_column = self.bias.transpose(1, 2)
        self._columns = [(w.transpose(1, 2), b.transpose(1, 2)) for w, b in gradients]

    def forward(
        self, inputs: torch.Tensor, weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return outputs (G, n_rows, out), perhaps by other weights."""
        turned = self._turned if weight is None else weight.transpose(1, 2)
        by_output = torch.baddbmm(self._bias_column, turned, inputs.transpose(1, 2))
        return by_output.transpose(1, 2)

    def backward(self, shard: int, inputs: torch.Tensor, slope: torch.Tensor) -> None:
        """Write the gradients, by the slope in the outputs (G, n_rows, out)."""
        to_weight, to_bias = self._columns[shard]
        by_output = slope.transpose(1, 2)
        torch.sum(by_output, 2, keepdim=True, out=to_bias)
        self._write_product(by_output, inputs, to_weight)
