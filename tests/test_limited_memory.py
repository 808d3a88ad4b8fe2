"""L-BFGS: the minimum, the type, no step that makes it worse."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize, rosen, rosen_der

from skdistill._retrieval.limited_memory import minimise


@pytest.mark.parametrize("n", [1, 5, 200_000])
def test_a_quadratic_is_minimised(n):
    rng = np.random.default_rng(0)
    scale, centre = rng.uniform(0.5, 4.0, n), rng.normal(size=n)

    def quadratic(point):
        moved = point - centre
        return 0.5 * float(scale @ moved**2), scale * moved

    found = minimise(quadratic, np.zeros(n), 40)
    assert_allclose(found, centre, atol=1e-4)


def test_few_steps_come_as_far_as_those_of_scipy():
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(300, 40)), rng.choice([-1.0, 1.0], 300)

    def logistic(weights):
        margins = labels * (rows @ weights)
        slope = -labels / (1.0 + np.exp(margins)) @ rows + 0.1 * weights
        value = np.logaddexp(0.0, -margins).sum() + 0.05 * weights @ weights
        return float(value), slope

    start = np.zeros(40)
    options = {"maxiter": 8, "maxcor": 3}
    theirs = minimize(logistic, start, jac=True, method="L-BFGS-B", options=options)
    best = minimize(logistic, start, jac=True, method="L-BFGS-B").fun
    value = logistic(minimise(logistic, start, 8))[0]
    assert value - best <= 2.0 * (theirs.fun - best) + 1e-6 * best
    assert not start.any()


def test_float32_stays_and_no_step_makes_it_worse():
    start = np.full(6, -1.0, dtype=np.float32)
    seen = []

    def valley(point):
        assert point.dtype == np.float32
        return float(rosen(point)), rosen_der(point).astype(np.float32)

    for n_steps in range(6):
        found = minimise(valley, start, n_steps)
        assert found.dtype == np.float32
        seen.append(valley(found)[0])
    assert (np.diff(seen) <= 0).all()
    assert seen[-1] < 0.2 * seen[0]


def test_at_the_minimum_nothing_moves():
    start = np.zeros(3)
    found = minimise(lambda point: (float(point @ point), 2.0 * point), start, 5)
    assert not found.any()
    # A slope that promises what is not there: no length of a step is good enough.
    stuck = minimise(lambda point: (1.0, np.ones(3)), start, 5)
    assert not stuck.any()
