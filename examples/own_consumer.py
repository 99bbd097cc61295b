"""
4. Your own consumer
====================

A visitor who looks at the first three positions only, such as one on a phone, takes much less from the same slates.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

import rimsim
from rimsim.config import ScenarioConfig
from rimsim.market.consumers import Intensity, drawn
from rimsim.scenarios.report.charts import style

# %%
# The consumer asks the fitted truth, and sets the probability of lower positions to 0.


@dataclass(frozen=True)
class OnPhones:
    """Consumer that answers as the fitted truth does, but looks at the first positions only."""

    scenario: ScenarioConfig
    positions: int = 3

    def respond(self, visits, slates):
        """Outcomes of slates, with probability 0 below the first positions."""
        fresh = Intensity(self.scenario).respond(visits, slates)
        looked = np.arange(slates.shape[1]) < self.positions
        return drawn(visits, slates, looked * fresh.probability, fresh.intensity)

    def organic(self, visits):
        """Consumptions that do not depend on slates: none."""
        return Intensity(self.scenario).organic(visits)

    def true_intensity(self, visits):
        """Intensity of the truth."""
        return Intensity(self.scenario).true_intensity(visits)


if __name__ == "__main__":
    small = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 120}
    taken = {}
    for kind in ("intensity", f"{sys.argv[0]}:OnPhones"):
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
            verdict = run.report().answer[-1].replace("`", "")
            visits = run.ledger.groupby("round")
            name = kind.rpartition(":")[2]
            taken[name] = visits["consumed"].sum() / visits["arrival"].nunique()
            print(f"{name:10} {taken[name].mean():.2f} items taken per visit")
    print(verdict)  # on the truth, which both consumers ask

    table = (
        pd.DataFrame(taken).melt(var_name="consumer", value_name="items", ignore_index=False).reset_index()
    )
    with style():
        figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
        sns.barplot(table, x="round", y="items", hue="consumer", native_scale=True, ax=axes)
        axes.set(title="Items taken per visit", ylabel="items", xticks=table["round"].unique())
        sns.move_legend(axes, "upper left", bbox_to_anchor=(1, 1), title=None)
    plt.show()
