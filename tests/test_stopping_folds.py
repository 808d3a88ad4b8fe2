"""Networks whose number of epochs folds decide, and that learn from all rows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB

from skdistill import DistillationClassifier, DistillationRanker, _decision, _judging
from skdistill._choice import (
    ON_LABELS,
    Candidate,
    Material,
    Recipe,
    row_log_loss,
)
from skdistill._judging import best_epochs, judge, trained
from skdistill._labelled_rows import LabelledRows
from skdistill.students import MLPStudent, _members
from skdistill.students._held_out import one_part, rows_without, several_parts
from skdistill.students._members import train_members
from skdistill.students._problem import Problem, objective_terms

STUDENT = MLPStudent(
    (6,),
    max_iter=60,
    batch_size=32,
    learning_rate_init=0.02,
    n_folds=4,
    n_iter_no_change=4,
    dtype="float64",
    device="cpu",
    random_state=0,
)


def data(n_samples=150, seed=0):
    return make_classification(
        n_samples,
        n_features=6,
        n_informative=4,
        n_classes=3,
        flip_y=0.3,
        random_state=seed,
    )


def parameters(student):
    return [student.embedding_coefs_, *student.coefs_, *student.intercepts_]


def assert_same_bytes(student, other):
    for a, b in zip(parameters(student), parameters(other), strict=True):
        assert a.tobytes() == b.tobytes()


# -- the parts ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_parts_are_disjoint_equal_and_stratified(seed):
    rng = np.random.RandomState(seed)
    codes = rng.choice(5, size=rng.randint(30, 90), p=[0.5, 0.3, 0.14, 0.04, 0.02])
    n_parts = rng.randint(2, 7)
    parts = several_parts(codes, n_parts, rng)
    counts = np.bincount(codes, minlength=5)
    n_repeated = counts[counts >= 2].sum()
    assert parts.shape == (n_parts, n_repeated // n_parts)
    assert len(np.unique(parts)) == parts.size
    assert (counts[codes[parts]] >= 2).all()
    assert (np.diff(parts, axis=1) > 0).all()
    of_part = np.array([np.bincount(codes[part], minlength=5) for part in parts])
    # A class of some rows, up to n_parts - 1 of them drawn out, over the parts.
    assert (np.ptp(of_part, axis=0) <= 1).all()
    assert (of_part < counts)[:, counts > 0].all()


def test_parts_are_drawn_anew_by_each_seed():
    codes = np.repeat([0, 1], 20)
    one, same, other = (
        several_parts(codes, 4, np.random.RandomState(seed)) for seed in (0, 0, 1)
    )
    assert_array_equal(one, same)
    assert (one != other).any()


def test_rows_that_are_no_part_of_a_cut():
    rng = np.random.RandomState(0)
    assert several_parts(np.array([0, 0, 1]), 3, rng) is None
    assert several_parts(np.arange(9), 3, rng) is None
    assert one_part(np.arange(9), 3, rng) is None
    assert one_part(np.array([0, 0, 1, 1]), 1, rng).shape == (1, 2)


def test_what_is_left_keeps_its_places():
    held_out = several_parts(
        np.repeat([0, 1, 2], [11, 8, 5]), 4, np.random.RandomState(3)
    )
    rows = rows_without(24, held_out)
    for part, left in zip(held_out, rows, strict=True):
        assert_array_equal(np.sort(left), np.setdiff1d(np.arange(24), part))
    for part, left in zip(held_out[:-1], rows[:-1], strict=True):
        moved = left != rows[-1]
        assert_array_equal(rows[-1][moved], part)
        assert_array_equal(left[moved], held_out[-1])


# -- the choice --------------------------------------------------------------------


def choice(n_samples=300, added=0):
    """Return a recipe, candidates and the material of three folds."""
    X, y = data(n_samples)
    labelled = LabelledRows(X, y, y, np.arange(3), {}, {}, np.arange(n_samples))
    weight = np.random.default_rng(1).uniform(0.5, 2, n_samples)
    soft = 0.5 * np.eye(3)[y] + 0.5 / 3
    recipe = Recipe(labelled, weight, 1.0)
    folds = []
    for train, test in StratifiedKFold(3).split(X, y):
        pool = ((data(added, seed=1)[0], soft[:added]),) if added else ()
        folds.append((Material(train, {"given": soft[train]}, pool), test))
    return recipe, [ON_LABELS, Candidate("given", 0.5), Candidate("given", 1.0)], folds


@pytest.mark.parametrize("added", [0, 40])
def test_candidates_are_trained_for_the_epochs_that_rows_left_out_say(added):
    """Tried one by one, they are the best for the mean over the folds."""
    recipe, candidates, folds = choice(added=added)
    student = clone(STUDENT).set_params(
        hidden_layer_sizes=(32,),
        learning_rate_init=0.05,
        max_iter=12,
        n_iter_no_change=12,
    )
    found = best_epochs(student, recipe, [candidates] * len(folds), folds, None)
    assert len(set(found)) > 1

    tests = np.concatenate([test for _, test in folds])

    def mean_losses(n_epochs):
        losses = []
        for material, test in folds:
            fitted = trained(student, recipe, candidates, material, [n_epochs] * 3)
            probas = [one.predict_proba(recipe.labelled.X[test]) for one in fitted]
            codes = recipe.labelled.codes[test]
            losses.append([row_log_loss(codes, proba) for proba in probas])
        return np.average(np.hstack(losses), axis=1, weights=recipe.weight[tests])

    curves = np.array([mean_losses(n) for n in range(1, 13)]).T
    for n_epochs, losses in zip(found, curves, strict=True):
        # Up to the scales of the columns, in which the rows left out have a part.
        assert losses[n_epochs - 1] < losses.min() + 0.003
        assert losses.max() > losses.min() + 0.05


def test_they_are_judged_after_these_epochs():
    recipe, candidates, folds = choice()
    epochs = best_epochs(STUDENT, recipe, [candidates] * len(folds), folds, None)
    judgement = judge(STUDENT, recipe, candidates, folds, 2)
    material, test = folds[1]
    plain = clone(STUDENT).set_params(
        early_stopping=False, max_iter=epochs[1], n_iter_no_change=60
    )
    train = material.rows
    X, y = recipe.labelled.X, recipe.labelled.y
    plain._fit_distillation(
        X[train], y[train], recipe.weight[train], material.proba["given"], 0.5, 1.0
    )
    expected = row_log_loss(y[test], plain.predict_proba(X[test]))
    assert_allclose(judgement.loss[1, judgement.fold == 1], expected, rtol=1e-8)


def test_the_chosen_student_is_trained_for_the_epochs_of_the_choice(monkeypatch):
    """Rows that it held out itself would have whispered their labels to the teacher."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 4))
    P = softmax(X[:, :3], axis=1)
    y = np.array([rng.choice(3, p=p) for p in P])
    found = []

    def log(*args):
        found.append(best_epochs(*args))
        return found[-1]

    monkeypatch.setattr(_judging, "best_epochs", log)
    monkeypatch.setattr(_decision, "choose", lambda *gains: 2)
    chosen = DistillationClassifier(student=STUDENT).fit(X, y, soft_labels=P)
    assert chosen.mixing_weight_ > 0
    assert chosen.student_.n_iter_ == found[0][2]
    assert chosen.student_.validation_scores_ is None
    plain = clone(STUDENT).set_params(
        early_stopping=False, max_iter=found[0][2], n_iter_no_change=60
    )
    fixed = DistillationClassifier(
        student=plain,
        mixing_weight=chosen.mixing_weight_,
        temperature=chosen.candidates_["temperature"][2],
    ).fit(X, y, soft_labels=P)
    assert_allclose(chosen.predict_proba(X), fixed.predict_proba(X), rtol=1e-9)


def test_one_fold_or_one_network_say_nothing_of_epochs(monkeypatch):
    recipe, candidates, folds = choice()
    monkeypatch.setattr(_judging, "best_epochs", None)
    judge(STUDENT, recipe, candidates, folds[:1], None)
    single = clone(STUDENT).set_params(n_folds=1, max_iter=3)
    judge(single, recipe, candidates, folds, None)
    with pytest.raises(TypeError, match="not callable"):
        judge(STUDENT, recipe, candidates, folds, None)


# -- the student -------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_folds_decide_the_number_of_epochs_and_all_rows_are_learned(
    weighted, class_weight
):
    X, y = data()
    weight = np.random.default_rng(0).uniform(0.1, 2, len(y)) if weighted else None
    student = clone(STUDENT).set_params(class_weight=class_weight)
    student.fit(X, y, sample_weight=weight)
    assert 1 < student.n_iter_ < len(student.validation_scores_) < 60
    assert student.n_iter_ == 1 + np.argmax(student.validation_scores_)
    assert student.best_validation_score_ == student.validation_scores_.max()
    assert student.loss_curve_.shape == (student.n_iter_,)
    plain = clone(student).set_params(
        early_stopping=False, max_iter=student.n_iter_, n_iter_no_change=60
    )
    assert_same_bytes(student, plain.fit(X, y, sample_weight=weight))
    assert_allclose(student.loss_curve_, plain.loss_curve_, rtol=1e-12)


@pytest.mark.parametrize("class_weight", [None, np.array([1.0, 3.0, 0.5])])
@pytest.mark.parametrize("n_labelled", [None, 120])
def test_the_score_is_the_mean_of_networks_that_leave_a_part_out(
    n_labelled, class_weight, monkeypatch
):
    X, y = data()
    rng = np.random.default_rng(1)
    soft = rng.dirichlet(np.ones(3), len(y))
    labelled = None if n_labelled is None else np.arange(n_labelled)
    problem = Problem(
        X,
        y,
        y,
        np.arange(3),
        rng.uniform(0.5, 2, len(y)),
        objective_terms(y, soft, 0.5, 2.0),
        labelled=labelled,
        class_weight=class_weight,
    )
    # No network stops before the others.
    student = clone(STUDENT).set_params(n_iter_no_change=60, max_iter=12)
    fitted = clone(student)._fit_problem(problem)
    base, problem, inputs = student._prepared(problem)
    member = base._member(problem, inputs)
    assert member.held_out.shape[0] == 4
    assert n_labelled is None or member.held_out.max() < n_labelled
    alone = []
    whole = member.train_rows()
    for part, rows in zip(member.held_out, whole, strict=True):
        monkeypatch.setattr(_members, "rows_without", lambda n, part, rows=rows: [rows])
        _, (course,) = train_members([member._replace(held_out=part[None])])
        alone.append(course.validation_loss)
    assert_allclose(-fitted.validation_scores_, np.mean(alone, axis=0), rtol=1e-10)


def test_a_class_of_few_rows_is_learned_in_every_fold():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2, 3], [40, 40, 2, 1])
    X = rng.normal(size=(83, 2)) + 4.0 * y[:, None]
    student = clone(STUDENT).set_params(n_folds=5).fit(X, y)
    assert_array_equal(student.classes_, [0, 1, 2, 3])
    assert np.isfinite(student.validation_scores_).all()
    assert student.predict_proba(X).shape == (83, 4)


def test_students_of_a_stack_have_epochs_of_their_own():
    X, y = data()
    soft = np.full((len(y), 3), 1 / 3)
    terms = [objective_terms(y, soft, weight, 1.0) for weight in (0.0, 0.4, 0.8, 1.0)]
    problem = Problem(X, y, y, np.arange(3), np.ones(len(y)), terms[0])
    stacked = STUDENT._fit_many(problem, terms)
    assert len({student.n_iter_ for student in stacked}) > 1
    for student, own in zip(stacked, terms, strict=True):
        (alone,) = STUDENT._fit_many(problem, [own])
        assert student.n_iter_ == alone.n_iter_
        for a, b in zip(parameters(student), parameters(alone), strict=True):
            assert_allclose(a, b, rtol=0, atol=1e-10)


def test_without_soft_labels_it_is_the_student_on_labels():
    X, y = data()
    student = clone(STUDENT).fit(X, y)
    distilled = DistillationClassifier(GaussianNB(), STUDENT, mixing_weight=0.0)
    assert_same_bytes(distilled.fit(X, y).student_, student)
    assert_same_bytes(clone(STUDENT).fit(X, y), student)


@pytest.mark.parametrize("n_samples", [50, 300])
def test_auto_is_five_folds_of_few_rows(n_samples):
    X, y = data(n_samples)
    auto, five, one = (
        clone(STUDENT).set_params(max_iter=2, n_folds=n_folds).fit(X, y)
        for n_folds in ("auto", 5, 1)
    )
    assert_same_bytes(auto, five)
    assert_array_equal(auto.validation_scores_, five.validation_scores_)
    assert auto.best_validation_score_ != one.best_validation_score_


def test_there_are_no_folds_where_nothing_is_held_out():
    X, y = data(49)
    auto = clone(STUDENT).fit(X, y)
    assert auto.validation_scores_ is None
    assert_same_bytes(auto, clone(STUDENT).set_params(early_stopping=False).fit(X, y))


def test_many_rows_need_no_folds():
    X, y = data(5100)
    short = clone(STUDENT).set_params(max_iter=1, batch_size=256)
    auto = clone(short).set_params(n_folds="auto").fit(X, y)
    assert_same_bytes(auto, clone(short).set_params(n_folds=1).fit(X, y))


@pytest.mark.parametrize("early_stopping", [True, "auto"])
def test_too_many_folds_are_an_error(early_stopping):
    X, y = data(120)
    student = clone(STUDENT).set_params(n_folds=200, early_stopping=early_stopping)
    with pytest.raises(ValueError, match=r"n_folds=200 needs .* there are 1\d\d\. Use"):
        student.fit(X, y)


def test_rankings_have_no_folds():
    X, y = make_classification(200, random_state=0)
    ranker = DistillationRanker(GaussianNB(), STUDENT, mixing_weight=0.0)
    with pytest.raises(ValueError, match="n_folds must be 1 or 'auto'"):
        ranker.fit(X, y)


def test_another_seed_changes_less():
    """The spread over seeds, which is what a comparison of two students must beat."""
    X, y = make_classification(2300, n_informative=5, flip_y=0.4, random_state=0)
    X, X_test, y, y_test = X[:300], X[300:], y[:300], y[300:]
    losses = {}
    for n_folds in (1, 5):
        fits = [
            MLPStudent((32, 32), n_folds=n_folds, random_state=seed).fit(X, y)
            for seed in range(6)
        ]
        losses[n_folds] = [log_loss(y_test, s.predict_proba(X_test)) for s in fits]
    assert np.std(losses[5]) < 0.7 * np.std(losses[1])
    assert np.mean(losses[5]) < np.mean(losses[1])
