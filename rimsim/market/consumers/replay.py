"""Consumers who repeat their behaviour in the log."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from rimsim.arrays import Floats, Ints, offsets_of, ticks
from rimsim.config import ScenarioConfig
from rimsim.config.fields import duration_seconds
from rimsim.intensity.sets.personal import first_of_each
from rimsim.market.consumers.contract import Hits, Organic, SlateVisits, World, mark_hits
from rimsim.market.records import Response


@lru_cache(maxsize=4)
def _session_items(world: World) -> Hits:
    """Items of each session of the log."""
    session_of_event = world.sessions.of_event
    order = np.argsort(session_of_event, kind="stable")
    offsets = np.searchsorted(session_of_event[order], np.arange(len(world.sessions) + 1))
    return Hits(offsets.astype(np.int64), world.log.item[order])


@lru_cache(maxsize=4)
def _futures(world: World, horizon: float | None) -> Hits:
    """Items consumed in each session, or up to a horizon."""
    if horizon is None:
        return _session_items(world)
    log = world.log
    sessions = world.sessions
    time = log.time[log.by_user]
    item = log.item[log.by_user]
    futures = []
    for user, start in zip(sessions.user.tolist(), sessions.start.tolist(), strict=True):
        begin = log.offsets[user]
        end = log.offsets[user + 1]
        first, stop = begin + np.searchsorted(time[begin:end], (start, start + horizon))
        futures.append(item[first:stop])
    lengths = np.array([len(items) for items in futures], np.int64)
    return Hits(offsets_of(lengths), np.concatenate([item[:0], *futures]))


class ReplayedLog:
    """Consumers who take items that they took in the log.

    A shown item is a hit if the user consumed it in this session of the log. With a horizon, an item is a hit if the
    user consumed it within the horizon after the arrival. Logged consumptions enter the state at the end of the
    session, even if they were not shown. So the platform sees the organic behaviour of its users.
    """

    hits_only = True
    foretold = True
    needs_truth = False
    needs_sessions = True

    def __init__(self, scenario: ScenarioConfig) -> None:
        horizon = scenario.consumer.horizon
        self._horizon = None if horizon is None else duration_seconds(horizon)

    def respond(self, visits: SlateVisits, slates: Ints) -> Response:
        """Response to slates: hits are consumed with probability 1."""
        hits = np.zeros(slates.shape, bool)
        mark_hits(slates, visits.schedule.session[visits.row], _futures(visits.world, self._horizon), hits)
        certain = hits.astype(np.float64)
        return Response(hits, certain, certain)

    def law(self, world: World) -> Hits | None:
        """Logged futures of the sessions, as a law of consumption."""
        return _futures(world, self._horizon) if type(self) is ReplayedLog else None

    def organic(self, visits: SlateVisits) -> Organic:
        """Events of each session, as consumptions at its end."""
        sessions = visits.schedule.session[visits.row]
        visit, item = _session_items(visits.world).of(sessions)
        end = ticks(visits.world.sessions.stop[sessions])
        return Organic(row=visits.row[visit], tick=end[visit], item=item)

    def settled(self, visits: SlateVisits) -> Ints:
        """End of each visit's session, or of its horizon."""
        sessions = visits.schedule.session[visits.row]
        if self._horizon is None:
            return ticks(visits.world.sessions.stop[sessions])
        return ticks(visits.world.sessions.start[sessions] + self._horizon)

    def true_intensity(self, visits: SlateVisits) -> torch.Tensor:
        """Intensity 1 of each item in a visit's logged future."""
        future = torch.zeros(len(visits), visits.world.log.n_items)
        visit, item = self._future(visits)
        future[torch.from_numpy(visit), torch.from_numpy(item)] = 1.0
        return future

    def relevant(self, visits: SlateVisits) -> Floats:
        """Number of items in each visit's logged future."""
        visit, item = self._future(visits)
        offsets = offsets_of(np.bincount(visit, minlength=len(visits)))
        # An item may occur several times in a future. ``distinct_offsets`` counts each item once.
        seen = np.zeros(visits.world.log.n_items, np.int64)
        distinct_offsets = np.zeros(len(offsets), np.int64)
        first_of_each(offsets, item, seen, first=np.empty_like(item), offsets=distinct_offsets)
        return np.diff(distinct_offsets).astype(np.float64)

    def _future(self, visits: SlateVisits) -> tuple[Ints, Ints]:
        """Pairs (visit, item) of the logged future."""
        return _futures(visits.world, self._horizon).of(visits.schedule.session[visits.row])
