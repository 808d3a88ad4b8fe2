"""Settings and small data that the tests share."""

import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from scipy.special import softmax
from sklearn.datasets import make_classification

settings.register_profile("skdistill", deadline=None, derandomize=True)
settings.load_profile("skdistill")


def pytest_configure(config):
    """Show a GPU to the tests that are about one only, where only these are run.

    With device="auto" all others would train on it, some of them to the same bytes.
    """
    if not config.option.markexpr.startswith("gpu"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _read_only(*arrays):
    """Tests share the data: what writes to it fails at once."""
    for array in arrays:
        array.setflags(write=False)
    return arrays


def _classification(n_classes, n_samples):
    X, y = make_classification(
        n_samples,
        n_features=4,
        n_informative=4,
        n_redundant=0,
        n_classes=n_classes,
        n_clusters_per_class=1,
        class_sep=0.8,
        flip_y=0.1,
        random_state=1,
    )
    return _read_only(X, y)


@pytest.fixture(scope="session")
def two_classes():
    return _classification(2, 90)


@pytest.fixture(scope="session")
def three_classes():
    return _classification(3, 120)


@pytest.fixture(params=[2, 3], ids=["binary", "multiclass"])
def data(request, two_classes, three_classes):
    return two_classes if request.param == 2 else three_classes


@pytest.fixture(scope="session")
def soft_labels(three_classes):
    """Probabilities for `three_classes` that differ from row to row at random."""
    rng = np.random.default_rng(0)
    X, _ = three_classes
    return _read_only(softmax(X[:, :3] + rng.normal(size=(len(X), 3)), axis=1))[0]


@pytest.fixture
def fit_log(tmp_path):
    """Path of the file in which stub teachers log their fits."""
    return str(tmp_path / "fits.txt")


@pytest.fixture(scope="session")
def frame():
    """A table with missing values and categories, and two classes."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=80)
    colour = rng.choice(["red", "green", "blue"], size=80)
    y = np.where(size + (colour == "red") + rng.normal(size=80) > 0.3, "yes", "no")
    size[::9] = np.nan
    table = pd.DataFrame(
        {
            "size": size,
            "colour": pd.Categorical(colour, categories=["red", "green", "blue"]),
            "count": rng.integers(5, size=80),
        }
    )
    table.loc[::11, "colour"] = None
    return table, y


@pytest.fixture(scope="session")
def texts():
    """Short texts about two subjects."""
    rng = np.random.default_rng(0)
    words = {
        "pets": ["cat", "dog", "fur", "paw", "the", "a"],
        "cars": ["road", "wheel", "motor", "the", "a"],
    }
    y = np.array(["cars", "pets"])[rng.integers(2, size=40)]
    return [" ".join(rng.choice(words[label], size=5)) for label in y], y
