"""State of a market between two rounds, on disk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from rimsim.arrays import Array, Ints
from rimsim.errors import DAMAGED, RunFolderError
from rimsim.evaluation import DecayEstimate
from rimsim.intensity.contract import IntensityModel
from rimsim.intensity.impressions import LayerFit
from rimsim.intensity.persistence import save_model
from rimsim.intensity.registry import load
from rimsim.market.examination import Examined
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.past_round import PastRound, Shown
from rimsim.market.processes.effects import EffectsState
from rimsim.market.providers import Offer
from rimsim.market.records import Schedule
from rimsim.market.trainings import Training
from rimsim.requirements.rows import CarryOver

_FORMAT = 11
"""Number of the file format, raised with every change."""
_COLUMNS = tuple(field.name for field in dataclasses.fields(Schedule))
"""Names of a schedule's columns."""
_OPTIONAL = {field.name for field in dataclasses.fields(Schedule) if field.default is None}
"""Names of a schedule's columns that may be None."""
_FIT = tuple(field.name for field in dataclasses.fields(LayerFit))
"""Names of the arrays in a fit of the impression layer."""
_SHOWN = tuple(field.name for field in dataclasses.fields(Shown))
"""Names of the arrays in a record of impressions."""


@dataclass(frozen=True, eq=False)
class KeptRounds:
    """Past rounds as plain arrays."""

    schedules: tuple[tuple[int, Schedule], ...]
    """Number and schedule of each round, oldest first."""
    shown: tuple[Shown | None, ...]
    """Impressions of each round; None if the platform does not learn from them."""
    events: Ints
    """(n, 4) consumptions, sorted by slot: round (always 0 if users stay), slot, tick of visibility, item."""

    @classmethod
    def of(cls, rounds: Sequence[PastRound], *, keeps_users: bool) -> Self:
        """Arrays of the rounds, oldest first."""
        # Users who stay have the same histories in all rounds, which are saved once, as those of round 0.
        histories_of = {0 if keeps_users else past.number: past.histories for past in rounds}
        events = [
            np.column_stack(np.broadcast_arrays(number, *histories.all_events()))
            for number, histories in histories_of.items()
        ]
        return cls(
            schedules=tuple((past.number, past.schedule) for past in rounds),
            shown=tuple(past.shown for past in rounds),
            events=np.concatenate([np.zeros((0, 4), np.int64), *events]),
        )

    def rounds(self, logged: LoggedPast, *, keeps_users: bool) -> list[PastRound]:
        """Rounds restored from the arrays."""
        histories_of: dict[int, Histories] = {}
        rounds = []
        for (number, schedule), shown in zip(self.schedules, self.shown, strict=True):
            key = 0 if keeps_users else number
            if key not in histories_of:
                slots, ticks, items = self.events[self.events[:, 0] == key, 1:].T.copy()
                histories_of[key] = Histories(schedule, logged)
                histories_of[key].append(slots, ticks, items)
            histories = histories_of[key]
            rounds.append(PastRound(number=number, schedule=schedule, histories=histories, shown=shown))
        return rounds

    def arrays(self, prefix: str) -> dict[str, Array]:
        """Named arrays for :func:`numpy.savez`; all names begin with ``prefix``."""
        named_arrays: dict[str, Array] = {
            f"{prefix}rounds": np.array([number for number, _ in self.schedules], np.int64),
            f"{prefix}events": self.events,
        }
        for (number, schedule), shown in zip(self.schedules, self.shown, strict=True):
            for column in _COLUMNS:
                if getattr(schedule, column) is not None:
                    named_arrays[f"{prefix}{column}-{number}"] = np.asarray(getattr(schedule, column))
            if shown is not None:
                named_arrays |= {
                    f"{prefix}shown-{column}-{number}": getattr(shown, column) for column in _SHOWN
                }
        return named_arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], prefix: str) -> Self:
        """Rounds restored from the arrays of :meth:`arrays`.

        Raises:
            KeyError: If an array is missing.
        """
        numbers = arrays[f"{prefix}rounds"].tolist()
        return cls(
            schedules=tuple((number, _schedule(arrays, prefix, number)) for number in numbers),
            shown=tuple(_impressions(arrays, f"{prefix}shown-{{}}-{number}") for number in numbers),
            events=arrays[f"{prefix}events"],
        )


def _impressions(arrays: Mapping[str, Array], name: str) -> Shown | None:
    """Impressions from saved arrays; None without impressions.

    ``name`` is a pattern of the arrays' names, with ``{}`` in the place of the column.
    """
    if name.format("item") not in arrays:
        return None
    return Shown(**{column: arrays[name.format(column)] for column in _SHOWN})


def _layer_fits(stacked: Mapping[str, Array]) -> tuple[LayerFit, ...]:
    """Fits whose arrays were stacked, one row per fit."""
    rows = zip(*(stacked[name] for name in _FIT), strict=True)
    return tuple(LayerFit(**dict(zip(_FIT, row, strict=True))) for row in rows)


def _schedule(arrays: Mapping[str, Array], prefix: str, number: int) -> Schedule:
    """Schedule of a round; columns not saved are None."""
    columns: dict[str, Any] = {
        column: arrays[f"{prefix}{column}-{number}"]
        for column in _COLUMNS
        if column not in _OPTIONAL or f"{prefix}{column}-{number}" in arrays
    }
    columns |= {name: int(columns[name]) for name in ("start", "stop")}
    if "forecast" in columns:
        columns["forecast"] = float(columns["forecast"])
    return Schedule(**columns)


@dataclass(frozen=True, eq=False)
class PlatformState:
    """State of the platform at the beginning of a round."""

    model: IntensityModel
    """Model that will serve the round."""
    live: Training | None
    """Training of this model, from whose start cross-fitted models are retrained; None before the first training."""
    log_counts: Ints
    """(M,) target events of each item in the platform's log."""
    examined: Examined
    """Evidence of the examination of positions, from the rounds so far."""
    past: KeptRounds
    """Past rounds whose data are still needed."""
    fits: tuple[LayerFit, ...]
    """Fits of the impression layer, one per pair of memories."""
    waiting: Shown | None = None
    """Scored slates with outcomes that are not yet known; None if all outcomes are known."""
    learnt: KeptRounds | None = None
    """Training data of a control's platform, which replace ``past``; None for any other platform."""
    trainings: tuple[Training, ...] = ()
    """Trainings whose models are not live yet, in the order of their starts."""

    @property
    def all_trainings(self) -> tuple[Training, ...]:
        """Trainings of the serving model and of later models."""
        return self.trainings if self.live is None else (self.live, *self.trainings)


@dataclass(frozen=True, eq=False)
class MarketState:
    """State of a market (without its config) before a round."""

    round: int
    """Number of the round that is about to begin."""
    platform: PlatformState
    """Platform that will serve the round."""
    offer: Offer
    """Providers who are in the market in the round."""
    carry_over: CarryOver | None = None
    """Exposures required minus exposures delivered in the rounds so far, negative after over-delivery; None in
    round 0."""
    effects: EffectsState | None = None
    """Effects of processes so far, and their memory; None without processes."""

    def save(self, folder: Path) -> None:
        """Write the state into a folder, created if missing.

        Raises:
            ModelError: If the model cannot be saved.
        """
        folder.mkdir(parents=True, exist_ok=True)
        platform = self.platform
        estimate = platform.examined.estimate
        arrays: dict[str, Any] = platform.past.arrays("past-") | {
            "log_counts": platform.log_counts,
            **self.offer.arrays(),
            **{f"layer-{name}": np.stack([getattr(fit, name) for fit in platform.fits]) for name in _FIT},
            "examined": platform.examined.counts,
            "decay": np.array([] if estimate is None else dataclasses.astuple(estimate)),
        }
        if self.carry_over is not None:
            arrays |= {f"owed-{name}": part for name, part in self.carry_over._asdict().items()}
        if platform.waiting is not None:
            arrays |= {f"waiting-{column}": getattr(platform.waiting, column) for column in _SHOWN}
        if platform.learnt is not None:
            arrays |= platform.learnt.arrays("learnt-")
        if self.effects is not None:
            arrays |= self.effects.arrays()
        np.savez(folder / "state.npz", **arrays)
        save_model(platform.model, folder / "model")
        for number, training in enumerate(platform.all_trainings):
            save_model(training.base, folder / f"base-{number}")
        header = {
            "format": _FORMAT,
            "round": self.round,
            "is_trained": platform.live is not None,
            "trainings": [training.numbers for training in platform.all_trainings],
            "processes": None if self.effects is None else self.effects.notes,
        }
        (folder / "state.json").write_text(json.dumps(header), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """State from a folder that :meth:`save` wrote.

        Raises:
            RunFolderError: If the folder has no state, or a state of another format.
        """
        try:
            header = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            with np.load(folder / "state.npz", allow_pickle=False) as arrays:
                log_counts = arrays["log_counts"]
                past = KeptRounds.from_arrays(arrays, "past-")
                learnt = KeptRounds.from_arrays(arrays, "learnt-") if "learnt-rounds" in arrays else None
                fits = _layer_fits({name: arrays[f"layer-{name}"] for name in _FIT})
                waiting = _impressions(arrays, "waiting-{}")
                offer = Offer.from_arrays(arrays)
                decay = arrays["decay"].tolist()
                examined = Examined(arrays["examined"], DecayEstimate(*decay) if decay else None)
                carry_over = None
                if "owed-items" in arrays:
                    start = int(arrays["owed-start"])
                    carry_over = CarryOver(arrays["owed-items"], arrays["owed-rows"], start)
                notes = header.get("processes")
                effects = None if notes is None else EffectsState.read(arrays, notes)
        except DAMAGED as error:
            raise RunFolderError(f"{folder}: no state of a market can be read there: {error}") from error
        if header.get("format") != _FORMAT:
            raise RunFolderError(
                f"{folder}: the state has format {header.get('format')!r}. Expected format {_FORMAT}"
            )
        trainings = [
            Training(base=load(folder / f"base-{number}"), **numbers)
            for number, numbers in enumerate(header["trainings"])
        ]
        platform = PlatformState(
            live=trainings.pop(0) if header["is_trained"] else None,
            trainings=tuple(trainings),
            model=load(folder / "model"),
            log_counts=log_counts,
            examined=examined,
            past=past,
            fits=fits,
            waiting=waiting,
            learnt=learnt,
        )
        return cls(
            round=int(header["round"]),
            platform=platform,
            offer=offer,
            carry_over=carry_over,
            effects=effects,
        )
