"""Clones of the log's users, new in every round."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rimsim import rng
from rimsim.arrays import TICKS, Floats, Ints, ticks
from rimsim.config import ScenarioConfig
from rimsim.config.fields import duration_seconds
from rimsim.data.log import EventLog, Sessions
from rimsim.errors import MarketError
from rimsim.market.arrivals.contract import Opening, RoundsSoFar
from rimsim.market.records import VISIT_BITS, Schedule, running_count

_CLONE_BITS = 16
"""Number of bits for the number of a clone among the clones of the same original."""
_RELEASE_SEED = 0
"""Seed of the items that are released during the run, and of their release times; the same for all seeds of a run."""
_PER_ROUND = 2000
"""Arrivals per round if the scenario does not set their number."""


class Clones:
    """Visits by clones, which copy sampled sessions of the log.

    Sessions are sampled with replacement, and the times of visits uniformly over the round. A clone has its user's
    events before the sampled session. With ``draw: users``, users are sampled, and a clone has all events of its user.
    """

    known_beforehand = False
    keeps_users = False
    hangs_on_outcomes = False

    def __init__(self, scenario: ScenarioConfig) -> None:
        self._scenario = scenario
        self._arrivals = scenario.arrivals

    def opening(self, log: EventLog) -> Opening:
        """Opening at the end of the log; see :func:`opening_after`."""
        return opening_after(log, self._scenario, self._arrivals.per_round or _PER_ROUND)

    def round(self, number: int, so_far: RoundsSoFar) -> Schedule:
        """Sampled visits of a round."""
        config = self._arrivals
        world = so_far.world
        visit = np.arange(config.per_round or _PER_ROUND)
        draw = rng.uniform(so_far.seed, rng.Purpose.ARRIVALS, 0, number + 1, visit)
        session: Ints | None = None
        if config.draw == "sessions":
            session = (draw * len(world.past_sessions)).astype(np.int64)
            log_user = world.past_sessions.user[session]
        else:
            weight = np.bincount(world.past_sessions.user, minlength=world.past.n_users).astype(np.float64)
            if config.weight == "uniform":
                weight = (weight > 0).astype(np.float64)
            cumulative = np.cumsum(weight)
            log_user = np.searchsorted(cumulative, draw * cumulative[-1], "right")
        length = duration_seconds(config.round_length)
        start = world.opening + number * length
        time = start + length * rng.uniform(so_far.seed, rng.Purpose.ARRIVALS, 1, number + 1, visit)
        return clones_at(
            so_far,
            number,
            time=time,
            log_user=log_user,
            start=start,
            stop=start + length,
            max_visits=config.max_visits,
            session=session,
        )


def clones_at(
    so_far: RoundsSoFar,
    number: int,
    time: Floats,
    log_user: Ints,
    start: float,
    stop: float,
    max_visits: int = 5,
    session: Ints | None = None,
) -> Schedule:
    """Schedule of n visits by clones of the log's users.

    Consecutive visits that copy the same session belong to one clone, up to ``max_visits``. After ``max_visits`` visits
    of a clone, a new clone begins. A clone's past has its user's events before the session, moved in time so that the
    session begins at the clone's first visit. If no session is copied, the clone's past has all events of its user, and
    ends one gap between sessions (sampled from all users) before the clone's first visit.

    Args:
        time: Seconds at which the visits begin, in any order.
        session: Session of the warm-up log that each visit copies, −1 for none; None: no visit copies a session.

    Raises:
        MarketError: If there are so many rounds, or clones of one user, that two arrivals could get the same id.
    """
    past = so_far.world.past
    sessions = so_far.world.past_sessions
    tick = ticks(time)
    order = np.argsort(tick, kind="stable")
    tick = tick[order]
    log_user = log_user[order]
    original = log_user  # each clone copies a user, or one session of a user where ``session`` names it
    n_originals = past.n_users
    if session is not None:
        session = session[order]
        original = np.where(session >= 0, session, len(sessions) + log_user)
        n_originals = len(sessions) + past.n_users
    clone, visit = np.divmod(running_count(original), max_visits)
    _require_room(number, n_originals, clone, visit)
    # The number of a visitor has the round in its highest bits, then the number of the clone, then the original.
    market_user = ((((number + 1) << _CLONE_BITS) + clone) * n_originals) + original
    user, first, slot = np.unique(market_user, return_index=True, return_inverse=True)
    copied = np.full(len(user), -1) if session is None else session[first]
    logged: Ints | None = None
    if session is not None:
        n_events = np.bincount(past.user, minlength=past.n_users)[log_user[first]]
        logged = np.where(copied >= 0, events_before(sessions)[copied], n_events)
    return Schedule(
        tick=tick,
        id=(market_user << VISIT_BITS) + visit,
        slot=slot.reshape(-1).astype(np.int64),
        user=user,
        log_user=log_user[first],
        shift=_shifts(so_far, user, log_user[first], tick[first] / TICKS, copied),
        session=np.full(len(tick), -1, np.int64),
        start=int(ticks(start)),
        stop=int(ticks(stop)),
        logged=logged,
    )


def _shifts(so_far: RoundsSoFar, user: Ints, log_user: Ints, begin: Floats, session: Ints) -> Floats:
    """Seconds by which each clone's past is moved in time."""
    # Each clone begins its first visit at ``begin`` with the history before ``session``; −1 stands for a clone without
    # a session.
    past = so_far.world.past
    sessions = so_far.world.past_sessions
    shift = np.where(session >= 0, begin - sessions.start[session], 0.0)
    copies_none = session < 0
    if copies_none.any():
        gaps = inter_session_gaps(sessions)
        draw = rng.uniform(so_far.seed, rng.Purpose.ARRIVALS, 2, user[copies_none])
        gap = gaps[(draw * len(gaps)).astype(np.int64)]
        last = np.zeros(past.n_users)
        np.maximum.at(last, past.user, past.time)
        shift[copies_none] = begin[copies_none] - gap - last[log_user[copies_none]]
    return shift


def _require_room(number: int, originals: int, clone: Ints, visit: Ints) -> None:
    """Refuse arrivals whose ids would overflow or collide."""
    # An id has 62 bits for the round, the clone, the original and the visit.
    most_rounds = (1 << (62 - _CLONE_BITS - VISIT_BITS)) // originals - 1
    n_clones = clone.max(initial=0) + 1
    n_visits = visit.max(initial=0) + 1
    too_late = f"round {number} of clones of {originals} users and sessions"
    checks = (
        (number >= most_rounds, too_late, f"{most_rounds} rounds"),
        (n_clones > 1 << _CLONE_BITS, f"{n_clones} clones of one user", 1 << _CLONE_BITS),
        (n_visits > 1 << VISIT_BITS, f"{n_visits} visits of one clone", 1 << VISIT_BITS),
    )
    for is_wrong, fault, limit in checks:
        if is_wrong:
            raise MarketError(f"arrivals: found {fault}. Expected at most {limit}")


@lru_cache(maxsize=4)
def events_before(sessions: Sessions) -> Ints:
    """Number of the user's events before each session."""
    order = np.lexsort((sessions.start, sessions.user))
    user = sessions.user[order]
    count = sessions.count[order]
    # Events in all sessions that come earlier in this order, then events of all users who come earlier.
    before_session = np.cumsum(count) - count
    is_first = np.ones(len(user), bool)
    is_first[1:] = user[1:] != user[:-1]
    number_of_user = np.cumsum(is_first) - 1
    before_user = before_session[is_first][number_of_user]
    counts = np.empty(len(user), np.int64)
    counts[order] = before_session - before_user
    return counts


def inter_session_gaps(sessions: Sessions) -> Floats:
    """Sorted gaps between users' sessions, in seconds, of all users."""
    # If no user has two sessions, a single gap of one day is returned.
    order = np.lexsort((sessions.start, sessions.user))
    user = sessions.user[order]
    gap_to_next = sessions.start[order][1:] - sessions.stop[order][:-1]
    gaps = np.sort(gap_to_next[user[1:] == user[:-1]])
    return gaps if len(gaps) else np.array([86_400.0])


def opening_after(log: EventLog, scenario: ScenarioConfig, most_arrivals: int | None = None) -> Opening:
    """Opening of a market at the end of a log."""
    opening = float(log.time[-1]) + 1.0
    plan = scenario.releases
    release = np.zeros(log.n_items)
    n_late = round(plan.share * log.n_items)
    if not n_late:
        return Opening(log, opening, release, most_arrivals, _ends_after(log, release, scenario))
    # The items that are released later are drawn with a fixed seed. The warm-up log has no events of them.
    shuffled = np.argsort(rng.bits(_RELEASE_SEED, rng.Purpose.ARRIVALS, 9, np.arange(log.n_items)))
    late_items = shuffled[:n_late]
    length = duration_seconds(scenario.arrivals.round_length)
    span = (plan.last_round + 1 - plan.first_round) * length
    share = rng.uniform(_RELEASE_SEED, rng.Purpose.ARRIVALS, 10, late_items)
    release[late_items] = opening + plan.first_round * length + span * share
    end = _ends_after(log, release, scenario)
    return Opening(log.rows(release[log.item] == 0), opening, release, most_arrivals, end)


def _ends_after(log: EventLog, release: Floats, scenario: ScenarioConfig) -> Floats:
    """(M,) ends in seconds, in a market after the log.

    With ``data.end: life``, the items that the market releases live from this release on. The log's own release times
    play no part in such a market, so the other items do not end.
    """
    if scenario.data.end == "life":
        return np.where(release > 0, release + duration_seconds(str(scenario.data.life)), np.inf)
    return log.end
