"""A small market around a part that is to be tested."""

# ruff: noqa: S101 - this is for tests, and assert is pytest's language

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim.arrays import Ints
from rimsim.config import ArrivalsConfig, PlatformConfig, ScenarioConfig, Seeds
from rimsim.intensity import Popularity
from rimsim.market import Market
from rimsim.market.arrivals import make_arrivals
from rimsim.market.consumers import NOTHING, drawn, make_consumer
from rimsim.market.world import world_of
from rimsim.matching import top_k

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.market.arrivals import ArrivalProcess
    from rimsim.market.consumers import Consumer, Organic, Response, Visits
    from rimsim.market.ledger import Ledger
    from rimsim.market.providers import Provider


@dataclass(frozen=True)
class Taking:
    """A consumer who takes each item that is shown with one probability, whoever comes."""

    probability: float

    needs_truth = False

    def respond(self, visits: Visits, slates: Ints) -> Response:
        """The same probability at each position."""
        probability = np.full(slates.shape, self.probability)
        return drawn(visits, slates, probability, probability)

    def organic(self, visits: Visits) -> Organic:  # noqa: ARG002  # the protocol's
        """Nothing."""
        return NOTHING

    def true_intensity(self, visits: Visits) -> torch.Tensor:
        """The same for all items."""
        return torch.full((len(visits), visits.world.log.n_items), self.probability)


def small_scenario() -> ScenarioConfig:
    """Two rounds of 60 clones, slates of four."""
    return ScenarioConfig(
        rounds=2,
        slate=4,
        arrivals=ArrivalsConfig(per_round=60, max_visits=3),
        platform=PlatformConfig(model="popularity"),
    )


def small_market(
    log: EventLog,
    scenario: ScenarioConfig,
    arrivals: ArrivalProcess | None = None,
    consumer: Consumer | None = None,
    seed: int = 0,
    providers: Provider | None = None,
) -> Market:
    """A market over a log, with a popularity model.

    Args:
        log: The log.
        scenario: The config.
        arrivals: Who arrives; None: as the config says.
        consumer: Who consumes; None: as the config says.
        seed: Of arrivals and choices.
        providers: Who offers the items; None: as the config says.
    """
    arrivals = make_arrivals(scenario) if arrivals is None else arrivals
    consumer = make_consumer(scenario) if consumer is None else consumer
    world = world_of(log, scenario, arrivals, consumer, providers)
    return Market(
        scenario,
        seeds=Seeds.all(seed),
        world=world,
        arrivals=arrivals,
        consumer=consumer,
        providers=providers,
        model=Popularity().fit(world.past),
    )


def serve_round(market: Market, batch_size: int | None = None) -> None:
    """Serve the open round of a market with what is most relevant, in clock order.

    Args:
        market: The market.
        batch_size: Arrivals a batch at most; None: as many as can be.
    """
    number = market.round
    while not market.done and market.round == number:
        arrivals = market.next_arrivals(batch_size)
        market.serve(arrivals, top_k(arrivals.relevance, arrivals.admissible, market.config.slate))


def require_same_in_batches(market: Callable[[], Market]) -> None:
    """Play a market one arrival at a time and in large batches; the same must come, be shown and sold.

    Args:
        market: Makes it; it is served with what is most relevant, in clock order.
    """
    one, many = (_ledgers(market(), batch_size) for batch_size in (1, None))
    for alone, together in zip(one, many, strict=True):
        assert len(alone.schedule) == len(alone.item)
        for column in ("tick", "id", "slot"):
            np.testing.assert_array_equal(getattr(alone.schedule, column), getattr(together.schedule, column))
        np.testing.assert_array_equal(alone.item, together.item)
        np.testing.assert_array_equal(alone.consumed, together.consumed)


def _ledgers(market: Market, batch_size: int | None) -> list[Ledger]:
    while not market.done:
        serve_round(market, batch_size)
    return [closed.ledger for closed in market.closed]
