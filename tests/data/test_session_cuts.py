"""Cuts of users' events before a later session, against a look through all gaps."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from kit import refused
from kit.logs import log_of

from rimsim.data import EventLog, later_sessions
from rimsim.errors import DataError

GAP = 10.0


@st.composite
def _logs(draw: st.DrawFn) -> EventLog:
    n_users = draw(st.integers(1, 5))
    event = st.tuples(st.integers(0, n_users - 1), st.integers(0, 120))
    events = draw(st.lists(event, min_size=1, max_size=40))
    user, time = zip(*events, strict=True)
    return log_of(user, np.arange(len(user)), time, n_users)


@given(_logs(), st.integers(0, 3))
def test_every_cut_is_the_beginning_of_a_session_that_can_be_drawn(log: EventLog, seed: int) -> None:
    """A cut lies after a silence and after the wanted share of the user's events, and divides them by time."""
    could_be = {}
    for user in range(log.n_users):
        times = log.time[log.user == user]
        could_be[user] = {
            times[n] for n in range(1, len(times)) if times[n] - times[n - 1] > GAP and n >= 0.3 * len(times)
        }
    if not any(could_be.values()):
        refused(DataError, "some user came back", later_sessions, log, gap=GAP, seed=seed)
        return
    cut = later_sessions(log, gap=GAP, seed=seed)
    assert cut.user.tolist() == [user for user in range(log.n_users) if could_be[user]]
    assert len(cut.past) + len(cut.future) == len(log)
    for user, begin, count in zip(cut.user, cut.time, cut.count, strict=True):
        assert begin in could_be[user]
        assert (cut.past.time[cut.past.user == user] < begin).all()
        later = cut.future.time[cut.future.user == user]
        assert later.min() == begin
        assert count == 1 + np.argmax(np.append(np.diff(later), np.inf) > GAP)
    assert np.isin(cut.future.user, cut.user).all()


def test_all_sessions_that_can_be_drawn_are_drawn_alike() -> None:
    """Over many seeds each of a user's three later sessions is cut about as often as another."""
    log = log_of([0] * 5, range(5), [0.0, 100.0, 200.0, 300.0, 400.0])
    times = [later_sessions(log, gap=GAP, seed=seed).time[0] for seed in range(300)]
    drawn, counts = np.unique(times, return_counts=True)
    assert drawn.tolist() == [200.0, 300.0, 400.0]
    assert counts.min() > 70
