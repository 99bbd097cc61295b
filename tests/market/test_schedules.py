"""Schedules of arrivals: columns that are refused, their beginning, and first visits."""

import dataclasses

import numpy as np
import pytest
from kit import cases, refused
from kit.markets import small_scenario

from rimsim.errors import MarketError
from rimsim.market import build_world
from rimsim.market.arrivals import RoundsSoFar, checked_schedule, make_arrivals
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.past_round import PastRound
from rimsim.market.records import VISIT_BITS


@pytest.fixture(scope="module")
def schedule():
    """A round's arrivals that can be played, and what their process was told."""
    config = small_scenario()
    so_far = RoundsSoFar(build_world(config), 0)
    return checked_schedule(make_arrivals(config).round(0, so_far), 0, so_far), so_far


def _changed(column, place, value):
    changed = column.copy()
    changed[place] = value
    return changed


@cases(
    "field place value message",
    ("tick", 0, "start-1", "ticks from"),
    ("tick", -1, "stop+1", "ticks from"),
    ("tick", 1, "start", "not in clock order"),
    ("id", 3, "same", "two arrivals with the same id"),
    ("slot", 3, -1, "an arrival whose slot does not exist"),
    ("slot", 3, "slots", "an arrival whose slot does not exist"),
    ("log_user", 0, -1, "a slot whose user is not in the log"),
    ("log_user", 0, "users", "a slot whose user is not in the log"),
    ("user", 0, "same", "two slots for one user"),
    ("user", 0, 7, "ids that are not ids of a user's visits"),
    ("shift", 0, np.nan, "a past whose shift is not finite"),
    ("shift", slice(None), 1e10, "a past that is moved beyond the visitor's first visit"),
)
def test_a_schedule_that_cannot_be_played_is_refused(schedule, field, place, value, message):
    """Each column is looked at to its ends, which themselves are allowed."""
    good, so_far = schedule
    values = {
        "start-1": good.start - 1,
        "start": good.start,
        "stop+1": good.stop + 1,
        "same": getattr(good, field)[1],
        "slots": len(good.user),
        "users": so_far.world.log.n_users,
    }
    column = _changed(getattr(good, field), place, values.get(value, value))
    bad = dataclasses.replace(good, **{field: column})
    refused(MarketError, f"arrivals of round 4: .*{message}", checked_schedule, bad, 4, so_far)
    new = dataclasses.replace(good, logged=np.zeros_like(good.user))  # whose pasts can be moved nowhere
    for end, at in (("start", 0), ("stop", -1)):
        edge = _changed(good.tick, at, getattr(good, end))
        assert checked_schedule(dataclasses.replace(new, tick=edge), 4, so_far).tick is edge


@pytest.mark.parametrize("field", ["tick", "id", "slot", "session", "user", "log_user", "logged", "earlier"])
def test_a_column_of_no_whole_numbers_is_refused(schedule, field):
    """Ticks, ids and all that is counted are integers."""
    good, so_far = schedule
    column = np.zeros(len(good.user)) if field == "earlier" else getattr(good, field).astype(float)
    bad = dataclasses.replace(good, **{field: column})
    refused(MarketError, f"{field} of type float64. Expected whole numbers", checked_schedule, bad, 0, so_far)


def test_a_round_begins_after_what_is_over(schedule):
    """None but past states is before the opening or the round before's end; ids and shifts may be any where told."""
    good, so_far = schedule
    day = 86_400_000_000
    moved = {name: getattr(good, name) - day for name in ("tick", "start", "stop")}
    early = dataclasses.replace(good, **moved, shift=good.shift - 86_400.0)
    message = f"start at tick {early.start}. .*{good.start} µs, when the market opens"
    refused(MarketError, message, checked_schedule, early, 0, so_far)
    assert checked_schedule(early, -1, so_far) is early
    past = PastRound(0, good, Histories(good, LoggedPast.of(so_far.world.past)))
    after = dataclasses.replace(so_far, past=(past,))
    refused(MarketError, f"from {good.stop} µs, when the round before ends", checked_schedule, good, 1, after)
    past_ids = dataclasses.replace(good, id=np.arange(len(good)), earlier=np.zeros_like(good.user))
    assert checked_schedule(past_ids, 0, so_far) is past_ids
    moved = dataclasses.replace(good, shift=good.shift + 1e9)
    refused(MarketError, "moved beyond", checked_schedule, moved, 0, so_far)
    assert checked_schedule(moved, 0, so_far, LoggedPast.of(so_far.world.past, empty=True)) is moved


def test_first_visits_are_those_of_whom_nothing_is_known(schedule):
    """Nor are later visits, whether ids count them or the process says how often users came in earlier rounds."""
    good, so_far = schedule
    logged = np.arange(so_far.world.log.n_users) % 3
    with_repeats = dataclasses.replace(good, id=good.id + np.arange(len(good)) % 2, logged=None)
    visit = with_repeats.id % 2**VISIT_BITS
    for logged_events in (None, np.arange(len(good.user)) % 2):
        visits = dataclasses.replace(with_repeats, logged=logged_events).visits(logged)
        assert set(visit.tolist()) > {0}
        n_known = logged[with_repeats.log_user][with_repeats.slot]
        if logged_events is not None:
            n_known = np.minimum(n_known, logged_events[with_repeats.slot])
        np.testing.assert_array_equal(visits.first, (n_known == 0) & (visit == 0))
        assert 0 < visits.first.sum() < len(visits.first)
    earlier = np.arange(len(good.user)) % 2
    nobody = np.zeros(len(good.user), np.int64)
    without_log = dataclasses.replace(good, id=good.id + 256, logged=nobody, earlier=earlier)
    visits = without_log.visits(np.zeros(so_far.world.log.n_users, np.int64))
    seen = set(np.flatnonzero(earlier).tolist())
    for first, slot in zip(visits.first, good.slot.tolist(), strict=True):
        assert first == (slot not in seen)
        seen.add(slot)
