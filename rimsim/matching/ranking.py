"""Ranking without prices: the best admissible items of every row."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from rimsim.arrays import Ints
from rimsim.matching._best import best_rows
from rimsim.matching._device import largest


def top_k(
    scores: torch.Tensor | NDArray[np.floating], admissible: torch.Tensor | NDArray[np.generic], k: int
) -> Ints:
    """The k admissible items of largest score in each row.

    Args:
        scores: (n, M) finite scores, a tensor or an array.
        admissible: (n, M) bool of the same kind, or what broadcasts to it; an array may be int8, 0 or 1, as
            environments observe it.
        k: Positions.

    Returns:
        (n, k) items in descending order of score; −1 where a row has fewer admissible items.
    """
    if isinstance(scores, torch.Tensor) and scores.device.type == "cpu":
        scores, admissible = scores.numpy(), np.asarray(admissible)
    if isinstance(scores, torch.Tensor) or scores.dtype != np.float32:
        return largest(torch.as_tensor(scores), torch.as_tensor(admissible).bool(), k)
    mask = np.asarray(admissible)
    mask = mask.view(np.bool_) if mask.dtype.itemsize == 1 else mask.astype(np.bool_)
    if mask.shape != scores.shape:
        mask = np.broadcast_to(mask, scores.shape).copy()
    items = np.empty((len(scores), k), np.int64)
    tied = best_rows(scores, mask, items)
    if np.count_nonzero(tied):  # which of them is shown is for one code path to say
        items[tied] = largest(torch.from_numpy(scores[tied]), torch.from_numpy(mask[tied]), k)
    return items
