"""Arrivals: sessions of the log, users who come back and providers who leave, against theory and by hand."""

import dataclasses
import functools
import math
import re

import numpy as np
import pytest
from kit import cases, refused, same_arrays
from kit.markets import play_out, played, resumed, same_ledgers, small_broadcast, small_run, small_scenario

from rimsim.agents import make_agent, market_for, play_round
from rimsim.arrays import TICKS
from rimsim.config import ArrivalsConfig, ConsumerConfig, ProvidersConfig, override
from rimsim.errors import ConfigError, MarketError
from rimsim.intensity.ground.hawkes import hawkes_terms, rescaled
from rimsim.market import Market, build_world
from rimsim.market.arrivals import RoundsSoFar, checked_schedule, make_arrivals
from rimsim.market.arrivals.clones import clones_at, events_before
from rimsim.market.arrivals.hawkes import SessionRates, _shape, expected_starts, fit_rates, simulate
from rimsim.market.providers import (
    BUILT_IN,
    Changes,
    Fixed,
    Offer,
    Roster,
    RoundOutcome,
    Viability,
    ViabilityOptions,
    _poisson,
    is_fixed,
)
from rimsim.market.records import VISIT_BITS
from rimsim.market.world import check_plugs
from rimsim.scenarios.runs.schema import TABLES
from rimsim.testing import ProviderTests, random_log
from rimsim.tracking import event_folder, read_scalars

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
    at_half = set(
        zip(*(part.tolist() for part in starts(rates, 30, factor=0.5, max_factor=1.6)), strict=True)
    )
    at_full = set(
        zip(*(part.tolist() for part in starts(rates, 30, factor=1.2, max_factor=1.6)), strict=True)
    )
    assert at_half < at_full
    assert len(at_half) < 0.5 * len(at_full)


def test_without_kappa_all_arms_have_the_same_arrivals():
    """At κ = 0 ticks and visitors are equal whatever is shown; at κ > 0 they differ where satisfaction does."""
    markets = [[played(returning(kappa), name) for name in ("relevance", "random")] for kappa in (0.0, 1.0)]
    alike, apart = (
        [[closed.ledger.schedule for closed in schedule.closed] for schedule in pair] for pair in markets
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


HARSH = {"decay": 0.5, "per_exposure": 0.1, "penalty": 1.0, "start": 1.0, "threshold": 0.9}
HARSH |= {"reserve": 0.2, "entry": 3.0}


def leaving(rounds=3, **changes):
    """A small market whose providers leave, and others come."""
    providers = ProvidersConfig("viability", tuple((HARSH | changes).items()))
    return small_scenario(rounds=rounds, providers=providers)


class TestBuiltIn(ProviderTests):
    """Who stay, who leave at once or are not there yet, and providers of several items keep what they promise."""

    @pytest.fixture(autouse=True, params=[None, HARSH, {"column": "genres", "threshold": 3.0, "start": 3.0}])
    def _options(self, request):
        self.options = request.param

    def make(self):
        """The providers of the case."""
        return Fixed() if self.options is None else Viability(ViabilityOptions(**self.options))


def test_satisfaction_follows_its_equation():
    """X ← δX + r_e·E + r_c·C − penalty·1[E = 0], by hand; who is below the threshold leaves, at it stays.

    Who comes is there from the next round on.
    """
    on_offer = np.array([True] * 3 + [False, True])
    roster = Roster(np.array([0, 0, 1, 2, 3, 4]), ("a", "b", "c", "d", "e"), on_offer, np.full(5, 2.0))
    # Provider b is not shown. Provider e is shown, but nobody takes its item: that costs no penalty.
    exposure = np.array([3, 1, 0, 5, 9, 8])
    consumption = np.array([1, 0, 0, 2, 4, 0])
    outcome = RoundOutcome(3, 0, roster, Offer.opening(roster), exposure, consumption)
    options = ViabilityOptions(decay=0.5, per_exposure=0.25, per_consumption=2.0, penalty=1.0, threshold=4.0)
    changes = Viability(options).end_of_round(outcome)
    np.testing.assert_array_equal(changes.satisfaction, [1 + 1 + 2, 1 - 1, 1 + 1.25 + 4, 2.0, 1 + 2])
    np.testing.assert_array_equal(changes.leaves, [False, True, False, False, True])
    after = outcome.offer.after(dataclasses.replace(changes, comes=~on_offer), 3)
    np.testing.assert_array_equal(after.left, [-1, 3, -1, -1, 3])
    np.testing.assert_array_equal(after.came, [0, 0, 0, 4, 0])
    np.testing.assert_array_equal(after.there, [True, False, True, True, False])


def test_entrants_are_as_many_as_the_living_say():
    """Their number has the mean entry × living share and grows with it at every seed; who leaves does not live."""
    log = random_log(n_items=200)
    viability = Viability(ViabilityOptions(reserve=0.5, entry=4.0, threshold=0.0, start=9.0))
    roster = viability.opening(log)
    everyone = Offer.opening(roster)
    counts = np.zeros((3, 300))
    has_left = roster.there & (np.arange(200) % 2 == 0)
    half = dataclasses.replace(everyone, left=np.where(has_left, 0, -1))
    leaving_now = dataclasses.replace(everyone, satisfaction=np.where(has_left, -9.0, everyone.satisfaction))
    nothing = np.zeros(200, np.int64)
    for seed in range(300):
        for row, offer in enumerate((half, leaving_now, everyone)):
            changes = viability.end_of_round(RoundOutcome(0, seed, roster, offer, nothing, nothing))
            counts[row, seed] = changes.comes.sum()
            assert not (changes.comes & roster.there).any()
    shares = np.array([half.there.sum(), half.there.sum(), 100]) / 100
    np.testing.assert_allclose(counts.mean(1), 4 * shares, atol=4 * np.sqrt(4 / 300))
    assert (counts[0] == counts[1]).all()
    assert (counts[0] <= counts[2]).all()
    assert [_poisson(u, 1.0) for u in (0.0, 0.367, 0.368, 0.735, 0.736)] == [0, 0, 1, 1, 2]


def test_a_provider_that_stays_away_is_unknown_to_the_platform():
    """The warm-up log has no event of what is held back; entrants are shown once they came."""
    config = leaving(threshold=-math.inf, entry=30.0)
    market = market_for(agent := make_agent("random"), config)
    reserved = ~market.world.roster.there
    assert not reserved[market.world.past.item].any()
    play_out(market, agent)
    first = market.closed[0]
    last = market.closed[-1]
    assert not first.ledger.exposure(market.n_items)[reserved].any()
    is_entrant = last.offer.came > 0
    assert is_entrant.any()
    assert last.ledger.exposure(market.n_items)[is_entrant].any()
    assert last.required[is_entrant].all()


def test_a_run_tells_who_left(tmp_path):
    """Leavers add up to what is not alive, and guarantees are each arm's own."""
    run = small_run(tmp_path / "run", ("relevance", "random"), leaving())
    moves = run.providers
    assert list(moves.columns) == list(TABLES["providers"].columns)
    assert "two_sides/providers_alive" in read_scalars(event_folder(run.folder, "random", 0))
    alive = run.rounds.set_index(["metric", "round", "agent"])["value"]["providers_alive", 2]
    opening = round(0.8 * len(run.catalogue))
    for agent in ("relevance", "random"):
        mine = moves[(moves["agent"] == agent) & (moves["round"] < 2)]
        leavers = (mine["event"] == "left").sum()
        entrants = (mine["event"] == "came").sum()
        assert leavers
        assert alive[agent] == pytest.approx((opening + entrants - leavers) / (opening + entrants))
    assert set(run.required["agent"]) == {"relevance", "random"}


@cases(
    "changes message",
    ({"providers.kind": "viable"}, "providers.kind 'viable' is unknown. Did you mean 'viability'"),
    ({"providers.options.decai": 1}, "'decai'.*Did you mean 'decay'"),
    ({"providers.options.decay": 2}, "option 'decay' is 2"),
)
def test_slips_are_told(changes, message):
    """An unknown kind, option or column of the item table, or a value out of range, is one sentence."""
    refused(ConfigError, message, lambda: check_plugs(override(leaving(), changes)))
    pattern = r"providers.options.column.*'genre'.*Did you mean 'genres'"
    refused(ConfigError, pattern, Viability(ViabilityOptions(column="genre")).opening, random_log())


def test_impossible_changes_are_told():
    """Who is not there cannot leave, who has been cannot come again, and no control plays where arms differ.

    Rules of one's own that say nothing of it are taken to let providers leave.
    """
    offer = Offer(np.zeros(2), np.array([0, -1]), np.array([-1, -1]))
    nobody = np.zeros(2, bool)
    all_leave = Changes(np.zeros(2), ~nobody, nobody)
    all_come = Changes(np.zeros(2), nobody, ~nobody)
    refused(MarketError, "a provider leaves before it came", offer.after, all_leave, 0)
    refused(MarketError, "comes a second time", offer.after, all_come, 0)
    refused(MarketError, "shapes", offer.after, Changes(np.zeros(3), nobody, nobody), 0)
    assert set(BUILT_IN) == {"none", "viability"}
    assert [is_fixed(rules) for rules in (Fixed(), object())] == [True, False]
    refused(ConfigError, "a control: with providers.kind 'viability'", Market, leaving(), control=object())


def test_providers_who_only_come_are_not_fixed():
    """Nobody leaves below a threshold of −∞; the roster is fixed only if, in addition, nobody is expected to come."""
    stay = {"threshold": -math.inf}
    fixed = [
        is_fixed(Viability(ViabilityOptions(**stay, reserve=reserve, entry=entry)))
        for reserve, entry in ((0.2, 5.0), (0.0, 5.0), (0.2, 0.0))
    ]
    assert fixed == [False, True, True]
    message = "a control: with providers.kind 'viability'"
    refused(ConfigError, message, Market, leaving(threshold=-math.inf, entry=5.0), control=object())


@functools.cache
def _schedule(**changes):
    config = small_scenario(arrivals=ArrivalsConfig(**({"per_round": 2_000, "max_visits": 2} | changes)))
    world = build_world(config)
    return make_arrivals(config).round(0, RoundsSoFar(world, 0)), world


def _starts(schedule, world):
    """The log's start of the session that each slot's past ends before: its first visit without the shift."""
    first = np.unique(schedule.slot, return_index=True)[1]
    return schedule.tick[first] / 1e6 - schedule.shift


def test_each_arrival_stands_for_a_session_with_the_past_before_it():
    """First-time and returning visitors have the log's mix, and a past ends where the session begins."""
    schedule, world = _schedule()
    first = np.unique(schedule.slot, return_index=True)[1]
    sessions = world.past_sessions
    log = world.past
    start = {(int(u), round(float(s), 3)) for u, s in zip(sessions.user, sessions.start, strict=True)}
    starts = _starts(schedule, world)
    for slot in range(0, len(first), 11):
        user = schedule.log_user[slot]
        assert (int(user), round(float(starts[slot]), 3)) in start
        assert schedule.logged[slot] == ((log.user == user) & (log.time < starts[slot] - 1e-3)).sum()
    fresh = (schedule.logged == 0)[schedule.slot].mean()
    share = (events_before(sessions) == 0).mean()
    assert abs(fresh - share) < 4 * np.sqrt(share * (1 - share) / len(schedule))


def test_visits_that_stand_for_one_session_are_those_of_one_clone():
    """A session drawn again is another visit of its clone up to max_visits; two sessions of a user are two clones."""
    schedule, world = _schedule()
    visits = np.bincount(schedule.slot)
    alike = {}
    assert (len(schedule), visits.max()) == (2_000, 2)
    assert set((schedule.id & ((1 << VISIT_BITS) - 1)).tolist()) == {0, 1}
    assert len(np.unique(schedule.user)) == len(schedule.user)
    for user, logged, count in zip(schedule.log_user, schedule.logged, visits, strict=True):
        alike.setdefault((user, logged), []).append(int(count))
    assert any(len(numbers) > 1 for numbers in alike.values())
    assert all(sum(count < 2 for count in numbers) <= 1 for numbers in alike.values())
    assert max(np.unique(schedule.log_user, return_counts=True)[1]) > 1
    assert np.isfinite(_starts(schedule, world)).all()


def test_visitors_come_as_long_after_their_last_event_as_in_the_log():
    """The silence before a first visit is that before the session, and a state holds the user's first events."""
    schedule, world = _schedule()
    market = Market(small_scenario(arrivals=ArrivalsConfig(per_round=2_000, max_visits=2)))
    np.testing.assert_array_equal(market.schedule.logged, schedule.logged)
    first = np.unique(schedule.slot, return_index=True)[1]
    slots = np.arange(len(schedule.user))
    states = market.open.histories.states(slots, np.zeros_like(slots), schedule.tick[first])
    np.testing.assert_array_equal(states.lengths, schedule.logged)
    log = world.past
    starts = _starts(schedule, world)
    for slot in np.flatnonzero(schedule.logged)[::13].tolist():
        mine = np.flatnonzero(log.user == schedule.log_user[slot])[: schedule.logged[slot]]
        seen = slice(states.offsets[slot], states.offsets[slot + 1])
        np.testing.assert_array_equal(states.items[seen], log.item[mine])
        silence = states.now[slot] - states.times[states.offsets[slot + 1] - 1]
        assert silence == pytest.approx(starts[slot] - log.time[mine[-1]], abs=1e-3)
        assert silence > 1800


def test_so_many_arrivals_that_ids_could_meet_are_refused():
    """An id has 62 bits for round, clone and visit; a past has no less than no event and, of users, no cut."""
    n = 1 << 16
    far = 1 << 29
    schedule, world = _schedule()
    assert _schedule(draw="users")[0].logged is None
    for number, max_visits, message in (
        (far, 5, r"found round 536870912 of clones of \d+ users and sessions. Expected at most \d+ rounds"),
        (0, 1, "found 65537 clones of one user. Expected at most 65536"),
        (0, 1 << 17, "found 65537 visits of one clone. Expected at most 65536"),
    ):
        times = np.zeros(n + 1)
        log_users = np.zeros(n + 1, int)
        so_far = RoundsSoFar(world, 0)
        refused(MarketError, message, clones_at, so_far, number, times, log_users, 0.0, 1.0, max_visits)
    assert len(clones_at(RoundsSoFar(world, 0), 0, np.zeros(n), np.zeros(n, int), 0.0, 1.0, 1)) == n
    for logged in (schedule.logged - schedule.logged.max() - 1, schedule.logged[1:]):
        wrong = dataclasses.replace(schedule, logged=logged)
        problem = "negative number of events|one length"
        refused(MarketError, problem, checked_schedule, wrong, 0, RoundsSoFar(world, 0))


def test_a_broadcast_goes_to_users_who_were_there_before():
    """Each user comes once, with what it did before one of its later sessions, or with all if it came once."""
    market = Market(small_broadcast(arrivals=ArrivalsConfig(kind="broadcast", per_round=None)))
    schedule = market.schedule
    world = market.world
    sessions = world.past_sessions
    before = events_before(world.past_sessions)
    assert len(np.unique(schedule.log_user)) == len(schedule) == len(np.unique(sessions.user))
    events = np.bincount(world.past.user, minlength=world.past.n_users)
    cut = 0
    for user, logged in zip(schedule.log_user.tolist(), schedule.logged.tolist(), strict=True):
        later = before[(sessions.user == user) & (before > 0)]
        assert logged in (later if len(later) else [events[user]])
        cut += len(later) > 0
    assert cut > 100


@cases(
    "draw truth",
    *(("kept", None), ("leaving", None)),
    *(("sessions", "factors"), ("sessions", "bag"), ("users", "factors")),
)
def test_a_saved_market_goes_on_with_the_same_users_pasts_and_providers(draw, truth, tmp_path):
    """Saved are users who stay, slots' cuts, and who left and came; played on in other batches, ledgers agree."""
    config = leaving() if draw == "leaving" else returning()
    name = "rim-feedback"
    if truth is not None:
        arrivals = ArrivalsConfig(per_round=60, max_visits=3, draw=draw)
        config = small_scenario(rounds=2, arrivals=arrivals, consumer=ConsumerConfig(truth=truth))
    uninterrupted = played(config, name)
    continued = resumed(config, name, tmp_path / "state", batch_size=7)
    same_ledgers(uninterrupted, continued)
    for closed, continued_round in zip(uninterrupted.closed, continued.closed, strict=True):
        same_arrays(closed.ledger, continued_round.ledger, "probability")
        same_arrays(closed.offer, continued_round.offer, "satisfaction")
    if draw == "leaving":
        assert uninterrupted.closed[0].changes.leaves.any()
        assert uninterrupted.closed[0].changes.comes.any()
