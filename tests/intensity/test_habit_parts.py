"""Known answers for the parts of habits: own counts, local rates and shares of repeats."""

import numpy as np
import pytest
from kit.habits import LAW, habitual_log, trending_log
from kit.logs import log_of
from scipy.optimize import minimize

from rimsim.intensity.habits.local_rate import (
    RateFit,
    RateHistory,
    RateLaw,
    TakenItems,
    TwoSidedRate,
    smoothed,
)
from rimsim.intensity.habits.next_sessions import Gain, NextSessions
from rimsim.intensity.habits.own_counts import DAY, dense_counts, fitted_decay, own_counts, own_shares_at
from rimsim.intensity.habits.repeat_share import event_counts, fitted_repeats
from rimsim.intensity.states import UserStates


def random_events(n=3000, n_items=17, seed=0):
    """Items, ascending times with ties, and weights of events."""
    source = np.random.default_rng(seed)
    time = np.sort(np.round(source.uniform(0, 900, n)))
    return source.integers(0, n_items, n), time, source.uniform(0.5, 2.0, n)


def decayed(item, time, weight, now, half_life, n_items):
    """(M,) decayed counts, event by event."""
    counts = np.zeros(n_items)
    for event in range(len(item)):
        if time[event] < now:
            counts[item[event]] += weight[event] * 2.0 ** (-(now - time[event]) / half_life)
    return counts


@pytest.mark.parametrize("half_life", [0.5, 40.0, 1e6, np.inf])
def test_rates_equal_sums_over_all_earlier_events(half_life):
    """Counts at any instant are those of a loop over events; events at the instant do not count."""
    item, time, weight = random_events()
    history = RateHistory.of(item, time, weight, 17, half_life)
    now = np.array([-5.0, 0.0, 1.0, 77.0, 77.5, 900.0, 901.0, 1e4, *time[::400]])
    expected = [decayed(item, time, weight, instant, half_life, 17) for instant in now]
    np.testing.assert_allclose(history.before(now), expected, rtol=1e-9, atol=1e-12)
    alone = np.concatenate([history.before(now[[row]]) for row in range(len(now))])
    np.testing.assert_array_equal(history.before(now), alone)


def test_two_sided_rates_look_both_ways():
    """Events before and after an instant count by their distance; those at the instant do not."""
    log = log_of([0, 0, 0, 0], [0, 1, 0, 1], [0.0, 10.0, 20.0, 40.0], target=[True, True, True, False])
    rate = TwoSidedRate.of_log(log, 10.0)
    np.testing.assert_allclose(rate.around(np.array([10.0, 30.0])), [[1.0, 0.0], [0.5 + 0.125, 0.25]])


def test_smoothing_adds_events_by_popularity():
    """Without events the shares are popularity; with many they are the counts' shares."""
    popularity = np.array([0.7, 0.2, 0.1])
    shares = smoothed(np.array([[0.0, 0.0, 0.0], [3.0, 1.0, 0.0]]), popularity, 2.0)
    np.testing.assert_allclose(shares, [popularity, [7.2 / 10, 2.2 / 10, 0.6 / 10]])


def test_own_counts_equal_a_loop():
    """Counts are sums of 2^(−Δ/h) to the state's last event; an item of long ago is never forgotten."""
    states = UserStates(
        np.array([0, 4, 4, 6]),
        np.array([2, 0, 2, 1, 0, 0]),
        np.array([0.0, 10.0, 20.0, 30.0, 0.0, 1e9]),
        np.full(3, 2e9),
    )
    expected = [[2**-2.0, 1.0, 2**-3.0 + 2**-1.0], [0, 0, 0], [1.0, 0, 0]]
    np.testing.assert_allclose(dense_counts(states, 3, 10.0), expected, rtol=1e-6)
    counts = own_counts(states, 3, np.inf)
    np.testing.assert_allclose(counts.toarray(), [[1, 1, 2], [0, 0, 0], [2, 0, 0]])
    shares = own_shares_at(counts, np.array([0, 0, 2, 1]), np.array([2, 1, 0, 1]))
    np.testing.assert_allclose(shares, [0.5, 0.25, 1.0, 0.0])
    events, distinct = event_counts(states)
    np.testing.assert_array_equal(events, [4, 0, 2])
    np.testing.assert_array_equal(distinct, [3, 0, 1])
    ancient = UserStates(np.array([0, 2]), np.array([0, 1]), np.array([0.0, 1e9]), np.array([2e9]))
    assert dense_counts(ancient, 3, 1.0)[0].tolist() == pytest.approx([1e-30, 1.0, 0.0])


@pytest.mark.parametrize("half_life", [3.0, 40 * DAY, np.inf])
def test_dense_counts_are_those_of_sparse_rows_to_the_bit(half_life):
    """Rounding before or after a row is written out gives the same numbers."""
    log = habitual_log(users=80)
    states = UserStates.of(log, np.arange(80), log.time[-1] + 1.0)
    rounded_last = own_counts(states, log.n_items, half_life).toarray().astype(np.float32)
    counts = dense_counts(states, log.n_items, half_life)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts, rounded_last)
    for row in (0, 17, 79):
        np.testing.assert_array_equal(
            dense_counts(states.take([row]), log.n_items, half_life)[0], counts[row]
        )


def test_next_sessions_have_the_items_of_one_session():
    """Items of a session count once, as repeat or new; later sessions of the user are not looked at."""
    rows = []
    for user in range(30):
        base = user * 100.0
        rows += [(user, 0, base), (user, 1, base + 1), (user, 0, base + 1e6), (user, 2, base + 1e6 + 1)]
        rows += [(user, 2, base + 1e6 + 2)]
    user, item, time = zip(*rows, strict=True)
    held = NextSessions.of(log_of(user, item, time), "30min", 0)
    np.testing.assert_array_equal(held.row, np.repeat(np.arange(30), 2))
    np.testing.assert_array_equal(held.item, np.tile([0, 2], 30))
    np.testing.assert_array_equal(held.is_repeat, np.tile([True, False], 30))
    np.testing.assert_array_equal(held.consumed()[0], [True, True, False])
    assert len(held.past) == 60
    short_log = log_of(user[:40], item[:40], time[:40])
    assert NextSessions.of(short_log, "30min", 0) is None
    gain = Gain.of(np.array([0, 0, 2]), np.array([1.0, 3.0, 2.0]))
    assert (gain.nats, gain.error, gain.users) == (2.0, 0.0, 2)


def test_events_of_history_alone_are_no_labels():
    """Events of a session that are no targets do not decide the law of habits."""
    rows = []
    for user in range(30):
        rows += [(user, 0, user * 100.0, True), (user, 1, user * 100.0 + 1, True)]
        rows += [(user, item, user * 100.0 + 1e6 + item, item == 2) for item in (2, 3)]
    user, item, time, target = zip(*rows, strict=True)
    held = NextSessions.of(log_of(user, item, time, target=list(target)), "30min", 0)
    assert len(held) == 30
    assert held.item.tolist() == [2] * 30


def test_weights_are_those_of_a_general_optimiser():
    """Newton steps find the weights of logits that maximise the likelihood over items that could be taken."""
    source = np.random.default_rng(3)
    parts = [source.normal(size=(40, 9)), source.normal(size=9), source.normal(size=(40, 9))]
    parts = [part.astype(np.float32) for part in parts]
    excluded = source.random((40, 9)) < 0.2
    row = np.repeat(np.arange(40), 2)
    item = np.array([source.choice(np.flatnonzero(~excluded[state])) for state in row])
    taken = TakenItems(parts[2], excluded, row, item)

    def loss(weights):
        logits = weights[0] * parts[0] + weights[1] * parts[1] + weights[2] * parts[2]
        logits = np.where(excluded, -np.inf, logits)
        return np.log(np.exp(logits).sum(1))[row].sum() - logits[row, item].sum()

    expected = minimize(loss, np.array([0.0, 0.0, 1.0]), tol=1e-9).x
    weights = taken.weights(parts, np.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(weights, expected, atol=0.02)
    assert -taken.log_likelihood(sum(w * p for w, p in zip(weights, parts, strict=True))).sum() < (
        loss(expected) + 1e-2
    )


def test_a_known_law_of_repeats_is_recovered():
    """The true law of a made-up log lies within the interval of the fit, and so does its half-life."""
    held = NextSessions.of(habitual_log(), "30min", 0)
    law = fitted_repeats(held)
    events, distinct = event_counts(held.states)
    true_share = LAW.share(events, distinct)[held.row]
    true_nats = np.where(held.is_repeat, np.log(true_share), np.log1p(-true_share)).mean()
    # Twice the difference of log-likelihoods has a χ² law with two degrees of freedom; 9.2 is its 99% quantile.
    assert 0.0 <= 2.0 * len(held.row) * (law.log_likelihood - true_nats) < 9.2
    assert law.discount == pytest.approx(LAW.discount, abs=0.2)
    assert law.predicted == pytest.approx(law.observed, abs=0.02)
    plain = np.where(held.is_repeat, np.log(law.observed), np.log1p(-law.observed)).mean()
    assert law.log_likelihood > plain
    decay = fitted_decay(held, (5 * DAY, 10 * DAY, 20 * DAY, 40 * DAY, 80 * DAY, np.inf))
    assert decay.half_life in {10 * DAY, 20 * DAY, 40 * DAY}
    assert decay.gain > 2 * decay.error > 0


def rate_of(log):
    """Law of the local rate of a log, without a personal base."""
    held = NextSessions.of(log, "30min", 0)
    popularity = np.bincount(held.past.item, minlength=log.n_items) + 0.5
    shape = (len(held), log.n_items)
    taken = TakenItems(np.zeros(shape, np.float32), held.consumed(), held.row, held.item)
    half_lives = tuple(days * DAY for days in (1, 2, 4, 8, 16, 32, 64))
    return RateFit(
        taken,
        lambda half_life: RateHistory.of_log(held.past, half_life).before(held.states.now),
        popularity / popularity.sum(),
        half_lives,
    ).law()


def test_a_known_local_rate_is_recovered():
    """Exponent and half-life of a made-up log come back; a log without trends has exponent 0."""
    law = rate_of(trending_log(0.9, 8 * DAY))
    assert law.half_life in {4 * DAY, 8 * DAY, 16 * DAY}
    assert law.exponent == pytest.approx(0.9, abs=0.25)
    assert law.gain > 3 * law.error
    source = np.random.default_rng(1)
    time = source.uniform(0, 200 * DAY, 4000)
    item = np.concatenate([source.permutation(40)[:8] for _ in range(500)])
    flat = rate_of(log_of(np.repeat(np.arange(500), 8), item, time, items=40))
    assert (flat.exponent, flat.usual, flat.base, flat.gain) == (0.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("best", "closer"),
    [(1, 1.0), (2, 0.99), (2, 1.01), (8, 0.99), (8, 1.01), (16, 1.0), (32, 0.99), (64, 1.0)],
)
def test_the_likeliest_half_life_is_found_on_either_side(best, closer, monkeypatch):
    """Every second half-life is tried, then both neighbours, the shorter and the longer one."""

    def candidate(self, half_life, smoothing):
        """Law whose likelihood falls with the distance from the best half-life."""
        return RateLaw(
            half_life=half_life, log_likelihood=-abs(np.log(half_life / (best * closer)))
        ), np.zeros(1)

    monkeypatch.setattr(RateFit, "_at", candidate)
    taken = TakenItems(
        np.zeros((1, 1), np.float32), np.zeros((1, 1), bool), np.zeros(1, int), np.zeros(1, int)
    )
    fit = RateFit(taken, lambda _: np.zeros((1, 1)), np.ones(1), (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0))
    law, _ = max(fit._candidates(), key=lambda law_and_fit: law_and_fit[0].log_likelihood)
    assert law.half_life == best
