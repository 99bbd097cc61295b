"""Report of an experiment: bias of its designs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rimsim.errors import many
from rimsim.scenarios.kinds import results
from rimsim.scenarios.kinds.experiment.effects import LABELS, MARGIN, METRICS, summary
from rimsim.scenarios.report.console import picture_places
from rimsim.scenarios.report.record import Plot, Report, Section, TextTable
from rimsim.scenarios.report.sentences import as_yaml
from rimsim.scenarios.report.tables import the_same
from rimsim.scenarios.runs.store import RunFolder


def experiment_report(run: RunFolder) -> Report:
    """Report of an experiment."""
    control, treatment = map(str, run.config["experiment"]["agents"])
    agents = (control, treatment)
    config = run.scenario
    design_estimates = summary(run.experiment)
    return Report(
        question=f"What does `{agents[1]}` bring beside `{agents[0]}`, and would an experiment on one market have "
        "found it?",
        setting=(
            config.name,
            many(config.rounds, "round"),
            many(len(run.seeds), "seed"),
            f"slates of {config.slate}",
        ),
        answer=tuple(_sentences(design_estimates)),
        sections=(
            Section(
                "Naive estimates and total effects",
                plots=(Plot("experiment", partial(_designs_against_total, design_estimates, agents)),),
                tables=tuple(
                    _table(metric, design_estimates[design_estimates["metric"] == metric], agents)
                    for metric in METRICS
                ),
            ),
        ),
        settings=as_yaml(run.config["scenario"]),
        places=partial(picture_places, run.folder),
    )


def _sentences(design_estimates: pd.DataFrame) -> list[str]:
    """Sentences on the bias of designs, by metric.

    A bias is claimed by Holm's method over all designs and metrics. Its absence is claimed only if its interval is
    within the margin.
    """
    tested = design_estimates[design_estimates["seeds"] > 1]
    is_biased = tested["significant"]
    is_unbiased = ~is_biased & tested["within"]
    groups = (
        (tested[is_biased], "biased beyond chance over these seeds"),
        (
            tested[is_unbiased],
            f"no bias found: it is within {MARGIN:.0%} of the total effect (two one-sided tests at 5%)",
        ),
        (
            tested[~is_biased & ~is_unbiased],
            f"these seeds cannot tell if there is a bias of {MARGIN:.0%} of the total effect or more",
        ),
    )
    lines = []
    for metric, (rows, words) in product(METRICS, groups):
        labels = [_design_words(row) for row in rows[rows["metric"] == metric].to_dict("records")]
        if labels:
            lines.append(f"{metric}: {words}: {'; '.join(labels)}.")
    remark = (
        "fewer than two seeds have an estimate, which cannot separate bias from chance. Use --seeds 2 or more"
    )
    return lines or [f"{remark}, and in a switchback a shorter --interval"]


def _design_words(row: Mapping[Hashable, Any]) -> str:
    """Design and its bias in percent of the effect."""
    name = f"{row['design']} ({row['training']} training, {row['prices']} prices)"
    if np.isnan(row["relative"]):
        return f"{name}, whose total effect does not differ from 0"
    half = row["relative_half"]
    spread = the_same(row["seeds"]) if np.isnan(half) else f"95% CI ±{half:.0%}"
    return f"{name}, bias {row['relative']:+.0%} of the total effect ({spread})".replace("-", "−")


def _table(metric: str, design_estimates: pd.DataFrame, agents: tuple[str, str]) -> TextTable:
    """Table of a metric, a row per design."""
    title = (
        f"{agents[1]} − {agents[0]}: {metric} ({METRICS[metric]}); "
        f"{many(int(design_estimates['seeds'].iloc[0]), 'seed')}, ± half a 95% interval"
    )
    columns = {
        "naive": ("naive", "+.4f"),
        "± within a seed": ("around", ".4f"),
        "total effect": ("total_effect", "+.4f"),
        "bias": ("bias", "+.4f"),
        "bias / effect": ("relative", "+.0%"),
        "effect in interval": ("coverage", ".1%"),
        "power": ("power", ".1%"),
        "right sign": ("sign", ".1%"),
    }
    return results.bias_table(title, design_estimates, "design, training, prices", LABELS, columns)


def _designs_against_total(design_estimates: pd.DataFrame, agents: tuple[str, str]) -> Figure:
    """Plot of designs' naive estimates against the total effect."""
    panels = []
    for metric in METRICS:
        rows = design_estimates[design_estimates["metric"] == metric]
        labels = [", ".join(row) for row in rows[list(LABELS)].to_numpy().tolist()]
        # A panel has one line of the total effect. Designs differ in it only if an estimate is missing at some seed.
        total_effect = float(rows["total_effect"].mean())
        panel = results.Panel(
            title=metric.replace("_", " "),
            labels=labels,
            value=rows["naive"],
            width=rows["width"],
            truth=total_effect,
            reference=0.0,
        )
        panels.append(panel)
    return results.interval_panels(
        f"What {agents[1]} brings beside {agents[0]}: experiments on one market against two whole worlds",
        f"Dots: mean naive estimates over {int(design_estimates['seeds'].iloc[0])} seeds; bars: their mean 95% "
        "intervals. Solid line: total effect. Dotted line: no effect.",
        panels,
    )
