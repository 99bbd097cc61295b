"""User activity as a ground intensity: how much a user did so far, plainly or with the past fading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats
from rimsim.intensity.ground.contract import Ground, GroundConfig
from rimsim.intensity.refusals import not_fitted

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import Hidden
    from rimsim.intensity.ground.examples import CountExamples


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class UserPopularityConfig(GroundConfig):
    """Options of a user's count of events."""

    smoothing: float = Field(default=0.01, gt=0, description="Events added to every user, so that λ > 0.")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EMAConfig(UserPopularityConfig):
    """Options of a user's fading count of events."""

    scale: float = Field(
        default=86400.0, gt=0, description="Time in which an event's weight falls by e, seconds."
    )


class UserPopularity(Ground):
    """λ(x) = c·(n_x + s): a user's events so far, times one fitted factor.

    The factor makes the mean λ of the training states equal the mean count that followed them (the Poisson
    maximum likelihood); it changes no ranking. It is the user half of ``Pop`` in Ma, Liu and Deoras (ICLR
    2022).

    Attributes:
        factor: c; 0 before a fit.
        rescale: The factor that the last :meth:`update` kept the mean with, relative to a fit; 1 after a fit.
    """

    kind: ClassVar[str] = "pop"
    config: UserPopularityConfig

    def __init__(self, config: UserPopularityConfig | None = None, *, rate: float = 0.0) -> None:
        super().__init__(config or UserPopularityConfig(), np.array([rate]))
        self.factor = 0.0

    def fit_examples(self, examples: CountExamples) -> Self:
        """Fit the factor to given states and counts.

        Raises:
            ModelError: If there are no examples, or no event in them.
        """
        self._require_events(examples)
        raw = self._activity(self.encode(examples.states), examples.states.now)
        self.factor = float(examples.counts.sum()) / float(raw.sum())
        self.rescale = 1.0
        return self

    def update(self, log: EventLog) -> Self:
        """Keep the factor: the states move, the scale of λ stays; ``rescale`` is old factor over refitted."""
        examples = self.examples(log)
        if examples.counts.sum():
            kept = self.factor
            self.fit_examples(examples)
            self.factor, self.rescale = kept, kept / self.factor
        return self

    def _activity(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        sums, _, last = hidden
        instant = torch.from_numpy(np.asarray(now, np.float64)).to(self.device)
        age = torch.where(torch.isinf(last), 0.0, instant - last)
        activity: torch.Tensor = sums[:, 0] * torch.exp(-age * self._rates[0]) + self.config.smoothing
        return activity

    def intensity_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n,) float32 λ of the states at ``now``.

        Raises:
            ModelError: Before a fit.
        """
        if not self.factor:
            raise not_fitted(self.kind)
        return (self._activity(hidden, now) * self.factor).float()

    def tensors(self) -> dict[str, torch.Tensor]:
        """No array: the factor is in :meth:`extra`."""
        return {}

    def extra(self) -> dict[str, Any]:
        """Factor, last rescaling and catalogue size."""
        return {"n_items": self.n_items, "factor": self.factor, "rescale": self.rescale}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Take over the factor."""
        del tensors
        self.n_items, self.factor = int(extra["n_items"]), float(extra["factor"])
        self.rescale = float(extra["rescale"])


class EMA(UserPopularity):
    """λ(x) = c·(Σ_i exp(−(now − t_i)/scale) + s): a user's events so far, fading with time.

    Exponential moving average, ``EMA`` in Ma, Liu and Deoras (ICLR 2022), with one fitted factor as in
    :class:`UserPopularity`.
    """

    kind: ClassVar[str] = "ema"
    config: EMAConfig

    def __init__(self, config: EMAConfig | None = None) -> None:
        config = config or EMAConfig()
        super().__init__(config, rate=1.0 / config.scale)
