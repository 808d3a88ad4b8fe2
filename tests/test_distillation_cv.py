import pickle
import re
import threading
import warnings

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.callback import ScoringMonitor
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, get_scorer, log_loss, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import check_is_fitted
from stubs import LoggedTeacher, n_fits

from skdistill import DistillationClassifier, DistillationClassifierCV
from skdistill._candidates import Candidate, choose
from skdistill.losses import temper_proba
from skdistill.students import (
    EstimatorStudent,
    LinearStudent,
    MLPStudent,
    ModuleStudent,
)
from skdistill.teachers import EnsembleTeacher

MLP = MLPStudent(
    (5,),
    max_iter=4,
    batch_size=32,
    learning_rate_init=0.03,
    dtype="float64",
    device="cpu",
    random_state=0,
)
TREE = DecisionTreeClassifier(max_depth=4, random_state=0)
#: Students and how closely those of the grid are those fitted one by one.
STUDENTS = {
    "MLPStudent": (MLP, 1e-10),
    "LinearStudent": (LinearStudent(tol=1e-6), 1e-4),
    "tree": (TREE, 0.0),
    "pipeline": (make_pipeline(StandardScaler(), TREE), 0.0),
}
TEMPERATURES = (1.0, 3.0)
MIXING_WEIGHTS = (0.0, 0.5, 1.0)


@pytest.fixture(params=STUDENTS)
def student(request):
    return STUDENTS[request.param]


def make_search(teacher=None, student=TREE, **params):
    """A small search; `params` go before its defaults."""
    defaults = {
        "temperatures": TEMPERATURES,
        "mixing_weights": MIXING_WEIGHTS,
        "cv": 3,
        "teacher_cv": 3,
    }
    teacher = GaussianNB() if teacher is None else teacher
    return DistillationClassifierCV(teacher, student, **(defaults | params))


def grid_search(search):
    """The grid search that finds the same, one candidate after the other."""
    return GridSearchCV(
        DistillationClassifier(
            search.teacher,
            search.student,
            student_temperature=search.student_temperature,
            cv=search.teacher_cv,
            mixing_weight=0.5,
        ),
        {
            "temperature": list(search.temperatures),
            "mixing_weight": list(search.mixing_weights),
        },
        cv=search.cv,
        scoring=search.scoring,
    )


def split_scores(results, params):
    """Scores of one candidate in all folds."""
    i = results["params"].index(params)
    n_splits = sum(key.endswith("_test_score") for key in results) - 3
    return [results[f"split{k}_test_score"][i] for k in range(n_splits)]


def assert_same_results(search, reference, atol):
    results, expected = search.cv_results_, reference.cv_results_
    assert set(results) == set(expected)
    assert len(results["params"]) == len(expected["params"])
    for params in expected["params"]:
        assert_allclose(
            split_scores(results, params),
            split_scores(expected, params),
            rtol=0,
            atol=atol,
        )
    for key, values in expected.items():
        assert len(results[key]) == len(values), key
        if key == "params":
            continue
        assert isinstance(results[key], np.ma.MaskedArray) == key.startswith("param_")
        assert results[key].shape == values.shape, key
        assert results[key].dtype.kind == values.dtype.kind, key
    assert_allclose(search.best_score_, reference.best_score_, rtol=0, atol=atol)
    best = split_scores(expected, search.best_params_)
    assert_allclose(np.mean(best), reference.best_score_, rtol=0, atol=atol)
    assert search.n_splits_ == reference.n_splits_


def assert_consistent(search):
    """What is said twice is said alike."""
    results = search.cv_results_
    n_splits = search.n_splits_
    shape = len(list(search.temperatures)), len(list(search.mixing_weights)), n_splits
    assert search.scores_.shape == shape
    for k in range(n_splits):
        assert_array_equal(
            search.scores_[..., k].ravel(), results[f"split{k}_test_score"]
        )
    mean = search.scores_.mean(axis=2).ravel()
    assert_allclose(results["mean_test_score"], mean)
    assert_allclose(results["std_test_score"], search.scores_.std(axis=2).ravel())
    ranks = rankdata(-results["mean_test_score"], method="min")
    assert_array_equal(results["rank_test_score"], ranks)
    assert search.best_params_ == results["params"][search.best_index_]
    assert search.best_score_ == mean[search.best_index_]
    assert search.mixing_weight_ == search.best_params_["mixing_weight"]
    assert isinstance(search.temperature_, float)
    grid = [(t, a) for t in search.temperatures for a in search.mixing_weights]
    assert [(p["temperature"], p["mixing_weight"]) for p in results["params"]] == grid
    assert list(results["param_temperature"]) == [t for t, _ in grid]
    assert list(results["param_mixing_weight"]) == [a for _, a in grid]
    for name in ("mean_fit_time", "mean_score_time"):
        assert (results[name] >= 0).all()


# -- the result of a grid search ---------------------------------------------------


def test_it_is_a_grid_search(student, data):
    X, y = data
    estimator, atol = student
    search = make_search(student=estimator).fit(X, y)
    assert_same_results(search, grid_search(search).fit(X, y), atol)
    assert_consistent(search)


@pytest.mark.parametrize("student_temperature", ["same", 2.0])
@pytest.mark.parametrize("name", ["MLPStudent", "LinearStudent"])
def test_with_a_student_temperature(name, student_temperature, three_classes):
    X, y = three_classes
    estimator, atol = STUDENTS[name]
    search = make_search(
        student=estimator,
        student_temperature=student_temperature,
        temperatures=(0.5, 1.0, 4.0),
    ).fit(X, y)
    assert_same_results(search, grid_search(search).fit(X, y), atol)
    assert_consistent(search)


@pytest.mark.parametrize("name", ["MLPStudent", "tree"])
def test_with_sample_weights(name, three_classes):
    X, y = three_classes
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    estimator, atol = STUDENTS[name]
    search = make_search(student=estimator, temperatures=("auto", 3.0))
    search.fit(X, y, sample_weight=weight)
    reference = grid_search(search).fit(X, y, sample_weight=weight)
    assert_same_results(search, reference, atol)
    assert np.abs(search.scores_ - search.fit(X, y).scores_).max() > 1e-4


def test_a_callback_sees_folds_and_refit(two_classes):
    X, y = two_classes
    seen = []

    class Recorder:
        def setup(self, estimator, context):
            seen.append("setup")

        def teardown(self, estimator, context):
            seen.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            seen.append(context.task_name)

        def on_fit_task_end(self, estimator, context):
            return False

    make_search(student=MLP, cv=3).set_callbacks(Recorder()).fit(X, y)
    tasks = ["fit", "score grid", "fold", "fold", "fold", "refit"]
    assert seen == ["setup", *tasks, "teardown"]


def test_a_monitor_of_the_student_sees_the_epochs_of_the_refit(two_classes):
    X, y = two_classes
    monitor = ScoringMonitor(scoring="neg_log_loss")
    student = clone(MLP).set_callbacks(monitor)
    search = make_search(student=student).fit(X, y)
    logged = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(logged) == search.student_.n_iter_


@pytest.mark.parametrize("name", ["MLPStudent", "tree"])
def test_with_soft_labels_in_hand(name, three_classes, soft_labels, fit_log):
    X, y = three_classes
    estimator, atol = STUDENTS[name]
    search = make_search(LoggedTeacher(fit_log), estimator, keep_teacher=True)
    search.fit(X, y, soft_labels=soft_labels)
    assert n_fits(fit_log) == 0
    assert not hasattr(search, "teacher_")
    reference = grid_search(search).fit(X, y, soft_labels=soft_labels)
    assert_same_results(search, reference, atol)


@pytest.mark.parametrize("name", ["MLPStudent", "tree"])
@pytest.mark.parametrize("scoring", ["accuracy", "callable"])
def test_with_another_scorer(name, scoring, two_classes):
    X, y = two_classes
    if scoring == "callable":
        scoring = make_scorer(accuracy_score)
    search = make_search(student=STUDENTS[name][0], scoring=scoring).fit(X, y)
    assert_same_results(search, grid_search(search).fit(X, y), 1e-12)
    assert_consistent(search)


def test_a_scorer_may_be_a_function_of_student_inputs_and_labels(two_classes):
    X, y = two_classes

    def score(estimator, X, y):
        return -log_loss(y, estimator.predict_proba(X))

    plain = make_search(student=MLP).fit(X, y)
    search = make_search(student=MLP, scoring=score).fit(X, y)
    assert_allclose(search.scores_, plain.scores_, rtol=1e-12)


def test_with_auto_among_the_temperatures(data):
    X, y = data
    search = make_search(student=MLP, temperatures=("auto", 1.0, 2)).fit(X, y)
    assert_same_results(search, grid_search(search).fit(X, y), 1e-10)
    assert_consistent(search)
    assert search.cv_results_["param_temperature"].dtype == object


def test_auto_is_a_number_once_fitted(three_classes):
    X, y = three_classes
    params = {"temperatures": ["auto"], "mixing_weights": [1.0], "student": MLP}
    search = make_search(**params).fit(X, y)
    alone = DistillationClassifier(
        GaussianNB(), MLP, temperature="auto", mixing_weight=1.0, cv=3
    ).fit(X, y)
    assert search.best_params_ == {"temperature": "auto", "mixing_weight": 1.0}
    assert search.temperature_ == pytest.approx(alone.temperature_)
    folds = list(StratifiedKFold(3).split(X, y))
    of_folds = [clone(alone).fit(X[i], y[i]).temperature_ for i, _ in folds]
    unfitted = make_search(**params, refit=False).fit(X, y)
    assert unfitted.temperature_ == pytest.approx(np.median(of_folds))


def test_string_labels(two_classes, soft_labels, three_classes):
    X, y = three_classes
    names = np.array(["ash", "birch", "cedar"])
    coded = make_search(student=MLP).fit(X, y)
    named = make_search(student=MLP).fit(X, names[y])
    assert_array_equal(named.classes_, names)
    assert_array_equal(named.scores_, coded.scores_)
    assert_array_equal(named.predict(X), names[coded.predict(X)])
    X, y = two_classes
    named = make_search(student=MLP).fit(X, names[y])
    assert_array_equal(named.classes_, names[:2])
    assert named.decision_function(X).shape == (len(X),)


def test_grids_may_be_arrays_and_one_candidate(two_classes):
    X, y = two_classes
    search = make_search(
        temperatures=np.array([2.0]), mixing_weights=np.array([0.5])
    ).fit(X, y)
    assert search.scores_.shape == (1, 1, 3)
    assert search.best_params_ == {"temperature": 2.0, "mixing_weight": 0.5}
    assert_consistent(search)


def test_any_student_can_be_searched(two_classes):
    from torch import nn

    X, y = two_classes
    network = ModuleStudent(nn.Linear(4, 2), max_iter=3, random_state=0)
    search = make_search(student=network).fit(X, y)
    assert_same_results(search, grid_search(search).fit(X, y), 1e-6)
    assert isinstance(search.student_, ModuleStudent)
    assert isinstance(make_search().fit(X, y).student_, EstimatorStudent)


def test_the_default_student_has_the_seed(two_classes):
    X, y = two_classes
    params = {"temperatures": [1.0], "mixing_weights": [0.0], "random_state": 3}
    search = make_search(student=None, **params).fit(X, y)
    alone = MLPStudent(random_state=3).fit(X, y)
    assert_array_equal(search.predict_proba(X), alone.predict_proba(X))


def test_the_default_folds_are_five(three_classes):
    X, y = three_classes
    search = make_search(cv=None, teacher_cv=None).fit(X, y)
    assert search.n_splits_ == 5
    explicit = make_search(cv=StratifiedKFold(5), teacher_cv=StratifiedKFold(5))
    assert_array_equal(explicit.fit(X, y).scores_, search.scores_)


# -- nested: nothing is scored on rows that it has seen ----------------------------


class RowTeacher(ClassifierMixin, BaseEstimator):
    """Column 0 of X names the row; tells, for the whole class, who scored whom."""

    fits = 0
    scored = []
    lock = threading.Lock()

    def fit(self, X, y):
        with self.lock:
            type(self).fits += 1
        self.seen_ = frozenset(X[:, 0].astype(int).tolist())
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        rows = X[:, 0].astype(int).tolist()
        with self.lock:
            self.scored.append((self.seen_, rows))
        # Row i gets a probability that names it.
        first = 0.1 + 0.8 * X[:, 0] / 1000
        rest = (1 - first)[:, None] / (len(self.classes_) - 1)
        return np.column_stack([first, np.repeat(rest, len(self.classes_) - 1, axis=1)])


@pytest.fixture
def row_teacher():
    RowTeacher.fits = 0
    RowTeacher.scored.clear()
    yield RowTeacher()
    RowTeacher.scored.clear()


def with_names(X):
    return np.column_stack([np.arange(len(X)), X])


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("refit", [False, True])
def test_no_teacher_has_seen_its_row_or_the_test_rows(
    n_jobs, refit, row_teacher, three_classes
):
    X, y = three_classes
    X = with_names(X)
    make_search(row_teacher, n_jobs=n_jobs, refit=refit).fit(X, y)
    everything = frozenset(range(len(y)))
    trains = [frozenset(train) for train, _ in StratifiedKFold(3).split(X, y)]
    if refit:
        trains.append(everything)
    assert row_teacher.fits == len(row_teacher.scored) == 3 * len(trains)
    # Each teacher's rows, seen and scored, make up the training rows of one fold.
    by_fold = {train: [] for train in trains}
    for seen, scored in row_teacher.scored:
        assert seen.isdisjoint(scored)
        by_fold[seen | frozenset(scored)] += scored
    for train, scored in by_fold.items():
        assert sorted(scored) == sorted(train)


def test_each_row_gets_its_own_soft_label(row_teacher, three_classes, monkeypatch):
    """By name, through both splits, also where they shuffle."""
    X, y = three_classes
    X = with_names(X)
    problems = []
    fit_tasks = LinearStudent._fit_tasks

    def log(self, tasks, n_threads=1):
        problems.append([task.problem for task in tasks])
        return fit_tasks(self, tasks, n_threads)

    monkeypatch.setattr(LinearStudent, "_fit_tasks", log)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    make_search(
        row_teacher,
        LinearStudent(tol=1),
        cv=folds,
        teacher_cv=KFold(4, shuffle=True, random_state=1),
        temperatures=(1.0, 2.0),
        mixing_weights=(1.0,),
    ).fit(X, y)
    trains = [train for train, _ in folds.split(X, y)]
    for of_fold, rows in zip(problems, trains, strict=True):
        proba = RowTeacher().fit(X, y).predict_proba(X[rows])
        for problem, t in zip(of_fold, (1.0, 2.0), strict=True):
            assert_array_equal(problem.X[:, 0], rows)
            assert_array_equal(problem.codes, y[rows])
            ((targets, temperature),) = problem.terms
            assert temperature == 1.0
            assert_allclose(targets, temper_proba(proba, t))


def test_a_teacher_that_memorises_knows_nothing(two_classes):
    """On random labels; in-sample the same teacher repeats them."""
    X, _ = two_classes
    y = np.random.default_rng(0).integers(2, size=len(X))
    params = {"temperatures": [1.0], "mixing_weights": [1.0]}
    students = {}
    for teacher_cv in (3, "in-sample"):
        search = make_search(
            KNeighborsClassifier(1),
            DecisionTreeClassifier(random_state=0),
            teacher_cv=teacher_cv,
            scoring="accuracy",
            **params,
        ).fit(X, y)
        assert 0.35 < search.best_score_ < 0.65
        students[teacher_cv] = search.score(X, y)
    assert students["in-sample"] == 1.0
    assert students[3] < 0.7


def test_pairs_of_folds_share_teachers_that_have_seen_neither(
    three_classes, monkeypatch
):
    """Against one teacher a pair, fitted here."""
    X, y = three_classes
    weight = np.where(np.arange(len(y)) % 7 == 0, 0.0, 1.5)
    folds = list(StratifiedKFold(4, shuffle=True, random_state=0).split(X, y))
    problems = []
    fit_tasks = EstimatorStudent._fit_tasks

    def log(self, tasks, n_threads=1):
        problems.append([task.problem for task in tasks])
        return fit_tasks(self, tasks, n_threads)

    monkeypatch.setattr(EstimatorStudent, "_fit_tasks", log)
    search = make_search(
        LogisticRegression(), cv=folds, teacher_cv="shared", mixing_weights=[1.0]
    ).set_params(temperatures=[1.0])
    search.fit(X, y, sample_weight=weight)
    present = weight > 0
    by_fold = np.empty((len(y), 3))
    for k, (train, test) in enumerate(folds):
        ((problem,), expected) = problems[k], np.empty((len(y), 3))
        rows = train[present[train]]
        for j, (other_train, other_test) in enumerate(folds):
            if j != k:
                both = np.intersect1d(rows, other_train)
                teacher = LogisticRegression().fit(X[both], y[both], weight[both])
                expected[other_test] = teacher.predict_proba(X[other_test])
        assert_array_equal(problem.X, X[rows])
        ((targets, _),) = problem.terms
        assert_allclose(targets, expected[rows], rtol=0, atol=1e-12)
        teacher = LogisticRegression().fit(X[rows], y[rows], weight[rows])
        by_fold[test] = teacher.predict_proba(X[test])
    alone = EstimatorStudent(TREE).fit(X, y, weight, soft_labels=by_fold)
    assert_allclose(search.predict_proba(X), alone.predict_proba(X), atol=1e-12)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_shared_teachers_are_few(n_jobs, fit_log, three_classes):
    X, y = three_classes
    search = make_search(
        LoggedTeacher(fit_log), MLP, cv=5, teacher_cv="shared", n_jobs=n_jobs
    ).fit(X, y)
    assert n_fits(fit_log) == 10 + 5
    assert (search.cv_results_["mean_fit_time"] > 0).all()
    one = clone(search).set_params(n_jobs=None).fit(X, y)
    assert_array_equal(search.scores_, one.scores_)


@pytest.mark.parametrize(
    ("cv", "shared"),
    [
        (5, True),
        (StratifiedKFold(6, shuffle=True, random_state=0), True),
        (4, False),
        (ShuffleSplit(5, random_state=0), False),
    ],
)
def test_teachers_are_shared_unasked_by_five_folds_or_more(cv, shared, three_classes):
    X, y = three_classes
    search = make_search(cv=cv, teacher_cv="auto").fit(X, y)
    explicit = clone(search).set_params(teacher_cv="shared" if shared else None)
    assert_array_equal(search.scores_, explicit.fit(X, y).scores_)
    assert DistillationClassifierCV().teacher_cv == "auto"


@pytest.mark.parametrize("case", ["soft labels", "frozen", "labels alone"])
def test_nothing_is_shared_where_nothing_is_fitted(
    case, fit_log, three_classes, soft_labels
):
    X, y = three_classes
    teacher = LoggedTeacher(fit_log)
    params = {"mixing_weights": [0.0]} if case == "labels alone" else {}
    if case == "frozen":
        teacher = FrozenEstimator(teacher.fit(X, y))
    search = make_search(teacher, teacher_cv="shared", **params)
    fit_params = {"soft_labels": soft_labels} if case == "soft labels" else {}
    search.fit(X, y, **fit_params)
    assert n_fits(fit_log) == (1 if case == "frozen" else 0)
    apart = clone(search).set_params(teacher_cv=3).fit(X, y, **fit_params)
    assert_array_equal(search.scores_, apart.scores_)


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (2, "at least 3 folds.*cv has 2"),
        (ShuffleSplit(4, random_state=0), "exactly one test fold"),
        ([(np.arange(120), np.arange(120))], "no training part of that fold"),
    ],
)
def test_folds_that_cannot_share_teachers_are_refused(cv, message, refused):
    refused(
        ValueError, "teacher_cv='shared'", f"(?s){message}", cv=cv, teacher_cv="shared"
    )


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_the_teacher_is_fitted_once_a_fold_for_the_whole_grid(
    n_jobs, fit_log, three_classes
):
    X, y = three_classes
    make_search(
        LoggedTeacher(fit_log),
        cv=4,
        teacher_cv=3,
        temperatures=("auto", 0.5, 1.0, 2.0),
        mixing_weights=(0.0, 0.2, 0.9, 1.0),
        n_jobs=n_jobs,
    ).fit(X, y)
    assert n_fits(fit_log) == 4 * 3 + 3


def test_without_a_refit_the_teacher_is_fitted_for_the_folds_only(
    fit_log, three_classes
):
    X, y = three_classes
    make_search(LoggedTeacher(fit_log), cv=4, refit=False).fit(X, y)
    assert n_fits(fit_log) == 4 * 3


def test_in_sample_the_teacher_is_fitted_once_a_fold(fit_log, three_classes):
    X, y = three_classes
    make_search(
        LoggedTeacher(fit_log), cv=4, teacher_cv="in-sample", mixing_weights=[0.5]
    ).fit(X, y)
    assert n_fits(fit_log) == 4 + 1


def test_labels_alone_need_no_teacher(fit_log, three_classes):
    X, y = three_classes
    search = make_search(
        LoggedTeacher(fit_log),
        MLP,
        mixing_weights=[0.0],
        temperatures=("auto", 2.0, 0.5),
        keep_teacher=True,
    ).fit(X, y)
    assert n_fits(fit_log) == 0
    assert not hasattr(search, "teacher_")
    assert (search.scores_ == search.scores_[:1]).all()
    assert_consistent(search)


def test_a_frozen_teacher_is_not_fitted(fit_log, three_classes):
    X, y = three_classes
    teacher = LoggedTeacher(fit_log).fit(X, y)
    search = make_search(FrozenEstimator(teacher), MLP).fit(X, y)
    assert n_fits(fit_log) == 1
    given = make_search(student=MLP).fit(X, y, soft_labels=teacher.predict_proba(X))
    assert_array_equal(search.scores_, given.scores_)


def test_with_memory_a_second_search_fits_no_teacher(fit_log, three_classes, tmp_path):
    X, y = three_classes
    search = make_search(LoggedTeacher(fit_log), memory=str(tmp_path / "cache"))
    first = clone(search).fit(X, y)
    assert n_fits(fit_log) == 3 * 3 + 3
    second = clone(search).set_params(temperatures=(1.0, 3.0, 9.0)).fit(X, y)
    assert n_fits(fit_log) == 3 * 3 + 3
    assert_array_equal(second.scores_[:2], first.scores_)


def test_memory_is_shared_with_the_single_classifier(fit_log, three_classes, tmp_path):
    X, y = three_classes
    memory = str(tmp_path / "cache")
    teacher = LoggedTeacher(fit_log)
    make_search(teacher, memory=memory).fit(X, y)
    before = n_fits(fit_log)
    DistillationClassifier(teacher, TREE, cv=3, memory=memory, mixing_weight=0.5).fit(
        X, y
    )
    assert n_fits(fit_log) == before


# -- the refit ---------------------------------------------------------------------


def test_the_student_is_the_one_of_the_best_candidate_on_all_rows(student, data):
    X, y = data
    estimator, _ = student
    search = make_search(student=estimator, mixing_weights=(0.3, 0.9)).fit(X, y)
    alone = DistillationClassifier(
        GaussianNB(), estimator, cv=3, **search.best_params_
    ).fit(X, y)
    assert_allclose(search.predict_proba(X), alone.predict_proba(X), rtol=0, atol=1e-10)
    assert search.temperature_ == alone.temperature_
    assert search.mixing_weight_ == alone.mixing_weight_
    assert type(search.student_) is type(alone.student_)
    assert_array_equal(search.student_.classes_, alone.student_.classes_)
    assert_array_equal(search.predict(X), alone.predict(X))
    assert_array_equal(search.student_.predict(X), alone.predict(X))


@pytest.mark.parametrize("student_temperature", ["same", 2.0])
def test_the_refit_has_the_student_temperature(student_temperature, three_classes):
    X, y = three_classes
    params = {"student_temperature": student_temperature}
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    search = make_search(
        student=MLP, temperatures=[3.0], mixing_weights=[0.7], **params
    ).fit(X, y, sample_weight=weight)
    alone = DistillationClassifier(
        GaussianNB(), MLP, cv=3, temperature=3.0, mixing_weight=0.7, **params
    ).fit(X, y, sample_weight=weight)
    assert_allclose(search.predict_proba(X), alone.predict_proba(X), rtol=0, atol=1e-10)


def test_without_a_refit_there_is_no_student(three_classes):
    X, y = three_classes
    search = make_search(refit=False, keep_teacher=True).fit(X, y)
    assert_consistent(search)
    assert_array_equal(search.classes_, np.unique(y))
    assert not hasattr(search, "student_")
    assert not hasattr(search, "teacher_")
    for method in (
        "predict",
        "predict_proba",
        "predict_log_proba",
        "decision_function",
    ):
        with pytest.raises(NotFittedError, match="refit=False"):
            getattr(search, method)(X)


def test_before_fit_it_is_not_fitted(three_classes):
    with pytest.raises(NotFittedError):
        make_search().predict(three_classes[0])


def test_a_second_fit_forgets_the_first(three_classes, two_classes):
    search = make_search(mixing_weights=[0.5], keep_teacher=True)
    search.fit(*three_classes)
    assert hasattr(search, "teacher_")
    search.set_params(refit=False).fit(*two_classes)
    assert not hasattr(search, "student_")
    assert not hasattr(search, "teacher_")
    assert_array_equal(search.classes_, [0, 1])


def test_a_failed_fit_leaves_the_first(three_classes):
    X, y = three_classes
    search = make_search(mixing_weights=[0.5], keep_teacher=True).fit(X, y)
    proba, before = search.predict_proba(X), vars(search).copy()
    with pytest.raises(ValueError, match="temperatures"):
        search.set_params(temperatures=[0.0]).fit(X, y)
    with pytest.raises(ValueError, match="n_splits"):
        search.set_params(temperatures=TEMPERATURES, cv=1000).fit(X, y)
    assert_array_equal(search.predict_proba(X), proba)
    assert search.cv_results_ is before["cv_results_"]
    assert search.teacher_ is before["teacher_"]


@pytest.mark.parametrize("mixing_weight", [0.0, 0.5])
@pytest.mark.parametrize("keep_teacher", [False, True])
def test_the_teacher_is_kept_if_it_was_used(
    keep_teacher, mixing_weight, fit_log, three_classes
):
    X, y = three_classes
    search = make_search(
        LoggedTeacher(fit_log),
        mixing_weights=[mixing_weight],
        keep_teacher=keep_teacher,
    ).fit(X, y)
    kept = keep_teacher and mixing_weight > 0
    assert hasattr(search, "teacher_") == kept
    assert n_fits(fit_log) == (3 * 3 + 3 if mixing_weight else 0) + kept
    if kept:
        check_is_fitted(search.teacher_)
        expected = GaussianNB(var_smoothing=1e-3).fit(X, y).predict_proba(X)
        assert_allclose(search.teacher_.predict_proba(X), expected)


# -- the choice --------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [TREE, MLP], ids=["tree", "MLPStudent"])
def test_labels_alone_win_ties(estimator, data):
    """One-hot soft labels are the labels, whatever temperature and weight."""
    X, y = data
    search = make_search(
        student=estimator, temperatures=(4.0, 1.0), mixing_weights=(1.0, 0.5, 0.0)
    )
    search.fit(X, y, soft_labels=np.eye(len(np.unique(y)))[y])
    scores = search.cv_results_["mean_test_score"]
    assert_allclose(scores, scores[0], rtol=1e-6)
    assert search.best_params_ == {"temperature": 1.0, "mixing_weight": 0.0}


def test_among_equals_the_temperature_is_the_one_nearest_to_one(two_classes):
    X, y = two_classes
    search = make_search(temperatures=(0.25, 3.0, 0.5), mixing_weights=(1.0, 0.5))
    search.fit(X, y, soft_labels=np.eye(2)[y])
    assert search.best_params_ == {"temperature": 0.5, "mixing_weight": 0.5}


def test_one_standard_error_takes_the_smallest_mixing_weight_that_will_do(
    three_classes,
):
    X, y = three_classes
    # Better than the labels, but within the noise of three folds.
    soft_labels = LogisticRegression(C=0.3).fit(X, y).predict_proba(X)
    params = {
        "temperatures": (0.5, 2.0, 1.0),
        "mixing_weights": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        "student": clone(MLP).set_params(max_iter=60, early_stopping=False),
    }
    best = make_search(**params).fit(X, y, soft_labels=soft_labels)
    search = make_search(**params, one_standard_error=True)
    search.fit(X, y, soft_labels=soft_labels)
    assert_array_equal(search.scores_, best.scores_)
    scores = search.scores_.reshape(-1, 3)
    top = scores[best.best_index_]
    bound = top.mean() - np.std(top, ddof=1) / np.sqrt(3)
    candidates = [
        (p["mixing_weight"], abs(np.log(p["temperature"])))
        for p, score in zip(search.cv_results_["params"], scores, strict=True)
        if score.mean() >= bound
    ]
    mixing_weight, distance = min(candidates)
    assert search.best_params_["mixing_weight"] == mixing_weight
    assert abs(np.log(search.best_params_["temperature"])) == distance
    assert mixing_weight < best.best_params_["mixing_weight"]
    assert_consistent(search)
    alone = DistillationClassifier(student=params["student"], **search.best_params_)
    alone.fit(X, y, soft_labels=soft_labels)
    assert_allclose(search.predict_proba(X), alone.predict_proba(X), atol=1e-10)


def test_one_standard_error_of_a_table():
    candidates = [Candidate(t, a) for t in (2.0, "auto", 0.5) for a in (0.5, 1.0)]
    scores = np.array(
        [
            [-0.6, -0.6, -0.6, -0.6],
            [-0.6, -0.2, -0.6, -0.2],  # the best: -0.4, standard error 0.115
            [-0.7, -0.3, -0.7, -0.3],
            [-0.5, -0.5, -0.5, -0.5],
            [-0.5, -0.4, -0.5, -0.4],  # within it, and the smallest mixing weight
            [-0.9, -0.9, -0.9, -0.9],
        ]
    )
    assert choose(candidates, scores, False) == 1
    assert choose(candidates, scores, True) == 2
    assert choose(candidates, scores - np.eye(6)[2][:, None], True) == 4


def test_a_score_that_is_nan_does_not_win():
    candidates = [Candidate(1.0, a) for a in (0.0, 0.5, 1.0)]
    scores = np.array([[np.nan, 1.0], [0.5, 0.5], [0.7, 0.6]])
    assert choose(candidates, scores, False) == 2
    assert choose(candidates, scores, True) == 2


def test_a_class_rarer_than_the_folds_is_scored(three_classes):
    """Some folds neither learn nor score it: a warning, as of scikit-learn's."""
    X, y = three_classes
    y = np.where(np.arange(len(y)) < 3, 3, y)
    search = make_search(student=LinearStudent(), cv=5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(X, y)
    assert any("least populated class" in str(w.message) for w in caught)
    assert np.isfinite(search.scores_).all()
    labels_only = make_search(student=TREE, cv=5, mixing_weights=[0.0])
    with pytest.warns(UserWarning, match="The least populated class in y has only 3"):
        labels_only.fit(X, y)
    with pytest.warns(UserWarning, match="The least populated class in y has only 3"):
        folds = list(StratifiedKFold(5).split(X, y))
    expected = []
    for train, test in folds:
        proba = clone(TREE).fit(X[train], y[train]).predict_proba(X[test])
        expected.append(-log_loss(y[test], proba, labels=[0, 1, 2, 3]))
    assert_allclose(labels_only.scores_[0, 0], expected)


# -- weights -----------------------------------------------------------------------


def test_rows_of_weight_zero_are_as_if_absent(three_classes):
    X, y = three_classes
    rng = np.random.default_rng(0)
    n_absent = 20
    X_more = np.concatenate([X, 5 + X[:n_absent]])
    y_more = np.concatenate([y, rng.permutation(y[:n_absent])])
    weight = np.concatenate([rng.uniform(0.5, 2, len(y)), np.zeros(n_absent)])
    order = rng.permutation(len(y_more))
    position = np.argsort(order)
    folds = list(StratifiedKFold(3).split(X, y))
    absent = np.arange(len(y), len(y_more))
    more = [
        (position[np.concatenate([train, absent])], position[test])
        for train, test in folds
    ]
    # The rows keep their order: the teacher's folds within each follow from it.
    more = [(np.array(sorted(t, key=lambda r: order[r])), test) for t, test in more]
    student = LinearStudent(tol=1e-8)
    params = {"temperatures": ("auto", 2.0), "refit": False}
    whole = make_search(student=student, cv=folds, **params)
    whole.fit(X, y, sample_weight=weight[: len(y)])
    search = make_search(student=student, cv=more, **params)
    search.fit(X_more[order], y_more[order], sample_weight=weight[order])
    assert_allclose(search.scores_, whole.scores_, rtol=0, atol=1e-6)
    assert search.temperature_ == pytest.approx(whole.temperature_, rel=1e-6)
    # Once more with the absent rows at the end, so that the refit has the same folds.
    more = [(np.concatenate([train, absent]), test) for train, test in folds]
    whole.set_params(refit=True).fit(X, y, sample_weight=weight[: len(y)])
    search.set_params(refit=True, cv=more).fit(X_more, y_more, sample_weight=weight)
    assert search.best_params_ == whole.best_params_
    assert_allclose(search.predict_proba(X), whole.predict_proba(X), rtol=0, atol=1e-6)


def test_soft_labels_of_absent_rows_are_left_out(three_classes, soft_labels):
    X, y = three_classes
    weight = np.ones(len(y))
    weight[::7] = 0
    present = weight > 0
    folds = list(StratifiedKFold(3).split(X[present], y[present]))
    rows = np.flatnonzero(present)
    absent = np.flatnonzero(~present)
    more = [(np.sort(np.r_[rows[train], absent]), rows[test]) for train, test in folds]
    search = make_search(student=MLP, cv=more)
    search.fit(X, y, sample_weight=weight, soft_labels=soft_labels)
    whole = make_search(student=MLP, cv=folds)
    whole.fit(X[present], y[present], soft_labels=soft_labels[present])
    assert_allclose(search.scores_, whole.scores_, rtol=0, atol=1e-10)
    assert_allclose(search.predict_proba(X), whole.predict_proba(X), rtol=0, atol=1e-10)


# -- scikit-learn's ways -----------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", STUDENTS)
def test_n_jobs_changes_nothing(name, dtype, three_classes):
    X, y = three_classes
    estimator = clone(STUDENTS[name][0])
    if name == "MLPStudent":
        estimator.set_params(dtype=dtype, early_stopping=True)
    one, two = (
        make_search(student=estimator, n_jobs=n_jobs).fit(X, y) for n_jobs in (None, 2)
    )
    assert one.scores_.tobytes() == two.scores_.tobytes()
    assert one.predict_proba(X).tobytes() == two.predict_proba(X).tobytes()
    assert one.best_params_ == two.best_params_


def test_threads_leave_the_filters_of_warnings_alone(two_classes):
    search = make_search(student=LinearStudent(), cv=15, n_jobs=4, mixing_weights=[1.0])
    before = list(warnings.filters)
    for _ in range(4):
        search.fit(*two_classes)
        assert warnings.filters == before


def test_as_the_last_step_of_a_pipeline(two_classes):
    X, y = two_classes
    pipeline = make_pipeline(StandardScaler(), make_search(student=MLP)).fit(X, y)
    scaled = StandardScaler().fit_transform(X)
    alone = make_search(student=MLP).fit(scaled, y)
    assert_array_equal(pipeline.predict_proba(X), alone.predict_proba(scaled))
    clone(pipeline).fit(X, y, distillationclassifiercv__sample_weight=np.ones(len(y)))


def test_it_can_be_cloned_and_pickled(two_classes):
    X, y = two_classes
    search = make_search(student=MLP, temperatures=(1.0, "auto")).fit(X, y)
    restored = pickle.loads(pickle.dumps(search))
    assert_array_equal(restored.predict_proba(X), search.predict_proba(X))
    assert_array_equal(restored.scores_, search.scores_)
    copy = clone(search)
    assert not hasattr(copy, "student_")
    assert copy.temperatures == search.temperatures
    assert_array_equal(copy.fit(X, y).predict_proba(X), search.predict_proba(X))


def test_it_can_be_cross_validated(two_classes):
    X, y = two_classes
    search = make_search(mixing_weights=(0.0, 1.0))
    scores = cross_val_score(search, X, y, cv=3, scoring="neg_log_loss")
    expected = [
        -log_loss(y[test], clone(search).fit(X[train], y[train]).predict_proba(X[test]))
        for train, test in StratifiedKFold(3).split(X, y)
    ]
    assert_allclose(scores, expected)


def test_parameters_of_teacher_and_student_can_be_set():
    search = make_search(student=clone(MLP))
    search.set_params(teacher__var_smoothing=0.1, student__max_iter=3)
    assert search.teacher.var_smoothing == 0.1
    assert search.student.max_iter == 3


def test_frames_reach_teacher_and_student(frame):
    X, y = frame
    X = X[["size", "count"]].fillna(0.0)
    search = make_search(temperatures=[1.0], mixing_weights=[0.5]).fit(X, y)
    assert_array_equal(search.feature_names_in_, ["size", "count"])
    assert_array_equal(search.student_.feature_names_in_, ["size", "count"])
    assert set(search.predict(X)) <= {"no", "yes"}


@pytest.mark.parametrize("inner", [True, False], ids=["both", "outer only"])
def test_groups_reach_both_splitters(inner, row_teacher, three_classes):
    X, y = three_classes
    X = with_names(X)
    groups = np.random.default_rng(0).integers(12, size=len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        search = make_search(
            row_teacher, cv=GroupKFold(3), teacher_cv=GroupKFold(4) if inner else 4
        ).fit(X, y, groups=groups)
    assert search.n_splits_ == 3
    assert row_teacher.fits == 3 * 4 + 4
    by_hand = make_search(cv=list(GroupKFold(3).split(X, y, groups)), teacher_cv=4)
    if not inner:
        by_hand.set_params(teacher=RowTeacher()).fit(X, y)
        assert_array_equal(by_hand.scores_, search.scores_)
        return
    for seen, scored in row_teacher.scored:
        assert not set(groups[list(seen)]) & set(groups[scored])
        # Whole groups are left to the test rows of the outer fold.
        rows = sorted(seen | set(scored))
        others = np.setdiff1d(np.arange(len(y)), rows)
        assert not set(groups[rows]) & set(groups[others])


def test_metadata_nobody_asks_for_is_refused(three_classes):
    X, y = three_classes
    with (
        sklearn.config_context(enable_metadata_routing=True),
        pytest.raises(TypeError, match="groups"),
    ):
        make_search().fit(X, y, groups=y)
    with pytest.raises(ValueError, match="groups"):
        make_search().fit(X, y, groups=y)


def test_weights_are_routed_to_the_teacher(three_classes):
    X, y = three_classes
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    plain = make_search(student=MLP).fit(X, y, sample_weight=weight)
    with sklearn.config_context(enable_metadata_routing=True):
        teacher = GaussianNB().set_fit_request(sample_weight=True)
        scorer = get_scorer("neg_log_loss").set_score_request(sample_weight=True)
        search = make_search(teacher, MLP, scoring=scorer)
        search.fit(X, y, sample_weight=weight)
        ignored = make_search(
            GaussianNB().set_fit_request(sample_weight=False), MLP, scoring=scorer
        ).fit(X, y, sample_weight=weight)
    assert_array_equal(search.scores_, plain.scores_)
    assert np.abs(ignored.scores_ - plain.scores_).max() > 1e-4


def test_weights_are_routed_to_the_scorer_beside_a_frozen_teacher(three_classes):
    """An ensemble of frozen teachers learns nothing either, but has a request."""
    X, y = three_classes
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    frozen = FrozenEstimator(GaussianNB().fit(X, y))
    for teacher in (frozen, EnsembleTeacher([frozen])):
        plain = make_search(teacher).fit(X, y, sample_weight=weight)
        with sklearn.config_context(enable_metadata_routing=True):
            scorer = get_scorer("neg_log_loss").set_score_request(sample_weight=True)
            search = make_search(teacher, scoring=scorer)
            search.fit(X, y, sample_weight=weight)
            unset = make_search(teacher)
            with pytest.raises(UnsetMetadataPassedError, match="log_loss"):
                unset.fit(X, y, sample_weight=weight)
        assert_array_equal(search.scores_, plain.scores_)


def test_scoring_that_takes_no_weights_is_warned_of(three_classes):
    """As by GridSearchCV: students are weighted, scores are not."""
    X, y = three_classes
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))

    def hits(y_true, y_pred):
        return float((y_true == y_pred).mean())

    def of_model(model, X, y):
        return hits(y, model.predict(X))

    found = []
    for scoring in (make_scorer(hits), of_model):
        search = make_search(student=MLP, scoring=scoring)
        with pytest.warns(UserWarning, match="takes no sample_weight"):
            found.append(search.fit(X, y, sample_weight=weight).scores_)
        search.fit(X, y)  # no weights, no warning
    assert_array_equal(*found)

    def weighted(model, X, y, sample_weight=None):
        return accuracy_score(y, model.predict(X), sample_weight=sample_weight)

    searches = [
        make_search(student=MLP, scoring=scoring).fit(X, y, sample_weight=weight)
        for scoring in (weighted, "accuracy")
    ]
    assert_array_equal(searches[0].scores_, searches[1].scores_)
    assert np.abs(searches[0].scores_ - found[0]).max() > 0


@pytest.mark.parametrize("routing", [True, False])
def test_a_fold_may_lack_a_rare_class(routing, three_classes):
    X, y = three_classes
    y = np.where(y == 2, 1, y)
    y[0] = 2
    with (
        sklearn.config_context(enable_metadata_routing=routing),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of a class of one row
        scores = make_search(student=MLP, cv=3, teacher_cv=None).fit(X, y).scores_
    assert np.isfinite(scores).all()


# -- errors ------------------------------------------------------------------------


@pytest.fixture
def refused(fit_log, three_classes):
    """Check that a fit fails before a teacher is fitted."""

    def check(error, *messages, fit_params=None, **params):
        search = make_search(LoggedTeacher(fit_log), LinearStudent(), **params)
        with pytest.raises(error) as caught:
            search.fit(*three_classes, **(fit_params or {}))
        for message in messages:
            assert re.search(message, str(caught.value)), str(caught.value)
        assert n_fits(fit_log) == 0
        assert not hasattr(search, "classes_")

    return check


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("temperatures", 0, r"\(0.0, inf\) or 'auto'"),
        ("temperatures", -1.0, r"\(0.0, inf\) or 'auto'"),
        ("temperatures", np.nan, r"\(0.0, inf\) or 'auto'"),
        ("temperatures", np.inf, r"\(0.0, inf\) or 'auto'"),
        ("temperatures", "hot", r"\(0.0, inf\) or 'auto'"),
        ("temperatures", None, r"\(0.0, inf\) or 'auto'"),
        ("mixing_weights", 1.5, r"\[0.0, 1.0\]"),
        ("mixing_weights", -0.1, r"\[0.0, 1.0\]"),
        ("mixing_weights", np.nan, r"\[0.0, 1.0\]"),
        ("mixing_weights", "auto", r"\[0.0, 1.0\]"),
    ],
)
def test_values_of_the_grid_are_refused_with_what_is_allowed(
    name, value, allowed, refused
):
    refused(ValueError, name, allowed, f"{value!r}", **{name: [0.5, value]})


@pytest.mark.parametrize("name", ["temperatures", "mixing_weights"])
@pytest.mark.parametrize("values", [(), [], np.array([])])
def test_an_empty_grid_is_refused(name, values, refused):
    refused(ValueError, name, "at least one value", "none", **{name: values})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("temperatures", 2.0, "array-like"),
        ("mixing_weights", 0.5, "array-like"),
        ("temperatures", "auto", "array-like"),
        ("cv", "in-sample", "an iterable or None"),
        ("teacher_cv", "out-of-sample", "'in-sample'"),
        ("teacher_cv", 1, r"\[2, inf\)"),
        ("scoring", "neg_loss", "neg_log_loss"),
        ("refit", "best", "bool"),
        ("one_standard_error", None, "bool"),
        ("keep_teacher", "no", "bool"),
        ("student_temperature", 0, r"\(0.0, inf\).*'same'"),
        ("n_jobs", 1.5, "int"),
    ],
)
def test_parameters_are_refused_with_what_is_allowed(name, value, allowed, refused):
    refused(
        ValueError,
        rf"(?s)'{name}' parameter of DistillationClassifierCV .*{allowed}",
        re.escape(f"Got {value!r}"),
        **{name: value},
    )


def test_auto_needs_out_of_fold_probabilities(refused):
    refused(
        ValueError,
        "temperatures",
        "'auto'",
        "teacher_cv='in-sample'",
        temperatures=[1.0, "auto"],
        teacher_cv="in-sample",
    )


def test_auto_is_fine_where_no_row_was_learnt_in_the_search(three_classes, soft_labels):
    """In-sample is what is asked of frozen teachers and soft labels anyway."""
    X, y = three_classes
    settings = {"temperatures": ["auto"], "teacher_cv": "in-sample"}
    frozen = FrozenEstimator(GaussianNB().fit(X, y))
    for search, given in [
        (make_search(frozen, **settings), {}),
        (make_search(**settings), {"soft_labels": soft_labels}),
    ]:
        search.fit(X, y, **given)
        assert search.temperature_ > 0
        out_of_fold = clone(search).set_params(teacher_cv=3).fit(X, y, **given)
        assert_array_equal(search.scores_, out_of_fold.scores_)


def test_one_fold_has_no_standard_error(refused, three_classes):
    rows = np.arange(len(three_classes[1]))
    fold = [(rows[::2], rows[1::2])]
    search = make_search(cv=fold).fit(*three_classes)
    assert search.scores_.shape[-1] == 1
    refused(
        ValueError,
        "one_standard_error=True",
        "2 folds",
        cv=fold,
        one_standard_error=True,
    )


@pytest.mark.parametrize("one_standard_error", [False, True])
def test_scores_that_are_all_nan_choose_nothing(one_standard_error, two_classes):
    search = make_search(
        scoring=lambda estimator, X, y: np.nan, one_standard_error=one_standard_error
    )
    with pytest.raises(ValueError, match="scoring is NaN"):
        search.fit(*two_classes)
    assert not hasattr(search, "classes_")


@pytest.mark.parametrize("one_standard_error", [False, True])
def test_an_infinite_score_is_the_best(one_standard_error, two_classes):
    X, y = two_classes

    def score(estimator, X, y):
        return np.inf if estimator.C == 2.0 else estimator.score(X, y)

    search = make_search(
        scoring=score,
        student=LinearStudent(),
        student_grid={"C": [1.0, 2.0]},
        one_standard_error=one_standard_error,
    )
    with np.errstate(invalid="ignore"):  # of the deviation of infinite scores
        search.fit(X, y)
    assert search.best_params_["student__C"] == 2.0
    assert search.best_score_ == np.inf


@pytest.mark.parametrize("returned", ["0.5", None, {"accuracy": 0.5}, np.zeros(2)])
def test_a_score_that_is_no_number_is_refused(returned, two_classes):
    search = make_search(scoring=lambda estimator, X, y: returned)
    with pytest.raises(ValueError, match=r"^scoring must return a number, got"):
        search.fit(*two_classes)


@pytest.mark.parametrize(
    "params",
    [
        {"student_temperature": 2.0},
        {"student_temperature": "same"},
        {"student_temperature": "same", "temperatures": ["auto"]},
    ],
)
def test_a_tree_has_no_logits_to_divide(params, fit_log, two_classes):
    search = make_search(LoggedTeacher(fit_log), **params)
    with pytest.raises(ValueError, match=r"student_temperature=.*DecisionTree"):
        search.fit(*two_classes)
    assert n_fits(fit_log) == 0
    # Where no candidate would divide them it is as good as any.
    search.set_params(mixing_weights=[0.0]).fit(*two_classes)
    search.set_params(
        student_temperature="same", temperatures=[1.0], mixing_weights=[0.5]
    ).fit(*two_classes)


def test_soft_labels_are_checked(refused, soft_labels):
    for bad, message in [
        (soft_labels[:-1], "soft_labels"),
        (soft_labels[:, :2], "soft_labels"),
        (2 * soft_labels, "soft_labels"),
        (np.full_like(soft_labels, np.nan), "soft_labels"),
    ]:
        refused(ValueError, message, fit_params={"soft_labels": bad})
