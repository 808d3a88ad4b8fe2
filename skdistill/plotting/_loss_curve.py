"""LossCurveDisplay: the loss of networks, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skdistill.plotting._base import GREY, colour_of, one_axes, tidy
from skdistill.students._gradient import GradientStudent


class LossCurveDisplay:
    """Training and held-out loss of one or several students, by epoch.

    A ring marks the epoch whose parameters were kept: with early stopping the one of
    the lowest held-out loss, else the last.

    Parameters
    ----------
    loss_curves : dict of str to array-like of shape (n_epochs,)
        Mean training loss of each epoch, by the student's name.
    validation_curves : dict of str to array-like of shape (n_epochs,), default=None
        Loss on the held-out rows, of the students that held some out.

    Attributes
    ----------
    kept_epochs : dict of str to int
        The epoch that was kept, counted from 1.
    lines_ : dict of str to list of matplotlib Line2D
        Training loss and, if there is one, held-out loss of each student.
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.

    Notes
    -----
    The loss is the student's objective, a cross-entropy with its own targets. It cannot
    fall below their entropy: a student of softer labels has a higher loss and may be
    the better one. Compare students by a score on the same labels.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdistill.plotting import LossCurveDisplay
    >>> from skdistill.students import MLPStudent
    >>> X, y = load_iris(return_X_y=True)
    >>> student = MLPStudent((8,), max_iter=20, early_stopping=False)
    >>> display = LossCurveDisplay.from_estimator(student.fit(X, y))
    >>> display.kept_epochs
    {'MLPStudent': 20}
    """

    def __init__(
        self,
        loss_curves: Mapping[str, ArrayLike],
        validation_curves: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        self.loss_curves = {k: np.asarray(v) for k, v in loss_curves.items()}
        held_out = validation_curves or {}
        self.validation_curves = {k: np.asarray(v) for k, v in held_out.items()}
        unknown = [name for name in held_out if name not in self.loss_curves]
        if unknown:
            raise ValueError(f"validation_curves has no loss_curves for {unknown}.")
        self.kept_epochs = {
            name: 1 + int(self.validation_curves[name].argmin())
            if name in self.validation_curves
            else len(curve)
            for name, curve in self.loss_curves.items()
        }

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, **kwargs: Any
    ) -> LossCurveDisplay:
        """Draw the loss curves of fitted students.

        Parameters
        ----------
        estimator : estimator, list of estimators, or dict of str to estimator
            Fitted students that were trained epoch by epoch
            (:class:`~skdistill.students.MLPStudent`,
            :class:`~skdistill.students.ModuleStudent`), pipelines that end in one, or
            classifiers that hold one as ``student_``. The keys of a dict are their
            names.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            Passed to :meth:`plot`.

        Returns
        -------
        LossCurveDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If one of them was not trained epoch by epoch.
        NotFittedError
            If one of them is not fitted.
        """
        students = {name: _student(one) for name, one in _named(estimator).items()}
        return cls(
            {name: student.loss_curve_ for name, student in students.items()},
            {
                name: -student.validation_scores_
                for name, student in students.items()
                if student.validation_scores_ is not None
            },
        ).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, log_scale: bool = False) -> LossCurveDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        log_scale : bool, default=False
            Whether the axis of the loss is logarithmic.

        Returns
        -------
        LossCurveDisplay
            The display.
        """
        self.ax_ = one_axes(self, ax, (6.4, 4.2))
        from matplotlib.ticker import MaxNLocator

        self.figure_ = self.ax_.figure
        self.lines_ = {
            name: self._draw(name, colour_of(i))
            for i, name in enumerate(self.loss_curves)
        }
        self.ax_.plot(
            [], [], "o", color=GREY, fillstyle="none", markersize=9, label="epoch kept"
        )
        if log_scale:
            self.ax_.set_yscale("log")
        self.ax_.set(xlabel="epoch", ylabel="loss (cross-entropy, nats)")
        locator = self.ax_.xaxis.get_major_locator()
        if isinstance(locator, MaxNLocator):  # not so on an axis with another scale
            locator.set_params(integer=True)
        self.ax_.legend(framealpha=0.8, edgecolor="none")
        tidy(self.ax_)
        return self

    def _draw(self, name: str, colour: str) -> list[Any]:
        """Draw the curves of one student, and the ring."""
        curves = {"training": (self.loss_curves[name], "-")}
        if name in self.validation_curves:
            curves["held-out rows"] = (self.validation_curves[name], "--")
        lines = [
            self.ax_.plot(
                np.arange(1, len(curve) + 1),
                curve,
                style,
                color=colour,
                label=f"{name}, {what}",
            )[0]
            for what, (curve, style) in curves.items()
        ]
        kept = self.kept_epochs[name]
        last = next(reversed(curves.values()))[0]
        self.ax_.plot(
            kept, last[kept - 1], "o", color=colour, fillstyle="none", markersize=9
        )
        return lines


def _named(estimator: Any) -> dict[str, Any]:
    """Return the estimators by name; numbered where they have the same."""
    if isinstance(estimator, Mapping):
        named = {str(name): one for name, one in estimator.items()}
    elif isinstance(estimator, Sequence):
        named = {f"{type(e).__name__} {i}": e for i, e in enumerate(estimator, 1)}
    else:
        named = {type(estimator).__name__: estimator}
    if not named:
        raise ValueError("estimator must hold at least one fitted student, got none.")
    return named


def _student(estimator: Any) -> Any:
    """Return the network behind a fitted estimator."""
    check_is_fitted(estimator)
    student = getattr(estimator, "student_", estimator)
    inner = getattr(student, "estimator_", student)
    last = inner.steps[-1][1] if isinstance(inner, Pipeline) else inner
    if not isinstance(last, GradientStudent):
        raise TypeError(
            f"{type(last).__name__} has no loss curve: only students that are trained "
            "epoch by epoch have one, MLPStudent and ModuleStudent."
        )
    return last
