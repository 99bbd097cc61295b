"""Weights of events by inverse propensities, and the models that take them."""

import dataclasses

import numpy as np
import pytest
import torch
from kit import cases, refused
from kit import markets as small

from rimsim.agents import make_agent, play_round
from rimsim.config import ConsumerConfig, LogWindow, PlatformConfig
from rimsim.errors import ConfigError
from rimsim.intensity import UserStates
from rimsim.intensity.cache import log_digest
from rimsim.intensity.contract import ModelCapabilities
from rimsim.intensity.registry import make, shipped
from rimsim.market import Market
from rimsim.market.training_log import inverse_propensity_weights, training_log
from rimsim.market.world import check_plugs
from rimsim.testing import random_log

IPS = PlatformConfig(model="popularity-hp", learning="ips", log_window=LogWindow(warmup="none"))
SMALL_NETWORK = {"width": 8, "context": 32, "burn": 4, "update_steps_back": 4, "epochs": 2, "patience": 0}


@cases(
    "propensity max_weight expected",
    ([0.5, 0.25, np.nan, 0.1], 100.0, [3 / 8, 3 / 4, 1.0, 15 / 8]),
    ([1, 1, 0.1], 1.5, [3 / 8, 3 / 8, 9 / 4]),
)
def test_weights_by_hand(propensity, max_weight, expected):
    """Inverse propensities over their mean, 1 where there is none; a large one is clipped and the mean stays one."""
    assert inverse_propensity_weights(np.array(propensity), max_weight) == pytest.approx(expected)


@pytest.mark.parametrize("fold", [None, 0, 1])
def test_the_log_weighs_what_an_agent_drew(fold):
    """Weights of the training log are those of the ledger's propensities, event by event."""
    config = small.small_scenario(platform=IPS, consumer=ConsumerConfig(attraction=4.0), rounds=3)
    market = Market(config)
    agent = make_agent("epsilon-greedy")
    for _ in range(2):
        play_round(market, agent)
    last = market.platform.rounds[-1].schedule
    log = training_log(IPS, market.world.past, market.platform.rounds, last.stop, 0, without_fold=fold)
    table = small.ledgers(market)
    taken = table[table["consumed"]].assign(at=lambda t: np.rint(t["time"] * 1e3).astype(np.int64))
    propensity_of = dict(zip(zip(taken["item"], taken["at"], strict=True), taken["propensity"], strict=True))
    goal = log.targets
    keys = zip(log.item[goal].tolist(), np.rint(log.time[goal] * 1e3).astype(int).tolist(), strict=True)
    propensity = np.array([propensity_of[key] for key in keys], np.float64)
    assert len(np.unique(propensity)) > 3
    assert log.weight[goal] == pytest.approx(inverse_propensity_weights(propensity, 10.0), rel=1e-6)
    assert log.weight[goal].mean() == pytest.approx(1.0)
    assert (log.weight[~goal] == 1.0).all()
    platform = dataclasses.replace(IPS, log_window=LogWindow(warmup="all"))
    past = market.world.past
    with_warmup = training_log(platform, past, market.platform.rounds, last.stop, 0, without_fold=fold)
    assert sorted(with_warmup.weight) == sorted([*log.weight, *np.ones(len(past))])


@cases(
    "config agent",
    (small.small_scenario(platform=IPS), "relevance"),
    (small.small_replay(platform=IPS), "random"),
)
def test_without_propensities_nothing_changes(config, agent):
    """A deterministic agent, or consumption that no showing causes, leaves the ledger of ``consumed``."""
    usual = dataclasses.replace(config, platform=dataclasses.replace(IPS, learning="consumed"))
    small.same_ledgers(small.played(config, agent), small.played(usual, agent))


def test_a_log_keeps_its_weights_and_popularity_counts_them():
    """Reduced too; a log with others is another log; an item's share is its events' weight."""
    log = random_log()
    weight = np.random.default_rng(0).random(len(log)) + 0.5
    weighted = dataclasses.replace(log, weight=weight)
    assert np.array_equal(weighted.rows(slice(3, 9)).weight, weight[3:9])
    assert log.rows(slice(3, 9)).weight is None
    assert log.weights.tolist() == [1.0] * len(log)
    reweighted = dataclasses.replace(log, weight=weight + 1)
    assert len({log_digest(variant) for variant in (log, weighted, reweighted)}) == 3
    model = make("popularity").fit(weighted)
    mass = np.array([weight[log.item == y].sum() for y in range(log.n_items)]) + 0.01
    assert model.probability.cpu().numpy() == pytest.approx(mass / mass.sum(), rel=1e-5)


ABLE = sorted(name for name, kind in shipped().items() if ModelCapabilities.of(kind).takes_weights)


def _small_model(name):
    """A small model of a name; networks are made small, other models stay as they are."""
    model = make(name, seed=0, device="cpu")
    fields = {field.name for field in dataclasses.fields(model.config)}
    changed = {key: value for key, value in SMALL_NETWORK.items() if key in fields}
    return type(model)(dataclasses.replace(model.config, **changed))


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize("method", ["fit", "update"])
def test_models_that_say_so_honour_weights(name, method):
    """Where events of even items count twentyfold, even items are foreseen more than where the odd ones do."""
    log = random_log(n_users=80)
    even = log.item % 2 == 0
    states = UserStates.of(log, np.arange(40), np.full(40, log.time[-1] + 60.0))
    mass = []
    for heavy in (even, ~even):
        weight = np.where(heavy, 20.0, 1.0)
        weighted = dataclasses.replace(log, weight=weight / weight.mean())
        model = _small_model(name)
        model = model.fit(weighted) if method == "fit" else model.fit(log).update(weighted)
        scores = model.score(states).double()
        mass.append(float((scores[:, ::2].sum(1) / scores.sum(1)).mean()))
    assert mass[0] > mass[1] + 0.01


@pytest.mark.parametrize("name", ["gru", "transformer"])
@pytest.mark.parametrize("ahead", [1, 3])
def test_equal_weights_change_no_more_than_rounding(name, ahead):
    """A network under weights of 1 learns what it learns without."""
    log = random_log()
    states = UserStates.of(log, np.arange(20), np.full(20, log.time[-1] + 60.0))
    scores = []
    for weight in (None, np.ones(len(log))):
        model = _small_model(name)
        model = type(model)(dataclasses.replace(model.config, ahead=ahead))
        scores.append(model.fit(dataclasses.replace(log, weight=weight)).score(states))
    torch.testing.assert_close(*scores, rtol=2e-2, atol=1e-4)


def test_what_does_not_go_with_weights_is_refused():
    """A model is named with those that take weights, before anything is read; a ground intensity counts events."""
    config = small.small_scenario(platform=PlatformConfig(model="als-hp", learning="ips"))
    refused(
        ConfigError,
        "'als-hp' .*bag, bag-habits, ease, ease-habits, factors, factors-habits, gru, own",
        check_plugs,
        config,
    )
    refused(ConfigError, "MatrixFactorization", Market, small.small_scenario(platform=IPS), model=make("als"))
    message = "cannot use weights"
    refused(ConfigError, message, PlatformConfig, learning="ips", retrain_ground=True)
