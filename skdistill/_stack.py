"""Stacks: G students of one architecture held together, so that one loop trains all.

A stack maps a batch of shape (1 or G, batch_size, n_features) to logits of shape
(G, batch_size, n_classes), and remembers for each member the parameters to keep.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import Executor
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from skdistill._front import Front
from skdistill._hidden_units import activate, through_activation
from skdistill._typing import FloatArray

if TYPE_CHECKING:
    import torch

#: A step of at least this many floating-point operations is cut into two shards of
#: rows, which two threads may work on: below it, handing over costs more than it saves.
SHARD_FLOPS = 8e7
N_SHARDS = 2


#: Below this many classes logits lie in memory class by class: products with, and
#: reductions over, so few columns are several times faster that way.
FEW_CLASSES = 32


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
    terms: list[tuple[torch.Tensor, float | torch.Tensor]]

    def rows(self, start: int, stop: int) -> CrossEntropyBatch:
        """Return some of the rows, without a copy."""
        terms = [(factors[:, start:stop], s) for factors, s in self.terms]
        return CrossEntropyBatch(self.x[:, start:stop], terms)

    def shards(self) -> tuple[CrossEntropyBatch, CrossEntropyBatch]:
        """Return two halves of the rows."""
        n_rows = self.x.shape[1]
        return self.rows(0, n_rows // 2), self.rows(n_rows // 2, n_rows)

    def loss_and_slope(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of each member and its slope in the logits."""
        return cross_entropy_and_slope(self, logits)


class Stack(Protocol):
    """What the training loop needs of a stack."""

    n_members: int
    #: The members that are still trained; rows of what the methods below return.
    training_members: NDArray[np.int_]
    #: Whether each step on batches of one shape does the same, whatever the numbers.
    repeats_itself: bool

    def parameters(self) -> list[torch.Tensor]:
        """Return the tensors to be trained."""

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (G, batch_size, n_classes) of a batch."""

    def gradient(self, batch: Batch, pool: Executor | None) -> torch.Tensor:
        """Set the parameters' gradients; return the batch's loss (G,)."""

    def n_shards(self, batch_size: int) -> int:
        """Return into how many shards of rows a batch is cut."""

    def training(self, mode: bool) -> None:
        """Switch layers that differ between training and prediction."""

    def keep(self, members: NDArray[np.bool_]) -> None:
        """Remember the present parameters of the members flagged."""

    def narrow(self, rows: torch.Tensor) -> None:
        """Go on with some of the members in training only; the others are kept."""


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
    if values.shape[-1] >= FEW_CLASSES:
        return values
    return values.mT.contiguous().mT


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
    import torch

    dim = 2
    if logits.shape[-1] < FEW_CLASSES:
        dim, logits = 1, logits.transpose(1, 2)
    loss, slope = None, None
    for factors, temperature in batch.terms:
        factors = factors.transpose(1, 2) if dim == 1 else factors
        at_one = isinstance(temperature, float) and temperature == 1.0
        log_proba = (logits if at_one else logits / temperature).log_softmax(dim)
        term = (log_proba * factors).sum((1, 2))
        # The derivative of a log-softmax, in one pass.
        term_slope = torch._log_softmax_backward_data(
            factors.expand_as(log_proba), log_proba, dim, log_proba.dtype
        )
        if not at_one:
            term_slope /= temperature
        loss = term if loss is None else loss + term
        slope = term_slope if slope is None else slope + term_slope
    assert loss is not None
    assert slope is not None
    return loss, slope.transpose(1, 2) if dim == 1 else slope


class MLPStack:
    """Multilayer perceptrons as batched matrix products, with their own backward pass.

    The parameters of a member lie in one row of one tensor, so that the optimiser is
    one call; layers are views of it.

    Parameters
    ----------
    layer_sizes : sequence of int
        Width of each layer, from n_features to n_classes.
    activation : {"identity", "logistic", "relu", "tanh"}
        Hidden activation.
    generators : sequence of torch.Generator
        One CPU generator a member; draws its initial parameters.
    device : str
        Torch device.
    dtype : torch.dtype
        Type of the parameters.
    product_dtype : torch.dtype or None, default=None
        Type that matrix products are taken in, if another.
    front : Front or None, default=None
        Appends inputs to those of the first layer. Its parameters come first.
    """

    repeats_itself = True

    def __init__(
        self,
        layer_sizes: Sequence[int],
        activation: str,
        generators: Sequence[torch.Generator],
        *,
        device: str,
        dtype: torch.dtype,
        product_dtype: torch.dtype | None = None,
        front: Front | None = None,
    ) -> None:
        import torch

        self.n_members = len(generators)
        self.activation = activation
        self.front = front
        self._n_front = 0
        if front is not None:
            layer_sizes = (front.n_out, *layer_sizes[1:])
            self._n_front = front.n_parameters
            front.to(device, dtype)
        self.layer_sizes = tuple(layer_sizes)
        self.product_dtype = dtype if product_dtype is None else product_dtype
        self._mixed = self.product_dtype != dtype
        self._few = layer_sizes[-1] < FEW_CLASSES
        members = [_draw_parameters(self.layer_sizes, g, front) for g in generators]
        self.training_members = np.arange(self.n_members)
        self._bind(torch.stack(members).to(device=device, dtype=dtype))
        self._kept = self._flat.clone()

    def _bind(self, flat: torch.Tensor) -> None:
        """Take the parameters (members, n_parameters) that are trained from now on."""
        import torch

        from skdistill._layers import Layer, LayerByOutput

        self._flat = flat
        # What products are taken with: the parameters, or a copy in another type.
        self._rounded = flat.to(self.product_dtype)
        self._gradients = [torch.zeros_like(flat) for _ in range(N_SHARDS)]
        self._flat.grad = self._gradients[0]
        gradients = list(zip(*map(self._views, self._gradients), strict=True))
        factors = self._views(self._rounded)
        layers = [Layer(*of_layer) for of_layer in zip(factors, gradients, strict=True)]
        if self._few:
            layers[-1] = LayerByOutput(factors[-1], gradients[-1])
        self._layers: list[Layer] = layers
        self._first_weight = self._views(flat)[0][0]

    def _views(self, flat: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return weights (G, in, out) and biases (G, 1, out) as views."""
        layers, start, n_members = [], self._n_front, len(flat)
        for i, (n_in, n_out) in enumerate(pairwise(self.layer_sizes), start=2):
            weight = flat[:, start : start + n_in * n_out]
            start += n_in * n_out
            bias = flat[:, start : start + n_out].view(n_members, 1, n_out)
            start += n_out
            if self._few and i == len(self.layer_sizes):
                weight = weight.view(n_members, n_out, n_in).transpose(1, 2)
            else:
                weight = weight.view(n_members, n_in, n_out)
            layers.append((weight, bias))
        return layers

    def parameters(self) -> list[torch.Tensor]:
        """Return the tensor (G, n_parameters) of all parameters."""
        return [self._flat]

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (G, batch_size, n_classes) of a batch."""
        import torch

        self._round()
        if self.front is None:
            return self._activations(x)[-1]
        parts = x.split(self.front.max_rows(len(x)), dim=1)
        behind = [self._behind_front(self.front, part)[:2] for part in parts]
        return torch.cat([self._activations(*inputs)[-1] for inputs in behind], dim=1)

    def _round(self) -> None:
        """Bring the copy of the parameters that products are taken with up to date."""
        if self._mixed:
            self._rounded.copy_(self._flat)

    def _behind_front(
        self, front: Front, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the first layer's inputs and weights, and the front's cosines.

        The weights have the front's factors; the cosines are for its slopes.
        """
        parameters = self._flat[:, : self._n_front]
        x, cosines = front.forward(parameters, x)
        weight = front.scaled(parameters, self._first_weight)
        return x, weight.to(self.product_dtype), cosines

    def _activations(
        self, x: torch.Tensor, first_weight: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Return the input, the outputs of the hidden layers, and the logits."""
        if self._mixed:
            x = x.to(self.product_dtype)
        outputs = [x.expand(len(self._flat), -1, -1)]
        weight = first_weight
        for layer in self._layers[:-1]:
            hidden = layer.forward(outputs[-1], weight)
            outputs.append(activate(hidden, self.activation))
            weight = None
        logits = self._layers[-1].forward(outputs[-1], weight)
        outputs.append(logits.to(self._flat.dtype) if self._mixed else logits)
        return outputs

    def n_shards(self, batch_size: int) -> int:
        """Return into how many shards of rows a batch is cut.

        On a CPU it follows from the sizes alone: whoever works on the shards, their
        gradients are added in the same order.
        """
        flops = 6.0 * batch_size * self._flat.numel()
        if self._flat.device.type != "cpu":
            return 1
        return N_SHARDS if flops >= SHARD_FLOPS and batch_size >= 2 * N_SHARDS else 1

    def gradient(self, batch: Batch, pool: Executor | None) -> torch.Tensor:
        """Set the parameters' gradient; return the batch's loss (G,)."""
        self._round()
        halves = batch.shards() if self.n_shards(batch.x.shape[1]) > 1 else None
        if halves is None:
            return self._shard_gradient(0, batch)
        if pool is None:
            first, second = (self._shard_gradient(i, halves[i]) for i in range(2))
        else:
            other = pool.submit(self._shard_gradient, 1, halves[1])
            first, second = self._shard_gradient(0, halves[0]), other.result()
        self._gradients[0] += self._gradients[1]
        return first + second

    def _shard_gradient(self, shard: int, batch: Batch) -> torch.Tensor:
        """Back-propagate some rows into one gradient buffer; return their loss."""
        if self.front is None:
            outputs = self._activations(batch.x)
            loss, _ = self._back_propagate(shard, batch, outputs)
            return loss
        import torch

        x, weight, cosines = self._behind_front(self.front, batch.x)
        outputs = self._activations(x, weight)
        loss, slope = self._back_propagate(shard, batch, outputs)
        # Of the first layer's inputs only those that the front has appended.
        slope = torch.bmm(weight[:, self.front.n_in :], slope.transpose(1, 2))
        self.front.backward(
            self._flat[:, : self._n_front],
            cosines,
            slope.to(self._flat.dtype),
            self._first_weight,
            self._layers[0].gradients[shard][0],
            self._gradients[shard][:, : self._n_front],
        )
        return loss

    def _back_propagate(
        self, shard: int, batch: Batch, outputs: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the layers' gradients; return loss and slope in the first's outputs."""
        loss, slope = batch.loss_and_slope(outputs.pop())
        for i in range(len(outputs) - 1, -1, -1):
            layer, inputs = self._layers[i], outputs[i]
            layer.backward(shard, inputs, slope)
            if self._mixed:
                slope = slope.to(self.product_dtype)
            if i:
                slope = through_activation(
                    layer.to_inputs(slope), inputs, self.activation
                )
        return loss, slope

    def training(self, mode: bool) -> None:
        """Do nothing: no layer differs between training and prediction."""

    def keep(self, members: NDArray[np.bool_]) -> None:
        """Remember the present parameters of the members flagged."""
        import torch

        here = members[self.training_members]
        rows = torch.from_numpy(np.flatnonzero(here)).to(self._flat.device)
        kept = torch.from_numpy(self.training_members[here]).to(self._flat.device)
        self._kept[kept] = self._flat[rows]

    def narrow(self, rows: torch.Tensor) -> None:
        """Go on with some of the members in training only; the others are kept."""
        self.training_members = self.training_members[rows.cpu().numpy()]
        if self.front is not None:
            self.front.narrow(rows)
        self._bind(self._flat[rows])

    def kept(self, member: int) -> tuple[list[FloatArray], list[FloatArray]]:
        """Return the remembered coefficients and intercepts of a member, as numpy.

        The coefficients begin with those of the front's embeddings, if it has one. Its
        factors are in those of the first layer.
        """
        return self._as_numpy(self._kept, member)

    def current(self, member: int) -> tuple[list[FloatArray], list[FloatArray]]:
        """Return the present coefficients and intercepts of a member, as numpy."""
        return self._as_numpy(self._flat, member)

    def _as_numpy(
        self, flat: torch.Tensor, member: int
    ) -> tuple[list[FloatArray], list[FloatArray]]:
        layers = self._views(flat)
        if self.front is None:
            return _as_layers(layers, member)
        parameters = flat[:, : self._n_front]
        layers[0] = (self.front.scaled(parameters, layers[0][0]), layers[0][1])
        coefs, intercepts = _as_layers(layers, member)
        embedding = self.front.coefs(parameters)[member].cpu().numpy().copy()
        return [embedding, *coefs], intercepts


def _draw_parameters(
    layer_sizes: Sequence[int],
    generator: torch.Generator,
    front: Front | None = None,
) -> torch.Tensor:
    """Draw one member's parameters, uniform in plus or minus 1 / sqrt(n_in).

    torch's own bound for linear layers: on tables it had the lower test log-loss in
    most comparisons with those of He and Glorot, which are larger. Drawn in float64 on
    the CPU whatever the device and type, so that a seed means the same everywhere.
    """
    import torch

    parts = [] if front is None else [front.draw_parameters(generator)]
    for n_in, n_out in pairwise(layer_sizes):
        n_drawn = (n_in + 1) * n_out
        drawn = torch.rand(n_drawn, generator=generator, dtype=torch.float64)
        parts.append((2 * drawn - 1) / n_in**0.5)
    if n_out < FEW_CLASSES:
        weight, bias = parts.pop().split([n_in * n_out, n_out])
        parts += [weight.view(n_in, n_out).T.reshape(-1), bias]
    return torch.cat(parts)


def _as_layers(
    layers: list[tuple[torch.Tensor, torch.Tensor]], member: int
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return a member's coefficients and intercepts, copied to numpy."""
    coefs = [weight[member].cpu().numpy().copy() for weight, _ in layers]
    intercepts = [bias[member, 0].cpu().numpy().copy() for _, bias in layers]
    return coefs, intercepts


class ModuleStack:
    """Users' modules side by side, for architectures that cannot be batched.

    Parameters
    ----------
    modules : sequence of torch.nn.Module
        One module a member, on one device.
    """

    #: A user's module may do anything.
    repeats_itself = False

    def __init__(self, modules: Sequence[torch.nn.Module]) -> None:
        self.modules = list(modules)
        self.n_members = len(self.modules)
        self.training_members = np.arange(self.n_members)
        self._kept = [copy.deepcopy(m.state_dict()) for m in self.modules]

    def parameters(self) -> list[torch.Tensor]:
        """Return the parameters of all modules that are not frozen."""
        return [p for m in self.modules for p in m.parameters() if p.requires_grad]

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (G, batch_size, n_classes) of a batch."""
        import torch

        batches = x.expand(self.n_members, *x.shape[1:])
        outputs = [m(b) for m, b in zip(self.modules, batches, strict=True)]
        return torch.stack(outputs)

    def n_shards(self, batch_size: int) -> int:
        """Return 1: layers like batch normalisation need the whole batch."""
        return 1

    def gradient(self, batch: Batch, pool: Executor | None) -> torch.Tensor:
        """Set the parameters' gradients; return the batch's loss (G,)."""
        import torch

        for parameter in self.parameters():
            parameter.grad = None
        with torch.enable_grad():
            logits = self.logits(batch.x)
        loss, slope = batch.loss_and_slope(logits.detach())
        logits.backward(slope)
        return loss

    def training(self, mode: bool) -> None:
        """Switch dropout, batch normalisation and the like."""
        for module in self.modules:
            module.train(mode)

    def narrow(self, rows: torch.Tensor) -> None:
        """Do nothing: modules do not slow each other down by much."""

    def keep(self, members: NDArray[np.bool_]) -> None:
        """Remember the present state of the members flagged."""
        for member in np.flatnonzero(members):
            self._kept[member] = copy.deepcopy(self.modules[member].state_dict())

    def kept(self, member: int) -> dict[str, NDArray[Any]]:
        """Return the remembered state of a member, as numpy arrays by name."""
        return _as_arrays(self._kept[member])

    def current(self, member: int) -> dict[str, NDArray[Any]]:
        """Return the present state of a member, as numpy arrays by name."""
        return _as_arrays(self.modules[member].state_dict())


def _as_arrays(state: dict[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}
