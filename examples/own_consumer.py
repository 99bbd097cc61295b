"""
4. A consumer of one's own
==========================

Who has had an item in this market is satisfied, and takes less.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import rimsim
from rimsim.config import ScenarioConfig
from rimsim.market.consumers import Intensity, drawn


@dataclass(frozen=True)
class Satisfied:
    """Consumes as the fitted truth does, and a third as much once it has had ``after`` items here."""

    scenario: ScenarioConfig
    after: int = 1

    def respond(self, visits, slates):
        """Probabilities of the truth, lowered for those who have had enough, and draws from them."""
        fresh = Intensity(self.scenario).respond(visits, slates)
        had = np.bincount(visits.in_market()[0], minlength=len(visits))
        factor = np.where(had >= self.after, 1 / 3, 1.0)[:, None]
        return drawn(visits, slates, factor * fresh.probability, fresh.intensity)

    def organic(self, visits):
        """Nothing is consumed beside the slates."""
        return Intensity(self.scenario).organic(visits)

    def true_intensity(self, visits):
        """What the truth says."""
        return Intensity(self.scenario).true_intensity(visits)


if __name__ == "__main__":
    small = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 120}
    taken = {}
    for kind in ("intensity", f"{sys.argv[0]}:Satisfied"):
        with tempfile.TemporaryDirectory() as folder:
            run = rimsim.compare(
                "closed-loop",
                ["relevance"],
                rounds=3,
                seeds=1,
                settings={**small, "consumer.kind": kind},
                frozen=[],
                workers=1,
                out=Path(folder) / "run",
            )
            visits = run.ledger.groupby("round")
            name = kind.rpartition(":")[2]
            taken[name] = visits["consumed"].sum() / visits["arrival"].nunique()
            print(f"{name:10} {taken[name].mean():.2f} items taken a visit")

    axes = pd.DataFrame(taken).plot.bar(rot=0, title="Items taken a visit, by round")
    axes.set_ylabel("items")
    plt.show()
