"""Law of habits over a base model of p(y|x)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rimsim.arrays import Float32s, Floats
from rimsim.data.log import EventLog
from rimsim.intensity.habits.local_rate import RateFit, RateHistory, RateLaw, TakenItems, smoothed
from rimsim.intensity.habits.next_sessions import Gain, NextSessions
from rimsim.intensity.habits.own_counts import OwnDecay, dense_counts, fitted_decay
from rimsim.intensity.habits.repeat_share import RepeatLaw, event_counts, fitted_repeats
from rimsim.intensity.popularity import target_counts

_PSEUDO_EVENTS = 0.5
"""Number of events that are added to each item's usual popularity."""


def usual_popularity(log: EventLog) -> Floats:
    """(M,) shares of items among target events, all above 0."""
    counts = target_counts(log) + _PSEUDO_EVENTS
    return np.asarray(counts / counts.sum(), np.float64)


@dataclass(frozen=True)
class HabitLaw:
    """Law ``p(y|x,t) = ρ(x)·own + (1 − ρ(x))·new``.

    ``own`` is in proportion to the decayed count of the user's own events with y, times (rate/usual)^g. ``new`` is
    p(y|x)^c·rate^e/usual^d over the other items. A part that does not raise the likelihood of held-out next sessions
    by more than its standard error is left out. Without parts, the law is p(y|x) itself.
    """

    rate: RateLaw = field(default_factory=RateLaw)
    """Local rate of new items."""
    repeats: RepeatLaw | None = None
    """Share ρ of repeats; None: users' own items are like other items."""
    decay: OwnDecay = field(default_factory=OwnDecay)
    """Half-life of own counts."""
    own_rate: RateLaw = field(default_factory=RateLaw)
    """Local rate of users' own items; g is its exponent."""
    users: int = 0
    """Number of held-out users."""
    gain: float = 0.0
    """Gain in log-likelihood of a taken item over p(y|x) alone, in nats."""
    error: float = 0.0
    """Standard error of ``gain``."""

    @property
    def needs_rate(self) -> bool:
        """True if scores depend on local rates."""
        return self.rate.exponent > 0.0 or self.own_rate.exponent > 0.0

    def line(self) -> str:
        """Report for the console."""
        if not self.users:
            return "too few later sessions to choose on: no habits"
        texts = []
        rate = self.rate
        if rate.exponent:
            texts.append(f"rate^{rate.exponent:.2f} with a half-life of {_duration(rate.half_life)}")
        if self.repeats is not None:
            repeats = self.repeats
            texts.append(f"{repeats.predicted:.2f} repeats predicted, {repeats.observed:.2f} observed")
            texts.append(f"own counts with a half-life of {_duration(self.decay.half_life)}")
        parts = ", ".join(texts) or "no habits"
        return f"{parts}; {self.gain:+.3f} ± {self.error:.3f} nats an item over {self.users} next sessions"


def _duration(seconds: float) -> str:
    """Text of a half-life."""
    if not np.isfinite(seconds):
        return "∞"
    hours = seconds / 3600.0
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"


@dataclass(frozen=True, eq=False)
class HabitFit:
    """Fit of a law to held-out next sessions."""

    held: NextSessions
    """Next sessions of the log."""
    logits: Float32s
    """(n, M) log p(y|x) of the base model, fitted to the past, at the held-out states."""
    repeatable: bool
    """True if users may take an item again."""

    def law(self) -> HabitLaw:
        """Likeliest law of the parts with significant gains."""
        held = self.held
        popularity = usual_popularity(held.past)
        consumed = held.consumed()
        is_new = ~held.is_repeat
        counts_at = self._counts_at()
        new_items = TakenItems(self.logits, consumed, held.row[is_new], held.item[is_new])
        rate = RateFit(new_items, counts_at, popularity).law()
        law = HabitLaw(rate=rate, users=len(held), gain=rate.gain, error=rate.error)
        if not self.repeatable or not held.is_repeat.any():
            return law
        decay = fitted_decay(held)
        own_counts = dense_counts(held.states, held.past.n_items, decay.half_life)
        own_logits = np.log(np.maximum(own_counts, np.finfo(np.float32).tiny))
        own_items = TakenItems(own_logits, ~consumed, held.row[held.is_repeat], held.item[held.is_repeat])
        # The rate of own items has the half-life of the rate of new items, so that one history serves both.
        own_rate = RateLaw()
        if rate.exponent > 0.0:
            own_rate = _own_rate(own_items, counts_at(rate.half_life), popularity, rate)
        repeats = fitted_repeats(held)
        full_law = dataclasses.replace(law, repeats=repeats, decay=decay, own_rate=own_rate)
        counts = counts_at(rate.half_life) if full_law.needs_rate else None
        with_own = self._log_likelihood(full_law, own_counts, counts, popularity)
        without_own = self._base(law, counts, popularity)
        plain = self._base(HabitLaw(), None, popularity)
        if not Gain.of(held.row, with_own - without_own).significant:
            return law
        gain = Gain.of(held.row, with_own - plain)
        return dataclasses.replace(full_law, gain=gain.nats, error=gain.error)

    def _counts_at(self) -> Callable[[float], Floats]:
        """Function that returns decayed counts for a half-life."""
        past = self.held.past
        now = self.held.states.now
        return lambda half_life: RateHistory.of_log(past, half_life).before(now)

    def _base(self, law: HabitLaw, counts: Floats | None, popularity: Floats) -> Floats:
        """(t,) log p of taken items, without own counts."""
        logits = self.logits
        if law.rate.exponent > 0.0 and counts is not None:
            factor = law.rate.log_factor(counts, popularity).astype(np.float32)
            logits = np.float32(law.rate.base) * logits + factor
        allowed = np.zeros(logits.shape, bool)
        return TakenItems(logits, allowed, self.held.row, self.held.item).log_likelihood(logits)

    def _log_likelihood(
        self, law: HabitLaw, own_counts: Float32s, counts: Floats | None, popularity: Floats
    ) -> Floats:
        """(t,) log p of taken items, with own counts."""
        held = self.held
        consumed = own_counts > 0
        own_logits = np.log(np.maximum(own_counts, np.finfo(np.float32).tiny))
        new = self.logits
        if counts is not None:
            own_factor = law.own_rate.log_factor(counts, popularity)
            own_logits = own_logits + own_factor.astype(np.float32)
            new = np.float32(law.rate.base) * new + law.rate.log_factor(counts, popularity).astype(np.float32)
        repeats = law.repeats or RepeatLaw()
        share = repeats.share(*event_counts(held.states))[held.row]
        log_p = np.empty(len(held.row))
        for is_part, logits, excluded, weight in (
            (held.is_repeat, own_logits, ~consumed, share),
            (~held.is_repeat, new, consumed, 1.0 - share),
        ):
            taken = TakenItems(logits, excluded, held.row[is_part], held.item[is_part])
            log_weight = np.log(np.maximum(weight[is_part], 1e-12))
            log_p[is_part] = taken.log_likelihood(logits) + log_weight
        return log_p


def _own_rate(taken: TakenItems, counts: Floats, popularity: Floats, rate: RateLaw) -> RateLaw:
    """Law (rate/usual)^g of own items; g = 0 without a significant gain."""
    lift = np.log(smoothed(counts, popularity, rate.smoothing) / popularity).astype(np.float32)
    plain = taken.log_likelihood(taken.logits)
    # The weight of the own counts stays 1, so only g is fitted.
    exponent = float(taken.weights([lift], np.zeros(1), fixed=taken.logits)[0])
    log_p = taken.log_likelihood(taken.logits + np.float32(exponent) * lift)
    gain = Gain.of(taken.row, log_p - plain)
    if not (exponent > 0.0 and gain.significant):
        return RateLaw(log_likelihood=float(plain.mean()), items=len(plain))
    return dataclasses.replace(
        rate,
        exponent=exponent,
        usual=exponent,
        base=1.0,
        log_likelihood=float(log_p.mean()),
        gain=gain.nats,
        error=gain.error,
        items=len(plain),
    )
