"""What a comparison says of groups and campaigns: how much of what was due was delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.scenarios.report.record import TextTable
from rimsim.scenarios.report.summary import interval_words, over_seeds
from rimsim.scenarios.report.tables import pivoted

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.scenarios.runs.store import Run


def delivered_of_due(promises: pd.DataFrame) -> pd.DataFrame:
    """Columns promise, agent, seed, due, delivered, value (delivered over due), over all rounds; caps are left out.

    Args:
        promises: The table of that name of a run.
    """
    rows = promises[promises["due"] > 0]
    keys = ["name", "agent", "seed"]
    sums = rows.groupby(keys, sort=False, observed=True)[["due", "delivered"]].sum().reset_index()
    return sums.rename(columns={"name": "promise"}).assign(value=sums["delivered"] / sums["due"])


def promised_table(run: Run) -> TextTable | None:
    """A row for each group and campaign, a column for each agent; None where nothing of the kind is promised."""
    if run.promises is None:
        return None
    shares = delivered_of_due(run.promises)
    agents = [name for name in run.agents if name in set(shares["agent"])]
    if not agents:
        return None
    means = over_seeds(shares.rename(columns={"agent": "metric"}), ["promise"], agents)
    unit = "as examined" if run.scenario.exposure.unit == "examined" else "as shown"
    title = f"Exposures of groups and campaigns over those that were due, {unit}, all rounds"
    return pivoted(f"{title}, {interval_words(len(run.seeds))}", means, ["promise"], agents)
