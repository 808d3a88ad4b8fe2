import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skdistill import DistillationClassifier, DistillationClassifierCV
from skdistill.students import (
    EstimatorStudent,
    LinearStudent,
    MLPStudent,
    ModuleStudent,
)


def perceptron(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, 8), nn.Tanh(), nn.Linear(8, n_classes))


MLP = MLPStudent((8,), max_iter=4, batch_size=40, random_state=0)
STUDENTS = [
    MLP,
    ModuleStudent(perceptron, max_iter=4, batch_size=40, random_state=0),
    LinearStudent(),
]
by_name = pytest.mark.parametrize("student", STUDENTS, ids=lambda s: type(s).__name__)


def data(n_samples=120):
    return make_classification(
        n_samples, n_features=5, n_informative=3, flip_y=0.2, random_state=0
    )


def monitor():
    return ScoringMonitor(scoring="neg_log_loss")


class Recorder:
    """Records hooks and their data; asks to stop at the end of a given iteration."""

    def __init__(self, stop_at=None, fail_at=None):
        self.stop_at = stop_at
        self.fail_at = fail_at
        self.calls = []
        self.given = []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(
        self,
        estimator,
        context,
        *,
        X=None,
        y=None,
        metadata=None,
        fitted_estimator=None,
    ):
        self.calls.append(("end", context.task_name, context.task_id))
        self.given.append((X, y, metadata, fitted_estimator))
        if context.parent is None:
            return None
        if self.fail_at is not None and context.task_id >= self.fail_at:
            raise RuntimeError("the callback failed")
        return self.stop_at is not None and context.task_id >= self.stop_at

    def teardown(self, estimator, context):
        self.calls.append("teardown")


# -- students alone ----------------------------------------------------------------


@by_name
def test_the_score_of_every_iteration_is_logged(student):
    X, y = data()
    scores = monitor()
    student = clone(student).set_callbacks(scores).fit(X, y)
    root, *iterations = scores.get_logs().data
    assert student.n_iter_ >= 4
    assert [row["task_id"] for row in iterations] == list(range(student.n_iter_))
    assert {row["parent_task_id_path"] for row in iterations} == {(0,)}
    assert root["task_name"] == "fit"
    logged = [row["neg_log_loss"] for row in iterations]
    assert_allclose(logged[-1], -log_loss(y, student.predict_proba(X)), rtol=1e-6)
    assert_allclose(root["neg_log_loss"], logged[-1], rtol=1e-6)
    assert logged[0] < logged[-1]


@by_name
def test_watching_a_fit_does_not_change_it(student):
    X, y = data()
    plain = clone(student).fit(X, y)
    watched = clone(student).set_callbacks(Recorder(), monitor()).fit(X, y)
    assert_array_equal(watched.predict_proba(X), plain.predict_proba(X))
    assert watched.n_iter_ == plain.n_iter_


@by_name
def test_hooks_come_in_order(student):
    X, y = data()
    recorder = Recorder()
    student = clone(student).set_callbacks(recorder).fit(X, y)
    ((_, name, _),) = set(recorder.calls[2:3])
    expected = ["setup", ("begin", "fit", 0)]
    for i in range(student.n_iter_):
        expected += [("begin", name, i), ("end", name, i)]
    assert recorder.calls == [*expected, ("end", "fit", 0), "teardown"]
    assert name in ("epoch", "iteration")


@by_name
def test_hooks_are_given_the_rows_that_are_fitted(student):
    X, y = data()
    names = np.array(["a", "b"])[y]
    weight = np.arange(len(y)) % 3.0
    recorder = Recorder()
    clone(student).set_callbacks(recorder).fit(X, names, sample_weight=weight)
    for seen_X, seen_y, metadata, fitted in recorder.given:
        assert_array_equal(seen_X, X[weight > 0])
        assert_array_equal(seen_y, names[weight > 0])
        assert_array_equal(metadata["sample_weight"], weight[weight > 0])
        assert set(fitted.predict(X)) <= {"a", "b"}


@by_name
def test_the_students_handed_to_hooks_stay_as_they_were(student):
    X, y = data()
    recorder = Recorder()
    clone(student).set_callbacks(recorder).fit(X, y)
    losses = [log_loss(y, fitted.predict_proba(X)) for *_, fitted in recorder.given]
    assert len(set(losses[:-1])) == len(losses) - 1
    assert losses[-1] == losses[-2]


@by_name
def test_a_hook_that_returns_true_stops_the_training(student):
    X, y = data()
    full = clone(student).fit(X, y)
    recorder = Recorder(stop_at=1)
    student = clone(student).set_callbacks(recorder).fit(X, y)
    assert student.n_iter_ == 2 < full.n_iter_
    assert recorder.calls[-2:] == [("end", "fit", 0), "teardown"]
    last = recorder.given[-2][-1]
    assert_array_equal(student.predict_proba(X), last.predict_proba(X))
    assert np.abs(student.predict_proba(X) - full.predict_proba(X)).max() > 1e-4


def test_stopping_during_early_stopping_keeps_the_best_epoch_so_far():
    X, y = data()
    student = MLPStudent(
        (32,),
        max_iter=30,
        learning_rate_init=0.1,
        early_stopping=True,
        n_folds=1,
        n_iter_no_change=30,
        random_state=0,
    )
    student.set_callbacks(Recorder(stop_at=19)).fit(X, y)
    assert student.n_iter_ == 20
    best = int(np.argmax(student.validation_scores_))
    assert best < 19
    shorter = clone(student).set_callbacks().set_params(max_iter=best + 1).fit(X, y)
    assert_array_equal(student.predict_proba(X), shorter.predict_proba(X))


@by_name
def test_an_error_in_a_callback_leaves_the_earlier_fit_and_is_torn_down(student):
    X, y = data()
    student = clone(student).fit(X, y)
    expected = student.predict_proba(X)
    recorder = Recorder(fail_at=1)
    student.set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="the callback failed"):
        student.fit(X[:, :3], y)
    assert recorder.calls[-1] == "teardown"
    assert_array_equal(student.predict_proba(X), expected)
    assert "_callback_fit_ctx" not in vars(student)
    student.set_callbacks().fit(X[:, :3], y)
    assert student.n_features_in_ == 3


@by_name
def test_clones_keep_callbacks_and_each_run_has_its_log(student):
    X, y = data()
    scores = monitor()
    student = clone(student).set_callbacks(scores)
    copy = clone(student)
    student.fit(X, y)
    copy.fit(X, y)
    first, second = scores.get_logs(select="all")
    assert len(first.data) == len(second.data) == student.n_iter_ + 1
    assert first.run_id != second.run_id


@by_name
@pytest.mark.parametrize("callback", [monitor, ProgressBar])
def test_a_student_with_callbacks_pickles(student, callback, capsys):
    X, y = data()
    student = clone(student).set_callbacks(callback()).fit(X, y)
    loaded = pickle.loads(pickle.dumps(student))
    assert_array_equal(loaded.predict_proba(X), student.predict_proba(X))
    loaded.fit(X, y)
    capsys.readouterr()


def test_the_tree_of_another_estimator_is_one_task():
    X, y = data()
    scores = monitor()
    student = EstimatorStudent(DecisionTreeClassifier(max_depth=3))
    student.set_callbacks(scores).fit(X, y)
    (row,) = scores.get_logs().data
    assert_allclose(row["neg_log_loss"], -log_loss(y, student.predict_proba(X)))


# -- inside other estimators ---------------------------------------------------------


def test_epochs_nest_under_a_grid_search_of_a_pipeline():
    X, y = data()
    scores = monitor()
    pipeline = make_pipeline(StandardScaler(), clone(MLP).set_callbacks(scores))
    grid = {"mlpstudent__max_iter": [2, 3]}
    GridSearchCV(pipeline, grid, cv=2, refit=False).fit(X, y)
    log = scores.get_logs()
    assert log.estimator_name == "GridSearchCV"
    paths = [row["task_id_path"] for row in log.data if row["task_name"] == "epoch"]
    assert len(paths) == 2 * 2 + 2 * 3
    parents = {path[:-1] for path in paths}
    assert len(parents) == 4
    fits = {row["task_id_path"] for row in log.data if row["task_name"] == "fit"}
    assert parents == fits
    assert all(np.isfinite(row["neg_log_loss"]) for row in log.data)


@pytest.mark.parametrize("mixing_weight", [0.0, 0.5])
def test_the_epochs_of_a_distilled_student_are_logged(mixing_weight):
    X, y = data()
    scores = monitor()
    model = DistillationClassifier(
        DecisionTreeClassifier(max_depth=2),
        clone(MLP).set_callbacks(scores),
        mixing_weight=mixing_weight,
    ).fit(X, y)
    log = scores.get_logs()
    assert log.estimator_name == "DistillationClassifier"
    epochs = [row for row in log.data if row["task_name"] == "epoch"]
    assert [row["task_id"] for row in epochs] == [0, 1, 2, 3]
    loss = log_loss(y, model.predict_proba(X))
    assert_allclose(epochs[-1]["neg_log_loss"], -loss, rtol=1e-6)
    assert {len(row["task_id_path"]) for row in epochs} == {3}


def test_the_epochs_of_a_student_in_a_distilled_pipeline_are_logged():
    X, y = data()
    scores = monitor()
    student = make_pipeline(StandardScaler(), clone(MLP).set_callbacks(scores))
    DistillationClassifier(
        DecisionTreeClassifier(max_depth=2), student, mixing_weight=0.5
    ).fit(X, y)
    names = [row["task_name"] for row in scores.get_logs().data]
    assert names.count("epoch") == 4


def test_a_callback_stops_the_student_of_a_distillation():
    X, y = data()
    student = clone(MLP).set_callbacks(Recorder(stop_at=0))
    model = DistillationClassifier(
        DecisionTreeClassifier(max_depth=2), student, mixing_weight=0.5
    )
    assert model.fit(X, y).student_.n_iter_ == 1


@pytest.mark.parametrize("in_pipeline", [False, True])
@by_name
def test_students_that_are_tried_are_not_watched(student, in_pipeline):
    X, y = data()
    recorder = Recorder(stop_at=0)
    student = clone(student).set_callbacks(recorder)
    if in_pipeline:
        student = make_pipeline(StandardScaler(), student)
    teacher = DecisionTreeClassifier(max_depth=2)
    auto = DistillationClassifier(teacher, student, cv=3)
    search = DistillationClassifierCV(teacher, student, temperatures=[1.0], cv=2)
    for model in (auto, search):
        recorder.calls.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a teacher worse than the student
            model.fit(X, y)
        assert recorder.calls.count("setup") == 1


def test_the_tasks_of_a_distillation_are_soft_labels_and_training():
    X, y = data()
    recorder = Recorder()
    model = DistillationClassifier(
        DecisionTreeClassifier(max_depth=2), clone(MLP), mixing_weight=0.5
    )
    model.set_callbacks(recorder).fit(X, y)
    begun = [call[1:] for call in recorder.calls if call[0] == "begin"]
    assert begun == [("fit", 0), ("soft labels", 0), ("train student", 1)]


# -- progress bars -------------------------------------------------------------------


@by_name
def test_a_progress_bar_reaches_the_end(student, capsys):
    X, y = data()
    clone(student).set_callbacks(ProgressBar()).fit(X, y)
    shown = capsys.readouterr().out
    assert type(student).__name__ in shown
    assert "100%" in shown


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_the_progress_bar_of_a_distillation_shows_its_student(in_pipeline, capsys):
    X, y = data()
    student = make_pipeline(StandardScaler(), MLP) if in_pipeline else clone(MLP)
    model = DistillationClassifier(
        DecisionTreeClassifier(max_depth=2), student, mixing_weight=0.5
    )
    model.set_callbacks(ProgressBar(max_propagation_depth=None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y)
    shown = capsys.readouterr().out
    assert shown.count("100%") == 2
    assert "DistillationClassifier - fit" in shown
    assert "train student" in shown
    expected = pickle.loads(pickle.dumps(model)).predict_proba(X)
    assert_array_equal(model.predict_proba(X), expected)
