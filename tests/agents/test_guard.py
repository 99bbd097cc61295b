"""The guard of hard guarantees: deficits, due items and rows, and their positions, against searches by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import cases, same_arrays
from kit.logs import arrivals_of
from kit.markets import played_by, priced, same_ledgers

from rimsim.agents import Delivery, make_agent
from rimsim.agents import guard as guarding
from rimsim.agents.arrival_arrays import ExposureUnit
from rimsim.market import RoundView
from rimsim.matching import tie_rank
from rimsim.requirements.rows import Requirements, Row

WEIGHT = (1.0, 0.75, 0.5, 0.25)
ROW = np.uint64(12345)
MANY = 9
LATE = [
    {"name": "last days", "items": {"genres": "Horror"}, "share": 0.5, "start": 5, "stop": 7},
    {"name": "returning", "items": {"genres": "Thriller"}, "share": 0.3, "start": 1, "stop": 7}
    | {"audience": {"visits": "returning"}},
]


def unit_of(weight=WEIGHT):
    """Unit with some position weights."""
    return ExposureUnit(np.array(weight), float(np.mean(weight)), by_intensity=False)


def guard_of(required, items=(), floors=(), column=(), *, weight=WEIGHT, chance=None, spare=0.0, sure=0.0):
    """Guard of floors and of rows with some items, least exposures and audiences."""
    rows = Requirements.of(
        [Row("row", np.array(members), min_exposure=b) for members, b in zip(items, floors, strict=True)]
    )
    chance = np.ones(len(required)) if chance is None else chance
    required_of_all = np.concatenate([required, rows.min_exposure])
    return guarding.Guard.of(
        required_of_all, rows, np.array(column, np.int64), chance, unit_of(weight), spare, sure
    )


def suffice(missing, weight=WEIGHT):
    """How many of the positions, from the first on, cover a deficit; −1 without one."""
    return -1 if missing <= 1e-9 else sum(w >= missing - 1e-9 for w in weight)


quarters = st.lists(st.integers(0, 12), min_size=2, max_size=12)


@settings(max_examples=100)
@given(quarters, st.integers(0, 3))
def test_deficits_are_counted_again_after_exposures(numbers, shown):
    """Positions needed and classes are those of a fresh count, after any item was shown at any position."""
    required = np.array(numbers) / 4.0
    unit = unit_of()
    exposure = np.zeros(len(required))
    deficits = guarding.Deficits.of(required, exposure, unit)
    items = np.array([0, len(required) - 1])
    exposure[items] += np.array(WEIGHT)[[shown, 0]]
    guarding.count_deficits(deficits, items, required, exposure, unit.position_weights, unit.mean)
    missing = required - exposure
    need = [max(lack / unit.mean, 1.0) if lack > 0 else 0.0 for lack in missing]
    assert deficits.need * guarding.GRAIN == pytest.approx(need, abs=1e-8)
    assert deficits.total[0] == deficits.need.sum()
    assert deficits.enough.tolist() == [suffice(lack) for lack in missing]
    counts = [sum(suffice(lack) == place for lack in missing) for place in range(len(WEIGHT) + 1)]
    assert deficits.of_class.tolist() == counts


@settings(max_examples=100)
@given(quarters, st.integers(0, 6))
def test_positions_that_are_too_few_are_counted(numbers, later):
    """Items need their positions, and additional ones where more want the first e than such positions remain."""
    required = np.array(numbers) / 4.0
    unit = unit_of()
    deficits = guarding.Deficits.of(required, np.zeros(len(required)), unit)
    need = sum(max(b / unit.mean, 1.0) for b in required if b > 0)
    sufficient = [suffice(b) for b in required]
    additional = max([0.0] + [sum(0 < e <= place for e in sufficient) - later * place for place in (1, 2, 3)])
    n_positions = later * len(WEIGHT)
    short = guarding.positions_needed(deficits, later, n_positions)
    if need + additional > n_positions:
        assert short == pytest.approx(need + additional - n_positions, abs=1e-6)
    else:
        assert short <= 1e-6


def placed_by_hand(required, value, count):
    """Each position, from the last on, to the best item that it covers, or else to the best in deficit."""
    covers = {item: suffice(b) for item, b in enumerate(required) if b > 0 and value[item] > -np.inf}
    slate = [-1] * len(WEIGHT)
    for place in range(len(WEIGHT) - 1, -1, -1):
        pool = [item for item in covers if covers[item] > place] or list(covers)
        if count == 0 or not pool:
            break
        item = max(pool, key=lambda candidate: (value[candidate], int(tie_rank(ROW, candidate))))
        slate[place] = item
        del covers[item]
        count -= 1
    return slate


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 3)), min_size=1, max_size=14), st.integers(1, 4))
def test_items_are_placed_where_positions_cover_their_deficits(items, count):
    """Positions are those of a search by hand, ties by the seeded rank, and inadmissible items have none."""
    required = np.array([number for number, _ in items]) / 4.0
    value = np.array([-np.inf if level < 0 else float(level) for _, level in items])
    deficits = guarding.Deficits.of(required, np.zeros(len(items)), unit_of())
    slate = np.full(len(WEIGHT), -1)
    hidden = value.copy()
    guarding.place_deficits(deficits, hidden, ROW, count, np.array(WEIGHT), slate)
    assert slate.tolist() == placed_by_hand(required, value, count)
    shown = slate[slate >= 0]
    assert (hidden[shown] == -np.inf).all()
    assert (np.delete(hidden, shown) == np.delete(value, shown)).all()


def due(guard, remaining, *, is_admissible=None, weight=WEIGHT, counts=(True,), exposure=None):
    """Result of :func:`due_at`, with the deficits of items."""
    m = len(guard.chance)
    exposure = np.zeros(len(guard.required)) if exposure is None else exposure
    deficits = guarding.Deficits.of(guard.required[:m], exposure[:m], unit_of(weight))
    is_admissible = np.ones(m, bool) if is_admissible is None else is_admissible
    remaining_of_columns = np.atleast_1d(np.asarray(remaining, float))
    return guarding.due_at(
        is_admissible, remaining_of_columns, np.array(counts), guard, exposure, unit_of(weight), deficits
    )


@pytest.mark.parametrize("spare", [0.0, 0.2])
def test_an_item_is_urgent_when_it_needs_as_many_arrivals_as_are_left(spare):
    """An item that a quarter may be shown needs n·chance less standard deviations of the arrivals to come."""
    required = np.array([5.0, 0.0])
    chance = np.array([0.25, 1.0])
    sure = 2.0
    latest = max(n for n in range(200) if n * 0.25 - sure * np.sqrt(n * 0.25 * 0.75) <= 5.0)
    for later, urgent in ((latest + 1, 0), (latest, 1)):
        guard = guard_of(required, weight=(1.0, 1.0), chance=chance, sure=sure, spare=spare)
        remaining = (later + 4.0) / (
            1.0 - spare
        ) + 1.0  # a share, the last four and this one are not relied on
        assert due(guard, remaining, weight=(1.0, 1.0))[0] == urgent
        assert guard.wait[0] == pytest.approx(latest, abs=1.0)
        assert due(guard, remaining, is_admissible=np.zeros(2, bool), weight=(1.0, 1.0))[0] == 0


def slate_of(value, required, remaining, weight, *, urgent=True, excess=0.0, guard=None):
    """Slate with due items, by default in a round without groups and campaigns."""
    guard = guard_of(required, weight=weight) if guard is None else guard
    exposure = np.zeros(len(guard.required))
    deficits = guarding.Deficits.of(required, exposure, unit_of(weight))
    items = np.full(len(weight), -1)
    best = np.empty(len(weight))
    state = guard, exposure, unit_of(weight), deficits
    size = guarding.place_due(
        value.copy(), ROW, remaining, guarding.Due(int(urgent), excess, is_now=True), *state, items, best
    )
    return items[:size].tolist()


@cases("weight slate", (WEIGHT, [1, 2, 3, 0]), ((1.0, 1.0, 1.0, 1.0), [0, 1, 2, 3]))
def test_a_due_item_keeps_its_position_where_positions_count_differently(weight, slate):
    """An item of which little is missing stands last; alike, all stand by value; an urgent one has the only place."""
    required = np.array([0.25, 0.0, 0.0, 0.0, 0.0])
    assert slate_of(np.array([9.0, 3.0, 2.0, 1.0, 0.5]), required, 1.0, weight) == slate
    assert slate_of(np.array([1.0, 9.0]), np.array([2.0, 0.0]), 2.0, (1.0,)) == [0]


def hard_round(n, slate, floors, cost):
    """A view of a round with hard floors, no states and no popularity."""
    m = len(floors)
    options = {"popularity": np.zeros(m, np.int64), "calibration": [], "key": 3, "hard": True}
    return RoundView(0, n, slate, floors, np.zeros(m), cost, **options)


@cases("slate capacity", (1, None), (3, 1), (2, None))
def test_the_guard_is_asked_about_slates_of_any_length(slate, capacity):
    """Prices that hardly move would show the best item alone; what is hard is delivered all the same."""
    n = 40
    floors = np.array([0.0, 3.0, 6.0, 0.0])
    scores = np.tile(np.array([0.9, 0.2, 0.1, 0.5], np.float32), (n, 1))
    agent = make_agent("rim-feedback")
    agent.begin_round(hard_round(n, slate, floors, 1e-9))
    items = agent.act(arrivals_of(scores, capacity=capacity)).items
    shown = np.bincount(items[items >= 0], minlength=4)
    assert shown[1:3].tolist() == floors[1:3].tolist()
    assert shown.sum() == n * min(slate, capacity or slate)


@pytest.mark.parametrize("urgent", [1, 2, 3, 6])
def test_the_most_valuable_urgent_items_are_placed(urgent):
    """Of more urgent items than a slate has positions, those of largest value are shown."""
    value = np.array([1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0])
    required = np.where(np.arange(len(value)) < urgent, 5.0, 0.0)
    items = slate_of(value, required, 3.0, (1.0, 1.0, 1.0))
    first = sorted(range(urgent), key=lambda item: -value[item])[:3]
    rest = [item for item in np.argsort(-value) if item not in first][: 3 - len(first)]
    assert sorted(items) == sorted([*first, *rest])


@cases("excess slate", (0.0, [3, 4, 0]), (0.3, [3, 4, 0]), (1.5, [3, 2, 0]), (9.0, [1, 2, 0]))
def test_an_item_placed_for_its_row_is_not_placed_twice(excess, slate):
    """Positions too few are given to items in deficit: one that was placed for its row is one of them already."""
    weight = (1.0, 0.5, 0.25)
    required = np.array([0.25, 0.5, 0.5, 0.0, 0.0])
    guard = guard_of(required, [[0, 3]], [9.0], [0], weight=weight)
    guard.due[0] = 0.25
    value = np.array([9.0, 1.0, 2.0, 8.0, 7.0])
    assert slate_of(value, required, 50.0, weight, urgent=False, excess=excess, guard=guard) == slate


table = st.lists(st.integers(0, MANY - 1), min_size=1, max_size=5, unique=True)

tables = st.lists(table, min_size=1, max_size=4)


@settings(max_examples=100)
@given(tables, st.data())
def test_due_rows_and_shares_of_the_excess_are_those_by_hand(items, data):
    """With rows of several audiences, of which some do not count the arrival, floors and something in reserve."""
    items = [np.array(members) for members in items]

    def drawn(low, high, size):
        return np.array(data.draw(st.lists(st.integers(low, high), min_size=size, max_size=size)))

    n = len(items)
    floors = drawn(0, 160, n) / 4.0
    delivered = drawn(0, 160, n) / 16.0
    column = drawn(0, 2, n)
    remaining = 1.0 * drawn(1, 60, 3)
    counts = np.array([True, False, True])
    chance = np.linspace(0.2, 1.0, MANY)
    weight = np.array([1.0, 0.5, 0.25])
    required = np.arange(MANY) / 2.0 * data.draw(st.booleans())
    mean = weight.mean()
    options = {"weight": weight, "chance": chance, "spare": 0.1, "sure": 1.0}
    guard = guard_of(required, items, floors, column, **options)
    exposure = np.concatenate([np.zeros(MANY), delivered])
    urgent, excess, now, _ = due(guard, remaining, weight=weight, counts=counts, exposure=exposure)
    deficits = guarding.Deficits.of(required, np.zeros(MANY), unit_of(weight))
    lacks = np.where(guard.required[MANY:] - delivered > 1e-9, guard.required[MANY:] - delivered, 0.0)
    with_floors = [members for members, b in zip(items, floors, strict=True) if b > 0]
    times = np.bincount(np.concatenate(with_floors or [[0]]), minlength=MANY)
    later = np.array([guarding.counted_on(remaining[column[row]], 0.1) for row in range(n)])
    covered = np.array([deficits.need[members].sum() * guarding.GRAIN for members in items])
    shared = np.array(
        [times[members].mean() if b > 0 else 1.0 for members, b in zip(items, floors, strict=True)]
    )
    need = np.where(lacks > 0, np.maximum(lacks / mean - covered, 0.0) / shared, 0.0)
    slots = np.concatenate([[0.0], np.cumsum(weight)])
    holds = np.array([np.interp(chance[members].sum(), range(4), slots) for members in items])
    need_of_audience = np.array([need[column == column[row]].sum() for row in range(n)])
    beyond = (need_of_audience - later * 3) * need / np.maximum(need_of_audience, 1e-12) * mean
    expected = lacks - later * holds
    expected = np.where(need > 0, np.maximum(expected, beyond), expected)
    expected = np.where(counts[column] & (lacks > 0), expected, 0.0)
    coming = guarding.counted_on(remaining[2], 0.1)
    n_urgent, alone, _, _ = due(guard_of(required, **options), remaining[2], weight=weight)
    short = guarding.positions_needed(deficits, coming, coming * 3 - need.sum())
    without = guarding.positions_needed(deficits, coming, coming * 3)
    if n_urgent or alone != without:  # items that need more than one position per arrival
        short -= without - alone
    total = deficits.total[0] * guarding.GRAIN + need.sum()
    wanted = short
    if short > 0:
        part = np.where(counts[column], short * need / total * mean, -np.inf)
        expected = np.maximum(expected, part)
        wanted = short * deficits.total[0] * guarding.GRAIN / total
    assert guard.need == pytest.approx(need, abs=1e-9)
    assert guard.due == pytest.approx(expected, abs=1e-6)
    assert urgent == n_urgent
    assert excess == pytest.approx(wanted, abs=1e-6)
    assert now == (urgent > 0 or excess > 0 or (guard.due > 1e-9).any())


@settings(max_examples=100)
@given(tables, st.data())
def test_items_of_due_rows_are_placed_as_a_search_by_hand_does(items, data):
    """The best items of each due row, the row with most first, each at the last position that suffices."""
    items = [np.array(members) for members in items]
    weight = np.array([1.0, 0.5, 0.25, 0.25])
    eighths = st.lists(st.integers(-4, 20), min_size=len(items), max_size=len(items), unique=True)
    guard = guard_of(np.zeros(MANY), items, [9.0] * len(items), [0] * len(items), weight=weight)
    guard.due[:] = np.array(data.draw(eighths)) / 8.0
    levels = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=MANY, max_size=MANY)), float)
    value = np.where(levels < 0, -np.inf, levels)
    slate_found = slate_of(value, np.zeros(MANY), 50.0, weight, urgent=False, guard=guard)
    slate = [-1] * 4
    free_values = value.copy()
    for row in np.argsort(-guard.due):
        lack = guard.due[row] - sum(w for w, item in zip(weight, slate, strict=True) if item in items[row])
        while guard.due[row] > 1e-9 and lack > 1e-9:
            free = [place for place, item in enumerate(slate) if item < 0]
            pool = [item for item in items[row] if free_values[item] > -np.inf]
            if not free or not pool:
                break
            place = max([place for place in free if weight[place] >= lack - 1e-9] or free[:1])
            item = max(pool, key=lambda candidate: (free_values[candidate], int(tie_rank(ROW, candidate))))
            slate[place] = int(item)
            free_values[item] = -np.inf
            lack -= weight[place]
    rest = sorted(
        np.flatnonzero(free_values > -np.inf),
        key=lambda candidate: (-free_values[candidate], -int(tie_rank(ROW, candidate))),
    )
    filled = [item if item >= 0 else int(rest.pop(0)) if rest else -1 for item in slate]
    assert slate_found == [item for item in filled if item >= 0]


def test_an_exposure_that_is_taken_back_is_delivered_again():
    """A guard that is informed of exposures that did not count, as in experiments on items, shows them in time."""
    n = 60
    m = 12
    liked = np.random.default_rng(0).random((n, m)).astype(np.float32)
    liked[:, :4] = 0.0  # nobody wants the guaranteed items
    agent = make_agent("rim-feedback")
    agent.begin_round(hard_round(n, 2, np.where(np.arange(m) < 4, 1.0, 0.0), 0.01))
    delivered = np.zeros(m)
    taken = set()
    for row in range(n):
        arrival = arrivals_of(liked[row : row + 1], first=row)
        back = np.zeros(m)
        for item in agent.act(arrival).items[0]:
            if item < 4 and item not in taken:
                taken.add(int(item))
                back[item] = -1.0
            else:
                delivered[item] += 1
        agent.note_delivery(back, None)
    assert taken == {0, 1, 2, 3}
    assert (delivered[:4] >= 1).all()


def hard_market(**changes):
    """Two rounds of a week with floors, groups, and campaigns that end when the first round does."""
    return priced(**({"hard": True, "most": None, "campaigns": LATE, "unit": "examined"} | changes))


def undelivered(closed):
    """Share of the exposures of groups and campaigns that a round did not deliver."""
    floors = closed.promises.min_exposure
    return np.maximum(floors - closed.delivered, 0).sum() / floors.sum()


@pytest.mark.parametrize("name", ["rim-feedback", "rim-resolve(every=30)"])
def test_hard_groups_and_campaigns_are_delivered_in_full(name):
    """Nothing is missing of a campaign over half of the last positions besides others, in any batch, to the bit."""
    agent, at_once = played_by(name, hard_market())
    assert [undelivered(closed) for closed in at_once.closed] == [0.0, 0.0]
    second_agent, in_batches = played_by(name, hard_market(), 7)
    same_ledgers(at_once, in_batches)
    same_arrays(agent, second_agent, "row_price")


def test_the_guard_delivers_where_prices_cannot(monkeypatch):
    """With prices that barely move the guard delivers all, by arrivals and by time; without it much is missing."""
    weak = "rim-feedback(gain=1e-9)"
    for pace in ("arrivals", "clock"):
        config = hard_market(pace=pace, cost=1e-9, beta=0.1)
        assert undelivered(played_by(weak, config)[1].closed[0]) <= (0.0 if pace == "arrivals" else 0.01)
    monkeypatch.setattr(Delivery, "_reset_guard", lambda *_: None)
    assert undelivered(played_by(weak, hard_market(cost=1e-9, beta=0.1))[1].closed[0]) > 0.04
