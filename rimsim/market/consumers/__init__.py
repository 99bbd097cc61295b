"""Consumers (choice models), by name or from your own file."""

from __future__ import annotations

from typing import cast

from rimsim.config import DynamicsConfig, ScenarioConfig
from rimsim.errors import ConfigError
from rimsim.market.consumers.choice import Cascade, CascadeOptions, Logit, LogitOptions
from rimsim.market.consumers.contract import (
    NOTHING,
    Consumer,
    ConsumerCapabilities,
    Organic,
    SlateVisits,
    drawn,
    relevant_items,
)
from rimsim.market.consumers.observed import Observed
from rimsim.market.consumers.preference import Intensity
from rimsim.market.consumers.replay import ReplayedLog
from rimsim.market.records import Response
from rimsim.plugs import make_plug

__all__ = [
    "BUILT_IN",
    "NOTHING",
    "Cascade",
    "CascadeOptions",
    "Consumer",
    "Intensity",
    "Logit",
    "LogitOptions",
    "Observed",
    "Organic",
    "Response",
    "SlateVisits",
    "drawn",
    "make_consumer",
    "relevant_items",
]
BUILT_IN = {
    "intensity": Intensity,
    "logit": Logit,
    "cascade": Cascade,
    "observed": Observed,
    "replay": ReplayedLog,
}
"""Name of a built-in consumer → its class."""


def make_consumer(scenario: ScenarioConfig) -> Consumer:
    """Consumer of a scenario.

    Raises:
        ConfigError: If ``consumer.kind`` or one of ``consumer.options`` is unknown or has a wrong value, or if the
            consumer would ignore ``consumer.dynamics`` or ``consumer.own_choice`` of the scenario.
    """
    config = scenario.consumer
    methods = ("respond", "organic", "true_intensity")
    plug = make_plug(config.kind, "consumer.kind", BUILT_IN, methods, dict(config.options), scenario)
    consumer = cast("Consumer", plug)
    capabilities = ConsumerCapabilities.of(consumer)
    if config.hidden.rho != 1 and not capabilities.needs_truth:
        raise ConfigError(
            f"consumer.hidden: consumer.kind {config.kind!r} has no fitted truth. Choose a kind that has "
            "a truth, such as intensity"
        )
    if config.dynamics != DynamicsConfig() and not capabilities.takes_dynamics:
        raise ConfigError(
            f"consumer.dynamics is set, but consumer.kind {config.kind!r} ignores dynamics. Use the kind "
            "intensity, logit or cascade, or leave dynamics out"
        )
    if config.own_choice and not capabilities.takes_own_choice:
        raise ConfigError(
            f"consumer.own_choice is {config.own_choice:g}, but consumer.kind {config.kind!r} has no free choice. "
            "Use the kind intensity, logit or cascade, or set own_choice to 0"
        )
    return consumer
