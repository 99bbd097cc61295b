"""The records that the price solver returns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.arrays import Floats, Ints

if TYPE_CHECKING:
    from rimsim.matching._pairs import Pairs, State
    from rimsim.matching._phases import End


class DualPrices(NamedTuple):
    """Prices of n users' offline problem, and what they prove."""

    item_price: Floats
    """(M,) v: at most 0 where a floor binds (a bonus), at least 0 where a cap does."""
    row_price: Floats
    """(G,) the prices of rows."""
    dual: float
    """D at these prices: no slates are worth more."""
    resolution: float
    """Values s − v closer than this were tied to the solver."""


@dataclass(frozen=True, eq=False)
class DualSolution:
    """Slates and prices of n users and M items."""

    item_price: Floats
    """(M,) v: at most 0 where a floor binds (a bonus), at least 0 where a cap does. Rank by s − v."""
    user_price: Floats
    """(n,) u: what one more position of the user would be worth, at least 0."""
    slates: Ints
    """(n, k) items in descending order of s − v, up to near ties where positions weigh differently; −1 for an empty
    position."""
    primal: float
    """V = Σ scores − cost · shortfall of these slates."""
    dual: float
    """D at these prices: no slates are worth more."""
    gap: float
    """``(dual − primal) / |dual|``."""
    shortfall: float
    """Σ (b − E)₊ over items and rows, a whole number of exposures without weights; 0 unless ``cost`` was given."""
    exposure: Ints | Floats
    """(M,) exposures, E: whole numbers without weights, float64 with them."""
    resolution: float
    """ε, or τ, of the last phase: values s − v closer than this were tied to the solver."""
    row_price: Floats = field(default_factory=lambda: np.empty(0))
    """(G,) prices of ``rows``; rank by s − v − Σ of those that hold the item and are active for the user."""

    def in_units(self, unit: float) -> DualSolution:
        """The same slates where a position counts so much: prices are per unit of exposure and stay."""
        if unit == 1.0:
            return self
        return replace(
            self,
            user_price=self.user_price * unit,
            primal=self.primal * unit,
            dual=self.dual * unit,
            shortfall=self.shortfall * unit,
            exposure=self.exposure.astype(np.float64) * unit,
        )


def packed(pairs: Pairs, state: State, end: End) -> DualSolution:
    """Slates and prices as users get them."""
    shown = state.slot >= 0
    pair = np.maximum(state.slot, 0)
    items = (pairs.uitem[pair] if pairs.sparse else pair % pairs.m).astype(np.int64)
    slates = np.where(shown, items, -1)
    values = np.where(shown, pairs.uval[pair] + end.w[items], -np.inf)
    order = np.lexsort((slates, -values), axis=1)
    return DualSolution(
        item_price=-end.w + 0.0,
        user_price=end.user_price,
        slates=np.take_along_axis(slates, order, axis=1),
        primal=end.primal,
        dual=end.dual,
        gap=end.gap,
        shortfall=int(np.maximum(state.floor - state.exposure, 0).sum()),
        exposure=state.exposure,
        resolution=end.epsilon,
    )
