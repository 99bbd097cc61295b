"""Popularity by age against closed forms, and recovery of a known law."""

import numpy as np
import pandas as pd
import pytest
from kit.logs import log_of

from rimsim.data import load
from rimsim.data.made_up import HALF_LIFE_HOURS
from rimsim.intensity import Fresh, FreshConfig, UserStates
from rimsim.intensity.fresh import EDGES, age_class, fitted_rates, traffic

HOUR = 3600.0


def states_at(now):
    """States without events at given times."""
    n = len(now)
    return UserStates(
        np.zeros(n + 1, np.int64), np.zeros(0, np.int64), np.zeros(0), np.asarray(now, np.float64)
    )


def test_classes_of_ages_have_their_lower_bounds():
    """An age on a bound belongs to the class above it; a negative age belongs to the first class."""
    assert age_class(np.array([-5.0, 0.0, 1799.0, 1800.0, 3599.0, 3600.0, 1e9, np.inf])).tolist() == [
        0, 0, 0, 1, 1, 2, len(EDGES) - 1, len(EDGES) - 1,
    ]  # fmt: skip


def test_traffic_counts_events_while_an_item_has_an_age():
    """Event by event, each item's age is put into its class, if the item is on offer."""
    draw = np.random.default_rng(0)
    time = np.sort(draw.uniform(0, 80 * HOUR, 300))
    release = np.append(draw.uniform(0, 60 * HOUR, 5), -np.inf)
    end = np.append(release[:4] + 20 * HOUR, [np.inf, 30 * HOUR])
    expected = np.zeros((6, len(EDGES)))
    for now in time:
        for item in range(6):
            if release[item] <= now < end[item]:
                expected[item, age_class(now - release[item])] += 1
    assert traffic(time, release, end).tolist() == expected.tolist()


def test_without_release_times_the_model_is_smoothed_popularity():
    """All items have the last class of ages, so p(y) ∝ n_y + prior."""
    counts = np.array([5, 0, 2, 9])
    item = np.repeat(np.arange(4), counts)
    log = log_of(
        np.arange(16), item, np.arange(16.0), 16, pd.DataFrame({"id": range(4), "genres": "", "release": 0.0})
    )
    score = Fresh(FreshConfig(prior=2.0, device="cpu")).fit(log).score(states_at([20.0, 1e9])).numpy()
    assert score == pytest.approx(np.tile((counts + 2.0) / (counts + 2.0).sum(), (2, 1)), rel=1e-6)


def test_clicks_before_a_release_do_not_give_a_huge_level():
    """An item with n clicks, all of them before its release, has a level below (n + prior) / prior."""
    item = np.array([0, 1] * 8)
    time = HOUR * np.arange(16.0)
    items = pd.DataFrame({"id": [0, 1], "genres": "", "release": [0.0, 1000 * HOUR]})
    model = Fresh(FreshConfig(prior=3.0, device="cpu")).fit(log_of(np.arange(16), item, time, 16, items))
    # The clicks show that the item was there, so its traffic is at least its clicks.
    assert model.level[1] < 0.9 * (8 + 3.0) / 3.0


def test_rates_and_levels_maximise_the_penalised_likelihood():
    """No small change of a rate or a level gives a larger likelihood with the gamma prior."""
    draw = np.random.default_rng(1)
    exposure = draw.uniform(5, 40, (12, 4))
    events = draw.poisson(0.2 * exposure).astype(float)
    prior = 3.0
    rate, level = fitted_rates(events, exposure, prior)

    def likelihood(rate, level):
        mean = level[:, None] * rate * exposure
        return (events * np.log(mean) - mean).sum() + prior * (np.log(level) - level).sum()

    best = likelihood(rate, level)
    for step in (0.999, 1.001):
        for index in range(4):
            assert likelihood(np.where(np.arange(4) == index, rate * step, rate), level) < best
        for index in range(12):
            assert likelihood(rate, np.where(np.arange(12) == index, level * step, level)) < best
    single, alone = fitted_rates(events[:, :1], exposure[:, :1], 1e-9)
    assert single * alone == pytest.approx(events[:, 0] / exposure[:, 0], rel=1e-6, abs=1e-9)


def test_the_half_life_of_the_made_up_news_is_recovered():
    """The law's half-life of five hours follows from the rates by age, within a tenth."""
    log = load("news")
    rate = Fresh(FreshConfig(device="cpu")).fit(log).rate
    middle = (EDGES[1:12] + EDGES[:11]) / 2 / HOUR
    assert EDGES[11] == 24 * HOUR
    # Articles die at about 20 hours, so the classes from 16 hours on mix those that are still there.
    used = middle < 16
    slope = np.polyfit(middle[used], np.log2(rate[:11][used]), 1)[0]
    assert -1 / slope == pytest.approx(HALF_LIFE_HOURS, rel=0.1)
    assert np.isfinite(log.end).all()
    assert (log.release[log.item] <= log.time).all()
    assert (log.time < log.end[log.item]).all()


def test_the_order_of_items_follows_their_age():
    """Two items of equal level: the younger has more, in the proportion of the rates; before release, as when new."""
    rows = [(0, 0.5), (0, 0.7), (0, 3.5), (1, 10.5), (1, 10.7), (1, 13.5)]
    rows += [(2, 0.1 + hour / 4) for hour in range(60)]  # even traffic of an item without a release time
    items = pd.DataFrame({"id": [0, 1, 2], "genres": "", "release": [1.0, 10 * HOUR, 0.0]})
    time = np.array([1.0 + hour * HOUR for _, hour in rows])
    log = log_of(np.arange(len(rows)), np.array([item for item, _ in rows]), time, len(rows), items)
    model = Fresh(FreshConfig(device="cpu")).fit(log)
    score = model.score(states_at([10.6 * HOUR, 2 * HOUR])).numpy()
    assert score.sum(1) == pytest.approx(np.ones(2))
    assert score[0, 1] > score[0, 0]
    ratio = (
        model.level[1] * model.rate[0] / (model.level[0] * model.rate[age_class(np.array([2 * HOUR - 1]))[0]])
    )
    assert score[1, 1] / score[1, 0] == pytest.approx(ratio, rel=1e-6)
