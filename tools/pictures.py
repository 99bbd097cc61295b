"""Draw the pictures of the site: ``python tools/pictures.py [NAME ...]``.

A picture shows tables of the benchmark log: sections of its pages, or a file in ``benchmarks/log/pictures``, which
``benchmarks/picture_tables.py`` writes. Each title is computed from these tables. The file of a picture holds its title
and a digest of its tables: a test draws all pictures again and finds those that are older than their result.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import figures
import matplotlib as mpl
import numpy as np
import pandas as pd

from rimsim.envs.observations import exposure_figure
from rimsim.house_style import AMBER, BLUE, GREY, VERMILION
from rimsim.measures import MEASURES
from rimsim.scenarios.kinds.payback.gains import gains_of
from rimsim.scenarios.kinds.payback.learners import reference_of
from rimsim.scenarios.kinds.payback.report import map_figure
from rimsim.scenarios.report import charts, labels, prices
from rimsim.scenarios.report.happenings import RoundHours
from rimsim.scenarios.report.hours import hours_figure
from rimsim.scenarios.report.loop import PART_LOOKS
from rimsim.scenarios.report.numbers import figure as number
from rimsim.scenarios.report.numbers import per_cent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
TABLES = figures.LOG / "pictures"
NOTE = re.compile(r"tables ([0-9a-f]{16})")
LATE = 15  # first of the late rounds in runs of thirty
MAP_ROUNDS = 40  # of each arm of the payback map


@dataclass(frozen=True)
class Picture:
    """Picture of the site."""

    tables: tuple[str, ...]
    """Its tables: sections of the log as PAGE#HEADING, or files as NAME.csv."""
    draw: Callable[[], Figure]
    """Function that draws it."""
    ending: str = ".svg"
    """Ending of its file."""
    width: float = charts.WIDTH
    """Width in inches."""


@dataclass(frozen=True)
class Record:
    """Title and digest that the file of a picture holds."""

    title: str
    digest: str


def section(place: str) -> list[list[list[str]]]:
    """Tables below a heading of the log, each as rows of plain cells."""
    name, _, heading = place.partition("#")
    text = (figures.LOG / f"{name}.md").read_text(encoding="utf-8")
    return [rows for title, rows in figures.tables(text) if title == heading]


def table(name: str) -> pd.DataFrame:
    """Table of a picture."""
    return pd.read_csv(TABLES / f"{name}.csv")


def digest(places: tuple[str, ...]) -> str:
    """Digest of the tables of a picture."""
    contents = {
        place: (TABLES / place).read_text(encoding="utf-8") if place.endswith(".csv") else section(place)
        for place in places
    }
    absent = [place for place, rows in contents.items() if not rows]
    if absent:
        raise SystemExit(f"pictures: no table below {', '.join(absent)}")
    return hashlib.sha256(json.dumps(contents, ensure_ascii=False).encode()).hexdigest()[:16]


def numbers(cell: str) -> tuple[float, float, float]:
    """Mean, low and high of a cell such as ``0.5 ± 0.1`` or ``+2.3 [−1.7, +6.3]``."""
    mean, *ends = (
        float(text) for text in re.findall(r"-?\d+\.?\d*", cell.replace("−", "-").replace(",", " "))
    )
    if "±" in cell:
        return mean, mean - ends[0], mean + ends[0]
    return (mean, *ends) if len(ends) == 2 else (mean, mean, mean)


def bars(ax: Axes, x: Sequence[float], cells: Sequence[str], colour: str, label: str = "") -> None:
    """Means with their intervals, over numbers, joined by a line."""
    mean, low, high = np.array([numbers(cell) for cell in cells]).T
    ax.errorbar(
        x, mean, [mean - low, high - mean], color=colour, marker="o", capsize=2, linewidth=2, label=label
    )


def bands(ax: Axes, curves: pd.DataFrame, colours: Mapping[str, str], scale: float = 1) -> None:
    """Means with their 95% bands by round: a panel of a table of ``picture_tables.by_round``."""
    for name, colour in colours.items():
        curve = curves[curves["line"] == name].sort_values("round")
        ax.plot(curve["round"], scale * curve["mean"], color=colour, linewidth=2, clip_on=False)
        ends = scale * curve["low"], scale * curve["high"]
        ax.fill_between(curve["round"], *ends, color=colour, alpha=0.2, linewidth=0)
    charts.integer_rounds(ax)


def name_lines(ax: Axes, colours: Mapping[str, str], names: Mapping[str, str]) -> None:
    """Write the name of each line of :func:`bands` at its end."""
    lines = dict(zip(colours, ax.lines, strict=True))
    ends = {
        names[key]: (float(line.get_xdata()[-1]), float(line.get_ydata()[-1])) for key, line in lines.items()
    }
    labels.label_ends(ax, ends, {names[key]: colour for key, colour in colours.items()})


def row_or_column(
    title: str, caption: str, height: float, n_panels: int, *, share_y: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    """Figure and panels next to each other, or below each other where the figure is narrow."""
    is_narrow = charts.columns(n_panels) == 1
    figure = charts.frame(title, caption, 0.875 * n_panels * height if is_narrow else height)
    shape = (n_panels, 1) if is_narrow else (1, n_panels)
    return figure, figure.subplots(*shape, sharey=share_y)


def at(curves: pd.DataFrame, panel: str, line: str, number: int) -> float:
    """Mean of a line in a round."""
    rows = curves[(curves["panel"] == panel) & (curves["line"] == line) & (curves["round"] == number)]
    return float(rows["mean"].iloc[0])


def coverage() -> Figure:
    """Catalogue that is shown and items that are taken, by round."""
    curves = table("coverage")
    last = int(curves["round"].max())
    first_share, last_share = (per_cent(at(curves, "coverage", "relevance", number)) for number in (0, last))
    names = {
        "relevance-frozen": "never retrained",
        "rim-feedback": "with a guarantee",
        "relevance": "retrained",
    }
    colours = {"relevance-frozen": GREY, "rim-feedback": VERMILION, "relevance": BLUE}
    figure, (shown, taken) = row_or_column(
        f"Retrained, this recommender shows {last_share} of the films in round {last}, and {first_share} in round 0",
        "Embedded MovieLens log, 30 rounds, 5 seeds; bands: 95% intervals.",
        3.2,
        2,
    )
    panels = (
        (shown, "coverage", 100, "Items of the catalogue that are shown, %"),
        (taken, "utility", 1, "Items taken per slate of ten"),
    )
    for ax, panel, scale, title in panels:
        bands(ax, curves[curves["panel"] == panel], colours, scale)
        ax.set_ylim(0, None)
        ax.set_title(title)
        name_lines(ax, colours, names)
    return figure


def retraining() -> Figure:
    """Parts of what retraining changes, by round."""
    curves = table("retraining")
    late = curves[curves["round"] >= LATE].groupby(["panel", "line"])["mean"].mean()
    feedback, total = (late["coverage", part] for part in ("feedback", "all"))
    metrics = list(dict.fromkeys(curves["panel"]))
    parts = {
        "retraining": "organic − frozen",
        "data": "random − organic",
        "selection": "static − random",
        "feedback": "self − static",
        "all": "self − frozen",
    }
    figure, axes = charts.panels(
        f"Feedback {_moves(feedback)}, all retraining {_moves(total)} (mean of rounds {LATE}–{curves['round'].max()})",
        "relevance in closed-loop. Differences between arms at the same round and seed, which add up. 5 seeds; bands: "
        "paired 95% intervals.",
        len(metrics),
        {f"{name} ({formula})": PART_LOOKS[name] for name, formula in parts.items()},
    )
    for ax, metric in zip(axes, metrics, strict=True):
        ax.axhline(0, color=GREY, linewidth=1.2)
        bands(ax, curves[curves["panel"] == metric], {name: PART_LOOKS[name].colour for name in parts})
        for line, name in zip(ax.lines[1:], parts, strict=True):
            line.set(marker=PART_LOOKS[name].marker, markersize=5)
        charts.metric_axis(ax, MEASURES[metric], difference=True)
    return figure


def _moves(share: float) -> str:
    """Change of coverage in words."""
    return f"{'costs' if share < 0 else 'adds'} {number(100 * abs(share))} points of coverage"


def who_pays() -> Figure:
    """Positions of guaranteed items by the activity of visitors."""
    return prices.carriers_figure(table("who-pays"), "mean of rounds 4–7")


def payback_map(name: str = "payback-map") -> Figure:
    """Gain of guarantees by learner, over worlds whose log hides worth."""
    shares = table(name)
    return map_figure(shares, gains_of(shares, reference_of(list(shares["learner"].unique()))), MAP_ROUNDS)


def two_sides_floors() -> Figure:
    """Users' welfare and providers by floor, a line per threshold."""
    rows = next(rows for rows in section("two-sides#two-sides") if rows[0][0] == "threshold")
    providers_alive = {(row[0], float(row[1])): float(row[5].partition("→")[2]) for row in rows[1:]}
    costs = {(row[0], float(row[1])): numbers(row[2])[0] for row in rows[1:]}
    half = [key for key in providers_alive if key[1] == 0.5]
    lowest = min(providers_alive[key] for key in half)
    cost = np.mean([costs[key] for key in half])
    providers = "all" if lowest == 1 else f"{per_cent(lowest)} of the"
    figure, axes = row_or_column(
        f"A floor of half the uniform exposure keeps {providers} providers and costs users {per_cent(-cost / 100)} of "
        "their welfare",
        "Learner with slope 0, not the default. rim-feedback minus relevance. Threshold: exposure below which a "
        "provider leaves. Bars: 95% intervals.",
        3.0,
        3,
    )
    columns = (
        (2, "welfare, 30 rounds, %"),
        (3, "welfare, last 5 rounds, %"),
        (5, "providers alive, %"),
    )
    for ax, (column, title) in zip(axes, columns, strict=True):
        for place, (threshold, colour) in enumerate(zip("012", (BLUE, AMBER, VERMILION), strict=True)):
            of_threshold = [row for row in rows[1:] if row[0] == threshold]
            beta = [float(row[1]) + 0.012 * (place - 1) for row in of_threshold]
            cells = [row[column].partition("→")[2] or row[column] for row in of_threshold]
            cells = [f"{100 * float(cell)}" for cell in cells] if column == 5 else cells
            bars(ax, beta, cells, colour, f"threshold {threshold}")
        ax.set_title(title, fontsize=11)
        ax.set(xlabel="floor β", xticks=[0.1, 0.5, 0.8])
    axes[2].set_ylim(0, 105)
    axes[0].legend()
    return figure


def backtest_fronts() -> Figure:
    """Precision and spread as the guaranteed share grows."""
    rows = next(rows for rows in section("backtest#figures") if rows[0][1] == "β")
    looks = {
        "transformer-hp": (BLUE, "transformer-hp: with λ(x)"),
        "transformer": ("#58ade4", "transformer: p(y|x) alone"),
        "hp": (VERMILION, "hp: popularity with λ(x)"),
        "popularity": (AMBER, "popularity alone"),
    }
    loss = {model: _loss_at_most_spread([row for row in rows[1:] if row[0] == model]) for model in looks}
    figure = charts.frame(
        f"Equal exposure of all items costs {per_cent(loss['transformer-hp'])} of precision with λ(x), "
        f"{per_cent(loss['transformer'])} without",
        "MovieLens-1M, ratings of 4 and 5, 3 splits; bars: 95% intervals. gru-hp equals transformer-hp.",
        3.8,
    )
    ax = figure.subplots()
    for model, (colour, label) in looks.items():
        of_model = [row for row in rows[1:] if row[0] == model]
        spread = [numbers(row[3])[0] for row in of_model]
        bars(ax, spread, [row[2] for row in of_model], colour, label)
        for across, row in list(zip(spread, of_model, strict=True))[model in {"transformer", "popularity"} :]:
            place = across, numbers(row[2])[0]
            ax.annotate(f"β = {row[1]}", place, (6, 6), textcoords="offset points", fontsize=8)
    ax.set(xlabel="exposure perplexity, items", ylabel="precision", ylim=(0, None))
    ax.legend()
    return figure


def _loss_at_most_spread(rows: list[list[str]]) -> float:
    """Share of precision that the largest β costs a model."""
    precision = {float(row[1]): numbers(row[2])[0] for row in rows}
    return 1 - precision[max(precision)] / precision[min(precision)]


def validity_agreement() -> Figure:
    """Models on held-out sessions and under the truth."""
    rows = section("validity#validity-figures")[0]
    models = {row[0]: (numbers(row[1]), numbers(row[4])) for row in rows[1:] if row[1]}
    # The means of a table do not say which pairs are significant, so the log counts them.
    titles_of_counts, counts = next(
        rows for rows in section("validity#validity-figures") if rows[0][0] == "pairs of models"
    )
    count_of = dict(zip(titles_of_counts, counts, strict=True))
    figure = charts.frame(
        f"The truth factors puts {count_of['in order, truth factors']} of {count_of['significant']} significant "
        "pairs of models in the order of held-out sessions",
        "Embedded log, 285 users; bars: 95% intervals over users.",
        3.6,
    )
    ax = figure.subplots()
    for real, simulated in models.values():
        ax.errorbar(
            real[0],
            simulated[0],
            xerr=[[real[0] - real[1]], [real[2] - real[0]]],
            yerr=[[simulated[0] - simulated[1]], [simulated[2] - simulated[0]]],
            color=BLUE,
            marker="o",
            linewidth=1,
        )
    ax.set(xlabel="precision@10 on held-out later sessions", ylabel="utility under the truth factors")
    ends = {
        (end, side): [values[side == "y"][place] for values in models.values()]
        for place, end in enumerate(("mean", "low", "high"))
        for side in "xy"
    }
    looks = dict.fromkeys(models, charts.AgentStyle(BLUE, "o"))
    labels.label_means(ax, pd.DataFrame(ends, index=list(models)), "x", "y", looks)
    return figure


def two_sides() -> Figure:
    """Providers, users and items by round."""
    curves = table("two-sides")
    last = int(curves["round"].max())
    lost = {agent: 1 - at(curves, "providers_alive", agent, last) for agent in ("relevance", "rim-feedback")}
    shares = {agent: per_cent(share) if share > 0 else "none" for agent, share in lost.items()}
    colours = {name: look.colour for name, look in charts.styles(curves["line"].unique()).items()}
    figure, axes = row_or_column(
        f"Under relevance {shares['relevance']} of the providers leave, under rim-feedback {shares['rim-feedback']}",
        "Scenario two-sided, 30 rounds, 5 seeds; bands: 95% intervals.",
        3.0,
        3,
    )
    panels = (("providers_alive", "%"), ("user_welfare", "per round"), ("items_sold", "%"))
    for ax, (metric, unit) in zip(axes, panels, strict=True):
        bands(ax, curves[curves["panel"] == metric], colours, 100 if unit == "%" else 1)
        ax.set_ylim(0, None)
        ax.set_title(f"{MEASURES[metric].title}, {unit}", fontsize=11)
        name_lines(ax, colours, {name: name for name in colours})
    return figure


def campaigns() -> Figure:
    """Delivery of groups and campaigns by day."""
    delivered = table("campaigns")
    looks = charts.styles(delivered["line"].unique())
    names = list(dict.fromkeys(delivered["panel"]))
    ends = delivered.sort_values("round").groupby(["line", "panel"])["delivered"].last()
    behind = {agent: int((ends[agent] < 0.99).sum()) for agent in ("rim-feedback", "relevance")}
    figure, axes = charts.panels(
        f"relevance leaves {behind['relevance']} of {len(names)} groups and campaigns short, rim-feedback "
        f"{behind['rim-feedback'] or 'none'}",
        "Delivered so far, percent of what is due so far, cut at 200. Scenario campaigns, one round per week, seed 0.",
        len(names),
        looks,
        2.6,
    )
    for ax, name in zip(axes, names, strict=True):
        ax.axhline(100, color=GREY, linewidth=1, linestyle="--")
        of_panel = delivered[delivered["panel"] == name]
        percent = of_panel.assign(agent=of_panel["line"], value=100 * of_panel["delivered"])
        for agent, look in looks.items():
            course = percent[percent["agent"] == agent]
            ax.plot(course["round"], course["value"], color=look.colour, marker=look.marker, clip_on=False)
        ax.set(title=name, xlim=(-0.2, 3.2), ylim=(0, 206))
        charts.integer_rounds(ax)
    return figure


def wrong_forecast() -> Figure:
    """Prices under a wrong forecast."""
    courses = table("wrong-forecast")
    means = courses.groupby(["hard", "forecast"])["bonus"].mean()
    highest = courses["forecast"].max()
    factor = min(means[hard, highest] / means[hard, 1.0] for hard in (False, True))
    figure, axes = row_or_column(
        f"A forecast {highest:g} times too high raises the mean bonus {factor:.1f} times, "
        "with soft and hard guarantees",
        "Mean bonus of an item in units of c, rim-feedback paced by the clock, second round of closed-loop, seed 0.",
        3.2,
        2,
        share_y=True,
    )
    for ax, hard in zip(axes, (False, True), strict=True):
        for forecast, colour in zip((0.5, 1.0, 1.5), (BLUE, GREY, VERMILION), strict=True):
            course = courses[(courses["hard"] == hard) & (courses["forecast"] == forecast)]
            ax.plot(
                course["arrivals"],
                course["bonus"],
                color=colour,
                linewidth=2,
                clip_on=False,
                label=f"{forecast:g} N",
            )
        ax.set_title("hard guarantees" if hard else "soft guarantees: no bonus above c")
        ax.set(xlabel="arrivals so far, % of the round", yscale="log")
        charts.log_axis(ax.yaxis)
    axes[0].set_ylabel("mean bonus, in c")
    axes[0].legend(title="promised for")
    return figure


def learning_curve() -> Figure:
    """Gain of the bandit over the controller by training episodes."""
    rows, _ = section("environment#learners-with-the-controllers-prices")
    gain = {row[0]: row[2] for row in rows[1:]}
    learned = {
        float(match[1]): cell
        for name, cell in gain.items()
        if (match := re.match(r"bandit on its prices, (\d+) training", name))
    }
    gains = {episodes: numbers(cell) for episodes, cell in learned.items()}
    gaining = [episodes for episodes, (_, low, _) in gains.items() if low > 0]
    oracle = numbers(gain["oracle"])[0]
    figure = charts.frame(
        f"A bandit on the prices of rim-feedback gains after {min(gaining):g} episodes"
        if gaining
        else "A bandit on the prices of rim-feedback has no significant gain",
        "Return minus that of rim-feedback at the same 20 seeds; bars: 95% intervals.",
        3.8,
    )
    ax = figure.subplots()
    bars(ax, [0.0, *learned], ["0 ± 0", *learned.values()], BLUE)
    ax.axhline(0.0, color=GREY, linestyle="--")
    ax.axhline(oracle, color=GREY, linestyle=":")
    ax.set(xlabel="training episodes", ylabel="gain of return")
    last = max(learned)
    ends = {"learned": (last, gains[last][0]), "rim-feedback": (last, 0.0), "oracle": (last, oracle)}
    labels.label_ends(ax, ends, {"learned": BLUE, "rim-feedback": GREY, "oracle": GREY})
    return figure


def happenings() -> Figure:
    """Changes by processes in a week, below visits and consumptions."""
    rows = table("happenings")
    visits = rows[rows["taken"].notna()]
    changes = rows[rows["what"].notna()].astype({"items": int})
    stops, starts = (
        changes.loc[changes["what"] == change, "time"] for change in ("stop_model", "start_model")
    )
    return hours_figure(
        RoundHours(
            agent="relevance",
            seed=0,
            round=0,
            changes=changes[["time", "process", "what", "items"]],
            visits=visits["time"].to_numpy(),
            consumptions=visits["taken"].to_numpy(),
            stopped=tuple(zip(stops, starts, strict=True)),
        )
    )


def environment() -> Figure:
    """Exposure against requirement, as the environment renders it."""
    items = table("environment")
    exposure, required = (items[name].to_numpy() for name in ("exposure", "required"))
    short = np.maximum(required - exposure, 0).sum() / required.sum()
    shown = per_cent((exposure > 0).mean())
    title = f"closed-loop: {shown} of items shown, {per_cent(short)} of guarantees still to deliver"
    return exposure_figure(exposure, required, title)


PICTURES: dict[str, Picture] = {
    "coverage": Picture(("coverage.csv",), coverage),
    "coverage-narrow": Picture(("coverage.csv",), coverage, width=charts.NARROW),  # for a phone
    "retraining": Picture(("retraining.csv",), retraining),
    "who-pays": Picture(("who-pays.csv",), who_pays),
    "prices": Picture(("prices.csv",), lambda: prices.bonus_figure(table("prices"), 7)),
    "delivery": Picture(("delivery.csv",), lambda: prices.courses_figure(table("delivery"), "as examined")),
    "payback-map": Picture(("payback-map.csv",), payback_map),
    "payback-map-shop": Picture(("payback-map-shop.csv",), partial(payback_map, "payback-map-shop")),
    "two-sides": Picture(("two-sides.csv",), two_sides),
    "two-sides-floors": Picture(("two-sides#two-sides",), two_sides_floors),
    "campaigns": Picture(("campaigns.csv",), campaigns),
    "wrong-forecast": Picture(("wrong-forecast.csv",), wrong_forecast),
    "backtest-fronts": Picture(("backtest#figures",), backtest_fronts),
    "learning-curve": Picture(("environment#learners-with-the-controllers-prices",), learning_curve),
    "validity-agreement": Picture(("validity#validity-figures",), validity_agreement),
    "happenings": Picture(("happenings.csv",), happenings),
    "environment": Picture(("environment.csv",), environment, ".png"),
}


def drawn(name: str) -> tuple[Figure, str]:
    """Picture in the house style, and its title."""
    figure = PICTURES[name].draw()
    if isinstance(figure, charts.ChartFigure):
        return figure, figure.heading.message
    return figure, figure.axes[0].get_title(loc="left")


def recorded(name: str) -> Record:
    """Title and digest in the file of a picture."""
    path = FOLDER / f"{name}{PICTURES[name].ending}"
    if path.suffix == ".png":
        from PIL import Image  # noqa: PLC0415  # comes with Matplotlib

        with Image.open(path) as image:
            title = str(image.info.get("Title"))
            note = str(image.info.get("Description"))
    else:
        text = path.read_text(encoding="utf-8")
        title = re.search(r"<dc:title>(.*?)</dc:title>", text)[1]
        note = re.search(r"<dc:description>(.*?)</dc:description>", text)[1]
    return Record(html.unescape(title), NOTE.fullmatch(note)[1])


def save(name: str) -> Path:
    """Path of a picture that was drawn, with its title and the digest of its tables."""
    picture = PICTURES[name]
    path = FOLDER / f"{name}{picture.ending}"
    with charts.style(picture.width), mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure, title = drawn(name)
        charts.wrap_labels(figure)
        note = {"Title": title, "Description": f"tables {digest(picture.tables)}"}
        note |= {"Software": None} if picture.ending == ".png" else {"Date": None, "Creator": None}
        figure.savefig(path, metadata=note)
    return path


def main() -> None:
    """Draw the named pictures, or all."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "names", nargs="*", choices=[*PICTURES, []], metavar="NAME", help=", ".join(PICTURES)
    )
    for name in options.parse_args().names or PICTURES:
        print(save(name))


if __name__ == "__main__":
    main()
