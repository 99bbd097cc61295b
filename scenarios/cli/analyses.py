"""``rimsim backtest``, ``validate``, ``experiment``, ``ope`` and ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rimsim import scenarios
from rimsim.errors import ConfigError
from rimsim.scenarios.cli.tools import (
    LOG_OPTIONS,
    command_line,
    count,
    field,
    given,
    names,
    nested,
    number,
    numbers,
    option_of_field,
    options,
    path,
    print_run,
    seeds,
    setting,
    terminal,
)

_MODELS = "transformer-hp,transformer,gru-hp,gru,hp,popularity"
_LOG = "Name, folder, zip, CSV or Parquet file (default: the {}).".format
_SPLITS = click.Choice(("user-relative", "calendar"))
_RECIPES = click.Choice(("thorough", "quick"))
_PRICES = click.Choice(("cross-fitted", "seen"))


@click.command()
@field("--data", "data.source", _LOG("embedded log"))
@options(*LOG_OPTIONS)
@field("--models", "models", f"Names (rimsim models), parted by commas (default: {_MODELS}).", names)
@click.option("--beta", callback=numbers, help="Floors of online matching, or none (default: 0,0.3,0.7,1).")
@click.option("--caps", "cap", callback=numbers, help="Caps of online matching, or none (default: 3,10,200).")
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

    kind = scenarios.BacktestConfig
    plain = nested(values, kind().data.min_item_events)
    config = record_from(plain, kind, origin="backtest", options=option_of_field())
    done = scenarios.backtest(config, out=out, command=command_line(), report=click.echo)
    print_run(scenarios.load_run(done.folder))


@click.command()
@field("--data", "data.source", _LOG("embedded log"))
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
    from rimsim.scenarios.kinds.validate import with_serving

    named, kind = option_of_field(), scenarios.ValidateConfig
    for name in ("observed.columns", "observed.taken_at"):
        if values[name.replace(".", "__")] is not None and values["observed__table"] is None:
            raise ConfigError(f"{named[name]}: says how answers are read; allowed: with --observed FILE")
    plain = nested(values, kind().data.min_item_events)
    if "serving" in plain:
        plain["models"] = with_serving(plain.get("models"), plain["serving"], plain.get("without", ()))
    config = record_from(plain, kind, origin="validate", options=named)
    done = scenarios.validate(config, out=out, command=command_line(), report=click.echo)
    print_run(scenarios.load_run(done.folder))


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
@field("--data", "data", _LOG("scenario's"))
@click.option("--set", "settings", type=setting, multiple=True, help="Another field: exposure.beta=0.3.")
@field("--out", "out", "Run folder (default: runs/experiment-<time>).", path)
@field("--workers", "workers", "Seeds at once (default: one a core); changes no result.", count)
def experiment(a: str, b: str, *, settings: tuple[tuple[str, object], ...], **values: Any) -> None:
    """Compare agents A and B as an A/B test on one market would, beside two whole worlds.

    Both arms share visitors, items, a log and a budget of floors. Tables go to experiment.parquet and arrivals.parquet.
    """
    asked = given(values) | {"settings": dict(settings), "command": command_line(), "console": terminal()}
    print_run(scenarios.load_run(scenarios.experiment(a, b, **asked).folder))


@click.command()
@click.argument("run", type=path)
@click.option(
    "--target", required=True, help="Agent that is valued: a name (rimsim agents) or file.py:Class."
)
@click.option(
    "--logged", help="Agent of the run whose slates are the log (default: the first that says its chances)."
)
@click.option("--seeds", type=seeds, help="How many seeds, or which: 0,3,7 (default: those of the run).")
@click.option("--workers", type=count, help="Seeds at once (default: one a core); changes no result.")
def ope(run: Path, target: str, **values: Any) -> None:
    """Value an agent on the log of another, and set the estimates beside the truth.

    RUN is the folder of a comparison. Its log is made again, the target is asked in each of its states and then plays
    in a world of its own. Tables go to ope.parquet in the folder, the picture to pictures/ope.png.
    """
    from rimsim.scenarios.kinds.evaluate import evaluation_report
    from rimsim.scenarios.report.console import show

    console = terminal()
    show(evaluation_report(scenarios.ope(run, target, **values, console=console)), console)


@click.command()
@click.argument("run", type=path)
@click.option(
    "--to", required=True, help="csv, obp (slate feedback), scope-rl or minari (the extra rimsim[minari])."
)
@click.option("--agent", help="Arm whose log it is (default: the first; csv: all).")
@click.option("--seed", type=int, help="Its seed (default: the first; csv: all).")
@click.option("--out", type=path, help="File, or Minari's folder of data sets (default: RUN/export/…).")
def export(run: Path, to: str, **values: Any) -> None:
    """Write the log of a run in a format of another package.

    RUN is the folder of a comparison that kept its ledger.
    """
    place, said = scenarios.export(run, to, **values, console=terminal())
    click.echo(f"{place}: {said}")
