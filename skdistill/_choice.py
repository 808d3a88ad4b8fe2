"""The choice between candidates, labels alone among them, by held-out labels."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from skdistill._calibration import fit_temperature
from skdistill._folds import Folds
from skdistill._labelled_rows import LabelledRows
from skdistill._one_student import pool_weight
from skdistill._rows import concatenate_rows
from skdistill._typing import FloatArray, InputLike, IntArray
from skdistill.losses import corrected_soft_labels, temper_proba
from skdistill.students._class_weight import reweighted_proba
from skdistill.students._problem import Problem, Terms, label_terms, objective_terms

#: Where soft labels come from.
LABELS, OUT_OF_FOLD, IN_SAMPLE, GIVEN = "labels", "out-of-fold", "in-sample", "given"
#: Those of the teacher and of students on the labels, out-of-fold, together.
MIXTURE = "mixture"

#: Mixing weights tried.
MIXING_WEIGHTS = (0.5, 1.0)

#: Held-out rows that are enough to judge by, and the fewest folds they come from.
JUDGED_ROWS, JUDGED_FOLDS = 4000, 2

#: A gain is acted upon if it exceeds this many standard errors,
SURE = 2.0
#: so many where another run of the student's training would not change it,
SETTLED = 1.0
#: or so many where it is what such candidates were found to give on other tables.
EXPECTED = 0.5

#: Probabilities are clipped here before the logarithm, as by scikit-learn's log_loss.
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Candidate:
    """A way to train the student.

    Attributes
    ----------
    source : {"labels", "out-of-fold", "in-sample", "given", "mixture"}
        Where the soft labels of the labelled rows come from.
    mixing_weight : float or tuple of float
        Their weight, or their weight for each class; 0 for labels.
    temperature : float or "auto"
        Temperature of soft labels.
    augmented : bool
        Whether synthetic rows are added.
    """

    source: str
    mixing_weight: float | tuple[float, ...]
    temperature: float | str = 1.0
    augmented: bool = False


ON_LABELS = Candidate(LABELS, 0.0)


def make_candidates(
    sources: Sequence[str],
    temperature: float | str | None,
    *,
    augmented: Container[str] = (),
) -> list[Candidate]:
    """Return the candidates, labels alone first.

    Parameters
    ----------
    sources : sequence of str
        Sources that there are.
    temperature : float, "auto" or None
        Temperature of the soft labels. None tries 1 and the fitted one; in-sample
        probabilities stay at 1, as no temperature can be fitted to them, and mixtures
        are at the fitted one.
    augmented : container of str, default=()
        Sources that are tried without and with synthetic rows.

    Returns
    -------
    list of Candidate
        Without repetitions.
    """
    result = [ON_LABELS]
    for added in (False, True):
        for source in sources:
            if added and source not in augmented:
                continue
            # Labels have had their say in a mixture; of synthetic rows there are none.
            weights = (1.0,) if added and source == MIXTURE else MIXING_WEIGHTS
            result += [
                Candidate(source, weight, value, added)
                for value, weight in product(
                    _temperatures(source, temperature), weights
                )
            ]
    return result


def _temperatures(source: str, temperature: float | str | None) -> list[float | str]:
    if source in (IN_SAMPLE, MIXTURE) and temperature in (None, "auto"):
        # A mean of calibrated probabilities is flatter than they are.
        return [1.0] if source == IN_SAMPLE else ["auto"]
    return [1.0, "auto"] if temperature is None else [temperature]


@dataclass(frozen=True)
class Material:
    """Rows to learn from, and all that candidates may learn from them.

    Attributes
    ----------
    rows : ndarray of shape (n_rows,)
        Positions among the labelled rows.
    proba : dict of str to ndarray of shape (n_rows, n_classes)
        Soft labels by source.
    added : tuple of (array-like, ndarray)
        Rows without labels and their probabilities: for all candidates with soft
        labels.
    synthetic : tuple of (array-like, ndarray)
        Likewise, for augmented candidates.
    """

    rows: IntArray
    proba: dict[str, FloatArray]
    added: tuple[tuple[InputLike, FloatArray], ...] = ()
    synthetic: tuple[tuple[InputLike, FloatArray], ...] = ()


@dataclass(frozen=True)
class Recipe:
    """Turns candidates and material into training problems.

    Attributes
    ----------
    labelled : LabelledRows
        The labelled rows.
    weight : ndarray of shape (n_labelled,)
        Their weights.
    student_temperature : float or "same"
        Temperature of the student's logits in the soft term.
    class_weight : ndarray of shape (n_classes,) or None
        Weights of the classes, in the objectives and where they are judged.
    corrected : bool
        Whether the soft labels of labelled rows are corrected by their labels.
    """

    labelled: LabelledRows
    weight: FloatArray
    student_temperature: float | str
    class_weight: FloatArray | None = None
    corrected: bool = False

    def problems(
        self, candidates: Sequence[Candidate], material: Material
    ) -> tuple[Problem, list[Terms]]:
        """Return the problem of candidates that share rows and weights.

        A row without a label has no hard term; what is left of its loss is the soft
        term times the mixing weight, so that is its weight.
        """
        rows = material.rows
        codes = self.labelled.codes[rows]
        parts, added_weights = self._weighed(candidates[0], material)
        X = _safe_indexing(self.labelled.X, rows)
        for added, _ in parts:
            X = concatenate_rows(X, added)
        extra = [proba for _, proba in parts]
        # The most probable class stands in for a label where rows are stratified.
        all_codes = np.concatenate([codes, *(proba.argmax(axis=1) for proba in extra)])
        weights = [self.weight[rows], *added_weights]
        classes = self.labelled.classes
        problem = Problem(
            X,
            classes[all_codes],
            all_codes,
            classes,
            np.concatenate(weights),
            (),
            labelled=np.arange(len(rows)),
            class_weight=self.class_weight,
        )
        return problem, [self._terms(c, material, codes, extra) for c in candidates]

    def shares(self, candidate: Candidate, material: Material) -> Any:
        """Return what candidates must have in common to be trained together."""
        parts = len(self._added(candidate, material))
        weights = candidate.mixing_weight, candidate.temperature
        return parts, weights[: 1 + isinstance(weights[0], tuple)] if parts else None

    def _weighed(
        self, candidate: Candidate, material: Material
    ) -> tuple[list[tuple[InputLike, FloatArray]], list[FloatArray]]:
        """Return the added rows of positive weight, and their weights.

        Synthetic rows weigh as the rows that they are made of do on average.
        """
        parts, weights = [], []
        mixing = candidate.mixing_weight
        by_class = isinstance(mixing, tuple)
        temperature = self.temperature(candidate, material) if by_class else 1.0
        for i, (X, proba) in enumerate(self._added(candidate, material)):
            weight = pool_weight(temper_proba(proba, temperature), mixing)
            if i >= len(material.added):
                weight = weight * self.weight[material.rows].mean()
            rows = np.flatnonzero(weight > 0)
            if len(rows) < len(weight):
                X, proba = _safe_indexing(X, rows), proba[rows]
            parts.append((X, proba))
            weights.append(weight[rows])
        return parts, weights

    def _added(
        self, candidate: Candidate, material: Material
    ) -> tuple[tuple[InputLike, FloatArray], ...]:
        if candidate.source == LABELS:
            return ()
        return material.added + (material.synthetic if candidate.augmented else ())

    def temperature(self, candidate: Candidate, material: Material) -> float:
        """Return a candidate's temperature as a number."""
        if candidate.temperature != "auto":
            return float(candidate.temperature)
        rows = material.rows
        return fit_temperature(
            self.labelled.codes[rows],
            material.proba[candidate.source],
            sample_weight=self.weight[rows],
        )

    def judged_weight(self, rows: IntArray) -> FloatArray:
        """Return the weights of rows that candidates are judged by."""
        weight = self.weight[rows]
        if self.class_weight is None:
            return weight
        return weight * self.class_weight[self.labelled.codes[rows]]

    def teacher_loss(self, rows: IntArray, proba: FloatArray) -> FloatArray:
        """Return the rows' losses by a teacher, at its best temperature.

        Where classes have weights it is asked, as the student is, for the
        probabilities at which the weighted log-loss is lowest.
        """
        codes = self.labelled.codes[rows]
        temperature = fit_temperature(codes, proba, sample_weight=self.weight[rows])
        losses = [
            row_log_loss(codes, reweighted_proba(p, self.class_weight))
            for p in (proba, temper_proba(proba, temperature))
        ]
        weight = self.judged_weight(rows)
        return min(losses, key=lambda loss: float(loss @ weight))

    def _terms(
        self,
        candidate: Candidate,
        material: Material,
        codes: IntArray,
        extra: list[FloatArray],
    ) -> Terms:
        if candidate.source == LABELS:
            return label_terms(codes, len(self.labelled.classes))
        temperature = self.temperature(candidate, material)
        soft = [
            temper_proba(proba, temperature)
            for proba in (material.proba[candidate.source], *extra)
        ]
        if self.corrected:
            own = material.proba[candidate.source]
            soft[0] = corrected_soft_labels(codes, own, temperature)
        same = self.student_temperature == "same"
        student_temperature = float(temperature if same else self.student_temperature)
        all_codes = np.concatenate([codes, *(p.argmax(axis=1) for p in extra)])
        own = np.atleast_1d(candidate.mixing_weight)
        mixing = np.ones((len(all_codes), len(own)))
        mixing[: len(codes)] = own
        return objective_terms(
            all_codes, np.concatenate(soft), mixing, student_temperature
        )


def row_log_loss(codes: IntArray, proba: FloatArray) -> FloatArray:
    """Return minus the log-probability of each label, clipped as by scikit-learn.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        Labels.
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities.

    Returns
    -------
    ndarray of shape (n_samples,)
        The losses.
    """
    picked = proba[np.arange(len(codes)), codes]
    loss: FloatArray = -np.log(np.clip(picked, EPS, 1.0))
    return loss


def gains(
    loss: FloatArray, weight: FloatArray, fold: IntArray
) -> tuple[FloatArray, FloatArray]:
    r"""Return what each candidate gains on the first one, and the standard error.

    With losses :math:`l_{ci}` of candidate c on row i, weights :math:`w_i` and
    :math:`g_{ci} = l_{0i} - l_{ci}`,

    .. math::

        \bar g_c = \frac{\sum_i w_i g_{ci}}{\sum_i w_i}, \qquad
        s_c^2 = \max_{n, u, h} \frac{n}{n - 1}
            \frac{\sum_j u_j^2 (h_{cj} - \bar g_c)^2}{\big(\sum_j u_j\big)^2}

    over the n rows, :math:`u = w` and :math:`h = g`, and over the n folds, where
    :math:`u_j` is the weight of a fold and :math:`h_{cj}` the mean of its gains. The
    students of a fold share what is random in their training: its rows do not tell
    what another run would have changed, but the other folds do.

    Parameters
    ----------
    loss : ndarray of shape (n_candidates, n_rows)
        Losses on held-out labels; labels alone first.
    weight : ndarray of shape (n_rows,)
        Weights of the rows.
    fold : ndarray of shape (n_rows,)
        Which fold a row is in: numbers from 0, none left out.

    Returns
    -------
    gain, standard_error : ndarray of shape (n_candidates,)
        Zero for the first.
    """
    gain = loss[0] - loss
    mean = gain @ (weight / weight.sum())
    member = fold == np.arange(fold.max() + 1)[:, None]
    fold_weight = member @ weight
    of_fold = (gain * weight) @ member.T / fold_weight
    over_rows = _standard_error(gain - mean[:, None], weight)
    over_folds = _standard_error(of_fold - mean[:, None], fold_weight)
    return mean, np.maximum(over_rows, over_folds)


def _standard_error(deviation: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the standard error of weighted means, from deviations of the mean."""
    n = len(weight)
    spread = deviation**2 @ (weight / weight.sum()) ** 2
    error: FloatArray = np.sqrt(spread * n / max(n - 1, 1))
    return error


def choose(
    gain: FloatArray, standard_error: FloatArray, burden: FloatArray | float = SURE
) -> int:
    r"""Return the candidate whose gain is surest.

    .. math:: \arg\max_{c \,:\, \bar g_c > b_c s_c} \; \bar g_c - s_c

    The first, labels alone, is chosen where there is no such c.

    Parameters
    ----------
    gain, standard_error : ndarray of shape (n_candidates,)
        As returned by :func:`gains`.
    burden : float or ndarray of shape (n_candidates,), default=2
        The burdens of proof b, in standard errors.

    Returns
    -------
    int
        Position of the candidate.
    """
    sure = gain > burden * standard_error
    sure[0] = False
    if not sure.any():
        return 0
    return int(np.argmax(np.where(sure, gain - standard_error, -np.inf)))


def burden_of_proof(
    candidates: Sequence[Candidate], *, settled: bool = False
) -> FloatArray:
    """Return how many standard errors each candidate has to gain on labels alone.

    Parameters
    ----------
    candidates : sequence of Candidate
        The candidates.
    settled : bool, default=False
        Whether training ends in the one minimum of its objective: what a candidate
        gains is then no luck of a run, of which held-out rows would not tell.

    Returns
    -------
    ndarray of shape (n_candidates,)
        Two, or one where training is settled; less for mixtures with synthetic rows,
        which seldom lost on the tables that this was settled by: they need not prove
        what a thousand rows cannot show.
    """
    expected = [c.source == MIXTURE and c.augmented for c in candidates]
    return np.where(expected, EXPECTED, SETTLED if settled else SURE)


def judged_folds(folds: Folds) -> list[int]:
    """Return the folds to judge by: all, or those that hold rows enough.

    Parameters
    ----------
    folds : list of (ndarray, ndarray)
        Training and test rows of each.

    Returns
    -------
    list of int
        Positions of the first folds.
    """
    held_out = np.cumsum([len(test) for _, test in folds])
    enough = int(np.searchsorted(held_out, JUDGED_ROWS)) + 1
    return list(range(min(len(folds), max(JUDGED_FOLDS, enough))))
