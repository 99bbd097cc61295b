"""``rim-ucb``: prices that adapt, and a bonus for uncertain items."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from rimsim.agents.contract import OPTIONS
from rimsim.agents.rim_feedback import RimFeedback
from rimsim.intensity.impressions import quantile_factors

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView, Slates
    from rimsim.market.records import ScoredStates


@checked(config=OPTIONS, eq=False)
class RimUCB(RimFeedback):
    """Ranks by q_y·λ(x,y) − v_y, with larger q_y for uncertain items.

    The platform describes the worth of an item by a gamma distribution around its estimate (``view.confidence``). q_y
    is the upper quantile of this distribution, relative to its mean (Bayes-UCB; Kaufmann, Cappé and Garivier, AISTATS
    2012). So q_y is the same for all visitors of a round. If the platform learns no item effects, the uncertainty of an
    item follows from its number of events in the log. ``platform.learning.answer: quantile`` gives the same factors to
    any agent, from the second round on. Guarantees have prices as in ``rim-feedback``, but solved with
    q_y·λ. Without guarantees, prices are 0, and the agent ranks by q_y·λ.

    Args:
        quantile: Probability of the quantile q_y; 0.5 gives almost no bonus.
    """

    name = "rim-ucb"

    quantile: float = Field(default=0.9, ge=0.5, lt=1)

    def begin_round(self, view: RoundView) -> None:
        """Compute the factors q_y, then solve prices with q_y·λ."""
        confidence = view.confidence
        if confidence is None:
            confidence = np.asarray(1.0 + view.popularity, np.float64)
        bonus = quantile_factors(confidence, self.quantile)
        self._bonus = torch.from_numpy(bonus.astype("float32"))
        super().begin_round(dataclasses.replace(view, calibration=_Raised(view.past, self._bonus)))

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve the arrivals in order, and update prices after each."""
        return super().act(_raised(arrivals, self._bonus))


@dataclass(frozen=True, eq=False)
class _Raised:
    """Scored states whose relevance is multiplied by factors of items."""

    states: ScoredStates
    bonus: torch.Tensor

    def __len__(self) -> int:
        return len(self.states)

    def __iter__(self) -> Iterator[Arrivals]:
        return (_raised(chunk, self.bonus) for chunk in self.states)


def _raised(arrivals: Arrivals, bonus: torch.Tensor) -> Arrivals:
    """Arrivals whose relevance is multiplied by factors of items."""
    return dataclasses.replace(arrivals, relevance=arrivals.relevance * bonus.to(arrivals.relevance.device))
