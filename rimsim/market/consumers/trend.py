"""Trend of a truth: the local rate of items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rimsim.arrays import Float32s, Floats, Ints
from rimsim.data.log import EventLog
from rimsim.intensity.habits.local_rate import RateFit, RateHistory, RateLaw, TakenItems, TwoSidedRate
from rimsim.intensity.habits.next_sessions import NextSessions

_SMOOTHING = 0.5
"""Number of events that are added to each item's count."""


@dataclass(frozen=True, eq=False)
class Trend:
    """Change of p* to ``p*^c · rate_y(t)^e / usual_y^d``, up to a factor.

    The rate at t is the share of y among the events around t, before and after it (:class:`RateLaw`). No event is known
    after the end of the log. So the factor stays as it is at the end of the log.
    """

    law: RateLaw
    """Exponents, half-life and smoothing."""
    item: Ints
    """(n,) item of each target event of the log."""
    time: Floats
    """(n,) time of each of these events in seconds, ascending."""
    n_items: int
    """Size of the catalogue, M."""

    @cached_property
    def rate(self) -> TwoSidedRate:
        """Decayed counts of items around any instant."""
        weight = np.ones(len(self.item))
        backwards = slice(None, None, -1)
        later_item = self.item[backwards].copy()
        later_time = -self.time[backwards]
        half_life = self.law.half_life
        return TwoSidedRate(
            earlier=RateHistory.of(self.item, self.time, weight, self.n_items, half_life),
            later=RateHistory.of(later_item, later_time, weight, self.n_items, half_life),
        )

    @cached_property
    def popularity(self) -> Floats:
        """(M,) share of each item among all events."""
        return usual_shares(self.item, self.n_items)

    @property
    def end(self) -> float:
        """Instant just after the last event, in seconds."""
        return float(np.nextafter(self.time[-1], np.inf))

    @cached_property
    def _last(self) -> Floats:
        """(1, M) factors at the end of the log."""
        return self._factors(np.array([self.end]))

    def timed(self, preference: Floats, now: Floats) -> Floats:
        """(n, M) preferences at instants, up to a factor per row.

        Args:
            preference: (n, M) p* without the trend.
            now: (n,) instants in seconds.
        """
        return np.asarray(preference**self.law.base * self.factors(now), np.float64)

    def factors(self, now: Floats) -> Floats:
        """(n, M) ``rate^e / usual^d`` at instants, at most 1."""
        is_after = now >= self.end
        factors = np.empty((len(now), self.n_items))
        factors[is_after] = self._last
        factors[~is_after] = self._factors(now[~is_after])
        return factors

    def _factors(self, now: Floats) -> Floats:
        """Factors at instants up to the end of the log."""
        log_factor = self.law.log_factor(self.rate.around(now), self.popularity)
        return np.asarray(np.exp(log_factor - log_factor.max(1, keepdims=True)), np.float64)

    def timed_logits(self, held: NextSessions, logits: Float32s) -> Float32s:
        """(n, M) log p* with this trend at held-out states.

        Rates are those of the states' past.

        Args:
            logits: (n, M) log p* without a trend.
        """
        rates = TwoSidedRate.of_log(held.past, self.law.half_life).around(held.states.now)
        popularity = usual_shares(held.past.item[held.past.targets], self.n_items)
        log_factor = self.law.log_factor(rates, popularity).astype(np.float32)
        return np.asarray(np.float32(self.law.base) * logits + log_factor, np.float32)

    @classmethod
    def of_log(cls, law: RateLaw, log: EventLog) -> Trend:
        """Trend of a log's target events under a given law."""
        is_target = log.targets
        return cls(law=law, item=log.item[is_target], time=log.time[is_target], n_items=log.n_items)


def usual_shares(item: Ints, n_items: int) -> Floats:
    """(M,) smoothed share of each item among events."""
    counts = np.bincount(item, minlength=n_items) + _SMOOTHING
    return np.asarray(counts / counts.sum(), np.float64)


def fitted_trend(log: EventLog, held: NextSessions, logits: Float32s) -> Trend | None:
    """Trend of a log; None if held-out sessions show none.

    Args:
        held: Held-out sessions of the log.
        logits: (n, M) log p* at the held-out states, of a truth without trend that is fitted to ``held.past``.
    """
    is_new = ~held.is_repeat
    taken = TakenItems(logits=logits, excluded=held.consumed(), row=held.row[is_new], item=held.item[is_new])

    def counts_at(half_life: float) -> Floats:
        """Decayed counts at the held-out states."""
        return TwoSidedRate.of_log(held.past, half_life).around(held.states.now)

    popularity = usual_shares(held.past.item[held.past.targets], log.n_items)
    law = RateFit(taken, counts_at, popularity).law()
    return Trend.of_log(law, log) if law.exponent > 0 else None
