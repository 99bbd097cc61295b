"""What the platform keeps of its rounds beside consumptions: what was shown, how it was scored, what was not taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Bools, Float32s, Floats, Ints, Ints32
from rimsim.intensity.impressions import Calibrated, Impressions, fit_layer
from rimsim.market.consumers.intensity import examination
from rimsim.market.serving import at_items
from rimsim.measures import position_weights

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.intensity.contract import IntensityModel
    from rimsim.intensity.impressions import ImpressionLayer
    from rimsim.market.consumers.contract import Consumer
    from rimsim.market.ledger import Ledger
    from rimsim.market.records import ScoredStates


@dataclass(frozen=True, eq=False)
class Shown:
    """What was shown to the n arrivals of a round, in clock order, and what came of it."""

    item: Ints32
    """(n, k) items; −1 where a position stayed empty."""
    taken: Bools
    """(n, k) whether each was consumed."""
    propensity: Float32s
    """(n, k) inclusion probability at the decision; NaN for a deterministic agent, or where showing causes nothing."""
    score: Float32s
    """(n, k) λ(x,y) without a layer, of the models that were updated after the round; NaN before, or where empty."""
    settled: Ints
    """(n,) tick from which the platform knows what came of each slate."""

    @classmethod
    def of(cls, ledger: Ledger, settled: Ints, *, causes: bool) -> Shown:
        """What a round's ledger holds of it.

        Args:
            ledger: The ledger of a round that is over.
            settled: (n,) tick from which the platform knows what came of each slate.
            causes: Visitors consume because they are shown; otherwise a propensity says nothing of what they do.
        """
        nothing = np.full(ledger.item.shape, np.nan, np.float32)
        return cls(ledger.item, ledger.consumed, ledger.propensity if causes else nothing, nothing, settled)

    def rows(self, which: Ints) -> Shown:
        """What was shown to some of the arrivals, in the given order."""
        return Shown(*(getattr(self, field.name)[which] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Shown]) -> Shown:
        """What some rounds showed, one after the other."""
        return cls(*(np.concatenate([getattr(one, field.name) for one in parts]) for field in fields(cls)))

    def scored(self, states: ScoredStates) -> Shown:
        """With the scores that the states of the round's arrivals have of what was shown."""
        score = np.full(self.item.shape, np.nan, np.float32)
        for chunk in states:
            items = self.item[chunk.index].astype(np.int64)
            found = at_items(chunk.relevance, items) * chunk.ground_intensity.cpu().numpy()[:, None]
            score[chunk.index] = np.where(items >= 0, found, np.nan)
        return replace(self, score=score)


def weights_of(config: ScenarioConfig, consumer: Consumer, decay: float) -> Floats:
    """(k,) weight of an exposure at each position, in the unit of the guarantee.

    Args:
        config: The scenario.
        consumer: Who consumes; where consumption is a hit in what visitors do anyway, positions make no difference.
        decay: γ, as the platform takes it.
    """
    if config.exposure.unit == "shown" or getattr(consumer, "hits_only", False):
        return np.ones(config.slate)
    return position_weights(decay, config.slate)


def positions_of(config: ScenarioConfig, consumer: Consumer, decay: float) -> Floats:
    """(k,) by how much each position multiplies an intensity, as the platform takes it.

    a·γ^(r−1), as consumers answer; 1 where consumption is a hit in what visitors do anyway, wherever it was shown.

    Args:
        config: The scenario, for a and the length of a slate.
        consumer: Who consumes.
        decay: γ.
    """
    if getattr(consumer, "hits_only", False):
        return np.ones(config.slate)
    looked_at = examination(decay, config.slate)
    return np.asarray(config.consumer.attraction * looked_at, np.float64)


def layer_from(rounds: Sequence[Shown], now: int, positions: Floats, n_items: int) -> ImpressionLayer:
    """The layer that fits what was taken, and what was not, of all that some rounds showed.

    Args:
        rounds: The rounds, oldest first.
        now: Tick of the retraining; a slate of which the platform learns then, or later, is not known yet.
        positions: (k,) by how much each position multiplies an intensity.
        n_items: Size of the catalogue, M.
    """
    shown = Shown.joined(rounds)
    number = np.repeat(np.arange(len(rounds)), [len(one.settled) for one in rounds])
    filled = (shown.item >= 0) & (shown.settled < now)[:, None]
    known = Impressions(
        item=shown.item[filled].astype(np.int64),
        score=shown.score[filled].astype(np.float64),
        examination=np.broadcast_to(positions, filled.shape)[filled],
        taken=shown.taken[filled],
        round=np.broadcast_to(number[:, None], filled.shape)[filled],
    )
    return fit_layer(known, n_items)


def inverse_propensity_weights(propensity: Floats, clip: float) -> Floats:
    """(n,) w ∝ min(1/π, clip·mean(1/π)), with a mean of 1, of events that have a propensity π, and 1 of the others.

    Args:
        propensity: (n,) π of consumptions; NaN where there is none.
        clip: No 1/π counts more than so many times their mean: less variance for some bias.
    """
    weight, known = np.ones(len(propensity)), propensity > 0
    if known.any():
        inverse = 1.0 / propensity[known]
        inverse = np.minimum(inverse, clip * inverse.mean())
        weight[known] = inverse / inverse.mean()
    return weight


def laid_over(model: IntensityModel, layer: ImpressionLayer | None) -> IntensityModel:
    """A model under a layer; as it is without one."""
    return model if layer is None else Calibrated(model, layer)
