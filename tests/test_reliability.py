import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from reference import statistics as reference

from skdistill.datasets import distort_proba, make_class_overlap
from skdistill.diagnostics import brier_decomposition, class_reliability
from skdistill.metrics import brier_score

few = settings(max_examples=40, deadline=None)


@st.composite
def labelled(draw, n_rows=12):
    n_classes = draw(st.integers(2, 4))
    raw = draw(
        arrays(np.float64, (n_rows, n_classes), elements=st.sampled_from([0, 1, 2, 5]))
    )
    raw[:, 0] += raw.sum(axis=1) == 0
    y = draw(arrays(np.int64, n_rows, elements=st.integers(0, n_classes - 1)))
    weight = draw(arrays(np.float64, n_rows, elements=st.sampled_from([1.0, 2.0, 0.5])))
    return y, raw / raw.sum(axis=1, keepdims=True), weight


@few
@given(labelled())
def test_the_parts_add_up_and_equal_the_reference(problem):
    y, proba, weight = problem
    k = proba.shape[1]
    options = {"labels": range(k), "sample_weight": weight}
    parts = brier_decomposition(y, proba, **options)
    assert_allclose(parts.brier, brier_score(y, proba, **options))
    assert_allclose(parts.brier, parts.calibration + parts.refinement)
    assert_allclose(
        parts.brier, parts.uncertainty - parts.resolution + parts.calibration
    )
    assert parts.calibration >= -1e-12
    assert parts.resolution >= -1e-12
    targets = np.eye(k)[y]
    refinement = 0.0
    for c in range(k):
        fit = reference.isotonic_fit(proba[:, c], targets[:, c], weight)
        refinement += np.average((fit - targets[:, c]) ** 2, weights=weight)
    assert_allclose(parts.refinement, refinement, atol=1e-12)


def test_decomposition_of_a_hand_computed_example():
    y = [0, 1, 1, 1]
    parts = brier_decomposition(y, [[0.6, 0.4]] * 4)
    # One probability for all: recalibration gives the frequencies (1/4, 3/4).
    assert_allclose(parts.brier, 2 * (0.6**2 * 3 + 0.4**2) / 4)
    assert_allclose(parts.refinement, 2 * 3 / 16)
    assert_allclose(parts.resolution, 0.0, atol=1e-15)
    perfect = brier_decomposition(y, np.eye(2)[y])
    assert_allclose([perfect.calibration, perfect.refinement], 0.0, atol=1e-15)
    wrong = brier_decomposition(y, np.eye(2)[[1, 0, 0, 0]])
    assert_allclose(wrong.calibration, 2 - 2 * 3 / 16)


def test_distortion_is_found_in_the_calibration_part():
    """It moves the probabilities and keeps their order: refinement stays."""
    _, y, p = make_class_overlap(8000, n_classes=2, random_state=0)
    true, wrong = (brier_decomposition(y, q) for q in (p, distort_proba(p, 0.3)))
    assert true.calibration < 0.005
    assert wrong.calibration > 0.02
    assert_allclose(wrong.refinement, true.refinement)


def test_reliability_of_each_class_equals_loops():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(3), size=50)
    y = rng.integers(3, size=50)
    weight = rng.uniform(0.5, 2, 50)
    weight[3] = 0
    got = class_reliability(y, proba, sample_weight=weight)
    for k in range(3):
        mine = y == k
        assert_allclose(got.frequency[k], weight[mine].sum() / weight.sum())
        difference = proba[:, k] - mine
        assert_allclose(got.bias[k].estimate, np.average(difference, weights=weight))
        assert_allclose(got.brier[k], np.average(difference**2, weights=weight))
        hit = proba[mine].argmax(axis=1) == k
        assert_allclose(got.recall[k], np.average(hit, weights=weight[mine]))
    assert_allclose(got.brier.sum(), brier_score(y, proba, sample_weight=weight))
    parts = brier_decomposition(y, proba, sample_weight=weight)
    assert_allclose(got.calibration.sum(), parts.calibration)


def test_a_class_without_rows():
    got = class_reliability(
        [0, 1], [[0.6, 0.3, 0.1], [0.3, 0.6, 0.1]], labels=[0, 1, 2]
    )
    assert_allclose(got.frequency, [0.5, 0.5, 0.0])
    assert np.isnan(got.recall[2])
    assert_allclose(got.bias[2].estimate, 0.1)


def test_errors_name_the_parameter():
    with pytest.raises(ValueError, match="level=7"):
        class_reliability([0, 1], [[0.5, 0.5]] * 2, level=7)
    with pytest.raises(ValueError, match="proba must have"):
        brier_decomposition([0, 1], [[0.5, 0.6]] * 2)
