"""scikit-learn's own checks on every estimator, in several configurations."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from skdistill import (
    DistillationClassifier,
    DistillationClassifierCV,
    DistillationRanker,
    DistillationRetriever,
    SoftLabelTransformer,
)
from skdistill.students import (
    EstimatorStudent,
    LinearStudent,
    MLPStudent,
    ModuleStudent,
)
from skdistill.teachers import EnsembleTeacher, TableTeacher

pytestmark = pytest.mark.filterwarnings(
    # Some checks pass classes of a single row on purpose.
    "ignore:The classes .* have a single row each:UserWarning",
    # By the choice between labels and soft labels, of checks' data: noise, few rows.
    "ignore:The teacher:UserWarning",
    "ignore:mixing_weight='auto' cannot choose:UserWarning",
    "ignore:teacher='self' cannot teach:UserWarning",
    "ignore:The least populated class in y has only:UserWarning",
    # LogisticRegression, as a teacher, on unscaled checks' data.
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

MINIBATCHES = "sample_weight is not equivalent to removing/repeating samples."
WEIGHT_CHECKS = (
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
)


class Perceptron(nn.Sequential):
    # A class, as its name in the tests' names is the same in every process.
    def __init__(self, n_features, n_classes):
        super().__init__(nn.Linear(n_features, 8), nn.Tanh(), nn.Linear(8, n_classes))


class FrozenTeacherClassifier(DistillationClassifier):
    """Distil from a frozen teacher, which has to suit the data of each check."""

    def fit(self, X, y, sample_weight=None):
        teacher = EnsembleTeacher([self.teacher]).fit(X, y, sample_weight)
        self._frozen = FrozenEstimator(teacher)
        return super().fit(X, y, sample_weight)

    def _resolved_teacher(self):
        frozen = self.__dict__.get("_frozen")
        return super()._resolved_teacher() if frozen is None else frozen


FULL_BATCH = MLPStudent(
    (8,),
    batch_size=None,
    max_iter=60,
    learning_rate_init=0.02,
    early_stopping=False,
    dtype="float64",
    random_state=0,
)
LOGISTIC = LogisticRegression(max_iter=200)

ESTIMATORS = {
    "LinearStudent": (LinearStudent(), None),
    "MLPStudent": (MLPStudent((8,), random_state=0), MINIBATCHES),
    "MLPStudent, full batch": (FULL_BATCH, None),
    "ModuleStudent": (
        ModuleStudent(
            Perceptron,
            batch_size=None,
            max_iter=60,
            learning_rate_init=0.02,
            early_stopping=False,
            dtype="float64",
            random_state=0,
        ),
        None,
    ),
    "EstimatorStudent, tree": (
        EstimatorStudent(DecisionTreeClassifier(max_depth=6, random_state=0)),
        None,
    ),
    "EstimatorStudent, ridge": (EstimatorStudent(Ridge()), None),
    "EstimatorStudent, pipeline": (
        EstimatorStudent(make_pipeline(Normalizer(), LinearStudent())),
        None,
    ),
    "TableTeacher": (TableTeacher(LOGISTIC), None),
    "TableTeacher, boosting": (
        TableTeacher(HistGradientBoostingClassifier(max_iter=10, random_state=0)),
        None,
    ),
    "EnsembleTeacher": (EnsembleTeacher([LOGISTIC, GaussianNB()]), None),
    "DistillationClassifier": (
        DistillationClassifier(GaussianNB(), LinearStudent(), mixing_weight=0.5),
        None,
    ),
    "DistillationClassifier, chosen": (
        DistillationClassifier(GaussianNB(), LinearStudent(), cv=3),
        None,
    ),
    "DistillationClassifier, self": (
        DistillationClassifier("self", LinearStudent(), mixing_weight=0.5),
        None,
    ),
    "DistillationClassifier, corrected": (
        DistillationClassifier(
            GaussianNB(),
            LinearStudent(),
            temperature=2.0,
            mixing_weight=0.5,
            loss_correction=True,
        ),
        None,
    ),
    "DistillationClassifier, linear student": (
        DistillationClassifier(
            LOGISTIC, LinearStudent(), cv="in-sample", mixing_weight=0.5
        ),
        None,
    ),
    "DistillationClassifier, full-batch MLP": (
        DistillationClassifier(LOGISTIC, FULL_BATCH, cv="in-sample", mixing_weight=0.5),
        None,
    ),
    "DistillationClassifier, tree student": (
        DistillationClassifier(
            DecisionTreeClassifier(max_depth=3, random_state=0),
            # As the check of class weights sets it for trees: where all rows of a leaf
            # are of one class, no weight changes what it predicts.
            DecisionTreeClassifier(
                max_depth=6, min_weight_fraction_leaf=0.01, random_state=0
            ),
            cv="in-sample",
            mixing_weight=0.5,
        ),
        None,
    ),
    "DistillationClassifier, frozen teacher": (
        FrozenTeacherClassifier(LOGISTIC, LinearStudent(), mixing_weight=0.5),
        None,
    ),
    "DistillationClassifierCV": (
        DistillationClassifierCV(
            GaussianNB(),
            LinearStudent(),
            temperatures=[1.0],
            mixing_weights=[0.0, 0.5],
            cv=3,
            teacher_cv=2,
        ),
        None,
    ),
    "DistillationRanker": (DistillationRanker(GaussianNB(), LinearStudent()), None),
    "DistillationRanker, full-batch MLP": (
        DistillationRanker(LOGISTIC, FULL_BATCH, cv="in-sample"),
        None,
    ),
    "DistillationRetriever": (
        DistillationRetriever(
            dim=8,
            dropout=0.0,
            batch_size=32,
            learning_rate_init=0.3,
            max_iter=20,
            random_state=0,
        ),
        None,
    ),
    "SoftLabelTransformer": (SoftLabelTransformer(GaussianNB()), None),
}


def expected_failures(estimator):
    if isinstance(estimator, DistillationClassifier) and (
        estimator.teacher == "self" or estimator.loss_correction
    ):
        return {"check_class_weight_classifiers": "Weights by class are refused."}
    for candidate, reason in ESTIMATORS.values():
        if repr(candidate) == repr(estimator) and reason is not None:
            return dict.fromkeys(WEIGHT_CHECKS, reason)
    return {}


@parametrize_with_checks(
    [estimator for estimator, _ in ESTIMATORS.values()],
    expected_failed_checks=expected_failures,
    xfail_strict=True,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_clone_to_equal_parameters(name):
    estimator, _ = ESTIMATORS[name]
    assert repr(clone(estimator)) == repr(estimator)


def test_default_estimators_fit_and_predict_as_scikit_learn_s_do():
    X = np.random.RandomState(0).normal(size=(120, 3))
    y = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
    distilled = DistillationClassifier(random_state=0, mixing_weight=0.5).fit(X, y)
    assert distilled.score(X, y) > 0.8
    assert isinstance(distilled.student_, MLPStudent)
