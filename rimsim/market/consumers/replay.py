"""Consumers who do what they did in the log."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim.durations import duration_seconds
from rimsim.market.clock import ticks
from rimsim.market.consumers.contract import Organic, Response

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import ScenarioConfig
    from rimsim.market.consumers.contract import Visits
    from rimsim.market.world import World

__all__ = ["ReplayedLog"]


@lru_cache(maxsize=4)
def _session_items(world: World) -> list[NDArray[np.int64]]:
    """The items of each session of the log."""
    of_event = world.sessions.of_event
    order = np.argsort(of_event, kind="stable")
    offsets = np.searchsorted(of_event[order], np.arange(len(world.sessions) + 1))
    return [world.log.item[order[a:b]] for a, b in itertools.pairwise(offsets)]


@lru_cache(maxsize=4)
def _futures(world: World, horizon: float | None) -> list[NDArray[np.int64]]:
    """What the user of each session consumed in it, or within a horizon (seconds) of its start."""
    if horizon is None:
        return _session_items(world)
    log, sessions = world.log, world.sessions
    by_user = np.lexsort((np.arange(len(log)), log.user))
    user, time, item = log.user[by_user], log.time[by_user], log.item[by_user]
    begin = np.searchsorted(user, sessions.user, "left")
    end = np.searchsorted(user, sessions.user, "right")
    return [
        item[a:b][(time[a:b] >= start) & (time[a:b] < start + horizon)]
        for a, b, start in zip(begin, end, sessions.start, strict=True)
    ]


class ReplayedLog:
    """An item shown is a hit if its user consumed it in the session, or within a horizon of the arrival.

    What users consumed becomes part of their state at the end of the session, whether it was shown or not: the
    platform sees its users' organic behaviour, as the log did.

    Args:
        scenario: Says the horizon.
    """

    hits_only = True
    needs_truth = False
    needs_sessions = True

    def __init__(self, scenario: ScenarioConfig) -> None:
        horizon = scenario.consumer.horizon
        self._horizon = None if horizon is None else duration_seconds(horizon)

    def respond(self, visits: Visits, slates: NDArray[np.int64]) -> Response:
        """Hits; the probability is 1 for a hit and 0 else."""
        hits = np.zeros(slates.shape, bool)
        for n, future in enumerate(self._future(visits)):
            hits[n] = np.isin(slates[n], future)
        hits &= slates >= 0
        return Response(hits, hits.astype(np.float64), hits.astype(np.float64))

    def organic(self, visits: Visits) -> Organic:
        """The session's own events, consumed when it ends."""
        sessions, of_session = visits.schedule.session[visits.row], _session_items(visits.world)
        items = [of_session[session] for session in sessions.tolist()]
        lengths = [len(session_items) for session_items in items]
        item = np.concatenate(items) if items else np.zeros(0, np.int64)
        stop = ticks(visits.world.sessions.stop[sessions])
        return Organic(np.repeat(visits.row, lengths), np.repeat(stop, lengths), item)

    def settled(self, visits: Visits) -> NDArray[np.int64]:
        """(n,) the end of each visit's session or, with a horizon, of that."""
        sessions = visits.schedule.session[visits.row]
        if self._horizon is None:
            return ticks(visits.world.sessions.stop[sessions])
        return ticks(visits.world.sessions.start[sessions] + self._horizon)

    def true_intensity(self, visits: Visits) -> torch.Tensor:
        """(n, M) the logged future as counts."""
        future = torch.zeros(len(visits), visits.world.log.n_items)
        for n, items in enumerate(self._future(visits)):
            future[n, items] = 1.0
        return future

    def relevant(self, visits: Visits) -> NDArray[np.float64]:
        """(n,) items in each visit's logged future."""
        return np.array([len(set(items.tolist())) for items in self._future(visits)], np.float64)

    def _future(self, visits: Visits) -> list[NDArray[np.int64]]:
        futures = _futures(visits.world, self._horizon)
        return [futures[session] for session in visits.schedule.session[visits.row].tolist()]
