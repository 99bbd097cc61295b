"""Who arrives when: the arrivals of a round, drawn or replayed, as plain arrays in clock order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim import rng
from rimsim.durations import duration_seconds
from rimsim.errors import ConfigError, DataError
from rimsim.market.clock import ticks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import ArrivalsConfig
    from rimsim.data.log import EventLog, Sessions

__all__ = [
    "VISIT_BITS",
    "Schedule",
    "broadcast_schedule",
    "clone_schedule",
    "inter_session_gaps",
    "replay_schedules",
    "row_capacity",
]

VISIT_BITS = 16
"""An arrival's id is its user's number shifted by so many bits, plus its visit number."""
_CLONE_BITS = 16


@dataclass(frozen=True, eq=False)
class Schedule:
    """The n arrivals of one round in clock order (ties: by user, then visit).

    Users of the round have *slots* 0 … u−1; a slot's arrays describe where its state begins.
    """

    tick: NDArray[np.int64]
    """(n,) when, in ticks."""
    id: NDArray[np.int64]
    """(n,) arrival ids."""
    slot: NDArray[np.int64]
    """(n,) who, as a slot."""
    user: NDArray[np.int64]
    """(u,) market user of each slot."""
    log_user: NDArray[np.int64]
    """(u,) the log's user behind each slot."""
    shift: NDArray[np.float64]
    """(u,) seconds by which the logged past of the slot is moved in time."""
    session: NDArray[np.int64]
    """(n,) replay: the log's session behind each arrival; −1 for clones."""
    start: int
    """Tick at which the round begins."""
    stop: int
    """Tick at which it ends and the platform retrains."""

    def __len__(self) -> int:
        return len(self.tick)


def inter_session_gaps(sessions: Sessions) -> NDArray[np.float64]:
    """Silences between the sessions of a user, pooled over users, seconds; one day where no user came twice."""
    order = np.lexsort((sessions.start, sessions.user))
    user = sessions.user[order]
    silence = sessions.start[order][1:] - sessions.stop[order][:-1]
    gaps = np.sort(silence[user[1:] == user[:-1]])
    return gaps if len(gaps) else np.array([86_400.0])


def clone_schedule(
    config: ArrivalsConfig, past: EventLog, sessions: Sessions, opening: float, number: int, seed: int
) -> Schedule:
    """Draw the clones of a round.

    A user of the log is drawn for each arrival, with replacement; consecutive draws of a user are visits of one clone
    until it has had ``max_visits``, then a new clone begins. A clone's logged past is moved in time so that it ends
    one inter-session gap of the log before the clone's first visit: λ(x) then sees the recency that it was fitted on.

    Args:
        config: The arrivals of the scenario.
        past: The warm-up log.
        sessions: Its sessions.
        opening: Seconds at which round 0 begins.
        number: The round; −1 draws states of the past, for the first prices.
        seed: Seed of arrivals.
    """
    n = config.per_round or 2000
    length = duration_seconds(config.round_length)
    weight = np.bincount(sessions.user, minlength=past.n_users).astype(np.float64)
    if config.weight == "uniform":
        weight = (weight > 0).astype(np.float64)
    cumulative = np.cumsum(weight)
    draw = np.arange(n)
    pick = rng.uniform(seed, rng.Purpose.ARRIVALS, 0, number + 1, draw) * cumulative[-1]
    log_user = np.searchsorted(cumulative, pick, "right")
    start = opening + number * length
    tick = ticks(start + length * rng.uniform(seed, rng.Purpose.ARRIVALS, 1, number + 1, draw))
    order = np.lexsort((draw, tick))
    tick, log_user = tick[order], log_user[order]

    return _clones(config, past, sessions, tick, log_user, start, number, seed)


def broadcast_schedule(
    config: ArrivalsConfig, past: EventLog, sessions: Sessions, opening: float, number: int, seed: int
) -> Schedule:
    """One clone of each of the log's users, or of a seeded sample of them, all at the round's beginning.

    Args:
        config: The arrivals of the scenario.
        past: The warm-up log.
        sessions: Its sessions.
        opening: Seconds at which round 0 begins.
        number: The round; −1 for states of the past, for the first prices.
        seed: Seed of arrivals.

    Raises:
        ConfigError: If the sample is larger than the log.
    """
    log_user = np.unique(sessions.user)
    if config.per_round is not None:
        if config.per_round > len(log_user):
            raise ConfigError(
                f"arrivals.per_round is {config.per_round} in a broadcast to {len(log_user)} users; "
                "allowed: at most as many, or null for all of them"
            )
        order = np.argsort(rng.bits(seed, rng.Purpose.ARRIVALS, 3, number + 1, log_user), kind="stable")
        log_user = np.sort(log_user[order[: config.per_round]])
    start = opening + number * duration_seconds(config.round_length)
    tick = np.full(len(log_user), int(ticks(start)))
    return _clones(config, past, sessions, tick, log_user, start, number, seed)


def _clones(
    config: ArrivalsConfig,
    past: EventLog,
    sessions: Sessions,
    tick: NDArray[np.int64],
    log_user: NDArray[np.int64],
    start: float,
    number: int,
    seed: int,
) -> Schedule:
    """The schedule of n visits in clock order, each by a clone of a user of the log."""
    visit_of_user = _running_count(log_user)
    clone, visit = np.divmod(visit_of_user, config.max_visits)
    market_user = ((((number + 1) << _CLONE_BITS) + clone) * past.n_users) + log_user
    user, first, slot = np.unique(market_user, return_index=True, return_inverse=True)
    gaps = inter_session_gaps(sessions)
    gap = gaps[(rng.uniform(seed, rng.Purpose.ARRIVALS, 2, user) * len(gaps)).astype(np.int64)]
    last = np.zeros(past.n_users)
    np.maximum.at(last, past.user, past.time)
    return Schedule(
        tick=tick,
        id=(market_user << VISIT_BITS) + visit,
        slot=slot.reshape(-1).astype(np.int64),
        user=user,
        log_user=log_user[first],
        shift=tick[first] / 1e6 - gap - last[log_user[first]],
        session=np.full(len(tick), -1, np.int64),
        start=int(ticks(start)),
        stop=int(ticks(start + duration_seconds(config.round_length))),
    )


def row_capacity(visitor: NDArray[np.int64], slate: int, user_cap: int | None) -> NDArray[np.int64] | None:
    """(n,) positions that each visit of a round may fill under a user's cap; None without one.

    The v-th visit of a user (from 0) may fill what v full slates leave of the cap, whether they were filled or not:
    so capacities are known before the round.

    Args:
        visitor: (n,) who comes, in clock order.
        slate: k.
        user_cap: Exposures that each of them can get.
    """
    if user_cap is None:
        return None
    return np.clip(user_cap - _running_count(visitor) * slate, 0, slate)


def _running_count(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) how often each value occurred before, in order."""
    order = np.argsort(values, kind="stable")
    grouped = values[order]
    fresh = np.ones(len(values), bool)
    fresh[1:] = grouped[1:] != grouped[:-1]
    position = np.arange(len(values))
    count = np.empty(len(values), np.int64)
    count[order] = position - np.maximum.accumulate(np.where(fresh, position, 0))
    return count


def replay_schedules(
    config: ArrivalsConfig, log: EventLog, sessions: Sessions, opening: float, rounds: int
) -> list[Schedule]:
    """Share the log's sessions from the opening on out to rounds, in clock order, each at its own time.

    Args:
        config: The arrivals of the scenario.
        log: The whole log.
        sessions: Its sessions.
        opening: Seconds at which the market opens.
        rounds: How many rounds.

    Raises:
        DataError: If there are fewer sessions than rounds.
    """
    visit = _running_count(sessions.user)
    rows = np.flatnonzero(sessions.start >= opening)
    if config.per_round is not None:
        rows = rows[: rounds * config.per_round]
    if len(rows) < rounds:
        raise DataError(
            f"replay: {len(rows)} sessions start after the warm-up; allowed: at least one a round, here {rounds}"
        )
    if config.per_round is not None and len(rows) <= (rounds - 1) * config.per_round:
        raise DataError(
            f"replay: {len(rows)} sessions for {rounds} rounds of arrivals.per_round {config.per_round} leave a round "
            f"without any; allowed: fewer rounds, or null, which shares the sessions out evenly"
        )
    bounds = np.linspace(0, len(rows), rounds + 1).round().astype(np.int64)
    if config.per_round is not None:
        bounds = np.minimum(np.arange(rounds + 1) * config.per_round, len(rows))
    edges = [int(ticks(opening)), *(int(ticks(sessions.start[rows[b]])) for b in bounds[1:-1])]
    edges.append(int(ticks(sessions.stop[rows].max())) + 1)
    parts = []
    for number in range(rounds):
        mine = rows[bounds[number] : bounds[number + 1]]
        everyone = np.arange(log.n_users)
        parts.append(
            Schedule(
                tick=ticks(sessions.start[mine]),
                id=(sessions.user[mine] << VISIT_BITS) + visit[mine],
                slot=sessions.user[mine],
                user=everyone,
                log_user=everyone,
                shift=np.zeros(log.n_users),
                session=mine,
                start=edges[number],
                stop=edges[number + 1],
            )
        )
    return parts
