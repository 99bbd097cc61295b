"""Popularity that forgets with a half-life."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats
from rimsim.data.log import EventLog
from rimsim.intensity.contract import (
    FromHidden,
    Hidden,
    WithoutUserState,
    caller_owns,
    require_targets,
    resolved,
)
from rimsim.intensity.habits.law import usual_popularity
from rimsim.intensity.habits.local_rate import HALF_LIVES, SMOOTHING, SMOOTHINGS, RateHistory, smoothed
from rimsim.intensity.habits.next_sessions import NextSessions
from rimsim.intensity.persistence import Stored
from rimsim.intensity.popularity import learned
from rimsim.intensity.states import UserStates


class RateMemory:
    """Local rates that a model remembers, and its usual popularity."""

    def __init__(self, history: RateHistory, popularity: Floats) -> None:
        self.history = history
        """Target events of the last log."""
        self.popularity = popularity
        """(M,) usual shares of items."""

    @classmethod
    def of(cls, log: EventLog, half_life: float) -> RateMemory:
        """Memory after a fit to a log."""
        return cls(RateHistory.of_log(log, half_life), usual_popularity(log))

    def after(self, log: EventLog, memory: float) -> RateMemory:
        """Memory after an update to a new log.

        Rates are then those of the new log alone. The usual popularity is a posterior mean, in which the earlier
        popularity counts as ``memory`` events.
        """
        log_popularity = learned(np.log(self.popularity).astype(np.float32), log, memory)
        popularity = np.exp(log_popularity.astype(np.float64))
        return RateMemory(RateHistory.of_log(log, self.history.half_life), popularity / popularity.sum())

    def tensors(self) -> dict[str, torch.Tensor]:
        """Arrays for saving."""
        history = self.history
        return {
            "rate_item": torch.from_numpy(history.item),
            "rate_time": torch.from_numpy(history.time),
            "rate_weight": torch.from_numpy(history.weight),
            "usual": torch.from_numpy(self.popularity),
        }

    @classmethod
    def restored(cls, tensors: Mapping[str, torch.Tensor], half_life: float) -> RateMemory:
        """Memory from saved arrays."""
        item, time, weight, usual = (
            tensors[name].cpu().numpy() for name in ("rate_item", "rate_time", "rate_weight", "usual")
        )
        return cls(RateHistory.of(item, time, weight, len(usual), half_life), usual)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RecentConfig:
    """Options of popularity with a half-life."""

    half_life: float | None = Field(default=None, gt=0)
    """Half-life of an event's weight, in seconds; none: chosen on held-out next sessions."""
    smoothing: float | None = Field(default=None, gt=0)
    """Number of events per item that are added, spread like the usual popularity; none: chosen on held-out next
    sessions."""
    memory: float = Field(default=10_000.0, gt=0)
    """Weight of the usual popularity before an update, as a number of events."""
    session_gap: str = "30min"
    """Inactivity gap that ends a session."""
    seed: int = Field(default=0, ge=0)
    """Seed of held-out sessions."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""


class RecentPopularity(WithoutUserState, FromHidden, Stored):
    """``p(y|t) ∝ Σ_j 2^(−(t − t_j)/h) + s·M·popularity_y`` over events j of y, λ(x) = 1.

    The sum is over target events before the instant t of the state. The half-life h and the smoothing s are those that
    make the items of held-out next sessions likeliest. While no event comes, the decayed sums become small, so p
    returns to the popularity in the whole log. An update replaces the events by those of the new log.
    """

    kind: ClassVar[str] = "recent"
    config_class: ClassVar[type[Any]] = RecentConfig
    depends_on_state: ClassVar[bool] = False
    takes_weights: ClassVar[bool] = True

    def __init__(self, config: RecentConfig | None = None) -> None:
        self.config = config or RecentConfig()
        self.device = resolved(self.config.device)
        self.half_life = np.inf
        """Half-life h in seconds."""
        self.smoothing = SMOOTHING
        """Smoothing s."""
        self._memory: RateMemory | None = None

    def fit(self, log: EventLog) -> Self:
        """Choose h and s on held-out sessions, then count."""
        require_targets(log, self.kind)
        config = self.config
        self.half_life = config.half_life or np.inf
        self.smoothing = config.smoothing or SMOOTHING
        is_configured = config.half_life is not None and config.smoothing is not None
        held = None if is_configured else NextSessions.of(log, config.session_gap, config.seed)
        if held is not None:
            self.half_life, self.smoothing = chosen_memory(
                held,
                HALF_LIVES if config.half_life is None else (config.half_life,),
                SMOOTHINGS if config.smoothing is None else (config.smoothing,),
                repeatable=log.repeatable,
            )
        self._memory = RateMemory.of(log, self.half_life)
        return self

    def update(self, log: EventLog) -> Self:
        """Replace the events by new target events, if any."""
        if log.targets.any():
            self._memory = self._after_fit(self._memory).after(log, self.config.memory)
        return self

    def settled(self) -> RecentPopularity:
        """Unfitted model with the same half-life and smoothing."""
        config = self.config
        return RecentPopularity(
            RecentConfig(
                half_life=self.half_life,
                smoothing=self.smoothing,
                memory=config.memory,
                session_gap=config.session_gap,
                seed=config.seed,
                device=config.device,
            )
        )

    def encode(self, states: UserStates) -> Hidden:
        """Empty hidden states of a fitted model."""
        self._after_fit(self._memory)
        return super().encode(states)

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32: p(y|t) at ``now``; rows sum to 1."""
        del hidden
        memory = self._after_fit(self._memory)
        shares = smoothed(memory.history.before(now), memory.popularity, self.smoothing)
        return torch.from_numpy(shares.astype(np.float32)).to(self.device)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Events and usual popularity."""
        return {} if self._memory is None else self._memory.tensors()

    def extra(self) -> dict[str, Any]:
        """Half-life and smoothing."""
        return {"half_life": self.half_life, "smoothing": self.smoothing}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Load events, popularity, half-life and smoothing."""
        self.half_life = float(extra["half_life"])
        self.smoothing = float(extra["smoothing"])
        self._memory = RateMemory.restored(tensors, self.half_life) if tensors else None


def chosen_memory(
    held: NextSessions, half_lives: tuple[float, ...], smoothings: tuple[float, ...], *, repeatable: bool
) -> tuple[float, float]:
    """Half-life and smoothing that make items of next sessions likeliest.

    Unless the log is repeatable, only new items count, and p is over unconsumed items.
    """
    popularity = usual_popularity(held.past)
    is_counted = np.ones(len(held.row), bool) if repeatable else ~held.is_repeat
    row = held.row[is_counted]
    item = held.item[is_counted]
    consumed = None if repeatable else held.consumed()
    best = (-np.inf, half_lives[-1], smoothings[0])
    for half_life in half_lives if len(row) else ():
        counts = RateHistory.of_log(held.past, half_life).before(held.states.now)
        for smoothing in smoothings:
            shares = smoothed(counts, popularity, smoothing)
            log_p = np.log(shares[row, item])
            if consumed is not None:
                log_p -= np.log(np.maximum(1.0 - (shares * consumed).sum(1), 1e-12))[row]
            best = max(best, (float(log_p.mean()), half_life, smoothing))
    return best[1], best[2]
