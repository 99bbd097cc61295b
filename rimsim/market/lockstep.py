"""Several markets in lock-step: each shows its next arrival a slate, at the cost of one call for all."""

# ruff: noqa: SLF001 - this is Market.next_arrivals and Market.serve for many markets at once

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from rimsim.errors import AgentError
from rimsim.market.clock import seconds
from rimsim.market.consumer import Response, respond_together
from rimsim.market.records import Arrivals, Slates
from rimsim.market.slates import shown_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import ScenarioConfig
    from rimsim.market.consumer import IntensityConsumer
    from rimsim.market.market import Market
    from rimsim.market.schedule import Schedule
    from rimsim.market.scoring import ScoreRows

__all__ = ["NextArrival", "Shown", "can_lock_step", "next_arrival", "serve_together"]


@dataclass(frozen=True, eq=False, slots=True)
class NextArrival:
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


@dataclass(frozen=True, eq=False, slots=True)
class Shown:
    """What came of one slate in each of n markets."""

    items: NDArray[np.int64]
    """(n, k) what was shown; −1 where a position was empty, repeated or inadmissible."""
    consumed: NDArray[np.bool_]
    """(n, k)."""


def can_lock_step(config: ScenarioConfig) -> bool:
    """Whether markets of a scenario can respond together: one fitted truth, no caps of users."""
    return config.consumer.kind == "intensity" and config.user_cap is None


def next_arrival(market: Market) -> NextArrival:
    """Hand out the next arrival of a market; as ``market.next_arrivals(1)``.

    Raises:
        MarketError: As :meth:`Market.next_arrivals`.
    """
    [row] = market._hand_out(1)
    block, at = market._rows.row(row)
    relevance, ground, admissible = block.host()
    return NextArrival(row, relevance[at], ground[at], admissible[at], block, at, market.schedule)


def serve_together(
    markets: list[Market],
    rows: list[int],
    items: NDArray[np.int64],
    relevance: NDArray[np.float32],
    ground: NDArray[np.float32],
    admissible: NDArray[np.bool_],
) -> Shown:
    """Show a slate in each of n markets of one scenario; as n calls of ``market.serve(…, invalid="empty")``.

    Args:
        markets: Different markets that share their truth.
        rows: The arrival of each that waits.
        items: (n, k) a slate for each.
        relevance: (n, M) p(y|x) of those arrivals.
        ground: (n,) their λ(x).
        admissible: (n, M).

    Raises:
        AgentError: If the slates have another shape.
    """
    if items.shape != (len(markets), markets[0].config.slate):
        raise AgentError(
            f"slates have shape {items.shape}; allowed: {(len(markets), markets[0].config.slate)}, a row an arrival"
        )
    shown, intensity = shown_of(items, admissible, relevance, ground)
    consumers = [cast("IntensityConsumer", market._consumer) for market in markets]  # can_lock_step
    response = respond_together(consumers, rows, shown)
    if len(markets) == 1:
        markets[0]._enter(np.array(rows), Slates(shown), response, intensity, ground)
        return Shown(shown, response.consumed)
    for n, market in enumerate(markets):
        here = slice(n, n + 1)
        market._enter(
            np.array(rows[here]),
            Slates(shown[here]),
            Response(response.consumed[here], response.probability[here], response.intensity[here]),
            intensity[here],
            ground[here],
        )
    return Shown(shown, response.consumed)
