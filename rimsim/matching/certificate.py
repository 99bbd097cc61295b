"""The certificate: how far from the best possible a set of slates can be at most.

It knows nothing of how slates or prices came about: plain NumPy in float64, from scores, slates and prices
alone. For bonuses w = −v in the box [0, c] (field notation: required exposures b, caps C)

    D(w) = Σ_users (sum of the k largest (s + w)₊) − Σ w₊·b + Σ (−w)₊·C   ≥   max V,
    V    = Σ s over the slates − c · Σ_items (b − E)₊,

by weak duality: the penalty −c·(b − E)₊ is the minimum of w·(E − b) over w in [0, c]. So the gap D − V is
valid for any slates and any w in the box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.errors import AgentError
from rimsim.matching.problem import Problem, as_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Certificate", "certificate"]

_CELLS = 1 << 21  # float64 cells of a block of rows: 16 MiB


@dataclass(frozen=True, eq=False)
class Certificate:
    """What slates are worth, and a bound on what any slates could be worth."""

    value: float
    """V = Σ scores − cost · shortfall; −inf if a hard floor or a cap is broken."""
    bound: float
    """D(w) at the given prices, clipped into the box."""
    gap: float
    """(D − V) / |D|, the certified relative distance from the optimum; 0 if both are 0."""
    score: float
    """Σ scores over the slates."""
    shortfall: int
    """Σ (b − E)₊, exposures."""
    shortfall_share: float
    """The same as a share of Σ b; 0 if nothing is required."""
    excess: int
    """Σ (E − C)₊, exposures above caps."""
    items_met: int
    """Items with a floor above 0 that reach it."""
    items_required: int
    """Items with a floor above 0."""
    worst_ratio: float
    """The smallest E / b among items with a floor above 0; 1 if there is none."""
    exposure: NDArray[np.int64]
    """(M,) exposures, E."""
    price: NDArray[np.float64]
    """(M,) the prices v = −w that the bound was taken at."""


def _exposure(slates: NDArray[np.int64], problem: Problem) -> tuple[NDArray[np.int64], float]:
    """Exposures and the sum of scores; refuses what are no slates."""
    n, m = problem.scores.shape
    if slates.ndim != 2 or slates.shape[0] != n:
        raise AgentError(f"certificate: slates have shape {slates.shape}; allowed: ({n}, k), one row a user")
    shown = slates >= 0
    wrong = np.argwhere((slates < -1) | (slates >= m))
    if len(wrong):
        row, position = wrong[0]
        raise AgentError(
            f"certificate: row {row} shows item {slates[row, position]}; allowed: 0 to {m - 1}, or −1 for none"
        )
    many = np.flatnonzero(shown.sum(axis=1) > problem.capacity)
    if len(many):
        row = many[0]
        raise AgentError(
            f"certificate: row {row} shows {shown[row].sum()} items; its capacity is {problem.capacity[row]}"
        )
    ordered = np.sort(slates, axis=1)
    twice = np.argwhere((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0))
    if len(twice):
        row, position = twice[0]
        raise AgentError(
            f"certificate: row {row} shows item {ordered[row, position]} twice; allowed: distinct items"
        )
    rows = np.nonzero(shown)[0]
    items = slates[shown]
    if problem.admissible is not None:
        banned = np.flatnonzero(~problem.admissible[rows, items])
        if len(banned):
            raise AgentError(
                f"certificate: row {rows[banned[0]]} shows item {items[banned[0]]}, which is not admissible there"
            )
    total = float(problem.scores[rows, items].astype(np.float64).sum())
    return np.bincount(items, minlength=m).astype(np.int64), total


def _bound(problem: Problem, bonus: NDArray[np.float64]) -> float:
    """D(w), block by block of rows."""
    n, m = problem.scores.shape
    block = max(1, _CELLS // max(m, 1))
    total = 0.0
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        values = problem.scores[rows].astype(np.float64) + bonus
        if problem.admissible is not None:
            values[~problem.admissible[rows]] = 0.0
        np.maximum(values, 0.0, out=values)
        for k in np.unique(problem.capacity[rows]):
            if k == 0:
                continue
            same = values[problem.capacity[rows] == k]
            top = same if k >= m else np.partition(same, m - k, axis=1)[:, m - k :]
            total += float(top.sum())
    return (
        total - float(np.maximum(bonus, 0.0) @ problem.floor) + float(np.maximum(-bonus, 0.0) @ problem.cap)
    )


def certificate(
    scores: object,
    slates: object,
    capacity: ArrayLike,
    min_exposure: ArrayLike,
    price: ArrayLike,
    cost: ArrayLike | None,
    *,
    max_exposure: ArrayLike | None = None,
    admissible: object | None = None,
) -> Certificate:
    """Certify slates: their value V, the bound D(w) on any slates' value, and the gap between the two.

    Args:
        scores: (n, M) array or tensor: what showing item y to user x is worth. Say whose scores they are:
            those of a model and the true ones give two different certificates.
        slates: (n, k) item indices, −1 for an empty position.
        capacity: Scalar or (n,) largest number of items a user may be shown.
        min_exposure: Scalar or (M,) required exposures b, whole numbers.
        price: (M,) item prices v (a bonus is negative), from whatever source. Clipped to [−cost, 0], and for
            items with a cap to [−cost, ∞), before the bound is taken.
        cost: Price c of one exposure of shortfall, scalar or (M,); None for hard floors.
        max_exposure: Scalar or (M,) caps, whole numbers; None for none.
        admissible: (n, M) pairs that may be shown; None for all.

    Returns:
        The certificate, in float64.

    Raises:
        AgentError: If ``slates`` are none: wrong shape, repeated or inadmissible items, more than the
            capacity.
        ConfigError: If another argument does not fit.
    """
    problem = Problem.of(
        scores, capacity, min_exposure, max_exposure, admissible=admissible, cost=cost, where="certificate"
    )
    shown = as_array(slates).astype(np.int64)
    exposure, score = _exposure(shown, problem)
    m = problem.scores.shape[1]
    highest = np.full(m, 0.0) if max_exposure is None else np.full(m, np.inf)
    prices = np.clip(np.broadcast_to(as_array(price).astype(np.float64), (m,)), -problem.cost, highest)
    bound = _bound(problem, -prices)
    missing = np.maximum(problem.floor - exposure, 0)
    excess = int(np.maximum(exposure - problem.cap, 0).sum())
    short = missing > 0
    value = score - float((problem.cost[short] * missing[short]).sum())
    if excess:
        value = -np.inf
    required = problem.floor > 0
    ratios = exposure[required] / problem.floor[required]
    difference = bound - value
    total = int(problem.floor.sum())
    return Certificate(
        value=value,
        bound=bound,
        gap=float(difference / abs(bound)) if bound != 0.0 else (0.0 if difference == 0.0 else np.inf),
        score=score,
        shortfall=int(missing.sum()),
        shortfall_share=float(missing.sum() / total) if total else 0.0,
        excess=excess,
        items_met=int((ratios >= 1.0).sum()),
        items_required=int(required.sum()),
        worst_ratio=float(ratios.min()) if len(ratios) else 1.0,
        exposure=exposure,
        price=prices,
    )
