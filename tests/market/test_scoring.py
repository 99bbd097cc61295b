"""Scores of visits by the platform's model: what is refused, computed ahead, and shared by episodes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kit import calls_of, refused, same_arrays
from kit.markets import small_replay, small_scenario

from rimsim import config as records
from rimsim.arrays import ALWAYS
from rimsim.errors import ModelError
from rimsim.intensity.contract import BLOCK
from rimsim.market import Market
from rimsim.market import market as market_module
from rimsim.market.records import VISIT_BITS
from rimsim.market.scores.scorer import Scorer, _normalised
from rimsim.matching import top_k
from rimsim.requirements.on_offer import TimesOnOffer


@pytest.mark.parametrize("wrong", [-0.1, np.nan, np.inf])
def test_a_model_that_says_no_intensity_is_told_with_the_arrival(wrong):
    """A number that is negative, infinite or none is an error, but not in the padding of a block."""
    ids = np.arange(70, 75)
    ticks = np.arange(5)
    times = TimesOnOffer.endless(np.full(6, ALWAYS))

    def normalised():
        return _normalised(intensity, lambda *_: None, ids, ticks, times, SimpleNamespace())

    intensity = torch.rand(BLOCK, 6, generator=torch.Generator().manual_seed(0))
    p, rate, _ = normalised().tensors
    torch.testing.assert_close(rate, intensity.sum(1))
    torch.testing.assert_close(p * rate[:, None], intensity)
    intensity[7, 0] = wrong
    normalised()
    intensity[3, 4] = wrong
    refused(ModelError, "in the state of arrival 73. Expected finite", normalised)


@pytest.mark.parametrize("limit", [1, 20])
def test_visits_are_scored_ahead_once_while_nothing_happens(limit, monkeypatch):
    """Whole blocks of users' next visits come first, then their later ones, until something is consumed."""
    config = small_scenario(rounds=1, arrivals=records.ArrivalsConfig(per_round=400, max_visits=3))
    market = Market(config)
    calls = calls_of(monkeypatch, Scorer, "score")
    platform_scorer = market.open._scores._scorer  # of the platform; that of the truth scores too
    while not market.done:
        arrivals = market.next_arrivals(limit)
        market.serve(arrivals, np.full((len(arrivals), config.slate), -1))
    scored = [call["ids"] for call in calls if call["self"] is platform_scorer]
    assert [len(ids) for ids in scored] == [BLOCK, BLOCK, BLOCK, 400 - 3 * BLOCK]
    assert len(np.unique(np.concatenate(scored))) == 400
    assert (scored[0] % 2**VISIT_BITS == 0).all()


def test_episodes_of_a_replay_share_their_scores(monkeypatch):
    """Each arrival is scored once for all markets with equal arrivals and models, and the results are the same."""
    monkeypatch.setattr("rimsim.market.scores.arrivals._AHEAD", 1)
    blocks = calls_of(monkeypatch, Scorer, "score")
    medians = calls_of(monkeypatch, market_module, "median_kth_score")
    arrivals = records.ArrivalsConfig(kind="replay", warmup_share=0.8)
    config = small_replay(arrivals=arrivals, rounds=1)

    def served(market, n_served):
        while not market.done and market.served < n_served:
            now = market.next_arrivals(20)
            market.serve(now, top_k(now.relevance, now.admissible, config.slate))
        return market

    half = served(Market(config), BLOCK + 20)  # ends in the second of three blocks
    assert sum(len(block["ids"]) for block in blocks) == 2 * BLOCK
    uninterrupted = served(Market(config, seeds=records.Seeds(arrivals=1, choice=1)), BLOCK * 99)
    assert len(uninterrupted.closed[0].schedule) > 2 * BLOCK
    assert sorted(np.concatenate([block["ids"] for block in blocks])) == sorted(
        uninterrupted.closed[0].schedule.id
    )
    assert len(medians) == 1
    served(half, BLOCK * 99)
    unshared = served(Market(config, model=Market(config).model), BLOCK * 99)  # a given model shares nothing
    assert len(medians) == 2
    for market in (half, uninterrupted):
        same_arrays(
            market.closed[0].ledger, unshared.closed[0].ledger, "item", "intensity", "ground", "consumed"
        )
    assert half.cost == uninterrupted.cost == unshared.cost
