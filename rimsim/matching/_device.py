"""Ranking where the scores lie, in tensor operations: at prices as the compiled ranking does it, and without."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from rimsim.arrays import Floats, Ints

_SIGN = -(2**63)


def _signed(word: int) -> int:
    """The number with the same 64 bits that a signed word can hold."""
    return word - 2**64 if word >= 2**63 else word


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shifted(word: torch.Tensor, places: int) -> torch.Tensor:
    """A logical shift to the right: torch's own keeps the sign."""
    return torch.bitwise_and(word >> places, 2 ** (64 - places) - 1)


def _mixed(word: torch.Tensor) -> torch.Tensor:
    word = (word ^ _shifted(word, 30)) * _MIX_1
    word = (word ^ _shifted(word, 27)) * _MIX_2
    return word ^ _shifted(word, 31)


def _tie_ranks(rows: torch.Tensor, n_items: int) -> torch.Tensor:
    """(n, M) the bits of :func:`rimsim.matching._kernels.tie_rank` of each row and item, in signed words."""
    items = torch.arange(n_items, device=rows.device)
    return _mixed((rows[:, None] ^ _mixed(items + _GOLDEN)[None, :]) + _GOLDEN)


def ranked(
    scores: torch.Tensor,
    price: Floats,
    k: int,
    admissible: torch.Tensor | None,
    rows: NDArray[np.uint64],
    tie_width: float,
) -> Ints:
    """Slates as :func:`rimsim.matching.price_slates` answers them; only the slates leave the device.

    Args:
        scores: (n, M).
        price: (M,) item prices v.
        k: Positions of a slate.
        admissible: (n, M) bool on the same device; None for all.
        rows: (n,) random bits of the rows, for ties.
        tie_width: Width of the dither.

    Returns:
        (n, k) items in descending order; −1 where nothing is left.
    """
    value = scores.double() - torch.from_numpy(price).to(scores.device)
    barred = value < 0
    if admissible is not None:
        barred |= ~admissible
    rank = _tie_ranks(torch.from_numpy(rows.view(np.int64)).to(scores.device), scores.shape[1])
    value += tie_width * (_shifted(rank, 11).double() * 2.0**-53)
    value.masked_fill_(barred, -torch.inf)
    # By rank first and then, without disturbing that order, by value: equal values stand by rank.
    order = (rank ^ _SIGN).argsort(dim=1, descending=True)
    by_rank = value.gather(1, order)
    place = by_rank.argsort(dim=1, descending=True, stable=True)[:, :k]
    items = torch.where(by_rank.gather(1, place) > -torch.inf, order.gather(1, place), -1)
    slates = np.full((len(scores), k), -1, np.int64)
    slates[:, : items.shape[1]] = items.cpu().numpy()
    return slates


def largest(scores: torch.Tensor, admissible: torch.Tensor, k: int) -> Ints:
    """(n, k) the admissible items of largest score (n, M) in each row; −1 where a row has fewer."""
    masked = torch.where(admissible, scores, -torch.inf)
    values, items = masked.topk(min(k, masked.shape[1]), dim=1)
    shown = torch.where(values > -torch.inf, items, -1)
    return np.asarray(torch.nn.functional.pad(shown, (0, k - shown.shape[1]), value=-1).cpu().numpy())
