"""Arms of a study: names, options, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rimsim.config import ScenarioConfig
from rimsim.errors import ConfigError
from rimsim.scenarios.runs import store

CHAIN = ("frozen", "organic", "random", "static")
"""Kinds of controls whose differences add up, from the frozen control to the agent itself. A frozen control never
retrains. The others retrain on as many events as the agent. An organic control takes events of the log. A random
control takes events under random slates. A static control takes events under slates of the warm-up model, which never
learns."""
CONTROLS = (*CHAIN, "yoked")
"""Kinds of controls: those in ``CHAIN``, and yoked. A yoked control retrains on as many events of another market of the
same agent."""
DONE = "done"
"""Name of the file that marks an arm as complete, in the folder of the arm's states."""


def control_name(agent: str, control: str) -> str:
    """Name of an agent's control in tables."""
    return f"{agent}-{control}"


def control_in(name: str) -> str | None:
    """Kind of control in an arm's name; None without control."""
    return next((control for control in CONTROLS if name.endswith(f"-{control}")), None)


def is_control(name: str) -> bool:
    """True for the name of a control."""
    return control_in(name) is not None


def subject_of(name: str) -> str:
    """Agent of an arm or control."""
    control = control_in(name)
    return name if control is None else name.removesuffix(f"-{control}")


def file_name(name: str) -> str:
    """Name of an arm or model in file names."""
    return "".join(letter if letter.isalnum() or letter in "-_.=," else "_" for letter in name)


def part_name(name: str, seed: int) -> str:
    """Beginning of the names of an arm's files."""
    return f"{file_name(name)}-{seed}"


@dataclass(frozen=True)
class StudyOptions:
    """Options of a study, as :func:`rimsim.scenarios.compare` describes them."""

    agents: Sequence[str] | None = None
    frozen: Sequence[str] | None = None
    control: Sequence[str] | None = ("frozen",)
    """Kinds of controls, names from :data:`CONTROLS`. None: the kind ``frozen``; in a sweep, there are then no controls
    unless the option ``frozen`` names agents."""
    seeds: int | Sequence[int] = 3
    certify: bool = True
    ledger: bool = True
    reveal: Sequence[str] = ()
    measures: Sequence[str] = ()
    """Addresses of the user's own measures, such as ``file.py:name``."""
    groups: Sequence[str] = ()
    """Columns of the item table whose groups are reported, besides groups with a guarantee."""

    @classmethod
    def names(cls) -> list[str]:
        """Names of all options."""
        return [field.name for field in fields(cls)]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Options in a config; configs of earlier versions lack some."""
        entries = {name: config[name] for name in cls.names() if name in config}
        # In a config, measures are a mapping. The options have its keys, the addresses of the measures.
        return {
            name: tuple(value) if isinstance(value, list | dict) else value for name, value in entries.items()
        }

    def entries(self) -> dict[str, object]:
        """Entries of a config, without measures."""
        plain = {name: getattr(self, name) for name in self.names() if name != "measures"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


@dataclass(frozen=True)
class Arm:
    """An agent in a scenario at a seed."""

    config: ScenarioConfig
    agent: str
    """Text that describes the agent for :func:`rimsim.agents.make_agent`."""
    name: str
    """Name in tables: the name of the agent, followed by the kind of control."""
    seed: int
    folder: Path
    """The run folder."""
    options: StudyOptions
    """Options of the study. Its measures are given as ``file.py:name``."""
    control: str | None = None
    """Kind of control; None: the agent itself."""
    labels: tuple[tuple[str, object], ...] = ()
    """Name and value of each swept field, for TensorBoard's table of hyperparameters."""
    shared: Path | None = None
    """Folder of the sweep, with results that arms of other points can reuse; None: the run folder."""

    @property
    def group_columns(self) -> tuple[str, ...]:
        """Columns of the item table whose groups are reported."""
        guaranteed = (group.column for group in self.config.exposure.groups)
        return tuple(dict.fromkeys([*guaranteed, *self.options.groups]))

    @property
    def subject(self) -> str:
        """Name of the agent in tables."""
        return subject_of(self.name)

    @property
    def part(self) -> str:
        """Beginning of the names of the arm's files."""
        return part_name(self.name, self.seed)

    def round_file(self, table: str, number: int) -> Path:
        """Path of the arm's part of a table."""
        return self.folder / table / f"{self.part}-{number:03d}.parquet"


def is_done(folder: Path, part: str) -> bool:
    """True if the arm with the given files is complete."""
    return (folder / store.STATES / part / DONE).is_file()


def chosen_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Seeds of a run, from their number or a list.

    Raises:
        ConfigError: If there is no seed, or a seed occurs twice or is negative.
    """
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise ConfigError(
            f"seeds: {seeds!r} is not a choice of seeds. Give a positive number of seeds, or a list of "
            "distinct seeds from 0 up"
        )
    return numbers
