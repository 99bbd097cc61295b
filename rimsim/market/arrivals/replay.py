"""Replay: sessions of the log at their own times."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rimsim.arrays import Ints, ticks
from rimsim.config import ScenarioConfig
from rimsim.data.log import EventLog
from rimsim.errors import ConfigError, DataError
from rimsim.market.arrivals.contract import Opening, RoundsSoFar
from rimsim.market.consumers.contract import World
from rimsim.market.records import VISIT_BITS, Schedule, running_count


@lru_cache(maxsize=4)
def _visit_numbers(world: World) -> Ints:
    """Number of the user's earlier sessions, for each session."""
    return running_count(world.sessions.user)


class Replay:
    """Sessions of the log from the opening on.

    The sessions are divided into rounds in clock order. Users stay the same from round to round.

    Raises:
        ConfigError: If the scenario has its own release times of items, instead of those of the log.
    """

    known_beforehand = False
    keeps_users = True
    hangs_on_outcomes = False
    replays_sessions = True

    def __init__(self, scenario: ScenarioConfig) -> None:
        if scenario.releases.share > 0:
            message = "releases.share is for clones; a replay takes release times from the log's item table"
            raise ConfigError(message)
        self._scenario = scenario

    def opening(self, log: EventLog) -> Opening:
        """Opening of the market, at a time within the log."""
        sessions = log.sessions(self._scenario.data.session_gap)
        first = float(log.time[0])
        last = float(log.time[-1])
        opening = first + self._scenario.arrivals.warmup_share * (last - first)
        # A session that runs at the opening is not replayed: its earlier events belong to the past, and its later
        # events are dropped.
        started_before = sessions.start[sessions.of_event] < opening
        past = log.rows(started_before & (log.time < opening))
        return Opening(
            past=past,
            time=opening,
            release=log.release,
            most_arrivals=max(1, len(sessions)),
            end=log.end,
        )

    def round(self, number: int, so_far: RoundsSoFar) -> Schedule:
        """Sessions of a round, at their times in the log."""
        world = so_far.world
        everyone = np.arange(so_far.world.log.n_users)
        replayed, bounds = self._replayed_sessions(world)
        sessions = world.sessions
        rows_of_round = replayed[bounds[number] : bounds[number + 1]]
        # A round ends when the first session of the next round starts, and the last round when all sessions are over.
        edges = [int(ticks(world.opening))]
        edges += [int(ticks(sessions.start[replayed[bound]])) for bound in bounds[1:-1]]
        edges.append(int(ticks(sessions.stop[replayed].max())) + 1)
        return Schedule(
            tick=ticks(sessions.start[rows_of_round]),
            id=(sessions.user[rows_of_round] << VISIT_BITS) + _visit_numbers(world)[rows_of_round],
            slot=sessions.user[rows_of_round],
            user=everyone,
            log_user=everyone,
            shift=np.zeros(len(everyone)),
            session=rows_of_round,
            start=edges[number],
            stop=edges[number + 1],
        )

    def _replayed_sessions(self, world: World) -> tuple[Ints, Ints]:
        """Replayed sessions, and bounds of each round within them."""
        rounds = self._scenario.rounds
        per_round = self._scenario.arrivals.per_round
        replayed = np.flatnonzero(world.sessions.start >= world.opening)
        if per_round is not None:
            replayed = replayed[: rounds * per_round]
        if len(replayed) < rounds:
            raise DataError(
                f"replay: {len(replayed)} sessions start after the warm-up. Expected at least one for each of "
                f"the {rounds} rounds"
            )
        if per_round is None:
            return replayed, np.linspace(0, len(replayed), rounds + 1).round().astype(np.int64)
        if len(replayed) <= (rounds - 1) * per_round:
            raise DataError(
                f"replay: {len(replayed)} sessions are too few for {rounds} rounds of {per_round} arrivals "
                "each. Ask for fewer rounds, or set arrivals.per_round to null, which spreads the "
                "sessions evenly"
            )
        return replayed, np.minimum(np.arange(rounds + 1) * per_round, len(replayed))
