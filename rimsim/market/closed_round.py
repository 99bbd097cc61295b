"""What is left of a round that is over, for measures, tables and tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rimsim.arrays import Floats, Ints

if TYPE_CHECKING:
    from rimsim.evaluation import DecayEstimate
    from rimsim.market.ledger import Ledger
    from rimsim.market.past_states import StateScores
    from rimsim.market.providers import Changes, Offer
    from rimsim.market.training_log import PastRound
    from rimsim.requirements.rows import Requirements


@dataclass(frozen=True, eq=False)
class ClosedRound:
    """A round that is over."""

    number: int
    """Its number, from 0."""
    ledger: Ledger
    """Every exposure of the round."""
    required: Floats
    """(M,) required exposures b_y, in the unit of the guarantee."""
    position_weights: Floats
    """(k,) what an exposure at each position counts in that unit."""
    promises: Requirements
    """What was asked for beside ``required``."""
    delivered: Floats
    """(J,) exposures that counted for each row of ``promises``, in that unit."""
    due: Floats
    """(J,) exposures that the round added to what each row promises, in that unit."""
    cost: float
    """c, the shortfall cost of one exposure, in units of intensity."""
    log_counts: Ints
    """(M,) target events of each item in the log that the platform retrains on (or would, if it is frozen)."""
    relevant: Floats
    """(n,) how many items each arrival would have consumed of a catalogue shown whole."""
    counts_items: bool
    """``relevant`` counts items (a replay); otherwise it is λ*(x), an expectation that need not be a whole number."""
    states: StateScores
    """The states in which the arrivals came, under the model that served them, with their capacities; scored when
    iterated."""
    rescale: float
    """Factor by which a refitted λ(x) was brought back to its old mean; 1 where it was not refitted."""
    decay: DecayEstimate | None
    """γ of examination as the platform estimates it at the round's end; None where it is told, or has no estimate."""
    learnt: PastRound
    """What the platform keeps of the round to learn from: the round itself, or what a control has in its place."""
    learnt_events: int
    """How many events that is: consumptions, known by the round's end or later."""
    offer: Offer
    """Which providers were there in the round."""
    changes: Changes
    """Who leaves and who comes at its end."""
