"""Steps with copy=False leave their results in X: others, too, learn from it."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from skdistill import (
    DistillationClassifier,
    DistillationClassifierCV,
    DistillationRanker,
    SoftLabelTransformer,
)
from skdistill._retrieval.teacher import Labelled, teacher_soft_labels
from skdistill._rows import unshared
from skdistill.datasets import make_retrieval
from skdistill.students import EstimatorStudent, LinearStudent
from skdistill.teachers import TableTeacher


def rows(n_classes=2):
    X, y = make_classification(
        150, n_features=6, n_informative=4, n_classes=n_classes, random_state=0
    )
    return 7 * X + 3, y


def scaled(copy, last=None):
    return make_pipeline(StandardScaler(copy=copy), last or LogisticRegression())


def frozen(copy, last=None):
    X, y = rows()
    return FrozenEstimator(scaled(copy, last).fit(X, y))


DISTILLERS = {
    "in-sample": lambda copy: DistillationClassifier(
        scaled(copy), LinearStudent(), cv="in-sample", mixing_weight=0.5
    ),
    "frozen": lambda copy: DistillationClassifier(
        frozen(copy), LinearStudent(), mixing_weight=0.5
    ),
    "scores": lambda copy: DistillationClassifier(
        frozen(copy, LinearSVC()), LinearStudent(), mixing_weight=0.5
    ),
    "frozen within": lambda copy: DistillationClassifier(
        make_pipeline(
            FrozenEstimator(StandardScaler(copy=copy).fit(rows()[0])),
            LogisticRegression(),
        ),
        LinearStudent(),
        cv="in-sample",
        mixing_weight=0.5,
    ),
    "several": lambda copy: DistillationClassifier(
        [scaled(copy), scaled(copy)],
        LinearStudent(),
        cv="in-sample",
        mixing_weight=0.5,
    ),
    "kept": lambda copy: DistillationClassifier(
        scaled(copy), LinearStudent(), mixing_weight=0.5, keep_teacher=True
    ),
    "table": lambda copy: DistillationClassifier(
        TableTeacher(scaled(copy)), LinearStudent(), keep_teacher=True
    ),
    "student": lambda copy: DistillationClassifier(LogisticRegression(), scaled(copy)),
    "student of ours": lambda copy: DistillationClassifier(
        LogisticRegression(), scaled(copy, LinearStudent()), mixing_weight=0.5
    ),
    "search": lambda copy: DistillationClassifierCV(
        frozen(copy), LinearStudent(), cv=3
    ),
    "ranker": lambda copy: DistillationRanker(frozen(copy), LinearStudent()),
    "transformer": lambda copy: SoftLabelTransformer(scaled(copy)),
}


@pytest.mark.parametrize("kind", DISTILLERS)
def test_nobody_learns_from_what_another_left_in_X(kind):
    found = []
    for copy in (True, False):
        X, y = rows()
        given, new = X.copy(), X + 0.1
        model = DISTILLERS[kind](copy).fit(given, y)
        predict = getattr(model, "decision_function", None) or model.transform
        found.append(predict(new))
        assert_array_equal(given, X)
        assert_array_equal(new, X + 0.1)
    assert_allclose(*found)


def test_scores_of_pairs_of_classes_are_checked_on_the_rows_themselves():
    X, y = rows(3)
    given = X.copy()
    teacher = scaled(False, OneVsRestClassifier(LinearSVC())).fit(X.copy(), y)
    model = DistillationClassifier(
        FrozenEstimator(teacher), LinearStudent(), mixing_weight=1.0
    ).fit(given, y)
    assert_array_equal(given, X)
    assert model.score(X, y) > 0.5


def test_teachers_of_many_labels_work_on_rows_of_their_own():
    X, Y, _ = make_retrieval(200, 50, 20, random_state=0)
    X = 7 * X.toarray()
    found = []
    for copy in (True, False):
        given = Labelled(X.copy(), Y, np.arange(20))
        teacher = scaled(copy, OneVsRestClassifier(LogisticRegression()))
        teachers = [teacher, FrozenEstimator(clone(teacher).fit(X.copy(), Y))]
        found.append(teacher_soft_labels(teachers, given, "in-sample", 5, 0))
        assert_array_equal(given.X, X)
    assert_array_equal(found[0].toarray(), found[1].toarray())


@pytest.mark.parametrize("form", [np.array, sp.csr_matrix, pd.DataFrame])
def test_only_who_works_in_place_gets_a_copy(form):
    X = form([[1.0, 2.0], [3.0, 4.0]])
    for estimator in (
        StandardScaler(),
        make_pipeline(LogisticRegression()),
        FrozenEstimator(StandardScaler()),
        object(),
    ):
        assert unshared(X, estimator) is X
    for estimator in (
        StandardScaler(copy=False),
        LinearRegression(copy_X=False),
        FrozenEstimator(scaled(False)),
        EstimatorStudent(scaled(False)),
        make_pipeline(FrozenEstimator(scaled(False)), LinearDiscriminantAnalysis()),
    ):
        copied = unshared(X, estimator)
        assert copied is not X
        assert type(copied) is type(X)
