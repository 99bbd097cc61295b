"""Report of a payback map: gains by learner and guarantee."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rimsim.errors import RunFolderError, many
from rimsim.house_style import BLUE, GREY, INK, VERMILION
from rimsim.measures import FEW_SEEDS, mean_interval
from rimsim.measures.loop import late_words
from rimsim.scenarios.kinds.payback.arms import CEILING
from rimsim.scenarios.kinds.payback.gains import (
    COST,
    EQUAL,
    GAIN,
    NOT_SIGNIFICANT,
    Prediction,
    gains_of,
    of_guarantees,
    prediction_of,
    shares_of,
    worlds_of,
)
from rimsim.scenarios.report import charts, tables
from rimsim.scenarios.report.console import more_place, picture_places
from rimsim.scenarios.report.numbers import figure
from rimsim.scenarios.report.record import Plot, Report, Section, TextTable
from rimsim.scenarios.report.sentences import as_yaml, log_fact
from rimsim.scenarios.runs.store import RunFolder, resume_command

_MARKS = {GAIN: (BLUE, ">"), COST: (VERMILION, "<"), NOT_SIGNIFICANT: (GREY, "o"), EQUAL: (GREY, "o")}
"""Verdict → colour and marker; each alone identifies a verdict."""
_POINTS = 100.0  # points per share of the ceiling
_READING = (
    "A point is one percent of the ceiling: the utility of an agent that knows the true item effects, in the same "
    "world and rounds. A gain above 0 is exploration that the learner lacks; below 0, the guarantee is a cost."
)


def map_shares(run: RunFolder) -> pd.DataFrame:
    """Outcomes of a map's complete worlds; see :func:`shares_of`."""
    entry = run.config["payback"]
    n_arms = 1 + len(entry["learners"]) * len(entry["beta"])
    return shares_of(run.payback, run.scenario.rounds, n_arms)


def payback_report(run: RunFolder) -> Report:
    """Report of a payback map, finished or not.

    Raises:
        RunFolderError: If no world is complete.
        MissingTableError: If no arm is complete.
    """
    shares = map_shares(run)
    n_worlds = len(worlds_of(shares))
    if n_worlds == 0:
        raise RunFolderError(f"{run.folder}: no world is complete. Resume the run: {resume_command(run)}")
    reference = str(run.config["payback"]["reference"])
    gains = gains_of(shares, reference)
    prediction = prediction_of(shares)
    config = run.scenario
    cautions = (
        f"{len(run.seeds) - n_worlds} of {many(len(run.seeds), 'world')} are not complete: {resume_command(run)} "
        "continues"
        if n_worlds < len(run.seeds)
        else None,
        tables.two_seeds_note(n_worlds, "world"),
    )
    return Report(
        question=f"When is a guarantee a cost, and when is it exploration that a platform lacks? ({config.name})",
        answer=tuple(_sentences(gains, prediction, n_worlds)),
        cautions=tuple(note for note in cautions if note is not None),
        setting=(
            config.description,
            log_fact(run, config.data.source),
            f"{many(config.rounds, 'round')} of {config.arrivals.per_round:,} arrivals",
            many(n_worlds, "world"),
            f"truth `{config.consumer.truth}`, ρ = {config.consumer.hidden.rho:g}",
        ),
        sections=(
            Section(
                "Payback map",
                _READING,
                (Plot("payback", partial(map_figure, shares, gains, config.rounds)),),
                (
                    _gain_table(shares, gains, prediction, reference, config.rounds),
                    _delivery_table(shares, config.rounds),
                ),
            ),
        ),
        settings=as_yaml({"payback": run.config["payback"], "scenario": run.config["scenario"]}),
        places=lambda: [*picture_places(run.folder), more_place(run.folder)],
    )


def _sentences(gains: pd.DataFrame, prediction: Prediction, n_worlds: int) -> list[str]:
    """Answer: gains and costs beyond chance, then the prediction."""
    guarantees = of_guarantees(gains)
    begins = {
        GAIN: "A guarantee is exploration that the learner lacks (gain and 95% interval)",
        COST: "A guarantee is a cost (gain and 95% interval)",
    }
    lines: list[str] = []
    for verdict, text in begins.items():
        rows = guarantees[guarantees["verdict"] == verdict]
        learners: list[str] = []
        for learner, group in rows.groupby("learner", sort=False):
            words = [f"{_gain_words(row)} at β = {row['beta']:g}" for row in group.to_dict("records")]
            learners.append(f"`{learner}` {', '.join(words)}")
        if learners:
            lines.append(f"{text}: {'; '.join(learners)}.")
    n_open = int((guarantees["verdict"] == NOT_SIGNIFICANT).sum())
    doubt = tables.cannot_tell(n_worlds, "world")
    if n_open and doubt is not None:
        lines.append(
            f"{doubt.capitalize()} if {n_open} of {many(len(guarantees), 'guarantee')} have an effect."
        )
    elif n_open:
        lines.append(
            f"{n_open} of {many(len(guarantees), 'guarantee')} have no significant effect (Holm over "
            f"{many(int(gains['p'].notna().sum()), 'comparison')}, {many(n_worlds, 'world')})."
        )
    for row in gains[(gains["beta"] == 0) & gains["verdict"].isin([GAIN, COST])].to_dict("records"):
        learner = row["learner"]
        lines.append(f"Without a guarantee, `{learner}` minus `{row['minus_learner']}`: {_gain_words(row)}.")
    return [*lines, _prediction_words(prediction, n_worlds)]


def _gain_words(row: Mapping[Hashable, Any]) -> str:
    """Difference in points, with its interval."""
    mean, low, high = (figure(_POINTS * row[name]) for name in ("mean", "low", "high"))
    return f"{mean} points ({low} to {high})"


def _prediction_words(prediction: Prediction, n_worlds: int) -> str:
    """Sentence on the predicted order of learners."""
    begins = (
        "Prediction from the arms without a guarantee: the more of the catalogue a learner never shows, the more it "
        f"gains at β = {prediction.beta:g}"
    )
    if prediction.tau is None:
        return f"{begins}. These learners give no order to test."
    text = f"{begins}. Kendall's τ of both orders is {figure(prediction.tau)}"
    if prediction.low is None or prediction.high is None:
        return f"{text}, without an interval, which needs at least {FEW_SEEDS} worlds."
    verdicts = {
        True: "the prediction holds",
        False: "the order is the reverse of the prediction",
        None: "the worlds cannot tell if the prediction holds",
    }
    interval = (
        f"95% CI {figure(prediction.low)} to {figure(prediction.high)}, bootstrap over {n_worlds} worlds"
    )
    return f"{text} ({interval}), so {verdicts[prediction.holds]}."


def _gain_table(
    shares: pd.DataFrame, gains: pd.DataFrame, prediction: Prediction, reference: str, n_rounds: int
) -> TextTable:
    """Table of gains and predicted order by learner."""
    betas = _guarantees(shares)
    cells = {
        (row["learner"], row["beta"]): _cell(row["mean"], row["low"], row["high"], str(row["verdict"]))
        for row in gains.to_dict("records")
    }
    rows: list[tuple[str, ...]] = []
    for learner in dict.fromkeys(shares["learner"]):
        without = shares[(shares["learner"] == learner) & (shares["beta"] == 0)]
        rows.append(
            (
                str(learner),
                _mean_cell(without["share"]),
                cells.get((learner, 0.0), "–"),
                *(cells[learner, beta] for beta in betas),
                _mean_cell(without["never_shown"]),
                str(prediction.predicted[learner]),
                str(prediction.observed[learner]),
            )
        )
    words = tables.interval_words(len(worlds_of(shares)), "world")
    marked = gains.assign(equal=gains["verdict"] == EQUAL)
    return TextTable(
        f"Utility in percent of `{CEILING}`, {late_words(n_rounds)}: {words}{tables.legend(marked, 'world')}",
        (
            "learner",
            "no guarantee",
            f"minus {reference}",
            *(f"gain, β = {beta:g}" for beta in betas),
            "never shown, %",
            "predicted order",
            f"order at β = {prediction.beta:g}",
        ),
        tuple(rows),
    )


def _delivery_table(shares: pd.DataFrame, n_rounds: int) -> TextTable:
    """Table of unseen items and undelivered guarantees by learner."""
    betas = _guarantees(shares)
    columns = [("never_shown", beta) for beta in (0.0, *betas)] + [("undelivered", beta) for beta in betas]
    arms = dict(list(shares.groupby(["learner", "beta"])))
    rows = [
        (str(learner), *(_mean_cell(arms[learner, beta][column]) for column, beta in columns))
        for learner in dict.fromkeys(shares["learner"])
    ]
    worlds = tables.interval_words(len(worlds_of(shares)), "world")
    return TextTable(
        f"Percent of items never shown in {many(n_rounds, 'round')}, and percent of the guarantee undelivered "
        f"({late_words(n_rounds)}): {worlds}",
        ("learner", *(f"{column.replace('_', ' ')}, β = {beta:g}" for column, beta in columns)),
        tuple(rows),
    )


def _guarantees(shares: pd.DataFrame) -> list[float]:
    """Guaranteed shares above 0 in ascending order."""
    return sorted(float(beta) for beta in shares["beta"].unique() if beta > 0)


def _cell(mean: float, low: float, high: float, verdict: str) -> str:
    """Points with half their interval, and the verdict's mark."""
    if verdict == EQUAL:
        return f"{tables.signed(_POINTS * mean, 1)}{tables.SAME}"
    interval = "" if math.isnan(low) else f" ±{tables.signed(_POINTS * (high - low) / 2, 1)}"
    return f"{tables.signed(_POINTS * mean, 1)}{interval}{'*' * (verdict in (GAIN, COST))}"


def _mean_cell(values: pd.Series[float]) -> str:
    """Mean over worlds in percent, with half its interval."""
    interval = mean_interval(values)
    mean = float("nan") if interval.mean is None else interval.mean
    low = float("nan") if interval.low is None else interval.low
    high = float("nan") if interval.high is None else interval.high
    return _cell(mean, low, high, EQUAL if interval.equal else NOT_SIGNIFICANT)


_NAMED = 2  # most learners that a title names


def title(gains: pd.DataFrame) -> str:
    """Finding of the map, as the adjusted tests support it."""
    guarantees = of_guarantees(gains)
    n_learners = guarantees["learner"].nunique()
    parts: list[str] = []
    for verdict, verb in ((GAIN, "gains utility"), (COST, "costs utility")):
        rows = guarantees[guarantees["verdict"] == verdict]
        names = [str(name) for name in dict.fromkeys(rows["learner"])]
        betas = rows["beta"].unique()
        learners = " and ".join(names) if len(names) <= _NAMED else f"{len(names)} of {n_learners} learners"
        guarantee = f" (β = {betas[0]:g})" if len(betas) == 1 else ""
        if names:
            parts.append(f"{verb} with {learners}{guarantee}")
    if guarantees["p"].isna().all():
        return "Gains of guarantees by learner, untested"
    doubt = tables.cannot_tell(int(guarantees["n"].max()), "world")
    if not parts and doubt is not None:
        return f"{doubt.capitalize()} if a guarantee has an effect, with any of {many(n_learners, 'learner')}"
    if not parts:
        return f"No guarantee differs significantly from none, with any of {many(n_learners, 'learner')}"
    return f"A guarantee {' and '.join(parts)}"


def map_figure(shares: pd.DataFrame, gains: pd.DataFrame, n_rounds: int) -> Figure:
    """Picture of gains: rows are learners, panels guarantees."""
    order = list(prediction_of(shares).predicted)
    betas = _guarantees(shares)
    n_panels = len(betas) + 1
    across = charts.columns(n_panels, 2.0)
    n_rows = -(-n_panels // across)
    tested = many(int(gains["p"].notna().sum()), "comparison")
    made = charts.frame(
        title(gains),
        f"β = 0: utility in percent of the agent {CEILING}, which knows the true item effects. Other β: gain over "
        f"the same learner at β = 0, in points. {late_words(n_rounds).capitalize()}, 95% intervals over "
        f"{many(len(worlds_of(shares)), 'paired world')}. Colours: Holm over {tested}. Rows are in the "
        "predicted order: the first learner leaves the largest share of items unseen.",
        (0.9 + 0.36 * len(order)) * n_rows + 0.5,
    )
    axes = list(made.subplots(n_rows, across, sharey=True, squeeze=False).ravel())
    for ax in axes[n_panels:]:
        ax.set_axis_off()
    _draw_shares(axes[0], shares, order)
    for ax, beta in zip(axes[1:n_panels], betas, strict=True):
        _draw_gains(ax, gains[gains["beta"] == beta], order)
        ax.set_title(f"β = {beta:g}", loc="left")
    _align(axes[1:n_panels])
    axes[0].set_yticks(range(len(order)), order)
    axes[0].set_ylim(len(order) - 0.5, -0.5)
    shown = (COST, NOT_SIGNIFICANT, GAIN)
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=8)
        for colour, marker in (_MARKS[verdict] for verdict in shown)
    ]
    made.legend(handles, shown, loc="outside lower center", ncols=len(shown))
    return made


def _draw_shares(ax: Axes, shares: pd.DataFrame, order: Sequence[str]) -> None:
    """Draw each learner's share of the ceiling without a guarantee."""
    without = shares[shares["beta"] == 0]
    for place, learner in enumerate(order):
        interval = mean_interval(_POINTS * without.loc[without["learner"] == learner, "share"])
        mean = float("nan") if interval.mean is None else interval.mean
        half = 0.0 if interval.low is None else interval.half
        ax.errorbar(mean, place, xerr=half, fmt="o", color=INK, capsize=3, markersize=6)
    ax.set_title("β = 0", loc="left")
    ax.set_xlabel("percent of the ceiling")


def _draw_gains(ax: Axes, gains: pd.DataFrame, order: Sequence[str]) -> None:
    """Draw gains of a guarantee, coloured by verdict."""
    ax.axvline(0.0, color=INK, linewidth=1.2)
    for row in gains.to_dict("records"):
        colour, marker = _MARKS[str(row["verdict"])]
        half = 0.0 if pd.isna(row["low"]) else _POINTS * (row["high"] - row["low"]) / 2
        place = order.index(str(row["learner"]))
        mean = _POINTS * row["mean"]
        ax.errorbar(mean, place, xerr=half, fmt=marker, color=colour, capsize=3, markersize=8, linewidth=2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0")
    ax.set_xlabel("gain, points")


def _align(axes: Sequence[Axes]) -> None:
    """Give all panels of gains the same horizontal axis."""
    limits = [ax.get_xlim() for ax in axes]
    for ax in axes:
        ax.set_xlim(min(low for low, _ in limits), max(high for _, high in limits))
