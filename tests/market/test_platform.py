"""What the platform learns, and the histories that it scores: against the ledger, by hand, and in windows."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit import calls_of, cases, refused, same_arrays
from kit import markets as small

from rimsim.agents import make_agent, play_round, top_k
from rimsim.arrays import ticks
from rimsim.config import ArrivalsConfig, ConsumerConfig, LogWindow, PlatformConfig
from rimsim.config.fields import duration_seconds
from rimsim.errors import ConfigError
from rimsim.intensity import GRU, RIM, Calibrated, GRUConfig, HawkesPoisson, Popularity, UserStates
from rimsim.intensity.cache import log_digest
from rimsim.intensity.contract import BLOCK, ModelCapabilities, Walk, stepped, walked
from rimsim.intensity.impressions import KNOTS, Impressions, layer_of, layer_of_fits
from rimsim.intensity.registry import make, shipped
from rimsim.intensity.sets.bag import Bag, BagConfig
from rimsim.market import Market, build_world, platform
from rimsim.market import platform as platform_module
from rimsim.market.consumers.replay import ReplayedLog
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.platform import cross_fitted
from rimsim.market.scores.past import StateScores, always
from rimsim.market.scores.scorer import Scorer
from rimsim.market.training_log import inverse_propensity_weights, training_log
from rimsim.market.world import check_plugs, examination_of
from rimsim.testing import random_log

LEARNER = PlatformConfig(model="als-hp", learning="impressions")


def _small(kind, **changes):
    """Two rounds of a small market whose platform learns from impressions; consumers take more than in others."""
    config = small.SMALL[kind](**({"platform": LEARNER, "rounds": 2} | changes))
    consumer = dataclasses.replace(config.consumer, attraction=3.0)
    return dataclasses.replace(config, consumer=consumer)


def _scores(market, models):
    """(n, k) what models say of what the last closed round showed."""
    ledger = market.closed[-1].ledger
    score = np.full(ledger.item.shape, np.nan)
    for chunk in market.closed[-1].states.scored_by(models):
        items = ledger.item[chunk.row]
        shown_scores = np.take_along_axis(chunk.intensity.numpy(), np.maximum(items, 0), 1)
        score[chunk.row] = np.where(items >= 0, shown_scores, np.nan)
    return score


@pytest.mark.parametrize("calibration", ["cross-fitted", "seen"])
def test_the_layer_is_fitted_to_the_ledgers(calibration):
    """Each round's layers equal fits on the saved tables, with scores of the models that score past states."""
    platform = dataclasses.replace(LEARNER, calibration=calibration)
    market = Market(_small("clones", platform=platform, rounds=4))
    agent = make_agent("relevance")
    fits = market.platform.fits
    for _ in range(3):
        play_round(market, agent)
        models = always(market.model.model)
        closed = market.closed[-1]
        if calibration == "cross-fitted":
            of_market = market.platform
            models = cross_fitted(platform, market.world.past, of_market.rounds, of_market._before, 0)
        table = closed.ledger.table("a", 0, closed.number)
        scored = _scores(market, models)
        lengths = np.zeros(len(closed.ledger.item), np.int64)
        for arrival in range(len(lengths)):
            slot = closed.ledger.schedule.slot[[arrival]]
            tick = closed.ledger.schedule.tick[[arrival]]
            histories = market.platform.rounds[-1].histories
            lengths[arrival] = histories.states(slot, histories.visible_at(slot, tick), tick).lengths[0]
        filled = closed.ledger.item >= 0
        seen = 3.0 * 0.85 ** (table["position"].to_numpy() - 1)
        lengths = np.repeat(lengths, filled.sum(1))
        item = table["item"].to_numpy(np.int64)
        taken = table["consumed"].to_numpy()
        shown = Impressions(item, scored[filled], seen, taken, lengths)
        fits = tuple(fit.after(shown) for fit in fits)
        expected = layer_of_fits(fits)
        fitted = layer_of_fits(market.platform.fits)
        assert market.model.layer.slope == pytest.approx(expected.slope, rel=1e-3)
        fitted_terms, expected_terms = (each.level[:, None] + each.item for each in (fitted, expected))
        assert fitted_terms == pytest.approx(expected_terms, abs=1e-3)


@pytest.mark.parametrize("kind", ["clones", "cold-start", "replay", "capped"])
def test_what_is_logged_is_the_layer_over_the_inner_models_scores(kind):
    """In a later round the ledger's λ'(x,y) is the formula, and λ'(x) is its sum over what is admissible."""
    config = _small(kind, rounds=2)
    market = Market(config)
    agent = make_agent("relevance")
    play_round(market, agent)
    model = market.model
    play_round(market, agent)
    closed = market.closed[1]
    layer = model.layer
    schedule = closed.ledger.schedule
    histories = market.platform.rounds[-1].histories
    counts = histories.visible_at(schedule.slot, schedule.tick)
    place = np.log1p(histories.states(schedule.slot, counts, schedule.tick).lengths)
    level, slope = (np.interp(place, KNOTS, part)[:, None] for part in (layer.level, layer.slope))
    for chunk in closed.states.scored_by(always(model.model)):
        inner = chunk.intensity.double().numpy()
        rows = chunk.row
        laid = np.exp(level[rows] + slope[rows] * np.log(np.maximum(inner, 1e-9)) + layer.item)
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


IPS = PlatformConfig(model="popularity-hp", learning="ips", log_window=LogWindow(warmup="none"))


@cases(
    "kind name changes",
    *((kind, "rim-feedback", {}) for kind in sorted(small.SMALL)),
    ("clones", "epsilon-greedy", {"platform": IPS}),
)
def test_batches_and_a_resume_change_nothing(kind, name, changes, tmp_path):
    """Batches of 1, and a market that goes on from its saved state, leave the same ledger to the last bit."""
    config = _small(kind, rounds=3, **changes)
    expected = small.played(config, name, 1000)
    small.same_ledgers(small.played(config, name, 1), expected)
    small.same_ledgers(small.resumed(config, name, tmp_path / "state", 2), expected)


def test_impressions_change_nothing_before_there_are_any():
    """Round 0 is that of a platform that learns from consumptions, and a frozen platform stays as it is."""
    changes = {}, {"learning": "consumed"}, {"retrain": False}
    platforms = (dataclasses.replace(LEARNER, **change) for change in changes)
    learns, usual, frozen = (
        dataclasses.replace(_small("clones"), platform=learning) for learning in platforms
    )
    learning = small.ledgers(small.played(learns))
    plain = small.ledgers(small.played(usual))
    first = learning["round"] == 0
    pd.testing.assert_frame_equal(learning[first], plain[first], check_exact=True)
    assert not learning[~first]["intensity"].equals(plain[~first]["intensity"])
    assert not isinstance(small.played(frozen).model, Calibrated)


def test_positions_count_as_consumers_look_at_them_and_hits_when_sessions_end():
    """a·γ^(r−1), or 1 where hits are counted; in a replay a hit is known at its session's end, or the horizon's."""
    drawn = small.small_scenario(consumer=ConsumerConfig(position_decay=0.5, attraction=2.0))
    assert examination_of(drawn, Market(drawn).consumer, 0.5).tolist() == [2.0, 1.0, 0.5, 0.25, 0.125]
    counted = small.small_replay()
    market = Market(counted)
    assert examination_of(counted, market.consumer, 0.5).tolist() == [1.0] * 5
    assert market.open.requirements.position_weights.tolist() == [1.0] * 5
    sessions = market.world.sessions
    visited = market.schedule.session
    assert np.array_equal(market.open.settled(), ticks(sessions.stop[visited]) + 1)
    long = Market(small.small_replay(consumer=ConsumerConfig(kind="replay", horizon="30d")))
    start = sessions.start[visited]
    assert np.array_equal(long.open.settled(), ticks(start + 30 * 86_400.0) + 1)
    log = long.world.log
    ledger = long.open.ledger
    users = long.schedule.log_user[long.schedule.slot]
    small.play_out(long, make_agent("relevance"))
    for row, user in enumerate(users):
        soon = (log.user == user) & (log.time >= start[row]) & (log.time < start[row] + 30 * 86_400.0)
        assert np.array_equal(ledger.consumed[row], np.isin(ledger.item[row], log.item[soon]))


@pytest.mark.parametrize("delay", ["365d", "3d"])
def test_the_layer_learns_only_what_the_platform_knows(delay, monkeypatch):
    """Each slate is learnt once, in the round by whose end its outcome is known: with a year's delay not at all."""
    calls = calls_of(monkeypatch, platform_module, "impressions_of")
    platform = PlatformConfig(model="popularity-hp", learning="impressions")
    config = small.small_scenario(consumer=ConsumerConfig(delay=delay), platform=platform, rounds=4)
    market = small.play_out(Market(config), make_agent("relevance"))
    settled = []
    stops = [closed.schedule.stop for closed in market.closed][:-1]
    for closed in market.closed[:-1]:
        late = closed.schedule.tick + ticks(duration_seconds(delay)) + 1
        settled.append(late)
    learnt = [call["shown"] for call in calls]
    for stop, before, shown in zip(stops, [0, *stops], learnt, strict=False):
        due = np.concatenate([late for late, end in zip(settled, stops, strict=True) if end <= stop])
        assert sorted(shown.settled) == sorted(due[(due >= before) & (due < stop)])
    layer = layer_of(market.model)[1]
    assert (layer.slope.tolist() == [1.0] * len(KNOTS)) == (delay == "365d")
    assert any(len(shown.settled) for shown in learnt) == (delay == "3d")


WEEK = 7 * 86_400
DAY = 86_400


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
    market = small.play_out(Market(config, world=world, model=recorder.fit(world.past)), make_agent(name))
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
    config = small.small_scenario(rounds=4, platform=_platform(rounds), consumer=consumer)
    market, tables, events = _retrained(config, Recorder())
    assert len(events) == 3
    for now, learnt in enumerate(events):
        first = 0 if rounds is None else max(0, now - rounds + 1)
        expected = []
        for table in tables[first : now + 1]:
            taken = table[table["consumed"]]
            due = taken["time"] + (DAY if delay else 0)
            is_known = due <= market.world.opening + WEEK * (now + 1)
            expected += _pairs(taken["item"][is_known], due[is_known])
        assert learnt == sorted(expected)


@pytest.mark.parametrize("rounds", [1, 2, None])
def test_the_platform_retrains_on_what_users_of_a_replay_did_in_the_window(rounds):
    """Each retraining sees the events of sessions that ended in the window's rounds, shown or not, each at that end."""
    per_round = 40
    arrivals = ArrivalsConfig(kind="replay", per_round=per_round, warmup_share=0.9)
    config = small.small_replay(rounds=4, arrivals=arrivals, platform=_platform(rounds))
    market, _, events = _retrained(config, Recorder())
    log = market.world.log
    sessions = market.world.sessions
    served = np.flatnonzero(sessions.start >= market.world.opening)[: 4 * per_round]
    edges = [market.world.opening, *sessions.start[served[per_round::per_round]]]
    assert len(events) == 3
    for now, learnt in enumerate(events):
        first = 0 if rounds is None else max(0, now - rounds + 1)
        expected = []
        for session in served[: (now + 1) * per_round]:
            if edges[first] <= sessions.stop[session] <= edges[now + 1]:
                items = log.item[sessions.of_event == session]
                expected += _pairs(items, np.full(len(items), sessions.stop[session]))
        assert learnt == sorted(expected)


class Rememberer(Recorder):
    """As if it knew users, so that prices are cross-fitted."""

    depends_on_state = True


@pytest.mark.parametrize("rounds", [1, 2, None])
def test_models_of_two_folds_share_out_the_last_round(rounds):
    """Each fold's log has all earlier rounds of the window, and what one lacks of the last round the other has."""
    platform = _platform(rounds, "cross-fitted")
    config = small.small_scenario(rounds=4, platform=platform, consumer=ConsumerConfig(attraction=3.0))
    _, tables, logs = _retrained(config, Rememberer(), "rim-dual")
    consumed = [_pairs(*table[table["consumed"]][["item", "time"]].to_numpy().T) for table in tables]
    assert len(logs) == 9
    if rounds == 1:  # a model that cannot know users has seen nothing of them, and is trained once a round
        assert len(_retrained(config, Recorder(), "rim-dual")[2]) == 3
    for now in range(3):
        all_events, *folds = logs[3 * now : 3 * now + 3]
        first = 0 if rounds is None else max(0, now - rounds + 1)
        earlier = [pair for past in consumed[first:now] for pair in past]
        assert all_events == sorted(earlier + consumed[now])
        assert sorted(folds[0] + folds[1]) == sorted(earlier + earlier + consumed[now])
        assert all(len(earlier) < len(fold) < len(all_events) for fold in folds)


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
    refused(ConfigError, "'als-hp' .*bag, ease, factors, graph, gru, popularity", check_plugs, config)
    refused(ConfigError, "MatrixFactorization", Market, small.small_scenario(platform=IPS), model=make("als"))
    message = "cannot use weights"
    refused(ConfigError, message, PlatformConfig, learning="ips", retrain_ground=True)


SLOTS = 4
LOGGED = [[7, 8], [], [9], [7]]
ITEMS = st.lists(st.integers(0, 9), max_size=3)
CONSUMED = st.lists(st.tuples(st.integers(0, SLOTS - 1), st.integers(0, 3), ITEMS), max_size=30)


def _empty(slots=SLOTS):
    """Histories of some slots, each of which is the log user of its number, seen ten seconds later."""
    logged = (LOGGED + [[]] * slots)[:slots]
    offsets = np.cumsum([0, *(len(items) for items in logged)])
    events = [(item, float(n)) for items in logged for n, item in enumerate(items)]
    items = np.array([item for item, _ in events], np.int64)
    times = np.array([at for _, at in events])
    past = LoggedPast(offsets, items, times)
    users = np.arange(slots)
    about = SimpleNamespace(user=users, log_user=users, shift=np.full(slots, 10.0), logged=None)
    return Histories(about, past)


def _entered(consumed, way):
    """Histories, and the same as a list of (tick, item) for each slot; every tick adds to the slot's last."""
    histories = _empty()
    lists = [[] for _ in range(SLOTS)]
    last = [0] * SLOTS
    rows = []
    for slot, wait, items in consumed:
        last[slot] += wait
        lists[slot] += [(last[slot], item) for item in items]
        rows += [(slot, last[slot], item) for item in items]
        slots = np.full(len(items), slot)
        ticks = np.full(len(items), last[slot])
        if way == "one by one":
            histories.append(slots, ticks, np.array(items, np.int64))
    if way == "at once":
        histories.append(*np.array(rows, np.int64).reshape(-1, 3).T.copy())
    return histories, lists


@given(consumed=CONSUMED, way=st.sampled_from(["one by one", "at once"]), tick=st.integers(-1, 12))
def test_histories_are_lists(consumed, way, tick):
    """What is entered, visible and read equals what plain lists hold, however it was entered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rimsim.market.histories._ROOM", 2)  # so that they grow
        histories, lists = _entered(consumed, way)
    slots = np.arange(SLOTS)
    visible = np.array([sum(since <= tick for since, _ in events) for events in lists])
    assert histories.visible_at(slots, np.full(SLOTS, tick)).tolist() == visible.tolist()
    all_events = [(slot, since, item) for slot in range(SLOTS) for since, item in lists[slot]]
    assert list(zip(*(column.tolist() for column in histories.all_events()), strict=True)) == all_events
    length = np.array([len(events) for events in lists])
    ticks, items = histories.between(slots[::-1].copy(), (length // 2)[::-1].copy(), length[::-1].copy())
    later_events = [event for slot in slots[::-1] for event in lists[slot][length[slot] // 2 :]]
    assert list(zip(ticks.tolist(), items.tolist(), strict=True)) == later_events
    states = histories.states(slots, visible, np.full(SLOTS, 50))
    for slot in slots.tolist():
        seen = slice(states.offsets[slot], states.offsets[slot + 1])
        visible_events = lists[slot][: visible[slot]]
        assert states.items[seen].tolist() == LOGGED[slot] + [item for _, item in visible_events]
        logged_times = [10.0 + n for n in range(len(LOGGED[slot]))]
        assert states.times[seen].tolist() == logged_times + [since / 1e6 for since, _ in visible_events]
    rows, everything = histories.consumed(slots)
    pairs = [(slot, item) for slot in slots.tolist() for item in LOGGED[slot] + [i for _, i in lists[slot]]]
    assert list(zip(rows.tolist(), everything.tolist(), strict=True)) == pairs
    copied = histories.copy()
    copied.append(np.array([0]), np.array([10**6]), np.array([5]))
    assert copied.events.counts[0] == histories.events.counts[0] + 1 == len(lists[0]) + 1


def test_an_event_goes_before_those_that_are_visible_later():
    """What is entered ahead does not keep out what becomes visible before it; of one tick, the last entered is last."""
    histories = _empty()
    entered = [(50, 3), (90, 4), (49, 5), (90, 6), (50, 7), (10, 8)]
    for tick, item in entered:
        histories.append(np.array([1]), np.array([tick]), np.array([item]))
    _, *events = (column.tolist() for column in histories.all_events())
    assert list(zip(*events, strict=True)) == sorted(entered, key=lambda event: event[0])
    assert histories.visible_at(np.array([1, 1, 1]), np.array([9, 50, 90])).tolist() == [0, 4, 6]


@pytest.mark.parametrize("delay", [None, "3h"], ids=["clones", "delayed clones"])
def test_hidden_states_hold_the_visible_events_of_what_is_scored(delay, monkeypatch):
    """Each slot takes an event once and none that its next visit does not see; scores are those of whole states."""
    arrivals = ArrivalsConfig(per_round=400, max_visits=6)
    consumer = ConsumerConfig(attraction=5.0, delay=delay)
    platform = PlatformConfig(model="gru-hp(width=8,epochs=2)", retrain=False)
    config = small.small_scenario(rounds=1, arrivals=arrivals, consumer=consumer, platform=platform)
    store = Scorer._store
    catch_up = Scorer.catch_up
    taken = []

    def counted(self, slots, hidden, n_known):
        assert len(set(slots.tolist())) == len(slots)
        taken.append(len(slots))
        store(self, slots, hidden, n_known)

    def checked(self, slots, counts):
        catch_up(self, slots, counts)
        if type(self) is Scorer:  # under a truth, users may keep their hidden states
            assert np.array_equal(self._n_encoded[slots], counts)

    monkeypatch.setattr(Scorer, "_store", counted)
    monkeypatch.setattr(Scorer, "catch_up", checked)
    market = Market(config)
    for arrivals in small.batches(market, 8, in_waves=True):
        histories = market.open.histories
        tick = market.schedule.tick[arrivals.row]
        slots = market.schedule.slot[arrivals.row]
        expected = market.model.score(histories.states(slots, histories.visible_at(slots, tick), tick))
        expected = expected * arrivals.admissible
        expected /= expected.sum(1, keepdim=True)
        torch.testing.assert_close(arrivals.relevance, expected, rtol=1e-3, atol=1e-6)
    assert sum(taken) > 0


class _Remembering(GRU):
    """A model that returns the same memory for the same hidden states, and does not say that its caller owns it."""

    def score_hidden(self, hidden, now):
        self.scores = super().score_hidden(hidden, now)
        self.kept = self.scores.clone()
        return self.scores


def test_scores_that_a_model_keeps_are_not_written_to():
    """The memory of a mark model that does not hand its scores over is what it was after a market has used it."""
    config = small.small_scenario(rounds=1)
    log = Market(config).world.past
    mark = _Remembering(GRUConfig(epochs=1))
    model = RIM(mark=mark, ground=HawkesPoisson()).fit(log)
    for _ in small.batches(Market(config, model=model), 16):
        assert torch.equal(mark.scores, mark.kept)


def _walk(draw, users, n_items, start):
    """Events of some users, some of whom have none, with silences around half an hour, and points at all of them."""
    length = draw.integers(0, 12, users)
    length[:2] = 0, 40
    offsets = np.concatenate([[0], np.cumsum(length)])
    times = np.concatenate([start + np.cumsum(draw.choice([10.0, 1800.0, 1801.0, 9e4], n)) for n in length])
    row = np.concatenate([np.repeat(np.arange(users), length + 1), [5, 5]])
    count = np.concatenate([*(np.arange(n + 1) for n in length), [0, length[5]]])
    mixed = draw.permutation(len(row))
    return Walk(offsets, draw.integers(0, n_items, offsets[-1]), times, row[mixed], count[mixed])


MODELS = {
    "bag-visits": lambda: make("bag-visits", mark=BagConfig(steps=3, weight_decay=1e-4)),
    "gru-hp": lambda: make("gru-hp", mark=GRUConfig(epochs=1)),
    "popularity-visits": lambda: make("popularity-visits"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_walk_is_its_steps_to_the_bit(name):
    """At every point of a walk, and after it, hidden states are those of blocks that take one event of one user."""
    log = random_log(70, 30, mean_events=6.0)
    model = MODELS[name]().fit(log)
    hidden = model.encode(UserStates.of(log, np.arange(70), float(log.time[-1]) + 1.0))
    walk = _walk(np.random.default_rng(3), 70, 30, float(log.time[-1]))
    nowhere = np.zeros(0, np.int64)
    ways = walked(model, hidden, walk), stepped(model, hidden, walk)
    without = dataclasses.replace(walk, row=nowhere, count=nowhere)
    ends = *(after for after, _ in ways), walked(model, hidden, without)[0]
    for user in (0, 1, 5, 69):
        now = tuple(part[[user] * 64] for part in hidden)
        first = walk.offsets[user]
        stop = walk.offsets[user + 1]
        for n_done in range(stop - first + 1):
            points = np.flatnonzero((walk.row == user) & (walk.count == n_done))
            for _, seen in ways:
                assert all((part[points] == state[0]).all() for part, state in zip(seen, now, strict=True))
            if first + n_done < stop:
                item = torch.full((64,), int(walk.items[first + n_done]))
                time = torch.full((64,), walk.times[first + n_done], dtype=torch.float64)
                now = model.step(now, item, time)
        for after in ends:
            assert all(torch.equal(part[user], state[0]) for part, state in zip(after, now, strict=True))


def test_a_step_of_ones_own_is_walked_by():
    """A subclass that overrides the step alone does not walk as its base does."""

    class Still(Bag):
        def step(self, hidden, items, times):
            return hidden

    log = random_log(30, 20, mean_events=8.0)
    model = Still(BagConfig(steps=1, weight_decay=1e-4)).fit(log)
    hidden = model.encode(UserStates.of(log, np.arange(30), float(log.time[-1]) + 1.0))
    after, _ = walked(model, hidden, _walk(np.random.default_rng(0), 30, 20, float(log.time[-1])))
    assert torch.equal(after[0], hidden[0])


class _AsItComes(ReplayedLog):
    """The same consumer, who does not say that all is known beforehand."""

    foretold = False


@cases("model delay", ("bag-visits", None), ("bag-visits", "3h"), ("hp", None))
def test_what_is_foretold_changes_nothing(model, delay, monkeypatch):
    """Rounds whose states are encoded beforehand, in windows, end as those whose events come as they happen."""
    monkeypatch.setattr("rimsim.market.scores.arrivals._MOST_BYTES", 1)
    consumer = ConsumerConfig(kind="replay", delay=delay)
    config = small.small_replay(rounds=3, consumer=consumer, platform=PlatformConfig(model=model))
    ends = []
    for kind in (ReplayedLog, _AsItComes):
        market = Market(config, consumer=kind(config))
        served = small.batches(market, 9)
        rows = [arrival.relevance.numpy() * arrival.ground_intensity.numpy()[:, None] for arrival in served]
        ends.append((np.concatenate(rows), market))
    (first_rows, first), (second_rows, second) = ends
    np.testing.assert_array_equal(first_rows, second_rows)
    for mine, theirs in zip(first.closed, second.closed, strict=True):
        same_arrays(mine.ledger, theirs.ledger, "consumed")
        same_arrays(mine, theirs, "log_counts", "learnt_events")


@pytest.mark.parametrize("blocks", [1, 2, 9])
def test_states_known_beforehand_are_encoded_in_windows_and_forgotten(blocks, monkeypatch):
    """As many whole blocks at once as there is room for; scores of who was served are freed."""
    monkeypatch.setattr(Scorer, "hidden_bytes", lambda _: 1)
    monkeypatch.setattr("rimsim.market.scores.arrivals._MOST_BYTES", blocks * BLOCK + 9)
    monkeypatch.setattr("rimsim.market.scores.arrivals._AHEAD", 1)
    encoded = calls_of(monkeypatch, Scorer, "hidden_at")
    arrivals = ArrivalsConfig(kind="replay", warmup_share=0.8)
    config = small.small_replay(rounds=1, arrivals=arrivals)
    market = Market(config, model=Market(config).model)
    scores = market.open._scores
    n = len(market.schedule)
    while not market.done:
        waiting = market.next_arrivals(20)
        market.serve(waiting, top_k(waiting.relevance, waiting.admissible, config.slate))
        is_held = np.array([block is not None for block in scores._block])
        assert not is_held[: market.served or n].any()
        assert is_held.sum() < BLOCK
    sizes = [min(blocks * BLOCK, n - first) for first in range(0, n, blocks * BLOCK)]
    assert [len(call["slots"]) for call in encoded] == sizes
    assert n > 2 * BLOCK


def test_warm_up_states_are_scored_by_models_that_have_not_seen_what_their_users_did(monkeypatch):
    """The log of the model of a fold of users lacks their events in those sessions, and has those of others.

    The states' period is from the first to the last session.
    """
    past = Market(small.small_replay(platform=PlatformConfig(model="ease-hp"))).round_view().past
    visits = past.past.visits
    tick = past.past.tick
    assert (visits.start, visits.stop) == (tick[0], tick[-1] + 1)
    first = past.past.tick.min() / 1e6
    users = []
    monkeypatch.setattr(platform, "initial_model", lambda config, log, *_: log)
    monkeypatch.setattr(StateScores, "_scored", lambda self, log, rows: [(log, self.past.user[rows])])
    for log, mine in past:
        seen = np.unique(log.user[log.time >= first])
        assert len(seen)
        assert not np.isin(mine, seen).any()
        users += mine.tolist()
    assert sorted(users) == sorted(past.past.user)
