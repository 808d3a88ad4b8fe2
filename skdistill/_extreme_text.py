"""The text format of the Extreme Classification Repository, read and written."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import DTypeLike, NDArray
from sklearn.utils import check_array

#: Lines that are turned into numbers at once.
N_LINES = 4096

_HEADER = re.compile(r"\s*(\d+)\s+(\d+)\s+(\d+)\s*$")
_LABELS = re.compile(r"\d+(?:,\d+)*$")
_PAIRS = re.compile(r"(?:\d+:[^\s:]+(?:\s+|$))*$")


def load_extreme_text(
    path: str | PathLike[str], *, dtype: DTypeLike = np.float32
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    r"""Load data in the text format of the Extreme Classification Repository.

    The first line holds the numbers of rows, features and labels; each line after it
    the labels of a row and its features::

        3 5 4
        0,2 0:1.0 3:0.5
        1 2:0.25
         4:1.5

    Numbers begin at 0. A line that begins with a blank has no labels (the third row
    here); one that is empty has no features either.

    Parameters
    ----------
    path : str or path-like
        A text file; unpacked while it is read where its name ends in ".gz".
    dtype : dtype, default=numpy.float32
        Type of the features.

    Returns
    -------
    X : csr_matrix of shape (n_samples, n_features)
        Features, sorted by number. Values of a feature that is repeated are added.
    Y : csr_matrix of shape (n_samples, n_labels)
        1 for each label of a row. A label that is repeated counts once.

    Raises
    ------
    ValueError
        If the file is not in this format, or is not what its first line says. The line
        is named.

    See Also
    --------
    dump_extreme_text : Writes the format.

    References
    ----------
    .. [Bhatia2016] Bhatia, Dahiya, Jain, Kar, Mittal, Prabhu and Varma, "The extreme
       classification repository: multi-label datasets and code", 2016,
       http://manikvarma.org/downloads/XC/XMLRepository.html.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skdistill.datasets import load_extreme_text
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "train.txt")
    ...     _ = path.write_text("2 3 4\n0,2 0:1.0 2:0.5\n 1:2.0\n")
    ...     X, Y = load_extreme_text(path)
    >>> X.toarray()
    array([[1. , 0. , 0.5],
           [0. , 2. , 0. ]], dtype=float32)
    >>> Y.toarray()
    array([[1, 0, 1, 0],
           [0, 0, 0, 0]], dtype=int32)
    """
    path = Path(path)
    with _open(path, "rt") as file:
        shape = _header(file.readline(), path)
        blocks = list(_blocks(file, shape, path))
    n_rows = sum(len(block.n_labels) for block in blocks)
    if n_rows != shape.n_samples:
        raise ValueError(
            f"{path}: the first line says {shape.n_samples} rows, but there are "
            f"{n_rows}."
        )
    X = _csr(
        [block.values for block in blocks],
        [block.features for block in blocks],
        [block.n_features for block in blocks],
        (n_rows, shape.n_features),
        dtype,
    )
    labels = [block.labels for block in blocks]
    ones = [np.ones(len(block)) for block in labels]
    counts = [block.n_labels for block in blocks]
    Y = _csr(ones, labels, counts, (n_rows, shape.n_labels), np.int32)
    Y.data[:] = 1
    return X, Y


def dump_extreme_text(X: Any, Y: Any, path: str | PathLike[str]) -> None:
    """Write data in the text format of the Extreme Classification Repository.

    Each value is written with as many digits as give it back in its type. The file is
    complete or not there: it is written beside its place and then moved.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_samples, n_features)
        Features. Zeros are not written.
    Y : array or sparse matrix of shape (n_samples, n_labels)
        Labels: what is not 0.
    path : str or path-like
        Where to; packed where the name ends in ".gz".

    Raises
    ------
    ValueError
        If `X` or `Y` is not a numeric matrix, or holds NaN or infinity, or their rows
        are not as many.

    See Also
    --------
    load_extreme_text : Reads the format, and shows it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skdistill.datasets import dump_extreme_text
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "train.txt")
    ...     dump_extreme_text([[1.0, 0.0], [0.0, 0.5]], [[1, 1], [0, 0]], path)
    ...     print(path.read_text())
    2 2 2
    0,1 0:1.0
     1:0.5
    <BLANKLINE>
    """
    X, Y = _tidy(X, "X"), _tidy(Y, "Y")
    if X.shape[0] != Y.shape[0]:
        raise ValueError(f"X has {X.shape[0]} rows, but Y has {Y.shape[0]}.")
    path = Path(path)
    # The name keeps its ending, which says whether it is packed.
    partial = path.with_name("partial-" + path.name)
    with _open(partial, "wt") as file:
        file.write(f"{X.shape[0]} {X.shape[1]} {Y.shape[1]}\n")
        for start in range(0, X.shape[0], N_LINES):
            file.writelines(
                _lines(X[start : start + N_LINES], Y[start : start + N_LINES])
            )
    partial.replace(path)


# -- reading -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Shape:
    """What the first line says."""

    n_samples: int
    n_features: int
    n_labels: int


@dataclass(frozen=True)
class _Block:
    """Some rows, their entries one after the other."""

    labels: NDArray[np.integer]
    n_labels: list[int]
    features: NDArray[np.integer]
    values: NDArray[np.floating]
    n_features: list[int]


def _open(path: Path, mode: str) -> IO[Any]:
    """Open a text file, packed or not."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    opened: IO[Any] = opener(path, mode, encoding="utf-8")
    return opened


def _header(line: str, path: Path) -> _Shape:
    """Read the first line."""
    match = _HEADER.match(line)
    if match is None:
        raise ValueError(
            f"{path}, line 1: expected the numbers of rows, features and labels, such "
            f"as '15449 5000 3993'; got {line.rstrip()[:60]!r}."
        )
    return _Shape(*map(int, match.groups()))


def _blocks(file: IO[str], shape: _Shape, path: Path) -> Iterator[_Block]:
    """Read blocks of lines."""
    number = 2
    lines: list[str] = []
    for line in file:
        lines.append(line)
        if len(lines) == N_LINES:
            yield _parse(lines, number, shape, path)
            number += len(lines)
            lines = []
    # Blank lines at the end are no rows, as far as there are more than rows.
    excess = number - 2 + len(lines) - shape.n_samples
    while excess > 0 and lines and not lines[-1].strip():
        lines.pop()
        excess -= 1
    if lines:
        yield _parse(lines, number, shape, path)


def _parse(lines: list[str], number: int, shape: _Shape, path: Path) -> _Block:
    """Turn lines, of which the first has the given number, into numbers."""
    label_texts, feature_texts = [], []
    for offset, line in enumerate(lines):
        before, after = _split(line)
        if not _PAIRS.match(after):
            _wrong(path, number + offset, "feature:value pairs", after)
        if before and not _LABELS.match(before):
            _wrong(path, number + offset, "labels such as '0,2,5'", before)
        label_texts.append(before)
        feature_texts.append(after)
    n_labels = [text.count(",") + 1 if text else 0 for text in label_texts]
    n_features = [text.count(":") for text in feature_texts]
    labels = _numbers(label_texts, n_labels, ",", number, path).astype(np.int64)
    pairs = _numbers(
        feature_texts, [2 * count for count in n_features], ":", number, path
    )
    features, values = pairs[::2].astype(np.int64), pairs[1::2]
    _check_range(labels, n_labels, shape.n_labels, "label", number, path)
    _check_range(features, n_features, shape.n_features, "feature", number, path)
    if not np.isfinite(values).all():
        row = _row_of(int((~np.isfinite(values)).argmax()), n_features)
        raise ValueError(f"{path}, line {number + row}: a value is not finite.")
    return _Block(labels, n_labels, features, values, n_features)


def _split(line: str) -> tuple[str, str]:
    """Return the labels and the features of a line."""
    if line[:1].isspace():
        return "", line.strip()
    first, _, rest = line.strip().partition(" ")
    # Some writers leave out the blank of a row without labels.
    return ("", line.strip()) if ":" in first else (first, rest.strip())


def _numbers(
    texts: list[str], counts: list[int], separator: str, number: int, path: Path
) -> NDArray[np.float64]:
    """Return the numbers in texts that are made of as many as `counts` says."""
    joined = " ".join(texts).replace(separator, " ")
    numbers = _floats(joined)
    if numbers is not None and len(numbers) == sum(counts):
        return numbers
    for row, (text, count) in enumerate(zip(texts, counts, strict=True)):
        numbers = _floats(text.replace(separator, " "))
        if numbers is None or len(numbers) != count:
            _wrong(path, number + row, "numbers", text)
    raise AssertionError("unreachable: the texts are numbers, but together are not")


def _floats(text: str) -> NDArray[np.float64] | None:
    """Return the numbers in a text, None where it holds anything else."""
    try:
        return np.array(text.split(), dtype=np.float64)
    except ValueError:
        return None


def _check_range(
    found: NDArray[np.integer],
    counts: list[int],
    limit: int,
    what: str,
    number: int,
    path: Path,
) -> None:
    """Check that numbers are below the limit of the first line."""
    if len(found) and found.max() >= limit:
        row = _row_of(int((found >= limit).argmax()), counts)
        raise ValueError(
            f"{path}, line {number + row}: {what} {found[found >= limit][0]}, but the "
            f"first line says that there are {limit}, which begin at 0."
        )


def _row_of(position: int, counts: list[int]) -> int:
    """Return the row that an entry belongs to."""
    return int(np.searchsorted(np.cumsum(counts), position, side="right"))


def _wrong(path: Path, number: int, expected: str, text: str) -> None:
    raise ValueError(f"{path}, line {number}: expected {expected}; got {text[:60]!r}.")


def _csr(
    values: list[NDArray[Any]],
    indices: list[NDArray[Any]],
    counts: list[list[int]],
    shape: tuple[int, int],
    dtype: DTypeLike,
) -> sp.csr_matrix:
    """Put blocks together; columns are sorted, repeated ones added."""
    nothing = [np.empty(0)]
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts or [[]]))])
    data = np.concatenate(values or nothing).astype(dtype)
    columns = np.concatenate(indices or nothing).astype(np.int32)
    matrix = sp.csr_matrix((data, columns, indptr.astype(np.int64)), shape=shape)
    matrix.sum_duplicates()
    return matrix


# -- writing -----------------------------------------------------------------------


def _tidy(matrix: Any, name: str) -> sp.csr_matrix:
    """Return CSR with sorted columns and without stored zeros."""
    checked: Any = check_array(
        matrix, accept_sparse="csr", ensure_min_samples=0, input_name=name
    )
    if checked.dtype == bool:
        # Written as numbers.
        checked = checked.astype(np.int8)
    csr = sp.csr_matrix(checked, copy=True)
    csr.sum_duplicates()
    csr.eliminate_zeros()
    return csr


def _lines(X: sp.csr_matrix, Y: sp.csr_matrix) -> Iterator[str]:
    """Yield the lines of rows."""
    pairs = [
        f"{feature}:{value}"
        for feature, value in zip(X.indices, X.data.astype(str), strict=True)
    ]
    labels = Y.indices.astype(str)
    for row in range(X.shape[0]):
        own = ",".join(labels[Y.indptr[row] : Y.indptr[row + 1]])
        yield own + " " + " ".join(pairs[X.indptr[row] : X.indptr[row + 1]]) + "\n"
