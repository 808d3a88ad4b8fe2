"""What torch-trained students share: their settings, and the way into the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from skdistill._device import fits_on, resolve_device
from skdistill._typing import FloatArray, IntArray
from skdistill.students._base import BaseStudent, Iterations, Problem, Terms

if TYPE_CHECKING:
    import torch

    from skdistill._training import History

#: ``early_stopping="auto"`` judges an epoch by at least so many rows where there are
#: enough, by a fifth of the rows where there are not, and by none if that is below the
#: smaller number. Small tables need it most: without it networks become over-confident.
ENOUGH_VALIDATION_ROWS = 50
MIN_VALIDATION_ROWS = 10

#: Share of the log-loss that another seed may change.
TRAINING_NOISE = 0.01


class GradientStudent(BaseStudent):
    """Base of the students that the torch training loop trains.

    A subclass implements ``_make_stack(problem, generator, seed, device)`` and
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
        "device": [str],
        "dtype": [StrOptions({"float32", "float64"})],
        "random_state": ["random_state"],
    }

    def _make_stack(
        self,
        problem: Problem,
        generators: Sequence[torch.Generator],
        seed: int,
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

    def _training_noise(self) -> float:
        return TRAINING_NOISE

    def _before_fit(self) -> None:
        resolve_device(self.device)

    def _solve(self, problem: Problem) -> None:
        context = self._start_callbacks(problem, max_subtasks=self.max_iter)
        inputs = self._prepare(problem)
        stack, history = self._train(problem, inputs, [problem.terms], context)
        self._store(stack.kept(0), history, 0)
        self._end_callbacks(context, problem)

    def _train(
        self,
        problem: Problem,
        inputs: FloatArray,
        objectives: Sequence[Terms],
        context: Any = None,
    ) -> tuple[Any, History]:
        """Train one student for each objective, as one stack."""
        import torch

        from skdistill._training import train

        device = resolve_device(self.device)
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31 - 1))
        # All members start alike and see the same batches: they differ in nothing but
        # their objectives, and each ends as it would have alone.
        generators = [torch.Generator().manual_seed(seed) for _ in objectives]
        held_out = self._held_out_rows(problem, rng)
        if problem.labelled is not None and held_out is not None:
            objectives = [
                _judged_by_labels(terms, problem, held_out) for terms in objectives
            ]
        data = self._tensors(problem, inputs, objectives, held_out, device)
        stack = self._make_stack(problem, generators, seed, device)
        hook = None
        if context is not None:
            hook = self._epoch_hook(context, problem, lambda: stack.current(0))
        with self._random_layers(seed, device):
            history = train(stack, data, self._settings(data), generators[:1], hook)
        return stack, history

    def _epoch_hook(
        self, context: Any, problem: Problem, state: Callable[[], Any]
    ) -> Iterations:
        return Iterations(
            context, self, problem, lambda: self._attributes(state()), "epoch"
        )

    def _settings(self, data: Any) -> Any:
        from skdistill._training import Settings

        n_train = data.train_rows.shape[1]
        batch_size = n_train if self.batch_size is None else self.batch_size
        return Settings(
            max_iter=self.max_iter,
            batch_size=batch_size,
            learning_rate=self.learning_rate_init,
            weight_decay=self.weight_decay,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            # Steps on all rows have no noise that an average could take away.
            averaging=self._averages_steps() and batch_size < n_train,
        )

    def _tensors(
        self,
        problem: Problem,
        inputs: FloatArray,
        objectives: Sequence[Terms],
        held_out: IntArray | None,
        device: str,
    ) -> Any:
        """Return the problem as the loop wants it, on the device if it fits there."""
        import torch

        from skdistill._pairs import RankingSet
        from skdistill._training_set import Term, TrainingSet

        dtype = self._parameter_dtype()
        stacked = _stacked_terms(objectives, dtype)
        n_numbers = inputs.size + sum(targets.size for targets, _ in stacked)
        fits = fits_on(device, np.dtype(dtype).itemsize * n_numbers)
        home = device if fits or problem.pairs is not None else "cpu"

        def floats(values: FloatArray, where: str = home) -> torch.Tensor:
            # A copy where the type differs or the memory is read-only, as torch needs.
            array = np.require(values, dtype, requirements="W")
            return torch.from_numpy(array).to(where)

        def rows(indices: IntArray) -> torch.Tensor:
            return torch.from_numpy(indices).to(home)[None]

        every = np.arange(len(problem.codes))
        train_rows = rows(every if held_out is None else np.delete(every, held_out))
        validation_rows = None if held_out is None else rows(held_out)
        if problem.pairs is not None:
            positive, negative = problem.pair_masses()
            return RankingSet(
                floats(inputs)[None],
                torch.from_numpy(positive),
                torch.from_numpy(negative),
                problem.pairs,
                train_rows,
                validation_rows,
            )
        weight = problem.sample_weight
        uniform = weight.min() == weight.max()
        return TrainingSet(
            x=floats(inputs)[None],
            terms=[
                Term(
                    floats(targets),
                    _temperatures(temperatures, lambda values: floats(values, device)),
                )
                for targets, temperatures in stacked
            ],
            weight=None if uniform else floats(weight)[None],
            train_rows=train_rows,
            validation_rows=validation_rows,
            device=None if fits else device,
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


def _judged_by_labels(terms: Terms, problem: Problem, rows: IntArray) -> Terms:
    """Let the loss of some rows be that of their labels, at student temperature 1."""
    judged = [(np.array(targets), temperature) for targets, temperature in terms]
    if all(temperature != 1.0 for _, temperature in terms):
        judged.insert(0, (np.zeros_like(judged[0][0]), 1.0))
    for targets, _ in judged:
        targets[rows] = 0.0
    first = next(targets for targets, temperature in judged if temperature == 1.0)
    first[rows, problem.codes[rows]] = 1.0
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
