"""Which students are trained together: stacks that are fast and within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skdistill._device import resolve_device
from skdistill.students._members import Member

#: What the members of a stack may differ in.
STACKED = ("learning_rate_init", "weight_decay", "random_state")

#: On a CPU parameters, gradients and moments of a stack stay below this: the
#: second-level cache of a core. Larger stacks are slower than their members alone.
STACK_CACHE_BYTES = 2**20

#: So many students are cut into stacks for two threads of a CPU.
SPLIT_STUDENTS = 8

#: Students of a stack at most, where there is no such cache to stay in.
MAX_STACK = 1024

#: What a stack takes beside the inputs of its first table stays below this, unless a
#: single student takes more: see `stack_bytes`.
STACK_BYTES = 2**28


def cut_into_stacks(members: Sequence[Member]) -> list[list[int]]:
    """Return the positions of the members of each stack.

    Members of a stack need not have the same rows, but as many, and as many inputs.

    Parameters
    ----------
    members : sequence of Member
        Students to train.

    Returns
    -------
    list of list of int
        A partition of their positions.
    """
    groups: dict[Any, list[int]] = {}
    for i, member in enumerate(members):
        groups.setdefault(_what_a_stack_shares(member), []).append(i)
    return [part for group in groups.values() for part in _cut(members, group)]


def _what_a_stack_shares(member: Member) -> Any:
    student: Any = member.student
    params = student.get_params(deep=False).items()
    held_out = None if member.held_out is None else member.held_out.shape
    embedded = student._embedded()
    return (
        tuple((name, repr(value)) for name, value in params if name not in STACKED),
        student._layer_sizes(member.problem),
        # NumPy's text of many columns leaves out those in the middle.
        None if embedded is None else embedded.tobytes(),
        (len(member.problem.codes), held_out, member.problem.n_epochs is None),
    )


def _cut(members: Sequence[Member], group: list[int]) -> list[list[int]]:
    largest = _largest_stack(members[group[0]], len(group))
    parts: list[list[int]] = []
    for i in group:
        together = [*parts[-1], i] if parts else []
        within = 0 < len(together) <= largest
        if within and stack_bytes([members[j] for j in together]) <= STACK_BYTES:
            parts[-1] = together
        else:
            parts.append([i])
    return parts


def _largest_stack(member: Member, n_students: int) -> int:
    """Return how many students a stack may have; on a CPU all have about as many."""
    student: Any = member.student
    if not _on_cpu(student):
        return MAX_STACK // member.n_folds
    item = np.dtype(student._parameter_dtype()).itemsize
    of_student = 4 * item * student._n_parameters(member.problem) * member.n_folds
    in_cache = max(1, STACK_CACHE_BYTES // of_student)
    if n_students < SPLIT_STUDENTS:
        return int(in_cache)
    # An even number of stacks on one core, too: how a grid is cut may change the
    # rounding.
    n_stacks = 2 * -(-n_students // (2 * in_cache))
    return int(-(-n_students // n_stacks))


def _on_cpu(student: Any) -> bool:
    return resolve_device(student.device) == "cpu"


def stack_bytes(members: Sequence[Member]) -> int:
    """Return what a stack takes beside the inputs of its first table.

    Its targets, of two terms; the inputs of further tables; and, where these are no
    part of a core's cache, parameters, gradients, moments, and the layers of a step and
    their slopes.

    Parameters
    ----------
    members : sequence of Member
        The members of the stack.

    Returns
    -------
    int
        Bytes.
    """
    student: Any = members[0].student
    problem = members[0].problem
    n_numbers = 2 * len(problem.codes) * len(problem.classes)
    if not _on_cpu(student):
        n_rows = student.batch_size or len(problem.codes)
        units = sum(student._layer_sizes(problem))
        n_numbers += 4 * student._n_parameters(problem)
        n_numbers += 2 * units * min(n_rows, len(problem.codes))
    tables = {id(member.inputs): member.inputs.size for member in members}
    further = sum(tables.values()) - members[0].inputs.size
    item = np.dtype(student._parameter_dtype()).itemsize
    n_networks = len(members) * members[0].n_folds
    return int(item * (n_networks * n_numbers + further))
