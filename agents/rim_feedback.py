"""``rim-feedback``: prices that adapt to delivery, arrival by arrival."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.contract import OPTIONS, RepricingAgent
from rimsim.agents.delivery import Delivery, PacedAgent
from rimsim.agents.own_scores import OwnScores, Ranker
from rimsim.arrays import Floats
from rimsim.market import Slates

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView

_FROM_RANKER = frozenset({"learn", "state", "load_state", "diagnostics"})
"""Optional attributes of an agent that its ranker may have, besides those that declare needs."""


@dataclass(config=OPTIONS, eq=False)
class RimFeedback(PacedAgent):
    """Ranks by λ(x,y) − v_y with prices that adapt to delivery.

    Before arrival t of N, the price of an item with E exposures so far is

        v = clip(v₀ − g·c/√b · (b·t/N − E) / (1 − t/N + δ), −c, 0),

    Thus the error of delivery feeds back to prices in [−c, 0] (Balseiro, Lu and Mirrokni, arXiv 2007.00514). The step
    of an item is relative to its floor, not to its intensities. Items that only their floors bring into slates have
    tiny intensities, so steps relative to these would be too small. The start price v₀ is optimal for the last round's
    states. If an item has had too much exposure, its bonus falls. Prices depend on exposures, which the agent knows,
    and never on consumption.

    The remaining requirement must be delivered at the rate (b − E)/(N − t), but the start price v₀ was solved for the
    rate b/N. The difference of these rates, times N, is (b·t/N − E)/(1 − t/N). So early errors, which later arrivals
    can correct, barely change prices, but late errors change them much. Therefore a small gain suffices, and prices
    oscillate less. With ``closing=0`` the error is not divided by 1 − t/N + δ. The agent is then dual mirror descent
    with the Euclidean map (Balseiro, Lu and Mirrokni 2020), and it needs a gain of about 1.

    With ``scores``, the agent ranks by the scores of your own ranker instead of λ(x,y). Without guarantees, its slates
    are those of the ranker.

    Args:
        gain: g, relative step of prices.
        tol: Relative gap at which the price solver stops.
        closing: δ, share of the round over which late corrections are spread; 0 keeps the gain constant.
        scores: Ranker whose scores replace λ(x,y), such as ``my_ranker.py:Mine``; None: the platform's model.
    """

    name = "rim-feedback"
    order_free = False
    keeps_promises = True
    barrier_every = None

    gain: float = Field(default=0.1, gt=0)
    tol: float = Field(default=1e-3, gt=0)
    closing: float = Field(default=0.02, ge=0)
    scores: str | Ranker | None = None

    def __post_init__(self) -> None:
        """Make the ranker, whose needs become those of the agent."""
        self._own_scores = None if self.scores is None else OwnScores(self.scores)
        if self._own_scores is not None:
            self.barrier_every = getattr(self._own_scores.ranker, "barrier_every", None)

    if not TYPE_CHECKING:  # with it, a type checker would accept any attribute

        def __getattr__(self, name: str) -> Any:
            """Optional attribute of the ranker."""
            own_scores = self.__dict__.get("_own_scores")
            if own_scores is None or not (name in _FROM_RANKER or name.startswith("needs_")):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return getattr(own_scores.ranker, name)

    def begin_round(self, view: RoundView) -> None:
        """Solve prices on the last round's states, and start pacing."""
        if self._own_scores is not None:
            self._own_scores.ranker.begin_round(view)
        self._delivery = Delivery.solved(self._scored(view), self.tol, self.gain, self.closing)

    def reprice(self, view: RoundView) -> None:
        """Solve v₀ again; errors of delivery stay counted."""
        if self._own_scores is not None and isinstance(self._own_scores.ranker, RepricingAgent):
            self._own_scores.ranker.reprice(view)
        self._delivery.reprice(self._scored(view), self.tol)

    def _scored(self, view: RoundView) -> RoundView:
        """View with the scores by which the agent ranks."""
        return view if self._own_scores is None else self._own_scores.view(view)

    def note_delivery(self, exposure: Floats, arrivals: Arrivals | None) -> None:
        """Count exposures that another agent delivered to arrivals."""
        self._delivery.note(exposure, arrivals)

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve arrivals in order, and update prices after every slate."""
        return self._serve(arrivals if self._own_scores is None else self._own_scores.arrivals(arrivals))

    def _serve(self, arrivals: Arrivals) -> Slates:
        """Serve scored arrivals in order."""
        return self._delivery.serve(arrivals)
