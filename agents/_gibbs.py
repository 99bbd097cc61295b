"""The Gibbs law over slates of k items: exact inclusion probabilities, exact draws.

P(S) ∝ exp(Σ_{y∈S} z_y) over the sets S of k admissible items: conditional Poisson sampling (Chen, Dempster and Liu,
Biometrika 1994). For any shift θ it is the law of independent draws with chances p_y = σ(z_y − θ), given that k come
up. So all that is needed are probabilities of counts, which a recursion over the items gives in O(M·k):

    S_i(j) = (1 − p_i)·S_{i+1}(j) + p_i·S_{i+1}(j − 1),        j of the items i … M come up.

It is the recursion of the elementary symmetric polynomials, in numbers that neither overflow nor cancel: with θ such
that Σ p_y is about k, S_1(k) is of order 1/√k, and only products and sums of numbers in [0, 1] are taken.
"""

from __future__ import annotations

import numpy as np

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching import best_items, tie_rank, uniform_of

_SHIFTS = 60  # Newton steps at most; some three are taken
_NEAR = 0.25  # Σ p need only be so near to k: the law does not depend on θ, only its rounding does


@compiled
def _shift(z: Floats, k: int, start: float) -> float:
    """θ with Σ σ(z − θ) about k, by Newton steps on the logarithm of the sum from a θ that is too low."""
    theta = start
    for _ in range(_SHIFTS):
        total, slope = 0.0, 0.0
        for exponent in z:
            p = 1.0 / (1.0 + np.exp(theta - exponent))
            total += p
            slope += p * (1.0 - p)
        if abs(total - k) <= _NEAR or slope <= 0.0:
            break
        theta += min(max(np.log(total / k) * total / slope, -8.0), 8.0)
    return theta


@compiled
def gibbs_counts(z: Floats, k: int, chance: Floats, table: Floats) -> tuple[float, float]:
    """Probabilities of counts: S for the law over k of A items, A > k.

    Args:
        z: (A,) finite exponents.
        k: Size of a set.
        chance: (A,) filled with p.
        table: (A + 1, k + 1) filled with S.

    Returns:
        θ, and log Σ_S exp(Σ_{y∈S} z_y).
    """
    a = len(z)
    top, best = np.empty(k, np.int64), np.empty(k, np.float64)
    best_items(z, np.uint64(0), top, best)
    theta = _shift(z, k, best[k - 1])
    table[a, 0] = 1.0
    table[a, 1:] = 0.0
    total = k * theta
    for i in range(a - 1, -1, -1):
        p, q = 1.0 / (1.0 + np.exp(theta - z[i])), 1.0 / (1.0 + np.exp(z[i] - theta))
        chance[i] = p
        total -= np.log(q) if q > 0.5 else np.log(p) + theta - z[i]
        table[i, 0] = q * table[i + 1, 0]
        for j in range(1, k + 1):
            table[i, j] = q * table[i + 1, j] + p * table[i + 1, j - 1]
    return theta, total + np.log(table[0, k])


@compiled
def gibbs_law(
    z: Floats,
    k: int,
    chance: Floats,
    table: Floats,
    inclusion: Floats,
    weight: Floats,
    counted: Floats,
) -> float:
    """Counts and inclusion probabilities of the law over k of A items, A > k.

    Args:
        z: (A,) finite exponents.
        k: Size of a set.
        chance: (A,) filled with p.
        table: (A + 1, k + 1) filled with S.
        inclusion: (A,) filled with the probability that each item is in the set.
        weight: (k,) what each position counts, or none.
        counted: (A,) filled with what each item counts in expectation where the set is shown in the order of the items,
            if there are weights: an item stands at position j + 1 where j of those before it are in the set.

    Returns:
        log Σ_S exp(Σ_{y∈S} z_y).
    """
    a = len(z)
    theta, total = gibbs_counts(z, k, chance, table)
    before = np.zeros(k + 1)
    before[0] = 1.0
    for i in range(a):
        p, q = chance[i], 1.0 / (1.0 + np.exp(z[i] - theta))
        both = 0.0
        for j in range(k):
            both += before[j] * table[i + 1, k - 1 - j]
        if len(weight):
            worth = 0.0
            for j in range(k):
                worth += weight[j] * before[j] * table[i + 1, k - 1 - j]
            counted[i] = p * worth / table[0, k]
        inclusion[i] = min(p * both / table[0, k], 1.0)
        for j in range(k, 0, -1):
            before[j] = q * before[j] + p * before[j - 1]
        before[0] *= q
    return float(total)


@compiled
def gibbs_draw(
    value: Floats,
    epsilon: float,
    row: np.uint64,
    items: Ints,
    propensity: Float32s,
) -> int:
    """Draw a set of k items with P(S) ∝ exp(Σ value / ε).

    Item by item: given that r of the items from i on are to come, item i is one of them with probability
    p_i·S_{i+1}(r − 1) / S_i(r).

    Args:
        value: (M,); −inf for what may not be shown.
        epsilon: ε.
        row: Random bits of the row; an item's uniform draw is made of them and its number.
        items: (k,) filled in descending order of value.
        propensity: (k,) filled with inclusion probabilities.

    Returns:
        How many were shown: k, or all that may be shown.
    """
    m, k = len(value), len(items)
    allowed = np.empty(m, np.int64)
    a = 0
    for item in range(m):
        if value[item] > -np.inf:
            allowed[a] = item
            a += 1
    best = np.empty(k, np.float64)
    if a <= k:
        propensity[:a] = 1.0
        return best_items(value, row, items, best)
    z = value[allowed[:a]] / epsilon
    chance, inclusion, table = np.empty(a), np.empty(a), np.empty((a + 1, k + 1))
    gibbs_law(z, k, chance, table, inclusion, np.empty(0), inclusion)
    drawn = np.full(m, -np.inf)
    stated = np.empty(m)
    left = k
    for i in range(a):
        item = allowed[i]
        stated[item] = inclusion[i]
        if left == 0:
            break
        drawn_at = uniform_of(tie_rank(row, item))
        if left == a - i or drawn_at * table[i, left] < chance[i] * table[i + 1, left - 1]:
            drawn[item] = value[item]
            left -= 1
    size = best_items(drawn, row, items, best)
    for place in range(size):
        propensity[place] = stated[items[place]]
    return size


@compiled
def inclusion_sums(
    scores: Float32s,
    admissible: Bools,
    capacity: Ints,
    price: Floats,
    epsilon: float,
    mean: Floats,
    spread: Floats,
    weight: Floats,
    counted: Floats,
) -> float:
    """Expected exposures of the Gibbs policy, and Σ π(1 − π), over some states.

    Args:
        scores: (n, M).
        admissible: (n, M).
        capacity: (n,) positions.
        price: (M,) v.
        epsilon: ε.
        mean: (M,) filled with Σ π.
        spread: (M,) filled with Σ π(1 − π).
        weight: (k,) what each position counts where slates stand in descending order of λ − v, or none.
        counted: (M,) filled with what each item counts in expectation, if there are weights.

    Returns:
        Σ over the states of ε·log Σ_S exp(Σ_S (λ − v)/ε).
    """
    n, m = scores.shape
    mean[:], spread[:], counted[:] = 0.0, 0.0, 0.0
    allowed = np.empty(m, np.int64)
    chance, inclusion, z, worth = np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    table = np.empty((m + 1, max(capacity) + 1))
    total = 0.0
    for row in range(n):
        k = capacity[row]
        if k <= 0:
            continue
        a = 0
        for item in range(m):
            if admissible[row, item]:
                allowed[a] = item
                z[a] = (np.float64(scores[row, item]) - price[item]) / epsilon
                a += 1
        if len(weight):
            order = np.argsort(-z[:a])
            allowed[:a], z[:a] = allowed[:a][order], z[:a][order]
        if a <= k:
            mean[allowed[:a]] += 1.0
            total += epsilon * z[:a].sum()
            if len(weight):
                counted[allowed[:a]] += weight[:a]
            continue
        total += epsilon * gibbs_law(z[:a], k, chance, table[: a + 1, : k + 1], inclusion, weight, worth)
        for i in range(a):
            mean[allowed[i]] += inclusion[i]
            spread[allowed[i]] += inclusion[i] * (1.0 - inclusion[i])
            if len(weight):
                counted[allowed[i]] += worth[i]
    return total
