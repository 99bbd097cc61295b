"""Facts of a round, for its measures."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from rimsim import measures
from rimsim.arrays import ALWAYS, Floats, Ints, seconds
from rimsim.config import ScenarioConfig
from rimsim.market import ClosedRound, World
from rimsim.matching import Certificate

_OF_LEDGER = ("consumed", "probability", "true_intensity", "intensity", "price", "propensity")
_OF_ROUND = (
    "relevant",
    "counts_items",
    "required",
    "due_items",
    "position_weights",
    "log_counts",
    "cost",
    "stays",
)
"""Names of fields that a round's facts and a closed round share."""


@dataclass
class AdoptionCount:
    """Count of consumptions over the rounds of an arm."""

    release: Ints
    """(M,) release tick of each item. Items that are released before the first arrival are not counted."""
    ticks: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """Tick of each arrival so far."""
    items: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """Item of each consumption so far."""
    arrivals: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """Number of the arrival of each consumption so far, an index of ``ticks``."""

    def enter(self, closed: ClosedRound) -> None:
        """Add the consumptions of a round to the counts."""
        row, position = np.nonzero(closed.ledger.consumed)
        self.items = np.append(self.items, closed.ledger.item[row, position].astype(np.int64))
        self.arrivals = np.append(self.arrivals, row + len(self.ticks))
        self.ticks = np.append(self.ticks, closed.ledger.schedule.tick)

    def released(self) -> Ints:
        """Indices of items that have come onto the market."""
        return np.flatnonzero((self.release > self.ticks[0]) & (self.release <= self.ticks[-1]))

    def sold(self) -> Ints:
        """(M,) consumptions of each item in all rounds so far."""
        return np.bincount(self.items, minlength=len(self.release))

    def times(self) -> measures.AdoptionTimes | None:
        """Times from release to first consumption of released items."""
        released = self.released()
        if not len(released):
            return None
        # Released items are numbered from 0; all other items have −1.
        number_of_item = np.full(len(self.release), -1)
        number_of_item[released] = np.arange(len(released))
        consumed = number_of_item[self.items]
        is_counted = consumed >= 0
        first_arrival = np.searchsorted(self.ticks, self.release[released], "left")
        return measures.adoption_times(
            first_arrival, consumed[is_counted], self.arrivals[is_counted], len(self.ticks)
        )

    def table(self, agent: str, seed: int) -> pd.DataFrame | None:
        """Table ``adoption`` of an arm; None without releases."""
        times = self.times()
        if times is None:
            return None
        keys = {"agent": agent, "seed": np.int64(seed), "item": self.released()}
        return pd.DataFrame(keys | {"duration": times.duration, "observed": times.observed})


def shared_facts(world: World, config: ScenarioConfig, seed: int) -> partial[measures.RoundFacts]:
    """Facts that all rounds of a scenario and seed share."""
    items = world.log.items
    return partial(
        measures.RoundFacts,
        seed=seed,
        decay=config.consumer.position_decay,
        attraction=config.consumer.slate_attraction,
        popularity=np.bincount(world.past.item, minlength=len(items)),
        genre_weights=measures.genre_weights([str(text) for text in items["genres"]])[0],
        release=np.where(world.release == ALWAYS, -np.inf, seconds(world.release)),
        provider=world.roster.of_item,
        fee=config.providers.fee,
        items=items,
    )


def facts_of(
    shared: partial[measures.RoundFacts],
    closed: ClosedRound,
    first: Ints,
    adoption: AdoptionCount,
    proof: Certificate | None,
    item_price: Floats | None,
) -> measures.RoundFacts:
    """Record of a round.

    Args:
        shared: Facts of all rounds.
        closed: The round.
        first: (M,) exposures of round 0 of the same arm.
        adoption: Consumptions up to the round's end.
        proof: Certificate of the round; None: the round has no metrics of a certificate.
        item_price: (M,) prices v at the end of the round; None for an agent without prices.
    """
    ledger = closed.ledger
    value = None
    if proof is not None:
        # The value V of a certificate is −∞ if slates exceed a cap. In tables, an exposure above a cap costs c instead,
        # like a missing exposure.
        penalty = closed.cost * (proof.shortfall + proof.excess)
        value = proof.value if proof.excess == 0 else proof.score - penalty
    schedule = ledger.schedule
    # Consumption in a replay (``counts_items``) does not depend on positions, as if visitors looked at all of them.
    every_position = {"decay": 1.0} if closed.counts_items else {}
    fields = {name: getattr(ledger, name) for name in _OF_LEDGER}
    fields |= {name: getattr(closed, name) for name in _OF_ROUND}
    return shared(
        **every_position,
        **fields,
        round=closed.number,
        slates=ledger.item,
        user=schedule.user[schedule.slot],
        time=seconds(schedule.tick),
        history=closed.histories.lengths_at(schedule.slot, schedule.tick),
        ground_intensity=ledger.ground,
        repeats=closed.repeats,
        organic=ledger.organic if ledger.organic.any() else None,
        min_exposure=closed.promises.min_exposure,
        max_exposure=closed.promises.max_exposure,
        counted=closed.delivered,
        due=closed.due,
        counted_shown=_delivered(closed, 1.0),
        counted_examined=_delivered(closed, every_position.get("decay", shared.keywords["decay"])),
        first_exposure=first,
        there=closed.offer.there,
        came=closed.offer.came >= 0,
        on_offer=closed.on_offer,
        sold=adoption.sold(),
        item_price=item_price,
        adoption=adoption.times(),
        value_model=value,
        bound=None if proof is None else proof.bound,
        gap=None if proof is None or proof.excess > 0 else proof.gap,
        estimated_decay=None if closed.decay is None else closed.decay.decay,
        decay_error=None if closed.decay is None else float(np.diff(closed.decay.interval)[0] / 2),
    )


def _delivered(closed: ClosedRound, decay: float) -> Floats:
    """Exposures of groups, campaigns and caps at a given γ."""
    weights = measures.position_weights(decay, len(closed.position_weights))
    return closed.requirements.delivered(closed.ledger.item, position_weights=weights)
