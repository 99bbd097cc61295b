"""What a measure is computed from: the record of a round of one arm."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.measures.exposure import exposure_counts, mean_weight, weighted_exposure

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.measures.adoption import AdoptionTimes


@dataclass(frozen=True, eq=False)
class RoundFacts:
    """A round of one agent at one seed: n arrivals with k positions each, over a catalogue of M items.

    Arrays cannot be written to: they are those of the market.
    """

    round: int
    """Number of the round, from 0."""
    seed: int
    """Seed of the arm; all agents at a seed see the same arrivals and random numbers."""
    slates: NDArray[np.integer]
    """(n, k) items shown, in order of position; −1 where a position stayed empty. Rows are arrivals by time."""
    consumed: Bools
    """(n, k) what was consumed."""
    probability: Floats
    """(n, k) true probability of consumption; 0 where a position is empty."""
    true_intensity: Floats
    """(n, k) true λ*(x)·p*(y|x) of what was shown; 0 where a position is empty."""
    intensity: Float32s
    """(n, k) the platform's λ(x,y) at the decision; NaN where a position is empty."""
    price: Float32s
    """(n, k) item price v at the decision; NaN for an agent without prices."""
    propensity: Float32s
    """(n, k) inclusion probability at the decision; NaN for a deterministic agent."""
    user: Ints
    """(n,) visitor of each arrival."""
    time: Floats
    """(n,) when it came, seconds on the market's clock."""
    ground_intensity: Float32s
    """(n,) the platform's λ(x)."""
    relevant: Floats
    """(n,) how many items the arrival would have consumed of a catalogue shown whole."""
    counts_items: bool
    """True if ``relevant`` counts items (a replay); otherwise it is an expectation, λ*(x)."""
    required: Floats
    """(M,) required exposures b, in the unit of the guarantee."""
    position_weights: Floats
    """(k,) what an exposure at each position counts in that unit: γ^(r−1) where it is examined, 1 where it is shown."""
    least: Floats
    """(J,) exposures that each other requirement (group, campaign, cap) asks for at least, in that unit; 0: none."""
    most: Floats
    """(J,) exposures that it allows at most, in that unit; ∞: any number."""
    counted: Floats
    """(J,) exposures that counted for it, in that unit."""
    first_exposure: Ints
    """(M,) exposures in round 0 of the same arm."""
    log_counts: Ints
    """(M,) events of each item in the log that the platform trains on at the round's end."""
    popularity: Ints
    """(M,) events of each item in the log at the market's opening: a ruler that the loop does not bend."""
    release: Floats
    """(M,) when each item came onto the market, seconds on its clock; −∞ = it has always been there."""
    genre_weights: Floats
    """(M, G) share of each genre in each item, from :func:`rimsim.measures.genre_weights`."""
    provider: Ints
    """(M,) who offers each item, from 0 to G − 1; items themselves where nobody leaves."""
    there: Bools
    """(G,) which providers were in the market."""
    came: Bools
    """(G,) which providers have come by now, those who left since among them."""
    sold: Ints
    """(M,) consumptions of each item in this round and those before it."""
    items: pd.DataFrame
    """The item table of the log, M rows: ``id``, ``title``, ``genres``, ``year``, ``release``."""
    cost: float
    """c, the cost of one exposure of shortfall, in units of intensity."""
    gamma: float
    """γ, the chance that the next position is examined; 1 in a replay, which sees all positions."""
    attraction: float = 1.0
    """a, by how much the consumers multiply the intensity of an item that is examined."""
    item_price: Floats | None = None
    """(M,) item prices v at the round's end; None for an agent without prices."""
    adoption: AdoptionTimes | None = None
    """Times to the first consumption, up to this round's end, of the items released so far; None without any."""
    value_model: float | None = None
    """Σ w_r·model score − c·(what is missing, and what is above caps); None without certificates, as the next two."""
    bound: float | None = None
    """D(w), the least bound that is known of V of slates that keep all caps."""
    gap: float | None = None
    """``(D − V) / |D|``; None where a cap is exceeded."""
    estimated_decay: float | None = None
    """γ of examination as the platform estimates it at the round's end; None where it is told, or has no estimate."""
    decay_error: float | None = None
    """Half the 95 % interval of that estimate."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                guarded = value.view()
                guarded.flags.writeable = False
                object.__setattr__(self, field.name, guarded)

    @property
    def n_items(self) -> int:
        """Size of the catalogue, M."""
        return len(self.required)

    @property
    def on_offer(self) -> Bools:
        """(M,) items whose provider is in the market; of these, some may be released later."""
        return np.asarray(self.there[self.provider], np.bool_)

    @property
    def examination(self) -> Floats:
        """(k,) by how much position r multiplies an intensity: a·γ^(r−1); 1 in a replay, which sees all positions."""
        positions = self.slates.shape[1]
        if self.counts_items:
            return np.ones(positions)
        return np.asarray(self.attraction * self.gamma ** np.arange(positions), np.float64)

    @cached_property
    def exposure(self) -> Ints:
        """(M,) exposures E of each item."""
        return exposure_counts(self.slates, self.n_items)

    @property
    def required_positions(self) -> Floats:
        """(M,) required exposures counted as positions: b over what an average position counts."""
        return np.asarray(self.required / mean_weight(self.position_weights), np.float64)

    @cached_property
    def delivered(self) -> Floats:
        """(M,) exposures in the unit of the guarantee."""
        return weighted_exposure(self.slates, self.position_weights, self.n_items)

    @cached_property
    def consumption(self) -> Ints:
        """(M,) consumptions of each item."""
        return np.bincount(self.slates[self.consumed], minlength=self.n_items)
