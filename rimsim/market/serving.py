"""What may be served: slates checked against what is admissible, and counted."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim.arrays import Array, Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled

if TYPE_CHECKING:
    from rimsim.market.records import Slates


def at_items(values: torch.Tensor | Array, items: Ints) -> Array:
    """(n, k) entries of a (n, M) tensor or array at the items of each row, fetched where the tensor lies.

    An item outside the catalogue, such as −1 for an empty position, gives some entry of its row.
    """
    if isinstance(values, np.ndarray) or values.device.type == "cpu":
        array = values if isinstance(values, np.ndarray) else values.numpy()
        found = np.empty(items.shape, array.dtype)
        _at_items(array, items, found)
        return found
    inside = torch.from_numpy(items % values.shape[1]).to(values.device)
    return np.asarray(values.gather(1, inside).cpu().numpy())


@compiled
def _at_items(values: Array, items: Ints, found: Array) -> None:
    """Fill in what is found (n, k): an array that compiled code returns takes longer to hand back."""
    n, k = items.shape
    for row in range(n):
        for position in range(k):
            found[row, position] = values[row, items[row, position] % values.shape[1]]


def wrong_positions(items: Ints, admissible: Bools, n_items: int) -> Bools | None:
    """(n, k) positions that hold a repeated or inadmissible item; None where none does.

    Args:
        items: (n, k) slates, −1 for an empty position.
        admissible: (n, k) whether each item may be shown; of an item outside the catalogue, anything.
        n_items: Size of the catalogue, M.
    """
    wrong = np.empty(items.shape, bool)
    return wrong if _mark_wrong(items, admissible, n_items, wrong) else None


def beyond_capacity(items: Ints, capacity: Ints) -> Bools:
    """(n, k) positions to be emptied, from the end, until no row of slates fills more than its capacity (n,)."""
    filled = items >= 0
    return np.asarray(filled & (np.cumsum(filled, 1) > capacity[:, None]), np.bool_)


def within_capacity(items: Ints, capacity: Ints | None) -> Ints:
    """(n, k) slates cut from the end to the capacity (n,) of each row; None: as they are."""
    return items if capacity is None else np.where(beyond_capacity(items, capacity), -1, items)


def emptied(slates: Slates, positions: Bools) -> Slates:
    """The slates with some positions (n, k) empty."""
    return dataclasses.replace(slates, items=np.where(positions, -1, slates.items))


@compiled
def _mark_wrong(items: Ints, admissible: Bools, n_items: int, wrong: Bools) -> bool:
    """Mark what is neither empty nor the first showing of an admissible item; returns whether anything is."""
    n, k = items.shape
    found = False
    for row in range(n):
        for position in range(k):
            item = items[row, position]
            bad = item != -1 and not (0 <= item < n_items and admissible[row, position])
            for before in range(position):
                bad |= item != -1 and items[row, before] == item
            wrong[row, position] = bad
            found |= bad
    return found


@compiled
def count_items(items: Ints, weights: Floats, exposure: Floats) -> None:
    """Add what the shown items (n, k) count at their positions (k,) to the exposures (M,), in place."""
    n, k = items.shape
    for row in range(n):
        for position in range(k):
            item = items[row, position]
            if item >= 0:
                exposure[item] += weights[position]


@compiled
def observed_gain(
    shown: Ints,
    weights: Floats,
    exposure: Floats,
    required: Floats,
    seen_exposure: Float32s,
    seen_shortfall: Float32s,
) -> float:
    """By how much a slate reduced the shortfall; an observer's figures are brought up to date.

    Args:
        shown: (k,) distinct items; −1 for an empty position.
        weights: (k,) what an exposure at each position counts, in the unit of the guarantee.
        exposure: (M,) exposures of the round in that unit, this slate's included.
        required: (M,) required exposures of the round in that unit.
        seen_exposure: (M,) exposures as observed; changed in place.
        seen_shortfall: (M,) shortfall as observed; changed in place.
    """
    gain = 0.0
    for position in range(len(shown)):
        item = shown[position]
        if item < 0:
            continue
        missing = required[item] - exposure[item]
        gain += max(missing + weights[position], 0.0) - max(missing, 0.0)
        seen_exposure[item] = exposure[item]
        seen_shortfall[item] = max(missing, 0.0)
    return gain
