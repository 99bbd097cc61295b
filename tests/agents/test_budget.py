"""Bonuses that end when a requirement is met: ``rim-dual`` and ``flat-budget``, against searches by hand."""

from copy import deepcopy
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from kit import cases, refused
from kit.logs import arrivals_of, skewed, view_of
from kit.markets import (
    market_of,
    play_out,
    played,
    priced,
    same_ledgers,
    settings_of,
    small_capped,
    small_replay,
    small_scenario,
)

from rimsim.agents import make_agent, market_for, play_round, rollout
from rimsim.agents.prices import solved_rows
from rimsim.agents.row_table import RowTable
from rimsim.config import ExposureConfig
from rimsim.errors import ConfigError
from rimsim.matching import tie_base, tie_rank, uniform_of
from rimsim.requirements.rows import Requirements, Row

AGENTS = ("rim-dual", "flat-budget")
MARKETS = {
    "shown": small_scenario(rounds=2, exposure=ExposureConfig(beta=0.5, unit="shown")),
    "examined": small_scenario(rounds=2, exposure=ExposureConfig(beta=0.5, unit="examined")),
    "capped users": small_capped(rounds=2),
    "rows": priced(),
    "rows, examined": priced(unit="examined"),
}


def start_prices(agent, view):
    """Prices of items and of ``view.promises`` at the first arrival, from the definition of each agent."""
    table = RowTable.of(view)
    if agent.name == "rim-dual":
        return table.split(solved_rows(view, table, 1e-3)[0])
    return table.split(np.where(table.min_exposure > 0, -0.3 * view.cost, 0.0))


class ByHand:
    """Values of items at each arrival, if the bonus of a requirement ends with its exposures."""

    def __init__(self, agent, view):
        self.view = view
        self.item_price, self.row_price = start_prices(agent, view)
        self.exposure = view.exposure.astype(float)
        self.delivered = view.delivered.astype(float)
        self.ended = 0

    def price_and_room(self, counts):
        """Price of each item at an arrival, and a mask of items that no cap hides."""
        view = self.view
        rows = self.view.promises
        price = np.where(self.exposure < view.required, self.item_price, 0.0)
        has_room = np.ones(len(price), bool)
        for row in np.flatnonzero(counts):
            items = rows.items(row)
            if self.delivered[row] < rows.min_exposure[row] or self.row_price[row] > 0:
                price[items] += self.row_price[row]
            has_room[items] &= (
                self.delivered[row] + view.position_weights[: len(items)].sum() <= rows.max_exposure[row]
            )
        return price, has_room

    def count(self, slate, counts):
        """Count a slate, and the bonuses that it ends."""
        view = self.view
        rows = self.view.promises
        below = self.exposure < view.required
        self.exposure[slate] += view.position_weights[: len(slate)]
        self.ended += np.count_nonzero(below & (self.exposure >= view.required))
        for row in np.flatnonzero(counts):
            self.delivered[row] += view.position_weights[: len(slate)][np.isin(slate, rows.items(row))].sum()


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("kind", MARKETS)
def test_each_slate_is_the_best_at_prices_that_end(name, kind):
    """Slates and prices equal a slow search, in which a bonus counts while its requirement is not met."""
    agent, market = market_of(name, MARKETS[kind])
    while not market.done:
        view = market.round_view()
        agent.begin_round(view)
        by_hand = ByHand(agent, view)
        while market.round == view.round and not market.done:
            arrivals = market.next_arrivals(7)
            slates = agent.act(arrivals)
            counted = view.promises.active(arrivals.audiences, len(arrivals))
            for row in range(len(arrivals)):
                price, has_room = by_hand.price_and_room(counted[row])
                scores = arrivals.intensity[row].numpy().astype(float)
                value = np.where(arrivals.admissible[row].numpy() & has_room, scores - price, -np.inf)
                n_positions = 5 if arrivals.capacity is None else arrivals.capacity[row]
                slate = slates.items[row][slates.items[row] >= 0]
                assert len(slate) == min(n_positions, np.isfinite(value).sum())
                assert np.sort(value[slate])[::-1] == pytest.approx(np.sort(value)[::-1][: len(slate)])
                assert (np.diff((scores if view.unit == "shown" else value)[slate]) <= 1e-9).all()
                np.testing.assert_allclose(
                    slates.price[row][: len(slate)], price[slate], rtol=1e-6, atol=1e-12
                )
                by_hand.count(slate, counted[row])
            market.serve(arrivals, slates)
        assert by_hand.ended > 20
        closed = market.closed[-1]
        np.testing.assert_allclose(by_hand.exposure, closed.exposure, rtol=1e-12)
        assert (closed.delivered <= closed.promises.max_exposure).all()


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("kind", ["examined", "rows"])
def test_batches_and_the_environment_give_the_same_slates(name, kind):
    """Batches of one, seven and any number leave one ledger, which Gymnasium's steps leave, too."""
    config = MARKETS[kind]
    single_batch = played(config, name)
    for batch in (1, 7):
        same_ledgers(single_batch, played(config, name, batch))
    made = gymnasium.make("RIMMarket-v0", scenario="closed-loop", settings=settings_of(config))
    rollout(made, make_agent(name), seed=0)
    same_ledgers(single_batch, made.unwrapped.market)


def two_items(required, *, unit="shown", decay=1.0, k=1, cost=0.5, exposure=0.0, **fields):
    """A round of ten equal arrivals in which item 0 is worth 0.5 and item 1, with a floor, 0.4."""
    view = view_of(10, 2, k, unit=unit, decay=decay, cost=cost, **fields)
    view = replace(view, required=np.array([0.0, required]), exposure=np.array([0.0, exposure]))
    return view, arrivals_of(np.tile([0.5, 0.4], (10, 1)))


@cases(
    "required exposure shown",
    (3.0, 0.0, 3),  # the third exposure meets the floor, and the fourth arrival sees no bonus
    (3.5, 0.0, 4),
    (3.0, 2.0, 1),  # exposures before the agent began count
    (3.0, 3.0, 0),
)
def test_a_bonus_ends_at_the_arrival_that_meets_the_floor(required, exposure, shown):
    """With one position, item 1 has the first arrivals, up to its floor and no further; then it has no price."""
    view, arrivals = two_items(required, exposure=exposure)
    agent = make_agent("flat-budget")
    agent.begin_round(view)
    slates = agent.act(arrivals)
    assert slates.items[:, 0].tolist() == [1] * shown + [0] * (10 - shown)
    assert slates.price[:, 0] == pytest.approx([-0.15] * shown + [0.0] * (10 - shown))
    assert agent.item_price.tolist() == [0.0, 0.0]


@cases("required first", (2.0, 2), (2.0 + 2**-20, 3), (1.5, 2))
def test_examined_exposures_spend_a_budget_by_position(required, first):
    """The bonus brings item 1 to the first position, worth 1, until these add up to the floor; then it is second."""
    view, arrivals = two_items(required, unit="examined", decay=0.5, k=2)
    agent = make_agent("flat-budget")
    agent.begin_round(view)
    assert agent.act(arrivals).items[:, 0].tolist() == [1] * first + [0] * (10 - first)


@cases("bonus shown", (0.19, 0), (0.21, 3), (5.0, 3))
def test_the_bonus_is_a_multiple_of_the_cost(bonus, shown):
    """Item 1 needs a bonus of 0.1 = 0.2·c to be shown; a soft guarantee has a bonus of at most c."""
    view, arrivals = two_items(3.0)
    agent = make_agent(f"flat-budget(bonus={bonus})")
    agent.begin_round(view)
    assert agent.item_price[1] == pytest.approx(-0.5 * min(bonus, 1.0))
    assert np.count_nonzero(agent.act(arrivals).items == 1) == shown


def test_a_negative_bonus_is_refused():
    """The bonus is a number of at least 0."""
    refused(ConfigError, "'bonus' is -0.1", make_agent, "flat-budget(bonus=-0.1)")
    assert make_agent("flat-budget(bonus=0)").bonus == 0


def test_campaigns_spend_their_own_bonuses():
    """A campaign's bonus counts for its audience, until the exposures of its items together meet its floor."""
    past = replace(arrivals_of(np.tile([0.5, 0.4, 0.4], (10, 1))), audiences=np.arange(10)[:, None] % 2 == 0)
    view = replace(
        view_of(10, 3, 1, past=past),
        required=np.zeros(3),
        promises=Requirements.of([Row("both", np.array([1, 2]), 3.0, audience=0, arrivals=5.0)]),
        delivered=np.zeros(1),
    )
    agent = make_agent("flat-budget")
    agent.begin_round(view)
    assert agent.row_price == pytest.approx([-0.15])
    shown = agent.act(replace(past, id=np.arange(50, 60))).items[:, 0]
    assert np.flatnonzero(shown > 0).tolist() == [0, 2, 4]
    assert agent.row_price.tolist() == [0.0]


@cases(
    "name shown", ("flat-budget", {4}), ("rim-dual", {1, 2, 3, 4}), ("rim-dual(spend=False)", {7, 8, 9, 10})
)
def test_only_agents_that_count_keep_caps(name, shown):
    """An item with a cap of four is shown at most four times, though it is the best item of each arrival."""
    scores = 0.4 + np.linspace(0.1, 0.5, 10)[:, None] * np.array([1.0, 0.0])
    past = arrivals_of(scores)
    cap = Requirements.of([Row("most", np.array([0]), max_exposure=4.0, arrivals=10.0)])
    view = replace(view_of(10, 2, 1, past=past), required=np.zeros(2), promises=cap, delivered=np.zeros(1))
    agent = make_agent(name)
    agent.begin_round(view)
    assert (
        np.count_nonzero(agent.act(arrivals_of(scores + np.array([0.3, 0.0]), first=10)).items == 0) in shown
    )


@pytest.mark.parametrize("name", [*AGENTS, "flat-budget(bonus=0)"])
def test_hard_guarantees_are_kept_by_the_guard(name):
    """With hard guarantees nothing is missing, even where the bonus alone would leave half of it."""
    n = 400
    m = 60
    k = 6
    past = arrivals_of(skewed(n, m, 1))
    now = arrivals_of(skewed(n, m, 2), first=900)
    view = view_of(n, m, k, past=past, cost=1e-3)
    for hard in (True, False):
        agent = make_agent(name)
        agent.begin_round(replace(view, hard=hard))
        exposure = np.bincount(agent.act(now).items.ravel(), minlength=m)
        missing = np.maximum(view.required - exposure, 0).sum() / view.required.sum()
        assert missing == 0 if hard else missing > 0.05


@pytest.mark.parametrize("name", AGENTS)
def test_exposures_by_another_agent_spend_the_budget(name):
    """After ``note_delivery``, the bonus of an item whose floor is met has ended, and a withdrawal restores it."""
    past = arrivals_of(np.tile([0.5, 0.4], (10, 1)))
    view = replace(view_of(10, 2, 1, past=past), required=np.array([0.0, 3.0]))
    agent = make_agent(name)
    agent.begin_round(view)
    before = agent.item_price
    assert before[1] < 0
    agent.note_delivery(np.array([0.0, 3.0]), past)
    assert (agent.item_price == 0).all()
    agent.note_delivery(np.array([0.0, -1.0]), None)
    assert agent.item_price.tolist() == before.tolist()


@pytest.mark.parametrize("name", AGENTS)
def test_a_copy_goes_on_like_its_original(name):
    """A copy within a round answers the rest of it with the same slates, and does not count for the original."""
    agent, market = market_of(name, MARKETS["rows"])
    agent.begin_round(market.round_view())
    market.serve(first := market.next_arrivals(40), agent.act(first))
    again = deepcopy(agent)
    arrivals = market.next_arrivals(40)
    for part in (slice(0, 9), slice(9, 40)):
        np.testing.assert_array_equal(
            agent.act(arrivals.rows(part)).items, again.act(arrivals.rows(part)).items
        )


@cases("unit", ("shown",), ("examined",))
def test_without_spending_prices_stay_fixed(unit):
    """``spend=False`` ranks by λ − v with the start prices and a seeded number below the tie width, in any order."""
    agent, market = market_of(
        "rim-dual(spend=False)", small_scenario(rounds=1, exposure=ExposureConfig(unit=unit))
    )
    assert (agent.order_free, agent.barrier_every, agent.keeps_promises) == (True, None, True)
    view = market.round_view()
    agent.begin_round(view)
    price, width = solved_rows(view, RowTable.of(view), 1e-3)
    assert width > 0
    while not market.done:
        arrivals = market.next_arrivals(31)
        slates = agent.act(arrivals)
        order = np.random.default_rng(0).permutation(len(arrivals))
        np.testing.assert_array_equal(slates.items[order], agent.act(arrivals.rows(order)).items)
        for row, slate in enumerate(slates.items):
            bits = np.uint64(tie_rank(tie_base(view.key), arrivals.id[row]))
            noise = np.array([uniform_of(np.uint64(tie_rank(bits, item))) for item in range(market.n_items)])
            scores = arrivals.intensity[row].numpy().astype(float)
            value = np.where(arrivals.admissible[row], scores - price + width * noise, -np.inf)
            best = np.argsort(-value)[:5]
            best = best[np.argsort(-scores[best], kind="stable")] if unit == "shown" else best
            assert slate.tolist() == best.tolist()
            np.testing.assert_array_equal(slates.price[row], price[slate].astype(np.float32))
        market.serve(arrivals, slates)
    assert (agent.item_price == price).all()


def test_a_budget_delivers_where_fixed_prices_do_not():
    """In a replay, where arrivals differ from past states, fixed prices leave several times as much undelivered."""
    config = small_replay(exposure=ExposureConfig(beta=0.5, cost=3.0))
    missing = {}
    for name in ("rim-dual", "rim-dual(spend=False)", "relevance"):
        rounds = played(config, name).closed
        missing[name] = sum(np.maximum(each.required - each.exposure, 0).sum() for each in rounds)
    assert missing["rim-dual"] < 0.5 * missing["rim-dual(spend=False)"] < missing["relevance"]


@pytest.mark.parametrize("name", AGENTS)
def test_a_second_round_begins_with_whole_budgets(name):
    """What was spent in one round is not spent in the next."""
    agent = make_agent(name)
    market = market_for(agent, MARKETS["shown"])
    play_round(market, agent)
    spent = np.count_nonzero(agent.item_price == 0)
    agent.begin_round(market.round_view())
    assert np.count_nonzero(agent.item_price == 0) < spent
    play_out(market, agent)
