"""The mixing weight of a ridge student in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array

from skdistill._arguments import is_scalar_number, naming
from skdistill._parabola import residual_mixing_weight
from skdistill._typing import FloatArray


@dataclass(frozen=True)
class RidgeMixing:
    r"""The best mixing weight of a ridge regression, and what it is worth.

    Attributes
    ----------
    mixing_weight : float
        :math:`\hat\xi`; any real number. NaN if labels and soft labels give the same
        student.
    risk_labels, risk_soft, risk_mixed : float
        Estimated mean squared errors, the noise of the labels included, of the student
        on labels alone, on soft labels alone, and on targets with this weight.

    See Also
    --------
    ridge_mixing_weight : Makes one.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.diagnostics import ridge_mixing_weight
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> mixing = ridge_mixing_weight(X, X[:, 0], alpha=10.0)
    >>> mixing.risk_mixed < mixing.risk_labels
    True
    """

    mixing_weight: float
    risk_labels: float
    risk_soft: float
    risk_mixed: float


def ridge_mixing_weight(
    X: ArrayLike,
    targets: ArrayLike,
    soft_labels: ArrayLike | None = None,
    *,
    alpha: float = 1.0,
    fit_intercept: bool = True,
) -> RidgeMixing:
    r"""Mixing weight at which a ridge regression is closest to the truth.

    A ridge regression is linear in its targets, :math:`\hat y = S y`, so trained on
    targets :math:`(1 - \xi) y + \xi p` it predicts :math:`(1 - \xi) f_0 + \xi f_1`
    with :math:`f_0 = S y` and :math:`f_1 = S p`. Its risk is a parabola in
    :math:`\xi`, lowest at

    .. math::
        \xi^* = \frac{R_0 - C}{R_0 + R_1 - 2 C},

    with the risks :math:`R_0, R_1` of both and their cross-risk :math:`C` [1]_. It is
    estimated by generalised cross-validation, with residuals

    .. math::
        r_0 = \frac{y - S y}{1 - \operatorname{tr} S / n}, \qquad
        r_1 = \frac{y - S^2 y}{1 - \operatorname{tr} S^2 / n}, \qquad
        \hat\xi = \frac{r_0^\top (r_0 - r_1)}{\lVert r_0 - r_1 \rVert^2},

    for self-distillation, :math:`p = S y`: the same regression is the teacher. Soft
    labels of another teacher have :math:`r_1 = y - S p`.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Inputs.
    targets : array-like of shape (n_samples,) or (n_samples, n_outputs)
        y: numbers, or one column of zeros and ones a class.
    soft_labels : array-like of the shape of `targets`, default=None
        p, by a teacher that has seen none of these targets: out-of-fold soft labels
        have, through their neighbours. None is self-distillation.
    alpha : float, default=1.0
        Penalty of :class:`sklearn.linear_model.Ridge`, positive.
    fit_intercept : bool, default=True
        Whether the regression has an intercept, which is not penalised.

    Returns
    -------
    mixing : RidgeMixing
        In self-distillation the weight is above 0 where a larger `alpha` would do
        better, and below 0 where a smaller one would.

    Raises
    ------
    ValueError
        If the shapes differ, `alpha` is not positive, or there are no more rows than
        the regression has effective parameters.

    References
    ----------
    .. [1] Dang, Patil, Rinaldo, "Optimal unconstrained self-distillation in ridge
           regression: strict improvements, precise asymptotics, and one-shot tuning",
           ICML 2026.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import Ridge
    >>> from skdistill.diagnostics import ridge_mixing_weight
    >>> X, y = load_iris(return_X_y=True)
    >>> Y = np.eye(3)[y]
    >>> xi = ridge_mixing_weight(X, Y, alpha=100.0).mixing_weight
    >>> teacher = Ridge(100.0).fit(X, Y)
    >>> student = Ridge(100.0).fit(X, (1 - xi) * Y + xi * teacher.predict(X))
    >>> bool(xi < 0)
    True
    """
    with naming("X"):
        X = np.asarray(check_array(X, dtype=np.float64, input_name="X"))
    y = _as_columns(targets, "targets")
    if len(y) != len(X):
        raise ValueError(f"targets has {len(y)} rows, but X has {len(X)}.")
    if not is_scalar_number(alpha) or not alpha > 0:
        raise ValueError(f"alpha={alpha!r} must be a positive number.")
    basis, share = _smoother(X, alpha, fit_intercept)
    first = basis @ (share[:, None] * (basis.T @ y))
    divisor = 1 - share.sum() / len(y)
    if not divisor > 0:
        raise ValueError(
            f"n_samples={len(y)} rows are no more than the effective parameters of the "
            f"regression, {share.sum():.3g}: nothing is left to judge it by."
        )
    soft = first if soft_labels is None else _as_columns(soft_labels, "soft_labels")
    if soft.shape != y.shape:
        raise ValueError(
            f"soft_labels must have the shape of targets, {y.shape}, got {soft.shape}."
        )
    second = basis @ (share[:, None] * (basis.T @ soft))
    seen = share @ share / len(y) if soft_labels is None else 0.0
    return _lowest((y - first) / divisor, (y - second) / (1 - seen))


def _as_columns(values: ArrayLike, name: str) -> FloatArray:
    with naming(name):
        columns: FloatArray = check_array(
            values, dtype=np.float64, ensure_2d=False, input_name=name
        )
    return columns.reshape(len(columns), -1)


def _smoother(
    X: FloatArray, alpha: float, fit_intercept: bool
) -> tuple[FloatArray, FloatArray]:
    """Return eigenvectors and eigenvalues of S, the zero ones left out."""
    if not fit_intercept:
        basis, singular, _ = np.linalg.svd(X, full_matrices=False)
        return basis, singular**2 / (singular**2 + alpha)
    basis, singular, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    constant = np.full((len(X), 1), len(X) ** -0.5)
    share = singular**2 / (singular**2 + alpha)
    return np.hstack([constant, basis]), np.append(1.0, share)


def _lowest(labels: FloatArray, soft: FloatArray) -> RidgeMixing:
    """Return the lowest point of the parabola of all outputs together."""
    (weight,), _ = residual_mixing_weight(
        labels.reshape(-1, 1), soft.reshape(-1, 1), np.ones(labels.size)
    )
    mixed = labels + np.nan_to_num(weight) * (soft - labels)
    risks = [
        float((residual**2).sum(axis=1).mean()) for residual in (labels, soft, mixed)
    ]
    return RidgeMixing(float(weight), *risks)
