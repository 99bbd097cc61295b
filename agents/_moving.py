"""Prices that follow delivery: where they stand when so much of a round is gone, and between where they then move."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching import enter, items_between, kth_of_parts, part_maxima

if TYPE_CHECKING:
    from rimsim.agents._rows import Rows


_ROUNDING, _TINY = 1e-6, 1e-30
"""By what share, and by how much, a sum of two numbers may differ in single precision, and more."""


class Pacing(NamedTuple):
    """How prices follow delivery: v = −clip(step·h·(pace·t − E) − start, 0, cost) when t of N arrivals are gone.

    h = 1, or, where ``closing`` is above 0, h = 1 / (1 − t/N + closing). From t = N on all is due.
    """

    start: Floats
    """(M,) price v before arrival 0."""
    pace: Floats
    """(M,) required exposures per arrival, in the unit of the guarantee."""
    step: Floats
    """(M,) price per exposure of delivery error."""
    cost: float
    """c: prices lie in [−c, 0]; infinite where floors are not for sale."""
    closing: float
    """δ: how much of the round a correction is spread over at the end; 0 for a constant h = 1."""
    arrivals: float
    """Arrivals in which the exposures are due, N."""

    @classmethod
    def of(
        cls,
        price: Floats,
        required: Floats,
        arrivals: float,
        *,
        gain: float,
        closing: float,
        cost: float,
        hard: bool,
        due: Bools | None = None,
    ) -> Self:
        """Pacing with the relative step g·c/√b.

        Where requirements are hard, prices have no bound, and c is no measure of theirs: the step is relative to where
        the item starts, or to the median of all bonuses at the start, where these are more than c.

        Args:
            price: (M,) prices v to start from; 0 is taken for items that are not due.
            required: (M,) exposures b asked for.
            arrivals: Arrivals in which they are due.
            gain: g.
            closing: δ.
            cost: c.
            hard: Whether floors are not for sale.
            due: (M,) items whose prices move; None: those of which exposures are required.
        """
        due = required > 0 if due is None else due
        scale = np.maximum(max(cost, _usual(price)), -price) if hard else cost
        return cls(
            start=np.where(due, price, -0.0),  # so that a price of 0 keeps its sign in tables
            pace=required / arrivals,
            step=np.where(due, gain * scale / np.sqrt(np.maximum(required, 1.0)), 0.0),
            cost=np.inf if hard else cost,
            closing=closing,
            arrivals=float(arrivals),
        )

    def price(self, gone: float, exposure: Floats) -> Floats:
        """(M,) v when so many arrivals are gone, after ``exposure`` (M,)."""
        price = np.empty(len(self.start))
        move_prices(self, gone, exposure, np.zeros(len(price)), price)
        return price


def _usual(price: Floats) -> float:
    """The median bonus of the items that have one; 0 where none has."""
    bonus = -price[price < 0.0]
    return float(np.median(bonus)) if len(bonus) else 0.0


@compiled
def move_prices(
    pacing: Pacing,
    gone: float,
    exposure: Floats,
    before: Floats,
    price: Floats,
) -> None:
    """Fill ``price`` (M,) with v of :class:`Pacing`.

    Prices are computed from sums of exposures each time, which are exact, so rounding cannot accumulate and the cut
    into batches cannot matter.

    Args:
        pacing: How prices move.
        gone: How many of the pacing's N arrivals are gone.
        exposure: (M,) exposures.
        before: (M,) exposures before the pacing began, which are not counted.
        price: (M,) filled in place.
    """
    gone = min(gone, pacing.arrivals)
    factor = closing_factor(pacing.closing, pacing.arrivals, gone)
    for item in range(len(price)):
        delivered = exposure[item] - before[item]
        price[item] = -bonus_of(
            pacing.start[item],
            pacing.pace[item],
            pacing.step[item],
            pacing.cost,
            gone,
            factor,
            delivered,
        )


@compiled
def closing_factor(closing: float, arrivals: float, gone: float) -> float:
    """The h of :class:`Pacing`."""
    return 1.0 / (max(1.0 - gone / arrivals, 0.0) + closing) if closing > 0.0 else 1.0


@compiled
def bonus_of(  # scalars alone, so that it is compiled into the loops that call it
    start: float, pace: float, step: float, cost: float, gone: float, factor: float, delivered: float
) -> float:
    """−v of :class:`Pacing` for one item, when ``gone``, at most N, are gone."""
    bonus = step * (pace * gone - delivered) * factor - start
    bonus = bonus if bonus > 0.0 else 0.0  # noqa: FURB136  # max() and min() mind missing numbers, one at a time
    return bonus if bonus < cost else cost  # noqa: FURB136


_STRETCH, _SHORT, _LATE = 16, 2, 0.1
"""For how many arrivals bonuses are bounded at once: so many, fewer at the end, when they move fast."""


class Bounds(NamedTuple):
    """What bonuses −v are at most from one instant to another, so that the best items are sought among few.

    Between two exposures of an item its bonus moves one way, since the derivative of h·(pace·t − E) has the sign of
    pace·(1 + closing) − E/N throughout: it is at most the larger of those at both ends. An exposure makes it less.
    """

    first: float
    """How much of the pacing's time is gone at the one."""
    last: float
    """And at the other."""
    high: Float32s
    """(M,) the bounds, rounded."""


@compiled
def stretch_of(pacing: Pacing, gone: float) -> int:
    """For how many arrivals bonuses are best bounded at once when so much of the pacing's time is gone."""
    left = max(pacing.arrivals - gone, 0.0) + pacing.closing * pacing.arrivals
    return int(min(max(_LATE * left, _SHORT), _STRETCH))


@compiled
def bound_bonuses(
    pacing: Pacing,
    bounds: Bounds,
    exposure: Floats,
    before: Floats,
    shown: Ints | None,
) -> None:
    """Fill ``bounds.high`` with the bounds after some exposures.

    Args:
        pacing: How prices move.
        bounds: Changed in place.
        exposure: (M,) exposures.
        before: (M,) exposures before the pacing began.
        shown: The items whose exposures changed; None: all.
    """
    start, pace, step, cost, high = pacing.start, pacing.pace, pacing.step, pacing.cost, bounds.high
    first, last = min(bounds.first, pacing.arrivals), min(bounds.last, pacing.arrivals)
    early, late = (
        closing_factor(pacing.closing, pacing.arrivals, first),
        closing_factor(pacing.closing, pacing.arrivals, last),
    )
    for place in range(len(high) if shown is None else len(shown)):
        item = place if shown is None else shown[place]
        delivered = exposure[item] - before[item]
        one = bonus_of(start[item], pace[item], step[item], cost, first, early, delivered)
        other = bonus_of(start[item], pace[item], step[item], cost, last, late, delivered)
        high[item] = one if one > other else other  # noqa: FURB136


@compiled
def best_in_bounds(
    rows: Rows,
    row: int,
    ties: np.uint64,
    pacing: Pacing,
    gone: float,
    exposure: Floats,
    before: Floats,
    bounds: Bounds,
    value: Float32s,
    found: Ints,
    price: Floats,
    items: Ints,
    best: Floats,
) -> int:
    """:func:`rimsim.matching.best_items` of λ − v at an arrival within bounds, whose prices are not all computed.

    The items that come first by their bounds are valued; any item of the best has a bound that reaches the last of
    these.

    Args:
        rows: The arrivals.
        row: Which of them.
        ties: Random bits of the row, for ties.
        pacing: How prices move.
        gone: How much of the pacing's time is gone.
        exposure: (M,) exposures.
        before: (M,) exposures before the pacing began.
        bounds: Of the bonuses.
        value: (M,) scratch.
        found: (M,) scratch.
        price: (M,) the prices of the items that were found are filled in.
        items: (k,) filled in place, k ≥ 1.
        best: (k,) their values, filled in place.

    Returns:
        How many were found, at most k.
    """
    relevance, ground, high, k = rows.relevance[row], rows.ground[row], bounds.high, len(items)
    size = 0
    fill_bounded(relevance, ground, rows.admissible[row], high, value)
    highest = part_maxima(value, k)
    gone = min(gone, pacing.arrivals)
    factor = closing_factor(pacing.closing, pacing.arrivals, gone)
    below, lowest = np.inf, kth_of_parts(highest, k)
    for _ in range(2):
        for item in found[: items_between(value, highest, lowest, below, found)]:
            bonus = bonus_of(
                pacing.start[item],
                pacing.pace[item],
                pacing.step[item],
                pacing.cost,
                gone,
                factor,
                exposure[item] - before[item],
            )
            price[item] = -bonus
            new = np.float64(relevance[item] * ground) + bonus
            if size < k or new >= best[k - 1]:
                size = enter(item, new, ties, items, best, size)
        below, lowest = lowest, -np.inf
        if size == k:
            lowest = best[k - 1] - _ROUNDING * abs(best[k - 1]) - _TINY
        if lowest >= below:
            break
    return size


@compiled
def fill_bounded(
    relevance: Float32s,
    ground: np.float32,
    admissible: Bools,
    high: Float32s,
    value: Float32s,
) -> None:
    """Fill ``value`` (M,) with λ(x)·p(y|x) and what the bonus is at most, −inf for what may not be shown."""
    for item in range(len(value)):
        value[item] = relevance[item] * ground + high[item] if admissible[item] else np.float32(-np.inf)
