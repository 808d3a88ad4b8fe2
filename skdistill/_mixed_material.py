"""Soft labels of which the teacher makes one part, and students on labels the other."""

from __future__ import annotations

import numpy as np

from skdistill._calibration import fit_temperature
from skdistill._choice import MIXTURE, Material, Recipe
from skdistill._mixture import fit_mixture_weights
from skdistill._own_students import OwnStudents
from skdistill._typing import FloatArray
from skdistill.losses import temper_proba


def mixed_material(
    recipe: Recipe,
    material: Material,
    source: str,
    own: OwnStudents,
    judged: int | None,
) -> tuple[Material, float]:
    r"""Mix the teacher's probabilities with those of students on the labels.

    .. math:: v \, p_i^{(T)} + (1 - v) \, s_i

    with p the teacher's probabilities at the temperature T that fits the labels best,
    s those of the students, both out-of-fold, and v the share of the lowest log-loss on
    the labels of the same rows. A teacher that knows nothing that the students do not
    gets no share, and what is left is self-distillation.

    Parameters
    ----------
    recipe : Recipe
        Has labels and weights.
    material : Material
        With the teacher's probabilities.
    source : str
        Which of these.
    own : OwnStudents
        The students.
    judged : int or None
        The fold outside which the rows of the material are; None for all rows.

    Returns
    -------
    mixed : Material
        The same rows, with the mixture.
    teacher_share : float
        The share v.
    """
    codes = recipe.labelled.codes[material.rows]
    weight = recipe.weight[material.rows]
    teacher, student = material.proba[source], own.out_of_fold(judged)
    temperature = fit_temperature(codes, teacher, sample_weight=weight)
    tempered = temper_proba(teacher, temperature)
    picked = [proba[np.arange(len(codes)), codes] for proba in (tempered, student)]
    shares = fit_mixture_weights(np.column_stack(picked), weight)

    def mix(teacher: FloatArray, student: FloatArray) -> FloatArray:
        mixed: FloatArray = shares[0] * temper_proba(teacher, temperature)
        return mixed + shares[1] * student

    added, synthetic = (
        tuple((X, mix(proba, own.of_new_rows(X, judged))) for X, proba in parts)
        for parts in (material.added, material.synthetic)
    )
    own_proba = {MIXTURE: mix(teacher, student)}
    return Material(material.rows, own_proba, added, synthetic), float(shares[0])
