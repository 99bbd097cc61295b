"""Truths with a trend: judged after a cut in time too, as a market plays them after the end of the log."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kit import cases
from kit.logs import log_of

from rimsim.data.time_cut import sessions_after_cut
from rimsim.intensity import UserStates
from rimsim.market.consumers.trend import Persistence
from rimsim.market.fitness import _cut, fitness
from rimsim.market.fitted import kept_truth
from rimsim.scenarios.report.fitness import verdict_sentence

DAY = 86_400.0
GAP = 1800.0


def _shop(
    seed, *, period_days=None, factor=1.0, n_promoted=6, tastes=0.0, n_users=700, n_items=120, days=280
):
    """Made-up shop; in each period, items drawn at random sell ``factor`` times as well."""
    source = np.random.default_rng(seed)
    popularity = np.exp(source.normal(0, 1.0, n_items))
    section = source.integers(0, 6, n_items)
    taste = source.dirichlet(np.full(6, 0.3), n_users)
    n_periods = 1 if period_days is None else int(np.ceil(days / period_days))
    promoted = np.ones((n_periods, n_items))
    for period in promoted:
        period[source.choice(n_items, n_promoted, replace=False)] = factor
    columns = []
    for user in range(n_users):
        begins = np.sort(source.uniform(0, days, 3 + source.poisson(5)))
        weights = popularity * (1.0 + tastes * taste[user][section])
        for begin in begins.tolist():
            now = weights * promoted[0 if period_days is None else int(begin // period_days)]
            items = source.choice(n_items, 1 + source.poisson(1.2), p=now / now.sum())
            columns += [
                (user, item, np.round(begin * DAY) + number)
                for number, item in enumerate(set(items.tolist()))
            ]
    user, item, time = zip(*columns, strict=True)
    table = pd.DataFrame({"id": np.arange(n_items), "genres": "", "release": np.nan})
    return dataclasses.replace(log_of(user, item, time, n_users, table), repeatable=True)


@cases("period_days factor days", pytest.param(14, 25.0, 280, marks=pytest.mark.thorough), (7, 40.0, 283))
def test_a_shop_with_promotions_that_its_log_does_not_name_is_not_fit(period_days, factor, days):
    """A rate known only in the past makes a truth fit among other events; after a cut in time it is not.

    The cut is at the end of a period, or within one.
    """
    log = _shop(period_days, period_days=period_days, factor=factor, days=days)
    verdict = fitness(log, gap=GAP, kind="bag+habits")
    assert verdict.is_after_cut
    assert verdict.verdict != "fit"
    assert verdict.other_agreement > 0.6
    assert "sessions after a cut in time" in verdict_sentence(verdict)
    assert "The judgement after the cut decided" in verdict_sentence(verdict)
    assert f"{verdict.last_share:.0%} of the expected consumption rests" in verdict_sentence(verdict)
    assert verdict.last_share > 0.1


@cases("period_days factor shortest longest", (7, 40.0, 1.5, 7.0), (28, 25.0, 7.0, 28.0))
def test_last_rates_persist_as_long_as_promotions(period_days, factor, shortest, longest):
    """At a random instant, half of a promotion is left on average; the fit finds about this half-life."""
    log = _shop(period_days, period_days=period_days, factor=factor)
    known = kept_truth(log, gap=GAP, kind="bag+habits").report.persistence
    assert shortest * DAY <= known.half_life <= longest * DAY
    assert known.gain > 5 * known.error


@cases("end", pytest.param(280.0, marks=pytest.mark.thorough), (283.5,))
def test_sessions_after_the_log_refute_rates_that_stay(end):
    """Bestsellers sell better than last days' sellers in the future; rates that stay reverse the order.

    The log ends at the end of a period, or within one. The truth knows the events before ``end`` only.
    """
    sales = _shop(1, period_days=7, factor=40.0, days=end + 56)
    log = sales.rows(sales.time < end * DAY)
    future = sales.rows(sales.time >= end * DAY)
    bestsellers = np.argsort(-np.bincount(log.item, minlength=log.n_items))[:10]
    recent_items = log.item[log.time >= (end - 7) * DAY]
    last_sellers = np.argsort(-np.bincount(recent_items, minlength=log.n_items))[:10]
    truth = kept_truth(log, gap=GAP, kind="bag+habits")
    states = UserStates.of(log, future.user, future.time)

    def lead(trend):
        """Consumption of bestsellers minus that of last sellers, by a truth with this trend."""
        preference = dataclasses.replace(truth, trend=trend).preference(future.user, states)
        return preference[:, bestsellers].sum(1).mean() - preference[:, last_sellers].sum(1).mean()

    assert np.isin(future.item, bestsellers).mean() > np.isin(future.item, last_sellers).mean() + 0.02
    assert lead(truth.trend) > 0.02
    assert lead(dataclasses.replace(truth.trend, persistence=Persistence())) < -0.2
    assert fitness(log, gap=GAP, kind="bag+habits").verdict != "fit"


def test_sentence_says_how_much_consumption_rests_on_the_last_half_life():
    """The share is that of plain arithmetic over users' preferences with and without the last events."""
    log = _shop(7, period_days=7, factor=40.0, n_users=300)
    fitted = kept_truth(log, gap=GAP, kind="bag+habits")
    truth = dataclasses.replace(fitted, habit=None)
    law = dataclasses.replace(truth.trend.law, half_life=3 * DAY)
    truth = dataclasses.replace(truth, trend=dataclasses.replace(truth.trend, law=law))
    users = np.arange(log.n_users)
    states = UserStates.of(log, users, np.full(len(users), truth.trend.end))
    base = dataclasses.replace(truth, trend=None).preference(users, states)
    shares = []
    for first in (-np.inf, truth.trend.end - 3 * DAY):
        weight = 2.0 ** (-(truth.trend.end - log.time) / (3 * DAY))
        weight[(log.time >= first) & np.isfinite(first)] = 0.0
        counts = np.bincount(log.item, weight, log.n_items)[None, :]
        log_factor = law.log_factor(law.rates(counts, truth.trend.popularity), truth.trend.popularity)
        p = base**law.base * np.exp(log_factor)
        p[states.owner, states.items] = 0.0
        shares.append(p / p.sum(1, keepdims=True))
    moved = np.abs(shares[0] - shares[1]).sum(1) / 2
    expected = np.average(moved, weights=truth.expected(users, states))
    assert 0.2 < expected < 1.0
    np.testing.assert_allclose(truth.last_share(log), expected, rtol=1e-6)
    assert dataclasses.replace(truth, trend=None).last_share(log) is None


def test_a_shop_with_stable_tastes_stays_fit():
    """A shop without promotions is fit."""
    verdict = fitness(_shop(3, tastes=40.0), gap=GAP, kind="bag+habits")
    assert verdict.verdict == "fit"
    assert not verdict.is_after_cut
    assert "after a cut in time, 1.00" in verdict_sentence(verdict)


def test_sessions_after_a_cut_follow_all_known_events():
    """No user's event after the cut is known, and each sampled session begins after it."""
    log = _shop(5, n_users=50)
    later = sessions_after_cut(log, gap=GAP, seed=1)
    cut_time = log.time.max() - 56 * DAY
    assert later.past.time.max() < cut_time <= later.time.min()
    assert len(later.past) == np.sum(log.time < cut_time)
    assert set(later.user.tolist()) <= set(later.past.user.tolist())
    assert np.array_equal(np.unique(later.future.user), later.user)
    assert later.future.time.min() == later.time.min()


def test_draws_after_a_cut_have_sessions_of_their_own():
    """The draws of a verdict share the cut and the users, but sample different sessions."""
    first, second = (_cut(_shop(5, n_users=50), GAP, draw, after_cut=True).later for draw in (0, 1))
    assert np.array_equal(first.past.time, second.past.time)
    assert np.array_equal(first.user, second.user)
    assert not np.array_equal(first.time, second.time)


def test_users_without_a_past_have_no_session_after_a_cut():
    """A user whose first event lies after the cut is not sampled, since nothing is known of the user."""
    log = _shop(5, n_users=50)
    cut_time = log.time.max() - 56 * DAY
    newcomer = log.user[log.time.argmax()]
    log = log.rows((log.user != newcomer) | (log.time >= cut_time))
    later = sessions_after_cut(log, gap=GAP, seed=1)
    assert len(later.user) > 20
    assert newcomer not in later.user


def test_rates_persist_as_long_as_few_sessions_allow():
    """With few sessions after the cut, many half-lives are not refuted, and the longest of them holds."""
    log = _shop(3, period_days=28, factor=25.0, n_users=60)
    assert kept_truth(log, gap=GAP, kind="bag+habits").report.persistence.half_life == 56 * DAY
