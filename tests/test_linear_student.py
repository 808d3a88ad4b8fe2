import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from reference import losses as reference
from scipy.optimize import approx_fprime, check_grad
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from skdistill.students import LinearStudent
from skdistill.students._linear import _CrossEntropy
from skdistill.students._problem import Problem, objective_terms


def digits(n_classes, n_samples=250):
    """Digits in [0, 1]: sixteenths, so that float32 holds them exactly."""
    X, y = load_digits(n_class=n_classes, return_X_y=True)
    return X[:n_samples] / 16, y[:n_samples]


def overlapping(n_classes, n_samples=200):
    """Classes that no hyperplane separates, so that there is an unpenalised optimum."""
    return make_classification(
        n_samples,
        n_features=5,
        n_informative=4,
        n_redundant=0,
        n_classes=n_classes,
        flip_y=0.4,
        random_state=0,
    )


def weights(n_samples):
    return np.random.default_rng(1).uniform(0.2, 3.0, size=n_samples)


def soft(n_samples, n_classes):
    return np.random.default_rng(2).dirichlet(np.ones(n_classes), size=n_samples)


def logistic(**params):
    return LogisticRegression(tol=1e-9, max_iter=5000, **params)


def linear(**params):
    return LinearStudent(tol=1e-9, max_iter=5000, **params)


def assert_same_model(student, expected, rtol=1e-4):
    """Equal parameters, relative to the largest of them."""
    for name in ("coef_", "intercept_"):
        got, want = getattr(student, name), getattr(expected, name)
        assert got.shape == want.shape
        assert_allclose(got, want, rtol=0, atol=rtol * max(np.abs(want).max(), 1e-3))
    assert_array_equal(student.classes_, expected.classes_)


@pytest.mark.parametrize("n_classes", [2, 10])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_labels_give_the_logistic_regression_of_scikit_learn(
    n_classes, weighted, fit_intercept
):
    X, y = digits(n_classes)
    weight = weights(len(y)) if weighted else None
    params = {"C": 0.5, "fit_intercept": fit_intercept}
    student = linear(**params).fit(X, y, sample_weight=weight)
    expected = logistic(**params).fit(X, y, sample_weight=weight)
    assert_same_model(student, expected)
    assert_allclose(student.predict_proba(X), expected.predict_proba(X), atol=1e-4)
    assert_allclose(
        student.decision_function(X), expected.decision_function(X), atol=1e-3
    )


@pytest.mark.parametrize("n_classes", [2, 10])
@pytest.mark.parametrize("container", [np.asarray, sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_and_single_precision_inputs_give_the_same_model(
    n_classes, container, dtype
):
    X, y = digits(n_classes)
    weight = weights(len(y))
    student = linear().fit(container(X.astype(dtype)), y, sample_weight=weight)
    # In float32 the solver ends where rounding hides the slope, as scikit-learn's does.
    rtol = 1e-4 if dtype == np.float64 else 5e-3
    expected = logistic().fit(X, y, sample_weight=weight)
    assert_same_model(student, expected, rtol=rtol)
    assert_allclose(student.predict_proba(X), expected.predict_proba(X), atol=rtol)
    assert_allclose(
        student.predict_proba(container(X.astype(dtype))),
        student.predict_proba(X),
        rtol=1e-12,
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("class_weight", [{0: 0.5, 1: 4.0, 2: 1.0}, "balanced"])
def test_class_weights_mean_what_they_mean_in_scikit_learn(class_weight, weighted):
    X, y = digits(3)
    keep = (y != 1) | (np.arange(len(y)) % 4 == 0)
    X, y = X[keep], y[keep]
    weight = weights(len(y)) if weighted else None
    student = linear(class_weight=class_weight).fit(X, y, sample_weight=weight)
    expected = logistic(class_weight=class_weight).fit(X, y, sample_weight=weight)
    assert_same_model(student, expected)


def test_class_weights_may_lack_a_class_without_weight():
    X, y = digits(3)
    weight = np.where(y == 2, 0.0, weights(len(y)))
    present = weight > 0
    student = linear(class_weight="balanced").fit(X, y, sample_weight=weight)
    assert_array_equal(student.classes_, [0, 1, 2])
    # The class stays a class: one that no label has.
    counts = np.array([weight[y == k].sum() for k in (0, 1)])
    scaled = weight[present] * (counts.sum() / (2 * counts))[y[present]]
    X_all, y_all = np.vstack([X[present], X[:1]]), np.append(y[present], 2)
    expected = linear().fit(X_all, y_all, sample_weight=np.append(scaled, 0.0))
    assert_same_model(student, expected)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_infinite_c_is_no_penalty(n_classes):
    X, y = overlapping(n_classes)
    student = linear(C=np.inf).fit(X, y)
    expected = logistic(C=np.inf).fit(X, y)
    assert_allclose(student.predict_proba(X), expected.predict_proba(X), atol=1e-5)
    residual = student.predict_proba(X) - np.eye(n_classes)[y]
    assert_allclose(X.T @ residual / len(y), 0, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_soft_labels_are_weighted_copies_of_each_row(n_classes, weighted):
    X, y = overlapping(n_classes)
    P = soft(len(y), n_classes)
    weight = weights(len(y)) if weighted else np.ones(len(y))
    student = linear(C=0.7).fit(X, y, sample_weight=weight, soft_labels=P)
    expected = logistic(C=0.7).fit(
        np.repeat(X, n_classes, axis=0),
        np.tile(np.arange(n_classes), len(y)),
        sample_weight=(weight[:, None] * P).ravel(),
    )
    assert_same_model(student, expected)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_one_hot_soft_labels_give_the_same_fit_as_labels(n_classes):
    X, y = overlapping(n_classes)
    labels = LinearStudent().fit(X, y)
    one_hot = LinearStudent().fit(X, y, soft_labels=np.eye(n_classes)[y])
    assert_array_equal(labels.coef_, one_hot.coef_)
    assert_array_equal(labels.intercept_, one_hot.intercept_)


def test_integer_weights_are_repeated_rows():
    X, y = overlapping(3)
    counts = np.random.default_rng(0).integers(0, 4, size=len(y))
    P = soft(len(y), 3)
    weighted = linear().fit(X, y, sample_weight=counts, soft_labels=P)
    repeated = linear().fit(
        np.repeat(X, counts, axis=0),
        np.repeat(y, counts),
        soft_labels=np.repeat(P, counts, axis=0),
    )
    assert_same_model(weighted, repeated, rtol=1e-5)


def objective(n_classes, mixing_weight, student_temperature, C=0.5):
    X, y = overlapping(n_classes, n_samples=15)
    P = soft(len(y), n_classes)
    weight = weights(len(y))
    terms = objective_terms(y, P, mixing_weight, student_temperature)
    problem = Problem(X, y, y, np.arange(n_classes), weight, terms)
    return _CrossEntropy(problem, weight, C, True), X, y, P, weight


TERMS = [(1.0, 1.0), (0.4, 1.0), (1.0, 3.0), (0.4, 3.0), (0.4, 0.5)]


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize(("mixing_weight", "student_temperature"), TERMS)
def test_the_gradient_is_the_derivative(n_classes, mixing_weight, student_temperature):
    function, *_ = objective(n_classes, mixing_weight, student_temperature)
    x = np.random.default_rng(3).normal(size=function.n_parameters)
    error = check_grad(lambda v: function(v)[0], lambda v: function(v)[1], x)
    assert error < 1e-6
    numerical = approx_fprime(x, lambda v: function(v)[0])
    assert np.linalg.norm(numerical) > 0.01


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize(("mixing_weight", "student_temperature"), TERMS)
def test_the_objective_is_the_distillation_loss_and_a_penalty(
    n_classes, mixing_weight, student_temperature
):
    C = 0.5
    function, X, y, P, weight = objective(
        n_classes, mixing_weight, student_temperature, C
    )
    x = np.random.default_rng(3).normal(size=function.n_parameters)
    coef, intercept = function.unpack(x)
    logits = X @ coef.T + intercept
    if n_classes == 2:
        logits = np.column_stack([np.zeros(len(y)), logits[:, 0]])
    loss = reference.distillation_loss(
        y,
        P,
        logits,
        temperature=1.0,
        mixing_weight=mixing_weight,
        student_temperature=student_temperature,
        sample_weight=weight,
    )
    expected = loss + 0.5 * (coef**2).sum() / (C * weight.sum())
    assert_allclose(function(x)[0], expected, rtol=1e-10)


def test_running_out_of_iterations_is_a_warning():
    X, y = digits(10)
    with pytest.warns(ConvergenceWarning, match="max_iter=1 "):
        student = LinearStudent(max_iter=1).fit(X, y)
    assert student.n_iter_ == 1


def test_a_single_precision_table_is_never_copied():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 200)).astype(np.float32)
    y = (X[:, 0] + rng.normal(size=len(X)) > 0).astype(int)
    LinearStudent().fit(X[:100], y[:100])
    tracemalloc.start()
    try:
        student = LinearStudent(tol=1e-3).fit(X, y)
        student.predict(X)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes / 2


def test_logits_are_shared_by_all_that_predicts():
    X, y = overlapping(3)
    names = np.array(["a", "b", "c"])
    student = LinearStudent().fit(X, names[y])
    proba = student.predict_proba(X)
    logits = student.decision_function(X)
    assert_allclose(proba.sum(axis=1), 1)
    assert_allclose(np.exp(student.predict_log_proba(X)), proba)
    assert_allclose(proba[:, 1] / proba[:, 0], np.exp(logits[:, 1] - logits[:, 0]))
    assert_array_equal(student.predict(X), names[proba.argmax(axis=1)])


def test_extreme_inputs_keep_finite_log_probabilities():
    X, y = overlapping(3)
    student = LinearStudent().fit(X, y)
    far = student.predict_log_proba(1e5 * X)
    assert np.isfinite(far).all()
    assert far.min() < -1000
