"""Hawkes process of a user's events, and Poisson regression.

After the first event, user u has events at times t_1 < t_2 < … with this intensity (events per second):

    λ_u(t) = μ + Σ_s β_s [ α_s Σ_{t_i < t} exp(−β_s (t − t_i)) + γ_s exp(−β_s (t − t_0)) ]

on [t_0, T_u]. Here t_0 is the time of the first event, which is not modelled, and i runs over the later events. The
parameter α_s is the mean number of events that one event excites at time scale s; γ_s is this number for the first
event. The intensity is linear in μ, α, γ ≥ 0, so the log-likelihood is concave (Ogata, 1981). One pass over the events
computes the log-likelihood.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Self

import numpy as np
import scipy
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats, Ints
from rimsim.data.log import EventLog
from rimsim.errors import ModelError, refuse
from rimsim.intensity.contract import Hidden, in_blocks, require_targets
from rimsim.intensity.ground.contract import GroundConfig, minimum_of
from rimsim.intensity.ground.decayed import DecayedGround, Scales
from rimsim.intensity.states import CountExamples, UserStates

_DAY = 86400.0
"""Horizon of λ(x), in seconds, where the configured horizon is a session."""
_TINY = 1e-10
"""Number that is added to rates, so that their logarithm is finite where all weights are zero."""
_RARE = 1e-3
"""Smallest scale by which a term is divided."""


@dataclasses.dataclass(frozen=True, eq=False)
class HawkesTerms:
    """Coefficients of μ, α, γ in the intensity and integral."""

    at_event: Floats
    """(n, 2S + 1) coefficients of λ at each event after a user's first event."""
    user: Ints
    """(n,) user of each event in ``at_event``."""
    gap: Floats
    """(n, 2S + 1) coefficients of ∫λ from the preceding event to each event."""
    last_gap: Floats
    """(users, 2S + 1) coefficients of ∫λ from the user's last event to the end of observation."""

    @property
    def total(self) -> Floats:
        """(2S + 1,) coefficients in the integral ∫λ of all users."""
        return np.asarray(self.gap.sum(0) + self.last_gap.sum(0))


def hawkes_terms(times: Floats, offsets: Ints, stop: Floats, rates: Floats) -> HawkesTerms:
    """Likelihood coefficients in one pass over all users' events.

    ``times`` has the event times of one user after another; ``offsets`` has the index of each user's first event.
    ``stop`` is the end of each user's observation, and ``rates`` are the S decay rates β_s per second.
    """
    begin = offsets[:-1]
    lengths = np.diff(offsets)
    scales = len(rates)
    # `event_number` counts the events of a user from 0, and `later_index` the events after users' first events.
    event_number = np.arange(len(times)) - np.repeat(begin, lengths)
    is_later = event_number > 0
    later_index = np.cumsum(is_later) - 1
    at_event = np.zeros((int(is_later.sum()), 2 * scales + 1))
    gap = np.zeros_like(at_event)
    # Users with the most events come first, so that the users who have an event left are at the front.
    order = np.argsort(-lengths, kind="stable")
    # Σ exp(−β_s·age) over a user's events after the first, and exp(−β_s·age) of the first event.
    later_decay = np.zeros((len(begin), scales))
    first_decay = np.ones((len(begin), scales))
    for step in range(1, int(lengths.max(initial=1))):
        user = order[: int(np.searchsorted(-lengths[order], -step, "left"))]
        event = begin[user] + step
        pause = (times[event] - times[event - 1])[:, None]
        remaining_share = np.exp(-pause * rates)
        row = later_index[event]
        gap[row, 0] = pause[:, 0]
        gap[row, 1 : scales + 1] = later_decay[user] * (1.0 - remaining_share)
        gap[row, scales + 1 :] = first_decay[user] * (1.0 - remaining_share)
        later_decay[user] *= remaining_share
        first_decay[user] *= remaining_share
        at_event[row, 0] = 1.0
        at_event[row, 1 : scales + 1] = later_decay[user] * rates
        at_event[row, scales + 1 :] = first_decay[user] * rates
        later_decay[user] += 1.0
    pause = (stop - times[offsets[1:] - 1])[:, None]
    lost_share = 1.0 - np.exp(-pause * rates)
    return HawkesTerms(
        at_event=at_event,
        user=np.repeat(np.arange(len(begin)), lengths)[is_later],
        gap=gap,
        last_gap=np.concatenate([pause, later_decay * lost_share, first_decay * lost_share], axis=1),
    )


def negative_log_likelihood(parameters: Floats, at_event: Floats, total: Floats) -> tuple[float, Floats]:
    """Negative log-likelihood per event, and its gradient; see :class:`HawkesTerms`."""
    n = max(len(at_event), 1)
    rate = at_event @ parameters + 1e-300  # so that the logarithm is finite
    value = float(total @ parameters - np.log(rate).sum()) / n
    return value, (total - at_event.T @ (1.0 / rate)) / n


@dataclasses.dataclass(frozen=True)
class Rescaled:
    """Goodness of fit: compares rescaled gaps between events with Exp(1).

    Time is rescaled by the integral of the intensity. The periods of all users are then joined end to end, so that each
    user's unfinished last gap counts (Papangelou's theorem; Brown et al., Neural Computation 2002). Use held-out users,
    because the test rejects too rarely on the users that the process was fitted to.
    """

    gaps: Floats
    """(n,) gaps between events in rescaled time, in which the model expects one event per unit."""
    ks: float
    """Kolmogorov-Smirnov distance between 1 − exp(−gap) and the uniform distribution."""
    p_value: float
    """p-value of the distance ``ks``."""
    squares: float
    """Σ gap² / Σ gap. It is 2 under the model and larger where events cluster (3S; Shchur et al., NeurIPS 2021)."""
    correlation: float
    """Correlation of successive gaps; 0 under the model."""


def rescaled(terms: HawkesTerms, parameters: Floats) -> Rescaled:
    """Rescaled gaps of all users and their distance from Exp(1)."""
    gap_integral = terms.gap @ parameters
    last_integral = terms.last_gap @ parameters
    by_user = np.bincount(terms.user, gap_integral, len(last_integral))
    # Rescaled time at which each user's period begins, where the periods are joined end to end.
    period_start = np.concatenate([[0.0], np.cumsum(by_user + last_integral)])
    earlier_users = np.concatenate([[0.0], np.cumsum(by_user)])
    since_start = np.cumsum(gap_integral) - earlier_users[terms.user]
    gaps = np.diff(np.concatenate([[0.0], period_start[terms.user] + since_start]))
    test = scipy.stats.kstest(-np.expm1(-gaps), "uniform")
    gaps_vary = len(gaps) > 2 and gaps.std() > 0
    return Rescaled(
        gaps=gaps,
        ks=float(test.statistic),
        p_value=float(test.pvalue),
        squares=float((gaps**2).sum() / gaps.sum()) if gaps.sum() > 0 else float("nan"),
        correlation=float(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) if gaps_vary else 0.0,
    )


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class HawkesConfig(GroundConfig):
    """Kernels and horizon of the Hawkes process."""

    scales: Scales = Field(default_factory=lambda: Scales(number=16))
    """Time scales of the exponential kernels."""
    stable_below: float | None = Field(default=None, gt=0, le=1)
    """Upper bound of the branching ratio Σα; None: no bound."""
    max_iterations: int = Field(default=1000, ge=1)
    """Largest number of iterations of L-BFGS-B."""


class Hawkes(DecayedGround):
    """λ(x) from a Hawkes process with sum-of-exponentials kernels.

    The process is that of Hawkes (1971). The likelihood is concave and is maximised exactly. λ(x) is c times the
    integral of the intensity over the horizon, given no further events. If the horizon is a session, the integral is
    over a day. The factor c makes the mean of λ over training examples equal to their mean realised count. For states
    without a history, λ(x) is the mean event count of such states. Ma, Liu and Deoras (ICLR 2022) fit by least squares
    and have no c.

    Attributes:
        branching_ratio: Σ_s α_s, the mean number of events that one event excites; the process is stable below 1.
        nll: Negative log-likelihood per event of the fitted process, with intensities in events per second.
        factor: The factor c of λ(x).
    """

    kind: ClassVar[str] = "hawkes"
    config: HawkesConfig
    saved = (*DecayedGround.saved, "factor", "_empty", "nll", "branching_ratio")

    def __init__(self, config: HawkesConfig | None = None) -> None:
        config = config or HawkesConfig()
        super().__init__(config, config.scales.rates)
        self.branching_ratio = self.nll = float("nan")
        self.factor = 1.0
        self._empty = 0.0

    @property
    def parameters(self) -> Floats:
        """(2S + 1,) parameters: μ (per second), S values α, S values γ."""
        return self._array("parameters").cpu().numpy()

    def terms(self, log: EventLog) -> HawkesTerms:
        """Likelihood coefficients of users, until the end of a log.

        All events excite later events, but the likelihood covers target events only.
        """
        order = log.by_user
        user = log.user[order]
        time = log.time[order]
        target = log.targets[order]
        begin = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
        offsets = np.append(begin, len(user)).astype(np.int64)
        stop = np.full(len(begin), log.time[-1])
        all_terms = hawkes_terms(time, offsets, stop, self.config.scales.rates)
        if target.all():
            return all_terms
        # If a gap ends with an event that is not a target, neither the gap nor the event enters the likelihood.
        is_later = np.ones(len(user), bool)
        is_later[begin] = False
        is_target = target[is_later]
        has_target = np.bincount(all_terms.user[is_target], minlength=len(begin)) > 0
        return HawkesTerms(
            at_event=all_terms.at_event[is_target],
            user=all_terms.user[is_target],
            gap=all_terms.gap[is_target],
            last_gap=all_terms.last_gap * has_target[:, None],
        )

    def fit_to(self, log: EventLog, examples: CountExamples) -> Self:
        """Fit the process to the log, and c to examples."""
        require_targets(log, self.kind)
        terms = self.terms(log)
        if not len(terms.at_event):
            refuse(ModelError, self.kind, "found no user with a second event", "at least one such user")
        self._solve(terms)
        return super().fit_to(log, examples)

    def _solve(self, terms: HawkesTerms) -> None:
        """Fit μ, α and γ by maximum likelihood.

        Σα is at most ``stable_below``.
        """
        total = terms.total
        scales = len(self._rates)
        # Each parameter is divided by the value at which its term alone would predict all events. The optimiser needs
        # this, because then all parameters are of the order of one.
        n = len(terms.at_event)
        unit = np.where(total > 0, n / np.maximum(total, 1e-300), 0.0)
        at_event = terms.at_event * unit
        scaled_total = total * unit
        start = np.full(len(unit), 1.0 / len(unit))
        max_iterations = self.config.max_iterations
        solution = minimum_of(
            negative_log_likelihood, start, (at_event, scaled_total), max_iterations, positive=True
        )
        limit = self.config.stable_below
        # The product of `alpha_unit` with the scaled parameters is Σα: μ and γ have the coefficient 0.
        alpha_unit = unit.copy()
        alpha_unit[0] = 0.0
        alpha_unit[scales + 1 :] = 0.0
        if limit is not None and solution @ alpha_unit > limit:
            # L-BFGS-B takes no linear constraint. So SLSQP starts from its solution, with all α scaled into the limit.
            solution = scipy.optimize.minimize(
                negative_log_likelihood,
                solution * np.where(alpha_unit > 0, 0.99 * limit / (solution @ alpha_unit), 1.0),
                args=(at_event, scaled_total),
                method="SLSQP",
                jac=True,
                bounds=[(0.0, None)] * len(unit),
                constraints=scipy.optimize.LinearConstraint(alpha_unit, -np.inf, limit),
                options={"maxiter": max_iterations, "ftol": 1e-12},
            ).x
        parameters = np.maximum(solution, 0.0) * unit
        self._keep(parameters=parameters)
        self.branching_ratio = float(parameters[1 : scales + 1].sum())
        self.nll = negative_log_likelihood(parameters, terms.at_event, total)[0]

    def fit_examples(self, examples: CountExamples) -> Self:
        """Set the factor c, and λ(x) of states without events.

        Only states with events determine c. States without events get their mean event count.
        """
        self._require_events(examples)
        has_events = examples.states.lengths > 0
        self.factor = 1.0
        self.rescale = 1.0
        raw_sum = float(self.intensity(examples.states).double().cpu().numpy()[has_events].sum())
        n_events = float(examples.counts[has_events].sum())
        self.factor = n_events / raw_sum if raw_sum > 0 and n_events > 0 else 1.0
        empty_counts = examples.counts[~has_events] if (~has_events).any() else examples.counts
        self._empty = float(empty_counts.mean())
        return self

    def update(self, log: EventLog) -> Self:
        """Refit to the new log; keep the mean of λ.

        An update changes nothing if no user has a target event after the user's first event.
        """
        if not log.targets.any():
            return self
        examples = self.examples(log)
        terms = self.terms(log)
        if examples.counts.sum() == 0 or not len(terms.at_event):
            return self
        mean_before = float(self.intensity(examples.states).double().mean())
        self._solve(terms)
        self.fit_examples(examples)
        mean_after = float(self.intensity(examples.states).double().mean())
        self.rescale = mean_before / mean_after if mean_after > 0 else 1.0
        self.factor = self.factor * self.rescale
        self._empty = self._empty * self.rescale
        return self

    def goodness(self, log: EventLog) -> Rescaled:
        """Time-rescaling test on a log's users, preferably held-out users."""
        return rescaled(self.terms(log), self.parameters)

    def intensity_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n,) float32: expected number of events within the horizon after ``now``."""
        scales = len(self._rates)
        parameters = torch.from_numpy(self.parameters).to(self.device)
        mu = parameters[:1]
        alpha = parameters[1 : scales + 1]
        gamma = parameters[scales + 1 :]
        horizon = _DAY if self.config.horizon is None else self.config.horizon
        # Share 1 − exp(−β_s·horizon) of the excitation that is left at ``now`` and falls within the horizon.
        share_within = -torch.expm1(-horizon * self._rates)
        # One weight per feature: decayed sums, decayed first event, states with events, states without events. The sums
        # contain the first event as well, which excites by γ instead of α. So the first event adds γ − α.
        weights = torch.cat([alpha * share_within, (gamma - alpha) * share_within, mu * horizon, mu * 0.0])
        raw = in_blocks(lambda phi: (phi * weights).sum(1), self.features(hidden, now))
        scaled = torch.clamp(raw, min=0.0) * self.factor
        return torch.where(torch.isinf(hidden[1]), self._empty, scaled).float()


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class HawkesPoissonConfig(GroundConfig):
    """Options of Hawkes-Poisson: horizon, kernels, penalty."""

    scales: Scales = Field(default_factory=Scales)
    """Time scales of the exponential kernels."""
    ridge: float = Field(default=1e-3, ge=0)
    """Penalty on the squared weights, each measured in units of its term."""
    max_iterations: int = Field(default=2000, ge=1)
    """Largest number of iterations of L-BFGS-B."""


def poisson_objective(
    weights: Floats, features: Floats, counts: Floats, ridge: float
) -> tuple[float, Floats]:
    """Mean negative Poisson log-likelihood plus ridge, and its gradient.

    The function mean(Λ − n·log(Λ + 1e-10)) + ridge/2·‖w‖² of the weights w, with Λ = Φ w, is convex.
    """
    rate = features @ weights
    value = float(np.mean(rate - counts * np.log(rate + _TINY)) + 0.5 * ridge * weights @ weights)
    rate_gradient = (1.0 - counts / (rate + _TINY)) / len(counts)
    return value, features.T @ rate_gradient + ridge * weights


class HawkesPoisson(DecayedGround):
    """``λ(x) = w·φ(x)``, w ≥ 0: expected events within the horizon.

    φ(x) has the features of a state from :meth:`DecayedGround.features`. Event counts are modelled as Poisson
    variables, so the fit is a convex problem. The model differs from HP of Ma, Liu and Deoras (ICLR 2022) in two
    respects. First, states without a history have a separate constant, so that first sessions can be the longest.
    Second, the ridge penalty does not depend on the unit of time, because features are scaled by their means.
    """

    kind: ClassVar[str] = "hp"
    config: HawkesPoissonConfig

    def __init__(self, config: HawkesPoissonConfig | None = None) -> None:
        config = config or HawkesPoissonConfig()
        super().__init__(config, config.scales.rates)

    @property
    def weights(self) -> torch.Tensor:
        """(2S + 2,) float64: weights, in the order of :meth:`DecayedGround.features`."""
        return self._array("weights")

    def fit_examples(self, examples: CountExamples) -> Self:
        """Fit from scratch to given states and event counts."""
        self._require_events(examples)
        self._solve(self._numbers(examples.states), examples.counts)
        return self

    def _numbers(self, states: UserStates) -> Floats:
        """(n, 2S + 2) features φ(x) of states, as NumPy numbers."""
        return self.features(self.encode(states), states.now).cpu().numpy()

    def _solve(self, phi: Floats, events: Ints) -> None:
        """Fit the weights to features and event counts."""
        counts = events.astype(np.float64)
        # Terms are divided by their mean, so that one step length suits all of them. A rare term could get a huge
        # weight and then raise λ where it occurs. So its unit has a lower limit, and the ridge penalty holds the weight
        # down.
        unit = np.maximum(phi.mean(axis=0), _RARE)
        start = np.full(phi.shape[1], counts.mean() / phi.shape[1])
        args = (phi / unit, counts, self.config.ridge)
        max_iterations = self.config.max_iterations
        scaled_weights = minimum_of(poisson_objective, start, args, max_iterations, positive=True)
        self._keep(weights=scaled_weights / unit)
        self.rescale = 1.0

    def update(self, log: EventLog) -> Self:
        """Refit to the new log; keep the mean of λ.

        A log without target events changes nothing.
        """
        examples = self.examples(log)
        if examples.counts.sum() == 0:
            self.rescale = 1.0
            return self
        phi = self._numbers(examples.states)
        mean_before = float((phi @ self.weights.cpu().numpy()).mean())
        self._solve(phi, examples.counts)
        mean_after = float((phi @ self.weights.cpu().numpy()).mean())
        self.rescale = mean_before / mean_after if mean_after > 0 else 1.0
        self._fitted = {"weights": self.weights * self.rescale}
        self.n_items = log.n_items
        return self

    def intensity_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n,) float32: expected number of events within the horizon after ``now``."""
        weights = self.weights
        return in_blocks(lambda phi: (phi * weights).sum(1), self.features(hidden, now)).float()
