"""Chances of positions, beginnings and slates: against all slates, against draws, and against each other."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from made_arrivals import arrivals_of
from small_markets import small_scenario

from rimsim.agents import StatingAgent, make_agent, play_round
from rimsim.evaluation import Chances
from rimsim.market import Market
from rimsim.market.records import as_slates

ADMISSIBLE = ("111111", "101101", "110000", "000000")
"""Arrivals' admissible ones of six items; the third has fewer than a slate holds, the last none."""
RELEVANCE = np.array([0.1, 0.6, 0.2, 0.5, 0.3, 0.3])
SLATE = 3
STATING = ("random", "epsilon-greedy(epsilon=0.3)", "entropic-dual(temperature=3.0)", "entropic-dual")


def _arrivals(n, m, relevance, admissible, capacity=None):
    """Arrivals with λ = 1."""
    admissible = np.broadcast_to(admissible, (n, m)).copy()
    return arrivals_of(np.where(admissible, relevance, 0.0), admissible, capacity)


def _ready(name, arrivals, unit="examined", k=SLATE, key=7):
    """An agent in a round whose past is these arrivals, half of the uniform exposure being required."""
    n, m = arrivals.relevance.shape
    view = Market(small_scenario(rounds=1, slate=k)).round_view()
    agent = make_agent(name)

    class Past(list):
        def __len__(self):
            return n

    agent.begin_round(
        dataclasses.replace(
            view,
            arrivals=n,
            required=np.full(m, 0.5 * n * k / m),
            exposure=np.zeros(m),
            calibration=Past([arrivals]),
            cost=0.5,
            key=key,
            unit=unit,
        )
    )
    return agent


@pytest.mark.parametrize("unit", ["examined", "shown"])
@pytest.mark.parametrize("capacity", [None, 2, 0])
@pytest.mark.parametrize("name", STATING)
def test_chances_of_all_slates_make_a_law(name, capacity, unit):
    """Over all slates in order, chances of slates sum to 1, and to those of their items, positions and beginnings."""
    allowed = np.array([[letter == "1" for letter in row] for row in ADMISSIBLE])
    arrivals = _arrivals(4, 6, RELEVANCE, allowed, capacity)
    agent = _ready(name, arrivals, unit)
    assert isinstance(agent, StatingAgent)
    for row in range(4):
        items = np.flatnonzero(allowed[row])
        size = min(SLATE if capacity is None else capacity, len(items))
        slates = np.full((len(list(itertools.permutations(items, size))), SLATE), -1)
        slates[:, :size] = list(itertools.permutations(items, size))
        chances = agent.chance_of(slates, arrivals.rows(np.full(len(slates), row)))
        law = chances.slate
        assert law.sum() == pytest.approx(1.0, rel=1e-12)
        for one, slate in enumerate(slates):
            for place in range(size):
                item = slate[place]
                assert chances.inclusion[one, place] == pytest.approx(
                    law[(slates == item).any(1)].sum(), rel=1e-9, abs=1e-15
                )
                assert chances.position[one, place] == pytest.approx(
                    law[slates[:, place] == item].sum(), rel=1e-9, abs=1e-15
                )
                begins = (slates[:, : place + 1] == slate[: place + 1]).all(1)
                assert chances.prefix[one, place] == pytest.approx(law[begins].sum(), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("name", STATING)
def test_a_slate_of_another_length_has_no_chance(name):
    """A slate that leaves a position empty which the agent fills is never shown, though it may begin so."""
    arrivals = _arrivals(1, 6, RELEVANCE, np.ones((1, 6), bool))
    agent = _ready(name, arrivals)
    chances = agent.chance_of(np.array([[1, 3, -1]]), arrivals)
    assert chances.slate[0] == 0
    assert chances.prefix[0, 1] > 0
    assert chances.inclusion[0, 2] == 0
    assert chances.position[0, 2] == 0


@pytest.mark.parametrize("name", STATING)
def test_the_only_item_that_may_be_shown_is_shown_for_certain(name):
    """With one admissible item every chance of it is 1, and those of empty positions are 0."""
    allowed = np.array([[False, True, False, False, False, False]])
    arrivals = _arrivals(1, 6, RELEVANCE, allowed)
    chances = _ready(name, arrivals).chance_of(np.array([[1, -1, -1]]), arrivals)
    assert chances.inclusion[0] == pytest.approx([1.0, 0.0, 0.0])
    assert chances.position[0] == pytest.approx([1.0, 0.0, 0.0])
    assert chances.slate[0] == pytest.approx(1.0)


@pytest.mark.parametrize("name", STATING)
def test_what_is_said_of_slates_shown_is_what_is_said_of_given_ones(name):
    """The chances that come with slates are those of ``chance_of``, and inclusion is the propensity."""
    allowed = np.array([[letter == "1" for letter in row] for row in ADMISSIBLE])
    arrivals = _arrivals(4, 6, RELEVANCE, allowed)
    agent = _ready(f"{name}" if "dual" not in name else "entropic-dual(temperature=3.0,gain=0.0)", arrivals)
    slates = as_slates(agent.act(arrivals))
    given = agent.chance_of(slates.items, arrivals)
    filled = slates.items >= 0
    np.testing.assert_allclose(given.inclusion[filled], slates.propensity[filled], rtol=1e-6)
    for part in ("inclusion", "position", "prefix"):
        np.testing.assert_array_equal(getattr(given, part), getattr(slates.chances, part))
    np.testing.assert_array_equal(given.slate, slates.chances.slate)


@pytest.mark.parametrize("name", ["epsilon-greedy(epsilon=0.5)", "entropic-dual(temperature=0.7,gain=0.0)"])
def test_chances_are_frequencies_in_a_large_catalogue(name):
    """Of 300 items and slates of six, items stand at positions, and slates begin, as often as is said of them."""
    draws, m, k = 4_000, 300, 6
    relevance = np.random.default_rng(3).lognormal(0.0, 1.5, m)
    arrivals = _arrivals(draws, m, relevance, np.ones((1, m), bool))
    agent = _ready(name, arrivals.rows(slice(1)), k=k)
    slates = as_slates(agent.act(arrivals))
    said = slates.chances
    cells, first, often = np.unique(slates.items + m * np.arange(k), return_index=True, return_counts=True)
    chance = said.position.reshape(-1)[first]
    error = np.sqrt(draws * chance * (1 - chance))
    assert (np.abs(often - draws * chance)[often > 20] < 4.5 * error[often > 20] + 1).all()
    _, first, often = np.unique(slates.items[:, :2] @ [1, m], return_index=True, return_counts=True)
    chance = said.prefix[first, 1]
    error = np.sqrt(draws * chance * (1 - chance))
    assert (np.abs(often - draws * chance)[often > 20] < 4.5 * error[often > 20] + 1).all()
    # every item at every place: inclusion is the sum over positions
    for item in cells[:5] % m:
        at = np.full((k, k), -1)
        others = [one for one in range(m) if one != item][: k - 1]
        for place in range(k):
            at[place] = np.insert(others, place, item)
        each = agent.chance_of(at, arrivals.rows(slice(k)))
        total = sum(each.position[place, place] for place in range(k))
        assert total == pytest.approx(each.inclusion[0, 0], rel=1e-10)


def test_certain_and_mixed_chances():
    """A policy that shows one slate has chances 0 and 1; a mixture has the mean of its parts."""
    shown, slates = np.array([[4, 2, 0]]), np.array([[4, 0, -1]])
    certain = Chances.certain(shown, slates)
    assert certain.inclusion.tolist() == [[1, 1, 0]]
    assert certain.position.tolist() == [[1, 0, 0]]
    assert certain.prefix.tolist() == [[1, 0, 0]]
    assert certain.slate.tolist() == [0]
    other = Chances.certain(slates, slates)
    assert Chances.mixed(0.25, certain, other).slate.tolist() == [0.75]
    assert len(Chances.joined([certain, other])) == 2
    assert Chances.joined([certain, other]).rows(slice(1, 2)).slate.tolist() == [1]


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


def test_chances_of_another_shape_are_refused():
    """What says it has the chances of a slate has one for each position."""
    from rimsim.errors import AgentError
    from rimsim.market import Slates

    with pytest.raises(AgentError, match="chances.inclusion has shape"):
        as_slates(Slates(np.zeros((2, 3), np.int64), chances=Chances.none((2, 2))))
