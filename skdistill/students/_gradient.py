"""What torch-trained students share: their settings, and the way into the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from skdistill._device import fits_on, resolve_device
from skdistill._typing import FloatArray, IntArray
from skdistill.students._base import BaseStudent, Iterations, Problem, Terms
from skdistill.students._class_weight import CLASS_WEIGHT_CONSTRAINT, weigh_terms

if TYPE_CHECKING:
    import torch

    from skdistill._training import History

#: ``early_stopping="auto"`` judges an epoch by at least so many rows where there are
#: enough, by a fifth of the rows where there are not, and by none if that is below the
#: smaller number. Small tables need it most: without it networks become over-confident.
ENOUGH_VALIDATION_ROWS = 50
MIN_VALIDATION_ROWS = 10


class Member(NamedTuple):
    """A student of a stack and what it is trained on.

    Attributes
    ----------
    student : GradientStudent
        Unfitted, but ready to turn tables into inputs.
    problem : Problem
        Labels, weights and objective.
    inputs : ndarray of shape (n_samples, n_inputs)
        Members on the same rows have the same object.
    seed : int
        Of the initial parameters and the shuffling.
    held_out : ndarray of shape (n_held_out,) or None
        Rows that decide when to stop.
    """

    student: GradientStudent
    problem: Problem
    inputs: FloatArray
    seed: int
    held_out: IntArray | None

    def objective(self) -> Terms:
        """Return the objective, where it is judged by labels with these.

        Returns
        -------
        tuple of (ndarray of shape (n_samples, n_classes), float)
            Terms.
        """
        problem = self.problem
        weights = self.student._class_weights(problem)
        terms, _ = weigh_terms(problem.terms, weights, problem.sample_weight)
        if problem.labelled is None or self.held_out is None:
            return terms
        return _judged_by_labels(terms, problem, self.held_out, weights)

    def train_rows(self) -> IntArray:
        """Return the rows to learn from.

        Returns
        -------
        ndarray of shape (n_train,)
            Their positions.
        """
        every = np.arange(len(self.problem.codes))
        return every if self.held_out is None else np.delete(every, self.held_out)


class GradientStudent(BaseStudent):
    """Base of the students that the torch training loop trains.

    A subclass implements ``_make_stack(members, generators, device)`` and
    ``_attributes(member_state)``, the fitted attributes of a state that the stack
    returned.
    """

    max_iter: int
    batch_size: int | None
    learning_rate_init: float
    weight_decay: float
    early_stopping: bool | str
    validation_fraction: float
    n_iter_no_change: int
    tol: float
    device: str
    dtype: str
    random_state: Any

    _parameter_constraints: dict[str, Any] = {
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "class_weight": CLASS_WEIGHT_CONSTRAINT,
        "device": [str],
        "dtype": [StrOptions({"float32", "float64"})],
        "random_state": ["random_state"],
    }

    def _make_stack(
        self,
        members: Sequence[Member],
        generators: Sequence[torch.Generator],
        device: str,
    ) -> Any:
        raise TypeError(f"{type(self).__name__} must define _make_stack.")

    def _attributes(self, member_state: Any) -> dict[str, Any]:
        raise TypeError(f"{type(self).__name__} must define _attributes.")

    def _random_layers(self, seed: int, device: str) -> AbstractContextManager[None]:
        """Return the context in which random layers draw reproducibly."""
        return nullcontext()

    def _parameter_dtype(self) -> str:
        """Return the type of parameters and inputs."""
        return self.dtype

    def _averages_steps(self) -> bool:
        """Return whether the parameters are averaged over the last steps."""
        return False

    def _prepare(self, problem: Problem) -> FloatArray:
        """Return the network's inputs; sets what prediction needs to do the same."""
        inputs: FloatArray = problem.X
        return inputs

    def _takes_pairs(self) -> bool:
        return True

    def _before_fit(self) -> None:
        resolve_device(self.device)

    def _solve(self, problem: Problem) -> None:
        context = self._start_callbacks(problem, max_subtasks=self.max_iter)
        inputs = self._prepare(problem)
        member = self._member(problem, inputs)
        stack, history = train_members([member], context)
        self._store(stack.kept(0), history, 0)
        self._end_callbacks(context, problem)

    def _member(self, problem: Problem, inputs: FloatArray) -> Member:
        """Return the student with what it is trained on, seed and rows drawn."""
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31 - 1))
        held_out = self._held_out_rows(problem, rng)
        return Member(self, problem, inputs, seed, held_out)

    def _epoch_hook(
        self, context: Any, problem: Problem, state: Callable[[], Any]
    ) -> Iterations:
        return Iterations(
            context, self, problem, lambda: self._attributes(state()), "epoch"
        )

    def _held_out_rows(
        self, problem: Problem, rng: np.random.RandomState
    ) -> IntArray | None:
        """Choose the rows that decide when to stop, stratified by label.

        Classes of one row stay in the training part, as do rows without a label.
        """
        if problem.labelled is None:
            return self._held_out_positions(problem.codes, rng)
        held_out = self._held_out_positions(problem.codes[problem.labelled], rng)
        return None if held_out is None else problem.labelled[held_out]

    def _held_out_positions(
        self, codes: IntArray, rng: np.random.RandomState
    ) -> IntArray | None:
        if self.early_stopping is False:
            return None
        counts = np.bincount(codes)
        eligible = np.flatnonzero(counts[codes] >= 2)
        n_classes = int((counts >= 2).sum())
        wanted = int(np.ceil(self.validation_fraction * len(codes)))
        if self.early_stopping == "auto":
            wanted = max(wanted, min(ENOUGH_VALIDATION_ROWS, len(codes) // 5))
            if wanted < MIN_VALIDATION_ROWS:
                return None
        n_held_out = max(wanted, n_classes)
        if n_classes == 0 or len(eligible) - n_held_out < n_classes:
            if self.early_stopping == "auto":
                return None
            raise ValueError(
                f"early_stopping=True with validation_fraction="
                f"{self.validation_fraction} needs {n_held_out} held-out rows and a "
                f"row of each class in both parts; {len(codes)} rows are too few. Set "
                "early_stopping=False."
            )
        _, held_out = train_test_split(
            eligible,
            test_size=n_held_out,
            stratify=codes[eligible],
            random_state=rng.randint(2**31 - 1),
        )
        return np.sort(held_out)

    def _store(self, state: Any, history: History, member: int) -> None:
        """Set the fitted attributes from what the loop left."""
        for name, value in self._attributes(state).items():
            setattr(self, name, value)
        self.n_iter_ = int(history.n_iter[member])
        epochs = slice(self.n_iter_)
        self.loss_curve_ = np.array([loss[member] for loss in history.loss[epochs]])
        validation = history.validation_loss[epochs]
        scores = np.array([-loss[member] for loss in validation])
        self.validation_scores_ = scores if len(scores) else None
        self.best_validation_score_ = float(scores.max()) if len(scores) else None


def train_members(
    members: Sequence[Member], context: Any = None
) -> tuple[Any, History]:
    """Train students of one architecture as one stack, each as if it were alone.

    Parameters
    ----------
    members : sequence of Member
        They may differ in rows, objective, learning rate, weight decay and seed, and
        have as many rows, of which as many held out.
    context : CallbackContext or None, default=None
        Of the fit of a single member.

    Returns
    -------
    stack : Stack
        Holds their parameters.
    history : History
        What happened.
    """
    import torch

    from skdistill._training import train

    first = members[0].student
    device = resolve_device(first.device)
    generators = [torch.Generator().manual_seed(m.seed) for m in members]
    data = _training_data(members, device)
    stack = first._make_stack(members, generators, device)
    hook = None
    if context is not None:
        hook = first._epoch_hook(context, members[0].problem, lambda: stack.current(0))
    # Members with one seed start alike and see their rows in the same order.
    shuffling = generators if len({m.seed for m in members}) > 1 else generators[:1]
    with first._random_layers(members[0].seed, device):
        history = train(stack, data, _settings(members, data), shuffling, hook)
    return stack, history


def _settings(members: Sequence[Member], data: Any) -> Any:
    from skdistill._training import Settings

    first = members[0].student
    n_train = data.train_rows.shape[1]
    batch_size = n_train if first.batch_size is None else first.batch_size
    return Settings(
        max_iter=first.max_iter,
        batch_size=batch_size,
        learning_rate=_common([m.student.learning_rate_init for m in members]),
        weight_decay=_common([m.student.weight_decay for m in members]),
        tol=first.tol,
        n_iter_no_change=first.n_iter_no_change,
        # Steps on all rows have no noise that an average could take away.
        averaging=first._averages_steps() and batch_size < n_train,
    )


def _common(values: list[float]) -> float | list[float]:
    return values[0] if len(set(values)) == 1 else values


def _training_data(members: Sequence[Member], device: str) -> Any:
    """Return the problems as the loop wants them, on the device if they fit there."""
    import torch

    from skdistill._pairs import RankingSet
    from skdistill._training_set import Term, TrainingSet

    problem = members[0].problem
    dtype = members[0].student._parameter_dtype()
    stacked = _stacked_terms([member.objective() for member in members], dtype)
    tables = {id(member.inputs): member.inputs for member in members}
    n_numbers = sum(table.size for table in tables.values())
    n_numbers += sum(targets.size for targets, _ in stacked)
    fits = fits_on(device, np.dtype(dtype).itemsize * n_numbers)
    home = device if fits or problem.pairs is not None else "cpu"

    def floats(values: FloatArray, where: str = home) -> torch.Tensor:
        # A copy where the type differs or the memory is read-only, as torch needs.
        array = np.require(values, dtype, requirements="W")
        return torch.from_numpy(array).to(where)

    def rows(parts: list[IntArray]) -> torch.Tensor:
        return torch.from_numpy(_once(parts)).to(home)

    train_rows = rows([member.train_rows() for member in members])
    held_out = [m.held_out for m in members if m.held_out is not None]
    validation_rows = rows(held_out) if held_out else None
    x = floats(next(iter(tables.values())) if len(tables) == 1 else _joined(tables))
    if problem.pairs is not None:
        positive, negative = problem.pair_masses()
        return RankingSet(
            x[None],
            torch.from_numpy(positive),
            torch.from_numpy(negative),
            problem.pairs,
            train_rows,
            validation_rows,
        )
    weight = _once([member.problem.sample_weight for member in members])
    return TrainingSet(
        x=x[None],
        terms=[
            Term(
                floats(targets),
                _temperatures(temperatures, lambda values: floats(values, device)),
            )
            for targets, temperatures in stacked
        ],
        weight=None if weight.min() == weight.max() else floats(weight),
        train_rows=train_rows,
        validation_rows=validation_rows,
        device=None if fits else device,
        first_row=None if len(tables) == 1 else rows(_first_rows(members, tables)),
    )


def _once(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Return what each member has, or one row where it is the same for all."""
    first = parts[0]
    if all(part is first or np.array_equal(part, first) for part in parts):
        return first[None]
    return np.stack(parts)


def _joined(tables: dict[int, FloatArray]) -> FloatArray:
    joined: FloatArray = np.concatenate(list(tables.values()))
    return joined


def _first_rows(
    members: Sequence[Member], tables: dict[int, FloatArray]
) -> list[IntArray]:
    """Return where the rows of each member begin among those of all tables."""
    starts = np.cumsum([0, *(len(table) for table in tables.values())])
    start = dict(zip(tables, starts, strict=False))
    return [np.array([start[id(member.inputs)]]) for member in members]


def _judged_by_labels(
    terms: Terms, problem: Problem, rows: IntArray, weights: FloatArray | None
) -> Terms:
    """Let the loss of some rows be that of their labels, at student temperature 1."""
    judged = [(np.array(targets), temperature) for targets, temperature in terms]
    if all(temperature != 1.0 for _, temperature in terms):
        judged.insert(0, (np.zeros_like(judged[0][0]), 1.0))
    for targets, _ in judged:
        targets[rows] = 0.0
    first = next(targets for targets, temperature in judged if temperature == 1.0)
    codes = problem.codes[rows]
    if weights is None:
        first[rows, codes] = 1.0
    else:
        share = weights[codes]
        first[rows, codes] = share / np.average(
            share, weights=problem.sample_weight[rows]
        )
    return tuple(judged)


def _stacked_terms(
    objectives: Sequence[Terms], dtype: str
) -> list[tuple[FloatArray, list[float]]]:
    """Put the members' objectives side by side, term by term.

    An objective of fewer terms than another is filled up with targets of zero.
    """
    stacked = []
    for i in range(max(len(terms) for terms in objectives)):
        filled = [terms[i] if i < len(terms) else None for terms in objectives]
        shape = objectives[0][0][0].shape
        if len(objectives) == 1:
            targets, temperature = objectives[0][i]
            stacked.append((targets[None], [temperature]))
            continue
        targets = np.zeros((len(objectives), *shape), dtype=dtype)
        for member, term in enumerate(filled):
            if term is not None:
                targets[member] = term[0]
        stacked.append((targets, [1.0 if t is None else t[1] for t in filled]))
    return stacked


def _temperatures(temperatures: list[float], floats: Callable[..., Any]) -> Any:
    """Return one number where all members have the same, else a tensor (G, 1, 1)."""
    if len(set(temperatures)) == 1:
        return temperatures[0]
    return floats(np.array(temperatures).reshape(-1, 1, 1))
