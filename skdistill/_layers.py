"""Layers of stacked perceptrons: the matrix products of a step, there and back.

Imported where torch is at work already. A step of a small network is as long as the
Python between its operations, and two threads, a shard of a step each, wait for each
other's Python. So operations are made once, with all that they take, and called often.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import torch

from skdistill._batch import Values
from skdistill._hidden_units import activating, going_back
from skdistill._parts import Operation

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

    def outputs(self, n_rows: int, dtype: torch.dtype | None = None) -> Values:
        """Return memory for the outputs of some rows, or for slopes in them."""
        n_members, _, width = self.weight.shape
        return Values.of(self.weight.new_empty(n_members, n_rows, width, dtype=dtype))

    def forward(
        self, inputs: Values, out: Values, weight: torch.Tensor | None = None
    ) -> Operation:
        """Return what writes the outputs, perhaps by other weights."""
        weight = self.weight if weight is None else weight
        return partial(torch.baddbmm, self.bias, inputs.rows, weight, out=out.rows)

    def to_bias(self, shard: int, slope: Values) -> list[Operation]:
        """Return what writes the biases' gradients, by the slope in the outputs."""
        _, to_bias = self.gradients[shard]
        return _written(partial(torch.sum, slope.rows, 1, keepdim=True), slope, to_bias)

    def to_weight(self, shard: int, inputs: Values, slope: Values) -> list[Operation]:
        """Return what writes the weights' gradients."""
        to_weight, _ = self.gradients[shard]
        product = partial(torch.bmm, inputs.turned, slope.rows)
        return _written(product, slope, to_weight)

    def to_inputs(self, slope: Values, out: Values) -> Operation:
        """Return what writes the slope in the inputs."""
        return partial(torch.bmm, slope.rows, self._turned, out=out.rows)


class LayerByOutput(Layer):
    """A layer whose weights and outputs lie in memory output by output.

    Products with, and reductions over, few outputs are several times faster that way.
    """

    def outputs(self, n_rows: int, dtype: torch.dtype | None = None) -> Values:
        """Return memory for the outputs of some rows, or for slopes in them."""
        n_members, _, width = self.weight.shape
        turned = self.weight.new_empty(n_members, width, n_rows, dtype=dtype)
        return Values(turned.transpose(1, 2), turned)

    def forward(
        self, inputs: Values, out: Values, weight: torch.Tensor | None = None
    ) -> Operation:
        """Return what writes the outputs, perhaps by other weights."""
        turned = self._turned if weight is None else weight.transpose(1, 2)
        bias = self.bias.transpose(1, 2)
        return partial(torch.baddbmm, bias, turned, inputs.turned, out=out.turned)

    def to_bias(self, shard: int, slope: Values) -> list[Operation]:
        """Return what writes the biases' gradients, by the slope in the outputs."""
        out = self.gradients[shard][1].transpose(1, 2)
        return _written(partial(torch.sum, slope.turned, 2, keepdim=True), slope, out)

    def to_weight(self, shard: int, inputs: Values, slope: Values) -> list[Operation]:
        """Return what writes the weights' gradients."""
        out = self.gradients[shard][0].transpose(1, 2)
        product = partial(torch.bmm, slope.turned, inputs.rows)
        return _written(product, slope, out)


def _written(
    found_by: Callable[..., Any], slope: Values, out: torch.Tensor
) -> list[Operation]:
    """Return what writes a gradient where it belongs, found in the type of a slope.

    To find it in another type takes several times as long.
    """
    if slope.rows.dtype == out.dtype:
        return [partial(found_by, out=out)]
    found = torch.empty_like(out, dtype=slope.rows.dtype)
    return [partial(found_by, out=found), partial(out.copy_, found)]


class Pass:
    """The way through layers and back, of so many rows, in memory of its own.

    Made once for all steps on as many rows.

    Parameters
    ----------
    layers : sequence of Layer
        From the first to the last.
    activation : {"identity", "logistic", "relu", "tanh"}
        Of all outputs but the last.
    n_rows : int
        Rows of a step, or of a shard of it.

    Attributes
    ----------
    logits : Values
        Outputs of the last layer, in the type of the parameters.
    slope : Values
        In the logits, likewise; where the way back begins.
    """

    def __init__(self, layers: Sequence[Layer], activation: str, n_rows: int) -> None:
        self._layers = layers
        self._activation = activation
        self._n_rows = n_rows
        self._n_members = len(layers[0].weight)
        self._product_dtype = layers[0].weight.dtype
        dtype = layers[0].gradients[0][0].dtype
        self._mixed = self._product_dtype != dtype
        self._outputs = [layer.outputs(n_rows) for layer in layers]
        self._there: list[Operation] = []
        for layer, (inputs, out) in zip(
            layers[1:], pairwise(self._outputs), strict=True
        ):
            self._there += [
                activating(inputs.rows, activation),
                layer.forward(inputs, out),
            ]
        self.logits = self._outputs[-1]
        if self._mixed:
            self.logits = layers[-1].outputs(n_rows, dtype)
            rounded = self._outputs[-1].rows
            self._there.append(partial(self.logits.rows.copy_, rounded))
        self.slope = layers[-1].outputs(n_rows, dtype)
        self._back: list[Operation] = []

    def forward(
        self, x: torch.Tensor, first_weight: torch.Tensor | None = None
    ) -> Values:
        """Write the logits.

        Parameters
        ----------
        x : tensor of shape (1 or G, n_rows, n_in)
            Inputs of the first layer.
        first_weight : tensor of shape (G, n_in, width) or None, default=None
            What to take for its weights.

        Returns
        -------
        Values
            `logits`.
        """
        if self._mixed:
            x = x.to(self._product_dtype)
        if len(x) != self._n_members:
            x = x.expand(self._n_members, -1, -1)
        self._x = Values.of(x)
        self._layers[0].forward(self._x, self._outputs[0], first_weight)()
        for operation in self._there:
            operation()
        return self.logits

    def backward(self, shard: int) -> Values:
        """Write the layers' gradients, by the slope in the logits, after `forward`.

        Parameters
        ----------
        shard : int
            Where to write; the same in all calls.

        Returns
        -------
        Values
            The slope in the first layer's outputs, in the type of products.
        """
        if not self._back:
            self._first_slope = self._prepare_back(shard)
        for operation in self._back:
            operation()
        for operation in self._layers[0].to_weight(shard, self._x, self._first_slope):
            operation()
        return self._first_slope

    def _prepare_back(self, shard: int) -> Values:
        """Make all operations but those that take the first layer's inputs."""
        last, slope = self._layers[-1], self.slope
        self._back += last.to_bias(shard, slope)
        if self._mixed:
            slope = last.outputs(self._n_rows)
            self._back.append(partial(slope.rows.copy_, self.slope.rows))
        for i in range(len(self._layers) - 1, 0, -1):
            layer, before = self._layers[i], self._layers[i - 1]
            inputs, to_inputs = self._outputs[i - 1], before.outputs(self._n_rows)
            self._back += [
                *layer.to_weight(shard, inputs, slope),
                layer.to_inputs(slope, to_inputs),
                going_back(to_inputs.rows, inputs.rows, self._activation),
                *before.to_bias(shard, to_inputs),
            ]
            slope = to_inputs
        return slope
