"""``adaptive-floors``: floors inferred from the providers who stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.contract import OPTIONS
from rimsim.agents.floors import FloorsAgent, affordable, item_floors, providers_of, uniform_exposure
from rimsim.arrays import Floats

if TYPE_CHECKING:
    from rimsim.market import RoundView
    from rimsim.market.providers import ProviderView


@dataclass(config=OPTIONS, eq=False)
class AdaptiveFloors(FloorsAgent):
    """Rule that infers needs of classes from staying providers.

    It knows the public rule of the market: a provider's satisfaction after t rounds is δᵗ·start + S/need, where S is
    the discounted mean of its exposures, and the provider leaves below 1. So each provider who stays shows that the
    need of its class is at most S/(1 − δᵗ·start). The least of these bounds is the estimate, by which the rule plans as
    ``triage`` does. A class whose estimate is too low loses all providers at once, so the rule takes no lower estimate.

    Args:
        share: Largest share of the round's positions that floors may add to the exposures under ``relevance``.
        first: Estimate for a class without a bound, as a multiple of the uniform exposure.
        decay: δ, share of satisfaction that remains after a round.
        start: Satisfaction at the opening, as a multiple of the threshold.
    """

    name = "adaptive-floors"

    share: float = Field(default=0.45, ge=0, le=1)
    first: float = Field(default=0.25, gt=0)
    decay: float = Field(default=0.8, ge=0, lt=1)
    start: float = Field(default=1.5, gt=0)

    def __post_init__(self) -> None:
        """Begin without observations."""
        self._mean = np.zeros(0)
        self._bound = np.zeros(0)

    @property
    def state(self) -> Mapping[str, Floats]:
        """Discounted exposures of providers, and bounds of needs."""
        return {"mean": self._mean, "bound": self._bound}

    def load_state(self, state: Mapping[str, Floats]) -> None:
        """Resume from the memory of another agent."""
        self._mean = state["mean"]
        self._bound = state["bound"]

    @property
    def needs(self) -> Floats:
        """(C,) estimated needs, as multiples of the uniform exposure."""
        return np.where(np.isfinite(self._bound), self._bound, self.first)

    @property
    def diagnostics(self) -> dict[str, float]:
        """Estimated need of each class."""
        return {f"need_{number}": need for number, need in enumerate(self.needs.tolist())}

    def floors(self, view: RoundView) -> Floats:
        """(M,) floor of each item."""
        providers = providers_of(view)
        uniform = uniform_exposure(view)
        if view.round == 0 or len(self._mean) != len(uniform):
            self._mean = np.zeros(len(uniform))
            self._bound = np.full(providers.n_classes, np.inf)
        else:
            self._observe(providers, view.round, uniform)
        need = self.needs[providers.classes]
        # A class of which somebody stayed without any exposure needs none, and gets no floor.
        recent = np.divide(self._mean, need, out=np.zeros(len(need)), where=need > 0)
        satisfaction = self.decay**view.round * self.start + recent
        now = need * (1.0 - self.decay * satisfaction) / (1.0 - self.decay)
        is_kept = affordable(view, need * uniform, self.share)
        return item_floors(view, np.where(is_kept, np.maximum(now, 0.0) * uniform, 0.0))

    def _observe(self, providers: ProviderView, n_rounds: int, uniform: Floats) -> None:
        """Lower the bounds by the outcome of the last round."""
        self._mean = self.decay * self._mean + (1.0 - self.decay) * providers.exposure / uniform
        missing = 1.0 - self.decay**n_rounds * self.start
        if missing <= 0.0:
            return
        there = providers.there
        np.minimum.at(self._bound, providers.classes[there], self._mean[there] / missing)
