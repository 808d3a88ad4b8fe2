import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import PredefinedSplit, StratifiedKFold, cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from skdistill._calibration import fit_temperature
from skdistill._intervals import proportion_interval
from skdistill.datasets import distort_proba, make_checkerboard, make_class_overlap
from skdistill.diagnostics import (
    brier_decomposition,
    brier_difference,
    class_reliability,
    cross_fit_bias_variance,
    empirical_risk,
    mixing_diagnostics,
    teacher_report,
)
from skdistill.metrics import brier_score, expected_calibration_error
from skdistill.students import LinearStudent

TREE = DecisionTreeClassifier(max_depth=3, random_state=0)


@pytest.fixture(scope="module")
def rows():
    X, y, p = make_class_overlap(240, n_classes=3, class_sep=1.5, random_state=0)
    return X, np.array(["ant", "bee", "cat"])[y], p


@pytest.fixture(scope="module")
def report(rows):
    X, y, _ = rows
    return teacher_report(
        {"bayes": GaussianNB(), "tree": TREE}, X, y, student=LinearStudent()
    )


def by_name(report):
    return {one.name: one for one in report.teachers}


#: Factors of intervals for teachers of 5 folds, where n_2 / n_1 is a quarter.
OF_DIFFERENCES, OF_SCORES = np.sqrt(1 + 1 / 4), np.sqrt(1 + 5 / 4)


def longer(interval, factor=OF_DIFFERENCES):
    """Ends of an interval for teachers that were fitted in the folds."""
    half = factor * (interval.high - interval.estimate)
    return [interval.estimate - half, interval.estimate + half]


# -- numbers ------------------------------------------------------------------------


def test_scores_are_those_of_out_of_fold_probabilities(rows, report):
    X, y, _ = rows
    classes = np.unique(y)
    proba = cross_val_predict(TREE, X, y, cv=StratifiedKFold(5), method="predict_proba")
    tree = by_name(report)["tree"]
    assert_allclose(tree.proba, proba)
    scores = tree.scores
    assert_allclose(
        scores.accuracy.estimate, accuracy_score(y, classes[proba.argmax(axis=1)])
    )
    assert_allclose(scores.log_loss.estimate, log_loss(y, proba))
    assert_allclose(scores.brier.estimate, brier_score(y, proba))
    assert_allclose(
        tree.expected_calibration_error, expected_calibration_error(y, proba)
    )
    codes = np.searchsorted(classes, y)
    assert_allclose(tree.temperature, fit_temperature(codes, proba))
    assert tree.decomposition == brier_decomposition(y, proba)
    assert_allclose(tree.reliability.recall, class_reliability(y, proba).recall)


def test_mixing_and_lead_are_against_the_student_out_of_fold(rows, report):
    X, y, _ = rows
    student = cross_val_predict(
        LinearStudent(), X, y, cv=StratifiedKFold(5), method="predict_proba"
    )
    assert_allclose(report.student_proba, student)
    assert_allclose(report.student.log_loss.estimate, log_loss(y, student))
    for one in report.teachers:
        expected = mixing_diagnostics(y, one.proba, student)
        for name in ("bias", "mixing_weight", "break_even"):
            of_report, of_function = getattr(one.mixing, name), getattr(expected, name)
            for part in ("estimate", "low", "high"):
                assert_allclose(getattr(of_report, part), getattr(of_function, part))
        lead = longer(brier_difference(y, student, one.proba))
        assert_allclose([one.lead.low, one.lead.high], lead)


def test_the_ranking_is_by_brier_score_with_paired_intervals(rows, report):
    _, y, _ = rows
    first, second = report.teachers
    assert report.best is first
    assert first.scores.brier.estimate < second.scores.brier.estimate
    assert (first.behind.low, first.behind.high) == (0.0, 0.0)
    expected = longer(brier_difference(y, second.proba, first.proba))
    assert_allclose([second.behind.low, second.behind.high], expected)


def test_intervals_of_several_teachers_hold_at_once(rows):
    """Bonferroni over the pairs; ranks follow from the intervals."""
    X, y, p = rows
    teachers = {f"a={a}": distort_proba(p, a) for a in (0.9, 1.0, 1.1)}
    teachers["wrong"] = p[:, [1, 2, 0]]
    report = teacher_report(teachers, X, y, student=LinearStudent(), level=0.9)
    found = by_name(report)
    best = report.best
    for one in report.teachers[1:]:
        expected = brier_difference(y, one.proba, best.proba, level=1 - 0.1 / 6)
        assert_allclose(
            [one.behind.low, one.behind.high], [expected.low, expected.high]
        )
    assert found["wrong"].ranks == (4, 4)
    for a in (0.9, 1.0, 1.1):
        low, high = found[f"a={a}"].ranks
        assert low <= [one.name for one in report.teachers].index(f"a={a}") + 1 <= high
        assert high == 3


def test_log_loss_ranks_otherwise(rows):
    X, y, p = rows
    # Wrong once, with certainty: little to the Brier score, much to the log-loss.
    sure = p.copy()
    sure[0] = np.eye(3)[(np.searchsorted(["ant", "bee", "cat"], y[0]) + 1) % 3]
    teachers = {"sure": sure, "flat": distort_proba(p, 8.0)}
    by_brier = teacher_report(teachers, X, y, student=LinearStudent())
    by_loss = teacher_report(
        teachers, X, y, student=LinearStudent(), rank_by="log_loss"
    )
    assert by_brier.best.name == "sure"
    assert by_loss.best.name == "flat"
    assert by_loss.best.lead.estimate == pytest.approx(
        by_loss.student.log_loss.estimate - by_loss.best.scores.log_loss.estimate
    )


def test_the_calibration_error_never_ranks(rows):
    """The class frequencies have the least ECE, and come last."""
    X, y, p = rows
    frequencies = np.tile(np.unique(y, return_counts=True)[1] / len(y), (len(y), 1))
    report = teacher_report(
        {"frequencies": frequencies, "half": distort_proba(p, 0.8)},
        X,
        y,
        student=LinearStudent(),
    )
    found = by_name(report)
    assert found["frequencies"].expected_calibration_error < 1e-12
    assert found["half"].expected_calibration_error > 0.01
    assert report.best.name == "half"
    with pytest.raises(ValueError, match="proper scores"):
        teacher_report(GaussianNB(), X, y, rank_by="ece")


# -- teachers -----------------------------------------------------------------------


def test_intervals_are_longer_for_teachers_that_were_fitted(rows):
    X, y, _ = rows
    fitted = FrozenEstimator(GaussianNB().fit(X, y))
    report = teacher_report(
        {"given": fitted.predict_proba(X), "frozen": fitted, "fitted": GaussianNB()},
        X,
        y,
        student=LinearStudent(),
    )
    found = by_name(report)
    given, frozen = found["given"].scores, found["frozen"].scores
    assert given == frozen
    plain = empirical_risk(y, found["given"].proba, loss="brier")
    assert_allclose([given.brier.low, given.brier.high], [plain.low, plain.high])
    plain = empirical_risk(y, found["fitted"].proba, loss="brier")
    brier = found["fitted"].scores.brier
    assert_allclose([brier.low, brier.high], longer(plain, OF_SCORES))
    share = proportion_interval(
        (found["fitted"].proba.argmax(axis=1) == np.unique(y, return_inverse=True)[1])
        * 1.0,
        np.ones(len(y)),
        0.95,
    )
    accuracy = found["fitted"].scores.accuracy
    assert_allclose(
        [accuracy.low, accuracy.high],
        [
            share.estimate + OF_SCORES * (end - share.estimate)
            for end in (share.low, share.high)
        ],
    )


def test_equal_classes_are_numbered_and_a_frozen_teacher_is_left_alone(rows):
    X, y, _ = rows
    fitted = LogisticRegression().fit(X[:100], y[:100])
    report = teacher_report(
        [TREE, DecisionTreeClassifier(), FrozenEstimator(fitted), LinearSVC()],
        X[100:],
        y[100:],
        student=LinearStudent(),
    )
    assert set(by_name(report)) == {
        "DecisionTreeClassifier-1",
        "DecisionTreeClassifier-2",
        "FrozenEstimator",
        "LinearSVC",
    }
    frozen = by_name(report)["FrozenEstimator"]
    assert_allclose(frozen.proba, fitted.predict_proba(X[100:]))


def test_folds_are_the_same_for_all(rows):
    X, y, _ = rows
    folds = StratifiedKFold(3, shuffle=True)  # other ones at each call
    report = teacher_report(
        {"one": TREE, "same": TREE}, X, y, cv=folds, student=LinearStudent()
    )
    one, same = report.teachers
    assert_array_equal(one.proba, same.proba)
    assert one.ranks == same.ranks == (1, 2)


def test_rows_of_weight_zero_are_as_if_absent(rows):
    X, y, p = rows
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    weight[::5] = 0.0
    kept = weight > 0
    cv = StratifiedKFold(4)
    options = {"cv": cv, "student": LinearStudent(), "variance_repeats": 1}
    whole = teacher_report(
        {"tree": TREE, "given": p},
        X,
        y,
        sample_weight=weight,
        random_state=0,
        **options,
    )
    part = teacher_report(
        {"tree": TREE, "given": p[kept]},
        X[kept],
        y[kept],
        sample_weight=weight[kept],
        random_state=0,
        **options,
    )
    assert whole.n_samples == kept.sum()
    assert whole.to_dict() == part.to_dict()
    plain = teacher_report({"tree": TREE}, X[kept], y[kept], **options)
    assert plain.to_dict()["tree"]["brier"] != part.to_dict()["tree"]["brier"]


@pytest.mark.parametrize("kind", ["list", "generator", "predefined"])
def test_folds_number_the_rows_passed_also_those_of_weight_zero(kind, rows):
    X, y, _ = rows
    weight = np.ones(len(y))
    weight[:40] = 0.0
    kept = weight > 0
    fold = np.random.default_rng(0).integers(3, size=len(y))
    fold[:10] = 3  # a fold of nothing but absent rows
    fold[-1] = 0
    passed = PredefinedSplit(fold)
    cv = {"predefined": passed, "list": list(passed.split())}.get(kind, passed.split())
    options = {"student": LinearStudent()}
    got = teacher_report(TREE, X, y, cv=cv, sample_weight=weight, **options)
    cv = PredefinedSplit(fold[kept])
    assert (
        got.to_dict()
        == teacher_report(TREE, X[kept], y[kept], cv=cv, **options).to_dict()
    )


def test_metadata_routing_makes_no_difference(rows):
    X, y, _ = rows
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    options = {"sample_weight": weight, "student": LinearStudent()}
    plain = teacher_report(TREE, X, y, **options)
    with config_context(enable_metadata_routing=True):
        tree = clone(TREE).set_fit_request(sample_weight=True)
        routed = teacher_report(tree, X, y, **options)
    assert routed.to_dict() == plain.to_dict()


def test_two_classes_and_certain_probabilities():
    """Zeros, ones, and a teacher that is always right."""
    X, y, _ = make_checkerboard(120, random_state=0)
    sure = np.eye(2)[y]
    report = teacher_report(
        {"sure": sure, "wrong": 1 - sure}, X, y, student=LinearStudent()
    )
    best, worst = report.teachers
    assert best.name == "sure"
    assert best.scores.brier.estimate == 0
    assert best.scores.accuracy.estimate == 1.0
    assert best.scores.accuracy.low < 1
    assert np.isnan(best.mixing.mixing_weight.estimate)
    assert worst.scores.brier.estimate == 2
    assert_allclose(worst.scores.log_loss.estimate, 52 * np.log(2))
    assert worst.ranks == (2, 2)
    assert "sure" in str(report)


def test_frames_and_a_default_student(frame):
    X, y = frame
    from sklearn.ensemble import HistGradientBoostingClassifier

    teacher = HistGradientBoostingClassifier(
        max_iter=5, categorical_features="from_dtype"
    )
    from skdistill.students import EstimatorStudent

    report = teacher_report(
        teacher, X, y, student=EstimatorStudent(teacher), cv=3, random_state=0
    )
    assert_allclose(report.student.brier.estimate, report.best.scores.brier.estimate)


# -- bias and variance --------------------------------------------------------------


def test_variance_is_that_of_teachers_on_separate_rows():
    """On average over samples it is the variance over samples drawn anew."""
    X_test, _, p_test = make_checkerboard(2000, random_state=100)
    teacher = DecisionTreeClassifier(max_depth=4, random_state=0)
    estimated, probas = [], []
    for seed in range(120):
        X, y, _ = make_checkerboard(300, random_state=seed)
        estimated.append(
            cross_fit_bias_variance(teacher, X, y, n_repeats=1, random_state=seed)
        )
        probas.append(teacher.fit(X[:100], y[:100]).predict_proba(X_test))
    probas = np.array(probas)
    variance = probas.var(axis=0, ddof=1).sum(axis=1).mean()
    assert_allclose(np.mean([e.variance for e in estimated]), variance, rtol=0.05)
    noise = (1 - (p_test**2).sum(axis=1)).mean()
    bias = ((probas.mean(axis=0) - p_test) ** 2).sum(axis=1).mean() - variance / 120
    got = np.mean([e.squared_bias for e in estimated])
    assert_allclose(got, bias + noise, atol=0.02)


def test_a_report_has_the_same_variance(rows):
    X, y, p = rows
    report = teacher_report(
        {"tree": TREE, "given": p},
        X,
        y,
        student=LinearStudent(),
        variance_repeats=2,
        random_state=3,
    )
    found = by_name(report)
    expected = cross_fit_bias_variance(TREE, X, y, n_repeats=2, random_state=3)
    assert found["tree"].bias_variance == expected
    assert found["given"].bias_variance is None
    table = report.to_frame()
    assert_allclose(table.loc["tree", "variance"], expected.variance)
    assert np.isnan(table.loc["given", "variance"])
    both = expected.squared_bias + expected.variance
    assert_allclose(both, expected.squared_error)


def test_a_report_has_the_variance_of_the_default_teacher_and_of_ensembles(rows):
    X, y, _ = rows
    teachers = {"default": None, "ensemble": [TREE, GaussianNB()]}
    options = {"variance_repeats": 1, "random_state": 3, "student": LinearStudent()}
    report = teacher_report(teachers, X, y, **options)
    for one in report.teachers:
        teacher = teachers[one.name]
        options = {"n_repeats": 1, "random_state": 3}
        expected = cross_fit_bias_variance(teacher, X, y, **options)
        assert one.bias_variance == expected


def test_variance_uses_weights(rows):
    X, y, _ = rows
    weight = np.where(np.arange(len(y)) % 4 == 0, 0.0, 2.0)
    options = {"n_repeats": 1, "random_state": 0}
    got = cross_fit_bias_variance(TREE, X, y, sample_weight=weight, **options)
    kept = weight > 0
    expected = cross_fit_bias_variance(TREE, X[kept], y[kept], **options)
    assert_allclose(got.variance, expected.variance)


@pytest.mark.parametrize("absent", ["ant", "bee", "cat"])
def test_variance_without_the_class_whose_rows_have_weight_zero(absent, rows):
    X, y, _ = rows
    kept = y != absent
    options = {"n_repeats": 1, "random_state": 0}
    got = cross_fit_bias_variance(TREE, X, y, sample_weight=1.0 * kept, **options)
    expected = cross_fit_bias_variance(TREE, X[kept], y[kept], **options)
    assert_allclose(got.variance, expected.variance)
    assert_allclose(got.squared_bias, expected.squared_bias)


@pytest.mark.parametrize("wants", [True, False])
def test_variance_gets_weights_where_the_teacher_asks_for_them(wants, rows):
    X, y, _ = rows
    weight = np.random.default_rng(0).uniform(0.1, 2, len(y))
    options = {"n_repeats": 1, "random_state": 0}

    class Plain(GaussianNB):  # what it fits without weights
        def fit(self, X, y, sample_weight=None):
            return super().fit(X, y)

    plain = make_pipeline(StandardScaler(), GaussianNB() if wants else Plain())
    expected = cross_fit_bias_variance(plain, X, y, sample_weight=weight, **options)
    with config_context(enable_metadata_routing=True):
        last = GaussianNB().set_fit_request(sample_weight=wants)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        routed = make_pipeline(scaler, last)
        got = cross_fit_bias_variance(routed, X, y, sample_weight=weight, **options)
    assert got == expected


# -- output -------------------------------------------------------------------------


def test_text_html_frame_and_dict_say_the_same(rows, report):
    _, _, _ = rows
    text, html = str(report), report._repr_html_()
    assert repr(report) == text
    for one in report.teachers:
        assert one.name in text
        assert str(one.scores.brier) in text
        assert str(one.scores.brier) in html
    assert "(student on labels)" in text
    assert "not a proper score" in text
    assert html.startswith("<table>")
    table, numbers = report.to_frame(), report.to_dict()
    assert isinstance(table, pd.DataFrame)
    assert list(table.index) == list(numbers)
    for name, row in numbers.items():
        for key, value in row.items():
            if key != "classes":
                assert table.loc[name, key] == value
    tree = by_name(report)["tree"]
    assert numbers["tree"]["brier_low"] == tree.scores.brier.low
    assert set(numbers["tree"]["classes"]) == {"ant", "bee", "cat"}
    assert numbers["tree"]["classes"]["bee"]["recall"] == tree.reliability.recall[1]


def test_the_level_is_written_in_full(rows):
    X, y, p = rows
    report = teacher_report({"p": p}, X, y, student=LinearStudent(), level=0.999)
    assert "intervals at 99.9%" in str(report)


def test_html_is_escaped(rows):
    X, y, p = rows
    report = teacher_report({"<b>": p}, X, y, student=LinearStudent())
    assert "<b>" not in report._repr_html_()
    assert "&lt;b&gt;" in report._repr_html_()


def test_plot_draws_the_parts_of_the_scores(report):
    import matplotlib.pyplot as plt

    ax = report.plot()
    widths = [bar.get_width() for bar in ax.patches]
    expected = [one.decomposition.refinement for one in report.teachers]
    expected += [one.decomposition.calibration for one in report.teachers]
    assert_allclose(widths, expected)
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        one.name for one in report.teachers
    ]
    _, other = plt.subplots()
    assert report.plot(ax=other) is other
    plt.close("all")


@pytest.mark.parametrize("package", ["pandas", "matplotlib.pyplot"])
def test_a_missing_package_is_named(package, report, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    call = report.to_frame if package == "pandas" else report.plot
    with pytest.raises(ImportError, match=package.split(".")[0]):
        call()


# -- errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank_by": "accuracy"}, "rank_by='accuracy'"),
        ({"level": 1.5}, "level=1.5"),
        ({"cv": "in-sample"}, "cv='in-sample'"),
        ({"variance_repeats": -1}, "variance_repeats=-1"),
        ({"variance_repeats": 1.5}, "variance_repeats=1.5"),
        ({"teachers": []}, "teachers is empty"),
        ({"teachers": {1: TREE, "1": TREE}}, r"teachers must have names that differ"),
        ({"teachers": {"short": np.full((3, 3), 1 / 3)}}, r"teachers\['short'\]"),
    ],
)
def test_errors_name_the_parameter(options, message, rows):
    X, y, _ = rows
    options = {"student": LinearStudent(), "teachers": TREE, **options}
    with pytest.raises(ValueError, match=message):
        teacher_report(X=X, y=y, **options)


def test_what_is_no_teacher_is_refused(rows):
    X, y, _ = rows
    with pytest.raises(TypeError, match="teacher must be"):
        teacher_report({"name": object()}, X, y, student=LinearStudent())
    with pytest.raises(ValueError, match="frozen"):
        cross_fit_bias_variance(FrozenEstimator(GaussianNB().fit(X, y)), X, y)
    with pytest.raises(ValueError, match="n_repeats=0"):
        cross_fit_bias_variance(TREE, X, y, n_repeats=0)
    with pytest.raises(ValueError, match="3 rows of each class"):
        cross_fit_bias_variance(TREE, X[:8], np.r_[[0] * 6, [1] * 2])


def test_the_default_student_is_a_small_network(rows):
    X, y, p = rows
    from skdistill.students import MLPStudent

    part = slice(0, 90)
    report = teacher_report({"given": p[part]}, X[part], y[part], cv=2, random_state=0)
    network = MLPStudent(random_state=0)
    first, second = StratifiedKFold(2).split(X[part], y[part])
    proba = network.fit(X[first[0]], y[first[0]]).predict_proba(X[first[1]])
    assert_allclose(report.student_proba[first[1]], proba, rtol=1e-5)
    assert len(second[1]) == 45
