"""Processes, by name or from your own file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from rimsim.config import ScenarioConfig
from rimsim.market.processes.contract import Process
from rimsim.market.processes.creators import Creators
from rimsim.market.processes.demand import Demand
from rimsim.market.processes.effects import Happening
from rimsim.market.processes.handle import MarketHandle
from rimsim.market.processes.outage import Outage
from rimsim.market.processes.stock import UnitStock
from rimsim.market.processes.training import TrainingTimes
from rimsim.plugs import make_plug, named_options

__all__ = [
    "BUILT_IN",
    "Creators",
    "Demand",
    "Happening",
    "MarketHandle",
    "Outage",
    "Process",
    "TrainingTimes",
    "UnitStock",
    "make_processes",
]
BUILT_IN: dict[str, Callable[..., Any]] = {
    "creators": Creators,
    "demand": Demand,
    "outage": Outage,
    "stock": UnitStock,
    "training": TrainingTimes,
}
"""Name of a built-in process → its class."""


def make_processes(scenario: ScenarioConfig) -> dict[str, Process]:
    """Processes of a scenario, by the text that names each.

    Raises:
        ConfigError: If a name or an option is unknown, or if a class has no method ``run``.
    """
    processes: dict[str, Process] = {}
    for text in scenario.processes:
        name, options = named_options(text, "processes")
        plug = cast("Process", make_plug(name, "processes", BUILT_IN, ("run",), options, scenario))
        number = 2
        key = text
        while key in processes:  # the same process twice
            key = f"{text} {number}"
            number += 1
        processes[key] = plug
    return processes
