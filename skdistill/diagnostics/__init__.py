"""Whether and why a teacher helps: risks, bias and variance, bounds, reports."""

from skdistill._bias_variance import (
    BiasVariance,
    DistilledRiskError,
    brier_difference,
    distilled_risk_error,
    teacher_bias_variance,
)
from skdistill._bounds import (
    RiskBound,
    linear_log_covering_number,
    linear_loss_bound,
    risk_bound,
)
from skdistill._intervals import ConfidenceInterval, corrected_resampled_interval
from skdistill._mixing import (
    MixingDiagnostics,
    break_even_sample_size,
    mixing_diagnostics,
    optimal_mixing_weight,
)
from skdistill._reliability import (
    BrierDecomposition,
    ClassReliability,
    brier_decomposition,
    class_reliability,
)
from skdistill._ridge_mixing import RidgeMixing, ridge_mixing_weight
from skdistill._risks import (
    ObjectiveVariance,
    bayes_distilled_risk,
    distilled_risk,
    empirical_risk,
    loss_vectors,
    objective_variance,
)
from skdistill.diagnostics._gain import (
    DistillationGain,
    distillation_gain,
    gain_from_scores,
)
from skdistill.diagnostics._report import (
    ProbaScores,
    TeacherReport,
    TeacherSummary,
)
from skdistill.diagnostics._teacher_report import teacher_report
from skdistill.diagnostics._variance import cross_fit_bias_variance

__all__ = [
    "BiasVariance",
    "BrierDecomposition",
    "ClassReliability",
    "ConfidenceInterval",
    "DistillationGain",
    "DistilledRiskError",
    "MixingDiagnostics",
    "ObjectiveVariance",
    "ProbaScores",
    "RidgeMixing",
    "RiskBound",
    "TeacherReport",
    "TeacherSummary",
    "bayes_distilled_risk",
    "break_even_sample_size",
    "brier_decomposition",
    "brier_difference",
    "class_reliability",
    "corrected_resampled_interval",
    "cross_fit_bias_variance",
    "distillation_gain",
    "distilled_risk",
    "distilled_risk_error",
    "empirical_risk",
    "gain_from_scores",
    "linear_log_covering_number",
    "linear_loss_bound",
    "loss_vectors",
    "mixing_diagnostics",
    "objective_variance",
    "optimal_mixing_weight",
    "ridge_mixing_weight",
    "risk_bound",
    "teacher_bias_variance",
    "teacher_report",
]
