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
from rimsim.scenarios.report.charts import style

small = {"arrivals.per_round": 300}

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
    for sentence in run.report().answer:
        print(sentence.replace("`", ""))

# %%
# ``run.rounds`` is a DataFrame: agent, seed, round, metric, value. The retrained recommender shows less and less of the
# catalogue; its twin does not. Pale lines are seeds, strong lines their means. The controls of ``rimsim compare``
# separate the causes.

coverage = run.rounds[run.rounds["metric"] == "coverage"]
coverage = coverage.assign(value=100 * coverage["value"])
with style():
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for agent, arms in coverage.groupby("agent"):
        (line,) = axes.plot(arms.groupby("round")["value"].mean(), linewidth=2.5, label=agent)
        axes.plot(arms.pivot_table("value", "round", "seed"), color=line.get_color(), alpha=0.3)
    axes.set(
        title="Retraining shrinks the catalogue", ylabel="items shown, % of the catalogue", ylim=(0, 100)
    )
    axes.legend(title=None, loc="lower left")
plt.show()
