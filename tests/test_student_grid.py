"""Searches over the student's own parameters, and over folds as one stack."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from stubs import LoggedTeacher, n_fits

from skdistill import DistillationClassifier, DistillationClassifierCV, _training
from skdistill import _distillation_cv as search_module
from skdistill._candidates import Candidate, as_cv_results
from skdistill.students import (
    EstimatorStudent,
    LinearStudent,
    MLPStudent,
    _cutting,
    _members,
)
from skdistill.students._problem import Problem, Task, label_terms, objective_terms

MLP = MLPStudent(
    (5,),
    max_iter=4,
    batch_size=32,
    learning_rate_init=0.03,
    n_folds=1,
    dtype="float64",
    device="cpu",
    random_state=0,
)
TREE = DecisionTreeClassifier(max_depth=4, random_state=0)
STACKED = {"learning_rate_init": [0.003, 0.01, 0.03], "random_state": [0, 1]}
#: Students, their grids, and how closely those of a search are those fitted alone.
SEARCHES = {
    "stacked": (MLP, STACKED, 1e-10),
    "looped": (
        MLP,
        {"hidden_layer_sizes": [(), (4, 3)], "weight_decay": [0.0, 0.1]},
        1e-10,
    ),
    "LinearStudent": (LinearStudent(tol=1e-7), {"C": [0.01, 1.0, 100.0]}, 1e-4),
    "tree": (TREE, {"max_depth": [1, 3], "min_samples_leaf": np.array([1, 5])}, 0.0),
    "wrapped": (EstimatorStudent(TREE), {"estimator__max_depth": [1, 3]}, 0.0),
    "pipeline": (
        make_pipeline(StandardScaler(), MLP),
        {"mlpstudent__learning_rate_init": [0.003, 0.03]},
        1e-10,
    ),
}


def make_search(teacher=None, student=MLP, **params):
    defaults = {
        "temperatures": (1.0, 3.0),
        "mixing_weights": (0.0, 0.5),
        "cv": 3,
        "teacher_cv": 3,
    }
    teacher = GaussianNB() if teacher is None else teacher
    return DistillationClassifierCV(teacher, student, **(defaults | params))


@pytest.fixture
def stacks(monkeypatch):
    """The members of the stacks that were trained."""
    trained = []
    train_members = _members.train_members

    def log(members, context=None):
        trained.append(list(members))
        return train_members(members, context)

    monkeypatch.setattr("skdistill.students._mlp.train_members", log)
    return trained


# -- the student's parameters ------------------------------------------------------


@pytest.mark.parametrize("name", SEARCHES)
def test_it_is_a_grid_search(name, three_classes):
    X, y = three_classes
    student, grid, atol = SEARCHES[name]
    search = make_search(student=student, student_grid=grid).fit(X, y)
    reference = GridSearchCV(
        DistillationClassifier(GaussianNB(), student, cv=3, mixing_weight=0.5),
        {
            "temperature": [1.0, 3.0],
            "mixing_weight": [0.0, 0.5],
            **{f"student__{key}": values for key, values in grid.items()},
        },
        cv=3,
        scoring="neg_log_loss",
    ).fit(X, y)
    results, expected = search.cv_results_, reference.cv_results_
    assert set(results) == set(expected)
    assert len(results["params"]) == len(expected["params"])
    for i, params in enumerate(results["params"]):
        j = expected["params"].index(params)
        for key in expected:
            if key.startswith("split"):
                assert_allclose(results[key][i], expected[key][j], rtol=0, atol=atol)
            elif key.startswith("param_"):
                assert results[key][i] == expected[key][j]
                assert results[key].dtype == expected[key].dtype
    assert search.scores_.shape == (2, 2, len(ParameterGrid(grid)), 3)
    found = search.scores_.reshape(-1, 3)
    assert_allclose(found[:, 1], results["split1_test_score"])
    assert len({tuple(scores) for scores in found}) > 4  # they do differ


@pytest.mark.parametrize("name", SEARCHES)
def test_the_refit_has_the_parameters_chosen(name, three_classes):
    X, y = three_classes
    student, grid, _ = SEARCHES[name]
    search = make_search(student=student, student_grid=grid).fit(X, y)
    best = search.best_params_
    assert set(best) == {"temperature", "mixing_weight"} | {
        f"student__{key}" for key in grid
    }
    alone = DistillationClassifier(GaussianNB(), clone(student), cv=3)
    alone.set_params(**best).fit(X, y)
    assert_allclose(search.predict_proba(X), alone.predict_proba(X), atol=1e-10)


def test_the_default_student_has_parameters(two_classes):
    X, y = two_classes
    search = make_search(
        student=None,
        student_grid={"max_iter": [1], "hidden_layer_sizes": [[3], [2, 2]]},
        random_state=3,
    ).fit(X, y)
    assert search.student_.max_iter == 1
    assert search.student_.random_state == 3
    sizes = list(search.cv_results_["param_student__hidden_layer_sizes"])
    assert sizes == [[3], [2, 2]] * 4


def test_students_of_a_stack_differ_in_rates_and_seeds(three_classes, stacks):
    X, y = three_classes
    make_search(student_grid=STACKED, refit=False).fit(X, y)
    # Three objectives of six settings and three folds in two stacks.
    assert [len(members) for members in stacks] == [27] * 2
    for members in stacks:
        rates = {m.student.learning_rate_init for m in members}
        assert rates == set(STACKED["learning_rate_init"])
        assert {m.student.random_state for m in members} == {0, 1}
    stacks.clear()
    sizes = {"hidden_layer_sizes": [(3,), (4,)]}
    make_search(student_grid=sizes, refit=False).fit(X, y)
    assert [len(members) for members in stacks] == [5, 4] * 2


def test_an_empty_grid_is_the_student_as_it_is(three_classes):
    plain, empty = (
        make_search(student=TREE, student_grid=grid).fit(*three_classes)
        for grid in (None, {})
    )
    assert empty.scores_.shape == (2, 2, 1, 3)
    assert (empty.scores_[:, :, 0] == plain.scores_).all()
    assert empty.best_params_ == plain.best_params_


def test_the_first_setting_wins_ties(three_classes):
    search = make_search(student=TREE, student_grid={"max_depth": [9, 8, 7]})
    search.set_params(mixing_weights=[1.0], temperatures=[1.0])
    search.set_params(student__min_samples_leaf=30).fit(*three_classes)
    assert np.ptp(search.cv_results_["mean_test_score"]) == 0
    assert search.best_params_["student__max_depth"] == 9


@pytest.mark.parametrize(
    ("student", "grid", "error", "message"),
    [
        (TREE, {"depth": [1]}, ValueError, "student_grid names 'depth'.*max_depth"),
        (TREE, {"estimator__max_depth": [1]}, ValueError, "'estimator__max_depth'"),
        (MLP, {"C": [1.0]}, ValueError, "names 'C', but .* It has activation"),
        (None, {"C": [1.0]}, ValueError, "names 'C', but .* It has activation"),
        (MLP, {"tol": 0.1}, ValueError, r"student_grid\['tol'\] must be a list.*0.1"),
        (MLP, {"dtype": "float64"}, ValueError, "must be a list.*got 'float64'"),
        (MLP, {"tol": []}, ValueError, r"\['tol'\] must hold at least one value"),
        (MLP, {"tol": np.array(0.1)}, ValueError, r"\['tol'\] must be a list"),
        (MLP, {"weight_decay": [-1.0]}, ValueError, "weight_decay.*MLPStudent"),
        (MLP, {"hidden_layer_sizes": [(0,)]}, ValueError, "hidden_layer_sizes"),
        (LinearStudent(), {"C": [1.0, 0.0]}, ValueError, "'C' parameter"),
        (MLP, [{"tol": [0.1]}], ValueError, "'student_grid' parameter.*dict"),
    ],
)
def test_what_the_student_does_not_have_is_refused_before_a_teacher_is_fitted(
    student, grid, error, message, fit_log, three_classes
):
    search = make_search(LoggedTeacher(fit_log), student, student_grid=grid)
    with pytest.raises(error) as caught:
        search.fit(*three_classes)
    assert re.search(f"(?s){message}", str(caught.value)), str(caught.value)
    assert n_fits(fit_log) == 0


def test_columns_have_the_types_of_a_grid_search():
    values = {"a": [1, 2], "b": ["x", "y"], "c": [(1,), (1, 2)], "d": [[1, 2], [3, 4]]}
    values["e"] = [True, False]
    candidates = [
        Candidate(1.0, 0.5, i, {name: v[i] for name, v in values.items()})
        for i in (0, 1)
    ]
    table = as_cv_results(candidates, np.zeros((2, 3)), {})
    kinds = {name: table[f"param_student__{name}"].dtype.kind for name in values}
    assert kinds == {"a": "i", "b": "O", "c": "O", "d": "O", "e": "b"}
    assert list(table["param_student__d"]) == [[1, 2], [3, 4]]


# -- folds as one stack ------------------------------------------------------------


@pytest.fixture
def gpu_limits(monkeypatch):
    """Stacks are cut as for a GPU."""
    monkeypatch.setattr(_cutting, "resolve_device", lambda device: "cuda")


@pytest.mark.parametrize("n_samples", [120, 121])
@pytest.mark.parametrize("weighted", [False, True])
def test_folds_as_one_stack_change_nothing(n_samples, weighted, stacks, monkeypatch):
    """Each fold has a table, scaling and held-out rows of its own."""
    X, y = make_classification(
        n_samples, n_features=4, n_informative=3, n_redundant=0, random_state=0
    )
    fit_params = {}
    if weighted:
        fit_params["sample_weight"] = np.random.default_rng(0).uniform(0.1, 3, len(y))
    search = make_search(student_grid={"random_state": [0, 1]}, cv=4, refit=False)
    together = clone(search).fit(X, y, **fit_params)
    sizes = [len(members) for members in stacks]
    # 120 rows make four equal folds, 121 do not.
    assert sizes == ([12, 12] if n_samples == 120 else [6, 9, 9])
    monkeypatch.setattr(MLPStudent, "_joins_folds", lambda self: False)
    stacks.clear()
    apart = clone(search).fit(X, y, **fit_params)
    assert [len(members) for members in stacks] == [6] * 4
    assert all(len({id(m.inputs) for m in members}) == 1 for members in stacks)
    assert_allclose(together.scores_, apart.scores_, rtol=0, atol=1e-10)
    assert together.best_params_ == apart.best_params_


def test_tables_of_different_inputs_are_different_stacks(frame, stacks):
    """A level that only one fold has is an input there."""
    X, y = frame
    X = X.assign(colour=X["colour"].astype(object))
    X.loc[[0, 3], "colour"] = ["pink", "grey"]
    search = make_search(OnCounts(), cv=3, refit=False).fit(X, y)
    assert np.isfinite(search.scores_).all()
    for members in stacks:
        assert len({m.student.encoder_.n_out_ for m in members}) == 1


def test_tables_of_other_embedded_columns_are_different_stacks(stacks, monkeypatch):
    """Also if they differ in one of so many columns that NumPy abbreviates them."""
    monkeypatch.setattr(_cutting, "STACK_CACHE_BYTES", 2**40)
    X = np.random.default_rng(0).normal(size=(20, 1002))
    codes = np.arange(20) % 2
    tasks = []
    for binary in (500, 501, 500):
        table = X.copy()
        table[:, binary] = codes
        problem = Problem(table, codes, codes, np.arange(2), np.ones(20), ())
        tasks.append(Task(replace(problem, terms=label_terms(codes, 2))))
    clone(MLP).set_params(max_iter=1)._fit_tasks(tasks)
    assert [len(members) for members in stacks] == [2, 1]


class OnCounts(GaussianNB):
    """A teacher that takes the table."""

    def fit(self, X, y):
        return super().fit(X[["count"]], y)

    def predict_proba(self, X):
        return super().predict_proba(X[["count"]])


@pytest.mark.parametrize("early_stopping", [False, True])
def test_members_on_several_tables_are_those_trained_alone(early_stopping):
    rng = np.random.default_rng(0)
    tasks = []
    for shift in (0.0, 3.0, 9.0):
        X, codes = rng.normal(shift, 1 + shift, (60, 4)), rng.integers(3, size=60)
        weight = rng.uniform(0.1, 3, 60)
        problem = Problem(X, codes, codes, np.arange(3), weight, ())
        for rate, temperature in ((0.03, 1.0), (0.003, 2.0)):
            soft = rng.dirichlet(np.ones(3), 60)
            terms = objective_terms(codes, soft, 0.5, temperature)
            params = {"learning_rate_init": rate, "random_state": int(shift)}
            tasks.append(Task(replace(problem, terms=terms), params))
    student = clone(MLP).set_params(
        early_stopping=early_stopping, max_iter=30, n_iter_no_change=2
    )
    stacked = student._fit_tasks(tasks)
    for task, one in zip(tasks, stacked, strict=True):
        alone = student._with(task.params)._fit_problem(task.problem)
        assert one.n_iter_ == alone.n_iter_
        assert_allclose(one.loss_curve_, alone.loss_curve_, rtol=0, atol=1e-10)
        X = task.problem.X
        assert_allclose(one.predict_proba(X), alone.predict_proba(X), atol=1e-10)
    assert len({one.n_iter_ for one in stacked}) > 1


def tensors_of(value):
    """All tensors in a training set or a stack, each once."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for one in value for tensor in tensors_of(one)]
    if hasattr(value, "__dict__"):
        return tensors_of(list(vars(value).values()))
    return []


@pytest.mark.parametrize("bound", [1, 60_000, 120_000, 10**9])
def test_stacks_stay_within_the_bound(
    bound, three_classes, stacks, gpu_limits, monkeypatch
):
    """What the tensors take, which is what a stack holds beside its first table."""
    X, y = three_classes
    whole = make_search(refit=False, cv=4).fit(X, y)
    stacks.clear()
    monkeypatch.setattr(_cutting, "STACK_BYTES", bound)
    held = []
    train = _training.train

    def log(stack, data, settings, *args):
        tensors = tensors_of([data.terms, data.weight, stack._flat, stack._gradients])
        moments = 2 * stack._flat.nbytes
        further = data.x.nbytes - data.x.nbytes // n_tables(data)
        held.append(sum(t.nbytes for t in tensors) + moments + further)
        return train(stack, data, settings, *args)

    def n_tables(data):
        return 1 if data.first_row is None else len(data.first_row.unique())

    monkeypatch.setattr(_training, "train", log)
    cut = make_search(refit=False, cv=4).fit(X, y)
    assert_allclose(cut.scores_, whole.scores_, rtol=0, atol=1e-10)
    assert sum(len(members) for members in stacks) == 3 * 4
    for members, n_bytes in zip(stacks, held, strict=True):
        assert n_bytes <= bound or len(members) == 1
    assert (len(stacks) == 12) == (bound == 1)
    assert (len(stacks) == 1) == (bound == 10**9)


@pytest.mark.parametrize("n_folds", [1, 2, 4])
def test_objectives_of_so_many_folds_are_held(
    n_folds, three_classes, stacks, gpu_limits, monkeypatch
):
    X, y = three_classes
    # Four folds of 90 rows, three students each, three classes.
    monkeypatch.setattr(search_module, "JOINT_BYTES", n_folds * 8 * 3 * 90 * 3 + 7)
    seen = []

    class Recorder:
        def setup(self, estimator, context): ...

        def teardown(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context):
            seen.append((context.task_name, context.task_id))

        def on_fit_task_end(self, estimator, context):
            return False

    make_search(cv=4, refit=False).set_callbacks(Recorder()).fit(X, y)
    assert [len(members) for members in stacks] == [3 * n_folds] * (4 // n_folds)
    assert [i for name, i in seen if name == "fold"] == [0, 1, 2, 3]
