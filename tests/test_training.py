import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss

import skdistill.students._cutting as _cutting
from skdistill import _optimizers, _stack, _training, _training_set
from skdistill._batch import CrossEntropyBatch, cross_entropy_and_slope
from skdistill._stack import MLPStack
from skdistill._training import Settings, train
from skdistill._training_set import Term, TrainingSet
from skdistill.losses import distillation_loss
from skdistill.students import MLPStudent
from skdistill.students._problem import Problem, objective_terms

#: Mixing weight and student temperature of each member: objectives of one term at
#: temperature 1, of one term at another, and of two terms.
MIXED = [(0.0, 1.0), (0.6, 1.0), (0.4, 2.0), (1.0, 3.0), (0.8, 0.5), (1.0, 1.0)]
AT_ONE = [(0.0, 1.0), (0.3, 1.0), (0.7, 1.0), (1.0, 1.0)]
SAME_TWO_TERMS = [(0.2, 2.0), (0.5, 2.0), (0.9, 2.0)]

STUDENT = MLPStudent(
    (6,),
    max_iter=8,
    batch_size=32,
    learning_rate_init=0.02,
    early_stopping=False,
    dtype="float64",
    device="cpu",
    random_state=0,
)
EARLY = clone(STUDENT).set_params(
    max_iter=80,
    early_stopping=True,
    validation_fraction=0.3,
    n_folds=1,
    n_iter_no_change=3,
    tol=1e-3,
)
SETTINGS = Settings(
    max_iter=6,
    batch_size=16,
    learning_rate=0.02,
    weight_decay=1e-2,
    tol=1e-4,
    n_iter_no_change=15,
)


def make_problem(n_classes=3, weighted=False, n_samples=120):
    X, y = make_classification(
        n_samples,
        n_features=5,
        n_informative=4,
        n_redundant=0,
        n_classes=n_classes,
        n_clusters_per_class=1,
        flip_y=0.2,
        random_state=0,
    )
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.1, 3, n_samples) if weighted else np.ones(n_samples)
    return Problem(X, y, y, np.arange(n_classes), weight, ())


def make_objectives(problem, members=MIXED):
    rng = np.random.default_rng(1)
    shape = len(problem.codes), len(problem.classes)
    soft_labels = rng.dirichlet(np.ones(shape[1]), size=shape[0])
    return [objective_terms(problem.codes, soft_labels, a, s) for a, s in members]


def fit_alone(student, problem, objectives):
    return [
        clone(student)._fit_problem(replace(problem, terms=terms))
        for terms in objectives
    ]


def parameters(student):
    embedding = student.embedding_coefs_
    first = [] if embedding is None else [embedding]
    return [*first, *student.coefs_, *student.intercepts_]


def assert_same_fits(stacked, alone, atol=1e-10):
    assert len(stacked) == len(alone)
    for one, other in zip(stacked, alone, strict=True):
        assert one.n_iter_ == other.n_iter_
        for a, b in zip(parameters(one), parameters(other), strict=True):
            assert a.dtype == np.float64
            assert_allclose(a, b, rtol=0, atol=atol)
        assert_allclose(one.loss_curve_, other.loss_curve_, rtol=0, atol=atol)
        if other.validation_scores_ is None:
            assert one.validation_scores_ is None
            assert one.best_validation_score_ is None
        else:
            assert_allclose(
                one.validation_scores_, other.validation_scores_, rtol=0, atol=atol
            )
            assert_allclose(
                one.best_validation_score_, other.best_validation_score_, atol=atol
            )


def assert_same_bytes(students, others):
    for one, other in zip(students, others, strict=True):
        assert one.loss_curve_.tobytes() == other.loss_curve_.tobytes()
        for a, b in zip(parameters(one), parameters(other), strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.fixture
def narrowed(monkeypatch):
    """The numbers of members that stacks went on with."""
    sizes = []
    narrow = MLPStack.narrow

    def log(self, rows):
        sizes.append(len(rows))
        narrow(self, rows)

    monkeypatch.setattr(MLPStack, "narrow", log)
    return sizes


@pytest.fixture
def stack_sizes(monkeypatch):
    """The numbers of members of the stacks that were made."""
    sizes = []
    make_stack = MLPStudent._make_stack

    def log(self, members, generators, device):
        sizes.append(len(members))
        return make_stack(self, members, generators, device)

    monkeypatch.setattr(MLPStudent, "_make_stack", log)
    return sizes


# -- a stack is its members --------------------------------------------------------


@pytest.mark.parametrize("members", [MIXED, AT_ONE, SAME_TWO_TERMS])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_each_member_of_a_stack_is_the_student_trained_alone(
    n_classes, weighted, members
):
    problem = make_problem(n_classes, weighted)
    objectives = make_objectives(problem, members)
    stacked = STUDENT._fit_many(problem, objectives)
    assert_same_fits(stacked, fit_alone(STUDENT, problem, objectives))


@pytest.mark.parametrize("activation", ["identity", "logistic", "relu", "tanh"])
@pytest.mark.parametrize("sizes", [(), (6,), (5, 4)])
def test_whatever_its_layers(activation, sizes):
    problem = make_problem(weighted=True)
    objectives = make_objectives(problem)
    student = clone(STUDENT).set_params(
        hidden_layer_sizes=sizes, activation=activation, max_iter=4
    )
    stacked = student._fit_many(problem, objectives)
    assert_same_fits(stacked, fit_alone(student, problem, objectives))


@pytest.mark.parametrize("batch_size", [None, 7])
def test_whatever_its_batches(batch_size):
    problem = make_problem(weighted=True)
    objectives = make_objectives(problem)
    student = clone(STUDENT).set_params(batch_size=batch_size, max_iter=4)
    stacked = student._fit_many(problem, objectives)
    assert_same_fits(stacked, fit_alone(student, problem, objectives))


@pytest.mark.parametrize("members", [MIXED, AT_ONE])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_members_that_have_finished_leave_the_stack(
    n_classes, weighted, members, narrowed
):
    problem = make_problem(n_classes, weighted)
    objectives = make_objectives(problem, members)
    stacked = EARLY._fit_many(problem, objectives)
    assert narrowed
    assert all(size <= len(objectives) / 2 for size in narrowed)
    assert len({student.n_iter_ for student in stacked}) > 1
    assert_same_fits(stacked, fit_alone(EARLY, problem, objectives))


def test_without_validation_rows_members_leave_by_their_training_loss(narrowed):
    problem = make_problem(weighted=True)
    objectives = make_objectives(problem)
    student = clone(STUDENT).set_params(max_iter=100, n_iter_no_change=3, tol=0.01)
    stacked = student._fit_many(problem, objectives)
    assert narrowed
    assert len({student.n_iter_ for student in stacked}) > 1
    assert_same_fits(stacked, fit_alone(student, problem, objectives))


def test_a_finished_member_may_not_disturb_the_others():
    """A member that has finished keeps its parameters, whatever becomes of it."""
    problem = make_problem()
    objectives = make_objectives(problem)
    alone = EARLY._fit_many(problem, objectives[:1])
    for others in (objectives[1:2], objectives[1:4], objectives[1:]):
        stacked = EARLY._fit_many(problem, [objectives[0], *others])
        assert_same_fits(stacked[:1], alone)


@pytest.mark.parametrize("student", [STUDENT, EARLY], ids=["all epochs", "early"])
def test_the_number_of_threads_changes_nothing(student, stack_sizes, monkeypatch):
    monkeypatch.setattr(_cutting, "STACK_CACHE_BYTES", 20_000)
    problem = make_problem(weighted=True)
    objectives = make_objectives(problem)
    one, two = (student._fit_many(problem, objectives, n) for n in (1, 2))
    assert stack_sizes == [2] * 6
    assert_same_bytes(one, two)


@pytest.mark.parametrize("limit", ["STACK_CACHE_BYTES", "STACK_BYTES"])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_how_a_grid_is_cut_into_stacks_changes_nothing(
    limit, size, stack_sizes, monkeypatch
):
    problem = make_problem(weighted=True)
    objectives = make_objectives(problem)
    whole = EARLY._fit_many(problem, objectives)
    n_parameters = sum(p.size for p in parameters(whole[0]))
    n_parameters += whole[0].coefs_[0].shape[0]  # the inputs' factors
    n_targets = len(problem.codes) * len(problem.classes)
    one = 8 * (4 * n_parameters if limit == "STACK_CACHE_BYTES" else 2 * n_targets)
    monkeypatch.setattr(_cutting, limit, size * one)
    stack_sizes.clear()
    assert_same_fits(EARLY._fit_many(problem, objectives), whole)
    assert sum(stack_sizes) == len(objectives)
    assert max(stack_sizes) == size


def test_many_students_are_cut_for_two_threads(stack_sizes):
    problem = make_problem()
    objectives = make_objectives(problem) * 2
    for n_students, sizes in ((7, [7]), (8, [4, 4]), (11, [6, 5])):
        stack_sizes.clear()
        STUDENT._fit_many(problem, objectives[:n_students])
        assert stack_sizes == sizes


def test_a_stack_has_one_member_where_a_single_one_is_too_large(monkeypatch):
    monkeypatch.setattr(_cutting, "STACK_CACHE_BYTES", 1)
    problem = make_problem()
    objectives = make_objectives(problem, AT_ONE)
    stacked = STUDENT._fit_many(problem, objectives)
    assert_same_bytes(stacked, fit_alone(STUDENT, problem, objectives))


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)])
def test_members_start_alike_without_a_fixed_seed(random_state, monkeypatch):
    monkeypatch.setattr(_cutting, "STACK_CACHE_BYTES", 1)
    problem = make_problem()
    objectives = make_objectives(problem, [(0.5, 1.0)]) * 3
    student = clone(STUDENT).set_params(random_state=random_state, max_iter=2)
    first, *others = student._fit_many(problem, objectives)
    for other in others:
        assert_same_bytes([first], [other])


# -- the loop itself: members with rows and generators of their own ----------------


def training_set(n_members=4, validated=False, own=True, weighted=True, n_samples=60):
    """A set in which every member may have rows, weights and targets of its own."""
    rng = np.random.default_rng(0)
    n = n_members if own else 1
    targets = rng.dirichlet(np.ones(3), size=(2, n, n_samples))
    order = np.array([rng.permutation(n_samples) for _ in range(n)])
    cut = 2 * n_samples // 3
    temperatures = torch.tensor(rng.uniform(0.5, 3, n)).reshape(-1, 1, 1)
    return TrainingSet(
        x=torch.from_numpy(rng.normal(size=(1, n_samples, 4))),
        terms=[
            Term(torch.from_numpy(0.3 * targets[0]), 1.0),
            Term(torch.from_numpy(targets[1]), temperatures),
        ],
        weight=torch.from_numpy(rng.uniform(0.1, 3, (n, n_samples)))
        if weighted
        else None,
        train_rows=torch.from_numpy(order[:, :cut]),
        validation_rows=torch.from_numpy(order[:, cut:]) if validated else None,
    )


def member_of(data, g):
    """The part of a training set that belongs to a member."""
    return TrainingSet(
        data.x,
        [Term(t.targets[g : g + 1], _temperature(t, g)) for t in data.terms],
        None if data.weight is None else data.weight[g : g + 1],
        data.train_rows[g : g + 1],
        None if data.validation_rows is None else data.validation_rows[g : g + 1],
    )


def _temperature(term, g):
    return (
        term.temperature
        if isinstance(term.temperature, float)
        else term.temperature[g : g + 1]
    )


def generators(seeds):
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def make_stack(gens, sizes=(4, 5, 3), activation="tanh"):
    return MLPStack(sizes, activation, gens, device="cpu", dtype=torch.float64)


def kept(stack, member=0):
    coefs, intercepts = stack.kept(member)
    return [*coefs, *intercepts]


@pytest.mark.parametrize("batch_size", [16, 1000])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("rates", ["shared", "own"])
def test_members_with_rows_generators_and_rates_of_their_own(
    rates, validated, weighted, batch_size, narrowed
):
    seeds = list(range(5, 13))
    learning_rate = [0.02] * 8 if rates == "shared" else [0.02, 0.05] * 4
    weight_decay = [0.01] * 8 if rates == "shared" else [0.0, 0.01, 0.3, 1.0] * 2
    settings = replace(
        SETTINGS,
        max_iter=100,
        batch_size=batch_size,
        n_iter_no_change=3,
        tol=0.01,
        learning_rate=0.02 if rates == "shared" else learning_rate,
        weight_decay=0.01 if rates == "shared" else weight_decay,
    )
    data = training_set(len(seeds), validated, weighted=weighted)
    gens = generators(seeds)
    stack = make_stack(gens)
    history = train(stack, data, settings, gens)
    assert narrowed
    assert len(set(history.n_iter)) > 1
    for g, seed in enumerate(seeds):
        gens = generators([seed])
        alone = make_stack(gens)
        one = replace(
            settings, learning_rate=learning_rate[g], weight_decay=weight_decay[g]
        )
        own = train(alone, member_of(data, g), one, gens)
        assert history.n_iter[g] == own.n_iter[0] == len(own.loss)
        n = own.n_iter[0]
        pairs = [(history.loss, own.loss)]
        if validated:
            pairs.append((history.validation_loss, own.validation_loss))
        else:
            assert history.validation_loss == own.validation_loss == []
        for ours, theirs in pairs:
            assert_allclose([v[g] for v in ours[:n]], np.ravel(theirs), atol=1e-10)
        for a, b in zip(kept(stack, g), kept(alone), strict=True):
            assert_allclose(a, b, rtol=0, atol=1e-10)


def test_one_generator_for_all_gives_all_the_same_batches():
    data = training_set(1, own=False)
    gens = generators([3, 3, 3])
    stack = make_stack(gens)
    train(stack, data, SETTINGS, gens[:1])
    for member in (1, 2):
        for a, b in zip(kept(stack), kept(stack, member), strict=True):
            assert_allclose(a, b, rtol=0, atol=1e-12)


# -- batches -----------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [1, 2, 15, 16, 17, 31, 33, 100])
@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("own_rows", [False, True])
def test_an_epoch_takes_every_row_once_in_slices_of_nearly_equal_size(
    n_rows, n_members, own_rows
):
    rng = np.random.default_rng(0)
    rows = [rng.choice(500, n_rows, replace=False) for _ in range(n_members)]
    rows = torch.from_numpy(np.array(rows if own_rows else rows[:1]))
    gens = generators(range(n_members))
    epoch = _training_set.shuffled(rows, 16, gens)
    assert len(epoch) in (len(rows), n_members)
    for taken, own in zip(epoch, rows.expand(len(epoch), -1), strict=True):
        assert_array_equal(np.sort(taken), np.sort(own))


@pytest.mark.parametrize("n_rows", [1, 2, 15, 16, 17, 31, 33, 100])
@pytest.mark.parametrize("together", [1, 2, 100])
def test_batches_of_an_epoch_have_nearly_equal_size(n_rows, together):
    runs = list(_training_set.cut_into_batches(n_rows, 16, together))
    counts = [(stop - start) / size for size, start, stop in runs]
    assert all(count in range(1, together + 1) for count in counts)
    sizes = np.repeat([size for size, _, _ in runs], np.array(counts, dtype=int))
    assert sizes.max() <= 16
    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) == -(-n_rows // 16)
    ends = [(start, stop) for _, start, stop in runs]
    assert [0, *(stop for _, stop in ends)] == [*(start for start, _ in ends), n_rows]


def test_the_next_epoch_has_another_order():
    rows = torch.arange(40)[None]
    gens = generators([0])
    first, second = (_training_set.shuffled(rows, 16, gens) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("n_rows", [15, 16])
def test_rows_that_fit_into_one_batch_are_left_in_order(n_rows):
    rows = torch.arange(n_rows).flip(0)[None]
    gens = generators([0])
    before = gens[0].get_state()
    assert torch.equal(_training_set.shuffled(rows, 16, gens), rows)
    assert torch.equal(gens[0].get_state(), before)


@pytest.mark.parametrize("gathered", [1, 200, 10**6])
@pytest.mark.parametrize("n_classes", [3, 40])
@pytest.mark.parametrize("own", [False, True])
def test_batches_hold_the_rows_of_their_step(gathered, n_classes, own, monkeypatch):
    """However many steps' rows are gathered at a time, and from how many tables."""
    monkeypatch.setattr(_training_set, "GATHERED_NUMBERS", gathered)
    rng = np.random.default_rng(0)
    n_members = 2 if own else 1
    x, targets = rng.random((1, 100, 4)), rng.random((n_members, 50, n_classes))
    weight = rng.random((n_members, 50))
    order = np.array([rng.permutation(50)[:33] for _ in range(n_members)])
    first = np.array([[0], [50]])[:n_members]
    data = _training_set.TrainingSet(
        x=torch.from_numpy(x),
        terms=[_training_set.Term(torch.from_numpy(targets), 2.0)],
        weight=torch.from_numpy(weight),
        train_rows=torch.from_numpy(order),
        first_row=torch.from_numpy(first) if own else None,
    )
    batches = list(data.epoch(33 if gathered == 1 else 8, generators([0])))
    assert_allclose(sum(share for _, share in batches), 1)
    shuffled = torch.cat([batch.x for batch, _ in batches], dim=1).numpy()
    for member in range(n_members):
        table = x[0, first[member, 0] :]
        found = [
            int(np.flatnonzero((table == row).all(1))[0]) for row in shuffled[member]
        ]
        assert sorted(found) == sorted(order[member])
        mean = weight[member, order[member]].mean()
        stop = 0
        for batch, _ in batches:
            (factors, temperature), n_rows = batch.terms[0], batch.x.shape[1]
            rows, stop = found[stop : stop + n_rows], stop + n_rows
            expected = targets[member, rows] * weight[member, rows, None]
            assert_allclose(factors[member], -expected / mean / n_rows)
            assert temperature == 2.0


@pytest.mark.parametrize("n_classes", [3, 300])
def test_what_is_gathered_ahead_is_bounded_by_inputs_and_targets(
    n_classes, monkeypatch
):
    monkeypatch.setattr(_training_set, "GATHERED_NUMBERS", 8 * (4 + 3) * 5)
    data = _training_set.TrainingSet(
        x=torch.zeros(1, 64, 4),
        terms=[_training_set.Term(torch.zeros(1, 64, n_classes), 1.0)],
        weight=None,
        train_rows=torch.arange(64)[None],
    )
    assert data._steps_together(8) == (5 if n_classes == 3 else 1)


# -- losses and weights ------------------------------------------------------------


def weighted_mean_loss(stack, data, rows):
    """The loss that training minimises, of the present parameters, in numpy."""
    logits = stack.logits(data.x).numpy()
    total = 0.0
    for term in data.terms:
        s = term.temperature
        s = s if isinstance(s, float) else s.numpy()
        scaled = logits / s
        log_proba = scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))
        total = total - (term.targets.numpy() * log_proba).sum(-1)
    means = []
    for g, losses in enumerate(total):
        own = rows[g if len(rows) > 1 else 0].numpy()
        weight = np.ones(len(losses))
        if data.weight is not None:
            weight = data.weight[g if len(data.weight) > 1 else 0].numpy()
        means.append(np.average(losses[own], weights=weight[own]))
    return means


@pytest.mark.parametrize("batch_size", [1, 7, 16, 1000])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_losses_of_an_epoch_are_weighted_means(batch_size, weighted):
    """With steps of size zero: then all batches see the same parameters."""
    data = training_set(3, validated=True, weighted=weighted)
    settings = replace(SETTINGS, learning_rate=0.0, max_iter=2, batch_size=batch_size)
    gens = generators(range(3))
    stack = make_stack(gens)
    on_train = weighted_mean_loss(stack, data, data.train_rows)
    on_validation = weighted_mean_loss(stack, data, data.validation_rows)
    history = train(stack, data, settings, gens)
    for loss, validation in zip(history.loss, history.validation_loss, strict=True):
        assert_allclose(loss, on_train, rtol=1e-12)
        assert_allclose(validation, on_validation, rtol=1e-12)


def test_validation_rows_may_be_scored_in_parts(monkeypatch):
    data = training_set(3, validated=True)
    stack = make_stack(generators(range(3)))
    whole = _training._validate(stack, data)
    monkeypatch.setattr(_training_set, "VALIDATION_ROWS", 7)
    assert len(list(data.validation())) == 3
    assert_allclose(_training._validate(stack, data), whole, rtol=1e-12)


def test_weights_have_mean_one_over_the_training_rows():
    data = training_set(3)
    weight = data._mean_one(data.train_rows)
    own = _training_set.take(weight, data.train_rows)
    assert_allclose(own.mean(dim=1), 1, rtol=1e-12)
    ratio = weight / data.weight
    assert_allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-12)


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("constant", [1.0, 2.5])
def test_equal_weights_are_no_weights(constant, validated):
    data = training_set(2, validated, weighted=False)
    constants = torch.full((1, 60), constant, dtype=torch.float64)
    results = []
    for each in (data, replace(data, weight=constants)):
        gens = generators([1, 2])
        stack = make_stack(gens)
        train(stack, each, SETTINGS, gens)
        results.append([*kept(stack, 0), *kept(stack, 1)])
    for a, b in zip(*results, strict=True):
        assert_allclose(a, b, rtol=0, atol=1e-12)


def test_only_the_ratios_of_weights_matter():
    problem = make_problem(weighted=True)
    objectives = make_objectives(problem, AT_ONE)
    scaled = replace(problem, sample_weight=1000 * problem.sample_weight)
    assert_same_fits(
        EARLY._fit_many(scaled, objectives), EARLY._fit_many(problem, objectives)
    )


# -- which epoch is kept -----------------------------------------------------------


class Parameters:
    """A hook that keeps the present parameters and loss of each epoch."""

    def __init__(self, stack, stop_after=None):
        self.stack = stack
        self.stop_after = stop_after
        self.epochs = []

    def begin(self):
        pass

    def end(self):
        self.epochs.append(self.stack.current(0))
        return len(self.epochs) == self.stop_after


def train_one(validated, **changes):
    gens = generators([4])
    stack = make_stack(gens, (4, 20, 3))
    hook = Parameters(stack, changes.pop("stop_after", None))
    data = training_set(1, validated)
    history = train(stack, data, replace(SETTINGS, **changes), gens, hook)
    return stack, hook, history


def assert_kept(stack, state):
    for a, b in zip(kept(stack), [*state[0], *state[1]], strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_iter": 200, "n_iter_no_change": 10},
        {"max_iter": 40, "n_iter_no_change": 1000},
        {"max_iter": 200, "n_iter_no_change": 1000, "stop_after": 30},
    ],
    ids=["patience", "max_iter", "hook"],
)
def test_with_validation_rows_the_best_epoch_is_kept(changes):
    stack, hook, history = train_one(True, learning_rate=0.05, **changes)
    best = int(np.argmin(np.ravel(history.validation_loss)))
    assert best < len(hook.epochs) - 1
    assert_kept(stack, hook.epochs[best])


def test_an_improvement_below_tol_is_kept_but_does_not_prolong_the_training():
    stack, hook, history = train_one(True, tol=1e3, n_iter_no_change=4, max_iter=50)
    # The first epoch always counts: anything is better than nothing.
    assert history.n_iter[0] == 5
    best = int(np.argmin(np.ravel(history.validation_loss)))
    assert best > 0
    assert_kept(stack, hook.epochs[best])


@pytest.mark.parametrize(
    "changes",
    [
        {"max_iter": 200, "n_iter_no_change": 3, "learning_rate": 0.3},
        {"max_iter": 5},
        {"max_iter": 50, "stop_after": 3},
    ],
    ids=["patience", "max_iter", "hook"],
)
def test_without_validation_rows_the_last_epoch_is_kept(changes):
    n_expected = changes.get("stop_after", changes["max_iter"])
    stack, hook, history = train_one(False, **changes)
    assert history.n_iter[0] == len(history.loss) == len(hook.epochs)
    assert 1 < history.n_iter[0] <= n_expected
    assert history.validation_loss == []
    assert_kept(stack, hook.epochs[-1])


# -- shards of rows ----------------------------------------------------------------


@contextmanager
def _no_pool(stack, data, settings):
    yield None


@pytest.mark.parametrize("student", [STUDENT, EARLY], ids=["all epochs", "early"])
@pytest.mark.parametrize("weighted", [False, True])
def test_shards_of_rows_change_nothing_but_the_rounding(student, weighted, monkeypatch):
    problem = make_problem(weighted=weighted)
    objectives = make_objectives(problem)
    whole = student._fit_many(problem, objectives)
    monkeypatch.setattr(_stack, "SHARD_FLOPS", 0)
    sharded = student._fit_many(problem, objectives)
    assert_same_fits(sharded, whole, atol=1e-12)
    monkeypatch.setattr(_training, "_shard_worker", _no_pool)
    assert_same_bytes(student._fit_many(problem, objectives), sharded)


def test_only_shards_start_a_second_thread(monkeypatch):
    data = training_set(1)
    stack = make_stack(generators([0]))
    with _training._shard_worker(stack, data, SETTINGS) as pool:
        assert pool is None
    monkeypatch.setattr(_stack, "SHARD_FLOPS", 0)
    with _training._shard_worker(stack, data, SETTINGS) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
    with _training._shard_worker(stack, data, replace(SETTINGS, batch_size=3)) as pool:
        assert pool is None


@pytest.fixture
def torch_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_wide_network_does_not_depend_on_the_number_of_threads(torch_threads):
    problem = make_problem(n_samples=512)
    (terms,) = make_objectives(problem, [(0.5, 2.0)])
    student = clone(STUDENT).set_params(
        hidden_layer_sizes=(256, 256), batch_size=256, max_iter=2, dtype="float32"
    )
    stack = make_stack(generators([0]), (5, 256, 256, 3))
    assert stack.n_shards(256) == 2
    results = []
    for n_threads in (1, 2):
        torch_threads(n_threads)
        results.append(student._fit_many(problem, [terms], n_threads))
        assert torch.get_num_threads() == n_threads
    assert_same_bytes(*results)


# -- failures ----------------------------------------------------------------------


@pytest.mark.parametrize("validated", [False, True])
def test_divergence_is_an_error(validated):
    gens = generators([0, 1])
    settings = replace(SETTINGS, learning_rate=1e200, max_iter=50)
    stack = make_stack(gens, activation="identity")
    data = training_set(2, validated)
    with pytest.raises(ValueError, match=r"diverged.*learning_rate_init \(now 1e\+200"):
        train(stack, data, settings, gens)


def test_divergence_of_one_member_is_an_error():
    data = training_set(3)
    targets = data.terms[0].targets.clone()
    targets[1, 0, 0] = np.inf
    data = replace(data, terms=[Term(targets, 1.0), *data.terms[1:]])
    gens = generators([0, 1, 2])
    with pytest.raises(ValueError, match="diverged"):
        train(make_stack(gens), data, replace(SETTINGS, max_iter=3), gens)


class FailingHook:
    def __init__(self, when):
        self.when = when

    def begin(self):
        assert torch.get_num_threads() == _training.N_THREADS
        if self.when == "begin":
            raise RuntimeError("the hook failed")

    def end(self):
        if self.when == "end":
            raise RuntimeError("the hook failed")
        return False


@pytest.mark.parametrize("when", ["begin", "end"])
@pytest.mark.parametrize("flops", [0, np.inf])
def test_a_failing_hook_leaves_the_thread_count(
    when, flops, torch_threads, monkeypatch
):
    monkeypatch.setattr(_stack, "SHARD_FLOPS", flops)
    torch_threads(2)
    n_python_threads = threading.active_count()
    gens = generators([0])
    with pytest.raises(RuntimeError, match="the hook failed"):
        train(make_stack(gens), training_set(1), SETTINGS, gens, FailingHook(when))
    assert torch.get_num_threads() == 2
    assert threading.active_count() == n_python_threads


class MeetingHook:
    """Waits in its first epoch until the other training is in its own."""

    def __init__(self, barrier):
        self.barrier = barrier
        self.waited = False

    def begin(self):
        if not self.waited:
            self.waited = True
            self.barrier.wait(timeout=30)
        assert torch.get_num_threads() == _training.N_THREADS

    def end(self):
        return False


def test_trainings_in_two_threads_leave_the_thread_count(torch_threads):
    torch_threads(2)
    barrier = threading.Barrier(2)
    after, results = [], {}

    def work(name, max_iter):
        gens = generators([0])
        stack = make_stack(gens)
        settings = replace(SETTINGS, max_iter=max_iter)
        train(stack, training_set(1), settings, gens, MeetingHook(barrier))
        results[name] = kept(stack)
        after.append(torch.get_num_threads())

    # One ends long before the other.
    threads = [threading.Thread(target=work, args=(n, n)) for n in (2, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert after == [2, 2]
    assert torch.get_num_threads() == 2
    gens = generators([0])
    alone = make_stack(gens)
    train(alone, training_set(1), replace(SETTINGS, max_iter=2), gens)
    for a, b in zip(results[2], kept(alone), strict=True):
        assert a.tobytes() == b.tobytes()


# -- the objective -----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_the_objective_is_the_distillation_loss(seed):
    rng = np.random.default_rng(seed)
    n_classes = int(rng.integers(2, 6))
    codes = rng.integers(n_classes, size=20)
    soft_labels = rng.dirichlet(np.ones(n_classes), size=20)
    logits = rng.normal(scale=3, size=(20, n_classes))
    a = [rng.uniform(), 0.0, 1.0][seed % 3]
    s = 1.0 if seed % 4 == 0 else float(rng.uniform(0.3, 5))
    t = float(rng.uniform(0.3, 5))
    weight = rng.uniform(0, 2, 20)
    tempered = soft_labels ** (1 / t)
    tempered /= tempered.sum(axis=1, keepdims=True)
    terms = objective_terms(codes, tempered, a, s)
    factors = [(-weight[:, None] * targets, s) for targets, s in terms]
    batch = CrossEntropyBatch(
        torch.zeros(1, 20, 1), [(torch.from_numpy(c)[None], s) for c, s in factors]
    )
    loss, slope = cross_entropy_and_slope(batch, torch.from_numpy(logits)[None])
    options = {"temperature": t, "mixing_weight": a, "student_temperature": s}
    expected = distillation_loss(
        codes, soft_labels, logits, reduction="none", **options
    )
    assert_allclose(loss[0], weight @ expected, rtol=1e-12)
    z = torch.tensor(logits, requires_grad=True)
    rows = distillation_loss(
        torch.from_numpy(codes),
        torch.from_numpy(soft_labels),
        z,
        reduction="none",
        **options,
    )
    (rows * torch.from_numpy(weight)).sum().backward()
    assert_allclose(slope[0], z.grad, rtol=1e-10, atol=1e-12)


# -- averaged steps ------------------------------------------------------------------


def test_the_average_is_that_of_the_formula():
    """Weights by recursion against the sum they stand for."""
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(40, 3, 5))
    parameter = torch.zeros(3, 5, dtype=torch.float64)
    average = _optimizers.Average([parameter])
    for values in steps:
        parameter.copy_(torch.from_numpy(values))
        average.update()
    shares = [_optimizers.averaging_share(t) for t in range(1, 41)]
    weights = [
        s * np.prod([1 - r for r in shares[t + 1 :]]) for t, s in enumerate(shares)
    ]
    assert_allclose(sum(weights), 1, rtol=1e-12)
    assert_allclose(average.means[0], np.tensordot(weights, steps, 1), atol=1e-12)
    # Polynomial decay: the weight of step t grows as t^2, so late steps count.
    assert_allclose(sum(weights[20:]), 1 - 0.5**3, atol=0.02)
    with average.in_place():
        assert_allclose(parameter, average.means[0])
    assert_allclose(parameter, steps[-1])
    average.narrow([parameter[[2]]], torch.tensor([2]))
    assert average.means[0].shape == (1, 5)


def test_averaged_steps_score_better_on_noisy_labels():
    problem = make_problem(n_samples=400)
    X, y = problem.X, problem.y
    losses = {}
    for averaging in (False, True):
        student = MLPStudent(
            (16,),
            averaging=averaging,
            learning_rate_init=0.1,
            batch_size=16,
            max_iter=15,
            early_stopping=True,
            validation_fraction=0.3,
            random_state=0,
        ).fit(X[:300], y[:300])
        losses[averaging] = log_loss(y[300:], student.predict_proba(X[300:]))
    assert losses[True] < 0.95 * losses[False]


def test_steps_on_all_rows_are_not_averaged():
    problem = make_problem()
    options = {"batch_size": None, "max_iter": 5, "early_stopping": False}
    fits = [
        MLPStudent((4,), averaging=a, random_state=0, **options).fit(
            problem.X, problem.y
        )
        for a in (False, True)
    ]
    assert_same_bytes(fits[:1], fits[1:])


def test_an_averaged_member_of_a_stack_ends_as_it_would_alone():
    student = clone(EARLY).set_params(averaging=True, batch_size=16)
    problem = make_problem(weighted=True)
    objectives = make_objectives(problem)
    stacked = student._fit_many(problem, objectives)
    assert len({member.n_iter_ for member in stacked}) > 1
    assert_same_fits(stacked, fit_alone(student, problem, objectives))
