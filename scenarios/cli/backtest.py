"""``rimsim backtest``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rimsim import scenarios
from rimsim.errors import ConfigError
from rimsim.scenarios.cli.options import (
    LOG_OPTIONS,
    command_line,
    count,
    field,
    names,
    nested,
    number,
    option_of_field,
    options,
    path,
    seeds,
)
from rimsim.scenarios.cli.report import terminal

_MODELS = "transformer-hp,transformer,gru-hp,gru,hp,popularity"
_SPLITS = click.Choice(("user-relative", "calendar"))
_RECIPES = click.Choice(("thorough", "quick"))
_PRICES = click.Choice(("cross-fitted", "seen"))


def _numbers(_: click.Context, where: click.Parameter, text: str | None) -> list[float] | None:
    """Numbers between commas; ``none`` stands for no number."""
    try:
        return None if text is None else [float(part) for part in names(text)]
    except ValueError:
        raise ConfigError(f"{where.opts[0]}: {text!r}; allowed: comma-separated numbers, or none") from None


@click.command()
@field("--data", "data.source", "Name, folder, zip, CSV or Parquet file (default: the embedded log).")
@options(*LOG_OPTIONS)
@field("--models", "models", f"Names (rimsim models), parted by commas (default: {_MODELS}).", names)
@click.option("--beta", callback=_numbers, help="Floors of online matching, or none (default: 0,0.3,0.7,1).")
@click.option(
    "--caps", "cap", callback=_numbers, help="Caps of online matching, or none (default: 3,10,200)."
)
@field("--seeds", "seeds", "How many seeds, or which: 0,3,7 (default: 3).", seeds)
@field("--split", "split.kind", "How the log is cut (default: user-relative).", _SPLITS)
@field("--horizon", "split.horizon", "What has to be foreseen: 30min, 14d, … (default: by the log).")
@field("--recent", "split.recent", "user-relative: share of last events kept (default: 0.5).", number)
@field("--users", "split.users", "calendar: at most so many users are tested (default: all).", count)
@field("--recipe", "recipe", "How sequence models are fitted (default: thorough).", _RECIPES)
@field("--prices", "prices", "By which models past states are scored (default: cross-fitted).", _PRICES)
@field("--tol", "tol", "Certified gap at which the price solver stops (default: 0.0001).", number)
@field("--dither", "dither", "Share of a mean value within which items tie (default: 0.01).", number)
@field("--device", "device", "auto, cpu, cuda, … (default: auto).")
@field("--out", "out", "Run folder (default: runs/backtest-<time>).", path)
def backtest(out: Path | None, **values: Any) -> None:
    """Compare intensity models on what users did next."""
    from rimsim.config.reading import record_from
    from rimsim.scenarios.kinds.backtest.report import backtest_report
    from rimsim.scenarios.kinds.backtest.split import BacktestConfig
    from rimsim.scenarios.report.console import show

    plain = nested(values, BacktestConfig().data.min_item_events)
    config = record_from(plain, BacktestConfig, origin="backtest", options=option_of_field())
    done = scenarios.backtest(config, out=out, command=command_line(), report=click.echo)
    show(backtest_report(done.run), terminal())
