"""Solutions of the offline problem, and proofs of infeasibility."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled
from rimsim.errors import InfeasibleError
from rimsim.matching.problem import Problem


class DualPrices(NamedTuple):
    """Prices of an offline problem, and the bound they prove."""

    item_price: Floats
    """(M,) prices v. v is at most 0 if a floor binds (a bonus), and at least 0 if a cap binds."""
    row_price: Floats
    """(G,) prices of the requirements ``rows``."""
    dual: float
    """D at these prices, an upper bound of the value of any slates."""
    resolution: float
    """Smallest difference of values s − v that the solver distinguished."""


@dataclass(frozen=True, eq=False)
class DualSolution:
    """Slates and prices of n users and M items."""

    item_price: Floats
    """(M,) prices v. v is at most 0 if a floor binds (a bonus), and at least 0 if a cap binds. Rank items by s − v."""
    user_price: Floats
    """(n,) u ≥ 0, the worth of one more position of each user."""
    slates: Ints
    """(n, k) items in descending order of s − v, except near ties if positions weigh differently; −1: empty
    position."""
    primal: float
    """V = Σ scores − cost · shortfall of these slates."""
    dual: float
    """D at these prices, an upper bound of the value of any slates."""
    gap: float
    """``(dual − primal) / |dual|``, the certified relative distance from the best value."""
    shortfall: float
    """Σ (b − E)₊ over items and rows. It is 0 unless ``cost`` was given, and a whole number without weights."""
    exposure: Ints | Floats
    """(M,) exposures E. They are whole numbers without weights, and float64 with weights."""
    resolution: float
    """ε or τ of the last phase, the smallest difference of values s − v that the solver distinguished."""
    row_price: Floats = field(default_factory=lambda: np.empty(0))
    """(G,) prices of the requirements ``rows``. Rank by s − v minus the prices of those rows that hold the item and
    count the user."""

    def in_units(self, unit: float) -> DualSolution:
        """Solution, rescaled to positions that each count ``unit``."""
        if unit == 1.0:
            return self
        return replace(
            self,
            # Item prices do not change, because they are per unit of exposure.
            user_price=self.user_price * unit,
            primal=self.primal * unit,
            dual=self.dual * unit,
            shortfall=self.shortfall * unit,
            exposure=self.exposure.astype(np.float64) * unit,
        )


def names_of(items: Ints) -> str:
    """Numbers of the first ten items, for a message."""
    return ", ".join(str(item) for item in items[:10]) + (", …" if len(items) > 10 else "")


def infeasible(message: str, items: Ints, lacking: float) -> InfeasibleError:
    """Error that names items and their missing exposure."""
    return InfeasibleError(message, tuple(int(item) for item in items), lacking)


def refuse_short(problem: Problem, solution: DualSolution, after: str) -> DualSolution:
    """Solution, checked to meet all hard floors."""
    short_items = np.flatnonzero(np.isinf(problem.cost) & (solution.exposure < problem.min_exposure))
    if len(short_items):
        raise infeasible(
            f"solve_dual: {len(short_items)} items are {solution.shortfall} exposures below their floors {after}. "
            "Lower min_exposure or give `cost`",
            short_items,
            int(solution.shortfall),
        )
    return solution


def refuse_excessive(problem: Problem) -> None:
    """Refuse hard floors that capacities cannot meet."""
    admissible = problem.scores > -np.inf  # empty if scores come in chunks, so that every pair counts
    if admissible.all():
        items, deficit = violated_items_of_all(problem.min_exposure, problem.capacity)
    else:
        items, deficit = violated_items(admissible, problem.min_exposure, problem.capacity)
    if deficit:
        raise infeasible(
            f"{problem.caller}: the floors of {len(items)} items ({names_of(items)}) ask for "
            f"{int(problem.min_exposure[items].sum())} exposures, but `capacity` and `admissible` allow "
            f"{deficit} fewer. Lower min_exposure or give `cost`",
            items,
            deficit,
        )


def violated_items_of_all(min_exposure: Ints, capacity: Ints) -> tuple[Ints, int]:
    """Items with infeasible floors, if all pairs are admissible.

    See :func:`violated_items`. All floors can be met if and only if, for every t, the sum of the t largest floors is
    at most Σ_users min(capacity, t) (Gale and Ryser, 1957).
    """
    n = len(capacity)
    m = len(min_exposure)
    order = np.argsort(-min_exposure, kind="stable")
    # Entry t − 1 is the number of users with a capacity of at least t.
    users_with = n - np.searchsorted(np.sort(capacity), np.arange(1, m + 1), "left")
    excess = np.cumsum(min_exposure[order]) - np.cumsum(users_with)
    worst = int(np.argmax(excess)) if m else 0
    if not m or excess[worst] <= 0:
        return np.empty(0, np.int64), 0
    return np.sort(order[: worst + 1]), int(excess[worst])


def violated_items(admissible: Bools, min_exposure: Ints, capacity: Ints) -> tuple[Ints, int]:
    """Items whose joint floors cannot be met, and the excess.

    No items and 0 are returned if all floors can be met. The method is a maximum flow from items over admissible pairs
    to users. If floors are not met, the minimum cut gives the items.
    """
    if _placed_greedily(admissible, min_exposure, capacity):
        return np.empty(0, np.int64), 0
    from scipy import sparse  # noqa: PLC0415  # slow to import, and a greedy assignment nearly always suffices
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow  # noqa: PLC0415

    n, m = admissible.shape
    # An item can get at most n exposures. So n + 1 stands for any larger floor, because the flow needs 32-bit numbers.
    capped_floors = np.minimum(min_exposure, n + 1)
    pairs = sparse.csr_array(admissible.T.astype(np.int32))
    corner = sparse.csr_array((1, 1), dtype=np.int32)
    # Blocks of the adjacency matrix: its rows and columns are the source, the items, the users and the sink.
    blocks: list[list[Any]] = [
        [corner, sparse.csr_array(capped_floors[np.newaxis]), None, None],
        [None, None, pairs, None],
        [None, None, None, sparse.csr_array(capacity[:, np.newaxis])],
        [None, None, None, corner],
    ]
    graph = sparse.block_array(blocks, format="csr", dtype=np.int32)
    flow = maximum_flow(graph, 0, m + n + 1)
    deficit = int(min_exposure.sum()) - int(flow.flow_value)
    if not deficit:
        return np.empty(0, np.int64), 0
    residual = sparse.csr_array(graph - flow.flow)
    residual.eliminate_zeros()
    # The items that the source reaches in the residual graph are on its side of the minimum cut. Node 0 is the source.
    reachable_items = np.sort(breadth_first_order(residual, 0, return_predecessors=False)) - 1
    return reachable_items[(reachable_items >= 0) & (reachable_items < m)].astype(np.int64), deficit


def _placed_greedily(admissible: Bools, min_exposure: Ints, capacity: Ints) -> bool:
    """True if all floors are met by a greedy assignment."""
    # Items are taken in descending order of floors. Each item goes to the users with the most free positions.
    n_free = capacity.copy()
    for item in np.argsort(-min_exposure, kind="stable").tolist():
        n_needed = int(min_exposure[item])
        if not n_needed:
            break
        users = np.flatnonzero(admissible[:, item] & (n_free > 0))
        if len(users) < n_needed:
            return False
        n_free[users[np.argpartition(-n_free[users], n_needed - 1)[:n_needed]]] -= 1
    return True


def violated_items_weighted(
    scores: NDArray[np.floating], capacity: Ints, weights: Floats, min_exposure: Floats, order: Ints
) -> tuple[Ints, float]:
    """First items of ``order`` whose joint floors are infeasible.

    With fractional slates, a set of items can get at most Σ_users w_1 + … + w_j exposures, where j is the
    user's capacity or, if smaller, its number of admissible items in the set. If every pair is admissible, it
    is enough to check sets of the largest floors. If the dual falls without limit along some bonuses, sorting
    items by these bonuses finds an infeasible set, because exposure minus floors is submodular in the set.
    """
    reach = _reach(scores, capacity, weights, order)
    deficits = np.cumsum(min_exposure[order]) - reach
    worst = int(np.argmax(deficits)) if len(order) else 0
    if not len(order) or deficits[worst] <= 1e-9 * max(float(reach[worst]), 1.0):
        return np.empty(0, np.int64), 0.0
    violated = order[: worst + 1]
    return np.sort(violated[min_exposure[violated] > 0.0]), float(deficits[worst])


@compiled
def _reach(scores: NDArray[np.floating], capacity: Ints, weights: Floats, order: Ints) -> Floats:
    """(M,) largest joint exposure of the first 1, 2, …, M items."""
    reach = np.empty(len(order))
    total = 0.0
    used = np.zeros(len(capacity), np.int64)
    for index in range(len(order)):
        for user in range(len(capacity)):
            if used[user] < capacity[user] and scores[user, order[index]] > -np.inf:
                total += weights[used[user]]
                used[user] += 1
        reach[index] = total
    return reach
