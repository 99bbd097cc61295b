"""Resumable runs: their finished parts are saved."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from rich.console import Console

from rimsim.errors import ArmsError, RimsimError, one_line
from rimsim.scenarios.kinds.registry import KINDS
from rimsim.scenarios.runs import store
from rimsim.scenarios.runs.arms import is_done
from rimsim.scenarios.runs.checkpoint import mark_done
from rimsim.scenarios.runs.execution import Executor, Stage, run_stages
from rimsim.scenarios.runs.files import disk_errors, write_table, write_yaml
from rimsim.scenarios.runs.job import Job
from rimsim.scenarios.runs.locks import writing
from rimsim.scenarios.runs.process import errors_of_interrupts
from rimsim.scenarios.runs.progress import Report
from rimsim.scenarios.runs.records import versions

Part = TypeVar("Part")


def begin_parts(job: Job[Part], folder: Path, command: str) -> None:
    """Write the config of a run into its folder."""
    described = {"command": command, **job.described, "versions": versions()}
    for name in (store.BEGUN, store.CONFIG):
        write_yaml(folder / name, described)


def missing_parts(job: Job[Part], folder: Path) -> list[Part]:
    """Parts whose tables are not saved."""
    if _is_joined(folder):
        return []
    return [part for number, part in enumerate(job.parts) if not is_done(folder, _file(number))]


def has_all_parts(folder: Path) -> bool:
    """True if a run has all of its files."""
    return _is_joined(folder) and not (folder / store.STATES).exists()


def finish_parts(
    job: Job[Part], folder: Path, run_tasks: Executor, before: Sequence[Stage[Any]], console: Console | None
) -> store.RunFolder:
    """Play the missing parts, and join all tables.

    Args:
        before: Stages that prepare the missing parts.
        console: Console of progress bars; None: no bars.

    Raises:
        ArmsError: If parts failed; all other parts are saved.
        RimsimError: If a stage of ``before`` failed.
    """
    numbers = [number for number in range(len(job.parts)) if not is_done(folder, _file(number))]
    if numbers and not _is_joined(folder):
        missing = [(number, job.parts[number]) for number in numbers]
        total = job.total * len(missing) // len(job.parts)
        stage: Stage[Any] = Stage(job.bar, partial(_save, job.play, folder), missing, total, vital=False)
        failures = run_stages([*before, stage], run_tasks, console)
        if failures:
            raise ArmsError(_failures_text(failures, len(job.parts)), str(folder))
    run = store.RunFolder(folder)
    names = [name for name in KINDS[run.kind].tables if (folder / name).is_dir()]
    for name in names:
        if not (folder / f"{name}.parquet").is_file():
            write_table(folder / f"{name}.parquet", store.table_in(folder, name))
    if job.finish is not None:
        job.finish(run)
    # The states go first: a run without them counts as finished, and then nobody reads the parts.
    for name in (store.STATES, *names):
        shutil.rmtree(folder / name, ignore_errors=True)
    return store.RunFolder(folder)


def _is_joined(folder: Path) -> bool:
    """True if a run's main table has been joined."""
    return (folder / f"{KINDS[store.RunFolder(folder).kind].tables[0]}.parquet").is_file()


def _file(number: int) -> str:
    """Name of a part's files, sorted by number."""
    return f"{number:06d}"


def _save(
    play: Callable[[Part, Report], Mapping[str, pd.DataFrame]],
    folder: Path,
    numbered: tuple[int, Part],
    report: Report,
) -> None:
    """Play a part and save its tables."""
    number, part = numbered
    # A worker of a killed run may still play this part; its lock makes a resumed run wait for it.
    with writing(folder, _file(number)), errors_of_interrupts():
        tables = play(part, report)
        with disk_errors(folder):
            for name, table in tables.items():
                write_table(folder / name / f"{_file(number)}.parquet", table)
            mark_done(folder, _file(number))


def _failures_text(failures: Sequence[tuple[tuple[int, Part], RimsimError]], n_parts: int) -> str:
    """Failed parts and their errors, a line per part."""
    lines = [f"\n  {part}: {one_line(error)}" for (_, part), error in failures]
    return f"{len(failures)} of {n_parts} arms failed:{''.join(lines)}"
