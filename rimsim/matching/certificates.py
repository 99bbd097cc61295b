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
# Number of states that a model scores at once. A block with a multiple of this number of rows wastes no scores.
_ROWS = 128


@dataclass(frozen=True, eq=False)
class Certificate:
    """Value of slates, and a bound on the best value."""

    value: float
    """V = Σ scores − cost · shortfall of the slates; −inf if they break a hard floor or a cap."""
    bound: float
    """D(w), the upper bound at the given prices, which are clipped to their limits."""
    gap: float
    """``(D − V) / |D|``, the certified relative distance from the best value; 0 if D and V are 0."""
    score: float
    """Σ scores of the items in the slates."""
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
    masked = len(admissible) > 0  # shape (0, 0) means that all pairs may be shown
    for row in range(len(scores)):
        largest = best[row]
        of_row = scores[row]
        times = factor[row]
        lowest = 0.0
        largest[:] = 0.0
        for item in range(len(of_row) if len(largest) else 0):
            value = of_row[item] * times - price[item]
            if value > lowest and not (masked and not admissible[row, item]):
                insert(largest, value)
                lowest = largest[-1]


@compiled
def _weighted_sum(best: Floats, capacity: Ints, weights: Floats) -> float:
    """Users' part of D: Σ_users Σ_r g_r·(r-th largest (s − v)₊)."""
    total = 0.0
    for row in range(len(best)):
        for place in range(capacity[row]):
            total += weights[place] * best[row, place]
    return total


def _score_and_top(
    problem: Problem, slates: Ints, prices: tuple[Floats, Floats], noted: tuple[Floats, Float32s] | None
) -> tuple[float, float]:
    """Score Σ g·s of slates, and users' part of D."""
    n, m = problem.shape
    step = max(1, _CELLS // max(m, 1))
    step -= step % _ROWS if step > _ROWS else 0
    weights = np.ones(problem.capacity.max(initial=0)) if problem.weights is None else problem.weights
    score = top = 0.0
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        users, positions = np.nonzero(slates[rows] >= 0)
        if noted is None:
            values = problem.block(start, rows.stop)
            items = slates[rows][users, positions]
            worth = values[users, items]
            banned = np.flatnonzero(worth == -np.inf)
            if len(banned):
                row = start + users[banned[0]]
                item = items[banned[0]]
                raise AgentError(
                    f"certificate: row {row} shows item {item}, which is not admissible for this row"
                )
            best = _best_of(problem, rows, values, prices, len(weights))
        else:
            best = noted[0][rows]
            worth = noted[1][rows][users, positions]
        shown = worth.astype(np.float64)
        score += float((shown if problem.weights is None else shown * problem.weights[positions]).sum())
        top += _weighted_sum(best, problem.capacity[rows], weights)
    return score, top


def _best_of(
    problem: Problem, rows: slice, values: NDArray[np.floating], prices: tuple[Floats, Floats], k: int
) -> Floats:
    """(rows, k) largest (s − v)₊ of users, given their scores s."""
    if problem.rows is not None:
        values = values.astype(np.float64)
        for g, price in enumerate(prices[1]):
            counts = slice(None) if problem.rows.active is None else problem.rows.active[rows, g]
            values[np.ix_(np.arange(len(values))[counts], problem.rows.items_of(g))] -= price
    best = np.empty((len(values), k))
    _fill_best(values, np.ones(len(values), values.dtype), np.empty((0, 0), bool), prices[0], best)
    return best


def _exposures(problem: Problem, slates: Ints) -> tuple[Array, Floats]:
    """Exposures of the M items, and of the G requirements."""
    m = problem.shape[1]
    rows = problem.rows
    users, positions = np.nonzero(slates >= 0)
    items = slates[users, positions]
    if problem.weights is None:
        return np.bincount(items, minlength=m).astype(np.int64), np.empty(0)
    counts = problem.weights[positions]
    of_rows = np.empty(0 if rows is None else len(rows.min_exposure))
    if rows is not None:
        for g in range(len(of_rows)):
            inside = np.isin(items, rows.items_of(g))
            of_rows[g] = counts[inside if rows.active is None else inside & rows.active[users, g]].sum()
    return np.bincount(items, counts, minlength=m), of_rows


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
    of_items = _Requirements(
        m, problem.min_exposure, problem.max_exposure, problem.cost, item_price, exposure
    )
    if rows is None or problem.weights is None:
        return of_items
    # A row can get at most all positions of all users.
    row_max = np.minimum(rows.max_exposure, len(slates) * problem.weights.sum())
    highest_row_price = np.where(rows.max_exposure < np.inf, np.inf, 0)
    prices = np.clip(_prices(row_price, len(row_max), "row_price"), -rows.cost, highest_row_price)
    return _Requirements(
        n_items=m,
        min_exposure=np.concatenate([of_items.min_exposure, rows.min_exposure]),
        max_exposure=np.concatenate([of_items.max_exposure, row_max]),
        cost=np.concatenate([of_items.cost, rows.cost]),
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
        excesses = np.maximum(requirements.exposure - max_exposure, 0)
    else:
        missing = beyond(min_exposure - requirements.exposure, min_exposure)
        excesses = beyond(requirements.exposure - max_exposure, max_exposure)
    excess = excesses.sum()
    is_missing = missing > 0
    charge = float((requirements.cost[is_missing] * missing[is_missing]).sum())
    value = -np.inf if excess else score - charge
    exposure, row_exposure = requirements.split(requirements.exposure)
    item_price, row_price = requirements.split(price)
    is_required = problem.min_exposure > 0
    ratios = exposure[is_required] / problem.min_exposure[is_required]
    difference = bound - value
    total = float(min_exposure.sum())
    unit = problem.unit
    return Certificate(
        value=value * unit,
        bound=bound * unit,
        gap=float(difference / abs(bound)) if bound != 0.0 else (0.0 if difference == 0.0 else np.inf),
        score=score * unit,
        shortfall=_plain(missing.sum(), unit),
        shortfall_share=float(missing.sum() / total) if total else 0.0,
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
    asked = as_array(values).astype(np.float64)
    if not spreads(asked, length) or not np.isfinite(asked).all():
        allowed = f"one finite number, or ({length},) finite numbers"
        refuse(ConfigError, "certificate", f"{name} has shape {asked.shape}", allowed)
    return np.broadcast_to(asked, (length,))


def _refuse_unfit(slates: Ints, problem: Problem) -> None:
    """Refuse arrays that are not slates; name the wrong row."""
    n, m = problem.shape
    if slates.ndim != 2 or slates.shape[0] != n:
        refuse(AgentError, "certificate", f"slates have shape {slates.shape}", f"({n}, k), one row per user")
    wrong = np.argwhere((slates < -1) | (slates >= m))
    if len(wrong):
        row, position = wrong[0]
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
    last = slates.shape[1] if problem.weights is None else len(problem.weights)
    if (slates[:, last:] >= 0).any():
        raise AgentError(
            f"certificate: slates have more than {last} positions, but there are only {last} "
            "position_weights. Give a weight for each position"
        )
    ordered = np.sort(slates, axis=1)
    twice = np.argwhere((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0))
    if len(twice):
        row, position = twice[0]
        problem_text = f"row {row} shows item {ordered[row, position]} twice"
        refuse(AgentError, "certificate", problem_text, "distinct items")
