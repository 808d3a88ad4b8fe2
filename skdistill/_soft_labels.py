"""The soft-label stage: cross-fit the teacher, score rows, cache what was scored."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils._metadata_requests import _routing_enabled
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    _check_method_params,
    check_memory,
    validate_data,
)

from skdistill._arguments import naming
from skdistill._folds import Folds, make_folds
from skdistill._labelled_rows import LabelledRows, TrainingRows
from skdistill._scoring import (
    check_teacher,
    class_proba,
    input_tags,
    is_frozen,
    warn_unknown_classes,
    weight_params,
)
from skdistill._table_teacher import TableTeacher, fit_teacher
from skdistill._typing import Estimator, FloatArray, InputLike, IntArray
from skdistill._validation import (
    check_labels,
    check_not_empty,
    check_weights,
    encode_labels,
)
from skdistill.teachers import EnsembleTeacher, ModuleTeacher


@dataclass(frozen=True)
class Stage:
    """How soft labels are made; the parameters that estimators share.

    Attributes
    ----------
    teacher : estimator or None
        Resolved teacher; None where no teacher is asked.
    cv : int, splitter, iterable, "in-sample" or None
        How its own training rows are scored.
    memory : Memory, str or None
        Cache of fits and scores.
    n_jobs : int or None
        Folds fitted at the same time.
    """

    teacher: Estimator | None
    cv: Any
    memory: Any
    n_jobs: int | None


class TeacherStageMixin:
    """What estimators with a teacher share: its resolution, its routing, its tags."""

    teacher: Any
    temperature: Any
    cv: Any
    memory: Any
    n_jobs: int | None
    random_state: Any

    #: Declared constraints of the parameters above.
    _stage_constraints: ClassVar[dict[str, Any]] = {
        # What can be a teacher is said by its own check.
        "teacher": "no_validation",
        "temperature": [
            Interval(Real, 0, np.inf, closed="neither"),
            StrOptions({"auto"}),
        ],
        "cv": ["cv_object", StrOptions({"in-sample"})],
        "memory": [str, HasMethods(["cache"]), None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the routing of fit's metadata to the teacher and to the splitter.

        Returns
        -------
        MetadataRouter
            The routing.
        """
        router = (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(
                splitter=self.cv,
                method_mapping=MethodMapping().add(caller="fit", callee="split"),
            )
        )
        teacher = self._resolved_teacher()
        if is_frozen(teacher):  # It learns nothing, and so has no say in it.
            return router
        return router.add(
            teacher=teacher,
            method_mapping=MethodMapping().add(caller="fit", callee="fit"),
        )

    def _resolved_teacher(self) -> Estimator:
        return resolve_teacher(self.teacher, self.random_state)

    def _check_rows(self, X: InputLike, y: Any, sample_weight: Any) -> TrainingRows:
        """Check inputs, labels and weights."""
        with naming("X"):
            check_not_empty(X)
            validate_data(self, X, reset=True, skip_check_array=True)
            (X,) = indexable(X)
        y = check_labels(y, X)
        classes, codes = encode_labels(y)
        weight = None
        if sample_weight is not None:
            weight = check_weights(sample_weight, X, codes)
        return TrainingRows(X, y, codes, classes, weight)

    def _check_auto_temperature(self) -> None:
        """Refuse to fit a temperature to probabilities that have seen the labels."""
        if (
            self.temperature == "auto"
            and is_in_sample(self.cv)
            and not is_frozen(self._resolved_teacher())
        ):
            raise ValueError(
                "temperature='auto' fits the temperature to out-of-fold probabilities, "
                "but cv='in-sample' has none: a teacher is over-confident on its own "
                "training rows. Use another cv, or a number for temperature."
            )

    def _routed(
        self, teacher: Estimator | None, rows: TrainingRows, params: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Return the arguments of the teacher's fit and of each splitter's split."""
        if not _routing_enabled():
            asks = {} if teacher is None else weight_params(teacher, rows.weight)
            return defaultdict(dict, teacher=asks)
        weight = None if teacher is None else rows.weight
        routed = process_routing(self, "fit", sample_weight=weight, **params)
        called = defaultdict(lambda: "split", teacher="fit", scorer="score")
        asked = {name: dict(part[called[name]]) for name, part in routed.items()}
        return defaultdict(dict, asked)

    def _open_stage(
        self, rows: TrainingRows, params: dict[str, Any], *, asked: bool = True
    ) -> tuple[Stage, LabelledRows]:
        """Return the stage and the rows that its teacher learns from.

        Without a teacher, where it is not asked: all soft labels are there.
        """
        teacher = self._resolved_teacher() if asked else None
        routed = self._routed(teacher, rows, params)
        stage = Stage(teacher, self.cv, self.memory, self.n_jobs)
        return stage, rows.labelled(routed["teacher"], routed["splitter"])


def is_in_sample(cv: Any) -> bool:
    """Whether teachers score the rows that they are fitted on.

    Parameters
    ----------
    cv : int, splitter, iterable, "in-sample" or None
        The parameter of that name.

    Returns
    -------
    bool
        True for "in-sample".
    """
    return isinstance(cv, str) and cv == "in-sample"


def set_input_tags(tags: Any, members: list[Estimator]) -> None:
    """Declare what X may be: what all the estimators that see it can take.

    Parameters
    ----------
    tags : InputTags
        Changed in place.
    members : list of estimators
        Those that see X.
    """
    known = [input_tags(member) for member in members]
    for name in ("sparse", "allow_nan", "categorical", "string"):
        together = all(getattr(member, name, False) for member in known)
        setattr(tags, name, together)


def declared_teacher(teacher: Any) -> Any:
    """Return the teacher that a user's argument stands for, without any check.

    Parameters
    ----------
    teacher : estimator, list of estimators or None
        As in :func:`resolve_teacher`.

    Returns
    -------
    object
        Something whose tags can be asked for.
    """
    if teacher is None:
        return TableTeacher()
    return (
        EnsembleTeacher(list(teacher))
        if isinstance(teacher, (list, tuple))
        else teacher
    )


def resolve_teacher(teacher: Any, random_state: Any) -> Estimator:
    """Return the teacher that a user's argument stands for.

    Parameters
    ----------
    teacher : estimator, list of estimators or None
        None stands for a :class:`~skdistill.teachers.TableTeacher`, a list for an
        :class:`~skdistill.teachers.EnsembleTeacher` of equal weights.
    random_state : int, RandomState instance or None
        Seed of the default teacher.

    Returns
    -------
    estimator
        The teacher.

    Raises
    ------
    TypeError
        If it cannot be a teacher.
    """
    if teacher is None:
        teacher = TableTeacher(random_state=random_state)
        if _routing_enabled():
            teacher.set_fit_request(sample_weight=True)
    elif isinstance(teacher, (list, tuple)):
        teacher = EnsembleTeacher(list(teacher))
        teacher._check_members()
        if _routing_enabled():
            teacher.set_fit_request(sample_weight=True)
    check_teacher(teacher)
    return teacher


def own_row_proba(stage: Stage, rows: LabelledRows) -> FloatArray:
    """Score the rows that the teacher learns from.

    Parameters
    ----------
    stage : Stage
        Teacher and settings. A frozen teacher scores the rows as it is, unless `cv`
        asks for nothing else; an unfitted one is cross-fitted, or, with "in-sample",
        scores the rows that it was fitted on.
    rows : LabelledRows
        The rows.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        Probabilities.

    Raises
    ------
    ValueError
        If the rows cannot be cross-fitted, or the teacher's output is unusable.
    """
    if is_frozen(stage.teacher) or is_in_sample(stage.cv):
        return new_row_proba(stage, rows, rows.X)
    return cross_fitted_proba(stage, rows, make_folds(stage.cv, rows))


def cross_fitted_proba(stage: Stage, rows: LabelledRows, folds: Folds) -> FloatArray:
    """Score the test rows of folds by teachers that are fitted to their other rows.

    Parameters
    ----------
    stage : Stage
        With a teacher that is not frozen.
    rows : LabelledRows
        The rows.
    folds : list of (ndarray, ndarray)
        Training and test rows of each.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        Probabilities; zeros for rows that are in no test fold.
    """
    cross_fit = check_memory(stage.memory).cache(_cross_fit, ignore=["n_jobs"])
    proba, missing = cross_fit(
        clone(stage.teacher),
        rows.X,
        rows.y,
        rows.classes,
        rows.fit_params,
        folds,
        n_jobs=stage.n_jobs,
    )
    warn_unknown_classes(missing, rows.classes, type(stage.teacher).__name__)
    return np.array(proba)


def new_row_proba(stage: Stage, rows: LabelledRows, X: InputLike) -> FloatArray:
    """Score rows with the teacher fitted on all labelled rows.

    Parameters
    ----------
    stage : Stage
        Teacher and settings.
    rows : LabelledRows
        What an unfitted teacher is fitted on.
    X : array-like of shape (n_rows, ...)
        Rows to score.

    Returns
    -------
    ndarray of shape (n_rows, n_classes)
        Probabilities.
    """
    memory = check_memory(stage.memory)
    if is_frozen(stage.teacher):
        score = memory.cache(_score_frozen, ignore=["teacher"])
        teacher = fitted_teacher(stage, rows)
        proba, missing = score(teacher, _identity(teacher), X, rows.classes)
    else:
        score = memory.cache(_fit_and_score, ignore=["memory"])
        proba, missing = score(
            clone(stage.teacher),
            rows.X,
            rows.y,
            rows.classes,
            rows.fit_params,
            X,
            memory=memory,
        )
    warn_unknown_classes(missing, rows.classes, type(stage.teacher).__name__)
    return np.array(proba)


def fitted_teacher(stage: Stage, rows: LabelledRows) -> Estimator:
    """Return the teacher fitted on all labelled rows; a frozen one as it is.

    Parameters
    ----------
    stage : Stage
        Teacher and settings.
    rows : LabelledRows
        What an unfitted teacher is fitted on.

    Returns
    -------
    estimator
        The fitted teacher.
    """
    if is_frozen(stage.teacher):
        return clone(stage.teacher).fit(rows.X, rows.y)
    fit = check_memory(stage.memory).cache(_fit)
    return fit(clone(stage.teacher), rows.X, rows.y, rows.fit_params)


# The functions that are cached take the unfitted teacher, the data and the folds as
# arguments, and nothing else decides what they return: the cache's key is complete.


def _identity(teacher: Estimator) -> Any:
    """Return what tells a fitted teacher from others, the same in every process.

    A torch module's pickle differs from one copy to the next, its numbers do not.
    """
    if isinstance(teacher, EnsembleTeacher):
        members = [_identity(member) for member in teacher.teachers_]
        return members, teacher.weights_
    if isinstance(teacher, ModuleTeacher):
        state = teacher.module.state_dict().items()
        numbers = {name: _bytes_of(value) for name, value in state}
        return repr(teacher.module), numbers, list(teacher.classes_), teacher.output
    return teacher


def _bytes_of(value: Any) -> Any:
    """Return a tensor as bytes, also of a type that NumPy has not; others as is."""
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    flat = value.detach().cpu().reshape(-1)
    return str(value.dtype), tuple(value.shape), flat.view(torch.uint8).numpy()


def _score_frozen(
    teacher: Estimator, identity: Any, X: InputLike, classes: NDArray[Any]
) -> tuple[FloatArray, list[int]]:
    return class_proba(teacher, X, classes)


def _fit(
    teacher: Estimator, X: InputLike, y: NDArray[Any], fit_params: dict[str, Any]
) -> Estimator:
    return fit_teacher(teacher, X, y, fit_params)


def _fit_and_score(
    teacher: Estimator,
    X: InputLike,
    y: NDArray[Any],
    classes: NDArray[Any],
    fit_params: dict[str, Any],
    X_new: InputLike,
    memory: Any,
) -> tuple[FloatArray, list[int]]:
    fitted = memory.cache(_fit)(teacher, X, y, fit_params)
    return class_proba(fitted, X_new, classes)


def _cross_fit(
    teacher: Estimator,
    X: InputLike,
    y: NDArray[Any],
    classes: NDArray[Any],
    fit_params: dict[str, Any],
    folds: Folds,
    n_jobs: int | None,
) -> tuple[FloatArray, list[int]]:
    """Score each fold with a teacher fitted on the others."""
    scored = Parallel(n_jobs=n_jobs)(
        delayed(_fit_fold)(clone(teacher), X, y, classes, fit_params, train, test)
        for train, test in folds
    )
    proba = np.zeros((len(y), len(classes)))
    missing: set[int] = set()
    for (_, test), (fold_proba, fold_missing) in zip(folds, scored, strict=True):
        proba[test] = fold_proba
        missing |= set(fold_missing)
    return proba, sorted(missing)


def _fit_fold(
    teacher: Estimator,
    X: InputLike,
    y: NDArray[Any],
    classes: NDArray[Any],
    fit_params: dict[str, Any],
    train: IntArray,
    test: IntArray,
) -> tuple[FloatArray, list[int]]:
    params = _check_method_params(X, params=fit_params, indices=train)
    fit_teacher(teacher, _safe_indexing(X, train), y[train], params)
    return class_proba(teacher, _safe_indexing(X, test), classes)
