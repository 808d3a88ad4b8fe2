"""New rows: valid, bounded, plausible, seeded, and made of neighbours."""

import functools

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skdistill._neighbors import nearest_rows
from skdistill.augmentation import interpolate_neighbors, munge, swap_neighbors

ALL = [munge, swap_neighbors, interpolate_neighbors]
names = pytest.mark.parametrize("augment", ALL, ids=lambda f: f.__name__)


def frame(n=60, seed=0):
    rng = np.random.default_rng(seed)
    number = rng.normal(size=n)
    number[::7] = np.nan
    return pd.DataFrame(
        {
            "number": number,
            "small": rng.normal(size=n).astype(np.float32),
            "whole": rng.integers(0, 9, n),
            "nullable": pd.array(
                [None if i % 5 == 0 else i % 4 for i in range(n)], dtype="Int64"
            ),
            "flag": rng.random(n) < 0.5,
            "kind": pd.Categorical(
                [None if i % 6 == 0 else "abc"[i % 3] for i in range(n)],
                categories=["c", "b", "a", "never"],
            ),
            "word": [["red", "blue"][i % 2] for i in range(n)],
        }
    )


@names
def test_frames_keep_types_and_valid_values(augment):
    X = frame()
    new = augment(X, 200, random_state=0)
    assert len(new) == 200
    assert_array_equal(new.columns, X.columns)
    assert (new.dtypes == X.dtypes).all()
    for name in ("number", "small", "whole", "nullable"):
        assert new[name].min() >= X[name].min()
        assert new[name].max() <= X[name].max()
    assert set(new["kind"].dropna()) <= {"a", "b", "c"}
    assert set(new["word"]) <= {"red", "blue"}
    assert_array_equal(new.index, np.arange(200))


@names
def test_missing_cells_come_from_missing_cells(augment):
    X = frame()
    new = augment(X, 600, random_state=0)
    for name in X.columns:
        share, before = new[name].isna().mean(), X[name].isna().mean()
        assert (share > 0) == (before > 0)
        assert abs(share - before) < 0.15


@names
@given(seed=st.integers(0, 10**6), n=st.integers(2, 30), p=st.integers(1, 4))
def test_arrays_stay_within_bounds_and_whole(augment, seed, n, p):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.normal(size=(n, p)), rng.integers(-3, 4, n)])
    new = augment(X, 2 * n + 1, random_state=seed)
    assert new.shape == (2 * n + 1, p + 1)
    assert (new >= X.min(axis=0)).all()
    assert (new <= X.max(axis=0)).all()
    assert_array_equal(new[:, -1], np.round(new[:, -1]))


@names
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_arrays_keep_their_type(augment, dtype):
    X = np.random.default_rng(0).integers(0, 200, (30, 3)).astype(dtype)
    assert augment(X, random_state=0).dtype == dtype


@names
def test_a_seed_gives_the_same_rows(augment):
    X = frame()
    first, second = (augment(X, 50, random_state=3) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert not first.equals(augment(X, 50, random_state=4))


@names
def test_each_row_is_used_equally_often(augment):
    # Far apart in pairs: a new row is near the pair that it is made of.
    X = np.repeat(np.arange(10.0) * 1000, 2)[:, None] + np.tile([0.0, 1.0], 10)[:, None]
    settings = {} if augment is munge else {"n_neighbors": 1}
    new = augment(X, 60, random_state=0, **settings)
    pairs = np.round(new[:, 0] / 1000).astype(int)
    assert_array_equal(np.bincount(pairs), np.full(10, 6))


@names
def test_nothing_is_lost_of_object_arrays_and_lists(augment):
    X = np.array([[1, "a"], [2, "b"], [3, "a"], [4, "b"]], dtype=object)
    new = augment(X, 8, random_state=0)
    assert new.dtype == object
    assert set(new[:, 1]) <= {"a", "b"}
    assert augment(X[:, :1].tolist(), 8, random_state=0).shape == (8, 1)


@names
@pytest.mark.parametrize("as_list", [False, True])
def test_texts_of_digits_are_levels(augment, as_list):
    rng = np.random.default_rng(0)
    codes = np.array(["01", "02", "10", None], dtype=object)
    X = np.empty((60, 2), dtype=object)
    X[:, 0], X[:, 1] = codes[rng.integers(0, 4, 60)], rng.normal(size=60)
    new = augment(X.tolist() if as_list else X, 200, random_state=0)
    assert set(new[:, 0]) == set(codes)
    assert all(isinstance(value, float) for value in new[:, 1])
    if augment is not swap_neighbors:
        assert not np.isin(new[:, 1], X[:, 1]).all()


def test_a_list_of_texts_and_numbers_keeps_both():
    X = [["Cork" if i % 2 else "Bergen", float(i)] for i in range(20)]
    new = munge(X, 60, random_state=0)
    assert set(new[:, 0]) == {"Cork", "Bergen"}
    assert {type(value) for value in new[:, 1]} == {float}
    assert new[:, 1].max() <= 19.0


@pytest.mark.parametrize("make", [np.asarray, pd.DataFrame, sp.csr_array])
def test_swapped_values_are_exactly_those_there(make):
    # Neighbouring integers beyond 2 ** 53 are one float.
    large = 2**53 + np.arange(1, 40, 2)
    X = np.column_stack([large, large + 1])
    new = swap_neighbors(make(X), 100, random_state=0)
    new = new.toarray() if sp.issparse(new) else np.asarray(new)
    assert new.dtype == np.int64
    assert np.isin(new[:, 0], X[:, 0]).all()
    assert np.isin(new[:, 1], X[:, 1]).all()


@names
def test_sparse_rows_stay_sparse(augment):
    X = sp.random_array(
        (40, 300), density=0.05, format="csr", rng=np.random.default_rng(0)
    )
    settings = {} if augment is munge else {"n_neighbors": 1}
    new = augment(X, 80, random_state=0, **settings)
    assert isinstance(new, sp.csr_array)
    assert new.shape == (80, 300)
    assert (new.toarray() <= X.max(axis=0).toarray()).all()
    dense = augment(X.toarray(), 80, random_state=0, **settings)
    assert abs((new.toarray() != 0).mean() - (dense != 0).mean()) < 0.03


@names
@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8])
def test_small_types_have_the_neighbours_of_floats(augment, dtype):
    # Two groups, of 150 features each: their squared norms do not fit into a byte.
    rng = np.random.default_rng(0)
    group = np.arange(40)[:, None] % 2
    X = rng.random((40, 300)) < np.where(group == np.arange(300) % 2, 0.95, 0.02)
    numbers = sp.csr_array(X * dtype(3))
    pool = np.arange(40)
    assert_array_equal(
        nearest_rows(numbers, [], pool, 3),
        nearest_rows(numbers.astype(float), [], pool, 3),
    )
    new = augment(numbers, 200, random_state=0)
    assert new.dtype == numbers.dtype
    share = new.toarray().astype(bool)[:, ::2].mean(axis=1)
    assert ((share < 0.2) | (share > 0.7)).all()


@names
@pytest.mark.parametrize("kind", [sp.csr_array, sp.csr_matrix])
def test_indices_of_sparse_rows_keep_their_type(augment, kind):
    """Forests take no indices of 64 bits."""
    X = kind(np.random.default_rng(0).poisson(1.0, size=(30, 4)).astype(float))
    new = augment(X, 60, random_state=0)
    assert {part.dtype for part in (new.indices, new.indptr)} == {X.indices.dtype}


@names
@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_sparse_counts_are_those_of_dense_rows(augment, dtype):
    X = np.random.default_rng(0).poisson(1.0, size=(100, 20)).astype(dtype)
    new = augment(sp.csr_array(X), 4000, random_state=0)
    assert_array_equal(new.data, np.round(new.data))
    dense = augment(X, 4000, random_state=0)
    assert abs(new.mean() - dense.mean()) < 0.05
    assert abs((new.toarray() == 0).mean() - (dense == 0).mean()) < 0.03


@names
def test_a_missing_sparse_cell_makes_no_others_missing(augment):
    X = sp.random_array((40, 6), density=0.5, rng=np.random.default_rng(0)).tocsr()
    X.data[5] = np.nan
    new = augment(X, 200, random_state=0)
    assert 0 < np.isnan(new.data).sum() < 10
    assert np.nanmax(new.data) <= np.nanmax(X.data)


def test_sparse_cells_are_those_of_the_two_rows():
    X = sp.csr_matrix(
        np.array([[1.0, 0, 0, 2], [1, 0, 0, 3], [0, 5, 6, 0], [0, 5, 7, 0]])
    )
    new = swap_neighbors(X, 40, n_neighbors=1, random_state=0)
    assert isinstance(new, sp.csr_matrix)
    rows = {tuple(row) for row in new.toarray()}
    assert rows == {(1, 0, 0, 2), (1, 0, 0, 3), (0, 5, 6, 0), (0, 5, 7, 0)}


def test_swap_proba_at_its_ends():
    X = np.array([[0.0, 0.0], [1.0, 1.0], [50.0, 50.0], [51.0, 51.0]])
    own = swap_neighbors(X, 4, swap_proba=0.0, n_neighbors=1, random_state=0)
    assert_array_equal(np.sort(own, axis=0), X)
    other = swap_neighbors(X, 4, swap_proba=1.0, n_neighbors=1, random_state=0)
    assert_array_equal(np.sort(other, axis=0), X)
    assert_array_equal(munge(X, 4, swap_proba=0.0, random_state=0), own)


def test_munge_draws_from_the_normal_of_its_definition():
    X = np.array([[-1e4], [-1e4 + 0.25], [0.0], [0.25], [1e4], [1e4 + 0.25]])
    new = munge(X, 60_000, swap_proba=1.0, local_variance=2.0, random_state=0)
    # From 0: around its neighbour 0.25, with standard deviation 0.25 / 2.
    around = new[abs(new) < 10]
    expected = np.array([0.0, 0.25])
    assert_allclose(around.mean(), expected.mean(), atol=0.005)
    assert_allclose(around.var(), 0.125**2 + expected.var(), rtol=0.05)


def test_interpolated_rows_are_on_the_segment():
    X = np.array([[0.5, 0.25], [1.5, 2.25]])
    new = interpolate_neighbors(X, 100, random_state=0)
    share = (new - X[0]) / (X[1] - X[0])
    assert_allclose(share[:, 0], share[:, 1])
    assert share.min() >= 0
    assert share.max() <= 1


@pytest.mark.parametrize("n_neighbors", [1, 3])
def test_neighbours_are_those_of_a_slow_search(n_neighbors):
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(300, 2)).astype(np.float32)
    codes = [rng.integers(0, 3, 300)]
    pool = np.sort(rng.choice(300, 120, replace=False))
    found = nearest_rows(numbers, codes, pool, n_neighbors)
    for i in range(300):
        distance = [
            np.inf
            if j == i
            else ((numbers[i] - numbers[j]) ** 2).sum() + (codes[0][i] != codes[0][j])
            for j in pool
        ]
        assert set(found[i]) == set(pool[np.argsort(distance)[:n_neighbors]])


def test_many_rows_take_neighbours_from_a_pool():
    X = np.random.default_rng(0).normal(size=(200, 2))
    new = swap_neighbors(X, 400, swap_proba=1.0, pool_size=10, random_state=0)
    assert len(np.unique(new, axis=0)) <= 10


def test_default_number_of_rows():
    X = np.random.default_rng(0).normal(size=(30, 2))
    assert len(munge(X, random_state=0)) == 90


@names
@pytest.mark.parametrize(
    ("X", "match"),
    [
        (np.zeros((1, 3)), "2 rows at least, got 1"),
        (np.zeros((5, 0)), "must have rows and columns"),
        (["a text", "another"], "must have rows and columns"),
    ],
)
def test_what_is_no_table_is_refused(augment, X, match):
    with pytest.raises(ValueError, match=match):
        augment(X, random_state=0)


@names
def test_parameters_are_checked(augment):
    with pytest.raises(ValueError, match="'n_rows' parameter"):
        augment(np.zeros((5, 2)), 0)


def test_polars_frames():
    polars = pytest.importorskip("polars")
    X = polars.DataFrame({"a": [1.5, 2.0, None], "b": ["x", "y", "x"], "c": [1, 2, 3]})
    new = munge(X, 20, random_state=0)
    assert new.schema == X.schema
    assert new.shape == (20, 3)
    assert set(new["b"]) <= {"x", "y"}


def test_objects_without_hash_or_order_are_copied():
    frame = pd.DataFrame({"a": [[1], ["x"], None], "b": [1, 2, 3]})
    assert set(map(str, munge(frame, 20, random_state=0)["a"])) <= {"[1]", "['x']"} | {
        "None"
    }
    polars = pytest.importorskip("polars")
    objects = polars.Series([1, "x", None], dtype=polars.Object)
    X = polars.DataFrame({"a": objects, "b": [1, 2, 3]})
    new = munge(X, 20, random_state=0)
    assert new.schema == X.schema
    assert set(map(str, new["a"].to_list())) <= {"1", "x", "None"}


def test_constant_and_empty_columns_stay():
    X = np.array([[1.0, np.nan, 2.0], [1.0, np.nan, 3.5], [1.0, np.nan, 9.0]])
    for augment in ALL:
        new = augment(X, 9, random_state=0)
        assert_array_equal(new[:, 0], 1.0)
        assert np.isnan(new[:, 1]).all()


def test_partial_functions_are_what_an_estimator_takes():
    fewer = functools.partial(munge, n_rows=5)
    assert fewer(np.eye(4), random_state=0).shape == (5, 4)
