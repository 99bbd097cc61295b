"""Tests for parts of one's own: subclass a mixin in a test module, name the part, run pytest."""

from rimsim.testing.agents import AgentTests
from rimsim.testing.arrivals import ArrivalTests
from rimsim.testing.consumers import ConsumerTests
from rimsim.testing.intensity import IntensityModelTests, random_log
from rimsim.testing.measures import MeasureTests, random_items
from rimsim.testing.providers import ProviderTests

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
