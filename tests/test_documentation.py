"""The documentation does what it says: its code runs, and the tests it names exist."""

import re
from pathlib import Path
from textwrap import dedent

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.naive_bayes import GaussianNB

from skdistill import DistillationClassifier
from skdistill.students import MLPStudent

ROOT = Path(__file__).parents[1]
DOC = ROOT / "doc"
PAGES = ["index", *sorted(f"guide/{page.stem}" for page in DOC.glob("guide/*.rst"))]

pytestmark = pytest.mark.skipif(not DOC.is_dir(), reason="needs a checkout")


def code_blocks(page):
    text = (DOC / f"{page}.rst").read_text("utf-8")
    found = re.findall(r"\.\. code-block:: python\n\n((?: +.*\n|\n)+)", text)
    return [dedent(block) for block in found]


@pytest.fixture
def namespace():
    """What the pages take for granted."""
    X, y = make_classification(120, n_features=5, n_informative=3, random_state=0)
    student = MLPStudent((8,), max_iter=10, random_state=0)
    yield {
        "__name__": "documentation",
        "X": X[:90],
        "y": y[:90],
        "U": X[90:],
        "X_train": X[:90],
        "y_train": y[:90],
        "X_test": X[90:],
        "y_test": y[90:],
        "P": np.random.default_rng(0).dirichlet([1, 1], size=90),
        "teacher": GaussianNB(),
        "student": student,
        "clf": DistillationClassifier(GaussianNB(), student).fit(X, y),
    }
    plt.close("all")


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run(page, namespace, tmp_path, monkeypatch):
    blocks = code_blocks(page)
    assert blocks
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)


def test_the_tests_of_the_formulas_exist():
    text = (DOC / "formulas.rst").read_text("utf-8")
    named = re.findall(r"``(test_\w+\.py)::(test_\w+)``", text)
    assert len(named) > 30
    for file, name in named:
        source = (ROOT / "tests" / file).read_text("utf-8")
        assert f"\ndef {name}(" in source, f"{file}::{name}"
