"""Truths with trend and habit: their laws by plain loops, what fits recover, and markets that play under them."""

import dataclasses

import numpy as np
import pytest
from kit.logs import log_of
from kit.markets import batches, small_scenario

from rimsim.arrays import TICKS
from rimsim.config import ArrivalsConfig, ConsumerConfig
from rimsim.errors import ConfigError
from rimsim.intensity import UserStates
from rimsim.intensity.habits.law import OwnLaw
from rimsim.intensity.habits.local_rate import RateLaw
from rimsim.intensity.habits.next_sessions import NextSessions
from rimsim.intensity.habits.own_counts import OwnDecay, dense_counts
from rimsim.intensity.habits.repeat_share import RepeatLaw
from rimsim.market import Market, Needs, build_world
from rimsim.market.consumers import truths
from rimsim.market.consumers.false_truths import false_truths
from rimsim.market.consumers.habit import Habit, fitted_habit
from rimsim.market.consumers.trend import Persistence, Trend
from rimsim.market.fitted import kept_truth
from rimsim.testing import random_log

DAY = 86_400.0
LAW = RateLaw(exponent=0.7, usual=0.4, base=0.8, half_life=3 * DAY, smoothing=0.1)
HABIT = Habit(RepeatLaw(discount=0.3, strength=2.0), OwnDecay(half_life=5 * DAY))


@pytest.fixture(scope="module")
def log():
    """A small log whose users come back."""
    return random_log(n_users=60, n_items=40)


@pytest.fixture(scope="module")
def static(log):
    """A truth without trend and habit."""
    return truths.fit_truth(log, gap="30min", kind="bag")


def _rates(log, now):
    """(M,) shares of LAW at an instant, event by event."""
    counts = np.zeros(log.n_items)
    for item, time in zip(log.item, log.time, strict=True):
        if time != now:
            counts[item] += 2.0 ** (-abs(now - time) / LAW.half_life)
    events = np.bincount(log.item, minlength=log.n_items) + 0.5
    popularity = events / events.sum()
    added = LAW.smoothing * log.n_items
    return (counts + added * popularity) / (counts.sum() + added), popularity


def _timed(log, preference, now):
    """(M,) preferences with the trend of LAW at an instant."""
    rate, popularity = _rates(log, now)
    timed = preference**LAW.base * rate**LAW.exponent / popularity**LAW.usual
    return timed / timed.sum()


def _mixed(new, items, times, law=OwnLaw()):  # noqa: B008  # a frozen record
    """(M,) preferences with HABIT of a user with the given events, by plain loops."""
    counts = np.zeros(len(new))
    for item, time in zip(items, times, strict=True):
        counts[item] += 2.0 ** (-(max(times) - time) / HABIT.decay.half_life)
    if not len(items):
        return new / new.sum()
    is_own = counts > 0
    n = len(items)
    share = (n - HABIT.repeats.discount * is_own.sum()) / (n + HABIT.repeats.strength)
    own_weight = np.zeros(len(new))
    for item in np.flatnonzero(is_own):
        own_weight[item] = counts[item] ** law.counts * new[item] ** law.base
    unconsumed = np.where(is_own, 0.0, new)
    return share * own_weight / own_weight.sum() + (1 - share) * unconsumed / unconsumed.sum()


def test_a_trend_follows_the_log_and_stays_at_its_end(log):
    """Rates are those of plain loops within the log; from the last event on they no longer change."""
    trend = Trend.of_log(LAW, log)
    inside = np.array([log.time[5], log.time[0] - DAY, log.time[-1] - DAY / 3])
    preference = np.random.default_rng(0).uniform(0.1, 1.0, (3, log.n_items))
    timed = trend.timed(preference, inside)
    timed /= timed.sum(1, keepdims=True)
    for row, now in enumerate(inside):
        np.testing.assert_allclose(timed[row], _timed(log, preference[row], now), rtol=1e-9)
    end = np.nextafter(log.time[-1], np.inf)
    later = trend.factors(np.array([end, end + DAY, end + 1e9]))
    np.testing.assert_array_equal(later, np.repeat(later[:1], 3, 0))
    last = trend.timed(preference[:1], np.array([end + DAY]))[0]
    np.testing.assert_allclose(last / last.sum(), _timed(log, preference[0], end), rtol=1e-9)


def test_last_rates_return_to_the_usual_ones_after_the_log(log):
    """After the log, half of the difference between last and usual rates is left per half-life; within it, all is."""
    trend = Trend.of_log(LAW, log, Persistence(half_life=2 * DAY))
    end = trend.end
    last, usual = _rates(log, end)
    age = np.array([0.0, 2 * DAY, 5 * DAY, 400 * DAY])
    preference = np.random.default_rng(0).uniform(0.1, 1.0, (4, log.n_items))
    timed = trend.timed(preference, end + age)
    for row, share in enumerate([1.0, 0.5, 2.0**-2.5, 0.0]):
        rate = share * last + (1.0 - share) * usual
        expected = preference[row] ** LAW.base * rate**LAW.exponent / usual**LAW.usual
        np.testing.assert_allclose(timed[row] / timed[row].sum(), expected / expected.sum(), rtol=1e-9)
    inside = np.array([log.time[5], log.time[-1] - DAY])
    np.testing.assert_array_equal(trend.factors(inside), Trend.of_log(LAW, log).factors(inside))


@pytest.mark.parametrize("law", [OwnLaw(), OwnLaw(counts=0.6, base=0.4)])
def test_a_habit_mixes_own_counts_with_the_rest(law):
    """ρ, weights of own items and the rest are those of plain loops; without history, and with all consumed, too."""
    habit = dataclasses.replace(HABIT, own_items=law)
    items = [[], [0, 1, 0, 3], [2], list(range(6))]
    times = [[], [0.0, DAY, 6 * DAY, 7 * DAY], [DAY], [DAY * n for n in range(6)]]
    sizes = np.array([len(part) for part in items])
    states = UserStates(
        offsets=np.append(0, np.cumsum(sizes)),
        items=np.concatenate(items).astype(np.int64),
        times=np.concatenate(times).astype(np.float64),
        now=np.full(4, 30 * DAY),
    )
    preference = np.random.default_rng(1).uniform(0.1, 1.0, (4, 6))
    mixed = habit.mixed(preference, states)
    np.testing.assert_allclose(mixed.sum(1), 1.0)
    for row in range(3):
        by_loops = _mixed(preference[row], items[row], times[row], law)
        np.testing.assert_allclose(mixed[row], by_loops, rtol=1e-6)
    left = 2.0 ** (-(5 - np.arange(6)) / 5 * law.counts) * preference[3] ** law.base
    np.testing.assert_allclose(mixed[3], left / left.sum(), rtol=1e-6)


@pytest.mark.parametrize("law", [OwnLaw(counts=0.5, base=0.7), OwnLaw()])
def test_exponents_of_own_items_are_recovered(law):
    """On next sessions drawn from a law, the fit finds its exponents, or that counts alone suffice."""
    n_users = 1500
    n_items = 20
    draw = np.random.default_rng(4)
    user = np.repeat(np.arange(n_users), 24)
    item = draw.integers(0, 12, len(user))
    past = log_of(user, item, np.tile(np.arange(24.0), n_users), n_users, n_items)
    states = UserStates.of(past, np.arange(n_users), np.full(n_users, 100.0))
    logits = draw.normal(size=(n_users, n_items)).astype(np.float32)
    counts = dense_counts(states, n_items, np.inf)
    weights = np.where(counts > 0, counts**law.counts * np.exp(law.base * logits), 0.0)
    takes = np.array([draw.choice(n_items, p=row / row.sum()) for row in weights])
    held = NextSessions(past, np.arange(n_users), states, np.arange(n_users), takes, np.ones(n_users, bool))
    fitted = fitted_habit(held, logits).own_items
    assert fitted.counts == pytest.approx(law.counts, abs=0.25)
    assert fitted.base == pytest.approx(law.base, abs=0.15)


def test_a_truth_with_habits_is_its_law_and_is_read_as_it_was_written(log, static, tmp_path):
    """p* is base, then trend, then habit; false truths have the tastes and the instants of others."""
    persistence = Persistence(half_life=20 * DAY, gain=0.2, error=0.1)
    trend = Trend.of_log(LAW, log, persistence)
    report = dataclasses.replace(
        static.report, kind="bag+habits", trend=LAW, persistence=persistence, habit=HABIT
    )
    truth = dataclasses.replace(static, kind="bag+habits", report=report, trend=trend, habit=HABIT)
    users = np.arange(12)
    states = UserStates.of(log, users, np.linspace(log.time[200], log.time[-1] + DAY, 12))
    preference = truth.preference(users, states)
    plain = static.preference(users, states)
    for row in range(12):
        state = states[row : row + 1]
        timed = trend.timed(plain[row : row + 1], state.now)[0]
        if state.now[0] < log.time[-1]:
            np.testing.assert_allclose(timed / timed.sum(), _timed(log, plain[row], state.now[0]), rtol=1e-9)
        expected = _mixed(timed / timed.sum(), state.items, state.times)
        np.testing.assert_allclose(preference[row], expected, rtol=1e-5)
    truth.save(tmp_path)
    loaded = truths.load_truth(tmp_path)
    assert (loaded.kind, loaded.habit, loaded.report.trend) == ("bag+habits", HABIT, LAW)
    np.testing.assert_array_equal(loaded.preference(users, states), preference)
    others = false_truths({"truth": truth}, log)["truth: false_other_user"].preference(users, states)
    np.testing.assert_array_equal(others, np.roll(preference, 1, axis=0))


REPEATS = RepeatLaw(discount=0.3, strength=3.0)


def _fashion_log(*, repeatable, seed):
    """Sessions of four items; each third of the catalogue is in fashion for ten days, and users may repeat."""
    source = np.random.default_rng(seed)
    rows = []
    for user in range(400):
        taken = []
        for begin in np.sort(source.uniform(0, 90 * DAY, 5)):
            fashion = int(begin // (10 * DAY)) % 3
            weight = np.where(np.arange(90) % 3 == fashion, 8.0, 1.0)
            before = list(taken)
            share = (
                REPEATS.share(np.array([len(before)]), np.array([len(set(before))]))[0] if repeatable else 0.0
            )
            for position in range(4):
                if source.random() < share:
                    item = before[source.integers(len(before))]
                else:
                    left = weight.copy()
                    left[taken] = 0.0
                    item = int(source.choice(90, p=left / left.sum()))
                taken.append(item)
                rows.append((user, item, begin + 60.0 * position))
    user, item, time = zip(*rows, strict=True)
    return dataclasses.replace(log_of(user, item, time), repeatable=repeatable)


def test_fits_recover_fashions_and_repeats():
    """A trend of days and the law of repeats are found where they exist, and neither where times are shuffled."""
    once = _fashion_log(repeatable=False, seed=4)
    truth = kept_truth(once, gap=1800.0, kind="popularity+habits")
    law = truth.report.trend
    assert truth.habit is None
    assert DAY / 2 <= law.half_life <= 7 * DAY
    assert law.gain > 5 * law.error
    in_fashion = np.arange(once.n_items) % 3 == 0
    shares = truth.trend.timed(np.full((1, once.n_items), 1 / once.n_items), np.array([35 * DAY]))[0]
    odds = shares[in_fashion].mean() / shares[~in_fashion].mean()
    assert 2.5 < odds < 9.0  # 8 in the law; the rate of an item is of few events, so its exponent is below 1
    times = np.random.default_rng(5).permutation(once.time)
    shuffled = kept_truth(log_of(once.user, once.item, times), gap=1800.0, kind="popularity+habits")
    assert shuffled.trend is None or shuffled.report.trend.gain < 0.02
    again = kept_truth(_fashion_log(repeatable=True, seed=3), gap=1800.0, kind="popularity+habits")
    events = np.array([8, 12, 16])
    distinct = np.array([6, 8, 10])
    expected = REPEATS.share(events, distinct)
    assert again.habit.repeats.share(events, distinct) == pytest.approx(expected, abs=0.08)


def test_a_trend_is_fitted_beside_a_model_of_the_past(monkeypatch):
    """Its logits are the popularity before the held-out sessions, counted by hand, and not that of the whole log."""
    log = _fashion_log(repeatable=False, seed=4)
    evidence = []

    def recorded(log, held, logits):
        """No trend; the evidence for one is recorded."""
        evidence.append((held, logits))

    monkeypatch.setattr(truths, "fitted_trend", recorded)
    truths.with_habits(kept_truth(log, gap=1800.0, kind="popularity"), log, gap=1800.0)
    ((held, logits),) = evidence
    assert len(held.past) < 0.9 * len(log)
    events = np.bincount(held.past.item, minlength=log.n_items) + 0.01
    expected = np.broadcast_to(np.log(events / events.sum()), logits.shape)
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bag", "factors"])
def test_a_market_plays_by_trend_and_habit(kind):
    """True scores are the truth's preferences of whole states at the arrival's tick, over what is admissible."""
    arrivals = ArrivalsConfig(per_round=150, max_visits=3)
    config = small_scenario(rounds=1, arrivals=arrivals, consumer=ConsumerConfig(truth=kind, attraction=5.0))
    world = build_world(config)
    trend = Trend.of_log(LAW, world.log, Persistence(half_life=2 * DAY))
    truth = dataclasses.replace(world.truth, trend=trend, habit=HABIT)
    market = Market(config, world=dataclasses.replace(world, truth=truth), needs=Needs(truth=True))
    n_returning = 0
    for waiting in batches(market, 7):
        opened = market.open
        visits = opened.visits(waiting.row)
        counts = visits.histories.events.counts[visits.slot]
        states = visits.histories.states(visits.slot, counts, visits.tick)
        expected = truth.preference(visits.log_user, states)
        expected[~waiting.admissible.numpy()] = 0.0
        expected /= np.maximum(expected.sum(1, keepdims=True), 1e-12)
        np.testing.assert_allclose(visits.true_scores[0], expected, rtol=2e-4, atol=1e-6)
        n_returning += int((counts > 0).sum())
    assert n_returning > 2


def test_the_clock_of_a_market_within_the_log_is_the_logs():
    """In a replay with a truth, the trend is that of each arrival's own instant."""
    config = small_scenario(
        rounds=1,
        arrivals=ArrivalsConfig(kind="replay"),
        consumer=ConsumerConfig(kind="intensity", truth="popularity"),
    )
    world = build_world(config)
    trend = Trend.of_log(LAW, world.log)
    truth = dataclasses.replace(world.truth, trend=trend)
    market = Market(config, world=dataclasses.replace(world, truth=truth))
    visits = market.open.visits(np.arange(5))
    assert (visits.time < world.log.time[-1]).all()
    plain = truth.preference(
        visits.log_user, visits.histories.states(visits.slot, np.zeros(5, np.int64), visits.tick)
    )
    row, item = visits.consumed()
    plain[row, item] = 0.0
    rates = trend.factors(visits.tick / TICKS)
    assert np.ptp(rates / rates[:1], axis=0).max() > 1e-3
    np.testing.assert_allclose(
        visits.true_scores[0], plain / plain.sum(1, keepdims=True), rtol=2e-4, atol=1e-6
    )


def test_names_of_truths_with_habits_are_checked():
    """The name before the ending decides; the error names the nearest one."""
    truths.check_truth("bag+habits")
    truths.check_truth("auto+habits")
    with pytest.raises(ConfigError, match="Did you mean 'bag'"):
        truths.check_truth("bagg+habits")
