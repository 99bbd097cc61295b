"""Write docs/scenarios.md from the fields of the config records: ``python benchmarks/write_scenario_docs.py``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from rimsim.config import ScenarioConfig, find_scenario, scenario_names

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scenarios.md"


def records(record: type[Any], path: str = "") -> list[tuple[str, type[Any]]]:
    """(dotted path, record) of a config record and all within it."""
    found = [(path, record)]
    for field in dataclasses.fields(record):
        default = record.__pydantic_fields__[field.name].default
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            found += records(type(default), f"{path}{field.name}.")
    return found


def page() -> str:
    """The page as Markdown."""
    lines = [
        "# Scenarios",
        "",
        "A scenario is a YAML file with the fields below; what is left out has its default.",
        "",
    ]
    lines += ["| scenario | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {find_scenario(name).description} |" for name in scenario_names()]
    for path, record in records(ScenarioConfig):
        title = f"`{path.rstrip('.')}`" if path else "Top level"
        summary = (record.__doc__ or "").strip().splitlines()[0]
        lines += ["", f"## {title}", "", summary, "", "| field | default | meaning |", "|---|---|---|"]
        for field in dataclasses.fields(record):
            info = record.__pydantic_fields__[field.name]
            default = "see below" if dataclasses.is_dataclass(info.default) else f"`{info.default}`"
            lines.append(f"| `{field.name}` | {default} | {info.description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
