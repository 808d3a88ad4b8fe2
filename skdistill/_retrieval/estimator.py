"""DistillationRetriever: embeddings for many labels, distilled from any ranker."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import _safe_indexing, check_random_state, indexable
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array

from skdistill._hidden_units import ACTIVATIONS, POOLINGS, Hidden
from skdistill._retrieval.checkpoint import Checkpoint, State, fingerprint
from skdistill._retrieval.fit import Recipe, Rows, Training, memory_of
from skdistill._retrieval.label_sets import DENSE, MULTICLASS, read_labels
from skdistill._retrieval.memory import MemoryReport, check_memory
from skdistill._retrieval.negatives import PROPOSALS
from skdistill._retrieval.prediction import RetrievalPrediction
from skdistill._retrieval.proba import Calibration, fit_calibration
from skdistill._retrieval.targets import (
    OBJECTIVES,
    Mixture,
    check_sparse_soft_labels,
)
from skdistill._retrieval.task import (
    MAX_HELD_OUT,
    Reports,
    RetrievalTask,
    held_out_rows,
    soft_label_arrays,
    stored_soft_labels,
)
from skdistill._retrieval.teacher import Labelled, teacher_soft_labels
from skdistill._retrieval.top_k import Tables
from skdistill._retrieval_objectives import MARGIN_LOSSES
from skdistill._typing import Estimator, InputLike
from skdistill._validation import keep_fitted_on_failure

#: Rows and labels by which the recall of an approximate search is measured.
RECALL_ROWS, RECALL_LABELS = 200, 10


class DistillationRetriever(
    RetrievalPrediction, CallbackSupportMixin, ClassifierMixin, BaseEstimator
):
    r"""Find the labels of a row among many: embeddings, distilled from any ranker.

    .. math:: f_j(x) = \sigma\Bigl(\sum_i x_i u_i\Bigr)^\top v_j + b_j

    with an embedding :math:`u_i` of each feature and :math:`v_j` of each label, and an
    activation :math:`\sigma`, by default none. It learns the targets
    :math:`t = (1 - a)\, y / |y| + a\, p^{1/T} / \sum p^{1/T}` of labels y and soft
    labels p, which may have mass on labels that were not observed, by a softmax over
    all labels or over some drawn for each batch. With ``objective="double"`` the soft
    labels also say which labels are no negatives, Eq. (14) of [1]_ (negative-aware or
    double distillation).

    Parameters
    ----------
    teacher : estimator, list of estimators or None, default=None
        Where soft labels come from: ``predict_topk(X, k)``, which returns labels and
        their chances, or ``predict_proba``. Unfitted teachers are cross-fitted, frozen
        ones (:class:`sklearn.frozen.FrozenEstimator`) used as they are; of several the
        mean is taken. None: a wide retriever, where `teacher_dim` says how wide;
        without it there is no teacher, and labels and `soft_labels` are all there is.
    dim : int, default=128
        Width of the embeddings.
    teacher_dim : int or None, default=None
        Width of the own teacher.
    pooling : {"sum", "mean"}, default="sum"
        Whether a row is the sum of :math:`x_i u_i` or their mean over its features,
        those of :math:`x_i \neq 0`; the mean of none is 0.
    activation : {"identity", "logistic", "relu", "tanh"}, default="identity"
        :math:`\sigma`. Sparse rows with many labels are often ranked best without one.
    objective : str, default="softmax"
        "softmax": softmax cross-entropy. "double": the same with the teacher's weights
        on the negatives. "logistic", "hinge" or "squared": that loss of a margin for
        each label, Eqs. (11) to (13) of [1]_.
    anchor : {"candidate", "observed"}, default="candidate"
        Which label keeps its full weight in "double": each candidate in its turn, or
        the observed ones, as Eq. (14) is printed, whose loss can be negative.
    negative_weights : {"complement", "sigmoid"}, default="complement"
        Weights of negatives in "double": 1 - p, or 1 - sigmoid(c s) of the logits s of
        the soft labels.
    negative_scale : float, default=1.0
        c, positive.
    mixing_weight : float, default=0.5
        a, the weight of the soft labels, in [0, 1]. At 0 no teacher is fitted.
    temperature : float, default=1.0
        T, positive. Of the soft labels only.
    top_k : int, default=50
        Soft labels kept of each row, the largest.
    n_negatives : int, "auto" or None, default="auto"
        Labels drawn for each batch, which is scored against them and its own. None: all
        labels, in blocks. "auto": all where there are at most 4096, else 1024 drawn.
    proposal : {"uniform", "frequency", "mixed", "in-batch"}, default="uniform"
        How they are drawn. Their weights make up for it.
    n_hard_negatives : int or None, default=None
        Keep for each row those that score highest, so many. None: all.
    residual : int, default=200
        Features kept of the centroid of each label's rows, which is the sparse linear
        part of the logits :math:`s\, x^\top c_j / |x|` with sparse X and a softmax; at
        the end :math:`c_j` is refined on the wrong labels that score highest. 0 leaves
        it out, as for students that are to be narrow.
    batch_size : int, default=256
        Rows of a step.
    max_iter : int or "auto", default="auto"
        Passes over the rows. "auto": ten, fewer where these are more than 6,000 steps,
        but two at least.
    learning_rate_init : float, default=0.05
        Step size at the start; it decreases linearly to zero.
    dropout : float, default=0.7
        Share of hidden units left out of each row in training, in [0, 1).
    cv : int, splitter, "in-sample" or None, default=None
        Folds for unfitted teachers; None stands for 3.
    search : {"exact", "hnsw"}, default="exact"
        How the best labels are found. "hnsw" is approximate, needs faiss or usearch,
        and is for very many labels and ``residual=0``.
    memory_limit : int or None, default=None
        Bytes that training may take; more is refused before it starts. None: what the
        machine has.
    report_every : int or None, default=None
        Steps between reports to callbacks, and between checkpoints. None: a pass.
    checkpoint : str, path or None, default=None
        File in which the state of training is kept. A fit that finds it goes on from
        there, to the same model; it is removed at the end.
    device : str, default="auto"
        "auto" (CUDA if there is one, then MPS, else CPU) or a torch device.
    dtype : {"float32", "float64", "bfloat16"}, default="float32"
        Type of the embeddings. "bfloat16" keeps those of the labels in it, rounded at
        random so that small steps are not lost.
    random_state : int, RandomState instance or None, default=None
        Initial embeddings, order of the rows, negatives, dropout, folds. The same seed
        gives the same student on one kind of device.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Names of the labels; column numbers where y was an indicator.
    feature_embeddings_ : ndarray of shape (`n_features_in_`, dim)
        u.
    label_embeddings_ : ndarray of shape (n_labels, dim)
        v.
    label_bias_ : ndarray of shape (n_labels,)
        b.
    residual_ : csr_matrix of shape (n_labels, `n_features_in_`) or None
        r, the sparse part, for rows of length 1.
    calibration_ : Calibration
        What turns logits into chances.
    label_format_ : {"dense", "sparse", "names", "multiclass"}
        How labels were passed to `fit`.
    loss_curve_ : ndarray of shape (n_reports,)
        Mean training loss between reports.
    n_iter_ : int
        Number of reports.
    search_recall_ : float or None
        With ``search="hnsw"``, the share of the best ten labels of 200 rows that it
        finds.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had any.

    See Also
    --------
    DistillationClassifier : For few classes.

    References
    ----------
    .. [1] Menon, Rawat, Reddi, Kim, Kumar, "A statistical perspective on
           distillation", ICML 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill import DistillationRetriever
    >>> X = np.repeat(np.eye(4), 20, axis=0)
    >>> y = [["red"], ["red", "round"], ["green"], ["round"]]
    >>> y = [labels for labels in y for _ in range(20)]
    >>> retriever = DistillationRetriever(dim=8, dropout=0.0, random_state=0).fit(X, y)
    >>> labels, chances = retriever.predict_topk(np.eye(4), k=1)
    >>> labels[[0, 2]].ravel().tolist()
    ['red', 'green']
    """

    _doc_link_module = "skdistill"

    _parameter_constraints: dict[str, Any] = {
        "teacher": "no_validation",
        "dim": [Interval(Integral, 1, None, closed="left")],
        "teacher_dim": [Interval(Integral, 1, None, closed="left"), None],
        "pooling": [StrOptions(set(POOLINGS))],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "objective": [StrOptions(set(OBJECTIVES))],
        "anchor": [StrOptions({"candidate", "observed"})],
        "negative_weights": [StrOptions({"complement", "sigmoid"})],
        "negative_scale": [Interval(Real, 0, None, closed="neither")],
        "mixing_weight": [Interval(Real, 0, 1, closed="both")],
        "temperature": [Interval(Real, 0, np.inf, closed="neither")],
        "top_k": [Interval(Integral, 1, None, closed="left")],
        "n_negatives": [
            Interval(Integral, 0, None, closed="left"),
            StrOptions({"auto"}),
            None,
        ],
        "proposal": [StrOptions(set(PROPOSALS))],
        "n_hard_negatives": [Interval(Integral, 1, None, closed="left"), None],
        "residual": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "cv": ["cv_object", StrOptions({"in-sample"})],
        "search": [StrOptions({"exact", "hnsw"})],
        "memory_limit": [Interval(Integral, 1, None, closed="left"), None],
        "report_every": [Interval(Integral, 1, None, closed="left"), None],
        "checkpoint": [str, os.PathLike, None],
        "device": [str],
        "dtype": [StrOptions({"float32", "float64", "bfloat16"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        teacher: Any = None,
        *,
        dim: int = 128,
        teacher_dim: int | None = None,
        pooling: str = "sum",
        activation: str = "identity",
        objective: str = "softmax",
        anchor: str = "candidate",
        negative_weights: str = "complement",
        negative_scale: float = 1.0,
        mixing_weight: float = 0.5,
        temperature: float = 1.0,
        top_k: int = 50,
        n_negatives: int | str | None = "auto",
        proposal: str = "uniform",
        n_hard_negatives: int | None = None,
        residual: int = 200,
        batch_size: int = 256,
        max_iter: int | str = "auto",
        learning_rate_init: float = 0.05,
        dropout: float = 0.7,
        cv: Any = None,
        search: str = "exact",
        memory_limit: int | None = None,
        report_every: int | None = None,
        checkpoint: Any = None,
        device: str = "auto",
        dtype: str = "float32",
        random_state: Any = None,
    ) -> None:
        self.teacher = teacher
        self.dim = dim
        self.teacher_dim = teacher_dim
        self.pooling = pooling
        self.activation = activation
        self.objective = objective
        self.anchor = anchor
        self.negative_weights = negative_weights
        self.negative_scale = negative_scale
        self.mixing_weight = mixing_weight
        self.temperature = temperature
        self.top_k = top_k
        self.n_negatives = n_negatives
        self.proposal = proposal
        self.n_hard_negatives = n_hard_negatives
        self.residual = residual
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate_init = learning_rate_init
        self.dropout = dropout
        self.cv = cv
        self.search = search
        self.memory_limit = memory_limit
        self.report_every = report_every
        self.checkpoint = checkpoint
        self.device = device
        self.dtype = dtype
        self.random_state = random_state

    # -- fitting --------------------------------------------------------------------

    @keep_fitted_on_failure
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: InputLike, y: Any, *, soft_labels: Any = None
    ) -> DistillationRetriever:
        """Fit the student to labels and soft labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs; text goes through a vectoriser in a pipeline.
        y : sparse matrix, array or sequence
            An indicator of shape (n_samples, n_labels), dense or sparse; a sequence of
            sequences of hashable labels; or one label a row.
        soft_labels : sparse matrix or array of shape (n_samples, n_labels), \
default=None
            Non-negative chances in the order of the labels, in the place of a
            teacher's. Rows without any learn from their labels alone.

        Returns
        -------
        self : object
            The fitted student.

        Raises
        ------
        MemoryError
            If training would take more than `memory_limit`, or than there is.
        ValueError
            If the data, the soft labels, the teacher's answers or a checkpoint are
            unusable; the message names the argument.
        """
        for name in ("_index", "_vectors"):
            self.__dict__.pop(name, None)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        task = self._task(X, y, seed)
        soft = self._given(soft_labels, task)
        self._check_memory(task, soft)
        checkpoint, state = self._open_checkpoint(task, soft)
        if state is not None:
            seed = int(state["seed"])
            task = self._task(X, y, seed)
            soft = stored_soft_labels(state, task)
        elif soft is not None:
            soft = soft[task.train]
        elif self._has_teacher():
            soft = self._from_teacher(task, seed)
        self._train(task, soft, seed, checkpoint, state)
        return self

    def _task(self, X: InputLike, y: Any, seed: int) -> RetrievalTask:
        """Check the data and keep some rows for the calibration."""
        checked = self._check_X(X, reset=True)
        labels = read_labels(y, X)
        self.classes_ = labels.classes
        self.label_format_ = labels.kind
        self._indicator_dtype = labels.dtype
        train, held_out = held_out_rows(checked.shape[0], seed)
        return RetrievalTask(checked, X, y, labels, train, held_out)

    def _given(self, soft_labels: Any, task: RetrievalTask) -> sp.csr_matrix | None:
        """Check soft labels that were passed."""
        if soft_labels is None or self.mixing_weight == 0:
            return None
        shape = task.labels.indicator.shape
        return check_sparse_soft_labels(soft_labels, shape, self.top_k)

    def _has_teacher(self) -> bool:
        """Whether soft labels have to be made."""
        given = self.teacher is not None or self.teacher_dim is not None
        return given and self.mixing_weight > 0

    def _teachers(self, seed: int) -> list[Estimator]:
        """Return the teachers that the parameters stand for."""
        if self.teacher is None:
            own = clone(self).set_params(
                dim=self.teacher_dim,
                teacher_dim=None,
                objective=(
                    self.objective if self.objective in MARGIN_LOSSES else "softmax"
                ),
                mixing_weight=0.0,
                checkpoint=None,
                search="exact",
                random_state=seed,
            )
            # Callbacks are of the student; one that stops it must not stop this.
            own.__dict__.pop("_skl_callbacks", None)
            return [own]
        if isinstance(self.teacher, (list, tuple)):
            if not self.teacher:
                raise ValueError("teacher must hold at least one estimator, got none.")
            return list(self.teacher)
        return [self.teacher]

    def _from_teacher(self, task: RetrievalTask, seed: int) -> sp.csr_matrix:
        """Return the teachers' soft labels of the rows to train on."""
        y: Any = task.labels.indicator[task.train]
        if task.labels.kind == MULTICLASS:
            y = task.labels.classes[y.indices]
        elif task.labels.kind == DENSE:
            # Some teachers, forests among them, take no other.
            y = y.toarray().astype(task.labels.dtype)
        (X,) = indexable(task.raw_X)
        rows = Labelled(_safe_indexing(X, task.train), y, task.labels.classes)
        return teacher_soft_labels(
            self._teachers(seed), rows, self.cv, self.top_k, seed
        )

    def _train(
        self,
        task: RetrievalTask,
        soft: sp.csr_matrix | None,
        seed: int,
        checkpoint: Checkpoint | None,
        state: State | None,
    ) -> None:
        """Train the student and store what it has learned."""
        rows = Rows(task.X[task.train], task.labels.indicator[task.train], soft)
        training = Training(self._recipe(), rows, seed)
        if state is not None:
            training.restore(state)
        if checkpoint is not None:
            checkpoint.keep(soft_label_arrays(soft))
        context = self._init_callback_context(max_subtasks=training.n_stretches)
        context.call_on_fit_task_begin(estimator=self, X=task.raw_X, y=task.raw_y)
        hook = Reports(context, self, task, lambda: self._attributes(task, training))
        training.run(hook, checkpoint)
        self._store(task, training)
        context.call_on_fit_task_end(
            estimator=self,
            X=task.raw_X,
            y=task.raw_y,
            reconstruction_attributes={},
        )
        if checkpoint is not None:
            checkpoint.remove()

    def _recipe(self) -> Recipe:
        """Return the parameters of the training."""
        mixture = Mixture(
            self.objective,
            float(self.mixing_weight),
            float(self.temperature),
            self.anchor,
            self.negative_weights,
            float(self.negative_scale),
        )
        return Recipe(
            mixture=mixture,
            dim=self.dim,
            batch_size=self.batch_size,
            max_iter=self.max_iter,
            learning_rate=self.learning_rate_init,
            dropout=self.dropout,
            n_negatives=self.n_negatives,
            proposal=self.proposal,
            n_hard_negatives=self.n_hard_negatives,
            residual=self.residual,
            hidden=Hidden(self.pooling, self.activation),
            report_every=self.report_every,
            device=self.device,
            dtype=self.dtype,
        )

    def _open_checkpoint(
        self, task: RetrievalTask, soft: sp.csr_matrix | None
    ) -> tuple[Checkpoint | None, State | None]:
        """Return the checkpoint and, where a training was broken off, its state."""
        if self.checkpoint is None:
            return None, None
        left_out = ["checkpoint", "device", "memory_limit", "report_every", "search"]
        if not isinstance(self.random_state, Integral):
            # A generator is not as it was before the fit; the state has the seed.
            left_out.append("random_state")
        parameters = {
            name: value
            for name, value in self.get_params(deep=True).items()
            if name not in left_out
        }
        same = fingerprint(parameters, task.X, task.labels.indicator, soft)
        checkpoint = Checkpoint(self.checkpoint, same)
        return checkpoint, checkpoint.load()

    def _attributes(self, task: RetrievalTask, training: Training) -> dict[str, Any]:
        """Return what has been learned so far."""
        tables = training.tables()
        return {
            "feature_embeddings_": tables.features,
            "label_embeddings_": tables.labels,
            "label_bias_": tables.bias,
            "_hidden": tables.hidden,
            "residual_": None if tables.residual is None else tables.residual.matrix,
            "calibration_": self._calibration(task, tables, training.objective),
            "loss_curve_": np.array(training.losses),
            "n_iter_": len(training.losses),
            "search_recall_": None,
        }

    def _store(self, task: RetrievalTask, training: Training) -> None:
        """Set the fitted attributes."""
        for name, value in self._attributes(task, training).items():
            setattr(self, name, value)
        if self.search == "hnsw":
            rows = task.calibration_rows[:RECALL_ROWS]
            tables = self._tables()
            query = tables.query(task.X[rows], np.float32)
            k = min(RECALL_LABELS, len(self.classes_))
            self.search_recall_ = self._approximate().recall(tables, query, k)

    def _calibration(
        self, task: RetrievalTask, tables: Tables, objective: str
    ) -> Calibration:
        """Fit what turns logits into chances."""
        rows = task.calibration_rows[:MAX_HELD_OUT]
        return fit_calibration(
            tables,
            task.X[rows],
            task.labels.indicator[rows],
            one_label=task.labels.kind == MULTICLASS,
            objective=objective,
            anchor=self.anchor,
            exact=self.negative_weights == "complement"
            and self.n_hard_negatives is None,
        )

    # -- memory ---------------------------------------------------------------------

    def memory_report(
        self, X: InputLike, y: Any, *, soft_labels: Any = None
    ) -> MemoryReport:
        """Return the memory that `fit` would take for the student, part by part.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.
        y : sparse matrix, array or sequence
            Labels.
        soft_labels : sparse matrix or array of shape (n_samples, n_labels), \
default=None
            Soft labels.

        Returns
        -------
        MemoryReport
            Bytes of each part and, as ``total``, their sum; prints as a table.
        """
        X = check_array(X, accept_sparse="csr", dtype=[np.float32, np.float64])
        labels = read_labels(y, X)
        every = np.arange(X.shape[0])
        task = RetrievalTask(X, X, y, labels, every, every[:0])
        return self._memory(task, self._given(soft_labels, task))

    def _memory(self, task: RetrievalTask, soft: sp.csr_matrix | None) -> MemoryReport:
        """Return the memory of the student's training."""
        rows = Rows(task.X, task.labels.indicator, soft)
        entries = 0
        if soft is None and self._has_teacher():
            entries = min(self.top_k, rows.indicator.shape[1])
        elif soft is not None:
            entries = -(-soft.nnz // max(1, soft.shape[0]))
        return memory_of(self._recipe(), rows, entries)

    def _check_memory(self, task: RetrievalTask, soft: sp.csr_matrix | None) -> None:
        """Refuse a training that does not fit."""
        check_memory(
            self._memory(task, soft),
            self.memory_limit,
            f"Lower dim (now {self.dim}), use dtype='bfloat16', or draw fewer "
            f"n_negatives (now {self.n_negatives!r}).",
        )

    # -- scikit-learn ---------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        # Made again where they are needed; a graph takes long to build.
        state.pop("_vectors", None)
        if self.search != "hnsw":
            state.pop("_index", None)
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_label = True
        return tags
