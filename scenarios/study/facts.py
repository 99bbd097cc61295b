"""Facts of a round for its measures, and its certificate."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from rimsim.agents.prices import SAMPLED_TOL, constraints_of, joined_states, too_few_to_round
from rimsim.arrays import ALWAYS, Floats, Ints, seconds
from rimsim.config import ScenarioConfig
from rimsim.market import ClosedRound, World
from rimsim.market.scores import most_states
from rimsim.matching import Certificate, DualPrices, certificate, solve_prices
from rimsim.measures import AdoptionTimes, RoundFacts, adoption_times, genre_weights
from rimsim.scenarios.runs.store import write_arrays

_OF_LEDGER = ("consumed", "probability", "true_intensity", "intensity", "price", "propensity")
_OF_ROUND = ("relevant", "counts_items", "required", "position_weights", "log_counts", "cost")
"""Fields of facts that a ledger and a closed round have under the same names."""
_BOUND_TOL = 1e-3
"""Relative tolerance of the bound of a round."""


@dataclass
class AdoptionCount:
    """Count of consumptions over the rounds of an arm."""

    release: Ints
    """(M,) release ticks; items that were there when the first arrival came are not counted."""
    ticks: list[Ints] = field(default_factory=list)
    items: list[Ints] = field(default_factory=list)
    arrivals: list[Ints] = field(default_factory=list)

    def enter(self, closed: ClosedRound) -> None:
        """Count a round."""
        before = sum(len(part) for part in self.ticks)
        row, position = np.nonzero(closed.ledger.consumed)
        self.items.append(closed.ledger.item[row, position].astype(np.int64))
        self.arrivals.append(row + before)
        self.ticks.append(closed.ledger.schedule.tick)

    def released(self) -> Ints:
        """(J,) items that have come onto the market."""
        ticks = np.concatenate(self.ticks)
        return np.flatnonzero((self.release > ticks[0]) & (self.release <= ticks[-1]))

    def sold(self) -> Ints:
        """(M,) consumptions of each item in all rounds so far."""
        return np.bincount(np.concatenate(self.items), minlength=len(self.release))

    def times(self) -> AdoptionTimes | None:
        """Times of released items to first consumption, if any."""
        late = self.released()
        if not len(late):
            return None
        ticks = np.concatenate(self.ticks)
        place = np.full(len(self.release), -1)
        place[late] = np.arange(len(late))
        items, arrivals = place[np.concatenate(self.items)], np.concatenate(self.arrivals)
        start = np.searchsorted(ticks, self.release[late], "left")
        return adoption_times(start, items[items >= 0], arrivals[items >= 0], len(ticks))

    def table(self, agent: str, seed: int) -> pd.DataFrame | None:
        """Table ``adoption`` of an arm; None without releases."""
        times = self.times()
        if times is None:
            return None
        keys = {"agent": agent, "seed": np.int64(seed), "item": self.released()}
        return pd.DataFrame(keys | {"duration": times.duration, "observed": times.observed})


def shared_facts(world: World, config: ScenarioConfig, seed: int) -> partial[RoundFacts]:
    """Facts that all rounds of a scenario and seed share."""
    items = world.log.items
    return partial(
        RoundFacts,
        seed=seed,
        gamma=config.consumer.position_decay,
        attraction=config.consumer.attraction,
        popularity=np.bincount(world.past.item, minlength=len(items)),
        genre_weights=genre_weights([str(text) for text in items["genres"]])[0],
        release=np.where(world.release == ALWAYS, -np.inf, seconds(world.release)),
        provider=world.roster.of_item,
        items=items,
    )


def facts_of(
    shared: partial[RoundFacts],
    closed: ClosedRound,
    first: Ints,
    adoption: AdoptionCount,
    proof: Certificate | None,
    item_price: Floats | None,
) -> RoundFacts:
    """Record of a round.

    Args:
        shared: Facts of all rounds.
        closed: The round.
        first: (M,) exposures of round 0 of the same arm.
        adoption: Consumptions up to the round's end.
        proof: The round's certificate; None leaves its figures out.
        item_price: (M,) prices v at its end; None for an agent without prices.
    """
    ledger, value = closed.ledger, None
    if proof is not None:  # an exposure above a cap costs c too
        penalty = closed.cost * (proof.shortfall + proof.excess)
        value = proof.value if proof.excess == 0 else proof.score - penalty
    schedule = ledger.schedule
    every_position = {"gamma": 1.0} if closed.counts_items else {}  # a replay sees all positions
    same = {name: getattr(ledger, name) for name in _OF_LEDGER}
    same |= {name: getattr(closed, name) for name in _OF_ROUND}
    return shared(
        **every_position,
        **same,
        round=closed.number,
        slates=ledger.item,
        user=schedule.user[schedule.slot],
        time=seconds(schedule.tick),
        history=closed.histories.lengths_at(schedule.slot, schedule.tick),
        ground_intensity=ledger.ground,
        least=closed.promises.least,
        most=closed.promises.most,
        counted=closed.delivered,
        first_exposure=first,
        there=closed.offer.there,
        came=closed.offer.came >= 0,
        sold=adoption.sold(),
        item_price=item_price,
        adoption=adoption.times(),
        value_model=value,
        bound=None if proof is None else proof.bound,
        gap=None if proof is None or proof.excess > 0 else proof.gap,
        estimated_decay=None if closed.decay is None else closed.decay.decay,
        decay_error=None if closed.decay is None else float(np.diff(closed.decay.interval)[0] / 2),
    )


@dataclass(eq=False)
class HindsightPrices:
    """Prices of an arm's rounds in hindsight.

    They depend on the rounds alone, not on the arm's own prices. So where arms have the same rounds, as in a replay
    whose states depend on no slate, one solution serves all.
    """

    folder: Path | None = None
    """Folder of solutions for other arms, until the run is over; None: none."""
    last: Floats | None = None
    """(M,) prices of the last round that was solved; None: none was."""

    def of(self, solve: partial[DualPrices]) -> DualPrices:
        """Prices of a round.

        Args:
            solve: :func:`~rimsim.matching.solve_prices` and its arguments, without prices to start from.
        """
        whole = partial(solve, prices=self.last)
        found = whole() if self.folder is None else cached_prices(self.folder, whole)
        self.last = found.item_price
        return found


def cached_prices(folder: Path, solve: partial[DualPrices]) -> DualPrices:
    """Solution of a problem, cached by its arguments."""
    place = folder / f"{_digest(solve)}.npz"
    if not place.is_file():
        found = solve()
        write_arrays(place, {name: np.asarray(value) for name, value in found._asdict().items()})
        return found
    with np.load(place, allow_pickle=False) as arrays:
        return DualPrices(
            arrays["item_price"], arrays["row_price"], float(arrays["dual"]), float(arrays["resolution"])
        )


def _digest(call: partial[DualPrices]) -> str:
    digest = hashlib.sha256()  # half the time of BLAKE2 where the processor knows it
    waiting: list[object] = [*call.args, *sorted(call.keywords.items())]
    while waiting:
        value = waiting.pop()
        if isinstance(value, tuple):
            waiting.extend(value)
        elif dataclasses.is_dataclass(value):
            waiting.extend((entry.name, getattr(value, entry.name)) for entry in dataclasses.fields(value))
        elif isinstance(value, np.ndarray):
            digest.update(repr((value.dtype.str, value.shape)).encode())
            digest.update(np.ascontiguousarray(value).data)
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def certified(closed: ClosedRound, hindsight: HindsightPrices) -> Certificate:
    """Certificate of a round's slates: V, D(w) and the gap.

    Scores are those of the model that served the round, from the states in which the arrivals came. Any price gives a
    valid bound, but a loose one would be read as a loss of the agent; so the round is solved in hindsight. Where the
    states are too many to be held at once, evenly spaced ones are solved, while V and D(w) are those of all, scored
    block by block. Deficits of groups and campaigns cost c like those of items; slates of the bound keep all caps.
    """
    # One model served the round, so its states are in clock order, as the ledger is.
    slates = closed.ledger.item.astype(np.int64)
    table, states, (n, m) = closed.promises, closed.states, (len(slates), len(closed.required))
    some = states.sampled(most_states(m))
    known, whole, promised = joined_states(some, slates.shape[1]), len(some) == n, len(table) > 0
    active = table.active(states.audiences, n)
    asked = constraints_of(closed.required, table, active, closed.cost)
    known_asked = asked
    if not whole:
        counting = dataclasses.replace(table, arrivals=active.sum(0).astype(np.float64))
        among = table.active(some.audiences, len(some))
        known_asked = constraints_of(closed.required, counting, among, closed.cost, n)
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
    """(M,) floors of a sample, rounded where possible."""
    if too_few_to_round(least):
        return least
    # The auction, which takes whole floors, is the faster; rounding the running sum keeps their total.
    return np.diff(np.floor(np.cumsum(least) + 0.5), prepend=0.0)
