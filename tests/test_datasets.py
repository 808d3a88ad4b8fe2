import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chi2, multivariate_normal, norm
from sklearn.tree import DecisionTreeClassifier

from skdistill.datasets import (
    distort_proba,
    draw_labels,
    make_checkerboard,
    make_class_overlap,
    make_gaussians,
    make_label_noise,
    noisy_labels,
)

MAKERS = [make_gaussians, make_checkerboard, make_class_overlap]
KINDS = ["uniform", "pair", "boundary"]
few = settings(max_examples=40, deadline=None)


@st.composite
def probabilities(draw, n_rows=4):
    shape = (n_rows, draw(st.integers(2, 5)))
    raw = draw(arrays(np.float64, shape, elements=st.floats(0, 1)))
    raw[:, 0] += raw.sum(axis=1) == 0
    return raw / raw.sum(axis=1, keepdims=True)


def is_proba(p):
    return (p >= 0).all() and np.allclose(p.sum(axis=1), 1.0, rtol=0, atol=1e-12)


def assert_drawn_from(y, p, level=1e-4):
    """Labels fit their probabilities, in bins of the probability of each class."""
    for k in range(p.shape[1]):
        bins = np.digitize(p[:, k], [0.2, 0.4, 0.6, 0.8])
        observed = np.bincount(bins, weights=y == k, minlength=5)
        expected = np.bincount(bins, weights=p[:, k], minlength=5)
        variance = np.bincount(bins, weights=p[:, k] * (1 - p[:, k]), minlength=5)
        used = variance > 5
        statistic = ((observed - expected)[used] ** 2 / variance[used]).sum()
        assert statistic < chi2.isf(level, used.sum())


# -- rows ---------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS)
def test_labels_are_drawn_from_the_bayes_probabilities(make):
    X, y, p = make(4000, random_state=0)
    assert X.dtype == p.dtype == np.float64
    assert y.dtype.kind == "i"
    assert len(X) == len(y) == len(p) == 4000
    assert is_proba(p)
    assert_drawn_from(y, p)


@pytest.mark.parametrize("make", MAKERS)
def test_the_seed_decides_the_rows(make):
    first, again = make(20, random_state=3), make(20, random_state=3)
    for a, b in zip(first, again, strict=True):
        assert_array_equal(a, b)
    assert not np.array_equal(first[0], make(20, random_state=4)[0])


def test_gaussians_of_the_paper():
    X, y, p = make_gaussians([20_000, 20_000], random_state=0)
    assert X.shape == (40_000, 10)
    assert_array_equal(np.bincount(y), [20_000, 20_000])
    assert_allclose(X[y == 1].mean(axis=0), 0.25, atol=0.04)
    assert_allclose(X[y == 0].mean(axis=0), -0.25, atol=0.04)
    assert_allclose(p[:, 1], 1 / (1 + np.exp(-0.5 * X.sum(axis=1))))
    bayes_accuracy = norm.cdf(np.sqrt(10) / 4)
    assert_allclose((p.argmax(axis=1) == y).mean(), bayes_accuracy, atol=0.01)


def test_gaussian_posterior_is_that_of_the_densities():
    mean = np.array([0.3, -1.0, 0.2])
    X, _, p = make_gaussians([30, 10], n_features=3, mean=mean, random_state=0)
    density = [multivariate_normal(c).pdf(X) for c in (-mean, mean)]
    joint = np.column_stack([0.75 * density[0], 0.25 * density[1]])
    assert_allclose(p, joint / joint.sum(axis=1, keepdims=True), atol=1e-12)


def test_class_separation_is_the_norm_of_the_mean():
    expected = make_gaussians(10, n_features=4, mean=0.5, random_state=0)
    for options in ({"class_sep": 1.0}, {"mean": [2.0] * 4, "class_sep": 1.0}):
        got = make_gaussians(10, n_features=4, random_state=0, **options)
        assert_allclose(got[0], expected[0])
        assert_allclose(got[2], expected[2])
    assert_allclose(make_gaussians(5, class_sep=0.0, random_state=0)[2], 0.5)


def test_checkerboard_is_the_sum_of_its_squares():
    X, _, p = make_checkerboard(50, n_squares=3, sharpness=40.0, random_state=0)
    for x, positive in zip(X, p[:, 1], strict=True):
        total = 0.0
        for i in range(3):
            for j in range(3):
                if (i + j) % 2 == 0:
                    centre = ((i + 0.5) / 3, (j + 0.5) / 3)
                    s = 1 / 6 - max(abs(x[0] - centre[0]), abs(x[1] - centre[1]))
                    total += 1 / (1 + np.exp(-40 * s))
        assert_allclose(positive, min(total, 1.0))


def test_checkerboard_is_learned_best_by_trees_of_middle_depth():
    """Teacher MSE to p* against depth is U-shaped (Fig. 5 of the paper)."""
    X, y, _ = make_checkerboard(5000, random_state=0)
    X_test, _, p_test = make_checkerboard(5000, random_state=1)
    mse = []
    for depth in (3, 6, 12):
        tree = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(X, y)
        mse.append(((tree.predict_proba(X_test) - p_test)[:, 1] ** 2).mean())
    assert mse[1] < mse[0]
    assert mse[1] < mse[2]


@pytest.mark.parametrize("n_clusters", [1, 3])
def test_mixture_posterior_is_that_of_the_densities(n_clusters):
    options = {"n_classes": 4, "n_features": 3, "n_clusters_per_class": n_clusters}
    prior = np.array([0.4, 0.3, 0.3, 0.0])
    X, y, p = make_class_overlap(
        40, class_sep=1.5, weights=2 * prior, problem=5, random_state=0, **options
    )
    centres = 1.5 * np.random.RandomState(5).normal(size=(4, n_clusters, 3))
    joint = np.zeros((40, 4))
    for k in range(4):
        for centre in centres[k]:
            joint[:, k] += prior[k] * multivariate_normal(centre).pdf(X)
    assert_allclose(p, joint / joint.sum(axis=1, keepdims=True), atol=1e-12)
    assert (p[:, 3] == 0).all()
    assert set(y) <= {0, 1, 2}


def test_the_problem_is_not_the_rows():
    """Other rows of one problem; the same rows of another one never."""
    train = make_class_overlap(3000, problem=1, random_state=0)
    test = make_class_overlap(3000, problem=1, random_state=1)
    means = [[X[y == k].mean(axis=0) for k in range(3)] for X, y, _ in (train, test)]
    assert_allclose(means[0], means[1], atol=0.2)
    other = make_class_overlap(3000, problem=2, random_state=0)
    assert np.abs(other[0] - train[0]).max() > 0.2


# -- labels -------------------------------------------------------------------------


def test_drawn_labels_fit_their_probabilities():
    p = np.random.default_rng(0).dirichlet([1, 0.5, 2], size=4000)
    assert_drawn_from(draw_labels(p, random_state=0), p)


def test_a_class_of_probability_zero_is_never_drawn():
    p = np.tile([0.0, 0.1 + 0.2, 0.7 - 1e-16, 0.0], (5000, 1))
    assert set(draw_labels(p, random_state=0)) == {1, 2}


@pytest.mark.parametrize("noise", KINDS)
def test_noisy_labels_have_the_returned_probabilities(noise):
    _, y, p = make_class_overlap(6000, n_classes=4, random_state=0)
    noisy, noisy_proba = make_label_noise(y, p, noise=noise, rate=0.4, random_state=1)
    assert is_proba(noisy_proba)
    assert_drawn_from(noisy, noisy_proba)


@pytest.mark.parametrize("noise", KINDS)
def test_noise_equals_the_transition_matrices(noise):
    """Row by row: p* times the matrix T, and how often j turns into k."""
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    rate, transition = 0.4, np.zeros((2, 3, 3))
    for n, row in enumerate(p):
        first, second = sorted(row)[::-1][:2]
        for j in range(3):
            others = [k for k in range(3) if k != j]
            into, flips = others, rate
            if noise == "pair":
                into = [(j + 1) % 3]
            if noise == "boundary":
                into = [max(others, key=lambda k: row[k])]
                flips = rate * (1 - (first - second) ** 2)
            transition[n, j, j] = 1 - flips
            transition[n, j, into] += flips / len(into)
    y = np.zeros(2, dtype=int)
    got = make_label_noise(y, p, noise=noise, rate=rate, random_state=0)[1]
    assert_allclose(got, [p[n] @ transition[n] for n in range(2)])
    many = np.repeat(p, 6000, axis=0)
    for j in range(3):
        noisy, _ = make_label_noise(
            np.full(12_000, j), many, noise=noise, rate=rate, random_state=j
        )
        shares = [np.bincount(part, minlength=3) / 6000 for part in np.split(noisy, 2)]
        assert_allclose(shares, transition[:, j], atol=0.025)


def test_noise_of_rate_zero_and_one():
    _, y, p = make_class_overlap(50, random_state=0)
    for noise in KINDS:
        same, same_proba = make_label_noise(y, p, noise=noise, rate=0.0)
        assert_array_equal(same, y)
        assert_allclose(same_proba, p)
    for noise in ("uniform", "pair"):
        assert (make_label_noise(y, p, noise=noise, rate=1.0)[0] != y).all()
    assert_array_equal(
        make_label_noise(y, p, noise="pair", rate=1.0)[0], np.array([1, 2, 0])[y]
    )


def test_boundary_noise_leaves_certain_rows_alone():
    p = np.array([[1.0, 0.0, 0.0]] * 50 + [[0.5, 0.5, 0.0]] * 2000)
    y = np.zeros(2050, dtype=int)
    noisy, noisy_proba = make_label_noise(
        y, p, noise="boundary", rate=0.3, random_state=0
    )
    assert (noisy[:50] == 0).all()
    assert_allclose(noisy_proba[:50], p[:50])
    assert_allclose((noisy[50:] == 1).mean(), 0.3, atol=0.05)


def test_noisy_labels_of_real_data():
    y = np.repeat(["ant", "bee", "cat"], 1000)
    kept = y.copy()
    uniform = noisy_labels(y, rate=0.3, random_state=0)
    assert_array_equal(y, kept)
    assert set(uniform) == {"ant", "bee", "cat"}
    assert_allclose((uniform != y).mean(), 0.3, atol=0.04)
    pair = noisy_labels(y, noise="pair", rate=0.5, random_state=0)
    assert set(zip(y, pair, strict=True)) == {
        ("ant", "ant"),
        ("ant", "bee"),
        ("bee", "bee"),
        ("bee", "cat"),
        ("cat", "cat"),
        ("cat", "ant"),
    }
    proba = np.repeat([[0.9, 0.1, 0.0], [0.4, 0.35, 0.25], [0.0, 0.0, 1.0]], 1000, 0)
    near = noisy_labels(y, noise="boundary", rate=0.8, proba=proba, random_state=0)
    shares = (near != y).reshape(3, 1000).mean(axis=1)
    assert_allclose(shares, [0.8 * (1 - 0.64), 0.8 * (1 - 0.0025), 0.0], atol=0.05)
    assert_array_equal(
        near, noisy_labels(y, noise="boundary", rate=0.8, proba=proba, random_state=0)
    )


def test_a_larger_rate_flips_the_same_labels_and_more():
    y = np.arange(600) % 4
    small = noisy_labels(y, rate=0.1, random_state=7)
    large = noisy_labels(y, rate=0.3, random_state=7)
    changed = small != y
    assert_array_equal(large[changed], small[changed])


# -- distorted probabilities --------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.125, 0.5, 1.0, 2.0, 8.0])
def test_distortion_of_two_classes_is_the_family_of_the_paper(exponent):
    u = np.array([0.0, 0.1, 0.5, 0.63, 0.99, 1.0])
    expected = 0.5 + 0.5 * np.sign(2 * u - 1) * np.abs(2 * u - 1) ** exponent
    got = distort_proba(np.column_stack([1 - u, u]), exponent)
    assert_allclose(got[:, 1], expected, atol=1e-12)


@few
@given(probabilities(), st.floats(0.1, 10.0))
def test_distortion_stays_on_the_simplex_and_keeps_the_order(p, exponent):
    distorted = distort_proba(p, exponent)
    assert is_proba(distorted)
    for before, after in zip(p, distorted, strict=True):
        ordered = after[np.argsort(before, kind="stable")]
        assert (np.diff(ordered) >= -1e-12).all()


@few
@given(probabilities(), st.floats(0.2, 5.0))
def test_distortion_has_an_inverse(p, exponent):
    back = distort_proba(distort_proba(p, exponent), 1 / exponent)
    certain = p.shape[1] * p.min(axis=1) < 0.99
    assert_allclose(back[certain], p[certain], atol=1e-6)
    assert_allclose(distort_proba(p, 1.0), p, atol=1e-12)


# -- errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_gaussians(0), "n_samples"),
        (lambda: make_gaussians([3, 0]), "n_samples must be"),
        (lambda: make_gaussians([3, 1, 2]), "n_samples must be"),
        (lambda: make_gaussians(mean=[1.0, 2.0]), "mean must be"),
        (lambda: make_gaussians(mean=[np.nan] * 10), "mean must be"),
        (lambda: make_gaussians(mean=0.0, class_sep=1.0), "class_sep"),
        (lambda: make_gaussians(class_sep=-1.0), "class_sep"),
        (lambda: make_checkerboard(sharpness=0), "sharpness"),
        (lambda: make_checkerboard(n_squares=0), "n_squares"),
        (lambda: make_class_overlap(n_classes=1), "n_classes"),
        (lambda: make_class_overlap(weights=[1, 1]), "weights must be 3"),
        (lambda: make_class_overlap(weights=[0, 0, 0]), "weights must be 3"),
        (lambda: make_class_overlap(weights=[np.inf, 1, 1]), "weights must be 3"),
        (lambda: make_class_overlap(problem=-1), "problem"),
        (lambda: draw_labels([0.5, 0.5]), "bayes_proba must have shape"),
        (lambda: draw_labels([[0.5, 0.6]]), "bayes_proba: row 0"),
        (lambda: make_label_noise([0, 2], [[0.5, 0.5]] * 2), "y must hold integers"),
        (lambda: make_label_noise([0], [[0.5, 0.5]] * 2), "y has 1 rows"),
        (lambda: make_label_noise([0], [[0.5, 0.5]], rate=1.5), "rate"),
        (lambda: make_label_noise([0], [[0.5, 0.5]], noise="salt"), "noise"),
        (lambda: noisy_labels([1, 1]), "two classes"),
        (lambda: noisy_labels([0, 1], noise="boundary"), "proba goes with"),
        (lambda: noisy_labels([0, 1], proba=[[0.5, 0.5]] * 2), "proba goes with"),
        (lambda: distort_proba([[0.5, 0.5]], 0.0), "exponent"),
        (lambda: distort_proba([[1.0]], 1.0), "two classes at least"),
    ],
)
def test_errors_name_the_parameter(call, message):
    with pytest.raises(ValueError, match=message):
        call()
