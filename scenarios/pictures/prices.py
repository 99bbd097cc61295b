"""Pictures of prices and delivery: who needs a bonus, and how exposure follows its requirement through a round."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, PercentFormatter

from rimsim.arrays import Ints
from rimsim.scenarios.pictures.looks import styles
from rimsim.scenarios.pictures.messages import beside, many, per_cent, seeds_caption, subject
from rimsim.scenarios.pictures.style import frame, legend, plot_bands
from rimsim.scenarios.pictures.tables import DECILES, last_round, retrained

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rimsim.scenarios.pictures.looks import AgentStyle
    from rimsim.scenarios.pictures.tables import PictureTables


_PLACES = {"least popular": 0.02, "lower quarter": 0.25, "most popular": 0.95}
"""Which guaranteed items are followed: their place among all by popularity."""
_WIDEST = 28
"""Characters of an item's name above a panel."""


def price_deciles(tables: PictureTables) -> pd.DataFrame:
    """Mean bonus −v/c at the end of the last round, by decile of the items' popularity in the warm-up log.

    Returns:
        Columns agent, seed, decile (1 = least popular), value; agents without a bonus in it are left out. Empty
        without the tables.
    """
    empty = pd.DataFrame(columns=["agent", "seed", "decile", "value"])
    if tables.prices is None or tables.popularity is None:
        return empty
    last = retrained(tables.prices[tables.prices["round"] == last_round(tables.rounds)])
    if last.empty:
        return empty
    rank = np.argsort(np.argsort(tables.popularity, kind="stable"), kind="stable")
    decile = 1 + rank * DECILES // len(rank)
    bonus = last.assign(decile=decile[last["item"]], value=-last["price"] / last["cost"])
    means = bonus.groupby(["agent", "seed", "decile"], observed=True)["value"].mean().reset_index()
    paying = means.groupby("agent", observed=True)["value"].transform("max") > 0
    return means[paying].reset_index(drop=True)


def prices(tables: PictureTables) -> Figure | None:
    """The bonus −v at the end of the last round, by decile of the items' popularity in the warm-up log."""
    table = price_deciles(tables)
    if table.empty:
        return None
    looks = styles(table["agent"].unique())
    chosen = subject(looks)
    ends = table[table["agent"] == chosen].groupby("decile")["value"].mean()
    message = (
        f"{chosen} pays the least popular tenth of the items {per_cent(float(ends.iloc[0]))} of the shortfall cost "
        f"for an exposure, the most popular {per_cent(float(ends.iloc[-1]))}"
    )
    caption = f"Mean bonus −v of a decile at the end of round {last_round(tables.rounds)}, as a share of c."
    figure = frame(message, f"{caption} {seeds_caption(table)}", 5.0)
    ax, side = figure.subplots(1, 2, width_ratios=(3.6, 1))
    plot_bands(ax, table, "decile", looks)
    ax.set_xticks(range(1, DECILES + 1))
    ax.set_xlabel("decile of the items by popularity in the warm-up log, least popular first")
    ax.set_ylabel("bonus −v / shortfall cost c")
    ax.set_ylim(0, 1)
    ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    legend(side, looks)
    return figure


def delivery(tables: PictureTables) -> Figure | None:
    """Exposure against requirement, and the price paid for it, over the arrivals of the last round.

    Three guaranteed items are followed at one seed, from near the ends and the lower quarter of the popularity order.
    """
    number = last_round(tables.rounds)
    if (
        tables.ledger is None
        or tables.arrivals is None
        or tables.required is None
        or tables.popularity is None
    ):
        return None
    arrivals = retrained(tables.arrivals[tables.arrivals["round"] == number])
    if arrivals.empty or (int(arrivals["seed"].min()), number) not in tables.required:
        return None
    seed = int(arrivals["seed"].min())
    required = tables.required[seed, number]
    if not (required > 0).any():
        return None
    items = _followed(tables.popularity, required)
    ledger = retrained(tables.ledger)
    ledger = ledger[
        (ledger["round"] == number) & (ledger["seed"] == seed) & ledger["item"].isin(items.values())
    ]
    looks = styles(arrivals["agent"].unique())
    chosen = subject(looks)
    count = arrivals[(arrivals["seed"] == seed)].groupby("agent", observed=True).size().max()
    owed = {item: int(required[item]) for item in items.values()}
    counts = {name: ledger[ledger["agent"] == name]["item"].value_counts() for name in looks}
    message = f"{_delivered(chosen, counts[chosen], owed)} of {many(len(owed), 'item')} in round {number}"
    message += beside(chosen, looks, lambda name: _delivered(name, counts[name], owed, short=True))
    caption = (
        f"Seed {seed}. Above, grey: the requirement, spread evenly over the arrivals; the axis ends at three times "
        "as many. Below: the bonus at each exposure; dotted: its upper bound, the cost c of a missing exposure "
        f"with {chosen}."
    )
    figure = frame(message, caption, 6.4)
    notes = {item: _never_shown_by(counts, item) for item in owed}
    room = max(len(lines) for lines in notes.values())
    grid = figure.subplots(2, 4, width_ratios=(3, 3, 3, 1.8), sharex="col")
    bonuses = ledger["price"].to_numpy(np.float64)
    cost = _cost(tables, chosen, seed)
    highest = max([cost or 0.0, *(-bonuses[np.isfinite(bonuses)])]) or 1.0
    for column, (place, item) in enumerate(items.items()):
        top, below = grid[0, column], grid[1, column]
        top.plot([0, count], [0, required[item]], color="#999999", linewidth=3, alpha=0.6)
        for name, look in looks.items():
            order = arrivals[(arrivals["agent"] == name) & (arrivals["seed"] == seed)]["arrival"]
            shown = ledger[(ledger["agent"] == name) & (ledger["item"] == item)]
            at = pd.Index(order).get_indexer(shown["arrival"])
            rows = np.argsort(at, kind="stable")
            if len(at):
                _steps(top, at[rows], np.arange(1, len(at) + 1), count, look)
            price = shown["price"].to_numpy(np.float64)[rows]
            if np.isfinite(price).any() and (price < 0).any():
                below.plot(
                    at[rows], -price, color=look.colour, marker=look.marker, markersize=3.5, linewidth=1
                )
        if cost is not None:
            below.axhline(cost, color="#777777", linewidth=1.2, linestyle=":")
        top.annotate(
            "\n".join(notes[item]),
            (0, 1),
            (0, 5),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=9,
        )
        top.set_title(_titled(place, item, tables.names), loc="left", pad=7 + 12 * room)
        top.set_ylim(0, 3 * required[item])
        top.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        below.set_ylim(0, 1.12 * highest)
        below.set_xlabel("arrival of the round")
    grid[0, 0].set_ylabel("exposures so far")
    grid[1, 0].set_ylabel("bonus −v (units of λ)")
    legend(grid[0, 3], looks)
    grid[1, 3].set_axis_off()
    return figure


def _delivered(name: str, counts: pd.Series[int], owed: Mapping[int, int], *, short: bool = False) -> str:
    """What an agent delivered of what it owed to a few items; exposures beyond an item's guarantee do not count."""
    kept = sum(min(int(counts.get(item, 0)), wanted) for item, wanted in owed.items())
    if short:
        return f"{name} {kept}"
    return f"{name} delivers {kept} of the {sum(owed.values())} guaranteed exposures"


def _never_shown_by(counts: Mapping[str, pd.Series[int]], item: int) -> list[str]:
    """Lines that name the agents without an exposure of an item; none where all showed it."""
    names = [name for name, shown in counts.items() if not shown.get(item, 0)]
    text = f"no exposure: {', '.join(names)}" if names else ""
    return textwrap.wrap(text, 32, break_on_hyphens=False)


def _cost(tables: PictureTables, agent: str, seed: int) -> float | None:
    """Shortfall cost c of the last round, as the table of prices has it."""
    if tables.prices is None:
        return None
    last = tables.prices[
        (tables.prices["agent"] == agent)
        & (tables.prices["seed"] == seed)
        & (tables.prices["round"] == last_round(tables.rounds))
    ]
    return None if last.empty else float(last["cost"].iloc[0])


def _followed(popularity: Ints, required: Ints) -> dict[str, int]:
    """Place in the popularity order → the guaranteed item there."""
    guaranteed = np.flatnonzero(required)
    ordered = guaranteed[np.argsort(popularity[guaranteed], kind="stable")]
    return {place: int(ordered[round(share * (len(ordered) - 1))]) for place, share in _PLACES.items()}


def _titled(place: str, item: int, names: Sequence[str]) -> str:
    """A panel's title: the item's place by popularity, and its name where it has one, no wider than the panel."""
    return f"{place}\n{textwrap.shorten(names[item], _WIDEST, placeholder='…')}" if names else place


def _steps(ax: Axes, at: Ints, height: Ints, end: int, look: AgentStyle) -> None:
    """A count that rises by one at each position, from 0 to the end of the round, where the agent's marker stands."""
    x = np.concatenate([[0], at, [end]])
    y = np.concatenate([[0], height, [len(at)]])
    ax.step(x, y, where="post", color=look.colour, linewidth=1.8, marker=look.marker, markevery=[len(x) - 1])
