"""Counter-based randomness, and compiled pieces of the market against what they stand for, in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from rimsim import rng
from rimsim.market.consumers.contract import uniform_draws
from rimsim.market.consumers.truth_bag import _exponentials, preferences, visit_shares
from rimsim.market.consumers.truth_bag import answer_bag as bag_answers
from rimsim.market.consumers.truth_factors import FactorArrays, answer_slates, pair_shares
from rimsim.market.records import observed_gain
from rimsim.matching import top_k
from rimsim.matching.kernels import best_rows
from rimsim.rng import Purpose, bits, derived_seed, exponential, generator, uniform


def _factors(rank, seed=0, users=20, items=90):
    """A truth of that rank, drawn."""
    draw = np.random.default_rng(seed)
    a, c = 0.3 * draw.normal(size=(users, rank)), 0.3 * draw.normal(size=(items, rank))
    d = draw.normal(size=items)
    return FactorArrays(a, c, d, np.log(np.exp(a @ c.T + d).sum(1)))


@pytest.mark.parametrize("spread", [0.5, 5.0, 60.0])
def test_exponentials_are_those_of_the_library_to_single_precision(spread):
    """Exp of a logit less the largest is NumPy's in double precision, rounded; what may not be consumed weighs 0."""
    draw = np.random.default_rng(0)
    for size in (1, 31, 32, 1_000):
        logit = draw.normal(0.0, spread, size).astype(np.float32)
        logit[draw.random(size) < 0.1] = -np.inf
        logit[0] = 3.0
        weight = logit.copy()
        total = _exponentials(weight, np.empty(size))
        expected = np.exp((logit - logit.max()).astype(np.float64)).astype(np.float32)
        np.testing.assert_array_equal(weight, expected)
        assert total == sum(expected.astype(np.float64).tolist())
    nothing = np.full(5, -np.inf, np.float32)
    assert _exponentials(nothing, np.empty(5)) == 0.0
    assert not nothing.any()


def test_exponentials_next_to_the_middle_of_two_numbers_are_rounded_to_the_right_one():
    """Of a million logits those whose exponential is hardest to round: every power of the sum counts there."""
    logit = np.linspace(-1.04, -0.05, 1_000_000).astype(np.float32)
    exact = np.exp(logit.astype(np.float64))
    rounded = exact.astype(np.float32)
    toward = np.nextafter(rounded, np.where(exact > rounded, np.float32(2.0), np.float32(0.0)))
    middle = (rounded.astype(np.float64) + toward) / 2
    hardest = np.argpartition(np.abs(exact - middle) / exact, 300)[:300]
    weight = np.concatenate([[np.float32(0.0)], logit[hardest]])
    _exponentials(weight, np.empty(301))
    np.testing.assert_array_equal(weight[1:], rounded[hardest])


@pytest.mark.parametrize("rank", [1, 7, 8, 9, 16, 31, 128, 200])
def test_shares_are_the_softmax_of_each_pair(rank):
    """Each pair gets exp(⟨a, c⟩ + d − log Z), whatever else is in the batch."""
    draw = np.random.default_rng(rank)
    factors = _factors(rank)
    users, items = draw.integers(20, size=200), draw.integers(90, size=200)
    share = pair_shares(users, items, factors)
    logit = (factors.user[users] * factors.item[items]).sum(-1) + factors.bias[items]
    np.testing.assert_allclose(share, np.exp(logit - factors.log_normaliser[users]), rtol=1e-12)
    for pair in range(200):
        assert pair_shares(users[pair : pair + 1], items[pair : pair + 1], factors)[0] == share[pair]


class _Round:
    """Five arrivals of three slots, which stand for log users 4, 8 and 15; two of them consumed before."""

    def __init__(self, events=()):
        self.factors = _factors(9)
        place = np.arange(len(events))
        slots = np.array([slot for slot, _ in events], np.int64)
        self.slot, self.user = np.array([0, 1, 2, 0, 1]), np.array([4, 8, 15, 4, 8])
        self.key = rng.bits(3, rng.Purpose.CHOICE, np.arange(5))
        self.first = np.array([min(place[slots == slot], default=-1) for slot in range(3)])
        self.item = np.array([item for _, item in events], np.int64)
        later = [min(place[(slots == slots[n]) & (place > n)], default=-1) for n in place]
        self.next = np.array(later, np.int64)
        self.ground, self.left = np.linspace(2.0, 30.0, 20), np.linspace(0.5, 1.0, 20)

    def answer(self, rows, slates, waiting=0.0):
        """(consumed, probability, intensity), all (n, k)."""
        rows, shape = np.array(rows), slates.shape
        out = np.empty(shape, bool), np.empty(shape), np.empty(shape)
        user, waits = self.user[rows], np.full(len(rows), waiting)
        visits = user, self.key[rows], self.ground[user], self.left[user], waits
        events = self.first[self.slot[rows]], self.item, self.next
        answer_slates(slates, *visits, *events, *self.factors, 0.8 ** np.arange(shape[1]), 1.5, *out)
        return out


def test_answers_are_the_closed_form_of_each_position():
    """Intensities λ*·p*/mass, probabilities 1 − exp(−intensity·γ^(r−1)·a), and what the keyed draws make of them."""
    market, slates = _Round(), np.array([[3, -1, 7, 20], [5, 6, -1, 8]])
    consumed, probability, intensity = market.answer([1, 2], slates, waiting=0.1)
    for n, (row, user) in enumerate([(1, 8), (2, 15)]):
        users = np.full(4, user)
        share = np.where(slates[n] >= 0, pair_shares(users, np.maximum(slates[n], 0), market.factors), 0.0)
        want = share * market.ground[user] / (market.left[user] - 0.1)
        np.testing.assert_allclose(intensity[n], want, rtol=1e-12)
        np.testing.assert_allclose(probability[n], 1 - np.exp(-want * 0.8 ** np.arange(4) * 1.5), rtol=1e-12)
        draw = rng.uniform(3, rng.Purpose.CHOICE, row, np.maximum(slates[n], 0))
        assert (consumed[n] == ((draw < probability[n]) & (slates[n] >= 0))).all()
        there = slates[n] >= 0
        assert (uniform_draws(market.key[[row]], slates[[n]])[0][there] == draw[there]).all()


def test_answers_know_what_was_consumed_and_no_other_answers():
    """For it a slot gives nothing, and more for others as less mass is left; a batch has the bits of single calls."""
    slate, events = np.array([[3, 11, 7]]), [(1, 11), (2, 3), (1, 20)]
    _, probability, intensity = _Round(events).answer([1], slate)
    fresh = _Round()
    _, full, before = fresh.answer([1], slate)
    assert probability[0, 1] == intensity[0, 1] == 0.0 < full[0, 1]
    gone = pair_shares(np.full(2, 8), np.array([11, 20]), fresh.factors).sum()
    left = fresh.left[8]
    np.testing.assert_allclose(intensity[0, [0, 2]], before[0, [0, 2]] * left / (left - gone), rtol=1e-12)
    slates = np.random.default_rng(5).permuted(np.tile(np.arange(90), (5, 1)), axis=1)[:, :7]
    market = _Round([(0, 3), (1, 5), (0, 9)])
    many = market.answer(range(5), slates)
    for row in range(5):
        for whole, part in zip(many, market.answer([row], slates[row : row + 1]), strict=True):
            np.testing.assert_array_equal(whole[row], part[0])
    assert many[0].any()


class _Bag:
    """Two slots with logged events 3, 7 and 0, 3, 9, and with events in the market: 5, then 11, and none."""

    def __init__(self, width, m):
        draw = np.random.default_rng(width)
        self.begin, self.length, self.logged = np.array([0, 2]), np.array([2, 3]), np.array([3, 7, 0, 3, 9])
        self.first, self.items, self.following = np.array([1, -1]), np.array([11, 5]), np.array([-1, 0])
        self.release = np.where(np.arange(m) % 6 == 4, 50, 0)
        self.read = draw.normal(size=(m, width)).astype(np.float32)
        self.predicted = (0.5 * draw.normal(size=(width, m))).astype(np.float32)
        self.bias = draw.normal(size=m).astype(np.float32)
        self.consumed = [3, 7, 5, 11], [0, 3, 9]

    def law(self, events):
        """p* over the catalogue after some events, in double precision."""
        hidden = self.read[events].astype(float).sum(0) / np.sqrt(len(events) + 1)
        weight = np.exp(hidden @ self.predicted.astype(float) + self.bias)
        return weight / weight.sum()

    def left(self, slot, tick):
        """The same over what the slot may consume at a time."""
        law = self.law(self.consumed[slot]) * (self.release <= tick)
        law[self.consumed[slot]] = 0.0
        return law / law.sum()


@pytest.mark.parametrize(("width", "m"), [(1, 12), (4, 40), (7, 33)])
def test_a_bag_consumes_by_the_softmax_of_its_events(width, m):
    """Shares, intensities and chances against NumPy: sums of events over the root of one more than their number."""
    bag = _Bag(width, m)
    law = preferences(np.array([0, 0, 2, 5]), bag.logged, bag.read, bag.predicted, bag.bias)
    expected = [bag.law([]), bag.law([3, 7]), bag.law([0, 3, 9])]
    np.testing.assert_allclose(law, expected, rtol=1e-5)
    slots, ticks = np.array([0, 1, 1]), np.array([49, 49, 50])
    past = bag.begin, bag.length, bag.logged, bag.first, bag.items, bag.following, bag.release
    share = visit_shares(slots, ticks, *past, bag.read, bag.predicted, bag.bias)
    left = np.array([bag.left(slot, tick) for slot, tick in zip(slots, ticks, strict=True)])
    np.testing.assert_allclose(share, left, rtol=1e-5)
    assert ((share == 0) == (left == 0)).all()

    slates = np.array([[11, 3, 2, -1], [4, 11, 10, 3], [4, 1, -1, 9]])
    keys, ground = rng.bits(3, rng.Purpose.CHOICE, np.arange(3)), np.array([0.5, 4.0, 30.0])
    examined, out = 0.8 ** np.arange(4), (np.ones((3, 4), bool), np.full((3, 4), 9.0), np.full((3, 4), 9.0))
    told = bag.read, bag.predicted, bag.bias, examined, 1.5
    bag_answers(slates, slots, ticks, keys, ground, *past, *told, *out)
    shown = np.where(slates < 0, 0.0, np.take_along_axis(left, np.maximum(slates, 0), 1))
    consumed, probability, intensity = out
    np.testing.assert_allclose(intensity, shown * ground[:, None], rtol=1e-5)
    np.testing.assert_allclose(probability, 1 - np.exp(-shown * ground[:, None] * examined * 1.5), rtol=1e-5)
    draws = uniform_draws(keys, np.maximum(slates, 0))
    assert (consumed == ((draws < probability) & (slates >= 0))).all()


@pytest.mark.parametrize("levels", [3, 40, 10**6])
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_best_rows_are_those_of_a_sort_and_ties_are_told(levels, share):
    """Rows without ties equal a full sort; those with a tie among the best or at their end are marked, no others."""
    draw = np.random.default_rng(levels)
    scores = (draw.integers(levels, size=(50, 333)) / 7).astype(np.float32)
    scores -= np.float32(levels / 21)
    scores[draw.random(scores.shape) < 0.05] = -0.0  # equal to 0, and of other bits
    scores[::5] = np.abs(scores[::5]) * -1.0
    admissible = draw.random((50, 333)) < share
    items = np.empty((50, 9), np.int64)
    tied = best_rows(scores, admissible, items)
    for row in range(50):
        allowed = np.flatnonzero(admissible[row])
        order = allowed[np.argsort(-scores[row][allowed], kind="stable")]
        values = scores[row][order[:10]]
        assert tied[row] == (len(np.unique(values)) < len(values))
        assert (items[row] == -1).sum() == max(0, 9 - len(order))
        if not tied[row]:
            assert items[row][items[row] >= 0].tolist() == order[:9].tolist()


def test_top_k_of_tied_rows_is_the_same_in_any_batch():
    """Rows full of equal scores get one slate of best items, alone or among others."""
    draw = np.random.default_rng(1)
    scores = torch.from_numpy((draw.integers(4, size=(40, 200)) / 4).astype(np.float32))
    admissible = torch.from_numpy(draw.random((40, 200)) < 0.9)
    together = top_k(scores, admissible, 7)
    for row in range(40):
        assert (top_k(scores[row : row + 1], admissible[row : row + 1], 7)[0] == together[row]).all()
        best = np.sort(scores[row][admissible[row]].numpy())[::-1][:7]
        assert scores[row].numpy()[together[row]].tolist() == best.tolist()
        assert admissible[row].numpy()[together[row]].all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_top_k_of_arrays_is_that_of_tensors(dtype):
    """Also with a mask of int8, as environments observe it, of all rows, no position, or more than there are items."""
    draw = np.random.default_rng(2)
    scores, admissible = draw.random((30, 120)).astype(dtype), draw.random((30, 120)) < 0.8
    want = top_k(torch.from_numpy(scores), torch.from_numpy(admissible), 5)
    assert (top_k(scores, admissible, 5) == want).all()
    assert (top_k(scores, admissible.astype(np.int8), 5) == want).all()
    few = np.array([[0.3, 0.1, 0.2], [0.1, 0.1, 0.0]], dtype)
    assert top_k(few, np.ones((2, 3), bool), 0).shape == (2, 0)
    assert top_k(few[:1], np.array([[True, False, True]]), 5).tolist() == [[0, 2, -1, -1, -1]]
    assert top_k(few, np.ones((2, 3), bool), 4)[:, 3].tolist() == [-1, -1]
    assert top_k(few, np.array([[False, True, True]]), 1).tolist() == [[2], [1]]


def test_what_a_slate_takes_off_the_shortfall_is_what_was_missing_of_its_items():
    """An exposure counts as far as its item had less than it requires; the observed figures follow."""
    exposure, required = np.array([1.0, 0, 0, 3, 0]), np.array([1.0, 0, 0, 2, 4])
    weights = np.array([1.0, 0.5, 0.25])
    seen_exposure, seen_shortfall = np.float32([0, 0, 0, 2, 0]), np.float32([1, 0, 0, 0, 4])
    shown = np.array([3, -1, 0])  # item 3 had its two before
    assert observed_gain(shown, weights, exposure, required, seen_exposure, seen_shortfall) == 0.25
    assert seen_exposure.tolist() == exposure.tolist()
    assert seen_shortfall.tolist() == [0, 0, 0, 0, 4]


def test_a_draw_is_a_function_of_seed_purpose_and_key():
    """Any subset of keys in any order gets its draws; every word matters; values that results hang on are pinned."""
    whole = uniform(3, Purpose.CHOICE, np.arange(100)[:, None], np.arange(7))
    part = uniform(3, Purpose.CHOICE, np.array([[41], [5]]), np.array([6, 0]))
    assert part.tolist() == [[whole[41, 6], whole[41, 0]], [whole[5, 6], whole[5, 0]]]
    choice = Purpose.CHOICE
    keys = [(1, choice, 2, 3), (2, choice, 2, 3), (1, Purpose.AGENT, 2, 3), (1, choice, 3, 2)]
    assert len({int(bits(*key)) for key in (*keys, (1, choice, 2, 4), (1, choice, 2))}) == 6
    pinned = [18171665359712530786, 9934605676627802470]
    assert bits(0, Purpose.ARRIVALS, np.arange(2)).tolist() == pinned


def test_draws_follow_their_laws_and_any_integer_is_a_seed():
    """Kolmogorov-Smirnov rejects neither law, neighbouring keys do not correlate; derived seeds fit libraries."""
    draw = uniform(0, Purpose.ARRIVALS, np.arange(50_000))
    assert stats.kstest(draw, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(draw[1:], draw[:-1])[0, 1]) < 4 / np.sqrt(50_000)
    assert 0 <= draw.min() <= draw.max() < 1
    assert stats.kstest(exponential(0, Purpose.ARRIVALS, np.arange(50_000)), "expon").pvalue > 1e-3
    seed = derived_seed(5, Purpose.MODEL, 1)
    assert 0 <= seed < 2**63
    assert generator(5, Purpose.MODEL, 1).random() == generator(5, Purpose.MODEL, 1).random()
    for any_seed in (-1, 2**70):
        assert uniform(any_seed, Purpose.AGENT, 0) >= 0
