"""Hawkes: a self-exciting point process of each user's events, fitted by maximum likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import scipy
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats
from rimsim.errors import ModelError
from rimsim.intensity.blocks import in_blocks
from rimsim.intensity.ground import decayed
from rimsim.intensity.ground.contract import Ground, GroundConfig
from rimsim.intensity.ground.point_process import (
    HawkesTerms,
    Rescaled,
    hawkes_terms,
    negative_log_likelihood,
    rescaled,
)
from rimsim.intensity.refusals import not_fitted, require_targets

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import Hidden
    from rimsim.intensity.ground.examples import CountExamples


_DAY = 86400.0


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class HawkesConfig(GroundConfig):
    """Kernels and horizon of the Hawkes process."""

    scales: decayed.Scales = Field(
        default_factory=lambda: decayed.Scales(number=16), description="Time scales of the kernels."
    )
    stable_below: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Keep the branching ratio Σα at most here; None: as it comes out.",
    )
    max_iterations: int = Field(default=1000, ge=1, description="Limit for L-BFGS-B.")


class Hawkes(Ground):
    """λ(x) from a Hawkes process with sum-of-exponentials kernels (Hawkes, 1971; Ogata, 1981).

    The process and its exact maximum likelihood are in :mod:`rimsim.intensity.ground.point_process`; the solver is
    L-BFGS-B with the analytic gradient, which finds the maximum because the likelihood is concave. λ(x) is
    the integral of the intensity over the horizon if nothing more happened (a day where the horizon is a
    session), times a factor c that makes the mean over training examples the mean count that followed; states
    without a history have the mean count of such states.

    The reference (Ma, Liu and Deoras, ICLR 2022) fits by least squares and does not scale.

    Attributes:
        branching_ratio: Σ_s α_s, mean offspring of one event; the process is stable below 1.
        nll: Negative log-likelihood per event at the fit, log of events per second.
        factor: c.
        rescale: The factor that the last :meth:`update` multiplied λ by, to keep its mean; 1 after a fit.
    """

    kind: ClassVar[str] = "hawkes"
    config: HawkesConfig

    def __init__(self, config: HawkesConfig | None = None) -> None:
        config = config or HawkesConfig()
        super().__init__(config, config.scales.rates)
        self.branching_ratio = self.nll = float("nan")
        self.factor, self._empty = 1.0, 0.0
        self._parameters: torch.Tensor | None = None

    @property
    def parameters(self) -> Floats:
        """(2S + 1,) μ (per second), α (S,), γ (S,).

        Raises:
            ModelError: Before a fit.
        """
        if self._parameters is None:
            raise not_fitted(self.kind)
        return self._parameters.cpu().numpy()

    def terms(self, log: EventLog) -> HawkesTerms:
        """The likelihood's coefficients for a log's users, observed until its last event.

        All events excite; only target events are scored.
        """
        order = log.by_user
        user, time, target = log.user[order], log.time[order], log.targets[order]
        begin = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
        offsets = np.append(begin, len(user)).astype(np.int64)
        stop = np.full(len(begin), log.time[-1])
        whole = hawkes_terms(time, offsets, stop, self.config.scales.rates)
        if target.all():
            return whole
        # A stretch that ends in a mere context event is not observed: neither its event nor its gap is
        # scored.
        later = np.ones(len(user), bool)
        later[begin] = False
        kept = target[later]
        scored = np.bincount(whole.user[kept], minlength=len(begin)) > 0
        return HawkesTerms(
            whole.at_event[kept], whole.user[kept], whole.gap[kept], whole.last_gap * scored[:, None]
        )

    def fit_to(self, log: EventLog, examples: CountExamples) -> Self:
        """The process by the likelihood of all users' target events after their first, its scale by the given counts.

        Raises:
            ModelError: If no user has a target event after its first event; as :meth:`fit_examples`.
        """
        require_targets(log, self.kind)
        terms = self.terms(log)
        if not len(terms.at_event):
            raise ModelError(f"{self.kind}: found no user with a second event; allowed: at least one")
        self._solve(terms)
        return super().fit_to(log, examples)

    def _solve(self, terms: HawkesTerms) -> None:
        total = terms.total
        scales = len(self._rates)
        # In units of its share of the compensator each parameter is of order one.
        n = len(terms.at_event)
        unit = np.where(total > 0, n / np.maximum(total, 1e-300), 0.0)
        at, all_of = terms.at_event * unit, total * unit
        start = np.full(len(unit), 1.0 / len(unit))
        bounds = [(0.0, None)] * len(unit)
        solved = scipy.optimize.minimize(
            negative_log_likelihood,
            start,
            args=(at, all_of),
            method="L-BFGS-B",
            jac=True,
            bounds=bounds,
            options={"maxiter": self.config.max_iterations, "ftol": 1e-12, "gtol": 1e-7, "maxcor": 20},
        )
        limit, alpha = self.config.stable_below, unit.copy()
        alpha[0], alpha[scales + 1 :] = 0.0, 0.0
        if limit is not None and solved.x @ alpha > limit:
            shrunk = solved.x * np.where(alpha > 0, 0.99 * limit / (solved.x @ alpha), 1.0)
            solved = scipy.optimize.minimize(
                negative_log_likelihood,
                shrunk,
                args=(at, all_of),
                method="SLSQP",
                jac=True,
                bounds=bounds,
                constraints=scipy.optimize.LinearConstraint(alpha, -np.inf, limit),
                options={"maxiter": self.config.max_iterations, "ftol": 1e-12},
            )
        parameters = np.maximum(solved.x, 0.0) * unit
        self._parameters = torch.from_numpy(parameters).to(self.device)
        self.branching_ratio = float(parameters[1 : scales + 1].sum())
        self.nll = negative_log_likelihood(parameters, terms.at_event, total)[0]

    def fit_examples(self, examples: CountExamples) -> Self:
        """Set the scale c to given states and counts; the process must be fitted to a log before.

        Raises:
            ModelError: If there are no examples, or no event in them.
        """
        self._require_events(examples)
        active = examples.states.lengths > 0
        self.factor, self.rescale = 1.0, 1.0
        raw = float(self.intensity(examples.states).double().cpu().numpy()[active].sum())
        events = float(examples.counts[active].sum())
        self.factor = events / raw if raw > 0 and events > 0 else 1.0
        self._empty = (
            float(examples.counts[~active].mean()) if (~active).any() else float(examples.counts.mean())
        )
        return self

    def update(self, log: EventLog) -> Self:
        """Refit to the new log, then scale so that the mean λ over its states stays what it was.

        A log without a target event after a user's first changes nothing.
        """
        examples = self.examples(log) if log.targets.any() else None
        if examples is None or examples.counts.sum() == 0 or not len((terms := self.terms(log)).at_event):
            return self
        before = float(self.intensity(examples.states).double().mean())
        self._solve(terms)
        self.fit_examples(examples)
        after = float(self.intensity(examples.states).double().mean())
        self.rescale = before / after if after > 0 else 1.0
        self.factor, self._empty = self.factor * self.rescale, self._empty * self.rescale
        return self

    def goodness(self, log: EventLog) -> Rescaled:
        """Time-rescaling test on a log's users; take users that the model was not fitted to."""
        return rescaled(self.terms(log), self.parameters)

    def intensity_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n,) float32 λ of the states at ``now``: expected events within the horizon."""
        scales = len(self._rates)
        fitted = torch.from_numpy(self.parameters).to(self.device)
        mu, alpha, gamma = fitted[:1], fitted[1 : scales + 1], fitted[scales + 1 :]
        reach = _DAY if self.config.horizon is None else self.config.horizon
        spent = -torch.expm1(-reach * self._rates)
        weights = torch.cat([alpha * spent, (gamma - alpha) * spent, mu * reach, mu * 0.0])
        # The sums hold the first event too, which excites by γ instead of α.
        raw = in_blocks(lambda phi: (phi * weights).sum(1), self._features(hidden, now))
        return torch.where(
            torch.isinf(hidden[1]), self._empty, torch.clamp(raw, min=0.0) * self.factor
        ).float()

    def tensors(self) -> dict[str, torch.Tensor]:
        """The parameters."""
        return {} if self._parameters is None else {"parameters": self._parameters}

    def extra(self) -> dict[str, Any]:
        """Scale, branching ratio and likelihood."""
        return {
            "n_items": self.n_items,
            "factor": self.factor,
            "empty": self._empty,
            "rescale": self.rescale,
            "branching_ratio": self.branching_ratio,
            "nll": self.nll,
        }

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Take over the parameters."""
        self._parameters = tensors["parameters"].to(self.device) if "parameters" in tensors else None
        self.n_items, self.factor, self._empty = (
            int(extra["n_items"]),
            float(extra["factor"]),
            float(extra["empty"]),
        )
        self.rescale, self.nll = float(extra["rescale"]), float(extra["nll"])
        self.branching_ratio = float(extra["branching_ratio"])
