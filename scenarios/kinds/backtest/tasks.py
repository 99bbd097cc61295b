"""Tasks of a back-test: metrics of one model's scores.

Item recommendation finds the k best items of every test state. User recommendation finds the c best users of every
item. Online matching solves prices on past states and ranks items of test states by λ(x,y) − v (Ma, Liu and Deoras,
ICLR 2022).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np

from rimsim import measures
from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.errors import InfeasibleError
from rimsim.intensity.contract import spans
from rimsim.intensity.scores import ROWS
from rimsim.matching import ChunkedScores, DualSolution, price_slates, required_exposure, solve_dual, user_rec
from rimsim.scenarios.kinds.backtest.split import LogSplit, Targets

# β, or multiple of k positions per user → metrics of this setting.
Results: TypeAlias = dict[float, dict[str, float]]
# Prefix of metrics: positions per slate whose item has a binding guarantee, by decile of λ(x).
PAYING = "guaranteed_decile_"
_CELLS = 1 << 24  # number of scores that user recommendation holds in memory at once
# Largest number of scores of past states that the price solver gets as one matrix. For more scores, it reads blocks.
_DENSE = 1 << 26
# Cost of a missing exposure if some floors cannot be met, in units of the largest score. It is above 1, so that a
# missing exposure costs more than any recommendation brings.
_DEAR = 4.0


@dataclass(frozen=True)
class Pricing:
    """Options for solving prices and serving slates at them."""

    seed: int  # seed that decides how floors are rounded, and the order of ties
    tol: float  # certified relative gap at which the solver stops
    dither: float  # width of near ties of values λ − v, as a share of a position's mean value

    def width(self, solution: DualSolution, positions: int) -> float:
        """Width of near ties at solved prices, in intensity."""
        return max(solution.resolution, self.dither * solution.dual / max(positions, 1))


@dataclass
class Served:
    """Hits and exposure of slates, counted block by block."""

    targets: Targets
    filled: int = 0  # number of positions with an item
    hit: int = 0  # number of positions whose item is a target
    exposure: Ints = field(init=False)  # (M,) exposures of each item
    # By block: mean recall, mean NDCG, and number of states with a target, over which these are means.
    _parts: list[tuple[float, float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.exposure = np.zeros(self.targets.m, np.int64)
        self._n_targets = self.targets.by_user
        repeats = self.targets.repeats
        # Hits and recalls of repeats and of new items; None if users cannot take an item again.
        self._split = None if repeats is None else SplitHits(repeats, self._n_targets)

    def add(self, start: int, slates: Ints) -> None:
        """Count the slates of states from number ``start`` on."""
        rows = np.arange(start, start + len(slates))
        hits = self.targets.hits(rows[:, None], slates)
        n_targets = self._n_targets[rows]
        self.filled += int((slates >= 0).sum())
        self.hit += int(hits.sum())
        self.exposure += measures.exposure_counts(slates, self.targets.m)
        recall = measures.recall(hits, n_targets)
        ndcg = measures.ndcg(hits, n_targets)
        self._parts.append((recall, ndcg, int((n_targets > 0).sum())))
        if self._split is not None:
            self._split.add(rows, slates, hits)

    def metrics(self, positions: int, is_known: Bools) -> dict[str, float]:
        """Precision, recall, NDCG and spread of exposure."""
        n_states = np.array([number for _, _, number in self._parts], np.float64)
        block_weight = n_states / max(n_states.sum(), 1.0)
        values = {
            "precision": self.hit / positions if positions else 0.0,
            "recall": float(block_weight @ [recall for recall, _, _ in self._parts]),
            "ndcg": float(block_weight @ [ndcg for _, ndcg, _ in self._parts]),
            "perplexity": measures.perplexity(self.exposure),
            "coverage": measures.coverage(self.exposure[is_known]),
        }
        return values if self._split is None else values | self._split.metrics(positions)


class SplitHits:
    """Hits of slates, apart for repeats and new items."""

    def __init__(self, repeats: Targets, n_targets: Ints) -> None:
        self._repeats = repeats
        # Numbers of targets of each state: repeats and new items.
        self._n_targets = (repeats.by_user, n_targets - repeats.by_user)
        # Numbers of hits, sums of recalls over states, and numbers of these states, of repeats and of new items.
        self._hits = np.zeros(2)
        self._recall = np.zeros(2)
        self._states = np.zeros(2)

    def add(self, rows: Ints, slates: Ints, hits: Bools) -> None:
        """Count the hits of the slates of some states."""
        is_repeat = self._repeats.hits(rows[:, None], slates)
        for kind, kind_hits in enumerate((hits & is_repeat, hits & ~is_repeat)):
            n_targets = self._n_targets[kind][rows]
            has_target = n_targets > 0
            self._hits[kind] += kind_hits.sum()
            self._recall[kind] += (kind_hits.sum(1)[has_target] / n_targets[has_target]).sum()
            self._states[kind] += has_target.sum()

    def metrics(self, positions: int) -> dict[str, float]:
        """Precision and recall of repeats and of new items.

        Both precisions are shares of all positions, so they sum to the precision.
        """
        precision = self._hits / max(positions, 1)
        recall = self._recall / np.maximum(self._states, 1.0)
        return {
            "precision_repeat": float(precision[0]),
            "precision_new": float(precision[1]),
            "recall_repeat": float(recall[0]),
            "recall_new": float(recall[1]),
        }


def item_recommendation(scores: ChunkedScores, split: LogSplit, k: int, seed: int) -> dict[str, float]:
    """Metrics of every test state's k best items."""
    no_prices = np.zeros(scores.shape[1])
    served = _counted(_served(scores, split, no_prices, k, seed, width=0.0), split)
    return served.metrics(len(split.test.user) * k, split.is_known)


def user_recommendation(scores: ChunkedScores, split: LogSplit, c: int, seed: int) -> dict[str, float]:
    """Metrics of every known item's c best users."""
    n = scores.shape[0]
    items = np.flatnonzero(split.is_known)
    width = max(1, _CELLS // n)
    best_users = []
    for first in range(0, len(items), width):
        block = items[first : first + width]
        scores_of_block = np.empty((n, len(block)), np.float32)
        for start, stop in spans(n, ROWS):
            scores_of_block[start:stop] = scores.rows(start, stop)[:, block]
        best_users.append(user_rec(scores_of_block, c, tie_seed=seed, row_keys=block))
    users = np.concatenate(best_users)
    hits = split.targets.hits(users, items[:, None])
    n_targets = split.targets.by_item[items]
    exposure = measures.exposure_counts(users, n)
    return {  # users are recommended here, so perplexity and coverage are over users
        "precision": measures.precision(hits),
        "recall": measures.recall(hits, n_targets),
        "ndcg": measures.ndcg(hits, n_targets),
        "perplexity": measures.perplexity(exposure),
        "coverage": measures.coverage(exposure),
    }


@dataclass(frozen=True, eq=False)
class Matching:
    """Online matching of test states at prices from past states."""

    scores: ChunkedScores
    past: ChunkedScores
    split: LogSplit
    k: int
    pricing: Pricing

    def with_floors(self, betas: Sequence[float], rate: Float32s | None) -> Results:
        """Metrics by guaranteed share β.

        ``rate`` is λ(x) of the test states; None: no metrics by decile. The metrics ``guaranteed_decile_1`` to ``_10``
        count positions per slate whose item would miss its floor at prices of 0, in each tenth of states by λ(x).
        """
        (n, m) = self.scores.shape
        k = self.k
        is_known = self.split.is_known
        pricing = self.pricing
        n_past = self.past.shape[0]
        unpriced_slates = self._slates(np.zeros(m), k, 0.0)
        unpriced_exposure = measures.exposure_counts(unpriced_slates, m)
        metrics = {}
        for beta in betas:
            required = required_exposure(beta, n, k, is_known, pricing.seed)
            solution = None
            slates = unpriced_slates
            if required.any():
                solution = self._floored(required_exposure(beta, n_past, k, is_known, pricing.seed))
                slates = self._slates(solution.item_price, k, pricing.width(solution, n_past * k))
            served = Served(self.split.targets)
            served.add(0, slates)
            values = served.metrics(n * k, is_known)
            values["shortfall"] = measures.shortfall(served.exposure, required)
            values["items_met"] = measures.items_met(served.exposure, required)
            if solution is not None:
                values["gap"] = solution.gap
                if rate is not None:
                    is_binding = measures.binding_items(unpriced_exposure, required)
                    by_decile = measures.who_pays(slates, is_binding, rate)
                    values |= {f"{PAYING}{number}": float(value) for number, value in enumerate(by_decile, 1)}
                    values["guaranteed_lowest_minus_highest"] = float(by_decile[0] - by_decile[-1])
            metrics[beta] = values
        return metrics

    def with_caps(self, caps: Sequence[float], share: float) -> Results:
        """Metrics by multiple m: each user gets m·k positions.

        An item is shown to at most ``share`` of the users. Caps leave positions empty, so an empty position does not
        count as a miss. Precision is hits per exposure. ``filled`` is the filled share of the positions that caps
        allow.
        """
        (n, m) = self.scores.shape
        split = self.split
        pricing = self.pricing
        cap = np.full(m, int(np.ceil(share * self.past.shape[0])))
        metrics = {}
        for multiple in caps:
            capacity = min(round(multiple * self.k), m)
            solution = self._solved(capacity, floor=0, cap=cap)
            width = pricing.width(solution, int(solution.exposure.sum()))
            blocks = _served(self.scores, split, solution.item_price, capacity, pricing.seed, width)
            served = _counted(blocks, split)
            allowed = min(n * capacity, int(np.ceil(share * n)) * split.n_known)
            filled = {"filled": served.filled / allowed, "gap": solution.gap}
            metrics[multiple] = served.metrics(served.filled, split.is_known) | filled
        return metrics

    def _slates(self, price: Floats, k: int, width: float) -> Ints:
        """(n, k) slates of the test states at prices."""
        blocks = _served(self.scores, self.split, price, k, self.pricing.seed, width)
        return np.concatenate([slates for _, slates in blocks])

    @cached_property
    def _priced(self) -> tuple[object, Bools | None]:
        """Scores of past states, and the admissible state-item pairs."""
        n, m = self.past.shape
        if n * m > _DENSE:
            return self.past, None
        matrix = np.concatenate([self.past.rows(start, stop) for start, stop in spans(n, ROWS)])
        admissible = np.isfinite(matrix)
        matrix[~admissible] = 0.0  # the solver takes finite scores, and a mask of admissible pairs
        return matrix, admissible

    def _floored(self, floor: Ints) -> DualSolution:
        """Prices under floors, soft if floors cannot be met."""
        try:
            return self._solved(self.k, floor)
        except InfeasibleError:
            # Too few past states admit some item, because the others have consumed it already. So floors become soft,
            # with a cost above every score.
            past = self.past
            largest_score = max(
                float(past.rows(start, stop).max()) for start, stop in spans(past.shape[0], ROWS)
            )
            return self._solved(self.k, floor, cost=_DEAR * largest_score)

    def _solved(
        self, capacity: int, floor: Ints | int, cap: Ints | None = None, cost: float | None = None
    ) -> DualSolution:
        """Prices and slates for the past states."""
        (scores, is_admissible) = self._priced
        pricing = self.pricing
        return solve_dual(
            scores,
            capacity,
            floor,
            cap,
            admissible=is_admissible,
            cost=cost,
            tol=pricing.tol,
            tie_seed=pricing.seed,
        )


def _counted(blocks: Iterator[tuple[int, Ints]], split: LogSplit) -> Served:
    """Hits and exposure of slates that come block by block."""
    served = Served(split.targets)
    for start, slates in blocks:
        served.add(start, slates)
    return served


def _served(
    scores: ChunkedScores, split: LogSplit, price: Floats, k: int, seed: int, width: float
) -> Iterator[tuple[int, Ints]]:
    """Slates of test states by block, with each block's start."""
    for start, stop in spans(scores.shape[0], ROWS):
        users = split.test.user[start:stop]
        rows = scores.rows(start, stop)
        yield start, price_slates(rows, price, k, tie_seed=seed, row_keys=users, tie_width=width)
