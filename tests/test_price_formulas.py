"""Prices that move: their formulas, transcribed and computed in plain Python."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_online_agents import arrivals_of, skewed, view_of

from rimsim.agents import make_agent
from rimsim.agents._row_guard import RowGuard
from rimsim.agents._slate_law import slate_chances
from rimsim.agents.pacing import Delivery, Pacing
from rimsim.agents.progress import Progress
from rimsim.agents.promised import PromisedRows, row_price
from rimsim.agents.promised_prices import terms_of
from rimsim.market.requirements import Requirements, Row

NO_GUARD = RowGuard(*np.zeros((4, 0)))
HOUR = 3600 * 1_000_000


def test_p_mmf_averages_its_errors():
    """D ← α·(b/N − x) + (1 − α)·d and μ ← μ − η·c/√b·d, clipped to D; with a wide budget the clip is at 0 alone."""
    n, m, k, alpha, eta = 30, 6, 2, 0.3, 0.5
    view = view_of(n, m, k)
    agent = make_agent(f"p-mmf(momentum={1 - alpha},eta={eta},strength=1000)")
    agent.begin_round(view)
    required = view.required.astype(float)
    error, price = np.zeros(m), np.zeros(m)
    for t, row in enumerate(skewed(n, m)):
        slates = agent.act(arrivals_of(row[None], first=t))
        shown = np.bincount(slates.items[0], minlength=m)
        error = alpha * (required / n - shown) + (1 - alpha) * error
        price = np.minimum(price - eta * view.cost / np.sqrt(required) * error, 0.0)
        assert agent.item_price == pytest.approx(price, abs=1e-12)
    assert price.min() < 0


@pytest.mark.parametrize(("start", "scale"), [((0.0, 0.0), 0.5), ((-2.0, -3.0), 3.0), ((-0.1, -4.0), 4.0)])
def test_steps_of_hard_floors_are_relative_to_where_prices_start(start, scale):
    """g·s/√b: s is c, or the bonus at the start, or the median of all bonuses, whichever is most; no bound."""
    required = np.array([4.0, 9.0])
    fields = {"gain": 0.1, "closing": 0.0, "cost": 0.5}
    soft = Pacing.of(np.array(start), required, 100, hard=False, **fields)
    hard = Pacing.of(np.array(start), required, 100, hard=True, **fields)
    usual = np.median([-price for price in start if price < 0]) if min(start) < 0 else 0.0
    assert soft.step == pytest.approx(0.1 * 0.5 / np.sqrt(required))
    assert hard.step == pytest.approx(0.1 * np.maximum(max(usual, 0.5), -np.array(start)) / np.sqrt(required))
    assert hard.step[1] == pytest.approx(0.1 * scale / 3.0)
    assert (soft.cost, hard.cost) == (0.5, np.inf)


def test_hard_floors_are_due_before_the_round_ends():
    """Delivery is paced to be complete after 95 % of the arrivals where floors are hard, else after all."""
    for hard, end in ((False, 40.0), (True, 38.0)):
        delivery = Delivery(view_of(40, 6, 2, hard=hard), 0.1, 0.0)
        assert delivery.due_in == pytest.approx(end)
        delivery.serve(arrivals_of(skewed(10, 6)))
        assert delivery.due_in == pytest.approx(end - 10)


def promising_view(pace="arrivals", **fields):
    """40 arrivals in an hour, a group, a campaign for an audience in the second half hour, and a cap."""
    rows = [
        Row("group", np.array([0, 1]), least=12.0, arrivals=40.0),
        Row("late", np.array([2, 3]), least=8.0, begin=HOUR // 2, end=HOUR, audience=0, arrivals=16.0),
        Row("cap", np.array([4]), most=5.0, arrivals=40.0),
    ]
    view = view_of(40, 6, 2, pace=pace, opens=0.0, closes=3600.0, **fields)
    return replace(view, promises=Requirements.of(rows), delivered=np.zeros(3))


def late_half(n):
    """(n, 1) of n arrivals, the last half counts."""
    return (np.arange(n) >= n // 2)[:, None]


@pytest.mark.parametrize("pace", ["arrivals", "clock"])
@pytest.mark.parametrize("sizes", [(40,), (7, 20, 13)])
def test_rows_are_paced_by_their_own_arrivals(pace, sizes):
    """What is gone, and to come, of a row's audience: by count, or by the clock within its time; for any batches."""
    view = promising_view(pace)
    rows = PromisedRows(view, Progress.of(view), 0.1, 0.0, 0.0, NO_GUARD)
    times, counts = np.arange(40) * 90.0, late_half(40)
    served, gone, left = 0, [], []
    for size in sizes:
        part = slice(served, served + size)
        batch = replace(arrivals_of(skewed(size, 6), first=served), time=times[part], audiences=counts[part])
        _, _, which, before, after, *_ = rows.batch(served, batch)
        assert (which == np.column_stack([counts[part], np.ones(size, bool)])).all()
        gone.append(before)
        left.append(after)
        served += size
    gone, left = np.concatenate(gone), np.concatenate(left)
    came, all_of = np.maximum(np.arange(40) - 20, 0), np.arange(40)
    if pace == "arrivals":
        assert (gone == np.column_stack([came, all_of])).all()
        assert (left == np.column_stack([np.maximum(16 - came, 1), 40 - all_of])).all()
        assert rows.gone.tolist() == [20.0, 40.0]
    else:
        share = np.clip((times - 1800) / 1800, 0, 1)
        assert gone[:, 0] == pytest.approx(16 * share)
        assert left[:, 0] == pytest.approx(np.maximum((came + 0.05 * 16) / (share + 0.05) * (1 - share), 1.0))


def test_prices_of_rows_follow_what_is_missing_or_too_much():
    """V of each row by its formula: a group that has nothing has a bonus, a cap that is passed a price above 0."""
    view = promising_view()
    rows = PromisedRows(view, Progress.of(view), 0.1, 0.0, 0.0, NO_GUARD)
    batch = replace(arrivals_of(skewed(20, 6)), audiences=np.zeros((20, 1), bool))
    rows.batch(0, batch)
    rows.delivered += np.array([2.0, 0.0, 4.0])
    step = 0.1 * view.cost / np.sqrt([12.0, 8.0, 5.0])
    assert rows.row_price == pytest.approx([-step[0] * (6.0 - 2.0), 0.0, step[2] * (4.0 - 2.5)])
    pacing = rows._pacing
    assert [row_price(pacing, row, 40.0, 0.0) for row in range(3)] == pytest.approx(
        [-min(step[0] * 12.0, view.cost), -min(step[1] * 8.0, view.cost), 0.0]
    )


def test_caps_have_prices_of_at_least_nothing():
    """A solved item price above 0 is its cap's; one below is its floor's, and its cap has none."""
    rows = [Row("cap", np.array([item]), most=5.0, arrivals=40.0) for item in (4, 5)]
    table = Requirements.of([*rows, Row("group", np.array([0, 1]), least=12.0, arrivals=40.0)])
    terms = terms_of(np.full(6, 2.0), table, np.ones((40, 3), bool), 1.0)
    item = np.array([-0.5, 0.0, 0.0, 0.0, 0.7, -0.3])
    price = terms.prices(table, item, np.array([-0.2]))
    assert price == pytest.approx([0.7, 0.0, -0.2])
    whole, row = terms.solved(table, np.minimum(item, 0.0), price)
    assert whole == pytest.approx(item)
    assert row == pytest.approx([-0.2])


def test_an_empty_position_has_no_chance():
    """Of a slate with an empty position only what is shown has chances; the slate as a whole cannot be."""
    chances = np.full((3, 2), 9.0)
    value = np.array([0.0, 1.0, 2.0])
    whole = slate_chances(value, 1.0, np.array([2, 1, 0]), 2, np.array([2, -1]), *chances)
    assert whole == 0.0
    assert (chances[:, 1] == 0.0).all()
    among = np.exp(value)[:, None] * np.exp(value)[None]
    pairs = np.triu(among, 1)
    assert chances[0, 0] == pytest.approx((pairs[0, 2] + pairs[1, 2]) / pairs.sum())
