"""Lasting effects of processes on a market."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np

from rimsim.arrays import Array, Float32s, Floats, Ints
from rimsim.requirements.on_offer import TimesOnOffer


class Happening(NamedTuple):
    """Change of a market by a process."""

    time: float
    """Seconds on the market's clock."""
    round: int
    """Number of the round, from 0."""
    process: str
    """Text that names the process in the scenario."""
    change: str
    """Name of the change, such as ``end``."""
    item: int
    """Item that changes; −1 if the change is about all items, or about none."""
    value: float
    """Factor of the demand; NaN for other changes."""


@dataclass(frozen=True, eq=False)
class EffectsState:
    """Effects of processes between two rounds, as plain arrays."""

    times: TimesOnOffer
    """Times at which items are on offer."""
    shown_times: TimesOnOffer
    """Times at which slates could show items."""
    demand: Floats
    """(P, M) factor by which each process multiplies the demand for each item."""
    stopped: tuple[tuple[int, str], ...]
    """Number of each process that holds the model out of service, with its fallback, in the order of the stops."""
    memory: tuple[dict[str, Any], ...]
    """Memory of each process."""
    exposure: Ints
    """(M,) exposures of each item since the opening."""
    consumption: Ints
    """(M,) consumptions of each item since the opening."""
    served: int
    """Number of visits served since the opening."""

    def arrays(self) -> dict[str, Array]:
        """Named arrays for :func:`numpy.savez`."""
        return {
            **_arrays(self.times, "processes-"),
            **_arrays(self.shown_times, "processes-shown-"),
            "processes-demand": self.demand,
            "processes-exposure": self.exposure,
            "processes-consumption": self.consumption,
            "processes-served": np.array(self.served),
        }

    @property
    def notes(self) -> dict[str, Any]:
        """Memories and stops, for JSON."""
        return {"stopped": self.stopped, "memory": [_plain(memory) for memory in self.memory]}

    @classmethod
    def read(cls, arrays: Mapping[str, Array], notes: Mapping[str, Any]) -> Self:
        """State from the arrays of :meth:`arrays` and from :attr:`notes`.

        Raises:
            KeyError: If a part is missing.
        """
        return cls(
            times=_times(arrays, "processes-"),
            shown_times=_times(arrays, "processes-shown-"),
            demand=arrays["processes-demand"],
            stopped=tuple((int(process), str(fallback)) for process, fallback in notes["stopped"]),
            memory=tuple(_restored(memory) for memory in notes["memory"]),
            exposure=arrays["processes-exposure"],
            consumption=arrays["processes-consumption"],
            served=int(arrays["processes-served"]),
        )


def _arrays(times: TimesOnOffer, prefix: str) -> dict[str, Array]:
    """Arrays of times on offer, with a prefix."""
    return {f"{prefix}{field.name}": getattr(times, field.name) for field in fields(times)}


def _times(arrays: Mapping[str, Array], prefix: str) -> TimesOnOffer:
    """Times on offer from the arrays of :func:`_arrays`."""
    return TimesOnOffer(**{field.name: arrays[f"{prefix}{field.name}"] for field in fields(TimesOnOffer)})


def _plain(memory: Mapping[str, Any]) -> dict[str, Any]:
    """Memory for JSON, in which arrays are mappings."""
    return {
        name: {"array": str(value.dtype), "values": value.tolist()}
        if isinstance(value, np.ndarray)
        else value.item()
        if isinstance(value, np.generic)
        else value
        for name, value in memory.items()
    }


def _restored(memory: Mapping[str, Any]) -> dict[str, Any]:
    """Memory from JSON."""
    return {
        name: np.array(value["values"], value["array"])
        if isinstance(value, dict) and set(value) == {"array", "values"}
        else value
        for name, value in memory.items()
    }


class Effects:
    """Current effects of processes."""

    def __init__(self, times: TimesOnOffer, n_processes: int) -> None:
        self.times = times
        """Times at which items are on offer, whether their providers are in the market or not."""
        self.shown_times = times
        """Times at which slates could show items: an item that ended right after a visit was on offer at this visit."""
        self.demand = np.ones((n_processes, len(times)))
        """(P, M) factor by which each process multiplies the demand for each item."""
        self.stopped: dict[int, str] = {}
        """Number of each process that holds the model out of service → fallback, in the order of the stops."""
        self.memory: list[dict[str, Any]] = [{} for _ in range(n_processes)]
        """Memory of each process."""
        self.happenings: list[Happening] = []
        """Changes by processes in the open round, in the order of time."""
        self.exposure = np.zeros(len(times), np.int64)
        """(M,) exposures of each item in closed rounds."""
        self.consumption = np.zeros(len(times), np.int64)
        """(M,) consumptions of each item in closed rounds."""

    @property
    def fallback(self) -> str | None:
        """Name of the fallback; None if the model serves."""
        return next(reversed(self.stopped.values()), None)

    @property
    def factor(self) -> Float32s | None:
        """(M,) factor of each item's demand; None if all are 1."""
        factor = self.demand.prod(0)
        return None if (factor == 1).all() else factor.astype(np.float32)

    def change_offer(self, items: Ints, tick: int, ends: Ints, *, is_release: bool, was_served: bool) -> None:
        """Release or end items from a tick on.

        Args:
            ends: (M,) ends of all items that the log gives.
            was_served: True if a visit of this tick has been served.
        """
        if is_release:
            self.times = self.times.released(items, tick, ends)
            self.shown_times = self.shown_times.released(items, tick, ends)
        else:
            self.times = self.times.ended(items, tick)
            self.shown_times = self.shown_times.ended(items, tick + was_served)

    def close_round(self, exposure: Ints, consumption: Ints, start: int) -> None:
        """Add the counts of a round with a given start."""
        # The states of the last round are scored once more, those of earlier rounds are not.
        self.times = self.times.since(start)
        self.shown_times = self.shown_times.since(start)
        self.exposure = self.exposure + exposure
        self.consumption = self.consumption + consumption

    def state(self, served: int) -> EffectsState:
        """State between two rounds; ``served`` visits since the opening."""
        return EffectsState(
            times=self.times,
            shown_times=self.shown_times,
            demand=self.demand.copy(),
            stopped=tuple(self.stopped.items()),
            memory=tuple(copy.deepcopy(self.memory)),
            exposure=self.exposure.copy(),
            consumption=self.consumption.copy(),
            served=served,
        )

    def load_state(self, state: EffectsState) -> None:
        """Restore a state."""
        self.times = state.times
        self.shown_times = state.shown_times
        self.demand = state.demand.copy()
        self.stopped = dict(state.stopped)
        self.memory = copy.deepcopy(list(state.memory))
        self.exposure = state.exposure.copy()
        self.consumption = state.consumption.copy()


def require_saved(memory: Mapping[str, Any]) -> None:
    """Refuse a memory that cannot be saved.

    Raises:
        TypeError: If a value is not a number, a text, an array, or a list or mapping of these.
    """
    json.dumps(_plain(memory))
