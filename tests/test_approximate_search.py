"""search="hnsw": what it finds, through faiss, usearch and a stand-in."""

import pickle
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skdistill import DistillationRetriever
from skdistill.datasets import make_retrieval

SMALL = DistillationRetriever(
    dim=8,
    n_negatives=None,
    dropout=0.0,
    batch_size=64,
    learning_rate_init=0.2,
    max_iter=4,
    search="hnsw",
    random_state=0,
)
N_LABELS = 300


@pytest.fixture(scope="module")
def data():
    X, Y, _ = make_retrieval(400, 60, N_LABELS, random_state=0)
    return X, Y


class BruteForce:
    """Stands for faiss: finds half of what is asked for, the best, and no more."""

    METRIC_INNER_PRODUCT = 0

    class IndexHNSWFlat:
        def __init__(self, dim, width, metric):
            self.hnsw = type("Settings", (), {})()

        def add(self, vectors):
            self.vectors = vectors

        def search(self, queries, k):
            found = np.argsort(-(queries @ self.vectors.T), axis=1)[:, :k]
            found[:, k // 2 :] = -1
            return None, found

        def __reduce__(self):
            return _restored, (self.vectors,)


def _restored(vectors):
    index = BruteForce.IndexHNSWFlat(vectors.shape[1], 32, 0)
    index.add(vectors)
    return index


@pytest.fixture(params=["stand-in", "faiss", "usearch"])
def library(request, monkeypatch):
    """Have one library, the others hidden."""
    if request.param == "stand-in":
        monkeypatch.setitem(sys.modules, "faiss", BruteForce)
    elif request.param == "faiss":
        pytest.importorskip("faiss")
    else:
        pytest.importorskip("usearch.index")
        monkeypatch.setitem(sys.modules, "faiss", None)
    return request.param


@pytest.mark.parametrize("residual", [0, 20])
def test_it_finds_most_of_the_best_labels_and_says_how_many(data, library, residual):
    X, Y = data
    retriever = clone(SMALL).set_params(residual=residual).fit(X, Y)
    assert 0.9 <= retriever.search_recall_ <= 1.0
    labels, chances = retriever.predict_topk(X, 10)
    exact = clone(retriever).set_params(search="exact").fit(X, Y)
    assert exact.search_recall_ is None
    best, exact_chances = exact.predict_topk(X, 10)
    hits = [np.isin(a, b).mean() for a, b in zip(best, labels, strict=True)]
    assert np.mean(hits) > 0.9
    same = labels[:, 0] == best[:, 0]
    assert same.mean() > 0.9
    # Relative to the labels looked at, which are the most likely ones.
    assert_allclose(chances[same, 0], exact_chances[same, 0], atol=0.1)
    assert_array_equal(retriever.predict_topk(X[:1], 10)[0], labels[:1])


@pytest.mark.parametrize("k", [1, 200, N_LABELS])
def test_every_row_gets_as_many_labels_as_asked_for(data, library, k):
    X, Y = data
    retriever = clone(SMALL).set_params(objective="logistic").fit(X, Y)
    labels, chances = retriever.predict_topk(X[:50], k)
    assert all(len(set(row)) == k for row in labels)
    every = retriever.predict_proba(X[:50])
    picked = np.take_along_axis(every, labels, axis=1)
    assert_allclose(chances, picked, atol=1e-5)
    assert (np.diff(chances, axis=1) <= 0).all()


@pytest.mark.usefixtures("library")
def test_a_pickle_has_the_graph(data, monkeypatch):
    X, Y = data
    retriever = clone(SMALL).fit(X, Y)
    stored = pickle.dumps(retriever)
    monkeypatch.setattr("skdistill._retrieval.approximate_search._neighbours_of", None)
    loaded = pickle.loads(stored)
    for before, after in zip(
        retriever.predict_topk(X, 5), loaded.predict_topk(X, 5), strict=True
    ):
        assert_array_equal(before, after)
    exact = loaded.set_params(search="exact")
    assert len(pickle.dumps(exact)) < len(stored)


@pytest.mark.usefixtures("library")
def test_one_label_a_row_whose_chances_need_all(data):
    X, _ = data
    y = np.arange(400) % 40
    retriever = clone(SMALL).set_params(objective="double", mixing_weight=0.0)
    labels, chances = retriever.fit(X, y).predict_topk(X, 3)
    assert labels.shape == chances.shape == (400, 3)
    assert (chances >= 0).all()
    assert (chances <= 1).all()


def test_without_a_library_it_says_what_to_install(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(ImportError, match=r"skdistill\[search\]"):
        clone(SMALL).fit(*data)


def test_other_searches_are_refused(data):
    with pytest.raises(ValueError, match=r"'search' parameter .* Got 'annoy'"):
        clone(SMALL).set_params(search="annoy").fit(*data)
