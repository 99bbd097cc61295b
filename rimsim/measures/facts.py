"""Facts of a round that measures read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.measures.exposure import exposure_counts, mean_weight, undelivered, weighted_exposure
from rimsim.measures.loop import AdoptionTimes

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
    """Seed of the arm. All agents at a seed see the same arrivals and random numbers."""
    slates: NDArray[np.integer]
    """(n, k) shown items, in order of position; −1 for an empty position. Rows are arrivals, sorted by time."""
    consumed: Bools
    """(n, k) True for consumed items."""
    probability: Floats
    """(n, k) true probability of consumption; 0 at an empty position."""
    true_intensity: Floats
    """(n, k) true intensity λ*(x)·p*(y|x) of each shown item; 0 at an empty position."""
    intensity: Float32s
    """(n, k) the platform's λ(x,y) at the decision; NaN at an empty position."""
    price: Float32s
    """(n, k) item price v at the decision; NaN for an agent without prices."""
    propensity: Float32s
    """(n, k) probability that the item is in the slate, at the decision; NaN for a deterministic agent."""
    user: Ints
    """(n,) visitor of each arrival."""
    time: Floats
    """(n,) time of each arrival, in seconds on the market's clock."""
    history: Ints
    """(n,) number of events in each visitor's state; 0 on a first visit."""
    ground_intensity: Float32s
    """(n,) the platform's λ(x) of each arrival."""
    relevant: Floats
    """(n,) number of items that each arrival would have consumed if the complete catalogue had been shown."""
    counts_items: bool
    """True if ``relevant`` counts items, as in a replay; False if it is an expectation, λ*(x)."""
    required: Floats
    """(M,) required exposures b, in the unit of the guarantee."""
    due_items: Floats
    """(M,) exposures that the round adds to each item's guarantee, in the unit of the guarantee. ``required`` also has
    the carry-over of earlier rounds."""
    position_weights: Floats
    """(k,) weight of an exposure at each position in the unit of the guarantee: γ^(r−1) if examined, 1 if shown."""
    min_exposure: Floats
    """(J,) smallest exposure of each requirement (group, campaign or cap), in the unit of the guarantee; 0: none."""
    max_exposure: Floats
    """(J,) largest exposure of each requirement, in the unit of the guarantee; ∞: no cap."""
    counted: Floats
    """(J,) exposures that counted for each requirement, in the unit of the guarantee."""
    due: Floats
    """(J,) exposures that the round adds to each group or campaign, in the unit of the guarantee; 0 for a cap."""
    counted_shown: Floats
    """(J,) exposures that counted for each requirement, as positions."""
    counted_examined: Floats
    """(J,) exposures that counted for each requirement, weighted by γ^(r−1)."""
    first_exposure: Ints
    """(M,) exposures of each item in round 0 of the same arm."""
    log_counts: Ints
    """(M,) events of each item in the log that the platform trains on at the end of the round."""
    popularity: Ints
    """(M,) events of each item in the warm-up log, which later rounds do not change."""
    release: Floats
    """(M,) release of each item, in seconds on the market's clock; −∞: released from the start."""
    genre_weights: Floats
    """(M, G) share of each genre in each item, from :func:`rimsim.measures.genre_weights`."""
    provider: Ints
    """(M,) provider of each item, from 0 to G − 1; each item is its own provider where providers cannot leave."""
    there: Bools
    """(G,) True for providers who were in the market in this round."""
    stays: Bools
    """(G,) True for providers who were in the market in this round and do not leave at its end."""
    came: Bools
    """(G,) True for providers who have ever been in the market, including those that have left."""
    on_offer: Bools
    """(M,) True for items on offer at the end of this round: released, not ended, and of a present provider."""
    sold: Ints
    """(M,) consumptions of each item in this round and all earlier rounds."""
    items: pd.DataFrame
    """The item table of the log, M rows: ``id``, ``title``, ``genres``, ``year``, ``release``."""
    cost: float
    """c, the cost of a missing exposure, in units of intensity."""
    decay: float
    """γ, the chance that a visitor looks at the next position; 1 in a replay, whose visitors look at all positions."""
    fee: float = 0.0
    """Fee of each provider who stays, in consumptions per round."""
    attraction: float = 1.0
    """a, the factor by which consumers multiply the intensity of an item that a visitor looks at; with free choice,
    a·(1 − own_choice)."""
    repeats: Bools | None = None
    """(n, k) True for shown items that the visitor had consumed before; None if no
    visitor may take an item again."""
    organic: Ints | None = None
    """(n,) consumptions of each arrival that no slate brought; None in a round without such consumptions, and in a
    replay, whose hits are organic themselves."""
    item_price: Floats | None = None
    """(M,) item prices v at the end of the round; None for an agent without prices."""
    adoption: AdoptionTimes | None = None
    """Times to the first consumption of the items released so far, up to the end of this round; None without such
    items."""
    value_model: float | None = None
    """Σ w_r·model score − c·(missing exposures + exposures above caps). Like the next two fields, it is None without
    certificates."""
    bound: float | None = None
    """D(w), the lowest upper bound found for the value V of slates that keep all caps."""
    gap: float | None = None
    """``(D − V) / |D|``; None if a cap is exceeded."""
    estimated_decay: float | None = None
    """γ that the platform estimates at the end of the round; None if γ is given, or there is no estimate."""
    decay_error: float | None = None
    """Half the width of the 95% interval of ``estimated_decay``."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                read_only = value.view()
                read_only.flags.writeable = False
                object.__setattr__(self, field.name, read_only)

    @property
    def n_items(self) -> int:
        """Size of the catalogue, M."""
        return len(self.required)

    @property
    def examination(self) -> Floats:
        """Factors a·γ^(r−1) by which positions multiply an intensity."""
        positions = self.slates.shape[1]
        if self.counts_items:  # this is a replay, whose visitors look at all positions
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

    def undelivered(self, weights: Floats, counted: Floats) -> float:
        """Undelivered share of all guarantees, if positions had other weights.

        Args:
            weights: (k,) weight of an exposure at each position.
            counted: (J,) exposures that counted for each group or campaign, at these weights.
        """
        scale = mean_weight(weights)
        mean = mean_weight(self.position_weights)
        # One division and one product, so that a guarantee of items alone has the figures of ``shortfall``.
        required = np.concatenate([self.required / mean * scale, self.min_exposure / mean * scale])
        due = np.concatenate([self.due_items / mean * scale, self.due / mean * scale])
        exposure = weighted_exposure(self.slates, weights, self.n_items)
        return undelivered(np.concatenate([exposure, counted]), required, due)

    @cached_property
    def delivered(self) -> Floats:
        """Exposures of each item, in the unit of the guarantee."""
        return weighted_exposure(self.slates, self.position_weights, self.n_items)

    @cached_property
    def consumption(self) -> Ints:
        """Consumptions of each item."""
        return np.bincount(self.slates[self.consumed], minlength=self.n_items)
