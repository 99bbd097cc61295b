"""Notes before a run: what was read of the logs, and which guarantees cannot be kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rimsim.agents import make_agent, undeliverable
from rimsim.durations import ALWAYS, seconds
from rimsim.loading import own_code
from rimsim.market import RoundView, build_world
from rimsim.market.world import first_round, own_places, plugs_of
from rimsim.requirements.carry_over import expected
from rimsim.scenarios.store.load_report import load_text

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.config import ScenarioConfig


def print_notes(
    scenarios: Sequence[ScenarioConfig], console: Console | None, agents: Sequence[str] = ()
) -> None:
    """Print what was read of the logs of scenarios, and which of their guarantees cannot be kept; each note once.

    Args:
        scenarios: The scenarios.
        console: Where to say it; None: nowhere.
        agents: Who acts in them, to name those that look at no group, campaign or cap.
    """
    if console is None:
        return
    of_each_log = {config.data: config for config in scenarios}.values()
    texts = [load_text(build_world(config).log) for config in of_each_log]
    texts += [f"note: {text}" for config in scenarios for text in undeliverable_notes(config)]
    texts += [None if (text := _consumer_note(config)) is None else f"note: {text}" for config in scenarios]
    texts += [
        None if (text := unheeded_note(config, agents)) is None else f"note: {text}" for config in scenarios
    ]
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


def unheeded_note(config: ScenarioConfig, agents: Sequence[str]) -> str | None:
    """Which agents look at no group, campaign or cap of a scenario; None where all do, or it has none.

    Args:
        config: The scenario.
        agents: Names of agents, with their options.
    """
    exposure = config.exposure
    there = (
        ("groups", bool(exposure.groups)),
        ("campaigns", bool(exposure.campaigns)),
        ("caps", exposure.most is not None),
    )
    promised = [name for name, some in there if some]
    blind = [name for name in agents if not getattr(make_agent(name), "keeps_promises", False)]
    if not promised or not blind:
        return None
    return (
        f"{', '.join(blind)} {'looks' if len(blind) == 1 else 'look'} at floors of items alone, at most, not at "
        f"{' or '.join(promised)}; what is missed or exceeded is in promises_missed and excess"
    )


def undeliverable_notes(config: ScenarioConfig) -> list[str]:
    """What the guarantees of the first round ask for beyond what any agent could deliver; see :func:`undeliverable`.

    Args:
        config: The scenario.
    """
    world, first = build_world(config), first_round(config, seed=0)
    promised, forecast = first.requirements, config.exposure.forecast * first.schedule.expected_over_actual
    m = len(promised.required)
    view = RoundView(
        round=0,
        arrivals=expected(len(first.schedule), forecast),
        slate=config.slate,
        required=promised.required,
        exposure=np.zeros(m),
        cost=1.0,
        popularity=np.zeros(m, np.int64),
        calibration=(),
        key=0,
        position_weights=promised.weights,
        opens=float(seconds(promised.start)),
        closes=float(seconds(promised.stop)),
        promises=promised.table,
    )
    per_slate = np.concatenate([[0.0], np.cumsum(promised.weights)])
    there = forecast * float(per_slate[first.positions].sum())
    released = np.where(world.release == ALWAYS, -np.inf, seconds(world.release))
    return [f"in the first round, {one}" for one in undeliverable(view, released, there)]
