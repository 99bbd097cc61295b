"""Runs that stay in a folder: played once, read ever after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rimsim.scenarios import load_run
from rimsim.scenarios.cli.main import main as command_line

if TYPE_CHECKING:
    from rimsim.scenarios import Run

__all__ = ["finished", "kept"]


def kept(folder: Path) -> Run | None:
    """The comparison or sweep in a folder, None unless it is complete there."""
    complete = any((folder / f"{table}.parquet").is_file() for table in ("rounds", "sweep"))
    return load_run(folder) if complete else None


def finished(folder: Path, command: list[str]) -> Run:
    """The run of a command in a folder; it is played, or gone on with, unless it is complete there.

    Args:
        folder: Where the run lies.
        command: The words after ``rimsim``, the first of which is ``compare`` or ``sweep``, without ``--out``.
    """
    run = kept(folder)
    if run is None:
        begun = (folder / "config.yaml").is_file()
        line = [command[0], "--resume"] if begun else command
        if status := command_line([*line, "--out", str(folder)]):
            raise SystemExit(status)
        run = load_run(folder)
    return run
