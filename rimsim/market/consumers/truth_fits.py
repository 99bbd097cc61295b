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


class Judged(NamedTuple):
    """A candidate, and its likelihood user by user."""

    candidate: Candidate
    by_user: Floats
    """(n,) log-likelihood of all that each held-out user took, nats."""
    spread: float = 0.0
    """Standard deviation of the personal part, unweighted, at the held-out states, nats."""


def judged(held: HeldOut, kind: str, ridge: float, personal: Floats, popular: Floats, gap: str) -> Judged:
    """What a fit to the past of the cut is worth, and how its parts are weighed.

    log p(y|x) is a sum of a personal part, the log popularity of y and its log popularity in later sessions. What a
    fit knows is told by the likelihood of all that was taken, with the weights at which it is largest. A truth is asked
    about slates, so the weights that it gets are those that foretell best what is taken of slates.

    Args:
        held: Users as they were at the cut, and what they took from it on.
        kind: Class of the truth.
        ridge: Its ridge.
        personal: (n, M) personal part.
        popular: (M,) log popularity.
        gap: A silence longer than this ends a session.
    """
    parts = tuple(
        np.asarray(part, np.float32) for part in (personal, popular, log_returning(held.past, gap, PRIOR))
    )
    by_user = held.log_likelihood(_sum(for_all(held, parts), parts))
    weights = for_slates(held, parts)
    precision = float(held.precision(_sum(weights, parts)).mean())
    own, popularity, returning = weights.tolist()
    likelihood = held.nats(by_user)
    candidate = Candidate(kind, ridge, own, popularity, returning, likelihood, precision)
    return Judged(candidate, by_user, float(personal.std()))


def _sum(weights: Floats, parts: tuple[Float32s, ...]) -> Floats:
    personal, popular, returning = parts
    return np.asarray(weights[0] * personal + (weights[1] * popular + weights[2] * returning), np.float64)


def behind(held: HeldOut, best: Judged, other: Judged) -> tuple[float, float]:
    """By how much another candidate is less likely than the best, and the standard error of that over users.

    Args:
        held: Users as they were at the cut, and what they took from it on.
        best: What was chosen.
        other: Another candidate.

    Returns:
        Difference of mean log-likelihoods of an item that was taken, nats, and its error, paired by user.
    """
    number = (held.taken > 0).sum(1)
    gap = best.by_user - other.by_user
    mean = gap.sum() / number.sum()
    return float(mean), float(np.sqrt(np.square(gap - mean * number).sum()) / number.sum())


def climb(
    judge: Callable[[float], Judged], ridges: tuple[float, ...], start: int
) -> tuple[list[Judged], bool]:
    """Judge candidates along a grid of ridges, from a place of it on as long as it goes uphill.

    Args:
        judge: The candidate of a ridge.
        ridges: The whole grid, ascending.
        start: The place to begin at; it and its neighbours are judged first.

    Returns:
        All that were judged, best first, and whether the best lies at an end of the whole grid.
    """
    found: dict[int, Judged] = {}

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
