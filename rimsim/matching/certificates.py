"""Certificate of slates: their largest possible distance from the optimum.

The certificate uses only scores, slates and prices, in float64, and nothing from the solver. Let b be the
required exposures, C the caps, and w = −v the bonuses. Bonuses are at most the cost c, and only an item with
a cap may have a negative bonus. Then

    D(w) = Σ_users (sum of the k largest (s + w)₊) − Σ w₊·b + Σ (−w)₊·C   ≥   max V,
    V    = Σ s over the slates − c · Σ_items (b − E)₊,

The inequality D(w) ≥ V is weak duality, because the penalty −c·(b − E)₊ is the minimum of w·(E − b) over w in
[0, c]. So the value V of any slates is at most D(w) − V below the optimum.

If position r has the weight g_r in V and E, the users' part of D is Σ_r g_r·(r-th largest (s + w)₊). The
reason is that the item with the larger s + w belongs at the position with the larger weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rimsim.arrays import Array, Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.errors import AgentError, ConfigError, refuse
from rimsim.matching.kernels import insert
from rimsim.matching.problem import Problem, Weighting, as_array, beyond, refuse_unknown, spreads

_CELLS = 1 << 22  # number of scores per block of rows, 16 MiB in float32
# Number of states that a model scores at once. A block has a multiple of this number of rows, because a model fills up
# other blocks with rows whose scores nobody uses.
_ROWS = 128


@dataclass(frozen=True, eq=False)
class Certificate:
    """Value of slates, and a bound on the best value."""

    value: float
    """V = ``score`` − cost · shortfall of the slates; −inf if they break a hard floor or a cap."""
    bound: float
    """D(w), the upper bound at the given prices, which are clipped to their limits."""
    gap: float
    """``(D − V) / |D|``, the certified relative distance from the best value; 0 if D and V are 0."""
    score: float
    """Σ g_r·score of the items in the slates, where r is the position; without position weights, g_r = 1."""
    shortfall: float
    """Σ (b − E)₊ over items and rows. It is a whole number of exposures if all positions count the same."""
    shortfall_share: float
    """Shortfall as a share of Σ b; 0 if nothing is required."""
    excess: float
    """Σ (E − C)₊ over items and rows, the exposures above caps. It is a whole number if all positions count the
    same."""
    items_met: int
    """Number of items with a floor above 0 that reach the floor."""
    items_required: int
    """Number of items with a floor above 0."""
    worst_ratio: float
    """Smallest E / b among items with a floor above 0; 1 without such items."""
    exposure: Ints | Floats
    """(M,) exposures E. They are whole numbers if all positions count the same, otherwise float64."""
    price: Floats
    """(M,) prices v = −w at which the bound was computed."""
    row_exposure: Floats
    """(G,) exposures of the requirements ``rows``."""
    row_price: Floats
    """(G,) prices of the requirements ``rows`` at which the bound was computed."""


class BestValues(NamedTuple):
    """Largest s − v of users, noted as users are served."""

    price: Floats
    """(M,) prices v."""
    value: Floats
    """(n, k) the k largest (s − v)₊ of each user, descending; NaN before they are stored."""

    def note_best(self, rows: Ints, scores: Array, factor: Array, admissible: Bools) -> None:
        """Note values of users with the scores s·factor."""
        values = np.empty((len(rows), self.value.shape[1]))
        _fill_best(scores, factor, admissible, self.price, values)
        self.value[rows] = values


class CertificateOptions(Weighting, total=False):
    """Further keyword arguments of :func:`certificate`."""

    row_price: ArrayLike  # (G,) prices of the requirements ``rows``; 0 by default
    # (n, k) values of :class:`BestValues` at ``price``, and (n, k) scores of the slates. If they are given, no other
    # scores are computed, so they exclude ``rows``.
    noted: tuple[Floats, Float32s] | None


@compiled
def _fill_best(scores: Array, factor: Array, admissible: Bools, price: Floats, best: Floats) -> None:
    """Fill ``best`` with the k largest (s·factor − v)₊ of each row."""
    has_mask = len(admissible) > 0  # shape (0, 0) means that all pairs may be shown
    for row in range(len(scores)):
        row_best = best[row]
        row_scores = scores[row]
        row_factor = factor[row]
        threshold = 0.0
        row_best[:] = 0.0
        for item in range(len(row_scores) if len(row_best) else 0):
            value = row_scores[item] * row_factor - price[item]
            if value > threshold and not (has_mask and not admissible[row, item]):
                insert(row_best, value)
                threshold = row_best[-1]


@compiled
def _weighted_sum(best: Floats, capacity: Ints, weights: Floats) -> float:
    """Users' part of D: Σ_users Σ_r g_r·(r-th largest (s − v)₊)."""
    total = 0.0
    for row in range(len(best)):
        for position in range(capacity[row]):
            total += weights[position] * best[row, position]
    return total


def _score_and_top(
    problem: Problem, slates: Ints, prices: tuple[Floats, Floats], noted: tuple[Floats, Float32s] | None
) -> tuple[float, float]:
    """Score Σ g·s of slates, and users' part of D."""
    n, m = problem.shape
    block_rows = max(1, _CELLS // max(m, 1))
    block_rows -= block_rows % _ROWS if block_rows > _ROWS else 0
    weights = np.ones(problem.capacity.max(initial=0)) if problem.weights is None else problem.weights
    score = 0.0
    top = 0.0
    for start in range(0, n, block_rows):
        rows = slice(start, min(start + block_rows, n))
        users, positions = np.nonzero(slates[rows] >= 0)
        if noted is None:
            values = problem.block(start, rows.stop)
            items = slates[rows][users, positions]
            slate_scores = values[users, items]
            inadmissible = np.flatnonzero(slate_scores == -np.inf)
            if len(inadmissible):
                row = start + users[inadmissible[0]]
                item = items[inadmissible[0]]
                raise AgentError(
                    f"certificate: row {row} shows item {item}, which is not admissible for this row"
                )
            best = _best_of(problem, rows, values, prices, len(weights))
        else:
            best = noted[0][rows]
            slate_scores = noted[1][rows][users, positions]
        exact_scores = slate_scores.astype(np.float64)
        score += float(
            (exact_scores if problem.weights is None else exact_scores * problem.weights[positions]).sum()
        )
        top += _weighted_sum(best, problem.capacity[rows], weights)
    return score, top


def _best_of(
    problem: Problem, rows: slice, values: NDArray[np.floating], prices: tuple[Floats, Floats], k: int
) -> Floats:
    """(rows, k) largest (s − v)₊ of users, given their scores s.

    ``prices`` are those of items, and those of requirements on several items.
    """
    if problem.rows is not None:
        values = values.astype(np.float64)
        for g, price in enumerate(prices[1]):
            is_active = slice(None) if problem.rows.active is None else problem.rows.active[rows, g]
            users = np.arange(len(values))[is_active]
            values[np.ix_(users, problem.rows.items_of(g))] -= price
    best = np.empty((len(values), k))
    factor = np.ones(len(values), values.dtype)
    no_mask = np.empty((0, 0), bool)  # inadmissible pairs have the score −inf
    _fill_best(values, factor, no_mask, prices[0], best)
    return best


def _exposures(problem: Problem, slates: Ints) -> tuple[Array, Floats]:
    """Exposures of the M items, and of the G requirements."""
    m = problem.shape[1]
    rows = problem.rows
    users, positions = np.nonzero(slates >= 0)
    items = slates[users, positions]
    if problem.weights is None:  # a problem with requirements on several items always has weights
        return np.bincount(items, minlength=m).astype(np.int64), np.empty(0)
    exposure = problem.weights[positions]
    row_exposure = np.empty(0 if rows is None else len(rows.min_exposure))
    if rows is not None:
        for g in range(len(row_exposure)):
            is_of_row = np.isin(items, rows.items_of(g))
            is_counted = is_of_row if rows.active is None else is_of_row & rows.active[users, g]
            row_exposure[g] = exposure[is_counted].sum()
    return np.bincount(items, exposure, minlength=m), row_exposure


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
    **options: Unpack[CertificateOptions],
) -> Certificate:
    """Certificate of slates: value, bound on the value, and gap.

    Args:
        scores: (n, M) worth of item y for user x, −inf for a pair that may not be shown: array, tensor or
            :class:`~rimsim.matching.ChunkedScores`. Scores of a model and true scores give different certificates.
        slates: (n, k) item indices, −1 for an empty position.
        capacity: Largest number of items in the slate of a user, scalar or (n,).
        min_exposure: Required exposures b, scalar or (M,); whole numbers if all positions weigh the same.
        price: (M,) item prices v, from any source; a bonus is a negative price. Prices are clipped to [−cost, 0], or to
            [−cost, ∞) for items with a cap.
        cost: Cost c of a missing exposure, scalar or (M,); None for hard floors.
        max_exposure: Caps, scalar or (M,), in the unit of ``min_exposure``; None: no caps.
        admissible: (n, M) mask of pairs that may be shown; None: all pairs.
        options: ``position_weights`` (k,): positive, non-increasing. ``rows``: requirements of several items or
            for some users. ``row_price`` (G,): prices of ``rows``, clipped like ``price``. ``noted``: values that
            were noted as the slates were chosen.

    Returns:
        The certificate, in float64.

    Raises:
        AgentError: If ``slates`` have a wrong shape, invalid items, or more items than the capacity.
        ConfigError: If an argument other than ``slates`` has a wrong type, shape or value.
    """
    refuse_unknown("certificate", options, CertificateOptions)
    problem = Problem.of(
        "certificate", scores, capacity, min_exposure, max_exposure, admissible, cost, options
    )
    shown = as_array(slates).astype(np.int64)
    _refuse_unfit(shown, problem)
    highest_price = 0.0 if max_exposure is None else np.inf
    requirements = _requirements_of(problem, shown, price, options.get("row_price", 0.0), highest_price)
    prices = requirements.split(requirements.price)
    score, top = _score_and_top(problem, shown, prices, options.get("noted"))
    return _certificate_of(problem, requirements, score, top)


class _Requirements(NamedTuple):
    """Requirements of items, then of rows, and their exposures."""

    n_items: int
    """M, the number of items."""
    min_exposure: Array
    """(M + G,) required exposures."""
    max_exposure: Array
    """(M + G,) largest allowed exposures."""
    cost: Floats
    """(M + G,) cost of a missing exposure; infinite where a requirement is hard."""
    price: Floats
    """(M + G,) prices v within their limits."""
    exposure: Array
    """(M + G,) exposures of the slates."""

    def split(self, values: Array) -> tuple[Array, Array]:
        """Values of items, and of rows."""
        return values[: self.n_items], values[self.n_items :]


def _requirements_of(
    problem: Problem, slates: Ints, price: ArrayLike, row_price: ArrayLike, highest_price: float
) -> _Requirements:
    """Requirements, with clipped prices and the exposures of slates."""
    m = problem.shape[1]
    rows = problem.rows
    item_price = np.clip(_prices(price, m, "price"), -problem.cost, np.full(m, highest_price))
    exposure, row_exposure = _exposures(problem, slates)
    item_requirements = _Requirements(
        n_items=m,
        min_exposure=problem.min_exposure,
        max_exposure=problem.max_exposure,
        cost=problem.cost,
        price=item_price,
        exposure=exposure,
    )
    if rows is None or problem.weights is None:
        return item_requirements
    # A requirement can get at most all positions of all users.
    row_max = np.minimum(rows.max_exposure, len(slates) * problem.weights.sum())
    highest_row_price = np.where(rows.max_exposure < np.inf, np.inf, 0)
    prices = np.clip(_prices(row_price, len(row_max), "row_price"), -rows.cost, highest_row_price)
    return _Requirements(
        n_items=m,
        min_exposure=np.concatenate([item_requirements.min_exposure, rows.min_exposure]),
        max_exposure=np.concatenate([item_requirements.max_exposure, row_max]),
        cost=np.concatenate([item_requirements.cost, rows.cost]),
        price=np.concatenate([item_price, prices]),
        exposure=np.concatenate([exposure, row_exposure]),
    )


def _certificate_of(problem: Problem, requirements: _Requirements, score: float, top: float) -> Certificate:
    """Certificate, given the score and users' part of D."""
    min_exposure = requirements.min_exposure
    max_exposure = requirements.max_exposure
    price = requirements.price
    bound = top + float(np.minimum(price, 0.0) @ min_exposure + np.maximum(price, 0.0) @ max_exposure)
    if problem.weights is None:
        missing = np.maximum(min_exposure - requirements.exposure, 0)
        excess_of_each = np.maximum(requirements.exposure - max_exposure, 0)
    else:
        missing = beyond(min_exposure - requirements.exposure, min_exposure)
        excess_of_each = beyond(requirements.exposure - max_exposure, max_exposure)
    excess = excess_of_each.sum()
    is_missing = missing > 0
    penalty = float((requirements.cost[is_missing] * missing[is_missing]).sum())
    value = -np.inf if excess else score - penalty
    exposure, row_exposure = requirements.split(requirements.exposure)
    item_price, row_price = requirements.split(price)
    is_required = problem.min_exposure > 0
    ratios = exposure[is_required] / problem.min_exposure[is_required]
    difference = bound - value
    gap = 0.0 if difference == 0.0 else np.inf
    if bound != 0.0:
        gap = float(difference / abs(bound))
    required = float(min_exposure.sum())
    unit = problem.unit
    return Certificate(
        value=value * unit,
        bound=bound * unit,
        gap=gap,
        score=score * unit,
        shortfall=_plain(missing.sum(), unit),
        shortfall_share=float(missing.sum() / required) if required else 0.0,
        excess=_plain(excess, unit),
        items_met=int((missing[: requirements.n_items][is_required] <= 0).sum()),
        items_required=int(is_required.sum()),
        worst_ratio=float(ratios.min()) if len(ratios) else 1.0,
        exposure=exposure if unit == 1.0 else exposure * unit,
        price=item_price,
        row_exposure=row_exposure,
        row_price=row_price,
    )


def _plain(amount: Any, unit: float) -> float:
    """Exposure: an integer if positions weigh 1, or a float."""
    return amount.item() if unit == 1.0 else float(amount) * unit


def _prices(values: ArrayLike, length: int, name: str) -> Floats:
    """(length,) given prices."""
    numbers = as_array(values).astype(np.float64)
    if not spreads(numbers, length) or not np.isfinite(numbers).all():
        allowed = f"one finite number, or ({length},) finite numbers"
        refuse(ConfigError, "certificate", f"{name} has shape {numbers.shape}", allowed)
    return np.broadcast_to(numbers, (length,))


def _refuse_unfit(slates: Ints, problem: Problem) -> None:
    """Refuse arrays that are not slates; name the wrong row."""
    n, m = problem.shape
    if slates.ndim != 2 or slates.shape[0] != n:
        refuse(AgentError, "certificate", f"slates have shape {slates.shape}", f"({n}, k), one row per user")
    wrong_positions = np.argwhere((slates < -1) | (slates >= m))
    if len(wrong_positions):
        row, position = wrong_positions[0]
        problem_text = f"row {row} shows item {slates[row, position]}"
        refuse(AgentError, "certificate", problem_text, f"0 to {m - 1}, or −1 for an empty position")
    counts = (slates >= 0).sum(axis=1)
    overfull = np.flatnonzero(counts > problem.capacity)
    if len(overfull):
        row = overfull[0]
        raise AgentError(
            f"certificate: row {row} shows {counts[row]} items. Expected at most the capacity of this row, "
            f"{problem.capacity[row]}"
        )
    n_weights = slates.shape[1] if problem.weights is None else len(problem.weights)
    if (slates[:, n_weights:] >= 0).any():
        raise AgentError(
            f"certificate: slates have more than {n_weights} positions, but there are only {n_weights} "
            "position_weights. Give a weight for each position"
        )
    sorted_slates = np.sort(slates, axis=1)
    repeated = np.argwhere((sorted_slates[:, 1:] == sorted_slates[:, :-1]) & (sorted_slates[:, 1:] >= 0))
    if len(repeated):
        row, position = repeated[0]
        problem_text = f"row {row} shows item {sorted_slates[row, position]} twice"
        refuse(AgentError, "certificate", problem_text, "distinct items")
