"""Choose a mixing weight for each class, one for all, or labels alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skdistill._choice import ON_LABELS, Candidate, Recipe
from skdistill._decision import Outcome, conclude, undecided
from skdistill._judging import Judgement, judge, judge_each
from skdistill._material import Supply
from skdistill._parabola import class_mixing_weights
from skdistill._typing import IntArray
from skdistill.students._base import BaseStudent


def decide_by_class(
    student: BaseStudent,
    recipe: Recipe,
    ends: Candidate,
    supply: Supply,
    n_jobs: int | None,
) -> Outcome:
    """Estimate mixing weights from held-out labels, and choose by held-out labels.

    A student on labels alone and one on soft labels alone, trained on each fold, say
    what the weights of the classes are, and their mean the weight of all. Candidates
    with these weights are judged on each fold by labels that their weights were not
    estimated from.

    Parameters
    ----------
    student : student
        Unfitted.
    recipe : Recipe
        Makes the problems.
    ends : Candidate
        Soft labels alone.
    supply : Supply
        Makes the material.
    n_jobs : int or None
        Folds worked on at the same time.

    Returns
    -------
    Outcome
        Labels alone, with a warning, where there are too few rows to choose.
    """
    if not supply.can_choose:
        return undecided(supply, "per-class")
    folds = supply.fold_material()
    first = judge(student, recipe, [ON_LABELS, ends], folds, n_jobs, keep_proba=True)
    fold, tests = first.fold, np.concatenate([test for _, test in folds])
    codes = recipe.labelled.codes[tests]
    of_folds = [_mixed(ends, first, codes, fold != k) for k in range(len(folds))]
    second = judge_each(student, recipe, of_folds, folds, n_jobs)
    judgement = first.followed_by(second)
    mixed = _mixed(ends, first, codes, np.ones(len(fold), dtype=bool))
    candidates = [ON_LABELS, ends, *mixed]
    settled = student._ends_in_one_minimum()
    return conclude(recipe, candidates, supply, tests, judgement, settled=settled)


def _mixed(
    ends: Candidate, judged: Judgement, codes: IntArray, rows: NDArray[np.bool_]
) -> list[Candidate]:
    """Return the candidates with one weight for all classes, and with one for each."""
    assert judged.proba is not None
    labels, soft = judged.proba[:, rows]
    weight = judged.weight[rows]
    pooled, by_class = class_mixing_weights(codes[rows], labels, soft, weight)
    one = replace(ends, mixing_weight=pooled) if pooled > 0 else ON_LABELS
    if not by_class.any():
        return [one, ON_LABELS]
    return [one, replace(ends, mixing_weight=tuple(by_class.tolist()))]
