"""
6. Your own recommender
=======================

A recommender with ``fit`` and ``predict`` on a user-item matrix becomes the model of a platform. Here it is a ridge
regression between items, beside alternating least squares of the package ``implicit``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from implicit.als import AlternatingLeastSquares

import rimsim
from rimsim.intensity import RIM, Visits
from rimsim.intensity.adapters import ImplicitModel, MatrixScorerModel
from rimsim.scenarios.report.charts import style


class ItemRidge:
    """Predicts each item from the others (Steck, 2019)."""

    def fit(self, matrix):
        """Weights of items, from a sparse matrix of users and items."""
        inverse = np.linalg.inv((matrix.T @ matrix).toarray() + 200 * np.eye(matrix.shape[1]))
        self.weights = -inverse / np.diag(inverse)
        np.fill_diagonal(self.weights, 0)

    def predict(self, matrix):
        """Scores of all items for each user."""
        return matrix @ self.weights


models = {
    "bestsellers": "popularity-visits",
    "ALS": RIM(
        mark=ImplicitModel(AlternatingLeastSquares(16, num_threads=1, random_state=0)), ground=Visits()
    ),
    "item ridge": RIM(mark=MatrixScorerModel(ItemRidge()), ground=Visits()),
    "rimsim's default": "bag-visits",
}

# %%
# Each serves the same visitors for three rounds, and retrains on what they take.

small = {"arrivals.per_round": 300}
seeds = {}
for name, model in models.items():
    with tempfile.TemporaryDirectory() as folder:
        run = rimsim.compare(
            agents="relevance",
            rounds=3,
            seeds=3,
            settings=small | {"platform.model": model},
            frozen=[],
            workers=1,
            out=Path(folder) / "run",
        )
        seeds[name] = run.rounds.query("metric == 'utility'").groupby("seed")["value"].mean()
        verdict = run.report().answer[-1].replace("`", "")
    print(f"{name:17} {seeds[name].mean():.3f} items taken per slate")
print(verdict)  # on the truth of the simulated visitors, which is the same in all runs

# %%
# The points are the three seeds.

table = pd.DataFrame(seeds)
with style():
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    sns.barplot(table, orient="h", errorbar=None, ax=axes)
    sns.stripplot(table, orient="h", color="black", jitter=False, ax=axes)
    axes.set(title="Four recommenders as the model of a platform", xlabel="items taken per slate")
plt.show()
