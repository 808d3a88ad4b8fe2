"""Numbers and words that a user passes, and the names of what is wrong."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

import numpy as np


def is_scalar_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is one number, of Python's or NumPy's.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
        Whether it is.
    """
    return isinstance(value, (int, float, np.number))


def is_word(value: Any, words: Container[str]) -> TypeGuard[str]:
    """Return whether a value is one of some words, whatever its type.

    Parameters
    ----------
    value : object
        Anything: a list is in no set, and an array is compared with each word.
    words : container of str
        The words.

    Returns
    -------
    bool
        Whether it is.
    """
    return isinstance(value, str) and value in words


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put a parameter's name before errors of its conversion that do not say it.

    Those of looking for rows where there are none become a ValueError.

    Parameters
    ----------
    name : str
        The name.

    Yields
    ------
    None
        The block that may raise them.

    Raises
    ------
    TypeError, ValueError
        As within.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(error)):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error
