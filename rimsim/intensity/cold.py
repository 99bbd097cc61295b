"""Items that no user has met: their vectors predicted from genres and year of release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from rimsim.arrays import Floats, Ints

if TYPE_CHECKING:
    from rimsim.data.log import EventLog


_RIDGE = 1.0
"""Penalty of the regression, in items."""


def item_features(items: pd.DataFrame) -> Floats:
    """(M, F) what is known of items before anyone consumes them.

    A constant, one indicator a genre, and year of release (standardised, 0 where unknown) with its square.
    """
    n = len(items)
    columns = [np.ones((n, 1))]
    if "genres" in items:
        genres = items["genres"].fillna("").astype(str).str.get_dummies("|")
        columns.append(genres.drop(columns="", errors="ignore").to_numpy(np.float64))
    if "year" in items:
        year = pd.to_numeric(items["year"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        known = np.isfinite(year)
        if known.any():
            spread = float(year[known].std()) or 1.0
            scaled = np.where(known, (year - year[known].mean()) / spread, 0.0)
            columns += [scaled[:, None], scaled[:, None] ** 2]
    return np.concatenate(columns, axis=1)


def fill_cold(vectors: torch.Tensor, bias: torch.Tensor, log: EventLog) -> Ints:
    """Give items without a target event the vector and bias that items like them have; in place.

    A ridge regression of the fitted items' vectors and biases on :func:`item_features`. Training alone would
    leave such an item with random values and push its probability towards zero.

    Args:
        vectors: (M, W) fitted item vectors.
        bias: (M,) fitted item biases.
        log: The log that they were fitted to.

    Returns:
        The items that were given values.
    """
    met = np.bincount(log.item[log.targets], minlength=log.n_items) > 0
    cold = np.flatnonzero(~met)
    if len(cold) and met.any():
        features = item_features(log.items)
        goal = torch.cat([vectors, bias[:, None]], dim=1).cpu().numpy().astype(np.float64)
        # The mean is not penalised: an item of which nothing is known is an average item.
        mean = goal[met].mean(0)
        gram = features[met].T @ features[met] + _RIDGE * np.eye(features.shape[1])
        weights = np.linalg.solve(gram, features[met].T @ (goal[met] - mean))
        predicted = torch.from_numpy((features[cold] @ weights + mean).astype(np.float32)).to(vectors.device)
        rows = torch.from_numpy(cold).to(vectors.device)
        vectors[rows], bias[rows] = predicted[:, :-1], predicted[:, -1]
    return cold
