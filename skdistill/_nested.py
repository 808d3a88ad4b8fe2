"""Soft labels for the choice: by teachers that have not seen the judging fold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params, check_memory

from skdistill._folds import Folds
from skdistill._labelled_rows import LabelledRows
from skdistill._scoring import class_proba
from skdistill._soft_labels import Stage
from skdistill._table_teacher import fit_teacher
from skdistill._typing import Estimator, FloatArray, InputLike, IntArray


@dataclass(frozen=True)
class FoldProba:
    """Probabilities by teachers that have not seen the rows of a fold.

    Attributes
    ----------
    test : ndarray of shape (n_test, n_classes)
        Of the rows of the fold, by the teacher fitted on the others.
    in_sample : ndarray of shape (n_train, n_classes)
        Of the other rows, by the same teacher.
    out_of_fold : ndarray of shape (n_train, n_classes) or None
        Of the other rows, each by a teacher that has seen neither this fold nor the one
        that the row is in.
    added : tuple of ndarray of shape (n_added, n_classes)
        Of rows without labels, by the teacher of `in_sample`.
    missing : tuple of int
        Positions of the classes that this teacher does not know.
    """

    test: FloatArray
    in_sample: FloatArray
    out_of_fold: FloatArray | None
    added: tuple[FloatArray, ...]
    missing: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Job:
    """A teacher to fit: on which rows, and what it scores."""

    train: IntArray
    blocks: tuple[Any, ...]


def enough_to_nest(folds: Folds, codes: IntArray) -> bool:
    """Whether teachers can be fitted without any two of the folds.

    Parameters
    ----------
    folds : list of (ndarray, ndarray)
        Training and test rows of each.
    codes : ndarray of shape (n_samples,)
        Class positions.

    Returns
    -------
    bool
        False with fewer than three folds, or if what is left has a single class.
    """
    pairs = combinations(range(len(folds)), 2)
    return len(folds) >= 3 and all(
        len(np.unique(codes[rows_outside(folds, pair)])) >= min(2, len(set(codes)))
        for pair in pairs
    )


def nested_proba(
    stage: Stage,
    rows: LabelledRows,
    folds: Folds,
    judged: Sequence[int],
    added: Sequence[Sequence[InputLike]],
    *,
    out_of_fold: bool,
) -> list[FoldProba]:
    r"""Score the training rows of folds with teachers that have not seen the fold.

    The out-of-fold probability of a row i in fold :math:`b(i)`, for students that are
    judged on another fold b, is by the teacher fitted without both,

    .. math:: t^{(-b, -b(i))}(x_i),

    one fit for each pair of folds: K (K - 1) / 2, of K - 2 folds each, where K teachers
    cross-fitted on K - 1 inner folds would be K (K - 1).

    Parameters
    ----------
    stage : Stage
        Teacher and settings.
    rows : LabelledRows
        What it learns from.
    folds : list of (ndarray, ndarray)
        Training and test rows of each; the test rows are a partition.
    judged : sequence of int
        Folds that students are judged on.
    added : sequence of sequences of array-like
        For each of these, rows without labels to score.
    out_of_fold : bool
        Whether out-of-fold probabilities are wanted.

    Returns
    -------
    list of FoldProba
        One for each fold judged.
    """
    score = check_memory(stage.memory).cache(_nested_proba, ignore=["n_jobs"])
    found: list[FoldProba] = score(
        clone(stage.teacher),
        rows.X,
        rows.y,
        rows.classes,
        rows.fit_params,
        folds,
        list(judged),
        [list(inputs) for inputs in added],
        out_of_fold,
        n_jobs=stage.n_jobs,
    )
    return found


def _nested_proba(
    teacher: Estimator,
    X: InputLike,
    y: NDArray[Any],
    classes: NDArray[Any],
    fit_params: dict[str, Any],
    folds: Folds,
    judged: list[int],
    added: list[list[InputLike]],
    out_of_fold: bool,
    n_jobs: int | None,
) -> list[FoldProba]:
    jobs = [
        _Job(folds[k][0], (folds[k][1], folds[k][0], *inputs))
        for k, inputs in zip(judged, added, strict=True)
    ]
    pairs = pairs_of_folds(folds, judged) if out_of_fold else []
    jobs += [_pair_job(folds, pair) for pair in pairs]
    scored = Parallel(n_jobs=n_jobs)(
        delayed(_fit_and_score)(clone(teacher), X, y, classes, fit_params, job)
        for job in jobs
    )
    of_pair = {
        pair: proba
        for pair, (proba, _) in zip(pairs, scored[len(judged) :], strict=True)
    }
    result = []
    for k, ((test, in_sample, *rest), missing) in zip(judged, scored, strict=False):
        inner = None
        if out_of_fold:
            inner = _assemble(folds, k, of_pair, len(y), len(classes))
        result.append(FoldProba(test, in_sample, inner, tuple(rest), missing))
    return result


def pairs_of_folds(folds: Folds, judged: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pairs of folds of which one is judged.

    Parameters
    ----------
    folds : list of (ndarray, ndarray)
        Training and test rows of each.
    judged : sequence of int
        Positions of the folds that students are judged on.

    Returns
    -------
    list of (int, int)
        Pairs of positions, the smaller one first.
    """
    pairs = combinations(range(len(folds)), 2)
    return [pair for pair in pairs if pair[0] in judged or pair[1] in judged]


def rows_outside(folds: Folds, left_out: Iterable[int]) -> IntArray:
    """Return the rows that may be learned from without some of the folds.

    Parameters
    ----------
    folds : list of (ndarray, ndarray)
        Training and test rows of each.
    left_out : iterable of int
        Positions of the folds left out, at least one.

    Returns
    -------
    ndarray
        Sorted positions.
    """
    rows: IntArray = reduce(np.intersect1d, [folds[k][0] for k in left_out])
    return rows


def _pair_job(folds: Folds, pair: tuple[int, int]) -> _Job:
    """Fit without two folds, and score the rows of each."""
    return _Job(rows_outside(folds, pair), tuple(folds[k][1] for k in pair))


def _assemble(
    folds: Folds,
    judged: int,
    of_pair: dict[tuple[int, int], list[FloatArray]],
    n_samples: int,
    n_classes: int,
) -> FloatArray:
    """Put the probabilities of the other folds together, in the order of the rows."""
    proba = np.empty((n_samples, n_classes))
    for k in range(len(folds)):
        if k != judged:
            first, second = of_pair[min(k, judged), max(k, judged)]
            proba[folds[k][1]] = first if k < judged else second
    return proba[folds[judged][0]]


def _fit_and_score(
    teacher: Estimator,
    X: InputLike,
    y: NDArray[Any],
    classes: NDArray[Any],
    fit_params: dict[str, Any],
    job: _Job,
) -> tuple[list[FloatArray], tuple[int, ...]]:
    """Fit a teacher to some rows; score others, or inputs of their own.

    Also return the classes that it does not know.
    """
    params = _check_method_params(X, params=fit_params, indices=job.train)
    fit_teacher(teacher, _safe_indexing(X, job.train), y[job.train], params)
    # A class that is missing here has probability 0, as in the folds themselves.
    probas, missing = zip(
        *(
            class_proba(
                teacher,
                _safe_indexing(X, block) if _is_rows(block) else block,
                classes,
            )
            for block in job.blocks
        ),
        strict=True,
    )
    return list(probas), tuple(missing[0])


def _is_rows(block: Any) -> bool:
    return isinstance(block, np.ndarray) and block.ndim == 1 and block.dtype.kind == "i"
