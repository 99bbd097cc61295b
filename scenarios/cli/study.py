"""Commands that ask which findings hold for a log."""

from __future__ import annotations

from typing import Any

import click

from rimsim import scenarios
from rimsim.errors import ConfigError
from rimsim.scenarios.cli import tools
from rimsim.scenarios.cli.completion import SCENARIO


@click.group()
def study() -> None:
    """Ask which findings hold for a log."""


@study.command(cls=tools.PlugCommand)
@click.argument("scenario", required=False, shell_complete=SCENARIO)
@tools.options("claims")
def claims(
    *, resume: bool, beside: tuple[str, ...], settings: tuple[tuple[str, object], ...], **values: Any
) -> None:
    """Play the arms behind the README's findings.

    SCENARIO is a name (rimsim scenarios) or a YAML file (default: closed-loop). The table has a row per finding and a
    column per log; it also goes to claims.parquet. Cells are blank where the truth is not fit for the log.
    """
    tools.require_once(values | {"settings": settings})
    asked = tools.given(values)
    others = [scenarios.load_run(folder, "comparison") for folder in beside]
    if resume:
        if "out" not in asked:
            raise ConfigError("--resume needs the folder of the run. Add --out RUN")
        scenarios.load_run(asked["out"], "comparison")  # a wrong folder is answered before torch is imported
        run = scenarios.resume_claims(asked["out"], workers=asked.get("workers"), console=tools.terminal())
    else:
        fields = {name: asked.pop(name) for name in list(asked) if "." in name}
        asked |= {"settings": dict(settings) | fields}
        run = scenarios.claims(**asked, command=tools.command_line(), console=tools.terminal())
    from rimsim.scenarios.report.claims import claims_report
    from rimsim.scenarios.report.console import show

    show(claims_report([run, *others]), tools.terminal())
