"""Do the intervals, bounds, verdicts and rankings of skdistill.diagnostics hold?

Data with known class probabilities is drawn over and over, and what the package prints
is compared with the truth:

1. intervals: how often they hold the truth, at 90 % and 95 %, for probabilities that
   are given and for teachers that are cross-fitted;
2. bounds: how often the risk is above them;
3. the verdict of a distillation gain, for teachers that help, hurt and make no
   difference: coverage, false claims, and power, against the number of rows;
4. the ranking of a teacher report: its rank correlation with the true squared distance
   of the teachers to the true probabilities, and with the true risk of their students.

``--only intervals`` (cross-fits, bounds, verdict, ranking) runs one part.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import _bench
import numpy as np
from _truth import (
    PROBLEMS,
    Problem,
    ball_student,
    binary,
    linear_problem,
    newton,
    random_problem,
    random_teachers,
)
from scipy.special import softmax
from scipy.stats import spearmanr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import RepeatedStratifiedKFold, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from skdistill.datasets import (
    distort_proba,
    draw_labels,
    make_gaussians,
)
from skdistill.diagnostics import (
    bayes_distilled_risk,
    brier_difference,
    class_reliability,
    distilled_risk,
    empirical_risk,
    gain_from_scores,
    linear_log_covering_number,
    linear_loss_bound,
    loss_vectors,
    mixing_diagnostics,
    objective_variance,
    risk_bound,
    teacher_report,
)
from skdistill.students import LinearStudent

LEVELS = (0.9, 0.95)


def truth_rows(args: Any) -> int:
    """Return the number of rows from which the truth is computed."""
    return int(_bench.pick(args, 1_000_000, 1_000_000, 20_000))


def within(share: float, level: float, n_sets: int) -> str:
    """Compare a coverage with its level, by two binomial standard errors."""
    margin = 2 * np.sqrt(level * (1 - level) / n_sets)
    if share < level - margin:
        return "LOW"
    return "exact" if share <= level + margin else "conservative"


def coverage_row(name: Sequence[Any], hits: Any) -> list[Any]:
    """Return a row of the table: hits are of shape (n_sets, n_levels)."""
    hits = np.asarray(hits, dtype=float)
    shares = hits.mean(axis=0)
    judged = [
        within(s, level, len(hits)) for s, level in zip(shares, LEVELS, strict=True)
    ]
    # The worse of the two.
    worst = min(judged, key=["LOW", "exact", "conservative"].index)
    return [*name, *(f"{100 * s:.1f}" for s in shares), worst]


# -- 1: intervals -------------------------------------------------------------------


def _mean(values: Any, weight: Any) -> float:
    return float(np.average(values, weights=weight))


def interval_truths(big: Problem) -> dict[str, float]:
    """Return what the intervals are for, from very many rows and no labels."""
    losses = loss_vectors(big.student)
    briers = [((t - big.bayes) ** 2).sum(axis=1) for t in big.teachers]
    right = big.bayes[np.arange(len(big.y)), big.student.argmax(axis=1)]
    exact = mixing_diagnostics(
        big.bayes, big.teachers[0], big.student, n_samples=100, sample_weight=big.weight
    )
    spread = objective_variance(
        big.bayes, big.student, n_samples=1, sample_weight=big.weight
    )
    return {
        "empirical risk": _mean((big.bayes * losses).sum(axis=1), big.weight),
        "distilled risk": _mean((big.teachers[0] * losses).sum(axis=1), big.weight),
        "Bayes-distilled risk": _mean((big.bayes * losses).sum(axis=1), big.weight),
        "error rate": _mean(1 - right, big.weight),
        "Brier difference": _mean(briers[0] - briers[1], big.weight),
        "class bias": _mean((big.student - big.bayes)[:, 0], big.weight),
        "variance, labels": spread.one_hot.estimate,
        "variance, soft": spread.soft.estimate,
        "variance gap": spread.gap.estimate,
        "bias b": exact.bias.estimate,
        "mixing weight w*": exact.mixing_weight.estimate,
        "break-even N*": exact.break_even.estimate,
    }


def intervals_of(one: Problem, level: float) -> dict[str, Any]:
    """Return the intervals that the package makes of one data set."""
    weight: dict[str, Any] = {"sample_weight": one.weight, "level": level}
    first, second, *_ = one.teachers
    labels = np.arange(one.bayes.shape[1])
    known: dict[str, Any] = {"labels": labels, **weight}
    mixing = mixing_diagnostics(one.y, first, one.student, n_samples=100, **known)
    spread = objective_variance(
        one.bayes, one.student, y=one.y, labels=labels, n_samples=1, **weight
    )
    return {
        "empirical risk": empirical_risk(one.y, one.student, **known),
        "distilled risk": distilled_risk(first, one.student, **weight),
        "Bayes-distilled risk": bayes_distilled_risk(one.bayes, one.student, **weight),
        "error rate": empirical_risk(one.y, one.student, loss="zero_one", **known),
        "Brier difference": brier_difference(one.y, first, second, **known),
        "class bias": class_reliability(one.y, one.student, **known).bias[0],
        "variance, labels": spread.one_hot,
        "variance, soft": spread.soft,
        "variance gap": spread.gap,
        "bias b": mixing.bias,
        "mixing weight w*": mixing.mixing_weight,
        "break-even N*": mixing.break_even,
    }


def coverage_of_functions(n_sets: int, n_rows: int, many: int) -> Iterator[list[Any]]:
    for problem, make in PROBLEMS.items():
        truths = interval_truths(make(many, 1))
        rows = make(n_sets * n_rows, 2)
        hits: dict[str, list[list[bool]]] = {name: [] for name in truths}
        for start in range(0, n_sets * n_rows, n_rows):
            one = rows.part(start, start + n_rows)
            both = [intervals_of(one, level) for level in LEVELS]
            for name, truth in truths.items():
                hits[name].append([truth in found[name] for found in both])
        for name, held in hits.items():
            yield coverage_row((name, problem, n_rows), held)


def coverage_of_reports(n_sets: int, n_rows: int, many: int) -> Iterator[list[Any]]:
    """Accuracies, ranks and simultaneous differences of reports on given teachers."""
    for problem in ("2 classes", "5 classes"):
        make = PROBLEMS[problem]
        big, rows = make(many, 1), make(n_sets * n_rows, 2)
        distance = [((t - big.bayes) ** 2).sum(axis=1).mean() for t in big.teachers]
        ranks = np.argsort(np.argsort(distance)) + 1
        right = [
            big.bayes[np.arange(many), t.argmax(axis=1)].mean() for t in big.teachers
        ]
        hits: dict[str, list[list[bool]]] = {
            "accuracy (Wilson)": [],
            "ranks, all at once": [],
            "lag behind the first, all at once": [],
        }
        for start in range(0, n_sets * n_rows, n_rows):
            one = rows.part(start, start + n_rows)
            held = [
                _report_holds(one, level, right, ranks, distance) for level in LEVELS
            ]
            for name, of_levels in zip(hits, zip(*held, strict=True), strict=True):
                hits[name].append(list(of_levels))
        for name, of_sets in hits.items():
            yield coverage_row((name, problem, n_rows), of_sets)


def _report_holds(
    one: Problem, level: float, right: Any, ranks: Any, distance: Any
) -> tuple[bool, bool, bool]:
    report = teacher_report(
        dict(enumerate(one.teachers)),
        np.zeros((len(one.y), 1)),
        one.y,
        student=cheapest(),
        cv=2,
        level=level,
    )
    best = int(report.best.name)
    return (
        right[best] in report.best.scores.accuracy,
        all(t.ranks[0] <= ranks[int(t.name)] <= t.ranks[1] for t in report.teachers),
        all(
            distance[int(t.name)] - distance[best] in t.behind for t in report.teachers
        ),
    )


def cheapest() -> Any:
    """Return the cheapest student: the reference is not what is measured here."""
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="prior")


def print_intervals(args: Any) -> None:
    n_sets = _bench.pick(args, 1000, 200, 10)
    n_rows = _bench.pick(args, 400, 400, 60)
    rows = [
        *coverage_of_functions(n_sets, n_rows, truth_rows(args)),
        *coverage_of_reports(n_sets, n_rows, truth_rows(args)),
    ]
    print(f"Intervals: share (%) that holds the truth, {n_sets:,} data sets")
    headers = ("interval", "problem", "rows", "at 90 %", "at 95 %", "judged")
    _bench.print_table(headers, rows, left=2)


def fold_teachers() -> dict[str, Any]:
    """Return teachers that are alike and ones that are not."""
    return {
        "bayes": GaussianNB(),
        "discriminant": LinearDiscriminantAnalysis(),
        "shrunk": LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5),
        "tree": DecisionTreeClassifier(max_depth=3, random_state=0),
    }


def true_fold_scores(X: Any, y: Any, new: tuple[Any, Any]) -> list[list[float]]:
    """Return Brier score, log-loss and accuracy of each teacher of the folds."""
    X_new, p_new = new
    found = []
    for train, _ in StratifiedKFold(5).split(X, y):
        for teacher in fold_teachers().values():
            q = teacher.fit(X[train], y[train]).predict_proba(X_new)
            losses = (loss_vectors(q, n) for n in ("brier", "log_loss", "zero_one"))
            found.append([(p_new * of_class).sum(axis=1).mean() for of_class in losses])
    return list(np.reshape(found, (5, -1, 3)).mean(axis=0))


def print_cross_fits(args: Any) -> None:
    """Intervals of reports on teachers that are cross-fitted."""
    n_sets = _bench.pick(args, 1000, 200, 6)
    X_new, _, p_new = make_gaussians(_bench.pick(args, 4000, 4000, 500), random_state=1)
    reports, truths = [], []
    for seed in range(n_sets):
        X, y, _ = make_gaussians(200, random_state=seed + 100)
        truths.append(true_fold_scores(X, y, (X_new, p_new)))
        reports.append(
            [
                teacher_report(
                    fold_teachers(), X, y, student=cheapest(), cv=5, level=level
                )
                for level in LEVELS
            ]
        )
    rows = cross_fit_rows(reports, np.mean(truths, axis=0))
    print(f"Intervals of cross-fitted teachers: share (%) in {n_sets:,} data sets")
    headers = ("interval", "teacher", "rows", "at 90 %", "at 95 %", "judged")
    _bench.print_table(headers, rows, left=2)


def cross_fit_rows(reports: list[list[Any]], truth: Any) -> Iterator[list[Any]]:
    expected = dict(zip(fold_teachers(), truth, strict=True))
    for name, (brier, log_loss, error) in expected.items():
        of_name = [
            [next(t for t in report.teachers if t.name == name) for report in both]
            for both in reports
        ]
        for score, value in (
            ("brier", brier),
            ("log_loss", log_loss),
            ("accuracy", 1 - error),
        ):
            hits = [[value in getattr(t.scores, score) for t in one] for one in of_name]
            yield coverage_row((score.replace("_", "-"), name, 200), hits)
        behind = [
            [
                brier - expected[report.best.name][0] in t.behind
                for t, report in zip(one, both, strict=True)
            ]
            for one, both in zip(of_name, reports, strict=True)
        ]
        yield coverage_row(("behind the first", name, 200), behind)
    order = sorted(expected, key=lambda name: expected[name][0])
    ranks = [
        [
            all(t.ranks[0] <= order.index(t.name) + 1 <= t.ranks[1] for t in r.teachers)
            for r in both
        ]
        for both in reports
    ]
    yield coverage_row(("ranks, all at once", "all", 200), ranks)


# -- 2: bounds ----------------------------------------------------------------------


def finite_class_bounds(one: Problem, level: float, error: float) -> Iterator[Any]:
    """Yield the bounds for a class of students, by objective."""
    for name, target, epsilon in (
        ("labels", one.y, 0.0),
        ("true probabilities", one.bayes, 0.0),
        ("teacher", one.teachers[0], error),
    ):
        yield (
            name,
            [
                risk_bound(
                    target,
                    student,
                    loss="brier",
                    loss_bound=2.0,
                    n_hypotheses=len(STUDENTS),
                    teacher_error=epsilon,
                    labels=np.arange(2),
                    level=level,
                ).bound
                for student in (distort_proba(one.bayes, a) for a in STUDENTS)
            ],
        )


#: The finite class: distortions of the true probabilities.
STUDENTS = (0.3, 0.6, 1.0, 1.8, 4.0)


def print_bounds(args: Any) -> None:
    many = truth_rows(args)
    n_sets = _bench.pick(args, 1000, 200, 10)
    n_rows = _bench.pick(args, 200, 200, 40)
    rows = finite_rows(n_sets, n_rows, many)
    rows += linear_rows(n_sets, 10 * n_rows, many // 5)
    print(
        f"Bounds: share (%) of {n_sets:,} data sets in which a risk is above its bound"
    )
    headers = ("class", "objective", "rows", "level (%)", "broken (%)", "risk", "bound")
    _bench.print_table(headers, rows, left=2)


def finite_rows(n_sets: int, n_rows: int, many: int) -> list[list[Any]]:
    big, small = binary(many, 1), binary(n_sets * n_rows, 2)
    risks = np.array(
        [
            (big.bayes * loss_vectors(distort_proba(big.bayes, a), "brier"))
            .sum(axis=1)
            .mean()
            for a in STUDENTS
        ]
    )
    error = float(np.linalg.norm(big.teachers[0] - big.bayes, axis=1).mean())
    found: dict[tuple[str, float], list[list[float]]] = {}
    for start in range(0, n_sets * n_rows, n_rows):
        for level in LEVELS:
            one = small.part(start, start + n_rows)
            for name, bounds in finite_class_bounds(one, level, error):
                found.setdefault((name, level), []).append(bounds)
    return [
        [
            f"{len(STUDENTS)} students",
            name,
            n_rows,
            100 * level,
            100 * (np.array(bounds) < risks).any(axis=1).mean(),
            risks.mean(),
            np.mean(bounds),
        ]
        for (name, level), bounds in found.items()
    ]


def linear_rows(n_sets: int, n_rows: int, many: int) -> list[list[Any]]:
    """Linear students of norm 1, trained on the rows that the bound is computed on."""
    rows = []
    n_features, beta, rho = 3, 1.0, 4.0
    bound = linear_loss_bound(beta, rho, 2)
    log_number = linear_log_covering_number(
        n_rows, n_features, 2, coef_norm=beta, input_norm=rho
    )
    X_big, _, p_big = linear_problem(many, 1, rho)
    found: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for seed in range(n_sets):
        X, y, p = linear_problem(n_rows, seed + 2, rho)
        for name, target in (("labels", y), ("true probabilities", p)):
            W = ball_student(X, target, beta)
            risk = (
                (p_big * loss_vectors(softmax(X_big @ W.T, axis=1))).sum(axis=1).mean()
            )
            for level in LEVELS:
                value = risk_bound(
                    target,
                    softmax(X @ W.T, axis=1),
                    loss_bound=bound,
                    log_covering_number=log_number,
                    level=level,
                ).bound
                found.setdefault((name, level), []).append((risk, value))
    for (name, level), pairs in found.items():
        risk, value = np.array(pairs).T
        broken = 100 * (risk > value).mean()
        shown = [100 * level, broken, risk.mean(), value.mean()]
        rows.append(["linear, norm 1", name, n_rows, *shown])
    return rows


# -- 3: the verdict -----------------------------------------------------------------


def second_labels(p: Any, seed: int) -> Any:
    """Return soft labels that are as good as the labels: labels of another draw."""
    return np.eye(2)[draw_labels(p, random_state=seed)]


#: Soft labels from true probabilities and a seed.
TEACHERS: dict[str, Callable[[Any, int], Any]] = {
    "p*": lambda p, seed: p,
    "p* distorted, a = 3": lambda p, seed: distort_proba(p, 3.0),
    "p* distorted, a = 8": lambda p, seed: distort_proba(p, 8.0),
    "other labels (no difference)": second_labels,
    "p* half turned": lambda p, seed: 0.6 - 0.2 * p,
}


def split_scores(X: Any, y: Any, soft: Any, splits: Any) -> dict[str, Any]:
    """Score a linear student on labels and a distilled one on each split."""
    size = min(len(train) for train, _ in splits)
    train = np.array([part[:size] for part, _ in splits])
    inputs = np.concatenate([X[train], X[train]])
    w = newton(inputs, np.concatenate([y[train], soft[train, 1]]), penalty=1.0)
    scores: dict[str, list[float]] = {}
    for j, (_, test) in enumerate(splits):
        for who, row in (("labels", j), ("distilled", j + len(splits))):
            z = X[test] @ w[row] * (2 * y[test] - 1)
            scores.setdefault(f"log_loss_{who}", []).append(np.logaddexp(0, -z).mean())
            scores.setdefault(f"accuracy_{who}", []).append((z > 0).mean())
    return scores


def gains(teacher: str, n_rows: int, n_sets: int) -> list[Any]:
    """Return the gains of many data sets, at both levels."""
    found = []
    for seed in range(n_sets):
        X, y, p = make_gaussians(n_rows, random_state=seed)
        soft = TEACHERS[teacher](p, seed + 10**6)
        splitter = RepeatedStratifiedKFold(n_splits=5, n_repeats=3, random_state=seed)
        splits = list(splitter.split(X, y))
        X = np.column_stack([X, np.ones(n_rows)])
        scores = split_scores(X, y, soft, splits)
        found.append(
            [
                gain_from_scores(
                    scores, n_train=0.8 * n_rows, n_test=0.2 * n_rows, level=level
                )
                for level in LEVELS
            ]
        )
    return found


def verdict_row(teacher: str, n_rows: int, n_sets: int) -> list[Any]:
    """Coverage and claims for one teacher; the truth is the mean of all data sets."""
    found = gains(teacher, n_rows, n_sets)
    estimates = np.array([one[0].log_loss.estimate for one in found])
    truth, error = estimates.mean(), estimates.std(ddof=1) / np.sqrt(n_sets)
    if "no difference" in teacher:
        truth = 0.0
    accuracy = np.mean([one[0].accuracy.estimate for one in found])
    held = [
        coverage_row((), [[centre in getattr(g, name) for g in one] for one in found])
        for name, centre in (("log_loss", truth), ("accuracy", accuracy))
    ]
    claims = [one[0].verdict for one in found]
    helps, not_ = (
        100 * np.mean([claim == c for claim in claims])
        for c in ("helps", "does not help")
    )
    wrong = not_ if truth > 0 else helps
    shown = f"{truth:.4f} ± {error:.4f}"
    return [teacher, n_rows, shown, *held[0][:2], *held[1][:2], helps, not_, wrong]


def print_verdicts(args: Any) -> None:
    n_sets = _bench.pick(args, 1000, 200, 6)
    sizes = _bench.pick(args, (40, 100, 300, 1000), (40, 100, 300), (40,))
    rows = [
        verdict_row(teacher, n_rows, n_sets) for teacher in TEACHERS for n_rows in sizes
    ]
    print(
        f"Gain: {n_sets:,} data sets, 10 features, 15 splits; coverage (%) of the "
        "intervals of log-loss and accuracy,\nclaims (%) at the level of 90 %"
    )
    headers = ("soft labels", "rows", "gain in log-loss", "at 90 %", "at 95 %")
    headers += ("acc. 90 %", "acc. 95 %", "helps", "does not", "false")
    _bench.print_table(headers, rows)


# -- 4: the ranking -----------------------------------------------------------------


def true_order(
    make: Callable[..., Any], rows: tuple[Any, Any], report: Any, teachers: Any
) -> tuple[list[float], list[float]]:
    """Return the teachers' squared distance to p*, and their students' risks."""
    X_new, _, p_new = make(4000, random_state=2)
    X, y = rows
    distances, risks = [], []
    for one in report.teachers:
        proba = teachers[one.name].fit(X, y).predict_proba(X_new)
        distances.append(((proba - p_new) ** 2).sum(axis=1).mean())
        student = LinearStudent().fit(X, y, soft_labels=one.proba)
        q = student.predict_proba(X_new)
        risks.append(float(bayes_distilled_risk(p_new, q)))
    return distances, risks


def ranking(n_sets: int, sizes: tuple[int, int]) -> list[list[Any]]:
    """Return the rank correlations of several orders with the two truths."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        make, teachers = random_problem(rng), random_teachers(rng)
        X, y, p = make(int(rng.integers(*sizes)), random_state=1)
        kept = np.bincount(y, minlength=p.shape[1]).min() >= 5
        if not kept:
            continue
        report = teacher_report(teachers, X, y, student=LinearStudent())
        truths = true_order(make, (X, y), report, teachers)
        orders = {
            "Brier score (the report's order)": lambda t: t.scores.brier.estimate,
            "log-loss": lambda t: t.scores.log_loss.estimate,
            "accuracy": lambda t: -t.scores.accuracy.estimate,
            "calibration error": lambda t: t.expected_calibration_error,
        }
        by_order = {n: [key(t) for t in report.teachers] for n, key in orders.items()}
        by_order["(true squared distance)"] = truths[0]
        for name, values in by_order.items():
            pair = tuple(spearmanr(values, truth).statistic for truth in truths)
            found.setdefault(name, []).append(pair)
    return [
        [name, *(_with_error(column) for column in np.array(pairs).T)]
        for name, pairs in found.items()
    ]


def _with_error(values: Any) -> str:
    error = values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} ± {error:.3f}"


def print_ranking(args: Any) -> None:
    n_sets = _bench.pick(args, 300, 40, 3)
    sizes = _bench.pick(args, (150, 800), (150, 800), (150, 160))
    rows = ranking(n_sets, sizes)
    print(
        f"Ranking of 8 teachers, {n_sets} random problems: rank correlation with their "
        "true squared\ndistance to p*, and with the true risk of linear students"
    )
    _bench.print_table(("order by", "distance to p*", "student's risk"), rows)


PARTS = {
    "intervals": print_intervals,
    "cross-fits": print_cross_fits,
    "bounds": print_bounds,
    "verdict": print_verdicts,
    "ranking": print_ranking,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = _bench.parser(__doc__)
    parser.add_argument("--only", choices=sorted(PARTS), help="one part")
    args = parser.parse_args(argv)
    _bench.print_machine(args)
    with warnings.catch_warnings():
        # Of tiny folds; the teachers and students are none the worse.
        warnings.simplefilter("ignore")
        for name, show in PARTS.items():
            if args.only in (None, name):
                show(args)


if __name__ == "__main__":
    main()
