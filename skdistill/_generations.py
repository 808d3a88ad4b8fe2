"""Generations of students, each taught by the one before: out-of-fold all the way."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed

from skdistill._choice import (
    ON_LABELS,
    Candidate,
    Material,
    Recipe,
    choose,
    gains,
    row_log_loss,
)
from skdistill._folds import Folds
from skdistill._judging import trained
from skdistill._nested import rows_outside
from skdistill._typing import FloatArray, IntArray
from skdistill.students._base import BaseStudent

#: Folds that a student has not learned from.
LeftOut: TypeAlias = frozenset[int]


@dataclass(frozen=True)
class Generation:
    """A generation of students, and what its chain learns with.

    Attributes
    ----------
    number : int
        0 for the students on the labels.
    mixing_weight : float
        Weight of the soft labels of the generation before.
    proba : ndarray of shape (n_samples, n_classes)
        Out-of-fold probabilities.
    teaching : ndarray of shape (n_samples, n_classes) or None
        Those of the generation before.
    """

    number: int
    mixing_weight: float
    proba: FloatArray
    teaching: FloatArray | None


def most_generations(folds: Folds, codes: IntArray, wanted: int) -> int:
    """Return how many generations can follow the first one.

    Parameters
    ----------
    folds : list of (ndarray, ndarray)
        Training and test rows of each.
    codes : ndarray of shape (n_samples,)
        Class positions.
    wanted : int
        More than these are not asked for: there are very many sets of many folds.

    Returns
    -------
    int
        At most `wanted`. For generation k, students are needed that have not seen k + 1
        of the folds; of what is left they need two classes, unless there is one only.
    """
    found = 0
    for size in range(2, min(len(folds), wanted + 2)):
        rests = (
            rows_outside(folds, some) for some in combinations(range(len(folds)), size)
        )
        if any(len(np.unique(codes[r])) < min(2, len(set(codes))) for r in rests):
            break
        found = size - 1
    return found


def grow_generations(
    student: BaseStudent,
    recipe: Recipe,
    folds: Folds,
    mixing_weights: Sequence[float],
    temperature: float | str,
    n_generations: int,
    n_jobs: int | None,
) -> list[Generation]:
    r"""Let students teach students, as long as held-out labels gain by it.

    With :math:`S_k^{A}` the student of generation k that has learned from all rows but
    those of the folds in A, the soft label of row i in fold :math:`b(i)`, for the
    training of :math:`S_k^{A}`, is

    .. math:: S_{k-1}^{A \cup \{b(i)\}}(x_i),

    so that the labels of the folds in A reach :math:`S_k^{A}` on no way, and the label
    of a row reaches its soft label on no way.

    Parameters
    ----------
    student : student
        Unfitted.
    recipe : Recipe
        Makes the problems.
    folds : list of (ndarray, ndarray)
        Training and test rows of each; the test rows are a partition.
    mixing_weights : sequence of float
        One chain of generations for each.
    temperature : float or "auto"
        Of the soft labels.
    n_generations : int
        Most generations after the first one, at most `most_generations`.
    n_jobs : int or None
        Students trained at the same time, in threads.

    Returns
    -------
    list of Generation
        The students on labels first. A chain ends with the first generation that does
        not gain on the one before by more than two standard errors.
    """
    nursery = _Nursery(student, recipe, folds, temperature, n_jobs)
    nursery.train(0, 1, mixing_weights)
    first, fold = nursery.generation(0, 0.0), folds_of_rows(folds)
    grown, last = [first], dict.fromkeys(mixing_weights, first)
    for number in range(1, n_generations + 1):
        for before in range(number + 1):
            nursery.train(before, number + 1 - before, list(last))
        new = {weight: nursery.generation(number, weight) for weight in last}
        grown += new.values()
        last = {
            weight: generation
            for weight, generation in new.items()
            if _gains_on(generation, last[weight], recipe, fold)
        }
        if not last:
            break
    return grown


class _Nursery:
    """Trains students without some of the folds, and keeps what they say of these."""

    def __init__(
        self,
        student: BaseStudent,
        recipe: Recipe,
        folds: Folds,
        temperature: float | str,
        n_jobs: int | None,
    ) -> None:
        self.student = student
        self.recipe = recipe
        self.folds = folds
        self.temperature = temperature
        self.n_jobs = n_jobs
        # By generation, mixing weight and folds left out: of each of these folds.
        self.proba: dict[tuple[int, float, LeftOut], dict[int, FloatArray]] = {}

    def train(self, number: int, size: int, mixing_weights: Sequence[float]) -> None:
        """Train a generation, once without each set of folds of a size."""
        chains = [0.0] if number == 0 else mixing_weights
        every = [frozenset(s) for s in combinations(range(len(self.folds)), size)]
        # In threads, which share the filters of warnings: put back here.
        with warnings.catch_warnings():
            scored = Parallel(
                n_jobs=effective_n_jobs(self.n_jobs), require="sharedmem"
            )(delayed(self._scores)(number, left_out, chains) for left_out in every)
        for left_out, of_chains in zip(every, scored, strict=True):
            for weight, proba in zip(chains, of_chains, strict=True):
                self.proba[number, weight, left_out] = proba

    def _scores(
        self, number: int, left_out: LeftOut, mixing_weights: Sequence[float]
    ) -> list[dict[int, FloatArray]]:
        """Return each chain's probabilities of the rows of the folds left out."""
        rows = rows_outside(self.folds, left_out)
        soft: dict[str, FloatArray] = {}
        candidates = [ON_LABELS]
        if number > 0:
            candidates = [candidate(w, self.temperature) for w in mixing_weights]
            for weight, c in zip(mixing_weights, candidates, strict=True):
                soft[c.source] = self._before(number, weight, left_out)[rows]
        material = Material(rows, soft)
        students = trained(self.student, self.recipe, candidates, material)
        X = self.recipe.labelled.X
        return [
            {k: s.predict_proba(_safe_indexing(X, self.folds[k][1])) for k in left_out}
            for s in students
        ]

    def _before(self, number: int, weight: float, left_out: LeftOut) -> FloatArray:
        """Return soft labels of the generation before, for students without folds."""
        labelled = self.recipe.labelled
        proba = np.zeros((len(labelled.codes), len(labelled.classes)))
        chain = 0.0 if number == 1 else weight
        for k in set(range(len(self.folds))) - left_out:
            teacher = self.proba[number - 1, chain, left_out | {k}]
            proba[self.folds[k][1]] = teacher[k]
        return proba

    def generation(self, number: int, weight: float) -> Generation:
        """Return a generation of which each student has left out one fold."""
        nothing: LeftOut = frozenset()
        return Generation(
            number,
            0.0 if number == 0 else weight,
            self._before(number + 1, weight, nothing),
            None if number == 0 else self._before(number, weight, nothing),
        )


def candidate(mixing_weight: float, temperature: float | str) -> Candidate:
    """Return how a generation learns from the one before.

    Parameters
    ----------
    mixing_weight : float
        Weight of its soft labels.
    temperature : float or "auto"
        Their temperature.

    Returns
    -------
    Candidate
        Chains of different weights have sources of different names.
    """
    return Candidate(f"self {mixing_weight}", mixing_weight, temperature)


def _gains_on(
    generation: Generation, before: Generation, recipe: Recipe, fold: IntArray
) -> bool:
    """Whether a generation is surely better than the one before."""
    codes = recipe.labelled.codes
    loss = np.array([row_log_loss(codes, g.proba) for g in (before, generation)])
    return choose(*gains(loss, recipe.weight, fold)) == 1


def folds_of_rows(folds: Folds) -> IntArray:
    """Return which fold each row is scored in.

    Parameters
    ----------
    folds : list of (ndarray, ndarray)
        Training and test rows of each; the test rows are a partition.

    Returns
    -------
    ndarray of shape (n_samples,)
        Positions of the folds.
    """
    fold = np.empty(sum(len(test) for _, test in folds), dtype=np.intp)
    for k, (_, test) in enumerate(folds):
        fold[test] = k
    return fold


def judge_generations(
    generations: Sequence[Generation],
    recipe: Recipe,
    folds: Folds,
    temperature: float | str,
) -> tuple[int, dict[str, Any]]:
    """Choose the generation whose gain on labels alone is surest.

    Parameters
    ----------
    generations : sequence of Generation
        The students on labels first.
    recipe : Recipe
        Has labels and weights.
    folds : list of (ndarray, ndarray)
        Training and test rows of each.
    temperature : float or "auto"
        Of the soft labels.

    Returns
    -------
    best : int
        Its position.
    table : dict of str to ndarray
        One entry a generation.
    """
    codes, weight = recipe.labelled.codes, recipe.weight
    fold = folds_of_rows(folds)
    loss = np.array([row_log_loss(codes, g.proba) for g in generations])
    hit = np.array([g.proba.argmax(axis=1) == codes for g in generations])
    gain, error = gains(loss, weight, fold)
    best = choose(gain, error)
    step, step_error = np.full((2, len(generations)), np.nan)
    for i, generation in enumerate(generations[1:], start=1):
        before = _position_before(generations, generation)
        (_, step[i]), (_, step_error[i]) = gains(loss[[before, i]], weight, fold)
    share = weight / weight.sum()
    temperatures = [temperature if g.number else 1.0 for g in generations]
    return best, {
        "generation": np.array([g.number for g in generations]),
        "mixing_weight": np.array([g.mixing_weight for g in generations]),
        "temperature": np.array(temperatures, dtype=object),
        "log_loss": loss @ share,
        "accuracy": hit @ share,
        "gain": gain,
        "gain_standard_error": error,
        "step": step,
        "step_standard_error": step_error,
        "chosen": np.arange(len(generations)) == best,
    }


def _position_before(generations: Sequence[Generation], generation: Generation) -> int:
    """Return where the generation is that taught another."""
    return next(
        i
        for i, g in enumerate(generations)
        if g.number == generation.number - 1
        and g.mixing_weight in (0.0, generation.mixing_weight)
    )
