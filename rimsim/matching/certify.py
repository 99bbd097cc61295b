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

from rimsim.errors import AgentError, ConfigError
from rimsim.matching.problem import Problem, as_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Certificate", "certificate"]

_CELLS = 1 << 21  # float64 cells of a block of rows: 16 MiB


@dataclass(frozen=True, eq=False)
class Certificate:
    """The value of slates, and a bound on the value of any slates."""

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
    """The shortfall as a share of Σ b; 0 if nothing is required."""
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


def _refuse_no_slates(slates: NDArray[np.int64], problem: Problem) -> None:
    """Refuse what are no slates, naming the row."""
    n, m = problem.shape
    if slates.ndim != 2 or slates.shape[0] != n:
        raise AgentError(f"certificate: slates have shape {slates.shape}; allowed: ({n}, k), one row a user")
    wrong = np.argwhere((slates < -1) | (slates >= m))
    if len(wrong):
        row, position = wrong[0]
        raise AgentError(
            f"certificate: row {row} shows item {slates[row, position]}; allowed: 0 to {m - 1}, or −1 for none"
        )
    counts = (slates >= 0).sum(axis=1)
    many = np.flatnonzero(counts > problem.capacity)
    if len(many):
        row = many[0]
        raise AgentError(
            f"certificate: row {row} shows {counts[row]} items; its capacity is {problem.capacity[row]}"
        )
    ordered = np.sort(slates, axis=1)
    twice = np.argwhere((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0))
    if len(twice):
        row, position = twice[0]
        raise AgentError(
            f"certificate: row {row} shows item {ordered[row, position]} twice; allowed: distinct items"
        )


def _score_and_top(
    problem: Problem, slates: NDArray[np.int64], bonus: NDArray[np.float64]
) -> tuple[float, float]:
    """Σ s over the slates, and Σ over users of the k largest (s + w)₊, block by block of rows."""
    n, m = problem.shape
    step = max(1, _CELLS // max(m, 1))
    score = top = 0.0
    for start in range(0, n, step):
        stop = min(start + step, n)
        values = problem.block(start, stop)
        rows, positions = np.nonzero(slates[start:stop] >= 0)
        items = slates[start:stop][rows, positions]
        shown = values[rows, items]
        banned = np.flatnonzero(shown == -np.inf)
        if len(banned):
            row, item = start + rows[banned[0]], items[banned[0]]
            raise AgentError(f"certificate: row {row} shows item {item}, which is not admissible there")
        score += float(shown.sum())
        values += bonus
        np.maximum(values, 0.0, out=values)
        for k in np.unique(problem.capacity[start:stop]):
            if k > 0:
                same = values[problem.capacity[start:stop] == k]
                top += float((same if k >= m else np.partition(same, m - k, axis=1)[:, m - k :]).sum())
    return score, top


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
        scores: (n, M) array, tensor or :class:`~rimsim.matching.scorer.ChunkedScores`: what showing item y to
            user x is worth. Say whose scores they are: those of a model and the true ones give two
            different certificates.
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
    _refuse_no_slates(shown, problem)
    m = problem.shape[1]
    asked = as_array(price).astype(np.float64)
    if asked.ndim > 1 or (asked.ndim == 1 and len(asked) != m) or not np.isfinite(asked).all():
        raise ConfigError(
            f"certificate: price has shape {asked.shape}; allowed: finite numbers, one or ({m},)"
        )
    exposure = np.bincount(shown[shown >= 0], minlength=m).astype(np.int64)
    highest = np.full(m, 0.0) if max_exposure is None else np.full(m, np.inf)
    prices = np.clip(np.broadcast_to(asked, (m,)), -problem.cost, highest)
    score, top = _score_and_top(problem, shown, -prices)
    bound = top + float(np.minimum(prices, 0.0) @ problem.floor + np.maximum(prices, 0.0) @ problem.cap)
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
