"""The currency of a market: what a score is worth at its opening, in which costs of all arms and rounds are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim.errors import MarketError
from rimsim.market.limits import most_states
from rimsim.market.past_states import always
from rimsim.market.serving import at_items
from rimsim.matching import top_k

if TYPE_CHECKING:
    from rimsim.intensity.contract import IntensityModel
    from rimsim.market.past_states import StateScores


_FOR_MEDIAN = 8192
"""States whose median k-th score is taken where there are too many: its standard error is 1.4 % of their spread."""


def median_kth_score(states: StateScores, model: IntensityModel, k: int, n_items: int) -> float:
    """Median over states of the k-th largest λ(x,y) under one model; 1 where there is no state at all.

    A market takes it once, of its warm-up states under its warm-up model, so that values, returns and rewards of all
    arms and rounds of a seed are in one currency, which no policy can move by what it trains the model on. Where there
    are more states than may be held at once, it is the median of some thousands of them, evenly spaced, the same for
    all arms.

    Args:
        states: The states.
        model: Who scores them.
        k: Positions of a slate; a state with fewer admissible items has its last for its k-th.
        n_items: Size of the catalogue, M.

    Raises:
        MarketError: If it is 0: a missing exposure would cost nothing.
    """
    if len(states) > most_states(n_items):
        states = states.sampled(_FOR_MEDIAN)
    parts = [np.zeros(0)]
    for chunk in states.scored_by(always(model)):
        items = top_k(chunk.relevance, chunk.admissible, k)
        found = np.count_nonzero(items >= 0, axis=1)
        some = np.flatnonzero(found)
        best = at_items(chunk.relevance, items)[some, found[some] - 1]
        parts.append(best * chunk.ground_intensity.cpu().numpy()[some])
    scores = np.concatenate(parts)
    if not len(scores):
        return 1.0  # no past at all: any cost is as good
    median = float(torch.from_numpy(scores).double().quantile(0.5))
    if not median > 0:
        raise MarketError(
            f"the median k-th score of {len(scores)} past states is {median}: shortfall would cost nothing; "
            "allowed: a model that gives more than half of the states k items of positive intensity"
        )
    return median
