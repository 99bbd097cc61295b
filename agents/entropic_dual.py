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
from rimsim.agents.gibbs import gibbs_draw, inclusion_sums, slate_chances, slate_order
from rimsim.agents.pacing import Pacing, move_prices, paced_windows
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
        self._clock = RoundClock(view)
        self._slate = view.k
        self._draws = np.uint64(rng.bits(view.key, rng.Purpose.AGENT))
        self._exposure = view.exposure.astype(np.float64)
        self.reprice(view)

    def reprice(self, view: RoundView) -> None:
        """Solve v₀ and ε again; errors of delivery stay counted."""
        self._epsilon, price = self._solved(view)
        windows = view.windows
        offer_begin, offer_length = (
            (np.zeros(0), np.zeros(0)) if windows is None else paced_windows(windows, 0.0, 0.0)
        )
        pacing = Pacing.of(
            price,
            view.required.astype(np.float64),
            view.arrivals if windows is None else offer_length,
            gain=self.gain,
            closing=self.closing,
            cost=view.cost,
            hard=False,
        )
        self._pacing = pacing._replace(
            arrivals=np.full(1, float(view.arrivals)), offer_begin=offer_begin, offer_length=offer_length
        )
        self._unit = ExposureUnit.of(view)

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
        kth_score = np.partition(np.maximum(past.scores, 0.0), m - k, axis=1)[:, -k]
        median = float(np.median(kth_score))
        epsilon = self.temperature * (median if median > 0 else view.cost)
        n_sampled = min(self.states, n_past)
        evenly_spaced = np.floor((np.arange(n_sampled) + 0.5) * (n_past / n_sampled)).astype(np.int64)
        sample = past.rows(evenly_spaced)
        required = view.required.astype(np.float64) * (n_sampled / view.arrivals)
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
    expected, variance, weighted = np.zeros((3, len(required)))
    floors = required / float(weight.mean())
    start = None
    for _ in range(_PLACES):
        price = _minimum(states, floors, cost, epsilon, tol, start)
        start = price
        inclusion_sums(*states, price, epsilon, expected, variance, weight, weighted)
        missing = np.where(price > -cost, required - weighted, 0.0).clip(0.0).sum()
        excess = np.where(price < 0, weighted - required, 0.0).clip(0.0).sum()
        if max(missing, excess) <= tol * required.sum():
            break
        # ``floors`` are in expected shown positions, but ``required`` and ``weighted`` are in weighted exposures.
        floors = np.minimum(floors * required / np.maximum(weighted, 1e-9), float(len(states.scores)))
    return price


def _minimum(
    states: States, required: Floats, cost: float, epsilon: float, tol: float, start: Floats | None
) -> Floats:
    """Item prices in [−cost, 0] that minimise the smoothed dual."""
    is_required = required > 0
    expected = np.zeros(len(required))
    variance = np.zeros(len(required))
    no_weights = np.empty(0)
    price = -np.zeros(len(required)) if start is None else start.copy()
    # At a high temperature the dual is smoother, so that few updates come near its minimum.
    high_temperature = max(epsilon, cost / _HOT)
    warming = [epsilon] if start is not None else [high_temperature] * _WARMING + [epsilon] * _WARMING
    for temperature in warming:
        inclusion_sums(*states, price, temperature, expected, variance, no_weights, no_weights)
        stepped_price = price - temperature * _scaling(required, expected, variance)
        price = np.where(is_required, np.clip(stepped_price, -cost, -0.0), -0.0)
    items = np.flatnonzero(is_required & (expected > 0))  # those that some state admits
    solved_price = -np.zeros(len(required))
    if not len(items):
        return solved_price
    # The search is over bonuses divided by ``scale``, so that one unit changes each item's expected exposure by about
    # one standard deviation of the exposure. L-BFGS-B needs variables of similar effect.
    scale = epsilon / np.sqrt(np.maximum(variance[items], 1e-3 * required[items]))

    def dual(scaled_bonus: Floats) -> tuple[float, Floats]:
        """The smoothed dual over ε, and its gradient."""
        price[items] = -np.minimum(scaled_bonus * scale, cost)
        total = inclusion_sums(*states, price, epsilon, expected, variance, no_weights, no_weights)
        return (total + float(price @ required)) / epsilon, (expected - required)[items] * scale / epsilon

    def stop_if_tolerable(xk: Floats) -> None:
        """Stop the search if missing and excess exposures are tolerable."""
        # L-BFGS-B has just evaluated ``xk``, so ``expected`` belongs to ``xk``.
        price[items] = -np.minimum(xk * scale, cost)
        missing = np.where(is_required & (price > -cost), required - expected, 0.0).clip(0).sum()
        excess = np.where(is_required & (price < 0), expected - required, 0.0).clip(0).sum()
        if max(missing, excess) <= tol * required.sum():
            raise StopIteration

    search = scipy.optimize.minimize(
        dual,
        -price[items] / scale,
        jac=True,
        method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(np.zeros(len(items)), cost / scale),
        callback=stop_if_tolerable,
        options={"maxiter": _STEPS, "maxcor": 20, "ftol": 0.0, "gtol": 0.0},
    )
    solved_price[items] = -np.clip(search.x * scale, 0.0, cost)
    return solved_price


def _scaling(required: Floats, expected: Floats, variance: Floats) -> Floats:
    """Newton steps of the bonuses, as multiples of ε.

    The step of an item solves log Σπ = log b to first order, because the derivative of Σπ in bonus/ε is Σπ(1 − π).
    """
    step = np.zeros(len(required))
    # An item that is admissible in no state has no derivative.
    has_derivative = (required > 0) & (expected > 0) & (variance > 0)
    log_ratio = np.log(required[has_derivative] / expected[has_derivative])
    newton_step = log_ratio * expected[has_derivative] / variance[has_derivative]
    # The limits matter for an item in nearly all slates, whose variance is almost 0.
    step[has_derivative] = np.clip(newton_step, -20.0, 20.0)
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
    """Serve arrivals in order; fill in slates, prices and chances.

    ``exposure``, the exposures of the round, is updated after each arrival.
    """
    arrivals = ArrivalArrays(*arrivals_)
    unit = ExposureUnit(*unit_)
    n, k = items.shape
    price = np.empty(len(exposure))
    value = np.empty(len(exposure))
    before = np.zeros(len(exposure))  # exposures before pacing began: pacing lasts for the whole round
    propensity_of_item = np.empty(len(exposure), np.float32)
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
            for position in range(size):
                propensity_of_item[items[arrival, position]] = propensity[arrival, position]
            order_items(items[arrival, :size], arrivals.relevance[arrival])
            for position in range(size):
                propensity[arrival, position] = propensity_of_item[items[arrival, position]]
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
    order = slate_order(
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
