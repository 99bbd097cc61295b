"""``rimsim data``: logs are listed, checked and fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import rimsim
from rimsim.scenarios.cli.options import LOG_OPTIONS, given, options, path
from rimsim.scenarios.cli.report import terminal


@click.group()
def data() -> None:
    """List, check or download logs."""


@data.command("list")
def list_() -> None:
    """List the logs that can be had by name."""
    for entry in rimsim.data.catalogue():
        click.echo(entry.text())


@data.command()
@click.argument("log", metavar="PATH")
@options(*LOG_OPTIONS)
@click.option("--picture", type=path, help="Draw the log into this PNG file.")
def check(log: str, picture: Path | None, **selection: Any) -> None:
    """Describe a log and say what can be done with it.

    PATH is a name, a folder, a zip, a CSV, TSV or Parquet file. The status is 2 where nothing can be done with the log.
    """
    fields = {name.removeprefix("data."): value for name, value in given(selection).items()}
    described = rimsim.data.check(log, **fields)
    click.echo(described.text())
    if picture is not None:
        described.picture(picture)
        click.echo(f"picture     {picture}")
    rimsim.data.require_usable(described.log)


@data.command()
@click.argument("name")
@click.option("--folder", type=path, help="Where to (default: the data folder).")
def download(name: str, folder: Path | None) -> None:
    """Fetch a log, with its checksum; NAME is one of rimsim data list."""
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=terminal()) as bar:
        task = bar.add_task(name, total=None, visible=False)  # it appears with the first bytes

        def show(have: int, whole: int) -> None:
            bar.update(task, completed=have, total=whole, visible=True)

        file = rimsim.data.download(name, folder, progress=show)
    click.echo(f"saved to {file}")
