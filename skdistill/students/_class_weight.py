"""Class weights: which they are, and the objective that they make."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import StrOptions

from skdistill._typing import FloatArray
from skdistill.students._problem import Terms

#: Declared constraint of the parameter.
CLASS_WEIGHT_CONSTRAINT: list[Any] = [dict, StrOptions({"balanced"}), None]


def class_weights(
    class_weight: Any,
    classes: NDArray[Any],
    y: NDArray[Any],
    sample_weight: FloatArray | None,
) -> FloatArray | None:
    r"""Return a weight for each class, as scikit-learn defines them.

    "balanced" is :math:`v_c = n / (K n_c)` of the weights :math:`n_c` of the rows of
    each of K classes, and of all rows, n.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        A dict may leave classes out only if it names none that is unknown.
    classes : ndarray of shape (n_classes,)
        Sorted classes.
    y : ndarray of shape (n_samples,)
        Labels.
    sample_weight : ndarray of shape (n_samples,) or None
        Row weights.

    Returns
    -------
    ndarray of shape (n_classes,) or None
        Positive weights; 1 for a class that "balanced" finds no row of. None for None.

    Raises
    ------
    ValueError
        If a dict lacks a class and names an unknown one, or a weight is not positive
        and finite.
    """
    if class_weight is None:
        return None
    weights = np.ones(len(classes))
    if sample_weight is None:
        sample_weight = np.ones(len(y))
    known = np.isin(classes, y[sample_weight > 0])
    if isinstance(class_weight, dict):
        known[:] = True
    rows = np.isin(y, classes[known])
    weights[known] = compute_class_weight(
        class_weight,
        classes=classes[known],
        y=y[rows],
        sample_weight=sample_weight[rows],
    )
    bad = ~(np.isfinite(weights) & (weights > 0))
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            "class_weight must be positive and finite for each class, got "
            f"{weights[first]} for class {classes.tolist()[first]!r}. Rows are left "
            "out by a sample_weight of zero."
        )
    return weights


def weigh_terms(
    terms: Terms, weights: FloatArray | None, sample_weight: FloatArray
) -> tuple[Terms, float]:
    r"""Weigh the classes of an objective.

    A row of class weights :math:`v` and label :math:`y` has the loss
    :math:`v_y \ell(y)`. Its expectation over labels of probabilities :math:`p_c` is
    :math:`\sum_c v_c p_c \ell(c)`: the targets of each class are multiplied by its
    weight. In a term of student temperature S it is :math:`v_c^{1/S}`, so that it adds
    the same to the student's logits, :math:`\log v_c`. All targets are then divided by
    one number, so that they have the mean sum that they had before.

    Parameters
    ----------
    terms : tuple of (ndarray of shape (n_samples, n_classes), float)
        The objective.
    weights : ndarray of shape (n_classes,) or None
        Weights of the classes; None leaves the objective alone.
    sample_weight : ndarray of shape (n_samples,)
        Row weights.

    Returns
    -------
    terms : tuple of (ndarray of shape (n_samples, n_classes), float)
        The weighted objective.
    scale : float
        The number that its targets were divided by.
    """
    if weights is None:
        return terms, 1.0
    factors = [weights ** (1.0 / temperature) for _, temperature in terms]
    masses = [sample_weight @ targets for targets, _ in terms]
    before = sum(float(mass.sum()) for mass in masses)
    after = (float(m @ factor) for m, factor in zip(masses, factors, strict=True))
    scale = sum(after) / before
    weighted = tuple(
        (targets * (factor / scale), temperature)
        for (targets, temperature), factor in zip(terms, factors, strict=True)
    )
    return weighted, scale


def reweighted_proba(proba: FloatArray, weights: FloatArray | None) -> FloatArray:
    r"""Return the class probabilities at which the weighted log-loss is lowest.

    .. math:: q_c = \frac{v_c \, p_c}{\sum_{c'} v_{c'} \, p_{c'}}

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities p of the labels.
    weights : ndarray of shape (n_classes,) or None
        Weights v of the classes; None changes nothing.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        Probabilities; rows sum to 1.
    """
    if weights is None:
        return proba
    mass = proba * weights
    result: FloatArray = mass / mass.sum(axis=1, keepdims=True)
    return result
