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
# Tolerated distance between Σ p and k. It may be large, because θ affects rounding errors alone, not the distribution.
_NEAR = 0.25


@compiled_part
def _shift(z: Floats, k: int, start: float) -> float:
    """Shift θ with Σ σ(z − θ) ≈ k, by Newton steps."""
    # The caller starts at the k-th largest z. There Σ p is at least k/2, so the solution is near.
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
        # Newton step for log Σ p = log k. The limits matter where σ is flat and the slope is almost 0.
        theta += min(max(np.log(total / k) * total / slope, -8.0), 8.0)
    return theta


@compiled_part
def gibbs_counts(z: Floats, k: int, chance: Floats, table: Floats) -> tuple[float, float]:
    """Shift θ and log-normaliser of P(S); fills ``chance``, ``table``.

    There are A > k items, all with finite z. ``chance`` gets each item's p, and ``table`` the probabilities S_i(j). The
    normaliser Σ_S exp(Σ_S z) is exp(k·θ)·S_1(k) / Π (1 − p).
    """
    a = len(z)
    top_items = np.empty(k, np.int64)
    top_z = np.empty(k, np.float64)
    best_items(z, np.uint64(0), top_items, top_z, 0.0)
    theta = _shift(z, k, top_z[k - 1])
    table[a, 0] = 1.0
    table[a, 1:] = 0.0
    log_normaliser = k * theta
    for i in range(a - 1, -1, -1):
        p = 1.0 / (1.0 + np.exp(theta - z[i]))
        q = 1.0 / (1.0 + np.exp(z[i] - theta))  # 1 − p, without cancellation
        chance[i] = p
        # log q. The second form, log p + θ − z, is the same number, and is finite even if q is rounded to 0.
        log_normaliser -= np.log(q) if q > 0.5 else np.log(p) + theta - z[i]
        table[i, 0] = q * table[i + 1, 0]
        for j in range(1, k + 1):
            table[i, j] = q * table[i + 1, j] + p * table[i + 1, j - 1]
    return theta, log_normaliser + np.log(table[0, k])


@compiled_part
def _pass_item(before: Floats, p: float, q: float) -> None:
    """Advance ``before`` from B_i to B_{i+1}.

    Item i is chosen with chance p, and q is 1 − p. ``before[j]`` is B(j).
    """
    for j in range(len(before) - 1, 0, -1):
        before[j] = q * before[j] + p * before[j - 1]
    before[0] *= q


@compiled
def gibbs_law(
    z: Floats, k: int, chance: Floats, table: Floats, inclusion: Floats, weight: Floats, weighted: Floats
) -> float:
    """Log-normaliser of P(S); fills inclusion probabilities.

    The function also fills the arrays of :func:`gibbs_counts`. If there are position weights, ``weighted`` is filled
    with each item's expected weighted exposure. A slate shows the items of the set in their given order. So an item is
    at position j + 1 if j earlier items are in the set.
    """
    a = len(z)
    theta, log_normaliser = gibbs_counts(z, k, chance, table)
    before = np.zeros(k + 1)
    before[0] = 1.0
    for i in range(a):
        p = chance[i]
        q = 1.0 / (1.0 + np.exp(z[i] - theta))
        # Chance that k − 1 of the other items are chosen: j before item i, and the rest after it.
        p_others = 0.0
        for j in range(k):
            p_others += before[j] * table[i + 1, k - 1 - j]
        if len(weight):
            weighted_sum = 0.0
            for j in range(k):
                weighted_sum += weight[j] * before[j] * table[i + 1, k - 1 - j]
            weighted[i] = p * weighted_sum / table[0, k]
        inclusion[i] = min(p * p_others / table[0, k], 1.0)
        _pass_item(before, p, q)
    return float(log_normaliser)


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
    no_weights = np.empty(0)
    # Without weights, the last argument is not used, so any array will do.
    gibbs_law(z, k, chance, table, inclusion, no_weights, inclusion)
    value_if_sampled = np.full(m, -np.inf)
    inclusion_of_item = np.empty(m)
    n_to_choose = k
    for i in range(a):
        item = allowed[i]
        inclusion_of_item[item] = inclusion[i]
        if n_to_choose == 0:
            break
        uniform = uniform_of(tie_rank(row, item))
        # If as many items remain as are still to be chosen, all are chosen, however their probabilities are rounded.
        if (
            n_to_choose == a - i
            or uniform * table[i, n_to_choose] < chance[i] * table[i + 1, n_to_choose - 1]
        ):
            value_if_sampled[item] = value[item]
            n_to_choose -= 1
    size = best_items(value_if_sampled, row, items, best, 0.0)
    for position in range(size):
        propensity[position] = inclusion_of_item[items[position]]
    return size


@compiled
def inclusion_sums(
    scores: Float32s,
    capacity: Ints,
    price: Floats,
    epsilon: float,
    expected: Floats,
    variance: Floats,
    weight: Floats,
    weighted: Floats,
) -> float:
    """Smoothed dual of states, without its term for floors.

    The dual is Σ over states of ε·log Σ_S exp(Σ_S (λ − v)/ε). With π for an item's inclusion probability in a state,
    ``expected`` is filled with each item's Σ π over states, and ``variance`` with Σ π(1 − π). If there are position
    weights, ``weighted`` is filled with expected weighted exposures, in slates sorted by λ − v.
    """
    n, m = scores.shape
    expected[:] = 0.0
    variance[:] = 0.0
    weighted[:] = 0.0
    allowed = np.empty(m, np.int64)
    chance = np.empty(m)
    inclusion = np.empty(m)
    z = np.empty(m)
    weighted_in_state = np.empty(m)
    table = np.empty((m + 1, max(capacity) + 1))
    total = 0.0
    for state in range(n):
        k = capacity[state]
        if k <= 0:
            continue
        a = 0
        for item in range(m):
            if scores[state, item] > -np.inf:
                allowed[a] = item
                z[a] = (np.float64(scores[state, item]) - price[item]) / epsilon
                a += 1
        if len(weight):  # items in the order in which slates show them
            order = np.argsort(-z[:a])
            allowed[:a] = allowed[:a][order]
            z[:a] = z[:a][order]
        if a <= k:  # the only slate shows all admissible items
            expected[allowed[:a]] += 1.0
            total += epsilon * z[:a].sum()
            if len(weight):
                weighted[allowed[:a]] += weight[:a]
            continue
        total += epsilon * gibbs_law(
            z[:a], k, chance, table[: a + 1, : k + 1], inclusion, weight, weighted_in_state
        )
        for i in range(a):
            expected[allowed[i]] += inclusion[i]
            variance[allowed[i]] += inclusion[i] * (1.0 - inclusion[i])
            if len(weight):
                weighted[allowed[i]] += weighted_in_state[i]
    return total


@compiled
def slate_order(
    value: Floats,
    bits: np.uint64,
    relevance: Float32s,
    by_relevance: bool,  # noqa: FBT001  # compiled code takes arguments by position only
) -> Ints:
    """Admissible items, in the order in which slates show them.

    Items are sorted by descending relevance if ``by_relevance``, then by descending value, then by seeded random bits.
    """
    allowed = np.flatnonzero(value > -np.inf)
    order = allowed[np.argsort(-value[allowed], kind="mergesort")]
    # Sort each run of equal values, order[begin:end], by its random bits.
    begin = 0
    a = len(order)
    while begin < a:
        end = begin + 1
        while end < a and value[order[end]] == value[order[begin]]:
            end += 1
        if end - begin > 1:
            rank = np.empty(end - begin, np.uint64)
            for index in range(begin, end):
                rank[index - begin] = tie_rank(bits, order[index])
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

    ``order`` comes from :func:`slate_order`. Three probabilities are filled in for each item of the slate: that it
    is in the slate, that it is at its position, and that the slate begins with exactly the items up to this position.
    """
    a = len(order)
    inclusion[:] = 0.0
    position[:] = 0.0
    prefix[:] = 0.0
    position_of_item = np.full(len(value), -1)
    n_filled = 0
    for index in range(len(items)):
        if items[index] >= 0:
            position_of_item[items[index]] = index
            n_filled += 1
    size = min(k, a)
    if size <= 0:
        return 1.0 if n_filled == 0 else 0.0
    z = value[order] / epsilon
    chance = np.ones(a)
    table = np.zeros((a + 1, size + 1))
    if a > k:
        theta, _ = gibbs_counts(z, k, chance, table)
    else:
        # All items are shown: each has chance 1, so that all a − i items from item i on are chosen.
        theta = -np.inf
        for i in range(a + 1):
            table[i, a - i] = 1.0
    _marginals(z, theta, chance, table, position_of_item[order], inclusion, position)
    _beginnings(z, theta, chance, table, position_of_item[order], prefix)
    return prefix[size - 1] if n_filled == size else 0.0


@compiled_part
def _marginals(
    z: Floats,
    theta: float,
    chance: Floats,
    table: Floats,
    slate_position: Ints,
    inclusion: Floats,
    position: Floats,
) -> None:
    """Fill in probabilities of a slate's items and their positions.

    ``slate_position`` has the position of each item in the slate, or −1.
    """
    k = table.shape[1] - 1
    before = np.zeros(k + 1)
    before[0] = 1.0
    for i in range(len(z)):
        p = chance[i]
        q = 1.0 / (1.0 + np.exp(z[i] - theta))
        shown_at = slate_position[i]
        if shown_at >= 0:
            p_others = 0.0  # as in :func:`gibbs_law`
            for j in range(k):
                p_others += before[j] * table[i + 1, k - 1 - j]
            inclusion[shown_at] = min(p * p_others / table[0, k], 1.0)
            if shown_at < k:
                position[shown_at] = p * before[shown_at] * table[i + 1, k - 1 - shown_at] / table[0, k]
        _pass_item(before, p, q)


@compiled_part
def _beginnings(
    z: Floats, theta: float, chance: Floats, table: Floats, slate_position: Ints, prefix: Floats
) -> None:
    """Fill in probabilities of a slate's first 1, 2, … items.

    ``slate_position`` has the position of each item in the slate, or −1.
    """
    k = table.shape[1] - 1
    p_choices = 1.0  # probability of the choices up to this item, if items were chosen independently
    n_matched = 0  # number of the slate's first items that are chosen already
    for i in range(len(z)):
        if n_matched == k:
            break
        if slate_position[i] == n_matched:
            p_choices *= chance[i]
            prefix[n_matched] = p_choices * table[i + 1, k - 1 - n_matched] / table[0, k]
            n_matched += 1
        else:
            p_choices *= 1.0 / (1.0 + np.exp(z[i] - theta))  # this item is not chosen
