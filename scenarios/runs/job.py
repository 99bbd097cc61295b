"""Runs that are written whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import pandas as pd

from rimsim.scenarios.runs import store
from rimsim.scenarios.runs.execution import Execution, Stage, executor, run_stages
from rimsim.scenarios.runs.files import read_table, write_table, write_yaml
from rimsim.scenarios.runs.locks import locked, require_free
from rimsim.scenarios.runs.process import errors_of_interrupts
from rimsim.scenarios.runs.progress import Report
from rimsim.scenarios.runs.records import versions
from rimsim.system import draft_content

Part = TypeVar("Part")
_PARTS = "parts"
"""Name of the folder for tables of parts, until the parts are joined."""


@dataclass(frozen=True)
class Job(Generic[Part]):
    """Parts of a run that is written as a whole."""

    described: Mapping[str, object]
    """Entries of ``config.yaml`` that stand between the command and the versions."""
    parts: Sequence[Part]
    """Arguments of the parts, as plain data such as seeds."""
    play: Callable[[Part, Report], Mapping[str, pd.DataFrame]]
    """Function that returns the tables of a part. It must be a function of a module if parts run on workers."""
    finish: Callable[[store.RunFolder], object] | None = None
    """Function that writes pictures and all other files of the folder, from the tables of a run; None: there are no
    such files."""
    bar: str = "parts"
    """Text before the progress bar."""
    total: int = 0
    """Sum of the numbers that all parts report to the progress bar."""


def make_run(job: Job[Part], folder: Path, command: str, execution: Execution) -> store.RunFolder:
    """Write all parts of a run, or nothing.

    Raises:
        RunFolderError: If the folder is in use or is not empty.
        RimsimError: If a part failed.
    """
    require_free(folder)
    with locked(folder), draft_content(folder, store.CONFIG) as draft:
        described = {"command": command, **job.described, "versions": versions()}
        write_yaml(draft / store.CONFIG, described)
        for name, table in play_parts(job, draft, execution).items():
            write_table(draft / f"{name}.parquet", table)
        if job.finish is not None:
            job.finish(store.RunFolder(draft))
    return store.RunFolder(folder)


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Context manager in which interruptions report that nothing is saved."""
    try:
        with errors_of_interrupts():
            yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "nothing is saved, because such a run is written when all of it is finished"
        ) from None


def play_parts(job: Job[Part], folder: Path, execution: Execution) -> dict[str, pd.DataFrame]:
    """Tables of a job, joined in order of parts."""
    parts_folder = folder / _PARTS
    try:
        with executor(execution) as run:
            numbered = list(enumerate(job.parts))
            stage = Stage(job.bar, partial(_write_part, job.play, parts_folder), numbered, job.total)
            run_stages([stage], run, execution.console)
        tables: dict[str, list[pd.DataFrame]] = {}
        # A file is called NUMBER-TABLE.parquet, so that sorted files have the order of parts.
        for path in sorted(parts_folder.glob("[0-9]*.parquet")):
            tables.setdefault(path.stem.partition("-")[2], []).append(read_table(path))
        return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    finally:
        shutil.rmtree(parts_folder, ignore_errors=True)


def _write_part(
    play: Callable[[Part, Report], Mapping[str, pd.DataFrame]],
    parts_folder: Path,
    numbered: tuple[int, Part],
    report: Report,
) -> None:
    """Run a part and write its tables."""
    number, part = numbered
    for name, table in play(part, report).items():
        write_table(parts_folder / f"{number:06d}-{name}.parquet", table)
