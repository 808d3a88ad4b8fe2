"""What estimators share that choose how to train their student."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing, check_random_state

from skdistill._choice import (
    IN_SAMPLE,
    MIXTURE,
    ON_LABELS,
    Candidate,
    Recipe,
    make_candidates,
)
from skdistill._class_decision import decide_by_class
from skdistill._decision import Outcome, decide
from skdistill._labelled_rows import TrainingRows
from skdistill._material import Supply
from skdistill._one_student import Given, OneStudentMixin
from skdistill._typing import FloatArray, InputLike
from skdistill.augmentation import munge
from skdistill.students._base import BaseStudent

#: Rows up to which synthetic ones are tried by default: they multiply the rows.
AUGMENTED_ROWS = 5000


class ChosenStudentMixin(OneStudentMixin):
    """From rows and a teacher to the student that held-out labels choose."""

    student_temperature: float | str
    augmentation: Any
    loss_correction: bool
    classes_: NDArray[Any]
    mixing_weight_: Any
    # Of the estimator.
    _class_weights: Callable[[], FloatArray | None]

    def _fit_chosen(
        self,
        student: BaseStudent,
        rows: TrainingRows,
        given: Given,
        params: dict[str, Any],
    ) -> None:
        """Choose a candidate, train it on all rows, and store it."""
        student._check_task(rows.X, len(rows.classes))
        context = self._init_callback_context(max_subtasks=2)
        data = {"estimator": self, "X": rows.X, "y": rows.y}
        context.call_on_fit_task_begin(**data)
        self.classes_ = rows.classes
        supply = self._supply(student, rows, given, params)
        weight = np.ones(len(rows.y)) if rows.weight is None else rows.weight
        weight = weight[rows.present()]
        recipe = Recipe(
            supply.labelled,
            weight,
            self.student_temperature,
            # Those of the student, too: it is judged as it is trained.
            student._times_own_class_weights(
                self._class_weights(), rows.classes, supply.labelled.y, weight
            ),
            corrected=self.loss_correction,
        )
        task = context.subcontext(task_name="choice")
        task.call_on_fit_task_begin(**data)
        outcome = self._decide(student._without_class_weight(), recipe, supply)
        task.call_on_fit_task_end(**data)
        task = context.subcontext(task_name="train student")
        with task.propagate_callback_context(student):
            task.call_on_fit_task_begin(**data)
            self._train_chosen(outcome, student, rows, recipe, supply)
            task.call_on_fit_task_end(**data)
        self.student_ = student
        context.call_on_fit_task_end(**data, reconstruction_attributes={})

    def _supply(
        self,
        student: BaseStudent,
        rows: TrainingRows,
        given: Given,
        params: dict[str, Any],
    ) -> Supply:
        soft = given.soft_labels
        scored = given.X_unlabeled is None or given.soft_labels_unlabeled is not None
        adds = self.augmentation not in (None, "auto")
        asked = soft is None or not scored or adds
        stage, labelled = self._open_stage(rows, params, asked=asked)
        supply = Supply(
            stage,
            labelled,
            None if soft is None else soft[rows.present()],
            given.X_unlabeled,
            given.soft_labels_unlabeled,
            self._augment(),
        )
        mixes = MIXTURE in supply.sources and student._learns_from_its_like()
        few = soft is None and len(labelled.codes) <= AUGMENTED_ROWS
        by_default = self.augmentation == "auto"
        if by_default and not (self.mixing_weight == "auto" and mixes and few):
            supply.augment = None
        return supply

    def _decide(self, student: BaseStudent, recipe: Recipe, supply: Supply) -> Outcome:
        if self.mixing_weight == "per-class":
            temperature = 1.0 if self.temperature is None else self.temperature
            augmented = supply.sources[0] in self._augmented_sources(supply)
            soft = Candidate(supply.sources[0], 1.0, temperature, augmented)
            outcome = decide_by_class(student, recipe, soft, supply, self.n_jobs)
            weights = np.empty(len(self.classes_))
            weights[:] = outcome.best.mixing_weight
            self.mixing_weight_ = weights
        else:
            # What has seen the labels is not corrected by them.
            unused = {
                IN_SAMPLE: self.loss_correction,
                MIXTURE: not student._learns_from_its_like(),
            }
            sources = [s for s in supply.sources if not unused.get(s, False)]
            candidates = make_candidates(
                sources, self.temperature, augmented=self._augmented_sources(supply)
            )
            outcome = decide(student, recipe, candidates, supply, self.n_jobs)
            self.mixing_weight_ = outcome.best.mixing_weight
        self.candidates_ = outcome.table
        return outcome

    def _augmented_sources(self, supply: Supply) -> Sequence[str]:
        """Return the sources that are tried with synthetic rows as well."""
        if supply.augment is None:
            return ()
        return (MIXTURE,) if self.augmentation == "auto" else supply.sources

    def _train_chosen(
        self,
        outcome: Outcome,
        student: BaseStudent,
        rows: TrainingRows,
        recipe: Recipe,
        supply: Supply,
    ) -> None:
        self.temperature_ = self._train_as(
            outcome, outcome.chosen, student, rows, recipe, supply
        )
        used = outcome.best != ON_LABELS and supply.asks_teacher
        if self.keep_teacher and used:
            self.teacher_ = supply.fitted_teacher()

    def _train_as(
        self,
        outcome: Outcome,
        position: int,
        student: BaseStudent,
        rows: TrainingRows,
        recipe: Recipe,
        supply: Supply,
    ) -> float:
        """Train a student on all rows as a candidate is; return the temperature."""
        candidate = outcome.candidates[position]
        if candidate == ON_LABELS:
            # Exactly as without a teacher.
            student._fit_distillation(
                rows.X, rows.y, rows.weight, None, 0.0, 1.0, self._class_weights()
            )
            return 1.0
        material = supply.everything(candidate, recipe)
        problem, (terms,) = recipe.problems([candidate], material)
        # Rows that a student would hold out have whispered their labels to the teacher.
        problem = replace(
            problem,
            terms=terms,
            n_epochs=outcome.epochs(position),
            class_weight=self._class_weights(),
        )
        student._fit_problem(problem)
        return recipe.temperature(candidate, material)

    def _augment(self) -> Callable[[InputLike], InputLike] | None:
        """Return what makes synthetic rows of rows: the same ones of the same rows."""
        if self.augmentation is None:
            return None
        by_name = isinstance(self.augmentation, str)
        make = munge if by_name else self.augmentation
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))

        def augment(X: InputLike) -> InputLike:
            made = make(X, random_state=seed)
            self._check_added(made, name="What augmentation returned")
            return made

        return augment

    def _with_synthetic(self, rows: TrainingRows, given: Given) -> Given:
        """Add synthetic rows, where a mixing weight in numbers has use for them."""
        augment = None if self.augmentation == "auto" else self._augment()
        if augment is None or not self._mixes():
            return given
        present = np.flatnonzero(rows.present())
        return replace(given, synthetic=augment(_safe_indexing(rows.X, present)))
