"""Agents that know p(y|x) alone: λ(x) is replaced by its mean over past states, everything else stays.

With them one sees what λ(x) does to who carries the guarantees: ``python benchmarks/who_pays.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from rimsim.agents import RimDual, RimFeedback

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView, Slates


class _Flat:
    """Past states whose λ(x) is the same for all."""

    def __init__(self, chunks: list[Arrivals], level: float) -> None:
        self._chunks = [_flat(chunk, level) for chunk in chunks]

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self._chunks)

    def __iter__(self) -> Iterator[Arrivals]:
        return iter(self._chunks)


def _flat(arrivals: Arrivals, level: float) -> Arrivals:
    return dataclasses.replace(arrivals, ground_intensity=torch.full_like(arrivals.ground_intensity, level))


def _flat_view(view: RoundView) -> tuple[RoundView, float]:
    chunks = list(view.past)
    level = float(torch.cat([chunk.ground_intensity for chunk in chunks]).double().mean())
    return dataclasses.replace(view, calibration=_Flat(chunks, level)), level


class FeedbackOnP(RimFeedback):
    """rim-feedback that ranks by p(y|x) − v."""

    name = "feedback-on-p"

    def begin_round(self, view: RoundView) -> None:
        """As its parent, on flattened states."""
        flat, self._level = _flat_view(view)
        super().begin_round(flat)

    def act(self, arrivals: Arrivals) -> Slates:
        """As its parent, on flattened arrivals."""
        return super().act(_flat(arrivals, self._level))


class DualOnP(RimDual):
    """rim-dual that ranks by p(y|x) − v."""

    name = "dual-on-p"

    def begin_round(self, view: RoundView) -> None:
        """As its parent, on flattened states."""
        flat, self._level = _flat_view(view)
        super().begin_round(flat)

    def act(self, arrivals: Arrivals) -> Slates:
        """As its parent, on flattened arrivals."""
        return super().act(_flat(arrivals, self._level))
