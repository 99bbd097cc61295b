"""Ledger of a round, and its evidence for the platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd

from rimsim import rng
from rimsim.arrays import Array, Bools, Float32s, Floats, Ints, Ints32, seconds
from rimsim.compiled import compiled
from rimsim.config import ScenarioConfig
from rimsim.errors import ConfigError
from rimsim.evaluation import DecayEstimate, decay_of_counts, decay_of_slates, taken_by_position
from rimsim.evaluation.off_policy import Chances
from rimsim.market.histories import Histories
from rimsim.market.records import Response, Schedule, ScoredStates, Slates, at_items

_VISIT = ("agent", "seed", "round", "arrival", "time", "user", "log_user")
_PROPENSITIES = ("propensity", "propensity_position", "propensity_prefix", "propensity_slate")
LEDGER_COLUMNS = (*_VISIT, "position", "item", "intensity", "price", *_PROPENSITIES, "consumed")


@compiled
def write_rows(rows: Ints, items: Ints, consumed: Bools, probability: Floats, true_intensity: Floats, relevance:
    Float32s, ground: Float32s, item_column: Ints32, consumed_column: Bools, probability_column: Floats,
    true_intensity_column: Floats, intensity_column: Float32s, ground_column: Float32s) -> None:  # fmt: skip
    """Write served arrivals into the ledger's columns, in one pass."""
    for n in range(len(rows)):
        row = rows[n]
        ground_column[row] = ground[n]
        for position in range(items.shape[1]):
            item = items[n, position]
            item_column[row, position] = item
            consumed_column[row, position] = consumed[n, position]
            probability_column[row, position] = probability[n, position]
            true_intensity_column[row, position] = true_intensity[n, position]
            intensity_column[row, position] = relevance[n, position] * ground[n] if item >= 0 else np.nan


class Ledger:
    """Exposures of a round's n arrivals, in clock order."""

    def __init__(self, schedule: Schedule, slate: int) -> None:
        n = len(schedule)
        self.schedule = schedule
        self.item: Ints32 = np.full((n, slate), -1, np.int32)
        """(n, k) items shown; −1 where a position stayed empty."""
        self.consumed: Bools = np.zeros((n, slate), bool)
        """(n, k) marks of consumed items."""
        self.intensity: Float32s = np.full((n, slate), np.nan, np.float32)
        """(n, k) the platform's λ(x,y) at the decision."""
        self.price: Float32s = np.full((n, slate), np.nan, np.float32)
        """(n, k) item price at the decision; NaN for an agent without prices."""
        self.propensity: Float32s = np.full((n, slate), np.nan, np.float32)
        """(n, k) inclusion probability; NaN for a deterministic agent."""
        self.chances = Chances(*(np.full(shape, np.nan) for shape in ((n, slate), (n, slate), (n, slate), n)))
        """Chances of the slates at the decision; NaN for an agent that does not report them."""
        self.probability: Floats = np.zeros((n, slate))
        """(n, k) true probability of consumption; not part of the saved table, agents' logs would not have it."""
        self.true_intensity: Floats = np.zeros((n, slate))
        """(n, k) true λ*(x)·p*(y|x) of the shown items; not part of the saved table either."""
        self.uniform: Bools = np.zeros(n, bool)
        """(n,) slates that are a uniform draw of admissible items; not part of the saved table."""
        self.ground: Float32s = np.zeros(n, np.float32)
        """(n,) the platform's λ(x) of each arrival."""

    def write(
        self, rows: Ints, slates: Slates, response: Response, relevance: Float32s, ground: Float32s
    ) -> None:
        """Add served arrivals, with the relevance and λ(x) of each."""
        write_rows(rows, slates.items, response.consumed, response.probability, response.intensity, relevance,
            ground, self.item, self.consumed, self.probability, self.true_intensity, self.intensity,
            self.ground)  # fmt: skip
        if slates.price is not None:
            self.price[rows] = slates.price
        if slates.propensity is not None:
            self.propensity[rows] = slates.propensity
        if slates.chances is not None:
            for part in fields(Chances):
                getattr(self.chances, part.name)[rows] = getattr(slates.chances, part.name)
        if slates.uniform is not None:
            self.uniform[rows] = slates.uniform

    def exposure(self, n_items: int) -> Ints:
        """Exposures of each item so far."""
        return np.bincount(self.item[self.item >= 0], minlength=n_items)

    def consumption(self, n_items: int) -> Ints:
        """Consumptions of each item so far."""
        return np.bincount(self.item[self.consumed], minlength=n_items)

    def true_columns(self) -> dict[str, Array]:
        """True worth of each exposure, in the order of :meth:`table`."""
        row, position = np.nonzero(self.item >= 0)
        return {
            "arrival": self.schedule.id[row],
            "position": (position + 1).astype(np.int16),
            "item": self.item[row, position],
            "probability": self.probability[row, position],
            "true_intensity": self.true_intensity[row, position],
        }

    def table(self, agent: str, seed: int, number: int) -> pd.DataFrame:
        """Table of the round, with one row per exposure."""
        shown = row, position = np.nonzero(self.item >= 0)
        n, slot = len(row), self.schedule.slot[row]
        return pd.DataFrame(
            {
                "agent": pd.Categorical([agent] * n, categories=[agent]),
                "seed": np.full(n, seed, np.int64),
                "round": np.full(n, number, np.int32),
                "arrival": self.schedule.id[row],
                "time": seconds(self.schedule.tick[row]),
                "user": self.schedule.user[slot],
                "log_user": self.schedule.log_user[slot],
                "position": (position + 1).astype(np.int16),
                "item": self.item[shown],
                "intensity": self.intensity[shown],
                "price": self.price[shown],
                "propensity": self.propensity[shown],
                "propensity_position": self.chances.position[shown],
                "propensity_prefix": self.chances.prefix[shown],
                "propensity_slate": self.chances.slate[row],
                "consumed": self.consumed[shown],
            },
            columns=list(LEDGER_COLUMNS),
        )


@dataclass(frozen=True, eq=False)
class Shown:
    """Impressions of a round's n arrivals, in clock order."""

    item: Ints32
    """(n, k) items; −1 where a position stayed empty."""
    taken: Bools
    """(n, k) marks of consumed items."""
    propensity: Float32s
    """(n, k) propensity; NaN for a deterministic agent, or if slates do not affect consumption."""
    score: Float32s
    """(n, k) λ(x,y) without a layer, by the models that the round updated; NaN until then, or at empty positions."""
    settled: Ints
    """(n,) tick from which the platform knows the outcome of each slate."""
    history: Ints
    """(n,) events in each arrival's state."""

    @classmethod
    def of(cls, ledger: Ledger, settled: Ints, histories: Histories, *, causes: bool) -> Shown:
        """Impressions of a closed round."""
        events = histories.lengths_at(ledger.schedule.slot, ledger.schedule.tick)
        # Where showing items does not cause consumption, a propensity says nothing of it.
        nothing = np.full(ledger.item.shape, np.nan, np.float32)
        propensity = ledger.propensity if causes else nothing
        return cls(ledger.item, ledger.consumed, propensity, nothing, settled, events)

    def rows(self, which: Ints) -> Shown:
        """Impressions of chosen arrivals, in the given order."""
        return Shown(*(getattr(self, field.name)[which] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Shown]) -> Shown:
        """Impressions of several rounds, one after the other."""
        return cls(*(np.concatenate([getattr(one, field.name) for one in parts]) for field in fields(cls)))

    def scored(self, states: ScoredStates) -> Shown:
        """Impressions with intensities from given scores of the arrivals."""
        score = np.full(self.item.shape, np.nan, np.float32)
        for chunk in states:
            items = self.item[chunk.row].astype(np.int64)
            found = at_items(chunk.relevance, items) * chunk.ground_intensity.cpu().numpy()[:, None]
            score[chunk.row] = np.where(items >= 0, found, np.nan)
        return replace(self, score=score)


@dataclass(frozen=True, eq=False)
class PastRound:
    """Events of a closed round: arrivals, consumptions and impressions."""

    number: int
    schedule: Schedule
    histories: Histories
    shown: Shown | None = None
    """Impressions; None if the platform does not learn from them."""


def fold_of(seed: int, users: Ints) -> Ints:
    """Fold, 0 or 1, of each user of the market."""
    # A model of one fold has not seen the last round of the other.
    return (rng.bits(seed, rng.Purpose.MODEL, 7, users) & np.uint64(1)).astype(np.int64)


# -- examination ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Examined:
    """Evidence from which γ, the decay of examination, is estimated."""

    counts: Ints
    """(2, k) number of items that uniform slates showed at each position, and of consumed items; 0 if not used."""
    estimate: DecayEstimate | None = None
    """Estimate of γ from all rounds so far; None before the first round, or if γ is known."""

    @classmethod
    def nothing(cls, slate: int) -> Examined:
        """Evidence before the first round is over."""
        return cls(np.zeros((2, slate), np.int64))

    def decay(self, config: ScenarioConfig) -> float:
        """Value of γ that the platform uses next round."""
        if config.exposure.examination == "known":
            return config.consumer.position_decay
        return config.exposure.prior_decay if self.estimate is None else self.estimate.decay

    def after(self, ledger: Ledger, known: Bools, config: ScenarioConfig) -> Examined:
        """Evidence after a further round, from slates with known outcomes."""
        # Uniform slates of all rounds are counted together. Harvested estimates of rounds are independent, since each
        # has levels, slopes and items of its own, so they are averaged by their precision.
        how = config.exposure.examination
        if how == "random":
            rows = known & ledger.uniform
            counts = self.counts + taken_by_position(ledger.item[rows], ledger.consumed[rows])
            return Examined(counts, decay_of_counts(counts))
        if how == "harvested":
            found = decay_of_slates(ledger.item[known], ledger.consumed[known], ledger.intensity[known])
            pooled = [estimate for estimate in (self.estimate, found) if estimate is not None]
            return replace(self, estimate=DecayEstimate.pooled(pooled))
        return self


def require_uniform(uniform: Bools | None, config: ScenarioConfig) -> None:
    """Refuse agents without uniform slates if γ is estimated.

    Raises:
        ConfigError: If the agent shows no uniform slates, but γ is estimated from uniform slates.
    """
    if config.exposure.examination == "random" and uniform is None:
        raise ConfigError(
            "exposure.examination is 'random', but this agent shows no uniformly random slates. Set examination "
            "to 'harvested' or 'known', or choose the agent random, epsilon-greedy or your own agent that "
            "sets Slates.uniform"
        )
