"""What is said before anything is fitted: once each, to whoever looks on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.market import build_world
from rimsim.scenarios.store.load_report import told
from rimsim.scenarios.study.feasibility import undeliverable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from rimsim.config import ScenarioConfig

__all__ = ["tell"]


def tell(scenarios: Sequence[ScenarioConfig], console: Console | None) -> None:
    """Say what was read of the logs of some scenarios, and which of their guarantees cannot be kept.

    Args:
        scenarios: The scenarios.
        console: Where to say it; None: nowhere.
    """
    if console is None:
        return
    of_each_log = {config.data: config for config in scenarios}.values()
    texts = [told(build_world(config).log) for config in of_each_log]
    texts += [None if (text := undeliverable(config)) is None else f"note: {text}" for config in scenarios]
    for text in dict.fromkeys(texts):
        if text is not None:
            console.print(text, highlight=False, soft_wrap=True, markup=False)
