"""MLPStudent: a multilayer perceptron, trained by torch, predicting with numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from skdistill._device import has_bfloat16_products, resolve_device
from skdistill._front import (
    N_FREQUENCIES,
    N_OUTPUTS,
    Front,
    draw_waves,
    periodic_embedding,
)
from skdistill._hidden_units import ACTIVATIONS, activate_in_place
from skdistill._stack import MLPStack
from skdistill._typing import FloatArray, InputLike, IntArray
from skdistill.students._base import BaseStudent
from skdistill.students._columns import check_table
from skdistill.students._cutting import STACKED, cut_into_stacks
from skdistill.students._gradient import GradientStudent
from skdistill.students._members import Member, train_members
from skdistill.students._problem import Problem, Task
from skdistill.students._tables import TableEncoder

if TYPE_CHECKING:
    import torch

#: Products between layers of at least so many units are faster in bfloat16.
WIDE_LAYER = 384

#: ``n_folds="auto"`` is so many where rows are few, but enough for folds of this size.
FOLDS, MIN_FOLD_ROWS, FEW_ROWS = 5, 10, 5000

#: Rows predicted at a time, so that hidden layers stay in the cache and small beside X.
CHUNK_ROWS = 1024


class MLPStudent(GradientStudent):
    r"""Multilayer perceptron that can learn from soft labels.

    Minimises the weighted mean of the soft cross-entropy
    :math:`-\sum_k p_{ik} \log \mathrm{softmax}(f(x_i))_k`, Eqs. (2) and (4) of [1]_,
    by AdamW on shuffled batches, where :math:`p_i` are the soft labels (one-hot labels
    without them). It takes raw tables: data frames and arrays with numbers, categories,
    text levels and missing values. The fitted student is a few numpy arrays: it pickles
    small, and predicts without torch.

    Numbers are brought to one scale, whatever their tails, and clipped smoothly; a
    missing one becomes the centre of its column, and an indicator tells. The most
    frequent levels of a category have an input each, rarer ones share some. Periodic
    embeddings of the numbers, a trained factor for each input, and the clip are parts
    of RealMLP [2]_.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(64, 64)
        Width of each hidden layer; ``()`` is linear in the inputs that it makes.
    activation : {"identity", "logistic", "relu", "tanh"}, default="relu"
        Hidden activation.
    numeric_embedding : "periodic" or None, default="periodic"
        "periodic" adds, for each column of more than two numbers, three trained sums of
        cosines of it to the inputs, and a trained factor to each input. None leaves
        both out: a plain perceptron, faster to train.
    batch_size : int or None, default=128
        Largest number of rows of a step; None takes all rows in every step.
    max_iter : int, default=200
        Largest number of epochs.
    learning_rate_init : float, default=0.008
        Step size of AdamW.
    weight_decay : float, default=0.01
        Decoupled weight decay of AdamW.
    averaging : bool, default=True
        Whether to score and keep, instead of the parameters, their average over about
        the last third of the steps [3]_. It takes the place of a decreasing step size.
        Steps on all rows have no noise, and are not averaged.
    early_stopping : bool or "auto", default="auto"
        Whether to hold out a stratified part of the rows, score it after each epoch,
        stop when it no longer improves, and keep the best epoch's parameters. "auto"
        does so from 50 rows on, and holds out up to a fifth of the rows to have 50 of
        them. Without it the last epoch is kept, and training stops when the training
        loss no longer improves.
    validation_fraction : float, default=0.1
        Share of rows held out by early stopping, in (0, 1); at least one row a class.
        Where there are several folds, these are held out.
    n_folds : int or "auto", default="auto"
        Into how many parts early stopping cuts the rows, stratified by label. If more
        than 1, each part is held out from a network of its own, the epoch after which
        the mean of their losses is lowest is found, and the student is trained on all
        rows for so many epochs: all rows decide when to stop, and all are learned from.
        "auto" is 5 for up to 5,000 rows, where one part says little about when to stop,
        and 1 for more, and for rankings, which take 1 only. Five folds take two to four
        times as long.
    n_iter_no_change : int, default=15
        Epochs without an improvement of `tol` after which training stops.
    tol : float, default=1e-4
        Improvement of the loss that counts.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in :class:`~skdistill.students.LinearStudent`. The
        loss on held-out rows is weighted as well.
    device : str, default="auto"
        "auto" (CUDA if there is one, then MPS, else CPU) or a torch device.
    dtype : {"float32", "float64", "bfloat16", "auto"}, default="float32"
        Type used in training; prediction is in float64, but for the cosines of periodic
        embeddings, which are in float32 unless this is "float64". "bfloat16" keeps
        parameters in float32 and takes matrix products in bfloat16, so that gradients
        of layers are rounded to it. "auto" does so on a CPU with instructions for it
        (AVX512-BF16) if two hidden layers in a row have at least 384 units each, where
        a step was measured to be 1.1 to 1.6 times faster, and is "float32" otherwise;
        so it may give another student on another machine. Probabilities differ from
        those of "float32" by up to 0.03 on average, in measurements in which those of
        another seed differed by 0.02 to 0.07. On CUDA products of float32 are taken in
        TF32, whose mantissa has 10 bits, unless you have set torch's precision of
        products yourself.
    random_state : int, RandomState instance or None, default=None
        Initial parameters, held-out rows and shuffling. The same seed gives the same
        student on one kind of device.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels.
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer; those of the first include the inputs' factors.
    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer.
    encoder_ : object
        Turns a table into inputs: ``encoder_.transform(X)`` is an array of
        ``encoder_.n_out_`` columns.
    frequencies_, phases_ : ndarray of shape (n_embedded, n_frequencies)
        Waves of the periodic embeddings, drawn and not trained.
    embedding_coefs_ : ndarray of shape (n_embedded, n_frequencies, 3) or None
        Coefficients of their sums; None where no column is embedded.
    loss_curve_ : ndarray of shape (`n_iter_`,)
        Mean training loss of each epoch.
    validation_scores_ : ndarray of shape (n_validated,) or None
        Minus the loss on the held-out part, or minus the mean of the folds' losses,
        after each epoch; on labels this is the negative log-loss. None without early
        stopping.
    best_validation_score_ : float or None
        The largest of them, whose epoch was kept.
    n_iter_ : int
        Number of epochs that the student was trained for. With several folds it is the
        best one of `validation_scores_`, otherwise the last.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had any.

    See Also
    --------
    LinearStudent : The convex student.
    ModuleStudent : A torch module of your own.

    References
    ----------
    .. [1] Menon, Rawat, Reddi, Kim, Kumar, "A statistical perspective on
           distillation", ICML 2021.
    .. [2] Holzmüller, Grinsztajn, Steinwart, "Better by default: strong pre-tuned MLPs
           and boosted trees on tabular data", NeurIPS 2024.
    .. [3] Shamir, Zhang, "Stochastic gradient descent for non-smooth optimization:
           convergence results and optimal averaging schemes", ICML 2013.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdistill.students import MLPStudent
    >>> X, y = load_iris(return_X_y=True)
    >>> student = MLPStudent(hidden_layer_sizes=(8,), random_state=0).fit(X, y)
    >>> bool(student.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **GradientStudent._parameter_constraints,
        "hidden_layer_sizes": ["array-like"],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "numeric_embedding": [StrOptions({"periodic"}), None],
        "averaging": ["boolean"],
        "n_folds": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "dtype": [StrOptions({"float32", "float64", "bfloat16", "auto"})],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (64, 64),
        *,
        activation: str = "relu",
        numeric_embedding: str | None = "periodic",
        batch_size: int | None = 128,
        max_iter: int = 200,
        learning_rate_init: float = 0.008,
        weight_decay: float = 0.01,
        averaging: bool = True,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_folds: int | str = "auto",
        n_iter_no_change: int = 15,
        tol: float = 1e-4,
        class_weight: Any = None,
        device: str = "auto",
        dtype: str = "float32",
        random_state: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.numeric_embedding = numeric_embedding
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.averaging = averaging
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_folds = n_folds
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.class_weight = class_weight
        self.device = device
        self.dtype = dtype
        self.random_state = random_state

    def _before_fit(self) -> None:
        super()._before_fit()
        width = Interval(Integral, 1, None, closed="left")
        if not all(width.is_satisfied_by(size) for size in self.hidden_layer_sizes):
            raise ValueError(
                "hidden_layer_sizes must hold integers of at least 1, got "
                f"{self.hidden_layer_sizes!r}."
            )

    def _n_folds(self, n_eligible: int, *, ranked: bool) -> int:
        if isinstance(self.n_folds, str):
            few = MIN_FOLD_ROWS * FOLDS <= n_eligible <= FEW_ROWS
            return FOLDS if few and not ranked else 1
        if self.n_folds > 1 and ranked:
            raise ValueError(
                f"n_folds must be 1 or 'auto' for rankings, got {self.n_folds}."
            )
        return self.n_folds

    def _stops_by_folds(self, n_rows: int) -> bool:
        return self._n_wanted(n_rows) > 0 and self._n_folds(n_rows, ranked=False) > 1

    def _averages_steps(self) -> bool:
        return self.averaging

    def _parameter_dtype(self) -> str:
        return "float64" if self.dtype == "float64" else "float32"

    def _in_bfloat16(self) -> bool:
        """Return whether matrix products are taken in bfloat16."""
        if self.dtype != "auto":
            return self.dtype == "bfloat16"
        wide = [size >= WIDE_LAYER for size in self.hidden_layer_sizes]
        on_cpu = resolve_device(self.device) == "cpu"
        return on_cpu and any(map(all, pairwise(wide))) and has_bfloat16_products()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    def _check_X(self, X: InputLike, *, reset: bool) -> InputLike:
        has_levels = not reset and len(self.encoder_.categorical_) > 0
        return check_table(self, X, reset=reset, has_levels=has_levels)

    def _prepare(self, problem: Problem) -> FloatArray:
        self.encoder_ = TableEncoder(scaled=True)
        weight = problem.row_weights(self._class_weights(problem))
        self.encoder_.fit(problem.X, weight)
        return self.encoder_.transform(problem.X, np.dtype(self._parameter_dtype()))

    def _make_stack(
        self,
        members: Sequence[Member],
        generators: Sequence[torch.Generator],
        device: str,
    ) -> MLPStack:
        import torch

        front = None
        embedded = self._embedded()
        if embedded is not None:
            waves = [m.student._draw_waves(m.seed) for m in members]
            frequencies, phases = map(np.array, zip(*waves, strict=True))
            if len({m.seed for m in members}) == 1:
                frequencies, phases = waves[0]
            front = Front(self.encoder_.n_out_, embedded, frequencies, phases)
        return MLPStack(
            self._layer_sizes(members[0].problem),
            self.activation,
            generators,
            device=device,
            dtype=getattr(torch, self._parameter_dtype()),
            product_dtype=torch.bfloat16 if self._in_bfloat16() else None,
            front=front,
        )

    def _draw_waves(self, seed: int) -> tuple[FloatArray, FloatArray]:
        waves = draw_waves(len(self.encoder_.varied_), np.random.RandomState(seed))
        self.frequencies_, self.phases_ = waves
        return waves

    def _embedded(self) -> IntArray | None:
        """Return which inputs have a periodic embedding; None if none has."""
        if self.numeric_embedding is None or len(self.encoder_.varied_) == 0:
            return None
        return self.encoder_.varied_

    def _layer_sizes(self, problem: Problem) -> tuple[int, ...]:
        return (self.encoder_.n_out_, *self.hidden_layer_sizes, len(problem.classes))

    def _fit_tasks(
        self, tasks: Sequence[Task], n_threads: int = 1
    ) -> list[BaseStudent]:
        """Train stacks of students, each as it would have been trained alone."""
        members = self._members(tasks)
        stacks = cut_into_stacks(members)
        with ThreadPoolExecutor(n_threads) as pool:
            trained = list(
                pool.map(lambda part: train_members([members[i] for i in part]), stacks)
            )
        students = [member.student for member in members]
        for part, (stack, courses) in zip(stacks, trained, strict=True):
            for k, (i, course) in enumerate(zip(part, courses, strict=True)):
                students[i]._store(stack.kept(k), course)
        return list(students)

    def _members(self, tasks: Sequence[Task]) -> list[Member]:
        """Return a student for each task; on the same rows they share the inputs.

        Those that differ in a parameter that a stack cannot hold share nothing.
        """
        prepared: dict[Any, tuple[MLPStudent, Problem, FloatArray]] = {}
        drawn: dict[Any, Member] = {}
        members = []
        for task in tasks:
            own = {k: v for k, v in task.params.items() if k in STACKED}
            others = {k: v for k, v in task.params.items() if k not in STACKED}
            key = (id(task.problem.X), *((k, id(v)) for k, v in others.items()))
            if key not in prepared:
                prepared[key] = self._with(others)._prepared(task.problem)
            base, problem, inputs = prepared[key]
            student = copy(base).set_params(**own)
            student._validate_params()
            student._fix_seed()
            draw = (key, student.random_state)
            if draw not in drawn:
                drawn[draw] = student._member(problem, inputs)
            problem = replace(
                problem, terms=task.problem.terms, n_epochs=task.problem.n_epochs
            )
            member = drawn[draw]._replace(student=student, problem=problem)
            if task.held_out is not None:
                member = member._replace(held_out=task.held_out[None])
            if problem.n_epochs is not None:
                member = member._replace(held_out=None)
            members.append(member)
        return members

    def _prepared(self, problem: Problem) -> tuple[MLPStudent, Problem, FloatArray]:
        """Return itself, ready for members of stacks, with checked rows and inputs."""
        # One seed for all stacks: which of them a student is in must not matter.
        self._fix_seed()
        self._validate_params()
        self._before_fit()
        problem = replace(problem, X=self._check_X(problem.X, reset=True))
        self.classes_ = problem.classes
        return self, problem, self._prepare(problem)

    def _fix_seed(self) -> None:
        if not isinstance(self.random_state, Integral):
            rng = check_random_state(self.random_state)
            self.random_state = rng.randint(2**31 - 1)

    def _joins_folds(self) -> bool:
        return True

    def _learns_from_its_like(self) -> bool:
        return True

    def _n_parameters(self, problem: Problem) -> int:
        layer_sizes = list(self._layer_sizes(problem))
        n_parameters = 0
        embedded = self._embedded()
        if embedded is not None:
            layer_sizes[0] += len(embedded) * N_OUTPUTS
            n_parameters = len(embedded) * N_FREQUENCIES * N_OUTPUTS + layer_sizes[0]
        return n_parameters + sum((a + 1) * b for a, b in pairwise(layer_sizes))

    def _attributes(self, member_state: Any) -> dict[str, Any]:
        # float64: in float32 a row's result would depend on the rows beside it.
        coefs, intercepts = member_state
        embedding = None
        if self._embedded() is not None:
            embedding, *coefs = coefs
            embedding = embedding.astype(np.float64)
        return {
            "_fitted_activation": self.activation,
            "_fitted_dtype": self._parameter_dtype(),
            "embedding_coefs_": embedding,
            "coefs_": [coef.astype(np.float64) for coef in coefs],
            "intercepts_": [intercept.astype(np.float64) for intercept in intercepts],
        }

    def __getstate__(self) -> dict[str, Any]:
        return _convert_layers(dict(super().__getstate__()), _lossless_float32)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(_convert_layers(dict(state), _as_float64))

    def _logits(self, X: InputLike) -> FloatArray:
        if X.shape[0] <= CHUNK_ROWS:
            return self._forward(X)
        logits = np.empty((X.shape[0], len(self.classes_)))
        for start in range(0, len(logits), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            logits[rows] = self._forward(X[rows])
        return logits

    def _forward(self, X: InputLike) -> FloatArray:
        """Return logits of some rows; each layer in one array, changed in place."""
        hidden = self.encoder_.transform(X)
        if self.embedding_coefs_ is not None:
            embedded = periodic_embedding(
                hidden[:, self.encoder_.varied_],
                self.frequencies_,
                self.phases_,
                self.embedding_coefs_,
                self._fitted_dtype,
            )
            hidden = np.hstack([hidden, embedded])
        last = len(self.coefs_) - 1
        for i, (coef, intercept) in enumerate(
            zip(self.coefs_, self.intercepts_, strict=True)
        ):
            hidden = hidden @ coef
            hidden += intercept
            if i < last:
                activate_in_place(hidden, self._fitted_activation)
        return hidden


def _convert_layers(
    state: dict[str, Any], convert: Callable[[FloatArray], FloatArray]
) -> dict[str, Any]:
    """Convert coefficients and intercepts in a state, where it is fitted."""
    for name in ("coefs_", "intercepts_"):
        if name in state:
            state[name] = [convert(array) for array in state[name]]
    for name in ("embedding_coefs_", "frequencies_", "phases_"):
        if state.get(name) is not None:
            state[name] = convert(state[name])
    return state


def _lossless_float32(array: FloatArray) -> FloatArray:
    """Return float32 where no digit is lost: what was trained in it, for pickles."""
    small: FloatArray = array.astype(np.float32)
    return small if (small == array).all() else array


def _as_float64(array: FloatArray) -> FloatArray:
    return array.astype(np.float64)
