"""Write the inventories of the objects of other projects that the pages refer to.

Run ``python doc/_inventories/make.py`` after adding a name below. The files have
Sphinx's own format, so nothing has to be fetched to build the documentation.
"""

import zlib
from pathlib import Path

HERE = Path(__file__).parent

PYTHON = {
    "library/functions.html": [
        ("bool", "class"),
        ("float", "class"),
        ("int", "class"),
        ("property", "class"),
    ],
    "library/constants.html": [("False", "data"), ("None", "data"), ("True", "data")],
    "library/stdtypes.html": [
        ("dict", "class"),
        ("list", "class"),
        ("str", "class"),
        ("tuple", "class"),
    ],
    "library/exceptions.html": [
        ("ImportError", "exception"),
        ("KeyError", "exception"),
        ("MemoryError", "exception"),
        ("RuntimeError", "exception"),
        ("TypeError", "exception"),
        ("UserWarning", "exception"),
        ("ValueError", "exception"),
    ],
}
NUMPY = {
    "reference/generated/{}.html": [
        ("numpy.ndarray", "class"),
        ("numpy.random.RandomState", "class"),
    ],
}
SCIPY = {
    "reference/generated/{}.html": [
        ("scipy.optimize.minimize", "function"),
        ("scipy.optimize.minimize_scalar", "function"),
        ("scipy.special.log_softmax", "function"),
        ("scipy.special.logsumexp", "function"),
        ("scipy.special.softmax", "function"),
        ("scipy.special.xlogy", "function"),
    ],
}
SKLEARN = {
    "modules/generated/{}.html": [
        ("sklearn.base.BaseEstimator", "class"),
        ("sklearn.base.ClassifierMixin", "class"),
        ("sklearn.base.TransformerMixin", "class"),
        ("sklearn.base.clone", "function"),
        ("sklearn.calibration.CalibratedClassifierCV", "class"),
        ("sklearn.calibration.CalibrationDisplay", "class"),
        ("sklearn.callback.ProgressBar", "class"),
        ("sklearn.callback.ScoringMonitor", "class"),
        ("sklearn.dummy.DummyClassifier", "class"),
        ("sklearn.ensemble.HistGradientBoostingClassifier", "class"),
        ("sklearn.ensemble.RandomForestClassifier", "class"),
        ("sklearn.ensemble.RandomForestRegressor", "class"),
        ("sklearn.ensemble.StackingClassifier", "class"),
        ("sklearn.ensemble.VotingClassifier", "class"),
        ("sklearn.exceptions.ConvergenceWarning", "class"),
        ("sklearn.exceptions.NotFittedError", "class"),
        ("sklearn.frozen.FrozenEstimator", "class"),
        ("sklearn.linear_model.LogisticRegression", "class"),
        ("sklearn.linear_model.Ridge", "class"),
        ("sklearn.metrics.accuracy_score", "function"),
        ("sklearn.metrics.brier_score_loss", "function"),
        ("sklearn.metrics.log_loss", "function"),
        ("sklearn.metrics.roc_auc_score", "function"),
        ("sklearn.model_selection.GridSearchCV", "class"),
        ("sklearn.model_selection.KFold", "class"),
        ("sklearn.model_selection.ParameterGrid", "class"),
        ("sklearn.model_selection.StratifiedKFold", "class"),
        ("sklearn.model_selection.TunedThresholdClassifierCV", "class"),
        ("sklearn.model_selection.cross_val_predict", "function"),
        ("sklearn.model_selection.cross_validate", "function"),
        ("sklearn.multiclass.OneVsRestClassifier", "class"),
        ("sklearn.preprocessing.MultiLabelBinarizer", "class"),
        ("sklearn.neural_network.MLPClassifier", "class"),
        ("sklearn.pipeline.Pipeline", "class"),
        ("sklearn.preprocessing.StandardScaler", "class"),
        ("sklearn.preprocessing.TargetEncoder", "class"),
        ("sklearn.set_config", "function"),
        ("sklearn.show_versions", "function"),
        ("sklearn.tree.DecisionTreeClassifier", "class"),
    ],
}
TORCH = {
    "generated/{}.html": [
        ("torch.get_num_threads", "function"),
        ("torch.nn.Linear", "class"),
        ("torch.nn.Module", "class"),
        ("torch.nn.Sequential", "class"),
        ("torch.nn.functional.cross_entropy", "function"),
        ("torch.set_num_threads", "function"),
    ],
    "tensors.html": [("torch.Tensor", "class")],
}
INVENTORIES = {
    "python": PYTHON,
    "numpy": NUMPY,
    "scipy": SCIPY,
    "sklearn": SKLEARN,
    "torch": TORCH,
}


def main() -> None:
    """Write one file per project."""
    for project, pages in INVENTORIES.items():
        (HERE / f"{project}.inv").write_bytes(dump(project, pages))


def dump(project: str, pages: dict[str, list[tuple[str, str]]]) -> bytes:
    """Return the inventory of a project in version 2 of Sphinx's format."""
    header = (
        "# Sphinx inventory version 2\n"
        f"# Project: {project}\n"
        "# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    lines = sorted(
        f"{name} py:{role} 1 {page.format(name)}#$ -\n"
        for page, names in pages.items()
        for name, role in names
    )
    return header.encode() + zlib.compress("".join(lines).encode(), 9)


if __name__ == "__main__":
    main()
