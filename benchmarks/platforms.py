"""Which platform should be the default? ``python benchmarks/platforms.py [LOG] [OPTIONS]``.

The protocol: each candidate plays the closed loop under ``relevance`` and ``rim-feedback``. It is judged by what a
platform can see of itself in the late half of the rounds:

* consumptions per arrival under either agent,
* calibration: predicted over observed consumptions of shown items, by first and by returning visits; the worse of
  both ratios, as a factor of at least 1, pooled over late rounds, the worse of both agents,
* seconds of CPU a round, of both agents together.

A candidate is dominated if another one is at least as good by all three and better by one, where consumptions count as
equal within the paired 95% interval over seeds, calibration and seconds within a tenth.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from rimsim.agents import make_agent, market_for, play_round
from rimsim.config import ScenarioConfig, Seeds, find_scenario, override
from rimsim.intensity import RIM, Bag, BagConfig, Visits
from rimsim.market.records import as_slates
from rimsim.measures import mean_interval

if TYPE_CHECKING:
    from rimsim.arrays import Floats
    from rimsim.data import EventLog
    from rimsim.intensity import IntensityModel
    from rimsim.intensity.sets.personal import Arrays
    from rimsim.market import Arrivals, RoundView, Slates

__all__ = ["biases", "fast", "still"]

AGENTS = ("relevance", "rim-feedback")
THREE = "three rounds, topped up"
LARGE = "three rounds, topped up to 15,000 events"
WHOLE = "whole log"
WINDOWS = {
    THREE: {"rounds": 3, "warmup": "top-up", "size": 3000},
    LARGE: {"rounds": 3, "warmup": "top-up", "size": 15_000},
    WHOLE: {"rounds": None, "warmup": "all"},
}
MODELS = (
    "bag-visits",
    "benchmarks/platforms.py:fast",
    "benchmarks/platforms.py:biases",
    "benchmarks/platforms.py:still",
    "factors-visits",
    "ease-visits",
    "als-visits",
)


class _Biases(Bag):
    """Bag whose updates learn biases alone."""

    def _updated(self, log: EventLog) -> Arrays:
        arrays = super()._updated(log)
        return arrays | {name: self.served(name).cpu().numpy() for name in ("read", "predicted")}


def biases(seed: int, device: str) -> IntensityModel:
    """The default platform, but for vectors that updates leave alone."""
    return RIM(mark=_Biases(BagConfig(seed=seed, device=device)), ground=Visits())


def still(seed: int, device: str) -> IntensityModel:
    """The default platform, but for a model that stays as it was fitted."""
    return RIM(mark=Bag(BagConfig(seed=seed, device=device, update_steps=0)), ground=Visits())


def fast(seed: int, device: str) -> IntensityModel:
    """The default platform with ten times the step size of updates."""
    rate = 10 * BagConfig().update_learning_rate
    return RIM(mark=Bag(BagConfig(seed=seed, device=device, update_learning_rate=rate)), ground=Visits())


class Outcome(NamedTuple):
    """One market, late rounds."""

    consumed: float
    """Consumptions per arrival."""
    events: Floats
    """(2, 2) predicted and observed consumptions, of first and returning visits."""
    seconds: float
    """CPU seconds a round."""


class _Watched:
    """Agent whose predictions for shown items are kept."""

    def __init__(self, name: str, examination: Floats) -> None:
        self._agent = make_agent(name)
        self._examination = examination
        self.predicted: list[Floats] = []
        self.name = self._agent.name
        self.order_free = self._agent.order_free
        self.barrier_every = self._agent.barrier_every
        self.needs_history = True
        self.first: list[Floats] = []
        self.index: list[Floats] = []

    def begin_round(self, view: RoundView) -> None:
        self._agent.begin_round(view)

    def act(self, arrivals: Arrivals) -> Slates:
        slates = as_slates(self._agent.act(arrivals))
        shown = torch.from_numpy(np.maximum(slates.items, 0))
        rate = arrivals.intensity.gather(1, shown).double().numpy() * self._examination
        self.predicted.append(np.where(slates.items >= 0, -np.expm1(-rate), 0.0).sum(1))
        self.first.append(arrivals.history.lengths == 0)  # type: ignore[union-attr]
        self.index.append(arrivals.row)
        return slates


def played(config: ScenarioConfig, name: str, seed: int) -> Outcome:
    """Late half of a market."""
    agent = _Watched(name, config.consumer.position_decay ** np.arange(config.slate))
    market = market_for(agent, config, seeds=Seeds.all(seed))
    consumed = []
    events = np.zeros((2, 2))
    begin = 0.0
    while not market.done:
        number = market.round
        if number == 1:  # the first round compiles and has no retraining before it
            begin = time.process_time()
        play_round(market, agent)
        taken = market.closed.pop().ledger.consumed.sum(1)
        if number >= config.rounds // 2:
            consumed.append(taken.mean())
            first = np.concatenate(agent.first)
            predicted = np.concatenate(agent.predicted)
            consumed_rows = taken[np.concatenate(agent.index)]
            for kind, rows in enumerate((first, ~first)):
                events[kind] += predicted[rows].sum(), consumed_rows[rows].sum()
        for record in (agent.first, agent.predicted, agent.index):
            record.clear()
    return Outcome(float(np.mean(consumed)), events, (time.process_time() - begin) / (config.rounds - 1))


class Candidate(NamedTuple):
    """A platform, judged."""

    name: str
    consumed: Floats
    """(agents, seeds) consumptions per arrival."""
    calibration: float
    """Worst factor between predicted and observed."""
    seconds: float
    """CPU seconds a round, both agents."""


def judged(name: str, config: ScenarioConfig, seeds: int) -> Candidate:
    """Candidate over some seeds."""
    outcomes = [[played(config, agent, seed) for seed in range(seeds)] for agent in AGENTS]
    events = np.array([np.sum([outcome.events for outcome in of], axis=0) for of in outcomes])
    ratio = np.abs(np.log(events[..., 0] / events[..., 1]))
    consumed = np.array([[outcome.consumed for outcome in of] for of in outcomes])
    seconds = sum(float(np.median([outcome.seconds for outcome in of])) for of in outcomes)
    return Candidate(name, consumed, float(np.exp(ratio.max())), seconds)


def dominates(candidate: Candidate, rival: Candidate) -> bool:
    """True if ``one`` is as good everywhere and better somewhere."""
    gain = [mean_interval(list(row)) for row in candidate.consumed - rival.consumed]
    factors = candidate.calibration / rival.calibration, candidate.seconds / rival.seconds
    better = [part.low > 0 for part in gain] + [factor < 1 / 1.1 for factor in factors]
    worse = [part.high < 0 for part in gain] + [factor > 1.1 for factor in factors]
    return any(better) and not any(worse)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", nargs="?", default="ml-latest-small")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", default=",".join(MODELS), help="models, separated by commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = override(find_scenario("closed-loop"), {"data.source": options.log, "rounds": options.rounds})
    candidates: list[Candidate] = []
    print(
        "| model | log window | `relevance` | `rim-feedback` | calibration | CPU s a round |\n"
        "|---|---|---:|---:|---:|---:|"
    )
    for model in options.only.split(","):
        for window, fields in WINDOWS.items():
            changes = {"platform.model": model} | {
                f"platform.log_window.{key}": value for key, value in fields.items()
            }
            candidate = judged(f"{model}, {window}", override(base, changes), options.seeds)
            candidates.append(candidate)
            cells = [
                f"{part.mean:.3f} ±{part.high - part.mean:.3f}"
                for part in map(mean_interval, candidate.consumed.tolist())
            ]
            row = " | ".join(cells)
            print(
                f"| `{model.rpartition(':')[2]}` | {window} | {row} "
                f"| {candidate.calibration:.2f} | {candidate.seconds:.2f} |",
                flush=True,
            )
    for candidate in candidates:
        by = [rival.name for rival in candidates if dominates(rival, candidate)]
        said = f"dominated by {by[0]} and {len(by) - 1} others" if by else "not dominated"
        print(f"\n{candidate.name}: {said}")


if __name__ == "__main__":
    main()
