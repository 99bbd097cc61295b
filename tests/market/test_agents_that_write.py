"""Agents that write into the arrivals they are given: nothing of it reaches the market."""

import numpy as np
import pytest
from kit import refused, same_arrays
from kit.markets import play_out, small_replay, small_scenario

from rimsim.agents import Relevance
from rimsim.config import ExposureConfig
from rimsim.errors import AgentError
from rimsim.market import Market


class Scribbler(Relevance):
    """Shows what relevance does, and then writes into all that it was told, through torch and through NumPy."""

    name = "scribbler"

    def act(self, arrivals):
        """Items of highest intensity, and scribbles."""
        slates = super().act(arrivals)
        arrivals.relevance.mul_(0.5)
        arrivals.ground_intensity.numpy()[:] = 7.0
        arrivals.admissible[:] = True
        return slates


@pytest.mark.parametrize("scenario", [small_scenario, small_replay])
def test_what_an_agent_writes_into_arrivals_stays_with_it(scenario):
    """Ledgers, exposures and γ̂ are those of the agent that shows the same and writes nothing."""
    exposure = ExposureConfig(examination="harvested" if scenario is small_scenario else "known")
    config = scenario(rounds=2, exposure=exposure)
    markets = [play_out(Market(config), agent, 16) for agent in (Relevance(), Scribbler())]
    for closed, other_closed in zip(*(market.closed for market in markets), strict=True):
        assert closed.decay == other_closed.decay
        same_arrays(closed.ledger, other_closed.ledger, "item", "consumed", "intensity", "ground")


def test_an_agent_that_makes_items_admissible_is_refused_all_the_same():
    """Whether an item may be shown is the market's to say, whatever the agent wrote."""
    market = Market(small_scenario(rounds=1))
    arrivals = market.next_arrivals(20)
    row, item = np.argwhere(~arrivals.admissible.numpy())[0]
    arrivals.admissible[:] = True
    slates = arrivals.relevance.topk(5).indices.numpy()
    slates[row, 0] = item
    refused(AgentError, f"inadmissible item {item}", market.serve, arrivals, slates)
