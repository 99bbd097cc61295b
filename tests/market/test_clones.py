"""Arrivals that copy sessions of the log, and broadcasts: whose past they have and how long they stay away."""

import dataclasses
import functools

import numpy as np
import pytest
from kit import refused
from kit.markets import small_broadcast, small_scenario

from rimsim.config import ArrivalsConfig
from rimsim.errors import MarketError
from rimsim.market import Market, build_world
from rimsim.market.arrivals import RoundsSoFar, checked_schedule, make_arrivals
from rimsim.market.arrivals.clones import clones_at, events_before
from rimsim.market.records import VISIT_BITS


@functools.cache
def _schedule(**changes):
    config = small_scenario(arrivals=ArrivalsConfig(**({"per_round": 2_000, "max_visits": 2} | changes)))
    world = build_world(config)
    return make_arrivals(config).round(0, RoundsSoFar(world, 0)), world


def _starts(schedule, world):
    """The log's start of the session that each slot's past ends before: its first visit without the shift."""
    first = np.unique(schedule.slot, return_index=True)[1]
    return schedule.tick[first] / 1e6 - schedule.shift


def test_each_arrival_stands_for_a_session_with_the_past_before_it():
    """First-time and returning visitors have the log's mix, and a past ends where the session begins."""
    schedule, world = _schedule()
    first = np.unique(schedule.slot, return_index=True)[1]
    sessions = world.past_sessions
    log = world.past
    start = {(int(u), round(float(s), 3)) for u, s in zip(sessions.user, sessions.start, strict=True)}
    starts = _starts(schedule, world)
    for slot in range(0, len(first), 11):
        user = schedule.log_user[slot]
        assert (int(user), round(float(starts[slot]), 3)) in start
        assert schedule.logged[slot] == ((log.user == user) & (log.time < starts[slot] - 1e-3)).sum()
    fresh = (schedule.logged == 0)[schedule.slot].mean()
    share = (events_before(sessions) == 0).mean()
    assert abs(fresh - share) < 4 * np.sqrt(share * (1 - share) / len(schedule))


def test_visits_that_stand_for_one_session_are_those_of_one_clone():
    """A session drawn again is another visit of its clone up to max_visits; two sessions of a user are two clones."""
    schedule, world = _schedule()
    visits = np.bincount(schedule.slot)
    alike = {}
    assert (len(schedule), visits.max()) == (2_000, 2)
    assert set((schedule.id & ((1 << VISIT_BITS) - 1)).tolist()) == {0, 1}
    assert len(np.unique(schedule.user)) == len(schedule.user)
    for user, logged, count in zip(schedule.log_user, schedule.logged, visits, strict=True):
        alike.setdefault((user, logged), []).append(int(count))
    assert any(len(numbers) > 1 for numbers in alike.values())
    assert all(sum(count < 2 for count in numbers) <= 1 for numbers in alike.values())
    assert max(np.unique(schedule.log_user, return_counts=True)[1]) > 1
    assert np.isfinite(_starts(schedule, world)).all()


def test_visitors_come_as_long_after_their_last_event_as_in_the_log():
    """The silence before a first visit is that before the session, and a state holds the user's first events."""
    schedule, world = _schedule()
    market = Market(small_scenario(arrivals=ArrivalsConfig(per_round=2_000, max_visits=2)))
    np.testing.assert_array_equal(market.schedule.logged, schedule.logged)
    first = np.unique(schedule.slot, return_index=True)[1]
    slots = np.arange(len(schedule.user))
    states = market.open.histories.states(slots, np.zeros_like(slots), schedule.tick[first])
    np.testing.assert_array_equal(states.lengths, schedule.logged)
    log = world.past
    starts = _starts(schedule, world)
    for slot in np.flatnonzero(schedule.logged)[::13].tolist():
        mine = np.flatnonzero(log.user == schedule.log_user[slot])[: schedule.logged[slot]]
        seen = slice(states.offsets[slot], states.offsets[slot + 1])
        np.testing.assert_array_equal(states.items[seen], log.item[mine])
        silence = states.now[slot] - states.times[states.offsets[slot + 1] - 1]
        assert silence == pytest.approx(starts[slot] - log.time[mine[-1]], abs=1e-3)
        assert silence > 1800


def test_so_many_arrivals_that_ids_could_meet_are_refused():
    """An id has 62 bits for round, clone and visit; a past has no less than no event and, of users, no cut."""
    n = 1 << 16
    far = 1 << 29
    schedule, world = _schedule()
    assert _schedule(draw="users")[0].logged is None
    for number, max_visits, message in (
        (far, 5, r"found round 536870912 of clones of \d+ users and sessions. Expected at most \d+ rounds"),
        (0, 1, "found 65537 clones of one user. Expected at most 65536"),
        (0, 1 << 17, "found 65537 visits of one clone. Expected at most 65536"),
    ):
        times = np.zeros(n + 1)
        log_users = np.zeros(n + 1, int)
        so_far = RoundsSoFar(world, 0)
        refused(MarketError, message, clones_at, so_far, number, times, log_users, 0.0, 1.0, max_visits)
    assert len(clones_at(RoundsSoFar(world, 0), 0, np.zeros(n), np.zeros(n, int), 0.0, 1.0, 1)) == n
    for logged in (schedule.logged - schedule.logged.max() - 1, schedule.logged[1:]):
        wrong = dataclasses.replace(schedule, logged=logged)
        problem = "negative number of events|one length"
        refused(MarketError, problem, checked_schedule, wrong, 0, RoundsSoFar(world, 0))


def test_a_broadcast_goes_to_users_who_were_there_before():
    """Each user comes once, with what it did before one of its later sessions, or with all if it came once."""
    market = Market(small_broadcast(arrivals=ArrivalsConfig(kind="broadcast", per_round=None)))
    schedule = market.schedule
    world = market.world
    sessions = world.past_sessions
    before = events_before(world.past_sessions)
    assert len(np.unique(schedule.log_user)) == len(schedule) == len(np.unique(sessions.user))
    events = np.bincount(world.past.user, minlength=world.past.n_users)
    cut = 0
    for user, logged in zip(schedule.log_user.tolist(), schedule.logged.tolist(), strict=True):
        later = before[(sessions.user == user) & (before > 0)]
        assert logged in (later if len(later) else [events[user]])
        cut += len(later) > 0
    assert cut > 100
