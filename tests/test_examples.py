"""The pages that repeat the paper's experiments run, and their verdicts can fail."""

import importlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples"
NAMES = sorted(
    path.stem
    for path in FOLDER.glob("plot_*.py")
    if "\nEXPERIMENT = " in path.read_text("utf-8")
)
PAGE = ROOT / "doc" / "paper.rst"
RANKING_PAGE = ROOT / "doc" / "benchmarks" / "ranking.rst"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs a checkout")


@pytest.fixture
def example(request, monkeypatch):
    """Import an example as Python does when it runs the file."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module(request.param)
    for name in ("_paper", *NAMES):
        sys.modules.pop(name, None)
    plt.close("all")


@pytest.fixture
def paper(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("_paper")
    sys.modules.pop("_paper", None)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("example", NAMES, indirect=True)
def test_runs_and_prints_its_tables(example, capsys, tmp_path):
    """With two trials: a row for each point and criterion, a figure, a verdict."""
    experiment = example.EXPERIMENT
    figure = tmp_path / "figure.png"
    verdicts = importlib.import_module("_paper").report(
        experiment, ["--n-trials", "2", "--figure", str(figure)]
    )
    printed = capsys.readouterr().out
    assert printed.startswith(f"{experiment.section}: 2 trials.\n")
    lines = [cells(line) for line in printed.splitlines() if line.startswith("|")]
    head = ["quantity", "setting", "paper", "ours", "std. error", "difference"]
    assert lines[0] == head
    n_points = sum(len(curve.settings) for curve in experiment.curves)
    points = lines[2 : 2 + n_points]
    for point in points:
        assert point[4] == "-" or float(point[4]) >= 0
        if point[5] not in ("", "-"):
            difference = float(point[3]) - float(point[2])
            assert float(point[5]) == pytest.approx(difference, abs=2e-3)
    judged = lines[2 + n_points :]
    assert judged[0] == ["criterion", "measured", "verdict", "holds in resamples"]
    assert [row[0] for row in judged[2:]] == [c.text for c in experiment.criteria]
    assert [row[2] == "pass" for row in judged[2:]] == [v.passed for v in verdicts]
    assert figure.stat().st_size > 10_000
    assert experiment.n_trials <= experiment.n_trials_full


def repeated(**curves):
    """Return results of three equal trials."""
    return {name: np.array([curve] * 3) for name, curve in curves.items()}


#: Results that show what the paper says, and changes to them that do not.
ONE_HOT, BAYES = [0.65, 0.66, 0.75, 0.77, 0.78], [0.78, 0.785, 0.785, 0.785, 0.785]
U_SHAPE, PEAK = [7, 6, 5, 6, 7, 8, 9], [0.74, 0.75, 0.76, 0.78, 0.76, 0.75, 0.74]
BRIER = [0.5, 0.4, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
BY_T = [0.70, 0.71, 0.73, 0.72, 0.71, 0.70, 0.69, 0.68, 0.67]
MSE = [0.03, 0.02, 0.01, 0.02, 0.03, 0.04]
RISING, TURNING = [0.6, 0.7, 0.71, 0.72, 0.73, 0.74], [1.2, 1.0, 1.1, 1.2, 1.3, 1.4]
LOG_LOSS = [0.613, 0.324, 0.185, 0.144, 0.186, 0.305, 0.446]
BRIER_13 = [0.053, 0.050, 0.045, 0.042, 0.049, 0.080, 0.133]
LOW_AUC, HIGH_AUC = [0.53, 0.59, 0.72, 0.90, 0.995], [0.57, 0.64, 0.76, 0.92, 1.0]
AUC_LABELS = [0.76, 0.80, 0.85, 0.86, 0.866]
AUC_BAYES = [0.81, 0.84, 0.86, 0.867, 0.868]
STUDENTS = ["linear, 400", "network, 400", "linear, 2000", "network, 2000"]
AS_CLAIMED = {
    "plot_02_bayes_teacher": (
        {"one-hot": ONE_HOT, "Bayes": BAYES},
        [
            {"Bayes": ONE_HOT, "one-hot": BAYES},
            {"one-hot": [0.75, *ONE_HOT[1:]]},
            {"one-hot": [*ONE_HOT[:4], 0.77]},
            {"Bayes": [*BAYES[:4], 0.775]},
        ],
    ),
    "plot_03_class_separation": (
        {
            f"{kind}, {size}": auc
            for size in ("100 in all", "100 a class")
            for kind, auc in (("one-hot", LOW_AUC), ("Bayes", HIGH_AUC))
        },
        [
            {f"Bayes, {size}": [0.57, 0.64, 0.78, 0.92, 1.0]}
            | {f"one-hot, {size}": [*LOW_AUC[:4], 0.98]}
            for size in ("100 in all", "100 a class")
        ],
    ),
    "plot_04_distorted_probabilities": (
        {
            "student accuracy": PEAK,
            "teacher accuracy": [0.785] * 7,
            "teacher log-loss": [0.6, 0.5, 0.46, 0.45, 0.46, 0.5, 0.6],
        },
        [
            {"teacher accuracy": [0.785] * 6 + [0.78]},
            {"student accuracy": [*PEAK[:4], 0.79, *PEAK[5:]]},
            {"teacher log-loss": U_SHAPE},
            {"student accuracy": [0.77, 0.77, 0.77, 0.78, 0.77, 0.77, 0.77]},
        ],
    ),
    "plot_05_temperature": (
        {"Brier": BRIER} | dict.fromkeys(STUDENTS, BY_T),
        [
            {"Brier": [0.2, *BRIER[1:]]},
            {name: [0.74, *BY_T[1:]] for name in STUDENTS},
            {name: [*BY_T[:8], 0.74] for name in STUDENTS},
        ],
    ),
    "plot_06_trees": (
        {"teacher MSE": MSE, "student AUC": [0.84, 0.85, 0.86, 0.85, 0.84, 0.83]},
        [
            {"teacher MSE": [0.03, 0.02, 0.01, 0.02, 0.015, 0.04]},
            {
                "teacher MSE": MSE[::-1],
                "student AUC": [0.8, 0.85, 0.86, 0.85, 0.84, 0.8],
            }
            | {"teacher MSE": [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]},
            {"student AUC": [0.84, 0.85, 0.86, 0.85, 0.84, 0.87]},
        ],
    ),
    "plot_07_capacity": (
        {
            "teacher accuracy": RISING,
            "teacher log-loss": TURNING,
            "student accuracy": [0.6, 0.7, 0.69, 0.68, 0.67, 0.66],
            "student log-loss": TURNING,
        },
        [
            {"teacher accuracy": RISING[::-1]},
            {"teacher log-loss": [1.5, 1.4, 1.3, 1.2, 1.1, 1.0]},
            {"student accuracy": RISING},
            {"student log-loss": [1.5, 1.4, 1.3, 1.2, 1.1, 1.0]},
        ],
    ),
    "plot_08_noisy_logits": (
        {"sigma": [0.87, 0.86, 0.55, 0.52]},
        [{"sigma": [0.87, 0.88, 0.55, 0.52]}, {"sigma": [0.87, 0.86, 0.7, 0.6]}],
    ),
    "plot_09_temperature_gaussians": (
        {"log-loss": LOG_LOSS, "Brier": BRIER_13, "10": PEAK},
        [
            {"log-loss": [0.613, 0.324, 0.144, 0.185, 0.186, 0.305, 0.446]},
            {"log-loss": [0.7, *LOG_LOSS[1:]]},
            {"Brier": [*BRIER_13[:6], 0.2]},
            {"10": [0.78, *PEAK[1:]]},
            {"10": [*PEAK[:6], 0.78]},
        ],
    ),
    "plot_10_ranking_gaussians": (
        {"one-hot": AUC_LABELS, "Bayes": AUC_BAYES},
        [
            {"one-hot": [0.82, *AUC_LABELS[1:]]},
            {"Bayes": [*AUC_BAYES[:3], 0.855, 0.868]},
            {"one-hot": [*AUC_LABELS[:4], 0.861]},
            {"one-hot": [*AUC_LABELS[:4], 0.858], "Bayes": [*AUC_BAYES[:4], 0.86]},
        ],
    ),
    "plot_11_ranking_images": (
        {"labels": [0.905], "teacher": [0.909], "distilled": [0.912]},
        [{"labels": [0.913]}],
    ),
}


def test_every_example_has_doctored_results():
    assert list(AS_CLAIMED) == NAMES


@pytest.mark.parametrize("example", NAMES, indirect=True)
def test_verdicts_pass_on_the_claim_and_fail_without_it(example):
    judge = importlib.import_module("_paper").judge
    criteria = example.EXPERIMENT.criteria
    claimed, doctored = AS_CLAIMED[example.__name__]
    good = judge(criteria, repeated(**claimed))
    assert [v.passed for v in good] == [True] * len(criteria)
    assert all(v.support == 1 for v in good)
    failed = np.zeros(len(criteria), dtype=bool)
    for change in doctored:
        bad = judge(criteria, repeated(**(claimed | change)))
        assert not all(v.passed for v in bad)
        failed |= [not v.passed for v in bad]
    assert failed.all()


def test_full_takes_the_trials_of_the_paper(paper, capsys):
    counts = []

    def run(n_trials, random_state):
        counts.append((n_trials, random_state))
        return {"a": np.zeros((n_trials, 1))}

    experiment = paper.Experiment(
        section="Test",
        run=run,
        curves=[paper.Curve("a", "a", [1], [0.1])],
        criteria=[paper.Criterion("a", lambda r: r["a"].mean(), lambda v: v == 0)],
        plot=lambda results: None,
        n_trials=3,
        n_trials_full=7,
    )
    for argv in ([], ["--full"], ["--n-trials", "2", "--random-state", "5"]):
        paper.report(experiment, argv)
    assert counts == [(3, 0), (7, 0), (2, 5)]
    assert "| a        | 1       | 0.100 | 0.000 | 0.0000     | -0.100     |" in (
        capsys.readouterr().out
    )


def test_the_displays_are_drawn(capsys):
    page = runpy.run_path(str(FOLDER / "plot_12_displays.py"))
    drawn = [value for value in page.values() if hasattr(value, "figure_")]
    assert len(drawn) == 6
    assert "gain over all classes: " in capsys.readouterr().out
    plt.close("all")


def test_estimates_have_bootstrap_standard_errors(paper):
    values = np.random.default_rng(0).normal(size=(400, 2))
    mean, error = paper.estimate(values, np.mean)
    np.testing.assert_array_equal(mean, values.mean(axis=0))
    np.testing.assert_allclose(error, values.std(axis=0) / 20, rtol=0.1)


def test_support_is_the_share_of_resamples_that_pass(paper):
    """A claim that holds on average only does not hold in all resamples."""
    criterion = paper.Criterion(
        "mean above 0", lambda r: r["a"].mean(), lambda v: v > 0
    )
    (verdict,) = paper.judge([criterion], {"a": np.array([5.0, -4.0, -0.5, 0.1])})
    assert verdict.passed
    assert 0.3 < verdict.support < 0.9


def test_runs_from_any_folder(tmp_path):
    """The pages find what they share, wherever they are started."""
    command = [sys.executable, str(FOLDER / "plot_02_bayes_teacher.py")]
    done = subprocess.run(
        [*command, "--n-trials", "2"],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "| criterion" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not PAGE.is_file(), reason="needs the documentation")
@pytest.mark.parametrize("example", NAMES, indirect=True)
def test_the_summary_has_each_criterion(example):
    """The page of verdicts speaks of the criteria that the examples have."""
    page = RANKING_PAGE if "ranking" in example.__name__ else PAGE
    text = re.sub(r"\s+", " ", page.read_text("utf-8"))
    assert f"auto_examples/{example.__name__}" in text
    for criterion in example.EXPERIMENT.criteria:
        assert criterion.text in text
