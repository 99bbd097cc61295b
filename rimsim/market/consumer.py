"""What is consumed of a slate: one function yields both the probability and the draw."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from rimsim import rng
from rimsim.market._draws import uniform_draws
from rimsim.market.clock import ticks
from rimsim.market.scoring import BLOCK, padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import ConsumerConfig
    from rimsim.data.log import EventLog, Sessions
    from rimsim.market.population import History, Population
    from rimsim.market.schedule import Schedule
    from rimsim.market.truth import Truth

__all__ = [
    "Consumer",
    "IntensityConsumer",
    "ReplayConsumer",
    "Response",
    "poisson_response",
    "respond_together",
]

_LEAST_MASS = 1e-9
"""Σ p* of what is left to a user who has consumed nearly everything."""
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

    @property
    def consumers(self) -> list[int]:
        """The rows in which something was consumed, ascending."""
        if not np.count_nonzero(self.consumed):
            return []
        return np.flatnonzero(self.consumed.any(1)).tolist()


class Consumer(Protocol):
    """The truth of a round."""

    def respond(self, rows: NDArray[np.int64], slates: NDArray[np.int64]) -> Response:
        """What the arrivals ``rows`` of the round make of their slates (n, k)."""
        ...

    def organic(self, row: int) -> tuple[int, list[int]]:
        """What an arrival consumes by itself, whatever it is shown: the due tick and the items."""
        ...

    def true_intensity(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """(n, M) float32 λ*(x)·p*(y|x) over admissible items, for bounds."""
        ...

    def take(self, slot: int, items: list[int]) -> None:
        """Note what a user has consumed before the round."""
        ...

    def relevant(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) how many items each arrival would consume if it could: the denominator of recall."""
        ...


def poisson_response(
    intensity: NDArray[np.float64], draw: NDArray[np.float64], decay: float, attraction: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The Poisson-intensity response: at least one event of a Poisson variable with an examined intensity.

    P(consume at position r) = 1 − exp(−λ*(x)·p*(y|x)·γ^(r−1)·a).

    Args:
        intensity: (n, k) λ*(x)·p*(y|x).
        draw: (n, k) uniform in [0, 1).
        decay: γ.
        attraction: a.

    Returns:
        (n, k) probabilities, and (n, k) whether each was consumed: draw < probability.
    """
    examined = intensity * _examination(decay, intensity.shape[1]) * attraction
    probability = -np.expm1(-examined)
    return probability, draw < probability


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
        population: Population,
        schedule: Schedule,
        release: NDArray[np.int64],
        seed: int,
    ) -> None:
        self._truth = truth
        self._config = config
        self._population = population
        self._schedule = schedule
        self._release = release
        # As of the round's beginning: a sum over as many items for every batch, so that its last bits are the same.
        self._late = np.flatnonzero(release > schedule.start)
        self._user = population.log_user[schedule.slot]
        self._ground = truth.ground[self._user]
        self._draw_key = rng.bits(seed, rng.Purpose.CHOICE, schedule.id)
        self._left = 1.0 - _logged_mass(truth, population.history)[population.log_user]
        self._eaten: dict[int, set[int]] = {}
        self._eaten_share = np.zeros(len(population))
        for slot, _, item in population.posts():
            self.take(slot, [item])

    def take(self, slot: int, items: list[int]) -> None:
        """Note what a user has consumed, which it does not consume again even before the platform knows of it."""
        user = np.full(len(items), self._population.log_user[slot])
        self._note(slot, items, self._truth.share(user, np.array(items, np.int64)).tolist())

    def _note(self, slot: int, items: list[int], shares: list[float]) -> None:
        self._eaten.setdefault(slot, set()).update(items)
        for share in shares:  # one after the other: the order decides the last bits
            self._eaten_share[slot] += share

    def respond(self, rows: NDArray[np.int64], slates: NDArray[np.int64]) -> Response:
        """See :class:`Consumer`."""
        shown = slates >= 0
        for n, slot in enumerate(self._schedule.slot[rows].tolist()):
            self._hide_eaten(slot, slates[n], shown[n])
        scale = self._ground[rows] / self._admissible_mass(rows)
        response, share = self.answer(self._user[rows], scale, self._draw_key[rows], slates, shown)
        for n in response.consumers:
            self.note_slate(int(rows[n]), slates[n], response.consumed[n], share[n])
        return response

    def one_of_many(
        self, row: int, slate: NDArray[np.int64], shown: NDArray[np.bool_]
    ) -> tuple[np.int64, np.float64, np.uint64]:
        """Log user, scale of p* and draw key of one arrival, for :func:`respond_together`.

        Args:
            row: The arrival.
            slate: (k,) what it is shown.
            shown: (k,) filled positions; those that the user has consumed before are taken out.
        """
        slot = int(self._schedule.slot[row])
        self._hide_eaten(slot, slate, shown)
        if len(self._late):
            mass = self._admissible_mass(np.array([row]))[0]
        else:
            mass = max(self._left[slot] - self._eaten_share[slot], _LEAST_MASS)
        return self._user[row], self._ground[row] / mass, self._draw_key[row]

    def answer(
        self,
        user: NDArray[np.int64],
        scale: NDArray[np.float64],
        key: NDArray[np.uint64],
        slates: NDArray[np.int64],
        shown: NDArray[np.bool_],
    ) -> tuple[Response, NDArray[np.float64]]:
        """Responses, and p* over the whole catalogue (n, k) of what is ``shown`` (n, k) and can be consumed."""
        share = self._truth.slate_share(user, slates, shown)
        intensity = share * scale[:, None]
        draw = uniform_draws(key, slates)
        probability, consumed = poisson_response(
            intensity, draw, self._config.position_decay, self._config.attraction
        )
        return Response(consumed, probability, intensity), share

    def _hide_eaten(self, slot: int, slate: NDArray[np.int64], shown: NDArray[np.bool_]) -> None:
        """Take what a user has consumed out of the ``shown`` positions (k,) of its slate."""
        eaten = self._eaten.get(slot)
        if eaten is not None and not eaten.isdisjoint(slate.tolist()):
            shown &= ~np.isin(slate, list(eaten))

    def note_slate(
        self, row: int, slate: NDArray[np.int64], consumed: NDArray[np.bool_], share: NDArray[np.float64]
    ) -> None:
        """Note what an arrival has consumed of its slate, all (k,)."""
        self._note(int(self._schedule.slot[row]), slate[consumed].tolist(), share[consumed].tolist())

    def organic(self, row: int) -> tuple[int, list[int]]:
        """Clones consume only what they are shown."""
        return int(self._schedule.tick[row]), []

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
                if slot in self._eaten:
                    share[n, list(self._eaten[slot])] = 0.0
            share *= self._ground[block][:, None]
            share /= self._admissible_mass(block)[:, None]
            parts.append(torch.from_numpy(share[: len(mine)].astype(np.float32)))
        return torch.cat(parts) if parts else torch.zeros(0, len(self._release))

    def relevant(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """λ*(x): what a consumer takes of a catalogue shown whole."""
        return self._ground[rows]

    def _admissible_mass(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) Σ p* over the released items that the user has not consumed."""
        slots = self._schedule.slot[rows]
        mass = self._left[slots] - self._eaten_share[slots]
        if len(self._late):
            tick, late = self._schedule.tick[rows], self._late
            users = self._population.log_user[slots]
            waiting = self._truth.share(users[:, None], late[None, :])
            mass -= (waiting * (self._release[late][None, :] > tick[:, None])).sum(1)
        return np.maximum(mass, _LEAST_MASS)


def respond_together(
    consumers: list[IntensityConsumer], rows: list[int], slates: NDArray[np.int64]
) -> Response:
    """What one arrival of each of n rounds makes of its slate; the rounds have one truth and one config.

    Args:
        consumers: n consumers of different rounds.
        rows: An arrival in the round of each.
        slates: (n, k).
    """
    shown = slates >= 0
    many = len(rows)
    user, scale, key = np.empty(many, np.int64), np.empty(many, np.float64), np.empty(many, np.uint64)
    for n, (one, row) in enumerate(zip(consumers, rows, strict=True)):
        user[n], scale[n], key[n] = one.one_of_many(row, slates[n], shown[n])
    response, share = consumers[0].answer(user, scale, key, slates, shown)
    for n in response.consumers:
        consumers[n].note_slate(rows[n], slates[n], response.consumed[n], share[n])
    return response


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

    def take(self, slot: int, items: list[int]) -> None:
        """What users consume is written in the log."""

    def organic(self, row: int) -> tuple[int, list[int]]:
        """The session's own events, due when it ends."""
        session = int(self._schedule.session[row])
        return int(self._stop[session]), self._session_items[session].tolist()

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
