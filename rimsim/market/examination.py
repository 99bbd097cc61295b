"""Examination: evidence from which the platform estimates γ."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rimsim.arrays import Bools, Ints
from rimsim.config import ScenarioConfig
from rimsim.errors import ConfigError
from rimsim.evaluation import DecayEstimate, decay_of_counts, decay_of_slates, taken_by_position
from rimsim.market.ledger import Ledger


@dataclass(frozen=True, eq=False)
class Examined:
    """Evidence from which γ, the decay of examination, is estimated."""

    counts: Ints
    """(2, k) number of items that uniform slates showed at each position, and number of those consumed; 0 if
    examination is not estimated from uniform slates."""
    estimate: DecayEstimate | None = None
    """Estimate of γ from all rounds so far; None before the first round, or if γ is known."""

    @classmethod
    def nothing(cls, slate: int) -> Examined:
        """Evidence before the first round is over."""
        return cls(np.zeros((2, slate), np.int64))

    def decay(self, config: ScenarioConfig) -> float:
        """Value of γ that the platform uses next round."""
        if config.exposure.examination == "known":
            return config.consumer.position_decay
        return config.exposure.prior_decay if self.estimate is None else self.estimate.decay

    def after(self, ledger: Ledger, is_settled: Bools, config: ScenarioConfig) -> Examined:
        """Evidence after a further round, from slates with known outcomes."""
        # Counts of uniform slates add up over rounds. Harvested estimates of different rounds are independent, because
        # each has its own levels, slopes and items. So they are averaged by their precision.
        examination = config.exposure.examination
        if examination == "random":
            is_evidence = is_settled & ledger.uniform
            counts = self.counts + taken_by_position(ledger.item[is_evidence], ledger.consumed[is_evidence])
            return Examined(counts, decay_of_counts(counts))
        if examination == "harvested":
            estimate = decay_of_slates(
                ledger.item[is_settled], ledger.consumed[is_settled], ledger.intensity[is_settled]
            )
            estimates = [estimate for estimate in (self.estimate, estimate) if estimate is not None]
            return replace(self, estimate=DecayEstimate.pooled(estimates))
        return self


def require_uniform(uniform: Bools | None, config: ScenarioConfig) -> None:
    """Refuse agents without uniform slates if γ is estimated.

    Raises:
        ConfigError: If the agent shows no uniform slates, but γ is estimated from uniform slates.
    """
    if config.exposure.examination == "random" and uniform is None:
        raise ConfigError(
            "exposure.examination is 'random', but this agent shows no uniformly random slates. Set examination "
            "to 'harvested' or 'known', or choose the agent random, epsilon-greedy or your own agent that "
            "sets Slates.uniform"
        )
