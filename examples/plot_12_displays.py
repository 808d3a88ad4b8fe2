"""
What went on in a distillation?
===============================

The displays of :mod:`skdistill.plotting` on one problem: scanned digits with 30 % of
the labels flipped, a forest as the teacher, a small network as the student. What each
of them can and cannot say is in :doc:`/guide/displays`.
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

from skdistill import DistillationClassifier, DistillationClassifierCV
from skdistill.datasets import make_class_overlap, noisy_labels
from skdistill.plotting import (
    BiasVarianceDisplay,
    ClassGainDisplay,
    LossCurveDisplay,
    ObjectiveVarianceDisplay,
    ReliabilityDisplay,
    SearchSurfaceDisplay,
)
from skdistill.students import MLPStudent

# %%
# Data and models
# ---------------
# The test labels are noisy, too: what the models estimate are the probabilities of such
# labels.

X, y = load_digits(return_X_y=True)
y = noisy_labels(y, rate=0.3, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.4, stratify=y, random_state=0
)
teacher = RandomForestClassifier(100, min_samples_leaf=3, random_state=0)
student = MLPStudent((32,), max_iter=40, early_stopping=True, random_state=0)
distilled = DistillationClassifier(
    teacher, student, mixing_weight=1.0, cv=3, keep_teacher=True
).fit(X_train, y_train)
on_labels = clone(student).fit(X_train, y_train)

# %%
# Reliability
# -----------
# The forest averages over trees, and is less sure than it is right: its curve is above
# the diagonal. The student has learned that, too.

reliability = ReliabilityDisplay.from_estimator(distilled, X_test, y_test)

# %%
# Error of the objective
# ----------------------
# At the student on labels: the teacher's probabilities vary much less than labels do,
# but this forest is so far from sure that its bias counts from some twenty rows on.

objective = ObjectiveVarianceDisplay.from_estimator(
    on_labels, X_test, y_test, teacher=distilled.teacher_
)

# %%
# Bias and variance
# -----------------
# Trees of growing depth as teachers, where the true probabilities are known.

X_known, y_known, _ = make_class_overlap(3000, n_clusters_per_class=3, random_state=0)
X_new, y_new, bayes_proba = make_class_overlap(
    2000, n_clusters_per_class=3, random_state=1
)
trees = {str(d): DecisionTreeClassifier(max_depth=d) for d in (1, 2, 3, 4, 6, 9)}
parts = BiasVarianceDisplay.from_estimator(
    trees,
    X_known,
    y_known,
    X_new,
    y_new,
    student=DecisionTreeClassifier(max_depth=3, random_state=0),
    bayes_proba=bayes_proba,
    random_state=0,
)

# %%
# Temperature and mixing weight
# -----------------------------
# Scores of the search: the column of mixing weight 0 is the student on labels. A
# fitted temperature ("auto") makes the forest as sure as it should be, and so a better
# teacher.

search = DistillationClassifierCV(
    clone(teacher).set_params(n_estimators=30),
    clone(student).set_params(max_iter=15, early_stopping=False),
    temperatures=[0.5, 1.0, 2.0, "auto"],
    mixing_weights=[0.0, 0.5, 1.0],
    cv=3,
    teacher_cv=2,
).fit(X_train, y_train)
surface = SearchSurfaceDisplay.from_estimator(search)

# %%
# Gain by class
# -------------
# Without that temperature: where an interval is right of 0 the class gains by
# distillation, where it is left of 0 it loses.

gain = ClassGainDisplay.from_estimator(distilled, X_test, y_test, baseline=on_labels)

# %%
# Loss curves
# -----------
# The student on labels starts to fit the noise early, and stops.

curves = LossCurveDisplay.from_estimator(
    {"on labels": on_labels, "distilled": distilled}
)

# %%
# Result
# ------

for name, model in (("on labels", on_labels), ("distilled", distilled)):
    print(f"{name}: test log-loss {log_loss(y_test, model.predict_proba(X_test)):.3f}")
print(f"gain over all classes: {gain.intervals[-1]}")

if "sphinx_gallery" in sys.modules:
    plt.show()
