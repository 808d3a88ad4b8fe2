"""Batches that are moved ahead of their steps are the same batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from skdistill._batch import CrossEntropyBatch, classes_first
from skdistill._stack import MLPStack
from skdistill._streaming import moved_ahead
from skdistill._training import Settings, train
from skdistill._training_set import Term, TrainingSet
from skdistill.students import MLPStudent, _members

SETTINGS = Settings(
    max_iter=4,
    batch_size=16,
    learning_rate=0.02,
    weight_decay=0.0,
    tol=1e-4,
    n_iter_no_change=2,
)


def make_batches(n_batches=4):
    rng = np.random.default_rng(0)
    for i in range(n_batches):
        factors = torch.from_numpy(rng.random((2, 5 + i, 3)))
        x = torch.from_numpy(rng.random((1, 5 + i, 4)))
        yield CrossEntropyBatch(x, [(classes_first(factors), 1.0), (factors, 2.0)])


@pytest.mark.parametrize("n_batches", [0, 1, 2, 5])
def test_nothing_is_lost_on_the_way(n_batches):
    moved = list(moved_ahead(make_batches(n_batches), "cpu"))
    assert len(moved) == n_batches
    for ours, own in zip(moved, make_batches(n_batches), strict=True):
        assert torch.equal(ours.x, own.x)
        for (a, s), (b, t) in zip(ours.terms, own.terms, strict=True):
            assert s == t
            assert torch.equal(a, b)
            assert a.stride() == b.stride()


def test_a_batch_is_on_its_way_before_the_one_ahead_is_used():
    asked = []

    def batches():
        for i, batch in enumerate(make_batches(3)):
            asked.append(i)
            yield batch

    seen = []
    for _ in moved_ahead(batches(), "cpu"):
        seen.append(len(asked))
    assert seen == [2, 3, 3]


def training_set(n_members, validated, weighted):
    rng = np.random.default_rng(0)
    order = torch.from_numpy(np.array([rng.permutation(60) for _ in range(n_members)]))
    temperatures = torch.from_numpy(rng.uniform(0.5, 3, (n_members, 1, 1)))
    targets = torch.from_numpy(rng.dirichlet(np.ones(3), (n_members, 60)))
    return TrainingSet(
        x=torch.from_numpy(rng.normal(size=(1, 60, 4))),
        terms=[Term(targets, 1.0), Term(targets, temperatures)],
        weight=torch.from_numpy(rng.uniform(0.1, 3, (1, 60))) if weighted else None,
        train_rows=order[:, :40],
        validation_rows=order[:, 40:] if validated else None,
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("validated", [False, True])
def test_streamed_and_resident_rows_train_to_the_same_bytes(validated, weighted):
    resident = training_set(4, validated, weighted)
    kept = []
    for data in (resident, replace(resident, device="cpu")):
        generators = [torch.Generator().manual_seed(g) for g in range(4)]
        stack = MLPStack(
            (4, 5, 3), "tanh", generators, device="cpu", dtype=torch.float64
        )
        train(stack, data, SETTINGS, generators)
        kept.append(stack._kept.numpy().tobytes())
    assert kept[0] == kept[1]


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_student_whose_data_do_not_fit_is_the_same(early_stopping, monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 4)), rng.integers(3, size=200)
    student = MLPStudent(
        (8,),
        max_iter=4,
        batch_size=32,
        early_stopping=early_stopping,
        device="cpu",
        random_state=0,
    )
    resident = student.fit(X, y).predict_proba(X)
    asked = []

    def fits_on(device, n_bytes):
        asked.append((device, n_bytes))
        return False

    monkeypatch.setattr(_members, "fits_on", fits_on)
    streamed = student.fit(X, y).predict_proba(X)
    # For folds, whose networks share the targets, and for all rows.
    assert asked == [("cpu", 4 * (200 * 4 + 200 * 3))] * (1 + early_stopping)
    assert streamed.tobytes() == resident.tobytes()
