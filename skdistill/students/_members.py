"""The members of a stack: students, what they are trained on, and their training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skdistill._device import fits_on, resolve_device
from skdistill._typing import FloatArray, IntArray
from skdistill.students._class_weight import weigh_terms
from skdistill.students._held_out import rows_without
from skdistill.students._problem import Problem, Terms, of_ordinary_size

if TYPE_CHECKING:
    import torch

    from skdistill._training import History
    from skdistill.students._gradient import GradientStudent


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
    held_out : ndarray of shape (n_folds, n_held_out) or None
        Rows that decide when to stop.
    """

    student: GradientStudent
    problem: Problem
    inputs: FloatArray
    seed: int
    held_out: IntArray | None

    @property
    def n_folds(self) -> int:  # numpydoc ignore=RT01
        """How many networks decide when to stop."""
        return 1 if self.held_out is None else len(self.held_out)

    def objectives(self) -> list[Terms]:
        """Return the objective of each fold, where it is judged by labels with these.

        Returns
        -------
        list of tuple of (ndarray of shape (n_samples, n_classes), float)
            Terms of each.
        """
        problem = self.problem
        weights = self.student._class_weights(problem)
        terms, _ = weigh_terms(problem.terms, weights, problem.sample_weight)
        if problem.labelled is None or self.held_out is None:
            return [terms] * self.n_folds
        return [
            _judged_by_labels(terms, problem, rows, weights) for rows in self.held_out
        ]

    def train_rows(self) -> list[IntArray]:
        """Return the rows to learn from in each fold.

        Returns
        -------
        list of ndarray of shape (n_train,)
            Their positions.
        """
        n_rows = len(self.problem.codes)
        if self.held_out is None:
            return [np.arange(n_rows)]
        return rows_without(n_rows, self.held_out)


class Course(NamedTuple):
    """How the training of a student went.

    Attributes
    ----------
    loss : ndarray of shape (n_iter,)
        Training loss of each epoch.
    validation_loss : ndarray of shape (n_validated,)
        Loss on held-out rows of each epoch that was scored; empty if none are held out.
    """

    loss: FloatArray
    validation_loss: FloatArray


def train_members(
    members: Sequence[Member], context: Any = None
) -> tuple[Any, list[Course]]:
    """Train students of one architecture as one stack, each as if it were alone.

    Where they have several folds, the networks that leave one out each decide by their
    mean loss on it how many epochs there are, and the student learns from all rows.

    Parameters
    ----------
    members : sequence of Member
        They may differ in rows, objective, learning rate, weight decay and seed, and
        have as many rows, and as many folds of as many rows held out.
    context : CallbackContext or None, default=None
        Of the fit of a single member.

    Returns
    -------
    stack : Stack
        Holds their parameters.
    courses : list of Course
        What happened.
    """
    import torch

    # In inference mode modules have no gradients, and no thread but this one may
    # change a tensor.
    with torch.inference_mode(False):
        return _train_members(members, context)


def _train_members(members: Sequence[Member], context: Any) -> tuple[Any, list[Course]]:
    """Train students as one stack, perhaps folds of them first."""
    if members[0].n_folds == 1:
        return _trained(members, context)
    _, found = _trained(members)
    best = [1 + int(course.validation_loss.argmin()) for course in found]
    everything = [
        m._replace(held_out=None, problem=replace(m.problem, n_epochs=n_epochs))
        for m, n_epochs in zip(members, best, strict=True)
    ]
    stack, courses = _trained(everything, context)
    return stack, [
        course._replace(validation_loss=first.validation_loss)
        for first, course in zip(found, courses, strict=True)
    ]


def _trained(
    members: Sequence[Member], context: Any = None
) -> tuple[Any, list[Course]]:
    """Train a network for each fold of each member."""
    import torch

    from skdistill._training import train

    first = members[0].student
    device = resolve_device(first.device)
    n_folds = members[0].n_folds
    networks = [member for member in members for _ in range(n_folds)]
    generators = [torch.Generator().manual_seed(m.seed) for m in networks]
    data = _training_data(members, device)
    stack = first._make_stack(networks, generators, device)
    hook = None
    if context is not None:
        hook = first._epoch_hook(context, members[0].problem, lambda: stack.current(0))
    # Networks of one seed start alike and see their rows in the same order.
    shuffling = generators if len({m.seed for m in members}) > 1 else generators[:1]
    with first._random_layers(members[0].seed, device):
        history = train(stack, data, _settings(networks, data), shuffling, hook)
    return stack, _courses(history, n_folds)


def _courses(history: History, n_folds: int) -> list[Course]:
    """Return the mean losses of each student's networks, up to its last epoch."""

    def curve(losses: Sequence[FloatArray], student: int) -> FloatArray:
        networks = slice(student * n_folds, (student + 1) * n_folds)
        n_iter = history.n_iter[networks][0]
        return np.array([loss[networks].mean() for loss in losses[:n_iter]])

    return [
        Course(curve(history.loss, k), curve(history.validation_loss, k))
        for k in range(len(history.n_iter) // n_folds)
    ]


def _settings(members: Sequence[Member], data: Any) -> Any:
    from skdistill._training import Settings

    first = members[0].student
    n_train = data.train_rows.shape[1]
    batch_size = n_train if first.batch_size is None else first.batch_size
    given = [member.problem.n_epochs for member in members]
    n_epochs = [number for number in given if number is not None]
    return Settings(
        max_iter=first.max_iter,
        batch_size=batch_size,
        learning_rate=_common([m.student.learning_rate_init for m in members]),
        weight_decay=_common([m.student.weight_decay for m in members]),
        tol=first.tol,
        n_iter_no_change=first.n_iter_no_change,
        # Steps on all rows have no noise that an average could take away.
        averaging=first._averages_steps() and batch_size < n_train,
        group_size=members[0].n_folds,
        n_epochs=n_epochs or None,
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
    networks = [member for member in members for _ in range(member.n_folds)]
    objectives = [terms for member in members for terms in member.objectives()]
    stacked = _stacked_terms(objectives, dtype)
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

    train_rows = rows([part for member in members for part in member.train_rows()])
    held_out = [part for m in members if m.held_out is not None for part in m.held_out]
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
    weight = _once([of_ordinary_size(m.problem.sample_weight) for m in networks])
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
        first_row=None if len(tables) == 1 else rows(_first_rows(networks, tables)),
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
        if all(terms is objectives[0] for terms in objectives):
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
