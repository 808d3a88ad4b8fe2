"""Temperatures: of probabilities and logits, one number or one for each student."""

from numbers import Real

import numpy as np

from skdistill._backend import Array, as_float, is_number, like, namespace


def temper_proba(proba: Array, temperature: float | Array) -> Array:
    r"""Temper class probabilities: raise them to the power 1/T and renormalise.

    .. math:: p_k^{(T)} = \frac{p_k^{1/T}}{\sum_j p_j^{1/T}}

    For :math:`p = \mathrm{softmax}(z)` this is :math:`\mathrm{softmax}(z / T)`, the
    form in which [Hinton2015]_ writes it. Temperatures above 1 flatten the rows,
    temperatures below 1 sharpen them, and the order of the classes stays.

    Parameters
    ----------
    proba : array or tensor of shape (..., n_samples, n_classes)
        Non-negative values with a positive sum over the last axis.
    temperature : float or array of shape (...)
        T, between 0 and infinity (exclusive). An array gives one temperature per
        member of the leading axes, against which it is broadcast.

    Returns
    -------
    tempered : array or tensor of shape (..., n_samples, n_classes)
        Rows that sum to 1. Exact zeros stay zero. With ``temperature=1`` the rows
        are renormalised and nothing else.

    Raises
    ------
    TypeError
        If `temperature` or `proba` is not numeric.
    ValueError
        If `temperature` is not positive and finite, or `proba` holds negative or
        non-finite values or a row without a positive entry.

    References
    ----------
    .. [Hinton2015] Hinton, Vinyals and Dean, "Distilling the knowledge in a neural
       network", 2015, arXiv:1503.02531, Eq. (1).

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.losses import temper_proba
    >>> temper_proba(np.array([[0.8, 0.2, 0.0]]), temperature=2.0).round(3)
    array([[0.667, 0.333, 0.   ]])
    """
    temperature = check_temperature(temperature, "temperature")
    proba = as_float(proba, "proba")
    check_nonnegative_rows(proba, "proba")
    return temper(proba, temperature)


def temper(proba: Array, temperature: float | Array) -> Array:
    """Return p^(1/T) / sum p^(1/T); each row is first divided by its largest entry."""
    xp = namespace(proba)
    if is_number(temperature, 1.0):
        return proba / xp.sum(proba, axis=-1, keepdims=True)
    is_zero = proba == 0
    ratio = xp.where(is_zero, 1.0, proba / xp.amax(proba, axis=-1, keepdims=True))
    # Overflow to -inf and log(0) are right here: such a class gets probability 0.
    with np.errstate(over="ignore", divide="ignore"):
        power = xp.exp(divide(xp.log(ratio), _within(temperature, proba)))
    power = xp.where(is_zero, 0.0, power)
    return power / xp.sum(power, axis=-1, keepdims=True)


def divide(array: Array, temperature: float | Array) -> Array:
    """Divide rows and classes by one number, or by one for each leading index."""
    if isinstance(temperature, float):
        return array if temperature == 1.0 else array / temperature
    return array / like(temperature, array)[..., None, None]


def _within(temperature: float | Array, array: Array) -> float | Array:
    """Clip a temperature to the positive numbers that the dtype of `array` has."""
    info = namespace(array).finfo(array.dtype)
    low, high = float(info.tiny), float(info.max)
    if isinstance(temperature, float):
        return min(max(temperature, low), high)
    return namespace(temperature).clip(temperature, low, high)


def check_temperature(value: float | Array, name: str) -> float | Array:
    """Check that a temperature, or each of an array of them, is in (0, inf)."""
    value = as_scalar_or_array(value, name)
    if namespace(value) is np and not np.all((value > 0) & np.isfinite(value)):
        raise ValueError(f"{name}={value!r} must be positive and finite.")
    return value


def as_scalar_or_array(value: float | Array, name: str) -> float | Array:
    """Return a Python float, a float array or the tensor itself."""
    if isinstance(value, (bool, np.bool_)) or not (
        isinstance(value, Real) or hasattr(value, "shape")
    ):
        raise TypeError(f"{name}={value!r} must be a real number or an array of them.")
    if isinstance(value, Real):
        return float(value)
    value = as_float(value, name)
    return float(value) if value.shape == () else value


def check_nonnegative_rows(proba: Array, name: str) -> None:
    """Check that each row can be normalised."""
    if proba.ndim < 1 or 0 in proba.shape[-1:]:
        raise ValueError(
            f"{name} must have shape (..., n_classes); got {tuple(proba.shape)}."
        )
    xp = namespace(proba)
    total = xp.sum(proba, axis=-1)
    if not bool((proba >= 0).all() and xp.isfinite(total).all() and (total > 0).all()):
        raise ValueError(
            f"{name} must be non-negative and finite, with a positive entry in each "
            "row."
        )
