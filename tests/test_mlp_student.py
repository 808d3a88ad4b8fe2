import _thread
import io
import pickle
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification
from sklearn.metrics import log_loss

import skdistill.students._mlp as mlp
from skdistill.students import LinearStudent, MLPStudent
from skdistill.students._tables import TableEncoder

FULL_BATCH = MLPStudent(
    (8,),
    activation="tanh",
    batch_size=None,
    max_iter=40,
    learning_rate_init=0.02,
    early_stopping=False,
    dtype="float64",
    random_state=0,
)
SMALL = MLPStudent((8,), max_iter=5, random_state=0)


def data(n_samples=200, n_classes=3, seed=0):
    return make_classification(
        n_samples,
        n_features=6,
        n_informative=4,
        n_classes=n_classes,
        flip_y=0.2,
        random_state=seed,
    )


def soft(n_samples, n_classes=3):
    return np.random.default_rng(2).dirichlet(np.ones(n_classes), size=n_samples)


def variant(student, **params):
    return clone(student).set_params(**params)


def parameters(student):
    embedding = student.embedding_coefs_
    first = [] if embedding is None else [embedding]
    return [*first, *student.coefs_, *student.intercepts_]


def assert_same_bytes(first, second):
    for a, b in zip(parameters(first), parameters(second), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


class Recorder:
    """Keeps the logits at each epoch's end; may do something after each."""

    def __init__(self, X=None, after=None):
        self.X = X
        self.after = after
        self.proba = []

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name != "epoch":
            return None
        if self.X is not None:
            self.proba.append(fitted_estimator.predict_proba(self.X))
        return self.after() if self.after is not None else None

    def teardown(self, estimator, context):
        pass


# -- reproducible ------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_same_seed_gives_the_same_bytes(early_stopping):
    X, y = data()
    student = variant(SMALL, early_stopping=early_stopping, batch_size=32)
    first, second = clone(student).fit(X, y), clone(student).fit(X, y)
    assert_same_bytes(first, second)
    assert_array_equal(first.loss_curve_, second.loss_curve_)
    assert_same_bytes(first, clone(student).fit(X, y, soft_labels=np.eye(3)[y]))


def test_another_seed_gives_another_student():
    X, y = data()
    first = clone(SMALL).fit(X, y)
    second = variant(SMALL, random_state=1).fit(X, y)
    assert np.abs(first.predict_proba(X) - second.predict_proba(X)).max() > 0.01


def test_a_random_state_instance_moves_on():
    X, y = data()
    rng = np.random.RandomState(0)
    student = MLPStudent((8,), max_iter=2, random_state=rng)
    first = student.fit(X, y).coefs_[0]
    assert not np.array_equal(first, student.fit(X, y).coefs_[0])


@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_global_generators_are_left_alone(early_stopping):
    X, y = data()
    before_numpy = np.random.get_state()[1:]  # noqa: NPY002
    before_torch = torch.get_rng_state()
    variant(SMALL, early_stopping=early_stopping, batch_size=32).fit(X, y)
    after_numpy = np.random.get_state()[1:]  # noqa: NPY002
    assert_array_equal(before_numpy[0], after_numpy[0])
    assert before_numpy[1:] == after_numpy[1:]
    assert torch.equal(torch.get_rng_state(), before_torch)


# -- when to stop ------------------------------------------------------------------


def test_early_stopping_keeps_the_best_epoch():
    X, y = data()
    recorder = Recorder(X)
    student = MLPStudent(
        (32,),
        max_iter=40,
        learning_rate_init=0.05,
        early_stopping=True,
        validation_fraction=0.3,
        n_folds=1,
        n_iter_no_change=5,
        random_state=0,
    ).set_callbacks(recorder)
    student.fit(X, y)
    best = int(np.argmax(student.validation_scores_))
    assert student.best_validation_score_ == student.validation_scores_.max()
    assert 0 < best < student.n_iter_ - 1 < 39
    assert_allclose(student.predict_proba(X), recorder.proba[best], rtol=1e-12)
    assert not np.allclose(recorder.proba[-1], recorder.proba[best], atol=1e-3)
    shorter = variant(student, max_iter=best + 1).set_callbacks().fit(X, y)
    assert_same_bytes(shorter, student)


@pytest.mark.parametrize("seed", range(5))
def test_the_validation_score_is_minus_the_loss_on_stratified_held_out_rows(seed):
    """All rows of a class are alike, so that the held-out rows need not be known."""
    y = np.repeat([0, 1], 50)
    X = y[:, None].astype(float)
    P = np.array([[0.7, 0.3], [0.2, 0.8]])[y]
    weight = np.array([1.0, 3.0])[y]
    student = MLPStudent(
        (4,), max_iter=20, early_stopping=True, dtype="float64", random_state=seed
    ).fit(X, y, sample_weight=weight, soft_labels=P)
    losses = -(P * student.predict_log_proba(X)).sum(axis=1)
    expected = -np.average(losses, weights=weight)
    assert_allclose(student.best_validation_score_, expected, rtol=1e-9)


def test_no_improvement_stops_the_training():
    X, y = data()
    P = np.full((len(y), 3), 1 / 3)
    settings = {"max_iter": 200, "n_iter_no_change": 3, "tol": 0.5}
    for early_stopping in (False, True):
        student = variant(SMALL, early_stopping=early_stopping, **settings)
        student.fit(X, y, soft_labels=P)
        assert student.n_iter_ <= 8


def test_without_early_stopping_the_last_epoch_is_kept():
    X, y = data()
    recorder = Recorder(X)
    student = variant(SMALL, early_stopping=False).set_callbacks(recorder).fit(X, y)
    assert student.validation_scores_ is None
    assert student.best_validation_score_ is None
    assert_allclose(student.predict_proba(X), recorder.proba[-1], rtol=1e-12)


@pytest.mark.parametrize(
    ("n_samples", "fraction"),
    [(49, None), (50, 0.2), (120, 0.2), (400, 0.125), (600, 0.1)],
)
def test_auto_holds_out_enough_rows_where_there_are_enough(n_samples, fraction):
    X, y = data(n_samples)
    one = variant(SMALL, max_iter=2, n_folds=1)
    auto = variant(one, early_stopping="auto").fit(X, y)
    held_out = {"early_stopping": False}
    if fraction is not None:
        held_out = {"early_stopping": True, "validation_fraction": fraction}
    fixed = variant(one, **held_out).fit(X, y)
    assert (auto.validation_scores_ is None) == (fraction is None)
    assert_same_bytes(auto, fixed)


def test_few_rows_do_not_make_a_network_over_confident():
    X, y = make_classification(300, flip_y=0.3, random_state=0)
    student = MLPStudent(random_state=0).fit(X[:120], y[:120])
    proba = student.predict_proba(X[120:])
    assert log_loss(y[120:], proba) < 0.75


def test_a_class_of_a_single_row_is_learned_and_not_held_out():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(61, 2))
    y = np.repeat([0, 1, 2], [30, 30, 1])
    X[:, 0] += 4 * y
    X[60] = [20.0, 20.0]
    learned = []
    for seed in range(5):
        student = MLPStudent(
            (16,),
            max_iter=60,
            batch_size=8,
            learning_rate_init=0.02,
            early_stopping=True,
            n_iter_no_change=60,
            random_state=seed,
        ).fit(X, y)
        assert student.validation_scores_ is not None
        learned.append(student.predict(X[60:])[0] == 2)
    # The best epoch may be an early one; held out, the row would be learned in none.
    assert sum(learned) >= 4


def test_too_few_rows_to_hold_out_is_an_error_that_says_what_to_do():
    X = np.arange(4.0)[:, None]
    with pytest.raises(ValueError, match="Set early_stopping=False"):
        MLPStudent(early_stopping=True).fit(X, [0, 1, 2, 3])
    assert MLPStudent(max_iter=2).fit(X, [0, 1, 2, 3]).validation_scores_ is None


@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_loss_curve_has_a_finite_value_an_epoch(early_stopping):
    X, y = data()
    student = variant(FULL_BATCH, early_stopping=early_stopping).fit(X, y)
    assert student.loss_curve_.shape == (student.n_iter_,)
    assert np.isfinite(student.loss_curve_).all()
    assert student.loss_curve_[-1] < 0.9 * student.loss_curve_[0]
    if early_stopping:
        single = variant(FULL_BATCH, early_stopping=True, n_folds=1).fit(X, y)
        assert single.validation_scores_.shape == (single.n_iter_,)


def test_the_loss_curve_is_the_mean_loss_of_the_rows():
    """In full batches an epoch's loss is that before its only step."""
    X, y = data()
    weight = np.random.default_rng(0).uniform(0.1, 2, size=len(y))
    recorder = Recorder(X)
    student = clone(FULL_BATCH).set_callbacks(recorder)
    student.fit(X, y, sample_weight=weight)
    rows = [-np.log(proba[np.arange(len(y)), y]) for proba in recorder.proba]
    expected = np.average(rows, axis=1, weights=weight)
    assert_allclose(student.loss_curve_[1:], expected[:-1], rtol=1e-9)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_diverging_training_is_an_error_that_names_the_step_size(early_stopping):
    X, y = data()
    student = variant(
        SMALL,
        activation="identity",
        learning_rate_init=1e30,
        early_stopping=early_stopping,
        max_iter=50,
    )
    with pytest.raises(ValueError, match="learning_rate_init"):
        student.fit(X, y)
    assert not hasattr(student, "coefs_")


# -- what is learned ---------------------------------------------------------------


def test_integer_weights_are_repeated_rows():
    X, y = data()
    P = soft(len(y))
    counts = np.random.default_rng(0).integers(0, 4, size=len(y))
    weighted = clone(FULL_BATCH).fit(X, y, sample_weight=counts, soft_labels=P)
    repeated = clone(FULL_BATCH).fit(
        np.repeat(X, counts, axis=0),
        np.repeat(y, counts),
        soft_labels=np.repeat(P, counts, axis=0),
    )
    plain = clone(FULL_BATCH).fit(X, y, soft_labels=P)
    assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-8)
    assert np.abs(weighted.predict_proba(X) - plain.predict_proba(X)).max() > 0.01


@pytest.mark.parametrize("early_stopping", [False, True])
def test_rows_of_weight_zero_are_as_if_absent(early_stopping):
    X, y = data()
    P = soft(len(y))
    present = np.arange(len(y)) % 3 > 0
    spoilt = np.where(present[:, None], X, 1e6)
    student = variant(SMALL, batch_size=32, early_stopping=early_stopping)
    weighted = clone(student).fit(
        spoilt, y, sample_weight=present.astype(float), soft_labels=P
    )
    absent = clone(student).fit(X[present], y[present], soft_labels=P[present])
    assert_same_bytes(weighted, absent)


def test_only_the_ratios_of_weights_matter():
    X, y = data()
    weight = np.random.default_rng(0).uniform(0.1, 2, size=len(y))
    first = clone(FULL_BATCH).fit(X, y, sample_weight=weight)
    second = clone(FULL_BATCH).fit(X, y, sample_weight=1000 * weight)
    assert_allclose(first.predict_proba(X), second.predict_proba(X), atol=1e-8)


@pytest.mark.parametrize("exponent", [-900, -140, 127, 900])
def test_weights_need_not_be_numbers_of_single_precision(exponent):
    X, y = data()
    weight = np.random.default_rng(0).uniform(0.1, 2, size=len(y))
    first = clone(SMALL).fit(X, y, sample_weight=weight)
    second = clone(SMALL).fit(X, y, sample_weight=np.ldexp(weight, exponent))
    assert_same_bytes(first, second)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_no_hidden_layer_is_the_linear_model(n_classes):
    X, y = data(n_classes=n_classes)
    scaled = TableEncoder(scaled=True).fit(X, np.ones(len(X))).transform(X)
    P = softmax(0.5 * scaled[:, :n_classes], axis=1)
    student = MLPStudent(
        (),
        numeric_embedding=None,
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
    linear = LinearStudent(C=np.inf, tol=1e-8).fit(scaled, y, soft_labels=P)
    assert_allclose(student.predict_proba(X), linear.predict_proba(scaled), atol=3e-3)


def test_soft_labels_are_learned_down_to_their_entropy():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(500, 2))
    logits = np.column_stack([np.zeros(500), 2 * np.sin(2 * X[:, 0]), X[:, 1] ** 2 - 1])
    P = softmax(logits, axis=1)
    y = rng.integers(0, 3, size=500)
    student = MLPStudent(
        (32, 32), max_iter=100, learning_rate_init=0.01, random_state=0
    ).fit(X, y, soft_labels=P)
    entropy = -(P * np.log(P)).sum(axis=1).mean()
    uniform = np.log(3)
    loss = -(P * student.predict_log_proba(X)).sum(axis=1).mean()
    assert entropy <= loss < entropy + 0.02 * (uniform - entropy)


def test_digits_are_learned():
    X, y = load_digits(return_X_y=True)
    student = MLPStudent((64,), max_iter=30, random_state=0).fit(X[:1000], y[:1000])
    assert student.score(X[1000:], y[1000:]) > 0.9


def test_the_scale_of_the_features_does_not_matter():
    X, y = data()
    scale = 2.0 ** np.arange(-8, 10, 3)
    plain = clone(FULL_BATCH).fit(X, y)
    scaled = clone(FULL_BATCH).fit(X * scale + 5 * scale, y)
    assert_allclose(
        plain.predict_proba(X), scaled.predict_proba(X * scale + 5 * scale), atol=1e-7
    )


def test_constant_columns_are_harmless():
    X, y = data()
    constant = np.full((len(y), 1), 1e8)
    student = clone(FULL_BATCH).fit(np.hstack([X, constant]), y)
    proba = student.predict_proba(np.hstack([X, constant]))
    assert np.isfinite(proba).all()
    assert student.encoder_.scale_[-1] == np.inf
    assert (proba.argmax(axis=1) == y).mean() > 0.5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_was_trained_in_a_type_is_pickled_in_it(dtype):
    X, y = data()
    student = variant(SMALL, dtype=dtype).fit(X.astype(np.float32), y)
    # In memory parameters are float64, as prediction needs them.
    assert all(array.dtype == np.float64 for array in parameters(student))
    saved = student.__getstate__()
    layers = saved["coefs_"] + saved["intercepts_"]
    assert all(array.dtype == dtype for array in layers)
    loaded = pickle.loads(pickle.dumps(student))
    for ours, theirs in zip(parameters(student), parameters(loaded), strict=True):
        assert theirs.dtype == np.float64
        assert_array_equal(ours, theirs)


# -- prediction --------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["identity", "logistic", "relu", "tanh"])
@pytest.mark.parametrize("hidden_layer_sizes", [(), (7,), [5, 4, 3]])
def test_prediction_is_the_forward_pass_of_the_coefficients(
    activation, hidden_layer_sizes
):
    X, y = data()
    names = np.array(["a", "b", "c"])
    student = MLPStudent(
        hidden_layer_sizes,
        activation=activation,
        numeric_embedding=None,
        max_iter=3,
        random_state=0,
    ).fit(X, names[y])
    functions = {
        "identity": lambda z: z,
        "logistic": torch.sigmoid,
        "relu": torch.relu,
        "tanh": torch.tanh,
    }
    hidden = torch.from_numpy(student.encoder_.transform(X))
    layers = list(zip(student.coefs_, student.intercepts_, strict=True))
    assert [coef.shape[0] for coef, _ in layers] == [6, *hidden_layer_sizes]
    for i, (coef, intercept) in enumerate(layers):
        coef, intercept = (torch.from_numpy(a).double() for a in (coef, intercept))
        hidden = hidden @ coef + intercept
        if i < len(layers) - 1:
            hidden = functions[activation](hidden)
    assert_allclose(student.decision_function(X), hidden.numpy(), atol=1e-10)
    expected = torch.softmax(hidden, dim=1).numpy()
    assert_allclose(student.predict_proba(X), expected, atol=1e-12)
    assert_array_equal(student.predict(X), names[expected.argmax(axis=1)])
    assert_allclose(student.predict_log_proba(X), log_softmax(hidden.numpy(), axis=1))


def test_the_kept_parameters_fit_the_loss_curve_of_the_loop():
    """numpy predicts what torch trained: the next epoch begins at the kept loss."""
    X, y = data()
    short = variant(FULL_BATCH, max_iter=10).fit(X, y)
    long = variant(FULL_BATCH, max_iter=11).fit(X, y)
    loss = -short.predict_log_proba(X)[np.arange(len(y)), y].mean()
    assert_allclose(long.loss_curve_[10], loss, rtol=1e-10)


def test_a_row_does_not_depend_on_the_rows_beside_it():
    X, y = data()
    student = clone(SMALL).fit(X, y)
    together = student.predict_proba(X)
    alone = np.vstack([student.predict_proba(row[None]) for row in X])
    assert_allclose(together, alone, rtol=1e-12)


# -- checks ------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(0,), (8, -1), (2.5,), ("8",), (8, None)])
def test_impossible_layer_sizes_are_an_error(sizes):
    X, y = data()
    with pytest.raises(ValueError, match="hidden_layer_sizes must hold integers"):
        MLPStudent(sizes).fit(X, y)


@pytest.mark.parametrize(
    "params",
    [
        {"hidden_layer_sizes": 8},
        {"activation": "sigmoid"},
        {"batch_size": 0},
        {"max_iter": 0},
        {"learning_rate_init": 0.0},
        {"weight_decay": -1.0},
        {"early_stopping": "yes"},
        {"validation_fraction": 1.0},
        {"n_iter_no_change": 0},
        {"tol": -1.0},
        {"dtype": "float16"},
    ],
)
def test_an_impossible_setting_is_an_error_that_names_it(params):
    X, y = data()
    (name,) = params
    with pytest.raises(ValueError, match=f"The '{name}' parameter of MLPStudent"):
        MLPStudent(**params).fit(X, y)


# -- what is stored ----------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {"activation": "tanh"},
        {"numeric_embedding": None},
        {"dtype": "float64"},
        {"hidden_layer_sizes": ()},
    ],
)
def test_a_fitted_student_predicts_as_it_was_fitted(params):
    X, y = data()
    student = clone(SMALL).fit(X, y)
    expected = student.predict_proba(X)
    student.set_params(**params)
    assert_array_equal(student.predict_proba(X), expected)
    loaded = pickle.loads(pickle.dumps(student))
    assert_array_equal(loaded.predict_proba(X), expected)


def test_the_pickle_is_small():
    X, y = load_digits(return_X_y=True)
    student = MLPStudent((64,), numeric_embedding=None, max_iter=2, random_state=0).fit(
        X, y
    )
    assert sum(array.size for array in parameters(student)) == 64 * 64 + 64 + 650
    assert len(pickle.dumps(student)) < 40_000


def test_nothing_stored_needs_torch():
    X, y = data()
    student = clone(SMALL).fit(X, y)
    modules = set()

    class Watching(pickle.Unpickler):
        def find_class(self, module, name):
            modules.add(module.partition(".")[0])
            return super().find_class(module, name)

    loaded = Watching(io.BytesIO(pickle.dumps(student))).load()
    assert modules <= {"skdistill", "numpy"}
    assert_array_equal(loaded.predict_proba(X), student.predict_proba(X))
    for name in ("coefs_", "intercepts_"):
        assert all(type(array) is np.ndarray for array in getattr(student, name))
    for name in ("embedding_coefs_", "frequencies_", "loss_curve_", "classes_"):
        assert type(getattr(student, name)) is np.ndarray
    for name in ("centre_", "scale_", "numeric_"):
        assert type(getattr(student.encoder_, name)) is np.ndarray


# -- interrupts and threads ----------------------------------------------------------


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def interrupt():
    raise KeyboardInterrupt


def ctrl_c(estimator, X, y):
    # A process started in the background ignores the signal: the fit would never end.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    try:
        estimator.fit(X, y)
        time.sleep(10)  # an interrupt that came too late would hit another test
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("how", ["callback", "signal"])
def test_an_interrupt_leaves_the_process_and_the_earlier_fit_as_they_were(how):
    X, y = data()
    student = clone(SMALL).fit(X, y)
    expected = student.predict_proba(X[:, :6])
    rng, filters = torch.get_rng_state(), list(warnings.filters)
    student.set_params(max_iter=10**7, tol=0.0, n_iter_no_change=10**7, n_folds=1)
    student.set_params(hidden_layer_sizes=(5, 5))
    if how == "callback":
        student.set_callbacks(Recorder(after=interrupt))
        with pytest.raises(KeyboardInterrupt):
            student.fit(X[:, :3], y)
    else:
        with pytest.raises(KeyboardInterrupt):
            ctrl_c(student, X[:, :3], y)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), rng)
    assert warnings.filters == filters
    assert student.n_features_in_ == 6
    assert_array_equal(student.predict_proba(X), expected)


@pytest.mark.usefixtures("two_threads")
def test_fits_side_by_side_agree_and_leave_the_thread_count_alone():
    X, y = data()
    alone = [variant(SMALL, random_state=seed).fit(X, y) for seed in range(6)]

    def fit(seed):
        student = variant(SMALL, random_state=seed).fit(X, y)
        return student, torch.get_num_threads()

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(fit, range(6)))
    for expected, (student, n_threads) in zip(alone, results, strict=True):
        assert_same_bytes(student, expected)
        assert n_threads == 2
    assert torch.get_num_threads() == 2


WIDE = MLPStudent((400, 400), max_iter=2, batch_size=512, random_state=0)


@pytest.mark.usefixtures("two_threads")
def test_wide_networks_side_by_side_agree_and_leave_the_thread_count_alone():
    X, y = data(600)
    alone = clone(WIDE).fit(X, y)
    with ThreadPoolExecutor(3) as pool:
        fits = list(pool.map(lambda _: clone(WIDE).fit(X, y), range(3)))
        counts = list(pool.map(lambda _: torch.get_num_threads(), range(3)))
    for student in fits:
        assert_same_bytes(student, alone)
    assert counts == [2, 2, 2]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_an_interrupt_of_a_wide_network_ends_its_threads():
    X, y = data(600)
    student = variant(WIDE, max_iter=10**7, tol=0.0, n_iter_no_change=10**7)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        ctrl_c(student, X, y)
    assert threading.active_count() == before
    assert torch.get_num_threads() == 2
    assert not hasattr(student, "coefs_")


def test_a_wide_network_in_full_batches_follows_the_exact_gradient():
    """An epoch's loss falls to first order by the step times the gradient's length."""
    X, y = data(600)
    student = variant(
        WIDE,
        numeric_embedding=None,
        batch_size=None,
        max_iter=2,
        dtype="float64",
        early_stopping=False,
    )
    student.set_params(learning_rate_init=1e-7, weight_decay=0.0).fit(X, y)
    hidden = torch.from_numpy(student.encoder_.transform(X))
    tensors = [torch.from_numpy(a).requires_grad_() for a in parameters(student)]
    coefs, intercepts = tensors[:3], tensors[3:]
    for i, (coef, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
        hidden = hidden @ coef + intercept
        hidden = torch.relu(hidden) if i < 2 else hidden
    loss = torch.nn.functional.cross_entropy(hidden, torch.from_numpy(y))
    gradients = torch.autograd.grad(loss, tensors)
    # The first steps of Adam are the signs of the gradient.
    fall = 1e-7 * sum(float(g.abs().sum()) for g in gradients)
    fallen = student.loss_curve_[0] - student.loss_curve_[1]
    assert_allclose(fallen, fall, rtol=0.01)
    assert_allclose(student.loss_curve_[1] - loss.item(), fall, rtol=0.01)


@pytest.mark.usefixtures("two_threads")
def test_a_fit_inside_the_callback_of_another_changes_nothing():
    X, y = data()
    seen = []

    def fit_another():
        clone(SMALL).fit(X, y)
        seen.append(torch.get_num_threads())

    plain = clone(SMALL).fit(X, y)
    student = clone(SMALL).set_callbacks(Recorder(after=fit_another)).fit(X, y)
    assert_same_bytes(student, plain)
    assert seen == [1] * student.n_iter_
    assert torch.get_num_threads() == 2


def test_bfloat16_products_train_to_nearly_the_same_probabilities():
    X, y = data()
    single = variant(SMALL, max_iter=20).fit(X, y).predict_proba(X)
    half = variant(SMALL, max_iter=20, dtype="bfloat16").fit(X, y).predict_proba(X)
    gap = np.abs(single - half)
    assert 0 < gap.mean() < 0.02


@pytest.mark.parametrize(
    ("sizes", "has", "dtype", "expected"),
    [
        ((384, 384), True, "auto", True),
        ((8, 400, 500), True, "auto", True),
        ((384, 383), True, "auto", False),
        ((500, 8, 500), True, "auto", False),
        ((500,), True, "auto", False),
        ((), True, "auto", False),
        ((384, 384), False, "auto", False),
        ((384, 384), True, "float32", False),
        ((8,), False, "bfloat16", True),
    ],
)
def test_auto_takes_bfloat16_for_wide_layers_where_it_is_fast(
    sizes, has, dtype, expected, monkeypatch
):
    monkeypatch.setattr(mlp, "has_bfloat16_products", lambda: has)
    student = MLPStudent(sizes, dtype=dtype, device="cpu")
    assert student._in_bfloat16() == expected
    assert student._parameter_dtype() == "float32"


@pytest.mark.parametrize("has", [True, False])
def test_auto_is_one_of_the_two_types(has, monkeypatch):
    monkeypatch.setattr(mlp, "has_bfloat16_products", lambda: has)
    monkeypatch.setattr(mlp, "WIDE_LAYER", 4)
    X, y = data()
    fits = {
        dtype: variant(SMALL, hidden_layer_sizes=(8, 8), max_iter=3, dtype=dtype)
        .fit(X, y)
        .predict_proba(X)
        for dtype in ("auto", "float32", "bfloat16")
    }
    same, other = ("bfloat16", "float32") if has else ("float32", "bfloat16")
    assert fits["auto"].tobytes() == fits[same].tobytes()
    assert fits["auto"].tobytes() != fits[other].tobytes()
