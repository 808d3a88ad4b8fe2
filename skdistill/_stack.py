"""Stacks: G students of one architecture held together, so that one loop trains all.

A stack maps a batch of shape (1 or G, batch_size, n_features) to logits of shape
(G, batch_size, n_classes), and remembers for each member the parameters to keep.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skdistill._batch import Batch, CrossEntropyBatch, lie_by_class, write_slope
from skdistill._front import Front
from skdistill._parts import Operation, Part, whole
from skdistill._typing import FloatArray

if TYPE_CHECKING:
    import torch

    from skdistill._layers import Pass

#: A step of at least this many floating-point operations is cut into two shards of
#: rows, which two threads may work on: below it, handing over costs more than it saves.
SHARD_FLOPS = 8e7
N_SHARDS = 2


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
        self._by_class = lie_by_class(layer_sizes[-1])
        members = [_draw_parameters(self.layer_sizes, g, front) for g in generators]
        self.training_members = np.arange(self.n_members)
        self._bind(torch.stack(members).to(device=device, dtype=dtype))
        self._kept = self._flat.clone()

    def _bind(self, flat: torch.Tensor) -> None:
        """Take the parameters (members, n_parameters) that are trained from now on."""
        import torch

        from skdistill._layers import Layer, LayerByOutput

        self._flat = flat
        self._n_parameters = flat.numel()
        self._on_cpu = flat.device.type == "cpu"
        # What products are taken with: the parameters, or a copy in another type.
        self._rounded = flat.to(self.product_dtype)
        self._gradients = [torch.zeros_like(flat) for _ in range(N_SHARDS)]
        self._flat.grad = self._gradients[0]
        gradients = list(zip(*map(self._views, self._gradients), strict=True))
        factors = self._views(self._rounded)
        layers = [Layer(*of_layer) for of_layer in zip(factors, gradients, strict=True)]
        if self._by_class:
            layers[-1] = LayerByOutput(factors[-1], gradients[-1])
        self._layers: list[Layer] = layers
        # By shard and number of rows. None is dropped: captured steps write to theirs.
        self._passes: dict[tuple[int, int], Pass] = {}
        self._first_weight = self._views(flat)[0][0]

    def _views(self, flat: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return weights (G, in, out) and biases (G, 1, out) as views."""
        layers, start, n_members = [], self._n_front, len(flat)
        for i, (n_in, n_out) in enumerate(pairwise(self.layer_sizes), start=2):
            weight = flat[:, start : start + n_in * n_out]
            start += n_in * n_out
            bias = flat[:, start : start + n_out].view(n_members, 1, n_out)
            start += n_out
            if self._by_class and i == len(self.layer_sizes):
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

        self.round()
        if self.front is None:
            return self._new_pass(x.shape[1]).forward(x).rows
        parts = x.split(self.front.max_rows(len(x)), dim=1)
        found = []
        for part in parts:
            inputs, weight, _ = self._behind_front(self.front, part)
            way = self._new_pass(part.shape[1])
            found.append(way.forward(inputs, weight).rows)
        return torch.cat(found, dim=1)

    def _new_pass(self, n_rows: int) -> Pass:
        from skdistill._layers import Pass

        return Pass(self._layers, self.activation, n_rows)

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

    def n_shards(self, batch_size: int) -> int:
        """Return into how many shards of rows a batch is cut.

        On a CPU it follows from the sizes alone: whoever works on the shards, their
        gradients are added in the same order.
        """
        flops = 6.0 * batch_size * self._n_parameters
        cut = self._on_cpu and flops >= SHARD_FLOPS and batch_size >= 2 * N_SHARDS
        return N_SHARDS if cut else 1

    def gradient(self, batch: Batch, pool: Executor | None) -> torch.Tensor:
        """Set the parameters' gradient; return the batch's loss (G,)."""
        self.round()
        halves = batch.shards() if self.n_shards(batch.x.shape[1]) > 1 else None
        if halves is None:
            return self.shard_gradient(0, batch)
        first, second = (self.shard_gradient(i, halves[i]) for i in range(2))
        for operation in self.adding():
            operation()
        return first + second

    def adding(self, part: Part = whole) -> list[Operation]:
        """Return what adds up the shards' gradients, or a part of them."""
        first, second = map(part, self._gradients)
        return [partial(first.add_, second)]

    def rounding(self, part: Part = whole) -> list[Operation]:
        """Return what brings the copy that products are taken with up to date."""
        if not self._mixed:
            return []
        return [partial(part(self._rounded).copy_, part(self._flat))]

    def round(self) -> None:
        """Bring the copy of the parameters that products are taken with up to date."""
        for operation in self.rounding():
            operation()

    def shard_gradient(self, shard: int, batch: Batch) -> torch.Tensor:
        """Back-propagate some rows into one gradient buffer; return their loss."""
        key = shard, batch.x.shape[1]
        if key not in self._passes:
            self._passes[key] = self._new_pass(batch.x.shape[1])
        way = self._passes[key]
        if self.front is None:
            way.forward(batch.x)
            loss = _loss(batch, way)
            way.backward(shard)
            return loss
        import torch

        x, weight, cosines = self._behind_front(self.front, batch.x)
        way.forward(x, weight)
        loss = _loss(batch, way)
        # Of the first layer's inputs only those that the front has appended.
        slope = torch.bmm(weight[:, self.front.n_in :], way.backward(shard).turned)
        self.front.backward(
            self._flat[:, : self._n_front],
            cosines,
            slope.to(self._flat.dtype),
            self._first_weight,
            self._layers[0].gradients[shard][0],
            self._gradients[shard][:, : self._n_front],
        )
        return loss

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


def _loss(batch: Batch, way: Pass) -> torch.Tensor:
    """Return the loss of a pass, and write its slope where the way back begins."""
    if isinstance(batch, CrossEntropyBatch):
        return write_slope(batch, way.logits, way.slope)
    loss, slope = batch.loss_and_slope(way.logits.rows)
    way.slope.rows.copy_(slope)
    return loss


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
        drawn = torch.rand(
            n_drawn, generator=generator, dtype=torch.float64, device="cpu"
        )
        parts.append((2 * drawn - 1) / n_in**0.5)
    if lie_by_class(n_out):
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
        if self.parameters()[0].device.type == "cuda":
            _begin_ways_back(self.parameters()[0])

    def parameters(self) -> list[torch.Tensor]:
        """Return the parameters of all modules that are not frozen."""
        return [p for m in self.modules for p in m.parameters() if p.requires_grad]

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (G, batch_size, n_classes) of a batch."""
        import torch

        batches = x.expand(self.n_members, *x.shape[1:])
        outputs = [m(b) for m, b in zip(self.modules, batches, strict=True)]
        return torch.stack(outputs).to(x.dtype)

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
        if not logits.requires_grad:
            raise ValueError(
                "module returns logits that do not depend on any parameter to train: "
                "they are whole numbers, or made where torch takes no gradients."
            )
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


def _begin_ways_back(parameter: torch.Tensor) -> None:
    """Take a derivative that is no product of matrices, on the parameter's device.

    Ways back on a GPU have a thread of their own. Where a product of matrices is the
    first thing in it, torch warns that CUDA has no context there.
    """
    import torch

    with torch.enable_grad():
        one = parameter.new_ones(()).requires_grad_()
        (one * one).backward()


def _as_arrays(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state with arrays for tensors; a module may have other things in it."""
    return {
        name: value.detach().cpu().numpy().copy()
        if hasattr(value, "detach")
        else copy.deepcopy(value)
        for name, value in state.items()
    }
