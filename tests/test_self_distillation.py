"""teacher="self": generations of students, and that no label leaks down to them."""

from functools import reduce
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import get_tags

from skdistill import DistillationClassifier, SoftLabelTransformer, _generations
from skdistill._choice import Recipe
from skdistill._generations import grow_generations, most_generations
from skdistill._labelled_rows import TrainingRows
from skdistill.students import EstimatorStudent, LinearStudent, MLPStudent

TREE = EstimatorStudent(DecisionTreeClassifier(random_state=0))


def noisy_labels(n=200, n_classes=3, seed=0):
    return make_classification(
        n,
        n_features=6,
        n_informative=4,
        n_classes=n_classes,
        flip_y=0.4,
        random_state=seed,
    )


def recipe_of(X, y):
    classes, codes = np.unique(y, return_inverse=True)
    labelled = TrainingRows(X, y, codes, classes, None).labelled({}, {})
    return Recipe(labelled, np.ones(len(y)), 1.0)


def grown(student, X, y, folds, weight=1.0, n_generations=2, improving=True):
    """All generations, whether or not they gain; or none that gains."""
    with patch.object(_generations, "_gains_on", lambda *_: improving):
        return grow_generations(
            student, recipe_of(X, y), folds, (weight,), 1.0, n_generations, 1
        )


# -- no label leaks --------------------------------------------------------------------


def naive_chain(X, y, folds, n_generations):
    """Generations on the same folds: what teaches fold f has seen the labels of f."""
    n_classes = len(np.unique(y))
    soft, chain = np.eye(n_classes)[y], []
    for number in range(n_generations + 1):
        out = np.empty_like(soft)
        for train, test in folds:
            given = {} if number == 0 else {"soft_labels": soft[train]}
            out[test] = (
                clone(TREE).fit(X[train], y[train], **given).predict_proba(X[test])
            )
        soft = out
        chain.append(out)
    return chain


@pytest.mark.parametrize(("n_folds", "weight"), [(4, 0.5), (5, 1.0)])
def test_labels_of_a_fold_change_nothing_that_is_said_of_it(n_folds, weight):
    X, y = noisy_labels(80)
    folds = list(KFold(n_folds, shuffle=True, random_state=0).split(X))
    most = n_folds - 2
    before = grown(clone(TREE), X, y, folds, weight, most)
    assert [g.number for g in before] == list(range(most + 1))
    naive_before, leaked = naive_chain(X, y, folds, most), False
    for _, test in folds:
        other = y.copy()
        other[test] = (y[test] + 1 + np.arange(len(test)) % 2) % 3
        after = grown(clone(TREE), X, other, folds, weight, most)
        for one, two in zip(before, after, strict=True):
            # A student that knows its labels by heart says the same of the fold.
            assert_array_equal(one.proba[test], two.proba[test])
            if one.number > 0:
                assert_array_equal(one.teaching[test], two.teaching[test])
                rest = np.setdiff1d(np.arange(len(y)), test)
                assert (one.proba[rest] != two.proba[rest]).any()
        naive = naive_chain(X, other, folds, most)
        assert_array_equal(naive_before[0][test], naive[0][test])
        leaked |= (naive_before[1][test] != naive[1][test]).any()
    assert leaked  # so this test can fail


# -- what each generation learns -------------------------------------------------------


def operators(X, folds, number, penalty):
    """The matrix that maps labels to out-of-fold predictions, by the definition."""
    n = len(X)

    def smoother(level, left_out):
        rows = reduce(np.setdiff1d, [folds[k][1] for k in left_out], np.arange(n))
        if level == 0:
            targets = np.eye(n)[rows]
        else:
            full = np.zeros((n, n))
            for k in set(range(len(folds))) - left_out:
                test = folds[k][1]
                full[test] = X[test] @ smoother(level - 1, left_out | {k})
            targets = full[rows]
        gram = X[rows].T @ X[rows] + penalty * np.eye(X.shape[1])
        return np.linalg.solve(gram, X[rows].T @ targets)

    out = np.zeros((n, n))
    for k, (_, test) in enumerate(folds):
        out[test] = X[test] @ smoother(number, frozenset({k}))
    return out


def test_ridge_students_are_the_product_of_their_smoothers():
    rng = np.random.default_rng(0)
    X = np.abs(rng.normal(size=(40, 3))) / 6
    y = (rng.random(40) > 0.4).astype(int)
    folds = list(KFold(5).split(X))
    student = EstimatorStudent(Ridge(alpha=0.5, fit_intercept=False))
    generations = grown(student, X, y, folds, n_generations=3)
    for generation in generations:
        expected = operators(X, folds, generation.number, 0.5) @ y
        assert expected.min() > 0
        assert expected.max() < 1  # no prediction is clipped
        assert_allclose(generation.proba[:, 1], expected, atol=1e-10)


def test_each_generation_shrinks_small_directions_more():
    # With the same orthogonal rows in each fold, a generation that leaves j folds out
    # multiplies a direction by m d / (m d + penalty), m = K - j: the closed form of
    # Mobahi et al. (2020), whose students have seen all rows.
    d, penalty, n_folds = np.array([0.1, 0.5, 2.0, 8.0]), 1.5, 5
    X = np.tile(np.diag(np.sqrt(d)), (n_folds, 1))
    y = np.tile([1, 0, 1, 1], n_folds)
    folds = list(KFold(n_folds).split(X))
    student = EstimatorStudent(Ridge(alpha=penalty, fit_intercept=False))
    for generation in grown(student, X, y, folds, n_generations=3):
        copies = n_folds - 1 - np.arange(generation.number + 1)
        factors = copies[:, None] * d / (copies[:, None] * d + penalty)
        expected = np.tile(factors.prod(axis=0), n_folds) * y
        assert_allclose(generation.proba[:, 1], expected, atol=1e-10)


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_the_first_two_generations_are_nested_cross_fitting(weight):
    X, y = noisy_labels(90)
    folds = list(KFold(3).split(X))
    zero, one = grown(clone(TREE), X, y, folds, weight, 1)
    student = clone(TREE)
    for k, (train, test) in enumerate(folds):
        expected = clone(student).fit(X[train], y[train]).predict_proba(X[test])
        assert_allclose(zero.proba[test], expected)
        soft = np.zeros((90, 3))
        for h in {0, 1, 2} - {k}:
            (rest,) = {0, 1, 2} - {k, h}
            of_rest, of_h = folds[rest][1], folds[h][1]
            soft[of_h] = (
                clone(student).fit(X[of_rest], y[of_rest]).predict_proba(X[of_h])
            )
        mixed = (1 - weight) * np.eye(3)[y] + weight * soft
        taught = clone(student).fit(X[train], y[train], soft_labels=mixed[train])
        assert_allclose(one.proba[test], taught.predict_proba(X[test]))


def test_the_chosen_student_learns_from_the_generation_before():
    X, y = noisy_labels()
    model = DistillationClassifier(
        "self", TREE, mixing_weight=0.5, n_generations=2, temperature=2.0
    ).fit(X, y)
    assert model.n_generations_ >= 1
    folds = list(StratifiedKFold(5).split(X, y))
    recipe = recipe_of(X, y)
    generations = grow_generations(clone(TREE), recipe, folds, (0.5,), 2.0, 2, None)
    teaching = generations[model.n_generations_].teaching
    given = DistillationClassifier(
        student=TREE, mixing_weight=0.5, temperature=2.0
    ).fit(X, y, soft_labels=teaching)
    assert_allclose(model.predict_proba(X), given.predict_proba(X))
    assert_array_equal(teaching, generations[model.n_generations_ - 1].proba)


# -- when to stop, what to keep --------------------------------------------------------


def test_a_chain_ends_with_the_first_generation_that_does_not_gain():
    X, y = noisy_labels()
    folds = list(KFold(5).split(X))
    ended = grown(clone(TREE), X, y, folds, n_generations=3, improving=False)
    assert [g.number for g in ended] == [0, 1]


def test_the_table_of_generations():
    X, y = noisy_labels(300)
    weight = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    model = DistillationClassifier("self", TREE, n_generations=3).fit(
        X, y, sample_weight=weight
    )
    table = pd.DataFrame(model.generations_)
    assert table.loc[0, ["generation", "mixing_weight", "gain"]].tolist() == [0, 0, 0]
    assert set(table["mixing_weight"][1:]) == {0.5, 1.0}
    assert table["chosen"].sum() == 1
    best = table[table["chosen"]].iloc[0]
    assert best["generation"] == model.n_generations_
    assert best["mixing_weight"] == model.mixing_weight_
    sure = table[table["gain"] > 2 * table["gain_standard_error"]]
    bound = sure["gain"] - sure["gain_standard_error"]
    assert bound.max() == best["gain"] - best["gain_standard_error"]
    assert_allclose(table["gain"], table["log_loss"][0] - table["log_loss"])
    for row in table[table["generation"] > 1].itertuples():
        same = table["mixing_weight"] == row.mixing_weight
        before = table[same & (table["generation"] == row.generation - 1)].iloc[0]
        assert before["step"] > 2 * before["step_standard_error"]
        assert row.step == pytest.approx(before["log_loss"] - row.log_loss)


def test_labels_alone_are_the_student_to_the_last_digit():
    X, y = noisy_labels()
    model = DistillationClassifier("self", LinearStudent(C=1e-4)).fit(X, y)
    alone = LinearStudent(C=1e-4).fit(X, y)
    assert (model.n_generations_, model.mixing_weight_) == (0, 0.0)
    assert_array_equal(model.predict_proba(X), alone.predict_proba(X))


def test_how_many_generations_folds_allow():
    _, y = noisy_labels(100)
    for n_folds in (2, 3, 5, 6):
        folds = list(KFold(n_folds).split(y))
        assert most_generations(folds, y, 9) == n_folds - 2
        assert most_generations(folds, y, 2) == min(2, n_folds - 2)
    rare = np.zeros(100, dtype=int)
    rare[[0, 30, 60]] = 1  # in three folds of five
    assert most_generations(list(KFold(5).split(rare)), rare, 9) == 1


def test_many_folds_are_not_all_combined():
    """Of 30 folds there are a billion sets."""
    _, y = noisy_labels(60)
    assert most_generations(list(KFold(30).split(y)), y, 2) == 2


# -- the estimator ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "student",
    [LinearStudent(), MLPStudent((8,), max_iter=10, random_state=0), Ridge()],
    ids=lambda s: type(s).__name__,
)
@pytest.mark.parametrize("mixing_weight", ["auto", 0.5])
def test_students_teach_themselves(student, mixing_weight):
    X, y = noisy_labels(150)
    names = np.array(["a", "b", "c"])[y]
    model = DistillationClassifier(
        "self", student, mixing_weight=mixing_weight, temperature="auto", cv=3
    ).fit(X, names)
    assert model.score(X, names) > 0.45
    assert not hasattr(model, "candidates_")
    assert model.temperature_ > 0


def test_workers_and_the_cache_change_nothing(tmp_path):
    X, y = noisy_labels()
    model = DistillationClassifier("self", TREE)
    expected = model.fit(X, y).generations_
    for settings in ({"n_jobs": 2}, {"memory": str(tmp_path)}):
        again = clone(model).set_params(**settings)
        for _ in range(2):
            found = again.fit(X, y).generations_
            assert_array_equal(found["log_loss"], expected["log_loss"])
    assert any(tmp_path.rglob("output.pkl"))


def test_frames_with_texts_and_groups():
    X, y = noisy_labels()
    frame = pd.DataFrame(X).add_prefix("x").assign(text=np.where(y == 1, "p", "q"))
    groups = np.repeat(np.arange(50), 4)
    with config_context(enable_metadata_routing=True):
        from sklearn.model_selection import GroupKFold

        model = DistillationClassifier("self", LinearStudent(), cv=GroupKFold(4))
        model.set_fit_request(sample_weight=True)
        model.fit(frame, y, sample_weight=np.ones(len(y)), groups=groups)
    assert len(model.generations_["log_loss"]) >= 3
    tags = get_tags(model).input_tags
    assert (tags.string, tags.categorical, tags.sparse) == (True, True, True)
    assert not get_tags(DistillationClassifier("self", Ridge())).input_tags.string


def test_a_grid_over_generations():
    X, y = noisy_labels(120)
    search = GridSearchCV(
        DistillationClassifier("self", TREE, mixing_weight=0.5),
        {"n_generations": [1, 2], "teacher": ["self"]},
        cv=2,
    ).fit(X, y)
    assert hasattr(search.best_estimator_, "generations_")


def test_a_mixing_weight_of_zero_is_the_student_alone():
    X, y = noisy_labels()
    model = DistillationClassifier("self", TREE).fit(X, y)
    model.set_params(mixing_weight=0).fit(X, y)
    assert not hasattr(model, "generations_")
    assert_array_equal(model.predict_proba(X), clone(TREE).fit(X, y).predict_proba(X))


def test_corrected_soft_labels_down_the_generations():
    X, y = noisy_labels()
    model = DistillationClassifier(
        "self",
        LinearStudent(),
        temperature=2.0,
        student_temperature="same",
        loss_correction=True,
    ).fit(X, y)
    assert np.isfinite(model.generations_["log_loss"]).all()


class Tasks:
    """Notes the tasks of a fit."""

    def __init__(self):
        self.names = []

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.names.append(context.task_name)

    def on_fit_task_end(self, estimator, context, **_):
        pass

    def teardown(self, estimator, context):
        pass


def test_callbacks_see_generations_and_the_student():
    X, y = noisy_labels(100)
    tasks = Tasks()
    model = DistillationClassifier("self", TREE, cv=3).set_callbacks(tasks)
    model.fit(X, y)
    assert "generations" in tasks.names
    assert "train student" in tasks.names


def test_too_few_rows_are_warned_of():
    X, y = noisy_labels(40)
    model = DistillationClassifier("self", LinearStudent(), cv=2)
    with pytest.warns(
        UserWarning, match="teacher='self' cannot teach 40 rows in 2 folds of cv"
    ):
        model.fit(X, y)
    assert model.n_generations_ == 0


WEIGHTED = [
    LogisticRegression(class_weight="balanced"),
    DecisionTreeClassifier(class_weight={0: 1.0, 1: 2.0, 2: 3.0}),
    make_pipeline(StandardScaler(), LinearStudent(class_weight="balanced")),
    make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced")),
    CalibratedClassifierCV(LogisticRegression(class_weight="balanced")),
    EstimatorStudent(make_pipeline(LinearStudent(class_weight="balanced"))),
]


@pytest.mark.parametrize(
    ("settings", "passed", "message"),
    [
        ({"cv": "in-sample"}, {}, "teacher='self' needs folds"),
        ({"n_generations": 4}, {}, r"n_generations=4 .* 5 folds .* allow 3"),
        ({"teacher": GaussianNB(), "n_generations": 1}, {}, "it needs teacher='self'"),
        ({"keep_teacher": True}, {}, "no use for keep_teacher"),
        ({"class_weight": "balanced"}, {}, "takes no class_weight"),
        ({"student__class_weight": "balanced"}, {}, "takes no class_weight"),
        *(({"student": some}, {}, "takes no class_weight") for some in WEIGHTED),
        ({"mixing_weight": "per-class"}, {}, "takes one mixing_weight"),
        ({"augmentation": "munge"}, {}, "no use for augmentation"),
        ({}, {"soft_labels": 1}, "no use for soft_labels"),
        ({}, {"X_unlabeled": 1}, "no use for X_unlabeled"),
    ],
)
def test_what_does_not_go_together(settings, passed, message):
    X, y = noisy_labels(60)
    given = {
        name: np.full((60, 3), 1 / 3) if name == "soft_labels" else X[:10]
        for name in passed
    }
    model = DistillationClassifier("self", LinearStudent()).set_params(**settings)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, **given)


def test_other_estimators_have_no_self():
    X, y = noisy_labels(60)
    with pytest.raises(TypeError, match="teacher must be a classifier"):
        SoftLabelTransformer("self").fit(X, y)
