"""Agents: that each does what its name says, against brute force, and takes options within their ranges."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import torch
from kit import refused
from small_markets import play_out, small_capped, small_scenario

from rimsim import measures
from rimsim.agents import (
    EpsilonGreedy,
    Random,
    RimFeedback,
    make_agent,
    play_round,
    top_k,
)
from rimsim.agents.exploration import uniform_slates
from rimsim.config import ArrivalsConfig, ExposureConfig
from rimsim.errors import AgentError, ConfigError
from rimsim.market import Market
from rimsim.market.records import as_slates


def test_top_k_is_a_sort_of_the_admissible_items():
    """The k best admissible items come in descending order, and too short a row ends in −1."""
    scores = torch.tensor([[3.0, 1.0, 2.0, 5.0], [1.0, 2.0, 3.0, 4.0]])
    admissible = torch.tensor([[True, True, True, False], [False, True, False, False]])
    assert top_k(scores, admissible, 2).tolist() == [[0, 2], [1, -1]]


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
    few = np.isin(np.arange(500), [5, 250])[None]
    assert sorted(uniform_slates(few, 3, 0, np.array([9]))[0].tolist()) == [-1, 5, 250]


def test_epsilon_zero_is_relevance_and_one_is_uniform():
    """At ε = 0 the slates are those of relevance, at ε = 1 those of uniform draws."""
    market = Market(small_scenario(rounds=1))
    arrivals, view = market.next_arrivals(30), market.round_view()
    agents = make_agent("relevance"), EpsilonGreedy(0.0), EpsilonGreedy(1.0)
    for agent in agents:
        agent.begin_round(view)
    relevance, greedy, uniform = (as_slates(agent.act(arrivals)).items for agent in agents)
    assert (greedy == relevance).all()
    assert (uniform == uniform_slates(arrivals.admissible.numpy(), 5, view.key, arrivals.id)).all()


@pytest.mark.parametrize(("gain", "closing"), [(0.1, 0.02), (1.0, 0.0)])
@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_feedback_follows_its_formula(unit, gain, closing):
    """Slates and prices equal a slow transcription of w = clip(w₀ + g·c/√b·(b·t/N − E)·h, 0, c).

    E counts positions, or Σγ^(r−1) where guarantees are of examined exposures; slates stand by λ, or by λ − v.
    """
    market = Market(small_scenario(rounds=1, exposure=ExposureConfig(unit=unit)))
    agent, view = RimFeedback(gain, closing=closing), market.round_view()
    agent.begin_round(view)
    start, exposure, time = -agent.item_price, np.zeros(market.n_items), 0
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


def test_guarantees_are_kept_in_order_of_what_is_paid_for_them():
    """Shortfall: relevance has most, frozen prices less, feedback a tenth of it at most; prices are in [−c, 0]."""
    short = {}
    for name in ("relevance", "rim-dual", "rim-feedback"):
        market = Market(small_scenario(rounds=2, arrivals=ArrivalsConfig(per_round=400, max_visits=3)))
        rounds = play_out(market, make_agent(name)).closed
        short[name] = np.mean(
            [measures.shortfall(one.ledger.exposure(market.n_items), one.required) for one in rounds]
        )
        for one in rounds if name != "relevance" else ():
            assert -one.cost * (1 + 1e-6) <= np.nanmin(one.ledger.price) <= np.nanmax(one.ledger.price) <= 0
    assert short["rim-dual"] < short["relevance"]
    assert short["rim-feedback"] <= 0.1 * short["relevance"]


def test_identical_states_are_spread_over_the_items():
    """Clones without history get many different slates from frozen prices, not all one."""
    market = Market(
        small_scenario(rounds=1, arrivals=ArrivalsConfig(per_round=300, max_visits=1, history="none"))
    )
    agent = make_agent("rim-dual")
    play_round(market, agent)
    ledger = market.closed[0].ledger
    assert measures.coverage(ledger.exposure(market.n_items)) > 3 * 5 / market.n_items
    assert len(np.unique(np.sort(ledger.item, 1), axis=0)) > 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("relevence", "'relevance'"),  # codespell:ignore relevence
        ("epsilon-greedy(epsilom=0.2)", "'epsilon'"),
        ("epsilon-greedy(epsilon=2)", "option 'epsilon' is 2; allowed: less than or equal to 1"),
        ("epsilon-greedy(0.2)", "option=value"),
        ("rim-resolve(every=2.5)", "option 'every' is 2.5;"),
        ("rim-feedback(guard=True)", "no option 'guard'"),
        ("fair-rec(alpha=2)", "no option 'alpha'"),
        ("nowhere.py:Mine", "no file"),
        ("rimsim.agents:Randm", "'Random'"),
        ("argparse:Namespace", "has no begin_round, act"),
        ("rimsim.agents:Episode", "cannot be made"),
    ],
)
def test_agents_that_are_none_are_refused(text, message):
    """A misspelt name, option or class is an error with the nearest valid name."""
    with pytest.raises(ConfigError, match=message):
        make_agent(text)


def test_learning_agents_get_all_feedback_in_clock_order_at_barriers():
    """Feedback comes once for each arrival, in clock order, at every 50th and at a round's end, for any batch size."""

    class Learner(Random):
        barrier_every = 50

        def __init__(self):
            self.learnt, self.known_when_acting = [], []

        def act(self, arrivals):
            self.known_when_acting += [len(self.learnt)] * len(arrivals)
            return super().act(arrivals)

        def learn(self, feedback):
            assert ((feedback.slates >= 0).sum(1) <= feedback.arrivals.capacity).all()
            self.learnt += feedback.arrivals.index.tolist()
            told.extend(feedback.arrivals.capacity.tolist())

    seen, told = [], []
    for size in (1, 7, 1000):
        agent, market = Learner(), Market(small_capped(rounds=2))
        for _ in range(2):
            play_round(market, agent, size)
        assert agent.learnt == [*range(120)] * 2
        known = np.repeat([0, 50, 100, 120, 170, 220], [50, 50, 20] * 2)
        assert agent.known_when_acting == known.tolist()
        seen.append(market.closed[0].ledger.item.tolist())
    assert seen[0] == seen[1] == seen[2]
    assert set(told) == {0, 2, 5}


@pytest.mark.parametrize(
    ("method", "answer", "message"),
    [
        ("begin_round", None, "'faulty' raised KeyError before round 0"),
        ("act", None, "'faulty' raised KeyError in round 0, at arrival .*lost"),
        ("act", [[1, 2], [3]], "'faulty' in round 0.*no array"),
        ("act", [[0.5] * 5], "'faulty' in round 0.*whole numbers"),
        ("learn", None, "'faulty' raised KeyError learning in round"),
    ],
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
    with pytest.raises(AgentError, match=message):
        play_round(Market(small_scenario(rounds=1)), agent)


OPTIONS = [  # agent, option, default, ends of its range, values beyond them
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
]


@pytest.mark.parametrize(("agent", "option", "default", "ends", "beyond"), OPTIONS)
def test_an_option_has_its_default_its_range_and_its_place_in_the_name(agent, option, default, ends, beyond):
    """The default is what figures were measured with; either end is taken and is in the name, and the next is not."""
    plain = make_agent(agent)
    assert (getattr(plain, option), plain.name) == (default, agent)
    for value in ends:
        made = make_agent(f"{agent}({option}={value})")
        assert (getattr(made, option), made.name) == (value, f"{agent}({option}={value})")
    for value in beyond:
        refused(ConfigError, f"option '{option}' is {value};", make_agent, f"{agent}({option}={value})")


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


@pytest.mark.parametrize("part", ["name", "order_free", "barrier_every"])
def test_what_a_class_lacks_is_named_and_nothing_else(tmp_path, part):
    """The error names the one attribute that is not there."""
    file = tmp_path / "mine.py"
    file.write_text("\n".join(line for line in MINE.splitlines() if not line.strip().startswith(f"{part} =")))
    refused(ConfigError, f"lacks {part}; allowed", make_agent, f"{file}:Mine")


def test_a_file_that_changes_within_a_second_is_read_anew(tmp_path, monkeypatch):
    """Also where Python keeps compiled files, which it compares by second and size; barriers are at least 1 or none."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    for every in (4, 5, 1, 2, None):
        file.write_text(MINE.replace("barrier_every = None", f"barrier_every = {every}"))
        os.utime(file, (1_500_000_000, 1_500_000_000))
        assert make_agent(f"{file}:Mine").barrier_every == every
    file.write_text(MINE.replace("barrier_every = None", "barrier_every = 0"))
    refused(ConfigError, "barrier_every is 0; allowed: None, or at least 1", make_agent, f"{file}:Mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
