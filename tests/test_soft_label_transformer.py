import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from stubs import BrokenTeacher, LoggedTeacher, n_fits

from skdistill import SoftLabelTransformer
from skdistill.losses import temper_proba
from skdistill.teachers import EnsembleTeacher


def test_fit_transform_is_out_of_fold_and_transform_is_not(three_classes):
    X, y = three_classes
    soft = SoftLabelTransformer(KNeighborsClassifier(1), cv=3)
    out_of_fold = soft.fit_transform(X, y)
    assert_array_equal(
        out_of_fold,
        cross_val_predict(KNeighborsClassifier(1), X, y, cv=3, method="predict_proba"),
    )
    assert_array_equal(soft.transform(X), np.eye(3)[y])
    assert (out_of_fold != np.eye(3)[y]).any()
    assert_array_equal(clone(soft).fit(X, y).transform(X), np.eye(3)[y])


def test_transform_uses_the_teacher_of_all_rows(three_classes):
    X, y = three_classes
    soft = SoftLabelTransformer(GaussianNB(), cv=3)
    soft.fit_transform(X[:80], y[:80])
    expected = GaussianNB().fit(X[:80], y[:80]).predict_proba(X[80:])
    assert_allclose(soft.transform(X[80:]), expected, rtol=1e-12)
    assert_array_equal(soft.classes_, [0, 1, 2])


def test_fit_does_not_score_rows_that_nobody_asks_for(three_classes, fit_log):
    X, y = three_classes
    soft = SoftLabelTransformer(LoggedTeacher(fit_log), cv=3).fit(X, y)
    assert n_fits(fit_log) == 1
    soft.fit_transform(X, y)
    assert n_fits(fit_log) == 1 + 4
    soft.set_params(temperature="auto").fit(X, y)
    assert n_fits(fit_log) == 1 + 4 + 4


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_forms_of_the_output_are_consistent(temperature, data):
    X, y = data
    forms = {
        output: SoftLabelTransformer(
            GaussianNB(), output=output, temperature=temperature, cv=3
        ).fit_transform(X, y)
        for output in ("proba", "log_proba", "logits")
    }
    untempered = SoftLabelTransformer(GaussianNB(), cv=3).fit_transform(X, y)
    assert_allclose(forms["proba"], temper_proba(untempered, temperature))
    assert_allclose(forms["proba"].sum(axis=1), 1)
    assert_allclose(np.exp(forms["log_proba"]), forms["proba"], rtol=1e-9)
    assert_allclose(softmax(forms["logits"], axis=1), forms["proba"], rtol=1e-9)
    assert_allclose(forms["logits"].mean(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize("output", ["log_proba", "logits"])
def test_logarithms_of_zero_are_finite(output, three_classes):
    X, y = three_classes
    soft = SoftLabelTransformer(KNeighborsClassifier(1), output=output).fit(X, y)
    transformed = soft.transform(X)
    assert np.isfinite(transformed).all()
    assert_array_equal(transformed.argmax(axis=1), y)
    assert_allclose(softmax(transformed, axis=1), np.eye(3)[y], atol=1e-300)


def test_names_of_the_columns_are_the_classes(three_classes):
    X, y = three_classes
    names = np.array(["cat", "ant", "bee"])
    soft = SoftLabelTransformer(GaussianNB()).fit(X, names[y])
    expected = [f"softlabeltransformer_{name}" for name in ("ant", "bee", "cat")]
    assert soft.get_feature_names_out().tolist() == expected
    assert soft.get_feature_names_out(["a", "b", "c", "d"]).tolist() == expected
    assert_allclose(
        soft.transform(X)[:, 2],
        GaussianNB().fit(X, names[y]).predict_proba(X)[:, 2],
        rtol=1e-12,
    )


def test_output_can_be_a_frame(three_classes):
    X, y = three_classes
    table = pd.DataFrame(X, columns=list("abcd"), index=np.arange(len(X)) + 7)
    soft = SoftLabelTransformer(GaussianNB(), cv=3)
    expected = clone(soft).fit_transform(X, y)
    soft.set_output(transform="pandas")
    all_rows = GaussianNB().fit(X, y).predict_proba(X)
    for transformed, values in (
        (soft.fit_transform(table, y), expected),
        (soft.transform(table), all_rows),
    ):
        assert list(transformed.columns) == soft.get_feature_names_out().tolist()
        assert_array_equal(transformed.index, table.index)
        assert_allclose(transformed, values, rtol=1e-9)


def test_auto_temperature_calibrates_out_of_fold():
    rng = np.random.default_rng(0)
    y = np.arange(2000) % 2
    X = rng.normal(size=(2000, 1)) + y[:, None]
    # Each feature twice: naive Bayes counts its evidence twice.
    doubled = np.hstack([X, X])
    soft = SoftLabelTransformer(GaussianNB(), temperature="auto", cv=3)
    proba = soft.fit_transform(doubled, y)
    plain = SoftLabelTransformer(GaussianNB(), cv=3).fit_transform(doubled, y)
    assert_allclose(soft.temperature_, 2, rtol=0.25)
    assert_allclose(proba, temper_proba(plain, soft.temperature_))
    assert soft.fit(doubled, y).temperature_ == clone(soft).fit(doubled, y).temperature_
    assert_allclose(
        soft.transform(doubled),
        temper_proba(
            GaussianNB().fit(doubled, y).predict_proba(doubled), soft.temperature_
        ),
    )


def test_auto_temperature_needs_rows_that_the_teacher_has_not_seen(
    three_classes, fit_log
):
    X, y = three_classes
    soft = SoftLabelTransformer(
        LoggedTeacher(fit_log), temperature="auto", cv="in-sample"
    )
    for fit in (soft.fit, soft.fit_transform):
        with pytest.raises(ValueError, match=r"^temperature='auto' .*cv='in-sample'"):
            fit(X, y)
    assert n_fits(fit_log) == 0
    frozen = FrozenEstimator(GaussianNB().fit(X[:60], y[:60]))
    soft.set_params(teacher=frozen).fit(X[60:], y[60:])
    assert soft.temperature_ != 1.0


def test_a_second_fit_forgets_the_temperature_of_the_first(three_classes):
    X, y = three_classes
    soft = SoftLabelTransformer(GaussianNB(), temperature="auto").fit(X, y)
    assert soft.temperature_ != 1.0
    soft.set_params(temperature=2.0).fit(X, y)
    assert soft.temperature_ == 2.0


def test_lists_of_teachers_are_averaged(three_classes):
    X, y = three_classes
    members = [GaussianNB(), LogisticRegression()]
    both = SoftLabelTransformer(members, cv=3).fit_transform(X, y)
    each = [
        SoftLabelTransformer(member, cv=3).fit_transform(X, y) for member in members
    ]
    assert_allclose(both, np.mean(each, axis=0), rtol=1e-9)


@pytest.mark.parametrize("teacher_type", [FrozenEstimator, EnsembleTeacher])
def test_frozen_teachers_score_their_rows_as_they_are(teacher_type, three_classes):
    X, y = three_classes
    fitted = GaussianNB().fit(X[:60], y[:60])
    teacher = FrozenEstimator(fitted)
    if teacher_type is EnsembleTeacher:
        teacher = EnsembleTeacher([teacher, teacher])
    soft = SoftLabelTransformer(teacher)
    expected = fitted.predict_proba(X)
    assert_allclose(soft.fit_transform(X, y), expected, rtol=1e-12)
    assert_allclose(soft.transform(X), expected, rtol=1e-12)


def test_classes_that_a_frozen_teacher_does_not_know_are_named(three_classes):
    X, y = three_classes
    known = y < 2
    frozen = FrozenEstimator(GaussianNB().fit(X[known], y[known]))
    soft = SoftLabelTransformer(frozen).fit(X, y)
    with pytest.warns(UserWarning, match=r"was not fitted on the classes \[2\]"):
        proba = soft.transform(X)
    assert_array_equal(proba[:, 2], 0)
    assert_allclose(proba[:, :2], frozen.predict_proba(X), rtol=1e-12)


# -- in compositions ---------------------------------------------------------------


def test_stacking_in_a_pipeline(three_classes):
    X, y = three_classes
    soft = SoftLabelTransformer(GaussianNB(), output="logits", cv=3)
    stacked = make_pipeline(soft, LogisticRegression()).fit(X, y)
    meta = LogisticRegression().fit(clone(soft).fit_transform(X, y), y)
    expected = meta.predict_proba(clone(soft).fit(X, y).transform(X))
    assert_allclose(stacked.predict_proba(X), expected, rtol=1e-9)


def test_features_beside_others(three_classes):
    X, y = three_classes
    union = make_union(StandardScaler(), SoftLabelTransformer(GaussianNB(), cv=3))
    assert union.fit_transform(X, y).shape == (len(X), 4 + 3)
    assert union.get_feature_names_out()[-1].endswith("softlabeltransformer_2")


def test_texts_and_tables(texts, frame):
    X, y = texts
    teacher = make_pipeline(TfidfVectorizer(), LogisticRegression())
    soft = SoftLabelTransformer(teacher, cv=3)
    expected = cross_val_predict(teacher, X, y, cv=3, method="predict_proba")
    assert_allclose(soft.fit_transform(X, y), expected, rtol=1e-9)
    table, y = frame
    teacher = HistGradientBoostingClassifier(max_iter=5, random_state=0)
    soft = SoftLabelTransformer(teacher, cv=3)
    expected = cross_val_predict(teacher, table, y, cv=3, method="predict_proba")
    assert_allclose(soft.fit_transform(table, y), expected, rtol=1e-9)


def test_a_calibrated_teacher(three_classes):
    X, y = three_classes
    teacher = CalibratedClassifierCV(GaussianNB(), method="temperature", cv=3)
    proba = SoftLabelTransformer(teacher, cv=3).fit_transform(X, y)
    expected = cross_val_predict(teacher, X, y, cv=3, method="predict_proba")
    assert_allclose(proba, expected, rtol=1e-9)


# -- errors ------------------------------------------------------------------------


def test_the_output_must_be_known(three_classes, fit_log):
    soft = SoftLabelTransformer(LoggedTeacher(fit_log), output="odds")
    with pytest.raises(ValueError, match=r"'output' parameter .* Got 'odds' instead"):
        soft.fit(*three_classes)
    assert n_fits(fit_log) == 0


def test_labels_are_required(three_classes, fit_log):
    X, _ = three_classes
    soft = SoftLabelTransformer(LoggedTeacher(fit_log))
    with pytest.raises(ValueError, match="requires y to be passed"):
        soft.fit_transform(X)
    assert n_fits(fit_log) == 0


def test_a_failed_fit_leaves_an_earlier_one_usable(three_classes):
    X, y = three_classes
    soft = SoftLabelTransformer(GaussianNB()).fit(X, y)
    before = soft.transform(X)
    soft.set_params(teacher=BrokenTeacher("nan"))
    with pytest.raises(ValueError, match="row 2 is not finite"):
        soft.fit_transform(X[:, :3], y)
    assert soft.n_features_in_ == 4
    assert_array_equal(soft.transform(X), before)
