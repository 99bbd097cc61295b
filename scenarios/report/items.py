"""Who gained, who was starved: exposures of items and of groups under each agent, beside those of the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rimsim.arrays import Floats, Ints
from rimsim.measures import late_rounds, late_words
from rimsim.scenarios.report.agreement import signed
from rimsim.scenarios.report.record import TextTable
from rimsim.scenarios.report.summary import baseline_of, others_than
from rimsim.scenarios.runs.status import is_control

GROUPS = ("provider", "genres")
"""Columns of the catalogue that group items; an item may be in several groups, joined by ``|``."""
_EACH = 8
"""Items at either end of a table."""
_MOST_GROUPS = 20
_LONGEST = 44


def item_names(catalogue: pd.DataFrame) -> list[str]:
    """What to call each item: its title, else its id in the log, else its number.

    Args:
        catalogue: Columns item, events, and id and title where the run kept them.
    """
    names = [f"item {number}" for number in catalogue["item"]]
    for column in ("id", "title"):
        if column in catalogue:
            told = catalogue[column].fillna("").astype(str)
            names = [text or name for text, name in zip(told, names, strict=True)]
    return [f"{name[: _LONGEST - 1]}…" if len(name) > _LONGEST else name for name in names]


def item_exposures(
    ledger: pd.DataFrame, required: Mapping[tuple[int, int], Ints], n_items: int, rounds: int
) -> pd.DataFrame:
    """Exposures, consumptions and requirement of every item in a late round, the mean over late rounds and seeds.

    Args:
        ledger: Columns agent, seed, round, item, consumed; a row an exposure.
        required: (seed, round) → (M,) required exposures.
        n_items: Size of the catalogue, M.
        rounds: Rounds of the run.

    Returns:
        Columns agent, item, exposures, consumed, required, delivered (exposures that count for the requirement, over
        it; NaN where nothing is required); controls are left out.
    """
    late = late_rounds(rounds)
    tables = []
    of_late = ledger[ledger["round"].isin(late)]
    for agent, of_agent in of_late.groupby("agent", observed=True, sort=False):
        if is_control(str(agent)):
            continue
        sums = np.zeros((4, n_items))
        parts = of_agent.groupby(["seed", "round"], observed=True)
        for _, part in parts:
            seed, number = (int(part[column].iloc[0]) for column in ("seed", "round"))
            items = part["item"].to_numpy(np.int64)
            shown = np.bincount(items, minlength=n_items)
            taken = np.bincount(items[part["consumed"].to_numpy(bool)], minlength=n_items)
            owed = required.get((seed, number), np.zeros(n_items, np.int64))
            sums += np.stack([shown, taken, owed, np.minimum(shown, owed)])
        shown, taken, owed, kept = sums / max(1, len(parts))
        figures = {"exposures": shown, "consumed": taken, "required": owed, "delivered": _over(kept, owed)}
        tables.append(pd.DataFrame(figures).assign(agent=str(agent), item=np.arange(n_items)))
    columns = ["agent", "item", "exposures", "consumed", "required", "delivered"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def items_table(
    exposures: pd.DataFrame, catalogue: pd.DataFrame, agents: Sequence[str], rounds: int
) -> TextTable | None:
    """The items that an agent shows most more often than the baseline, and those that it shows most less often.

    Args:
        exposures: As :func:`item_exposures` gives them.
        catalogue: Columns item, events, and what is known of an item.
        agents: Names of arms in the order of the run; the last that is no baseline is the one that is told of if it is
            the only one, else the one that delivers most of what is required.
        rounds: Rounds of the run.
    """
    chosen = _chosen(exposures, agents)
    if chosen is None:
        return None
    agent, base = chosen
    here, there = (exposures[exposures["agent"] == name].set_index("item") for name in (agent, base))
    change = here["exposures"] - there["exposures"]
    order = change.sort_values(kind="stable").index
    gained = [item for item in order[::-1][:_EACH] if change[item] > 0]
    lost = [item for item in order[:_EACH] if change[item] < 0]
    names = dict(zip(catalogue["item"], item_names(catalogue), strict=True))
    genres = dict(zip(catalogue["item"], catalogue["genres"], strict=True)) if "genres" in catalogue else {}
    rows = []
    for item in [*gained, *reversed(lost)]:
        known = str(genres.get(item) or "–").replace("|", ", ")
        figures = (there["exposures"][item], here["exposures"][item], change[item], here["required"][item])
        taken = (there["consumed"][item], here["consumed"][item])
        rows.append(
            (
                names[item],
                known,
                f"{catalogue['events'].iloc[item]:,}",
                *(signed(float(value), 1) for value in (*figures, *taken)),
            )
        )
    columns = (
        "item",
        "genres",
        "events before",
        f"shown by {base}",
        f"shown by {agent}",
        "change",
        "required",
        f"taken, {base}",
        f"taken, {agent}",
    )
    title = (
        f"Who gained and who lost most with {agent} against {base}: exposures a round, {late_words(rounds)}"
    )
    return TextTable(title, columns, tuple(rows), labels=2) if rows else None


def group_exposures(exposures: pd.DataFrame, catalogue: pd.DataFrame, column: str) -> pd.DataFrame:
    """Share of the exposure and of the consumption of each group of items; an item counts in every group that it is in.

    Args:
        exposures: As :func:`item_exposures` gives them.
        catalogue: With a column ``column``: names joined by ``|``.
        column: What groups items.

    Returns:
        Columns group, agent, items, exposure, consumption (shares of all), delivered (of what is required); largest
        group first.
    """
    groups = catalogue[["item", column]].assign(group=catalogue[column].fillna("").astype(str).str.split("|"))
    groups = groups.explode("group")[["item", "group"]]
    groups = groups[groups["group"] != ""]
    both = groups.merge(
        exposures.assign(kept=exposures["delivered"].fillna(0) * exposures["required"]), on="item"
    )
    summed = both.groupby(["group", "agent"], sort=False)
    sums = summed[["exposures", "consumed", "required", "kept"]].sum().reset_index()
    totals = exposures.groupby("agent")[["exposures", "consumed"]].sum()
    of_agent = totals.loc[sums["agent"]].to_numpy(np.float64)
    size = groups["group"].value_counts()
    table = pd.DataFrame(
        {
            "group": sums["group"],
            "agent": sums["agent"],
            "items": size.loc[sums["group"]].to_numpy(),
            "exposure": _over(sums["exposures"].to_numpy(np.float64), of_agent[:, 0]),
            "consumption": _over(sums["consumed"].to_numpy(np.float64), of_agent[:, 1]),
            "delivered": _over(sums["kept"].to_numpy(np.float64), sums["required"].to_numpy(np.float64)),
        }
    )
    order = np.lexsort((table["group"].to_numpy(str), -table["items"].to_numpy()))
    return table.iloc[order].reset_index(drop=True)


def group_table(exposures: pd.DataFrame, catalogue: pd.DataFrame, agents: Sequence[str]) -> list[TextTable]:
    """For each column that groups items, a row a group: its share of the exposure with every agent."""
    tables = []
    there = set(exposures["agent"])
    shown = [name for name in agents if name in there]
    for column in GROUPS:
        if column not in catalogue or not catalogue[column].fillna("").astype(str).str.len().any():
            continue
        table = group_exposures(exposures, catalogue, column)
        wide = table.pivot(index="group", columns="agent", values="exposure")
        rows = [
            (str(group), f"{items}", *(f"{100 * wide.loc[group, name]:.1f} %" for name in shown))
            for group, items in table[["group", "items"]]
            .drop_duplicates()
            .head(_MOST_GROUPS)
            .to_numpy()
            .tolist()
        ]
        word = column.removesuffix("s")
        title = f"Share of the exposure by {word}, late rounds; an item counts in each {word} that it has"
        tables.append(TextTable(title, (word, "items", *shown), tuple(rows)))
    return tables


def _chosen(exposures: pd.DataFrame, agents: Sequence[str]) -> tuple[str, str] | None:
    """The agent that is told of, and the baseline."""
    there = [name for name in agents if name in set(exposures["agent"])]
    if len(there) < 2:
        return None
    base = baseline_of(there)
    kept = exposures.groupby("agent")["delivered"].mean().fillna(0.0)
    return max(others_than(base, there), key=lambda name: kept[name]), base


def _over(values: Floats, totals: Floats) -> Floats:
    """Shares; NaN where there is nothing to have a share of."""
    shares = np.full(len(values), np.nan)
    np.divide(values, totals, out=shares, where=totals > 0)
    return shares
