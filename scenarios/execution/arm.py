"""The arm of a comparison or sweep: what is executed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rimsim.scenarios.store.arm_names import subject_of
from rimsim.scenarios.store.folders import part_name

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig

    Report: TypeAlias = Callable[[int], None]
    """Called with numbers of what a job has got through."""
    Job: TypeAlias = Callable[["Arm", Report], None]
    """What is done for an arm."""


@dataclass(frozen=True)
class Arm:
    """An agent in a scenario at a seed; plain data, so that it can cross to another process."""

    config: ScenarioConfig
    agent: str
    """Text for :func:`rimsim.agents.make_agent`."""
    name: str
    """In tables: the agent's name, with the kind of control behind it where it is one."""
    seed: int
    folder: Path
    """The run folder."""
    certify: bool
    """Compute certificates, which score every state of a round once more."""
    ledger: bool
    """Write the ledger."""
    truth: bool = False
    """Write what each exposure was truly worth."""
    control: str | None = None
    """The kind of control that it is; None: the agent itself."""
    measures: tuple[str, ...] = ()
    """Places of measures of a user's own."""
    labels: tuple[tuple[str, object], ...] = ()
    """More fields to show in TensorBoard's table of hyperparameters."""
    shared: Path | None = None
    """Where what arms of other points can use too is kept: the folder of the sweep; None: the run folder."""

    @property
    def subject(self) -> str:
        """Name of the agent in tables."""
        return subject_of(self.name)

    @property
    def part(self) -> str:
        """What the arm's files begin with."""
        return part_name(self.name, self.seed)

    def round_file(self, table: str, number: int) -> Path:
        """Where the arm's part of a table lies.

        Args:
            table: Name of the table.
            number: Of the round.
        """
        return self.folder / table / f"{self.part}-{number:03d}.parquet"
