"""Items that visitors may take again: against a market in plain Python, in any batches and in the environment."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kit import calls_of, cases, refused
from kit.logs import log_of
from kit.markets import ledgers, played, resumed, same_ledgers, settings_of

from rimsim import rng
from rimsim.agents import make_agent
from rimsim.agents.play import rollout
from rimsim.arrays import NEVER, TICKS, ticks
from rimsim.config import Seeds, scenario_from
from rimsim.config.fields import duration_seconds
from rimsim.envs import MarketEnv
from rimsim.errors import AgentError, ConfigError
from rimsim.intensity.impressions import layer_of
from rimsim.intensity.states import UserStates
from rimsim.market import Market
from rimsim.market.controls import AsLogged, Shadowed
from rimsim.market.histories import Histories, LoggedPast, RepeatRule
from rimsim.market.past_round import PastRound
from rimsim.market.records import Schedule
from rimsim.market.scores.scorer import Scorer
from rimsim.market.slates import at_items
from rimsim.market.training_log import log_parts
from rimsim.market.world import build_world
from rimsim.rng import Purpose

DAY = 86_400
RULES = ("never", "always", "3d")
"""Rules of repeats: none, and the values of consumer.repeats."""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A log of 40 users with few favourite items each, most of whose events are repeated."""
    source = np.random.default_rng(5)
    rows = []
    for user in range(40):
        taste = source.dirichlet(np.full(24, 0.25))
        time = 1.5e9 + source.uniform(0, 5) * DAY
        for _ in range(source.integers(3, 8)):
            time += source.exponential(6) * DAY + 7200
            for _ in range(source.integers(1, 5)):
                time += 40
                rows.append((user, int(source.choice(24, p=taste)), int(time)))
    file = tmp_path_factory.mktemp("repeats") / "log.csv"
    pd.DataFrame(rows, columns=["user", "item", "time"]).to_csv(file, index=False)
    return str(file)


def scenario(path, rule, **changes):
    """Two rounds of eager clones that come back, under a rule of repeats."""
    repeats = {"data": {"repeats": "history"}, "consumer": {}}
    if rule != "never":
        repeats = {"data": {"repeats": "consume"}, "consumer": {"repeats": rule}}
    fields = {
        "rounds": 2,
        "slate": 4,
        "data": {"source": path} | repeats["data"],
        "arrivals": {"per_round": 60, "max_visits": 6, "draw": "users"},
        "consumer": {"truth": "bag", "attraction": 8.0} | repeats["consumer"],
        "platform": {"model": "bag-visits", "learning": "consumed"},
    }
    for name, value in changes.items():
        room, _, field = name.partition("__")
        fields[room] = fields[room] | {field: value} if field else value
    return scenario_from(fields)


def gap_of(rule):
    """Ticks until an item may be taken again."""
    gaps = {"never": NEVER, "always": 0}
    return gaps[rule] if rule in gaps else int(ticks(duration_seconds(rule)))


def as_states(events, now):
    """One state with events (item, seconds), for a model."""
    items = np.array([item for item, _ in events], np.int64)
    times = np.array([time for _, time in events], np.float64)
    return UserStates(np.array([0, len(events)]), items, times, np.array([now], np.float64))


def renewed(values, is_admissible):
    """Values of admissible items, as shares."""
    shares = np.where(is_admissible, values, 0.0)
    return shares / shares.sum()


def by_hand(market, model, rule, delay, schedule):
    """Rows of a ledger (row, position, item, taken, chance), in which each rule is computed from lists of events."""
    world = market.world
    config = market.config
    wait = 1 + int(delay * TICKS)
    gap = gap_of(rule)
    taken = {slot: [] for slot in range(len(schedule.user))}
    grouped = world.past.by_user
    rows = []
    for row in range(len(schedule)):
        slot = int(schedule.slot[row])
        now = int(schedule.tick[row])
        user = int(schedule.log_user[slot])
        places = grouped[world.past.offsets[user] : world.past.offsets[user + 1]]
        logged = [(int(world.past.item[at]), world.past.time[at] + schedule.shift[slot]) for at in places]
        if schedule.logged is not None:
            logged = logged[: schedule.logged[slot]]
        known = [event for event in taken[slot] if event[1] + wait <= now]
        # What the platform admits depends on what it knows; what the visitor takes depends on all that it has taken.
        last_known = {item: int(ticks(time)) for item, time in logged} | dict(known)
        last = last_known | dict(taken[slot])
        may_be_shown = np.array([now - last_known.get(item, -NEVER) >= gap for item in range(market.n_items)])
        may_be_taken = np.array([now - last.get(item, -NEVER) >= gap for item in range(market.n_items)])
        visible = logged + [(item, (tick + wait) / TICKS) for item, tick in known]
        raw = model.score(as_states(visible, now / TICKS))[0].double().numpy()
        relevance = renewed(raw, may_be_shown)
        slate = np.argsort(-np.where(may_be_shown, relevance, -1.0), kind="stable")[: config.slate]
        all_events = logged + [(item, (tick + wait) / TICKS) for item, tick in taken[slot]]
        size_events = logged + [(item, tick / TICKS) for item, tick in taken[slot]]
        states = as_states(all_events, now / TICKS)
        share = renewed(world.truth.preference(np.array([user]), states)[0], may_be_taken)
        ground = world.truth.expected(np.array([user]), as_states(size_events, now / TICKS))[0]
        for position, item in enumerate(slate.tolist()):
            if not may_be_shown[item]:
                rows.append((row, position, -1, False, 0.0))
                continue
            examined = config.consumer.position_decay**position * config.consumer.attraction
            chance = 1 - math.exp(-ground * share[item] * examined)
            draw = rng.uniform(0, Purpose.CHOICE, int(schedule.id[row]), item)
            rows.append((row, position, item, bool(draw < chance), chance))
        taken[slot] += [(item, now) for _, _, item, is_taken, _ in rows[-config.slate :] if is_taken]
    return rows


@pytest.mark.parametrize("delay", [None, "1d"])
@pytest.mark.parametrize("rule", RULES)
def test_a_market_is_that_of_plain_python(path, rule, delay):
    """Admissible items, true chances and consumptions of a round under the first model, arrival by arrival."""
    config = scenario(path, rule, rounds=1, consumer__delay=delay)
    market = played(config)
    model, _ = layer_of(Market(config).model)
    closed = market.closed[0]
    ledger = closed.ledger
    expected = by_hand(market, model, rule, 0 if delay is None else duration_seconds(delay), closed.schedule)
    items = np.array([row[2] for row in expected]).reshape(ledger.item.shape)
    chances = np.array([row[4] for row in expected]).reshape(ledger.item.shape)
    consumed = np.array([row[3] for row in expected]).reshape(ledger.item.shape)
    np.testing.assert_array_equal(ledger.item, items)
    np.testing.assert_array_equal(ledger.consumed, consumed)
    np.testing.assert_allclose(ledger.probability, chances, rtol=1e-4, atol=1e-9)


def repeats_in(market):
    """Seconds between a visitor's consumption of an item and the next one of the same item, in the market alone."""
    table = ledgers(market)
    table = table[table["consumed"]]
    gaps = table.sort_values("time").groupby(["round", "user", "item"])["time"].diff()
    return gaps.dropna().to_numpy()


def test_the_rules_differ_as_they_say(path):
    """Nobody takes an item twice, anybody does, or after three days; and a slate never holds an item twice."""
    gaps = {rule: repeats_in(played(scenario(path, rule))) for rule in RULES}
    assert not len(gaps["never"])
    assert gaps["always"].min() < 3 * DAY
    assert len(gaps["3d"])
    assert gaps["3d"].min() >= 3 * DAY
    for rule in RULES:
        for closed in played(scenario(path, rule)).closed:
            items = np.sort(closed.ledger.item, axis=1)
            assert not ((items[:, 1:] == items[:, :-1]) & (items[:, 1:] >= 0)).any()


KINDS = {
    "clones": {},
    "delay": {"consumer__delay": "6h"},
    "impressions": {"platform__learning": "impressions"},
    "recurrent": {"platform__model": "gru-hp"},
    "propensities": {"platform__model": "ease-visits", "platform__learning": "ips"},
    "fixed truth": {"consumer__truth": "factors"},
    "hawkes": {"arrivals": {"kind": "hawkes", "per_round": 40, "options": {"kappa": 0.3}}},
    "replay": {
        "arrivals": {"kind": "replay", "per_round": 20, "warmup_share": 0.5},
        "consumer__kind": "replay",
    },
}
"""Kinds of markets with what differs from the scenario."""


@pytest.mark.parametrize("rule", RULES[1:])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_batches_and_the_environment_agree_to_the_bit(path, kind, rule):
    """One by one, seven at once, all at once, and by the compiled step of the environment."""
    config = scenario(path, rule, **KINDS[kind])
    agent = "entropic-dual" if kind == "propensities" else "relevance"
    market = played(config, agent)
    for limit in (1, 7):
        same_ledgers(market, played(config, agent, limit))
    env = MarketEnv(settings=settings_of(config))
    rollout(env, make_agent(agent), seed=0)
    same_ledgers(market, env.market)


@pytest.mark.parametrize("model", ["own-visits", "bag-habits-visits", "ease-visits"])
@pytest.mark.parametrize("kind", ["clones", "delay", "replay"])
def test_hidden_states_that_are_too_large_to_cache_change_nothing(path, kind, model, monkeypatch):
    """States that are encoded whenever they are scored give the ledger of cached states, in batches of any size."""
    config = scenario(path, "always", **(KINDS[kind] | {"platform__model": model}))
    cached = ledgers(played(config))
    caught_up = calls_of(monkeypatch, Scorer, "_store")
    monkeypatch.setattr("rimsim.intensity.contract.MOST_HIDDEN", 100)
    market = played(config)
    assert not caught_up
    encoded = ledgers(market)
    same_columns = ["round", "arrival", "position", "item", "consumed"]
    pd.testing.assert_frame_equal(encoded[same_columns], cached[same_columns])
    np.testing.assert_allclose(encoded["intensity"], cached["intensity"], rtol=2e-4)
    for limit in (1, 7):
        same_ledgers(market, played(config, "relevance", limit))
    env = MarketEnv(settings=settings_of(config))
    rollout(env, make_agent("relevance"), seed=0)
    same_ledgers(market, env.market)


def test_a_compiled_step_is_that_of_a_batch(path):
    """Actions alone, which compiled code serves where it can."""
    for rule in RULES[1:]:
        config = scenario(path, rule)
        market = played(config)
        env = MarketEnv(settings=settings_of(config), invalid_items="empty")
        env.reset(seed=0)
        for closed in market.closed:
            for slate in closed.ledger.item.astype(np.int64):
                env.step(slate)
        same_columns = ["arrival", "position", "item", "consumed", "intensity"]
        pd.testing.assert_frame_equal(ledgers(market)[same_columns], ledgers(env.market)[same_columns])


def test_a_resumed_market_keeps_its_rule(path, tmp_path):
    """A market that was saved after a round continues as if it had not been."""
    for rule in RULES[1:]:
        config = scenario(path, rule, **KINDS["impressions"])
        same_ledgers(played(config), resumed(config, "relevance", tmp_path / rule))


def test_an_item_of_a_replayed_session_counts_though_it_was_taken_before(path):
    """Hits of the oracle of a replay: all distinct items of a session fit into a slate of 24."""
    changes = KINDS["replay"] | {"slate": 24}
    hits = {}
    for rule in ("never", "always"):
        market = played(scenario(path, rule, **changes))
        hits[rule] = sum(int(closed.ledger.consumed.sum()) for closed in market.closed)
        if rule == "always":
            assert hits[rule] == sum(int(closed.relevant.sum()) for closed in market.closed)
    assert hits["never"] < hits["always"]


def test_known_answers_hold_for_an_item_that_may_be_taken_again(path, tmp_path):
    """Everybody likes six items: always all six, or those that the rule admits; a round's recall counts all of them."""
    answers = pd.DataFrame(
        [(user, item, 1) for user in range(40) for item in range(6)], columns=["user", "item", "value"]
    )
    answers.to_csv(tmp_path / "answers.csv", index=False)
    consumer = {"kind": "observed", "attraction": 1.0, "options": {"table": str(tmp_path / "answers.csv")}}
    for rule in RULES:
        repeats = {} if rule == "never" else {"repeats": rule}
        market = Market(scenario(path, rule, consumer=consumer | repeats))
        n_excluded = 0
        while market.round == 0:
            arrivals = market.next_arrivals()
            visits = market.open.visits(arrivals.row)
            liked = market.consumer.true_intensity(visits).numpy()
            expected = np.ones((len(arrivals), 6), bool)
            rows, items = visits.consumed() if rule == "never" else visits.inadmissible()
            is_liked = items < 6
            expected[rows[is_liked], items[is_liked]] = False
            np.testing.assert_array_equal(liked[:, :6] > 0, expected)
            n_excluded += int((~expected).sum())
            slates = np.tile(np.arange(4), (len(arrivals), 1))
            market.serve(arrivals, slates, invalid="empty")
        assert (n_excluded > 0) == (rule != "always")
        relevant = market.closed[0].relevant
        assert relevant.max() == 6
        if rule == "always":
            assert relevant.min() == 6


def test_a_gap_needs_a_log_whose_items_can_be_taken_again(path):
    """The error names both fields."""
    config = scenario(path, "never", consumer__repeats="3d")
    refused(ConfigError, r"consumer.repeats is '3d'.*Set data.repeats to 'consume'", build_world, config)


def test_a_slate_with_an_item_twice_is_refused(path):
    """Also where visitors may take it again."""
    market = Market(scenario(path, "always"))
    arrivals = market.next_arrivals(1)
    assert bool(arrivals.admissible.all())
    refused(AgentError, "repeated item 3", market.serve, arrivals, np.array([[3, 3, 1, 2]]))


@pytest.mark.parametrize("control", ["static", "organic"])
def test_a_control_learns_from_as_many_events_as_the_arm(path, control):
    """Replicas of the round have repeats, too; the events of a pair are told apart by their ticks."""
    config = scenario(path, "always", **KINDS["impressions"])
    world = build_world(config)
    arm = played(config, "random")
    sizes = [closed.learnt_events for closed in arm.closed]
    if control == "organic":
        source = AsLogged(config, world, Seeds(), sizes)
    else:
        other = played(config)
        rounds = [
            PastRound(closed.number, closed.schedule, closed.histories, closed.learnt.shown)
            for closed in other.closed
        ]
        source = Shadowed(lambda _: rounds, [size // 2 for size in sizes])
    for past in arm.platform.rounds:
        learnt = source.learnt(past)
        n_events = int(learnt.histories.events.size[0])
        assert n_events == sizes[past.number] // (1 if control == "organic" else 2)
        if learnt.shown is not None:
            assert int(learnt.shown.taken.sum()) == n_events


@pytest.mark.parametrize("rule", RULES[1:])
def test_past_states_have_the_scores_that_were_served(path, rule):
    """States that are encoded at once admit the shown items, and score them as the round did event by event."""
    for kind in ("clones", "recurrent", "delay"):
        for closed in played(scenario(path, rule, **KINDS[kind])).closed:
            for chunk in closed.states:
                items = closed.ledger.item[chunk.row].astype(np.int64)
                is_filled = items >= 0
                assert at_items(chunk.admissible, items)[is_filled].all()
                scores = at_items(chunk.intensity, items)[is_filled]
                np.testing.assert_allclose(scores, closed.ledger.intensity[chunk.row][is_filled], rtol=2e-4)


@cases(
    "gap excluded",
    (NEVER, {0, 1, 2, 3}),
    (0, set()),
    (10 * TICKS, {1}),
    (10 * TICKS + 1, {1, 2, 3}),
    (50 * TICKS, {1, 2, 3}),
    (100 * TICKS + 1, {0, 1, 2, 3}),
)
def test_a_gap_counts_from_the_consumption_to_the_tick(gap, excluded):
    """At second 100: items 0, 2 and 1 logged at 0, 90 and 95; item 3 taken in the market at 90, and known at 95."""
    log = log_of([0, 0, 0], [0, 2, 1], [0.0, 90.0, 95.0], 1, 4)
    rule = RepeatRule(gap=gap, wait=5 * TICKS)
    past = LoggedPast.of(log, rule=rule)
    zero = np.zeros(1, np.int64)
    schedule = Schedule(
        tick=np.array([100 * TICKS]),
        id=zero,
        slot=zero,
        user=zero,
        log_user=zero,
        shift=np.zeros(1),
        session=zero - 1,
        start=90 * TICKS,
        stop=200 * TICKS,
    )
    histories = Histories(schedule, past)
    histories.append(zero, np.array([95 * TICKS]), np.array([3]))
    now = schedule.tick
    counts = histories.visible_at(zero, now)
    scores = np.ones((1, 4), np.float32)
    admissible = np.ones((1, 4), bool)
    histories.exclude_consumed(zero, counts, now, scores, admissible)
    _, items = histories.inadmissible(zero, counts, now)
    by_kernel = set(np.flatnonzero(~admissible[0]).tolist())
    assert by_kernel == set(items.tolist()) == set(np.flatnonzero(scores[0] == 0).tolist()) == excluded


HISTORY = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 60)), max_size=25)


@settings(max_examples=60, deadline=None)
@given(HISTORY, HISTORY, st.integers(0, 40), st.integers(60, 90))
@example(logged=[], in_market=[(0, 0, 60)], gap=1, now=60)
def test_kernels_exclude_what_lists_of_events_exclude(logged, in_market, gap, now):
    """Random histories of three visitors, gaps and instants; and whether market events repeat an item."""
    log = log_of(*map(list, zip((0, 0, 0.0), *logged, strict=True)), users=3, items=6)
    rule = RepeatRule(gap=gap * TICKS, wait=2)
    slots = np.arange(3)
    schedule = Schedule(
        tick=np.full(3, now * TICKS),
        id=slots,
        slot=slots,
        user=slots,
        log_user=slots,
        shift=np.array([0.0, 1.5, -2.25]),
        session=slots * 0 - 1,
        start=0,
        stop=100 * TICKS,
    )
    histories = Histories(schedule, LoggedPast.of(log, rule=rule))
    for slot, item, time in in_market:
        histories.append(np.array([slot]), np.array([time * TICKS + 2]), np.array([item]))
    counts = histories.visible_at(slots, schedule.tick)
    admissible = np.ones((3, 6), bool)
    histories.exclude_consumed(slots, counts, schedule.tick, np.ones((3, 6), np.float32), admissible)
    shift = schedule.shift
    events = [
        (user, item, time + shift[user])
        for user, item, time in zip(log.user, log.item, log.time, strict=True)
    ]
    # A consumption of the market is known two ticks later, so one at this instant does not count yet.
    events += [(slot, item, float(time)) for slot, item, time in in_market if time * TICKS + 2 <= now * TICKS]
    expected = np.ones((3, 6), bool)
    for slot, item, time in events:
        if gap and round((now - time) * TICKS) < gap * TICKS:
            expected[slot, item] = False
    np.testing.assert_array_equal(admissible, expected)
    pairs = set(
        zip(*(part.tolist() for part in histories.inadmissible(slots, counts, schedule.tick)), strict=True)
    )
    assert pairs == set(zip(*(part.tolist() for part in np.nonzero(~expected)), strict=True))
    for end in range(int(counts.max(initial=0)) + 1):
        ends = np.minimum(counts, end)
        _, items = histories.between(slots, np.zeros(3, np.int64), ends)
        owner = np.repeat(slots, ends)
        has_repeat = histories.have_repeats(slots, np.zeros(3, np.int64), ends, 6)
        for slot in range(3):
            seen = log.item[log.user == slot].tolist()
            market_items = items[owner == slot].tolist()
            is_repeated = any(item in seen + market_items[:at] for at, item in enumerate(market_items))
            assert has_repeat[slot] == is_repeated


@settings(max_examples=40, deadline=None)
@given(HISTORY, st.booleans())
def test_consumptions_have_equal_numbers_if_they_are_the_same(events, forbids):
    """Keys of (pair, tick) among known ticks; of the pair alone where an item is taken once."""
    pair = np.array([10 * slot + item for slot, item, _ in events], np.int64)
    tick = np.array([time for _, _, time in events], np.int64)
    rule = RepeatRule() if forbids else RepeatRule(gap=0)
    keys = rule.keys(pair, tick, np.unique(tick[tick % 2 == 0]))
    for first in range(len(events)):
        for second in range(first):
            is_same_tick = tick[first] == tick[second] or (tick[first] % 2 == 1 and tick[second] % 2 == 1)
            is_same = pair[first] == pair[second] and (forbids or is_same_tick)
            assert (keys[first] == keys[second]) == is_same


@pytest.mark.parametrize("delay", [None, "6h"])
def test_training_weights_are_those_of_each_consumption(path, delay):
    """An item that a visitor took at two visits has the propensity of each visit, once it is known."""
    config = scenario(path, "always", rounds=1, consumer__delay=delay, **KINDS["propensities"])
    wait = 1 + (0 if delay is None else int(ticks(duration_seconds(delay))))
    market = played(config, "entropic-dual")
    assert len(repeats_in(market))
    past = market.platform.rounds[0]
    part = log_parts(config.platform, market.world.past, [past], past.schedule.stop, 0)[0]
    is_target = part.target
    assert is_target.sum() > 50
    row, position = np.nonzero(past.shown.taken)
    known_from = (past.schedule.tick[row] + wait).tolist()
    items = past.shown.item[row, position].tolist()
    propensities = past.shown.propensity[row, position].tolist()
    expected = dict(zip(zip(known_from, items, strict=True), propensities, strict=True))
    for item, time, propensity in zip(
        part.item[is_target], part.time[is_target], part.propensity[is_target], strict=True
    ):
        assert propensity == pytest.approx(expected[int(ticks(time)), int(item)])


@pytest.mark.parametrize("delay", [None, "12h"])
def test_measures_know_what_the_visitor_had_consumed(path, delay):
    """The mask of repeats is that of lists of events: logged ones, and consumptions at earlier visits."""
    market = played(scenario(path, "always", consumer__delay=delay), "random")
    for closed in market.closed:
        schedule = closed.schedule
        past = market.world.past
        had = {}
        for slot, user in enumerate(schedule.log_user.tolist()):
            places = past.by_user[past.offsets[user] : past.offsets[user + 1]]
            n_logged = len(places) if schedule.logged is None else schedule.logged[slot]
            had[slot] = set(past.item[places[:n_logged]].tolist())
        expected = np.zeros(closed.ledger.item.shape, bool)
        for row, slot in enumerate(schedule.slot.tolist()):
            for position, item in enumerate(closed.ledger.item[row].tolist()):
                expected[row, position] = item in had[slot]
            had[slot] |= set(closed.ledger.item[row][closed.ledger.consumed[row]].tolist())
        np.testing.assert_array_equal(closed.repeats, expected)
        assert 0 < closed.ledger.consumed[expected].sum() < closed.ledger.consumed.sum()
    assert played(scenario(path, "never"), "random").closed[0].repeats is None
