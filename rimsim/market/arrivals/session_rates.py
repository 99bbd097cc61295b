"""How often users come: a Hawkes process of session starts, fitted to a log, foretold and simulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints, numbered
from rimsim.compiled import compiled
from rimsim.durations import TICKS

_DAY = 86_400.0
_MOST_BRANCHING = 0.95
"""A process whose sessions excite one session each, or more, would not be stable."""
_SLOWEST, _FASTEST = 1 / (365 * _DAY), 1 / 3600.0
"""Rates of decay between which one is looked for, per second."""
_SHAPES = (0.1, 1e4)
"""Shapes of the gamma distribution of users' own rates between which one is looked for."""
_ITERATIONS = 500
_TOLERANCE = 1e-7


@dataclass(frozen=True, eq=False)
class SessionRates:
    """λ_u(t) = μ_u + α·ω·Σ_{t_i < t} exp(−ω(t − t_i)) session starts a second, t_i those of the user."""

    base: Floats
    """(users,) μ, per second."""
    branching: float
    """α: sessions that a session brings about by itself, below 1."""
    decay: float
    """ω, per second."""


def fit_rates(user: Ints, start: Floats, stop: float, n_users: int) -> SessionRates:
    """The rates that make session starts most likely, given each user's first, with users' own rates shrunk; by EM.

    Users' own rates have a gamma distribution, whose shape says how much a user's own sessions count against the mean.

    Args:
        user: (s,) whose session.
        start: (s,) when it starts, seconds.
        stop: Seconds until which all are observed.
        n_users: Users, of whom some may have no session.
    """
    order = np.lexsort((start, user))
    who, when = user[order], start[order]
    first = np.ones(len(who), bool)
    first[1:] = who[1:] != who[:-1]
    window = np.zeros(n_users)
    window[who[first]] = np.maximum(stop - when[first], 1.0)
    base = np.full(n_users, max((~first).sum(), 1) / max(window.sum(), 1.0) / 2)
    branching, decay = 0.5, 1 / (3 * _DAY)
    for _ in range(_ITERATIONS):
        excited, lagged = _excitations(when, first, decay)
        rate = base[who] + branching * decay * excited
        own = np.where(first, 0.0, base[who] / rate)
        children = float((~first).sum() - own.sum())
        waited = stop - when
        fade = np.exp(-decay * waited)
        lag = float((branching * decay * lagged / rate)[~first].sum() + branching * (waited * fade).sum())
        mean = own.sum() / max(window.sum(), 1.0)
        mine = np.bincount(who, own, n_users).astype(np.float64)
        shape = _shape(mine, mean * window)
        new_base = (mine + shape) / (window + shape / mean) if mean > 0 else np.zeros(n_users)
        new_branching = min(children / max(float((1 - fade).sum()), 1e-12), _MOST_BRANCHING)
        new_decay = min(max(children / max(lag, 1e-12), _SLOWEST), _FASTEST)
        moved = abs(new_branching - branching) + abs(np.log(new_decay / decay))
        base, branching, decay = new_base, new_branching, new_decay
        if moved < _TOLERANCE:
            break
    return SessionRates(base, branching, decay)


def _shape(count: Floats, expected: Floats) -> float:
    """The shape of users' rates by moments: counts vary by Σ expected + Σ expected² / shape around what is expected."""
    beyond = float(((count - expected) ** 2 - expected).sum())
    shape = float((expected**2).sum()) / beyond if beyond > 0 else np.inf
    return min(max(shape, _SHAPES[0]), _SHAPES[1])


@compiled
def _excitations(when: Floats, first: Bools, decay: float) -> tuple[Floats, Floats]:
    """(s,) Σ exp(−ω·lag) and Σ lag·exp(−ω·lag) over a user's earlier sessions; sessions by user, then time."""
    excited, lagged = np.zeros(len(when)), np.zeros(len(when))
    for n in range(1, len(when)):
        if first[n]:
            continue
        pause = when[n] - when[n - 1]
        fade = np.exp(-decay * pause)
        excited[n] = fade * (excited[n - 1] + 1.0)
        lagged[n] = fade * (lagged[n - 1] + pause * (excited[n - 1] + 1.0))
    return excited, lagged


def expected_starts(
    rates: SessionRates, factor: Floats, user: Ints, tick: Ints, window: tuple[int, int]
) -> Floats:
    """(users,) session starts that are expected in a window, given all before it, each rate times a factor.

    With x the excitation of the past, x′ = −ω(1 − αf)·x + αωf·μ has a closed form, and f(μ + x) is integrated.

    Args:
        rates: The process.
        factor: (users,) f, with αf below 1.
        user: (s,) whose session started before the window.
        tick: (s,) when.
        window: Ticks at which the window begins and ends.
    """
    length = (window[1] - window[0]) / TICKS
    fade = np.exp(-rates.decay * (window[0] - tick) / TICKS)
    excited = rates.branching * rates.decay * np.bincount(user, fade, len(factor))
    slowing = rates.decay * (1 - rates.branching * factor)
    level = rates.branching * rates.decay * factor * rates.base / slowing
    area = level * length + (excited - level) * -np.expm1(-slowing * length) / slowing
    return np.asarray(factor * (rates.base * length + area), np.float64)


def simulate(
    rates: SessionRates,
    factor: Floats,
    most: float,
    user: Ints,
    tick: Ints,
    window: tuple[int, int],
    seed: int,
    number: int,
) -> tuple[Ints, Ints]:
    """Session starts in a window, by thinning of a process with a larger factor.

    The process is one of clusters: sessions that come by themselves, and those that a session brings about. Candidates
    of the larger process are drawn by keys, those that come by themselves by (seed, user, window, n), others by (seed,
    user, instant of the session that brings them about, n), and each is kept with chance f/f_max. So two markets share
    candidates, and differ only in what satisfaction keeps of them and what follows from that.

    Args:
        rates: The process.
        factor: (users,) f in the window.
        most: f_max, at least every f.
        user: (s,) whose session started before the window.
        tick: (s,) when.
        window: Ticks at which the window begins and ends.
        seed: Seed of arrivals.
        number: The window.

    Returns:
        Users and ticks (n,) of the starts, by tick, then user.
    """
    kept = factor / most
    found_user, found_tick = _by_themselves(rates, kept, most, window, seed, number)
    parents = np.concatenate([user, found_user]), np.concatenate([tick, found_tick])
    users, ticks = [found_user], [found_tick]
    while len(parents[0]):
        parents = _children(rates, kept, most, parents, window, seed)
        users.append(parents[0])
        ticks.append(parents[1])
    everyone, instants = np.concatenate(users), np.concatenate(ticks)
    pairs = np.unique(
        np.column_stack([instants, everyone]), axis=0
    )  # nobody starts twice within a microsecond
    return pairs[:, 1].copy(), pairs[:, 0].copy()


def _poisson(draw: Floats, mean: Floats | float) -> Ints:
    """Quantiles of Poisson variables at uniform draws."""
    return np.asarray(np.maximum(scipy.stats.poisson.ppf(draw, mean), 0), np.int64)


def _by_themselves(
    rates: SessionRates, kept: Floats, most: float, window: tuple[int, int], seed: int, number: int
) -> tuple[Ints, Ints]:
    purpose, everyone = rng.Purpose.ARRIVALS, np.arange(len(rates.base))
    mean = rates.base * most * (window[1] - window[0]) / TICKS
    user, n = numbered(_poisson(rng.uniform(seed, purpose, 20, number, everyone), mean))
    share = rng.uniform(seed, purpose, 21, number, user, n)
    tick = window[0] + np.floor(share * (window[1] - window[0])).astype(np.int64)
    stays = rng.uniform(seed, purpose, 22, number, user, n) < kept[user]
    return user[stays], tick[stays]


def _children(
    rates: SessionRates,
    kept: Floats,
    most: float,
    parents: tuple[Ints, Ints],
    window: tuple[int, int],
    seed: int,
) -> tuple[Ints, Ints]:
    """Sessions in the window that some sessions bring about."""
    purpose, (user, tick) = rng.Purpose.ARRIVALS, parents
    row, n = numbered(_poisson(rng.uniform(seed, purpose, 23, user, tick), rates.branching * most))
    user, tick = user[row], tick[row]
    lag = rng.exponential(seed, purpose, 24, user, tick, n) / rates.decay
    inside = lag < 2 * (window[1] - tick) / TICKS  # beyond, ticks could overflow
    user, tick, n, lag = user[inside], tick[inside], n[inside], lag[inside]
    stays = rng.uniform(seed, purpose, 25, user, tick, n) < kept[user]
    born = tick + np.maximum(np.rint(lag * TICKS).astype(np.int64), 1)
    stays &= (born >= window[0]) & (born < window[1])
    return user[stays], born[stays]
