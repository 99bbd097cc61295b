"""Tests for parts of your own; subclass a mixin."""

from rimsim.testing.agents import AgentTests
from rimsim.testing.intensity import IntensityModelTests, random_log
from rimsim.testing.market import ArrivalTests, ConsumerTests, ProviderTests
from rimsim.testing.measures import MeasureTests, random_items

__all__ = [
    "AgentTests",
    "ArrivalTests",
    "ConsumerTests",
    "IntensityModelTests",
    "MeasureTests",
    "ProviderTests",
    "random_items",
    "random_log",
]
