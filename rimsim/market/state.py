"""The state of a market between two rounds, as plain data; on disk without pickle."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rimsim.arrays import Ints
from rimsim.errors import RunFolderError
from rimsim.evaluation import DecayEstimate
from rimsim.intensity.persistence import load, save_model
from rimsim.market.examining import Examined
from rimsim.market.kept_rounds import KeptRounds
from rimsim.market.providers import Offer
from rimsim.requirements.carry_over import CarryOver

if TYPE_CHECKING:
    from rimsim.intensity.contract import IntensityModel


_FORMAT = 6


@dataclass(frozen=True, eq=False)
class PlatformState:
    """What the platform is at the beginning of a round."""

    model: IntensityModel
    """The model that will serve it."""
    before: IntensityModel | None
    """The model that served the round before, from which cross-fitted ones are retrained; None in round 0."""
    log_counts: Ints
    """(M,) target events of each item in the platform's log."""
    examined: Examined
    """What the rounds so far have told of examination by position."""
    past: KeptRounds
    """The rounds that are still looked at."""
    learnt: KeptRounds | None = None
    """What the platform of a control learns from in place of them; None for any other platform."""


@dataclass(frozen=True, eq=False)
class MarketState:
    """What a market needs to go on at the beginning of a round; everything else follows from config and seeds."""

    round: int
    """The round that is about to begin."""
    platform: PlatformState
    """Who will serve it."""
    offer: Offer
    """Which providers are there in it."""
    carry_over: CarryOver | None = None
    """Required and undelivered exposures of the rounds so far; None in round 0."""

    def save(self, folder: Path) -> None:
        """Write the state into a folder, which is made.

        Raises:
            ModelError: If the model cannot be saved.
        """
        folder.mkdir(parents=True, exist_ok=True)
        platform = self.platform
        estimate = platform.examined.estimate
        arrays: dict[str, Any] = platform.past.arrays("past-") | {
            "log_counts": platform.log_counts,
            **self.offer.arrays(),
            "examined": platform.examined.counts,
            "decay": np.array([] if estimate is None else dataclasses.astuple(estimate)),
        }
        if self.carry_over is not None:
            arrays |= {f"owed-{name}": part for name, part in self.carry_over._asdict().items()}
        if platform.learnt is not None:
            arrays |= platform.learnt.arrays("learnt-")
        np.savez(folder / "state.npz", **arrays)
        for name, model in (("model", platform.model), ("before", platform.before)):
            if model is not None:
                save_model(model, folder / name)
        described = {"format": _FORMAT, "round": self.round, "before": platform.before is not None}
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
                log_counts = arrays["log_counts"]
                past = KeptRounds.from_arrays(arrays, "past-")
                learnt = KeptRounds.from_arrays(arrays, "learnt-") if "learnt-rounds" in arrays else None
                offer = Offer.from_arrays(arrays)
                decay = arrays["decay"].tolist()
                examined = Examined(arrays["examined"], DecayEstimate(*decay) if decay else None)
                carry_over = (
                    CarryOver(arrays["owed-items"], arrays["owed-rows"], int(arrays["owed-start"]))
                    if "owed-items" in arrays
                    else None
                )
        except (OSError, ValueError, KeyError) as error:
            raise RunFolderError(f"{folder}: no readable state of a market: {error}") from error
        if described.get("format") != _FORMAT:
            raise RunFolderError(f"{folder}: state format {described.get('format')!r}; allowed: {_FORMAT}")
        platform = PlatformState(
            model=load(folder / "model"),
            before=load(folder / "before") if described["before"] else None,
            log_counts=log_counts,
            examined=examined,
            past=past,
            learnt=learnt,
        )
        return cls(int(described["round"]), platform, offer, carry_over)
