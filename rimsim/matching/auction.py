"""Auction in which items bid for positions, with ε-scaling.

Each item has a *bonus* w = −v, added to its scores s. A user holds the k pairs with the largest s + w. The
held pairs always satisfy complementary slackness up to ε:

* A pair that is not held is worth at most ε more than the cheapest position of its user.
* An item with w > 0 has at most its floor of exposures, and an item with w < 0 has at least its cap.

In the *reverse* pass, items with too many positions lower their bonus until some users switch to their next best pair.
In the *forward* pass, items with too few positions raise their bonus and take the cheapest positions. Each
step moves a bonus to the value at which the next user is indifferent, and then by ε more. So each step
changes a bonus by at least ε, and every pass ends (Bertsekas and Castañon, "A forward/reverse auction
algorithm for asymmetric assignment problems", 1992). Both passes are repeated with smaller ε until the
certified gap is small enough. In a forward pass no bonus falls, and in a reverse pass no bonus rises. So
stored values of users' cheapest positions and next best pairs remain valid bounds. Results are deterministic:
items bid in the order of a queue, and no step depends on threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.compiled import compiled, compiled_part
from rimsim.matching.kernels import Queue, dequeue, enqueue, keep_largest, new_queue, row_states
from rimsim.matching.pairs import (
    Holdings,
    UserItemPairs,
    cheapest_position,
    dual_value,
    greedy,
    item_of,
    item_range,
    no_holdings,
    pair_at,
    place_of,
    refresh,
    user_of,
    user_range,
)
from rimsim.matching.problem import Problem
from rimsim.matching.solution import DualSolution

# Number of pairs that are cached per user, next to those that the user holds.
_SPARES = 16
_STEP = 7.0  # largest factor by which ε shrinks from phase to phase
# D costs a pass over all pairs. So D is computed only after the phase ``_BLIND``, or when ε is at most ``_NEAR`` times
# the value that should reach the tolerance.
_NEAR = 4.0
_BLIND = 6
_PHASES = 40  # largest number of phases
_AIM = 0.7  # share of the tolerance at which the last phase aims, because the gap shrinks about as fast as ε
# Start bonuses are lowered by this multiple of the first ε, because raising a bonus is cheaper than lowering it.
_WARM = 2.0
_SAMPLE = 256  # number of users from whose scores the worth of all slates is estimated
_EXACT = 2.0**-46  # smallest ε as a share of the prices, because a float64 loses smaller steps
# Start bonuses are dropped if they buy exposures above the floors that cost more than this share of V.
_SPENT = 0.2
# Each phase lowers bonuses by this multiple of the last ε, because raising a bonus is cheaper than lowering it.
_SHIFT = 3.0


@compiled_part
def _lower_bound(state: Holdings, item: int) -> int:
    """Exposure below which an item should raise its bonus."""
    # An item with a price (w < 0) pays to stay at its cap. Below the cap, the price is too high.
    return int(state.max_exposure[item] if state.w[item] < 0.0 else state.min_exposure[item])


@compiled_part
def _upper_bound(state: Holdings, item: int) -> int:
    """Exposure above which an item must lower its bonus."""
    # A bonus (w > 0) buys exposures for the floor. Above the floor, the bonus is too high.
    return int(state.min_exposure[item] if state.w[item] > 0.0 else state.max_exposure[item])


@compiled_part
def _wants(state: Holdings, item: int) -> bool:
    """True if an item should and can raise its bonus."""
    return bool(state.exposure[item] < _lower_bound(state, item) and state.w[item] < state.ceiling[item])


@compiled_part
def _best_places(
    pairs: UserItemPairs, state: Holdings, item: int, keep: int, values: Floats, places: Ints
) -> int:
    """Find an item's pairs of largest margin outside slates.

    A margin is the score s less the value of the user's cheapest position, which the item would take. So a bonus of
    −margin is enough for the position. ``values`` and ``places`` become a min-heap of the ``keep`` largest margins and
    the places of their pairs. Its size is returned.
    """
    first, last = item_range(pairs, item)
    while True:
        size = 0
        threshold = -np.inf
        for place in range(first, last):
            margin = pairs.ival[place] - state.cheapest[user_of(pairs, item, place)]
            if margin > threshold and state.held[place] == 0:
                size = keep_largest(values, places, size, keep, margin, place)
                if size == keep:
                    threshold = values[0]
        # ``cheapest`` may be a lower bound, so margins may be too large. If a margin found changes, search again.
        changed = False
        for index in range(size):
            user = user_of(pairs, item, places[index])
            exact_value = cheapest_position(pairs, state, user)[1]
            if exact_value != state.cheapest[user]:
                state.cheapest[user] = exact_value
                changed = True
        if not changed:
            return size


@compiled_part
def _bid(state: Holdings, item: int, margins: Floats, epsilon: float) -> tuple[int, float]:
    """Number of positions an item takes, and its new bonus.

    ``margins`` has the margins of the item's best positions, descending. It has one more than the item takes, if there
    are so many. At the new bonus, the user of this next position would gain ε by the item. So the bonus is ε less the
    next margin, within its limits.
    """
    size = len(margins)
    n_needed = state.min_exposure[item] - state.exposure[item]
    n_wanted = _lower_bound(state, item) - state.exposure[item]
    n_taken = 0
    if state.w[item] < 0.0:
        # An item with a price may take positions up to its cap, but only those that it gets without a bonus.
        while n_taken < min(n_wanted, size) and margins[n_taken] > 0.0:
            n_taken += 1
        if n_taken >= n_needed:
            # If the item reaches its cap, a price remains, up to the margin of the next position.
            next_margin = max(margins[n_taken], 0.0) if n_taken < size else 0.0
            return n_taken, min(0.0, epsilon - next_margin) if n_taken == n_wanted else 0.0
    # An item below its floor takes all the positions that it needs, if the largest bonus can buy them.
    ceiling = state.ceiling[item]
    n_taken = 0
    while n_taken < min(n_needed, size) and margins[n_taken] >= -ceiling:
        n_taken += 1
    if n_taken < n_needed:
        return n_taken, ceiling
    next_margin = -ceiling
    if n_taken < size:
        next_margin = max(next_margin, margins[n_taken])
    elif next_margin == -np.inf:
        # There is no next position to compare with, so the last position that is taken sets the bonus.
        next_margin = margins[n_taken - 1]
    return n_taken, min(ceiling, max(epsilon - next_margin, 0.0))


@compiled_part
def _take(pairs: UserItemPairs, state: Holdings, queue: Queue, item: int, place: int) -> None:
    """Put an item into the cheapest position of a user."""
    user = user_of(pairs, item, place)
    position = cheapest_position(pairs, state, user)[0]
    displaced_pair = state.slot[user, position]
    state.slot[user, position] = pair_at(pairs, item, user, place)
    state.held[place] = 1
    state.exposure[item] += 1
    if displaced_pair >= 0:
        state.held[place_of(pairs, user, displaced_pair)] = 0
        displaced_item = item_of(pairs, user, displaced_pair)
        state.exposure[displaced_item] -= 1
        if _wants(state, displaced_item):
            enqueue(queue, displaced_item)
    state.cheapest[user] = cheapest_position(pairs, state, user)[1]


@compiled
def _forward(pairs: UserItemPairs, state: Holdings, epsilon: float) -> None:
    """Let items with too few positions raise their bonus."""
    queue = new_queue(pairs.m)
    for item in range(pairs.m):
        if _wants(state, item):
            enqueue(queue, item)
    values = np.empty(pairs.n + 1, np.float64)
    places = np.empty(pairs.n + 1, np.int64)
    item = dequeue(queue)
    while item >= 0:
        while _wants(state, item):
            n_wanted = _lower_bound(state, item) - state.exposure[item]
            size = _best_places(pairs, state, item, min(n_wanted + 1, pairs.n), values, places)
            order = np.argsort(-values[:size], kind="mergesort")
            n_taken, new_bonus = _bid(state, item, values[:size][order], epsilon)
            is_stuck = n_taken == 0 and new_bonus <= state.w[item]
            state.w[item] = max(new_bonus, state.w[item])
            for index in range(n_taken):
                _take(pairs, state, queue, item, places[order[index]])
            if is_stuck:
                break  # there is no admissible user left; the caller has checked that floors are feasible
        item = dequeue(queue)
    refresh(pairs, state)


class NextBest(NamedTuple):
    """Cache of the best pairs that users do not hold.

    In the reverse pass no bonus rises, so upper bounds of the values s + w remain valid.
    """

    spare: Ints  # (n, _SPARES) cached pairs, in any order; −1: empty
    cut: Floats  # (n,) upper bound of the values of pairs that are neither held nor cached
    bound: Floats  # (n,) upper bound of the values of pairs that are not held
    # (M+1,) number of the latest search whose user held each item; the last entry counts the searches.
    marks: Ints


@compiled_part
def _fill_cache(pairs: UserItemPairs, state: Holdings, cache: NextBest, user: int) -> None:
    """Cache the best pairs that a user does not hold."""
    cache.marks[pairs.m] += 1
    mark = cache.marks[pairs.m]
    for position in range(state.capacity[user]):
        pair = state.slot[user, position]
        if pair >= 0:
            cache.marks[item_of(pairs, user, pair)] = mark
    values = np.empty(_SPARES, np.float64)
    tags = np.empty(_SPARES, np.int64)
    size = 0
    threshold = 0.0
    first, last = user_range(pairs, user)
    for pair in range(first, last):
        item = item_of(pairs, user, pair)
        value = pairs.uval[pair] + state.w[item]
        if value > threshold and cache.marks[item] != mark:
            size = keep_largest(values, tags, size, _SPARES, value, pair)
            if size == _SPARES:
                threshold = values[0]
    for index in range(_SPARES):
        cache.spare[user, index] = tags[index] if index < size else -1
    cache.cut[user] = threshold


@compiled_part
def _best_cached(pairs: UserItemPairs, state: Holdings, cache: NextBest, user: int) -> tuple[int, float]:
    """Index and value of the best cached pair; (−1, 0): none."""
    best_index = -1
    best_value = 0.0
    for index in range(_SPARES):
        pair = cache.spare[user, index]
        if pair >= 0:
            value = pairs.uval[pair] + state.w[item_of(pairs, user, pair)]
            if value > best_value:
                best_value = value
                best_index = index
    return best_index, best_value


@compiled_part
def _next_best(pairs: UserItemPairs, state: Holdings, cache: NextBest, user: int) -> float:
    """Exact s + w of the user's best unheld pair.

    All pairs are searched again only if a pair outside the cache could be better than the best cached pair.
    """
    value = _best_cached(pairs, state, cache, user)[1]
    if value < cache.cut[user]:
        _fill_cache(pairs, state, cache, user)
        value = _best_cached(pairs, state, cache, user)[1]
    return value


@compiled_part
def _release(pairs: UserItemPairs, state: Holdings, cache: NextBest, user: int, pair: int) -> int:
    """Replace a user's pair by the user's best cached pair.

    In the cache, the given pair replaces the worst pair. The function returns the new pair's item, or −1 if the
    position is now empty.
    """
    best_index = _best_cached(pairs, state, cache, user)[0]
    new_pair = cache.spare[user, best_index] if best_index >= 0 else -1
    if best_index >= 0:
        cache.spare[user, best_index] = -1
    worst_index = 0
    worst_value = np.inf
    for index in range(_SPARES):
        spare_pair = cache.spare[user, index]
        value = 0.0
        if spare_pair >= 0:
            value = max(0.0, pairs.uval[spare_pair] + state.w[item_of(pairs, user, spare_pair)])
        if value < worst_value:
            worst_value = value
            worst_index = index
    # The pair of this value leaves the cache, so it counts among the pairs that are neither held nor cached.
    cache.cut[user] = max(cache.cut[user], worst_value)
    cache.spare[user, worst_index] = pair
    position = 0
    while state.slot[user, position] != pair:
        position += 1
    state.slot[user, position] = new_pair
    state.held[place_of(pairs, user, pair)] = 0
    item = item_of(pairs, user, pair)
    state.exposure[item] -= 1
    cache.bound[user] = max(cache.bound[user], pairs.uval[pair] + state.w[item])
    if new_pair < 0:
        return -1
    state.held[place_of(pairs, user, new_pair)] = 1
    new_item = item_of(pairs, user, new_pair)
    state.exposure[new_item] += 1
    return new_item


@compiled_part
def _least_attached(
    pairs: UserItemPairs,
    state: Holdings,
    cache: NextBest,
    item: int,
    n_exact: int,
    places: Ints,
    margins: Floats,
) -> tuple[Ints, int]:
    """Order of an item's holders by margin, and their number.

    A margin is the value s + w of the item to a user, less the value of the user's next best pair: if the bonus falls
    by more, the user gives the item up. The function fills ``places`` (of the held pairs) and ``margins``. The
    ``n_exact`` smallest margins are exact, and the other margins are lower bounds.
    """
    first, last = item_range(pairs, item)
    count = 0
    for place in range(first, last):
        if state.held[place]:
            places[count] = place
            margins[count] = pairs.ival[place] + state.w[item] - cache.bound[user_of(pairs, item, place)]
            count += 1
    while True:
        order = np.argsort(margins[:count], kind="mergesort")
        changed = False
        for index in range(min(n_exact, count)):
            place = places[order[index]]
            user = user_of(pairs, item, place)
            next_best = _next_best(pairs, state, cache, user)
            if next_best != cache.bound[user]:
                cache.bound[user] = next_best
                margins[order[index]] = pairs.ival[place] + state.w[item] - next_best
                changed = True
        if not changed:
            return order, count


@compiled
# This is one long function, because each part of it would need nearly all of the arrays as arguments.
def _reverse(pairs: UserItemPairs, state: Holdings, epsilon: float) -> None:  # noqa: C901
    """Let items with too many positions lower their bonus."""
    n = pairs.n
    m = pairs.m
    w = state.w
    queue = new_queue(m)
    for item in range(m):
        if state.exposure[item] > _upper_bound(state, item):
            enqueue(queue, item)
    item = dequeue(queue)
    if item < 0:
        return
    spare = np.full((n, _SPARES), -1)
    cut = np.full(n, np.inf)
    bound = np.full(n, np.inf)
    marks = np.full(m + 1, -1)
    cache = NextBest(spare, cut, bound, marks)
    places = np.empty(n, np.int64)
    margins = np.empty(n, np.float64)
    while item >= 0:
        while state.exposure[item] > _upper_bound(state, item):
            surplus = state.exposure[item] - _upper_bound(state, item)
            order, count = _least_attached(pairs, state, cache, item, surplus + 1, places, margins)
            n_leaving = surplus
            # At this bonus, the first user who need not leave would gain ε by leaving, which slackness up to ε allows.
            new_bonus = w[item] - max(margins[order[min(surplus, count - 1)]], 0.0) - epsilon
            if w[item] > 0.0:
                new_bonus = max(new_bonus, 0.0)
                if margins[order[surplus - 1]] > w[item]:
                    # The bonus reaches 0 before enough users leave. At bonus 0 the cap replaces the floor as the upper
                    # bound, so only users with margins up to the old bonus leave now, and the loop compares again.
                    n_leaving = 0
                    while margins[order[n_leaving]] <= w[item]:
                        n_leaving += 1
                    new_bonus = 0.0
            w[item] = new_bonus
            for index in range(n_leaving):
                place = places[order[index]]
                user = user_of(pairs, item, place)
                new_item = _release(pairs, state, cache, user, pair_at(pairs, item, user, place))
                if new_item >= 0 and state.exposure[new_item] > _upper_bound(state, new_item):
                    enqueue(queue, new_item)
        item = dequeue(queue)
    refresh(pairs, state)


def auction(pairs: UserItemPairs, state: Holdings, tol: float, tie_seed: int, epsilon: float) -> DualSolution:
    """Solution in phases of shrinking ε, with a certified gap.

    ``epsilon`` is the ε of the first phase, or 0 without start bonuses. If the start bonuses are far too high, the
    auction starts again at 0, because small steps would lower them too slowly.
    """
    w = state.w  # changed in place by each phase
    user_price = np.zeros(pairs.n)
    best_user_price = np.zeros(pairs.n)
    rows = row_states(tie_seed, np.arange(pairs.n))
    best_w = w.copy()
    best_dual = np.inf
    primal = 0.0
    gap = 0.0
    _lower(w, _WARM * epsilon)
    for phase in range(_PHASES):
        greedy(pairs, state, 0.5 * epsilon, rows)
        if phase == 0 and epsilon > 0.0 and _are_bonuses_too_high(pairs, state):
            w[:] = 0.0
            epsilon = 0.0
            greedy(pairs, state, 0.0, rows)
        if epsilon == 0.0:
            epsilon = _first_epsilon(pairs, state.cheapest)
        _reverse(pairs, state, epsilon)
        _forward(pairs, state, epsilon)
        worth = score_of(pairs, state)
        primal = worth - _shortfall_cost(state)
        shrink = 1.0 / _STEP
        if epsilon <= _NEAR * last_epsilon(state, worth, tol) or phase > _BLIND:
            dual = dual_value(pairs, state, w, user_price)
            if dual < best_dual:
                best_w = w.copy()
                best_dual = dual
                # The arrays change places, because the next call of ``dual_value`` overwrites ``user_price``.
                user_price, best_user_price = best_user_price, user_price
            gap = (best_dual - primal) / abs(best_dual) if best_dual != 0.0 else abs(primal)
            if gap <= tol or epsilon * shrink <= _smallest_epsilon(state):
                break
            # ε shrinks by less than ``_STEP`` if a larger ε should bring the gap to its aim.
            shrink = max(shrink, min(_AIM * tol / gap, 0.5))
        _lower(w, _SHIFT * epsilon)
        epsilon *= shrink
    return DualSolution(
        item_price=-best_w + 0.0,
        user_price=best_user_price,
        slates=_sorted_slates(pairs, state, best_w),
        primal=primal,
        dual=best_dual,
        gap=gap,
        shortfall=int(np.maximum(state.min_exposure - state.exposure, 0).sum()),
        exposure=state.exposure,
        resolution=epsilon,
    )


def _are_bonuses_too_high(pairs: UserItemPairs, state: Holdings) -> bool:
    """True if start bonuses buy many exposures above the floors."""
    # At the best prices, no item with a bonus has exposures above its floor.
    spent = float(np.maximum(state.w, 0.0) @ np.maximum(state.exposure - state.min_exposure, 0))
    return spent > _SPENT * abs(score_of(pairs, state))


def _shortfall_cost(state: Holdings) -> float:
    """Cost of all missing exposures."""
    missing = np.maximum(state.min_exposure - state.exposure, 0)
    is_short = missing > 0
    return float((state.ceiling[is_short] * missing[is_short]).sum())


def _smallest_epsilon(state: Holdings) -> float:
    """Smallest ε that float64 prices can represent."""
    largest_bonus = float(np.abs(state.w).max(initial=0.0))
    largest_value = float(np.abs(state.cheapest[np.isfinite(state.cheapest)]).max(initial=0.0))
    return _EXACT * max(largest_bonus, largest_value)


def _sorted_slates(pairs: UserItemPairs, state: Holdings, bonus: Floats) -> Ints:
    """(n, k) held items in descending order of s + w; −1: empty."""
    is_held = state.slot >= 0
    pair = np.maximum(state.slot, 0)
    items = (pairs.uitem[pair] if pairs.sparse else pair % pairs.m).astype(np.int64)
    slates = np.where(is_held, items, -1)
    values = np.where(is_held, pairs.uval[pair] + bonus[items], -np.inf)
    return np.take_along_axis(slates, np.lexsort((slates, -values), axis=1), axis=1)


def _first_epsilon(pairs: UserItemPairs, cheapest: Floats) -> float:
    """ε of the first phase: mean value of cheapest positions."""
    finite = cheapest[np.isfinite(cheapest)]
    typical = float(finite.mean()) if len(finite) else 0.0
    if typical > 0.0:
        return typical
    values = pairs.uval[pairs.uval > -np.inf]
    if not len(values):
        return 1.0
    return float(np.ptp(values)) / 10.0 or 1.0  # 1 if all scores are equal


def last_epsilon(state: Holdings, worth: float, tol: float) -> float:
    """Approximate ε at which the certified gap reaches the tolerance."""
    # The tolerance allows a gap of tol·|V| over all positions. In the problems that were measured, the gap per position
    # was 0.02 to 0.4 times ε. So ε is set to 10 times the allowed gap per position.
    return 10.0 * tol * abs(worth) / max(int(state.capacity.sum()), 1)


def score_of(pairs: UserItemPairs, state: Holdings) -> float:
    """Sum of the scores s of all held pairs."""
    return float(pairs.uval[state.slot[state.slot >= 0]].sum(dtype=np.float64))


def _lower(w: Floats, by: float) -> None:
    """Lower all bonuses except 0; positive bonuses stop at 0."""
    lower = w - by
    w[:] = np.where(w > 0.0, np.maximum(lower, 0.0), np.where(w < 0.0, lower, 0.0))


def _sampled_worth(pairs: UserItemPairs, positions: int, width: int) -> float:
    """Approximate total score of the best slates without floors.

    There are ``positions`` positions in all slates together, and ``width`` positions in the longest slate.
    """
    if pairs.sparse:
        return float(np.abs(pairs.uval).mean()) * positions if len(pairs.uval) else 0.0
    if pairs.m == 0 or pairs.n == 0:
        return 0.0
    # A sample of users suffices, because only the order of magnitude of ε matters.
    users = np.unique(np.linspace(0, pairs.n - 1, _SAMPLE).astype(np.int64))
    values = np.maximum(pairs.uval.reshape(pairs.n, pairs.m)[users], 0.0)
    largest_values = np.partition(values, pairs.m - width, axis=1)[:, pairs.m - width :]
    return float(largest_values.mean(dtype=np.float64)) * positions


def solve_pairs(
    problem: Problem, pairs: UserItemPairs, ceiling: Floats, bonus: Floats | None, tol: float, tie_seed: int
) -> DualSolution:
    """Solution by the auction, starting at ``bonus`` or at 0."""
    start = np.zeros(pairs.m) if bonus is None else np.minimum(bonus, ceiling)
    state = no_holdings(pairs, problem.capacity, problem.min_exposure, problem.max_exposure, ceiling, start)
    epsilon = 0.0
    if bonus is not None:
        worth = _sampled_worth(pairs, int(state.capacity.sum()), max(state.slot.shape[1], 1))
        epsilon = last_epsilon(state, worth, tol)
    return auction(pairs, state, tol, tie_seed, epsilon)
