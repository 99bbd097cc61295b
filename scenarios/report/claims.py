"""Table of claims: which findings hold for which log."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from rimsim.measures import FIT, late_means, mean_interval, paired_difference, significant
from rimsim.scenarios.report import sentences
from rimsim.scenarios.report.console import more_place
from rimsim.scenarios.report.fitness import fitness_of
from rimsim.scenarios.report.record import Report, Section, TextTable
from rimsim.scenarios.runs import status
from rimsim.scenarios.runs.store import RunFolder

Scale = Literal["level", "points", "percent"]
"""Unit of a claim's figure. level: the share of one arm. points: the difference of two shares, times 100. percent: the
difference of two arms in percent of the second."""


@dataclass(frozen=True)
class Claim:
    """Finding that a comparison can confirm or contradict."""

    title: str
    metric: str
    arm: str
    """Name of the arm of the finding."""
    minus: str | None
    """Name of the arm that is subtracted; None: the figure is the metric of ``arm`` alone."""
    scale: Scale
    is_first_round: bool = False
    """True if the figure is that of round 0; False: it is the mean of the late rounds."""


CLAIMS = (
    Claim("retraining: coverage", "coverage", "relevance", "relevance-frozen", "points"),
    Claim("of this, selection", "coverage", "relevance-static", "relevance-random", "points"),
    Claim("of this, feedback", "coverage", "relevance", "relevance-static", "points"),
    Claim("retraining: utility", "utility", "relevance", "relevance-frozen", "percent"),
    Claim("undelivered by relevance", "examined_shortfall", "relevance", None, "level"),
    Claim("undelivered by one flat bonus", "examined_shortfall", "flat-budget", None, "level"),
    Claim("undelivered by prices that adapt", "examined_shortfall", "rim-feedback", None, "level"),
    Claim(
        "cost of the guarantee, round 0",
        "utility",
        "rim-feedback",
        "relevance",
        "percent",
        is_first_round=True,
    ),
    Claim("cost of the guarantee", "utility", "rim-feedback", "relevance", "percent"),
    Claim("prices over one flat bonus", "utility", "rim-feedback", "flat-budget", "percent"),
    Claim("guarantee: effective items", "effective_items", "rim-feedback", "relevance", "percent"),
    Claim("bestsellers over the guarantee", "utility", "popularity", "rim-feedback", "percent"),
    Claim(
        "model over bestsellers, round 0",
        "utility",
        "relevance",
        "popularity",
        "percent",
        is_first_round=True,
    ),
    Claim("model over bestsellers", "utility", "relevance", "popularity", "percent"),
    Claim("model over own items, round 0", "utility", "relevance", "own", "percent", is_first_round=True),
    Claim(
        "model over recent items, round 0", "utility", "relevance", "recent", "percent", is_first_round=True
    ),
)
"""Findings of the README, each with the trivial rule that it has to beat."""


def claims_of(run: RunFolder) -> pd.DataFrame:
    """Figures of the claims in a comparison.

    Differences are paired by seed. A difference is significant at 5% by Holm's method over all differences of the
    comparison.

    Returns:
        Table with columns claim, scale, mean, low, high, n, p and sign. The figures are in the unit of the claim. sign
        is −1, 0 (not significant) or 1; levels have no p and the sign 0. A claim whose arms were not played is absent.
    """
    rounds = status.shown_rounds(run)
    late = late_means(rounds)
    first = rounds[rounds["round"] == 0]
    rows = []
    for claim in CLAIMS:
        values = first if claim.is_first_round else late
        wide = values[values["metric"] == claim.metric].pivot(index="seed", columns="agent", values="value")
        names = [claim.arm] if claim.minus is None else [claim.arm, claim.minus]
        if set(names) <= set(wide.columns):
            rows.append((claim.title, claim.scale, *_figures(claim, wide[names].dropna())))
    table = pd.DataFrame(rows, columns=["claim", "scale", "mean", "low", "high", "n", "p"])
    table = table.astype(dict.fromkeys(("mean", "low", "high", "p"), float))
    signs = np.where(significant(table["p"].to_numpy()), np.sign(table["mean"].to_numpy()), 0)
    return table.assign(sign=signs.astype(np.int64))


def _figures(
    claim: Claim, arms: pd.DataFrame
) -> tuple[float | None, float | None, float | None, int, float | None]:
    """Mean, interval, number of seeds and p."""
    arm = arms[claim.arm].to_numpy(np.float64)
    if claim.minus is None:
        level = mean_interval(100 * arm)
        return level.mean, level.low, level.high, level.n, None
    minus = arms[claim.minus].to_numpy(np.float64)
    # The percentage is of the mean over seeds, so that a seed with a small denominator does not weigh most.
    unit = 100.0 if claim.scale == "points" else 100.0 / minus.mean()
    difference = paired_difference(unit * arm, unit * minus)
    return difference.mean, difference.low, difference.high, difference.n, difference.p


def claims_table(runs: Sequence[RunFolder]) -> TextTable:
    """Claims by row, and logs by column.

    A log whose truth is not fit has blank cells, because such a truth cannot compare recommenders.
    """
    labels = _labels(runs)
    columns = [_cells(run) for run in runs]
    verdicts = tuple(_verdict(run) for run in runs)
    rows = [("truth", *verdicts)]
    rows += [(claim.title, *(cells.get(claim.title, "") for cells in columns)) for claim in CLAIMS]
    return TextTable(
        "Which claims hold (± half a 95% interval; * not 0 by Holm's method over the column)",
        ("claim", *labels),
        tuple(rows),
    )


def _labels(runs: Sequence[RunFolder]) -> list[str]:
    """Name of each run's log, distinguished by its folder."""
    names = [run.scenario.data.source.rstrip("/").rpartition("/")[2] for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} ({run.folder})"
        for name, run in zip(names, runs, strict=True)
    ]


def _verdict(run: RunFolder) -> str:
    """Name of a run's truth, and the verdict on it."""
    verdict = fitness_of(run)
    return "not judged" if verdict is None else f"{verdict.truth}: {verdict.verdict}"


def _cells(run: RunFolder) -> dict[str, str]:
    """Figures of claims as text; none without a fit truth."""
    verdict = fitness_of(run)
    if verdict is not None and verdict.verdict != FIT:
        return {}
    return {row["claim"]: _cell(row) for row in claims_of(run).to_dict("records")}


def _cell(row: Mapping[Hashable, Any]) -> str:
    """Mean and half interval of a claim, with its unit."""
    unit = " points" if row["scale"] == "points" else "%"
    sign = "" if row["scale"] == "level" else "+"
    star = "*" if row["sign"] else ""
    half = "" if np.isnan(row["high"]) else f" ±{(row['high'] - row['low']) / 2:.1f}"
    return f"{format(row['mean'], sign + '.1f').replace('-', '−')}{half}{unit}{star}"


def claims_report(runs: Sequence[RunFolder]) -> Report:
    """Report of the claims in one or several comparisons."""
    table = claims_table(runs)
    claims = claims_of(runs[0])
    n_signs = int((claims["sign"] != 0).sum())
    n_differences = int((claims["scale"] != "level").sum())
    answer = f"{n_signs} of {n_differences} differences are significant on {table.columns[1]}."
    return Report(
        question="Which findings hold for this log?",
        answer=(answer,),
        cautions=tuple(sentences.notes_of(runs)),
        setting=tuple(sentences.log_fact(run, run.scenario.data.source) for run in runs),
        sections=(Section("Claims", tables=(table,)),),
        places=partial(_places, runs[0]),
    )


def _places(run: RunFolder) -> list[tuple[str, str]]:
    """Names and paths of the files of the newest run."""
    return [("table", f"{run.folder}/claims.parquet"), more_place(run.folder)]
