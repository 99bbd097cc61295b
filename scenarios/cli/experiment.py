"""``rimsim experiment``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rimsim import scenarios
from rimsim.scenarios.cli.options import command_line, count, field, given, names, path, seeds, setting
from rimsim.scenarios.cli.report import terminal


@click.command()
@click.argument("a")
@click.argument("b")
@field(
    "--design",
    "design",
    "Units that are assigned, some parted by commas: user, item, two-sided, switchback, budget-split (default: user).",
    names,
)
@field(
    "--training",
    "training",
    "shared: one model learns from both arms; diverted: each arm's from its own (default: shared).",
    names,
)
@field(
    "--prices",
    "prices",
    "shared: floors are one budget of both arms; split: each has half of every floor (default: shared).",
    names,
)
@field("--interval", "interval", "Length of a switchback's interval: 6h, 1d (default: 1d).")
@field("--scenario", "scenario", "Name (rimsim scenarios) or YAML file (default: closed-loop).")
@field("--rounds", "rounds", "Rounds (default: the scenario's); figures are of the late half.", count)
@field("--seeds", "seeds", "How many seeds, or which: 0,3,7 (default: 2).", seeds)
@field("--data", "data", "Name, folder, zip, CSV or Parquet file (default: the scenario's).")
@click.option("--set", "settings", type=setting, multiple=True, help="Another field: exposure.beta=0.3.")
@field("--out", "out", "Run folder (default: runs/experiment-<time>).", path)
@field("--workers", "workers", "Seeds at once (default: one a core); changes no result.", count)
def experiment(
    a: str, b: str, *, settings: tuple[tuple[str, object], ...], out: Path | None, **values: Any
) -> None:
    """Compare agents A and B as an A/B test on one market would, beside two whole worlds.

    Both arms share visitors, items, a log and a budget of floors. Tables go to experiment.parquet and arrivals.parquet.
    """
    from rimsim.scenarios.kinds.experiment import experiment_report
    from rimsim.scenarios.report.console import show

    console = terminal()
    done = scenarios.experiment(
        a, b, settings=dict(settings), out=out, command=command_line(), console=console, **given(values)
    )
    show(experiment_report(done.run), console)
