"""Gibbs distribution over slates: sampling and propensities.

A set S of k admissible items has the probability P(S) ∝ exp(Σ_{y∈S} z_y). This is conditional Poisson sampling (Chen,
Dempster and Liu, Biometrika 1994). For any shift θ, P(S) is the distribution of independent choices with chances p_y =
σ(z_y − θ), given that k items are chosen. So only the distribution of the number of chosen items is needed. A recursion
computes it in O(M·k) steps:

    S_i(j) = (1 − p_i)·S_{i+1}(j) + p_i·S_{i+1}(j − 1),        the chance that j of items i … M are chosen.

This is the recursion of the elementary symmetric polynomials, without overflow or cancellation. If Σ p_y is about k,
the probability S_1(k) is of order 1/√k, and all terms are in [0, 1].

A set is shown in a fixed order of the items. Let the items be numbered 1 … A in this order, and B_i(j) be the
probability that j of the items before i are chosen. Then

    P(item i at position l + 1) = p_i·B_i(l)·S_{i+1}(k − 1 − l) / S_1(k)
    P(the slate begins i_1 … i_l) = Π_{i ≤ i_l} (p_i if i is one of them, else 1 − p_i) · S_{i_l + 1}(k − l) / S_1(k)

All probabilities of a slate take O(A·k) steps for A items. An enumeration would take A·(A − 1)⋯(A − k + 1) steps.
"""

from __future__ import annotations

import numpy as np

from rimsim.arrays import Float32s, Floats, Ints
from rimsim.compiled import compiled, compiled_part
from rimsim.matching import best_items, tie_rank, uniform_of

_SHIFTS = 60  # largest number of Newton steps; about three are enough
# Tolerated distance between Σ p and k. The choice of θ affects rounding errors, but not the distribution.
_NEAR = 0.25


@compiled_part
def _shift(z: Floats, k: int, start: float) -> float:
    """Shift θ with Σ σ(z − θ) ≈ k, by Newton steps."""
    # The start is below the solution, because Newton steps do not overshoot from there.
    theta = start
    for _ in range(_SHIFTS):
        total = 0.0
        slope = 0.0
        for exponent in z:
            p = 1.0 / (1.0 + np.exp(theta - exponent))
            total += p
            slope += p * (1.0 - p)
        if abs(total - k) <= _NEAR or slope <= 0.0:
            break
        theta += min(max(np.log(total / k) * total / slope, -8.0), 8.0)
    return theta


@compiled_part
def gibbs_counts(z: Floats, k: int, chance: Floats, table: Floats) -> tuple[float, float]:
    """Shift θ and log-normaliser of P(S); fills ``chance``, ``table``.

    There are A > k items, all with finite z. ``chance`` gets each item's p, and ``table`` the probabilities S_i(j).
    """
    a = len(z)
    top = np.empty(k, np.int64)
    best = np.empty(k, np.float64)
    best_items(z, np.uint64(0), top, best, 0.0)
    theta = _shift(z, k, best[k - 1])
    table[a, 0] = 1.0
    table[a, 1:] = 0.0
    total = k * theta
    for i in range(a - 1, -1, -1):
        p = 1.0 / (1.0 + np.exp(theta - z[i]))
        q = 1.0 / (1.0 + np.exp(z[i] - theta))
        chance[i] = p
        total -= np.log(q) if q > 0.5 else np.log(p) + theta - z[i]
        table[i, 0] = q * table[i + 1, 0]
        for j in range(1, k + 1):
            table[i, j] = q * table[i + 1, j] + p * table[i + 1, j - 1]
    return theta, total + np.log(table[0, k])


@compiled_part
def _pass_item(before: Floats, p: float, q: float) -> None:
    """Update probabilities of j chosen items before the next item."""
    for j in range(len(before) - 1, 0, -1):
        before[j] = q * before[j] + p * before[j - 1]
    before[0] *= q


@compiled
def gibbs_law(
    z: Floats, k: int, chance: Floats, table: Floats, inclusion: Floats, weight: Floats, counted: Floats
) -> float:
    """Log-normaliser of P(S); fills inclusion probabilities.

    The function also fills the arrays of :func:`gibbs_counts`. If there are position weights, ``counted`` is filled
    with each item's expected weighted exposure. A slate shows the items of the set in their given order. So an item is
    at position j + 1 if j earlier items are in the set.
    """
    a = len(z)
    theta, total = gibbs_counts(z, k, chance, table)
    before = np.zeros(k + 1)
    before[0] = 1.0
    for i in range(a):
        p = chance[i]
        q = 1.0 / (1.0 + np.exp(z[i] - theta))
        ways = 0.0
        for j in range(k):
            ways += before[j] * table[i + 1, k - 1 - j]
        if len(weight):
            worth = 0.0
            for j in range(k):
                worth += weight[j] * before[j] * table[i + 1, k - 1 - j]
            counted[i] = p * worth / table[0, k]
        inclusion[i] = min(p * ways / table[0, k], 1.0)
        _pass_item(before, p, q)
    return float(total)


@compiled
def gibbs_draw(value: Floats, epsilon: float, row: np.uint64, items: Ints, propensity: Float32s) -> int:
    """Number of items in a set sampled from P(S).

    The exponent z of P(S) is ``value``/ε. The set has k items, or all admissible items if there are fewer. If r items
    are still to be chosen from item i on, item i is chosen with probability p_i·S_{i+1}(r − 1) / S_i(r). ``value`` is
    −∞ for inadmissible items. ``items`` is filled with the set in descending order of value, and ``propensity`` with
    inclusion probabilities. The argument ``row`` has the random bits of the arrival.
    """
    m = len(value)
    k = len(items)
    allowed = np.empty(m, np.int64)
    a = 0
    for item in range(m):
        if value[item] > -np.inf:
            allowed[a] = item
            a += 1
    best = np.empty(k, np.float64)
    if a <= k:
        propensity[:a] = 1.0
        return best_items(value, row, items, best, 0.0)
    z = value[allowed[:a]] / epsilon
    chance = np.empty(a)
    inclusion = np.empty(a)
    table = np.empty((a + 1, k + 1))
    gibbs_law(z, k, chance, table, inclusion, np.empty(0), inclusion)
    drawn = np.full(m, -np.inf)
    stated = np.empty(m)
    n_open = k
    for i in range(a):
        item = allowed[i]
        stated[item] = inclusion[i]
        if n_open == 0:
            break
        drawn_at = uniform_of(tie_rank(row, item))
        if n_open == a - i or drawn_at * table[i, n_open] < chance[i] * table[i + 1, n_open - 1]:
            drawn[item] = value[item]
            n_open -= 1
    size = best_items(drawn, row, items, best, 0.0)
    for place in range(size):
        propensity[place] = stated[items[place]]
    return size


@compiled
def inclusion_sums(
    scores: Float32s,
    capacity: Ints,
    price: Floats,
    epsilon: float,
    mean: Floats,
    spread: Floats,
    weight: Floats,
    counted: Floats,
) -> float:
    """Smoothed dual of states, without floors; fills sums over states.

    The dual is Σ over states of ε·log Σ_S exp(Σ_S (λ − v)/ε). With π for an item's inclusion probability in a state,
    ``mean`` is filled with each item's Σ π over states, and ``spread`` with Σ π(1 − π). If there are position weights,
    ``counted`` is filled with expected exposures, in slates sorted by λ − v.
    """
    n, m = scores.shape
    mean[:] = 0.0
    spread[:] = 0.0
    counted[:] = 0.0
    allowed = np.empty(m, np.int64)
    chance = np.empty(m)
    inclusion = np.empty(m)
    z = np.empty(m)
    worth = np.empty(m)
    table = np.empty((m + 1, max(capacity) + 1))
    total = 0.0
    for row in range(n):
        k = capacity[row]
        if k <= 0:
            continue
        a = 0
        for item in range(m):
            if scores[row, item] > -np.inf:
                allowed[a] = item
                z[a] = (np.float64(scores[row, item]) - price[item]) / epsilon
                a += 1
        if len(weight):
            order = np.argsort(-z[:a])
            allowed[:a] = allowed[:a][order]
            z[:a] = z[:a][order]
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


@compiled
def standing_order(
    value: Floats,
    row: np.uint64,
    relevance: Float32s,
    by_relevance: bool,  # noqa: FBT001  # compiled code takes arguments by position only
) -> Ints:
    """Admissible items, in the order in which slates show them.

    Items are sorted by descending relevance if ``by_relevance``, then by descending value, then by seeded random bits.
    """
    allowed = np.flatnonzero(value > -np.inf)
    order = allowed[np.argsort(-value[allowed], kind="mergesort")]
    begin = 0
    a = len(order)
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
    """Probability of a slate, in which −1 is an empty position.

    ``order`` comes from :func:`standing_order`. Three probabilities are filled in for each item of the slate: that it
    is in the slate, that it is at its position, and that the slate begins with exactly the items up to this position.
    """
    a = len(order)
    inclusion[:] = 0.0
    position[:] = 0.0
    prefix[:] = 0.0
    at = np.full(len(value), -1)
    filled = 0
    for place in range(len(items)):
        if items[place] >= 0:
            at[items[place]] = place
            filled += 1
    size = min(k, a)
    if size <= 0:
        return 1.0 if filled == 0 else 0.0
    z = value[order] / epsilon
    chance = np.ones(a)
    table = np.zeros((a + 1, size + 1))
    if a > k:
        theta, _ = gibbs_counts(z, k, chance, table)
    else:  # all items are shown, so all a − i items from item i on are chosen
        theta = -np.inf
        for i in range(a + 1):
            table[i, a - i] = 1.0
    _marginals(z, theta, chance, table, at[order], inclusion, position)
    _beginnings(z, theta, chance, table, at[order], prefix)
    return prefix[size - 1] if filled == size else 0.0


@compiled_part
def _marginals(
    z: Floats, theta: float, chance: Floats, table: Floats, at: Ints, inclusion: Floats, position: Floats
) -> None:
    """Fill in probabilities of a slate's items and their positions."""
    k = table.shape[1] - 1
    before = np.zeros(k + 1)
    before[0] = 1.0
    for i in range(len(z)):
        p = chance[i]
        q = 1.0 / (1.0 + np.exp(z[i] - theta))
        place = at[i]
        if place >= 0:
            ways = 0.0
            for j in range(k):
                ways += before[j] * table[i + 1, k - 1 - j]
            inclusion[place] = min(p * ways / table[0, k], 1.0)
            if place < k:
                position[place] = p * before[place] * table[i + 1, k - 1 - place] / table[0, k]
        _pass_item(before, p, q)


@compiled_part
def _beginnings(z: Floats, theta: float, chance: Floats, table: Floats, at: Ints, prefix: Floats) -> None:
    """Fill in probabilities of a slate's first 1, 2, … items."""
    k = table.shape[1] - 1
    so_far = 1.0
    begun = 0
    for i in range(len(z)):
        if begun == k:
            break
        if at[i] == begun:
            so_far *= chance[i]
            prefix[begun] = so_far * table[i + 1, k - 1 - begun] / table[0, k]
            begun += 1
        else:
            so_far *= 1.0 / (1.0 + np.exp(z[i] - theta))
