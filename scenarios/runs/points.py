"""Points of a study and their run folders."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from rimsim.config import ScenarioConfig, override
from rimsim.errors import ConfigError
from rimsim.scenarios.runs.store import RunFolder

BETA = "exposure.beta"
"""Name of the field that a sweep varies if no field is given."""
POINTS = "points"
"""Name of a sweep's folder that holds the run folders of its points."""
_TOP = {field.name for field in fields(ScenarioConfig)}
"""Names of the fields at the top level of a scenario. A field below has no such short name: ``rounds`` always means the
scenario's field, and never ``platform.log_window.rounds``."""


@dataclass(frozen=True)
class StudyPoint:
    """A scenario of a study with its run folder."""

    folder: Path
    """Run folder of the point."""
    config: ScenarioConfig
    """Scenario of the point."""
    labels: tuple[tuple[str, object], ...] = ()
    """Short name and value of each swept field, for this point."""

    @property
    def study(self) -> Path:
        """Folder of the point's sweep, or of the comparison itself."""
        return self.folder.parent.parent if self.labels else self.folder


def points_of(folder: Path, base: ScenarioConfig, grid: Mapping[str, Sequence[object]]) -> list[StudyPoint]:
    """Points of a grid; without a grid, only the folder.

    Raises:
        ConfigError: If a field has no value or a value twice, or has the name of a column.
    """
    if not grid:
        return [StudyPoint(folder, base)]
    if not all(grid.values()):
        raise ConfigError(
            f"grid: found {dict(grid)!r}. Give at least one field, and at least one value for each field"
        )
    last_parts = [field.rpartition(".")[2] for field in grid]
    # A field is called by the last part of its dotted name, if no other field has this name.
    short_names = [
        part if last_parts.count(part) == 1 and part not in _TOP else field
        for field, part in zip(grid, last_parts, strict=True)
    ]
    if clashes := {"agent", "seed", "metric", "value"} & set(short_names):
        raise ConfigError(
            f"grid: {clashes.pop()!r} is already a column of the table. Vary a field of the scenario"
        )
    points: dict[str, StudyPoint] = {}
    for values in itertools.product(*grid.values()):
        labels = tuple(zip(short_names, values, strict=True))
        name = ",".join(f"{field}={_file_text(value)}" for field, value in labels)
        if name in points:
            raise ConfigError(f"grid: {name} has a value twice. Give each value once")
        config = override(base, dict(zip(grid, values, strict=True)), origin="grid")
        points[name] = StudyPoint(folder / POINTS / name, config, labels)
    return list(points.values())


def runs_of(sweep: RunFolder) -> list[tuple[StudyPoint, RunFolder]]:
    """Points of a sweep with their runs.

    Raises:
        RunFolderError: If the run of a point has not begun.
    """
    points = points_of(sweep.folder, sweep.scenario, sweep.config["sweep"])
    return [(point, RunFolder.open(point.folder)) for point in points]


def _file_text(value: object) -> str:
    """Value of a field, as part of a folder's name."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)
