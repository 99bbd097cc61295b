"""Trend of a truth: the local rate of items.

Within the log, other users' events around an instant show the rate. No event is known after the end of the log. So the
last rates return to the usual ones, with a half-life that sessions after a cut in time show.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rimsim import rng
from rimsim.arrays import Float32s, Floats, Ints
from rimsim.data.log import EventLog
from rimsim.intensity.habits.local_rate import (
    HALF_LIVES,
    RateFit,
    RateHistory,
    RateLaw,
    TakenItems,
    TwoSidedRate,
)
from rimsim.intensity.habits.next_sessions import Gain, NextSessions

_SMOOTHING = 0.5
"""Number of events that are added to each item's count."""


@dataclass(frozen=True)
class Persistence:
    """Duration of last known rates after the log."""

    half_life: float = np.inf
    """Half-life of the difference between last and usual rates, in seconds; ∞: the last rates stay."""
    gain: float = 0.0
    """Gain in log-likelihood, in nats per item taken after a cut in time, over last rates that stay."""
    error: float = 0.0
    """Standard error of the gain."""


@dataclass(frozen=True, eq=False)
class Trend:
    """Change of p* to ``p*^c · rate_y(t)^e / usual_y^d``, up to a factor.

    Within the log, the rate at t is the share of y among the events around t, before and after it (:class:`RateLaw`).
    At the time a after the end of the log, the rate is ``usual_y + 2^(−a/h)·(last_y − usual_y)``. Here h is the
    half-life of :class:`Persistence`, and the last rate is that at the end.
    """

    law: RateLaw
    """Exponents, half-life and smoothing."""
    item: Ints
    """(n,) item of each target event of the log."""
    time: Floats
    """(n,) time of each of these events in seconds, ascending."""
    n_items: int
    """Size of the catalogue, M."""
    persistence: Persistence = Persistence()
    """Duration of the last rates after the end of the log."""

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
        """(1, M) rates at the end of the log."""
        return self.law.rates(self.rate.around(np.array([self.end])), self.popularity)

    @cached_property
    def _last_factors(self) -> Floats:
        """(1, M) factors of the last rates."""
        return _factors(self.law.log_factor(self._last, self.popularity))

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
        if np.isinf(self.persistence.half_life):
            factors[is_after] = self._last_factors
        else:
            age = now[is_after] - self.end
            rates = returning_rates(self._last, self.popularity, age, self.persistence.half_life)
            factors[is_after] = _factors(self.law.log_factor(rates, self.popularity))
        rates = self.law.rates(self.rate.around(now[~is_after]), self.popularity)
        factors[~is_after] = _factors(self.law.log_factor(rates, self.popularity))
        return factors

    def factors_without_last(self) -> Floats:
        """(1, M) factors at the end without the last half-life.

        The events of the last half-life of the log are unknown; all earlier ones count as they do at the end.
        """
        half_life = self.law.half_life
        counts = 0.5 * self.rate.earlier.before(np.array([self.end - half_life]))
        return _factors(self.law.log_factor(self.law.rates(counts, self.popularity), self.popularity))

    def timed_logits(self, held: NextSessions, logits: Float32s) -> Float32s:
        """(n, M) log p* with this trend at held-out states.

        Rates are those of the states' past.

        Args:
            logits: (n, M) log p* without a trend.
        """
        counts = TwoSidedRate.of_log(held.past, self.law.half_life).around(held.states.now)
        popularity = usual_shares(held.past.item[held.past.targets], self.n_items)
        rates = self.law.rates(counts, popularity)
        log_factor = self.law.log_factor(rates, popularity).astype(np.float32)
        return np.asarray(np.float32(self.law.base) * logits + log_factor, np.float32)

    @classmethod
    def of_log(cls, law: RateLaw, log: EventLog, persistence: Persistence = Persistence()) -> Trend:
        """Trend of a log's target events under a given law."""
        is_target = log.targets
        return cls(
            law=law,
            item=log.item[is_target],
            time=log.time[is_target],
            n_items=log.n_items,
            persistence=persistence,
        )


def _factors(log_factor: Floats) -> Floats:
    """Factors, at most 1 per row."""
    return np.asarray(np.exp(log_factor - log_factor.max(1, keepdims=True)), np.float64)


def returning_rates(last: Floats, usual: Floats, age: Floats, half_life: float) -> Floats:
    """(n, M) rates on their return to the usual ones.

    Args:
        last: (n, M) or (1, M) last known rates.
        usual: (M,) usual rates.
        age: (n,) times since the rates were known, in seconds.
        half_life: Half-life of the difference, in seconds.
    """
    left = np.exp2(-age / half_life)[:, None]
    return np.asarray(usual + left * (last - usual), np.float64)


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


def fitted_persistence(law: RateLaw, log: EventLog, later: NextSessions, logits: Float32s) -> Persistence:
    """Longest persistence that sessions after a cut do not refute.

    The last known rates of a session are those at a random instant between the cut and the session. So the fit does not
    depend on the phase of a promotion at the cut. A persistence is refuted if the likeliest one raises the likelihood
    of new items by more than its standard error.

    Args:
        log: The whole log.
        later: Sessions after one cut in time, the same for all users.
        logits: (n, M) log p* at the states of ``later``, of a truth without trend that is fitted to ``later.past``.
    """
    past = later.past
    now = later.states.now
    is_known = np.bincount(past.item, minlength=past.n_items) > 0
    # An item without events before the cut has no usual rate. An item that ended cannot be taken.
    is_offered = is_known & (now[:, None] < past.end)
    is_asked = ~later.is_repeat & is_offered[later.row, later.item]
    row = later.row[is_asked]
    taken = TakenItems(logits, later.consumed() | ~is_offered, row, later.item[is_asked])
    if not len(row):
        return Persistence()
    usual = usual_shares(past.item[past.targets], past.n_items)
    age = (now - past.time.max()) * rng.uniform(0, rng.Purpose.LATER_SESSIONS, 1, later.user)
    last = law.rates(RateHistory.of_log(log, law.half_life).before(now - age), usual)

    def log_p(half_life: float) -> Floats:
        """(t,) log p of the taken items."""
        rates = returning_rates(last, usual, age, half_life)
        log_factor = law.log_factor(rates, usual).astype(np.float32)
        return taken.log_likelihood(np.float32(law.base) * logits + log_factor)

    log_ps = {half_life: log_p(half_life) for half_life in reversed(HALF_LIVES)}
    likeliest = max(log_ps.values(), key=lambda values: float(values.mean()))
    half_life = next(
        half_life for half_life, values in log_ps.items() if not Gain.of(row, likeliest - values).significant
    )
    gain = Gain.of(row, log_ps[half_life] - log_ps[np.inf])
    return Persistence(half_life=half_life, gain=gain.nats, error=gain.error)
