"""What every loss checks of its arguments, and how it averages its rows."""

import numpy as np

from skdistill._arguments import is_word
from skdistill._backend import Array, as_float, like, namespace


def as_logits(logits: Array) -> Array:
    """Return logits as floats of shape (..., n_samples, n_classes)."""
    logits = as_float(logits, "logits")
    if logits.ndim < 2 or 0 in logits.shape:
        raise ValueError(
            "logits must have shape (..., n_samples, n_classes), none of them 0; "
            f"got {tuple(logits.shape)}."
        )
    return logits


def as_weight(sample_weight: Array, rows: Array) -> Array:
    """Return sample weights in the library, dtype and device of the losses."""
    weight = as_float(sample_weight, "sample_weight")
    check_trailing_shape(weight, rows.shape, 1, "sample_weight")
    if namespace(weight) is np:
        if not np.all((weight >= 0) & np.isfinite(weight)):
            raise ValueError("sample_weight must be non-negative and finite.")
        if not np.all(weight.sum(-1) > 0):
            raise ValueError("sample_weight must have a positive sum; got all zeros.")
    return like(weight, rows)


def check_trailing_shape(
    array: Array, shape: tuple[int, ...], n_trailing: int, name: str
) -> None:
    """Check that the last axes are those of `shape` and the others broadcast."""
    if array.shape == shape:
        return
    leading, expected = array.shape[:-n_trailing], shape[:-n_trailing]
    # Rows and classes are never broadcast: that would hide a transposed argument.
    ok = tuple(array.shape[-n_trailing:]) == tuple(shape[-n_trailing:])
    ok = ok and len(leading) <= len(expected)
    pairs = zip(reversed(leading), reversed(expected), strict=False)
    if not (ok and all(got in (1, want) for got, want in pairs)):
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}, which does not match the logits: "
            f"expected {tuple(shape)} or {tuple(shape[-n_trailing:])}."
        )


def reduce_rows(rows: Array, sample_weight: Array | None, reduction: str) -> Array:
    """Average the loss of each row over the last axis, or leave it."""
    if not is_word(reduction, ("mean", "none")):
        raise ValueError(f"reduction={reduction!r} must be 'mean' or 'none'.")
    weight = None if sample_weight is None else as_weight(sample_weight, rows)
    if reduction == "none":
        return rows
    if weight is None:
        return rows.mean(-1)
    rows = namespace(rows).where(weight == 0, 0.0, rows)
    return (weight * rows).sum(-1) / weight.sum(-1)
