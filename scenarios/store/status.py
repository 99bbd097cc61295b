"""The status of a run: which arms are complete, which failed, which are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from rimsim.scenarios.store.folders import FAILURES, STATES, part_name
from rimsim.scenarios.store.run_folder import resume_command

if TYPE_CHECKING:
    from rimsim.scenarios.store.run_folder import Run


DONE = "done"
"""File in the folder of an arm's states that says that it is complete."""


@dataclass(frozen=True)
class Status:
    """Arms of a run by what became of them."""

    arms: int
    """All of them."""
    complete: frozenset[tuple[str, int]]
    """(agent, seed) of those that are complete."""
    failed: tuple[Path, ...]
    """What those that failed left behind."""


def is_done(folder: Path, part: str) -> bool:
    """Whether an arm is complete.

    Args:
        folder: The run folder.
        part: The arm's files begin so.
    """
    return (folder / STATES / part / DONE).is_file()


def is_finished(run: Run) -> bool:
    """Whether every arm of a comparison is complete and their tables have been joined."""
    return (run.folder / "rounds.parquet").is_file()


def status_of(run: Run) -> Status:
    """The status of a comparison.

    Args:
        run: The comparison, or a point of a sweep.
    """
    arms = [(name, seed) for name in run.agents for seed in run.seeds]
    done = is_finished(run)
    complete = [arm for arm in arms if done or is_done(run.folder, part_name(*arm))]
    failed = () if done else tuple(sorted((run.folder / FAILURES).glob("[!.]*.txt")))
    return Status(len(arms), frozenset(complete), failed)


def shown_rounds(run: Run) -> pd.DataFrame:
    """What tables are made of: the rounds of the arms that are complete, or, where none is, those that all have.

    A mean over late rounds must not be of the early rounds of an arm that failed.

    Args:
        run: The comparison.

    Returns:
        As ``run.rounds``; without rows where no round is finished.
    """
    if is_finished(run):
        return run.rounds
    if not any((run.folder / "rounds").glob("[!.]*.parquet")):
        return pd.DataFrame(columns=["agent", "seed", "round", "metric", "value"])
    complete, rounds = status_of(run).complete, run.rounds
    if complete:
        arms = zip(rounds["agent"], rounds["seed"], strict=True)
        return rounds.loc[[arm in complete for arm in arms]].reset_index(drop=True)
    common = int(rounds.groupby(["agent", "seed"])["round"].max().min())
    return rounds.loc[rounds["round"] <= common].reset_index(drop=True)


def status_note(run: Run, points: Sequence[Run]) -> str | None:
    """Say which arms failed and which are left; None where all are complete.

    Args:
        run: A comparison or a sweep.
        points: The comparison itself, or the points of the sweep.
    """
    folder, statuses = run.folder, [status_of(point) for point in points]
    arms = sum(status.arms for status in statuses)
    failed = [path for status in statuses for path in status.failed]
    left = arms - sum(len(status.complete) for status in statuses) - len(failed)
    parts = []
    if failed:
        files = ", ".join(str(path.relative_to(folder)) for path in failed)
        parts.append(f"{len(failed)} of {arms} arms failed: {folder}/ holds {files}")
    if left > 0:
        parts.append(f"{left} of {arms} arms are not finished: {resume_command(run)} goes on with them")
    return "; ".join(parts) or None
