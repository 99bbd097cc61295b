"""Progress bars of runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Report: TypeAlias = Callable[[int], None]
"""Function that a job calls with the amount of work that it did since its last call, such as a number of arrivals."""


class Bars(Progress):
    """Progress bars with room for an echoed ``^C``.

    If the terminal's echo of Ctrl-C broke the last line, the first bar would be left above its next version.
    """

    def get_renderable(self) -> RenderableType:
        """Bars, narrower than the terminal."""
        return _Narrow(super().get_renderable())


@dataclass(frozen=True)
class _Narrow:
    """Renderable without the last columns of the console."""

    content: RenderableType
    columns: int = 4
    """Number of last columns that stay free, because a terminal may print ^C twice."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(
            self.content, options.update(width=max(options.max_width - self.columns, 1))
        )


def bar_console(console: Console | None, *, show: bool | None) -> Console | None:
    """Console of progress bars; None: no bars.

    Args:
        console: Console that was given; None: the standard output.
        show: If true or false, bars are shown or not. None: with a given console, in a terminal or in a notebook.
    """
    chosen = console or Console()
    is_shown = (console is not None or chosen.is_terminal or chosen.is_jupyter) if show is None else show
    return chosen if is_shown else None


def bars(console: Console | None) -> Progress:
    """Progress bars with counts, elapsed and remaining time."""
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console or Console(quiet=True),
        disable=console is None,
    )
