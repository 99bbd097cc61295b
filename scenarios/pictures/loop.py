"""The pictures of a run, drawn from its tables: PNG, 1,200 pixels wide, each with its message as title."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter
from matplotlib.transforms import Bbox

from rimsim import measures
from rimsim.scenarios.pictures.campaigns import campaigns
from rimsim.scenarios.pictures.decomposition import decomposed
from rimsim.scenarios.pictures.labels import label_points
from rimsim.scenarios.pictures.looks import styles
from rimsim.scenarios.pictures.messages import (
    beside,
    cost_of_guarantees,
    diversity,
    many,
    per_cent,
    seeds_caption,
    subject,
    who_carries,
)
from rimsim.scenarios.pictures.prices import delivery, prices
from rimsim.scenarios.pictures.reliability import reliability
from rimsim.scenarios.pictures.style import (
    bars,
    draw,
    frame,
    integer_rounds,
    keep_lines_in_view,
    legend,
    metric_axis,
    panel_rows,
    panels,
    plot_bands,
    plot_beside,
    plot_means,
)
from rimsim.scenarios.pictures.tables import (
    DECILES,
    PictureTables,
    delivery_ratios,
    exposures,
    guaranteed_by_decile,
    last_round,
    late_figures,
    mean_curve,
    picture_tables,
    retrained,
)
from rimsim.scenarios.report.summary import REFERENCE, over_seeds, shortfalls, told_unit
from rimsim.scenarios.runs.status import control_in, shown_rounds, subject_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rimsim.scenarios.runs.store import Run

__all__ = [
    "PICTURES",
    "PictureTables",
    "draw_all",
    "draw_pictures",
    "front",
    "lorenz_curves",
    "over_rounds",
    "requirement",
    "who_pays",
]

_LOOP = ("coverage", "effective_items", "log_gini")


def draw_pictures(run: Run) -> list[Path]:
    """Draw every picture of a comparison into its folder; none while no round is finished."""
    return [] if shown_rounds(run).empty else draw_all(picture_tables(run), run.folder / "pictures")


def draw_all(tables: PictureTables, folder: Path) -> list[Path]:
    """Draw every picture for which the tables hold the data.

    Args:
        tables: The tables of a run.
        folder: Made if missing; pictures of the same name are replaced.

    Returns:
        The files written, in the order of :data:`PICTURES`.
    """
    return draw({name: partial(picture, tables) for name, picture in PICTURES.items()}, folder)


def over_rounds(tables: PictureTables) -> Figure | None:
    """Utility, shortfall, coverage, effective items and Gini of the log by round; dashed where never retrained."""
    rounds = retrained(tables.rounds)
    frozen = tables.rounds[tables.rounds["agent"].map(control_in) == "frozen"]
    frozen = frozen.assign(agent=frozen["agent"].map(subject_of))
    kept, other = shortfalls(tables.unit)
    shown = ("utility", kept, *_LOOP, *tables.own)
    present = [metric for metric in shown if (rounds["metric"] == metric).any()]
    if not present or last_round(rounds) == 0:  # one round has no course
        return None
    looks = styles(rounds["agent"].unique())
    dashed = "" if frozen.empty else " Dashed: on a platform that never retrains."
    figure = frame(
        cost_of_guarantees(late_figures(rounds), tables.unit),
        f"By round; the title's figures: {measures.late_of(rounds)}. {seeds_caption(rounds)}{dashed}",
        3.1 * panel_rows(len(present)),
    )
    both = told_unit(rounds, "examined") == "examined"
    for ax, metric in zip(panels(figure, len(present), looks), present, strict=True):
        plot_bands(ax, rounds[rounds["metric"] == metric], "round", looks)
        plot_beside(ax, frozen[frozen["metric"] == metric], "round", looks, "--")
        if metric == kept and both:
            plot_beside(ax, rounds[rounds["metric"] == other], "round", looks, ":")
        metric_axis(ax, tables.measures[metric])
        integer_rounds(ax)
        if metric == kept and both:
            ax.set_xlabel(f"round; dotted: {tables.measures[other].title.lower()}")
    return figure


def front(tables: PictureTables) -> Figure | None:
    """Utility against exposure perplexity, one point an agent, with 95 % intervals of both."""
    rounds = retrained(tables.rounds)
    metrics = ("perplexity", "utility")
    means = over_seeds(measures.late_means(rounds), ["agent"], metrics).pivot(index="agent", columns="metric")
    means = means.reindex(columns=pd.MultiIndex.from_product((("mean", "low", "high"), metrics)))
    means = means.dropna(subset=[("mean", metric) for metric in metrics])
    looks = {name: look for name, look in styles(rounds["agent"].unique()).items() if name in means.index}
    if not looks:
        return None
    words = measures.late_of(rounds)
    caption = f"{words[0].upper()}{words[1:]}. {seeds_caption(rounds, 'bars')} Up and to the right is better."
    figure = frame(diversity(late_figures(rounds)), caption, 5.6)
    ax = figure.subplots()
    for name, look in looks.items():
        plot_means(ax, means.loc[[name]], "perplexity", "utility", look, size=9)
    wide, useful = (means["mean", metric].astype(float).to_dict() for metric in metrics)
    points = {name: (float(wide[name]), float(useful[name])) for name in looks}
    ax.set_xlabel("exposure perplexity (items)")
    ax.set_ylabel("utility (expected consumptions per slate)")
    ax.set_ylim(bottom=0, top=ax.get_ylim()[1] * 1.08)
    widths = [width for width, _ in points.values()]
    if len(widths) > 1 and 0 < 10 * min(widths) < max(widths):  # else narrow agents crowd at the left edge
        ax.set_xscale("log")
        ax.set_xlim(min(widths) / 2.2, max(widths) * 1.8)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel("exposure perplexity (items, log scale)")
    else:
        ax.set_xlim(left=0, right=ax.get_xlim()[1] * 1.12)
    figure.draw_without_rendering()
    avoid = []
    for name, (x, y) in points.items():
        (left, right), (below, above) = (
            (ends[0][0], ends[1][0]) for ends in (bars(means.loc[[name]], metric) for metric in metrics)
        )
        least = max(x - left, ax.get_xlim()[0])  # a bar may reach below 0, where a log axis has no place
        for low, high in (((least, y), (x + right, y)), ((x, y - below), (x, y + above))):
            avoid.append(Bbox([ax.transData.transform(low), ax.transData.transform(high)]).padded(2))
    label_points(ax, points, looks, avoid)
    return figure


def lorenz_curves(tables: PictureTables) -> Figure | None:
    """Lorenz curves of exposure in the last round, the mean over seeds."""
    number = last_round(tables.rounds)
    counted = exposures(tables, number)
    if not counted:
        return None
    looks = styles(counted)
    curves = {
        name: mean_curve([measures.lorenz(counts) for counts in counted[name].values()]) for name in looks
    }
    gini = {name: float(np.mean([measures.gini(c) for c in counted[name].values()])) for name in looks}
    top = {name: 1 - float(np.interp(0.9, np.linspace(0, 1, len(c)), c)) for name, c in curves.items()}
    chosen = subject(looks)
    message = f"The most shown tenth of the items takes {per_cent(top[chosen])} of the exposure with {chosen}"
    message += beside(chosen, looks, lambda name: f"{per_cent(top[name])} with {name}")
    count = max(len(seeds) for seeds in counted.values())
    figure = frame(message, f"Lorenz curves of round {number}, mean of {many(count, 'seed')}.", 5.6)
    ax, side = figure.subplots(1, 2, width_ratios=(3, 1.25))
    for name, curve in curves.items():
        share = np.linspace(0, 1, len(curve))
        every = np.linspace(0, len(curve) - 1, 9).astype(int)[1:-1].tolist()
        look = looks[name]
        ax.plot(
            share, curve, color=look.colour, linewidth=2, marker=look.marker, markevery=every, clip_on=False
        )
    ax.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
    ax.annotate(
        "all items alike",
        (0.45, 0.47),
        rotation=45,
        rotation_mode="anchor",
        transform_rotates_text=True,
        ha="center",
        va="bottom",
        color="#777777",
    )
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.set_xlabel("share of the catalogue, least shown items first")
    ax.set_ylabel("share of the exposure")
    ordered = {name: looks[name] for name in sorted(looks, key=lambda name: gini[name])}
    legend(side, ordered, {name: f"(Gini {gini[name]:.2f})" for name in ordered})
    return figure


def who_pays(tables: PictureTables) -> Figure | None:
    """Exposure of items whose guarantee binds, by λ-decile of the arrivals."""
    table = guaranteed_by_decile(tables)
    if table.empty:
        return None
    looks = styles(table["agent"].unique())
    chosen = subject(looks)
    message = who_carries(chosen, table[table["agent"] == chosen].groupby("decile")["value"].mean())
    items = f"that {REFERENCE} leaves below their guarantee" if REFERENCE in looks else "with a bonus (v < 0)"
    caption = f"Positions given to items {items}, {measures.late_of(tables.rounds)}. {seeds_caption(table)}"
    figure = frame(message, caption, 5.0)
    ax, side = figure.subplots(1, 2, width_ratios=(3.6, 1))
    plot_bands(ax, table, "decile", looks)
    ax.set_xticks(range(1, DECILES + 1))
    ax.set_xlabel("decile of the arrivals by ground intensity λ(x), lowest first")
    ax.set_ylabel("positions per slate")
    keep_lines_in_view(ax)
    ax.set_ylim(
        0, min(ax.get_ylim()[1], 1.1 * float(table.groupby(["agent", "decile"])["value"].mean().max()) or 1)
    )
    legend(side, looks)
    return figure


def requirement(tables: PictureTables) -> Figure | None:
    """Exposure over requirement of every guaranteed item in the last round, one panel an agent."""
    number = last_round(tables.rounds)
    ratios = delivery_ratios(tables, number)
    if not ratios:
        return None
    looks = styles(ratios)
    met = {name: float(np.mean([(ratio >= 1).mean() for ratio in ratios[name]])) for name in looks}
    chosen = subject(looks)
    metric = "shortfall" if tables.weights is None else "examined_shortfall"
    of_round = tables.rounds[(tables.rounds["round"] == number) & (tables.rounds["metric"] == metric)]
    given = 1.0 - of_round.groupby("agent", observed=True)["value"].mean()
    message = f"{chosen} delivers {per_cent(given[chosen])} of what is guaranteed in round {number}"
    message += beside(chosen, looks, lambda name: f"{name} {per_cent(given[name])}")
    columns = min(4, len(looks))
    lines = -(-len(looks) // columns)
    counted = "positions" if tables.weights is None else "exposures as examined"
    caption = f"Every guaranteed item, least served first, in {counted}; shaded: what is missing. Mean of"
    figure = frame(message, f"{caption} {many(len(ratios[chosen]), 'seed')}.", 1.0 + 2.6 * lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, (name, look) in zip(grid, looks.items(), strict=False):
        curve = mean_curve(ratios[name])
        share = (np.arange(len(curve)) + 0.5) / len(curve)
        ax.axhline(1, color="#777777", linewidth=1.2)
        ax.plot(share, curve, color=look.colour, linewidth=2.2)
        ax.fill_between(share, curve, 1, where=curve < 1, color="#bbbbbb", alpha=0.55, linewidth=0)
        ax.set_yscale("symlog", linthresh=1, linscale=1.5)
        ax.set_ylim(bottom=0)
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set_title(textwrap.fill(name, 18), loc="left", color=look.colour)
        met_text = f"{per_cent(given[name])} delivered\n{per_cent(met[name])} of items in full"
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


PICTURES: dict[str, Callable[[PictureTables], Figure | None]] = {
    "rounds": over_rounds,
    "front": front,
    "lorenz": lorenz_curves,
    "who-pays": who_pays,
    "retraining": decomposed,
    "requirement": requirement,
    "prices": prices,
    "delivery": delivery,
    "reliability": reliability,
    "campaigns": campaigns,
}
"""File name (without ``.png``) → what draws it; None where the tables do not hold the data."""
