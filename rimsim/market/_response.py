"""What is consumed of a slate, compiled: p*, its draw and the answer, one position after the other.

Everything that needs a consumer's probability calls these functions, so that its bits depend neither on how many
slates are answered at once nor on the way by which they came.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.compiled import compiled
from rimsim.matching import tie_rank, uniform_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Appetites",
    "Factors",
    "Visits",
    "admissible_mass",
    "answer_slate",
    "answer_slates",
    "eat_all",
    "pair_shares",
    "poisson_probability",
    "uniform_draw",
]

_LEAST_MASS = 1e-9
"""Σ p* of what is left to a user who has consumed nearly everything."""


class Factors(NamedTuple):
    """p*(y|u) = exp(⟨a_u, c_y⟩ + d_y − log Σ) over the whole catalogue."""

    user: NDArray[np.float64]
    """(users, rank) a."""
    item: NDArray[np.float64]
    """(M, rank) c."""
    bias: NDArray[np.float64]
    """(M,) d."""
    log_normaliser: NDArray[np.float64]
    """(users,) log Σ_y exp(⟨a_u, c_y⟩ + d_y)."""


class Visits(NamedTuple):
    """The N arrivals of a round."""

    slot: NDArray[np.int64]
    """(N,) whose visit it is."""
    user: NDArray[np.int64]
    """(N,) the log user that it stands for."""
    ground: NDArray[np.float64]
    """(N,) λ*."""
    key: NDArray[np.uint64]
    """(N,) of its draws."""


class Appetites(NamedTuple):
    """What each slot can still consume; lists of items are linked, so that compiled code can lengthen them."""

    left: NDArray[np.float64]
    """(slots,) Σ p* over what its log user has not consumed in the log."""
    eaten: NDArray[np.float64]
    """(slots,) Σ p* of what it has consumed in the market."""
    last: NDArray[np.int64]
    """(slots,) place of the item that it consumed last; −1 where there is none."""
    item: NDArray[np.int64]
    """(room,) consumed items of all slots."""
    before: NDArray[np.int64]
    """(room,) place of the item that the same slot consumed before; −1 where there is none."""
    size: NDArray[np.int64]
    """(1,) places in use."""


@compiled
def uniform_draw(key: np.uint64, item: int) -> float:
    """``uniform_of(seed, purpose, arrival, item)`` of :mod:`rimsim.rng`, given ``bits(seed, purpose, arrival)``."""
    return uniform_of(tie_rank(key, item))


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
def pair_shares(users: NDArray[np.int64], items: NDArray[np.int64], factors: Factors) -> NDArray[np.float64]:
    """(n,) p* over the whole catalogue of n (user, item) pairs."""
    share = np.empty(len(users), np.float64)
    for pair in range(len(users)):
        share[pair] = _pair_share(users[pair], items[pair], factors)
    return share


@compiled
def eat(slot: int, item: int, share: float, appetites: Appetites) -> None:
    """Note that a slot has consumed an item; there must be room."""
    place = appetites.size[0]
    appetites.item[place], appetites.before[place] = item, appetites.last[slot]
    appetites.last[slot], appetites.size[0] = place, place + 1
    appetites.eaten[slot] += share


@compiled
def eat_all(
    slots: NDArray[np.int64], items: NDArray[np.int64], shares: NDArray[np.float64], appetites: Appetites
) -> None:
    """:func:`eat` for n items, one after the other: the order decides the last bits."""
    for n in range(len(items)):
        eat(slots[n], items[n], shares[n], appetites)


@compiled
def _has_eaten(slot: int, item: int, appetites: Appetites) -> bool:
    place = appetites.last[slot]
    while place >= 0:
        if appetites.item[place] == item:
            return True
        place = appetites.before[place]
    return False


@compiled
def _mass(slot: int, waiting: float, appetites: Appetites) -> float:
    """Σ p* of what a slot can consume, ``waiting`` being that of items which are not released yet."""
    return float(max(appetites.left[slot] - appetites.eaten[slot] - waiting, _LEAST_MASS))


@compiled
def admissible_mass(
    slots: NDArray[np.int64], waiting: NDArray[np.float64], appetites: Appetites
) -> NDArray[np.float64]:
    """(n,) :func:`_mass` of n slots."""
    mass = np.empty(len(slots), np.float64)
    for n in range(len(slots)):
        mass[n] = _mass(slots[n], waiting[n], appetites)
    return mass


@compiled
def answer_slate(
    row: int,
    slate: NDArray[np.int64],
    waiting: float,
    visits: Visits,
    appetites: Appetites,
    factors: Factors,
    examination: NDArray[np.float64],
    attraction: float,
    consumed: NDArray[np.bool_],
    probability: NDArray[np.float64],
    intensity: NDArray[np.float64],
) -> None:
    """What one arrival makes of its slate; what it consumes is noted.

    Args:
        row: The arrival.
        slate: (k,) items; −1 where a position is empty.
        waiting: Σ p* over items that are not released yet.
        visits: The arrivals of the round.
        appetites: Of its slots; changed in place, with room for k items more.
        factors: p*.
        examination: (k,) γ^(r−1).
        attraction: a.
        consumed: (k,) filled in place.
        probability: (k,) likewise; 0 where nothing can be consumed.
        intensity: (k,) likewise, true intensities λ*(x)·p*(y|x) over what is admissible.
    """
    user, slot = visits.user[row], visits.slot[row]
    scale = visits.ground[row] / _mass(slot, waiting, appetites)
    for position in range(len(slate)):
        item = slate[position]
        if item < 0 or _has_eaten(slot, item, appetites):
            consumed[position], probability[position], intensity[position] = False, 0.0, 0.0
            continue
        share = _pair_share(user, item, factors)
        intensity[position] = share * scale
        probability[position] = poisson_probability(intensity[position], examination[position], attraction)
        consumed[position] = uniform_draw(visits.key[row], item) < probability[position]
        if consumed[position]:
            eat(slot, item, share, appetites)


@compiled
def answer_slates(
    rows: NDArray[np.int64],
    slates: NDArray[np.int64],
    waiting: NDArray[np.float64],
    visits: Visits,
    appetites: Appetites,
    factors: Factors,
    examination: NDArray[np.float64],
    attraction: float,
    consumed: NDArray[np.bool_],
    probability: NDArray[np.float64],
    intensity: NDArray[np.float64],
) -> None:
    """:func:`answer_slate` of n arrivals, one after the other; slates and what is filled are (n, k)."""
    for n in range(len(rows)):
        answer_slate(
            rows[n],
            slates[n],
            waiting[n],
            visits,
            appetites,
            factors,
            examination,
            attraction,
            consumed[n],
            probability[n],
            intensity[n],
        )
