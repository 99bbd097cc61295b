"""The page of a validation: whether one may believe the market on a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.scenarios.page.chart import Axis, Chart, Curve
from rimsim.scenarios.page.content import Page, Section
from rimsim.scenarios.page.settings import as_yaml, log_fact
from rimsim.scenarios.pictures.looks import styles
from rimsim.scenarios.pictures.messages import many
from rimsim.scenarios.validating.evidence import ORACLE
from rimsim.scenarios.validating.rates import rate_curves
from rimsim.scenarios.validating.results import concluded, result_tables
from rimsim.scenarios.validating.tables import figures_of

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.scenarios.pictures.looks import AgentStyle
    from rimsim.scenarios.runs.store import Run
    from rimsim.scenarios.validating.run import Validation


def validation_page(validation: Validation, run: Run) -> Page:
    """The page of a validation.

    Args:
        validation: The validation.
        run: Its run folder.
    """
    found = concluded(validation)
    config = validation.config
    text = (
        "Precision of recommended items at users' held-out later sessions against expected consumptions of the same "
        "slates under a truth; bars: 95 % intervals over users. Up and to the right together: the truth agrees."
    )
    rates = _rates(validation.table)
    sections = (
        Section(
            "Real and simulated worth of models", text, _worth(validation.intervals, validation.agreement)
        ),
        Section("Expected and logged events", "Each point is a tenth of the log's sessions, by λ.", rates),
        Section("All figures", tables=tuple(result_tables(validation))),
    )
    return Page(
        question="May one believe the market on this log?",
        setting=(
            log_fact(run, str(config.data.source)),
            many(config.draws, "draw"),
            many(len(config.models), "model"),
            f"slates of {config.slate}",
        ),
        answer=found.may,
        cautions=found.may_not,
        sections=sections,
        settings=as_yaml(run.config["validate"]),
    )


def _worth(intervals: pd.DataFrame, agreement: pd.DataFrame) -> tuple[Chart, ...]:
    """A chart a truth."""
    real = intervals[(intervals["truth"] == "") & (intervals["metric"] == "precision")].set_index("model")
    figures = figures_of(agreement)
    looks = styles(real.index)
    charts = []
    for truth in figures:
        worth = intervals[(intervals["truth"] == truth) & (intervals["model"] != ORACLE)].set_index("model")
        curves = tuple(_point(name, look, real, worth) for name, look in looks.items() if name in worth.index)
        marks = (", chosen" if figures[truth]["chosen"] else "") + (
            ", unfit" if figures[truth]["unfit"] else ""
        )
        across = Axis("real: precision", share=True, zero=True)
        up = Axis("simulated: utility (consumptions a slate)", zero=True)
        if curves:
            charts.append(Chart(f"Truth {truth}{marks}", across, up, curves))
    return tuple(charts)


def _point(name: str, look: AgentStyle, real: pd.DataFrame, worth: pd.DataFrame) -> Curve:
    parts = [table.loc[[name], ["mean", "low", "high"]].to_numpy(np.float64)[0] for table in (real, worth)]
    (x, x_low, x_high), (y, low, high) = ([(float(end),) for end in part] for part in parts)
    return Curve(name, look.colour, look.marker, x, y, low, high, x_low, x_high, line=False)


def _rates(table: pd.DataFrame) -> tuple[Chart, ...]:
    curves = []
    found = rate_curves(table)
    for name, look in styles(found).items():
        tenths = [number for number in range(1, 11) if f"rate_predicted_{number}" in found[name]]
        x, y = (
            tuple(float(found[name][f"rate_{what}_{number}"]) for number in tenths)
            for what in ("predicted", "realised")
        )
        if tenths and min(*x, *y) > 0:
            curves.append(Curve(name, look.colour, look.marker, x, y))
    if not curves:
        return ()
    across, up = Axis("expected events a session, λ", scale="log"), Axis("events that came", scale="log")
    return (Chart("λ by tenth of sessions", across, up, tuple(curves), diagonal=True),)
