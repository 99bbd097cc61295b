"""All agents in the markets of sellers, and the stored figures of leaderboards: ``python benchmarks/sellers.py``.

Without options, the script plays all agents at the first five seeds of both boards, checks that the bound is above each
of them, and writes ``benchmarks/log/sellers.md``. With ``--references`` it computes reference and ceiling of every
board, and writes ``scenarios/boards.csv``. With ``--speed`` it prints the rounds per second of one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import gymnasium
import numpy as np
import pandas as pd
from kept_runs import kept
from log_pages import LOG, ROOT, head

import rimsim
from rimsim.agents import BUILT_IN
from rimsim.config import find_scenario
from rimsim.measures import mean_interval
from rimsim.scenarios.boards import BOARDS, REFERENCE, Board, references
from rimsim.scenarios.objective_bound import objective_bound

REFERENCES = ROOT / "scenarios" / "boards.csv"
PAGE = LOG / "sellers.md"
SEEDS = 5
AUDIENCE = ("offline-match", "user-rec", "hindsight")
"""Agents that decide for an audience as a whole, and the bound by round."""
AGENTS = [name for name in BUILT_IN if name not in (*AUDIENCE, "floors")]
OTHERS = [
    "floors(levels=[0.3,0.8,1.5,2.5,4.0],share=0.45)",
    "floors",
]
LOWER_BETA = [
    "rim-feedback",
    "rim-dual",
    "rim-resolve",
    "flat-budget",
    "fair-rec",
    "rim-ucb",
    "entropic-dual",
]
"""Agents that are also played with the guarantee β = 0.5."""


def sums(
    board: Board, agents: list[str], seeds: int, folder: Path, beta: float | None = None
) -> pd.DataFrame:
    """Figures of a board: agents in rows, seeds in columns."""
    settings = dict(board.settings) | ({} if beta is None else {"exposure.beta": beta})
    run = kept(folder) or rimsim.compare(
        board.scenario,
        agents,
        board.rounds,
        seeds,
        settings=settings,
        frozen=[],
        workers=1,
        certify=False,
        ledger=False,
        out=folder,
        command="python benchmarks/sellers.py",
    )
    rounds = run.rounds[run.rounds["metric"] == board.metric]
    return rounds.pivot_table(index="agent", columns="seed", values="value", aggfunc="sum", observed=True)


def write_references(out: Path) -> None:
    """Compute and write reference and ceiling of every board."""
    rows = []
    for name, board in BOARDS.items():
        has_bound = board.ceiling == "bound"
        agents = [REFERENCE] if has_bound else [REFERENCE, board.ceiling]
        figures = sums(board, agents, board.seeds, out / f"references-{name}")
        price = None
        for seed in range(board.seeds):
            if has_bound:
                bound = objective_bound(find_scenario(board.scenario), seed, price)
                price = None if name == "sellers-hidden" else bound.price
                ceiling = bound.value
            else:
                ceiling = figures.loc[board.ceiling, seed]
            rows.append((board.id, seed, f"{figures.loc[REFERENCE, seed]:.6g}", f"{ceiling:.6g}"))
    pd.DataFrame(rows, columns=["board", "seed", "reference", "ceiling"]).to_csv(REFERENCES, index=False)


def table(board: Board, out: Path) -> str:
    """Table of all agents on a board.

    Raises:
        SystemExit: If an agent is above the bound at a seed.
    """
    name = board.scenario
    figures = sums(board, [*AGENTS, *OTHERS], SEEDS, out / f"agents-{name}")
    lower = sums(board, LOWER_BETA, SEEDS, out / f"agents-{name}-0.5", beta=0.5)
    figures = pd.concat([figures, lower.rename(index=lambda agent: f"{agent}, β = 0.5")])
    known = references(board.id)[:SEEDS]
    if (is_above := (figures.to_numpy() > known[:, 1]).any(1)).any():
        raise SystemExit(f"{name}: above the bound: {', '.join(figures.index[is_above])}")
    order = figures.mean(axis=1).sort_values(ascending=False).index
    best_bound = mean_interval(known[:, 1])
    lines = [
        "| agent | objective | score |",
        "|---|---:|---:|",
        f"| bound | {best_bound.mean:.0f} ±{best_bound.half:.0f} | 1 |",
    ]
    for agent in order:
        values = figures.loc[agent].to_numpy()
        interval = mean_interval(values)
        score = mean_interval((values - known[:, 0]) / (known[:, 1] - known[:, 0]))
        lines.append(
            f"| `{agent}` | {interval.mean:.0f} ±{interval.half:.0f} | {score.mean:z.3f} ±{score.half:.3f} |"
        )
    return "\n".join(lines)


def rounds_per_second(episodes: int = 10) -> float:
    """Rounds per second of CPU time, with a constant action, one core."""
    env = gymnasium.make("RIMSellers-v0").unwrapped
    action = np.array([-0.88, -0.68, -0.4, 0.0, 0.6, 0.125], np.float32)
    began = 0.0
    for episode in range(episodes + 1):
        env.reset(options={"market_seed": 1000 + episode})
        if episode == 1:  # the first episode compiles and fits
            began = time.process_time()
        over = False
        while not over:
            _, _, over, _, _ = env.step(action)
    return episodes * env.config.rounds / (time.process_time() - began)


HEAD = f"""\
# Sellers

{{made}}

All agents play the first {SEEDS} seeds of the boards `sellers` and `sellers-hidden`. The objective is the sum over 20
rounds of consumptions plus two for each seller who stays, ± half a 95% interval over seeds. The score is 0 for
`relevance` and 1 for the bound. The guarantee is β = 0.9 if the table names no other. `triage`, `oracle`,
`state-oracle` and `informed` know facts that no agent may know."""


def main() -> None:
    """Play agents, compute references, or measure speed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, default=Path("runs/sellers"))
    options.add_argument("--references", action="store_true", help="write scenarios/boards.csv")
    options.add_argument("--speed", action="store_true", help="print rounds per second")
    chosen = options.parse_args()
    if chosen.references:
        write_references(chosen.out)
    elif chosen.speed:
        print(f"{rounds_per_second():.0f} rounds/s")
    else:
        parts = [HEAD.format(made=head("python benchmarks/sellers.py"))]
        for name in ("sellers", "sellers-hidden"):
            parts += [f"## `{name}`", table(BOARDS[name], chosen.out)]
        PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
