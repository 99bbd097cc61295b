"""Which truth a log gets: classes and ridges are judged on held-out later sessions, and the best is fitted anew."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rimsim import rng
from rimsim.errors import ConfigError, ModelError, nearest
from rimsim.market.consumers.truths.contract import Candidate, TruthReport
from rimsim.market.consumers.truths.factors import FactorsTruth
from rimsim.market.consumers.truths.fit_factors import fit_factors, fold_in
from rimsim.market.consumers.truths.fit_sizes import fit_sizes
from rimsim.market.consumers.truths.held_out import HeldOut, climb

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from rimsim.data.log import EventLog
    from rimsim.intensity.states import UserStates
    from rimsim.market.consumers.truths.contract import SizesReport, Truth
    from rimsim.market.consumers.truths.sizes import SessionSizes

__all__ = ["TRUTHS", "fit_truth"]

_PERSONAL = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
_NO_FIGURE = float("nan")


@dataclasses.dataclass(frozen=True)
class _Class:
    """A class of truths: how its candidates are judged, and how one of them is fitted to a log."""

    ridges: tuple[float, ...]
    """The grid, ascending."""
    start: int
    """The place of the grid at which the search begins, and what is taken where nothing can be held out."""
    judge: Callable[[HeldOut, float, int, int], list[Candidate]]
    """The candidates of a ridge; also told the rank and the seed."""
    fit: Callable[[EventLog, EventLog, Candidate, int, int, SessionSizes, TruthReport], Truth]
    """The truth of a candidate: fitted to one log, about the users of another."""


def _judge_factors(held_out: HeldOut, ridge: float, rank: int, seed: int) -> list[Candidate]:
    fitted = fit_factors(held_out.later.past, rank, ridge, seed)
    found = []
    for weight in _PERSONAL:
        weighted = fitted.personal(weight)

        def scores(users: NDArray[np.int64], states: UserStates) -> NDArray[np.float64]:  # noqa: ARG001
            return weighted.rows(users)  # noqa: B023  # called before the next weight

        found.append(Candidate("factors", ridge, weight, *held_out.judge(scores)))
    return found


def _fit_factors(
    log: EventLog,
    about: EventLog,
    best: Candidate,
    rank: int,
    seed: int,
    sizes: SessionSizes,
    report: TruthReport,
) -> FactorsTruth:
    fitted = fit_factors(log, rank, best.ridge, seed)
    if about is not log:
        fitted = fold_in(about, fitted, best.ridge)
    a, c, d = fitted.personal(best.personal)
    return FactorsTruth(a, c, d, sizes, report)


TRUTHS: dict[str, _Class] = {
    "factors": _Class((0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3), 4, _judge_factors, _fit_factors),
}
"""Name to class."""


def fit_truth(
    log: EventLog,
    *,
    gap: str | float,
    kind: str = "auto",
    rank: int = 16,
    seed: int = 0,
    bootstrap: int | None = None,
) -> Truth:
    """Choose a truth on held-out later sessions of a log, and fit it to the whole log.

    Candidates are fitted to the past of the cut and judged by the likelihood of what users consumed from it on, among
    what they had not consumed before. A grid of ridges is followed as long as it goes uphill.

    Args:
        log: The whole log, its future included.
        gap: A silence longer than this ends a session.
        kind: One of :data:`TRUTHS`, or ``auto``: the class is chosen too.
        rank: Number of factors.
        seed: Seed of the cut and of initial parameters.
        bootstrap: Fit it to a bootstrap of the log's users, drawn with this seed; every user of the log still has
            preferences and a λ* of its own. What is chosen is chosen on the log itself. None: the whole log.

    Raises:
        ConfigError: If there is no such class.
        ModelError: If the log is empty.
    """
    if kind != "auto" and kind not in TRUTHS:
        raise ConfigError(
            f"consumer.truth is {kind!r}{nearest(kind, TRUTHS)}; allowed: auto, {', '.join(TRUTHS)}"
        )
    if not len(log):
        raise ModelError("the truth is fitted to an empty log; allowed: at least one event")
    held_out = HeldOut.of(log, gap, seed)
    kinds = list(TRUTHS) if kind == "auto" else [kind]
    candidates, at_end = _judged(held_out, kinds, rank, seed)
    best = candidates[0]
    weights = None if bootstrap is None else _drawn_users(log.n_users, bootstrap)
    sizes, sizes_report = fit_sizes(log, gap, held_out.later if held_out else None, seed, weights)
    sessions = log.sessions(gap)
    report = _report(
        candidates, at_end[best.kind], held_out, sizes_report, len(log) / len(sessions), bootstrap
    )
    fitted_to = log if weights is None else _resampled(log, weights)
    return TRUTHS[best.kind].fit(fitted_to, log, best, rank, seed, sizes, report)


def _judged(
    held_out: HeldOut | None, kinds: list[str], rank: int, seed: int
) -> tuple[list[Candidate], dict[str, bool]]:
    """All candidates, best first, and for each class whether its best lies at the end of the grid."""
    if held_out is None:
        first = TRUTHS[kinds[0]]
        none = Candidate(kinds[0], first.ridges[first.start], 1.0, _NO_FIGURE, _NO_FIGURE)
        return [none], {kinds[0]: False}
    candidates, at_end = [], {}
    for kind in kinds:
        truth = TRUTHS[kind]
        found, at_end[kind] = climb(
            lambda ridge, truth=truth: truth.judge(held_out, ridge, rank, seed),  # type: ignore[misc]
            truth.ridges,
            truth.start,
        )
        candidates += found
    return sorted(candidates, key=lambda one: -one.log_likelihood), at_end


def _report(
    candidates: list[Candidate],
    ridge_at_end: bool,  # noqa: FBT001  # one of many figures
    held_out: HeldOut | None,
    sizes: SizesReport,
    per_session: float,
    bootstrap: int | None,
) -> TruthReport:
    best, bar = candidates[0], (_NO_FIGURE, _NO_FIGURE)
    if held_out is not None:
        past = held_out.later.past
        popularity = np.log(np.bincount(past.item, minlength=past.n_items) + 0.5)
        bar = held_out.judge(lambda users, states: np.tile(popularity, (len(users), 1)))  # noqa: ARG005
    return TruthReport(
        kind=best.kind,
        ridge=best.ridge,
        ridge_at_end=ridge_at_end,
        personal=best.personal,
        personal_at_end=held_out is not None and best.personal in {_PERSONAL[0], _PERSONAL[-1]},
        users=0 if held_out is None else len(held_out.user),
        log_likelihood=best.log_likelihood,
        precision=best.precision,
        popularity_log_likelihood=bar[0],
        popularity_precision=bar[1],
        candidates=tuple(candidates) if held_out is not None else (),
        events_per_session=per_session,
        expected_per_session=sizes.mean,
        sizes=sizes,
        bootstrap=bootstrap,
    )


def _drawn_users(n_users: int, seed: int) -> NDArray[np.int64]:
    """(users,) how often each user is drawn when as many are drawn with replacement."""
    draw = rng.uniform(seed, rng.Purpose.MODEL, 11, np.arange(n_users))
    return np.bincount((draw * n_users).astype(np.int64), minlength=n_users)


def _resampled(log: EventLog, times: NDArray[np.int64]) -> EventLog:
    """A log in which each user occurs so many times, as so many users."""
    first = np.cumsum(times) - times
    rows = np.repeat(np.arange(len(log)), times[log.user])
    copy = np.arange(len(rows)) - np.repeat(np.cumsum(times[log.user]) - times[log.user], times[log.user])
    resampled = log.rows(rows)
    users = log.users.iloc[np.repeat(np.arange(log.n_users), times)].reset_index(drop=True)
    return dataclasses.replace(resampled, user=first[resampled.user] + copy, users=users)
