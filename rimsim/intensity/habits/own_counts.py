"""Decayed counts of a user's own consumptions, by item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from rimsim.arrays import Array, Float32s, Floats, Ints
from rimsim.intensity.habits.next_sessions import Gain, NextSessions
from rimsim.intensity.states import UserStates

DAY = 86_400.0
"""Seconds of a day."""
HALF_LIVES = (*(DAY * days for days in (1, 3, 7, 14, 28, 56, 112, 224)), np.inf)
"""Half-lives of own counts to choose from, in seconds."""
USUAL = np.inf
"""Half-life without held-out sessions: all own events count alike."""
LEAST = 1e-30
"""Smallest weight of a consumed item, so that a long pause does not turn it into an unconsumed item."""


def share_after(age: Array, half_life: float) -> Floats:
    """Shares ``2^(−age/half_life)`` that remain of events."""
    return np.asarray(np.exp2(-np.maximum(age, 0.0) / half_life), np.float64)


def event_weights(states: UserStates, half_life: float) -> Floats:
    """(total,) share that remains of each event in its state.

    The age of an event is the time to the state's last event. The ratio of two own counts does not change between
    events, so the instant of the state is not needed.
    """
    last_time = states.times[np.maximum(states.offsets[1:] - 1, 0)] if len(states.times) else states.now
    return np.maximum(share_after(last_time[states.owner] - states.times, half_life), LEAST)


def own_counts(states: UserStates, n_items: int, half_life: float) -> scipy.sparse.csr_matrix:
    """(n, M) sparse matrix of decayed counts ``Σ_j 2^(−Δ_j/half_life)``.

    Δ_j is the time from event j to the last event of the state. An item has one entry in a row.
    """
    weights = event_weights(states, half_life)
    shape = (len(states), n_items)
    counts = scipy.sparse.csr_matrix((weights, states.items, states.offsets), shape=shape)
    counts.sum_duplicates()
    return counts


def dense_counts(states: UserStates, n_items: int, half_life: float) -> Float32s:
    """(n, M) decayed counts, 0 for unconsumed items."""
    # The sparse matrix is rounded, because a dense matrix of float64 takes twice the memory of the result.
    return np.asarray(own_counts(states, n_items, half_life).astype(np.float32).toarray(), np.float32)


def own_shares_at(counts: scipy.sparse.csr_matrix, row: Ints, item: Ints) -> Floats:
    """(t,) share of items among own counts of their states."""
    total = np.asarray(counts.sum(1), np.float64).ravel()
    if not len(row):
        return np.zeros(0)
    return np.asarray(counts[row, item], np.float64).ravel() / np.maximum(total[row], LEAST)


@dataclass(frozen=True)
class OwnDecay:
    """Half-life of own counts, and the evidence for it."""

    half_life: float = USUAL
    """Half-life in seconds; ∞: all events count alike."""
    log_likelihood: float = 0.0
    """Mean log share, in nats, of items that held-out users took again, among their own items."""
    gain: float = 0.0
    """Gain of ``log_likelihood`` over plain counts."""
    error: float = 0.0
    """Standard error of the gain."""
    repeats: int = 0
    """Number of items that held-out users took again."""


def fitted_decay(held: NextSessions, half_lives: tuple[float, ...] = HALF_LIVES) -> OwnDecay:
    """Half-life that makes repeated items of next sessions likeliest.

    The likelihood is of the item, given that the user takes one of its own items again.
    """
    row = held.row[held.is_repeat]
    item = held.item[held.is_repeat]
    if not len(row):
        return OwnDecay()
    n_items = held.past.n_items
    logs = {
        half_life: np.log(own_shares_at(own_counts(held.states, n_items, half_life), row, item))
        for half_life in half_lives
    }
    best = max(half_lives, key=lambda half_life: float(logs[half_life].mean()))
    plain_log_shares = np.log(own_shares_at(own_counts(held.states, n_items, np.inf), row, item))
    gain = Gain.of(row, logs[best] - plain_log_shares)
    return OwnDecay(
        half_life=best,
        log_likelihood=float(logs[best].mean()),
        gain=gain.nats,
        error=gain.error,
        repeats=len(row),
    )
