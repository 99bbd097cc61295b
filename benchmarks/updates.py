"""How large a step should a platform update its vectors with? ``python benchmarks/updates.py [SEEDS]``, and models.

Prints how well the bag foretells each next twentieth of the embedded log, updated on the one before, by step size:
what a platform that tests its updates on what users do by themselves would look at. Some minutes.

``rimsim sweep closed-loop --agents relevance,rim-feedback --seeds 3 --no-certificate
--grid platform.model=bag-visits,benchmarks/updates.py:slow,benchmarks/updates.py:still`` asks the same of the loop:
``still`` leaves the vectors as they were fitted to the warm-up, ``slow`` takes a tenth of the default's step size;
the layer of impressions and λ(x) are as ever.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from typing import TYPE_CHECKING

import numpy as np

from rimsim.data import load
from rimsim.intensity import RIM, Bag, BagConfig, UserStates, Visits
from rimsim.measures import mean_interval

if TYPE_CHECKING:
    from rimsim.data import EventLog
    from rimsim.intensity import IntensityModel

__all__ = ["slow", "still"]

_K, _PARTS = 10, 10
_STEPS = ((0.003, 0), (0.0003, 20), (0.001, 20), (0.003, 20), (0.01, 20))
"""Step size and steps of an update."""


def still(seed: int, device: str) -> IntensityModel:
    """The default platform, but for vectors that stay as they were fitted."""
    return RIM(mark=Bag(BagConfig(seed=seed, device=device, update_steps=0)), ground=Visits())


def slow(seed: int, device: str) -> IntensityModel:
    """The default platform with a tenth of the step size of updates."""
    usual = BagConfig().update_learning_rate
    mark = Bag(BagConfig(seed=seed, device=device, update_learning_rate=usual / 10))
    return RIM(mark=mark, ground=Visits())


def foretold(log: EventLog, config: BagConfig) -> tuple[float, float]:
    """Precision of the ten best unconsumed items and log-likelihood an item, over the later half of a log.

    The first half is fitted to; each tenth of the rest is foretold for its users, then updated on.
    """
    cuts = np.linspace(len(log) / 2, len(log), _PARTS + 1).astype(int)
    model = Bag(config).fit(log.rows(slice(0, cuts[0])))
    hits, nats = [], []
    for begin, end in itertools.pairwise(cuts.tolist()):
        part = log.rows(slice(begin, end))
        users = np.unique(part.user)
        states = UserStates.of(log.rows(slice(0, begin)), users, log.time[begin])
        chance = model.score(states).double().numpy().copy()
        chance[states.owner, states.items] = 0.0
        chance /= chance.sum(1, keepdims=True)
        best = np.argsort(-chance, axis=1)[:, :_K]
        for row, user in enumerate(users):
            taken = np.unique(part.item[part.user == user])
            taken = taken[chance[row, taken] > 0]
            hits.append(np.isin(best[row], taken).mean())
            if len(taken):
                nats.append(np.log(chance[row, taken]).mean())
        known = log.rows(slice(0, end))
        model = model.update(dataclasses.replace(known, target=np.arange(end) >= begin))
    return float(np.mean(hits)), float(np.mean(nats))


def main() -> None:
    """Print a table in Markdown."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    log = load("ml-latest-small", min_item_events=30)
    print(f"| steps x size | precision@{_K} | log-likelihood an item |\n|---|---:|---:|")
    for size, steps in _STEPS:
        pairs = [
            foretold(log, BagConfig(seed=seed, update_learning_rate=size, update_steps=steps))
            for seed in range(seeds)
        ]
        cells = [mean_interval([pair[place] for pair in pairs]) for place in (0, 1)]
        told = " | ".join(f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in cells)
        print(f"| {steps} x {size:g} | {told} |", flush=True)


if __name__ == "__main__":
    main()
