import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal
from reference import bipartite as reference
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_score,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from stubs import LoggedTeacher, n_fits
from torch import nn

from skdistill import DistillationRanker
from skdistill._bipartite import PairRisk
from skdistill._ranking import break_even_threshold
from skdistill.datasets import draw_labels, make_gaussians
from skdistill.losses import bipartite_risk
from skdistill.students import (
    EstimatorStudent,
    LinearStudent,
    MLPStudent,
    ModuleStudent,
)
from skdistill.students._problem import Problem

EXACT = LinearStudent(C=3.0, tol=1e-9)
SURROGATES = ["logistic", "squared", "exponential"]
EMPHASES = [{}, {"push": 2.0}, {"top_share": 0.1}]


def ranker(**settings):
    return DistillationRanker(**{"teacher": GaussianNB(), "student": EXACT, **settings})


def network(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, 8), nn.Tanh(), nn.Linear(8, n_classes))


@pytest.fixture(scope="module")
def soft():
    return np.random.default_rng(0).dirichlet([1, 1], size=90)


@pytest.fixture(scope="module")
def rare():
    """Rows of which 3 % are positive."""
    X, _, _ = make_gaussians(3000, class_sep=1.0, random_state=0)
    odds = 3.0 * X[:, 0] - 5.5
    proba = 1 / (1 + np.exp(-odds))
    y = draw_labels(np.column_stack([1 - proba, proba]), random_state=0)
    assert 0.02 < y.mean() < 0.08
    return X, y


# -- what is minimised -------------------------------------------------------------


@pytest.mark.parametrize("emphasis", EMPHASES, ids=str)
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_the_fit_is_a_stationary_point_of_the_risk(
    surrogate, emphasis, two_classes, soft
):
    X, y = two_classes
    weight = np.random.default_rng(1).uniform(0.1, 2, 90)
    fitted = ranker(mixing_weight=0.7, surrogate=surrogate, **emphasis).fit(
        X, y, sample_weight=weight, soft_labels=soft
    )
    coef = fitted.student_.coef_[0]
    targets = 0.3 * y + 0.7 * soft[:, 1]

    # The penalty of LinearStudent, divided by C and by the sum of the weights. Pairs
    # of a row with itself only add constants, which the emphasis does see.
    def objective(w):
        value, _ = PairRisk(surrogate, **emphasis).value_and_slope(
            X @ w, weight * targets, weight * (1 - targets)
        )
        return value + w @ w / (2 * 3.0 * weight.sum())

    for direction in np.eye(4):
        ends = [objective(coef + step * direction) for step in (-1e-5, 1e-5)]
        assert abs(ends[1] - ends[0]) / 2e-5 < 2e-6
    assert fitted.student_.intercept_ == 0.0


def test_labels_alone_minimise_the_empirical_risk_and_need_no_teacher(
    two_classes, tmp_path
):
    X, y = two_classes
    log = tmp_path / "log"
    fitted = ranker(teacher=LoggedTeacher(log), mixing_weight=0.0).fit(X, y)
    assert n_fits(log) == 0
    coef = fitted.student_.coef_[0]

    def objective(w):
        risk = reference.risk(y, 1 - y, X @ w, "logistic")
        return risk + w @ w / (2 * 3.0 * 90)

    best = objective(coef)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert objective(coef + 0.05 * rng.normal(size=4)) > best


def test_soft_labels_of_zero_and_one_are_labels(two_classes):
    X, y = two_classes
    one_hot = np.eye(2)[y]
    labels = ranker(mixing_weight=0.0).fit(X, y)
    for mixing_weight in (0.3, 1.0):
        other = ranker(mixing_weight=mixing_weight).fit(X, y, soft_labels=one_hot)
        assert_allclose(other.student_.coef_, labels.student_.coef_, rtol=1e-10)


def test_the_teacher_s_probabilities_decide_and_not_the_labels(two_classes, soft):
    X, y = two_classes
    shuffled = np.random.default_rng(0).permutation(y)
    first, second = (
        ranker(mixing_weight=1.0).fit(X, labels, soft_labels=soft).student_.coef_
        for labels in (y, shuffled)
    )
    assert_array_equal(first, second)


def test_out_of_fold_soft_labels_are_those_of_the_teacher(two_classes):
    X, y = two_classes
    soft = np.empty((90, 2))
    for train, test in StratifiedKFold(3).split(X, y):
        soft[test] = GaussianNB().fit(X[train], y[train]).predict_proba(X[test])
    by_hand = ranker().fit(X, y, soft_labels=soft)
    fitted = ranker(cv=StratifiedKFold(3)).fit(X, y)
    assert_allclose(fitted.student_.coef_, by_hand.student_.coef_, rtol=1e-7)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_temperature_tempers_the_teacher(surrogate, two_classes, soft):
    X, y = two_classes
    settings = {"mixing_weight": 1.0, "surrogate": surrogate}
    root = np.sqrt(soft) / np.sqrt(soft).sum(axis=1, keepdims=True)
    first = ranker(temperature=2.0, **settings).fit(X, y, soft_labels=soft)
    second = ranker(**settings).fit(X, y, soft_labels=root)
    assert_allclose(first.student_.coef_, second.student_.coef_, atol=1e-6)
    assert first.temperature_ == 2.0


def test_unlabelled_rows_enter_with_the_mixing_weight(two_classes, soft):
    X, y = two_classes
    fitted = ranker(mixing_weight=0.4).fit(
        X[:60],
        y[:60],
        soft_labels=soft[:60],
        X_unlabeled=X[60:],
        soft_labels_unlabeled=soft[60:],
    )
    targets = np.concatenate([0.6 * np.eye(2)[y[:60]] + 0.4 * soft[:60], soft[60:]])
    weight = np.r_[np.ones(60), np.full(30, 0.4)]
    together = ranker(mixing_weight=1.0).fit(
        X, y, sample_weight=weight, soft_labels=targets
    )
    assert_allclose(fitted.student_.coef_, together.student_.coef_, rtol=1e-7)


@pytest.mark.parametrize(
    "student",
    [
        EXACT,
        MLPStudent(
            (4,),
            batch_size=None,
            max_iter=30,
            early_stopping=False,
            dtype="float64",
            random_state=0,
        ),
    ],
)
@pytest.mark.parametrize("emphasis", EMPHASES, ids=str)
def test_weights_are_repeated_rows(student, emphasis, two_classes, soft):
    X, y = two_classes
    weight = np.random.default_rng(0).integers(0, 4, 90)
    again = np.repeat(np.arange(90), weight)
    weighted = ranker(student=student, **emphasis).fit(
        X, y, sample_weight=weight, soft_labels=soft
    )
    repeated = ranker(student=student, **emphasis).fit(
        X[again], y[again], soft_labels=soft[again]
    )
    assert_allclose(
        weighted.decision_function(X), repeated.decision_function(X), rtol=1e-6
    )


def test_sparse_rows(two_classes, soft):
    X, y = two_classes
    dense = ranker().fit(X, y, soft_labels=soft)
    sparse = ranker(teacher=LogisticRegression()).fit(csr_array(X), y, soft_labels=soft)
    assert_allclose(sparse.student_.coef_, dense.student_.coef_, rtol=1e-6)
    assert_allclose(
        sparse.decision_function(csr_array(X)), dense.decision_function(X), atol=1e-6
    )


# -- students of the training loop ---------------------------------------------------


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize(
    "student",
    [
        MLPStudent((16,), max_iter=15, batch_size=64, random_state=0),
        ModuleStudent(
            network, max_iter=40, batch_size=64, learning_rate_init=0.01, random_state=0
        ),
        LinearStudent(),
        make_pipeline(StandardScaler(), LinearStudent()),
    ],
    ids=["mlp", "module", "linear", "pipeline"],
)
def test_students_learn_to_rank_rare_positives(student, surrogate, rare):
    X, y = rare
    fitted = ranker(student=student, surrogate=surrogate).fit(X[:2000], y[:2000])
    best = roc_auc_score(y[2000:], X[2000:, 0])
    assert fitted.score(X[2000:], y[2000:]) > best - 0.03


def test_a_full_batch_network_descends_on_the_risk(two_classes, soft):
    X, y = two_classes
    student = MLPStudent(
        (4,), batch_size=None, max_iter=80, early_stopping=False, random_state=0
    )
    fitted = ranker(student=student).fit(X, y, soft_labels=soft).student_
    assert len(fitted.loss_curve_) == 80
    assert (np.diff(fitted.loss_curve_) < 1e-4).all()
    targets = 0.5 * y + 0.5 * soft[:, 1]
    value, _ = PairRisk().value_and_slope(
        fitted.decision_function(X), targets, 1 - targets
    )
    assert_allclose(fitted.loss_curve_[-1], value, rtol=0.01)


@pytest.mark.parametrize("batch_size", [None, 256])
def test_the_validation_score_is_minus_the_risk_of_held_out_rows(batch_size, rare):
    X, y = rare
    student = MLPStudent(
        (8,), batch_size=batch_size, max_iter=3, early_stopping=True, random_state=0
    )
    fitted = ranker(student=student, mixing_weight=0.0).fit(X, y).student_
    rng = np.random.RandomState(0)
    rng.randint(2**31 - 1)
    problem = Problem(X, y, y, np.arange(2), np.ones(len(y)), (), PairRisk())
    (held_out,) = fitted._held_out_rows(problem, rng)
    assert y[held_out].any()
    scores = fitted.decision_function(X[held_out])
    value, _ = PairRisk().value_and_slope(scores, 1.0 * y[held_out], 1.0 - y[held_out])
    assert_allclose(fitted.best_validation_score_, -value, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("batch_size", [None, 128])
def test_cuda_and_cpu_rank_alike(batch_size, rare):
    X, y = rare
    scores = []
    for device in ("cuda", "cpu"):
        student = MLPStudent(
            (8,),
            batch_size=batch_size,
            max_iter=5,
            device=device,
            dtype="float64",
            random_state=0,
        )
        scores.append(ranker(student=student).fit(X, y).decision_function(X))
    assert_allclose(*scores, atol=1e-4)


def test_the_same_seed_gives_the_same_scores(rare):
    X, y = rare
    student = MLPStudent((8,), max_iter=3, random_state=0)
    first, second = (
        ranker(student=student).fit(X, y).decision_function(X) for _ in range(2)
    )
    assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("emphasis", "name"), [({"push": 4.0}, "push"), ({"top_share": 0.05}, "top_share")]
)
def test_an_emphasis_lowers_its_own_risk(emphasis, name, rare):
    X, y = rare
    # A misfit is needed: the best scores would be best for every emphasis.
    X = np.column_stack([X[:, 0] ** 3, np.abs(X[:, 1]) + X[:, 0], X[:, 2]])
    risks = {}
    for kind, settings in [("plain", {}), (name, emphasis)]:
        fitted = ranker(
            student=LinearStudent(C=np.inf, tol=1e-7), mixing_weight=0.0, **settings
        ).fit(X, y)
        risks[kind] = [
            bipartite_risk(y, fitted.student_.decision_function(X), **measured)
            for measured in ({}, emphasis)
        ]
    assert risks["plain"][0] < risks[name][0]
    assert risks[name][1] < risks["plain"][1]


# -- scores, threshold, classes ------------------------------------------------------


def test_the_score_is_the_area_under_the_curve(two_classes):
    X, y = two_classes
    weight = np.random.default_rng(0).uniform(size=90)
    fitted = ranker().fit(X, y)
    scores = fitted.decision_function(X)
    assert fitted.score(X, y) == roc_auc_score(y, scores)
    expected = roc_auc_score(y, scores, sample_weight=weight)
    assert fitted.score(X, y, sample_weight=weight) == expected


def test_as_many_rows_are_predicted_positive_as_are_expected(rare):
    X, y = rare
    fitted = ranker(mixing_weight=0.0).fit(X, y)
    assert fitted.predict(X).sum() == y.sum()
    names = np.array(["no", "yes"])[y]
    named = ranker(mixing_weight=0.0).fit(X, names)
    assert_array_equal(named.predict(X) == "yes", fitted.predict(X) == 1)
    assert_array_equal(named.classes_, ["no", "yes"])


def test_predictions_are_scores_above_zero(two_classes):
    X, y = two_classes
    fitted = ranker().fit(X, y)
    scores = fitted.decision_function(X)
    assert_array_equal(fitted.predict(X), scores > 0)
    assert_allclose(scores, fitted.student_.decision_function(X) - fitted.threshold_)


@pytest.mark.parametrize(
    ("scores", "positive", "weight", "expected"),
    [
        ([3.0, 1.0, 2.0], [1, 0, 0], None, 2.5),
        ([3.0, 1.0, 2.0], [1, 1, 0], None, 1.5),
        ([3.0, 1.0, 2.0], [1, 1, 1], None, 1.5),  # both classes are predicted
        ([3.0, 1.0, 2.0], [0.5, 0.5, 0.0], None, 2.5),
        ([2.0, 2.0, 1.0], [1, 0, 0], None, 1.5),  # ties stay together
        ([3.0, 2.0, 1.0], [1, 1, 0], [1, 0, 1], 2.0),
        ([3.0, 2.0, 1.0], [0, 1, 0], [2, 2, 2], 2.5),
        ([5.0, 5.0], [1, 0], None, 6.0),
        ([5.0, 5.0], [1, 0.5], None, 4.0),
    ],
)
def test_the_break_even_threshold(scores, positive, weight, expected):
    weight = None if weight is None else np.array(weight, dtype=float)
    found = break_even_threshold(np.array(scores), np.array(positive, float), weight)
    assert found == expected


def test_scores_that_differ_by_rounding_are_ties():
    scores = np.array([1.0, 1.0 + 1e-13, 0.0])
    assert break_even_threshold(scores, np.array([1.0, 0.0, 0.0])) == 0.5


# -- errors --------------------------------------------------------------------------


@pytest.mark.parametrize("column", [0, 1])
def test_soft_labels_that_are_all_sure_of_one_class_are_an_error(column, two_classes):
    X, y = two_classes
    sure = np.zeros((90, 2))
    sure[:, column] = 1.0
    with pytest.raises(ValueError, match="No pair of rows has a positive weight"):
        ranker(mixing_weight=1.0).fit(X, y, soft_labels=sure)
    # With labels mixed in there are pairs.
    assert ranker(mixing_weight=0.5).fit(X, y, soft_labels=sure).score(X, y) > 0.6


def test_labels_of_one_class_are_an_error(two_classes):
    X, _ = two_classes
    with pytest.raises(ValueError, match="contains only one class"):
        ranker().fit(X, np.ones(90))


def test_more_than_two_classes_are_an_error(three_classes):
    with pytest.raises(ValueError, match="OneVsRestClassifier"):
        ranker().fit(*three_classes)


@pytest.mark.parametrize(
    "student",
    [
        DecisionTreeClassifier(),
        Ridge(),
        EstimatorStudent(DecisionTreeClassifier()),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
)
def test_students_that_learn_row_by_row_are_an_error(student, two_classes):
    with pytest.raises(ValueError, match="cannot be trained on pairs"):
        ranker(student=student).fit(*two_classes)


def test_two_emphases_are_an_error(two_classes):
    with pytest.raises(ValueError, match="cannot be combined"):
        ranker(push=2.0, top_share=0.1).fit(*two_classes)


def test_a_failed_fit_leaves_the_earlier_one(two_classes, soft):
    X, y = two_classes
    fitted = ranker().fit(X, y)
    before = fitted.decision_function(X)
    with pytest.raises(ValueError, match="soft_labels"):
        fitted.fit(X, y, soft_labels=soft[:10])
    assert_array_equal(fitted.decision_function(X), before)


# -- with scikit-learn ---------------------------------------------------------------


def test_a_search_by_auc(two_classes, tmp_path):
    X, y = two_classes
    log = tmp_path / "log"
    search = GridSearchCV(
        make_pipeline(
            StandardScaler(),
            ranker(teacher=LoggedTeacher(log), cv=2, memory=str(tmp_path / "cache")),
        ),
        {
            "distillationranker__mixing_weight": [0.0, 0.5, 1.0],
            "distillationranker__student__C": [0.1, 1.0],
            "distillationranker__surrogate": ["logistic", "squared"],
        },
        scoring="roc_auc",
        cv=3,
    ).fit(X, y)
    assert search.best_score_ > 0.7
    assert search.score(X, y) == roc_auc_score(y, search.decision_function(X))
    # Two folds of the teacher in each of the three folds and at the end, if at all.
    assert n_fits(log) <= 8


def test_other_scorers(two_classes):
    X, y = two_classes
    partial = make_scorer(
        roc_auc_score, response_method="decision_function", max_fpr=0.2
    )
    for scoring in ("average_precision", partial):
        assert cross_val_score(ranker(), X, y, scoring=scoring, cv=3).mean() > 0.5


def test_one_against_the_rest(three_classes):
    X, y = three_classes
    wrapped = OneVsRestClassifier(ranker(mixing_weight=0.5)).fit(X, y)
    assert wrapped.decision_function(X).shape == (120, 3)
    assert wrapped.score(X, y) > 0.5
    assert roc_auc_score(np.eye(3)[y], wrapped.decision_function(X)) > 0.75


def test_another_threshold_is_tuned_around_it(two_classes):
    X, y = two_classes
    tuned = TunedThresholdClassifierCV(ranker(), scoring="balanced_accuracy", cv=3)
    assert tuned.fit(X, y).score(X, y) > 0.6


def test_pickles_and_clones(two_classes):
    X, y = two_classes
    fitted = ranker(student=MLPStudent((4,), max_iter=3, random_state=0)).fit(X, y)
    loaded = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(loaded.decision_function(X), fitted.decision_function(X))
    again = clone(fitted).fit(X, y)
    assert_array_equal(again.decision_function(X), fitted.decision_function(X))


def test_frames_with_categories_reach_the_teacher_as_they_are(two_classes):
    X, y = two_classes
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["e"] = np.where(X[:, 0] > 0, "high", "low")
    teacher = make_pipeline(OneHotEncoder(handle_unknown="ignore"), GaussianNB())
    teacher[0].set_params(sparse_output=False)
    student = make_pipeline(
        OneHotEncoder(handle_unknown="ignore"), LinearStudent(C=0.1)
    )
    fitted = ranker(teacher=teacher, student=student).fit(frame, y)
    assert list(fitted.feature_names_in_) == list("abcde")
    assert fitted.score(frame, y) > 0.8


def test_a_frozen_teacher_is_kept_if_asked(two_classes):
    X, y = two_classes
    frozen = FrozenEstimator(GaussianNB().fit(X, y))
    fitted = ranker(teacher=frozen, keep_teacher=True).fit(X, y)
    assert_array_equal(fitted.teacher_.predict(X), frozen.predict(X))
    assert not hasattr(ranker().fit(X, y), "teacher_")


def test_weights_are_routed_to_the_teacher_that_asks(two_classes):
    X, y = two_classes
    weight = np.random.default_rng(0).uniform(0.1, 3, 90)
    with sklearn.config_context(enable_metadata_routing=True):
        asking, silent = (
            ranker(teacher=GaussianNB().set_fit_request(sample_weight=asks), cv=3)
            .fit(X, y, sample_weight=weight)
            .student_.coef_
            for asks in (True, False)
        )
    assert np.abs(asking - silent).max() > 1e-6


@pytest.mark.parametrize("mixing_weight", [0.0, 0.5])
def test_the_iterations_of_the_student_are_logged(mixing_weight, two_classes):
    X, y = two_classes
    student = MLPStudent((4,), max_iter=4, early_stopping=False, random_state=0)
    monitor = ScoringMonitor(scoring="roc_auc")
    student.set_callbacks(monitor)
    fitted = ranker(student=student, mixing_weight=mixing_weight).fit(X, y)
    log = monitor.get_logs()
    assert log.estimator_name == "DistillationRanker"
    epochs = [row["roc_auc"] for row in log.data if row["task_name"] == "epoch"]
    assert len(epochs) == 4
    assert_allclose(epochs[-1], fitted.score(X, y), rtol=1e-6)


def test_the_logits_of_a_pipeline_keep_the_order_of_extreme_scores():
    X = np.linspace(-1, 1, 50)[:, None]
    y = (X[:, 0] > 0).astype(int)
    student = EstimatorStudent(
        make_pipeline(StandardScaler(), LinearStudent(C=np.inf, max_iter=20))
    )
    fitted = DistillationRanker(student=student, mixing_weight=0.0).fit(X, y)
    far = fitted.decision_function(1e3 * X)
    # Log-odds of probabilities would be limited to 745 on either side.
    assert np.ptp(far) > 1e4
    assert (np.diff(far) > 0).all()
