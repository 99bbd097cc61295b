"""``rim-ucb``: prices that adapt, and a bonus for uncertain items."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from rimsim.agents.contract import OPTIONS
from rimsim.agents.own_scores import Rescored
from rimsim.agents.rim_feedback import RimFeedback
from rimsim.intensity.impressions import quantile_factors

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView, Slates


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

    def _scored(self, view: RoundView) -> RoundView:
        """View with the scores q_y·λ, for new factors q_y."""
        view = super()._scored(view)
        confidence = view.confidence
        if confidence is None:
            confidence = np.asarray(1.0 + view.popularity, np.float64)
        bonus = quantile_factors(confidence, self.quantile)
        self._bonus = torch.from_numpy(bonus.astype("float32"))
        raised_states = Rescored(view.past, partial(_raised, bonus=self._bonus))
        return dataclasses.replace(view, calibration=raised_states)

    def _serve(self, arrivals: Arrivals) -> Slates:
        """Serve the arrivals in order, with raised relevance."""
        return super()._serve(_raised(arrivals, self._bonus))


def _raised(arrivals: Arrivals, bonus: torch.Tensor) -> Arrivals:
    """Arrivals whose relevance is multiplied by factors of items."""
    return dataclasses.replace(arrivals, relevance=arrivals.relevance * bonus.to(arrivals.relevance.device))
