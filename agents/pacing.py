"""Prices that follow delivery: rank one arrival, then move the prices, row after row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from rimsim.agents.prices import capacities
from rimsim.compiled import compiled
from rimsim.matching import best_items, tie_rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market import Arrivals

__all__ = ["Pacing", "Rows", "fill_row", "move_prices", "rows_of", "serve_with_feedback", "value_row"]


class Pacing(NamedTuple):
    """How prices follow delivery: v = −clip(step·h·(pace·t − E) − start, 0, cost) before arrival t of N.

    h = 1, or, where ``closing`` is above 0, h = 1 / (1 − t/N + closing).
    """

    start: NDArray[np.float64]
    """(M,) price v before arrival 0."""
    pace: NDArray[np.float64]
    """(M,) required exposures per arrival."""
    step: NDArray[np.float64]
    """(M,) price per exposure of delivery error."""
    cost: float
    """c: prices lie in [−c, 0]."""
    closing: float
    """δ: how much of the round a correction is spread over at the end; 0 for a constant h = 1."""
    arrivals: int
    """Arrivals in which the exposures are due, N."""

    @classmethod
    def of(
        cls,
        price: NDArray[np.float64],
        required: NDArray[np.float64],
        arrivals: int,
        *,
        gain: float,
        closing: float,
        cost: float,
        due: NDArray[np.bool_] | None = None,
    ) -> Self:
        """Pacing with the relative step g·c/√b.

        Args:
            price: (M,) prices v to start from; 0 is taken for items that are not due.
            required: (M,) exposures b asked for.
            arrivals: Arrivals in which they are due.
            gain: g.
            closing: δ.
            cost: c.
            due: (M,) items whose prices move; None: those of which exposures are required.
        """
        due = required > 0 if due is None else due
        return cls(
            start=np.where(due, price, -0.0),  # so that a price of 0 keeps its sign in tables
            pace=required / arrivals,
            step=np.where(due, gain * cost / np.sqrt(np.maximum(required, 1.0)), 0.0),
            cost=cost,
            closing=closing,
            arrivals=arrivals,
        )

    def price(self, time: int, exposure: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M,) v before arrival ``time``, after ``exposure`` (M,)."""
        price = np.empty(len(self.start))
        move_prices(self, time, exposure, price)
        return price


class Rows(NamedTuple):
    """Arrivals as compiled loops take them."""

    relevance: NDArray[np.float32]
    """(n, M) p(y|x)."""
    ground: NDArray[np.float32]
    """(n,) λ(x)."""
    admissible: NDArray[np.bool_]
    """(n, M) items that may be shown."""
    id: NDArray[np.int64]
    """(n,) arrival ids."""
    capacity: NDArray[np.int64]
    """(n,) positions that may be filled."""


def rows_of(arrivals: Arrivals, slate: int) -> tuple[Any, ...]:
    """The fields of :class:`Rows` for some arrivals and slates of so many positions.

    They are a plain tuple, since handing a record over to a compiled loop takes longer than ranking hundreds of items;
    the loop makes the record: ``rows = Rows(*arrivals)``.
    """
    return (
        arrivals.relevance.cpu().numpy(),
        arrivals.ground_intensity.cpu().numpy(),
        arrivals.admissible.cpu().numpy(),
        arrivals.id,
        capacities([arrivals], slate),
    )


def serve_with_feedback(
    arrivals: Arrivals,
    ties: np.uint64,
    time: int,
    pacing: Pacing,
    exposure: NDArray[np.float64],
    slate: int,
    required: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Answer the rows in order, each with the top k of λ − v at the delivery so far.

    Args:
        arrivals: n rows.
        ties: The round's random bits for ties, :func:`rimsim.matching.tie_base` of its key.
        time: Number t of the first row since the pacing began.
        pacing: How prices move.
        exposure: (M,) exposures since the pacing began, whole numbers; changed in place.
        slate: k.
        required: (M,) exposures that a guard sees to: what can only be met by serving it now is served whatever its
            value; None for no guard.

    Returns:
        (n, k) items, −1 for an empty position, and (n, k) item prices v at the decision.
    """
    shape = (len(arrivals), slate)
    items, price = np.empty(shape, np.int64), np.empty(shape, np.float32)
    guard = np.empty(0) if required is None else required
    _rank(rows_of(arrivals, slate), ties, time, tuple(pacing), guard, exposure, items, price)
    return items, price


@compiled
def move_prices(pacing: Pacing, time: int, exposure: NDArray[np.float64], price: NDArray[np.float64]) -> None:
    """Fill ``price`` (M,) with v of :class:`Pacing` before arrival ``time``, after ``exposure`` (M,).

    Prices are computed from whole counts each time, so rounding cannot accumulate and the cut into batches cannot
    matter.
    """
    factor = 1.0
    if pacing.closing > 0.0:
        factor = 1.0 / (max(1.0 - time / pacing.arrivals, 0.0) + pacing.closing)
    for item in range(len(price)):
        pull = pacing.step[item] * (pacing.pace[item] * time - exposure[item]) * factor
        price[item] = -min(max(pull - pacing.start[item], 0.0), pacing.cost)


@compiled
def value_row(rows: Rows, row: int, price: NDArray[np.float64], value: NDArray[np.float64]) -> None:
    """Fill ``value`` (M,) with λ(x)·p(y|x) − v of a row, −inf for what may not be shown.

    The product is taken in single precision, as :attr:`rimsim.market.Arrivals.intensity` has it.
    """
    for item in range(len(price)):
        worth = np.float64(rows.relevance[row, item] * rows.ground[row]) - price[item]
        value[item] = worth if rows.admissible[row, item] else -np.inf


@compiled
def fill_row(
    items: NDArray[np.int64],
    size: int,
    price: NDArray[np.float64],
    exposure: NDArray[np.float64],
    prices: NDArray[np.float32],
) -> None:
    """Empty the positions behind the first ``size``, count their exposures and note their prices.

    Args:
        items: (k,) shown items, changed in place.
        size: How many were shown.
        price: (M,) prices v at the decision.
        exposure: (M,) changed in place.
        prices: (k,) filled with the shown items' prices, NaN where none is shown.
    """
    for place in range(len(items)):
        if place < size:
            exposure[items[place]] += 1.0
            prices[place] = price[items[place]]
        else:
            items[place] = -1
            prices[place] = np.nan


@compiled
def _guarded(
    value: NDArray[np.float64],
    row: np.uint64,
    left: int,
    required: NDArray[np.float64],
    exposure: NDArray[np.float64],
    items: NDArray[np.int64],
    best: NDArray[np.float64],
) -> int:
    """:func:`best_items`, but what can only be met by serving it now comes first.

    An item that lacks as many exposures as arrivals are left must be shown at each of them. And where all items
    together lack more than fits into the slates after this one, the excess must be shown now: the lacking items of
    largest value.

    Args:
        value: (M,); −inf for what may not be shown.
        row: Random bits of the row, for ties.
        left: Arrivals left, this one included.
        required: (M,) required exposures.
        exposure: (M,) exposures so far.
        items: (k,) filled in place.
        best: (k,) their values, filled in place.

    Returns:
        How many were found, at most k.
    """
    m, k = len(value), len(items)
    due, now = 0.0, 0
    for item in range(m):
        lacking = required[item] - exposure[item]
        if lacking > 0.0:
            due += min(lacking, np.float64(left))
            if lacking >= left and value[item] > -np.inf:
                now += 1
    forced = int(min(np.float64(k), max(np.float64(now), due - np.float64(k * (left - 1)))))
    if forced <= 0:
        return best_items(value, row, items, best)
    chosen = np.full(m, -np.inf)
    pool = np.empty(m, np.float64)
    shown = 0
    # What is due at every arrival left; what fits nowhere later; what is left of the slate.
    for stage in range(3):
        room = (k if stage != 1 else forced) - shown
        if room <= 0:
            continue
        for item in range(m):
            lacking = required[item] - exposure[item]
            allowed = chosen[item] == -np.inf and (
                stage == 2 or (lacking > 0.0 and (stage == 1 or lacking >= left))
            )
            pool[item] = value[item] if allowed else -np.inf
        size = best_items(pool, row, items[:room], best[:room])
        for place in range(size):
            chosen[items[place]] = value[items[place]]
        shown += size
    return best_items(chosen, row, items, best)


@compiled
def _rank(
    arrivals: tuple[Any, ...],
    ties: np.uint64,
    first: int,
    pace: tuple[Any, ...],
    required: NDArray[np.float64],
    exposure: NDArray[np.float64],
    items: NDArray[np.int64],
    prices: NDArray[np.float32],
) -> None:
    """The rows in order, up to their capacities; arguments as in :func:`serve_with_feedback`, records as tuples."""
    rows, pacing = Rows(*arrivals), Pacing(*pace)
    n, k = items.shape
    price, value, best = np.empty(len(exposure)), np.empty(len(exposure)), np.empty(k)
    for row in range(n):
        move_prices(pacing, first + row, exposure, price)
        value_row(rows, row, price, value)
        bits = tie_rank(ties, rows.id[row])
        most, size = min(rows.capacity[row], k), 0
        if most > 0 and len(required):
            left = max(pacing.arrivals - first - row, 1)
            size = _guarded(value, bits, left, required, exposure, items[row, :most], best[:most])
        elif most > 0:
            size = best_items(value, bits, items[row, :most], best[:most])
        fill_row(items[row], size, price, exposure, prices[row])
