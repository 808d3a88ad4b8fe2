"""Tests of the displays: what is computed, what is drawn, what is refused."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp
from sklearn.base import clone
from sklearn.calibration import calibration_curve
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skdistill import DistillationClassifier, DistillationClassifierCV
from skdistill.datasets import make_class_overlap
from skdistill.diagnostics import (
    ConfidenceInterval,
    mixing_diagnostics,
    objective_variance,
    teacher_bias_variance,
)
from skdistill.metrics import expected_calibration_error
from skdistill.plotting import (
    BiasVarianceDisplay,
    ClassGainDisplay,
    LossCurveDisplay,
    ObjectiveVarianceDisplay,
    ReliabilityDisplay,
    SearchSurfaceDisplay,
)
from skdistill.students import LinearStudent, MLPStudent


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def two_models(three_classes, soft_labels):
    """Labels, and the probabilities of a teacher and a student."""
    _, y = three_classes
    rng = np.random.default_rng(1)
    return y, {"teacher": soft_labels, "student": rng.dirichlet([1, 1, 1], len(y))}


@pytest.fixture(scope="module")
def distilled(three_classes):
    X, y = three_classes
    student = MLPStudent((8,), max_iter=15, early_stopping=False, random_state=0)
    clf = DistillationClassifier(
        GaussianNB(), student, keep_teacher=True, cv=3, mixing_weight=0.5
    )
    return clf.fit(X, y)


@pytest.fixture(scope="module")
def search(three_classes):
    X, y = three_classes
    search = DistillationClassifierCV(
        GaussianNB(),
        LinearStudent(),
        temperatures=[1.0, "auto"],
        mixing_weights=[0.0, 0.5, 1.0],
        cv=3,
        teacher_cv=2,
    )
    return search.fit(X, y)


def text_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# -- reliability ------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_reliability_of_a_class_is_scikit_learn_s_curve(two_models, strategy):
    y, proba = two_models
    display = ReliabilityDisplay.from_predictions(
        y, proba, class_label=2, n_bins=6, strategy=strategy
    )
    for name, curve in display.curves.items():
        expected = calibration_curve(
            y == 2, proba[name][:, 2], n_bins=6, strategy=strategy
        )
        if strategy == "uniform":
            np.testing.assert_allclose(curve.prob_true, expected[0])
            np.testing.assert_allclose(curve.prob_pred, expected[1])
        else:  # scikit-learn interpolates the edges, which moves single rows
            np.testing.assert_allclose(curve.prob_pred, expected[1], atol=0.02)
        assert curve.share.sum() == pytest.approx(1)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_reliability_error_is_the_metric(two_models, strategy):
    y, proba = two_models
    weight = np.random.default_rng(2).uniform(0, 2, len(y))
    display = ReliabilityDisplay.from_predictions(
        y, proba, n_bins=7, strategy=strategy, sample_weight=weight
    )
    for name, curve in display.curves.items():
        expected = expected_calibration_error(
            y, proba[name], n_bins=7, strategy=strategy, sample_weight=weight
        )
        assert curve.error == pytest.approx(expected)


def test_reliability_intervals_are_wilson_s(two_models):
    y, proba = two_models
    curve = ReliabilityDisplay.from_predictions(y, proba, n_bins=5).curves["teacher"]
    n = np.rint(curve.share * len(y)).astype(int)
    for i in range(len(n)):
        right = int(np.rint(curve.prob_true[i] * n[i]))
        expected = binomtest(right, n[i]).proportion_ci(method="wilson")
        assert (curve.lower[i], curve.upper[i]) == pytest.approx(expected)


def test_reliability_weights_count_as_repeated_rows(two_models):
    y, proba = two_models
    weight = np.random.default_rng(3).integers(0, 3, len(y))
    weighted = ReliabilityDisplay.from_predictions(y, proba, sample_weight=weight)
    repeated = ReliabilityDisplay.from_predictions(
        np.repeat(y, weight), {k: np.repeat(p, weight, 0) for k, p in proba.items()}
    )
    for name, curve in weighted.curves.items():
        for field in ("prob_pred", "prob_true", "share"):
            np.testing.assert_allclose(
                getattr(curve, field), getattr(repeated.curves[name], field)
            )


def test_reliability_of_an_estimator_and_its_teacher(distilled, three_classes):
    X, y = three_classes
    display = ReliabilityDisplay.from_estimator(distilled, X, y, n_bins=5)
    assert list(display.curves) == ["teacher", "student"]
    proba = {
        "teacher": distilled.teacher_.predict_proba(X),
        "student": distilled.predict_proba(X),
    }
    expected = ReliabilityDisplay.from_predictions(y, proba, n_bins=5)
    for name, curve in expected.curves.items():
        np.testing.assert_array_equal(curve.prob_true, display.curves[name].prob_true)
    assert len(display.axes_) == 2
    assert display.ax_ is display.axes_[0]
    assert display.figure_ is display.ax_.figure
    assert display.ax_.get_title().startswith("teacher, calibration error 0.")
    assert display.ax_.get_xlabel() == "confidence (highest probability)"
    assert display.ax_.get_ylabel() == "share of rows that are right"
    drawn = display.lines_[1].get_xydata()
    curve = display.curves["student"]
    np.testing.assert_array_equal(drawn, np.c_[curve.prob_pred, curve.prob_true])


def test_reliability_of_a_teacher_with_other_columns(three_classes):
    """A teacher's classes may be in another order, and be strings."""
    X, y = three_classes
    names = np.array(["c", "a", "b"])
    student = LogisticRegression().fit(X, names[y])
    teacher = GaussianNB().fit(X, names[y])
    display = ReliabilityDisplay.from_estimator(
        student, X, names[y], teacher=teacher, class_label="c"
    )
    expected = calibration_curve(y == 0, teacher.predict_proba(X)[:, 2], n_bins=10)
    np.testing.assert_allclose(display.curves["teacher"].prob_true, expected[0])
    assert display.ax_.get_xlabel() == "probability of class 'c'"


def test_reliability_draws_into_one_axes_or_several(two_models):
    y, proba = two_models
    _, ax = plt.subplots()
    display = ReliabilityDisplay.from_predictions(y, proba, ax=ax)
    assert display.ax_ is ax
    assert [text.partition(",")[0] for text in text_of(ax)] == [
        "perfectly calibrated",
        "teacher",
        "student",
    ]
    figure, axes = plt.subplots(1, 2)
    assert display.plot(ax=axes) is display
    assert display.figure_ is figure
    assert list(display.axes_) == list(axes)


def test_reliability_of_bayes_probabilities(two_models):
    """Soft labels may stand for labels: known probabilities are calibrated."""
    _, proba = two_models
    curve = ReliabilityDisplay.from_predictions(
        proba["teacher"], {"teacher": proba["teacher"]}, class_label=1
    ).curves["teacher"]
    assert curve.error == pytest.approx(0, abs=1e-12)


def test_reliability_of_a_class_with_labels_in_a_column(two_models):
    y, proba = two_models
    names = np.array(["a", "b", "c"])[y]
    flat, column = (
        ReliabilityDisplay.from_predictions(labels, proba, class_label="b")
        for labels in (names, names[:, None])
    )
    assert column.curves["teacher"].error == flat.curves["teacher"].error


def test_reliability_errors(two_models, three_classes):
    X, y = three_classes
    _, proba = two_models
    with pytest.raises(ValueError, match="class_label=7 must be one of the labels"):
        ReliabilityDisplay.from_predictions(y, proba, class_label=7)
    with pytest.raises(ValueError, match="proba must map the name of each model"):
        ReliabilityDisplay.from_predictions(y, proba["teacher"])
    with pytest.raises(ValueError, match=r"proba\['student'\] must have non-negative"):
        ReliabilityDisplay.from_predictions(y, {"student": -proba["student"]})
    with pytest.raises(ValueError, match="ax must hold 2 axes, got 3"):
        ReliabilityDisplay.from_predictions(y, proba, ax=plt.subplots(1, 3)[1])
    with pytest.raises(TypeError, match="ax must be a matplotlib Axes or None"):
        ReliabilityDisplay.from_predictions(y, proba, ax=3)
    fitted = GaussianNB().fit(X, y)
    with pytest.raises(ValueError, match="GaussianNB has no teacher_ to draw beside"):
        ReliabilityDisplay.from_estimator(fitted, X, y)


# -- search surface ---------------------------------------------------------------


def test_surface_of_a_search(search):
    display = SearchSurfaceDisplay.from_estimator(search)
    np.testing.assert_array_equal(display.mean_scores, search.scores_.mean(axis=2))
    assert display.mean_scores[display.chosen] == search.best_score_
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["0", "0.5", "1"]
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == ["1", "auto"]
    assert display.ax_.get_xlabel() == "mixing weight"
    assert display.ax_.get_ylabel() == "temperature"
    colorbar = display.figure_.axes[1]
    assert colorbar.get_ylabel() == "negative log loss, higher is better"
    frame = display.ax_.patches[0]
    row, column = display.chosen
    centre = frame.get_y() + frame.get_height() / 2, frame.get_x() + 0.47
    assert centre == pytest.approx((row, column))
    best = display.text_[display.chosen].get_text()
    assert best.startswith(f"{search.best_score_:.3f}")


def test_surface_marks_what_is_near_the_best():
    scores = np.array([[[1.0, 3.0], [2.0, 2.2]], [[0.9, 1.2], [0.0, 0.0]]])
    display = SearchSurfaceDisplay(scores, [1, 2], [0, 1]).plot()
    # The best mean is 2.1, with standard error 0.1.
    np.testing.assert_array_equal(display.near_best, [[True, True], [False, False]])
    assert "•" in display.text_[0, 0].get_text()
    assert "•" not in display.text_[1, 1].get_text()
    assert display.chosen == (0, 1)


def test_surface_of_the_students_parameters_chosen(three_classes):
    search = DistillationClassifierCV(
        GaussianNB(),
        LinearStudent(tol=0.1),
        temperatures=(1.0, 2.0),
        mixing_weights=(0.0, 1.0),
        student_grid={"C": [1e-4, 1.0, 1e-3]},
        cv=3,
        teacher_cv=2,
    ).fit(*three_classes)
    assert search.best_params_["student__C"] == 1.0
    display = SearchSurfaceDisplay.from_estimator(search)
    expected = search.scores_[:, :, 1].mean(axis=2)
    np.testing.assert_array_equal(display.mean_scores, expected)
    assert display.mean_scores[display.chosen] == search.best_score_


def test_surface_options(search):
    _, ax = plt.subplots()
    display = SearchSurfaceDisplay.from_estimator(
        search, ax=ax, cmap="gray", values_format=None, colorbar=False
    )
    assert display.ax_ is ax
    assert len(display.figure_.axes) == 1
    assert display.image_.get_cmap().name == "gray"
    assert {text.get_text() for text in display.text_.ravel()} <= {"", "•"}
    dark = display.text_[np.unravel_index(display.mean_scores.argmin(), (2, 3))]
    assert dark.get_color() == "white"


def test_surface_with_a_single_fold_and_nan():
    scores = np.array([[[0.5], [np.nan]]])
    display = SearchSurfaceDisplay(scores, ["auto"], [0.0, 1.0]).plot()
    np.testing.assert_array_equal(display.near_best, [[True, False]])
    assert display.text_[0, 1].get_text() == "nan"


def test_surface_errors(search):
    with pytest.raises(TypeError, match="must be a DistillationClassifierCV, got Gau"):
        SearchSurfaceDisplay.from_estimator(GaussianNB())
    with pytest.raises(NotFittedError):
        SearchSurfaceDisplay.from_estimator(DistillationClassifierCV())
    with pytest.raises(ValueError, match=r"= \(2, 3, n_folds\), got \(3, 2, 1\)"):
        SearchSurfaceDisplay(np.zeros((3, 2, 1)), [1, 2], [0, 0.5, 1])
    with pytest.raises(ValueError, match="all are"):
        SearchSurfaceDisplay(np.full((1, 1, 2), np.nan), [1], [0])


# -- class gain -------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "brier"])
def test_gain_is_a_paired_mean_with_student_s_interval(two_models, metric):
    y, proba = two_models
    baseline, student = proba["teacher"], proba["student"]
    display = ClassGainDisplay.from_predictions(
        y, baseline, student, metric=metric, level=0.9
    )
    one_hot = np.eye(3)[y]

    def score(p):
        return {
            "accuracy": (p.argmax(axis=1) == y) * 1.0,
            "log_loss": np.log((p * one_hot).sum(axis=1)),
            "brier": -((p - one_hot) ** 2).sum(axis=1),
        }[metric]

    difference = score(student) - score(baseline)
    for i, rows in enumerate([y == 0, y == 1, y == 2, y >= 0]):
        assert display.gain[i] == pytest.approx(difference[rows].mean())
        interval = ttest_1samp(difference[rows], 0).confidence_interval(0.9)
        ours = display.intervals[i]
        assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))
        assert display.n_rows[i] == rows.sum()


def test_gain_of_estimators(distilled, three_classes):
    X, y = three_classes
    baseline = GaussianNB().fit(X, y)
    display = ClassGainDisplay.from_estimator(distilled, X, y, baseline=baseline)
    expected = ClassGainDisplay.from_predictions(
        y, baseline.predict_proba(X), distilled.predict_proba(X)
    )
    np.testing.assert_allclose(display.gain, expected.gain)
    ticks = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert ticks[0] == f"0 (n = {(y == 0).sum()})"
    assert ticks[-1] == "all rows (n = 120)"
    assert display.ax_.get_xlabel() == (
        "reduction of the log-loss (nats), right of 0 is better; 95 % interval"
    )
    drawn = [container.lines[0].get_xdata()[0] for container in display.containers_]
    np.testing.assert_array_equal(drawn, display.gain)


def test_gain_says_on_which_side_of_zero_it_is():
    intervals = [
        ConfidenceInterval(gain, 0.25, gain - 0.5, gain + 0.5, 0.9)
        for gain in (1.0, -1.0, 0.1, 0.2)
    ]
    display = ClassGainDisplay(["a", "b", "c"], intervals, [9] * 4)
    _, ax = plt.subplots()
    assert display.plot(ax=ax).ax_ is ax
    markers = [c.lines[0].get_marker() for c in display.containers_]
    assert markers == [">", "<", "o", "o"]
    assert ax.get_xlabel().endswith("90 % interval")


def test_gain_of_weighted_rows():
    y = [0, 0, 0, 1, 1]
    baseline = np.full((5, 2), 0.5)
    student = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.5, 0.5]])
    display = ClassGainDisplay.from_predictions(
        y, baseline, student, metric="accuracy", sample_weight=[1, 1, 2, 0, 1]
    )
    # Of ties the first class counts: the baseline names class 0 everywhere.
    np.testing.assert_allclose(display.gain, [-0.5, 0.0, -0.4])
    assert list(display.n_rows) == [3, 1, 4]
    assert display.intervals[1].high == np.inf
    equal = ClassGainDisplay.from_predictions(y, baseline, student)
    scaled = ClassGainDisplay.from_predictions(
        y, baseline, student, sample_weight=[7] * 5
    )
    for one, other in zip(equal.intervals, scaled.intervals, strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_gain_of_a_class_without_rows():
    proba = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]
    display = ClassGainDisplay.from_predictions(
        ["a", "c"], proba, proba, labels=["a", "b", "c"]
    )
    np.testing.assert_array_equal(display.gain, [0, np.nan, 0, 0])
    assert list(display.classes) == ["a", "b", "c"]


def test_gain_errors(two_models):
    y, proba = two_models
    teacher, student = proba["teacher"], proba["student"]
    with pytest.raises(ValueError, match="metric='f1' must be one of"):
        ClassGainDisplay.from_predictions(y, teacher, student, metric="f1")
    with pytest.raises(ValueError, match="level"):
        ClassGainDisplay.from_predictions(y, teacher, student, level=95)
    with pytest.raises(ValueError, match=r"y_true must have shape \(120,\)"):
        ClassGainDisplay.from_predictions(y[:-1], teacher, student)
    with pytest.raises(ValueError, match="baseline_proba has shape"):
        ClassGainDisplay.from_predictions(y, teacher[:, :2] * 0 + 0.5, student)


# -- loss curves ------------------------------------------------------------------


def test_loss_curves_of_students(distilled, three_classes):
    X, y = three_classes
    held_out = MLPStudent((8,), max_iter=30, early_stopping=True, random_state=0)
    held_out.fit(X, y)
    display = LossCurveDisplay.from_estimator(
        {"distilled": distilled, "labels": held_out}, log_scale=True
    )
    first, second = display.lines_["distilled"], display.lines_["labels"]
    np.testing.assert_array_equal(first[0].get_ydata(), distilled.student_.loss_curve_)
    np.testing.assert_array_equal(second[0].get_ydata(), held_out.loss_curve_)
    np.testing.assert_array_equal(second[1].get_ydata(), -held_out.validation_scores_)
    assert first[0].get_xdata()[0] == 1
    assert text_of(display.ax_) == [
        "distilled, training",
        "labels, training",
        "labels, held-out rows",
        "epoch kept",
    ]
    assert display.ax_.get_yscale() == "log"
    kept = display.kept_epochs
    assert kept["distilled"] == distilled.student_.n_iter_
    best = -held_out.validation_scores_[kept["labels"] - 1]
    assert best == -held_out.best_validation_score_


def test_loss_curves_of_a_list_and_of_a_pipeline(three_classes):
    X, y = three_classes
    student = MLPStudent((4,), max_iter=3, early_stopping=False, random_state=0)
    pipeline = make_pipeline(StandardScaler(), student).fit(X, y)
    clf = DistillationClassifier(
        GaussianNB(), make_pipeline(StandardScaler(), student), cv=2, mixing_weight=0.5
    ).fit(X, y)
    _, ax = plt.subplots()
    display = LossCurveDisplay.from_estimator([pipeline, clf], ax=ax)
    assert display.ax_ is ax
    assert list(display.loss_curves) == ["Pipeline 1", "DistillationClassifier 2"]
    assert display.kept_epochs == {"Pipeline 1": 3, "DistillationClassifier 2": 3}


def test_loss_curve_on_an_axis_of_another_scale():
    _, ax = plt.subplots(subplot_kw={"xscale": "log"})
    display = LossCurveDisplay({"a": [1.0, 0.5, 0.25]}).plot(ax)
    assert display.ax_.get_xscale() == "log"


def test_loss_curve_errors(three_classes):
    X, y = three_classes
    with pytest.raises(TypeError, match="LinearStudent has no loss curve"):
        LossCurveDisplay.from_estimator(LinearStudent().fit(X, y))
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(MLPStudent())
    with pytest.raises(ValueError, match="at least one fitted student"):
        LossCurveDisplay.from_estimator([])
    with pytest.raises(ValueError, match=r"no loss_curves for \['b'\]"):
        LossCurveDisplay({"a": [1.0]}, {"b": [1.0]})


# -- variance of the objective ------------------------------------------------------


def test_objective_variance_of_a_teacher(two_models):
    y, proba = two_models
    sizes = np.array([10.0, 50.0, 1e4])
    display = ObjectiveVarianceDisplay.from_predictions(
        y, proba["teacher"], proba["student"], n_samples=sizes
    )
    variance = objective_variance(proba["teacher"], proba["student"], y=y, n_samples=1)
    mixing = mixing_diagnostics(y, proba["teacher"], proba["student"])
    bias = mixing.bias.estimate**2 - mixing.bias.standard_error**2
    assert display.squared_bias == pytest.approx(max(bias, 0))
    np.testing.assert_allclose(display.one_hot_error, float(variance.one_hot) / sizes)
    np.testing.assert_allclose(
        display.soft_error, float(variance.soft) / sizes + display.squared_bias
    )
    drawn = display.lines_["one_hot"].get_xydata()
    np.testing.assert_array_equal(drawn, np.c_[sizes, display.one_hot_error])
    assert display.ax_.get_xlabel() == "number of rows N"
    assert "nats²" in display.ax_.get_ylabel()


def test_objective_variance_crosses_at_the_break_even_size():
    """Where the lines meet is N*, which is marked if it is within the axes."""
    X, y, _ = make_class_overlap(2000, random_state=0)
    student = LogisticRegression().fit(X[:100], y[:100])
    teacher = LogisticRegression(C=0.01).fit(X[100:200], y[100:200])
    n_star = mixing_diagnostics(
        y, teacher.predict_proba(X), student.predict_proba(X)
    ).break_even.estimate
    _, ax = plt.subplots()
    display = ObjectiveVarianceDisplay.from_estimator(
        student,
        X,
        y,
        teacher=teacher,
        n_samples=[n_star / 10, n_star, 2 * n_star],
        ax=ax,
    )
    assert display.ax_ is ax
    assert display.soft_error[1] == pytest.approx(display.one_hot_error[1])
    assert display.soft_error[0] < display.one_hot_error[0]
    assert display.soft_error[2] > display.one_hot_error[2]
    assert text_of(ax)[-1] == f"equal at N* = {n_star:,.0f}"
    beyond = ObjectiveVarianceDisplay.from_estimator(
        student, X, y, teacher=teacher, n_samples=[2 * n_star, 3 * n_star]
    )
    assert text_of(beyond.ax_) == ["labels", "the teacher", "the teacher: variance"]


def test_objective_variance_of_true_probabilities(two_models):
    _, proba = two_models
    display = ObjectiveVarianceDisplay.from_predictions(
        None, proba["teacher"], proba["student"]
    )
    assert display.squared_bias == 0
    assert (display.soft_error < display.one_hot_error).all()  # Lemma 1
    assert text_of(display.ax_) == ["labels", "true probabilities"]


def test_objective_variance_errors(two_models):
    y, proba = two_models
    teacher, student = proba["teacher"], proba["student"]
    with pytest.raises(ValueError, match="single row, n_samples=1; got that of 120"):
        ObjectiveVarianceDisplay(objective_variance(teacher, student))
    with pytest.raises(ValueError, match="n_samples must be positive numbers"):
        ObjectiveVarianceDisplay.from_predictions(y, teacher, student, n_samples=[0])
    with pytest.raises(ValueError, match="soft_labels has shape"):
        ObjectiveVarianceDisplay.from_predictions(y, teacher[:9], student)


# -- bias and variance ----------------------------------------------------------------


def test_bias_variance_of_fits(soft_labels):
    rng = np.random.default_rng(5)
    fits = {name: rng.dirichlet([2, 1, 1], (4, 120)) for name in ("a", "b")}
    scores = {"a": [1.0, 3.0], "b": [2.0, 2.0]}
    display = BiasVarianceDisplay.from_predictions(
        soft_labels, fits, scores, score_name="AUC"
    )
    for i, name in enumerate(fits):
        expected = teacher_bias_variance(fits[name], soft_labels)
        assert display.parts[name] == expected
        for field in ("squared_error", "squared_bias", "variance"):
            drawn = display.lines_[field].get_ydata()[i]
            assert drawn == getattr(expected, field)
    np.testing.assert_array_equal(display.lines_["student"].get_ydata(), [2.0, 2.0])
    assert display.axes_[1].get_ylabel() == "AUC of the student"
    assert [t.get_text() for t in display.axes_[1].get_xticklabels()] == ["a", "b"]
    assert text_of(display.ax_)[0] == "squared error"


def test_bias_variance_with_labels_says_so(three_classes, soft_labels):
    _, y = three_classes
    _, axes = plt.subplots(2, 1)
    display = BiasVarianceDisplay.from_predictions(
        y, {"a": [soft_labels, soft_labels]}, {"a": [0.0]}, ax=axes
    )
    assert list(display.axes_) == list(axes)
    column = BiasVarianceDisplay.from_predictions(
        y[:, None], {"a": [soft_labels, soft_labels]}, {"a": [0.0]}
    )
    assert column.with_label_noise
    assert display.parts["a"].variance == 0
    assert text_of(display.ax_)[:2] == [
        "squared error + label noise",
        "squared bias + label noise",
    ]


def test_bias_variance_of_estimators():
    """Deeper trees have less bias and more variance; students are scored as told."""
    X, y, _ = make_class_overlap(600, random_state=0)
    X_test, y_test, bayes_proba = make_class_overlap(300, random_state=1)
    names = np.array(["c", "a", "b"])
    order = np.argsort(names)
    teachers = {
        f"depth {d}": DecisionTreeClassifier(max_depth=d, random_state=0)
        for d in (1, 8)
    }
    display = BiasVarianceDisplay.from_estimator(
        teachers,
        X,
        names[y],
        X_test,
        names[y_test],
        student=LinearStudent(),
        bayes_proba=bayes_proba[:, order],
        n_fits=3,
        random_state=0,
    )
    shallow, deep = display.parts.values()
    assert shallow.squared_bias > deep.squared_bias
    assert shallow.variance < deep.variance
    assert [len(scores) for scores in display.student_scores.values()] == [3, 3]
    assert display.axes_[1].get_ylabel() == "negative log loss of the student"
    again = BiasVarianceDisplay.from_estimator(
        teachers,
        X,
        names[y],
        X_test,
        names[y_test],
        student=LinearStudent(),
        scoring=lambda student, X, y: student.score(X, y) + 1,
        n_fits=3,
        random_state=0,
    )
    assert all((scores > 1.2).all() for scores in again.student_scores.values())
    # The labels' noise is the same for both teachers.
    first, second = again.parts.values()
    assert first.variance == pytest.approx(shallow.variance)
    assert first.squared_bias - second.squared_bias == pytest.approx(
        shallow.squared_bias - deep.squared_bias, abs=0.06
    )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_bias_variance_of_test_rows_that_lack_a_class(n_classes):
    X, y, _ = make_class_overlap(150, n_classes=n_classes, random_state=0)
    X_test, y_test, _ = make_class_overlap(60, n_classes=n_classes, random_state=1)
    names, kept = np.array(["x", "y", "z"]), y_test != n_classes - 1
    display = BiasVarianceDisplay.from_estimator(
        {"t": DecisionTreeClassifier(max_depth=2, random_state=0)},
        X,
        names[y],
        X_test[kept],
        names[y_test[kept]],
        student=LinearStudent(),
        n_fits=2,
        random_state=0,
    )
    assert np.isfinite(display.student_scores["t"]).all()


def test_bias_variance_errors(three_classes, soft_labels):
    X, y = three_classes
    fits = {"a": [soft_labels, soft_labels]}
    with pytest.raises(ValueError, match="student_scores must have the names"):
        BiasVarianceDisplay.from_predictions(soft_labels, fits, {"b": [1.0]})
    with pytest.raises(ValueError, match="with two fits at least"):
        BiasVarianceDisplay.from_predictions(soft_labels, {"a": soft_labels}, {"a": 1})
    tree = DecisionTreeClassifier()
    with pytest.raises(ValueError, match="teachers must map names to teachers"):
        BiasVarianceDisplay.from_estimator(tree, X, y, X, y)
    with pytest.raises(ValueError, match="n_fits=1 must be between 2 and"):
        BiasVarianceDisplay.from_estimator({"a": tree}, X, y, X, y, n_fits=1)
    with pytest.raises(TypeError, match="teacher must be"):
        BiasVarianceDisplay.from_estimator({"a": StandardScaler()}, X, y, X, y)
    frozen = {"a": tree, "b": FrozenEstimator(clone(tree).fit(X, y))}
    with pytest.raises(ValueError, match=r"teachers\['b'\] is frozen: its variance"):
        BiasVarianceDisplay.from_estimator(frozen, X, y, X, y)
    with pytest.raises(ValueError, match="ax must hold 2 axes, got 1"):
        BiasVarianceDisplay.from_predictions(
            soft_labels, fits, {"a": [1.0]}, ax=plt.subplots()[1]
        )


# -- matplotlib -------------------------------------------------------------------


def test_matplotlib_is_not_imported_before_it_is_needed():
    code = (
        "import sys, skdistill, skdistill.plotting\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    display = SearchSurfaceDisplay(np.zeros((1, 1, 2)), [1.0], [0.0])
    with pytest.raises(ImportError, match=r'pip install "skdistill\[plot\]"'):
        display.plot()
    with pytest.raises(ImportError, match="BiasVarianceDisplay needs matplotlib"):
        BiasVarianceDisplay.from_estimator({}, None, None, None, None)
    with pytest.raises(ImportError, match="ReliabilityDisplay needs matplotlib"):
        ReliabilityDisplay.from_predictions([0, 1], {"a": [[0.9, 0.1], [0.2, 0.8]]})
