"""The state of a market between two rounds, as plain data; on disk without pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from rimsim.errors import RunFolderError
from rimsim.intensity.persistence import load
from rimsim.intensity.product import save_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from rimsim.intensity.contract import IntensityModel

__all__ = ["MarketState"]

_FORMAT = 2


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
    past: NDArray[np.int64]
    """(r,) numbers of the rounds that are still looked at, oldest first."""
    events: NDArray[np.int64]
    """(n, 4) what was consumed in them: round (0 for all where users are kept), slot, tick from which it is visible,
    item; by slot, in order of consumption."""

    def save(self, folder: Path) -> None:
        """Write the state into a folder, which is made.

        Raises:
            ModelError: If the model cannot be saved.
        """
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / "state.npz",
            log_counts=self.log_counts,
            past=self.past,
            events=self.events,
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
                found = {name: arrays[name] for name in ("log_counts", "past", "events")}
        except (OSError, ValueError, KeyError) as error:
            raise RunFolderError(f"{folder}: no readable state of a market: {error}") from error
        if described.get("format") != _FORMAT:
            raise RunFolderError(f"{folder}: state format {described.get('format')!r}; allowed: {_FORMAT}")
        return cls(
            round=int(described["round"]),
            model=load(folder / "model"),
            before=load(folder / "before") if described["before"] else None,
            **found,
        )
