"""The market: what must hold whatever the agent, the batches and the order of serving."""

import dataclasses
import itertools
from collections import Counter
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from kit import cases, refused, write_events
from kit.markets import (
    PAIRS,
    SMALL,
    batches,
    ledgers,
    play_out,
    played,
    resumed,
    same_ledgers,
    small_broadcast,
    small_capped,
    small_cold_start,
    small_replay,
    small_scenario,
    weighted_exposures,
)

from rimsim import measures
from rimsim.agents import make_agent, play_round
from rimsim.config import (
    ArrivalsConfig,
    ConsumerConfig,
    DataConfig,
    ExposureConfig,
    LogWindow,
    PlatformConfig,
    ReleasesConfig,
    Seeds,
)
from rimsim.data import load
from rimsim.errors import AgentError, ConfigError, DataError, MarketError, RunFolderError
from rimsim.intensity.impressions import layer_of
from rimsim.market import Market, MarketState, Needs, Slates
from rimsim.market.clock import Clock, Moment, Rank
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.past_round import PastRound
from rimsim.market.records import VISIT_BITS
from rimsim.market.training_log import training_log
from rimsim.scenarios.study.certificates import HindsightPrices, certified


@pytest.fixture(params=sorted(SMALL))
def scenario(request):
    """Each kind of market in small."""
    return SMALL[request.param]()


@cache
def in_large_batches(kind, name):
    """Two rounds of a small market under an agent, in large batches."""
    return played(SMALL[kind](rounds=2), name, 1000)


def test_events_happen_at_exactly_their_tick_and_by_rank_within_it():
    """Large odd ticks never round, and retraining goes before an arrival of the same tick."""
    start = 1_478_455_044_999_999
    clock = Clock(start)
    log = []

    def happening(tick, rank):
        yield Moment(clock, start + tick, rank)
        log.append((clock.tick - start, rank.name))

    for tick, rank in ((2, Rank.ARRIVAL), (2, Rank.RETRAIN), (1, Rank.ARRIVAL)):
        clock.process(happening(tick, rank))
    while len(log) < 3:
        clock.step()
    assert log == [(1, "ARRIVAL"), (2, "RETRAIN"), (2, "ARRIVAL")]


def test_what_becomes_visible_at_a_tick_is_known_to_its_arrivals_and_not_to_its_retraining():
    """An event visible from a tick on is in the state of an arrival at that tick, and in no log of that tick."""
    market = Market(small_replay())
    opened = market.open
    past = PastRound(0, opened.schedule, opened.histories)
    slot = opened.schedule.slot[:1]
    stop = opened.schedule.stop
    opened.histories.append(slot, np.array([stop]), np.array([3]))
    assert opened.histories.visible_at(slot, np.array([stop])) == 1
    platform = PlatformConfig(log_window=LogWindow(warmup="none"))
    targets = [
        training_log(platform, market.world.past, [past], now, 0).targets.sum() for now in (stop, stop + 1)
    ]
    assert targets == [0, 1]


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_ledger_holds_each_exposure_once_and_only_admissible_ones(kind, name):
    """Every filled position is one row; no item is shown twice to a user that consumed it, nor before its release."""
    market = in_large_batches(kind, name)
    scenario = market.config
    for closed in market.closed:
        ledger = closed.ledger
        schedule = closed.ledger.schedule
        table = ledger.table("a", 0, closed.number)
        assert len(table) == (ledger.item >= 0).sum() == ledger.exposure(market.n_items).sum()
        assert not table.duplicated(["arrival", "item"]).any()
        assert not table.duplicated(["arrival", "position"]).any()
        tick = np.rint(table["time"].to_numpy() * 1e6).astype(np.int64)
        assert (market.world.release[table["item"]] <= tick).all()
        past = market.world.past
        consumed = {}
        slots = np.arange(len(schedule.user))
        for slot, item in zip(*Histories(schedule, LoggedPast.of(past)).consumed(slots), strict=True):
            consumed.setdefault(int(schedule.user[slot]), set()).add(int(item))
        eaten: set[tuple[int, int]] = set()
        for row in table.itertuples():
            assert row.item not in consumed.get(row.user, ())
            assert (row.user, row.item) not in eaten
            if row.consumed and scenario.consumer.kind == "intensity":
                eaten.add((row.user, row.item))


def test_floors_add_up_and_can_be_of_some_items():
    """Whole ones add up to β·N·k and differ by one at most; drawn items have the number; items of later rounds none."""
    market = Market(small_cold_start())
    later = market.world.release >= market.schedule.stop
    assert later.any()
    assert not market.required[later].any()
    market = Market(small_scenario())
    weights = market.open.requirements.position_weights
    required = market.required / measures.mean_weight(weights)  # as positions
    assert required.sum() == 0.5 * 120 * 5
    assert np.ptp(required) <= 1
    exposure = dataclasses.replace(small_broadcast().exposure, unit="shown")
    market = played(small_broadcast(exposure=exposure), "offline-match")
    required = [closed.required / measures.mean_weight(closed.position_weights) for closed in market.closed]
    assert (required[0] != required[1]).any()
    for closed, row in zip(market.closed, required, strict=True):
        assert np.bincount(row.astype(int)).tolist() == [market.n_items - 10, *[0] * 11, 10]
        assert (weighted_exposures(closed) >= closed.required - 1e-9).all()


def test_a_broadcast_reaches_every_user_once_at_the_rounds_beginning():
    """A seeded sample of users that changes by round arrives at one tick."""
    sampled = played(small_broadcast())
    assert all((closed.schedule.tick == closed.schedule.start).all() for closed in sampled.closed)
    users = [set(closed.ledger.schedule.log_user.tolist()) for closed in sampled.closed]
    assert [len(audience) for audience in users] == [100] * 3
    assert users[0] != users[1]


@pytest.mark.parametrize("name", ["relevance", "rim-feedback", "hindsight"])
def test_a_user_is_shown_no_more_than_its_cap(name):
    """With a cap of seven, slates of five shrink to two and none; prices that follow what was shown still deliver."""
    for closed in played(small_capped(), name).closed:
        shown = (closed.ledger.item >= 0).sum(1)
        visit = closed.ledger.schedule.id & ((1 << VISIT_BITS) - 1)
        capacity = np.array([5, 2, 0])[visit]
        assert (shown <= capacity).all()
        assert (shown == capacity).mean() > 0.95  # some have consumed nearly everything
        mean = measures.mean_weight(closed.position_weights)
        assert closed.required.sum() / mean == int(0.5 * capacity.sum() + 0.5)
    if name == "rim-feedback":
        closed = played(small_capped(exposure=ExposureConfig(beta=0.3)), name).closed[-1]
        assert measures.shortfall(weighted_exposures(closed), closed.required) < 0.03


def test_an_audience_is_what_arrives():
    """In a replay or broadcast, the states that hindsight plans on are those that are served, to the last bit."""
    several_blocks = ArrivalsConfig(kind="replay", warmup_share=0.8)
    for config in (small_replay(rounds=1, arrivals=several_blocks), small_broadcast(rounds=1)):
        market = Market(config, needs=Needs(future=True))
        planned = {}
        for chunk in market.round_view().audience:
            planned |= dict(zip(chunk.id.tolist(), chunk.intensity, strict=True))
        for arrivals in batches(market, 30):
            for row, key in enumerate(arrivals.id.tolist()):
                assert torch.equal(arrivals.intensity[row], planned.pop(key))
        assert not planned


@cases("unit gap", ("shown", 1e-3), ("examined", 0.02))
def test_hindsight_is_optimal_where_states_are_known(unit, gap):
    """In a broadcast, no agent's penalised value is above that of hindsight, whose gap is certified.

    Whole slates of some hundred visitors cannot share examined exposure as finely as prices do.
    """
    values = {}
    exposure = dataclasses.replace(small_broadcast().exposure, unit=unit)
    for name in ("hindsight", "offline-match", "relevance", "rim-dual", "rim-feedback", "random"):
        closed = played(small_broadcast(rounds=1, exposure=exposure), name).closed[0]
        proof = certified(closed, HindsightPrices())
        values[name] = proof.value
        assert name != "hindsight" or proof.gap <= gap
    assert values["hindsight"] == values["offline-match"]
    assert max(values, key=values.get) in {"hindsight", "offline-match"}


def test_prices_of_a_capped_replay_are_solved_for_capped_states():
    """The warm-up sessions on which a replay's first prices are solved have capacities as its arrivals have."""
    config = small_replay(user_cap=7)
    chunks = list(Market(config).round_view().calibration)
    visits = Counter()
    order = np.argsort(np.concatenate([chunk.row for chunk in chunks]))
    users = np.concatenate([chunk.user for chunk in chunks])[order]
    capacities = np.concatenate([chunk.capacity for chunk in chunks])[order]
    for user, capacity in zip(users, capacities, strict=True):
        assert capacity == (5, 2, 0)[min(visits[user], 2)]
        visits[user] += 1
    assert max(visits.values()) > 1


def test_first_prices_of_a_replay_are_of_the_serving_model():
    """Folds that score warm-up sessions take over its strength and have own weights; a model handed in scores alone."""
    config = small_replay(platform=PlatformConfig(model="ease-hp"))
    market = Market(config)
    folds = market.round_view().past.models()
    assert len(folds) == 2
    for fold in folds:
        fold_mark = layer_of(fold)[0].mark
        served_mark = layer_of(market.model)[0].mark
        assert fold_mark.shrinkage == served_mark.shrinkage
        assert not torch.equal(fold_mark.served("weights"), served_mark.served("weights"))
    config = small_replay()
    model = Market(config).model
    market = Market(config, model=model)
    rows = torch.cat([chunk.ground_intensity for chunk in market.round_view().calibration])
    plain = dataclasses.replace(config, platform=PlatformConfig(model="popularity-hp", calibration="seen"))
    seen = torch.cat([chunk.ground_intensity for chunk in Market(plain).round_view().calibration])
    assert (rows == seen).all()


OPTIONS = ("rim-feedback(gain=0.1,closing=0.05)", "rim-resolve(every=30)", "entropic-dual(gain=0)")


# Each agent is among these pairs, nearly all of them in two kinds of market or more.
@cases("kind name", *PAIRS[::2], ("broadcast", "offline-match"), *itertools.product(SMALL, OPTIONS))
def test_results_do_not_depend_on_the_batch_size(kind, name):
    """Batches of 1 and 1,000, among capped users also of 7, leave the same ledger to the last bit."""
    for size in (1, 7) if kind == "capped" else (1,):
        same_ledgers(played(SMALL[kind](rounds=2), name, size), in_large_batches(kind, name))


def test_chances_do_not_depend_on_the_batch_size_while_items_come(tmp_path):
    """With two hundred items still to come, probabilities of consumption are equal to the last bit."""
    draw = np.random.default_rng(0)
    n = 4000
    items = (400 * draw.random(n) ** 1.5).astype(int)
    write_events(tmp_path / "log.csv", draw.integers(0, 60, n), items, 1_400_000_000 + 4000 * np.arange(n))
    data = DataConfig(source=str(tmp_path / "log.csv"))
    consumer = ConsumerConfig(truth="factors", rank=4)
    releases = ReleasesConfig(share=0.5, first_round=0, last_round=1)
    scenario = small_cold_start(rounds=1, data=data, releases=releases, consumer=consumer)
    singly, together = (played(scenario, "random", size).closed[0].ledger for size in (1, 1000))
    assert np.isfinite(singly.probability).any()
    np.testing.assert_array_equal(singly.probability, together.probability)


def test_delayed_consumption_changes_states_late_and_not_the_batches():
    """The ledger differs from that without; what is shown again meanwhile is not consumed again."""
    slow = small_scenario(consumer=ConsumerConfig(delay="2d", attraction=5.0))
    delayed = played(slow, batch_size=1000)
    same_ledgers(played(slow, batch_size=1), delayed)
    fast = small_scenario(consumer=ConsumerConfig(attraction=5.0))
    assert not ledgers(delayed)["item"].equals(ledgers(played(fast))["item"])
    config = small_scenario(consumer=ConsumerConfig(delay="30d", attraction=10.0), rounds=1)
    table = ledgers(played(config, "popularity"))
    assert table.duplicated(["user", "item"]).any()
    assert not table[table["consumed"]].duplicated(["user", "item"]).any()


def test_seeds_are_apart():
    """The agent's seed moves the slates of who draws, and no more; that of choices what is consumed, not who comes."""
    config = small_scenario(rounds=1)
    each = (Seeds(), Seeds(agent=1), Seeds(choice=1))
    drawn, drawn_otherwise, _ = (ledgers(played(config, "random", seeds=seeds)) for seeds in each)
    assert not drawn["item"].equals(drawn_otherwise["item"])
    plain, of_agent_seed, choice = (ledgers(played(config, seeds=seeds)) for seeds in each)
    pd.testing.assert_frame_equal(plain, of_agent_seed, check_exact=True)
    assert plain["arrival"].equals(choice["arrival"])
    assert not plain["consumed"].equals(choice["consumed"])


def test_seeds_of_the_latent_dice():
    """Of all arrivals and items: the agent's seed moves none, the choice seed all, the arrivals' seed their visits."""
    each = (Seeds(), Seeds(agent=1), Seeds(choice=1), Seeds(arrivals=1))
    markets = [Market(small_scenario(rounds=1), seeds=seeds) for seeds in each]
    all_items = np.tile(np.arange(markets[0].n_items), (markets[0].n_arrivals, 1))
    drawn = [market.open.visits(np.arange(len(all_items))).uniform(all_items) for market in markets]
    (ids, dice), agent, choice, arrivals = zip((opened.schedule.id for opened in markets), drawn, strict=True)
    np.testing.assert_array_equal(agent[0], ids)
    np.testing.assert_array_equal(agent[1], dice)
    np.testing.assert_array_equal(choice[0], ids)
    assert (choice[1] != dice).all()
    assert (arrivals[0] != ids).mean() > 0.9
    assert (arrivals[1] != dice).any(1).mean() > 0.9
    common_ids, first_rows, second_rows = np.intersect1d(ids, arrivals[0], return_indices=True)
    assert 5 < len(common_ids) < len(ids)
    # The key of a draw is the visit.
    np.testing.assert_array_equal(arrivals[1][second_rows], dice[first_rows])


def test_the_same_run_twice_or_in_waves_is_the_same():
    """Same config and seeds, same ledger; so is that of serving out of clock order in waves."""
    config = small_scenario(platform=PlatformConfig(model="gru-hp(width=8,epochs=2)"), rounds=2)
    same_ledgers(played(config), played(config))
    agent = make_agent("relevance")
    agent.order_free = False
    same_ledgers(play_out(Market(small_scenario()), agent, 50), played(small_scenario()))


@pytest.fixture(scope="module")
def futures(tmp_path_factory):
    """Two logs on disk that differ in what is consumed after a replay's market opens, and in nothing else."""
    log = load(min_item_events=120)
    future = np.flatnonzero(log.time >= Market(small_replay(rounds=1)).world.opening)
    scrambled = log.item.copy()
    scrambled[future] = np.random.default_rng(0).permutation(scrambled[future])
    files = [tmp_path_factory.mktemp("futures") / name for name in ("as-it-was.csv", "scrambled.csv")]
    user = log.users["id"].to_numpy()[log.user]
    items = log.items["id"].to_numpy()
    for file, item in zip(files, (log.item, scrambled), strict=True):
        write_events(file, user, items[item], log.time)
    return files


@pytest.mark.parametrize("model", ["popularity-hp", "als-hp"])
@pytest.mark.parametrize("name", ["relevance", "rim-dual", "rim-feedback", "entropic-dual"])
def test_nobody_sees_the_future(futures, model, name):
    """With another future in the log, all fits, prices, scores and slates are the same until a user returns."""
    config = small_replay(rounds=1, platform=PlatformConfig(model=model))
    sources = [DataConfig(source=str(file), min_item_events=1) for file in futures]
    markets = [Market(dataclasses.replace(config, data=data)) for data in sources]
    agents = [make_agent(name) for _ in markets]
    for market, agent in zip(markets, agents, strict=True):
        agent.begin_round(market.round_view())
    seen: set[int] = set()
    alike = 0
    moved = False
    while not markets[0].done:
        arrivals = [market.next_arrivals(1) for market in markets]
        slates = [agent.act(arrival) for agent, arrival in zip(agents, arrivals, strict=True)]
        user = int(arrivals[0].user[0])
        shown = [getattr(slate, "items", slate) for slate in slates]
        if user in seen:  # its state holds what it consumed, and prices follow what it was shown
            moved |= not np.array_equal(*shown)
        else:
            assert torch.equal(arrivals[0].intensity, arrivals[1].intensity)
            assert moved or np.array_equal(*shown)
            alike += 1
        seen.add(user)
        for market, arrival, slate in zip(markets, arrivals, slates, strict=True):
            market.serve(arrival, slate)
    assert alike > 20


@pytest.mark.parametrize("model", ["popularity-hp", "als-hp"])
@pytest.mark.parametrize("name", ["relevance", "rim-dual", "rim-feedback", "entropic-dual", "popularity"])
def test_scrambled_truth_changes_no_slate(model, name):
    """Agents never see the truth: where nobody returns, other truth parameters change no slate of round 0."""
    once = ArrivalsConfig(per_round=60, max_visits=1)
    platform = PlatformConfig(model=model)
    consumer = ConsumerConfig(truth="factors")
    config = small_scenario(rounds=1, arrivals=once, platform=platform, consumer=consumer)
    market = Market(config)
    truth = market.world.truth
    strangers = tuple(part.flip(0) for part in truth.users)
    sizes = dataclasses.replace(truth.sizes, effect=truth.sizes.effect[::-1].copy())
    scrambled_truth = dataclasses.replace(truth, users=strangers, sizes=sizes)
    scrambled = dataclasses.replace(market.world, truth=scrambled_truth)
    usual_ledger = ledgers(played(config, name))
    scrambled_ledger = ledgers(played(config, name, world=scrambled))
    assert usual_ledger["arrival"].nunique() == 60
    for column in ("arrival", "item", "intensity", "price", "propensity"):
        pd.testing.assert_series_equal(usual_ledger[column], scrambled_ledger[column], check_exact=True)
    assert not usual_ledger["consumed"].equals(scrambled_ledger["consumed"])


def test_relevance_sums_to_one_over_admissible_items(scenario):
    """p(y|x) is a distribution over what may be shown, and 0 elsewhere."""
    arrivals = Market(scenario).next_arrivals(20)
    assert arrivals.relevance.sum(1).numpy() == pytest.approx(np.ones(len(arrivals)), abs=1e-5)
    assert float(arrivals.relevance[~arrivals.admissible].abs().sum()) == 0.0
    assert (arrivals.ground_intensity > 0).all()


def test_nothing_served_after_the_end_closes_no_round():
    """A batch of no arrivals leaves a market that is over as it is."""
    market = played(small_scenario(rounds=1))
    market.show(np.zeros(0, np.int64), Slates(np.zeros((0, 5), np.int64)), empty=True)
    assert (len(market.closed), market.round) == (1, 1)


def test_clones_are_alike_without_history():
    """With no history first visits have one score, and all is admissible."""
    market = Market(small_scenario(arrivals=ArrivalsConfig(per_round=60, history="none")))
    arrivals = market.next_arrivals(40)
    assert (arrivals.relevance == arrivals.relevance[0]).all()
    assert arrivals.admissible.all()


def test_a_replay_brings_the_logs_sessions_and_their_items_are_its_hits():
    """Those after the warm-up come in order; an item is consumed if and only if its session holds it."""
    market = Market(small_replay())
    sessions = market.world.sessions
    late = np.flatnonzero(sessions.start >= market.world.opening)[:80]
    assert (market.schedule.session == late).all()
    assert market.schedule.tick / 1e6 == pytest.approx(sessions.start[late])
    market = played(small_replay(), "popularity")
    sessions = market.world.sessions
    log = market.world.log
    for closed in market.closed:
        for row, session in enumerate(closed.ledger.schedule.session.tolist()):
            session_items = set(log.item[sessions.of_event == session].tolist())
            shown = closed.ledger.item[row]
            assert closed.ledger.consumed[row].tolist() == [int(item) in session_items for item in shown]


def test_without_a_window_all_is_retrained_on():
    """The log is then the warm-up and all consumptions so far."""
    platform = PlatformConfig(model="popularity-hp", log_window=LogWindow(rounds=None, warmup="all"))
    market = played(small_scenario(platform=platform), "random")
    warm = len(market.world.past)
    eaten = [int(closed.ledger.consumed.sum()) for closed in market.closed]
    sizes = [int(closed.log_counts.sum()) for closed in market.closed]
    assert sizes == (warm + np.cumsum(eaten)).tolist()


@cases(
    "slates message",
    (lambda a, m: np.zeros((len(a), 2), np.int64), r"shape \(3, 2\). Expected \(3, 5\)"),
    (lambda a, m: np.full((len(a), 5), 0.5), r"type float64. Expected shape \(n, k\) and whole numbers"),
    (lambda a, m: np.full((len(a), 5), m.n_items), "inadmissible item"),
    (lambda a, m: np.repeat(a.relevance.argmax(1).numpy()[:, None], 5, 1), "repeated item"),
    (lambda a, m: np.tile(np.flatnonzero(~a.admissible[0].numpy())[:5], (len(a), 1)), "inadmissible"),
)
def test_slates_that_are_none_are_refused(slates, message):
    """Wrong shapes, types, repeats and inadmissible items are errors that name arrival and position."""
    market = Market(small_scenario(arrivals=ArrivalsConfig(per_round=120, draw="users")))
    arrivals = market.next_arrivals(3)
    refused(AgentError, message, market.serve, arrivals, slates(arrivals, market))


def test_arrivals_are_served_once():
    """Serving the same arrivals twice, or asking for more than can come before they are served, is an error."""
    market = Market(small_scenario())
    arrivals = market.next_arrivals(3)
    market.serve(arrivals, Slates(np.full((len(arrivals), 5), -1)))
    refused(MarketError, "not waiting", market.serve, arrivals, Slates(np.full((len(arrivals), 5), -1)))
    refused(MarketError, "at least 1", market.next_arrivals, 0)


ALL = ArrivalsConfig(kind="broadcast", per_round=5000)


@cases(
    "make change error message",
    (small_scenario, {"consumer": ConsumerConfig(kind="replay")}, ConfigError, "are not sessions of the log"),
    (small_replay, {"rounds": 99}, DataError, "99 rounds of 80 arrivals each"),
    (small_broadcast, {"arrivals": ALL}, ConfigError, "or null for all users"),
    (small_cold_start, {"releases": ReleasesConfig(0.2, 2, 1)}, ConfigError, "first_round"),
)
def test_markets_that_cannot_be_played_are_refused(make, change, error, message):
    """Clones without a logged future to hit, more rounds than sessions, more addressees than users, late releases."""
    refused(error, message, lambda: Market(make(**change)))


@cases("name delay", ("relevance", None), ("rim-feedback", None), ("rim-feedback", "5d"))
def test_a_market_goes_on_from_its_saved_state(scenario, name, delay, tmp_path):
    """Saved to disk between rounds and loaded into a new market, it ends with the same ledger, bit for bit."""
    config = dataclasses.replace(scenario, consumer=dataclasses.replace(scenario.consumer, delay=delay))
    same_ledgers(resumed(config, name, tmp_path / "state"), played(config, name))


def test_state_is_taken_between_rounds_and_of_the_first(tmp_path):
    """None in a round; a foreign or damaged one is refused; loaded into a market that moved on it is as at first."""
    market = Market(small_scenario())
    state = market.state
    market.next_arrivals(3)
    refused(MarketError, "under way", getattr, market, "state")
    refused(MarketError, "round 7", Market(small_scenario()).load_state, dataclasses.replace(state, round=7))
    refused(RunFolderError, "no state of a market can be read", MarketState.load, tmp_path)
    state.save(tmp_path / "kept")
    with np.load(tmp_path / "kept" / "state.npz") as archive:
        objects = {name: archive[name].astype(object) for name in archive.files}
    np.savez(tmp_path / "kept" / "state.npz", **objects)  # whose reading may run code
    refused(RunFolderError, "no state of a market can be read", MarketState.load, tmp_path / "kept")
    config = small_scenario(rounds=2)
    market = Market(config)
    agent = make_agent("relevance")
    state = market.state
    play_round(market, agent)
    market.load_state(state)
    same_ledgers(play_out(market, agent), played(config))


def test_a_log_that_begins_at_zero_is_like_one_that_begins_later(tmp_path):
    """Items that were always there are there before 1970 too: moving a log in time moves nothing else."""
    rng = np.random.default_rng(0)
    time = np.sort(rng.integers(0, 30 * 86_400, 1_000))
    user = rng.integers(0, 40, 1_000)
    item = rng.integers(0, 30, 1_000)
    shown = []
    for shift in (0, 1_500_000_000):
        path = write_events(tmp_path / f"{shift}.csv", user, item, time + shift)
        consumer = ConsumerConfig(truth="factors", rank=4)
        market = Market(small_scenario(data=DataConfig(source=str(path)), consumer=consumer, rounds=1))
        cost = market.cost
        play_round(market, make_agent("rim-feedback"))
        shown.append((cost, market.closed[0].ledger.item))
    assert shown[0][0] == pytest.approx(shown[1][0], rel=1e-3)
    assert (shown[0][1] == shown[1][1]).mean() > 0.95  # λ(x) sees times whose floating digits differ


def test_costs_count_short_rows_and_models_live_where_their_marks_do():
    """A missing exposure has a price where most states have fewer than k items; RIM has to tell its device."""
    config = small_scenario(slate=95, arrivals=ArrivalsConfig(per_round=60))
    market = Market(config)
    short = [int(chunk.admissible.sum(1).min()) for chunk in market.round_view().calibration]
    assert min(short) < 95
    assert market.cost > 1e-9
    model, _ = layer_of(Market(small_scenario()).model)
    assert model.device == model.mark.device
