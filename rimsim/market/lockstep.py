"""Several markets in lock-step: each shows its next arrival a slate, at the cost of one call for all."""

# ruff: noqa: SLF001 - this is Market.next_arrivals and Market.serve for many markets at once

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from rimsim.market.consumer import Response, respond_together
from rimsim.market.records import Slates
from rimsim.market.slates import at_items, emptied

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import ScenarioConfig
    from rimsim.market.consumer import IntensityConsumer
    from rimsim.market.market import Market

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
    return NextArrival(row, relevance[at], ground[at], admissible[at])


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
    """
    shown = emptied(items, admissible)
    consumers = [cast("IntensityConsumer", market._consumer) for market in markets]  # can_lock_step
    response = respond_together(consumers, rows, shown)
    intensity = at_items(torch.from_numpy(relevance), shown) * ground[:, None]
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
