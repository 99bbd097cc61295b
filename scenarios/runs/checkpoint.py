"""Checkpoints: states of arms between two rounds."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rimsim.arrays import Array
from rimsim.errors import DAMAGED, AgentError, MarketError, ModelError, RunFolderError, one_line
from rimsim.market import MarketState
from rimsim.scenarios.runs.arms import DONE, Arm
from rimsim.scenarios.runs.files import write_arrays
from rimsim.scenarios.runs.store import STATES, again
from rimsim.system import draft_folder

_AGENT = "agent-"
"""Prefix of the names of an agent's arrays, so that they differ from parameters of :func:`numpy.savez`."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State of an arm between two rounds."""

    market: MarketState
    """State of the market at the beginning of the next round."""
    arm: Mapping[str, Array]
    """Name → array of the arm's recorder, such as the exposures of round 0 and the consumptions so far."""
    agent: Mapping[str, Array]
    """Name of an array → array of the agent's memory."""

    def save(self, folder: Path, part: str) -> None:
        """Write the arm's state, and remove the previous state.

        If the model cannot be saved, no state is written, and the arm begins again when the run is resumed.

        Raises:
            AgentError: If the agent's memory holds Python objects.
        """
        arm_folder = folder / STATES / part
        state_folders = sorted(arm_folder.glob("round-*"))
        new_folder = arm_folder / f"round-{self.market.round:04d}"
        try:
            with draft_folder(new_folder) as draft:
                self.market.save(draft)
                write_arrays(draft / "arm.npz", self.arm)
                write_arrays(draft / "agent.npz", _plain_arrays(self.agent))
        except (MarketError, ModelError):
            return
        # Earlier states are removed last, so that there is a complete state at any time.
        for state_folder in state_folders:
            if state_folder != new_folder:
                shutil.rmtree(state_folder)

    @classmethod
    def latest(cls, folder: Path, part: str, names: Sequence[str]) -> Checkpoint | None:
        """Last saved state of an arm, with the named counts.

        Raises:
            RunFolderError: If the state cannot be read, or is of an older format.
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
            return cls(MarketState.load(states[-1]), arm, agent)
        except (*DAMAGED, ModelError, RunFolderError) as error:
            raise RunFolderError(
                f"{path}: the state of the arm cannot be read: {one_line(error)}. {again(folder, part)}"
            ) from error


def mark_done(folder: Path, part: str) -> None:
    """Record that an arm is complete, and remove its states."""
    arm_folder = folder / STATES / part
    arm_folder.mkdir(parents=True, exist_ok=True)
    (arm_folder / DONE).touch()
    for state_folder in arm_folder.glob("round-*"):
        shutil.rmtree(state_folder)


def _plain_arrays(state: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of an agent's memory by prefixed name, without objects."""
    arrays = {name: np.asarray(value) for name, value in state.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise AgentError(f"state of the agent: {name!r} holds Python objects. Expected numbers and text")
    return {f"{_AGENT}{name}": array for name, array in arrays.items()}


def open_round(arm: Arm) -> int:
    """Number of the first round that an arm lacks."""
    table_file = arm.folder / "rounds" / f"{arm.part}.parquet"
    if not table_file.is_file():
        return 0
    last_round = int(pd.read_parquet(table_file, columns=["round"])["round"].max())
    return last_round + 1
