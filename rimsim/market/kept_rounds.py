"""Rounds that are over as plain arrays, so that they can be kept on disk and made again to the last bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rimsim.arrays import Array, Ints
from rimsim.market.arrivals.schedule import Schedule
from rimsim.market.histories import Histories
from rimsim.market.learning import Shown
from rimsim.market.training_log import PastRound

if TYPE_CHECKING:
    from rimsim.market.histories import LoggedPast


_FIELDS = tuple(field.name for field in dataclasses.fields(Schedule))
_MAY_BE_NONE = {field.name for field in dataclasses.fields(Schedule) if field.default is None}
_SHOWN = tuple(field.name for field in dataclasses.fields(Shown))


@dataclass(frozen=True, eq=False)
class KeptRounds:
    """Who came in some rounds, what they consumed, and what they were shown."""

    schedules: tuple[tuple[int, Schedule], ...]
    """Number and arrivals of each round, oldest first."""
    shown: tuple[Shown | None, ...]
    """What was shown in each of them; None where the platform does not learn from it."""
    events: Ints
    """(n, 4) what was consumed in them: round (0 for all where users are kept), slot, tick from which it is visible,
    item; by slot, in order of consumption."""

    @classmethod
    def of(cls, rounds: Sequence[PastRound], *, keeps_users: bool) -> Self:
        """Rounds as arrays.

        Args:
            rounds: The rounds, oldest first.
            keeps_users: They share one store of histories.
        """
        kept = {0 if keeps_users else past.number: past.histories for past in rounds}
        events = [
            np.column_stack(np.broadcast_arrays(number, *histories.all_events()))
            for number, histories in kept.items()
        ]
        return cls(
            schedules=tuple((past.number, past.schedule) for past in rounds),
            shown=tuple(past.shown for past in rounds),
            events=np.concatenate([np.zeros((0, 4), np.int64), *events]),
        )

    def rounds(self, logged: LoggedPast, *, keeps_users: bool) -> list[PastRound]:
        """The rounds, made again.

        Args:
            logged: The logged past of their visitors.
            keeps_users: They share one store of histories.
        """
        kept: dict[int, Histories] = {}
        rounds = []
        for (number, schedule), shown in zip(self.schedules, self.shown, strict=True):
            key = 0 if keeps_users else number
            if key not in kept:
                kept[key] = Histories(schedule, logged)
                kept[key].append(*self.events[self.events[:, 0] == key, 1:].T.copy())
            rounds.append(PastRound(number, schedule, kept[key], shown))
        return rounds

    def arrays(self, prefix: str) -> dict[str, Array]:
        """Named arrays for :func:`numpy.savez`; all names begin with ``prefix``."""
        named: dict[str, Array] = {
            f"{prefix}rounds": np.array([number for number, _ in self.schedules], np.int64),
            f"{prefix}events": self.events,
        }
        for (number, schedule), shown in zip(self.schedules, self.shown, strict=True):
            for field in _FIELDS:
                if getattr(schedule, field) is not None:
                    named[f"{prefix}{field}-{number}"] = np.asarray(getattr(schedule, field))
            if shown is not None:
                named |= {f"{prefix}shown-{field}-{number}": getattr(shown, field) for field in _SHOWN}
        return named

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], prefix: str) -> Self:
        """The rounds that :meth:`arrays` named.

        Raises:
            KeyError: If an array is missing.
        """
        numbers = arrays[f"{prefix}rounds"].tolist()
        return cls(
            schedules=tuple((number, _schedule(arrays, prefix, number)) for number in numbers),
            shown=tuple(
                Shown(**{field: arrays[f"{prefix}shown-{field}-{number}"] for field in _SHOWN})
                if f"{prefix}shown-item-{number}" in arrays
                else None
                for number in numbers
            ),
            events=arrays[f"{prefix}events"],
        )


def _schedule(arrays: Mapping[str, Array], prefix: str, number: int) -> Schedule:
    """The schedule of a round; what was not saved is None."""
    found: dict[str, Any] = {
        field: arrays[f"{prefix}{field}-{number}"]
        for field in _FIELDS
        if field not in _MAY_BE_NONE or f"{prefix}{field}-{number}" in arrays
    }
    start, stop = int(found.pop("start")), int(found.pop("stop"))
    if (forecast := found.pop("forecast", None)) is not None:
        found["forecast"] = float(forecast)
    return Schedule(**found, start=start, stop=stop)
