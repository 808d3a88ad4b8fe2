"""What candidates learn from: soft labels of every source, on folds and on all rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from skdistill._choice import (
    GIVEN,
    IN_SAMPLE,
    LABELS,
    MIXTURE,
    OUT_OF_FOLD,
    Candidate,
    Material,
    Recipe,
    judged_folds,
)
from skdistill._folds import Folds, make_folds
from skdistill._labelled_rows import LabelledRows
from skdistill._mixed_material import mixed_material
from skdistill._nested import FoldProba, enough_to_nest, nested_proba
from skdistill._own_students import OwnStudents
from skdistill._scoring import (
    class_proba,
    estimator_name,
    is_frozen,
    warn_unknown_classes,
)
from skdistill._soft_labels import (
    Stage,
    cross_fitted_proba,
    fitted_teacher,
    is_in_sample,
    new_row_proba,
)
from skdistill._typing import Estimator, FloatArray, InputLike, IntArray


@dataclass
class Supply:
    """Makes the material of folds, and of all rows.

    Attributes
    ----------
    stage : Stage
        Teacher and settings.
    labelled : LabelledRows
        The labelled rows.
    given : ndarray of shape (n_labelled, n_classes) or None
        Soft labels passed by the user.
    pool : array-like or None
        Rows without labels.
    pool_proba : ndarray of shape (n_pool, n_classes) or None
        Their soft labels, where the user passed them.
    augment : callable or None
        Makes synthetic rows of rows.
    """

    stage: Stage
    labelled: LabelledRows
    given: FloatArray | None = None
    pool: InputLike = None
    pool_proba: FloatArray | None = None
    augment: Callable[[InputLike], InputLike] | None = None
    sources: tuple[str, ...] = field(init=False)
    folds: Folds = field(init=False)
    judged: list[int] = field(init=False)
    mixed_share: float = field(default=1.0, init=False)
    _scored: list[FoldProba] | None = field(default=None, init=False)
    _teacher: Estimator = field(default=None, init=False)
    _passed: FloatArray | None = field(default=None, init=False)
    _students: OwnStudents | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._passed = self.given
        if self.given is None and is_frozen(self.stage.teacher):
            self.given = new_row_proba(self.stage, self.labelled, self.labelled.X)
        cross_fitted = self.given is None and not is_in_sample(self.stage.cv)
        if self.given is not None:
            self.sources = (GIVEN, MIXTURE)
        elif cross_fitted:
            self.sources = (OUT_OF_FOLD, IN_SAMPLE, MIXTURE)
        else:
            self.sources = (IN_SAMPLE,)
        cv = None if is_in_sample(self.stage.cv) else self.stage.cv
        self.folds = make_folds(cv, self.labelled, cross_fitted=cross_fitted)
        self.judged = judged_folds(self.folds)

    @property
    def can_choose(self) -> bool:
        """Whether there are rows enough to judge candidates by."""
        return enough_to_nest(self.folds, self.labelled.codes)

    @property
    def teacher_name(self) -> str:
        """What the soft labels are called in messages."""
        if self._passed is not None:
            return "soft_labels"
        return estimator_name(self.stage.teacher)

    @property
    def asks_teacher(self) -> bool:
        """Whether a teacher is used, and not only soft labels that were passed."""
        unknown = self.augment is not None or bool(self._unscored_pool())
        return self._passed is None or unknown

    def fold_material(self) -> list[tuple[Material, IntArray]]:
        """Return the material and the held-out rows of each fold to judge by."""
        trains = [self.folds[k][0] for k in self.judged]
        synthetic = [self._synthetic(train) for train in trains]
        inputs = [[*self._unscored_pool(), *made] for made in synthetic]
        scored = self._fold_proba(inputs)
        result = []
        for i, k in enumerate(self.judged):
            train, test = self.folds[k]
            proba = self._own(train, None if self._scored is None else self._scored[i])
            pool, made = self._added(synthetic[i], scored[i])
            result.append((Material(train, proba, pool, made), test))
        return result

    def mixed(
        self,
        recipe: Recipe,
        folds: list[tuple[Material, IntArray]],
        own: OwnStudents,
    ) -> list[tuple[Material, IntArray]]:
        """Return the material of folds with mixtures for soft labels.

        What the teacher has in them, as a mean, is then ``mixed_share``.

        Parameters
        ----------
        recipe : Recipe
            Has labels and weights.
        folds : list of (Material, ndarray of shape (n_test,))
            As from `fold_material`.
        own : OwnStudents
            The students that have a part in the mixtures; kept for that of all rows.

        Returns
        -------
        list of (Material, ndarray of shape (n_test,))
            The same folds.
        """
        self._students = own
        result, shares = [], []
        for k, (material, test) in zip(self.judged, folds, strict=True):
            mixed, share = mixed_material(recipe, material, self.sources[0], own, k)
            result.append((mixed, test))
            shares.append(share)
        self.mixed_share = float(np.mean(shares))
        return result

    def teacher_share(self, source: str) -> float:
        """Return what part of the soft labels of a source is the teacher's."""
        return {LABELS: 0.0, MIXTURE: self.mixed_share}.get(source, 1.0)

    def teacher_proba(self) -> FloatArray:
        """Return the teacher's probabilities of the held-out rows of these folds."""
        tests = [self.folds[k][1] for k in self.judged]
        if self.given is not None:
            return self.given[np.concatenate(tests)]
        assert self._scored is not None
        return np.concatenate([fold.test for fold in self._scored])

    def everything(self, candidate: Candidate, recipe: Recipe) -> Material:
        """Return the material of all labelled rows, as far as a candidate needs it."""
        if candidate.source == MIXTURE:
            teacher = replace(candidate, source=self.sources[0])
            material = self.everything(teacher, recipe)
            assert self._students is not None
            return mixed_material(
                recipe, material, teacher.source, self._students, None
            )[0]
        every = np.arange(len(self.labelled.codes))
        if candidate.source == OUT_OF_FOLD:
            own = self._out_of_fold()
        elif candidate.source == IN_SAMPLE:
            own = self._by_teacher(self.labelled.X)
        else:
            assert self.given is not None
            own = self.given
        synthetic = self._synthetic(every) if candidate.augmented else []
        inputs = [*self._unscored_pool(), *synthetic]
        pool, made = self._added(synthetic, [self._by_teacher(x) for x in inputs])
        return Material(every, {candidate.source: own}, pool, made)

    def fitted_teacher(self) -> Estimator:
        """Return the teacher, fitted on all labelled rows."""
        if self._teacher is None:
            self._teacher = fitted_teacher(self.stage, self.labelled)
        return self._teacher

    def _by_teacher(self, X: InputLike) -> FloatArray:
        return class_proba(self.fitted_teacher(), X, self.labelled.classes)[0]

    def _synthetic(self, rows: IntArray) -> list[InputLike]:
        if self.augment is None:
            return []
        return [self.augment(_safe_indexing(self.labelled.X, rows))]

    def _unscored_pool(self) -> list[InputLike]:
        known = self.pool is None or self.pool_proba is not None
        return [] if known else [self.pool]

    def _fold_proba(self, inputs: list[list[InputLike]]) -> list[list[FloatArray]]:
        """Return the probabilities of added rows, and keep those of the folds."""
        if is_frozen(self.stage.teacher):
            return [[self._by_teacher(x) for x in some] for some in inputs]
        if self.given is not None and not any(inputs):
            return [[] for _ in inputs]
        found = nested_proba(
            self.stage,
            self.labelled,
            self.folds,
            self.judged,
            inputs,
            out_of_fold=OUT_OF_FOLD in self.sources,
        )
        if self.given is None:
            self._scored = found
            missing = sorted({c for fold in found for c in fold.missing})
            warn_unknown_classes(missing, self.labelled.classes, self.teacher_name)
        return [list(fold.added) for fold in found]

    def _own(self, train: IntArray, scored: FoldProba | None) -> dict[str, FloatArray]:
        if scored is None:
            assert self.given is not None
            return {GIVEN: self.given[train]}
        own = {IN_SAMPLE: scored.in_sample}
        if scored.out_of_fold is not None:
            own[OUT_OF_FOLD] = scored.out_of_fold
        return own

    def _added(
        self, synthetic: list[InputLike], scored: list[FloatArray]
    ) -> tuple[Any, Any]:
        """Pair the pool, and synthetic rows, with their probabilities."""
        scored = list(scored)
        pool = []
        if self.pool is not None:
            known = self.pool_proba is not None
            proba = self.pool_proba if known else scored.pop(0)
            pool.append((self.pool, proba))
        return tuple(pool), tuple(zip(synthetic, scored, strict=True))

    def _out_of_fold(self) -> FloatArray:
        assert self._scored is not None
        shape = len(self.labelled.codes), len(self.labelled.classes)
        proba: FloatArray = np.empty(shape)
        others = [fold for k, fold in enumerate(self.folds) if k not in self.judged]
        if others:
            proba = cross_fitted_proba(self.stage, self.labelled, others)
        for k, fold in zip(self.judged, self._scored, strict=True):
            proba[self.folds[k][1]] = fold.test
        return proba
