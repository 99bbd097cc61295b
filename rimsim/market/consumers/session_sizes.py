"""Session sizes λ* of users, and their fit."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import scipy

from rimsim import rng
from rimsim.arrays import TICKS, Bools, Floats, Ints
from rimsim.compiled import compiled
from rimsim.data.log import EventLog, LaterSessions
from rimsim.intensity.states import UserStates, known_events
from rimsim.market.histories import Events, Histories

_DAY = 86_400.0
_SOONEST = 1.0
"""Shortest time since the last event, in seconds; shorter times count as this time."""
_SHRINKAGES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Shrinkages that are tried: numbers of average sessions that are added to a user's own sessions."""
_ROUNDS = 8
"""Number of times that the regression and the users' effects are fitted in turn."""
_FOLDS = 5
"""Number of folds of the cross-validation that chooses the shrinkage."""
_SESSIONS = 50_000
"""Largest number of sessions on which the shrinkage is chosen, by a fit per shrinkage and fold. More sessions would
barely change the choice."""
_NEWTON = 12
"""Largest number of Newton steps of a regression."""
_NEARLY_ALL = (0.02, 0.98)
"""Quantiles, over returning sessions, that bound the features; beyond them, a polynomial would extrapolate badly."""
_RIDGE = 1e-3
"""Ridge penalty that keeps the regression solvable if a feature does not vary."""


@dataclass(frozen=True)
class SizesReport:
    """Report on the fit of λ* and on left-out sessions."""

    mean: float
    """Mean of λ* over the log's sessions, which is calibrated to the mean number of events per session."""
    shrinkage: float
    """Number of average sessions that are added to a user's own sessions."""
    shrinkage_at_end: bool
    """True if the chosen shrinkage is the smallest or largest of the grid."""
    first: float
    """Mean number of events in users' first sessions."""
    later: float
    """Mean number of events in users' later sessions."""
    left_out_sessions: int
    """Number of sessions, or of sampled sessions, that were left out: λ* of each is fitted without it. The choice of
    the shrinkage and the fields ``left_out_…`` use these sessions."""
    left_out_ratio_first: float
    """Σλ* over Σ events of left-out first sessions; NaN without such sessions."""
    left_out_ratio_later: float
    """Σλ* over Σ events of left-out later sessions; NaN without such sessions."""
    left_out_spearman: float
    """Rank correlation of λ* with the number of events of left-out sessions."""
    left_out_deciles: tuple[tuple[float, float], ...]
    """Mean λ* and mean number of events in each tenth of the left-out sessions, sorted by λ*."""
    forward_ratio: float
    """Σλ* over Σ events of held-out later sessions; here λ* is fitted to earlier events only."""
    forward_spearman: float
    """Rank correlation of λ* with the number of events of held-out later sessions; here λ* is fitted to earlier events
    only."""


@dataclass(frozen=True, eq=False)
class SessionSizes:
    """λ*(x) = effect of the user · exp(⟨weights, features of the state⟩).

    A visitor without events has the features (1, 0, 0, 0, 0, 0). A visitor with n events, the last of them r days ago,
    has the features (0, 1, log(1 + n), log(1 + n)², log r, log² r). Both n and r are limited to the range of nearly all
    later sessions of the log. The reason is that a visitor may return sooner, or with fewer events, than any user of
    the log.
    """

    weights: Floats
    """(6,) weights of the features."""
    effect: Floats
    """(users,) each log user's consumptions per session, relative to the average."""
    bounds: Floats
    """(2, 2) smallest and largest log(1 + n), and smallest and largest log r. n is the number of events, r the time
    since the last one."""

    def expected(self, users: Ints, states: UserStates) -> Floats:
        """λ* of users whose sessions begin in given states."""
        features = features_of(*known_of(states), self.bounds)
        return np.asarray(self.effect[users] * np.exp(features @ self.weights), np.float64)

    def of_visits(self, histories: Histories, slots: Ints, ticks: Ints, delay: int) -> Floats:
        """λ* of visits, given the consumptions before each."""
        # ``delay`` is the number of ticks until a consumption is known.
        sizes = np.empty(len(slots))
        _sizes_of_visits(slots, ticks, self.effect[histories.log_user[slots]], self.weights, self.bounds,
            histories.length, histories.last_logged, histories.events, delay, sizes)  # fmt: skip
        return sizes


@compiled
def _sizes_of_visits(slots: Ints, ticks: Ints, effect: Floats, weights: Floats, bounds: Floats, length:
    Ints, last_logged: Floats, events: Events, delay: int, sizes: Floats) -> None:  # fmt: skip
    """Fill in λ*, computed from consumptions before each visit."""
    # Each look-up of a record's array counts a reference, which is too slow within a loop.
    counts = events.counts
    newest = events.newest
    first = events.first
    event_tick = events.tick
    following = events.next
    for n in range(len(slots)):
        slot = slots[n]
        # An event is visible ``delay`` + 1 ticks after it happened. So events before the visit are visible by then.
        until = ticks[n] + delay
        n_events = length[slot]
        last_time = last_logged[slot]
        if counts[slot] and newest[slot] <= until:
            n_events += counts[slot]
            last_time = (newest[slot] - delay) / TICKS
        elif counts[slot]:
            place = first[slot]  # of the oldest event in the linked list
            while event_tick[place] <= until:  # this ends at the newest event at the latest
                n_events += 1
                last_time = (event_tick[place] - delay) / TICKS
                place = following[place]
        if n_events == 0:
            sizes[n] = effect[n] * math.exp(weights[0])
            continue
        count = math.log(1.0 + n_events)
        recency = math.log(max(ticks[n] / TICKS - last_time, _SOONEST) / _DAY)
        count = min(max(count, bounds[0, 0]), bounds[0, 1])
        recency = min(max(recency, bounds[1, 0]), bounds[1, 1])
        log_size = weights[1] + weights[2] * count + weights[3] * count * count
        sizes[n] = effect[n] * math.exp(log_size + weights[4] * recency + weights[5] * recency * recency)


def known_of(states: UserStates) -> tuple[Ints, Floats]:
    """Number of events per state; seconds since the last one."""
    # A state without events gets 0 seconds.
    number = states.lengths
    has_events = number > 0
    last_time = np.zeros(len(number))
    last_time[has_events] = states.times[states.offsets[1:][has_events] - 1]
    return number, states.now - last_time


def features_of(n_events: Ints, since_last: Floats, bounds: Floats) -> Floats:
    """Features of states, clipped to ``bounds``."""
    # ``since_last`` (n,) is the time since the last event, in seconds.
    is_returning = n_events > 0
    count = np.clip(np.log(1.0 + n_events), *bounds[0])
    recency = np.clip(np.log(np.maximum(since_last, _SOONEST) / _DAY), *bounds[1])
    columns = (np.ones(len(n_events)), count, count**2, recency, recency**2)
    return np.column_stack([~is_returning, *(np.where(is_returning, column, 0.0) for column in columns)])


def fit_sizes(
    log: EventLog, gap: str | float, later: LaterSessions | None, weights: Ints | None = None
) -> tuple[SessionSizes, SizesReport]:
    """λ* fitted to the session sizes of a log.

    A Poisson regression predicts the size of a session from the state in which it begins. The prediction is multiplied
    by an effect of the user: the mean ratio of actual to predicted sizes, shrunk towards 1. Five-fold cross-validation
    over sessions (of sampled users if there are more than 50,000 sessions) chooses the shrinkage. Finally first and
    later sessions are scaled separately, so that Σλ* equals the number of events.

    Args:
        later: Log cut at later sessions; their sizes are compared with λ* fitted to the past. None: no comparison.
        weights: Number of times that each user counts in the regression; None: once.
    """
    all_sizes = _Sizes(log, gap)
    count = all_sizes.count
    first = all_sizes.first
    sampled = all_sizes.of_some_users(_SESSIONS)
    left_out_sizes = [sampled.left_out(shrinkage) for shrinkage in _SHRINKAGES]
    # Negative Poisson log-likelihoods of the session sizes, up to a constant.
    losses = [float((size - sampled.count * np.log(size)).sum()) for size in left_out_sizes]
    best = int(np.argmin(losses))
    shrinkage = _SHRINKAGES[best]
    left_out = left_out_sizes[best]
    sizes = all_sizes.fit(shrinkage, weights)
    forward = np.zeros(0)
    actual = np.zeros(0)
    if later is not None:
        states = UserStates.of(later.past, later.user, later.time)
        forward = _Sizes(later.past, gap).fit(shrinkage).expected(later.user, states)
        actual = later.count.astype(np.float64)
    tenths = np.array_split(np.argsort(left_out, kind="stable"), min(10, len(left_out)))
    report = SizesReport(
        mean=_mean(sizes.effect[all_sizes.user] * np.exp(all_sizes.features @ sizes.weights)),
        shrinkage=shrinkage,
        shrinkage_at_end=best in {0, len(_SHRINKAGES) - 1},
        first=_mean(count[first]),
        later=_mean(count[~first]),
        left_out_sessions=len(left_out),
        left_out_ratio_first=_ratio(left_out[sampled.first], sampled.count[sampled.first]),
        left_out_ratio_later=_ratio(left_out[~sampled.first], sampled.count[~sampled.first]),
        left_out_spearman=_rank_correlation(left_out, sampled.count),
        left_out_deciles=tuple((_mean(left_out[tenth]), _mean(sampled.count[tenth])) for tenth in tenths),
        forward_ratio=_ratio(forward, actual),
        forward_spearman=_rank_correlation(forward, actual),
    )
    return sizes, report


def _ratio(predicted: Floats, actual: Floats) -> float:
    """Total of predictions over the actual total, or NaN."""
    return float(predicted.sum() / actual.sum()) if len(actual) else float("nan")


def _rank_correlation(predicted: Floats, actual: Floats) -> float:
    """Spearman's correlation; NaN if a variable does not vary."""
    if len(predicted) < 2 or not np.ptp(predicted) or not np.ptp(actual):
        return float("nan")
    return float(scipy.stats.spearmanr(predicted, actual).statistic)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0


class _Sizes:
    """Session sizes of a log, with the states before them."""

    def __init__(self, log: EventLog, gap: str | float) -> None:
        sessions = log.sessions(gap)
        self.n_users = log.n_users
        self.user = sessions.user
        self.count = sessions.count.astype(np.float64)
        begin, end = known_events(log, sessions.user, sessions.start)
        n_events = end - begin
        last_time = np.zeros(len(begin))
        is_returning = n_events > 0
        last_time[is_returning] = log.time[log.by_user[end[is_returning] - 1]]
        since_last = sessions.start - last_time
        no_bounds = np.array([[-np.inf, np.inf]] * 2)
        unbounded = features_of(n_events, since_last, no_bounds)
        count_and_recency = unbounded[unbounded[:, 1] > 0][:, [2, 4]]  # of returning sessions
        has_returning = len(count_and_recency) > 0
        quantiles = np.quantile(count_and_recency, _NEARLY_ALL, axis=0) if has_returning else np.zeros((2, 2))
        self.bounds = np.ascontiguousarray(quantiles.T)
        self.features = features_of(n_events, since_last, self.bounds)

    @property
    def first(self) -> Bools:
        """Mask of users' first sessions."""
        return np.asarray(self.features[:, 0] > 0, np.bool_)

    def of_some_users(self, limit: int) -> _Sizes:
        """Sessions of sampled users, at most ``limit``."""
        if len(self.user) <= limit:
            return self
        order = np.argsort(rng.uniform(0, rng.Purpose.MODEL, 28, np.arange(self.n_users)), kind="stable")
        n_sessions = np.cumsum(np.bincount(self.user, minlength=self.n_users)[order])
        is_sampled = np.zeros(self.n_users, bool)
        is_sampled[order[n_sessions <= limit]] = True
        return self._rows(is_sampled[self.user])

    def left_out(self, shrinkage: float) -> Floats:
        """λ* of each session, fitted without its fold."""
        sizes = np.empty(len(self.user))
        draw = rng.uniform(0, rng.Purpose.MODEL, 12, np.arange(len(sizes)))
        fold = (draw * _FOLDS).astype(np.int64)
        for number in range(_FOLDS):
            in_fold = fold == number
            other_folds = self._rows(fold != number)
            other_fit = (other_folds if len(other_folds.user) else self).fit(shrinkage)
            regression = np.exp(self.features[in_fold] @ other_fit.weights)
            sizes[in_fold] = other_fit.effect[self.user[in_fold]] * regression
        return sizes

    def _rows(self, keep: Bools) -> _Sizes:
        """Sessions of a mask, with the same users and bounds."""
        sessions = copy.copy(self)
        sessions.user = self.user[keep]
        sessions.count = self.count[keep]
        sessions.features = self.features[keep]
        return sessions

    def fit(self, shrinkage: float, weights: Ints | None = None) -> SessionSizes:
        """λ*: regression and user effects, fitted in turn, then calibrated."""
        n_sessions = np.bincount(self.user, minlength=self.n_users)
        effect = np.ones(self.n_users)
        n_copies = np.ones(len(self.user)) if weights is None else weights[self.user].astype(np.float64)
        beta = np.zeros(self.features.shape[1])
        beta[:2] = np.log(np.average(self.count, weights=n_copies))
        for _ in range(_ROUNDS):
            beta = self._regressed(beta, effect[self.user], n_copies)
            relative_size = self.count / np.exp(self.features @ beta)
            sum_of_user = np.bincount(self.user, weights=relative_size, minlength=self.n_users)
            # A mean over the user's sessions and over ``shrinkage`` further sessions of relative size 1.
            effect = (shrinkage + sum_of_user) / (shrinkage + n_sessions)
        for column in (0, 1):  # columns that are 1 in first sessions, and in later ones
            rows = self.features[:, column] > 0
            if rows.any():
                size = effect[self.user[rows]] * np.exp(self.features[rows] @ beta)
                beta[column] += np.log(self.count[rows].sum() / size.sum())
        return SessionSizes(weights=beta, effect=effect, bounds=self.bounds)

    def _regressed(self, beta: Floats, effect: Floats, n_copies: Floats) -> Floats:
        """Regression weights by Newton steps that never worsen the fit.

        Each session counts ``n_copies`` times, and ``effect`` is the effect of its user.
        """
        x = self.features
        y = self.count

        def loss(b: Floats) -> float:
            """Negative Poisson log-likelihood up to a constant, with ridge."""
            log_rate = np.minimum(x @ b, 50.0)  # so that no exponential overflows
            losses = n_copies * (effect * np.exp(log_rate) - y * log_rate)
            return float(losses.sum() + 0.5 * _RIDGE * (b[2:] @ b[2:]))  # both intercepts are free

        ridge = np.full(len(beta), _RIDGE)
        best = loss(beta)
        for _ in range(_NEWTON):
            expected = n_copies * effect * np.exp(np.minimum(x @ beta, 50.0))
            gradient = x.T @ (expected - n_copies * y) + ridge * np.r_[0.0, 0.0, beta[2:]]
            step = np.linalg.solve(x.T @ (x * expected[:, None]) + np.diag(ridge), gradient)
            scale = 1.0
            while (new := loss(beta - scale * step)) > best and scale > 1e-6:  # halve a step that overshoots
                scale /= 2
            if best - new < 1e-9 * max(1.0, abs(best)):
                break
            beta = beta - scale * step
            best = new
        return beta
