"""Write the pages and tables of docs/ that the code defines: ``python tools/write_reference_docs.py``.

docs/scenarios.md is made from the fields of the config records, docs/command-line.md from the commands, the table of
docs/measures.md from the registry of measures, that of docs/tracking.md from the tags, and the sections of
docs/tables.md from the schema of a run folder.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from pathlib import Path
from typing import Any

import click
from pydantic_core import PydanticUndefined

from rimsim.config import ScenarioConfig, find_scenario, scenario_names
from rimsim.measures import MEASURES
from rimsim.plugs import meanings
from rimsim.scenarios.cli.main import _rimsim
from rimsim.scenarios.runs.schema import TABLES
from rimsim.tracking import TAGS

WRITTEN = (
    "A duration is a number with its unit: `90s`, `30min`, `2h`, `1d`, also `1.5h` and `2h30min` (`m` is a minute).",
    "Months, years, zero and negative durations are refused.",
)
"""How values are written."""

USER_REC = """
## `user-rec` on your own log

`user-rec` asks for `exposure.items` × `exposure.each` = 40 × 7 = 280 messages per round. The embedded log has 671
users, so each gets at most one. `exposure.each` is the number of users that a promoted item should reach. With n users
and slates of k items, choose the two so that their product is at most n·k. For a log of 200 users, for example:

```sh
rimsim compare user-rec --data my_log.csv --agents relevance,user-rec,offline-match \\
    --set data.min_item_events=5 --set exposure.items=20 --set exposure.each=2
```
"""
"""How the numbers of one scenario fit a log."""

DOCS = Path(__file__).resolve().parent.parent / "docs"


def cell(text: str) -> str:
    """Text of a table's cell, with its pipes escaped."""
    return re.sub(r"(?<!\\)\|", r"\\|", text)


def records(record: type[Any], path: str = "") -> list[tuple[str, type[Any]]]:
    """(dotted path, record) of a config record and all within it."""
    pairs = [(path, record)]
    for name, kind in typing.get_type_hints(record).items():
        listed = [argument for argument in typing.get_args(kind) if dataclasses.is_dataclass(argument)]
        for inner in [kind] if dataclasses.is_dataclass(kind) else listed:
            pairs += records(inner, f"{path}{name}{'[]' if listed else ''}.")
    return pairs


def page() -> str:
    """The page as Markdown."""
    lines = [
        "# Scenarios",
        "",
        "Look up the built-in scenarios and the fields of a scenario here. A scenario is a YAML file with these",
        "fields. A field that the file leaves out has its default.",
        "",
        *WRITTEN,
        "",
    ]
    lines += ["| scenario | purpose |", "|---|---|"]
    lines += [f"| `{name}` | {find_scenario(name).description} |" for name in scenario_names()]
    for path, record in records(ScenarioConfig):
        title = f"`{path.rstrip('.')}`" if path else "Top level"
        summary = (record.__doc__ or "").strip().splitlines()[0]
        lines += ["", f"## {title}", "", summary, "", "| field | default | meaning |", "|---|---|---|"]
        for name, meaning in meanings(record).items():
            default = record.__pydantic_fields__[name].default
            lines.append(f"| `{name}` | {cell(shown(default))} | {cell(meaning)} |")
    return "\n".join(lines) + "\n" + USER_REC


def shown(default: object) -> str:
    """A default as one would write it in YAML; a dash for nothing."""
    if dataclasses.is_dataclass(default):
        return "see below"
    if default is PydanticUndefined:
        return "–"
    if default is None or isinstance(default, bool):
        return f"`{json.dumps(default)}`"
    return f"`{default}`" if default != "" else "–"


def commands(group: click.Command, path: str = "rimsim") -> list[tuple[str, click.Command]]:
    """(full name, command) of all commands in a group and in its groups."""
    if not isinstance(group, click.Group):
        return [(path, group)]
    return [
        command
        for name in sorted(group.commands)
        for command in commands(group.commands[name], f"{path} {name}")
    ]


def page_of_commands() -> str:
    """Usage, help and options of every command, as in docs/command-line.md."""
    parts = [
        "# Command line",
        "Look up commands and options here. `rimsim COMMAND --help` prints the same text.",
    ]
    for path, command in commands(_rimsim):
        context = click.Context(command, info_name=path)
        usage = " ".join([path, *command.collect_usage_pieces(context)])
        text = " ".join((command.help or "").replace("\b", "").split())
        parts += [f"## `{path}`", f"{text}\n\n```text\n{usage}\n```"]
        rows = [param.get_help_record(context) for param in command.params]
        cells = [[cell(" ".join(text.split())) for text in row] for row in rows if row and row[1]]
        lines = [f"| `{name}` | {meaning} |" for name, meaning in cells]
        if lines:
            table = "\n".join(["| option | meaning |", "|---|---|", *lines])
            parts.append(table.replace("<", "&lt;"))
    return "\n\n".join(parts) + "\n"


def table_of_measures() -> str:
    """Table of all measures, as in docs/measures.md."""
    lines = ["| metric | title | group | formula | unit | better |", "|---|---|---|---|---|---|"]
    for measure in MEASURES.values():
        better = measure.better.replace("neither", "–")
        row = f"`{measure.name}`", measure.title, measure.group, cell(measure.formula), measure.unit, better
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def table_of_tags() -> str:
    """Table of TensorBoard's tags, as in docs/tracking.md."""
    names = dict.fromkeys([*(measure.group for measure in MEASURES.values()), "own"])
    groups = ", ".join(f"`{name}/…`" for name in names)
    rows = {groups: "the [measures](measures.md); `own/…` are your own without another group"}
    rows |= {f"`{tag}`": meaning for tag, meaning in TAGS.items()}
    lines = [f"| {tag} | {cell(meaning)} |" for tag, meaning in rows.items()]
    return "\n".join(["| tag | meaning |", "|---|---|", *lines]) + "\n"


def sections_of_tables() -> str:
    """Sections of docs/tables.md, one per table."""
    parts = []
    for name, table in TABLES.items():
        condition = f"; there {table.condition}" if table.condition else ""
        made = f"Written by `rimsim {table.made_by}`. A row is {table.row}{condition}."
        place = f"{name}/*.parquet" if table.parts else f"{name}.parquet"
        lines = [f"## `{place}`", "", made, "", "| column | content |", "|---|---|"]
        lines += [f"| `{column}` | {cell(content)} |" for column, content in table.columns.items()]
        if table.further_columns:
            lines += ["", f"Further columns: {table.further_columns}."]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def written(name: str) -> str:
    """A page of docs/ with the tables as the code has them."""
    if name == "scenarios.md":
        return page()
    if name == "command-line.md":
        return page_of_commands()
    text = (DOCS / name).read_text(encoding="utf-8")
    if name == "tables.md":
        return text[: text.index("## `")] + sections_of_tables()
    table = table_of_tags() if name == "tracking.md" else table_of_measures()
    before, rest = text.split(table.split("|---")[0], 1)
    after = rest.split("\n\n", 1)[1]
    return f"{before}{table}\n{after}"


PAGES = ("scenarios.md", "command-line.md", "measures.md", "tables.md", "tracking.md")

if __name__ == "__main__":
    for file in PAGES:
        (DOCS / file).write_text(written(file), encoding="utf-8")
