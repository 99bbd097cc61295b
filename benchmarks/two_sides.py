"""Draw and print what docs/two-sides.md says: ``python benchmarks/two_sides.py [--out FOLDER]``.

The scenario ``two-sided`` is played under two truths with two platforms, and once more over a grid of floors and
thresholds. A run that is complete in the folder is read, not played.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from kept_runs import finished

from rimsim.measures import MEASURES, break_even, mean_interval, paired_difference
from rimsim.scenarios.report.charts import style, styles
from rimsim.scenarios.runs.status import runs_of

if TYPE_CHECKING:
    import pandas as pd

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
CELLS = [(truth, model) for model in ("bag-visits", "ease-visits") for truth in ("factors", "bag")]
AGENTS = ["relevance", "rim-dual", "rim-feedback", "random"]
SHOWN = (
    "user_welfare",
    "users_active",
    "providers_alive",
    "catalogue_on_offer",
    "items_sold",
    "provider_welfare",
)
BETAS, THRESHOLDS = (0.1, 0.5, 0.8), (0, 1, 2)
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
        return ", ".join("none" if (found := break_even(*pair)) is None else str(found) for pair in pairs)


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


def over_time(arms: Arms) -> None:
    """A panel a measure: means over seeds with 95 % intervals, by round."""
    looks = styles(AGENTS)
    with style():
        figure, axes = plt.subplots(2, 3, figsize=(11, 6), constrained_layout=True)
        for ax, metric in zip(axes.flat, SHOWN, strict=True):
            for agent, look in looks.items():
                of_round = [mean_interval(values) for values in zip(*arms.series(agent, metric), strict=True)]
                mean = np.array([one.mean for one in of_round], float)
                low, high = (
                    np.array([getattr(one, end) for one in of_round], float) for end in ("low", "high")
                )
                ax.plot(mean, color=look.colour, label=agent)
                ax.fill_between(range(len(mean)), low, high, color=look.colour, alpha=0.2, linewidth=0)
            ax.set(title=MEASURES[metric].title, xlabel="round", ylim=(0, None))
        axes.flat[0].legend()
        figure.savefig(PICTURES / "two-sides.png", dpi=110)
        plt.close(figure)


def said(values: Sequence[float], digits: int) -> str:
    """A mean with half its interval."""
    found = mean_interval(values)
    half = "" if found.high is None else f" ±{found.high - found.mean:.{digits}f}"
    return f"{found.mean:.{digits}f}{half}"


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
            found = paired_difference(mine, base)
            columns.append(f"{found.mean:+.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]")
        for metric, digits in (("provider_welfare", 3), ("nash_welfare", 1)):
            columns.append(said([values.mean() for values in arms.series(agent, metric)], digits))
        ends = ("providers_alive", "catalogue_on_offer", "items_sold")
        columns += [said([values[-1] for values in arms.series(agent, metric)], 2) for metric in ends]
        columns.append("–" if agent == "relevance" else arms.even(agent))
        lines.append("| " + " | ".join(columns) + " |")
    return lines


def grid(out: Path, seeds: int) -> dict[tuple[float, float], Arms]:
    """(threshold, β) → the scenario with these."""
    betas, thresholds = (",".join(map(str, some)) for some in (BETAS, THRESHOLDS))
    fields = ["--beta", betas, "--grid", f"providers.options.threshold={thresholds}"]
    agents = ["--agents", "relevance,rim-feedback", "--seeds", str(seeds)]
    command = ["sweep", "two-sided", *agents, *fields, "--set", "consumer.truth=factors", *PLAIN]
    return {
        (dict(run.scenario.providers.options)["threshold"], run.scenario.exposure.beta): Arms(run.rounds)
        for _, run in runs_of(finished(out / "heat", command))
    }


def heat(points: dict[tuple[float, float], Arms]) -> list[str]:
    """Draw, and tell, what ``rim-feedback`` brings against ``relevance`` by threshold and floor, over seeds."""
    gain, late, alive = (np.zeros((len(THRESHOLDS), len(BETAS))) for _ in range(3))
    words, lines = {}, []
    for (threshold, beta), arms in sorted(points.items()):
        place = THRESHOLDS.index(int(threshold)), BETAS.index(beta)
        pairs = list(
            zip(*(arms.series(one, "user_welfare") for one in ("rim-feedback", "relevance")), strict=True)
        )
        whole = [100 * (mine.sum() / base.sum() - 1) for mine, base in pairs]
        ends = [100 * (mine[-LATE:].sum() / base[-LATE:].sum() - 1) for mine, base in pairs]
        kept, left = (
            [values[-1] for values in arms.series(one, "providers_alive")]
            for one in ("rim-feedback", "relevance")
        )
        gain[place], late[place] = np.mean(whole), np.mean(ends)
        alive[place] = 100 * (np.mean(kept) - np.mean(left))
        words[place] = f"{sum(break_even(*pair) is not None for pair in pairs)} of {len(pairs)}"
        told = (said(whole, 1), said(ends, 1), words[place], said(left, 2), said(kept, 2))
        lines.append(f"| {threshold:g} | {beta} | " + " | ".join(told) + " |")
    with style():
        figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), constrained_layout=True)
        for ax, values, title in (
            (axes[0], gain, "Users' welfare, all rounds, % over relevance\n(below: seeds that break even)"),
            (axes[1], late, f"Users' welfare, last {LATE} rounds, %"),
            (axes[2], alive, "Providers alive at the end, points"),
        ):
            most = max(float(np.abs(values).max()), 1e-9)
            ax.imshow(values, cmap="RdBu", vmin=-most, vmax=most, aspect="auto", origin="lower")
            ax.grid(visible=False)
            ax.set(title=title, xlabel="β", ylabel="threshold")
            ax.set_xticks(range(len(BETAS)), [str(beta) for beta in BETAS])
            ax.set_yticks(range(len(THRESHOLDS)), [str(one) for one in THRESHOLDS])
            for place, even in words.items():
                note = f"{values[place]:+.1f}" + (f"\n{even}" if values is gain else "")
                dark = abs(values[place]) > 0.6 * most
                colour = "white" if dark else "black"
                ax.text(place[1], place[0], note, ha="center", va="center", fontsize=9, color=colour)
        figure.savefig(PICTURES / "two-sides-heat.png", dpi=110)
        plt.close(figure)
    return lines


def main() -> None:
    """Read the command line, play what is missing, draw and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/two-sides"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--heat", action="store_true", help="floors by thresholds alone")
    given = parser.parse_args()
    for number, (truth, model) in enumerate([] if given.heat else CELLS):
        arms = cell(given.out, truth, model, given.seeds)
        if not number:
            over_time(arms)
        print("\n".join(table(arms, f"{truth}, {model}")))
    print("\n".join(heat(grid(given.out, given.seeds))))


if __name__ == "__main__":
    main()
