"""Scores in blocks and of pairs, looks at them, the smoothed dual and moves of slates, against searches by hand."""

import itertools

import numpy as np
import pytest
from kit import calls_of, cases, refused
from scipy import optimize
from scipy.sparse import csr_array

from rimsim.errors import ConfigError, InfeasibleError, ModelError
from rimsim.matching import FactorScores, Rows, certificate, columns, solve_dual
from rimsim.matching.descent import WeightedProblem, at_prices
from rimsim.matching.problem import SparseScores
from rimsim.matching.slates import Penalty, _dealt, _improve


class Blocks:
    """A matrix behind the protocol of a scorer, which counts its rows as they are asked for."""

    def __init__(self, matrix):
        self.matrix = matrix
        self.shape = matrix.shape
        self.n_rows_read = 0

    def rows(self, start, stop):
        """Some rows."""
        self.n_rows_read += stop - start
        return self.matrix[start:stop]


@pytest.mark.parametrize("cells", [1, 40, 10_000])
@cases("per_user per_item", (1, 1), (3, 4), (3, 0), (7, 9), (50, 50))
def test_a_look_finds_the_best_pairs_of_users_and_of_items(per_user, per_item, cells, monkeypatch):
    """Top sums, users' prices and the pairs are those of full sorts, whatever the blocks."""
    monkeypatch.setattr(columns, "_CELLS", cells)
    draw = np.random.default_rng(per_user)
    scores = draw.normal(size=(9, 7)).astype(np.float32)
    scores[draw.random((9, 7)) < 0.2] = -np.inf
    w = draw.normal(size=7)
    capacity = np.minimum(draw.integers(0, 4, 9), per_user)
    scores[np.argmax(capacity), 1:] = -np.inf  # one user may be shown fewer items than fit
    look = columns.look_at(Blocks(scores), w, capacity, per_user, per_item)
    value = scores + w
    keys = set()
    prices = []
    top = 0.0
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
    assert look.top == pytest.approx(top)
    assert look.user_price.tolist() == pytest.approx(prices)
    assert look.keys.tolist() == sorted(keys)
    assert look.values == pytest.approx(scores.reshape(-1)[look.keys], rel=1e-6)


@pytest.mark.parametrize("cost", [1e-3, None])
@pytest.mark.parametrize("floor", [0, 1, 5])
def test_looks_end_when_the_gap_is_small_enough(cost, floor):
    """Floors that cost little, or hard ones that are met, are certified after two looks, of nobody's best item too."""
    scores = Blocks(np.random.default_rng(0).random((60, 12)).astype(np.float32))
    assert solve_dual(scores, 3, 1, cost=cost, tol=0.05).gap <= 0.05
    assert scores.n_rows_read == (1 + 2) * 60  # once for the largest score
    matrix = np.random.default_rng(1).random((60, 40)).astype(np.float32)
    matrix[:, 7] *= 0.01
    scores = Blocks(matrix)
    solution = solve_dual(scores, [3] * 59 + [1], floor * (np.arange(40) == 7), tol=0.05)
    assert solution.exposure[7] == floor
    assert scores.n_rows_read == (1 + 2) * 60


@pytest.mark.parametrize("looks", [2, 3])
def test_the_last_look_ends_the_search(looks, monkeypatch):
    """Where the gap stays too large, there are as many looks as are allowed."""
    monkeypatch.setattr(columns, "_LOOKS", looks)
    scores = Blocks(np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32) / 3)
    solution = solve_dual(scores, 3, 15, cost=2.0, tol=1e-300)
    assert scores.n_rows_read == (1 + looks) * 60
    assert solution.gap > 0


@cases("users is_sampled", (256, False), (600, True))
def test_many_users_are_guessed_from_a_few_of_them(users, is_sampled, monkeypatch):
    """The first look is at bonuses of a sample, with floors and caps scaled down: near those of all users."""
    looks = calls_of(monkeypatch, columns, "look_at")
    monkeypatch.setattr(columns, "_SAMPLE", 128)
    draw = np.random.default_rng(4)
    matrix = (draw.gamma(1.0, 1.0, (users, 12)) * np.geomspace(0.1, 3, 12)).astype(np.float32)
    bounds = users // 5, np.linspace(users // 4, users, 12).astype(int)
    scores = Blocks(matrix)
    assert solve_dual(scores, 3, *bounds, cost=4.0, tol=0.01).gap <= 0.01
    assert scores.n_rows_read == 256 + 128 * is_sampled + len(looks) * users
    expected = -solve_dual(matrix, 3, *bounds, cost=4.0, tol=1e-4).item_price
    assert np.ptp(expected) > 1.0
    assert looks[0]["w"] == pytest.approx(expected if is_sampled else np.zeros(12), abs=1.2 * is_sampled)


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


def test_users_are_dealt_slates_while_prices_follow():
    """Where prices follow what all others have got, less exposure is missing or too much than where they stay."""
    beyond = np.zeros((8, 2))
    for seed in range(8):
        terms = terms_of(np.random.default_rng(seed), 30, 6, 3, groups=2 * (seed % 2), active=seed % 4 == 1)
        price = np.where(terms.min_exposure > 0, -0.5 * terms.cost, 0.0)
        for column, rho in enumerate((0.0, 0.1)):
            dealt = _dealt(terms, price, np.arange(30).astype(np.uint64), rho, 4)
            exposure, _ = counted(terms, [slate[:k] for slate, k in zip(dealt, terms.capacity, strict=True)])
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


@cases("floor cap largest smallest", (2.75, 9.0, 9.0, 3.0), (1.0, 4.4, 4.0, 1.0), (1.25, 1.25, 1.0, 1.0))
def test_bounds_between_whole_positions_are_kept(floor, cap, largest, smallest):
    """Where all positions count one half, exposures are multiples of it within floors and caps, soft or hard."""
    cost = None if smallest >= floor else 1.0
    solution = solve_dual(np.ones((40, 8)), 2, floor, cap, cost=cost, position_weights=[0.5, 0.5])
    assert solution.exposure.max() <= largest
    assert solution.exposure.min() >= smallest


@pytest.mark.parametrize("size", [5, 16, (4, 1)])
def test_prices_to_start_from_are_of_items_or_of_items_and_rows(size):
    """One price an item, or one a row besides; another shape, or what is no finite number, is refused."""
    rows = Rows(np.array([0, 2, 3]), np.array([0, 1, 2]), *np.array([[1.0, 0.0], [9.0, 9.0], [1.0, 1.0]]))
    for good in (4, 6):
        solve_dual(np.ones((5, 4)), 2, 1, rows=rows, prices=np.zeros(good))
    for wrong in (np.zeros(size), np.full(4, np.nan), np.full(6, np.inf)):
        message = r"^solve_dual: prices have shape .*. Expected \(4,\) finite numbers"
        refused(ConfigError, message, solve_dual, np.ones((5, 4)), 2, 1, rows=rows, prices=wrong)


@cases("items named", (3, r"\(0, 1, 2\)"), (10, r"8, 9\)"), (11, r"8, 9, …\)"))
def test_what_cannot_be_asked_for_is_refused_or_not_shown(items, named):
    """Ten items are named and more said to be; a misspelt keyword is refused; caps of 0 leave slates empty."""
    refused(InfeasibleError, named, solve_dual, np.ones((2, items)), 1, 1)
    for call in (
        solve_dual,
        lambda *arguments, **options: certificate(arguments[0], [[0]], 1, 0, 0.0, None, **options),
    ):
        message = "unexpected keyword argument 'position_weight'"
        refused(TypeError, message, call, np.ones((1, 2)), 1, position_weight=[1.0])
    solution = solve_dual(np.full((4, 3), 0.5), 3, 0, 0, position_weights=[1.0, 0.8, 0.5])
    assert (solution.slates == -1).all()
    assert (solution.primal, solution.dual) == (0.0, pytest.approx(0.0, abs=1e-9))


@cases("weight bound", (1.0, 0.5), (10.0, 5.0))
def test_exposures_that_rounding_takes_from_a_bound_reach_it(weight, bound):
    """Less than a share of 10⁻⁹ of a bound, or of 1 where it is smaller, is no shortfall and no excess."""
    weights = [weight, weight / 2]
    slack = 1e-9 * max(bound, 1.0)
    for difference, is_met in ((0.9 * slack, True), (1.1 * slack, False)):
        floor = [0.0, bound + difference, 0.0]
        cap = [weight, bound - difference, weight]
        arguments = (np.ones((1, 3)), [[0, 1]], 2)
        options = {"position_weights": weights}
        proofs = [
            certificate(*arguments, lower, 0.0, None, max_exposure=upper, **options)
            for lower, upper in ((floor, None), (0.0, cap))
        ]
        assert [proof.value > -np.inf for proof in proofs] == [is_met, is_met]
        assert (proofs[0].shortfall == 0, proofs[1].excess == 0) == (is_met, is_met)


def factors(seed=0, n=700, m=90, link="exp"):
    """Scores of rank 6 with skewed popularity."""
    draw = np.random.default_rng(seed)
    users = draw.standard_normal((n, 6)) * 0.6
    items = draw.standard_normal((m, 6)) * 0.6
    users[:, 0] = 1.0
    items[:, 0] = draw.standard_normal(m)
    return FactorScores(users.astype(np.float32), items.astype(np.float32), link)


def test_factors_give_the_optimum_of_their_matrix():
    """Few pairs, fed by looks at all scores, reach the value that the whole matrix gives."""
    scores = factors()
    matrix = scores.rows(0, 700)
    floor = np.random.default_rng(1).integers(0, 30, 90)
    chunked = solve_dual(scores, 5, floor, tol=1e-5)
    of_matrix = solve_dual(matrix, 5, floor, tol=1e-7)
    assert chunked.gap <= 1e-5
    assert of_matrix.primal * (1 - 1e-5) <= chunked.primal <= of_matrix.dual * (1 + 1e-6)
    proof = certificate(matrix, chunked.slates, 5, floor, chunked.item_price, None)
    assert proof.items_met == proof.items_required
    assert proof.bound == pytest.approx(chunked.dual, rel=1e-6)


def test_floors_that_cannot_be_met_in_chunks():
    """The closed form refuses at once; a mask that only the scorer knows, after looking; no pair, by its item."""
    refused(InfeasibleError, "allow [0-9]+ fewer", solve_dual, factors(), 1, 700)
    blocked = np.ones((20, 4), np.float32)
    blocked[:, 0] = -np.inf
    blocked[:2, 0] = 1.0
    with pytest.raises(InfeasibleError, match="below their floors") as caught:
        solve_dual(Blocks(blocked), 2, [3, 0, 0, 0])
    assert (caught.value.items, caught.value.shortfall) == ((0,), 1)
    scores, mask, _ = _pairs(0)
    mask[:, 3] = False
    pairs = csr_array((scores[mask], np.nonzero(mask)), shape=mask.shape)
    with pytest.raises(InfeasibleError) as caught:
        solve_dual(pairs, 3, (np.arange(25) == 3).astype(int))
    assert caught.value.items == (3,)


def test_bad_factors_and_scores():
    """Factors that do not fit and a score that is no number are named; a scorer hides pairs by −∞, not by a mask."""
    mask = np.ones((4, 3), bool)
    refused(ConfigError, r"rows\(\) return", solve_dual, Blocks(np.ones((4, 3))), 1, 1, admissible=mask)
    refused(ConfigError, r"users have shape \(2, 3\)", FactorScores, np.ones((2, 3)), np.ones((2, 2)))
    refused(ConfigError, "an infinite number or NaN", FactorScores, np.full((2, 2), np.inf), np.ones((2, 2)))
    refused(ConfigError, "link is 'log'", FactorScores, np.ones((2, 2)), np.ones((2, 2)), "log")
    refused(ModelError, "not a number", solve_dual, Blocks(np.full((4, 3), np.nan, np.float32)), 1, 1)
    bad = csr_array((np.array([1.0, np.nan]), ([0, 2], [1, 4])), shape=(3, 5))
    refused(ConfigError, "user 2 and item 4", solve_dual, bad, 1)


def _ways(matrix):
    """The same scores as a matrix, in blocks and as pairs."""
    return matrix, Blocks(matrix), csr_array(matrix)


def test_a_cost_far_above_all_scores_is_charged_whole():
    """What a missing exposure costs is never replaced by less: value, bound and gap are those of the matrix."""
    matrix = np.array([[1.0, 0.5], [1.0, 0.5]], np.float32)
    for scores in _ways(matrix):
        solution = solve_dual(scores, 1, [3, 0], cost=1000.0)
        assert solution.primal == pytest.approx(2.0 - 1000.0)
        assert solution.shortfall == 1
        assert solution.dual >= solution.primal - 1e-9


@pytest.mark.parametrize("cost", [None, 2.0])
def test_floors_are_met_whatever_users_are_looked_at_first(cost):
    """Users with tiny scores come first: bonuses are measured against the scores of all."""
    matrix = np.random.default_rng(0).random((600, 6)).astype(np.float32)
    matrix[:256] *= 1e-4
    floor = np.array([560, 0, 0, 0, 0, 0])
    of_matrix = solve_dual(matrix, 1, floor, cost=cost)
    for scores in (*_ways(matrix), Blocks(matrix[::-1].copy())):
        solution = solve_dual(scores, 1, floor, cost=cost)
        assert solution.shortfall == 0
        assert solution.primal == pytest.approx(of_matrix.primal, rel=1e-3)


def _pairs(seed, n=60, m=25, share=0.3):
    draw = np.random.default_rng(seed)
    mask = draw.random((n, m)) < share
    mask[0] = False
    scores = draw.random((n, m)).astype(np.float32) * mask
    scores[1, np.flatnonzero(mask[1])[:1]] = 0.0  # a pair of value 0 is a pair
    row, item = np.nonzero(mask)
    return scores, mask, csr_array((scores[row, item], (row, item)), shape=(n, m))


@pytest.mark.parametrize("seed", range(6))
def test_a_list_of_pairs_is_a_matrix_with_a_mask(seed):
    """Value, bound and certificate are those of the masked matrix within the tolerance; caps hold exactly."""
    scores, mask, pairs = _pairs(seed)
    stored = SparseScores(pairs, "here")
    dense = np.where(mask, scores, -np.inf)
    assert (stored.rows(0, 60) == dense).all()
    assert (stored.rows(7, 31) == dense[7:31]).all()
    assert stored.keys().tolist() == np.flatnonzero(mask).tolist()
    assert stored.values.tolist() == scores[mask].tolist()
    floor = np.random.default_rng(seed).integers(0, 4, 25)
    cap = floor + np.random.default_rng(seed + 1).integers(2, 6, 25)
    solution = solve_dual(pairs, 3, floor, cap, cost=0.7, tol=1e-4)
    of_matrix = solve_dual(scores, 3, floor, cap, admissible=mask, cost=0.7, tol=1e-4)
    assert solution.gap <= 1e-4
    assert solution.primal == pytest.approx(of_matrix.primal, rel=2e-4)
    assert (solution.exposure <= cap).all()
    shown = solution.slates >= 0
    assert mask[np.nonzero(shown)[0], solution.slates[shown]].all()
    proof = certificate(pairs, solution.slates, 3, floor, solution.item_price, 0.7, max_exposure=cap)
    assert proof.value == pytest.approx(solution.primal, rel=1e-6)
    assert proof.bound == pytest.approx(solution.dual, rel=1e-6)
    assert proof.excess == 0
    restarted = solve_dual(pairs, 3, floor, cap, cost=0.7, tol=1e-4, prices=solution.item_price)
    assert restarted.primal == pytest.approx(solution.primal, rel=2e-4)


@pytest.mark.parametrize("capacity", [0, [0, 2, 1]])
def test_users_without_positions_add_nothing_to_a_bound(capacity):
    """D(w) is Σ_users of the best values for their positions, less the bonuses of all required exposures."""
    scores = np.tile([[0.0, 0.0, 0.0, 2.0]], (3, 1))
    proof = certificate(scores, np.full((3, 2), -1), capacity, 1, -0.5, 1.0)
    assert proof.bound == (0.0 if capacity == 0 else 2.5 + 0.5 + 2.5) - 4 * 0.5
    assert proof.value == -4.0
