"""The truth of class ``factors``: each user of the log has factors, fitted with hindsight; it does not move."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.market.consumers.kernels import (
    LEAST_MASS,
    Factors,
    answer_slates,
    consumed_mass,
    left_by_past,
    pair_shares,
)
from rimsim.market.consumers.truths.sizes import Kept, SessionSizes
from rimsim.market.scoring import BLOCK, filled_up

if TYPE_CHECKING:
    from rimsim.intensity.states import UserStates
    from rimsim.market.consumers.contract import Response, Visits
    from rimsim.market.consumers.truths.contract import Law, TruthReport
    from rimsim.market.histories import LoggedPast


_CHUNK = 4_000_000
"""Numbers of a matrix that is computed at once."""


@dataclass(frozen=True, eq=False)
class FactorsTruth(Kept):
    """p*(y|u) ∝ exp(⟨a_u, c_y⟩ + d_y) over admissible items, for every user of the log."""

    kind: ClassVar[str] = "factors"
    arrays: ClassVar[tuple[str, ...]] = ("user_factors", "item_factors", "item_bias")

    user_factors: Floats
    """(users, rank) a."""
    item_factors: Floats
    """(M, rank) c."""
    item_bias: Floats
    """(M,) d."""
    sizes: SessionSizes
    """λ*."""
    report: TruthReport
    """How it was fitted."""
    log_normaliser: Floats = dataclasses.field(init=False)
    """(users,) log Σ_y exp(⟨a_u, c_y⟩ + d_y) over the whole catalogue."""

    def __post_init__(self) -> None:
        normaliser = log_normaliser(self.user_factors, self.item_factors, self.item_bias)
        object.__setattr__(self, "log_normaliser", normaliser)

    @property
    def factors(self) -> Factors:
        """p* as compiled code takes it."""
        return Factors(self.user_factors, self.item_factors, self.item_bias, self.log_normaliser)

    def preference(self, users: Ints, states: UserStates) -> Floats:  # noqa: ARG002  # the protocol's
        """(n, M) p* over the whole catalogue; of the user alone."""
        return self._rows(users)

    def answer(self, visits: Visits, slates: Ints, ground: Floats, law: Law, response: Response) -> None:
        """What visits make of their slates, in one compiled pass."""
        slot, histories = visits.slot, visits.histories
        events = histories.events
        answer_slates(
            slates,
            histories.log_user[slot],
            visits.keys[visits.row],
            ground,
            self._left(histories.past)[histories.row_of_past[slot]],
            self._waiting(visits),
            events.first[slot],
            events.item,
            events.next,
            *self.factors,
            law.examination,
            law.attraction,
            response.consumed,
            response.probability,
            response.intensity,
        )

    def shares(self, visits: Visits) -> Floats:
        """(n, M) p* over what each visit may consume, the rows computed in blocks of a fixed height."""
        release, parts = visits.world.release, []
        for first in range(0, len(visits), BLOCK):
            rows = visits.row[first : first + BLOCK]
            block = dataclasses.replace(visits, row=filled_up(rows))
            histories, slot = block.histories, block.slot
            user, events = histories.log_user[slot], histories.events
            consumed = consumed_mass(user, events.first[slot], events.item, events.next, self.factors)
            share = self._rows(user)
            share[release[None, :] > visits.schedule.tick[block.row][:, None]] = 0.0
            share[block.consumed()] = 0.0
            left = self._left(histories.past)[histories.row_of_past[slot]] - consumed - self._waiting(block)
            parts.append((share / np.maximum(left, LEAST_MASS)[:, None])[: len(rows)])
        return np.concatenate(parts) if parts else np.zeros((0, len(release)))

    def _rows(self, users: Ints) -> Floats:
        """(n, M) p* over the whole catalogue; its last bits are those of n."""
        logit = self.user_factors[users] @ self.item_factors.T + self.item_bias
        return np.asarray(np.exp(logit - self.log_normaliser[users][:, None]), np.float64)

    def _left(self, past: LoggedPast) -> Floats:
        return _left_by_past(self, past)

    def _waiting(self, visits: Visits) -> Floats:
        """(n,) Σ p* over the items that are not released yet when the visits come.

        The sum has the items that are late at the round's beginning, as many for every batch, so that its last bits are
        the same.
        """
        schedule, release = visits.schedule, visits.world.release
        if schedule.start >= visits.world.last_release:
            return np.zeros(len(visits.row))
        late = np.flatnonzero(release > schedule.start)
        users = np.repeat(visits.log_user, len(late))
        share = pair_shares(users, np.tile(late, len(visits.row)), self.factors).reshape(-1, len(late))
        unreleased = release[late][None, :] > schedule.tick[visits.row][:, None]
        return np.asarray((share * unreleased).sum(1), np.float64)


@lru_cache(maxsize=4)
def _left_by_past(truth: FactorsTruth, past: LoggedPast) -> Floats:
    """Σ p* over what is not in each beginning of each user's logged past; once for all rounds and markets."""
    return left_by_past(past.offsets, past.items, truth.factors)


def log_normaliser(a: Floats, c: Floats, d: Floats) -> Floats:
    """(users,) log Σ_y exp(⟨a_u, c_y⟩ + d_y), users in chunks."""
    height = max(1, _CHUNK // len(d))
    parts = []
    for first in range(0, len(a), height):
        logit = a[first : first + height] @ c.T + d
        top = logit.max(1)
        parts.append(top + np.log(np.exp(logit - top[:, None]).sum(1)))
    return np.concatenate(parts) if parts else np.zeros(0)
