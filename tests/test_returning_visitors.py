"""Users who come back: the Hawkes process against theory, satisfaction by hand, and what arms share."""

from __future__ import annotations

import re

import numpy as np
import pytest
from small_markets import play_out, small_scenario

from rimsim.agents import make_agent, market_for, play_round
from rimsim.arrays import TICKS
from rimsim.config import ArrivalsConfig, ConsumerConfig, override
from rimsim.errors import ConfigError
from rimsim.intensity.ground.hawkes import hawkes_terms, rescaled
from rimsim.market import Market, MarketState
from rimsim.market.arrivals import Hawkes, HawkesOptions, RoundsSoFar
from rimsim.market.arrivals.hawkes import SessionRates, _shape, expected_starts, fit_rates, simulate
from rimsim.testing import ArrivalTests

DAY = 86_400.0
NOBODY = np.zeros(0, np.int64)


def returning(kappa=1.0, **changes):
    """A small market whose users come back, some 120 a round, more often the more they are satisfied."""
    arrivals = ArrivalsConfig(kind="hawkes", per_round=120, options=(("kappa", kappa), ("neutral", 0.4)))
    return small_scenario(arrivals=arrivals, **changes)


def rates_of(users, per_day=0.2, branching=0.6, days=2.0):
    """A process in which sessions bring about others within days."""
    return SessionRates(np.full(users, per_day / DAY), branching, 1 / (days * DAY))


def starts(rates, days, seed=0, factor=1.0, most=1.0):
    """Users and seconds of the sessions of users who begin without a past."""
    users = len(rates.base)
    window = (0, round(days * DAY * TICKS))
    user, tick = simulate(rates, np.full(users, factor), most, NOBODY, NOBODY, window, seed, 0)
    return user, tick / TICKS


class TestHawkes(ArrivalTests):
    """Users who come back keep what an arrival process promises."""

    def make(self):
        """The built-in ones."""
        return Hawkes(HawkesOptions(kappa=0.3), self.scenario())


def test_only_whoever_never_came_comes_for_the_first_time():
    """Without a past in the log, a user's first visit is first in whichever round it is, and no later one is."""
    scenario = small_scenario(arrivals=ArrivalsConfig(kind="hawkes", per_round=120, history="none"), rounds=3)
    market, seen = Market(scenario), set()
    nothing = np.zeros(market.world.log.n_users, np.int64)
    while not market.done:
        schedule = market.schedule
        for slot, first in zip(schedule.slot.tolist(), schedule.visits(nothing).first, strict=True):
            assert first == (slot not in seen)
            seen.add(slot)
        play_round(market, make_agent("random"))


def test_counts_are_those_of_theory():
    """The mean of the counts is the forecast and, in the long run, μT / (1 − α); they spread as a branching process."""
    rates, days, users = rates_of(4000), 60.0, 4000
    user, _ = starts(rates, days)
    count = np.bincount(user, minlength=users)
    window = (0, round(days * DAY * TICKS))
    expected = expected_starts(rates, np.ones(users), NOBODY, NOBODY, window)
    error = count.std() / np.sqrt(users)
    assert count.mean() == pytest.approx(expected[0], abs=4 * error)
    assert expected[0] == pytest.approx(0.2 * days / 0.4, rel=0.08)  # it begins empty
    # A cluster of branching ratio α has size 1/(1 − α) on average; counts are over-dispersed by 1/(1 − α)² (Hawkes).
    assert count.var() / count.mean() == pytest.approx(1 / 0.4**2, rel=0.15)


def test_a_forecast_knows_of_the_past_and_of_satisfaction():
    """Given sessions before the window and a factor, the mean over seeds is the forecast."""
    rates, users = rates_of(300), 300
    user, tick = np.arange(0, 300, 2), np.full(150, -round(DAY * TICKS))
    window, factor = (0, round(7 * DAY * TICKS)), np.where(np.arange(300) < 100, 1.4, 0.7)
    expected = expected_starts(rates, factor, user, tick, window)
    counts = np.zeros((40, users))
    for seed in range(40):
        came, _ = simulate(rates, factor, 1.5, user, tick, window, seed, 3)
        counts[seed] = np.bincount(came, minlength=users)
    for group in (slice(0, 100, 2), slice(1, 100, 2), slice(100, 300, 2), slice(101, 300, 2)):
        totals = counts[:, group].sum(1)
        assert totals.mean() == pytest.approx(expected[group].sum(), abs=4 * totals.std() / np.sqrt(40))


def test_gaps_are_those_of_theory():
    """In compensated time the gaps are those of a Poisson process, by Kolmogorov and Smirnov, and not correlated."""
    rates, days = rates_of(400), 60.0
    user, time = starts(rates, days, seed=4)
    order = np.lexsort((time, user))
    user, time = user[order], time[order]
    there, begin = np.unique(user, return_index=True)
    offsets = np.append(begin, len(user))
    terms = hawkes_terms(time, offsets, np.full(len(there), days * DAY), np.array([rates.decay]))
    found = rescaled(terms, np.array([rates.base[0], rates.branching, rates.branching]))
    assert found.p_value > 0.01
    assert abs(found.correlation) < 4 / np.sqrt(len(found.gaps))
    wrong = rescaled(terms, np.array([rates.base[0] / 0.4, 0.0, 0.0]))
    assert wrong.p_value < 1e-6


def test_a_refit_recovers_the_process():
    """Fitted to what was simulated, over some seeds, μ, α and ω are within four standard errors of their means."""
    rates, found = rates_of(200), []
    for seed in range(8):
        user, time = starts(rates, 120.0, seed)
        fitted = fit_rates(user, time, 120 * DAY, 200)
        found.append([np.mean(fitted.base) * DAY, fitted.branching, np.log(fitted.decay * DAY)])
    mean, error = np.mean(found, 0), np.std(found, 0, ddof=1) / np.sqrt(8)
    true = np.array([0.2, 0.6, np.log(0.5)])
    assert (np.abs(mean - true) <= 4 * error + 0.03 * np.abs(true)).all()
    assert (error < 0.05).all()


def test_users_differ_by_as_much_as_their_counts_spread_beyond_chance():
    """Var = m + m²/shape, so that the shape is Σ m² / Σ((count − m)² − m), within its bounds."""
    expected = np.array([2.0, 4.0, 1.0, 3.0])
    count = expected + np.array([3.0, -3.0, 2.0, -2.0])
    assert _shape(count, expected) == pytest.approx((4 + 16 + 1 + 9) / (9 + 9 + 4 + 4 - 10))
    assert _shape(expected, expected) == 1e4
    assert _shape(expected + 100.0, expected) == 0.1


def test_arms_share_candidates():
    """What a smaller factor keeps are sessions that a larger one keeps too, user by user."""
    rates = rates_of(100)
    few = set(zip(*(part.tolist() for part in starts(rates, 30, factor=0.5, most=1.6)), strict=True))
    many = set(zip(*(part.tolist() for part in starts(rates, 30, factor=1.2, most=1.6)), strict=True))
    assert few < many
    assert len(few) < 0.5 * len(many)


def played(config, agent):
    """A market that an agent has played to its end."""
    market = market_for(made := make_agent(agent), config)
    return play_out(market, made)


def test_without_kappa_all_arms_have_the_same_arrivals():
    """At κ = 0 ticks and visitors are equal whatever is shown; at κ > 0 they differ where satisfaction does."""
    alike, apart = (
        [
            [closed.ledger.schedule for closed in played(returning(kappa), agent).closed]
            for agent in ("relevance", "random")
        ]
        for kappa in (0.0, 1.0)
    )
    for one, other in zip(*alike, strict=True):
        np.testing.assert_array_equal(one.tick, other.tick)
        np.testing.assert_array_equal(one.id, other.id)
    np.testing.assert_array_equal(apart[0][0].tick, apart[1][0].tick)
    assert len(apart[0][2]) > len(apart[1][2])  # random slates satisfy less


@pytest.mark.parametrize("delay", [None, "3h"])
def test_satisfaction_is_what_was_taken(delay):
    """S ← ρS + (1 − ρ)·[taken], by hand from the ledger; users whose satisfaction is alike in two arms come alike."""
    config = returning(consumer=ConsumerConfig(delay=delay))
    markets = [played(config, agent) for agent in ("relevance", "random")]
    states = []
    for market in markets:
        process, past = market.arrivals, tuple(market.platform.rounds)
        found = process.satisfaction(RoundsSoFar(market.world, 0, past[:2]))
        state = np.full(len(found), 0.4)
        for closed in market.closed[:2]:
            for slot, taken in zip(closed.ledger.schedule.slot, closed.ledger.consumed.any(1), strict=True):
                state[slot] = 0.8 * state[slot] + 0.2 * taken
        # The store of kept users holds all three rounds, of which the first two are asked for.
        np.testing.assert_allclose(found, state)
        states.append(state)
    third = [market.closed[2].ledger.schedule for market in markets]
    if delay is not None:
        return  # what is taken late in a round is not known to the next
    same_before = states[0] == states[1]
    visits = [
        {(s, t) for s, t in zip(one.slot.tolist(), one.tick.tolist(), strict=True) if same_before[s]}
        for one in third
    ]
    differ = {s for s, _ in visits[0] ^ visits[1]}
    second = [market.closed[1].ledger.schedule for market in markets]
    for slot in differ:  # only where an earlier round had other visits
        assert set(second[0].tick[second[0].slot == slot]) != set(second[1].tick[second[1].slot == slot])


def test_agents_are_told_a_forecast():
    """They plan for as many arrivals as are expected, and guarantees are shares of those, not of what comes.

    After rounds that left users unsatisfied too, the forecast is the mean over seeds.
    """
    market = Market(returning())
    view, schedule = market.round_view(), market.schedule
    assert view.arrivals == round(schedule.forecast) != len(schedule)
    positions = round(schedule.forecast / len(schedule) * len(schedule) * market.config.slate)
    weights = market.open.promised.weights
    assert view.required.sum() / weights.mean() == pytest.approx(0.5 * positions, abs=1)
    play_out(market, make_agent("random"))
    past = tuple(market.platform.rounds)[:2]
    rounds = [market.arrivals.round(2, RoundsSoFar(market.world, seed, past)) for seed in range(20)]
    counts = np.array([len(one) for one in rounds])
    assert counts.mean() == pytest.approx(rounds[0].forecast, abs=4 * counts.std() / np.sqrt(20))


def test_a_market_of_kept_users_goes_on_from_its_state(tmp_path):
    """Saved after a round and loaded elsewhere, a market ends in the same ledgers."""
    config = returning()
    whole, agent = market_for(make_agent("relevance"), config), make_agent("relevance")
    play_round(whole, agent)
    whole.state.save(tmp_path / "state")
    other = Market(config)
    other.load_state(MarketState.load(tmp_path / "state"))
    for market in (whole, other):
        while not market.done:
            play_round(market, make_agent("relevance"), batch_size=7 if market is other else None)
    for closed, again in zip(whole.closed[1:], other.closed, strict=True):
        np.testing.assert_array_equal(closed.ledger.schedule.tick, again.ledger.schedule.tick)
        np.testing.assert_array_equal(closed.ledger.item, again.ledger.item)
        np.testing.assert_array_equal(closed.ledger.consumed, again.ledger.consumed)


def test_an_unstable_process_is_refused():
    """A κ with which satisfied users would come ever more often is told, with the largest that is allowed."""
    with pytest.raises(ConfigError, match=r"kappa is 9: .*branching ratio.*allowed: below") as told:
        Market(returning(9.0))
    branching, largest = (
        float(re.search(rf"{word} ([\d.]+)", str(told.value))[1].rstrip(".")) for word in ("of", "below")
    )
    assert largest == pytest.approx(-np.log(branching) / (1 - 0.4), rel=0.05)
    with pytest.raises(ConfigError, match="option 'memory' is 1"):
        Market(override(returning(), {"arrivals.options.memory": 1}))
