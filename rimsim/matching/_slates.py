"""What slates must be to be certified at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Ints
from rimsim.errors import AgentError

if TYPE_CHECKING:
    from rimsim.matching.problem import Problem


def refuse_no_slates(slates: Ints, problem: Problem) -> None:
    """Refuse what are no slates, naming the row."""
    n, m = problem.shape
    if slates.ndim != 2 or slates.shape[0] != n:
        raise AgentError(f"certificate: slates have shape {slates.shape}; allowed: ({n}, k), one row a user")
    wrong = np.argwhere((slates < -1) | (slates >= m))
    if len(wrong):
        row, position = wrong[0]
        raise AgentError(
            f"certificate: row {row} shows item {slates[row, position]}; allowed: 0 to {m - 1}, or −1 for none"
        )
    counts = (slates >= 0).sum(axis=1)
    many = np.flatnonzero(counts > problem.capacity)
    if len(many):
        row = many[0]
        raise AgentError(
            f"certificate: row {row} shows {counts[row]} items; its capacity is {problem.capacity[row]}"
        )
    beyond = slates.shape[1] if problem.weights is None else len(problem.weights)
    if (slates[:, beyond:] >= 0).any():
        raise AgentError(f"certificate: slates show items beyond the {beyond} positions that have a weight")
    ordered = np.sort(slates, axis=1)
    twice = np.argwhere((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0))
    if len(twice):
        row, position = twice[0]
        raise AgentError(
            f"certificate: row {row} shows item {ordered[row, position]} twice; allowed: distinct items"
        )
