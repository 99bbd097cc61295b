"""The parts of the solvers, each against a search by hand over small arrays."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import optimize
from scipy.integrate import quad

from rimsim.errors import AgentError, ConfigError
from rimsim.matching import Rows, certificate, solve_dual, weighted
from rimsim.matching import _large as large
from rimsim.matching import _sweep as sweeps
from rimsim.matching._greedy import dual_value
from rimsim.matching._moves import dealt, improve
from rimsim.matching._pairs import dense_pairs, fresh_state
from rimsim.matching._penalty import Penalty, gain
from rimsim.matching._phases import End, _first_epsilon, _lower, _overspent, sampled_worth
from rimsim.matching._refusals import names_of
from rimsim.matching._reverse import _SPARES, File, _look_up
from rimsim.matching._smoothed import _pool, smoothed
from rimsim.matching._terms import Terms, values_of_row
from rimsim.matching.certify import _beyond
from rimsim.matching.dual import _given, _start
from rimsim.matching.problem import Problem, _in_units
from rimsim.matching.weighted import _scale


class Blocks:
    """A matrix behind the protocol of a scorer."""

    def __init__(self, matrix):
        self.matrix, self.shape = matrix, matrix.shape

    def rows(self, start, stop):
        """Some rows."""
        return self.matrix[start:stop]


# -- one look at all scores -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [1, 40, 10_000])
@pytest.mark.parametrize(("per_user", "per_item"), [(1, 1), (3, 4), (3, 0), (7, 9), (50, 50)])
def test_a_look_finds_the_best_pairs_of_users_and_of_items(per_user, per_item, cells, monkeypatch):
    """Top sums, users' prices and the kept pairs are those of full sorts, whatever the blocks."""
    monkeypatch.setattr(sweeps, "_CELLS", cells)
    draw = np.random.default_rng(per_user)
    scores = draw.normal(size=(9, 7)).astype(np.float32)
    scores[draw.random((9, 7)) < 0.2] = -np.inf
    w, capacity = draw.normal(size=7), draw.integers(0, 4, 9)
    per_user = max(per_user, 3) if per_user > 1 else 1
    capacity = np.minimum(capacity, per_user)
    found = sweeps.sweep(Blocks(scores), w, capacity, per_user, per_item)
    value, keys, prices, top = scores + w, set(), [], 0.0
    for user in range(9):
        order = [item for item in np.argsort(-value[user]) if value[user, item] > -np.inf]
        keys |= {user * 7 + int(item) for item in order[:per_user]}
        k = capacity[user]
        top += sum(max(value[user, item], 0.0) for item in order[:k])
        prices.append(np.inf if k == 0 else max(value[user, order[k - 1]], 0.0) if k <= len(order) else 0.0)
    margin = scores - np.array(prices)[:, None]
    for item in range(7):
        order = [user for user in np.argsort(-margin[:, item]) if margin[user, item] > -np.inf]
        keys |= {int(user) * 7 + item for user in order[:per_item]}
    assert found.top == pytest.approx(top)
    assert found.user_price.tolist() == pytest.approx(prices)
    assert found.keys.tolist() == sorted(keys)
    assert found.values == pytest.approx(scores.reshape(-1)[found.keys], rel=1e-6)


def test_looks_end_when_the_gap_is_small_enough(monkeypatch):
    """Soft floors that cost little are certified after the second look; so are hard ones that are met."""
    seen, look = [], sweeps.sweep
    monkeypatch.setattr(large, "sweep", lambda *given: seen.append(1) or look(*given))
    scores = np.random.default_rng(0).random((60, 12)).astype(np.float32)
    for cost in (1e-3, None):
        seen.clear()
        end = solve_dual(Blocks(scores), 3, 1, cost=cost, tol=0.05)
        assert end.gap <= 0.05
        assert len(seen) == 2


@pytest.mark.parametrize(("floor", "kept"), [(0, (14, 0)), (1, (14, 18)), (5, (14, 26))])
def test_a_look_keeps_pairs_of_items_where_something_is_asked_for(floor, kept, monkeypatch):
    """Twice the positions of a user and eight; twice the largest floor and sixteen of an item, if there is a floor."""
    seen, look = [], sweeps.sweep
    monkeypatch.setattr(large, "sweep", lambda *given: seen.append(given[3:]) or look(*given))
    scores = np.random.default_rng(1).random((60, 40)).astype(np.float32)
    scores[:, 7] *= 0.01  # nobody's best item
    end = solve_dual(Blocks(scores), [3] * 59 + [1], floor * (np.arange(40) == 7), tol=0.05)
    assert set(seen) == {kept}
    assert len(seen) == 2
    assert end.exposure[7] == floor


@pytest.mark.parametrize("looks", [2, 3])
def test_the_last_look_ends_the_search(looks, monkeypatch):
    """Where the gap stays too large, each look but the last one is followed by an auction on the pairs known so far."""
    seen, look, auctions = [], sweeps.sweep, large.run_phases
    monkeypatch.setattr(large, "_LOOKS", looks)
    monkeypatch.setattr(large, "sweep", lambda *given: seen.append("look") or look(*given))
    monkeypatch.setattr(large, "run_phases", lambda *given: seen.append("auction") or auctions(*given))
    scores = np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32) / 3
    solve_dual(Blocks(scores), 3, 15, cost=2.0, tol=1e-300)
    assert seen == ["look", "auction"] * (looks - 1) + ["look"]


# -- whole slates ---------------------------------------------------------------------------------------------------


def terms_of(draw, n, m, k, groups, active):
    """A problem with floors, caps and groups."""
    items = [np.flatnonzero(draw.random(m) < 0.5) for _ in range(groups)]
    of = [[g for g in range(groups) if item in items[g]] for item in range(m)]
    least, most = draw.random(m + groups) * n * 0.4, np.full(m + groups, np.inf)
    capped = draw.random(m + groups) < 0.4
    least[capped & (draw.random(m + groups) < 0.5)] = 0.0
    most[capped] = least[capped] + draw.random(capped.sum())
    scores = draw.random((n, m))
    scores[draw.random((n, m)) < 0.15] = -np.inf
    return Terms(
        scores=scores,
        capacity=draw.integers(0, k + 1, n),
        weights=np.sort(draw.random(k) + 0.2)[::-1].copy(),
        least=least,
        most=most,
        cost=draw.random(m + groups),
        first=np.concatenate([[0], np.cumsum([len(one) for one in items])]).astype(np.int64),
        item=np.concatenate([np.zeros(0, np.int64), *items]).astype(np.int64),
        of_first=np.concatenate([[0], np.cumsum([len(one) for one in of])]).astype(np.int64),
        of=np.array([g for one in of for g in one], np.int64),
        active=draw.random((n, groups)) < 0.7 if active else np.zeros((0, groups), bool),
    )


def counted(terms, slates):
    """(R,) exposures of slates, and the sum of weights times scores."""
    m, exposure, score = terms.scores.shape[1], np.zeros(len(terms.least)), 0.0
    for user, slate in enumerate(slates):
        for place, item in enumerate(slate):
            if item >= 0:
                weight = terms.weights[place]
                score += weight * terms.scores[user, item]
                exposure[item] += weight
                for g in range(len(terms.first) - 1):
                    inside = item in terms.item[terms.first[g] : terms.first[g + 1]]
                    if inside and (not len(terms.active) or terms.active[user, g]):
                        exposure[m + g] += weight
    return exposure, score


def slope(e, row, terms, penalty):
    """H' of a row at an exposure."""
    low, high, price = penalty.low[row], penalty.high[row], penalty.price[row]
    if penalty.rho == np.inf:
        return low * (e < terms.least[row]) - high * (e > terms.most[row])
    up = np.clip(max(-price, 0) - penalty.rho * (e - terms.least[row]), 0, low) if low else 0.0
    down = np.clip(max(price, 0) + penalty.rho * (e - terms.most[row]), 0, high) if high else 0.0
    return up - down


@pytest.mark.parametrize("rho", [0.7, 3.0, np.inf])
def test_what_exposures_gain_is_the_integral_of_their_prices(rho):
    """H(E + a) − H(E) against quadrature, with floors, caps, both and none."""
    draw = np.random.default_rng(1)
    terms = terms_of(draw, 6, 5, 2, 2, active=False)
    for low, high in itertools.product((0.0, 0.8), (0.0, 1.3)):
        most = terms.least + 0.5
        penalty = Penalty(0.5 * draw.normal(size=7), np.full(7, low), np.full(7, high), rho)
        penalty = penalty._replace(price=np.clip(penalty.price, -low, high))
        here = terms._replace(most=most)
        for row, amount in itertools.product(range(7), (-0.9, 0.4, 2.0)):
            exposure = here.least[row] + 0.3 * draw.normal()
            kinks = [here.least[row], most[row]]
            points = [p for base in kinks for p in (base, base - 2 / rho, base + 2 / rho)]
            want, _ = quad(
                slope, exposure, exposure + amount, args=(row, here, penalty), points=points, limit=200
            )
            row_of = penalty.price[row], here.least[row], most[row], low, high, rho
            assert gain(exposure, amount, *row_of) == pytest.approx(want, abs=1e-6)


def worth(terms, penalty, slates):
    """Σ w·s + H(E), H by its gains from nothing."""
    exposure, score = counted(terms, slates)
    parts = zip(exposure, penalty.price, terms.least, terms.most, penalty.low, penalty.high, strict=True)
    return score + sum(gain(0.0, e, p, a, b, low, high, penalty.rho) for e, p, a, b, low, high in parts)


def moves(terms, slates, lists):
    """All slates that one move away: an exchange, another item, an item more, the last item less."""
    for user, slate in enumerate(slates):
        size, capacity = int((slate >= 0).sum()), int(terms.capacity[user])
        for one, other in itertools.combinations(range(size), 2):
            yield user, [(one, slate[other]), (other, slate[one])]
        for place in range(min(size + 1, capacity)):
            for item in lists[user]:
                if item >= 0 and item not in slate and terms.scores[user, item] > -np.inf:
                    yield user, [(place, item)]
        if size:
            yield user, [(size - 1, -1)]


@pytest.mark.parametrize("seed", range(12))
def test_passes_end_where_no_move_gains(seed):
    """Every pass raises Σ w·s + H(E), exposures are those of the slates, and at the end no single move raises it."""
    draw = np.random.default_rng(seed)
    n, m, k, groups = 5, 6, 3, seed % 4
    terms = terms_of(draw, n, m, k, groups, active=seed % 2 > 0)
    low = np.where(terms.least > 0, terms.cost, 0.0)
    high = np.where(terms.most < np.inf, 0.8, 0.0)
    price = np.clip(0.3 * draw.normal(size=m + groups), -low, high)
    penalty = Penalty(price, low, high, (2.0, np.inf)[seed % 3 == 0])
    slates = np.full((n, k), -1)
    for user in range(n):
        allowed = draw.permutation(np.flatnonzero(terms.scores[user] > -np.inf))[: terms.capacity[user]]
        slates[user, : len(allowed)] = allowed
    lists = np.array([draw.permutation(m) for _ in range(n)])
    exposure, before = np.zeros(m + groups), worth(terms, penalty, slates)
    for _ in range(50):
        made = improve(terms, penalty, slates, lists[:, :4], np.unique(lists[:, 4:]), exposure, 1e-9)
        after = worth(terms, penalty, slates)
        assert exposure == pytest.approx(counted(terms, slates)[0], abs=1e-9)
        assert (after > before) if made else (after == pytest.approx(before))
        before = after
        if not made:
            break
    assert made == 0
    for user, changes in moves(terms, slates, lists):
        other = slates.copy()
        for place, item in changes:
            other[user, place] = item
        assert worth(terms, penalty, other) <= before + 1e-8


def dealt_by_hand(terms, price, rho, keep):
    """Users are served at the prices, then each again while prices follow what all others have got."""
    rows, (n, m) = range(len(price)), terms.scores.shape
    lists, value = [[] for _ in range(n)], np.empty(m)

    def now(without, weight):
        slates = [[] if user == without else one[: terms.capacity[user]] for user, one in enumerate(lists)]
        exposure, _ = counted(terms, slates)
        moved = np.empty(len(price))
        for row in rows:
            below, above = min(price[row], 0.0), max(price[row], 0.0)
            if terms.least[row] > 0:
                below = np.clip(below + weight * (exposure[row] - terms.least[row]), -terms.cost[row], 0.0)
            if terms.most[row] < np.inf:
                above = max(above + weight * (exposure[row] - terms.most[row]), 0.0)
            moved[row] = below + above
        return moved

    for turn in range(2):
        for user in range(n):
            values_of_row(terms, now(user, rho) if turn else price, user, value)
            lists[user] = [int(item) for item in np.argsort(-value)[:keep] if value[item] > -np.inf]
    return [one + [-1] * (keep - len(one)) for one in lists]


@pytest.mark.parametrize("seed", range(8))
def test_users_are_dealt_slates_while_prices_follow(seed):
    """What each user is given in the second turn is what a search by hand finds at the prices that it then sees."""
    draw, keep = np.random.default_rng(seed), 4
    terms = terms_of(draw, 6, 6, 3, groups=2 * (seed % 2), active=seed % 4 == 1)
    price = np.where(terms.least > 0, -0.5 * terms.cost * draw.random(len(terms.least)), 0.0)
    price += np.where(terms.most < np.inf, 0.3 * draw.random(len(price)), 0.0)
    found = dealt(terms, price, np.arange(6).astype(np.uint64), 0.4, keep)
    assert found.tolist() == dealt_by_hand(terms, price, 0.4, keep)


def test_what_rounding_leaves_is_within_a_bound():
    """Where positions count unlike, nothing is beyond a bound that is not so by a share of it, or of 1 at least."""
    over = np.array([0.5, -0.5, 9e-10, 1.1e-9, 9e-9, 1.1e-8])
    bound = np.array([0.1, 0.1, 0.5, 0.5, 10.0, 10.0])
    problem = Problem.of(np.ones((5, 6)), 2, 0.3, position_weights=[1.0, 0.5], where="here")
    assert _beyond(problem, over, bound).tolist() == [0.5, 0.0, 0.0, 1.1e-9, 0.0, 1.1e-8]
    whole = Problem.of(np.ones((5, 6)), 2, 1, where="here")
    assert _beyond(whole, np.array([2, -2]), np.array([0, 9])).tolist() == [2, 0]


def test_items_that_nobody_may_have_leave_from_the_end():
    """Where each exposure costs more than it is worth and there are no other items, slates are emptied."""
    terms = terms_of(np.random.default_rng(0), 4, 3, 3, 0, active=False)
    terms = terms._replace(scores=np.full((4, 3), 0.5), least=np.zeros(3), most=np.zeros(3))
    penalty = Penalty(np.zeros(3), np.zeros(3), np.full(3, 9.0), np.inf)
    slates = np.where(np.arange(3) < terms.capacity[:, None], np.array([[2, 0, 1]]), -1)
    assert (slates >= 0).all(1).any()
    made = improve(terms, penalty, slates, np.full((4, 1), -1), np.zeros(0, np.int64), np.zeros(3), 1e-9)
    assert made == terms.capacity.sum()
    assert (slates == -1).all()


@pytest.mark.parametrize("groups", range(5))
def test_values_of_a_row_are_scores_less_all_prices(groups):
    """Prices of the item and of all its active groups are taken off; what is below 0 is not for show."""
    draw = np.random.default_rng(groups)
    for active in (False, True):
        terms = terms_of(draw, 4, 6, 2, groups, active=active)
        price = 0.5 * draw.normal(size=6 + groups) * (draw.random(6 + groups) < 0.8)
        for user in range(4):
            value = np.empty(6)
            values_of_row(terms, price, user, value)
            for item in range(6):
                left = terms.scores[user, item] - price[item]
                for g in range(groups):
                    if item in terms.item[terms.first[g] : terms.first[g + 1]]:
                        left -= price[6 + g] * (not active or terms.active[user, g])
                assert value[item] == pytest.approx(left if left >= 0 else -np.inf)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_pools_are_those_of_a_non_increasing_fit(size):
    """Means of SciPy's isotonic regression of values less weights, with ties, and how many places each has."""
    for seed in range(30):
        draw = np.random.default_rng(seed)
        value = np.sort(draw.integers(0, 5, size) if seed % 2 else 3 * draw.random(size))[::-1].astype(float)
        weights = np.sort(2 * draw.random(size))[::-1].copy()
        mean, count = np.empty(size), np.empty(size, np.int64)
        pools = _pool(value, weights, mean, count)
        fit = optimize.isotonic_regression(value - weights, increasing=False).x
        assert np.repeat(mean[:pools], count[:pools]) == pytest.approx(fit)


def most_smoothed(a, weights, tau):
    """The largest of a·z − τ/2·|z|² over z ≥ 0 with z(A) ≤ w_1 + … + w_|A| for every set A, and where it is."""
    m = len(a)
    sets = np.array(list(itertools.product((0.0, 1.0), repeat=m))[1:])
    bound = np.concatenate([np.cumsum(weights), np.full(m, np.sum(weights))])[sets.sum(1).astype(int) - 1]
    found = optimize.minimize(
        lambda z: tau / 2 * z @ z - a @ z,
        np.zeros(m),
        jac=lambda z: tau * z - a,
        bounds=[(0, None)] * m,
        constraints={"type": "ineq", "fun": lambda z: bound - sets @ z, "jac": lambda _: -sets},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 300},
    )
    return -found.fun, found.x


@pytest.mark.parametrize("tau", [0.02, 0.3, 2.0])
@pytest.mark.parametrize(("groups", "active"), [(0, False), (2, True), (2, False)])
def test_the_smoothed_dual_is_the_maximum_over_its_polymatroid(tau, groups, active):
    """For each user by a general solver: both sums, what the last position is worth, and exposures of all rows."""
    draw = np.random.default_rng(int(100 * tau) + groups)
    terms = terms_of(draw, 5, 5, 4, groups, active)
    terms.capacity[:] = [4, 3, 1, 0, 2]
    price = 0.3 * draw.normal(size=5 + groups)
    value, expected, top, smooth, last = np.empty(5), np.zeros(5 + groups), 0.0, 0.0, []
    for user, k in enumerate(terms.capacity):
        values_of_row(terms, price, user, value)
        a, weights = np.sort(np.maximum(value, 0.0))[::-1], terms.weights[:k]
        top += weights @ a[:k]
        last.append(weights[-1] * a[k - 1] if k else 0.0)
        part, z = most_smoothed(np.maximum(value, 0.0), weights, tau) if k else (0.0, np.zeros(5))
        smooth += part
        expected[:5] += z
        for g in range(groups):
            counts = not active or terms.active[user, g]
            expected[5 + g] += counts * z[terms.item[terms.first[g] : terms.first[g + 1]]].sum()
    found = smoothed(terms, price, tau, np.full(5, -np.inf))
    assert found.top == pytest.approx(top)
    assert found.smooth == pytest.approx(smooth, abs=1e-6)
    assert found.marginal == pytest.approx(last)
    assert found.exposure == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("groups", [0, 1, 3])
@pytest.mark.parametrize("active", [False, True])
def test_a_problem_with_rows_is_told_to_the_kernels(groups, active):
    """Each item's groups are those that hold it; what may not be shown scores −∞; a cap of all users is none."""
    expected = terms_of(np.random.default_rng(groups), 6, 5, 2, groups, active)
    least, most = np.minimum(expected.least, 3.0), np.maximum(np.minimum(expected.most, 6.0), 3.0)
    most[0] = np.inf
    counts = expected.active if active else None
    rows = Rows(expected.first, expected.item, least[5:], most[5:], expected.cost[5:], counts)
    problem = Problem.of(
        np.where(np.isfinite(expected.scores), expected.scores, 0.0),
        expected.capacity,
        least[:5],
        np.minimum(most[:5], 9.0),
        admissible=np.isfinite(expected.scores),
        cost=expected.cost[:5],
        position_weights=expected.weights,
        rows=rows,
        where="here",
    )
    found = weighted.terms_of(problem)
    for name in ("capacity", "weights", "first", "item", "of_first", "of", "active"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name
    assert found.scores == pytest.approx(expected.scores)
    assert found.least == pytest.approx(least)
    items = np.where(most[:5] < 6 * expected.weights[0], most[:5], np.inf)
    assert found.most == pytest.approx(np.concatenate([items, most[5:]]))
    assert found.cost == pytest.approx(np.where(least > 0, expected.cost, 0.0))


@pytest.mark.parametrize("k", [1, 3, 4, 6])
@pytest.mark.parametrize("offset", [0.0, -5.0])
def test_searches_begin_with_what_a_position_is_worth(k, offset):
    """By sorts: the mean size of k best scores, the range of all and 0, and what best slates are worth."""
    draw = np.random.default_rng(k)
    terms = terms_of(draw, 9, 4, k, 0, active=False)
    terms.scores[:] += offset
    best = [sorted((s for s in row if s > -np.inf), reverse=True)[:k] for row in terms.scores]
    finite = terms.scores[np.isfinite(terms.scores)]
    spread = max(finite.max(), 0.0) - min(finite.min(), 0.0)
    assert _scale(terms) == pytest.approx((np.abs(np.concatenate(best)).mean(), spread))
    nothing = terms._replace(scores=np.full((9, 4), -np.inf))
    assert _scale(nothing) == (1.0, 1.0)
    assert _scale(terms._replace(scores=np.zeros((0, 4)))) == (1.0, 1.0)
    pairs, state = auction(terms.scores, np.minimum(terms.capacity, 4), np.zeros(4))
    width = max(terms.capacity.clip(0, 4).max(), 1)
    top = np.sort(np.maximum(terms.scores, 0.0), axis=1)[:, ::-1][:, :width]
    assert sampled_worth(pairs, state) == pytest.approx(top.mean() * state.capacity.sum())


# -- the auction ----------------------------------------------------------------------------------------------------


def auction(scores, capacity, bonus):
    """Pairs of a whole matrix, and a state in which nobody holds anything."""
    pairs = dense_pairs(scores, scores > -np.inf)
    m = scores.shape[1]
    floor, cap = np.ones(m, np.int64), np.full(m, len(scores))
    return pairs, fresh_state(pairs, capacity, floor, cap, np.full(m, 9.0), bonus)


@pytest.mark.parametrize("seed", range(6))
def test_the_dual_of_bonuses_is_what_its_formula_says(seed):
    """D(w) = Σ top sums of (s + w)₊ − Σ w₊·floor + Σ (−w)₊·cap by sorts, and the prices of users' last positions."""
    draw = np.random.default_rng(seed)
    scores, capacity = draw.normal(size=(7, 5)), draw.integers(0, 7, 7)
    scores[draw.random((7, 5)) < 0.2] = -np.inf
    pairs, state = auction(scores, np.minimum(capacity, 5), np.zeros(5))
    state.floor[:], state.cap[:] = [0, 1, 2, 3, 1], [2, 1, 7, 3, 4]
    w, prices = np.array([0.5, -0.4, 0.0, 1.2, -0.1]), np.full(7, 9.0)
    found = dual_value(pairs, state, w, prices)
    best = np.sort(np.maximum(scores + w, 0.0), axis=1)[:, ::-1]
    top = sum(best[user, : min(capacity[user], 5)].sum() for user in range(7))
    assert found == pytest.approx(top - np.maximum(w, 0) @ state.floor + np.maximum(-w, 0) @ state.cap)
    last = [best[user, min(capacity[user], 5) - 1] if capacity[user] else 0.0 for user in range(7)]
    assert prices.tolist() == pytest.approx(last)


@pytest.mark.parametrize("n", [16, 17, 60])
def test_many_users_are_guessed_from_a_few_runs_of_them(n, monkeypatch):
    """Floors and caps of the sample are scaled down and rounded up; up to twice as many users guess nothing."""
    monkeypatch.setattr(large, "_SAMPLE", 8)
    monkeypatch.setattr(large, "_BLOCKS", 2)
    seen = []
    monkeypatch.setattr(large, "run_phases", lambda *given: seen.append(given) or End(*np.full((6, 5), 7.0)))
    draw = np.random.default_rng(n)
    scores, capacity = draw.random((n, 5)).astype(np.float32), draw.integers(0, 4, n)
    floor, cap = np.array([0, 1, n // 3, 2, 0]), np.array([n, 2, n // 2, n, 0])
    problem = Problem.of(Blocks(scores), capacity, floor, cap, where="here")
    found = large._guess(problem.chunks, problem, np.full(5, 9.0))
    if n <= 16:
        assert not seen
        assert found.tolist() == [0.0] * 5
        return
    ((pairs, state, *_),) = seen
    users = np.concatenate([np.arange(4), np.arange(n - 4, n)])
    assert found.tolist() == [7.0] * 5
    assert pairs.uval.reshape(8, 5) == pytest.approx(scores[users])
    assert state.capacity.tolist() == capacity[users].tolist()
    assert state.floor.tolist() == np.ceil(floor * 8 / n).tolist()
    assert state.cap.tolist() == np.maximum(np.ceil(problem.cap * 8 / n), state.floor).tolist()


@pytest.mark.parametrize("held", [[], [0], [5, 0], [19, 3]])
@pytest.mark.parametrize("m", [20, 6])
def test_a_search_files_the_best_pairs_that_are_not_held(held, m):
    """Those of largest s + w above 0, sixteen at most, the first pair of all included; the cut is the least of them."""
    draw, held = np.random.default_rng(m), [item for item in held if item < m]
    scores = draw.random((3, m)) - 0.1
    pairs, state = auction(scores, np.full(3, 2), 0.2 * draw.random(m) - 0.1)
    nobody = np.full(3, 9.0)
    file = File(np.full((3, _SPARES), -7), nobody.copy(), nobody.copy(), np.zeros(m + 1, np.int64))
    state.slot[0, : len(held)] = held
    state.slot[2, : len(held)] = [2 * m + item for item in held]
    for user in range(3):
        _look_up(pairs, state, file, user)
        value = scores[user] + state.w
        own = held if user != 1 else []
        free = [item for item in np.argsort(-value) if value[item] > 0 and item not in own]
        wanted = [user * m + int(item) for item in free[:_SPARES]]
        found = file.spare[user]
        assert sorted(found[found >= 0]) == sorted(wanted)
        full = len(free) >= _SPARES
        assert file.cut[user] == pytest.approx(value[free[_SPARES - 1]] if full else 0.0)


def test_steps_of_the_auction_are_those_of_their_formulas():
    """What bonuses overpay, where ε begins, and bonuses that are lowered, none across 0."""
    pairs, state = auction(np.array([[1.0, 3.0], [2.0, -np.inf]]), np.array([1, 1]), np.array([0.5, -2.0]))
    state.exposure[:] = [3, 4]
    assert _overspent(state) == 0.5 * 2
    state.exposure[:] = [0, 0]
    assert _overspent(state) == 0.0
    assert _first_epsilon(pairs, np.array([2.0, np.inf, 4.0])) == 3.0
    for theta in ([0.0, 0.0], [np.inf], [-1.0]):
        assert _first_epsilon(pairs, np.array(theta)) == pytest.approx((3.0 - 1.0) / 10)
    bonus = np.array([0.5, 0.1, 0.0, -0.3])
    _lower(bonus, 0.2)
    assert bonus.tolist() == pytest.approx([0.3, 0.0, 0.0, -0.5])


# -- what is asked for, and refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "floor", "cap", "whole"),
    [
        ([1.0, 1.0], [2.0, 3.0], None, True),
        ([0.5, 0.5], [1.0, 1.5], [2.0, np.float64(4.5)], True),
        ([0.5, 0.5], [1.0, 1.25], None, False),
        ([0.5, 0.5], [1.0, 1.5], [2.0, 4.4], False),
        ([1.0, 0.9], [2.0, 3.0], None, False),
        ([0.1, 0.1], [0.1 * 3, 0.7], None, True),
    ],
)
def test_positions_that_count_alike_are_counted_in_whole(weights, floor, cap, whole):
    """Bounds are whole numbers of positions, up to rounding, where all positions count alike; else they are not."""
    cap = None if cap is None else np.array(cap)
    assert _in_units(np.array(weights), np.array(floor), cap) == whole


@pytest.mark.parametrize("weight", [1.0, 0.5, 3.0])
def test_bounds_in_positions_that_count_alike_are_bounds_in_whole_ones(weight):
    """Floors and caps are divided by what a position counts, and the problem has no weights."""
    bounds = np.array([1, 0, 2, 3]) * weight, np.array([2, 3, 2, 9]) * weight
    found = Problem.of(np.ones((5, 4)), 2, *bounds, position_weights=np.full(2, weight), where="here")
    assert (found.unit, found.weights) == (weight, None)
    assert found.floor.tolist() == [1, 0, 2, 3]
    assert found.cap.tolist() == [2, 3, 2, 5]  # no item has more positions than there are users


def test_prices_to_start_from_are_of_items_or_of_items_and_rows():
    """None, one price an item, or one a row besides; another shape, or what is no finite number, is refused."""
    rows = Rows(np.array([0, 2, 3]), np.array([0, 1, 2]), *np.array([[1.0, 0.0], [9.0, 9.0], [1.0, 1.0]]))
    problem = Problem.of(np.ones((5, 4)), 2, 1, rows=rows, where="here")
    assert _given(None, problem) is None
    for size in (4, 6):
        assert _given(np.arange(size), problem).tolist() == list(range(size))
    for wrong in (np.zeros(5), np.zeros(16), np.zeros((4, 1)), np.full(4, np.nan), np.full(6, np.inf)):
        with pytest.raises(ConfigError, match=r"here: prices have shape .*; allowed: \(4,\) finite numbers"):
            _given(wrong, problem)


def test_bonuses_to_start_from_are_within_what_bounds_allow():
    """An item with a floor may have a bonus of c at most, one with a cap below all users a price of any height."""
    problem = Problem.of(np.ones((5, 4)), 2, [1, 1, 0, 0], [9, 4, 4, 9], cost=0.5, where="here")
    for prices, bonus in (
        (-9.0, [0.5, 0.5, 0.0, 0.0]),
        (3.0, [0.0, -3.0, -3.0, 0.0]),
        (-0.2, [0.2, 0.2, 0.0, 0.0]),
    ):
        assert _start(np.full(4, prices), problem).tolist() == bonus
    assert _start(None, problem) is None
    for wrong in (np.zeros(5), np.full(4, np.nan)):
        with pytest.raises(ConfigError, match="prices have shape"):
            _start(wrong, problem)


def test_ten_items_are_named():
    """More than ten are cut off, and said to be."""
    assert names_of(np.arange(3)) == "0, 1, 2"
    assert names_of(np.arange(10)).endswith("8, 9")
    assert names_of(np.arange(11)).endswith("8, 9, …")


def test_the_first_item_that_may_not_be_shown_is_named():
    """Of several, the certificate names the first row, and the first item of it."""
    admissible = np.array([[True, True, True], [True, False, False], [False, True, True]])
    with pytest.raises(AgentError, match="row 1 shows item 2, which is not admissible"):
        certificate(
            np.ones((3, 3)), np.array([[0, 1], [2, 1], [0, 1]]), 2, 0, np.zeros(3), 1.0, admissible=admissible
        )
