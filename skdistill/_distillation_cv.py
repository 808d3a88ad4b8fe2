"""DistillationClassifierCV: temperature and mixing weight by cross-validation."""

from __future__ import annotations

import warnings
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from joblib import cpu_count, effective_n_jobs, parallel_config
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.metrics import check_scoring, get_scorer_names, log_loss, make_scorer
from sklearn.model_selection import check_cv
from sklearn.utils._metadata_requests import _raise_for_params
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.parallel import Parallel, delayed

from skdistill._candidates import (
    Candidate,
    as_cv_results,
    choose,
    make_candidates,
    student_settings,
)
from skdistill._distillation import StudentClassifier
from skdistill._folds import Folds, check_part
from skdistill._grid import FoldResult, Grid
from skdistill._scoring import is_frozen
from skdistill._soft_labels import TeacherStageMixin, fitted_teacher
from skdistill._typing import InputLike, IntArray
from skdistill._validation import (
    check_soft_labels,
    fold_positions,
    keep_fitted_on_failure,
)
from skdistill.students._base import BaseStudent
from skdistill.students._copies import holds_out_copies
from skdistill.students._resolve import wraps

#: Folds whose students are trained together have objectives of at most so many bytes,
#: or are as many as are worked on at the same time.
JOINT_BYTES = 2**28


class DistillationClassifierCV(StudentClassifier):
    r"""Distil with the temperature and mixing weight that cross-validate best.

    The result is that of a grid search over :class:`DistillationClassifier`, found
    faster: teachers are fitted once for the whole grid, each for two folds, and the
    students of the grid, which differ in their targets only, are trained side by side.
    The validation is nested: neither a student nor a teacher whose soft labels it
    learns from has seen the rows that it is scored on. Soft labels that you pass, and
    frozen teachers, may have: their scores are then too good.

    Parameters
    ----------
    teacher : estimator, list of estimators or None, default=None
        As in :class:`DistillationClassifier`. A frozen teacher that was fitted on rows
        of X has seen the folds that its students are scored on.
    student : student, estimator, torch module or None, default=None
        As in :class:`DistillationClassifier`. Grids of MLPStudent are trained as stacks
        of several folds, grids of LinearStudent from one solution to the next, all
        others one after the other.
    temperatures : array-like, default=(0.5, 1.0, 2.0, 4.0)
        Temperatures to try, numbers in (0, inf) or "auto".
    mixing_weights : array-like, default=(0.0, 0.25, 0.5, 0.75, 1.0)
        Mixing weights to try, in [0, 1]. With 0, the ordinary student, the temperature
        does not matter and only one student is trained. It wins ties.
    student_grid : dict of str to sequence, default=None
        Values to try of the student's own parameters, by their names, as
        :class:`~sklearn.model_selection.GridSearchCV` takes them:
        ``{"learning_rate_init": [0.002, 0.008]}``. Every combination is tried with
        every temperature and mixing weight. Students of a stack may differ in
        `learning_rate_init`, `weight_decay` and `random_state`.
    student_temperature : float or "same", default=1.0
        As in :class:`DistillationClassifier`.
    class_weight : dict, "balanced" or None, default=None
        As in :class:`DistillationClassifier`; "balanced" is that of the training rows.
    cv : int, splitter, iterable or None, default=None
        Folds that the candidates are scored on; None is 5 stratified folds.
    teacher_cv : int, splitter, "auto", "in-sample", "shared" or None, default="auto"
        Folds within the training rows of each of these, that soft labels are made by:
        `cv` of :class:`DistillationClassifier`; None is 5 stratified folds. "shared"
        takes the folds of `cv` themselves, and fits the teacher once for each two of
        them: half as many fits, on nearly as many rows. "auto" is "shared" where `cv`
        has 5 folds or more that each row is in one of, and None elsewhere.
    scoring : str or callable, default="neg_log_loss"
        A scorer on labels; larger is better. With `class_weight`, "neg_log_loss" is
        weighted by it, as the objective is; others are taken as they are.
    refit : bool, default=True
        Whether to train a student on all rows with the best candidate. Needed to
        predict.
    one_standard_error : bool, default=False
        Whether to take, of all candidates within one standard error of the best mean
        score, the one with the smallest mixing weight, then the temperature nearest
        to 1, as which "auto" counts.
    memory : str, joblib.Memory or None, default=None
        Cache of the soft-label stage.
    keep_teacher : bool, default=False
        Whether to keep the teacher, fitted on all rows, as ``teacher_``.
    n_jobs : int or None, default=None
        Folds worked on at the same time, in threads. With one, the stacks of students
        share the cores. The result is the same.
    random_state : int, RandomState instance or None, default=None
        Seed of the default teacher and of the default student.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels.
    cv_results_ : dict of ndarray
        One entry a candidate, with the keys of
        :class:`sklearn.model_selection.GridSearchCV`, those of the student's parameters
        with ``student__``. Fit times are those of a stack divided by its size.
    best_index_ : int
        The candidate chosen.
    best_params_ : dict
        Its temperature and mixing weight, and, by names that begin with
        ``student__``, its parameters of the student.
    best_score_ : float
        Its mean score.
    scores_ : ndarray of shape (n_temperatures, n_mixing_weights, n_folds)
        Scores of all candidates; with `student_grid` its combinations, in the order of
        :class:`~sklearn.model_selection.ParameterGrid`, are the axis before the folds.
    temperature_ : float
        The temperature used in the refit, or the median over the folds without one.
    mixing_weight_ : float
        The mixing weight chosen.
    class_weight_ : ndarray of shape (n_classes,)
        Weights of the classes, of all rows; ones without `class_weight`.
    student_ : student
        The student trained on all rows, if `refit`.
    teacher_ : estimator
        The fitted teacher, if `refit`, `keep_teacher` and if one was used.
    n_splits_ : int
        Number of folds.
    n_features_in_ : int
        Number of features seen in `fit`, if X has any.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had any.

    See Also
    --------
    DistillationClassifier : One temperature and one mixing weight.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skdistill import DistillationClassifierCV
    >>> from skdistill.students import LinearStudent
    >>> X, y = load_iris(return_X_y=True)
    >>> search = DistillationClassifierCV(GaussianNB(), LinearStudent()).fit(X, y)
    >>> sorted(search.best_params_)
    ['mixing_weight', 'temperature']
    >>> search.scores_.shape
    (4, 5, 5)
    """

    _parameter_constraints: dict[str, Any] = {
        **TeacherStageMixin._stage_constraints,
        **StudentClassifier._student_constraints,
        "temperatures": ["array-like"],
        "mixing_weights": ["array-like"],
        "student_grid": [dict, None],
        "cv": ["cv_object"],
        "teacher_cv": [
            Interval(Integral, 2, None, closed="left"),
            HasMethods(["split", "get_n_splits"]),
            StrOptions({"auto", "in-sample", "shared"}),
            None,
        ],
        "scoring": [StrOptions(set(get_scorer_names())), callable],
        "refit": ["boolean"],
        "one_standard_error": ["boolean"],
    }
    del _parameter_constraints["temperature"]

    def __init__(
        self,
        teacher: Any = None,
        student: Any = None,
        *,
        temperatures: Any = (0.5, 1.0, 2.0, 4.0),
        mixing_weights: Any = (0.0, 0.25, 0.5, 0.75, 1.0),
        student_grid: Any = None,
        student_temperature: float | str = 1.0,
        class_weight: Any = None,
        cv: Any = None,
        teacher_cv: Any = "auto",
        scoring: Any = "neg_log_loss",
        refit: bool = True,
        one_standard_error: bool = False,
        memory: Any = None,
        keep_teacher: bool = False,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.teacher = teacher
        self.student = student
        self.temperatures = temperatures
        self.mixing_weights = mixing_weights
        self.student_grid = student_grid
        self.student_temperature = student_temperature
        self.class_weight = class_weight
        self.cv = cv
        self.teacher_cv = teacher_cv
        self.scoring = scoring
        self.refit = refit
        self.one_standard_error = one_standard_error
        self.memory = memory
        self.keep_teacher = keep_teacher
        self.n_jobs = n_jobs
        self.random_state = random_state

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the routing of fit's metadata to teacher, splitters and scorer.

        Returns
        -------
        MetadataRouter
            The routing.
        """
        to_split = MethodMapping().add(caller="fit", callee="split")
        to_score = MethodMapping().add(caller="fit", callee="score")
        scorer = check_scoring(self, self.scoring)
        return (
            super()
            .get_metadata_routing()
            .add(teacher_splitter=self.teacher_cv, method_mapping=to_split)
            .add(scorer=scorer, method_mapping=to_score)
        )

    @keep_fitted_on_failure
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: InputLike,
        y: Any,
        sample_weight: Any = None,
        *,
        soft_labels: Any = None,
        **params: Any,
    ) -> DistillationClassifierCV:
        """Score the grid, choose a candidate and train it on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs, as teacher and student take them.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative row weights, for teachers, students and scores; a warning says
            if `scoring` does not take them.
        soft_labels : array-like of shape (n_samples, n_classes), default=None
            Class probabilities in the order of the sorted classes, used instead of the
            teacher's.
        **params : dict
            With metadata routing enabled, what teacher, splitters and scorer ask for.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        TypeError
            If teacher or student is nothing that can be one.
        ValueError
            If a candidate is outside its range, `student_grid` names no parameter of
            the student, `cv` has folds that teachers cannot share, or the data or what
            the teacher returns is unusable.
        """
        _raise_for_params(params, self, "fit")
        candidates = self._candidates(given=soft_labels is not None)
        student = self._new_student(
            [(c.temperature, c.mixing_weight) for c in candidates]
        )
        prefix = "estimator__" if wraps(student, self.student) else ""
        settings = student_settings(student, candidates, prefix)
        rows = self._check_rows(X, y, sample_weight)
        if soft_labels is not None:
            soft_labels = check_soft_labels(
                soft_labels,
                n_samples=len(rows.y),
                classes=rows.classes,
                name="soft_labels",
            )
        student._check_task(X, len(rows.classes))
        self._set_class_weights(rows)
        for name in ("student_", "teacher_"):
            self.__dict__.pop(name, None)
        grid = Grid(self, student, settings, candidates, rows, soft_labels, params)
        context = self._init_callback_context(max_subtasks=1 + int(self.refit))
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        results = self._score_folds(grid, context)
        self.classes_ = rows.classes
        self._store_results(candidates, results)
        if self.refit:
            self._refit(grid, candidates[self.best_index_], context)
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes={}
        )
        return self

    def _learn_from_copies(self) -> None:
        super()._learn_from_copies()
        if is_frozen(self._resolved_teacher()):
            return
        # Folds within training rows would part copies; those of `cv` are told not to.
        if self.teacher_cv == "auto":
            self.teacher_cv = "shared"
        elif self.teacher_cv not in ("shared", "in-sample"):
            raise holds_out_copies(self, "teacher_cv", self.teacher_cv, "shared")

    def _scorer(self, classes: NDArray[Any]) -> Any:
        if isinstance(self.scoring, str) and self.scoring == "neg_log_loss":
            # Told the classes, of which a fold may lack a rare one.
            return make_scorer(
                log_loss,
                response_method="predict_proba",
                greater_is_better=False,
                labels=classes,
            )
        return check_scoring(self, self.scoring)

    def _candidates(self, *, given: bool) -> list[Candidate]:
        """Return the grid, after checking its values."""
        candidates = make_candidates(
            self.temperatures, self.mixing_weights, self.student_grid
        )
        temperatures = [candidate.temperature for candidate in candidates]
        in_sample = isinstance(self.teacher_cv, str) and self.teacher_cv == "in-sample"
        own_rows = in_sample and not is_frozen(self._resolved_teacher())
        if "auto" in temperatures and own_rows and not given:
            raise ValueError(
                "temperatures with 'auto' need out-of-fold probabilities, but "
                "teacher_cv='in-sample' has none. Leave one of them out."
            )
        return candidates

    def _score_folds(self, grid: Grid, context: Any) -> list[FoldResult]:
        """Train and score all candidates on each fold."""
        splitter = check_cv(self.cv, grid.rows.y, classifier=True)
        found = splitter.split(grid.rows.X, grid.rows.y, **grid.split_params)
        folds = fold_positions(found, np.arange(len(grid.rows.y)))
        if not folds:
            raise ValueError(f"cv must have at least one fold, {self.cv!r} has none.")
        present = grid.rows.present()
        for i, (train, test) in enumerate(folds):
            check_part(train[present[train]], i, "training")
            check_part(test[present[test]], i, "test")
        self.n_splits_ = len(folds)
        if self.one_standard_error and self.n_splits_ == 1:
            raise ValueError(
                "one_standard_error=True needs scores of at least 2 folds, but cv has "
                "1. Use one_standard_error=False, or more folds."
            )
        task = context.subcontext(
            task_name="score grid",
            max_subtasks=len(folds),
            sequential_subtasks=False,
        )
        task.call_on_fit_task_begin(estimator=self, X=grid.rows.X, y=grid.rows.y)
        # Threads, as below.
        with parallel_config(backend="threading"):
            grid.share_teachers(folds, effective_n_jobs(self.n_jobs))
        results: list[FoldResult] = []
        for group in self._groups(grid, folds):
            results += self._score_group(grid, group, len(results), task)
        task.call_on_fit_task_end(estimator=self, X=grid.rows.X, y=grid.rows.y)
        return results

    def _groups(self, grid: Grid, folds: Folds) -> list[Folds]:
        """Return the folds that are worked on at the same time.

        All of them, one by one; or as many as are trained together in the memory that
        there is for their objectives.
        """
        if not grid.student._joins_folds():
            return [folds]
        n_bytes = grid.bytes_of_objectives(max(len(train) for train, _ in folds))
        size = max(effective_n_jobs(self.n_jobs), JOINT_BYTES // n_bytes)
        return [folds[i : i + size] for i in range(0, len(folds), size)]

    def _score_group(
        self, grid: Grid, folds: Folds, first: int, task: Any
    ) -> list[FoldResult]:
        """Train and score all candidates on some folds."""
        data = {"estimator": self, "X": grid.rows.X, "y": grid.rows.y}
        n_jobs = effective_n_jobs(self.n_jobs)
        joined = grid.student._joins_folds()
        n_threads = cpu_count() if n_jobs == 1 else n_jobs if joined else 1

        def work(i: int, train: IntArray, test: IntArray) -> Any:
            fold = task.subcontext(task_name="fold", task_id=first + i)
            fold.call_on_fit_task_begin(**data)
            prepared = grid.prepare(first + i, train, test)
            result = prepared if joined else grid.train([prepared], n_threads)[0]
            fold.call_on_fit_task_end(**data)
            return result

        # Threads: students leave Python's lock alone while they train, and the rows
        # need not be copied. They set and reset the filters of warnings, which they
        # share, out of turn: put back here.
        with warnings.catch_warnings():
            found = list(
                Parallel(n_jobs=n_jobs, require="sharedmem")(
                    delayed(work)(i, *fold) for i, fold in enumerate(folds)
                )
            )
        return grid.train(found, n_threads) if joined else found

    def _store_results(
        self, candidates: list[Candidate], results: list[FoldResult]
    ) -> None:
        scores = np.column_stack([result.scores for result in results])
        shape = [len(list(self.temperatures)), len(list(self.mixing_weights))]
        if self.student_grid is not None:
            shape.append(1 + max(candidate.student for candidate in candidates))
        self.scores_ = scores.reshape(*shape, -1)
        times = {
            name: np.column_stack([getattr(result, name) for result in results])
            for name in ("fit_time", "score_time")
        }
        self.cv_results_ = as_cv_results(candidates, scores, times)
        self.best_index_ = choose(candidates, scores, self.one_standard_error)
        best = candidates[self.best_index_]
        self.best_params_ = best.params
        self.best_score_ = float(scores[self.best_index_].mean())
        used = [result.temperatures[self.best_index_] for result in results]
        self.temperature_ = float(np.median(used))
        self.mixing_weight_ = best.mixing_weight

    def _refit(self, grid: Grid, best: Candidate, context: Any) -> None:
        """Train the best candidate on all rows."""
        task = context.subcontext(task_name="refit")
        student = grid.new_student(best)
        with task.propagate_callback_context(student):
            task.call_on_fit_task_begin(estimator=self, X=grid.rows.X, y=grid.rows.y)
            self._fit_best(grid, best, student)
            task.call_on_fit_task_end(estimator=self, X=grid.rows.X, y=grid.rows.y)
        self.student_ = student

    def _fit_best(self, grid: Grid, best: Candidate, student: BaseStudent) -> None:
        stage, labelled = grid.stage(np.arange(len(grid.rows.y)))
        proba = grid.proba(stage, labelled, np.arange(len(grid.rows.y)), [best])
        self.temperature_, terms = grid.objective(labelled, grid.rows, proba, best)
        problem = grid.problem(labelled, grid.rows)
        student._fit_problem(replace(problem, terms=terms))
        used = best.mixing_weight > 0 and grid.soft_labels is None
        if self.keep_teacher and used:
            self.teacher_ = fitted_teacher(stage, labelled)
