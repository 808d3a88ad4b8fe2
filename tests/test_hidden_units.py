"""Pooling of inputs."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from skdistill._hidden_units import pooled, pooling_scale

X = np.array([[2.0, 0.0, -4.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]], dtype=np.float32)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_the_mean_is_over_the_features_of_a_row_and_of_none_it_is_zero(form):
    mean = pooled(form(X), "mean")
    assert mean.dtype == X.dtype
    dense = mean.toarray() if sp.issparse(mean) else mean
    assert_allclose(dense, [[1.0, 0.0, -2.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])


def test_stored_zeros_are_no_features():
    stored = sp.csr_matrix(X)
    stored.data[0] = 0.0
    assert_array_equal(pooled(stored, "mean").toarray()[0], [0.0, 0.0, -4.0])
    only_zero = sp.csr_matrix((np.zeros(1), [1], [0, 1]), shape=(1, 3))
    assert_array_equal(pooled(only_zero, "mean").toarray(), 0.0)


def test_the_scale_is_the_features_of_a_row_that_has_any():
    assert pooling_scale(X, "mean") == pooling_scale(sp.csr_matrix(X), "mean") == 1.5
    assert pooling_scale(X, "sum") == pooling_scale(0 * X, "mean") == 1.0


def test_a_sum_leaves_the_inputs_alone():
    assert pooled(X, "sum") is X
