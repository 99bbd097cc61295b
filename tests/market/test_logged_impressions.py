"""The layer that a platform learns from logged impressions: that of a round with the same impressions."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kit.markets import market_of, small_replay, small_scenario

from rimsim.agents import make_agent, play_round
from rimsim.arrays import seconds
from rimsim.config import ArrivalsConfig, DataConfig, PlatformConfig
from rimsim.data import LoggedImpressions
from rimsim.intensity.impression_factors import fit_by_turns
from rimsim.intensity.impressions import KNOTS, Calibrated, layer_of, layer_of_fits
from rimsim.intensity.states import UserStates
from rimsim.market import Market, build_world, logged_impressions
from rimsim.market.logged_impressions import (
    ScoreTerms,
    known_impressions,
    logged_scores,
    logged_shown,
    logged_states,
)
from rimsim.market.opening import LayerTrial, layer_trial, opening_model, warm_model
from rimsim.market.past_round import fold_of
from rimsim.market.platform import cross_fitted, first_fits, impressions_of, prior_of
from rimsim.market.world import examination_of, initial_model, plugs_of
from rimsim.scenarios import compare
from rimsim.scenarios.report.comparison import comparison_report
from rimsim.scenarios.report.sentences import layer_note

PLATFORM = PlatformConfig(model="bag")


def _logged(market, rows):
    """Slates of the closed round as logged impressions."""
    ledger = market.closed[-1].ledger
    filled = ledger.item[rows] >= 0
    arrival, place = np.nonzero(filled)
    schedule = ledger.schedule
    return LoggedImpressions(
        visitor=schedule.user[schedule.slot[rows]][arrival],
        visitors=np.arange(market.world.log.n_users),
        user=schedule.user[schedule.slot[rows]][arrival],
        item=ledger.item[rows][filled].astype(np.int64),
        time=seconds(schedule.tick[rows])[arrival],
        taken=ledger.consumed[rows][filled],
        position=place + 1,
    )


def test_the_layer_of_a_log_is_that_of_a_round_with_the_same_impressions():
    """A round of a replay, written as a log of impressions: the same evidence, and so the same layer."""
    config = small_replay(platform=PLATFORM, rounds=2)
    agent, market = market_of("random", config)
    play_round(market, agent)
    platform = market.platform
    last = platform.rounds[-1]
    models = cross_fitted(config.platform, market.world.past, platform.rounds, platform.live, 0)
    rows = np.flatnonzero(last.shown.settled < last.schedule.stop)
    assert len(rows) > 50
    examination = examination_of(config, market.consumer, platform.decay)
    of_round = impressions_of(
        last.shown.scored(market.closed[-1].states.scored_by(models)).rows(rows), examination
    )
    logged = _logged(market, rows)
    log = market.world.log
    terms = ScoreTerms(market.world.times, market.device, 0, market.world.rule)
    states = logged_scores(logged, log, models, terms)
    shown = logged_shown(logged, logged_states(logged, log).lengths).scored(states)
    of_log = impressions_of(
        shown, examination_of(config, market.consumer, platform.decay, shown.item.shape[1])
    )
    for name in ("item", "taken", "examination", "history"):
        np.testing.assert_array_equal(getattr(of_log, name), getattr(of_round, name))
    np.testing.assert_allclose(of_log.score, of_round.score, rtol=1e-5)
    prior = prior_of(config.platform.learning)
    first = first_fits(prior, np.bincount(market.world.past.item, minlength=market.n_items))
    fit = fit_by_turns(first[0], of_log, {}, prior).layer_fit
    for name in ("level", "slope", "item", "count", "expected"):
        np.testing.assert_allclose(getattr(fit, name), getattr(platform.fits[0], name), rtol=1e-3, atol=1e-4)
    assert np.abs(fit.item).max() > 0.01


def test_logged_positions_are_examined_like_positions_of_a_slate():
    """With γ = 0.5, positions 1, 2 and unknown have examinations 1, 0.5 and 1."""
    config = small_scenario(platform=PLATFORM)
    _, market = market_of("random", config)
    logged = LoggedImpressions(
        visitor=np.arange(3),
        visitors=np.arange(3),
        user=np.arange(3),
        item=np.array([4, 5, 6]),
        time=np.arange(3.0),
        taken=np.array([True, False, False]),
        position=np.array([1, 2, 0]),
    )
    shown = logged_shown(logged, np.zeros(3, np.int64))
    examination = examination_of(config, market.consumer, 0.5, shown.item.shape[1])
    evidence = impressions_of(shown, examination)
    assert evidence.item.tolist() == [4, 5, 6]
    assert evidence.examination / config.consumer.slate_attraction == pytest.approx([1.0, 0.5, 1.0])


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    """A log of 300 users and 200 items, whose second half has impressions; policy b shows where half as many take."""
    draw = np.random.default_rng(0)
    n = 6000
    rows = pd.DataFrame(
        {
            "user": draw.integers(300, size=n),
            "item": (200 * draw.random(n) ** 2).astype(int),
            "time": np.sort(draw.integers(0, 200 * 86_400, n)) + 1_450_000_000,
            "policy": draw.choice(["a", "b"], n),
            "position": draw.integers(1, 4, n),
        }
    )
    rate = 0.8 * 0.85 ** (rows["position"] - 1) * np.where(rows["policy"] == "a", 1.0, 0.5)
    rows["taken"] = (draw.random(n) < -np.expm1(-rate)).astype(int)
    rows["shown"] = 1
    rows.loc[: n // 2, ["taken", "shown"]] = 1, 0
    path = tmp_path_factory.mktemp("feed") / "feed.parquet"
    rows.to_parquet(path)
    return path


def _config(feed, **changes):
    fields = {"data": DataConfig(source=str(feed)), "slate": 3, "rounds": 2}
    fields["arrivals"] = ArrivalsConfig(kind="replay", per_round=80, warmup_share=0.9)
    fields["platform"] = _platform("always")
    return small_replay(**(fields | changes))


def _platform(logged):
    """A platform that uses logged impressions so."""
    return PlatformConfig(model="popularity-hp", learning={"logged": logged})


def test_a_platform_opens_with_the_layer_of_its_log(feed):
    """Round 0 is served by the layer, the next round's evidence is added to it, and later impressions are unknown."""
    config = _config(feed)
    world = build_world(config)
    known = known_impressions(world)
    assert 0 < len(known) < len(world.log.impressions)
    assert known.time[-1] < world.opening
    market = Market(config)
    model = market.model
    assert isinstance(model, Calibrated)
    assert market.platform.fits == model.fits
    assert len({fit.memory for fit in model.fits} | {fit.item_memory for fit in model.fits}) > 1
    np.testing.assert_array_equal(model.layer.item, layer_of_fits(model.fits).item)
    assert model.fits[0].count.sum() > 0.5 * known.taken.sum()
    before = model.fits
    play_round(market, make_agent("random"))
    memories = [fit.item_memory for fit in market.platform.fits]
    full = memories.index(1.0)
    assert (market.platform.fits[full].count >= before[full].count - 1e-9).all()
    assert market.platform.fits[full].count.sum() > before[full].count.sum()


def test_the_last_impressions_are_learnt_from_if_there_are_many(feed, monkeypatch):
    """With room for a hundred, they are the hundred before the opening."""
    world = build_world(_config(feed))
    everything = known_impressions(world)
    monkeypatch.setattr(logged_impressions, "MOST_IMPRESSIONS", 100)
    known = known_impressions(world)
    assert len(everything) > 2 * len(known) == 200
    for name in ("visitor", "item", "time", "taken"):
        np.testing.assert_array_equal(getattr(known, name), getattr(everything, name)[-100:])


def test_only_a_platform_that_learns_from_impressions_uses_them(feed):
    """With consumed, and without a column of answers, the model stays as it would be."""
    learns = dataclasses.replace(PLATFORM, model="popularity-hp", learning="consumed")
    assert not isinstance(warm_model(_config(feed, platform=learns), 0), Calibrated)
    plain = DataConfig(source=str(feed), columns="user=user,item=item,time=time")
    model = warm_model(_config(feed, data=plain), 0)
    assert getattr(model, "fits", ()) == ()


def test_items_that_come_later_are_unknown(feed):
    """Impressions of withheld items are no evidence before these items come."""
    config = small_scenario(
        data=DataConfig(source=str(feed)), slate=3, releases={"share": 0.3, "first_round": 0, "last_round": 1}
    )
    world = build_world(config)
    known = known_impressions(world)
    assert set(world.log.impressions.item) > set(known.item)
    assert set(known.item) <= set(world.past.item)


def _hits_by_hand(config, layer):
    """Hits of each session in the best slate of a blind model, with and without a layer."""
    world = build_world(config)
    past = world.past
    sessions = world.past_sessions
    fitted, _ = layer_of(warm_model(config, 0))
    fold = fold_of(0, np.arange(past.n_users))
    models = [initial_model(config, past.rows(fold[past.user] != number), 0, fitted) for number in (0, 1)]
    hits = []
    for session, (user, start) in enumerate(zip(sessions.user, sessions.start, strict=True)):
        states = UserStates.of(past, np.array([user]), np.array([start]))
        score = models[fold[user]].score(states)[0].double().numpy()
        score[states.items] = 0.0
        slope = np.interp(np.log1p(states.lengths[0]), KNOTS, layer.slope)
        layered = np.where(score > 0, slope * np.log(np.maximum(score, 1e-300)) + layer.item, -np.inf)
        taken = past.item[sessions.of_event == session]
        slates = [np.argsort(-value, kind="stable")[: config.slate] for value in (layered, score)]
        hits.append([np.isin(slate, taken).sum() for slate in slates])
    return sessions.user, np.array(hits, float)


def test_a_layer_is_tried_on_held_out_sessions(feed):
    """Hits with and without the layer, and the error of their difference over users, by hand."""
    config = _config(feed)
    learnt = warm_model(config, 0)
    trial = layer_trial(config, build_world(config), plugs_of(config)[1], learnt, 0)
    users, hits = _hits_by_hand(config, learnt.layer)
    assert (trial.with_layer, trial.without_layer) == pytest.approx(hits.mean(0))
    sums = pd.Series(hits[:, 0] - hits[:, 1]).groupby(users).sum()
    assert trial.error == pytest.approx(np.sqrt(((sums - sums.mean()) ** 2).sum()) / len(hits))
    known = known_impressions(build_world(config))
    assert trial.taken == known.taken.mean()
    assert trial.with_layer < 0.7 * trial.without_layer


def _shown_at_random(tmp_path):
    """A log whose items were shown at random, and taken by their worth."""
    draw = np.random.default_rng(1)
    n = 12_000
    item = draw.integers(40, size=n)
    rows = {"user": draw.integers(300, size=n), "item": item}
    rows["time"] = np.sort(draw.integers(0, 200 * 86_400, n)) + 1_450_000_000
    rows["taken"] = (draw.random(n) < 0.9 * ((item + 1) / 40) ** 3).astype(int)
    path = tmp_path / "fair.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


def test_a_layer_serves_unless_it_ranks_sessions_worse(feed, tmp_path):
    """Where a recommender showed what is popular, the layer is left out by default; where chance showed, it stays."""
    assert PlatformConfig().learning.logged == "auto"
    selected = opening_model(_config(feed, platform=_platform("auto")), 0)
    assert selected.trial.is_worse
    assert getattr(selected.model, "fits", ()) == ()
    never = opening_model(_config(feed, platform=_platform("never")), 0)
    assert never.trial is None
    np.testing.assert_array_equal(selected.model.layer.level, never.model.layer.level)
    np.testing.assert_array_equal(selected.model.layer.item, 0.0)
    assert opening_model(_config(feed), 0).trial is None
    fair = opening_model(_config(_shown_at_random(tmp_path), platform=_platform("auto")), 0)
    assert not fair.trial.is_worse
    assert fair.trial.with_layer > 0
    assert fair.model.fits


def test_a_trial_needs_a_significant_difference():
    """A layer is worse from 1.96 standard errors on; without sessions that differ, it is not."""
    figures = {"with_layer": 0.2, "without_layer": 0.3, "taken": 0.4}
    assert LayerTrial(error=0.051, **figures).is_worse
    assert not LayerTrial(error=0.052, **figures).is_worse
    assert not LayerTrial(error=0.0, **figures | {"without_layer": 0.2}).is_worse


def test_a_run_says_which_layer_serves(feed, tmp_path):
    """The table has the trial of each seed, and the report says why the layer is left out or serves."""
    options = {"seeds": 1, "workers": 1, "certify": False}
    run = compare(
        _config(feed, platform=_platform("auto")), ["relevance", "random"], out=tmp_path / "left", **options
    )
    trial = opening_model(run.scenario, 0).trial
    row = run.layer_trial.iloc[0]
    assert (row["with_layer"], row["without_layer"]) == (trial.with_layer, trial.without_layer)
    assert not row["serves"]
    (note,) = (
        text for text in comparison_report(run).cautions if "learnt from the log's impressions" in text
    )
    assert f"a slate holds {trial.with_layer:.3f} items" in note
    assert "opens without the layer at 1 of 1 seed " in note
    always = compare(_config(feed), ["relevance", "random"], out=tmp_path / "always", **options)
    assert always.layer_trial is None
    serves = run.layer_trial.assign(serves=True)
    assert layer_note(serves).endswith("So the layer serves round 0 (platform.learning.logged)")
