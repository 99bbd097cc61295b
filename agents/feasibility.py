"""Requirements that are known to be infeasible before the round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from rimsim.agents.past_states import capacities
from rimsim.arrays import Bools, Floats, Ints, seconds

if TYPE_CHECKING:
    from rimsim.market import RoundView

Why: TypeAlias = Literal["positions", "caps", "release", "end", "consumed"]
_ROUNDING = 1e-6  # tolerated rounding error of one requirement, in exposures
# Tolerated relative rounding error of a sum over items. Without it, β = 1, which needs all positions, would count as
# infeasible.
_PARTS = 1e-5
_NAMED = 5  # largest number of items that a message names
_REASONS = {
    "positions": "there are too few positions",
    "caps": "caps allow no more",
    "release": "it is not released in time",
    "end": "it ends too early",
    "consumed": "those who come have consumed it",
}


@dataclass(frozen=True)
class Undeliverable:
    """Requirements that are infeasible for the same reason."""

    why: Why
    """Reason why the requirement is infeasible. positions: all items together require more positions than all slates
    have, or a group or campaign requires more than slates have for its items. caps: a group or campaign requires more
    than the caps of its items allow. release: an item requires more than one position at each arrival after its
    release. end: an item requires more than one position at each arrival before its end. consumed: an item requires
    more than one position at each arrival that has not consumed it. A group or campaign has as many positions per slate
    as it has items."""
    items: tuple[int, ...]
    """Items with the requirement; all guaranteed items if positions are too few."""
    required: float
    """Required exposures of all these items, in the unit of the guarantee."""
    reachable: float
    """Upper bound of the exposures that can be delivered."""
    name: str = ""
    """Name of the group or campaign; empty for single items."""

    def __str__(self) -> str:
        names = ", ".join(str(item) for item in self.items[:_NAMED])
        names += f" and {len(self.items) - _NAMED} more" if len(self.items) > _NAMED else ""
        subject = self.name or ("all items" if self.why == "positions" else f"item {names}")
        return (
            f"{subject} cannot be delivered in full: asked for {self.required:,.1f}, at most {self.reachable:,.1f}, "
            f"since {_REASONS[self.why]}"
        )


class _Times(NamedTuple):
    """Times at which items are on offer."""

    released: Floats
    """(M,) seconds at which each item is released."""
    ended: Floats | None
    """(M,) seconds from which each item is not on offer; None: no item ends."""

    def before(self, time: float) -> Bools:
        """Mask of the items that end before a time."""
        return np.zeros(len(self.released), bool) if self.ended is None else self.ended < time

    def shares(self, opens: float, closes: float) -> Floats:
        """Share of a period that each item is on offer."""
        seconds_open = max(closes - opens, 1e-9)
        share = np.clip((closes - self.released) / seconds_open, 0.0, 1.0)
        share = np.where(self.released <= opens, 1.0, share)
        if self.ended is None:
            return share
        after_end = np.clip((closes - self.ended) / seconds_open, 0.0, 1.0)
        return np.maximum(share - after_end, 0.0)

    def shares_of_counts(self, items: Ints, opens: float, closes: float) -> Floats:
        """Shares of a period by least number of items.

        Entry i is the share of the time in which at least i + 1 of the items are on offer. It is not the i-th largest
        share of an item, because one item may be released when another one ends.
        """
        ended = np.full(len(items), np.inf) if self.ended is None else self.ended[items]
        start = np.clip(self.released[items], opens, closes)
        stop = np.clip(ended, start, max(closes, opens))
        edges = np.unique(np.concatenate([start, stop, [opens, closes]]))
        if len(edges) == 1:  # the period is an instant
            n_on_offer = np.array([np.count_nonzero((self.released[items] <= opens) & (ended > opens))])
            share = np.ones(1)
        else:
            begun = np.searchsorted(np.sort(start), edges[:-1], side="right")
            n_on_offer = begun - np.searchsorted(np.sort(stop), edges[:-1], side="right")
            share = np.diff(edges) / (closes - opens)
        share_of_count = np.bincount(n_on_offer, weights=share, minlength=len(items) + 1).astype(np.float64)
        share_of_more = np.cumsum(share_of_count[::-1])[::-1]
        return share_of_more[1:]


class _Estimates(NamedTuple):
    """Estimates of this round's capacities, from the last round's states."""

    chance: Floats
    """(M,) share of states in which an item may be shown, among states after its release."""
    filled: float
    """Mean capacity of a slate, in the unit of the guarantee."""
    of_rows: Floats
    """(J,) mean exposure that a slate can give the items of each requirement, in the unit of the guarantee, over the
    states of its audience. Unreleased items count as released."""


def undeliverable(
    view: RoundView,
    released: Floats | None = None,
    positions: float | None = None,
    ended: Floats | None = None,
) -> tuple[Undeliverable, ...]:
    """Infeasible requirements of a round, with reasons.

    A requirement is infeasible if it exceeds an upper bound of its exposures. The bounds use expected arrivals, release
    times and caps. The bounds take the number of positions, and the share of states to which an item can be shown, from
    the last round. In the first round, which has no last round, they assume that every item can be shown to every
    arrival. The bounds are for each item, group and campaign alone, and for all items together. They ignore that
    several items may need the same few arrivals. The result has a record per reason for infeasible items, then one for
    each infeasible group or campaign.

    Args:
        released: Time in seconds at which each item is released; None: all are released. For an item released within
            the round, the bounds count the arrivals after its release, and assume that nobody consumes the item.
        positions: Capacity of all slates of the round, in the unit of the guarantee; None: the capacity of the last
            round.
        ended: Time in seconds from which each item is not on offer, ∞: never; None: no item ends.
    """
    n_items = len(view.required)
    released = np.full(n_items, -np.inf) if released is None else released
    has_ends = ended is not None and bool(np.isfinite(ended).any())
    times = _Times(released, ended if has_ends else None)
    # Entry n is the capacity of a slate of n positions, in the unit of the guarantee.
    slate_capacities = np.concatenate([[0.0], np.cumsum(view.position_weights)])
    estimates = _seen(view, times, slate_capacities)
    reasons = list(_of_items(view, times, estimates, positions))
    reasons += _of_rows(view, times, estimates, slate_capacities)
    return tuple(reasons)


def _seen(view: RoundView, times: _Times, per_slate: Floats) -> _Estimates:
    """Capacities for items and requirements, estimated from the last round.

    Entry n of ``per_slate`` is the capacity of a slate of n positions, in the unit of the guarantee.
    """
    table = view.promises
    n_items = len(view.required)
    n_admissible = np.zeros(n_items)
    n_states = np.zeros(n_items)
    total_capacity = 0.0
    n_seen = 0
    row_capacity = np.zeros(len(table))
    n_counting = np.zeros(len(table))
    for chunk in view.past:
        # If items end, the market has moved the states to this round, so they admit only items on offer.
        is_released = chunk.time[:, None] >= (times.released if times.ended is None else -np.inf)
        is_released = np.broadcast_to(is_released, (len(chunk), n_items))
        admissible = chunk.admissible.cpu().numpy()
        n_admissible += (admissible & is_released).sum(0)
        n_states += is_released.sum(0)
        n_positions = np.minimum(capacities([chunk], view.k), view.k)
        total_capacity += float(per_slate[n_positions].sum())
        n_seen += len(chunk)
        is_active = table.active(chunk.audiences, len(chunk))
        for row in range(len(table)):
            n_showable = (admissible | ~is_released)[:, table.items(row)].sum(1)
            row_capacity[row] += per_slate[np.minimum(n_showable, n_positions)] @ is_active[:, row]
        n_counting += is_active.sum(0)
    if times.ended is not None:
        n_states = n_states * times.shares(view.opens, view.closes)
        n_admissible = np.minimum(n_admissible, n_states)
    return _Estimates(
        chance=np.where(n_states > 0, n_admissible / np.maximum(n_states, 1.0), 1.0),
        filled=total_capacity / n_seen if n_seen else float(per_slate[-1]),
        of_rows=np.where(n_counting > 0, row_capacity / np.maximum(n_counting, 1.0), per_slate[-1]),
    )


def _of_items(
    view: RoundView, times: _Times, estimates: _Estimates, positions: float | None
) -> Iterator[Undeliverable]:
    """Infeasible floors of items."""
    required = view.required.astype(np.float64)
    # At best, an item has the first position at each arrival.
    most_per_item = view.arrivals * float(view.position_weights[0])
    in_time = most_per_item * times.shares(view.opens, view.closes)
    reachable = in_time * estimates.chance
    n_positions = view.arrivals * estimates.filled if positions is None else positions
    if required.sum() > n_positions * (1.0 + _PARTS):
        yield Undeliverable(
            why="positions",
            items=tuple(np.flatnonzero(required > 0).tolist()),
            required=float(required.sum()),
            reachable=n_positions,
        )
    is_late = required > in_time + _ROUNDING
    is_consumed = ~is_late & (required > reachable + _ROUNDING)
    is_ending = times.before(view.closes)
    reasons: tuple[tuple[Why, Bools, Floats], ...] = (
        ("release", is_late & ~is_ending, in_time),
        ("end", is_late & is_ending, in_time),
        ("consumed", is_consumed, reachable),
    )
    for why, is_infeasible, reach in reasons:
        if is_infeasible.any():
            yield Undeliverable(
                why=why,
                items=tuple(np.flatnonzero(is_infeasible).tolist()),
                required=float(required[is_infeasible].sum()),
                reachable=float(reach[is_infeasible].sum()),
            )


def _of_rows(
    view: RoundView, times: _Times, estimates: _Estimates, per_slate: Floats
) -> Iterator[Undeliverable]:
    """Infeasible groups and campaigns, each with its tightest bound."""
    table = view.promises
    caps = view.promises.max_exposure_of_items(len(view.required))
    for row in np.flatnonzero(table.min_exposure > 0).tolist():
        items = table.items(row)
        arrivals = float(table.arrivals[row])
        k = len(per_slate) - 1
        opens = view.opens
        closes = view.closes
        if times.ended is not None:  # the row may count only up to the end of its last item
            opens = float(seconds(table.begin[row]))
            closes = float(seconds(table.end[row]))
        # A further item adds a position's capacity in the share of the time in which so many items are on offer.
        shares = times.shares_of_counts(items, opens, closes)
        per_arrival = float(np.diff(per_slate)[: len(shares)] @ shares[:k])
        reach: dict[Why, float] = {
            "positions": arrivals * float(per_slate[min(len(items), k)]),
            "caps": float(caps[items].sum()),
            "end" if times.before(view.closes)[items].any() else "release": arrivals * per_arrival,
            "consumed": arrivals * float(estimates.of_rows[row]),
        }
        why = min(reach, key=lambda reason: reach[reason])
        if table.min_exposure[row] > reach[why] + _ROUNDING:
            yield Undeliverable(
                why=why,
                items=tuple(items.tolist()),
                required=float(table.min_exposure[row]),
                reachable=reach[why],
                name=table.name[row],
            )
