"""Rows to be ranked: batches of pairs for the training loop.

The score of a row is the difference of its two logits, the log-odds of the second
class; a constant added to all scores changes no pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skdistill._bipartite import NO_PAIRS, PairRisk
from skdistill._training_set import take

if TYPE_CHECKING:
    import torch

    from skdistill._batch import Batch

#: Up to this many pairs across are compared one by one; of more, only sums are taken.
DIRECT_PAIRS = 2**18


@dataclass(frozen=True)
class RankingSet:
    """Rows of which pairs are to be put in order, for a stack of one student.

    Attributes
    ----------
    x : tensor of shape (1, n_samples, n_features)
        Inputs.
    positive, negative : tensor of shape (n_samples,)
        How much each row counts as a positive and as a negative; float64, on the CPU.
    risk : PairRisk
        What is minimised.
    train_rows : LongTensor of shape (1, n_train)
        Rows to learn from.
    validation_rows : LongTensor of shape (1, n_validation) or None
        Rows that decide when to stop; None: the training loss decides.
    """

    x: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor
    risk: PairRisk
    train_rows: torch.Tensor
    validation_rows: torch.Tensor | None = None

    def epoch(
        self, batch_size: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[Batch, float]]:
        """Yield the batches of an epoch, of about as many rows as there are.

        Rows that fit into one batch are compared pair by pair. Otherwise half of a
        batch is drawn by how much rows count as positives, and half by how much they
        count as negatives, and all pairs across are compared: their mean loss is an
        unbiased estimate of that of all pairs, whatever the share of positives.
        """
        n_train = self.train_rows.shape[1]
        n_batches = -(-n_train // max(2, batch_size))
        if n_batches == 1:
            yield self._all_pairs(self.train_rows), 1.0
            return
        n_half = -(-n_train // (2 * n_batches))
        index = self.train_rows[0].cpu()
        drawn = [
            systematic_sample(mass[index], n_batches * n_half, generators[0])
            for mass in (self.positive, self.negative)
        ]
        for i in range(n_batches):
            part = slice(i * n_half, (i + 1) * n_half)
            rows = [sample[part].to(self.x.device) for sample in drawn]
            x = take(self.x, self.train_rows[:, _concatenate(rows)])
            yield PairBatch(x, self.risk), 1.0 / n_batches

    def validation(self) -> Iterator[Batch]:
        """Yield all pairs of the validation rows, as one batch."""
        assert self.validation_rows is not None
        yield self._all_pairs(self.validation_rows)

    def narrowed(self, members: torch.Tensor) -> RankingSet:
        """Return the set as it is: its only member is still trained."""
        return self

    def _all_pairs(self, rows: torch.Tensor) -> AllPairsBatch:
        index = rows[0].cpu()
        return AllPairsBatch(
            take(self.x, rows), self.positive[index], self.negative[index], self.risk
        )


def systematic_sample(
    mass: torch.Tensor, n_drawn: int, generator: torch.Generator
) -> torch.Tensor:
    """Draw rows in proportion to their mass, as evenly as possible, in random order.

    A row of share m of the mass is drawn ``n_drawn * m`` times, rounded down or up by
    chance (Madow 1949): each draw has the distribution of the masses, and equal masses
    are used up before one is drawn again.

    Parameters
    ----------
    mass : tensor of shape (n_rows,)
        Non-negative masses, float64.
    n_drawn : int
        Number of draws.
    generator : torch.Generator
        Source of the start and of the order.

    Returns
    -------
    LongTensor of shape (n_drawn,)
        Rows.
    """
    import torch

    upto = mass.cumsum(0)
    if not float(upto[-1]) > 0:
        raise ValueError(NO_PAIRS)
    on_cpu: Any = {"dtype": torch.float64, "device": "cpu"}
    start = torch.rand(1, generator=generator, **on_cpu)
    points = (torch.arange(n_drawn, **on_cpu) + start) / n_drawn * upto[-1]
    # Rows without mass end where they begin, so that no point falls on them; rounding
    # may put the last point at the end.
    last = int(torch.nonzero(mass)[-1])
    rows = torch.searchsorted(upto, points, right=True).clamp_(max=last)
    return rows[torch.randperm(n_drawn, generator=generator, device="cpu")]


@dataclass(frozen=True)
class AllPairsBatch:
    """Rows and the exact risk of all their pairs.

    Attributes
    ----------
    x : tensor of shape (1, batch_size, n_features)
        Inputs.
    positive, negative : tensor of shape (batch_size,)
        How much each row counts as a positive and as a negative; float64, on the CPU.
    risk : PairRisk
        What is minimised.
    """

    x: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor
    risk: PairRisk

    def shards(self) -> None:
        """Return None: rows are compared with each other."""
        return

    def loss_and_slope(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the risk (1,) and its slope in the logits.

        Taken in float64 on the CPU, one number a row.
        """
        import torch

        scores = (logits[0, :, 1] - logits[0, :, 0]).cpu().double().numpy()
        value, slope = self.risk.value_and_slope(
            scores, self.positive.numpy(), self.negative.numpy()
        )
        to_score = torch.from_numpy(slope).to(logits)
        return logits.new_full((1,), value), _to_logits(to_score[None])


@dataclass(frozen=True)
class PairBatch:
    """Drawn rows, first the positives and then as many negatives.

    Attributes
    ----------
    x : tensor of shape (1, batch_size, n_features)
        Inputs.
    risk : PairRisk
        What is minimised.
    """

    x: torch.Tensor
    risk: PairRisk

    def shards(self) -> None:
        """Return None: rows are compared with each other."""
        return

    def loss_and_slope(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the risk (1,) of the pairs across and its slope in the logits."""
        half = logits.shape[1] // 2
        if half**2 > DIRECT_PAIRS:
            return self._summed(half).loss_and_slope(logits)
        scores = logits[:, :, 1] - logits[:, :, 0]
        margins = scores[:, :half, None] - scores[:, None, half:]
        losses, slopes = _margin_losses(margins, self.risk.surrogate)
        # Rows whose mean loss is emphasised: negatives in a push, else positives.
        inner = 1 if self.risk.push != 1.0 else 2
        values, factors = self._emphasised(losses.mean(dim=inner, keepdim=True))
        slopes = slopes * factors / half**2
        to_scores = _concatenate([slopes.sum(dim=2), -slopes.sum(dim=1)], dim=1)
        return values.mean(dim=(1, 2)), _to_logits(to_scores)

    def _summed(self, half: int) -> AllPairsBatch:
        """Return the same pairs as those of rows that are surely of one class."""
        import torch

        is_positive = torch.arange(2 * half, device="cpu") < half
        return AllPairsBatch(
            self.x, is_positive.double(), (~is_positive).double(), self.risk
        )

    def _emphasised(self, mean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return g of mean losses and its derivative, as `PairRisk` has them."""
        power, share = self.risk.push, self.risk.top_share
        if power != 1.0:
            return mean**power, power * mean ** (power - 1.0)
        if share is not None:
            scale = 1.0 / float(np.log1p(1.0 / share))
            return scale * (mean / share).log1p(), scale / (share + mean)
        return mean, mean.new_ones(())


def _margin_losses(
    margins: torch.Tensor, surrogate: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses of margins and their derivatives."""
    import torch

    if surrogate == "squared":
        return (1.0 - margins) ** 2, -2.0 * (1.0 - margins)
    if surrogate == "exponential":
        value = (-margins).exp()
        return value, -value
    return torch.nn.functional.softplus(-margins), -(-margins).sigmoid()


def _to_logits(to_scores: torch.Tensor) -> torch.Tensor:
    """Return slopes of both logits from those of their difference."""
    import torch

    return torch.stack([-to_scores, to_scores], dim=-1)


def _concatenate(tensors: list[torch.Tensor], dim: int = 0) -> torch.Tensor:
    import torch

    return torch.cat(tensors, dim=dim)
