"""Scores of ranked labels as scorers, for scikit-learn's searches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from skdistill._retrieval_metrics import (
    coverage_at_k,
    indicator,
    ndcg_at_k,
    precision_at_k,
    psndcg_at_k,
    psp_at_k,
    recall_at_k,
)

IntArray = NDArray[np.integer]

METRICS: dict[str, Callable[..., float]] = {
    "precision": precision_at_k,
    "recall": recall_at_k,
    "ndcg": ndcg_at_k,
    "psp": psp_at_k,
    "psndcg": psndcg_at_k,
    "coverage": coverage_at_k,
}


class RetrievalScorer:
    """A scorer for scikit-learn's searches; made by :func:`retrieval_scorer`.

    Parameters
    ----------
    metric : str
        One of the metrics.
    k : int
        How many labels count.
    options : dict
        Other arguments of the metric.
    """

    def __init__(self, metric: str, k: int, options: dict[str, Any]) -> None:
        self.metric = metric
        self.k = k
        self.options = options

    def __call__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Return the metric of the estimator's ranking of the rows.

        Parameters
        ----------
        estimator : estimator
            A fitted one with `predict_topk`, else `decision_function`, else
            `predict_proba` of one matrix.
        X : array or CSR of shape (n_samples, n_features)
            Rows.
        y : array or CSR of shape (n_samples, n_labels), or sequence
            Their labels. A sequence holds names, of one label or a set of them for
            each row, of which `classes_` has the order.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; "coverage" takes none.

        Returns
        -------
        score : float
            Higher is better.
        """
        y_true = label_indicator(y, getattr(estimator, "classes_", None))
        options = dict(self.options)
        if sample_weight is not None:
            if self.metric == "coverage":
                raise ValueError("coverage counts labels: it takes no sample_weight.")
            options["sample_weight"] = sample_weight
        y_score = self._ranking(estimator, X)
        return float(METRICS[self.metric](y_true, y_score, k=self.k, **options))

    def __repr__(self) -> str:
        options = "".join(f", {name}=..." for name in self.options)
        return f"retrieval_scorer({self.metric!r}, k={self.k}{options})"

    def _ranking(self, estimator: Any, X: Any) -> Any:
        """Return scores of all labels, or labels in their order."""
        if hasattr(estimator, "predict_topk"):
            classes = np.asarray(estimator.classes_)
            k = min(self.k, len(classes))
            labels, _ = estimator.predict_topk(X, k)
            columns = _columns(np.asarray(labels), classes)
            missing = ((0, 0), (0, self.k - k))
            return np.pad(columns, missing, constant_values=-1)
        for method in ("decision_function", "predict_proba"):
            if hasattr(estimator, method):
                scores = getattr(estimator, method)(X)
                return scores if sp.issparse(scores) else np.asarray(scores, float)
        raise TypeError(
            f"{estimator!r} has none of predict_topk, decision_function and "
            "predict_proba."
        )


def retrieval_scorer(metric: str, *, k: int = 5, **options: Any) -> RetrievalScorer:
    """Make a scorer, for ``scoring=`` of scikit-learn's searches, of a metric at k.

    Parameters
    ----------
    metric : {"precision", "recall", "ndcg", "psp", "psndcg", "coverage"}
        What is scored.
    k : int, default=5
        How many labels count, at least 1.
    **options : dict
        Other arguments of the metric, such as `inverse_propensity`.

    Returns
    -------
    scorer : RetrievalScorer
        Called with a fitted estimator, rows and their labels.

    Raises
    ------
    ValueError
        If `metric` is unknown, `k` is below 1, or `inverse_propensity` is missing.

    Examples
    --------
    >>> from sklearn.datasets import make_multilabel_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.multiclass import OneVsRestClassifier
    >>> from skdistill.metrics import retrieval_scorer
    >>> X, y = make_multilabel_classification(random_state=0)
    >>> model = OneVsRestClassifier(LogisticRegression(max_iter=1000))
    >>> scorer = retrieval_scorer("precision", k=1)
    >>> cross_val_score(model, X, y, scoring=scorer, cv=2).round(2)
    array([0.84, 0.7 ])
    """
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r} must be one of {sorted(METRICS)}.")
    if not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k={k!r} must be an integer of at least 1.")
    if metric.startswith("ps") and "inverse_propensity" not in options:
        raise ValueError(f"metric={metric!r} needs inverse_propensity.")
    return RetrievalScorer(metric, int(k), options)


def label_indicator(y: Any, classes: ArrayLike | None = None) -> sp.csr_array:
    """Return labels as an indicator matrix with a column for each class.

    Parameters
    ----------
    y : array or CSR of shape (n_samples, n_labels), or sequence
        An indicator, or the names of each row's labels, in a sequence, a set or, of one
        label a row, as they are.
    classes : array-like of shape (n_labels,), default=None
        The name of each column. Other names get columns behind them: they can be
        missed, but not found.

    Returns
    -------
    indicator : csr_array of shape (n_samples, at least n_labels)
        Rows with sorted columns and values of 1.

    Raises
    ------
    ValueError
        If `y` holds names, and there are no `classes`, or some of its entries are sets
        of labels and others are labels.
    """
    y = frame_as_array(y)
    if sp.issparse(y) or getattr(y, "ndim", 1) == 2:
        return indicator(y, "y")
    if classes is None:
        raise ValueError("y holds names of labels, but the estimator has no classes_.")
    sets = is_sequence_of_sets(y)
    rows = [list(row) if sets else [row] for row in y]
    column = {name: j for j, name in enumerate(np.asarray(classes).tolist())}
    indices = [column.setdefault(_plain(name), len(column)) for r in rows for name in r]
    indptr = np.cumsum([0, *(len(row) for row in rows)])
    shape = (len(rows), len(column))
    values = np.ones(len(indices))
    return indicator(sp.csr_array((values, indices, indptr), shape=shape), "y")


def frame_as_array(y: Any) -> Any:
    """Return a data frame of labels as an array; what is none stays as it is.

    Parameters
    ----------
    y : array, data frame or sequence
        Labels.

    Returns
    -------
    array or sequence
        Nullable numbers of pandas, none of them missing, as floats: by itself it makes
        objects of them.
    """
    if not hasattr(y, "dtypes") or not hasattr(y, "columns"):
        return y
    values = np.asarray(y)
    numeric = all(getattr(dtype, "kind", "O") in "biuf" for dtype in y.dtypes)
    if values.dtype == object and numeric and not y.isna().any(axis=None):
        return values.astype(np.float64)
    return values


def is_sequence_of_sets(y: Any) -> bool:
    """Return whether y is a sequence whose entries are sets of labels, not labels.

    Parameters
    ----------
    y : sequence, array or series
        Labels.

    Returns
    -------
    bool
        False also of arrays of numbers or strings, whatever their shape.

    Raises
    ------
    ValueError
        If some entries are sets of labels and others are labels.
    """
    if isinstance(y, np.ndarray) and y.dtype != object:
        return False
    if hasattr(y, "to_list"):  # a series of pandas or polars
        y = y.to_list()
    if not isinstance(y, (Sequence, np.ndarray)) or isinstance(y, str):
        return False
    rows = [row for row in y if not _is_scalar(row)]
    if rows and len(rows) < len(y):
        raise ValueError(
            "y mixes single labels and sets of labels; put single labels into lists."
        )
    return bool(rows)


def _is_scalar(row: Any) -> bool:
    """Whether an entry of y is one label; tuples are sets of labels."""
    if isinstance(row, np.ndarray):
        return row.ndim == 0
    return isinstance(row, (str, bytes)) or not isinstance(row, Iterable)


def _plain(name: Any) -> Any:
    """Return a NumPy scalar as what it stands for."""
    return name.item() if isinstance(name, np.generic) else name


def _columns(labels: NDArray[Any], classes: NDArray[Any]) -> IntArray:
    """Return the column of each label's name, -1 where there is none."""
    if classes.dtype.kind in "iu" and np.array_equal(classes, np.arange(len(classes))):
        return labels.astype(np.int64)
    column = {name: j for j, name in enumerate(classes.tolist())}
    found = [column.get(name, -1) for name in labels.ravel().tolist()]
    return np.array(found, dtype=np.int64).reshape(labels.shape)
