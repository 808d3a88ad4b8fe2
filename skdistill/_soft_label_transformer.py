"""SoftLabelTransformer: a teacher's out-of-fold probabilities as features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    MetaEstimatorMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils._metadata_requests import _raise_for_params
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from skdistill._calibration import fit_temperature
from skdistill._scoring import class_proba, warn_unknown_classes
from skdistill._soft_labels import (
    TeacherStageMixin,
    declared_teacher,
    fitted_teacher,
    own_row_proba,
    set_input_tags,
)
from skdistill._typing import FloatArray, InputLike
from skdistill._validation import keep_fitted_on_failure
from skdistill.losses import temper_proba


class SoftLabelTransformer(
    TeacherStageMixin, TransformerMixin, MetaEstimatorMixin, BaseEstimator
):
    """Turn inputs into a teacher's class probabilities.

    ``fit_transform(X, y)`` returns out-of-fold probabilities: each row is scored by a
    teacher that has not seen it. ``transform(X)`` uses the teacher fitted on all rows.
    So ``fit(X, y).transform(X)`` differs from ``fit_transform(X, y)``, on purpose, as
    in :class:`sklearn.preprocessing.TargetEncoder`.

    Parameters
    ----------
    teacher : estimator, list of estimators or None, default=None
        As in :class:`DistillationClassifier`.
    temperature : float or "auto", default=1.0
        Temperature of the probabilities, in (0, inf), or "auto" for the one that
        minimises the out-of-fold log-loss on the labels.
    output : {"proba", "log_proba", "logits"}, default="proba"
        Probabilities; their natural logarithms; or these minus their mean over the
        classes of the row. Probabilities of 0 are raised to the smallest normal float
        before a logarithm.
    cv : int, splitter, iterable, "in-sample" or None, default=None
        As in :class:`DistillationClassifier`.
    memory : str, joblib.Memory or None, default=None
        Cache of the teacher's fits and scores.
    n_jobs : int or None, default=None
        Folds fitted at the same time.
    random_state : int, RandomState instance or None, default=None
        Seed of the default teacher.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels, in the order of the columns.
    teacher_ : estimator
        The teacher fitted on all rows.
    temperature_ : float
        The temperature used.
    n_features_in_ : int
        Number of features seen in `fit`, if X has any.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had any.

    See Also
    --------
    DistillationClassifier : A student of the same soft labels.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skdistill import SoftLabelTransformer
    >>> X, y = load_iris(return_X_y=True)
    >>> soft = SoftLabelTransformer(GaussianNB())
    >>> soft.fit_transform(X, y).shape
    (150, 3)
    >>> soft.get_feature_names_out()
    array(['softlabeltransformer_0', 'softlabeltransformer_1',
           'softlabeltransformer_2'], dtype=object)
    """

    _parameter_constraints: dict[str, Any] = {
        **TeacherStageMixin._stage_constraints,
        "output": [StrOptions({"proba", "log_proba", "logits"})],
    }

    def __init__(
        self,
        teacher: Any = None,
        *,
        temperature: float | str = 1.0,
        output: str = "proba",
        cv: Any = None,
        memory: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.teacher = teacher
        self.temperature = temperature
        self.output = output
        self.cv = cv
        self.memory = memory
        self.n_jobs = n_jobs
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        set_input_tags(tags.input_tags, [declared_teacher(self.teacher)])
        return tags

    @keep_fitted_on_failure
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: InputLike, y: Any, sample_weight: Any = None, **params: Any
    ) -> SoftLabelTransformer:
        """Fit the teacher on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs, as the teacher takes them.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative row weights for the teacher. Rows of weight zero are as if
            absent.
        **params : dict
            With metadata routing enabled, what teacher and splitter ask for.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        TypeError
            If `teacher` cannot be one.
        ValueError
            If the data, or what the teacher returns, is unusable.
        """
        self._fit(X, y, sample_weight, params, score_rows=self.temperature == "auto")
        return self

    @keep_fitted_on_failure
    @_fit_context(prefer_skip_nested_validation=False)
    def fit_transform(
        self, X: InputLike, y: Any = None, sample_weight: Any = None, **params: Any
    ) -> FloatArray:
        """Fit the teacher and return out-of-fold soft labels of its training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs, as the teacher takes them.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative row weights for the teacher. Rows of weight zero are not
            learnt from, but scored by the teacher fitted on the others.
        **params : dict
            With metadata routing enabled, what teacher and splitter ask for.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Soft labels in the form of `output`.

        Raises
        ------
        TypeError
            If `teacher` cannot be one.
        ValueError
            If the data, or what the teacher returns, is unusable.
        """
        return self._form(self._fit(X, y, sample_weight, params, score_rows=True))

    def _fit(
        self,
        X: InputLike,
        y: Any,
        sample_weight: Any,
        params: dict[str, Any],
        *,
        score_rows: bool,
    ) -> FloatArray:
        """Fit the teacher; return its probabilities of its own rows if asked for."""
        _raise_for_params(params, self, "fit")
        self._check_auto_temperature()
        rows = self._check_rows(X, y, sample_weight)
        stage, labelled = self._open_stage(rows, params)
        self.classes_ = rows.classes
        known = self.temperature != "auto"
        self.temperature_ = float(self.temperature) if known else 1.0
        proba = np.empty((len(rows.y), len(rows.classes)))
        present = rows.present()
        if score_rows:
            proba[present] = own_row_proba(stage, labelled)
        if self.temperature == "auto":
            weight = None if rows.weight is None else rows.weight[present]
            self.temperature_ = fit_temperature(
                labelled.codes, proba[present], sample_weight=weight
            )
        self.teacher_ = fitted_teacher(stage, labelled)
        if score_rows and not present.all():
            absent = _safe_indexing(rows.X, np.flatnonzero(~present))
            proba[~present], _ = class_proba(self.teacher_, absent, rows.classes)
        return proba

    def transform(self, X: InputLike) -> FloatArray:
        """Return soft labels of the teacher fitted on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs. Use `fit_transform` for the rows that the teacher learns from.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Soft labels in the form of `output`.
        """
        check_is_fitted(self)
        (X,) = indexable(X)
        proba, missing = class_proba(self.teacher_, X, self.classes_)
        warn_unknown_classes(missing, self.classes_, type(self.teacher_).__name__)
        return self._form(proba)

    def _form(self, proba: FloatArray) -> FloatArray:
        """Temper probabilities and bring them into the form of `output`."""
        proba = temper_proba(proba, self.temperature_)
        if self.output == "proba":
            return proba
        logits: FloatArray = np.log(np.clip(proba, np.finfo(proba.dtype).tiny, None))
        if self.output == "logits":
            logits = logits - logits.mean(axis=1, keepdims=True)
        return logits

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the names of the columns: the class name of each.

        Parameters
        ----------
        input_features : object, default=None
            Not used, present for API consistency.

        Returns
        -------
        ndarray of shape (n_classes,), dtype=object
            ``softlabeltransformer_<class>``.
        """
        check_is_fitted(self)
        prefix = type(self).__name__.lower()
        return np.asarray([f"{prefix}_{c}" for c in self.classes_], dtype=object)
