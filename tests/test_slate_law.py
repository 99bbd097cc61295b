"""Laws over slates and propensities: every number of them against an enumeration of all sets or slates."""

import itertools
from itertools import permutations

import numpy as np
import pytest
from kit import cases
from made_arrivals import arrivals_of
from small_markets import small_scenario

from rimsim.agents import make_agent
from rimsim.agents.gibbs import gibbs_draw, gibbs_law, inclusion_sums, slate_chances, standing_order
from rimsim.market import Market
from rimsim.matching import tie_rank, uniform_of

ROW = np.uint64(987654321)
SIZES = [(a, k) for a in (2, 4, 6) for k in range(1, a)]


def law_of(z, k):
    """Every set of k, in the order of the items, with its probability, and log Σ exp."""
    sets = list(itertools.combinations(range(len(z)), k))
    energy = np.array([sum(z[i] for i in one) for one in sets])
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
    z, weight = exponents(a, scale), np.array([1.0, 0.6, 0.5, 0.3, 0.2])[:k]
    inclusion, counted = np.empty(a), np.empty(a)
    total = gibbs_law(z, k, np.empty(a), np.empty((a + 1, k + 1)), inclusion, weight, counted)
    law, expected = law_of(z, k)
    assert total == pytest.approx(expected, rel=1e-12)
    for item in range(a):
        assert inclusion[item] == pytest.approx(sum(p for one, p in law if item in one), rel=1e-10, abs=1e-13)
        among = sum(p * weight[one.index(item)] for one, p in law if item in one)
        assert counted[item] == pytest.approx(among, rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("weight", [[], [1.0, 0.5, 0.25]])
def test_sums_over_states_are_those_over_all_sets(weight):
    """Rows of many, few and no items, and of no position, add up to what an enumeration has."""
    draw, epsilon, price = np.random.default_rng(5), 0.4, np.array([0.0, -0.3, 0.2, 0.0, -1.0, 0.1])
    scores = draw.random((5, 6)).astype(np.float32)
    admissible = draw.random((5, 6)) < 0.8
    admissible[3] = np.arange(6) < 2
    admissible[4] = False
    capacity, weight = np.array([2, 3, 0, 3, 2]), np.array(weight)
    mean, spread, counted = np.full((3, 6), 7.0)
    total = inclusion_sums(scores, admissible, capacity, price, epsilon, mean, spread, weight, counted)
    expected = {"mean": np.zeros(6), "spread": np.zeros(6), "counted": np.zeros(6)}
    energy = 0.0
    for row, k in enumerate(capacity):
        z = (scores[row].astype(float) - price) / epsilon
        items = sorted(np.flatnonzero(admissible[row]), key=lambda item: -z[item])
        law, log_sum = law_of(z[items], min(k, len(items)))
        energy += epsilon * log_sum
        inclusion = np.zeros(6)
        for one, p in law:
            for place, among in enumerate(one):
                inclusion[items[among]] += p
                expected["counted"][items[among]] += p * weight[place] if len(weight) else 0.0
        expected["mean"] += inclusion
        expected["spread"] += inclusion * (1 - inclusion)
    assert total == pytest.approx(energy, rel=1e-7)
    for name, found in (("mean", mean), ("spread", spread), ("counted", counted)):
        assert found == pytest.approx(expected[name], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("a", "k"), SIZES)
def test_a_draw_takes_each_item_with_its_chance_given_those_before(a, k):
    """Item after item by its own uniform, at the share of sets that hold it among those that agree so far."""
    z, epsilon = exponents(a), 0.5
    value = np.insert(z * epsilon, 1, -np.inf)  # item 1 may not be shown
    law, _ = law_of(z, k)
    allowed = [0, *range(2, a + 1)]
    for number in range(30):
        row, left, taken = np.uint64(number), law, ()
        for at, item in enumerate(allowed):
            among = sum(p for one, p in left if at in one) / sum(p for _, p in left)
            hit = uniform_of(np.uint64(tie_rank(row, item))) < among
            left = [(one, p) for one, p in left if (at in one) == hit]
            taken += (item,) if hit else ()
        items, propensity = np.full(k, -1), np.zeros(k, np.float32)
        assert gibbs_draw(value, epsilon, row, items, propensity) == k
        assert sorted(items) == list(taken)
        assert (np.diff(value[items]) <= 0).all()
        inclusion = [sum(p for one, p in law if allowed.index(item) in one) for item in items]
        assert propensity == pytest.approx(np.array(inclusion), rel=1e-5)


@pytest.mark.parametrize("by_relevance", [False, True])
def test_items_stand_by_value_and_ties_by_the_seeded_rank(by_relevance):
    """Among equals of one, two, three and four the larger rank is first; relevance goes before, if it decides."""
    value = np.array([3.0, 1.0, 3.0, -np.inf, 2.0, 1.0, 1.0, 0.0, 2.0, 2.0, 2.0])
    relevance = np.array([1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 1], np.float32)
    for row in (np.uint64(n) for n in range(20)):
        found = standing_order(value, row, relevance, by_relevance)

        def key(item, row=row):
            return (relevance[item] if by_relevance else 0, value[item], int(tie_rank(row, item)))

        assert found.tolist() == sorted(np.flatnonzero(value > -np.inf), key=key, reverse=True)


@cases("a k width", (4, 2, 2), (4, 3, 3), (4, 2, 3), (3, 3, 3), (2, 3, 3), (4, 1, 2))
def test_chances_of_every_slate_are_those_of_an_enumeration(a, k, width):
    """Of any slate, in order or not, full or not: inclusion, position, beginning and whole."""
    z, epsilon = exponents(a), 0.5
    value, order = z * epsilon, np.random.default_rng(k).permutation(a)
    law, _ = law_of(z[order], min(k, a))
    shown = [([int(order[i]) for i in one], p) for one, p in law]
    for length in range(width + 1):
        for slate in itertools.permutations(range(a), length):
            items = np.array([*slate, *[-1] * (width - length)])
            found = np.full((3, width), 9.0)
            whole = slate_chances(value, epsilon, order, k, items, *found)
            assert whole == pytest.approx(sum(p for one, p in shown if one == list(slate)), rel=1e-10)
            for place in range(width):
                item, begin = items[place], list(items[: place + 1])
                expected = (
                    sum(p for one, p in shown if item in one),
                    sum(p for one, p in shown if place < len(one) and one[place] == item),
                    sum(p for one, p in shown if one[: place + 1] == begin) if item >= 0 else 0.0,
                )
                assert found[:, place] == pytest.approx(np.array(expected), rel=1e-10)


def test_a_slate_of_no_position_is_the_empty_one():
    """Where nothing may be shown, the empty slate is certain and any other has no chance."""
    value, found = np.array([1.0, 2.0]), np.full((3, 2), 9.0)
    order = np.array([1, 0])
    assert slate_chances(value, 1.0, order, 0, np.array([-1, -1]), *found) == 1.0
    assert slate_chances(value, 1.0, order, 0, np.array([1, -1]), *found) == 0.0
    assert slate_chances(value, 1.0, order[:0], 2, np.array([-1, -1]), *found) == 1.0
    assert (found == 0.0).all()


ADMISSIBLE = ("111111", "101101", "110000")
"""Three arrivals' admissible ones of six items; the last has fewer than a slate holds."""
RELEVANCE = np.array([0.1, 0.6, 0.2, 0.5, 0.3, 0.4])
SLATE = 3


def _answered(agent, capacity):
    """The answer of an agent to the three arrivals."""
    admissible = np.array([[letter == "1" for letter in row] for row in ADMISSIBLE])
    agent = make_agent(agent)
    agent.begin_round(Market(small_scenario(rounds=1, slate=SLATE)).round_view())
    return agent.act(arrivals_of(np.where(admissible, RELEVANCE, 0.0), admissible, capacity))


@pytest.mark.parametrize("capacity", [None, 2, 1])
@pytest.mark.parametrize(
    ("agent", "epsilon"),
    [("random", 1.0)] + [(f"epsilon-greedy(epsilon={share})", share) for share in (0.0, 0.1, 0.35, 1.0)],
)
def test_a_propensity_is_the_share_of_all_slates_that_show_the_item(agent, epsilon, capacity):
    """It is (1 − ε)·[among the best shown] + ε·(share of ordered uniform slates that show it), in float32."""
    slates = _answered(agent, capacity)
    shown = SLATE if capacity is None else capacity
    for row, letters in enumerate(ADMISSIBLE):
        items = [item for item, letter in enumerate(letters) if letter == "1"]
        best = sorted(items, key=lambda item: -RELEVANCE[item])[:shown]
        uniform = list(permutations(items, min(SLATE, len(items))))
        for item, propensity in zip(slates.items[row], slates.propensity[row], strict=True):
            if item >= 0:
                share = sum(item in slate[:shown] for slate in uniform) / len(uniform)
                assert propensity == pytest.approx((1 - epsilon) * (item in best) + epsilon * share, rel=1e-6)


def test_the_share_of_arrivals_that_are_explored_is_epsilon():
    """Of 40,000 arrivals, those with another slate than the best are ε·(1 − 1/slates) within four standard errors."""
    n, epsilon = 40_000, 0.1
    agent = make_agent(f"epsilon-greedy(epsilon={epsilon})")
    agent.begin_round(Market(small_scenario(rounds=1, slate=SLATE)).round_view())
    arrivals = arrivals_of(np.tile(RELEVANCE, (n, 1)))
    items = agent.act(arrivals).items
    others = (np.sort(items, axis=1) != np.sort(np.argsort(-RELEVANCE)[:SLATE])[None, :]).any(1)
    expected = epsilon * (1 - 1 / 20)  # 20 sets of three among six
    assert abs(others.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / n)
