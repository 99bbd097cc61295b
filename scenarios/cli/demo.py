"""``rimsim demo``: the main job and the replay on the embedded data."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import click

from rimsim import scenarios
from rimsim.errors import RunFolderError
from rimsim.scenarios.cli.options import path
from rimsim.scenarios.cli.report import print_run, terminal

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["demo"]

_AGENTS = ("relevance", "rim-dual", "rim-feedback", "random")
_SMALLER: dict[str, object] = {"data.min_item_events": 30}
"""The replay over 848 items in place of 3,496, whose fits alone would take minutes."""
_PARTS = ("closed-loop", "online-match")


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
    command, console = "rimsim demo", terminal()
    console.print(
        "[bold]1. The closed loop:[/] clones of MovieLens users, 8 rounds of retraining on what was consumed."
    )
    loop, replay = (out / part for part in _PARTS)
    print_run(scenarios.compare("closed-loop", _AGENTS, 8, 2, out=loop, command=command, console=console))
    console.print(
        "\n[bold]2. The replay:[/] every session of the log's second half at its own time, one round."
    )
    run = scenarios.compare(
        "online-match", _AGENTS, seeds=2, settings=_SMALLER, out=replay, command=command, console=console
    )
    print_run(run)
