"""``rimsim report``: what a run folder of any kind says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rimsim.scenarios.backtesting import pictures as backtest_pictures
from rimsim.scenarios.backtesting import results as backtest_results
from rimsim.scenarios.backtesting.run import load_backtest
from rimsim.scenarios.pictures.front import draw_sweep
from rimsim.scenarios.pictures.loop import draw_pictures
from rimsim.scenarios.report import comparison, sweep
from rimsim.scenarios.store.digest import digest as digest_of
from rimsim.scenarios.store.run_folder import load_run

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

__all__ = ["report"]


def report(folder: Path, console: Console, *, digest: bool, markdown: bool) -> None:
    """Print the tables of a run and draw its pictures again.

    Args:
        folder: Of a comparison, sweep or back-test.
        console: Where to print.
        digest: Print a digest of the tables and nothing else.
        markdown: Print the tables as Markdown and nothing else.

    Raises:
        RunFolderError: If it is no run folder, or lacks a table.
    """
    run = load_run(folder)
    if digest:
        console.print(digest_of(run), highlight=False)
    elif run.kind == "backtest":
        done = load_backtest(folder)
        if markdown:
            sys.stdout.write(backtest_results.markdown(done))
            return
        backtest_pictures.draw_backtest(done.table, folder / "pictures")
        backtest_results.print_results(done, console)
    else:
        said = sweep if run.kind == "sweep" else comparison
        if markdown:
            sys.stdout.write(said.markdown(run))
            return
        if run.kind == "comparison":
            draw_pictures(run)
        elif (folder / "sweep.parquet").is_file():
            draw_sweep(run)
        said.print_results(run, console)
