"""Slates as arrays: their values, wrong items, capacities and counts."""

from __future__ import annotations

import numpy as np
import torch

from rimsim.arrays import Array, Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled


def at_items(values: torch.Tensor | Array, items: Ints) -> Array:
    """Values of the items of each slate."""
    # Only the values of the shown items leave the tensor's device. An item outside the catalogue, such as −1, gets an
    # arbitrary value of its row.
    if isinstance(values, np.ndarray) or values.device.type == "cpu":
        array = values if isinstance(values, np.ndarray) else values.numpy()
        fetched = np.empty(items.shape, array.dtype)
        fetch_items(array, items, fetched)
        return fetched
    existing_items = torch.from_numpy(items % values.shape[1]).to(values.device)
    return np.asarray(values.gather(1, existing_items).cpu().numpy())


@compiled
def fetch_items(values: Array, items: Ints, fetched: Array) -> None:
    """Fill ``fetched`` with the values of each slate's items."""
    # An item outside the catalogue, such as −1, gets an arbitrary value of its row.
    n, k = items.shape
    for row in range(n):
        for position in range(k):
            fetched[row, position] = values[row, items[row, position] % values.shape[1]]


@compiled
def mark_wrong(items: Ints, admissible: Bools, n_items: int, wrong: Bools) -> int:
    """Fill a mask of invalid items, and count them."""
    # ``admissible`` (n, k) may be arbitrary for an item outside the catalogue.
    n, k = items.shape
    n_wrong = 0
    for row in range(n):
        for position in range(k):
            item = items[row, position]
            is_wrong = item != -1 and not (0 <= item < n_items and admissible[row, position])
            for earlier in range(position):
                is_wrong |= item != -1 and items[row, earlier] == item
            wrong[row, position] = is_wrong
            n_wrong += is_wrong
    return n_wrong


def wrong_positions(items: Ints, admissible: Bools, n_items: int) -> Bools | None:
    """Mask of repeated or inadmissible items; None without such items."""
    # ``admissible`` (n, k) may be arbitrary for an item outside the catalogue of ``n_items``.
    is_wrong = np.empty(items.shape, bool)
    return is_wrong if mark_wrong(items, admissible, n_items, is_wrong) else None


def beyond_capacity(items: Ints, capacity: Ints) -> Bools:
    """Mask of filled positions that exceed the arrival's capacity."""
    filled = items >= 0
    return np.asarray(filled & (np.cumsum(filled, 1) > capacity[:, None]), np.bool_)


def within_capacity(items: Ints, capacity: Ints | None) -> Ints:
    """Slates, cut at the end to each arrival's capacity."""
    return items if capacity is None else np.where(beyond_capacity(items, capacity), -1, items)


@compiled
def count_items(items: Ints, position_weights: Floats, exposure: Floats) -> None:
    """Add the position weights of shown items to exposures."""
    n, k = items.shape
    for row in range(n):
        for position in range(k):
            item = items[row, position]
            if item >= 0:
                exposure[item] += position_weights[position]


@compiled
def observed_gain(shown: Ints, weights: Floats, exposure: Floats, required: Floats, seen_exposure: Float32s,
    seen_shortfall: Float32s) -> float:  # fmt: skip
    """Record a slate, and return its reduction of the shortfall."""
    # ``exposure`` (M,) already includes this slate. ``seen_exposure`` and ``seen_shortfall`` (M,) are the figures that
    # an observer sees, and are updated here.
    gain = 0.0
    for position in range(len(shown)):
        item = shown[position]
        if item < 0:
            continue
        deficit = required[item] - exposure[item]
        gain += max(deficit + weights[position], 0.0) - max(deficit, 0.0)
        seen_exposure[item] = exposure[item]
        seen_shortfall[item] = max(deficit, 0.0)
    return gain
