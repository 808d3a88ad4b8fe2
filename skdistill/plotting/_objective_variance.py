"""ObjectiveVarianceDisplay: error of the objective, by the number of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skdistill._scoring import class_proba
from skdistill._typing import FloatArray, InputLike
from skdistill.diagnostics import (
    ConfidenceInterval,
    MixingDiagnostics,
    ObjectiveVariance,
    mixing_diagnostics,
    objective_variance,
)
from skdistill.metrics import _check_pair
from skdistill.plotting._base import COLOURS, GREY, one_axes, tidy


class ObjectiveVarianceDisplay:
    r"""How far the objective is from the risk, with labels and with soft labels.

    With :math:`N` rows and a fixed student, the mean loss over labels misses the risk
    by its variance :math:`V_1 / N`; the mean loss under the teacher's probabilities has
    the variance :math:`V_t / N`, smaller as a rule, and the squared bias :math:`b^2` of
    the teacher, which more rows do not reduce. The lines cross at :math:`N^* = (V_1 -
    V_t) / b^2`: up to there, soft labels alone are better than labels alone. Lemma 1
    and Eq. (7) of [Menon2021]_.

    Parameters
    ----------
    variance : ObjectiveVariance
        Variances for a single row, as :func:`skdistill.diagnostics.objective_variance`
        gives them with ``n_samples=1``.
    mixing : MixingDiagnostics or None, default=None
        Bias and break-even size of the teacher, as
        :func:`skdistill.diagnostics.mixing_diagnostics` gives them. None for true class
        probabilities, which have no bias.
    n_samples : array-like of shape (n_points,), default=None
        Numbers of rows to draw. None is 50 between 10 and 10,000.

    Attributes
    ----------
    squared_bias : float
        :math:`b^2`, reduced by its sampling error, and at least 0.
    one_hot_error, soft_error : ndarray of shape (n_points,)
        Mean squared errors with labels and with soft labels.
    lines_ : dict of str to matplotlib Line2D
        The lines, "one_hot", "soft" and "soft_variance".
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.

    Notes
    -----
    All of it holds at the student that is passed, for instance one trained on labels.
    It says how well the objective can be trusted there, not how good the student will
    be that minimises it. The bands are intervals of the variances.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.datasets import distort_proba, make_gaussians
    >>> from skdistill.plotting import ObjectiveVarianceDisplay
    >>> _, y, bayes_proba = make_gaussians(2000, random_state=0)
    >>> display = ObjectiveVarianceDisplay.from_predictions(
    ...     y, distort_proba(bayes_proba, 2.0), bayes_proba, n_samples=[10, 1000]
    ... )
    >>> display.soft_error < display.one_hot_error
    array([ True, False])
    """

    def __init__(
        self,
        variance: ObjectiveVariance,
        mixing: MixingDiagnostics | None = None,
        *,
        n_samples: ArrayLike | None = None,
    ) -> None:
        if variance.n_samples != 1:
            raise ValueError(
                "variance must be that of a single row, n_samples=1; got that of "
                f"{variance.n_samples} rows."
            )
        sizes = np.geomspace(10, 10_000) if n_samples is None else n_samples
        self.n_samples = np.asarray(sizes, dtype=np.float64)
        if self.n_samples.ndim != 1 or not (self.n_samples > 0).all():
            raise ValueError(f"n_samples must be positive numbers, got {n_samples!r}.")
        self.variance = variance
        self.mixing = mixing
        self.squared_bias = 0.0
        if mixing is not None:
            bias = mixing.bias
            square = float(bias.estimate**2 - bias.standard_error**2)
            self.squared_bias = max(square, 0.0)
        self.one_hot_error = variance.one_hot.estimate / self.n_samples
        self.soft_error = variance.soft.estimate / self.n_samples + self.squared_bias

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: InputLike,
        y: ArrayLike,
        *,
        teacher: Any,
        n_samples: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        ax: Any = None,
    ) -> ObjectiveVarianceDisplay:
        """Draw the errors at a fitted student, under a fitted teacher.

        Parameters
        ----------
        estimator : classifier
            The fitted student at which the objective is looked at.
        X : array-like of shape (n_samples, ...)
            Rows that neither student nor teacher was fitted on.
        y : array-like of shape (n_samples,)
            Their labels.
        teacher : classifier
            The fitted teacher.
        n_samples : array-like of shape (n_points,), default=None
            Numbers of rows to draw.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ObjectiveVarianceDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the data are unusable.
        """
        classes = np.asarray(estimator.classes_)
        teacher_proba, proba = (
            class_proba(model, X, classes)[0] for model in (teacher, estimator)
        )
        return cls.from_predictions(
            y,
            teacher_proba,
            proba,
            labels=classes,
            n_samples=n_samples,
            sample_weight=sample_weight,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike | None,
        soft_labels: ArrayLike,
        proba: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        n_samples: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        ax: Any = None,
    ) -> ObjectiveVarianceDisplay:
        """Draw the errors under soft labels.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or None
            Labels. None if `soft_labels` are the true class probabilities: then there
            is no bias, and the variance with labels follows from them.
        soft_labels : array-like of shape (n_samples, n_classes)
            Probabilities of a teacher that has not seen these labels.
        proba : array-like of shape (n_samples, n_classes)
            Probabilities of the student at which the objective is looked at.
        labels : array-like of shape (n_classes,), default=None
            The label of each column. None means the sorted values of `y_true`.
        n_samples : array-like of shape (n_points,), default=None
            Numbers of rows to draw.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ObjectiveVarianceDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the data are unusable.
        """
        soft_labels, proba = _check_pair(soft_labels, "soft_labels", proba, "proba")
        options: dict[str, Any] = {"labels": labels, "sample_weight": sample_weight}
        variance = objective_variance(
            soft_labels, proba, y=y_true, n_samples=1, **options
        )
        mixing = None
        if y_true is not None:
            mixing = mixing_diagnostics(y_true, soft_labels, proba, **options)
        return cls(variance, mixing, n_samples=n_samples).plot(ax=ax)

    def plot(self, ax: Any = None) -> ObjectiveVarianceDisplay:
        """Draw the errors, both axes logarithmic.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ObjectiveVarianceDisplay
            The display.
        """
        self.ax_ = one_axes(self, ax, (6.4, 4.4))
        self.figure_ = self.ax_.figure
        soft = self.variance.soft
        what = "true probabilities" if self.mixing is None else "the teacher"
        self.lines_ = {
            "one_hot": self._line(self.one_hot_error, COLOURS[1], "-", "labels"),
            "soft": self._line(self.soft_error, COLOURS[0], "-", what),
        }
        self._band(self.variance.one_hot, 0.0, COLOURS[1])
        self._band(soft, self.squared_bias, COLOURS[0])
        if self.squared_bias > 0:
            self.lines_["soft_variance"] = self._line(
                soft.estimate / self.n_samples, COLOURS[0], ":", f"{what}: variance"
            )
        self._mark_break_even()
        self.ax_.set(
            xscale="log",
            yscale="log",
            xlabel="number of rows N",
            ylabel="mean squared error of the objective (nats²)",
        )
        self.ax_.legend(framealpha=0.8, edgecolor="none")
        tidy(self.ax_)
        return self

    def _line(self, values: FloatArray, colour: str, style: str, name: str) -> Any:
        return self.ax_.plot(self.n_samples, values, style, color=colour, label=name)[0]

    def _band(self, interval: ConfidenceInterval, bias: float, colour: str) -> None:
        low, high = (b / self.n_samples + bias for b in (interval.low, interval.high))
        self.ax_.fill_between(self.n_samples, low, high, color=colour, alpha=0.2)

    def _mark_break_even(self) -> None:
        """Mark where the lines cross, if that is within the axes."""
        if self.mixing is None:
            return
        size = self.mixing.break_even.estimate
        if self.n_samples.min() <= size <= self.n_samples.max():
            self.ax_.axvline(
                size, color=GREY, linestyle="--", label=f"equal at N* = {size:,.0f}"
            )
