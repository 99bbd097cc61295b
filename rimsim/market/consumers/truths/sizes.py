"""λ*: how much a visitor consumes in a session, by the state in which it begins and by who the visitor is."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from rimsim.arrays import TICKS, Array, Floats, Ints
from rimsim.compiled import compiled

if TYPE_CHECKING:
    from rimsim.intensity.states import UserStates
    from rimsim.market.consumers.contract import Visits
    from rimsim.market.consumers.truths.contract import TruthReport


_DAY = 86_400.0
_SOONEST = 1.0
"""Seconds below which recency is not told apart."""


@dataclass(frozen=True, eq=False)
class SessionSizes:
    """λ*(x) = effect of the user · exp(⟨weights, features of the state⟩).

    The features of a visitor without events are (1, 0, 0, 0, 0, 0), and those of a visitor with n events, the last of
    them r days ago, are (0, 1, log(1 + n), log(1 + n)², log r, log² r). n and r are held to what nearly all later
    sessions of the log have: a visitor of a market may come sooner, or with fewer events, than anyone in the log.
    """

    weights: Floats
    """(6,) of the features."""
    effect: Floats
    """(users,) how many times as much as the average each user of the log consumes in a session."""
    bounds: Floats
    """(2, 2) least and largest log(1 + n), then log r."""

    @property
    def arrays(self) -> dict[str, Floats]:
        """The fitted arrays by name, as :meth:`out_of` takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def out_of(cls, arrays: dict[str, Array]) -> Self:
        """λ* from the arrays that were saved with a truth's own, which are left."""
        return cls(*(arrays.pop(field.name) for field in fields(cls)))

    def expected(self, users: Ints, states: UserStates) -> Floats:
        """(n,) λ* of users (n,) of the log in given states, for sessions that begin at ``states.now``."""
        return np.asarray(
            self.effect[users] * np.exp(features_of(*known_of(states), self.bounds) @ self.weights),
            np.float64,
        )

    def of_visits(self, visits: Visits, delay: int) -> Floats:
        """(n,) λ* of visits to a market, from what each visitor had consumed by then.

        Args:
            visits: n visits.
            delay: Ticks after which a consumption is entered into the histories, beside the one it always takes.
        """
        histories, slot = visits.histories, visits.slot
        events, found = histories.events, np.empty(len(slot))
        _sizes_of_visits(
            slot,
            visits.tick,
            self.effect[histories.log_user[slot]],
            self.weights,
            self.bounds,
            histories.length,
            histories.last_logged,
            events.first,
            events.counts,
            events.newest,
            events.tick,
            events.next,
            delay,
            found,
        )
        return found


class Kept:
    """What classes of truths have in common: λ*, and a folder that they are kept in."""

    arrays: ClassVar[tuple[str, ...]]
    """Names of the fitted arrays beside those of λ*."""
    sizes: SessionSizes

    def expected(self, users: Ints, states: UserStates) -> Floats:
        """(n,) λ*(x) of sessions that begin at ``states.now``."""
        return self.sizes.expected(users, states)

    def save(self, folder: Path) -> None:
        """Write the arrays as safetensors."""
        own = {name: getattr(self, name) for name in self.arrays}
        save_file(own | self.sizes.arrays, folder / "truth.safetensors")

    @classmethod
    def load(cls, folder: Path, report: TruthReport) -> Self:
        """Read what :meth:`save` wrote."""
        arrays: dict[str, Any] = load_file(folder / "truth.safetensors")
        sizes = SessionSizes.out_of(arrays)
        return cls(**arrays | {"sizes": sizes, "report": report})


@compiled
def _sizes_of_visits(
    slots: Ints,
    ticks: Ints,
    effect: Floats,
    weights: Floats,
    bounds: Floats,
    length: Ints,
    last_logged: Floats,
    first: Ints,
    counts: Ints,
    newest: Ints,
    tick: Ints,
    following: Ints,
    delay: int,
    found: Floats,
) -> None:
    """Fill in (n,) λ*; what a visitor consumes in the visit itself, or later, does not count."""
    for n in range(len(slots)):
        slot, until = slots[n], ticks[n] + delay
        number, last = length[slot], last_logged[slot]
        if counts[slot] and newest[slot] <= until:
            number += counts[slot]
            last = (newest[slot] - delay) / TICKS
        elif counts[slot]:
            place = first[slot]
            while tick[place] <= until:  # ends at the newest event, if not before
                number += 1
                last = (tick[place] - delay) / TICKS
                place = following[place]
        if number == 0:
            found[n] = effect[n] * math.exp(weights[0])
            continue
        count, recency = math.log(1.0 + number), math.log(max(ticks[n] / TICKS - last, _SOONEST) / _DAY)
        count = min(max(count, bounds[0, 0]), bounds[0, 1])
        recency = min(max(recency, bounds[1, 0]), bounds[1, 1])
        total = weights[1] + weights[2] * count + weights[3] * count * count
        found[n] = effect[n] * math.exp(total + weights[4] * recency + weights[5] * recency * recency)


def known_of(states: UserStates) -> tuple[Ints, Floats]:
    """(n,) events of each state, and (n,) seconds since the last of them; since 0 where there is none."""
    number = states.lengths
    some = number > 0
    last = np.zeros(len(number))
    last[some] = states.times[states.offsets[1:][some] - 1]
    return number, states.now - last


def features_of(number: Ints, silence: Floats, bounds: Floats) -> Floats:
    """(n, 6) features of states, held to bounds (2, 2); see :class:`SessionSizes`.

    Args:
        number: (n,) events of each state.
        silence: (n,) seconds since the last of them; anything where there is none.
        bounds: As there.
    """
    some = number > 0
    count = np.clip(np.log(1.0 + number), *bounds[0])
    recency = np.clip(np.log(np.maximum(silence, _SOONEST) / _DAY), *bounds[1])
    columns = (np.ones(len(number)), count, count**2, recency, recency**2)
    return np.column_stack([~some, *(np.where(some, column, 0.0) for column in columns)])
