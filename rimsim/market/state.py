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
from rimsim.market.examining import Examined
from rimsim.market.kept_rounds import KeptRounds
from rimsim.market.promises import Owed
from rimsim.market.providers import Offer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from rimsim.intensity.contract import IntensityModel

__all__ = ["MarketState"]

_FORMAT = 6


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
    past: KeptRounds
    """The rounds that are still looked at."""
    examined: Examined
    """What the rounds so far have told of examination by position."""
    offer: Offer
    """Which providers are there in the round that is about to begin."""
    learnt: KeptRounds | None = None
    """What the platform of a control learns from in place of them; None for any other platform."""
    owed: Owed | None = None
    """What the rounds so far left undelivered of what is promised; None in round 0."""

    def save(self, folder: Path) -> None:
        """Write the state into a folder, which is made.

        Raises:
            ModelError: If the model cannot be saved.
        """
        folder.mkdir(parents=True, exist_ok=True)
        estimate = self.examined.estimate
        arrays: dict[str, Any] = self.past.arrays("past-") | {
            "log_counts": self.log_counts,
            **self.offer.arrays(),
            "examined": self.examined.counts,
            "decay": np.array([] if estimate is None else dataclasses.astuple(estimate)),
        }
        if self.owed is not None:
            arrays |= {f"owed-{name}": part for name, part in self.owed._asdict().items()}
        if self.learnt is not None:
            arrays |= self.learnt.arrays("learnt-")
        np.savez(folder / "state.npz", **arrays)
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
                log_counts = arrays["log_counts"]
                past = KeptRounds.from_arrays(arrays, "past-")
                learnt = KeptRounds.from_arrays(arrays, "learnt-") if "learnt-rounds" in arrays else None
                offer = Offer.from_arrays(arrays)
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
            examined=examined,
            offer=offer,
            learnt=learnt,
            owed=owed,
        )
