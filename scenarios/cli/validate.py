"""``rimsim validate``."""

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
)
from rimsim.scenarios.cli.report import terminal


@click.command()
@field("--data", "data.source", "Name, folder, zip, CSV or Parquet file (default: the embedded log).")
@options(*LOG_OPTIONS)
@field("--models", "models", "Names (rimsim models), file.py:Class or random, parted by commas.", names)
@field("--without", "without", "Models that are left out of these, such as gru, which takes long.", names)
@field("--truths", "truths", "Truths, parted by commas; auto: what the log's later sessions choose.", names)
@field("--draws", "draws", "How often each user's later session is drawn anew (default: 5).", count)
@field("--after", "after", "Share of a user's events before the sessions drawn (default: 0.3).", number)
@field("--slate", "slate", "Items that are recommended (default: 10).", count)
@field("--observed", "observed.table", "Answers to items that were not chosen: see docs/data.md.")
@field("--observed-columns", "observed.columns", "Which column is which: user=uid,item=sku,value=liked.")
@field("--taken-at", "observed.taken_at", "Values of answers from here on are a yes (default: 1).", number)
@field("--resamples", "resamples", "Bootstrap samples of users (default: 1000).", count)
@field("--serving", "serving", "Platform's model, compared with bestsellers (default: the scenarios').")
@field("--device", "device", "auto, cpu, cuda, … (default: auto).")
@field("--out", "out", "Run folder (default: runs/validate-<time>).", path)
def validate(out: Path | None, **values: Any) -> None:
    """Say whether the market is believable on a log: later sessions of its users beside the truths."""
    from rimsim.config.reading import record_from
    from rimsim.scenarios.validating.config import ValidateConfig, with_serving
    from rimsim.scenarios.validating.results import print_results

    named = option_of_field()
    for name in ("observed.columns", "observed.taken_at"):
        if values[name.replace(".", "__")] is not None and values["observed__table"] is None:
            raise ConfigError(f"{named[name]}: says how answers are read; allowed: with --observed FILE")
    plain = nested(values, ValidateConfig().data.min_item_events)
    if "serving" in plain:
        plain["models"] = with_serving(plain.get("models"), plain["serving"], plain.get("without", ()))
    config = record_from(plain, ValidateConfig, origin="validate", options=named)
    done = scenarios.validate(config, out=out, command=command_line(), report=click.echo)
    print_results(done, terminal())
