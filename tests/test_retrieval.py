"""DistillationRetriever: the contract, the teacher, memory, checkpoints, prediction."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from skdistill import DistillationRetriever
from skdistill._retrieval import estimator
from skdistill._retrieval.centroids import fit_residual
from skdistill._retrieval.checkpoint import Checkpoint
from skdistill._retrieval.proba import _fit_logistic
from skdistill._retrieval.targets import Mixture
from skdistill._retrieval.top_k import Query, Tables, exact_search, largest
from skdistill.datasets import make_retrieval
from skdistill.metrics import precision_at_k, retrieval_scorer

SMALL = DistillationRetriever(
    dim=8,
    n_negatives=None,
    dropout=0.0,
    batch_size=32,
    learning_rate_init=0.2,
    max_iter=6,
    random_state=0,
)


@pytest.fixture(scope="module")
def data():
    X, Y, _ = make_retrieval(300, 60, 40, random_state=0)
    return X, Y


def tables(retriever):
    return (
        retriever.feature_embeddings_,
        retriever.label_embeddings_,
        retriever.label_bias_,
    )


def assert_same(one, other, atol=0.0):
    for a, b in zip(tables(one), tables(other), strict=True):
        assert_allclose(a, b, rtol=0, atol=atol)


# -- learning -----------------------------------------------------------------------


def test_it_learns(data):
    X, Y = data
    labels, chances = clone(SMALL).set_params(max_iter=30).fit(X, Y).predict_topk(X, 3)
    frequent = np.asarray(Y.sum(axis=0)).ravel().argsort()[::-1][:3]
    hits = np.take_along_axis(Y.toarray(), labels, axis=1)
    assert hits[:, 0].mean() > Y.toarray()[:, frequent[0]].mean() + 0.1
    assert (np.diff(chances, axis=1) <= 0).all()
    assert chances.min() >= 0
    assert chances.max() <= 1


@pytest.mark.parametrize("objective", ["softmax", "double"])
def test_soft_labels_equal_to_labels_change_nothing(data, objective):
    X, Y = data
    alone = clone(SMALL).fit(X, Y)
    soft = clone(SMALL).set_params(objective=objective, n_negatives=7)
    hard = clone(alone).set_params(n_negatives=7).fit(X, Y)
    # One label a row: the one-hot limit, where no negative loses weight.
    single = sp.csr_matrix((np.ones(300), (np.arange(300), np.arange(300) % 40)))
    for retriever in (alone, hard):
        one = clone(retriever).fit(X, single)
        two = clone(soft).set_params(n_negatives=retriever.n_negatives)
        two.fit(X, single, soft_labels=single)
        assert_same(one, two, atol=1e-5)


def test_mixing_weight_zero_fits_no_teacher(data):
    X, Y = data
    plain = clone(SMALL).fit(X, Y)
    refuses = clone(SMALL).set_params(teacher=Refuses(), mixing_weight=0.0)
    assert_same(plain, refuses.fit(X, Y))


class Refuses(BaseEstimator):
    def fit(self, X, y):
        raise AssertionError("must not be fitted")


def test_shuffled_labels_do_not_matter_to_a_student_of_soft_labels_alone(data):
    X, Y = data
    P = sp.random(*Y.shape, 0.2, "csr", random_state=0)
    student = clone(SMALL).set_params(mixing_weight=1.0, residual=0, objective="double")
    shuffled = Y[np.random.default_rng(0).permutation(300)]
    one = clone(student).fit(X, Y, soft_labels=P)
    assert_same(one, clone(student).fit(X, shuffled, soft_labels=P))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_the_same_seed_gives_the_same_model(data, dtype):
    X, Y = data
    retriever = clone(SMALL).set_params(
        dtype=dtype, n_negatives=5, dropout=0.3, objective="double", teacher_dim=12
    )
    one, two = clone(retriever).fit(X, Y), clone(retriever).fit(X, Y)
    assert_same(one, two)
    other = clone(retriever).set_params(random_state=1).fit(X, Y)
    assert not np.array_equal(other.label_embeddings_, one.label_embeddings_)


def test_bfloat16_labels_learn_as_float32_does(data):
    X, Y = data
    losses = [
        clone(SMALL).set_params(dtype=dtype).fit(X, Y).loss_curve_[-1]
        for dtype in ("float32", "bfloat16")
    ]
    assert abs(losses[0] - losses[1]) < 0.02 * losses[0]


@pytest.mark.parametrize("objective", ["softmax", "double", "logistic", "hinge"])
@pytest.mark.parametrize("n_negatives", [None, 6])
def test_every_objective_learns_from_labels_and_teacher(data, objective, n_negatives):
    X, Y = data
    retriever = clone(SMALL).set_params(
        objective=objective, n_negatives=n_negatives, teacher_dim=16, max_iter=15
    )
    retriever.fit(X, Y)
    assert retriever.loss_curve_[-1] < retriever.loss_curve_[0]
    hits = np.take_along_axis(Y.toarray(), retriever.predict_topk(X, 1)[0], axis=1)
    assert hits.mean() > np.asarray(Y.mean(axis=0)).max()


@pytest.mark.parametrize("residual", [0, 50])
@pytest.mark.parametrize(
    "params", [{"proposal": "in-batch", "n_negatives": 5}, {"n_negatives": 0}]
)
def test_a_row_alone_has_no_negatives_and_no_loss(data, params, residual):
    X, Y = data
    alone = clone(SMALL).set_params(
        batch_size=1, max_iter=2, residual=residual, **params
    )
    alone.fit(X[:40], np.arange(40) % 3)
    assert_array_equal(alone.loss_curve_, 0.0)
    # Of several labels one is told from the others; some rows have none.
    several = Y[:40].toarray()
    several[5:20] = 0
    alone.fit(X[:40], several)
    assert np.isfinite(alone.loss_curve_).all()
    assert np.isfinite(alone.predict_proba(X)).all()


@pytest.mark.parametrize(("steps", "passes"), [(1, 10), (900, 7), (10**5, 2)])
def test_passes_by_themselves(steps, passes):
    recipe = clone(SMALL).set_params(max_iter="auto")._recipe()
    assert recipe.n_passes(steps) == passes
    assert clone(SMALL)._recipe().n_passes(steps) == 6


# -- data ---------------------------------------------------------------------------


def test_rows_without_features_or_labels_and_labels_never_seen(data):
    X, Y = (part.tolil() for part in data)
    X[3], Y[5], Y[:, 7] = 0, 0, 0
    for n_negatives in (None, 6):
        retriever = clone(SMALL).set_params(n_negatives=n_negatives, teacher_dim=8)
        retriever.fit(sp.csr_matrix(X), sp.csr_matrix(Y))
        for table in tables(retriever):
            assert np.isfinite(table).all()
        empty = sp.csr_matrix((1, X.shape[1]))
        labels, chances = retriever.predict_topk(empty, Y.shape[1])
        assert len(set(labels[0])) == Y.shape[1]
        assert np.isfinite(chances).all()


def test_unsorted_and_repeated_columns_of_x_do_no_harm(data):
    X, Y = data
    backwards = X.copy()
    for start, stop in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        backwards.indices[start:stop] = X.indices[start:stop][::-1]
        backwards.data[start:stop] = X.data[start:stop][::-1]
    backwards.has_sorted_indices = False
    halves = sp.hstack([X / 2, X / 2], format="csr")
    halves.indices %= X.shape[1]
    halves = sp.csr_matrix((halves.data, halves.indices, halves.indptr), shape=X.shape)
    fitted = clone(SMALL).fit(X, Y)
    assert_same(fitted, clone(SMALL).fit(backwards, Y))
    assert_same(fitted, clone(SMALL).fit(halves, Y), atol=1e-3)
    assert_array_equal(fitted.predict_topk(X)[0], fitted.predict_topk(backwards)[0])


def test_dense_inputs_learn_the_same_as_sparse_ones(data):
    X, Y = data
    student = clone(SMALL).set_params(residual=0, dtype="float64")
    sparse, dense = student.fit(X, Y), clone(student).fit(X.toarray(), Y)
    assert_same(sparse, dense, atol=1e-8)
    assert_allclose(
        sparse.decision_function(X), dense.decision_function(X.toarray()), atol=1e-6
    )


NUMPY_ACTIVATIONS = {
    "identity": lambda z: z,
    "logistic": expit,
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize("activation", NUMPY_ACTIVATIONS)
def test_hidden_units_are_those_of_the_formula(data, pooling, activation):
    X, Y = data
    X = X.tolil()
    X[3] = 0
    X = sp.csr_matrix(X)
    student = clone(SMALL).set_params(
        pooling=pooling, activation=activation, objective="logistic", dtype="float64"
    )
    student.fit(X, Y)
    x = X.toarray()
    if pooling == "mean":
        x /= np.maximum(np.count_nonzero(x, axis=1), 1)[:, None]
    features, labels, bias = tables(student)
    logits = NUMPY_ACTIVATIONS[activation](x @ features) @ labels.T + bias
    expected = student.calibration_.slope * logits + student.calibration_.offset
    decision = student.decision_function(X)
    assert_allclose(decision, expected, rtol=1e-6, atol=1e-6)
    dense = clone(student).fit(X.toarray(), Y)
    assert_same(student, dense, atol=1e-8)
    # What it was fitted with counts, also when it has been stored.
    other = student.set_params(pooling="sum", activation="identity")
    stored = pickle.loads(pickle.dumps(other))
    assert_array_equal(stored.decision_function(X), decision)


def test_a_mean_over_rows_of_one_length_is_a_sum_of_smaller_embeddings(data):
    _, Y = data
    columns = np.random.default_rng(0).permuted(
        np.tile(np.arange(60), (300, 1)), axis=1
    )
    ends = np.arange(0, 300 * 8 + 1, 8)
    X = sp.csr_matrix((np.ones(2400), columns[:, :8].ravel(), ends), shape=(300, 60))
    student = clone(SMALL).set_params(dtype="float64")
    total = clone(student).fit(X, Y)
    mean = clone(student).set_params(pooling="mean").fit(X, Y)
    assert_allclose(
        mean.feature_embeddings_, 8 * total.feature_embeddings_, rtol=1e-6, atol=1e-6
    )
    assert_allclose(mean.decision_function(X), total.decision_function(X), atol=1e-6)


@pytest.mark.parametrize("activation", ["logistic", "relu", "tanh"])
@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_hidden_units_of_every_kind_learn(data, pooling, activation):
    X, Y = data
    retriever = clone(SMALL).set_params(
        pooling=pooling, activation=activation, n_negatives=20, max_iter=15, residual=0
    )
    retriever.fit(X, Y)
    hits = np.take_along_axis(Y.toarray(), retriever.predict_topk(X, 1)[0], axis=1)
    assert hits.mean() > np.asarray(Y.mean(axis=0)).max() + 0.1


def test_names_and_text():
    texts = ["a red ball", "a red square", "the green square", "a green ball"] * 20
    y = [["red", "round"], ["red"], ["green"], ["green", "round"]] * 20
    retriever = clone(SMALL).set_params(max_iter=40)
    model = make_pipeline(TfidfVectorizer(), retriever).fit(texts, y)
    assert model[-1].classes_.tolist() == ["green", "red", "round"]
    vectors = model[:-1].transform(texts[:4])
    labels, _ = model[-1].predict_topk(vectors, 2)
    assert [set(row) for row in labels[[0, 3]]] == [set(y[0]), set(y[3])]
    assert model.score(texts, y) == 1.0
    assert model.score(texts[:2], [["red", "round"], ["red", "new"]]) == 0.5
    chosen = model.predict(texts[:4])
    assert sp.issparse(chosen)
    assert_array_equal(chosen.toarray(), [[0, 1, 1], [0, 1, 0], [1, 0, 0], [1, 0, 1]])


@pytest.mark.parametrize(
    "form",
    [
        lambda names: [set(labels) for labels in names],
        lambda names: [frozenset(labels) for labels in names],
        lambda names: pd.Series(names, index=range(100, 160)),
        lambda names: pd.Series(map(set, names), index=range(60)[::-1]),
        lambda names: np.array([*names, None], dtype=object)[:-1],
        lambda names: pytest.importorskip("polars").Series(names),
    ],
    ids=["sets", "frozensets", "series", "series of sets", "array", "polars"],
)
def test_scores_take_labels_in_every_form_that_fit_takes(form):
    X = np.repeat(np.eye(3), 20, axis=0)
    names = [["a"], ["b", "c"], ["c"]]
    names = [labels for labels in names for _ in range(20)]
    retriever = clone(SMALL).set_params(max_iter=2).fit(X, names)
    y = form(names)
    assert retriever.score(X, y) == retriever.score(X, names) > 0
    scorer = retrieval_scorer("recall", k=1)
    assert scorer(retriever, X, y) == scorer(retriever, X, names) > 0
    assert_array_equal(clone(retriever).fit(X, y).classes_, retriever.classes_)


@pytest.mark.parametrize("kind", ["pandas", "nullable", "polars"])
def test_frames_of_zeros_and_ones_are_indicators(kind):
    X = np.repeat(np.eye(3), 20, axis=0)
    indicator = np.repeat([[1, 0, 0], [0, 1, 1], [0, 0, 1]], 20, axis=0)
    y = pd.DataFrame(indicator)
    if kind == "nullable":
        y = y.convert_dtypes()
    elif kind == "polars":
        y = pytest.importorskip("polars").DataFrame(indicator)
    expected = clone(SMALL).set_params(max_iter=2).fit(X, indicator)
    retriever = clone(expected).fit(X, y)
    assert_array_equal(retriever.predict_proba(X), expected.predict_proba(X))
    assert retriever.score(X, y) == expected.score(X, indicator)
    scorer = retrieval_scorer("recall", k=1)
    assert scorer(retriever, X, y) == scorer(expected, X, indicator) > 0


def test_output_follows_the_form_of_the_labels(data):
    X, Y = data
    sparse = clone(SMALL).fit(X, Y).predict(X)
    dense = clone(SMALL).fit(X, Y.toarray()).predict(X)
    assert sp.issparse(sparse)
    assert isinstance(dense, np.ndarray)
    assert_array_equal(sparse.toarray(), dense)


# -- teachers -----------------------------------------------------------------------


class Oracle(BaseEstimator):
    """Knows the labels of rows by their first value, and logs how many it saw."""

    def __init__(self, log=None):
        self.log = log

    def fit(self, X, y):
        self.seen_ = X.shape[0]
        self.n_labels_ = y.shape[1]
        return self

    def predict_topk(self, X, k):
        assert X.shape[0] + self.seen_ in (300, 600)
        labels = np.tile(np.arange(k), (X.shape[0], 1))
        return labels, np.linspace(0.9, 0.1, k)[None].repeat(X.shape[0], axis=0)


@pytest.mark.parametrize("cv", [None, 5, KFold(2), "in-sample"])
def test_teachers_are_cross_fitted(data, cv):
    X, Y = data
    student = clone(SMALL).set_params(teacher=Oracle(), cv=cv, top_k=4, residual=0)
    P = np.zeros(Y.shape)
    P[:, :4] = np.linspace(0.9, 0.1, 4)
    given = clone(student).set_params(teacher=None).fit(X, Y, soft_labels=P)
    assert_same(student.fit(X, Y), given, atol=1e-6)


def test_any_classifier_with_chances_can_teach(data):
    X, Y = data
    some = Y[:, np.asarray(Y.sum(axis=0)).ravel() > 25]
    one_vs_rest = OneVsRestClassifier(LogisticRegression())
    forest = RandomForestClassifier(5, random_state=0)
    for teacher in (one_vs_rest, [one_vs_rest, clone(SMALL)]):
        fitted = clone(SMALL).set_params(teacher=teacher).fit(X, some)
        assert np.isfinite(fitted.label_embeddings_).all()
    dense = clone(SMALL).set_params(teacher=forest, cv=2).fit(X, some.toarray())
    assert np.isfinite(dense.label_embeddings_).all()


def test_a_frozen_teacher_is_used_as_it_is(data):
    X, Y = data
    teacher = clone(SMALL).set_params(dim=16).fit(X, Y)
    labels, chances = teacher.predict_topk(X, 10)
    rows = np.repeat(np.arange(300), 10)
    P = sp.csr_matrix((chances.ravel(), (rows, labels.ravel())), shape=Y.shape)
    student = clone(SMALL).set_params(top_k=10)
    given = clone(student).fit(X, Y, soft_labels=P)
    frozen = clone(student).set_params(teacher=FrozenEstimator(teacher)).fit(X, Y)
    assert_same(given, frozen, atol=1e-6)


def test_frozen_teachers_of_other_labels():
    X = np.repeat(np.eye(3), 10, axis=0)
    y = np.repeat(["a", "b", "c"], 10)
    teacher = FrozenEstimator(LogisticRegression().fit(X[:20], y[:20]))
    student = clone(SMALL).set_params(teacher=teacher)
    with pytest.warns(UserWarning, match="does not know 1 of the labels"):
        student.fit(X, y)
    wrong = FrozenEstimator(LogisticRegression().fit(X, np.repeat(["a", "b", "z"], 10)))
    with pytest.raises(ValueError, match="1 labels that y does not have, 'z' first"):
        student.set_params(teacher=wrong).fit(X, y)


class Wrong(Oracle):
    def predict_topk(self, X, k):
        labels, chances = super().predict_topk(X, k)
        return labels, chances - 0.5


@pytest.mark.parametrize(
    ("params", "soft_labels", "error", "message"),
    [
        ({"teacher": Wrong()}, None, ValueError, "Wrong must return chances"),
        ({"teacher": []}, None, ValueError, "at least one estimator"),
        ({"cv": [([0], [1])], "teacher": Oracle()}, None, ValueError, "exactly one"),
        ({"mixing_weight": 1.5}, None, ValueError, "mixing_weight"),
        ({"proposal": "other"}, None, ValueError, "proposal"),
        ({"pooling": "max"}, None, ValueError, "'pooling' parameter .* Got 'max'"),
        ({"activation": "gelu"}, None, ValueError, "'activation' .* Got 'gelu'"),
        ({"device": "nowhere"}, None, ValueError, "device='nowhere'"),
        ({}, np.ones((3, 3)), ValueError, r"shape \(n_samples, n_labels\)"),
        ({}, -np.ones((300, 40)), ValueError, "row 0 holds -1.0 for label 0"),
        ({}, np.full((300, 40), "a"), ValueError, "must be a numeric"),
    ],
)
def test_what_cannot_be_used_is_refused(data, params, soft_labels, error, message):
    X, Y = data
    student = clone(SMALL).set_params(**params)
    with pytest.raises(error, match=message):
        student.fit(X, Y, soft_labels=soft_labels)
    assert not hasattr(student, "classes_")


class NoChances(BaseEstimator):
    def fit(self, X, y):
        return self


def test_a_teacher_without_chances_is_refused(data):
    with pytest.raises(TypeError, match="neither predict_topk nor predict_proba"):
        clone(SMALL).set_params(teacher=NoChances()).fit(*data)


def test_a_failed_fit_leaves_the_one_before(data):
    X, Y = data
    retriever = clone(SMALL).fit(X, Y)
    before = retriever.predict_topk(X)
    with pytest.raises(ValueError, match="shape"):
        retriever.fit(X, Y[:, :9], soft_labels=np.ones((2, 2)))
    assert_array_equal(before[0], retriever.predict_topk(X)[0])


# -- searches, pickles --------------------------------------------------------------


def test_grid_search_and_folds_of_sparse_labels(data):
    X, Y = data
    scorer = retrieval_scorer("precision", k=3)
    grid = [
        {"temperature": [1.0, 2.0], "mixing_weight": [0.0, 0.5], "dim": [4, 8]},
        {"pooling": ["sum", "mean"], "activation": ["relu", "tanh"]},
    ]
    search = GridSearchCV(
        clone(SMALL).set_params(max_iter=2, objective="double"),
        grid,
        scoring=scorer,
        cv=KFold(2),
    )
    P = sp.random(*Y.shape, 0.2, "csr", random_state=0)
    search.fit(X, Y, soft_labels=P)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert len(set(scores)) > 4


def test_pickles_predict_the_same(data):
    X, Y = data
    retriever = clone(SMALL).fit(X, Y)
    before = retriever.predict_topk(X)
    loaded = pickle.loads(pickle.dumps(retriever))
    assert_array_equal(before[0], loaded.predict_topk(X)[0])
    assert_array_equal(before[1], loaded.predict_topk(X)[1])
    # What prediction has made ready is made again, not stored.
    fresh = len(pickle.dumps(clone(SMALL).fit(X, Y)))
    assert abs(len(pickle.dumps(loaded)) - fresh) < 100


# -- prediction ---------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["softmax", "double", "logistic"])
def test_best_labels_are_those_of_the_whole_scores(data, objective, monkeypatch):
    X, Y = data
    retriever = clone(SMALL).set_params(objective=objective).fit(X, Y)
    decision = retriever.decision_function(X)
    proba = retriever.predict_proba(X)
    for logits, block in ((10**6, 10**6), (100, 7)):
        monkeypatch.setattr("skdistill._retrieval.top_k.BLOCK_LOGITS", logits)
        monkeypatch.setattr("skdistill._retrieval.top_k.BLOCK_LABELS", block)
        labels, chances = retriever.predict_topk(X, 6)
        found = np.take_along_axis(decision, labels, axis=1)
        assert_allclose(found, -np.sort(-decision, axis=1)[:, :6], atol=1e-4)
        picked = np.take_along_axis(proba, labels, axis=1)
        assert_allclose(chances, picked, atol=1e-5)
        assert_array_equal(retriever.predict(X).toarray(), decision > 0)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_of_equal_labels_the_first_are_found(k, monkeypatch):
    # Many labels of few scores, as those that no row has.
    bias = np.random.default_rng(k).integers(0, 3, 400).astype(float)
    nothing = np.zeros((400, 1))
    query = Query(np.zeros((3, 1)), None)
    for block in (4096, 7):
        monkeypatch.setattr("skdistill._retrieval.top_k.BLOCK_LABELS", block)
        labels, logits, _ = exact_search(Tables(nothing, nothing, bias), query, k)
        expected = np.argsort(-bias, kind="stable")[:k]
        assert_array_equal(labels, np.tile(expected, (3, 1)))
        assert_array_equal(logits, np.tile(bias[expected], (3, 1)))


def test_margins_of_any_temperature_have_targets(data):
    _, Y = data
    P = sp.random(*Y.shape, 0.2, "csr", random_state=0)
    for temperature, expected in ((1e-6, P > 0.5), (1e6, 0.5 * (P > 0))):
        mixture = Mixture("logistic", 1.0, temperature, "candidate", "complement", 1.0)
        raised = mixture.targets(Y, P, sampled=False).raised
        assert_allclose(raised.toarray(), expected.toarray(), atol=1e-4)


def test_equal_classes_are_predicted_as_they_are_scored(data):
    X, _ = data
    y = np.arange(300) % 4
    student = clone(SMALL).set_params(objective="logistic", mixing_weight=1.0)
    student.fit(X, y, soft_labels=np.full((300, 4), 0.25))
    assert_array_equal(student.predict(X), student.predict_proba(X).argmax(axis=1))


@pytest.mark.parametrize("n_values", [5, 40, 331, 4096])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_largest_values_are_found(n_values, k):
    values = np.random.default_rng(k).normal(size=(20, n_values))
    found, best = largest(values, k)
    assert_allclose(np.sort(best), np.sort(values)[:, -k:])
    assert_allclose(np.take_along_axis(values, found, axis=1), best)


@pytest.mark.parametrize(
    "params",
    [
        {"objective": "softmax"},
        {"objective": "double"},
        {"objective": "double", "anchor": "observed"},
        {"objective": "double", "negative_weights": "sigmoid"},
        {"objective": "logistic"},
        {"objective": "hinge"},
    ],
)
def test_probabilities_of_one_label_a_row(params):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    logits = X @ rng.normal(size=(3, 4)) * 1.5
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.array([rng.choice(4, p=row) for row in p])
    student = clone(SMALL).set_params(
        **params, mixing_weight=1.0, max_iter=40, dtype="float64"
    )
    student.fit(X, y, soft_labels=p)
    proba = student.predict_proba(X)
    assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)
    assert_array_equal(student.classes_[proba.argmax(axis=1)], student.predict(X))
    # The student of probabilities gives them back, whatever its objective.
    assert np.abs(proba - p).mean() < 0.06
    labels, chances = student.predict_topk(X, 4)
    assert_allclose(chances, np.take_along_axis(proba, labels, axis=1), atol=1e-4)


@pytest.mark.parametrize("params", [{"mixing_weight": 0.0}, {}])
def test_double_without_soft_labels_is_the_softmax_chances_too(params):
    rng = np.random.default_rng(0)
    X = np.repeat(np.eye(2), 100, axis=0)
    y = np.concatenate([rng.choice(4, 100, p=p) for p in np.eye(2, 4) * 0.4 + 0.15])
    softmax = clone(SMALL).set_params(max_iter=40).fit(X, y)
    double = clone(softmax).set_params(objective="double", **params)
    # Soft labels without any mass are none.
    double.fit(X, y, soft_labels=np.full((200, 4), 0.25 if params else 0.0))
    assert_same(softmax, double)
    none = clone(double).fit(X, y)
    assert_array_equal(none.predict_proba(X), double.predict_proba(X))
    assert_array_equal(softmax.predict_proba(X), double.predict_proba(X))


def test_chances_of_several_labels_are_calibrated():
    X, Y, proba = make_retrieval(5000, 100, 30, random_state=0)
    retriever = clone(SMALL).set_params(max_iter=10).fit(X[:4000], Y[:4000])
    chance = retriever.predict_proba(X[4000:])
    assert 0.85 < chance.sum() / proba[4000:].sum() < 1.15
    # Closer to the truth than the labels' shares, which know no row.
    shares = Y[:4000].mean(axis=0)
    error = np.abs(chance - proba[4000:]).mean()
    assert error < np.abs(np.asarray(shares) - proba[4000:]).mean()


def test_logits_that_differ_by_rounding_give_no_certain_chances():
    values = -0.7 + 1e-13 * np.arange(8)
    slope, offset = _fit_logistic(values, np.arange(8) % 2 == 1)
    # What float32 makes of the same logits.
    assert_allclose(expit(slope * (values + 1e-6) + offset), 0.5, atol=0.01)


def test_scores_of_all_labels_have_to_fit(data):
    X, Y = data
    retriever = clone(SMALL).fit(X, Y).set_params(memory_limit=1000)
    for method in (retriever.decision_function, retriever.predict_proba):
        with pytest.raises(MemoryError, match=r"40 labels for 300 rows.*predict_topk"):
            method(X)
    assert retriever.predict_topk(X, 2)[0].shape == (300, 2)


@pytest.mark.parametrize("k", [0, 41, 2.0, None])
def test_k_is_a_number_of_labels(data, k):
    with pytest.raises(ValueError, match=f"k={k} must be an integer between 1 and 40"):
        clone(SMALL).fit(*data).predict_topk(data[0], k)


# -- memory -------------------------------------------------------------------------


def test_training_that_does_not_fit_is_refused_before_it_starts(data):
    X, Y = data
    refused = clone(SMALL).set_params(memory_limit=5000, teacher=Refuses())
    with pytest.raises(MemoryError, match=r"more than the 4.9 KiB of memory_limit"):
        refused.fit(X, Y)


def test_the_memory_report_follows_the_formula(data):
    X, Y = data
    report = clone(SMALL).memory_report(X, Y)
    assert report.parts["label embeddings"] == 40 * 8 * 4 + 40 * 4
    assert report.parts["feature embeddings"] == 60 * 8 * 4
    assert report.total == sum(report.parts.values()) + max(report.stages.values())
    assert "total" in str(report)
    half = clone(SMALL).set_params(dtype="bfloat16").memory_report(X, Y)
    assert half.parts["label embeddings"] == 40 * 8 * 2 + 40 * 4
    wide = clone(SMALL).set_params(dim=64).memory_report(X, Y)
    assert wide.total > report.total


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("n_negatives", [None, 6])
def test_the_memory_of_what_stays_is_what_training_has_allocated(
    data, dtype, n_negatives
):
    from skdistill._retrieval.fit import Rows, Training

    X, Y = data
    student = clone(SMALL).set_params(
        dtype=dtype, n_negatives=n_negatives, residual=0, max_iter=1
    )
    parts = student.memory_report(X, Y).parts
    training = Training(student._recipe(), Rows(X, Y, None), 0)
    training.run(None, None)
    features, labels, bias = (table.nbytes for table in training.stack.parameters())
    assert parts["feature embeddings"] == features
    assert parts["label embeddings"] == labels + bias
    assert parts["optimiser"] == sum(s.nbytes for s in training.optimizer.sums)
    assert not training.stack._buffers


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("n_negatives", [None, 6])
def test_the_memory_of_a_step_has_its_gradients(data, dtype, n_negatives):
    from skdistill._retrieval.fit import Rows, Training

    X, Y = data
    student = clone(SMALL).set_params(
        dtype=dtype, n_negatives=n_negatives, residual=0, max_iter=1, dim=4096
    )
    report = student.memory_report(X, Y)
    training = Training(student._recipe(), Rows(X, Y, None), 0)
    batch, _ = next(training.data.epoch(0, []))
    training.stack.gradient(batch, None)
    gradients = sum(g.values.nbytes for g in training.stack.gradients)
    assert 1.0 < report.stages["steps"] / gradients < 5.0


def test_the_memory_of_the_sparse_part_is_close_to_what_it_has(monkeypatch):
    from skdistill._retrieval import refinement, sparse_part_size

    X, Y, _ = make_retrieval(400, 300, 200, random_state=0)
    monkeypatch.setattr(sparse_part_size, "N_LABELS", 50)
    seen, loss = [], refinement.pair_loss

    def noted(pairs, values):
        seen.append(pairs)
        return loss(pairs, values)

    monkeypatch.setattr(refinement, "pair_loss", noted)
    student = clone(SMALL).set_params(residual=40).fit(X, Y)
    size = sparse_part_size.sparse_part_size(X, Y, 40)
    assert_allclose(size.n_entries, student.residual_.nnz, rtol=0.1)
    assert size.n_own == Y.nnz
    assert size.n_rows == np.count_nonzero(np.diff(Y.indptr))
    (pairs,) = seen[0]
    assert_allclose(size.n_pairs, len(pairs.target), rtol=0.01)
    assert_allclose(size.pair_entries, pairs.products.nnz, rtol=0.3)


# -- checkpoints --------------------------------------------------------------------

SCRIPT = """
import os, sys, json
import numpy as np
from skdistill import DistillationRetriever
from skdistill._retrieval import checkpoint as checkpoints
from skdistill.datasets import make_retrieval

path, kill_after = sys.argv[1], int(sys.argv[2])
saved, save = [], checkpoints.Checkpoint.save
def save_and_die(self, state):
    save(self, state)
    saved.append(1)
    if len(saved) == kill_after:
        os.kill(os.getpid(), 9)
checkpoints.Checkpoint.save = save_and_die
X, Y, _ = make_retrieval(300, 60, 40, random_state=0)
retriever = DistillationRetriever(
    dim=8, teacher_dim=12, objective="double", n_negatives=6, dropout=0.3,
    pooling="mean", activation="tanh", batch_size=32, max_iter=3, report_every=4,
    dtype=sys.argv[3], random_state=0, checkpoint=path or None,
).fit(X, Y)
parts = (retriever.feature_embeddings_, retriever.label_embeddings_,
         retriever.label_bias_, retriever.loss_curve_)
print(json.dumps([np.asarray(p, dtype=np.float64).tobytes().hex() for p in parts]))
"""


def run(path, kill_after, dtype):
    arguments = [sys.executable, "-c", SCRIPT, str(path), str(kill_after), dtype]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_killed_training_goes_on_to_the_same_model(tmp_path, dtype):
    path = tmp_path / "training.npz"
    killed = run(path, 3, dtype)
    assert killed.returncode == -9
    assert path.exists()
    resumed = run(path, 0, dtype)
    undisturbed = run("", 0, dtype)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout) == json.loads(undisturbed.stdout)
    assert not path.exists()


def test_a_checkpoint_of_another_training_is_refused(data, tmp_path, monkeypatch):
    X, Y = data
    path = tmp_path / "training.npz"
    from skdistill._retrieval import checkpoint

    monkeypatch.setattr(checkpoint.Checkpoint, "remove", lambda self: None)
    retriever = clone(SMALL).set_params(checkpoint=os.fspath(path)).fit(X, Y)
    with pytest.raises(ValueError, match="other parameters or data"):
        clone(retriever).set_params(dim=9).fit(X, Y)
    with pytest.raises(ValueError, match="other parameters or data"):
        clone(retriever).set_params(activation="tanh").fit(X, Y)
    with pytest.raises(ValueError, match="other parameters or data"):
        clone(retriever).fit(X, Y[:, ::-1])
    assert_same(clone(retriever).fit(X, Y), retriever)
    with pytest.raises(ValueError, match="other parameters or data"):
        clone(retriever).set_params(random_state=1).fit(X, Y)


def array_alone(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def cut_archive(path):
    with path.open("wb") as file:
        np.savez(file, position=np.zeros(99))
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("something else"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04junk"),
        lambda path: path.mkdir(),
        array_alone,
        cut_archive,
    ],
    ids=["text", "empty", "broken", "folder", "array", "cut"],
)
def test_what_is_no_checkpoint_is_refused(data, tmp_path, write):
    path = tmp_path / "training.npz"
    write(path)
    with pytest.raises(ValueError, match="is there but no checkpoint"):
        clone(SMALL).set_params(checkpoint=path).fit(*data)


def test_a_checkpoint_in_a_folder_that_is_not_there_is_refused_at_once(data, tmp_path):
    recorder = Recorder()
    retriever = clone(SMALL).set_params(checkpoint=tmp_path / "none" / "training.npz")
    with pytest.raises(ValueError, match="in a folder that does not exist"):
        retriever.set_callbacks(recorder).fit(*data)
    assert recorder.ended == 0


class BrokenOff(Exception):
    pass


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("random_state", [None, 3, np.random.RandomState(3)])
def test_a_training_of_any_random_state_goes_on(
    tmp_path, monkeypatch, random_state, given
):
    # So many rows that some are held out, and which ones follows from the seed.
    X = np.random.RandomState(0).standard_normal((2000, 3))
    y = np.arange(2000) % 3
    P = np.random.RandomState(1).random_sample((2000, 3)) if given else None
    retriever = DistillationRetriever(
        dim=2,
        max_iter=3,
        batch_size=1000,
        checkpoint=tmp_path / "training.npz",
        random_state=random_state,
    )
    save = Checkpoint.save

    def save_and_break_off(self, state):
        save(self, state)
        raise BrokenOff

    monkeypatch.setattr(Checkpoint, "save", save_and_break_off)
    with pytest.raises(BrokenOff):
        retriever.fit(X, y, soft_labels=P)
    monkeypatch.undo()
    with np.load(retriever.checkpoint) as state:
        seed, losses = int(state["seed"]), state["losses"]
    retriever.fit(X, y, soft_labels=P)
    assert_array_equal(retriever.loss_curve_[:1], losses)
    whole = clone(retriever).set_params(checkpoint=None)
    monkeypatch.setattr(estimator, "check_random_state", lambda _: Seed(seed))
    assert_same(whole.fit(X, y, soft_labels=P), retriever)


class Seed:
    """Draws the seed that it was given."""

    def __init__(self, seed):
        self.seed = seed

    def randint(self, _):
        return self.seed


# -- callbacks ----------------------------------------------------------------------


class Recorder:
    """Counts stretches; asks to stop at the end of a given one."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.ended = 0

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, **data):
        pass

    def on_fit_task_end(self, estimator, context, **data):
        if context.parent is None:
            return None
        self.ended += 1
        return self.ended == self.stop_at

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize(("report_every", "expected"), [(None, 6), (7, 9)])
def test_callbacks_hear_of_every_stretch_of_steps(data, report_every, expected):
    recorder = Recorder()
    retriever = clone(SMALL).set_params(report_every=report_every)
    retriever.set_callbacks(recorder).fit(*data)
    assert recorder.ended == expected == retriever.n_iter_ == len(retriever.loss_curve_)
    assert (retriever.loss_curve_ > 0).all()


def test_a_callback_can_end_the_training(data):
    retriever = clone(SMALL).set_callbacks(Recorder(stop_at=2)).fit(*data)
    assert retriever.n_iter_ == 2


def test_a_callback_that_ends_the_training_leaves_the_own_teacher_alone(data):
    X, Y = data
    wide = clone(SMALL).set_params(teacher_dim=8, max_iter=2)
    recorder = Recorder()
    unwatched = clone(wide).fit(X, Y)
    watched = clone(wide).set_callbacks(recorder).fit(X, Y)
    assert recorder.ended == watched.n_iter_
    assert_array_equal(watched.predict_proba(X[:5]), unwatched.predict_proba(X[:5]))


# -- the sparse part ----------------------------------------------------------------


def test_own_products_leave_the_row_out(data):
    X, Y = data
    residual = fit_residual(X, Y, 10**6, 3.0)
    unit = X.toarray() / np.sqrt((X.toarray() ** 2).sum(axis=1))[:, None]
    own = residual.own.tocoo()
    for i, j, value in list(zip(own.row, own.col, own.data, strict=True))[:60]:
        others = Y.toarray()[:, j].astype(bool)
        others[i] = False
        centroid = unit[others].sum(axis=0)
        length = np.linalg.norm(centroid)
        expected = 3.0 * unit[i] @ centroid / length if length > 1e-3 else 0.0
        assert_allclose(value, expected, atol=1e-4)


def test_the_sparse_part_of_candidates_is_cut_from_that_of_all_labels(data):
    X, Y = data
    residual = fit_residual(X, Y, 20, 1.0)
    rows = np.arange(5, 25)
    every = residual.offsets(X[rows], rows, None).dense(slice(0, 20), slice(0, 40))
    # Some rows have labels that are no candidates.
    for candidates in (np.array([3, 4, 17]), np.arange(0, 40, 2), np.arange(40)):
        some = residual.offsets(X[rows], rows, candidates)
        dense = some.dense(slice(0, 20), slice(0, len(candidates)))
        assert_allclose(dense, every[:, candidates], atol=1e-6)


@pytest.mark.parametrize("objective", ["softmax", "double"])
def test_soft_labels_alone_may_leave_out_the_labels_of_a_row(data, objective):
    X, Y = data
    P = sp.random(*Y.shape, 0.1, "csr", random_state=0)
    student = clone(SMALL).set_params(
        mixing_weight=1.0, n_negatives=5, objective=objective
    )
    student.fit(X, Y, soft_labels=P)
    assert student.loss_curve_[-1] < student.loss_curve_[0]


def test_vectors_keep_their_largest_entries_and_unit_length(data, monkeypatch):
    from skdistill._retrieval import centroids

    X, Y = data
    whole = centroids.fit_residual(X, Y, 5, 1.0).labels.matrix
    assert np.diff(whole.indptr).max() <= 5
    lengths = np.sqrt(np.asarray(whole.multiply(whole).sum(axis=1)).ravel())
    assert_allclose(lengths[lengths > 0], 1.0, rtol=1e-5)
    monkeypatch.setattr(centroids, "CHUNK_ENTRIES", 64)
    monkeypatch.setattr(centroids, "CHUNK_PAIRS", 7)
    parts = centroids.fit_residual(X, Y, 5, 1.0)
    assert_allclose(parts.labels.matrix.toarray(), whole.toarray(), atol=1e-6)


def test_vectors_keep_the_entries_of_the_largest_magnitude():
    rng = np.random.default_rng(0)
    X = sp.random(40, 60, 0.4, "csr", random_state=0, data_rvs=rng.standard_normal)
    y = np.arange(40) % 4
    # A plain retriever: the vectors are what its sparse part was cut to.
    vectors = clone(SMALL).set_params(residual=6).fit(X, y).residual_
    unit = X.toarray() / np.sqrt((X.toarray() ** 2).sum(axis=1))[:, None]
    sums = np.stack([unit[y == j].sum(axis=0) for j in range(4)])
    expected = np.sort(np.argsort(-np.abs(sums), axis=1)[:, :6], axis=1)
    assert_array_equal(vectors.indices.reshape(4, 6), expected)
    assert (np.take_along_axis(sums, expected, axis=1) < 0).any(axis=1).all()


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_common_features_are_only_another_way_to_the_product(data, monkeypatch, share):
    from skdistill._retrieval import centroids

    X, Y = data
    monkeypatch.setattr(centroids, "DENSE_SHARE", share)
    vectors = centroids.fit_residual(X, Y, 20, 1.0).labels
    expected = (X @ vectors.matrix.T).toarray()
    n_labels = Y.shape[1]
    for block in (slice(0, n_labels), slice(5, 9)):
        assert_allclose(vectors.scores(X, block), expected[:, block], atol=1e-6)
    some = vectors.some(np.array([1, 3]))
    assert_allclose(some.scores(X, slice(0, 2)), expected[:, [1, 3]], atol=1e-6)
    assert_allclose(some.scores(X, slice(1, 2)), expected[:, [3]], atol=1e-6)


def test_the_sparse_part_helps_where_rare_words_name_labels():
    rng = np.random.default_rng(0)
    names = np.arange(200)
    y = rng.choice(names, size=600)
    noise = rng.integers(0, 50, size=(600, 4))
    rows = np.repeat(np.arange(600), 5)
    words = np.column_stack([50 + y, noise]).ravel()
    X = sp.csr_matrix((np.ones(3000), (rows, words)), shape=(600, 250))
    Y = sp.csr_matrix((np.ones(600), (np.arange(600), y)), shape=(600, 200))
    scores = {}
    for residual in (0, 50):
        model = clone(SMALL).set_params(residual=residual, max_iter=2)
        labels, _ = model.fit(X[:400], Y[:400]).predict_topk(X[400:], 1)
        order = np.zeros((200, 200))
        order[np.arange(200), labels[:, 0]] = 1
        scores[residual] = precision_at_k(Y[400:], order, k=1)
    assert scores[50] > scores[0] + 0.2
