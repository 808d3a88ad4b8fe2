"""Stacks: G students of one architecture held together, so that one loop trains all.

A stack maps a batch of shape (1 or G, batch_size, n_features) to logits of shape
(G, batch_size, n_classes), and remembers for each member the parameters to keep.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

#: Names of the hidden activations, as in scikit-learn's MLPClassifier.
ACTIVATIONS = ("identity", "logistic", "relu", "tanh")


class Stack(Protocol):
    """What the training loop needs of a stack."""

    n_members: int

    def parameters(self) -> list[torch.Tensor]:
        """Return the tensors to be trained."""

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (G, batch_size, n_classes) of a batch."""

    def training(self, mode: bool) -> None:
        """Switch layers that differ between training and prediction."""

    def keep(self, members: NDArray[np.bool_]) -> None:
        """Remember the present parameters of the members flagged."""


class MLPStack:
    """Multilayer perceptrons as batched matrix products.

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
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        activation: str,
        generators: Sequence[torch.Generator],
        *,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        self.n_members = len(generators)
        self.activation = activation
        drawn = [_draw_layers(layer_sizes, activation, g) for g in generators]
        # Member axis first; biases get a row axis so that they add to a batch.
        self.layers = [
            (
                _trainable([weight for weight, _ in members], device, dtype),
                _trainable([bias[None, :] for _, bias in members], device, dtype),
            )
            for members in zip(*drawn, strict=True)
        ]
        self._kept = [tensor.detach().clone() for tensor in self.parameters()]

    def parameters(self) -> list[torch.Tensor]:
        """Return weights (G, in, out) and biases (G, 1, out), layer by layer."""
        return [tensor for layer in self.layers for tensor in layer]

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (G, batch_size, n_classes) of a batch."""
        import torch

        hidden = x.expand(self.n_members, -1, -1)
        last = len(self.layers) - 1
        for i, (weight, bias) in enumerate(self.layers):
            hidden = torch.baddbmm(bias, hidden, weight)
            if i < last:
                hidden = _activate(hidden, self.activation)
        return hidden

    def training(self, mode: bool) -> None:
        """Do nothing: no layer differs between training and prediction."""

    def keep(self, members: NDArray[np.bool_]) -> None:
        """Remember the present parameters of the members flagged."""
        import torch

        chosen = torch.from_numpy(np.flatnonzero(members))
        for kept, tensor in zip(self._kept, self.parameters(), strict=True):
            rows = chosen.to(kept.device)
            kept[rows] = tensor.detach()[rows]

    def kept(self, member: int) -> tuple[list[FloatList], list[FloatList]]:
        """Return the remembered coefficients and intercepts of a member, as numpy."""
        return _as_layers(self._kept, member)

    def current(self, member: int) -> tuple[list[FloatList], list[FloatList]]:
        """Return the present coefficients and intercepts of a member, as numpy."""
        return _as_layers(self.parameters(), member)


FloatList = NDArray[np.floating[Any]]


def _draw_layers(
    layer_sizes: Sequence[int], activation: str, generator: torch.Generator
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Draw one member's layers: uniform with He's bound before a ReLU, else Glorot's.

    Drawn in float64 on the CPU whatever the device and type, so that a seed means the
    same everywhere.
    """
    import torch

    layers = []
    for i, (n_in, n_out) in enumerate(pairwise(layer_sizes)):
        hidden = i < len(layer_sizes) - 2
        he = hidden and activation == "relu"
        bound = (6.0 / n_in) ** 0.5 if he else (6.0 / (n_in + n_out)) ** 0.5
        weight = torch.rand(n_in, n_out, generator=generator, dtype=torch.float64)
        bias = torch.rand(n_out, generator=generator, dtype=torch.float64)
        layers.append(((2 * weight - 1) * bound, (2 * bias - 1) / n_in**0.5))
    return layers


def _trainable(
    members: list[torch.Tensor], device: str, dtype: torch.dtype
) -> torch.Tensor:
    """Stack one tensor of every member into a leaf that gathers gradients."""
    import torch

    stacked = torch.stack(members).to(device=device, dtype=dtype)
    return stacked.requires_grad_()


def _activate(hidden: torch.Tensor, activation: str) -> torch.Tensor:
    import torch

    if activation == "identity":
        return hidden
    name = "sigmoid" if activation == "logistic" else activation
    return getattr(torch, name)(hidden)


def _as_layers(
    tensors: list[torch.Tensor], member: int
) -> tuple[list[FloatList], list[FloatList]]:
    """Split a member's tensors into coefficients and intercepts, copied to numpy."""
    arrays = [tensor[member].detach().cpu().numpy().copy() for tensor in tensors]
    return arrays[0::2], [bias[0] for bias in arrays[1::2]]


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

    def training(self, mode: bool) -> None:
        """Switch dropout, batch normalisation and the like."""
        for module in self.modules:
            module.train(mode)

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


def activation_function(name: str) -> Callable[[FloatList], FloatList]:
    """Return the numpy form of a hidden activation.

    Parameters
    ----------
    name : {"identity", "logistic", "relu", "tanh"}
        As in :class:`MLPStack`.

    Returns
    -------
    callable
        Elementwise function of an array.
    """
    from scipy.special import expit

    functions: dict[str, Callable[[FloatList], FloatList]] = {
        "identity": lambda z: z,
        "logistic": expit,
        "relu": lambda z: np.maximum(z, 0),
        "tanh": np.tanh,
    }
    return functions[name]
