"""Hawkes-Poisson: the expected count within a horizon from Hawkes features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import scipy
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats, Ints
from rimsim.intensity.blocks import in_blocks
from rimsim.intensity.ground import decayed
from rimsim.intensity.ground.contract import Ground, GroundConfig
from rimsim.intensity.refusals import not_fitted

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import Hidden
    from rimsim.intensity.ground.examples import CountExamples
    from rimsim.intensity.states import UserStates


_TINY = 1e-10
"""Keeps log Λ finite where all weights are zero."""
_RARE = 1e-3
"""Smallest unit of a term."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class HawkesPoissonConfig(GroundConfig):
    """Options of Hawkes-Poisson: horizon, kernels, penalty."""

    scales: decayed.Scales = Field(default_factory=decayed.Scales, description="Time scales of the kernels.")
    ridge: float = Field(
        default=1e-3, ge=0, description="Penalty on the squared weights, each in units of its term."
    )
    max_iterations: int = Field(default=2000, ge=1, description="Limit for L-BFGS-B.")


def poisson_objective(
    weights: Floats, features: Floats, counts: Floats, ridge: float
) -> tuple[float, Floats]:
    """Mean negative Poisson log-likelihood (without log n!) plus ridge, and its gradient; convex.

    mean(Λ − n·log(Λ + 1e-10)) + ridge/2·‖w‖² with Λ = Φ w.

    Args:
        weights: (F,) non-negative weights w.
        features: (n, F) non-negative features Φ.
        counts: (n,) counts.
        ridge: Strength of the penalty.
    """
    rate = features @ weights
    value = float(np.mean(rate - counts * np.log(rate + _TINY)) + 0.5 * ridge * weights @ weights)
    slope = (1.0 - counts / (rate + _TINY)) / len(counts)
    return value, features.T @ slope + ridge * weights


class HawkesPoisson(Ground):
    """λ(x) = w·φ(x) with w ≥ 0: the expected number of events of state x within the horizon.

    φ(x) holds, for fixed log-spaced scales, the sums Σ_i exp(−β_s (now − t_i)) over the state's events and
    the terms exp(−β_s (now − t_first)), and two constants, for states with and without a history (see
    :func:`rimsim.intensity.ground.decayed.features`). The counts are taken as Poisson, so the fit is convex; it is
    solved with L-BFGS-B and the analytic gradient.

    With a session as horizon, a state is looked at no sooner than ``gap`` after its last event: that is where
    sessions begin, and nothing was learned of shorter silences. The model is HP of Ma, Liu and Deoras (ICLR
    2022). Two things differ from their code: a state without a history has a constant of its own
    (non-negative weights could otherwise never say that a first session is longer), and the ridge acts on
    weights in units of their term's mean, so that it does not depend on the unit of time.

    Attributes:
        rescale: The factor that the last :meth:`update` multiplied λ by, to keep its mean; 1 after a fit.
    """

    kind: ClassVar[str] = "hp"
    config: HawkesPoissonConfig

    def __init__(self, config: HawkesPoissonConfig | None = None) -> None:
        config = config or HawkesPoissonConfig()
        super().__init__(config, config.scales.rates)
        self._weights: torch.Tensor | None = None

    @property
    def weights(self) -> torch.Tensor:
        """(2S + 2,) float64 weights, in the order of :func:`rimsim.intensity.ground.decayed.features`.

        Raises:
            ModelError: Before a fit.
        """
        if self._weights is None:
            raise not_fitted(self.kind)
        return self._weights

    def fit_examples(self, examples: CountExamples) -> Self:
        """Fit from scratch to given states and counts.

        Raises:
            ModelError: If there are no examples, or no event in them.
        """
        self._require_events(examples)
        self._solve(self._numbers(examples.states), examples.counts)
        return self

    def _numbers(self, states: UserStates) -> Floats:
        return self._features(self.encode(states), states.now).cpu().numpy()

    def _solve(self, phi: Floats, events: Ints) -> None:
        counts = events.astype(np.float64)
        # Terms are brought to mean 1 so that one step length suits all. A term that hardly ever occurs here
        # could then get a huge weight and blow up where it does occur: the floor lets the ridge hold it.
        unit = np.maximum(phi.mean(axis=0), _RARE)
        start = np.full(phi.shape[1], counts.mean() / phi.shape[1])
        solved = scipy.optimize.minimize(
            poisson_objective,
            start,
            args=(phi / unit, counts, self.config.ridge),
            method="L-BFGS-B",
            jac=True,
            bounds=[(0.0, None)] * len(start),
            options={"maxiter": self.config.max_iterations, "ftol": 1e-12, "gtol": 1e-7, "maxcor": 20},
        )
        self._weights = torch.from_numpy(np.asarray(solved.x / unit)).to(self.device)
        self.rescale = 1.0

    def update(self, log: EventLog) -> Self:
        """Refit to the new log, then scale so that the mean λ over its states stays what it was.

        The horizon of a market is one arrival, and a slate yields fewer consumptions than a session of a log
        has ratings: a blind refit would shrink λ manyfold. The factor is kept in ``rescale``. A log without
        target events changes nothing.
        """
        examples = self.examples(log)
        if examples.counts.sum() == 0:
            self.rescale = 1.0
            return self
        phi = self._numbers(examples.states)
        before = float((phi @ self.weights.cpu().numpy()).mean())
        self._solve(phi, examples.counts)
        after = float((phi @ self.weights.cpu().numpy()).mean())
        self.rescale = before / after if after > 0 else 1.0
        self._weights = self.weights * self.rescale
        self.n_items = log.n_items
        return self

    def intensity_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n,) float32 λ of the states at ``now``: expected events within the horizon."""
        weights = self.weights
        return in_blocks(lambda phi: (phi * weights).sum(1), self._features(hidden, now)).float()

    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights."""
        return {} if self._weights is None else {"weights": self._weights}

    def extra(self) -> dict[str, Any]:
        """Catalogue size and last rescaling."""
        return {"n_items": self.n_items, "rescale": self.rescale}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Take over the weights."""
        self._weights = tensors["weights"].to(self.device) if "weights" in tensors else None
        self.n_items, self.rescale = int(extra["n_items"]), float(extra["rescale"])
