"""Choose a candidate by held-out labels; warn when the teacher cannot help."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skdistill._choice import (
    MIXTURE,
    ON_LABELS,
    Candidate,
    Recipe,
    burden_of_proof,
    choose,
    gains,
)
from skdistill._judging import Judgement, judge
from skdistill._material import Supply
from skdistill._mixture import fit_mixture_weights
from skdistill._own_students import own_students
from skdistill._typing import FloatArray, IntArray
from skdistill.students._base import BaseStudent

#: A teacher has diverged if its log-loss is this many times that of the frequencies.
DIVERGED = 1.05

#: Soft labels are the labels if their log-loss is this share of the student's.
BY_HEART = 0.01

#: A teacher has not helped in a mixture with no larger share than this, nor where it
#: lowers the log-loss of the frequencies by less: flat probabilities smooth others.
NO_SHARE, FLAT = 0.05, 0.02


@dataclass(frozen=True)
class Outcome:
    """What was chosen, and why.

    Attributes
    ----------
    candidates : sequence of Candidate
        Labels alone first.
    chosen : int
        Position of the candidate chosen.
    table : dict of str to ndarray
        One entry a candidate.
    n_epochs : sequence of int or None
        For how many epochs each is to be trained; None lets it find out.
    """

    candidates: Sequence[Candidate]
    chosen: int
    table: dict[str, Any]
    n_epochs: Sequence[int] | None = None

    @property
    def best(self) -> Candidate:  # numpydoc ignore=RT01
        """The candidate chosen."""
        return self.candidates[self.chosen]

    def epochs(self, position: int) -> int | None:
        """Return for how many epochs a candidate is to be trained, None if it decides.

        Parameters
        ----------
        position : int
            Of the candidate.

        Returns
        -------
        int or None
            Their number.
        """
        return None if self.n_epochs is None else self.n_epochs[position]


def decide(
    student: BaseStudent,
    recipe: Recipe,
    candidates: Sequence[Candidate],
    supply: Supply,
    n_jobs: int | None,
) -> Outcome:
    """Train the candidates on folds and choose by the labels of the others.

    Parameters
    ----------
    student : student
        Unfitted.
    recipe : Recipe
        Makes the problems.
    candidates : sequence of Candidate
        Labels alone first.
    supply : Supply
        Makes the material.
    n_jobs : int or None
        Folds worked on at the same time.

    Returns
    -------
    Outcome
        Labels alone, with a warning, where there are too few rows to choose.
    """
    if not supply.can_choose:
        return undecided(supply, "auto")
    folds = supply.fold_material()
    plain = [c for c in candidates if c.source != MIXTURE]
    judgement = judge(student, recipe, plain, folds, n_jobs)
    mixtures = [c for c in candidates if c.source == MIXTURE]
    if mixtures:
        n_epochs = None if judgement.n_epochs is None else judgement.n_epochs[0]
        own = own_students(
            student, recipe, supply.folds, supply.judged, n_epochs, n_jobs
        )
        folds = supply.mixed(recipe, folds, own)
        more = judge(student, recipe, mixtures, folds, n_jobs)
        judgement = judgement.followed_by(more)
        candidates = [*plain, *mixtures]
    tests = np.concatenate([test for _, test in folds])
    settled = student._ends_in_one_minimum()
    return conclude(recipe, candidates, supply, tests, judgement, settled=settled)


def undecided(supply: Supply, mode: str) -> Outcome:
    """Warn that there are too few rows or folds to choose by; take the labels alone.

    Parameters
    ----------
    supply : Supply
        Has the rows and the folds.
    mode : str
        The value of `mixing_weight`.

    Returns
    -------
    Outcome
        Labels alone.
    """
    n_rows, n_folds = len(supply.labelled.codes), len(supply.folds)
    warnings.warn(
        f"mixing_weight={mode!r} cannot choose by {n_rows} rows in {n_folds} folds of "
        "cv: it needs three folds, and two classes outside any two of them. The "
        "student learns from the labels alone. Pass more rows, a cv of more folds, or "
        "a number for mixing_weight to distil all the same.",
        UserWarning,
        stacklevel=2,
    )
    nothing = Judgement(
        np.zeros((1, 0)), np.zeros((1, 0), bool), np.zeros(0), np.zeros(0, int)
    )
    return Outcome([ON_LABELS], 0, _table([ON_LABELS], nothing, 0, [0.0]))


def conclude(
    recipe: Recipe,
    candidates: Sequence[Candidate],
    supply: Supply,
    tests: IntArray,
    judgement: Judgement,
    *,
    settled: bool,
) -> Outcome:
    """Take the candidate whose gain is surest; warn of a teacher that cannot help.

    Parameters
    ----------
    recipe : Recipe
        Has the rows.
    candidates : sequence of Candidate
        Labels alone first.
    supply : Supply
        Has the teacher's probabilities.
    tests : ndarray of shape (n_judged,)
        The rows judged by.
    judgement : Judgement
        Of all candidates.
    settled : bool
        As in `burden_of_proof`.

    Returns
    -------
    Outcome
        What is chosen.
    """
    gain, error = gains(judgement.loss, judgement.weight, judgement.fold)
    best = choose(gain, error, burden_of_proof(candidates, settled=settled))
    codes, teacher = recipe.labelled.codes[tests], supply.teacher_proba()
    report = _Report(
        judgement.loss[0],
        recipe.teacher_loss(tests, teacher),
        codes,
        judgement.weight,
        judgement.fold,
        has_seen=supply.given is not None,
    )
    shares = [supply.teacher_share(c.source) for c in candidates]
    helped = shares[best] > NO_SHARE
    if candidates[best].source == MIXTURE:
        helped &= _knows_something(codes, teacher, recipe.weight[tests])
    report.warn(supply.teacher_name, candidates[best], helped=helped)
    table = _table(candidates, judgement, best, shares)
    return Outcome(candidates, best, table, judgement.n_epochs)


@dataclass(frozen=True)
class _Report:
    """The losses of student and teacher on the same held-out labels."""

    student: FloatArray
    teacher: FloatArray
    codes: IntArray
    weight: FloatArray
    fold: IntArray
    has_seen: bool

    def warn(self, name: str, best: Candidate, *, helped: bool) -> None:
        """Warn, with the numbers, of a teacher that cannot help."""
        share = self.weight / self.weight.sum()
        chance = _frequency_loss(self.codes, share)
        teacher, student, frequencies = (
            float(loss @ share) for loss in (self.teacher, self.student, chance)
        )
        numbers = (
            f"log-loss of {name}, at its best temperature, {teacher:.3g}, of the "
            f"student on the labels {student:.3g}, of the class frequencies "
            f"{frequencies:.3g}"
        )
        # Of a frozen teacher, and of soft labels that were passed, it is not known.
        seen = "" if self.has_seen else ", on labels that it has not seen"
        problem = None
        if self.has_seen and teacher < BY_HEART * student:
            problem = (
                "The soft labels are the labels: what made them has learned these rows "
                f"by heart ({numbers}). There is nothing in them for a student. Use a "
                "teacher that is not frozen, so that it is cross-fitted, or soft "
                "labels for rows that it has not seen."
            )
        elif teacher > DIVERGED * frequencies and not helped:
            problem = (
                "The teacher's probabilities are worse than the class frequencies "
                f"({numbers}{seen}): it has diverged, or is "
                "wrong on purpose. Regularise it, stop it earlier, or check that its "
                "classes are in order."
            )
        elif self._is_worse() and not helped:
            problem = (
                "The teacher is worse than the student that it is to teach "
                f"({numbers}{seen}). Use a stronger or a "
                "calibrated teacher, or a smaller student."
            )
        if problem is not None:
            chosen = (
                " The student has learned from the labels alone."
                if best == ON_LABELS
                else " The student has learned from what others like it, on the labels "
                "alone, say of rows that they have not seen."
            )
            told = "" if helped else chosen
            warnings.warn(f"{problem}{told}", UserWarning, stacklevel=2)

    def _is_worse(self) -> bool:
        """Whether the teacher is worse than the student, by two standard errors."""
        losses = np.array([self.student, self.teacher])
        (_, gain), (_, error) = gains(losses, self.weight, self.fold)
        return bool(gain < -2 * error)


def _knows_something(codes: IntArray, teacher: FloatArray, weight: FloatArray) -> bool:
    """Whether a teacher has a part in a mixture by more than by being flat."""
    share = weight / weight.sum()
    frequency = np.bincount(codes, weights=share)
    picked = np.column_stack([teacher[np.arange(len(codes)), codes], frequency[codes]])
    mixed = -np.log(picked @ fit_mixture_weights(picked, weight)) @ share
    alone = -np.log(picked[:, 1]) @ share
    return bool(mixed < (1 - FLAT) * alone)


def _frequency_loss(codes: IntArray, share: FloatArray) -> FloatArray:
    """Return the rows' losses by the class frequencies."""
    frequency = np.bincount(codes, weights=share)
    loss: FloatArray = -np.log(frequency[codes])
    return loss


def _table(
    candidates: Sequence[Candidate],
    judgement: Judgement,
    best: int,
    teacher_shares: Sequence[float],
) -> dict[str, Any]:
    """Lay out one entry a candidate."""
    n = len(candidates)
    share = judgement.weight / judgement.weight.sum() if judgement.weight.size else None

    def mean(values: Any) -> FloatArray:
        return np.full(n, np.nan) if share is None else values @ share

    gain, error = (
        (np.full(n, np.nan),) * 2
        if share is None
        else gains(judgement.loss, judgement.weight, judgement.fold)
    )
    return {
        "source": np.array([c.source for c in candidates]),
        "mixing_weight": _column([c.mixing_weight for c in candidates]),
        "temperature": np.array([c.temperature for c in candidates], dtype=object),
        "augmented": np.array([c.augmented for c in candidates]),
        "teacher_share": np.array(teacher_shares),
        "log_loss": mean(judgement.loss),
        "accuracy": mean(judgement.hit),
        "gain": gain,
        "gain_standard_error": error,
        "chosen": np.arange(n) == best,
    }


def _column(weights: Sequence[float | tuple[float, ...]]) -> Any:
    """Return numbers, or objects where some are one for each class."""
    if all(isinstance(weight, float) for weight in weights):
        return np.array(weights)
    column = np.empty(len(weights), dtype=object)
    for i, weight in enumerate(weights):
        column[i] = np.array(weight) if isinstance(weight, tuple) else weight
    return column
