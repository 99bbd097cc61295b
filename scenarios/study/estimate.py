"""Computing time of a study, estimated from samples."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import process_time

from rimsim.config import ScenarioConfig, override
from rimsim.errors import RimsimError, one_line
from rimsim.market import build_world
from rimsim.market.world import expected_arrivals
from rimsim.scenarios.report.numbers import duration_words
from rimsim.scenarios.runs.arms import Arm
from rimsim.scenarios.runs.execution import Execution
from rimsim.scenarios.study.plan import Study
from rimsim.scenarios.study.play import prepare, run_arm
from rimsim.system import cores, cpu_seconds

FEW_ARRIVALS = 100
"""Number of arrivals per round in the short samples."""
MANY_ARRIVALS = 500
"""Number of arrivals per round in the long sample."""
FACTOR = 1.6
"""Largest factor between an estimate and the actual time that the text states. In four runs (a comparison with
certificates, one without, a replay and a sweep), an estimate was 0.73 to 1.26 times the CPU time without pictures."""


@dataclass(frozen=True)
class ArmCost:
    """CPU seconds of an arm."""

    setup: float
    per_round: float
    per_arrival: float

    def of(self, rounds: int, arrivals: int) -> float:
        """CPU seconds for numbers of rounds and of all arrivals."""
        return self.setup + rounds * self.per_round + arrivals * self.per_arrival


def time_line(study: Study, execution: Execution) -> str:
    """Text about the time; the reason without an estimate."""
    if execution.backend != "local":
        return f"no estimate for the backend {execution.backend}"
    # A run and each worker begin with the work that this process has done so far, so its CPU time is part of theirs.
    # With several workers, this work is done twice one after another: by the main process, then by all workers at once.
    preparation = process_time()
    arms = [arm for plan in study.plans for arm in plan.arms]
    workers = min(execution.workers or cores(), len(arms))
    try:
        elapsed = preparation * (1 if workers == 1 else 2) + _arm_seconds(study, arms) / workers
    except RimsimError as error:
        return f"no estimate, because a sample failed: {one_line(error)}"
    sizes = f"{FEW_ARRIVALS} and {MANY_ARRIVALS} arrivals per round"
    low = duration_words(elapsed / FACTOR)
    high = duration_words(elapsed * FACTOR)
    return (
        f"about {duration_words(elapsed)} on {workers} idle core{'s' * (workers > 1)} ({low} to {high}) and then the "
        f"pictures, by samples of each agent with {sizes}"
    )


def _arm_seconds(study: Study, arms: list[Arm]) -> float:
    """CPU seconds of all arms and their fits."""
    # All points of a sweep have the same agents, so arms of the first point and seed are sampled.
    first_arms = study.plans[0].arms
    with tempfile.TemporaryDirectory() as folder:
        sample = dataclasses.replace(first_arms[0], folder=Path(folder))
        fit = cpu_seconds(partial(prepare, sample, _ignore))
        costs = {
            arm.agent: _arm_cost(dataclasses.replace(arm, folder=Path(folder), shared=None))
            for arm in first_arms
            if arm.control is None and arm.seed == first_arms[0].seed
        }
    n_fits = len({(arm.config.platform, arm.config.data, arm.config.arrivals, arm.seed) for arm in arms})
    arrivals = {config: expected_arrivals(config) for config in dict.fromkeys(arm.config for arm in arms)}
    # A control takes as long as its agent, so both have the same cost.
    playing = sum(costs[arm.agent].of(arm.config.rounds, arrivals[arm.config]) for arm in arms)
    return (n_fits - 1) * fit + playing  # the sample has put the first fit into the cache


def _arm_cost(arm: Arm) -> ArmCost:
    """Cost of an arm, from three samples.

    A sample of R rounds with n arrivals each takes setup + R·(per_round + n·per_arrival) seconds. The differences of
    the samples give the three terms; below 0, they are noise.
    """
    one_round = _sample(arm, rounds=1, arrivals=FEW_ARRIVALS)
    two_rounds = _sample(arm, rounds=2, arrivals=FEW_ARRIVALS)
    two_large_rounds = _sample(arm, rounds=2, arrivals=MANY_ARRIVALS)
    per_arrival = max(two_large_rounds - two_rounds, 0.0) / (2 * (MANY_ARRIVALS - FEW_ARRIVALS))
    second_round = max(two_rounds - one_round, 0.0)
    per_round = max(second_round - FEW_ARRIVALS * per_arrival, 0.0)
    setup = max(one_round - second_round, 0.0)
    return ArmCost(setup=setup, per_round=per_round, per_arrival=per_arrival)


def _sample(arm: Arm, *, rounds: int, arrivals: int) -> float:
    """CPU seconds of a shortened arm."""
    config = _shortened(arm.config, rounds, arrivals)
    build_world(config)  # a process builds the world only once, so it does not belong to the cost of an arm
    sample_arm = dataclasses.replace(arm, config=config, name=f"{arm.name}-{rounds}-{arrivals}")
    return cpu_seconds(partial(run_arm, sample_arm, _ignore))


def _shortened(config: ScenarioConfig, rounds: int, arrivals: int) -> ScenarioConfig:
    """Scenario with other numbers of rounds and arrivals per round.

    Campaigns begin at once, because a late one would start after the last round. Numbers of exposures become shares,
    because few arrivals could not deliver them.
    """
    small_share = 0.1 / max(len(config.exposure.campaigns), 1)
    campaigns = tuple(
        dataclasses.replace(
            campaign,
            exposures=None,
            share=campaign.share or small_share,
            start=0.0,
            stop=None if campaign.stop is None or campaign.first else campaign.stop - campaign.start,
        )
        for campaign in config.exposure.campaigns
    )
    early = dataclasses.replace(config, exposure=dataclasses.replace(config.exposure, campaigns=campaigns))
    return override(early, {"rounds": rounds, "arrivals.per_round": arrivals}, origin="sample")


def _ignore(_: int) -> None:
    """Ignore a report of progress."""
