"""What the fit of a retriever is about: its rows, reports of it, its soft labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from skdistill._retrieval.checkpoint import State
from skdistill._retrieval.label_sets import LabelSets
from skdistill._typing import InputLike, IntArray

#: Of so many rows or more, some are kept from training to calibrate chances by.
MIN_HELD_OUT_FROM = 2000
HELD_OUT_SHARE = 0.02
MAX_HELD_OUT = 1000


@dataclass(frozen=True)
class RetrievalTask:
    """What a fit is about, checked."""

    X: Any
    raw_X: InputLike
    raw_y: Any
    labels: LabelSets
    train: IntArray
    held_out: IntArray

    @property
    def calibration_rows(self) -> IntArray:
        """Rows by which chances are calibrated: held out where there are enough."""
        return self.held_out if len(self.held_out) else self.train


def held_out_rows(n_samples: int, seed: int) -> tuple[IntArray, IntArray]:
    """Return rows to train on, and rows kept to calibrate chances by, both sorted."""
    n_held_out = min(MAX_HELD_OUT, int(HELD_OUT_SHARE * n_samples))
    if n_samples < MIN_HELD_OUT_FROM:
        n_held_out = 0
    order = np.random.default_rng([seed, 3]).permutation(n_samples)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


class Reports:
    """Tells callbacks about the stretches of a training.

    Parameters
    ----------
    context : CallbackContext
        Context of the fit.
    estimator : estimator
        What is fitted.
    task : RetrievalTask
        Its data.
    attributes : callable
        Returns the fitted attributes as if the fit had stopped now.
    """

    def __init__(
        self,
        context: Any,
        estimator: Any,
        task: RetrievalTask,
        attributes: Callable[[], dict[str, Any]],
    ) -> None:
        self._context = context
        self._data = {"estimator": estimator, "X": task.raw_X, "y": task.raw_y}
        self._attributes = attributes
        self._running: Any = None

    def begin(self) -> None:
        """Announce that a stretch begins."""
        self._running = self._context.subcontext(task_name="steps")
        self._running.call_on_fit_task_begin(**self._data)

    def end(self) -> bool:
        """Announce that it has ended; return whether a callback asks to stop."""
        return bool(
            self._running.call_on_fit_task_end(
                **self._data, reconstruction_attributes=self._attributes
            )
        )


def soft_label_arrays(soft: sp.csr_matrix | None) -> State:
    """Return soft labels as arrays of a checkpoint."""
    if soft is None:
        return {}
    return {
        "soft_data": soft.data,
        "soft_indices": soft.indices,
        "soft_indptr": soft.indptr,
    }


def stored_soft_labels(state: State, task: RetrievalTask) -> sp.csr_matrix | None:
    """Return the soft labels of a checkpoint."""
    if "soft_data" not in state:
        return None
    parts = tuple(state[f"soft_{name}"] for name in ("data", "indices", "indptr"))
    shape = (len(task.train), task.labels.indicator.shape[1])
    return sp.csr_matrix(parts, shape=shape)
