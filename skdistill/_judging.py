"""Candidates trained on folds, and judged by the labels of the rows left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed

from skdistill._choice import Candidate, Material, Recipe, row_log_loss
from skdistill._rows import concatenate_rows
from skdistill._typing import FloatArray, IntArray
from skdistill.students._base import BaseStudent
from skdistill.students._linear import LinearStudent
from skdistill.students._problem import Problem, Task, Terms


@dataclass(frozen=True)
class Judgement:
    """Losses of all candidates on held-out labels.

    Attributes
    ----------
    loss : ndarray of shape (n_candidates, n_judged)
        Log-loss of each row.
    hit : ndarray of shape (n_candidates, n_judged)
        Whether the most probable class is the label.
    weight : ndarray of shape (n_judged,)
        Weights of the rows, those of their classes included.
    fold : ndarray of shape (n_judged,)
        Which of the folds judged by they are in.
    proba : ndarray of shape (n_candidates, n_judged, n_classes) or None
        Probabilities of the rows, where they are asked for.
    n_epochs : list of int or None
        Epochs of each candidate, where it is a network of which folds decide.
    """

    loss: FloatArray
    hit: NDArray[np.bool_]
    weight: FloatArray
    fold: IntArray
    proba: FloatArray | None = None
    n_epochs: Sequence[int] | None = None

    def followed_by(self, other: Judgement) -> Judgement:
        """Return a judgement of these candidates and others, by the same rows."""
        n_epochs = None
        if self.n_epochs is not None and other.n_epochs is not None:
            n_epochs = [*self.n_epochs, *other.n_epochs]
        return replace(
            self,
            loss=np.vstack([self.loss, other.loss]),
            hit=np.vstack([self.hit, other.hit]),
            proba=None,
            n_epochs=n_epochs,
        )


def judge(
    student: BaseStudent,
    recipe: Recipe,
    candidates: Sequence[Candidate],
    folds: Sequence[tuple[Material, IntArray]],
    n_jobs: int | None,
    *,
    keep_proba: bool = False,
) -> Judgement:
    """Train all candidates on each fold's material and score its held-out rows.

    Networks of which folds decide when they stop are trained for as many epochs as the
    rows to judge by say, all of them together: see `best_epochs`.

    Parameters
    ----------
    student : student
        Unfitted.
    recipe : Recipe
        Makes the problems.
    candidates : sequence of Candidate
        What to try.
    folds : sequence of (Material, ndarray of shape (n_test,))
        What to learn from, and the rows to judge by.
    n_jobs : int or None
        Folds worked on at the same time, in threads.
    keep_proba : bool, default=False
        Whether the judgement holds the probabilities.

    Returns
    -------
    Judgement
        The folds' rows one after the other.
    """
    of_folds = [candidates] * len(folds)
    return judge_each(student, recipe, of_folds, folds, n_jobs, keep_proba=keep_proba)


def judge_each(
    student: BaseStudent,
    recipe: Recipe,
    candidates: Sequence[Sequence[Candidate]],
    folds: Sequence[tuple[Material, IntArray]],
    n_jobs: int | None,
    *,
    keep_proba: bool = False,
) -> Judgement:
    """Do as `judge`, for candidates that differ from fold to fold.

    Parameters
    ----------
    student : student
        Unfitted.
    recipe : Recipe
        Makes the problems.
    candidates : sequence of sequence of Candidate
        What to try on each fold; those in one place are one candidate.
    folds : sequence of (Material, ndarray of shape (n_test,))
        What to learn from, and the rows to judge by.
    n_jobs : int or None
        Folds worked on at the same time, in threads.
    keep_proba : bool, default=False
        Whether the judgement holds the probabilities.

    Returns
    -------
    Judgement
        The folds' rows one after the other.
    """
    n_epochs = None
    if len(folds) > 1 and student._stops_by_folds(len(recipe.labelled.codes)):
        n_epochs = best_epochs(student, recipe, candidates, folds, n_jobs)

    def work(some: Sequence[Candidate], material: Material, test: IntArray) -> Any:
        students = trained(student, recipe, some, material, n_epochs)
        X = _safe_indexing(recipe.labelled.X, test)
        codes = recipe.labelled.codes[test]
        proba = [s.predict_proba(X) for s in students]
        loss = np.array([row_log_loss(codes, p) for p in proba])
        hit = np.array([p.argmax(axis=1) == codes for p in proba])
        return loss, hit, np.array(proba) if keep_proba else None

    found = _of_folds(work, candidates, folds, n_jobs)
    losses, hits, probas = zip(*found, strict=True)
    tests = [test for _, test in folds]
    fold = np.repeat(np.arange(len(tests)), [len(test) for test in tests])
    weight = recipe.judged_weight(np.concatenate(tests))
    proba = np.hstack(probas) if keep_proba else None
    return Judgement(np.hstack(losses), np.hstack(hits), weight, fold, proba, n_epochs)


def _of_folds(
    work: Callable[..., Any],
    candidates: Sequence[Sequence[Candidate]],
    folds: Sequence[tuple[Material, IntArray]],
    n_jobs: int | None,
) -> list[Any]:
    """Return what is found on each fold."""
    # In threads, which share the filters of warnings: put back here.
    with warnings.catch_warnings():
        found: list[Any] = Parallel(
            n_jobs=effective_n_jobs(n_jobs), require="sharedmem"
        )(
            delayed(work)(some, material, test)
            for some, (material, test) in zip(candidates, folds, strict=True)
        )
    return found


def best_epochs(
    student: BaseStudent,
    recipe: Recipe,
    candidates: Sequence[Sequence[Candidate]],
    folds: Sequence[tuple[Material, IntArray]],
    n_jobs: int | None,
) -> list[int]:
    """Return for each candidate how many epochs are best by the rows left out.

    By the mean of all folds' losses on their labels, over the epochs that all of them
    came to. All candidates gain alike by being judged by these rows again: it is one
    number that is chosen, by as many rows as there are.

    Parameters
    ----------
    student : student
        Unfitted; a network.
    recipe : Recipe
        Makes the problems.
    candidates : sequence of sequence of Candidate
        What to try on each fold; those in one place are one candidate.
    folds : sequence of (Material, ndarray of shape (n_test,))
        What to learn from, and the rows to judge by.
    n_jobs : int or None
        Folds worked on at the same time, in threads.

    Returns
    -------
    list of int
        Numbers of epochs.
    """

    def work(
        some: Sequence[Candidate], material: Material, test: IntArray
    ) -> list[FloatArray]:
        scores: dict[Candidate, FloatArray] = {}
        for group in _groups(recipe, list(dict.fromkeys(some)), material):
            problem, terms = recipe.problems(group, material)
            n_rows = len(problem.codes)
            problem = _with_rows(problem, recipe, test)
            held_out = np.arange(n_rows, n_rows + len(test))
            tasks = [
                Task(replace(problem, terms=_padded(own, len(test))), held_out=held_out)
                for own in terms
            ]
            fitted: list[Any] = student._fit_tasks(tasks)
            scores |= {
                candidate: one.validation_scores_
                for candidate, one in zip(group, fitted, strict=True)
            }
        return [scores[candidate] for candidate in some]

    found = _of_folds(work, candidates, folds, n_jobs)
    weights = [recipe.judged_weight(test).sum() for _, test in folds]
    result = []
    for scores in zip(*found, strict=True):
        n_common = min(map(len, scores))
        mean = np.average([own[:n_common] for own in scores], axis=0, weights=weights)
        result.append(1 + int(mean.argmax()))
    return result


def _with_rows(problem: Problem, recipe: Recipe, rows: IntArray) -> Problem:
    """Return a problem with labelled rows appended; those are not its own labelled."""
    labelled = recipe.labelled
    codes = labelled.codes[rows]
    return replace(
        problem,
        X=concatenate_rows(problem.X, _safe_indexing(labelled.X, rows)),
        y=np.concatenate([problem.y, labelled.classes[codes]]),
        codes=np.concatenate([problem.codes, codes]),
        sample_weight=np.concatenate([problem.sample_weight, recipe.weight[rows]]),
    )


def _padded(terms: Terms, n_rows: int) -> Terms:
    """Return terms of some rows more, which are judged by their labels."""
    return tuple(
        (np.pad(targets, [(0, n_rows), (0, 0)]), temperature)
        for targets, temperature in terms
    )


def trained(
    student: BaseStudent,
    recipe: Recipe,
    candidates: Sequence[Candidate],
    material: Material,
    n_epochs: Sequence[int] | None = None,
) -> list[BaseStudent]:
    """Train candidates on the same material, those that share their rows together.

    Parameters
    ----------
    student : student
        Unfitted.
    recipe : Recipe
        Makes the problems.
    candidates : sequence of Candidate
        What to train.
    material : Material
        What they learn from.
    n_epochs : sequence of int or None, default=None
        Epochs of each candidate, a network; None lets it find out.

    Returns
    -------
    list of student
        A fitted one for each candidate.
    """
    epochs = [None] * len(candidates) if n_epochs is None else n_epochs
    wanted = list(zip(candidates, epochs, strict=True))
    students: dict[Any, BaseStudent] = {}
    for group in _groups(recipe, list(dict.fromkeys(candidates)), material):
        problem, terms = recipe.problems(group, material)
        objectives = dict(zip(group, terms, strict=True))
        # One candidate may be wanted twice, and of several numbers of epochs.
        members = [one for one in dict.fromkeys(wanted) if one[0] in objectives]
        tasks = [
            Task(replace(problem, terms=objectives[candidate], n_epochs=n))
            for candidate, n in members
        ]
        if isinstance(student, LinearStudent):
            # Not each from the last one's solution: a solver that stops early would
            # have gone further with the later ones.
            fitted = BaseStudent._fit_tasks(student, tasks)
        else:
            fitted = student._fit_tasks(tasks)
        students.update(zip(members, fitted, strict=True))
    return [students[one] for one in wanted]


def _groups(
    recipe: Recipe, candidates: Sequence[Candidate], material: Material
) -> list[list[Candidate]]:
    """Return candidates that share their rows together."""
    groups: dict[Any, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(recipe.shares(candidate, material), []).append(candidate)
    return list(groups.values())
