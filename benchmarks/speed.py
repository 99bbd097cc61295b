"""Arrivals per second of every way through the market: ``python benchmarks/speed.py``.

Clones of the users of made-up logs, a personalised GRU with Hawkes-Poisson intensities, five visits a user at most,
the ledger on; CPU seconds on one core, medians of several rounds. The first run fits the models, minutes; they are
kept. Tables are printed and saved as Parquet, with a page of markdown beside them. Exposures, events of the clock and
outcomes are asserted equal along all ways, so that a faster engine that does something else fails here.

``python benchmarks/speed.py beside --peers`` compares single environments with others alone;
``python benchmarks/speed.py processes`` compares ``closed-loop`` with and without a process that wakes each hour;
``python benchmarks/speed.py million`` plays a million arrivals in one process and draws speed and memory by round.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from log_pages import LOG
from made_up import SIZES, scenario
from speed_paths import (
    AGENTS,
    Played,
    built_in,
    check_events,
    closed_loop,
    engine,
    same_outcome,
    single,
    vector,
)
from speed_peers import peer_python, sardine, yardsticks
from speed_tables import Report, peak_memory, reset_peak, resident_memory

from rimsim.agents import make_agent
from rimsim.config import find_scenario
from rimsim.intensity import GRU, RIM, UserStates
from rimsim.intensity.contract import BLOCK
from rimsim.market import Market
from rimsim.scenarios.runs.files import write_table

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig

COPIES = (8, 64)
STEPS = {8: 3_000, 64: 1_500}
"""Steps of a vector environment that are timed, from a round's beginning on."""
GROWTH_USERS = (500, 1_000, 2_000)
GROWTH_ITEMS = (425, 850, 1_700)
GROWTH_SLATES = (5, 10, 20, 40)
GROWTH_ARRIVALS = (3_000, 6_000, 12_000, 24_000)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="?", choices=("tables", "beside", "processes", "million"), default="tables"
    )
    parser.add_argument("--out", type=Path, help="folder of the tables; default runs/bench-TIME")
    parser.add_argument(
        "--repeats", type=int, default=3, help="rounds that medians are taken over (default 3)"
    )
    parser.add_argument(
        "--peers", action="store_true", help="measure sardine-rec too, installed with pip on first use"
    )
    parser.add_argument(
        "--small", action="store_true", help="the smaller market only, whose models are fitted soon"
    )
    parser.add_argument(
        "--log", action="store_true", help="beside, processes: write the table into the log, too"
    )
    parser.add_argument("--rounds", type=int, default=20, help="million: rounds that the arrivals come in")
    options = parser.parse_args()
    if options.log and options.what not in {"beside", "processes"}:
        parser.error("--log is only for beside and processes")
    torch.set_num_threads(1)
    out = options.out or Path("runs") / time.strftime("bench-%Y%m%d-%H%M%S")
    if options.what == "million":
        million(Report(out, "A million arrivals in one process"), options.rounds)
        return
    report = Report(out, "Speed of the market", LOG / "speed.md" if options.log else None)
    sizes = SIZES[:1] if options.small else SIZES
    if options.what == "beside":
        beside(report, sizes, options.repeats, peers=options.peers)
        return
    if options.what == "processes":
        processes(report, options.repeats)
        return
    paths(report, sizes, options.repeats)
    beside(report, sizes, options.repeats, peers=options.peers)
    yardstick(report, sizes, options.repeats)
    growth(report)
    report.say(f"Saved in {out}.")


def _rate(played: list[Played]) -> float:
    return statistics.median(episode.rate for episode in played)


def paths(report: Report, sizes: tuple[tuple[int, int], ...], repeats: int) -> None:
    """Every way through the market with every agent."""
    rows: list[dict[str, object]] = []
    for users, items in sizes:
        config = scenario(users, items, rounds=repeats + 1)
        check_events(config)
        for name in AGENTS:
            memory: dict[str, float] = {}
            ways: dict[str, list[Played]] = {}
            gc.collect()
            reset_peak()
            ways["single environment"] = [single(config, name, seed) for seed in range(repeats + 1)]
            memory["single environment"] = peak_memory()
            for copies in COPIES:
                reset_peak()
                ways[f"vector environment, {copies}"] = [vector(config, name, 0, copies, STEPS[copies])]
                memory[f"vector environment, {copies}"] = peak_memory()
                gc.collect()
            reset_peak()
            ways["engine"] = engine(config, name, repeats + 1)
            memory["engine"] = peak_memory()
            _compare_outcomes(ways, name)
            base = _rate(ways["single environment"][1:])
            for way, played in ways.items():
                rate = _rate(played[1:] or played)
                rows.append(
                    {
                        "users × items × slate": f"{users:,} × {items:,} × {config.slate}",
                        "way": way,
                        "agent": name,
                        "of single": rate / base,
                        "arrivals / CPU s": rate,
                        "µs an arrival": 1e6 / rate,
                        "prices, s": max(episode.prices for episode in played),
                        "round's end, s": statistics.median(episode.ends for episode in played),
                        "peak memory, MiB": memory[way],
                    }
                )
            print(
                "\n".join(f"{row['way']}, {name}: {row['arrivals / CPU s']:,.0f}" for row in rows[-4:]),
                flush=True,
            )
    report.table("paths", "Ways through the market", rows)


def _compare_outcomes(ways: dict[str, list[Played]], name: str) -> None:
    """The same seed shows and sells the same along every way; frozen prices come from one solver but two tie rules."""
    first = ways["single environment"][0]
    for way, played in ways.items():
        if way.startswith("vector"):
            same_outcome(first.ledger, played[0].ledger, STEPS[int(way.split()[-1])], f"{way}, {name}")
        elif way == "engine" and name == "relevance":
            same_outcome(first.ledger, played[0].ledger, len(first.ledger.item), f"{way}, {name}")


def beside(report: Report, sizes: tuple[tuple[int, int], ...], repeats: int, *, peers: bool) -> None:
    """Peers and yardsticks; ours and theirs take turns."""
    rows: list[dict[str, object]] = [
        {
            "what": f"{name}, gymnasium.make",
            "items": "",
            "policy": "",
            "steps / CPU s": rate,
            "ours / theirs": float("nan"),
        }
        for name, rate in yardsticks().items()
    ]
    python = peer_python() if peers else "sardine-rec is measured with --peers"
    made_up = {f"clones, {users:,} users": (partial(single, scenario(users, m)), m) for users, m in sizes}
    embedded = {
        name: (lambda *arguments, name=name: built_in(name, *arguments)[0], built_in(name, AGENTS[0], 0)[1])
        for name in ("closed-loop", "online-match")
    }
    for scenario_name, (play, items) in (embedded | made_up).items():
        ours: dict[str, list[float]] = {name: [] for name in AGENTS[:2]}
        theirs: dict[str, list[float]] = {name: [] for name in AGENTS[:2]}
        for seed in range(repeats):
            for name, rates in ours.items():
                rates.append(play(name, seed).rate)
            if isinstance(python, Path):
                for name, rate in sardine(python, items).items():
                    theirs[name].append(rate)
        for name, rates in ours.items():
            mine = statistics.median(rates)
            rows.append(
                _beside(f"rimsim, single environment, {scenario_name}", items, name, mine, float("nan"))
            )
            if theirs[name]:
                their_rate = statistics.median(theirs[name])
                rows.append(_beside("sardine-rec", items, name, their_rate, mine / their_rate))
    report.table("beside", "Beside others, in the same run", rows)
    if not isinstance(python, Path):
        report.say(f"Not measured: {python}.")


def _beside(scenario_name: str, items: int, policy: str, rate: float, ratio: float) -> dict[str, object]:
    return {
        "what": scenario_name,
        "items": f"{items:,}",
        "policy": policy,
        "steps / CPU s": rate,
        "ours / theirs": ratio,
    }


def processes(report: Report, repeats: int) -> None:
    """Speed with an hourly process that changes nothing, in pairs of runs."""
    rows: list[dict[str, object]] = []
    # Under ``hp`` an arrival takes the least time, so that a wake weighs most.
    for model in ("hp", find_scenario("closed-loop").platform.model):
        for way in (
            "engine",
            "engine, whole round",
            "single environment",
            *(f"vector environment, {copies}" for copies in COPIES),
        ):
            pairs = []
            for number in range(repeats + 1):
                order = (False, True) if number % 2 else (True, False)
                played = {hourly: closed_loop(way, model, hourly=hourly) for hourly in order}
                same_outcome(
                    played[False].ledger,
                    played[True].ledger,
                    len(played[True].ledger.item),
                    f"{way}, {model}",
                )
                pairs.append((played[False].rate, played[True].rate))
            pairs = pairs[1:]  # the first pair compiles kernels and fits models
            ratios = [woken / plain for plain, woken in pairs]
            rows.append(
                {
                    "model": model,
                    "way": way,
                    "arrivals / CPU s": statistics.median(plain for plain, _ in pairs),
                    "with an hourly process": statistics.median(woken for _, woken in pairs),
                    "ratio, median of pairs": statistics.median(ratios),
                    "least": min(ratios),
                    "largest": max(ratios),
                }
            )
    report.table("processes", "An hourly process that changes nothing, closed-loop", rows)


def yardstick(report: Report, sizes: tuple[tuple[int, int], ...], repeats: int) -> None:
    """The bare matrix product and top-k on the tensors of the market's model, and the engine beside them."""
    rows: list[dict[str, object]] = []
    for users, items in sizes:
        config = scenario(users, items, rounds=repeats + 1)
        market = Market(config)
        mark = market.model.mark if isinstance(market.model, RIM) else None
        if not isinstance(mark, GRU):
            raise TypeError(f"the market's mark model is a {type(mark).__name__}; expected a GRU")
        vectors = mark.network.item.detach()
        bias = mark.network.bias.detach()
        past = market.world.past
        states = UserStates.of(past, np.arange(BLOCK), np.full(BLOCK, market.world.opening))
        hidden = mark.encode(states)[0]
        blocks = (config.arrivals.per_round or BLOCK) // BLOCK
        times = []
        for _ in range(repeats):
            start = time.process_time()
            for _ in range(blocks):
                torch.addmm(bias, hidden, vectors.T).topk(config.slate, 1)
            times.append((time.process_time() - start) / (blocks * BLOCK))
        bare = statistics.median(times)
        for name in AGENTS[1:]:
            took = 1 / _rate(engine(config, name, repeats + 1)[1:])
            rows.append(
                {
                    "users × items": f"{users:,} × {items:,}",
                    "agent": name,
                    "engine / bare": took / bare,
                    "engine, µs an arrival": 1e6 * took,
                    "bare product and top-k, µs": 1e6 * bare,
                }
            )
    report.table("bare", "The engine and the bare matrix product with top-k", rows)


def growth(report: Report) -> None:
    """How the cost of an arrival grows, as slopes of its logarithm."""
    rows: list[dict[str, object]] = []

    def slope(of: str, sizes: tuple[int, ...], configs: list[ScenarioConfig], way: str) -> None:
        costs = []
        for config in configs:
            played = engine(config, "relevance", 3)[1:] if way == "engine" else _singles(config)
            costs.append(1e6 / _rate(played))
        exponent = float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
        rows.append(
            {
                "way": way,
                "grows": of,
                "from": f"{sizes[0]:,}",
                "to": f"{sizes[-1]:,}",
                "slope": exponent,
                "µs an arrival": " → ".join(f"{cost:.0f}" for cost in costs),
            }
        )

    for way in ("engine", "single environment"):
        slope("items", GROWTH_ITEMS, [scenario(500, size) for size in GROWTH_ITEMS], way)
        slope("users", GROWTH_USERS, [scenario(size, 850) for size in GROWTH_USERS], way)
        slope("slate", GROWTH_SLATES, [scenario(500, 850, slate=size) for size in GROWTH_SLATES], way)
        slope(
            "arrivals a round",
            GROWTH_ARRIVALS,
            [scenario(500, 850, per_round=n) for n in GROWTH_ARRIVALS],
            way,
        )
    played = engine(scenario(500, 850, rounds=17), "relevance", 16)[1:]
    costs = [1e6 / episode.rate for episode in played]
    exponent = float(np.polyfit(np.log(np.arange(2, 17)), np.log(costs), 1)[0])
    rows.append(
        {
            "way": "engine",
            "grows": "rounds",
            "from": "2",
            "to": "16",
            "slope": exponent,
            "µs an arrival": f"{costs[0]:.0f} → {costs[-1]:.0f}",
        }
    )
    report.table("growth", "Growth of the cost of an arrival: slope on log-log axes (0 flat, 1 linear)", rows)


def _singles(config: ScenarioConfig) -> list[Played]:
    return [single(config, "relevance", seed) for seed in range(2)]


def million(report: Report, rounds: int) -> None:
    """A million arrivals, served by ``relevance``, ledgers written as the runner writes them."""
    users, items = SIZES[-1]
    config = scenario(users, items, rounds=rounds, per_round=1_000_000 // rounds)
    market = Market(config)
    agent = make_agent("relevance")
    rows: list[dict[str, object]] = []
    start = time.process_time()
    served = 0
    exposures = 0
    written = 0
    with tempfile.TemporaryDirectory() as folder:
        while not market.done:
            number = market.round
            n = market.n_arrivals
            began = time.process_time()
            agent.begin_round(market.round_view())
            while True:
                batch = market.next_arrivals(BLOCK, in_waves=True)
                slates = agent.act(batch)
                if market.served + len(batch) == n:
                    break
                market.serve(batch, slates)
            serving = time.process_time() - began
            market.serve(batch, slates)  # closes the round and opens the next
            ledger = market.closed.pop().ledger
            table = ledger.table(agent.name, 0, number)
            file = Path(folder) / f"{number:03d}.parquet"
            write_table(file, table.assign(agent=table["agent"].astype(str)))
            served = served + n
            exposures = exposures + len(table)
            written = written + file.stat().st_size
            del ledger, table
            rows.append(
                {
                    "round": number + 1,
                    "arrivals": served,
                    "served / CPU s": n / serving,
                    "with the round's end and files": n / (time.process_time() - began),
                    "resident memory, MiB": resident_memory(),
                    "peak memory so far, MiB": peak_memory(),
                }
            )
            print(rows[-1], flush=True)
    took = time.process_time() - start
    if exposures != served * config.slate:
        raise AssertionError(f"{exposures} exposures for {served} arrivals of {config.slate}")
    report.say(
        f"{served:,} arrivals over {users:,} users × {items:,} items × {config.slate}, `relevance`, rounds' ends and "
        f"the ledger's Parquet files included: {took:,.0f} CPU s, {served / took:,.0f} arrivals / CPU s; "
        f"{written / exposures:.1f} bytes of Parquet an exposure."
    )
    report.table("million", "By round", rows)


if __name__ == "__main__":
    sys.exit(main())
