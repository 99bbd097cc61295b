"""A small market around a part that is to be tested."""

# ruff: noqa: S101 - this is for tests, and assert is pytest's language

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.config import ArrivalsConfig, PlatformConfig, ScenarioConfig, Seeds
from rimsim.intensity import Popularity
from rimsim.market import Market
from rimsim.market.arrivals import make_arrivals
from rimsim.market.build import world_of
from rimsim.market.consumers import make_consumer
from rimsim.matching import top_k

if TYPE_CHECKING:
    from collections.abc import Callable

    from rimsim.data.log import EventLog
    from rimsim.market.arrivals import ArrivalProcess
    from rimsim.market.consumers import Consumer
    from rimsim.market.ledger import Ledger
    from rimsim.market.providers import Provider

__all__ = ["require_same_in_batches", "small_market", "small_scenario"]


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


def require_same_in_batches(market: Callable[[], Market]) -> None:
    """Play a market one arrival at a time and in large batches; both must show and sell the same.

    Args:
        market: Makes it; it is served with what is most relevant, in clock order.
    """
    one, many = (_ledgers(market(), batch_size) for batch_size in (1, None))
    for alone, together in zip(one, many, strict=True):
        assert len(alone.schedule) == len(alone.item)
        np.testing.assert_array_equal(alone.item, together.item)
        np.testing.assert_array_equal(alone.consumed, together.consumed)


def _ledgers(market: Market, batch_size: int | None) -> list[Ledger]:
    while not market.done:
        arrivals = market.next_arrivals(batch_size)
        market.serve(arrivals, top_k(arrivals.relevance, arrivals.admissible, market.config.slate))
    return [closed.ledger for closed in market.closed]
