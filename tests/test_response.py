"""What consumers make of a slate, against the closed form of the response."""

from __future__ import annotations

import numpy as np
import pytest
from small_markets import SMALL

from rimsim.agents import make_agent, play_round
from rimsim.config import ConsumerConfig
from rimsim.market import Market, Needs


@pytest.mark.parametrize(("decay", "attraction"), [(0.4, 1.0), (0.85, 2.5), (1.0, 1.0)])
@pytest.mark.parametrize("kind", ["clones", "broadcast", "cold-start"])
@pytest.mark.parametrize("batch_size", [1, 50])
def test_position_r_is_examined_with_probability_gamma_to_the_r_minus_one(
    kind, decay, attraction, batch_size
):
    """P(consume at position r) = 1 − exp(−λ*(x,y)·γ^(r−1)·a): the first position is always examined."""
    config = SMALL[kind](rounds=1, consumer=ConsumerConfig(position_decay=decay, attraction=attraction))
    market, agent = Market(config, needs=Needs(truth=True)), make_agent("random")
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


def test_an_empty_position_has_no_intensity_and_no_chance():
    """Where a user's cap leaves a position empty, the ledger holds NaN for λ(x,y) and 0 for the probability."""
    market, agent = Market(SMALL["capped"](rounds=1)), make_agent("random")
    play_round(market, agent)
    ledger = market.closed[0].ledger
    empty = ledger.item < 0
    assert empty.any()
    assert np.isnan(ledger.intensity[empty]).all()
    assert (ledger.intensity[~empty] >= 0).all()
    assert (ledger.probability[empty] == 0).all()
    assert not ledger.consumed[empty].any()
