"""The picture of campaigns: what was delivered against what was due, over the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.scenarios.pictures.looks import styles
from rimsim.scenarios.pictures.messages import beside, per_cent, seeds_caption, subject
from rimsim.scenarios.pictures.style import frame, panel_rows, panels, plot_bands
from rimsim.scenarios.pictures.tables import retrained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rimsim.scenarios.pictures.tables import PictureTables


_MOST = 5
"""Campaigns that are drawn, the largest first."""


def campaigns(tables: PictureTables) -> Figure | None:
    """Exposures of the largest campaigns up to each round, with what was due by then; None without campaigns."""
    table = None if tables.campaigns is None else retrained(tables.campaigns)
    if table is None or table.empty:
        return None
    table = _so_far(table)
    looks = styles(table["agent"].unique())
    size = table.groupby("name", observed=True)["due"].max().sort_values(ascending=False, kind="stable")
    names = size.index[:_MOST].tolist()
    chosen = subject(looks)
    message = f"{chosen} delivers {per_cent(_kept(table, chosen))} of what campaigns are promised"
    message += beside(chosen, looks, lambda name: f"{name} {per_cent(_kept(table, name))}")
    figure = frame(
        message,
        f"Points: where a round or the campaign ends; grey: due by then. {seeds_caption(table)}",
        1.0 + 2.7 * panel_rows(len(names), 1),
    )
    for ax, name in zip(panels(figure, len(names), looks, 1), names, strict=True):
        mine = table[table["name"] == name]
        due = mine.groupby("day")["due"].mean()
        ax.plot(due.index, due, color="#777777", linewidth=1.5, linestyle="--", marker="_")
        plot_bands(ax, mine, "day", looks)
        ax.set_title(str(name), loc="left")
        ax.set_ylabel("exposures so far")
        ax.set_ylim(bottom=0)
        ax.set_xlabel("days since it began")
    return figure


def _so_far(table: pd.DataFrame) -> pd.DataFrame:
    """Columns agent, seed, name, day (since the campaign began), due and value (delivered) by then, from 0 on."""
    keys = ["agent", "seed", "name"]
    table = table.sort_values([*keys, "round"], kind="stable")
    by_campaign = table.groupby(keys, observed=True)
    sums, began = by_campaign[["due", "delivered"]].cumsum(), by_campaign["begin"].transform("min")
    day = (table["end"] - began) / 86_400
    after = table[keys].assign(day=day, due=sums["due"], value=sums["delivered"])
    return pd.concat(
        [table[keys].drop_duplicates().assign(day=0.0, due=0.0, value=0.0), after], ignore_index=True
    )


def _kept(table: pd.DataFrame, agent: str) -> float:
    """Share of what an agent's campaigns promised that was delivered by the end, 1 where nothing was promised.

    What is delivered beyond that is left out.
    """
    last = table[table["agent"] == agent].groupby(["seed", "name"], observed=True)[["due", "value"]].last()
    due = float(last["due"].sum())
    return float(np.minimum(last["due"], last["value"]).sum()) / due if due else 1.0
