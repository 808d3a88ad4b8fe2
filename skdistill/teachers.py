"""Teachers of our own: a torch module, several teachers as one, and raw tables."""

from __future__ import annotations

import copy
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    _fit_context,
    clone,
)
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils._metadata_requests import _routing_enabled
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.validation import (
    _check_method_params,
    _num_samples,
    check_is_fitted,
    validate_data,
)

from skdistill._arguments import naming
from skdistill._device import resolve_device
from skdistill._mixture import fit_mixture_weights
from skdistill._retrieval_predictions import average_soft_labels, ranked_soft_labels
from skdistill._scoring import (
    check_teacher,
    class_proba,
    input_tags,
    is_frozen,
    warn_unknown_classes,
    weight_params,
)
from skdistill._table_teacher import TableTeacher, fit_teacher
from skdistill._typing import FloatArray, InputLike, IntArray
from skdistill._validation import (
    check_labels,
    check_weights,
    encode_labels,
    keep_fitted_on_failure,
)

__all__ = [
    "EnsembleTeacher",
    "ModuleTeacher",
    "TableTeacher",
    "average_soft_labels",
    "ranked_soft_labels",
]

#: Folds by which an ensemble's weights are learned.
N_FOLDS = 5


class ModuleTeacher(ClassifierMixin, BaseEstimator):
    """A trained torch module as a teacher.

    It is used as it is: `fit` does nothing and :func:`sklearn.base.clone` returns the
    same object, as for :class:`sklearn.frozen.FrozenEstimator`.

    Parameters
    ----------
    module : torch.nn.Module
        Maps a float batch of shape (batch_size, n_features) to one value a class.
    classes : array-like of shape (n_classes,)
        The label of each output of the module, in the module's order.
    output : {"logits", "proba"}, default="logits"
        What the module returns.
    batch_size : int, default=1024
        Rows scored at a time.
    device : str, default="auto"
        "auto" (CUDA if there is one, then MPS, else CPU) or a torch device.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        `classes` as an array.

    Examples
    --------
    >>> import torch
    >>> from skdistill.teachers import ModuleTeacher
    >>> teacher = ModuleTeacher(torch.nn.Identity(), classes=["no", "yes"])
    >>> teacher.predict_proba([[0.0, 0.0]])
    array([[0.5, 0.5]])
    """

    _parameter_constraints: dict[str, Any] = {
        "module": [callable],
        "classes": ["array-like"],
        "output": [StrOptions({"logits", "proba"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
    }

    def __init__(
        self,
        module: Any,
        *,
        classes: Any,
        output: str = "logits",
        batch_size: int = 1024,
        device: str = "auto",
    ) -> None:
        self.module = module
        self.classes = classes
        self.output = output
        self.batch_size = batch_size
        self.device = device

    def __sklearn_clone__(self) -> ModuleTeacher:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _is_frozen(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # As in FrozenEstimator: the module fixes the number of features and classes.
        tags._skip_test = True
        return tags

    @property
    def classes_(self) -> NDArray[Any]:  # numpydoc ignore=RT01
        """Labels of the module's outputs, in its order."""
        return np.asarray(self.classes)

    def fit(self, X: InputLike, y: Any = None, **params: Any) -> ModuleTeacher:
        """Do nothing: the module is trained already.

        Parameters
        ----------
        X : object
            Ignored.
        y : object, default=None
            Ignored.
        **params : dict
            Ignored.

        Returns
        -------
        self : object
            This teacher.
        """
        return self

    def predict_proba(self, X: InputLike) -> FloatArray:
        """Return the module's class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, columns in the order of ``classes_``.

        Raises
        ------
        ValueError
            If the module does not return one value a class for each row.
        """
        import torch

        self._validate_params()
        device = resolve_device(self.device)
        # A copy: other threads may score with the module, or its owner train it.
        module = copy.deepcopy(self.module).to(device).eval()
        floating = (p.dtype for p in module.parameters() if p.is_floating_point())
        dtype = next(floating, torch.float32)
        inputs = np.asarray(X)
        parts = []
        with torch.no_grad():
            for start in range(0, max(len(inputs), 1), self.batch_size):
                rows = inputs[start : start + self.batch_size].astype(np.float64)
                # Also a copy: the module may work in place.
                batch = torch.from_numpy(rows).to(device=device, dtype=dtype)
                parts.append(self._scores(module, batch))
        scores = np.concatenate(parts)
        return softmax(scores, axis=1) if self.output == "logits" else scores

    def _scores(self, module: Any, batch: Any) -> FloatArray:
        output = module(batch)
        expected = (len(batch), len(self.classes_))
        shape = tuple(getattr(output, "shape", ()))
        if shape != expected:
            raise ValueError(
                f"module must return an array of shape (batch_size, n_classes) = "
                f"{expected} for {len(batch)} rows, got {shape or type(output)}."
            )
        # In this order: Apple's GPUs have no float64.
        scores: FloatArray = output.cpu().double().numpy()
        return scores

    def predict(self, X: InputLike) -> NDArray[Any]:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        labels: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels


class EnsembleTeacher(ClassifierMixin, BaseEstimator):
    r"""Several teachers as one: the weighted mean of their probabilities.

    .. math:: p(x) = \sum_m v_m \, p_m(x) \Big/ \sum_m v_m

    The mean is of probabilities, not of logits. Unlike
    :class:`sklearn.ensemble.VotingClassifier` it takes fitted members
    (:class:`sklearn.frozen.FrozenEstimator`) beside unfitted ones, and members whose
    classes are in another order or fewer.

    Parameters
    ----------
    teachers : list of estimators
        Classifiers with `predict_proba` or `decision_function`.
    weights : array-like of shape (n_teachers,), "log-loss" or None, default=None
        Non-negative weights v; None means equal ones. "log-loss" learns them: each
        member is cross-fitted on five folds, and the convex weights with the lowest
        log-loss of the mixture on the labels are taken, of members that have not seen
        these. Frozen members are scored as they are: fit them on other rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels.
    teachers_ : list of estimators
        The fitted members.
    weights_ : ndarray of shape (n_teachers,)
        The weights used; they sum to 1.
    n_features_in_ : int
        Number of features seen in `fit`, if X has any.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had any.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skdistill.teachers import EnsembleTeacher
    >>> X, y = load_iris(return_X_y=True)
    >>> members = [LogisticRegression(max_iter=500), GaussianNB()]
    >>> teacher = EnsembleTeacher(members, weights=[2, 1]).fit(X, y)
    >>> teacher.predict_proba(X[:1]).shape
    (1, 3)
    """

    _parameter_constraints: dict[str, Any] = {
        "teachers": [list, tuple],
        "weights": ["array-like", StrOptions({"log-loss"}), None],
    }

    def __init__(self, teachers: Any, *, weights: Any = None) -> None:
        self.teachers = teachers
        self.weights = weights

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        members = [input_tags(teacher) for teacher in self.teachers]
        for name in ("sparse", "allow_nan", "categorical", "string"):
            together = all(getattr(member, name, False) for member in members)
            setattr(tags.input_tags, name, together)
        return tags

    @keep_fitted_on_failure
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: InputLike, y: Any, sample_weight: Any = None) -> EnsembleTeacher:
        """Fit the members that are not frozen.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs, passed to each member as they are.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights, passed to the members that take them; a warning names those
            that do not.

        Returns
        -------
        self : object
            The fitted teacher.

        Raises
        ------
        TypeError
            If a member has neither `predict_proba` nor `decision_function`.
        ValueError
            If there is no member, or the weights do not fit the members.
        """
        self._check_members()
        validate_data(self, X, reset=True, skip_check_array=True)
        (X,) = indexable(X)
        y = check_labels(y, X)
        classes, codes = encode_labels(y)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, X, codes)
        params = self._member_params(sample_weight)
        self.weights_ = self._normalised_weights()
        if self._learns_weights():
            weight = np.ones(len(y)) if sample_weight is None else sample_weight
            rows = np.flatnonzero(weight > 0)
            proba = self._label_proba(X, y, codes, params, rows)
            self.weights_ = fit_mixture_weights(proba[rows], weight[rows])
        self.teachers_ = [
            fit_teacher(clone(teacher), X, y, member_params)
            for teacher, member_params in zip(self.teachers, params, strict=True)
        ]
        # A frozen member may know classes that these rows, a fold perhaps, lack.
        known = [t.classes_ for t in self.teachers_ if is_frozen(t)]
        self.classes_ = np.unique(np.concatenate([classes, *known]))
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the routing of the sample weights to the members.

        Returns
        -------
        MetadataRouter
            The routing.
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        to_fit = MethodMapping().add(caller="fit", callee="fit")
        for i, teacher in enumerate(self.teachers):
            router.add(**{f"teacher_{i}": teacher}, method_mapping=to_fit)
        return router

    def _member_params(self, sample_weight: Any) -> list[dict[str, Any]]:
        """Return the arguments of each member's fit."""
        if not _routing_enabled():
            return [weight_params(t, sample_weight) for t in self.teachers]
        routed = process_routing(self, "fit", sample_weight=sample_weight)
        return [dict(routed[f"teacher_{i}"].fit) for i in range(len(self.teachers))]

    def _is_frozen(self) -> bool:
        return all(is_frozen(member) for member in self.teachers)

    def _check_members(self) -> None:
        if len(self.teachers) == 0:
            raise ValueError(
                "teachers must hold at least one teacher, got an empty list."
            )
        for teacher in self.teachers:
            check_teacher(teacher)
        self._normalised_weights()

    def _learns_weights(self) -> bool:
        return isinstance(self.weights, str)

    def _label_proba(
        self,
        X: InputLike,
        y: NDArray[Any],
        codes: IntArray,
        params: list[dict[str, Any]],
        counted: IntArray,
    ) -> FloatArray:
        """Return each member's out-of-fold probability of each row's label.

        Only rows that count are split, as if the others, which stay at zero, were
        absent: folds of all could leave a part of one class with weight.
        """
        codes = codes[counted]
        n_folds = min(N_FOLDS, int(np.bincount(codes).max()))
        if n_folds < 2:
            raise ValueError(
                "weights='log-loss' needs a class with two rows at least, to score "
                "rows that the members have not seen."
            )
        folds = [
            (counted[train], counted[test])
            for train, test in StratifiedKFold(n_folds).split(codes, codes)
        ]
        proba = np.zeros((len(y), len(self.teachers)))
        for m, (teacher, fit_params) in enumerate(
            zip(self.teachers, params, strict=True)
        ):
            for train, test in folds:
                member = clone(teacher)
                given = _check_method_params(X, params=fit_params, indices=train)
                fit_teacher(member, _safe_indexing(X, train), y[train], given)
                known = np.isin(y[test], member.classes_)
                rows, classes = test[known], np.unique(member.classes_)
                scored, _ = class_proba(member, _safe_indexing(X, rows), classes)
                column = np.searchsorted(classes, y[rows])
                proba[rows, m] = scored[np.arange(len(rows)), column]
        return proba

    def _normalised_weights(self) -> FloatArray:
        n_teachers = len(self.teachers)
        if self.weights is None or self._learns_weights():
            return np.full(n_teachers, 1.0 / n_teachers)
        with naming("weights"):
            weights = np.asarray(self.weights, dtype=np.float64)
        fits = weights.shape == (n_teachers,)
        if not fits or not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError(
                "weights must hold one non-negative number for each of the "
                f"{n_teachers} teachers, got {self.weights!r}."
            )
        if weights.sum() == 0:
            raise ValueError(f"weights must not all be zero, got {self.weights!r}.")
        return weights / weights.sum()

    def predict_proba(self, X: InputLike) -> FloatArray:
        """Return the weighted mean of the members' probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        (X,) = indexable(X)
        proba = np.zeros((_num_samples(X), len(self.classes_)))
        for teacher, weight in zip(self.teachers_, self.weights_, strict=True):
            member, missing = class_proba(teacher, X, self.classes_)
            warn_unknown_classes(missing, self.classes_, type(teacher).__name__)
            proba += weight * member
        return proba

    def predict(self, X: InputLike) -> NDArray[Any]:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        proba = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[proba.argmax(axis=1)]
        return labels
