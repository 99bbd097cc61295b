"""``p-mmf``: max-min fairness by dual mirror descent, a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.arrival_arrays import ArrivalArrays, ExposureUnit, arrays_of, fill_slate, fill_values
from rimsim.agents.clock import RoundClock
from rimsim.agents.contract import OPTIONS
from rimsim.arrays import Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.market import Slates
from rimsim.matching import best_items, order_items, tie_base, tie_rank

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


@dataclass(config=OPTIONS, eq=False)
class PMMF:
    """Ranks by λ minus prices μ, which mirror descent updates.

    P-MMF (Xu et al., WWW 2023) maximises Σ λ + L·min_y E_y/γ_y online. The last term is L times the smallest ratio of a
    provider's exposure E_y to its share γ_y. Our version differs in three respects. Providers are items. The required
    exposure b takes the place of γ. Exposure beyond the guarantee does not raise the last term, L·min(1, min_y
    E_y/b_y). The original P-MMF uses γ as a quota that no provider may exceed. Such a quota would forbid all exposure
    beyond the floors. Prices start at 0 in every round, as in the paper.

    The dual has prices μ in D = {μ ≤ 0, Σ_y b_y·(−μ_y) ≤ L}, so all items share the budget L. Other agents have a
    separate limit for each item's price. After each arrival

        d ← α·(b/N − x) + (1 − α)·d,        μ ← proj_D(μ − η·c/√b · d),

    where x is the exposure of the slate. The projection minimises the squared distance with the weight √b for each
    item. The projection sorts once and needs no solver (:func:`projected`).

    Args:
        strength: L, weight of fairness, as a multiple of c·Σb; 1 allows a mean bonus of c.
        eta: η, relative step of prices.
        momentum: 1 − α, weight of earlier gradients.
    """

    name = "p-mmf"
    order_free = False
    barrier_every = None

    strength: float = Field(default=1.0, gt=0)
    eta: float = Field(default=0.5, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)

    def begin_round(self, view: RoundView) -> None:
        """Start from prices of 0."""
        self._slate = view.k
        self._ties = tie_base(view.key)
        self._unit = ExposureUnit.of(view)
        self._clock = RoundClock(view)
        self._required = view.required.astype(np.float64)
        self._pace = self._required / view.arrivals
        self._step = self.eta * view.cost
        self._limit = self.strength * view.cost * float(self._required.sum())
        self._price = -np.zeros(len(self._pace))
        self._error = np.zeros(len(self._pace))

    @property
    def item_price(self) -> Floats:
        """Current price μ of each item."""
        return self._price.copy()

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve the arrivals in order, and update prices after each."""
        shape = (len(arrivals), self._slate)
        items = np.empty(shape, np.int64)
        price = np.empty(shape, np.float32)
        _rank_and_descend(
            arrays_of(arrivals, self._slate),
            self._ties,
            self._clock.steps(arrivals),
            tuple(self._unit),
            self._required,
            self._pace,
            self._step,
            1.0 - self.momentum,
            self._limit,
            self._price,
            self._error,
            items,
            price,
        )
        self._clock.advance(arrivals)
        return Slates(items, price=price)


@compiled
def projected(bonus: Floats, weight: Floats, metric: Floats, limit: float) -> Floats:
    """Projection x of bonuses y onto {x ≥ 0, Σ weight·x ≤ limit}.

    The distance is Σ metric·(x − y)². If the budget ``limit`` does not bind, x = y₊. If the budget binds, x = (y −
    τ·weight/metric)₊ for one τ. Sorting by y·metric/weight finds τ, because the items that stay positive are the first
    in that order (as for the simplex: Held, Wolfe and Crowder 1974). An item of weight 0 does not use the budget.
    """
    x = np.maximum(bonus, 0.0)
    needed_budget = (weight * x).sum()
    if needed_budget <= limit:
        return x
    positive = np.flatnonzero((weight > 0.0) & (x > 0.0))
    # An item stays positive while τ is below this number.
    largest_tau = x[positive] * metric[positive] / weight[positive]
    order = positive[np.argsort(-largest_tau)]
    spent = 0.0
    slope = 0.0
    tau = 0.0
    # τ = (Σ weight·x − limit) / Σ weight²/metric, over the items that stay positive.
    for item in order:
        if spent > limit and x[item] * metric[item] / weight[item] <= tau:
            break
        spent += weight[item] * x[item]
        slope += weight[item] * weight[item] / metric[item]
        tau = (spent - limit) / slope
    for item in positive:
        x[item] = max(x[item] - tau * weight[item] / metric[item], 0.0)
    return x


@compiled
def _rank_and_descend(
    arrivals_: tuple[Any, ...],
    ties: np.uint64,
    steps: Floats,
    unit_: tuple[Any, ...],
    required: Floats,
    pace: Floats,
    step: float,
    alpha: float,
    limit: float,
    price: Floats,
    error: Floats,
    items: Ints,
    prices: Float32s,
) -> None:
    """Serve arrivals in order, and update prices after each.

    ``steps`` has the time from each arrival to the next, counted in expected arrivals. ``pace`` is b/N, ``step`` is
    η·c, and ``error`` is the gradient d. ``price`` and ``error`` are updated.
    """
    arrivals = ArrivalArrays(*arrivals_)
    unit = ExposureUnit(*unit_)
    n, k = items.shape
    m = len(price)
    value = np.empty(m)
    best = np.empty(k)
    shown = np.empty(m)
    bonus = np.empty(m)
    root_required = np.sqrt(required)
    for arrival in range(n):
        fill_values(arrivals, arrival, price, value)
        n_positions = min(arrivals.capacity[arrival], k)
        bits = tie_rank(ties, arrivals.id[arrival])
        size = best_items(value, bits, items[arrival, :n_positions], best[:n_positions], 0.0)
        if unit.by_intensity:
            order_items(items[arrival, :size], arrivals.relevance[arrival])
        shown[:] = 0.0
        fill_slate(items[arrival], size, price, unit, shown, prices[arrival])
        for item in range(m):
            error[item] = (
                alpha * (pace[item] * steps[arrival]) + (1.0 - alpha) * error[item] - alpha * shown[item]
            )
            bonus[item] = (
                step / root_required[item] * error[item] - price[item] if required[item] > 0.0 else 0.0
            )
        bonus[:] = projected(bonus, required, root_required, limit)
        price[:] = -bonus
