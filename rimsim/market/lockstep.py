"""One arrival after the other: the short way through a market, for environments."""

# ruff: noqa: SLF001 - this is Market.next_arrivals(1) and Market.serve for one arrival

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from rimsim.market._show import count_shown, show_slate
from rimsim.market.clock import seconds
from rimsim.market.records import Arrivals, Feedback

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import ScenarioConfig
    from rimsim.market.consumer import IntensityConsumer
    from rimsim.market.ledger import Ledger
    from rimsim.market.market import Market
    from rimsim.market.schedule import Schedule
    from rimsim.market.scoring import ScoreRows

__all__ = [
    "NextArrival",
    "Outcome",
    "can_lock_step",
    "count_shown",
    "feedback_of",
    "next_arrival",
    "serve_one",
]


class NextArrival(NamedTuple):
    """An arrival that waits for its slate."""

    row: int
    """Its row in its round."""
    relevance: NDArray[np.float32]
    """(M,) p(y|x), in the memory of a block of scores."""
    ground: np.float32
    """λ(x)."""
    admissible: NDArray[np.bool_]
    """(M,)."""
    block: ScoreRows
    """Where its scores lie."""
    at: int
    """Their row there."""
    schedule: Schedule
    """The arrivals of its round."""

    def arrivals(self) -> Arrivals:
        """The same as a batch of one, of a market that reveals no truth and caps no user."""
        schedule, index = self.schedule, np.array([self.row])
        scores = self.block.cut(self.at, 1)
        return Arrivals(
            id=schedule.id[index],
            time=seconds(schedule.tick[index]),
            user=schedule.user[schedule.slot[index]],
            relevance=scores.relevance,
            ground_intensity=scores.ground,
            admissible=scores.admissible,
            index=index,
        )


class Outcome(NamedTuple):
    """What came of one slate."""

    consumed: int
    """Items consumed."""
    useful: int
    """Exposures that reduced the shortfall."""
    emptied: int
    """Positions that were repeated or inadmissible, and stayed empty."""


def can_lock_step(config: ScenarioConfig) -> bool:
    """Whether the short way leads through the markets of a scenario: a fitted truth, no caps of users."""
    return config.consumer.kind == "intensity" and config.user_cap is None


def next_arrival(market: Market) -> NextArrival:
    """Hand out the next arrival of a market; as ``market.next_arrivals(1)``.

    Raises:
        MarketError: As :meth:`Market.next_arrivals`.
    """
    row = market._hand_out_one()
    block, at = market._rows.row(row)
    relevance, ground, admissible = block.host()
    return NextArrival(row, relevance[at], ground[at], admissible[at], block, at, market.schedule)


def serve_one(
    market: Market,
    arrival: NextArrival,
    slate: NDArray[np.int64],
    seen_exposure: NDArray[np.float32],
    seen_shortfall: NDArray[np.float32],
) -> Outcome:
    """Show a slate to an arrival that waits; as ``market.serve(…, invalid="empty")``.

    Args:
        market: The market.
        arrival: Its arrival.
        slate: (k,) C-contiguous items.
        seen_exposure: (M,) exposures of the round as observed; brought up to date.
        seen_shortfall: (M,) shortfall of the round as observed; brought up to date.
    """
    row, ledger = arrival.row, market.ledger
    consumer = cast("IntensityConsumer", market._consumer)  # can_lock_step
    if market.short_way is None:
        market.short_way = (
            *consumer.visits,
            *consumer.appetites,
            *consumer.factors,
            consumer.examination,
            consumer.attraction,
            *ledger.columns,
            market.exposure,
            market.required,
        )
    consumed, useful, emptied = show_slate(
        row,
        slate,
        arrival.relevance,
        arrival.ground,
        arrival.admissible,
        seen_exposure,
        seen_shortfall,
        consumer.waiting_of(row),
        *market.short_way,
    )
    market._let_go_of_one(row)
    if consumed:
        taken = ledger.item[row][ledger.consumed[row]].astype(np.int64)
        tick = int(arrival.schedule.tick[row])
        market._deliveries.send(market._population.mail, market._slot[row], tick, taken)
    market._count_served(1)
    return Outcome(consumed, useful, emptied)


def feedback_of(arrival: NextArrival, ledger: Ledger) -> Feedback:
    """What came of the slate of an arrival, from the ledger of its round."""
    here = slice(arrival.row, arrival.row + 1)
    return Feedback(arrival.arrivals(), ledger.item[here].astype(np.int64), ledger.consumed[here].copy())
