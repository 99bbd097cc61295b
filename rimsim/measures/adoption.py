"""Adoption of released items: how many arrivals pass until an item is first, or m times, consumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.errors import DataError
from rimsim.measures._checks import as_counts, same_length

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["AdoptionTimes", "SurvivalCurve", "adoption_median", "adoption_times", "kaplan_meier"]


@dataclass(frozen=True, eq=False)
class AdoptionTimes:
    """How long each of J released items took."""

    duration: NDArray[np.int64]
    """(J,) arrivals from release to the m-th consumption, or to the end of the run if that never came."""
    observed: NDArray[np.bool_]
    """(J,) whether it came; false = censored: all that is known is that it takes longer."""


@dataclass(frozen=True, eq=False)
class SurvivalCurve:
    """A Kaplan-Meier curve at its T distinct event times; before the first, nothing has been adopted."""

    time: NDArray[np.float64]
    """(T,) ascending durations at which at least one item was adopted, in arrivals since release."""
    survival: NDArray[np.float64]
    """(T,) estimated share of items not yet adopted just after each time."""
    at_risk: NDArray[np.int64]
    """(T,) items not yet adopted and still observed just before each time."""
    events: NDArray[np.int64]
    """(T,) items adopted at each time."""
    standard_error: NDArray[np.float64]
    """(T,) of ``survival``, by Greenwood's formula."""

    @property
    def adopted(self) -> NDArray[np.float64]:
        """(T,) estimated share of items adopted by each time, 1 − survival."""
        return 1 - self.survival

    def quantile(self, share: float) -> float | None:
        """Arrivals until ``share`` of the items are adopted; None if the run is too short to say."""
        reached = np.flatnonzero(self.adopted >= share - 1e-12)
        return float(self.time[reached[0]]) if len(reached) else None


def adoption_times(
    release: ArrayLike, item: ArrayLike, arrival: ArrayLike, arrivals: int, m: int = 1
) -> AdoptionTimes:
    """Arrivals from the release of an item to its m-th consumption.

    Args:
        release: (J,) number of arrivals before each item's release; items are 0…J−1 here.
        item: (c,) consumed items, 0…J−1, in any order.
        arrival: (c,) number of the arrival that consumed, counted over the whole run from 0.
        arrivals: Arrivals of the whole run; what is not adopted by then is censored.
        m: Which consumption counts as adoption.

    Returns:
        Durations of at least 1 (adopted by the first arrival after release) where observed.

    Raises:
        DataError: If an item is consumed before its release or a release lies after the end.
    """
    start = np.asarray(release, np.int64)
    who, when = np.asarray(item, np.int64), np.asarray(arrival, np.int64)
    same_length(who, when, "item and arrival")
    if (late := start > arrivals).any():
        raise DataError(f"release: {start[late][0]}; allowed: at most the {arrivals} arrivals of the run")
    if (early := when < start[who]).any():
        raise DataError(f"item {who[early][0]} is consumed by arrival {when[early][0]}, before its release")
    order = np.lexsort((when, who))
    who, when = who[order], when[order]
    first = np.searchsorted(who, np.arange(len(start)))
    rank = np.arange(len(who)) - first[who]
    decisive = rank == m - 1
    duration = arrivals - start
    observed = np.zeros(len(start), np.bool_)
    observed[who[decisive]] = True
    duration[who[decisive]] = when[decisive] + 1 - start[who[decisive]]
    return AdoptionTimes(duration, observed)


def kaplan_meier(duration: ArrayLike, observed: ArrayLike) -> SurvivalCurve:
    """Product-limit estimate Ŝ(t) = Π_{t_i ≤ t} (1 − d_i/n_i) under censoring (Kaplan and Meier, JASA 1958).

    Items censored at the time of an event are still at risk at that time. Greenwood's variance is
    Ŝ²·Σ d_i / (n_i (n_i − d_i)).

    Args:
        duration: (J,) times to adoption or to censoring.
        observed: (J,) bool, false = censored.
    """
    times, seen = as_counts(duration, "duration"), np.asarray(observed, np.bool_)
    same_length(times, seen, "duration and observed")
    moments, events = np.unique(times[seen], return_counts=True)
    at_risk = len(times) - np.searchsorted(np.sort(times), moments, "left")
    survival = np.cumprod(1 - events / at_risk, dtype=np.float64)
    left = at_risk - events
    hazard = np.divide(events, at_risk * left, out=np.zeros(len(moments)), where=left > 0)
    return SurvivalCurve(
        moments,
        survival,
        at_risk.astype(np.int64),
        events.astype(np.int64),
        survival * np.sqrt(np.cumsum(hazard)),
    )


def adoption_median(times: AdoptionTimes) -> float | None:
    """Median arrivals to adoption by Kaplan-Meier; None while fewer than half of the items are adopted."""
    return kaplan_meier(times.duration, times.observed).quantile(0.5)
