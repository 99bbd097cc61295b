"""Write the tables of benchmarks/log/findings.md: ``python benchmarks/findings.py [NAME…] [--out FOLDER]``.

It takes some CPU hours. Each table is in the page between two marks, ``<!-- NAME -->`` and ``<!-- /NAME -->``, below
the command that made it. The command runs in a folder of its own; a run that is complete there is only read.
"""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from figures import LOG, head
from kept_runs import finished

from rimsim.scenarios.report import comparison, sweep
from rimsim.scenarios.report.console import markdown
from rimsim.scenarios.report.sweep import Contrast, matrix, matrix_table
from rimsim.scenarios.report.tables import over_seeds, pivoted
from rimsim.scenarios.runs.status import control_name, is_control, runs_of, shown_rounds

if TYPE_CHECKING:
    from rimsim.scenarios import Run

PAGE = LOG / "findings.md"
_HALF = "--set arrivals.per_round=1000 --set platform.log_window.size=1500"
_CELLS = (
    f"{_HALF} --set consumer.truth_seed=seed --grid consumer.truth=factors,bag "
    "--grid platform.model=bag-visits,ease-visits,als-hp,gru-hp --no-certificate"
)
COMMANDS = {
    "closed-loop": "rimsim compare closed-loop --seeds 5 --agents relevance,rim-dual,rim-feedback,epsilon-greedy,"
    "popularity,random,oracle --frozen relevance,rim-feedback",
    "closed-loop-full-log": "rimsim compare closed-loop-full-log --agents relevance --seeds 5",
    "cold-start": "rimsim compare cold-start --agents relevance,rim-feedback,random --frozen none --seeds 5",
    "online-match": "rimsim compare online-match --seeds 5 --frozen none",
    "offline-match": "rimsim compare offline-match --seeds 5",
    "user-rec": "rimsim compare user-rec --seeds 5",
    "matrix": "rimsim sweep cold-start --agents relevance,rim-feedback,rim-dual,epsilon-greedy,popularity --seeds 5 "
    f"--control frozen,random {_CELLS}",
    "thirty-rounds": "rimsim sweep cold-start --rounds 30 --agents relevance,rim-feedback --seeds 3 "
    f"--frozen relevance,rim-feedback --control random {_CELLS}",
    "learning": "rimsim sweep closed-loop --agents relevance,epsilon-greedy,entropic-dual,rim-feedback --seeds 3 "
    f"--frozen relevance,epsilon-greedy,entropic-dual,rim-feedback --control random {_HALF} "
    "--grid platform.learning=consumed,impressions,ips --grid platform.log_window.rounds=3,null --no-certificate",
}
"""Name of a table → the command that makes it."""
_WINDOWS = {"4–7": (4, 7), "22–29": (22, 29)}
"""The late rounds of a run of eight, and the last eight of thirty."""
_COURSES = (
    ("guarantee: utility", "utility", "rim-feedback", "relevance"),
    ("loop of `rim-feedback`: utility", "utility", "rim-feedback", "rim-feedback-random"),
    ("loop of `relevance`: utility", "utility", "relevance", "relevance-random"),
    ("loop of `relevance`: coverage", "coverage", "relevance", "relevance-random"),
)
"""What is told of thirty rounds: title, metric, and the arms whose difference it is."""


def run_of(name: str, out: Path) -> Run:
    """The run behind one of :data:`COMMANDS`, which lies under its name in a folder."""
    return finished(out / name, shlex.split(COMMANDS[name])[1:])


def table(name: str, out: Path) -> str:
    """Markdown of a table below its line of commit, date, machine, version and command."""
    run = run_of(name, out)
    if name == "matrix":
        made = sweep.result_tables(run, sweep.sweep_table(run))[0].markdown()
    elif name == "learning":
        made = loops(run)
    elif name == "thirty-rounds":
        made = by_round(run)
    else:
        made = markdown(comparison.result_tables(run))
    return f"{head(COMMANDS[name])}\n\n{made.strip()}\n"


def loops(run: Run) -> str:
    """A row a way of learning and an agent: what its loop does, against its control under random slates, and its level.

    Args:
        run: A sweep whose agents all have the control ``random``.
    """
    table = sweep.sweep_table(run)
    fields = sweep.swept_fields(table)
    agents = [name for name in table["agent"].unique() if not is_control(name)]
    wanted = [
        Contrast(f"{agent}/{metric}", metric, agent, control_name(agent, "random"))
        for agent in agents
        for metric in ("coverage", "effective_items", "utility")
    ]
    parts = matrix(table, fields, run.scenario.exposure.unit, wanted)
    parts = parts.assign(metric="loop: " + parts["metric"].str.replace("_", " "))
    levels = over_seeds(
        table[table["agent"].isin(agents)], ["agent", *fields], ("utility", "examined_shortfall")
    )
    both = pd.concat([parts, levels])
    for field in fields:
        both[field] = [
            "all" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else value
            for value in both[field]
        ]
    columns = [*dict.fromkeys(parts["metric"]), "utility", "examined_shortfall"]
    short = [field.rpartition(".")[2] for field in fields]
    both = both.rename(columns=dict(zip(fields, short, strict=True)))
    return pivoted("Means of late rounds", both, [*short, "agent"], columns).markdown()


def by_round(run: Run) -> str:
    """A row a cell: what the guarantee costs and what the loop takes, at first and in the end.

    Args:
        run: A sweep of ``relevance`` and ``rim-feedback`` with the control ``random``.
    """
    parts = []
    for point, played in runs_of(run):
        rounds = shown_rounds(played)
        for window, (first, last) in _WINDOWS.items():
            within = rounds[rounds["round"].between(first, last)]
            means = within.groupby(["agent", "seed", "metric"], observed=True)["value"].mean().reset_index()
            parts.append(
                means.assign(metric=means["metric"].astype(str) + f" {window}", **dict(point.labels))
            )
    table = pd.concat(parts, ignore_index=True)
    wanted = [
        Contrast(f"{title}, {window}", f"{metric} {window}", more, less)
        for title, metric, more, less in _COURSES
        for window in _WINDOWS
    ]
    fields = sweep.swept_fields(table)
    found = matrix(table, fields, run.scenario.exposure.unit, wanted)
    title = f"Means of rounds, {len(run.seeds)} seeds, ± half a 95 % interval"
    return matrix_table(found, fields, title).markdown()


def replaced(page: str, name: str, made: str) -> str:
    """The page with what stands between the marks of a table replaced."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{PAGE}: has no marks {begin} … {end}")
    return pattern.sub(lambda _: f"{begin}\n{made}{end}", page)


def main() -> None:
    """Make the tables that are asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"Some of {', '.join(COMMANDS)}.")
    parser.add_argument("--out", type=Path, default=Path("runs/findings"), help="Where the runs lie.")
    asked = parser.parse_args()
    for name in asked.names or COMMANDS:
        made = table(name, asked.out)
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), name, made), encoding="utf-8")


if __name__ == "__main__":
    main()
