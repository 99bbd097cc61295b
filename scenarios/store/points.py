"""The points of a sweep: every combination of the values of its grid, each with a run folder of its own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from rimsim.config import ScenarioConfig, override
from rimsim.errors import ConfigError
from rimsim.scenarios.store.run_folder import Run, load_run

BETA = "exposure.beta"
"""The field that is swept where none is named."""
POINTS = "points"
"""Folder of a sweep that holds the run folders of its points."""
_TOP = {field.name for field in fields(ScenarioConfig)}
"""Fields that have one name: ``rounds`` is a scenario's, not those of ``platform.log_window.rounds``."""


@dataclass(frozen=True)
class Point:
    """A scenario of a comparison or sweep, and where its run lies."""

    folder: Path
    """Its run folder."""
    config: ScenarioConfig
    """The scenario."""
    labels: tuple[tuple[str, object], ...] = ()
    """Short name and value of each swept field."""

    @property
    def study(self) -> Path:
        """The folder of the sweep that it is a point of, or of the comparison that it is itself."""
        return self.folder.parent.parent if self.labels else self.folder


def points_of(folder: Path, base: ScenarioConfig, grid: Mapping[str, Sequence[object]]) -> list[Point]:
    """The points of a grid; without a field it is one point, which lies in the folder itself.

    Args:
        folder: Of the sweep or comparison.
        base: The scenario whose fields are replaced.
        grid: Dotted field → its values.

    Raises:
        ConfigError: If a field has no value or a value twice, cannot be set so, or is called as a column of the table.
    """
    if not grid:
        return [Point(folder, base)]
    if not all(grid.values()):
        raise ConfigError(f"grid: {dict(grid)!r}; allowed: fields with at least one value each")
    last = [field.rpartition(".")[2] for field in grid]
    short = [
        name if last.count(name) == 1 and name not in _TOP else field
        for field, name in zip(grid, last, strict=True)
    ]
    if taken := {"agent", "seed", "metric", "value"} & set(short):
        raise ConfigError(f"grid: {taken.pop()!r} is a column of the table; allowed: fields of the scenario")
    points: dict[str, Point] = {}
    for values in itertools.product(*grid.values()):
        labels = tuple(zip(short, values, strict=True))
        name = ",".join(f"{field}={_plain(value)}" for field, value in labels)
        if name in points:
            raise ConfigError(f"grid: {name} is given twice; allowed: distinct values")
        config = override(base, dict(zip(grid, values, strict=True)), origin="grid")
        points[name] = Point(folder / POINTS / name, config, labels)
    return list(points.values())


def runs_of(sweep: Run) -> list[tuple[Point, Run]]:
    """The points of a sweep with their runs.

    Raises:
        RunFolderError: If one has not been begun.
    """
    points = points_of(sweep.folder, sweep.scenario, sweep.config["sweep"])
    return [(point, load_run(point.folder)) for point in points]


def _plain(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)
