"""
1. A first run
==============

Two agents in a small market, and what the guarantee costs and brings. Clones of MovieLens users arrive, 120 a round;
the platform retrains after each round. ``rimsim compare`` does the same at full size.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import seaborn as sns

import rimsim
from rimsim.scenarios.report.sentences import comparison_sentences

small = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 120}

with tempfile.TemporaryDirectory() as folder:
    run = rimsim.compare(
        "closed-loop",
        ["relevance", "rim-feedback"],
        rounds=3,
        seeds=2,
        settings=small,
        workers=1,
        out=Path(folder) / "run",
    )
    for sentence in comparison_sentences(run.rounds, run.agents, run.scenario.exposure.unit):
        print(sentence)

# %%
# ``run.rounds`` is a DataFrame: agent, seed, round, metric, value. An arm that ends in ``-frozen`` is the same agent on
# a platform that never retrains.

coverage = run.rounds[run.rounds["metric"] == "coverage"]
axes = sns.lineplot(coverage, x="round", y="value", hue="agent", style="agent", markers=True, dashes=False)
axes.set(title="Share of the catalogue that is shown", ylabel="coverage", ylim=(0, 1.05), xticks=range(3))
plt.show()
