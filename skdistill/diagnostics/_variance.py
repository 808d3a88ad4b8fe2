"""Bias and variance of a teacher, from fits to separate parts of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params

from skdistill._bias_variance import BiasVariance, teacher_bias_variance
from skdistill._distillation import DistillationClassifier
from skdistill._labelled_rows import TrainingRows
from skdistill._scoring import class_proba, is_frozen
from skdistill._soft_labels import resolve_teacher
from skdistill._table_teacher import fit_teacher
from skdistill._typing import Estimator, FloatArray, InputLike, IntArray
from skdistill.diagnostics._cross_fit import (
    CrossFit,
    check_rows,
    is_given,
    present_rows,
)

#: Two to learn from and one to score.
_PARTS = 3


def cross_fit_bias_variance(
    teacher: Estimator,
    X: InputLike,
    y: Any,
    *,
    sample_weight: Any = None,
    n_repeats: int = 5,
    n_jobs: int | None = None,
    random_state: Any = None,
) -> BiasVariance:
    r"""Estimate bias and variance of a teacher from data alone.

    In each repeat the rows are divided into three stratified parts, the teacher is
    fitted on each, and each part is scored by the two teachers of the other parts. They
    have no row in common with each other or with it, so

    .. math::
        \tfrac12 \lVert p^{(1)} - p^{(2)} \rVert^2

    is an unbiased estimate of the variance :math:`\mathrm E \lVert p^t - \mathrm E\,
    p^t \rVert^2` of a teacher fitted on a third of the rows, and the Brier score less
    it one of squared bias and noise of the labels, see :func:`teacher_bias_variance`.
    The noise is the same for all teachers, so teachers may be compared by either part.
    Fits of a usual cross-validation would not do: they share most of their rows, and
    agree too well.

    Parameters
    ----------
    teacher : estimator
        Classifier, as :class:`~skdistill.DistillationClassifier` takes it, not frozen.
    X : array-like of shape (n_samples, ...)
        Inputs.
    y : array-like of shape (n_samples,)
        Class labels.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights, for fits and means. Rows of weight 0 are as if absent.
    n_repeats : int, default=5
        Number of divisions to average over, three fits each.
    n_jobs : int or None, default=None
        Repeats at the same time.
    random_state : int, RandomState instance or None, default=None
        Seed of the divisions.

    Returns
    -------
    parts : BiasVariance
        For a teacher fitted on a third of the rows: more rows make the variance
        smaller.

    Raises
    ------
    TypeError
        If `teacher` cannot be one.
    ValueError
        If the data is unusable, the teacher is frozen, a class has fewer than three
        rows, or `n_repeats` is below 1.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skdistill.datasets import make_checkerboard
    >>> from skdistill.diagnostics import cross_fit_bias_variance
    >>> X, y, _ = make_checkerboard(600, random_state=0)
    >>> shallow, deep = (
    ...     cross_fit_bias_variance(
    ...         DecisionTreeClassifier(max_depth=depth, random_state=0),
    ...         X, y, random_state=0)
    ...     for depth in (2, 12)
    ... )
    >>> shallow.variance < deep.variance, shallow.squared_bias > deep.squared_bias
    (True, True)
    """
    if not isinstance(n_repeats, (int, np.integer)) or n_repeats < 1:
        raise ValueError(f"n_repeats={n_repeats!r} must be an integer of at least 1.")
    rows, _ = present_rows(check_rows(X, y, sample_weight))
    resolved = resolve_teacher(teacher, random_state)
    if is_frozen(resolved):
        raise ValueError(
            "The teacher is frozen: its variance over training sets cannot be "
            "estimated, as it cannot be fitted anew."
        )
    return _estimate(resolved, rows, n_repeats, n_jobs, random_state)


def variance_of_teacher(
    teacher: Any, fit: CrossFit, n_repeats: int
) -> BiasVariance | None:
    """Return bias and variance of a teacher of a report.

    Parameters
    ----------
    teacher : object
        Teacher, or probabilities, as :func:`teacher_report` takes them.
    fit : CrossFit
        The rows.
    n_repeats : int
        As in :func:`cross_fit_bias_variance`.

    Returns
    -------
    BiasVariance or None
        None if there are no repeats, or it cannot be fitted anew.
    """
    if n_repeats == 0 or is_given(teacher):
        return None
    resolved = resolve_teacher(teacher, fit.random_state)
    if is_frozen(resolved):
        return None
    return _estimate(resolved, fit.rows, n_repeats, fit.n_jobs, fit.random_state)


def _estimate(
    teacher: Estimator,
    rows: TrainingRows,
    n_repeats: int,
    n_jobs: int | None,
    random_state: Any,
) -> BiasVariance:
    """Average the parts over repeats."""
    # Of a class whose rows all have weight 0 there are none.
    fewest = int(np.unique(rows.codes, return_counts=True)[1].min())
    if fewest < _PARTS:
        raise ValueError(
            f"Bias and variance need {_PARTS} rows of each class, one for each part, "
            f"but a class has {fewest}."
        )
    rng = check_random_state(random_state)
    seeds = rng.randint(np.iinfo(np.int32).max, size=n_repeats)
    params = DistillationClassifier(teacher)._routed(teacher, rows, {})["teacher"]
    fits = Parallel(n_jobs=n_jobs)(
        delayed(_two_fits)(teacher, rows, params, int(seed)) for seed in seeds
    )
    parts = [
        teacher_bias_variance(
            both,
            rows.codes,
            labels=np.arange(len(rows.classes)),
            sample_weight=rows.weight,
        )
        for both in fits
    ]
    return BiasVariance(
        *(
            float(np.mean([getattr(part, name) for part in parts]))
            for name in ("squared_error", "squared_bias", "variance")
        )
    )


def _two_fits(
    teacher: Estimator, rows: TrainingRows, params: dict[str, Any], seed: int
) -> FloatArray:
    """Score each third of the rows with the teachers of the two others."""
    divide = StratifiedKFold(_PARTS, shuffle=True, random_state=seed)
    parts = [part for _, part in divide.split(rows.codes, rows.codes)]
    both = np.empty((2, len(rows.y), len(rows.classes)))
    filled = np.zeros(_PARTS, dtype=int)
    for i, own in enumerate(parts):
        fitted = _fit(teacher, rows, params, own)
        for j, part in enumerate(parts):
            if j != i:
                X = _safe_indexing(rows.X, part)
                both[filled[j], part] = class_proba(fitted, X, rows.classes)[0]
                filled[j] += 1
    return both


def _fit(
    teacher: Estimator, rows: TrainingRows, params: dict[str, Any], own: IntArray
) -> Estimator:
    own_params = _check_method_params(rows.X, params=params, indices=own)
    X = _safe_indexing(rows.X, own)
    return fit_teacher(clone(teacher), X, rows.y[own], own_params)
