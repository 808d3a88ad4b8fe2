"""How much memory the training of a retrieval student takes, before it takes it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from skdistill._retrieval import top_k
from skdistill._retrieval.centroids import DENSE_BYTES
from skdistill._retrieval.embedding_stack import BLOCK_LOGITS, UPDATE_VALUES, n_shards
from skdistill._retrieval.limited_memory import N_KEPT
from skdistill._retrieval.refinement import BLOCK_ROWS, N_THREADS

#: Arrays of a block of logits that a step has at the same time: logits, targets and
#: one to work with. Weights of negatives take more, and so does the sparse part.
STEP_ARRAYS, WEIGHT_ARRAYS, OFFSET_ARRAYS = 3, 3, 1
#: Vectors of the entries of the sparse part that a minimisation holds beside what it
#: remembers: a point and its slope, twice, a direction, weights, a part of the slope.
STEP_VECTORS = 7
#: Bytes of a pair whose loss is taken.
PAIR_BYTES = 28
#: What two threads, their buffers and many small things take: measured.
THREADS_BYTES = 3 * 2**20
#: Labels of a row that its calibration looks at, about.
CALIBRATION_LABELS = 105

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class SparsePart:
    """How large the sparse part is, and what it is refined by.

    Attributes
    ----------
    n_entries : int, default=0
        Entries of all vectors.
    n_own : int, default=0
        Pairs of a row and a label of it.
    n_rows : int, default=0
        Rows by which it is refined.
    n_pairs : int, default=0
        Pairs of one of them and a label.
    pair_entries : int, default=0
        Features of their rows that are in the vectors of their labels.
    """

    n_entries: int = 0
    n_own: int = 0
    n_rows: int = 0
    n_pairs: int = 0
    pair_entries: int = 0


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
    step_arrays : int, default=3
        Arrays of a block of logits that a step has at the same time.
    n_calibration : int, default=64
        Rows that are calibrated at a time.
    sparse_part : SparsePart, default=SparsePart()
        Size of the sparse part.
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
    step_arrays: int = STEP_ARRAYS
    n_calibration: int = 64
    sparse_part: SparsePart = SparsePart()


@dataclass(frozen=True)
class MemoryReport:
    """What training a student takes at most, in bytes, beside the data passed.

    Attributes
    ----------
    parts : dict of str to int
        Bytes of each part that is there all the time.
    stages : dict of str to int
        Bytes that each stage takes beside them; they follow each other.
    """

    parts: dict[str, int]
    stages: dict[str, int]

    @property
    def total(self) -> int:
        """Sum of the parts and of what the largest stage takes."""
        return sum(self.parts.values()) + max(self.stages.values())

    def __str__(self) -> str:
        stages = {f"  {name}": n_bytes for name, n_bytes in self.stages.items()}
        entries = {**self.parts, "and the largest of": None, **stages}
        width = max(len(name) for name in entries)
        lines = [
            name if n_bytes is None else f"{name:<{width}}  {readable(n_bytes):>10}"
            for name, n_bytes in {**entries, "total": self.total}.items()
        ]
        return "\n".join(lines)


def predict_memory(sizes: Sizes) -> MemoryReport:
    """Return the memory that training takes, part by part.

    With d features, L labels, embeddings of m dimensions and b bytes a number, what is
    there all the time are the tables, ``b m d + b_L m L + b L``; the optimiser's sums,
    ``b (d + 2 L)``; of the sparse part 8 for each of its E entries and of each row's
    labels, and 4 L; 8 L for names; and 3 MiB for threads. The stages, of which the
    largest counts:

    - steps, with batches of B rows, C candidates and f features: gradients ``b m C``
      for each of one or two shards and ``b m f``; candidates ``b m C`` where they are
      drawn; hidden units ``4 b m B``; three to seven blocks of logits, which have B C
      each or are bounded;
    - refinement of the sparse part: ``4 E`` for each of 13 vectors, 8 for each of the
      features of pairs, 12 for each pair and 28 for those looked at; or what it takes
      to find them;
    - calibration: logits of some rows, and the embeddings of their best labels.

    Parameters
    ----------
    sizes : Sizes
        The sizes.

    Returns
    -------
    MemoryReport
        The parts.
    """
    s, sparse = sizes, sizes.sparse_part
    stages = {"steps": _step_bytes(s), "calibration": _calibration_bytes(s)}
    if sparse.n_entries:
        stages["refinement"] = _refinement_bytes(s)
    return MemoryReport(
        {
            "data": s.data,
            "feature embeddings": s.n_features * s.dim * s.item,
            "label embeddings": s.n_labels * (s.dim * s.label_item + s.item),
            "optimiser": (s.n_features + 2 * s.n_labels) * s.item,
            "sparse part": (
                8 * (sparse.n_entries + sparse.n_own) + 4 * s.n_labels
                if sparse.n_entries
                else 0
            ),
            "names": 8 * s.n_labels,
            "threads": THREADS_BYTES,
        },
        stages,
    )


def _step_bytes(s: Sizes) -> int:
    """Return what a step takes."""
    shards = n_shards(s.batch_size, s.n_expected, s.dim)
    drawn = s.n_candidates < s.n_labels
    embeddings = (shards + drawn) * s.n_candidates + s.n_present + 4 * s.batch_size
    of_block = BLOCK_LOGITS >> (s.batch_size - 1).bit_length()
    logits = s.step_arrays * s.batch_size * min(s.n_candidates, max(1, of_block))
    # Rows in float32, random numbers and bits, where a table is rounded.
    update = 16 * min(UPDATE_VALUES, s.n_candidates * s.dim)
    # Vectors of the candidates, by label and by feature.
    share = s.n_candidates / s.n_labels if drawn else 1.0
    sparse = int(24 * share * s.sparse_part.n_entries)
    total = (embeddings * s.dim + logits) * s.item + sparse
    return total + (update if s.label_item < s.item else 0)


def _fitted_labels(s: Sizes) -> int:
    """Return what the labels take in float32: NumPy has no bfloat16."""
    return s.n_labels * s.dim * s.item if s.label_item < s.item else 0


def _by_feature(s: Sizes) -> int:
    """Return what the sparse part takes where it is put in order by feature."""
    n_entries = s.sparse_part.n_entries
    return 8 * n_entries + min(DENSE_BYTES, 4 * n_entries)


def _refinement_bytes(s: Sizes) -> int:
    """Return what finding pairs takes, or what the minimisation takes."""
    sparse = s.sparse_part
    pairs = 8 * sparse.pair_entries + 12 * sparse.n_pairs
    at_a_time = min(1.0, BLOCK_ROWS / max(1, sparse.n_rows))
    pairs += int(PAIR_BYTES * at_a_time * sparse.n_pairs)
    vectors = 4 * (2 * N_KEPT + STEP_VECTORS) * sparse.n_entries
    rows = min(
        top_k.BLOCK_ROWS, top_k.BLOCK_LOGITS // min(s.n_labels, top_k.BLOCK_LABELS)
    )
    scores = N_THREADS * 3 * 4 * rows * min(s.n_labels, top_k.BLOCK_LABELS)
    return _fitted_labels(s) + max(pairs + vectors, _by_feature(s) + scores)


def _calibration_bytes(s: Sizes) -> int:
    """Return what the calibration takes: logits in float64, and embeddings."""
    wider = 8 if s.item < 8 else 0
    n_block = min(s.n_labels, top_k.BLOCK_LABELS)
    logits = n_block * (16 * s.n_calibration + wider * s.dim)
    chosen = s.n_calibration * min(s.n_labels, CALIBRATION_LABELS) * s.dim
    embeddings = (s.item + wider) * min(top_k.BLOCK_LOGITS, chosen)
    sparse = _by_feature(s) if s.sparse_part.n_entries else 0
    return _fitted_labels(s) + max(logits, embeddings) + sparse


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
