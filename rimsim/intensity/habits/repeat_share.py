"""Share of repeats among a user's next items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from rimsim.arrays import Array, Floats, Ints
from rimsim.intensity.habits.next_sessions import NextSessions
from rimsim.intensity.states import UserStates

_SAFE = 1e-6
"""Distance of fitted shares from 0 and 1, so that no single item decides a fit."""
_STRENGTHS = (-6.0, 12.0)
"""Bounds of log(strength + discount)."""


@dataclass(frozen=True)
class RepeatLaw:
    """Share of repeats ``ρ = (n − discount·K)/(n + strength)``.

    n is the number of a user's events, K the number of its distinct items. This is the law of Pitman and Yor (1997).
    With r = n − K repeats so far, ρ = ((1 − discount)·n + discount·r)/(n + strength). So ρ grows with the length of the
    history, because each user's first events are new. The posterior mean of a beta distribution does not grow so.
    """

    discount: float = 0.5
    """Part of each distinct item that does not count, at least 0 and below 1."""
    strength: float = 1.0
    """Number of imagined new events that are added to each history, above −discount."""
    log_likelihood: float = 0.0
    """Mean log-likelihood, in nats, of the kind (repeat or new) of each item of held-out next sessions."""
    observed: float = 0.0
    """Share of repeats among these items."""
    predicted: float = 0.0
    """Mean ρ over these items."""

    def share(self, events: Array, distinct: Array) -> Floats:
        """Shares ρ by numbers of events and distinct items."""
        share = (events - self.discount * distinct) / np.maximum(events + self.strength, _SAFE)
        return np.where(events > 0, np.clip(share, 0.0, 1.0), 0.0)


def event_counts(states: UserStates) -> tuple[Ints, Ints]:
    """(n,) numbers of events and of distinct items of each state."""
    n_items = int(states.items.max(initial=0)) + 1
    pair = np.unique(states.owner * n_items + states.items)
    return states.lengths, np.bincount(pair // n_items, minlength=len(states))


def fitted_repeats(held: NextSessions) -> RepeatLaw:
    """Law that makes repeats in next sessions likeliest."""
    events, distinct = event_counts(held.states)
    events_at = events[held.row].astype(np.float64)
    distinct_at = distinct[held.row].astype(np.float64)

    def law_of(x: Floats) -> RepeatLaw:
        """Law at unbounded coordinates."""
        discount = float(scipy.special.expit(x[0]))
        return RepeatLaw(discount=discount, strength=float(np.exp(x[1])) - discount)

    def loss(x: Floats) -> float:
        """Mean negative log-likelihood."""
        return -_log_likelihood(law_of(x).share(events_at, distinct_at), held)

    starts = [np.array([discount, 1.0]) for discount in (-1.0, 1.0)]
    bounds = [(-12.0, 12.0), _STRENGTHS]
    optima = [scipy.optimize.minimize(loss, start, method="L-BFGS-B", bounds=bounds) for start in starts]
    law = law_of(min(optima, key=lambda optimum: float(optimum.fun)).x)
    share = law.share(events_at, distinct_at)
    return RepeatLaw(
        discount=law.discount,
        strength=law.strength,
        log_likelihood=_log_likelihood(share, held),
        observed=float(held.is_repeat.mean()),
        predicted=float(share.mean()),
    )


def _log_likelihood(share: Floats, held: NextSessions) -> float:
    """Mean log-likelihood of the kinds of taken items."""
    safe = np.clip(share, _SAFE, 1.0 - _SAFE)
    return float(np.where(held.is_repeat, np.log(safe), np.log1p(-safe)).mean())
