"""What pages of all kinds of runs say of their making."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from rimsim.scenarios.runs.store import Run


def versions_line(run: Run) -> str:
    """Versions on one line."""
    return ", ".join(f"{name} {version}" for name, version in run.config.get("versions", {}).items())


def as_sentence(note: str) -> str:
    """A note of a report with a capital and a full stop."""
    begins = (
        note[0].upper() if note.startswith(("round ", "warning")) else note[0]
    )  # else a name stands there
    return f"{begins}{note[1:]}{'' if note.endswith('.') else '.'}"


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Settings as YAML."""
    return yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, width=100)


def log_fact(run: Run, source: str) -> str:
    """The log of a run: its name and sizes."""
    log = run.config.get("log") or {}
    sizes = [f"{log[name]:,} {name}" for name in ("events", "users", "items") if name in log]
    return f"log `{source}`" + (f": {', '.join(sizes)}" if sizes else "")
