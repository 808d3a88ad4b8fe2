"""One spelling for NumPy arrays and torch tensors, without importing torch."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from scipy import special

# A NumPy array or a torch tensor. Naming the second would import torch.
Array = Any


def namespace(array: Array) -> Any:
    """Return torch for a tensor and numpy for all else, without importing torch."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return torch
    return np


def is_number(value: float | Array, number: float) -> bool:
    """Whether `value` is this very number; arrays are not looked into."""
    return isinstance(value, float) and value == number


def like(value: Array, array: Array) -> Array:
    """Return `value` in the library, dtype and device of `array`."""
    xp = namespace(array)
    if xp is np:
        return np.asarray(value, dtype=array.dtype)
    if namespace(value) is xp:
        return value.to(dtype=array.dtype, device=array.device)
    return xp.tensor(np.asarray(value), dtype=array.dtype, device=array.device)


def as_float(value: Array, name: str) -> Array:
    """Return a floating-point array or tensor; integers become float."""
    xp = namespace(value)
    if xp is not np:
        return value if value.is_floating_point() else value.to(xp.get_default_dtype())
    value = np.asarray(value)
    if value.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers; got dtype {value.dtype}.")
    return value if value.dtype.kind == "f" else value.astype(np.float64)


def log_softmax(logits: Array) -> Array:
    """Log-probabilities over the last axis."""
    if namespace(logits) is np:
        return special.log_softmax(logits, axis=-1)
    return logits.log_softmax(-1)


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis."""
    if namespace(logits) is np:
        return special.softmax(logits, axis=-1)
    return logits.softmax(-1)


def logsumexp(logits: Array) -> Array:
    """Return the logarithm of the sum of exponentials over the last axis."""
    if namespace(logits) is np:
        return special.logsumexp(logits, axis=-1)
    return logits.logsumexp(-1)


def sigmoid(logits: Array) -> Array:
    """Return 1 / (1 + exp(-z))."""
    return special.expit(logits) if namespace(logits) is np else logits.sigmoid()


def softplus(logits: Array) -> Array:
    """Return log(1 + exp(z)), exact in the dtype of `logits`."""
    xp = namespace(logits)
    return xp.logaddexp(xp.zeros_like(logits), logits)


def nonzero(array: Array) -> tuple[Array, ...]:
    """Return the indices of the entries that are not 0, one array an axis."""
    if namespace(array) is np:
        return np.nonzero(array)
    return array.nonzero(as_tuple=True)


def sum_by_row(rows: Array, values: Array, n_rows: int) -> Array:
    """Return the sum of the values of each row."""
    if namespace(values) is np:
        return np.bincount(rows, values, minlength=n_rows).astype(values.dtype)
    return values.new_zeros(n_rows).index_add(0, rows, values)
