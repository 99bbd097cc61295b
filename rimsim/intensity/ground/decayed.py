"""Exponentially decayed sums over a user's own events: what Hawkes-type intensities know of a state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats

if TYPE_CHECKING:
    from rimsim.intensity.contract import Hidden
    from rimsim.intensity.states import UserStates


_CHUNK = 1 << 18
"""Events whose kernels are held in memory at once."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Scales:
    """Log-spaced time scales of exponential kernels, in seconds."""

    shortest: float = Field(default=10.0, gt=0, description="Shortest time scale, seconds.")
    longest: float = Field(
        default=1e8, gt=0, description="Longest time scale, seconds (1e8 are three years)."
    )
    number: int = Field(default=24, ge=1, le=200, description="How many scales, log-spaced.")

    @property
    def rates(self) -> Floats:
        """(S,) decay rates β_s = 1 / scale, per second, descending."""
        return np.asarray(1.0 / np.geomspace(self.shortest, self.longest, self.number), np.float64)


def encode(states: UserStates, rates: Floats, device: torch.device) -> Hidden:
    """Decayed sums of the states' events at each state's last event.

    Returns:
        ``sums`` (n, S) float64 with Σ_i exp(−β_s (t_last − t_i)) over the events i of the state, ``first``
        (n,) and ``last`` (n,) float64 times of the first and last event in seconds, −inf where there is none.
    """
    n = len(states)
    lengths = states.lengths
    active = np.flatnonzero(lengths)
    first, last = np.full(n, -np.inf), np.full(n, -np.inf)
    first[active] = states.times[states.offsets[active]]
    last[active] = states.times[states.offsets[active + 1] - 1]
    sums = np.zeros((n, len(rates)))
    # reduceat adds within each row's own segment, so a row's bits do not depend on its neighbours or the
    # chunk.
    begin = 0
    while begin < len(active):
        limit = states.offsets[active[begin]] + _CHUNK
        end = max(begin + 1, int(np.searchsorted(states.offsets[active + 1], limit, "right")))
        rows = active[begin:end]
        a, b = states.offsets[rows[0]], states.offsets[rows[-1] + 1]
        age = np.repeat(last[rows], lengths[rows]) - states.times[a:b]
        sums[rows] = np.add.reduceat(np.exp(-age[:, None] * rates), states.offsets[rows] - a, axis=0)
        begin = end
    return tuple(torch.from_numpy(array).to(device) for array in (sums, first, last))


def step(hidden: Hidden, times: torch.Tensor, rates: torch.Tensor) -> Hidden:
    """The hidden states after one more event each at ``times`` (n,), seconds: O(S) a row."""
    sums, first, last = hidden
    age = torch.where(torch.isinf(last), 0.0, times - last)
    faded = sums * torch.exp(-age[:, None] * rates)
    return faded + 1.0, torch.where(torch.isinf(first), times, first), times


def features(hidden: Hidden, now: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
    """(n, 2S + 2) float64 non-negative features of the states at ``now`` (n,).

    In this order: S self-excitation sums Σ_i exp(−β_s (now − t_i)), S terms exp(−β_s (now − t_first)) of
    the first event, an indicator of a state with events, and one of a state without.
    """
    sums, first, last = hidden
    excited = sums * torch.exp(-(now - last)[:, None] * rates)
    start = torch.exp(-(now - first)[:, None] * rates)
    empty = torch.isinf(first)[:, None].to(sums.dtype)
    return torch.cat([excited, start, 1.0 - empty, empty], dim=1)
