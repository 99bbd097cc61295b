"""The state of a market between two rounds, as plain data; on disk without pickle."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rimsim.errors import RunFolderError
from rimsim.evaluation import DecayEstimate
from rimsim.intensity.persistence import load
from rimsim.intensity.product import save_model
from rimsim.market.arrivals.schedule import Schedule
from rimsim.market.examining import Examined
from rimsim.market.learning import Shown
from rimsim.market.promises import Owed

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from rimsim.intensity.contract import IntensityModel

__all__ = ["MarketState"]

_FORMAT = 4
_FIELDS = tuple(field.name for field in dataclasses.fields(Schedule))
_MAY_BE_NONE = {field.name for field in dataclasses.fields(Schedule) if field.default is None}
_SHOWN = tuple(field.name for field in dataclasses.fields(Shown))


@dataclass(frozen=True, eq=False)
class MarketState:
    """What a market needs to go on at the beginning of a round; everything else follows from config and seeds."""

    round: int
    """The round that is about to begin."""
    model: IntensityModel
    """The model that will serve it."""
    before: IntensityModel | None
    """The model that served the round before, from which cross-fitted ones are retrained; None in round 0."""
    log_counts: NDArray[np.int64]
    """(M,) target events of each item in the platform's log."""
    past: tuple[tuple[int, Schedule], ...]
    """Number and arrivals of each round that is still looked at, oldest first."""
    shown: tuple[Shown | None, ...]
    """What was shown in each of them; None where the platform does not learn from it."""
    examined: Examined
    """What the rounds so far have told of examination by position."""
    events: NDArray[np.int64]
    """(n, 4) what was consumed in them: round (0 for all where users are kept), slot, tick from which it is visible,
    item; by slot, in order of consumption."""
    owed: Owed | None = None
    """What the rounds so far left undelivered of what is promised; None in round 0."""

    def save(self, folder: Path) -> None:
        """Write the state into a folder, which is made.

        Raises:
            ModelError: If the model cannot be saved.
        """
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / "state.npz",
            log_counts=self.log_counts,
            past=np.array([number for number, _ in self.past], np.int64),
            events=self.events,
            examined=self.examined.counts,
            decay=np.array(
                [] if self.examined.estimate is None else dataclasses.astuple(self.examined.estimate)
            ),
            **(
                {}
                if self.owed is None
                else {f"owed-{name}": part for name, part in self.owed._asdict().items()}
            ),
            **{
                f"{field}-{number}": getattr(schedule, field)
                for number, schedule in self.past
                for field in _FIELDS
                if getattr(schedule, field) is not None
            },
            **{
                f"shown-{field}-{number}": getattr(shown, field)
                for (number, _), shown in zip(self.past, self.shown, strict=True)
                if shown is not None
                for field in _SHOWN
            },
        )
        for name, model in (("model", self.model), ("before", self.before)):
            if model is not None:
                save_model(model, folder / name)
        described = {"format": _FORMAT, "round": self.round, "before": self.before is not None}
        (folder / "state.json").write_text(json.dumps(described), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            RunFolderError: If there is no such state, or one of another format.
        """
        try:
            described = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            with np.load(folder / "state.npz", allow_pickle=False) as arrays:
                past = tuple(
                    (number, _schedule({field: arrays.get(f"{field}-{number}") for field in _FIELDS}))
                    for number in arrays["past"].tolist()
                )
                shown = tuple(
                    Shown(**{field: arrays[f"shown-{field}-{number}"] for field in _SHOWN})
                    if f"shown-item-{number}" in arrays
                    else None
                    for number in arrays["past"].tolist()
                )
                log_counts, events = arrays["log_counts"], arrays["events"]
                decay = arrays["decay"].tolist()
                examined = Examined(arrays["examined"], DecayEstimate(*decay) if decay else None)
                owed = (
                    Owed(arrays["owed-items"], arrays["owed-rows"], int(arrays["owed-start"]))
                    if "owed-items" in arrays
                    else None
                )
        except (OSError, ValueError, KeyError) as error:
            raise RunFolderError(f"{folder}: no readable state of a market: {error}") from error
        if described.get("format") != _FORMAT:
            raise RunFolderError(f"{folder}: state format {described.get('format')!r}; allowed: {_FORMAT}")
        return cls(
            round=int(described["round"]),
            model=load(folder / "model"),
            before=load(folder / "before") if described["before"] else None,
            log_counts=log_counts,
            past=past,
            shown=shown,
            examined=examined,
            events=events,
            owed=owed,
        )


def _schedule(arrays: dict[str, Any]) -> Schedule:
    """A schedule from its saved fields; None stands for one that was not saved.

    Raises:
        KeyError: If one is missing that every schedule has.
    """
    missing = [field for field, array in arrays.items() if array is None and field not in _MAY_BE_NONE]
    if missing:
        raise KeyError(missing[0])
    start, stop = int(arrays.pop("start")), int(arrays.pop("stop"))
    return Schedule(**arrays, start=start, stop=stop)
