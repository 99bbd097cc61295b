"""Arrivals of which nothing but their scores is looked at."""

import numpy as np
import torch

from rimsim.market import Arrivals


def arrivals_of(relevance, admissible=None, capacity=None, first=0):
    """Arrivals with λ = 1.

    Args:
        relevance: (n, M) chances p(y|x).
        admissible: (n, M) what may be shown; everything by default.
        capacity: Positions of each arrival; those of a slate by default.
        first: Number of the first arrival.
    """
    n, rows = len(relevance), np.arange(first, first + len(relevance))
    return Arrivals(
        id=rows,
        time=rows.astype(float),
        user=rows,
        relevance=torch.tensor(relevance, dtype=torch.float32),
        ground_intensity=torch.ones(n),
        admissible=torch.tensor(np.ones(relevance.shape, bool) if admissible is None else admissible),
        row=np.arange(n),
        capacity=None if capacity is None else np.full(n, capacity),
    )
