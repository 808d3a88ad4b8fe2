"""Data for retrieval: the repository's text format, synthetic data, soft labels."""

import gzip

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit

from skdistill import _extreme_text
from skdistill.datasets import dump_extreme_text, load_extreme_text, make_retrieval
from skdistill.teachers import average_soft_labels, ranked_soft_labels

few = settings(max_examples=40, deadline=None)

# -- the text format ---------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    def write(text, name="data.txt"):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return write


def test_rows_of_all_kinds_are_read(write):
    path = write(
        "6 4 3\n"
        "0,2 1:0.5 3:2e-1\n"
        " 0:1\n"  # no labels
        "1\n"  # no features
        "\n"  # neither
        "2,0,2 3:1 0:2 3:0.5\n"  # unsorted and repeated
        "0:7 2:-1\n"  # no labels, and no blank that says so
    )
    X, Y = load_extreme_text(path)
    assert X.dtype == np.float32
    assert Y.dtype == np.int32
    assert_array_equal(
        X.toarray(),
        np.float32(
            [
                [0, 0.5, 0, 0.2],
                [1, 0, 0, 0],
                [0, 0, 0, 0],
                [0, 0, 0, 0],
                [2, 0, 0, 1.5],
                [7, 0, -1, 0],
            ]
        ),
    )
    assert_array_equal(
        Y.toarray(),
        [[1, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0]],
    )
    assert X.has_sorted_indices
    assert Y.has_canonical_format


def test_blank_lines_at_the_end_are_no_rows(write):
    X, _ = load_extreme_text(write("1 2 2\n0 1:1\n\n\n"))
    assert X.shape == (1, 2)
    # ... but here the first is one.
    X, _ = load_extreme_text(write("2 2 2\n0 1:1\n\n\n"))
    assert X.shape == (2, 2)


def test_windows_line_ends_and_a_missing_last_one(write):
    X, Y = load_extreme_text(write("2 2 2\r\n0 1:1\r\n 0:2"))
    assert_array_equal(X.toarray(), [[0, 1], [2, 0]])
    assert_array_equal(Y.toarray(), [[1, 0], [0, 0]])


def test_no_rows(write):
    X, Y = load_extreme_text(write("0 4 3\n"))
    assert X.shape == (0, 4)
    assert Y.shape == (0, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the numbers of rows, features and labels"),
        ("0,2 1:0.5\n", "line 1: expected the numbers"),
        ("2 4 3\n0 1:1\n", "says 2 rows, but there are 1"),
        ("1 4 3\n0 1:1\n0 1:1\n", "says 1 rows, but there are 2"),
        ("2 4 3\n0 1:1\n3 1:1\n", "line 3: label 3, but the first line says .* are 3"),
        ("2 4 3\n0 1:1\n2 4:1\n", "line 3: feature 4, but the first line says"),
        ("2 4 3\n0 1:1\n0 1:one\n", "line 3: expected numbers; got '1:one'"),
        ("2 4 3\n0 1:1\n0 1:1:2 3\n", "line 3: expected feature:value pairs"),
        ("2 4 3\n0 1:1\n0 -1:1\n", "line 3: expected feature:value pairs"),
        ("2 4 3\n0 1:1\n0 1\n", "line 3: expected feature:value pairs"),
        ("2 4 3\n0 1:1\n0,,1 1:1\n", "line 3: expected labels"),
        ("2 4 3\n0 1:1\nsport 1:1\n", "line 3: expected labels"),
        ("2 4 3\n0 1:1\n0 1:nan\n", "line 3: a value is not finite"),
    ],
)
@pytest.mark.parametrize("n_lines", [1, 4096])
def test_errors_name_the_line(write, monkeypatch, text, message, n_lines):
    monkeypatch.setattr(_extreme_text, "N_LINES", n_lines)
    with pytest.raises(ValueError, match=message):
        load_extreme_text(write(text))


@st.composite
def matrices(draw, n_columns):
    n_rows = draw(st.shared(st.integers(0, 6), key="rows"))
    values = st.sampled_from([0.0, 0.0, 0.1, 1 / 3, -2.5e-7, 3e20])
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return draw(arrays(dtype, (n_rows, n_columns), elements=values.map(dtype)))


@few
@given(matrices(5), matrices(3), st.sampled_from(["d.txt", "d.txt.gz"]), st.data())
def test_what_is_written_is_read_as_it_was(tmp_path_factory, X, Y, name, data):
    path = tmp_path_factory.mktemp("written") / name
    blocks = pytest.MonkeyPatch()
    blocks.setattr(_extreme_text, "N_LINES", data.draw(st.integers(1, 7)))
    with blocks.context():
        dump_extreme_text(sp.csr_array(X), sp.csr_matrix(Y), path)
        X_read, Y_read = load_extreme_text(path, dtype=X.dtype)
    blocks.undo()
    assert [file.name for file in path.parent.iterdir()] == [name]
    assert_array_equal(X_read.toarray(), X)
    assert_array_equal(Y_read.toarray(), Y != 0)


def test_booleans_are_written_as_numbers(tmp_path):
    X = np.array([[True, False], [True, True]])
    for form in (np.asarray, sp.csr_matrix):
        dump_extreme_text(form(X), form(X), tmp_path / "data.txt")
        X_read, Y_read = load_extreme_text(tmp_path / "data.txt")
        assert_array_equal(X_read.toarray(), X)
        assert_array_equal(Y_read.toarray(), X)


def test_packed_files_are_packed(tmp_path):
    path = tmp_path / "data.txt.gz"
    dump_extreme_text([[1.0, 0.5]], [[1]], path)
    assert gzip.decompress(path.read_bytes()) == b"1 2 1\n0 0:1.0 1:0.5\n"


def test_matrices_of_different_length_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="X has 2 rows, but Y has 1"):
        dump_extreme_text(np.eye(2), np.ones((1, 3)), tmp_path / "data.txt")
    with pytest.raises(ValueError, match="contains NaN"):
        dump_extreme_text([[np.nan]], [[1]], tmp_path / "data.txt")
    assert not list(tmp_path.iterdir())


# -- synthetic data ----------------------------------------------------------------


def test_labels_have_the_probabilities():
    X, Y, proba = make_retrieval(3000, 300, 100, labels_per_row=8, random_state=0)
    assert_allclose(np.sqrt(X.multiply(X).sum(axis=1)), 1.0, rtol=1e-5)
    # Sums over labels, rows and blocks of equal probability, in standard errors.
    drawn = Y.toarray()
    variance = proba * (1 - proba)
    for axis in (0, 1):
        z = (drawn - proba).sum(axis=axis) / np.sqrt(variance.sum(axis=axis))
        assert np.abs(z).max() < 5.0
        assert 0.85 < np.sqrt(np.mean(z * z)) < 1.15
    edges = np.quantile(proba, np.linspace(0, 1, 11)[1:-1])
    bins = np.digitize(proba, edges).ravel()
    gap = np.bincount(bins, (drawn - proba).ravel())
    assert (np.abs(gap) < 4 * np.sqrt(np.bincount(bins, variance.ravel()))).all()


def test_the_probabilities_are_a_function_of_the_documents():
    # Equal documents have equal probabilities; with no strength all rows have.
    X, _, proba = make_retrieval(3000, 4, 20, words_per_row=2, random_state=0)
    _, first, group = np.unique(
        X.toarray(), axis=0, return_index=True, return_inverse=True
    )
    assert len(first) < 20
    assert_allclose(proba, proba[first][group.ravel()], rtol=1e-4)
    _, _, flat = make_retrieval(50, 40, 20, strength=0.0, random_state=0)
    assert_allclose(flat, np.broadcast_to(flat[0], flat.shape), rtol=1e-5)


@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_labels_are_as_frequent_as_asked(skew):
    _, Y, proba = make_retrieval(
        500, 300, 200, labels_per_row=6.0, skew=skew, random_state=1
    )
    assert_allclose(proba.sum() / 500, 6.0, rtol=1e-3)
    frequency = proba.mean(axis=0)
    assert frequency.max() <= 0.5 + 1e-3
    expected = np.arange(1, 201) ** -skew
    uncut = frequency < 0.45
    ratio = frequency[uncut] / expected[uncut]
    assert_allclose(ratio, ratio.mean(), rtol=1e-3)
    assert Y.dtype == np.int32


def test_same_seed_same_data_other_seed_other_data():
    first, second, other = (
        make_retrieval(50, 40, 20, random_state=seed) for seed in (0, 0, 1)
    )
    for a, b in zip(first[:2], second[:2], strict=True):
        assert_array_equal(a.toarray(), b.toarray())
    assert_array_equal(first[2], second[2])
    assert np.abs(first[2] - other[2]).max() > 0.1


def test_wrong_parameters_are_named():
    with pytest.raises(ValueError, match=r"labels_per_row=10.0 must be below half"):
        make_retrieval(n_labels=20, labels_per_row=10.0)
    with pytest.raises(ValueError, match="'n_factors' parameter"):
        make_retrieval(n_factors=0)


# -- soft labels -------------------------------------------------------------------

PAIRS = [[(2, 0.9), (0, 0.25)], [], [(1, 0.5), (3, 0.4), (0, 0.3)]]
DENSE = np.array([[0.25, 0, 0.9, 0], [0, 0, 0, 0], [0.3, 0.5, 0, 0.4]])


def arrays_of_topk():
    labels = np.array([[2, 0, -1], [-1, -1, -1], [1, 3, 0]])
    scores = np.array([[0.9, 0.25, 9.0], [9.0, 9.0, 9.0], [0.5, 0.4, 0.3]])
    return labels, scores


@pytest.mark.parametrize(
    "predictions",
    [PAIRS, sp.csr_array(DENSE), sp.csc_matrix(DENSE), arrays_of_topk()],
    ids=["pairs", "csr", "csc", "topk"],
)
def test_forms_of_predictions_give_the_same(predictions):
    soft_labels = ranked_soft_labels(predictions, n_labels=4)
    assert soft_labels.dtype == np.float32
    assert soft_labels.has_sorted_indices
    assert_allclose(soft_labels.toarray(), DENSE, rtol=1e-6)
    best = ranked_soft_labels(predictions, n_labels=4, top_k=1)
    assert_allclose(best.toarray(), DENSE * (DENSE.max(axis=1)[:, None] == DENSE))
    logits = ranked_soft_labels(predictions, n_labels=4, scores="logit")
    assert_allclose(logits.toarray(), expit(DENSE) * (DENSE > 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ranked_soft_labels(PAIRS), "n_labels=None"),
        (lambda: ranked_soft_labels(PAIRS, n_labels=3), "name label 3, but n_labels=3"),
        (lambda: ranked_soft_labels([[(-1, 0.5)]], n_labels=3), "name label -1"),
        (lambda: ranked_soft_labels([[(0, 1.5)]], n_labels=3), "no probabilities"),
        (lambda: ranked_soft_labels([[(0, -0.5)]], n_labels=3), "no probabilities"),
        (lambda: ranked_soft_labels([[(0, np.nan)]], n_labels=3), "not finite"),
        (
            lambda: ranked_soft_labels(sp.csr_matrix(DENSE), n_labels=9),
            "n_labels=9, but",
        ),
        (lambda: ranked_soft_labels([[(0, 0.5), (0, 0.2)]], n_labels=3), "twice"),
        (
            lambda: ranked_soft_labels((DENSE[:, :2], DENSE[:, :2]), n_labels=4),
            "must hold integers",
        ),
        (
            lambda: ranked_soft_labels((np.ones((2, 2), int), DENSE), n_labels=4),
            r"got shape \(2, 2\)",
        ),
        (lambda: ranked_soft_labels(PAIRS, n_labels=4, scores="odd"), "scores='odd'"),
        (lambda: ranked_soft_labels(PAIRS, n_labels=4, top_k=0), "top_k=0"),
        (lambda: average_soft_labels([]), "one matrix or more"),
        (lambda: average_soft_labels([np.ones((2, 2)), np.ones((2, 3))]), "shapes"),
        (
            lambda: average_soft_labels([DENSE, DENSE], weights=[1]),
            "be 2 finite numbers",
        ),
        (lambda: average_soft_labels([DENSE], weights=[0]), "must be 1 finite"),
        (lambda: average_soft_labels([DENSE], weights=[np.inf]), "must be 1 finite"),
        (lambda: average_soft_labels([DENSE] * 2, weights=[2, -1]), "not negative"),
        (
            lambda: average_soft_labels(DENSE),
            r"soft_labels must .*\(n_samples, n_labels",
        ),
        (lambda: average_soft_labels([DENSE], weights=["a"]), "^weights: "),
        (lambda: average_soft_labels(5), "^soft_labels: "),
        (lambda: ranked_soft_labels(5, n_labels=3), "^predictions: "),
        (lambda: ranked_soft_labels([[0.5]], n_labels=3), "^predictions: "),
        (lambda: ranked_soft_labels(PAIRS, n_labels="4"), "n_labels='4' must be"),
        (lambda: ranked_soft_labels(PAIRS, n_labels=4.0), "n_labels=4.0 must be"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_the_average_is_that_of_dense_matrices():
    rng = np.random.default_rng(0)
    dense = rng.random((3, 5, 6)) * (rng.random((3, 5, 6)) < 0.4)
    sparse = [sp.csr_array(matrix) for matrix in dense]
    mean = average_soft_labels(sparse)
    assert_allclose(mean.toarray(), dense.mean(axis=0), rtol=1e-6)
    weights = [1.0, 0.0, 3.0]
    weighted = average_soft_labels(sparse, weights=weights)
    expected = np.average(dense, axis=0, weights=weights)
    assert_allclose(weighted.toarray(), expected, rtol=1e-6)
