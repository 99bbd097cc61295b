"""What is guaranteed, in which unit, hard and soft, with arrivals known, forecast with error or unknown, by whom."""

import itertools
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from small_markets import SMALL, settings_of, small_scenario, weighted_exposures
from test_online_agents import Chunks, arrivals_of, skewed, view_of

from rimsim import measures
from rimsim.agents import States, make_agent, market_for, play_round, rollout
from rimsim.agents.entropic_dual import entropic_prices
from rimsim.agents.gibbs import inclusion_sums
from rimsim.config import ExposureConfig

PRICED = ("rim-dual", "rim-feedback", "rim-resolve(every=20)", "entropic-dual")


@pytest.mark.parametrize("name", PRICED)
def test_an_item_without_a_guarantee_has_the_price_zero(name):
    """Before, within and after each round v is 0 where nothing is required, and below 0 for some item that is due."""
    agent, market = market_of(name, small_scenario(rounds=2, exposure=ExposureConfig(items=10, each=25)))
    lower = 0
    while not market.done:
        required = market.round_view().required
        play_round(market, agent)
        ledger = market.closed[-1].ledger.table("a", 0, 0)
        free = ledger[required[ledger["item"]] == 0]
        assert len(free) > 100
        assert (free["price"] == 0).all()
        assert ledger["price"].between(-market.closed[-1].cost * (1 + 1e-6), 0).all()
        assert (agent.item_price[required == 0] == 0).all()
        lower += np.count_nonzero(agent.item_price[required > 0] < 0)
    assert lower > 0


@pytest.mark.parametrize("name", ["relevance", "rim-feedback"])
def test_an_examined_exposure_counts_as_much_as_its_position_is_looked_at(name):
    """Exposures add up to Σγ^(r−1) to the last bit, whatever the batches, and b is so many average positions."""
    config, positions = (
        small_scenario(rounds=2, exposure=ExposureConfig(unit=unit)) for unit in ("examined", "shown")
    )
    weights = measures.position_weights(config.consumer.position_decay, config.slate)
    shown, found = market_of(name, positions)[1], []
    for batch in (1, 7, None):
        agent, market = market_of(name, config)
        assert (market.open.required == shown.open.required * measures.mean_weight(weights)).all()
        opened = market.open
        play_round(market, agent, batch)
        found.append(opened.exposure)
        counted = measures.weighted_exposure(market.closed[0].ledger.item, weights, market.n_items)
        assert (opened.exposure == counted).all()
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def test_weights_of_positions_lie_on_a_grid_on_which_requirements_are_exact():
    """γ^(r−1) to 2^−21; b times their mean, over their mean, is b."""
    weights = measures.position_weights(0.85, 10)
    assert np.abs(weights - 0.85 ** np.arange(10)).max() <= 2.0**-21
    assert ((weights * 2**20) % 1 == 0).all()
    whole, mean = np.arange(100_000.0), measures.mean_weight(weights)
    assert (whole * mean / mean == whole).all()


def test_a_forecast_is_what_is_promised_and_what_agents_are_told():
    """At one and a half times the arrivals that come, the view says so, and the guarantees are so many times larger."""
    views = []
    for forecast in (1.0, 1.5):
        exposure = ExposureConfig(beta=0.4, forecast=forecast, pace="clock", hard=True)
        market = market_for(make_agent("relevance"), small_scenario(exposure=exposure))
        views.append(market.round_view())
    usual, more = views
    assert more.arrivals == round(1.5 * usual.arrivals)
    assert more.required.sum() == pytest.approx(1.5 * usual.required.sum(), abs=1.0)
    assert more.hard
    assert more.pace == "clock"
    assert more.opens < more.closes


@pytest.mark.parametrize("unit", ["examined", "shown"])
def test_rewards_add_up_to_the_return_in_the_unit_of_the_guarantee(unit):
    """Σ reward = Σ consumed − c·Σ(b − E)₊ + c·Σb over the rounds, and the observed shortfall is what is missing."""
    config = small_scenario(rounds=2, exposure=ExposureConfig(unit=unit))
    env = gymnasium.make("RIMMarket-v0", scenario="closed-loop", settings=settings_of(config))
    reward, total = rollout(env, make_agent("rim-dual"), seed=3).reward, 0.0
    for closed in env.unwrapped.market.closed:
        lacking = measures.shortfall_units(weighted_exposures(closed), closed.required)
        total += closed.ledger.consumed.sum() + closed.cost * (closed.required.sum() - lacking)
    assert reward == pytest.approx(total)


MOVING = ("rim-feedback", "rim-resolve(every=30)", "entropic-dual", "p-mmf", "fair-rec")
PLANNED = ("rim-dual", "hindsight")


def mild(n, m, seed=0):
    """(n, m) scores of which a few items have more than the others."""
    return np.sqrt(skewed(n, m, seed))


def missing(view, items):
    """Share of the requirements that slates leave undelivered, in the unit of the guarantee."""
    delivered = measures.weighted_exposure(items, view.position_weights, len(view.required))
    return measures.shortfall(delivered, view.required)


def begun(name, view):
    """An agent in a round."""
    agent = make_agent(name)
    agent.begin_round(view)
    return agent


def market_of(name, config):
    """An agent and its market."""
    agent = make_agent(name)
    return agent, market_for(agent, config)


@pytest.mark.parametrize("name", [*MOVING, *PLANNED])
@pytest.mark.parametrize("kind", ["clones", "capped"])
def test_slates_stand_in_order_of_what_counts(name, kind):
    """Shown: every slate is in descending order of λ. Examined: in that of λ − v, for agents with prices."""
    for unit in ("shown", "examined") if name != "rim-dual" else ("shown",):  # near-ties are ordered by seed
        agent, market = market_of(name, SMALL[kind](rounds=1, exposure=ExposureConfig(unit=unit)))
        play_round(market, agent)
        ledger = market.closed[0].ledger
        worth = ledger.intensity.astype(np.float64)
        if unit == "examined" and name != "fair-rec":
            worth = worth - ledger.price
        steps = np.diff(np.where(ledger.item >= 0, worth, np.nan), axis=1)
        assert not (steps > 1e-6 * np.nanmax(np.abs(worth))).any()


@pytest.mark.parametrize("name", ["rim-feedback", "rim-resolve(every=100)", "fair-rec"])
def test_examined_guarantees_are_kept(name):
    """Soft, with a cost that pays for it: the examined shortfall stays low, where counting positions leaves more."""
    n, m, k = 400, 60, 6
    past, now = arrivals_of(mild(n, m, 1)), arrivals_of(mild(n, m, 2), first=900)
    view = view_of(n, m, k, past=past, cost=20.0, unit="examined", decay=0.8)
    assert missing(view, begun(name, view).act(now).items) <= 0.03


@pytest.mark.parametrize("k", [4, 1])
@pytest.mark.parametrize("name", ["hindsight", "offline-match"])
def test_plans_are_optimal_in_weights(name, k):
    """Σ w·λ − c·shortfall of a plan comes within 1 % of the bound that its prices certify."""
    n, m = 60, 20
    now = arrivals_of(mild(n, m, 2))
    view = replace(view_of(n, m, k, cost=1.0, unit="examined", decay=0.8), audience=Chunks([now]))
    agent = begun(name, view)
    items = agent.act(now).items
    scores, weights = now.intensity.numpy().astype(np.float64), view.position_weights
    lacking = np.maximum(view.required - measures.weighted_exposure(items, weights, m), 0.0).sum()
    value = (np.take_along_axis(scores, items, 1) * weights).sum() - view.cost * lacking
    best = -np.sort(-np.maximum(scores - agent.item_price, 0.0), 1)[:, :k]
    bound = (best * weights).sum() + agent.item_price @ view.required
    assert 0.99 * bound <= value <= bound * (1 + 1e-9)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_entropic_prices_meet_floors_of_any_unit_and_buy_nothing_beyond(k):
    """On their states little is missing in expectation, or bought in excess, whether positions count alike or not."""
    admissible = np.random.default_rng(0).random((60, 8)) < 0.9
    states = States(skewed(60, 8), admissible, np.full(60, k))
    for weights in (measures.position_weights(0.6, k), np.full(k, 0.5)):
        required = np.full(8, 0.4 * 60 * k / 8 * measures.mean_weight(weights))
        price = entropic_prices(states, required, 50.0, 0.2, 1e-3, weights)
        mean, spread, found = np.zeros((3, 8))
        inclusion_sums(*states, price, 0.2, mean, spread, weights, found)
        assert found.sum() == pytest.approx(60 * weights.sum())
        assert np.maximum(required - found, 0).sum() <= 0.01 * required.sum()
        assert np.maximum(found - required, 0)[price < 0].sum() <= 0.02 * required.sum()


@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize("name", ["rim-feedback", "rim-resolve(every=100)"])
def test_hard_requirements_are_met_whatever_they_cost(name, unit):
    """Where a missing exposure costs next to nothing, soft ones fail and hard ones are met to the last."""
    n, m, k = 300, 60, 6
    asked = {"cost": 1e-9, "unit": unit, "decay": 1.0 if unit == "shown" else 0.8}
    for seed in range(4):
        draw = np.random.default_rng(seed)
        now = arrivals_of(skewed(n, m, seed), draw.random((n, m)) < 0.7, first=900)
        past = arrivals_of(skewed(n, m, seed + 10), draw.random((n, m)) < 0.7)
        views = [view_of(n, m, k, past=past, **asked, hard=hard) for hard in (False, True)]
        soft, hard = (missing(view, begun(name, view).act(now).items) for view in views)
        assert soft > 0.1
        assert hard == 0.0


@pytest.mark.parametrize("share", [0.3, 0.8, 0.95])
def test_the_guard_alone_meets_floors(share):
    """With prices that cannot do it, what is due is still shown in time, and slates hold no item twice."""
    n, m, k = 80, 20, 4
    for seed, decay in itertools.product(range(3), (1.0, 0.85)):
        view = view_of(n, m, k, share=share, cost=1e-9, hard=True, unit="examined", decay=decay)
        items = begun("rim-feedback(gain=1e-9)", view).act(arrivals_of(skewed(n, m, seed))).items
        assert (np.diff(np.sort(items, 1)) > 0).all()
        assert missing(view, items) <= (0.0 if share < 0.9 else 0.02)


def test_the_guard_does_nothing_while_floors_can_wait():
    """Until few arrivals are left, slates are those that the unguarded prices give."""
    past, now = arrivals_of(skewed(200, 40)), arrivals_of(skewed(200, 40, 1), first=900)
    view = view_of(200, 40, 4, past=past, cost=30.0, hard=True, unit="examined", decay=0.8)
    free, guarded = begun("rim-feedback", view), begun("rim-feedback", view)
    free._delivery._guarded = None
    assert (free.act(now).items[:160] == guarded.act(now).items[:160]).all()


def test_an_item_that_few_may_be_shown_is_shown_to_them_in_time():
    """What a fortieth of the arrivals, or the last tenth alone, may be shown is met though its price says nothing."""
    n, m, k, item = 400, 30, 4, np.arange(30)
    few, late = np.ones((n, m), bool), np.ones((n, m), bool)
    few[:, 3] = np.arange(n) % 40 == 7
    late[:360, 0] = False
    scores = skewed(n, m, 3) * (item != 3)
    view = view_of(n, m, k, share=0.3, past=arrivals_of(scores, few), cost=1e-9, hard=True)
    view = replace(view, required=np.where(item == 3, 6.0, view.required))
    agent = begun("rim-feedback(gain=1e-9)", view)
    assert missing(view, agent.act(arrivals_of(scores, few, first=900)).items) == 0.0
    past = arrivals_of(skewed(n, m))
    view = view_of(n, m, k, past=past, cost=1.0, hard=True, unit="examined", decay=0.8)
    assert missing(view, begun("rim-feedback", view).act(arrivals_of(skewed(n, m), late)).items) == 0.0


@pytest.mark.parametrize("unit", ["examined", "shown"])
def test_items_that_most_have_consumed_do_not_miss_their_last_visitors(unit):
    """Where a tenth to all may be shown an item, by chance, nothing is missing in any of some rounds."""
    n, m, k = 300, 60, 6
    asked = {"share": 0.4, "cost": 1.0, "unit": unit, "decay": 1.0 if unit == "shown" else 0.85, "hard": True}
    for seed in (3, 4, 9, 12, 16):  # in each of them one standard deviation of doubt was too little
        draw = np.random.default_rng(seed)
        chance = np.linspace(0.1, 1.0, m)[draw.permutation(m)]
        past = arrivals_of(skewed(n, m, seed + 1000), draw.random((n, m)) < chance)
        now = arrivals_of(skewed(n, m, seed), draw.random((n, m)) < chance, first=900)
        view = view_of(n, m, k, past=past, **asked)
        assert missing(view, begun("rim-feedback", view).act(now).items) == 0.0


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("forecast", [0.5, 1.0, 1.5])
def test_the_clock_delivers_what_was_promised_for_the_arrivals_expected(forecast, hard):
    """By the clock, at most 3 % is missing where half as many, or one and a half times as many, were expected."""
    n, m, k, span = 600, 60, 6, 1000.0
    asked = {"share": 0.4, "cost": 20.0, "unit": "examined", "decay": 0.85, "hard": hard}
    view = view_of(round(forecast * n), m, k, past=arrivals_of(mild(n, m, 1)), **asked)
    view = replace(view, pace="clock", opens=0.0, closes=span)
    time = np.sort(np.random.default_rng(2).random(n)) * span
    now = replace(arrivals_of(mild(n, m, 2), first=900), time=time)
    assert missing(view, begun("rim-feedback", view).act(now).items) <= 0.03


def test_a_round_goes_on_after_the_arrivals_expected():
    """By arrivals, with half as many expected as come: all is met by then, and prices stay finite afterwards."""
    n, m, k = 600, 60, 6
    view = view_of(n // 2, m, k, share=0.5, past=arrivals_of(mild(n, m, 1)), cost=20.0)
    for name in MOVING:
        slates = begun(name, view).act(arrivals_of(mild(n, m, 2), first=900))
        assert slates.price is None or np.isfinite(slates.price).all()
        if name != "p-mmf":
            assert missing(view, slates.items[: n // 2]) <= 0.05
            assert missing(view, slates.items) <= 0.001
