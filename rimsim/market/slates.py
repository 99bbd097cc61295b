"""What may be served: slates checked against the arrivals that they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rimsim.compiled import compiled
from rimsim.errors import AgentError
from rimsim.market.records import Arrivals, Slates

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["at_items", "checked_slates", "count_items", "within_capacity"]


def at_items(values: torch.Tensor, items: NDArray[np.int64]) -> NDArray[Any]:
    """(n, k) entries of a (n, M) tensor at the items of each row, fetched where the tensor lies.

    An item outside the catalogue, such as −1 for an empty position, gives some entry of its row.
    """
    if values.device.type == "cpu":
        return _at_items(values.numpy(), items)
    inside = torch.from_numpy(items % values.shape[1]).to(values.device)
    return np.asarray(values.gather(1, inside).cpu().numpy())


@compiled
def _at_items(values: NDArray[Any], items: NDArray[np.int64]) -> NDArray[Any]:
    n, k = items.shape
    found = np.empty((n, k), values.dtype)
    for row in range(n):
        for position in range(k):
            found[row, position] = values[row, items[row, position] % values.shape[1]]
    return found


def checked_slates(
    arrivals: Arrivals, slates: Slates, k: int, n_items: int, number: int, *, empty: bool
) -> Slates:
    """The slates with every invalid position emptied, or an error that names the first.

    Args:
        arrivals: The n arrivals that are answered.
        slates: The answer.
        k: Positions of a slate.
        n_items: Size of the catalogue, M.
        number: The round, for the message.
        empty: Empty a repeated or inadmissible position; false refuses it.

    Raises:
        AgentError: If the slates have another shape, or hold what is no admissible item and ``empty`` is false.
    """
    items, shape = slates.items, (len(arrivals), k)
    if items.shape != shape:
        first = f", the first {int(arrivals.id[0])}" if len(arrivals) else ""
        raise AgentError(f"slates have shape {items.shape}; allowed: {shape}, a row an arrival{first}")
    wrong = np.empty(shape, bool)
    if not _mark_wrong(items, at_items(arrivals.admissible, items), n_items, wrong):
        return slates
    if empty:
        return Slates(np.where(wrong, -1, items), slates.price, slates.propensity)
    row, position = (int(where[0]) for where in np.nonzero(wrong))
    item = int(items[row, position])
    admissible = 0 <= item < n_items and bool(arrivals.admissible[row, item])
    kind = "repeated" if admissible else "inadmissible"
    raise AgentError(
        f"slate of arrival {int(arrivals.id[row])} in round {number}: position {position + 1} holds "
        f"{kind} item {item}; allowed: distinct admissible items from 0 to {n_items - 1}, or -1 for empty"
    )


def within_capacity(slates: Slates, capacity: NDArray[np.int64]) -> Slates:
    """The slates with positions emptied from the end until no row fills more than its capacity.

    Args:
        slates: n slates.
        capacity: (n,) positions that may be filled.
    """
    filled = slates.items >= 0
    over = filled & (np.cumsum(filled, 1) > capacity[:, None])
    return Slates(np.where(over, -1, slates.items), slates.price, slates.propensity)


@compiled
def _mark_wrong(
    items: NDArray[np.int64], admissible: NDArray[np.bool_], n_items: int, wrong: NDArray[np.bool_]
) -> bool:
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
def count_items(items: NDArray[np.int64], exposure: NDArray[np.int64]) -> None:
    """Add the shown items (n, k) to the exposures (M,), in place."""
    for item in items.ravel():
        if item >= 0:
            exposure[item] += 1
