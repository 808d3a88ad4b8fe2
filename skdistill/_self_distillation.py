"""Self-distillation: a student whose teachers are students like it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils._metadata_requests import _routing_enabled
from sklearn.utils.validation import check_memory

from skdistill._choice import MIXING_WEIGHTS, Material, Recipe
from skdistill._folds import Folds, make_folds
from skdistill._generations import (
    candidate,
    grow_generations,
    judge_generations,
    most_generations,
)
from skdistill._labelled_rows import TrainingRows
from skdistill._soft_labels import TeacherStageMixin, is_in_sample
from skdistill._typing import Estimator, IntArray
from skdistill.students._base import BaseStudent
from skdistill.students._resolve import as_student

#: Generations of ``n_generations=None``.
DEFAULT_GENERATIONS = 2


def is_self(teacher: Any) -> bool:
    """Whether the student is to be its own teacher.

    Parameters
    ----------
    teacher : object
        The parameter of that name.

    Returns
    -------
    bool
        True for "self".
    """
    return isinstance(teacher, str) and teacher == "self"


class SelfDistillationMixin(TeacherStageMixin):
    """What a classifier does where its student is its own teacher."""

    student: Any
    mixing_weight: Any
    student_temperature: Any
    augmentation: Any
    class_weight: Any
    keep_teacher: bool
    loss_correction: bool
    n_generations: int | None
    # Of CallbackSupportMixin.
    _init_callback_context: Any

    def _resolved_teacher(self) -> Estimator:
        if not is_self(self.teacher):
            return super()._resolved_teacher()
        student = as_student(self.student, random_state=self.random_state)
        if _routing_enabled():
            student.set_fit_request(sample_weight=True)
        return student

    def _is_labels_alone(self) -> bool:
        return isinstance(self.mixing_weight, Real) and self.mixing_weight == 0

    def _check_one_weight(self, name: str) -> None:
        """Refuse mixing weights by class."""
        auto = isinstance(self.mixing_weight, str) and self.mixing_weight == "auto"
        if not auto and not isinstance(self.mixing_weight, Real):
            raise ValueError(
                f"{name} takes one mixing_weight for all classes, a number or 'auto'; "
                f"got {self.mixing_weight!r}."
            )

    def _check_generations(self, student: BaseStudent, given: dict[str, Any]) -> None:
        """Refuse what the teacher, or its absence, has no use for."""
        if not is_self(self.teacher):
            if self.n_generations is not None:
                raise ValueError(
                    f"n_generations={self.n_generations} is of students that teach "
                    "students: it needs teacher='self'."
                )
            return
        if is_in_sample(self.cv):
            raise ValueError(
                "teacher='self' needs folds, as students know their own labels, but "
                "cv='in-sample' has none. Use another cv."
            )
        self._check_one_weight("teacher='self'")
        if self.class_weight is not None or student._weighs_classes():
            raise ValueError(
                "teacher='self' takes no class_weight, neither of its own nor of its "
                "student: each generation would weigh the classes anew."
            )
        unused = [name for name, value in given.items() if value is not None]
        unused += ["augmentation"] if self.augmentation not in (None, "auto") else []
        unused += ["keep_teacher"] if self.keep_teacher else []
        if unused:
            raise ValueError(
                f"teacher='self' has no use for {' and '.join(unused)}: its soft "
                "labels are those of students that are not kept, for the labelled rows."
            )

    def _fit_self(
        self, student: BaseStudent, rows: TrainingRows, params: dict[str, Any]
    ) -> None:
        """Grow generations, choose one, train its student on all rows."""
        student._check_task(rows.X, len(rows.classes))
        context = self._init_callback_context(max_subtasks=2)
        data = {"estimator": self, "X": rows.X, "y": rows.y}
        context.call_on_fit_task_begin(**data)
        self.classes_ = rows.classes
        task = context.subcontext(task_name="generations")
        task.call_on_fit_task_begin(**data)
        recipe, material = self._best_generation(student, rows, params)
        task.call_on_fit_task_end(**data)
        task = context.subcontext(task_name="train student")
        with task.propagate_callback_context(student):
            task.call_on_fit_task_begin(**data)
            self._train_generation(student, rows, recipe, material)
            task.call_on_fit_task_end(**data)
        self.student_ = student
        context.call_on_fit_task_end(**data, reconstruction_attributes={})

    def _best_generation(
        self, student: BaseStudent, rows: TrainingRows, params: dict[str, Any]
    ) -> tuple[Recipe, Material]:
        """Choose a generation; return what its student learns from."""
        stage, labelled = self._open_stage(rows, params)
        weight = np.ones(len(rows.y)) if rows.weight is None else rows.weight
        recipe = Recipe(
            labelled,
            weight[rows.present()],
            self.student_temperature,
            corrected=self.loss_correction,
        )
        folds = make_folds(self.cv, labelled)
        auto = self.mixing_weight == "auto"
        mixing_weights = MIXING_WEIGHTS if auto else (float(self.mixing_weight),)
        grow = check_memory(stage.memory).cache(grow_generations, ignore=["n_jobs"])
        grown = grow(
            clone(student),
            recipe,
            folds,
            mixing_weights,
            self._soft_temperature(),
            self._most_generations(folds, labelled.codes),
            n_jobs=self.n_jobs,
        )
        best, self.generations_ = judge_generations(
            grown, recipe, folds, self._soft_temperature()
        )
        self.mixing_weight_ = grown[best].mixing_weight
        self.n_generations_ = grown[best].number
        every = np.arange(len(labelled.codes))
        teaching = grown[best].teaching
        if teaching is None:
            return recipe, Material(every, {})
        source = candidate(self.mixing_weight_, self._soft_temperature()).source
        return recipe, Material(every, {source: teaching})

    def _soft_temperature(self) -> float | str:
        return 1.0 if self.temperature is None else self.temperature

    def _most_generations(self, folds: Folds, codes: IntArray) -> int:
        """Return how many generations to try after the first one."""
        wanted = self.n_generations or DEFAULT_GENERATIONS
        most = most_generations(folds, codes, wanted)
        if self.n_generations is not None and wanted > most:
            raise ValueError(
                f"n_generations={self.n_generations} needs students that have not "
                f"seen {self.n_generations + 1} folds at a time; the {len(folds)} "
                f"folds of cv={self.cv!r}, and {len(codes)} rows, allow {most}. Use "
                "more folds, or fewer generations."
            )
        if most == 0:
            warnings.warn(
                f"teacher='self' cannot teach {len(codes)} rows in {len(folds)} folds "
                "of cv: it needs three folds, and two classes outside any two of them. "
                "The student learns from the labels alone. Pass more rows, or a cv of "
                "more folds.",
                UserWarning,
                stacklevel=2,
            )
        return most

    def _train_generation(
        self,
        student: BaseStudent,
        rows: TrainingRows,
        recipe: Recipe,
        material: Material,
    ) -> None:
        if not material.proba:
            # Exactly as without a teacher.
            self.temperature_ = 1.0
            student.fit(rows.X, rows.y, sample_weight=rows.weight)
            return
        chosen = candidate(self.mixing_weight_, self._soft_temperature())
        self.temperature_ = recipe.temperature(chosen, material)
        problem, (terms,) = recipe.problems([chosen], material)
        student._fit_problem(replace(problem, terms=terms))
