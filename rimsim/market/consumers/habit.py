"""Habit: repeated consumption as a part of a truth's p*."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rimsim.arrays import Float32s, Floats
from rimsim.intensity.habits.law import LogParts, OwnLaw, fitted_own_items
from rimsim.intensity.habits.next_sessions import NextSessions
from rimsim.intensity.habits.own_counts import LEAST, OwnDecay, dense_counts, fitted_decay
from rimsim.intensity.habits.repeat_share import RepeatLaw, event_counts, fitted_repeats
from rimsim.intensity.states import UserStates


@dataclass(frozen=True)
class Habit:
    """Law ``p* = ρ·own + (1 − ρ)·new`` of repeated consumption.

    ``own`` is a distribution over the consumed items, ``own ∝ count^k · p^f``: count is the user's decayed count of an
    item, and p its preference without habits. ``new`` is the distribution of the truth without habits over all other
    items. ρ depends on the user's numbers of events and of distinct items.
    """

    repeats: RepeatLaw = field(default_factory=RepeatLaw)
    """Law of ρ."""
    decay: OwnDecay = field(default_factory=OwnDecay)
    """Half-life of the own counts."""
    own_items: OwnLaw = field(default_factory=OwnLaw)
    """Exponents k and f of own items. The preference already has the trend, so its own exponent is unused."""

    def mixed(self, preference: Floats, states: UserStates) -> Floats:
        """(n, M) p* with habits, from positive preferences without habits.

        A user without history takes new items only, and a user who has consumed the whole catalogue takes own items
        only.
        """
        new = np.array(preference, np.float64)
        new[states.owner, states.items] = 0.0
        n_new = new.sum(1, keepdims=True)
        own_counts = dense_counts(states, new.shape[1], self.decay.half_life).astype(np.float64)
        own_weight = self._own_weights(own_counts, preference)
        total = own_weight.sum(1, keepdims=True)
        share = self.repeats.share(*event_counts(states))[:, None]
        share = np.where(n_new > 0, share, 1.0)
        return np.asarray(
            share * own_weight / np.maximum(total, LEAST) + (1.0 - share) * new / np.maximum(n_new, LEAST),
            np.float64,
        )

    def _own_weights(self, own_counts: Floats, preference: Floats) -> Floats:
        """(n, M) weights of own items, 0 for other items."""
        law = self.own_items
        if law.base == 0.0 and law.counts == 1.0:
            return own_counts
        weights = np.zeros(own_counts.shape)
        # The last bit of a power may depend on the length of the array, so each state has powers of its own.
        for row, counts in enumerate(own_counts):
            items = np.flatnonzero(counts)
            weights[row, items] = counts[items] ** law.counts * preference[row, items] ** law.base
        return weights


def fitted_habit(held: NextSessions, logits: Float32s) -> Habit:
    """Habit that makes repeats in held-out sessions likeliest.

    Args:
        held: Held-out sessions of the log.
        logits: (n, M) log p* at the held-out states, without habits, of a truth that is fitted to ``held.past``.
    """
    decay = fitted_decay(held)
    own_counts = dense_counts(held.states, held.past.n_items, decay.half_life)
    log_counts = np.log(np.maximum(own_counts, np.finfo(np.float32).tiny))
    parts = LogParts(new=logits, counts=log_counts, base=logits, lift=None)
    own_items = fitted_own_items(held, parts) if held.is_repeat.any() else OwnLaw()
    return Habit(repeats=fitted_repeats(held), decay=decay, own_items=own_items)
