"""Replay and large logs: ``python benchmarks/scale.py environment|engine|online-match|closed-loop [XS|S|M|L …]``.

``environment`` is the default environment from a cold cache: its first reset and its steps a second. ``engine`` is a
replay of a made-up log in waves of 64. The two scenarios are whole comparisons of two agents, one seed, three rounds,
from a cold cache, each size in a process of its own: CPU seconds, largest resident memory, the five largest costs, and,
over several sizes, the exponent with which CPU seconds grow with events.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from cpu_and_memory import cpu, timed
from scale_costs import cost_of
from scale_logs import SIZES, log_file
from speed_stages import Sampler
from speed_tables import Report, peak_memory

import rimsim
from rimsim.agents import make_agent
from rimsim.config import find_scenario, override
from rimsim.intensity import GRU, RIM, GRUConfig
from rimsim.intensity.ground.visits import Visits
from rimsim.intensity.registry import register
from rimsim.market import Market

AGENTS = ["relevance", "rim-dual"]
GRU_NAME = "sampled-gru-visits"
"""A GRU after one epoch over sampled items: what it costs to step and score does not hang on how well it was fitted."""

register(
    GRU_NAME,
    lambda seed, device: RIM(
        mark=GRU(GRUConfig(epochs=1, patience=0, softmax="sampled", seed=seed, device=device)),
        ground=Visits(),
    ),
)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("environment", "engine", "online-match", "closed-loop"))
    parser.add_argument("sizes", nargs="*", help=f"made-up logs: {', '.join(SIZES)}; default S")
    parser.add_argument("--model", default="bag-visits", help="the platform's model (default bag-visits)")
    parser.add_argument("--out", type=Path, help="folder of the tables; default runs/scale-TIME")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = options.sizes or ["S"]
    if options.one:
        json.dump(_measured(options.what, sizes[0], options.model), sys.stdout)
        return
    report = Report(
        options.out or Path("runs") / time.strftime("scale-%Y%m%d-%H%M%S"), "Replay and large logs"
    )
    rows = [_alone(options.what, size, options.model) for size in sizes]
    report.table(options.what, f"{options.what}, {options.model}", rows)
    for (size, small), (next_size, large) in pairwise(zip(sizes, rows, strict=True)):
        if "CPU s" in small and size in SIZES and next_size in SIZES:
            grown = SIZES[next_size].events / SIZES[size].events
            slope = np.log(float(str(large["CPU s"])) / float(str(small["CPU s"]))) / np.log(grown)
            report.say(f"From {size} to {next_size} CPU seconds grow with events to the power {slope:.2f}.")


def _alone(measurement: str, size: str, model: str) -> Mapping[str, object]:
    """One measurement in a process of its own, with an empty cache of fits."""
    with tempfile.TemporaryDirectory() as cache:
        if size in SIZES and measurement != "environment":
            log_file(size)  # the log itself is kept
        environment = os.environ | {"OMP_NUM_THREADS": "1", "RIMSIM_SCALE_CACHE": cache}
        command = [sys.executable, __file__, measurement, size, "--model", model, "--one"]
        interpreter = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, object] = json.loads(interpreter.stdout.splitlines()[-1])
    return row


def _measured(measurement: str, size: str, model: str) -> dict[str, object]:
    source = "" if measurement == "environment" else str(log_file(size))
    os.environ["RIMSIM_CACHE"] = os.environ["RIMSIM_SCALE_CACHE"]
    if measurement == "environment":
        return _environment(model)
    if measurement == "engine":
        return _engine(size, source, model)
    return _compared(measurement, size, source, model)


def _environment(model: str) -> dict[str, object]:
    """The default environment, slates of the ten most relevant items: a first episode, and one with all code loaded."""
    env, making = timed(lambda: gymnasium.make("RIMMarket-v0", settings={"platform.model": model}))
    (seen, _), first = timed(lambda: env.reset(seed=0))
    steps, took, alone = _episode(env, seen)
    (seen, _), again = timed(lambda: env.reset(seed=1))
    more_steps, took_again, alone_again = _episode(env, seen)
    return {
        "model": model,
        "items": len(seen["relevance"]),
        "steps": steps,
        "steps / CPU s": steps / took,
        "of the environment alone": steps / alone,
        "make, s": making,
        "first reset, s": first,
        "next reset, s": again,
        "then steps / CPU s": more_steps / took_again,
        "alone": more_steps / alone_again,
    }


def _episode(env: gymnasium.Env[Any, Any], seen: Any) -> tuple[int, float, float]:
    """Steps of an episode, its CPU seconds, and those without choosing slates."""
    steps = 0
    choosing = 0.0
    is_over = False
    start = time.process_time()
    while not is_over:
        begin = time.process_time()
        slate = np.argpartition(seen["relevance"], -10)[-10:]
        choosing += time.process_time() - begin
        seen, _, is_over, _, _ = env.step(slate)
        steps += 1
    took = time.process_time() - start
    return steps, took, took - choosing


def _engine(size: str, source: str, model: str) -> dict[str, object]:
    """A replay of a made-up log in waves of 128 by ``relevance``; the model is fitted before."""
    settings = {"data.source": source, "platform.model": model, "platform.calibration": "seen"}
    config = override(find_scenario("online-match"), settings, origin="settings")
    _served(Market(config), 512)  # code is compiled
    market, opening = timed(lambda: Market(config))
    n = market.n_arrivals - 128
    took = cpu(lambda: _served(market, n))
    return {
        "size": size,
        "model": model,
        "items": market.n_items,
        "arrivals": n,
        "arrivals / CPU s": n / took,
        "opening a market, s": opening,
        "peak, MiB": peak_memory(),
    }


def _served(market: Market, arrivals: int) -> None:
    """Serve at least so many arrivals of a round, and not all of it."""
    agent = make_agent("relevance")
    agent.begin_round(market.round_view())
    while market.served < arrivals:
        coming = market.next_arrivals(64, in_waves=True)
        market.serve(coming, agent.act(coming))


def _compared(scenario: str, size: str, source: str, model: str) -> dict[str, object]:
    """A whole comparison from an empty cache."""
    with tempfile.TemporaryDirectory() as out, Sampler(0.01, cost_of) as costs:
        took = cpu(
            lambda: rimsim.compare(
                scenario,
                AGENTS,
                data=source,
                rounds=3,
                seeds=1,
                workers=1,
                out=Path(out) / "run",
                settings={"platform.model": model},
            )
        )
    largest = costs.largest(5)
    return {
        "size": size,
        "CPU s": took,
        "peak, MiB": peak_memory(),
        "largest costs, s": ", ".join(f"{name} {seconds:.0f}" for name, seconds in largest),
    }


if __name__ == "__main__":
    main()
