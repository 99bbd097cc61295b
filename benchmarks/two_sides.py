"""Print the tables of two sides: ``python benchmarks/two_sides.py [--out FOLDER]``.

The scenario ``two-sided`` is played under two truths with two platforms, and once more over a grid of floors and
thresholds. A run that is complete in the folder is read, not played. ``tools/pictures.py`` draws them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from kept_runs import finished

from rimsim.measures import break_even, mean_interval, paired_difference
from rimsim.scenarios.runs.points import runs_of

if TYPE_CHECKING:
    import pandas as pd

CELLS = [(truth, model) for model in ("bag-visits", "ease-visits") for truth in ("factors", "bag")]
AGENTS = ["relevance", "rim-dual(spend=False)", "rim-feedback", "random"]
BETAS = (0.1, 0.5, 0.8)
THRESHOLDS = (0, 1, 2)
PLAIN = ["--frozen", "none", "--no-certificate", "--workers", "1"]
LATE = 5
"""Rounds at the end that are looked at by themselves."""


@dataclass(frozen=True)
class Arms:
    """The rounds of a run, by agent, seed and metric."""

    rounds: pd.DataFrame

    @property
    def seeds(self) -> list[int]:
        """Seeds of the run."""
        return sorted(self.rounds["seed"].unique().tolist())

    def series(self, agent: str, metric: str) -> list[np.ndarray]:
        """A metric by round, for each seed."""
        mine = self.rounds[(self.rounds["agent"] == agent) & (self.rounds["metric"] == metric)]
        table = mine.pivot_table(index="seed", columns="round", values="value")
        return [table.loc[seed].to_numpy() for seed in self.seeds]

    def even(self, agent: str) -> str:
        """The round of break-even against ``relevance`` at each seed."""
        pairs = zip(self.series(agent, "user_welfare"), self.series("relevance", "user_welfare"), strict=True)
        return ", ".join(
            "none" if (round_of_break_even := break_even(*pair)) is None else str(round_of_break_even)
            for pair in pairs
        )


def cell(out: Path, truth: str, model: str, seeds: int) -> Arms:
    """The scenario under a truth with a platform."""
    command = [
        "compare",
        "two-sided",
        "--agents",
        ",".join(AGENTS),
        "--seeds",
        str(seeds),
        "--no-ledger",
        *PLAIN,
    ]
    sets = ["--set", f"consumer.truth={truth}", "--set", f"platform.model={model}"]
    return Arms(finished(out / f"{truth}-{model}", [*command, *sets]).rounds)


def said(values: Sequence[float], digits: int) -> str:
    """A mean with half its interval."""
    interval = mean_interval(values)
    half = "" if interval.high is None else f" ±{interval.high - interval.mean:.{digits}f}"
    return f"{interval.mean:.{digits}f}{half}"


def table(arms: Arms, name: str) -> list[str]:
    """A row an agent: welfare, what is left at the end, and the round of break-even."""
    lines = []
    plain = [values.sum() for values in arms.series("relevance", "user_welfare")]
    late = [values[-LATE:].mean() for values in arms.series("relevance", "user_welfare")]
    for agent in AGENTS:
        welfare = arms.series(agent, "user_welfare")
        columns = [name, f"`{agent}`", said([values.sum() for values in welfare], 0)]
        for mine, base, digits in (
            ([values.sum() for values in welfare], plain, 0),
            ([values[-LATE:].mean() for values in welfare], late, 1),
        ):
            difference = paired_difference(mine, base)
            ends = "" if difference.equal else f" [{difference.low:.{digits}f}, {difference.high:.{digits}f}]"
            columns.append(f"{difference.mean:+.{digits}f}{ends}")
        for metric, digits in (("provider_welfare", 3), ("nash_welfare", 1)):
            columns.append(said([values.mean() for values in arms.series(agent, metric)], digits))
        ends = ("providers_alive", "catalogue_on_offer", "items_sold")
        columns += [said([values[-1] for values in arms.series(agent, metric)], 2) for metric in ends]
        columns.append("–" if agent == "relevance" else arms.even(agent))
        lines.append("| " + " | ".join(columns) + " |")
    return lines


def grid(out: Path, seeds: int) -> dict[tuple[float, float], Arms]:
    """(threshold, β) → the scenario with these."""
    betas, thresholds = (",".join(map(str, values)) for values in (BETAS, THRESHOLDS))
    fields = ["--beta", betas, "--grid", f"providers.options.threshold={thresholds}"]
    agents = ["--agents", "relevance,rim-feedback", "--seeds", str(seeds)]
    command = ["sweep", "two-sided", *agents, *fields, "--set", "consumer.truth=factors", *PLAIN]
    return {
        (dict(run.scenario.providers.options)["threshold"], run.scenario.exposure.beta): Arms(run.rounds)
        for _, run in runs_of(finished(out / "heat", command))
    }


def heat(points: dict[tuple[float, float], Arms]) -> list[str]:
    """Rows of the gain of ``rim-feedback`` over ``relevance``, by threshold and floor."""
    lines = []
    for (threshold, beta), arms in sorted(points.items()):
        pairs = list(
            zip(*(arms.series(agent, "user_welfare") for agent in ("rim-feedback", "relevance")), strict=True)
        )
        gains = [100 * (mine.sum() / base.sum() - 1) for mine, base in pairs]
        ends = [100 * (mine[-LATE:].sum() / base[-LATE:].sum() - 1) for mine, base in pairs]
        with_guarantee, without_guarantee = (
            [values[-1] for values in arms.series(agent, "providers_alive")]
            for agent in ("rim-feedback", "relevance")
        )
        even = f"{sum(break_even(*pair) is not None for pair in pairs)} of {len(pairs)}"
        cells = (said(gains, 1), said(ends, 1), even, said(without_guarantee, 2), said(with_guarantee, 2))
        lines.append(f"| {threshold:g} | {beta} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Read the command line, play what is missing, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/two-sides"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--heat", action="store_true", help="floors by thresholds alone")
    options = parser.parse_args()
    for truth, model in [] if options.heat else CELLS:
        arms = cell(options.out, truth, model, options.seeds)
        print("\n".join(table(arms, f"{truth}, {model}")))
    print("\n".join(heat(grid(options.out, options.seeds))))


if __name__ == "__main__":
    main()
