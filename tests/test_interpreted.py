"""Kernels as plain Python: the same bytes as compiled, and an error where one leaves its arrays."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_markets import SMALL, play_out

from rimsim.agents import BUILT_IN, make_agent, market_for, play_round
from rimsim.config import ConsumerConfig, DataConfig
from rimsim.market import Market
from rimsim.matching import Rows, solve_dual

AGENTS = (*BUILT_IN, "rim-feedback(closing=0)", "rim-resolve(every=7)")


def _tiny(kind, unit="shown"):
    """Some tens of arrivals over some thirty items."""
    config = SMALL[kind](rounds=2, slate=3)
    arrivals = dataclasses.replace(config.arrivals, per_round=24)
    consumer = dataclasses.replace(config.consumer, truth="factors", rank=1)
    exposure = dataclasses.replace(config.exposure, unit=unit)
    data = DataConfig(min_item_events=60, start="2009-01-01")
    return dataclasses.replace(config, data=data, arrivals=arrivals, consumer=consumer, exposure=exposure)


def digests():
    """Digests of the ledgers of all agents in tiny markets, and some solutions of the price problem."""
    found = {}
    for kind in sorted(SMALL):
        for name in AGENTS:
            if kind == "broadcast" or not getattr(BUILT_IN.get(name), "needs_audience", False):
                agent = make_agent(name)
                market = market_for(agent, _tiny(kind))
                play_out(market, agent, 10)
                found[f"{kind} {name}"] = _digest(
                    part
                    for closed in market.closed
                    for part in (closed.ledger.item, closed.ledger.consumed, closed.ledger.probability)
                )
    for name in AGENTS:
        # Prices of examined guarantees come of sums in floating point, which differ in their last bits between the
        # two; what is compared is that slates are filled, and that no index leaves its array.
        if not getattr(BUILT_IN.get(name), "needs_audience", False):
            agent = make_agent(name)
            market = market_for(agent, _tiny("clones", unit="examined"))
            play_out(market, agent, 10)
            found[f"examined {name}"] = sum(int((closed.ledger.item >= 0).sum()) for closed in market.closed)
    for kind in ("clones", "cold-start"):
        config = dataclasses.replace(_tiny(kind), consumer=ConsumerConfig(truth="bag"))
        market = Market(config)
        play_round(market, make_agent("relevance"), 10)
        ledger = market.closed[0].ledger
        found[f"bag {kind}"] = _digest((ledger.item, ledger.consumed, ledger.probability))
    for seed in range(12):
        draw = np.random.default_rng(seed)
        n, m, k = int(draw.integers(2, 12)), int(draw.integers(3, 9)), int(draw.integers(1, 4))
        scores = (draw.integers(0, 5, (n, m)) / 4).astype(np.float32)
        capacity, required = draw.integers(0, k + 1, n), draw.integers(0, n, m)
        admissible = draw.random((n, m)) < 0.8
        solution = solve_dual(scores, capacity, required, admissible=admissible, cost=0.7, tol=1e-6)
        found[f"dual {seed}"] = _digest([solution.slates, np.round(solution.item_price, 9)])
        rows = Rows(
            np.array([0, 2, 4]),
            np.array([0, 1, 1, 2]),
            np.array([0.4 * n, 0.0]),
            np.array([np.inf, 0.3 * n]),
            np.full(2, 0.9),
            draw.random((n, 2)) < 0.7,
        )
        weights, required = 0.5 ** np.arange(k), np.minimum(0.3 * required, n)
        weighted = solve_dual(
            scores,
            capacity,
            required,
            n * 1.0,
            admissible=admissible,
            cost=0.7,
            position_weights=weights,
            rows=rows,
        )
        found[f"weighted {seed}"] = (
            weighted.dual
        )  # of sums in floating point too: near the least one, by either way
    return found


def _digest(arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in arrays)).hexdigest()


def test_compiled_kernels_do_what_their_python_does():
    """In an interpreter without Numba's compiler no index leaves its array, and all digests are those of this one."""
    own = {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(__file__).parent), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | own,
        check=True,
        capture_output=True,
        text=True,
    )
    compiled, plain = digests(), json.loads(done.stdout)
    for name in [name for name in compiled if name.startswith("weighted")]:
        assert plain.pop(name) == pytest.approx(compiled.pop(name), rel=2e-3, abs=1e-9)
    assert plain == compiled


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(digests()))
