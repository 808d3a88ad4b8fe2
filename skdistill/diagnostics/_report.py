"""The teacher report: how good teachers are, and how much to listen to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._metadata_requests import _routing_enabled

from skdistill._bias_variance import BiasVariance
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
from skdistill.diagnostics._cross_fit import CrossFit, open_cross_fit
from skdistill.diagnostics._render import flat, html_table, text_table, to_frame
from skdistill.diagnostics._variance import variance_of_teacher
from skdistill.metrics import expected_calibration_error
from skdistill.students._resolve import as_student

_RANKED_BY = {"brier": "Brier score", "log_loss": "log-loss"}
_NOTES = {
    "ranks": (
        "Ranks in brackets: all those that agree with the data, for all teachers at "
        "once."
    ),
    "mixing": (
        "w*: mixing weight that is best for this many rows; use at most 1. N*: number "
        "of rows up to which the teacher's probabilities alone are better than the "
        "labels alone. Both are about the objective at the student trained on labels, "
        "and no promise about the one that is trained with it."
    ),
    "ece": (
        "ECE is shown and never ranked by: it is not a proper score. A teacher that "
        "gives every row the class frequencies has an ECE near 0 and knows nothing."
    ),
}


@dataclass(frozen=True)
class ProbaScores:
    """Scores of out-of-fold probabilities.

    Attributes
    ----------
    accuracy : ConfidenceInterval
        Share of rows whose most probable class is right, with Wilson's interval.
    log_loss : ConfidenceInterval
        Mean log-loss; probabilities below the machine epsilon are raised to it.
    brier : ConfidenceInterval
        Brier score, summed over the classes.
    """

    accuracy: ConfidenceInterval
    log_loss: ConfidenceInterval
    brier: ConfidenceInterval


@dataclass(frozen=True)
class TeacherSummary:
    """What the report says about one teacher.

    Attributes
    ----------
    name : str
        Its name.
    scores : ProbaScores
        Out-of-fold scores.
    decomposition : BrierDecomposition
        Calibration and refinement of the Brier score.
    expected_calibration_error : float
        Reported, never ranked by.
    temperature : float
        Temperature at which the log-loss is lowest: above 1 for an over-confident
        teacher.
    mixing : MixingDiagnostics
        Best mixing weight and break-even size at the student trained on labels.
    reliability : ClassReliability
        By class.
    lead : ConfidenceInterval
        Score of the student trained on labels less the teacher's: above 0 if the
        teacher is better.
    behind : ConfidenceInterval
        The teacher's score less that of the first in the ranking, with a level that
        holds for all pairs of teachers at once.
    ranks : tuple of int
        Smallest and largest rank that agree with the data.
    bias_variance : BiasVariance or None
        Of teachers fitted on a third of the rows; the squared bias includes the noise
        of the labels. None unless asked for.
    proba : ndarray of shape (n_samples, n_classes)
        Out-of-fold probabilities of the rows with a positive weight.
    """

    name: str
    scores: ProbaScores
    decomposition: BrierDecomposition
    expected_calibration_error: float
    temperature: float
    mixing: MixingDiagnostics
    reliability: ClassReliability
    lead: ConfidenceInterval
    behind: ConfidenceInterval
    ranks: tuple[int, int]
    bias_variance: BiasVariance | None
    proba: FloatArray


@dataclass(frozen=True)
class TeacherReport:
    """Scores of teachers, how they compare, and how much to listen to them.

    Attributes
    ----------
    teachers : list of TeacherSummary
        The best first.
    student : ProbaScores
        Out-of-fold scores of the student trained on labels.
    student_proba : ndarray of shape (n_samples, n_classes)
        Its out-of-fold probabilities.
    classes : ndarray of shape (n_classes,)
        Sorted classes.
    n_samples : int
        Number of rows with a positive weight.
    rank_by : {"brier", "log_loss"}
        Score by which the teachers are ranked.
    level : float
        Confidence level.

    See Also
    --------
    teacher_report : Makes one.
    """

    teachers: list[TeacherSummary]
    student: ProbaScores
    student_proba: FloatArray
    classes: NDArray[Any]
    n_samples: int
    rank_by: str
    level: float

    @property
    def best(self) -> TeacherSummary:
        """The first in the ranking.

        Returns
        -------
        TeacherSummary
            Its summary.
        """
        return self.teachers[0]

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the numbers of each teacher.

        Returns
        -------
        dict
            For each name the numbers of its row; an interval is three of them, the
            estimate and, ending in ``_low`` and ``_high``, its ends. Under
            ``"classes"`` the reliability of each class.
        """
        return {
            one.name: {**_record(i, one), "classes": self._by_class(one)}
            for i, one in enumerate(self.teachers, start=1)
        }

    def _by_class(self, one: TeacherSummary) -> dict[Any, dict[str, float]]:
        reliability = one.reliability
        return {
            label: {
                "frequency": float(reliability.frequency[k]),
                **flat("bias", reliability.bias[k]),
                "brier": float(reliability.brier[k]),
                "calibration": float(reliability.calibration[k]),
                "recall": float(reliability.recall[k]),
            }
            for k, label in enumerate(self.classes.tolist())
        }

    def to_frame(self) -> Any:
        """Return a data frame with one row a teacher, the best first.

        Returns
        -------
        pandas.DataFrame
            The numbers of :meth:`to_dict`, but for the classes.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        records = [
            {"teacher": one.name, **_record(i, one)}
            for i, one in enumerate(self.teachers, start=1)
        ]
        return to_frame(records, "teacher")

    def plot(self, ax: Any = None) -> Any:
        """Draw the Brier scores, split into refinement and calibration.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        matplotlib Axes
            The axes. The line is the score of the student trained on labels, the bars'
            whiskers are the intervals.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        if ax is None:
            ax = _new_axes(len(self.teachers))
        names = [one.name for one in self.teachers]
        refinement = np.array([one.decomposition.refinement for one in self.teachers])
        calibration = np.array([one.decomposition.calibration for one in self.teachers])
        briers = [one.scores.brier for one in self.teachers]
        ends = np.abs([(b.estimate - b.low, b.high - b.estimate) for b in briers]).T
        ax.barh(names, refinement, color="#0072B2", label="refinement")
        ax.barh(
            names, calibration, left=refinement, color="#E69F00", label="calibration"
        )
        ax.errorbar(
            refinement + calibration,
            names,
            xerr=ends,
            fmt="none",
            ecolor="black",
            capsize=3,
        )
        ax.axvline(
            self.student.brier.estimate,
            color="black",
            linestyle="--",
            label="student on labels",
        )
        ax.invert_yaxis()
        ax.set_xlabel("Brier score, out-of-fold (lower is better)")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        return ax

    def _title(self) -> str:
        return (
            f"Teachers by {_RANKED_BY[self.rank_by]}, out-of-fold on "
            f"{self.n_samples:,} rows, {len(self.classes)} classes; intervals at "
            f"{self.level:.0%}"
        )

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        headers = ["teacher", "rank", "accuracy", "log-loss", "Brier", "calibration"]
        headers += ["refinement", "ECE", "temperature", "w*", "N*"]
        rows: list[list[Any]] = []
        for i, one in enumerate(self.teachers, start=1):
            scores, parts = one.scores, one.decomposition
            rows.append(
                [
                    one.name,
                    f"{i} [{one.ranks[0]}, {one.ranks[1]}]",
                    scores.accuracy,
                    scores.log_loss,
                    scores.brier,
                    parts.calibration,
                    parts.refinement,
                    one.expected_calibration_error,
                    one.temperature,
                    one.mixing.mixing_weight,
                    _sizes(one.mixing.break_even),
                ]
            )
        own = self.student
        student = ["(student on labels)", "", own.accuracy, own.log_loss, own.brier]
        rows.append(student + [""] * (len(headers) - len(student)))
        return headers, rows

    def __str__(self) -> str:
        lines = [self._title(), "", text_table(*self._table()), "", *_NOTES.values()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._title(), *self._table(), list(_NOTES.values()))


def _sizes(interval: ConfidenceInterval) -> str:
    """Write numbers of rows without decimals."""
    parts = (interval.estimate, interval.low, interval.high)
    return "{:,.0f} [{:,.0f}, {:,.0f}]".format(*parts)


def _new_axes(n_bars: int) -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'TeacherReport.plot needs matplotlib: pip install "skdistill[plot]"'
        ) from error
    size = (6.4, 1.6 + 0.4 * n_bars)
    return plt.subplots(figsize=size, layout="constrained")[1]


def _record(rank: int, one: TeacherSummary) -> dict[str, Any]:
    """Return the numbers of a teacher, intervals as three numbers each."""
    record: dict[str, Any] = {
        "rank": rank,
        "rank_low": one.ranks[0],
        "rank_high": one.ranks[1],
    }
    for name, value in (
        ("accuracy", one.scores.accuracy),
        ("log_loss", one.scores.log_loss),
        ("brier", one.scores.brier),
        ("calibration", one.decomposition.calibration),
        ("refinement", one.decomposition.refinement),
        ("expected_calibration_error", one.expected_calibration_error),
        ("temperature", one.temperature),
        ("mixing_weight", one.mixing.mixing_weight),
        ("break_even", one.mixing.break_even),
        ("bias", one.mixing.bias),
        ("lead", one.lead),
        ("behind", one.behind),
    ):
        record.update(flat(name, value))
    if one.bias_variance is not None:
        record["variance"] = one.bias_variance.variance
        record["squared_bias_and_noise"] = one.bias_variance.squared_bias
    return record


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
    summaries = [
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
    return TeacherReport(
        summaries,
        _scores(fit, student_proba, level, fit.score_lengthening),
        student_proba,
        fit.rows.classes,
        len(fit.rows.y),
        rank_by,
        level,
    )


def _reference(student: Any, random_state: Any) -> Estimator:
    """Return the student, which takes sample weights as a teacher does."""
    reference = as_student(student, random_state=random_state)
    if _routing_enabled():
        reference.set_fit_request(sample_weight=True)
    return reference


def _check_options(rank_by: str, variance_repeats: int) -> None:
    if rank_by not in _RANKED_BY:
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
    if hasattr(teacher, "fit") or not hasattr(teacher, "__array__"):
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
    fitted = hasattr(teacher, "fit") or not hasattr(teacher, "__array__")
    if fitted and not is_frozen(resolve_teacher(teacher, fit.random_state)):
        return fit.score_lengthening if of_scores else fit.lengthening
    return 1.0


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
