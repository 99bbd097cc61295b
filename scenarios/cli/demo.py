"""The command ``rimsim demo``."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rimsim import scenarios
from rimsim.errors import RunFolderError
from rimsim.scenarios.cli.tools import path, print_run, terminal
from rimsim.system import cores

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.scenarios import Run

_AGENTS = ("relevance", "rim-dual", "rim-feedback", "random")
_LOOP, _REPLAY, _QUICK = "closed-loop", "online-match", "quick"
# Certificates of the loop and a third seed of the replay would take the demo beyond four minutes on two cores.
_DEMO: dict[str, Any] = {"command": "rimsim demo"}
# After an installation most of the time goes into compiling; prices would double the number of kernels.
_QUICK_AGENTS = ("relevance", "random")
_QUICK_SETTINGS: dict[str, object] = {
    "arrivals.per_round": 200,
    "data.min_item_events": 60,
    "platform.model": "popularity",
}


@click.command()
@click.option("--quick", is_flag=True, help="Play a small market, which takes half a minute.")
@click.option(
    "--out",
    type=path,
    default="runs/demo",
    show_default=True,
    help="Output folder. An earlier demo in it is deleted.",
)
def demo(out: Path, *, quick: bool) -> None:
    """Simulate two markets: the closed loop and a replay (minutes)."""
    if out.exists():
        strange = sorted(entry.name for entry in out.iterdir() if entry.name not in (_LOOP, _REPLAY, _QUICK))
        if strange:
            raise RunFolderError(
                f"{out}: holds {strange[0]!r}, which is not part of a demo. Name an empty or new folder"
            )
        for part in (_QUICK,) if quick else (_LOOP, _REPLAY):
            shutil.rmtree(out / part, ignore_errors=True)
    if quick:
        _play_quick(out / _QUICK)
    else:
        _play(out / _LOOP, out / _REPLAY)


def _play_quick(folder: Path) -> None:
    print_run(
        scenarios.compare(
            "closed-loop",
            _QUICK_AGENTS,
            4,
            seeds=3,
            settings=_QUICK_SETTINGS,
            certify=False,
            ledger=False,
            out=folder,
            command="rimsim demo --quick",
            console=terminal(),
        )
    )


def _play(loop: Path, replay: Path) -> None:
    console = terminal()
    console.print(
        "[bold]1. The closed loop:[/] clones of MovieLens users, 8 rounds of retraining on what was consumed."
    )
    with _in_background(_replay, replay):
        print_run(
            scenarios.compare(
                "closed-loop", _AGENTS, 8, seeds=3, certify=False, out=loop, console=console, **_DEMO
            )
        )
        console.print(
            "\n[bold]2. The replay:[/] every session of the log's second half at its own time, one round."
        )
    print_run(_replayed(replay, console))


@contextmanager
def _in_background(job: Callable[[Path], None], folder: Path) -> Iterator[None]:
    """Context manager that runs a job on an idle core."""
    if cores() == 1:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=job, args=(folder,), daemon=True)
    process.start()
    try:
        yield
        process.join()
    finally:
        process.terminate()
        process.join()


def _replay(folder: Path) -> None:
    """Run the replay silently; after a failure, :func:`_replayed` repeats it."""
    with suppress(Exception):
        scenarios.compare("online-match", _AGENTS, seeds=2, out=folder, workers=1, **_DEMO)


def _replayed(folder: Path, console: Console) -> Run:
    """Run of the replay, repeated if the background job failed."""
    from rimsim.scenarios.runs.status import is_finished
    from rimsim.scenarios.runs.store import Run
    from rimsim.scenarios.study.notes import print_notes

    if is_finished(Run(folder)):
        done = scenarios.load_run(folder)
        print_notes([done.scenario], console, _AGENTS)
        return done
    shutil.rmtree(folder, ignore_errors=True)
    return scenarios.compare("online-match", _AGENTS, seeds=2, out=folder, console=console, **_DEMO)
