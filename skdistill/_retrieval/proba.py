"""From logits of many labels to the chances that a row has them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, logsumexp

from skdistill._retrieval.top_k import Query, Tables, exact_search, log_totals
from skdistill._retrieval_objectives import MARGIN_LOSSES
from skdistill._typing import FloatArray, IntArray
from skdistill.losses import recalibrate_negative_aware

#: Labels of a calibration row besides its own that the fit looks at: the best ones.
CALIBRATION_LABELS = 100
#: Rows that are calibrated at a time: so few take less memory than a step of training.
CALIBRATION_ROWS = 64
#: Logits that are kept at once to fit a temperature.
MAX_LOGITS = 2**24
#: Logits that differ by less than this share say nothing: float32 is little finer.
FLAT = 1e-5


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


def fit_calibration(
    tables: Tables,
    X: sp.csr_matrix,
    indicator: sp.csr_matrix,
    *,
    one_label: bool,
    objective: str,
    anchor: str,
    exact: bool,
) -> Calibration:
    """Fit what turns the logits of a student into chances.

    Parameters
    ----------
    tables : Tables
        The student.
    X : csr_matrix or ndarray of shape (n_rows, n_features)
        Calibration rows.
    indicator : csr_matrix of shape (n_rows, n_labels)
        Their labels.
    one_label : bool
        Whether each row has one label, so that chances sum to 1.
    objective, anchor : str
        What the student has minimised.
    exact : bool
        Whether the negative-aware objective has an inverse: not with other weights, nor
        with the hardest negatives only.

    Returns
    -------
    Calibration
        Fitted where nothing is known.
    """
    relative = objective not in MARGIN_LOSSES
    if not one_label:
        fitted = fit_label_chances(tables, X, indicator, relative=relative)
        return Calibration("labels", relative, *fitted)
    if objective == "softmax":
        return Calibration("softmax", relative)
    if objective == "double" and exact and indicator.shape[1] > 1:
        known = "candidate" if anchor == "candidate" else None
        return Calibration("negative-aware", relative, anchor=known)
    return Calibration("softmax", False, fit_softmax_slope(tables, X, indicator))


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
    for start in range(0, X.shape[0], CALIBRATION_ROWS):
        rows = slice(start, start + CALIBRATION_ROWS)
        query = tables.query(X[rows], np.float64)
        n_rows = len(query.hidden)
        total = log_totals(tables, query) if relative else np.zeros(n_rows)
        labels, own = own_and_best(tables, query, indicator[rows])
        logits = tables.logits_of(query, np.maximum(labels, 0)) - total[:, None]
        values.append(logits[labels >= 0])
        outcomes.append(own[labels >= 0])
    return _fit_logistic(np.concatenate(values), np.concatenate(outcomes))


def own_and_best(
    tables: Tables, query: Query, indicator: sp.csr_matrix
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Return the labels of each row and those that score highest beside them.

    Parameters
    ----------
    tables : Tables
        The student.
    query : Query
        Rows.
    indicator : csr_matrix of shape (n_rows, n_labels)
        Their labels.

    Returns
    -------
    labels : ndarray of shape (n_rows, n_chosen)
        Without repetition, filled up with -1.
    own : ndarray of bool of shape (n_rows, n_chosen)
        Which of them are the row's own.
    """
    k = min(CALIBRATION_LABELS, len(tables.bias))
    best, _, _ = exact_search(tables, query, k)
    ends = pairwise(indicator.indptr)
    own = [indicator.indices[start:stop] for start, stop in ends]
    width = k + max((len(row) for row in own), default=0)
    labels = np.full((len(best), width), -1, dtype=np.int64)
    is_own = np.zeros(labels.shape, dtype=bool)
    for i, row in enumerate(own):
        others = best[i][~np.isin(best[i], row)]
        labels[i, : len(row)] = row
        is_own[i, : len(row)] = True
        labels[i, len(row) : len(row) + len(others)] = others
    return labels, is_own


def _fit_logistic(values: FloatArray, outcomes: FloatArray) -> tuple[float, float]:
    """Fit a logistic curve; outcomes are pulled in a little, as Platt does."""
    n_true = outcomes.sum()
    n_false = len(outcomes) - n_true
    high, low = (n_true + 1.0) / (n_true + 2.0), 1.0 / (n_false + 2.0)
    targets = np.where(outcomes, high, low)
    centre, scale = float(values.mean()), float(values.std())
    if scale < FLAT * max(1.0, abs(centre)):
        scale = 1.0  # Not 1 / scale for a slope: it would be one of rounding noise.
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
    query = tables.query(X[: max(1, MAX_LOGITS // n_labels)], np.float64)
    logits = tables.logits(query, slice(0, n_labels))
    indicator = indicator[: len(logits)]
    own = logits[np.arange(len(logits)), indicator.indices]

    def loss(log_slope: float) -> float:
        slope = np.exp(log_slope)
        return float((logsumexp(slope * logits, axis=1) - slope * own).mean())

    bounds = (-np.log(20.0), np.log(20.0))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))
