"""The three tasks of a back-test on the scores of one model: metrics by name.

Item recommendation answers every test state with its k best items, user recommendation every item with its c best
users, and online matching prices every item on past states and ranks the test states by λ(x,y) − v (Ma, Liu and
Deoras, ICLR 2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rimsim import measures
from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.errors import InfeasibleError
from rimsim.intensity.contract import spans
from rimsim.matching import price_slates, required_exposure, solve_dual, user_rec
from rimsim.scenarios.backtesting.scores import ROWS

if TYPE_CHECKING:
    from rimsim.matching import DualSolution
    from rimsim.scenarios.backtesting.scores import Scores
    from rimsim.scenarios.backtesting.split import Split, Targets


PAYING = "guaranteed_decile_"
"""Begins the names of metrics that say who pays: positions a slate given to items whose guarantee binds."""
_CELLS = 1 << 24
"""Scores held at once for user recommendation."""
_DENSE = 1 << 26
"""Scores of past states up to which the price solver gets the whole matrix."""
_DEAR = 4.0
"""Price of an exposure of shortfall where floors cannot all be met, in units of the largest score."""


@dataclass(frozen=True)
class Pricing:
    """How prices are solved and served."""

    seed: int
    """Rounding of floors, order of ties."""
    tol: float
    """Certified relative gap at which the solver stops."""
    dither: float
    """Values λ − v closer than so much of a position's mean value are ties."""

    def width(self, solution: DualSolution, positions: int) -> float:
        """Width of ties at prices whose problem had so many positions."""
        return max(solution.resolution, self.dither * solution.dual / max(positions, 1))


@dataclass
class Served:
    """Counts what slates are worth as they come in, block by block."""

    targets: Targets
    users: int = 0
    filled: int = 0
    hit: int = 0
    exposure: Ints = field(init=False)
    """(M,) exposures so far."""
    _parts: list[tuple[float, float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.exposure = np.zeros(self.targets.m, np.int64)
        self._wanted = self.targets.by_user

    def add(self, start: int, slates: Ints) -> None:
        """Count the slates of states from row ``start`` on."""
        rows = np.arange(start, start + len(slates))
        hits = self.targets.hits(rows[:, None], slates)
        wanted = self._wanted[rows]
        self.users += len(slates)
        self.filled += int((slates >= 0).sum())
        self.hit += int(hits.sum())
        self.exposure += measures.exposure_counts(slates, self.targets.m)
        self._parts.append(
            (measures.recall(hits, wanted), measures.ndcg(hits, wanted), int((wanted > 0).sum()))
        )

    def metrics(self, positions: int, known: Bools) -> dict[str, float]:
        """Precision over the given number of positions, recall, NDCG, and how exposure spreads."""
        weight = np.array([number for _, _, number in self._parts], np.float64)
        share = weight / max(weight.sum(), 1.0)
        return {
            "precision": self.hit / positions if positions else 0.0,
            "recall": float(share @ [recall for recall, _, _ in self._parts]),
            "ndcg": float(share @ [ndcg for _, ndcg, _ in self._parts]),
            "perplexity": measures.perplexity(self.exposure),
            "coverage": measures.coverage(self.exposure[known]),
        }


def item_recommendation(scores: Scores, split: Split, k: int, seed: int) -> dict[str, float]:
    """Every test state's k items of largest score.

    Args:
        scores: Of the test states.
        split: Their targets.
        k: Items a state.
        seed: Order of ties.
    """
    served = Served(split.targets)
    for start, slates in _served(scores, split, np.zeros(scores.shape[1]), k, seed, 0.0):
        served.add(start, slates)
    return served.metrics(len(split.test.user) * k, split.known)


def user_recommendation(scores: Scores, split: Split, c: int, seed: int) -> dict[str, float]:
    """Every known item's c users of largest score; perplexity and coverage are over users.

    Args:
        scores: Of the test states.
        split: Their targets.
        c: Users an item.
        seed: Order of ties.
    """
    n = scores.shape[0]
    items = np.flatnonzero(split.known)
    width = max(1, _CELLS // n)
    best = []
    for first in range(0, len(items), width):
        block = items[first : first + width]
        columns = np.empty((n, len(block)), np.float32)
        for start, stop in spans(n, ROWS):
            columns[start:stop] = scores.rows(start, stop)[:, block]
        best.append(user_rec(columns, c, tie_seed=seed, row_keys=block))
    users = np.concatenate(best)
    hits = split.targets.hits(users, items[:, None])
    wanted = split.targets.by_item[items]
    exposure = measures.exposure_counts(users, n)
    return {
        "precision": measures.precision(hits),
        "recall": measures.recall(hits, wanted),
        "ndcg": measures.ndcg(hits, wanted),
        "perplexity": measures.perplexity(exposure),
        "coverage": measures.coverage(exposure),
    }


def matching_with_floors(
    scores: Scores,
    past: Scores,
    split: Split,
    k: int,
    betas: tuple[float, ...],
    rate: Float32s | None,
    pricing: Pricing,
) -> dict[float, dict[str, float]]:
    """Online matching where every known item is guaranteed β of the uniform exposure.

    Args:
        scores: Of the test states.
        past: Of past states; the prices are fitted on them.
        split: Targets, known items.
        k: Positions of a state.
        betas: Floors.
        rate: (n,) λ(x) of the test states, for who pays; None leaves that out.
        pricing: How prices are solved and served.

    Returns:
        Metrics by β. Who pays: positions a slate, by decile of λ(x), that go to items which the same model leaves
        below their floor where there is none.
    """
    n, m = scores.shape
    seed = pricing.seed
    free = _slates(scores, split, np.zeros(m), k, seed, 0.0)
    alone = measures.exposure_counts(free, m)
    solver = _Prices(past, split.known)
    metrics = {}
    for beta in betas:
        required = required_exposure(beta, n, k, split.known, seed)
        solution = None
        slates = free
        if required.any():
            wanted = required_exposure(beta, past.shape[0], k, split.known, seed)
            solution = solver.with_floors(k, wanted, pricing)
            width = pricing.width(solution, past.shape[0] * k)
            slates = _slates(scores, split, solution.item_price, k, seed, width)
        served = Served(split.targets)
        served.add(0, slates)
        values = served.metrics(n * k, split.known)
        values["shortfall"] = measures.shortfall(served.exposure, required)
        values["items_met"] = measures.items_met(served.exposure, required)
        if solution is not None:
            values["gap"] = solution.gap
            if rate is not None:
                values |= _who_pays(slates, measures.binding_items(alone, required), rate)
        metrics[beta] = values
    return metrics


def _who_pays(slates: Ints, binding: Bools, rate: Float32s) -> dict[str, float]:
    paid = measures.who_pays(slates, binding, rate)
    values = {f"{PAYING}{number}": float(value) for number, value in enumerate(paid, 1)}
    return values | {"guaranteed_lowest_minus_highest": float(paid[0] - paid[-1])}


def matching_with_caps(
    scores: Scores,
    past: Scores,
    split: Split,
    k: int,
    caps: tuple[float, ...],
    share: float,
    pricing: Pricing,
) -> dict[float, dict[str, float]]:
    """Online matching where an item may be shown c times, c a share of the users, and a user gets m·k positions.

    An empty position is no miss here, since caps leave positions empty: precision is hits per exposure, and
    ``filled`` says how much of what the caps allow was exposed.

    Args:
        scores: Of the test states.
        past: Of past states; the prices are fitted on them.
        split: Targets, known items.
        k: Positions of a state at m = 1.
        caps: The multiples m.
        share: c as a share of the users, rounded up.
        pricing: How prices are solved and served.

    Returns:
        Metrics by m.
    """
    n, m = scores.shape
    solver = _Prices(past, split.known)
    metrics = {}
    for multiple in caps:
        capacity = min(round(multiple * k), m)
        cap = int(np.ceil(share * past.shape[0]))
        solution = solver.with_caps(capacity, cap, pricing)
        width = pricing.width(solution, int(solution.exposure.sum()))
        served = Served(split.targets)
        for start, slates in _served(scores, split, solution.item_price, capacity, pricing.seed, width):
            served.add(start, slates)
        values = served.metrics(served.filled, split.known)
        allowed = min(n * capacity, int(np.ceil(share * n)) * split.n_known)
        metrics[multiple] = values | {"filled": served.filled / allowed, "gap": solution.gap}
    return metrics


class _Prices:
    """Prices of past states, whose matrix is made once if it is small enough to be held."""

    def __init__(self, past: Scores, known: Bools) -> None:
        n, m = past.shape
        self._scores: object = past
        self._admissible: Bools | None = None
        self._n, self._known, self._largest = n, known, 0.0
        if n * m <= _DENSE:
            matrix = np.concatenate([past.rows(start, stop) for start, stop in spans(n, ROWS)])
            self._admissible = np.isfinite(matrix)
            matrix[~self._admissible] = 0.0
            self._scores = matrix

    def with_floors(self, k: int, floor: Ints, pricing: Pricing) -> DualSolution:
        try:
            return self._solved(k, floor, None, None, pricing)
        except InfeasibleError:
            # Too few states that have not consumed an item already: come as near as can be.
            return self._solved(k, floor, None, _DEAR * self._most(), pricing)

    def with_caps(self, capacity: int, cap: int, pricing: Pricing) -> DualSolution:
        return self._solved(capacity, 0, np.full(len(self._known), cap), None, pricing)

    def _solved(
        self,
        capacity: int,
        floor: Ints | int,
        cap: Ints | None,
        cost: float | None,
        pricing: Pricing,
    ) -> DualSolution:
        return solve_dual(
            self._scores,
            capacity,
            floor,
            cap,
            admissible=self._admissible,
            cost=cost,
            tol=pricing.tol,
            tie_seed=pricing.seed,
        )

    def _most(self) -> float:
        if isinstance(self._scores, np.ndarray):
            return float(self._scores.max())
        past: Scores = self._scores  # type: ignore[assignment]  # the two kinds that __init__ makes
        return max(float(past.rows(start, stop).max()) for start, stop in spans(self._n, ROWS))


def _served(
    scores: Scores, split: Split, price: Floats, k: int, seed: int, tie_width: float
) -> Iterator[tuple[int, Ints]]:
    """First row and slates of each block of test states."""
    for start, stop in spans(scores.shape[0], ROWS):
        users = split.test.user[start:stop]
        yield (
            start,
            price_slates(
                scores.rows(start, stop), price, k, tie_seed=seed, row_keys=users, tie_width=tie_width
            ),
        )


def _slates(scores: Scores, split: Split, price: Floats, k: int, seed: int, tie_width: float) -> Ints:
    return np.concatenate([slates for _, slates in _served(scores, split, price, k, seed, tie_width)])
