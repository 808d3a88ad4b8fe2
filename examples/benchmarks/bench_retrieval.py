"""Does a teacher help a student that ranks many labels, and beside which libraries?

Two tables:

- "distil": a wide teacher, narrow students on labels, with standard and with double
  (negative-aware) distillation, and with the unified objective: double distillation on
  mined negatives. Table 1 of Menon et al. (2021), in kind. Always on synthetic
  documents whose probabilities are known.
- "peers": students beside omikuji, napkinXC and PECOS, undistilled and distilled from
an
  out-of-fold ensemble of them, on the sets yso4k and yso25k.

The folder in the environment variable SKDISTILL_DATA, or `--data`, with a `load.py`,
has the real sets. The libraries live in environments of their own (how they are made
stands in ``retrieval_peers.py``), which `--peer-python` names, once for each:

    python examples/benchmarks/bench_retrieval.py --data data --results results \\
        --peer-python /tmp/peers/bin/python --peer-python /tmp/pecos/bin/python

`--train` and `--test` take files in the text format of the Extreme Classification
Repository instead, such as those of AmazonCat-13K: both tables are made of them. With
`--results` each number is kept in the folder, and a run that was broken off goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import _bench
import numpy as np
import scipy.sparse as sp
from retrieval_peers import N_SINGLE, Clock

from skdistill import DistillationRetriever
from skdistill.datasets import load_extreme_text, make_retrieval
from skdistill.metrics import inverse_propensities, precision_at_k, psp_at_k
from skdistill.teachers import average_soft_labels, ranked_soft_labels

PEERS = {
    "omikuji": "omikuji",
    "pecos": "pecos",
    "napkinxc-plt": "napkinxc",
    "napkinxc-br": "napkinxc",
}
#: One-vs-rest takes minutes where a tree takes seconds: only where it is asked for.
DEFAULT_PEERS = ("omikuji", "pecos", "napkinxc-plt")
#: napkinXC added nothing to these two, by the scores of the training rows out of fold.
ENSEMBLE = ("omikuji", "pecos")
N_FOLDS = 8
FACTS = {
    "training s": "seconds",
    "CPU s": "cpu_seconds",
    "ms a row": "ms_batch",
    "ms alone": "ms_single",
    "MB": "mb",
}
SCORES = ("P@1", "P@3", "P@5", "PSP@1", "PSP@5")
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Data:
    """A problem: training and test rows, and Bayes probabilities where known."""

    name: str
    X_train: Any
    Y_train: Any
    X_test: Any
    Y_test: Any
    bayes_proba: Any = None

    def scores(self, ranking: Any) -> dict[str, float]:
        """Return the scores of labels that were ranked for the test rows."""
        weight = inverse_propensities(self.Y_train)
        found = {f"P@{k}": precision_at_k(self.Y_test, ranking, k=k) for k in (1, 3, 5)}
        for k in (1, 5):
            found[f"PSP@{k}"] = psp_at_k(self.Y_test, ranking, weight, k=k)
        if self.bayes_proba is not None:
            best = np.take_along_axis(self.bayes_proba, ranking[:, :1], 1)
            found["E[P@1]"] = float(best.mean())
        return {name: 100 * value for name, value in found.items()}


class Results:
    """Numbers that were computed, in a file of the folder if there is one."""

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / "results.jsonl"
        self.kept: dict[str, Any] = {}
        if self.path is not None and self.path.is_file():
            for line in self.path.read_text("utf-8").splitlines():
                self.kept.update(json.loads(line))

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return what is kept under a key, computed if it is not there yet."""
        if key not in self.kept:
            start = perf_counter()
            self.kept[key] = compute()
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({key: self.kept[key]}) + "\n")
            spent = perf_counter() - start
            print(f"  {key}: {spent:.1f} s", file=sys.stderr, flush=True)
        return self.kept[key]


# -- the students ------------------------------------------------------------------

#: Training of all students of the first table, and of their teacher. They were settled
#: on a seed that is not among those of the benchmark. The teacher scores the rows that
#: it was fitted on, as there.
STUDENT = {"residual": 0, "dropout": 0.0, "max_iter": 20, "learning_rate_init": 0.2}
TEACHER = {"residual": 0, "dropout": 0.5, "max_iter": 9}
SOFTENING = {"temperature": 0.5}
DOUBLE = {"objective": "double", "negative_weights": "sigmoid"}
METHODS = ("labels", "mined", "standard", "double", "unified")
#: As the default of the estimator: beyond so many labels, all methods draw so many.
FULL_LABELS, N_DRAWN = 4096, 1024
#: No more steps than this in training, but two passes over the rows at least.
MAX_STEPS, MIN_PASSES, BATCH_SIZE = 6000, 2, 256


def passes(wanted: int, n_rows: int) -> int:
    """Return how often a training goes over the rows, fewer times over very many."""
    affordable = MAX_STEPS // -(-n_rows // BATCH_SIZE)
    return min(wanted, max(affordable, MIN_PASSES))


def student(method: str, n_labels: int, **params: Any) -> DistillationRetriever:
    """Return an unfitted student of a method.

    Labels alone; the same with mined negatives; standard distillation; double
    distillation; and with mined negatives as well, the unified objective.
    """
    chosen: dict[str, Any] = dict(STUDENT)
    if method not in ("labels", "mined"):
        chosen |= SOFTENING
    if method in ("double", "unified"):
        chosen |= DOUBLE
    many = n_labels > FULL_LABELS
    chosen |= {"n_negatives": N_DRAWN if many else None}
    if method in ("mined", "unified"):
        # A quarter of the labels is drawn, or as many as for the other methods; of a
        # hundred drawn the hardest forty are kept.
        drawn = N_DRAWN if many else max(n_labels // 4, 8)
        kept = 4 * N_DRAWN // 10 if many else max(n_labels // 10, 4)
        chosen |= {"n_negatives": drawn, "n_hard_negatives": kept}
    return DistillationRetriever(**{**chosen, **params})


def ranking_of(model: DistillationRetriever, X: Any, k: int = 5) -> Any:
    """Return the columns of the labels ranked first."""
    labels, _ = model.predict_topk(X, k)
    return np.searchsorted(model.classes_, labels)


# -- Table 1 in kind ---------------------------------------------------------------


def synthetic(args: argparse.Namespace, n_labels: int, seed: int) -> Data:
    """Return synthetic documents, half of them for the test."""
    X, Y, proba = make_retrieval(
        2 * args.rows,
        args.words,
        n_labels,
        n_factors=20,
        strength=4.0,
        skew=0.5,
        random_state=seed,
    )
    n = args.rows
    return Data(f"synthetic {n_labels:,}", X[:n], Y[:n], X[n:], Y[n:], proba[n:])


def distil_cells(
    args: argparse.Namespace, results: Results, make: Callable[[int], Data], name: str
) -> dict[tuple[str, int, int], dict[str, float]]:
    """Return the scores by method, dimension and seed."""
    found = {}
    for seed in args.seeds:
        problem = _Problem(args, make, seed)
        key = f"distil/{name}/{args.rows}/{{}}/{{}}/{seed}"
        teacher = key.format("teacher", args.teacher_dim)
        found["teacher", args.teacher_dim, seed] = results.get(
            teacher, problem.teacher_scores
        )
        for dim in args.dims:
            for method in args.methods:
                compute = partial(problem.student_scores, method, dim)
                cell = results.get(key.format(method, dim), compute)
                found[method, dim, seed] = cell
    return found


class _Problem:
    """The data of a seed and the teacher's soft labels, made when they are needed."""

    def __init__(
        self, args: argparse.Namespace, make: Callable[[int], Data], seed: int
    ) -> None:
        self.args, self.make, self.seed = args, make, seed
        self._data: Data | None = None
        self._teacher: DistillationRetriever | None = None
        self._soft_labels: sp.csr_matrix | None = None

    @property
    def data(self) -> Data:
        if self._data is None:
            self._data = self.make(self.seed)
        return self._data

    @property
    def soft_labels(self) -> sp.csr_matrix:
        if self._soft_labels is None:
            X, n_labels = self.data.X_train, self.data.Y_train.shape[1]
            labels, scores = self.teacher.predict_topk(X, self.args.top_k)
            columns = np.searchsorted(self.teacher.classes_, labels)
            self._soft_labels = ranked_soft_labels((columns, scores), n_labels=n_labels)
        return self._soft_labels

    @property
    def teacher(self) -> DistillationRetriever:
        if self._teacher is None:
            X = self.data.X_train
            chosen = {**TEACHER, "max_iter": passes(TEACHER["max_iter"], X.shape[0])}
            teacher = DistillationRetriever(
                dim=self.args.teacher_dim, random_state=self.seed, **chosen
            )
            self._teacher = teacher.fit(X, self.data.Y_train)
        return self._teacher

    def teacher_scores(self) -> dict[str, float]:
        return self.data.scores(ranking_of(self.teacher, self.data.X_test))

    def student_scores(self, method: str, dim: int) -> dict[str, float]:
        data = self.data
        n_rows, n_labels = data.Y_train.shape
        model = student(method, n_labels, dim=dim, random_state=self.seed)
        model.set_params(max_iter=passes(model.max_iter, n_rows))
        alone = method in ("labels", "mined")
        soft = {} if alone else {"soft_labels": self.soft_labels}
        model.fit(data.X_train, data.Y_train, **soft)
        return data.scores(ranking_of(model, data.X_test))


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(np.mean(values)), float(error)


def print_distil(
    args: argparse.Namespace, name: str, cells: dict[tuple[str, int, int], Any]
) -> None:
    """Print the scores, their standard errors, and the differences."""
    print(f"{name}: {len(args.seeds)} seeds, mean ± standard error")
    columns = list(next(iter(cells.values())))
    rows = []
    kinds = [("teacher", args.teacher_dim)]
    kinds += [(method, dim) for dim in args.dims for method in args.methods]
    for method, dim in kinds:
        scores = [cells[method, dim, seed] for seed in args.seeds]
        stats = [mean_and_error([s[column] for s in scores]) for column in columns]
        rows.append([method, dim, *(f"{m:.1f} ± {e:.1f}" for m, e in stats)])
    _bench.print_table(["method", "dim", *columns], rows)
    _print_differences(args, cells, columns)


def _print_differences(
    args: argparse.Namespace, cells: dict[tuple[str, int, int], Any], columns: list[str]
) -> None:
    """Print paired differences of methods on the same seeds."""
    pairs = [
        ("mined", "labels"),
        ("standard", "labels"),
        ("double", "labels"),
        ("double", "standard"),
        ("unified", "labels"),
        ("unified", "double"),
    ]
    pairs = [pair for pair in pairs if set(pair) <= set(args.methods)]
    rows = []
    for dim in args.dims:
        gap = [
            cells["teacher", args.teacher_dim, s]["P@1"]
            - cells["labels", dim, s]["P@1"]
            for s in args.seeds
        ]
        for better, worse in pairs:
            stats = [
                mean_and_error(
                    [
                        cells[better, dim, s][column] - cells[worse, dim, s][column]
                        for s in args.seeds
                    ]
                )
                for column in columns
            ]
            texts = (f"{m:+.2f} ± {e:.2f}" for m, e in stats)
            lead = f"{np.mean(gap):+.1f}"
            rows.append([f"{better} - {worse}", dim, lead, *texts])
    headers = ["difference", "dim", "teacher's lead, P@1", *columns]
    _bench.print_table(headers, rows)


# -- beside other libraries --------------------------------------------------------

#: What a student distilled from the ensemble has beside the defaults: half the weight,
#: as the ensemble is no better than the student. Chosen on held-out rows.
DISTILLED: dict[str, Any] = {"mixing_weight": 0.25}


def save_folder(data: Data, folder: Path) -> Path:
    """Write the matrices for the libraries' own Python."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("X_train", "Y_train", "X_test", "Y_test"):
        path = folder / f"{name}.npz"
        if not path.is_file():
            matrix = sp.csr_matrix(getattr(data, name), dtype=np.float32)
            matrix.sort_indices()
            sp.save_npz(path, matrix)
    return folder


def python_of(peer: str, pythons: Sequence[str]) -> str | None:
    """Return the Python, of those named, that has a library."""
    for python in pythons:
        command = [python, "-c", f"import {PEERS[peer]}"]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return python
    return None


def run_peer(
    peer: str, args: argparse.Namespace, folder: Path, *, folds: int = 0
) -> Path | None:
    """Run a library on the data; return the file of what it found, None without it."""
    out = folder / f"{peer}{f'-{folds}-folds' if folds else ''}.npz"
    if out.is_file():
        return out
    python = python_of(peer, args.peer_python)
    if python is None:
        return None
    script = str(FOLDER / "retrieval_peers.py")
    command = [python, script, peer, str(folder), str(out), "--folds", str(folds)]
    command += ["--threads", str(args.threads), "--top-k", str(args.top_k)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    print(f"  {done.stdout.splitlines()[-1]}", file=sys.stderr, flush=True)
    return out


def peer_scores(path: Path) -> sp.csr_matrix:
    """Return the scores in a library's file."""
    with np.load(path) as file:
        parts = (file["data"], file["indices"], file["indptr"])
        return sp.csr_matrix(parts, shape=tuple(file["shape"]))


def peer_row(data: Data, path: Path) -> dict[str, float]:
    """Return scores, times and size of a library."""
    with np.load(path) as file:
        facts = {name: float(file[name]) for name in FACTS.values()}
    return {**data.scores(peer_scores(path)), **facts}


def our_row(data: Data, soft_labels: Any, params: dict[str, Any]) -> dict[str, float]:
    """Fit a student; return scores, times and size."""
    model = DistillationRetriever(**params)
    soft = {} if soft_labels is None else {"soft_labels": soft_labels}
    with Clock() as training:
        model.fit(data.X_train, data.Y_train, **soft)
    model.predict_topk(data.X_test[:50], 5)
    with Clock() as batch:
        ranking = ranking_of(model, data.X_test)
    rows = [data.X_test[i] for i in range(min(N_SINGLE, data.X_test.shape[0]))]
    with Clock() as single:
        for row in rows:
            model.predict_topk(row, 5)
    return {
        **data.scores(ranking),
        "seconds": training.seconds,
        "cpu_seconds": training.cpu_seconds,
        "ms_batch": 1e3 * batch.seconds / data.X_test.shape[0],
        "ms_single": 1e3 * single.seconds / len(rows),
        "mb": len(pickle.dumps(model)) / 1e6,
    }


def ensemble(args: argparse.Namespace, folder: Path, folds: int) -> Any:
    """Return the mean of the libraries' scores, None where one is missing."""
    if not set(ENSEMBLE) <= set(args.peers):
        return None
    paths = [run_peer(peer, args, folder, folds=folds) for peer in ENSEMBLE]
    if any(path is None for path in paths):
        return None
    found = [ranked_soft_labels(peer_scores(path)) for path in paths if path]
    return average_soft_labels(found)


def peers_table(args: argparse.Namespace, results: Results, data: Data) -> None:
    """Print all libraries and the students, in one run."""
    with tempfile.TemporaryDirectory() as scratch:
        root = args.results or Path(scratch)
        folder = save_folder(data, root / data.name)
        rows: dict[str, Any] = {}
        for peer in args.peers:
            path = run_peer(peer, args, folder)
            rows[peer] = path and results.get(
                f"peers/{data.name}/{peer}", partial(peer_row, data, path)
            )
        together = ensemble(args, folder, 0)
        if together is not None:
            rows["ensemble of omikuji and pecos"] = data.scores(together)
        soft_labels = ensemble(args, folder, N_FOLDS) if args.distilled else None
    for label, soft in (("on labels", None), ("distilled", soft_labels)):
        if label == "distilled" and soft is None:
            continue
        for seed in args.seeds[: args.peer_seeds]:
            params = {"random_state": seed, **(DISTILLED if soft is not None else {})}
            rows[f"DistillationRetriever, {label}, seed {seed}"] = results.get(
                f"peers/{data.name}/ours {label} {json.dumps(params)}",
                partial(our_row, data, soft, params),
            )
    print_peers(data, rows)


def print_peers(data: Data, rows: dict[str, Any]) -> None:
    """Print the table of libraries."""
    table = []
    for name, row in rows.items():
        if row is None:
            table.append(
                [name, "not installed", *[""] * (len(SCORES) + len(FACTS) - 1)]
            )
            continue
        scores = [f"{row[score]:.1f}" for score in SCORES]
        table.append([name, *scores, *(row.get(fact) for fact in FACTS.values())])
    n, d = data.X_train.shape
    print(f"{data.name}: {n:,} rows, {d:,} features, {data.Y_train.shape[1]:,} labels")
    _bench.print_table(["method", *SCORES, *FACTS], table)


# -- the run -----------------------------------------------------------------------


def real(folder: str, name: str) -> Data:
    """Return a set of the folder's `load.py`."""
    return Data(name, *_bench.real_data(folder).extreme(name))


def from_files(args: argparse.Namespace) -> Data:
    """Return what two text files hold."""
    train, test = load_extreme_text(args.train), load_extreme_text(args.test)
    return Data(Path(args.train).stem, *train, *test)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _bench.parser(__doc__)
    parser.add_argument("--data", default=os.environ.get("SKDISTILL_DATA"))
    parser.add_argument("--train", help="training rows, repository format")
    parser.add_argument("--test", help="test rows, repository format")
    parser.add_argument("--results", type=Path, help="folder to go on with")
    parser.add_argument("--peer-python", action="append", default=[])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=DEFAULT_PEERS)
    parser.add_argument("--peer-seeds", type=int, default=3)
    parser.add_argument(
        "--no-distilled",
        dest="distilled",
        action="store_false",
        help="leave out the out-of-fold ensemble, which fits each library 8 times",
    )
    parser.add_argument("--only", nargs="+", choices=("distil", "peers"))
    parser.add_argument("--sets", nargs="*", default=None)
    parser.add_argument("--labels", nargs="*", type=int, help="of synthetic problems")
    parser.add_argument("--dims", nargs="+", type=int)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--threads", type=int, default=_bench.n_cores())
    args = parser.parse_args(argv)
    sizes: dict[str, tuple[Any, Any, Any]] = {
        "labels": ((1000,), (300,), (30,)),
        "dims": ((8, 16, 64), (8, 64), (4,)),
        "seeds": (range(5), (0, 1), (0, 1)),
        "sets": (("yso4k", "yso25k"), (), ()),
    }
    for name, choices in sizes.items():
        if getattr(args, name) is None:
            setattr(args, name, _bench.pick(args, *choices))
    args.rows = _bench.pick(args, 5000, 2000, 100)
    args.words = _bench.pick(args, 800, 400, 60)
    args.teacher_dim = _bench.pick(args, 512, 128, 16)
    args.top_k = _bench.pick(args, 50, 50, 10)
    args.only = args.only or ("distil", "peers")
    # Leads and differences are over labels alone.
    args.methods = [m for m in METHODS if m in {"labels", *args.methods}]
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    _bench.print_machine(args)
    results = Results(args.results)
    files = [from_files(args)] if args.train and args.test else []
    sets = [] if files or not args.data else [real(args.data, s) for s in args.sets]
    if "distil" in args.only:
        for n_labels in () if files else args.labels:
            name = f"synthetic-{n_labels}"
            make = partial(synthetic, args, n_labels)
            print_distil(args, name, distil_cells(args, results, make, name))
        for data in files or sets:
            cells = distil_cells(args, results, lambda seed, data=data: data, data.name)
            print_distil(args, data.name, cells)
    if "peers" in args.only:
        for data in files or sets:
            peers_table(args, results, data)


if __name__ == "__main__":
    main()
