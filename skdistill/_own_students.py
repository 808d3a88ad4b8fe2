"""Students on the labels, for what they say of rows that they have not seen."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.parallel import Parallel, delayed

from skdistill._choice import ON_LABELS, Material, Recipe
from skdistill._folds import Folds
from skdistill._labelled_rows import LabelledRows
from skdistill._nested import pairs_of_folds, rows_outside
from skdistill._typing import FloatArray, InputLike
from skdistill.students._base import BaseStudent
from skdistill.students._problem import Task

#: Folds that a student has not learned from.
LeftOut: TypeAlias = frozenset[int]

#: Networks of so many seeds for each set of folds, where rows are few.
N_SEEDS = 4

#: Students that share work are trained together up to this many numbers of input, of
#: which each set of rows is a copy.
NUMBERS_TOGETHER = 2**25


@dataclass(frozen=True)
class OwnStudents:
    """Students on the labels, each of which has left out one or two of the folds.

    Attributes
    ----------
    labelled : LabelledRows
        What they have learned from.
    folds : list of (ndarray, ndarray)
        Training and test rows of each; the test rows are a partition.
    without : dict of frozenset of int to list of student
        By the folds left out: students that differ in their seeds.
    """

    labelled: LabelledRows
    folds: Folds
    without: dict[LeftOut, list[BaseStudent]]

    def out_of_fold(self, judged: int | None) -> FloatArray:
        r"""Return out-of-fold probabilities of the training rows of a fold.

        With :math:`S^{A}` the student that has left out the folds in A, and
        :math:`b(i)` the fold of row i,

        .. math:: S^{\{b, b(i)\}}(x_i)

        for the rows outside the fold b: its labels have reached none of them, and no
        row is scored by a student that has seen its label.

        Parameters
        ----------
        judged : int or None
            The fold b; None for all rows, each by the student without its fold.

        Returns
        -------
        ndarray of shape (n_train, n_classes)
            Probabilities, in the order of the rows.
        """
        apart = frozenset() if judged is None else frozenset([judged])
        shape = len(self.labelled.codes), len(self.labelled.classes)
        proba = np.empty(shape)
        for k in set(range(len(self.folds))) - apart:
            test = self.folds[k][1]
            X = _safe_indexing(self.labelled.X, test)
            proba[test] = _mean_proba(self.without[apart | {k}], X)
        return proba if judged is None else proba[self.folds[judged][0]]

    def of_new_rows(self, X: InputLike, judged: int | None) -> FloatArray:
        """Return the mean probabilities of rows without labels.

        Parameters
        ----------
        X : array-like of shape (n_new, ...)
            The rows.
        judged : int or None
            Fold that the students must not have seen, if any.

        Returns
        -------
        ndarray of shape (n_new, n_classes)
            Probabilities, by the students of `out_of_fold`.
        """
        apart = frozenset() if judged is None else frozenset([judged])
        others = set(range(len(self.folds))) - apart
        return _mean_proba([s for k in others for s in self.without[apart | {k}]], X)


def _mean_proba(students: Sequence[BaseStudent], X: InputLike) -> FloatArray:
    mean: FloatArray = np.mean([s.predict_proba(X) for s in students], axis=0)
    return mean


def own_students(
    student: BaseStudent,
    recipe: Recipe,
    folds: Folds,
    judged: Sequence[int],
    n_epochs: int | None,
    n_jobs: int | None,
) -> OwnStudents:
    """Train students on the labels, without each fold, and each pair to judge by.

    Parameters
    ----------
    student : student
        Unfitted.
    recipe : Recipe
        Has labels and weights. Classes have no weights here: it is probabilities that
        are wanted.
    folds : list of (ndarray, ndarray)
        Training and test rows of each; the test rows are a partition.
    judged : sequence of int
        Folds that candidates are judged on.
    n_epochs : int or None
        Epochs of a network; None lets each find out.
    n_jobs : int or None
        Students trained at the same time, in threads, where they share no work.

    Returns
    -------
    OwnStudents
        The fitted students.
    """
    recipe = replace(recipe, class_weight=None)
    pairs = pairs_of_folds(folds, judged)
    left_out = [
        frozenset(some) for some in [*((k,) for k in range(len(folds))), *pairs]
    ]
    n_rows = len(recipe.labelled.codes)
    n_each = N_SEEDS if student._stops_by_folds(n_rows) else 1
    seeds = _seeds(student, len(left_out) * n_each)

    def work(some: Sequence[int]) -> list[BaseStudent]:
        tasks = []
        for i in some:
            material = Material(rows_outside(folds, left_out[i]), {})
            problem, (terms,) = recipe.problems([ON_LABELS], material)
            problem = replace(problem, terms=terms, n_epochs=n_epochs)
            own = seeds[i * n_each : (i + 1) * n_each]
            tasks += [Task(problem, seed) for seed in own]
        return student._fit_tasks(tasks)

    together = 1
    if student._joins_folds():
        row = np.shape(_safe_indexing(recipe.labelled.X, [0]))
        together = max(1, NUMBERS_TOGETHER // (n_rows * int(np.prod(row))))
    every = range(len(left_out))
    parts = [every[start : start + together] for start in every[::together]]
    # In threads, which share the filters of warnings: put back here.
    with warnings.catch_warnings():
        found = Parallel(n_jobs=effective_n_jobs(n_jobs), require="sharedmem")(
            delayed(work)(part) for part in parts
        )
    students = [fitted for part in found for fitted in part]
    return OwnStudents(
        recipe.labelled,
        folds,
        {a: students[i * n_each : (i + 1) * n_each] for i, a in enumerate(left_out)},
    )


def _seeds(student: BaseStudent, n_students: int) -> list[dict[str, Any]]:
    """Return a seed for each student, where it has one.

    Networks that start alike err alike: they would have little to tell each other, or
    the student that learns from them.
    """
    if "random_state" not in student.get_params(deep=False):
        return [{}] * n_students
    rng = check_random_state(clone(student).random_state)
    seeds = rng.randint(2**31 - 1, size=n_students)
    return [{"random_state": int(seed)} for seed in seeds]
