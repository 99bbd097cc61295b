"""``rimsim sweep`` and what ``rimsim report`` does with its folders."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rimsim.config import ScenarioConfig, override
from rimsim.errors import ConfigError
from rimsim.scenarios.cli.parsing import read_value
from rimsim.scenarios.store.points import BETA

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    import pandas as pd
    from rich.console import Console

    from rimsim.scenarios.store.run_folder import Run

__all__ = ["parsed_grid", "print_sweep", "report"]

_SHOWN = ("utility", "precision", "perplexity", "coverage", "shortfall", "gap")
"""Metrics of the table."""


def parsed_grid(pairs: Sequence[str], betas: str | None) -> dict[str, list[object]]:
    """The grid that options say.

    Args:
        pairs: ``FIELD=VALUE,VALUE,…`` as given to ``--grid``.
        betas: ``VALUE,VALUE,…`` as given to ``--beta``.

    Raises:
        ConfigError: If one has no field, no value, or a field that another has, or if a β is none.
    """
    grid: dict[str, list[object]] = {}
    for text in [*pairs, *([] if betas is None else [f"{BETA}={betas}"])]:
        field, equals, values = text.partition("=")
        field = field.strip()
        parts = [part for part in values.split(",") if part.strip()]
        if not equals or not field or not parts or field in grid:
            option = "--beta or --grid" if field == BETA else "--grid"
            raise ConfigError(
                f"{option}: {text!r}; allowed: FIELD=VALUE,VALUE,… once a field, such as exposure.cost=1,2,4"
            )
        grid[field] = [read_value(part, f"--grid: {field}") for part in parts]
    if betas is not None:
        for beta in grid[BETA]:
            override(ScenarioConfig(), {BETA: beta}, origin="--beta")
    return grid


def _titled(run: Run) -> tuple[str, pd.DataFrame]:
    """Title and rows of the table of a sweep: an agent at a point a row."""
    from rimsim.scenarios.pictures.front import front_table, swept_fields  # noqa: PLC0415  # loads only for work
    from rimsim.scenarios.report.results import spread  # noqa: PLC0415
    from rimsim.scenarios.study.sweep_table import sweep_table  # noqa: PLC0415

    table = sweep_table(run)
    fields = swept_fields(table)
    own = (measure.name for measure in run.own_measures.values())
    means = front_table(table, fields, (*_SHOWN, *own))
    points = [" ".join(f"{n}={v}" for n, v in row.items()) for row in means[fields].to_dict("records")]
    labelled = means.assign(agent=[f"{name} {at}" for name, at in zip(means["agent"], points, strict=True)])
    return f"{run.scenario.name}: means over the late rounds, {spread(len(run.seeds))}", labelled


def print_sweep(run: Run, console: Console) -> None:
    """Print the table of a sweep and say where everything is.

    Raises:
        RunFolderError: If no arm is complete.
    """
    from rimsim.scenarios.pictures.front import not_drawn  # noqa: PLC0415
    from rimsim.scenarios.report.results import on_few_seeds, results_table  # noqa: PLC0415  # loads only for work
    from rimsim.scenarios.store.points import runs_of  # noqa: PLC0415
    from rimsim.scenarios.study.status import status_note, status_of  # noqa: PLC0415
    from rimsim.scenarios.study.sweep_table import sweep_table  # noqa: PLC0415

    title, table = _titled(run)
    console.print()
    console.print(results_table(table, title))
    statuses = [status_of(point_run) for _, point_run in runs_of(run)]
    unfinished = status_note(statuses, run.folder, "sweep")
    for note in (on_few_seeds(len(run.seeds)), unfinished):
        if note is not None:
            console.print(note, soft_wrap=True, highlight=False)
    why_not = "some arms are missing" if unfinished else not_drawn(sweep_table(run))
    for name, where in (
        ("table", f"{run.folder}/sweep.parquet" if unfinished is None else "none: some arms are missing"),
        ("pictures", f"{run.folder}/pictures/ (front.png)" if why_not is None else f"none: {why_not}"),
        ("points", f"{run.folder}/points/"),
        ("events", f"tensorboard --logdir {run.folder}/points"),
    ):
        console.print(f"{name:10} {where}", soft_wrap=True, highlight=False)


def report(options: argparse.Namespace, run: Run, console: Console) -> None:
    """Print the table of a sweep again and draw its picture again, or print the table as Markdown.

    Args:
        options: ``markdown``.
        run: The sweep.
        console: Where to.
    """
    from rimsim.scenarios.pictures.front import draw_sweep  # noqa: PLC0415
    from rimsim.scenarios.report.results import to_markdown  # noqa: PLC0415  # loads only for work

    if options.markdown:
        title, table = _titled(run)
        sys.stdout.write(f"**{title}**\n\n{to_markdown(table)}")
    else:
        if (run.folder / "sweep.parquet").is_file():
            draw_sweep(run)
        print_sweep(run, console)
