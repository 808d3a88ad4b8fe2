"""Losses and scores of retrieval, row by row and label by label."""

import math


def softmax_row(t, f, weight, anchors=None):
    """sum_y s_y log(e^{f_y} + sum_{j != y} w_j e^{f_j}) - sum_y t_y f_y."""
    anchors = t if anchors is None else anchors
    total = 0.0
    for y in range(len(f)):
        rest = sum(weight[j] * math.exp(f[j]) for j in range(len(f)) if j != y)
        if anchors[y]:
            total += anchors[y] * math.log(math.exp(f[y]) + rest)
        total -= t[y] * f[y]
    return total


MARGINS = {
    "logistic": lambda z: math.log(1.0 + math.exp(-z)),
    "hinge": lambda z: max(0.0, 1.0 - z),
    "squared": lambda z: (1.0 - z) ** 2,
}


def one_hot_decoupled_row(y, f, margin):
    """Eq. (11): phi(f_y) + sum_{y' != y} phi(-f_y')."""
    phi = MARGINS[margin]
    return phi(f[y]) + sum(phi(-f[j]) for j in range(len(f)) if j != y)


def decoupled_row(p, f, margin):
    """Eq. (13): sum_y p_y [phi(f_y) + z], z = sum_y' (1 - p_y') phi(-f_y')."""
    phi = MARGINS[margin]
    z = sum((1.0 - pj) * phi(-fj) for pj, fj in zip(p, f, strict=True))
    return sum(py * (phi(fy) + z) for py, fy in zip(p, f, strict=True))


def printed_row(p, f, y):
    """Eq. (14) as printed, for the observed label y."""
    a = [1.0 if j == y else 1.0 - p[j] for j in range(len(f))]
    z = math.log(sum(aj * math.exp(fj) for aj, fj in zip(a, f, strict=True)))
    return sum(py * (z - fy) for py, fy in zip(p, f, strict=True))


def mined_row(y, f, drawn, n_kept, margin):
    """phi(f_y) and phi(-f) of the n_kept highest of the labels drawn."""
    phi = MARGINS[margin]
    kept = sorted((f[j] for j in drawn if j != y), reverse=True)[:n_kept]
    return phi(f[y]) + sum(phi(-fj) for fj in kept)


# -- scores ------------------------------------------------------------------------


def ranked(scores, k, stored=None):
    """The k labels of the highest scores; ties in the order of the labels."""
    labels = [j for j in range(len(scores)) if stored is None or stored[j]]
    return sorted(labels, key=lambda j: (-scores[j], j))[:k]


def precision_row(y, labels, k):
    return sum(1 for j in labels if y[j]) / k


def recall_row(y, labels):
    return sum(1 for j in labels if y[j]) / sum(y) if sum(y) else 0.0


def gain(y, labels, value):
    """sum_l y / (p log2(l + 1)) over ranks l."""
    return sum(value[j] / math.log2(rank + 2) for rank, j in enumerate(labels) if y[j])


def ideal_gain(y, k):
    return sum(1 / math.log2(rank + 2) for rank in range(min(k, int(sum(y)))))


def ndcg_row(y, labels, k):
    return gain(y, labels, [1.0] * len(y)) / ideal_gain(y, k) if sum(y) else 0.0


def best_labels(y, value, k):
    """The ranking with the highest propensity-scored gain."""
    return sorted((j for j in range(len(y)) if y[j]), key=lambda j: -value[j])[:k]


def coverage(Y, rankings):
    found = {j for y, labels in zip(Y, rankings, strict=True) for j in labels if y[j]}
    return len(found) / sum(1 for column in zip(*Y, strict=True) if any(column))
