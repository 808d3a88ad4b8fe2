"""What a student is fitted to: rows, and an objective of labels and soft labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skdistill._bipartite import PairRisk
from skdistill._typing import FloatArray, InputLike, IntArray

#: An objective: targets and student temperature of each soft cross-entropy.
Terms: TypeAlias = tuple[tuple[FloatArray, float], ...]


@dataclass(frozen=True)
class Problem:
    """A checked training problem: what is left once rows of weight zero are gone.

    Attributes
    ----------
    X : array-like of shape (n_samples, ...)
        Inputs.
    y : ndarray of shape (n_samples,)
        Labels as the user wrote them.
    codes : ndarray of shape (n_samples,)
        Positions of the labels among the classes.
    classes : ndarray of shape (n_classes,)
        Sorted classes.
    sample_weight : ndarray of shape (n_samples,)
        Positive weights.
    terms : tuple of (ndarray of shape (n_samples, n_classes), float)
        The objective: a sum of soft cross-entropies, each with the temperature of the
        student's logits. A row's targets sum to the weight of the term for that row.
    pairs : PairRisk or None
        If not None, what is minimised instead: this risk over pairs of rows, whose
        chances of being positive are the second column of the only term's targets.
    labelled : ndarray of shape (n_labelled,) or None
        Rows by whose labels, not targets, a student that holds out rows decides when to
        stop; None means all rows, by their targets.
    class_weight : ndarray of shape (n_classes,) or None
        Factors of the classes' targets; None means 1.
    n_epochs : int or None
        Epochs that a network is trained for, on all rows, whatever its losses; None
        lets it find out.
    n_labelled : int or None
        How many rows have a label, the first; the others' stand in for soft labels.
        None means those of `labelled`. It leaves open when to stop.
    """

    X: InputLike
    y: NDArray[Any]
    codes: IntArray
    classes: NDArray[Any]
    sample_weight: FloatArray
    terms: Terms
    pairs: PairRisk | None = None
    labelled: IntArray | None = None
    class_weight: FloatArray | None = None
    n_epochs: int | None = None
    n_labelled: int | None = None

    def labels(self) -> tuple[NDArray[Any], FloatArray]:
        """Return the labels that stand in for no soft label, and their weights."""
        rows = self._labelled_rows()
        return self.y[rows], self.sample_weight[rows]

    def _labelled_rows(self) -> slice | IntArray:
        return slice(self.n_labelled) if self.labelled is None else self.labelled

    def row_weights(self, class_weight: FloatArray | None) -> FloatArray:
        """Return how much each row counts in what is learnt of the inputs alone.

        A weight of its class is a factor of a row's own, as if the row were repeated. A
        row without a label has the mean factor.

        Parameters
        ----------
        class_weight : ndarray of shape (n_classes,) or None
            Weights of the classes; None means 1.

        Returns
        -------
        ndarray of shape (n_samples,)
            Positive weights.
        """
        if class_weight is None or self.pairs is not None:
            return self.sample_weight
        of_label = class_weight[self.codes]
        rows = self._labelled_rows()
        mean = np.average(of_label[rows], weights=self.sample_weight[rows])
        factors = np.full_like(of_label, mean)
        factors[rows] = of_label[rows]
        return self.sample_weight * factors

    def pair_masses(self) -> tuple[FloatArray, FloatArray]:
        """Return how much each row counts as a positive and as a negative."""
        ((targets, _),) = self.terms
        return self.sample_weight * targets[:, 1], self.sample_weight * targets[:, 0]


@dataclass(frozen=True)
class Task:
    """A student to fit.

    Attributes
    ----------
    problem : Problem
        What to fit it to. Tasks on the same rows have the same object as X.
    params : dict
        Parameters of its own, beside those that all students of a search share.
    held_out : ndarray of shape (n_held_out,) or None
        Rows by whose labels a network decides when to stop; None lets it draw them.
    """

    problem: Problem
    params: dict[str, Any] = field(default_factory=dict)
    held_out: IntArray | None = None


def of_ordinary_size(weights: FloatArray) -> FloatArray:
    """Return weights of which only ratios matter, near 1 if they are far from it.

    They then are numbers in float32, too, and can be compared with its precision.

    Parameters
    ----------
    weights : ndarray of shape (n_samples,)
        Positive weights.

    Returns
    -------
    ndarray of shape (n_samples,)
        Times a power of two, which changes no digit.
    """
    _, exponent = np.frexp(weights.max())
    if abs(exponent) < 16:
        return weights
    scaled: FloatArray = np.ldexp(weights, -exponent)
    return scaled


def mix_targets(
    codes: IntArray, soft_labels: FloatArray, mixing_weight: float | FloatArray
) -> FloatArray:
    """Return ``(1 - a) e_y + a p``: labels and soft labels as one target.

    With a weight for each class it is that class by class. The sum of a row is then 1
    on average only, over labels, where p is right: a row that has the label of a class
    whose labels count, but soft labels of others, counts for more. Divided by its sum
    it would be biased.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        Class positions y.
    soft_labels : ndarray of shape (n_samples, n_classes)
        Soft labels p.
    mixing_weight : float, ndarray of shape (n_samples,) or (n_samples, n_classes)
        The weight a of the soft labels, in [0, 1].

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        The targets; rows sum to 1, but for weights that differ between classes.
    """
    mixing = _by_class(mixing_weight, soft_labels)
    targets: FloatArray = mixing * soft_labels
    rows = np.arange(len(codes))
    targets[rows, codes] += 1.0 - mixing[rows, codes]
    return targets


def _by_class(mixing_weight: float | FloatArray, soft_labels: FloatArray) -> FloatArray:
    """Return a mixing weight for each row and class."""
    mixing = np.asarray(mixing_weight, dtype=float)
    if mixing.ndim == 1:
        mixing = mixing[:, None]
    return np.broadcast_to(mixing, soft_labels.shape)


def label_terms(codes: IntArray, n_classes: int) -> Terms:
    """Return the objective of labels alone: one cross-entropy with one-hot targets.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        Class positions.
    n_classes : int
        Number of classes.

    Returns
    -------
    tuple of (ndarray of shape (n_samples, n_classes), float)
        One term. The targets are float32: zeros and ones are exact in it.
    """
    return ((np.eye(n_classes, dtype=np.float32)[codes], 1.0),)


def objective_terms(
    codes: IntArray,
    soft_labels: FloatArray,
    mixing_weight: float | FloatArray,
    student_temperature: float,
) -> Terms:
    """Write the distillation objective as a sum of soft cross-entropies.

    Cross-entropy is linear in its target, so at student temperature 1 labels and soft
    labels are one term.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        Class positions.
    soft_labels : ndarray of shape (n_samples, n_classes)
        Soft labels, at the teacher's temperature.
    mixing_weight : float, ndarray of shape (n_samples,) or (n_samples, n_classes)
        Weight of the soft labels, in [0, 1].
    student_temperature : float
        Temperature S of the student's logits in the soft term.

    Returns
    -------
    tuple of (ndarray of shape (n_samples, n_classes), float)
        Targets and student temperature of each term.
    """
    if student_temperature == 1.0:
        return ((mix_targets(codes, soft_labels, mixing_weight), 1.0),)
    mixing = _by_class(mixing_weight, soft_labels)
    soft = mixing * student_temperature**2 * soft_labels, student_temperature
    if (mixing == 1.0).all():
        return (soft,)
    hard = np.zeros_like(soft_labels)
    rows = np.arange(len(codes))
    hard[rows, codes] = 1.0 - mixing[rows, codes]
    return ((hard, 1.0), soft)
