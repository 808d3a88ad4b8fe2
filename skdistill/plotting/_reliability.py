"""ReliabilityDisplay: whether probabilities are as often right as they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skdistill._intervals import proportion_interval
from skdistill._scoring import class_proba
from skdistill._typing import FloatArray, InputLike
from skdistill._validation import check_mean_weights
from skdistill.metrics import _check_proba, _inner_edges, _targets
from skdistill.plotting._base import colour_of, one_axes, several_axes, tidy


@dataclass(frozen=True)
class ReliabilityCurve:
    """One model's probabilities and how often they were right, by bin.

    Attributes
    ----------
    prob_pred : ndarray of shape (n_bins,)
        Mean probability in each bin that is not empty.
    prob_true : ndarray of shape (n_bins,)
        Share of its rows in which the class was the true one.
    share : ndarray of shape (n_bins,)
        Share of all rows that the bin holds; they sum to 1.
    lower, upper : ndarray of shape (n_bins,)
        Ends of Wilson's 95 % interval of `prob_true`.
    error : float
        Mean distance of `prob_true` from `prob_pred`, weighted by the shares.
    """

    prob_pred: FloatArray
    prob_true: FloatArray
    share: FloatArray
    lower: FloatArray
    upper: FloatArray
    error: float


class ReliabilityDisplay:
    """Reliability of teacher and student, side by side.

    Rows are put into bins by their confidence, the probability of the class that the
    model thinks most probable; in a well calibrated model the share of right ones is as
    high as the confidence. With `class_label` it is the probability of that class
    instead. Bars show the share of the rows in each bin; the vertical lines are 95 %
    intervals of its share of right ones.

    Parameters
    ----------
    curves : dict of str to ReliabilityCurve
        One curve a model, by its name.
    class_label : object or None, default=None
        The class whose probabilities are shown, or None for confidences.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The axes of each model; one axes where the curves were drawn into one.
    ax_ : matplotlib Axes
        The first of them.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of matplotlib Line2D
        The curves.

    See Also
    --------
    sklearn.calibration.CalibrationDisplay : One curve of a binary classifier.
    skdistill.metrics.expected_calibration_error : The error that is written beside it.

    Notes
    -----
    The error is not a proper score: a model that gives each row the class frequencies
    is calibrated, and knows nothing. Do not choose a teacher by it.

    Examples
    --------
    >>> from skdistill.plotting import ReliabilityDisplay
    >>> y = ["cat", "dog", "dog", "cat"]
    >>> teacher = [[0.8, 0.2], [0.3, 0.7], [0.1, 0.9], [0.6, 0.4]]
    >>> student = [[0.7, 0.3], [0.6, 0.4], [0.2, 0.8], [0.6, 0.4]]
    >>> display = ReliabilityDisplay.from_predictions(
    ...     y, {"teacher": teacher, "student": student}, n_bins=2
    ... )
    >>> round(display.curves["student"].error, 3)
    0.075
    """

    def __init__(
        self, curves: Mapping[str, ReliabilityCurve], *, class_label: Any = None
    ) -> None:
        self.curves = dict(curves)
        self.class_label = class_label

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: InputLike,
        y: ArrayLike,
        *,
        teacher: Any = None,
        class_label: Any = None,
        n_bins: int = 10,
        strategy: str = "uniform",
        sample_weight: ArrayLike | None = None,
        ax: Any = None,
    ) -> ReliabilityDisplay:
        """Draw a fitted student beside its teacher.

        Parameters
        ----------
        estimator : classifier
            A fitted classifier, such as :class:`skdistill.DistillationClassifier`.
        X : array-like of shape (n_samples, ...)
            Rows that neither of them was fitted on.
        y : array-like of shape (n_samples,)
            Their labels.
        teacher : classifier or None, default=None
            The fitted teacher. None is the estimator's ``teacher_``, which it has when
            it was fitted with ``keep_teacher=True``.
        class_label : object or None, default=None
            The class whose probabilities are shown, or None for confidences.
        n_bins : int, default=10
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width, or of equal weight.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.
        ax : matplotlib Axes, two of them, or None, default=None
            Where to draw, see :meth:`plot`.

        Returns
        -------
        ReliabilityDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there is no teacher, or the data are unusable.
        """
        if teacher is None:
            teacher = getattr(estimator, "teacher_", None)
        if teacher is None:
            raise ValueError(
                f"{type(estimator).__name__} has no teacher_ to draw beside it: fit it "
                "with keep_teacher=True and a mixing weight above 0, or pass teacher."
            )
        classes = np.asarray(estimator.classes_)
        proba = {
            name: class_proba(model, X, classes)[0]
            for name, model in {"teacher": teacher, "student": estimator}.items()
        }
        return cls.from_predictions(
            y,
            proba,
            labels=classes,
            class_label=class_label,
            n_bins=n_bins,
            strategy=strategy,
            sample_weight=sample_weight,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        proba: Mapping[str, ArrayLike],
        *,
        labels: ArrayLike | None = None,
        class_label: Any = None,
        n_bins: int = 10,
        strategy: str = "uniform",
        sample_weight: ArrayLike | None = None,
        ax: Any = None,
    ) -> ReliabilityDisplay:
        """Draw the probabilities of one or several models.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels, or soft labels such as known Bayes probabilities.
        proba : dict of str to array-like of shape (n_samples, n_classes)
            Probabilities of each model by its name, such as "teacher" and "student".
        labels : array-like of shape (n_classes,), default=None
            The label of each column, such as ``classes_``. None means the sorted
            values of `y_true`, or 0, 1, ... with soft labels.
        class_label : object or None, default=None
            The class whose probabilities are shown, or None for confidences.
        n_bins : int, default=10
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width, or of equal weight.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.
        ax : matplotlib Axes, several of them, or None, default=None
            Where to draw, see :meth:`plot`.

        Returns
        -------
        ReliabilityDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the data are unusable, or `class_label` is none of the labels.
        """
        if not isinstance(proba, Mapping) or not proba:
            raise ValueError(
                "proba must map the name of each model to its probabilities, got "
                f"{proba!r}."
            )
        curves = {}
        for name, values in proba.items():
            checked = _check_proba(values, f"proba[{name!r}]")
            targets = _targets(y_true, checked, labels)
            column = _column(class_label, labels, y_true, checked.shape[1])
            weight = check_mean_weights(sample_weight, checked)
            curves[name] = _curve(targets, checked, column, weight, n_bins, strategy)
        return cls(curves, class_label=class_label).plot(ax=ax)

    def plot(self, ax: Any = None) -> ReliabilityDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, several of them, or None, default=None
            One axes for each model, or a single one for all curves, without the bars.
            None makes a new figure with one axes for each.

        Returns
        -------
        ReliabilityDisplay
            The display.

        Raises
        ------
        ValueError
            If `ax` holds another number of axes.
        """
        n = len(self.curves)
        together = ax is not None and np.ndim(np.asarray(ax, dtype=object)) == 0
        if together:
            axes = np.array([one_axes(self, ax, (5, 5))], dtype=object)
        else:
            layout = {"ncols": n, "sharex": True, "sharey": True}
            axes = several_axes(self, ax, n, (0.6 + 4.2 * n, 4.4), **layout)
        self.axes_, self.ax_, self.figure_ = axes, axes[0], axes[0].figure
        for one in axes:
            one.plot([0, 1], [0, 1], "k:", linewidth=1, label="perfectly calibrated")
        self.lines_ = [
            self._draw(axes[0 if together else i], i, name, curve, bars=not together)
            for i, (name, curve) in enumerate(self.curves.items())
        ]
        for one in axes:
            self._finish(one)
        axes[0].set_ylabel(self._axis_labels()[1])
        return self

    def _draw(
        self, ax: Any, i: int, name: str, curve: ReliabilityCurve, *, bars: bool
    ) -> Any:
        """Draw one curve, its intervals and the share of rows in each bin."""
        colour = colour_of(i)
        text = f"{name}, calibration error {curve.error:.3f}"
        if bars:
            ax.set_title(text, fontsize="medium")
            width = 0.8 * min(0.1, np.diff(curve.prob_pred).min(initial=0.1))
            ax.bar(
                curve.prob_pred,
                curve.share,
                width,
                color=colour,
                alpha=0.25,
                label="share of the rows",
            )
        centre = curve.prob_true
        spread = np.stack([centre - curve.lower, curve.upper - centre]).clip(0)
        drawn = ax.errorbar(
            curve.prob_pred,
            centre,
            yerr=spread,
            color=colour,
            marker="os^Dv"[i % 5],
            markersize=5,
            capsize=2,
            label=self._curve_label() if bars else text,
        )
        return drawn.lines[0]

    def _curve_label(self) -> str:
        what = "right ones" if self.class_label is None else "the class"
        return f"share of {what}, 95 % interval"

    def _axis_labels(self) -> tuple[str, str]:
        if self.class_label is None:
            return "confidence (highest probability)", "share of rows that are right"
        name = repr(self.class_label)
        return f"probability of class {name}", f"share of rows of class {name}"

    def _finish(self, ax: Any) -> None:
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=self._axis_labels()[0])
        ax.set_aspect("equal")
        ax.legend(loc="upper left", fontsize="small", frameon=False)
        tidy(ax)


def _column(
    class_label: Any, labels: ArrayLike | None, y_true: ArrayLike, n_classes: int
) -> int | None:
    """Return the column of the class to draw, None for the most probable one."""
    if class_label is None:
        return None
    if labels is not None:
        known = np.asarray(labels)
    elif np.ndim(y_true) == 2 and np.shape(y_true)[1] > 1:
        known = np.arange(n_classes)
    else:
        known = np.unique(np.asarray(y_true))
    found = np.flatnonzero(known == class_label)
    if len(found) != 1:
        raise ValueError(
            f"class_label={class_label!r} must be one of the labels {known.tolist()}."
        )
    return int(found[0])


def _curve(
    targets: FloatArray,
    proba: FloatArray,
    column: int | None,
    weight: FloatArray,
    n_bins: int,
    strategy: str,
) -> ReliabilityCurve:
    """Bin the rows by probability; empty bins are left out."""
    rows = np.arange(len(proba))
    columns = proba.argmax(axis=1) if column is None else column
    confidence = proba[rows, columns].astype(np.float64)
    right = targets[rows, columns].astype(np.float64)
    edges = _inner_edges(confidence, weight, n_bins, strategy)
    bins = np.digitize(confidence, edges, right=True)
    members = [np.flatnonzero((bins == b) & (weight > 0)) for b in np.unique(bins)]
    members = [rows for rows in members if len(rows)]
    right_ones = [proportion_interval(right[m], weight[m], 0.95) for m in members]
    prob_true = np.array([interval.estimate for interval in right_ones])
    prob_pred = np.array(
        [np.average(confidence[m], weights=weight[m]) for m in members]
    )
    share = np.array([weight[m].sum() for m in members]) / weight.sum()
    return ReliabilityCurve(
        prob_pred,
        prob_true,
        share,
        np.array([interval.low for interval in right_ones]),
        np.array([interval.high for interval in right_ones]),
        float(share @ np.abs(prob_true - prob_pred)),
    )
