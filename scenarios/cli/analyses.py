"""``rimsim backtest``, ``validate``, ``experiment``, ``ope`` and ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rimsim import scenarios
from rimsim.errors import ConfigError
from rimsim.scenarios.cli import tools


@click.command()
@tools.options("backtest")
def backtest(out: Path | None, **values: Any) -> None:
    """Compare intensity models on what users did next."""
    from rimsim.config.reading import record_from

    kind = scenarios.BacktestConfig
    plain = tools.nested(values, kind().data.min_item_events)
    config = record_from(plain, kind, origin="backtest", options=tools.option_of_field())
    tools.print_run(scenarios.backtest(config, out=out, command=tools.command_line(), report=click.echo).run)


@click.command()
@tools.options("validate")
def validate(out: Path | None, **values: Any) -> None:
    """Judge by held-out sessions whether the market is believable."""
    from rimsim.config.reading import record_from
    from rimsim.scenarios.kinds.validate import with_serving

    named, kind = tools.option_of_field(), scenarios.ValidateConfig
    for name in ("observed.columns", "observed.taken_at"):
        if values[name.replace(".", "__")] is not None and values["observed__table"] is None:
            raise ConfigError(f"{named[name]}: applies to known answers only. Add --observed FILE")
    plain = tools.nested(values, kind().data.min_item_events)
    if "serving" in plain:
        plain["models"] = with_serving(plain.get("models"), plain["serving"], plain.get("without", ()))
    config = record_from(plain, kind, origin="validate", options=named)
    tools.print_run(scenarios.validate(config, out=out, command=tools.command_line(), report=click.echo).run)


@click.command()
@click.argument("a")
@click.argument("b")
@tools.options("experiment")
def experiment(a: str, b: str, *, settings: tuple[tuple[str, object], ...], **values: Any) -> None:
    """Compare an A/B test with two whole worlds.

    Both arms share visitors, items, a log and a budget of floors. Tables go to experiment.parquet and arrivals.parquet.
    """
    asked = tools.given(values) | {
        "settings": dict(settings),
        "command": tools.command_line(),
        "console": tools.terminal(),
    }
    tools.require_names(asked.get("scenario"), asked["settings"], (a, b))
    tools.print_run(scenarios.experiment(a, b, **asked).run)


@click.command()
@click.argument("run", type=tools.path)
@tools.options("ope")
def ope(run: Path, target: str, **values: Any) -> None:
    """Value an agent on the log of another.

    RUN is the folder of a comparison. Its log is made again, the target is asked in each of its states and then plays
    in a world of its own. Tables go to ope.parquet in the folder, the picture to pictures/ope.png.
    """
    from rimsim.scenarios.kinds.evaluate import evaluation_report
    from rimsim.scenarios.report.console import show

    console = tools.terminal()
    show(evaluation_report(scenarios.ope(run, target, **values, console=console)), console)


@click.command()
@click.argument("run", type=tools.path)
@tools.options("export")
def export(run: Path, to: str, **values: Any) -> None:
    """Write a run's log in another package's format.

    RUN is the folder of a comparison that kept its ledger.
    """
    place, said = scenarios.export(run, to, **values, console=tools.terminal())
    click.echo(f"{place}: {said}")
