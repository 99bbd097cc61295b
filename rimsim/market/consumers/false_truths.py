"""Truths with wrong tastes, which a fit truth must surpass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
        preference = self.truth.preference(users, states)
        if self.wrong == "false_other_user":
            # Each user gets the tastes of the user in the row before, at the instant of that user. So a truth that
            # differs between rows by its trend alone becomes wrong, too.
            return np.roll(preference, 1, axis=0)
        # The opposite of a taste, log p* − log popularity, is added to log popularity.
        return self.popularity**2 / np.maximum(preference, 1e-12)


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
