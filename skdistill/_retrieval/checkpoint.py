"""Checkpoints of retrieval training: one file, replaced as a whole."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

#: Arrays of a state, by name.
State = dict[str, NDArray[Any]]


class Checkpoint:
    """Keeps the state of a training under a path.

    Parameters
    ----------
    path : str or path
        The file. It is written beside itself and then moved, so that there is always a
        whole one.
    fingerprint : str
        Stands for the parameters and the data; another training's state is refused.
    """

    def __init__(self, path: Any, fingerprint: str) -> None:
        self.path = Path(os.fspath(path))
        self.fingerprint = fingerprint
        self._constant: State = {}

    def keep(self, constant: State) -> None:
        """Save some arrays with each state.

        Parameters
        ----------
        constant : dict of str to ndarray
            What does not change in training.
        """
        self._constant = constant

    def load(self) -> State | None:
        """Return the state that was saved, None where there is none.

        Returns
        -------
        dict of str to ndarray or None
            The arrays.

        Raises
        ------
        ValueError
            If the file belongs to other parameters or data, or is no checkpoint, or
            its folder is not there.
        """
        if not self.path.exists():
            # Told before the training, not by the first state that cannot be saved.
            if not self.path.absolute().parent.is_dir():
                raise ValueError(
                    f"checkpoint={str(self.path)!r} is to be in a folder that does not "
                    "exist."
                )
            return None
        try:
            # An array alone is no archive to enter, which is the TypeError.
            with (
                self.path.open("rb") as file,
                np.load(file, allow_pickle=False) as archive,
            ):
                state = {name: archive[name] for name in archive.files}
            fingerprint = str(state.pop("fingerprint"))
        except (
            OSError,
            KeyError,
            TypeError,
            ValueError,
            EOFError,
            zipfile.BadZipFile,
        ) as error:
            raise ValueError(
                f"checkpoint={str(self.path)!r} is there but no checkpoint: {error}"
            ) from error
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"checkpoint={str(self.path)!r} belongs to a training with other "
                "parameters or data. Remove the file, or name another."
            )
        return state

    def save(self, state: State) -> None:
        """Save a state in the place of the one before.

        Parameters
        ----------
        state : dict of str to ndarray
            Arrays by name; none of them of objects.
        """
        arrays: dict[str, Any] = {**self._constant, **state}
        arrays["fingerprint"] = np.array(self.fingerprint)
        beside = self.path.with_name(self.path.name + ".part")
        with beside.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)

    def remove(self) -> None:
        """Remove the file: the training has come to its end."""
        self.path.unlink(missing_ok=True)


def fingerprint(*parts: Any) -> str:
    """Return a number that stands for parameters and data.

    Parameters
    ----------
    *parts : object
        What has to be the same.

    Returns
    -------
    str
        A hash.
    """
    return str(joblib.hash(parts))
