"""Scores of ranked labels: by hand, by loops, and against napkinXC."""

import pickle
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from reference import retrieval as reference
from sklearn.datasets import make_multilabel_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ndcg_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier

from skdistill import DistillationRetriever
from skdistill.metrics import (
    coverage_at_k,
    inverse_propensities,
    ndcg_at_k,
    precision_at_k,
    psndcg_at_k,
    psp_at_k,
    rank_labels,
    recall_at_k,
    retrieval_scorer,
)

few = settings(max_examples=40, deadline=None)
METRICS = [precision_at_k, recall_at_k, ndcg_at_k, coverage_at_k, psp_at_k, psndcg_at_k]


def call(metric, y, scores, **options):
    """Call a metric, with propensities where it needs them."""
    if metric in (psp_at_k, psndcg_at_k):
        return metric(y, scores, 1.0 + np.arange(y.shape[1]), **options)
    return metric(y, scores, **options)


@pytest.fixture
def napkin():
    """Labels and scores with a row without labels and one without scores."""
    rng = np.random.RandomState(0)
    y = (rng.rand(40, 30) < 0.12).astype(float)
    y[3] = 0
    y_train = (rng.rand(200, 30) < np.linspace(0.01, 0.4, 30)).astype(float)
    scores = rng.rand(40, 30)
    scores[scores < 0.3] = 0
    scores[5] = 0
    return sp.csr_array(y), sp.csr_array(scores), y_train


# Computed with napkinxc 0.7.2: metrics.precision_at_k(Y, S)[[0, 2, 4]] and so on, the
# propensity-scored with metrics.Jain_et_al_inverse_propensity(Y_train).
NAPKINXC = {
    (precision_at_k, None): [0.1, 0.108333333333, 0.09],
    (recall_at_k, None): [0.0229166666667, 0.0890277777778, 0.127420634921],
    (ndcg_at_k, None): [0.1, 0.115275012121, 0.120997036528],
    (coverage_at_k, None): [0.133333333333, 0.4, 0.466666666667],
    (psp_at_k, True): [0.0646438978434, 0.12658990828, 0.136650463],
    (psp_at_k, False): [0.1953538888, 0.255917086854, 0.212248897696],
    (psndcg_at_k, True): [0.0646438978434, 0.109863982701, 0.125265046226],
    (psndcg_at_k, False): [0.1953538888, 0.268542617355, 0.287888108689],
}


@pytest.mark.parametrize(
    ("metric", "normalize"), NAPKINXC, ids=lambda value: getattr(value, "__name__", "")
)
def test_scores_equal_those_of_napkinxc(napkin, metric, normalize):
    y, scores, y_train = napkin
    arguments = [y, scores]
    options = {}
    if normalize is not None:
        arguments.append(inverse_propensities(y_train))
        options["normalize"] = normalize
    found = [metric(*arguments, k=k, **options) for k in (1, 3, 5)]
    assert_allclose(found, NAPKINXC[metric, normalize], rtol=1e-10)


def test_inverse_propensities_equal_those_of_napkinxc(napkin):
    _, _, y_train = napkin
    expected = {
        "default": [4.110989896736, 2.014763834776, 1.628225862951],
        "amazon": [4.297366055091, 2.086951034401, 1.651262710668],
        "wikipedia": [3.758182748765, 1.880013354842, 1.563702932214],
    }
    for preset, values in expected.items():
        found = inverse_propensities(sp.csr_array(y_train), preset=preset)
        assert_allclose(found[[0, 10, 29]], values, rtol=1e-10)
    amazon = inverse_propensities(y_train, A=0.6, B=2.6)
    assert_allclose(amazon[[0, 10, 29]], expected["amazon"], rtol=1e-10)


def test_scores_by_hand():
    y = np.array([[1, 0, 1, 0], [0, 1, 0, 0]])
    ranking = np.array([[0, 1, 2], [0, 1, 3]])
    value = np.array([2.0, 4.0, 8.0, 1.0])
    log3 = np.log2(3)
    assert precision_at_k(y, ranking, k=1) == 0.5
    assert_allclose(precision_at_k(y, ranking, k=3), (2 + 1) / 6)
    assert_allclose(recall_at_k(y, ranking, k=1), 0.25)
    assert_allclose(recall_at_k(y, ranking, k=3), 1.0)
    assert_allclose(ndcg_at_k(y, ranking, k=2), (1 / (1 + 1 / log3) + 1 / log3) / 2)
    assert_allclose(coverage_at_k(y, ranking, k=1), 1 / 3)
    assert_allclose(psp_at_k(y, ranking, value, k=1), 2 / (8 + 4))
    assert_allclose(psp_at_k(y, ranking, value, k=2, normalize=False), (2 + 4) / 4)
    ideal = 1 + 1 / log3
    best = (8 + 2 / log3) / ideal + 4
    gain = 2 / ideal + 4 / log3
    assert_allclose(psndcg_at_k(y, ranking, value, k=2), gain / best)


@st.composite
def rankings(draw):
    shape = draw(st.tuples(st.integers(2, 5), st.integers(2, 6)))
    y = draw(arrays(np.int64, shape, elements=st.integers(0, 1)))
    scores = draw(
        arrays(np.float64, shape, elements=st.sampled_from([0.25, 0.5, 1, 2]))
    )
    stored = draw(arrays(np.bool_, shape))
    return y, scores, stored, draw(st.integers(1, 7))


@few
@given(rankings(), st.booleans())
def test_scores_equal_the_loops(problem, dense):
    y, scores, stored, k = problem
    y[0, 0] = 1
    y_score = scores if dense else sp.csr_array(np.where(stored, scores, 0.0))
    stored = [None] * len(y) if dense else stored
    lists = [reference.ranked(s, k, m) for s, m in zip(scores, stored, strict=True)]
    value = 1.0 + np.arange(y.shape[1])
    pairs = list(zip(y, lists, strict=True))
    assert_allclose(
        precision_at_k(y, y_score, k=k),
        np.mean([reference.precision_row(*pair, k) for pair in pairs]),
    )
    assert_allclose(
        recall_at_k(y, y_score, k=k),
        np.mean([reference.recall_row(*pair) for pair in pairs]),
    )
    assert_allclose(
        ndcg_at_k(y, y_score, k=k),
        np.mean([reference.ndcg_row(*pair, k) for pair in pairs]),
    )
    assert_allclose(coverage_at_k(y, y_score, k=k), reference.coverage(y, lists))
    best = [reference.best_labels(row, value, k) for row in y]
    gain = [value[[j for j in found if row[j]]].sum() for row, found in pairs]
    most = [value[found].sum() for found in best]
    assert_allclose(psp_at_k(y, y_score, value, k=k), np.sum(gain) / np.sum(most))
    ideal = [reference.ideal_gain(row, k) or 1.0 for row in y]
    gain = [reference.gain(*pair, value) for pair in pairs]
    most = [
        reference.gain(row, found, value) for row, found in zip(y, best, strict=True)
    ]
    expected = np.divide(gain, ideal).sum() / np.divide(most, ideal).sum()
    assert_allclose(psndcg_at_k(y, y_score, value, k=k), expected)


@few
@given(rankings())
def test_forms_of_a_ranking_give_the_same(problem):
    y, scores, _, k = problem
    k = min(k, y.shape[1])
    y[0, 0] = 1
    forms = [scores, sp.csr_array(scores), rank_labels(scores, k)]
    for metric in METRICS:
        found = [call(metric, y, form, k=k) for form in forms]
        found.append(call(metric, sp.csr_array(y), scores, k=k))
        assert_allclose(found, found[0], rtol=1e-14)


def test_ndcg_equals_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    y, scores = rng.integers(0, 2, (50, 8)), rng.random((50, 8))
    y[4] = 0
    for k in (1, 3, 8):
        assert_allclose(ndcg_at_k(y, scores, k=k), ndcg_score(y, scores, k=k))


def test_perfect_rankings_score_one_and_hopeless_ones_zero():
    y = np.array([[1, 1, 0, 0], [1, 1, 0, 0]])
    for metric in METRICS:
        best, worst = (y * (1.0 + np.arange(4)), 1.0 - y)
        assert_allclose(call(metric, y, best, k=2), 1.0)
        assert call(metric, y, worst, k=2) == 0.0


def test_weights_are_repeated_rows():
    rng = np.random.default_rng(0)
    y, scores = rng.integers(0, 2, (6, 5)), rng.random((6, 5))
    weight = np.array([0, 1, 2, 1, 3, 1])
    rows = np.repeat(np.arange(6), weight)
    for metric in METRICS:
        if metric is not coverage_at_k:
            weighted = call(metric, y, scores, k=2, sample_weight=weight)
            assert_allclose(weighted, call(metric, y[rows], scores[rows], k=2))


def test_unsorted_and_repeated_entries_are_understood():
    tidy = sp.csr_array(np.array([[0.0, 2.0, 1.0], [0.0, 0.0, 3.0]]))
    untidy = sp.csr_array(
        ([1.0, 0.0, 1.0, 1.0, 3.0], [2, 0, 1, 1, 2], [0, 4, 5]), shape=(2, 3)
    )
    scores = np.array([[0.3, 0.2, 0.1], [0.1, 0.2, 0.3]])
    scored = sp.csr_array(([0.0, 2.0, 1.0, 3.0], [0, 1, 2, 2], [0, 3, 4]), shape=(2, 3))
    for metric in METRICS:
        assert call(metric, untidy, scores, k=2) == call(metric, tidy, scores, k=2)
        assert call(metric, tidy, untidy, k=2) == call(metric, tidy, scored, k=2)
    assert untidy.nnz == 5  # the caller's


def test_a_ranking_may_hold_none_several_times():
    y = np.array([[1, 0, 1]])
    assert recall_at_k(y, [[2, -1, -1]], k=3) == 0.5
    assert psp_at_k(y, [[2, -1, -1]], np.ones(3), k=3) == 0.5


def test_no_labels_anywhere():
    y, scores = np.zeros((2, 3)), np.ones((2, 3))
    for metric in (precision_at_k, recall_at_k, ndcg_at_k):
        assert metric(y, scores, k=2) == 0.0
    for metric in (coverage_at_k, psp_at_k, psndcg_at_k):
        assert np.isnan(call(metric, y, scores, k=2))


def test_nothing_dense_is_made():
    n_rows, n_labels = 2_000, 500_000
    rng = np.random.default_rng(0)
    indices = rng.integers(n_labels, size=n_rows * 10)
    indptr = np.arange(0, n_rows * 10 + 1, 10)
    y = sp.csr_array((np.ones(len(indices)), indices, indptr), (n_rows, n_labels))
    scores = sp.csr_array((rng.random(len(indices)), indices, indptr), y.shape)
    tracemalloc.start()
    for metric in METRICS:
        # All labels are found; the gain depends on their order, which is random.
        assert call(metric, y, scores, k=10) > (0.8 if metric is psndcg_at_k else 0.999)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6  # a dense block would have 1e9 entries


# -- scorers -----------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["precision", "recall", "ndcg", "coverage"])
def test_scorers_of_decision_functions_and_probabilities(metric):
    X, y = make_multilabel_classification(n_samples=80, random_state=0)
    model = OneVsRestClassifier(LogisticRegression(max_iter=1000)).fit(X, y)
    scorer = retrieval_scorer(metric, k=2)
    expected = scorer(model, X, y)
    function = globals()[f"{metric}_at_k"]
    assert expected == function(y, model.decision_function(X), k=2)

    class OnlyProba:
        predict_proba = model.predict_proba

    assert scorer(OnlyProba(), X, sp.csr_array(y)) == expected
    assert pickle.loads(pickle.dumps(scorer))(model, X, y) == expected


def test_scorer_in_a_search_over_sparse_labels():
    X, y = make_multilabel_classification(n_samples=80, random_state=0)
    model = OneVsRestClassifier(LogisticRegression(max_iter=1000))
    weight = inverse_propensities(y)
    search = GridSearchCV(
        model,
        {"estimator__C": [1e-4, 1.0]},
        scoring={
            "p1": retrieval_scorer("precision", k=1),
            "psp3": retrieval_scorer("psp", k=3, inverse_propensity=weight),
        },
        refit="p1",
        cv=KFold(2),
    ).fit(X, sp.csr_matrix(y))
    assert search.best_params_ == {"estimator__C": 1.0}
    assert np.isfinite(search.cv_results_["mean_test_psp3"]).all()


class Names:
    """Ranks names; "c" is not among its classes."""

    classes_ = np.array(["a", "b", "d"])

    def predict_topk(self, X, k):
        return np.array([["b", "a"], ["d", "b"]])[:, :k], np.ones((2, k))


def test_scorer_of_named_labels():
    y = [["b", "c"], ["a", "b"]]
    assert retrieval_scorer("precision", k=1)(Names(), None, y) == 0.5
    assert retrieval_scorer("recall", k=2)(Names(), None, y) == 0.5
    assert (
        retrieval_scorer("precision", k=1)(Names(), None, np.array(["b", "a"])) == 0.5
    )
    indicator = np.array([[0, 1, 0], [1, 1, 0]])
    assert retrieval_scorer("precision", k=2)(Names(), None, indicator) == 0.5


def test_scorer_of_more_places_than_labels():
    X, y = make_multilabel_classification(n_samples=60, n_classes=3, random_state=0)
    student = DistillationRetriever(dim=4, max_iter=2, random_state=0).fit(X, y)
    for metric, function in (("precision", precision_at_k), ("ndcg", ndcg_at_k)):
        expected = function(y, student.decision_function(X), k=5)
        assert retrieval_scorer(metric, k=5)(student, X, y) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([{"b", "c"}, {"a"}], 0.5),
        (("b", "a"), 0.5),
        ([("a",), ("b", "c", "d")], 0.5),
        ([[], {"d"}], 0.5),
        (pd.Series([["b", "c"], ["a"]], index=[7, 3]), 0.5),
        (pd.Series([{"b"}, {"d"}], index=[1, 0]), 1.0),
        (pd.Series(["b", "d"], index=[1, 0]), 1.0),
        (pd.Series(["b", "d"], index=[5, 6], dtype="category"), 1.0),
        (pd.DataFrame([[0, 1, 0], [1, 0, 0]], columns=list("pqr")), 0.5),
    ],
)
def test_scorer_reads_labels_as_fit_does(y, expected):
    assert retrieval_scorer("precision", k=1)(Names(), None, y) == expected


def test_scorer_refuses_labels_beside_sets_of_labels():
    with pytest.raises(ValueError, match="mixes single labels and sets of labels"):
        retrieval_scorer("precision", k=1)(Names(), None, ["a", ["b"]])


def test_scorer_of_coverage_takes_no_weights():
    with pytest.raises(ValueError, match="takes no sample_weight"):
        retrieval_scorer("coverage", k=1)(Names(), None, [["b"], ["a"]], [1.0, 2.0])


def test_scorer_names_what_an_estimator_lacks():
    with pytest.raises(TypeError, match="has none of predict_topk"):
        retrieval_scorer("precision")(object(), None, np.ones((2, 2)))
    with pytest.raises(ValueError, match="has no classes_"):
        retrieval_scorer("precision")(KNeighborsClassifier(), None, [["a"], ["b"]])


# -- arguments ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda y, s: precision_at_k(y, s, k=0), "k=0 must"),
        (lambda y, s: precision_at_k(y, s, k=1.5), "k=1.5 must"),
        (lambda y, s: precision_at_k(y[1:], s, k=1), "y_true has 2 rows"),
        (lambda y, s: precision_at_k(y[:, 1:], s, k=1), "y_score has 4 labels"),
        (lambda y, s: precision_at_k(y, np.full((3, 1), 9), k=1), "ranks label 9"),
        (lambda y, s: precision_at_k(y, np.zeros((3, 1), int), k=2), "k=2 are needed"),
        (lambda y, s: precision_at_k(y, s * np.nan, k=1), "must not hold NaN"),
        (lambda y, s: precision_at_k(y[0], s, k=1), "y_true must be a numeric"),
        (lambda y, s: precision_at_k(y * np.nan, s, k=1), "y_true must not hold NaN"),
        (lambda y, s: psp_at_k(y, s, np.ones(3), k=1), r"shape \(4,\)"),
        (lambda y, s: psp_at_k(y, s, np.zeros(4), k=1), "be positive"),
        (lambda y, s: psp_at_k(y, s, np.full(4, np.inf), k=1), "finite; got shape"),
        (lambda y, s: psp_at_k(y, s, np.ones(4), k=0), "k=0 must"),
        (lambda y, s: psndcg_at_k(y, s, np.ones(4), k=0), "k=0 must"),
        (lambda y, s: inverse_propensities(y, preset="odd"), "preset='odd' must"),
        (lambda y, s: inverse_propensities(y, A=0.0), "A=0.0 must be positive"),
        (lambda y, s: inverse_propensities(y[:2]), "has 2 rows"),
        (lambda y, s: recall_at_k(y, [[1, 0]] * 2 + [[2, 2]], k=2), "2 twice in row 2"),
        (lambda y, s: psp_at_k(y, [[-5]] * 3, np.ones(4), k=1), "ranks label -5"),
        (lambda y, s: ndcg_at_k(y, s, sample_weight=[1, -1, 1]), "[Nn]egative"),
        (
            lambda y, s: psp_at_k(y, s, y[0] + 1, sample_weight=[1, -1, 1]),
            "[Nn]egative",
        ),
        (lambda y, s: retrieval_scorer("auc"), "metric='auc' must"),
        (lambda y, s: retrieval_scorer("precision", k=0), "k=0 must"),
        (lambda y, s: retrieval_scorer("psp"), "needs inverse_propensity"),
    ],
)
def test_errors_name_the_argument(wrong, message):
    y = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]])
    with pytest.raises(ValueError, match=message):
        wrong(y, np.ones((3, 4)))


def test_ties_go_to_the_label_of_the_lower_number():
    assert_array_equal(rank_labels(np.ones((1, 5)), 3), [[0, 1, 2]])
    assert_array_equal(rank_labels(sp.csr_array([[0.0, 2, 1, 2]]), 4), [[1, 3, 2, -1]])
    assert_array_equal(rank_labels(np.array([[1.0, 2.0]]), 3), [[1, 0, -1]])
    with pytest.raises(TypeError, match="y_score must be"):
        rank_labels([["a"]], 1)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.float32])
def test_stored_scores_of_any_type_are_ranked(dtype):
    """Of booleans and unsigned integers there are no negatives to sort by."""
    scores = np.array([[0, 1, 1, 1], [1, 1, 0, 0]]).astype(dtype)
    first = [[1, 2, 3], [0, 1, -1]]
    if dtype is not bool:
        scores[0], first[0] = [0, 1, 3, 2], [2, 3, 1]
    y_true = sp.csr_array(np.array([[0, 0, 1, 0], [1, 0, 0, 0]]))
    stored = precision_at_k(y_true, sp.csr_array(scores), k=1)
    assert stored == precision_at_k(y_true, np.array(first), k=1)
