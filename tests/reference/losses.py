"""The losses and scores of one student, row by row and class by class."""

import math

import numpy as np


def temper_row(p, temperature):
    """p^(1/T) / sum p^(1/T)."""
    power = [pk ** (1.0 / temperature) if pk > 0 else 0.0 for pk in p]
    return [pk / sum(power) for pk in power]


def temper_proba(proba, temperature):
    return np.array([temper_row(row, temperature) for row in proba])


def softmax_row(z, temperature=1.0):
    largest = max(z)
    power = [math.exp((zk - largest) / temperature) for zk in z]
    return [pk / sum(power) for pk in power]


def cross_entropy_row(p, z, temperature=1.0):
    """-sum_k p_k log softmax(z / S)_k, with 0 log 0 = 0."""
    q = softmax_row(z, temperature)
    total = 0.0
    for pk, qk in zip(p, q, strict=True):
        if pk > 0:
            total -= pk * math.log(qk)
    return total


def brier_row(p, z, temperature=1.0):
    """sum_k (p_k - softmax(z / S)_k)^2."""
    q = softmax_row(z, temperature)
    return sum((pk - qk) ** 2 for pk, qk in zip(p, q, strict=True))


def weighted_mean(rows, sample_weight=None):
    """sum_i w_i l_i / sum_i w_i."""
    if sample_weight is None:
        sample_weight = [1.0] * len(rows)
    total = 0.0
    for weight, row in zip(sample_weight, rows, strict=True):
        total += weight * row
    return total / sum(sample_weight)


def soft_cross_entropy(soft_labels, logits, sample_weight=None, temperature=1.0):
    rows = [
        cross_entropy_row(p, z, temperature)
        for p, z in zip(soft_labels, logits, strict=True)
    ]
    return weighted_mean(rows, sample_weight)


def brier_loss(soft_labels, logits, sample_weight=None, temperature=1.0):
    rows = [
        brier_row(p, z, temperature) for p, z in zip(soft_labels, logits, strict=True)
    ]
    return weighted_mean(rows, sample_weight)


def distillation_loss(
    y,
    soft_labels,
    logits,
    temperature,
    mixing_weight,
    student_temperature,
    sample_weight=None,
):
    """(1 - a) CE(y, softmax(z)) + a S^2 CE(temper(p, T), softmax(z / S))."""
    rows = []
    for label, p, z in zip(y, soft_labels, logits, strict=True):
        hard = -math.log(softmax_row(z)[label])
        target = temper_row(p, temperature)
        soft = cross_entropy_row(target, z, student_temperature)
        rows.append(
            (1 - mixing_weight) * hard + mixing_weight * student_temperature**2 * soft
        )
    return weighted_mean(rows, sample_weight)


def soft_log_loss(soft_labels, proba, sample_weight=None):
    rows = []
    for p, q in zip(soft_labels, proba, strict=True):
        rows.append(
            -sum(pk * math.log(qk) for pk, qk in zip(p, q, strict=True) if pk > 0)
        )
    return weighted_mean(rows, sample_weight)


def kl_divergence(teacher_proba, student_proba, sample_weight=None):
    rows = []
    for p, q in zip(teacher_proba, student_proba, strict=True):
        rows.append(
            sum(pk * math.log(pk / qk) for pk, qk in zip(p, q, strict=True) if pk > 0)
        )
    return weighted_mean(rows, sample_weight)


def brier_score(codes, proba, sample_weight=None):
    rows = []
    for code, q in zip(codes, proba, strict=True):
        rows.append(sum(((k == code) - qk) ** 2 for k, qk in enumerate(q)))
    return weighted_mean(rows, sample_weight)


def expected_calibration_error(codes, proba, n_bins, sample_weight=None):
    """sum_b (W_b / W) |acc_b - conf_b| over bins (b / B, (b + 1) / B]."""
    if sample_weight is None:
        sample_weight = [1.0] * len(codes)
    error = 0.0
    for b in range(n_bins):
        weight = correct = confidence = 0.0
        for code, q, w in zip(codes, proba, sample_weight, strict=True):
            top = max(range(len(q)), key=lambda k: q[k])
            if b / n_bins < q[top] <= (b + 1) / n_bins:
                weight += w
                correct += w * (top == code)
                confidence += w * q[top]
        if weight > 0:
            gap = abs(correct / weight - confidence / weight)
            error += weight / sum(sample_weight) * gap
    return error


def calibration_loss(codes, proba, temperature, sample_weight=None):
    """Log-loss of tempered probabilities; every true class has p > 0."""
    rows = [
        -math.log(temper_row(p, temperature)[code])
        for code, p in zip(codes, proba, strict=True)
    ]
    return weighted_mean(rows, sample_weight)


def corrected_loss(code, p, z, temperature, min_proba=0.01):
    """Dao et al. (2021): the loss of a row plus its first-order correction."""
    w = temper_row(p, temperature)
    q = softmax_row(z, temperature)
    r = [
        (1.0 if k == code else 0.0) / max(p[k], min_proba) - 1.0 for k in range(len(p))
    ]
    of_residual = sum(r[k] * w[k] for k in range(len(p)))
    of_logs = sum(w[k] * math.log(q[k]) for k in range(len(p)))
    of_both = sum(r[k] * w[k] * math.log(q[k]) for k in range(len(p)))
    return -of_logs + (of_residual * of_logs - of_both) / temperature
