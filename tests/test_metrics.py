import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from reference import losses as reference
from sklearn.metrics import brier_score_loss, log_loss

from skdistill.metrics import (
    brier_score,
    expected_calibration_error,
    mean_kl_divergence,
    soft_log_loss,
    teacher_agreement_score,
)

PAIRS = [soft_log_loss, mean_kl_divergence, teacher_agreement_score]
LABELLED = [brier_score, expected_calibration_error]
few = settings(max_examples=40, deadline=None)


@st.composite
def pairs(draw, n_rows=4):
    shape = (2, n_rows, draw(st.integers(2, 5)))
    raw = draw(arrays(np.float64, shape, elements=st.floats(1e-3, 1.0)))
    return raw / raw.sum(axis=2, keepdims=True)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(4), size=(2, 30))
    p[0] = [0.5, 0.0, 0.5, 0.0]
    y = rng.integers(4, size=30)
    y[:4] = range(4)
    return y, p, q, rng.uniform(0.5, 2, size=30)


# -- against the slow reference and scikit-learn -----------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_equal_the_reference(weighted, data):
    y, p, q, weight = data
    weight = weight if weighted else None
    w = {"sample_weight": weight}
    assert_allclose(soft_log_loss(p, q, **w), reference.soft_log_loss(p, q, weight))
    assert_allclose(
        mean_kl_divergence(p, q, **w), reference.kl_divergence(p, q, weight)
    )
    assert_allclose(brier_score(y, q, **w), reference.brier_score(y, q, weight))
    for n_bins in (1, 5, 15):
        assert_allclose(
            expected_calibration_error(y, q, n_bins=n_bins, **w),
            reference.expected_calibration_error(y, q, n_bins, weight),
        )
    agree = [p[i].argmax() == q[i].argmax() for i in range(len(p))]
    assert_allclose(teacher_agreement_score(p, q, **w), np.average(agree, None, weight))


@pytest.mark.parametrize("n_classes", [2, 4])
def test_scores_equal_those_of_scikit_learn(n_classes, data):
    y, _, q, weight = data
    y = y % n_classes
    q = q[:, :n_classes] / q[:, :n_classes].sum(axis=1, keepdims=True)
    names = np.array(["ant", "bee", "cat", "dog"], dtype=object)[:n_classes]
    expected = brier_score_loss(
        names[y], q, sample_weight=weight, labels=names, scale_by_half=False
    )
    assert_allclose(brier_score(names[y], q, sample_weight=weight), expected)
    one_hot = np.eye(n_classes)[y]
    assert_allclose(
        soft_log_loss(one_hot, q, sample_weight=weight),
        log_loss(y, q, sample_weight=weight),
    )


def test_calibration_error_of_a_hand_computed_example():
    proba = np.array([[0.9, 0.1], [0.1, 0.9], [0.65, 0.35], [0.4, 0.6]])
    y = [0, 0, 0, 1]
    # (0.6, 0.8]: one row, .65, right; (0.8, 1]: .9 twice, half right;
    # (0.4, 0.6]: .6, right, since a bin holds its upper edge.
    expected = 0.25 * 0.4 + 0.25 * 0.35 + 0.5 * 0.4
    assert_allclose(expected_calibration_error(y, proba, n_bins=5), expected)
    # One bin: |3/4 - mean confidence|.
    assert_allclose(
        expected_calibration_error(y, proba, n_bins=1), abs(0.75 - 3.05 / 4)
    )
    # Two bins of equal weight: {.6, .65} and {.9, .9}.
    assert_allclose(
        expected_calibration_error(y, proba, n_bins=2, strategy="quantile"),
        0.5 * (1 - 0.625) + 0.5 * (0.9 - 0.5),
    )


def test_calibration_error_is_not_a_proper_score():
    """The class frequencies are calibrated and useless."""
    y = np.repeat([0, 1], [30, 70])
    prior = np.tile([0.3, 0.7], (100, 1))
    informed = np.where(y[:, None] == [0, 1], 0.9, 0.1)
    assert expected_calibration_error(y, prior) < 1e-12
    assert expected_calibration_error(y, informed) > 0.09
    assert brier_score(y, informed) < brier_score(y, prior)


@pytest.mark.parametrize("n_bins", [1, 3, 10, 200])
def test_quantile_bins_do_not_split_ties(n_bins, data):
    y = np.tile([0, 1], 10)
    proba = np.tile([0.7, 0.3], (20, 1))
    options = {"n_bins": n_bins, "strategy": "quantile"}
    assert_allclose(expected_calibration_error(y, proba, **options), 0.2)
    y, _, q, _ = data
    order = np.random.default_rng(0).permutation(len(y))
    assert_allclose(
        expected_calibration_error(y[order], q[order], **options),
        expected_calibration_error(y, q, **options),
    )


def test_closed_forms():
    half = [[0.5, 0.5]]
    assert_allclose(soft_log_loss(half, half), np.log(2))
    assert_allclose(mean_kl_divergence([[1.0, 0.0]], half), np.log(2))
    assert_allclose(brier_score([0, 1], [[0, 1], [1, 0]]), 2)
    assert brier_score([0, 1], [[1, 0], [0, 1]]) == 0


# -- properties --------------------------------------------------------------------


@few
@given(pairs())
def test_divergence_is_non_negative_and_zero_at_equality(pair):
    p, q = pair
    assert mean_kl_divergence(p, q) >= 0
    assert mean_kl_divergence(p, p) == 0
    difference = soft_log_loss(p, q) - soft_log_loss(p, p)
    assert_allclose(mean_kl_divergence(p, q), difference, atol=1e-12)
    # Pinsker's inequality: only equal rows have divergence 0.
    total_variation = np.abs(p - q).sum(axis=1) / 2
    assert mean_kl_divergence(p, q) >= 2 * np.mean(total_variation**2) - 1e-12


@few
@given(pairs(), st.integers(0, 10))
def test_bounds(pair, seed):
    p, q = pair
    y = np.random.default_rng(seed).integers(p.shape[1], size=len(p))
    labels = np.arange(p.shape[1])
    assert 0 <= brier_score(y, q, labels=labels) <= 2
    assert 0 <= brier_score(p, q) <= 2
    assert 0 <= expected_calibration_error(y, q, labels=labels) <= 1
    assert 0 <= teacher_agreement_score(p, q) <= 1
    assert teacher_agreement_score(p, p) == 1
    assert soft_log_loss(p, q) >= soft_log_loss(p, p) - 1e-12


@few
@given(pairs(), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_integer_weights_are_repeated_rows(pair, counts):
    assume(sum(counts) > 0)
    p, q = pair
    again = np.repeat(np.arange(4), counts)
    labels = np.arange(p.shape[1])
    y = np.arange(4) % p.shape[1]
    for score in PAIRS:
        weighted = score(p, q, sample_weight=counts)
        assert_allclose(weighted, score(p[again], q[again]), rtol=1e-12, atol=1e-14)
    for score in LABELLED:
        weighted = score(y, q, labels=labels, sample_weight=counts)
        repeated = score(y[again], q[again], labels=labels)
        assert_allclose(weighted, repeated, rtol=1e-12, atol=1e-14)
    options = {"labels": labels, "strategy": "quantile", "n_bins": 3}
    assert_allclose(
        expected_calibration_error(y, q, sample_weight=counts, **options),
        expected_calibration_error(y[again], q[again], **options),
        atol=1e-14,
    )


def test_permuting_the_classes_changes_nothing(data):
    y, p, q, _ = data
    order = np.array([2, 0, 3, 1])
    for score in PAIRS:
        assert_allclose(score(p[:, order], q[:, order]), score(p, q))
    for score in LABELLED:
        assert_allclose(score(y, q[:, order], labels=order), score(y, q))
        assert_allclose(score(p[:, order], q[:, order]), score(p, q))


def test_one_hot_soft_labels_are_labels(data):
    y, _, q, _ = data
    for score in LABELLED:
        assert_allclose(score(np.eye(4)[y], q), score(y, q))


# -- labels, dtypes, clipping ------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        np.array(["no", "so", "yes", "z"]),
        np.array(["no", "so", "yes", "z"], dtype=object),
        np.array([-3, 0, 4, 10]),
        np.array([-1.5, 0.0, 2.5, 3.0]),
    ],
)
def test_labels_of_any_dtype(names, data):
    y, _, q, _ = data
    for score in LABELLED:
        assert_allclose(score(names[y], q), score(y, q))
        # A subset of the rows, without the last class, needs the labels.
        rows = y < 3
        assert_allclose(
            score(names[y][rows], q[rows], labels=names),
            score(y[rows], q[rows], labels=range(4)),
        )
        assert_allclose(score(names[y].tolist(), q.tolist()), score(y, q))


def test_booleans_are_labels():
    assert_allclose(brier_score([False, True], [[0.9, 0.1], [0.4, 0.6]]), 0.17)


def test_clipping_keeps_the_log_loss_finite():
    p, q = [[0.5, 0.5]], np.array([[1.0, 0.0]])
    eps = np.finfo(np.float64).eps
    assert_allclose(soft_log_loss(p, q), -0.5 * np.log(eps))
    assert_allclose(soft_log_loss(p, q, eps=1e-3), -0.5 * np.log(1e-3))
    assert soft_log_loss(p, q, eps=0) == np.inf
    assert soft_log_loss([[1.0, 0.0]], q, eps=0) == 0
    eps = np.finfo(np.float32).eps
    assert_allclose(
        soft_log_loss(p, q.astype(np.float32)), -0.5 * np.log(eps), rtol=1e-6
    )


def test_divergence_is_finite_where_the_student_says_never():
    eps = np.finfo(np.float64).eps
    divergence = mean_kl_divergence([[0.0, 1.0]], [[1.0, 0.0]])
    assert_allclose(divergence, -np.log(eps))
    assert mean_kl_divergence([[1.0, 0.0]], [[1.0, 0.0]]) == 0


def test_scores_are_python_floats(data):
    y, p, q, _ = data
    for score in PAIRS:
        assert type(score(p, q.astype(np.float32))) is float
    for score in LABELLED:
        assert type(score(y, q.astype(np.float32))) is float


def test_rows_of_weight_zero_are_as_if_absent():
    p, q = [[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [1.0, 0.0]]
    loss = soft_log_loss(p, q, eps=0, sample_weight=[1, 0])
    assert_allclose(loss, np.log(2))


# -- errors ------------------------------------------------------------------------

HALF = np.full((3, 2), 0.5)


@pytest.mark.parametrize("score", PAIRS)
def test_both_matrices_must_have_one_shape(score):
    first = "soft_labels" if score is soft_log_loss else "teacher_proba"
    second = "proba" if score is soft_log_loss else "student_proba"
    with pytest.raises(ValueError, match=rf"^{first} has shape \(3, 2\), but {second}"):
        score(HALF, HALF[:2])
    with pytest.raises(ValueError, match=rf"^{second} must have shape \(n_samples"):
        score(HALF, HALF[:, 0])


@pytest.mark.parametrize("bad", [[-0.5, 1.5], [0.4, 0.5], [2.0, 1.0]])
def test_rows_must_be_probabilities(bad):
    wrong = HALF.copy()
    wrong[1] = bad
    for score in PAIRS:
        with pytest.raises(ValueError, match=r"proba must have non-negative rows .* 1"):
            score(HALF, wrong)
    for score in LABELLED:
        with pytest.raises(ValueError, match=r"^proba must have .*; row 1 is"):
            score([0, 1, 1], wrong)
        with pytest.raises(ValueError, match=r"^y_true must have .*; row 1 is"):
            score(wrong, HALF)


def test_missing_values_are_errors():
    wrong = HALF.copy()
    wrong[0, 0] = np.nan
    with pytest.raises(ValueError, match="Input proba contains NaN"):
        soft_log_loss(HALF, wrong)


@pytest.mark.parametrize("score", LABELLED)
def test_labels_must_fit_the_columns(score):
    with pytest.raises(ValueError, match=r"^y_true has 2 rows, but proba has 3"):
        score([0, 1], HALF)
    with pytest.raises(
        ValueError, match=r"^labels must name each of the 2 columns .*y_"
    ):
        score([0, 0, 0], HALF)
    with pytest.raises(ValueError, match=r"^labels must name each of the 2 columns"):
        score([0, 1, 1], HALF, labels=[1, 1])
    with pytest.raises(ValueError, match=r"^y_true holds values .* not in labels: .*5"):
        score([0, 1, 5], HALF, labels=[0, 1])
    with pytest.raises(ValueError, match=r"^y_true has shape"):
        score(np.full((3, 4), 0.25), HALF)


def test_labels_of_another_type_than_y_true_are_told_of():
    y = np.array(["a", "b"], dtype=object)
    with pytest.raises(ValueError, match=r"^y_true holds values .*labels: .*'a', 'b'"):
        brier_score(y, np.full((2, 2), 0.5), labels=[0, 1])


@pytest.mark.parametrize("n_bins", [0, -1, 2.5, None])
def test_n_bins_must_be_a_positive_integer(n_bins):
    with pytest.raises(ValueError, match=r"^n_bins=.* must be an integer"):
        expected_calibration_error([0, 1, 1], HALF, n_bins=n_bins)


def test_strategy_must_be_known():
    with pytest.raises(ValueError, match=r"^strategy='kmeans' must be 'uniform' or"):
        expected_calibration_error([0, 1, 1], HALF, strategy="kmeans")


@pytest.mark.parametrize("eps", [-0.1, 1.0, np.nan, "small", None])
def test_eps_must_be_below_one(eps):
    with pytest.raises(ValueError, match=r"^eps=.* must be 'auto' or at least 0"):
        soft_log_loss(HALF, HALF, eps=eps)


@pytest.mark.parametrize("weight", [[-1, 1, 1], [1, 1], [np.nan, 1, 1]])
def test_weights_must_be_one_non_negative_number_per_row(weight):
    for score in PAIRS:
        with pytest.raises(ValueError, match="sample_weight"):
            score(HALF, HALF, sample_weight=weight)
    for score in LABELLED:
        with pytest.raises(ValueError, match="sample_weight"):
            score([0, 1, 1], HALF, sample_weight=weight)
