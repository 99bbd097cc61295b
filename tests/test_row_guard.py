"""The guard of hard groups and campaigns: what is promised of them is shown in time, to those who count."""

from __future__ import annotations

import numpy as np
import pytest
from small_markets import small_scenario
from test_promised_prices import AGENTS, PROMISES, played

from rimsim.agents import pacing
from rimsim.agents._lacking import Lacking
from rimsim.agents._row_guard import RowGuard, due_of_rows, seat_rows
from rimsim.agents.positions import Positions
from rimsim.agents.promised import RowPacing
from rimsim.config import scenario_from

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
