"""Session sizes λ* of a truth: sums, shrinkage and bounds."""

import numpy as np
import pytest

from rimsim.arrays import TICKS
from rimsim.data import later_sessions
from rimsim.intensity import UserStates
from rimsim.market.consumers.session_sizes import SessionSizes, _Sizes, fit_sizes
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.records import Schedule
from rimsim.testing import random_log


@pytest.fixture(scope="module")
def log():
    """A small log whose users come back."""
    return random_log(n_users=60, n_items=40)


def test_sizes_add_up_to_the_logs_own(log):
    """Σλ* over the log's sessions is the number of their events, first and later sessions apart."""
    sizes, report = fit_sizes(log, "30min", later_sessions(log))
    sessions = log.sessions("30min")
    states = UserStates.of(log, sessions.user, sessions.start)
    expected = sizes.expected(sessions.user, states)
    first = states.lengths == 0
    assert first.any()
    assert (~first).any()
    for selected in (first, ~first):
        assert expected[selected].sum() == pytest.approx(sessions.count[selected].sum(), rel=1e-9)
    assert report.mean == pytest.approx(sessions.count.mean())
    assert report.first == pytest.approx(sessions.count[first].mean())
    assert report.later == pytest.approx(sessions.count[~first].mean())


def test_the_shrinkage_of_many_sessions_is_chosen_on_those_of_some_users(log, monkeypatch):
    """Whole users are drawn, whose sessions are as many as wanted at most; λ* is still everyone's."""
    everyone, report = fit_sizes(log, "30min", None)
    sessions = len(log.sessions("30min"))
    assert report.left_out_sessions == sessions
    monkeypatch.setattr("rimsim.market.consumers.session_sizes._SESSIONS", sessions // 2)
    fitted_sizes, thinner = fit_sizes(log, "30min", None)
    assert sessions // 3 < thinner.left_out_sessions <= sessions // 2
    assert thinner.mean == pytest.approx(report.mean)
    if thinner.shrinkage == report.shrinkage:
        np.testing.assert_array_equal(fitted_sizes.effect, everyone.effect)
    visits = np.bincount(log.sessions("30min").user, minlength=log.n_users)
    drawn = _Sizes(log, "30min").of_some_users(sessions // 2)
    among = np.unique(drawn.user)
    assert np.bincount(drawn.user, minlength=log.n_users)[among].tolist() == visits[among].tolist()


def test_session_sizes_are_held_to_the_states_that_the_log_has():
    """Beyond the bounds of recency and of the number of events, λ* is what it is at the bound."""
    bounds = np.log(np.array([[1.0 + 8, 1.0 + 500], [1.0 / 24, 100.0]]))
    sizes = SessionSizes(np.array([0.5, 1.0, -0.3, 0.1, 0.2, 0.05]), np.array([2.0]), bounds)

    def expected(events: int, days: float) -> float:
        times = np.full(events, -86_400.0 * days)
        states = UserStates(np.array([0, events]), np.zeros(events, np.int64), times, np.zeros(1))
        return float(sizes.expected(np.array([0]), states)[0])

    def law(events: float, days: float) -> float:
        n = np.log(1.0 + events)
        r = np.log(days)
        return 2.0 * np.exp(1.0 - 0.3 * n + 0.1 * n**2 + 0.2 * r + 0.05 * r**2)

    assert expected(60, 3.0) == pytest.approx(law(60, 3.0))
    assert expected(1, 1e-4) == pytest.approx(law(8, 1 / 24))
    assert expected(2000, 1e4) == pytest.approx(law(500, 100.0))
    assert expected(0, 0.0) == pytest.approx(2.0 * np.exp(0.5))


def test_what_a_visitor_took_counts_at_once_though_the_platform_hears_of_it_later():
    """With a delay of a day, visits 12 and 36 hours after consumptions have λ* of one event and of two."""
    hour = 3600 * TICKS
    visits = np.array([12, 36]) * hour
    one_slot = np.zeros(1, np.int64)
    schedule = Schedule(
        tick=visits,
        id=np.arange(2),
        slot=np.zeros(2, np.int64),
        user=one_slot,
        log_user=one_slot,
        shift=np.zeros(1),
        session=np.full(2, -1),
        start=0,
        stop=1000 * hour,
    )
    histories = Histories(schedule, LoggedPast(np.zeros(2, np.int64), np.zeros(0, np.int64), np.zeros(0)))
    delay = 24 * hour
    histories.append(np.zeros(2, np.int64), np.array([6, 18]) * hour + delay, np.arange(2))
    bounds = np.array([[-np.inf, np.inf]] * 2)
    sizes = SessionSizes(np.array([0.5, 1.0, -0.3, 0.1, 0.2, 0.05]), np.array([2.0]), bounds)

    def law(events: int, hours: float) -> float:
        n = np.log(1.0 + events)
        r = np.log(hours / 24)
        return 2.0 * np.exp(1.0 - 0.3 * n + 0.1 * n**2 + 0.2 * r + 0.05 * r**2)

    size = sizes.of_visits(histories, np.zeros(2, np.int64), visits, delay)
    assert size == pytest.approx([law(1, 6.0), law(2, 18.0)])
