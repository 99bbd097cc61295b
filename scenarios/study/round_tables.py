"""The tables that an arm leaves of a round, each in a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.agents.feasibility import undeliverable
from rimsim.arrays import Floats
from rimsim.measures import predicted_consumption, reliability
from rimsim.scenarios.store.write import write_table

if TYPE_CHECKING:
    from rimsim.market import ClosedRound, Market
    from rimsim.market.providers import Roster
    from rimsim.measures import RoundFacts
    from rimsim.scenarios.execution.arm import Arm


def round_table(arm: Arm, number: int, columns: Mapping[str, object]) -> pd.DataFrame:
    """A table of a round: agent, seed, round, then the columns given."""
    keys = {"agent": arm.name, "seed": np.int64(arm.seed), "round": np.int64(number)}
    return pd.DataFrame(keys | dict(columns))


def write_tables(
    arm: Arm, market: Market, closed: ClosedRound, facts: RoundFacts, price: Floats | None
) -> None:
    """Write what is kept of a round.

    Args:
        arm: The arm.
        market: Its market.
        closed: The round.
        facts: What measures are taken of.
        price: (M,) v(y) at the end of the round; None: the agent has none.
    """
    _write_round(arm, market, closed, facts.required_positions, price)
    _write_reliability(arm, facts)


def write_undeliverable(arm: Arm, market: Market, release: Floats) -> None:
    """Write what no agent could deliver in the round that opens, and why; nothing where all can be delivered.

    Args:
        arm: The arm.
        market: Its market.
        release: (M,) seconds at which items come.
    """
    found = undeliverable(market.round_view(), release)
    if found:
        columns = {
            "why": [one.why for one in found],
            "items": [len(one.items) for one in found],
            "required": [one.required for one in found],
            "reachable": [one.reachable for one in found],
            "text": [str(one) for one in found],
        }
        _put(arm, "undeliverable", market.round, columns)


def _put(arm: Arm, table: str, number: int, columns: Mapping[str, object]) -> None:
    """Write an arm's part of a table."""
    write_table(arm.round_file(table, number), round_table(arm, number, columns))


def _write_round(
    arm: Arm,
    market: Market,
    closed: ClosedRound,
    required: Floats,
    price: Floats | None,
) -> None:
    """The tables of a round; ``required`` (M,) is counted as positions, as the ledger's rows are."""
    number, ledger = closed.number, closed.ledger
    if arm.ledger:
        exposures = ledger.table(arm.name, arm.seed, number)
        write_table(arm.round_file("ledger", number), exposures.assign(agent=exposures["agent"].astype(str)))
    if arm.truth:
        _put(arm, "truth", number, ledger.true_columns())
    schedule = ledger.schedule
    arrivals = {
        "arrival": schedule.id,
        "time": schedule.tick / 1e6,
        "user": schedule.user[schedule.slot],
        "log_user": schedule.log_user[schedule.slot],
        "ground_intensity": ledger.ground,
    }
    _put(arm, "arrivals", number, arrivals)
    _put(arm, "learnt", number, {"events": [closed.learnt_events]})
    needed = np.flatnonzero(required)
    promised = round_table(arm, number, {"item": needed, "required": required[needed]})
    place = arm.round_file("required", number)
    if market.same_for_all_arms:
        promised, place = promised.drop(columns="agent"), place.with_name(f"{arm.seed}-{number:03d}.parquet")
    write_table(place, promised)
    moves = _moves(closed, market.world.roster)
    if moves is not None:
        _put(arm, "providers", number, moves)
    if len(closed.promises):
        _put(arm, "promises", number, _promised(closed))
    if price is not None:
        _put(arm, "prices", number, {"item": np.arange(len(price)), "price": price, "cost": closed.cost})


def _moves(closed: ClosedRound, roster: Roster) -> dict[str, object] | None:
    """Columns of who left and who came at a round's end; None where nobody did."""
    changes = closed.changes
    who = np.flatnonzero(changes.leaves | changes.comes)
    if not len(who):
        return None
    items = np.bincount(roster.of_item, minlength=len(roster.names))
    return {
        "provider": [roster.names[one] for one in who],
        "event": np.where(changes.leaves[who], "left", "came"),
        "items": items[who],
        "satisfaction": changes.satisfaction[who],
    }


def _promised(closed: ClosedRound) -> dict[str, object]:
    """Columns of what was promised in a round and delivered: seconds, exposures in the unit of the guarantee."""
    table = closed.promises
    return {
        "name": list(table.name),
        "begin": table.begin / 1e6,
        "end": table.end / 1e6,
        "arrivals": table.arrivals,
        "due": closed.due,
        "least": table.least,
        "most": table.most,
        "delivered": closed.delivered,
    }


def _write_reliability(arm: Arm, facts: RoundFacts) -> None:
    filled = facts.slates >= 0
    chance = predicted_consumption(facts.intensity, facts.examination)
    curve = reliability(chance[filled], facts.consumed[filled])
    columns = {
        "decile": 1 + np.arange(len(curve.exposures)),
        "exposures": curve.exposures,
        "predicted": curve.predicted,
        "consumed": curve.consumed,
    }
    _put(arm, "reliability", facts.round, columns)
