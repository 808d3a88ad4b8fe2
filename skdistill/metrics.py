"""Scores for class probabilities, the agreement of student and teacher, and rankings.

Those of probabilities take arrays of shape ``(n_samples, n_classes)`` and average over
the samples with their weights; rows of weight 0 are as if absent.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import kl_div, xlogy
from sklearn.utils import check_array, column_or_1d

from skdistill._arguments import is_scalar_number, is_word, naming
from skdistill._label_ranking import rank_labels
from skdistill._retrieval_metrics import (
    coverage_at_k,
    inverse_propensities,
    ndcg_at_k,
    precision_at_k,
    psndcg_at_k,
    psp_at_k,
    recall_at_k,
)
from skdistill._retrieval_scorer import retrieval_scorer
from skdistill._validation import check_mean_weights

__all__ = [
    "brier_score",
    "coverage_at_k",
    "expected_calibration_error",
    "inverse_propensities",
    "mean_kl_divergence",
    "ndcg_at_k",
    "precision_at_k",
    "psndcg_at_k",
    "psp_at_k",
    "rank_labels",
    "recall_at_k",
    "retrieval_scorer",
    "soft_log_loss",
    "teacher_agreement_score",
]

FloatArray = NDArray[np.floating]

# How far from 1 the sum of a row of probabilities may be.
_ROW_SUM_TOLERANCE = 1e-3


def soft_log_loss(
    soft_labels: ArrayLike,
    proba: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    eps: float | str = "auto",
) -> float:
    r"""Log-loss of probabilities against soft labels.

    .. math::
        \frac{1}{\sum_i w_i} \sum_i w_i \Bigl(-\sum_k p_{ik} \log q_{ik}\Bigr)

    with soft labels :math:`p` and probabilities :math:`q`: the distilled risk of the
    log-loss, Eq. (4) of [Menon2021]_. With one-hot soft labels it is the log-loss of
    scikit-learn. For given soft labels it is lowest at :math:`q = p`, where it is the
    mean entropy of the soft labels.

    Parameters
    ----------
    soft_labels : array-like of shape (n_samples, n_classes)
        p. Rows sum to 1.
    proba : array-like of shape (n_samples, n_classes)
        q. Rows sum to 1.
    sample_weight : array-like of shape (n_samples,), default=None
        w.
    eps : float or "auto", default="auto"
        Smaller values in `proba` are raised to this one, at least 0 and below 1.
        "auto" is the machine epsilon of the dtype of `proba`. With 0 the loss is
        infinite where a class with a positive soft label has probability 0.

    Returns
    -------
    loss : float
        At least 0; lower is better.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, `eps` is not allowed, or
        `sample_weight` is negative.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.metrics import soft_log_loss
    >>> round(soft_log_loss([[0.8, 0.2], [0.5, 0.5]], [[0.9, 0.1], [0.5, 0.5]]), 4)
    0.619
    """
    soft_labels, proba = _check_pair(soft_labels, "soft_labels", proba, "proba")
    clipped = np.maximum(proba, _check_eps(eps, proba))
    return _weighted_mean(-xlogy(soft_labels, clipped).sum(axis=1), sample_weight)


def brier_score(
    y_true: ArrayLike,
    proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Brier score: squared distance of probabilities from the labels.

    .. math::
        \frac{1}{\sum_i w_i} \sum_i w_i \sum_k (e_{ik} - q_{ik})^2

    with :math:`e_i` the one-hot vector of label :math:`i`, or its soft label, and
    probabilities :math:`q`. The sum runs over all classes, as in [Brier1950]_.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels of any dtype, or soft labels whose rows sum to 1.
    proba : array-like of shape (n_samples, n_classes)
        q. Rows sum to 1.
    labels : array-like of shape (n_classes,), default=None
        The label of each column of `proba`, such as ``classes_``. None means the
        sorted values of `y_true`. Not used with soft labels.
    sample_weight : array-like of shape (n_samples,), default=None
        w.

    Returns
    -------
    score : float
        Between 0 and 2; lower is better.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, `y_true` holds values that are
        not in `labels`, `labels` does not name each column once, or `sample_weight`
        is negative.

    Notes
    -----
    The value is ``brier_score_loss(y_true, proba, scale_by_half=False)`` of
    scikit-learn, also with two classes, where scikit-learn halves by default. It is a
    strictly proper score: its expectation is lowest at the true probabilities. On
    rows that a teacher was not fitted on, it therefore ranks teachers by their
    squared distance from the true probabilities, up to a constant.

    References
    ----------
    .. [Brier1950] Brier, "Verification of forecasts expressed in terms of
       probability", Monthly Weather Review 78(1):1-3, 1950.

    Examples
    --------
    >>> from skdistill.metrics import brier_score
    >>> round(brier_score(["no", "yes"], [[0.9, 0.1], [0.4, 0.6]]), 4)
    0.17
    """
    proba = _check_proba(proba, "proba")
    difference = _targets(y_true, proba, labels) - proba
    return _weighted_mean((difference * difference).sum(axis=1), sample_weight)


def expected_calibration_error(
    y_true: ArrayLike,
    proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    n_bins: int = 15,
    strategy: str = "uniform",
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Top-label calibration error: the gap between confidence and accuracy.

    .. math::
        \sum_b \frac{W_b}{W} \bigl| \mathrm{acc}_b - \mathrm{conf}_b \bigr|

    where the rows are put into bins :math:`b` by their confidence, the largest
    probability of the row; :math:`W_b` is the weight in the bin and :math:`W` the
    whole weight, :math:`\mathrm{acc}_b` the share of the bin in which the most
    probable class is right, and :math:`\mathrm{conf}_b` the mean confidence. Eq. (3)
    of [Guo2017]_.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels of any dtype, or soft labels whose rows sum to 1; a soft label counts
        as right by the probability that it gives the predicted class.
    proba : array-like of shape (n_samples, n_classes)
        Probabilities. Rows sum to 1.
    labels : array-like of shape (n_classes,), default=None
        The label of each column of `proba`, such as ``classes_``. None means the
        sorted values of `y_true`. Not used with soft labels.
    n_bins : int, default=15
        Number of bins, at least 1.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width over [0, 1], or of equal weight. A bin holds its upper
        edge and not its lower one. Equal confidences are never put into two bins.
    sample_weight : array-like of shape (n_samples,), default=None
        w.

    Returns
    -------
    error : float
        Between 0 and 1; lower is better calibrated.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, `y_true` holds values that are
        not in `labels`, `labels` does not name each column once, `n_bins` or
        `strategy` is not allowed, or `sample_weight` is negative.

    Notes
    -----
    This is **not a proper score**, so report it and never select by it: a model that
    gives each row the class frequencies has an error near 0 and knows nothing. It
    also depends on the bins and is biased upwards on small samples. To choose between
    models use :func:`brier_score` or the log-loss.

    References
    ----------
    .. [Guo2017] Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural
       networks", ICML 2017, PMLR 70:1321-1330.

    Examples
    --------
    >>> from skdistill.metrics import expected_calibration_error
    >>> proba = [[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]]
    >>> round(expected_calibration_error([0, 1, 1, 1], proba), 4)
    0.35
    """
    proba = _check_proba(proba, "proba")
    targets = _targets(y_true, proba, labels)
    weight = check_mean_weights(sample_weight, proba)
    top = proba.argmax(axis=1)
    rows = np.arange(len(proba))
    confidence = proba[rows, top].astype(np.float64)
    edges = _inner_edges(confidence, weight, n_bins, strategy)
    bins = np.digitize(confidence, edges, right=True)
    gap = np.bincount(bins, weights=weight * (targets[rows, top] - confidence))
    return float(np.abs(gap).sum() / weight.sum())


def teacher_agreement_score(
    teacher_proba: ArrayLike,
    student_proba: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Share of the rows in which student and teacher name the same class.

    .. math::
        \frac{1}{\sum_i w_i} \sum_i w_i
        \bigl[\arg\max_k p_{ik} = \arg\max_k q_{ik}\bigr]

    with teacher probabilities :math:`p` and student probabilities :math:`q`. Of tied
    classes the first counts. It says how well the student copies the teacher, not how
    good either of them is.

    Parameters
    ----------
    teacher_proba : array-like of shape (n_samples, n_classes)
        p. Rows sum to 1.
    student_proba : array-like of shape (n_samples, n_classes)
        q. Rows sum to 1.
    sample_weight : array-like of shape (n_samples,), default=None
        w.

    Returns
    -------
    score : float
        Between 0 and 1; 1 is full agreement.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, or `sample_weight` is negative.

    Examples
    --------
    >>> from skdistill.metrics import teacher_agreement_score
    >>> teacher_agreement_score([[0.9, 0.1], [0.4, 0.6]], [[0.6, 0.4], [0.7, 0.3]])
    0.5
    """
    teacher_proba, student_proba = _check_pair(
        teacher_proba, "teacher_proba", student_proba, "student_proba"
    )
    agree = teacher_proba.argmax(axis=1) == student_proba.argmax(axis=1)
    return _weighted_mean(agree.astype(np.float64), sample_weight)


def mean_kl_divergence(
    teacher_proba: ArrayLike,
    student_proba: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Mean Kullback-Leibler divergence of the student from the teacher.

    .. math::
        \frac{1}{\sum_i w_i} \sum_i w_i \sum_k p_{ik} \log \frac{p_{ik}}{q_{ik}}

    with teacher probabilities :math:`p` and student probabilities :math:`q`
    [Kullback1951]_. It is summed, not averaged, over the classes, and is
    :func:`soft_log_loss` less the entropy of the teacher.

    Parameters
    ----------
    teacher_proba : array-like of shape (n_samples, n_classes)
        p. Rows sum to 1.
    student_proba : array-like of shape (n_samples, n_classes)
        q. Rows sum to 1.
    sample_weight : array-like of shape (n_samples,), default=None
        w.

    Returns
    -------
    divergence : float
        At least 0, and 0 where student and teacher are equal. In nats.

    Raises
    ------
    ValueError
        If shapes differ, rows are not probabilities, or `sample_weight` is negative.

    Notes
    -----
    Where a student gives probability 0 to a class that the teacher thinks possible,
    the divergence is infinite. To keep the mean finite, student probabilities below
    the machine epsilon of their dtype are raised to it in these places, which bounds
    the divergence of a row by about 36 in double and 16 in single precision.

    References
    ----------
    .. [Kullback1951] Kullback and Leibler, "On information and sufficiency", Annals
       of Mathematical Statistics 22(1):79-86, 1951.

    Examples
    --------
    >>> from skdistill.metrics import mean_kl_divergence
    >>> round(mean_kl_divergence([[0.5, 0.5]], [[0.9, 0.1]]), 4)
    0.5108
    """
    p, q = _check_pair(teacher_proba, "teacher_proba", student_proba, "student_proba")
    clipped = np.where(p > 0, np.maximum(q, _check_eps("auto", q)), q)
    # kl_div is p log(p / q) - p + q: the last two cancel in the sum over the classes
    # and keep each summand, and so the sum, from falling below 0 by rounding.
    return _weighted_mean(kl_div(p, clipped).sum(axis=1), sample_weight)


def _weighted_mean(values: FloatArray, sample_weight: ArrayLike | None) -> float:
    """Average over the samples; rows of weight 0 are as if absent."""
    weight = check_mean_weights(sample_weight, values)
    kept = weight > 0
    return float(np.average(values[kept], weights=weight[kept]))


def _inner_edges(
    confidence: FloatArray, weight: FloatArray, n_bins: int, strategy: str
) -> FloatArray:
    """Return the edges between the bins."""
    if not isinstance(n_bins, (int, np.integer)) or n_bins < 1:
        raise ValueError(f"n_bins={n_bins!r} must be an integer of at least 1.")
    shares = np.arange(1, n_bins) / n_bins
    if is_word(strategy, ("uniform",)):
        return shares
    if not is_word(strategy, ("quantile",)):
        raise ValueError(f"strategy={strategy!r} must be 'uniform' or 'quantile'.")
    order = np.argsort(confidence)
    cumulated = np.cumsum(weight[order])
    position = np.searchsorted(cumulated, shares * cumulated[-1])
    return np.unique(confidence[order][position])


def _targets(
    y_true: ArrayLike,
    proba: FloatArray,
    labels: ArrayLike | None,
    name: str = "y_true",
) -> FloatArray:
    """Return soft labels, or one-hot rows for labels, in the shape of `proba`."""
    if np.ndim(y_true) == 2 and np.shape(y_true)[1] > 1:
        soft_labels = _check_proba(y_true, name)
        _check_same_shape(soft_labels, name, proba, "proba")
        return soft_labels
    with naming(name):
        y = column_or_1d(y_true, input_name=name)
    if len(y) != len(proba):
        raise ValueError(f"{name} has {len(y)} rows, but proba has {len(proba)}.")
    one_hot = np.zeros(proba.shape, dtype=proba.dtype)
    one_hot[np.arange(len(y)), _encode(y, labels, proba.shape[1], name)] = 1.0
    return one_hot


def _encode(
    y: NDArray[Any], labels: ArrayLike | None, n_classes: int, name: str = "y_true"
) -> NDArray[np.signedinteger]:
    """Return the column of each label."""
    with naming("labels"):
        columns = np.unique(y) if labels is None else column_or_1d(labels)
    if len(columns) != n_classes or len(np.unique(columns)) != n_classes:
        raise ValueError(
            f"labels must name each of the {n_classes} columns of proba once; got "
            f"{columns!r}{f' from the values of {name}' if labels is None else ''}."
        )
    order = np.argsort(columns)
    try:
        position = np.searchsorted(columns[order], y).clip(max=n_classes - 1)
    except TypeError:  # texts beside numbers: none is the other
        position = np.zeros(len(y), dtype=np.intp)
    unknown = columns[order][position] != y
    if unknown.any():
        raise ValueError(
            f"{name} holds values that are not in labels: {np.unique(y[unknown])!r}."
        )
    return order[position]


def _check_pair(
    first: ArrayLike, first_name: str, second: ArrayLike, second_name: str
) -> tuple[FloatArray, FloatArray]:
    """Check two matrices of probabilities of one shape."""
    first = _check_proba(first, first_name)
    second = _check_proba(second, second_name)
    _check_same_shape(first, first_name, second, second_name)
    return first, second


def _check_same_shape(
    first: FloatArray, first_name: str, second: FloatArray, second_name: str
) -> None:
    if first.shape != second.shape:
        raise ValueError(
            f"{first_name} has shape {first.shape}, but {second_name} has shape "
            f"{second.shape}."
        )


def _check_proba(proba: ArrayLike, name: str) -> FloatArray:
    """Check a matrix whose rows are probabilities."""
    with naming(name):
        matrix: Any = check_array(
            proba, dtype=[np.float64, np.float32], ensure_2d=False, input_name=name
        )
    if matrix.ndim != 2:
        raise ValueError(
            f"{name} must have shape (n_samples, n_classes); got {matrix.shape}."
        )
    wrong = (matrix < 0).any(axis=1)
    wrong |= np.abs(matrix.sum(axis=1) - 1.0) > _ROW_SUM_TOLERANCE
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{name} must have non-negative rows that sum to 1; row {row} is "
            f"{matrix[row]!r}."
        )
    return matrix


def _check_eps(eps: float | str, proba: FloatArray) -> float:
    """Return the smallest probability that is not clipped."""
    if isinstance(eps, str) and eps == "auto":
        return float(np.finfo(proba.dtype).eps)
    if not is_scalar_number(eps) or not 0 <= eps < 1:
        raise ValueError(f"eps={eps!r} must be 'auto' or at least 0 and below 1.")
    return float(eps)
