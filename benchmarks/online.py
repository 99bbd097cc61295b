"""Online agents beside the hindsight optimum: ``python benchmarks/online.py [--data LOG] [--periods N] …``.

Prints the tables of docs/agents.md. Every period has N arrivals, states of the log's users scored by a model fitted to
the whole log, and required exposures at β; an agent knows the states of the period before. Two arrival mixes:
*stationary*, and *drifting*, where the share of users with mainstream taste moves as a wave between .1 and .9 within
and over the periods. Values are relative to the optimum of the whole period, solved in hindsight; the certificate is
computed from the slates alone. ``--speed`` prints what an arrival costs instead, ``--chances`` what exact propensities
of a period do. Set OMP_NUM_THREADS=1 for one core.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from cpu_and_memory import median_timed, timed
from matching import skewed
from numpy.typing import NDArray
from online_periods import MIXES, Calibrated, Source, rows_of
from scipy import stats

from rimsim.agents import Agent, make_agent
from rimsim.market import Arrivals, RoundView
from rimsim.market.records import as_slates
from rimsim.matching import certificate, required_exposure, solve_dual, top_k
from rimsim.measures import mean_weight, position_weights

if TYPE_CHECKING:
    from online_periods import Period

    from rimsim.matching import Certificate, DualSolution

AGENTS = (
    "relevance",
    "random",
    "flat-budget",
    "rim-dual",
    "rim-dual(spend=False)",
    "rim-feedback",
    "rim-feedback(closing=0.05)",
    "rim-feedback(gain=1.0,closing=0)",
    "rim-feedback(gain=0.25,closing=0)",
    "rim-resolve",
    "entropic-dual",
    "p-mmf",
    "fair-rec",
)
BATCH = 100
SERVED = 64  # as many as the engine hands an agent at once
COLUMNS = ("value %", "score %", "shortfall %", "items met %", "worst ratio", "s a period")


def played(agent: Agent, period: Period) -> NDArray[np.int64]:
    """(N, k) an agent's slates in a period."""
    agent.begin_round(period.view)
    n = period.view.arrivals
    batches = (slice(first, min(first + BATCH, n)) for first in range(0, n, BATCH))
    return np.concatenate([as_slates(agent.act(rows_of(period.arrivals, rows))).items for rows in batches])


def certified(period: Period, slates: NDArray[np.int64], price: NDArray[np.float64]) -> Certificate:
    """The certificate of a period's slates at some prices."""
    view = period.view
    return certificate(
        period.scores, slates, view.k, view.required, price, view.cost, admissible=period.admissible
    )


def measured(agent: Agent, period: Period, best: DualSolution) -> list[float]:
    """One row of results: an agent in a period whose hindsight optimum is given, and with it the best bound."""
    slates, seconds = timed(lambda: played(agent, period))
    proof = certified(period, slates, best.item_price)
    return [
        100 * proof.value / best.primal,
        100 * proof.score / best.primal,
        100 * proof.shortfall_share,
        100 * proof.items_met / max(proof.items_required, 1),
        proof.worst_ratio,
        seconds,
    ]


def table(source: Source, mix: str, number: int, names: tuple[str, ...]) -> None:
    """Print the table of one arrival mix: means over periods ± half a 95% interval."""
    agents = {name: make_agent(name) for name in names}
    figures: dict[str, list[list[float]]] = {name: [] for name in (*names, "hindsight")}
    for period in source.periods(mix, number):
        view = period.view
        start = time.process_time()
        end = solve_dual(
            period.scores,
            view.k,
            view.required,
            admissible=period.admissible,
            cost=view.cost,
            tol=1e-5,
            tie_seed=view.key,
        )
        seconds = time.process_time() - start
        proof = certified(period, end.slates, end.item_price)
        met = 100 * proof.items_met / max(proof.items_required, 1)
        short = 100 * proof.shortfall_share
        figures["hindsight"].append([100.0, 100.0, short, met, proof.worst_ratio, seconds])
        for name, agent in agents.items():
            figures[name].append(measured(agent, period, end))
    print(f"\n**{mix}: {number} periods of {source.n:,} arrivals, {source.items:,} items, k = {source.k}**\n")
    print("| agent | " + " | ".join(COLUMNS) + " |")
    print("|---|" + "---:|" * len(COLUMNS))
    for name, rows in figures.items():
        values = np.array(rows)
        half = stats.t.ppf(0.975, len(rows) - 1) * values.std(0, ddof=1) / len(rows) ** 0.5
        cells = [
            f"{m:.2f} ±{h:.2f}" if i < len(COLUMNS) - 1 else f"{m:.2f}"
            for i, (m, h) in enumerate(zip(values.mean(0), half, strict=True))
        ]
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)


def median_microseconds(call: Callable[[], object], n: int, repeats: int) -> float:
    """µs an arrival, median of some runs over n arrivals."""
    return median_timed(call, repeats)[1] / n * 1e6


def speed(repeats: int) -> None:
    """Ranking, price update and guard of an arrival at 3,706 items over a round, beside a plain top k of its scores."""
    scores = skewed()[:2000]
    n, m = scores.shape
    admissible = np.random.default_rng(0).random(scores.shape) < 0.9
    arrivals = Arrivals(
        id=np.arange(n),
        time=np.arange(n, dtype=np.float64),
        user=np.arange(n),
        relevance=torch.from_numpy(np.where(admissible, scores, np.float32(0))),
        ground_intensity=torch.ones(n),
        admissible=torch.from_numpy(admissible),
        row=np.arange(n),
    )
    plain = arrivals.intensity
    array = plain.numpy()
    batches = [rows_of(arrivals, slice(row, min(row + SERVED, n))) for row in range(0, n, SERVED)]
    singles = [rows_of(arrivals, slice(row, row + 1)) for row in range(n)]
    print("| k | arrivals | call | µs an arrival | / top_k | / torch.topk | / numpy.argpartition |")
    print("|---:|---|---|---:|---:|---:|---:|")
    for k in (10, 37):
        weights = position_weights(0.85, k)
        view = RoundView(
            round=0,
            arrivals=n,
            slate=k,
            required=required_exposure(0.5, n, k, np.ones(m, bool), 0) * mean_weight(weights),
            exposure=np.zeros(m),
            cost=2.0 * float(plain.topk(k, 1).values[:, -1].median()),
            popularity=np.zeros(m, np.int64),
            calibration=Calibrated(arrivals),
            key=1,
            position_weights=weights,
            unit="examined",
        )
        for kind, parts in (("one at a time", singles), (f"{SERVED} at once", batches)):
            calls: dict[str, Callable[[], object]] = {
                "`top_k`": lambda parts=parts, k=k: [top_k(p.relevance, p.admissible, k) for p in parts],
                "`torch.topk`": lambda parts=parts, k=k: [p.relevance.topk(k, 1) for p in parts],
                "`numpy.argpartition`": lambda k=k: [np.argpartition(row, m - k)[m - k :] for row in array],
            }
            micro = {name: median_microseconds(call, n, repeats) for name, call in calls.items()}
            for hard in (False, True):
                agent = make_agent("rim-feedback(tol=0.01)")
                agent.begin_round(dataclasses.replace(view, hard=hard))
                micro["`rim-feedback`" + (", hard" if hard else "")] = served_microseconds(
                    agent, parts, n, repeats
                )
            for name, value in micro.items():
                beside = " | ".join(f"{value / base:.2f}" for base in list(micro.values())[:3])
                print(f"| {k} | {kind} | {name} | {value:.1f} | {beside} |", flush=True)


def served_microseconds(agent: Agent, parts: list[Arrivals], n: int, repeats: int) -> float:
    """µs an arrival of a whole round, median of some runs, each from the round's beginning."""
    seconds = []
    for _ in range(repeats + 1):  # the first one compiles
        fresh = copy.deepcopy(agent)
        start = time.process_time()
        for part in parts:
            fresh.act(part)
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:]) / n * 1e6


def chances(source: Source, repeats: int) -> None:
    """CPU seconds of all four propensities of a period: of slates as they are drawn, and of another agent's slates."""
    period = next(source.periods("stationary", 1))
    n, m = period.scores.shape
    played_slates = played(make_agent("epsilon-greedy(epsilon=0.5)"), period)
    print(f"{m:,} items, k = {source.k}, {n:,} arrivals, medians of {repeats}; CPU s")
    print("| agent | slates drawn, with their chances | chances of given slates |")
    print("|---|---:|---:|")
    for name in ("random", "epsilon-greedy", "entropic-dual"):
        agent = make_agent(name)
        agent.begin_round(period.view)
        drawn_seconds, given_seconds = (
            median_timed(call, repeats)[1]
            for call in (
                lambda agent=agent: copy.deepcopy(agent).act(period.arrivals),
                lambda agent=agent: agent.chance_of(played_slates, period.arrivals),
            )
        )
        print(f"| `{name}` | {drawn_seconds:.2f} | {given_seconds:.2f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="ml-latest-small", help="log: a name, a folder, a file")
    parser.add_argument("--min-item-events", type=int, default=30)
    parser.add_argument("--model", default="gru-hp")
    parser.add_argument("--arrivals", type=int, default=2000, help="N of a period")
    parser.add_argument("--slate", type=int, default=10, help="k")
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--cost", type=float, default=2.0, help="c, in median k-th scores")
    parser.add_argument("--periods", type=int, default=20)
    parser.add_argument("--mix", choices=MIXES, help="one mix only")
    parser.add_argument(
        "--agents", default=";".join(AGENTS), help="agents with their options, split by semicolons"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", action="store_true", help="what an arrival costs, and nothing else")
    parser.add_argument(
        "--chances", action="store_true", help="what exact propensities cost, and nothing else"
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of which these take the median")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.speed:
        speed(chosen.repeats)
        return
    source = Source(
        chosen.data,
        chosen.min_item_events,
        chosen.arrivals,
        chosen.slate,
        chosen.beta,
        chosen.cost,
        chosen.model,
        chosen.seed,
    )
    if chosen.chances:
        chances(source, chosen.repeats)
        return
    for mix in MIXES if chosen.mix is None else (chosen.mix,):
        table(source, mix, chosen.periods, tuple(chosen.agents.split(";")))


if __name__ == "__main__":
    main()
