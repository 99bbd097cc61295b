"""``rimsim diff``: what differs between two run folders."""

from __future__ import annotations

from pathlib import Path

import click

from rimsim.scenarios.cli.options import path
from rimsim.scenarios.cli.report import terminal


@click.command()
@click.argument("one", type=path, metavar="RUN")
@click.argument("other", type=path, metavar="OTHER")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
def diff(one: Path, other: Path, *, markdown: bool) -> None:
    """Print what differs between two runs: settings, and results with intervals.

    Results are OTHER minus RUN over the arms and seeds that both have.
    """
    from rimsim.scenarios import load_run
    from rimsim.scenarios.report.console import markdown as markdown_of
    from rimsim.scenarios.report.console import print_report
    from rimsim.scenarios.report.difference import result_differences, setting_differences
    from rimsim.scenarios.runs.status import digest

    runs = load_run(one), load_run(other)
    tables = [setting_differences(*runs), result_differences(*runs)]
    if markdown:
        click.echo(markdown_of(tables), nl=False)
        return
    notes = [] if tables[0].rows else ["The settings are the same."]
    notes += ["The tables are equal."] if digest(runs[0]) == digest(runs[1]) else []
    print_report([table for table in tables if table.rows], notes, (), terminal())
