import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.naive_bayes import GaussianNB
from torch import nn

from skdistill import DistillationClassifier
from skdistill.students import LinearStudent, ModuleStudent

N_FEATURES, N_CLASSES = 6, 3
FAST = {"max_iter": 5, "early_stopping": False, "random_state": 0}


class Network(nn.Module):
    def __init__(self, n_features, n_classes, width=8):
        super().__init__()
        self.sizes = (n_features, n_classes)
        self.layers = nn.Sequential(
            nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, n_classes)
        )

    def forward(self, x):
        return self.layers(x)


def perceptron(n_features, n_classes, width=8, bias=True):
    return nn.Sequential(
        nn.Linear(n_features, width), nn.Tanh(), nn.Linear(width, n_classes, bias=bias)
    )


def with_dropout(n_features, n_classes):
    return nn.Sequential(
        nn.Linear(n_features, 32), nn.Dropout(0.5), nn.Linear(32, n_classes)
    )


def with_batch_norm(n_features, n_classes):
    return nn.Sequential(nn.BatchNorm1d(n_features), nn.Linear(n_features, n_classes))


class Counting(Network):
    """Counts its training steps in an integer buffer, and has a boolean one."""

    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("used", torch.tensor([True, False]))

    def forward(self, x):
        if self.training:
            self.steps += 1
        return super().forward(x)


class Interrupting(Network):
    """Is interrupted in its third training step."""

    steps = 0

    def forward(self, x):
        if self.training:
            self.steps += 1
        if self.steps == 3:
            raise KeyboardInterrupt
        return super().forward(x)


def data(n_samples=200):
    return make_classification(
        n_samples,
        n_features=N_FEATURES,
        n_informative=4,
        n_classes=N_CLASSES,
        flip_y=0.1,
        random_state=0,
    )


def assert_same_state(first, second):
    assert first.state_.keys() == second.state_.keys()
    for name, value in first.state_.items():
        assert value.dtype == second.state_[name].dtype
        assert_array_equal(value, second.state_[name])


@pytest.mark.parametrize(
    "module",
    [
        Network,
        perceptron,
        partial(perceptron, width=5),
        Network(N_FEATURES, N_CLASSES),
        perceptron(N_FEATURES, N_CLASSES),
    ],
    ids=["class", "function", "partial", "instance", "sequential"],
)
def test_anything_that_makes_a_module_learns(module):
    X, y = data()
    names = np.array(["a", "b", "c"])[y]
    settings = {**FAST, "max_iter": 60, "learning_rate_init": 0.01}
    student = ModuleStudent(module, **settings).fit(X, names)
    assert student.score(X, names) > 0.65
    assert student.loss_curve_.shape == (student.n_iter_,)
    assert student.loss_curve_[-1] < 0.8 * student.loss_curve_[0]


def test_keyword_arguments_reach_the_module():
    X, y = data()
    kwargs = {"width": 5, "bias": False}
    student = ModuleStudent(perceptron, module_kwargs=kwargs, **FAST).fit(X, y)
    shapes = {name: value.shape for name, value in student.state_.items()}
    assert shapes == {"0.weight": (5, 6), "0.bias": (5,), "2.weight": (3, 5)}
    assert kwargs == {"width": 5, "bias": False}


def test_the_numbers_of_features_and_classes_are_filled_in():
    rng = np.random.default_rng(0)
    for n_features, n_classes in [(2, 4), (7, 2)]:
        X = rng.normal(size=(40, n_features))
        y = np.arange(40) % n_classes
        student = ModuleStudent(Network, **FAST).fit(X, y)
        assert student.state_["layers.0.weight"].shape == (8, n_features)
        assert student.predict_proba(X).shape == (40, n_classes)


def test_keyword_arguments_win_over_the_numbers_filled_in():
    X, y = data()
    student = ModuleStudent(Network, module_kwargs={"n_classes": 4}, **FAST)
    with pytest.raises(
        ValueError, match=r"\(2, 3\) for a batch of 2 rows, got \(2, 4\)"
    ):
        student.fit(X, y)


def test_a_module_given_is_the_start_and_is_not_changed():
    X, y = data()
    module = Network(N_FEATURES, N_CLASSES)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    settings = {**FAST, "max_iter": 1, "batch_size": None, "learning_rate_init": 1e-9}
    student = ModuleStudent(module, **settings).fit(X, y)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
        assert_allclose(student.state_[name], value, atol=1e-6)
    moved = ModuleStudent(module, **FAST).fit(X, y)
    assert np.abs(
        moved.state_["layers.0.weight"] - before["layers.0.weight"].numpy()
    ).max()
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_linear_module_is_the_linear_student():
    X, y = data()
    P = softmax(X[:, :3], axis=1)
    student = ModuleStudent(
        nn.Linear(N_FEATURES, N_CLASSES),
        batch_size=None,
        max_iter=1500,
        learning_rate_init=0.02,
        weight_decay=0.0,
        early_stopping=False,
        tol=0.0,
        n_iter_no_change=1500,
        dtype="float64",
        random_state=0,
    ).fit(X, y, soft_labels=P)
    linear = LinearStudent(C=np.inf, tol=1e-8).fit(X, y, soft_labels=P)
    assert_allclose(student.predict_proba(X), linear.predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("module", [Network, with_dropout, with_batch_norm])
def test_the_same_seed_gives_the_same_state(module):
    X, y = data()
    student = ModuleStudent(module, batch_size=32, **FAST)
    first, second = clone(student).fit(X, y), clone(student).fit(X, y)
    assert_same_state(first, second)
    other = clone(student).set_params(random_state=1).fit(X, y)
    assert np.abs(first.predict_proba(X) - other.predict_proba(X)).max() > 0.01


def test_dropout_acts_in_training_and_not_in_prediction():
    X, y = data()
    student = ModuleStudent(with_dropout, **FAST).fit(X, y)
    assert_array_equal(student.predict_proba(X), student.predict_proba(X))
    without = nn.Sequential(
        nn.Linear(N_FEATURES, 32), nn.Identity(), nn.Linear(32, N_CLASSES)
    )
    without.load_state_dict(
        {name: torch.from_numpy(value) for name, value in student.state_.items()}
    )
    with torch.no_grad():
        expected = without(torch.from_numpy(X.astype(np.float32))).numpy()
    assert_allclose(student.decision_function(X), expected, atol=1e-6)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_global_generators_are_left_alone(early_stopping):
    X, y = data()
    before = torch.get_rng_state()
    before_numpy = np.random.get_state()[1]  # noqa: NPY002
    settings = {**FAST, "early_stopping": early_stopping}
    ModuleStudent(with_dropout, **settings).fit(X, y).predict(X)
    assert torch.equal(torch.get_rng_state(), before)
    assert_array_equal(np.random.get_state()[1], before_numpy)  # noqa: NPY002


def lazy(n_classes):
    return nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.Linear(8, n_classes))


def test_layers_that_wait_for_the_first_rows_are_seeded():
    X, y = data()
    student = ModuleStudent(lazy, **FAST)
    first = clone(student).fit(X, y)
    torch.rand(3)
    before = torch.get_rng_state()
    assert_same_state(first, clone(student).fit(X, y))
    distilled = DistillationClassifier(
        GaussianNB(), student, cv=2, mixing_weight=0.5
    ).fit(X, y)
    assert torch.equal(torch.get_rng_state(), before)
    again = clone(distilled).fit(X, y)
    assert_same_state(distilled.student_, again.student_)
    other = clone(student).set_params(random_state=1).fit(X, y)
    assert np.abs(first.predict_proba(X) - other.predict_proba(X)).max() > 0.01


def test_batch_norm_statistics_are_kept_and_used():
    X, y = data()
    X = 3 * X + 10
    settings = {**FAST, "max_iter": 100, "batch_size": None, "dtype": "float64"}
    student = ModuleStudent(with_batch_norm, tol=0.0, **settings).fit(X, y)
    state = student.state_
    assert_allclose(state["0.running_mean"], X.mean(axis=0), rtol=1e-3)
    assert_allclose(state["0.running_var"], X.var(axis=0, ddof=1), rtol=1e-3)
    scaled = (X - state["0.running_mean"]) / np.sqrt(state["0.running_var"] + 1e-5)
    hidden = scaled * state["0.weight"] + state["0.bias"]
    logits = hidden @ state["1.weight"].T + state["1.bias"]
    assert_allclose(student.decision_function(X), logits, atol=1e-9)
    alone = np.vstack([student.predict_proba(row[None]) for row in X])
    assert_allclose(alone, softmax(logits, axis=1), atol=1e-9)


def test_buffers_that_are_not_real_numbers_survive():
    X, y = data()
    student = ModuleStudent(Counting, batch_size=50, **FAST).fit(X, y)
    assert student.state_["steps"].dtype == np.int64
    assert student.state_["steps"] == 5 * 4
    assert_array_equal(student.state_["used"], [True, False])
    loaded = pickle.loads(pickle.dumps(student))
    assert_array_equal(loaded.predict_proba(X), student.predict_proba(X))
    norm = ModuleStudent(with_batch_norm, batch_size=50, **FAST).fit(X, y)
    assert norm.state_["0.num_batches_tracked"] == 5 * 4


class Remembering(Network):
    """Has something in its state that is no tensor."""

    steps = 0

    def forward(self, x):
        self.steps += self.training
        return super().forward(x)

    def get_extra_state(self):
        return {"steps": self.steps}

    def set_extra_state(self, state):
        self.steps = state["steps"]


def test_a_state_that_is_no_tensor_survives():
    X, y = data()
    student = ModuleStudent(Remembering, batch_size=50, **FAST).fit(X, y)
    assert student.state_["_extra_state"] == {"steps": 5 * 4}
    loaded = pickle.loads(pickle.dumps(student))
    assert_array_equal(loaded.predict_proba(X), student.predict_proba(X))
    assert loaded._fitted_module("cpu").steps == 5 * 4


class Converted(Network):
    """Returns logits of another type."""

    def __init__(self, n_features, n_classes, dtype):
        super().__init__(n_features, n_classes)
        self.dtype = dtype

    def forward(self, x):
        return super().forward(x).to(self.dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_logits_may_be_of_another_type(dtype):
    X, y = data()
    expected = ModuleStudent(Network, **FAST).fit(X, y)
    module = partial(Converted, dtype=dtype)
    student = ModuleStudent(module, **FAST).fit(X, y)
    assert_allclose(student.predict_proba(X), expected.predict_proba(X), atol=0.02)
    assert_allclose(student.loss_curve_, expected.loss_curve_, atol=0.02)


def test_numbers_that_the_type_does_not_hold_are_an_error_in_prediction():
    X, y = data()
    student = ModuleStudent(Network, **FAST).fit(X, y)
    with pytest.raises(ValueError, match="too large for dtype='float32'"):
        student.predict(1e39 * X)
    assert np.isfinite(student.predict_proba(1e30 * X)).all()


def test_frozen_parameters_stay():
    X, y = data()
    module = Network(N_FEATURES, N_CLASSES)
    module.layers[0].weight.requires_grad_(False)
    student = ModuleStudent(module, **FAST).fit(X, y)
    assert_array_equal(
        student.state_["layers.0.weight"], module.layers[0].weight.numpy()
    )
    last = module.layers[2].weight.detach().numpy()
    assert np.abs(student.state_["layers.2.weight"] - last).max() > 1e-4


@pytest.mark.parametrize("module", [Network, with_batch_norm])
def test_the_best_epoch_is_kept(module):
    X, y = data()
    student = ModuleStudent(
        module,
        max_iter=40,
        learning_rate_init=0.1,
        early_stopping=True,
        n_iter_no_change=5,
        random_state=0,
    ).fit(X, y)
    best = int(np.argmax(student.validation_scores_))
    assert student.best_validation_score_ == student.validation_scores_[best]
    assert 0 < best < student.n_iter_ - 1 < 39
    shorter = clone(student).set_params(max_iter=best + 1).fit(X, y)
    assert_same_state(shorter, student)


@pytest.mark.parametrize("module", [Network, Network(N_FEATURES, N_CLASSES)])
def test_the_fitted_state_is_numpy_and_the_pickle_predicts_the_same(module):
    X, y = data()
    student = ModuleStudent(module, **FAST).fit(X, y)
    unused = pickle.dumps(student)
    expected = student.predict_proba(X)
    assert all(type(value) is np.ndarray for value in student.state_.values())
    # What prediction rebuilt is left out: it would hold a device.
    assert len(pickle.dumps(student)) == len(unused)
    for pickled in (unused, pickle.dumps(student)):
        loaded = pickle.loads(pickled)
        assert_array_equal(loaded.predict_proba(X), expected)
    assert_array_equal(student.predict_proba(X), expected)


@pytest.mark.parametrize(
    "params",
    [
        {"module": perceptron},
        {"module": Network(1, 1)},
        {"module_kwargs": {"width": 3}},
        {"dtype": "float64"},
    ],
)
def test_a_fitted_student_predicts_as_it_was_fitted(params):
    X, y = data()
    student = ModuleStudent(Network, **FAST).fit(X, y)
    expected = clone(student).fit(X, y).predict_proba(X)
    student.set_params(**params)
    loaded = pickle.loads(pickle.dumps(student))
    for fitted in (student, loaded):
        assert_array_equal(fitted.predict_proba(X), expected)


def test_a_class_given_keeps_torch_out_of_the_pickle():
    X, y = data()
    student = ModuleStudent(Network, **FAST).fit(X, y)
    student.predict(X)
    assert b"torch" not in pickle.dumps(student)


def test_a_second_fit_replaces_the_module_used_in_prediction():
    X, y = data()
    student = ModuleStudent(Network, **FAST).fit(X, y)
    student.predict(X)
    other = y[::-1].copy()
    student.fit(X, other)
    fresh = ModuleStudent(Network, **FAST).fit(X, other)
    assert_array_equal(student.predict_proba(X), fresh.predict_proba(X))


def test_an_interrupt_leaves_threads_generator_and_earlier_fit_as_they_were():
    X, y = data()
    student = ModuleStudent(Network, **FAST).fit(X, y)
    expected = student.predict_proba(X)
    before = torch.get_num_threads()
    rng = torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        student.set_params(module=Interrupting)
        with pytest.raises(KeyboardInterrupt):
            student.fit(X, y)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.get_rng_state(), rng)
    assert_array_equal(student.set_params(module=Network).predict_proba(X), expected)


def too_wide(n_features, n_classes):
    return nn.Linear(n_features, n_classes + 1)


class Flat(Network):
    def forward(self, x):
        return super().forward(x).sum(dim=1)


class Pair(Network):
    def forward(self, x):
        return super().forward(x), x


class Nothing(nn.Module):
    def forward(self, x):
        return x[:, :N_CLASSES]


def no_module(n_features):
    return "network"


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (too_wide, ValueError, r"n_classes\) = \(2, 3\) .* got \(2, 4\)"),
        (Flat, ValueError, r"must return logits of shape .* got \(2,\)"),
        (Pair, ValueError, "must return logits of shape .* got tuple"),
        (Nothing, ValueError, "module has no parameter to train"),
        (partial(Converted, dtype=torch.int64), ValueError, "not depend on any param"),
        (no_module, TypeError, "calling it returned str"),
        ("network", ValueError, "The 'module' parameter of ModuleStudent"),
    ],
)
def test_a_module_that_cannot_be_a_student_is_an_error(module, error, message):
    X, y = data()
    with pytest.raises(error, match=message):
        ModuleStudent(module, **FAST).fit(X, y)


def test_columns_of_texts_are_named():
    frame = pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0], "city": list("abab")})
    student = ModuleStudent(nn.Linear(2, 2), max_iter=1)
    message = r"^The student ModuleStudent takes numbers, .*\['city'\].* an encoder"
    with pytest.raises(ValueError, match=message):
        student.fit(frame, [0, 1, 0, 1])
    student.fit(frame.assign(city=1.0), [0, 1, 0, 1])
    with pytest.raises(ValueError, match=message):
        student.predict(frame)
