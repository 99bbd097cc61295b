"""Plots of guarantees: prices, delivery, campaigns, cost by visitor."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rimsim import measures
from rimsim.arrays import Floats, Ints
from rimsim.errors import many
from rimsim.measures import late_of, late_rounds
from rimsim.scenarios.report import charts, items, sentences, tables, titles
from rimsim.scenarios.report.numbers import count_of, per_cent
from rimsim.scenarios.report.picture_tables import PictureTables

_PLACES = {"least popular": 0.02, "lower quarter": 0.25}
"""Title of a panel → popularity rank of its item among guaranteed items, from 0 (least popular) to 1."""
_WIDEST = 34  # largest number of letters of an item's name above a panel
_MOST = 5  # largest number of campaigns that are drawn, those with most exposures
_HIGHEST = 3.0  # end of the axis of delivered exposures, in units of the required exposures


def bonus_deciles(data: PictureTables) -> pd.DataFrame:
    """Mean bonus −v/c at exposures, by decile of popularity.

    The exposures are those of the last round.

    Returns:
        Table with columns agent, seed, decile (1 = least popular) and value; agents without a bonus are left out.
        Without the data, the table has no rows.
    """
    empty = pd.DataFrame(columns=["agent", "seed", "decile", "value"])
    if data.ledger is None or data.prices is None or data.popularity is None:
        return empty
    number = tables.last_round(data.rounds)
    keys = ["agent", "seed"]
    of_round = data.prices[data.prices["round"] == number]
    costs = of_round.groupby(keys, observed=True)["cost"].first().reset_index()
    paid = tables.without_controls(data.ledger[data.ledger["round"] == number]).merge(costs, on=keys)
    paid = paid[np.isfinite(paid["price"])]
    if paid.empty:
        return empty
    # Sorting the sort order gives the rank of each item, from 0 for the least popular.
    rank = np.argsort(np.argsort(data.popularity, kind="stable"), kind="stable")
    decile = 1 + rank * items.DECILES // len(rank)
    bonus = paid.assign(decile=decile[paid["item"]], value=-paid["price"] / paid["cost"])
    means = bonus.groupby([*keys, "decile"], observed=True)["value"].mean().reset_index()
    is_paying = means.groupby("agent", observed=True)["value"].transform("max") > 0
    paying: pd.DataFrame = means[is_paying].reset_index(drop=True)
    return paying


def prices(data: PictureTables) -> Figure | None:
    """Bonus −v at late exposures, by decile of popularity."""
    table = bonus_deciles(data)
    return None if table.empty else bonus_figure(table, tables.last_round(data.rounds))


def bonus_figure(table: pd.DataFrame, number: int) -> Figure:
    """Figure of :func:`bonus_deciles` of a round."""
    caption = f"Mean bonus −v at the exposures of round {number}, as a share of the shortfall cost c."
    figure, ax = _by_decile(table, titles.bonuses(table), caption)
    ax.set_xlabel("decile of the items by popularity in the warm-up log, least popular first")
    ax.set_ylabel("bonus −v / shortfall cost c")
    ax.set_ylim(0, min(1.0, 1.05 * ax.get_ylim()[1]))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    return figure


def _by_decile(table: pd.DataFrame, message: str, caption: str) -> tuple[Figure, Axes]:
    """Figure with a band per agent over deciles."""
    looks = charts.styles(table["agent"].unique())
    figure, ax = charts.chart(message, f"{caption} {sentences.seeds_caption(table)}", 5.0, looks)
    charts.plot_bands(ax, table, "decile", looks)
    ax.set_xticks(range(1, items.DECILES + 1))
    charts.keep_lines_in_view(ax)
    return figure, ax


def item_courses(data: PictureTables) -> pd.DataFrame:
    """Delivery and bonus of two guaranteed items over a round.

    The table is of the last round and one seed. One item is among the least popular, the other at the lower quartile of
    popularity. Exposures are counted in the unit of guarantees, in which an average position has 1.

    Returns:
        Table with a row for the begin and the end of the round and for each exposure. Its columns are agent, place (of
        the item), item (name), required, arrival (of the round), value (delivered by then), bonus (NaN without an
        exposure or a price), cost (c of the agent), seed and round. Without the data, the table has no rows.
    """
    empty = pd.DataFrame(columns=["agent"])
    number = tables.last_round(data.rounds)
    if data.ledger is None or data.arrivals is None or data.required is None or data.popularity is None:
        return empty
    arrivals = tables.without_controls(data.arrivals[data.arrivals["round"] == number])
    if arrivals.empty:
        return empty
    seed = int(arrivals["seed"].min())
    required = data.required.get((seed, number))
    if required is None or not (required > 0).any():
        return empty
    arrivals = _of_seed(arrivals, seed, number)
    ledger = _of_seed(tables.without_controls(data.ledger), seed, number)
    costs: dict[Hashable, float] = {}
    if data.prices is not None:
        costs = _of_seed(data.prices, seed, number).groupby("agent")["cost"].first().to_dict()
    parts = []
    for agent in charts.styles(arrivals["agent"].unique()):
        order = pd.Index(arrivals.loc[arrivals["agent"] == agent, "arrival"])
        for place, item in _followed(data.popularity, required).items():
            shown = ledger[(ledger["agent"] == agent) & (ledger["item"] == item)]
            course = _course(shown, order, data.weights)
            name = data.names[item] if data.names else f"item {item}"
            parts.append(
                course.assign(
                    agent=agent,
                    place=place,
                    item=name,
                    required=int(required[item]),
                    cost=float(costs.get(agent, np.nan)),
                )
            )
    return pd.concat(parts, ignore_index=True).assign(seed=seed, round=number)


def _course(shown: pd.DataFrame, order: pd.Index[int], weights: Floats | None) -> pd.DataFrame:
    """Delivered exposure and bonus of an item after each exposure."""
    position = shown["position"].to_numpy(np.int64) - 1  # positions count from 1
    weight = np.ones(len(shown)) if weights is None else weights[position] / measures.mean_weight(weights)
    price = shown["price"].to_numpy(np.float64)
    course = pd.DataFrame(
        {
            "arrival": order.get_indexer(pd.Index(shown["arrival"])),
            "weight": weight,
            "bonus": np.where(np.isfinite(price), -price, np.nan),
        }
    ).sort_values("arrival", kind="stable")
    delivered = np.cumsum(course["weight"].to_numpy())
    total = delivered[-1] if len(delivered) else 0.0
    return pd.DataFrame(
        {
            "arrival": [0, *course["arrival"], len(order)],
            "value": [0.0, *delivered, total],
            "bonus": [np.nan, *course["bonus"], np.nan],
        }
    )


def delivery(data: PictureTables) -> Figure | None:
    """Delivery and bonus of two guaranteed items over a round."""
    courses = item_courses(data)
    if courses.empty:
        return None
    return courses_figure(courses, "as examined" if data.weights is not None else "as shown")


def courses_title(courses: pd.DataFrame) -> str:
    """Title on delivered exposures of :func:`item_courses`."""
    due = courses.groupby("place", sort=False)["required"].first().to_dict()
    ends = courses.groupby(["agent", "place"], sort=False)["value"].last()
    delivered = {str(agent): ends[agent].to_dict() for agent in courses["agent"].unique()}
    return titles.delivered_items(int(courses["round"].iloc[0]), due, delivered)


def courses_figure(courses: pd.DataFrame, unit: str) -> Figure:
    """Figure of :func:`item_courses`; ``unit`` says how exposures count."""
    looks = charts.styles(courses["agent"].unique())
    chosen = tables.subject(looks)
    places = list(courses["place"].unique())
    caption = (
        f"Seed {courses['seed'].iloc[0]}. Above: exposures, {unit}; grey: the requirement, spread evenly over the "
        "arrivals. Below: the bonus at each exposure; dotted: its upper bound, the cost c of a missing exposure with "
        f"{chosen}."
    )
    is_narrow = charts.columns(2) == 1
    figure = charts.frame(courses_title(courses), caption, 9.0 if is_narrow else 6.2)
    # Each item has two panels, one above the other. On a phone, all panels stand in one column.
    if is_narrow:
        grid = figure.subplots(2 * len(places), 1, squeeze=False)
        uppers = grid[::2, 0]
        lowers = grid[1::2, 0]
    else:
        grid = figure.subplots(2, len(places), squeeze=False)
        uppers, lowers = grid
    charts.legend(figure, looks, place="lower" if is_narrow else "right")
    cost = float(courses.loc[courses["agent"] == chosen, "cost"].iloc[0])
    highest = float(np.nanmax([courses["bonus"].max(), cost, 0.0])) or 1.0
    for place, top, below in zip(places, uppers, lowers, strict=True):
        of_item = courses[courses["place"] == place]
        required = float(of_item["required"].iloc[0])
        end = int(of_item["arrival"].max())
        top.plot([0, end], [0, required], color="#999999", linewidth=3, alpha=0.6)
        charts.lineplot(top, of_item, "arrival", looks)(
            estimator=None, drawstyle="steps-post", linewidth=1.8, clip_on=True
        )
        _plot_bonuses(below, of_item, looks)
        if np.isfinite(cost):
            below.axhline(cost, color=charts.GREY, linewidth=1.2, linestyle=":")
        name = textwrap.shorten(str(of_item["item"].iloc[0]), _WIDEST, placeholder="…")
        total = float(of_item.loc[of_item["agent"] == chosen, "value"].iloc[-1])
        top.set_title(f"{name}\n{count_of(total, required)} with {chosen}", fontsize=11, loc="left")
        top.set(xlabel="", ylabel=f"exposures so far, {unit}", ylim=(0, _HIGHEST * required))
        below.set(xlabel=f"arrival of the round ({place} item)", ylabel="bonus −v (units of λ)")
        below.set(xlim=top.get_xlim(), ylim=(0, 1.12 * highest))
    return figure


def _plot_bonuses(ax: Axes, of_item: pd.DataFrame, looks: Mapping[str, charts.AgentStyle]) -> None:
    """Draw the bonus at each exposure, for agents that pay."""
    for name, look in looks.items():
        paid = of_item[(of_item["agent"] == name) & of_item["bonus"].notna()]
        if (paid["bonus"] > 0).any():
            ax.plot(
                paid["arrival"],
                paid["bonus"],
                color=look.colour,
                marker=look.marker,
                markersize=3.5,
                linewidth=1,
            )


def _of_seed(table: pd.DataFrame, seed: int, number: int) -> pd.DataFrame:
    """Rows of a table at a seed and round."""
    return table[(table["seed"] == seed) & (table["round"] == number)]


def _followed(popularity: Ints, required: Ints) -> dict[str, int]:
    """Title of a panel → its guaranteed item."""
    guaranteed = np.flatnonzero(required)
    ordered = guaranteed[np.argsort(popularity[guaranteed], kind="stable")]
    return {place: int(ordered[round(share * (len(ordered) - 1))]) for place, share in _PLACES.items()}


def who_pays(data: PictureTables) -> Figure | None:
    """Exposure of items with binding guarantees by decile of λ(x)."""
    table = items.guaranteed_by_decile(data)
    return None if table.empty else carriers_figure(table, late_of(data.rounds))


def carriers_figure(table: pd.DataFrame, late: str) -> Figure:
    """Figure of :func:`rimsim.scenarios.report.items.guaranteed_by_decile`; ``late`` names the rounds."""
    agents = table["agent"].unique()
    chosen = tables.subject(agents)
    course = table[table["agent"] == chosen].groupby("decile")["value"].mean()
    below = f"that {tables.REFERENCE} leaves below their guarantee"
    guaranteed_items = below if tables.REFERENCE in agents else "with a bonus (v < 0)"
    caption = (
        f"Positions given to items {guaranteed_items}, {late}. {titles.carried_positions(chosen, course)}"
    )
    figure, ax = _by_decile(table, titles.who_carries(chosen, course), caption)
    ax.set_xlabel("decile of the arrivals by ground intensity λ(x), lowest first")
    ax.set_ylabel("positions per slate")
    highest = float(table.groupby(["agent", "decile"])["value"].mean().max())
    ax.set_ylim(0, min(ax.get_ylim()[1], 1.1 * highest or 1))
    return figure


def requirement(data: PictureTables) -> Figure | None:
    """Exposure divided by requirement, for guaranteed items, last round."""
    number = tables.last_round(data.rounds)
    ratios = items.delivery_ratios(data, number)
    if not ratios:
        return None
    looks = charts.styles(ratios)
    # Share of the guaranteed items that get all of their guarantee.
    met = {name: float(np.mean([(ratio >= 1).mean() for ratio in ratios[name]])) for name in looks}
    metric = "shortfall" if data.weights is None else "examined_shortfall"
    of_round = data.rounds[(data.rounds["round"] == number) & (data.rounds["metric"] == metric)]
    delivered = 1.0 - of_round.groupby("agent", observed=True)["value"].mean()
    shares = {name: float(delivered[name]) for name in looks}
    n_columns = charts.columns(min(4, len(looks)), 2.1)
    n_rows = -(-len(looks) // n_columns)
    counted = "positions" if data.weights is None else "exposures as examined"
    seeds = many(max(map(len, ratios.values())), "seed")
    figure = charts.frame(
        titles.delivered_share(number, shares),
        f"Every guaranteed item, least served first, in {counted}; shaded: what is missing. Mean of {seeds}.",
        1.0 + 2.6 * n_rows,
    )
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
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
        ax.set_title(textwrap.fill(name, 18), color=look.colour, loc="left")
        text = f"{per_cent(shares[name])} delivered\n{per_cent(met[name])} of items\nin full"
        ax.text(0.05, 0.96, text, transform=ax.transAxes, va="top", fontsize=10, fontweight="bold")
    for ax in grid[len(looks) :]:
        ax.set_axis_off()
    for ax in grid[: len(looks)][-n_columns:]:  # the lowest panel of each column has the axis labels
        ax.tick_params(labelbottom=True)
        first, _, last = ax.get_xticklabels()
        # A centred label would overlap the last label of the panel to the left.
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
    figure.supxlabel("share of the guaranteed items", fontsize=11)
    figure.supylabel("exposure / required exposure", fontsize=11)
    return figure


def campaigns(data: PictureTables) -> Figure | None:
    """Delivered and due exposures of the largest campaigns over time."""
    table = None if data.campaigns is None else tables.without_controls(data.campaigns)
    if table is None or table.empty:
        return None
    table = _so_far(table)
    looks = charts.styles(table["agent"].unique())
    size = table.groupby("name", observed=True)["due"].max().sort_values(ascending=False, kind="stable")
    names = size.index[:_MOST].tolist()
    figure, axes = charts.panels(
        titles.campaigns({name: _delivered_share(table, name) for name in looks}),
        f"Points: where a round or the campaign ends; grey: due by then. {sentences.seeds_caption(table)}",
        len(names),
        looks,
    )
    for ax, name in zip(axes, names, strict=True):
        of_campaign = table[table["name"] == name]
        due = of_campaign.groupby("day")["due"].mean()
        ax.plot(due.index, due, color=charts.GREY, linewidth=1.5, linestyle="--", marker="_")
        charts.plot_bands(ax, of_campaign, "day", looks)
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
    sums = by_campaign[["due", "delivered"]].cumsum()
    began = by_campaign["begin"].transform("min")
    day = (table["end"] - began) / 86_400
    at_begin = table[keys].drop_duplicates().assign(day=0.0, due=0.0, value=0.0)
    at_ends = table[keys].assign(day=day, due=sums["due"], value=sums["delivered"])
    return pd.concat([at_begin, at_ends], ignore_index=True)


def _delivered_share(table: pd.DataFrame, agent: str) -> float:
    """Share of due exposures that an agent delivered."""
    last = table[table["agent"] == agent].groupby(["seed", "name"], observed=True)[["due", "value"]].last()
    due = float(last["due"].sum())
    return float(np.minimum(last["due"], last["value"]).sum()) / due if due else 1.0


def reliability_deciles(data: PictureTables) -> pd.DataFrame:
    """Predicted and actual consumptions per exposure, by predicted decile.

    They are those of the late rounds, under agents that are no controls.

    Returns:
        Table with columns agent, decile (1 = least), predicted and actual. Values are means per exposure. Without the
        data, the table has no rows.
    """
    columns = ["agent", "decile", "predicted", "actual"]
    if data.reliability is None:
        return pd.DataFrame(columns=columns)
    late = data.reliability["round"].isin(late_rounds(tables.last_round(data.rounds) + 1))
    sums = tables.without_controls(data.reliability[late]).groupby(["agent", "decile"], observed=True)
    total = sums[["exposures", "predicted", "consumed"]].sum().reset_index()
    total["predicted"] /= total["exposures"]
    total["actual"] = total["consumed"] / total["exposures"]
    return total[columns]


def reliability(data: PictureTables) -> Figure | None:
    """Predicted over actual consumptions of a shown item, by decile."""
    table = reliability_deciles(data)
    if table.empty:
        return None
    looks = charts.styles(table["agent"].unique())
    sums = table.groupby("agent", observed=True)[["predicted", "actual"]].sum()
    sums = sums[sums["actual"] > 0]
    ratios = {
        name: float(sums["predicted"][name] / sums["actual"][name]) for name in looks if name in sums.index
    }
    figure, ax = charts.chart(
        titles.reliability(ratios),
        f"Shown items by decile of the chance that the serving model gave them, {late_of(data.rounds)}, all seeds "
        "together. Above 1 the platform expects more consumptions than come. In brackets: all deciles together.",
        5.0,
        looks,
        {name: f"({ratio:.2f})" for name, ratio in ratios.items()},
    )
    drawn = table[(table["actual"] > 0) & (table["predicted"] > 0)]
    for name, look in looks.items():
        curve = drawn[drawn["agent"] == name].sort_values("decile")
        ax.plot(
            curve["predicted"],
            curve["predicted"] / curve["actual"],
            color=look.colour,
            marker=look.marker,
            linewidth=2,
        )
    ax.axhline(1, color=charts.GREY, linewidth=1.2, linestyle=":")
    ax.set(xscale="log", yscale="log")
    ax.set(
        xlabel="predicted consumptions of a shown item (log scale)", ylabel="predicted / actual (log scale)"
    )
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, 0.5), max(high, 2.0))
    charts.log_axis(ax.xaxis)
    charts.log_axis(ax.yaxis)
    return figure
