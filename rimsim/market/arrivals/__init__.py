"""Arrival processes, by name or from your own file."""

from __future__ import annotations

from typing import cast

from rimsim.config import ScenarioConfig
from rimsim.market.arrivals.broadcast import Broadcast
from rimsim.market.arrivals.clones import Clones, clones_at, opening_after
from rimsim.market.arrivals.contract import ArrivalProcess, Opening, RoundsSoFar, checked_schedule
from rimsim.market.arrivals.hawkes import HawkesArrivals, HawkesOptions
from rimsim.market.arrivals.replay import Replay
from rimsim.market.records import Schedule
from rimsim.plugs import make_plug

__all__ = [
    "BUILT_IN",
    "ArrivalProcess",
    "HawkesArrivals",
    "HawkesOptions",
    "Opening",
    "RoundsSoFar",
    "Schedule",
    "checked_schedule",
    "clones_at",
    "make_arrivals",
    "opening_after",
]
BUILT_IN = {"replay": Replay, "clones": Clones, "broadcast": Broadcast, "hawkes": HawkesArrivals}
"""Name of a built-in arrival process → its class."""


def make_arrivals(scenario: ScenarioConfig) -> ArrivalProcess:
    """Arrival process of a scenario.

    Raises:
        ConfigError: If ``arrivals.kind`` or one of ``arrivals.options`` is unknown, or has a wrong value.
    """
    config = scenario.arrivals
    needed_names = ("opening", "round", "known_beforehand", "keeps_users")
    plug = make_plug(config.kind, "arrivals.kind", BUILT_IN, needed_names, dict(config.options), scenario)
    return cast("ArrivalProcess", plug)
