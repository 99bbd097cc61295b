"""The three ways through a market that are timed: single environment, vector environment, batch engine.

All three play the same arrivals, and what came of them is compared, so that a speed-up that changes anything fails.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from made_up import settings
from numpy.typing import NDArray
from simpy import Environment, Event

from rimsim.agents import make_agent, top_k
from rimsim.agents.prices import solved_prices
from rimsim.agents.rim_dual import RimDual
from rimsim.config import find_scenario, override
from rimsim.intensity.contract import BLOCK
from rimsim.market import Market
from rimsim.matching import price_slates

if TYPE_CHECKING:
    from rimsim.agents import Agent
    from rimsim.config import ScenarioConfig
    from rimsim.envs import MarketEnv
    from rimsim.market import RoundView
    from rimsim.market.ledger import Ledger

    Chooser = Callable[[dict[str, NDArray[Any]]], NDArray[np.int64]]

__all__ = [
    "AGENTS",
    "Hourly",
    "Played",
    "check_events",
    "closed_loop",
    "engine",
    "same_outcome",
    "single",
    "vector",
]

AGENTS = ("random", "relevance", "rim-dual")
_DRAWN = 257
"""Slates that the random policy draws beforehand."""


class _KeptPrices(RimDual):
    """``rim-dual`` whose prices are solved in the first round and kept: what is timed is serving by them."""

    def begin_round(self, view: RoundView) -> None:
        """Solve in the first round alone."""
        if not hasattr(self, "item_price"):
            super().begin_round(view)


@lru_cache(maxsize=8)
def _prices(config: ScenarioConfig) -> NDArray[np.float64]:
    """The prices of a market's first round."""
    return solved_prices(Market(config).round_view(), 1e-3)[0]


@dataclass(frozen=True, eq=False)
class Played:
    """What a stretch of arrivals took and what it left."""

    arrivals: int
    seconds: float
    """CPU seconds of serving them."""
    ledger: Ledger
    """Of the round, or of the first copy's."""
    prices: float = 0.0
    """CPU seconds of ``begin_round``."""
    ends: float = 0.0
    """CPU seconds of the call that closed the round and opened the next."""

    @property
    def rate(self) -> float:
        """Arrivals a CPU second."""
        return self.arrivals / self.seconds


def chooser(name: str, inner: MarketEnv) -> Chooser:
    """What answers observations, of one market or of a batch, as an agent of that name would."""
    k = inner.config.slate
    m = inner.n_items
    if name == "random":
        draw = np.random.default_rng(0)
        drawn = np.stack([draw.choice(m, k, replace=False) for _ in range(_DRAWN)])
        turn = 0

        def choose(seen: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
            nonlocal turn
            turn += 1
            if seen["relevance"].ndim == 1:
                return drawn[turn % _DRAWN]
            return drawn[(turn + np.arange(len(seen["relevance"]))) % _DRAWN]

    elif name == "relevance":

        def choose(seen: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
            if seen["relevance"].ndim == 1:
                return top_k(seen["relevance"][None], seen["admissible"][None], k)[0]
            return top_k(seen["relevance"], seen["admissible"], k)

    else:
        price = _prices(inner.config)

        def choose(seen: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
            score = np.atleast_2d(seen["relevance"] * seen["ground_intensity"])
            admissible = np.atleast_2d(seen["admissible"]).view(bool)
            return price_slates(score, price, k, admissible=admissible).reshape(
                (*seen["relevance"].shape[:-1], k)
            )

    return choose


def single(config: ScenarioConfig, name: str, seed: int) -> Played:
    """One round through ``gymnasium.make``, slates chosen from the observation alone."""
    made = gymnasium.make("RIMMarket-v0", scenario="closed-loop", rounds=1, settings=settings(config))
    return _through(made, name, seed)


def built_in(scenario: str, name: str, seed: int) -> tuple[Played, int]:
    """One round of a built-in scenario on the embedded log, and its number of items."""
    made = gymnasium.make("RIMMarket-v0", scenario=scenario, rounds=1)
    inner: MarketEnv = made.unwrapped  # type: ignore[assignment]  # as below
    return _through(made, name, seed), inner.n_items


def _through(env: gymnasium.Env[Any, Any], name: str, seed: int, steps_at_most: float = math.inf) -> Played:
    inner: MarketEnv = env.unwrapped  # type: ignore[assignment]  # gymnasium.make's type is any environment
    seen, _ = env.reset(seed=seed)
    choose = chooser(name, inner)
    market = inner.market
    ledger = market.ledger
    steps = 0
    emptied = 0
    is_over = False
    start = time.process_time()
    while not is_over and steps < steps_at_most:
        seen, _, is_over, _, info = env.step(choose(seen))
        steps += 1
        emptied += info["market"]["emptied"]
    took = time.process_time() - start
    _expect(
        "exposures and empty positions", int((ledger.item >= 0).sum()) + emptied, steps * inner.config.slate
    )
    return Played(steps, took, ledger)


def vector(config: ScenarioConfig, name: str, seed: int, copies: int, steps: int) -> Played:
    """So many steps of so many copies through ``gymnasium.make_vec``."""
    return _together(settings(config), name, seed, copies, steps)


def _together(changes: dict[str, object], name: str, seed: int, copies: int, steps: int) -> Played:
    envs = gymnasium.make_vec(
        "RIMMarket-v0", num_envs=copies, scenario="closed-loop", rounds=1, settings=changes
    )
    seen, _ = envs.reset(seed=seed)
    first: MarketEnv = envs.envs[0].unwrapped  # type: ignore[attr-defined]  # SyncVectorEnv
    choose = chooser(name, first)
    market = first.market
    ledger = market.ledger
    start = time.process_time()
    for _ in range(steps):
        seen, _, _, _, _ = envs.step(choose(seen))
    took = time.process_time() - start
    served = market.n_arrivals if market.done else market.served
    _expect("arrivals of the first copy", served, steps)
    return Played(copies * steps, took, ledger)


class Hourly:
    """Process that wakes each hour and changes nothing."""

    def run(self, env: Environment, market: object) -> Generator[Event, Any, None]:  # noqa: ARG002  # the contract has both
        """Wake each hour."""
        while True:
            yield env.timeout(3600)


def closed_loop(way: str, model: str, *, hourly: bool) -> Played:
    """A round of the built-in scenario, with or without an hourly process.

    A whole round has its prices and its end; the others are serving alone.
    """
    changes: dict[str, object] = {
        "platform.model": model,
        "processes": [f"{__file__}:Hourly"] if hourly else [],
    }
    if way == "engine":
        return engine(override(find_scenario("closed-loop"), changes | {"rounds": 1}), "relevance", 1)[0]
    if way == "engine, whole round":
        played = engine(override(find_scenario("closed-loop"), changes | {"rounds": 2}), "relevance", 1)[0]
        return replace(played, seconds=played.prices + played.seconds + played.ends)
    if way == "single environment":
        env = gymnasium.make("RIMMarket-v0", scenario="closed-loop", rounds=1, settings=changes)
        return _through(env, "random", 0, 1_900)
    copies = int(way.rsplit(maxsplit=1)[-1])
    return _together(changes, "random", 0, copies, 1_900 if copies < 64 else 500)


def engine(config: ScenarioConfig, name: str, rounds: int) -> list[Played]:
    """Rounds of the batch engine; prices and the ends of rounds are timed apart."""
    agent: Agent = _KeptPrices(spend=False) if name == "rim-dual" else make_agent(name)
    market = Market(config)
    played = []
    while market.round < rounds and not market.done:
        n = market.n_arrivals
        ledger = market.ledger
        started = time.process_time()
        agent.begin_round(market.round_view())
        ready = time.process_time()
        while market.served < n:
            arrivals = market.next_arrivals(BLOCK, in_waves=True, ahead=True)
            slates = agent.act(arrivals)
            if market.served + len(arrivals) == n:
                break
            market.serve(arrivals, slates)
        solved = time.process_time()
        market.serve(arrivals, slates)
        ended = time.process_time()
        market.closed.clear()
        _expect("exposures", int((ledger.item >= 0).sum()), n * config.slate)
        played.append(Played(n, solved - ready, ledger, ready - started, ended - solved))
    return played


def check_events(config: ScenarioConfig) -> int:
    """Count the SimPy events of a round and fail unless each has its reason.

    An event per arrival, and one that ends the round.
    """
    step = Environment.step
    steps = 0

    def counted_step(clock: Environment) -> None:
        nonlocal steps
        steps += 1
        step(clock)

    Environment.step = counted_step  # type: ignore[method-assign]  # for as long as this counts
    try:
        [played] = engine(config, "random", 1)
    finally:
        Environment.step = step  # type: ignore[method-assign]
    _expect("events of the clock", steps, played.arrivals + 1)
    return steps


def same_outcome(expected: Ledger, ledger: Ledger, served: int, path: str) -> None:
    """Fail where two paths did not show and sell the same to the same arrivals."""
    for column in ("item", "consumed", "intensity"):
        mine = getattr(expected, column)[:served]
        theirs = getattr(ledger, column)[:served]
        if not np.array_equal(mine, theirs, equal_nan=column == "intensity"):
            raise AssertionError(f"{path}: the ledgers differ in {column}")


def _expect(counted: str, count: int, expected: int) -> None:
    if count != expected:
        raise AssertionError(f"{count} {counted}; expected {expected}")
