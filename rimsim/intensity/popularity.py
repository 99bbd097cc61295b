"""Popularity: every user draws items by how often they were consumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats
from rimsim.intensity.contract import caller_owns
from rimsim.intensity.device import resolved
from rimsim.intensity.persistence import Stored
from rimsim.intensity.refusals import not_fitted

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import Hidden
    from rimsim.intensity.states import UserStates


def log_popularity(log: EventLog, smoothing: float) -> Floats:
    """(M,) log p(y) ∝ log(n_y + smoothing), n_y the target events with item y, each with its weight."""
    goal = log.targets
    counts = np.bincount(log.item[goal], log.weights[goal], log.n_items) + smoothing
    return np.asarray(np.log(counts / counts.sum()), np.float64)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PopularityConfig:
    """Options of popularity."""

    smoothing: float = Field(default=0.01, gt=0, description="Events added to every item, so that p(y) > 0.")
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")


class Popularity(Stored):
    """p(y|x) = (n_y + s) / Σ_z (n_z + s) for every state x, and λ(x) = 1.

    n_y counts the target events with item y, each with its weight. With s = .01 it is the ``Pop`` baseline of Ma, Liu
    and Deoras (ICLR 2022). :meth:`update` is exact: it equals a fit on the new log.
    """

    kind: ClassVar[str] = "popularity"
    depends_on_state: ClassVar[bool] = False
    takes_weights: ClassVar[bool] = True

    def __init__(self, config: PopularityConfig | None = None) -> None:
        self.config = config or PopularityConfig()
        self.device = resolved(self.config.device)
        self._p: torch.Tensor | None = None

    def fit(self, log: EventLog) -> Self:
        """Count the target events of the log."""
        p = np.exp(log_popularity(log, self.config.smoothing))
        self._p = torch.from_numpy(p.astype(np.float32)).to(self.device)
        return self

    def update(self, log: EventLog) -> Self:
        """Count the target events of the new log alone, as :meth:`fit` does; without any, change nothing."""
        return self.fit(log) if log.targets.any() else self

    @property
    def probability(self) -> torch.Tensor:
        """(M,) p(y).

        Raises:
            ModelError: Before a fit.
        """
        if self._p is None:
            raise not_fitted(self.kind)
        return self._p

    def score(self, states: UserStates) -> torch.Tensor:
        """(n, M) the same row for every state."""
        return self.probability.repeat(len(states), 1)

    def encode(self, states: UserStates) -> Hidden:
        """A tensor of shape (n, 0): popularity knows nothing of a user."""
        return (torch.zeros((len(states), 0), device=self.device),)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """The hidden states as they are: popularity knows nothing of a user."""
        del items, times
        return hidden

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) the same row for every state."""
        del now
        return self.probability.repeat(hidden[0].shape[0], 1)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The probabilities."""
        return {} if self._p is None else {"p": self._p}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Take over the probabilities."""
        del extra
        self._p = tensors["p"].to(self.device) if "p" in tensors else None
