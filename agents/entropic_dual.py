"""``entropic-dual``: random slates, likelier with larger intensity minus price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim import rng
from rimsim.agents.arrival_arrays import ArrivalArrays, ExposureUnit, arrays_of, fill_slate, fill_values
from rimsim.agents.clock import RoundClock
from rimsim.agents.contract import OPTIONS
from rimsim.agents.gibbs import gibbs_draw, inclusion_sums, slate_chances, standing_order
from rimsim.agents.pacing import Pacing, move_prices
from rimsim.agents.past_states import States, states_in_order
from rimsim.arrays import Float32s, Floats, Ints
from rimsim.compiled import compiled, compiled_part
from rimsim.evaluation.off_policy import Chances
from rimsim.market import Slates
from rimsim.matching import order_items, tie_rank

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView

_WARMING = 5  # number of scaling updates at a high temperature, and again at ε, before L-BFGS-B
_HOT = 10.0  # the high temperature is the cost divided by this number
_STEPS = 60  # largest number of iterations of L-BFGS-B
_PLACES = 4  # number of updates of items' mean position weights, if positions count differently


@dataclass(config=OPTIONS, eq=False)
class EntropicDual:
    """Samples slates S with P(S) ∝ exp(Σ_{y∈S} (λ(x,y) − v_y) / ε).

    S is any set of k admissible items. The policy maximises Σ λ + ε·entropy under the guarantees. In Ma, Liu and Deoras
    (ICLR 2022), ε goes to 0. The policy explores: every admissible item can be shown, and the choice is most random
    where λ − v differs little between items. Given the delivery so far, the probabilities of items, of positions, of
    the first items of a slate, and of whole slates are exact (``gibbs.py``). The ledger records these probabilities.

    ε is ``temperature`` times the median, over the last round's states, of the k-th largest λ of a state. This median
    is a typical intensity at the last position of a slate. If λ − v of an item exceeds that of another item by 5·ε, the
    first is about e⁵ = 150 times likelier to be shown.

    Slates are sorted by λ − v, or by λ if every position counts the same. The probability of a set of items does not
    depend on their positions. If positions have different weights, the recursion of ``gibbs.py`` gives each item's
    expected exposure exactly: an item is at position j + 1 if j items of larger λ − v are in the set.

    Prices are solved for this policy on the last round's states. The prices v in [−c, 0] minimise the smoothed dual Σ_x
    ε·log Σ_S exp(Σ_S (λ − v)/ε) + v·b. The gradient of this dual is b_y − Σ_x π_xy, where π_xy is the probability that
    the slate of state x has item y. A few Newton steps first change the price of every item by ε·log(b/Σπ)·Σπ/Σπ(1 −
    π). For small π, this is the scaling step of Sinkhorn. Then L-BFGS runs until the missing expected exposure is at
    most ``tol``·Σb, for at most 60 steps. If positions have different weights, each floor is divided by the mean weight
    of the positions that show the item. This mean weight is computed again at the new prices, up to four times. So the
    prices do not exactly minimise a dual. Random exposures differ from their expectations by about √b. So prices adapt
    to delivery within a round, as in ``rim-feedback``, for hard requirements, too:

        v = clip(v₀ − g·c/√b · (b·t/N − E) / (1 − t/N + δ), −c, 0),

    Prices stay above −c because a much lower price would make the chances of all other items almost 0. With a gain of
    0, prices stay fixed, and arrivals may be served in any order.

    Args:
        temperature: ε, as a multiple of the median, over states, of the k-th largest λ.
        gain: g, relative step by which prices follow delivery; 0 freezes prices.
        closing: δ, share of the round over which late corrections are spread.
        states: Largest number of the last round's states, evenly spaced, on which prices are solved.
        tol: Share of the required exposures that the prices may leave undelivered in expectation.
    """

    name = "entropic-dual"
    barrier_every = None

    temperature: float = Field(default=0.1, gt=0)
    gain: float = Field(default=0.1, ge=0)
    closing: float = Field(default=0.05, ge=0)
    states: int = Field(default=500, ge=1)
    tol: float = Field(default=1e-3, gt=0)

    def __post_init__(self) -> None:
        """Allow any order of arrivals if the gain is 0."""
        self.order_free = self.gain == 0.0

    def begin_round(self, view: RoundView) -> None:
        """Solve the policy's prices on the last round's states."""
        self._epsilon, price = self._solved(view)
        self._pacing = Pacing.of(
            price,
            view.required.astype(np.float64),
            view.arrivals,
            gain=self.gain,
            closing=self.closing,
            cost=view.cost,
            hard=False,
        )
        self._unit = ExposureUnit.of(view)
        self._clock = RoundClock(view)
        self._slate = view.k
        self._draws = np.uint64(rng.bits(view.key, rng.Purpose.AGENT))
        self._exposure = view.exposure.astype(np.float64)

    @property
    def item_price(self) -> Floats:
        """Current price v of each item."""
        return self._pacing.price(self._clock.elapsed, self._exposure)

    def act(self, arrivals: Arrivals) -> Slates:
        """Sample a slate per arrival, and then update prices."""
        shape = (len(arrivals), self._slate)
        items = np.empty(shape, np.int64)
        price = np.empty(shape, np.float32)
        propensity = np.empty(shape, np.float32)
        chances = Chances.none(shape)
        _draw_slates(
            arrays_of(arrivals, self._slate),
            self._draws,
            self._clock.before(arrivals),
            tuple(self._pacing),
            tuple(self._unit),
            self._epsilon,
            self._exposure,
            items,
            price,
            propensity,
            chances.columns,
        )
        self._clock.advance(arrivals)
        return Slates(items, price=price, propensity=propensity, chances=chances)

    def note_delivery(self, exposure: Floats, arrivals: Arrivals | None) -> None:
        """Count exposures that another agent delivered to arrivals."""
        self._exposure += exposure
        if arrivals is not None:
            self._clock.advance(arrivals)

    def chance_of(self, slates: Ints, arrivals: Arrivals) -> Chances:
        """Probabilities of given slates at the current prices."""
        chances = Chances.none(slates.shape)
        _state_all(
            arrays_of(arrivals, self._slate),
            self._draws,
            self.item_price,
            tuple(self._unit),
            self._epsilon,
            slates,
            chances.columns,
        )
        return chances

    def _solved(self, view: RoundView) -> tuple[float, Floats]:
        """Temperature ε, and prices solved on the last round's states."""
        chunks = list(view.past)
        if not chunks:
            return self.temperature * view.cost, -np.zeros(len(view.required))
        past = states_in_order(chunks, view.k)
        n_past, m = past.scores.shape
        k = min(view.k, m)
        # A state with fewer than k items of positive intensity contributes 0.
        last = np.partition(np.maximum(past.scores, 0.0), m - k, axis=1)[:, -k]
        median = float(np.median(last))
        epsilon = self.temperature * (median if median > 0 else view.cost)
        n = min(self.states, n_past)
        sample = past.rows(np.floor((np.arange(n) + 0.5) * (n_past / n)).astype(np.int64))
        required = view.required.astype(np.float64) * (n / view.arrivals)
        weight = np.ascontiguousarray(view.position_weights, np.float64)
        return epsilon, entropic_prices(sample, required, view.cost, epsilon, self.tol, weight)


def entropic_prices(
    states: States, required: Floats, cost: float, epsilon: float, tol: float, weight: Floats | None = None
) -> Floats:
    """Item prices at which expected exposures reach the floors.

    Prices are in [−cost, 0], and 0 for items without required exposures. Required exposures need not be whole numbers,
    and a share ``tol`` of them may be missing. ``weight`` has the position weights of slates sorted by descending λ −
    v; None: all weights are 1.
    """
    if not (required > 0).any() or not cost > 0:
        return -np.zeros(len(required))
    if weight is None or weight[0] == weight[-1]:
        floors = required if weight is None else required / weight[0]
        return _minimum(states, floors, cost, epsilon, tol, None)
    mean, spread, counted = np.zeros((3, len(required)))
    floors = required / float(weight.mean())
    start = None
    for _ in range(_PLACES):
        price = start = _minimum(states, floors, cost, epsilon, tol, start)
        inclusion_sums(*states, price, epsilon, mean, spread, weight, counted)
        missing = np.where(price > -cost, required - counted, 0.0).clip(0.0).sum()
        wasted = np.where(price < 0, counted - required, 0.0).clip(0.0).sum()
        if max(missing, wasted) <= tol * required.sum():
            break
        floors = np.minimum(floors * required / np.maximum(counted, 1e-9), float(len(states.scores)))
    return price


def _minimum(
    states: States, required: Floats, cost: float, epsilon: float, tol: float, start: Floats | None
) -> Floats:
    """Item prices in [−cost, 0] that minimise the smoothed dual."""
    due = required > 0
    mean = np.zeros(len(required))
    spread = np.zeros(len(required))
    nothing = np.empty(0)
    price = -np.zeros(len(required)) if start is None else start.copy()
    # At a high temperature the dual is smoother, so that few updates come near its minimum.
    hot = max(epsilon, cost / _HOT)
    warming = [epsilon] if start is not None else [hot] * _WARMING + [epsilon] * _WARMING
    for temperature in warming:
        inclusion_sums(*states, price, temperature, mean, spread, nothing, nothing)
        moved = price - temperature * _scaling(required, mean, spread)
        price = np.where(due, np.clip(moved, -cost, -0.0), -0.0)
    items = np.flatnonzero(due & (mean > 0))
    solved = -np.zeros(len(required))
    if not len(items):
        return solved
    # The variables are scaled: one unit changes expected exposures by about their own standard deviation.
    unit = epsilon / np.sqrt(np.maximum(spread[items], 1e-3 * required[items]))

    def dual(x: Floats) -> tuple[float, Floats]:
        """The smoothed dual and its gradient at the prices −x·unit."""
        price[items] = -np.minimum(x * unit, cost)
        total = inclusion_sums(*states, price, epsilon, mean, spread, nothing, nothing)
        return (total + float(price @ required)) / epsilon, (mean - required)[items] * unit / epsilon

    def enough(xk: Floats) -> None:
        """Stop the search if missing and excess exposures are tolerable."""
        # L-BFGS-B has just evaluated ``xk``, so ``mean`` belongs to ``xk``.
        price[items] = -np.minimum(xk * unit, cost)
        missing = np.where(due & (price > -cost), required - mean, 0.0).clip(0).sum()
        wasted = np.where(due & (price < 0), mean - required, 0.0).clip(0).sum()
        if max(missing, wasted) <= tol * required.sum():
            raise StopIteration

    end = scipy.optimize.minimize(
        dual,
        -price[items] / unit,
        jac=True,
        method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(np.zeros(len(items)), cost / unit),
        callback=enough,
        options={"maxiter": _STEPS, "maxcor": 20, "ftol": 0.0, "gtol": 0.0},
    )
    solved[items] = -np.clip(end.x * unit, 0.0, cost)
    return solved


def _scaling(required: Floats, mean: Floats, spread: Floats) -> Floats:
    """Newton steps of the bonuses, as multiples of ε."""
    step = np.zeros(len(required))
    # An item that is admissible in no state has no derivative.
    can = (required > 0) & (mean > 0) & (spread > 0)
    step[can] = np.clip(np.log(required[can] / mean[can]) * mean[can] / spread[can], -20.0, 20.0)
    return step


@compiled
def _draw_slates(
    arrivals_: tuple[Any, ...],
    draws: np.uint64,
    elapsed: Floats,
    pacing_: tuple[Any, ...],
    unit_: tuple[Any, ...],
    epsilon: float,
    exposure: Floats,
    items: Ints,
    prices: Float32s,
    propensity: Float32s,
    chances: tuple[Floats, ...],
) -> None:
    """Serve arrivals in order; fill in slates, prices and chances."""
    arrivals = ArrivalArrays(*arrivals_)
    unit = ExposureUnit(*unit_)
    n, k = items.shape
    price = np.empty(len(exposure))
    value = np.empty(len(exposure))
    before = np.zeros(len(exposure))
    chance = np.empty(len(exposure), np.float32)
    for arrival in range(n):
        move_prices(pacing_, elapsed[arrival], exposure, before, price)
        fill_values(arrivals, arrival, price, value)
        capacity = min(arrivals.capacity[arrival], k)
        size = 0
        if capacity > 0:
            bits = tie_rank(draws, arrivals.id[arrival])
            size = gibbs_draw(value, epsilon, bits, items[arrival, :capacity], propensity[arrival, :capacity])
        # Propensities belong to items, so they follow when the items are put in order of λ.
        if unit.by_intensity:
            for place in range(size):
                chance[items[arrival, place]] = propensity[arrival, place]
            order_items(items[arrival, :size], arrivals.relevance[arrival])
            for place in range(size):
                propensity[arrival, place] = chance[items[arrival, place]]
        fill_slate(items[arrival], size, price, unit, exposure, prices[arrival])
        propensity[arrival, size:] = np.nan
        _state_one(arrivals, arrival, draws, value, unit, epsilon, items, chances)


@compiled_part
def _state_one(
    arrivals: ArrivalArrays,
    arrival: int,
    draws: np.uint64,
    value: Floats,
    unit: ExposureUnit,
    epsilon: float,
    items: Ints,
    chances: tuple[Floats, ...],
) -> None:
    """Fill in probabilities of an arrival's slate, given item values."""
    inclusion, position, prefix, slate_probability = chances
    order = standing_order(
        value, tie_rank(draws, arrivals.id[arrival]), arrivals.relevance[arrival], unit.by_intensity
    )
    capacity = min(arrivals.capacity[arrival], items.shape[1])
    slate_probability[arrival] = slate_chances(
        value,
        epsilon,
        order,
        capacity,
        items[arrival],
        inclusion[arrival],
        position[arrival],
        prefix[arrival],
    )


@compiled
def _state_all(
    arrivals_: tuple[Any, ...],
    draws: np.uint64,
    price: Floats,
    unit_: tuple[Any, ...],
    epsilon: float,
    items: Ints,
    chances: tuple[Floats, ...],
) -> None:
    """Fill in probabilities of given slates at given prices."""
    arrivals = ArrivalArrays(*arrivals_)
    unit = ExposureUnit(*unit_)
    value = np.empty(len(price))
    for arrival in range(len(items)):
        fill_values(arrivals, arrival, price, value)
        _state_one(arrivals, arrival, draws, value, unit, epsilon, items, chances)
