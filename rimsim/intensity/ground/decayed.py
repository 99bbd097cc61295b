"""Exponentially decayed event counts of users, and λ(x) from them."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats
from rimsim.data.log import EventLog
from rimsim.intensity.contract import STEP, Hidden, Walk, filled_up, stepped
from rimsim.intensity.ground.contract import Ground, GroundConfig
from rimsim.intensity.states import CountExamples, UserStates

_CHUNK = 1 << 18
"""Number of events whose kernels are held in memory at once."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Scales:
    """Log-spaced time scales of exponential kernels, in seconds."""

    shortest: float = Field(default=10.0, gt=0)
    """Shortest time scale, in seconds."""
    longest: float = Field(default=1e8, gt=0)
    """Longest time scale, in seconds (1e8 are three years)."""
    number: int = Field(default=24, ge=1, le=200)
    """Number of time scales, with equal steps of their logarithm."""

    @property
    def rates(self) -> Floats:
        """(S,) decay rates β_s = 1 / scale, per second, descending."""
        return np.asarray(1.0 / np.geomspace(self.shortest, self.longest, self.number), np.float64)


class DecayedGround(Ground):
    """Ground intensities whose hidden states are decayed sums.

    A hidden state has three arrays. ``sums`` has Σ_i exp(−β_s (t_last − t_i)) over the events i of a state, for each
    decay rate β_s. ``first`` and ``last`` are the times of the first and last event in seconds, or −inf without events.
    """

    def __init__(self, config: GroundConfig, rates: Floats) -> None:
        super().__init__(config)
        self._rates = torch.from_numpy(rates.copy()).to(self.device)

    def encode(self, states: UserStates) -> Hidden:
        """Hidden states: decayed sums, times of first and last event."""
        n = len(states)
        rates = self._rates.cpu().numpy()
        lengths = states.lengths
        active = np.flatnonzero(lengths)
        first = np.full(n, -np.inf)
        last = np.full(n, -np.inf)
        first[active] = states.times[states.offsets[active]]
        last[active] = states.times[states.offsets[active + 1] - 1]
        sums = np.zeros((n, len(rates)))
        # np.add.reduceat adds only within each row's own segment. So a row's bits do not depend on its neighbours or
        # the chunk.
        begin = 0
        while begin < len(active):
            limit = states.offsets[active[begin]] + _CHUNK
            end = max(begin + 1, int(np.searchsorted(states.offsets[active + 1], limit, "right")))
            rows = active[begin:end]
            first_event = states.offsets[rows[0]]
            stop_event = states.offsets[rows[-1] + 1]
            age = np.repeat(last[rows], lengths[rows]) - states.times[first_event:stop_event]
            kernels = np.exp(-age[:, None] * rates)
            sums[rows] = np.add.reduceat(kernels, states.offsets[rows] - first_event, axis=0)
            begin = end
        return tuple(torch.from_numpy(array).to(self.device) for array in (sums, first, last))

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Sums after decay to ``times`` (seconds) and one more event."""
        del items
        times = times.to(self.device)
        sums, first, last = hidden
        age = torch.where(torch.isinf(last), 0.0, times - last)
        new_sums = self._share_after(age).mul_(sums).add_(1.0)
        return new_sums, torch.where(torch.isinf(first), times, first), times

    def walk(self, hidden: Hidden, walk: Walk) -> tuple[Hidden, Hidden]:
        """Hidden states after all events, and at times between events."""
        # This method has no loop for points between events, and works in memory of the CPU.
        if len(walk.row) or self.device.type != "cpu":
            return stepped(self, hidden, walk)
        sums, first, last = (part.numpy().copy() for part in hidden)
        changed = np.flatnonzero(np.diff(walk.offsets))  # states that get events
        begin = walk.offsets[changed]
        end = walk.offsets[changed + 1]
        time_before = np.concatenate([last[:1], walk.times[:-1]])[: len(walk.times)]
        time_before[begin] = last[changed]
        age = np.where(np.isinf(time_before), 0.0, walk.times - time_before)
        # As in :func:`stepped`, ages are filled up to whole blocks, because the last bits of a share can depend on the
        # number of rows.
        padded_age = filled_up(age, -(-len(age) // STEP) * STEP)
        remaining_share = self._share_after(torch.from_numpy(padded_age)).numpy()
        # One round per event: each state that has events left takes its next event.
        for step in range(int((end - begin).max(initial=0))):
            rows = np.flatnonzero(end - begin > step)
            sums[changed[rows]] = remaining_share[begin[rows] + step] * sums[changed[rows]] + 1.0
        first[changed] = np.where(np.isinf(first[changed]), walk.times[begin], first[changed])
        last[changed] = walk.times[end - 1]
        after = tuple(torch.from_numpy(part) for part in (sums, first, last))
        return after, tuple(part[:0] for part in hidden)

    def _share_after(self, age: torch.Tensor) -> torch.Tensor:
        """(…, S) shares exp(−β_s · age) that are left of events."""
        exponent = -age[..., None] * self._rates
        underflows = exponent < -746.0  # np.exp takes many times as long where the result underflows to 0
        return exponent.masked_fill_(underflows, 0.0).exp_().masked_fill_(underflows, 0.0)

    def features(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, 2S + 2) non-negative features of the states at instants t.

        The instant t is ``now``. Without a horizon, an instant less than ``gap`` after the last event is replaced by
        t_last + gap, because no session can begin before. The first S columns are self-excitation sums Σ_i exp(−β_s (t
        − t_i)); the next S columns are exp(−β_s (t − t_first)) of the first event. The last two columns indicate states
        with events and states without events.
        """
        sums, first, last = hidden
        instant = self._instants(now, last)
        remaining_share = self._share_after(torch.stack([instant - last, instant - first], 1))
        remaining_share[:, 0].mul_(sums)  # the sums as of the last event, decayed to t
        empty = torch.isinf(first)[:, None].to(sums.dtype)
        return torch.cat([remaining_share.flatten(1), 1.0 - empty, empty], dim=1)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class UserPopularityConfig(GroundConfig):
    """Options of λ(x) from a user's count of events."""

    smoothing: float = Field(default=0.01, gt=0)
    """Events added to every user, so that λ > 0."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EMAConfig(UserPopularityConfig):
    """Options of λ(x) from a user's decayed count of events."""

    scale: float = Field(default=86400.0, gt=0)
    """Time, in seconds, in which the weight of an event falls by the factor e."""


class UserPopularity(DecayedGround):
    """``λ(x) = c·(n_x + s)``: smoothed event count times a fitted factor.

    The factor c makes the mean λ(x) of the training states equal to their mean event count (Poisson maximum
    likelihood). The factor does not change the ranking of users. The model is the user part of ``Pop`` (Ma, Liu and
    Deoras, ICLR 2022).
    """

    kind: ClassVar[str] = "pop"
    config_class: ClassVar[type[Any]] = UserPopularityConfig
    config: UserPopularityConfig
    saved = (*DecayedGround.saved, "factor")

    def __init__(self, config: UserPopularityConfig | None = None) -> None:
        config = config or self.config_class()
        rate = 1.0 / config.scale if isinstance(config, EMAConfig) else 0.0
        super().__init__(config, np.array([rate]))
        self.factor = 0.0

    def fit_examples(self, examples: CountExamples) -> Self:
        """Fit the factor to given states and event counts."""
        self._require_events(examples)
        raw = self._activity(self.encode(examples.states), examples.states.now)
        self.factor = float(examples.counts.sum()) / float(raw.sum())
        self.rescale = 1.0
        return self

    def update(self, log: EventLog) -> Self:
        """Keep the factor, so that λ keeps its scale.

        ``rescale`` becomes the old factor divided by the refitted factor.
        """
        examples = self.examples(log)
        if examples.counts.sum():
            factor = self.factor
            self.fit_examples(examples)
            self.rescale = factor / self.factor
            self.factor = factor
        return self

    def _activity(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n,) decayed event count of each state at ``now``, plus s."""
        sums, _, last = hidden
        instant = torch.from_numpy(np.asarray(now, np.float64)).to(self.device)
        age = torch.where(torch.isinf(last), 0.0, instant - last)
        activity: torch.Tensor = sums[:, 0] * torch.exp(-age * self._rates[0]) + self.config.smoothing
        return activity

    def intensity_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n,) float32: λ of the states at ``now``."""
        factor = self._after_fit(self.factor or None)  # the factor is 0 before a fit
        return (self._activity(hidden, now) * factor).float()


class EMA(UserPopularity):
    """λ(x) = c·(Σ_i exp(−(now − t_i)/scale) + s): a decayed event count.

    The model is the exponential moving average ``EMA`` of Ma, Liu and Deoras (ICLR 2022).
    """

    kind: ClassVar[str] = "ema"
    config_class = EMAConfig
    config: EMAConfig
