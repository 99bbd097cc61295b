"""Agents without a model: ``own`` and ``recent``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from rimsim.agents.contract import OPTIONS
from rimsim.arrays import Floats, Ints
from rimsim.errors import AgentError
from rimsim.intensity.habits.local_rate import HALF_LIVES, SMOOTHING, RateHistory, smoothed
from rimsim.intensity.habits.own_counts import DAY, dense_counts
from rimsim.matching import top_k

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView, SlateLike

_LATE = 0.2
"""Share of the log's events, the latest ones, by which ``recent`` chooses its half-life."""
_INSTANTS = 256
"""Largest number of these events that are used."""


@checked(config=OPTIONS, eq=False)
class Own:
    """Ranks by the visitor's own decayed counts, then by popularity.

    The own count of an item is Σ_j 2^(−Δ_j/h) over the visitor's consumptions of the item, where Δ_j is the time from
    consumption j to the visitor's last consumption. In markets where nobody takes an item again, own items are not
    admissible, and the agent shows popular items.

    Args:
        half_life: h in days; None: all consumptions count alike.
    """

    name = "own"
    order_free = True
    barrier_every = None
    needs_history = True

    half_life: float | None = Field(default=None, gt=0)

    def begin_round(self, view: RoundView) -> None:
        """Read the popularity of items."""
        self._slate = view.k
        # At most a billionth of an event, so that popularity decides only between items of equal own counts.
        self._popularity = 1e-9 * view.popularity / max(int(view.popularity.sum()), 1)

    def act(self, arrivals: Arrivals) -> SlateLike:
        """The k items with the highest own counts.

        Raises:
            AgentError: If the arrivals lack histories.
        """
        if arrivals.history is None:
            raise AgentError(
                f"{self.name}: the arrivals have no histories. Make the market with Market(needs=Needs(history=True))"
            )
        half_life = np.inf if self.half_life is None else DAY * self.half_life
        counts = dense_counts(arrivals.history, len(self._popularity), half_life) + self._popularity
        return top_k(
            torch.from_numpy(counts).to(arrivals.admissible.device), arrivals.admissible, self._slate
        )


@checked(config=OPTIONS, eq=False)
class Recent:
    """Ranks by decayed popularity in the platform's log.

    The count of an item is Σ_j 2^(−Δ_j/h) over its events, where Δ_j is the time from event j to the beginning of the
    round. All counts decay alike, so the order of items is the same throughout the round.

    Args:
        half_life: h in days; None: the half-life by which the counts before each of the log's latest events give the
            event's item the highest likelihood.
    """

    name = "recent"
    order_free = True
    barrier_every = None
    needs_log = True

    half_life: float | None = Field(default=None, gt=0)

    def begin_round(self, view: RoundView) -> None:
        """Count the events of the platform's log.

        Raises:
            AgentError: If the market does not give the log.
        """
        if view.log is None:
            raise AgentError(
                f"{self.name}: the view of the round has no log. Make the market with Market(needs=Needs(log=True))"
            )
        order = np.argsort(view.log.time, kind="stable")
        item = view.log.item[order]
        time = view.log.time[order]
        n_items = len(view.popularity)
        half_life = (
            likeliest_half_life(item, time, n_items) if self.half_life is None else DAY * self.half_life
        )
        history = RateHistory.of(item, time, np.ones(len(item)), n_items, half_life)
        counts = history.before(np.array([view.opens]))
        self._slate = view.k
        self._counts = torch.from_numpy(counts.astype(np.float32))

    def act(self, arrivals: Arrivals) -> SlateLike:
        """The k items with the most recent events, per arrival."""
        counts = self._counts.to(arrivals.admissible.device).expand(len(arrivals), -1).contiguous()
        return top_k(counts, arrivals.admissible, self._slate)


def likeliest_half_life(item: Ints, time: Floats, n_items: int) -> float:
    """Half-life in seconds that gives late events the highest likelihood.

    Args:
        item: (n,) items of events, in ascending order of time.
        time: (n,) times of the events in seconds.
    """
    first_late = int((1 - _LATE) * len(item))
    if not first_late:  # no event comes before the late ones
        return np.inf
    late_events = np.unique(np.linspace(first_late, len(item) - 1, _INSTANTS).astype(np.int64))
    counts = np.bincount(item[:first_late], minlength=n_items) + SMOOTHING
    popularity = np.asarray(counts / counts.sum(), np.float64)

    def log_likelihood(half_life: float) -> float:
        history = RateHistory.of(item, time, np.ones(len(item)), n_items, half_life)
        shares = smoothed(history.before(time[late_events]), popularity, SMOOTHING)
        return float(np.log(shares[np.arange(len(late_events)), item[late_events]]).mean())

    return max(HALF_LIVES, key=log_likelihood)
