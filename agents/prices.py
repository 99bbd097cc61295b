"""Clock, requirements and solved prices of a round.

A floor is a requirement of one item. So the requirements of a round are M floors, followed by those of groups,
campaigns and caps (:class:`RowTable`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from rimsim.arrays import Bools, Float32s, Floats, Ints, seconds
from rimsim.compiled import compiled_part
from rimsim.matching import DualPrices, Rows, solve_prices
from rimsim.measures import mean_weight
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView
    from rimsim.market.records import ScoredStates

EARLY = 0.05
"""Share of the round before whose end hard requirements are to be met, so that deficits can be made up for."""
_TRUST = 0.05  # weight of the expected arrivals against the realised ones, as a share of the round
_DEAR = 4.0  # cost of a missing exposure where requirements are hard, in multiples of the largest intensity
SAMPLED_TOL = 5e-3
"""Relative gap at which prices of a sample need no refinement: those of all states are about as far away."""
_ROUNDED_FROM = 1.5  # mean floor of a sample's items, exposures, from which rounding costs less than sampling


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
        self._opens = np.full(columns + 1, view.opens)
        self._closes = np.full(columns + 1, view.closes)
        has_audience = table.audience >= 0
        self.expected[table.audience[has_audience]] = table.arrivals[has_audience]
        self._opens[table.audience[has_audience]] = seconds(table.begin[has_audience])
        self._closes[table.audience[has_audience]] = seconds(table.end[has_audience])
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
        n_before = self._came_before(arrivals)
        n_before[:, -1] = np.minimum(n_before[:, -1], self.expected[-1])
        return n_before

    def remaining(self, arrivals: Arrivals) -> Floats:
        """Number of remaining arrivals at each arrival, itself included.

        The number is at least 1. With pacing by time, the number of remaining arrivals is the rate of arrivals so far
        times the remaining time. Early in the round, the rate is averaged with the expected rate.
        """
        n_before = self._came_before(arrivals)
        if not self._by_time:
            return np.maximum(self.expected - n_before, 1.0)
        share = self._share(arrivals)
        rate: Floats = (n_before + _TRUST * self.expected) / (share + _TRUST)
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
        n_before = np.empty((len(arrivals), len(self.expected)))
        n_before[:, -1] = np.arange(self.served, self.served + len(arrivals))
        if len(self._came):
            counts = self.counts(arrivals)[:, :-1]
            n_before[:, :-1] = self._came + np.cumsum(counts, axis=0) - counts
        return n_before

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


# -- requirements and prices as the solver sees them ------------------------------------------------------------------
class RowTable(NamedTuple):
    """Requirements of a round: M floors, then G other requirements."""

    required: Floats
    """(M,) floors of items, rows of one item included."""
    rows: Requirements
    """G rows of several items, of an audience or with a cap."""
    place: Ints
    """(J,) index of each requirement of ``view.promises`` in this table: below M an item, else M plus its row."""

    @classmethod
    def of(cls, view: RoundView, promises: Requirements | None = None) -> Self:
        """Requirements of a round: floors, then ``promises``."""
        table = view.promises if promises is None else promises
        required = np.array(view.required, np.float64)
        place = np.empty(len(table), np.int64)
        rest = np.ones(len(table), bool)
        single = (
            (table.audience < 0)
            & (np.diff(table.first) == 1)
            & (table.min_exposure > 0)
            & np.isinf(table.max_exposure)
        )
        for row in np.flatnonzero(single):
            item = table.item[table.first[row]]
            if required[item] == 0.0:  # an item has one floor; further ones are rows of their own
                required[item] = table.min_exposure[row]
                place[row] = item
                rest[row] = False
        place[rest] = len(required) + np.arange(rest.sum())
        return cls(required, table if rest.all() else table.rows(rest), place)

    @property
    def min_exposure(self) -> Floats:
        """Least exposures that each requirement asks for."""
        return np.concatenate([self.required, self.rows.min_exposure])

    def split(self, price: Floats) -> tuple[Floats, Floats]:
        """Prices, split into those of items and of ``view.promises``."""
        item_price = price[: len(self.required)].copy()
        item_price[self.place[self.place < len(item_price)]] = -0.0
        return item_price, price[self.place]


class Constraints(NamedTuple):
    """Requirements of a round, scaled to the solver's n states."""

    min_exposure: Floats
    """(M,) least exposures of items."""
    max_exposure: Floats
    """(M,) most exposures of items."""
    rows: Rows
    """Groups and campaigns."""
    which: Bools
    """(J,) rows of the table that these are; the others are caps of items."""

    def prices(self, table: Requirements, item_price: Floats, row_price: Floats) -> Floats:
        """Price of each requirement, from the solver's prices.

        A solved item price above 0 is the price of the item's cap.
        """
        price = np.zeros(len(table))
        price[self.which] = row_price
        price[~self.which] = np.maximum(item_price[table.rows(~self.which).item], 0.0)
        return price


def constraints_of(
    required: Floats, table: Requirements, active: Bools, cost: float, arrivals: float | None = None
) -> Constraints:
    """Solver's constraints for n states, in the unit of guarantees.

    ``active`` marks the states that count for each requirement. The states represent this number of ``arrivals``, and
    each requirement is scaled to its expected number of arrivals. If ``arrivals`` is None, the states are the arrivals
    themselves, and nothing is scaled.
    """
    n = len(active)
    is_row = ~table.item_caps
    rows_table = table.rows(is_row)
    mine = active[:, is_row]
    scale = 1.0
    share = np.ones(len(rows_table))
    if arrivals is not None:
        scale = n / arrivals
        share = np.where(rows_table.audience < 0, scale, mine.sum(0) / np.maximum(rows_table.arrivals, 1e-9))
    max_exposure = table.max_exposure_of_items(len(required)) * scale
    rows = Rows(
        first=rows_table.first,
        item=rows_table.item,
        min_exposure=rows_table.min_exposure * share,
        max_exposure=np.multiply(
            rows_table.max_exposure,
            share,
            out=np.full(len(rows_table), np.inf),
            where=np.isfinite(rows_table.max_exposure),
        ),
        cost=np.full(len(rows_table), cost),
        active=mine,
    )
    return Constraints(
        np.minimum(required * scale, max_exposure), np.minimum(max_exposure, n * 1.0), rows, is_row
    )


def counted(table: Requirements, chunks: Sequence[Arrivals]) -> Bools:
    """Mask of the states that count for each requirement."""
    return np.concatenate([table.active(chunk.audiences, len(chunk)) for chunk in chunks])


def solved_prices(view: RoundView, tol: float, start_price: Floats | None = None) -> tuple[Floats, float]:
    """Item prices, optimal for floors in the last round's states.

    Prices are at most 0. The second value is the tie width: the least difference of two values λ − v that the solver
    can tell apart. The solver stops at the relative gap ``tol``, and starts from ``start_price``.
    """
    return solved_rows(view, RowTable.of(view, NO_REQUIREMENTS), tol, start_price)


def solved_rows(
    view: RoundView, table: RowTable, tol: float, start_price: Floats | None = None
) -> tuple[Floats, float]:
    """Requirement prices for the last round's states, and tie width.

    Floors are scaled to the number of states. If all positions count the same and all requirements are floors, floors
    are rounded at random. The sum of the floors stays about the same. The key of the round seeds this rounding. With
    pacing by time, the solver expects as many arrivals as in the last round. If requirements are hard, prices may be
    below −c. An item that could not be shown in the states of the last round, such as a newly released item, starts at
    the price −c. If not all states fit into memory and the sample is too small to round floors
    (:func:`too_few_to_round`), floors stay real numbers.
    """
    n_rows = len(table.rows)
    if not len(view.past) or not (table.required.any() or n_rows):
        return np.zeros(len(table.required) + n_rows), 0.0
    chunks = list(view.past) if n_rows else view.past
    states = joined_states(chunks, view.k)
    n_past = len(states.scores) if view.n_past_arrivals is None else view.n_past_arrivals
    expected = n_past if view.pace == "clock" else view.arrivals
    if n_rows:
        cost = cost_of_missing(view, states)
        active = counted(table.rows, list(chunks))
        constraints = constraints_of(table.required, table.rows, active, cost, expected)
        solution = _solve(view, states, constraints, None, tol, None)
        row_price = constraints.prices(table.rows, solution.item_price, solution.row_price)
        item_price = np.minimum(within_bound(solution.item_price, cost, view.cost), 0.0)
        return np.concatenate([item_price, within_bound(row_price, cost, view.cost)]), solution.resolution
    required = table.required * (len(states.scores) / expected)
    sampled = len(states.scores) < n_past
    draw = (
        None
        if sampled and too_few_to_round(required)
        else np.random.default_rng(view.key).random(len(required))
    )
    return priced(view, states, required, draw, max(tol, SAMPLED_TOL) if draw is None else tol, start_price)


def too_few_to_round(required: Floats) -> bool:
    """True if samples have too few positions to round floors.

    For such samples, prices solved with rounded floors can give a certificate whose bound is a third above the least
    bound, because a floor below one position becomes none or one. With unrounded floors, the bound is only some
    thousandths above it.
    """
    is_required = required > 0
    return bool(is_required.any() and required[is_required].mean() < _ROUNDED_FROM)


def priced(
    view: RoundView,
    states: States,
    required: Floats,
    draw: Floats | None,
    tol: float,
    start_price: Floats | None,
) -> tuple[Floats, float]:
    """Item prices v, optimal for given states, and tie width.

    If all positions count the same, the random numbers ``draw`` decide how floors are rounded to whole exposures.
    Without ``draw``, floors stay real numbers, and the search ends when the dual D is within the relative gap ``tol``
    of its minimum. An item that cannot be delivered at any cost has the price −c. The search starts from
    ``start_price``, or else from 0.
    """
    solution = _solve(view, states, required, draw, tol, start_price)
    cost = cost_of_missing(view, states)
    return np.minimum(within_bound(solution.item_price, cost, view.cost), 0.0), solution.resolution


def _solve(
    view: RoundView,
    states: States,
    required: Floats | Constraints,
    draw: Floats | None,
    tol: float,
    start_price: Floats | None,
) -> DualPrices:
    """Solution for floors, which ``draw`` rounds, or for any constraints."""
    position_weights: Floats | None = view.position_weights
    min_exposure, max_exposure, rows, _ = (
        required if isinstance(required, Constraints) else (required, None, None, None)
    )
    if rows is None and draw is not None and view.position_weights[0] == view.position_weights[-1]:
        below = np.floor(min_exposure)
        position_weights = None
        min_exposure = np.minimum(below + (draw < min_exposure - below), len(states.scores)).astype(np.int64)
    return solve_prices(
        states.scores,
        states.capacity,
        min_exposure,
        max_exposure,
        cost=cost_of_missing(view, states),
        prices=start_price,
        position_weights=position_weights,
        rows=rows,
        tol=tol,
        tie_seed=view.key,
        for_bound=rows is None and draw is None,
    )


def within_bound(price: Floats, bound: float, cost: float) -> Floats:
    """Prices v, with −c instead of prices at ``bound``.

    The solver gives this price to an item that could not be shown in the past states.
    """
    return np.where(price > -bound, price, -cost)


def cost_of_missing(view: RoundView, states: States) -> float:
    """Cost of a missing exposure when prices are solved.

    For soft requirements the cost is c. For hard requirements the cost exceeds the worth of any exposure, so that all
    feasible exposures are delivered.
    """
    if not view.hard:
        return view.cost
    return max(view.cost, _DEAR * float(states.scores.max(initial=0.0)))


def admissible_shares(view: RoundView) -> Floats:
    """Share of past states for which each item is admissible.

    The share is 1 for an item that was admissible in no state, because this item was probably not released and nobody
    has consumed it.
    """
    total = np.zeros(len(view.required))
    n = 0
    for chunk in view.past:
        total += chunk.admissible.cpu().numpy().sum(0)
        n += len(chunk)
    return np.where(total > 0, total / max(n, 1), 1.0)


def spread_prices(view: RoundView, price: Floats, arrivals: Arrivals) -> Floats:
    """Sum of requirements' prices for each arrival and item."""
    table = view.promises
    columns = 0 if arrivals.audiences is None else arrivals.audiences.shape[1]
    of_items = np.zeros((columns + 1, len(view.required)))
    sizes = np.diff(table.first)
    np.add.at(of_items, (np.repeat(table.audience, sizes), table.item), np.repeat(price, sizes))
    shared = np.tile(of_items[-1], (len(arrivals), 1))
    return shared if arrivals.audiences is None else arrivals.audiences @ of_items[:-1] + shared


class States(NamedTuple):
    """Scored states in the form that the solver needs."""

    scores: Float32s
    """(n, M) λ(x,y), −inf where not admissible."""
    capacity: Ints
    """(n,) positions that each may fill."""

    def rows(self, rows: Ints | slice) -> States:
        """States at given indices."""
        return States(self.scores[rows], self.capacity[rows])

    @classmethod
    def stacked(cls, parts: Sequence[States]) -> States:
        """States of one or more parts, concatenated."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def joined_states(chunks: Sequence[Arrivals] | ScoredStates, slate: int) -> States:
    """States of all chunks, concatenated, for slates of k positions.

    Chunks that are scored during iteration are not in memory at the same time.
    """
    n = sum(map(len, chunks)) if isinstance(chunks, Sequence) else len(chunks)
    scores = np.empty((0, 0), np.float32)
    capacity = np.empty(n, np.int64)
    filled = 0
    for chunk in chunks:
        if filled == 0:
            scores = np.empty((n, chunk.relevance.shape[1]), np.float32)
        block = slice(filled, filled + len(chunk))
        chunk.write_scores(scores[block])
        capacity[block] = capacities([chunk], slate)
        filled += len(chunk)
    return States(scores, capacity)


def states_in_order(chunks: Sequence[Arrivals], slate: int) -> States:
    """States of all chunks, in clock order."""
    return joined_states(chunks, slate).rows(np.argsort(np.concatenate([chunk.row for chunk in chunks])))


def capacities(chunks: Sequence[Arrivals], slate: int) -> Ints:
    """Number of positions that each state may fill."""
    parts = [np.full(len(chunk), slate) if chunk.capacity is None else chunk.capacity for chunk in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
