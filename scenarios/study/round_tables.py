"""Tables of a round of an arm."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import pandas as pd

from rimsim import measures
from rimsim.agents.feasibility import undeliverable
from rimsim.arrays import NEVER, Floats, Ints, seconds
from rimsim.market import ClosedRound, Market
from rimsim.market.providers import Roster
from rimsim.measures.groups import figures_of_groups
from rimsim.requirements.campaigns import group_name
from rimsim.scenarios.runs.arms import Arm
from rimsim.scenarios.runs.files import write_table

GroupMembers: TypeAlias = Mapping[str, Mapping[str, Ints]]
"""Column → group → items of the group."""


def round_table(arm: Arm, number: int, columns: Mapping[str, object]) -> pd.DataFrame:
    """Table of a round with agent, seed and round."""
    keys = {"agent": arm.name, "seed": np.int64(arm.seed), "round": np.int64(number)}
    return pd.DataFrame(keys | dict(columns))


def _put(arm: Arm, table: str, number: int, columns: Mapping[str, object]) -> None:
    """Write an arm's part of a table."""
    write_table(arm.round_file(table, number), round_table(arm, number, columns))


def write_undeliverable(arm: Arm, market: Market, release: Floats) -> None:
    """Write table ``undeliverable``, if a guarantee is infeasible."""
    end = market.world.end
    infeasible = undeliverable(
        market.round_view(), release, ended=np.where(end == NEVER, np.inf, seconds(end))
    )
    if infeasible:
        columns = {
            "why": [guarantee.why for guarantee in infeasible],
            "items": [len(guarantee.items) for guarantee in infeasible],
            "required": [guarantee.required for guarantee in infeasible],
            "reachable": [guarantee.reachable for guarantee in infeasible],
            "text": [str(guarantee) for guarantee in infeasible],
        }
        _put(arm, "undeliverable", market.round, columns)


def groups_table(
    arm: Arm, members: GroupMembers, closed: ClosedRound, facts: measures.RoundFacts
) -> pd.DataFrame:
    """Figures of each group in a round, as table ``groups``."""
    promises = closed.promises
    groups = arm.config.exposure.groups
    only_capped = {group.column for group in groups} - {group.column for group in groups if group.beta > 0}
    required_and_delivered = {
        name: (required, delivered)
        for name, required, delivered in zip(
            promises.name, promises.min_exposure, closed.delivered, strict=True
        )
    }
    tables = []
    for column, items in members.items():
        exposures_of_groups = {
            group: required_and_delivered[name]
            for group in items
            if column not in only_capped and (name := group_name(column, group)) in required_and_delivered
        }
        rows = figures_of_groups(facts, items, exposures_of_groups)
        figures = pd.DataFrame(rows, columns=["group", "metric", "value"])
        figures.insert(0, "column", column)
        tables.append(figures)
    keys = {"agent": arm.name, "seed": np.int64(arm.seed), "round": np.int64(closed.number)}
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"value": []})
    # Keys are lists, so that a table without rows has these columns too.
    key_columns = {name: [value] * len(table) for name, value in keys.items()}
    return pd.DataFrame({**key_columns, **table})


def write_round(
    arm: Arm,
    market: Market,
    closed: ClosedRound,
    facts: measures.RoundFacts,
    price: Floats | None,
    groups: pd.DataFrame,
) -> None:
    """Write the tables of a round."""
    number = closed.number
    _write_exposures(arm, closed)
    _write_arrivals(arm, closed)
    _put(arm, "learnt", number, {"events": [closed.learnt_events]})
    _write_required(arm, market, number, facts.required_positions)
    moves = _moves(closed, market.world.roster)
    if moves is not None:
        _put(arm, "providers", number, moves)
    if closed.happenings:
        _put(arm, "happenings", number, happenings_columns(closed))
    if len(closed.promises):
        _write_promises(arm, closed)
    if len(groups):
        write_table(arm.round_file("groups", number), groups)
    _write_reliability(arm, number, facts)
    if price is not None:
        _put(arm, "prices", number, {"item": np.arange(len(price)), "price": price, "cost": closed.cost})


def _write_exposures(arm: Arm, closed: ClosedRound) -> None:
    """Write tables ``ledger`` and ``truth``, if they are asked for."""
    ledger = closed.ledger
    if arm.options.ledger:
        exposures = ledger.table(arm.name, arm.seed, closed.number)
        exposures = exposures.assign(agent=exposures["agent"].astype(str))
        write_table(arm.round_file("ledger", closed.number), exposures)
    if "truth" in arm.options.reveal:
        _put(arm, "truth", closed.number, ledger.true_columns())


def _write_arrivals(arm: Arm, closed: ClosedRound) -> None:
    """Write table ``arrivals``."""
    schedule = closed.ledger.schedule
    columns = {
        "arrival": schedule.id,
        "time": schedule.tick / 1e6,
        "user": schedule.user[schedule.slot],
        "log_user": schedule.log_user[schedule.slot],
        "ground_intensity": closed.ledger.ground,
    }
    _put(arm, "arrivals", closed.number, columns)


def _write_required(arm: Arm, market: Market, number: int, required: Floats) -> None:
    """Write table ``required``; arms with equal guarantees share a file."""
    guaranteed = np.flatnonzero(required)
    table = round_table(arm, number, {"item": guaranteed, "required": required[guaranteed]})
    file = arm.round_file("required", number)
    if market.same_for_all_arms:
        table = table.drop(columns="agent")
        file = file.with_name(f"{arm.seed}-{number:03d}.parquet")
    write_table(file, table)


def happenings_columns(closed: ClosedRound) -> dict[str, object]:
    """Columns of table ``happenings``, without agent, seed and round."""
    happenings = closed.happenings
    return {
        "number": np.arange(len(happenings)),
        "time": [happening.time for happening in happenings],
        "process": [happening.process for happening in happenings],
        "what": [happening.change for happening in happenings],
        "item": np.array([happening.item for happening in happenings], np.int64),
        "value": np.array([happening.value for happening in happenings], np.float64),
    }


def _write_promises(arm: Arm, closed: ClosedRound) -> None:
    """Write table ``promises``."""
    promises = closed.promises
    columns = {
        "name": list(promises.name),
        "begin": promises.begin / 1e6,
        "end": promises.end / 1e6,
        "arrivals": promises.arrivals,
        "due": closed.due,
        "least": promises.min_exposure,
        "most": promises.max_exposure,
        "delivered": closed.delivered,
    }
    _put(arm, "promises", closed.number, columns)


def _write_reliability(arm: Arm, number: int, facts: measures.RoundFacts) -> None:
    """Write table ``reliability`` of predicted consumption, by decile."""
    is_filled = facts.slates >= 0
    predicted = measures.predicted_consumption(facts.intensity, facts.examination)
    curve = measures.reliability(predicted[is_filled], facts.consumed[is_filled])
    columns = {"decile": 1 + np.arange(len(curve.exposures)), **dataclasses.asdict(curve)}
    _put(arm, "reliability", number, columns)


def _moves(closed: ClosedRound, roster: Roster) -> dict[str, object] | None:
    """Table columns on providers that left or came, if any."""
    changes = closed.changes
    providers = np.flatnonzero(changes.leaves | changes.comes)
    if not len(providers):
        return None
    items = np.bincount(roster.of_item, minlength=len(roster.names))
    return {
        "provider": [roster.names[provider] for provider in providers],
        "event": np.where(changes.leaves[providers], "left", "came"),
        "items": items[providers],
        "satisfaction": changes.satisfaction[providers],
    }
