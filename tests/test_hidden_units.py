"""Pooling of inputs, and slopes of activations."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skdistill._hidden_units import pooled, pooling_scale, through_activation

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


def test_of_every_number_in_bfloat16_the_slope_of_relu_is_torchs_own():
    bits = torch.arange(-(2**15), 2**15).to(torch.int16)
    output = bits.view(torch.bfloat16)
    output = output[~output.isnan()]
    # Slopes of all kinds too, among them zeros of both signs and what is infinite.
    slope = output.roll(12_345)
    expected = torch.ops.aten.threshold_backward(slope, output, 0)
    found = through_activation(slope.clone(), output, "relu")
    assert torch.equal(found.view(torch.int16), expected.view(torch.int16))
    assert 0 < (found != 0).sum() < len(found)
