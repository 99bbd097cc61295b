"""Arrivals of users who come back by a self-exciting process, against theory and by hand."""

import re

import numpy as np
import pytest
from kit import cases, refused, same_arrays
from kit.markets import play_out, played, resumed, same_ledgers, small_scenario

from rimsim.agents import make_agent, play_round
from rimsim.arrays import TICKS
from rimsim.config import ArrivalsConfig, ConsumerConfig, override
from rimsim.errors import ConfigError
from rimsim.intensity.ground.hawkes import hawkes_terms, rescaled
from rimsim.market import Market
from rimsim.market.arrivals import RoundsSoFar
from rimsim.market.arrivals.clones import events_before
from rimsim.market.arrivals.hawkes import SessionRates, _shape, expected_starts, fit_rates, simulate

DAY = 86_400.0
NOBODY = np.zeros(0, np.int64)


def returning(kappa=1.0, **changes):
    """A small market whose users come back, some 120 a round, more often the more they are satisfied."""
    arrivals = ArrivalsConfig(kind="hawkes", per_round=120, options=(("kappa", kappa), ("neutral", 0.4)))
    return small_scenario(arrivals=arrivals, **changes)


def rates_of(users, per_day=0.2, branching=0.6, days=2.0):
    """A process in which sessions bring about others within days."""
    return SessionRates(np.full(users, per_day / DAY), branching, 1 / (days * DAY))


def starts(rates, days, seed=0, factor=1.0, max_factor=1.0):
    """Users and seconds of the sessions of users who begin without a past."""
    users = len(rates.base)
    window = (0, round(days * DAY * TICKS))
    user, tick = simulate(rates, np.full(users, factor), max_factor, NOBODY, NOBODY, window, seed, 0)
    return user, tick / TICKS


def test_only_whoever_never_came_comes_for_the_first_time():
    """Without a past in the log, a user's first visit is first in whichever round it is, and no later one is."""
    scenario = small_scenario(arrivals=ArrivalsConfig(kind="hawkes", per_round=120, history="none"), rounds=3)
    market = Market(scenario)
    seen = set()
    nothing = np.zeros(market.world.log.n_users, np.int64)
    while not market.done:
        schedule = market.schedule
        for slot, first in zip(schedule.slot.tolist(), schedule.visits(nothing).first, strict=True):
            assert first == (slot not in seen)
            seen.add(slot)
        play_round(market, make_agent("random"))


def test_a_forecast_knows_of_the_past_and_of_satisfaction():
    """Given sessions before the window and a factor, the mean over seeds is the forecast."""
    rates = rates_of(300)
    users = 300
    user = np.arange(0, 300, 2)
    tick = np.full(150, -round(DAY * TICKS))
    window = (0, round(7 * DAY * TICKS))
    factor = np.where(np.arange(300) < 100, 1.4, 0.7)
    expected = expected_starts(rates, factor, user, tick, window)
    counts = np.zeros((40, users))
    for seed in range(40):
        visitors, _ = simulate(rates, factor, 1.5, user, tick, window, seed, 3)
        counts[seed] = np.bincount(visitors, minlength=users)
    for group in (slice(0, 100, 2), slice(1, 100, 2), slice(100, 300, 2), slice(101, 300, 2)):
        totals = counts[:, group].sum(1)
        assert totals.mean() == pytest.approx(expected[group].sum(), abs=4 * totals.std() / np.sqrt(40))


def test_gaps_are_those_of_theory():
    """In compensated time the gaps are those of a Poisson process, by Kolmogorov and Smirnov, and not correlated."""
    rates = rates_of(400)
    days = 60.0
    user, time = starts(rates, days, seed=4)
    order = np.lexsort((time, user))
    user = user[order]
    time = time[order]
    visitors, begin = np.unique(user, return_index=True)
    offsets = np.append(begin, len(user))
    terms = hawkes_terms(time, offsets, np.full(len(visitors), days * DAY), np.array([rates.decay]))
    residuals = rescaled(terms, np.array([rates.base[0], rates.branching, rates.branching]))
    assert residuals.p_value > 0.01
    assert abs(residuals.correlation) < 4 / np.sqrt(len(residuals.gaps))
    wrong = rescaled(terms, np.array([rates.base[0] / 0.4, 0.0, 0.0]))
    assert wrong.p_value < 1e-6


def test_a_refit_recovers_the_process():
    """Fitted to what was simulated, over some seeds, μ, α and ω are within four standard errors of their means."""
    rates = rates_of(200)
    estimates = []
    for seed in range(8):
        user, time = starts(rates, 120.0, seed)
        fitted = fit_rates(user, time, 120 * DAY, 200)
        estimates.append([np.mean(fitted.base) * DAY, fitted.branching, np.log(fitted.decay * DAY)])
    mean = np.mean(estimates, 0)
    error = np.std(estimates, 0, ddof=1) / np.sqrt(8)
    true = np.array([0.2, 0.6, np.log(0.5)])
    assert (np.abs(mean - true) <= 4 * error + 0.03 * np.abs(true)).all()
    assert (error < 0.05).all()


def test_users_differ_by_as_much_as_their_counts_spread_beyond_chance():
    """Var = m + m²/shape, so that the shape is Σ m² / Σ((count − m)² − m), within its bounds."""
    expected = np.array([2.0, 4.0, 1.0, 3.0])
    count = expected + np.array([3.0, -3.0, 2.0, -2.0])
    assert _shape(count, expected) == pytest.approx((4 + 16 + 1 + 9) / (9 + 9 + 4 + 4 - 10))
    assert (_shape(expected, expected), _shape(expected + 100.0, expected)) == (1e4, 0.1)


def test_arms_share_candidates():
    """What a smaller factor keeps are sessions that a larger one keeps too, user by user."""
    rates = rates_of(100)
    seldom, often = (starts(rates, 30, factor=factor, max_factor=1.6) for factor in (0.5, 1.2))
    seldom_sessions = set(zip(*(part.tolist() for part in seldom), strict=True))
    often_sessions = set(zip(*(part.tolist() for part in often), strict=True))
    assert seldom_sessions < often_sessions
    assert len(seldom_sessions) < 0.5 * len(often_sessions)


def test_without_kappa_all_arms_have_the_same_arrivals():
    """At κ = 0 ticks and visitors are equal whatever is shown; at κ > 0 they differ where satisfaction does."""
    markets = [[played(returning(kappa), name) for name in ("relevance", "random")] for kappa in (0.0, 1.0)]
    alike, apart = (
        [[closed.ledger.schedule for closed in market.closed] for market in pair] for pair in markets
    )
    for schedule, other_schedule in zip(*alike, strict=True):
        same_arrays(schedule, other_schedule, "tick", "id")
    np.testing.assert_array_equal(apart[0][0].tick, apart[1][0].tick)
    assert len(apart[0][2]) > len(apart[1][2])  # random slates satisfy less


@pytest.mark.parametrize("delay", [None, "3h"])
def test_satisfaction_is_what_was_taken(delay):
    """S ← ρS + (1 − ρ)·[taken], by hand from the ledger; users whose satisfaction is alike in two arms come alike."""
    config = returning(consumer=ConsumerConfig(delay=delay))
    markets = [played(config, agent) for agent in ("relevance", "random")]
    states = []
    for market in markets:
        process = market.arrivals
        past = tuple(market.platform.rounds)
        satisfaction = process.satisfaction(RoundsSoFar(market.world, 0, past[:2]))
        state = np.full(len(satisfaction), 0.4)
        for closed in market.closed[:2]:
            for slot, taken in zip(closed.ledger.schedule.slot, closed.ledger.consumed.any(1), strict=True):
                state[slot] = 0.8 * state[slot] + 0.2 * taken
        # The store of kept users holds all three rounds, of which the first two are asked for.
        np.testing.assert_allclose(satisfaction, state)
        states.append(state)
    third = [market.closed[2].ledger.schedule for market in markets]
    if delay is not None:
        return  # what is taken late in a round is not known to the next
    visits_of_relevance, visits_of_random = (
        set(zip(each.slot.tolist(), each.tick.tolist(), strict=True)) for each in third
    )
    differ = {
        slot for slot, _ in visits_of_relevance ^ visits_of_random if states[0][slot] == states[1][slot]
    }
    second = [market.closed[1].ledger.schedule for market in markets]
    for slot in differ:  # only where an earlier round had other visits
        assert set(second[0].tick[second[0].slot == slot]) != set(second[1].tick[second[1].slot == slot])


def test_agents_are_told_a_forecast():
    """They plan for as many as are expected, the mean over seeds, and guarantees are shares of those."""
    market = Market(returning())
    view = market.round_view()
    schedule = market.schedule
    assert view.arrivals == round(schedule.forecast) != len(schedule)
    positions = round(schedule.forecast / len(schedule) * len(schedule) * market.config.slate)
    weights = market.open.requirements.position_weights
    assert view.required.sum() / weights.mean() == pytest.approx(0.5 * positions, abs=1)
    play_out(market, make_agent("random"))
    past = tuple(market.platform.rounds)[:2]
    rounds = [market.arrivals.round(2, RoundsSoFar(market.world, seed, past)) for seed in range(20)]
    counts = np.array([len(past_schedule) for past_schedule in rounds])
    assert counts.mean() == pytest.approx(rounds[0].forecast, abs=4 * counts.std() / np.sqrt(20))


@pytest.mark.parametrize("draw", ["users", "sessions"])
def test_a_past_is_cut_before_a_drawn_session(draw):
    """With draw=sessions each user's past ends where one of the sessions begins; with draw=users it is whole."""
    market = Market(override(returning(), {"arrivals.draw": draw}))
    schedule = market.schedule
    sessions = market.world.past_sessions
    log_lengths = np.diff(market.world.past.offsets)
    before = [set(events_before(sessions)[sessions.user == user]) for user in range(len(log_lengths))]
    for user, logged in zip(schedule.log_user, schedule.logged, strict=True):
        assert logged == log_lengths[user] or logged in before[user]
    assert (schedule.logged == log_lengths[schedule.log_user]).all() == (draw == "users")


def test_an_unstable_process_is_refused():
    """A κ with which satisfied users would come ever more often is told, with the largest that is allowed."""
    pattern = r"kappa is 9, .*branching ratio is (\d+\.\d+).*Expected a number below (\d+\.\d+)"
    message = refused(ConfigError, pattern, Market, returning(9.0))
    branching, largest = map(float, re.search(pattern, message).groups())
    assert largest == pytest.approx(-np.log(branching) / (1 - 0.4), rel=0.05)
    bad = override(returning(), {"arrivals.options.memory": 1})
    refused(ConfigError, "option 'memory' is 1", Market, bad)


@cases("draw truth", ("kept", None), ("sessions", "factors"), ("sessions", "bag"), ("users", "factors"))
def test_a_saved_market_goes_on_with_the_same_users_and_pasts(draw, truth, tmp_path):
    """Saved are the users who stay and the cuts of their pasts; played on in other batches, ledgers agree."""
    config = returning()
    if truth is not None:
        arrivals = ArrivalsConfig(per_round=60, max_visits=3, draw=draw)
        config = small_scenario(rounds=2, arrivals=arrivals, consumer=ConsumerConfig(truth=truth))
    uninterrupted = played(config, "rim-feedback")
    continued = resumed(config, "rim-feedback", tmp_path / "state", batch_size=7)
    same_ledgers(uninterrupted, continued)
    for closed, continued_round in zip(uninterrupted.closed, continued.closed, strict=True):
        same_arrays(closed.ledger, continued_round.ledger, "probability")
        same_arrays(closed.offer, continued_round.offer, "satisfaction")
