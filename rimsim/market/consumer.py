"""Who consumes: the fitted truth, or the log itself."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch

from rimsim import rng
from rimsim.market._response import Appetites, Visits, admissible_mass, answer_slates, eat_all
from rimsim.market.clock import ticks
from rimsim.market.scoring import BLOCK, padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import ConsumerConfig
    from rimsim.data.log import EventLog, Sessions
    from rimsim.market.population import History, Population
    from rimsim.market.schedule import Schedule
    from rimsim.market.truth import Truth

__all__ = ["Consumer", "IntensityConsumer", "ReplayConsumer", "Response", "Taken"]

_PAIRS = 1 << 18
"""(user, item) pairs whose shares are computed at once."""


@dataclass(frozen=True, eq=False)
class Response:
    """What n arrivals made of their slates."""

    consumed: NDArray[np.bool_]
    """(n, k) what was consumed."""
    probability: NDArray[np.float64]
    """(n, k) with which probability; 0 at empty positions."""
    intensity: NDArray[np.float64]
    """(n, k) true intensity λ*(x)·p*(y|x) of each shown item; 0 at empty positions."""


class Taken(NamedTuple):
    """m items that arrivals consumed and that become part of their users' states."""

    row: NDArray[np.int64]
    """(m,) arrivals, those of one together."""
    tick: NDArray[np.int64]
    """(m,) when each was consumed."""
    item: NDArray[np.int64]
    """(m,) what."""


class Consumer(Protocol):
    """The truth of a round."""

    def respond(self, rows: NDArray[np.int64], slates: NDArray[np.int64]) -> Response:
        """What the arrivals ``rows`` of the round make of their slates (n, k)."""
        ...

    def taken(self, rows: NDArray[np.int64], slates: NDArray[np.int64], consumed: NDArray[np.bool_]) -> Taken:
        """What reaches the states of users who were served.

        Args:
            rows: (n,) arrivals.
            slates: (n, k) what they were shown.
            consumed: (n, k) what they consumed of it.
        """
        ...

    def true_intensity(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """(n, M) float32 λ*(x)·p*(y|x) over admissible items, for bounds."""
        ...

    def take(self, slots: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """Note items (m,) that slots (m,) consumed before the round, even if the platform does not know of them yet."""
        ...

    def relevant(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) how many items each arrival would consume if it could: the denominator of recall."""
        ...


@lru_cache(maxsize=64)
def _examination(decay: float, positions: int) -> NDArray[np.float64]:
    """(k,) γ^(r−1)."""
    return np.asarray(decay ** np.arange(positions), np.float64)


@lru_cache(maxsize=4)
def _logged_mass(truth: Truth, history: History) -> NDArray[np.float64]:
    """(users,) Σ p* over the items that each user of the log has consumed; once for all rounds and markets."""
    users = np.arange(len(history.offsets) - 1)
    rows = np.repeat(users, np.diff(history.offsets))
    n_items = len(truth.item_bias)
    pairs = np.unique(rows * n_items + history.items)  # an item consumed twice leaves the catalogue once
    rows, items = np.divmod(pairs, n_items)
    gone = [
        truth.share(rows[first : first + _PAIRS], items[first : first + _PAIRS])
        for first in range(0, len(rows), _PAIRS)
    ]
    return np.bincount(rows, weights=np.concatenate(gone) if gone else None, minlength=len(users)).astype(
        float
    )


class IntensityConsumer:
    """Consumers who follow the fitted truth; a latent draw belongs to (arrival, item), whatever else is shown."""

    def __init__(
        self,
        truth: Truth,
        config: ConsumerConfig,
        slate: int,
        population: Population,
        schedule: Schedule,
        release: NDArray[np.int64],
        seed: int,
    ) -> None:
        self._truth = truth
        self._population = population
        self._schedule = schedule
        self._release = release
        # As of the round's beginning: a sum over as many items for every batch, so that its last bits are the same.
        self._late = np.flatnonzero(release > schedule.start)
        self.factors = truth.factors
        self.examination = _examination(config.position_decay, slate)
        self.attraction = config.attraction
        user = population.log_user[schedule.slot]
        key = rng.bits(seed, rng.Purpose.CHOICE, schedule.id)
        self.visits = Visits(schedule.slot, user, truth.ground[user], key)
        room = len(schedule) * slate  # for all that can be consumed in the round
        self.appetites = Appetites(
            left=1.0 - _logged_mass(truth, population.history)[population.log_user],
            eaten=np.zeros(len(population)),
            last=np.full(len(population), -1),
            item=np.zeros(room, np.int64),
            before=np.zeros(room, np.int64),
            size=np.zeros(1, np.int64),
        )
        slots, _, items = population.mail.posts()
        self.take(slots, items)

    def take(self, slots: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """See :class:`Consumer`."""
        more, old = np.zeros(len(items), np.int64), self.appetites
        self.appetites = old._replace(
            item=np.concatenate([old.item, more]), before=np.concatenate([old.before, more])
        )
        eat_all(slots, items, self._truth.share(self._population.log_user[slots], items), self.appetites)

    def respond(self, rows: NDArray[np.int64], slates: NDArray[np.int64]) -> Response:
        """See :class:`Consumer`."""
        shape = slates.shape
        response = Response(np.empty(shape, bool), np.empty(shape), np.empty(shape))
        answer_slates(
            rows,
            slates,
            self._waiting(rows),
            self.visits,
            self.appetites,
            self.factors,
            self.examination,
            self.attraction,
            response.consumed,
            response.probability,
            response.intensity,
        )
        return response

    def taken(self, rows: NDArray[np.int64], slates: NDArray[np.int64], consumed: NDArray[np.bool_]) -> Taken:
        """See :class:`Consumer`: they consume only what they are shown."""
        row = rows[np.nonzero(consumed)[0]]
        return Taken(row, self._schedule.tick[row], slates[consumed])

    def true_intensity(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """See :class:`Consumer`; rows are computed in blocks of a fixed height."""
        parts = []
        for first in range(0, len(rows), BLOCK):
            mine = rows[first : first + BLOCK]
            block = padded(mine)
            slots, tick = self._schedule.slot[block], self._schedule.tick[block]
            share = self._truth.rows(self._population.log_user[slots])
            share[self._release[None, :] > tick[:, None]] = 0.0
            share[self._population.past(slots)] = 0.0
            for n, slot in enumerate(slots.tolist()):
                share[n, self._eaten(slot)] = 0.0
            share *= self.visits.ground[block][:, None]
            share /= admissible_mass(slots, self._waiting(block), self.appetites)[:, None]
            parts.append(torch.from_numpy(share[: len(mine)].astype(np.float32)))
        return torch.cat(parts) if parts else torch.zeros(0, len(self._release))

    def relevant(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """λ*(x): what a consumer takes of a catalogue shown whole."""
        return self.visits.ground[rows]

    def _eaten(self, slot: int) -> list[int]:
        """What a slot has consumed in the market."""
        items, place = [], int(self.appetites.last[slot])
        while place >= 0:
            items.append(int(self.appetites.item[place]))
            place = int(self.appetites.before[place])
        return items

    def waiting_of(self, row: int) -> float:
        """Σ p* over the items that are not released yet when an arrival comes."""
        return float(self._waiting(np.array([row]))[0]) if len(self._late) else 0.0

    def _waiting(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) Σ p* over the items that are not released yet when the arrivals come."""
        if not len(self._late):
            return np.zeros(len(rows))
        late = self._late
        share = self._truth.share(self.visits.user[rows][:, None], late[None, :])
        unreleased = self._release[late][None, :] > self._schedule.tick[rows][:, None]
        return np.asarray((share * unreleased).sum(1), np.float64)


class ReplayConsumer:
    """Consumers who do what they did in the log: an item shown is a hit if they consumed it within the horizon.

    What they consumed becomes part of their state at the end of the session, whether it was shown or not: the
    platform sees its users' organic behaviour, as the log did.
    """

    def __init__(
        self,
        log: EventLog,
        sessions: Sessions,
        schedule: Schedule,
        horizon: float | None,
    ) -> None:
        self._schedule = schedule
        self._n_items = log.n_items
        order = np.argsort(sessions.of_event, kind="stable")
        offsets = np.searchsorted(sessions.of_event[order], np.arange(len(sessions) + 1))
        self._session_items = [log.item[order[a:b]] for a, b in itertools.pairwise(offsets)]
        self._stop = ticks(sessions.stop)
        self._future = self._session_items
        if horizon is not None:
            by_user = np.lexsort((np.arange(len(log)), log.user))
            user, time, item = log.user[by_user], log.time[by_user], log.item[by_user]
            begin = np.searchsorted(user, sessions.user, "left")
            end = np.searchsorted(user, sessions.user, "right")
            self._future = [
                item[a:b][(time[a:b] >= start) & (time[a:b] < start + horizon)]
                for a, b, start in zip(begin, end, sessions.start, strict=True)
            ]

    def respond(self, rows: NDArray[np.int64], slates: NDArray[np.int64]) -> Response:
        """See :class:`Consumer`; the probability is 1 for a hit and 0 else."""
        hits = np.zeros(slates.shape, bool)
        for n, session in enumerate(self._schedule.session[rows].tolist()):
            hits[n] = np.isin(slates[n], self._future[session])
        hits &= slates >= 0
        return Response(hits, hits.astype(np.float64), hits.astype(np.float64))

    def take(self, slots: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """What users consume is written in the log."""

    def taken(self, rows: NDArray[np.int64], slates: NDArray[np.int64], consumed: NDArray[np.bool_]) -> Taken:
        """See :class:`Consumer`: the session's own events, due when it ends, whatever was shown."""
        del slates, consumed
        sessions = self._schedule.session[rows]
        items = [self._session_items[session] for session in sessions.tolist()]
        lengths = [len(some) for some in items]
        item = np.concatenate(items) if items else np.zeros(0, np.int64)
        return Taken(np.repeat(rows, lengths), self._stop[np.repeat(sessions, lengths)], item)

    def true_intensity(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """See :class:`Consumer`: the logged future as counts."""
        future = torch.zeros(len(rows), self._n_items)
        for n, session in enumerate(self._schedule.session[rows].tolist()):
            future[n, self._future[session]] = 1.0
        return future

    def relevant(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Items in each arrival's logged future."""
        return np.array(
            [len(set(self._future[s].tolist())) for s in self._schedule.session[rows]], np.float64
        )
