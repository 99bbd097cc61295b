"""Visits: the expected size of the session that begins now, from how often a user came and how long they stayed."""

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
from rimsim.intensity.ground import past_sessions
from rimsim.intensity.ground.contract import Ground, GroundConfig
from rimsim.intensity.refusals import not_fitted
from rimsim.intensity.walking import stepped

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import Hidden
    from rimsim.intensity.ground.examples import CountExamples
    from rimsim.intensity.states import UserStates
    from rimsim.intensity.walking import Walk


_HIGHEST = 30.0
"""Largest log λ while weights are sought: no session has e^30 events, and larger exponentials overflow."""
_NARROW = 0.1
"""Smallest unit of a term: one that hardly varies in the log must not get a huge weight."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class VisitsConfig(GroundConfig):
    """Options of visits: penalty and shrinkage."""

    ridge: float = Field(
        default=1e-3,
        ge=0,
        description="Penalty on the squared weights, each in units of its term's deviation.",
    )
    shrinkage: float = Field(
        default=1.0,
        gt=0,
        description="Sessions of the usual size that the sizes of a user's own are weighed against.",
    )
    max_iterations: int = Field(default=2000, ge=1, description="Limit for L-BFGS-B.")


def log_linear_objective(
    weights: Floats,
    terms: Floats,
    offset: Floats,
    counts: Floats,
    ridge: float,
) -> tuple[float, Floats]:
    """Mean negative Poisson log-likelihood (without log n!) plus ridge, and its gradient; convex.

    mean(λ − n·log λ) + ridge/2·‖w‖² with log λ = offset + Φ w.

    Args:
        weights: (F,) weights w.
        terms: (n, F) terms Φ.
        offset: (n,) what log λ is with weights of zero.
        counts: (n,) counts.
        ridge: Strength of the penalty.
    """
    log_rate = np.minimum(offset + terms @ weights, _HIGHEST)
    rate = np.exp(log_rate)
    value = float(np.mean(rate - counts * log_rate) + 0.5 * ridge * weights @ weights)
    return value, terms.T @ (rate - counts) / len(counts) + ridge * weights


class Visits(Ground):
    """λ(x) = exp(level + w·φ(x)): the expected size of the session that begins now.

    φ(x) says whether this is a first visit, and of a user who came back: how large the first session was, how large
    those after it were (their shrunk mean, and the newest), whether there has been one session so far, how many, and
    how long ago the last event is (see :func:`rimsim.intensity.ground.past_sessions.terms`). The sessions of a state
    are told apart by a silence of more than ``gap``, whatever they were: a session of the log, or what a visitor of a
    market took from a slate. Counts are taken as Poisson, so the fit is convex; it is solved with L-BFGS-B and the
    analytic gradient. The ridge pulls a fit to one λ for all, and an update to the weights before it, so that terms
    that do not vary in a log keep what is known of them. No term is extrapolated: each is held to the range that it had
    in the logs.

    With a session as horizon, a state is looked at no sooner than ``gap`` after its last event, as in
    :class:`~rimsim.intensity.ground.hawkes_poisson.HawkesPoisson`. With a horizon in seconds, a session that is under
    way counts as one that has ended.

    Attributes:
        rescale: The factor that the last :meth:`update` multiplied λ by, to keep its mean; 1 after a fit.
    """

    kind: ClassVar[str] = "visits"
    config: VisitsConfig

    def __init__(self, config: VisitsConfig | None = None) -> None:
        super().__init__(config or VisitsConfig(), np.zeros(0))
        self._usual = 0.0
        self._fitted: dict[str, torch.Tensor] = {}

    def _known(self, name: str) -> torch.Tensor:
        if name not in self._fitted:
            raise not_fitted(self.kind)
        return self._fitted[name]

    @property
    def weights(self) -> torch.Tensor:
        """(8,) float64 weights, in the order of :data:`rimsim.intensity.ground.past_sessions.TERMS`.

        Raises:
            ModelError: Before a fit.
        """
        return self._known("weights")

    @property
    def level(self) -> float:
        """The log of λ where all terms are zero.

        Raises:
            ModelError: Before a fit.
        """
        return float(self._known("level"))

    def encode(self, states: UserStates) -> Hidden:
        """Sessions (n, 4) and last event time (n,) of :func:`rimsim.intensity.ground.past_sessions.encode`."""
        return past_sessions.encode(states, self.config.gap, self.device)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """The sessions with one more event each at ``times`` (n,), in seconds."""
        del items
        return past_sessions.step(hidden, times.to(self.device), self.config.gap)

    def walk(self, hidden: Hidden, walk: Walk) -> tuple[Hidden, Hidden]:
        """The sessions after all events and at the points; see :func:`rimsim.intensity.walking.walked`."""
        if self.device.type != "cpu":
            return stepped(self, hidden, walk)
        return past_sessions.walk(hidden, walk, self.config.gap)

    def fit_examples(self, examples: CountExamples) -> Self:
        """Fit from scratch to given states and counts.

        Raises:
            ModelError: If there are no examples, or no event in them.
        """
        self._require_events(examples)
        hidden = self.encode(examples.states)
        sizes = past_sessions.last_sizes(hidden)
        self._usual = float(sizes.mean()) if len(sizes) else 0.0
        phi = self._numbers(hidden, examples.states.now)
        nothing = np.zeros(phi.shape[1])
        unit = np.maximum(phi.std(axis=0), _NARROW)
        self._keep({"unit": unit, "low": phi.min(axis=0), "high": phi.max(axis=0)})
        level, weights = self._solved(phi, examples.counts, nothing)
        self._keep({"weights": weights, "level": np.array(level)})
        self.rescale = 1.0
        return self

    def update(self, log: EventLog) -> Self:
        """Refit to the new log, then scale so that the mean λ over its states stays what it was.

        A slate yields fewer consumptions than a session of a log has events: a refit alone would shrink λ manyfold.
        The factor is kept in ``rescale``. A log without target events changes nothing.
        """
        examples = self.examples(log)
        if examples.counts.sum() == 0:
            self.rescale = 1.0
            return self
        phi = self._numbers(self.encode(examples.states), examples.states.now)
        low, high = (self._known(name).cpu().numpy() for name in ("low", "high"))
        before = self._mean(np.clip(phi, low, high))
        self._keep({"low": np.minimum(low, phi.min(axis=0)), "high": np.maximum(high, phi.max(axis=0))})
        level, weights = self._solved(phi, examples.counts, self.weights.cpu().numpy())
        self._keep({"weights": weights, "level": np.array(level)})
        self.rescale = before / self._mean(phi)
        self._keep({"level": np.array(level + np.log(self.rescale))})
        self.n_items = log.n_items
        return self

    def _keep(self, arrays: Mapping[str, Floats]) -> None:
        self._fitted |= {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}

    def _mean(self, phi: Floats) -> float:
        return float(np.exp(self.level + phi @ self.weights.cpu().numpy()).mean())

    def _solved(self, phi: Floats, events: Ints, towards: Floats) -> tuple[float, Floats]:
        """Level and (F,) weights that fit the counts, penalised by how far the weights are from ``towards``."""
        counts, unit = events.astype(np.float64), self._known("unit").cpu().numpy()
        known = phi @ towards
        level = float(np.log(counts.sum() / np.exp(known).sum()))
        found = scipy.optimize.minimize(
            log_linear_objective,
            np.zeros(phi.shape[1]),
            args=(phi / unit, level + known, counts, self.config.ridge),
            method="L-BFGS-B",
            jac=True,
            options={"maxiter": self.config.max_iterations, "ftol": 1e-12, "gtol": 1e-7, "maxcor": 20},
        )
        return level, np.asarray(towards + found.x / unit, np.float64)

    def _numbers(self, hidden: Hidden, now: Floats) -> Floats:
        held, last = hidden
        return self._terms(held, last, torch.from_numpy(now).to(self.device)).cpu().numpy()

    def _terms(self, held: torch.Tensor, last: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
        gap = self.config.gap
        instant = torch.maximum(now, last + gap) if self.config.horizon is None else now
        return past_sessions.terms((held, last), instant, gap, self._usual, self.config.shrinkage)

    def intensity_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n,) float32 λ of the states at ``now``: expected events within the horizon.

        Raises:
            ModelError: Before a fit.
        """
        weights, level, low, high = (self._known(name) for name in ("weights", "level", "low", "high"))

        def rate(held: torch.Tensor, last: torch.Tensor, instant: torch.Tensor) -> torch.Tensor:
            phi = torch.clamp(self._terms(held, last, instant), low, high)
            return torch.exp(level + (phi * weights).sum(1))

        instant = torch.from_numpy(np.asarray(now, np.float64)).to(self.device)
        return in_blocks(rate, *hidden, instant).float()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights, level, and the unit and range of each term."""
        return dict(self._fitted)

    def extra(self) -> dict[str, Any]:
        """Catalogue size, last rescaling, and the mean log size of sessions after the first."""
        return {"n_items": self.n_items, "rescale": self.rescale, "usual": self._usual}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Take over the weights and the terms' ranges."""
        self._fitted = {name: tensor.to(self.device) for name, tensor in tensors.items()}
        self.n_items, self.rescale = int(extra["n_items"]), float(extra["rescale"])
        self._usual = float(extra["usual"])
