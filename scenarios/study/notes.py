"""Notes on a study before it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence

import numpy as np
from rich.console import Console

from rimsim.agents import BUILT_IN as AGENTS
from rimsim.agents import Capabilities, make_agent, undeliverable
from rimsim.arrays import ALWAYS, NEVER, seconds
from rimsim.config import ScenarioConfig
from rimsim.config.fields import duration_seconds
from rimsim.errors import plural
from rimsim.intensity.model_names import BUILT_IN as MODELS
from rimsim.market import RoundView, build_world
from rimsim.market.arrivals import BUILT_IN as ARRIVALS
from rimsim.market.arrivals import make_arrivals
from rimsim.market.consumers import BUILT_IN as CONSUMERS
from rimsim.market.platform_model import repeats_note
from rimsim.market.providers import BUILT_IN as PROVIDERS
from rimsim.market.round import RoundTerms
from rimsim.market.world import first_round, own_places, plugs_of
from rimsim.plugs import ignored_plug
from rimsim.requirements.campaigns import groups_of, members_of
from rimsim.requirements.rows import expected
from rimsim.scenarios.runs.records import load_text
from rimsim.user_code import own_code

_ALL = 0.999
"""Share of the positions, in the unit of guarantees, from which on a note says that all positions are guaranteed."""


def print_notes(
    scenarios: Sequence[ScenarioConfig], console: Console | None, agents: Sequence[str] = ()
) -> None:
    """Print facts of logs and notes on scenarios, each once."""
    if console is None:
        return
    config_of_log = {config.data: config for config in scenarios}
    log_texts = [load_text(build_world(config).log) for config in config_of_log.values()]
    counts = Counter(note for config in scenarios for note in dict.fromkeys(notes_of(config, agents)))
    # A sweep over beta has points with and without guarantees, so a note says of how many points it is true.
    notes = [
        f"note: {note}" if count == len(scenarios) else f"note on {count} of {len(scenarios)} points: {note}"
        for note, count in counts.items()
    ]
    for text in dict.fromkeys([*log_texts, *notes]):
        if text is not None:
            console.print(text, highlight=False, soft_wrap=not console.is_terminal, markup=False)


def notes_of(config: ScenarioConfig, agents: Sequence[str] = ()) -> list[str]:
    """Notes on a scenario and its agents, with remedies."""
    with own_code([*own_places(config), *agents]):
        first = first_round(config, seed=0)
        notes = [*undeliverable_notes(config, first), *_guarantee_notes(config, first)]
        notes += _clock_notes(config, first)
        notes += _group_notes(config, first)
        _, consumer = plugs_of(config)
        log = build_world(config).log
        note_of = getattr(consumer, "note", None)  # a consumer may have a note about the log
        further_notes = (
            note_of and str(note_of(log)),
            repeats_note(config.platform, log),
            ignored_requirements_note(config, agents),
        )
        return [*notes, *(note for note in further_notes if note), *_ignored_plugs(config, agents)]


def _ignored_plugs(config: ScenarioConfig, agents: Sequence[str]) -> list[str]:
    """Notes on installed plugs that built-in names hide."""
    used: list[tuple[str, str, Container[str]]] = [
        ("arrivals", config.arrivals.kind, ARRIVALS),
        ("consumers", config.consumer.kind, CONSUMERS),
        ("providers", config.providers.kind, PROVIDERS),
        ("models", config.platform.model.partition("(")[0], MODELS),
    ]
    used += [("agents", text.partition("(")[0], AGENTS) for text in agents]
    notes = (ignored_plug(name, kind, built_in) for kind, name, built_in in used)
    return list(dict.fromkeys(note for note in notes if note))


def _guarantee_notes(config: ScenarioConfig, first: RoundTerms) -> Iterator[str]:
    """Notes on guarantees of no exposure or of all positions."""
    required = float(first.requirements.required.sum())
    if not required and not len(first.requirements.table):
        yield (
            f"nothing is guaranteed in the first round (exposure.beta={config.exposure.beta:g}, exposure.forecast="
            f"{config.exposure.forecast:g}), so that a shortfall of 0 says nothing of an agent"
        )
    if required >= _ALL * _positions(config, first):
        yield (
            "the guarantees take up all positions of the first round, so that no visitor can be shown what he likes "
            "best beyond them. Lower exposure.beta to leave agents a choice"
        )


def _group_notes(config: ScenarioConfig, first: RoundTerms) -> Iterator[str]:
    """Notes on lost, missing and unguaranteed groups of items."""
    log = build_world(config).log
    n_before_of = {} if log.report is None else dict(log.report.values)
    number = 0
    for group in config.exposure.groups:
        column = group.column
        members = members_of(log.items, column)
        n_before = n_before_of.get(column, 0)
        covers_all = group.values is None
        if covers_all and len(members) < n_before:
            yield (
                f"the selection of events leaves {len(members):,} of the {n_before:,} {plural(column)}; the others "
                f"have no item with enough events (data.min_item_events is {config.data.min_item_events}). To keep "
                "more groups, lower data.min_item_events (--min-item-events)"
            )
        in_group = np.zeros(log.n_items, bool)
        in_group[np.concatenate(list(members.values()))] = True
        n_outside = int((~in_group).sum())
        if covers_all and n_outside and group.beta > 0:
            yield (
                f"{n_outside:,} of the {log.n_items:,} items have no {column}, so they belong to no group and have "
                "no guarantee"
            )
        guarantees = np.arange(number, number + len(groups_of(log.items, group).guarantees))
        number += len(guarantees)
        requirements = first.requirements
        is_zero = (requirements.due > 0) & (requirements.table.min_exposure == 0)
        n_without = int((is_zero & np.isin(requirements.guarantee, guarantees)).sum())
        if n_without:
            yield (
                f"in the first round, {n_without:,} of the {len(guarantees):,} {plural(column)} are guaranteed no "
                "exposure, because a guarantee is a whole number of exposures and theirs rounds to 0. To give them "
                "one, raise arrivals.per_round or beta"
            )


def _clock_notes(config: ScenarioConfig, first: RoundTerms) -> Iterator[str]:
    """Notes on times that do not fit the rounds."""
    if make_arrivals(config).known_beforehand or config.arrivals.kind == "replay":
        return  # a broadcast has no clock, and a replay has the log's clock
    start = first.schedule.start
    stop = first.schedule.stop
    rounds = config.rounds
    exposure = config.exposure
    length = float(seconds(stop) - seconds(start))
    days = f"{length / 86_400:g} days"
    delay = config.consumer.delay
    if delay is not None and duration_seconds(delay) >= (rounds - 1) * length > 0:
        yield (
            f"consumer.delay={delay} is no shorter than all rounds of {days} before the last, so that the platform "
            "learns nothing from this run. Shorten it, or take more rounds"
        )
    n_never_released = int((build_world(config).release >= start + rounds * (stop - start)).sum())
    if n_never_released:
        yield (
            f"{n_never_released:,} items are released after the last round and never shown. Take more rounds, or set "
            f"releases.last_round below {rounds}"
        )
    if exposure.per == "round" or not length:
        return
    if duration_seconds(exposure.per) < length:
        yield f"exposure.per={exposure.per} is shorter than a round of {days}: each round has its own guarantees"
    elif duration_seconds(exposure.per) % length:
        yield f"exposure.per={exposure.per} is no multiple of a round of {days}: its periods differ in their rounds"


def ignored_requirements_note(config: ScenarioConfig, agents: Sequence[str]) -> str | None:
    """Note about agents that ignore groups, campaigns and caps."""
    exposure = config.exposure
    requirements = {
        "groups": any(group.beta > 0 for group in exposure.groups),
        "campaigns": exposure.campaigns,
        "caps": exposure.most is not None or any(group.most is not None for group in exposure.groups),
    }
    kinds = [name for name, requirement in requirements.items() if requirement]
    blind = [name for name in agents if not Capabilities.of(make_agent(name)).keeps_promises]
    if not kinds or not blind:
        return None
    return (
        f"{', '.join(blind)} {'ignores' if len(blind) == 1 else 'ignore'} {' and '.join(kinds)}, so these may be left "
        "undelivered or be exceeded. The columns undelivered and excess tell how much"
    )


def undeliverable_notes(config: ScenarioConfig, first: RoundTerms | None = None) -> list[str]:
    """Notes about first-round guarantees that no agent could deliver."""
    world = build_world(config)
    first = first or first_round(config, seed=0)
    requirements = first.requirements
    forecast = config.exposure.forecast * first.schedule.expected_over_actual
    m = len(requirements.required)
    view = RoundView(
        round=0,
        arrivals=expected(len(first.schedule), forecast),
        slate=config.slate,
        required=requirements.required,
        exposure=np.zeros(m),
        cost=1.0,
        popularity=np.zeros(m, np.int64),
        calibration=(),
        key=0,
        position_weights=requirements.position_weights,
        opens=float(seconds(requirements.start)),
        closes=float(seconds(requirements.stop)),
        promises=requirements.table,
        windows=requirements.windows,
    )
    released = np.where(world.release == ALWAYS, -np.inf, seconds(world.release))
    ended = np.where(world.end == NEVER, np.inf, seconds(world.end))
    return [
        f"in the first round, {problem}"
        for problem in undeliverable(view, released, _positions(config, first), ended)
    ]


def _positions(config: ScenarioConfig, first: RoundTerms) -> float:
    """Forecast capacity of the first round, in the guarantee's unit."""
    # Weight of a slate, by its number of positions.
    slate_weight = np.concatenate([[0.0], np.cumsum(first.requirements.position_weights)])
    forecast = config.exposure.forecast * first.schedule.expected_over_actual
    return forecast * float(slate_weight[first.positions].sum())
