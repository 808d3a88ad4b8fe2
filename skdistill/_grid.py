"""A grid of temperatures and mixing weights on a part of the rows."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from inspect import signature
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils._metadata_requests import _routing_enabled
from sklearn.utils.validation import _check_method_params

from skdistill._calibration import fit_temperature
from skdistill._candidates import Candidate
from skdistill._folds import Folds
from skdistill._labelled_rows import LabelledRows, TrainingRows
from skdistill._nested import FoldProba, enough_to_nest, nested_proba
from skdistill._scoring import is_frozen
from skdistill._soft_labels import Stage, own_row_proba
from skdistill._typing import FloatArray, IntArray
from skdistill.losses import temper_proba
from skdistill.students._base import BaseStudent
from skdistill.students._class_weight import class_weights
from skdistill.students._problem import (
    Problem,
    Task,
    Terms,
    label_terms,
    mix_targets,
    objective_terms,
)

#: Folds from which on teachers may be shared unasked: of 5, a teacher without two of
#: them has 60 % of the rows, and one that is cross-fitted within four has 64 %.
ENOUGH_FOLDS = 5


@dataclass(frozen=True)
class FoldResult:
    """What one fold says of all candidates."""

    scores: FloatArray
    temperatures: FloatArray
    fit_time: FloatArray
    score_time: FloatArray


@dataclass(frozen=True)
class Fold:
    """A fold's students, before they are trained.

    Attributes
    ----------
    test : ndarray of shape (n_test,)
        Rows to score them on.
    tasks : dict of tuple to Task
        Each student's, by the key of its candidates.
    temperatures : dict of tuple to float
        Their temperatures, as numbers.
    class_weight : ndarray of shape (n_classes,) or None
        Weights of the classes, those of its training rows.
    seconds : float
        What it took so far.
    """

    test: IntArray
    tasks: dict[Any, Task]
    temperatures: dict[Any, float]
    class_weight: FloatArray | None
    seconds: float


class Grid:
    """The grid on its data: makes the objectives of a part of the rows."""

    def __init__(
        self,
        search: Any,
        student: BaseStudent,
        settings: list[dict[str, Any]],
        candidates: list[Candidate],
        rows: TrainingRows,
        soft_labels: FloatArray | None,
        params: dict[str, Any],
    ) -> None:
        self.student = student
        self.settings = settings
        self.candidates = candidates
        self.rows = rows
        self.soft_labels = soft_labels
        self.student_temperature = search.student_temperature
        self.class_weight = search.class_weight
        self.scored_by_loss = search.scoring == "neg_log_loss"
        self.scorer = search._scorer(rows.classes)
        self.teacher = search._resolved_teacher()
        routed = search._routed(self.teacher, rows, params)
        self.fit_params = routed["teacher"]
        self.split_params = routed["splitter"]
        self.teacher_split_params = routed["teacher_splitter"]
        self.score_params = self._score_params(routed["scorer"])
        self._teacher_cv = search.teacher_cv
        own_cv = None if self._teacher_cv == "auto" else self._teacher_cv
        self._stage = Stage(self.teacher, own_cv, search.memory, None)
        self._shared: list[FoldProba] = []
        self._seconds_of_shared = 0.0

    def _score_params(self, routed: dict[str, Any]) -> dict[str, Any]:
        """Return what the scorer takes: as in GridSearchCV, weights without routing."""
        if self.rows.weight is None or _routing_enabled():
            return routed
        if _accepts_weight(self.scorer):
            return {"sample_weight": self.rows.weight}
        warnings.warn(
            f"scoring={self.scorer} takes no sample_weight: students learn from "
            "weighted rows, and are chosen by rows that all weigh the same.",
            UserWarning,
            stacklevel=2,
        )
        return routed

    def stage(self, train: IntArray) -> tuple[Stage, LabelledRows]:
        """Return the stage and the present ones of some rows."""
        X = self.rows.X
        fit_params = _check_method_params(X, params=self.fit_params, indices=train)
        split_params = _check_method_params(
            X, params=self.teacher_split_params, indices=train
        )
        return self._stage, self.rows.take(train).labelled(fit_params, split_params)

    def share_teachers(self, folds: Folds, n_jobs: int) -> None:
        """Let pairs of folds share the teachers of their students.

        If that is wanted, and if any teachers are needed.
        """
        wanted = self._teacher_cv in ("auto", "shared")
        needed = any(candidate.mixing_weight > 0 for candidate in self.candidates)
        made = self.soft_labels is not None or is_frozen(self.teacher)
        if not wanted or not needed or made:
            return
        start = time.perf_counter()
        _, labelled = self.stage(np.arange(len(self.rows.y)))
        present = [
            (_present(train, labelled), _present(test, labelled))
            for train, test in folds
        ]
        obstacle = _obstacle_to_sharing(present, labelled)
        if self._teacher_cv == "auto" and (obstacle or len(folds) < ENOUGH_FOLDS):
            return
        if obstacle:
            raise ValueError(obstacle)
        self._shared = nested_proba(
            replace(self._stage, n_jobs=n_jobs),
            labelled,
            present,
            range(len(folds)),
            [[] for _ in folds],
            out_of_fold=True,
        )
        self._shared_folds = present
        self._seconds_of_shared = (time.perf_counter() - start) / len(folds)

    def proba(
        self,
        stage: Stage,
        labelled: LabelledRows,
        train: IntArray,
        candidates: list[Candidate],
    ) -> FloatArray | None:
        """Return soft labels of the present ones of some rows; None if not needed."""
        if all(candidate.mixing_weight == 0 for candidate in candidates):
            return None
        if self.soft_labels is not None:
            return self.soft_labels[train[self.rows.present()[train]]]
        if self._shared:
            # Of all rows: each by the teacher that has not seen its fold.
            proba = np.empty((len(labelled.y), len(labelled.classes)))
            for (_, test), scored in zip(self._shared_folds, self._shared, strict=True):
                proba[test] = scored.test
            return proba
        return own_row_proba(stage, labelled)

    def problem(self, labelled: LabelledRows, rows: TrainingRows) -> Problem:
        """Return the students' problem, but for its objective."""
        present = rows.present()
        weight = np.ones(len(rows.y)) if rows.weight is None else rows.weight
        weight = weight[present]
        return Problem(
            labelled.X,
            labelled.y,
            labelled.codes,
            labelled.classes,
            weight,
            (),
            class_weight=class_weights(
                self.class_weight, labelled.classes, labelled.y, weight
            ),
        )

    def objective(
        self,
        labelled: LabelledRows,
        rows: TrainingRows,
        proba: FloatArray | None,
        candidate: Candidate,
    ) -> tuple[float, Terms]:
        """Return a candidate's temperature, as a number, and its objective."""
        if proba is None or candidate.mixing_weight == 0:
            known = candidate.temperature != "auto"
            temperature = candidate.temperature if known else 1.0
            terms = label_terms(labelled.codes, len(labelled.classes))
            return float(temperature), terms
        temperature = candidate.temperature
        if temperature == "auto":
            weight = None if rows.weight is None else rows.weight[rows.weight > 0]
            temperature = fit_temperature(labelled.codes, proba, sample_weight=weight)
        same = self.student_temperature == "same"
        student_temperature = float(temperature if same else self.student_temperature)
        soft, mixing = temper_proba(proba, temperature), candidate.mixing_weight
        if student_temperature == 1.0:
            soft, mixing = mix_targets(labelled.codes, soft, mixing), 1.0
        # Rounded as by a student's own check: trees break ties by the last digit.
        soft = soft / soft.sum(axis=1, keepdims=True)
        terms = objective_terms(labelled.codes, soft, mixing, student_temperature)
        return float(temperature), terms

    def new_student(self, candidate: Candidate) -> BaseStudent:
        """Return an unfitted student with the parameters of a candidate."""
        return self.student._with(self.settings[candidate.student])

    def prepare(self, fold: int, train: IntArray, test: IntArray) -> Fold:
        """Make the objectives of all candidates on the training rows of a fold."""
        start = time.perf_counter() - self._seconds_of_shared
        rows = self.rows.take(train)
        stage, labelled = self.stage(train)
        if self._shared:
            proba = self._shared[fold].out_of_fold
        else:
            proba = self.proba(stage, labelled, train, self.candidates)
        problem = self.problem(labelled, rows)
        tasks, temperatures = {}, {}
        # With mixing weight 0 all temperatures are one and the same student. Settings
        # one after the other: a solution is near those with the same.
        for candidate in sorted(self.candidates, key=lambda c: c.student):
            key = candidate.key
            if key not in tasks:
                found = self.objective(labelled, rows, proba, candidate)
                temperatures[key], terms = found
                params = self.settings[candidate.student]
                tasks[key] = Task(replace(problem, terms=terms), params)
        seconds = time.perf_counter() - start
        return Fold(test, tasks, temperatures, problem.class_weight, seconds)

    def train(self, folds: Sequence[Fold], n_threads: int) -> list[FoldResult]:
        """Train the students of some folds together, and score them."""
        start = time.perf_counter()
        tasks = [task for fold in folds for task in fold.tasks.values()]
        students = iter(self.student._fit_tasks(tasks, n_threads))
        seconds = (time.perf_counter() - start) / len(folds)
        results = []
        for fold in folds:
            trained = dict(zip(fold.tasks, students, strict=False))
            results.append(self._scored(fold, trained, fold.seconds + seconds))
        return results

    def _test_params(
        self, test: IntArray, weights: FloatArray | None
    ) -> dict[str, Any]:
        """Return the scorer's arguments; the log-loss is weighted as the objective."""
        params = _check_method_params(
            self.rows.X, params=self.score_params, indices=test
        )
        if weights is None or not self.scored_by_loss:
            return params
        given = params.get("sample_weight")
        weight = weights[self.rows.codes[test]]
        return {**params, "sample_weight": weight if given is None else weight * given}

    def _scored(
        self, fold: Fold, students: dict[Any, BaseStudent], seconds: float
    ) -> FoldResult:
        X_test = _safe_indexing(self.rows.X, fold.test)
        y_test = self.rows.y[fold.test]
        params = self._test_params(fold.test, fold.class_weight)
        scores, times = {}, {}
        for key, student in students.items():
            start = time.perf_counter()
            score = self.scorer(student, X_test, y_test, **params)
            scores[key] = _as_number(score, self.scorer)
            times[key] = time.perf_counter() - start
        keys = [candidate.key for candidate in self.candidates]
        return FoldResult(
            scores=np.array([scores[key] for key in keys], dtype=float),
            temperatures=np.array([fold.temperatures[key] for key in keys]),
            fit_time=np.full(len(keys), seconds / len(keys)),
            score_time=np.array([times[key] for key in keys]),
        )

    def bytes_of_objectives(self, n_rows: int) -> int:
        """Return what the objectives of a fold of so many rows take."""
        n_students = len({candidate.key for candidate in self.candidates})
        return 8 * n_students * n_rows * len(self.rows.classes)


def _as_number(score: Any, scorer: Any) -> float:
    """Return what a scorer returned; raise as GridSearchCV if it is no number."""
    if hasattr(score, "item"):
        with suppress(ValueError):  # of several numbers
            score = score.item()
    if not isinstance(score, Real):
        raise ValueError(
            f"scoring must return a number, got {score!r} ({type(score).__name__}) "
            f"instead, of {scorer}."
        )
    return float(score)


def _accepts_weight(scorer: Any) -> bool:
    """Whether a scorer, or a function in its place, takes sample_weight."""
    accepts = getattr(scorer, "_accept_sample_weight", None)
    if accepts is not None:
        return bool(accepts())
    return "sample_weight" in signature(scorer).parameters


def _present(rows: IntArray, labelled: LabelledRows) -> IntArray:
    """Return the positions of some rows among those of positive weight."""
    position = labelled.position[rows]
    present: IntArray = position[position >= 0]
    return present


def _obstacle_to_sharing(folds: Folds, labelled: LabelledRows) -> str | None:
    """Return what is in the way, if anything: rows in no or several folds, few rows."""
    n_rows = len(labelled.codes)
    tests = np.concatenate([test for _, test in folds])
    apart = all(len(np.intersect1d(*fold)) == 0 for fold in folds)
    if not apart or sorted(tests) != list(range(n_rows)):
        return (
            "teacher_cv='shared' needs a cv that puts each row into exactly one test "
            "fold, and into no training part of that fold. Use a number for "
            "teacher_cv, or another cv."
        )
    if not enough_to_nest(folds, labelled.codes):
        return (
            "teacher_cv='shared' fits teachers without two of the folds of cv, and "
            "needs at least 3 folds, and two classes in what is left; cv has "
            f"{len(folds)} folds. Use a number for teacher_cv, or more folds."
        )
    return None
