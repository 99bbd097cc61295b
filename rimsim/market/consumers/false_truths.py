"""Truths with wrong tastes, which a fit truth must surpass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.data import EventLog
from rimsim.intensity.states import UserStates
from rimsim.market.consumers.truths import Truth

FALSE = {
    "false_popularity": "popularity alone",
    "false_other_user": "tastes of other users",
    "false_opposite": "opposite tastes",
}
"""Metric of each false truth's agreement, and its name in sentences."""


@dataclass(frozen=True, eq=False)
class FalseTruth:
    """Truth with wrong tastes and right session sizes."""

    truth: Truth
    popularity: Floats
    """(M,) share of each item among the log's events."""
    wrong: str
    """Key of ``FALSE`` that names the false truth."""

    def expected(self, users: Ints, states: UserStates) -> Floats:
        """(n,) λ*(x) of the truth."""
        return self.truth.expected(users, states)

    def preference(self, users: Ints, states: UserStates) -> Floats:
        """(n, M) wrong preferences p*, up to one factor per state."""
        if self.wrong == "false_popularity":
            return np.broadcast_to(self.popularity, (len(users), len(self.popularity)))
        if self.wrong == "false_other_user":
            return self._of_others(users, states)
        preference = self.truth.preference(users, states)
        # The opposite of a taste, log p* − log popularity, is added to log popularity.
        return self.popularity**2 / np.maximum(preference, 1e-12)

    def _of_others(self, users: Ints, states: UserStates) -> Floats:
        """Preferences of the user in the row before."""
        if self.truth.trend is None:
            return np.roll(self.truth.preference(users, states), 1, axis=0)
        # The trend stays the trend of the user's own instant.
        others = np.roll(np.arange(len(users)), 1)
        return self.truth.preference(users[others], replace(states.take(others), now=states.now))


def false_truths(truths: Mapping[str, Truth], log: EventLog) -> dict[str, FalseTruth]:
    """Deliberately wrong truths, with which real ones are compared."""
    events = np.bincount(log.item, minlength=log.n_items) + 0.5
    popularity = np.asarray(events / events.sum(), np.float64)
    return {
        bar_name(name, wrong): FalseTruth(truth, popularity, wrong)
        for name, truth in truths.items()
        for wrong in FALSE
    }


def bar_name(truth: str, bar: str) -> str:
    """Name of a truth's bar in a chart of evidence."""
    return f"{truth}: {bar}"
