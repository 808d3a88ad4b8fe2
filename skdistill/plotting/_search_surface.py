"""SearchSurfaceDisplay: scores of a search over temperature and mixing weight."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skdistill.plotting._base import one_axes, score_name


class SearchSurfaceDisplay:
    """Scores of a :class:`skdistill.DistillationClassifierCV`, over its grid.

    The candidate that was chosen is framed. A dot marks the candidates whose mean score
    is within one standard error of the best: the folds do not tell them apart from it,
    and ``one_standard_error=True`` would take the leftmost of them. In the column of
    mixing weight 0, the student on labels, the temperature does not matter.

    Parameters
    ----------
    scores : ndarray of shape (n_temperatures, n_mixing_weights, n_folds)
        Scores of the candidates; larger is better.
    temperatures : sequence of float or "auto"
        Temperatures, the rows of the surface.
    mixing_weights : sequence of float
        Mixing weights, the columns of the surface.
    chosen : tuple of int or None, default=None
        Row and column of the candidate that was chosen. None is the best mean score.
    score_name : str, default="score"
        Name of the score.

    Attributes
    ----------
    mean_scores : ndarray of shape (n_temperatures, n_mixing_weights)
        Means over the folds.
    near_best : ndarray of shape (n_temperatures, n_mixing_weights)
        Whether a mean is within one standard error of the best; with a single fold, no
        other is.
    image_ : matplotlib AxesImage
        The surface.
    text_ : ndarray of matplotlib Text
        Its values.
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skdistill import DistillationClassifierCV
    >>> from skdistill.plotting import SearchSurfaceDisplay
    >>> from skdistill.students import LinearStudent
    >>> X, y = load_iris(return_X_y=True)
    >>> search = DistillationClassifierCV(
    ...     GaussianNB(), LinearStudent(), temperatures=[1.0, "auto"], cv=3
    ... )
    >>> display = SearchSurfaceDisplay.from_estimator(search.fit(X, y))
    >>> display.mean_scores.shape
    (2, 5)
    """

    def __init__(
        self,
        scores: ArrayLike,
        temperatures: Any,
        mixing_weights: Any,
        *,
        chosen: tuple[int, int] | None = None,
        score_name: str = "score",
    ) -> None:
        self.scores = np.asarray(scores, dtype=np.float64)
        self.temperatures = list(temperatures)
        self.mixing_weights = list(mixing_weights)
        shape = (len(self.temperatures), len(self.mixing_weights))
        if self.scores.ndim != 3 or self.scores.shape[:2] != shape:
            raise ValueError(
                "scores must have shape (n_temperatures, n_mixing_weights, n_folds) = "
                f"({shape[0]}, {shape[1]}, n_folds), got {self.scores.shape}."
            )
        self.mean_scores = self.scores.mean(axis=2)
        if np.isnan(self.mean_scores).all():
            raise ValueError("scores must hold a mean that is not NaN; all are.")
        best = np.unravel_index(np.nanargmax(self.mean_scores), shape)
        self.chosen = (int(best[0]), int(best[1])) if chosen is None else chosen
        n_folds = self.scores.shape[2]
        error = self.scores[best].std(ddof=1) / n_folds**0.5 if n_folds > 1 else 0.0
        self.near_best = self.mean_scores >= self.mean_scores[best] - error
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, **kwargs: Any
    ) -> SearchSurfaceDisplay:
        """Draw the surface of a fitted search.

        Parameters
        ----------
        estimator : DistillationClassifierCV
            A fitted search; of one with `student_grid` the student's parameters are
            those chosen.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            Passed to :meth:`plot`.

        Returns
        -------
        SearchSurfaceDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If `estimator` is no such search.
        NotFittedError
            If it is not fitted.
        """
        if not hasattr(estimator, "mixing_weights"):
            raise TypeError(
                "estimator must be a DistillationClassifierCV, got "
                f"{type(estimator).__name__}."
            )
        check_is_fitted(estimator)
        temperatures = list(estimator.temperatures)
        mixing_weights = list(estimator.mixing_weights)
        scores = estimator.scores_
        row, column, *student = np.unravel_index(
            int(estimator.best_index_), scores.shape[:-1]
        )
        display = cls(
            scores[:, :, int(student[0])] if student else scores,
            temperatures,
            mixing_weights,
            chosen=(int(row), int(column)),
            score_name=score_name(estimator.scoring),
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        cmap: Any = "cividis",
        values_format: str | None = ".3f",
        colorbar: bool = True,
    ) -> SearchSurfaceDisplay:
        """Draw the surface.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        cmap : str or matplotlib Colormap, default="cividis"
            Colours.
        values_format : str or None, default=".3f"
            Format of the mean scores that are written into the cells; None writes none.
        colorbar : bool, default=True
            Whether to draw the scale of the colours.

        Returns
        -------
        SearchSurfaceDisplay
            The display.
        """
        n_rows, n_columns = self.mean_scores.shape
        size = (2.2 + 0.85 * n_columns, 1.6 + 0.55 * n_rows)
        self.ax_ = one_axes(self, ax, size)
        self.figure_ = self.ax_.figure
        self.image_ = self.ax_.imshow(
            self.mean_scores, cmap=cmap, aspect="auto", origin="lower"
        )
        self.ax_.set_xticks(range(n_columns), [f"{a:g}" for a in self.mixing_weights])
        self.ax_.set_yticks(range(n_rows), [_written(t) for t in self.temperatures])
        self.ax_.set(xlabel="mixing weight", ylabel="temperature")
        self._write_cells(values_format)
        self._frame_chosen()
        self.ax_.set_title(
            "framed: chosen; dots: within one standard error of the best",
            fontsize="small",
        )
        if colorbar:
            self.figure_.colorbar(
                self.image_, ax=self.ax_, label=f"{self.score_name}, higher is better"
            )
        return self

    def _write_cells(self, values_format: str | None) -> None:
        """Write the values, and a dot beside those that are near the best."""
        self.text_ = np.empty(self.mean_scores.shape, dtype=object)
        for (i, j), value in np.ndenumerate(self.mean_scores):
            written = "" if values_format is None else format(value, values_format)
            dot = "•" if self.near_best[i, j] else ""
            self.text_[i, j] = self.ax_.text(
                j,
                i,
                f"{written}\n{dot}" if dot and written else written or dot,
                ha="center",
                va="center",
                linespacing=0.8,
                color=self._contrast(value),
            )

    def _contrast(self, value: float) -> str:
        """Return black on light cells and white on dark ones."""
        red, green, blue, _ = self.image_.cmap(self.image_.norm(value))
        return "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"

    def _frame_chosen(self) -> None:
        from matplotlib.patches import Rectangle

        row, column = self.chosen
        self.ax_.add_patch(
            Rectangle(
                (column - 0.47, row - 0.47),
                0.94,
                0.94,
                fill=False,
                edgecolor="#D55E00",
                linewidth=2.5,
            )
        )


def _written(temperature: float | str) -> str:
    return temperature if isinstance(temperature, str) else f"{temperature:g}"
