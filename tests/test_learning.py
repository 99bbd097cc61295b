"""What the platform learns: impressions and events against the ledger, weights by hand, models that honour them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from kit import cases, refused
from small_markets import (
    SMALL,
    ledgers,
    play_out,
    played,
    resumed,
    same_ledgers,
    small_replay,
    small_scenario,
)

from rimsim.agents import make_agent, play_round
from rimsim.arrays import ticks
from rimsim.config import ArrivalsConfig, ConsumerConfig, LogWindow, PlatformConfig
from rimsim.config.fields import duration_seconds
from rimsim.errors import ConfigError
from rimsim.intensity import Calibrated, Popularity, UserStates
from rimsim.intensity.cache import log_digest
from rimsim.intensity.contract import ModelCapabilities
from rimsim.intensity.impressions import KNOTS, Impressions, layer_of, layer_of_fits
from rimsim.intensity.registry import make, shipped
from rimsim.market import Market, build_world
from rimsim.market import platform as platform_module
from rimsim.market.platform import cross_fitted, inverse_propensity_weights, training_log
from rimsim.market.scores import always
from rimsim.market.world import check_plugs, examination_of
from rimsim.testing import random_log

LEARNER = PlatformConfig(model="als-hp", learning="impressions")


def _small(kind, **changes):
    """Two rounds of a small market whose platform learns from impressions; consumers take more than in others."""
    config = SMALL[kind](**({"platform": LEARNER, "rounds": 2} | changes))
    consumer = dataclasses.replace(config.consumer, attraction=3.0)
    return dataclasses.replace(config, consumer=consumer)


def _scores(market, models):
    """(n, k) what models say of what the last closed round showed."""
    ledger = market.closed[-1].ledger
    score = np.full(ledger.item.shape, np.nan)
    for chunk in market.closed[-1].states.scored_by(models):
        items = ledger.item[chunk.row]
        found = np.take_along_axis(chunk.intensity.numpy(), np.maximum(items, 0), 1)
        score[chunk.row] = np.where(items >= 0, found, np.nan)
    return score


@pytest.mark.parametrize("calibration", ["cross-fitted", "seen"])
def test_the_layer_is_fitted_to_the_ledgers(calibration):
    """Each round's layers equal fits on the saved tables, with scores of the models that score past states."""
    platform = dataclasses.replace(LEARNER, calibration=calibration)
    market, agent = Market(_small("clones", platform=platform, rounds=4)), make_agent("relevance")
    fits = market.platform.fits
    for _ in range(3):
        play_round(market, agent)
        models, closed = always(market.model.model), market.closed[-1]
        if calibration == "cross-fitted":
            own = market.platform
            models = cross_fitted(platform, market.world.past, own.rounds, own._before, 0)
        table, scored = closed.ledger.table("a", 0, closed.number), _scores(market, models)
        lengths = np.zeros(len(closed.ledger.item), np.int64)
        for arrival in range(len(lengths)):
            slot, tick = closed.ledger.schedule.slot[[arrival]], closed.ledger.schedule.tick[[arrival]]
            histories = market.platform.rounds[-1].histories
            lengths[arrival] = histories.states(slot, histories.visible_at(slot, tick), tick).lengths[0]
        filled = closed.ledger.item >= 0
        seen, lengths = 3.0 * 0.85 ** (table["position"].to_numpy() - 1), np.repeat(lengths, filled.sum(1))
        item, taken = table["item"].to_numpy(np.int64), table["consumed"].to_numpy()
        shown = Impressions(item, scored[filled], seen, taken, lengths)
        fits = tuple(fit.after(shown) for fit in fits)
        expected, found = layer_of_fits(fits), layer_of_fits(market.platform.fits)
        assert market.model.layer.slope == pytest.approx(expected.slope, rel=1e-3)
        one, other = (each.level[:, None] + each.item for each in (found, expected))
        assert one == pytest.approx(other, abs=1e-3)


@pytest.mark.parametrize("kind", ["clones", "cold-start", "replay"])
def test_what_is_logged_is_the_layer_over_the_inner_models_scores(kind):
    """In a later round the ledger's λ'(x,y) is the formula, and λ'(x) is its sum over what is admissible."""
    config = _small(kind, rounds=2)
    market, agent = Market(config), make_agent("relevance")
    play_round(market, agent)
    model = market.model
    play_round(market, agent)
    closed, layer = market.closed[1], model.layer
    schedule, histories = closed.ledger.schedule, market.platform.rounds[-1].histories
    counts = histories.visible_at(schedule.slot, schedule.tick)
    place = np.log1p(histories.states(schedule.slot, counts, schedule.tick).lengths)
    level, slope = (np.interp(place, KNOTS, part)[:, None] for part in (layer.level, layer.slope))
    for chunk in closed.states.scored_by(always(model.model)):
        inner = chunk.intensity.double().numpy()
        some = chunk.row
        laid = np.exp(level[some] + slope[some] * np.log(np.maximum(inner, 1e-9)) + layer.item)
        laid[~chunk.admissible.numpy()] = 0.0
        items = closed.ledger.item[chunk.row]
        shown = np.where(items >= 0, np.take_along_axis(laid, np.maximum(items, 0), 1), np.nan)
        np.testing.assert_allclose(closed.ledger.intensity[chunk.row], shown, rtol=2e-4)
        np.testing.assert_allclose(closed.ledger.ground[chunk.row], laid.sum(1), rtol=2e-4)


def test_prices_and_serving_share_a_layer():
    """Both fold models that score past states lie under the layer of the model that serves."""
    market = Market(_small("clones"))
    play_round(market, make_agent("relevance"))
    folds = market.round_view().past.models()
    assert len(folds) == 2
    assert all(fold.layer is market.model.layer for fold in folds)
    assert folds[0].model is not folds[1].model


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_batches_and_a_resume_change_nothing(kind, tmp_path):
    """Batches of 1, and a market that goes on from its saved state, leave the same ledger to the last bit."""
    config, name = _small(kind, rounds=3), "rim-feedback"
    whole = played(config, name, 1000)
    same_ledgers(played(config, name, 1), whole)
    same_ledgers(resumed(config, name, tmp_path / "state", 2), whole)


def test_impressions_change_nothing_before_there_are_any():
    """Round 0 is that of a platform that learns from consumptions, and a frozen platform stays as it is."""
    changes = {}, {"learning": "consumed"}, {"retrain": False}
    platforms = (dataclasses.replace(LEARNER, **change) for change in changes)
    learns, usual, frozen = (dataclasses.replace(_small("clones"), platform=one) for one in platforms)
    one, other = ledgers(played(learns)), ledgers(played(usual))
    first = one["round"] == 0
    pd.testing.assert_frame_equal(one[first], other[first], check_exact=True)
    assert not one[~first]["intensity"].equals(other[~first]["intensity"])
    assert not isinstance(played(frozen).model, Calibrated)


def test_positions_count_as_consumers_look_at_them_and_hits_when_sessions_end():
    """a·γ^(r−1), or 1 where hits are counted; in a replay a hit is known at its session's end, or the horizon's."""
    drawn = small_scenario(consumer=ConsumerConfig(position_decay=0.5, attraction=2.0))
    assert examination_of(drawn, Market(drawn).consumer, 0.5).tolist() == [2.0, 1.0, 0.5, 0.25, 0.125]
    counted = small_replay()
    assert examination_of(counted, Market(counted).consumer, 0.5).tolist() == [1.0] * 5
    market = Market(small_replay())
    sessions, own = market.world.sessions, market.schedule.session
    assert np.array_equal(market.open.settled(), ticks(sessions.stop[own]) + 1)
    long = Market(small_replay(consumer=ConsumerConfig(kind="replay", horizon="30d")))
    start = sessions.start[own]
    assert np.array_equal(long.open.settled(), ticks(start + 30 * 86_400.0) + 1)


@pytest.mark.parametrize("delay", ["365d", "3d"])
def test_the_layer_learns_only_what_the_platform_knows(delay, monkeypatch):
    """Each slate is learnt once, in the round by whose end its outcome is known: with a year's delay not at all."""
    learnt, made = [], platform_module.impressions_of
    monkeypatch.setattr(
        platform_module, "impressions_of", lambda shown, *rest: learnt.append(shown) or made(shown, *rest)
    )
    platform = PlatformConfig(model="popularity-hp", learning="impressions")
    config = small_scenario(consumer=ConsumerConfig(delay=delay), platform=platform, rounds=4)
    market, settled = play_out(Market(config), make_agent("relevance")), []
    stops = [closed.schedule.stop for closed in market.closed][:-1]
    for closed in market.closed[:-1]:
        late = closed.schedule.tick + ticks(duration_seconds(delay)) + 1
        settled.append(late)
    for stop, before, shown in zip(stops, [0, *stops], learnt, strict=False):
        due = np.concatenate([late for late, end in zip(settled, stops, strict=True) if end <= stop])
        assert sorted(shown.settled) == sorted(due[(due >= before) & (due < stop)])
    layer = layer_of(market.model)[1]
    assert (layer.slope.tolist() == [1.0] * len(KNOTS)) == (delay == "365d")
    assert any(len(shown.settled) for shown in learnt) == (delay == "3d")


WEEK, DAY = 7 * 86_400, 86_400


class Recorder(Popularity):
    """A popularity that keeps every log it is retrained on, for all copies of itself."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def __deepcopy__(self, memo):
        return self

    def update(self, log):
        """Keep the log too."""
        self.logs.append(log)
        return super().update(log)


def _retrained(config, recorder, name="random"):
    """The played market, its ledgers and the (item, time in ms) of the target events of each retraining, sorted."""
    world = build_world(config)
    market = play_out(Market(config, world=world, model=recorder.fit(world.past)), make_agent(name))
    tables = [closed.ledger.table("a", 0, closed.number) for closed in market.closed]
    return market, tables, [_pairs(log.item[log.targets], log.time[log.targets]) for log in recorder.logs]


def _pairs(items, times):
    return sorted(zip(np.asarray(items).tolist(), np.rint(np.asarray(times) * 1e3).astype(int), strict=True))


def _platform(rounds, calibration="seen"):
    return PlatformConfig(log_window=LogWindow(rounds=rounds, warmup="none"), calibration=calibration)


@pytest.mark.parametrize("delay", [None, "1d"])
@pytest.mark.parametrize("rounds", [1, 2, None])
def test_the_platform_retrains_on_what_clones_consumed_in_the_window_and_is_known(rounds, delay):
    """Each retraining sees the consumptions of the window's rounds that have become known by the round's end."""
    consumer = ConsumerConfig(attraction=3.0, delay=delay)
    config = small_scenario(rounds=4, platform=_platform(rounds), consumer=consumer)
    market, tables, events = _retrained(config, Recorder())
    assert len(events) == 3
    for now, found in enumerate(events):
        first = 0 if rounds is None else max(0, now - rounds + 1)
        expected = []
        for table in tables[first : now + 1]:
            taken = table[table["consumed"]]
            due = taken["time"] + (DAY if delay else 0)
            known = due <= market.world.opening + WEEK * (now + 1)
            expected += _pairs(taken["item"][known], due[known])
        assert found == sorted(expected)


@pytest.mark.parametrize("rounds", [1, 2, None])
def test_the_platform_retrains_on_what_users_of_a_replay_did_in_the_window(rounds):
    """Each retraining sees the events of sessions that ended in the window's rounds, shown or not, each at that end."""
    per_round = 40
    arrivals = ArrivalsConfig(kind="replay", per_round=per_round, warmup_share=0.9)
    config = small_replay(rounds=4, arrivals=arrivals, platform=_platform(rounds))
    market, _, events = _retrained(config, Recorder())
    log, sessions = market.world.log, market.world.sessions
    served = np.flatnonzero(sessions.start >= market.world.opening)[: 4 * per_round]
    edges = [market.world.opening, *sessions.start[served[per_round::per_round]]]
    assert len(events) == 3
    for now, found in enumerate(events):
        first = 0 if rounds is None else max(0, now - rounds + 1)
        expected = []
        for session in served[: (now + 1) * per_round]:
            if edges[first] <= sessions.stop[session] <= edges[now + 1]:
                items = log.item[sessions.of_event == session]
                expected += _pairs(items, np.full(len(items), sessions.stop[session]))
        assert found == sorted(expected)


class Rememberer(Recorder):
    """As if it knew users, so that prices are cross-fitted."""

    depends_on_state = True


@pytest.mark.parametrize("rounds", [1, 2, None])
def test_models_of_two_folds_share_out_the_last_round(rounds):
    """Each fold's log has all earlier rounds of the window, and what one lacks of the last round the other has."""
    platform = _platform(rounds, "cross-fitted")
    config = small_scenario(rounds=4, platform=platform, consumer=ConsumerConfig(attraction=3.0))
    _, tables, logs = _retrained(config, Rememberer(), "rim-dual")
    own = [_pairs(*table[table["consumed"]][["item", "time"]].to_numpy().T) for table in tables]
    assert len(logs) == 9
    for now in range(3):
        whole, *folds = logs[3 * now : 3 * now + 3]
        first = 0 if rounds is None else max(0, now - rounds + 1)
        earlier = [pair for past in own[first:now] for pair in past]
        assert whole == sorted(earlier + own[now])
        assert sorted(folds[0] + folds[1]) == sorted(earlier + earlier + own[now])
        assert all(len(earlier) < len(fold) < len(whole) for fold in folds)


IPS = PlatformConfig(model="popularity-hp", learning="ips", log_window=LogWindow(warmup="none"))
SMALL_NETWORK = {"width": 8, "context": 32, "burn": 4, "update_steps_back": 4, "epochs": 2, "patience": 0}


@cases(
    "propensity most expected",
    ([0.5, 0.25, np.nan, 0.1], 100.0, [3 / 8, 3 / 4, 1.0, 15 / 8]),
    ([1, 1, 0.1], 1.5, [3 / 8, 3 / 8, 9 / 4]),
)
def test_weights_by_hand(propensity, most, expected):
    """Inverse propensities over their mean, 1 where there is none; a large one is clipped and the mean stays one."""
    assert inverse_propensity_weights(np.array(propensity), most) == pytest.approx(expected)


@pytest.mark.parametrize("fold", [None, 0, 1])
def test_the_log_weighs_what_an_agent_drew(fold):
    """Weights of the training log are those of the ledger's propensities, event by event."""
    config = small_scenario(platform=IPS, consumer=ConsumerConfig(attraction=4.0), rounds=3)
    market, agent = Market(config), make_agent("epsilon-greedy")
    for _ in range(2):
        play_round(market, agent)
    last = market.platform.rounds[-1].schedule
    log = training_log(IPS, market.world.past, market.platform.rounds, last.stop, 0, without_fold=fold)
    table = ledgers(market)
    taken = table[table["consumed"]].assign(at=lambda t: np.rint(t["time"] * 1e3).astype(np.int64))
    known = dict(zip(zip(taken["item"], taken["at"], strict=True), taken["propensity"], strict=True))
    goal = log.targets
    keys = zip(log.item[goal].tolist(), np.rint(log.time[goal] * 1e3).astype(int).tolist(), strict=True)
    propensity = np.array([known[key] for key in keys], np.float64)
    assert len(np.unique(propensity)) > 3
    assert log.weight[goal] == pytest.approx(inverse_propensity_weights(propensity, 10.0), rel=1e-6)
    assert log.weight[goal].mean() == pytest.approx(1.0)
    assert (log.weight[~goal] == 1.0).all()


@cases("config agent", (small_scenario(platform=IPS), "relevance"), (small_replay(platform=IPS), "random"))
def test_without_propensities_nothing_changes(config, agent):
    """A deterministic agent, or consumption that no showing causes, leaves the ledger of ``consumed``."""
    usual = dataclasses.replace(config, platform=dataclasses.replace(IPS, learning="consumed"))
    same_ledgers(played(config, agent), played(usual, agent))


def test_a_market_with_weights_goes_on_from_its_saved_state(tmp_path):
    """Propensities of the window's rounds are part of the state."""
    config = small_scenario(platform=IPS, consumer=ConsumerConfig(attraction=4.0), rounds=3)
    same_ledgers(resumed(config, "epsilon-greedy", tmp_path / "state", 2), played(config, "epsilon-greedy"))


def test_a_log_keeps_its_weights_and_popularity_counts_them():
    """Reduced too; a log with others is another log; an item's share is its events' weight."""
    log = random_log()
    weight = np.random.default_rng(0).random(len(log)) + 0.5
    weighted = dataclasses.replace(log, weight=weight)
    assert np.array_equal(weighted.rows(slice(3, 9)).weight, weight[3:9])
    assert log.rows(slice(3, 9)).weight is None
    assert log.weights.tolist() == [1.0] * len(log)
    other = dataclasses.replace(log, weight=weight + 1)
    assert len({log_digest(one) for one in (log, weighted, other)}) == 3
    log = random_log()
    weight = np.random.default_rng(0).random(len(log)) + 0.5
    model = make("popularity").fit(dataclasses.replace(log, weight=weight))
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
@pytest.mark.parametrize("how", ["fit", "update"])
def test_models_that_say_so_honour_weights(name, how):
    """Where events of even items count twentyfold, even items are foreseen more than where the odd ones do."""
    log = random_log(n_users=80)
    even = log.item % 2 == 0
    states = UserStates.of(log, np.arange(40), np.full(40, log.time[-1] + 60.0))
    mass = []
    for heavy in (even, ~even):
        weight = np.where(heavy, 20.0, 1.0)
        weighted = dataclasses.replace(log, weight=weight / weight.mean())
        model = _small_model(name)
        model = model.fit(weighted) if how == "fit" else model.fit(log).update(weighted)
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
    config = small_scenario(platform=PlatformConfig(model="als-hp", learning="ips"))
    refused(ConfigError, "'als-hp' .*bag, ease, factors, graph, gru, popularity", check_plugs, config)
    refused(ConfigError, "MatrixFactorization", Market, small_scenario(platform=IPS), model=make("als"))
    told = "counts events without weights"
    refused(ConfigError, told, PlatformConfig, learning="ips", retrain_ground=True)
