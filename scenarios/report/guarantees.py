"""What a comparison says of guarantees that were not kept: how much, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.measures import late_means
from rimsim.scenarios.report.summary import shortfalls, told_unit
from rimsim.scenarios.runs.status import shown_rounds

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.scenarios.runs.store import Run


_NEGLIGIBLE = 0.005
"""Share of what is guaranteed below which nothing is said."""


def undelivered_notes(run: Run) -> list[str]:
    """Why guarantees are not kept: what no agent could deliver, then a sentence for every arm with prices.

    An arm is named if it leaves some undelivered in late rounds; nothing is said while none is done.

    Args:
        run: The comparison.
    """
    rounds = shown_rounds(run)
    if rounds.empty:
        return []
    exposure = run.scenario.exposure
    unit = told_unit(rounds, exposure.unit)
    kept, _ = shortfalls(unit)
    late = late_means(rounds)
    means = late.groupby(["agent", "metric"], observed=True)["value"].mean()
    notes = [] if run.undeliverable is None else [_beyond_reach(run.undeliverable)]
    for name in run.agents:
        missing = float(means.get((name, kept), 0.0))
        bound = means.get((name, "prices_at_bound"))  # an agent without prices knows no guarantees
        if bound is not None and missing > _NEGLIGIBLE:
            since = _since(rounds, name)
            notes.append(
                undelivered_sentence(name, missing, float(bound), since, unit=unit, hard=exposure.hard)
            )
    return notes


def undelivered_sentence(
    agent: str, missing: float, at_bound: float, since: int | None, *, unit: str, hard: bool
) -> str:
    """How much of its guarantees an agent with prices leaves undelivered in late rounds, and what would help.

    Args:
        agent: Its name.
        missing: Share that is undelivered, in the unit of the guarantees.
        at_bound: Share of the guaranteed items whose price is as low as it may be.
        since: The first round in which any is; None if none ever is.
        unit: The unit of the guarantees.
        hard: Whether they are hard.
    """
    text = f"{agent} leaves {_share(missing)} of what is guaranteed undelivered in late rounds, counted as {unit}"
    if hard:
        return f"{text}: the guarantees are hard, so that nothing that was tried could deliver it"
    if since is None or at_bound < _NEGLIGIBLE:
        return (
            f"{text}; hardly a price is at the bound c, so that a higher `exposure.cost` would not help: its prices do "
            "not follow what is delivered"
        )
    return (
        f"{text}; the prices of {_share(at_bound)} of the items are at the bound c (some since round {since}): what "
        "they lack costs more than c; raise `exposure.cost`, lower `exposure.beta`, or set `exposure.hard: true`"
    )


def _beyond_reach(table: pd.DataFrame) -> str:
    """What no agent could deliver, by the first round in which it was so.

    Args:
        table: Columns agent, seed, round, text.
    """
    first = table.iloc[0]
    rounds = len(table[["agent", "seed", "round"]].drop_duplicates())
    where = f"{first['agent']}, seed {first['seed']}, round {first['round']}"
    return (
        f"warning: guarantees cannot all be delivered in {rounds} rounds of arms, as was known before each; {where}: "
        f"{first['text']} (all: undeliverable/)"
    )


def _since(rounds: pd.DataFrame, agent: str) -> int | None:
    """The first round in which a price of an agent is at the bound; None if none is."""
    rows = rounds[
        (rounds["agent"] == agent) & (rounds["metric"] == "prices_at_bound") & (rounds["value"] > 0)
    ]
    return None if rows.empty else int(rows["round"].min())


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if value < 0.0995 else f"{100 * value:.0f} %"
