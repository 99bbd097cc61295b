"""Past rounds: events and impressions from which the platform learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from rimsim import rng
from rimsim.arrays import Bools, Float32s, Ints, Ints32
from rimsim.market.histories import Histories
from rimsim.market.ledger import Ledger
from rimsim.market.records import Schedule, ScoredStates
from rimsim.market.slates import at_items


@dataclass(frozen=True, eq=False)
class Shown:
    """Impressions of a round's n arrivals, in clock order."""

    item: Ints32
    """(n, k) items; −1 where a position stayed empty."""
    taken: Bools
    """(n, k) marks of consumed items."""
    propensity: Float32s
    """(n, k) propensity; NaN for a deterministic agent, or if slates do not cause consumption."""
    score: Float32s
    """(n, k) λ(x,y) without a layer, under the models that the round updated; NaN before the update and at empty
    positions."""
    settled: Ints
    """(n,) tick from which the platform knows the outcome of each slate."""
    history: Ints
    """(n,) number of events in the state of each arrival."""

    @classmethod
    def of(cls, ledger: Ledger, settled: Ints, histories: Histories, *, causes: bool) -> Shown:
        """Impressions of a closed round."""
        n_events = histories.lengths_at(ledger.schedule.slot, ledger.schedule.tick)
        # If slates do not cause consumption, a propensity says nothing about consumption.
        undefined = np.full(ledger.item.shape, np.nan, np.float32)
        propensity = ledger.propensity if causes else undefined
        return cls(
            item=ledger.item,
            taken=ledger.consumed,
            propensity=propensity,
            score=undefined,
            settled=settled,
            history=n_events,
        )

    def rows(self, rows: Ints) -> Shown:
        """Impressions of chosen arrivals, in the given order."""
        return Shown(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @classmethod
    def joined(cls, parts: Sequence[Shown]) -> Shown:
        """Impressions of several rounds, one after the other."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def with_scores(self) -> Shown:
        """Impressions without items whose intensity is 0."""
        return replace(self, item=np.where(self.score > 0, self.item, -1))

    def scored(self, states: ScoredStates) -> Shown:
        """Impressions with intensities from given scores of the arrivals."""
        score = np.full(self.item.shape, np.nan, np.float32)
        for chunk in states:  # arrivals that were scored together
            items = self.item[chunk.row].astype(np.int64)
            intensity = at_items(chunk.relevance, items) * chunk.ground_intensity.cpu().numpy()[:, None]
            score[chunk.row] = np.where(items >= 0, intensity, np.nan)
        return replace(self, score=score)


@dataclass(frozen=True, eq=False)
class PastRound:
    """Events of a closed round: arrivals, consumptions and impressions."""

    number: int
    """Number of the round, from 0; −1: a round before the opening."""
    schedule: Schedule
    """Arrivals of the round."""
    histories: Histories
    """Consumptions of the round's visitors, in the log and in the market."""
    shown: Shown | None = None
    """Impressions; None if the platform does not learn from them."""


def fold_of(seed: int, users: Ints) -> Ints:
    """Fold, 0 or 1, of each user of the market."""
    # Users are split into two folds: the model of a fold is not updated with the last round of the other fold.
    return (rng.bits(seed, rng.Purpose.MODEL, 7, users) & np.uint64(1)).astype(np.int64)
