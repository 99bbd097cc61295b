"""Help of the command line: sections, placeholders of values, examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import click

COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "Start": ("demo", "data", "validate", "backtest", "completion"),
    "Play": ("compare", "sweep", "study", "payback", "experiment", "leaderboard"),
    "Read": ("report", "diff", "export", "ope"),
    "List": ("scenarios", "agents", "models", "arrivals", "consumers", "providers", "processes", "measures"),
}
"""Section of ``rimsim --help`` → its commands."""

OPTIONS: Final[Mapping[str, Sequence[str]]] = {
    "Market": [
        "--scenario",
        "--agents",
        "--guarantee",
        "--rounds",
        "--seeds",
        "--set",
        "--beta",
        "--grid",
        "--control",
        "--frozen",
        "--learners",
        "--worlds",
        "--arrivals",
        "--design",
        "--training",
        "--prices",
        "--interval",
    ],
    "Log": [
        "--data",
        "--columns",
        "--items",
        "--separator",
        "--encoding",
        "--time-unit",
        "--skip-bad-rows",
        "--drop-returns",
        "--min-item-events",
        "--min-user-events",
        "--min-value",
        "--start",
        "--stop",
        "--repeats",
    ],
    "Run": [
        "--dry-run",
        "--trust",
        "--resume",
        "--from",
        "--workers",
        "--batch-size",
        "--backend",
        "--address",
        "--no-certificate",
    ],
    "Output": ["--out", "--groups", "--measures", "--reveal", "--ledger", "--no-ledger", "--beside"],
}
"""Section of a command's help → the options that it may have."""

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "compare": (
        "rimsim compare --agents relevance,rim-feedback --rounds 4 --seeds 3",
        "rimsim compare --data shop.csv --columns user=buyer,item=sku,time=at --guarantee seller=0.5",
    )
}
"""Command → command lines at the end of its help."""

METAVARS: Final[Mapping[str, str]] = {
    "--address": "HOST:PORT",
    "--after": "SHARE",
    "--agent": "AGENT",
    "--agents": "AGENT,…",
    "--append": "FILE",
    "--beside": "RUN",
    "--beta": "SHARE,…",
    "--caps": "NUMBER,…",
    "--columns": "ROLE=COLUMN,…",
    "--data": "LOG",
    "--device": "DEVICE",
    "--encoding": "NAME",
    "--frozen": "AGENT,…",
    "--from": "RUN",
    "--grid": "FIELD=VALUE,…",
    "--groups": "COLUMN,…",
    "--guarantee": "COLUMN=SHARE",
    "--horizon": "DURATION",
    "--interval": "DURATION",
    "--items": "FILE",
    "--life": "DURATION",
    "--logged": "AGENT",
    "--measures": "FILE.py:NAME,…",
    "--models": "MODEL,…",
    "--observed": "FILE",
    "--observed-columns": "ROLE=COLUMN,…",
    "--picture": "FILE",
    "--recent": "SHARE",
    "--scenario": "SCENARIO",
    "--separator": "TEXT",
    "--serving": "MODEL",
    "--set": "FIELD=VALUE",
    "--start": "TIME",
    "--stop": "TIME",
    "--target": "AGENT",
    "--to": "FORMAT",
    "--truths": "TRUTH,…",
    "--without": "MODEL,…",
}
"""Option → placeholder of its value. Other options have the placeholder of their type."""

_MANY: Final = 12
"""Number of options from which on a help has sections."""


class SectionedGroup(click.Group):
    """Group whose help lists the commands in sections."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # Click requires this argument
        """Write the commands, section by section."""
        width = max(map(len, self.commands))
        for section, names in COMMANDS.items():
            rows = [
                (f"{name:{width}}", self.commands[name].get_short_help_str(formatter.width)) for name in names
            ]
            with formatter.section(section):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # Click requires this argument
        """Write the command to begin with."""
        formatter.write_paragraph()
        formatter.write_text("Begin with: rimsim demo --quick")


def write_options(
    params: Iterable[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write options; many of them in sections."""
    records = {param.opts[0]: param.get_help_record(ctx) for param in params}
    rows = {name: record for name, record in records.items() if record is not None and record[1]}
    sections: dict[str, list[tuple[str, str]]] = {}
    if len(rows) >= _MANY:
        sections = {
            title: [rows.pop(name) for name in names if name in rows] for title, names in OPTIONS.items()
        }
    sections["Other options" if sections else "Options"] = [*rows.values()]
    for title, lines in sections.items():
        if lines:
            with formatter.section(title):
                formatter.write_dl(lines)


def write_examples(command: str | None, formatter: click.HelpFormatter) -> None:
    """Write a command's examples, a line each."""
    if examples := EXAMPLES.get(command or "", ()):
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"  {example}\n")
