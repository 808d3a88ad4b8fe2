"""What torch-trained students share: their settings, and the way into the loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from skdistill._device import resolve_device
from skdistill._typing import FloatArray, IntArray
from skdistill.students._base import BaseStudent, Iterations, Problem

if TYPE_CHECKING:
    import torch

    from skdistill._training import History

#: ``early_stopping="auto"`` needs this many rows to judge an epoch by.
MIN_VALIDATION_ROWS = 50


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
        self, problem: Problem, generator: torch.Generator, seed: int, device: str
    ) -> Any:
        raise TypeError(f"{type(self).__name__} must define _make_stack.")

    def _attributes(self, member_state: Any) -> dict[str, Any]:
        raise TypeError(f"{type(self).__name__} must define _attributes.")

    def _random_layers(self, seed: int, device: str) -> AbstractContextManager[None]:
        """Return the context in which random layers draw reproducibly."""
        return nullcontext()

    def _prepare(self, problem: Problem) -> FloatArray:
        """Return the network's inputs; sets what prediction needs to do the same."""
        inputs: FloatArray = problem.X
        return inputs

    def _before_fit(self) -> None:
        resolve_device(self.device)

    def _solve(self, problem: Problem) -> None:
        import torch

        from skdistill._training import train

        device = resolve_device(self.device)
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31 - 1))
        generator = torch.Generator().manual_seed(seed)
        held_out = self._held_out_rows(problem.codes, rng)
        data = self._tensors(problem, held_out, device)
        stack = self._make_stack(problem, generator, seed, device)
        context = self._start_callbacks(problem, max_subtasks=self.max_iter)
        hook = self._epoch_hook(context, problem, lambda: stack.current(0))
        with self._random_layers(seed, device):
            history = train(stack, data, self._settings(data), [generator], hook)
        self._store(stack.kept(0), history)
        self._end_callbacks(context, problem)

    def _epoch_hook(
        self, context: Any, problem: Problem, state: Callable[[], Any]
    ) -> Iterations:
        return Iterations(
            context, self, problem, lambda: self._attributes(state()), "epoch"
        )

    def _settings(self, data: Any) -> Any:
        from skdistill._training import Settings

        n_train = data.train_rows.shape[1]
        return Settings(
            max_iter=self.max_iter,
            batch_size=n_train if self.batch_size is None else self.batch_size,
            learning_rate=self.learning_rate_init,
            weight_decay=self.weight_decay,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
        )

    def _tensors(self, problem: Problem, held_out: IntArray | None, device: str) -> Any:
        """Move the problem to the device, as the loop wants it."""
        import torch

        from skdistill._training import Term, TrainingSet

        def floats(values: FloatArray) -> torch.Tensor:
            # A copy where the type differs or the memory is read-only, as torch needs.
            array = np.require(values, dtype=self.dtype, requirements="W")
            return torch.from_numpy(array).to(device)[None]

        uniform = problem.sample_weight.min() == problem.sample_weight.max()
        rows = np.arange(len(problem.codes))
        train_rows = rows if held_out is None else np.delete(rows, held_out)
        return TrainingSet(
            x=floats(self._prepare(problem)),
            terms=tuple(Term(floats(t), s) for t, s in problem.terms),
            weight=None if uniform else floats(problem.sample_weight),
            train_rows=torch.as_tensor(train_rows, device=device)[None],
            validation_rows=(
                None
                if held_out is None
                else torch.as_tensor(held_out, device=device)[None]
            ),
        )

    def _held_out_rows(
        self, codes: IntArray, rng: np.random.RandomState
    ) -> IntArray | None:
        """Choose the rows that decide when to stop, stratified by label.

        Classes of one row stay in the training part.
        """
        if self.early_stopping is False:
            return None
        counts = np.bincount(codes)
        eligible = np.flatnonzero(counts[codes] >= 2)
        n_classes = int((counts >= 2).sum())
        wanted = int(np.ceil(self.validation_fraction * len(codes)))
        if self.early_stopping == "auto" and wanted < MIN_VALIDATION_ROWS:
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

    def _store(self, state: Any, history: History) -> None:
        for name, value in self._attributes(state).items():
            setattr(self, name, value)
        self.n_iter_ = int(history.n_iter[0])
        self.loss_curve_ = np.array([loss[0] for loss in history.loss])
        scores = np.array([-loss[0] for loss in history.validation_loss])
        self.validation_scores_ = scores if len(scores) else None
        self.best_validation_score_ = float(scores.max()) if len(scores) else None
