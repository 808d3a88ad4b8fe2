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
from scipy.special import expit

from skdistill._front import Front
from skdistill._typing import FloatArray

if TYPE_CHECKING:
    import torch

#: Names of the hidden activations, as in scikit-learn's MLPClassifier.
ACTIVATIONS = ("identity", "logistic", "relu", "tanh")


#: A step of at least this many floating-point operations is cut into two shards of
#: rows, which two threads may work on: below it, handing over costs more than it saves.
SHARD_FLOPS = 8e7
N_SHARDS = 2


#: Below this many classes arrays are turned so that rows come last.
FEW_CLASSES = 16


class Batch(Protocol):
    """The rows of a step, with what is minimised over them."""

    @property
    def x(self) -> torch.Tensor:
        """Inputs, shape (1 or G, batch_size, n_features)."""

    @property
    def weight(self) -> torch.Tensor:
        """Weight of each loss in the sum that is minimised, (1 or G, n_losses or 1)."""

    def shards(self) -> tuple[Batch, Batch] | None:
        """Return two halves whose objectives add up, None where rows belong together.

        Without a copy.
        """

    def loss_and_slope(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return losses (G, n_losses) and the slope of their weighted sum.

        The slope is that of the logits, (G, batch_size, n_classes).
        """


class CrossEntropyBatch(NamedTuple):
    """Rows and their soft cross-entropies; one loss a row.

    Attributes
    ----------
    x : tensor of shape (1 or G, batch_size, n_features)
        Inputs.
    terms : list of (tensor (1 or G, batch_size, n_classes), float or tensor (G, 1, 1))
        Targets and student temperature of each soft cross-entropy.
    weight : tensor of shape (1 or G, batch_size or 1)
        Weight of each row in the sum that is minimised.
    """

    x: torch.Tensor
    terms: list[tuple[torch.Tensor, float | torch.Tensor]]
    weight: torch.Tensor

    def rows(self, start: int, stop: int) -> CrossEntropyBatch:
        """Return some of the rows, without a copy."""
        terms = [(targets[:, start:stop], s) for targets, s in self.terms]
        same = self.weight.shape[1] == 1
        weight = self.weight if same else self.weight[:, start:stop]
        return CrossEntropyBatch(self.x[:, start:stop], terms, weight)

    def shards(self) -> tuple[CrossEntropyBatch, CrossEntropyBatch]:
        """Return two halves of the rows."""
        n_rows = self.x.shape[1]
        return self.rows(0, n_rows // 2), self.rows(n_rows // 2, n_rows)

    def loss_and_slope(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of each row and the slope of their weighted sum."""
        return cross_entropy_and_slope(self, logits)


class Stack(Protocol):
    """What the training loop needs of a stack."""

    n_members: int
    #: The members that are still trained; rows of what the methods below return.
    training_members: NDArray[np.int_]

    def parameters(self) -> list[torch.Tensor]:
        """Return the tensors to be trained."""

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (G, batch_size, n_classes) of a batch."""

    def gradient(self, batch: Batch, pool: Executor | None) -> torch.Tensor:
        """Set the parameters' gradients; return the batch's losses (G, n_losses)."""

    def n_shards(self, batch_size: int) -> int:
        """Return into how many shards of rows a batch is cut."""

    def training(self, mode: bool) -> None:
        """Switch layers that differ between training and prediction."""

    def keep(self, members: NDArray[np.bool_]) -> None:
        """Remember the present parameters of the members flagged."""

    def narrow(self, rows: torch.Tensor) -> None:
        """Go on with some of the members in training only; the others are kept."""


def cross_entropy_and_slope(
    batch: CrossEntropyBatch, logits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the objective of each row and the slope of their weighted sum.

    Parameters
    ----------
    batch : CrossEntropyBatch
        Targets and weights.
    logits : tensor of shape (G, batch_size, n_classes)
        Logits z of the batch.

    Returns
    -------
    losses : tensor of shape (G, batch_size)
        Sum over the terms of ``CE(p, softmax(z / S))``.
    slope : tensor of shape (G, batch_size, n_classes)
        ``weight * (sum(p) * softmax(z / S) - p) / S``, summed over the terms.
    """
    # Over a few classes, reductions are several times faster along the rows.
    rows_last = logits.shape[-1] < FEW_CLASSES
    dim = 1 if rows_last else 2
    if rows_last:
        logits = logits.transpose(1, 2).contiguous()
    losses, slope = None, None
    for targets, temperature in batch.terms:
        if rows_last:
            targets = targets.transpose(1, 2)
        at_one = isinstance(temperature, float) and temperature == 1.0
        log_proba = (logits if at_one else logits / temperature).log_softmax(dim)
        term = -(targets * log_proba).sum(dim)
        # A row's targets sum to the weight of the term for that row.
        term_slope = log_proba.exp_().mul_(targets.sum(dim, keepdim=True))
        term_slope -= targets
        if not at_one:
            term_slope /= temperature
        losses = term if losses is None else losses + term
        slope = term_slope if slope is None else slope + term_slope
    assert losses is not None
    assert slope is not None
    slope *= batch.weight.unsqueeze(dim)
    return losses, slope.transpose(1, 2) if rows_last else slope


class _BehindFront(NamedTuple):
    """A batch as the first layer takes it.

    The layers' weights have the front's factors; its cosines, if there is one, are for
    its slopes.
    """

    x: torch.Tensor
    layers: list[tuple[torch.Tensor, torch.Tensor]]
    cosines: torch.Tensor


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
        members = [_draw_parameters(layer_sizes, g, front) for g in generators]
        self.training_members = np.arange(self.n_members)
        self._bind(torch.stack(members).to(device=device, dtype=dtype))
        self._kept = self._flat.clone()

    def _bind(self, flat: torch.Tensor) -> None:
        """Take the parameters (members, n_parameters) that are trained from now on."""
        import torch

        self._flat = flat
        self._layers = self._views(flat)
        self._gradients = [torch.zeros_like(flat) for _ in range(N_SHARDS)]
        self._slopes = [self._views(gradient) for gradient in self._gradients]
        self._flat.grad = self._gradients[0]

    def _views(self, flat: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return weights (G, in, out) and biases (G, 1, out) as views."""
        layers, start = [], self._n_front
        for n_in, n_out in pairwise(self.layer_sizes):
            weight = flat[:, start : start + n_in * n_out]
            start += n_in * n_out
            bias = flat[:, start : start + n_out]
            start += n_out
            layers.append(
                (weight.view(len(flat), n_in, n_out), bias.view(len(flat), 1, n_out))
            )
        return layers

    def parameters(self) -> list[torch.Tensor]:
        """Return the tensor (G, n_parameters) of all parameters."""
        return [self._flat]

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (G, batch_size, n_classes) of a batch."""
        import torch

        if self.front is None:
            return self._activations(x, self._layers)[-1]
        parts = x.split(self.front.max_rows(len(x)), dim=1)
        inputs = [self._behind_front(part) for part in parts]
        return torch.cat([self._activations(i.x, i.layers)[-1] for i in inputs], dim=1)

    def _behind_front(self, x: torch.Tensor) -> _BehindFront:
        """Return what the first layer takes, and its weights as they apply to it."""
        if self.front is None:
            return _BehindFront(x, self._layers, x)
        parameters = self._flat[:, : self._n_front]
        x, cosines = self.front.forward(parameters, x)
        (weight, bias), *others = self._layers
        weight = self.front.scaled(parameters, weight)
        return _BehindFront(x, [(weight, bias), *others], cosines)

    def _activations(
        self, x: torch.Tensor, layers: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> list[torch.Tensor]:
        """Return the input, the outputs of the hidden layers, and the logits."""
        import torch

        outputs = [self._in_products(x).expand(len(self._flat), -1, -1)]
        for weight, bias in layers[:-1]:
            hidden = torch.baddbmm(
                self._in_products(bias), outputs[-1], self._in_products(weight)
            )
            outputs.append(_activate_(hidden, self.activation))
        weight, bias = layers[-1]
        if self._mixed:
            last = torch.bmm(outputs[-1], self._in_products(weight))
            outputs.append(last.to(bias.dtype) + bias)
        else:
            outputs.append(torch.baddbmm(bias, outputs[-1], weight))
        return outputs

    def _in_products(self, values: torch.Tensor) -> torch.Tensor:
        """Return values in the type that products are taken in."""
        return values.to(self.product_dtype) if self._mixed else values

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
        """Set the parameters' gradient; return the batch's losses (G, n_losses)."""
        import torch

        halves = batch.shards() if self.n_shards(batch.x.shape[1]) > 1 else None
        if halves is None:
            return self._shard_gradient(0, batch)
        if pool is None:
            losses = [self._shard_gradient(i, part) for i, part in enumerate(halves)]
        else:
            second = pool.submit(self._shard_gradient, 1, halves[1])
            losses = [self._shard_gradient(0, halves[0]), second.result()]
        self._gradients[0] += self._gradients[1]
        return torch.cat(losses, dim=1)

    def _shard_gradient(self, shard: int, batch: Batch) -> torch.Tensor:
        """Back-propagate some rows into one gradient buffer; return their losses."""
        import torch

        x, layers, cosines = self._behind_front(batch.x)
        outputs = self._activations(x, layers)
        losses, slope = batch.loss_and_slope(outputs[-1])
        for i in range(len(self._layers) - 1, -1, -1):
            to_weight, to_bias = self._slopes[shard][i]
            torch.sum(slope, dim=1, keepdim=True, out=to_bias)
            slope = self._in_products(slope)
            inputs = outputs[i].transpose(1, 2)
            if self._mixed:
                to_weight.copy_(torch.bmm(inputs, slope))
            else:
                torch.bmm(inputs, slope, out=to_weight)
            if i:
                weight = self._in_products(layers[i][0])
                slope = torch.bmm(slope, weight.transpose(1, 2))
                slope = _through_activation(slope, outputs[i], self.activation)
        if self.front is not None:
            # Of the first layer's inputs only those that the front has appended.
            weight = self._in_products(layers[0][0][:, self.front.n_in :])
            slope = torch.bmm(slope, weight.transpose(1, 2))
            self.front.backward(
                self._flat[:, : self._n_front],
                cosines,
                slope.to(self._flat.dtype),
                self._layers[0][0],
                self._slopes[shard][0][0],
                self._gradients[shard][:, : self._n_front],
            )
        return losses

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
    return torch.cat(parts)


def _activate_(hidden: torch.Tensor, activation: str) -> torch.Tensor:
    """Apply a hidden activation in place."""
    if activation == "identity":
        return hidden
    if activation == "logistic":
        return hidden.sigmoid_()
    return hidden.relu_() if activation == "relu" else hidden.tanh_()


def _through_activation(
    slope: torch.Tensor, output: torch.Tensor, activation: str
) -> torch.Tensor:
    """Multiply a slope by the activation's derivative, a function of its output."""
    import torch

    if activation == "identity":
        return slope
    if activation == "logistic":
        return torch.ops.aten.sigmoid_backward(slope, output)
    if activation == "tanh":
        return torch.ops.aten.tanh_backward(slope, output)
    return torch.ops.aten.threshold_backward(slope, output, 0)


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
        """Set the parameters' gradients; return the batch's losses (G, n_losses)."""
        for parameter in self.parameters():
            parameter.grad = None
        logits = self.logits(batch.x)
        losses, slope = batch.loss_and_slope(logits.detach())
        logits.backward(slope)
        return losses

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


def activate_in_place(hidden: FloatArray, activation: str) -> None:
    """Apply a hidden activation to a numpy array.

    Parameters
    ----------
    hidden : ndarray
        Changed in place.
    activation : {"identity", "logistic", "relu", "tanh"}
        As in :class:`MLPStack`.
    """
    if activation == "relu":
        np.maximum(hidden, 0, out=hidden)
    elif activation == "tanh":
        np.tanh(hidden, out=hidden)
    elif activation == "logistic":
        expit(hidden, out=hidden)
