"""What may be served: slates checked against the arrivals that they answer."""

from __future__ import annotations

import numpy as np
import torch

from rimsim.errors import AgentError
from rimsim.market.records import Arrivals, Slates

__all__ = ["checked_slates"]


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
        raise AgentError(f"slates have shape {items.shape}; allowed: {shape}, a row an arrival")
    inside = (items >= 0) & (items < n_items)
    pick = torch.from_numpy(np.where(inside, items, 0)).to(arrivals.admissible.device)
    good = inside & arrivals.admissible.gather(1, pick).cpu().numpy()
    for position in range(1, k):
        good[:, position] &= ~(items[:, :position] == items[:, position : position + 1]).any(1)
    wrong = ~good & (items != -1)
    if not wrong.any():
        return slates
    if empty:
        return Slates(np.where(wrong, -1, items), slates.price, slates.propensity)
    row, position = (int(where[0]) for where in np.nonzero(wrong))
    item = int(items[row, position])
    kind = "repeated" if inside[row, position] and bool(arrivals.admissible[row, item]) else "inadmissible"
    raise AgentError(
        f"slate of arrival {int(arrivals.id[row])} in round {number}: position {position + 1} holds "
        f"{kind} item {item}; allowed: distinct admissible items from 0 to {n_items - 1}, or -1 for empty"
    )
