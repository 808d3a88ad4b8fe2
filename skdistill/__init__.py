"""Knowledge distillation for scikit-learn: small students of strong teachers."""

from skdistill._distillation import DistillationClassifier
from skdistill._distillation_cv import DistillationClassifierCV
from skdistill._ranking import DistillationRanker
from skdistill._retrieval import DistillationRetriever
from skdistill._show_versions import show_versions
from skdistill._soft_label_transformer import SoftLabelTransformer

__version__ = "0.1.0"

__all__ = [
    "DistillationClassifier",
    "DistillationClassifierCV",
    "DistillationRanker",
    "DistillationRetriever",
    "SoftLabelTransformer",
    "__version__",
    "show_versions",
]
