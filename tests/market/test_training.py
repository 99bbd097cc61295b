"""Trainings that take time: models that go live within a round, and the process ``training``."""

import dataclasses

import numpy as np
import pytest
from kit import calls_of
from kit.markets import same_ledgers, small_broadcast, small_replay, small_scenario

from rimsim.agents import make_agent, play_round
from rimsim.arrays import TICKS
from rimsim.config import PlatformConfig
from rimsim.intensity.impressions import layer_of
from rimsim.market import Market, platform
from rimsim.market.platform import Platform
from rimsim.market.processes import TrainingTimes
from rimsim.testing.market import serve_round

DAY = 86400.0


def played(config, processes=None, agent="rim-feedback", batch=None, **options):
    """Market with processes by name, played to its end."""
    if processes is not None:
        options["processes"] = processes
    market = Market(config, **options)
    agent = make_agent(agent)
    while not market.done:
        play_round(market, agent, batch)
    return market


def assert_same(left, right):
    """All tables of two markets are equal to the bit."""
    same_ledgers(left, right)
    for first, second in zip(left.closed, right.closed, strict=True):
        np.testing.assert_array_equal(first.required, second.required)
        np.testing.assert_array_equal(first.log_counts, second.log_counts)


def happenings(market):
    """Trainings and models that go live: change, round and time."""
    return [
        (happening.change, happening.round, happening.time)
        for closed in market.closed
        for happening in closed.happenings
    ]


def duration(market, share):
    """Duration of a share of the first round, as a text."""
    schedule = market.schedule
    return f"{(schedule.stop - schedule.start) * share / TICKS / 60:.0f}min"


def platforms():
    """Platforms that learn in different ways."""
    return {
        "consumed": PlatformConfig(model="popularity-hp", learning="consumed"),
        "impressions": PlatformConfig(model="popularity-hp", learning="impressions"),
        "bag": PlatformConfig(model="bag-hp", learning="impressions"),
    }


@pytest.mark.parametrize("platform", ["consumed", "impressions", "bag"])
@pytest.mark.parametrize("scenario", [small_scenario, small_replay, small_broadcast])
def test_without_options_the_tables_are_those_without_the_process(scenario, platform):
    """The process that retrains at each round's end at once equals the platform that does so by itself."""
    config = scenario(platform=platforms()[platform], rounds=3)
    agent = "rim-feedback"
    assert_same(played(config, {"training": TrainingTimes()}, agent), played(config, None, agent))


@pytest.mark.parametrize("agent", ["rim-feedback", "relevance", "epsilon-greedy"])
@pytest.mark.parametrize("scenario", [small_scenario, small_replay])
def test_no_result_depends_on_the_batch(agent, scenario):
    """With models that go live within rounds, batches of 1, 7 and all have the same tables."""
    config = scenario(platform=platforms()["bag"], rounds=2)
    market = Market(config)
    takes = duration(market, 0.2)
    processes = {"training": TrainingTimes(visits=30, takes=takes), "more": TrainingTimes(visits=100)}
    expected = played(config, processes, agent)
    assert {change for change, _, _ in happenings(expected)} == {"train", "live"}
    for batch in (1, 7):
        market = played(config, processes, agent, batch)
        assert_same(market, expected)
        assert happenings(market) == happenings(expected)


def test_a_training_that_never_ends_is_a_frozen_platform():
    """If a training takes longer than the run, all tables are those of a platform that never retrains."""
    config = small_scenario()
    slow = {"training": TrainingTimes(takes="9000d")}
    assert_same(played(config, slow), played(config, retrain=False))
    assert not happenings(played(config, slow, retrain=False))


def test_a_resumed_market_has_the_same_trainings(tmp_path):
    """A market saved while trainings are pending goes on like an uninterrupted market."""
    config = small_scenario(platform=platforms()["bag"], rounds=3)
    market = Market(config)
    processes = {"training": TrainingTimes(visits=50, takes=duration(market, 0.9))}
    expected = played(config, processes)
    first = Market(config, processes=processes)
    while first.round < 2:
        play_round(first, make_agent("rim-feedback"))
    assert first.platform.trainings
    first.state.save(tmp_path)
    resumed = Market(config, processes=processes)
    resumed.load_state(type(first.state).load(tmp_path))
    play_round(resumed, make_agent("rim-feedback"))
    resumed.closed[:0] = first.closed
    assert_same(resumed, expected)
    assert happenings(resumed) == happenings(expected)


def test_visits_while_a_model_is_trained_teach_it_nothing():
    """A training that takes two days has the model of one that takes a second: it learns what was shown before."""
    layers = []

    class Watch:
        """Process that keeps the layer of the first new model."""

        def run(self, env, handle):
            """Wait for the model."""
            yield handle.model_live()
            layers.append(layer_of(market.platform.model)[1])

    for takes in ("1s", "2d"):
        config = small_scenario(platform=platforms()["impressions"], rounds=1)
        market = Market(
            config, processes={"training": TrainingTimes(every="3d", takes=takes), "watch": Watch()}
        )
        while not market.done:
            play_round(market, make_agent("relevance"))
    assert len(layers) == 2
    np.testing.assert_equal(dataclasses.astuple(layers[1]), dataclasses.astuple(layers[0]))


def test_an_interrupted_training_goes_live_when_the_clock_goes_on(monkeypatch):
    """A model whose training is interrupted serves from the same visit as without the interrupt."""
    processes = {"training": TrainingTimes(visits=30, takes="1h")}
    expected, market = (Market(small_scenario(rounds=1), processes=processes) for _ in range(2))
    serve_round(expected)
    calls = calls_of(monkeypatch, Platform, "go_live", interrupted_at=1)
    with pytest.raises(KeyboardInterrupt):
        serve_round(market)
    serve_round(market)
    assert len(calls) > 2
    assert_same(market, expected)
    assert happenings(market) == happenings(expected)


@pytest.mark.parametrize("learning", ["consumed", "impressions"])
def test_a_model_that_goes_live_at_a_rounds_end_knows_what_was_known_at_its_start(learning, monkeypatch):
    """A training two days before the end learns the same events if it takes two days, or a second less or more."""
    config = small_scenario(platform=platforms()[learning], rounds=3)
    stop = Market(config).schedule.stop / TICKS
    logs = []
    update = platform.updated

    def kept(model, log, **options):
        logs.append((log.user.tolist(), log.item.tolist(), log.time.tolist()))
        return update(model, log, **options)

    monkeypatch.setattr(platform, "updated", kept)

    class Late:
        decides_retraining = True

        def __init__(self, takes):
            self.takes = takes

        def run(self, env, market):
            """Start one training, two days before the end of the first round."""
            yield env.timeout(max(stop - 2 * DAY - env.now, 0.0))
            market.retrain(self.takes)

    learnt = []
    for takes in (2 * DAY - 1, 2 * DAY, 2 * DAY + 1):
        logs.clear()
        played(config, {"late": Late(takes)}, "relevance")
        learnt.append(logs[0])
    assert len(learnt[0][0]) > 0
    assert learnt[0] == learnt[1] == learnt[2]
