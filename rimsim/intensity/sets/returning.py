"""Popularity in later sessions: what users take when they come back, whoever they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats
from rimsim.intensity.device import resolved
from rimsim.intensity.popularity import Popularity

if TYPE_CHECKING:
    from rimsim.data.log import EventLog


def log_returning(log: EventLog, gap: str, prior: float) -> Floats:
    """(M,) log p(y) ∝ log(r_y + prior·M·p_y) with r_y the target events with y in users' later sessions.

    Args:
        log: The log.
        gap: A silence longer than this ends a session.
        prior: How many events an item, on average, the popularity p in all target events counts for. Where no user came
            back it is all there is.
    """
    goal, weight = log.targets, log.weights
    every = np.bincount(log.item[goal], weight[goal], log.n_items) + prior
    sessions = log.sessions(gap)
    opening = np.full(log.n_users, -1)
    opening[sessions.user[::-1]] = np.arange(len(sessions))[::-1]  # sorted by start: the first one stays
    later = goal & (sessions.of_event != opening[log.user])
    counts = np.bincount(log.item[later], weight[later], log.n_items)
    counts = counts + prior * log.n_items * every / every.sum()
    return np.asarray(np.log(counts / counts.sum()), np.float64)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ReturningConfig:
    """Options of popularity in later sessions."""

    session_gap: str = Field(default="30min", description="A silence longer than this ends a session.")
    prior: float = Field(
        default=0.5, gt=0, description="Events an item that popularity in all events counts for."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")


class Returning(Popularity):
    """p(y|x) ∝ r_y + prior·M·p_y for every state x, and λ(x) = 1.

    r_y counts the target events with item y in users' sessions after their first one, p is popularity in all target
    events. What users take when they come back is not what they take first, and an arrival in the market is mostly a
    user who comes back. :meth:`update` is exact: it equals a fit on the new log.
    """

    kind: ClassVar[str] = "returning"
    config: ReturningConfig

    def __init__(self, config: ReturningConfig | None = None) -> None:
        super().__init__()
        self.config = config or ReturningConfig()
        self.device = resolved(self.config.device)

    def fit(self, log: EventLog) -> Self:
        """Count the target events of the log's later sessions."""
        p = np.exp(log_returning(log, self.config.session_gap, self.config.prior))
        self._p = torch.from_numpy(p.astype(np.float32)).to(self.device)
        return self
