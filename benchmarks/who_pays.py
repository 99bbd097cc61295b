"""Who carries the guarantees, with λ(x) and without: ``python benchmarks/who_pays.py [SEEDS [OUT]]``; minutes.

Positions a slate that go to items which relevance leaves below their requirement, in the lowest λ-decile of the
arrivals minus the highest, in the closed loop; and what agents that rank by λ(x,y) − v gain over the same agents on
p(y|x) − v.
Means over seeds with 95% intervals.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from kept_runs import kept

from rimsim import measures
from rimsim.scenarios import compare
from rimsim.scenarios.report.items import guaranteed_by_decile
from rimsim.scenarios.report.picture_tables import PictureTables, picture_tables

PAIRS = (("rim-dual", "dual-on-p"), ("rim-feedback", "feedback-on-p"))


def _with_interval(interval: measures.Interval | measures.PairedDifference) -> str:
    if interval.mean is None or interval.low is None or interval.high is None:
        return f"{interval.mean}"
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _burden(tables: PictureTables) -> dict[str, np.ndarray]:
    """Agent → (seeds,) positions a slate in the lowest decile minus the highest."""
    by = guaranteed_by_decile(tables).pivot_table(index=["agent", "seed"], columns="decile", values="value")
    spread = by[1] - by[10]
    return {agent: spread[agent].to_numpy() for agent in spread.index.get_level_values("agent").unique()}


def main() -> None:
    """Run the comparison, unless its folder is there, and print the two tables."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    out = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/who-pays")
    mine = Path(__file__).with_name("p_only.py")
    agents = ("relevance", "rim-dual", "rim-feedback", f"{mine}:DualOnP", f"{mine}:FeedbackOnP")
    run = kept(out) or compare("closed-loop", agents, seeds=seeds, frozen=[], out=out)
    burden = _burden(picture_tables(run))
    print("| agent | positions a slate, lowest λ-decile minus highest |\n|---|---|")
    for agent, values in burden.items():
        print(f"| `{agent}` | {_with_interval(measures.mean_interval(values))} |")
    for metric in ("utility", "shortfall", "perplexity"):
        late = measures.late_means(run.rounds)
        wide = late[late["metric"] == metric].pivot(index="seed", columns="agent", values="value")
        for on_both, on_p in PAIRS:
            difference = measures.paired_difference(wide[on_both].to_numpy(), wide[on_p].to_numpy())
            print(f"| {metric}: `{on_both}` minus `{on_p}` | {_with_interval(difference)} |")


if __name__ == "__main__":
    main()
