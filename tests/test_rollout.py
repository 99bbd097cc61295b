"""What an episode of an agent in the environment comes to."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from small_markets import SMALL, small_broadcast
from test_envs import settings_of

from rimsim.agents import make_agent, market_for, play_round, rollout
from rimsim.config import ArrivalsConfig
from rimsim.intensity.contract import BLOCK
from rimsim.measures import weighted_exposure


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_an_episode_counts_its_arrivals_and_its_rewards(kind):
    """Steps are the arrivals of all rounds, the reward is consumptions + c·Σ_y min(E_y, b_y), in the unit of b."""
    made = gymnasium.make("RIMMarket-v0", settings=settings_of(SMALL[kind]())).unwrapped
    episode = rollout(made, make_agent("popularity"), seed=2)
    closed = made.market.closed
    assert episode.steps == sum(len(past.ledger.item) for past in closed)
    expected = 0.0
    for past in closed:
        exposure = weighted_exposure(past.ledger.item, past.position_weights, len(past.required))
        met = np.minimum(exposure, past.required).sum()
        expected += past.ledger.consumed.sum() + past.cost * met
    assert episode.reward == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("asked", "most"), [(7, 7), (None, BLOCK)])
def test_batches_hold_no_more_arrivals_than_asked_for(asked, most):
    """So many at once, or as many as are scored together; a round of many who could all be served at once has both."""
    config = small_broadcast(rounds=1, arrivals=ArrivalsConfig(kind="broadcast", per_round=150))
    agent, sizes = make_agent("relevance"), []
    play_round(market_for(agent, config), agent, asked, report=sizes.append)
    assert sum(sizes) == 150
    assert max(sizes) == most
