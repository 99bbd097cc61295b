"""Candidate truths, judged on held-out later sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rimsim.arrays import Float32s, Floats
from rimsim.intensity.popularity import log_returning
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.selection.shrinkage import for_all, for_slates
from rimsim.market.consumers.contract import Candidate

PRIOR = 0.5
"""Events an item that popularity in all sessions counts for beside that in later ones."""


class JudgedTruth(NamedTuple):
    """Candidate with its likelihood user by user."""

    candidate: Candidate
    by_user: Floats
    """(n,) log-likelihood of all that each held-out user took, nats."""
    spread: float = 0.0
    """Standard deviation of the personal part, unweighted, at the held-out states, nats."""


def judged(
    held: HeldOut, kind: str, ridge: float, personal: Floats, popular: Floats, gap: str
) -> JudgedTruth:
    """Candidate of a fit, with weights of its parts."""
    # log p(y|x) is a sum of a personal part (n, M), the log popularity (M,) and the log popularity in later sessions.
    # The likelihood uses the weights at which it is largest. A truth is asked about slates, so its own weights are
    # those that best predict choices from slates.
    parts = tuple(
        np.asarray(part, np.float32) for part in (personal, popular, log_returning(held.past, gap, PRIOR))
    )
    by_user = held.log_likelihood(_sum(for_all(held, parts), parts))
    weights = for_slates(held, parts)
    precision = float(held.precision(_sum(weights, parts)).mean())
    own, popularity, returning = weights.tolist()
    likelihood = held.nats(by_user)
    candidate = Candidate(kind, ridge, own, popularity, returning, likelihood, precision)
    return JudgedTruth(candidate, by_user, float(personal.std()))


def _sum(weights: Floats, parts: tuple[Float32s, ...]) -> Floats:
    personal, popular, returning = parts
    return np.asarray(weights[0] * personal + (weights[1] * popular + weights[2] * returning), np.float64)


def behind(held: HeldOut, best: JudgedTruth, other: JudgedTruth) -> tuple[float, float]:
    """Loss of log-likelihood of another candidate, and its error."""
    # Per item taken, in nats; the standard error is paired by user.
    number = (held.taken > 0).sum(1)
    gap = best.by_user - other.by_user
    mean = gap.sum() / number.sum()
    return float(mean), float(np.sqrt(np.square(gap - mean * number).sum()) / number.sum())


def climb(
    judge: Callable[[float], JudgedTruth], ridges: tuple[float, ...], start: int
) -> tuple[list[JudgedTruth], bool]:
    """Candidates on a grid of ridges, followed uphill from ``start``."""
    # The best comes first; true: it lies at an end of the grid.
    found: dict[int, JudgedTruth] = {}

    def height(place: int) -> float:
        if place not in found:
            found[place] = judge(ridges[place])
        return found[place].candidate.log_likelihood

    low, high = max(start - 1, 0), min(start + 1, len(ridges) - 1)
    while True:
        best = max(range(low, high + 1), key=height)
        if best == low and low > 0:
            low -= 1
        elif best == high and high < len(ridges) - 1:
            high += 1
        else:
            break
    return sorted(found.values(), key=lambda one: -one.candidate.log_likelihood), best in {0, len(ridges) - 1}
