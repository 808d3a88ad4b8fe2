"""What torch-trained students share: their settings, and the way into the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from skdistill._device import resolve_device
from skdistill._typing import FloatArray, IntArray
from skdistill.students._base import BaseStudent, Iterations
from skdistill.students._class_weight import CLASS_WEIGHT_CONSTRAINT
from skdistill.students._held_out import one_part, repeated, several_parts
from skdistill.students._members import Course, Member, train_members
from skdistill.students._problem import Problem

if TYPE_CHECKING:
    import torch

#: ``early_stopping="auto"`` judges an epoch by at least so many rows where there are
#: enough, by a fifth of the rows where there are not, and by none if that is below the
#: smaller number. Small tables need it most: without it networks become over-confident.
ENOUGH_VALIDATION_ROWS = 50
MIN_VALIDATION_ROWS = 10


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
        stack, (course,) = train_members([member], context)
        self._store(stack.kept(0), course)
        self._end_callbacks(context, problem)

    def _member(self, problem: Problem, inputs: FloatArray) -> Member:
        """Return the student with what it is trained on, seed and rows drawn."""
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31 - 1))
        held_out = None
        if problem.n_epochs is None:
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
        """Choose the rows of each fold that decide when to stop, stratified by label.

        Classes of one row stay in the training part, as do rows without a label.
        """
        labelled, codes = problem.labelled, problem.codes
        if labelled is not None:
            codes = codes[labelled]
        n_wanted = self._n_wanted(len(codes))
        if n_wanted == 0:
            return None
        n_eligible = len(repeated(codes))
        n_folds = self._n_folds(n_eligible, ranked=problem.pairs is not None)
        if n_folds > max(1, n_eligible):
            raise ValueError(
                f"n_folds={n_folds} needs as many rows whose label another row has; "
                f"there are {n_eligible}. Use fewer, or n_folds='auto'."
            )
        if n_folds > 1:
            parts = several_parts(codes, n_folds, rng)
        else:
            parts = one_part(codes, n_wanted, rng)
        if parts is None and self.early_stopping is True:
            raise ValueError(
                f"early_stopping=True with validation_fraction="
                f"{self.validation_fraction} needs rows to hold out, and a row of each "
                f"class outside them; {len(codes)} rows are too few. Set "
                "early_stopping=False."
            )
        return parts if parts is None or labelled is None else labelled[parts]

    def _n_wanted(self, n_rows: int) -> int:
        """Return how many rows to hold out, if no class needs more."""
        if self.early_stopping is False:
            return 0
        wanted = int(np.ceil(self.validation_fraction * n_rows))
        if self.early_stopping == "auto":
            wanted = max(wanted, min(ENOUGH_VALIDATION_ROWS, n_rows // 5))
            return wanted if wanted >= MIN_VALIDATION_ROWS else 0
        return wanted

    def _n_folds(self, n_eligible: int, *, ranked: bool) -> int:
        """Return how many parts are held out in turn."""
        return 1

    def _store(self, state: Any, course: Course) -> None:
        """Set the fitted attributes from what the loop left."""
        for name, value in self._attributes(state).items():
            setattr(self, name, value)
        self.n_iter_ = len(course.loss)
        self.loss_curve_ = course.loss
        scores = -course.validation_loss
        self.validation_scores_ = scores if len(scores) else None
        self.best_validation_score_ = float(scores.max()) if len(scores) else None
