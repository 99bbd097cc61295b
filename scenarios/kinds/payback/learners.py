"""Learners of a payback map: settings of ``platform.learning`` by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from rimsim.config import LearningConfig, PlatformConfig


@dataclass(frozen=True)
class Learner:
    """Way in which the platform learns item effects."""

    name: str
    """Name in options, tables and pictures."""
    learning: LearningConfig
    """Value of ``platform.learning``."""


_ALL = (
    Learner("sd-0.3", LearningConfig(slope=0.0, sd=0.3, answer="mean")),
    Learner("estimated", LearningConfig(slope=0.0, sd="estimated", answer="mean")),
    Learner(
        "estimated-slope",
        LearningConfig(slope="estimated", sd="estimated", answer="mean"),
    ),
    Learner("sd-2", LearningConfig(slope=0.0, sd=2.0, answer="mean")),
    Learner("thompson", LearningConfig(slope=0.0, sd="estimated", answer="sample")),
    Learner("ucb", LearningConfig(slope=0.0, sd="estimated", answer="quantile")),
)
LEARNERS: Mapping[str, Learner] = MappingProxyType({learner.name: learner for learner in _ALL})
"""Learner by name, from the learner whose item effects change least to those that explore by themselves."""


def reference_of(learners: Sequence[str]) -> str:
    """Learner that others are compared with.

    It is the learner with the platform's defaults, or else the first.
    """
    usual_learning = PlatformConfig().learning
    return next((name for name in learners if LEARNERS[name].learning == usual_learning), learners[0])
