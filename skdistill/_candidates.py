"""The candidates of a search: checked, laid out in a table, and the best chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.model_selection import ParameterGrid
from sklearn.utils._param_validation import Interval

from skdistill._typing import FloatArray
from skdistill.students._base import BaseStudent

#: Mean scores that differ by no more than this share are equal: training in float32 is
#: not more exact.
TIE = 1e-6


@dataclass(frozen=True)
class Candidate:
    """A temperature, a mixing weight and parameters of the student.

    Attributes
    ----------
    temperature : float or "auto"
        The temperature.
    mixing_weight : float
        The mixing weight.
    student : int, default=0
        Which of the student's settings it has.
    student_params : dict
        These, by the names that the user gave them.
    """

    temperature: float | str
    mixing_weight: float
    student: int = 0
    student_params: dict[str, Any] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters by which a search names the candidate."""
        own = {f"student__{name}": v for name, v in self.student_params.items()}
        return {
            "temperature": self.temperature,
            "mixing_weight": self.mixing_weight,
            **own,
        }

    @property
    def key(self) -> tuple[int, Any, float]:
        """What candidates have in common that stand for the same student."""
        labels_only = self.mixing_weight == 0
        return (
            self.student,
            None if labels_only else self.temperature,
            self.mixing_weight,
        )


def make_candidates(
    temperatures: Any, mixing_weights: Any, student_grid: Mapping[str, Any] | None
) -> list[Candidate]:
    """Return the grid, temperatures first, after checking its values.

    Parameters
    ----------
    temperatures, mixing_weights : iterable
        Values to try.
    student_grid : dict of str to sequence or None
        Values of the student's parameters to try.

    Returns
    -------
    list of Candidate
        The candidates.

    Raises
    ------
    ValueError
        If a value is outside its range, or there is none.
    """
    temperature = _Values("temperatures", Interval(Real, 0, np.inf, closed="neither"))
    mixing = _Values("mixing_weights", Interval(Real, 0, 1, closed="both"))
    settings = list(ParameterGrid(_checked_grid(student_grid)))
    return [
        Candidate(t, float(a), i, params)
        for t, a, (i, params) in product(
            temperature.check(temperatures, ("auto",)),
            mixing.check(mixing_weights),
            enumerate(settings),
        )
    ]


@dataclass(frozen=True)
class _Values:
    """Checks the values of one axis of the grid."""

    name: str
    interval: Interval

    def check(self, values: Any, words: Sequence[str] = ()) -> list[Any]:
        values = list(values)
        allowed = f"{self.interval}" + "".join(f" or {word!r}" for word in words)
        if not values:
            raise ValueError(f"{self.name} must hold at least one value, got none.")
        for value in values:
            is_word = isinstance(value, str) and value in words
            if not is_word and not self.interval.is_satisfied_by(value):
                raise ValueError(
                    f"each of {self.name} must be {allowed}, got {value!r}."
                )
        return values


def _checked_grid(student_grid: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the student's grid, each axis of which must be a sequence of values."""
    checked = dict(student_grid or {})
    for name, values in checked.items():
        is_sequence = isinstance(values, (Sequence, np.ndarray))
        if (
            not is_sequence
            or isinstance(values, str)
            or getattr(values, "ndim", 1) == 0
        ):
            raise ValueError(
                f"student_grid[{name!r}] must be a list or an array of the values to "
                f"try, got {values!r}."
            )
        if len(values) == 0:
            raise ValueError(
                f"student_grid[{name!r}] must hold at least one value, got none."
            )
    return checked


def student_settings(
    student: BaseStudent, candidates: Sequence[Candidate], prefix: str
) -> list[dict[str, Any]]:
    """Return the parameters of each of the student's settings, as the student has them.

    Parameters
    ----------
    student : BaseStudent
        The unfitted student.
    candidates : sequence of Candidate
        The candidates.
    prefix : str
        What stands before the user's names in those of the student.

    Returns
    -------
    list of dict
        One for each setting.

    Raises
    ------
    ValueError
        If the student has no parameter of a name, or refuses a value.
    """
    by_setting = {c.student: c.student_params for c in candidates}
    known = student.get_params(deep=True)
    result = []
    for params in by_setting.values():
        for name in params:
            if f"{prefix}{name}" not in known:
                raise ValueError(_unknown_name(name, known, prefix))
        result.append({f"{prefix}{name}": value for name, value in params.items()})
    for params in result:
        changed = student._with(params)
        changed._validate_params()
        changed._before_fit()
    return result


def _unknown_name(name: str, known: Mapping[str, Any], prefix: str) -> str:
    names = sorted(n.removeprefix(prefix) for n in known if n.startswith(prefix))
    return (
        f"student_grid names {name!r}, but the student has no such parameter. It has "
        f"{', '.join(names)}."
    )


def choose(
    candidates: Sequence[Candidate], scores: FloatArray, one_standard_error: bool
) -> int:
    """Return the position of the candidate with the best mean score.

    Ties go to the smaller mixing weight: what labels alone can do needs no teacher.
    Students of equal objectives may differ by rounding: that is a tie, too.

    Parameters
    ----------
    candidates : sequence of Candidate
        The candidates.
    scores : ndarray of shape (n_candidates, n_folds)
        Their scores.
    one_standard_error : bool
        Whether a tie is what is within one standard error of the best.

    Returns
    -------
    int
        The position.

    Raises
    ------
    ValueError
        If all mean scores are NaN.
    """
    mean = scores.mean(axis=1)
    if np.isnan(mean).all():
        raise ValueError("No candidate can be chosen: scoring is NaN for each of them.")
    best = float(np.nanmax(mean))
    # Near an infinite score are its equals only.
    finite = np.isfinite(best)
    bound = best - TIE * abs(best) if finite else best
    if one_standard_error and finite:
        spread = scores[int(np.nanargmax(mean))]
        bound -= float(spread.std(ddof=1)) / len(spread) ** 0.5

    def simplicity(i: int) -> tuple[float, float]:
        temperature = candidates[i].temperature
        distance = abs(np.log(temperature)) if temperature != "auto" else 0.0
        return candidates[i].mixing_weight, float(distance)

    return min((int(i) for i in np.flatnonzero(mean >= bound)), key=simplicity)


def as_cv_results(
    candidates: Sequence[Candidate],
    scores: FloatArray,
    times: Mapping[str, FloatArray],
) -> dict[str, Any]:
    """Lay the scores out as GridSearchCV does.

    Parameters
    ----------
    candidates : sequence of Candidate
        The candidates.
    scores : ndarray of shape (n_candidates, n_folds)
        Their scores.
    times : dict of str to ndarray of shape (n_candidates, n_folds)
        Seconds, by name.

    Returns
    -------
    dict
        ``cv_results_``.
    """
    table: dict[str, Any] = {}
    for name, seconds in times.items():
        table[f"mean_{name}"] = seconds.mean(axis=1)
        table[f"std_{name}"] = seconds.std(axis=1)
    params = [candidate.params for candidate in candidates]
    for name in params[0]:
        column = _as_column([p[name] for p in params])
        table[f"param_{name}"] = np.ma.array(column, mask=False)
    table["params"] = params
    for i, of_fold in enumerate(scores.T):
        table[f"split{i}_test_score"] = of_fold
    mean = scores.mean(axis=1)
    table["mean_test_score"] = mean
    table["std_test_score"] = scores.std(axis=1)
    worst_last = np.nan_to_num(-mean, nan=np.inf)
    table["rank_test_score"] = rankdata(worst_last, method="min").astype(np.int32)
    return table


def _as_column(values: list[Any]) -> NDArray[Any]:
    """Return values as an array: of numbers where all are, else of objects."""
    try:
        inferred = np.array(values)
    except ValueError:  # sequences of several lengths
        inferred = np.empty((0, 0))
    if inferred.ndim == 1 and inferred.dtype.kind in "biuf":
        return inferred
    column: NDArray[Any] = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        column[i] = value
    return column
