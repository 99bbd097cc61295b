"""Prices of items and rows that move, by their formulas in plain Python."""

from dataclasses import replace

import numpy as np
import pytest
from kit import cases
from kit.logs import arrivals_of, skewed, view_of
from kit.markets import small_scenario

from rimsim.agents import RimFeedback
from rimsim.agents.clock import RoundClock
from rimsim.agents.delivery import Delivery
from rimsim.agents.pacing import Pacing, add_rows, count_rows, hide_full, move_prices
from rimsim.agents.prices import solved_rows
from rimsim.agents.row_table import RowTable, constraints_of
from rimsim.config import ExposureConfig
from rimsim.market import Market
from rimsim.requirements.rows import Requirements, Row


@cases("gain closing", (0.1, 0.02), (1.0, 0.0))
@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_feedback_follows_its_formula(unit, gain, closing):
    """Slates and prices equal a slow transcription of w = clip(w₀ + g·c/√b·(b·t/N − E)·h, 0, c) in either unit."""
    market = Market(small_scenario(rounds=1, exposure=ExposureConfig(unit=unit)))
    agent = RimFeedback(gain, closing=closing)
    view = market.round_view()
    agent.begin_round(view)
    start = -agent.item_price
    exposure = np.zeros(market.n_items)
    time = 0
    while not market.done:
        arrivals = market.next_arrivals(7)
        slates = agent.act(arrivals)
        for row in range(len(arrivals)):
            error = view.required * time / view.arrivals - exposure
            floor = np.where(view.required > 0, np.sqrt(np.maximum(view.required, 1)), np.inf)
            pull = 1 / (1 - time / view.arrivals + closing) if closing else 1.0
            bonus = np.clip(start + gain * view.cost / floor * error * pull, 0.0, view.cost)
            scores = arrivals.intensity[row].numpy()
            value = np.where(arrivals.admissible[row], scores + bonus, -np.inf)
            shown = slates.items[row][slates.items[row] >= 0]
            assert len(shown) == min(5, int(arrivals.admissible[row].sum()))
            assert np.sort(value[shown]) == pytest.approx(np.sort(value)[len(value) - len(shown) :])
            assert (np.diff((scores if unit == "shown" else value)[shown]) <= 1e-9).all()
            np.testing.assert_allclose(slates.price[row][: len(shown)], -bonus[shown], rtol=1e-6)
            exposure[shown] += view.position_weights[: len(shown)]
            time += 1
        market.serve(arrivals, slates)


HOUR = 3600 * 1_000_000


@cases("start scale", ((0.0, 0.0), 0.5), ((-2.0, -3.0), 3.0), ((-0.1, -4.0), 4.0))
def test_steps_of_hard_floors_are_relative_to_where_prices_start(start, scale):
    """g·s/√b: s is c, or the bonus at the start, or the median of all bonuses, whichever is most; no bound."""
    required = np.array([4.0, 9.0])
    fields = {"gain": 0.1, "closing": 0.0, "cost": 0.5}
    soft = Pacing.of(np.array(start), required, 100, hard=False, **fields)
    hard = Pacing.of(np.array(start), required, 100, hard=True, **fields)
    median = np.median([-price for price in start if price < 0]) if min(start) < 0 else 0.0
    assert soft.step == pytest.approx(0.1 * 0.5 / np.sqrt(required))
    assert hard.step == pytest.approx(
        0.1 * np.maximum(max(median, 0.5), -np.array(start)) / np.sqrt(required)
    )
    assert hard.step[1] == pytest.approx(0.1 * scale / 3.0)
    assert (soft.cost, hard.cost) == (0.5, np.inf)


@cases("hard end", (False, 40.0), (True, 38.0))
def test_hard_floors_are_due_before_the_round_ends_and_have_no_largest_bonus(hard, end):
    """Delivery is complete after 95% of the arrivals where floors are hard; else bonuses of rows end at c."""
    view = promising_view(hard=hard)
    delivery = Delivery(view, 0.1, 0.0)
    assert delivery.due_in == pytest.approx(end)
    assert delivery._pacing.arrivals == pytest.approx(np.array([16, 40]) * end / 40)
    delivery.serve(replace(arrivals_of(skewed(10, 6)), audiences=np.zeros((10, 1), bool)))
    assert delivery.due_in == pytest.approx(end - 10)
    wanted = 3.0 * view.cost / np.sqrt(12.0) * 12.0
    assert wanted > view.cost
    price = Delivery(view, 3.0, 0.0)._pacing.price(np.full(2, 40.0), np.zeros(9))
    assert price[6] == pytest.approx(-wanted if hard else -view.cost)


def promising_view(pace="arrivals", *further_rows, **fields):
    """40 arrivals in an hour, a group, a campaign for an audience in the second half hour, a cap, and more rows."""
    rows = [
        Row("group", np.array([0, 1]), min_exposure=12.0, arrivals=40.0),
        Row("late", np.array([2, 3]), min_exposure=8.0, begin=HOUR // 2, end=HOUR, audience=0, arrivals=16.0),
        Row("cap", np.array([4]), max_exposure=5.0, arrivals=40.0),
        *further_rows,
    ]
    view = view_of(40, 6, 2, pace=pace, opens=0.0, closes=3600.0, **fields)
    return replace(view, promises=Requirements.of(rows), delivered=np.zeros(len(rows)))


@pytest.mark.parametrize("pace", ["arrivals", "clock"])
@pytest.mark.parametrize("sizes", [(40,), (7, 20, 13)])
def test_rows_are_paced_by_their_own_arrivals(pace, sizes):
    """What is gone, and to come, of a row's audience: by count, or by the clock within its time; for any batches."""
    early = Row("early", np.array([5]), min_exposure=4.0, end=HOUR // 4, audience=1, arrivals=8.0)
    view = promising_view(pace, early)
    clock = RoundClock(view, view.promises)
    arrival = np.arange(40)
    expected = np.array([16.0, 8.0])
    times = arrival * 90.0
    counts = np.column_stack([arrival >= 20, arrival < 10])
    served = 0
    elapsed = []
    remaining = []
    for size in sizes:
        part = slice(served, served + size)
        batch = replace(arrivals_of(skewed(size, 6), first=served), time=times[part], audiences=counts[part])
        is_counted = clock.counts(batch)
        assert (is_counted == np.column_stack([counts[part], np.ones(size, bool)])).all()
        elapsed.append(clock.before(batch))
        remaining.append(clock.remaining(batch))
        clock.advance(batch)
        served += size
    elapsed = np.concatenate(elapsed)
    remaining = np.concatenate(remaining)
    n_arrived = np.column_stack([np.maximum(arrival - 20, 0), np.minimum(arrival, 10)])
    if pace == "arrivals":
        assert (elapsed == np.column_stack([n_arrived, arrival])).all()
        assert (remaining == np.column_stack([np.maximum(expected - n_arrived, 1), 40 - arrival])).all()
        assert clock.elapsed.tolist() == [20.0, 10.0, 40.0]
    else:
        share = np.clip((times[:, None] - [1800, 0]) / [1800, 900], 0, 1)
        assert elapsed[:, :2] == pytest.approx(expected * share)
        assert clock.elapsed.tolist() == pytest.approx([*(expected * share[-1]), 40 * times[-1] / 3600])
        rate = (n_arrived + 0.05 * expected) / (share + 0.05)
        assert remaining[:, :2] == pytest.approx(np.maximum(rate * (1 - share), 1.0))


def test_prices_of_rows_follow_what_is_missing_or_too_much():
    """V of each row by its formula: a group that has nothing has a bonus, a cap that is passed a price above 0."""
    view = promising_view()
    delivery = Delivery(view, 0.1, 0.0)
    delivery._clock.advance(replace(arrivals_of(skewed(20, 6)), audiences=np.zeros((20, 1), bool)))
    delivery.delivered[6:] += np.array([2.0, 0.0, 4.0])
    step = 0.1 * view.cost / np.sqrt([12.0, 8.0, 5.0])
    assert delivery.row_price == pytest.approx([-step[0] * (6.0 - 2.0), 0.0, step[2] * (4.0 - 2.5)])
    due = [-min(step[0] * 12.0, view.cost), -min(step[1] * 8.0, view.cost), 0.0]
    assert delivery._pacing.price(np.full(2, 40.0), np.zeros(9))[6:] == pytest.approx(due)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_caps_have_prices_of_at_least_nothing_and_nobody_no_bounds():
    """A solved price above 0 is its cap's, one below its floor's; a campaign for nobody may have any number."""
    rows = [Row("cap", np.array([item]), max_exposure=5.0, arrivals=40.0) for item in (4, 5)]
    table = Requirements.of([*rows, Row("group", np.array([0, 1]), min_exposure=12.0, arrivals=40.0)])
    terms = constraints_of(np.full(6, 2.0), table, np.ones((40, 3), bool), 1.0)
    item = np.array([-0.5, 0.0, 0.0, 0.0, 0.7, -0.3])
    price = terms.prices(table, item, np.array([-0.2]))
    assert price == pytest.approx([0.7, 0.0, -0.2])
    row = Row("campaign", np.array([0, 1]), min_exposure=12.0, arrivals=40.0, audience=0)
    terms = constraints_of(np.zeros(6), Requirements.of([row]), np.zeros((40, 1), bool), 1.0, 40.0)
    assert terms.rows.min_exposure.tolist() == [0.0]
    assert terms.rows.max_exposure.tolist() == [np.inf]


def hidden_by_hand(value, rows, weight):
    """Values without the items of each row that its room, at first positions, does not let be shown."""
    hidden = value.copy()
    for items, room in rows:
        n_allowed = int((np.cumsum(weight[: len(items)]) <= room).sum())
        if n_allowed < min(len(items), len(weight)):
            best_first = sorted(items, key=lambda item: -hidden[item])
            hidden[best_first[n_allowed:]] = -np.inf
    return hidden


@pytest.mark.parametrize("counting", [(True, True, True), (True, False, True), (False, True, True)])
@cases("closing over", (0.0, 15.0), (0.2, 15.0), (0.0, 33.0))
def test_rows_are_priced_hidden_and_counted_as_a_table_of_items_says(counting, closing, over):
    """Prices are added, items of full caps hidden, and exposures counted, by a dense table of rows and items."""
    draw = np.random.default_rng(3)
    counts = np.array(counting)
    items = [np.array(members) for members in ([0, 1], [1, 2, 3], [4], [0, 3, 5], [2], [1, 5])]
    column = np.array([2] * 6 + [2, 0, 1, 2, 0, 1])  # floors of six items are due in the whole round
    floors = np.array([3.0, 0, 0, 8, 0, 1, 6, 0, 9, 3, 1, 0])
    caps = np.array([np.inf] * 6 + [np.inf, 4.0, np.inf, 5.0, 1.5, np.inf])
    start = np.array([-0.1, 0, 0, 0, 0, -0.5, -0.2, 0.1, 0, -0.3, 0.05, 0])
    step = np.array([0.2, 0, 0, 0.1, 0, 0.3, 0.1, 0.2, 0.1, 0.05, 0.4, 0])
    due_in = np.array([40.0, 20.0, 30.0])
    elapsed = np.array([8.0, 25.0, over])
    terms = start, floors / due_in[column], step, 0.7, closing, due_in, caps[6:]
    first = np.concatenate([[0], np.cumsum([len(members) for members in items])])
    pacing = Pacing(*terms, first, np.concatenate(items), column[6:])
    earlier = np.array([1.0, 0, 2, 1, 0, 0, 1, 0, 0, 2, 0.5, 0])
    exposure = earlier + np.array([1, 0, 0, 2.5, 1, 0, 0.5, 2.5, 3, 4, 0.1, 1])
    table = np.array([[item in members for item in range(6)] for members in items], float)
    share = np.minimum(elapsed[column] / due_in[column], 1.0)
    pull = step / (1 - share + closing if closing else 1.0)
    so_far = exposure - earlier
    with np.errstate(invalid="ignore"):
        cap = np.maximum(np.maximum(start, 0) + pull * (so_far - caps * share), 0.0)
    bonus = pull * (floors * share - so_far) * (floors > 0) - np.minimum(start, 0)
    expected = np.where(np.isfinite(caps), cap, 0.0) - np.clip(bonus, 0.0, 0.7)
    price = np.empty(12)
    item_prices = draw.random(6)
    move_prices(tuple(pacing), elapsed, exposure, earlier, price)
    assert price == pytest.approx(expected)
    price[:6] = item_prices
    column = column[6:]
    caps = caps[6:]
    so_far = so_far[6:]
    add_rows(pacing, counts, price)
    assert price[:6] == pytest.approx(item_prices + (expected[6:] * counts[column]) @ table)

    weight = np.array([1.0, 0.5, 0.25])
    value = draw.random(6)
    capped_rows = np.flatnonzero(np.isfinite(caps) & counts[column])
    hidden = hidden_by_hand(value, [(items[row], caps[row] - so_far[row]) for row in capped_rows], weight)
    hide_full(pacing, counts, exposure, earlier, weight, value)
    assert value.tolist() == hidden.tolist()
    assert 0 < np.isneginf(value).sum() < len(value)

    shown = np.array([3, 1, 5])
    scratch = np.zeros(6)
    for size in range(4):
        of_items = np.zeros(6)
        of_items[shown[:size]] = weight[:size]
        counted = exposure[6:] + (table @ of_items) * counts[column]
        count_rows(pacing, counts, shown[:size], weight, scratch, exposure)
        assert exposure[6:] == pytest.approx(counted)
        assert (scratch == 0).all()


def test_a_solved_price_above_nothing_is_its_caps_alone():
    """An item that many want and few may have costs something through the row of its cap, and nothing by itself."""
    scores = skewed(40, 6)
    best = int(scores.sum(0).argmax())
    rows = [Row("cap", np.array([best]), max_exposure=5.0, arrivals=40.0)]
    rows += [Row("group", np.array([0, 1]), min_exposure=4.0, arrivals=40.0)]
    view = view_of(40, 6, 2, past=arrivals_of(scores))
    view = replace(view, promises=Requirements.of(rows), delivered=np.zeros(2))
    view = replace(view, required=np.where(np.arange(6) == best, 0.0, view.required))
    table = RowTable.of(view)
    item_price, row_price = table.split(solved_rows(view, table, 1e-6)[0])
    assert row_price[0] > 0.0
    assert item_price[best] == 0.0
    assert (item_price <= 0).all()
    assert (item_price < 0).any()


def test_a_group_of_one_item_may_ask_for_more_than_all_slates_can_show():
    """Its floor of 60 exposures to 40 visitors is 40 for the solver, and prices of other requirements are solved."""
    rows = [Row("solo", np.array([0]), min_exposure=60.0, arrivals=40.0)]
    rows += [Row("duo", np.array([1, 2]), min_exposure=30.0, arrivals=40.0)]
    view = view_of(40, 6, 2, past=arrivals_of(skewed(40, 6)))
    view = replace(view, promises=Requirements.of(rows), delivered=np.zeros(2), required=np.zeros(6))
    table = RowTable.of(view)
    assert table.required[0] == 60.0
    terms = constraints_of(table.required, table.rows, np.ones((40, 1), bool), 1.0, 40.0)
    assert terms.min_exposure.tolist() == [40.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    item_price, row_price = table.split(solved_rows(view, table, 1e-6)[0])
    assert (item_price <= 0).all()
    assert (row_price <= 0).all()
