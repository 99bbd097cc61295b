"""The command ``rimsim demo``."""

from __future__ import annotations

import multiprocessing
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rimsim import scenarios
from rimsim.errors import RunFolderError
from rimsim.scenarios.cli import tools
from rimsim.scenarios.cli.completion import one_of
from rimsim.system import cores

if TYPE_CHECKING:
    from rich.console import Console

_AGENTS = ("relevance", "flat-budget", "rim-dual", "rim-feedback", "random")
_LOOP = "closed-loop"
_REPLAY = "online-match"
_QUICK = "quick"
_COMMAND = "rimsim demo"


@click.command(cls=tools.Command)
@click.option("--quick", is_flag=True, help="Play a small market, which takes about a minute.")
@click.option(
    "--out",
    type=tools.path,
    default="runs/demo",
    show_default=True,
    help="Output folder. An earlier demo in it is deleted.",
    shell_complete=one_of(list, "dir"),
)
@click.option("--resume", is_flag=True, help="Continue the interrupted demo in the output folder.")
def demo(out: Path, *, quick: bool, resume: bool) -> None:
    """Simulate two markets: the closed loop and a replay (minutes)."""
    if resume and not out.is_dir():
        raise RunFolderError(
            f"{out}: no such folder, so there is nothing to resume. Leave out --resume to begin a demo"
        )
    if out.exists() and not resume:
        _remove_earlier(out, (_QUICK,) if quick else (_LOOP, _REPLAY))
    play = _play_quick if quick else _play_both
    with _resumable(out, quick=quick):
        play(out, tools.terminal())


def _remove_earlier(out: Path, parts: tuple[str, ...]) -> None:
    """Remove parts of a demo; refuse foreign files."""
    names = sorted(entry.name for entry in out.iterdir())
    if foreign := [name for name in names if name not in {_LOOP, _REPLAY, _QUICK}]:
        raise RunFolderError(
            f"{out}: holds {foreign[0]!r}, which is not part of a demo. Name an empty or new folder"
        )
    for part in parts:
        shutil.rmtree(out / part, ignore_errors=True)


@contextmanager
def _resumable(out: Path, *, quick: bool) -> Iterator[None]:
    """Context manager in which interruptions name the resuming command."""
    try:
        yield
    except KeyboardInterrupt:
        if not out.is_dir():
            raise
        command = f"{_COMMAND}{' --quick' * quick} --resume --out {shlex.quote(str(out))}"
        raise KeyboardInterrupt(f"finished rounds are saved in {out}. To continue:\n  {command}") from None


def _play_quick(out: Path, console: Console) -> None:
    """Play the small market."""
    folder = out / _QUICK
    if _is_begun(folder):
        tools.print_run(scenarios.resume(folder, console=console))
        return
    run = scenarios.compare(
        "closed-loop",
        ("relevance", "rim-feedback"),
        4,
        seeds=3,
        settings={"arrivals.per_round": 500},
        certify=False,
        ledger=False,
        out=folder,
        command=f"{_COMMAND} --quick",
        console=console,
    )
    tools.print_run(run, is_announced=True)


def _play_both(out: Path, console: Console) -> None:
    """Play the loop, and the replay on another core."""
    console.print(
        "[bold]1. The closed loop:[/] clones of MovieLens users, 8 rounds of retraining on what was consumed."
    )
    with _in_background(_replay, out / _REPLAY):
        _play_loop(out / _LOOP, console)
        console.print(
            "\n[bold]2. The replay:[/] every session of the log's second half at its own time, one round."
        )
    _print_replay(out / _REPLAY, console)


def _play_loop(folder: Path, console: Console) -> None:
    """Play or resume the closed loop and print its report."""
    if _is_begun(folder):
        tools.print_run(scenarios.resume(folder, console=console))
        return
    # With certificates, the demo would take more than four minutes on two cores.
    run = scenarios.compare(
        "closed-loop", _AGENTS, 8, 3, certify=False, out=folder, console=console, command=_COMMAND
    )
    tools.print_run(run, is_announced=True)


def _is_begun(folder: Path) -> bool:
    """True for a run folder that can be resumed."""
    from rimsim.scenarios.runs.store import CONFIG

    return (folder / CONFIG).is_file()


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
    """Run the replay silently; after a failure, :func:`_print_replay` repeats it."""
    with suppress(Exception):
        if _is_begun(folder):
            scenarios.resume(folder, workers=1, progress=False)
        else:
            scenarios.compare(
                "online-match", _AGENTS, seeds=3, out=folder, workers=1, command=_COMMAND, progress=False
            )


def _print_replay(folder: Path, console: Console) -> None:
    """Print the replay, repeated if the background job failed."""
    from rimsim.scenarios.runs.status import is_finished
    from rimsim.scenarios.runs.store import RunFolder

    if is_finished(RunFolder(folder)):
        tools.print_run(scenarios.load_run(folder))
        return
    shutil.rmtree(folder, ignore_errors=True)
    run = scenarios.compare("online-match", _AGENTS, seeds=3, out=folder, console=console, command=_COMMAND)
    tools.print_run(run, is_announced=True)
