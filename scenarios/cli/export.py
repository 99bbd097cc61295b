"""``rimsim export``."""

from __future__ import annotations

from pathlib import Path

import click
from click import option

from rimsim import scenarios
from rimsim.scenarios.cli.options import path
from rimsim.scenarios.cli.report import terminal


@click.command()
@click.argument("run", type=path)
@option(
    "--to", required=True, help="csv, obp (slate feedback), scope-rl or minari (the extra rimsim[minari])."
)
@option("--agent", help="Arm whose log it is (default: the first; csv: all).")
@option("--seed", type=int, help="Its seed (default: the first; csv: all).")
@option("--out", type=path, help="File, or Minari's folder of data sets (default: RUN/export/…).")
def export(run: Path, to: str, agent: str | None, seed: int | None, out: Path | None) -> None:
    """Write the log of a run in a format of another package.

    RUN is the folder of a comparison that kept its ledger.
    """
    place, said = scenarios.export(run, to, agent=agent, seed=seed, out=out, console=terminal())
    click.echo(f"{place}: {said}")
