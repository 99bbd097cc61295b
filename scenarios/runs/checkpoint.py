"""Checkpoints of arms, from which interrupted runs resume."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rimsim.arrays import Array
from rimsim.errors import AgentError, MarketError, ModelError, RunFolderError
from rimsim.market import MarketState
from rimsim.scenarios.runs.job import DONE
from rimsim.scenarios.runs.store import STATES
from rimsim.system import draft_folder

_AGENT = "agent-"
"""Prefix of the names of an agent's arrays, which no parameter of :func:`numpy.savez` has."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State of an arm between two rounds."""

    market: MarketState
    """The market at the beginning of the next round."""
    arm: Mapping[str, Array]
    """Counts of the arm, by name."""
    agent: Mapping[str, Array]
    """Memory of the agent."""

    def save(self, folder: Path, part: str) -> None:
        """Write the state, and remove the one before it.

        A market whose model cannot be saved leaves none: its arm begins again when the run is resumed.

        Raises:
            AgentError: If the agent's memory holds Python objects.
        """
        place = folder / STATES / part
        old = sorted(place.glob("round-*"))
        new = place / f"round-{self.market.round:04d}"
        try:
            with draft_folder(new) as draft:
                self.market.save(draft)
                arm: dict[str, Any] = dict(self.arm)
                np.savez(draft / "arm.npz", **arm)
                np.savez(draft / "agent.npz", **_plain_arrays(self.agent))
        except (MarketError, ModelError):
            return
        for path in old:
            if path != new:
                shutil.rmtree(path)

    @classmethod
    def latest(cls, folder: Path, part: str, names: Sequence[str]) -> Checkpoint | None:
        """Last state that an arm left, with the named counts.

        Raises:
            RunFolderError: If it cannot be read, or is of an older format.
        """
        states = sorted((folder / STATES / part).glob("round-*"))
        if not states:
            return None
        path = states[-1] / "arm.npz"
        try:
            with np.load(states[-1] / "agent.npz", allow_pickle=False) as arrays:
                agent = {name.removeprefix(_AGENT): arrays[name] for name in arrays}
            with np.load(path, allow_pickle=False) as arrays:
                arm = {name: arrays[name] for name in names}
        except (OSError, ValueError, KeyError) as error:
            raise RunFolderError(
                f"{path}: no readable state of an arm: {error}; allowed: a new run"
            ) from error
        return cls(MarketState.load(states[-1]), arm, agent)


def mark_done(folder: Path, part: str) -> None:
    """Mark an arm complete and remove its states."""
    place = folder / STATES / part
    place.mkdir(parents=True, exist_ok=True)
    (place / DONE).touch()
    for old in place.glob("round-*"):
        shutil.rmtree(old)


def _plain_arrays(state: Mapping[str, Array]) -> dict[str, Any]:
    arrays = {name: np.asarray(value) for name, value in state.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise AgentError(f"state of the agent: {name!r} holds Python objects; allowed: numbers and text")
    return {f"{_AGENT}{name}": array for name, array in arrays.items()}
