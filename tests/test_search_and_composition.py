"""Grid search, pipelines, metadata routing and meta-estimators around the package."""

import numpy as np
import pytest
import sklearn
from joblib import parallel_backend
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, log_loss
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import get_tags

from skdistill import DistillationClassifier, SoftLabelTransformer
from skdistill.students import LinearStudent, MLPStudent


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(params=[False, True], ids=["no routing", "routing"])
def routed(request):
    with sklearn.config_context(enable_metadata_routing=request.param):
        yield request.param


@pytest.fixture
def distilled():
    return DistillationClassifier(
        GaussianNB(), LinearStudent(), cv=2, mixing_weight=0.5
    )


FOLDS = StratifiedKFold(3)


def scores_by_hand(candidates, X, y, **aligned):
    """Negative log-loss of each candidate (rows) on each fold (columns)."""
    scores = []
    for candidate in candidates:
        row = []
        for train, test in FOLDS.split(X, y):
            params = {name: value[train] for name, value in aligned.items()}
            fitted = clone(candidate).fit(X[train], y[train], **params)
            row.append(-log_loss(y[test], fitted.predict_proba(X[test])))
        scores.append(row)
    return np.array(scores)


def scores_of(search):
    columns = [search.cv_results_[f"split{i}_test_score"] for i in range(3)]
    return np.column_stack(columns)


def search_over(estimator, grid, kind=GridSearchCV, **settings):
    settings = {"cv": FOLDS, "scoring": "neg_log_loss", "error_score": "raise"} | (
        settings
    )
    return kind(estimator, grid, **settings)


# -- searches ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", [0.5, 3.0]),
        ("temperature", ["auto", 1.0]),
        ("mixing_weight", [0.0, 0.5, 1.0]),
        ("student_temperature", [1.0, 2.0]),
        ("student__C", [0.01, 10.0]),
        ("teacher__var_smoothing", [1e-9, 1.0]),
        ("student", [LinearStudent(C=0.1), DecisionTreeClassifier(max_depth=2)]),
        ("teacher", [LogisticRegression(), GaussianNB()]),
        ("cv", [2, "in-sample"]),
    ],
)
def test_each_parameter_can_be_searched(name, values, routed, distilled, three_classes):
    X, y = three_classes
    candidates = [clone(distilled).set_params(**{name: value}) for value in values]
    for candidate in candidates:
        if isinstance(candidate.student, DecisionTreeClassifier):
            candidate.student.random_state = 0
    if name == "student":
        values = [candidate.student for candidate in candidates]
    searched = search_over(distilled, {name: values}).fit(X, y)
    expected = scores_by_hand(candidates, X, y)
    assert_allclose(scores_of(searched), expected, rtol=1e-12)
    assert np.ptp(expected.mean(axis=1)) > 0
    best = candidates[int(expected.mean(axis=1).argmax())].fit(X, y)
    assert_array_equal(searched.predict_proba(X), best.predict_proba(X))


def test_random_search_in_a_pipeline(routed, distilled, three_classes):
    X, y = three_classes
    pipeline = make_pipeline(StandardScaler(), distilled)
    grid = {
        "distillationclassifier__temperature": [0.5, 2.0],
        "distillationclassifier__student__C": [0.01, 1.0],
        "distillationclassifier__teacher__var_smoothing": [1e-9, 0.5],
    }
    searched = search_over(
        pipeline, grid, RandomizedSearchCV, n_iter=3, random_state=0
    ).fit(X, y)
    candidates = [
        clone(pipeline).set_params(**params)
        for params in searched.cv_results_["params"]
    ]
    assert_allclose(scores_of(searched), scores_by_hand(candidates, X, y), rtol=1e-12)


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_soft_labels_are_sliced_fold_by_fold(
    in_pipeline, routed, distilled, three_classes, soft_labels
):
    """The soft labels are random, so that rows out of line would change the scores."""
    X, y = three_classes
    distilled.set_params(mixing_weight=1.0)
    prefix = ""
    name = "soft_labels"
    if routed:
        distilled.set_fit_request(soft_labels=True)
    estimator = distilled
    if in_pipeline:
        estimator = make_pipeline(StandardScaler(), distilled)
        prefix = "distillationclassifier__"
        name = name if routed else prefix + name
    grid = {f"{prefix}temperature": [0.5, 2.0]}
    searched = search_over(estimator, grid).fit(X, y, **{name: soft_labels})
    candidates = [
        clone(estimator).set_params(**params)
        for params in searched.cv_results_["params"]
    ]
    expected = scores_by_hand(candidates, X, y, **{name: soft_labels})
    assert_allclose(scores_of(searched), expected, rtol=1e-12)
    assert_array_equal(
        searched.predict_proba(X),
        clone(searched.best_estimator_)
        .fit(X, y, **{name: soft_labels})
        .predict_proba(X),
    )


def test_sample_weights_and_a_pool_in_a_search(routed, distilled, three_classes):
    X, y = three_classes
    X, pool, y = X[:100], X[100:], y[:100]
    weight = np.random.default_rng(0).uniform(0.1, 2, len(y))
    scorer = get_scorer("neg_log_loss")
    if routed:
        distilled.set_fit_request(sample_weight=True, X_unlabeled=True)
        distilled.teacher.set_fit_request(sample_weight=True)
        scorer.set_score_request(sample_weight=True)
    searched = search_over(distilled, {"temperature": [0.5, 2.0]}, scoring=scorer)
    searched.fit(X, y, sample_weight=weight, X_unlabeled=pool)
    expected = np.empty((2, 3))
    for i, temperature in enumerate((0.5, 2.0)):
        for j, (train, test) in enumerate(FOLDS.split(X, y)):
            fitted = clone(distilled).set_params(temperature=temperature)
            fitted.fit(
                X[train], y[train], sample_weight=weight[train], X_unlabeled=pool
            )
            expected[i, j] = -log_loss(
                y[test], fitted.predict_proba(X[test]), sample_weight=weight[test]
            )
    assert_allclose(scores_of(searched), expected, rtol=1e-12)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_two_jobs_give_the_scores_of_one(backend, three_classes):
    X, y = three_classes
    distilled = DistillationClassifier(
        DecisionTreeClassifier(max_depth=3, random_state=0),
        MLPStudent((4,), max_iter=5, random_state=0),
        cv=2,
        mixing_weight=0.5,
    )
    grid = {
        "mixing_weight": [0.5, 1.0],
        "student": [distilled.student, LinearStudent()],
    }
    alone = search_over(distilled, grid).fit(X, y)
    with parallel_backend(backend, n_jobs=2):
        together = search_over(distilled, grid, n_jobs=2).fit(X, y)
    assert_array_equal(scores_of(together), scores_of(alone))
    assert_array_equal(together.predict_proba(X), alone.predict_proba(X))


def test_halving_search(distilled, three_classes, soft_labels):
    X, y = three_classes
    searched = search_over(
        distilled,
        {"temperature": [0.2, 1.0, 5.0], "mixing_weight": [0.5, 1.0]},
        HalvingGridSearchCV,
        random_state=0,
    ).fit(X, y, soft_labels=soft_labels)
    assert searched.n_iterations_ > 1
    best = clone(distilled).set_params(**searched.best_params_)
    assert_array_equal(
        searched.predict_proba(X),
        best.fit(X, y, soft_labels=soft_labels).predict_proba(X),
    )


def test_cross_validation_of_soft_labels(distilled, three_classes, soft_labels):
    X, y = three_classes
    proba = cross_val_predict(
        distilled,
        X,
        y,
        cv=FOLDS,
        method="predict_proba",
        params={"soft_labels": soft_labels},
    )
    for train, test in FOLDS.split(X, y):
        fitted = clone(distilled).fit(
            X[train], y[train], soft_labels=soft_labels[train]
        )
        assert_array_equal(proba[test], fitted.predict_proba(X[test]))
    scores = cross_validate(
        distilled,
        X,
        y,
        cv=FOLDS,
        scoring="neg_log_loss",
        params={"soft_labels": soft_labels},
    )["test_score"]
    expected = scores_by_hand([distilled], X, y, soft_labels=soft_labels)[0]
    assert_allclose(scores, expected, rtol=1e-12)


# -- parameters --------------------------------------------------------------------


def test_parameters_of_both_sides_are_reached_by_name(distilled):
    names = distilled.get_params()
    assert {"teacher__var_smoothing", "student__C", "student__tol"} <= set(names)
    copy = clone(distilled).set_params(student__C=7.0, teacher__var_smoothing=0.5)
    assert copy.student.C == 7.0
    assert copy.teacher.var_smoothing == 0.5
    assert distilled.student.C == 1.0
    with pytest.raises(ValueError, match="Invalid parameter 'alpha'"):
        distilled.set_params(alpha=0.5)


def test_a_clone_is_unfitted_and_fits_alike(distilled, three_classes):
    X, y = three_classes
    distilled.set_params(temperature=2.0, keep_teacher=True).fit(X, y)
    copy = clone(distilled)
    assert not hasattr(copy, "student_")
    assert repr(copy) == repr(distilled)
    assert_array_equal(copy.fit(X, y).predict_proba(X), distilled.predict_proba(X))


def test_tags_are_those_that_teacher_and_student_share():
    sparse = DistillationClassifier(
        LogisticRegression(), LinearStudent(), mixing_weight=0.5
    )
    assert get_tags(sparse).input_tags.sparse
    dense = DistillationClassifier(GaussianNB(), LinearStudent(), mixing_weight=0.5)
    assert not get_tags(dense).input_tags.sparse
    assert get_tags(dense).estimator_type == "classifier"
    assert get_tags(SoftLabelTransformer(LogisticRegression())).input_tags.sparse


# -- metadata routing --------------------------------------------------------------


def test_weights_are_routed_to_the_teacher_that_asks(routing, three_classes):
    X, y = three_classes
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    given = {}
    for asks in (True, False):
        teacher = GaussianNB().set_fit_request(sample_weight=asks)
        soft = np.empty((len(y), 3))
        for train, test in FOLDS.split(X, y):
            params = {"sample_weight": weight[train]} if asks else {}
            fitted = GaussianNB().fit(X[train], y[train], **params)
            soft[test] = fitted.predict_proba(X[test])
        distilled = DistillationClassifier(
            teacher, LinearStudent(), cv=3, mixing_weight=0.5
        )
        given[asks] = distilled.fit(X, y, sample_weight=weight).predict_proba(X)
        by_hand = DistillationClassifier(
            student=LinearStudent(), mixing_weight=0.5
        ).fit(X, y, sample_weight=weight, soft_labels=soft)
        assert_allclose(given[asks], by_hand.predict_proba(X), rtol=1e-8)
    assert np.abs(given[True] - given[False]).max() > 1e-4


def test_a_teacher_must_say_whether_it_wants_weights(routing, distilled, three_classes):
    X, y = three_classes
    with pytest.raises(
        sklearn.exceptions.UnsetMetadataPassedError, match=r"sample_weight.*GaussianNB"
    ):
        distilled.fit(X, y, sample_weight=np.ones(len(y)))


@pytest.mark.parametrize("teacher", [None, [GaussianNB(), LogisticRegression()]])
def test_our_own_teachers_want_weights(teacher, routing, three_classes):
    X, y = three_classes
    if teacher is not None:
        teacher = [member.set_fit_request(sample_weight=True) for member in teacher]
    weight = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    distilled = DistillationClassifier(
        teacher,
        LinearStudent(),
        cv="in-sample",
        random_state=0,
        keep_teacher=True,
        mixing_weight=0.5,
    ).fit(X, y, sample_weight=weight)
    unweighted = clone(distilled).fit(X, y)
    difference = distilled.teacher_.predict_proba(X) - (
        unweighted.teacher_.predict_proba(X)
    )
    assert np.abs(difference).max() > 1e-6


def test_weights_are_routed_through_a_pipeline_teacher(routing, three_classes):
    X, y = three_classes
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    teacher = make_pipeline(
        StandardScaler().set_fit_request(sample_weight=False),
        GaussianNB().set_fit_request(sample_weight=True),
    )
    distilled = DistillationClassifier(
        teacher, LinearStudent(), cv=3, keep_teacher=True, mixing_weight=0.5
    ).fit(X, y, sample_weight=weight)
    expected = clone(teacher).fit(X, y, sample_weight=weight).predict_proba(X)
    assert_allclose(distilled.teacher_.predict_proba(X), expected, rtol=1e-9)
    soft = SoftLabelTransformer(teacher, cv=3)
    out_of_fold = soft.fit_transform(X, y, sample_weight=weight)
    for train, test in FOLDS.split(X, y):
        fitted = clone(teacher).fit(X[train], y[train], sample_weight=weight[train])
        assert_allclose(out_of_fold[test], fitted.predict_proba(X[test]), rtol=1e-9)


def test_groups_are_routed_to_the_splitter(routing, three_classes):
    X, y = three_classes
    groups = np.random.default_rng(0).integers(8, size=len(y))
    expected = np.empty((len(y), 3))
    for train, test in GroupKFold(4).split(X, y, groups):
        expected[test] = GaussianNB().fit(X[train], y[train]).predict_proba(X[test])
    soft = SoftLabelTransformer(GaussianNB(), cv=GroupKFold(4))
    assert_allclose(soft.fit_transform(X, y, groups=groups), expected, rtol=1e-9)
    distilled = DistillationClassifier(
        GaussianNB(), LinearStudent(), cv=GroupKFold(4), mixing_weight=1.0
    )
    by_hand = clone(distilled).fit(X, y, soft_labels=expected)
    distilled.fit(X, y, groups=groups)
    assert_allclose(distilled.predict_proba(X), by_hand.predict_proba(X), rtol=1e-8)


def test_groups_of_rows_of_weight_zero_are_left_out(routing, three_classes):
    X, y = three_classes
    groups = np.random.default_rng(0).integers(8, size=len(y))
    weight = np.ones(len(y))
    weight[::3] = 0
    kept = weight > 0
    teacher = GaussianNB().set_fit_request(sample_weight=False)
    distilled = DistillationClassifier(
        teacher, LinearStudent(), cv=GroupKFold(4), mixing_weight=0.5
    )
    weighted = clone(distilled).fit(X, y, sample_weight=weight, groups=groups)
    absent = clone(distilled).fit(X[kept], y[kept], groups=groups[kept])
    assert_allclose(weighted.predict_proba(X), absent.predict_proba(X), rtol=1e-8)


def test_groups_are_routed_through_a_search(routing, three_classes):
    X, y = three_classes
    groups = np.random.default_rng(0).integers(9, size=len(y))
    distilled = DistillationClassifier(
        GaussianNB(), LinearStudent(), cv=GroupKFold(2), mixing_weight=0.5
    )
    searched = search_over(
        distilled, {"temperature": [0.5, 2.0]}, cv=GroupKFold(3)
    ).fit(X, y, groups=groups)
    for i, params in enumerate(searched.cv_results_["params"]):
        for j, (train, test) in enumerate(GroupKFold(3).split(X, y, groups)):
            fitted = clone(distilled).set_params(**params)
            fitted.fit(X[train], y[train], groups=groups[train])
            score = -log_loss(y[test], fitted.predict_proba(X[test]))
            assert_allclose(scores_of(searched)[i, j], score, rtol=1e-9)


def test_arguments_that_nobody_asks_for_are_refused(distilled, three_classes):
    X, y = three_classes
    groups = np.zeros(len(y))
    with pytest.raises(ValueError, match="enable_metadata_routing=True"):
        distilled.fit(X, y, groups=groups)
    with (
        sklearn.config_context(enable_metadata_routing=True),
        pytest.raises(TypeError, match=r"unexpected argument.*groups"),
    ):
        distilled.fit(X, y, groups=groups)


# -- meta-estimators ---------------------------------------------------------------


def test_around_it_calibration(distilled, three_classes):
    X, y = three_classes
    calibrated = CalibratedClassifierCV(distilled, method="sigmoid", cv=FOLDS).fit(X, y)
    inner = [fitted.estimator for fitted in calibrated.calibrated_classifiers_]
    for fitted, (train, _) in zip(inner, FOLDS.split(X, y), strict=True):
        expected = clone(distilled).fit(X[train], y[train])
        assert_array_equal(fitted.predict_proba(X), expected.predict_proba(X))
    assert calibrated.score(X, y) > 0.6


def test_around_it_voting(distilled, three_classes):
    X, y = three_classes
    members = [("a", distilled), ("b", LogisticRegression())]
    voting = VotingClassifier(members, voting="soft").fit(X, y)
    expected = (
        clone(distilled).fit(X, y).predict_proba(X)
        + LogisticRegression().fit(X, y).predict_proba(X)
    ) / 2
    assert_allclose(voting.predict_proba(X), expected, rtol=1e-12)


def test_around_it_stacking(distilled, three_classes):
    X, y = three_classes
    members = [("a", distilled), ("b", GaussianNB())]
    stacking = StackingClassifier(members, LogisticRegression(), cv=FOLDS).fit(X, y)
    features = [
        cross_val_predict(member, X, y, cv=FOLDS, method="predict_proba")
        for _, member in members
    ]
    expected = LogisticRegression().fit(np.hstack(features), y)
    assert_allclose(stacking.final_estimator_.coef_, expected.coef_, rtol=1e-9)
    assert stacking.score(X, y) > 0.6


def test_around_it_one_against_the_rest(distilled, three_classes):
    X, y = three_classes
    rest = OneVsRestClassifier(distilled).fit(X, y)
    for k, fitted in enumerate(rest.estimators_):
        expected = clone(distilled).fit(X, (y == k).astype(int))
        assert_array_equal(fitted.predict_proba(X), expected.predict_proba(X))


def test_it_can_teach(distilled, three_classes):
    X, y = three_classes
    chain = DistillationClassifier(
        distilled, LinearStudent(), cv=3, mixing_weight=0.5
    ).fit(X, y)
    soft = cross_val_predict(distilled, X, y, cv=3, method="predict_proba")
    expected = clone(chain).fit(X, y, soft_labels=soft)
    assert_allclose(chain.predict_proba(X), expected.predict_proba(X), rtol=1e-9)


def test_searches_as_teacher(three_classes):
    X, y = three_classes
    teacher = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 0.5]}, cv=2)
    distilled = DistillationClassifier(
        teacher, LinearStudent(), cv=3, mixing_weight=0.5
    ).fit(X, y)
    soft = cross_val_predict(teacher, X, y, cv=3, method="predict_proba")
    expected = clone(distilled).fit(X, y, soft_labels=soft)
    assert_allclose(distilled.predict_proba(X), expected.predict_proba(X), rtol=1e-9)


def test_a_search_over_text_pipelines(texts):
    X, y = texts
    distilled = DistillationClassifier(
        make_pipeline(TfidfVectorizer(), LogisticRegression()),
        Pipeline([("tfidf", TfidfVectorizer()), ("linear", LinearStudent())]),
        cv=2,
        mixing_weight=0.5,
    )
    grid = {
        "student__linear__C": [1e-3, 10.0],
        "teacher__tfidfvectorizer__lowercase": [True, False],
    }
    searched = search_over(distilled, grid).fit(X, y)
    assert searched.best_params_["student__linear__C"] == 10.0
    assert searched.best_estimator_.score(X, y) > 0.8


def test_a_student_may_want_the_rows_it_gets(three_classes, soft_labels):
    """A student of the user's: rows once per class, weighted by its probability."""
    seen = {}

    class Student(ClassifierMixin, BaseEstimator):
        def fit(self, X, y, sample_weight=None):
            seen.update(X=X, y=y, sample_weight=sample_weight)
            self.classes_ = np.unique(y)
            return self

        def predict_proba(self, X):
            return np.full((len(X), 3), 1 / 3)

    X, y = three_classes
    weight = np.linspace(1, 2, len(y))
    DistillationClassifier(student=Student(), mixing_weight=1.0).fit(
        X, y, sample_weight=weight, soft_labels=soft_labels
    )
    assert_array_equal(seen["X"], np.repeat(X, 3, axis=0))
    assert_array_equal(seen["y"], np.tile([0, 1, 2], len(y)))
    assert_allclose(seen["sample_weight"], (weight[:, None] * soft_labels).ravel())
