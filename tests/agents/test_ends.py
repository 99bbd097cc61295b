"""Agents and items that end: pacing by each item's own clock, and guarantees that are met before the end."""

from dataclasses import replace

import numpy as np
import pytest
from kit import cases
from kit.logs import arrivals_of, skewed, view_of
from kit.news import news_scenario

from rimsim import config as records
from rimsim.agents import guard as guarding
from rimsim.agents import make_agent, undeliverable
from rimsim.agents.arrival_arrays import ExposureUnit
from rimsim.agents.delivery import Delivery
from rimsim.agents.pacing import Pacing, paced_windows
from rimsim.arrays import ticks
from rimsim.market import Market
from rimsim.requirements.on_offer import OfferWindows
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements, Row

N = 40
WINDOWS = OfferWindows(begin=np.array([0.0, 0.0, 10.0]), end=np.array([40.0, 20.0, 30.0]))


@cases("since early", (0.0, 0.0), (0.0, 0.05), (12.0, 0.0), (25.0, 0.05))
def test_each_item_is_paced_by_its_own_clock(since, early):
    """The price of an item is that of a round which begins and ends with its time on offer."""
    required = np.array([8.0, 4.0, 6.0])
    price = np.array([-0.1, -0.2, 0.0])
    settings = {"gain": 0.1, "closing": 0.02, "cost": 0.5, "hard": False}
    begin, length = paced_windows(WINDOWS, since, early)
    pacing = Pacing.of(price, required, length, **settings)
    pacing = pacing._replace(arrivals=np.array([N - since]), offer_begin=begin, offer_length=length)
    for elapsed in range(int(N - since)):
        exposure = np.array([2.0, 1.0, 0.5])
        prices = pacing.price(float(elapsed), exposure)
        for item in range(3):
            first = max(WINDOWS.begin[item] - since, 0.0)
            span = WINDOWS.end[item] - WINDOWS.begin[item]
            last = WINDOWS.end[item] - since - early * span
            length_alone = max(last - first, 1.0)
            alone = Pacing.of(price[item : item + 1], required[item : item + 1], length_alone, **settings)
            progress = min(max(elapsed - first, 0.0), length_alone)
            assert prices[item] == alone.price(progress, exposure[item : item + 1])[0]


def test_pacing_restarts_at_the_arrivals_of_the_round_and_not_of_an_audience():
    """After 10 arrivals, 22 remain of the time on offer up to arrival 32, however few belong to the audience."""
    windows = OfferWindows(np.full(6, 8.0), np.full(6, 32.0))
    row = Row("campaign", np.array([0, 1]), min_exposure=4.0, arrivals=20.0, audience=0)
    view = view_of(N, 6, 2, windows=windows)
    view = replace(view, promises=Requirements.of([row]), delivered=np.zeros(1))
    delivery = Delivery(view, gain=0.1, closing=0.0)
    nobody_counts = {"audiences": np.zeros((10, 1), bool)}
    delivery.serve(replace(arrivals_of(skewed(10, 6)), **nobody_counts))
    missing = view.required - delivery.exposure
    delivery.pace(np.zeros(6))
    before = delivery.exposure.copy()
    delivery.serve(replace(arrivals_of(skewed(10, 6, 1), first=10), **nobody_counts))
    error = missing * 10 / 22 - (delivery.exposure - before)
    step = np.where(missing > 0, 0.1 * view.cost / np.sqrt(np.maximum(missing, 1.0)), 0.0)
    assert (error > 0).any()
    assert delivery.item_price == pytest.approx(-np.clip(step * error, 0.0, view.cost))


def test_windows_of_a_whole_round_change_no_price():
    """Items that are on offer all round have the prices of a view without windows."""
    past = arrivals_of(skewed(N, 6))
    plain = view_of(N, 6, 2, past=past)
    windows = OfferWindows(np.zeros(6), np.full(6, float(N)))
    served = []
    for view in (plain, view_of(N, 6, 2, past=past, windows=windows)):
        agent = make_agent("rim-feedback")
        agent.begin_round(view)
        slates = agent.act(arrivals_of(skewed(N, 6, 1)))
        served.append((slates.items.tolist(), slates.price.tolist()))
    assert served[0] == served[1]


def delivered_before_ends(agent_name, folder, **exposure):
    """Share of the guaranteed exposures of each round that an agent delivers."""
    config = news_scenario(folder, exposure=records.ExposureConfig(**({"unit": "shown"} | exposure)))
    market = Market(config)
    agent = make_agent(agent_name)
    shares = []
    while not market.done:
        agent.begin_round(market.round_view())
        number = market.round
        while not market.done and market.round == number:
            arrivals = market.next_arrivals(25)
            market.serve(arrivals, agent.act(arrivals))
        closed = market.closed[-1]
        met = np.minimum(closed.exposure, closed.required).sum()
        shares.append(met / closed.required.sum())
    return shares


@pytest.mark.parametrize("pace", ["arrivals", "clock"])
def test_floors_are_met_before_the_items_end(pace, tmp_path):
    """With hard guarantees nothing is missing that the visits on offer can give; soft ones come close."""
    hard = delivered_before_ends("rim-feedback", tmp_path, beta=0.5, hard=True, pace=pace)
    soft = delivered_before_ends("rim-feedback", tmp_path, beta=0.5, cost=20.0, pace=pace)
    unpriced = delivered_before_ends("relevance", tmp_path, beta=0.5)
    assert min(hard) > 0.97
    assert min(soft) > 0.9
    assert max(unpriced) < 0.9


@pytest.mark.parametrize("agent", ["rim-resolve", "entropic-dual", "flat-budget"])
def test_other_agents_play_items_that_end(agent, tmp_path):
    """Agents with prices deliver more than the slates of the best items."""
    shares = delivered_before_ends(agent, tmp_path, beta=0.5, cost=20.0)
    unpriced = delivered_before_ends("relevance", tmp_path, beta=0.5)
    assert np.mean(shares) > np.mean(unpriced)


def _due(required, after_end, remaining):
    """Due exposures at an arrival with one position, in a round whose items end."""
    m = len(required)
    unit = ExposureUnit(np.ones(1), 1.0, by_intensity=False)
    guard = guarding.Guard.of(
        required, NO_REQUIREMENTS, np.zeros(0, np.int64), np.ones(m), unit, 0.0, 0.0, after_end
    )
    deficits = guarding.Deficits.of(required, np.zeros(m), unit)
    return guarding.due_at(
        np.ones(m, bool), np.array([remaining]), np.array([True]), guard, np.zeros(m), unit, deficits
    )


@cases("remaining urgent", (40.0, []), (21.0, [0, 1, 2, 3]), (9.0, [4, 5]))
def test_items_that_end_together_are_urgent_together(remaining, urgent):
    """Four items need eight exposures together, in one position a slate, before their common end."""
    # Two items end with the round and need three each; the other four end before its last ten arrivals.
    required = np.array([2.0, 2.0, 2.0, 2.0, 3.0, 3.0])
    after_end = np.array([10.0, 10.0, 10.0, 10.0, 0.0, 0.0])
    due = _due(required, after_end, remaining)
    # Brute force: over each end, the needs of the items that end by then against the arrivals to count on.
    expected = set()
    for end in (10.0, 0.0):
        left = remaining - end
        if left <= 0:
            continue
        later = guarding.counted_on(left, 0.0)
        needs = required[(after_end >= end) & (remaining - after_end > 0)].sum()
        if needs > later:
            expected |= set(np.flatnonzero((after_end >= end) & (remaining - after_end > 0)).tolist())
        alone = (after_end == end) & (required >= later)
        expected |= set(np.flatnonzero(alone).tolist())
    assert due.n_urgent == len(expected)
    assert set(urgent) <= expected
    if not urgent:
        assert not expected


@cases(
    "early late urgent",
    (2, 6, 0),  # 2 of the 5 arrivals before the first end, 12 with the others of the 25 before the second
    (4, 11, 15),  # 4 of 5, but 26 of 25: none may wait
    (6, 6, 6),  # 6 of 5, and 18 of 25: those that end first may not wait
)
def test_needs_add_up_from_the_earliest_end(early, late, urgent):
    """With 40 arrivals left, some items end after 10 and need one exposure; the others end after 30 and need two."""
    required = np.repeat([1.0, 2.0], [early, late])
    after_end = np.repeat([30.0, 10.0], [early, late])
    assert guarding.counted_on(10.0, 0.0) == 5.0
    assert guarding.counted_on(30.0, 0.0) == 25.0
    assert _due(required, after_end, 40.0).n_urgent == urgent


def test_an_item_that_ends_too_early_is_named():
    """With a tenth of the round before its end, an item can have N/10 exposures and no more."""
    ended = np.full(6, np.inf)
    ended[3] = 360.0
    required = np.where(np.arange(6) == 3, 7.0, 5.0)
    view = view_of(60, 6, 2, past=arrivals_of(skewed(60, 6)), opens=0.0, closes=3600.0)
    view.required[:] = required
    (reason,) = undeliverable(view, ended=ended)
    assert (reason.why, reason.items) == ("end", (3,))
    assert reason.reachable == pytest.approx(6.0)
    assert "since it ends too early" in str(reason)
    view.required[3] = 6.0
    assert undeliverable(view, ended=ended) == ()


def test_a_campaign_is_bounded_by_what_is_on_offer_in_its_own_time():
    """Of the second half-hour, one item is there throughout and one for the first half: 1.5 positions a slate."""
    ended = np.full(6, np.inf)
    ended[3] = 2700.0
    row = Row(
        "late",
        np.array([3, 4]),
        min_exposure=50.0,
        begin=int(ticks(1800.0)),
        end=int(ticks(3600.0)),
        arrivals=30.0,
    )
    view = view_of(60, 6, 2, past=arrivals_of(skewed(60, 6)), opens=0.0, closes=3600.0)
    view.required[:] = 0.0
    view = replace(view, promises=Requirements.of([row]), delivered=np.zeros(1))
    (reason,) = undeliverable(view, ended=ended)
    assert (reason.why, reason.name) == ("end", "late")
    assert reason.reachable == pytest.approx(30 * 1.5)
