"""Can the floors be met at all? A maximum flow from items to users, and a minimum cut where they cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled


def violated_items_of_all(m: int, n: int, floor: Ints, capacity: Ints) -> tuple[Ints, int]:
    """As :func:`violated_items` where every pair is admissible, in closed form (Gale and Ryser, 1957).

    The t largest floors can be met for every t exactly if Σ of them ≤ Σ_users min(capacity, t).
    """
    order = np.argsort(-floor, kind="stable")
    users_with = n - np.searchsorted(np.sort(capacity), np.arange(1, m + 1), "left")  # capacity ≥ t
    excess = np.cumsum(floor[order]) - np.cumsum(users_with)
    worst = int(np.argmax(excess)) if m else 0
    if not m or excess[worst] <= 0:
        return np.empty(0, np.int64), 0
    return np.sort(order[: worst + 1]), int(excess[worst])


def violated_items(admissible: Bools, floor: Ints, capacity: Ints) -> tuple[Ints, int]:
    """Find out whether floors can be met within the capacities.

    Args:
        admissible: (n, M) pairs that may be shown.
        floor: (M,) required exposures.
        capacity: (n,) positions.

    Returns:
        Items whose floors together exceed what can reach them, and by how much; empty and 0 if all can be
        met.
    """
    if _placed_greedily(admissible, floor, capacity):
        return np.empty(0, np.int64), 0
    from scipy import sparse  # noqa: PLC0415  # slow to import, and greed nearly always suffices
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow  # noqa: PLC0415

    n, m = admissible.shape
    asked = np.minimum(floor, n + 1)  # more than can ever be met is unmet all the same, and fits into 32 bits
    pairs, corner = sparse.csr_array(admissible.T.astype(np.int32)), sparse.csr_array((1, 1), dtype=np.int32)
    blocks: list[list[Any]] = [  # source → items → users → sink
        [corner, sparse.csr_array(asked[np.newaxis]), None, None],
        [None, None, pairs, None],
        [None, None, None, sparse.csr_array(capacity[:, np.newaxis])],
        [None, None, None, corner],
    ]
    graph = sparse.block_array(blocks, format="csr", dtype=np.int32)
    flow = maximum_flow(graph, 0, m + n + 1)
    lacking = int(floor.sum()) - int(flow.flow_value)
    if not lacking:
        return np.empty(0, np.int64), 0
    residual = sparse.csr_array(graph - flow.flow)
    residual.eliminate_zeros()
    reached = np.sort(breadth_first_order(residual, 0, return_predecessors=False)) - 1
    return reached[(reached >= 0) & (reached < m)].astype(np.int64), lacking


def _placed_greedily(admissible: Bools, floor: Ints, capacity: Ints) -> bool:
    """True if all floors are met by giving every item, the largest floor first, to the users with most room left."""
    room = capacity.copy()
    for item in np.argsort(-floor, kind="stable").tolist():
        need = int(floor[item])
        if not need:
            break
        users = np.flatnonzero(admissible[:, item] & (room > 0))
        if len(users) < need:
            return False
        room[users[np.argpartition(-room[users], need - 1)[:need]]] -= 1
    return True


def violated_items_weighted(
    scores: NDArray[np.floating], capacity: Ints, weights: Floats, floor: Floats, order: Ints
) -> tuple[Ints, float]:
    """Items at the head of an order whose floors exceed all that can reach them, where positions count w.

    What users can give to a set A, in fractions of slates, is Σ_users w_1 + … + w_min(capacity, admissible items of A).
    Where every pair is admissible, floors in descending order decide: there is such a set only if one of them is. In
    general a set found proves that floors cannot be met; one is found if the order is that of bonuses along which the
    dual falls for ever, since what can reach a set, less its floors, is submodular.

    Args:
        scores: (n, M) −inf for what is not admissible.
        capacity: (n,) positions.
        weights: (k,) w.
        floor: (M,) or longer.
        order: (M,) items.

    Returns:
        The items in ascending order, and by how much; empty and 0 if there is none.
    """
    reach = _reach(scores, capacity, weights, order)
    lacking = np.cumsum(floor[order]) - reach
    worst = int(np.argmax(lacking)) if len(order) else 0
    if not len(order) or lacking[worst] <= 1e-9 * max(float(reach[worst]), 1.0):
        return np.empty(0, np.int64), 0.0
    found = order[: worst + 1]
    return np.sort(found[floor[found] > 0.0]), float(lacking[worst])


@compiled
def _reach(scores: NDArray[np.floating], capacity: Ints, weights: Floats, order: Ints) -> Floats:
    """(M,) the largest exposure that the first items of an order can have together, for every number of them."""
    reach, total, used = np.empty(len(order)), 0.0, np.zeros(len(capacity), np.int64)
    for place in range(len(order)):
        for user in range(len(capacity)):
            if used[user] < capacity[user] and scores[user, order[place]] > -np.inf:
                total += weights[used[user]]
                used[user] += 1
        reach[place] = total
    return reach
