"""DistillationClassifier: a small student of any probabilistic teacher."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    _fit_context,
)
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils._metadata_requests import _raise_for_params
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skdistill._chosen_student import ChosenStudentMixin
from skdistill._labelled_rows import TrainingRows
from skdistill._one_student import Given
from skdistill._self_distillation import SelfDistillationMixin, is_self
from skdistill._soft_labels import (
    TeacherStageMixin,
    declared_teacher,
    is_in_sample,
    set_input_tags,
)
from skdistill._table_teacher import TableTeacher
from skdistill._typing import FloatArray, InputLike
from skdistill._validation import keep_fitted_on_failure
from skdistill.losses import corrected_soft_labels
from skdistill.students import MLPStudent
from skdistill.students._base import BaseStudent
from skdistill.students._class_weight import CLASS_WEIGHT_CONSTRAINT, class_weights
from skdistill.students._problem import Problem, mix_targets, objective_terms
from skdistill.students._resolve import as_student


class StudentClassifier(
    TeacherStageMixin,
    CallbackSupportMixin,
    ClassifierMixin,
    MetaEstimatorMixin,
    BaseEstimator,
):
    """Base of the classifiers that predict with a fitted student, ``student_``."""

    student: Any
    student_temperature: float | str
    class_weight: Any
    keep_teacher: bool
    student_: BaseStudent

    #: Declared constraints of the parameters that these classifiers share.
    _student_constraints: ClassVar[dict[str, Any]] = {
        # What can be a student is said by its own check.
        "student": "no_validation",
        "student_temperature": [
            Interval(Real, 0, np.inf, closed="neither"),
            StrOptions({"same"}),
        ],
        "class_weight": CLASS_WEIGHT_CONSTRAINT,
        "keep_teacher": ["boolean"],
    }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # As they are: a repr must neither copy a module nor fail on a wrong teacher.
        student = MLPStudent() if self.student is None else self.student
        teacher = student if is_self(self.teacher) else declared_teacher(self.teacher)
        set_input_tags(tags.input_tags, [teacher, student])
        return tags

    def _new_student(
        self, candidates: Iterable[tuple[float | str, float]]
    ) -> BaseStudent:
        """Return an unfitted student that suits each temperature and mixing weight."""
        student = as_student(self.student, random_state=self.random_state)
        student._takes_missing = get_tags(self).input_tags.allow_nan
        student._validate_params()
        student._before_fit()
        same = self.student_temperature == "same"
        tempered = any(
            (temperature if same else self.student_temperature) != 1.0
            for temperature, mixing_weight in candidates
            if mixing_weight > 0
        )
        if tempered and not student._takes_student_temperature():
            raise ValueError(
                f"student_temperature={self.student_temperature!r} needs a student "
                "trained on cross-entropy (LinearStudent, MLPStudent, ModuleStudent); "
                f"{_student_name(student)} has no logits to divide. Use "
                "student_temperature=1.0."
            )
        return student

    def _learn_from_copies(self) -> None:
        """Be ready, as a student, for rows that are there once for each class.

        What student and teacher stand for is spelt out, so that they, too, can be told
        not to hold out copies of rows that they learn from.
        """
        if not hasattr(self.student, "get_params"):
            self.student = as_student(self.student, random_state=self.random_state)
        if self.teacher is None:
            self.teacher = self._resolved_teacher()
        if isinstance(self.teacher, TableTeacher):
            self.teacher._learn_from_copies()

    def _set_class_weights(self, rows: TrainingRows) -> None:
        weights = class_weights(self.class_weight, rows.classes, rows.y, rows.weight)
        self.class_weight_ = np.ones(len(rows.classes)) if weights is None else weights

    def _class_weights(self) -> FloatArray | None:
        """Return the weights of the classes; None where there are none."""
        return None if self.class_weight is None else self.class_weight_

    def _fitted_student(self) -> BaseStudent:
        check_is_fitted(self)
        if not hasattr(self, "student_"):
            raise NotFittedError(
                f"This {type(self).__name__} has no student to predict with: it was "
                "fitted with refit=False."
            )
        return self.student_

    def predict(self, X: InputLike) -> NDArray[Any]:
        """Return the student's most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        return self._fitted_student().predict(X)

    def predict_proba(self, X: InputLike) -> FloatArray:
        """Return the student's class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, columns in the order of ``classes_``; rows sum to 1.
        """
        return self._fitted_student().predict_proba(X)

    def predict_log_proba(self, X: InputLike) -> FloatArray:
        """Return the student's log-probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Natural logarithms, columns in the order of ``classes_``.
        """
        return self._fitted_student().predict_log_proba(X)

    def decision_function(self, X: InputLike) -> FloatArray:
        """Return the student's logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Logits; for two classes the log-odds of ``classes_[1]``.
        """
        return self._fitted_student().decision_function(X)


class DistillationClassifier(
    SelfDistillationMixin, ChosenStudentMixin, StudentClassifier
):
    r"""Train a small student on the class probabilities of a strong teacher.

    For student logits :math:`z_i`, teacher probabilities :math:`p_i` (out-of-fold by
    default), labels :math:`y_i`, weights :math:`w_i`, with T = `temperature`,
    S = `student_temperature` and a = `mixing_weight`, the student minimises

    .. math::

        L = \frac{1}{\sum_i w_i} \sum_i w_i \Big[
            (1 - a) \, \mathrm{CE}\big(y_i, \mathrm{softmax}(z_i)\big)
            + a \, S^2 \, \mathrm{CE}\Big(
                \frac{p_i^{1/T}}{\sum_k p_{ik}^{1/T}},
                \mathrm{softmax}(z_i / S) \Big) \Big].

    The mixing weight is on the **soft** term: 0 is the ordinary student, 1 with
    T = S = 1 is the distilled risk, Eq. (4) of [1]_. Students that are not trained on
    cross-entropy get the same targets in their own loss.

    Parameters
    ----------
    teacher : estimator, list of estimators, "self" or None, default=None
        Any classifier with `predict_proba`, or else `decision_function`. An estimator
        is cloned and cross-fitted, even if it is fitted already; wrapped in
        :class:`sklearn.frozen.FrozenEstimator` it is used as it is. A list averages
        the probabilities (:class:`~skdistill.teachers.EnsembleTeacher` takes weights).
        A torch module is wrapped in :class:`~skdistill.teachers.ModuleTeacher`. None is
        :class:`sklearn.ensemble.HistGradientBoostingClassifier` in a
        :class:`~skdistill.teachers.TableTeacher`. The teacher sees X as it was passed:
        frames, categories, missing values, text. "self" is the student itself,
        generation after generation, see `n_generations`.
    student : student, estimator, torch module or None, default=None
        None is :class:`~skdistill.students.MLPStudent`. Any student of
        :mod:`skdistill.students`; a torch module
        (:class:`~skdistill.students.ModuleStudent`); any scikit-learn classifier that
        takes `sample_weight`, regressor, or Pipeline ending in one
        (:class:`~skdistill.students.EstimatorStudent`). It is cloned.
    temperature : float, "auto" or None, default=None
        Temperature T of the teacher's probabilities, in (0, inf): above 1 flattens
        them, below 1 sharpens them. "auto" is the one that minimises the out-of-fold
        log-loss of the teacher on the labels [2]_; it needs no further fit. None is 1;
        with ``mixing_weight="auto"`` the fitted one is tried beside it.
    mixing_weight : float, array-like, "auto" or "per-class", default="auto"
        Weight a of the soft labels, in [0, 1]. "auto" tries several ways to train the
        student, on the labels alone among them, on folds of the rows, and takes the one
        whose gain in log-loss on held-out labels is surest; labels alone win unless
        another's gain exceeds two standard errors, over the rows and over the folds; or
        one, where training ends in one minimum: LinearStudent and LogisticRegression.
        Tried are the weights 0.5 and 1 with each of: out-of-fold soft labels; in-sample
        ones; for an MLPStudent mixtures of the teacher's out-of-fold soft labels with
        those of networks like it, in the shares that fit the labels best; and these
        once more with the rows of `augmentation`: such a mixture needs a gain of half a
        standard error, as it was found to gain on most tables. No teacher has seen
        the labels that its students are judged by, unless it is frozen. A number
        is taken as it is; so are n_classes numbers, in the order of ``classes_``, which
        mix class by class. For "per-class" these are estimated from held-out labels,
        and tried beside one for all classes, 1, and labels alone: for teachers that are
        right on some classes only. It takes the first source of soft labels that there
        is.
    student_temperature : float or "same", default=1.0
        Temperature S of the student's logits in the soft term. 1 is the form of [1]_;
        "same" is S = T, the form of [3]_. Other values than 1 need a student trained on
        cross-entropy: LinearStudent, MLPStudent, ModuleStudent.
    class_weight : dict, "balanced" or None, default=None
        Weights :math:`v_c` of the classes, as in scikit-learn: a label counts
        :math:`v_{y_i}` times; a soft label as what is expected of that, with
        :math:`v_c p_{ic}` for each class. The teacher is not weighted: its
        probabilities stay those of the labels. The student's are those of a population
        whose classes are so weighted; divided by ``class_weight_`` and normalised they
        are those of the labels again. "auto" judges by the weighted log-loss.
    loss_correction : bool, default=False
        Whether soft labels are corrected by the labels, so that the student's error
        depends on the square of the teacher's [4]_: with :math:`w_i` for the tempered
        :math:`p_i`, its place in the soft term is taken by :math:`(1 - c_i) w_i + c_i
        e_{y_i}`, :math:`c_i = w_{iy} / (T \max(p_{iy}, 0.01))`. It takes a number for
        `temperature` other than 1, at which that would be the labels; a student trained
        on cross-entropy, without weights by class, as values may be below 0; and soft
        labels by teachers that have not seen the labels: in-sample none are tried. With
        ``student_temperature="same"`` the student still estimates the probabilities.
    n_generations : int or None, default=None
        With ``teacher="self"`` the most generations of students that learn from the one
        before; None is 2, or what the folds allow. The first learns from the labels.
        The rows' soft labels, and the labels that a generation is judged by, are never
        known to the students that they are of, nor to their teachers: generation k
        leaves k + 1 folds out at a time. It ends when a generation does not gain on
        the one before by more than two standard errors; the one whose gain on labels
        alone is surest is kept, if there is any. For each mixing weight that is tried,
        five folds take 15 fits of the student for the first generation after the
        labels, and 25 and 30 for the next. It takes no weights by class.
    augmentation : callable, "auto", "munge" or None, default="auto"
        Makes synthetic rows that the teacher, fitted on all rows, labels; they enter
        the soft term as those of `X_unlabeled` do, each with the mean of the sample
        weights. A function of
        :mod:`skdistill.augmentation`, or any other that is called as
        ``augmentation(X, random_state=seed)`` and returns rows like those of X. "auto"
        is :func:`~skdistill.augmentation.munge` for the mixtures that
        ``mixing_weight="auto"`` tries for networks, up to 5,000 labelled rows whose
        soft labels a teacher makes; else it is None.
    cv : int, splitter, iterable, "in-sample" or None, default=None
        How soft labels are made for the rows that the teacher learns from. None is 5
        stratified folds for an unfitted teacher: each row is scored by a teacher that
        has not seen it. "in-sample" fits the teacher once and lets it score its own
        training rows, where it is over-confident. A frozen teacher is never refitted.
        ``mixing_weight="auto"`` and "per-class" judge students on the same folds,
        whoever made the soft labels, and need at least three: where rows belong
        together, such as those of a person, let them be in one fold.
    memory : str, joblib.Memory or None, default=None
        Cache of the soft-label stage, keyed by teacher, data and folds, so that a
        grid search fits each teacher once a fold and not once a candidate. A teacher
        whose `random_state` is None is cached all the same.
    keep_teacher : bool, default=False
        Whether to keep the teacher, fitted on all rows, as ``teacher_``. It is not
        needed to predict.
    n_jobs : int or None, default=None
        Folds fitted at the same time.
    random_state : int, RandomState instance or None, default=None
        Seed of the default teacher and of the default student. A teacher or student
        that you pass keeps its own.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels.
    student_ : student
        The fitted student. It predicts the original labels from the original input by
        itself: with a frozen teacher, ship this and not the whole classifier.
    temperature_ : float
        The temperature used.
    mixing_weight_ : float or ndarray of shape (n_classes,)
        The mixing weight used, or those of the classes.
    class_weight_ : ndarray of shape (n_classes,)
        Weights of the classes; ones without `class_weight`.
    candidates_ : dict of ndarray
        With ``mixing_weight="auto"`` or "per-class", one entry a candidate, labels
        alone first: "source" of its soft labels, "mixing_weight", "temperature",
        whether it is "augmented", the "teacher_share" in its soft labels (a mean over
        the folds), its "log_loss" and "accuracy" on held-out labels, its "gain" in
        log-loss on labels alone, "gain_standard_error", and whether it was "chosen". It
        makes a data frame.
    generations_ : dict of ndarray
        With ``teacher="self"``, one entry a generation, labels alone first:
        "generation", its "mixing_weight" and "temperature", "log_loss" and "accuracy"
        out-of-fold, its "gain" in log-loss on labels alone, "gain_standard_error", its
        "step", the gain on the generation that taught it, "step_standard_error", and
        whether it was "chosen". It makes a data frame.
    n_generations_ : int
        With ``teacher="self"``, number of the generation chosen; 0 is labels alone.
    teacher_ : estimator
        The fitted teacher, if `keep_teacher` and if one was used.
    n_features_in_ : int
        Number of features seen in `fit`, if X has any.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had any.

    See Also
    --------
    SoftLabelTransformer : The teacher's out-of-fold probabilities as features.

    References
    ----------
    .. [1] Menon, Rawat, Reddi, Kim, Kumar, "A statistical perspective on
           distillation", ICML 2021.
    .. [2] Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks",
           ICML 2017.
    .. [3] Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015.
    .. [4] Dao, Kamath, Syrgkanis, Mackey, "Knowledge distillation as semiparametric
           inference", ICLR 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skdistill import DistillationClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> distilled = DistillationClassifier(
    ...     teacher=RandomForestClassifier(n_estimators=20, random_state=0),
    ...     student=DecisionTreeClassifier(max_depth=3, random_state=0),
    ... ).fit(X, y)
    >>> bool(distilled.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **TeacherStageMixin._stage_constraints,
        **StudentClassifier._student_constraints,
        "temperature": [*TeacherStageMixin._stage_constraints["temperature"], None],
        "mixing_weight": [
            Interval(Real, 0, 1, closed="both"),
            StrOptions({"auto", "per-class"}),
            "array-like",
        ],
        "augmentation": [StrOptions({"auto", "munge"}), callable, None],
        "loss_correction": ["boolean"],
        "n_generations": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        teacher: Any = None,
        student: Any = None,
        *,
        temperature: float | str | None = None,
        mixing_weight: Any = "auto",
        student_temperature: float | str = 1.0,
        class_weight: Any = None,
        loss_correction: bool = False,
        n_generations: int | None = None,
        augmentation: Any = "auto",
        cv: Any = None,
        memory: Any = None,
        keep_teacher: bool = False,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.teacher = teacher
        self.student = student
        self.temperature = temperature
        self.mixing_weight = mixing_weight
        self.student_temperature = student_temperature
        self.class_weight = class_weight
        self.loss_correction = loss_correction
        self.n_generations = n_generations
        self.augmentation = augmentation
        self.cv = cv
        self.memory = memory
        self.keep_teacher = keep_teacher
        self.n_jobs = n_jobs
        self.random_state = random_state

    @keep_fitted_on_failure
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: InputLike,
        y: Any,
        sample_weight: Any = None,
        *,
        soft_labels: Any = None,
        X_unlabeled: InputLike = None,
        soft_labels_unlabeled: Any = None,
        **params: Any,
    ) -> DistillationClassifier:
        """Make soft labels with the teacher and train the student on them.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs, as teacher and student take them.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative row weights, for teacher and student. Rows of weight zero are
            as if absent.
        soft_labels : array-like of shape (n_samples, n_classes), default=None
            Class probabilities in the order of the sorted classes, used instead of the
            teacher's. A data frame may name its columns after the classes. Sliced fold
            by fold in a grid search.
        X_unlabeled : array-like of shape (n_unlabeled, ...), default=None
            Rows without labels. They enter the soft term only, each with weight 1,
            labelled by the teacher fitted on all labelled rows. A scikit-learn search
            takes a pool of exactly n_samples rows for one entry a row of X, and slices
            it fold by fold.
        soft_labels_unlabeled : array-like of shape (n_unlabeled, n_classes), optional
            Their class probabilities, used instead of the teacher's.
        **params : dict
            With metadata routing enabled, what teacher and splitter ask for.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        TypeError
            If teacher or student is nothing that can be one.
        ValueError
            If the data, the soft labels or what the teacher returns is unusable. An
            earlier fit stays usable.
        """
        _raise_for_params(params, self, "fit")
        for name in ("teacher_", "candidates_", "generations_", "n_generations_"):
            self.__dict__.pop(name, None)
        passed = {
            "soft_labels": soft_labels,
            "X_unlabeled": X_unlabeled,
            "soft_labels_unlabeled": soft_labels_unlabeled,
        }
        auto = isinstance(self.mixing_weight, str)
        student = self._new_student([self._setting()])
        self._check_generations(student, passed)
        if self.loss_correction:
            self._check_correction(student)
        rows = self._check_rows(X, y, sample_weight)
        self._set_class_weights(rows)
        given = self._check_given(rows, soft_labels, X_unlabeled, soft_labels_unlabeled)
        if is_self(self.teacher) and not self._is_labels_alone():
            self._fit_self(student, rows, params)
        elif auto:
            self._fit_chosen(student, rows, given, params)
        else:
            given = self._with_synthetic(rows, given)
            self._fit_one(student, rows, given, params)
        return self

    def _setting(self) -> tuple[float | str, float]:
        """Return a temperature and a mixing weight that the student has to take."""
        temperature = self.temperature
        if temperature is None:
            temperature = "auto" if isinstance(self.mixing_weight, str) else 1.0
        return temperature, float(self._mixes())

    def _check_correction(self, student: BaseStudent) -> None:
        """Refuse to correct where that is void, misleading or cannot be learned."""
        if not isinstance(self.temperature, Real) or self.temperature == 1:
            raise ValueError(
                "loss_correction=True needs a number other than 1 for temperature, got "
                f"{self.temperature!r}: at 1 corrected soft labels are the labels, and "
                "what 'auto' would fit is the error that is corrected."
            )
        if is_in_sample(self.cv):
            raise ValueError(
                "loss_correction=True corrects by labels that the teacher has not "
                "seen, but with cv='in-sample' it has seen them. Use another cv."
            )
        self._check_one_weight("loss_correction=True")
        if self.class_weight is not None or student._weighs_classes():
            raise ValueError(
                "loss_correction=True takes no class_weight: corrected soft labels "
                "below 0 would let whole rows weigh less than nothing."
            )
        if not student._takes_student_temperature():
            raise ValueError(
                "loss_correction=True needs a student trained on cross-entropy "
                "(LinearStudent, MLPStudent, ModuleStudent): corrected soft labels may "
                f"be below 0, which {_student_name(student)} takes neither as weights "
                "nor as probabilities."
            )

    def _tempered(self, rows: TrainingRows, proba: FloatArray) -> FloatArray:
        if not self.loss_correction:
            return super()._tempered(rows, proba)
        return corrected_soft_labels(rows.codes, proba, self.temperature_)

    def _fit_student(
        self,
        student: BaseStudent,
        rows: TrainingRows,
        soft: FloatArray | None,
        given: Given,
        pool: FloatArray | None,
    ) -> None:
        weights = self._class_weights()
        if soft is None:
            student._fit_distillation(
                rows.X, rows.y, rows.weight, None, 0.0, 1.0, weights
            )
            return
        n_labelled = len(rows.y)
        rows, soft, mixing = self._with_pool(rows, soft, given, pool)
        same = self.student_temperature == "same"
        temperature = float(self.temperature_ if same else self.student_temperature)
        if self.loss_correction:
            problem = _corrected_problem(rows, soft, mixing, temperature, n_labelled)
            student._fit_problem(problem)
            return
        if temperature != 1.0 or mixing.ndim == 2:
            student._fit_distillation(
                rows.X,
                rows.y,
                rows.weight,
                soft,
                mixing,
                temperature,
                weights,
                n_labelled,
            )
            return
        targets = mix_targets(rows.codes, soft, mixing)
        student._fit_distillation(
            rows.X, rows.y, rows.weight, targets, 1.0, 1.0, weights, n_labelled
        )


def _corrected_problem(
    rows: TrainingRows,
    soft: FloatArray,
    mixing: FloatArray,
    temperature: float,
    n_labelled: int,
) -> Problem:
    """Return what is to be learned of soft labels that are no probabilities.

    They are no measure for when to stop either: that is left to the labels.
    """
    present = np.flatnonzero(rows.present())
    rows = rows.take(present)
    terms = objective_terms(rows.codes, soft[present], mixing[present], temperature)
    weight = np.ones(len(rows.y)) if rows.weight is None else rows.weight
    labelled = np.flatnonzero(present < n_labelled)
    return Problem(
        rows.X, rows.y, rows.codes, rows.classes, weight, terms, labelled=labelled
    )


def _student_name(student: BaseStudent) -> str:
    return type(getattr(student, "estimator", student)).__name__
