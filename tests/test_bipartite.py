import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from reference import bipartite as reference
from sklearn.metrics import roc_auc_score

from skdistill import _pair_sums
from skdistill._bipartite import PairRisk
from skdistill.losses import bipartite_risk, bipartite_slope

SURROGATES = ["logistic", "squared", "exponential"]
EMPHASES = [{}, {"push": 2.0}, {"push": 3.5}, {"top_share": 0.05}, {"top_share": 1.0}]
few = settings(max_examples=40, deadline=None)


def make_rows(n_rows=12, scale=2.0, seed=0):
    """Soft labels, exactly 0 and 1 among them, scores with ties, and weights."""
    rng = np.random.default_rng(seed)
    proba = rng.uniform(size=n_rows)
    proba[:2] = [0.0, 1.0]
    scores = scale * rng.normal(size=n_rows)
    scores[-1] = scores[0]
    return proba, scores, rng.uniform(0.2, 3.0, size=n_rows)


def expected_risk(proba, scores, weight, surrogate, push=1.0, top_share=None):
    rows = (weight * proba, weight * (1 - proba), scores, surrogate)
    if push != 1.0:
        return reference.push_risk(*rows, push)
    if top_share is not None:
        return reference.top_risk(*rows, top_share)
    return reference.risk(*rows)


@pytest.mark.parametrize("emphasis", EMPHASES, ids=str)
@pytest.mark.parametrize("surrogate", [*SURROGATES, "zero-one"])
@pytest.mark.parametrize("n_rows", [2, 12, 140])
def test_the_risk_equals_the_reference(n_rows, surrogate, emphasis):
    # 140 rows have more pairs than are summed one by one.
    assert 12**2 < _pair_sums.DIRECT_PAIRS < 140**2
    proba, scores, weight = make_rows(n_rows)
    risk = bipartite_risk(
        proba, scores, surrogate=surrogate, sample_weight=weight, **emphasis
    )
    expected = expected_risk(proba, scores, weight, surrogate, **emphasis)
    assert_allclose(risk, expected, rtol=1e-9)


@pytest.mark.parametrize("emphasis", EMPHASES, ids=str)
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("n_rows", [2, 12, 140])
def test_the_slope_is_the_derivative_of_the_reference(n_rows, surrogate, emphasis):
    proba, scores, weight = make_rows(n_rows)
    slope = bipartite_slope(
        proba, scores, surrogate=surrogate, sample_weight=weight, **emphasis
    )
    step = 1e-5
    for i in range(0, n_rows, max(1, n_rows // 8)):
        ends = []
        for sign in (-1, 1):
            moved = scores.copy()
            moved[i] += sign * step
            ends.append(expected_risk(proba, moved, weight, surrogate, **emphasis))
        numeric = (ends[1] - ends[0]) / (2 * step)
        assert_allclose(slope[i], numeric, rtol=1e-5, atol=2e-8 * max(1, ends[0]))


def test_labels_give_the_empirical_risk_over_positives_and_negatives():
    _, scores, _ = make_rows()
    y = np.array([0, 1] * 6)
    margins = scores[y == 1][:, None] - scores[y == 0]
    for surrogate, phi in [
        ("logistic", lambda z: np.logaddexp(0, -z)),
        ("squared", lambda z: (1 - z) ** 2),
        ("exponential", lambda z: np.exp(-z)),
    ]:
        risk = bipartite_risk(y, scores, surrogate=surrogate)
        assert_allclose(risk, phi(margins).mean(), rtol=1e-12)


@few
@given(
    arrays(np.int8, 15, elements=st.integers(0, 1)),
    arrays(np.int8, 15, elements=st.integers(-2, 2)),
    arrays(np.int8, 15, elements=st.integers(1, 4)),
)
def test_of_labels_the_zero_one_risk_is_one_minus_the_auc(y, scores, weight):
    # Few values, so that there are many ties.
    y[:2] = [0, 1]
    auc = roc_auc_score(y, scores, sample_weight=weight)
    risk = bipartite_risk(y, scores, surrogate="zero-one", sample_weight=weight)
    assert_allclose(risk, 1 - auc, atol=1e-12)


@few
@given(
    st.sampled_from(SURROGATES),
    st.sampled_from(EMPHASES),
    st.floats(-20, 20),
    st.integers(0, 10**6),
)
def test_a_constant_added_to_all_scores_changes_nothing(
    surrogate, emphasis, constant, seed
):
    proba, scores, weight = make_rows(seed=seed)
    settings_ = {"surrogate": surrogate, "sample_weight": weight, **emphasis}
    assert_allclose(
        bipartite_risk(proba, scores + constant, **settings_),
        bipartite_risk(proba, scores, **settings_),
        rtol=1e-9,
    )
    slope = bipartite_slope(proba, scores, **settings_)
    assert_allclose(slope.sum(), 0.0, atol=1e-10 * max(1, np.abs(slope).max()))


@few
@given(st.integers(0, 10**6), st.sampled_from([*SURROGATES, "zero-one"]))
def test_turning_scores_and_classes_around_changes_nothing(seed, surrogate):
    proba, scores, weight = make_rows(seed=seed)
    settings_ = {"surrogate": surrogate, "sample_weight": weight}
    assert_allclose(
        bipartite_risk(1 - proba, -scores, **settings_),
        bipartite_risk(proba, scores, **settings_),
        rtol=1e-10,
    )


@pytest.mark.parametrize("emphasis", EMPHASES, ids=str)
@pytest.mark.parametrize("surrogate", [*SURROGATES, "zero-one"])
def test_a_pair_counts_as_often_as_its_weights_say(surrogate, emphasis):
    proba, scores, _ = make_rows()
    y = (proba > 0.5).astype(float)
    weight = np.arange(12) % 4
    again = np.repeat(np.arange(12), weight)
    # Copies of a row with a label are no pair: they are of one class.
    assert_allclose(
        bipartite_risk(
            y, scores, surrogate=surrogate, sample_weight=weight, **emphasis
        ),
        bipartite_risk(y[again], scores[again], surrogate=surrogate, **emphasis),
        rtol=1e-10,
    )


@pytest.mark.parametrize("emphasis", EMPHASES, ids=str)
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_with_pairs_of_rows_with_themselves_weights_are_repeated_rows(
    surrogate, emphasis
):
    proba, scores, _ = make_rows()
    weight = np.arange(12) % 4
    again = np.repeat(np.arange(12), weight)
    risk = PairRisk(surrogate, **emphasis)
    value, slope = risk.value_and_slope(scores, weight * proba, weight * (1 - proba))
    repeated, slopes = risk.value_and_slope(
        scores[again], proba[again], 1 - proba[again]
    )
    assert_allclose(value, repeated, rtol=1e-12)
    assert_allclose(slope, np.bincount(again, slopes, minlength=12), atol=1e-12)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_pairs_of_rows_with_themselves_only_rescale_the_slope(surrogate):
    proba, scores, weight = make_rows()
    masses = weight * proba, weight * (1 - proba)
    _, slope = PairRisk(surrogate).value_and_slope(scores, *masses)
    _, without = PairRisk(surrogate).value_and_slope(scores, *masses, with_self=False)
    share = 1 - (masses[0] @ masses[1]) / (masses[0].sum() * masses[1].sum())
    assert_allclose(slope, share * without, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("surrogate", [*SURROGATES, "zero-one"])
def test_labels_are_mixed_into_the_targets(surrogate):
    proba, scores, _ = make_rows()
    y = np.array([0, 1] * 6)
    mixed = bipartite_risk(proba, scores, y=y, mixing_weight=0.7, surrogate=surrogate)
    targets = 0.3 * y + 0.7 * proba
    assert_allclose(
        mixed, bipartite_risk(targets, scores, surrogate=surrogate), rtol=1e-12
    )
    only_labels = bipartite_risk(
        proba, scores, y=y, mixing_weight=0.0, surrogate=surrogate
    )
    assert only_labels == bipartite_risk(y, scores, surrogate=surrogate)


@few
@given(st.integers(0, 10**6), st.sampled_from(EMPHASES))
def test_the_bayes_probabilities_rank_best(seed, emphasis):
    proba, scores, _ = make_rows(seed=seed)
    settings_ = {"surrogate": "zero-one", **emphasis}
    best = bipartite_risk(proba, proba, **settings_)
    assert best <= bipartite_risk(proba, scores, **settings_) + 1e-12


def test_a_push_punishes_the_negative_at_the_top():
    y = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    # Four of 16 pairs are wrong in both: one negative above all, or four above one.
    one_at_the_top = [4, 3, 2, 1, 5, -1, -2, -3]
    four_above_one = [4, 3, 2, 1, 1.5, 1.4, 1.3, 1.2]
    for push, first, second in [(1.0, 1 / 4, 1 / 4), (4.0, 1 / 4, 1 / 4**4)]:
        settings_ = {"surrogate": "zero-one", "push": push}
        assert_allclose(bipartite_risk(y, one_at_the_top, **settings_), first)
        assert_allclose(bipartite_risk(y, four_above_one, **settings_), second)


def test_a_top_share_prefers_positives_at_the_top():
    y = np.array([1, 1, 0, 0, 0, 0])
    # In both, four of eight pairs are wrong: a first place and a last, or two middles.
    first_and_last = np.array([6, 1, 5, 4, 3, 2])
    two_middles = np.array([3.5, 3.4, 5, 4, 3, 2])
    for share, better in [(None, 0), (0.1, 1)]:
        risks = [
            bipartite_risk(y, scores, surrogate="zero-one", top_share=share)
            for scores in (first_and_last, two_middles)
        ]
        assert risks[0] == risks[1] if better == 0 else risks[0] < 0.8 * risks[1]


# -- sums --------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-6, 0.1, 1.0, 30.0, 2000.0])
def test_logistic_sums_on_nodes_stay_within_their_bound(scale):
    rng = np.random.default_rng(0)
    points, sources = scale * rng.normal(size=700), scale * rng.normal(size=900)
    mass = rng.exponential(size=900)
    mass /= mass.sum()
    fast = _pair_sums.logistic_sums(points, sources, mass)
    direct = _pair_sums.direct_logistic_sums(points, sources, mass)
    # Beside the bound there is rounding, of values as large as the spread.
    bound = _pair_sums.LOGISTIC_SUM_ERROR + 1e-14 * scale
    for got, expected in zip(fast, direct, strict=True):
        assert np.abs(got - expected).max() <= bound


def test_scores_spread_over_more_than_the_nodes_lose_digits_slowly(monkeypatch):
    monkeypatch.setattr(_pair_sums, "MAX_NODES", 2**12)
    rng = np.random.default_rng(0)
    points, sources = 100 * rng.normal(size=300), 100 * rng.normal(size=300)
    mass = np.full(300, 1 / 300)
    fast = _pair_sums.logistic_sums(points, sources, mass)
    direct = _pair_sums.direct_logistic_sums(points, sources, mass)
    spread = np.ptp(np.concatenate([points, sources]))
    distance = spread / (2**12 - 4)
    bound = _pair_sums.LOGISTIC_SUM_ERROR * (distance / _pair_sums.NODE_DISTANCE) ** 4
    errors = [np.abs(a - b).max() for a, b in zip(fast, direct, strict=True)]
    assert max(errors) <= bound
    assert max(errors) > _pair_sums.LOGISTIC_SUM_ERROR


def test_blocks_of_pairs_add_up(monkeypatch):
    rng = np.random.default_rng(0)
    points, sources, mass = rng.normal(size=(3, 50))
    whole = _pair_sums.direct_logistic_sums(points, sources, mass)
    monkeypatch.setattr(_pair_sums, "BLOCK_PAIRS", 7)
    blocks = _pair_sums.direct_logistic_sums(points, sources, mass)
    assert_allclose(blocks, whole, rtol=1e-12)


def test_chunks_of_rows_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 200)), rng.uniform(size=200)
    whole = _pair_sums.logistic_sums(*rows[0], rows[1])
    monkeypatch.setattr(_pair_sums, "CHUNK_ROWS", 64)
    assert_allclose(_pair_sums.logistic_sums(*rows[0], rows[1]), whole, rtol=1e-13)


def test_large_scores_do_not_overflow():
    _, scores, _ = make_rows()
    y = (scores > 0).astype(float)
    assert bipartite_risk(y, 1e3 * scores) < 1e-3
    far = bipartite_risk(1 - y, 1e3 * scores)
    assert np.isfinite(far)
    assert far > 1e2
    # A row that is surely positive is no source of negatives, however high it is.
    assert np.isfinite(
        bipartite_risk([1, 0, 0], [800.0, 0.0, 0.0], surrogate="exponential")
    )


def test_an_infinite_loss_is_returned_without_a_warning():
    assert np.isinf(bipartite_risk([1, 0], [-800.0, 800.0], surrogate="exponential"))


def test_scores_that_are_not_finite_give_no_number():
    value, slope = PairRisk().value_and_slope(
        np.full(200, np.nan), np.full(200, 0.5), np.full(200, 0.5)
    )
    assert np.isnan(value)
    assert np.isnan(slope).all()


# -- errors ------------------------------------------------------------------------


@pytest.mark.parametrize("function", [bipartite_risk, bipartite_slope])
@pytest.mark.parametrize("proba", [[1, 1, 1], [0, 0, 0], [0.5]])
def test_no_pair_is_an_error(function, proba):
    with pytest.raises(ValueError, match="No pair of rows has a positive weight"):
        function(proba, np.arange(len(proba)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"soft_labels": [0.5, 1.2]}, "soft_labels must be between 0 and 1"),
        ({"soft_labels": [[0.5, 0.5], [0.1, 0.9]]}, "soft_labels must hold one number"),
        ({"soft_labels": [0.5, 0.5, 0.5]}, "soft_labels has 3 rows, but scores has 2"),
        ({"scores": [0.0, np.nan]}, "scores must be finite"),
        ({"surrogate": "hinge"}, "surrogate='hinge' must be one of"),
        ({"push": 0.5}, "push=0.5 must be a number at least 1"),
        ({"top_share": 0.0}, r"top_share=0.0 must be a number in \(0, 1\]"),
        ({"push": 2.0, "top_share": 0.1}, "cannot be combined"),
        ({"mixing_weight": 1.5}, r"mixing_weight=1.5 must be a number in \[0, 1\]"),
        ({"mixing_weight": 0.5}, "y=None is only allowed with mixing_weight=1"),
        ({"mixing_weight": 0.5, "y": [0, 2]}, "y must be between 0 and 1"),
        ({"sample_weight": [1, -1]}, "sample_weight must be non-negative"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    arguments = {"soft_labels": [0.2, 0.9], "scores": [0.0, 1.0], **arguments}
    with pytest.raises(ValueError, match=message):
        bipartite_risk(**arguments)


def test_the_zero_one_loss_has_no_slope():
    with pytest.raises(ValueError, match="surrogate='zero-one'"):
        bipartite_slope([0.2, 0.9], [0.0, 1.0], surrogate="zero-one")
