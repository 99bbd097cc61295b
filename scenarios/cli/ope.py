"""``rimsim ope``."""

from __future__ import annotations

from pathlib import Path

import click
from click import option

from rimsim import scenarios
from rimsim.scenarios.cli.options import count, path, seeds
from rimsim.scenarios.cli.report import terminal


@click.command()
@click.argument("run", type=path)
@option("--target", required=True, help="Agent that is valued: a name (rimsim agents) or file.py:Class.")
@option(
    "--logged", help="Agent of the run whose slates are the log (default: the first that says its chances)."
)
@option("--seeds", "chosen", type=seeds, help="How many seeds, or which: 0,3,7 (default: those of the run).")
@option("--workers", type=count, help="Seeds at once (default: one a core); changes no result.")
def ope(run: Path, target: str, logged: str | None, chosen: list[int] | None, workers: int | None) -> None:
    """Value an agent on the log of another, and set the estimates beside the truth.

    RUN is the folder of a comparison. Its log is made again, the target is asked in each of its states and then plays
    in a world of its own. Tables go to ope.parquet in the folder, the picture to pictures/ope.png.
    """
    from rimsim.scenarios.kinds.evaluate import evaluation_report
    from rimsim.scenarios.report.console import show

    console = terminal()
    done = scenarios.ope(run, target, logged=logged, seeds=chosen, workers=workers, console=console)
    show(evaluation_report(done), console)
