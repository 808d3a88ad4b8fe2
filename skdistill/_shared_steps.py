"""Steps of two threads: each has half of the rows, and half of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, wait
from functools import partial
from queue import SimpleQueue
from threading import BrokenBarrierError
from typing import TYPE_CHECKING

from skdistill._batch import Run
from skdistill._optimizers import AdamW
from skdistill._parts import Operation
from skdistill._stack import MLPStack
from skdistill._steps import Steps
from skdistill._training_set import TrainingData, TrainingSet

if TYPE_CHECKING:
    import torch

#: A thread that waits keeps its processor for about a tenth of a millisecond, by square
#: roots of so many numbers, so many times: to give it up and to be woken takes as long
#: as a tenth of a step, and others rarely are that late.
PAUSE_NUMBERS = 8000
N_PAUSES = 40


class SharedSteps(Steps):
    """Steps on a CPU, by two threads where they are long enough to be cut into shards.

    Each thread goes through all steps of a run by itself and meets the other twice a
    step: when the gradients of both shards are there, and when both have moved their
    halves of the parameters. What happens to each number does not depend on whether
    there is a second thread.
    """

    stack: MLPStack
    optimizer: AdamW

    def epoch(
        self,
        data: TrainingData,
        batch_size: int,
        generators: Sequence[torch.Generator],
    ) -> torch.Tensor:
        """Take one pass over the training rows; return the members' mean losses."""
        assert isinstance(data, TrainingSet)
        loss = self._no_loss()
        for run, share in data.runs(batch_size, generators):
            if self.pool is not None and self.stack.n_shards(run.batch_size) > 1:
                self._share(loss, run, share, self.pool)
            else:
                for batch in run.batches():
                    self._add(loss, batch, share)
        return loss

    def narrowed(self) -> None:
        """Forget what moves tensors that are no longer trained."""
        self._moves: list[list[Operation]] = []

    def _share(
        self, loss: torch.Tensor, run: Run, share: float, pool: Executor
    ) -> None:
        """Take the steps of a run by two threads; add their shares of the loss."""
        if not self._moves:
            self._moves = list(map(self._moving, self.optimizer.halves()))
        self.stack.round()
        meeting, losses = Meeting(), [loss, loss]

        def add() -> None:
            loss.add_(losses[0] + losses[1], alpha=share)

        first, second = run.shards()
        others = []
        try:
            take = partial(self._take_half, 1, second, meeting, losses, [], [])
            others.append(pool.submit(take))
            self._take_half(0, first, meeting, losses, self._counting(), [add])
        except BrokenBarrierError:
            # The other thread has left: what its result raises says why.
            others[0].result()
            raise
        finally:
            # Whatever has happened, wherever: nobody waits for this thread any more.
            meeting.sides[0].leave()
            wait(others)
        others[0].result()

    def _moving(self, part: Callable[[torch.Tensor], torch.Tensor]) -> list[Operation]:
        """Return what moves a part of the parameters once all gradients are there."""
        moves = self.stack.adding(part) + self.optimizer.moving(part)
        moves += self.stack.rounding(part)
        if self.average is not None:
            moves.append(self.average.updating(part))
        return moves

    def _counting(self) -> list[Operation]:
        """Return what is done once a step, while the other thread counts on nothing."""
        counts = self.optimizer.counting()
        return counts if self.average is None else [*counts, self.average.count]

    def _take_half(
        self,
        side: int,
        run: Run,
        meeting: Meeting,
        losses: list[torch.Tensor],
        before: list[Operation],
        after: list[Operation],
    ) -> None:
        """Take one thread's half of each step.

        Parameters
        ----------
        side : {0, 1}
            Which thread's.
        run : Run
            Its rows.
        meeting : Meeting
            Where it meets the other.
        losses : list of tensor
            Where the loss of its rows is written.
        before, after : list of callable
            What it does besides before and after they have met with their gradients.
        """
        import torch

        moves = after + self._moves[side]
        own = meeting.sides[side]
        try:
            with torch.no_grad():
                for batch in run.batches():
                    losses[side] = self.stack.shard_gradient(side, batch)
                    for operation in before:
                        operation()
                    own.meet()
                    for operation in moves:
                        operation()
                    own.meet()
        finally:
            own.leave()


class Meeting:
    """Where two threads meet, again and again, over a run of steps.

    Unlike at a `threading.Barrier` each waits for a moment without giving up its
    processor. Once that was in vain, the machine has other work, and it no longer does.
    """

    def __init__(self) -> None:
        first, second = SimpleQueue[bool](), SimpleQueue[bool]()
        self.sides = _Side(first, second), _Side(second, first)


class _Side:
    """One thread's side of a meeting.

    Parameters
    ----------
    own, others : SimpleQueue of bool
        The calls that it and the other one are waiting for: False from one that leaves.
    """

    def __init__(self, own: SimpleQueue[bool], others: SimpleQueue[bool]) -> None:
        import torch

        self._own = own
        self._others = others
        self._patient = True
        # Takes a moment, without Python's lock, which the other thread may need.
        numbers = torch.zeros(PAUSE_NUMBERS, dtype=torch.float32, device="cpu")
        self._pause = numbers.sqrt_

    def meet(self) -> None:
        """Call the other thread, and wait until it has called.

        Raises
        ------
        threading.BrokenBarrierError
            If it has left.
        """
        self._others.put(True)
        if self._patient:
            self._patient = self._called_soon()
        if not self._own.get():
            raise BrokenBarrierError

    def _called_soon(self) -> bool:
        for _ in range(N_PAUSES):
            if not self._own.empty():
                return True
            self._pause()
        return False

    def leave(self) -> None:
        """Let the other thread no longer wait for this one."""
        self._others.put(False)
