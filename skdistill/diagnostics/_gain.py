"""Whether distilling from a teacher helps: cross-validated gain and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student_t
from sklearn.base import clone
from sklearn.model_selection import RepeatedStratifiedKFold, check_cv
from sklearn.utils.parallel import Parallel, delayed

from skdistill._arguments import is_scalar_number, is_word
from skdistill._distillation import DistillationClassifier
from skdistill._folds import DEFAULT_FOLDS, Folds, check_part, of_present_rows
from skdistill._intervals import (
    ConfidenceInterval,
    check_level,
    corrected_resampled_interval,
    format_number,
)
from skdistill._labelled_rows import TrainingRows
from skdistill._scoring import class_proba
from skdistill._typing import FloatArray, InputLike
from skdistill._validation import fold_positions
from skdistill.diagnostics._cross_fit import check_rows, present_rows
from skdistill.diagnostics._render import flat, html_table, text_table, to_frame
from skdistill.metrics import soft_log_loss

_CRITERIA = {"log_loss": "log-loss", "accuracy": "accuracy"}
#: Repeats of cv=None.
_REPEATS = 3
#: More splits than this are not proposed.
_MANY_SPLITS = 1000


@dataclass(frozen=True)
class DistillationGain:
    """Gain of a distilled student over the same student trained on labels.

    Attributes
    ----------
    log_loss : ConfidenceInterval
        Log-loss of the student on labels less that of the distilled one: above 0 if
        distilling helps.
    accuracy : ConfidenceInterval
        Accuracy of the distilled student less that of the one on labels.
    scores : dict of ndarray of shape (n_splits,)
        ``"log_loss_labels"``, ``"log_loss_distilled"``, ``"accuracy_labels"`` and
        ``"accuracy_distilled"`` of each split.
    n_train, n_test : float
        Mean numbers of training and test rows of a split.
    criterion : {"log_loss", "accuracy"}
        Score that the verdict is about.
    min_gain : float
        Smallest gain that counts as help.

    See Also
    --------
    distillation_gain : Makes one.
    """

    log_loss: ConfidenceInterval
    accuracy: ConfidenceInterval
    scores: dict[str, FloatArray]
    n_train: float
    n_test: float
    criterion: str
    min_gain: float

    @property
    def gain(self) -> ConfidenceInterval:
        """The gain that the verdict is about.

        Returns
        -------
        ConfidenceInterval
            That of the criterion.
        """
        return self.log_loss if self.criterion == "log_loss" else self.accuracy

    @property
    def verdict(self) -> str:
        """What the interval of the gain says.

        Returns
        -------
        str
            "helps" if the whole interval is above `min_gain`, "does not help" if it is
            not above it anywhere, else "cannot tell".
        """
        if self.gain.low > self.min_gain:
            return "helps"
        return "does not help" if self.gain.high <= self.min_gain else "cannot tell"

    @property
    def n_samples_needed(self) -> float:
        r"""Number of rows that it would take to tell.

        The length of the interval falls with the square root of the number of rows, so
        with gain :math:`\bar d`, smallest gain :math:`d_0` and half length :math:`h` at
        :math:`n` rows it takes :math:`n\, h^2 / (\bar d - d_0)^2`, as long as the gain
        stays as it is; as a rule it becomes smaller.

        Returns
        -------
        float
            Number of rows of the whole sample; that of this one or less if it can tell,
            infinite if the gain is just `min_gain`.
        """
        distance = abs(self.gain.estimate - self.min_gain)
        n_samples = self.n_train + self.n_test
        if self.verdict != "cannot tell":
            return n_samples
        half = self.gain.high - self.gain.estimate
        if distance == 0:
            return np.inf
        return float(np.ceil(n_samples * (half / distance) ** 2))

    @property
    def n_splits_needed(self) -> float:
        """Number of splits of these rows that it would take to tell.

        Returns
        -------
        float
            Infinite if no number of splits would do, since they share the rows.
        """
        distance = abs(self.gain.estimate - self.min_gain)
        if self.verdict != "cannot tell":
            return float(len(self.scores["log_loss_labels"]))
        splits = np.arange(2, _MANY_SPLITS + 1)
        df = _degrees_of_freedom(splits, self.n_test)
        errors = self._spread() * np.sqrt(1 / splits + self.n_test / self.n_train)
        enough = student_t.ppf((1 + self.gain.level) / 2, df) * errors < distance
        return float(splits[enough.argmax()]) if enough.any() else np.inf

    def _spread(self) -> float:
        """Return the standard deviation of the gain over the splits."""
        n_splits = len(self.scores["log_loss_labels"])
        correction = np.sqrt(1 / n_splits + self.n_test / self.n_train)
        return self.gain.standard_error / correction

    def explain(self) -> str:
        """Say the verdict in plain words, and if there is none, what it would take.

        Returns
        -------
        str
            A few sentences.
        """
        name = _CRITERIA[self.criterion]
        beyond = f" by {self.min_gain:g} or more" if self.min_gain else ""
        wrong = f"{(1 - self.gain.level) / 2:.2g}"
        gain = f"expected gain in {name} {self.gain}"
        if self.verdict == "helps":
            return (
                f"Distilling helps{beyond}: {gain}. Such a claim is wrong with a "
                f"probability of {wrong} at most."
            )
        if self.verdict == "does not help":
            return (
                f"Distilling does not help{beyond}: {gain}. Such a claim is wrong with "
                f"a probability of {wrong} at most."
            )
        return f"Cannot tell whether distilling helps{beyond}: {gain}. {self._needs()}"

    def _needs(self) -> str:
        rows = self.n_samples_needed
        if np.isinf(rows):
            return "With a gain of just the smallest that counts, no data could tell."
        text = (
            f"If the gain stayed as it is, about {rows:,.0f} rows would tell, instead "
            f"of {self.n_train + self.n_test:,.0f}"
        )
        if np.isfinite(self.n_splits_needed):
            return f"{text}, or {self.n_splits_needed:.0f} splits of these."
        return f"{text}; more splits of these would not."

    def to_dict(self) -> dict[str, Any]:
        """Return verdict and numbers.

        Returns
        -------
        dict
            An interval is three numbers, the estimate and, ending in ``_low`` and
            ``_high``, its ends.
        """
        return {
            "verdict": self.verdict,
            **flat("gain_log_loss", self.log_loss),
            **flat("gain_accuracy", self.accuracy),
            "level": self.log_loss.level,
            "n_train": self.n_train,
            "n_test": self.n_test,
            "n_samples_needed": self.n_samples_needed,
            "n_splits_needed": self.n_splits_needed,
        }

    def to_frame(self) -> Any:
        """Return a data frame of the scores, with one row a split.

        Returns
        -------
        pandas.DataFrame
            The columns of `scores`.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        n_splits = len(self.scores["log_loss_labels"])
        records = [
            {"split": j, **{name: float(v[j]) for name, v in self.scores.items()}}
            for j in range(n_splits)
        ]
        return to_frame(records, "split")

    def _title(self) -> str:
        n_splits = len(self.scores["log_loss_labels"])
        return (
            f"Gain over the student on labels, {n_splits} splits with "
            f"{self.n_train:,.0f} training rows; intervals at "
            f"{100 * self.log_loss.level:g}%"
        )

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        headers = ["score", "labels", "distilled", "gain"]
        rows: list[list[Any]] = [
            [
                text,
                format_number(self.scores[f"{name}_labels"].mean()),
                format_number(self.scores[f"{name}_distilled"].mean()),
                self.log_loss if name == "log_loss" else self.accuracy,
            ]
            for name, text in _CRITERIA.items()
        ]
        return headers, rows

    def __str__(self) -> str:
        parts = [self._title(), "", text_table(*self._table()), "", self.explain()]
        return "\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._title(), *self._table(), [self.explain()])


def gain_from_scores(
    scores: dict[str, ArrayLike],
    *,
    n_train: float,
    n_test: float,
    criterion: str = "log_loss",
    min_gain: float = 0.0,
    level: float = 0.9,
) -> DistillationGain:
    """Put the scores of two students on the same splits together.

    What :func:`distillation_gain` does once the students are trained; for scores that
    were computed elsewhere.

    Parameters
    ----------
    scores : dict of array-like of shape (n_splits,)
        ``"log_loss_labels"``, ``"log_loss_distilled"``, ``"accuracy_labels"`` and
        ``"accuracy_distilled"`` of each split.
    n_train, n_test : float
        Numbers of training and test rows of a split.
    criterion : {"log_loss", "accuracy"}, default="log_loss"
        Score that the verdict is about.
    min_gain : float, default=0.0
        Smallest gain that counts as help.
    level : float, default=0.9
        Confidence level of the intervals.

    Returns
    -------
    gain : DistillationGain
        Intervals and verdict.

    Raises
    ------
    ValueError
        If a score is missing or not finite, the scores are not of as many splits, there
        are fewer than two, or a parameter is out of its range.

    Examples
    --------
    >>> from skdistill.diagnostics import gain_from_scores
    >>> gain_from_scores(
    ...     {
    ...         "log_loss_labels": [0.50, 0.52, 0.48, 0.51, 0.49],
    ...         "log_loss_distilled": [0.40, 0.43, 0.37, 0.42, 0.38],
    ...         "accuracy_labels": [0.8, 0.8, 0.9, 0.8, 0.8],
    ...         "accuracy_distilled": [0.8, 0.9, 0.9, 0.8, 0.8],
    ...     },
    ...     n_train=80,
    ...     n_test=20,
    ... ).verdict
    'helps'
    """
    level = check_level(level)
    _check_verdict_options(criterion, min_gain)
    for name, n_rows in (("n_train", n_train), ("n_test", n_test)):
        if not is_scalar_number(n_rows) or not 0 < n_rows < np.inf:
            raise ValueError(f"{name}={n_rows!r} must be a number of rows above 0.")
    names = [f"{name}_{who}" for name in _CRITERIA for who in ("labels", "distilled")]
    if not isinstance(scores, Mapping) or set(scores) != set(names):
        got = list(scores) if isinstance(scores, Mapping) else repr(scores)
        raise ValueError(f"scores must be a dict with the keys {names}, got {got}.")
    arrays: dict[str, FloatArray] = {
        name: np.asarray(scores[name], dtype=np.float64) for name in names
    }
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            "scores must hold one number for each split under each key, got shapes "
            f"{shapes}."
        )
    options = {"n_train": n_train, "n_test": n_test, "level": level}
    return DistillationGain(
        _interval(arrays["log_loss_labels"] - arrays["log_loss_distilled"], **options),
        _interval(arrays["accuracy_distilled"] - arrays["accuracy_labels"], **options),
        arrays,
        float(n_train),
        float(n_test),
        criterion,
        float(min_gain),
    )


def _interval(
    differences: FloatArray, *, n_train: float, n_test: float, level: float
) -> ConfidenceInterval:
    df = _degrees_of_freedom(len(differences), n_test)
    return corrected_resampled_interval(
        differences, n_test / n_train, df=df, level=level
    )


def _degrees_of_freedom(n_splits: Any, n_test: float) -> Any:
    """Return fewer than the splits have where each scores few rows.

    The means of few rows are skewed, and small where their spread is: with 8 test rows
    and the usual degrees of freedom, a claim was wrong in 8 % of simulated cases in the
    place of 5 %, see the benchmark of coverage.
    """
    return np.maximum(np.minimum(n_splits, n_test / 4) - 1, 1)


def distillation_gain(
    student: Any,
    teacher: Any,
    X: InputLike,
    y: Any,
    cv: Any = None,
    *,
    sample_weight: Any = None,
    temperature: float | str | None = 1.0,
    mixing_weight: Any = 0.5,
    student_temperature: float | str = 1.0,
    teacher_cv: Any = None,
    criterion: str = "log_loss",
    min_gain: float = 0.0,
    level: float = 0.9,
    memory: Any = None,
    n_jobs: int | None = None,
    random_state: Any = None,
) -> DistillationGain:
    r"""Say whether a student that is distilled beats the same student on labels.

    On each split of a cross-validation the student is trained twice on the training
    rows, on the labels and by :class:`~skdistill.DistillationClassifier`, whose teacher
    is cross-fitted within them, and both are scored on the test rows. The differences
    :math:`d_j` over :math:`J` splits give the interval of [Nadeau2003]_,

    .. math::
        \bar d \pm t \sqrt{\Bigl(\frac1J + \frac{n_2}{n_1}\Bigr) s^2},

    see :func:`corrected_resampled_interval`, here with :math:`\min(J, n_2 / 4) - 1`
    degrees of freedom. The verdict is "helps" or "does not help" if the interval is on
    one side of `min_gain`, and else "cannot tell", with what it would take. At the
    level of 0.9 a claim is wrong with a probability of 0.05 at most.

    Parameters
    ----------
    student, teacher : object
        As in :class:`~skdistill.DistillationClassifier`. A frozen teacher must not
        have seen these rows, or the gain is too good.
    X : array-like of shape (n_samples, ...)
        Inputs.
    y : array-like of shape (n_samples,)
        Class labels.
    cv : int, splitter, iterable or None, default=None
        Splits, two at least. None is 5 stratified folds, repeated 3 times.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights, for fits and scores. Rows of weight 0 are as if absent.
    temperature : float, "auto" or None, default=1.0
        As in :class:`~skdistill.DistillationClassifier`.
    mixing_weight : float, array-like, "auto" or "per-class", default=0.5
        As in :class:`~skdistill.DistillationClassifier`, whose default is "auto": that
        is chosen anew on the training rows of each split, and takes its time there.
    student_temperature : float or "same", default=1.0
        As in :class:`~skdistill.DistillationClassifier`.
    teacher_cv : int, splitter, iterable, "in-sample" or None, default=None
        How soft labels are made within the training rows, `cv` there.
    criterion : {"log_loss", "accuracy"}, default="log_loss"
        Score that the verdict is about. Gains are differences such that above 0 is
        better.
    min_gain : float, default=0.0
        Smallest gain that counts as help. With 0, no finite sample can say that
        distilling makes no difference; with what a gain has to be worth, it can say
        that it does not help.
    level : float, default=0.9
        Confidence level of the intervals.
    memory : str, joblib.Memory or None, default=None
        Cache of the soft-label stage.
    n_jobs : int or None, default=None
        Splits at the same time.
    random_state : int, RandomState instance or None, default=None
        Seed of the splits of ``cv=None``, and of the default teacher and student.

    Returns
    -------
    gain : DistillationGain
        Printed it is a table and the verdict.

    Raises
    ------
    TypeError
        If teacher or student is nothing that can be one.
    ValueError
        If the data is unusable, there are fewer than two splits, or a parameter is out
        of its range.

    Notes
    -----
    The gain is that for training sets of the size of the splits' training rows. It
    falls with the number of rows, and whether it is above 0 may change: a teacher that
    helps 100 rows can hurt 10,000.

    References
    ----------
    .. [Nadeau2003] Nadeau and Bengio, "Inference for the generalization error",
       Machine Learning 52:239-281, 2003.

    Examples
    --------
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skdistill.datasets import make_gaussians
    >>> from skdistill.diagnostics import distillation_gain
    >>> X, y, _ = make_gaussians(200, random_state=0)
    >>> student = DecisionTreeClassifier(max_depth=4, random_state=0)
    >>> gain = distillation_gain(student, GaussianNB(), X, y, mixing_weight=1.0)
    >>> gain.verdict
    'helps'
    """
    check_level(level)
    _check_verdict_options(criterion, min_gain)
    passed = check_rows(X, y, sample_weight)
    splits = _splits(cv, passed, random_state)
    rows, _ = present_rows(passed)
    distiller = DistillationClassifier(
        teacher,
        student,
        temperature=temperature,
        mixing_weight=mixing_weight,
        student_temperature=student_temperature,
        cv=teacher_cv,
        memory=memory,
        random_state=random_state,
    )
    found = Parallel(n_jobs=n_jobs)(
        delayed(_score_split)(distiller, rows, train, test) for train, test in splits
    )
    return gain_from_scores(
        {name: np.array([one[name] for one in found]) for name in found[0]},
        n_train=float(np.mean([len(train) for train, _ in splits])),
        n_test=float(np.mean([len(test) for _, test in splits])),
        criterion=criterion,
        min_gain=min_gain,
        level=level,
    )


def _check_verdict_options(criterion: str, min_gain: float) -> None:
    if not is_word(criterion, _CRITERIA):
        raise ValueError(f"criterion={criterion!r} must be 'log_loss' or 'accuracy'.")
    number = is_scalar_number(min_gain)
    if not number or not 0 <= min_gain < np.inf:
        raise ValueError(f"min_gain={min_gain!r} must be a number of at least 0.")


def _splits(cv: Any, passed: TrainingRows, random_state: Any) -> Folds:
    """Return training and test rows of each split, among those of positive weight."""
    rows = passed.labelled({}, {})
    if cv is None:
        cv = RepeatedStratifiedKFold(
            n_splits=DEFAULT_FOLDS, n_repeats=_REPEATS, random_state=random_state
        )
    cv = of_present_rows(cv, rows.position)
    found = check_cv(cv, rows.codes, classifier=True).split(rows.X, rows.codes)
    splits = fold_positions(found, np.arange(len(rows.codes)))
    if len(splits) < 2:
        raise ValueError(f"cv makes {len(splits)} splits, but at least 2 are needed.")
    for i, (train, _) in enumerate(splits):
        check_part(train, i, "training")
    return splits


def _score_split(
    distiller: DistillationClassifier, rows: TrainingRows, train: Any, test: Any
) -> dict[str, float]:
    """Train both students on one part of the rows, and score them on another."""
    learned, held_out = rows.take(train), rows.take(test)
    on_labels = clone(distiller).set_params(mixing_weight=0.0, temperature=1.0)
    scores: dict[str, float] = {}
    for who, classifier in (("labels", on_labels), ("distilled", clone(distiller))):
        classifier.fit(learned.X, learned.y, sample_weight=learned.weight)
        proba, _ = class_proba(classifier, held_out.X, rows.classes)
        for name, score in _SCORES.items():
            scores[f"{name}_{who}"] = score(held_out, proba)
    return scores


def _log_loss(rows: TrainingRows, proba: FloatArray) -> float:
    one_hot = np.eye(len(rows.classes))[rows.codes]
    return soft_log_loss(one_hot, proba, sample_weight=rows.weight)


def _accuracy(rows: TrainingRows, proba: FloatArray) -> float:
    right = proba.argmax(axis=1) == rows.codes
    return float(np.average(right, weights=rows.weight))


_SCORES: dict[str, Callable[[TrainingRows, FloatArray], float]] = {
    "log_loss": _log_loss,
    "accuracy": _accuracy,
}
