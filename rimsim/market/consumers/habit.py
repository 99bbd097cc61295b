"""Habit: repeated consumption as a part of a truth's p*."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rimsim.arrays import Floats
from rimsim.intensity.habits.next_sessions import NextSessions
from rimsim.intensity.habits.own_counts import LEAST, OwnDecay, dense_counts, fitted_decay
from rimsim.intensity.habits.repeat_share import RepeatLaw, event_counts, fitted_repeats
from rimsim.intensity.states import UserStates


@dataclass(frozen=True)
class Habit:
    """Law ``p* = ρ·own + (1 − ρ)·new`` of repeated consumption.

    ``own`` is the distribution of a user's decayed counts over the consumed items. ``new`` is the distribution of the
    truth without habits over all other items. ρ depends on the user's numbers of events and of distinct items.
    """

    repeats: RepeatLaw = field(default_factory=RepeatLaw)
    """Law of ρ."""
    decay: OwnDecay = field(default_factory=OwnDecay)
    """Half-life of the own counts."""

    def mixed(self, preference: Floats, states: UserStates) -> Floats:
        """(n, M) p* with habits, from positive preferences without habits.

        A user without history takes new items only, and a user who has consumed the whole catalogue takes own items
        only.
        """
        new = np.array(preference, np.float64)
        new[states.owner, states.items] = 0.0
        n_new = new.sum(1, keepdims=True)
        own_counts = dense_counts(states, new.shape[1], self.decay.half_life).astype(np.float64)
        total = own_counts.sum(1, keepdims=True)
        share = self.repeats.share(*event_counts(states))[:, None]
        share = np.where(n_new > 0, share, 1.0)
        return np.asarray(
            share * own_counts / np.maximum(total, LEAST) + (1.0 - share) * new / np.maximum(n_new, LEAST),
            np.float64,
        )


def fitted_habit(held: NextSessions) -> Habit:
    """Habit that makes repeats in held-out sessions likeliest."""
    return Habit(repeats=fitted_repeats(held), decay=fitted_decay(held))
