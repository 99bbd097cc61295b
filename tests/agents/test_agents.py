"""Agents and parts of them: that each does what its name says, against brute force, and takes options in range."""

import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kit import calls_of, cases, refused
from kit.logs import Chunks, arrivals_of, skewed, view_of
from kit.markets import small_capped, small_scenario

from rimsim import measures
from rimsim.agents import EpsilonGreedy, Random, RimFeedback, States, make_agent, play_round, prices
from rimsim.agents.exploration import uniform_slates
from rimsim.agents.fair_rec import _chosen, _turns
from rimsim.agents.feasibility import _seen
from rimsim.agents.past_states import admissible_shares, capacities
from rimsim.agents.prices import SAMPLED_TOL, cost_of_missing, solved_prices
from rimsim.config import ArrivalsConfig, ExposureConfig
from rimsim.errors import AgentError, ConfigError
from rimsim.market import Market
from rimsim.market.records import as_slates
from rimsim.matching import tie_rank
from rimsim.requirements.rows import Requirements, Row


def test_uniform_slates_are_uniform():
    """Each admissible item is in a share k/A of the rows, within four standard errors; too few are all shown."""
    admissible = np.ones((20_000, 12), bool)
    admissible[:, [3, 7]] = False
    slates = uniform_slates(admissible, 4, 1, np.arange(20_000))
    included = np.bincount(slates.ravel(), minlength=12) / 20_000
    spread = np.sqrt(0.4 * 0.6 / 20_000)
    assert included[[3, 7]].tolist() == [0, 0]
    assert np.abs(np.delete(included, [3, 7]) - 0.4).max() < 4 * spread
    assert (np.diff(np.sort(slates, 1)) > 0).all()
    two_items = np.isin(np.arange(500), [5, 250])[None]
    assert sorted(uniform_slates(two_items, 3, 0, np.array([9]))[0].tolist()) == [-1, 5, 250]


def test_epsilon_zero_is_relevance_and_one_is_uniform():
    """At ε = 0 the slates are those of relevance, at ε = 1 those of uniform draws."""
    market = Market(small_scenario(rounds=1))
    arrivals = market.next_arrivals(30)
    view = market.round_view()
    agents = make_agent("relevance"), EpsilonGreedy(0.0), EpsilonGreedy(1.0)
    for agent in agents:
        agent.begin_round(view)
    relevance, greedy, uniform = (as_slates(agent.act(arrivals)).items for agent in agents)
    assert (greedy == relevance).all()
    assert (uniform == uniform_slates(arrivals.admissible.numpy(), 5, view.key, arrivals.id)).all()


@cases("gain closing", (0.1, 0.02), (1.0, 0.0))
@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_feedback_follows_its_formula(unit, gain, closing):
    """Slates and prices equal a slow transcription of w = clip(w₀ + g·c/√b·(b·t/N − E)·h, 0, c) in either unit."""
    market = Market(small_scenario(rounds=1, exposure=ExposureConfig(unit=unit)))
    agent = RimFeedback(gain, closing=closing)
    view = market.round_view()
    agent.begin_round(view)
    start = -agent.item_price
    exposure = np.zeros(market.n_items)
    time = 0
    while not market.done:
        arrivals = market.next_arrivals(7)
        slates = agent.act(arrivals)
        for row in range(len(arrivals)):
            error = view.required * time / view.arrivals - exposure
            floor = np.where(view.required > 0, np.sqrt(np.maximum(view.required, 1)), np.inf)
            pull = 1 / (1 - time / view.arrivals + closing) if closing else 1.0
            bonus = np.clip(start + gain * view.cost / floor * error * pull, 0.0, view.cost)
            scores = arrivals.intensity[row].numpy()
            value = np.where(arrivals.admissible[row], scores + bonus, -np.inf)
            shown = slates.items[row][slates.items[row] >= 0]
            assert len(shown) == min(5, int(arrivals.admissible[row].sum()))
            assert np.sort(value[shown]) == pytest.approx(np.sort(value)[len(value) - len(shown) :])
            assert (np.diff((scores if unit == "shown" else value)[shown]) <= 1e-9).all()
            np.testing.assert_allclose(slates.price[row][: len(shown)], -bonus[shown], rtol=1e-6)
            exposure[shown] += view.position_weights[: len(shown)]
            time += 1
        market.serve(arrivals, slates)


def test_identical_states_are_spread_over_the_items():
    """Clones without history get many different slates from frozen prices, not all one."""
    arrivals = ArrivalsConfig(per_round=300, max_visits=1, history="none")
    market = Market(small_scenario(rounds=1, arrivals=arrivals))
    agent = make_agent("rim-dual")
    play_round(market, agent)
    ledger = market.closed[0].ledger
    assert measures.coverage(ledger.exposure(market.n_items)) > 3 * 5 / market.n_items
    assert len(np.unique(np.sort(ledger.item, 1), axis=0)) > 30


@cases(
    "text message",
    ("relevence", "'relevance'"),  # codespell:ignore relevence
    ("epsilon-greedy(epsilom=0.2)", "'epsilon'"),
    ("epsilon-greedy(epsilon=2)", "option 'epsilon' is 2. It must be less than or equal to 1"),
    ("epsilon-greedy(0.2)", "option=value"),
    ("rim-resolve(every=2.5)", "option 'every' is 2.5. It must be a valid integer"),
    ("rim-feedback(guard=True)", "no option 'guard'"),
    ("fair-rec(alpha=2)", "no option 'alpha'"),
    ("nowhere.py:Mine", "no file"),
    ("rimsim.agents:Randm", "'Random'"),
    ("argparse:Namespace", "has no begin_round, act"),
    ("rimsim.agents:Episode", "cannot be made"),
)
def test_agents_that_are_none_are_refused(text, message):
    """A misspelt name, option or class is an error with the nearest valid name."""
    refused(ConfigError, message, make_agent, text)


def test_learning_agents_get_all_feedback_in_clock_order_at_barriers():
    """Feedback comes once for each arrival, in clock order, at every 50th and at a round's end, for any batch size."""

    class Learner(Random):
        barrier_every = 50

        def __init__(self):
            self.learnt = []
            self.known_when_acting = []

        def act(self, arrivals):
            self.known_when_acting += [len(self.learnt)] * len(arrivals)
            return super().act(arrivals)

        def learn(self, feedback):
            assert ((feedback.slates >= 0).sum(1) <= feedback.arrivals.capacity).all()
            self.learnt += feedback.arrivals.row.tolist()
            capacities_learnt.extend(feedback.arrivals.capacity.tolist())

    ledgers = []
    capacities_learnt = []
    for size in (1, 7, 1000):
        agent = Learner()
        market = Market(small_capped(rounds=2))
        for _ in range(2):
            play_round(market, agent, size)
        assert agent.learnt == [*range(120)] * 2
        expected = np.repeat([0, 50, 100, 120, 170, 220], [50, 50, 20] * 2)
        assert agent.known_when_acting == expected.tolist()
        ledgers.append(market.closed[0].ledger.item.tolist())
    assert ledgers[0] == ledgers[1] == ledgers[2]
    assert set(capacities_learnt) == {0, 2, 5}


@cases(
    "method answer message",
    ("begin_round", None, "'faulty' raised KeyError before round 0"),
    ("act", None, "'faulty' raised KeyError in round 0, at arrival .*lost"),
    ("act", [[1, 2], [3]], "'faulty' in round 0.*cannot be turned into an array"),
    ("act", [[0.5] * 5], "'faulty' in round 0.*whole numbers"),
    ("learn", None, "'faulty' raised KeyError learning in round"),
)
def test_every_call_of_an_agent_is_guarded(method, answer, message):
    """Whichever method fails, and however, the error is ours and names agent and round."""

    class Faulty(Random):
        name = "faulty"
        barrier_every = 40

        def learn(self, feedback):
            pass

    def fail(*_):
        if answer is None:
            raise KeyError("lost")
        return answer

    agent = Faulty()
    setattr(agent, method, fail)
    refused(AgentError, message, play_round, Market(small_scenario(rounds=1)), agent)


@cases(
    "agent option default ends beyond",  # the ends of its range, and values beyond them
    ("rim-dual", "tol", 1e-3, (1e-9, 10.0), (0.0,)),
    ("rim-feedback", "gain", 0.1, (1e-9, 10.0), (0.0,)),
    ("rim-feedback", "tol", 1e-3, (1e-9, 1.0), (0.0,)),
    ("rim-feedback", "closing", 0.02, (0.0, 1.0), (-1e-9,)),
    ("rim-resolve", "every", 200, (1, 2), (0,)),
    ("rim-resolve", "gain", 0.07, (0.0, 10.0), (-1e-9,)),
    ("rim-resolve", "closing", 0.02, (0.0, 1.0), (-1e-9,)),
    ("rim-resolve", "sample", 1.0, (1e-9, 10.0), (0.0,)),
    ("rim-resolve", "memory", 1.0, (0.0, 10.0), (-1e-9,)),
    ("rim-resolve", "tol", 1e-3, (1e-9, 1.0), (0.0,)),
    ("rim-ucb", "quantile", 0.9, (0.5, 0.999), (0.49, 1.0)),
    ("entropic-dual", "temperature", 0.1, (1e-9, 10.0), (0.0,)),
    ("entropic-dual", "gain", 0.1, (0.0, 10.0), (-1e-9,)),
    ("entropic-dual", "closing", 0.05, (0.0, 1.0), (-1e-9,)),
    ("entropic-dual", "states", 500, (1, 2), (0,)),
    ("entropic-dual", "tol", 1e-3, (1e-9, 1.0), (0.0,)),
    ("p-mmf", "strength", 1.0, (1e-9, 10.0), (0.0,)),
    ("p-mmf", "eta", 0.5, (1e-9, 10.0), (0.0,)),
    ("p-mmf", "momentum", 0.9, (0.0, 0.999), (-1e-9, 1.0)),
    ("epsilon-greedy", "epsilon", 0.1, (0.0, 1.0), (-1e-9, 1.0 + 1e-9)),
    ("lin-ucb", "width", 0.1, (0.0, 10.0), (-1e-9,)),
    ("lin-ucb", "ridge", 100.0, (1e-9, 10.0), (0.0,)),
    ("lin-ucb", "every", 100, (1, 2), (0,)),
    ("offline-match", "tol", 1e-4, (1e-9, 1.0), (0.0,)),
    ("hindsight", "tol", 1e-4, (1e-9, 1.0), (0.0,)),
)
def test_an_option_has_its_default_its_range_and_its_place_in_the_name(agent, option, default, ends, beyond):
    """The default is what figures were measured with; either end is taken and is in the name, and the next is not."""
    plain = make_agent(agent)
    assert (getattr(plain, option), plain.name) == (default, agent)
    for value in ends:
        configured = make_agent(f"{agent}({option}={value})")
        assert (getattr(configured, option), configured.name) == (value, f"{agent}({option}={value})")
    for value in beyond:
        message = rf"option '{option}' is {value}\. It must be"
        refused(ConfigError, message, make_agent, f"{agent}({option}={value})")


MINE = """\
class Mine:
    name = "mine"
    order_free = True
    barrier_every = None

    def begin_round(self, view):
        pass

    def act(self, arrivals):
        pass
"""


def test_a_file_that_changes_within_a_second_is_read_anew(tmp_path, monkeypatch):
    """Also where Python keeps compiled files; barriers are at least 1 or none, and what is lacking is named."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    for barrier in (4, 5, 1, 2, None):
        file.write_text(MINE.replace("barrier_every = None", f"barrier_every = {barrier}"))
        os.utime(file, (1_500_000_000, 1_500_000_000))
        assert make_agent(f"{file}:Mine").barrier_every == barrier
    file.write_text(MINE.replace("barrier_every = None", "barrier_every = 0"))
    message = "barrier_every is 0. Expected None or a number of at least 1"
    refused(ConfigError, message, make_agent, f"{file}:Mine")
    for part in ("name", "order_free", "barrier_every"):
        file.write_text("\n".join(line for line in MINE.splitlines() if not line.strip().startswith(part)))
        message = f"has no {part}. Define all attributes of rimsim.agents.Agent"
        refused(ConfigError, message, make_agent, f"{file}:Mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


M = 6
K = 2
BITS = np.uint64(77)


@pytest.mark.parametrize("scale", [0.01, 1.0, 9.0])
def test_a_missing_exposure_costs_more_than_any_is_worth_where_floors_are_hard(scale):
    """Soft, it costs c; hard, four times the largest λ where that is more, and c where there are no states."""
    scores = np.float32(scale) * np.random.default_rng(0).random((5, M)).astype(np.float32)
    states = States(scores, np.full(5, K))
    for n in (5, 0):
        first_states = states.rows(slice(n))
        largest = float(scores[:n].max()) if n else 0.0
        assert cost_of_missing(view_of(5, M, K, cost=0.5), first_states) == 0.5
        assert cost_of_missing(view_of(5, M, K, cost=0.5, hard=True), first_states) == max(0.5, 4.0 * largest)


@pytest.mark.parametrize("n_arrived", [10, 40])
@pytest.mark.parametrize("floor", [0.4, 1.4, 1.6])
@pytest.mark.parametrize("tol", [1e-4, 0.1])
def test_prices_of_a_sample_with_few_positions_an_item_need_not_be_near(monkeypatch, n_arrived, floor, tol):
    """Floors stay real, and a wider gap does, where states are a sample that has fewer than 1.5 positions an item."""
    view = view_of(40, M, K, past=arrivals_of(skewed(10, M)), n_past_arrivals=n_arrived)
    view = replace(view, required=np.full(M, 4 * floor))
    calls = calls_of(monkeypatch, prices, "solve_prices")
    solved_prices(view, tol)
    (arguments,) = calls
    is_sample = n_arrived == 40 and floor < 1.5
    assert arguments["options"]["for_bound"] == is_sample
    assert arguments["tol"] == (max(tol, SAMPLED_TOL) if is_sample else tol)
    if is_sample:
        assert arguments["min_exposure"] == pytest.approx(np.full(M, floor))
    else:
        assert arguments["min_exposure"].dtype == np.int64
        assert set(arguments["min_exposure"]) <= {np.floor(floor), np.floor(floor) + 1}


def test_what_a_round_knows_of_last_rounds_states_is_a_count_over_them():
    """To what share an item could be shown, and what a slate holds of each row, by loops over two chunks of states."""
    draw = np.random.default_rng(4)
    weights = np.array([1.0, 0.5])
    released = np.array([-np.inf, -np.inf, 5.0, 14.5, 19.0, 99.0])
    rows = [
        Row("all", np.array([0, 1, 3]), 9.0, arrivals=20.0),
        Row("once", np.array([1, 2]), 9.0, arrivals=1.0, audience=0),
        Row("never", np.array([4]), 9.0, arrivals=1.0, audience=1),
        Row("some", np.array([5, 0]), 9.0, arrivals=9.0, audience=2),
    ]
    admissible = draw.random((20, M)) < 0.6
    capacity = draw.integers(0, 4, 20)
    counts = np.column_stack([np.arange(20) == 13, np.zeros(20, bool), draw.random(20) < 0.5])
    arrivals = arrivals_of(skewed(20, M), admissible)
    arrivals = replace(arrivals, capacity=capacity, audiences=counts)
    parts = [arrivals.rows(slice(0, 12)), arrivals.rows(slice(12, 20))]
    view = replace(view_of(20, M, K, unit="examined", decay=0.5), promises=Requirements.of(rows))
    knowledge = _seen(replace(view, calibration=Chunks(parts)), released, np.array([0.0, 1.0, 1.5]))
    for item in range(M):
        rows_after_release = [row for row in range(20) if row >= released[item]]
        chance = np.mean([admissible[row, item] for row in rows_after_release]) if rows_after_release else 1.0
        assert knowledge.chance[item] == pytest.approx(chance)
    assert knowledge.filled == pytest.approx(np.mean([weights[: min(size, K)].sum() for size in capacity]))
    for number, row in enumerate(rows):
        positions = []
        for visit in range(20):
            if row.audience < 0 or counts[visit, row.audience]:
                n_items = sum(admissible[visit, item] or visit < released[item] for item in row.items)
                positions.append(weights[: min(capacity[visit], n_items)].sum())
        assert knowledge.of_rows[number] == pytest.approx(np.mean(positions) if positions else 1.5)


def test_chances_are_shares_of_states_and_one_where_nobody_may_be_shown_an_item():
    """(M,) shares over all chunks; an item that none of the states may be shown has 1, as all have without states."""
    admissible = np.random.default_rng(2).random((9, M)) < 0.5
    admissible[:, 2] = False
    parts = [arrivals_of(skewed(9, M)[part], admissible[part]) for part in (slice(0, 4), slice(4, 9))]
    view = replace(view_of(9, M, K), calibration=Chunks(parts))
    assert admissible_shares(view) == pytest.approx(np.where(np.arange(M) == 2, 1.0, admissible.mean(0)))
    assert admissible_shares(view_of(9, M, K)).tolist() == [1.0] * M
    chunks = [arrivals_of(skewed(3, M)), arrivals_of(skewed(2, M), capacity=1)]
    assert capacities(chunks, K).tolist() == [K] * 3 + [1] * 2
    assert capacities(chunks[1:], K).tolist() == [1] * 2


levels = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 2)), min_size=1, max_size=9)


@settings(max_examples=150)
@given(levels, st.integers(1, 4), st.integers(0, 4))
@example([(0, 0)] * 9, 2, 0)  # values of nothing, with ties at the end of the slate
@example([(0, 1), (0, 0)] * 4, 3, 2)
def test_turns_take_copies_first_and_slates_stand_in_order(items, k, turns):
    """By sorts: the best items of which copies are left, then the best others, all by value, ties by seeded rank."""
    value = np.array([-np.inf if level < 0 else level / 4.0 for level, _ in items])
    copies = np.array([number / 2.0 for _, number in items])

    def key(item):
        return (-value[item], -int(tie_rank(BITS, item)))

    order = sorted(np.flatnonzero(value > -np.inf).tolist(), key=key)
    with_copies = [item for item in order if copies[item] > 0][: min(turns, k)]
    expected = sorted(
        [*with_copies, *[item for item in order if item not in with_copies][: k - len(with_copies)]], key=key
    )
    slate_found = np.full(k, -1)
    size = _chosen(value, copies, min(turns, k), BITS, slate_found)
    assert slate_found[:size].tolist() == expected


def test_turns_are_as_many_as_deliver_what_is_due():
    """The last positions are added up from the last one on; nothing due needs none, too much needs all."""
    weight = np.array([1.0, 0.5, 0.25])
    table = (3, 0.0, 0), (3, 0.25, 1), (3, 0.26, 2), (3, 0.8, 3), (3, 9.0, 3), (1, 0.1, 1), (0, 1.0, 0)
    for n_positions, due, turns in table:
        assert _turns(due, n_positions, weight) == turns
