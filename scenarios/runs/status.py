"""Status of a run: complete, failed and remaining arms."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet

from rimsim.errors import RunFolderError
from rimsim.scenarios.runs.arms import is_done, part_name
from rimsim.scenarios.runs.schema import TABLES
from rimsim.scenarios.runs.store import (
    CONFIG,
    EVERY_ROUND,
    FAILURES,
    STATES,
    RunFolder,
    again,
    resume_command,
)

ROUND_COLUMNS = list(TABLES["rounds"].columns)
"""Columns of the table of rounds."""


@dataclass(frozen=True)
class Status:
    """Complete, failed and remaining arms of a run."""

    arms: int
    """Number of all arms."""
    complete: frozenset[tuple[str, int]]
    """Agent and seed of each complete arm."""
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
    # The last two tables of ``EVERY_ROUND`` exist only on request.
    tables: tuple[str, ...] = EVERY_ROUND[:3]
    if run.config.get("ledger"):
        tables += ("ledger",)
    for name, seed in itertools.product(run.agents, run.seeds):
        part = part_name(name, seed)
        state_folders = (folder / STATES / part).glob("round-*")
        saved_rounds = [int(path.name.removeprefix("round-")) for path in state_folders]
        n_rounds = run.scenario.rounds if is_done(folder, part) else max(saved_rounds, default=0)
        needed_files = [folder / "rounds" / f"{part}.parquet"] if n_rounds else []
        for number in range(n_rounds):
            needed_files += [folder / table / f"{part}-{number:03d}.parquet" for table in tables]
            # Further tables may lack a round, so only their files that exist are checked.
            needed_files += folder.glob(f"*/{glob.escape(part)}-{number:03d}.parquet")
            needed_files += folder.glob(f"required/{seed}-{number:03d}.parquet")
        for path in dict.fromkeys(needed_files):
            _require_readable(path, again(folder, part))
    for path in folder.glob("opening/[!.]*.parquet"):
        _require_readable(path, "Remove it and resume")


def _require_readable(path: Path, remedy: str) -> None:
    """Refuse a missing or damaged Parquet file, with a remedy."""
    try:
        pyarrow.parquet.read_metadata(path)
    except (OSError, ValueError) as error:
        problem = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read as a table"
        raise RunFolderError(f"{path}: {problem}. {remedy}") from None


def shown_rounds(run: RunFolder) -> pd.DataFrame:
    """Rounds of complete arms, else rounds that all arms have.

    A failed arm has only early rounds, which must not enter a mean over late rounds.
    """
    if is_finished(run):
        return _of_arms(run, run.rounds)
    if not any((run.folder / "rounds").glob("[!.]*.parquet")):
        return pd.DataFrame(columns=ROUND_COLUMNS)
    complete = status_of(run).complete
    rounds = _of_arms(run, run.rounds)
    if complete:
        arms = zip(rounds["agent"], rounds["seed"], strict=True)
        return rounds.loc[[arm in complete for arm in arms]].reset_index(drop=True)
    last_common_round = int(rounds.groupby(["agent", "seed"])["round"].max().min())
    return rounds.loc[rounds["round"] <= last_common_round].reset_index(drop=True)


def _of_arms(run: RunFolder, rounds: pd.DataFrame) -> pd.DataFrame:
    """Rounds, refused without a column or with an unknown arm."""
    missing = [name for name in ROUND_COLUMNS if name not in rounds]
    unknown = [] if missing else sorted(set(rounds["agent"]) - set(run.agents))
    problems = [f"column {name!r} is missing" for name in missing]
    problems += [f"{run.folder / CONFIG} names no arm {name!r}" for name in unknown]
    if problems:
        raise RunFolderError(
            f"{run.folder / 'rounds.parquet'}: {'; '.join(problems)}. Restore the file that the run wrote"
        )
    return rounds


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
