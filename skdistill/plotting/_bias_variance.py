"""BiasVarianceDisplay: bias and variance of teachers, beside what students learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.metrics import check_scoring, log_loss, make_scorer
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import _safe_indexing, check_random_state, column_or_1d

from skdistill._scoring import check_teacher, class_proba, is_frozen
from skdistill._typing import Estimator, FloatArray, InputLike, IntArray
from skdistill.diagnostics import BiasVariance, teacher_bias_variance
from skdistill.plotting._base import (
    COLOURS,
    import_pyplot,
    score_name,
    several_axes,
    tidy,
)
from skdistill.students._resolve import as_student


class BiasVarianceDisplay:
    """Bias and variance of several teachers, and the quality of their students.

    The upper axes show the squared distance of each teacher from the true class
    probabilities, split into squared bias and variance over fits to new samples: the
    terms of Eq. (8) of [Menon2021]_. The lower ones show the score of the students that
    learn from it, with a bar of two standard errors. A teacher of more bias and less
    variance may be the better one.

    Parameters
    ----------
    parts : dict of str to BiasVariance
        Bias and variance of each teacher, by its name, in the order to draw.
    student_scores : dict of str to array-like of shape (n_fits,)
        Scores of the students of each fit of the teacher.
    score_name : str, default="score"
        Name of the score.
    with_label_noise : bool, default=False
        Whether the squared biases hold the noise of the labels, which is the same for
        all teachers; said on the axis.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (2,)
        The axes of the teachers and of the students.
    ax_ : matplotlib Axes
        The axes of the teachers.
    figure_ : matplotlib Figure
        The figure.
    lines_ : dict of str to matplotlib Line2D
        The lines, "squared_error", "squared_bias", "variance" and "student".

    See Also
    --------
    skdistill.diagnostics.teacher_bias_variance : The numbers of one teacher.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.plotting import BiasVarianceDisplay
    >>> teachers = {
    ...     "steady": [[[0.6, 0.4]], [[0.6, 0.4]]],
    ...     "erratic": [[[0.9, 0.1]], [[0.5, 0.5]]],
    ... }
    >>> display = BiasVarianceDisplay.from_predictions(
    ...     [[0.7, 0.3]], teachers, {"steady": [0.8, 0.8], "erratic": [0.7, 0.8]}
    ... )
    >>> round(display.parts["erratic"].variance, 2)
    0.16
    """

    def __init__(
        self,
        parts: Mapping[str, BiasVariance],
        student_scores: Mapping[str, ArrayLike],
        *,
        score_name: str = "score",
        with_label_noise: bool = False,
    ) -> None:
        self.parts = dict(parts)
        self.student_scores = {
            name: np.asarray(scores, dtype=np.float64)
            for name, scores in student_scores.items()
        }
        if list(self.parts) != list(self.student_scores) or not self.parts:
            raise ValueError(
                "student_scores must have the names of the teachers, "
                f"{list(self.parts)}, in their order; got {list(self.student_scores)}."
            )
        self.score_name = score_name
        self.with_label_noise = with_label_noise

    @classmethod
    def from_estimator(
        cls,
        teachers: Mapping[str, Estimator],
        X: InputLike,
        y: ArrayLike,
        X_test: InputLike,
        y_test: ArrayLike,
        *,
        student: Any = None,
        bayes_proba: ArrayLike | None = None,
        n_fits: int = 5,
        scoring: Any = "neg_log_loss",
        random_state: Any = None,
        ax: Any = None,
    ) -> BiasVarianceDisplay:
        """Fit teachers to separate parts of the rows, and students to the next part.

        Each teacher is fitted to each of `n_fits` disjoint parts of the rows, and so
        each time to rows drawn anew. The student of each of these learns from its
        probabilities for the next part, which it has not seen.

        Parameters
        ----------
        teachers : dict of str to estimator
            Unfitted teachers by name, in the order to draw, such as trees of growing
            depth. They are cloned.
        X : array-like of shape (n_samples, ...)
            Rows; each fit gets one part in `n_fits` of them.
        y : array-like of shape (n_samples,)
            Their labels.
        X_test : array-like of shape (n_test, ...)
            Other rows, on which bias, variance and students' scores are measured.
        y_test : array-like of shape (n_test,)
            Their labels.
        student : student, estimator, torch module or None, default=None
            As in :class:`skdistill.DistillationClassifier`.
        bayes_proba : array-like of shape (n_test, n_classes), default=None
            True class probabilities of the test rows. Without them the labels stand in
            for them, and the squared bias holds their noise.
        n_fits : int, default=5
            Number of parts, at least 2.
        scoring : str or callable, default="neg_log_loss"
            A scorer of the students; larger is better.
        random_state : int, RandomState instance or None, default=None
            Seed of the parts.
        ax : array-like of two matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        BiasVarianceDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If a teacher or the student is nothing that can be one.
        ValueError
            If a teacher is frozen, there are fewer than two parts, or a class has fewer
            rows than parts.
        """
        import_pyplot(cls)  # before the fits: they may take long
        _check_teachers(teachers)
        labels = column_or_1d(y)
        parts = _parts(labels, n_fits, random_state)
        classes = np.unique(labels)
        student = as_student(student)
        scorer = _scorer(student, scoring, classes)
        fits: dict[str, list[FloatArray]] = {name: [] for name in teachers}
        scores: dict[str, list[float]] = {name: [] for name in teachers}
        for name, teacher in teachers.items():
            for own, next_part in zip(parts, parts[1:] + parts[:1], strict=True):
                fitted = clone(teacher).fit(_safe_indexing(X, own), labels[own])
                fits[name].append(class_proba(fitted, X_test, classes)[0])
                rows = _safe_indexing(X, next_part)
                soft_labels = class_proba(fitted, rows, classes)[0]
                taught = clone(student).fit(
                    rows, labels[next_part], soft_labels=soft_labels
                )
                scores[name].append(float(scorer(taught, X_test, y_test)))
        return cls.from_predictions(
            y_test if bayes_proba is None else bayes_proba,
            fits,
            scores,
            labels=classes,
            score_name=score_name(scoring),
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        teacher_proba: Mapping[str, Any],
        student_scores: Mapping[str, ArrayLike],
        *,
        labels: ArrayLike | None = None,
        score_name: str = "score",
        ax: Any = None,
    ) -> BiasVarianceDisplay:
        """Draw bias and variance of fits that are at hand.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or (n_samples, n_classes)
            True class probabilities, or labels, with which the squared bias holds
            their noise.
        teacher_proba : dict of str to array-like of (n_fits, n_samples, n_classes)
            Probabilities of several fits of each teacher, to separate samples.
        student_scores : dict of str to array-like of shape (n_fits,)
            Scores of the students of each fit.
        labels : array-like of shape (n_classes,), default=None
            The label of each column. None means the sorted values of `y_true`.
        score_name : str, default="score"
            Name of the score.
        ax : array-like of two matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        BiasVarianceDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the names differ, or the data are unusable.
        """
        return cls(
            {
                name: teacher_bias_variance(fits, y_true, labels=labels)
                for name, fits in teacher_proba.items()
            },
            student_scores,
            score_name=score_name,
            with_label_noise=np.ndim(y_true) == 1 or np.shape(y_true)[1] == 1,
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> BiasVarianceDisplay:
        """Draw the teachers above their students.

        Parameters
        ----------
        ax : array-like of two matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        BiasVarianceDisplay
            The display.

        Raises
        ------
        ValueError
            If `ax` holds another number of axes.
        """
        names = list(self.parts)
        size = (max(4.8, 1.6 + 0.8 * len(names)), 6.0)
        self.axes_ = several_axes(self, ax, 2, size, nrows=2, sharex=True)
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self.lines_ = self._draw_teachers() | {"student": self._draw_students()}
        for one in self.axes_:
            one.set_xticks(range(len(names)), names)
            tidy(one)
        self.axes_[1].set_xlabel("teacher")
        return self

    def _draw_teachers(self) -> dict[str, Any]:
        """Draw squared error, squared bias and variance."""
        noise = " + label noise" if self.with_label_noise else ""
        looks = {
            "squared_error": (f"squared error{noise}", "#000000", "o-"),
            "squared_bias": (f"squared bias{noise}", COLOURS[5], "s--"),
            "variance": ("variance", COLOURS[4], "^:"),
        }
        at = range(len(self.parts))
        lines = {}
        for field, (label, colour, style) in looks.items():
            values = [getattr(parts, field) for parts in self.parts.values()]
            lines[field] = self.ax_.plot(at, values, style, color=colour, label=label)[
                0
            ]
        self.ax_.set_ylabel("distance of the teacher")
        self.ax_.legend(frameon=False)
        return lines

    def _draw_students(self) -> Any:
        """Draw the mean scores with two standard errors."""
        scores = self.student_scores.values()
        errors = [
            2 * s.std(ddof=1) / len(s) ** 0.5 if len(s) > 1 else 0.0 for s in scores
        ]
        drawn = self.axes_[1].errorbar(
            range(len(self.parts)),
            [s.mean() for s in scores],
            yerr=errors,
            color=COLOURS[0],
            marker="o",
            capsize=3,
        )
        self.axes_[1].set_ylabel(f"{self.score_name} of the student")
        return drawn.lines[0]


def _check_teachers(teachers: Any) -> None:
    """Raise unless all of them can be fitted to new rows."""
    if not isinstance(teachers, Mapping) or not teachers:
        raise ValueError(f"teachers must map names to teachers, got {teachers!r}.")
    for name, teacher in teachers.items():
        check_teacher(teacher)
        if is_frozen(teacher):
            raise ValueError(
                f"teachers[{name!r}] is frozen: its variance over training sets cannot "
                "be estimated, as it cannot be fitted anew."
            )


def _scorer(student: Any, scoring: Any, classes: NDArray[Any]) -> Any:
    """Return a scorer; the log-loss of test rows that lack a class knows of it."""
    if isinstance(scoring, str) and scoring == "neg_log_loss":
        return make_scorer(
            log_loss,
            greater_is_better=False,
            response_method="predict_proba",
            labels=classes,
        )
    return check_scoring(student, scoring)


def _parts(labels: NDArray[Any], n_fits: int, random_state: Any) -> list[IntArray]:
    """Return the rows of disjoint parts with the same class frequencies."""
    smallest = int(np.unique(labels, return_counts=True)[1].min())
    if not 2 <= n_fits <= smallest:
        raise ValueError(
            f"n_fits={n_fits!r} must be between 2 and {smallest}, the number of rows "
            "of the rarest class."
        )
    seed = check_random_state(random_state)
    folds = StratifiedKFold(n_fits, shuffle=True, random_state=seed)
    return [part for _, part in folds.split(labels, labels)]
