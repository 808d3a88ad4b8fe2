"""Slow loops for the choice: what is nested, and what a candidate gains."""

import numpy as np
from sklearn.base import clone


def nested_out_of_fold(teacher, X, y, folds, judged):
    """Each row outside a fold, by a teacher fitted without that fold and its own."""
    _, held_out = folds[judged]
    train = folds[judged][0]
    classes = np.unique(y)
    proba = np.empty((len(train), len(classes)))
    for position, i in enumerate(train):
        (own,) = (test for _, test in folds if i in test)
        rest = [j for j in range(len(y)) if j not in held_out and j not in own]
        fitted = clone(teacher).fit(X[rest], y[rest])
        proba[position] = fitted.predict_proba(X[[i]])[0]
    return proba


def gain(loss, weight, fold, candidate):
    """Weighted mean of what a candidate gains on the first, and its standard error."""
    mean, error = mean_and_error(gains_of_rows(loss, candidate), weight)
    of_fold, fold_weight = [], []
    for k in sorted(set(fold)):
        rows = [i for i in range(len(fold)) if fold[i] == k]
        total = sum(weight[i] for i in rows)
        rows_gain = gains_of_rows(loss, candidate)
        of_fold.append(sum(weight[i] * rows_gain[i] for i in rows) / total)
        fold_weight.append(total)
    return mean, max(error, mean_and_error(of_fold, fold_weight)[1])


def gains_of_rows(loss, candidate):
    """What a candidate gains on the first, row by row."""
    return [loss[0][i] - loss[candidate][i] for i in range(len(loss[0]))]


def mean_and_error(gains, weight):
    """Weighted mean and its standard error."""
    total = sum(weight)
    mean = sum(w * g for w, g in zip(weight, gains, strict=True)) / total
    variance = sum(
        (w / total) ** 2 * (g - mean) ** 2 for w, g in zip(weight, gains, strict=True)
    )
    n = len(weight)
    return mean, (variance * n / (n - 1)) ** 0.5
