"""From logits of many labels to the chances that a row has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, logsumexp

from skdistill._top_k import BLOCK_ROWS, Tables, exact_search, log_totals
from skdistill._typing import FloatArray, IntArray
from skdistill.losses import recalibrate_negative_aware

#: Labels of a calibration row besides its own that the fit looks at: the best ones.
CALIBRATION_LABELS = 100
#: Logits that are kept at once to fit a temperature.
MAX_LOGITS = 2**24


@dataclass(frozen=True)
class Calibration:
    """What turns logits into chances.

    Attributes
    ----------
    kind : {"labels", "softmax", "negative-aware"}
        A chance for each label; or probabilities that sum to 1, from a softmax at a
        fitted temperature or by the inverse of the negative-aware objective.
    relative : bool
        Whether logits count relative to the log-total of their row, as they do where
        they were trained by a softmax.
    slope, offset : float
        The logit of a label's chance is ``slope * logit + offset``; of a softmax only
        the slope is used, the inverse of the temperature.
    anchor : str or None
        Of the negative-aware objective.
    """

    kind: str
    relative: bool
    slope: float = 1.0
    offset: float = 0.0
    anchor: str | None = None

    def decision(self, logits: FloatArray, log_total: FloatArray) -> FloatArray:
        """Return what is above zero where a label is predicted.

        Parameters
        ----------
        logits : ndarray of shape (n_rows, n_some)
            Logits of some labels.
        log_total : ndarray of shape (n_rows,)
            Log-totals of all.

        Returns
        -------
        ndarray of shape (n_rows, n_some)
            Logits of the chances; of probabilities that sum to 1 the logits given.
        """
        if self.kind != "labels":
            return logits
        relative = logits - log_total[:, None] if self.relative else logits
        return self.slope * relative + self.offset

    def proba(self, logits: FloatArray, log_total: FloatArray) -> FloatArray:
        """Return chances; of a softmax at another temperature `logits` are all.

        Parameters
        ----------
        logits : ndarray of shape (n_rows, n_some)
            Logits of some labels.
        log_total : ndarray of shape (n_rows,)
            Log-totals of all.

        Returns
        -------
        ndarray of shape (n_rows, n_some)
            Chances.
        """
        if self.kind == "labels":
            chance: FloatArray = expit(self.decision(logits, log_total))
            return chance
        if self.kind == "negative-aware":
            return recalibrate_negative_aware(logits, anchor=self.anchor)
        scaled = self.slope * logits
        if self.needs_all:
            log_total = logsumexp(scaled, axis=1)
        proba: FloatArray = np.exp(scaled - log_total[:, None])
        return proba

    @property
    def needs_all(self) -> bool:
        """Whether the chance of one label needs the logits of all."""
        plain = self.kind == "softmax" and self.slope == 1.0
        return self.kind != "labels" and not plain


def fit_label_chances(
    tables: Tables, X: sp.csr_matrix, indicator: sp.csr_matrix, *, relative: bool
) -> tuple[float, float]:
    """Fit slope and offset of the logit of a label's chance (Platt 1999).

    Over the labels of each row and its best others; the chances of the rest are next to
    nothing.

    Parameters
    ----------
    tables : Tables
        The student.
    X : csr_matrix or ndarray of shape (n_rows, n_features)
        Calibration rows.
    indicator : csr_matrix of shape (n_rows, n_labels)
        Their labels.
    relative : bool
        As in `Calibration`.

    Returns
    -------
    slope, offset : float
        The slope is positive: the order of the labels is that of the logits.
    """
    values, outcomes = [], []
    for start in range(0, X.shape[0], BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        hidden = tables.hidden(X[rows], np.float64)
        total = log_totals(tables, hidden) if relative else np.zeros(len(hidden))
        chosen = _rows_and_best(tables, hidden, indicator[rows])
        for i, (labels, own) in enumerate(chosen):
            logits = tables.labels[labels] @ hidden[i] + tables.bias[labels]
            values.append(logits - total[i])
            outcomes.append(np.isin(labels, own))
    return _fit_logistic(np.concatenate(values), np.concatenate(outcomes))


def _rows_and_best(
    tables: Tables, hidden: FloatArray, indicator: sp.csr_matrix
) -> Sequence[tuple[IntArray, IntArray]]:
    """Return for each row its labels and the best others, and its labels alone."""
    k = min(CALIBRATION_LABELS, len(tables.bias))
    best, _, _ = exact_search(tables, hidden, k)
    ends = indicator.indptr
    own = [indicator.indices[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
    return [(np.union1d(b, o), o) for b, o in zip(best, own, strict=True)]


def _fit_logistic(values: FloatArray, outcomes: FloatArray) -> tuple[float, float]:
    """Fit a logistic curve; outcomes are pulled in a little, as Platt does."""
    n_true = outcomes.sum()
    n_false = len(outcomes) - n_true
    high, low = (n_true + 1.0) / (n_true + 2.0), 1.0 / (n_false + 2.0)
    targets = np.where(outcomes, high, low)
    centre, scale = values.mean(), max(float(values.std()), 1e-9)
    x = (values - centre) / scale

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        slope = np.exp(parameters[0])
        z = slope * x + parameters[1]
        value = -(targets * log_expit(z) + (1.0 - targets) * log_expit(-z)).mean()
        error = expit(z) - targets
        return value, np.array([(error * x).mean() * slope, error.mean()])

    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B").x
    slope = float(np.exp(np.clip(found[0], -20, 20))) / scale
    return slope, float(found[1] - slope * centre)


def fit_softmax_slope(
    tables: Tables, X: sp.csr_matrix, indicator: sp.csr_matrix
) -> float:
    """Fit the inverse temperature at which a softmax fits labels best.

    Parameters
    ----------
    tables : Tables
        The student.
    X : csr_matrix or ndarray of shape (n_rows, n_features)
        Calibration rows.
    indicator : csr_matrix of shape (n_rows, n_labels)
        One label a row.

    Returns
    -------
    float
        Between 1/20 and 20.
    """
    n_labels = len(tables.bias)
    hidden = tables.hidden(X[: max(1, MAX_LOGITS // n_labels)], np.float64)
    logits = tables.logits(hidden, slice(0, n_labels))
    indicator = indicator[: len(logits)]
    own = logits[np.arange(len(logits)), indicator.indices]

    def loss(log_slope: float) -> float:
        slope = np.exp(log_slope)
        return float((logsumexp(slope * logits, axis=1) - slope * own).mean())

    bounds = (-np.log(20.0), np.log(20.0))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))
