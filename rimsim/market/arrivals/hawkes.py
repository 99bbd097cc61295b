"""Returning users whose visit rates depend on their satisfaction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from rimsim import rng
from rimsim.arrays import TICKS, Bools, Floats, Ints, numbered, ticks
from rimsim.compiled import compiled
from rimsim.config import ScenarioConfig
from rimsim.config.fields import duration_seconds
from rimsim.data.log import EventLog, Sessions
from rimsim.errors import ConfigError, MarketError
from rimsim.market.arrivals.broadcast import drawn_sessions
from rimsim.market.arrivals.clones import events_before, inter_session_gaps, opening_after
from rimsim.market.arrivals.contract import Opening, RoundsSoFar
from rimsim.market.consumers.contract import World
from rimsim.market.histories import LoggedPast
from rimsim.market.records import VISIT_BITS, Schedule, delay_ticks, running_count

_DAY = 86_400.0
_MOST_BRANCHING = 0.95
"""Largest branching ratio; a process with a ratio of 1 or more would not be stable."""
_SLOWEST = 1 / (365 * _DAY)
_FASTEST = 1 / 3600.0
"""Lowest and highest decay rate that a fit can find, per second."""
_SHAPES = (0.1, 1e4)
"""Lowest and highest shape that a fit can find for the gamma distribution of users' rates."""
_ITERATIONS = 500
"""Largest number of steps of the EM algorithm."""
_TOLERANCE = 1e-7
"""Change of the parameters in a step below which the EM algorithm ends."""
_ROUND_BITS = 8
"""Number of high bits in a visit number, which hold the round. The lower bits count the user's visits in the round."""


@dataclass(frozen=True, eq=False)
class SessionRates:
    """Hawkes process of the times at which sessions start.

    The rate of a user u is λ_u(t) = μ_u + α·ω·Σ_{t_i < t} exp(−ω(t − t_i)) per second; t_i are its earlier starts.
    """

    base: Floats
    """(users,) base rate μ of each user, per second."""
    branching: float
    """α: expected number of sessions that a session causes directly, below 1."""
    decay: float
    """ω: rate per second at which the effect of a session fades."""


def fit_rates(user: Ints, start: Floats, stop: float, n_users: int) -> SessionRates:
    """Maximum-likelihood rates of session starts, by EM."""
    # The likelihood is conditional on each user's first session. Users' rates have a gamma distribution. Its shape
    # decides how much a user's own sessions count compared with the mean.
    order = np.lexsort((start, user))
    session_user = user[order]
    instant = start[order]
    first = np.ones(len(session_user), bool)
    first[1:] = session_user[1:] != session_user[:-1]
    window = np.zeros(n_users)  # seconds from each user's first session to the end
    window[session_user[first]] = np.maximum(stop - instant[first], 1.0)
    # At the start of the fit, half of the sessions are spontaneous, and an effect lasts three days on average.
    base = np.full(n_users, max((~first).sum(), 1) / max(window.sum(), 1.0) / 2)
    branching = 0.5
    decay = 1 / (3 * _DAY)
    for _ in range(_ITERATIONS):
        # E step: probability that each session is spontaneous, and not caused by an earlier session of the user.
        excited, lagged = _excitations(instant, first, decay)
        rate = base[session_user] + branching * decay * excited
        spontaneous = np.where(first, 0.0, base[session_user] / rate)
        n_caused = float((~first).sum() - spontaneous.sum())
        # M step. ``lag`` sums the lags of caused sessions after their causes. Its second part stands for the lags that
        # reach beyond the end of the log.
        time_left = stop - instant
        fade = np.exp(-decay * time_left)
        lag = float((branching * decay * lagged / rate)[~first].sum() + branching * (time_left * fade).sum())
        # Base rates are posterior means under a gamma prior with the mean rate of all users.
        mean = spontaneous.sum() / max(window.sum(), 1.0)
        n_spontaneous = np.bincount(session_user, spontaneous, n_users).astype(np.float64)
        shape = _shape(n_spontaneous, mean * window)
        new_base = (n_spontaneous + shape) / (window + shape / mean) if mean > 0 else np.zeros(n_users)
        new_branching = min(n_caused / max(float((1 - fade).sum()), 1e-12), _MOST_BRANCHING)
        new_decay = min(max(n_caused / max(lag, 1e-12), _SLOWEST), _FASTEST)
        change = abs(new_branching - branching) + abs(np.log(new_decay / decay))
        base = new_base
        branching = new_branching
        decay = new_decay
        if change < _TOLERANCE:
            break
    return SessionRates(base, branching, decay)


def _shape(count: Floats, expected: Floats) -> float:
    """Shape of the gamma distribution of users' rates, by moments."""
    # The expected value of (count − expected)² is expected + expected² / shape.
    excess = float(((count - expected) ** 2 - expected).sum())  # variance beyond that of Poisson counts
    shape = float((expected**2).sum()) / excess if excess > 0 else np.inf
    return min(max(shape, _SHAPES[0]), _SHAPES[1])


@compiled
def _excitations(instant: Floats, first: Bools, decay: float) -> tuple[Floats, Floats]:
    """Sums of exp(−ω·lag) and lag·exp(−ω·lag) over each session's earlier sessions."""
    # Sessions are sorted by user, then by time.
    excited = np.zeros(len(instant))
    lagged = np.zeros(len(instant))
    for n in range(1, len(instant)):
        if first[n]:
            continue
        pause = instant[n] - instant[n - 1]
        fade = np.exp(-decay * pause)
        excited[n] = fade * (excited[n - 1] + 1.0)
        lagged[n] = fade * (lagged[n - 1] + pause * (excited[n - 1] + 1.0))
    return excited, lagged


def expected_starts(
    rates: SessionRates, factor: Floats, user: Ints, tick: Ints, window: tuple[int, int]
) -> Floats:
    """Expected number of each user's session starts in a window."""
    # f, the ``factor`` (users,), multiplies each user's rate, and αf is below 1. Let x be the excitation by past
    # sessions. Its expectation follows x′ = −ω(1 − αf)·x + αωf·μ, whose solution decays to a limit. The expected number
    # is the integral of f(μ + x). ``user`` and ``tick`` (s,) are the sessions before the window.
    length = (window[1] - window[0]) / TICKS
    remaining_share = np.exp(-rates.decay * (window[0] - tick) / TICKS)
    # x at the start of the window.
    excitation = rates.branching * rates.decay * np.bincount(user, remaining_share, len(factor))
    relaxation = rates.decay * (1 - rates.branching * factor)  # ω(1 − αf)
    limit = rates.branching * rates.decay * factor * rates.base / relaxation
    integral = limit * length + (excitation - limit) * -np.expm1(-relaxation * length) / relaxation
    return np.asarray(factor * (rates.base * length + integral), np.float64)


def simulate(
    rates: SessionRates,
    factor: Floats,
    largest_factor: float,
    user: Ints,
    tick: Ints,
    window: tuple[int, int],
    seed: int,
    number: int,
) -> tuple[Ints, Ints]:
    """Users and ticks of session starts in a window."""
    # This thins a process with the larger factor f_max = ``largest_factor``. The larger process has spontaneous
    # sessions, and sessions that another session causes. All are candidates, drawn with keys: (seed, user, window, n)
    # for a spontaneous session, (seed, user, instant of the parent session, n) for any other. Each candidate is kept
    # with chance f/f_max. So two markets share all candidates, and differ only in the kept ones and their consequences.
    chance = factor / largest_factor
    spontaneous_user, spontaneous_tick = _spontaneous(rates, chance, largest_factor, window, seed, number)
    parents = np.concatenate([user, spontaneous_user]), np.concatenate([tick, spontaneous_tick])
    users = [spontaneous_user]
    ticks = [spontaneous_tick]
    while len(parents[0]):  # each pass finds the sessions that the sessions of the last pass cause
        parents = _children(rates, chance, largest_factor, parents, window, seed)
        users.append(parents[0])
        ticks.append(parents[1])
    # A user cannot start two sessions in the same microsecond. The pairs are sorted by tick, then by user.
    pairs = np.unique(np.column_stack([np.concatenate(ticks), np.concatenate(users)]), axis=0)
    return pairs[:, 1].copy(), pairs[:, 0].copy()


def _poisson(draw: Floats, mean: Floats | float) -> Ints:
    """Quantiles of Poisson variables at uniform random numbers."""
    return np.asarray(np.maximum(scipy.stats.poisson.ppf(draw, mean), 0), np.int64)


def _spontaneous(
    rates: SessionRates,
    chance: Floats,
    largest_factor: float,
    window: tuple[int, int],
    seed: int,
    number: int,
) -> tuple[Ints, Ints]:
    """Spontaneous sessions in the window: users and ticks."""
    purpose = rng.Purpose.ARRIVALS
    users = np.arange(len(rates.base))
    mean = rates.base * largest_factor * (window[1] - window[0]) / TICKS
    user, nth = numbered(_poisson(rng.uniform(seed, purpose, 20, number, users), mean))
    share = rng.uniform(seed, purpose, 21, number, user, nth)
    tick = window[0] + np.floor(share * (window[1] - window[0])).astype(np.int64)
    is_kept = rng.uniform(seed, purpose, 22, number, user, nth) < chance[user]
    return user[is_kept], tick[is_kept]


def _children(
    rates: SessionRates,
    chance: Floats,
    largest_factor: float,
    parents: tuple[Ints, Ints],
    window: tuple[int, int],
    seed: int,
) -> tuple[Ints, Ints]:
    """Sessions in the window that earlier sessions excite."""
    purpose = rng.Purpose.ARRIVALS
    user, tick = parents
    parent, nth = numbered(
        _poisson(rng.uniform(seed, purpose, 23, user, tick), rates.branching * largest_factor)
    )
    user = user[parent]
    tick = tick[parent]
    lag = rng.exponential(seed, purpose, 24, user, tick, nth) / rates.decay
    is_near = lag < 2 * (window[1] - tick) / TICKS  # larger lags could overflow as ticks
    user = user[is_near]
    tick = tick[is_near]
    nth = nth[is_near]
    lag = lag[is_near]
    is_kept = rng.uniform(seed, purpose, 25, user, tick, nth) < chance[user]
    start = tick + np.maximum(np.rint(lag * TICKS).astype(np.int64), 1)
    is_kept &= (start >= window[0]) & (start < window[1])
    return user[is_kept], start[is_kept]


@pydantic_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class HawkesOptions:
    """Options: change of satisfaction, and effect on visits."""

    kappa: float = Field(default=0.0, ge=0)
    """κ: multiplies rates by exp(κ(S − S₀)). 0: rates do not depend on slates."""
    neutral: float = Field(default=0.5, ge=0, le=1)
    """S₀, the satisfaction of all users at the beginning. With this satisfaction, users come as often as in the log."""
    memory: float = Field(default=0.8, ge=0, lt=1)
    """Weight of the old satisfaction after a visit. The outcome of the visit has the remaining weight."""


class HawkesArrivals:
    """Returning users, whose visits follow a fitted Hawkes process.

    A user u with satisfaction S_u visits at the rate λ_u(t) = exp(κ(S_u − S₀))·(μ_u + αω Σ_{t_i < t} exp(−ω(t − t_i))).
    From the next barrier on, a visit changes the satisfaction S to ρS + 1 − ρ if the visitor took an item, and to ρS
    otherwise. The parameters μ, α and ω are fitted to the log. If ``per_round`` is a number, all μ are multiplied by a
    factor, so that rounds have ``per_round`` arrivals in the long run if S = S₀.

    Every user of the log is a visitor from the first round on. The past of a visitor has the user's events before one
    of the user's later sessions, or all events if the user has one session. With ``draw: users``, the past of every
    user has all its events. The past is moved in time so that it ends one gap between sessions before the opening.
    """

    known_beforehand = False
    keeps_users = True

    def __init__(self, options: HawkesOptions, scenario: ScenarioConfig) -> None:
        self._options = options
        self._scenario = scenario
        self.hangs_on_outcomes = options.kappa > 0
        self._largest_factor = math.exp(options.kappa * (1 - options.neutral))  # at satisfaction 1
        self._wait = 1 + delay_ticks(scenario.consumer.delay)
        """Ticks from a consumption until it is visible to the platform."""

    def opening(self, log: EventLog) -> Opening:
        """Opening at the end of the log; see :func:`opening_after`."""
        return opening_after(log, self._scenario)

    def rates(self, world: World) -> SessionRates:
        """Rates of visits while satisfaction is S₀.

        Raises:
            ConfigError: If the visits of satisfied users would become more and more frequent.
        """
        session_rates = _fitted(world.past_sessions, world.opening, world.past.n_users)
        if session_rates.branching * self._largest_factor >= 1:
            largest_kappa = -math.log(session_rates.branching) / (1 - self._options.neutral)
            raise ConfigError(
                f"arrivals.options.kappa is {self._options.kappa:g}, so satisfied users would return more "
                f"and more often (the log's branching ratio is {session_rates.branching:.2f}). "
                f"Expected a number below {largest_kappa:.2g}"
            )
        per_round = self._scenario.arrivals.per_round
        if per_round is None:
            return session_rates
        length = duration_seconds(self._scenario.arrivals.round_length)
        # In the long run, each spontaneous session leads to 1 / (1 − α) sessions.
        usual = session_rates.base.sum() * length / (1 - session_rates.branching)
        return SessionRates(
            session_rates.base * per_round / usual, session_rates.branching, session_rates.decay
        )

    def satisfaction(self, so_far: RoundsSoFar) -> Floats:
        """Satisfaction of each user at the barrier."""
        state = np.full(so_far.world.past.n_users, self._options.neutral)
        if not so_far.past:
            return state
        opening = int(ticks(so_far.world.opening))
        slot = np.concatenate([past.schedule.slot for past in so_far.past])
        elapsed = np.concatenate([past.schedule.tick for past in so_far.past]) - opening
        slot_of_event, visible_from, _ = so_far.past[-1].histories.all_events()
        elapsed_of_event = visible_from - self._wait - opening
        # A visitor took an item if the visitor has an event at the instant of the visit.
        n_users = len(state)
        has_taken = np.isin(elapsed * n_users + slot, elapsed_of_event * n_users + slot_of_event)
        _move(state, slot, has_taken, self._options.memory)
        return state

    def round(self, number: int, so_far: RoundsSoFar) -> Schedule:
        """Visits of a round.

        Raises:
            MarketError: If a user has too many visits, or there are too many rounds.
        """
        world = so_far.world
        length = duration_seconds(self._scenario.arrivals.round_length)
        start, stop = (int(ticks(world.opening + n * length)) for n in (number, number + 1))
        rates = self.rates(world)
        factor = np.exp(self._options.kappa * (self.satisfaction(so_far) - self._options.neutral))
        logged, shift, user, tick = self._pasts(so_far)
        # ``user`` and ``tick`` are all sessions before the round: those of the log, then those of the market.
        user = np.concatenate([user, *(past.schedule.slot for past in so_far.past)])
        tick = np.concatenate([tick, *(past.schedule.tick for past in so_far.past)])
        forecast = float(expected_starts(rates, factor, user, tick, (start, stop)).sum())
        slot, visit_tick = simulate(
            rates,
            factor,
            largest_factor=self._largest_factor,
            user=user,
            tick=tick,
            window=(start, stop),
            seed=so_far.seed,
            number=number,
        )
        visit = running_count(slot)
        if number >> _ROUND_BITS or int(visit.max(initial=0)) >> (VISIT_BITS - _ROUND_BITS):
            raise MarketError(
                f"arrivals of round {number}: one user has {int(visit.max(initial=0)) + 1} visits. "
                f"Expected at most {1 << (VISIT_BITS - _ROUND_BITS)} visits per round, and "
                f"{1 << _ROUND_BITS} rounds"
            )
        everyone = np.arange(world.past.n_users)
        visit_counts = [np.bincount(past.schedule.slot, minlength=len(everyone)) for past in so_far.past]
        return Schedule(
            tick=visit_tick,
            id=(slot << VISIT_BITS) + (number << (VISIT_BITS - _ROUND_BITS)) + visit,
            slot=slot,
            user=everyone,
            log_user=everyone,
            shift=shift,
            session=np.full(len(visit_tick), -1, np.int64),
            start=start,
            stop=stop,
            logged=logged,
            forecast=forecast,
            earlier=sum(visit_counts, np.zeros_like(everyone)),
        )

    def _pasts(self, so_far: RoundsSoFar) -> tuple[Ints, Floats, Ints, Ints]:
        """Lengths and time shifts of users' pasts, and past sessions."""
        world = so_far.world
        sessions = so_far.world.past_sessions
        everyone = np.arange(world.past.n_users)
        n_before = events_before(sessions)
        arrivals = self._scenario.arrivals
        log = LoggedPast.of(world.past, empty=arrivals.history == "none")
        logged = np.diff(log.offsets)
        if arrivals.draw == "sessions":
            session = drawn_sessions(sessions, everyone, so_far.seed, 0)
            logged = np.where(session >= 0, np.minimum(n_before[session], logged), logged)
        has_past = logged > 0
        gaps = inter_session_gaps(sessions)
        draw = rng.uniform(so_far.seed, rng.Purpose.ARRIVALS, 26, everyone)
        shift = np.zeros(len(everyone))
        last_time = log.times[(log.offsets[:-1] + logged - 1)[has_past]]
        shift[has_past] = world.opening - gaps[(draw * len(gaps)).astype(np.int64)][has_past] - last_time
        # A session belongs to the past of its user if its first event does.
        is_past = n_before < logged[sessions.user]
        user = sessions.user[is_past]
        return logged.astype(np.int64), shift, user, ticks(sessions.start[is_past] + shift[user])


@lru_cache(maxsize=4)
def _fitted(sessions: Sessions, stop: float, n_users: int) -> SessionRates:
    """Rates fitted to a log's sessions, cached."""
    return fit_rates(sessions.user, sessions.start, stop, n_users)


@compiled
def _move(state: Floats, slots: Ints, taken: Bools, memory: float) -> None:
    """Update the satisfaction of users after their visits."""
    for n in range(len(slots)):
        remembered = memory * state[slots[n]]
        state[slots[n]] = remembered + (1.0 - memory) if taken[n] else remembered
