"""Notes before a run: what was read of the logs, and which guarantees cannot be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.market import build_world
from rimsim.scenarios.store.load_report import load_text
from rimsim.scenarios.study.feasibility import undeliverable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from rimsim.config import ScenarioConfig

__all__ = ["print_notes"]


def print_notes(scenarios: Sequence[ScenarioConfig], console: Console | None) -> None:
    """Print what was read of the logs of scenarios, and which of their guarantees cannot be kept; each note once.

    Args:
        scenarios: The scenarios.
        console: Where to say it; None: nowhere.
    """
    if console is None:
        return
    of_each_log = {config.data: config for config in scenarios}.values()
    texts = [load_text(build_world(config).log) for config in of_each_log]
    texts += [None if (text := undeliverable(config)) is None else f"note: {text}" for config in scenarios]
    for text in dict.fromkeys(texts):
        if text is not None:
            console.print(text, highlight=False, soft_wrap=True, markup=False)
