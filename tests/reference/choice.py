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


def gain(loss, weight, candidate):
    """Weighted mean of what a candidate gains on the first, and its standard error."""
    total = sum(weight)
    gains = [loss[0][i] - loss[candidate][i] for i in range(len(weight))]
    mean = sum(w * g for w, g in zip(weight, gains, strict=True)) / total
    variance = sum(
        (w / total) ** 2 * (g - mean) ** 2 for w, g in zip(weight, gains, strict=True)
    )
    n = len(weight)
    return mean, (variance * n / (n - 1)) ** 0.5
