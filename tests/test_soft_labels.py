"""The soft-label stage: folds, frozen teachers, weights, and the cache."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import Memory
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    PredefinedSplit,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stubs import LoggedTeacher, n_fits
from torch import nn

from skdistill import (
    DistillationClassifier,
    DistillationClassifierCV,
    SoftLabelTransformer,
)
from skdistill.diagnostics import distillation_gain
from skdistill.students import LinearStudent
from skdistill.teachers import ModuleTeacher

SHUFFLED = StratifiedKFold(3, shuffle=True, random_state=0)
SPLITTERS = {
    "int": (4, 4),
    "numpy int": (np.int64(3), 3),
    "unstratified": (KFold(4), KFold(4)),
    "shuffled": (SHUFFLED, SHUFFLED),
    "default": (None, 5),
}


def out_of_fold(teacher, X, y, **settings):
    return SoftLabelTransformer(teacher, **settings).fit_transform(X, y)


@pytest.mark.parametrize("name", SPLITTERS)
def test_rows_are_scored_by_a_teacher_that_has_not_seen_them(name, data):
    X, y = data
    cv, equivalent = SPLITTERS[name]
    expected = cross_val_predict(
        GaussianNB(), X, y, cv=equivalent, method="predict_proba"
    )
    assert_allclose(out_of_fold(GaussianNB(), X, y, cv=cv), expected, rtol=1e-12)
    distilled = DistillationClassifier(
        GaussianNB(), LinearStudent(), cv=cv, mixing_weight=1.0
    ).fit(X, y)
    from_hand = clone(distilled).fit(X, y, soft_labels=expected)
    assert_allclose(distilled.predict_proba(X), from_hand.predict_proba(X), rtol=1e-9)


def test_folds_may_be_an_iterable(three_classes):
    X, y = three_classes
    folds = list(KFold(3).split(X))
    expected = cross_val_predict(GaussianNB(), X, y, cv=folds, method="predict_proba")
    for cv in (folds, tuple(folds), iter(folds)):
        proba = out_of_fold(GaussianNB(), X, y, cv=cv)
        assert_allclose(proba, expected, rtol=1e-12)


class Form:
    """A splitter that gives the folds of another in some form."""

    def __init__(self, form):
        self.form = form

    def get_n_splits(self, X=None, y=None, groups=None):
        return SHUFFLED.n_splits

    def split(self, X, y, groups=None):
        folds = SHUFFLED.split(np.zeros(len(y)), y)
        return [tuple(self.form(part, len(y)) for part in fold) for fold in folds]


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([([0, 1, 2], [400])], "cv must give positions of rows of X.*index 400"),
        ([([0, 1, 2], [0.5])], "cv must give positions of rows of X"),
        ([([0, 1, 2], [])], "cv must have at least one fold"),
    ],
    ids=["beyond", "fractions", "nothing to test on"],
)
def test_folds_of_other_rows_are_refused(folds, message, three_classes):
    X, y = three_classes
    with pytest.raises(ValueError, match=message):
        SoftLabelTransformer(GaussianNB(), cv=folds).fit_transform(X, y)
    with pytest.raises(ValueError, match=message):
        DistillationClassifier(GaussianNB(), cv=folds).fit(X, y)


@pytest.mark.parametrize(
    "form",
    [
        lambda rows, n: rows.tolist(),
        lambda rows, n: rows.astype(np.uint32),
        lambda rows, n: pd.Series(rows),
        lambda rows, n: np.isin(np.arange(n), rows),
    ],
    ids=["lists", "unsigned", "Series", "masks"],
)
def test_splitters_may_give_rows_in_any_form(form, three_classes, soft_labels):
    """As scikit-learn's own searches take them."""
    X, y = three_classes
    for estimator, given in [
        (SoftLabelTransformer(GaussianNB()), {}),
        (DistillationClassifier(GaussianNB(), LinearStudent()), {}),
        (DistillationClassifierCV(GaussianNB(), LinearStudent(), teacher_cv=3), {}),
        (
            DistillationClassifierCV(GaussianNB(), LinearStudent()),
            {"soft_labels": soft_labels},
        ),
    ]:
        results = []
        for cv in (SHUFFLED, Form(form)):
            fitted = clone(estimator).set_params(cv=cv)
            if isinstance(fitted, SoftLabelTransformer):
                results.append(fitted.fit_transform(X, y))
            else:
                results.append(fitted.fit(X, y, **given).predict_proba(X))
        assert_array_equal(*results)


def test_a_teacher_that_memorises_does_not_see_its_own_rows(three_classes):
    X, y = three_classes
    nearest = KNeighborsClassifier(1)
    one_hot = np.eye(3)[y]
    in_sample = out_of_fold(nearest, X, y, cv="in-sample")
    assert_array_equal(in_sample, one_hot)
    assert (out_of_fold(nearest, X, y) != one_hot).any(axis=1).mean() > 0.1


def test_folds_are_of_the_labels_and_not_of_their_names(three_classes):
    X, y = three_classes
    names = np.array(["one", "two", "six"])
    order = np.argsort(names)
    named = out_of_fold(GaussianNB(), X, names[y], cv=3)
    assert_allclose(named, out_of_fold(GaussianNB(), X, y, cv=3)[:, order], rtol=1e-12)


@pytest.mark.parametrize("cv", [None, 3, "in-sample"])
def test_a_frozen_teacher_is_not_fitted(cv, three_classes, fit_log):
    X, y = three_classes
    teacher = LoggedTeacher(fit_log).fit(X[:60], y[:60])
    proba = out_of_fold(FrozenEstimator(teacher), X, y, cv=cv)
    distilled = DistillationClassifier(
        FrozenEstimator(teacher),
        LinearStudent(),
        cv=cv,
        keep_teacher=True,
        mixing_weight=0.5,
    ).fit(X, y, X_unlabeled=X[:3])
    assert n_fits(fit_log) == 1
    assert_allclose(proba, teacher.predict_proba(X), rtol=1e-12)
    assert_array_equal(distilled.teacher_.predict_proba(X), teacher.predict_proba(X))


@pytest.mark.parametrize("cv", [None, 3, "in-sample"])
def test_each_teacher_is_fitted_no_more_often_than_needed(cv, three_classes, fit_log):
    X, y = three_classes
    DistillationClassifier(
        LoggedTeacher(fit_log), LinearStudent(), cv=cv, mixing_weight=0.5
    ).fit(X, y)
    assert n_fits(fit_log) == {None: 5, 3: 3, "in-sample": 1}[cv]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_jobs_do_not_change_the_result(n_jobs, three_classes, fit_log):
    X, y = three_classes
    teacher = LoggedTeacher(fit_log)
    parallel = out_of_fold(teacher, X, y, cv=4, n_jobs=n_jobs)
    assert_array_equal(parallel, out_of_fold(teacher, X, y, cv=4))
    # Twice: four folds and the fit on all rows.
    assert n_fits(fit_log) == 2 * (4 + 1)


@pytest.mark.parametrize(
    "cv",
    [
        ShuffleSplit(3, random_state=0),
        RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
        [(np.arange(60), np.arange(60, 120))],
    ],
    ids=["ShuffleSplit", "repeated", "incomplete"],
)
def test_folds_must_score_each_row_once(cv, three_classes, fit_log):
    X, y = three_classes
    teacher = LoggedTeacher(fit_log)
    for fit in (
        DistillationClassifier(teacher, LinearStudent(), cv=cv, mixing_weight=0.5).fit,
        SoftLabelTransformer(teacher, cv=cv).fit_transform,
    ):
        with pytest.raises(ValueError, match=r"^cv must put each row into exactly one"):
            fit(X, y)
    assert n_fits(fit_log) == 0


def test_a_fold_may_not_train_on_what_it_scores(three_classes, fit_log):
    X, y = three_classes
    rows = np.arange(len(y))
    folds = [(rows[rows % 3 != k], rows[rows % 3 == k]) for k in range(3)]
    folds[1] = (np.append(folds[1][0], 4), folds[1][1])
    teacher = LoggedTeacher(fit_log)
    message = r"^cv: fold 1 trains on 1 of the rows that it scores, row 4 first"
    with pytest.raises(ValueError, match=message):
        out_of_fold(teacher, X, y, cv=folds)
    with pytest.raises(ValueError, match=message):
        DistillationClassifier(
            teacher, LinearStudent(), cv=folds, mixing_weight=0.5
        ).fit(X, y)
    assert n_fits(fit_log) == 0


def test_an_empty_list_of_folds_is_named(three_classes, fit_log):
    X, y = three_classes
    teacher, student = LoggedTeacher(fit_log), LinearStudent()
    for distilled in (
        DistillationClassifier(teacher, student, cv=[], mixing_weight=0.5),
        DistillationClassifierCV(teacher, student, cv=[]),
    ):
        with pytest.raises(ValueError, match=r"^cv must have at least one fold, \[\] "):
            distilled.fit(X, y)
    assert n_fits(fit_log) == 0


def half_and_half(n, empty):
    """Three folds, of which the second has an empty part."""
    even, odd = np.arange(0, n, 2), np.arange(1, n, 2)
    second = {"training": (even[:0], odd), "test": (even, odd[:0])}[empty]
    return [(even, odd), second, (odd, even)]


@pytest.mark.parametrize("part", ["training", "test"])
def test_an_empty_part_of_a_fold_is_named(part, three_classes, fit_log):
    X, y = three_classes
    teacher, student = LoggedTeacher(fit_log), LinearStudent()
    folds = half_and_half(len(y), part)
    message = f"^cv: fold 1 has no {part} rows"
    for search in (
        DistillationClassifierCV(teacher, student, cv=folds),
        DistillationClassifierCV(teacher, student, cv=folds, mixing_weights=[0.0]),
    ):
        with pytest.raises(ValueError, match=message):
            search.fit(X, y)
    assert n_fits(fit_log) == 0


def test_rows_of_weight_zero_do_not_fill_a_part_of_a_fold(three_classes):
    X, y = three_classes
    weight = np.arange(len(y)) % 2
    folds = half_and_half(len(y), "test")[::2]
    search = DistillationClassifierCV(GaussianNB(), LinearStudent(), cv=folds)
    with pytest.raises(ValueError, match=r"^cv: fold 0 has no training rows; .* zero"):
        search.fit(X, y, sample_weight=weight)
    with pytest.raises(ValueError, match=r"^cv: fold 0 has no test rows; .* zero"):
        search.set_params(cv=[folds[1], folds[1]]).fit(X, y, sample_weight=weight)


def test_teachers_that_would_learn_from_no_row_are_named(three_classes, fit_log):
    X, y = three_classes
    rows = np.arange(len(y))
    teacher = LoggedTeacher(fit_log)
    message = "^cv: fold 0 has no training rows"
    with pytest.raises(ValueError, match=message):
        out_of_fold(teacher, X, y, cv=[(rows[:0], rows)])
    distiller = DistillationClassifier(
        teacher, LinearStudent(), cv=[(rows[:0], rows)], mixing_weight=0.5
    )
    with pytest.raises(ValueError, match=message):
        distiller.fit(X, y)
    folds = [(rows[:0], rows), (rows[::2], rows[1::2])]
    with pytest.raises(ValueError, match=message):
        distillation_gain(LinearStudent(), teacher, X, y, cv=folds)
    assert n_fits(fit_log) == 0


def test_folds_as_lists_do_not_fill_a_message(three_classes):
    X, y = three_classes
    folds = half_and_half(len(y), "test")[:1]
    with pytest.raises(ValueError, match="; a list of 1 folds scores row 0 0 times"):
        out_of_fold(GaussianNB(), X, y, cv=folds)


# -- rare classes ------------------------------------------------------------------


@pytest.fixture
def rare(three_classes):
    """One row of the class "rare"."""
    X, y = three_classes
    return X[:60], np.array([*np.array(["a", "b", "c"])[y[:59]], "rare"])


def test_a_class_of_one_row_is_an_error_for_a_number_of_folds(rare, fit_log):
    X, y = rare
    distilled = DistillationClassifier(
        LoggedTeacher(fit_log), LinearStudent(), cv=5, mixing_weight=0.5
    )
    with pytest.raises(
        ValueError, match=r"^cv=5 needs at least 2 rows of each class.*\['rare'\]"
    ):
        distilled.fit(X, y)
    assert n_fits(fit_log) == 0


@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
def test_a_class_of_one_row_is_a_warning_for_the_default(rare):
    X, y = rare
    distilled = DistillationClassifier(GaussianNB(), LinearStudent(), mixing_weight=0.5)
    with (
        pytest.warns(UserWarning, match=r"The classes \['rare'\] have a single row"),
        pytest.warns(UserWarning, match=r"was not fitted on the classes \['rare'\]"),
    ):
        distilled.fit(X, y)
    assert distilled.classes_.tolist() == ["a", "b", "c", "rare"]
    assert distilled.predict_proba(X).shape == (60, 4)


def test_a_class_of_one_row_is_fine_without_folds(rare):
    X, y = rare
    DistillationClassifier(
        GaussianNB(), LinearStudent(), cv="in-sample", mixing_weight=0.5
    ).fit(X, y)


def test_fewer_rows_than_the_default_folds():
    X = np.arange(6.0)[:, None]
    y = np.array([0, 1, 0, 1, 0, 1])
    expected = cross_val_predict(
        LogisticRegression(), X, y, cv=3, method="predict_proba"
    )
    assert_allclose(out_of_fold(LogisticRegression(), X, y), expected, rtol=1e-9)


# -- weights -----------------------------------------------------------------------


def weighted_out_of_fold(teacher, X, y, weight, folds, key="sample_weight"):
    proba = np.empty((len(y), len(np.unique(y))))
    for train, test in folds:
        fitted = clone(teacher).fit(X[train], y[train], **{key: weight[train]})
        proba[test] = fitted.predict_proba(X[test])
    return proba


@pytest.mark.parametrize("pipeline", [False, True])
def test_sample_weights_reach_the_teacher_row_by_row(pipeline, three_classes):
    X, y = three_classes
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    teacher, key = GaussianNB(), "sample_weight"
    if pipeline:
        teacher = make_pipeline(StandardScaler(), GaussianNB())
        key = "gaussiannb__sample_weight"
    expected = weighted_out_of_fold(
        teacher, X, y, weight, StratifiedKFold(3).split(X, y), key
    )
    soft = SoftLabelTransformer(teacher, cv=3)
    assert_allclose(soft.fit_transform(X, y, sample_weight=weight), expected)
    fitted = clone(teacher).fit(X, y, **{key: weight})
    assert_allclose(soft.transform(X), fitted.predict_proba(X))
    distilled = DistillationClassifier(
        teacher, LinearStudent(), cv=3, mixing_weight=0.5
    )
    by_teacher = clone(distilled).fit(X, y, sample_weight=weight)
    by_hand = clone(distilled).fit(X, y, sample_weight=weight, soft_labels=expected)
    assert_allclose(by_teacher.predict_proba(X), by_hand.predict_proba(X), rtol=1e-8)


def test_a_teacher_without_weights_is_named_in_a_warning(three_classes):
    X, y = three_classes
    weight = np.linspace(1, 2, len(y))
    distilled = DistillationClassifier(
        KNeighborsClassifier(), LinearStudent(), cv=3, mixing_weight=0.5
    )
    with pytest.warns(UserWarning, match="KNeighborsClassifier has no argument"):
        distilled.fit(X, y, sample_weight=weight)


def test_rows_of_weight_zero_are_in_no_fold(three_classes):
    X, y = three_classes
    weight = np.ones(len(y))
    weight[::4] = 0
    kept = np.flatnonzero(weight)
    folds = list(KFold(3).split(X))
    position = np.full(len(y), -1)
    position[kept] = np.arange(len(kept))
    inner = [
        tuple(position[part][position[part] >= 0] for part in fold) for fold in folds
    ]
    for cv, equivalent in ((3, 3), (folds, inner)):
        soft = SoftLabelTransformer(GaussianNB(), cv=cv)
        weighted = soft.fit_transform(X, y, sample_weight=weight)
        absent = SoftLabelTransformer(GaussianNB(), cv=equivalent)
        expected = absent.fit_transform(X[kept], y[kept])
        assert_allclose(weighted[kept], expected, rtol=1e-9)
        assert_allclose(weighted[::4], absent.transform(X[::4]), rtol=1e-9)


def test_a_predefined_split_is_of_all_rows_passed(three_classes):
    X, y = three_classes
    fold = np.random.default_rng(0).integers(3, size=len(y))
    weight = np.where(np.arange(len(y)) % 7 == 0, 0.0, 1.0)
    present = weight > 0
    proba = SoftLabelTransformer(GaussianNB(), cv=PredefinedSplit(fold)).fit_transform(
        X, y, sample_weight=weight
    )
    alone = PredefinedSplit(fold[present])
    expected = out_of_fold(GaussianNB(), X[present], y[present], cv=alone)
    assert_allclose(proba[present], expected, rtol=1e-12)


def test_a_fold_whose_rows_have_no_weight_is_left_out(three_classes, fit_log):
    X, y = three_classes
    rows = np.arange(len(y))
    folds = [(rows[rows % 3 != k], rows[rows % 3 == k]) for k in range(3)]
    weight = (rows % 3 != 1).astype(float)
    present = weight > 0
    teacher = LoggedTeacher(fit_log)
    proba = SoftLabelTransformer(teacher, cv=iter(folds)).fit_transform(
        X, y, sample_weight=weight
    )
    # Two folds, and the fit on all rows.
    assert n_fits(fit_log) == 2 + 1
    half = np.arange(present.sum()) % 2
    expected = out_of_fold(
        GaussianNB(var_smoothing=1e-3), X[present], y[present], cv=PredefinedSplit(half)
    )
    assert_allclose(proba[present], expected, rtol=1e-12)


# -- memory ------------------------------------------------------------------------

GRID = {"temperature": [0.5, 1.0, 2.0], "mixing_weight": [0.3, 0.6, 1.0]}
OUTER = 3 + 1  # three outer folds and the refit


@pytest.fixture
def cached(tmp_path, fit_log):
    return DistillationClassifier(
        LoggedTeacher(fit_log),
        LinearStudent(),
        cv=2,
        memory=str(tmp_path / "cache"),
        mixing_weight=0.5,
    )


def search(estimator, grid, X, y, **params):
    searched = GridSearchCV(estimator, grid, cv=3, error_score="raise")
    return searched.fit(X, y, **params)


def test_a_grid_fits_each_teacher_once_a_fold(cached, three_classes, fit_log):
    X, y = three_classes
    searched = search(cached, GRID, X, y)
    assert len(searched.cv_results_["params"]) == 9
    assert n_fits(fit_log) == OUTER * 2
    uncached = search(clone(cached).set_params(memory=None), GRID, X, y)
    assert n_fits(fit_log) == OUTER * 2 + (3 * 9 + 1) * 2
    for key in ("mean_test_score", "split0_test_score"):
        assert_array_equal(uncached.cv_results_[key], searched.cv_results_[key])
    assert_array_equal(uncached.predict_proba(X), searched.predict_proba(X))


def test_the_cache_also_holds_scores_of_unlabelled_rows_and_the_teacher(
    cached, three_classes, fit_log
):
    X, y = three_classes
    cached.set_params(keep_teacher=True)
    searched = search(cached, GRID, X[:90], y[:90], X_unlabeled=X[90:])
    # Two inner folds, and one fit on all rows for both the pool and `teacher_`.
    assert n_fits(fit_log) == OUTER * (2 + 1)
    expected = LoggedTeacher(fit_log).fit(X[:90], y[:90]).predict_proba(X)
    assert_array_equal(searched.best_estimator_.teacher_.predict_proba(X), expected)


def test_an_in_sample_teacher_is_cached(cached, three_classes, fit_log):
    X, y = three_classes
    search(cached.set_params(cv="in-sample", keep_teacher=True), GRID, X, y)
    assert n_fits(fit_log) == OUTER


def test_each_candidate_teacher_has_its_own_entry(cached, three_classes, fit_log):
    X, y = three_classes
    grid = {"teacher__var_smoothing": [1e-3, 0.5], "temperature": [1.0, 2.0]}
    search(cached, grid, X, y)
    assert n_fits(fit_log) == (2 * 3 + 1) * 2


def test_a_change_of_what_decides_the_soft_labels_fits_again(
    cached, three_classes, fit_log
):
    X, y = three_classes
    weight = np.linspace(1, 2, len(y))
    changes = [
        lambda: clone(cached).fit(X, y),
        lambda: clone(cached).fit(X + 1, y),
        lambda: clone(cached).fit(X, np.roll(y, 1)),
        lambda: clone(cached).fit(X, y, sample_weight=weight),
        lambda: clone(cached).set_params(cv=KFold(2)).fit(X, y),
        lambda: clone(cached).set_params(teacher__var_smoothing=0.1).fit(X, y),
    ]
    for number, change in enumerate(changes, start=1):
        first = change()
        assert n_fits(fit_log) == 2 * number
        again = change()
        assert n_fits(fit_log) == 2 * number
        assert_array_equal(first.predict_proba(X), again.predict_proba(X))


def test_what_does_not_decide_the_soft_labels_fits_nothing(
    cached, three_classes, fit_log
):
    X, y = three_classes
    cached.fit(X, y)
    for change in (
        {"temperature": "auto"},
        {"mixing_weight": 1.0},
        {"student__C": 3.0},
        {"random_state": 1},
        {"n_jobs": 1},
    ):
        clone(cached).set_params(**change).fit(X, y)
    assert n_fits(fit_log) == 2


def test_a_memory_object_is_taken_and_shared(tmp_path, three_classes, fit_log):
    X, y = three_classes
    memory = Memory(str(tmp_path / "cache"), verbose=0)
    settings = {"cv": 3, "memory": memory}
    distilled = DistillationClassifier(
        LoggedTeacher(fit_log),
        LinearStudent(),
        mixing_weight=0.5,
        keep_teacher=True,
        **settings,
    ).fit(X, y)
    assert n_fits(fit_log) == 3 + 1
    soft = SoftLabelTransformer(LoggedTeacher(fit_log), **settings)
    soft.fit_transform(X, y)
    assert n_fits(fit_log) == 3 + 1
    expected = distilled.teacher_.predict_proba(X)
    assert_allclose(soft.transform(X), expected, rtol=1e-12)


class CountedModule(nn.Linear):
    """Counts, for all its copies, the rows that it scores."""

    n_rows = 0

    def forward(self, x):
        type(self).n_rows += len(x)
        return super().forward(x)

    def get_extra_state(self):
        return "no tensor"

    def set_extra_state(self, state):
        assert state == "no tensor"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_modules_score_once(dtype, tmp_path, three_classes, monkeypatch):
    """A copy from another process has other storage, and the same numbers."""
    X, y = three_classes
    monkeypatch.setattr(CountedModule, "n_rows", 0)
    module = CountedModule(4, 3).to(dtype)
    teacher = ModuleTeacher(module, classes=[0, 1, 2], device="cpu")
    copy = pickle.loads(pickle.dumps(teacher))
    proba = [
        out_of_fold(each, X, y, memory=str(tmp_path))
        for each in (teacher, copy, pickle.loads(pickle.dumps(copy)))
    ]
    assert CountedModule.n_rows == len(y)
    assert_array_equal(proba[0], proba[1])
    with torch.no_grad():
        copy.module.bias += torch.arange(3)
    other = out_of_fold(copy, X, y, memory=str(tmp_path))
    assert CountedModule.n_rows == 2 * len(y)
    assert np.abs(other - proba[0]).max() > 0.01


@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
def test_warnings_are_given_again_from_the_cache(cached, rare):
    X, y = rare
    cached.set_params(cv=None)
    for _ in range(2):
        with (
            pytest.warns(UserWarning, match="have a single row"),
            pytest.warns(UserWarning, match="was not fitted on the classes"),
        ):
            clone(cached).fit(X, y)
