"""
8. Your own process
===================

A flash sale ends the best-selling item each noon, and doubles the demand for all other items until the evening.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import rimsim

DAY = 86_400
HOUR = 3600

# %%
# A process is a frozen record of options with a generator of SimPy events. It waits for ``env.timeout``, and reads and
# changes the market by its handle. A resumed run starts the generator again at the beginning of a round. So the process
# computes the next noon from ``env.now``, and keeps the item that it has ended in ``market.memory``.


@dataclass(frozen=True)
class FlashSale:
    """Ends the best-selling item at noon, and multiplies the demand for the others until six."""

    factor: float = 2.0

    def run(self, env, market):
        """Wait for noon, then for the evening."""
        while True:
            if "ended" not in market.memory:
                yield env.timeout((12 * HOUR - env.now) % DAY or DAY)
                best = int(np.where(market.on_offer, market.consumption, -1).argmax())
                market.end(best)
                market.scale_demand(np.arange(len(market.items)) != best, self.factor)
                market.memory["ended"] = best
            yield env.timeout((18 * HOUR - env.now) % DAY or DAY)
            market.scale_demand(np.arange(len(market.items)), 1.0)
            market.release(market.memory.pop("ended"))


if __name__ == "__main__":
    small = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 120}
    with tempfile.TemporaryDirectory() as folder:
        run = rimsim.compare(
            "closed-loop",
            ["relevance"],
            rounds=2,
            seeds=1,
            settings=small | {"processes": [f"{sys.argv[0]}:FlashSale(factor=3.0)"]},  # this file
            out=Path(folder) / "run",
        )
        print(run.happenings.groupby(["round", "what"]).size())
