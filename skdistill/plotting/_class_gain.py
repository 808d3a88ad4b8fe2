"""ClassGainDisplay: which classes gain by distillation, and which lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skdistill._arguments import is_word
from skdistill._intervals import ConfidenceInterval, check_level, mean_interval
from skdistill._scoring import class_proba
from skdistill._typing import FloatArray, InputLike
from skdistill._validation import check_mean_weights
from skdistill.metrics import _check_pair, _encode
from skdistill.plotting._base import BETTER, GREY, WORSE, one_axes, tidy

#: What a gain is measured in, as the axis says it.
METRICS = {
    "accuracy": "gain in accuracy",
    "log_loss": "reduction of the log-loss (nats)",
    "brier": "reduction of the Brier score",
}


class ClassGainDisplay:
    r"""What each class gains by distillation, with an interval.

    For the rows of class :math:`k` the mean of
    :math:`d_i = s(y_i, q_i) - s(y_i, b_i)` is drawn, with the probabilities :math:`q_i`
    of the distilled student and :math:`b_i` of the baseline, in most cases the same
    student on the labels alone; above 0 is better. The score :math:`s` is 1 for the
    right class ("accuracy"), the log-probability of the label ("log_loss"), or minus
    the squared distance from the label ("brier"). Differences are paired row by row,
    and the interval is that of their mean by Student's t.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Class labels.
    intervals : list of ConfidenceInterval, one for each class and one more
        Mean gain of each class, and of all rows last. NaN for a class without rows;
        without ends where there are fewer than two.
    n_rows : ndarray of shape (n_classes + 1,)
        Rows of each class, and all.
    metric : {"accuracy", "log_loss", "brier"}, default="log_loss"
        What the gain is measured in.

    Attributes
    ----------
    gain : ndarray of shape (n_classes + 1,)
        The mean gains.
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    containers_ : list of matplotlib ErrorbarContainer
        The intervals, one for each class, and that of all rows last.

    Notes
    -----
    The interval is about new test rows for these two fitted models; what other training
    rows would have changed is not in it. With many classes some will look better or
    worse by chance: at 95 %, one in twenty.

    Examples
    --------
    >>> from skdistill.plotting import ClassGainDisplay
    >>> y = ["a", "a", "b", "b"]
    >>> baseline = [[0.6, 0.4], [0.5, 0.5], [0.3, 0.7], [0.4, 0.6]]
    >>> distilled = [[0.8, 0.2], [0.6, 0.4], [0.4, 0.6], [0.5, 0.5]]
    >>> display = ClassGainDisplay.from_predictions(y, baseline, distilled)
    >>> display.gain.round(2)
    array([ 0.24, -0.17,  0.03])
    """

    def __init__(
        self,
        classes: ArrayLike,
        intervals: Sequence[ConfidenceInterval],
        n_rows: ArrayLike,
        *,
        metric: str = "log_loss",
    ) -> None:
        self.classes = np.asarray(classes)
        self.intervals = list(intervals)
        self.gain = np.array([interval.estimate for interval in self.intervals])
        self.n_rows = np.asarray(n_rows)
        self.metric = metric

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: InputLike,
        y: ArrayLike,
        *,
        baseline: Any,
        metric: str = "log_loss",
        level: float = 0.95,
        sample_weight: ArrayLike | None = None,
        ax: Any = None,
    ) -> ClassGainDisplay:
        """Compare a distilled classifier with a baseline, both fitted.

        Parameters
        ----------
        estimator : classifier
            The distilled classifier.
        X : array-like of shape (n_samples, ...)
            Rows that neither was fitted on.
        y : array-like of shape (n_samples,)
            Their labels.
        baseline : classifier
            What it is compared with, such as the same student fitted on labels.
        metric : {"accuracy", "log_loss", "brier"}, default="log_loss"
            What the gain is measured in.
        level : float, default=0.95
            Confidence level of the intervals, in (0, 1).
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ClassGainDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the data are unusable.
        """
        classes = np.asarray(estimator.classes_)
        proba = [class_proba(model, X, classes)[0] for model in (baseline, estimator)]
        return cls.from_predictions(
            y,
            *proba,
            labels=classes,
            metric=metric,
            level=level,
            sample_weight=sample_weight,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        baseline_proba: ArrayLike,
        student_proba: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        metric: str = "log_loss",
        level: float = 0.95,
        sample_weight: ArrayLike | None = None,
        ax: Any = None,
    ) -> ClassGainDisplay:
        """Compare the probabilities of two models.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels.
        baseline_proba : array-like of shape (n_samples, n_classes)
            Probabilities of the baseline.
        student_proba : array-like of shape (n_samples, n_classes)
            Probabilities of the distilled student.
        labels : array-like of shape (n_classes,), default=None
            The label of each column, such as ``classes_``. None means the sorted
            values of `y_true`.
        metric : {"accuracy", "log_loss", "brier"}, default="log_loss"
            What the gain is measured in.
        level : float, default=0.95
            Confidence level of the intervals, in (0, 1).
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ClassGainDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the data, `metric` or `level` are unusable.
        """
        if not is_word(metric, METRICS):
            raise ValueError(f"metric={metric!r} must be one of {list(METRICS)}.")
        level = check_level(level)
        baseline, student = _check_pair(
            baseline_proba, "baseline_proba", student_proba, "student_proba"
        )
        y = np.asarray(y_true)
        if y.shape != (len(student),):
            raise ValueError(
                f"y_true must have shape ({len(student)},), one label for each row of "
                f"the probabilities, got {y.shape}."
            )
        columns = _encode(y, labels, student.shape[1])
        weight = check_mean_weights(sample_weight, student)
        difference = _score(columns, student, metric) - _score(
            columns, baseline, metric
        )
        members = [(columns == k) & (weight > 0) for k in range(student.shape[1])]
        members.append(weight > 0)
        return cls(
            np.unique(y) if labels is None else labels,
            [_mean(difference[rows], weight[rows], level) for rows in members],
            [int(rows.sum()) for rows in members],
            metric=metric,
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> ClassGainDisplay:
        """Draw one interval for each class, and one for all rows below them.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ClassGainDisplay
            The display.
        """
        n = len(self.gain)
        self.ax_ = one_axes(self, ax, (6.4, 1.6 + 0.34 * n))
        self.figure_ = self.ax_.figure
        self.ax_.axvline(0.0, color="black", linewidth=1)
        self.ax_.axhline(n - 1.5, color=GREY, linewidth=0.8)
        self.containers_ = [self._draw(i) for i in range(n)]
        names = [*map(str, self.classes), "all rows"]
        ticks = [f"{a} (n = {b:,})" for a, b in zip(names, self.n_rows, strict=True)]
        self.ax_.set_yticks(range(n), ticks)
        self.ax_.invert_yaxis()
        self.ax_.set_xlabel(
            f"{METRICS[self.metric]}, right of 0 is better; "
            f"{100 * self.intervals[0].level:g} % interval"
        )
        tidy(self.ax_)
        self.ax_.grid(visible=False, axis="y")
        return self

    def _draw(self, i: int) -> Any:
        """Draw one interval; colour and marker say on which side of 0 it lies."""
        colour, marker = GREY, "o"
        interval = self.intervals[i]
        if interval.low > 0:
            colour, marker = BETTER, ">"
        elif interval.high < 0:
            colour, marker = WORSE, "<"
        half = interval.high - interval.estimate
        return self.ax_.errorbar(
            interval.estimate,
            i,
            xerr=half if np.isfinite(half) else None,
            color=colour,
            marker=marker,
            markersize=7,
            linewidth=2,
            capsize=3,
        )


def _score(columns: NDArray[Any], proba: FloatArray, metric: str) -> FloatArray:
    """Return each row's score; larger is better."""
    rows = np.arange(len(columns))
    if metric == "accuracy":
        return (proba.argmax(axis=1) == columns).astype(np.float64)
    if metric == "log_loss":
        return np.log(np.maximum(proba[rows, columns], np.finfo(proba.dtype).eps))
    label = proba[rows, columns]
    return -((proba**2).sum(axis=1) - 2 * label + 1)


def _mean(values: FloatArray, weight: FloatArray, level: float) -> ConfidenceInterval:
    """Return a mean with Student's interval; NaN where there is no row."""
    if len(values) == 0:
        return ConfidenceInterval(np.nan, np.nan, -np.inf, np.inf, level)
    return mean_interval(values, weight, level)
