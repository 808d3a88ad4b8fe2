"""Which rows decide when to stop: a part of them, or all in turn."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import train_test_split

from skdistill._typing import IntArray


def one_part(codes: IntArray, size: int, rng: np.random.RandomState) -> IntArray | None:
    """Draw a part of the rows, stratified by label; classes of one row stay out of it.

    Parameters
    ----------
    codes : ndarray of shape (n_rows,)
        Labels.
    size : int
        Rows of the part, unless there are more classes.
    rng : RandomState
        Source of the draw.

    Returns
    -------
    ndarray of shape (1, n_held_out) or None
        Sorted positions; None where there is no row of each class for both parts.
    """
    eligible = repeated(codes)
    n_classes = len(np.unique(codes[eligible]))
    size = max(size, n_classes)
    if n_classes == 0 or len(eligible) - size < n_classes:
        return None
    _, held_out = train_test_split(
        eligible,
        test_size=size,
        stratify=codes[eligible],
        random_state=rng.randint(2**31 - 1),
    )
    return np.sort(held_out)[None]


def several_parts(
    codes: IntArray, n_parts: int, rng: np.random.RandomState
) -> IntArray | None:
    """Cut the rows into parts of equal size, stratified by label.

    Rows are dealt out class by class, so that no part has all rows of a class. Those of
    classes of one row, and up to ``n_parts - 1`` drawn ones, are in no part.

    Parameters
    ----------
    codes : ndarray of shape (n_rows,)
        Labels.
    n_parts : int
        Number of parts, at least 2.
    rng : RandomState
        Source of the draw.

    Returns
    -------
    ndarray of shape (n_parts, n_held_out) or None
        Sorted positions of each part; None where there are fewer rows than parts.
    """
    drawn = rng.permutation(repeated(codes))
    drawn = drawn[: len(drawn) // n_parts * n_parts]
    if len(drawn) == 0:
        return None
    dealt = drawn[np.argsort(codes[drawn], kind="stable")]
    parts: IntArray = np.sort(dealt.reshape(-1, n_parts).T, axis=1)
    return parts


def repeated(codes: IntArray) -> IntArray:
    """Return the rows whose label another one has.

    Parameters
    ----------
    codes : ndarray of shape (n_rows,)
        Labels.

    Returns
    -------
    ndarray
        Their positions.
    """
    return np.flatnonzero(np.bincount(codes)[codes] >= 2)


def rows_without(n_rows: int, held_out: IntArray) -> list[IntArray]:
    """Return the rows outside each part, all in the same order as far as can be.

    Networks that start alike and take rows by their places then differ no more than
    they must: the rows of the last part take the places of those held out.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    held_out : ndarray of shape (n_parts, n_held_out)
        Positions of each part's rows.

    Returns
    -------
    list of ndarray of shape (n_rows - n_held_out,)
        One for each part.
    """
    last = held_out[-1]
    outside = np.delete(np.arange(n_rows), last)
    result = []
    for part in held_out[:-1]:
        rows = outside.copy()
        rows[np.isin(outside, part)] = last
        result.append(rows)
    return [*result, outside]
