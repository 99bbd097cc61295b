"""What is lacking of hard guarantees, and where it is seated: against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_arrivals import arrivals_of

from rimsim.agents import make_agent
from rimsim.agents._guard import Guard, due_now, seat_due
from rimsim.agents._lacking import (
    GRAIN,
    Lacking,
    count_missing,
    counted_on,
    free_seat,
    positions_needed,
    seat_lacking,
)
from rimsim.agents._row_guard import RowGuard
from rimsim.agents.positions import Positions
from rimsim.agents.promised import RowPacing
from rimsim.market import RoundView
from rimsim.matching import tie_rank

WEIGHT = (1.0, 0.75, 0.5, 0.25)
ROW = np.uint64(12345)


def positions_of(weight=WEIGHT):
    """Positions of some weights."""
    return Positions(np.array(weight), float(np.mean(weight)), by_intensity=False)


def suffice(missing, weight=WEIGHT):
    """How many of the positions, from the first on, give an item all that it lacks; −1 for one that lacks nothing."""
    return -1 if missing <= 1e-9 else sum(w >= missing - 1e-9 for w in weight)


quarters = st.lists(st.integers(0, 12), min_size=2, max_size=12)


@settings(max_examples=100, deadline=None)
@given(quarters, st.integers(0, 3))
def test_what_is_lacking_is_counted_again_after_exposures(numbers, shown):
    """Positions needed and classes are those of a fresh count, after any item was shown at any position."""
    required, positions = np.array(numbers) / 4.0, positions_of()
    exposure = np.zeros(len(required))
    lacking = Lacking.of(required, exposure, positions)
    items = np.array([0, len(required) - 1])
    exposure[items] += np.array(WEIGHT)[[shown, 0]]
    count_missing(lacking, items, required, exposure, positions.weight, positions.mean)
    missing = required - exposure
    need = [max(lack / positions.mean, 1.0) if lack > 0 else 0.0 for lack in missing]
    assert lacking.need * GRAIN == pytest.approx(need, abs=1e-8)
    assert lacking.total[0] == lacking.need.sum()
    assert lacking.enough.tolist() == [suffice(lack) for lack in missing]
    counts = [sum(suffice(lack) == place for lack in missing) for place in range(len(WEIGHT) + 1)]
    assert lacking.of_class.tolist() == counts


@settings(max_examples=100, deadline=None)
@given(quarters, st.integers(0, 6))
def test_positions_that_are_too_few_are_counted(numbers, later):
    """Items need their positions, and besides as many as there are more that want the first e than such positions."""
    required, positions = np.array(numbers) / 4.0, positions_of()
    lacking = Lacking.of(required, np.zeros(len(required)), positions)
    need = sum(max(b / positions.mean, 1.0) for b in required if b > 0)
    among = [suffice(b) for b in required]
    besides = max([0.0] + [sum(0 < e <= place for e in among) - later * place for place in (1, 2, 3)])
    there = later * len(WEIGHT)
    found = positions_needed(lacking, later, there)
    if need + besides > there:
        assert found == pytest.approx(need + besides - there, abs=1e-6)
    else:
        assert found <= 1e-6


def seated_by_hand(required, value, count):
    """Each position, from the last on, to the best item that it satisfies, or else to the best that lacks something."""
    left = {item: suffice(b) for item, b in enumerate(required) if b > 0 and value[item] > -np.inf}
    seats = [-1] * len(WEIGHT)
    for place in range(len(WEIGHT) - 1, -1, -1):
        pool = [item for item in left if left[item] > place] or list(left)
        if count == 0 or not pool:
            break
        item = max(pool, key=lambda one: (value[one], int(tie_rank(ROW, one))))
        seats[place] = item
        del left[item]
        count -= 1
    return seats


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 3)), min_size=1, max_size=14), st.integers(1, 4))
def test_lacking_items_are_seated_where_positions_give_what_they_lack(items, count):
    """Seats are those of a search by hand, ties by the seeded rank, and no item that may not be shown has one."""
    required = np.array([number for number, _ in items]) / 4.0
    value = np.array([-np.inf if level < 0 else float(level) for _, level in items])
    lacking = Lacking.of(required, np.zeros(len(items)), positions_of())
    seats, hidden = np.full(len(WEIGHT), -1), value.copy()
    seat_lacking(lacking, hidden, ROW, count, np.array(WEIGHT), seats)
    assert seats.tolist() == seated_by_hand(required, value, count)
    shown = seats[seats >= 0]
    assert (hidden[shown] == -np.inf).all()
    assert (np.delete(hidden, shown) == np.delete(value, shown)).all()


def test_a_seat_gives_all_that_is_missing_where_one_can():
    """The last free position that suffices, or else the first free one; −1 where none is free."""
    weight = np.array(WEIGHT)
    assert free_seat(np.full(4, -1), weight, 0.4) == 2
    assert free_seat(np.array([-1, -1, 7, -1]), weight, 0.4) == 1
    assert free_seat(np.array([7, -1, -1, -1]), weight, 0.9) == 1
    assert free_seat(np.array([7, 7, 7, 7]), weight, 0.1) == -1


def test_a_tenth_and_the_last_four_arrivals_are_not_counted_on():
    """Of n arrivals left n − 1 come later; a share is in reserve, and the last four, or all if they are fewer."""
    assert counted_on(101.0, 0.1) == pytest.approx(100 * 0.9 - 4)
    assert counted_on(4.0, 0.0) == 0.0
    assert counted_on(3.0, 0.5) == 0.0
    assert counted_on(11.0, 0.0) == 6.0


def test_an_item_is_due_when_it_needs_as_many_arrivals_as_are_left():
    """By the clock of one that a quarter may be shown: n·chance less standard deviations of the arrivals to come."""
    positions = positions_of((1.0, 1.0))
    required, chance, sure = np.array([5.0, 0.0]), np.array([0.25, 1.0]), 2.0
    guard = Guard(required, chance, 0.0, sure)
    latest = max(n for n in range(200) if n * 0.25 - sure * np.sqrt(n * 0.25 * 0.75) <= 5.0)
    for later, due in ((latest + 1, 0), (latest, 1)):
        lacking = Lacking.of(required, np.zeros(2), positions)
        wait = np.full(1, np.inf)
        left = later + 5.0  # the last four are not counted on, nor is this one
        now, _ = due_now(np.ones(2, bool), left, guard, np.zeros(2), positions, lacking, 0.0, wait)
        assert now == due
        assert wait[0] == pytest.approx(latest, abs=1.0)
        blocked = due_now(np.zeros(2, bool), left, guard, np.zeros(2), positions, lacking, 0.0, wait)
        assert blocked[0] == 0


def slate_of(value, required, left, weight):
    """The slate of an arrival at which some item is urgent, in a round without groups and campaigns."""
    m, none = len(value), np.zeros(0)
    positions = positions_of(weight)
    lacking = Lacking.of(required, np.zeros(m), positions)
    guard = Guard(required, np.ones(m), 0.0, 0.0)
    rows = RowPacing(np.zeros(1, np.int64), *[np.zeros(0, np.int64)] * 2, *[none] * 5, np.inf, 0.0)
    of_rows = rows, RowGuard(none, none, none, none)
    items, best = np.full(len(weight), -1), np.empty(len(weight))
    state = np.zeros(m), positions, lacking
    size = seat_due(value.copy(), ROW, left, True, 0.0, guard, *state, *of_rows, items, best)  # noqa: FBT003
    return items[:size].tolist()


@pytest.mark.parametrize(("weight", "slate"), [(WEIGHT, [1, 2, 3, 0]), ((1.0, 1.0, 1.0, 1.0), [0, 1, 2, 3])])
def test_what_is_due_keeps_its_position_where_positions_count_unlike(weight, slate):
    """An item of which little is missing stands last, whatever its value; alike, all stand in order of value."""
    required = np.array([0.25, 0.0, 0.0, 0.0, 0.0])
    assert slate_of(np.array([9.0, 3.0, 2.0, 1.0, 0.5]), required, 1.0, weight) == slate


def test_a_slate_of_one_position_holds_what_is_due():
    """An urgent item is shown in place of a better one."""
    assert slate_of(np.array([1.0, 9.0]), np.array([2.0, 0.0]), 2.0, (1.0,)) == [0]


@pytest.mark.parametrize(("slate", "capacity"), [(1, None), (3, 1), (2, None)])
def test_the_guard_is_asked_about_slates_of_any_length(slate, capacity):
    """Prices that hardly move would show the best item alone; what is hard is delivered all the same."""
    n, floors = 40, np.array([0.0, 3.0, 6.0, 0.0])
    scores = np.tile(np.array([0.9, 0.2, 0.1, 0.5], np.float32), (n, 1))
    view = RoundView(
        round=0,
        arrivals=n,
        slate=slate,
        required=floors,
        exposure=np.zeros(4),
        cost=1e-9,
        popularity=np.zeros(4, np.int64),
        calibration=[],
        key=3,
        hard=True,
    )
    agent = make_agent("rim-feedback")
    agent.begin_round(view)
    items = agent.act(arrivals_of(scores, capacity=capacity)).items
    shown = np.bincount(items[items >= 0], minlength=4)
    assert shown[1:3].tolist() == floors[1:3].tolist()
    assert shown.sum() == n * min(slate, capacity or slate)


@pytest.mark.parametrize("urgent", [1, 2, 3, 6])
def test_the_most_valuable_urgent_items_are_seated(urgent):
    """Of more items that can wait no longer than a slate has positions, those of largest value are shown."""
    value = np.array([1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0])
    required = np.where(np.arange(len(value)) < urgent, 5.0, 0.0)
    items = slate_of(value, required, 3.0, (1.0, 1.0, 1.0))
    due = sorted(range(urgent), key=lambda item: -value[item])[:3]
    others = [item for item in np.argsort(-value) if item not in due][: 3 - len(due)]
    assert sorted(items) == sorted([*due, *others])


def test_what_is_taken_back_is_delivered_again():
    """A guard is told what did not count in the end, as in experiments on items, and shows it in time."""
    n, m = 60, 12
    liked = np.random.default_rng(0).random((n, m)).astype(np.float32)
    liked[:, :4] = 0.0  # nobody wants what is guaranteed
    agent = make_agent("rim-feedback")
    agent.begin_round(
        RoundView(
            round=0,
            arrivals=n,
            slate=2,
            required=np.where(np.arange(m) < 4, 1.0, 0.0),
            exposure=np.zeros(m),
            cost=0.01,
            popularity=np.zeros(m, np.int64),
            calibration=[],
            key=3,
            hard=True,
        )
    )
    counted, taken = np.zeros(m), set()
    for row in range(n):
        one = arrivals_of(liked[row : row + 1], first=row)
        back = np.zeros(m)
        for item in agent.act(one).items[0]:
            if item < 4 and item not in taken:
                taken.add(int(item))
                back[item] = -1.0
            else:
                counted[item] += 1
        agent.note_delivery(back, None)
    assert taken == {0, 1, 2, 3}
    assert (counted[:4] >= 1).all()
