"""Does an approximate search of the labels pay, and what does it miss?

Tables of a student with 64 dimensions, made and not trained: a hundred labels about
each of many centres, and rows near labels. The exact search and ``search="hnsw"``,
which takes faiss or usearch, look for the best ten labels of 400 rows. Times are those
of the processors; "alone" is a row by itself. With `--graphs` the graphs are kept in a
folder: they take minutes on a busy machine, and the searches may then be timed on an
idle one.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import _bench
import numpy as np

from skdistill._retrieval.approximate_search import ApproximateSearch
from skdistill._retrieval.top_k import Query, Tables, exact_search

DIM, K, SPREAD, N_ALONE = 64, 10, 0.5, 20


def make_tables(n_labels: int, n_rows: int) -> tuple[Tables, Query]:
    """Return labels in clusters, and rows near some of them."""
    rng = np.random.default_rng(0)

    def noise(n: int) -> Any:
        return rng.normal(size=(n, DIM)).astype(np.float32)

    centres = noise(max(1, n_labels // 100))
    labels = centres[rng.integers(len(centres), size=n_labels)]
    labels += np.float32(SPREAD) * noise(n_labels)
    bias = (0.5 * rng.normal(size=n_labels)).astype(np.float32)
    hidden = labels[rng.integers(n_labels, size=n_rows)]
    hidden = hidden + np.float32(SPREAD) * noise(n_rows)
    return Tables(np.zeros((1, DIM), np.float32), labels, bias), Query(hidden, None)


def seconds(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a function returns, and the processors' time for it."""
    start = process_time()
    result = function()
    return result, process_time() - start


def graph_of(
    tables: Tables, breadth: int, path: Path | None
) -> tuple[ApproximateSearch, float]:
    """Return the graph and the time that it took, from a file if there is one."""
    if path is not None and path.is_file():
        graph, built = pickle.loads(path.read_bytes())
        return graph, built
    graph, built = seconds(lambda: ApproximateSearch(tables, breadth))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps((graph, built)))
    return graph, built


def row_of(
    name: str, search: Callable[..., Any], tables: Tables, query: Query, exact: Any
) -> tuple[list[Any], Any]:
    """Return the table's row of a way to search, and what it has found."""
    n_rows = len(query.hidden)
    search(tables, query.rows(slice(0, 2)), K)
    (found, _, _), batch = seconds(lambda: search(tables, query, K))
    singles = [query.rows(slice(i, i + 1)) for i in range(min(n_rows, N_ALONE))]
    _, alone = seconds(lambda: [search(tables, one, K) for one in singles])
    best = found if exact is None else exact
    pairs = zip(best, found, strict=True)
    recall = np.mean([np.isin(a, b).mean() for a, b in pairs])
    n_labels = len(tables.bias)
    times = [1e3 * batch / n_rows, 1e3 * alone / len(singles)]
    return [name, n_labels, *times, f"{recall:.3f}"], found


def main(argv: Sequence[str] | None = None) -> None:
    parser = _bench.parser(__doc__)
    parser.add_argument("--labels", nargs="*", type=int)
    parser.add_argument("--breadth", type=int, default=128, help="of the search")
    parser.add_argument("--graphs", type=Path, help="folder to keep the graphs in")
    args = parser.parse_args(argv)
    _bench.print_machine(args)
    sizes = args.labels or _bench.pick(
        args, (20_000, 100_000, 300_000), (20_000,), (2_000,)
    )
    n_rows = _bench.pick(args, 400, 200, 20)
    library = next(
        (name for name in ("faiss", "usearch") if _bench.optional(name)), None
    )
    rows = []
    for n_labels in sizes:
        tables, query = make_tables(n_labels, n_rows)
        row, exact = row_of("exact", exact_search, tables, query, None)
        rows.append([*row, ""])
        if library is None:
            rows.append(["faiss or usearch not installed", n_labels, *[""] * 4])
            continue
        name = f"{library}-{n_labels}-{args.breadth}.pickle"
        path = args.graphs and args.graphs / name
        graph, built = graph_of(tables, args.breadth, path)
        row, _ = row_of(f"hnsw, {library}", graph, tables, query, exact)
        rows.append([*row, built])
    headers = ("search", "labels", "ms a row", "ms alone", "recall@10", "graph s")
    _bench.print_table(headers, rows)


if __name__ == "__main__":
    main()
