"""``rimsim report``: what a run folder of any kind says."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click import option

from rimsim.errors import RunFolderError
from rimsim.scenarios.cli.options import path

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.scenarios import Run
    from rimsim.scenarios.report.record import Report


@click.command()
@click.argument("run", type=path)
@option("--digest", is_flag=True, help="Print a digest of the tables' content and nothing else.")
@option("--markdown", is_flag=True, help="Print the answer and the tables as Markdown and nothing else.")
@option(
    "--html", is_flag=True, help="Write RUN/report.html, one page to send to someone, and say where it is."
)
def report(run: Path, *, digest: bool, markdown: bool, html: bool) -> None:
    """Print the tables of a run folder and draw its pictures again."""
    from rimsim.scenarios import load_run
    from rimsim.scenarios.report.charts import draw
    from rimsim.scenarios.report.console import report_markdown, show
    from rimsim.scenarios.report.html import write_page
    from rimsim.scenarios.runs.status import digest as digest_of

    asked = [
        name for name, flag in (("--digest", digest), ("--markdown", markdown), ("--html", html)) if flag
    ]
    if len(asked) > 1:
        raise click.UsageError(
            f"{asked[1]}: not allowed with argument {asked[0]}", click.get_current_context()
        )
    loaded = load_run(run)
    if digest:
        click.echo(digest_of(loaded))
        return
    made = report_of(loaded)
    if html:
        click.echo(write_page(made, loaded))
    elif markdown:
        click.echo(report_markdown(made), nl=False)
    else:
        draw(made.plots, loaded.folder / "pictures")
        show(made, terminal())


def report_of(run: Run) -> Report:
    """Report of a run of any kind."""
    from rimsim.scenarios.kinds.registry import kind_of

    kind = kind_of(run.config)
    made: Report = kind.load(kind.report)(run)
    return made


def print_run(run: Run) -> None:
    """Print the report of a comparison or sweep.

    Raises:
        RunFolderError: If no arm of a sweep is complete.
    """
    from rimsim.scenarios.report.console import show

    show(report_of(run), terminal())


def print_complete(folder: str) -> None:
    """Print the report of the arms that are complete, when others failed."""
    from rimsim.scenarios import load_run
    from rimsim.scenarios.runs.status import status_of

    run = load_run(folder)
    if run.kind == "sweep" or status_of(run).complete:
        with suppress(RunFolderError):  # no arm of the sweep is complete
            print_run(run)


def terminal() -> Console:
    """The terminal, or the file or pipe in its place, which is taken to be wide enough for the tables."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=140)
