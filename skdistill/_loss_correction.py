"""The loss correction: soft labels whose bias is of second order."""

import numpy as np

from skdistill._arguments import is_scalar_number
from skdistill._backend import Array, as_float, namespace
from skdistill._tempering import check_nonnegative_rows, check_temperature, temper


def corrected_soft_labels(
    y: Array, proba: Array, temperature: float, *, min_proba: float = 0.01
) -> Array:
    r"""Correct tempered soft labels, to first order, for the error of the teacher.

    .. math::
        \tilde w = w + \frac1T \bigl(r - (r^\top w)\, 1\bigr) \odot w
        = (1 - c)\, w + c\, e_y, \qquad
        w = \frac{p^{1/T}}{\sum_k p_k^{1/T}}, \quad
        r = \frac{e_y}{\max(p, \epsilon)} - 1, \quad
        c = \frac{w_y}{T \max(p_y, \epsilon)}

    The loss correction of [Dao2021]_, for a classification loss at a temperature, with
    the residual of the label along the slope of w in p. The cross-entropy is linear in
    the soft labels, so that of these is the corrected loss. With the true probabilities
    :math:`p^*` of a row,

    .. math::
        \mathrm E[\tilde w(p)] = w(p^*) + O\bigl(\lVert p - p^* \rVert^2\bigr),

    where those of the teacher are wrong by as much as the teacher. It holds for labels
    that the teacher has not seen, and above :math:`\epsilon`. The price is variance:
    a label that the teacher holds for improbable weighs c, up to
    :math:`w_y / (T \epsilon)`.

    Parameters
    ----------
    y : array or tensor of int of shape (..., n_samples)
        Class codes in ``0, ..., n_classes - 1``.
    proba : array or tensor of shape (..., n_samples, n_classes)
        p, by a teacher that has not seen `y`.
    temperature : float
        T, between 0 and infinity (exclusive). At 1 the result is the labels, but for
        rows with :math:`p_y < \epsilon`.
    min_proba : float, default=0.01
        :math:`\epsilon`, in (0, 1].

    Returns
    -------
    corrected : array or tensor of shape (..., n_samples, n_classes)
        Rows that sum to 1; other classes than the label's are below 0 where c is
        above 1.

    Raises
    ------
    TypeError
        If `temperature` or `proba` is not numeric, or `y` does not hold integers.
    ValueError
        If `temperature` or `min_proba` is out of range, `proba` has negative or
        non-finite values or a row without a positive entry, or `y` does not fit it.

    References
    ----------
    .. [Dao2021] Dao, Kamath, Syrgkanis and Mackey, "Knowledge distillation as
       semiparametric inference", ICLR 2021, arXiv:2104.09732, section 4.2: loss
       correction.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.losses import corrected_soft_labels
    >>> proba = np.array([[0.8, 0.2], [0.8, 0.2]])
    >>> corrected_soft_labels([0, 1], proba, temperature=2.0).round(3)
    array([[0.806, 0.194],
           [0.111, 0.889]])
    """
    temperature = check_temperature(temperature, "temperature")
    if not is_scalar_number(min_proba) or not 0 < min_proba <= 1:
        raise ValueError(
            f"min_proba={min_proba!r} must be between 0 (exclusive) and 1."
        )
    proba = as_float(proba, "proba")
    check_nonnegative_rows(proba, "proba")
    xp = namespace(proba)
    codes = _codes(y, proba)
    take = xp.take_along_axis if xp is np else xp.take_along_dim
    tempered = temper(proba, temperature)
    of_label = take(temper(proba, 1.0), codes, -1).clip(min_proba)
    weight = take(tempered, codes, -1) / (temperature * of_label)
    columns = xp.arange(proba.shape[-1])
    is_label = codes == (columns if xp is np else columns.to(codes.device))
    return (1.0 - weight) * tempered + weight * is_label


def _codes(y: Array, proba: Array) -> Array:
    """Return class codes as integers of shape (..., n_samples, 1), beside `proba`."""
    y = np.asarray(y) if namespace(y) is np else y
    if "int" not in str(y.dtype):
        raise TypeError(f"y must hold integer class codes; got dtype {y.dtype}.")
    if tuple(y.shape) != tuple(proba.shape[:-1]):
        raise ValueError(
            f"y has shape {tuple(y.shape)}, but proba {tuple(proba.shape)}: expected "
            f"{tuple(proba.shape[:-1])}."
        )
    n_classes = proba.shape[-1]
    if not bool(((y >= 0) & (y < n_classes)).all()):
        raise ValueError(
            f"y must be between 0 and {n_classes - 1}, the classes of proba."
        )
    if namespace(proba) is np:
        return np.asarray(y, dtype=np.intp)[..., None]
    xp = namespace(proba)
    return xp.as_tensor(y).to(dtype=xp.int64, device=proba.device)[..., None]
