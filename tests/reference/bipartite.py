"""The bipartite risk, pair by pair."""

import math

MARGIN_LOSSES = {
    "logistic": lambda z: math.log1p(math.exp(-abs(z))) + max(-z, 0.0),
    "squared": lambda z: (1.0 - z) ** 2,
    "exponential": lambda z: math.exp(-z),
    "zero-one": lambda z: 1.0 if z < 0 else 0.5 if z == 0 else 0.0,
}


def pairs(positive, negative):
    """All ordered pairs (i, j) of different rows, with their weights u_i v_j."""
    for i, u in enumerate(positive):
        for j, v in enumerate(negative):
            if i != j:
                yield i, j, u * v


def risk(positive, negative, scores, surrogate):
    """sum u_i v_j phi(s_i - s_j) / sum u_i v_j over i != j."""
    phi = MARGIN_LOSSES[surrogate]
    loss = total = 0.0
    for i, j, weight in pairs(positive, negative):
        loss += weight * phi(scores[i] - scores[j])
        total += weight
    return loss / total


def push_risk(positive, negative, scores, surrogate, power):
    """sum v_j (sum_i u_i phi)^q / sum v_j (sum_i u_i)^q, i != j."""
    phi = MARGIN_LOSSES[surrogate]
    loss = total = 0.0
    for j, v in enumerate(negative):
        others = [i for i in range(len(scores)) if i != j]
        inner = sum(positive[i] * phi(scores[i] - scores[j]) for i in others)
        loss += v * inner**power
        total += v * sum(positive[i] for i in others) ** power
    return loss / total


def top_risk(positive, negative, scores, surrogate, share):
    """sum u_i log(1 + sum_j v_j phi / (share V)), over its value at phi = 1."""
    phi = MARGIN_LOSSES[surrogate]
    loss = total = 0.0
    scale = share * sum(negative)
    for i, u in enumerate(positive):
        others = [j for j in range(len(scores)) if j != i]
        inner = sum(negative[j] * phi(scores[i] - scores[j]) for j in others)
        loss += u * math.log1p(inner / scale)
        total += u * math.log1p(sum(negative[j] for j in others) / scale)
    return loss / total
