"""What cannot be delivered in a round, and why, as far as it can be known before the round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from rimsim.agents.prices import capacities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market import RoundView

__all__ = ["Undeliverable", "undeliverable"]

_ROUNDING = 1e-6
_NAMED = 5


@dataclass(frozen=True)
class Undeliverable:
    """Requirements that cannot be delivered for one reason."""

    why: Literal["positions", "release", "consumed"]
    """positions: all items together ask for more than all slates hold. release: an item asks for more than one position
    at each arrival after its release. consumed: it asks for more than one position at each arrival to whom it may be
    shown, since the others have consumed it."""
    items: tuple[int, ...]
    """Which items; all that are guaranteed anything, where positions are too few."""
    required: float
    """What they ask for together, in the unit of the guarantee."""
    reachable: float
    """What can be delivered at most."""

    def __str__(self) -> str:
        reasons = {
            "positions": "there are too few positions",
            "release": "it is not released in time",
            "consumed": "those who come have consumed it",
        }
        named = ", ".join(str(item) for item in self.items[:_NAMED])
        named += f" and {len(self.items) - _NAMED} more" if len(self.items) > _NAMED else ""
        who = "all items" if self.why == "positions" else f"item {named}"
        return (
            f"{who} cannot be delivered in full: asked for {self.required:.1f}, at most {self.reachable:.1f}, since "
            f"{reasons[self.why]}"
        )


def undeliverable(view: RoundView, released: NDArray[np.float64] | None = None) -> tuple[Undeliverable, ...]:
    """What a round's requirements ask for beyond what any agent could deliver, with the reasons.

    Known before the round are the arrivals that are expected, the positions that last round's states could fill, when
    items are released, and to what share of last round's states an item could be shown. These are bounds for each item
    and for all together; that several items want the same few arrivals is not looked at. After the round, what is
    missing stands in its shortfall.

    Args:
        view: The round.
        released: (M,) seconds at which items are released; None: all are there. What is released after the round's
            beginning can be shown to the arrivals after it alone, and nobody is taken to have consumed it.

    Returns:
        One record for each reason that applies; none where all may be delivered.
    """
    weights, m = view.position_weights, len(view.required)
    released = np.full(m, -np.inf) if released is None else released
    span = max(view.closes - view.opens, 1e-9)
    after = np.where(released <= view.opens, 1.0, np.clip((view.closes - released) / span, 0.0, 1.0))
    shown, there, filled, states = np.zeros(m), np.zeros(m), 0.0, 0
    per_slate = np.concatenate([[0.0], np.cumsum(weights)])
    for chunk in view.past:
        present = chunk.time[:, None] >= released
        shown += (chunk.admissible.cpu().numpy() & present).sum(0)
        there += present.sum(0)
        filled += float(per_slate[np.minimum(capacities([chunk], view.k), view.k)].sum())
        states += len(chunk)
    chance = np.where(there > 0, shown / np.maximum(there, 1.0), 1.0)
    required, best = view.required.astype(np.float64), view.arrivals * float(weights[0])
    in_time, reachable = best * after, best * after * chance
    found = []
    positions = view.arrivals * (filled / states if states else float(weights.sum()))
    if required.sum() > positions + _ROUNDING:
        asked = tuple(np.flatnonzero(required > 0).tolist())
        found.append(Undeliverable("positions", asked, float(required.sum()), positions))
    late = required > in_time + _ROUNDING
    consumed = ~late & (required > reachable + _ROUNDING)
    reasons: tuple[tuple[Literal["release", "consumed"], NDArray[np.bool_], NDArray[np.float64]], ...] = (
        ("release", late, in_time),
        ("consumed", consumed, reachable),
    )
    for why, which, reach in reasons:
        if which.any():
            items = tuple(np.flatnonzero(which).tolist())
            found.append(Undeliverable(why, items, float(required[which].sum()), float(reach[which].sum())))
    return tuple(found)
