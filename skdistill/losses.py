"""Distillation losses: one formula each, for NumPy arrays and torch tensors.

The last axis holds the classes and the one before it the samples. Any axes in
front of these run over independent students: a stack of G students has logits of
shape ``(G, n_samples, n_classes)`` and gets G losses. The type of ``logits``
decides the arithmetic, and torch is only used where it was passed in.

Symbols: logits :math:`z`, teacher probabilities :math:`p`, labels :math:`y`,
sample weights :math:`w`, temperature :math:`T`, student temperature :math:`S`,
mixing weight :math:`a`.
"""

import numpy as np

from skdistill._backend import (
    Array,
    as_float,
    is_number,
    like,
    log_softmax,
    namespace,
    softmax,
)
from skdistill._bipartite import bipartite_risk, bipartite_slope
from skdistill._loss_arguments import (
    as_logits,
    check_trailing_shape,
    reduce_rows,
)
from skdistill._loss_correction import corrected_soft_labels
from skdistill._recalibration import recalibrate_negative_aware
from skdistill._retrieval_losses import (
    decoupled_loss,
    hardest_negatives,
    mining_probabilities,
    negative_aware_loss,
    negative_log_weight,
    pick_all_labels,
    sampled_softmax_loss,
)
from skdistill._tempering import (
    as_scalar_or_array,
    check_nonnegative_rows,
    check_temperature,
    divide,
    temper,
    temper_proba,
)

__all__ = [
    "bipartite_risk",
    "bipartite_slope",
    "brier_loss",
    "corrected_soft_labels",
    "decoupled_loss",
    "distillation_loss",
    "hardest_negatives",
    "mining_probabilities",
    "negative_aware_loss",
    "negative_log_weight",
    "pick_all_labels",
    "recalibrate_negative_aware",
    "sampled_softmax_loss",
    "soft_cross_entropy",
    "temper_proba",
]


def soft_cross_entropy(
    soft_labels: Array,
    logits: Array,
    *,
    sample_weight: Array | None = None,
    temperature: float | Array = 1.0,
    reduction: str = "mean",
) -> Array:
    r"""Cross-entropy between soft labels and the softmax of the logits.

    .. math::
        \frac{1}{\sum_i w_i} \sum_i w_i
        \Bigl(-\sum_k p_{ik} \log \mathrm{softmax}(z_i / S)_k\Bigr)

    The distilled risk, Eq. (4) of [Menon2021]_, with the softmax cross-entropy of
    its Eq. (2). It is summed over the classes and averaged over the samples, and
    :math:`0 \cdot \log 0 = 0`. The temperature divides the logits only: temper the
    soft labels with :func:`temper_proba`.

    Parameters
    ----------
    soft_labels : array or tensor of shape (..., n_samples, n_classes)
        p. Leading axes are broadcast against those of `logits`. Rows are used as
        they are, not renormalised.
    logits : array or tensor of shape (..., n_samples, n_classes)
        z.
    sample_weight : array or tensor of shape (..., n_samples), default=None
        w. Rows of weight 0 are as if absent.
    temperature : float or array of shape (...), default=1.0
        S, between 0 and infinity (exclusive).
    reduction : {"mean", "none"}, default="mean"
        The weighted average over the samples, or the unweighted loss of each row.

    Returns
    -------
    loss : float, array or tensor of shape (...) or (..., n_samples)
        One value per member of the leading axes; with ``reduction="none"`` one per
        row.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If shapes do not match, `temperature` is not positive and finite,
        `reduction` is unknown, or `sample_weight` is negative, not finite or all 0
        (values inside tensors are not looked at).

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.losses import soft_cross_entropy
    >>> logits = np.log([[0.5, 0.5], [0.9, 0.1]])
    >>> float(soft_cross_entropy([[0.5, 0.5], [1.0, 0.0]], logits).round(4))
    0.3993
    """
    temperature = check_temperature(temperature, "temperature")
    logits = as_logits(logits)
    soft_labels = _as_soft_labels(soft_labels, logits)
    log_q = log_softmax(divide(logits, temperature))
    return reduce_rows(
        _cross_entropy_rows(soft_labels, log_q), sample_weight, reduction
    )


def brier_loss(
    soft_labels: Array,
    logits: Array,
    *,
    sample_weight: Array | None = None,
    temperature: float | Array = 1.0,
    reduction: str = "mean",
) -> Array:
    r"""Squared distance between soft labels and the softmax of the logits.

    .. math::
        \frac{1}{\sum_i w_i} \sum_i w_i
        \sum_k \bigl(p_{ik} - \mathrm{softmax}(z_i / S)_k\bigr)^2

    The score of [Brier1950]_ with soft labels in the place of outcomes: between 0
    and 2, and 0 only where student and soft labels agree. Unlike the cross-entropy
    it stays bounded on the rows where the student is surely wrong.

    Parameters
    ----------
    soft_labels : array or tensor of shape (..., n_samples, n_classes)
        p. Leading axes are broadcast against those of `logits`.
    logits : array or tensor of shape (..., n_samples, n_classes)
        z.
    sample_weight : array or tensor of shape (..., n_samples), default=None
        w. Rows of weight 0 are as if absent.
    temperature : float or array of shape (...), default=1.0
        S, between 0 and infinity (exclusive).
    reduction : {"mean", "none"}, default="mean"
        The weighted average over the samples, or the unweighted loss of each row.

    Returns
    -------
    loss : float, array or tensor of shape (...) or (..., n_samples)
        One value per member of the leading axes; with ``reduction="none"`` one per
        row.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If shapes do not match, `temperature` is not positive and finite,
        `reduction` is unknown, or `sample_weight` is negative, not finite or all 0
        (values inside tensors are not looked at).

    References
    ----------
    .. [Brier1950] Brier, "Verification of forecasts expressed in terms of
       probability", Monthly Weather Review 78(1):1-3, 1950.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.losses import brier_loss
    >>> float(brier_loss([[1.0, 0.0]], np.log([[0.9, 0.1]])).round(4))
    0.02
    """
    temperature = check_temperature(temperature, "temperature")
    logits = as_logits(logits)
    soft_labels = _as_soft_labels(soft_labels, logits)
    difference = soft_labels - softmax(divide(logits, temperature))
    return reduce_rows((difference * difference).sum(-1), sample_weight, reduction)


def distillation_loss(
    y: Array | None,
    soft_labels: Array | None,
    logits: Array,
    *,
    temperature: float | Array = 1.0,
    mixing_weight: float | Array = 0.5,
    student_temperature: float | Array | str = 1.0,
    sample_weight: Array | None = None,
    reduction: str = "mean",
) -> Array:
    r"""Mix the cross-entropy on the labels with the one on tempered soft labels.

    .. math::
        L = \frac{1}{\sum_i w_i} \sum_i w_i \Bigl[
        (1 - a)\, \mathrm{CE}\bigl(y_i, \mathrm{softmax}(z_i)\bigr)
        + a S^2\, \mathrm{CE}\Bigl(\frac{p_i^{1/T}}{\sum_k p_{ik}^{1/T}},
        \mathrm{softmax}(z_i / S)\Bigr) \Bigr]

    The mixing weight is on the **soft** term. With :math:`a = 1` and
    :math:`T = S = 1` this is the distilled risk, Eq. (4) of [Menon2021]_, which
    tempers the teacher only; with :math:`a = 0` it is the ordinary cross-entropy.
    ``student_temperature="same"`` sets :math:`S = T`, the form of [Hinton2015]_
    (section 2), where the factor :math:`S^2` keeps the size of the gradient of the
    soft term from vanishing as :math:`S` grows.

    Parameters
    ----------
    y : array or tensor of int of shape (..., n_samples) or None
        Class codes in ``0, ..., n_classes - 1``. Not looked at, and may be None,
        where `mixing_weight` is the number 1.
    soft_labels : array or tensor of shape (..., n_samples, n_classes) or None
        p. Leading axes are broadcast against those of `logits`. Not looked at, and
        may be None, where `mixing_weight` is the number 0.
    logits : array or tensor of shape (..., n_samples, n_classes)
        z.
    temperature : float or array of shape (...), default=1.0
        T, between 0 and infinity (exclusive). An array, here and below, gives one
        value per member of the leading axes, that is per student of a stack.
    mixing_weight : float or array of shape (...), default=0.5
        a, between 0 and 1 (inclusive).
    student_temperature : float, array of shape (...) or "same", default=1.0
        S, between 0 and infinity (exclusive); "same" is the value of `temperature`.
    sample_weight : array or tensor of shape (..., n_samples), default=None
        w. Rows of weight 0 are as if absent.
    reduction : {"mean", "none"}, default="mean"
        The weighted average over the samples, or the unweighted loss of each row.

    Returns
    -------
    loss : float, array or tensor of shape (...) or (..., n_samples)
        One value per member of the leading axes; with ``reduction="none"`` one per
        row.

    Raises
    ------
    TypeError
        If an argument is not numeric, or `y` does not hold integers.
    ValueError
        If shapes do not match, a temperature is not positive and finite,
        `mixing_weight` is outside [0, 1], `reduction` is unknown, `y` is outside
        the classes, `soft_labels` cannot be normalised, or `sample_weight` is
        negative, not finite or all 0 (values inside tensors are not looked at).

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.
    .. [Hinton2015] Hinton, Vinyals and Dean, "Distilling the knowledge in a neural
       network", 2015, arXiv:1503.02531.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.losses import distillation_loss
    >>> logits = np.log([[0.7, 0.3], [0.4, 0.6]])
    >>> soft_labels = np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> loss = distillation_loss([0, 1], soft_labels, logits, temperature=2.0)
    >>> float(loss.round(4))
    0.5205
    """
    temperature = check_temperature(temperature, "temperature")
    student_temperature = _check_student_temperature(student_temperature, temperature)
    mixing_weight = _check_mixing_weight(mixing_weight)
    logits = as_logits(logits)
    rows: Array = 0.0
    if not is_number(mixing_weight, 1.0):
        rows = _per_row(1.0 - mixing_weight, logits) * _label_rows(y, logits)
    if not is_number(mixing_weight, 0.0):
        factor = _per_row(
            mixing_weight * student_temperature * student_temperature, logits
        )
        targets = _tempered_targets(soft_labels, logits, temperature)
        log_q = log_softmax(divide(logits, student_temperature))
        rows = rows + factor * _cross_entropy_rows(targets, log_q)
    return reduce_rows(rows, sample_weight, reduction)


# -- the formulas, on checked input ------------------------------------------------


def _cross_entropy_rows(soft_labels: Array, log_q: Array) -> Array:
    """Return -sum_k p_k log q_k with 0 log 0 = 0, also in torch's gradient."""
    xp = namespace(log_q)
    if xp is np:
        log_q = np.where(soft_labels == 0, 0.0, log_q)
    else:
        # Half the cost of a mask in a training step. Where p > 0 and q = 0, which
        # takes infinite logits, the loss is the largest number instead of infinity.
        log_q = log_q.clamp(min=xp.finfo(log_q.dtype).min)
    return -(soft_labels * log_q).sum(-1)


def _label_rows(y: Array | None, logits: Array) -> Array:
    """Return -log softmax(z)_y for each row."""
    xp = namespace(logits)
    codes = xp.broadcast_to(_as_codes(y, logits), logits.shape[:-1])[..., None]
    take = xp.take_along_axis if xp is np else xp.take_along_dim
    return -take(log_softmax(logits), codes, -1)[..., 0]


def _tempered_targets(
    soft_labels: Array | None, logits: Array, temperature: float | Array
) -> Array:
    """Check and temper the soft labels."""
    soft_labels = _as_soft_labels(soft_labels, logits)
    if namespace(logits) is np:
        check_nonnegative_rows(soft_labels, "soft_labels")
    return temper(soft_labels, temperature)


# -- one number, or one for each student of a stack --------------------------------


def _per_row(value: float | Array, logits: Array) -> Array:
    """Return `value` in a shape that multiplies the loss of each row."""
    return value if isinstance(value, float) else like(value, logits)[..., None]


# -- checks ------------------------------------------------------------------------


def _check_student_temperature(
    value: float | Array | str, temperature: float | Array
) -> float | Array:
    """Check a student temperature; "same" is replaced by `temperature`."""
    if not isinstance(value, str):
        return check_temperature(value, "student_temperature")
    if value != "same":
        raise ValueError(
            f"student_temperature={value!r} must be 'same' or a positive number."
        )
    return temperature


def _check_mixing_weight(value: float | Array) -> float | Array:
    """Check that a mixing weight, or each of an array of them, is in [0, 1]."""
    value = as_scalar_or_array(value, "mixing_weight")
    if namespace(value) is np and not np.all((value >= 0) & (value <= 1)):
        raise ValueError(
            f"mixing_weight={value!r} must be between 0 and 1 (inclusive)."
        )
    return value


def _as_soft_labels(soft_labels: Array | None, logits: Array) -> Array:
    """Return soft labels in the library, dtype and device of the logits."""
    if soft_labels is None:
        raise ValueError("soft_labels=None is only allowed with mixing_weight=0.")
    soft_labels = as_float(soft_labels, "soft_labels")
    check_trailing_shape(soft_labels, logits.shape, 2, "soft_labels")
    return like(soft_labels, logits)


def _as_codes(y: Array, logits: Array) -> Array:
    """Return class codes as integers next to the logits."""
    if y is None:
        raise ValueError("y=None is only allowed with mixing_weight=1.")
    y = np.asarray(y) if namespace(y) is np else y
    if "int" not in str(y.dtype):
        raise TypeError(f"y must hold integer class codes; got dtype {y.dtype}.")
    check_trailing_shape(y, logits.shape[:-1], 1, "y")
    n_classes = logits.shape[-1]
    if namespace(y) is np and not np.all((y >= 0) & (y < n_classes)):
        raise ValueError(
            f"y must be between 0 and {n_classes - 1}, the classes of logits; "
            f"got values from {y.min()} to {y.max()}."
        )
    xp = namespace(logits)
    if xp is np:
        return np.asarray(y, dtype=np.intp)
    if namespace(y) is np:
        y = xp.tensor(y.astype(np.int64))
    return y.to(dtype=xp.int64, device=logits.device)
