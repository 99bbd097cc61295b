"""What consumers make of a slate, against the closed form of the response."""

from __future__ import annotations

import numpy as np
import pytest
from small_markets import SMALL

from rimsim.agents import make_agent
from rimsim.config import ConsumerConfig
from rimsim.market import Market


@pytest.mark.parametrize(("decay", "attraction"), [(0.4, 1.0), (0.85, 2.5), (1.0, 1.0)])
@pytest.mark.parametrize("kind", ["clones", "broadcast", "cold-start"])
@pytest.mark.parametrize("batch_size", [1, 50])
def test_position_r_is_examined_with_probability_gamma_to_the_r_minus_one(
    kind, decay, attraction, batch_size
):
    """P(consume at position r) = 1 − exp(−λ*(x,y)·γ^(r−1)·a): the first position is always examined."""
    config = SMALL[kind](rounds=1, consumer=ConsumerConfig(position_decay=decay, attraction=attraction))
    market, agent = Market(config, reveal_truth=True), make_agent("random")
    agent.begin_round(market.round_view())
    seen = 0
    while not market.done and seen < 100:
        arrivals = market.next_arrivals(batch_size)
        items = agent.act(arrivals).items
        feedback = market.serve(arrivals, items)
        intensity = np.take_along_axis(arrivals.true_intensity.numpy(), np.maximum(items, 0), 1) * (
            items >= 0
        )
        examination = np.array([decay**position for position in range(items.shape[1])])
        probability = market.ledger.probability[arrivals.index]
        assert probability == pytest.approx(1 - np.exp(-intensity * examination * attraction), rel=1e-5)
        seen += len(feedback.slates)
