"""Points of a study: status and digests of their runs."""

from __future__ import annotations

import glob
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd
import pyarrow.parquet

from rimsim.config import ScenarioConfig, override
from rimsim.errors import ConfigError, MissingTableError, RunFolderError
from rimsim.scenarios.kinds.registry import KINDS
from rimsim.scenarios.runs.arms import is_done, part_name
from rimsim.scenarios.runs.schema import TABLES
from rimsim.scenarios.runs.store import EVERY_ROUND, FAILURES, STATES, RunFolder, again, resume_command

# -- points of a sweep ----------------------------------------------------------------------------------------------
BETA = "exposure.beta"
"""Field that is swept if no field is named."""
POINTS = "points"
"""Folder of a sweep that holds the run folders of its points."""
_TOP = {field.name for field in fields(ScenarioConfig)}
"""Fields at the top of a scenario: ``rounds`` means that field, not ``platform.log_window.rounds``."""


@dataclass(frozen=True)
class StudyPoint:
    """A scenario of a study with its run folder."""

    folder: Path
    """Run folder of the point."""
    config: ScenarioConfig
    """Scenario of the point."""
    labels: tuple[tuple[str, object], ...] = ()
    """Short name and value of each swept field."""

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
    last = [field.rpartition(".")[2] for field in grid]
    short = [
        name if last.count(name) == 1 and name not in _TOP else field
        for field, name in zip(grid, last, strict=True)
    ]
    if taken := {"agent", "seed", "metric", "value"} & set(short):
        raise ConfigError(
            f"grid: {taken.pop()!r} is already a column of the table. Vary a field of the scenario"
        )
    points: dict[str, StudyPoint] = {}
    for values in itertools.product(*grid.values()):
        labels = tuple(zip(short, values, strict=True))
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
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)


# -- status ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Status:
    """Complete, failed and remaining arms of a run."""

    arms: int
    """Number of all arms."""
    complete: frozenset[tuple[str, int]]
    """(agent, seed) of each complete arm."""
    failed: tuple[Path, ...]
    """Files with the tracebacks of failed arms."""


def is_finished(run: RunFolder) -> bool:
    """True if the tables of a comparison have been joined."""
    return (run.folder / "rounds.parquet").is_file()


def status_of(run: RunFolder) -> Status:
    """Status of a comparison or of a sweep's point."""
    arms = [(name, seed) for name in run.agents for seed in run.seeds]
    is_joined = is_finished(run)
    complete = [arm for arm in arms if is_joined or is_done(run.folder, part_name(*arm))]
    failed = () if is_joined else tuple(sorted((run.folder / FAILURES).glob("[!.]*.txt")))
    return Status(len(arms), frozenset(complete), failed)


def require_parts(run: RunFolder) -> None:
    """Refuse to resume a run with missing or damaged parts.

    Raises:
        RunFolderError: If a part is missing or damaged; the message names the file and the remedy.
    """
    folder = run.folder
    tables = EVERY_ROUND[:3] + ("ledger",) * bool(run.config.get("ledger"))
    for name, seed in itertools.product(run.agents, run.seeds):
        part = part_name(name, seed)
        states = [int(path.name[6:]) for path in (folder / STATES / part).glob("round-*")]
        rounds = run.scenario.rounds if is_done(folder, part) else max(states, default=0)
        needed = [folder / "rounds" / f"{part}.parquet"] * bool(rounds)
        for number in range(rounds):
            needed += [folder / table / f"{part}-{number:03d}.parquet" for table in tables]
            needed += folder.glob(f"*/{glob.escape(part)}-{number:03d}.parquet")
            needed += folder.glob(f"required/{seed}-{number:03d}.parquet")
        for path in dict.fromkeys(needed):
            _require_readable(path, again(folder, part))
    for path in folder.glob("opening/[!.]*.parquet"):
        _require_readable(path, "Remove it and resume")


def _require_readable(path: Path, remedy: str) -> None:
    try:
        pyarrow.parquet.read_metadata(path)
    except (OSError, ValueError) as error:
        said = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read as a table"
        raise RunFolderError(f"{path}: {said}. {remedy}") from None


def shown_rounds(run: RunFolder) -> pd.DataFrame:
    """Rounds of complete arms, else rounds that all arms have.

    A failed arm has only early rounds, which must not enter a mean over late rounds.
    """
    if is_finished(run):
        return run.rounds
    if not any((run.folder / "rounds").glob("[!.]*.parquet")):
        return pd.DataFrame(columns=["agent", "seed", "round", "metric", "value"])
    complete = status_of(run).complete
    rounds = run.rounds
    if complete:
        arms = zip(rounds["agent"], rounds["seed"], strict=True)
        return rounds.loc[[arm in complete for arm in arms]].reset_index(drop=True)
    common = int(rounds.groupby(["agent", "seed"])["round"].max().min())
    return rounds.loc[rounds["round"] <= common].reset_index(drop=True)


def status_note(run: RunFolder, points: Sequence[RunFolder]) -> str | None:
    """Sentence about failed and unfinished arms, if any.

    A comparison has one point, which is the comparison itself.
    """
    folder = run.folder
    statuses = [status_of(point) for point in points]
    arms = sum(status.arms for status in statuses)
    failed = [path for status in statuses for path in status.failed]
    n_unfinished = arms - sum(len(status.complete) for status in statuses) - len(failed)
    parts = []
    if failed:
        files = ", ".join(str(path.relative_to(folder)) for path in failed)
        parts.append(f"{len(failed)} of {arms} arms failed: {folder}/ holds {files}")
    if n_unfinished > 0:
        parts.append(
            f"{n_unfinished} of {arms} arms are not finished: {resume_command(run)} goes on with them"
        )
    return "; ".join(parts) or None


# -- digests --------------------------------------------------------------------------------------------------------
_ALWAYS = ("rounds", "arrivals", "required")
"""Tables of every comparison."""


def digest(run: RunFolder) -> str:
    """Digest of the tables of a run and its points.

    Equal runs have equal digests, for any batches, workers or machines.

    Raises:
        MissingTableError: If a table is missing.
    """
    hasher = hashlib.sha256()
    if run.kind == "sweep":
        digests = {point.folder.name: digest(point_run) for point, point_run in runs_of(run)}
        for name in sorted(digests):
            hasher.update(f"{name} {digests[name]}\n".encode())
        return hasher.hexdigest()
    for name, content in _content(run).items():
        hasher.update(name.encode() + content if run.kind == "comparison" else content)
    return hasher.hexdigest()


def different_tables(first: RunFolder, second: RunFolder) -> list[str]:
    """Names of tables whose content differs between two comparisons."""
    first_content = _content(first)
    second_content = _content(second)
    return [
        name for name in first_content | second_content if first_content.get(name) != second_content.get(name)
    ]


def _content(run: RunFolder) -> dict[str, bytes]:
    """Name of a table → hashes of its rows."""
    contents: dict[str, bytes] = {}
    for name in KINDS[run.kind].tables:
        try:
            table: pd.DataFrame | None = getattr(run, name)
        except MissingTableError:
            if run.kind != "comparison" or name in _ALWAYS:
                raise
            continue
        if table is None:
            continue
        if run.kind == "comparison":
            order = list(TABLES[name].order)
            of_arms = ["agent"] if "agent" in table and "agent" not in order else []
            table = table.sort_values(of_arms + order, kind="stable").reset_index(drop=True)
        contents[name] = pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes()
    return contents
