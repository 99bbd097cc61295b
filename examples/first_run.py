"""A first run: two agents in a small market, and what the guarantee costs and brings.

Clones of MovieLens users arrive, 120 a round; the platform retrains after each round.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import rimsim
from rimsim.scenarios.report.answer import comparison_sentences

small = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 120}

with tempfile.TemporaryDirectory() as folder:
    run = rimsim.compare(
        "closed-loop",
        ["relevance", "rim-feedback"],
        rounds=3,
        seeds=2,
        settings=small,
        workers=1,
        out=Path(folder) / "run",
    )
    for sentence in comparison_sentences(run.rounds, run.agents, run.scenario.exposure.unit):
        print(sentence)
