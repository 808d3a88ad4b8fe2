"""How class probabilities are had from any teacher."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.base import is_regressor
from sklearn.ensemble import StackingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import _num_samples, has_fit_parameter

from skdistill._rows import unshared
from skdistill._typing import Estimator, FloatArray, InputLike
from skdistill._validation import check_proba_rows


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
    if isinstance(teacher, FrozenEstimator):
        return True
    own = getattr(teacher, "_is_frozen", None)
    return own is not None and bool(own())


def input_tags(estimator: Estimator) -> Any:
    """Return the input tags of an estimator, None where it has none, as a class has.

    Parameters
    ----------
    estimator : object
        A scikit-learn estimator or something that only behaves like one.

    Returns
    -------
    InputTags or None
        The tags.
    """
    if isinstance(estimator, type) or not hasattr(estimator, "__sklearn_tags__"):
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
    last = teacher.steps[-1][1] if isinstance(teacher, Pipeline) else teacher
    # Which methods this one has it knows once it is fitted, with its default.
    if isinstance(last, StackingClassifier) and last.final_estimator is None:
        return
    scored = hasattr(teacher, "predict_proba") or hasattr(teacher, "decision_function")
    if not hasattr(teacher, "fit") or not scored:
        if isinstance(teacher, str):
            name = f"{teacher!r} (the only string is 'self', of DistillationClassifier)"
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
        f"The fit of the teacher {type(last).__name__} has no argument sample_weight: "
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
    name = f"teacher {estimator_name(teacher)}"
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


def estimator_name(teacher: Estimator) -> str:
    """Return the name of a teacher's class, that of the estimator if it is frozen.

    Parameters
    ----------
    teacher : estimator
        Any teacher.

    Returns
    -------
    str
        The name.
    """
    inner = teacher.estimator if isinstance(teacher, FrozenEstimator) else teacher
    return type(inner).__name__


def _known_classes(teacher: Estimator, name: str) -> NDArray[Any]:
    known = getattr(teacher, "classes_", None)
    several = isinstance(known, list) and any(np.ndim(part) for part in known)
    if known is None or several:
        raise ValueError(
            f"{name} has no classes_ for a single target, so the order of its "
            "probabilities is unknown."
        )
    known = np.asarray(known)
    if len(np.unique(known)) != len(known):
        raise ValueError(f"{name} has a class twice in its classes_, {known.tolist()}.")
    return known


def _raw_proba(teacher: Estimator, X: InputLike, name: str) -> Any:
    """Call the teacher; turn scores into probabilities where it has no others."""
    if hasattr(teacher, "predict_proba"):
        return teacher.predict_proba(unshared(X, teacher))
    scores = teacher.decision_function(unshared(X, teacher))
    scores = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(scores).all():
        row = int(np.argmax(~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)))
        raise ValueError(f"the decision_function of {name}: row {row} is not finite.")
    if scores.ndim == 1 or scores.shape[1] == 1:
        positive = expit(scores.reshape(-1))
        return np.column_stack([1.0 - positive, positive])
    if scores.shape[1] == 3:
        _check_ranks_classes(teacher, X, scores, name)
    return softmax(scores, axis=1)


def _check_ranks_classes(
    teacher: Estimator, X: InputLike, scores: FloatArray, name: str
) -> None:
    """Refuse scores of pairs of classes, of which there are three for three classes."""
    if not hasattr(teacher, "predict"):
        return
    highest = _known_classes(teacher, name)[scores.argmax(axis=1)]
    predicted = np.asarray(teacher.predict(unshared(X, teacher)))
    if (highest != predicted).mean() > 0.5:
        raise ValueError(
            f"the decision_function of {name} does not rank the classes as its predict "
            "does: does it score pairs of classes? Use "
            "decision_function_shape='ovr', or wrap it in CalibratedClassifierCV."
        )


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
