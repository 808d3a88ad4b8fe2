"""Trains one extreme-classification library on data in a folder: for its own Python.

``bench_retrieval.py`` runs this file in the environments of the libraries, whose
versions of NumPy and torch differ from those here. It needs NumPy, SciPy and the
library only:

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install numpy scipy omikuji napkinxc
    python -m venv /tmp/pecos
    /tmp/pecos/bin/pip install "numpy<2" "scipy<1.12" libpecos

Usage: ``retrieval_peers.py METHOD FOLDER OUT.npz [--folds 3] [--threads 2]``. The
folder holds ``X_train.npz``, ``Y_train.npz``, ``X_test.npz`` and ``Y_test.npz`` (CSR).
The result holds the scores of the test rows, times and size; with ``--folds`` those of
the training rows, each by models that have not seen it.
"""

import argparse
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import scipy.sparse as sp


class Clock:
    """Times a block: seconds that went by, and those of all cores in this process."""

    def __enter__(self):
        self.start = perf_counter(), process_time()
        return self

    def __exit__(self, *error):
        self.seconds = perf_counter() - self.start[0]
        self.cpu_seconds = process_time() - self.start[1]


#: Rows that are scored one at a time, to time a single request.
N_SINGLE = 200


class Omikuji:
    """Three balanced trees, as it comes."""

    def __init__(self, threads):
        import omikuji

        self.library, self.threads = omikuji, threads

    def fit(self, X, Y):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "train.txt")
            write_text(path, X, Y)
            with Clock() as clock:
                self.model = self.library.Model.train_on_data(
                    str(path), self.library.Model.default_hyper_param(), self.threads
                )
            return clock

    def predict(self, X, top_k):
        self.model.init_prediction_thread_pool(self.threads)
        pairs = (
            [
                (int(f), float(v))
                for f, v in zip(
                    X.indices[X.indptr[i] : X.indptr[i + 1]],
                    X.data[X.indptr[i] : X.indptr[i + 1]],
                    strict=True,
                )
            ]
            for i in range(X.shape[0])
        )
        return [self.model.predict(row, top_k=top_k) for row in pairs]

    def save(self, folder):
        self.model.save(folder)


class NapkinXC:
    """A probabilistic label tree, or one-vs-rest."""

    def __init__(self, threads, name="PLT"):
        import napkinxc.models

        self.folder = tempfile.TemporaryDirectory()
        kind = getattr(napkinxc.models, name)
        self.model = kind(self.folder.name, threads=threads, verbose=False)

    def fit(self, X, Y):
        labels = [row.tolist() for row in np.split(Y.indices, Y.indptr[1:-1])]
        with Clock() as clock:
            self.model.fit(X, labels)
        return clock

    def predict(self, X, top_k):
        return self.model.predict_proba(X, top_k=top_k)

    def save(self, folder):
        Path(folder).rmdir()
        Path(folder).symlink_to(self.folder.name)


class Pecos:
    """XR-Linear on clusters of labels by their features, as it comes."""

    def __init__(self, threads):
        from pecos.xmc import Indexer, LabelEmbeddingFactory
        from pecos.xmc.xlinear.model import XLinearModel

        self.indexer, self.embedding = Indexer, LabelEmbeddingFactory
        self.kind, self.threads = XLinearModel, threads

    def fit(self, X, Y):
        X, Y = X.astype(np.float32), Y.astype(np.float32)
        with Clock() as clock:
            label_features = self.embedding.create(Y, X, method="pifa")
            chain = self.indexer.gen(label_features, threads=self.threads)
            self.model = self.kind.train(X, Y, C=chain, threads=self.threads)
        return clock

    def predict(self, X, top_k):
        # A wide beam, as many labels are wanted, not the best few.
        return self.model.predict(
            X.astype(np.float32),
            only_topk=top_k,
            beam_size=max(10, top_k),
            threads=self.threads,
        )

    def save(self, folder):
        self.model.save(folder)


METHODS = {
    "omikuji": Omikuji,
    "pecos": Pecos,
    "napkinxc-plt": NapkinXC,
    "napkinxc-br": lambda threads: NapkinXC(threads, "BR"),
}


def write_text(path, X, Y):
    """Write the repository's format; a row without features gets one of value 0."""
    with path.open("w") as file:
        file.write(f"{X.shape[0]} {X.shape[1]} {Y.shape[1]}\n")
        for i in range(X.shape[0]):
            labels = Y.indices[Y.indptr[i] : Y.indptr[i + 1]]
            row = slice(X.indptr[i], X.indptr[i + 1])
            pairs = zip(X.indices[row], X.data[row], strict=True)
            features = " ".join(f"{f}:{v:.6g}" for f, v in pairs)
            file.write(f"{','.join(map(str, labels))} {features or '0:0'}\n")


def as_csr(scores, n_labels):
    """Turn what a library returns into CSR."""
    if sp.issparse(scores):
        return sp.csr_matrix(scores, dtype=np.float32)
    indptr = np.cumsum([0, *map(len, scores)])
    pairs = [pair for row in scores for pair in row]
    indices = np.array([label for label, _ in pairs], dtype=np.int32)
    values = np.array([value for _, value in pairs], dtype=np.float32)
    return sp.csr_matrix((values, indices, indptr), shape=(len(scores), n_labels))


def folder_mb(model):
    """Return the size of the model on disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        path.mkdir()
        model.save(str(path))
        files = [file for file in path.resolve().rglob("*") if file.is_file()]
        return sum(file.stat().st_size for file in files) / 1e6


def evaluate(make, data, top_k):
    """Train on the training rows; score and time the test rows."""
    model = make()
    training = model.fit(data["X_train"], data["Y_train"])
    X = data["X_test"]
    model.predict(X[:50], 5)
    with Clock() as batch:
        model.predict(X, 5)
    rows = [X[i] for i in range(min(N_SINGLE, X.shape[0]))]
    with Clock() as single:
        for row in rows:
            model.predict(row, 5)
    scores = as_csr(model.predict(X, top_k), data["Y_train"].shape[1])
    facts = dict(
        seconds=training.seconds,
        cpu_seconds=training.cpu_seconds,
        ms_batch=1e3 * batch.seconds / X.shape[0],
        ms_single=1e3 * single.seconds / len(rows),
        mb=folder_mb(model),
    )
    return scores, facts


def out_of_fold(make, data, top_k, n_folds, seed):
    """Score each training row by a model fitted without its fold."""
    X, Y = data["X_train"], data["Y_train"]
    folds = np.random.default_rng(seed).permutation(X.shape[0]) % n_folds
    parts, order, seconds = [], [], 0.0
    for fold in range(n_folds):
        held_out = np.flatnonzero(folds == fold)
        rest = np.flatnonzero(folds != fold)
        model = make()
        seconds += model.fit(X[rest], Y[rest]).seconds
        parts.append(as_csr(model.predict(X[held_out], top_k), Y.shape[1]))
        order.append(held_out)
    scores = sp.vstack(parts).tocsr()[np.argsort(np.concatenate(order))]
    return scores, {"seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--top-k", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    names = ("X_train", "Y_train", "X_test", "Y_test")
    data = {name: sp.load_npz(args.folder / f"{name}.npz").tocsr() for name in names}

    def make():
        return METHODS[args.method](args.threads)

    if args.folds:
        scores, facts = out_of_fold(make, data, args.top_k, args.folds, args.seed)
    else:
        scores, facts = evaluate(make, data, args.top_k)
    np.savez(
        args.out,
        data=scores.data,
        indices=scores.indices,
        indptr=scores.indptr,
        shape=scores.shape,
        **facts,
    )
    print(args.method, {key: round(value, 3) for key, value in facts.items()})


if __name__ == "__main__":
    main()
