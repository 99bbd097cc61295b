"""Notes before a run: what was read of the logs, and which guarantees cannot be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.loading import own_code
from rimsim.market import build_world
from rimsim.market.build import expected_arrivals, own_places, plugs_of
from rimsim.market.clock import ALWAYS
from rimsim.scenarios.store.load_report import load_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from rimsim.config import ScenarioConfig

__all__ = ["print_notes", "undeliverable_note"]


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
    texts += [
        None if (text := undeliverable_note(config)) is None else f"note: {text}" for config in scenarios
    ]
    texts += [None if (text := _consumer_note(config)) is None else f"note: {text}" for config in scenarios]
    for text in dict.fromkeys(texts):
        if text is not None:
            console.print(text, highlight=False, soft_wrap=True, markup=False)


def _consumer_note(config: ScenarioConfig) -> str | None:
    """What the consumers of a scenario have to say of its log, if anything."""
    note = getattr(plugs_of(config)[1], "note", None)
    if note is None:
        return None
    with own_code(own_places(config)):
        return str(note(build_world(config).log))


def undeliverable_note(config: ScenarioConfig) -> str | None:
    """What a round's guarantees ask for beyond the positions that it has; None where there are enough.

    Only ``exposure.each`` can ask for too much: a share β is one of the positions there are. Items that come on the way
    are not counted, so that the note holds in every round.

    Args:
        config: The scenario.
    """
    each = config.exposure.each
    if each is None:
        return None
    arrivals = expected_arrivals(config) // config.rounds
    items = int(np.count_nonzero(build_world(config).release == ALWAYS))
    items = min(items, config.exposure.items or items)
    asked, there = items * min(each, arrivals), arrivals * min(config.slate, config.user_cap or config.slate)
    if asked <= there:
        return None
    return (
        f"guarantees ask for {asked:,} exposures a round ({items} items, {each} each), the slates have {there:,}: at "
        f"least {100 * (asked - there) // asked} % stays undelivered; set exposure.each or exposure.items lower"
    )
