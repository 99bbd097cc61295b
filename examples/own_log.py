"""
3. Your own log
===============

Any table with users, items and times can be a market: here a made-up log of a shop, with its own names of columns. It
is checked first, and then played.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import rimsim
from rimsim.scenarios.report.charts import style

# Each of 300 customers prefers some of four departments, and buys three articles at each of 4,000 visits.
rng = np.random.default_rng(0)
customers = rng.integers(300, size=4000).repeat(3)
tastes = rng.dirichlet(np.full(4, 0.3), 300)[customers]
departments = (rng.random((len(tastes), 1)) > tastes.cumsum(1)).sum(1).clip(max=3)
minutes = rng.integers(90 * 24 * 60, size=4000).repeat(3) + np.tile([0, 5, 10], 4000)
sales = pd.DataFrame(
    {
        "Kunde": customers,
        "Artikel": [
            f"SKU-{15 * department + int(15 * draw):02}"
            for department, draw in zip(departments, rng.beta(1, 3, 12000), strict=True)
        ],
        "Zeitpunkt": pd.Timestamp("2025-01-01") + pd.to_timedelta(minutes, "min"),
    }
)

with tempfile.TemporaryDirectory() as folder:
    place = Path(folder) / "sales.csv"
    sales.to_csv(place, index=False)
    columns = "user=Kunde,item=Artikel,time=Zeitpunkt"
    print(rimsim.data.check(place, columns=columns).text())
    run = rimsim.compare(
        "closed-loop",
        ["relevance", "rim-feedback"],
        rounds=2,
        seeds=3,
        data=place,
        settings={
            "data.columns": columns,
            "slate": 5,
            "data.min_item_events": 5,
            "arrivals.per_round": 100,
        },
        frozen=[],
        workers=1,
        out=Path(folder) / "run",
    )
    for sentence in run.report().answer:
        print(sentence.replace("`", ""))

    # Exposures of each item, by its own id.
    shown = run.ledger.merge(run.catalogue, on="item").pivot_table(
        index="id", columns="agent", values="seed", aggfunc="size", fill_value=0
    )

# %%
# Exposures of every item, from the most to the least popular one.

popularity = sales["Artikel"].value_counts()
with style():
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for agent, exposures in shown.reindex(popularity.index).dropna().items():
        axes.plot(range(1, len(exposures) + 1), exposures, label=agent)
    axes.set(title="The guarantee reaches rare items", xlabel="item, from the most popular to the rarest")
    axes.set(ylabel="exposures", ylim=(0, None))
    axes.legend()
plt.show()
