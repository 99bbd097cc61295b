"""The Gibbs law over slates in order: chances of positions, of beginnings and of whole slates, exactly.

A set of k is shown in a fixed order of the items. With that order numbered 1 … A, p and S as in ``_gibbs.py``, and
B_i(j) the probability that j of the items before i come up:

    P(item i at position l + 1) = p_i·B_i(l)·S_{i+1}(k − 1 − l) / S_1(k)
    P(the slate begins i_1 … i_l) = Π_{i ≤ i_l} (p_i if i is one of them, else 1 − p_i) · S_{i_l + 1}(k − l) / S_1(k)

So all of it takes O(A·k), where an enumeration takes A·(A − 1)⋯(A − k + 1).
"""

from __future__ import annotations

import numpy as np

from rimsim.agents._gibbs import gibbs_counts
from rimsim.arrays import Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching import tie_rank


@compiled
def standing_order(
    value: Floats,
    row: np.uint64,
    relevance: Float32s,
    by_relevance: bool,  # noqa: FBT001  # compiled code takes arguments by place
) -> Ints:
    """(A,) the items that may be shown, in the order in which those of a slate stand.

    Args:
        value: (M,) λ − v; −inf for what may not be shown.
        row: Random bits of the row, by which equal values are ordered.
        relevance: (M,) p(y|x).
        by_relevance: Slates stand in descending order of relevance, and of value among equals; otherwise of value.
    """
    allowed = np.flatnonzero(value > -np.inf)
    order = allowed[np.argsort(-value[allowed], kind="mergesort")]
    begin, a = 0, len(order)
    while begin < a:
        end = begin + 1
        while end < a and value[order[end]] == value[order[begin]]:
            end += 1
        if end - begin > 1:
            rank = np.empty(end - begin, np.uint64)
            for n in range(begin, end):
                rank[n - begin] = tie_rank(row, order[n])
            order[begin:end] = order[begin:end][np.argsort(rank)[::-1]]
        begin = end
    return order[np.argsort(-relevance[order], kind="mergesort")] if by_relevance else order


@compiled
def slate_chances(
    value: Floats,
    epsilon: float,
    order: Ints,
    k: int,
    items: Ints,
    inclusion: Floats,
    position: Floats,
    prefix: Floats,
) -> float:
    """Chances of one slate under P(S) ∝ exp(Σ value / ε) over sets of k.

    Args:
        value: (M,) λ − v.
        epsilon: ε.
        order: (A,) what :func:`standing_order` gives.
        k: Positions that the policy fills, if so many items may be shown.
        items: (width,) the slate, distinct items; −1 for an empty position.
        inclusion: (width,) filled; 0 for what is not shown.
        position: (width,) filled likewise.
        prefix: (width,) filled likewise.

    Returns:
        The chance of the slate as a whole.
    """
    a = len(order)
    inclusion[:], position[:], prefix[:] = 0.0, 0.0, 0.0
    at, filled = np.full(len(value), -1), 0
    for place in range(len(items)):
        if items[place] >= 0:
            at[items[place]] = place
            filled += 1
    size = min(k, a)
    if size <= 0:
        return 1.0 if filled == 0 else 0.0
    z, chance, table = value[order] / epsilon, np.ones(a), np.zeros((a + 1, size + 1))
    if a > k:
        theta, _ = gibbs_counts(z, k, chance, table)
    else:  # all are shown: of the items from i on, all come up
        theta = -np.inf
        for i in range(a + 1):
            table[i, a - i] = 1.0
    _marginals(z, theta, chance, table, at[order], inclusion, position)
    _beginnings(z, theta, chance, table, at[order], prefix)
    return prefix[size - 1] if filled == size else 0.0


@compiled
def _marginals(
    z: Floats,
    theta: float,
    chance: Floats,
    table: Floats,
    at: Ints,
    inclusion: Floats,
    position: Floats,
) -> None:
    """Chances of each item and its place; ``at`` (A,) says where in the slate each item stands, −1 for nowhere."""
    k = table.shape[1] - 1
    before = np.zeros(k + 1)
    before[0] = 1.0
    for i in range(len(z)):
        p, q, place = chance[i], 1.0 / (1.0 + np.exp(z[i] - theta)), at[i]
        if place >= 0:
            both = 0.0
            for j in range(k):
                both += before[j] * table[i + 1, k - 1 - j]
            inclusion[place] = min(p * both / table[0, k], 1.0)
            if place < k:
                position[place] = p * before[place] * table[i + 1, k - 1 - place] / table[0, k]
        for j in range(k, 0, -1):
            before[j] = q * before[j] + p * before[j - 1]
        before[0] *= q


@compiled
def _beginnings(
    z: Floats,
    theta: float,
    chance: Floats,
    table: Floats,
    at: Ints,
    prefix: Floats,
) -> None:
    """Chances of each beginning of the slate, as far as its items stand in order."""
    k = table.shape[1] - 1
    so_far, begun = 1.0, 0
    for i in range(len(z)):
        if begun == k:
            break
        if at[i] == begun:
            so_far *= chance[i]
            prefix[begun] = so_far * table[i + 1, k - 1 - begun] / table[0, k]
            begun += 1
        else:
            so_far *= 1.0 / (1.0 + np.exp(z[i] - theta))
