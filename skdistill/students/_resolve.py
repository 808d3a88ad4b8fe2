"""From whatever a user passes as a student to one of ours."""

from __future__ import annotations

import sys
from typing import Any

from sklearn.base import clone
from sklearn.pipeline import Pipeline

from skdistill.students._base import BaseStudent
from skdistill.students._estimator import EstimatorStudent, is_predictor
from skdistill.students._mlp import MLPStudent
from skdistill.students._module import ModuleStudent


def as_student(student: Any, *, random_state: Any = None) -> BaseStudent:
    """Return an unfitted student for anything that can be one.

    Parameters
    ----------
    student : object
        None for an :class:`MLPStudent`; a student, which is cloned; a torch module, its
        class or a function returning one; a scikit-learn classifier, regressor or
        Pipeline.
    random_state : int, RandomState instance or None, default=None
        Seed of the default student, and of a torch module's student.

    Returns
    -------
    BaseStudent
        A new, unfitted student.

    Raises
    ------
    TypeError
        If `student` cannot be one.
    """
    if student is None:
        return MLPStudent(random_state=random_state)
    if isinstance(student, type) and not _is_module_class(student):
        raise TypeError(
            f"student must be an instance, got the class {student.__name__}; pass "
            f"{student.__name__}(...)."
        )
    if isinstance(student, BaseStudent):
        return clone(student)
    if _is_module(student) or _is_module_class(student):
        return ModuleStudent(student, random_state=random_state)
    if isinstance(student, Pipeline) or is_predictor(student):
        return EstimatorStudent(clone(student))
    raise TypeError(
        "student must be None, a student of skdistill.students, a scikit-learn "
        "classifier, regressor or Pipeline, or a torch.nn.Module; got "
        f"{type(student).__name__}. Wrap a function that makes a module in "
        "ModuleStudent."
    )


def wraps(resolved: BaseStudent, student: Any) -> bool:
    """Return whether a user's estimator became the estimator of an EstimatorStudent.

    Parameters
    ----------
    resolved : BaseStudent
        What :func:`as_student` returned.
    student : object
        What it was given.

    Returns
    -------
    bool
        Whether the names of the user's parameters begin with "estimator__" there.
    """
    return isinstance(resolved, EstimatorStudent) and not isinstance(
        student, EstimatorStudent
    )


def _is_module(student: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(student, torch.nn.Module)


def _is_module_class(student: Any) -> bool:
    torch = sys.modules.get("torch")
    return (
        torch is not None
        and isinstance(student, type)
        and issubclass(student, torch.nn.Module)
    )
