"""Users who come back: each persists, and how often it comes hangs on how satisfied it is."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints, ticks
from rimsim.compiled import compiled
from rimsim.config.fields import duration_seconds
from rimsim.errors import ConfigError, MarketError
from rimsim.market.arrivals.broadcast import drawn_sessions
from rimsim.market.arrivals.clones import events_before, inter_session_gaps, opening_after
from rimsim.market.arrivals.schedule import VISIT_BITS, Schedule, running_count
from rimsim.market.arrivals.session_rates import SessionRates, expected_starts, fit_rates, simulate
from rimsim.market.clock import delay_ticks
from rimsim.market.histories import LoggedPast

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.data.log import EventLog, Sessions
    from rimsim.market.arrivals.contract import Opening, RoundsSoFar
    from rimsim.market.world import World


_ROUND_BITS = 8
"""An arrival's visit number holds its round, shifted by so many bits, and which of the round's visits it is."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class HawkesOptions:
    """How satisfaction moves, and what it does to how often users come."""

    kappa: float = Field(
        default=0.0,
        ge=0,
        description="κ: rates are multiplied by exp(κ(S − S₀)); 0: whatever they are shown.",
    )
    neutral: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="S₀: satisfaction at first, and at which users come as in the log.",
    )
    memory: float = Field(
        default=0.8,
        ge=0,
        lt=1,
        description="What a visit leaves of satisfaction; the rest is whether something was taken.",
    )


class Hawkes:
    """Session starts of each user follow a Hawkes process that is fitted to the log's, times exp(κ(S − S₀)).

    λ_u(t) = exp(κ(S_u − S₀))·(μ_u + αω Σ_{t_i < t} exp(−ω(t − t_i))). A visit moves satisfaction to ρS + 1 − ρ where
    something was taken, to ρS where nothing was; it counts from the next barrier on. α and ω are those of the log. With
    ``per_round``, all μ are multiplied so that so many come in a round in the long run while S = S₀; with null they are
    those of the log.

    Every user of the log is a visitor from the first round on. It comes with what it had done before one of its later
    sessions, with all where it came once, or with ``draw: users``; its past is moved so that it ends one inter-session
    gap before the opening.

    Args:
        options: κ, S₀ and ρ.
        scenario: Says how many come, how long a round is, and what they bring.
    """

    known_beforehand = False
    keeps_users = True

    def __init__(self, options: HawkesOptions, scenario: ScenarioConfig) -> None:
        self._options = options
        self._scenario = scenario
        self.hangs_on_outcomes = options.kappa > 0
        self._most = math.exp(options.kappa * (1 - options.neutral))
        self._wait = 1 + delay_ticks(scenario.consumer.delay)

    def opening(self, log: EventLog) -> Opening:
        """The market opens when the log ends; see :func:`rimsim.market.arrivals.opening_after`."""
        return opening_after(log, self._scenario)

    def rates(self, world: World) -> SessionRates:
        """The process while everyone is as satisfied as at first.

        Raises:
            ConfigError: If it would not be stable while everyone is satisfied.
        """
        fitted = _fitted(world.past_sessions, world.opening, world.past.n_users)
        if fitted.branching * self._most >= 1:
            largest = -math.log(fitted.branching) / (1 - self._options.neutral)
            raise ConfigError(
                f"arrivals.options.kappa is {self._options.kappa:g}: with a branching ratio of {fitted.branching:.2f} "
                f"in the log, satisfied users would come ever more often; allowed: below {largest:.2g}"
            )
        per_round = self._scenario.arrivals.per_round
        if per_round is None:
            return fitted
        length = duration_seconds(self._scenario.arrivals.round_length)
        usual = fitted.base.sum() * length / (1 - fitted.branching)
        return SessionRates(fitted.base * per_round / usual, fitted.branching, fitted.decay)

    def satisfaction(self, so_far: RoundsSoFar) -> Floats:
        """(users,) S of each user at the barrier."""
        state = np.full(so_far.world.past.n_users, self._options.neutral)
        if not so_far.past:
            return state
        opening = int(ticks(so_far.world.opening))
        slot = np.concatenate([past.schedule.slot for past in so_far.past])
        came = np.concatenate([past.schedule.tick for past in so_far.past]) - opening
        taker, known, _ = so_far.past[-1].histories.all_events()
        wide = len(state)
        taken = np.isin(came * wide + slot, (known - self._wait - opening) * wide + taker)
        _move(state, slot, taken, self._options.memory)
        return state

    def round(self, number: int, so_far: RoundsSoFar) -> Schedule:
        """The visits of a round.

        Raises:
            MarketError: If a user comes more often than can be counted, or there are too many rounds.
        """
        world, length = so_far.world, duration_seconds(self._scenario.arrivals.round_length)
        start, stop = (int(ticks(world.opening + n * length)) for n in (number, number + 1))
        rates = self.rates(world)
        factor = np.exp(self._options.kappa * (self.satisfaction(so_far) - self._options.neutral))
        logged, shift, user, tick = self._pasts(so_far)
        earlier = [(past.schedule.slot, past.schedule.tick) for past in so_far.past]
        user = np.concatenate([user, *(slot for slot, _ in earlier)])
        tick = np.concatenate([tick, *(came for _, came in earlier)])
        forecast = float(expected_starts(rates, factor, user, tick, (start, stop)).sum())
        slot, came = simulate(rates, factor, self._most, user, tick, (start, stop), so_far.seed, number)
        visit = running_count(slot)
        if number >> _ROUND_BITS or int(visit.max(initial=0)) >> (VISIT_BITS - _ROUND_BITS):
            raise MarketError(
                f"arrivals of round {number}: {int(visit.max(initial=0)) + 1} visits of one user; allowed: at most "
                f"{1 << (VISIT_BITS - _ROUND_BITS)} a round, and {1 << _ROUND_BITS} rounds"
            )
        everyone = np.arange(world.past.n_users)
        return Schedule(
            tick=came,
            id=(slot << VISIT_BITS) + (number << (VISIT_BITS - _ROUND_BITS)) + visit,
            slot=slot,
            user=everyone,
            log_user=everyone,
            shift=shift,
            session=np.full(len(came), -1, np.int64),
            start=start,
            stop=stop,
            logged=logged,
            forecast=forecast,
            earlier=sum(
                (np.bincount(slots, minlength=len(everyone)) for slots, _ in earlier), np.zeros_like(everyone)
            ),
        )

    def _pasts(self, so_far: RoundsSoFar) -> tuple[Ints, Floats, Ints, Ints]:
        """Events and shift (users,) of each user's past, and users and ticks (s,) of the sessions in it."""
        world, sessions = so_far.world, so_far.world.past_sessions
        everyone, before = np.arange(world.past.n_users), events_before(sessions)
        arrivals = self._scenario.arrivals
        log = LoggedPast.of(world.past, empty=arrivals.history == "none")
        logged = np.diff(log.offsets)
        if arrivals.draw == "sessions":
            session = drawn_sessions(sessions, everyone, so_far.seed, 0)
            logged = np.where(session >= 0, np.minimum(before[session], logged), logged)
        some = logged > 0
        gaps = inter_session_gaps(sessions)
        draw = rng.uniform(so_far.seed, rng.Purpose.ARRIVALS, 26, everyone)
        shift = np.zeros(len(everyone))
        last = log.times[(log.offsets[:-1] + logged - 1)[some]]
        shift[some] = world.opening - gaps[(draw * len(gaps)).astype(np.int64)][some] - last
        mine = before < logged[sessions.user]
        user = sessions.user[mine]
        return logged.astype(np.int64), shift, user, ticks(sessions.start[mine] + shift[user])


@lru_cache(maxsize=4)
def _fitted(sessions: Sessions, stop: float, n_users: int) -> SessionRates:
    """The rates of a log's sessions; once for all rounds and markets."""
    return fit_rates(sessions.user, sessions.start, stop, n_users)


@compiled
def _move(state: Floats, slots: Ints, taken: Bools, memory: float) -> None:
    """Move the satisfaction of users (in place) by their visits, in clock order."""
    for n in range(len(slots)):
        moved = memory * state[slots[n]]
        state[slots[n]] = moved + (1.0 - memory) if taken[n] else moved
