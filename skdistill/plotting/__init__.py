"""Displays: what a teacher, a student or a search did, drawn.

They follow scikit-learn's displays: ``from_estimator`` or ``from_predictions`` computes
what is drawn, ``plot`` draws it again, on other axes if need be, and the numbers stay
at hand as attributes. They need matplotlib: ``pip install "skdistill[plot]"``.
"""

from skdistill.plotting._bias_variance import BiasVarianceDisplay
from skdistill.plotting._class_gain import ClassGainDisplay
from skdistill.plotting._loss_curve import LossCurveDisplay
from skdistill.plotting._objective_variance import ObjectiveVarianceDisplay
from skdistill.plotting._reliability import ReliabilityCurve, ReliabilityDisplay
from skdistill.plotting._search_surface import SearchSurfaceDisplay

__all__ = [
    "BiasVarianceDisplay",
    "ClassGainDisplay",
    "LossCurveDisplay",
    "ObjectiveVarianceDisplay",
    "ReliabilityCurve",
    "ReliabilityDisplay",
    "SearchSurfaceDisplay",
]
