"""Requirements of a round: their parts, what is carried over, and what is delivered of them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from kit import refused
from kit.markets import small_scenario

from rimsim import config as records
from rimsim.arrays import ALWAYS, NEVER
from rimsim.config import GroupConfig
from rimsim.errors import ConfigError
from rimsim.market import Market
from rimsim.requirements.audiences import RoundVisits
from rimsim.requirements.campaigns import Campaign, ColumnGroups, ExpectedRound, Guarantee, groups_of
from rimsim.requirements.on_offer import TimesOnOffer
from rimsim.requirements.rows import CarryOver, ScenarioRequirements, _row, item_floors, uniform_share

CAMPAIGNS = [
    {"name": "again", "items": {"genres": "Thriller"}, "share": 0.3, "audience": {"visits": "returning"}},
    {"name": "new", "items": {"genres": "Comedy"}, "share": 0.2, "audience": {"visits": "first"}},
]
ENDLESS = TimesOnOffer.endless(np.full(4, ALWAYS))
GROUPS = [{"column": "genres", "values": ["Horror"], "beta": 0.5}]


def test_exposures_of_some_arrivals_count_as_they_do_among_all():
    """What is delivered to parts of a round adds up: in each row, what its audience was shown of its items."""
    exposure = records.scenario_from({"exposure": {"campaigns": CAMPAIGNS}}).exposure
    promised = Market(small_scenario(exposure=exposure)).open.requirements
    table = promised.table
    counted = promised.counted
    k = len(promised.position_weights)
    n = len(counted)
    m = len(promised.required)
    draw = np.random.default_rng(0)
    slates = np.stack([draw.permutation(m)[:k] for _ in range(n)])
    part = draw.permutation(n)[: n // 3]
    rest = np.setdiff1d(np.arange(n), part)
    parts = [promised.delivered(slates[rows], rows) for rows in (part, rest)]
    assert parts[0] + parts[1] == pytest.approx(promised.delivered(slates))
    for row in range(len(table)):
        shown = np.isin(slates, table.items(row)) @ promised.position_weights
        audience = table.audience[row]
        counts = counted[:, audience] if audience >= 0 else np.ones(n)
        assert parts[0][row] == pytest.approx((shown * counts)[part].sum())
    assert set(table.audience.tolist()) >= {0, 1}


def test_what_is_owed_is_carried_to_the_end_of_its_period():
    """A period's second round takes over what is owed, not of items that left; campaigns are owed throughout."""
    fields = {"per": "14d", "campaigns": CAMPAIGNS, "groups": GROUPS}
    exposure = records.scenario_from({"exposure": fields}).exposure
    market = Market(small_scenario(exposure=exposure))
    opened = market.open
    week = 7 * 86_400 * 1_000_000
    table = ScenarioRequirements(market.config, market.world.campaign_tables, market.seeds.arrivals)
    visits = opened.schedule.visits(np.zeros(market.world.log.n_users, np.int64))
    opening = opened.requirements.start
    n_rows = len(opened.requirements.carry_over.rows)
    groups = n_rows - len(CAMPAIGNS)
    assert groups > 0

    release = np.where(np.arange(market.n_items) == 3, NEVER, market.release)  # its provider has left
    usual = {"forecast": 1.0, "capacity": None, "times": TimesOnOffer.endless(release)}
    usual["position_weights"] = np.ones(market.config.slate)

    def accrued(number, owed):
        start = opening + number * week
        return table.round(number, visits.moved_to(start, start + week), owed, **usual).carry_over

    for number in range(1, 6):
        start = opening + (number - 1) * week
        nothing = CarryOver(np.zeros(market.n_items), np.zeros(n_rows), start)
        owed = CarryOver(nothing.items + 2.0, np.arange(1.0, 1.0 + n_rows), start)
        fresh = accrued(number, nothing)
        carried = accrued(number, owed)
        is_carried = np.arange(n_rows) >= (0 if number % 2 else groups)
        assert carried.items - fresh.items == pytest.approx(2.0 * (number % 2) * (release < NEVER))
        assert carried.rows - fresh.rows == pytest.approx(owed.rows * is_carried)


@pytest.mark.parametrize("window", [(0, 40), (10, 30), (35, 60), (60, 90)])
def test_what_a_round_adds_to_a_promise_is_its_part_of_it(window):
    """A share of positions or of the uniform exposure; of a number, the part of its time that the round has."""
    visits = SimpleNamespace(tick=np.arange(20, 50, 5), start=20, stop=50)
    ahead = ExpectedRound(visits, np.arange(1.0, 7.0), np.array([0.5, 1.5, 2.5, 3.5]), 1.5, ENDLESS)
    begin, end = window
    counts = lambda visitors: (begin <= visitors.tick) & (visitors.tick < end)  # noqa: E731
    whose = SimpleNamespace(begin=begin, end=end, counts=counts)
    whose.until = lambda _: whose
    here = [begin <= tick < end for tick in range(20, 50, 5)]
    items = np.array([1, 3])
    group = Guarantee("group", items)
    assert ColumnGroups((group,), 0.5).required(ahead) == pytest.approx([0.5 * 5.0])
    rows = [
        _row(group, None, ahead, owed, 0.25) for owed in (-2.0, 0.4, 0.5, 1.6)
    ]  # below 0: delivered beforehand
    assert [row.min_exposure for row in rows] == [0.0, 0.0, 0.25, 0.5]
    part = Campaign("share", items, audience=whose, share=0.2)
    assert part.required(ahead) == pytest.approx(0.2 * ahead.positions[here].sum())
    number = Campaign("number", items, audience=whose, exposures=100)
    within = sum(1 for tick in range(20, 50) if begin <= tick < end)
    assert number.required(ahead) == pytest.approx(100 * within / (end - begin))
    assert ahead.arrivals(None) == 9.0
    assert ahead.arrivals(whose) == 1.5 * sum(here)


def test_an_equal_share_of_groups_does_not_depend_on_their_numbers_of_items():
    """Each of three groups gets a third of 120 positions; one whose items come halfway gets half of the others."""
    nobody = np.zeros(10, np.int64)
    visits = RoundVisits(np.arange(100, 200, 10), nobody, nobody == 1, start=100, stop=200)
    items = pd.DataFrame({"seller": ["a", "b", "b", "b", "b", "c", "", "b|c"]})
    group = GroupConfig("seller", 0.5, of="groups")

    def required(release, end=None, config=group):
        ends = np.full(8, NEVER) if end is None else np.array(end)
        times = TimesOnOffer(np.array(release), ends)
        share = uniform_share(visits, 120, times)
        ahead = ExpectedRound(visits, np.full(10, 12.0), share, 1.0, times)
        return groups_of(items, config).required(ahead)

    start = [ALWAYS] * 8
    assert required(start) == pytest.approx([20.0, 20.0, 20.0])
    assert required([150, *start[1:]]) == pytest.approx([12.0, 24.0, 24.0])
    # The items of seller b are on offer one after the other, so that the seller is there all the time but at one visit.
    release = [ALWAYS, 100, 130, 150, 190, ALWAYS, ALWAYS, NEVER]
    end = [NEVER, 130, 150, 180, NEVER, NEVER, NEVER, NEVER]
    assert required(release, end) == pytest.approx([600 / 29, 540 / 29, 600 / 29])
    of_some = GroupConfig("seller", 1.5, ("b", "c"), "groups")
    assert required(start, config=of_some) == pytest.approx([60.0, 60.0])
    times = TimesOnOffer(np.array([130, *start[1:]]), np.full(8, NEVER))
    ahead = ExpectedRound(visits, np.full(10, 12.0), uniform_share(visits, 120, times), 1.0, times)
    assert groups_of(items, replace(group, most=1.1)).caps(ahead).tolist() == [35.0, 49.0, 49.0]
    by_items = groups_of(items, replace(group, most=0.5, of="items")).caps(ahead)
    assert by_items.tolist() == [6.0, 39.0, 16.0]  # half of 120 × 7, 50 and 20 of 77 parts, rounded up
    assert np.isinf(groups_of(items, group).caps(ahead)).all()
    refused(
        ConfigError,
        "more than all positions for 2 of 3 groups",
        required,
        start,
        config=replace(of_some, beta=1.6),
    )


@pytest.mark.parametrize("items", [None, 2, 9])
@pytest.mark.parametrize("each", [None, 4, 12])
def test_items_are_asked_for_by_how_many_arrivals_they_are_there_for(items, each):
    """Of some items drawn by seed, or all: each within one of its part, never above what comes after it."""
    n = 10
    positions = 37
    beta = 0.6
    nobody = np.zeros(n, np.int64)
    visits = RoundVisits(np.arange(100, 200, 10), nobody, nobody == 1, start=100, stop=200)
    release = np.array([ALWAYS, 100, 101, 150, 151, 190, 199, 200, 300])
    times = TimesOnOffer.endless(release)
    n_later = np.array([10, 10, 9, 5, 4, 1, 0, 0, 0])
    uniform = positions * n_later / n_later.sum()
    part = uniform * beta if each is None else np.minimum(each * n_later / n, n_later)
    assert uniform_share(visits, positions, times) == pytest.approx(uniform)
    drawn = set()
    for number in range(30):
        exposure = SimpleNamespace(items=items, each=each, beta=beta)
        floors = item_floors(exposure, visits, positions, times, number)
        chosen = np.flatnonzero(floors)
        drawn.add(tuple(chosen.tolist()))
        assert len(chosen) <= min(items or 6, 6)
        assert (floors <= n_later).all()
        assert (floors[chosen] <= np.ceil(part[chosen])).all()
        assert (floors[chosen] >= np.floor(part[chosen])).all()
        repeated = item_floors(exposure, visits, positions, times, number)
        assert floors.tolist() == repeated.tolist()
        if items is None:
            assert floors.sum() == round(part.sum())
    assert (len(drawn) > 5) == (items == 2)
    early = TimesOnOffer.endless(release[:2])
    all_there = item_floors(exposure, visits, positions, early, 0)
    if items is None and each is None:
        assert all_there.tolist() == [n, n]  # 11 of 22 each, but an item is at most once in a slate
