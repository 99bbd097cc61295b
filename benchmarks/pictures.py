"""Draw the pictures of the site: ``python benchmarks/pictures.py [NAME ...] [--runs FOLDER]``.

A picture shows tables of the benchmark log. It is drawn from these tables, or from the run behind them, which is a
folder in ``runs``. Its file, ``docs/pictures/NAME.svg``, holds a digest of the tables: a test finds pictures that are
older than their result.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import figures
import matplotlib as mpl
import numpy as np
from wrong_forecast import FORECASTS, course

from rimsim.measures import MEASURES, mean_interval
from rimsim.scenarios import load_run
from rimsim.scenarios.report import charts, loop, prices
from rimsim.scenarios.report.tables import PictureTables, picture_tables

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
NOTE = re.compile(r"<dc:description>tables ([0-9a-f]{16})</dc:description>")
LINE = {"linewidth": 2, "clip_on": False}


@dataclass(frozen=True)
class Picture:
    """Picture of the site."""

    tables: tuple[str, ...]
    """Sections of the log whose tables it shows, as PAGE#HEADING."""
    draw: Callable[[Path], Figure]
    """Draws it; takes the folder of the runs."""


# -- tables of the log ------------------------------------------------------------------------------------------------
def section(place: str) -> list[list[list[str]]]:
    """Tables below a heading of the log, each as rows of plain cells."""
    name, _, heading = place.partition("#")
    text = (figures.LOG / f"{name}.md").read_text(encoding="utf-8")
    return [rows for title, rows in figures.tables(text) if title == heading]


def digest(places: tuple[str, ...]) -> str:
    """Digest of the tables of some sections."""
    found = {place: section(place) for place in places}
    lacking = [place for place, rows in found.items() if not rows]
    if lacking:
        raise SystemExit(f"pictures: no table below {', '.join(lacking)}")
    return hashlib.sha256(json.dumps(found, ensure_ascii=False).encode()).hexdigest()[:16]


def recorded(path: Path) -> str | None:
    """Digest that a picture holds."""
    found = NOTE.search(path.read_text(encoding="utf-8"))
    return found[1] if found else None


def numbers(cell: str) -> tuple[float, float, float]:
    """Mean, low and high of a cell such as ``0.5 ± 0.1`` or ``+2.3 [−1.7, +6.3]``."""
    mean, *ends = (float(one) for one in re.findall(r"-?\d+\.?\d*", cell.replace("−", "-").replace(",", " ")))
    if "±" in cell:
        return mean, mean - ends[0], mean + ends[0]
    return (mean, *ends) if len(ends) == 2 else (mean, mean, mean)


def bars(ax: Axes, x: list[float], cells: list[str], colour: str, label: str = "", **look: object) -> None:
    """Means with their intervals, over numbers."""
    mean, low, high = np.array([numbers(cell) for cell in cells]).T
    ax.errorbar(x, mean, [mean - low, high - mean], color=colour, marker="o", capsize=2, label=label, **look)


# -- pictures of tables -----------------------------------------------------------------------------------------------
def who_pays(_: Path) -> Figure:
    """Positions of guaranteed items by the activity of visitors."""
    (rows,) = section("closed-loop#who-pays")
    looks = charts.styles(["relevance", "rim-feedback"])
    figure = charts.frame(
        "Visitors who want little carry the guarantee",
        "Positions of ten for items that relevance leaves short. Rounds 4–7, 3 seeds; bars: 95% intervals.",
        3.4,
    )
    ax = figure.subplots()
    tenths = [int(re.findall(r"\d+", title)[0]) for title in rows[0][1:]]
    for name, *cells in rows[1:]:
        bars(ax, tenths, cells, looks[name].colour, linewidth=2)
        ax.annotate(
            name,
            (tenths[1], numbers(cells[1])[0]),
            (8, 8),
            textcoords="offset points",
            color=looks[name].colour,
        )
    ax.set(
        xlabel="tenths of the arrivals, from the least to the most active", ylabel="positions", ylim=(0, 10.5)
    )
    ax.set_xticks(tenths)
    return figure


def payback(_: Path) -> Figure:
    """Gain over relevance by arm, where the log says all and where it says nothing."""
    (rows,) = section("payback#gain")
    cells = {row[0]: row[1:] for row in rows[1:]}
    figure = charts.frame(
        "No guarantee pays back within thirty rounds",
        "Gain over relevance in the last ten rounds, percent of its utility. Dots: means; bars: 95% intervals.",
        3.4,
    )
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    places = list(range(len(rows[0]) - 1))[::-1]
    panels = {
        "hidden 0, late": "The log says all of quality",
        "hidden 1 (base), late": "The log says nothing of it",
    }
    for ax, (point, title) in zip(axes, panels.items(), strict=True):
        mean, low, high = np.array([numbers(cell) for cell in cells[point]]).T
        ax.axvline(0, color=charts.GREY, linewidth=1)
        ax.errorbar(mean, places, xerr=[mean - low, high - mean], fmt="o", color="#0072b2", capsize=3)
        ax.set_title(title, loc="left")
        ax.set_xlabel("gain, percent")
    names = [name.replace("rim-feedback, 0", "rim-feedback, β = 0") for name in rows[0][1:]]
    axes[0].set_yticks(places, names)
    return figure


def two_sides_floors(_: Path) -> Figure:
    """Users' welfare and providers by floor, a line per threshold."""
    rows = next(rows for rows in section("two-sides#two-sides") if rows[0][0] == "threshold")
    figure = charts.frame(
        "A floor of a tenth costs users little; a floor of a half keeps all providers",
        "rim-feedback minus relevance. Threshold: exposure below which a provider leaves. Bars: 95% intervals.",
        3.0,
    )
    axes = figure.subplots(1, 3)
    columns = (
        (2, "users' welfare, 30 rounds, %"),
        (3, "users' welfare, last 5 rounds, %"),
        (5, "providers alive, %"),
    )
    for ax, (column, title) in zip(axes, columns, strict=True):
        for number, threshold in enumerate(("0", "1", "2")):
            mine = [row for row in rows[1:] if row[0] == threshold]
            beta = [float(row[1]) + 0.012 * (number - 1) for row in mine]
            cells = [row[column].partition("→")[2] or row[column] for row in mine]
            cells = [f"{100 * float(cell)}" for cell in cells] if column == 5 else cells
            bars(
                ax,
                beta,
                cells,
                ("#0072b2", "#de8f05", "#029e73")[number],
                f"threshold {threshold}",
                linewidth=2,
            )
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(xlabel="floor β", xticks=[0.1, 0.5, 0.8])
    axes[2].set_ylim(0, 105)
    axes[0].legend(frameon=False)
    return figure


def backtest_fronts(_: Path) -> Figure:
    """Precision and spread as the guaranteed share grows."""
    rows = next(rows for rows in section("backtest#figures") if rows[0][1] == "β")
    looks = {
        "transformer-hp": ("#0072b2", "transformer-hp: with λ(x)"),
        "transformer": ("#56b4e9", "transformer: p(y|x) alone"),
        "hp": ("#d55e00", "hp: popularity with λ(x)"),
        "popularity": ("#cc78bc", "popularity alone"),
    }
    figure = charts.frame(
        "With λ(x), a guarantee spreads exposure for little precision",
        "MovieLens-1M, ratings of 4 and 5, 3 splits; bars: 95% intervals. gru-hp equals transformer-hp.",
        3.8,
    )
    ax = figure.subplots()
    for model, (colour, label) in looks.items():
        mine = [row for row in rows[1:] if row[0] == model]
        spread = [numbers(row[3])[0] for row in mine]
        bars(ax, spread, [row[2] for row in mine], colour, label, linewidth=2)
        for across, row in list(zip(spread, mine, strict=True))[model in {"transformer", "popularity"} :]:
            ax.annotate(
                f"β = {row[1]}", (across, numbers(row[2])[0]), (6, 6), textcoords="offset points", fontsize=8
            )
    ax.set(xlabel="exposure perplexity, items", ylabel="precision", ylim=(0, None))
    ax.legend(frameon=False)
    return figure


def validity_agreement(_: Path) -> Figure:
    """Models on held-out sessions and under the truth."""
    rows = section("validity#validity-figures")[0]
    figure = charts.frame(
        "The truth orders models nearly as held-out sessions do",
        "Embedded log, 285 users; bars: 95% intervals over users.",
        3.6,
    )
    ax = figure.subplots()
    for name, precision, *others in (row for row in rows[1:] if row[1]):
        real, simulated = numbers(precision), numbers(others[2])
        ax.errorbar(
            real[0],
            simulated[0],
            xerr=[[real[0] - real[1]], [real[2] - real[0]]],
            yerr=[[simulated[0] - simulated[1]], [simulated[2] - simulated[0]]],
            color="#0072b2",
            marker="o",
            linewidth=1,
        )
        place = {"returning": (6, -14), "factors": (8, -14), "bag": (-30, -14), "ease": (-34, 6)}.get(
            name, (6, 6)
        )
        ax.annotate(name, (real[0], simulated[0]), place, textcoords="offset points")
    ax.set(xlabel="precision@10 on held-out later sessions", ylabel="utility under the truth factors")
    return figure


# -- pictures of runs -------------------------------------------------------------------------------------------------
def curves(
    ax: Axes, rounds: pd.DataFrame, metric: str, names: Mapping[str, tuple[str, str]], scale: float = 1
) -> None:
    """Mean of a measure by round with its 95% band, one line per arm with its name at the end."""
    ends = []
    for arm, (label, colour) in names.items():
        mine = rounds[(rounds["agent"] == arm) & (rounds["metric"] == metric)]
        found = [mean_interval(list(scale * one)) for _, one in mine.groupby("round")["value"]]
        mean, low, high = np.array([(one.mean, one.low, one.high) for one in found], float).T
        ax.plot(mean, color=colour, **LINE)
        ax.fill_between(range(len(mean)), low, high, color=colour, alpha=0.2, linewidth=0)
        ends.append((mean[-1], label, colour))
    ax.set_ylim(0, 1.12 * max(line.get_ydata().max() for line in ax.lines))
    above = -np.inf
    for height, label, colour in sorted(ends):
        above = max(height, above + 0.09 * ax.get_ylim()[1])
        ax.annotate(
            label, (len(mean) - 1, above), (8, 0), textcoords="offset points", va="center", color=colour
        )
    charts.integer_rounds(ax)


HERO = {
    "relevance-frozen": ("never retrained", "#777777"),
    "rim-feedback": ("with a guarantee", "#d55e00"),
    "relevance": ("retrained", "#0072b2"),
}


def coverage(runs: Path) -> Figure:
    """Catalogue that is shown and items that are taken, by round."""
    rounds = load_run(runs / "retraining").rounds
    figure = charts.frame(
        "A recommender that learns from its own market shows less and less of the catalogue",
        "Embedded MovieLens log, 30 rounds, 5 seeds; bands: 95% intervals.",
        3.2,
    )
    shown, taken = figure.subplots(1, 2)
    curves(shown, rounds, "coverage", HERO, 100)
    shown.set_title("Items of the catalogue that are shown, %", loc="left")
    curves(taken, rounds, "utility", HERO)
    taken.set_title("Items taken per slate of ten", loc="left")
    return figure


def retraining(runs: Path) -> Figure:
    """Parts of what retraining changes."""
    return _of_run(loop.decomposed, runs / "retraining")


def two_sides(runs: Path) -> Figure:
    """Providers, users and items by round."""
    rounds = load_run(runs / "two-sides" / "factors-bag-visits").rounds
    looks = charts.styles(["relevance", "rim-dual", "rim-feedback"])
    names = {name: (name, look.colour) for name, look in looks.items()}
    figure = charts.frame(
        "Half of the providers leave under relevance, none under rim-feedback",
        "Scenario two-sided, 30 rounds, 5 seeds; bands: 95% intervals.",
        3.0,
    )
    for ax, metric, unit in zip(
        figure.subplots(1, 3),
        ("providers_alive", "user_welfare", "items_sold"),
        ("%", "per round", "%"),
        strict=True,
    ):
        curves(ax, rounds, metric, names, 100 if unit == "%" else 1)
        ax.set_title(f"{MEASURES[metric].title}, {unit}", loc="left", fontsize=11)
    return figure


def campaigns(runs: Path) -> Figure:
    """Delivery of groups and campaigns by day."""
    table = load_run(runs / "campaigns").promises
    agents = ("relevance", "rim-dual", "rim-feedback", "hindsight")
    looks = charts.styles(agents)
    table = table[table["due"] > 0].sort_values("round")
    names = ("genres Documentary", "genres Western", "new releases", "horror weekend")
    figure = charts.frame(
        "rim-feedback keeps up with groups and campaigns, relevance leaves three of four behind",
        "Delivered so far, percent of what is due so far, cut at 200. Scenario campaigns, one round per week, seed 0.",
        4.4,
    )
    axes = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    for ax, name in zip(axes, names, strict=True):
        ax.axhline(100, color=charts.GREY, linewidth=1, linestyle="--")
        for agent in agents:
            mine = table[(table["name"] == name) & (table["agent"] == agent)]
            so_far = 100 * mine["delivered"].cumsum() / mine["due"].cumsum()
            look = looks[agent]
            ax.plot(mine["round"], so_far.clip(upper=200), color=look.colour, marker=look.marker, label=agent)
        ax.set_title(name, loc="left")
        charts.integer_rounds(ax)
    axes[0].set_ylim(0, 206)
    axes[3].legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def wrong_forecast(_: Path) -> Figure:
    """Prices under a wrong forecast: played, some minutes."""
    figure = charts.frame(
        "A forecast that is too high raises prices, and hard guarantees are kept all the same",
        "Mean bonus of an item in units of c, rim-feedback paced by the clock, second round of closed-loop, seed 0.",
        3.2,
    )
    axes = figure.subplots(1, 2, sharey=True)
    for ax, hard in zip(axes, (False, True), strict=True):
        for forecast, colour in zip(FORECASTS, ("#0072b2", "#777777", "#d55e00"), strict=True):
            bonus = course(forecast, hard=hard).bonus
            ax.plot(np.linspace(0, 100, len(bonus)), bonus, color=colour, label=f"{forecast:g} N", **LINE)
        ax.set_title("hard guarantees" if hard else "soft guarantees: no bonus above c", loc="left")
        ax.set(xlabel="arrivals so far, % of the round", yscale="log")
        charts.log_axis(ax.yaxis)
    axes[0].set_ylabel("mean bonus, in c")
    axes[0].legend(title="promised for", frameon=False)
    return figure


def _of_run(drawn: Callable[[PictureTables], Figure | None], folder: Path) -> Figure:
    figure = drawn(picture_tables(load_run(folder)))
    if figure is None:
        raise SystemExit(f"pictures: {folder} has no data for {drawn.__name__}")
    return figure


def learning_curve(_: Path) -> Figure:
    """Gain of the bandit over the controller by training episodes."""
    rows, _ = section("environment#learners-with-the-controllers-prices")
    gain = {row[0]: row[2] for row in rows[1:]}
    learned = {
        float(found[1]): cell
        for name, cell in gain.items()
        if (found := re.match(r"bandit on its prices, (\d+) training", name))
    }
    message = "No significant gain from a bandit on the prices of rim-feedback"
    caption = "Return minus that of rim-feedback at the same 20 seeds; bars: 95% intervals."
    figure = charts.frame(message, caption, 4.6)
    ax = figure.subplots()
    bars(ax, [0.0, *learned], ["0 ± 0", *learned.values()], "#0072b2", "learned")
    ax.axhline(0.0, color="#555555", linestyle="--", label="rim-feedback")
    ax.axhline(numbers(gain["oracle"])[0], color="#555555", linestyle=":", label="oracle")
    ax.set(xlabel="training episodes", ylabel="gain of return")
    ax.legend(frameon=False)
    return figure


PICTURES: dict[str, Picture] = {
    "coverage": Picture(("closed-loop#parts-of-retraining", "closed-loop#undelivered-exposure"), coverage),
    "retraining": Picture(("closed-loop#parts-of-retraining",), retraining),
    "who-pays": Picture(("closed-loop#who-pays",), who_pays),
    "prices": Picture(
        ("closed-loop#who-pays",), lambda runs: _of_run(prices.prices, runs / "demo" / "closed-loop")
    ),
    "delivery": Picture(
        ("closed-loop#who-pays",), lambda runs: _of_run(prices.delivery, runs / "demo" / "closed-loop")
    ),
    "payback": Picture(("payback#gain",), payback),
    "two-sides": Picture(("two-sides#two-sides",), two_sides),
    "two-sides-floors": Picture(("two-sides#two-sides",), two_sides_floors),
    "campaigns": Picture(("guarantees#campaigns",), campaigns),
    "wrong-forecast": Picture(("guarantees#promised-for-a-wrong-number-of-arrivals",), wrong_forecast),
    "backtest-fronts": Picture(("backtest#figures",), backtest_fronts),
    "learning-curve": Picture(("environment#learners-with-the-controllers-prices",), learning_curve),
    "validity-agreement": Picture(("validity#validity-figures",), validity_agreement),
}


def save(name: str, runs: Path) -> Path:
    """Path of a picture that was drawn, with the digest of its tables."""
    path, picture = FOLDER / f"{name}.svg", PICTURES[name]
    with charts.style(), mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        note = {"Description": f"tables {digest(picture.tables)}", "Date": None, "Creator": None}
        picture.draw(runs).savefig(path, metadata=note)
    return path


def main() -> None:
    """Draw the named pictures, or all."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "names", nargs="*", choices=[*PICTURES, []], metavar="NAME", help=", ".join(PICTURES)
    )
    options.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    given = options.parse_args()
    for name in given.names or PICTURES:
        print(save(name, given.runs))


if __name__ == "__main__":
    main()
