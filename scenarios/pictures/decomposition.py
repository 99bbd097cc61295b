"""The picture of what retraining does to each agent by round, in parts that add up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D

from rimsim.measures import FEW_SEEDS, MEASURES, late_means, late_of
from rimsim.scenarios.pictures.looks import AgentStyle, styles
from rimsim.scenarios.pictures.messages import many, subject
from rimsim.scenarios.pictures.style import frame, integer_rounds, metric_axis, plot_threads
from rimsim.scenarios.report.decomposition import ALL, LOOP, decomposition, parts_by_seed
from rimsim.scenarios.report.summary import REFERENCE, shortfalls

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rimsim.measures import Measure
    from rimsim.scenarios.pictures.tables import PictureTables


_FEW = ("coverage", "effective_items", "utility")
"""What is drawn of each of several agents; of one, more is."""
PART_LOOKS = {
    "retraining": AgentStyle("#de8f05", "s"),
    "data": AgentStyle("#029e73", "^"),
    LOOP: AgentStyle("#d55e00", "D"),
    "retraining+data": AgentStyle("#ca9161", "v"),
    "data+loop": AgentStyle("#cc78bc", "P"),
    ALL: AgentStyle("#000000", "o"),
}
"""Part of what retraining does → how its curve looks."""
_WORDS = {
    LOOP: "The loop",
    ALL: "Retraining",
    "data+loop": "Retraining on its own market",
}
"""What a title says of a part; the title's is the first of them that is known."""


def decomposed(tables: PictureTables) -> Figure | None:
    """Each part at each round, with paired 95 % intervals over seeds."""
    rounds = tables.rounds
    wanted = ("utility", "coverage", "effective_items", "log_gini", *shortfalls(tables.unit), *tables.own)
    parts = decomposition(rounds, list(rounds["agent"].unique()), wanted, ["round"])
    if parts.empty:
        return None
    agents = list(styles(parts["agent"].unique()))
    if len(agents) > 1:
        wanted = (*_FEW, *tables.own)
    shown = [metric for metric in wanted if (parts["metric"] == metric).any()]
    formulas = dict(zip(parts["part"], parts["difference"], strict=True))
    looks = {name: look for name, look in PART_LOOKS.items() if name in formulas}
    pairs = int(parts["n"].max())
    few = 1 < pairs < FEW_SEEDS
    threads = parts_by_seed(rounds, list(rounds["agent"].unique()), shown)
    bands = "thin: each seed" if few else "bands: paired 95 % intervals" if pairs > 1 else "no bands"
    caption = "Differences between arms of an agent at the same round and seed, which add up."
    caption += f" {many(pairs, 'seed')}; {bands}."
    places = [(agent, metric) for agent in agents for metric in shown]
    columns = min(3, len(shown))
    rows = -(-len(places) // columns)
    late = decomposition(late_means(rounds), list(rounds["agent"].unique()), shown)
    message = effect_of_retraining(late, late_of(rounds), tables.measures)
    figure = frame(message, caption, 0.5 + 3.1 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(places) :]:
        ax.set_axis_off()
    for ax, (agent, metric) in zip(axes, places, strict=False):
        mine = parts[(parts["agent"] == agent) & (parts["metric"] == metric)]
        ax.axhline(0, color="#777777", linewidth=1.2)
        for name, look in looks.items():
            curve = mine[mine["part"] == name]
            x = curve["round"]
            ax.plot(x, curve["mean"], color=look.colour, marker=look.marker, linewidth=2, markersize=5)
            if few:
                of_part = threads[(threads["agent"] == agent) & (threads["metric"] == metric)]
                plot_threads(ax, of_part[of_part["part"] == name], "round", look)
            else:
                ax.fill_between(x, curve["low"], curve["high"], color=look.colour, alpha=0.15, linewidth=0)
        metric_axis(ax, tables.measures[metric], difference=True)
        if len(agents) > 1:
            ax.set_title(f"{agent}\n{tables.measures[metric].title}", loc="left", pad=9)
        integer_rounds(ax)
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=7, linewidth=2)
        for look in looks.values()
    ]
    labels = [f"{name} ({formulas[name]})" for name in looks]
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def effect_of_retraining(parts: pd.DataFrame, late: str, measures: Mapping[str, Measure] = MEASURES) -> str:
    """What the loop, or else all of retraining, did to relevance (or the first agent with controls) in late rounds.

    Args:
        parts: What :func:`rimsim.scenarios.report.decomposition.decomposition` tells of the late rounds, not empty.
        late: The late rounds in words.
        measures: Metric → measure.
    """
    there = list(parts["metric"].unique())
    metric = next((name for name in ("coverage", "effective_items", "log_gini") if name in there), there[0])
    agents = list(parts["agent"].unique())
    agent = REFERENCE if REFERENCE in agents else subject(agents)
    mine = parts[(parts["agent"] == agent) & (parts["metric"] == metric)]
    part = next((name for name in _WORDS if (mine["part"] == name).any()), None)
    if part is None:
        return f"What retraining does to {agent}, in parts"
    measure = measures[metric]
    what = measure.title.lower()
    ends = {
        str(name): (float(mean), float(low), float(high))
        for name, mean, low, high in mine[["part", "mean", "low", "high"]].itertuples(index=False)
    }
    mean, low, high = ends[part]
    alone = int(mine["n"].min()) < 2
    if not alone and not low * high > 0:
        return f"{_WORDS[part]} has no clear effect on the {what} of {agent} ({late})"
    scale, unit = (100, "points") if measure.unit == "share" else (1, measure.unit)
    size = scale * abs(mean)
    digits = max(0, 1 - math.floor(math.log10(size))) if size > 0 else 0
    near, far = (f"{scale * end:.{digits}f}" for end in sorted((abs(low), abs(high))))
    spread = "one seed: no interval" if alone else f"95 % interval {near} to {far}"
    said = f"{_does(part, mean)} {agent} {size:.{digits}f} {unit} of {what} ({late}; {spread})"
    if part == LOOP and ALL in ends:
        whole = ends[ALL][0]
        said += f"; {_does(ALL, whole).lower()} it {scale * abs(whole):.{digits}f} in all"
    return said


def _does(part: str, mean: float) -> str:
    return f"{_WORDS[part]} {'costs' if mean < 0 else 'gives'}"
