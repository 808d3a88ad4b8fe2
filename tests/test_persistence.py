"""Copies, pickles, fresh processes, and the same bytes for the same seed."""

import copy
import io
import json
import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from stubs import seeded_fits
from torch import nn

from skdistill import DistillationClassifier, SoftLabelTransformer
from skdistill.students import (
    EstimatorStudent,
    LinearStudent,
    MLPStudent,
    ModuleStudent,
)
from skdistill.teachers import EnsembleTeacher

SMALL = MLPStudent((8,), max_iter=5, random_state=0)
WITHOUT_TORCH = {
    "LinearStudent": LinearStudent(),
    "MLPStudent": SMALL,
    "EstimatorStudent": EstimatorStudent(DecisionTreeClassifier(random_state=0)),
    "EnsembleTeacher": EnsembleTeacher([GaussianNB(), LogisticRegression()]),
    "classifier, linear": DistillationClassifier(
        GaussianNB(), LinearStudent(), cv=2, mixing_weight=0.5
    ),
    "classifier, MLP": DistillationClassifier(
        GaussianNB(), SMALL, cv=2, mixing_weight=0.5
    ),
    "classifier, pipeline": DistillationClassifier(
        GaussianNB(), make_pipeline(StandardScaler(), SMALL), cv=2, mixing_weight=0.5
    ),
    "classifier, ridge": DistillationClassifier(
        GaussianNB(), Ridge(), cv=2, mixing_weight=0.5
    ),
    "classifier, teacher kept": DistillationClassifier(
        GaussianNB(), LinearStudent(), cv=2, keep_teacher=True, mixing_weight=0.5
    ),
}
WITH_TORCH = {
    "ModuleStudent": ModuleStudent(
        nn.Linear,
        module_kwargs={"in_features": 4, "out_features": 3},
        max_iter=5,
        random_state=0,
    ),
}
ESTIMATORS = WITHOUT_TORCH | WITH_TORCH

PREDICT = """
import json, pickle, sys
import joblib
with open(sys.argv[1], "rb") as file:
    X, groups = pickle.load(file)
report = {}
for group, paths in groups.items():
    for name, (path, loader) in paths.items():
        if loader == "joblib":
            estimator = joblib.load(path)
        else:
            with open(path, "rb") as file:
                estimator = pickle.load(file)
        report[f"{name}/{loader}"] = estimator.predict_proba(X).tobytes().hex()
    report[group] = "torch" in sys.modules
json.dump(report, sys.stdout)
"""


def run(script, *arguments):
    """Run a script in a fresh interpreter; return what it prints."""
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def fitted(three_classes):
    X, y = three_classes
    names = np.array(["ant", "bee", "cat"])[y]
    return {name: clone(e).fit(X, names) for name, e in ESTIMATORS.items()}


@pytest.fixture(scope="module")
def fresh_process(fitted, three_classes, tmp_path_factory):
    """What one fresh process predicts with all the pickles."""
    folder = tmp_path_factory.mktemp("pickles")
    groups = {"torch without": {}, "torch with": {}}
    for number, (name, estimator) in enumerate(fitted.items()):
        group = groups["torch without" if name in WITHOUT_TORCH else "torch with"]
        for loader in ("pickle", "joblib"):
            path = str(folder / f"{number}.{loader}")
            if loader == "joblib":
                joblib.dump(estimator, path)
            else:
                with open(path, "wb") as file:
                    pickle.dump(estimator, file)
            group[f"{name}|{loader}"] = (path, loader)
    with open(folder / "job.pickle", "wb") as file:
        pickle.dump((np.array(three_classes[0]), groups), file)
    return json.loads(run(PREDICT, str(folder / "job.pickle")))


def through_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


def through_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("through", [through_pickle, through_joblib, copy.deepcopy])
def test_copies_predict_the_same(name, through, fitted, three_classes):
    X, _ = three_classes
    copied = through(fitted[name])
    assert copied is not fitted[name]
    assert_array_equal(copied.predict_proba(X), fitted[name].predict_proba(X))
    assert_array_equal(copied.predict(X), fitted[name].predict(X))
    assert copied.predict(X).dtype.kind == "U"


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("loader", ["pickle", "joblib"])
def test_a_fresh_process_predicts_the_same(
    name, loader, fresh_process, fitted, three_classes
):
    expected = fitted[name].predict_proba(three_classes[0])
    there = bytes.fromhex(fresh_process[f"{name}|{loader}/{loader}"])
    assert there == expected.tobytes()


def test_predicting_does_not_need_torch(fresh_process):
    assert fresh_process["torch without"] is False
    assert fresh_process["torch with"] is True


def test_neither_importing_nor_a_linear_student_needs_torch():
    script = """
import sys
import numpy as np
from sklearn.naive_bayes import GaussianNB
import skdistill, skdistill.losses, skdistill.metrics, skdistill.teachers
from skdistill.students import LinearStudent
print("torch" in sys.modules)
X = np.random.default_rng(0).normal(size=(40, 2))
distilled = skdistill.DistillationClassifier(GaussianNB(), LinearStudent())
distilled.fit(X, X[:, 0] > 0).predict(X)
print("torch" in sys.modules)
"""
    assert run(script).split() == ["False", "False"]


def test_a_soft_label_transformer_survives_a_pickle(three_classes):
    X, y = three_classes
    soft = SoftLabelTransformer(GaussianNB(), temperature="auto").fit(X, y)
    again = through_pickle(soft)
    assert_array_equal(again.transform(X), soft.transform(X))
    assert_array_equal(again.get_feature_names_out(), soft.get_feature_names_out())


def test_a_copy_can_be_fitted_again(fitted, three_classes):
    X, y = three_classes
    for name, estimator in fitted.items():
        again = through_pickle(estimator).fit(X[:, ::-1] * 2, y)
        expected = clone(estimator).fit(X[:, ::-1] * 2, y)
        assert_array_equal(
            again.predict_proba(X), expected.predict_proba(X), err_msg=name
        )


def test_texts_survive_a_pickle(texts):
    X, y = texts
    distilled = DistillationClassifier(
        make_pipeline(TfidfVectorizer(), LogisticRegression()),
        make_pipeline(TfidfVectorizer(), LinearStudent()),
        cv=2,
        mixing_weight=0.5,
    ).fit(X, y)
    again = through_pickle(distilled)
    assert_array_equal(again.predict_proba(X), distilled.predict_proba(X))


# -- sizes -------------------------------------------------------------------------


def size_of(estimator):
    return len(pickle.dumps(estimator))


def test_an_mlp_is_small():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 64)), np.arange(100) % 10
    student = MLPStudent(hidden_layer_sizes=(64,), max_iter=3, random_state=0)
    assert size_of(student.fit(X, y)) < 90_000
    student.set_params(numeric_embedding=None)
    assert size_of(student.fit(X, y)) < 40_000


def test_a_classifier_is_as_small_as_its_student(three_classes):
    X, y = three_classes
    forest = RandomForestClassifier(500, max_depth=3, random_state=0, n_jobs=1)
    distilled = DistillationClassifier(
        forest, SMALL, cv="in-sample", mixing_weight=0.5
    ).fit(X, y)
    assert abs(size_of(distilled) - size_of(distilled.student_)) < 10_000
    kept = clone(distilled).set_params(keep_teacher=True, teacher__n_estimators=50)
    kept.fit(X, y)
    assert len(kept.teacher_.estimators_) == 50
    assert size_of(kept) > size_of(distilled) + 30_000
    assert size_of(through_pickle(kept).teacher_) > 30_000


def test_a_module_student_does_not_carry_rebuilt_modules(three_classes):
    X, y = three_classes
    student = clone(WITH_TORCH["ModuleStudent"]).fit(X, y)
    before = size_of(student)
    student.predict_proba(X)
    assert size_of(student) == before


# -- the same seed -----------------------------------------------------------------


SEEDED = """
import json, sys
sys.path.insert(0, sys.argv[1])
from stubs import seeded_fits
json.dump(seeded_fits(), sys.stdout)
"""


@pytest.fixture(scope="module")
def digests():
    return seeded_fits()


def test_the_same_seed_gives_the_same_bytes_twice(digests):
    assert len(set(digests.values())) == 3
    assert seeded_fits() == digests


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_same_seed_gives_the_same_bytes_in_jobs(n_jobs, digests):
    assert seeded_fits(n_jobs=n_jobs) == digests


def test_the_same_seed_gives_the_same_bytes_in_another_process(digests):
    output = run(SEEDED, os.path.dirname(__file__))
    assert json.loads(output) == digests


def test_another_seed_gives_another_student(three_classes):
    X, y = three_classes
    proba = [
        DistillationClassifier(GaussianNB(), cv=2, mixing_weight=1.0, random_state=seed)
        .fit(X, y)
        .predict_proba(X)
        for seed in (0, 1)
    ]
    assert (proba[0] != proba[1]).any()
