"""How λ* is fitted: a Poisson regression of session sizes, and an effect of each user."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import scipy

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints
from rimsim.intensity.states import UserStates, known_events
from rimsim.market.consumers.truths.contract import SizesReport
from rimsim.market.consumers.truths.sizes import SessionSizes, features_of

if TYPE_CHECKING:
    from rimsim.data.log import EventLog, LaterSessions


_SHRINKAGES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_ROUNDS = 8
"""Rounds in which the regression and the users' effects are fitted to each other."""
_FOLDS = 5
_SESSIONS = 50_000
"""Sessions that the shrinkage is chosen on at most: forty fits, of which a larger log would tell no more."""
_NEWTON = 12
_NEARLY_ALL = (0.02, 0.98)
"""The quantiles of later sessions to which features are held; a polynomial says nothing of what lies beyond."""
_RIDGE = 1e-3
"""Keeps the regression solvable where a feature does not vary."""


def fit_sizes(
    log: EventLog,
    gap: str | float,
    later: LaterSessions | None,
    weights: Ints | None = None,
) -> tuple[SessionSizes, SizesReport]:
    """Fit λ* to the sizes of a log's sessions.

    A Poisson regression on the state in which each session begins, times an effect of each user: the mean of size over
    regressed size, shrunk towards 1 by as many average sessions as foretell sessions best that are left out, a fifth
    of all sessions at a time, or of those of some users where there are more than 50,000. In the end first and later
    sessions are scaled, each apart, so that Σλ* over the log's sessions is the number of their events.

    Args:
        log: The log.
        gap: A silence longer than this ends a session.
        later: The log cut at later sessions, which λ* fitted to the past alone is judged on; None: there is none.
        weights: (users,) how often each user counts in the regression; None: once.

    Returns:
        λ*, and how it was fitted.
    """
    whole = _Sizes(log, gap)
    count, first = whole.count, whole.first
    some = whole.of_some_users(_SESSIONS)
    tried = [some.left_out(candidate) for candidate in _SHRINKAGES]
    best = int(np.argmin([float((size - some.count * np.log(size)).sum()) for size in tried]))
    shrinkage, left_out = _SHRINKAGES[best], tried[best]
    sizes = whole.fit(shrinkage, weights)
    forward, actual = np.zeros(0), np.zeros(0)
    if later is not None:
        states = UserStates.of(later.past, later.user, later.time)
        forward = _Sizes(later.past, gap).fit(shrinkage).expected(later.user, states)
        actual = later.count.astype(np.float64)
    tenths = np.array_split(np.argsort(left_out, kind="stable"), min(10, len(left_out)))
    report = SizesReport(
        mean=_mean(sizes.effect[whole.user] * np.exp(whole.features @ sizes.weights)),
        shrinkage=shrinkage,
        shrinkage_at_end=best in {0, len(_SHRINKAGES) - 1},
        first=_mean(count[first]),
        later=_mean(count[~first]),
        left_out_sessions=len(left_out),
        left_out_ratio_first=_ratio(left_out[some.first], some.count[some.first]),
        left_out_ratio_later=_ratio(left_out[~some.first], some.count[~some.first]),
        left_out_spearman=_rank_correlation(left_out, some.count),
        left_out_deciles=tuple((_mean(left_out[tenth]), _mean(some.count[tenth])) for tenth in tenths),
        forward_ratio=_ratio(forward, actual),
        forward_spearman=_rank_correlation(forward, actual),
    )
    return sizes, report


def _ratio(found: Floats, actual: Floats) -> float:
    return float(found.sum() / actual.sum()) if len(actual) else float("nan")


def _rank_correlation(found: Floats, actual: Floats) -> float:
    if len(found) < 2 or not np.ptp(found) or not np.ptp(actual):
        return float("nan")
    return float(scipy.stats.spearmanr(found, actual).statistic)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0


class _Sizes:
    """The sizes of a log's sessions, and the states in which they begin."""

    def __init__(self, log: EventLog, gap: str | float) -> None:
        sessions = log.sessions(gap)
        self.n_users = log.n_users
        self.user = sessions.user
        self.count = sessions.count.astype(np.float64)
        begin, end = known_events(log, sessions.user, sessions.start)
        number, last = end - begin, np.zeros(len(begin))
        some = number > 0
        last[some] = log.time[log.by_user[end[some] - 1]]
        known = number, sessions.start - last
        features = features_of(*known, np.array([[-np.inf, np.inf]] * 2))
        returning = features[features[:, 1] > 0][:, [2, 4]]
        edges = np.quantile(returning, _NEARLY_ALL, axis=0) if len(returning) else np.zeros((2, 2))
        self.bounds = np.ascontiguousarray(edges.T)
        self.features = features_of(*known, self.bounds)

    @property
    def first(self) -> Bools:
        """(s,) which sessions are their users' first."""
        return np.asarray(self.features[:, 0] > 0, np.bool_)

    def of_some_users(self, most: int) -> _Sizes:
        """The sessions of drawn users, so many at most; these themselves where they are no more."""
        if len(self.user) <= most:
            return self
        order = np.argsort(rng.uniform(0, rng.Purpose.MODEL, 28, np.arange(self.n_users)), kind="stable")
        together = np.cumsum(np.bincount(self.user, minlength=self.n_users)[order])
        drawn = np.zeros(self.n_users, bool)
        drawn[order[together <= most]] = True
        return self._rows(drawn[self.user])

    def left_out(self, shrinkage: float) -> Floats:
        """(s,) λ* of each session, fitted without it and the others of its fold."""
        found = np.empty(len(self.user))
        draw = rng.uniform(0, rng.Purpose.MODEL, 12, np.arange(len(found)))
        fold = (draw * _FOLDS).astype(np.int64)
        for number in range(_FOLDS):
            mine, others = fold == number, self._rows(fold != number)
            fitted = (others if len(others.user) else self).fit(shrinkage)
            found[mine] = fitted.effect[self.user[mine]] * np.exp(self.features[mine] @ fitted.weights)
        return found

    def _rows(self, keep: Bools) -> _Sizes:
        some = copy.copy(self)
        some.user, some.count, some.features = self.user[keep], self.count[keep], self.features[keep]
        return some

    def fit(self, shrinkage: float, weights: Ints | None = None) -> SessionSizes:
        """The regression and the effects, each fitted to the other in turn, calibrated at the end."""
        visits = np.bincount(self.user, minlength=self.n_users)
        effect = np.ones(self.n_users)
        repeated = np.ones(len(self.user)) if weights is None else weights[self.user].astype(np.float64)
        beta = np.zeros(self.features.shape[1])
        beta[:2] = np.log(np.average(self.count, weights=repeated))
        for _ in range(_ROUNDS):
            beta = self._regressed(beta, effect[self.user], repeated)
            relative = self.count / np.exp(self.features @ beta)
            own = np.bincount(self.user, weights=relative, minlength=self.n_users)
            effect = (shrinkage + own) / (shrinkage + visits)
        for column in (0, 1):
            mine = self.features[:, column] > 0
            if mine.any():
                size = effect[self.user[mine]] * np.exp(self.features[mine] @ beta)
                beta[column] += np.log(self.count[mine].sum() / size.sum())
        return SessionSizes(beta, effect, self.bounds)

    def _regressed(self, beta: Floats, effect: Floats, repeated: Floats) -> Floats:
        """Newton's method for the Poisson likelihood, on steps that never make it worse."""
        x, y = self.features, self.count

        def loss(b: Floats) -> float:
            linear = np.minimum(x @ b, 50.0)
            fitted = repeated * (effect * np.exp(linear) - y * linear)
            return float(fitted.sum() + 0.5 * _RIDGE * (b[2:] @ b[2:]))

        ridge = np.full(len(beta), _RIDGE)
        now = loss(beta)
        for _ in range(_NEWTON):
            size = repeated * effect * np.exp(np.minimum(x @ beta, 50.0))
            gradient = x.T @ (size - repeated * y) + ridge * np.r_[0.0, 0.0, beta[2:]]
            step = np.linalg.solve(x.T @ (x * size[:, None]) + np.diag(ridge), gradient)
            scale = 1.0
            while (new := loss(beta - scale * step)) > now and scale > 1e-6:
                scale /= 2
            if now - new < 1e-9 * max(1.0, abs(now)):
                break
            beta, now = beta - scale * step, new
        return beta
