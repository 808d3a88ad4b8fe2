"""DistillationRanker: a small scorer that puts positives above negatives."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    _fit_context,
)
from sklearn.callback import CallbackSupportMixin
from sklearn.metrics import roc_auc_score
from sklearn.utils import get_tags
from sklearn.utils._metadata_requests import _raise_for_params
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skdistill._bipartite import NO_PAIRS, SURROGATES, PairRisk, check_emphasis
from skdistill._labelled_rows import TrainingRows
from skdistill._one_student import Given, OneStudentMixin
from skdistill._soft_labels import declared_teacher, set_input_tags
from skdistill._typing import FloatArray, InputLike
from skdistill._validation import keep_fitted_on_failure
from skdistill.students import MLPStudent
from skdistill.students._base import BaseStudent
from skdistill.students._problem import mix_targets
from skdistill.students._resolve import as_student

#: Scores closer than this share of their range are ties for the threshold: equal rows
#: get scores that differ in their last digits.
SCORE_TIE = 1e-9


class DistillationRanker(
    OneStudentMixin,
    CallbackSupportMixin,
    ClassifierMixin,
    MetaEstimatorMixin,
    BaseEstimator,
):
    r"""Train a small student to rank positives above negatives, as a teacher would.

    Two classes; ``classes_[1]`` is the positive one. With the chance
    :math:`t_i = (1 - a) y_i + a p_i` that a row is positive, where :math:`p_i` is the
    teacher's probability (out-of-fold by default, tempered by T = `temperature`),
    :math:`y_i` the label and a = `mixing_weight`, the student's scores :math:`s_i`
    minimise the distilled bipartite risk, section 5.1 of [1]_,

    .. math::

        \frac{\sum_{i, j} w_i t_i \, w_j (1 - t_j) \, \phi(s_i - s_j)}
        {\sum_{i, j} w_i t_i \, w_j (1 - t_j)},

    a smooth form of 1 minus the area under the ROC curve (AUC). The teacher enters
    twice: in how much a row counts as a positive, and in how much the other counts as
    a negative. With a = 0 the pairs are those of the labels, Eq. (10), and no teacher
    is fitted. Pairs of a row with itself add a constant.

    Parameters
    ----------
    teacher : estimator, list of estimators or None, default=None
        As in :class:`DistillationClassifier`. What counts are its probabilities: one
        that only ranks well weighs the pairs wrongly.
    student : student, torch module or None, default=None
        None is :class:`~skdistill.students.MLPStudent`. A
        :class:`~skdistill.students.LinearStudent`,
        :class:`~skdistill.students.MLPStudent`,
        :class:`~skdistill.students.ModuleStudent`, a torch module, or a Pipeline that
        ends in one of these. Other scikit-learn estimators learn row by row and
        cannot be trained on pairs. A linear student has no intercept, as no pair
        depends on it.
    surrogate : {"logistic", "squared", "exponential"}, default="logistic"
        Loss :math:`\phi(z)` of the margin between a positive and a negative:
        :math:`\log(1 + e^{-z})`, :math:`(1 - z)^2` or :math:`e^{-z}`.
    push : float, default=1.0
        At least 1. Above 1 negatives that are above many positives count for more: the
        p-norm push [2]_, which cleans the top of the list. See
        :func:`~skdistill.losses.bipartite_risk` for the formula, here and below. With
        mini-batches the means inside it are those of a batch.
    top_share : float or None, default=None
        In (0, 1]. Positives below this share of the negatives or more are slowly given
        up, so that those near the top are placed better, appendix B.2 of [1]_. The
        objective is then no longer convex. Not together with `push`.
    temperature : float or "auto", default=1.0
        Temperature T of the teacher's probabilities, as in
        :class:`DistillationClassifier`.
    mixing_weight : float, default=0.5
        Weight a of the soft labels, in [0, 1].
    cv : int, splitter, iterable, "in-sample" or None, default=None
        How soft labels are made for the rows that the teacher learns from, as in
        :class:`DistillationClassifier`.
    memory : str, joblib.Memory or None, default=None
        Cache of the soft-label stage, as in :class:`DistillationClassifier`.
    keep_teacher : bool, default=False
        Whether to keep the teacher, fitted on all rows, as ``teacher_``.
    n_jobs : int or None, default=None
        Folds fitted at the same time.
    random_state : int, RandomState instance or None, default=None
        Seed of the default teacher and of the default student.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        Sorted class labels.
    student_ : student
        The fitted student. The order of its scores is that of this estimator; its
        probabilities and its classes mean nothing.
    threshold_ : float
        Score of the student above which a row is predicted positive: the one at which
        as many training rows are predicted positive as are expected to be.
    temperature_ : float
        The temperature used.
    mixing_weight_ : float
        The mixing weight used.
    teacher_ : estimator
        The fitted teacher, if `keep_teacher` and if one was used.
    n_features_in_ : int
        Number of features seen in `fit`, if X has any.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had any.

    See Also
    --------
    DistillationClassifier : Distils probabilities, which also rank.
    skdistill.losses.bipartite_risk : The risk that is minimised.

    References
    ----------
    .. [1] Menon, Rawat, Reddi, Kim, Kumar, "A statistical perspective on
           distillation", ICML 2021.
    .. [2] Rudin, "The p-norm push: a simple convex ranking algorithm that concentrates
           at the top of the list", JMLR 2009.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skdistill import DistillationRanker
    >>> from skdistill.students import LinearStudent
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> ranker = DistillationRanker(
    ...     teacher=RandomForestClassifier(n_estimators=20, random_state=0),
    ...     student=make_pipeline(StandardScaler(), LinearStudent()),
    ... ).fit(X, y)
    >>> bool(ranker.score(X, y) > 0.98)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **OneStudentMixin._stage_constraints,
        # What can be a student is said by its own check.
        "student": "no_validation",
        "surrogate": [StrOptions(set(SURROGATES))],
        "push": [Interval(Real, 1, np.inf, closed="left")],
        "top_share": [Interval(Real, 0, 1, closed="right"), None],
        "mixing_weight": [Interval(Real, 0, 1, closed="both")],
        "keep_teacher": ["boolean"],
    }

    def __init__(
        self,
        teacher: Any = None,
        student: Any = None,
        *,
        surrogate: str = "logistic",
        push: float = 1.0,
        top_share: float | None = None,
        temperature: float | str = 1.0,
        mixing_weight: float = 0.5,
        cv: Any = None,
        memory: Any = None,
        keep_teacher: bool = False,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.teacher = teacher
        self.student = student
        self.surrogate = surrogate
        self.push = push
        self.top_share = top_share
        self.temperature = temperature
        self.mixing_weight = mixing_weight
        self.cv = cv
        self.memory = memory
        self.keep_teacher = keep_teacher
        self.n_jobs = n_jobs
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        student = MLPStudent() if self.student is None else self.student
        set_input_tags(tags.input_tags, [declared_teacher(self.teacher), student])
        return tags

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
    ) -> DistillationRanker:
        """Make soft labels with the teacher and train the student on pairs.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs, as teacher and student take them.
        y : array-like of shape (n_samples,)
            Labels of two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative row weights, for teacher and student; a pair counts with the
            product of its rows' weights. Rows of weight zero are as if absent.
        soft_labels : array-like of shape (n_samples, 2), default=None
            Class probabilities in the order of the sorted classes, used instead of the
            teacher's.
        X_unlabeled : array-like of shape (n_unlabeled, ...), default=None
            Rows without labels. They enter with their soft labels and with
            `mixing_weight` as their weight, as in :class:`DistillationClassifier`.
        soft_labels_unlabeled : array-like of shape (n_unlabeled, 2), optional
            Their class probabilities, used instead of the teacher's.
        **params : dict
            With metadata routing enabled, what teacher and splitter ask for.

        Returns
        -------
        self : object
            The fitted ranker.

        Raises
        ------
        TypeError
            If teacher or student is nothing that can be one.
        ValueError
            If there are more than two classes, if the student cannot be trained on
            pairs, if no pair has a positive weight, or if the data, the soft labels or
            what the teacher returns is unusable. An earlier fit stays usable.
        """
        _raise_for_params(params, self, "fit")
        check_emphasis(self.push, self.top_share)
        self.__dict__.pop("teacher_", None)
        student = self._new_student()
        rows = self._check_rows(X, y, sample_weight)
        if len(rows.classes) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is "
                f"multiclass: y has {len(rows.classes)} classes. Wrap the ranker in "
                "sklearn.multiclass.OneVsRestClassifier."
            )
        given = self._check_given(rows, soft_labels, X_unlabeled, soft_labels_unlabeled)
        self._fit_one(student, rows, given, params)
        return self

    def _new_student(self) -> BaseStudent:
        """Return an unfitted student that can be trained on pairs."""
        student = as_student(self.student, random_state=self.random_state)
        student._takes_missing = get_tags(self).input_tags.allow_nan
        student._validate_params()
        student._before_fit()
        if not student._takes_pairs():
            name = type(getattr(student, "estimator", student)).__name__
            raise ValueError(
                f"student={name} learns row by row and cannot be trained on pairs. Use "
                "LinearStudent, MLPStudent, ModuleStudent or a Pipeline ending in one "
                "of them, or rank by the scores of DistillationClassifier, which takes "
                f"{name} as its student."
            )
        return student

    def _fit_student(
        self,
        student: BaseStudent,
        rows: TrainingRows,
        soft: FloatArray | None,
        given: Given,
        pool: FloatArray | None,
    ) -> None:
        labels = np.eye(len(rows.classes))[rows.codes]
        soft = labels if soft is None else soft
        together, soft, mixing = self._with_pool(rows, soft, given, pool)
        targets = mix_targets(together.codes, soft, mixing)
        present = targets[together.present()]
        if not (present[:, 0].any() and present[:, 1].any()):
            raise ValueError(NO_PAIRS)
        risk = PairRisk(self.surrogate, float(self.push), self.top_share)
        student._fit_ranking(together.X, together.y, together.weight, targets, risk)
        own = targets[: len(rows.y)]
        self.threshold_ = break_even_threshold(
            student.decision_function(rows.X), own[:, 1], rows.weight
        )

    def decision_function(self, X: InputLike) -> FloatArray:
        """Return scores: the larger, the higher in the list.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Scores of the student less the threshold: positive where `predict` returns
            ``classes_[1]``.
        """
        check_is_fitted(self)
        scores: FloatArray = self.student_.decision_function(X) - self.threshold_
        return scores

    def predict(self, X: InputLike) -> NDArray[Any]:
        """Return the positive class for rows above the threshold.

        For another criterion tune the threshold with
        :class:`sklearn.model_selection.TunedThresholdClassifierCV`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        positive = self.decision_function(X) > 0
        labels: NDArray[Any] = self.classes_[positive.astype(int)]
        return labels

    def score(self, X: InputLike, y: Any, sample_weight: Any = None) -> float:
        """Return the area under the ROC curve.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs.
        y : array-like of shape (n_samples,)
            Labels, of both classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.

        Returns
        -------
        float
            The share of pairs in the right order.
        """
        scores = self.decision_function(X)
        return float(roc_auc_score(y, scores, sample_weight=sample_weight))


def break_even_threshold(
    scores: FloatArray, positive: FloatArray, sample_weight: FloatArray | None = None
) -> float:
    """Return the threshold above which as much weight lies as is expected positive.

    Precision and recall are then equal, whatever the share of positives. Of the
    midpoints between neighbouring scores it is the one that comes closest.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        Scores.
    positive : ndarray of shape (n_samples,)
        Chance of each row to be positive.
    sample_weight : ndarray of shape (n_samples,) or None, default=None
        Row weights; rows of weight zero are as if absent.

    Returns
    -------
    float
        The threshold. Where all scores tie, it is beyond them, so that all rows go to
        the class that is expected more.
    """
    if sample_weight is None:
        sample_weight = np.ones(len(scores))
    order = np.argsort(scores, kind="stable")
    order = order[sample_weight[order] > 0]
    ordered, weight = scores[order], sample_weight[order]
    expected = weight @ positive[order]
    gaps = np.diff(ordered)
    cuts = np.flatnonzero(gaps > SCORE_TIE * (ordered[-1] - ordered[0]))
    if len(cuts) == 0:
        return float(ordered[0] + (-1.0 if 2 * expected > weight.sum() else 1.0))
    above = weight.sum() - np.cumsum(weight)[cuts]
    cut = cuts[np.argmin(np.abs(above - expected))]
    return float(0.5 * (ordered[cut] + ordered[cut + 1]))
