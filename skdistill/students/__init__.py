"""Students: small classifiers that learn from labels and from soft labels alike."""

from skdistill.students._estimator import EstimatorStudent
from skdistill.students._linear import LinearStudent
from skdistill.students._mlp import MLPStudent
from skdistill.students._module import ModuleStudent

__all__ = [
    "EstimatorStudent",
    "LinearStudent",
    "MLPStudent",
    "ModuleStudent",
]
