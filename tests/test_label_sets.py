"""Labels as users have them."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skdistill._retrieval.label_sets import read_labels

X = np.zeros((3, 2))
INDICATOR = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1]])


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (INDICATOR, "dense"),
        (INDICATOR.astype(float), "dense"),
        (INDICATOR.tolist(), "dense"),
        (list(INDICATOR), "dense"),
        (pd.DataFrame(INDICATOR).convert_dtypes(), "dense"),
        (sp.csr_matrix(INDICATOR), "sparse"),
        (sp.csc_array(INDICATOR.astype(bool)), "sparse"),
        ([["a", "c"], [], ["b", "c"]], "names"),
        ([{"a", "c"}, set(), {"b", "c"}], "names"),
        ([("a", "c", "c"), (), ("c", "b")], "names"),
        ([[(0, "x"), (2, "z")], [], [(1, "y"), (2, "z")]], "names"),
    ],
)
def test_every_form_gives_the_same_indicator(y, kind):
    sets = read_labels(y, X)
    assert sets.kind == kind
    assert_array_equal(sets.indicator.toarray(), INDICATOR)
    assert len(sets.classes) == 3


def test_names_are_sorted_and_numbers_stay_numbers():
    assert_array_equal(read_labels([[7, 3], [10], []], X).classes, [3, 7, 10])
    mixed = read_labels([["b", 2], [1, "a"], []], X)
    assert mixed.classes.tolist() == [1, 2, "a", "b"]


def test_one_label_a_row_is_multiclass():
    sets = read_labels(["b", "a", "b"], X)
    assert sets.kind == "multiclass"
    assert_array_equal(sets.indicator.toarray(), [[0, 1], [1, 0], [0, 1]])


def test_duplicates_unsorted_columns_and_stored_zeros_do_no_harm():
    parts = (np.array([1, 1, 0, 1]), np.array([2, 0, 1, 2]), np.array([0, 3, 3, 4]))
    sets = read_labels(sp.csr_matrix(parts, shape=(3, 3)), X)
    assert_array_equal(sets.indicator.toarray(), [[1, 0, 1], [0, 0, 0], [0, 0, 1]])
    assert sets.indicator.has_sorted_indices


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_array, sp.coo_matrix])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, bool, float])
def test_a_label_that_a_row_names_twice_is_one_label(form, dtype):
    """256 times one are zero in eight bits."""
    places = np.repeat([2, 0], [256, 1])
    if form is sp.coo_matrix:
        parts = np.ones(257, dtype), (np.zeros(257, dtype=int), places)
    else:
        parts = np.ones(257, dtype), places, np.array([0, 257, 257, 257])
    y = form(parts, shape=(3, 3))
    expected = np.array([[1, 0, 1], [0, 0, 0], [0, 0, 0]])
    found = read_labels(y, X).indicator
    assert_array_equal(
        found.toarray(), expected.T if form is sp.csc_array else expected
    )
    assert y.nnz == 257
    assert y.dtype == dtype


def test_other_values_of_one_place_are_their_sum():
    ends = np.array([0, 2, 2, 2])
    halves = sp.csr_matrix((np.full(2, 0.5), np.array([1, 1]), ends), shape=(3, 3))
    assert read_labels(halves, X).indicator.nnz == 1
    thirds = sp.csr_matrix((np.full(2, 0.3), np.array([1, 1]), ends), shape=(3, 3))
    with pytest.raises(ValueError, match=r"zeros and ones, but holds .*0\.6"):
        read_labels(thirds, X)


def test_an_input_is_left_as_it_was():
    y = sp.csr_matrix((np.ones(2), np.array([2, 0]), np.array([0, 2, 2, 2])), (3, 3))
    read_labels(y, X)
    assert_array_equal(y.indices, [2, 0])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y"),
        ([[], [], []], "no label"),
        (sp.csr_matrix((3, 0)), "no label"),
        (INDICATOR * 0.5, "zeros and ones, but holds.*soft_labels"),
        (sp.csr_matrix(INDICATOR * 2), "zeros and ones"),
        ([["a"], "b", ["c"]], "mixes"),
        (np.full((3, 2), "a"), "list of lists"),
        (INDICATOR[:2], "inconsistent numbers of samples"),
        (sp.csr_matrix(INDICATOR[:2]), "inconsistent numbers of samples"),
        ([["a"], ["b"]], "inconsistent numbers of samples"),
        (["a", "a", "a"], "one class"),
    ],
)
def test_what_cannot_be_read_is_refused(y, message):
    with pytest.raises(ValueError, match=message):
        read_labels(y, X)


def test_labels_have_to_be_hashable():
    with pytest.raises(TypeError, match="hashable"):
        read_labels([[["a"]], [], []], X)
