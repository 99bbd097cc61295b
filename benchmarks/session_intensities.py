"""How the platform's λ(x) follows the truth's λ*: ``python benchmarks/session_intensities.py [SEEDS]``; a minute.

Over the arrivals of round 0 of ``closed-loop``, as they are at the opening: rank correlation over all of them, and
Σλ(x)/Σλ* of first and later visits apart, for some ground intensities and both classes of truth.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from scipy.stats import spearmanr

from rimsim.config import Seeds, find_scenario, override
from rimsim.market import Market, Needs

GROUNDS = ("visits", "hp")
TRUTHS = ("factors", "bag")


def compared(ground: str, truth: str, seed: int) -> tuple[float, float, float, float, float]:
    """Rank correlation over all arrivals and over later visits, the two ratios, and the share of first visits."""
    changes = {"platform.model": f"popularity-{ground}", "consumer.truth": truth}
    market = Market(
        override(find_scenario("closed-loop"), changes), seeds=Seeds.all(seed), needs=Needs(future=True)
    )
    model = []
    true = []
    first = []
    for states in market.round_view().audience or ():
        visits = market.open.visits(states.row)
        model.append(states.ground_intensity.numpy())
        true.append(market.consumer.true_intensity(visits).double().sum(1).numpy())
        rows, _ = visits.histories.consumed(visits.slot)
        first.append(np.bincount(rows, minlength=len(visits)) == 0)
    intensity, wanted, is_first = (np.concatenate(part) for part in (model, true, first))
    ratios = [float(intensity[rows].sum() / wanted[rows].sum()) for rows in (is_first, ~is_first)]
    later = spearmanr(intensity[~is_first], wanted[~is_first]).statistic
    return float(spearmanr(intensity, wanted).statistic), float(later), *ratios, float(is_first.mean())


def main() -> None:
    """Print the table, means over seeds."""
    torch.set_num_threads(1)
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print("| λ(x) | truth | Spearman | of later visits | Σλ/Σλ*, first | later | first visits |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for truth in TRUTHS:
        for ground in GROUNDS:
            figures = np.array([compared(ground, truth, seed) for seed in range(seeds)]).mean(0)
            print(
                f"| `{ground}` | `{truth}` | " + " | ".join(f"{value:.3f}" for value in figures) + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
