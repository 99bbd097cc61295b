"""Who is served guarantees, and what becomes of new items: ``python benchmarks/mechanisms.py [SEEDS [MODEL]]``.

Plays ``cold-start`` with agents that are watched: what the truth wants of every visitor is noted beside what is shown.
A position is *bought* where its item has a price below 0 and is not among the visitor's k most relevant ones. Prints
means over the late rounds with 95 % intervals over seeds; some minutes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rimsim.agents import make_agent, market_for, play_round
from rimsim.arrays import ALWAYS
from rimsim.config import Seeds, find_scenario, override
from rimsim.market.records import as_slates
from rimsim.measures import late_rounds, mean_interval

if TYPE_CHECKING:
    from rimsim.agents import Agent
    from rimsim.config import ScenarioConfig
    from rimsim.market import Arrivals, Slates

AGENTS = ("relevance", "rim-feedback")


@dataclass
class Watched:
    """An agent, and for each of its arrivals what was wanted, what was shown, and why."""

    inner: Agent
    needs_truth: bool = True
    rows: list[dict[str, NDArray[np.generic]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name, self.order_free, self.barrier_every = self.inner.name, False, None
        self.begin_round = self.inner.begin_round

    def act(self, arrivals: Arrivals) -> Slates:
        """As the agent itself, noted down."""
        slates = as_slates(self.inner.act(arrivals))
        assert arrivals.true_intensity is not None  # noqa: S101  # needs_truth
        true = arrivals.true_intensity.double().numpy()
        k = slates.items.shape[1]
        best = arrivals.relevance.topk(k).indices.numpy()
        own = (slates.items[:, :, None] == best[:, None, :]).any(2)
        priced = np.zeros(own.shape, bool) if slates.price is None else slates.price < 0
        ground = true.sum(1)
        self.rows.append(
            {
                "items": slates.items,
                "own": own,
                "bought": priced & ~own,
                "ground": ground,
                "model_ground": arrivals.ground_intensity.double().numpy(),
                "true": true,
                "share": true / ground[:, None],
                "admissible": arrivals.admissible.numpy(),
                "model": arrivals.relevance.double().numpy(),
            }
        )
        return slates

    def taken(self) -> dict[str, NDArray[np.generic]]:
        """All that was noted since it was last asked."""
        noted, self.rows = self.rows, []
        return {name: np.concatenate([one[name] for one in noted]) for name in noted[0]}


def of_round(noted: dict[str, NDArray[np.generic]], new: NDArray[np.bool_], gamma: float) -> dict[str, float]:
    """Figures of a round.

    Args:
        noted: What :meth:`Watched.taken` gives.
        new: (M,) items that are released and were not there from the start.
        gamma: γ of examination.
    """
    items, admissible, share, true = (noted[name] for name in ("items", "admissible", "share", "true"))
    weight = np.broadcast_to(gamma ** np.arange(items.shape[1]), items.shape)
    seen = np.maximum(admissible.sum(0), 1)
    usual, wanted = share.sum(0) / seen, true.sum(0) / seen
    there = admissible.any(0)
    row = np.broadcast_to(np.arange(len(items))[:, None], items.shape)
    figures = {}
    bought, own = noted["bought"], noted["own"]
    if bought.any():
        b_row, b_item = row[bought], items[bought]
        figures |= {
            "bought: share of positions": float(bought.mean()),
            "bought: p*(y|x) of who is served / of all who could be": float(
                share[b_row, b_item].mean() / usual[b_item].mean()
            ),
            "bought: λ* of who is served / of all": float(
                noted["ground"][b_row].mean() / noted["ground"].mean()
            ),
            "bought: λ of who is served / of all": float(
                noted["model_ground"][b_row].mean() / noted["model_ground"].mean()
            ),
            "bought: γ^(r−1) / of all positions": float(weight[bought].mean() / weight.mean()),
            "bought: how much the item is wanted / items shown for their own sake": float(
                wanted[b_item].mean() / wanted[items[own]].mean()
            ),
            "bought: expected consumptions / of other positions": float(
                _consumed(true, weight, row, items, bought) / _consumed(true, weight, row, items, ~bought)
            ),
        }
    if new.any():
        of_new = new[items]
        ranks = noted["model"].argsort(1).argsort(1) / (share.shape[1] - 1)
        figures |= {
            "new: how much they are wanted / other items": float(
                wanted[new].mean() / wanted[there & ~new].mean()
            ),
            "new: p(y|x) of the model / other items": float(
                noted["model"].sum(0)[new].mean() / noted["model"].sum(0)[there & ~new].mean()
            ),
            "new: exposures looked at, an item and round": float((weight * of_new).sum() / new.sum()),
            "new: share of their exposures that no price bought": float(
                (of_new & own).sum() / max(of_new.sum(), 1)
            ),
            "new: items that are someone's own k best": float(
                len(np.unique(items[of_new & own])) / new.sum()
            ),
            "new: best rank of the model, share of the catalogue above it": float(1 - ranks[:, new].max()),
        }
    return figures


def _consumed(
    true: NDArray[np.generic],
    weight: NDArray[np.generic],
    row: NDArray[np.generic],
    items: NDArray[np.generic],
    where: NDArray[np.bool_],
) -> float:
    """Expected consumptions a position."""
    return float((1 - np.exp(-true[row[where], items[where]] * weight[where])).mean())


def played(config: ScenarioConfig, name: str, seed: int) -> dict[str, float]:
    """Means over the late rounds of an agent at a seed."""
    agent = Watched(make_agent(name))
    market = market_for(agent, config, seeds=Seeds.all(seed))
    release, found = market.world.release, []
    late = late_rounds(config.rounds)
    while not market.done:
        number, stop = market.round, market.schedule.stop
        play_round(market, agent)
        market.closed.pop()
        noted = agent.taken()
        if number in late:
            new = (release != ALWAYS) & (release < stop)
            found.append(of_round(noted, new, config.consumer.position_decay))
    return {key: float(np.mean([one[key] for one in found])) for key in found[0]}


def main() -> None:
    """Print a table in Markdown."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    changes: dict[str, object] = {"platform.model": sys.argv[2]} if len(sys.argv) > 2 else {}
    config = override(find_scenario("cold-start"), changes)
    print(
        f"`cold-start`, {config.platform.model}, {seeds} seeds\n\n| what | {' | '.join(AGENTS)} |\n|---|---:|---:|"
    )
    arms = {name: [played(config, name, seed) for seed in range(seeds)] for name in AGENTS}
    for key in dict.fromkeys(key for name in AGENTS for key in arms[name][0]):
        cells = []
        for name in AGENTS:
            one = mean_interval([arm[key] for arm in arms[name] if key in arm])
            told = "–" if one.mean is None else f"{one.mean:.3f}"
            cells.append(
                told if one.low is None or one.high is None else f"{told} [{one.low:.3f}, {one.high:.3f}]"
            )
        print(f"| {key} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
