"""A scenario: the record of all that defines a market but its seeds and its agents."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.config.fields import STRICT
from rimsim.config.records import (
    ArrivalsConfig,
    ConsumerConfig,
    DataConfig,
    ExposureConfig,
    PlatformConfig,
    ProvidersConfig,
    ReleasesConfig,
)
from rimsim.durations import duration_seconds
from rimsim.errors import ConfigError


@dataclass(frozen=True, config=STRICT)
class ScenarioConfig:
    """A named experiment: everything that defines a market but its seeds and its agents."""

    name: str = Field(default="scenario", description="Name of the scenario, used in run folders.")
    description: str = Field(default="", description="What it is for, one sentence.")
    rounds: int = Field(default=8, ge=1, description="Rounds of N arrivals.")
    slate: int = Field(default=10, ge=1, description="k: items shown to an arrival.")
    user_cap: int | None = Field(
        default=None,
        ge=1,
        description="Exposures that a user can get in one round, over all visits in it. Each earlier visit of the "
        "round counts as a full slate of k, filled or not, and a visit gets what is left: with 15 and k = 10, the "
        "first 10 and the second 5. The next round begins anew. null: no cap.",
    )
    data: DataConfig = Field(default=DataConfig(), description="Which log.")
    arrivals: ArrivalsConfig = Field(default=ArrivalsConfig(), description="Who arrives.")
    releases: ReleasesConfig = Field(default=ReleasesConfig(), description="Items that come on the way.")
    exposure: ExposureConfig = Field(default=ExposureConfig(), description="What is guaranteed.")
    consumer: ConsumerConfig = Field(default=ConsumerConfig(), description="The truth.")
    platform: PlatformConfig = Field(default=PlatformConfig(), description="The recommender's model.")
    providers: ProvidersConfig = Field(default=ProvidersConfig(), description="Who offers the items.")

    def __post_init__(self) -> None:
        if self.releases.last_round < self.releases.first_round:
            raise ConfigError(
                f"releases.last_round is {self.releases.last_round}, before releases.first_round, "
                f"{self.releases.first_round}; allowed: the same round or a later one"
            )
        if self.arrivals.kind not in ("clones", "broadcast", "hawkes"):
            return
        days = self.rounds * duration_seconds(self.arrivals.round_length) / 86_400
        for campaign in self.exposure.campaigns:
            if campaign.start >= days:
                raise ConfigError(
                    f"campaign {campaign.name!r}: start is day {campaign.start:g}, but the last round ends on day "
                    f"{days:g}; allowed: an earlier day, or more rounds"
                )


def at_seed(config: ScenarioConfig, seed: int) -> ScenarioConfig:
    """A scenario as it is at a seed: where its truth moves with the seed, that of this one.

    Args:
        config: The scenario.
        seed: A seed of a run.
    """
    if config.consumer.truth_seed != "seed":
        return config
    return replace(config, consumer=replace(config.consumer, truth_seed=seed))
