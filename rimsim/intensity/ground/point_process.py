"""Hawkes processes of many users: likelihood and goodness of fit.

User u's events after the first, t_1 < t_2 < …, have the intensity (events per second)

    λ_u(t) = μ + Σ_s β_s [ α_s Σ_{t_i < t} exp(−β_s (t − t_i)) + γ_s exp(−β_s (t − t_0)) ]

on [t_0, T_u]: t_0 is the first event, which is given, and i runs over the events after it. α_s is the mean
number of events that one event excites at scale s, γ_s the same for the first event. Parameters are (μ, α,
γ), all ≥ 0, so the log-likelihood is concave (Ogata, 1981); sums of exponentials let it be computed in one
pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from rimsim.arrays import Floats, Ints


@dataclass(frozen=True, eq=False)
class HawkesTerms:
    """The likelihood's data: coefficients of (μ, α, γ) in λ at every event and in ∫λ over every gap."""

    at_event: Floats
    """(n, 2S + 1) coefficients of λ at each event after a user's first."""
    user: Ints
    """(n,) the user of each of those events, as given by ``offsets``."""
    gap: Floats
    """(n, 2S + 1) coefficients of ∫λ from the event before to this one."""
    last_gap: Floats
    """(users, 2S + 1) coefficients of ∫λ from the last event to the end of observation."""

    @property
    def total(self) -> Floats:
        """(2S + 1,) coefficients of the compensator of all users."""
        return np.asarray(self.gap.sum(0) + self.last_gap.sum(0))


def hawkes_terms(
    times: Floats,
    offsets: Ints,
    stop: Floats,
    rates: Floats,
) -> HawkesTerms:
    """One pass over all users at once, event by event.

    Args:
        times: (total,) event times, seconds, ascending within a user.
        offsets: (users + 1,) where each user's events begin; every user has at least one.
        stop: (users,) end of observation, not before the user's last event.
        rates: (S,) decay rates β_s, per second.
    """
    begin, lengths = offsets[:-1], np.diff(offsets)
    scales = len(rates)
    rows = np.arange(len(times)) - np.repeat(begin, lengths)
    later = rows > 0
    place = np.cumsum(later) - 1
    at = np.zeros((int(later.sum()), 2 * scales + 1))
    gap = np.zeros_like(at)
    order = np.argsort(-lengths, kind="stable")
    since_first = np.zeros((len(begin), scales))
    start = np.ones((len(begin), scales))
    for step in range(1, int(lengths.max(initial=1))):
        active = order[: int(np.searchsorted(-lengths[order], -step, "left"))]
        position = begin[active] + step
        pause = (times[position] - times[position - 1])[:, None]
        fade = np.exp(-pause * rates)
        where = place[position]
        gap[where, 0] = pause[:, 0]
        gap[where, 1 : scales + 1] = since_first[active] * (1.0 - fade)
        gap[where, scales + 1 :] = start[active] * (1.0 - fade)
        since_first[active] *= fade
        start[active] *= fade
        at[where, 0] = 1.0
        at[where, 1 : scales + 1] = since_first[active] * rates
        at[where, scales + 1 :] = start[active] * rates
        since_first[active] += 1.0
    pause = (stop - times[offsets[1:] - 1])[:, None]
    fade = 1.0 - np.exp(-pause * rates)
    last = np.concatenate([pause, since_first * fade, start * fade], axis=1)
    return HawkesTerms(at, np.repeat(np.arange(len(begin)), lengths)[later], gap, last)


def negative_log_likelihood(parameters: Floats, at_event: Floats, total: Floats) -> tuple[float, Floats]:
    """−Σ log λ(t_i) + ∫λ per event, and its gradient.

    Args:
        parameters: (2S + 1,) μ, α, γ.
        at_event: (n, 2S + 1) see :class:`HawkesTerms`.
        total: (2S + 1,) see :attr:`HawkesTerms.total`.
    """
    n = max(len(at_event), 1)
    rate = at_event @ parameters + 1e-300
    value = float(total @ parameters - np.log(rate).sum()) / n
    return value, (total - at_event.T @ (1.0 / rate)) / n


@dataclass(frozen=True)
class Rescaled:
    """Goodness of fit by time rescaling: under the model, compensated gaps are independent Exp(1).

    Users are joined end to end in compensated time, so that each censored last gap counts (Papangelou's
    theorem; Brown et al., Neural Computation 2002). On data that the parameters were fitted to, the test is
    conservative: use held-out users.
    """

    gaps: Floats
    """(n,) compensated gaps."""
    ks: float
    """Kolmogorov-Smirnov distance of 1 − exp(−gap) from uniform."""
    p_value: float
    """p-value of that statistic."""
    squares: float
    """Σ gap² / Σ gap: 2 under the model, more where events cluster (3S; Shchur et al., NeurIPS 2021)."""
    correlation: float
    """Correlation of neighbouring gaps: 0 under the model."""


def rescaled(terms: HawkesTerms, parameters: Floats) -> Rescaled:
    """Compensated gaps of all users and how far they are from Exp(1)."""
    inner = terms.gap @ parameters
    last = terms.last_gap @ parameters
    clock = np.zeros(len(last) + 1)
    np.cumsum(np.bincount(terms.user, inner, len(last)) + last, out=clock[1:])
    own_start = np.concatenate([[0.0], np.cumsum(np.bincount(terms.user, inner, len(last)))])
    before = np.cumsum(inner) - own_start[terms.user]
    gaps = np.diff(np.concatenate([[0.0], clock[terms.user] + before]))
    test = scipy.stats.kstest(-np.expm1(-gaps), "uniform")
    neighbours = float(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) if len(gaps) > 2 and gaps.std() > 0 else 0.0
    squares = float((gaps**2).sum() / gaps.sum()) if gaps.sum() > 0 else float("nan")
    return Rescaled(gaps, float(test.statistic), float(test.pvalue), squares, neighbours)
