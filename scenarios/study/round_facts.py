"""The record of a round that its measures are computed from, and the round's certificate."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from rimsim.agents.prices import SAMPLED_TOL, joined_states, too_few_to_round
from rimsim.agents.promised_prices import terms_of
from rimsim.arrays import Floats, Ints
from rimsim.durations import ALWAYS, seconds
from rimsim.market.scores import most_states
from rimsim.matching import certificate, solve_prices
from rimsim.measures import RoundFacts, genre_weights

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.config import ScenarioConfig
    from rimsim.market import ClosedRound, World
    from rimsim.matching import Certificate
    from rimsim.measures import AdoptionTimes
    from rimsim.scenarios.study.hindsight_prices import HindsightPrices


_BOUND_TOL = 1e-3
"""How near the bound of a round is to the best one, relative."""


@dataclass(frozen=True, eq=False)
class ArmFacts:
    """What the records of all rounds of an arm share."""

    seed: int
    """Seed of the arm."""
    gamma: float
    """γ of examination."""
    attraction: float
    """a of the consumers."""
    popularity: Ints
    """(M,) events of each item in the warm-up log."""
    genre_weights: Floats
    """(M, G) share of each genre in each item."""
    release: Floats
    """(M,) seconds on the market's clock at which each item comes; −∞ = it has always been there."""
    provider: Ints
    """(M,) who offers each item."""
    items: pd.DataFrame
    """The item table of the log."""

    @classmethod
    def of(cls, world: World, config: ScenarioConfig, seed: int) -> ArmFacts:
        """What the arms of a scenario and seed share."""
        items = world.log.items
        return cls(
            seed=seed,
            gamma=config.consumer.position_decay,
            attraction=config.consumer.attraction,
            popularity=np.bincount(world.past.item, minlength=len(items)),
            genre_weights=genre_weights([str(text) for text in items["genres"]])[0],
            release=np.where(world.release == ALWAYS, -np.inf, seconds(world.release)),
            provider=world.roster.of_item,
            items=items,
        )

    def round(
        self,
        closed: ClosedRound,
        first: Ints,
        adoption: AdoptionTimes | None,
        proof: Certificate | None,
        item_price: Floats | None,
        sold: Ints,
    ) -> RoundFacts:
        """The record of a round.

        Args:
            closed: The round.
            first: (M,) exposures of round 0 of the same arm.
            adoption: Times to adoption up to the round's end; None where nothing has been released.
            proof: The round's certificate; None leaves its figures out.
            item_price: (M,) prices v at its end; None for an agent without prices.
            sold: (M,) consumptions of each item up to its end.
        """
        ledger = closed.ledger
        schedule = ledger.schedule
        return RoundFacts(
            round=closed.number,
            seed=self.seed,
            slates=ledger.item,
            consumed=ledger.consumed,
            probability=ledger.probability,
            true_intensity=ledger.true_intensity,
            intensity=ledger.intensity,
            price=ledger.price,
            propensity=ledger.propensity,
            user=schedule.user[schedule.slot],
            time=seconds(schedule.tick),
            ground_intensity=ledger.ground,
            relevant=closed.relevant,
            counts_items=closed.counts_items,
            required=closed.required,
            position_weights=closed.position_weights,
            least=closed.promises.least,
            most=closed.promises.most,
            counted=closed.delivered,
            first_exposure=first,
            log_counts=closed.log_counts,
            popularity=self.popularity,
            release=self.release,
            genre_weights=self.genre_weights,
            provider=self.provider,
            there=closed.offer.there,
            came=closed.offer.came >= 0,
            sold=sold,
            items=self.items,
            cost=closed.cost,
            gamma=1.0 if closed.counts_items else self.gamma,  # a replay sees all positions
            attraction=self.attraction,
            item_price=item_price,
            adoption=adoption,
            value_model=None if proof is None else _penalised(proof, closed.cost),
            bound=None if proof is None else proof.bound,
            gap=None if proof is None or proof.excess > 0 else proof.gap,
            estimated_decay=None if closed.decay is None else closed.decay.decay,
            decay_error=None if closed.decay is None else float(np.diff(closed.decay.interval)[0] / 2),
        )


def certified(closed: ClosedRound, hindsight: HindsightPrices) -> Certificate:
    """V, the best bound D(w) and the gap of a round's slates under the scores of the model that served it.

    The scores are computed anew from the states in which the arrivals came. Any price gives a valid bound, but a loose
    one would be read as a loss of the agent; so the round is solved in hindsight. Where the states are too many to be
    held at once, that is done on evenly spaced ones of them, while V and D(w) are those of all, scored block by block.

    What groups and campaigns miss costs c, as what items miss does, and the bound is one on slates that keep all caps.

    Args:
        closed: The round.
        hindsight: What solves the rounds of the arm.
    """
    # One model served the round, so its states are in clock order, as the ledger is.
    slates = closed.ledger.item.astype(np.int64)
    table, states, (n, m) = closed.promises, closed.states, (len(slates), len(closed.required))
    some = states.sampled(most_states(m))
    known, whole, promised = joined_states(some, slates.shape[1]), len(some) == n, len(table) > 0
    active = table.active(states.audiences, n)
    asked = terms_of(closed.required, table, active, closed.cost)
    known_asked = asked
    if not whole:
        counting = dataclasses.replace(table, arrivals=active.sum(0).astype(np.float64))
        among = table.active(some.audiences, len(some))
        known_asked = terms_of(closed.required, counting, among, closed.cost, n)
    alike = bool(closed.position_weights[0] == closed.position_weights[-1])
    best = hindsight.of(
        partial(
            solve_prices,
            known.scores,
            known.capacity,
            _sampled_floors(known_asked.least) if alike and not whole and not promised else known_asked.least,
            known_asked.most if promised else None,
            admissible=known.admissible,
            cost=closed.cost,
            tol=_BOUND_TOL if whole else SAMPLED_TOL,
            for_bound=True,
            position_weights=closed.position_weights,
            rows=known_asked.rows if promised else None,
        )
    )
    return certificate(
        known.scores if whole else states,
        slates,
        known.capacity if whole else states.positions(slates.shape[1]),
        asked.least,
        best.item_price,
        closed.cost,
        max_exposure=asked.most if promised else None,
        admissible=known.admissible if whole else None,
        position_weights=closed.position_weights,
        rows=asked.rows if promised else None,
        row_price=best.row_price if promised else 0.0,
    )


def _sampled_floors(least: Floats) -> Floats:
    """(M,) floors of a sample of a round whose positions count alike, whole numbers where they may be rounded.

    The auction, which takes whole ones, is the faster. What one item loses by rounding the next gains, so that their
    sum is kept.
    """
    if too_few_to_round(least):
        return least
    return np.diff(np.floor(np.cumsum(least) + 0.5), prepend=0.0)


def _penalised(proof: Certificate, cost: float) -> float:
    """V of a certificate, in which an exposure above a cap costs c too: −∞ says nothing of by how much."""
    return proof.value if proof.excess == 0 else proof.score - cost * (proof.shortfall + proof.excess)
