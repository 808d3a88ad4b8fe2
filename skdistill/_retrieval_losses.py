r"""Losses for retrieval: many labels, of which a few are right and most unobserved.

All of them take rows of candidate labels, which may be all labels or a sample shared by
the rows. Symbols: logits :math:`f`, targets :math:`t`, soft labels :math:`p`, weights
of the negatives :math:`a`, probability :math:`\pi` that a label is in the sample.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from skdistill._arguments import is_scalar_number, is_word, naming
from skdistill._backend import (
    Array,
    as_float,
    like,
    namespace,
    softplus,
)
from skdistill._loss_arguments import as_logits, reduce_rows
from skdistill._retrieval_objectives import (
    MARGIN_LOSSES,
    DecoupledObjective,
    RetrievalObjective,
    SoftmaxObjective,
)
from skdistill._typing import FloatArray

#: Smallest weight of a negative, in the place of 0.
SMALLEST_WEIGHT = 1e-12


def pick_all_labels(labels: Array, *, normalize: bool = True) -> Array:
    r"""Targets of the reduction from several labels a row to one example a label.

    .. math::
        t_y = \frac{b_y}{\sum_j b_j}
        \quad\text{or, not normalised,}\quad t_y = b_y

    for a row with label indicators :math:`b`. With these targets the softmax
    cross-entropy, Eq. (2) of [Menon2021]_, is the mean over the labels of the row, or
    their sum: each label makes one multiclass example. The sum fits precision, the mean
    recall, as [Menon2019]_ shows. A row without labels has no targets and no loss.

    Parameters
    ----------
    labels : array or tensor of shape (n_samples, n_labels)
        b, non-negative: 0 and 1, or weights.
    normalize : bool, default=True
        Whether a row's targets sum to 1.

    Returns
    -------
    targets : array or tensor of shape (n_samples, n_labels)
        t.

    Raises
    ------
    TypeError
        If `labels` is not numeric.
    ValueError
        If `labels` is not two-dimensional, or holds negative or non-finite values.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.
    .. [Menon2019] Menon, Rawat, Reddi and Kumar, "Multilabel reductions: what is my
       loss optimising?", NeurIPS 2019.

    Examples
    --------
    >>> from skdistill.losses import pick_all_labels
    >>> pick_all_labels([[1, 0, 1], [0, 0, 0]])
    array([[0.5, 0. , 0.5],
           [0. , 0. , 0. ]])
    """
    labels = as_float(labels, "labels")
    xp = namespace(labels)
    if labels.ndim != 2:
        raise ValueError(
            f"labels must have shape (n_samples, n_labels); got {tuple(labels.shape)}."
        )
    if not bool((xp.isfinite(labels) & (labels >= 0)).all()):
        raise ValueError("labels must be non-negative and finite.")
    if not normalize:
        return labels
    total = labels.sum(-1)[:, None]
    return labels / xp.where(total > 0, total, 1.0)


def negative_log_weight(
    teacher: Array, *, kind: str = "complement", scale: float = 1.0
) -> Array:
    r"""Logarithm of the weight that a teacher leaves to each label as a negative.

    .. math::
        a_y = 1 - p_y \quad\text{(complement)}, \qquad
        a_y = 1 - \sigma(c\, s_y) \quad\text{(sigmoid)}

    with the teacher's probability :math:`p` and logit :math:`s` of the label, after Eq.
    (14) of [Menon2021]_. The more plausible a label is to the teacher, the **less** it
    is pushed away as a negative.

    Parameters
    ----------
    teacher : array or tensor of shape (..., n_labels)
        p for "complement", between 0 and 1; s for "sigmoid", any real number.
    kind : {"complement", "sigmoid"}, default="complement"
        The sigmoid is not normalised over the labels: many can be plausible at once,
        or none.
    scale : float, default=1.0
        c, positive. Used with "sigmoid" only.

    Returns
    -------
    log_weight : array or tensor of shape (..., n_labels)
        log a, at least log(1e-12), so that no label is without any weight.

    Raises
    ------
    TypeError
        If `teacher` is not numeric.
    ValueError
        If `kind` is unknown, `scale` is not positive and finite, or probabilities are
        outside [0, 1].

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.losses import negative_log_weight
    >>> np.exp(negative_log_weight([0.75, 0.0])).round(2)
    array([0.25, 1.  ])
    """
    teacher = as_float(teacher, "teacher")
    xp = namespace(teacher)
    if is_word(kind, ("sigmoid",)):
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(f"scale={scale!r} must be positive and finite.")
        log_weight = -softplus(scale * teacher)
    elif is_word(kind, ("complement",)):
        if not bool(((teacher >= 0) & (teacher <= 1)).all()):
            raise ValueError("teacher must hold probabilities, between 0 and 1.")
        with np.errstate(divide="ignore"):  # the weight 0 of a sure label is raised
            log_weight = xp.log1p(-teacher)
    else:
        raise ValueError(f"kind={kind!r} must be 'complement' or 'sigmoid'.")
    return xp.clip(log_weight, float(np.log(SMALLEST_WEIGHT)), None)


def negative_aware_loss(
    soft_labels: Array,
    logits: Array,
    *,
    labels: Array | None = None,
    anchor: str = "candidate",
    mixing_weight: float = 1.0,
    log_weight: Array | None = None,
    sample_weight: Array | None = None,
    reduction: str = "mean",
) -> Array:
    r"""Negative-aware, or double, distillation: negatives are smoothed as well.

    .. math::
        \sum_y t_y \bigl[ z_y - f_y \bigr], \qquad
        z_y = \log\Bigl( e^{f_y} + \sum_{j \ne y} a_j e^{f_j} \Bigr), \qquad
        a_j = 1 - p_j

    with :math:`t = (1 - m) \cdot \text{labels} + m\, p`, averaged over the rows: Eq.
    (14) of [Menon2021]_ (called double distillation in its first version), anchored at
    the candidate y. This is never negative. ``anchor="observed"`` is the equation as
    printed, where weight 1 belongs to the observed label :math:`y_n`:

    .. math::
        z = \log\Bigl( e^{f_{y_n}} + \sum_{j \ne y_n} a_j e^{f_j} \Bigr)

    which can be negative. A row with several labels counts as one example for each; one
    without labels is anchored at the candidate, as nothing else would hold its logits.
    With one-hot soft labels both are the softmax cross-entropy.

    Parameters
    ----------
    soft_labels : array or tensor of shape (n_samples, n_labels)
        p, between 0 and 1 where `log_weight` is not given.
    logits : array or tensor of shape (n_samples, n_labels)
        f.
    labels : array or tensor of shape (n_samples, n_labels), default=None
        Indicators of the observed labels, which :func:`pick_all_labels` turns into
        targets. Needed with ``anchor="observed"`` or a `mixing_weight` below 1.
    anchor : {"candidate", "observed"}, default="candidate"
        The label that has weight 1 in the normaliser.
    mixing_weight : float, default=1.0
        m, between 0 and 1 (inclusive).
    log_weight : array or tensor of shape (n_samples or 1, n_labels), default=None
        log a. None means ``log(1 - p)``; see :func:`negative_log_weight`.
    sample_weight : array or tensor of shape (n_samples,), default=None
        Weights of the rows. Rows of weight 0 are as if absent.
    reduction : {"mean", "none"}, default="mean"
        The weighted average over the samples, or the unweighted loss of each row.

    Returns
    -------
    loss : float, array or tensor of shape (n_samples,)
        The mean; with ``reduction="none"`` one value a row.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If shapes do not match, `anchor` or `reduction` is unknown, `labels` is
        missing, `mixing_weight` is outside [0, 1], soft labels that make weights are,
        or `sample_weight` is negative, not finite or all 0.

    Notes
    -----
    Where :math:`t = p`, the logits that minimise the loss without an anchor are
    :math:`e^{f_y} \propto p_y / (1 - p_y)`: the same order as the teacher's, but the
    softmax of the logits is sharper than the teacher. Probabilities take
    :func:`recalibrate_negative_aware`.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.losses import negative_aware_loss
    >>> logits = np.log([[0.6, 0.3, 0.1]])
    >>> float(negative_aware_loss([[0.7, 0.3, 0.0]], logits).round(4))
    0.4893
    """
    logits = _as_matrix(logits)
    soft_labels = _as_matching(soft_labels, logits, "soft_labels")
    picked = _picked(labels, logits, anchor, mixing_weight)
    if log_weight is None:
        with naming("soft_labels"):
            log_weight = negative_log_weight(soft_labels)
    log_weight = _as_log_weight(log_weight, logits, "log_weight")
    targets, anchors = soft_labels, None
    if picked is not None:
        targets = (1.0 - mixing_weight) * picked + mixing_weight * soft_labels
        if anchor == "observed":
            observed = picked.sum(-1)[:, None]
            anchors = picked * targets.sum(-1)[:, None] + (observed == 0) * targets
    rows = _rows(SoftmaxObjective(), logits, targets, log_weight, anchors)
    return reduce_rows(rows, sample_weight, reduction)


def decoupled_loss(
    soft_labels: Array,
    logits: Array,
    *,
    margin: str = "logistic",
    negative_weight: Array | None = None,
    sample_weight: Array | None = None,
    reduction: str = "mean",
) -> Array:
    r"""Losses of margins, each label on its own; positives and negatives smoothed.

    .. math::
        \sum_y \bigl[ p_y\, \varphi(f_y) + a_y\, \varphi(-f_y) \bigr],
        \qquad a_y = 1 - p_y

    averaged over the rows, with :math:`\varphi(z)` one of

    .. math::
        \log(1 + e^{-z}), \qquad \max(0, 1 - z), \qquad (1 - z)^2

    Eqs. (12) and (13) of [Menon2021]_, and with one-hot soft labels its Eq. (11). With
    the logistic margin it is the binary cross-entropy of each label, at its lowest
    where :math:`f_y = \log p_y - \log(1 - p_y)`. Several labels may have a probability
    near 1: rows need not sum to 1.

    Parameters
    ----------
    soft_labels : array or tensor of shape (n_samples, n_labels)
        p, between 0 and 1.
    logits : array or tensor of shape (n_samples, n_labels)
        f.
    margin : {"logistic", "hinge", "squared"}, default="logistic"
        The loss of the margin.
    negative_weight : array or tensor of shape (n_samples or 1, n_labels), default=None
        a, non-negative. None means 1 - p. To correct for a sample of the labels, give
        ``(1 - p) / pi``; for hard negatives give 0 to all others.
    sample_weight : array or tensor of shape (n_samples,), default=None
        Weights of the rows. Rows of weight 0 are as if absent.
    reduction : {"mean", "none"}, default="mean"
        The weighted average over the samples, or the unweighted loss of each row.

    Returns
    -------
    loss : float, array or tensor of shape (n_samples,)
        The mean; with ``reduction="none"`` one value a row.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If shapes do not match, `margin` or `reduction` is unknown, soft labels are
        outside [0, 1], or `sample_weight` is negative, not finite or all 0.

    References
    ----------
    .. [Menon2021] Menon, Rawat, Reddi, Kim and Kumar, "A statistical perspective on
       distillation", ICML 2021, PMLR 139:7632-7642.

    Examples
    --------
    >>> from skdistill.losses import decoupled_loss
    >>> float(decoupled_loss([[1.0, 0.0]], [[0.5, 0.25]], margin="hinge"))
    1.75
    """
    logits = _as_matrix(logits)
    soft_labels = _as_matching(soft_labels, logits, "soft_labels")
    if not is_word(margin, MARGIN_LOSSES):
        raise ValueError(f"margin={margin!r} must be one of {sorted(MARGIN_LOSSES)}.")
    if not bool(((soft_labels >= 0) & (soft_labels <= 1)).all()):
        raise ValueError("soft_labels must be between 0 and 1.")
    log_weight = None
    if negative_weight is not None:
        with np.errstate(divide="ignore"):
            log_weight = namespace(logits).log(
                _as_log_weight(negative_weight, logits, "negative_weight")
            )
    rows = _rows(DecoupledObjective(margin), logits, soft_labels, log_weight)
    return reduce_rows(rows, sample_weight, reduction)


def sampled_softmax_loss(
    targets: Array,
    logits: Array,
    log_inclusion: Array,
    *,
    log_weight: Array | None = None,
    sample_weight: Array | None = None,
    reduction: str = "mean",
) -> Array:
    r"""Softmax cross-entropy over a sample of labels; with weights the unified loss.

    .. math::
        \sum_y t_y \Bigl[ \log\Bigl( e^{f_y} + \sum_{j \in C, j \ne y}
        \frac{a_j}{\pi_j} e^{f_j} \Bigr) - f_y \Bigr]

    averaged over the rows, for candidates C with :math:`\pi_j` the probability that
    label j is one of them. The sum is an unbiased estimate of the sum over all labels,
    the loss a consistent one. Without `log_weight`, :math:`a = 1`: the sampled softmax.
    With the teacher's weights it is the estimate of :func:`negative_aware_loss`, and
    with those of :func:`hardest_negatives` added to them, :math:`\log a`, the unified
    objective: mined negatives, importance weights and the teacher's weights, multiplied
    [Rawat2021]_.

    Parameters
    ----------
    targets : array or tensor of shape (n_samples, n_candidates)
        t. Labels with a target have to be candidates.
    logits : array or tensor of shape (n_samples, n_candidates)
        f.
    log_inclusion : array or tensor of shape (n_samples or 1, n_candidates)
        :math:`\log \pi`; 0 for labels that are candidates for sure.
    log_weight : array or tensor of shape (n_samples or 1, n_candidates), default=None
        :math:`\log a`; None means 0.
    sample_weight : array or tensor of shape (n_samples,), default=None
        Weights of the rows. Rows of weight 0 are as if absent.
    reduction : {"mean", "none"}, default="mean"
        The weighted average over the samples, or the unweighted loss of each row.

    Returns
    -------
    loss : float, array or tensor of shape (n_samples,)
        The mean; with ``reduction="none"`` one value a row.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If shapes do not match, `reduction` is unknown, or `sample_weight` is negative,
        not finite or all 0.

    References
    ----------
    .. [Rawat2021] Rawat, Menon, Jitkrittum, Jayasumana, Yu, Reddi and Kumar,
       "Disentangling sampling and labeling bias for learning in large-output spaces",
       ICML 2021, arXiv:2105.05736.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.losses import sampled_softmax_loss
    >>> log_inclusion = np.log([[1.0, 0.5]])  # the second was drawn from two
    >>> loss = sampled_softmax_loss([[1.0, 0.0]], [[0.0, 0.0]], log_inclusion)
    >>> float(loss.round(4))  # as of three labels
    1.0986
    """
    logits = _as_matrix(logits)
    targets = _as_matching(targets, logits, "targets")
    weight = -_as_log_weight(log_inclusion, logits, "log_inclusion")
    if log_weight is not None:
        weight = weight + _as_log_weight(log_weight, logits, "log_weight")
    rows = _rows(SoftmaxObjective(), logits, targets, weight)
    return reduce_rows(rows, sample_weight, reduction)


def hardest_negatives(logits: Array, is_own: Array, n_kept: int) -> Array:
    r"""Logarithm of a mask that keeps the hardest of the negatives that were drawn.

    .. math::
        \log m_{ij} = 0 \text{ if } j \text{ is the row's own, or among its }
        k \text{ largest } f_{ij} \text{ of the others}, \quad -\infty \text{ else}

    Stochastic negative mining [Reddi2019]_: draw negatives uniformly, keep the k that
    score highest. Added to the weights of the negatives of any loss here.

    Parameters
    ----------
    logits : array or tensor of shape (n_samples, n_candidates)
        f.
    is_own : array or tensor of bool of shape (n_samples, n_candidates)
        Labels that the row supports; they are kept and do not count.
    n_kept : int
        k, at least 1.

    Returns
    -------
    log_mask : array or tensor of shape (n_samples, n_candidates)
        0 or minus infinity.

    Raises
    ------
    ValueError
        If `n_kept` is no integer above 0, or shapes differ.

    References
    ----------
    .. [Reddi2019] Reddi, Kale, Yu, Holtmann-Rice, Chen and Kumar, "Stochastic negative
       mining for learning with large output spaces", AISTATS 2019, PMLR 89:1940-1949.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.losses import hardest_negatives
    >>> logits = np.array([[3.0, 2.0, 1.0, 0.0]])
    >>> is_own = np.array([[True, False, False, False]])
    >>> hardest_negatives(logits, is_own, 1)
    array([[  0.,   0., -inf, -inf]])
    """
    if not isinstance(n_kept, (int, np.integer)) or n_kept < 1:
        raise ValueError(f"n_kept={n_kept!r} must be an integer of at least 1.")
    logits = _as_matrix(logits)
    xp = namespace(logits)
    if tuple(np.shape(is_own)) != tuple(logits.shape):
        raise ValueError(
            f"is_own must have the shape of logits, {tuple(logits.shape)}, got "
            f"{tuple(np.shape(is_own))}."
        )
    n_kept = min(n_kept, logits.shape[-1])
    others = xp.where(is_own, -np.inf, logits)
    mask = xp.where(is_own, 0.0, -np.inf + xp.zeros_like(logits))
    if xp is np:
        kept = np.argpartition(-others, n_kept - 1, axis=-1)[:, :n_kept]
        np.put_along_axis(mask, kept, 0.0, axis=-1)
        return mask
    return mask.scatter(-1, others.topk(n_kept, dim=-1, sorted=False).indices, 0.0)


def mining_probabilities(n_negatives: int, n_drawn: int, n_kept: int) -> FloatArray:
    r"""How likely stochastic negative mining keeps the negative of each rank.

    .. math::
        \theta_r = \frac{m}{n} \sum_{h=0}^{k-1}
        \frac{\binom{r-1}{h} \binom{n-r}{m-1-h}}{\binom{n-1}{m-1}}

    for the r-th highest of n negatives, of which m are drawn without replacement and
    the k highest of those kept. In expectation, mining is thereby the ordered weighted
    loss :math:`\varphi(f_y) + \sum_r \theta_r\, \varphi(-f_{[r]})` of [Reddi2019]_.

    Parameters
    ----------
    n_negatives : int
        n, at least 1.
    n_drawn : int
        m, between 1 and n.
    n_kept : int
        k, between 1 and m.

    Returns
    -------
    theta : ndarray of shape (n_negatives,)
        Falls with the rank, and sums to k.

    Raises
    ------
    ValueError
        If the numbers are not ``1 <= n_kept <= n_drawn <= n_negatives``.

    References
    ----------
    .. [Reddi2019] Reddi, Kale, Yu, Holtmann-Rice, Chen and Kumar, "Stochastic negative
       mining for learning with large output spaces", AISTATS 2019, PMLR 89:1940-1949.

    Examples
    --------
    >>> from skdistill.losses import mining_probabilities
    >>> mining_probabilities(4, 2, 1).round(3)
    array([0.5  , 0.333, 0.167, 0.   ])
    """
    sizes = (n_kept, n_drawn, n_negatives)
    ints = all(isinstance(size, (int, np.integer)) for size in sizes)
    if not ints or not 1 <= n_kept <= n_drawn <= n_negatives:
        raise ValueError(
            f"n_kept={n_kept!r}, n_drawn={n_drawn!r} and n_negatives={n_negatives!r} "
            "must be integers with 1 <= n_kept <= n_drawn <= n_negatives."
        )
    above = np.arange(n_negatives)[:, None]
    drawn_above = np.arange(n_kept)[None, :]
    log_ways = _log_binomial(above, drawn_above) + _log_binomial(
        n_negatives - 1 - above, n_drawn - 1 - drawn_above
    )
    log_all = _log_binomial(np.array(n_negatives - 1), np.array(n_drawn - 1))
    return np.exp(log_ways - log_all).sum(axis=1) * n_drawn / n_negatives


# -- helpers on the way from arguments to rows ---------------------------------------


def _as_matrix(logits: Array) -> Array:
    """Return logits of shape (n_samples, n_labels); there are no axes in front here."""
    logits = as_logits(logits)
    if logits.ndim != 2:
        raise ValueError(
            f"logits must have shape (n_samples, n_labels); got {tuple(logits.shape)}."
        )
    return logits


def _as_matching(array: Array, logits: Array, name: str) -> Array:
    """Return an array of the logits' shape, next to them."""
    array = as_float(array, name)
    if tuple(array.shape) != tuple(logits.shape):
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}, but logits have "
            f"{tuple(logits.shape)}."
        )
    return like(array, logits)


def _as_log_weight(log_weight: Array, logits: Array, name: str) -> Array:
    """Return weights by row and label, or by label in one row, next to the logits."""
    log_weight = as_float(log_weight, name)
    if log_weight.ndim != 2 or tuple(log_weight.shape) not in (
        tuple(logits.shape),
        (1, logits.shape[1]),
    ):
        raise ValueError(
            f"{name} has shape {tuple(log_weight.shape)}; allowed are "
            f"{tuple(logits.shape)} and {(1, logits.shape[1])}."
        )
    return like(log_weight, logits)


def _picked(
    labels: Array | None, logits: Array, anchor: str, mixing_weight: float
) -> Array | None:
    """Return the targets of the labels, None where nobody asks for them."""
    if not is_word(anchor, ("candidate", "observed")):
        raise ValueError(f"anchor={anchor!r} must be 'candidate' or 'observed'.")
    if not is_scalar_number(mixing_weight) or not 0 <= mixing_weight <= 1:
        raise ValueError(
            f"mixing_weight={mixing_weight!r} must be between 0 and 1 (inclusive)."
        )
    if anchor == "candidate" and mixing_weight == 1:
        return None
    if labels is None:
        raise ValueError(
            "labels=None is only allowed with anchor='candidate' and mixing_weight=1."
        )
    return pick_all_labels(_as_matching(labels, logits, "labels"))


def _rows(
    objective: RetrievalObjective,
    logits: Array,
    targets: Array,
    log_weight: Array | None,
    anchors: Array | None = None,
) -> Array:
    """Return the loss of each row, all of whose labels are here."""
    sums = objective.start(len(logits), logits)
    objective.absorb(sums, logits, targets, log_weight, anchors)
    return objective.finish(sums)


def _log_binomial(n: NDArray[np.int_], k: NDArray[np.int_]) -> FloatArray:
    """Return the logarithm of "n choose k", minus infinity where there is no way."""
    n, k = np.broadcast_arrays(n, k)
    possible = (k >= 0) & (k <= n)
    n, k = np.where(possible, n, 0), np.where(possible, k, 0)
    ways = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return np.where(possible, ways, -np.inf)
