"""Consumers who repeat their behaviour in the log."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from rimsim.arrays import Bools, Floats, Ints, numbered, offsets_of, ticks
from rimsim.compiled import compiled
from rimsim.config import ScenarioConfig
from rimsim.config.fields import duration_seconds
from rimsim.market.consumers.contract import Organic, SlateVisits, World
from rimsim.market.records import Response


class _Items(NamedTuple):
    """Items consumed after the start of each session.

    Those of session s are ``item[offsets[s]:offsets[s + 1]]``.
    """

    offsets: Ints
    """(sessions + 1,)"""
    item: Ints
    """(total,)"""

    def of(self, sessions: Ints) -> tuple[Ints, Ints]:
        """Index among sessions (total,) and items (total,) of these."""
        begin = self.offsets[sessions]
        place, number = numbered(self.offsets[sessions + 1] - begin)
        return place, self.item[begin[place] + number]


@lru_cache(maxsize=4)
def _session_items(world: World) -> _Items:
    """Items of each session of the log."""
    of_event = world.sessions.of_event
    order = np.argsort(of_event, kind="stable")
    offsets = np.searchsorted(of_event[order], np.arange(len(world.sessions) + 1))
    return _Items(offsets.astype(np.int64), world.log.item[order])


@lru_cache(maxsize=4)
def _futures(world: World, horizon: float | None) -> _Items:
    """Items consumed in each session, or within a horizon."""
    if horizon is None:
        return _session_items(world)
    log, sessions = world.log, world.sessions
    time, item, edges = log.time[log.by_user], log.item[log.by_user], log.offsets
    found = []
    for owner, start in zip(sessions.user.tolist(), sessions.start.tolist(), strict=True):
        begin, end = edges[owner], edges[owner + 1]
        first, stop = begin + np.searchsorted(time[begin:end], (start, start + horizon))
        found.append(item[first:stop])
    return _Items(
        offsets_of(np.array([len(items) for items in found], np.int64)), np.concatenate([item[:0], *found])
    )


@compiled
def _hits(slates: Ints, sessions: Ints, offsets: Ints, item: Ints, hits: Bools) -> None:
    """Mark items of slates (n, k) that their sessions (n,) hold."""
    for row in range(len(slates)):
        for place in range(offsets[sessions[row]], offsets[sessions[row] + 1]):
            for position in range(slates.shape[1]):
                hits[row, position] |= slates[row, position] == item[place]


class ReplayedLog:
    """Consumers whose shown items are hits in their logged behaviour.

    An item is a hit if its user consumed it in the session, or within a horizon of the arrival. Logged consumptions
    enter the state at the end of the session, shown or not: the platform sees its users' organic behaviour, as the log
    did.
    """

    hits_only = True
    foretold = True
    needs_truth = False
    needs_sessions = True

    def __init__(self, scenario: ScenarioConfig) -> None:
        horizon = scenario.consumer.horizon
        self._horizon = None if horizon is None else duration_seconds(horizon)

    def respond(self, visits: SlateVisits, slates: Ints) -> Response:
        """Hits; their probability is 1."""
        hits = np.zeros(slates.shape, bool)
        _hits(slates, visits.schedule.session[visits.row], *_futures(visits.world, self._horizon), hits)
        certain = hits.astype(np.float64)
        return Response(hits, certain, certain)

    def organic(self, visits: SlateVisits) -> Organic:
        """Events of each session, consumed when it ends."""
        sessions = visits.schedule.session[visits.row]
        place, item = _session_items(visits.world).of(sessions)
        return Organic(visits.row[place], ticks(visits.world.sessions.stop[sessions])[place], item)

    def settled(self, visits: SlateVisits) -> Ints:
        """(n,) end of each visit's session, or of its horizon."""
        sessions = visits.schedule.session[visits.row]
        if self._horizon is None:
            return ticks(visits.world.sessions.stop[sessions])
        return ticks(visits.world.sessions.start[sessions] + self._horizon)

    def true_intensity(self, visits: SlateVisits) -> torch.Tensor:
        """(n, M) logged future as counts."""
        future = torch.zeros(len(visits), visits.world.log.n_items)
        place, item = self._future(visits)
        future[torch.from_numpy(place), torch.from_numpy(item)] = 1.0
        return future

    def relevant(self, visits: SlateVisits) -> Floats:
        """(n,) number of items in each visit's logged future."""
        n_items = visits.world.log.n_items
        place, item = self._future(visits)
        visit = np.unique(place * n_items + item) // n_items
        return np.bincount(visit, minlength=len(visits)).astype(np.float64)

    def _future(self, visits: SlateVisits) -> tuple[Ints, Ints]:
        """(visit, item) pairs of the logged future."""
        return _futures(visits.world, self._horizon).of(visits.schedule.session[visits.row])
