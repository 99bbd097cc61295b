"""Plots of guarantees: prices, delivery, campaigns, cost by visitor."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from rimsim.arrays import Ints
from rimsim.errors import many
from rimsim.measures import late_of, late_rounds
from rimsim.scenarios.report import charts, items, sentences, tables

_PLACES = {"least popular": 0.02, "lower quarter": 0.25, "most popular": 0.95}
"""Title of a panel → popularity rank of the panel's item among guaranteed items, from 0 to 1."""
_WIDEST = 28  # characters of an item's name above a panel
_MOST = 5  # campaigns that are drawn, the largest first


def price_deciles(data: tables.PictureTables) -> pd.DataFrame:
    """Mean bonus −v/c in the last round, by decile of popularity.

    Returns:
        Table with columns agent, seed, decile (1 = least popular) and value; agents without a bonus are left out.
        Without the data, the table has no rows.
    """
    empty = pd.DataFrame(columns=["agent", "seed", "decile", "value"])
    if data.prices is None or data.popularity is None:
        return empty
    last = tables.retrained(data.prices[data.prices["round"] == tables.last_round(data.rounds)])
    if last.empty:
        return empty
    rank = np.argsort(np.argsort(data.popularity, kind="stable"), kind="stable")
    decile = 1 + rank * items.DECILES // len(rank)
    bonus = last.assign(decile=decile[last["item"]], value=-last["price"] / last["cost"])
    means = bonus.groupby(["agent", "seed", "decile"], observed=True)["value"].mean().reset_index()
    paying = means.groupby("agent", observed=True)["value"].transform("max") > 0
    return means[paying].reset_index(drop=True)


def prices(data: tables.PictureTables) -> Figure | None:
    """Bonus −v in the last round, by decile of popularity."""
    table = price_deciles(data)
    if table.empty:
        return None
    looks = charts.styles(table["agent"].unique())
    chosen = tables.subject(looks)
    ends = table[table["agent"] == chosen].groupby("decile")["value"].mean()
    least, most = (sentences.per_cent(float(ends.iloc[end])) for end in (0, -1))
    message = (
        f"{chosen} pays the least popular tenth of the items {least} of the shortfall cost for an exposure, the most "
        f"popular {most}"
    )
    caption = (
        f"Mean bonus −v of a decile at the end of round {tables.last_round(data.rounds)}, as a share of c."
    )
    figure, ax = _by_decile(table, looks, message, caption)
    ax.set_xlabel("decile of the items by popularity in the warm-up log, least popular first")
    ax.set_ylabel("bonus −v / shortfall cost c")
    ax.set_ylim(0, 1)
    ax.yaxis.set_major_formatter(PercentFormatter(1, symbol="%"))
    return figure


def _by_decile(
    table: pd.DataFrame, looks: Mapping[str, charts.AgentStyle], message: str, caption: str
) -> tuple[Figure, Axes]:
    """Figure with a band per agent over deciles."""
    caption = f"{caption} {sentences.seeds_caption(table)}"
    figure, ax = charts.beside_legend(message, caption, 5.0, looks)
    charts.plot_bands(ax, table, "decile", looks)
    ax.set_xticks(range(1, items.DECILES + 1))
    return figure, ax


def delivery(data: tables.PictureTables) -> Figure | None:
    """Exposure and price of three items over the last round.

    The three items have guarantees: a popular item, an unpopular item and an item at the lower quartile of popularity.
    The plot shows one seed.
    """
    number = tables.last_round(data.rounds)
    if data.ledger is None or data.arrivals is None or data.required is None or data.popularity is None:
        return None
    arrivals = tables.retrained(data.arrivals[data.arrivals["round"] == number])
    seed = None if arrivals.empty else int(arrivals["seed"].min())
    required = None if seed is None else data.required.get((seed, number))
    if seed is None or required is None or not (required > 0).any():
        return None
    followed = _followed(data.popularity, required)
    ledger = _of_seed(tables.retrained(data.ledger), seed, number)
    ledger = ledger[ledger["item"].isin(followed.values())]
    looks = charts.styles(arrivals["agent"].unique())
    chosen = tables.subject(looks)
    arrivals = _of_seed(arrivals, seed, number)
    count = arrivals.groupby("agent", observed=True).size().max()
    due = {item: int(required[item]) for item in followed.values()}
    counts = {name: ledger[ledger["agent"] == name]["item"].value_counts() for name in looks}
    kept = {
        name: sum(min(int(shown.get(item, 0)), due[item]) for item in due) for name, shown in counts.items()
    }
    message = (
        f"{chosen} delivers {kept[chosen]} of the {sum(due.values())} guaranteed exposures of "
        f"{many(len(due), 'item')} in round {number}"
    )
    message += sentences.and_reference(chosen, looks, lambda name: f"{name} {kept[name]}")
    caption = (
        f"Seed {seed}. Above, grey: the requirement, spread evenly over the arrivals; the axis ends at three times "
        "as many. Below: the bonus at each exposure; dotted: its upper bound, the cost c of a missing exposure "
        f"with {chosen}."
    )
    figure = charts.frame(message, caption, 6.4)
    notes = {item: _never_shown_by(counts, item) for item in due}
    room = max(len(lines) for lines in notes.values())
    grid = figure.subplots(2, 4, width_ratios=(3, 3, 3, 1.8), sharex="col")
    bonuses = ledger["price"].to_numpy(np.float64)
    cost = None if data.prices is None else _cost(_of_seed(data.prices, seed, number), chosen)
    highest = max([cost or 0.0, *(-bonuses[np.isfinite(bonuses)])]) or 1.0
    for column, (place, item) in enumerate(followed.items()):
        top, below = grid[0, column], grid[1, column]
        top.plot([0, count], [0, required[item]], color="#999999", linewidth=3, alpha=0.6)
        for name, look in looks.items():
            order = arrivals[arrivals["agent"] == name]["arrival"]
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
            below.axhline(cost, color=charts.GREY, linewidth=1.2, linestyle=":")
        top.annotate(
            "\n".join(notes[item]),
            (0, 1),
            (0, 5),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=9,
        )
        named = f"\n{textwrap.shorten(data.names[item], _WIDEST, placeholder='…')}" if data.names else ""
        top.set_title(place + named, loc="left", pad=7 + 12 * room)
        top.set_ylim(0, 3 * required[item])
        top.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        below.set(ylim=(0, 1.12 * highest), xlabel="arrival of the round")
    grid[0, 0].set_ylabel("exposures so far")
    grid[1, 0].set_ylabel("bonus −v (units of λ)")
    charts.legend(grid[0, 3], looks)
    grid[1, 3].set_axis_off()
    return figure


def _of_seed(table: pd.DataFrame, seed: int, number: int) -> pd.DataFrame:
    """Rows of a table at a seed and round."""
    return table[(table["seed"] == seed) & (table["round"] == number)]


def _cost(prices: pd.DataFrame, agent: str) -> float | None:
    """Shortfall cost c of an agent, from the price table."""
    costs = prices.loc[prices["agent"] == agent, "cost"]
    return float(costs.iloc[0]) if len(costs) else None


def _never_shown_by(counts: Mapping[str, pd.Series[int]], item: int) -> list[str]:
    """Lines of text: agents that did not show an item."""
    names = [name for name, shown in counts.items() if not shown.get(item, 0)]
    text = f"no exposure: {', '.join(names)}" if names else ""
    return textwrap.wrap(text, 32, break_on_hyphens=False)


def _followed(popularity: Ints, required: Ints) -> dict[str, int]:
    """Title of a panel → its guaranteed item."""
    guaranteed = np.flatnonzero(required)
    ordered = guaranteed[np.argsort(popularity[guaranteed], kind="stable")]
    return {place: int(ordered[round(share * (len(ordered) - 1))]) for place, share in _PLACES.items()}


def _steps(ax: Axes, at: Ints, height: Ints, end: int, look: charts.AgentStyle) -> None:
    """Draw a cumulative count over the time of a round."""
    x = np.concatenate([[0], at, [end]])
    y = np.concatenate([[0], height, [len(at)]])
    ax.step(x, y, where="post", color=look.colour, linewidth=1.8, marker=look.marker, markevery=[len(x) - 1])


def who_pays(data: tables.PictureTables) -> Figure | None:
    """Exposure of items with binding guarantees by decile of λ(x)."""
    table = items.guaranteed_by_decile(data)
    if table.empty:
        return None
    looks = charts.styles(table["agent"].unique())
    chosen = tables.subject(looks)
    message = sentences.who_carries(chosen, table[table["agent"] == chosen].groupby("decile")["value"].mean())
    below = f"that {tables.REFERENCE} leaves below their guarantee"
    which = below if tables.REFERENCE in looks else "with a bonus (v < 0)"
    caption = f"Positions given to items {which}, {late_of(data.rounds)}."
    figure, ax = _by_decile(table, looks, message, caption)
    ax.set_xlabel("decile of the arrivals by ground intensity λ(x), lowest first")
    ax.set_ylabel("positions per slate")
    charts.keep_lines_in_view(ax)
    highest = float(table.groupby(["agent", "decile"])["value"].mean().max())
    ax.set_ylim(0, min(ax.get_ylim()[1], 1.1 * highest or 1))
    return figure


def requirement(data: tables.PictureTables) -> Figure | None:
    """Exposure divided by requirement, for guaranteed items, last round."""
    number = tables.last_round(data.rounds)
    ratios = items.delivery_ratios(data, number)
    if not ratios:
        return None
    looks = charts.styles(ratios)
    met = {name: float(np.mean([(ratio >= 1).mean() for ratio in ratios[name]])) for name in looks}
    chosen = tables.subject(looks)
    metric = "shortfall" if data.weights is None else "examined_shortfall"
    of_round = data.rounds[(data.rounds["round"] == number) & (data.rounds["metric"] == metric)]
    given = 1.0 - of_round.groupby("agent", observed=True)["value"].mean()
    message = f"{chosen} delivers {sentences.per_cent(given[chosen])} of what is guaranteed in round {number}"
    message += sentences.and_reference(
        chosen, looks, lambda name: f"{name} {sentences.per_cent(given[name])}"
    )
    columns = min(4, len(looks))
    lines = -(-len(looks) // columns)
    counted = "positions" if data.weights is None else "exposures as examined"
    caption = f"Every guaranteed item, least served first, in {counted}; shaded: what is missing. Mean of"
    figure = charts.frame(message, f"{caption} {many(len(ratios[chosen]), 'seed')}.", 1.0 + 2.6 * lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, (name, look) in zip(grid, looks.items(), strict=False):
        curve = items.mean_curve(ratios[name])
        share = (np.arange(len(curve)) + 0.5) / len(curve)
        ax.axhline(1, color=charts.GREY, linewidth=1.2)
        ax.plot(share, curve, color=look.colour, linewidth=2.2)
        ax.fill_between(share, curve, 1, where=curve < 1, color="#bbbbbb", alpha=0.55, linewidth=0)
        ax.set_yscale("symlog", linthresh=1, linscale=1.5)
        ax.set_ylim(bottom=0)
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set_title(textwrap.fill(name, 18), loc="left", color=look.colour)
        met_text = (
            f"{sentences.per_cent(given[name])} delivered\n{sentences.per_cent(met[name])} of items in full"
        )
        ax.text(0.05, 0.96, met_text, transform=ax.transAxes, va="top", fontsize=10, fontweight="bold")
    for ax in grid[len(looks) :]:
        ax.set_axis_off()
    for ax in grid[: len(looks)][-columns:]:  # the lowest panel of each column carries the scale
        ax.tick_params(labelbottom=True)
        first, _, last = ax.get_xticklabels()
        first.set_horizontalalignment("left")  # else neighbouring panels' ends run together
        last.set_horizontalalignment("right")
    figure.supxlabel("share of the guaranteed items", fontsize=11)
    figure.supylabel("exposure / required exposure", fontsize=11)
    return figure


def campaigns(data: tables.PictureTables) -> Figure | None:
    """Delivered and due exposures of the largest campaigns over time."""
    table = None if data.campaigns is None else tables.retrained(data.campaigns)
    if table is None or table.empty:
        return None
    table = _so_far(table)
    looks = charts.styles(table["agent"].unique())
    size = table.groupby("name", observed=True)["due"].max().sort_values(ascending=False, kind="stable")
    names = size.index[:_MOST].tolist()
    chosen = tables.subject(looks)
    message = f"{chosen} delivers {sentences.per_cent(_kept(table, chosen))} of what campaigns are promised"
    message += sentences.and_reference(
        chosen, looks, lambda name: f"{name} {sentences.per_cent(_kept(table, name))}"
    )
    figure = charts.frame(
        message,
        f"Points: where a round or the campaign ends; grey: due by then. {sentences.seeds_caption(table)}",
        1.0 + 2.7 * charts.panel_rows(len(names), 1),
    )
    for ax, name in zip(charts.panels(figure, len(names), looks, 1), names, strict=True):
        mine = table[table["name"] == name]
        due = mine.groupby("day")["due"].mean()
        ax.plot(due.index, due, color=charts.GREY, linewidth=1.5, linestyle="--", marker="_")
        charts.plot_bands(ax, mine, "day", looks)
        ax.set_title(str(name), loc="left")
        ax.set_ylabel("exposures so far")
        ax.set_ylim(bottom=0)
        ax.set_xlabel("days since it began")
    return figure


def _so_far(table: pd.DataFrame) -> pd.DataFrame:
    """Cumulative due and delivered exposures by day of a campaign.

    The table has columns agent, seed, name, day, due and value (delivered).
    """
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
    """Share of due exposures that an agent delivered."""
    last = table[table["agent"] == agent].groupby(["seed", "name"], observed=True)[["due", "value"]].last()
    due = float(last["due"].sum())
    return float(np.minimum(last["due"], last["value"]).sum()) / due if due else 1.0


def reliability_deciles(data: tables.PictureTables) -> pd.DataFrame:
    """Predicted and actual consumptions per exposure, by predicted decile.

    Returns:
        Table with columns agent, decile (1 = least), predicted and actual. Values are means per exposure. Without the
        data, the table has no rows.
    """
    columns = ["agent", "decile", "predicted", "actual"]
    if data.reliability is None:
        return pd.DataFrame(columns=columns)
    late = data.reliability["round"].isin(late_rounds(tables.last_round(data.rounds) + 1))
    sums = tables.retrained(data.reliability[late]).groupby(["agent", "decile"], observed=True)
    total = sums[["exposures", "predicted", "consumed"]].sum().reset_index()
    total["predicted"] /= total["exposures"]
    total["actual"] = total["consumed"] / total["exposures"]
    return total[columns]


def reliability(data: tables.PictureTables) -> Figure | None:
    """Actual against predicted consumptions of a shown item, by decile."""
    table = reliability_deciles(data)
    if table.empty:
        return None
    looks = charts.styles(table["agent"].unique())
    curves = {name: table[table["agent"] == name].sort_values("decile") for name in looks}
    ratio = {
        name: float(curve["predicted"].sum() / curve["actual"].sum())
        for name, curve in curves.items()
        if curve["actual"].sum() > 0
    }
    words = late_of(data.rounds)
    chosen = tables.subject(looks)
    named = [name for name in dict.fromkeys((chosen, tables.REFERENCE)) if name in ratio]
    parts = [f"{ratio[name]:.2f} with {name}" for name in named]
    message = (
        f"Consumptions predicted for each that came: {', '.join(parts)}" if parts else "Nothing was consumed"
    )
    caption = (
        f"Shown items by decile of the chance that the serving model gave them, {words}, all seeds together. Below the "
        "dotted line the platform promises itself more than comes."
    )
    labels = {name: f"({value:.2f})" for name, value in ratio.items()}
    figure, ax = charts.beside_legend(message, caption, 5.4, looks, 2.4, labels)
    for name, look in looks.items():
        x, y = curves[name]["predicted"], curves[name]["actual"]
        ax.plot(x, y, color=look.colour, marker=look.marker, linewidth=2, clip_on=False)
    end = float(max(table["predicted"].max(), table["actual"].max())) * 1.05 or 1.0
    ax.plot([0, end], [0, end], color=charts.GREY, linewidth=1.2, linestyle=":")
    ax.set(xlim=(0, end), xlabel="predicted consumptions of a shown item")
    ax.set(ylim=(0, end), ylabel="actual consumptions of a shown item")
    return figure
