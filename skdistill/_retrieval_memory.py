"""How much memory the training of a retrieval student takes, before it takes it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from skdistill import _top_k as top_k
from skdistill._centroids import DENSE_BYTES
from skdistill._embedding_stack import BLOCK_LOGITS, UPDATE_VALUES, n_shards

#: Arrays of a block of logits that a step has at the same time: measured; and where
#: there are several blocks, of which one is made while the other is still there.
STEP_ARRAYS, STEP_ARRAYS_OF_BLOCKS = 7, 12
#: Labels of a row that its calibration looks at, about.
CALIBRATION_LABELS = 105

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Sizes:
    """The numbers that the memory formula needs.

    Attributes
    ----------
    n_features, n_labels, dim : int
        Sizes of the tables.
    n_candidates : int
        Labels that a batch is scored against, on average.
    n_expected : int
        The number of them by which a step is divided between two threads.
    batch_size : int
        Rows of a step.
    n_present : int
        Features in a batch, about; all of them where the inputs are dense.
    item, label_item : int
        Bytes of a number, and of one in the table of labels.
    data : int
        Bytes of the training's own inputs and targets.
    sparse_part : int
        Entries of the sparse part, at most.
    n_calibration : int, default=256
        Rows that are calibrated at a time.
    n_pairs, pair_entries : int, default=0
        Pairs of a row and a label by which the sparse part is refined, and features in
        them, at most.
    """

    n_features: int
    n_labels: int
    dim: int
    n_candidates: int
    n_expected: int
    batch_size: int
    n_present: int
    item: int
    label_item: int
    data: int
    sparse_part: int
    n_calibration: int = 256
    n_pairs: int = 0
    pair_entries: int = 0


@dataclass(frozen=True)
class MemoryReport:
    """What training a student takes at most, in bytes, beside the data passed.

    Attributes
    ----------
    parts : dict of str to int
        Bytes of each part.
    """

    parts: dict[str, int]

    @property
    def total(self) -> int:
        """Sum of the parts."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        width = max(len(name) for name in self.parts)
        lines = [f"{n:<{width}}  {readable(b):>10}" for n, b in self.parts.items()]
        return "\n".join([*lines, f"{'total':<{width}}  {readable(self.total):>10}"])


def predict_memory(sizes: Sizes) -> MemoryReport:
    """Return the memory that training takes, part by part.

    With d features, L labels, C candidates, dimension m, batches of B rows, f features
    present in a batch and b bytes a number, the parts are: tables ``b m d + b_L m L +
    b L``; the optimiser's sums ``b (d + 2 L)``; gradients ``b m C`` for each of one or
    two shards and ``b m f``; candidates ``b m C`` where they are fewer than the labels;
    hidden units ``4 b m B``; blocks of logits; labels in float64 to calibrate; seven
    times the sparse part and what of it is kept dense; the pairs that refine it, and
    twice seven times the sparse part to do so; and 8 L for names.

    Parameters
    ----------
    sizes : Sizes
        The sizes.

    Returns
    -------
    MemoryReport
        The parts.
    """
    s = sizes
    sampled = s.n_candidates < s.n_labels
    block = min(s.batch_size * s.n_candidates, BLOCK_LOGITS)
    whole = s.batch_size * s.n_candidates <= BLOCK_LOGITS
    arrays = STEP_ARRAYS if whole else STEP_ARRAYS_OF_BLOCKS
    shards = n_shards(s.batch_size, s.n_expected, s.dim)
    return MemoryReport(
        {
            "data": s.data,
            "feature embeddings": s.n_features * s.dim * s.item,
            "label embeddings": s.n_labels * (s.dim * s.label_item + s.item),
            "optimiser": (s.n_features + 2 * s.n_labels) * s.item,
            "gradients": (shards * s.n_candidates + s.n_present) * s.dim * s.item,
            "candidates": s.n_candidates * s.dim * s.item if sampled else 0,
            "hidden units": 4 * s.batch_size * s.dim * s.item,
            # Logits, targets, slope, and what they are made of.
            "logits": arrays * block * s.item,
            "calibration": _calibration_bytes(s),
            "names": 8 * s.n_labels,
            # Sums, vectors in training and in prediction, those also without common
            # features, and copies on the way there; three times the dense part.
            "sparse part": (
                7 * 8 * s.sparse_part + 3 * min(DENSE_BYTES, 80 * s.sparse_part)
            ),
            # Products twice, as chunks and together; vectors of L-BFGS, in float64.
            "pairs": (
                16 * s.pair_entries
                + 40 * s.n_pairs
                + (14 * 8 * s.sparse_part if s.n_pairs else 0)
            ),
            # NumPy has no bfloat16: what is fitted is kept as float32.
            "fitted labels": (
                s.n_labels * s.dim * s.item if s.label_item < s.item else 0
            ),
            # Rows in float32, random numbers and bits.
            "update": (
                16 * min(UPDATE_VALUES, s.n_candidates * s.dim)
                if s.label_item < s.item
                else 0
            ),
        }
    )


def _calibration_bytes(s: Sizes) -> int:
    """Return what the calibration takes: a block of labels, and those of rows."""
    wider = 8 if s.item < 8 else 0
    block = wider * min(s.n_labels, top_k.BLOCK_LABELS) * s.dim
    chosen = s.n_calibration * min(s.n_labels, CALIBRATION_LABELS) * s.dim
    return block + (s.item + wider) * min(top_k.BLOCK_LOGITS, chosen)


def available_memory() -> int | None:
    """Return the bytes that can be had without swapping; None where it is unknown.

    Returns
    -------
    int or None
        Bytes.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def check_memory(report: MemoryReport, memory_limit: int | None, remedy: str) -> None:
    """Refuse what does not fit, before anything is allocated.

    Parameters
    ----------
    report : MemoryReport
        What training takes.
    memory_limit : int or None
        Bytes allowed; None: what the machine has.
    remedy : str
        What would help.

    Raises
    ------
    MemoryError
        If it is more than that. The message names the numbers.
    """
    limit = available_memory() if memory_limit is None else memory_limit
    if limit is None or report.total <= limit:
        return
    source = "available here" if memory_limit is None else "of memory_limit"
    raise MemoryError(
        f"Training needs about {readable(report.total)}, more than the "
        f"{readable(limit)} {source}. {remedy}\n{report}"
    )


def readable(n_bytes: float) -> str:
    """Return a number of bytes with a unit.

    Parameters
    ----------
    n_bytes : float
        Bytes.

    Returns
    -------
    str
        At most one digit after the point.
    """
    for unit in _UNITS:
        if n_bytes < 1024 or unit == _UNITS[-1]:
            break
        n_bytes /= 1024
    return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"


def data_bytes(*arrays: Any) -> int:
    """Return the bytes of sparse matrices and arrays.

    Parameters
    ----------
    *arrays : csr_matrix, ndarray or None
        What is kept.

    Returns
    -------
    int
        Their sum.
    """
    total = 0
    for array in arrays:
        if array is None:
            continue
        if sp.issparse(array):
            total += array.data.nbytes + array.indices.nbytes + array.indptr.nbytes
        else:
            total += np.asarray(array).nbytes
    return total
