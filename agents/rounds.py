"""Exposure unit, clock and arrivals, for compiled loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from rimsim.arrays import Bools, Float32s, Floats, Ints, seconds
from rimsim.compiled import compiled
from rimsim.measures import mean_weight
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView

_TRUST = 0.05  # weight of the expected arrivals against the realised ones, as a share of the round


class ExposureUnit(NamedTuple):
    """Unit of a guarantee, as compiled loops take it."""

    weight: Floats
    """(k,) value of an exposure at each position; it never rises."""
    mean: float
    """Mean of the weights: value of a required exposure."""
    by_intensity: bool
    """Slates stand in order of λ, otherwise of λ − v.

    Where the unit is the examined exposure, the order of λ − v is best, since intensity and delivery both carry the
    weight of the position. Where every position counts alike, order makes no difference to the guarantee, and the order
    of λ gives the visitors most.
    """

    @classmethod
    def of(cls, view: RoundView) -> Self:
        """Unit of a round."""
        weight = np.ascontiguousarray(view.position_weights, np.float64)
        return cls(weight, mean_weight(weight), view.unit == "shown")


class RoundClock:
    """Elapsed expected arrivals of a round and its audiences.

    Columns are the A audiences of a table of requirements, then the whole round. A round that is paced by arrivals has
    elapsed by the arrivals served, N at most: after that everything is due. One that is paced by time has elapsed by N
    times the elapsed share of its time, whoever came.
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
        """(n, A + 1) arrivals that count for each column."""
        counts = np.ones((len(arrivals), len(self.expected)), np.bool_)
        if len(self._came):
            counts[:, :-1] = arrivals.audiences
        return counts

    def before(self, arrivals: Arrivals) -> Floats:
        """(n, A + 1) elapsed expected arrivals before each next one."""
        if self._by_time:
            return np.asarray(self.expected * self._share(arrivals), np.float64)
        came = self._came_before(arrivals)
        came[:, -1] = np.minimum(came[:, -1], self.expected[-1])
        return came

    def remaining(self, arrivals: Arrivals) -> Floats:
        """(n, A + 1) arrivals still to come, itself included.

        It is at least 1. By time it is their rate so far times the remaining time; until enough of the round has
        elapsed, the expected rate counts as well.
        """
        came = self._came_before(arrivals)
        if not self._by_time:
            return np.maximum(self.expected - came, 1.0)
        share = self._share(arrivals)
        rate: Floats = (came + _TRUST * self.expected) / (share + _TRUST)
        return np.maximum(rate * (1.0 - share), 1.0)

    def steps(self, arrivals: Arrivals) -> Floats:
        """(n,) elapsed expected arrivals per arrival."""
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
        """(n, A + 1) elapsed share of the time."""
        span = np.maximum(self._closes - self._opens, 1e-9)
        return np.asarray(np.clip((arrivals.time[:, None] - self._opens) / span, 0.0, 1.0), np.float64)


class ArrivalRows(NamedTuple):
    """Arrivals as compiled loops take them."""

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


def rows_of(arrivals: Arrivals, slate: int) -> tuple[Any, ...]:
    """Fields of :class:`ArrivalRows`, for slates of k positions.

    They are a plain tuple, since handing a record over to a compiled loop takes longer than ranking hundreds of items;
    the loop makes the record: ``rows = ArrivalRows(*arrivals)``.
    """
    return (
        arrivals.relevance.cpu().numpy(),
        arrivals.ground_intensity.cpu().numpy(),
        arrivals.admissible.cpu().numpy(),
        arrivals.id,
        np.full(len(arrivals), slate) if arrivals.capacity is None else arrivals.capacity,
    )


@compiled
def value_row(rows: ArrivalRows, row: int, price: Floats, value: Floats) -> None:
    """Fill ``value`` (M,) with λ(x)·p(y|x) − v, −∞ if inadmissible.

    The product is taken in single precision, as :attr:`rimsim.market.Arrivals.intensity` has it.
    """
    for item in range(len(price)):
        worth = np.float64(rows.relevance[row, item] * rows.ground[row]) - price[item]
        value[item] = worth if rows.admissible[row, item] else -np.inf


@compiled
def fill_row(
    items: Ints, size: int, price: Floats, unit: ExposureUnit, exposure: Floats, prices: Float32s
) -> None:
    """Count exposures, note prices, and empty the other positions."""
    for place in range(len(items)):
        if place < size:
            exposure[items[place]] += unit.weight[place]
            prices[place] = price[items[place]]
        else:
            items[place] = -1
            prices[place] = np.nan
