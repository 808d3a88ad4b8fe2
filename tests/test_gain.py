import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import (
    KFold,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedKFold,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from skdistill import DistillationClassifier
from skdistill.datasets import make_class_overlap, make_gaussians
from skdistill.diagnostics import distillation_gain, gain_from_scores
from skdistill.students import LinearStudent

STUMP = DecisionTreeClassifier(max_depth=2, random_state=0)
names = ["log_loss_labels", "log_loss_distilled", "accuracy_labels"]
names.append("accuracy_distilled")


@pytest.fixture(scope="module")
def rows():
    return make_class_overlap(150, n_classes=3, class_sep=1.5, random_state=0)[:2]


def scores(gains, losses=None):
    """Scores of splits with the given gains in log-loss."""
    gains = np.asarray(gains, dtype=float)
    accuracy = np.full(len(gains), 0.75)
    return {
        "log_loss_labels": 1.0 + gains,
        "log_loss_distilled": np.ones(len(gains)),
        "accuracy_labels": accuracy,
        "accuracy_distilled": accuracy + gains / 2,
    }


# -- numbers ------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_those_of_students_fitted_by_hand(weighted, rows):
    X, y = rows
    labels = np.array(["ant", "bee", "cat"])[y]
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y)) if weighted else None
    cv = KFold(3, shuffle=True, random_state=0)
    got = distillation_gain(
        STUMP,
        GaussianNB(),
        X,
        labels,
        cv,
        sample_weight=weight,
        mixing_weight=0.8,
        temperature=1.5,
        teacher_cv=3,
    )
    for j, (train, test) in enumerate(cv.split(X)):
        part = (lambda rows: None) if weight is None else weight.__getitem__
        for who, mixing_weight in (("labels", 0.0), ("distilled", 0.8)):
            student = DistillationClassifier(
                GaussianNB(),
                STUMP,
                mixing_weight=mixing_weight,
                temperature=1.5,
                cv=3,
            ).fit(X[train], labels[train], sample_weight=part(train))
            proba = student.predict_proba(X[test])
            w = part(test)
            assert_allclose(
                got.scores[f"log_loss_{who}"][j],
                log_loss(labels[test], proba, sample_weight=w),
            )
            assert_allclose(
                got.scores[f"accuracy_{who}"][j],
                accuracy_score(labels[test], student.predict(X[test]), sample_weight=w),
            )
    assert (got.n_train, got.n_test) == (100, 50)


def test_interval_is_that_of_nadeau_and_bengio():
    gains = [0.1, 0.3, 0.2, 0.15, 0.25]
    got = gain_from_scores(scores(gains), n_train=80, n_test=20, level=0.9)
    se = np.sqrt((1 / 5 + 20 / 80) * np.var(gains, ddof=1))
    half = stats.t.ppf(0.95, 4) * se
    assert_allclose([got.log_loss.low, got.log_loss.high], [0.2 - half, 0.2 + half])
    assert_allclose(got.accuracy.low, (0.2 - half) / 2)


def test_few_test_rows_leave_fewer_degrees_of_freedom():
    gains = np.linspace(0, 1, 12)
    got = gain_from_scores(scores(gains), n_train=96, n_test=24)
    se = np.sqrt((1 / 12 + 24 / 96) * np.var(gains, ddof=1))
    half = stats.t.ppf(0.95, 24 / 4 - 1) * se
    assert_allclose(got.log_loss.high - got.log_loss.estimate, half)


@pytest.mark.parametrize(
    ("centre", "options", "verdict"),
    [
        (0.5, {}, "helps"),
        (-0.5, {}, "does not help"),
        (0.05, {}, "cannot tell"),
        (0.5, {"min_gain": 0.5}, "cannot tell"),
        (0.5, {"min_gain": 0.2}, "helps"),
        (0.05, {"min_gain": 0.5}, "does not help"),
        (0.5, {"criterion": "accuracy", "min_gain": 0.4}, "does not help"),
    ],
)
def test_verdicts(centre, options, verdict):
    gains = centre + np.array([-0.1, 0.0, 0.1, 0.05, -0.05])
    got = gain_from_scores(scores(gains), n_train=400, n_test=100, **options)
    assert got.verdict == verdict
    said = got.explain()
    beginning = {
        "helps": "Distilling helps",
        "does not help": "Distilling does not help",
        "cannot tell": "Cannot tell",
    }[verdict]
    assert said.startswith(beginning)
    assert ("wrong with a probability of 0.05" in said) == (verdict != "cannot tell")
    assert said in str(got)
    assert said in got._repr_html_()


def test_no_difference_at_all_does_not_help():
    got = gain_from_scores(scores(np.zeros(5)), n_train=80, n_test=20)
    assert (got.log_loss.low, got.log_loss.high) == (0.0, 0.0)
    assert got.verdict == "does not help"


def test_what_it_needs_is_enough():
    """With as many rows of the same gain the verdict is there."""
    gains = np.tile([0.0, 0.03, 0.09, 0.04, -0.01], 2)
    got = gain_from_scores(scores(gains), n_train=400, n_test=100)
    assert got.verdict == "cannot tell"
    times = got.n_samples_needed / 500
    assert times > 1
    smaller = got.log_loss.estimate + (gains - gains.mean()) / np.sqrt(times * 1.001)
    enough = gain_from_scores(scores(smaller), n_train=400, n_test=100)
    assert enough.verdict == "helps"
    larger = got.log_loss.estimate + (gains - gains.mean()) / np.sqrt(times * 0.99)
    short = gain_from_scores(scores(larger), n_train=400, n_test=100)
    assert short.verdict == "cannot tell"


def test_splits_needed():
    gains = np.array([0.3, -0.1])
    got = gain_from_scores(scores(gains), n_train=4000, n_test=100)
    needed = int(got.n_splits_needed)
    spread = np.std(gains, ddof=1)

    def half(n):
        error = spread * np.sqrt(1 / n + 0.025)
        return stats.t.ppf(0.95, min(n, 25) - 1) * error

    assert half(needed) < 0.1 <= half(needed - 1)
    assert f"or {needed} splits" in got.explain()
    # Splits share their rows: their number does not help against n_test / n_train.
    hopeless = gain_from_scores(scores(gains), n_train=200, n_test=100)
    assert hopeless.n_splits_needed == np.inf
    assert "more splits of these would not" in hopeless.explain()
    none = gain_from_scores(scores([0.5, -0.5]), n_train=80, n_test=20)
    assert none.n_samples_needed == np.inf
    assert "no data could tell" in none.explain()


def test_verdicts_on_a_student_that_needs_help_and_one_that_is_spoiled():
    X, y, _ = make_gaussians(300, random_state=0)
    wrong = LogisticRegression().fit(X, 1 - y)
    from sklearn.frozen import FrozenEstimator

    options = {"cv": StratifiedKFold(5), "mixing_weight": 1.0}
    stump = DecisionTreeClassifier(max_depth=6, random_state=0)
    assert distillation_gain(stump, GaussianNB(), X, y, **options).verdict == "helps"
    spoiled = distillation_gain(
        LinearStudent(), FrozenEstimator(wrong), X, y, **options
    )
    assert spoiled.verdict == "does not help"
    assert spoiled.accuracy.high < 0


def test_default_splits_and_seed(rows):
    X, y = rows
    first, again = (
        distillation_gain(STUMP, GaussianNB(), X, y, random_state=0) for _ in range(2)
    )
    assert len(first.scores["log_loss_labels"]) == 15
    assert first.log_loss == again.log_loss
    assert first.to_dict() == again.to_dict()


def test_weight_zero_and_a_class_that_a_split_lacks(rows):
    X, y = rows
    weight = np.ones(len(y))
    weight[::5] = 0.0
    kept = weight > 0
    cv = ShuffleSplit(3, test_size=0.3, random_state=0)
    whole, part = (
        distillation_gain(STUMP, GaussianNB(), X[r], y[r], cv, sample_weight=weight[r])
        for r in (slice(None), kept)
    )
    assert whole.log_loss == part.log_loss
    # One row of class 3: out of the training rows its probability is 0.
    labels = y.copy()
    labels[0] = 3
    folds = [(np.arange(50, 150), np.arange(50)), (np.arange(100), np.arange(100, 150))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the single row, from the cross-fitting
        got = distillation_gain(STUMP, GaussianNB(), X, labels, folds)
    assert np.isfinite(list(got.scores.values())).all()


@pytest.mark.parametrize("kind", ["list", "generator", "predefined"])
def test_splits_number_the_rows_passed_also_those_of_weight_zero(kind, rows):
    X, y = rows
    weight = np.ones(len(y))
    weight[:30] = 0.0
    kept = weight > 0
    fold = np.arange(len(y)) % 3
    passed = PredefinedSplit(fold)
    cv = {"predefined": passed, "list": list(passed.split())}.get(kind, passed.split())
    got = distillation_gain(STUMP, GaussianNB(), X, y, cv, sample_weight=weight)
    cv = PredefinedSplit(fold[kept])
    expected = distillation_gain(STUMP, GaussianNB(), X[kept], y[kept], cv)
    assert got.to_dict() == expected.to_dict()


def test_frame_and_dict(rows):
    X, y = rows
    got = distillation_gain(STUMP, GaussianNB(), X, y, 3)
    table = got.to_frame()
    assert list(table.columns) == names
    assert len(table) == 3
    assert_allclose(table["log_loss_labels"], got.scores["log_loss_labels"])
    numbers = got.to_dict()
    assert numbers["verdict"] == got.verdict
    assert numbers["gain_log_loss_low"] == got.log_loss.low
    assert got.gain is got.log_loss
    assert repr(got) == str(got)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "ece"}, "criterion='ece'"),
        ({"min_gain": -0.1}, "min_gain=-0.1"),
        ({"min_gain": "much"}, "min_gain='much'"),
        ({"level": 0.0}, "level=0.0"),
        ({"cv": ShuffleSplit(1)}, "2 are needed"),
    ],
)
def test_errors_name_the_parameter(options, message, rows):
    X, y = rows
    with pytest.raises(ValueError, match=message):
        distillation_gain(STUMP, GaussianNB(), X, y, **options)


def test_scores_are_checked():
    incomplete = scores([0.1, 0.2])
    del incomplete["accuracy_labels"]
    with pytest.raises(ValueError, match="scores must be a dict with the keys"):
        gain_from_scores(incomplete, n_train=80, n_test=20)
    with pytest.raises(ValueError, match="two splits"):
        gain_from_scores(scores([0.1]), n_train=80, n_test=20)
    with pytest.raises(ValueError, match="n_train=0 must"):
        gain_from_scores(scores([0.1, 0.2]), n_train=0, n_test=20)
    with pytest.raises(ValueError, match="n_test=nan must"):
        gain_from_scores(scores([0.1, 0.2]), n_train=80, n_test=np.nan)
    with pytest.raises(ValueError, match="n_train='80' must"):
        gain_from_scores(scores([0.1, 0.2]), n_train="80", n_test=20)


@pytest.mark.parametrize("name", ["log_loss_labels", "accuracy_distilled"])
@pytest.mark.parametrize("n_splits", [1, 2])
def test_scores_are_of_the_same_splits(name, n_splits):
    uneven = scores([0.1, 0.2, 0.3])
    uneven[name] = uneven[name][:n_splits]
    with pytest.raises(ValueError, match="one number for each split under each key"):
        gain_from_scores(uneven, n_train=80, n_test=20)


@pytest.mark.parametrize(("level", "text"), [(0.9, "at 90%"), (0.999, "at 99.9%")])
def test_the_level_is_written_in_full(level, text):
    options = {"n_train": 80, "n_test": 20, "level": level}
    assert text in str(gain_from_scores(scores([0.1, 0.2]), **options))
