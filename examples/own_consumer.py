"""A consumer of one's own: who has had three items of a visit in this market is satisfied, and takes less."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import rimsim
from rimsim.config import ScenarioConfig
from rimsim.market.consumers import Intensity, drawn


@dataclass(frozen=True)
class Satisfied:
    """Consumes as the fitted truth does, and a third as much once it has had ``after`` items here."""

    scenario: ScenarioConfig
    after: int = 3

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
    for kind in ("intensity", f"{__file__}:Satisfied"):
        with tempfile.TemporaryDirectory() as folder:
            run = rimsim.compare(
                "closed-loop",
                ["relevance"],
                rounds=2,
                seeds=1,
                settings={**small, "consumer.kind": kind},
                frozen=[],
                workers=1,
                out=Path(folder) / "run",
            )
            taken = run.ledger["consumed"].sum() / run.ledger["arrival"].nunique()
            print(f"{kind.rpartition(':')[2]:10} {taken:.2f} items taken a visit")
