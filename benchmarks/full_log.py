"""What moves the model in closed-loop-full-log: ``python benchmarks/full_log.py`` (some minutes on one core).

Prints, for models retrained on different logs, the share of the catalogue among the ten best unconsumed items of the
last state of every user: the table of benchmarks/log/findings.md, section 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim import measures
from rimsim.agents import closed_rounds, make_agent
from rimsim.config import find_scenario
from rimsim.intensity import UserStates
from rimsim.intensity.product import updated
from rimsim.market import Market, initial_model
from rimsim.market.learning import training_log

if TYPE_CHECKING:
    from rimsim.data import EventLog
    from rimsim.intensity import IntensityModel

SCENARIO = "closed-loop-full-log"
DAY = 86_400.0


def top_coverage(model: IntensityModel, past: EventLog) -> float:
    """Coverage of the ten best items of every user's last state."""
    last = np.zeros(past.n_users)
    np.maximum.at(last, past.user, past.time)
    states = UserStates.of(past, np.arange(past.n_users), last + DAY)
    score = model.score(states)
    score[states.owner, states.items] = -1.0
    best = score.topk(10).indices.numpy()
    return measures.coverage(np.bincount(best.ravel(), minlength=past.n_items))


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    config = find_scenario(SCENARIO)
    market = Market(config)
    past, model = market.world.past, market.model
    print("| model | new events | coverage |\n|---|---:|---:|")
    print(
        f"| fitted to the warm-up log ({len(past):,} events) | 0 | {top_coverage(model, past):.3f} |",
        flush=True,
    )
    for _ in range(config.rounds - 1):
        model = updated(model, past, ground=False)
    print(
        f"| updated {config.rounds - 1} times on the warm-up log alone | 0 | {top_coverage(model, past):.3f} |",
        flush=True,
    )
    for name in ("random", "rim-feedback", "relevance"):
        market, agent, consumed = Market(config), make_agent(name), 0
        for closed in closed_rounds(market, agent):
            consumed += int(closed.ledger.consumed.sum())
        print(
            f"| updated every round, {name} | {consumed:,} | {top_coverage(market.model, past):.3f} |",
            flush=True,
        )
    rounds = market.platform.rounds
    log = training_log(config.platform, past, rounds, market.schedule.stop, 0)
    refitted = initial_model(config, log, 0)
    print(
        f"| fitted from scratch to the log that relevance left | {consumed:,} | {top_coverage(refitted, past):.3f} |"
    )


if __name__ == "__main__":
    main()
