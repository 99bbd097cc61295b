"""Arms of a payback map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rimsim import agents as players
from rimsim.agents import make_agent
from rimsim.config import ScenarioConfig, Seeds
from rimsim.market.world import own_places
from rimsim.measures import shortfall
from rimsim.user_code import own_code

AGENT = "rim-feedback"
"""Agent of the map. Without a guarantee its prices are 0, so that it ranks by relevance."""
CEILING = "informed"
"""Agent that knows the true item effects; in tables also the name of its arms."""
COLUMNS = ("learner", "beta", "world", "round", "metric", "value")


@dataclass(frozen=True)
class MapArm:
    """Agent in a world, with a learner and a guarantee."""

    config: ScenarioConfig
    """Scenario of the world, with the learner and the guarantee."""
    agent: str
    learner: str
    """Name of the learner, or :data:`CEILING`."""
    world: int
    """Number of the world: the seed of its hidden quality and of its market."""

    @property
    def beta(self) -> float:
        """Guaranteed share of the uniform exposure."""
        return self.config.exposure.beta

    def __str__(self) -> str:
        return f"{self.learner}, β = {self.beta:g}, world {self.world}"


def play_arm(arm: MapArm, report: Callable[[int], None]) -> dict[str, pd.DataFrame]:
    """Table of an arm: its metrics by round."""
    rows: list[tuple[str, float, int, int, str, float]] = []
    with own_code(own_places(arm.config)):
        agent = make_agent(arm.agent)
        market = players.market_for(agent, arm.config, seeds=Seeds.all(arm.world))
        is_shown = np.zeros(market.n_items, bool)
        for closed in players.closed_rounds(market, agent, report):
            is_shown |= closed.ledger.exposure(market.n_items) > 0
            metrics = {
                "utility": float(closed.ledger.probability.sum(1).mean()),
                "never_shown": float(1 - is_shown.mean()),
            }
            if arm.beta > 0:
                metrics["undelivered"] = shortfall(closed.exposure, closed.required)
            rows += [
                (arm.learner, arm.beta, arm.world, closed.number, metric, value)
                for metric, value in metrics.items()
            ]
    return {"payback": pd.DataFrame(rows, columns=list(COLUMNS))}
