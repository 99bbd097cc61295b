"""Scenarios as typed, frozen records, read from YAML files."""

from rimsim.config.promises import AudienceConfig, CampaignConfig, GroupConfig
from rimsim.config.reading import (
    find_scenario,
    override,
    read_scenario,
    scenario_from,
    scenario_names,
    to_plain,
)
from rimsim.config.records import (
    ArrivalsConfig,
    ConsumerConfig,
    DataConfig,
    DynamicsConfig,
    ExposureConfig,
    HiddenConfig,
    LogOptions,
    LogWindow,
    PlatformConfig,
    ProvidersConfig,
    ReleasesConfig,
    ScenarioConfig,
    Seeds,
    at_seed,
)

__all__ = [
    "ArrivalsConfig",
    "AudienceConfig",
    "CampaignConfig",
    "ConsumerConfig",
    "DataConfig",
    "DynamicsConfig",
    "ExposureConfig",
    "GroupConfig",
    "HiddenConfig",
    "LogOptions",
    "LogWindow",
    "PlatformConfig",
    "ProvidersConfig",
    "ReleasesConfig",
    "ScenarioConfig",
    "Seeds",
    "at_seed",
    "find_scenario",
    "override",
    "read_scenario",
    "scenario_from",
    "scenario_names",
    "to_plain",
]
