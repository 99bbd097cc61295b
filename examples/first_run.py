"""
1. Retraining shrinks the catalogue
===================================

A plain recommender in a small market. Clones of MovieLens users arrive, 300 per round, and the platform retrains after
each round. Its twin, the arm that ends in ``-frozen``, never retrains. ``rimsim compare`` does the same at full size.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import rimsim
from rimsim.scenarios.report.comparison import comparison_report

small = {"data.min_item_events": 60, "arrivals.per_round": 300}

with tempfile.TemporaryDirectory() as folder:
    run = rimsim.compare(
        "closed-loop",
        ["relevance"],
        rounds=6,
        seeds=3,
        settings=small,
        workers=1,
        out=Path(folder) / "run",
    )
    print(*comparison_report(run).answer, sep="\n")

# %%
# ``run.rounds`` is a DataFrame: agent, seed, round, metric, value. The retrained recommender shows less and less of the
# catalogue; its twin does not. The controls of ``rimsim compare`` separate the causes.

coverage = run.rounds[run.rounds["metric"] == "coverage"]
means = coverage.pivot_table("value", "round", "agent")
axes = means.plot(marker="o")
axes.set(title="Retraining shrinks the catalogue", ylabel="share of the catalogue shown", xticks=range(6))
plt.show()
