"""What is consumed of a slate, compiled: p*, its draw and the answer, one position after the other.

Everything that needs a consumer's probability calls these functions, so that its bits do not depend on how many slates
are answered at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching import tie_rank, uniform_of

LEAST_MASS = 1e-9
"""Σ p* of what is left to a user who has consumed nearly everything."""


class Factors(NamedTuple):
    """p*(y|u) = exp(⟨a_u, c_y⟩ + d_y − log Σ) over the whole catalogue."""

    user: Floats
    """(users, rank) a."""
    item: Floats
    """(M, rank) c."""
    bias: Floats
    """(M,) d."""
    log_normaliser: Floats
    """(users,) log Σ_y exp(⟨a_u, c_y⟩ + d_y)."""


@compiled
def uniform_draw(key: np.uint64, item: int) -> float:
    """``uniform(seed, purpose, arrival, item)`` of :mod:`rimsim.rng`, given ``bits(seed, purpose, arrival)``."""
    return uniform_of(tie_rank(key, item))


@compiled
def uniform_draws(keys: NDArray[np.uint64], items: Ints) -> Floats:
    """(n, k) the draw of each item (n, k) under its row's key (n,)."""
    draws = np.empty(items.shape, np.float64)
    for row in range(items.shape[0]):
        for position in range(items.shape[1]):
            draws[row, position] = uniform_draw(keys[row], items[row, position])
    return draws


@compiled
def poisson_probability(intensity: float, examination: float, attraction: float) -> float:
    """The Poisson-intensity response: at least one event of a Poisson variable with an examined intensity.

    P(consume at position r) = 1 − exp(−λ*(x)·p*(y|x)·γ^(r−1)·a).

    Args:
        intensity: λ*(x)·p*(y|x).
        examination: γ^(r−1).
        attraction: a.
    """
    return -math.expm1(-(intensity * examination * attraction))


@compiled
def poisson_probabilities(intensity: Floats, examination: Floats, attraction: float) -> Floats:
    """(n, k) the same of intensities (n, k) at k positions."""
    probability = np.empty(intensity.shape, np.float64)
    for row in range(intensity.shape[0]):
        for position in range(intensity.shape[1]):
            probability[row, position] = poisson_probability(
                intensity[row, position], examination[position], attraction
            )
    return probability


@compiled
def _pair_share(user: int, item: int, factors: Factors) -> float:
    """p* of one item over the whole catalogue.

    Product and sum per pair: unlike a matrix product, its bits do not depend on how many pairs there are. Eight
    partial sums, which a processor can add side by side.
    """
    a, c = factors.user[user], factors.item[item]
    whole = len(a) - len(a) % 8
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    for first in range(0, whole, 8):
        s0 += a[first] * c[first]
        s1 += a[first + 1] * c[first + 1]
        s2 += a[first + 2] * c[first + 2]
        s3 += a[first + 3] * c[first + 3]
        s4 += a[first + 4] * c[first + 4]
        s5 += a[first + 5] * c[first + 5]
        s6 += a[first + 6] * c[first + 6]
        s7 += a[first + 7] * c[first + 7]
    total = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
    for factor in range(whole, len(a)):
        total += a[factor] * c[factor]
    return math.exp(total + factors.bias[item] - factors.log_normaliser[user])


@compiled
def pair_shares(users: Ints, items: Ints, factors: Factors) -> Floats:
    """(n,) p* over the whole catalogue of n (user, item) pairs."""
    share = np.empty(len(users), np.float64)
    for pair in range(len(users)):
        share[pair] = _pair_share(users[pair], items[pair], factors)
    return share


@compiled
def _has_consumed(item: int, place: int, items: Ints, following: Ints) -> bool:
    """Whether an item is among the events of a slot, the oldest of which lies at a place."""
    while place >= 0:
        if items[place] == item:
            return True
        place = following[place]
    return False


@compiled
def _consumed_mass(user: int, place: int, items: Ints, following: Ints, factors: Factors) -> float:
    """Σ p* of the events of a slot, in the order of consumption, which decides the last bits."""
    consumed = 0.0
    while place >= 0:
        consumed += _pair_share(user, items[place], factors)
        place = following[place]
    return consumed


@compiled
def consumed_mass(users: Ints, first: Ints, items: Ints, following: Ints, factors: Factors) -> Floats:
    """(n,) Σ p* of what n visitors consumed in the market; see :func:`answer_slates`."""
    mass = np.empty(len(users), np.float64)
    for n in range(len(users)):
        mass[n] = _consumed_mass(users[n], first[n], items, following, factors)
    return mass


@compiled
def left_by_past(offsets: Ints, items: Ints, factors: Factors) -> Floats:
    """Σ p* over what each user had not consumed after each of its events; an item counts once.

    Args:
        offsets: (users + 1,) where each user's events begin.
        items: (n,) items, by user, then time.
        factors: p*.

    Returns:
        (n + users,): of user u after j events at ``offsets[u] + u + j``.
    """
    left = np.empty(len(items) + len(offsets) - 1, np.float64)
    seen = np.full(len(factors.bias), -1)
    for user in range(len(offsets) - 1):
        mass, row = 1.0, offsets[user] + user
        left[row] = mass
        for place in range(offsets[user], offsets[user + 1]):
            if seen[items[place]] != user:
                seen[items[place]] = user
                mass -= _pair_share(user, items[place], factors)
            left[row + 1 + place - offsets[user]] = mass
    return left


@compiled
def answer_slates(
    slates: Ints,
    users: Ints,
    keys: NDArray[np.uint64],
    ground: Floats,
    left: Floats,
    waiting: Floats,
    first: Ints,
    items: Ints,
    following: Ints,
    user_factors: Floats,
    item_factors: Floats,
    bias: Floats,
    log_normaliser: Floats,
    examination: Floats,
    attraction: float,
    consumed: Bools,
    probability: Floats,
    intensity: Floats,
) -> None:
    """What n visits of different visitors make of their slates.

    Arrays come one by one: to hand a record to compiled code takes longer than its work for one slate.

    Args:
        slates: (n, k) items; −1 where a position is empty.
        users: (n,) log users.
        keys: (n,) of the draws.
        ground: (n,) λ*.
        left: (n,) Σ p* over what each had not consumed before the market.
        waiting: (n,) Σ p* over items that are not released yet.
        first: (n,) place of each visitor's oldest event in the market; −1 where there is none.
        items: (room,) items of the events.
        following: (room,) place of the same visitor's next event; −1 where there is none.
        user_factors: As in :class:`Factors`, like the three that follow.
        item_factors: See there.
        bias: See there.
        log_normaliser: See there.
        examination: (k,) γ^(r−1).
        attraction: a.
        consumed: (n, k) filled in place.
        probability: (n, k) filled in place; 0 where nothing can be consumed.
        intensity: (n, k) filled in place: true intensities λ*(x)·p*(y|x) over what is admissible.
    """
    factors = Factors(user_factors, item_factors, bias, log_normaliser)
    for n in range(len(slates)):
        consumed_before = _consumed_mass(users[n], first[n], items, following, factors)
        scale = ground[n] / max(left[n] - consumed_before - waiting[n], LEAST_MASS)
        for position in range(slates.shape[1]):
            item = slates[n, position]
            if item < 0 or _has_consumed(item, first[n], items, following):
                consumed[n, position], probability[n, position], intensity[n, position] = False, 0.0, 0.0
                continue
            intensity[n, position] = _pair_share(users[n], item, factors) * scale
            probability[n, position] = poisson_probability(
                intensity[n, position], examination[position], attraction
            )
            consumed[n, position] = uniform_draw(keys[n], item) < probability[n, position]
