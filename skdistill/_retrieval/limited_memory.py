"""L-BFGS in the type of the values: a smooth function of millions of numbers.

SciPy's keeps some twenty vectors in float64, more than all else that a training has.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skdistill._typing import FloatArray

#: Steps whose change of the slope is remembered.
N_KEPT = 3
#: A step has to lower the value by this share of what its slope promises.
SUFFICIENT = 1e-4
#: Trials of a step's length; each is half the one before.
MAX_TRIALS = 20

Function = Callable[[FloatArray], tuple[float, FloatArray]]


def minimise(function: Function, start: FloatArray, n_steps: int) -> FloatArray:
    """Return where a convex function is about least, by limited-memory BFGS.

    Parameters
    ----------
    function : callable
        Returns the value at a point, and the slope there as a new array.
    start : ndarray of shape (n,)
        Where to begin; it stays as it is.
    n_steps : int
        Steps at most. It ends before where none is found that lowers the value.

    Returns
    -------
    ndarray of shape (n,)
        A point whose value is no higher than that of `start`.

    References
    ----------
    Nocedal, Wright, "Numerical Optimization", 2006, Algorithm 7.5, with steps halved
    until the value is lower by enough.
    """
    point = start.copy()
    value, slope = function(point)
    kept: list[tuple[FloatArray, FloatArray]] = []
    for _ in range(n_steps):
        direction = _descent(slope, kept)
        promised = _inner(slope, direction)
        if not promised < 0.0:
            break
        # Nothing is known of the curvature yet: a step of length 1 at most.
        length = 1.0 if kept else min(1.0, 1.0 / np.sqrt(_inner(slope, slope)))
        for _ in range(MAX_TRIALS):
            ahead = direction * slope.dtype.type(length)
            ahead += point
            reached, slope_there = function(ahead)
            if reached <= value + SUFFICIENT * length * promised:
                break
            length /= 2.0
        else:
            break
        np.subtract(ahead, point, out=direction)
        np.subtract(slope_there, slope, out=slope)
        if _inner(direction, slope) > 0.0:
            kept = [*kept[1 - N_KEPT :], (direction, slope)]
        point, value, slope = ahead, reached, slope_there
    return point


def _descent(
    slope: FloatArray, kept: list[tuple[FloatArray, FloatArray]]
) -> FloatArray:
    """Return the direction of the next step, by the two loops over what is kept."""
    direction = -slope
    shares = []
    for step, change in reversed(kept):
        share = _inner(step, direction) / _inner(step, change)
        shares.append(share)
        _add(direction, change, -share)
    if kept:
        step, change = kept[-1]
        direction *= slope.dtype.type(_inner(step, change) / _inner(change, change))
    for (step, change), share in zip(kept, reversed(shares), strict=True):
        _add(direction, step, share - _inner(change, direction) / _inner(step, change))
    return direction


def _add(total: FloatArray, values: FloatArray, factor: float) -> None:
    """Add a multiple, some values at a time: it takes no memory of their size."""
    for start in range(0, len(total), 2**16):
        part = slice(start, start + 2**16)
        total[part] += total.dtype.type(factor) * values[part]


def _inner(first: FloatArray, second: FloatArray) -> float:
    """Return the inner product, summed in float64 over parts."""
    parts = (slice(i, i + 2**16) for i in range(0, len(first), 2**16))
    return sum(float(first[part] @ second[part]) for part in parts)
