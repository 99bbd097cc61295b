"""Laws over slates, propensities and chances: each number against an enumeration of all slates, or draws."""

import dataclasses
import itertools

import numpy as np
import pytest
from kit import cases, refused, same_arrays
from kit.logs import Chunks, arrivals_of
from kit.markets import small_scenario

from rimsim.agents import StatingAgent, make_agent, play_round
from rimsim.agents.gibbs import gibbs_draw, gibbs_law, inclusion_sums, slate_chances, slate_order
from rimsim.errors import AgentError
from rimsim.evaluation import Chances
from rimsim.market import Market, Slates
from rimsim.market.records import as_slates
from rimsim.matching import tie_rank, uniform_of

ROW = np.uint64(987654321)
SIZES = [(a, k) for a in (2, 4, 6) for k in range(1, a)]


def law_of(z, k):
    """Every set of k, in the order of the items, with its probability, and log Σ exp."""
    sets = list(itertools.combinations(range(len(z)), k))
    energy = np.array([sum(z[i] for i in members) for members in sets])
    weight = np.exp(energy - energy.max())
    return list(zip(sets, weight / weight.sum(), strict=True)), float(energy.max() + np.log(weight.sum()))


def exponents(a, scale=1.5):
    """Some exponents, two of them alike, at any scale."""
    z = scale * np.random.default_rng(a).normal(size=a)
    z[-1] = z[0]
    return z


@pytest.mark.parametrize("scale", [0.0, 1.5, 10.0, 300.0])
@pytest.mark.parametrize(("a", "k"), SIZES)
def test_what_items_count_is_the_mean_over_all_sets(a, k, scale):
    """Inclusion, what items count at the positions in which they stand, and log Σ are sums over all sets."""
    z = exponents(a, scale)
    weight = np.array([1.0, 0.6, 0.5, 0.3, 0.2])[:k]
    inclusion = np.empty(a)
    counted = np.empty(a)
    total = gibbs_law(z, k, np.empty(a), np.empty((a + 1, k + 1)), inclusion, weight, counted)
    law, expected = law_of(z, k)
    assert total == pytest.approx(expected, rel=1e-12)
    for item in range(a):
        assert inclusion[item] == pytest.approx(
            sum(p for members, p in law if item in members), rel=1e-10, abs=1e-13
        )
        exposure = sum(p * weight[members.index(item)] for members, p in law if item in members)
        assert counted[item] == pytest.approx(exposure, rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("weight", [[], [1.0, 0.5, 0.25]])
def test_sums_over_states_are_those_over_all_sets(weight):
    """Rows of many, few and no items, and of no position, add up to what an enumeration has."""
    draw = np.random.default_rng(5)
    epsilon = 0.4
    price = np.array([0.0, -0.3, 0.2, 0.0, -1.0, 0.1])
    scores = draw.random((5, 6)).astype(np.float32)
    admissible = draw.random((5, 6)) < 0.8
    admissible[3] = np.arange(6) < 2
    admissible[4] = False
    capacity = np.array([2, 3, 0, 3, 2])
    weight = np.array(weight)
    mean, spread, counted = np.full((3, 6), 7.0)
    scores = np.where(admissible, scores, -np.inf).astype(np.float32)
    total = inclusion_sums(scores, capacity, price, epsilon, mean, spread, weight, counted)
    expected = {"mean": np.zeros(6), "spread": np.zeros(6), "counted": np.zeros(6)}
    energy = 0.0
    for row, k in enumerate(capacity):
        z = (scores[row].astype(float) - price) / epsilon
        items = sorted(np.flatnonzero(admissible[row]), key=lambda item: -z[item])
        law, log_sum = law_of(z[items], min(k, len(items)))
        energy += epsilon * log_sum
        inclusion = np.zeros(6)
        for members, p in law:
            for place, index in enumerate(members):
                inclusion[items[index]] += p
                expected["counted"][items[index]] += p * weight[place] if len(weight) else 0.0
        expected["mean"] += inclusion
        expected["spread"] += inclusion * (1 - inclusion)
    assert total == pytest.approx(energy, rel=1e-7)
    for name, sums in (("mean", mean), ("spread", spread), ("counted", counted)):
        assert sums == pytest.approx(expected[name], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("a", "k"), [*SIZES, (4, 4)])
def test_a_draw_takes_each_item_with_its_chance_given_those_before(a, k):
    """Item after item by its own uniform, at the share of sets that hold it among those that agree so far."""
    z = exponents(a)
    epsilon = 0.5
    value = np.insert(z * epsilon, 1, -np.inf)  # item 1 may not be shown
    law, _ = law_of(z, k)
    allowed = [0, *range(2, a + 1)]
    for number in range(30):
        row = np.uint64(number)
        remaining = law
        drawn = ()
        for index, item in enumerate(allowed):
            chance = sum(p for members, p in remaining if index in members) / sum(p for _, p in remaining)
            hit = uniform_of(np.uint64(tie_rank(row, item))) < chance
            remaining = [(members, p) for members, p in remaining if (index in members) == hit]
            drawn += (item,) if hit else ()
        items = np.full(k, -1)
        propensity = np.zeros(k, np.float32)
        assert gibbs_draw(value, epsilon, row, items, propensity) == k
        assert sorted(items) == list(drawn)
        assert (np.diff(value[items]) <= 0).all()
        inclusion = [sum(p for members, p in law if allowed.index(item) in members) for item in items]
        assert propensity == pytest.approx(np.array(inclusion), rel=1e-5)


@pytest.mark.parametrize("by_relevance", [False, True])
def test_items_stand_by_value_and_ties_by_the_seeded_rank(by_relevance):
    """Among equals of one, two, three and four the larger rank is first; relevance goes before, if it decides."""
    value = np.array([3.0, 1.0, 3.0, -np.inf, 2.0, 1.0, 1.0, 0.0, 2.0, 2.0, 2.0])
    relevance = np.array([1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 1], np.float32)
    for row in (np.uint64(n) for n in range(20)):
        order = slate_order(value, row, relevance, by_relevance)

        def key(item, row=row):
            return (relevance[item] if by_relevance else 0, value[item], int(tie_rank(row, item)))

        assert order.tolist() == sorted(np.flatnonzero(value > -np.inf), key=key, reverse=True)


@cases("a k width", (4, 2, 2), (4, 3, 3), (4, 2, 3), (3, 3, 3), (2, 3, 3), (4, 1, 2))
def test_chances_of_every_slate_are_those_of_an_enumeration(a, k, width):
    """Of any slate, in order or not, full or not: inclusion, position, beginning and whole."""
    z = exponents(a)
    epsilon = 0.5
    value = z * epsilon
    order = np.random.default_rng(k).permutation(a)
    law, _ = law_of(z[order], min(k, a))
    shown = [([int(order[i]) for i in members], p) for members, p in law]
    for length in range(width + 1):
        for slate in itertools.permutations(range(a), length):
            items = np.array([*slate, *[-1] * (width - length)])
            chances = np.full((3, width), 9.0)
            slate_chance = slate_chances(value, epsilon, order, k, items, *chances)
            assert slate_chance == pytest.approx(
                sum(p for listed, p in shown if listed == list(slate)), rel=1e-10
            )
            for place in range(width):
                item = items[place]
                beginning = list(items[: place + 1])
                expected = (
                    sum(p for listed, p in shown if item in listed),
                    sum(p for listed, p in shown if place < len(listed) and listed[place] == item),
                    sum(p for listed, p in shown if listed[: place + 1] == beginning) if item >= 0 else 0.0,
                )
                assert chances[:, place] == pytest.approx(np.array(expected), rel=1e-10)


def test_a_slate_of_no_position_is_the_empty_one():
    """Where nothing may be shown, the empty slate is certain and any other has no chance."""
    value = np.array([1.0, 2.0])
    chances = np.full((3, 2), 9.0)
    order = np.array([1, 0])
    assert slate_chances(value, 1.0, order, 0, np.array([-1, -1]), *chances) == 1.0
    assert slate_chances(value, 1.0, order, 0, np.array([1, -1]), *chances) == 0.0
    assert slate_chances(value, 1.0, order[:0], 2, np.array([-1, -1]), *chances) == 1.0
    assert (chances == 0.0).all()


ROWS = (
    "111111",
    "101101",
    "110000",
    "000000",
)  # of six items; the third has fewer than a slate, the last none
WANTED = np.array([0.1, 0.6, 0.2, 0.5, 0.3, 0.3])
PLACES = 3
STATING = ("random", "epsilon-greedy(epsilon=0.3)", "entropic-dual(temperature=3.0)", "entropic-dual")


ALLOWED = np.array([[letter == "1" for letter in row] for row in ROWS])


def _arrivals(n, m, relevance, admissible, capacity=None):
    """Arrivals with λ = 1."""
    admissible = np.broadcast_to(admissible, (n, m)).copy()
    return arrivals_of(np.where(admissible, relevance, 0.0), admissible, capacity)


def _ready(name, arrivals, unit="examined", k=PLACES):
    """An agent in a round whose past is these arrivals, half of the uniform exposure being required."""
    n, m = arrivals.relevance.shape
    agent = make_agent(name)
    view = Market(small_scenario(rounds=1, slate=k)).round_view()
    fields = {"arrivals": n, "required": np.full(m, 0.5 * n * k / m), "exposure": np.zeros(m)}
    fields |= {"calibration": Chunks([arrivals]), "cost": 0.5, "key": 7, "unit": unit}
    agent.begin_round(dataclasses.replace(view, **fields))
    return agent


@pytest.mark.parametrize("unit", ["examined", "shown"])
@pytest.mark.parametrize("capacity", [None, 2, 0])
@pytest.mark.parametrize("name", STATING)
def test_chances_of_all_slates_make_a_law(name, capacity, unit):
    """Over all slates in order, chances of slates sum to 1, and to those of their items, positions and beginnings."""
    arrivals = _arrivals(4, 6, WANTED, ALLOWED, capacity)
    agent = _ready(name, arrivals, unit)
    assert isinstance(agent, StatingAgent)
    for row in range(4):
        items = np.flatnonzero(ALLOWED[row])
        size = min(PLACES if capacity is None else capacity, len(items))
        orders = list(itertools.permutations(items, size))
        slates = np.full((len(orders), PLACES), -1)
        slates[:, :size] = orders
        chances = agent.chance_of(slates, arrivals.rows(np.full(len(slates), row)))
        law = chances.slate
        near = {"rel": 1e-9, "abs": 1e-15}
        assert law.sum() == pytest.approx(1.0, rel=1e-12)
        for number, slate in enumerate(slates):
            for place, item in enumerate(slate[:size]):
                begins = (slates[:, : place + 1] == slate[: place + 1]).all(1)
                expected = [law[(slates == item).any(1)], law[slates[:, place] == item], law[begins]]
                stated = [
                    part[number, place] for part in (chances.inclusion, chances.position, chances.prefix)
                ]
                assert stated == pytest.approx([part.sum() for part in expected], **near)


@pytest.mark.parametrize("name", STATING)
def test_a_slate_of_another_length_has_no_chance_and_the_only_item_is_certain(name):
    """A slate that leaves a position empty which the agent fills is never shown, though it may begin so."""
    arrivals = _arrivals(1, 6, WANTED, np.ones((1, 6), bool))
    chances = _ready(name, arrivals).chance_of(np.array([[1, 3, -1]]), arrivals)
    assert chances.prefix[0, 1] > 0
    assert (chances.slate[0], chances.inclusion[0, 2], chances.position[0, 2]) == (0, 0, 0)
    arrivals = _arrivals(1, 6, WANTED, np.arange(6)[None] == 1)
    chances = _ready(name, arrivals).chance_of(np.array([[1, -1, -1]]), arrivals)
    for part in (chances.inclusion[0], chances.position[0]):
        assert part == pytest.approx([1.0, 0.0, 0.0])
    assert chances.slate[0] == pytest.approx(1.0)


@pytest.mark.parametrize("unit", ["examined", "shown"])
@pytest.mark.parametrize("capacity", [None, 2])
@pytest.mark.parametrize("name", [*STATING[:2], "entropic-dual(temperature=3.0,gain=0.0)"])
def test_what_is_said_of_slates_shown_is_what_is_said_of_given_ones(name, capacity, unit):
    """The chances that come with slates are those of ``chance_of``, and inclusion is the propensity."""
    arrivals = _arrivals(4, 6, WANTED, ALLOWED, capacity)
    agent = _ready(name, arrivals, unit)
    slates = as_slates(agent.act(arrivals))
    items = np.where(np.arange(PLACES) < (capacity or PLACES), slates.items, -1)  # as the market cuts them
    chances = agent.chance_of(items, arrivals)
    filled = items >= 0
    np.testing.assert_allclose(chances.inclusion[filled], slates.propensity[filled], rtol=1e-6)
    assert (chances.slate > 0).all()
    same_arrays(chances, slates.chances, "inclusion", "position", "prefix", "slate")


@pytest.mark.parametrize(
    "name", ["random", "epsilon-greedy(epsilon=0.5)", "entropic-dual(temperature=0.7,gain=0.0)"]
)
def test_chances_are_frequencies_in_a_large_catalogue(name):
    """Of 300 items and slates of six, items stand at positions, and slates begin, as often as is said of them."""
    draws = 4_000
    m = 300
    k = 6
    relevance = np.random.default_rng(3).lognormal(0.0, 1.5, m)
    arrivals = _arrivals(draws, m, relevance, np.ones((1, m), bool))
    agent = _ready(name, arrivals.rows(slice(1)), k=k)
    slates = as_slates(agent.act(arrivals))
    chances = slates.chances
    cells = slates.items + m * np.arange(k)
    for events, stated in (
        (cells.ravel(), chances.position.ravel()),
        (slates.items[:, :2] @ [1, m], chances.prefix[:, 1]),
    ):
        _, first, often = np.unique(events, return_index=True, return_counts=True)
        chance = stated[first]
        is_frequent = often > 20
        error = np.sqrt(draws * chance * (1 - chance))
        assert (np.abs(often - draws * chance)[is_frequent] < 4.5 * error[is_frequent] + 1).all()
    # every item at every place: inclusion is the sum over positions
    for item in np.unique(cells)[:5] % m:
        filler = [candidate for candidate in range(m) if candidate != item][: k - 1]
        orders = np.array([np.insert(filler, place, item) for place in range(k)])
        each = agent.chance_of(orders, arrivals.rows(slice(k)))
        assert np.trace(each.position) == pytest.approx(each.inclusion[0, 0], rel=1e-10)


def test_certain_and_mixed_chances():
    """A policy that shows one slate has chances 0 and 1; a mixture has the mean of its parts; shapes are checked."""
    shown = np.array([[4, 2, 0]])
    slates = np.array([[4, 0, -1]])
    certain = Chances.certain(shown, slates)
    assert (certain.inclusion.tolist(), certain.position.tolist()) == ([[1, 1, 0]], [[1, 0, 0]])
    assert (certain.prefix.tolist(), certain.slate.tolist()) == ([[1, 0, 0]], [0])
    shorter = Chances.certain(slates, slates)
    assert Chances.mixed(0.25, certain, shorter).slate.tolist() == [0.75]
    assert len(Chances.joined([certain, shorter])) == 2
    assert Chances.joined([certain, shorter]).rows(slice(1, 2)).slate.tolist() == [1]
    wrong = Slates(np.zeros((2, 3), np.int64), chances=Chances.none((2, 2)))
    refused(AgentError, "chances.inclusion has shape", as_slates, wrong)


def test_the_ledger_has_them_beside_inclusion():
    """Of every exposure of a stochastic agent four propensities are written; inclusion is never below position."""
    market = Market(small_scenario(rounds=1))
    agent = make_agent("entropic-dual")
    play_round(market, agent)
    table = market.closed[0].ledger.table("entropic-dual", 0, 0)
    parts = ["propensity_slate", "propensity_prefix", "propensity_position", "propensity"]
    assert (table[parts].to_numpy() > 0).all()
    assert (table["propensity"] >= table["propensity_position"] * (1 - 1e-6)).all()
    assert (table["propensity_position"] >= table["propensity_prefix"] * (1 - 1e-9)).all()
    assert (table["propensity_prefix"] >= table["propensity_slate"] * (1 - 1e-9)).all()
    assert (table.groupby("arrival")["propensity_slate"].nunique() == 1).all()
