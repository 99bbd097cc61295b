"""Closed round: the record of a round that is over."""

from __future__ import annotations

from dataclasses import dataclass

from rimsim.arrays import Bools, Floats, Ints
from rimsim.evaluation import DecayEstimate
from rimsim.market.histories import Histories
from rimsim.market.ledger import Ledger
from rimsim.market.past_round import PastRound
from rimsim.market.processes.effects import Happening
from rimsim.market.providers import Changes, Offer, RoundOutcome
from rimsim.market.records import Schedule
from rimsim.market.scores.past import StateScores
from rimsim.matching.certificates import BestValues
from rimsim.requirements.rows import Requirements, RoundRequirements


@dataclass(frozen=True, eq=False)
class ClosedRound:
    """Record of a round that is over."""

    number: int
    """Number of the round, from 0."""
    schedule: Schedule
    """Arrivals of the round."""
    capacity: Ints | None
    """(n,) positions that each arrival could fill; None: all k positions."""
    requirements: RoundRequirements
    """Requirements of the round."""
    exposure: Floats
    """(M,) exposures of each item, in the unit of the guarantee."""
    ledger: Ledger
    """All exposures and consumptions."""
    histories: Histories
    """Consumptions of the round's visitors, in the log and in the market."""
    rescale: float
    """Factor that brought a refitted λ(x) back to its old mean; 1 if λ(x) was not refitted."""
    counts_items: bool
    """True if a consumption is a hit in organic behaviour."""
    cost: float
    """c, the cost of a missing exposure, in units of intensity."""
    outcome: RoundOutcome
    """Outcome of the round, as providers see it."""
    on_offer: Bools
    """(M,) True for items on offer at the end of the round: released, not ended, and of a present provider."""
    changes: Changes
    """Providers who leave or come at the end of the round."""
    log_counts: Ints
    """(M,) target events of each item in the log that the platform retrains on, or would retrain on if it were not
    frozen."""
    relevant: Floats
    """(n,) number of items that each arrival would have consumed if all were shown, or its expectation λ*(x)."""
    states: StateScores
    """States of the arrivals under the model that served the round; scored at first use."""
    decay: DecayEstimate | None
    """The platform's estimate of γ at the end of the round; None if γ is known, or if there is no evidence yet."""
    best: BestValues | None
    """Largest values λ − v of each arrival, stored when batches were scored; None: not stored."""
    learnt: PastRound
    """Training data of the round: its own events, or a control's replacement."""
    learnt_events: int
    """Number of events of this round in the training data, including events that become known after its end."""
    happenings: tuple[Happening, ...] = ()
    """Changes of the market by processes, in the order of time."""

    @property
    def repeats(self) -> Bools | None:
        """(n, k) mask of shown items that the visitor had consumed.

        None if no visitor may take an item again.
        """
        histories = self.histories
        if histories.rule.forbids:
            return None
        return histories.had_before(self.schedule.slot, self.schedule.tick, self.ledger.item)

    @property
    def offer(self) -> Offer:
        """Providers who were in the market in the round."""
        return self.outcome.offer

    @property
    def stays(self) -> Bools:
        """(G,) mask of present providers who do not leave."""
        return self.offer.there & ~self.changes.leaves

    @property
    def next_offer(self) -> Offer:
        """Providers after the exits and entries of the round."""
        return self.offer.after(self.changes, self.outcome)

    @property
    def required(self) -> Floats:
        """Required exposures b_y of each item."""
        return self.requirements.required

    @property
    def due_items(self) -> Floats:
        """Exposures that the round adds to each item's guarantee."""
        return self.requirements.due_items

    @property
    def due(self) -> Floats:
        """Exposures that the round adds to each row's guarantee."""
        return self.requirements.due

    @property
    def promises(self) -> Requirements:
        """Requirements in addition to those of items."""
        return self.requirements.table

    @property
    def position_weights(self) -> Floats:
        """Weight of an exposure at each position."""
        return self.requirements.position_weights

    @property
    def delivered(self) -> Floats:
        """Exposures of each row of :attr:`promises`."""
        return self.requirements.delivered(self.ledger.item)


Round = ClosedRound
"""Round that is over, under the word that the rooms of the package share."""
