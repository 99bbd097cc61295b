"""``entropic-dual``: slates drawn from the dual's Gibbs policy, with exact propensities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize

from rimsim import rng
from rimsim.agents._feedback import Pacing, closing_factor
from rimsim.agents._gibbs import gibbs_draw, inclusion_sums
from rimsim.agents.prices import capacities, joined_states
from rimsim.compiled import compiled
from rimsim.errors import ConfigError
from rimsim.market import Slates
from rimsim.matching import tie_rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market import Arrivals, RoundView

__all__ = ["EntropicDual", "entropic_bonus"]

_WARMING = 5  # scaling updates at a high temperature, and at the right one, before L-BFGS
_HOT = 10.0  # the high temperature is a tenth of the cost
_STEPS = 60  # L-BFGS iterations at most


class EntropicDual:
    """Draws slates with P(S) ∝ exp(Σ_{y∈S} (λ(x,y) − v_y) / ε) over the sets of k admissible items.

    It is the policy that maximises Σ λ + ε·entropy under required exposures; the paper's dual has the same term, as a
    device that is taken to 0 (Ma, Liu and Deoras, ICLR 2022). At fixed ε it explores: every admissible item has a
    chance, most where little is at stake. Each exposure's propensity, the probability that the slate holds the item,
    is computed exactly (``_gibbs.py``) and stands in the ledger, so what was seen under this agent can be reweighted.

    ε = ``temperature`` times the median over last round's states of the k-th largest λ: a multiple of what the last
    position of a slate is worth. At .1, an item worth half a last position less than another is e⁵ = 150 times
    less likely in its place.

    Bonuses w = −v are solved on last round's states for this very policy: they minimise the smoothed dual
    Σ_x ε·log Σ_S exp(Σ_S (λ + w)/ε) − w·b over the box [0, c], whose gradient is Σ_x π_xy − b_y. A few updates
    move every item by ε·log(b/Σπ)·Σπ/Σπ(1 − π), a Newton step on the logarithm of its expected exposures (for small π
    the scaling step of Sinkhorn); L-BFGS goes on until expected exposures lack at most ``tol``·Σb
    (within 60 steps: enough at .1, not at a third of it, where feedback has the rest to do). Draws scatter about
    expectations by some √b, so within the round prices follow delivery as in ``rim-feedback``:

        w = clip(w₀ + g·c/√b · (b·t/N − E) / (1 − t/N + δ), 0, c).

    Propensities are those given the delivery so far. With a gain of 0 prices are frozen and rows may come in any order.

    Args:
        temperature: ε as a multiple of the median k-th largest λ.
        gain: g, relative step of feedback; 0 freezes prices.
        closing: δ, as in ``rim-feedback``.
        states: How many of last round's states prices are solved on at most, evenly spaced.
        tol: Share of the required exposures that the prices may leave undelivered in expectation.

    Raises:
        ConfigError: If an option is out of its range.
    """

    name = "entropic-dual"
    barrier_every = None

    def __init__(
        self,
        temperature: float = 0.1,
        gain: float = 0.1,
        closing: float = 0.05,
        states: int = 500,
        tol: float = 1e-3,
    ) -> None:
        for field, value in (("temperature", temperature), ("tol", tol)):
            if not value > 0:
                raise ConfigError(f"entropic-dual: {field} is {value}; allowed: a positive number")
        for field, value in (("gain", gain), ("closing", closing)):
            if not value >= 0:
                raise ConfigError(f"entropic-dual: {field} is {value}; allowed: a number of at least 0")
        if isinstance(states, bool) or not isinstance(states, int) or states < 1:
            raise ConfigError(f"entropic-dual: states is {states!r}; allowed: a whole number of at least 1")
        self.temperature, self.tol = float(temperature), float(tol)
        self.gain, self.closing = float(gain), float(closing)
        self.states = states
        self.order_free = self.gain == 0.0

    def begin_round(self, view: RoundView) -> None:
        """Solve the prices of the entropic problem on last round's states."""
        required = view.required.astype(np.float64)
        self._epsilon, start = self._solved(view)
        step = np.where(required > 0, self.gain * view.cost / np.sqrt(np.maximum(required, 1.0)), 0.0)
        self._pacing = Pacing(
            start=start,
            pace=required / view.arrivals,
            step=step,
            cost=view.cost,
            closing=self.closing,
            required=np.empty(0),
            arrivals=view.arrivals,
        )
        self._slate = view.slate
        self._draws = np.uint64(rng.bits(view.key, rng.Purpose.AGENT))
        self._exposure = view.exposure.astype(np.float64)
        self._time = 0

    @property
    def item_price(self) -> NDArray[np.float64]:
        """(M,) present item prices v."""
        return -self._pacing.bonus(self._time, self._exposure)

    def act(self, arrivals: Arrivals) -> Slates:
        """Draw a slate for each row, in order, moving prices after each."""
        shape = (len(arrivals), self._slate)
        items, price = np.empty(shape, np.int64), np.empty(shape, np.float32)
        propensity = np.empty(shape, np.float32)
        pacing = self._pacing
        _draw_rows(
            arrivals.intensity.cpu().numpy(),
            arrivals.admissible.cpu().numpy(),
            arrivals.id,
            self._draws,
            self._epsilon,
            self._time,
            pacing.start,
            pacing.pace,
            pacing.step,
            pacing.cost,
            pacing.closing,
            pacing.arrivals,
            self._exposure,
            capacities([arrivals], self._slate),
            items,
            price,
            propensity,
        )
        self._time += len(items)
        return Slates(items, price=price, propensity=propensity)

    def _solved(self, view: RoundView) -> tuple[float, NDArray[np.float64]]:
        """ε, and the bonuses of the entropic problem of last round's states."""
        chunks = sorted(view.calibration, key=lambda chunk: int(chunk.index[0]))
        if not chunks:
            return self.temperature * view.cost, np.zeros(len(view.required))
        order = np.argsort(np.concatenate([chunk.index for chunk in chunks]))
        scores, admissible, capacity = joined_states(chunks, view.slate)
        k = min(view.slate, scores.shape[1])
        # A state with fewer than k items of positive intensity counts with 0.
        last = np.partition(np.where(admissible, scores, 0.0), scores.shape[1] - k, axis=1)[:, -k]
        median = float(np.median(last))
        epsilon = self.temperature * (median if median > 0 else view.cost)
        n = min(self.states, len(scores))
        some = order[np.floor((np.arange(n) + 0.5) * (len(scores) / n)).astype(np.int64)]
        bonus = entropic_bonus(
            scores[some],
            admissible[some],
            capacity[some],
            view.required.astype(np.float64) * (n / view.arrivals),
            view.cost,
            epsilon,
            self.tol,
        )
        return epsilon, bonus


def entropic_bonus(
    scores: NDArray[np.float32],
    admissible: NDArray[np.bool_],
    capacity: NDArray[np.int64],
    required: NDArray[np.float64],
    cost: float,
    epsilon: float,
    tol: float,
) -> NDArray[np.float64]:
    """Bonuses at which the Gibbs policy meets floors in expectation, as far as the box [0, cost] allows.

    Args:
        scores: (n, M) λ(x,y).
        admissible: (n, M).
        capacity: (n,) positions.
        required: (M,) expected exposures asked for over the n states; they need not be whole.
        cost: c, upper end of the box.
        epsilon: ε.
        tol: Share of Σ required that may be missing at the end.

    Returns:
        (M,) bonuses; 0 where nothing is required.
    """
    due = required > 0
    if not due.any() or not cost > 0:
        return np.zeros(len(required))
    mean, spread = np.zeros(len(required)), np.zeros(len(required))
    bonus = np.zeros(len(required))
    for _ in range(_WARMING):  # at a high temperature, where a few updates do
        hot = max(epsilon, cost / _HOT)
        inclusion_sums(scores, admissible, bonus, hot, capacity, mean, spread)
        bonus = np.where(due, np.clip(bonus + hot * _scaling(required, mean, spread), 0.0, cost), 0.0)
    for _ in range(_WARMING):
        inclusion_sums(scores, admissible, bonus, epsilon, capacity, mean, spread)
        bonus = np.where(due, np.clip(bonus + epsilon * _scaling(required, mean, spread), 0.0, cost), 0.0)
    items = np.flatnonzero(due & (mean > 0))
    # One unit of each variable is what changes expected exposures by about their own spread.
    unit = epsilon / np.sqrt(np.maximum(spread[items], 1e-3 * required[items]))

    def dual(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The smoothed dual and its gradient."""
        bonus[items] = np.minimum(x * unit, cost)
        total = inclusion_sums(scores, admissible, bonus, epsilon, capacity, mean, spread)
        return (total - float(bonus @ required)) / epsilon, (mean - required)[items] * unit / epsilon

    def enough(xk: NDArray[np.float64]) -> None:
        """Stop where what is missing, or bought in excess, is within the tolerance."""
        bonus[items] = np.minimum(xk * unit, cost)  # where the search stands, and was last evaluated
        missing = np.where(due & (bonus < cost), required - mean, 0.0).clip(0).sum()
        wasted = np.where(due & (bonus > 0), mean - required, 0.0).clip(0).sum()
        if max(missing, wasted) <= tol * required.sum():
            raise StopIteration

    end = optimize.minimize(
        dual,
        bonus[items] / unit,
        jac=True,
        method="L-BFGS-B",
        bounds=optimize.Bounds(np.zeros(len(items)), cost / unit),
        callback=enough,
        options={"maxiter": _STEPS, "maxcor": 20, "ftol": 0.0, "gtol": 0.0},
    )
    solved = np.zeros(len(required))
    solved[items] = np.clip(end.x * unit, 0.0, cost)
    return solved


def _scaling(
    required: NDArray[np.float64], mean: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Newton steps on the logarithm of each item's expected exposures, in units of ε."""
    step = np.zeros(len(required))
    can = (required > 0) & (mean > 0) & (spread > 0)  # what is inadmissible everywhere cannot be moved
    step[can] = np.clip(np.log(required[can] / mean[can]) * mean[can] / spread[can], -20.0, 20.0)
    return step


@compiled
def _draw_rows(
    scores: NDArray[np.float32],
    admissible: NDArray[np.bool_],
    ids: NDArray[np.int64],
    draws: np.uint64,
    epsilon: float,
    first: int,
    start: NDArray[np.float64],
    pace: NDArray[np.float64],
    step: NDArray[np.float64],
    cost: float,
    closing: float,
    arrivals: int,
    exposure: NDArray[np.float64],
    capacity: NDArray[np.int64],
    slates: NDArray[np.int64],
    price: NDArray[np.float32],
    propensity: NDArray[np.float32],
) -> None:
    """The rows in order, up to their capacities; ``exposure`` is changed in place, the last three are filled."""
    n, k = slates.shape
    m = len(start)
    bonus, value = np.empty(m), np.empty(m)
    for row in range(n):
        time = first + row
        factor = closing_factor(time, arrivals, closing)
        for item in range(m):
            moved = start[item] + step[item] * (pace[item] * time - exposure[item]) * factor
            bonus[item] = min(max(moved, 0.0), cost)
            shown = np.float64(scores[row, item]) + bonus[item]
            value[item] = shown if admissible[row, item] else -np.inf
        most, size = min(capacity[row], k), 0
        if most > 0:
            bits = tie_rank(draws, ids[row])
            size = gibbs_draw(value, epsilon, bits, slates[row, :most], propensity[row, :most])
        for place in range(k):
            if place < size:
                item = slates[row, place]
                exposure[item] += 1.0
                price[row, place] = -bonus[item]
            else:
                slates[row, place] = -1
                price[row, place] = np.nan
                propensity[row, place] = np.nan
