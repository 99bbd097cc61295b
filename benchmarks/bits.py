"""The same bytes whatever the batches and workers: ``python benchmarks/bits.py``; minutes.

Every built-in scenario with every built-in agent that can act in it, made small (fewer items, arrivals and rounds;
the market, models and agents as they are). Batches of 1, 7 and 1,000 and one or two worker processes must leave tables
of one digest. Ends with status 1 if they do not.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rimsim.agents import BUILT_IN
from rimsim.config import ScenarioConfig, find_scenario, override, scenario_names
from rimsim.scenarios.execution.arms import hired, run_arms
from rimsim.scenarios.report.report import digest
from rimsim.scenarios.store.run_folder import Run
from rimsim.scenarios.study.plan import begin, experiment, tasks

WAYS = ((1, 1000), (1, 7), (1, 1), (2, 1000), (2, 13))
"""(workers, batch size)."""


def small(name: str) -> ScenarioConfig:
    """A built-in scenario with at most two rounds, some hundred items and arrivals."""
    config = find_scenario(name)
    changes: dict[str, object] = {"rounds": min(config.rounds, 2), "data.min_item_events": 100}
    if config.arrivals.kind == "replay":
        changes |= {"arrivals.warmup_share": 0.9}
    else:
        changes |= {"arrivals.per_round": 120}
    return override(config, changes)


def main() -> None:
    """Print a table and end with status 1 if a digest differs."""
    differs = False
    print("| scenario | agents | " + " | ".join(f"{w} × {b}" for w, b in WAYS) + " |")
    print("|---|---:|" + "---|" * len(WAYS))
    for name in scenario_names():
        config = small(name)
        agents = [
            agent
            for agent, kind in BUILT_IN.items()
            if config.arrivals.kind == "broadcast" or not getattr(kind, "needs_audience", False)
        ]
        plan = experiment(config, agents, 1, None, certify=True, ledger=True)
        found = []
        with tempfile.TemporaryDirectory() as place:
            for workers, batch in WAYS:
                folder = Path(place) / f"{workers}-{batch}"
                begin(plan, folder, "benchmarks/bits.py")
                with hired("local", None, workers) as crew:
                    failures = run_arms(tasks(folder, batch), crew, None)
                for error in failures.values():
                    raise error
                found.append(digest(Run(folder)))
        differs |= len(set(found)) > 1
        print(
            f"| `{name}` | {len(plan.arms)} | " + " | ".join(text[:12] for text in found) + " |", flush=True
        )
    sys.exit(differs)


if __name__ == "__main__":
    main()
