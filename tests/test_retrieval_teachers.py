"""Soft labels for retrieval: which chances of a teacher belong to which label."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    PredefinedSplit,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skdistill import DistillationRetriever
from skdistill._retrieval.teacher import Labelled, teacher_soft_labels

#: A teacher that takes sparse rows.
OWN = DistillationRetriever(dim=4, max_iter=1, random_state=0)


def constant_labels():
    """Inputs; labels of which one is in no row, one in all, one in half of them."""
    X = np.repeat(np.eye(2), 10, axis=0)
    return X, np.column_stack([np.zeros(20), np.ones(20), X[:, 0]]).astype(int)


@pytest.mark.parametrize(
    "teacher",
    [
        RandomForestClassifier(3, bootstrap=False, random_state=0),
        KNeighborsClassifier(1),
        DecisionTreeClassifier(),
        MultiOutputClassifier(DecisionTreeClassifier()),
        OneVsRestClassifier(DecisionTreeClassifier()),
        make_pipeline(StandardScaler(), KNeighborsClassifier(1)),
        GridSearchCV(DecisionTreeClassifier(), {"max_depth": [2]}, cv=KFold(2)),
    ],
    ids=lambda teacher: type(teacher).__name__,
)
@pytest.mark.parametrize("dtype", [int, bool, float])
@pytest.mark.filterwarnings("ignore:Label (not )?[01] is present in all")
def test_a_label_that_no_row_has_gets_no_chance(teacher, dtype):
    X, Y = constant_labels()
    for frozen in (teacher, FrozenEstimator(clone(teacher).fit(X, Y.astype(dtype)))):
        rows = Labelled(X, Y.astype(dtype), np.arange(3))
        soft = teacher_soft_labels([frozen], rows, "in-sample", 3, 0)
        assert_allclose(soft.toarray(), Y)


def test_a_rare_label_gets_no_chance_from_the_fold_without_it():
    X, Y = constant_labels()
    Y[:, 0] = np.arange(20) == 3
    cv = PredefinedSplit(np.repeat([0, 1], 10))
    tree = DecisionTreeClassifier(random_state=0)
    soft = teacher_soft_labels([tree], Labelled(X, Y, np.arange(3)), cv, 3, 0)
    assert_array_equal(soft.toarray()[:10, 0], 0.0)


class Listed(BaseEstimator):
    """Gives chances as a list of arrays; knows what it is told of their classes."""

    def __init__(self, widths, classes=None):
        self.widths = widths
        self.classes = classes

    def fit(self, X, y):
        if self.classes is not None:
            self.classes_ = self.classes
        return self

    def predict_proba(self, X):
        return [np.full((len(X), width), 0.25) for width in self.widths]


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        # Nothing is known of the classes: two are "not" and "yes", one is "yes".
        (Listed([2, 2, 2]), [0.25, 0.25, 0.25]),
        (Listed([1, 1, 1]), [0.25, 0.25, 0.25]),
        (Listed([2, 2, 2], np.arange(3)), [0.25, 0.25, 0.25]),
        (Listed([2, 1, 1], [[0, 1], [0], [1]]), [0.25, 0.0, 0.25]),
        (Listed([2, 1, 2]), r"returned \[1, 2\] columns"),
        (Listed([2, 1, 2], np.arange(3)), r"returned \[1, 2\] columns"),
        (Listed([2, 2, 2], [["no", "yes"]] * 3), r"the classes \['no', 'yes'\] of a"),
    ],
)
def test_chances_of_each_label_are_those_of_class_one(teacher, expected):
    X, Y = constant_labels()
    rows = Labelled(X, Y, np.arange(3))
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=f"The teacher Listed .*{expected}"):
            teacher_soft_labels([teacher], rows, "in-sample", 3, 0)
    else:
        soft = teacher_soft_labels([teacher], rows, "in-sample", 3, 0)
        assert_allclose(soft.toarray(), np.tile(expected, (20, 1)))


# -- rows and folds -----------------------------------------------------------------


@pytest.mark.parametrize(
    "form", [sp.coo_matrix, sp.csc_matrix, sp.dia_matrix, sp.lil_matrix]
)
def test_sparse_inputs_of_every_form_reach_the_teacher(form):
    X, Y = constant_labels()
    csr = sp.csr_matrix(X)
    student = DistillationRetriever(OWN, dim=2, max_iter=1, random_state=0)
    expected = clone(student).fit(csr, Y).predict_proba(csr)
    other = form(csr)
    assert_array_equal(student.fit(other, Y).predict_proba(other), expected)


@pytest.mark.parametrize("y", [np.arange(20) % 2, np.tile(["b", "a"], 10)])
def test_a_splitter_may_look_at_the_classes(y):
    # Folds by the order of the rows would have one class each.
    y = np.sort(y)
    X = np.arange(20.0)[:, None]
    rows = Labelled(X, y, np.unique(y))
    tree = DecisionTreeClassifier(random_state=0)
    soft = teacher_soft_labels([tree], rows, StratifiedKFold(2), 2, 0)
    expected = cross_val_predict(
        tree, X, y, cv=StratifiedKFold(2), method="predict_proba"
    )
    assert_array_equal(soft.toarray(), expected)


@pytest.mark.parametrize("cv", [StratifiedKFold(2), GroupKFold(2)])
def test_a_splitter_that_cannot_split_is_named(cv):
    X, Y = constant_labels()
    student = DistillationRetriever(OWN, cv=cv, dim=2, max_iter=1)
    message = f"cv={type(cv).__name__}.* cannot split 20 rows with sets of labels"
    with pytest.raises(ValueError, match=message):
        student.fit(X, Y)
    message = "cv=GroupKFold.* cannot split 20 rows with one label each"
    with pytest.raises(ValueError, match=message):
        student.set_params(cv=GroupKFold(2)).fit(X, Y[:, 2])
    with pytest.raises(ValueError, match="cv=None cannot split 1 rows"):
        student.set_params(cv=None).fit(X[:1], Y[:1])
    with pytest.raises(ValueError, match=r"cv must have at least one fold, \[\] has"):
        student.set_params(cv=[]).fit(X, Y)
    with pytest.raises(ValueError, match=r"cv=\[5\] cannot split 20 rows"):
        student.set_params(cv=[5]).fit(X, Y)


@pytest.mark.parametrize("teacher", ["bad", 5, [OWN, 0.5]])
def test_what_is_no_teacher_of_labels_is_named(teacher):
    student = DistillationRetriever(teacher, dim=2, max_iter=1)
    with pytest.raises(TypeError, match=r"^teacher must be an estimator .* got "):
        student.fit(*constant_labels())
