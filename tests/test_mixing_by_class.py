"""A mixing weight for each class: its objective, its estimate, the choice."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from skdistill import DistillationClassifier
from skdistill import _judging as judging
from skdistill._choice import Candidate, Material, Recipe
from skdistill._labelled_rows import LabelledRows
from skdistill._parabola import (
    class_mixing_weights,
    residual_mixing_weight,
    shrunk_weights,
)
from skdistill.datasets import draw_labels, make_class_overlap
from skdistill.metrics import mean_kl_divergence
from skdistill.students import EstimatorStudent, LinearStudent, MLPStudent
from skdistill.students._problem import mix_targets

EXACT = LinearStudent(C=np.inf, tol=1e-10, max_iter=5000)
DATA = {"n_classes": 4, "n_features": 40, "class_sep": 0.25, "problem": 1}


def half_right(proba):
    """Right on two classes; of the other two it knows only their sum."""
    wrong = proba.copy()
    wrong[:, 2:] = proba[:, 2:].mean(axis=1, keepdims=True)
    return wrong


# -- the objective -----------------------------------------------------------------


@given(
    arrays(float, 4, elements=st.floats(0.01, 1)),
    arrays(float, 4, elements=st.floats(0, 1)),
)
def test_targets_are_right_on_average_where_the_teacher_is(mass, weight):
    """Over labels; nothing is asked of the teacher where it has no weight."""
    truth = mass / mass.sum()
    teacher = half_right(truth[None])[0]
    weight[2:] = 0.0
    codes = np.arange(4)
    targets = mix_targets(codes, np.tile(teacher, (4, 1)), np.tile(weight, (4, 1)))
    assert (targets >= 0).all()
    assert_allclose(truth @ targets, truth, atol=1e-12)


def test_other_targets_are_not_right_on_average():
    """With the true probabilities for a teacher."""
    truth, weight = np.array([0.6, 0.3, 0.1]), np.array([1.0, 0.0, 0.5])
    codes, proba = np.arange(3), np.tile(truth, (3, 1))
    targets = mix_targets(codes, proba, np.tile(weight, (3, 1)))
    assert_allclose(truth @ targets, truth)
    divided = targets / targets.sum(axis=1, keepdims=True)
    assert np.abs(truth @ divided - truth).max() > 0.05
    by_label = mix_targets(codes, proba, weight)  # the weight of the label's class
    assert np.abs(truth @ by_label - truth).max() > 0.05


def test_targets_of_a_row_equal_loops():
    rng = np.random.default_rng(0)
    codes, soft, weight = rng.integers(3, size=5), rng.random((5, 3)), rng.random(3)
    found = mix_targets(codes, soft, weight[None])
    for i in range(5):
        for c in range(3):
            label = 1.0 if codes[i] == c else 0.0
            expected = (1 - weight[c]) * label + weight[c] * soft[i, c]
            assert_allclose(found[i, c], expected)


@pytest.mark.parametrize(
    "student",
    [
        LinearStudent(),
        MLPStudent((4,), max_iter=5, random_state=0),
        DecisionTreeClassifier(max_depth=3, random_state=0),
        Ridge(),
    ],
    ids=["linear", "mlp", "tree", "ridge"],
)
@pytest.mark.parametrize("pool", [False, True])
def test_equal_weights_are_one_weight(student, pool, three_classes, soft_labels):
    X, y = three_classes
    settings = {"soft_labels": soft_labels[:80]}
    if pool:
        settings["X_unlabeled"] = X[80:]
        settings["soft_labels_unlabeled"] = soft_labels[80:]
    one, each = (
        DistillationClassifier(student=student, mixing_weight=weight).fit(
            X[:80], y[:80], **settings
        )
        for weight in (0.3, [0.3, 0.3, 0.3])
    )
    assert_allclose(one.predict_proba(X), each.predict_proba(X), atol=1e-5)
    assert_array_equal(each.mixing_weight_, [0.3, 0.3, 0.3])


def test_weights_of_zero_need_no_teacher(three_classes):
    X, y = three_classes
    student = LinearStudent()
    distilled = DistillationClassifier(None, student, mixing_weight=np.zeros(3))
    alone = clone(student).fit(X, y)
    assert_array_equal(distilled.fit(X, y).predict_proba(X), alone.predict_proba(X))


@pytest.mark.parametrize("student_temperature", [1.0, 2.0])
def test_the_fit_is_that_of_the_weighted_targets(
    student_temperature, three_classes, soft_labels
):
    """Rows once a class, weighted: by hand where the temperature is 1."""
    X, y = three_classes
    weight = np.array([0.9, 0.0, 0.4])
    distilled = DistillationClassifier(
        student=EXACT, mixing_weight=weight, student_temperature=student_temperature
    ).fit(X, y, soft_labels=soft_labels)
    soft = mix_targets(y, soft_labels, weight[None])
    if student_temperature == 1.0:
        copies = np.repeat(np.arange(len(y)), 3)
        expected = clone(EXACT).fit(
            X[copies], np.tile(np.arange(3), len(y)), sample_weight=soft.ravel()
        )
        assert_allclose(
            distilled.predict_proba(X), expected.predict_proba(X), atol=1e-5
        )
    # Of an unpenalised intercept: the slopes of both terms add up to zero.
    proba = distilled.predict_proba(X)
    logits = np.log(proba) / student_temperature
    tempered = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mass = (soft_labels * weight).sum(axis=1, keepdims=True) * student_temperature
    hard = 1 - weight[y][:, None]
    slope = hard * (proba - np.eye(3)[y]) + mass * tempered
    slope -= student_temperature * weight * soft_labels
    assert_allclose(slope.sum(axis=0), 0.0, atol=1e-4)


def test_rows_whose_targets_are_zero_are_left_out():
    """A label of a class that the teacher speaks for, which says zero."""
    X = np.array([[0.0], [0.0], [1.0], [1.0]])
    y = np.array([0, 1, 1, 0])
    soft = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    for estimator in (DecisionTreeClassifier(), Ridge(alpha=1e-9)):
        distilled = DistillationClassifier(
            student=EstimatorStudent(estimator), mixing_weight=[1.0, 0.0]
        ).fit(X, y, soft_labels=soft)
        assert_allclose(distilled.predict_proba(X)[:, 1], 1.0, atol=1e-6)


def test_rows_without_labels_weigh_what_the_teacher_is_listened_to(three_classes):
    X, y = three_classes
    soft = np.eye(3)[np.arange(40) % 3]
    weight = np.array([1.0, 0.25, 0.0])
    labels = np.eye(3)[y[:80]]
    one = DistillationClassifier(student=EXACT, mixing_weight=weight).fit(
        X[:80],
        y[:80],
        soft_labels=labels,
        X_unlabeled=X[80:],
        soft_labels_unlabeled=soft,
    )
    other = clone(EXACT).fit(
        X,
        np.append(y[:80], soft.argmax(axis=1)),
        sample_weight=np.append(np.ones(80), soft @ weight),
    )
    assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        ([0.5, 0.5], r"hold one for each class, .* shape \(3,\); got shape \(2,\)"),
        ([[0.5, 0.5, 0.5]], r"got shape \(1, 3\)"),
        ([0.5, 1.5, 0.0], r"must be in \[0, 1\] for each class, got 1.5 for class 1"),
        ([0.5, np.nan, 0.0], r"must be in \[0, 1\] for each class, got nan"),
        (["a", "b", "c"], "mixing_weight must hold numbers"),
        (1.5, "The 'mixing_weight' parameter"),
        ("per class", "The 'mixing_weight' parameter"),
    ],
)
def test_wrong_weights_are_refused(weight, match, three_classes):
    distilled = DistillationClassifier(
        GaussianNB(), LinearStudent(), mixing_weight=weight
    )
    with pytest.raises(ValueError, match=match):
        distilled.fit(*three_classes)


# -- the estimate ------------------------------------------------------------------


def residuals(n_samples=60, n_outputs=3):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, n_samples, n_outputs))
    return first, first + 0.5 * second, rng.uniform(0.2, 3, n_samples)


def test_the_weight_is_the_lowest_point_on_a_grid():
    labels, soft, omega = residuals()
    found, _ = residual_mixing_weight(labels, soft, omega)
    grid = np.linspace(-3, 3, 6001)
    for c in range(3):
        losses = [
            sum(
                w * ((1 - a) * r + a * s) ** 2
                for w, r, s in zip(omega, labels[:, c], soft[:, c], strict=True)
            )
            for a in grid
        ]
        assert_allclose(found[c], grid[np.argmin(losses)], atol=1e-3)


def test_its_standard_error_is_that_of_simulated_labels():
    """Labels drawn anew for two fixed students, of known probabilities."""
    X, _, proba = make_class_overlap(400, random_state=0, n_classes=3)
    labels, soft = np.full_like(proba, 1 / 3), 0.7 * proba + 0.1
    omega = np.ones(len(X))
    draws, errors = [], []
    for seed in range(200):
        drawn = np.eye(3)[draw_labels(proba, random_state=seed)]
        weight, error = residual_mixing_weight(drawn - labels, drawn - soft, omega)
        draws.append(weight)
        errors.append(error)
    best, _ = residual_mixing_weight(proba - labels, proba - soft, omega)
    standard_error = np.std(draws, axis=0, ddof=1)
    assert_allclose(np.mean(draws, axis=0), best, atol=3 * standard_error.max() / 14)
    assert_allclose(np.mean(errors, axis=0), standard_error, rtol=0.15)


def test_students_that_predict_the_same_say_nothing():
    labels, _, omega = residuals()
    weight, error = residual_mixing_weight(labels, labels, omega)
    assert np.isnan(weight).all()
    assert np.isinf(error).all()
    mean, shrunk = shrunk_weights(weight, error)
    assert mean == 0
    assert_array_equal(shrunk, 0)


def test_weights_are_drawn_together_as_in_the_formula():
    weight, error = np.array([0.9, 0.1, 0.5]), np.array([0.1, 0.2, 0.05])
    u = [1 / s**2 for s in error]
    mean = sum(a * b for a, b in zip(u, weight, strict=True)) / sum(u)
    q = sum(a * (b - mean) ** 2 for a, b in zip(u, weight, strict=True))
    tau2 = max(0.0, (q - 2) / (sum(u) - sum(a * a for a in u) / sum(u)))
    assert tau2 > 0
    expected = [
        mean + tau2 / (tau2 + s**2) * (w - mean)
        for w, s in zip(weight, error, strict=True)
    ]
    found_mean, found = shrunk_weights(weight, error)
    assert_allclose(found_mean, mean)
    assert_allclose(found, expected)


def test_weights_that_differ_by_chance_become_one():
    weight, error = np.array([0.5, 0.52, 0.47]), np.full(3, 0.1)
    mean, shrunk = shrunk_weights(weight, error)
    assert_allclose(shrunk, mean)
    mean, shrunk = shrunk_weights(np.append(weight, np.nan), np.append(error, np.inf))
    assert_allclose(shrunk, mean)


def test_a_teacher_right_on_some_classes_gets_weights_there():
    _, y, proba = make_class_overlap(3000, random_state=0, **DATA)
    noisy = np.abs(proba + np.random.default_rng(0).normal(0, 0.1, proba.shape))
    noisy /= noisy.sum(axis=1, keepdims=True)
    pooled, weights = class_mixing_weights(y, noisy, half_right(proba), np.ones(3000))
    assert (weights[:2] > 0.9).all()
    assert (weights[2:] < 0.5).all()
    assert weights[2:].max() < pooled < weights[:2].min()


# -- what they are for -------------------------------------------------------------


def distance(distilled, X, proba):
    return mean_kl_divergence(proba, distilled.predict_proba(X))


@pytest.fixture(scope="module")
def gains():
    """Divergences from the truth, over training sets, by mixing weight."""
    X_test, _, test = make_class_overlap(2000, random_state=99, **DATA)
    weights = [0.0, 0.25, 0.5, 0.75, 1.0, (1.0, 1.0, 0.0, 0.0), "per-class"]
    found = {weight: [] for weight in weights}
    for seed in range(8):
        X, y, proba = make_class_overlap(600, random_state=seed, **DATA)
        for weight in weights:
            distilled = DistillationClassifier(
                student=LinearStudent(), mixing_weight=weight
            )
            with warnings.catch_warnings():
                # Of a teacher that is worse than the student, where labels alone win.
                warnings.filterwarnings("ignore", "The teacher", UserWarning)
                distilled.fit(X, y, soft_labels=half_right(proba))
            found[weight].append(distance(distilled, X_test, test))
    return {weight: np.array(values) for weight, values in found.items()}


@pytest.mark.parametrize("weight", [(1.0, 1.0, 0.0, 0.0), "per-class"])
def test_weights_by_class_beat_any_one_weight(gains, weight):
    for one in (0.0, 0.25, 0.5, 0.75, 1.0):
        difference = gains[one] - gains[weight]
        error = difference.std(ddof=1) / len(difference) ** 0.5
        print(f"{weight} over {one}: {difference.mean():.4f} +- {error:.4f}")
        assert difference.mean() > 2 * error


# -- the choice --------------------------------------------------------------------


@pytest.fixture(scope="module")
def chosen():
    X, y, proba = make_class_overlap(600, random_state=0, **DATA)
    return X, y, half_right(proba)


def test_the_choice_can_be_read(chosen):
    X, y, soft = chosen
    distilled = DistillationClassifier(
        student=LinearStudent(), mixing_weight="per-class"
    ).fit(X, y, soft_labels=soft)
    table = distilled.candidates_
    assert table["source"].tolist() == ["labels", "given", "given", "given"]
    assert table["mixing_weight"][:2].tolist() == [0.0, 1.0]
    assert table["chosen"].tolist() == [False, False, False, True]
    weights = distilled.mixing_weight_
    assert_array_equal(table["mixing_weight"][3], weights)
    assert weights[:2].min() > weights[2:].max()
    fixed = DistillationClassifier(student=LinearStudent(), mixing_weight=weights)
    fixed.fit(X, y, soft_labels=soft)
    assert_allclose(distilled.predict_proba(X), fixed.predict_proba(X), atol=1e-6)


def test_a_wrong_teacher_gets_no_weight(three_classes):
    X, y = three_classes
    soft = 0.7 * np.eye(3)[(y + 1) % 3] + 0.1
    with pytest.warns(UserWarning, match="The teacher"):
        distilled = DistillationClassifier(
            student=LinearStudent(), mixing_weight="per-class"
        ).fit(X, y, soft_labels=soft)
    assert_array_equal(distilled.mixing_weight_, np.zeros(3))
    alone = LinearStudent().fit(X, y)
    assert_array_equal(distilled.predict_proba(X), alone.predict_proba(X))


@pytest.mark.parametrize("augmentation", [None, "munge"])
def test_cross_fitted_teachers_and_networks(augmentation, three_classes):
    X, y = three_classes
    student = MLPStudent((4,), max_iter=5, random_state=0)
    first, second = (
        DistillationClassifier(
            GaussianNB(),
            student,
            mixing_weight="per-class",
            temperature="auto",
            augmentation=augmentation,
            class_weight="balanced",
            random_state=0,
            cv=3,
        ).fit(X, y)
        for _ in range(2)
    )
    assert first.mixing_weight_.shape == (3,)
    assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert first.candidates_["augmented"][1:].tolist() == [bool(augmentation)] * 3


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_what_is_chosen_is_trained_as_its_weights_are(temperature, three_classes):
    """With rows without labels, to some of which the weights give none."""
    X, y = three_classes
    weights = (0.7, 0.2, 0.0)
    pool = np.array([[0.8, 0.2, 0.0], [0.0, 0.0, 1.0], [0.3, 0.3, 0.4]] * 5)
    soft = np.random.default_rng(0).dirichlet(np.ones(3), len(y))
    fixed = DistillationClassifier(
        student=LinearStudent(), mixing_weight=weights, temperature=temperature
    ).fit(X, y, soft_labels=soft, X_unlabeled=X[:15], soft_labels_unlabeled=pool)
    rows = LabelledRows(X, y, y, np.arange(3), {}, {}, np.arange(len(y)))
    recipe = Recipe(rows, np.ones(len(y)), 1.0)
    material = Material(np.arange(len(y)), {"given": soft}, ((X[:15], pool),))
    candidate = Candidate("given", weights, temperature)
    problem, (terms,) = recipe.problems([candidate], material)
    student = LinearStudent()._fit_problem(replace(problem, terms=terms))
    assert len(problem.y) == len(y) + 10
    assert_allclose(fixed.predict_proba(X), student.predict_proba(X), atol=1e-8)


def test_networks_are_judged_and_trained_by_one_number_of_epochs(
    three_classes, monkeypatch
):
    """All candidates alike: whoever stopped by rows of its own would be handicapped."""
    X, y = three_classes
    seen = []
    trained = judging.trained

    def spy(student, recipe, candidates, material, n_epochs=None):
        seen.append((len(candidates), n_epochs))
        return trained(student, recipe, candidates, material, n_epochs)

    monkeypatch.setattr(judging, "trained", spy)
    network = MLPStudent((8,), max_iter=12, random_state=0)
    model = DistillationClassifier(GaussianNB(), network, mixing_weight="per-class")
    model.fit(X, y)
    assert [n for n, _ in seen] == [2] * 5 + [2] * 5
    ends, mixed = (epochs for _, epochs in seen[4:6])
    assert all(1 <= n <= 12 for n in (*ends, *mixed))
    assert all(epochs in (ends, mixed) for _, epochs in seen)
    chosen = int(model.candidates_["chosen"].argmax())
    if chosen > 0:
        assert model.student_.n_iter_ == [*ends, *mixed][chosen]


def test_a_candidate_may_be_wanted_twice_and_of_several_numbers_of_epochs(
    three_classes,
):
    """Weights of classes that are estimated on a fold can be those of another place."""
    X, y = three_classes
    rows = LabelledRows(X, y, y, np.arange(3), {}, {}, np.arange(len(y)))
    recipe = Recipe(rows, np.ones(len(y)), 1.0)
    soft = np.random.default_rng(0).dirichlet(np.ones(3), len(y))
    material = Material(np.arange(len(y)), {"given": soft})
    labels, mixed = Candidate("labels", 0.0), Candidate("given", 0.5)
    network = MLPStudent((8,), random_state=0)
    wanted = [mixed, labels, mixed, labels, mixed]
    epochs = [2, 3, 7, 3, 2]
    found = judging.trained(network, recipe, wanted, material, epochs)
    assert [student.n_iter_ for student in found] == epochs
    for student, candidate, n in zip(found, wanted, epochs, strict=True):
        (alone,) = judging.trained(network, recipe, [candidate], material, [n])
        assert_allclose(student.predict_proba(X), alone.predict_proba(X), rtol=1e-4)
    linear = judging.trained(LinearStudent(), recipe, [mixed, mixed], material)
    assert linear[0] is linear[1]


def test_too_few_rows_to_choose():
    X = np.arange(8.0)[:, None]
    y = np.arange(8) // 4
    distilled = DistillationClassifier(
        GaussianNB(), LinearStudent(), mixing_weight="per-class", cv=2
    )
    with pytest.warns(
        UserWarning, match="'per-class' cannot choose by 8 rows in 2 folds of cv"
    ):
        distilled.fit(X, y)
    assert_array_equal(distilled.mixing_weight_, [0, 0])
