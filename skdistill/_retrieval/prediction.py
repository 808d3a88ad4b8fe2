"""What a fitted retrieval student answers: the best labels, sets of labels, chances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import DTypeLike, NDArray
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted, validate_data

from skdistill._hidden_units import Hidden
from skdistill._retrieval.approximate_search import ApproximateSearch
from skdistill._retrieval.centroids import LabelVectors
from skdistill._retrieval.label_sets import DENSE, MULTICLASS, NAMES
from skdistill._retrieval.memory import available_memory, readable
from skdistill._retrieval.proba import Calibration
from skdistill._retrieval.top_k import (
    BLOCK_LOGITS,
    Query,
    Tables,
    exact_search,
    log_totals,
    row_chunks,
)
from skdistill._retrieval_scorer import frame_as_array, label_indicator
from skdistill._typing import FloatArray, InputLike, IntArray


class RetrievalPrediction:
    """Predicts with tables of embeddings; `fit` belongs to the estimator."""

    search: str
    memory_limit: int | None
    classes_: NDArray[Any]
    feature_embeddings_: FloatArray
    label_embeddings_: FloatArray
    label_bias_: FloatArray
    residual_: sp.csr_matrix | None
    calibration_: Calibration
    label_format_: str
    _hidden: Hidden
    _indicator_dtype: np.dtype[Any]
    _index: ApproximateSearch | None
    _vectors: LabelVectors | None

    # -- the best labels ------------------------------------------------------------

    def predict_topk(self, X: InputLike, k: int = 5) -> tuple[NDArray[Any], FloatArray]:
        """Return the k best labels of each row, and their chances.

        With ``search="hnsw"`` some of the best may be missed, and chances relative to
        all labels are relative to those found.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.
        k : int, default=5
            How many, between 1 and the number of labels.

        Returns
        -------
        labels : ndarray of shape (n_samples, k)
            Names of the labels, best first.
        scores : ndarray of shape (n_samples, k)
            Chances that the row has the label: of several labels a row, each on its
            own; of one label a row, they would sum to 1 over all labels.

        Raises
        ------
        ValueError
            If `k` is no integer between 1 and the number of labels.
        """
        X = self._checked(X)
        n_labels = len(self.classes_)
        if not isinstance(k, (int, np.integer)) or not 1 <= k <= n_labels:
            raise ValueError(
                f"k={k!r} must be an integer between 1 and {n_labels}, the number of "
                "labels."
            )
        labels = np.empty((X.shape[0], k), dtype=np.int64)
        scores = np.empty((X.shape[0], k))
        for rows in self._row_chunks(X.shape[0]):
            query = self._tables().query(X[rows], np.float32)
            labels[rows], scores[rows] = self._best(query, k)
        return self.classes_[labels], scores

    def _best(self, query: Query, k: int) -> tuple[IntArray, FloatArray]:
        """Return the best labels of some rows and their chances."""
        calibration, tables = self.calibration_, self._tables()
        if self.search == "hnsw":
            if calibration.needs_all:
                # The labels looked at stand for all.
                index = self._approximate()
                n_found = min(max(k, index.breadth), len(self.classes_))
                found, logits, total = index(tables, query, n_found)
                return found[:, :k], calibration.proba(logits, total)[:, :k]
            found, logits, total = self._approximate()(tables, query, k)
            return found, calibration.proba(logits, total)
        found, logits, total = exact_search(tables, query, k)
        if not calibration.needs_all:
            return found, calibration.proba(logits, total)
        chances = np.empty(found.shape)
        size = max(1, BLOCK_LOGITS // len(self.classes_))
        for start in range(0, len(query.hidden), size):
            rows = slice(start, start + size)
            every = tables.logits(query.rows(rows), slice(0, len(self.classes_)))
            proba = calibration.proba(every.astype(np.float64), total[rows])
            chances[rows] = np.take_along_axis(proba, found[rows], axis=1)
        return found, chances

    # -- sets of labels -------------------------------------------------------------

    def predict(self, X: InputLike) -> Any:
        """Return the labels whose chance is above one half, or the most probable one.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        csr_matrix or ndarray
            An indicator of shape (n_samples, n_labels): sparse, unless `fit` was given
            a dense one. Of one label a row, the labels.
        """
        X = self._checked(X)
        if self.label_format_ == MULTICLASS:
            best = [
                exact_search(self._tables(), self._tables().query(X[rows], float), 1)[
                    0
                ][:, 0]
                for rows in self._row_chunks(X.shape[0])
            ]
            return self.classes_[np.concatenate(best)]
        parts = [self._chosen(X[rows]) for rows in self._row_chunks(X.shape[0])]
        indicator = sp.csr_matrix(sp.vstack(parts), dtype=self._indicator_dtype)
        return indicator.toarray() if self.label_format_ == DENSE else indicator

    def _chosen(self, X: Any) -> sp.csr_matrix:
        """Return the indicator of the labels predicted for some rows."""
        rows, columns = [], []
        for block, decision in self._decisions(X):
            row, column = np.nonzero(decision > 0)
            rows.append(row)
            columns.append(column + block.start)
        place = np.concatenate(rows), np.concatenate(columns)
        ones = np.ones(len(place[0]), dtype=np.int8)
        return sp.csr_matrix((ones, place), shape=(X.shape[0], len(self.classes_)))

    def _decisions(self, X: Any) -> Iterator[tuple[slice, FloatArray]]:
        """Yield the decisions of some rows, block by block of labels."""
        tables, calibration = self._tables(), self.calibration_
        query = tables.query(X, np.float64)
        total = np.zeros(X.shape[0])
        if calibration.relative:
            total = log_totals(tables, query)
        for block in tables.blocks():
            yield block, calibration.decision(tables.logits(query, block), total)

    def decision_function(self, X: InputLike) -> FloatArray:
        """Return a score of each label; where there are many, see `predict_topk`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_labels) or (n_samples,)
            Of several labels a row, logits of the chances: a label is predicted where
            its score is above zero. Of one label a row, the logits; of two classes the
            difference of their logits.

        Raises
        ------
        MemoryError
            If there are too many scores for the memory.
        """
        X = self._checked(X)
        decision = self._dense_decisions(X)
        if self.label_format_ == MULTICLASS and len(self.classes_) == 2:
            return decision[:, 1] - decision[:, 0]
        return decision

    def _dense_decisions(self, X: Any) -> FloatArray:
        """Return the decisions on all labels."""
        self._check_fits(X.shape[0])
        decision = np.empty((X.shape[0], len(self.classes_)))
        for rows in self._row_chunks(X.shape[0]):
            for block, part in self._decisions(X[rows]):
                decision[rows, block] = part
        return decision

    def predict_proba(self, X: InputLike) -> FloatArray:
        """Return the chance of each label; where there are many, see `predict_topk`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_labels)
            Of several labels a row, the chance that it has each; of one label a row,
            probabilities that sum to 1.

        Raises
        ------
        MemoryError
            If there are too many chances for the memory.
        """
        X = self._checked(X)
        proba = self._dense_decisions(X)
        if self.calibration_.kind == "labels":
            from scipy.special import expit

            return expit(proba, out=proba)
        for rows in self._row_chunks(X.shape[0]):
            total = np.logaddexp.reduce(proba[rows], axis=1)
            proba[rows] = self.calibration_.proba(proba[rows], total)
        return proba

    def score(self, X: InputLike, y: Any, sample_weight: Any = None) -> float:
        """Return the share of rows whose labels are predicted exactly.

        scikit-learn's score of multilabel classifiers, and strict; precision at k and
        the like are in :mod:`skdistill.metrics`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.
        y : sparse matrix, array or sequence
            Labels, as in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        float
            Between 0 and 1.
        """
        predicted = self.predict(X)
        if self.label_format_ != NAMES:
            y = frame_as_array(y)
            return float(accuracy_score(y, predicted, sample_weight=sample_weight))
        # Labels that were not known in training have columns behind the others.
        known = label_indicator(y, self.classes_)
        predicted = sp.csr_array(predicted, copy=True)
        predicted.resize(known.shape)
        exact = np.asarray(abs(known - predicted).sum(axis=1)).ravel() == 0
        return float(np.average(exact, weights=sample_weight))

    # -- what they share ------------------------------------------------------------

    def _checked(self, X: InputLike) -> Any:
        """Check inputs."""
        check_is_fitted(self)
        return self._check_X(X, reset=False)

    def _check_X(self, X: InputLike, *, reset: bool) -> Any:
        """Return inputs as sorted sparse rows without duplicates, or as an array."""
        dtype: list[DTypeLike] = [np.float32, np.float64]
        X = validate_data(
            self, X, accept_sparse="csr", dtype=dtype, reset=reset, order="C"
        )
        if sp.issparse(X):
            X = sp.csr_matrix(X)
            if not X.has_canonical_format:
                X = X.copy()
                X.sum_duplicates()
        return X

    def _tables(self) -> Tables:
        """Return what has been learned; the sparse part is made ready once."""
        residual = self.residual_
        if residual is None:
            vectors = None
        else:
            vectors = getattr(self, "_vectors", None)
            if vectors is None or vectors.matrix is not residual:
                self._vectors = vectors = LabelVectors(residual)
        return Tables(
            self.feature_embeddings_,
            self.label_embeddings_,
            self.label_bias_,
            vectors,
            self._hidden,
        )

    def _approximate(self) -> ApproximateSearch:
        """Return the graph; it is built where it is first needed."""
        if getattr(self, "_index", None) is None:
            self._index = ApproximateSearch(self._tables())
        assert self._index is not None
        return self._index

    def _row_chunks(self, n_rows: int) -> Iterator[slice]:
        return row_chunks(n_rows, len(self.classes_))

    def _check_fits(self, n_rows: int) -> None:
        """Refuse to make an array of all labels that does not fit."""
        needed = 8 * n_rows * len(self.classes_)
        limit = self.memory_limit or available_memory()
        if limit is not None and needed > limit:
            raise MemoryError(
                f"The scores of {len(self.classes_)} labels for {n_rows} rows take "
                f"{readable(needed)}, more than the {readable(limit)} there are. Use "
                "predict_topk, or predict, or fewer rows at a time."
            )
