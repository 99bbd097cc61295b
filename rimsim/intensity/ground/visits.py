"""Model ``visits``: expected session size from a user's earlier sessions."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats, Ints
from rimsim.compiled import compiled
from rimsim.data.log import EventLog
from rimsim.intensity.contract import Hidden, Walk, in_blocks, stepped
from rimsim.intensity.ground.contract import Ground, GroundConfig, minimum_of
from rimsim.intensity.states import CountExamples, UserStates

TERMS = (
    "first visit",
    "returning visit",
    "size of the first session",
    "mean size of later sessions",
    "size of the newest session",
    "second visit",
    "number of sessions",
    "time since the last event",
)
"""Columns of :func:`terms`. The first, second and sixth are 0 or 1; sizes, number and time are logarithms."""
_HIGHEST = 30.0
"""Largest log λ in the search for weights. No session has e^30 events, and larger exponentials overflow."""
_NARROW = 0.1
"""Smallest unit of a term. The unit is the term's standard deviation, but a term that barely varies in the log must not
get a huge weight."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class VisitsConfig(GroundConfig):
    """Options of the model ``visits``: penalty and shrinkage."""

    ridge: float = Field(default=1e-3, ge=0)
    """Penalty on the squared weights, each measured in units of its term's standard deviation."""
    shrinkage: float = Field(default=1.0, gt=0)
    """Number of sessions of usual size that are added when the sizes of a user's sessions are averaged."""
    max_iterations: int = Field(default=2000, ge=1)
    """Largest number of iterations of L-BFGS-B."""


def terms(hidden: Hidden, now: torch.Tensor, gap: float, usual: float, weight: float) -> torch.Tensor:
    """(n, 8) terms of the states, in the order of :data:`TERMS`.

    The size of a session is the logarithm of its event count. The column for later sessions is Σ_j (log n_j − usual) /
    (number of later sessions + ``weight``): the mean difference from the ``usual`` size, shrunk towards 0. The newest
    session has a column of its own only if there are several sessions, because a single session is also the first. The
    time since the last event is log(1 + time/``gap``). For a user without events, all terms except the first are 0.
    """
    sessions, last = hidden
    n_sessions, newest_count, first_size, sum_between = sessions.unbind(1)
    has_sessions = n_sessions > 0
    has_one_session = n_sessions == 1
    has_several_sessions = n_sessions > 1
    newest_size = torch.log(newest_count.clamp(min=1.0))
    n_later = (n_sessions - 1.0).clamp(min=0.0)
    later_excess = sum_between + newest_size - n_later * usual  # Σ_j (log n_j − usual)
    inactive_seconds = torch.where(has_sessions, now - last, 0.0).clamp(min=0.0)
    columns = (
        (~has_sessions).to(sessions.dtype),
        has_sessions.to(sessions.dtype),
        torch.where(has_one_session, newest_size, first_size),
        torch.where(has_several_sessions, later_excess, 0.0) / (n_later + weight),
        torch.where(has_several_sessions, newest_size, 0.0),
        has_one_session.to(sessions.dtype),
        torch.log(n_sessions.clamp(min=1.0)),
        torch.log1p(inactive_seconds / gap),
    )
    return torch.stack(columns, 1)


def log_linear_objective(
    weights: Floats, phi: Floats, offset: Floats, counts: Floats, ridge: float
) -> tuple[float, Floats]:
    """Mean negative Poisson log-likelihood plus ridge, and its gradient.

    The function mean(λ − n·log λ) + ridge/2·‖w‖² of the weights w, with log λ = offset + Φ w, is convex.
    """
    log_rate = np.minimum(offset + phi @ weights, _HIGHEST)
    rate = np.exp(log_rate)
    value = float(np.mean(rate - counts * log_rate) + 0.5 * ridge * weights @ weights)
    return value, phi.T @ (rate - counts) / len(counts) + ridge * weights


class Visits(Ground):
    """``λ(x) = exp(level + w·φ(x))``: expected session size.

    φ(x) has the :func:`terms` of the sessions of a state. Inactivity of more than ``gap`` separates sessions. The fit
    is a convex Poisson regression. The ridge of a fit pulls λ(x) towards the same value for all users. The ridge of an
    update pulls towards the earlier weights. Each term is clipped to its range in the logs. If the horizon is a
    session, λ(x) is computed for a time at least ``gap`` after the last event of a state.

    Hidden states have the arrays ``sessions`` (n, 4) and ``last`` (n,). The first two columns of ``sessions`` are the
    number of sessions and the event count of the newest session. The third column is the logarithm of the event count
    of the first session, or 0 while the first session is the newest. The fourth column is the sum of log event counts
    over the sessions between first and newest. ``last`` is the time of the last event, or −inf without events.
    """

    kind: ClassVar[str] = "visits"
    config: VisitsConfig
    saved = (*Ground.saved, "_usual")

    def __init__(self, config: VisitsConfig | None = None) -> None:
        super().__init__(config or VisitsConfig())
        self._usual = 0.0

    @property
    def weights(self) -> torch.Tensor:
        """(8,) float64 weights, in the order of :data:`TERMS`."""
        return self._array("weights")

    @property
    def level(self) -> float:
        """Logarithm of λ if all terms are zero."""
        return float(self._array("level"))

    def encode(self, states: UserStates) -> Hidden:
        """Hidden states: ``sessions``, and time of the last event."""
        n = len(states)
        sessions = np.zeros((n, 4))
        last = np.full(n, -np.inf)
        active = np.flatnonzero(states.lengths)
        if len(active):
            is_session_start = np.ones(len(states.times), bool)
            is_session_start[1:] = np.diff(states.times) > self.config.gap
            is_session_start[states.offsets[active]] = True
            start = np.flatnonzero(is_session_start)
            count = np.diff(np.append(start, len(states.times))).astype(np.float64)
            state = np.searchsorted(states.offsets, start, "right") - 1
            n_sessions = np.bincount(state, minlength=n)
            # Sessions are numbered state after state; these are each state's newest and first session.
            newest = np.cumsum(n_sessions)[active] - 1
            first = newest - n_sessions[active] + 1
            sessions[active, 0] = n_sessions[active]
            sessions[active, 1] = count[newest]
            log_size = np.log(count)
            # As in ``step``, the size of the first session is noted when a second session begins.
            sessions[active, 2] = np.where(n_sessions[active] > 1, log_size[first], 0.0)
            is_between = np.ones(len(count), bool)
            is_between[first] = is_between[newest] = False
            # np.bincount adds the sessions of a row one after another. So a row's bits do not depend on its neighbours.
            sessions[:, 3] = np.bincount(state, np.where(is_between, log_size, 0.0), n)
            last[active] = states.times[states.offsets[active + 1] - 1]
        return torch.from_numpy(sessions).to(self.device), torch.from_numpy(last).to(self.device)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Hidden states with one more event each, at ``times`` (seconds)."""
        del items
        times = times.to(self.device)
        sessions, last = hidden
        n_sessions, newest_count, first_size, sum_between = sessions.unbind(1)
        is_new_session = times - last > self.config.gap
        # Size of the newest session, which has ended if a new session begins.
        closed_size = torch.log(newest_count.clamp(min=1.0))
        columns = (
            n_sessions + is_new_session.to(sessions.dtype),
            torch.where(is_new_session, 1.0, newest_count + 1.0),
            torch.where(is_new_session & (n_sessions == 1), closed_size, first_size),
            torch.where(is_new_session & (n_sessions > 1), sum_between + closed_size, sum_between),
        )
        return torch.stack(columns, 1), times

    def walk(self, hidden: Hidden, walk: Walk) -> tuple[Hidden, Hidden]:
        """Hidden states after all events, and at times between events."""
        if self.device.type != "cpu":  # the compiled loop reads memory of the CPU
            return stepped(self, hidden, walk)
        sessions = hidden[0].clone()
        last = hidden[1].clone()
        order, edges = walk.points()
        sessions_at = sessions.new_empty((len(order), 4))
        last_at = last.new_empty(len(order))
        # No session's event count can exceed this number: the largest count so far, plus the most events that the walk
        # adds to a state.
        max_count = (
            int(sessions[:, 1].max()) + int(np.diff(walk.offsets).max(initial=0)) if len(sessions) else 0
        )
        # Torch computes the logarithms, because the loop must give the same bits as `step`.
        log_of = torch.log(torch.arange(max_count + 1, dtype=sessions.dtype).clamp(min=1.0))
        _walk(
            sessions.numpy(),
            last.numpy(),
            log_of.numpy(),
            sessions_at.numpy(),
            last_at.numpy(),
            walk.times,
            walk.offsets,
            order,
            edges,
            walk.count,
            self.config.gap,
        )
        return (sessions, last), (sessions_at, last_at)

    def fit_examples(self, examples: CountExamples) -> Self:
        """Fit from scratch to given states and event counts."""
        self._require_events(examples)
        hidden = self.encode(examples.states)
        sessions = hidden[0]
        is_returning = sessions[:, 0] > 1
        newest_sizes = torch.log(sessions[is_returning, 1])
        self._usual = float(newest_sizes.mean()) if len(newest_sizes) else 0.0
        phi = self._terms_of(hidden, examples.states.now)
        unit = np.maximum(phi.std(axis=0), _NARROW)
        self._keep(unit=unit, low=phi.min(axis=0), high=phi.max(axis=0))
        level, weights = self._solved(phi, examples.counts, np.zeros(phi.shape[1]))
        self._keep(weights=weights, level=np.array(level))
        self.rescale = 1.0
        return self

    def update(self, log: EventLog) -> Self:
        """Refit to the new log; keep the mean of λ.

        A log without target events changes nothing.
        """
        examples = self.examples(log)
        if examples.counts.sum() == 0:
            self.rescale = 1.0
            return self
        phi = self._terms_of(self.encode(examples.states), examples.states.now)
        low, high = (self._array(name).cpu().numpy() for name in ("low", "high"))
        # The range to which each term is clipped grows with the new log. The level is then shifted, so that the mean of
        # λ stays.
        mean_before = self._mean(np.clip(phi, low, high))
        self._keep(low=np.minimum(low, phi.min(axis=0)), high=np.maximum(high, phi.max(axis=0)))
        level, weights = self._solved(phi, examples.counts, self.weights.cpu().numpy())
        self._keep(weights=weights, level=np.array(level))
        self.rescale = mean_before / self._mean(phi)
        self._keep(level=np.array(level + np.log(self.rescale)))
        self.n_items = log.n_items
        return self

    def _mean(self, phi: Floats) -> float:
        """Mean λ of states with the given terms."""
        return float(np.exp(self.level + phi @ self.weights.cpu().numpy()).mean())

    def _solved(self, phi: Floats, events: Ints, towards: Floats) -> tuple[float, Floats]:
        """Level, and weights penalised by their distance from ``towards``.

        The level makes the expected number of events equal to the observed number under the weights ``towards``. The
        search is for the change of the weights, with each term in its unit, so that the ridge penalises this change.
        """
        counts = events.astype(np.float64)
        unit = self._array("unit").cpu().numpy()
        log_rate = phi @ towards
        level = float(np.log(counts.sum() / np.exp(log_rate).sum()))
        args = (phi / unit, level + log_rate, counts, self.config.ridge)
        start = np.zeros(phi.shape[1])
        iterations = self.config.max_iterations
        change = minimum_of(log_linear_objective, start, args, iterations, positive=False)
        return level, towards + change / unit

    def _terms_of(self, hidden: Hidden, now: Floats) -> Floats:
        """(n, 8) terms φ(x) of states at ``now``, as NumPy numbers."""
        instant = self._instants(now, hidden[1])
        return terms(hidden, instant, self.config.gap, self._usual, self.config.shrinkage).cpu().numpy()

    def intensity_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n,) float32: expected number of events within the horizon after ``now``."""
        weights, level, low, high = (self._array(name) for name in ("weights", "level", "low", "high"))
        gap = self.config.gap
        shrinkage = self.config.shrinkage

        def rate(sessions: torch.Tensor, last: torch.Tensor, instant: torch.Tensor) -> torch.Tensor:
            phi = torch.clamp(terms((sessions, last), instant, gap, self._usual, shrinkage), low, high)
            return torch.exp(level + (phi * weights).sum(1))

        return in_blocks(rate, *hidden, self._instants(now, hidden[1])).float()


@compiled
def _walk(
    sessions: Floats,
    last: Floats,
    log_of: Floats,
    sessions_at: Floats,
    last_at: Floats,
    times: Floats,
    offsets: Ints,
    order: Ints,
    edges: Ints,
    count: Ints,
    gap: float,
) -> None:
    """Update hidden states; copy them at a walk's points."""
    # ``sessions`` and ``last`` are the arrays of a hidden state, and ``times``, ``offsets`` and ``count`` fields of a
    # :class:`Walk`. ``order`` and ``edges`` come from its method ``points``. The hidden states at its points are
    # written to ``sessions_at`` and ``last_at``. ``log_of[n]`` is log n.
    for state in range(len(sessions)):
        point = edges[state]
        first = offsets[state]
        for event in range(first, offsets[state + 1] + 1):
            # Copy the state at all points that lie before this event, but after the event before it.
            while point < edges[state + 1] and count[order[point]] == event - first:
                # A loop compiles seconds faster than the assignment of a slice.
                for column in range(sessions.shape[1]):
                    sessions_at[order[point], column] = sessions[state, column]
                last_at[order[point]] = last[state]
                point += 1
            if event == offsets[state + 1]:
                break  # the last turn of this loop is for points after the last event
            if times[event] - last[state] > gap:
                closed_size = log_of[int(sessions[state, 1])]
                if sessions[state, 0] == 1:
                    sessions[state, 2] = closed_size
                elif sessions[state, 0] > 1:
                    sessions[state, 3] += closed_size
                sessions[state, 0] += 1
                sessions[state, 1] = 1.0
            else:
                sessions[state, 1] += 1.0
            last[state] = times[event]
