"""Law of habits over a base model of p(y|x)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rimsim.arrays import Float32s, Floats
from rimsim.data.log import EventLog
from rimsim.intensity.habits.local_rate import RateFit, RateHistory, RateLaw, TakenItems
from rimsim.intensity.habits.next_sessions import Gain, NextSessions
from rimsim.intensity.habits.own_counts import OwnDecay, dense_counts, fitted_decay
from rimsim.intensity.habits.repeat_share import RepeatLaw, event_counts, fitted_repeats
from rimsim.intensity.popularity import target_counts

_PSEUDO_EVENTS = 0.5
"""Number of events that are added to each item's count before the usual popularity is computed."""
_LEAST = 1e-12
"""Smallest share of repeats or of new items, so that its logarithm is finite."""


def usual_popularity(log: EventLog) -> Floats:
    """(M,) shares of items among target events, all above 0."""
    counts = target_counts(log) + _PSEUDO_EVENTS
    return np.asarray(counts / counts.sum(), np.float64)


@dataclass(frozen=True)
class OwnLaw:
    """Law ``own ∝ count^k · p(y|x)^f · (rate/usual)^g`` of users' own items."""

    counts: float = 1.0
    """k, the exponent of the decayed own count."""
    base: float = 0.0
    """f, the exponent of p(y|x)."""
    lift: float = 0.0
    """g, the exponent of the local rate divided by the usual popularity."""
    log_likelihood: float = 0.0
    """Mean log-likelihood, in nats, of items that held-out users took again, among their own items."""
    gain: float = 0.0
    """Gain of ``log_likelihood`` over decayed counts alone."""
    error: float = 0.0
    """Standard error of the gain."""
    items: int = 0
    """Number of items that held-out users took again."""


@dataclass(frozen=True)
class HabitLaw:
    """Law ``p(y|x,t) = ρ(x)·own + (1 − ρ(x))·new``.

    ``own`` is that of :class:`OwnLaw` over the user's own items. ``new`` is p(y|x)^c·rate^e/usual^d over the other
    items. A part is left out unless its gain in likelihood on held-out next sessions exceeds the standard error of the
    gain. Without parts, the law is p(y|x) itself.
    """

    rate: RateLaw = field(default_factory=RateLaw)
    """Local rate of new items."""
    repeats: RepeatLaw | None = None
    """Share ρ of repeats; None: users' own items are like other items."""
    decay: OwnDecay = field(default_factory=OwnDecay)
    """Half-life of own counts."""
    own_items: OwnLaw = field(default_factory=OwnLaw)
    """Exponents of users' own items."""
    users: int = 0
    """Number of held-out users."""
    gain: float = 0.0
    """Mean gain in log-likelihood per taken item, in nats, compared with p(y|x) alone."""
    error: float = 0.0
    """Standard error of ``gain``."""

    @property
    def needs_rate(self) -> bool:
        """True if scores depend on local rates."""
        return self.rate.exponent > 0.0

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
        counts_at = self._counts_at()
        is_new = ~held.is_repeat
        new_items = TakenItems(self.logits, held.consumed(), held.row[is_new], held.item[is_new])
        rate = RateFit(new_items, counts_at, popularity).law()
        law = HabitLaw(rate=rate, users=len(held), gain=rate.gain, error=rate.error)
        if not self.repeatable or not held.is_repeat.any():
            return law
        rate_counts = counts_at(rate.half_life) if law.needs_rate else None
        decay = fitted_decay(held)
        own_counts = dense_counts(held.states, held.past.n_items, decay.half_life)
        parts = LogParts.of(law, self.logits, own_counts, rate_counts, popularity)
        full_law = dataclasses.replace(
            law,
            repeats=fitted_repeats(held),
            decay=decay,
            own_items=fitted_own_items(held, parts),
        )
        log_p = self._log_likelihood(full_law, parts)
        # Without an own part, users' own items are like other items, so no item is excluded.
        is_excluded = np.zeros(self.logits.shape, bool)
        all_items = TakenItems(self.logits, is_excluded, held.row, held.item)
        if not Gain.of(held.row, log_p - all_items.log_likelihood(parts.new)).significant:
            return law
        gain = Gain.of(held.row, log_p - all_items.log_likelihood(self.logits))
        return dataclasses.replace(full_law, gain=gain.nats, error=gain.error)

    def _counts_at(self) -> Callable[[float], Floats]:
        """Function that returns decayed counts for a half-life."""
        past = self.held.past
        now = self.held.states.now
        return lambda half_life: RateHistory.of_log(past, half_life).before(now)

    def _log_likelihood(self, law: HabitLaw, parts: LogParts) -> Floats:
        """(t,) log p of taken items, with own counts."""
        held = self.held
        consumed = held.consumed()
        repeats = law.repeats or RepeatLaw()
        share = repeats.share(*event_counts(held.states))[held.row]
        log_p = np.empty(len(held.row))
        for is_part, logits, excluded, weight in (
            (held.is_repeat, parts.own_logits(law.own_items), ~consumed, share),
            (~held.is_repeat, parts.new, consumed, 1.0 - share),
        ):
            taken = TakenItems(logits, excluded, held.row[is_part], held.item[is_part])
            log_p[is_part] = taken.log_likelihood(logits) + np.log(np.maximum(weight[is_part], _LEAST))
        return log_p


@dataclass(frozen=True, eq=False)
class LogParts:
    """Logarithms of the factors of a law at n states."""

    new: Float32s
    """(n, M) logits of new items."""
    counts: Float32s
    """(n, M) log of decayed own counts; about −87, the log of the smallest float32, for unconsumed items."""
    base: Float32s
    """(n, M) log p(y|x) of the base model."""
    lift: Float32s | None
    """(n, M) log of the local rate divided by the usual popularity; None if the law has no local rate."""

    @classmethod
    def of(
        cls,
        law: HabitLaw,
        base: Float32s,
        own_counts: Float32s,
        rate_counts: Floats | None,
        popularity: Floats,
    ) -> LogParts:
        """Logarithms of a law's factors at states.

        ``rate_counts`` are decayed counts of all users' events; None if the law has no local rate.
        """
        log_counts = np.log(np.maximum(own_counts, np.finfo(np.float32).tiny))
        if rate_counts is None:
            return cls(new=base, counts=log_counts, base=base, lift=None)
        rate = law.rate.rates(rate_counts, popularity)
        log_factor = law.rate.log_factor(rate, popularity).astype(np.float32)
        lift = np.log(rate / popularity).astype(np.float32)
        return cls(new=np.float32(law.rate.base) * base + log_factor, counts=log_counts, base=base, lift=lift)

    def own_logits(self, law: OwnLaw) -> Float32s:
        """(n, M) logits of users' own items."""
        logits = np.float32(law.counts) * self.counts + np.float32(law.base) * self.base
        return np.asarray(
            logits if self.lift is None else logits + np.float32(law.lift) * self.lift, np.float32
        )


def fitted_own_items(held: NextSessions, parts: LogParts) -> OwnLaw:
    """Exponents of own items; (1, 0, 0) without a significant gain."""
    row = held.row[held.is_repeat]
    taken = TakenItems(parts.counts, ~held.consumed(), row, held.item[held.is_repeat])
    log_p_by_counts = taken.log_likelihood(parts.counts)
    factors = [parts.counts, parts.base, *(() if parts.lift is None else (parts.lift,))]
    weights = taken.weights(factors, np.array([1.0, *[0.0] * (len(factors) - 1)])).tolist()
    law = OwnLaw(counts=weights[0], base=weights[1], lift=0.0 if parts.lift is None else weights[2])
    log_p = taken.log_likelihood(parts.own_logits(law))
    gain = Gain.of(row, log_p - log_p_by_counts)
    if not gain.significant:
        return OwnLaw(log_likelihood=float(log_p_by_counts.mean()), items=len(row))
    return dataclasses.replace(
        law, log_likelihood=float(log_p.mean()), gain=gain.nats, error=gain.error, items=len(row)
    )
