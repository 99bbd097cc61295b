"""Write the tables of benchmarks/log/findings.md: ``python benchmarks/findings.py [NAME…] [--out FOLDER]``.

It takes some CPU hours. Each table is in the page between two marks, ``<!-- NAME -->`` and ``<!-- /NAME -->``, below
the command that made it. The command runs in a folder of its own; a run that is complete there is only read.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from kept_runs import finished
from log_pages import LOG, head, replace_table

from rimsim.scenarios.report import comparison, sweep
from rimsim.scenarios.report.console import markdown
from rimsim.scenarios.report.record import TextTable
from rimsim.scenarios.report.sweep import Contrast, matrix, matrix_table

if TYPE_CHECKING:
    from rimsim.scenarios import Run

PAGE = LOG / "findings.md"
_PRICES = "--agents rim-feedback,rim-dual,flat-budget --frozen none --seeds 3 --no-certificate"
_CELLS = (
    "rimsim sweep closed-loop --agents relevance,rim-feedback,rim-ucb,popularity --frozen relevance "
    "--control frozen,static,random --seeds 3 --no-certificate --set arrivals.per_round=1000 "
    "--set platform.log_window.size=1500"
)
COMMANDS = {
    "closed-loop": "rimsim compare closed-loop --seeds 5 --agents relevance,rim-dual,rim-feedback,flat-budget,rim-ucb,"
    "epsilon-greedy,popularity,random,informed,state-oracle,oracle --frozen relevance,rim-feedback --no-certificate",
    "platforms": f"{_CELLS} --grid platform.model=bag-visits,ease-visits,factors-visits,als-visits",
    "truths": f"{_CELLS} --set consumer.hidden.seed=seed --grid consumer.truth=factors,bag,ease "
    "--grid consumer.hidden.rho=1,0.5,0",
    "windows": f"{_CELLS} --grid platform.log_window.rounds=3,null --grid platform.log_window.warmup=top-up,all",
    "own-choice": "rimsim sweep closed-loop --agents relevance --frozen relevance "
    "--control frozen,organic,random,static --seeds 3 --no-certificate --set arrivals.per_round=1000 "
    "--set platform.log_window.size=1500 --grid consumer.own_choice=0,0.25,0.5,0.75",
    "prices-loop": f"rimsim sweep closed-loop {_PRICES} --set arrivals.per_round=1000 --beta 0.1,0.5,0.9",
    "prices-replay": f"rimsim sweep online-match {_PRICES} --beta 0.1,0.5,0.9",
    "prices-cost": f"rimsim sweep closed-loop {_PRICES} --set arrivals.per_round=1000 --grid exposure.cost=0.5,1,4",
    "prices-visitors": f"rimsim sweep closed-loop {_PRICES} --set arrivals.per_round=1000 "
    "--grid platform.model=bag-visits,bag",
    "prices-bonus": 'rimsim compare closed-loop --agents "rim-feedback,rim-dual,rim-dual(spend=False),flat-budget,'
    'flat-budget(bonus=0.5),flat-budget(bonus=0.7),flat-budget(bonus=1)" --frozen none --seeds 3 '
    "--no-certificate --set arrivals.per_round=1000",
    "prices-groups": f"rimsim sweep closed-loop {_PRICES} --set arrivals.per_round=1000 "
    "--guarantee genres=0.5,0.9",
}
"""Name of a table → the command that makes it."""
CELLS = ("platforms", "truths", "windows")
"""Sweeps that together are the table of claims: one axis at a time, or two, moves from the default market."""
WANTED = [
    Contrast("retraining: coverage", "coverage", "relevance", "relevance-frozen"),
    Contrast("retraining: utility", "utility", "relevance", "relevance-frozen"),
    Contrast("selection: coverage", "coverage", "relevance-static", "relevance-random"),
    Contrast("feedback: coverage", "coverage", "relevance", "relevance-static"),
    Contrast("feedback: utility", "utility", "relevance", "relevance-static"),
    Contrast("guarantee: undelivered", "examined_shortfall", "rim-feedback", "relevance"),
    Contrast("guarantee: utility", "utility", "rim-feedback", "relevance"),
    Contrast("guarantee: effective items", "effective_items", "rim-feedback", "relevance"),
    Contrast("bestsellers over guarantee: utility", "utility", "popularity", "rim-feedback"),
    Contrast("exploration beside prices: utility", "utility", "rim-ucb", "rim-feedback"),
]
"""Differences of the table of claims."""
PRICES = ("prices-loop", "prices-replay", "prices-cost", "prices-visitors", "prices-groups")
"""Sweeps that ask where prices do more than one flat bonus that ends at the floor."""
BONUSES = [
    Contrast(f"{agent} − flat-budget: {title}", metric, agent, "flat-budget")
    for agent in ("rim-feedback", "rim-dual")
    for title, metric in (("undelivered", "examined_shortfall"), ("utility", "utility"), ("return", "return"))
]
"""Differences of agents with prices from the agent with one bonus."""
PARTS = [
    Contrast(f"{part}: {metric.replace('_', ' ')}", metric, f"relevance{arm}", f"relevance-{minus}")
    for metric in ("coverage", "utility", "effective_items")
    for part, arm, minus in (
        ("retraining", "-organic", "frozen"),
        ("data", "-random", "organic"),
        ("selection", "-static", "random"),
        ("feedback", "", "static"),
        ("all", "", "frozen"),
    )
]
"""The four parts of retraining, and their sum."""


CONTRASTS = dict.fromkeys(CELLS, WANTED) | dict.fromkeys(PRICES, BONUSES) | {"own-choice": PARTS}
"""Name of a sweep → the differences in its table."""
UNDELIVERED = {"examined_shortfall": "undelivered", "utility": "utility"}
"""Levels before the differences of agents with prices."""
BY_ORIGIN = {
    "organic_consumptions": "chosen freely",
    "consumptions": "from slates",
    "coverage": "coverage",
    "calibration_ratio": "predicted / actual",
}
"""Levels before the parts of retraining with free choice."""
SHOWN = dict.fromkeys(
    PRICES, ("rim-feedback − flat-budget: undelivered", "rim-feedback − flat-budget: utility")
) | {
    "own-choice": tuple(
        f"{part}: coverage" for part in ("retraining", "data", "selection", "feedback", "all")
    )
}
"""Name of a sweep → the differences that its finding needs; Holm's method counts the others, too."""
N_TABLES = {"closed-loop": 1, "prices-bonus": 2}
"""Name of a comparison → how many of its tables its finding needs."""


def run_of(name: str, out: Path) -> Run:
    """The run behind one of :data:`COMMANDS`, which lies under its name in a folder."""
    return finished(out / name, shlex.split(COMMANDS[name])[1:])


def claims(run: Run, contrasts: Sequence[Contrast] = WANTED) -> pd.DataFrame:
    """Differences of a table, by cell."""
    swept = sweep.sweep_table(run)
    return matrix(swept, sweep.swept_fields(swept), run.scenario.exposure.unit, contrasts)


def levels(run: Run, names: Mapping[str, str], agents: Sequence[str] | None = None) -> TextTable:
    """Means of metrics of each agent, by cell.

    Args:
        names: Title of each metric.
        agents: Agents to show; None: all.
    """
    swept = sweep.sweep_table(run)
    fields = sweep.swept_fields(swept)
    shown = swept[swept["metric"].isin(list(names))]
    if agents is not None:
        shown = shown[shown["agent"].isin(agents)]
    means = shown.groupby([*fields, "metric", "agent"], sort=False, observed=True)["value"].mean()
    # Without free choice, no consumption is organic, and there is no row that says so.
    wide = means.unstack(["metric", "agent"]).fillna(0.0)
    columns = (", ".join(fields), *(f"{names[metric]}: {agent}" for metric, agent in wide.columns))
    rows = tuple(
        (
            ", ".join(map(str, point if isinstance(point, tuple) else (point,))),
            *(f"{value:.3f}" for value in row),
        )
        for point, row in zip(wide.index, wide.to_numpy(), strict=True)
    )
    return TextTable("Means over late rounds and seeds", columns, rows)


def joined(means: TextTable, differences: TextTable, shown: Sequence[str]) -> TextTable:
    """Means and some differences of each point, in one table."""
    places = [differences.columns.index(name) for name in shown]
    means_of = {row[0]: row[1:] for row in means.rows}
    absent = ("",) * (len(means.columns) - 1)
    rows = tuple(
        (row[0], *means_of.get(row[0], absent), *(row[place] for place in places)) for row in differences.rows
    )
    columns = (differences.columns[0], *means.columns[1:], *shown)
    return TextTable(f"Means, then differences. {differences.title}", columns, rows)


def table(name: str, out: Path) -> str:
    """Markdown of a table below its line of commit, date, machine, version and command."""
    run = run_of(name, out)
    if name in CONTRASTS:
        fields = sweep.swept_fields(sweep.sweep_table(run))
        shown = matrix_table(claims(run, CONTRASTS[name]), fields, "Late rounds, ± half a 95% interval")
        if name in PRICES:
            shown = joined(levels(run, UNDELIVERED, ["rim-feedback", "flat-budget"]), shown, SHOWN[name])
        if name == "own-choice":
            shown = joined(levels(run, BY_ORIGIN, ["relevance"]), shown, SHOWN[name])
        made = markdown([shown])
    else:
        made = markdown(comparison.result_tables(run)[: N_TABLES[name]])
    return f"{head(COMMANDS[name])}\n\n{made.strip()}\n"


def main() -> None:
    """Make the tables that are asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"Some of {', '.join(COMMANDS)}.")
    parser.add_argument("--out", type=Path, default=Path("runs/findings"), help="Where the runs lie.")
    asked = parser.parse_args()
    for name in asked.names or COMMANDS:
        replace_table(PAGE, name, table(name, asked.out))


if __name__ == "__main__":
    main()
