"""The smoothed dual, and moves of slates, against general solvers and searches by hand."""

import itertools

import numpy as np
import pytest
from kit import cases
from scipy import optimize

from rimsim.matching.descent import WeightedProblem, at_prices
from rimsim.matching.slates import Penalty, _best_lists, _improve


def terms_of(draw, n, m, k, groups, active):
    """A problem with floors, caps and groups."""
    items = [np.flatnonzero(draw.random(m) < 0.5) for _ in range(groups)]
    groups_of_items = [[g for g in range(groups) if item in items[g]] for item in range(m)]
    floors = draw.random(m + groups) * n * 0.4
    caps = np.full(m + groups, np.inf)
    capped = draw.random(m + groups) < 0.4
    floors[capped & (draw.random(m + groups) < 0.5)] = 0.0
    caps[capped] = floors[capped] + draw.random(capped.sum())
    scores = draw.random((n, m))
    scores[draw.random((n, m)) < 0.15] = -np.inf
    return WeightedProblem(
        scores=scores,
        capacity=draw.integers(0, k + 1, n),
        weights=np.sort(draw.random(k) + 0.2)[::-1].copy(),
        min_exposure=floors,
        max_exposure=caps,
        cost=draw.random(m + groups),
        first=np.concatenate([[0], np.cumsum([len(numbers) for numbers in items])]).astype(np.int64),
        item=np.concatenate([np.zeros(0, np.int64), *items]).astype(np.int64),
        of_first=np.concatenate([[0], np.cumsum([len(numbers) for numbers in groups_of_items])]).astype(
            np.int64
        ),
        of=np.array([g for numbers in groups_of_items for g in numbers], np.int64),
        active=draw.random((n, groups)) < 0.7 if active else np.zeros((0, groups), bool),
    )


def inside(terms, user):
    """(M, G) True where a group holds an item and counts what a user is shown."""
    held = np.zeros((terms.scores.shape[1], len(terms.first) - 1), bool)
    for g in range(held.shape[1]):
        held[terms.item[terms.first[g] : terms.first[g + 1]], g] = True
    return held & terms.active[user] if len(terms.active) else held


def values_of(terms, price, user):
    """(M,) s − v of a user, groups' prices included; −∞ where that is below 0."""
    m = terms.scores.shape[1]
    value = terms.scores[user] - price[:m] - inside(terms, user) @ price[m:]
    return np.where(value >= 0, value, -np.inf)


def counted(terms, slates):
    """(R,) exposures of slates, and the sum of weights times scores."""
    m = terms.scores.shape[1]
    exposure = np.zeros(len(terms.min_exposure))
    score = 0.0
    for user, slate in enumerate(slates):
        for place, item in enumerate(slate):
            if item >= 0:
                score += terms.weights[place] * terms.scores[user, item]
                exposure[item] += terms.weights[place]
                exposure[m:] += terms.weights[place] * inside(terms, user)[item]
    return exposure, score


def worth(terms, penalty, slates):
    """Σ w·s + H(E), H the integral of clip(w − ρ·(E − least), 0, c) − clip(z + ρ·(E − most), 0, d) in closed form."""
    exposure, score = counted(terms, slates)
    price, floors, caps, low, high = penalty.rows.T
    below = floors - exposure
    above = np.where(high > 0, exposure - caps, 0.0)
    if penalty.rho == np.inf:
        return score - low @ np.maximum(below, 0) - high @ np.maximum(above, 0)

    def area(x, c):
        return 0.5 * np.clip(x, 0, c) ** 2 + c * np.maximum(x - c, 0)

    lost = area(np.maximum(-price, 0) + penalty.rho * below, low)
    lost += area(np.maximum(price, 0) + penalty.rho * above, high)
    return score - lost.sum() / penalty.rho


def moves(terms, slates, lists):
    """All slates that one move away: an exchange, another item, an item more, the last item less."""
    for user, slate in enumerate(slates):
        size = int((slate >= 0).sum())
        capacity = int(terms.capacity[user])
        for first, second in itertools.combinations(range(size), 2):
            yield user, [(first, slate[second]), (second, slate[first])]
        for place in range(min(size + 1, capacity)):
            for item in lists[user]:
                if item >= 0 and item not in slate and terms.scores[user, item] > -np.inf:
                    yield user, [(place, item)]
        if size:
            yield user, [(size - 1, -1)]


@pytest.mark.parametrize("seed", range(24))
def test_passes_end_where_no_move_gains(seed):
    """Every pass raises Σ w·s + H(E), exposures are those of the slates, and at the end no single move raises it."""
    draw = np.random.default_rng(seed)
    n = 5
    m = 6
    k = 3
    groups = seed % 4
    terms = terms_of(draw, n, m, k, groups, active=seed % 2 > 0)
    low = np.where(terms.min_exposure > 0, terms.cost, 0.0)
    high = np.where(terms.max_exposure < np.inf, 0.8, 0.0)
    price = np.clip(0.3 * draw.normal(size=m + groups), -low, high)
    rows = np.stack([price, terms.min_exposure, terms.max_exposure, low, high], axis=1)
    penalty = Penalty(rows, (2.0, np.inf, 0.5)[seed % 3])
    slates = np.full((n, k), -1)
    for user in range(n):
        allowed = draw.permutation(np.flatnonzero(terms.scores[user] > -np.inf))[: terms.capacity[user]]
        slates[user, : len(allowed)] = allowed
    lists = np.array([draw.permutation(m) for _ in range(n)])
    lists[::2, 2:4] = -1  # lists of users with fewer candidates
    exposure = np.zeros(m + groups)
    before = worth(terms, penalty, slates)
    for _ in range(50):
        n_gains = _improve(terms, penalty, slates, lists[:, :4], np.unique(lists[:, 4:]), exposure, 1e-9)
        after = worth(terms, penalty, slates)
        assert exposure == pytest.approx(counted(terms, slates)[0], abs=1e-9)
        assert (after > before) if n_gains else (after == pytest.approx(before))
        before = after
        if not n_gains:
            break
    assert n_gains == 0
    for user, changes in moves(terms, slates, lists):
        moved = slates.copy()
        for place, item in changes:
            moved[user, place] = item
        assert worth(terms, penalty, moved) <= before + 1e-8


def test_users_are_served_at_prices_that_follow_the_exposures():
    """Where prices follow what all others have got, less exposure is missing or too much than where they stay."""
    beyond = np.zeros((8, 2))
    for seed in range(8):
        terms = terms_of(np.random.default_rng(seed), 30, 6, 3, groups=2 * (seed % 2), active=seed % 4 == 1)
        price = np.where(terms.min_exposure > 0, -0.5 * terms.cost, 0.0)
        for column, rho in enumerate((0.0, 0.1)):
            served = _best_lists(terms, price, np.arange(30).astype(np.uint64), rho, 4)
            exposure, _ = counted(terms, [slate[:k] for slate, k in zip(served, terms.capacity, strict=True)])
            misses = np.maximum(terms.min_exposure - exposure, 0.0) + np.maximum(
                exposure - terms.max_exposure, 0.0
            )
            beyond[seed, column] = misses.sum()
    assert (beyond[:, 1] < beyond[:, 0]).all()
    assert beyond[:, 1].sum() < 0.7 * beyond[:, 0].sum()


def most_smoothed(a, weights, tau):
    """The largest of a·z − τ/2·|z|² over z ≥ 0 with z(A) ≤ w_1 + … + w_|A| for every set A, and where it is."""
    m = len(a)
    sets = np.array(list(itertools.product((0.0, 1.0), repeat=m))[1:])
    bound = np.concatenate([np.cumsum(weights), np.full(m, np.sum(weights))])[sets.sum(1).astype(int) - 1]
    within = {"type": "ineq", "fun": lambda z: bound - sets @ z, "jac": lambda _: -sets}
    options = {"bounds": [(0, None)] * m, "constraints": within, "method": "SLSQP"}
    options |= {"jac": lambda z: tau * z - a, "options": {"ftol": 1e-13, "maxiter": 300}}
    optimum = optimize.minimize(lambda z: tau / 2 * z @ z - a @ z, np.zeros(m), **options)
    return -optimum.fun, optimum.x


@pytest.mark.parametrize("tau", [0.02, 0.3, 2.0])
@cases("groups active", (0, False), (2, True), (2, False))
def test_the_smoothed_dual_is_the_maximum_over_its_polymatroid(tau, groups, active):
    """For each user by a general solver: both sums, what the last position is worth, and exposures of all rows."""
    draw = np.random.default_rng(int(100 * tau) + groups)
    terms = terms_of(draw, 5, 5, 4, groups, active)
    terms.capacity[:] = [4, 3, 1, 0, 2]
    price = 0.3 * draw.normal(size=5 + groups)
    caps = np.where(terms.max_exposure < np.inf, terms.max_exposure, 9.0)
    terms = terms._replace(max_exposure=caps)
    fixed = np.minimum(price, 0) @ terms.min_exposure + np.maximum(price, 0) @ caps
    expected = np.zeros(5 + groups)
    top = 0.0
    smooth = 0.0
    last = []
    for user, k in enumerate(terms.capacity):
        value = np.maximum(values_of(terms, price, user), 0.0)
        weights = terms.weights[:k]
        a = np.sort(value)[::-1]
        top += weights @ a[:k]
        last.append(weights[-1] * a[k - 1] if k else 0.0)
        part, z = most_smoothed(value, weights, tau) if k else (0.0, np.zeros(5))
        smooth += part
        expected += np.concatenate([z, z @ inside(terms, user)])
    near = at_prices(terms, price + 0.1 * draw.normal(size=len(price)), tau)
    for before in (None, near):
        sums = at_prices(terms, price, tau, before)
        assert (sums.bound, sums.users.top) == pytest.approx((top + fixed, top))
        assert sums.smooth == pytest.approx(smooth + fixed, abs=1e-6)
        assert sums.users.marginal == pytest.approx(last)
        assert sums.users.exposure == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("step", [1e-4, 3e-3, 0.3])
@cases("groups active", (0, False), (2, True))
def test_lists_from_earlier_prices_change_no_bit(step, groups, active):
    """At prices that move slowly or far, with some users alike, a fresh evaluation finds the same sums."""
    draw = np.random.default_rng(int(1e4 * step))
    n = 40
    m = 400
    k = 5
    terms = terms_of(draw, n, m, k, groups, active)
    terms.scores[:] = draw.lognormal(-3.0, 1.0, (n, m))
    terms.scores[draw.random((n, m)) < 0.05] = -np.inf
    terms.scores[7:19] = terms.scores[7]
    terms.capacity[:] = draw.integers(0, k + 1, n)
    price = 0.02 * draw.normal(size=m + groups)
    point = None
    tau = 0.01
    listed = 0
    for turn in range(30):
        tau = 0.004 if turn == 15 else tau
        price = price + step * draw.normal(size=len(price))
        point = at_prices(terms, price, tau, point)
        fresh = at_prices(terms, price, tau)
        listed += np.isfinite(point.contenders.rest).sum()
        assert (point.bound, point.smooth) == (fresh.bound, fresh.smooth)
        assert np.array_equal(point.users.exposure, fresh.users.exposure)
        assert np.array_equal(point.users.marginal, fresh.users.marginal)
    assert bool(listed) == (groups == 0)
