"""The choice: what is nested, what is gained, what is chosen, and the guard."""

import functools

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from reference import choice as reference
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    PredefinedSplit,
    StratifiedKFold,
)
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from stubs import LoggedTeacher, n_fits

from skdistill import DistillationClassifier
from skdistill._choice import (
    Candidate,
    choose,
    gains,
    judged_folds,
    make_candidates,
    row_log_loss,
)
from skdistill._labelled_rows import LabelledRows
from skdistill._nested import nested_proba
from skdistill._soft_labels import Stage
from skdistill.augmentation import munge, swap_neighbors
from skdistill.students import EstimatorStudent, LinearStudent, MLPStudent
from skdistill.students._problem import Problem, objective_terms

KEYS = {
    "source",
    "mixing_weight",
    "temperature",
    "augmented",
    "teacher_share",
    "log_loss",
    "accuracy",
    "gain",
    "gain_standard_error",
    "chosen",
}
FEWER = functools.partial(munge, n_rows=40)
TREE = DecisionTreeClassifier(max_depth=4, random_state=0)


def noisy(n=600, noise=0.3, seed=0, n_classes=3):
    """Rows whose labels are flipped, and as many fresh ones."""
    X, y = make_classification(
        2 * n,
        8,
        n_informative=6,
        n_redundant=0,
        n_classes=n_classes,
        random_state=seed,
    )
    rng = np.random.default_rng(seed)
    flip = rng.random(2 * n) < noise
    y = np.where(flip, (y + rng.integers(1, n_classes, 2 * n)) % n_classes, y)
    return X[:n], y[:n], X[n:], y[n:]


def loss(model, X, y):
    return row_log_loss(y, model.predict_proba(X))


# -- what is nested -----------------------------------------------------------------


@pytest.mark.parametrize("judged", [[0, 1, 2, 3], [2]])
def test_nested_probabilities_equal_the_reference(three_classes, judged):
    X, y = three_classes
    folds = list(StratifiedKFold(4).split(X, y))
    rows = LabelledRows(X, y, y, np.arange(3), {}, {}, np.arange(len(y)))
    stage = Stage(GaussianNB(), None, None, None)
    new = X[:7] + 0.1
    added = [[new]] * len(judged)
    found = nested_proba(stage, rows, folds, judged, added, out_of_fold=True)
    for k, fold in zip(judged, found, strict=True):
        train, test = folds[k]
        expected = reference.nested_out_of_fold(GaussianNB(), X, y, folds, k)
        assert_allclose(fold.out_of_fold, expected, atol=1e-12)
        fitted = GaussianNB().fit(X[train], y[train])
        assert_allclose(fold.in_sample, fitted.predict_proba(X[train]))
        assert_allclose(fold.test, fitted.predict_proba(X[test]))
        assert_allclose(fold.added[0], fitted.predict_proba(new))


class Memory(ClassifierMixin, BaseEstimator):
    """Knows the labels of the rows that it has seen, and of no other."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self._seen = {row.tobytes(): label for row, label in zip(X, y, strict=True)}
        self.labels_ = y
        return self

    def predict_proba(self, X):
        proba = np.full((len(X), len(self.classes_)), 1.0 / len(self.classes_))
        for i, row in enumerate(X):
            if row.tobytes() in self._seen:
                proba[i] = self.classes_ == self._seen[row.tobytes()]
        return proba


def test_no_teacher_has_seen_what_its_students_are_judged_by():
    """Copies of rows in other folds would give labels away, in any other scheme."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = rng.integers(0, 2, 60)
    folds = list(StratifiedKFold(5).split(X, y))
    rows = LabelledRows(X, y, y, np.arange(2), {}, {}, np.arange(60))
    stage = Stage(Memory(), None, None, None)
    held_out = [[X[test]] for _, test in folds]
    for fold in nested_proba(stage, rows, folds, range(5), held_out, out_of_fold=True):
        assert (fold.out_of_fold == 0.5).all()
        assert (fold.test == 0.5).all()
        assert (fold.added[0] == 0.5).all()
        assert set(fold.in_sample.ravel()) == {0.0, 1.0}


@pytest.mark.filterwarnings("ignore:The teacher:UserWarning")
@pytest.mark.parametrize(
    ("settings", "n_teachers"),
    [
        ({}, 5 + 10),  # folds, and pairs of folds
        ({"cv": 3}, 3 + 3),
        ({"cv": "in-sample"}, 5),
        ({"mixing_weight": 0.0}, 0),
    ],
)
def test_number_of_teachers(three_classes, fit_log, settings, n_teachers):
    X, y = three_classes
    distilled = DistillationClassifier(
        LoggedTeacher(fit_log), LinearStudent(), **settings
    ).fit(X, y)
    # One more where the rows of all folds together are scored by one teacher.
    last = hasattr(distilled, "candidates_") and _source(distilled) == "in-sample"
    assert n_fits(fit_log) == n_teachers + int(last)


def _source(distilled):
    return distilled.candidates_["source"][distilled.candidates_["chosen"]][0]


def test_groups_stay_together(three_classes):
    X, y = three_classes
    groups = np.arange(len(y)) // 4
    splits = list(GroupKFold(4).split(X, y, groups))
    seen = []

    class Spy(GaussianNB):
        def fit(self, X, y):
            seen.append(
                {int(np.flatnonzero((three_classes[0] == x).all(1))[0]) for x in X}
            )
            return super().fit(X, y)

    DistillationClassifier(Spy(), LinearStudent(), cv=splits).fit(X, y)
    for rows in seen:
        kept = {i // 4 for i in rows}
        assert len(rows) == 4 * len(kept)


def test_memory_spares_the_teachers(three_classes, fit_log, tmp_path):
    X, y = three_classes
    for C in (0.1, 1.0):
        DistillationClassifier(
            LoggedTeacher(fit_log), LinearStudent(C=C), memory=str(tmp_path / "cache")
        ).fit(X, y)
    assert n_fits(fit_log) <= 16


# -- what is gained -----------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_gains_equal_the_reference(weighted):
    rng = np.random.default_rng(0)
    losses = rng.exponential(size=(4, 50))
    weight = rng.uniform(0.1, 3, 50) if weighted else np.ones(50)
    fold = np.repeat(np.arange(5), [8, 12, 10, 11, 9])
    # What another run changes is the same for all rows of a fold.
    losses[2] += rng.normal(size=5)[fold]
    gain, error = gains(losses, weight, fold)
    for c in range(4):
        assert_allclose((gain[c], error[c]), reference.gain(losses, weight, fold, c))
    assert gain[0] == error[0] == 0
    if not weighted:
        difference = losses[0] - losses[1]
        assert error[1] >= difference.std(ddof=1) / 50**0.5
        assert error[2] > 1.5 * (losses[0] - losses[2]).std(ddof=1) / 50**0.5


def test_the_standard_error_is_the_larger_of_rows_and_folds():
    fold = np.repeat([0, 1], 2)
    of_rows = np.array([[0.0, 0, 0, 0], [-3.0, 1, -2, 2]])  # gains of folds: 1 and 0
    assert_allclose(gains(of_rows, np.ones(4), fold)[1][1], (17 / 12) ** 0.5)
    of_folds = np.array([[0.0, 0, 0, 0], [-1.0, -1, 3, 3]])
    assert_allclose(gains(of_folds, np.ones(4), fold)[1][1], 2)


@pytest.mark.parametrize(
    ("gain", "error", "best"),
    [
        ([0, 0, 0], [0, 0, 0], 0),  # a tie
        ([0, 0.01, 0.02], [0, 0.02, 0.03], 0),  # within the noise
        ([0, 0.02, 0.02], [0, 0.011, 0.02], 0),
        ([0, 0.05, 0.04], [0, 0.02, 0.005], 2),  # the surest, not the largest
        ([0, 0.05, 0.02], [0, 0.026, 0.009], 2),  # more, but within two errors
        ([0, -1, np.nan], [0, 0.1, 0.1], 0),
        ([0, 0.03, 0.02], [0, 0.001, 0.001], 1),
    ],
)
def test_the_surest_gain_is_chosen(gain, error, best):
    assert choose(np.array(gain, float), np.array(error, float)) == best


@pytest.mark.parametrize(
    ("student", "burden"),
    [
        (LinearStudent(), 1.0),
        (make_pipeline(StandardScaler(), LinearStudent()), 1.0),
        (LogisticRegression(), 1.0),
        (BernoulliNB(), 2.0),
        (MLPStudent((8,), max_iter=9, random_state=0), 2.0),
    ],
)
def test_a_gain_is_no_luck_of_a_run_where_there_is_one_minimum(student, burden):
    X, y = make_classification(300, 8, flip_y=0.3, random_state=2)
    teacher = RandomForestClassifier(20, min_samples_leaf=5, random_state=0)
    settings = {"cv": 4, "augmentation": None, "random_state": 0}
    table = DistillationClassifier(teacher, student, **settings).fit(X, y).candidates_
    gain, error = table["gain"], table["gain_standard_error"]
    assert table["chosen"].argmax() == choose(gain, error, burden)
    if burden == 1:
        assert choose(gain, error, 1.0) != choose(gain, error, 2.0)


def test_log_loss_of_rows_is_scikit_learn_s():
    from sklearn.metrics import log_loss

    proba = np.array([[1.0, 0.0], [0.2, 0.8], [0.5, 0.5]])
    codes = np.array([1, 1, 0])
    assert_allclose(row_log_loss(codes, proba).mean(), log_loss(codes, proba))


def test_folds_to_judge_by():
    def folds(sizes):
        return [(np.arange(3), np.arange(size)) for size in sizes]

    assert judged_folds(folds([200] * 5)) == [0, 1, 2, 3, 4]
    assert judged_folds(folds([2000] * 5)) == [0, 1]
    assert judged_folds(folds([1500] * 5)) == [0, 1, 2]
    assert judged_folds(folds([9000] * 5)) == [0, 1]


def test_candidates():
    assert make_candidates(["given"], 1.0) == [
        Candidate("labels", 0.0),
        Candidate("given", 0.5),
        Candidate("given", 1.0),
    ]
    sources = ["out-of-fold", "in-sample"]
    found = make_candidates(sources, None, augmented=sources)
    assert len(found) == len(set(found)) == 13
    assert {c.temperature for c in found if c.source == "in-sample"} == {1.0}
    assert {c.temperature for c in found if c.source == "out-of-fold"} == {1.0, "auto"}
    assert sum(c.augmented for c in found) == 6
    assert len(make_candidates(["out-of-fold"], "auto")) == 3


# -- what can be read afterwards ----------------------------------------------------


@pytest.mark.parametrize(
    "student", [LinearStudent(), MLPStudent((8,), max_iter=9, random_state=0)]
)
@pytest.mark.parametrize("augmentation", [None, FEWER])
def test_candidates_can_be_read(student, augmentation):
    X, y, *_ = noisy(150)
    distilled = DistillationClassifier(
        GaussianNB(), student, augmentation=augmentation, random_state=0
    ).fit(X, y)
    table = pd.DataFrame(distilled.candidates_)
    assert set(table) == KEYS
    n_mixtures = 2 * isinstance(student, MLPStudent)
    n_augmented = 0 if augmentation is None else 6 + n_mixtures // 2
    assert len(table) == 7 + n_mixtures + n_augmented
    assert table["chosen"].sum() == 1
    chosen = table[table["chosen"]].iloc[0]
    assert distilled.mixing_weight_ == chosen["mixing_weight"]
    expected = chosen["source"] == "mixture" and chosen["augmented"]
    burden = 0.5 if expected else 1 if isinstance(student, LinearStudent) else 2
    assert chosen["gain"] >= burden * chosen["gain_standard_error"]
    plain = table["source"] != "mixture"
    assert_array_equal(
        table["teacher_share"][plain], table["source"][plain] != "labels"
    )
    assert table["teacher_share"].between(0, 1).all()
    assert_allclose(table["gain"], table["log_loss"][0] - table["log_loss"], atol=1e-12)


def test_a_fixed_weight_has_no_candidates(three_classes):
    X, y = three_classes
    distilled = DistillationClassifier(GaussianNB(), LinearStudent()).fit(X, y)
    assert hasattr(distilled, "candidates_")
    distilled.set_params(mixing_weight=0.5).fit(X, y)
    assert not hasattr(distilled, "candidates_")


@pytest.mark.filterwarnings("ignore:LinearStudent did not reach tol")
def test_a_solver_that_stops_early_favours_no_candidate(three_classes):
    """Soft labels that are the labels gain nothing, whatever was solved before."""
    X, y = three_classes
    given = np.eye(3)[y]
    with pytest.warns(UserWarning, match="soft labels are the labels"):
        distilled = DistillationClassifier(student=LinearStudent(max_iter=3)).fit(
            X, y, soft_labels=given
        )
    assert_allclose(distilled.candidates_["gain"], 0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The teacher:UserWarning")
def test_labels_alone_are_the_student_without_a_teacher():
    X, y, X_test, _ = noisy(300)
    student = MLPStudent((16,), max_iter=20, random_state=0)
    distilled = DistillationClassifier(Wrong(), student, augmentation=None).fit(X, y)
    assert distilled.mixing_weight_ == 0
    alone = clone(student).fit(X, y)
    assert_array_equal(distilled.predict_proba(X_test), alone.predict_proba(X_test))


def test_the_same_seed_chooses_the_same():
    X, y, X_test, _ = noisy(120)
    fits = [
        DistillationClassifier(
            RandomForestClassifier(10, random_state=0),
            MLPStudent((8,), max_iter=5, random_state=0),
            augmentation="munge",
            random_state=0,
            n_jobs=n_jobs,
        ).fit(X, y)
        for n_jobs in (None, 2)
    ]
    for key, values in fits[0].candidates_.items():
        assert_array_equal(values, fits[1].candidates_[key])
    assert_array_equal(fits[0].predict_proba(X_test), fits[1].predict_proba(X_test))


def test_rows_of_weight_zero_are_as_if_absent():
    X, y, X_test, _ = noisy(200)
    weight = np.ones(200)
    weight[::4] = 0
    settings = {"teacher": GaussianNB(), "student": LinearStudent()}
    weighted = DistillationClassifier(**settings).fit(X, y, sample_weight=weight)
    kept = weight > 0
    alone = DistillationClassifier(**settings).fit(X[kept], y[kept])
    assert_allclose(
        weighted.candidates_["gain"], alone.candidates_["gain"], rtol=1e-6, atol=1e-9
    )
    assert_allclose(
        weighted.predict_proba(X_test), alone.predict_proba(X_test), atol=1e-6
    )


def test_a_chosen_student_is_the_one_that_a_fixed_weight_trains():
    """Under noise full-weight out-of-fold soft labels are chosen, and nothing else."""
    X, y, X_test, _ = noisy(400, noise=0.4)
    teacher, student = (
        LogisticRegression(),
        DecisionTreeRegressor(max_depth=5, random_state=0),
    )
    distilled = DistillationClassifier(teacher, student).fit(X, y)
    assert distilled.mixing_weight_ == 1
    assert _source(distilled) in ("out-of-fold", "in-sample")
    cv = "in-sample" if _source(distilled) == "in-sample" else None
    fixed = DistillationClassifier(teacher, student, mixing_weight=1.0, cv=cv).fit(X, y)
    assert_allclose(
        distilled.predict_proba(X_test), fixed.predict_proba(X_test), atol=1e-10
    )


# -- early stopping -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("mixing_weight", "student_temperature", "class_weight"),
    [
        (0.7, 1.0, None),
        (0.7, 2.0, None),
        (1.0, 2.0, None),
        (0.7, 1.0, np.array([1.0, 3.0, 9.0])),
    ],
)
def test_networks_stop_by_labels(mixing_weight, student_temperature, class_weight):
    """What is held out is labelled rows only, and their log-loss decides."""
    X, y, X_new, _ = noisy(300)
    soft = np.random.default_rng(0).dirichlet(np.ones(3), 400)
    codes = np.concatenate([y, soft[300:].argmax(axis=1)])
    problem = Problem(
        np.concatenate([X, X_new[:100]]),
        codes,
        codes,
        np.arange(3),
        np.ones(400),
        objective_terms(codes, soft, mixing_weight, student_temperature),
        labelled=np.arange(300),
        class_weight=class_weight,
    )
    student = MLPStudent(
        (8,),
        early_stopping=True,
        validation_fraction=0.2,
        n_folds=1,
        max_iter=9,
        random_state=0,
    )
    student._fit_problem(problem)
    rng = np.random.RandomState(0)
    rng.randint(2**31 - 1)  # the seed of the parameters, drawn first
    (held_out,) = student._held_out_rows(problem, rng)
    assert len(held_out) == 60
    assert held_out.max() < 300
    losses = loss(student, problem.X[held_out], codes[held_out])
    weight = None if class_weight is None else class_weight[codes[held_out]]
    assert_allclose(
        -student.best_validation_score_,
        np.average(losses, weights=weight),
        rtol=1e-5,
    )


# -- the guard ----------------------------------------------------------------------


class Wrong(ClassifierMixin, BaseEstimator):
    """A forest whose probabilities are spoilt on purpose."""

    def __init__(self, how="shuffled"):
        self.how = how

    def fit(self, X, y):
        self.forest_ = RandomForestClassifier(20, random_state=0).fit(X, y)
        self.classes_ = self.forest_.classes_
        return self

    def predict_proba(self, X):
        proba = self.forest_.predict_proba(X)
        if self.how == "shuffled":
            return np.random.RandomState(0).permutation(proba)
        if self.how == "inverted":
            turned = 1 - proba
            return turned / turned.sum(axis=1, keepdims=True)
        if self.how == "constant":
            return np.full_like(proba, 1 / proba.shape[1])
        sure = np.eye(proba.shape[1])[proba.argmax(axis=1)]
        return 0.999 * sure + 0.001 / proba.shape[1]


STUDENTS = {
    "linear": LinearStudent(),
    "mlp": MLPStudent((16,), max_iter=40, random_state=0),
    "tree": EstimatorStudent(TREE),
}


@pytest.mark.filterwarnings("ignore:The teacher:UserWarning")
@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("how", ["shuffled", "inverted", "constant", "over-confident"])
def test_a_wrong_teacher_does_no_harm(how, student):
    """On fresh labels not worse than labels alone by two standard errors."""
    X, y, X_test, y_test = noisy(400, noise=0.15, seed=1)
    alone = clone(STUDENTS[student]).fit(X, y)
    distilled = DistillationClassifier(Wrong(how), STUDENTS[student]).fit(X, y)
    worse = loss(distilled, X_test, y_test) - loss(alone, X_test, y_test)
    assert worse.mean() <= 2 * worse.std() / len(worse) ** 0.5


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("shuffled", "worse than the"),
        ("inverted", "worse than the class frequencies"),
        ("constant", "worse than the student that it is to teach"),
    ],
)
def test_a_teacher_that_cannot_help_is_named(how, match):
    X, y, *_ = noisy(300, noise=0.0, seed=1)
    classifier = DistillationClassifier(Wrong(how), LinearStudent())
    with pytest.warns(UserWarning, match=match) as caught:
        classifier.fit(X, y)
    (warning,) = caught
    assert "log-loss of Wrong" in str(warning.message)
    assert "The student has learned from the labels alone." in str(warning.message)
    assert classifier.mixing_weight_ == 0


def test_a_teacher_that_knows_the_rows_by_heart_is_named():
    X, y, *_ = noisy(200)
    forest = DecisionTreeClassifier(random_state=0).fit(X, y)
    classifier = DistillationClassifier(FrozenEstimator(forest), LinearStudent())
    with pytest.warns(UserWarning, match="The soft labels are the labels"):
        classifier.fit(X, y)


def test_a_good_teacher_is_used_and_nothing_is_said():
    X, y, X_test, y_test = noisy(600, seed=2)
    teacher = RandomForestClassifier(50, min_samples_leaf=5, random_state=0)
    student = DecisionTreeClassifier(max_depth=8, random_state=0)
    distilled = DistillationClassifier(teacher, student).fit(X, y)
    assert distilled.mixing_weight_ > 0
    alone = clone(student).fit(X, y)
    gain = loss(alone, X_test, y_test) - loss(distilled, X_test, y_test)
    assert gain.mean() > 2 * gain.std() / len(gain) ** 0.5


def grouped(seed=0):
    """Rows in groups of five near copies with one label; their probabilities; folds."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(60, 4))
    proba = 1 / (1 + np.exp(-2 * centres[:, 0]))
    y = np.repeat(rng.random(60) < proba, 5).astype(int)
    X = np.repeat(centres, 5, axis=0) + 1e-3 * rng.normal(size=(300, 4))
    p = np.repeat(proba, 5)
    split = PredefinedSplit(np.repeat(np.arange(60) % 5, 5))
    return X, y, np.column_stack([1 - p, p]), split


def frozen_model(X, y):
    return FrozenEstimator(LogisticRegression().fit(X, y))


@pytest.mark.parametrize("how", ["given", "frozen", "per-class", "unfitted"])
def test_students_are_judged_on_the_folds_of_cv(how):
    """Whoever made the soft labels: copies of a row would tell its label."""
    X, y, proba, split = grouped()
    teacher, params = LogisticRegression(), {"soft_labels": proba}
    if how in ("frozen", "unfitted"):
        params = {}
    if how == "frozen":
        teacher = frozen_model(X, y)
    tree = DecisionTreeClassifier(random_state=0)
    weight = "per-class" if how == "per-class" else "auto"
    distilled = DistillationClassifier(
        teacher, tree, cv=split, mixing_weight=weight
    ).fit(X, y, **params)
    losses = []
    for train, test in split.split():
        alone = clone(tree).fit(X[train], y[train])
        losses.append(loss(alone, X[test], y[test]))
    held_out = np.concatenate(losses).mean()
    assert_allclose(distilled.candidates_["log_loss"][0], held_out)
    assert held_out > 5  # a whole tree, sure of labels that it has not seen
    assert np.any(distilled.mixing_weight_ > 0)


def test_given_soft_labels_need_no_teacher():
    """None is resolved, weighted, routed or warned of."""
    X, y, proba, _ = grouped()
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    fitted = [
        DistillationClassifier(teacher, LinearStudent())
        .fit(X, y, sample_weight=weight, soft_labels=proba)
        .predict_proba(X)
        for teacher in (None, "nothing that could be one", KNeighborsClassifier())
    ]
    assert_array_equal(fitted[0], fitted[1])
    assert_array_equal(fitted[0], fitted[2])
    with sklearn.config_context(enable_metadata_routing=True):
        routed = DistillationClassifier(GaussianNB(), LinearStudent())
        routed.fit(X, y, sample_weight=weight, soft_labels=proba)
    assert_array_equal(fitted[0], routed.predict_proba(X))


@pytest.mark.parametrize("how", ["given", "frozen", "in-sample"])
def test_two_rows_are_no_fault_of_a_teacher_that_is_not_cross_fitted(how):
    X, y = np.array([[0.0], [1.0]]), np.array([0, 1])
    teacher = frozen_model(X, y) if how == "frozen" else LogisticRegression()
    params = {"soft_labels": [[0.8, 0.2], [0.2, 0.8]]} if how == "given" else {}
    cv = "in-sample" if how == "in-sample" else None
    model = DistillationClassifier(teacher, LinearStudent(), cv=cv)
    with pytest.warns(UserWarning, match="cannot choose by 2 rows in 0 folds"):
        model.fit(X, y, **params)
    assert model.mixing_weight_ == 0


def test_folds_where_not_all_are_judged(fit_log, monkeypatch):
    """They may be a generator: asked for once. No teacher is fitted to a fold twice."""
    monkeypatch.setattr("skdistill._choice.JUDGED_ROWS", 60)
    monkeypatch.setattr("skdistill._decision.choose", lambda *_: 1)
    X, y, *_ = noisy(200)
    folds = list(StratifiedKFold(5).split(X, y))
    model = DistillationClassifier(LoggedTeacher(fit_log), TREE, cv=iter(folds))
    model.fit(X, y)
    assert model.candidates_["source"][1] == "out-of-fold"
    # Two judged folds, seven pairs with one of these; the other three folds.
    assert n_fits(fit_log) == 2 + 7 + 3
    fixed = DistillationClassifier(
        LoggedTeacher(fit_log), TREE, cv=folds, mixing_weight=0.5
    ).fit(X, y)
    assert_allclose(model.predict_proba(X), fixed.predict_proba(X), rtol=1e-12)


def test_a_class_that_a_fold_has_alone_is_named(three_classes):
    X, y = three_classes
    split = PredefinedSplit(np.where(y == 2, 0, np.arange(len(y)) % 5))
    model = DistillationClassifier(GaussianNB(), LinearStudent(), cv=split)
    match = r"GaussianNB was not fitted on the classes \[2\]"
    with pytest.warns(UserWarning, match=match):
        model.fit(X, y)


def test_nobody_knows_what_a_frozen_teacher_has_seen():
    X, y, *_ = noisy(200)
    teacher = FrozenEstimator(Wrong("inverted").fit(X, y))
    with pytest.warns(UserWarning, match="log-loss of Wrong") as caught:
        DistillationClassifier(teacher, LinearStudent()).fit(X, y)
    assert "has not seen" not in str(caught[0].message)


def test_too_few_rows_to_choose():
    X = np.arange(8.0)[:, None]
    y = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    classifier = DistillationClassifier(GaussianNB(), LinearStudent(), cv=2)
    message = r"cannot choose by 8 rows in 2 folds of cv: .* a cv of more"
    with pytest.warns(UserWarning, match=message):
        classifier.fit(X, y)
    assert classifier.mixing_weight_ == 0
    assert list(classifier.candidates_["source"]) == ["labels"]


# -- pools and synthetic rows -------------------------------------------------------


@pytest.mark.parametrize("mixing_weight", [0.5, "auto"])
@pytest.mark.parametrize("student", [LinearStudent(), TREE, DecisionTreeRegressor()])
def test_pool_and_synthetic_rows_together(mixing_weight, student):
    X, y, X_test, _ = noisy(150)
    distilled = DistillationClassifier(
        GaussianNB(),
        student,
        mixing_weight=mixing_weight,
        augmentation=FEWER,
        random_state=0,
    ).fit(X, y, X_unlabeled=X_test[:50])
    assert_allclose(distilled.predict_proba(X_test).sum(axis=1), 1)


def test_synthetic_rows_are_a_pool():
    X, y, X_test, _ = noisy(150)
    settings = {"teacher": GaussianNB(), "student": LinearStudent(), "random_state": 3}
    seed = int(np.random.RandomState(3).randint(2**31 - 1))
    made = munge(X, 40, random_state=seed)
    with_pool = DistillationClassifier(**settings, mixing_weight=0.5).fit(
        X, y, X_unlabeled=made
    )
    augmented = DistillationClassifier(
        **settings, mixing_weight=0.5, augmentation=FEWER
    ).fit(X, y)
    assert_allclose(
        with_pool.predict_proba(X_test), augmented.predict_proba(X_test), atol=1e-12
    )


@pytest.mark.parametrize("mixing_weight", [0.5, "auto", "per-class"])
def test_synthetic_rows_weigh_as_the_labelled_ones_do(mixing_weight):
    X, y, X_test, _ = noisy(150)
    weight = np.where(np.arange(150) % 3, 1.0, 2.0)
    found = []
    for scale in (1.0, 2.0**-10):
        # A student whose objective is a mean, whatever the weights add up to.
        student = LinearStudent(C=np.inf, tol=1e-8)
        classifier = DistillationClassifier(
            GaussianNB(),
            student,
            mixing_weight=mixing_weight,
            augmentation=FEWER,
            random_state=0,
        ).fit(X, y, sample_weight=scale * weight)
        table = getattr(classifier, "candidates_", {"log_loss": 0.0})
        found.append((classifier.predict_proba(X_test), table["log_loss"]))
    for whole, scaled in zip(*found, strict=True):
        assert_allclose(scaled, whole, rtol=1e-6)


def test_augmentation_of_frames():
    X, y, *_ = noisy(120)
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    distilled = DistillationClassifier(
        GaussianNB(), LinearStudent(), mixing_weight=0.5, augmentation=swap_neighbors
    ).fit(frame, y)
    assert distilled.predict(frame).shape == (120,)


def test_augmentation_must_return_rows_of_the_same_columns():
    X, y, *_ = noisy(120)
    classifier = DistillationClassifier(
        GaussianNB(),
        LinearStudent(),
        augmentation=lambda X, random_state: X[:, :3],
    )
    with pytest.raises(ValueError, match="What augmentation returned does not fit X"):
        classifier.fit(X, y)


@pytest.mark.filterwarnings("ignore:The teacher is worse:UserWarning")
def test_given_soft_labels_are_judged_as_well(three_classes, soft_labels):
    X, y = three_classes
    distilled = DistillationClassifier(student=LinearStudent()).fit(
        X, y, soft_labels=soft_labels
    )
    assert set(distilled.candidates_["source"]) == {"labels", "given"}


def test_a_frozen_teacher_is_not_fitted(three_classes, fit_log):
    X, y = three_classes
    teacher = LoggedTeacher(fit_log).fit(X, y)
    distilled = DistillationClassifier(FrozenEstimator(teacher), LinearStudent())
    distilled.fit(X, y, X_unlabeled=X[:9])
    assert n_fits(fit_log) == 1
    assert set(distilled.candidates_["source"]) == {"labels", "given"}


def test_a_pool_of_as_many_rows_is_a_pool_and_warned_of(three_classes):
    """A search slices what has as many rows as X; scikit-learn does not say so."""
    X, y = three_classes
    settings = {
        "teacher": GaussianNB(),
        "student": LinearStudent(),
        "mixing_weight": 0.5,
    }
    pool = X[::-1] + 1.0
    with pytest.warns(UserWarning, match="as many rows as X"):
        same = DistillationClassifier(**settings).fit(X, y, X_unlabeled=pool)
    halves = DistillationClassifier(**settings).fit(
        X, y, X_unlabeled=np.concatenate([pool, pool[:0], pool[:1]])
    )
    assert abs(same.predict_proba(X) - halves.predict_proba(X)).max() < 0.05
    search = GridSearchCV(DistillationClassifier(**settings), {"cv": [3]}, cv=2)
    with pytest.warns(UserWarning, match="as many rows as X"):
        search.fit(X, y, X_unlabeled=pool)


# -- parameters ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"mixing_weight": "best"}, "'mixing_weight' parameter"),
        ({"mixing_weight": 1.5}, "'mixing_weight' parameter"),
        ({"augmentation": "mixup"}, "'augmentation' parameter"),
    ],
)
def test_parameters_are_checked(three_classes, settings, match):
    with pytest.raises(ValueError, match=match):
        DistillationClassifier(**settings).fit(*three_classes)


@pytest.mark.parametrize(
    ("temperature", "tried"),
    [(None, {1.0, "auto"}), ("auto", {1.0, "auto"}), (2.0, {2})],
)
def test_temperatures_tried(temperature, tried):
    X, y, *_ = noisy(300)
    distilled = DistillationClassifier(
        RandomForestClassifier(20, random_state=0),
        LinearStudent(),
        temperature=temperature,
        cv=3,
    ).fit(X, y)
    assert set(distilled.candidates_["temperature"][1:]) == tried
    assert distilled.temperature_ > 0
