"""Markets whose platform estimates γ from its own log."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from small_markets import play_out, small_replay, small_scenario

from rimsim.agents import make_agent, market_for, play_round
from rimsim.arrays import ticks
from rimsim.config import ConsumerConfig, ExposureConfig
from rimsim.config.fields import duration_seconds
from rimsim.errors import AgentError, ConfigError
from rimsim.evaluation import DecayEstimate, decay_of_counts, decay_of_slates, taken_by_position
from rimsim.intensity.impressions import layer_of
from rimsim.market import Slates
from rimsim.market.learning import layer_from, positions_of
from rimsim.market.records import as_slates
from rimsim.market.state import MarketState
from rimsim.measures import position_weights
from rimsim.scenarios import compare
from rimsim.scenarios.report.sentences import examination_note


def unknowing(examination, prior=0.6, **changes):
    """A small market whose platform is not told γ."""
    exposure = ExposureConfig(examination=examination, prior_decay=prior)
    return small_scenario(**({"exposure": exposure, "consumer": ConsumerConfig(attraction=4.0)} | changes))


def begun(config, name):
    """A market and its agent."""
    agent = make_agent(name)
    return market_for(agent, config), agent


def of_ledger(ledger, rows=slice(None)):
    """The harvested estimate of one round."""
    return decay_of_slates(ledger.item[rows], ledger.consumed[rows], ledger.intensity[rows])


def test_harvested_estimates_are_those_of_the_ledgers_pooled_over_rounds():
    """After each round γ is the mean by precision of what each ledger so far gives."""
    market, agent = begun(unknowing("harvested"), "relevance")
    assert market.platform.decay == 0.6
    play_out(market, agent)
    estimates = [of_ledger(closed.ledger) for closed in market.closed]
    for number, closed in enumerate(market.closed, 1):
        expected = DecayEstimate.pooled(estimates[:number])
        assert closed.decay.log_decay == pytest.approx(expected.log_decay, rel=1e-12)
        assert closed.decay.error == pytest.approx(expected.error, rel=1e-12)


def test_the_unit_of_the_guarantee_follows_the_estimate():
    """Positions weigh by the prior guess in round 0 and then by the last estimate, for agents and measures alike."""
    exposure = ExposureConfig(unit="examined", examination="harvested", prior_decay=0.6)
    market, agent = begun(unknowing("harvested", exposure=exposure), "rim-feedback")
    decays = [0.6]
    while not market.done:
        weights = market.round_view().position_weights
        assert weights.tolist() == position_weights(decays[-1], 5).tolist()
        play_round(market, agent)
        assert market.closed[-1].position_weights.tolist() == weights.tolist()
        decays.append(market.closed[-1].decay.decay)
    assert len(set(decays)) == 4


def test_only_uniform_slates_are_counted_where_gamma_comes_from_them():
    """With epsilon-greedy the estimate is that of its uniform slates, added up over rounds."""
    market, agent = begun(unknowing("random"), "epsilon-greedy(epsilon=0.4)")
    counts, seen = 0, 0
    play_out(market, agent)
    for closed in market.closed:
        ledger = closed.ledger
        counts = counts + taken_by_position(ledger.item[ledger.uniform], ledger.consumed[ledger.uniform])
        seen += ledger.uniform.sum()
        assert closed.decay == decay_of_counts(counts)
    assert 0.3 * 360 < seen < 0.5 * 360


def test_an_agent_without_uniform_slates_is_refused_where_they_are_needed():
    """The first slates of such an agent raise an error that names agents which have some."""
    market, agent = begun(unknowing("random"), "relevance")
    with pytest.raises(ConfigError, match=r"examination is 'random'.*random, epsilon-greedy"):
        play_round(market, agent)


def test_the_layer_over_impressions_weighs_positions_by_what_the_platform_takes_for_gamma():
    """With an estimate the layer is fitted at the estimate, not at the γ of the consumers."""
    platform = dataclasses.replace(small_scenario().platform, learning="impressions")
    market, agent = begun(unknowing("harvested", platform=platform), "relevance")
    play_round(market, agent)
    found = market.closed[0].decay.decay
    past = market.platform.rounds[-1]
    expected = layer_from(
        [past.shown], past.schedule.stop, positions_of(market.config, market.consumer, found), market.n_items
    )
    layer = layer_of(market.model)[1]
    assert (layer.level, layer.slope) == (expected.level, expected.slope)
    assert found != market.config.consumer.position_decay


def test_what_is_not_known_yet_tells_nothing():
    """Slates whose outcome the platform does not know at the round's end are left out; with a year's delay all are."""
    delayed = ConsumerConfig(attraction=4.0, delay="3d")
    market, agent = begun(unknowing("harvested", consumer=delayed), "relevance")
    play_round(market, agent)
    closed = market.closed[0]
    schedule = closed.ledger.schedule
    known = schedule.tick + ticks(duration_seconds("3d")) + 1 < schedule.stop
    assert 0 < known.sum() < len(known)
    assert closed.decay == of_ledger(closed.ledger, known)
    late = dataclasses.replace(delayed, delay="365d")
    market, agent = begun(unknowing("harvested", consumer=late), "relevance")
    play_round(market, agent)
    assert market.closed[0].decay is None
    assert market.platform.decay == 0.6


@pytest.mark.parametrize(
    ("examination", "name"), [("harvested", "relevance"), ("random", "epsilon-greedy(epsilon=0.5)")]
)
def test_a_market_goes_on_from_its_state_with_the_same_estimates(tmp_path, examination, name):
    """Saved and loaded after any round, and in batches of any size, estimates and slates are the same to the bit."""
    config = unknowing(examination)
    market, agent = begun(config, name)
    play_out(market, agent, 7)
    for stop in (1, 2):
        first, agent = begun(config, name)
        for _ in range(stop):
            play_round(first, agent)
        first.state.save(tmp_path / str(stop))
        second, agent = begun(config, name)
        second.load_state(MarketState.load(tmp_path / str(stop)))
        play_out(second, agent)
        for one, other in zip(market.closed[stop:], second.closed, strict=True):
            assert one.decay == other.decay
            np.testing.assert_array_equal(one.ledger.item, other.ledger.item)


def test_nothing_is_estimated_where_positions_do_not_matter():
    """In a replay hits are counted wherever they stand, and there is nothing to estimate."""
    exposure = ExposureConfig(examination="harvested")
    market, agent = begun(small_replay(exposure=exposure), "relevance")
    play_round(market, agent)
    assert market.closed[0].decay is None


def test_a_flag_a_slate_is_asked_for():
    """Flags of uniform slates of another number than the slates are refused."""
    with pytest.raises(AgentError, match="uniform has shape"):
        as_slates(Slates(np.zeros((2, 3), np.int64), uniform=np.ones(3, bool)))


def test_a_run_says_how_gamma_was_found_and_what_it_came_to(tmp_path):
    """The report names the way, the first guess, each estimate and the truth; a run that is told γ says nothing."""
    config = unknowing("harvested")
    run = compare(config, ["relevance"], seeds=1, frozen=[], certify=False, out=tmp_path / "run", workers=1)
    last = run.rounds[run.rounds["round"] == 2].set_index("metric")["value"]
    said = examination_note(run)
    assert "is 0.6 in round 0" in said
    assert "exposure.examination: harvested" in said
    assert f"relevance {last['estimated_decay']:.3f} ± {last['decay_error']:.3f}; the truth is 0.85" in said
    told = compare(
        small_scenario(rounds=1),
        ["relevance"],
        seeds=1,
        frozen=[],
        certify=False,
        out=tmp_path / "t",
        workers=1,
    )
    assert examination_note(told) is None
    assert "estimated_decay" not in set(told.rounds["metric"])
