"""Reference scores of all agents by scenario: ``python benchmarks/leaderboard.py [--out FOLDER] [--only SCENARIO]``.

Every scenario is played in a smaller market, all agents at the same three seeds. ``benchmarks/leaderboard.parquet``
holds each agent's means over the late rounds by seed; ``benchmarks/log/leaderboard.md`` is made of it. A run that is
complete in the folder is read, not played.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from kept_runs import kept
from log_pages import LOG, head

import rimsim
from rimsim.agents import BUILT_IN
from rimsim.measures import MEASURES, late_means, mean_interval

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "benchmarks" / "leaderboard.parquet"
PAGE = LOG / "leaderboard.md"
SEEDS = 3
SHOWN = ("return", "utility", "examined_shortfall", "coverage", "effective_items")
AUDIENCE = ("offline-match", "user-rec")
"""Agents that decide for an audience as a whole."""
AGENTS = [name for name, agent in BUILT_IN.items() if not getattr(agent, "needs_providers", False)]
"""Built-in agents without the planner for providers, since no provider of these markets has needs."""


@dataclass(frozen=True)
class Board:
    """A scenario in a smaller market."""

    rounds: int
    settings: dict[str, object]
    broadcast: bool = False

    @property
    def agents(self) -> list[str]:
        """All that can play it."""
        return [name for name in AGENTS if self.broadcast or name not in AUDIENCE]


HEAD = f"""\
# Leaderboard

{{made}}

This page compares all agents, scenario by scenario, in markets that play in minutes. Figures are means over the
late rounds, ± half a 95% interval over {SEEDS} seeds, ordered by return. The return is the consumptions of a round
less c for every missing exposure. Utility is the expected number of consumptions per slate. *Undelivered* is the
missing share of the guarantees, in examined exposure. `oracle` and `hindsight` see facts that no agent may see.
Figures at full size, over truths and platforms, are in the [findings](findings.md).

Your own agent plays the same market with the options below a title:
`rimsim compare SCENARIO --agents relevance,my_agent.py:Mine --seeds {SEEDS} …`

The script also writes `benchmarks/leaderboard.parquet` (scenario, agent, seed, metric, value)."""
ITEMS = {"data.min_item_events": 60}
BOARDS = {
    "closed-loop": Board(4, {**ITEMS, "arrivals.per_round": 500}),
    "cold-start": Board(4, {**ITEMS, "arrivals.per_round": 500}),
    "campaigns": Board(4, {**ITEMS, "arrivals.per_round": 500}),
    "two-sided": Board(10, {**ITEMS, "arrivals.per_round": 200}),
    "offline-match": Board(2, ITEMS, broadcast=True),
    "online-match": Board(1, ITEMS),
}


def played(name: str, out: Path) -> pd.DataFrame:
    """Means over the late rounds of a scenario: scenario, agent, seed, metric, value."""
    board = BOARDS[name]
    folder = out / name
    run = kept(folder) or rimsim.compare(
        name,
        board.agents,
        board.rounds,
        SEEDS,
        settings=board.settings,
        frozen=[],
        workers=1,
        out=folder,
        certify=False,
        ledger=False,
        command="python benchmarks/leaderboard.py",
    )
    late = late_means(run.rounds)
    late = late[late["metric"].isin(SHOWN)]
    return late.assign(scenario=name)[["scenario", "agent", "seed", "metric", "value"]]


def page(table: pd.DataFrame, made: str) -> str:
    """Page that shows the table below a line that says how it was made."""
    heads = ["return", "utility", "undelivered", "coverage", "effective items"]
    parts = [HEAD.format(made=made)]
    for name, board in BOARDS.items():
        mine = table[table["scenario"] == name]
        wide = mine.pivot_table(index="agent", columns=["metric", "seed"], values="value")
        order = wide["return"].mean(axis=1).sort_values(ascending=False).index
        settings = " ".join(f"--set {field}={value}" for field, value in board.settings.items())
        lines = [f"| agent | {' | '.join(heads)} |", "|---|" + "---:|" * len(SHOWN)]
        lines += [
            f"| `{agent}` | {' | '.join(_cell(wide.loc[agent, metric].to_numpy(), metric) for metric in SHOWN)} |"
            for agent in order
        ]
        parts += [f"## `{name}`", f"`--rounds {board.rounds} {settings}`", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _cell(values: object, metric: str) -> str:
    """Mean ± half its interval, with as many digits as the measure's size asks for."""
    interval = mean_interval(values)
    digits = 3 if MEASURES[metric].unit == "share" or metric == "utility" else 1
    return f"{interval.mean:.{digits}f}" + ("" if interval.equal else f" ±{interval.half:.{digits}f}")


def main() -> None:
    """Play what is missing, write table and page."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, default=Path("runs/leaderboard"))
    options.add_argument("--only", choices=BOARDS, help="play this one, and write nothing")
    chosen = options.parse_args()
    if chosen.only:
        print(played(chosen.only, chosen.out).to_string())
        return
    table = pd.concat([played(name, chosen.out) for name in BOARDS], ignore_index=True)
    table.to_parquet(TABLE, index=False, compression="zstd")
    PAGE.write_text(page(table, head("python benchmarks/leaderboard.py")), encoding="utf-8")


if __name__ == "__main__":
    main()
