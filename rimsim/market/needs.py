"""What an agent asks the market for beside what every agent is told."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True)
class Needs:
    """What is filled in for agents that declare it with an attribute ``needs_<name> = True``."""

    truth: bool = False
    """``Arrivals.true_intensity``; for bounds such as the oracle, not for contestants."""
    future: bool = False
    """``RoundView.audience``, where arrivals are not known beforehand; for bounds too."""
    items: bool = False
    """``RoundView.items``, the catalogue with titles and genres."""
    history: bool = False
    """``Arrivals.history``, what each visitor has consumed and when."""

    @classmethod
    def of(cls, *agents: object) -> Self:
        """All that one or another of some agents asks for."""
        return cls(
            **{
                need.name: any(bool(getattr(agent, f"needs_{need.name}", False)) for agent in agents)
                for need in fields(cls)
            }
        )


NO_NEEDS = Needs()
"""What every agent is told is enough."""
