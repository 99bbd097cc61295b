"""Tasks of a back-test: metrics of one model's scores.

Item recommendation answers every test state with its k best items, user recommendation every item with its c best
users, and online matching prices every item on past states and ranks the test states by λ(x,y) − v (Ma, Liu and
Deoras, ICLR 2022).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from rimsim import measures
from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.errors import InfeasibleError
from rimsim.intensity.contract import spans
from rimsim.intensity.scores import ROWS
from rimsim.matching import ChunkedScores, DualSolution, price_slates, required_exposure, solve_dual, user_rec
from rimsim.scenarios.kinds.backtest.split import LogSplit, Targets

Results: TypeAlias = dict[float, dict[str, float]]  # metrics by β or m
PAYING = "guaranteed_decile_"  # begins metrics of positions per slate of items whose guarantee binds
_CELLS = 1 << 24  # scores held at once for user recommendation
_DENSE = 1 << 26  # scores of past states up to which the price solver gets the whole matrix
_DEAR = 4.0  # price of an exposure of shortfall where floors cannot all be met, in units of the largest score


@dataclass(frozen=True)
class Pricing:
    """Way in which prices are solved and served."""

    seed: int  # Rounding of floors, order of ties
    tol: float  # Certified relative gap at which the solver stops
    dither: float  # Values λ − v closer than so much of a position's mean value are ties

    def width(self, solution: DualSolution, positions: int) -> float:
        """Width of ties at prices for so many positions."""
        return max(solution.resolution, self.dither * solution.dual / max(positions, 1))


@dataclass
class Served:
    """Hits and exposure of slates, counted block by block."""

    targets: Targets
    users: int = 0
    filled: int = 0
    hit: int = 0
    exposure: Ints = field(init=False)
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
        recall, ndcg = measures.recall(hits, wanted), measures.ndcg(hits, wanted)
        self._parts.append((recall, ndcg, int((wanted > 0).sum())))

    def metrics(self, positions: int, known: Bools) -> dict[str, float]:
        """Precision, recall, NDCG and spread of exposure."""
        weight = np.array([number for _, _, number in self._parts], np.float64)
        share = weight / max(weight.sum(), 1.0)
        return {
            "precision": self.hit / positions if positions else 0.0,
            "recall": float(share @ [recall for recall, _, _ in self._parts]),
            "ndcg": float(share @ [ndcg for _, ndcg, _ in self._parts]),
            "perplexity": measures.perplexity(self.exposure),
            "coverage": measures.coverage(self.exposure[known]),
        }


def item_recommendation(scores: ChunkedScores, split: LogSplit, k: int, seed: int) -> dict[str, float]:
    """Metrics of every test state's k best items."""
    served = _counted(_served(scores, split, np.zeros(scores.shape[1]), k, seed, 0.0), split)
    return served.metrics(len(split.test.user) * k, split.known)


def user_recommendation(scores: ChunkedScores, split: LogSplit, c: int, seed: int) -> dict[str, float]:
    """Metrics of every known item's c best users."""
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
    hits, wanted = split.targets.hits(users, items[:, None]), split.targets.by_item[items]
    exposure = measures.exposure_counts(users, n)
    return {  # perplexity and coverage are over users
        "precision": measures.precision(hits),
        "recall": measures.recall(hits, wanted),
        "ndcg": measures.ndcg(hits, wanted),
        "perplexity": measures.perplexity(exposure),
        "coverage": measures.coverage(exposure),
    }


def matching_with_floors(
    scores: ChunkedScores,
    past: ChunkedScores,
    split: LogSplit,
    k: int,
    betas: Sequence[float],
    rate: Float32s | None,
    pricing: Pricing,
) -> Results:
    """Metrics by β of online matching with floors.

    Who pays: positions per slate, by decile of λ(x), of items that the same model leaves below their floor without one.
    """
    n, m = scores.shape
    free = _slates(scores, split, np.zeros(m), k, pricing.seed, 0.0)
    alone = measures.exposure_counts(free, m)
    prices = _Prices(past, pricing)
    metrics = {}
    for beta in betas:
        required = required_exposure(beta, n, k, split.known, pricing.seed)
        solution, slates = None, free
        if required.any():
            floor = required_exposure(beta, past.shape[0], k, split.known, pricing.seed)
            solution = prices.with_floors(k, floor)
            width = pricing.width(solution, past.shape[0] * k)
            slates = _slates(scores, split, solution.item_price, k, pricing.seed, width)
        served = Served(split.targets)
        served.add(0, slates)
        values = served.metrics(n * k, split.known)
        values["shortfall"] = measures.shortfall(served.exposure, required)
        values["items_met"] = measures.items_met(served.exposure, required)
        if solution is not None:
            values["gap"] = solution.gap
            if rate is not None:
                paid = measures.who_pays(slates, measures.binding_items(alone, required), rate)
                values |= {f"{PAYING}{number}": float(value) for number, value in enumerate(paid, 1)}
                values["guaranteed_lowest_minus_highest"] = float(paid[0] - paid[-1])
        metrics[beta] = values
    return metrics


def matching_with_caps(
    scores: ChunkedScores,
    past: ChunkedScores,
    split: LogSplit,
    k: int,
    caps: Sequence[float],
    share: float,
    pricing: Pricing,
) -> Results:
    """Metrics by m of online matching with caps.

    An item is shown to a share of the users at most. An empty position is no miss here, since caps leave positions
    empty: precision is hits per exposure, and ``filled`` the exposed share of what the caps allow.
    """
    n, m = scores.shape
    prices = _Prices(past, pricing)
    metrics = {}
    for multiple in caps:
        capacity = min(round(multiple * k), m)
        solution = prices.solved(capacity, 0, np.full(m, int(np.ceil(share * past.shape[0]))))
        width = pricing.width(solution, int(solution.exposure.sum()))
        slates = _served(scores, split, solution.item_price, capacity, pricing.seed, width)
        served = _counted(slates, split)
        values = served.metrics(served.filled, split.known)
        allowed = min(n * capacity, int(np.ceil(share * n)) * split.n_known)
        metrics[multiple] = values | {"filled": served.filled / allowed, "gap": solution.gap}
    return metrics


class _Prices:
    """Prices of past states; small matrices are made once."""

    def __init__(self, past: ChunkedScores, pricing: Pricing) -> None:
        n, m = past.shape
        self._past, self._pricing = past, pricing
        self._scores: object = past
        self._admissible: Bools | None = None
        if n * m <= _DENSE:
            matrix = np.concatenate([past.rows(start, stop) for start, stop in spans(n, ROWS)])
            self._admissible = np.isfinite(matrix)
            matrix[~self._admissible] = 0.0
            self._scores = matrix

    def with_floors(self, k: int, floor: Ints) -> DualSolution:
        try:
            return self.solved(k, floor)
        except InfeasibleError:
            # Too few states that have not consumed an item already: come as near as can be.
            past = self._past
            largest = max(float(past.rows(start, stop).max()) for start, stop in spans(past.shape[0], ROWS))
            return self.solved(k, floor, cost=_DEAR * largest)

    def solved(
        self, capacity: int, floor: Ints | int, cap: Ints | None = None, cost: float | None = None
    ) -> DualSolution:
        return solve_dual(
            self._scores,
            capacity,
            floor,
            cap,
            admissible=self._admissible,
            cost=cost,
            tol=self._pricing.tol,
            tie_seed=self._pricing.seed,
        )


def _counted(blocks: Iterator[tuple[int, Ints]], split: LogSplit) -> Served:
    served = Served(split.targets)
    for start, slates in blocks:
        served.add(start, slates)
    return served


def _served(
    scores: ChunkedScores, split: LogSplit, price: Floats, k: int, seed: int, width: float
) -> Iterator[tuple[int, Ints]]:
    """First row and slates of each block of test states."""
    for start, stop in spans(scores.shape[0], ROWS):
        users = split.test.user[start:stop]
        rows = scores.rows(start, stop)
        yield start, price_slates(rows, price, k, tie_seed=seed, row_keys=users, tie_width=width)


def _slates(scores: ChunkedScores, split: LogSplit, price: Floats, k: int, seed: int, width: float) -> Ints:
    return np.concatenate([slates for _, slates in _served(scores, split, price, k, seed, width)])
