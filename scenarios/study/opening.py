"""What a platform's model is worth at the opening, beside bestsellers and the best slates."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.agents import make_agent
from rimsim.config import Seeds
from rimsim.market import Market, Needs
from rimsim.market.consumers.contract import true_intensity_of
from rimsim.market.records import within_capacity

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig


AT_OPENING = ("relevance", "popularity", "oracle")
"""Agents whose slates are valued: the model's best items, bestsellers, the truly best items."""


def opening_utilities(config: ScenarioConfig, seed: int) -> pd.DataFrame:
    """The utility of round 0 for its visitors as they are at the opening, before anybody was shown anything.

    Utility is the expected number of consumptions of a slate, as the consumer says it; what a visitor consumes in an
    earlier visit of the round does not count here.

    Args:
        config: The scenario.
        seed: Seed of the arms that are to be compared.

    Returns:
        Columns agent, seed, utility: a row for each of :data:`AT_OPENING`.
    """
    market = Market(config, seeds=Seeds.all(seed), needs=Needs(future=True))
    view = market.round_view()
    agents = [make_agent(name) for name in AT_OPENING]
    for agent in agents:
        agent.begin_round(view)
    total, visits_valued = np.zeros(len(agents)), 0
    assert view.audience is not None  # noqa: S101  # reveal_future
    for states in view.audience:
        visits = market.open.visits(states.index)
        true = true_intensity_of(market.consumer, visits, market.n_items).to(market.device)
        revealed = dataclasses.replace(states, true_intensity=true)
        for number, agent in enumerate(agents):
            slates = within_capacity(np.asarray(agent.act(revealed)), states.capacity)
            total[number] += market.open.respond(visits, slates).probability.sum()
        visits_valued += len(states)
    return pd.DataFrame(
        {"agent": AT_OPENING, "seed": np.int64(seed), "utility": total / max(visits_valued, 1)}
    )
