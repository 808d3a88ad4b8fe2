"""The mixing weight of ridge regressions in closed form."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import make_regression
from sklearn.linear_model import Ridge

from skdistill.datasets import draw_labels, make_gaussians
from skdistill.diagnostics import ridge_mixing_weight

X, Y = make_regression(60, 5, n_targets=2, noise=30.0, random_state=0)
SOFT = Y + np.random.default_rng(0).normal(0, 20, Y.shape)


def smoother(X, alpha, fit_intercept=True):
    """The matrix S, column by column, by scikit-learn."""
    ridge = Ridge(alpha, fit_intercept=fit_intercept)
    return np.column_stack([ridge.fit(X, e).predict(X) for e in np.eye(len(X))])


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("soft_labels", [None, SOFT])
def test_it_is_the_formula_of_the_matrices(soft_labels, fit_intercept):
    S = smoother(X, 5.0, fit_intercept)
    n = len(X)
    labels = (Y - S @ Y) / (1 - np.trace(S) / n)
    if soft_labels is None:
        soft = (Y - S @ S @ Y) / (1 - np.trace(S @ S) / n)
    else:
        soft = Y - S @ soft_labels
    gap = labels - soft
    found = ridge_mixing_weight(
        X, Y, soft_labels, alpha=5.0, fit_intercept=fit_intercept
    )
    weight = (labels * gap).sum() / (gap**2).sum()
    assert_allclose(found.mixing_weight, weight)
    assert_allclose(found.risk_labels, (labels**2).sum() / n)
    assert_allclose(found.risk_soft, (soft**2).sum() / n)
    mixed = (1 - weight) * labels + weight * soft
    assert_allclose(found.risk_mixed, (mixed**2).sum() / n)
    assert found.risk_mixed <= min(found.risk_labels, found.risk_soft)


def test_the_mixed_student_is_a_mixture_of_students():
    """That ridge is linear in its targets is all that the formula needs."""
    first = Ridge(5.0).fit(X, Y).predict(X)
    second = Ridge(5.0).fit(X, first).predict(X)
    mixed = Ridge(5.0).fit(X, 1.7 * Y - 0.7 * first).predict(X)
    assert_allclose(mixed, 1.7 * first - 0.7 * second)


class Known:
    """Risks of a fixed design, over labels drawn from known probabilities."""

    def __init__(self, n_samples=150):
        self.X, _, proba = make_gaussians(n_samples, n_features=15, random_state=0)
        self.truth, self.noise = proba[:, 1], proba[:, 0] * proba[:, 1]

    def risk(self, S, other=None):
        other = S if other is None else other
        bias = (S @ self.truth - self.truth) @ (other @ self.truth - self.truth)
        return bias + ((S * other) @ self.noise).sum()

    def best(self, alpha):
        S = smoother(self.X, alpha)
        labels, soft, cross = self.risk(S), self.risk(S @ S), self.risk(S, S @ S)
        return (labels - cross) / (labels + soft - 2 * cross)


@pytest.mark.parametrize("alpha", [1.0, 30.0, 3000.0])
def test_the_best_weight_is_a_slope_of_the_risk(alpha):
    """Minus alpha R'(alpha) / (2 D), Theorem of Dang, Patil and Rinaldo."""
    known, step = Known(), 1e-3 * alpha
    risks = [known.risk(smoother(known.X, alpha + h)) for h in (-step, step)]
    slope = (risks[1] - risks[0]) / (2 * step)
    S = smoother(known.X, alpha)
    distance = known.risk(S) + known.risk(S @ S) - 2 * known.risk(S, S @ S)
    assert_allclose(known.best(alpha), -alpha * slope / (2 * distance), rtol=1e-3)


@pytest.mark.parametrize(("alpha", "sign"), [(1.0, 1), (3000.0, -1)])
def test_it_finds_the_best_weight_of_known_probabilities(alpha, sign):
    known = Known()
    proba = np.column_stack([1 - known.truth, known.truth])
    best = known.best(alpha)
    found, gains = [], []
    for seed in range(60):
        y = draw_labels(proba, random_state=seed).astype(float)
        weight = ridge_mixing_weight(known.X, y, alpha=alpha).mixing_weight
        first = Ridge(alpha).fit(known.X, y).predict(known.X)
        targets = (1 - weight) * y + weight * first
        second = Ridge(alpha).fit(known.X, targets).predict(known.X)
        found.append(weight)
        gains.append(
            ((first - known.truth) ** 2).mean() - ((second - known.truth) ** 2).mean()
        )
    spread = np.std(found, ddof=1)
    assert sign * best > 0
    # Generalised cross-validation is right up to terms of 1 / n.
    assert abs(np.mean(found) - best) < 3 * spread / 60**0.5 + 0.15 * abs(best)
    assert np.mean(gains) > 3 * np.std(gains, ddof=1) / 60**0.5


def test_a_teacher_that_knows_the_truth_is_listened_to():
    known = Known()
    proba = np.column_stack([1 - known.truth, known.truth])
    y = draw_labels(proba, random_state=0).astype(float)
    good = ridge_mixing_weight(known.X, y, known.truth)
    bad = ridge_mixing_weight(known.X, y, 1 - known.truth)
    assert good.mixing_weight > 0.6
    assert bad.mixing_weight < 0.3
    assert good.risk_soft < good.risk_labels < bad.risk_soft


def test_where_both_students_are_one_it_does_not_matter():
    found = ridge_mixing_weight(X, np.zeros(len(X)))
    assert np.isnan(found.mixing_weight)
    assert_allclose(found.risk_mixed, found.risk_labels)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"alpha": 0.0}, r"alpha=0.0 must be a positive number"),
        ({"alpha": "1"}, r"alpha='1' must be a positive number"),
        ({"soft_labels": SOFT[:, :1]}, r"shape of targets, \(60, 2\), got \(60, 1\)"),
        ({"targets": Y[:50]}, "targets has 50 rows, but X has 60"),
        ({"targets": Y * np.nan}, "targets contains NaN"),
        ({"X": np.eye(60), "alpha": 1e-18}, "no more than the effective parameters"),
    ],
)
def test_what_cannot_be_is_refused(change, match):
    arguments = {"X": X, "targets": Y, **change}
    with pytest.raises(ValueError, match=match):
        ridge_mixing_weight(**arguments)
