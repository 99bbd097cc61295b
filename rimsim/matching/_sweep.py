"""A pass over all scores, block by block: the dual value, and the pairs that may matter at given bonuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.arrays import Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching._kernels import push_min, replace_min
from rimsim.matching._pairs import Pairs

if TYPE_CHECKING:
    from rimsim.matching.scorer import ChunkedScores


_CELLS = 1 << 24  # scores of a block: 64 MiB in float32


class Sweep(NamedTuple):
    """The dual value of all scores at given bonuses, and the pairs that may matter there."""

    top: float
    """Σ_users of the k largest (s + w)₊."""
    user_price: Floats
    """(n,) the k-th largest (s + w)₊."""
    keys: Ints
    """Pairs that may matter, user·M + item, ascending and distinct."""
    values: Float32s
    """Their scores."""


@compiled
def _best_of_users(
    block: Float32s,
    w: Floats,
    capacity: Ints,
    prices: Floats,
    best: Ints,
) -> float:
    """The best pairs of every row, as many as ``best`` is wide; sets prices, returns the sum of the top sums."""
    keep = best.shape[1]
    values = np.empty(keep + 1, np.float64)
    tags = np.empty(keep + 1, np.int64)
    total = 0.0
    for row in range(block.shape[0]):
        size = 0
        threshold = -np.inf
        for item in range(block.shape[1]):
            value = block[row, item] + w[item]
            if value > threshold:
                if size < keep:
                    push_min(values, tags, size, value, item)
                    size += 1
                else:
                    replace_min(values, tags, size, value, item)
                if size == keep:
                    threshold = values[0]
        order = np.argsort(-values[:size], kind="mergesort")
        k = capacity[row]
        for index in range(min(k, size)):
            total += max(values[order[index]], 0.0)
        prices[row] = max(values[order[k - 1]], 0.0) if 0 < k <= size else (0.0 if k > 0 else np.inf)
        for index in range(keep):
            best[row, index] = tags[index] if index < size else -1
    return total


@compiled
def _best_of_items(
    block: Float32s,
    start: int,
    prices: Floats,
    sizes: Ints,
    margins: Floats,
    users: Ints,
    thresholds: Floats,
) -> None:
    """Keep the users with the largest s − u of every item, over all blocks so far."""
    keep = margins.shape[1]
    for row in range(block.shape[0]):
        for item in range(block.shape[1]):
            margin = block[row, item] - prices[row]
            if margin > thresholds[item]:
                if sizes[item] < keep:
                    push_min(margins[item], users[item], sizes[item], margin, start + row)
                    sizes[item] += 1
                else:
                    replace_min(margins[item], users[item], keep, margin, start + row)
                if sizes[item] == keep:
                    thresholds[item] = margins[item, 0]


def sweep(scores: ChunkedScores, w: Floats, capacity: Ints, per_user: int, per_item: int) -> Sweep:
    """Score all pairs once.

    Args:
        scores: The scorer.
        w: (M,) bonuses.
        capacity: (n,) positions.
        per_user: Pairs to keep for every user: those of largest s + w.
        per_item: Pairs to keep for every item: those of largest s − u, with u the user's price at these bonuses.
    """
    n, m = scores.shape
    per_user, per_item = min(per_user, m), min(per_item, n)
    prices = np.empty(n)
    margins = np.empty((m, per_item))
    users = np.full((m, per_item), -1, np.int64)
    sizes = np.zeros(m, np.int64)
    thresholds = np.full(m, -np.inf)
    of_users = np.empty((n, per_user), np.int32)
    values = np.empty((n, per_user), np.float32)
    total = 0.0
    step = max(1, _CELLS // max(m, 1))
    for start in range(0, n, step):
        stop = min(start + step, n)
        block = np.ascontiguousarray(scores.rows(start, stop), np.float32)
        best = np.empty((stop - start, per_user), np.int64)
        total += _best_of_users(block, w, capacity[start:stop], prices[start:stop], best)
        if per_item:
            _best_of_items(block, start, prices[start:stop], sizes, margins, users, thresholds)
        of_users[start:stop] = best
        values[start:stop] = np.take_along_axis(block, np.maximum(best, 0), axis=1)
    rows, columns = np.nonzero(of_users >= 0)
    keys = rows * m + of_users[rows, columns]
    scored = values[rows, columns]
    items, columns = np.nonzero(users >= 0)
    seekers = users[items, columns]
    margin_scores = (margins[items, columns] + prices[seekers]).astype(np.float32)
    finite = np.isfinite(margin_scores)
    keys = np.concatenate([keys, seekers[finite] * m + items[finite]])
    keys, first = np.unique(keys, return_index=True)
    both = np.concatenate([scored, margin_scores[finite]])[first]
    admissible = both > -np.inf
    return Sweep(total, prices, keys[admissible], both[admissible])


def sparse_pairs(n: int, m: int, keys: Ints, values: Float32s) -> Pairs:
    """The pairs with ascending keys user·M + item, in both orders."""
    users, items = np.divmod(keys, m)
    by_item = np.argsort(items, kind="stable")
    place = np.empty(len(keys), np.int64)
    place[by_item] = np.arange(len(keys))
    return Pairs(
        n=n,
        m=m,
        sparse=True,
        uval=values,
        ival=values[by_item],
        uptr=np.searchsorted(users, np.arange(n + 1)).astype(np.int64),
        uitem=items.astype(np.int32),
        uplace=place,
        iptr=np.concatenate([[0], np.cumsum(np.bincount(items, minlength=m))]).astype(np.int64),
        iuser=users[by_item].astype(np.int32),
        ipair=by_item.astype(np.int64),
    )
