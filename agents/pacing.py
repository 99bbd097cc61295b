"""Prices of requirements that adapt to delivery."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np

from rimsim.agents.guard import NOTHING
from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled, compiled_part
from rimsim.requirements.on_offer import OfferWindows

_NONE = np.zeros(0, np.int64)


class Pacing(NamedTuple):
    """Prices of requirements that adapt to delivery.

    Suppose that t of the T arrivals of a requirement have elapsed since pacing began, and have delivered D exposures.
    The price of the requirement is

        v = max(start_price₊ + step·h·(D − max_exposure·t/T), 0) − clip(step·h·(rate·t − D) − start_price₋, 0, cost),

    where h = 1 / (1 − t/T + closing), or 1 if ``closing`` is 0. From t = T on, the whole requirement is due. The price
    of an item is the price of its floor plus the prices of all other requirements that contain it and for which the
    arrival counts.

    If items end, T of an item is the number of arrivals in its time on offer, and t counts only these arrivals.

    With a ``budget``, the bonus of a requirement is spent when its exposures reach the budget: its price is then 0, or
    the price of its cap.
    """

    start_price: Floats
    """(M + G,) price v before arrival 0."""
    rate: Floats
    """(M + G,) required exposures per arrival, in the unit of the guarantee."""
    step: Floats
    """(M + G,) change of the price per exposure of delivery error."""
    cost: float
    """Largest bonus: c, or ∞ if requirements are hard."""
    closing: float
    """δ, share of the round over which the last errors of delivery are corrected; 0: the factor h is 1 all the time."""
    arrivals: Floats
    """(A + 1,) arrivals T in which exposures are due, of each audience and of the round."""
    max_exposure: Floats = np.zeros(0)
    """(G,) exposures that each row may still get; ∞: any number."""
    first: Ints = np.zeros(1, np.int64)
    """(G + 1,) beginning of each row's items in ``item``."""
    item: Ints = _NONE
    """Items of the rows, one row after the other."""
    column: Ints = _NONE
    """(G,) index in ``arrivals`` of each row's audience; the last index is the whole round."""
    budget: Floats = np.zeros(0)
    """(M + G,) exposures since pacing began at which each bonus ends; empty: bonuses never end."""
    offer_begin: Floats = np.zeros(0)
    """(M,) arrivals from the beginning of pacing to each item's time on offer; empty: no item ends."""
    offer_length: Floats = np.zeros(0)
    """(M,) arrivals T in which the exposures of each item are due; empty: no item ends."""

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
            start_bonuses = -price[price < 0.0]
            median_bonus = float(np.median(start_bonuses)) if len(start_bonuses) else 0.0
            scale = np.maximum(max(cost, median_bonus), -price)
        return cls(
            # −0.0, like clipped prices of 0, so that tables have one kind of zero
            start_price=np.where(priced, price, -0.0),
            rate=required / arrivals,
            step=np.where(priced, gain * scale / np.sqrt(np.maximum(required, 1.0)), 0.0),
            cost=np.inf if hard else cost,
            closing=closing,
            arrivals=np.atleast_1d(np.asarray(arrivals, np.float64)),
        )

    def price(self, elapsed: Floats | float, exposure: Floats) -> Floats:
        """Prices v of all requirements, after elapsed arrivals and exposures."""
        price = np.empty(len(self.start_price))
        n_elapsed = np.atleast_1d(np.asarray(elapsed, np.float64))
        move_prices(tuple(self), n_elapsed, exposure, np.zeros(len(price)), price)
        return price


def paced_windows(windows: OfferWindows, since: float, early: float) -> tuple[Floats, Floats]:
    """Begin and length of each item's paced time on offer.

    ``since`` are the arrivals that elapsed before. ``early`` is the share of an item's time that remains when its
    exposures are due.
    """
    begin = np.maximum(windows.begin - since, 0.0)
    length = windows.end - np.maximum(windows.begin, since) - early * (windows.end - windows.begin)
    return begin, np.maximum(length, 1.0)


@compiled_part
def closing_factor(closing: float, arrivals: float, elapsed: float) -> float:
    """Factor h of :class:`Pacing`."""
    return 1.0 / (max(1.0 - elapsed / arrivals, 0.0) + closing) if closing > 0.0 else 1.0


@compiled_part
def bonus_of(  # only scalars, so that the compiler inlines it into loops
    start_price: float, rate: float, step: float, cost: float, elapsed: float, factor: float, delivered: float
) -> float:
    """Bonus of a floor when ``elapsed`` arrivals are over."""
    bonus = step * (rate * elapsed - delivered) * factor - start_price
    bonus = bonus if bonus > 0.0 else 0.0  # noqa: FURB136  # max() and min() would test each number for NaN
    return bonus if bonus < cost else cost  # noqa: FURB136


@compiled
def move_prices(
    pacing_: tuple[Any, ...], elapsed: Floats, exposure: Floats, before: Floats, price: Floats
) -> None:
    """Fill ``price`` with the prices v of :class:`Pacing`.

    The price depends only on sums of exposures, which are exact. So rounding errors do not accumulate, and batches do
    not change results. ``elapsed`` has the arrivals since pacing began, of each audience and of the round. ``before``
    has the exposures before pacing began.
    """
    pacing = Pacing(*pacing_)
    n_rows = len(pacing.max_exposure)
    m = len(price) - n_rows
    last = len(pacing.arrivals) - 1
    n_elapsed = min(elapsed[last], pacing.arrivals[last])
    factor = closing_factor(pacing.closing, pacing.arrivals[last], n_elapsed)
    start_prices = pacing.start_price
    rates = pacing.rate
    steps = pacing.step
    cost = pacing.cost
    begins = pacing.offer_begin
    lengths = pacing.offer_length
    for item in range(m):
        delivered = exposure[item] - before[item]
        if len(lengths) > 0:  # each item has a clock of its own
            n_elapsed = min(max(elapsed[last] - begins[item], 0.0), lengths[item])
            factor = closing_factor(pacing.closing, lengths[item], n_elapsed)
        price[item] = -bonus_of(
            start_prices[item], rates[item], steps[item], cost, n_elapsed, factor, delivered
        )
    for requirement in range(n_rows):
        row = m + requirement
        column = pacing.column[requirement]
        due_in = pacing.arrivals[column]
        start_price = start_prices[row]
        step = steps[row]
        n_elapsed = min(elapsed[column], due_in)
        delivered = exposure[row] - before[row]
        cap_price = 0.0
        factor = closing_factor(pacing.closing, due_in, n_elapsed)
        if pacing.max_exposure[requirement] < np.inf:
            increase = step * (delivered - pacing.max_exposure[requirement] / due_in * n_elapsed) * factor
            cap_price = max(max(start_price, 0.0) + increase, 0.0)
        floor_price = min(start_price, 0.0)
        price[row] = cap_price - bonus_of(floor_price, rates[row], step, cost, n_elapsed, factor, delivered)
    budgets = pacing.budget
    for row in range(len(budgets)):
        if price[row] < 0.0 and exposure[row] - before[row] > budgets[row] - NOTHING:
            price[row] = -0.0


@compiled_part
def add_rows(pacing: Pacing, counts: Bools, price: Floats) -> None:
    """Add prices of rows that count the arrival to items.

    ``price`` has the prices of the M items, then those of the G rows. ``counts`` marks the audiences of the arrival.
    """
    m = len(price) - len(pacing.max_exposure)
    for requirement in range(len(pacing.max_exposure)):
        row_price = price[m + requirement]
        if counts[pacing.column[requirement]] and row_price != 0.0:
            for index in range(pacing.first[requirement], pacing.first[requirement + 1]):
                price[pacing.item[index]] += row_price


@compiled_part
def hide_full(
    pacing: Pacing, counts: Bools, exposure: Floats, before: Floats, position_weights: Floats, value: Floats
) -> None:
    """Exclude items whose next exposure could exceed a cap.

    A slate can show several items of a row. Of each capped row, only as many items as the cap has room for at first
    positions keep their values, those with the largest values.
    """
    m = len(value)
    for requirement in range(len(pacing.max_exposure)):
        if pacing.max_exposure[requirement] < np.inf and counts[pacing.column[requirement]]:
            items = pacing.item[pacing.first[requirement] : pacing.first[requirement + 1]]
            total = exposure[m + requirement] - before[m + requirement]
            n_allowed = 0
            for weight in position_weights[: len(items)]:
                total += weight
                if total > pacing.max_exposure[requirement]:
                    break
                n_allowed += 1
            if n_allowed < min(len(items), len(position_weights)):
                _keep_best(value, items, n_allowed)


@compiled_part
def _keep_best(value: Floats, items: Ints, count: int) -> None:
    """Exclude all but some best items of a row."""
    best = np.full(count, -1)
    best_value = np.full(count, -np.inf)
    for item in items:
        place = count
        while place > 0 and value[item] > best_value[place - 1]:
            place -= 1
        if place < count:
            for later in range(count - 1, place, -1):
                best[later] = best[later - 1]
                best_value[later] = best_value[later - 1]
            best[place] = item
            best_value[place] = value[item]
    for item in items:
        value[item] = -np.inf
    for rank in range(count):
        if best[rank] >= 0:
            value[best[rank]] = best_value[rank]


@compiled_part
def count_rows(
    pacing: Pacing,
    counts: Bools,
    shown: Ints,
    position_weights: Floats,
    weight_of_item: Floats,
    exposure: Floats,
) -> None:
    """Add shown items to requirements' exposures.

    The array ``weight_of_item``, (M,), is for intermediate results: all its entries are 0 before and after.
    """
    if len(pacing.max_exposure) == 0:
        return
    m = len(weight_of_item)
    for position in range(len(shown)):
        weight_of_item[shown[position]] = position_weights[position]
    for requirement in range(len(pacing.max_exposure)):
        if counts[pacing.column[requirement]]:
            for index in range(pacing.first[requirement], pacing.first[requirement + 1]):
                exposure[m + requirement] += weight_of_item[pacing.item[index]]
    for item in shown:
        weight_of_item[item] = 0.0
