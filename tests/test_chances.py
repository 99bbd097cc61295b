"""Chances of positions, beginnings and slates: against all slates, against draws, and against each other."""

import dataclasses
import itertools

import numpy as np
import pytest
from kit import refused, same_arrays
from made_arrivals import arrivals_of
from small_markets import small_scenario

from rimsim.agents import StatingAgent, make_agent, play_round
from rimsim.errors import AgentError
from rimsim.evaluation import Chances
from rimsim.market import Market, Slates
from rimsim.market.records import as_slates

ADMISSIBLE = ("111111", "101101", "110000", "000000")
"""Arrivals' admissible ones of six items; the third has fewer than a slate holds, the last none."""
RELEVANCE = np.array([0.1, 0.6, 0.2, 0.5, 0.3, 0.3])
SLATE = 3
STATING = ("random", "epsilon-greedy(epsilon=0.3)", "entropic-dual(temperature=3.0)", "entropic-dual")


ALLOWED = np.array([[letter == "1" for letter in row] for row in ADMISSIBLE])


def _arrivals(n, m, relevance, admissible, capacity=None):
    """Arrivals with λ = 1."""
    admissible = np.broadcast_to(admissible, (n, m)).copy()
    return arrivals_of(np.where(admissible, relevance, 0.0), admissible, capacity)


class _Past(list):
    """Chunks of states, and so many states."""

    def __len__(self):
        return sum(map(len, self))


def _ready(name, arrivals, unit="examined", k=SLATE):
    """An agent in a round whose past is these arrivals, half of the uniform exposure being required."""
    n, m = arrivals.relevance.shape
    agent, view = make_agent(name), Market(small_scenario(rounds=1, slate=k)).round_view()
    about = {"arrivals": n, "required": np.full(m, 0.5 * n * k / m), "exposure": np.zeros(m)}
    past = _Past([arrivals])
    agent.begin_round(dataclasses.replace(view, **about, calibration=past, cost=0.5, key=7, unit=unit))
    return agent


@pytest.mark.parametrize("unit", ["examined", "shown"])
@pytest.mark.parametrize("capacity", [None, 2, 0])
@pytest.mark.parametrize("name", STATING)
def test_chances_of_all_slates_make_a_law(name, capacity, unit):
    """Over all slates in order, chances of slates sum to 1, and to those of their items, positions and beginnings."""
    arrivals = _arrivals(4, 6, RELEVANCE, ALLOWED, capacity)
    agent = _ready(name, arrivals, unit)
    assert isinstance(agent, StatingAgent)
    for row in range(4):
        items = np.flatnonzero(ALLOWED[row])
        size = min(SLATE if capacity is None else capacity, len(items))
        every = list(itertools.permutations(items, size))
        slates = np.full((len(every), SLATE), -1)
        slates[:, :size] = every
        chances = agent.chance_of(slates, arrivals.rows(np.full(len(slates), row)))
        law, near = chances.slate, {"rel": 1e-9, "abs": 1e-15}
        assert law.sum() == pytest.approx(1.0, rel=1e-12)
        for one, slate in enumerate(slates):
            for place, item in enumerate(slate[:size]):
                begins = (slates[:, : place + 1] == slate[: place + 1]).all(1)
                expected = [law[(slates == item).any(1)], law[slates[:, place] == item], law[begins]]
                found = [part[one, place] for part in (chances.inclusion, chances.position, chances.prefix)]
                assert found == pytest.approx([part.sum() for part in expected], **near)


@pytest.mark.parametrize("name", STATING)
def test_a_slate_of_another_length_has_no_chance_and_the_only_item_is_certain(name):
    """A slate that leaves a position empty which the agent fills is never shown, though it may begin so."""
    arrivals = _arrivals(1, 6, RELEVANCE, np.ones((1, 6), bool))
    chances = _ready(name, arrivals).chance_of(np.array([[1, 3, -1]]), arrivals)
    assert chances.prefix[0, 1] > 0
    assert (chances.slate[0], chances.inclusion[0, 2], chances.position[0, 2]) == (0, 0, 0)
    arrivals = _arrivals(1, 6, RELEVANCE, np.arange(6)[None] == 1)
    chances = _ready(name, arrivals).chance_of(np.array([[1, -1, -1]]), arrivals)
    for part in (chances.inclusion[0], chances.position[0]):
        assert part == pytest.approx([1.0, 0.0, 0.0])
    assert chances.slate[0] == pytest.approx(1.0)


@pytest.mark.parametrize("capacity", [None, 2])
@pytest.mark.parametrize("name", [*STATING[:2], "entropic-dual(temperature=3.0,gain=0.0)"])
def test_what_is_said_of_slates_shown_is_what_is_said_of_given_ones(name, capacity):
    """The chances that come with slates are those of ``chance_of``, and inclusion is the propensity."""
    arrivals = _arrivals(4, 6, RELEVANCE, ALLOWED, capacity)
    agent = _ready(name, arrivals)
    slates = as_slates(agent.act(arrivals))
    items = np.where(np.arange(SLATE) < (capacity or SLATE), slates.items, -1)  # as the market cuts them
    given, filled = agent.chance_of(items, arrivals), items >= 0
    np.testing.assert_allclose(given.inclusion[filled], slates.propensity[filled], rtol=1e-6)
    same_arrays(given, slates.chances, "inclusion", "position", "prefix", "slate")


@pytest.mark.parametrize("name", ["epsilon-greedy(epsilon=0.5)", "entropic-dual(temperature=0.7,gain=0.0)"])
def test_chances_are_frequencies_in_a_large_catalogue(name):
    """Of 300 items and slates of six, items stand at positions, and slates begin, as often as is said of them."""
    draws, m, k = 4_000, 300, 6
    relevance = np.random.default_rng(3).lognormal(0.0, 1.5, m)
    arrivals = _arrivals(draws, m, relevance, np.ones((1, m), bool))
    agent = _ready(name, arrivals.rows(slice(1)), k=k)
    slates = as_slates(agent.act(arrivals))
    said, cells = slates.chances, slates.items + m * np.arange(k)
    for seen, stated in (
        (cells.ravel(), said.position.ravel()),
        (slates.items[:, :2] @ [1, m], said.prefix[:, 1]),
    ):
        _, first, often = np.unique(seen, return_index=True, return_counts=True)
        chance, many = stated[first], often > 20
        error = np.sqrt(draws * chance * (1 - chance))
        assert (np.abs(often - draws * chance)[many] < 4.5 * error[many] + 1).all()
    # every item at every place: inclusion is the sum over positions
    for item in np.unique(cells)[:5] % m:
        others = [one for one in range(m) if one != item][: k - 1]
        at = np.array([np.insert(others, place, item) for place in range(k)])
        each = agent.chance_of(at, arrivals.rows(slice(k)))
        assert np.trace(each.position) == pytest.approx(each.inclusion[0, 0], rel=1e-10)


def test_certain_and_mixed_chances():
    """A policy that shows one slate has chances 0 and 1; a mixture has the mean of its parts; shapes are checked."""
    shown, slates = np.array([[4, 2, 0]]), np.array([[4, 0, -1]])
    certain = Chances.certain(shown, slates)
    assert (certain.inclusion.tolist(), certain.position.tolist()) == ([[1, 1, 0]], [[1, 0, 0]])
    assert (certain.prefix.tolist(), certain.slate.tolist()) == ([[1, 0, 0]], [0])
    other = Chances.certain(slates, slates)
    assert Chances.mixed(0.25, certain, other).slate.tolist() == [0.75]
    assert len(Chances.joined([certain, other])) == 2
    assert Chances.joined([certain, other]).rows(slice(1, 2)).slate.tolist() == [1]
    wrong = Slates(np.zeros((2, 3), np.int64), chances=Chances.none((2, 2)))
    refused(AgentError, "chances.inclusion has shape", as_slates, wrong)


def test_the_ledger_has_them_beside_inclusion():
    """Of every exposure of a stochastic agent four propensities are written; inclusion is never below position."""
    market, agent = Market(small_scenario(rounds=1)), make_agent("entropic-dual")
    play_round(market, agent)
    table = market.closed[0].ledger.table("entropic-dual", 0, 0)
    parts = ["propensity_slate", "propensity_prefix", "propensity_position", "propensity"]
    assert (table[parts].to_numpy() > 0).all()
    assert (table["propensity"] >= table["propensity_position"] * (1 - 1e-6)).all()
    assert (table["propensity_position"] >= table["propensity_prefix"] * (1 - 1e-9)).all()
    assert (table["propensity_prefix"] >= table["propensity_slate"] * (1 - 1e-9)).all()
    assert (table.groupby("arrival")["propensity_slate"].nunique() == 1).all()
