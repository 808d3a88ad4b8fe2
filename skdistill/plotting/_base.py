"""What the displays share: matplotlib once it is needed, axes, and colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Colours of Okabe and Ito, without their yellow: told apart with any colour vision.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
GREY = "#6b7680"
BETTER, WORSE = "#0072B2", "#D55E00"


def import_pyplot(display: Any) -> Any:
    """Import matplotlib.pyplot, or say how to install it.

    Parameters
    ----------
    display : object or type
        The display that needs it, for the error message.

    Returns
    -------
    module
        ``matplotlib.pyplot``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        cls = display if isinstance(display, type) else type(display)
        raise ImportError(
            f"{cls.__name__} needs matplotlib. Install it with: "
            'pip install "skdistill[plot]"'
        ) from error
    return plt


def one_axes(display: Any, ax: Any, figsize: tuple[float, float]) -> Any:
    """Return the axes to draw on, of a new figure where there are none.

    Parameters
    ----------
    display : object
        The display, for the error messages.
    ax : matplotlib Axes or None
        What the user passed.
    figsize : tuple of float
        Size of a new figure, in inches.

    Returns
    -------
    matplotlib Axes
        The axes.

    Raises
    ------
    TypeError
        If `ax` is something else.
    """
    plt = import_pyplot(display)
    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")[1]
    if not hasattr(ax, "get_xlim"):
        raise TypeError(f"ax must be a matplotlib Axes or None, got {ax!r}.")
    return ax


def several_axes(
    display: Any, ax: Any, n_axes: int, figsize: tuple[float, float], **layout: Any
) -> NDArray[Any]:
    """Return several axes to draw on, of a new figure where there are none.

    Parameters
    ----------
    display : object
        The display, for the error messages.
    ax : array-like of matplotlib Axes or None
        What the user passed.
    n_axes : int
        How many are needed.
    figsize : tuple of float
        Size of a new figure, in inches.
    **layout : dict
        Rows, columns and shared axes of a new figure.

    Returns
    -------
    ndarray of shape (n_axes,)
        The axes.

    Raises
    ------
    ValueError
        If `ax` holds another number of axes.
    """
    plt = import_pyplot(display)
    if ax is None:
        _, axes = plt.subplots(
            figsize=figsize, layout="constrained", squeeze=False, **layout
        )
        return np.asarray(axes).ravel()
    axes = np.asarray(ax, dtype=object).ravel()
    if len(axes) != n_axes:
        raise ValueError(f"ax must hold {n_axes} axes, got {len(axes)}.")
    return np.array([one_axes(display, one, figsize) for one in axes], dtype=object)


def colour_of(i: int) -> str:
    """Return the colour of the i-th line.

    Parameters
    ----------
    i : int
        Position among the lines; the colours repeat after seven.

    Returns
    -------
    str
        The colour.
    """
    return COLOURS[i % len(COLOURS)]


def tidy(ax: Any) -> None:
    """Leave out the frame's upper and right side, and add a light grid.

    Parameters
    ----------
    ax : matplotlib Axes
        The axes.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)
    ax.set_axisbelow(True)


def score_name(scoring: Any) -> str:
    """Return what to call a score, as scikit-learn names its scorers.

    Parameters
    ----------
    scoring : str or callable
        What the user passed.

    Returns
    -------
    str
        The name in words, "score" for a function.
    """
    if not isinstance(scoring, str):
        return "score"
    return scoring.replace("neg_", "negative ").replace("_", " ")
