"""``rimsim report``: what a run folder of any kind says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
from click import option

from rimsim.errors import RunFolderError
from rimsim.scenarios.cli.options import path

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.scenarios import Run


@click.command()
@click.argument("run", type=path)
@option("--digest", is_flag=True, help="Print a digest of the tables' content and nothing else.")
@option("--markdown", is_flag=True, help="Print the tables as Markdown and nothing else.")
@option(
    "--html", is_flag=True, help="Write RUN/report.html, one page to send to someone, and say where it is."
)
def report(run: Path, *, digest: bool, markdown: bool, html: bool) -> None:
    """Print the tables of a run folder and draw its pictures again."""
    from rimsim.scenarios import load_run
    from rimsim.scenarios.runs.status import digest as digest_of

    asked = [
        name for name, flag in (("--digest", digest), ("--markdown", markdown), ("--html", html)) if flag
    ]
    if len(asked) > 1:
        raise click.UsageError(
            f"{asked[1]}: not allowed with argument {asked[0]}", click.get_current_context()
        )
    loaded = load_run(run)
    if html:
        from rimsim.scenarios.page.write import write_page

        click.echo(write_page(loaded))
        return
    told = _told(loaded)
    if digest:
        click.echo(digest_of(loaded))
    elif markdown:
        click.echo(told.markdown(), nl=False)
    else:
        told.draw()
        told.show(terminal())


def print_run(run: Run) -> None:
    """Print the tables of a comparison or sweep and say where everything is.

    Raises:
        RunFolderError: If no arm of a sweep is complete.
    """
    _told(run).show(terminal())


def print_complete(folder: str) -> None:
    """Print the tables of the arms that went well beside others that failed."""
    from rimsim.scenarios import load_run
    from rimsim.scenarios.runs.status import status_of

    run = load_run(folder)
    if run.kind == "sweep" or status_of(run).complete:
        with suppress(RunFolderError):  # no arm of the sweep is complete
            print_run(run)


class _Told(NamedTuple):
    """What is told of a run; nothing is read before it is asked for."""

    markdown: Callable[[], str]
    """The tables, for a page."""
    show: Callable[[Console], None]
    """Prints the tables and where everything is."""
    draw: Callable[[], object]
    """Draws the pictures into the folder."""


def _told(run: Run) -> _Told:
    """What is told of a run of any kind."""
    from rimsim.scenarios import load_experiment, load_validation
    from rimsim.scenarios.experimenting import results as experimenting
    from rimsim.scenarios.experimenting.pictures import draw_experiment
    from rimsim.scenarios.kinds.backtest.report import backtest_report
    from rimsim.scenarios.kinds.results import draw_report
    from rimsim.scenarios.pictures.front import draw_sweep
    from rimsim.scenarios.pictures.loop import draw_pictures
    from rimsim.scenarios.report import comparison, sweep
    from rimsim.scenarios.report.console import markdown, show
    from rimsim.scenarios.validating import results as validating
    from rimsim.scenarios.validating.pictures import draw_validation

    where = run.folder / "pictures"
    if run.kind == "backtest":
        report = backtest_report(run)
        return _Told(
            lambda: f"{' '.join(report.answer)}\n\n{markdown(report.tables)}",
            partial(show, report),
            partial(draw_report, report, run.folder),
        )
    if run.kind == "validation":
        judged = load_validation(run.folder)
        return _Told(
            lambda: markdown(validating.result_tables(judged)),
            partial(validating.print_results, judged),
            lambda: draw_validation(judged, where),
        )
    if run.kind == "experiment":
        tested = load_experiment(run.folder)
        return _Told(
            lambda: markdown(experimenting.result_tables(tested)),
            partial(experimenting.print_results, tested),
            lambda: draw_experiment(tested.table, tested.agents, where),
        )
    if run.kind == "sweep":
        return _Told(
            lambda: markdown(sweep.result_tables(run, sweep.sweep_table(run))),
            partial(sweep.print_results, run),
            lambda: (run.folder / "sweep.parquet").is_file() and draw_sweep(run),
        )
    return _Told(
        lambda: markdown(comparison.result_tables(run)),
        partial(comparison.print_results, run),
        lambda: draw_pictures(run),
    )


def terminal() -> Console:
    """The terminal, or the file or pipe in its place, which is taken to be wide enough for the tables."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=140)
