import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from reference import losses as reference
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB

from skdistill._calibration import fit_temperature
from skdistill.losses import temper_proba


def sample(n_samples, temperature, seed=0):
    """Labels drawn from `truth`, and a teacher that is off by a temperature."""
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.ones(3), size=n_samples)
    y = (rng.uniform(size=(n_samples, 1)) > truth.cumsum(axis=1)).sum(axis=1)
    return y.clip(max=2), temper_proba(truth, 1 / temperature), truth


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_of_a_teacher_is_recovered(temperature):
    y, proba, truth = sample(20_000, temperature)
    fitted = fit_temperature(y, proba)
    assert_allclose(fitted, temperature, rtol=0.05)
    assert_allclose(temper_proba(proba, fitted), truth, atol=0.02)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.3, 4.0))
def test_no_other_temperature_is_better(seed, temperature):
    y, proba, _ = sample(20, temperature, seed)
    weight = np.random.default_rng(seed).uniform(0.1, 3, size=20)
    fitted = fit_temperature(y, proba, sample_weight=weight)
    best = reference.calibration_loss(y, proba, fitted, weight)
    for other in (0.05, 0.2, 0.7, 1.0, 3.0, 20.0, fitted * 1.01, fitted / 1.01):
        if 0.05 <= other <= 20:
            loss = reference.calibration_loss(y, proba, other, weight)
            assert best <= loss + 1e-9


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 2.0))
def test_tempering_first_divides_the_fitted_temperature(seed, first):
    y, proba, _ = sample(100, 1.0, seed)
    whole = fit_temperature(y, proba, bounds=(0.01, 100))
    rest = fit_temperature(y, temper_proba(proba, first), bounds=(0.01, 100))
    assert_allclose(first * rest, whole, rtol=1e-5)


def test_closed_form():
    """One value of confidence, right in 3 of 4 rows, becomes 3/4."""
    proba = np.tile([0.99, 0.01], (4, 1))
    temperature = fit_temperature([0, 0, 0, 1], proba)
    assert_allclose(temperature, np.log(99) / np.log(3), rtol=1e-6)
    assert_allclose(temper_proba(proba, temperature)[:, 0], 0.75, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Since FrozenEstimator does not appear to accept")
@pytest.mark.parametrize("weighted", [False, True])
def test_equal_to_scikit_learn_without_zeros(weighted):
    X, y = make_classification(
        2000, n_informative=5, n_classes=3, flip_y=0.1, random_state=0
    )
    teacher = GaussianNB(var_smoothing=1e-2).fit(X[:1000], y[:1000])
    X, y = X[1000:], y[1000:]
    weight = np.random.default_rng(0).uniform(0.5, 2, 1000) if weighted else None
    calibrated = CalibratedClassifierCV(FrozenEstimator(teacher), method="temperature")
    calibrated.fit(X, y, sample_weight=weight)
    (calibrator,) = calibrated.calibrated_classifiers_[0].calibrators
    proba = teacher.predict_proba(X)
    assert proba.min() > 1e-9
    temperature = fit_temperature(y, proba, sample_weight=weight)
    assert_allclose(temperature, 1 / calibrator.beta_, rtol=1e-4)
    assert_allclose(
        temper_proba(proba, temperature), calibrated.predict_proba(X), atol=1e-4
    )


def test_zeros_at_the_true_class_do_not_decide():
    """Each such row would pull a floored fit towards the largest temperature."""
    y, proba, _ = sample(500, 2.0)
    without = fit_temperature(y, proba)
    hopeless = np.tile([0.6, 0.4, 0.0], (100, 1))
    more_y = np.concatenate([y, np.full(100, 2)])
    assert fit_temperature(more_y, np.vstack([proba, hopeless])) == without


def test_a_small_forest_is_sharpened_and_improves():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 5))
    truth = temper_proba(np.exp(X[:, :3]), 0.5)
    y = (rng.uniform(size=(1200, 1)) > truth.cumsum(axis=1)).sum(axis=1).clip(max=2)
    forest = RandomForestClassifier(20, random_state=0).fit(X[:600], y[:600])
    proba = forest.predict_proba(X[600:])
    assert (proba[np.arange(600), y[600:]] == 0).any()
    temperature = fit_temperature(y[600:], proba)
    before = np.square(proba - truth[600:]).sum(axis=1).mean()
    after = np.square(temper_proba(proba, temperature) - truth[600:])
    assert after.sum(axis=1).mean() <= before
    assert 0.3 < temperature < 3


def test_the_bound_where_the_most_probable_class_is_always_right():
    y, proba, _ = sample(50, 1.0)
    y = proba.argmax(axis=1)
    assert fit_temperature(y, proba) == 0.05
    assert fit_temperature(y, proba, bounds=(0.5, 2.0)) == 0.5


def test_the_bound_where_the_least_probable_class_is_always_right():
    _, proba, _ = sample(50, 1.0)
    assert fit_temperature(proba.argmin(axis=1), proba) == 20.0
    assert fit_temperature(proba.argmin(axis=1), proba, bounds=(0.5, 2)) == 2.0


@pytest.mark.parametrize(
    "proba",
    [
        np.full((3, 4), 0.25),
        np.tile([0.1 + 0.2, 0.3, 0.3, 0.1], (3, 1))[:, :3],  # equal but for rounding
        np.eye(3),  # one-hot: right in one row, zero at the true class in two
        np.tile([0.0, 0.5, 0.5], (3, 1)),
    ],
)
def test_one_where_the_temperature_makes_no_difference(proba):
    assert fit_temperature([0, 0, 0], proba) == 1.0
    assert fit_temperature([0, 0, 0], proba, bounds=(2.0, 3.0)) == 2.0


def test_integer_weights_are_repeated_rows():
    y, proba, _ = sample(40, 2.0)
    counts = np.random.default_rng(1).integers(0, 4, size=40)
    again = np.repeat(np.arange(40), counts)
    assert_allclose(
        fit_temperature(y, proba, sample_weight=counts),
        fit_temperature(y[again], proba[again]),
        rtol=1e-6,
    )


def test_the_scale_of_the_weights_does_not_matter():
    y, proba, _ = sample(40, 2.0)
    small = fit_temperature(y, proba, sample_weight=np.full(40, 1e-30))
    assert_allclose(small, fit_temperature(y, proba), rtol=1e-6)


def test_the_result_is_a_python_float():
    y, proba, _ = sample(40, 2.0)
    assert type(fit_temperature(y, proba.astype(np.float32))) is float


# -- errors ------------------------------------------------------------------------

HALF = np.full((3, 2), 0.5)


@pytest.mark.parametrize("bounds", [(0, 1), (2, 1), (1, 1), (1, np.inf), 3, "ab", (1,)])
def test_bounds_must_be_an_increasing_positive_pair(bounds):
    with pytest.raises(ValueError, match=r"^bounds=.* must be two finite numbers"):
        fit_temperature([0, 1, 1], HALF, bounds=bounds)


def test_codes_must_be_integers_within_the_classes():
    with pytest.raises(TypeError, match=r"^y_codes must hold integer class codes"):
        fit_temperature([0.0, 1.0, 1.0], HALF)
    with pytest.raises(ValueError, match=r"^y_codes must be between 0 and 1.* -1 to 1"):
        fit_temperature([0, 1, -1], HALF)
    with pytest.raises(ValueError, match=r"^y_codes has 2 rows, but proba has 3"):
        fit_temperature([0, 1], HALF)


def test_proba_must_be_normalisable_rows():
    with pytest.raises(ValueError, match=r"^proba must be non-negative"):
        fit_temperature([0, 1, 1], -HALF)
    with pytest.raises(ValueError, match=r"^proba must be non-negative"):
        fit_temperature([0, 1, 1], np.zeros((3, 2)))
    with pytest.raises(ValueError, match="Input proba contains NaN"):
        fit_temperature([0, 1, 1], HALF * np.nan)


@pytest.mark.parametrize("weight", [[-1, 1, 1], [1, 1]])
def test_weights_must_be_one_non_negative_number_per_row(weight):
    with pytest.raises(ValueError, match="sample_weight"):
        fit_temperature([0, 1, 1], HALF, sample_weight=weight)
