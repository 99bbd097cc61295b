"""Model of users who take their own items again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats
from rimsim.data.log import EventLog
from rimsim.intensity.contract import FromHidden, Hidden, caller_owns, in_blocks, require_targets, resolved
from rimsim.intensity.habits.law import usual_popularity
from rimsim.intensity.habits.next_sessions import NextSessions
from rimsim.intensity.habits.own_counts import (
    LEAST,
    USUAL,
    dense_counts,
    fitted_decay,
    own_counts,
    own_shares_at,
)
from rimsim.intensity.persistence import Stored
from rimsim.intensity.states import UserStates

_UNSEEN = 0.1
"""Share of popularity without held-out sessions."""
_STEPS = 100
"""Number of steps in the fit of the share of popularity."""
_BOUNDS = (1e-3, 1.0 - 1e-3)
"""Bounds of the share of popularity, so that every item keeps a chance."""


class OwnCounts:
    """Hidden states of decayed own counts, and their steps.

    A hidden state has the counts (n, M) as of the last event, the time of this event in seconds (−∞ without events),
    and the number of events.
    """

    def __init__(self, n_items: int, half_life: float, device: torch.device) -> None:
        self.n_items = n_items
        self.half_life = half_life
        self.device = device

    def encode(self, states: UserStates) -> Hidden:
        """Hidden states of n user states."""
        counts = dense_counts(states, self.n_items, self.half_life)
        last = np.full(len(states), -np.inf)
        active = np.flatnonzero(states.lengths)
        last[active] = states.times[states.offsets[active + 1] - 1]
        lengths = states.lengths.astype(np.float32)
        return tuple(torch.from_numpy(array).to(self.device) for array in (counts, last, lengths))

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Hidden states after one more event each."""
        counts, last, n_events = hidden
        times = times.to(self.device)
        items = items.to(self.device)
        age = torch.where(torch.isinf(last), 0.0, times - last).clamp(min=0.0)
        share = torch.exp2(-age / self.half_life).to(counts.dtype)
        # A consumed item keeps a count above 0, so that it never turns into an unconsumed item.
        decayed_counts = torch.where(counts > 0, (counts * share[:, None]).clamp(min=LEAST), 0.0)
        rows = torch.arange(len(items), device=self.device)
        decayed_counts[rows, items] += 1.0
        return decayed_counts, torch.maximum(times, last), n_events + 1.0


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class OwnConfig:
    """Options of the model of own counts."""

    half_life: float | None = Field(default=None, gt=0)
    """Half-life of own counts, in seconds; none: chosen on held-out next sessions."""
    unseen: float | None = Field(default=None, gt=0, lt=1)
    """Share of popularity in p(y|x); none: chosen on held-out next sessions."""
    session_gap: str = "30min"
    """Inactivity gap that ends a session."""
    seed: int = Field(default=0, ge=0)
    """Seed of held-out sessions."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""


class OwnHistory(FromHidden, Stored):
    """``p(y|x) = (1 − ε)·Σ_j 2^(−Δ_j/h) / Σ_i Σ_j 2^(−Δ_j/h) + ε·popularity``, λ(x) = 1.

    The inner sums are over the user's own events with y, or with i. A user without events gets the popularity. The
    half-life h and the share ε are those that make the items of held-out next sessions likeliest. An update changes the
    popularity alone, because users' own events are in their states.
    """

    kind: ClassVar[str] = "own"
    config_class: ClassVar[type[Any]] = OwnConfig
    takes_weights: ClassVar[bool] = True

    def __init__(self, config: OwnConfig | None = None) -> None:
        self.config = config or OwnConfig()
        self.device = resolved(self.config.device)
        self.half_life = USUAL
        """Half-life h in seconds."""
        self.unseen = _UNSEEN
        """Share ε of popularity."""
        self._popularity: torch.Tensor | None = None

    def fit(self, log: EventLog) -> Self:
        """Choose h and ε on held-out sessions, then count."""
        require_targets(log, self.kind)
        config = self.config
        self.half_life = config.half_life or USUAL
        self.unseen = config.unseen or _UNSEEN
        is_configured = config.half_life is not None and config.unseen is not None
        held = None if is_configured else NextSessions.of(log, config.session_gap, config.seed)
        if held is not None and held.is_repeat.any():
            self.half_life = config.half_life or fitted_decay(held).half_life
            self.unseen = config.unseen or fitted_unseen(held, self.half_life)
        self._count(log)
        return self

    def _count(self, log: EventLog) -> None:
        """Keep the popularity of a log."""
        self._popularity = torch.from_numpy(usual_popularity(log).astype(np.float32)).to(self.device)

    def update(self, log: EventLog) -> Self:
        """Count only the new log's target events, if any."""
        if log.targets.any():
            self._count(log)
        return self

    def settled(self) -> OwnHistory:
        """Unfitted model with the same half-life and share."""
        config = self.config
        return OwnHistory(
            OwnConfig(
                half_life=self.half_life,
                unseen=self.unseen,
                session_gap=config.session_gap,
                seed=config.seed,
                device=config.device,
            )
        )

    def _counts(self) -> OwnCounts:
        """Hidden states of this model."""
        return OwnCounts(len(self._after_fit(self._popularity)), self.half_life, self.device)

    def encode(self, states: UserStates) -> Hidden:
        """Decayed counts, times of the last event, numbers of events."""
        return self._counts().encode(states)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Hidden states with one more event in each."""
        return self._counts().step(hidden, items, times)

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32: p(y|x) of each state; rows sum to 1."""
        del now  # the ratios of decayed counts do not change between events
        return in_blocks(self._probabilities, hidden[0])

    def _probabilities(self, counts: torch.Tensor) -> torch.Tensor:
        """(BLOCK, M) p(y|x) of a block of counts."""
        total = counts.sum(1, keepdim=True)
        popularity = self._after_fit(self._popularity)
        unseen = torch.where(total > 0, self.unseen, 1.0)
        return (1.0 - unseen) * counts / total.clamp(min=LEAST) + unseen * popularity

    def tensors(self) -> dict[str, torch.Tensor]:
        """Popularity."""
        return {} if self._popularity is None else {"popularity": self._popularity}

    def extra(self) -> dict[str, Any]:
        """Half-life and share of popularity."""
        return {"half_life": self.half_life, "unseen": self.unseen}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Load popularity, half-life and share."""
        popularity = tensors.get("popularity")
        self._popularity = None if popularity is None else popularity.to(self.device)
        self.half_life = float(extra["half_life"])
        self.unseen = float(extra["unseen"])


def fitted_unseen(held: NextSessions, half_life: float) -> float:
    """Share of popularity that makes items of next sessions likeliest."""
    counts = own_counts(held.states, held.past.n_items, half_life)
    p_by_counts = own_shares_at(counts, held.row, held.item)
    p_by_popularity = usual_popularity(held.past)[held.item]
    share = 0.5
    # Expectation-maximisation for a mixture of two known distributions.
    for _ in range(_STEPS):
        from_popularity = share * p_by_popularity
        share = float((from_popularity / (from_popularity + (1.0 - share) * p_by_counts)).mean())
    return float(np.clip(share, *_BOUNDS))
