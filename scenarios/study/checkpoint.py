"""How far an arm has come, on disk between rounds, so that an interrupted run can go on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.errors import AgentError, MarketError, ModelError, RunFolderError
from rimsim.market import MarketState
from rimsim.scenarios.store.folders import STATES
from rimsim.scenarios.store.status import DONE
from rimsim.scenarios.study.adoption import AdoptionCount
from rimsim.system import draft_folder

_AGENT = "agent-"
"""What the names of an agent's arrays begin with on disk."""


@dataclass(frozen=True, eq=False)
class ArmProgress:
    """What an arm needs to go on beside its tables."""

    market: MarketState
    """The market at the beginning of the next round."""
    first: Ints
    """(M,) exposures of round 0."""
    adoption: AdoptionCount
    """Consumptions counted so far."""
    served: int
    """Arrivals served so far."""
    bound_price: Floats | None
    """(M,) prices of the last round's bound, from which the next one's starts; None without certificates."""
    agent: Mapping[str, Floats]
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

    Raises:
        AgentError: If what the agent remembers holds Python objects.
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
            np.savez(draft / "agent.npz", **_of_agent(progress.agent))
    except (MarketError, ModelError):
        return
    for path in old:
        if path != new:
            shutil.rmtree(path)


def _of_agent(state: Mapping[str, Floats]) -> dict[str, Any]:
    """What an agent remembers, by names that no parameter of :func:`numpy.savez` has.

    Raises:
        AgentError: If an entry holds Python objects.
    """
    arrays = {name: np.asarray(value) for name, value in state.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise AgentError(f"state of the agent: {name!r} holds Python objects; allowed: numbers and text")
    return {f"{_AGENT}{name}": array for name, array in arrays.items()}


def latest(folder: Path, part: str, release: Ints) -> ArmProgress | None:
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
            remembered = {name.removeprefix(_AGENT): arrays[name] for name in arrays}
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
