"""Adoption of released items: how many arrivals pass until an item is first, or m times, consumed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Bools, Ints
from rimsim.errors import DataError
from rimsim.measures._checks import same_length

_ROUNDING = 1e-12
"""A share that is a half but for the rounding of its product counts as a half."""


@dataclass(frozen=True, eq=False)
class AdoptionTimes:
    """How long each of J released items took."""

    duration: Ints
    """(J,) arrivals from release to the m-th consumption, or to the end of the run if that never came."""
    observed: Bools
    """(J,) whether it came; false = censored: all that is known is that it takes longer."""


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


def adopted_share(times: AdoptionTimes) -> float | None:
    """Share of the released items whose adoption came; None without any."""
    return float(times.observed.mean()) if len(times.observed) else None


def adoption_median(times: AdoptionTimes) -> float | None:
    """Median arrivals to adoption by Kaplan-Meier (JASA 1958); None while fewer than half of the items are adopted.

    The estimate is SciPy's, of items censored at the end of the run: an item censored at the time of an
    adoption is still at risk then.
    """
    from scipy.stats import CensoredData, ecdf  # noqa: PLC0415 - keeps the measures at NumPy's import time

    durations = times.duration.astype(np.float64)
    censored = CensoredData(uncensored=durations[times.observed], right=durations[~times.observed])
    adopted = ecdf(censored).cdf
    reached = np.flatnonzero(adopted.probabilities >= 0.5 - _ROUNDING)
    return float(adopted.quantiles[reached[0]]) if len(reached) else None
