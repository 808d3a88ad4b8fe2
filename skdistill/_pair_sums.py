r"""Sums of a pairwise loss over all pairs of scores, in near-linear time and memory.

For a loss of the margin :math:`z`, sources at :math:`t_j` with masses :math:`m_j` and
points :math:`s_i`, each function returns, for all i at once,

.. math:: F_i = \sum_j m_j \, \phi(s_i - t_j), \qquad
    D_i = \sum_j m_j \, \phi'(s_i - t_j).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import fft, special

from skdistill._typing import FloatArray, IntArray

#: Up to this many pairs the logistic sums are taken pair by pair.
DIRECT_PAIRS = 2**14

#: Entries of a block of pairs at most, so that memory does not grow with their number.
BLOCK_PAIRS = 2**18

#: Distance of the nodes that the logistic loss is interpolated from, and their number
#: at most: beyond it (scores spread over more than 8,000) the distance grows.
NODE_DISTANCE = 1.0 / 128
MAX_NODES = 2**20

#: Largest error of a logistic sum for sources of total mass 1: cubic interpolation, in
#: points and in sources, of a function with a fourth derivative of at most 0.131.
LOGISTIC_SUM_ERROR = 2.25 * (9 / 16) * (0.131 / 24) * NODE_DISTANCE**4

#: Rows that are laid on nodes, or read from them, at a time.
CHUNK_ROWS = 2**15

PairSums = Callable[[FloatArray, FloatArray, FloatArray], tuple[FloatArray, FloatArray]]


def squared_sums(
    points: FloatArray, sources: FloatArray, mass: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Sum ``(1 - z)^2`` and its derivative over all sources; exact, from three moments.

    Parameters
    ----------
    points : ndarray of shape (n_points,)
        Scores s.
    sources : ndarray of shape (n_sources,)
        Scores t.
    mass : ndarray of shape (n_sources,)
        Non-negative masses m.

    Returns
    -------
    values, slopes : ndarray of shape (n_points,)
        F and D.
    """
    total = mass.sum()
    centre = (mass @ sources) / total if total > 0 else 0.0
    spread = mass @ (sources - centre) ** 2
    gap = 1.0 - (points - centre)
    return total * gap**2 + spread, -2.0 * total * gap


def exponential_sums(
    points: FloatArray, sources: FloatArray, mass: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Sum ``exp(-z)`` and its derivative over all sources; exact, as it factorises.

    Parameters
    ----------
    points : ndarray of shape (n_points,)
        Scores s.
    sources : ndarray of shape (n_sources,)
        Scores t.
    mass : ndarray of shape (n_sources,)
        Non-negative masses m.

    Returns
    -------
    values, slopes : ndarray of shape (n_points,)
        F and D; infinite where they exceed the largest float.
    """
    if not mass.any():
        return np.zeros(len(points)), np.zeros(len(points))
    largest = sources[mass > 0].max()
    with np.errstate(over="ignore"):
        # Sources without mass may lie above: they must not overflow.
        total = mass @ np.exp(np.minimum(sources - largest, 0.0))
        values = np.exp(np.log(total) + largest - points)
    return values, -values


def zero_one_sums(
    points: FloatArray, sources: FloatArray, mass: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Sum the mass of the sources above each point, ties by half; from sorted scores.

    Parameters
    ----------
    points : ndarray of shape (n_points,)
        Scores s.
    sources : ndarray of shape (n_sources,)
        Scores t.
    mass : ndarray of shape (n_sources,)
        Non-negative masses m.

    Returns
    -------
    values, slopes : ndarray of shape (n_points,)
        F and D; the latter is zero.
    """
    order = np.argsort(sources)
    upto = np.concatenate([[0.0], np.cumsum(mass[order])])
    sorted_sources = sources[order]
    below = upto[np.searchsorted(sorted_sources, points, side="left")]
    not_above = upto[np.searchsorted(sorted_sources, points, side="right")]
    return upto[-1] - 0.5 * (below + not_above), np.zeros(len(points))


def logistic_sums(
    points: FloatArray, sources: FloatArray, mass: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Sum ``log(1 + exp(-z))`` and its derivative over all sources.

    Few pairs are summed one by one. With more, the masses are laid on the nodes of an
    even grid by cubic interpolation, the loss between nodes is one convolution, and
    points read it off their nodes: time and memory grow with n_points + n_sources and
    with the spread of the scores, not with the number of pairs. The loss is smooth, so
    that for masses that sum to 1 the error is below `LOGISTIC_SUM_ERROR`, 3e-11, as
    long as the scores are spread over less than 8,000.

    Parameters
    ----------
    points : ndarray of shape (n_points,)
        Scores s.
    sources : ndarray of shape (n_sources,)
        Scores t.
    mass : ndarray of shape (n_sources,)
        Non-negative masses m.

    Returns
    -------
    values, slopes : ndarray of shape (n_points,)
        F and D.
    """
    if len(points) * len(sources) <= DIRECT_PAIRS:
        return direct_logistic_sums(points, sources, mass)
    low = min(points.min(), sources.min())
    spread = max(points.max(), sources.max()) - low
    if not np.isfinite(spread):
        return np.full(len(points), np.nan), np.full(len(points), np.nan)
    distance = max(NODE_DISTANCE, spread / (MAX_NODES - 4))
    n_nodes = int(spread / distance) + 4
    on_nodes = _lay_on_nodes(sources, mass, low, distance, n_nodes)
    margins = distance * np.arange(1 - n_nodes, n_nodes)
    tables = _convolve(on_nodes, _logistic(margins))
    return _read_off_nodes(tables, points, low, distance)


def direct_logistic_sums(
    points: FloatArray, sources: FloatArray, mass: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Sum ``log(1 + exp(-z))`` pair by pair, in blocks of bounded memory.

    Parameters
    ----------
    points : ndarray of shape (n_points,)
        Scores s.
    sources : ndarray of shape (n_sources,)
        Scores t.
    mass : ndarray of shape (n_sources,)
        Non-negative masses m.

    Returns
    -------
    values, slopes : ndarray of shape (n_points,)
        F and D.
    """
    values, slopes = np.zeros(len(points)), np.zeros(len(points))
    # Both sides are cut: a block stays small however many sources there are.
    n_columns = min(len(sources), BLOCK_PAIRS) or 1
    n_rows = max(1, BLOCK_PAIRS // n_columns)
    for left in range(0, len(sources), n_columns):
        columns = slice(left, left + n_columns)
        for top in range(0, len(points), n_rows):
            rows = slice(top, top + n_rows)
            loss, slope = _logistic(points[rows, None] - sources[columns])
            values[rows] += loss @ mass[columns]
            slopes[rows] += slope @ mass[columns]
    return values, slopes


def _logistic(margins: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ``log(1 + exp(-z))`` and its derivative."""
    small = np.exp(-np.abs(margins))
    value = np.log1p(small) + np.maximum(-margins, 0.0)
    return value, -special.expit(-margins)


def _cubic_weights(offset: FloatArray) -> tuple[FloatArray, ...]:
    """Return the weights of the nodes at -1, 0, 1 and 2, for an offset in [0, 1]."""
    before, after = offset + 1.0, offset - 1.0
    beyond = offset - 2.0
    return (
        -offset * after * beyond / 6.0,
        before * after * beyond / 2.0,
        -before * offset * beyond / 2.0,
        before * offset * after / 6.0,
    )


def _cells(
    scores: FloatArray, low: float, distance: float, n_nodes: int
) -> tuple[IntArray, FloatArray]:
    """Return the first of the four nodes of each score, and its offset."""
    position = (scores - low) / distance
    first = np.clip(position.astype(np.intp), 0, n_nodes - 4)
    return first, position - first


def _lay_on_nodes(
    scores: FloatArray, mass: FloatArray, low: float, distance: float, n_nodes: int
) -> FloatArray:
    """Spread masses over nodes, so that sums of cubics over them stay the same."""
    nodes = np.zeros(n_nodes)
    for start in range(0, len(scores), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        first, offset = _cells(scores[rows], low, distance, n_nodes)
        for i, weight in enumerate(_cubic_weights(offset)):
            nodes += np.bincount(first + i, weight * mass[rows], minlength=n_nodes)
    return nodes


def _convolve(
    on_nodes: FloatArray, kernels: tuple[FloatArray, FloatArray]
) -> list[FloatArray]:
    """Return, for each kernel of margins, its sums over the nodes at each node."""
    n_nodes = len(on_nodes)
    length = fft.next_fast_len(2 * n_nodes - 1, real=True)
    spectrum = fft.rfft(on_nodes, length)
    return [
        # Circular: what wraps around lands on nodes that are cut off.
        fft.irfft(spectrum * fft.rfft(kernel, length), length)[n_nodes - 1 :][:n_nodes]
        for kernel in kernels
    ]


def _read_off_nodes(
    tables: list[FloatArray], points: FloatArray, low: float, distance: float
) -> tuple[FloatArray, FloatArray]:
    """Interpolate two functions known at the nodes."""
    values, slopes = np.zeros(len(points)), np.zeros(len(points))
    for start in range(0, len(points), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        first, offset = _cells(points[rows], low, distance, len(tables[0]))
        for i, weight in enumerate(_cubic_weights(offset)):
            values[rows] += weight * tables[0][first + i]
            slopes[rows] += weight * tables[1][first + i]
    return values, slopes
