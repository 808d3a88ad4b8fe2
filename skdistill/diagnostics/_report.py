"""The teacher report as an object: its numbers, its table, its figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skdistill._bias_variance import BiasVariance
from skdistill._intervals import ConfidenceInterval
from skdistill._mixing import MixingDiagnostics
from skdistill._reliability import BrierDecomposition, ClassReliability
from skdistill._typing import FloatArray
from skdistill.diagnostics._render import flat, html_table, text_table, to_frame

#: Scores that teachers may be ranked by, with the words for them.
RANKED_BY = {"brier": "Brier score", "log_loss": "log-loss"}
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
            f"Teachers by {RANKED_BY[self.rank_by]}, out-of-fold on "
            f"{self.n_samples:,} rows, {len(self.classes)} classes; intervals at "
            f"{100 * self.level:g}%"
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
