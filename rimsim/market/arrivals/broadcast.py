"""Broadcast: all users at the round's beginning, known in advance."""

from __future__ import annotations

import numpy as np

from rimsim import rng
from rimsim.arrays import Ints
from rimsim.config import ScenarioConfig
from rimsim.config.fields import duration_seconds
from rimsim.data.log import EventLog, Sessions
from rimsim.errors import ConfigError
from rimsim.market.arrivals.clones import clones_at, events_before, opening_after
from rimsim.market.arrivals.contract import Opening, RoundsSoFar
from rimsim.market.records import Schedule


class Broadcast:
    """Clones of all or sampled users, who arrive at once.

    Each clone has its user's events before one of the user's later sessions, sampled again in each round. A clone has
    all its user's events if the user has one session, or with ``draw: users``.
    """

    known_beforehand = True
    keeps_users = False
    hangs_on_outcomes = False

    def __init__(self, scenario: ScenarioConfig) -> None:
        self._scenario = scenario

    def opening(self, log: EventLog) -> Opening:
        """Opening of the market at the log's end; see :func:`opening_after`."""
        return opening_after(log, self._scenario, self._scenario.arrivals.per_round or log.n_users)

    def round(self, number: int, so_far: RoundsSoFar) -> Schedule:
        """Schedule of all users, or of the round's sample.

        Raises:
            ConfigError: If the sample is larger than the number of users.
        """
        config = self._scenario.arrivals
        world = so_far.world
        log_user = np.unique(world.past_sessions.user)
        if config.per_round is not None:
            if config.per_round > len(log_user):
                raise ConfigError(
                    f"arrivals.per_round is {config.per_round}, but only {len(log_user)} users can get a "
                    f"broadcast. Expected at most {len(log_user)}, or null for all users"
                )
            # The sample has the users with the smallest random keys.
            random_key = rng.bits(so_far.seed, rng.Purpose.ARRIVALS, 3, number + 1, log_user)
            log_user = np.sort(log_user[np.argsort(random_key, kind="stable")[: config.per_round]])
        length = duration_seconds(config.round_length)
        start = world.opening + number * length
        time = np.full(len(log_user), start)
        session: Ints | None = None
        if config.draw == "sessions":
            session = drawn_sessions(world.past_sessions, log_user, so_far.seed, number)
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


def drawn_sessions(sessions: Sessions, users: Ints, seed: int, number: int) -> Ints:
    """Random later session of each user; −1 for users without one.

    A later session follows earlier events of its user. Each round ``number`` has draws of its own.
    """
    later_sessions = np.flatnonzero(events_before(sessions) > 0)
    by_user = later_sessions[np.argsort(sessions.user[later_sessions], kind="stable")]
    first_later = np.searchsorted(sessions.user[by_user], users, "left")
    n_later = np.searchsorted(sessions.user[by_user], users, "right") - first_later
    # Rounds are numbered from −1, the round before the opening; the numbers of a key begin at 0.
    draw = rng.uniform(seed, rng.Purpose.ARRIVALS, 4, number + 1, users)
    drawn = first_later + (draw * n_later).astype(np.int64)
    session = np.full(len(users), -1)
    session[n_later > 0] = by_user[drawn[n_later > 0]]
    return session
