"""Hidden units: how the features of a row are pooled, activations, and their slopes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from skdistill._typing import FloatArray, IntArray

if TYPE_CHECKING:
    import torch

#: Names of the hidden activations, as in scikit-learn's MLPClassifier.
ACTIVATIONS = ("identity", "logistic", "relu", "tanh")
#: How the embeddings of the features of a row become one.
POOLINGS = ("sum", "mean")


class Hidden(NamedTuple):
    """What is between the embeddings of the features and those of the labels.

    Attributes
    ----------
    pooling : {"sum", "mean"}
        Whether the embeddings of a row's features, times their values, are added or
        averaged.
    activation : {"identity", "logistic", "relu", "tanh"}
        What is applied to the outcome.
    """

    pooling: str = "sum"
    activation: str = "identity"


def pooled(X: Any, pooling: str) -> Any:
    """Return inputs whose product with embeddings is their pooling.

    Parameters
    ----------
    X : csr_matrix or ndarray of shape (n_rows, n_features)
        Inputs.
    pooling : {"sum", "mean"}
        "sum": the inputs as they are. "mean": each row divided by the number of its
        values that are not zero; the mean of none is zero.

    Returns
    -------
    csr_matrix or ndarray of shape (n_rows, n_features)
        In the type of the inputs.
    """
    if pooling == "sum":
        return X
    counts = np.maximum(_n_features(X), 1).astype(X.dtype)
    if not sp.issparse(X):
        return X / counts[:, None]
    data = X.data / np.repeat(counts, np.diff(X.indptr))
    return sp.csr_matrix((data, X.indices, X.indptr), shape=X.shape)


def pooling_scale(X: Any, pooling: str) -> float:
    """Return how many times smaller than sums the poolings of rows are, about.

    Parameters
    ----------
    X : csr_matrix or ndarray of shape (n_rows, n_features)
        Inputs.
    pooling : {"sum", "mean"}
        Of a mean it is the number of features of a row that has any, on average.

    Returns
    -------
    float
        At least 1.
    """
    if pooling == "sum":
        return 1.0
    counts = _n_features(X)
    return float(counts.sum() / max(1, np.count_nonzero(counts))) or 1.0


def _n_features(X: Any) -> IntArray:
    """Return the number of values of each row that are not zero."""
    if not sp.issparse(X):
        return np.count_nonzero(X, axis=1)
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    return np.bincount(rows[X.data != 0], minlength=X.shape[0])


def activate(hidden: torch.Tensor, activation: str) -> torch.Tensor:
    """Apply a hidden activation to a tensor.

    Parameters
    ----------
    hidden : tensor
        Changed in place.
    activation : {"identity", "logistic", "relu", "tanh"}
        As in :class:`sklearn.neural_network.MLPClassifier`.

    Returns
    -------
    tensor
        `hidden`.
    """
    activating(hidden, activation)()
    return hidden


def activating(hidden: torch.Tensor, activation: str) -> Callable[[], Any]:
    """Return what applies a hidden activation to a tensor, each time it is called.

    Parameters
    ----------
    hidden : tensor
        Changed in place.
    activation : {"identity", "logistic", "relu", "tanh"}
        Which.

    Returns
    -------
    callable
        Takes no arguments.
    """
    if activation == "identity":
        return _do_nothing
    if activation == "logistic":
        return hidden.sigmoid_
    return hidden.relu_ if activation == "relu" else hidden.tanh_


def through_activation(
    slope: torch.Tensor, output: torch.Tensor, activation: str
) -> torch.Tensor:
    """Multiply a slope by the activation's derivative, a function of its output.

    Parameters
    ----------
    slope : tensor
        By what the activation puts out. Changed in place.
    output : tensor of the same shape
        What it has put out.
    activation : {"identity", "logistic", "relu", "tanh"}
        Which.

    Returns
    -------
    tensor
        `slope`, by what was put in.
    """
    going_back(slope, output, activation)()
    return slope


def going_back(
    slope: torch.Tensor, output: torch.Tensor, activation: str
) -> Callable[[], Any]:
    """Return what multiplies a slope by the derivative, each time it is called.

    Parameters
    ----------
    slope : tensor
        By what the activation puts out. Changed in place.
    output : tensor of the same shape
        What it has put out.
    activation : {"identity", "logistic", "relu", "tanh"}
        Which.

    Returns
    -------
    callable
        Takes no arguments.
    """
    import torch

    aten = torch.ops.aten
    if activation == "identity":
        return _do_nothing
    if activation == "relu":
        backward = aten.threshold_backward.grad_input
        if slope.dtype == torch.bfloat16 and slope.device.type == "cpu":
            # In a third of the time: a number is positive where its bits are, read as
            # an integer. (Not so NaN, of which the loss is NaN anyway.)
            slope, output = slope.view(torch.int16), output.view(torch.int16)
        return partial(backward, slope, output, 0, grad_input=slope)
    backward = aten.tanh_backward.grad_input
    if activation == "logistic":
        backward = aten.sigmoid_backward.grad_input
    return partial(backward, slope, output, grad_input=slope)


def _do_nothing() -> None:
    """Stand for what the identity needs."""


def activate_in_place(hidden: FloatArray, activation: str) -> None:
    """Apply a hidden activation to a numpy array.

    Parameters
    ----------
    hidden : ndarray
        Changed in place.
    activation : {"identity", "logistic", "relu", "tanh"}
        Which.
    """
    if activation == "relu":
        np.maximum(hidden, 0, out=hidden)
    elif activation == "tanh":
        np.tanh(hidden, out=hidden)
    elif activation == "logistic":
        expit(hidden, out=hidden)
