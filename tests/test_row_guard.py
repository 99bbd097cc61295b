"""The guard of hard groups and campaigns: what is promised of them is shown in time, to those who count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_markets import small_scenario
from test_promised_prices import AGENTS, PROMISES, played

from rimsim.agents import pacing
from rimsim.agents._guard import Guard, due_at, due_now, seat_due
from rimsim.agents._lacking import GRAIN, Lacking, counted_on
from rimsim.agents._row_guard import RowGuard, due_of_rows, seat_rows, share_excess
from rimsim.agents.positions import Positions
from rimsim.agents.promised import RowPacing
from rimsim.config import scenario_from
from rimsim.matching import tie_rank

LATE = [
    {"name": "last days", "items": {"genres": "Horror"}, "share": 0.5, "start": 5, "stop": 7},
    {"name": "returning", "items": {"genres": "Thriller"}, "share": 0.3, "start": 1, "stop": 7}
    | {"audience": {"visits": "returning"}},
]


def hard_market(**changes):
    """Two rounds of a week with floors, groups, and campaigns that end when the first round does."""
    exposure = {"hard": True, "most": None, "campaigns": LATE, "unit": "examined"} | changes
    return small_scenario(exposure=scenario_from({"exposure": PROMISES | exposure}).exposure, rounds=2)


def missing(closed):
    """Share of what a round's groups and campaigns ask for that was not delivered."""
    least = closed.promises.least
    return np.maximum(least - closed.delivered, 0).sum() / least.sum()


@pytest.mark.parametrize("name", AGENTS)
def test_hard_groups_and_campaigns_are_delivered_in_full(name):
    """Nothing is missing of a campaign over half of the last positions beside others, in any batch, to the bit."""
    rounds, agent = played(name, hard_market())
    assert [missing(closed) for closed in rounds] == [0.0, 0.0]
    again, other = played(name, hard_market(), 7)
    for one, two in zip(rounds, again, strict=True):
        assert np.array_equal(one.ledger.item, two.ledger.item)
    assert np.array_equal(agent.row_price, other.row_price)


def test_the_guard_delivers_where_prices_cannot(monkeypatch):
    """With prices that hardly move the guard delivers all, by arrivals and by the clock; without it much lacks."""
    weak = "rim-feedback(gain=1e-9)"
    for pace in ("arrivals", "clock"):
        config = hard_market(pace=pace, cost=1e-9, beta=0.1)
        assert missing(played(weak, config)[0][0]) <= (0.0 if pace == "arrivals" else 0.01)
    monkeypatch.setattr(pacing.RowGuard, "of", lambda *_: RowGuard(*np.zeros((4, 0))))
    assert missing(played(weak, hard_market(cost=1e-9, beta=0.1))[0][0]) > 0.04


def rows_of(items, least, column):
    """Rows as the guard sees them, of which nothing is delivered yet."""
    sizes = [len(row) for row in items]
    none = np.zeros(len(items))
    return RowPacing(
        first=np.concatenate([[0], np.cumsum(sizes)]),
        item=np.concatenate(items),
        column=np.array(column),
        start=none,
        least=np.array(least, np.float64),
        most=none + np.inf,
        step=none,
        arrivals=none + 100.0,
        cost=np.inf,
        closing=0.0,
    )


def found_due(items, least, column, left, counts, required=None, weight=(1.0, 0.5)):
    """``due``, ``need`` and positions of :func:`due_of_rows`, with nothing in reserve."""
    positions = Positions(np.array(weight), float(np.mean(weight)), by_intensity=False)
    required = np.zeros(9) if required is None else required
    lacking = Lacking.of(required, np.zeros(9), positions)
    guard = RowGuard.of(items, np.ones(9), positions)
    none = np.zeros(len(items))
    counts, left = np.array(counts), np.array(left, np.float64)
    pacing_ = rows_of(items, least, column)
    total = due_of_rows(pacing_, counts, left, none, none, 0.0, positions, lacking, guard)
    return guard.due, guard.need, total


def test_what_later_slates_cannot_hold_is_due_now():
    """Of 21 arrivals left 16 are counted on; a row of one item can have one position of each, the first at best."""
    due, need, total = found_due([np.array([0])], [18.0], [0], [21], [True])
    assert due == pytest.approx([18 - 16 * 1.0])
    assert need == pytest.approx([18 / 0.75])
    assert total == need[0]


def test_rows_of_one_audience_share_their_excess():
    """Two rows that need 48 positions of 32 have a third of what they lack due, whatever each could wait for alone."""
    items = [np.array([0, 1]), np.array([2, 3])]
    due, _, _ = found_due(items, [18.0, 18.0], [0, 0], [21], [True])
    assert due == pytest.approx([6.0, 6.0])
    apart, _, _ = found_due(items, [18.0, 18.0], [0, 1], [21, 21], [True, False])
    assert apart == pytest.approx([18 - 16 * 1.5, 0.0])


def test_what_items_need_by_themselves_is_not_needed_twice():
    """Positions that lacking items of a row need count for the row; items of two rows count for both."""
    items = [np.array([0, 1]), np.array([1, 2])]
    required = np.where(np.arange(9) == 0, 7.5, 0.0)
    _, need, total = found_due(items, [15.0, 15.0], [0, 0], [500], [True], required)
    assert need == pytest.approx([(20 - 10) / 1.5, 20 / 1.5])
    assert total == pytest.approx(need.sum())


def test_seats_give_what_is_due_and_no_more():
    """The row of which most is due is seated first, by value, at the last position that suffices or the first."""
    positions = Positions(np.array([1.0, 0.5, 0.25]), 1.75 / 3, by_intensity=False)
    rows = rows_of([np.array([0, 1]), np.array([1, 2, 3])], [9.0, 9.0], [0, 0])
    guard = RowGuard(np.zeros(2), np.ones(2), np.array([0.2, 1.1]), np.zeros(2))
    value, seats = np.array([4.0, 3.0, 2.0, -np.inf]), np.full(3, -1)
    seat_rows(rows, guard, value, np.uint64(1), positions, seats)
    assert seats.tolist() == [
        1,
        -1,
        2,
    ]  # item 1 counts for the other row too, of which nothing is due any more
    assert value.tolist() == [4.0, -np.inf, -np.inf, -np.inf]


@pytest.mark.parametrize(
    ("excess", "slate"), [(0.0, [3, 4, 0]), (0.3, [3, 4, 0]), (1.5, [3, 2, 0]), (9.0, [1, 2, 0])]
)
def test_what_rows_hold_of_what_items_lack_is_not_seated_twice(excess, slate):
    """Positions too few are given to lacking items: one that was seated for its row is one of them already."""
    weight = np.array([1.0, 0.5, 0.25])
    positions = Positions(weight, float(weight.mean()), by_intensity=False)
    required = np.array([0.25, 0.5, 0.5, 0.0, 0.0])
    state = np.zeros(5), positions, Lacking.of(required, np.zeros(5), positions)
    rows = rows_of([np.array([0, 3])], [9.0], [0])
    guard = RowGuard(np.zeros(1), np.ones(1), np.array([0.25]), np.zeros(1))
    value, bits = np.array([9.0, 1.0, 2.0, 8.0, 7.0]), np.uint64(3)
    items, best = np.full(3, -1), np.empty(3)
    items_guard = Guard(required, np.ones(5), 0.0, 0.0)
    seat_due(value, bits, 50.0, False, excess, items_guard, *state, rows, guard, items, best)  # noqa: FBT003
    assert items.tolist() == slate


def test_something_is_due_where_an_item_or_a_row_cannot_wait():
    """Both share the excess by what they need; an urgent item, any excess, or a row of which some is due, is enough."""
    weight = np.array([1.0, 0.5])
    positions = Positions(weight, 0.75, by_intensity=False)
    items, none, kinds = [np.array([0, 1]), np.array([1, 2, 3])], np.zeros(2), set()
    for seed in range(200):
        draw = np.random.default_rng(seed)
        required = np.where(draw.random(9) < (0.2 if seed % 2 else 1.0), draw.integers(0, 13, 9) / 4.0, 0.0)
        asked, left = draw.integers(0, 41), float(draw.integers(1, 61))
        rows = rows_of(items, [asked / 4.0, asked / 8.0], [0, 1])
        guard, may = Guard(required, np.linspace(0.3, 1.0, 9), 0.1, 1.0), np.arange(9) % 3 > 0
        counts, to_come = np.array([draw.random() < 0.5, True, True]), np.array([left / 2.0, left, left])
        lacking, by_hand = (Lacking.of(required, np.zeros(9), positions) for _ in range(2))
        due, expected = (RowGuard.of(items, guard.chance, positions) for _ in range(2))
        wait = np.full(1, np.inf)
        of_rows = rows, counts, to_come, none, none, due
        urgent, excess, now = due_at(may, left, guard, np.zeros(9), positions, lacking, wait, *of_rows)
        of_items = by_hand.total[0] * GRAIN
        need = due_of_rows(rows, counts, to_come, none, none, 0.1, positions, by_hand, expected)
        wait = np.full(1, np.inf)
        few, beyond = due_now(may, left, guard, np.zeros(9), positions, by_hand, need, wait)
        share_excess(rows, counts, beyond, of_items + need, 0.75, expected)
        assert urgent == few
        assert excess == pytest.approx(beyond * of_items / (of_items + need) if beyond > 0 else beyond)
        assert due.due == pytest.approx(expected.due)
        why = min(int(few), 2), bool(excess > 0), bool((expected.due > 1e-9).any())
        assert now == any(why)
        kinds.add(why)
    assert {(0, False, False), (1, False, False), (0, False, True)} <= kinds
    assert any(excess for _, excess, _ in kinds)


tables = st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=5, unique=True), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(tables, st.data())
def test_what_is_due_of_rows_is_what_later_arrivals_cannot_hold(items, data):
    """By hand, with rows of several audiences, of which some do not count the arrival, and something in reserve."""
    items, rows = [np.array(one) for one in items], range(len(items))
    some = st.lists(st.integers(0, 160), min_size=len(items), max_size=len(items))
    least, delivered, before = (np.array(data.draw(some)) / scale for scale in (4.0, 16.0, 16.0))
    column = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(items), max_size=len(items))))
    left = np.array(data.draw(st.lists(st.integers(1, 60), min_size=3, max_size=3)), float)
    counts, chance = np.array([True, False, True]), np.linspace(0.2, 1.0, 9)
    weight = np.array([1.0, 0.5, 0.25])
    positions = Positions(weight, float(weight.mean()), by_intensity=False)
    lacking = Lacking.of(np.arange(9) / 2.0, np.zeros(9), positions)
    guard, pacing_ = RowGuard.of(items, chance, positions), rows_of(items, least, column)
    total = due_of_rows(pacing_, counts, left, before, delivered, 0.1, positions, lacking, guard)
    times = np.bincount(np.concatenate(items), minlength=9)
    slots = np.concatenate([[0.0], np.cumsum(weight)])
    lacks = least - (delivered - before)
    later = np.array([counted_on(left[column[row]], 0.1) for row in rows])
    own = np.array([lacking.need[one].sum() * GRAIN for one in items])
    shared = np.array([times[one].mean() for one in items])
    need = np.where(lacks > 1e-9, np.maximum(lacks / positions.mean - own, 0.0) / shared, 0.0)
    holds = np.array([np.interp(chance[one].sum(), range(4), slots) for one in items])
    among = np.array([need[column == column[row]].sum() for row in rows])
    excess = (among - later * 3) * need / np.maximum(among, 1e-12) * positions.mean
    due = np.where(need > 0, np.maximum(lacks - later * holds, excess), lacks - later * holds)
    due = np.where(counts[column] & (lacks > 1e-9), due, 0.0)
    assert guard.need == pytest.approx(need, abs=1e-9)
    assert guard.due == pytest.approx(due, abs=1e-9)
    assert total == pytest.approx(need.sum(), abs=1e-9)

    for above in (-2.0, 0.0, 6.0):
        guard.due[:] = due
        part = above * need / 50.0 * positions.mean
        given_ = np.where(counts[column], np.maximum(due, part), due) if above > 0 else due
        now = share_excess(pacing_, counts, above, 50.0, positions.mean, guard)
        assert guard.due == pytest.approx(given_, abs=1e-12)
        assert now == (given_ > 1e-9).any()


def seated(items, due, value, weight, seats, bits):
    """What :func:`seat_rows` should do, with sorts."""
    seats, value = list(seats), value.copy()
    for row in np.argsort(-due):
        left = due[row] - sum(w for w, item in zip(weight, seats, strict=True) if item in items[row])
        while due[row] > 1e-9 and left > 1e-9:
            free = [place for place, item in enumerate(seats) if item < 0]
            pool = [item for item in items[row] if value[item] > -np.inf]
            if not free or not pool:
                break
            place = max([place for place in free if weight[place] >= left - 1e-9] or free[:1])
            item = max(pool, key=lambda one: (value[one], int(tie_rank(bits, one))))
            seats[place], value[item] = int(item), -np.inf
            left -= weight[place]
    return seats, value


@settings(max_examples=100, deadline=None)
@given(tables, st.data())
def test_seats_of_rows_are_those_of_a_search_by_hand(items, data):
    """The best items of each row that still lacks something, ties by the seeded rank, around what is seated already."""
    items = [np.array(one) for one in items]
    eighths = st.lists(st.integers(-4, 20), min_size=len(items), max_size=len(items), unique=True)
    due = np.array(data.draw(eighths)) / 8.0
    levels = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=9, max_size=9)), float)
    value, weight = np.where(levels < 0, -np.inf, levels), np.array([1.0, 0.5, 0.25, 0.25])
    seats, first = np.full(4, -1), data.draw(st.integers(-1, 8))
    seats[1] = first
    if first >= 0:
        value[first] = -np.inf
    positions = Positions(weight, float(weight.mean()), by_intensity=False)
    pacing_ = rows_of(items, [9.0] * len(items), [0] * len(items))
    guard, bits = RowGuard(np.zeros(len(items)), np.ones(len(items)), due, np.zeros(len(items))), np.uint64(7)
    expected = seated(items, due, value, weight, seats, bits)
    seat_rows(pacing_, guard, value, bits, positions, seats)
    assert seats.tolist() == expected[0]
    assert value.tolist() == expected[1].tolist()
