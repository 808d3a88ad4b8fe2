"""Risks, variances and their consequences, row by row and class by class."""

import math

from reference.losses import weighted_mean


def loss_row(q, loss, eps=2.0**-52):
    """Return the loss of each class."""
    n_classes = len(q)
    if loss == "log_loss":
        return [-math.log(max(qk, eps)) for qk in q]
    if loss == "brier":
        return [
            sum((qj - (j == k)) ** 2 for j, qj in enumerate(q))
            for k in range(n_classes)
        ]
    top = max(range(n_classes), key=lambda k: q[k])
    return [float(k != top) for k in range(n_classes)]


def risk_values(targets, proba, loss):
    return [
        sum(r * cost for r, cost in zip(target, loss_row(q, loss), strict=True))
        for target, q in zip(targets, proba, strict=True)
    ]


def one_hot(codes, n_classes):
    return [[float(k == code) for k in range(n_classes)] for code in codes]


def objective_moments(targets, proba, loss):
    """Return E l, E (E l)^2 and E l^2 for rows of equal weight, by enumeration."""
    mean = square_of_mean = mean_of_square = 0.0
    n = len(targets)
    for target, q in zip(targets, proba, strict=True):
        costs = loss_row(q, loss)
        inner = sum(r * c for r, c in zip(target, costs, strict=True))
        mean += inner / n
        square_of_mean += inner**2 / n
        mean_of_square += sum(r * c**2 for r, c in zip(target, costs, strict=True)) / n
    return mean, square_of_mean, mean_of_square


def mixed_objective_error(w, bias, v1, vt, c, n):
    """w^2 b^2 + ((1 - w)^2 V1 + w^2 Vt + 2 w (1 - w) C) / N."""
    spread = (1 - w) ** 2 * v1 + w**2 * vt + 2 * w * (1 - w) * c
    return w**2 * bias**2 + spread / n


def isotonic_fit(x, y, w):
    """Pool adjacent violators, on groups of equal x."""
    groups = {}
    for xi, yi, wi in zip(x, y, w, strict=True):
        total, weight = groups.get(xi, (0.0, 0.0))
        groups[xi] = (total + wi * yi, weight + wi)
    blocks = []
    for xi in sorted(groups):
        blocks.append([[xi], *groups[xi]])
        while len(blocks) > 1:
            (xs, total, weight), (xs2, total2, weight2) = blocks[-2:]
            if total / weight < total2 / weight2:
                break
            blocks[-2:] = [[xs + xs2, total + total2, weight + weight2]]
    level = {xi: total / weight for xs, total, weight in blocks for xi in xs}
    return [level[xi] for xi in x]


def bias_variance(fits, targets, weight=None):
    """Unbiased squared bias and variance, and the mean squared error, of fits."""
    n_fits, rows = len(fits), []
    for i, target in enumerate(targets):
        variance = error = 0.0
        for k, r in enumerate(target):
            values = [fit[i][k] for fit in fits]
            mean = sum(values) / n_fits
            variance += sum((v - mean) ** 2 for v in values) / (n_fits - 1)
            error += sum((v - r) ** 2 for v in values) / n_fits
        rows.append((error, error - variance, variance))
    return [weighted_mean(column, weight) for column in zip(*rows, strict=True)]
