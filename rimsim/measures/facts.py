"""Facts of a round that measures read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.measures.exposure import exposure_counts, mean_weight, weighted_exposure
from rimsim.measures.loop import AdoptionTimes
from rimsim.renamed import renamed_attribute

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class RoundFacts:
    """Round of one agent at one seed, for measures.

    There are n arrivals with k positions each, over a catalogue of M items. Arrays are read-only, because the market
    uses them too.
    """

    round: int
    """Number of the round, from 0."""
    seed: int
    """Seed of the arm; all agents at a seed see the same arrivals and random numbers."""
    slates: NDArray[np.integer]
    """(n, k) items shown, in order of position; −1 where a position stayed empty. Rows are arrivals by time."""
    consumed: Bools
    """(n, k) consumed items."""
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
    """(n,) time of each arrival, seconds on the market's clock."""
    history: Ints
    """(n,) events in each visitor's state; 0 on a first visit."""
    ground_intensity: Float32s
    """(n,) the platform's λ(x)."""
    relevant: Floats
    """(n,) items that the arrival would have consumed of a catalogue shown whole."""
    counts_items: bool
    """True if ``relevant`` counts items (a replay); otherwise it is an expectation, λ*(x)."""
    required: Floats
    """(M,) required exposures b, in the unit of the guarantee."""
    position_weights: Floats
    """(k,) what an exposure at each position counts in that unit: γ^(r−1) where it is examined, 1 where it is shown."""
    min_exposure: Floats
    """(J,) least exposures of each requirement of a group, a campaign or a cap, in that unit; 0: no guarantee."""
    max_exposure: Floats
    """(J,) most exposures of each of these requirements, in that unit; ∞: no cap."""
    counted: Floats
    """(J,) exposures that counted for each of these requirements, in that unit."""
    first_exposure: Ints
    """(M,) exposures in round 0 of the same arm."""
    log_counts: Ints
    """(M,) events of each item in the log that the platform trains on at the round's end."""
    popularity: Ints
    """(M,) events of each item in the warm-up log, which later rounds do not change."""
    release: Floats
    """(M,) release of each item, seconds on the market's clock; −∞ = it has always been there."""
    genre_weights: Floats
    """(M, G) share of each genre in each item, from :func:`rimsim.measures.genre_weights`."""
    provider: Ints
    """(M,) provider of each item, from 0 to G − 1; each item is its own provider where providers cannot leave."""
    there: Bools
    """(G,) mask of providers that were in the market in this round."""
    came: Bools
    """(G,) mask of providers that have ever been in the market, including those that left."""
    sold: Ints
    """(M,) consumptions of each item in this round and those before it."""
    items: pd.DataFrame
    """The item table of the log, M rows: ``id``, ``title``, ``genres``, ``year``, ``release``."""
    cost: float
    """c, the cost of one exposure of shortfall, in units of intensity."""
    decay: float
    """γ, the chance that the next position is examined; 1 in a replay, which sees all positions."""
    attraction: float = 1.0
    """a, the factor of consumers on the intensity of an item that is examined."""
    item_price: Floats | None = None
    """(M,) item prices v at the round's end; None for an agent without prices."""
    adoption: AdoptionTimes | None = None
    """Times to the first consumption, up to this round's end, of the items released so far; None without any."""
    value_model: float | None = None
    """Σ w_r·model score − c·(what is missing, and what is above caps); None without certificates, as the next two."""
    bound: float | None = None
    """D(w), lowest computed upper bound of the value V of any slates that keep all caps."""
    gap: float | None = None
    """``(D − V) / |D|``; None where a cap is exceeded."""
    estimated_decay: float | None = None
    """γ of examination as the platform estimates it at the round's end; None where it is given or unknown."""
    decay_error: float | None = None
    """Half the 95% interval of that estimate."""

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

    gamma = renamed_attribute("gamma", "decay")

    @property
    def on_offer(self) -> Bools:
        """Mask of items, released or not, whose provider is present."""
        return np.asarray(self.there[self.provider], np.bool_)

    @property
    def examination(self) -> Floats:
        """Factors a·γ^(r−1) by which positions multiply an intensity."""
        positions = self.slates.shape[1]
        if self.counts_items:  # a replay, which sees all positions
            return np.ones(positions)
        return np.asarray(self.attraction * self.decay ** np.arange(positions), np.float64)

    @cached_property
    def exposure(self) -> Ints:
        """Exposures E of each item."""
        return exposure_counts(self.slates, self.n_items)

    @property
    def required_positions(self) -> Floats:
        """Required exposures of each item, at average positions."""
        return np.asarray(self.required / mean_weight(self.position_weights), np.float64)

    @cached_property
    def delivered(self) -> Floats:
        """Exposures of each item, in the unit of the guarantee."""
        return weighted_exposure(self.slates, self.position_weights, self.n_items)

    @cached_property
    def consumption(self) -> Ints:
        """Consumptions of each item."""
        return np.bincount(self.slates[self.consumed], minlength=self.n_items)
