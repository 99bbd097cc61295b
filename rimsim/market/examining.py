"""What the platform takes for γ, the decay of examination by position: told, guessed, or estimated from its log."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Bools, Ints
from rimsim.errors import ConfigError
from rimsim.evaluation import DecayEstimate, decay_of_counts, decay_of_slates, taken_by_position

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.market.ledger import Ledger
    from rimsim.market.records import Slates


@dataclass(frozen=True, eq=False)
class Examined:
    """What the platform's rounds so far have told of γ."""

    counts: Ints
    """(2, k) items shown in uniform slates, and taken of them, at each position; zeros unless they are looked at."""
    estimate: DecayEstimate | None = None
    """γ as estimated from all rounds so far; None where it is not estimated, or nothing tells of it yet."""

    @classmethod
    def nothing(cls, slate: int) -> Examined:
        """What is known before the first round is over."""
        return cls(np.zeros((2, slate), np.int64))

    def decay(self, config: ScenarioConfig) -> float:
        """γ as the platform takes it in the round that comes."""
        if config.exposure.examination == "known":
            return config.consumer.position_decay
        return config.exposure.prior_decay if self.estimate is None else self.estimate.decay

    def after(self, ledger: Ledger, known: Bools, config: ScenarioConfig) -> Examined:
        """What is known when another round is over.

        Uniform slates of all rounds are counted together; harvested estimates of rounds are independent, since each
        has levels, slopes and items of its own, and are averaged by their precision.

        Args:
            ledger: The round's.
            known: (n,) whether the platform knows by now what came of each slate.
            config: The scenario.
        """
        how = config.exposure.examination
        if how == "random":
            rows = known & ledger.uniform
            counts = self.counts + taken_by_position(ledger.item[rows], ledger.consumed[rows])
            return Examined(counts, decay_of_counts(counts))
        if how == "harvested":
            found = decay_of_slates(ledger.item[known], ledger.consumed[known], ledger.intensity[known])
            pooled = [one for one in (self.estimate, found) if one is not None]
            return dataclasses.replace(self, estimate=DecayEstimate.pooled(pooled))
        return self


def require_uniform(slates: Slates, config: ScenarioConfig) -> None:
    """Refuse an agent that never shows a uniform slate where γ is to be estimated from them.

    Raises:
        ConfigError: If it is such an agent.
    """
    if config.exposure.examination == "random" and slates.uniform is None:
        raise ConfigError(
            "exposure.examination is 'random', and this agent shows no uniform slates; allowed: an agent that does "
            "(random, epsilon-greedy, or one's own with Slates.uniform), or examination: harvested, known"
        )
