"""The truth of class ``bag``: what is wanted next follows from all that the visitor has consumed, in the market too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rimsim.arrays import Float32s, Floats, Ints
from rimsim.market.consumers.truths.bag_kernels import answer_slates, preferences, visit_shares
from rimsim.market.consumers.truths.sizes import Kept, SessionSizes

if TYPE_CHECKING:
    from rimsim.intensity.states import UserStates
    from rimsim.market.consumers.contract import Response, Visits
    from rimsim.market.consumers.truths.contract import Law, TruthReport


@dataclass(frozen=True, eq=False)
class BagTruth(Kept):
    """p*(y|x) ∝ exp(⟨W_y, Σ_{i ∈ x} E_i⟩/√(n + 1) + b_y) over admissible items, n the events of x.

    The law of :class:`rimsim.intensity.sets.bag.Bag`. Two users in one state want the same; who they are is in λ*
    alone.
    """

    kind: ClassVar[str] = "bag"
    arrays: ClassVar[tuple[str, ...]] = ("read", "predicted", "bias")

    read: Float32s
    """(M, width) E."""
    predicted: Float32s
    """(width, M) W, transposed: compiled code adds up all items side by side."""
    bias: Float32s
    """(M,) b."""
    sizes: SessionSizes
    """λ*."""
    report: TruthReport
    """How it was fitted."""

    def preference(self, users: Ints, states: UserStates) -> Floats:  # noqa: ARG002  # the protocol's
        """(n, M) p* over the whole catalogue; of the state alone."""
        return preferences(states.offsets, states.items, self.read, self.predicted, self.bias)

    def answer(self, visits: Visits, slates: Ints, ground: Floats, law: Law, response: Response) -> None:
        """What visits make of their slates, in one compiled pass."""
        histories, events = visits.histories, visits.histories.events
        answer_slates(
            slates,
            visits.slot,
            visits.tick,
            visits.keys[visits.row],
            ground,
            histories.begin,
            histories.length,
            histories.past.items,
            events.first,
            events.item,
            events.next,
            visits.world.release,
            self.read,
            self.predicted,
            self.bias,
            law.examination,
            law.attraction,
            response.consumed,
            response.probability,
            response.intensity,
        )

    def shares(self, visits: Visits) -> Floats:
        """(n, M) p* over what each visit may consume, visit by visit."""
        histories, events = visits.histories, visits.histories.events
        return visit_shares(
            visits.slot,
            visits.tick,
            histories.begin,
            histories.length,
            histories.past.items,
            events.first,
            events.item,
            events.next,
            visits.world.release,
            self.read,
            self.predicted,
            self.bias,
        )
