"""Processes: plugs that read and change the market at their own times."""

import dataclasses
import math
import runpy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import simpy
from kit import ROOT, refused
from kit.environments import make_env
from kit.markets import (
    ledgers,
    same_ledgers,
    settings_of,
    small_broadcast,
    small_cold_start,
    small_replay,
    small_run,
    small_scenario,
)

from rimsim.agents import make_agent, play_round, rollout
from rimsim.arrays import TICKS
from rimsim.config import ArrivalsConfig, ConsumerConfig, ExposureConfig, override
from rimsim.data import load
from rimsim.errors import ConfigError, ProcessError
from rimsim.market import Market
from rimsim.market.clock import Clock
from rimsim.market.processes import Demand, UnitStock
from rimsim.market.processes.demand import Window
from rimsim.market.processes.life import Life
from rimsim.testing import ProcessTests

HOUR = 3600.0
DAY = 24 * HOUR


class Idle:
    """Process that wakes each minute and does nothing."""

    def run(self, env, market):
        """Wake each minute."""
        while True:
            yield env.timeout(60)


@dataclasses.dataclass(frozen=True)
class EndsBest:
    """Process that ends the item with the most consumptions, from time to time, and releases it a day later."""

    every: float = 6 * HOUR

    def run(self, env, market):
        """Wait, and end the best item."""
        while True:
            yield env.timeout(self.every)
            best = int(np.where(market.on_offer, market.consumption, -1).argmax())
            market.end(best)
            env.process(self.again(env, market, best))

    def again(self, env, market, item):
        """Release an item a day later."""
        yield env.timeout(DAY)
        market.release([item])


class Busy:
    """Process that uses all waits and changes, with random numbers."""

    def run(self, env, market):
        """Change the market after some visits, at the end of rounds, and by a queue for a server."""
        server = simpy.Resource(env, 1)
        env.process(self.repairs(env, market, server))
        while True:
            yield market.visits(17)
            items = market.rng.integers(0, len(market.exposure), 5)
            market.scale_demand(items, float(market.rng.uniform(0, 3)))
            with server.request() as request:
                yield request | env.timeout(HOUR)
            market.memory["served"] = market.served

    def repairs(self, env, market, server):
        """Stop the model for an evening, and end an item at each end of a round."""
        while True:
            number = yield market.round_end()
            market.end(number)
            with server.request() as request:
                yield request
                market.stop_model(("popularity", "random", "last")[number % 3])
                yield env.timeout(8 * HOUR)
                market.start_model()


def played(batch, processes, agent="rim-feedback", config=None):
    """Market with processes, played to its end."""
    market = Market(config or small_scenario(rounds=2), processes=processes)
    while not market.done:
        play_round(market, make_agent(agent), batch)
    return market


def assert_same(left, right):
    """All slates, consumptions, requirements and happenings are equal to the bit."""
    same_ledgers(left, right)
    for first, second in zip(left.closed, right.closed, strict=True):
        np.testing.assert_array_equal(first.required, second.required)
        np.testing.assert_array_equal(first.exposure, second.exposure)
        assert first.happenings == second.happenings


@pytest.mark.parametrize("batch", [1, 7, None])
@pytest.mark.parametrize("scenario", [small_scenario, small_replay])
def test_an_idle_process_changes_no_table(scenario, batch):
    """With a process that wakes each minute and does nothing, all tables are those without it."""
    config = scenario(rounds=2)
    assert_same(played(batch, {"idle": Idle()}, config=config), played(None, {}, config=config))


@pytest.mark.parametrize("agent", ["rim-feedback", "relevance", "epsilon-greedy"])
def test_no_result_depends_on_the_batch(agent):
    """With processes that do everything, batches of 1, 7 and all have the same tables."""
    processes = {"busy": Busy(), "ends": EndsBest(), "stock": UnitStock(units=3, lead="1d")}
    expected = played(None, processes, agent)
    changes = {happening.change for closed in expected.closed for happening in closed.happenings}
    assert changes == {"end", "release", "demand", "stop_model", "start_model"}
    for batch in (1, 7):
        assert_same(played(batch, processes, agent), expected)


def test_the_environment_has_the_same_tables():
    """An episode of the environment, in compiled steps where they can serve, equals the engine."""
    config = override(small_scenario(rounds=2), {"processes": [f"{__file__}:Busy", f"{__file__}:EndsBest"]})
    for agent in ("rim-feedback", "relevance"):
        env = make_env(scenario="closed-loop", settings=settings_of(config))
        rollout(env, make_agent(agent), seed=0)
        market = Market(config)
        while not market.done:
            play_round(market, make_agent(agent))
        assert_same(env.unwrapped.market, market)


@pytest.mark.parametrize("scenario", [small_scenario, small_replay, small_broadcast])
def test_an_ended_item_is_in_no_later_slate(scenario):
    """From the instant at which a process ends an item to its release, no slate has the item."""
    market = played(None, {"ends": EndsBest()}, "relevance", scenario(rounds=2))
    table = ledgers(market)
    ends = [happening for closed in market.closed for happening in closed.happenings]
    assert any(happening.change == "end" for happening in ends) or scenario is small_broadcast
    for happening in ends:
        if happening.change == "end":
            is_after = (table.time >= happening.time) & (table.time < happening.time + DAY)
            assert not (table.item[is_after] == happening.item).any()


def test_an_item_that_ends_before_its_release_is_never_shown():
    """An item that a process ends before its release is not released later by itself."""
    config = small_cold_start(rounds=2)
    opened = Market(config)
    table = ledgers(played(None, {}, "popularity", config))
    n_shown = np.bincount(table.item[table.item >= 0], minlength=opened.n_items)
    item = int(np.where(opened.times.release > opened.env.tick, n_shown, -1).argmax())
    assert n_shown[item] > 0

    class EndsEarly:
        def run(self, env, market):
            market.end(item)
            yield env.timeout(1)

    table = ledgers(played(None, {"early": EndsEarly()}, "popularity", config))
    assert not (table.item == item).any()


def test_a_release_of_items_on_offer_changes_nothing():
    """Of all items, a release changes and records those alone that are not on offer."""

    class Releasing:
        def run(self, env, market):
            market.end([0, 3])
            market.release(np.arange(len(market.items)))
            yield env.timeout(1)

    market = Market(small_scenario(), processes={"releasing": Releasing()})
    changes = [(happening.change, happening.item) for happening in market.effects.happenings]
    assert changes == [("end", 0), ("end", 3), ("release", 0), ("release", 3)]
    assert set(market.effects.times.absences[:, 0].tolist()) <= {0, 3}


def test_floors_count_the_time_on_offer():
    """An item that is taken away halfway has half its floor, rounded down; other floors stay, and the next is 0."""
    config = small_scenario(rounds=2, exposure=ExposureConfig(beta=0.5, unit="shown"))
    opened = Market(config)
    required = opened.required.copy()
    item = int(required.argmax())
    half = float(opened.schedule.tick[60]) / 1e6

    class Halfway:
        def run(self, env, market):
            yield env.timeout(half - env.now)
            assert market.served == 60
            market.end(item)

    market = played(None, {"halfway": Halfway()}, config=config)
    first, second = market.closed
    assert first.required[item] == required[item] // 2
    np.testing.assert_array_equal(np.delete(first.required, item), np.delete(required, item))
    assert second.required[item] == 0
    assert second.ledger.exposure(market.n_items)[item] == 0


def test_demand_is_a_factor_of_true_intensity():
    """Items with demand 0 sell nothing; with demand 2 all consumptions are within 4 standard errors of the law."""
    config = small_scenario(rounds=2, consumer=ConsumerConfig(attraction=0.5))

    class Twice:
        def run(self, env, market):
            market.scale_demand(np.arange(0, len(market.exposure), 2), 2)
            market.scale_demand(np.arange(1, len(market.exposure), 2), 0)
            yield env.timeout(0)

    plain = played(None, {}, "random", config)
    market = played(None, {"twice": Twice()}, "random", config)
    before, after = (played_market.closed[0].ledger for played_market in (plain, market))
    np.testing.assert_array_equal(before.item, after.item)
    is_odd = after.item % 2 == 1
    assert not after.consumed[is_odd].any()
    first = np.flatnonzero(np.arange(len(before.item)) < 30)  # before consumptions have changed the states
    even = ~is_odd[first]
    expected = -np.expm1(2 * np.log1p(-before.probability[first]))
    states_agree = np.isclose(after.true_intensity[first], 2 * before.true_intensity[first], rtol=1e-5)
    assert states_agree[even].mean() > 0.9
    np.testing.assert_allclose(
        after.probability[first][even & states_agree], expected[even & states_agree], rtol=1e-4
    )
    chance = after.probability
    error = math.sqrt(float((chance * (1 - chance)).sum()))
    assert abs(after.consumed.sum() - chance.sum()) < 4 * error


@pytest.mark.parametrize("batch", [1, None])
@pytest.mark.parametrize("own_choice", [0.0, 0.4])
def test_no_unit_is_sold_twice(batch, own_choice):
    """Consumptions of an item never exceed its units and deliveries, checked row by row."""
    config = small_scenario(rounds=2, consumer=ConsumerConfig(own_choice=own_choice, attraction=3.0))
    market = played(batch, {"stock": UnitStock(units=2, lead="2d")}, "popularity", config)
    happenings = [happening for closed in market.closed for happening in closed.happenings]
    table = ledgers(market)
    assert any(happening.change == "release" for happening in happenings)
    for item in {happening.item for happening in happenings}:
        sales = np.sort(table.time[(table.item == item) & table.consumed].to_numpy())
        of_item = [happening for happening in happenings if happening.item == item]
        deliveries = [happening.time for happening in of_item if happening.change == "release"]
        for n_sold, time in enumerate(sales, 1):
            assert n_sold <= 2 * (1 + sum(delivery <= time for delivery in deliveries))
        if own_choice == 0:
            sold_out = min(happening.time for happening in of_item if happening.change == "end")
            assert np.count_nonzero(sales <= sold_out) == 2


def test_a_resumed_market_goes_on_alike(tmp_path):
    """With all five processes, a market that is saved and loaded at a round has the rounds of an uninterrupted one."""
    config = small_scenario(
        rounds=3,
        processes=(
            "stock(units=3, lead='2d')",
            "demand(factor=3, lasts='1d', every='3d')",
            "outage(every='2d', lasts='6h', waits='exponential')",
            "creators(every='2d')",
            "training(every='31h', takes='20h')",
            f"{__file__}:Evenings",
        ),
    )
    expected = played(None, None, config=config)
    for stop in (1, 2):
        first = Market(config)
        while first.round < stop:
            play_round(first, make_agent("rim-feedback"))
        first.state.save(tmp_path / str(stop))
        resumed = Market(config)
        resumed.load_state(type(first.state).load(tmp_path / str(stop)))
        while not resumed.done:
            play_round(resumed, make_agent("rim-feedback"))
        tables = [closed.ledger.table("agent", 0, closed.number) for closed in resumed.closed]
        for closed, table in zip(expected.closed[stop:], tables, strict=True):
            pd.testing.assert_frame_equal(
                closed.ledger.table("agent", 0, closed.number), table, check_exact=True
            )
        happenings = [closed.happenings for closed in resumed.closed]
        np.testing.assert_equal(happenings, [closed.happenings for closed in expected.closed[stop:]])


def test_a_kept_state_does_not_change_while_the_market_goes_on():
    """A market loads a state that was taken in memory, and repeats the rounds that the first market has played."""
    processes = {"stock": UnitStock(units=3, lead="1d")}
    config = small_scenario(rounds=2)
    market = Market(config, processes=processes)
    play_round(market, make_agent("popularity"))
    state = market.state
    play_round(market, make_agent("popularity"))
    second = Market(config, processes=processes)
    second.load_state(state)
    play_round(second, make_agent("popularity"))
    second.closed[:0] = market.closed[:1]
    assert_same(second, market)


class Evenings:
    """Process that stops the model from six to ten each evening, and counts the evenings."""

    def run(self, env, market):
        """Wait for the next evening, or for the end of the current one."""
        while True:
            hour = env.now % DAY / HOUR
            if 18 <= hour < 22:
                if not market.memory.get("is_down"):
                    market.memory |= {"is_down": True, "evenings": market.memory.get("evenings", 0) + 1}
                    market.stop_model("last")
                yield env.timeout((22 - hour) * HOUR)
                market.start_model()
                market.memory["is_down"] = False
            else:
                yield env.timeout((18 - hour) % 24 * HOUR)


def test_a_fallback_answers_while_the_model_is_stopped():
    """Popular items are shown in the outage, whatever the agent is, and the agent counts these exposures."""

    class Outage:
        def run(self, env, market):
            yield market.visits(20)
            market.stop_model("popularity")
            yield market.visits(30)
            market.start_model()

    market = played(None, {"outage": Outage()}, config=small_scenario(rounds=1))
    plain = played(None, {}, config=small_scenario(rounds=1))
    items, plain_items = (played_market.closed[0].ledger.item for played_market in (market, plain))
    np.testing.assert_array_equal(items[:20], plain_items[:20])
    order = np.argsort(-np.bincount(market.world.past.item, minlength=market.n_items), kind="stable")
    places = np.argsort(order)[items[20:50]]
    assert (np.diff(places, axis=1) > 0).all()
    assert np.median(places) < 8
    assert np.isnan(market.closed[0].ledger.price[20:50]).all()
    assert not np.isnan(market.closed[0].ledger.price[50:]).any()


def _raising(env, market):
    yield env.timeout(60)
    raise KeyError("no such thing")


def _writing(env, market):
    yield env.timeout(60)
    market.exposure[0] = 5


def _unknown(env, market):
    yield env.timeout(60)
    market.end(10_000)


def _backwards(env, market):
    yield env.timeout(-60)


def _standing(env, market):
    while True:
        yield env.timeout(0)


def _advancing(env, market):
    yield env.timeout(1)
    env.run(until=env.now + 60)


def _yields_number(env, market):
    yield 60


def _nested(env, market):
    def sub():
        yield env.timeout(60)
        raise ValueError("within")

    env.process(sub())
    yield env.timeout(DAY)


def _reaching(env, market):
    yield env.timeout(60)
    market.round = 5


FAULTS = {
    _raising: "KeyError: 'no such thing' (",
    _writing: "read-only",
    _unknown: "item 10000 is not in the catalogue",
    _backwards: "Negative delay -60",
    _standing: "100,000 times at one instant",
    _advancing: "a process cannot advance the clock",
    _yields_number: "it yielded 60. Yield events",
    _nested: "ValueError: within (",
    _reaching: "AttributeError",
    lambda _, __: None: "run returned a NoneType. Write a generator",
}


@pytest.mark.parametrize("life", FAULTS, ids=lambda life: life.__name__)
def test_a_faulty_process_gets_one_line_with_its_name(life):
    """The error of a process that does what it may not is one line that names the process."""

    class Faulty:
        def run(self, env, market):
            return life(env, market)

    with pytest.raises(ProcessError) as caught:
        played(None, {"mine.py:Faulty": Faulty()})
    text = str(caught.value)
    assert text.startswith("process 'mine.py:Faulty': ")
    assert FAULTS[life] in text
    assert "\n" not in text
    assert "agent" not in text


def test_only_wakes_at_one_instant_are_counted(monkeypatch):
    """A process may wake more often than the limit while time passes, but not at one instant."""
    monkeypatch.setattr("rimsim.market.processes.life._MOST_WAKES", 3)
    clock = Clock(0)

    def run(seconds):
        for _ in range(5):
            yield clock.timeout(seconds)

    Life("minutes", clock).begin(lambda: run(60))
    clock.run()
    assert clock.now == 300
    Life("instant", clock).begin(lambda: run(0))
    refused(ProcessError, "woke 3 times at one instant", clock.run)


def test_an_error_names_the_line_of_the_process():
    """A wrong call is told with the line that made it, not with a line of the package."""

    class Wrong:
        def run(self, env, market):
            yield env.timeout(60)
            market.end(10_000)

    with pytest.raises(ProcessError) as caught:
        played(None, {"wrong": Wrong()})
    assert str(caught.value).endswith(f"({__file__}:{Wrong.run.__code__.co_firstlineno + 2})")


def test_a_handle_acts_only_within_its_process():
    """Changes through a handle from outside are refused, and so is a memory that cannot be saved."""
    handles = []

    class Leaking:
        def run(self, env, market):
            handles.append(market)
            market.memory["thing"] = object()
            yield env.timeout(1)

    market = Market(small_scenario(), processes={"leaking": Leaking()})
    market.next_arrivals(1)
    refused(ProcessError, "used outside run", handles[0].end, 3)
    second = Market(small_scenario(), processes={"leaking": Leaking()})
    play_round(second, make_agent("relevance"))
    refused(ProcessError, "market.memory cannot be saved", lambda: second.state)


def test_demand_needs_a_truth():
    """In a replay, whose visitors have no truth, a change of demand is refused."""
    refused(
        ProcessError,
        "the consumer has no fitted truth",
        played,
        None,
        {"demand": Demand()},
        config=small_replay(),
    )


def test_processes_are_named_in_a_scenario():
    """A list of names with options is read, divided at commas or not; wrong names and options are refused."""
    for listed in (["stock(units=3", "lead='1d')", "demand"], ["stock(units=3, lead='1d')", "demand"]):
        config = override(small_scenario(), {"processes": listed})
        assert config.processes == ("stock(units=3, lead='1d')", "demand")
        assert Market(config).processes == {config.processes[0]: UnitStock(3, lead="1d"), "demand": Demand()}
    for name, message in (("stok", "'stok' is unknown. Did you mean"), ("stock(unit=3)", "no option 'unit'")):
        refused(ConfigError, message, Market, override(small_scenario(), {"processes": [name]}))


def test_brackets_within_options_do_not_end_a_process():
    """A list that YAML divides at each comma is joined again up to the bracket that ends the options."""
    parts = ["demand(values=(a", "b)", "factor=2)", "stock"]
    config = override(small_scenario(), {"processes": parts})
    assert config.processes == ("demand(values=(a, b), factor=2)", "stock")


def test_each_process_draws_its_own_numbers():
    """Two processes of one class draw different numbers at the same instant."""
    draws = []

    class Drawing:
        def run(self, env, market):
            draws.append(market.rng.uniform())
            yield env.timeout(1)

    Market(small_scenario(), processes={"first": Drawing(), "second": Drawing()})
    assert len(set(draws)) == 2


def test_free_choices_count_beyond_the_end_of_their_round():
    """What visitors take without a slate is in the consumption of each item in later rounds, too."""
    handles = []

    class Leaking:
        def run(self, env, market):
            handles.append(market)
            yield env.timeout(1)

    config = small_scenario(rounds=2, consumer=ConsumerConfig(own_choice=0.4, attraction=3.0))
    market = played(None, {"leaking": Leaking()}, "popularity", config)
    ledgers_of_rounds = [closed.ledger for closed in market.closed]
    n_free = [int(ledger.organic.sum()) for ledger in ledgers_of_rounds]
    assert min(n_free) > 0
    n_taken = sum(int(ledger.consumed.sum()) for ledger in ledgers_of_rounds)
    assert handles[0].consumption.sum() == n_taken + sum(n_free)


def test_an_item_that_ends_with_a_round_was_on_offer_in_it():
    """An item that ends at the instant of a round's end counts to the round's catalogue, not to the next one's."""

    class Ending:
        def run(self, env, market):
            yield market.round_end()
            market.end([0])

    first, second = played(None, {"ending": Ending()}, "popularity", small_scenario(rounds=2)).closed
    assert first.on_offer[0]
    assert not second.on_offer[0]
    assert first.on_offer[1:].tolist() == second.on_offer[1:].tolist()


def test_reads_are_right_at_each_wake():
    """At each wake, and after the end, the handle has the counts of the ledger so far; at a wake, also the round."""
    seen = []
    handles = []

    class Reader:
        def run(self, env, market):
            handles.append(market)
            while True:
                yield market.visits(13)
                seen.append(
                    (market.served, market.exposure.sum(), market.consumption.sum(), market.round, env.now)
                )

    market = played(
        7, {"reader": Reader()}, config=small_scenario(rounds=2, arrivals=ArrivalsConfig(per_round=60))
    )
    table = ledgers(market)
    arrivals = table.drop_duplicates(["round", "arrival"])
    for served, exposure, consumption, number, time in seen:
        last = arrivals.iloc[served - 1]
        so_far = table[(table["round"] < last["round"]) | (table.time <= time)]
        assert served % 13 == 0
        assert (number, time) == (last["round"], last.time)
        assert exposure == len(so_far)
        assert consumption == so_far.consumed.sum()
    assert len(seen) == len(arrivals) // 13
    assert handles[0].exposure.sum() == len(table)
    assert handles[0].consumption.sum() == table.consumed.sum()


class TestStock(ProcessTests):
    """The built-in stock has the conditions of any process."""

    def make(self):
        """Few units, restocked after a day."""
        return UnitStock(units=2, lead="1d")


class TestDemand(ProcessTests):
    """The built-in demand has the conditions of any process."""

    def make(self):
        """A promotion every other day."""
        return Demand(factor=3.0, lasts="12h", every="2d", after="5h")

    def log(self):
        """The embedded log, which has a truth."""
        return load(min_item_events=120)

    def scenario(self):
        """A small market of the embedded log."""
        return small_scenario()


class TestExample(TestDemand):
    """The flash sale of the examples has the conditions of any process."""

    def make(self):
        """The flash sale."""
        return runpy.run_path(str(ROOT / "examples" / "own_process.py"))["FlashSale"](factor=3.0)


def test_a_repeated_window_closes_between_its_openings():
    """A window of 3 ticks in every 5 is closed for 2 ticks, and the next change is the next tick that differs."""
    window = Window(items=np.arange(1), begin=2, end=5, every=5, factor=2.0)
    is_open = np.array([window.is_open(tick) for tick in range(16)])
    assert np.flatnonzero(is_open).tolist() == [2, 3, 4, 7, 8, 9, 12, 13, 14]
    changes = 1 + np.flatnonzero(is_open[1:] != is_open[:-1])
    for tick in range(15):
        assert window.next_change(tick) == changes[changes > tick][0]


def test_a_table_of_windows_multiplies_the_demand(tmp_path):
    """Windows from a file hold from their time to their end, multiply each other, and choose items by id or genre."""
    market = Market(small_scenario(rounds=1))
    start = market.env.now
    item = market.world.log.items["id"].astype(str)[3]
    file = tmp_path / "windows.csv"
    rows = [
        ("from", "to", "factor", "item"),
        (start + DAY, start + 3 * DAY, 2, item),
        (start + 2 * DAY, "", 3, item),
        ("", start + DAY / 2, 4, item),
    ]
    file.write_text("\n".join(",".join(map(str, row)) for row in rows), encoding="utf-8")
    played_market = played(None, {"windows": Demand(table=str(file))}, config=small_scenario(rounds=1))
    happenings = played_market.closed[0].happenings
    assert [(happening.time - start, happening.item, happening.value) for happening in happenings] == [
        (0, 3, 4.0),
        (DAY / 2, 3, 1.0),
        (DAY, 3, 2.0),
        (2 * DAY, 3, 6.0),
        (3 * DAY, 3, 3.0),
    ]
    for wrong, message in (
        ("factor,item,to\n", "no column 'from'"),
        ("from,to,factor,item\n0,1,2,none\n", "no value 'none'"),
    ):
        file.write_text(wrong, encoding="utf-8")
        refused(
            ProcessError, message, played, None, {"windows": Demand(table=str(file))}, config=small_scenario()
        )


def test_a_run_has_a_table_of_happenings(tmp_path):
    """A comparison takes processes by name, writes their changes, and resumes to equal tables."""
    config = override(
        small_scenario(rounds=2), {"processes": ["stock(units=2, lead='1d')", "demand(factor=2)"]}
    )
    run = small_run(tmp_path / "run", ["relevance", "popularity"], config, rounds=2)
    table = run.happenings
    assert set(table.what) == {"end", "release", "demand"}
    assert set(table.process) == set(config.processes)
    assert list(table.columns)[:3] == ["agent", "seed", "round"]
    market = played(None, None, "relevance", config)
    count = sum(len(closed.happenings) for closed in market.closed)
    assert np.count_nonzero((table.agent == "relevance") & (table.seed == 0)) == count


@pytest.mark.parametrize("scenario", [small_scenario, small_replay])
def test_a_retrained_model_serves_from_its_time(scenario):
    """The first visits have the scores of the old model; later ones differ, and all batches have the same tables."""
    arrivals = scenario().arrivals

    class Once:
        def run(self, env, market):
            yield market.visits(30)
            market.retrain(takes=HOUR)
            start = env.now
            yield market.model_live()
            market.memory["live"] = [env.now - start, market.served]

    config = scenario(rounds=2, arrivals=arrivals)
    plain = played(None, {}, "relevance", config)
    expected = played(None, {"once": Once()}, "relevance", config)
    seconds_of_training, served = expected.effects.memory[0]["live"]
    assert seconds_of_training == HOUR
    before, after = (market.closed[0].ledger for market in (plain, expected))
    np.testing.assert_array_equal(before.intensity[:served], after.intensity[:served])
    assert (before.ground[served:] != after.ground[served:]).any() or (
        before.item[served:] != after.item[served:]
    ).any()
    for batch in (1, 7):
        assert_same(played(batch, {"once": Once()}, "relevance", config), expected)
    # The states of the round are scored by the model that served each of them.
    closed = expected.closed[0]
    rows = closed.states.rows(0, len(closed.schedule))
    shown = np.take_along_axis(rows, closed.ledger.item.astype(np.int64), axis=1)
    is_filled = closed.ledger.item >= 0
    np.testing.assert_allclose(shown[is_filled], closed.ledger.intensity[is_filled], rtol=1e-4)


def test_a_retraining_goes_on_over_a_resume(tmp_path):
    """A model in training when a market is saved goes live in the loaded market at its time."""
    config = small_scenario(rounds=3)

    class LastHour:
        def run(self, env, market):
            while True:
                yield market.round_end()
                market.retrain(takes=DAY)

    def market():
        return Market(config, processes={"last": LastHour()})

    expected = market()
    resumed = market()
    while not expected.done:
        play_round(expected, make_agent("relevance"))
        if expected.round == 1:
            expected.state.save(tmp_path)
            resumed.load_state(type(expected.state).load(tmp_path))
    while not resumed.done:
        play_round(resumed, make_agent("relevance"))
    for left, right in zip(expected.closed[1:], resumed.closed, strict=True):
        np.testing.assert_array_equal(left.ledger.item, right.ledger.item)
        np.testing.assert_array_equal(left.ledger.intensity, right.ledger.intensity)


@dataclass(frozen=True)
class HalfEmpty(UnitStock):
    """Stock that every second item lacks at the opening."""

    def _units(self, market):
        units = super()._units(market)
        units[::2] = 0
        return units


def test_an_item_without_units_is_never_shown():
    """An item that has no units at the opening is not on offer."""
    table = ledgers(played(None, {"stock": HalfEmpty(units=1000)}, "popularity"))
    assert len(table)
    assert (table.item % 2 == 1).all()


class Counted(UnitStock):
    """Stock in which every second item has two units, and the others have no number."""

    def run(self, env, market):
        """Add the column of units."""
        market.items["units"] = np.where(np.arange(len(market.items)) % 2, 2, np.nan)
        yield from super().run(env, market)


def test_an_item_without_a_number_of_units_never_sells_out():
    """Items end after as many consumptions as their column says, and items without a number do not end."""
    market = played(None, {"stock": Counted(units=1, column="units")}, "popularity")
    ended = [happening.item for closed in market.closed for happening in closed.happenings]
    table = ledgers(market)
    n_consumed = np.bincount(table.item[table.consumed], minlength=market.n_items)
    assert len(ended) > 3
    assert all(item % 2 == 1 and n_consumed[item] == 2 for item in ended)
    assert n_consumed[::2].max() > 2


def test_a_delivery_has_the_units_of_its_item():
    """After each delivery, an item ends when as many units as its column says have been taken again."""
    market = played(None, {"stock": Counted(units=1, column="units", lead="1d")}, "popularity")
    ended = [
        happening.item
        for closed in market.closed
        for happening in closed.happenings
        if happening.change == "end"
    ]
    table = ledgers(market)
    n_consumed = np.bincount(table.item[table.consumed], minlength=market.n_items)
    n_ends = np.bincount(ended, minlength=market.n_items)
    assert n_ends.max() > 1
    np.testing.assert_array_equal(n_ends[1::2], n_consumed[1::2] // 2)


def test_the_visit_that_takes_the_last_unit_saw_the_item():
    """An item that sells out is over at the instant of the sale, but was on offer to the visit that took it."""
    market = played(None, {"stock": UnitStock(units=3)}, "popularity")
    last = market.closed[-1].number
    ends = [
        happening for closed in market.closed for happening in closed.happenings if happening.round == last
    ]
    assert len(ends) > 3
    ticks = np.array([round(happening.time * TICKS) for happening in ends])
    items = [happening.item for happening in ends]
    rows = np.arange(len(ends))
    assert not market.effects.times.at(ticks)[rows, items].any()
    assert market.effects.shown_times.at(ticks)[rows, items].all()
    assert not market.effects.shown_times.at(ticks + 1)[rows, items].any()
