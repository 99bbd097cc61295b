"""``rimsim demo``: the main job and the replay on the embedded data."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rimsim import scenarios
from rimsim.errors import RunFolderError
from rimsim.scenarios.cli.options import path
from rimsim.scenarios.cli.report import print_run, terminal
from rimsim.system import cores

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.scenarios import Run


_AGENTS = ("relevance", "rim-dual", "rim-feedback", "random")
_PARTS = ("closed-loop", "online-match")
_COMMAND = "rimsim demo"


@click.command()
@click.option(
    "--out", type=path, default="runs/demo", show_default=True, help="Folder; an earlier demo goes."
)
def demo(out: Path) -> None:
    """Do the main job and the replay on the embedded log; it takes minutes."""
    if out.exists():
        strange = sorted(entry.name for entry in out.iterdir() if entry.name not in _PARTS)
        if strange:
            raise RunFolderError(
                f"{out}: holds {strange[0]!r}, which is no demo; allowed: an empty or new folder"
            )
        shutil.rmtree(out)
    console = terminal()
    console.print(
        "[bold]1. The closed loop:[/] clones of MovieLens users, 8 rounds of retraining on what was consumed."
    )
    loop, replay = (out / part for part in _PARTS)
    with _beside(replay):
        run = scenarios.compare("closed-loop", _AGENTS, 8, 2, out=loop, command=_COMMAND, console=console)
        print_run(run)
        console.print(
            "\n[bold]2. The replay:[/] every session of the log's second half at its own time, one round."
        )
    print_run(_replayed(replay, console))


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Run the replay in a process beside the work within, which leaves a core idle while it fits the truth and draws.

    It needs no truth, and so has nothing to wait for. Whatever ends it early, :func:`_replayed` begins it anew.
    """
    if cores() == 1:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=_replay, args=(folder,), daemon=True)
    process.start()
    try:
        yield
        process.join()
    finally:
        process.terminate()
        process.join()


def _replay(folder: Path) -> None:
    """The replay without a word, on this process alone; a failure is told by the one that begins it anew."""
    with suppress(Exception):
        _compared(folder, None, workers=1)


def _replayed(folder: Path, console: Console) -> Run:
    """The replay as it was run beside the closed loop, with its notes; where it was not, run now."""
    from rimsim.scenarios.runs.status import is_finished
    from rimsim.scenarios.runs.store import Run
    from rimsim.scenarios.study.options import print_notes

    if is_finished(Run(folder)):
        done = scenarios.load_run(folder)
        print_notes([done.scenario], console, _AGENTS)
        return done
    shutil.rmtree(folder, ignore_errors=True)
    return _compared(folder, console)


def _compared(folder: Path, console: Console | None, workers: int | None = None) -> Run:
    return scenarios.compare(
        "online-match",
        _AGENTS,
        seeds=2,
        out=folder,
        workers=workers,
        command=_COMMAND,
        console=console,
    )
