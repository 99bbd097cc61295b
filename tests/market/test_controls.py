"""Controls: what a platform learns from in place of its own rounds, and what retraining does in parts."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from kit import cases, markets, refused

from rimsim import measures
from rimsim.agents import make_agent, market_for, play_round
from rimsim.arrays import ticks
from rimsim.config import ArrivalsConfig, ConsumerConfig, LogWindow, PlatformConfig, Seeds, override
from rimsim.errors import ArmsError, ConfigError, MarketError
from rimsim.market import MarketState, build_world
from rimsim.market.controls import AsLogged, Shadowed, replica_seeds
from rimsim.market.histories import LoggedPast
from rimsim.scenarios import compare
from rimsim.scenarios.report import loop
from rimsim.scenarios.report.comparison import result_tables
from rimsim.scenarios.report.console import markdown
from rimsim.scenarios.report.picture_tables import PictureTables
from rimsim.scenarios.runs.digests import digest
from rimsim.scenarios.study.compare import resume
from rimsim.scenarios.study.controls import shadow_of
from rimsim.tracking import read_scalars, summary_folder

SEEDS = Seeds.all(3)


def _config(learning="impressions", **changes):
    """A small market whose platform depends on the states, and whose consumers take more than in others."""
    window = LogWindow(rounds=2, size=600)
    platform = PlatformConfig(model="ease-hp", learning=learning, log_window=window)
    usual = {"platform": platform, "consumer": ConsumerConfig(attraction=3.0)}
    return markets.small_scenario(**(usual | changes))


def _played(config, agent, control=None, batch=None):
    market = market_for(make_agent(agent), config, seeds=SEEDS, control=control)
    acting = make_agent(agent)
    return markets.play_out(market, acting, batch)


def _sizes(market):
    return [closed.learnt_events for closed in market.closed]


def _shadow(config, folder):
    return shadow_of(config, 3, folder, lambda _: None)


def _control(kind, config, sizes, folder):
    if kind == "random":
        return Shadowed(_shadow(config, folder), sizes)
    return AsLogged(config, build_world(config), SEEDS, sizes)


@pytest.mark.parametrize("learning", ["impressions", "consumed", "ips"])
def test_an_arm_that_is_random_is_its_own_control_to_the_last_bit(learning, tmp_path):
    """What the platform's model says in every later round, and its log, are those of the arm itself."""
    config = _config(learning)
    arm = _played(config, "random")
    control = _played(config, "random", Shadowed(_shadow(config, tmp_path), _sizes(arm)))
    pd.testing.assert_frame_equal(markets.ledgers(control), markets.ledgers(arm), check_exact=True)
    for control_round, arm_round in zip(control.closed, arm.closed, strict=True):
        np.testing.assert_array_equal(control_round.log_counts, arm_round.log_counts)


@pytest.mark.parametrize("kind", ["random", "organic"])
@pytest.mark.parametrize("market", ["clones", "users", "broadcast", "no-history"])
def test_a_controls_log_is_as_large_as_the_arms(market, kind, tmp_path):
    """In every round as many events as the arm had, and so the same number of events in the whole log."""
    config = {
        "clones": _config(),
        "users": _config(arrivals=ArrivalsConfig(per_round=80, draw="users")),
        "broadcast": markets.small_broadcast(consumer=ConsumerConfig(attraction=3.0)),
        "no-history": _config(arrivals=ArrivalsConfig(per_round=80, history="none")),
    }[market]
    arm = _played(config, "relevance")
    control = _played(config, "relevance", _control(kind, config, _sizes(arm), tmp_path))
    assert min(_sizes(arm)) > 0
    assert _sizes(control) == _sizes(arm)
    # Warm-up users top both logs up to a number of events: the same users, since they lack the same number.
    sums = [[closed.log_counts.sum() for closed in market.closed] for market in (control, arm)]
    assert sums[0] == sums[1]
    later = control.closed[1].ledger.intensity
    of_arm = arm.closed[1].ledger.intensity
    assert not np.array_equal(later, of_arm, equal_nan=True)


def test_events_of_random_slates_are_taken_in_order(tmp_path):
    """The first n of all replicas one after the other, and the slates up to the last of them."""
    config = _config()
    replica = _shadow(config, tmp_path)
    pasts = [replica(number)[1] for number in range(3)]
    counts = [int(past.histories.events.size[0]) for past in pasts]
    n_events = counts[0] + counts[1] // 2
    learnt = Shadowed(replica, [0, n_events]).learnt(pasts[0])
    expected = []
    for number, past in enumerate(pasts[:2]):
        slots, tick, items = (column.tolist() for column in past.histories.all_events())
        events = sorted(zip(tick, slots, items, strict=True), key=lambda event: event[:2])
        events = [
            (number, event_tick, item, past.schedule.log_user[slot]) for event_tick, slot, item in events
        ]
        expected += events[: n_events - len(expected)]
    slots, tick, items = learnt.histories.all_events()
    assert len(items) == n_events
    learnt_events = zip(tick.tolist(), items.tolist(), learnt.schedule.log_user[slots].tolist(), strict=True)
    assert sorted(learnt_events) == sorted((event_tick, item, user) for _, event_tick, item, user in expected)
    assert learnt.shown.taken.sum() == n_events
    last = max(event_tick for number, event_tick, _, _ in expected if number == 1)
    rows = len(pasts[0].schedule) + int((pasts[1].shown.settled <= last).sum())
    assert len(learnt.schedule) == len(learnt.shown.item) == rows
    assert (np.diff(learnt.schedule.tick) >= 0).all()
    assert len(np.unique(learnt.schedule.id)) == rows
    _no_consumption_becomes_a_refusal(learnt, pasts[:2])


def _no_consumption_becomes_a_refusal(learnt, replicas):
    """Items consumed beyond the wanted number are no impressions at all, rather than impressions without success."""
    shown = {}
    for past in replicas:
        for slate, taken, user, tick in _slates(past):
            shown.setdefault((user, tick, slate), []).append(taken)
    for slate, taken, user, tick in _slates(learnt):
        filled = [item for item in slate if item >= 0]
        origins = [
            dict(zip(items, consumed, strict=True))
            for (shown_user, shown_tick, items), outcomes in shown.items()
            for consumed in outcomes
            if (shown_user, shown_tick) == (user, tick) and set(filled) <= set(items)
        ]
        mine = {item: bool(took) for item, took in zip(slate, taken, strict=True) if item >= 0}
        assert any(all(origin[item] == took for item, took in mine.items()) for origin in origins)


def _slates(past):
    """Slates of a round, each with what was taken, and the visitor and the tick that it was shown to."""
    schedule = past.schedule
    users = schedule.log_user[schedule.slot]
    for row in range(len(schedule)):
        slate = tuple(past.shown.item[row].tolist())
        yield slate, past.shown.taken[row].tolist(), int(users[row]), int(schedule.tick[row])


def test_each_replica_of_the_organic_control_has_sessions_of_its_own():
    """Where the visits' own sessions do not suffice, every further replica samples other sessions of the log."""
    config = _config()
    past = _played(config, "relevance").closed[1].learnt
    control = AsLogged(config, build_world(config), SEEDS, [0, 10**9])
    users = [control._logged(past, replica, 10**6).schedule.log_user for replica in range(4)]
    for first, second in itertools.combinations(users, 2):
        assert not np.array_equal(first, second)


def test_organic_events_are_those_of_the_visitors_logged_sessions():
    """Events are drawn alike from the sessions that visits stand for; beyond the round they are known at its end."""
    config = _config(arrivals=ArrivalsConfig(per_round=120, max_visits=3, round_length="1h"))
    arm = _played(config, "relevance")
    world = build_world(config)
    past = arm.closed[1].learnt
    learnt = AsLogged(config, world, SEEDS, [0, 150]).learnt(past)
    slots, tick, items = learnt.histories.all_events()
    assert len(slots) == 150 == len(set(zip(slots.tolist(), items.tolist(), strict=True)))
    assert (tick > learnt.schedule.tick[0]).all()
    assert tick.max() == learnt.schedule.stop - 1
    assert slots.mean() == pytest.approx(learnt.schedule.slot.max() / 2, rel=0.3)
    log = LoggedPast.of(world.past)
    sessions = world.past_sessions
    for slot, item in zip(slots.tolist(), items.tolist(), strict=True):
        user = learnt.schedule.log_user[slot]
        before = learnt.schedule.logged[slot]
        mine = np.flatnonzero(sessions.user == user)
        mine = mine[np.argsort(sessions.start[mine])]
        sizes = sessions.count[mine]
        (at,) = np.flatnonzero(np.cumsum(sizes) - sizes == before)
        first = log.offsets[user] + before
        assert item in log.items[first : first + sizes[at]]
        begin = ticks(sessions.start[mine[at]] + learnt.schedule.shift[slot])
        assert begin == pytest.approx(learnt.schedule.tick[learnt.schedule.slot == slot].min(), abs=1)


@pytest.mark.parametrize("kind", ["random", "organic"])
def test_a_control_goes_on_from_its_saved_state(kind, tmp_path):
    """Saved between rounds and loaded into a new market, it ends with the same ledger, bit for bit."""
    config = _config(rounds=4)
    name = "rim-feedback"
    sizes = _sizes(_played(config, name))
    agents = [make_agent(name) for _ in range(3)]
    controls = [_control(kind, config, sizes, tmp_path) for _ in agents]
    pairs = zip(agents, controls, strict=True)
    uninterrupted, first, continued = (
        market_for(agent, config, seeds=SEEDS, control=control) for agent, control in pairs
    )
    markets.play_out(uninterrupted, agents[0])
    for _ in range(2):
        play_round(first, agents[1])
    first.state.save(tmp_path / "kept")
    continued.load_state(MarketState.load(tmp_path / "kept"))
    markets.play_out(continued, agents[2], 7)
    continued.closed[:0] = first.closed
    pd.testing.assert_frame_equal(
        markets.ledgers(continued), markets.ledgers(uninterrupted), check_exact=True
    )


def test_a_control_is_refused_where_visitors_stay_or_yield_nothing(tmp_path):
    """In a replay replicas could not be told apart; consumers who take nothing at random cannot fill a log."""
    config = markets.small_replay()
    control = AsLogged(config, build_world(config), SEEDS, [9, 9])
    said = "has the same visitors in every round"
    refused(ConfigError, said, market_for, make_agent("relevance"), config, control=control)
    past = _shadow(_config(rounds=1), tmp_path)(0)[0]
    empty = dataclasses.replace(past, histories=past.histories.copy())
    empty.histories.events.size[0] = 0
    empty.histories.events.counts[:] = 0
    refused(MarketError, "0 of the 5 events that the arm has", Shadowed(lambda _: [empty], [5]).learnt, past)
    assert replica_seeds(SEEDS, 0) == SEEDS
    assert len({replica_seeds(SEEDS, number) for number in range(20)}) == 20


CONTROLS = ("frozen", "random", "organic", "static", "yoked")
CONFIG = _config()
AGENTS = ("relevance", "random")
WORDS = {"rounds": 3, "seeds": 2, "control": CONTROLS, "frozen": AGENTS, "certify": False, "workers": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two agents with all controls."""
    return compare(CONFIG, AGENTS, out=tmp_path_factory.mktemp("controls") / "run", **WORDS)


def _made_up(arms, seeds=3, rounds=2, metric="coverage"):
    draws = np.random.default_rng(0)
    return pd.DataFrame(
        [
            (*arm_seed_round, metric, draws.random())
            for arm_seed_round in itertools.product(arms, range(seeds), range(rounds))
        ],
        columns=["agent", "seed", "round", "metric", "value"],
    )


@cases(
    "controls names",
    ((), []),
    (("frozen",), ["all"]),
    (("random",), ["loop"]),
    (("organic",), ["data+loop"]),
    (("frozen", "random"), ["retraining+data", "loop", "all"]),
    (("frozen", "organic"), ["retraining", "data+loop", "all"]),
    (("organic", "random"), ["data", "loop"]),
    (("frozen", "organic", "random"), ["retraining", "data", "loop", "all"]),
    (("random", "static"), ["selection", "feedback"]),
    (("organic", "static"), ["data+selection", "feedback"]),
    (("frozen", "static", "yoked"), ["retraining+data+selection", "feedback", "all", "own-history"]),
    (CONTROLS, ["retraining", "data", "selection", "feedback", "all", "own-history"]),
)
def test_parts_are_those_that_the_controls_tell(controls, names):
    """Where a control is missing, the parts on its two sides are told as one."""
    arms = ["mine", *(f"mine-{control}" for control in controls), "other"]
    assert [(part.agent, part.name) for part in loop.parts_of(arms)] == [("mine", name) for name in names]


def test_a_part_is_the_paired_difference_and_the_parts_add_up():
    """At each round: mean and interval over the seeds that all arms of the agent have; the sum is self − frozen."""
    arms = ["mine", *(f"mine-{control}" for control in CONTROLS)]
    table = _made_up(arms).sample(frac=1, random_state=1)
    table = table[~((table["agent"] == "mine-organic") & (table["seed"] == 2))]
    parts = loop.decomposition(table, arms, ["coverage", "utility"], ["round"])
    value = table.set_index(["agent", "round", "seed"])["value"].sort_index()
    pairs = {"all": ("mine", "mine-frozen"), "feedback": ("mine", "mine-static")}
    pairs |= {"own-history": ("mine", "mine-yoked"), "selection": ("mine-static", "mine-random")}
    pairs |= {"data": ("mine-random", "mine-organic"), "retraining": ("mine-organic", "mine-frozen")}
    assert len(parts) == 12
    for row in parts.itertuples():
        minuend, subtrahend = (value[arm, row.round][:2].to_numpy() for arm in pairs[row.part])
        expected = measures.paired_difference(minuend, subtrahend)
        interval = (expected.mean, expected.low, expected.high, 2)
        assert (row.mean, row.low, row.high, row.n) == pytest.approx(interval)
    wide = parts.pivot(index="round", columns="part", values="mean")
    steps = wide[["retraining", "data", "selection", "feedback"]]
    np.testing.assert_allclose(steps.sum(axis=1), wide["all"], atol=1e-15)
    assert dict(zip(parts["part"], parts["difference"], strict=True))["feedback"] == "self − static"


def test_a_failed_arm_of_another_agent_takes_no_seed_away():
    """Parts of an agent use the seeds that its own arms have; another agent's missing seed does not matter."""
    arms = ["relevance", "relevance-frozen", "mine", "mine-frozen"]
    rounds = _made_up(arms, metric="coverage")
    failed = (rounds["agent"] == "mine") & (rounds["seed"] == rounds["seed"].max())
    parts = loop.decomposition(rounds[~failed], arms, ["coverage"], ["round"])
    n_seeds = rounds["seed"].nunique()
    assert set(parts.loc[parts["agent"] == "relevance", "n"]) == {n_seeds}
    assert set(parts.loc[parts["agent"] == "mine", "n"]) == {n_seeds - 1}
    by_seed = loop.parts_by_seed(rounds[~failed], arms, ["coverage"])
    assert by_seed[by_seed["agent"] == "relevance"]["seed"].nunique() == n_seeds


def test_the_picture_draws_each_part_of_each_agent():
    """A panel an agent and metric, a line a part; the title tells of feedback and of all."""
    arms = [arm for agent in ("relevance", "mine") for arm in (agent, *(f"{agent}-{c}" for c in CONTROLS))]
    rounds = pd.concat([_made_up(arms, metric=metric) for metric in ("coverage", "utility")])
    shift = rounds["agent"].isin(["relevance", "mine"]) & (rounds["round"] == 1)
    rounds.loc[shift, "value"] -= 9.0
    figure = loop.decomposed(PictureTables(rounds=rounds, n_items=5))
    panels = [ax for ax in figure.axes if ax.get_title(loc="left")]
    titles = itertools.product(("relevance", "mine"), ("Catalogue coverage", "Utility"))
    assert [ax.get_title(loc="left") for ax in panels] == ["\n".join(title) for title in titles]
    parts = loop.decomposition(rounds, arms, ["coverage"], ["round"])
    # Few seeds are lines without markers.
    means = [line for line in panels[0].lines[1:] if line.get_marker() != "None"]
    drawn = {tuple(np.round(line.get_ydata(), 9)) for line in means}
    expected_means = parts[parts["agent"] == "relevance"].groupby("part")["mean"]
    assert drawn == {tuple(np.round(curve.to_numpy(), 9)) for _, curve in expected_means}
    title = loop.effect_of_retraining(parts[parts["round"] == 1], "round 1")
    assert title.startswith("Feedback costs relevance 927 points")
    assert title.endswith("; the effect of all of retraining is not significant")


def test_an_arm_that_is_random_has_no_loop_to_the_last_bit(run, tmp_path):
    """Its selection and feedback are 0 in every measure, round and seed; controls leave the other arms alone."""
    rounds = run.rounds.pivot(index=["seed", "round", "metric"], columns="agent", values="value")
    for control in ("random", "static"):
        mine = rounds["random"]
        other_values = rounds[f"random-{control}"]
        pd.testing.assert_series_equal(mine, other_values, check_names=False, check_exact=True)
        assert not rounds["relevance"].equals(rounds[f"relevance-{control}"])
    assert not rounds["relevance"].equals(rounds["relevance-yoked"])
    assert not rounds["relevance-static"].equals(rounds["relevance-yoked"])
    alone = compare(CONFIG, AGENTS, out=tmp_path / "alone", **WORDS | {"frozen": ()})
    for name in ("rounds", "ledger", "learnt"):
        mine, other_values = (getattr(result, name) for result in (run, alone))
        mine = mine[mine["agent"].isin(AGENTS)].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, other_values, check_exact=True)


def test_tables_and_event_files_tell_the_parts(run):
    """Controls are arms by name; the report has a row a part; event files have its mean, lowest and highest."""
    assert run.agents == [*AGENTS, *(f"{agent}-{control}" for agent in AGENTS for control in CONTROLS)]
    for table in (run.rounds, run.ledger, run.arrivals, run.learnt):
        assert set(table["agent"]) == set(run.agents)
    text = markdown(result_tables(run))
    steps = ("retraining (organic − frozen)", "data (random − organic)", "selection (static − random)")
    for words in (*steps, "feedback (self − static)"):
        assert text.count(f"| {words} |") == 2
    parts = loop.decomposition(run.rounds, run.agents, ["coverage"], ["round"])
    feedback = parts[(parts["agent"] == "relevance") & (parts["part"] == "feedback")].set_index("round")
    series = read_scalars(summary_folder(run.folder, "relevance"))
    seeds = loop.parts_by_seed(run.rounds, run.agents, ["coverage"])
    seeds = seeds[(seeds["agent"] == "relevance") & (seeds["part"] == "feedback")]
    of_round = seeds.groupby("round")["value"].agg(["mean", "min", "max"])
    pd.testing.assert_series_equal(of_round["mean"], feedback["mean"])
    assert (of_round["min"] < of_round["max"]).any()
    for tag, column in (("mid", "mean"), ("low", "min"), ("high", "max")):
        points = series[f"zz_bands/coverage/feedback/{tag}"]
        assert [point.value for point in points] == pytest.approx(of_round[column].to_list(), abs=1e-6)
    assert series["1_retraining/coverage/feedback"] == series["zz_bands/coverage/feedback/mid"]


def test_results_do_not_depend_on_workers_batches_or_interruption(tmp_path, monkeypatch):
    """Two workers with small batches, and a run that ends after each arm's first round, leave the same."""
    agents = AGENTS[:1]
    words = WORDS | {"seeds": 1, "rounds": 2, "frozen": agents, "certify": True}
    config = override(CONFIG, {"platform.learning": "impressions"})
    run = compare(config, agents, out=tmp_path / "whole", **words)
    on_workers = compare(config, agents, out=tmp_path / "two", **words | {"workers": 2, "batch_size": 7})
    assert digest(on_workers) == digest(run)

    with markets.stopped_after_a_round(monkeypatch):
        message = "at seed 0 is not complete"
        refused(ArmsError, message, compare, config, agents, out=tmp_path / "stopped", **words)
        # In the controls' first round: the agents' are over.
        refused(ArmsError, "enough", resume, tmp_path / "stopped", workers=1)
    assert digest(resume(tmp_path / "stopped", workers=1)) == digest(run)
    assert not (tmp_path / "stopped" / "state").exists()


FROZEN = PlatformConfig(model="popularity-hp", retrain=False)


@cases(
    "config words message",
    (CONFIG, {"control": ["frosen"]}, "'frozen'"),
    (CONFIG, {"control": ["random", "random"]}, "twice"),
    (markets.small_replay(), {"control": ["organic"]}, "same visitors in every round"),
    (markets.small_scenario(platform=FROZEN), {"control": ["random"]}, "needs retraining"),
)
def test_what_cannot_be_controlled_is_refused(config, words, message, tmp_path):
    """Before anything is written."""
    options = {"seeds": 1, "out": tmp_path / "run", "frozen": ["relevance"]} | words
    refused(ConfigError, message, compare, config, ("relevance",), **options)
    assert not (tmp_path / "run").exists()
