"""How good teachers are, and how much a student should listen to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from sklearn.utils._metadata_requests import _routing_enabled

from skdistill._arguments import is_word
from skdistill._calibration import fit_temperature
from skdistill._intervals import (
    ConfidenceInterval,
    check_level,
    lengthen,
    mean_interval,
    proportion_interval,
)
from skdistill._mixing import MixingDiagnostics, mixing_diagnostics
from skdistill._reliability import (
    BrierDecomposition,
    ClassReliability,
    brier_decomposition,
    class_reliability,
)
from skdistill._risks import loss_vectors
from skdistill._scoring import is_frozen
from skdistill._soft_labels import resolve_teacher
from skdistill._typing import Estimator, FloatArray, InputLike
from skdistill._validation import check_soft_labels
from skdistill.diagnostics._cross_fit import CrossFit, is_given, open_cross_fit
from skdistill.diagnostics._report import (
    RANKED_BY,
    ProbaScores,
    TeacherReport,
    TeacherSummary,
)
from skdistill.diagnostics._variance import variance_of_teacher
from skdistill.metrics import expected_calibration_error
from skdistill.students._resolve import as_student


def teacher_report(
    teachers: Any,
    X: InputLike,
    y: Any,
    *,
    student: Any = None,
    cv: Any = None,
    sample_weight: Any = None,
    rank_by: str = "brier",
    level: float = 0.95,
    variance_repeats: int = 0,
    memory: Any = None,
    n_jobs: int | None = None,
    random_state: Any = None,
) -> TeacherReport:
    r"""Say how good teachers are, and how much a student should listen to them.

    A teacher is as good as its probabilities are close to the true ones
    :math:`p^*`, not as it is accurate [Menon2021]_. Out of fold, differences of Brier
    scores are differences of squared distance to :math:`p^*`, whatever that is,

    .. math::
        B(p) - B(p') = \mathrm E \lVert p - p^* \rVert^2 -
        \mathrm E \lVert p' - p^* \rVert^2,

    so this is what teachers are ranked by. Two teachers are told apart if the paired
    interval of their difference leaves out 0; the intervals hold for all pairs at
    once (Bonferroni), and so do the ranks that they allow. Scores and differences are
    those to expect of teachers fitted on as many rows as in the folds, :math:`n_1`; as
    such teachers vary, intervals are longer than those of :math:`n` independent rows:
    with :math:`n_2` test rows in each of K folds, those of scores by
    :math:`\sqrt{1 + K n_2 / n_1}` [Nadeau2003]_, those of differences, where much of
    it cancels, by :math:`\sqrt{1 + n_2 / n_1}`.

    Parameters
    ----------
    teachers : estimator, list of estimators or dict
        Teachers to compare, as :class:`~skdistill.DistillationClassifier` takes them.
        A list is of several teachers here, not one ensemble. A dict names them; its
        values may also be probabilities, of shape (n_samples, n_classes), by teachers
        that have not seen the rows.
    X : array-like of shape (n_samples, ...)
        Inputs.
    y : array-like of shape (n_samples,)
        Class labels.
    student : student, estimator, torch module or None, default=None
        As in :class:`~skdistill.DistillationClassifier`. It is trained on labels,
        out-of-fold, and is the reference at which w* and N* are computed.
    cv : int, splitter, iterable or None, default=None
        Folds, the same for all; None is 5 stratified ones. Frozen teachers are not
        fitted, and score the rows as they are: they must not have seen them.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights, for fits and scores. Rows of weight 0 are as if absent.
    rank_by : {"brier", "log_loss"}, default="brier"
        Proper score to rank by. The log-loss punishes small probabilities of what
        happens without limit: that of a single tree is often infinite in truth.
    level : float, default=0.95
        Confidence level.
    variance_repeats : int, default=0
        Number of repeats from which variance and squared bias of each teacher are
        estimated, see :func:`cross_fit_bias_variance`; three fits each. 0 leaves
        them out, as they are for teachers that are frozen or given as probabilities.
    memory : str, joblib.Memory or None, default=None
        Cache of the fits.
    n_jobs : int or None, default=None
        Folds fitted at the same time.
    random_state : int, RandomState instance or None, default=None
        Seed of the default student, and of the parts that the variance is estimated
        from. Estimators that you pass keep their own.

    Returns
    -------
    report : TeacherReport
        Printed it is a table; ``plot``, ``to_frame`` and ``to_dict`` give the rest.

    Raises
    ------
    TypeError
        If a teacher or the student cannot be one.
    ValueError
        If the data, or what a teacher returns, is unusable, `rank_by` is not a proper
        score, or a parameter is out of its range.

    Notes
    -----
    The calibration error (ECE) is reported and never ranked by, since it is not a
    proper score: a teacher that gives every row the class frequencies has an ECE near
    0 and knows nothing.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.
    .. [Nadeau2003] Nadeau and Bengio, "Inference for the generalization error",
       Machine Learning 52:239-281, 2003.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skdistill.datasets import make_gaussians
    >>> from skdistill.diagnostics import teacher_report
    >>> from skdistill.students import LinearStudent
    >>> X, y, _ = make_gaussians(400, random_state=0)
    >>> teachers = [DecisionTreeClassifier(random_state=0), LogisticRegression()]
    >>> report = teacher_report(teachers, X, y, student=LinearStudent())
    >>> report.best.name
    'LogisticRegression'
    >>> report.teachers[1].ranks
    (2, 2)
    """
    level = check_level(level)
    _check_options(rank_by, variance_repeats)
    named = _named(teachers)
    fit = open_cross_fit(
        X,
        y,
        sample_weight,
        cv=cv,
        memory=memory,
        n_jobs=n_jobs,
        random_state=random_state,
    )
    student_proba = fit.proba(_reference(student, random_state))
    return TeacherReport(
        _summaries(named, fit, student_proba, rank_by, level, variance_repeats),
        _scores(fit, student_proba, level, fit.score_lengthening),
        student_proba,
        fit.rows.classes,
        len(fit.rows.y),
        rank_by,
        level,
    )


def _summaries(
    named: dict[str, Any],
    fit: CrossFit,
    student_proba: FloatArray,
    rank_by: str,
    level: float,
    variance_repeats: int,
) -> list[TeacherSummary]:
    """Return what is to be said about each teacher, the best first."""
    probas = {name: _proba(name, one, fit) for name, one in named.items()}
    factors = {name: _factor(one, fit) for name, one in named.items()}
    losses = {name: _losses(fit, proba, rank_by) for name, proba in probas.items()}
    scores = {
        name: _scores(fit, proba, level, _factor(named[name], fit, of_scores=True))
        for name, proba in probas.items()
    }
    order = sorted(named, key=lambda name: getattr(scores[name], rank_by).estimate)
    pairs = _comparisons(losses, fit.weight, level, factors)
    own_losses = _losses(fit, student_proba, rank_by)
    return [
        TeacherSummary(
            name,
            scores[name],
            *_details(fit, probas[name], student_proba, level),
            lengthen(
                mean_interval(own_losses - losses[name], fit.weight, level),
                fit.lengthening,
            ),
            pairs[name, order[0]],
            _ranks(name, order, pairs),
            variance_of_teacher(named[name], fit, variance_repeats),
            probas[name],
        )
        for name in order
    ]


def _reference(student: Any, random_state: Any) -> Estimator:
    """Return the student, which takes sample weights as a teacher does."""
    reference = as_student(student, random_state=random_state)
    if _routing_enabled():
        reference.set_fit_request(sample_weight=True)
    return reference


def _check_options(rank_by: str, variance_repeats: int) -> None:
    if not is_word(rank_by, RANKED_BY):
        raise ValueError(
            f"rank_by={rank_by!r} must be 'brier' or 'log_loss', proper scores: their "
            "expectation is best at the true probabilities. That of the calibration "
            "error or of the accuracy is not."
        )
    whole = isinstance(variance_repeats, (int, np.integer))
    if not whole or isinstance(variance_repeats, bool) or variance_repeats < 0:
        raise ValueError(
            f"variance_repeats={variance_repeats!r} must be an integer of at least 0."
        )


def _named(teachers: Any) -> dict[str, Any]:
    """Return teachers by name; equal class names are numbered."""
    if isinstance(teachers, Mapping):
        named = {str(name): teacher for name, teacher in teachers.items()}
        if len(named) < len(teachers):
            raise ValueError(
                "teachers must have names that differ when written as text, got "
                f"{list(teachers)}."
            )
    else:
        several = list(teachers) if isinstance(teachers, (list, tuple)) else [teachers]
        names = [type(teacher).__name__ for teacher in several]
        named = {}
        for name, teacher in zip(names, several, strict=True):
            number = sum(known.split("-")[0] == name for known in named) + 1
            unique = f"{name}-{number}" if names.count(name) > 1 else name
            named[unique] = teacher
    if not named:
        raise ValueError("teachers is empty: a report needs one teacher at least.")
    return named


def _proba(name: str, teacher: Any, fit: CrossFit) -> FloatArray:
    """Return the out-of-fold probabilities of a teacher, or those that were given."""
    if not is_given(teacher):
        return fit.proba(teacher)
    given = check_soft_labels(
        teacher,
        n_samples=fit.n_passed,
        classes=fit.rows.classes,
        name=f"teachers[{name!r}]",
    )
    return given[fit.kept]


def _losses(fit: CrossFit, proba: FloatArray, loss: str) -> FloatArray:
    """Return each row's loss under its label."""
    return loss_vectors(proba, loss)[np.arange(len(proba)), fit.rows.codes]


def _factor(teacher: Any, fit: CrossFit, *, of_scores: bool = False) -> float:
    """Return by how much intervals are longer: not where the teacher was not fitted."""
    if is_given(teacher) or is_frozen(resolve_teacher(teacher, fit.random_state)):
        return 1.0
    return fit.score_lengthening if of_scores else fit.lengthening


def _scores(
    fit: CrossFit, proba: FloatArray, level: float, factor: float
) -> ProbaScores:
    right = (proba.argmax(axis=1) == fit.rows.codes).astype(np.float64)
    accuracy = lengthen(proportion_interval(right, fit.weight, level), factor)
    return ProbaScores(
        replace(accuracy, low=max(accuracy.low, 0.0), high=min(accuracy.high, 1.0)),
        *(
            lengthen(
                mean_interval(_losses(fit, proba, loss), fit.weight, level), factor
            )
            for loss in ("log_loss", "brier")
        ),
    )


def _details(
    fit: CrossFit, proba: FloatArray, student_proba: FloatArray, level: float
) -> tuple[BrierDecomposition, float, float, MixingDiagnostics, ClassReliability]:
    """Return decomposition, ECE, temperature, mixing and reliability by class."""
    codes = fit.rows.codes
    options: dict[str, Any] = {
        "labels": np.arange(proba.shape[1]),
        "sample_weight": fit.weight,
    }
    return (
        brier_decomposition(codes, proba, **options),
        expected_calibration_error(codes, proba, **options),
        fit_temperature(codes, proba, sample_weight=fit.weight),
        mixing_diagnostics(codes, proba, student_proba, level=level, **options),
        class_reliability(codes, proba, level=level, **options),
    )


def _comparisons(
    losses: dict[str, FloatArray],
    weight: FloatArray,
    level: float,
    factors: dict[str, float],
) -> dict[tuple[str, str], ConfidenceInterval]:
    """Return the paired interval of each pair, all of them right at once."""
    n_pairs = max(len(losses) * (len(losses) - 1) // 2, 1)
    each = 1 - (1 - level) / n_pairs
    pairs = {}
    for first, second in product(losses, repeat=2):
        difference = mean_interval(losses[first] - losses[second], weight, each)
        longer = max(factors[first], factors[second])
        pairs[first, second] = lengthen(difference, longer)
    return pairs


def _ranks(
    name: str, order: list[str], pairs: dict[tuple[str, str], ConfidenceInterval]
) -> tuple[int, int]:
    """Return the smallest and the largest rank that the comparisons allow."""
    others = [other for other in order if other != name]
    better = sum(pairs[name, other].low > 0 for other in others)
    worse = sum(pairs[name, other].high < 0 for other in others)
    return 1 + better, len(order) - worse
