import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from stubs import (
    BrokenTeacher,
    LabelTeacher,
    LoggedTeacher,
    ReversedTeacher,
    SubsetTeacher,
    n_fits,
)
from torch import nn

from skdistill import DistillationClassifier, SoftLabelTransformer
from skdistill._mixture import fit_mixture_weights
from skdistill.students import LinearStudent
from skdistill.teachers import EnsembleTeacher, ModuleTeacher

# -- ModuleTeacher -----------------------------------------------------------------

CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
    ],
)


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def logits_of(module, X):
    with torch.no_grad():
        return module(torch.tensor(X, dtype=torch.float32)).double().numpy()


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_a_module_gives_the_softmax_of_its_logits(device, module, three_classes):
    X, _ = three_classes
    teacher = ModuleTeacher(module, classes=[0, 1, 2], device=device)
    expected = softmax(logits_of(module, X), axis=1)
    assert_allclose(teacher.predict_proba(X), expected, atol=1e-6)
    assert_array_equal(teacher.predict(X), expected.argmax(axis=1))


def test_a_module_may_give_probabilities(module, three_classes):
    X, _ = three_classes
    with_softmax = nn.Sequential(module, nn.Softmax(dim=1))
    proba = ModuleTeacher(with_softmax, classes="abc", output="proba", device="cpu")
    logits = ModuleTeacher(module, classes=list("abc"), device="cpu")
    proba.set_params(classes=list("abc"))
    assert_allclose(proba.predict_proba(X), logits.predict_proba(X), atol=1e-6)
    assert set(logits.predict(X)) <= set("abc")


@pytest.mark.parametrize("batch_size", [1, 7, 120, 1024])
def test_rows_are_scored_in_batches(batch_size, module, three_classes):
    X, _ = three_classes
    sizes = []
    module.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    teacher = ModuleTeacher(
        module, classes=[0, 1, 2], batch_size=batch_size, device="cpu"
    )
    proba = teacher.predict_proba(X)
    assert max(sizes) == min(batch_size, len(X))
    assert sum(sizes) == len(X)
    assert_allclose(proba, softmax(logits_of(module, X), axis=1), atol=1e-6)


def test_a_module_is_scored_in_evaluation_mode_and_put_back(three_classes):
    X, _ = three_classes
    module = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)).train()
    teacher = ModuleTeacher(module, classes=[0, 1, 2], device="cpu")
    first = teacher.predict_proba(X)
    assert_array_equal(first, teacher.predict_proba(X))
    assert module.training
    assert module[0].training
    module.eval()
    teacher.predict_proba(X)
    assert not module.training


def test_a_module_s_classes_are_in_its_own_order(module, three_classes):
    X, y = three_classes
    names = np.array(["ant", "bee", "cat"])
    order = ["cat", "ant", "bee"]
    teacher = ModuleTeacher(module, classes=order, device="cpu")
    soft = SoftLabelTransformer(teacher).fit_transform(X, names[y])
    expected = softmax(logits_of(module, X), axis=1)[:, [1, 2, 0]]
    assert_allclose(soft, expected, atol=1e-6)


def test_a_module_is_used_as_it_is(module, three_classes):
    X, y = three_classes
    before = {name: value.clone() for name, value in module.state_dict().items()}
    teacher = ModuleTeacher(module, classes=[0, 1, 2], device="cpu")
    assert clone(teacher) is teacher
    assert teacher.fit(X, y) is teacher
    distilled = DistillationClassifier(
        teacher, LinearStudent(), mixing_weight=1.0, keep_teacher=True
    ).fit(X, y, sample_weight=np.ones(len(y)))
    assert distilled.teacher_ is teacher
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    expected = DistillationClassifier(student=LinearStudent(), mixing_weight=1.0).fit(
        X, y, soft_labels=teacher.predict_proba(X)
    )
    assert_allclose(distilled.predict_proba(X), expected.predict_proba(X), rtol=1e-9)


def test_a_module_must_return_one_value_a_class(three_classes):
    X, y = three_classes
    teacher = ModuleTeacher(nn.Linear(4, 5), classes=[0, 1, 2], device="cpu")
    message = r"^module must return .* = \(120, 3\) for 120 rows, got \(120, 5\)"
    with pytest.raises(ValueError, match=message):
        teacher.predict_proba(X)
    with pytest.raises(ValueError, match=message):
        DistillationClassifier(teacher, LinearStudent(), mixing_weight=0.5).fit(X, y)


def test_a_module_s_probabilities_are_checked(module, three_classes):
    X, y = three_classes
    teacher = ModuleTeacher(module, classes=[0, 1, 2], output="proba", device="cpu")
    with pytest.raises(
        ValueError, match=r"output of teacher ModuleTeacher: row \d+ (has|does)"
    ):
        DistillationClassifier(teacher, LinearStudent(), mixing_weight=0.5).fit(X, y)


def test_a_bare_module_is_no_teacher(module, three_classes):
    with pytest.raises(
        TypeError, match=r"torch module \(Sequential\); wrap it as .*Mo"
    ):
        DistillationClassifier(module, LinearStudent(), mixing_weight=0.5).fit(
            *three_classes
        )


@pytest.mark.parametrize(
    ("name", "value"), [("output", "odds"), ("batch_size", 0), ("device", 3)]
)
def test_parameters_of_a_module_teacher(name, value, module):
    teacher = ModuleTeacher(module, classes=[0, 1, 2]).set_params(**{name: value})
    with pytest.raises(ValueError, match=rf"'{name}' parameter .* Got {value!r}"):
        teacher.predict_proba(np.zeros((2, 4)))


def test_a_module_teacher_s_device_must_be_there(module):
    teacher = ModuleTeacher(module, classes=[0, 1, 2], device="banana")
    with pytest.raises(ValueError, match=r"^device='banana' is not a torch device"):
        teacher.predict_proba(np.zeros((2, 4)))


def test_a_module_is_left_as_it_was(three_classes):
    X, _ = three_classes
    module = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)
    )
    module.train()
    module[1].eval()
    flags = [part.training for part in module.modules()]
    state = {name: value.clone() for name, value in module.state_dict().items()}
    ModuleTeacher(module, classes=[0, 1, 2], device="cpu").predict_proba(X)
    assert [part.training for part in module.modules()] == flags
    assert {p.device for p in module.parameters()} == {torch.device("cpu")}
    for name, value in module.state_dict().items():
        assert torch.equal(value, state[name])
    # Nor is it moved: what is scored, on whatever device, is another module.
    seen = []
    module.register_forward_hook(lambda part, *_: seen.append(part))
    ModuleTeacher(module, classes=[0, 1, 2], device="cpu").predict_proba(X)
    assert len(seen) == 1
    assert seen[0] is not module


def test_threads_may_share_a_module_that_is_being_trained(three_classes):
    X, _ = three_classes
    module = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 3)).train()
    teacher = ModuleTeacher(module, classes=[0, 1, 2], batch_size=4, device="cpu")
    expected = teacher.predict_proba(X)
    with ThreadPoolExecutor(2) as threads:
        for proba in threads.map(teacher.predict_proba, [X] * 30):
            assert_array_equal(proba, expected)
    assert module.training


def test_a_module_does_not_write_into_the_inputs(three_classes):
    X = three_classes[0].astype(np.float32)
    before = X.copy()
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3))
    teacher = ModuleTeacher(module, classes=[0, 1, 2], device="cpu")
    proba = teacher.predict_proba(X)
    assert (before < 0).any()
    assert_array_equal(X, before)
    assert_array_equal(teacher.predict_proba(X), proba)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_of_a_module_may_be_any_view(dtype, module, three_classes):
    X = three_classes[0].astype(dtype)
    expected = ModuleTeacher(module, classes=[0, 1, 2]).predict_proba(X[:, ::-1].copy())
    X.setflags(write=False)
    for teacher in (
        ModuleTeacher(module, classes=[0, 1, 2]),
        ModuleTeacher(copy.deepcopy(module).double(), classes=[0, 1, 2]),
    ):
        assert_allclose(teacher.predict_proba(X[:, ::-1]), expected, atol=1e-6)
        assert_allclose(teacher.predict_proba(X[::-1, ::-1]), expected[::-1], atol=1e-6)


# -- EnsembleTeacher ---------------------------------------------------------------

MEMBERS = [GaussianNB(), LogisticRegression(), KNeighborsClassifier(3)]


@pytest.mark.parametrize("weights", [None, [1, 2, 3], [0.5, 0, 0], np.array([2, 2, 4])])
def test_probabilities_are_averaged_with_the_weights(weights, data):
    X, y = data
    teacher = EnsembleTeacher(MEMBERS, weights=weights).fit(X, y)
    each = [clone(member).fit(X, y).predict_proba(X) for member in MEMBERS]
    expected = np.average(each, axis=0, weights=weights)
    assert_allclose(teacher.predict_proba(X), expected, rtol=1e-12, atol=1e-15)
    assert_array_equal(teacher.predict(X), expected.argmax(axis=1))


def test_the_mean_is_of_probabilities_and_not_of_logits(two_classes):
    """A member that says 0 does not veto."""
    X, y = two_classes
    teacher = EnsembleTeacher([KNeighborsClassifier(1), LogisticRegression()])
    proba = teacher.fit(X, y).predict_proba(X)
    other = LogisticRegression().fit(X, y).predict_proba(X)
    assert_allclose(proba, (np.eye(2)[y] + other) / 2)


def test_frozen_members_stand_beside_unfitted_ones(three_classes, fit_log):
    X, y = three_classes
    frozen = LoggedTeacher(fit_log).fit(X[:60], y[:60])
    teacher = EnsembleTeacher([FrozenEstimator(frozen), LogisticRegression()])
    teacher.fit(X, y)
    assert n_fits(fit_log) == 1
    fitted = LogisticRegression().fit(X, y)
    expected = (frozen.predict_proba(X) + fitted.predict_proba(X)) / 2
    assert_allclose(teacher.predict_proba(X), expected, rtol=1e-12)


def test_unfitted_members_are_cross_fitted_beside_frozen_ones(three_classes, fit_log):
    X, y = three_classes
    frozen = LoggedTeacher(fit_log).fit(X[:60], y[:60])
    members = [FrozenEstimator(frozen), LogisticRegression()]
    out_of_fold = cross_val_predict(
        LogisticRegression(), X, y, cv=3, method="predict_proba"
    )
    soft = SoftLabelTransformer(EnsembleTeacher(members, weights=[1, 3]), cv=3)
    expected = (frozen.predict_proba(X) + 3 * out_of_fold) / 4
    assert_allclose(soft.fit_transform(X, y), expected, rtol=1e-9)
    assert n_fits(fit_log) == 1


@pytest.mark.parametrize("cv", [None, 3, "in-sample"])
def test_a_list_of_frozen_teachers_is_not_fitted(cv, three_classes, fit_log):
    X, y = three_classes
    frozen = [
        FrozenEstimator(LoggedTeacher(fit_log).fit(X[i : i + 60], y[i : i + 60]))
        for i in (0, 60)
    ]
    distilled = DistillationClassifier(
        frozen, LinearStudent(), cv=cv, mixing_weight=1.0, keep_teacher=True
    ).fit(X, y, X_unlabeled=X[:5])
    assert n_fits(fit_log) == 2
    expected = np.mean([member.predict_proba(X) for member in frozen], axis=0)
    assert_allclose(distilled.teacher_.predict_proba(X), expected, rtol=1e-12)
    by_hand = DistillationClassifier(student=LinearStudent(), mixing_weight=1.0).fit(
        X,
        y,
        soft_labels=expected,
        X_unlabeled=X[:5],
        soft_labels_unlabeled=expected[:5],
    )
    assert_allclose(distilled.predict_proba(X), by_hand.predict_proba(X), rtol=1e-9)


@pytest.mark.parametrize("container", [list, tuple])
def test_a_list_is_an_ensemble_of_equal_weights(container, three_classes):
    X, y = three_classes
    proba = [
        DistillationClassifier(teacher, LinearStudent(), cv=3, mixing_weight=0.5)
        .fit(X, y)
        .predict_proba(X)
        for teacher in (container(MEMBERS), EnsembleTeacher(MEMBERS))
    ]
    assert_array_equal(proba[0], proba[1])


def test_members_may_order_their_classes_differently(three_classes):
    X, y = three_classes
    names = np.array(["ant", "bee", "cat"])[y]
    mixed = EnsembleTeacher([ReversedTeacher(), GaussianNB()]).fit(X, names)
    assert mixed.classes_.tolist() == ["ant", "bee", "cat"]
    assert_allclose(mixed.predict_proba(X), GaussianNB().fit(X, names).predict_proba(X))


def test_members_may_give_scores(three_classes):
    X, y = three_classes
    teacher = EnsembleTeacher([LinearSVC()]).fit(X, y)
    scores = LinearSVC().fit(X, y).decision_function(X)
    assert_allclose(teacher.predict_proba(X), softmax(scores, axis=1))


def test_a_member_may_know_fewer_classes(three_classes):
    X, y = three_classes
    teacher = EnsembleTeacher([SubsetTeacher(), GaussianNB()]).fit(X, y)
    with pytest.warns(UserWarning, match=r"SubsetTeacher was not fitted on .*\[2\]"):
        proba = teacher.predict_proba(X)
    expected = GaussianNB().fit(X, y).predict_proba(X)[:, 2] / 2
    assert_allclose(proba[:, 2], expected)


def test_weights_of_rows_reach_the_members_that_take_them(three_classes):
    X, y = three_classes
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    teacher = EnsembleTeacher([GaussianNB(), LogisticRegression()])
    teacher.fit(X, y, sample_weight=weight)
    expected = np.mean(
        [
            member.fit(X, y, sample_weight=weight).predict_proba(X)
            for member in (GaussianNB(), LogisticRegression())
        ],
        axis=0,
    )
    assert_allclose(teacher.predict_proba(X), expected, rtol=1e-9)
    with pytest.warns(UserWarning, match="KNeighborsClassifier has no argument"):
        EnsembleTeacher(MEMBERS).fit(X, y, sample_weight=weight)


def test_a_frozen_member_may_know_a_class_that_a_fold_lacks(three_classes):
    X, y = three_classes
    X, y = np.vstack([X, X[:1] + 9]), np.append(y, 3)
    frozen = FrozenEstimator(GaussianNB(var_smoothing=1e-3).fit(X, y))
    folds = KFold(4)
    with pytest.warns(
        UserWarning, match=r"LogisticRegression was not fitted on .*\[3\]"
    ):
        proba = SoftLabelTransformer(
            [frozen, LogisticRegression()], cv=folds
        ).fit_transform(X, y)
    other = np.zeros((len(y), 4))
    for train, test in folds.split(X):
        fitted = LogisticRegression().fit(X[train], y[train])
        other[np.ix_(test, fitted.classes_)] = fitted.predict_proba(X[test])
    assert not other[-1, 3]
    assert_allclose(proba, (frozen.predict_proba(X) + other) / 2, rtol=1e-9)


def test_weights_of_rows_are_routed_to_each_member(three_classes):
    X, y = three_classes
    weight = np.linspace(0.1, 3, len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False),
            LogisticRegression().set_fit_request(sample_weight=True),
        )
        unweighted = GaussianNB().set_fit_request(sample_weight=False)
        distilled = DistillationClassifier(
            [pipeline, unweighted],
            LinearStudent(),
            cv=3,
            keep_teacher=True,
            mixing_weight=0.5,
        ).fit(X, y, sample_weight=weight)
        proba = distilled.teacher_.predict_proba(X)
    by_hand = make_pipeline(StandardScaler(), LogisticRegression())
    by_hand.fit(X, y, logisticregression__sample_weight=weight)
    expected = (by_hand.predict_proba(X) + GaussianNB().fit(X, y).predict_proba(X)) / 2
    assert_allclose(proba, expected, rtol=1e-9)


def test_an_ensemble_of_text_teachers(texts):
    X, y = texts
    members = [
        make_pipeline(TfidfVectorizer(ngram_range=(1, n)), LogisticRegression())
        for n in (1, 2)
    ]
    teacher = EnsembleTeacher(members).fit(X, y)
    expected = np.mean([m.fit(X, y).predict_proba(X) for m in members], axis=0)
    assert_allclose(teacher.predict_proba(X), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], r"^weights must hold one non-negative number for each of the 3"),
        ([1, -1, 1], r"^weights must hold one non-negative .*got \[1, -1, 1\]"),
        ([1, np.nan, 1], r"^weights must hold one non-negative"),
        ([0, 0, 0], r"^weights must not all be zero, got \[0, 0, 0\]"),
    ],
)
def test_weights_of_an_ensemble(weights, message, three_classes, fit_log):
    members = [LoggedTeacher(fit_log), *MEMBERS[1:]]
    teacher = EnsembleTeacher(members, weights=weights)
    with pytest.raises(ValueError, match=message):
        teacher.fit(*three_classes)
    with pytest.raises(ValueError, match=message):
        DistillationClassifier(teacher, LinearStudent(), cv=3, mixing_weight=0.5).fit(
            *three_classes
        )
    assert n_fits(fit_log) == 0


def test_an_ensemble_needs_members_that_can_teach(three_classes, fit_log):
    with pytest.raises(ValueError, match="at least one teacher, got an empty list"):
        DistillationClassifier([], LinearStudent(), mixing_weight=0.5).fit(
            *three_classes
        )
    members = [LoggedTeacher(fit_log), LabelTeacher()]
    for fit in (
        EnsembleTeacher(members).fit,
        DistillationClassifier(members, LinearStudent(), mixing_weight=0.5).fit,
        DistillationClassifier(
            EnsembleTeacher(members), LinearStudent(), mixing_weight=0.5
        ).fit,
    ):
        with pytest.raises(TypeError, match=r"decision_function, got LabelTeacher"):
            fit(*three_classes)
    assert n_fits(fit_log) == 0


def test_a_bad_member_is_named(three_classes):
    X, y = three_classes
    teacher = EnsembleTeacher([GaussianNB(), BrokenTeacher("nan")]).fit(X, y)
    with pytest.raises(
        ValueError, match="output of teacher BrokenTeacher: row 2 is not"
    ):
        teacher.predict_proba(X)


def test_a_failed_fit_leaves_an_earlier_ensemble_usable(three_classes):
    X, y = three_classes
    teacher = EnsembleTeacher(MEMBERS).fit(X, y)
    before = teacher.predict_proba(X)
    with pytest.raises(ValueError, match="NaN"):
        teacher.fit(np.full((10, 3), np.nan), y[:10])
    assert teacher.n_features_in_ == 4
    assert_array_equal(teacher.predict_proba(X), before)


# -- learned weights ----------------------------------------------------------------


def mixture_loss(weights, proba, sample_weight):
    return -sum(
        w * np.log(sum(v * p for v, p in zip(weights, row, strict=True)))
        for w, row in zip(sample_weight, proba, strict=True)
    )


@pytest.mark.parametrize("seed", range(3))
def test_no_other_mixture_is_better(seed):
    rng = np.random.default_rng(seed)
    proba, sample_weight = rng.uniform(0.01, 1, (40, 3)), rng.exponential(size=40)
    found = fit_mixture_weights(proba, sample_weight)
    assert_allclose(found.sum(), 1)
    best = mixture_loss(found, proba, sample_weight)
    for other in rng.dirichlet(np.ones(3), 200):
        assert mixture_loss(other, proba, sample_weight) >= best - 1e-6


def test_mixture_of_two_in_closed_form():
    """Two kinds of rows: a v + b at the first, c v + d at the second."""
    proba = np.array([[0.9, 0.5]] * 2 + [[0.1, 0.5]])
    # d/dv [2 log(.5 + .4 v) + log(.5 - .4 v)] = 0 at v = 1 / (3 * .8).
    assert_allclose(fit_mixture_weights(proba, np.ones(3)), [5 / 12, 7 / 12], atol=1e-6)


def test_a_mixture_leaves_out_what_does_not_help():
    proba = np.array([[0.8, 0.1, 0.0]] * 10)
    assert_allclose(fit_mixture_weights(proba, np.ones(10)), [1, 0, 0], atol=1e-6)
    nothing = np.zeros((4, 2))
    assert_allclose(fit_mixture_weights(nothing, np.ones(4)), [0.5, 0.5])


def test_learned_weights_prefer_the_member_that_does_not_overfit(three_classes):
    X, y = three_classes
    members = [DecisionTreeClassifier(random_state=0), GaussianNB()]
    teacher = EnsembleTeacher(members, weights="log-loss").fit(X, y)
    assert_allclose(teacher.weights_.sum(), 1)
    assert teacher.weights_[1] > 0.8
    folds = StratifiedKFold(5)
    scored = [
        cross_val_predict(m, X, y, cv=folds, method="predict_proba")[np.arange(120), y]
        for m in members
    ]
    expected = fit_mixture_weights(np.column_stack(scored), np.ones(120))
    assert_allclose(teacher.weights_, expected)
    proba = sum(
        w * m.predict_proba(X) for w, m in zip(expected, teacher.teachers_, strict=True)
    )
    assert_allclose(teacher.predict_proba(X), proba)


def test_learned_weights_take_sample_weights_and_frozen_members(three_classes):
    X, y = three_classes
    frozen = FrozenEstimator(GaussianNB().fit(X, y))
    weight = np.where(y == 0, 3.0, 1.0)
    members = [frozen, DecisionTreeClassifier(max_depth=2, random_state=0)]
    teacher = EnsembleTeacher(members, weights="log-loss")
    plain = teacher.fit(X, y).weights_
    assert not np.allclose(plain, teacher.fit(X, y, weight).weights_)
    distilled = DistillationClassifier(teacher, LinearStudent(), mixing_weight=0.5)
    assert distilled.fit(X, y).predict_proba(X).shape == (120, 3)


def test_rows_of_weight_zero_do_not_change_learned_weights():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = rng.normal(size=(60, 2)) + y[:, None]
    # Of class 1 the first fifth only: a fold of all rows would hold all that counts.
    counts = (y == 0) | (np.arange(60) < 12)
    weight = np.where(counts, rng.uniform(0.5, 2.0, size=60), 0.0)
    teacher = EnsembleTeacher([GaussianNB(), LogisticRegression()], weights="log-loss")
    learned = clone(teacher).fit(X, y, weight).weights_
    without = teacher.fit(X[counts], y[counts], weight[counts]).weights_
    assert_allclose(learned, without, atol=1e-6)


def test_learned_weights_need_rows_to_score():
    teacher = EnsembleTeacher([GaussianNB()], weights="log-loss")
    with pytest.raises(ValueError, match="needs a class with two rows"):
        teacher.fit([[0.0], [1.0]], [0, 1])
