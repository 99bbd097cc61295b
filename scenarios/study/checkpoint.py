"""How far an arm has come, on disk between rounds, so that an interrupted run can go on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.errors import MarketError, ModelError, RunFolderError
from rimsim.files import draft_folder
from rimsim.market import MarketState
from rimsim.scenarios.store.folders import STATES
from rimsim.scenarios.store.status import DONE
from rimsim.scenarios.study.adoption import AdoptionCount

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ArmProgress", "latest", "mark_done", "save"]


@dataclass(frozen=True, eq=False)
class ArmProgress:
    """What an arm needs to go on beside its tables."""

    market: MarketState
    """The market at the beginning of the next round."""
    first: NDArray[np.int64]
    """(M,) exposures of round 0."""
    adoption: AdoptionCount
    """Consumptions counted so far."""
    served: int
    """Arrivals served so far."""
    bound_price: NDArray[np.float64] | None
    """(M,) prices of the last round's bound, from which the next one's starts; None without certificates."""
    agent: Mapping[str, NDArray[np.float64]]
    """What the agent remembers."""


def _place(folder: Path, part: str) -> Path:
    return folder / STATES / part


def mark_done(folder: Path, part: str) -> None:
    """Note that an arm is complete; its states go."""
    place = _place(folder, part)
    place.mkdir(parents=True, exist_ok=True)
    (place / DONE).touch()
    for old in place.glob("round-*"):
        shutil.rmtree(old)


def save(folder: Path, part: str, progress: ArmProgress) -> None:
    """Keep the state at the beginning of the market's next round; the one before it goes.

    A market whose model cannot be saved keeps none: its arm begins anew when the run is resumed.
    """
    place = _place(folder, part)
    old = sorted(place.glob("round-*"))
    new = place / f"round-{progress.market.round:04d}"
    adoption, price = progress.adoption, progress.bound_price
    try:
        with draft_folder(new) as draft:
            progress.market.save(draft)
            np.savez(
                draft / "arm.npz",
                first=progress.first,
                served=np.int64(progress.served),
                bound_price=np.zeros(0) if price is None else price,
                ticks=np.concatenate(adoption.ticks),
                items=np.concatenate(adoption.items),
                arrivals=np.concatenate(adoption.arrivals),
            )
            np.savez(draft / "agent.npz", allow_pickle=False, **progress.agent)
    except (MarketError, ModelError):
        return
    for path in old:
        if path != new:
            shutil.rmtree(path)


def latest(folder: Path, part: str, release: NDArray[np.int64]) -> ArmProgress | None:
    """The last state that an arm left, or None.

    Raises:
        RunFolderError: If it cannot be read, or is of another version.
    """
    states = sorted(_place(folder, part).glob("round-*"))
    if not states:
        return None
    path = states[-1] / "arm.npz"
    try:
        with np.load(states[-1] / "agent.npz", allow_pickle=False) as arrays:
            remembered = dict(arrays)
        with np.load(path, allow_pickle=False) as arrays:
            adoption = AdoptionCount(release, [arrays["ticks"]], [arrays["items"]], [arrays["arrivals"]])
            first, served, price = arrays["first"], int(arrays["served"]), arrays["bound_price"]
    except (OSError, ValueError, KeyError) as error:
        raise RunFolderError(f"{path}: no readable state of an arm: {error}; allowed: a new run") from error
    return ArmProgress(
        market=MarketState.load(states[-1]),
        first=first,
        adoption=adoption,
        served=served,
        bound_price=price if len(price) else None,
        agent=remembered,
    )
