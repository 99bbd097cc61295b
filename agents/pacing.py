"""Clock of a round, and prices that adapt to delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from rimsim.arrays import Bools, Float32s, Floats, Ints, seconds
from rimsim.compiled import compiled, compiled_part
from rimsim.matching import enter, items_between, kth_of_parts, part_maxima
from rimsim.measures import mean_weight
from rimsim.renamed import warn_renamed
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView

EARLY = 0.05
"""Share of the round before whose end hard requirements are to be met, so that deficits can be made up for."""
_TRUST = 0.05  # weight of the expected arrivals against the realised ones, as a share of the round
_ROUNDING, _TINY = 1e-6, 1e-30
"""Relative and absolute float32 rounding error of a sum of two numbers, rounded up."""
_STRETCH, _SHORT, _LATE = 16, 2, 0.1
"""Arrivals for which bonuses are bounded at once: at most, at least, and as a share of the remaining ones."""
_NONE = np.zeros(0, np.int64)


# -- the round as compiled loops see it -------------------------------------------------------------------------------
class ExposureUnit(NamedTuple):
    """Unit of guarantees, for use in compiled loops."""

    position_weights: Floats
    """(k,) value of an exposure at each position; it never rises."""
    mean: float
    """Mean of the weights: value of a required exposure."""
    by_intensity: bool
    """Slates stand in order of λ, otherwise of λ − v.

    If the unit is the examined exposure, the order of λ − v is best, since intensity and delivery both carry the
    weight of the position. If every position counts the same, order makes no difference to the guarantee, and the order
    of λ gives the visitors most.
    """

    @classmethod
    def of(cls, view: RoundView) -> Self:
        """Unit of the guarantees of a round."""
        weights = np.ascontiguousarray(view.position_weights, np.float64)
        return cls(weights, mean_weight(weights), view.unit == "shown")


class RoundClock:
    """Progress of a round and its audiences, in expected arrivals.

    Arrays have a column for each of the A audiences of the requirements, and then one for the whole round. With pacing
    by arrivals, the elapsed number is the number of served arrivals, at most N. With pacing by time, the elapsed number
    is N times the elapsed share of the round's time, for any number of served arrivals.
    """

    def __init__(self, view: RoundView, table: Requirements = NO_REQUIREMENTS) -> None:
        columns = int(table.audience.max(initial=-1)) + 1
        self.expected = np.full(columns + 1, float(view.arrivals))
        """(A + 1,) expected arrivals."""
        self._opens, self._closes = np.full(columns + 1, view.opens), np.full(columns + 1, view.closes)
        own = table.audience >= 0
        self.expected[table.audience[own]] = table.arrivals[own]
        self._opens[table.audience[own]] = seconds(table.begin[own])
        self._closes[table.audience[own]] = seconds(table.end[own])
        self._by_time = view.pace == "clock"
        self.served = 0
        """Arrivals served."""
        self._came = np.zeros(columns)
        self.elapsed = np.zeros(columns + 1)
        """(A + 1,) elapsed expected arrivals, as of the last arrival."""

    def counts(self, arrivals: Arrivals) -> Bools:
        """Mask of the arrivals that belong to each audience."""
        counts = np.ones((len(arrivals), len(self.expected)), np.bool_)
        if len(self._came):
            counts[:, :-1] = arrivals.audiences
        return counts

    def before(self, arrivals: Arrivals) -> Floats:
        """Elapsed expected arrivals before each of the given arrivals."""
        if self._by_time:
            return np.asarray(self.expected * self._share(arrivals), np.float64)
        came = self._came_before(arrivals)
        came[:, -1] = np.minimum(came[:, -1], self.expected[-1])
        return came

    def remaining(self, arrivals: Arrivals) -> Floats:
        """Number of remaining arrivals at each arrival, itself included.

        The number is at least 1. With pacing by time, the number of remaining arrivals is the rate of arrivals so far
        times the remaining time. Early in the round, the rate is averaged with the expected rate.
        """
        came = self._came_before(arrivals)
        if not self._by_time:
            return np.maximum(self.expected - came, 1.0)
        share = self._share(arrivals)
        rate: Floats = (came + _TRUST * self.expected) / (share + _TRUST)
        return np.maximum(rate * (1.0 - share), 1.0)

    def steps(self, arrivals: Arrivals) -> Floats:
        """Number of expected arrivals that elapse at each arrival."""
        if self._by_time:
            return np.asarray(np.diff(self.before(arrivals)[:, -1], prepend=self.elapsed[-1]), np.float64)
        number = np.arange(self.served, self.served + len(arrivals))
        return np.asarray(number < self.expected[-1], np.float64)

    def advance(self, arrivals: Arrivals) -> None:
        """Count arrivals as served."""
        self.served += len(arrivals)
        if len(self._came) and arrivals.audiences is not None:
            self._came = self._came + arrivals.audiences.sum(0)
        if not self._by_time:
            self.elapsed = np.append(self._came, min(float(self.served), self.expected[-1]))
        elif len(arrivals):
            self.elapsed = self.before(arrivals)[-1]

    def _came_before(self, arrivals: Arrivals) -> Floats:
        came = np.empty((len(arrivals), len(self.expected)))
        came[:, -1] = np.arange(self.served, self.served + len(arrivals))
        if len(self._came):
            counts = self.counts(arrivals)[:, :-1]
            came[:, :-1] = self._came + np.cumsum(counts, axis=0) - counts
        return came

    def _share(self, arrivals: Arrivals) -> Floats:
        """Elapsed share of each audience's time, at each arrival."""
        span = np.maximum(self._closes - self._opens, 1e-9)
        return np.asarray(np.clip((arrivals.time[:, None] - self._opens) / span, 0.0, 1.0), np.float64)


class ArrivalArrays(NamedTuple):
    """Arrivals in the form that compiled loops need."""

    relevance: Float32s
    """(n, M) p(y|x)."""
    ground: Float32s
    """(n,) λ(x)."""
    admissible: Bools
    """(n, M) items that may be shown."""
    id: Ints
    """(n,) arrival ids."""
    capacity: Ints
    """(n,) positions that may be filled."""


def arrays_of(arrivals: Arrivals, slate: int) -> tuple[Any, ...]:
    """Fields of :class:`ArrivalArrays`, for slates of k positions.

    The fields are a plain tuple, because passing a record to a compiled loop takes longer than ranking hundreds of
    items. The loop builds the record itself: ``ArrivalArrays(*fields)``.
    """
    return (
        arrivals.relevance.cpu().numpy(),
        arrivals.ground_intensity.cpu().numpy(),
        arrivals.admissible.cpu().numpy(),
        arrivals.id,
        np.full(len(arrivals), slate) if arrivals.capacity is None else arrivals.capacity,
    )


@compiled_part
def fill_values(arrivals: ArrivalArrays, arrival: int, price: Floats, value: Floats) -> None:
    """Fill ``value`` with each item's λ(x)·p(y|x) − v, −∞ if inadmissible.

    The product is in single precision, as :attr:`rimsim.market.Arrivals.intensity` is.
    """
    for item in range(len(price)):
        worth = np.float64(arrivals.relevance[arrival, item] * arrivals.ground[arrival]) - price[item]
        value[item] = worth if arrivals.admissible[arrival, item] else -np.inf


@compiled_part
def fill_slate(
    items: Ints, size: int, price: Floats, unit: ExposureUnit, exposure: Floats, prices: Float32s
) -> None:
    """Count exposures, record prices, and clear positions from ``size`` on."""
    for position in range(len(items)):
        if position < size:
            exposure[items[position]] += unit.position_weights[position]
            prices[position] = price[items[position]]
        else:
            items[position] = -1
            prices[position] = np.nan


# -- prices -----------------------------------------------------------------------------------------------------------
class Pacing(NamedTuple):
    """Prices of requirements that adapt to delivery.

    Suppose that t of the T arrivals of a requirement have elapsed since pacing began, and have delivered D exposures.
    The price of the requirement is

        v = max(start_price₊ + step·h·(D − most·t/T), 0) − clip(step·h·(pace·t − D) − start_price₋, 0, cost),

    where h = 1 / (1 − t/T + closing), or 1 if ``closing`` is 0. From t = T on, the whole requirement is due. The price
    of an item is the price of its floor plus the prices of all other requirements that contain it and for which the
    arrival counts.
    """

    start_price: Floats
    """(M + G,) price v before arrival 0."""
    pace: Floats
    """(M + G,) required exposures per arrival, in the unit of the guarantee."""
    step: Floats
    """(M + G,) price per exposure of delivery error."""
    cost: float
    """c: no bonus is above it; infinite where floors are not for sale."""
    closing: float
    """δ: share of the round over which a correction is spread at its end; 0 for a constant h = 1."""
    arrivals: Floats
    """(A + 1,) arrivals T in which exposures are due, of each audience and of the round."""
    most: Floats = np.zeros(0)
    """(G,) exposures still allowed; ∞: any number."""
    first: Ints = np.zeros(1, np.int64)
    """(G + 1,) beginning of each row's items in ``item``."""
    item: Ints = _NONE
    """Items, row after row."""
    column: Ints = _NONE
    """(G,) audience of each row; the last one is the whole round."""

    @classmethod
    def of(
        cls,
        price: Floats,
        required: Floats,
        arrivals: Floats | float,
        *,
        gain: float,
        closing: float,
        cost: float,
        hard: bool,
        priced: Bools | None = None,
    ) -> Self:
        """Pacing with the relative step g·c/√b.

        If requirements are hard, prices have no limit and can be much larger than c. So the step is relative to the
        start price, or to the median bonus at the start, if these exceed c. Only requirements marked in ``priced`` have
        prices; None: requirements with required exposures.
        """
        priced = required > 0 if priced is None else priced
        scale: Floats | float = cost
        if hard:
            bonus = -price[price < 0.0]
            usual = float(np.median(bonus)) if len(bonus) else 0.0
            scale = np.maximum(max(cost, usual), -price)
        return cls(
            start_price=np.where(priced, price, -0.0),  # so that a price of 0 keeps its sign in tables
            pace=required / arrivals,
            step=np.where(priced, gain * scale / np.sqrt(np.maximum(required, 1.0)), 0.0),
            cost=np.inf if hard else cost,
            closing=closing,
            arrivals=np.atleast_1d(np.asarray(arrivals, np.float64)),
        )

    @property
    def start(self) -> Floats:
        """Old name of ``start_price``, until 0.3."""
        warn_renamed("Pacing.start", "Pacing.start_price")
        return self.start_price

    def price(self, elapsed: Floats | float, exposure: Floats) -> Floats:
        """Prices v of all requirements, after elapsed arrivals and exposures."""
        price = np.empty(len(self.start_price))
        at = np.atleast_1d(np.asarray(elapsed, np.float64))
        move_prices(tuple(self), at, exposure, np.zeros(len(price)), price)
        return price


@compiled_part
def closing_factor(closing: float, arrivals: float, elapsed: float) -> float:
    """Factor h of :class:`Pacing`."""
    return 1.0 / (max(1.0 - elapsed / arrivals, 0.0) + closing) if closing > 0.0 else 1.0


@compiled_part
def bonus_of(  # scalars alone, so that it is compiled into the loops that call it
    start_price: float, pace: float, step: float, cost: float, elapsed: float, factor: float, delivered: float
) -> float:
    """Bonus of a floor when ``elapsed`` arrivals are over."""
    bonus = step * (pace * elapsed - delivered) * factor - start_price
    bonus = bonus if bonus > 0.0 else 0.0  # noqa: FURB136  # max() and min() mind missing numbers, one at a time
    return bonus if bonus < cost else cost  # noqa: FURB136


@compiled
def move_prices(
    pace: tuple[Any, ...], elapsed: Floats, exposure: Floats, before: Floats, price: Floats
) -> None:
    """Fill ``price`` with the prices v of :class:`Pacing`.

    The price depends only on sums of exposures, which are exact. So rounding errors do not accumulate, and batches do
    not change results. ``elapsed`` counts from the start of pacing; ``before`` has the exposures before this start.
    """
    pacing = Pacing(*pace)
    others = len(pacing.most)
    m, last = len(price) - others, len(pacing.arrivals) - 1
    now = min(elapsed[last], pacing.arrivals[last])
    factor = closing_factor(pacing.closing, pacing.arrivals[last], now)
    start_prices, rates, steps, cost = pacing.start_price, pacing.pace, pacing.step, pacing.cost
    for item in range(m):
        delivered = exposure[item] - before[item]
        price[item] = -bonus_of(start_prices[item], rates[item], steps[item], cost, now, factor, delivered)
    for which in range(others):
        row, column = m + which, pacing.column[which]
        due_in, start_price, step = pacing.arrivals[column], start_prices[row], steps[row]
        now, delivered, cap_price = min(elapsed[column], due_in), exposure[row] - before[row], 0.0
        factor = closing_factor(pacing.closing, due_in, now)
        if pacing.most[which] < np.inf:
            excess = step * (delivered - pacing.most[which] / due_in * now) * factor
            cap_price = max(max(start_price, 0.0) + excess, 0.0)
        low = min(start_price, 0.0)
        price[row] = cap_price - bonus_of(low, rates[row], step, cost, now, factor, delivered)


@compiled_part
def add_rows(pacing: Pacing, counts: Bools, price: Floats) -> None:
    """Add prices of the requirements for which an arrival counts."""
    m = len(price) - len(pacing.most)
    for which in range(len(pacing.most)):
        row_price = price[m + which]
        if counts[pacing.column[which]] and row_price != 0.0:
            for place in range(pacing.first[which], pacing.first[which + 1]):
                price[pacing.item[place]] += row_price


@compiled_part
def hide_full(
    pacing: Pacing, counts: Bools, exposure: Floats, before: Floats, position_weights: Floats, value: Floats
) -> None:
    """Exclude items whose next exposure could exceed a cap."""
    m = len(value)
    for which in range(len(pacing.most)):
        if pacing.most[which] < np.inf and counts[pacing.column[which]]:
            begin, end = pacing.first[which], pacing.first[which + 1]
            # A slate can show all items of a row: there must be room for as many of the first positions.
            room = 0.0
            for weight in position_weights[: end - begin]:
                room += weight
            if exposure[m + which] - before[m + which] + room > pacing.most[which]:
                for place in range(begin, end):
                    value[pacing.item[place]] = -np.inf


@compiled_part
def count_rows(
    pacing: Pacing,
    counts: Bools,
    items: Ints,
    size: int,
    position_weights: Floats,
    scratch: Floats,
    exposure: Floats,
) -> None:
    """Add the first ``size`` shown items to requirements' exposures."""
    if len(pacing.most) == 0:
        return
    m = len(scratch)
    for position in range(size):
        scratch[items[position]] = position_weights[position]
    for which in range(len(pacing.most)):
        if counts[pacing.column[which]]:
            for place in range(pacing.first[which], pacing.first[which + 1]):
                exposure[m + which] += scratch[pacing.item[place]]
    for position in range(size):
        scratch[items[position]] = 0.0


class Bounds(NamedTuple):
    """Upper bounds of bonuses −v over the next arrivals.

    Between two exposures of an item, its bonus never falls or never rises, because the derivative of h·(pace·t − E) has
    the constant sign of pace·(1 + closing) − E/N. So the bonus is at most the larger of its values at the first and the
    last of the next arrivals. An exposure only lowers the bonus.
    """

    first: float
    """Elapsed arrivals at the beginning."""
    last: float
    """Elapsed arrivals at the end."""
    high: Float32s
    """(M,) bounds, rounded."""


@compiled_part
def stretch_of(pacing: Pacing, elapsed: float) -> int:
    """Number of arrivals for which one bound of bonuses holds."""
    left = max(pacing.arrivals[-1] - elapsed, 0.0) + pacing.closing * pacing.arrivals[-1]
    return int(min(max(_LATE * left, _SHORT), _STRETCH))


@compiled_part
def bound_bonuses(
    pacing: Pacing, bounds: Bounds, exposure: Floats, before: Floats, shown: Ints | None
) -> None:
    """Fill ``bounds.high`` for ``shown`` items; None: for all items."""
    start_prices, pace, step, cost, high = (
        pacing.start_price,
        pacing.pace,
        pacing.step,
        pacing.cost,
        bounds.high,
    )
    due_in = pacing.arrivals[-1]
    first, last = min(bounds.first, due_in), min(bounds.last, due_in)
    early = closing_factor(pacing.closing, due_in, first)
    late = closing_factor(pacing.closing, due_in, last)
    for place in range(len(high) if shown is None else len(shown)):
        item = place if shown is None else shown[place]
        delivered = exposure[item] - before[item]
        one = bonus_of(start_prices[item], pace[item], step[item], cost, first, early, delivered)
        other = bonus_of(start_prices[item], pace[item], step[item], cost, last, late, delivered)
        high[item] = one if one > other else other  # noqa: FURB136


@compiled_part
def best_in_bounds(
    arrivals: ArrivalArrays,
    arrival: int,
    ties: np.uint64,
    pacing: Pacing,
    elapsed: float,
    exposure: Floats,
    before: Floats,
    high: Float32s,
    value: Float32s,
    found: Ints,
    price: Floats,
    items: Ints,
    best: Floats,
) -> int:
    """Best items by λ − v, found with few exact prices.

    Only items with the largest bounds ``high`` get an exact value. These items suffice, because no item with a bound
    below the smallest value in the slate can be in the slate. The function fills in the prices of these items. The
    arrays ``value`` and ``found`` are scratch.
    """
    relevance, ground, k = arrivals.relevance[arrival], arrivals.ground[arrival], len(items)
    size = 0 * k  # no literal: see ``best_items``
    for item in range(len(value)):
        value[item] = (
            relevance[item] * ground + high[item]
            if arrivals.admissible[arrival, item]
            else np.float32(-np.inf)
        )
    highest = part_maxima(value, k)
    elapsed = min(elapsed, pacing.arrivals[-1])
    factor = closing_factor(pacing.closing, pacing.arrivals[-1], elapsed)
    below, lowest = np.inf, kth_of_parts(highest, k)
    start_prices, pace, step, cost = pacing.start_price, pacing.pace, pacing.step, pacing.cost
    for _ in range(2):
        for item in found[: items_between(value, highest, lowest, below, found)]:
            delivered = exposure[item] - before[item]
            bonus = bonus_of(start_prices[item], pace[item], step[item], cost, elapsed, factor, delivered)
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
