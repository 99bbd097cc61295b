"""``rimsim report``: what a run folder of any kind says."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from click import option

from rimsim.errors import RunFolderError
from rimsim.scenarios.cli.options import path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from rimsim.scenarios import Run

__all__ = ["print_complete", "print_run", "report", "terminal"]


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
    from rimsim.scenarios.store.digest import digest as digest_of

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
    results, tables, draw = _of_kind(loaded)
    if digest:
        click.echo(digest_of(loaded))
    elif markdown:
        click.echo(results.markdown(tables), nl=False)
    else:
        draw()
        results.print_results(tables, terminal())


def print_run(run: Run) -> None:
    """Print the tables of a comparison or sweep and say where everything is.

    Raises:
        RunFolderError: If no arm of a sweep is complete.
    """
    results, tables, _ = _of_kind(run)
    results.print_results(tables, terminal())


def print_complete(folder: str) -> None:
    """Print the tables of the arms that went well beside others that failed."""
    from rimsim.scenarios import load_run
    from rimsim.scenarios.store.status import status_of

    run = load_run(folder)
    if run.kind == "sweep" or status_of(run).complete:
        with suppress(RunFolderError):  # no arm of the sweep is complete
            print_run(run)


def _of_kind(run: Run) -> tuple[Any, Any, Callable[[], object]]:
    """The module that prints runs of a kind, what it takes, and what draws the pictures."""
    from rimsim.scenarios import load_backtest, load_experiment, load_validation
    from rimsim.scenarios.backtesting import results
    from rimsim.scenarios.backtesting.pictures import draw_backtest
    from rimsim.scenarios.experimenting import results as experimenting
    from rimsim.scenarios.experimenting.pictures import draw_experiment
    from rimsim.scenarios.pictures.front import draw_sweep
    from rimsim.scenarios.pictures.loop import draw_pictures
    from rimsim.scenarios.report import comparison, sweep
    from rimsim.scenarios.validating import results as validation
    from rimsim.scenarios.validating.pictures import draw_validation

    if run.kind == "backtest":
        foretold = load_backtest(run.folder)
        return (
            results,
            foretold,
            lambda: draw_backtest(run.backtest, run.folder / "pictures", foretold.config.split.overlap),
        )
    if run.kind == "validation":
        done = load_validation(run.folder)
        return validation, done, lambda: draw_validation(done, run.folder / "pictures")
    if run.kind == "experiment":
        tested = load_experiment(run.folder)
        where = run.folder / "pictures"
        return experimenting, tested, lambda: draw_experiment(tested.table, tested.agents, where)
    if run.kind == "sweep":
        return sweep, run, lambda: (run.folder / "sweep.parquet").is_file() and draw_sweep(run)
    return comparison, run, lambda: draw_pictures(run)


def terminal() -> Console:
    """The terminal, or the file or pipe in its place, which is taken to be wide enough for the tables."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=140)
