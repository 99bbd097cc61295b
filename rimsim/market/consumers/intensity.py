"""Consumers who follow the fitted truth: the Poisson-intensity response."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim.intensity.blocks import BLOCK
from rimsim.market.consumers.contract import NOTHING, Organic, Response, Visits
from rimsim.market.consumers.kernels import LEAST_MASS, answer_slates, consumed_mass
from rimsim.market.scoring import padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import ScenarioConfig
    from rimsim.market.consumers.truth import Truth
    from rimsim.market.histories import LoggedPast

__all__ = ["Intensity", "examination"]

_PAIRS = 1 << 18
"""(user, item) pairs whose shares are computed at once."""


@lru_cache(maxsize=64)
def examination(decay: float, positions: int) -> NDArray[np.float64]:
    """(k,) γ^(r−1): the share of visitors who look at each position r = 1 … k."""
    return np.asarray(decay ** np.arange(positions), np.float64)


@lru_cache(maxsize=4)
def _unlogged_mass(truth: Truth, past: LoggedPast) -> NDArray[np.float64]:
    """(users,) Σ p* over what each user has not consumed in the log; once for all rounds and markets."""
    users = np.arange(len(past.offsets) - 1)
    rows = np.repeat(users, np.diff(past.offsets))
    n_items = len(truth.item_bias)
    pairs = np.unique(rows * n_items + past.items)  # an item consumed twice leaves the catalogue once
    rows, items = np.divmod(pairs, n_items)
    gone = [
        truth.share(rows[first : first + _PAIRS], items[first : first + _PAIRS])
        for first in range(0, len(rows), _PAIRS)
    ]
    weights = np.concatenate(gone) if gone else None
    return np.asarray(1.0 - np.bincount(rows, weights=weights, minlength=len(users)), np.float64)


class Intensity:
    """An item shown at position r is consumed with probability 1 − exp(−λ*(x)·p*(y|x)·γ^(r−1)·a).

    A latent draw belongs to (arrival, item), whatever else is shown.

    Args:
        scenario: Says γ, a and the length of a slate.
    """

    needs_truth = True

    def __init__(self, scenario: ScenarioConfig) -> None:
        self._attraction = scenario.consumer.attraction
        self._examination = examination(scenario.consumer.position_decay, scenario.slate)

    def respond(self, visits: Visits, slates: NDArray[np.int64]) -> Response:
        """What visits make of their slates."""
        shape, truth, user, events = slates.shape, _truth(visits), visits.log_user, visits.histories.events
        response = Response(np.empty(shape, bool), np.empty(shape), np.empty(shape))
        answer_slates(
            slates,
            user,
            visits.keys[visits.row],
            truth.ground[user],
            _unlogged_mass(truth, visits.histories.past)[user],
            _waiting(visits),
            events.first[visits.slot],
            events.item,
            events.next,
            *truth.factors,
            self._examination,
            self._attraction,
            response.consumed,
            response.probability,
            response.intensity,
        )
        return response

    def organic(self, visits: Visits) -> Organic:  # noqa: ARG002  # the protocol's
        """They consume only what they are shown."""
        return NOTHING

    def true_intensity(self, visits: Visits) -> torch.Tensor:
        """(n, M) λ*(x)·p*(y|x), the rows computed in blocks of a fixed height."""
        truth, events, release = _truth(visits), visits.histories.events, visits.world.release
        parts = []
        for first in range(0, len(visits), BLOCK):
            rows = visits.row[first : first + BLOCK]
            block = dataclasses.replace(visits, row=padded(rows))
            user, oldest = block.log_user, events.first[block.slot]
            consumed = consumed_mass(user, oldest, events.item, events.next, truth.factors)
            share = truth.rows(user)
            share[release[None, :] > visits.schedule.tick[block.row][:, None]] = 0.0
            share[block.consumed()] = 0.0
            share *= truth.ground[user][:, None]
            left = _unlogged_mass(truth, block.histories.past)[user] - consumed - _waiting(block)
            share /= np.maximum(left, LEAST_MASS)[:, None]
            parts.append(torch.from_numpy(share[: len(rows)].astype(np.float32)))
        return torch.cat(parts) if parts else torch.zeros(0, len(release))

    def relevant(self, visits: Visits) -> NDArray[np.float64]:
        """(n,) λ*(x): what is consumed of a catalogue shown whole."""
        return np.asarray(_truth(visits).ground[visits.log_user], np.float64)


def _truth(visits: Visits) -> Truth:
    truth = visits.world.truth
    assert truth is not None  # noqa: S101  # needs_truth
    return truth


def _waiting(visits: Visits) -> NDArray[np.float64]:
    """(n,) Σ p* over the items that are not released yet when the visits come.

    The sum has the items that are late at the round's beginning, as many for every batch, so that its last bits are
    the same.
    """
    schedule, release = visits.schedule, visits.world.release
    if schedule.start >= visits.world.last_release:
        return np.zeros(len(visits.row))
    late = np.flatnonzero(release > schedule.start)
    share = _truth(visits).share(visits.log_user[:, None], late[None, :])
    unreleased = release[late][None, :] > schedule.tick[visits.row][:, None]
    return np.asarray((share * unreleased).sum(1), np.float64)
