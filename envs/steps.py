"""Steps of markets in compiled code.

A step serves an arrival, hands out the next one and observes it. The market's own methods take some hundred Python
calls for this, a compiled step takes one for any number of markets. It serves by the same kernels as a batch
(:mod:`rimsim.market.serving`), and leaves to the market's own methods what it cannot serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import TICKS, Array, Bools, Float32s, Ints
from rimsim.compiled import CompiledRecord, compiled, compiled_part
from rimsim.envs.observations import ObservedRound, observe
from rimsim.market.clock import CLOCK_FIRST, NO_ROW, hand_out, next_after
from rimsim.market.histories import Events
from rimsim.market.scores.arrivals import ScoreColumns
from rimsim.market.scores.block import List
from rimsim.market.serving import Responder, RoundColumns, enter_slates, respond
from rimsim.market.slates import fetch_items, mark_wrong, observed_gain

NOT_SERVED = 0
"""Status of a market that must serve by its own methods, because compiled code has changed nothing."""
OBSERVED = 1
"""Status of a market that has served a slate and observed its next arrival."""
NOT_SCORED = 2
"""Status of a market that has served a slate, but must score its next arrival before it is observed."""
CLOCK_WAITS = 3
"""Status of a market that has served a slate, but whose clock must go on before the next arrival is handed out."""

_OUTCOME = np.dtype(
    [
        ("status", np.int64),
        ("round", np.int64),
        ("served", np.int64),
        ("arrival", np.int64),
        ("time", np.float64),
        ("consumed", np.int64),
        ("emptied", np.int64),
        ("shortfall", np.float64),
        ("excess", np.float64),
        ("reward", np.float64),
    ]
)
"""Type of the outcome of a step: its status, and the fields of ``info["market"]`` with the reward."""


def no_outcomes(n: int) -> Array:
    """Outcomes of ``n`` steps, to be filled in."""
    return np.zeros(n, _OUTCOME)


@dataclass(frozen=True, eq=False)
class SteppedMarket(CompiledRecord):
    """Open round of a market that compiled code steps."""

    columns: RoundColumns
    """Arrays of the round that serving a slate reads and changes."""
    responder: Responder
    """Consumers' law of responses, with its random keys."""
    scores: ScoreColumns
    """Scores of arrivals under the platform's model."""
    observed: ObservedRound
    """Exposures, deficits and waiting arrival, as the environment observes them."""
    id: Ints
    """(n,) ids of the round's arrivals."""
    number: int
    """Number of the round."""
    n_rounds: int
    """Number of rounds of the run."""
    cost: float
    """c, the cost of a missing exposure."""
    fixed_states: bool
    """True if slates do not change the states of later arrivals."""


@compiled
def market_list(market: SteppedMarket, n: int) -> list[SteppedMarket]:
    """List of ``n`` references to a market, for :func:`replace_market`."""
    markets = List()
    for _ in range(n):
        markets.append(market)
    return markets  # type: ignore[no-any-return]  # lists of Numba have no types


@compiled
def replace_market(markets: list[SteppedMarket], number: int, market: SteppedMarket) -> None:
    """Put a market into a list."""
    markets[number] = market


@compiled
def step_markets(markets: list[SteppedMarket], chosen: Bools, slates: Ints, taken: Bools, outcomes: Array,
    numbers: Float32s, admissible: NDArray[np.int8]) -> int:  # fmt: skip
    """Serve slates in chosen markets, and observe the next arrivals.

    The result is the number of markets whose clock must go on first.
    """
    # ``slates`` (n, k) is changed: positions of invalid items become empty. ``taken`` (n, k) is filled with marks of
    # consumed items.
    n_waiting = 0
    for number in range(len(markets)):
        outcomes[number].status = NOT_SERVED
        if chosen[number]:
            row = slice(number, number + 1)
            _step(
                markets[number],
                slates[row],
                taken[row],
                outcomes[number],
                numbers[number],
                admissible[number],
            )
            n_waiting += outcomes[number].status == CLOCK_WAITS
    return n_waiting


@compiled_part
def _step(market: SteppedMarket, slate: Ints, taken: Bools, outcome: Any, numbers: Float32s,
    admissible: NDArray[np.int8]) -> None:  # fmt: skip
    """Serve a slate, and observe the next arrival.

    The status of ``outcome`` says which of the two was done. If it is NOT_SERVED, nothing has changed. If it is
    CLOCK_WAITS, no arrival waits.
    """
    # Records are looked up once, because each look-up counts a reference and costs as much as ten additions.
    columns = market.columns
    observed = market.observed
    queue = columns.queue
    slot = columns.slot
    waiting_row = observed.row
    row = waiting_row[0]
    if row < 0 or not _is_scored(market, columns.events, row, slot[row]) or not _has_room(columns, slate):
        return
    next_row = next_after(row, slot, queue)
    if next_row == NO_ROW:
        return
    outcome.emptied = _serve(market, columns, row, slate, taken)
    waiting_row[0] = -1
    observed.last_row[0] = row
    n_consumed = 0
    for position in range(slate.shape[1]):
        n_consumed += taken[0, position]
    gain = observed_gain(slate[0], columns.position_weights, columns.exposure, columns.required,
        observed.exposure, observed.shortfall)  # fmt: skip
    undelivered = observed.undelivered
    undelivered[0] = max(undelivered[0] - gain, 0.0)
    outcome.consumed = n_consumed
    outcome.reward = n_consumed + market.cost * gain
    outcome.shortfall = undelivered[0]
    outcome.excess = 0.0  # compiled code never serves a round with caps
    outcome.round = market.number
    outcome.served = queue.n_served[0]
    if next_row == CLOCK_FIRST:
        outcome.status = CLOCK_WAITS
    else:
        _observe_next(market, next_row, outcome, numbers, admissible)


@compiled
def observe_next(markets: list[SteppedMarket], outcomes: Array, numbers: Float32s,
    admissible: NDArray[np.int8]) -> None:  # fmt: skip
    """Observe the next arrivals after clocks have gone on."""
    for number in range(len(markets)):
        if outcomes[number].status == CLOCK_WAITS:
            market = markets[number]
            next_row = market.columns.queue.n_arrived[0]
            _observe_next(market, next_row, outcomes[number], numbers[number], admissible[number])


@compiled_part
def _observe_next(market: SteppedMarket, next_row: int, outcome: Any, numbers: Float32s,
    admissible: NDArray[np.int8]) -> None:  # fmt: skip
    """Hand out the next arrival; observe it if scored."""
    columns = market.columns
    observed = market.observed
    slot = columns.slot
    hand_out(next_row, slot[next_row], columns.queue)
    observed.row[0] = next_row
    outcome.arrival = market.id[next_row]
    outcome.time = columns.tick[next_row] / TICKS
    outcome.status = NOT_SCORED
    if _is_scored(market, columns.events, next_row, slot[next_row]):
        block = market.scores.block[next_row]
        index = market.scores.place[next_row]
        elapsed_share = columns.queue.n_served[0] / len(slot)
        clock = (elapsed_share, min(1.0, (market.number + elapsed_share) / market.n_rounds))
        observe(block.relevance[index], block.ground[index:], block.admissible[index], observed.exposure,
            observed.shortfall, clock, numbers, admissible)  # fmt: skip
        outcome.status = OBSERVED


@compiled_part
def _is_scored(market: SteppedMarket, events: Events, row: int, slot: int) -> bool:
    """True if an arrival's scores include its visitor's last event."""
    n_scored = market.scores.n_events[row]
    if market.fixed_states:
        return bool(n_scored >= 0)
    n_events = events.counts[slot]
    # A consumer that samples by its truth needs true scores of the same state.
    if market.responder.draws and market.responder.truth.n_events[row] != n_events:
        return False
    return bool(n_scored == n_events)


@compiled_part
def _has_room(columns: RoundColumns, slate: Ints) -> bool:
    """True if the events array has room for a slate."""
    return bool(
        not columns.enters_events or columns.events.size[0] + slate.shape[1] <= len(columns.events.item)
    )


@compiled_part
def _serve(market: SteppedMarket, columns: RoundColumns, row: int, slate: Ints, taken: Bools) -> int:
    """Serve a slate (1, k); return its number of emptied positions."""
    rows = np.full(1, row)
    index = market.scores.place[row]
    block = market.scores.block[row]
    relevance = np.empty(slate.shape, np.float32)
    is_admissible = np.empty(slate.shape, np.bool_)
    is_wrong = np.empty(slate.shape, np.bool_)
    probability = np.empty(slate.shape, np.float64)
    true_intensity = np.empty(slate.shape, np.float64)
    scores = block.relevance[index : index + 1]
    fetch_items(scores, slate, relevance)
    fetch_items(block.admissible[index : index + 1], slate, is_admissible)
    n_wrong = mark_wrong(slate, is_admissible, scores.shape[1], is_wrong)
    for position in range(slate.shape[1]):
        if is_wrong[0, position]:
            slate[0, position] = -1
    respond(market.responder, row, slate, taken, probability, true_intensity)
    enter_slates(columns, rows, slate, relevance, block.ground[index : index + 1], taken, probability,
        true_intensity)  # fmt: skip
    return n_wrong
