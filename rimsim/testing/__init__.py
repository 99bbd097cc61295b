"""Tests for parts of one's own: subclass a mixin in a test module, name the part, run pytest."""

from rimsim.testing.intensity import IntensityModelTests, random_log

__all__ = ["IntensityModelTests", "random_log"]
