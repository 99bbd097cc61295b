"""Local rate of items: their events around an instant, decayed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.data.log import EventLog
from rimsim.intensity.habits.next_sessions import Gain

HOUR = 3600.0
"""Seconds of an hour."""
HALF_LIVES = (*(HOUR * hours for hours in (1, 3, 6, 12, 24, 72, 168, 336, 672, 1344, 2688, 5376)), np.inf)
"""Half-lives of local rates to choose from, in seconds."""
SMOOTHING = 0.1
"""Number of events per item that are added to decayed counts, spread like the popularity in the whole log."""
SMOOTHINGS = (0.001, 0.01, 0.1, 1.0)
"""Smoothings to choose from."""
_NEWTON_STEPS = 20
"""Largest number of Newton steps for the weights."""
_SHORTEST = 1e-3
"""Shortest length of a Newton step, as a share of the full step."""
_FLAT = 1e-4
"""Spread of logits, in nats, below which items differ only by rounding errors."""
_SNAPSHOTS = 256
"""Largest number of instants at which the counts of all items are stored."""
_CELLS = 1 << 22
"""Largest number of stored counts, instants times items."""


@dataclass(frozen=True, eq=False)
class RateHistory:
    """Decayed counts of items' events, at any instant.

    Counts of all items are stored at some instants. The counts at another instant are those of the latest stored
    instant, decayed, plus the events since. So the time for an instant does not depend on the length of the log.
    """

    half_life: float
    """Half-life in seconds; ∞: all events count alike."""
    item: Ints
    """(n,) item of each event."""
    time: Floats
    """(n,) time of each event, seconds, ascending."""
    weight: Floats
    """(n,) weight of each event."""
    first: Ints
    """(s,) number of events before each stored instant, which is the time of the event with this number."""
    stored: Floats
    """(s, M) counts of all items at the stored instants."""

    @classmethod
    def of(cls, item: Ints, time: Floats, weight: Floats, n_items: int, half_life: float) -> RateHistory:
        """History of events in ascending order of time."""
        n_stored = max(min(_SNAPSHOTS, _CELLS // max(n_items, 1)), 1)
        step = max(-(-len(item) // n_stored), 1)
        first = np.arange(0, max(len(item), 1), step)
        stored = np.zeros((len(first), n_items))
        _store(item, time, weight, half_life, first, stored)
        return cls(half_life=half_life, item=item, time=time, weight=weight, first=first, stored=stored)

    @classmethod
    def of_log(cls, log: EventLog, half_life: float) -> RateHistory:
        """History of the target events of a log."""
        is_target = log.targets
        columns = (log.item[is_target], log.time[is_target], log.weights[is_target])
        return cls.of(columns[0], columns[1], columns[2], log.n_items, half_life)

    def before(self, now: Floats) -> Floats:
        """(n, M) counts ``Σ_j 2^(−(now − t_j)/half_life)`` of events before ``now``."""
        counts = np.zeros((len(now), self.stored.shape[1]))
        _recall(self.item, self.time, self.weight, self.half_life, self.first, self.stored,
            np.asarray(now, np.float64), counts)  # fmt: skip
        return counts


@dataclass(frozen=True, eq=False)
class TwoSidedRate:
    """Decayed counts of events before and after an instant."""

    earlier: RateHistory
    """History of the log."""
    later: RateHistory
    """History of the log with reversed time."""

    @classmethod
    def of_log(cls, log: EventLog, half_life: float) -> TwoSidedRate:
        """Rates from the target events of a log."""
        is_target = log.targets
        item = log.item[is_target][::-1].copy()
        time = -log.time[is_target][::-1]
        weight = log.weights[is_target][::-1].copy()
        later = RateHistory.of(item, time, weight, log.n_items, half_life)
        return cls(earlier=RateHistory.of_log(log, half_life), later=later)

    def around(self, now: Floats) -> Floats:
        """(n, M) counts ``Σ_j 2^(−|now − t_j|/half_life)``, without events at ``now``."""
        return self.earlier.before(now) + self.later.before(-np.asarray(now, np.float64))


@compiled
def _store(item: Ints, time: Floats, weight: Floats, half_life: float, first: Ints, stored: Floats) -> None:
    """Fill in the counts of all items at stored instants."""
    for number in range(1, len(first)):
        begin = first[number - 1]
        stop = first[number]
        instant = time[stop]
        share = np.exp2(-(instant - time[begin]) / half_life)
        for column in range(stored.shape[1]):
            stored[number, column] = stored[number - 1, column] * share
        for event in range(begin, stop):
            stored[number, item[event]] += weight[event] * np.exp2(-(instant - time[event]) / half_life)


@compiled
def _recall(item: Ints, time: Floats, weight: Floats, half_life: float, first: Ints, stored: Floats,
    now: Floats, counts: Floats) -> None:  # fmt: skip
    """Fill in the counts of all items before each instant."""
    for row in range(len(now)):
        n_before = np.searchsorted(time, now[row])
        # The latest stored instant before ``now``. A later one will not do, because counts cannot be decayed backwards.
        number = max(np.searchsorted(first, n_before) - 1, 0)
        begin = first[number]
        if len(time):
            instant = time[min(begin, len(time) - 1)]
            share = np.exp2(-(now[row] - instant) / half_life) if number else 0.0
            for column in range(counts.shape[1]):
                counts[row, column] = stored[number, column] * share
        for event in range(begin, n_before):
            counts[row, item[event]] += weight[event] * np.exp2(-(now[row] - time[event]) / half_life)


def smoothed(counts: Floats, popularity: Floats, smoothing: float) -> Floats:
    """(n, M) shares of decayed counts plus ``smoothing·M`` events.

    The added events are spread like ``popularity`` (M,), which sums to 1. So the shares turn into popularity where
    there was no event for a long time.
    """
    added = smoothing * len(popularity)
    total = counts.sum(1, keepdims=True) + added
    return np.asarray((counts + added * popularity) / total, np.float64)


@dataclass(frozen=True)
class RateLaw:
    """Law ``p(y|x,t) ∝ p(y|x)^c · rate_y(t)^e / usual_y^d`` of the local rate.

    The rate is the share of :func:`smoothed`, and ``usual`` is the popularity in the whole log. Most models of p(y|x)
    contain popularity. So d takes out as much of it as the rate replaces.
    """

    exponent: float = 0.0
    """e, the exponent of the local rate; 0: the rate is not used, and then c = 1 and d = 0."""
    usual: float = 0.0
    """d, the exponent of the usual popularity."""
    base: float = 1.0
    """c, the exponent of p(y|x)."""
    half_life: float = np.inf
    """Half-life of decayed counts, in seconds."""
    smoothing: float = SMOOTHING
    """Number of added events per item."""
    log_likelihood: float = 0.0
    """Mean log-likelihood, in nats, of items that held-out users took in their next session."""
    gain: float = 0.0
    """Gain of ``log_likelihood`` over p(y|x) alone."""
    error: float = 0.0
    """Standard error of the gain."""
    items: int = 0
    """Number of taken items over which ``log_likelihood`` is the mean."""

    def rates(self, counts: Floats, popularity: Floats) -> Floats:
        """(n, M) local rates, from decayed counts (n, M)."""
        return smoothed(counts, popularity, self.smoothing)

    def log_factor(self, rates: Floats, popularity: Floats) -> Floats:
        """(n, M) log of rate^e / usual^d, from local rates (n, M)."""
        return np.asarray(self.exponent * np.log(rates) - self.usual * np.log(popularity), np.float64)


@dataclass(frozen=True, eq=False)
class TakenItems:
    """Logits of states, and the items that users took."""

    logits: Float32s
    """(n, M) log p(y|x), up to a constant per row."""
    excluded: Bools
    """(n, M) True for items that could not be taken."""
    row: Ints
    """(t,) state of each taken item."""
    item: Ints
    """(t,) taken items."""

    def log_likelihood(self, logits: Float32s) -> Floats:
        """(t,) log p of taken items, for given logits (n, M)."""
        _, norm, top = self._exponentials(logits)
        log_norm = top + np.log(norm)
        return np.asarray(logits[self.row, self.item].astype(np.float64) - log_norm[self.row], np.float64)

    def _exponentials(self, logits: Float32s) -> tuple[Float32s, Floats, Floats]:
        """(n, M) exp(logits − largest logit), their sums, largest logits."""
        masked = np.where(self.excluded, np.float32(-np.inf), logits)
        # A state without items that could be taken has no largest logit, and no taken item either.
        top = np.maximum(masked.max(1, keepdims=True), np.float32(-1e30))
        exps = np.exp(masked - top)
        norm = np.maximum(exps.sum(1, dtype=np.float64), 1e-300)
        return exps, norm, top[:, 0].astype(np.float64)

    def weights(self, parts: Sequence[Float32s], start: Floats, fixed: Float32s | None = None) -> Floats:
        """Weights of logits (n, M) or (M,) that make taken items likeliest.

        The likelihood is concave in the weights, so Newton steps find its maximum. ``fixed`` are logits (n, M) that are
        added with weight 1.
        """
        n_taken = np.bincount(self.row, minlength=len(self.logits)).astype(np.float64)
        wide_parts = [np.broadcast_to(part, self.logits.shape) for part in parts]
        observed = np.array([part[self.row, self.item].sum(dtype=np.float64) for part in wide_parts])
        observed_fixed = 0.0 if fixed is None else float(fixed[self.row, self.item].sum(dtype=np.float64))

        def loss(weights: Floats) -> tuple[float, Floats, Floats]:
            """Negative log-likelihood, gradient and Hessian."""
            logits = _weighted(weights, parts)
            if fixed is not None:
                logits = logits + fixed
            exps, norm, top = self._exponentials(logits)
            exps *= (n_taken / norm).astype(np.float32)[:, None]
            products = [exps * part for part in wide_parts]
            sums = np.stack([product.sum(1, dtype=np.float64) for product in products])
            hessian = np.array(
                [[np.vdot(product, part).astype(np.float64) for part in wide_parts] for product in products]
            )
            hessian -= (sums / np.maximum(n_taken, 1.0)) @ sums.T
            value = n_taken @ (top + np.log(norm)) - weights @ observed - observed_fixed
            return float(value), sums.sum(1) - observed, hessian

        return _minimum(loss, start, tolerance=1e-5 * max(float(n_taken.sum()), 1.0))


def _weighted(weights: Floats, parts: Sequence[Float32s]) -> Float32s:
    """Weighted sum of logits (n, M) or (M,)."""
    total = np.float32(weights[0]) * parts[0]
    for weight, part in zip(weights[1:].tolist(), parts[1:], strict=True):
        total = total + np.float32(weight) * part
    return np.asarray(total, np.float32)


def _minimum(
    loss: Callable[[Floats], tuple[float, Floats, Floats]], start: Floats, tolerance: float
) -> Floats:
    """Minimum of a convex loss by damped Newton steps.

    The steps end when one of them lowers the loss by less than ``tolerance``.
    """
    weights = start
    value, gradient, hessian = loss(weights)
    for _ in range(_NEWTON_STEPS):
        ridge = (1e-6 * np.trace(hessian) + 1e-9) * np.eye(len(weights))
        direction = -np.linalg.solve(hessian + ridge, gradient)
        length = 1.0
        candidate = loss(weights + direction)
        while candidate[0] > value and length > _SHORTEST:  # the full step overshoots
            length *= 0.5
            candidate = loss(weights + length * direction)
        improvement = value - candidate[0]
        if improvement <= 0.0:
            break
        weights = weights + length * direction
        value, gradient, hessian = candidate
        if improvement < tolerance:
            break
    return weights


@dataclass(frozen=True, eq=False)
class RateFit:
    """Search for the likeliest law of the local rate."""

    taken: TakenItems
    """Taken items, with the logits of the base model."""
    counts_at: Callable[[float], Floats]
    """Function of a half-life that returns the (n, M) decayed counts of items' events at each state of ``taken``."""
    popularity: Floats
    """(M,) usual shares of items, which sum to 1."""
    half_lives: tuple[float, ...] = HALF_LIVES
    """Half-lives to choose from, ascending."""

    def law(self) -> RateLaw:
        """Likeliest law; e = 0 without a significant gain."""
        base_log_p = self.taken.log_likelihood(self.taken.logits)
        if not len(base_log_p):
            return RateLaw()
        law, log_p = max(self._candidates(), key=lambda candidate: candidate[0].log_likelihood)
        gain = Gain.of(self.taken.row, log_p - base_log_p)
        if not (law.exponent > 0.0 and gain.significant):
            return RateLaw(log_likelihood=float(base_log_p.mean()), items=len(base_log_p))
        return dataclasses.replace(law, gain=gain.nats, error=gain.error, items=len(base_log_p))

    def _candidates(self) -> list[tuple[RateLaw, Floats]]:
        """Likeliest laws of several half-lives and smoothings."""
        # The likelihood has one maximum over half-lives in all logs that were tried. So every second half-life is
        # tried first, and then the neighbours of the best of these.
        coarse_laws = [self._at(half_life, SMOOTHING) for half_life in self.half_lives[::2]]
        best = int(np.argmax([law.log_likelihood for law, _ in coarse_laws]))
        neighbours = [place for place in (2 * best - 1, 2 * best + 1) if 0 <= place < len(self.half_lives)]
        laws = coarse_laws + [self._at(self.half_lives[place], SMOOTHING) for place in neighbours]
        half_life = max(laws, key=lambda candidate: candidate[0].log_likelihood)[0].half_life
        return laws + [self._at(half_life, smoothing) for smoothing in SMOOTHINGS if smoothing != SMOOTHING]

    def _at(self, half_life: float, smoothing: float) -> tuple[RateLaw, Floats]:
        """Likeliest law of a half-life; log p of taken items."""
        rate = smoothed(self.counts_at(half_life), self.popularity, smoothing)
        parts = [np.log(rate).astype(np.float32), -np.log(self.popularity).astype(np.float32)]
        start = np.array([0.0, 0.0])
        # If the base model gives all items the same score, its exponent c changes nothing.
        if self.taken.logits.std() > _FLAT:
            parts.append(self.taken.logits)
            start = np.array([0.0, 0.0, 1.0])
        weights = self.taken.weights(parts, start)
        # A negative c would mean that users avoid the items that the base model prefers. This is chance, so c is 0.
        if weights[2:].min(initial=0.0) < 0.0:
            weights = np.append(self.taken.weights(parts[:2], start[:2]), 0.0)
        log_p = self.taken.log_likelihood(_weighted(weights, parts))
        exponent, usual, *others = weights.tolist()
        base = others[0] if others else 1.0
        law = RateLaw(exponent, usual, base, half_life, smoothing, float(log_p.mean()))
        return law, log_p
