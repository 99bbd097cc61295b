"""``rimsim demo``: the main job and the replay on the embedded data."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from rimsim.errors import RunFolderError
from rimsim.scenarios.report.comparison import print_results
from rimsim.scenarios.study.compare import compare

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

__all__ = ["demo"]

_AGENTS = ("relevance", "rim-dual", "rim-feedback", "random")
_SMALLER: dict[str, object] = {"data.min_item_events": 30}
"""The replay over 848 items in place of 3,496, whose fits alone would take minutes."""
_PARTS = ("closed-loop", "online-match")


def demo(folder: Path, console: Console) -> None:
    """Compare four agents over 8 rounds and 2 seeds in the closed loop, then over one replayed round.

    Args:
        folder: Gets a run folder for each; an earlier demo there is replaced.
        console: Where to tell.

    Raises:
        RunFolderError: If the folder holds something else.
    """
    if folder.exists():
        strange = sorted(entry.name for entry in folder.iterdir() if entry.name not in _PARTS)
        if strange:
            raise RunFolderError(
                f"{folder}: holds {strange[0]!r}, which is no demo; allowed: an empty or new folder"
            )
        shutil.rmtree(folder)
    console.print(
        "[bold]1. The closed loop:[/] clones of MovieLens users, 8 rounds of retraining on what was consumed."
    )
    loop = compare(
        "closed-loop", _AGENTS, 8, 2, out=folder / "closed-loop", command="rimsim demo", console=console
    )
    print_results(loop, console)
    console.print(
        "\n[bold]2. The replay:[/] every session of the log's second half at its own time, one round."
    )
    replay = compare(
        "online-match",
        _AGENTS,
        seeds=2,
        settings=_SMALLER,
        out=folder / "online-match",
        command="rimsim demo",
        console=console,
    )
    print_results(replay, console)
