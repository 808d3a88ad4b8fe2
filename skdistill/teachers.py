"""Teachers: how class probabilities are had from any of them, and two of our own."""

from __future__ import annotations

import sys
import warnings
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    _fit_context,
    clone,
    is_regressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags, indexable
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _num_samples,
    check_is_fitted,
    has_fit_parameter,
    validate_data,
)

from skdistill._device import resolve_device
from skdistill._typing import Estimator, FloatArray, InputLike
from skdistill._validation import (
    check_labels,
    check_proba_rows,
    check_weights,
    encode_labels,
    keep_fitted_on_failure,
)

__all__ = ["EnsembleTeacher", "ModuleTeacher"]


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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # As in FrozenEstimator: the module fixes the number of features and classes.
        tags._skip_test = True
        return tags

    @property
    def classes_(self) -> NDArray[Any]:
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
        inputs = np.asarray(X, dtype=np.float32)
        was_training = self.module.training
        home = next(self.module.parameters(), torch.empty(0)).device
        self.module.to(device).eval()
        try:
            with torch.no_grad():
                parts = [
                    self._scores(
                        torch.from_numpy(inputs[i : i + self.batch_size]), device
                    )
                    for i in range(0, max(len(inputs), 1), self.batch_size)
                ]
        finally:
            self.module.to(home).train(was_training)
        scores = np.concatenate(parts)
        return softmax(scores, axis=1) if self.output == "logits" else scores

    def _scores(self, batch: Any, device: str) -> FloatArray:
        output = self.module(batch.to(device))
        expected = (len(batch), len(self.classes_))
        shape = tuple(getattr(output, "shape", ()))
        if shape != expected:
            raise ValueError(
                f"module must return an array of shape (batch_size, n_classes) = "
                f"{expected} for {len(batch)} rows, got {shape or type(output)}."
            )
        scores: FloatArray = output.double().cpu().numpy()
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
    weights : array-like of shape (n_teachers,) or None, default=None
        Non-negative weights v; None means equal ones.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels.
    teachers_ : list of estimators
        The fitted members.
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
        "weights": ["array-like", None],
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
        self.teachers_ = [
            clone(teacher).fit(X, y, **weight_params(teacher, sample_weight))
            for teacher in self.teachers
        ]
        self.classes_ = classes
        return self

    def _check_members(self) -> None:
        if len(self.teachers) == 0:
            raise ValueError(
                "teachers must hold at least one teacher, got an empty list."
            )
        for teacher in self.teachers:
            check_teacher(teacher)
        self._normalised_weights()

    def _normalised_weights(self) -> FloatArray:
        n_teachers = len(self.teachers)
        if self.weights is None:
            return np.full(n_teachers, 1.0 / n_teachers)
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
        for teacher, weight in zip(
            self.teachers_, self._normalised_weights(), strict=True
        ):
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


def is_frozen(teacher: Estimator) -> bool:
    """Whether a teacher is fitted already and must be used as it is.

    Parameters
    ----------
    teacher : estimator
        Any teacher.

    Returns
    -------
    bool
        True for FrozenEstimator, ModuleTeacher and ensembles of nothing else.
    """
    if isinstance(teacher, EnsembleTeacher):
        return all(is_frozen(member) for member in teacher.teachers)
    return isinstance(teacher, (FrozenEstimator, ModuleTeacher))


def input_tags(estimator: Estimator) -> Any:
    """Return the input tags of an estimator, None where it has none.

    Parameters
    ----------
    estimator : object
        A scikit-learn estimator or something that only behaves like one.

    Returns
    -------
    InputTags or None
        The tags.
    """
    if not hasattr(estimator, "__sklearn_tags__"):
        return None
    return get_tags(estimator).input_tags


def check_teacher(teacher: Any) -> None:
    """Raise unless something can be a teacher.

    Parameters
    ----------
    teacher : object
        What the user passed.

    Raises
    ------
    TypeError
        If it is a class, a torch module, a regressor, or has neither `predict_proba`
        nor `decision_function`.
    """
    name = type(teacher).__name__
    if isinstance(teacher, type):
        raise TypeError(
            f"teacher must be an instance, got the class {teacher.__name__}; pass "
            f"{teacher.__name__}(...)."
        )
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(teacher, torch.nn.Module):
        raise TypeError(
            f"teacher is a torch module ({name}); wrap it as "
            "skdistill.teachers.ModuleTeacher(module, classes=...), so that the order "
            "of its outputs is known."
        )
    if input_tags(teacher) is not None and is_regressor(teacher):
        raise TypeError(
            f"teacher must be a classifier, got the regressor {name}. A teacher gives "
            "class probabilities."
        )
    scored = hasattr(teacher, "predict_proba") or hasattr(teacher, "decision_function")
    if not hasattr(teacher, "fit") or not scored:
        raise TypeError(
            "teacher must be a classifier with fit and with predict_proba or "
            f"decision_function, got {name}."
        )


def weight_params(teacher: Estimator, sample_weight: Any) -> dict[str, Any]:
    """Return the fit arguments by which a teacher gets the sample weights.

    Parameters
    ----------
    teacher : estimator
        A teacher; of a Pipeline the last step gets the weights.
    sample_weight : ndarray of shape (n_samples,) or None
        The weights.

    Returns
    -------
    dict
        Empty where there are no weights, or, with a warning, where the teacher does not
        take them.
    """
    if sample_weight is None or is_frozen(teacher):
        return {}
    if isinstance(teacher, Pipeline):
        name, last = teacher.steps[-1]
        key = f"{name}__sample_weight"
    else:
        last, key = teacher, "sample_weight"
    if has_fit_parameter(last, "sample_weight"):
        return {key: sample_weight}
    warnings.warn(
        f"The fit of the teacher {type(last).__name__} does not take sample_weight: "
        "the weights are used for the student only.",
        UserWarning,
        stacklevel=2,
    )
    return {}


def class_proba(
    teacher: Estimator, X: InputLike, classes: NDArray[Any]
) -> tuple[FloatArray, list[int]]:
    """Score rows with a fitted teacher, in the order of the given classes.

    Scores of a teacher without `predict_proba` become probabilities by the logistic
    function (two classes) or the softmax.

    Parameters
    ----------
    teacher : estimator
        A fitted teacher.
    X : array-like of shape (n_samples, ...)
        Inputs, passed as they are.
    classes : ndarray of shape (n_classes,)
        Sorted classes; the teacher may know fewer, in any order.

    Returns
    -------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities; 0 for classes that the teacher does not know.
    missing : list of int
        Positions of these classes.

    Raises
    ------
    ValueError
        If the teacher knows other classes, or returns no probabilities.
    """
    name = f"teacher {_name(teacher)}"
    known = _known_classes(teacher, name)
    position = {label: i for i, label in enumerate(classes.tolist())}
    unknown = [label for label in known.tolist() if label not in position]
    if unknown:
        raise ValueError(
            f"{name} knows the classes {unknown}, which are not among the classes of "
            f"y, {classes.tolist()}."
        )
    given = check_proba_rows(
        _raw_proba(teacher, X, name),
        name=f"the output of {name}",
        n_samples=_num_samples(X),
        n_classes=len(known),
    )
    columns = [position[label] for label in known.tolist()]
    proba = np.zeros((len(given), len(classes)))
    proba[:, columns] = given
    return proba, sorted(set(range(len(classes))) - set(columns))


def _name(teacher: Estimator) -> str:
    inner = teacher.estimator if isinstance(teacher, FrozenEstimator) else teacher
    return type(inner).__name__


def _known_classes(teacher: Estimator, name: str) -> NDArray[Any]:
    known = getattr(teacher, "classes_", None)
    if known is None or isinstance(known, list):
        raise ValueError(
            f"{name} has no classes_ for a single target, so the order of its "
            "probabilities is unknown."
        )
    return np.asarray(known)


def _raw_proba(teacher: Estimator, X: InputLike, name: str) -> Any:
    """Call the teacher; turn scores into probabilities where it has no others."""
    if hasattr(teacher, "predict_proba"):
        return teacher.predict_proba(X)
    scores = np.asarray(teacher.decision_function(X), dtype=np.float64)
    if not np.isfinite(scores).all():
        row = int(np.argmax(~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)))
        raise ValueError(f"the decision_function of {name}: row {row} is not finite.")
    if scores.ndim == 1 or scores.shape[1] == 1:
        positive = expit(scores.reshape(-1))
        return np.column_stack([1.0 - positive, positive])
    return softmax(scores, axis=1)


def warn_unknown_classes(
    missing: list[int], classes: NDArray[Any], teacher_name: str
) -> None:
    """Warn about classes that a teacher gives no probability.

    Parameters
    ----------
    missing : list of int
        Positions of these classes; nothing happens where there are none.
    classes : ndarray of shape (n_classes,)
        Sorted classes.
    teacher_name : str
        Name of the teacher.
    """
    if missing:
        warnings.warn(
            f"The teacher {teacher_name} was not fitted on the classes "
            f"{classes[missing].tolist()}: their soft labels are 0 there.",
            UserWarning,
            stacklevel=2,
        )
